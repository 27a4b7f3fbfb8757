"""Linear scaling: what each figure shows, and what its title says of it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from repro.claims.linear_scaling.experiment import ADAM, MALLADI, SGD
from repro.claims.linear_scaling.judgement import (
    CONSTANT,
    LINEAR,
    MEASURED,
    RULES,
    SQUARE_ROOT,
    base_size,
    carries,
    costs,
    ends,
    reach,
    regimes,
    scaled_curves,
    training_losses,
)
from repro.evidence.spec import Figure
from repro.evidence.tables import margin_for
from repro.evidence.tuning import Optimum, cells, inner, noise_scale, optima, slope
from repro.evidence.words import bracketed, signed

NEAR = 0.5  # points of 10,000 test images: learning rates this near to the best are nearly as good


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


def _line(sizes: list[int], start: float, power: float, series: str, highest: float) -> pd.DataFrame:
    """A rule's learning rates, up to a little beyond the highest that is drawn."""
    rates = [start * (size / sizes[0]) ** power for size in sizes]
    kept = [(size, lr) for size, lr in zip(sizes, rates, strict=True) if lr < 4 * highest]
    return pd.DataFrame({"x": [x for x, _ in kept], "mean": [y for _, y in kept], "series": series})


def near_best(table: pd.DataFrame) -> pd.DataFrame:
    """By batch size x, the lowest and the highest of the learning rates around the best by test accuracy at which it is
    within NEAR points of it, each half a step of the grid further out."""
    rows = []
    grid = cells(ends(table, SGD), ["test_accuracy"])
    for size, of_size in grid.groupby("batch_size"):
        of_size = of_size.set_index("lr").sort_index()
        accuracy = 100 * of_size["test_accuracy"].where(of_size["diverged"] == 0)
        if accuracy.notna().sum() < 2:
            continue
        good = (accuracy >= accuracy.max() - margin_for(table, NEAR)).to_numpy()
        best, rates = int(np.nanargmax(accuracy.to_numpy())), accuracy.index.to_numpy()
        low = best - next((k for k in range(best + 1) if not good[best - k]), best + 1) + 1
        high = best + next((k for k in range(len(good) - best) if not good[best + k]), len(good) - best) - 1
        half = math.sqrt(rates[1] / rates[0])
        rows.append({"x": size, "low_band": rates[low] / half, "high_band": rates[high] * half})
    return pd.DataFrame(rows, columns=["x", "low_band", "high_band"])


def best_rates(table: pd.DataFrame) -> pd.DataFrame:
    """Best learning rates by batch size, those nearly as good, the rules from the smallest, and McCandlish's law."""
    found = optima(ends(table, SGD))
    if not found:
        return _points({}, "")
    sizes, start = list(found), 2 ** found[min(found)].log2_lr.value
    highest = max(2**o.log2_lr.value for o in found.values())
    parts = [_points(found, "best, held out").merge(near_best(table), on="x", how="left")]
    parts += [_line(sizes, start, RULES[rule], rule, highest) for rule in (LINEAR, SQUARE_ROOT)]
    fitted = noise_scale(inner(found))
    if fitted:
        law = [fitted[0] / (1 + fitted[1] / size) for size in sizes]
        parts.append(pd.DataFrame({"x": sizes, "mean": law, "series": "McCandlish's law"}))
    parts.append(_points(inner(optima(ends(table, SGD), "train_loss")), "best, training"))
    return pd.concat(parts, ignore_index=True)


def best_title(table: pd.DataFrame) -> str:
    both = regimes(table)
    if both.knee and both.below.low > 0 and both.above.high < 0.5:
        return "The good learning rates climb with the batch, then stop climbing"
    if both.below.low > 0:
        return "The good learning rates climb with the batch"
    return "The best learning rate by batch size"


def cost_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Accuracy lost by each rule at each batch size (points), as a grid."""
    told = costs(table)
    if told.empty:
        return told
    told = told[told["x"] > told["x"].min()]
    text = ["off the grid" if pd.isna(m) else signed(0 - m, ".1f") for m in told["mean"]]
    return told.assign(y=told["x"].astype(int), x=told["series"], value=told["mean"], text=text)


def costs_title(table: pd.DataFrame) -> str:
    told = costs(table).dropna(subset=["mean"])
    if told.empty:
        return "What each rule loses"
    low, high = (told[told["series"] == rule] for rule in (CONSTANT, LINEAR))
    least = told[told["x"] == told["x"].min()]
    if (high["high"] < -20).any() and (low["mean"] > -20).all() and len(least):
        return "Too low costs points. Too high costs everything."
    return "What each rule loses, set at the smallest batch and followed from there"


def curves_title(table: pd.DataFrame) -> str:
    base = base_size(table)
    if base is None:
        return "Training curves of runs scaled in proportion"
    lr = optima(ends(table, SGD))[base].tuned.lr
    farthest = carries(training_losses(table), base, lr)
    told = f"coincide up to k = {farthest}" if farthest > 1 else "part at the first larger batch"
    return f"From the best rate at B = {base}, mean training curves {told}"


def reach_title(table: pd.DataFrame) -> str:
    points = reach(table)
    points = points[points["series"] == "curves coincide up to"]
    if points.empty or points["mean"].iloc[0] <= points["mean"].iloc[-1]:
        return "How far scaling in proportion carries, by where it starts"
    return "The lower the rate it starts from, the farther scaling in proportion carries"


def adam_rates(table: pd.DataFrame) -> pd.DataFrame:
    found = {arm: optima(ends(table, arm)) for arm in (ADAM, MALLADI)}
    parts = [_points(o, arm) for arm, o in found.items() if o]
    if not parts:
        return _points({}, "")
    sizes = sorted({size for o in found.values() for size in o})
    start = 2 ** next(iter(found.values()))[sizes[0]].log2_lr.value if sizes[0] in found[ADAM] else 1e-3
    highest = max(p["mean"].max() for p in parts)
    return pd.concat(
        [*parts, *(_line(sizes, start, RULES[rule], rule, highest) for rule in (LINEAR, SQUARE_ROOT))],
        ignore_index=True,
    )


def adam_title(table: pd.DataFrame) -> str:
    slopes = [slope(inner(optima(ends(table, arm)))) for arm in (ADAM, MALLADI)]
    if not math.isfinite(slopes[0].high):
        return "The best learning rate of Adam, by batch size"
    return f"Adam’s best learning rate grows as B to the power {bracketed(slopes[0])}"


def grid(table: pd.DataFrame) -> pd.DataFrame:
    found = cells(ends(table, SGD), MEASURED)
    if found.empty:
        return found
    text = [f"{100 * a:.1f}" if not d else "×" for a, d in zip(found["test_accuracy"], found["diverged"], strict=True)]
    return found.assign(
        x=found["lr"],
        y=found["batch_size"],
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
        "Bars: learning rates whose test accuracy is within half a point of the best (more where fewer images are "
        "tested). Dots: least held-out loss, which decides, and least training loss, with bootstrap intervals over "
        "seeds. Lines: the rules from the smallest batch’s dot, and McCandlish’s law, fitted.",
        y_scale="log",
    ),
    Figure(
        "costs",
        "heat map",
        cost_cells,
        costs_title,
        "rule",
        "B",
        "Test accuracy lost to the best by held-out loss, points, if the rate found at the smallest batch is scaled by "
        "each rule. Means over seeds; intervals in the table. Off the grid: no such rate was run, or its runs "
        "diverged.",
    ),
    Figure(
        "curves",
        "lines",
        scaled_curves,
        curves_title,
        "epoch",
        "training loss (nats)",
        "Runs whose learning rate is scaled in proportion from the best of the smallest batch shown. Bands: 95 % t "
        "intervals over seeds. Coincide: means at most a tenth apart from the second epoch on.",
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
        "learning rate per step",
        "B",
        "Mean test accuracy (%) over seeds of every trial of plain SGD, × where one diverged: its loss became infinite "
        "or not a number. One stuck at chance has finished.",
    ),
)
