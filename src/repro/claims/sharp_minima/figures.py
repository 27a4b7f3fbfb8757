"""Sharp minima: what each figure shows, and what its title says of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from repro.claims.sharp_minima.experiment import (
    ANEW,
    ANEW_FREE,
    EQUAL_STEPS,
    LARGE,
    LARGE_ANEW,
    LARGE_ON,
    LARGE_ON_ANEW,
    MATCHED,
    MIN_PAIRS,
    PUBLISHED_SEARCH,
    RESCALED,
    SCALE_FREE,
    SEARCHED,
    SMALL,
    SMALL_ANEW,
    SMALL_ON,
    SMALL_ON_ANEW,
    TRAINED_ON,
    TUNED,
    budgets,
    decades,
    difference,
    factor,
    fair_runs,
    prediction,
    prepared,
)
from repro.claims.sharp_minima.published import PUBLISHED
from repro.evidence.intervals import geometric, mean_interval
from repro.evidence.spec import PUBLISHED_SERIES, Figure
from repro.evidence.tables import final, point, select, unfold


def sharpness_dots(table: pd.DataFrame) -> pd.DataFrame:
    """φ by arm and search: geometric means with t intervals over seeds, and the published values on MNIST."""
    columns = {"published search": (PUBLISHED_SEARCH, ANEW), "scale-free search": (SCALE_FREE, ANEW_FREE)}
    found = {series: pd.concat([prepared(table, c) for c in both]) for series, both in columns.items()}
    ends = final(table) if "arm" in table else table.iloc[:0]
    if not {SMALL, LARGE} <= set(ends.get("arm", [])) or any(rows.empty for rows in found.values()):
        return pd.DataFrame()
    small, large = (f"B={select(ends, arm=arm)['batch_size'].iloc[0]}" for arm in (SMALL, LARGE))
    names = {
        SMALL: small,
        LARGE: large,
        SMALL_ON: f"{small}, {TRAINED_ON}",
        LARGE_ON: f"{large}, {TRAINED_ON}",
        SMALL_ANEW: f"{small}, statistics anew",
        LARGE_ANEW: f"{large}, statistics anew",
        SMALL_ON_ANEW: f"{small}, {TRAINED_ON}, anew",
        LARGE_ON_ANEW: f"{large}, {TRAINED_ON}, anew",
    }
    fair = [b for b in budgets(table) if b.name not in (SEARCHED, TRAINED_ON) and not b.flaw]
    dots: list[dict[str, Any]] = []

    def dot(name: str, values: pd.Series, series: str) -> None:
        if len(values):
            e = geometric(mean_interval(values.astype(float) * math.log(10)))
            dots.append(point(e, name=name, series=series))

    for series, rows in found.items():
        for arm, name in names.items():
            dot(name, select(rows, arm=arm)["decades"], series)
        for budget in fair:
            chosen = rows[rows["key"].isin(budget.large["key"])]
            dot(f"{large}, {budget.name}", chosen["decades"], series)
        plain = select(rows, arm=RESCALED)
        if len(plain):
            dot(f"{small}, no batch norm", plain["decades"], series)
            dot("the same function, rescaled", decades(plain["sharpness_rescaled"]), series)
    if set(table["dataset"]) == {"mnist"}:
        run = {d["name"] for d in dots}
        for number in (n for n in PUBLISHED if n.column in (PUBLISHED_SEARCH, ANEW) and names[n.where["arm"]] in run):
            at = dict.fromkeys(("mean", "low", "high"), number.value)
            dots.append({"name": names[number.where["arm"]], **at, "n": None, "series": PUBLISHED_SERIES})
    order = [*names.values(), *(f"{large}, {b}" for b in (TUNED, MATCHED, EQUAL_STEPS))]
    drawn = pd.DataFrame(dots)
    place = drawn["name"].map(lambda name: order.index(name) if name in order else len(order))
    return drawn.iloc[np.argsort(place, kind="stable")].reset_index(drop=True)


def sharpness_title(table: pd.DataFrame) -> str:
    rows = prepared(table, PUBLISHED_SEARCH)
    sharper = difference(select(rows, arm=LARGE), select(rows, arm=SMALL))
    short = {SEARCHED: "scale-free", TUNED: "tuned", MATCHED: "matched loss"}
    known = [b for b in budgets(table) if b.sharper.n and not b.flaw]
    first, *others = (f"{short.get(b.name, b.name)} {factor(b.sharper)}" for b in known)
    told = f"The large batch ends {factor(sharper)} as sharp; {first}"
    return f"{told},\n{', '.join(others).replace(' times', '')}" if others else told


def _lines(table: pd.DataFrame, arm: str, x: str, column: str, series: str, log: bool = False) -> pd.DataFrame:
    """Mean over seeds of a list-valued measure with its t interval, in the logarithm if `log`, as a figure's series."""
    columns = ["x", "mean", "low", "high", "n", "series"]
    rows = unfold(final(table, arm=arm), [x, column])
    points = []
    for position, values in rows.groupby(x)[column]:
        e = geometric(mean_interval(np.log(values))) if log else mean_interval(values)
        points.append(point(e, x=position, series=series))
    return pd.DataFrame(points, columns=columns)


def interpolation_losses(table: pd.DataFrame) -> pd.DataFrame:
    parts = [
        _lines(table, SMALL, "interpolation_alpha", f"interpolation_{split}_loss", f"{split} loss", log=True)
        for split in ("train", "test")
    ]
    return pd.concat(parts, ignore_index=True)


def interpolation_accuracies(table: pd.DataFrame) -> pd.DataFrame:
    parts = [
        _lines(table, SMALL, "interpolation_alpha", f"interpolation_{split}_accuracy", f"{split} accuracy")
        for split in ("train", "test")
    ]
    joined = pd.concat(parts, ignore_index=True)
    return joined.assign(**{c: (100 * joined[c].astype(float)).clip(0, 100) for c in ("mean", "low", "high")})


def _at(points: pd.DataFrame, x: float, series: str) -> float:
    rows = select(points, series=series)
    return float(rows["mean"].iloc[(rows["x"] - x).abs().argmin()])


def interpolation_title(table: pd.DataFrame) -> str:
    points = interpolation_losses(table)
    beyond = [_at(points, x, "train loss") for x in (1.25, -0.25)]
    return (
        f"A quarter beyond the large batch (α = 1.25) training loss is {beyond[0]:.2g},\n"
        f"a quarter beyond the small one (α = −0.25) {beyond[1]:.2g}"
    )


def accuracy_title(table: pd.DataFrame) -> str:
    points = interpolation_accuracies(table)
    best = select(points, series="test accuracy").sort_values("mean").iloc[-1]
    ends = [_at(points, x, "test accuracy") for x in (0, 1)]
    return (
        f"Test accuracy is {ends[0]:.1f} % at the small batch, {ends[1]:.1f} % at the large,\n"
        f"and highest, {best['mean']:.1f} %, at α = {best['x']:.2f}"
    )


def landscape_lines(table: pd.DataFrame) -> pd.DataFrame:
    ends = final(table)
    parts = []
    for arm in (SMALL, LARGE):
        rows = select(ends, arm=arm)
        if len(rows):
            name = f"B={rows['batch_size'].iloc[0]}"
            parts.append(_lines(table, arm, "landscape_position", "landscape_loss", name, log=True))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["x", "mean", "series"])


def landscape_title(table: pd.DataFrame) -> str:
    points = landscape_lines(table)
    names = list(dict.fromkeys(points["series"]))
    told = " and ".join(f"{_at(points, 0.5, name):.2g} at {name}" for name in names)
    return f"Half a filter's norm away along a random direction,\ntraining loss is {told}"


def prediction_points(table: pd.DataFrame) -> pd.DataFrame:
    """Every run at a fair budget: its φ and its test error."""
    rows = fair_runs(table)
    return pd.DataFrame(
        {"x": 10 ** rows["decades"].astype(float), "mean": rows["test_error"].astype(float), "series": rows["group"]}
    )


def prediction_title(table: pd.DataFrame) -> str:
    e = prediction(fair_runs(table))
    if e.n < 3 * MIN_PAIRS:
        return "Test error against φ: too few runs at fair budgets to rank them"
    told = "sharper networks err more" if e.low > 0 else "sharper networks err less" if e.high < 0 else None
    return (
        f"Over {e.n} runs at fair budgets, {told or 'φ and test error go no sure way'}:\n"
        f"ρ = {e.value:+.2f} [{e.low:+.2f}, {e.high:+.2f}]"
    )


def normalised(table: pd.DataFrame) -> pd.DataFrame:
    """Every run of the network with batch norm whose weights were measured, at any budget and learning rate."""
    rows = prepared(table)
    if "weight_norm" not in rows:
        return rows.iloc[:0].assign(weight_norm=np.nan)
    return rows[rows["arm"] != RESCALED].dropna(subset=["weight_norm"])


def weight_points(table: pd.DataFrame) -> pd.DataFrame:
    """Every run's φ beside the norm of its weights."""
    rows = normalised(table)
    return pd.DataFrame({"x": rows["weight_norm"], "mean": 10 ** rows["decades"].astype(float), "series": rows["arm"]})


def weight_title(table: pd.DataFrame) -> str:
    e = prediction(normalised(table), "weight_norm")
    if e.n < 3 * MIN_PAIRS:
        return "φ against the norm of the weights: too few runs to rank them"
    ranked = "falls" if e.high < 0 else "rises" if e.low > 0 else "does not surely rise or fall"
    return f"Over {e.n} runs, φ {ranked} with the weights:\nρ = {e.value:+.2f} [{e.low:+.2f}, {e.high:+.2f}]"


FIGURES = (
    Figure(
        "sharpness",
        "dots",
        sharpness_dots,
        sharpness_title,
        "sharpness φ (full space, ε = 1e-3)",
        "",
        "Geometric means over seeds with 95 % t intervals of the logarithm. Filled: ten iterations from y = 0; "
        "hollow: a search that does not depend on the scale of the loss. Anew: the statistics of batch norm are those "
        "of the examples at every point of the box; elsewhere those kept from training. Diamonds: published.",
        x_scale="log",
    ),
    Figure(
        "prediction",
        "points",
        prediction_points,
        prediction_title,
        "sharpness φ (scale-free search)",
        "test error (%)",
        "Every run at a fair budget, and the small-batch runs that it is held against. ρ is Spearman's, with its "
        "95 % bootstrap interval over runs.",
        x_scale="log",
    ),
    Figure(
        "interpolation",
        "lines",
        interpolation_losses,
        interpolation_title,
        "α: 0 is the small batch, 1 the large",
        "loss (nats)",
        "Loss at αx_ℓ + (1 − α)x_s in eval mode, with batch-norm statistics taken anew at every α. Geometric means "
        "over seeds, bands 95 % t intervals.",
        x_scale="linear",
        y_scale="log",
    ),
    Figure(
        "interpolation-accuracy",
        "lines",
        interpolation_accuracies,
        accuracy_title,
        "α: 0 is the small batch, 1 the large",
        "accuracy (%)",
        "Accuracy along the same line. Means over seeds, bands 95 % t intervals.",
        x_scale="linear",
    ),
    Figure(
        "landscape",
        "lines",
        landscape_lines,
        landscape_title,
        "distance along the direction (filters' norms)",
        "training loss (nats)",
        "Training loss along one random filter-normalised direction a seed, in eval mode, with batch-norm "
        "statistics taken anew at every point. Geometric means over seeds, bands 95 % t intervals.",
        x_scale="linear",
        y_scale="log",
    ),
    Figure(
        "weights",
        "points",
        weight_points,
        weight_title,
        "norm of the weights",
        "sharpness φ (scale-free search)",
        "Every run of the network with batch norm, at any budget and learning rate. ρ is Spearman's, with its 95 % "
        "bootstrap interval over runs. Added after some of the runs were seen, this figure decides nothing.",
        x_scale="linear",
        y_scale="log",
    ),
)
