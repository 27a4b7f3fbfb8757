"""Linear scaling: what each figure shows, and what its title says of it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from repro.claims.linear_scaling.curves import base_size, carries, reach, scaled_curves, training_losses
from repro.claims.linear_scaling.experiment import ADAM, EARLY, MALLADI, SGD
from repro.claims.linear_scaling.judgement import judge_scaling
from repro.claims.linear_scaling.readings import (
    CONSTANT,
    LINEAR,
    MEASURED,
    READINGS,
    RULES,
    SMALL,
    SQUARE_ROOT,
    TRAINING,
    best,
    costs,
    ends,
    near_best,
    of_small,
)
from repro.evidence.spec import Figure, Outcome
from repro.evidence.tuning import Optimum, cells, inner, noise_scale, optima, slope
from repro.evidence.words import bracketed, signed


def _points(found: Mapping[int, Optimum], series: str) -> pd.DataFrame:
    """Best learning rates as a figure's series."""
    rows = []
    for size, optimum in found.items():
        e = optimum.log2_lr
        known = e.n > 1
        rows.append(
            {
                "x": size,
                "mean": 2**e.value,
                "low": 2**e.low if known else np.nan,
                "high": 2**e.high if known else np.nan,
                "n": e.n,
                "series": series,
                "edge": optimum.tuned.edge,
                "tried": optimum.tuned.tried,
                "feasible": optimum.tuned.feasible,
            }
        )
    return pd.DataFrame(rows, columns=["x", "mean", "low", "high", "n", "series", "edge", "tried", "feasible"])


def _line(found: Mapping[int, Optimum], power: float, series: str) -> pd.DataFrame:
    """A rule's learning rates, put through the best of the small batch sizes, up to a little beyond the highest that
    is drawn."""
    rates = {size: 2**o.log2_lr.value for size, o in found.items()}
    through = of_small(found) or found
    start = math.exp(np.mean([math.log(rates[size] / size**power) for size in through]))
    kept = [(size, start * size**power) for size in found if start * size**power < 4 * max(rates.values())]
    return pd.DataFrame({"x": [x for x, _ in kept], "mean": [y for _, y in kept], "series": series})


def best_rates(table: pd.DataFrame) -> pd.DataFrame:
    """Best learning rates by batch size, by what decides and by held-out loss; the rules through those of the small
    batch sizes; and McCandlish's law."""
    found = best(table)
    if not found:
        return _points({}, "")
    held_out = optima(ends(table, SGD))
    near = pd.DataFrame([(size, *near_best(o)) for size, o in found.items()], columns=["x", "low_band", "high_band"])
    dots = _points(found, "best, training").merge(near, on="x", how="left")  # between grid points, where bars end
    dots = dots.assign(
        low_band=dots[["low_band", "mean"]].min(axis=1), high_band=dots[["high_band", "mean"]].max(axis=1)
    )
    parts = [dots]
    parts += [_line(found, RULES[rule], rule) for rule in (LINEAR, SQUARE_ROOT)]
    fitted = noise_scale(inner(found))
    if fitted:
        sizes = list(found)
        law = [fitted[0] / (1 + fitted[1].value / size) for size in sizes]
        parts.append(pd.DataFrame({"x": sizes, "mean": law, "series": "McCandlish's law"}))
    parts.append(_points(inner(held_out), "best, held out"))
    return pd.concat(parts, ignore_index=True)


def best_title(table: pd.DataFrame) -> str:
    outcome = judge_scaling(table).outcome
    if outcome == Outcome.REPRODUCED:
        return "The best learning rate grows in proportion to the batch"
    if outcome == Outcome.CONDITIONAL:
        return "The best learning rate grows in proportion to small batches, then falls behind"
    along = slope(of_small(best(table)))
    if outcome == Outcome.NOT_REPRODUCED:
        return f"The best learning rate grows as small batches to the power {bracketed(along)}"
    return "The best learning rate by batch size"


def cost_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy at each rule's rate minus that at the best, at each batch size (points), as a grid: from the best
    rate, and from either end of those near it."""
    told = costs(table)
    if told.empty:
        return told
    told = told[told["x"] != told["base"]]

    def told_of(mean: float) -> str:
        return "off" if pd.isna(mean) else signed(mean, "+.1f")

    wide = told.pivot(index=["series", "x"], columns="start", values="mean")
    told = told[told["start"] == "best"]
    from_ends = [wide.loc[(rule, size)] for rule, size in zip(told["series"], told["x"], strict=True)]
    text = [
        f"{told_of(mean)}\n{told_of(ends['lowest'])} | {told_of(ends['highest'])}"
        for mean, ends in zip(told["mean"], from_ends, strict=True)
    ]
    return told.assign(y=told["x"].astype(int), x=told["series"], value=told["mean"], text=text)


def costs_title(table: pd.DataFrame) -> str:
    told = costs(table).dropna(subset=["mean"])
    if told.empty:
        return "What each rule loses"
    larger = told[(told["x"] > told["base"]) & (told["start"] == "best")]
    low, high = (larger[larger["series"] == rule] for rule in (CONSTANT, LINEAR))
    if (high["high"] < -20).any() and len(low) and (low["mean"] > -20).all():
        return "Too low costs points. Too high costs everything."
    return f"What each rule loses, followed from B = {told['base'].iloc[0]}"


def curves_title(table: pd.DataFrame) -> str:
    base = base_size(table)
    if base is None:
        return "Training curves of runs scaled in proportion"
    lr = best(table)[base].tuned.lr
    farthest = carries(training_losses(table), base, lr)
    told = f"coincide up to k = {farthest}" if farthest > 1 else "part at the first larger batch"
    return f"From the best rate at B = {base}, mean training curves {told}"


def drawn_curves(table: pd.DataFrame) -> pd.DataFrame:
    """Every second of `scaled_curves`, for they are many and lie near one another."""
    found = scaled_curves(table)
    shown = [] if found.empty else list(dict.fromkeys(found["series"]))[::2]
    return found[found["series"].isin(shown)] if shown else found


def reach_title(table: pd.DataFrame) -> str:
    points = reach(table)
    points = points[points["series"] == "curves coincide up to"]
    if points.empty or points["mean"].iloc[0] <= points["mean"].iloc[-1]:
        return "How far scaling in proportion carries, by where it starts"
    return "The lower the rate it starts from, the farther scaling in proportion carries"


def _adam(table: pd.DataFrame, arm: str) -> dict[int, Optimum]:
    return optima(ends(table, arm), READINGS[TRAINING])


def adam_rates(table: pd.DataFrame) -> pd.DataFrame:
    found = {arm: o for arm in (ADAM, MALLADI) if (o := _adam(table, arm))}
    if not found:
        return _points({}, "")
    first = next(iter(found.values()))
    lines = [_line(first, RULES[rule], rule) for rule in (LINEAR, SQUARE_ROOT)]
    return pd.concat([*(_points(o, arm) for arm, o in found.items()), *lines], ignore_index=True)


def adam_title(table: pd.DataFrame) -> str:
    slopes = [slope(inner(_adam(table, arm))) for arm in (ADAM, MALLADI)]
    if not math.isfinite(slopes[0].high):
        return "The best learning rate of Adam, by batch size"
    return f"Adam’s best learning rate grows as B to the power {bracketed(slopes[0])}"


def grid(table: pd.DataFrame) -> pd.DataFrame:
    found = cells(ends(table, SGD), MEASURED)
    if found.empty:
        return found
    text = [f"{100 * a:.1f}" if not d else "×" for a, d in zip(found["test_accuracy"], found["diverged"], strict=True)]
    return found.assign(
        x=found["batch_size"].astype(str),
        y=[float(f"{lr:.3g}") for lr in found["lr"]],
        value=100 * found["test_accuracy"].where(found["diverged"] == 0),
        text=text,
        n=found["trials"],
        series="test accuracy",
    )


def grid_title(table: pd.DataFrame) -> str:
    return "Every learning rate at every batch size"


FIGURES = (
    Figure(
        "best",
        "curves",
        best_rates,
        best_title,
        "batch size B",
        "learning rate per step",
        f"Dots: least training loss at the end of epoch {EARLY}, which decides, and least held-out loss at the end of "
        "training, with bootstrap intervals over seeds. Bars: rates that seeds do not tell from the first. Lines: the "
        f"rules, put through the dots up to B = {SMALL}, and McCandlish’s law, fitted to all.",
        y_scale="log",
    ),
    Figure(
        "costs",
        "heat map",
        cost_cells,
        costs_title,
        "rule",
        "B",
        f"Test accuracy minus that at the best by held-out loss, points, if the rate that is best at B = {SMALL} is "
        "scaled by each rule; below, from the lowest and the highest rate that seeds do not tell from that best. Means "
        "over seeds; intervals in the table. Green is near the best, red far from it, by the upper number. Off: no "
        "such rate was run, or its runs diverged.",
    ),
    Figure(
        "curves",
        "lines",
        drawn_curves,
        curves_title,
        "epoch",
        "training loss (nats)",
        "Runs whose learning rate is scaled in proportion from the best of the smallest batch, every second size. "
        "Bands: 95 % t intervals over seeds. Coincide: means at most a tenth apart from the second epoch on.",
        x_scale="linear",
        y_scale="log",
    ),
    Figure(
        "reach",
        "curves",
        reach,
        reach_title,
        "learning rate of the smaller batch, per step",
        "k: how much larger a batch",
        "Up to which k mean training curves coincide, by the learning rate they start from; and the k at which the "
        "rule arrives at the highest learning rate that is best at any batch size.",
        x_scale="log",
        y_scale="log",
    ),
    Figure(
        "adam",
        "curves",
        adam_rates,
        adam_title,
        "batch size B",
        "learning rate per step",
        "As in the first figure, for Adam. Rescaled: 1 − β₁ and 1 − β₂ times κ and ε over √κ, κ the batch size over "
        "the smallest.",
        y_scale="log",
    ),
    Figure(
        "grid",
        "heat map",
        grid,
        grid_title,
        "B",
        "learning rate per step",
        "Mean test accuracy (%) over seeds of every trial of plain SGD, × where one diverged: its loss became infinite "
        "or not a number. One stuck at chance has finished.",
    ),
)
