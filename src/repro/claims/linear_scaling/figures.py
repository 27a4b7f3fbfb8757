"""Linear scaling: what each figure shows, and what its title says of it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from repro.claims.linear_scaling.experiment import ADAM, MALLADI, SGD
from repro.claims.linear_scaling.judgement import (
    COINCIDE,
    LINEAR,
    MEASURED,
    RULES,
    SQUARE_ROOT,
    base_size,
    carries,
    costs,
    ends,
    next_size,
    reach,
    regimes,
    scaled_curves,
    training_losses,
)
from repro.evidence.spec import Figure
from repro.evidence.tuning import Optimum, cells, inner, noise_scale, optima, slope


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


def best_rates(table: pd.DataFrame) -> pd.DataFrame:
    """Best learning rates by batch size, the rules from the smallest, and McCandlish's law fitted."""
    found = optima(ends(table, SGD))
    if not found:
        return _points({}, "")
    sizes, start = list(found), 2 ** found[min(found)].log2_lr.value
    highest = max(2**o.log2_lr.value for o in found.values())
    parts = [_points(found, "best on held-out data")]
    parts.append(_points(inner(optima(ends(table, SGD), "train_loss")), "best on training data"))
    parts += [_line(sizes, start, RULES[rule], f"{rule} rule", highest) for rule in (LINEAR, SQUARE_ROOT)]
    fitted = noise_scale(inner(found))
    if fitted:
        law = [fitted[0] / (1 + fitted[1] / size) for size in sizes]
        parts.append(pd.DataFrame({"x": sizes, "mean": law, "series": "McCandlish's law, fitted"}))
    return pd.concat(parts, ignore_index=True)


def best_title(table: pd.DataFrame) -> str:
    both = regimes(table)
    if not math.isfinite(both.below.value):
        return "The best learning rate by batch size"
    if both.knee is None:
        return f"The best learning rate grows as B to the {both.below.value:.2f}"
    return (
        f"Up to B={both.knee} the best learning rate grows as B to the {both.below.value:.2f},\nbeyond as B to the "
        f"{both.above.value:.2f}"
    )


def costs_title(table: pd.DataFrame) -> str:
    told = costs(table).dropna(subset=["mean"])
    if told.empty:
        return "What each rule leaves on the table"
    far = []
    for rule, points in told.groupby("series", sort=False):
        below = points[(points["mean"] < 1).cummin()]["x"]
        far.append(f"{rule} to B={below.max():.0f}")
    return f"Less than 1 pp is left on the table by: {', '.join(far)}"


def curves_title(table: pd.DataFrame) -> str:
    base, found = base_size(table), optima(ends(table, SGD))
    if base is None:
        return "Training curves of linearly scaled runs"
    lr = found[base].tuned.lr
    farthest = carries(training_losses(table), base, lr)
    told = (
        f"coincide up to k={farthest}"
        if farthest > 1
        else f"differ by more than {100 * COINCIDE:.0f} % already at k={next_size(found, base) // base}"
    )
    return f"Scaled linearly from lr {lr:.3g} at B={base}, training curves\n{told}"


def reach_title(table: pd.DataFrame) -> str:
    points = reach(table)
    points = points[points["series"] == "curves coincide up to"]
    if points.empty:
        return "How far the linear rule carries"
    first, last = points.iloc[0], points.iloc[-1]
    return (
        f"From lr {first['x']:.3g} at B={base_size(table)} the linear rule carries up to k={first['mean']:.0f},\n"
        f"from lr {last['x']:.3g} up to k={last['mean']:.0f}"
    )


def adam_rates(table: pd.DataFrame) -> pd.DataFrame:
    found = {arm: optima(ends(table, arm)) for arm in (ADAM, MALLADI)}
    parts = [_points(o, arm) for arm, o in found.items() if o]
    if not parts:
        return _points({}, "")
    sizes = sorted({size for o in found.values() for size in o})
    start = 2 ** next(iter(found.values()))[sizes[0]].log2_lr.value if sizes[0] in found[ADAM] else 1e-3
    highest = max(p["mean"].max() for p in parts)
    return pd.concat(
        [*parts, *(_line(sizes, start, RULES[rule], f"{rule} rule", highest) for rule in (LINEAR, SQUARE_ROOT))],
        ignore_index=True,
    )


def adam_title(table: pd.DataFrame) -> str:
    slopes = {arm: slope(inner(optima(ends(table, arm)))).value for arm in (ADAM, MALLADI)}
    known = [f"{arm}, as B to the {value:.2f}" for arm, value in slopes.items() if math.isfinite(value)]
    return f"The best learning rate of {'; of '.join(known)}" if known else "Best learning rates of Adam by batch size"


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
    found = cells(ends(table, SGD), MEASURED)
    if found.empty:
        return "Test accuracy by batch size and learning rate"
    ends_of = [found[found["batch_size"] == size] for size in (found["batch_size"].min(), found["batch_size"].max())]
    best = [rows.loc[rows["test_accuracy"].idxmax()] for rows in ends_of if rows["test_accuracy"].notna().any()]
    told = ", ".join(f"{row['lr']:.3g} for B={row['batch_size']:.0f}" for row in best)
    lost = f"{found['diverged'].sum():.0f} of {found['trials'].sum():.0f} trials diverged"
    return f"Test accuracy is highest at lr {told};\n{lost}" if told else lost


INTERVALS = "Bars are 95 % intervals over paired seeds."
FIGURES = (
    Figure(
        "best",
        "curves",
        best_rates,
        best_title,
        "batch size B",
        "best learning rate (per step)",
        "Learning rate of the least loss on held-out data, which decides, and on the training data, with bootstrap "
        "intervals over seeds, rough where these are few. The rules start from the smallest batch.",
        y_scale="log",
    ),
    Figure(
        "costs",
        "curves",
        costs,
        costs_title,
        "batch size B",
        "test accuracy left on the table (pp)",
        "The grid's best by held-out loss minus the rule's learning rate, set at the smallest batch size. A line "
        f"ends where the rule's runs diverge or its learning rate is beyond the grid. The axis is logarithmic beyond "
        f"±2. {INTERVALS}",
        y_scale="symlog",
    ),
    Figure(
        "curves",
        "lines",
        scaled_curves,
        curves_title,
        "epoch",
        "training loss (nats)",
        "Runs whose learning rate is scaled linearly from the best of the smallest batch size shown. Bands are "
        "95 % t intervals over seeds.",
        x_scale="linear",
        y_scale="log",
    ),
    Figure(
        "reach",
        "curves",
        reach,
        reach_title,
        "learning rate of the smaller batch (per step)",
        "k: how much larger a batch",
        "Up to which k training curves coincide with those of the smaller batch, by its learning rate. Dashed: the "
        "k at which the rule arrives at the highest learning rate that is best at any batch size.",
        x_scale="log",
        y_scale="log",
    ),
    Figure(
        "adam",
        "curves",
        adam_rates,
        adam_title,
        "batch size B",
        "best learning rate (per step)",
        "As above, for Adam; rescaled: 1 − β₁ and 1 − β₂ times κ and ε over √κ, κ the batch size over the smallest.",
        y_scale="log",
    ),
    Figure(
        "grid",
        "heat map",
        grid,
        grid_title,
        "learning rate (per step)",
        "batch size B",
        "Every trial of plain SGD: mean test accuracy (%) over seeds, × where one diverged: its loss became infinite "
        "or not a number. One stuck at chance has finished.",
    ),
)
