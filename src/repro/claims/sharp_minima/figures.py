"""Sharp minima: what each figure shows, and what its title says of it."""

from __future__ import annotations

import dataclasses
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
    LEARNING_RATES,
    MATCHED,
    OTHER_EPOCHS,
    PUBLISHED_SEARCH,
    RESCALED,
    SCALE_FREE,
    SEARCHED,
    SMALL,
    SMALL_ANEW,
    SMALL_ON,
    SMALL_ON_ANEW,
    SMALL_SPLIT,
    STEPS,
    TRAINED_ON,
    TUNED,
    decades,
    prepared,
)
from repro.claims.sharp_minima.judgement import (
    MIN_PAIRS,
    WORSE,
    budgets,
    difference,
    fair_runs,
    prediction,
    times,
)
from repro.claims.sharp_minima.published import PUBLISHED
from repro.evidence.intervals import Estimate, Unit, geometric, mean_interval
from repro.evidence.spec import PUBLISHED_SERIES, Figure
from repro.evidence.tables import final, point, select, unfold
from repro.evidence.words import bracketed

SHORT = {TUNED: "tuned", MATCHED: "matched loss", SEARCHED: "as published, scale-free search"}  # names of comparisons


def compared(table: pd.DataFrame) -> dict[str, tuple[Estimate, Estimate]]:
    """Every comparison of at least two pairs that counts: φ of the large batch over the small one's, and the difference
    of their test errors in points."""
    rows = prepared(table, PUBLISHED_SEARCH)
    large, small = (select(rows, arm=arm) for arm in (LARGE, SMALL))
    pairs = {"as published": (large, small)}
    searched, *fair = budgets(table)
    for b in (*fair, searched):  # the last is drawn in grey: the same runs as the first
        if not b.flaw:
            pairs[SHORT.get(b.name, b.name)] = (b.large, b.small)
    both = {n: (times(difference(a, b)), difference(a, b, "test_error").of(WORSE)) for n, (a, b) in pairs.items()}
    return {name: (phi, error) for name, (phi, error) in both.items() if phi.n > 1}


def comparison_points(table: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for name, (phi, error) in compared(table).items():
        sides = {"x": phi.value, "x_low": phi.low, "x_high": phi.high, "x_none": 1.0, "y_none": 0.0}
        rows.append(point(error, **sides, series=name))
    return pd.DataFrame(
        rows, columns=["x", "x_low", "x_high", "mean", "low", "high", "n", "series", "x_none", "y_none"]
    )


def comparison_title(table: pd.DataFrame) -> str:
    found = compared(table)
    sharper = sum(phi.low > 1 for phi, _ in found.values())
    # searched another way, the same runs have the same errors
    errors = [error for name, (_, error) in found.items() if name != SHORT.get(SEARCHED, SEARCHED)]
    worse, better = (sum(e.low > 0 for e in errors), sum(e.high < 0 for e in errors))
    if not sharper:
        return "Sharpness and test error of the large batch, over the small one's"
    n = len(errors)
    told = f"The large batch is sharper in {sharper} of {len(found)} comparisons, tests worse in {worse} of {n}"
    return f"{told} and better in {better} of {n}" if better else told


def sharpness_dots(table: pd.DataFrame) -> pd.DataFrame:
    """φ by arm and search: geometric means with t intervals over seeds, and the published values on MNIST."""
    columns = {"the paper's search": (PUBLISHED_SEARCH, ANEW), "scale-free search": (SCALE_FREE, ANEW_FREE)}
    found = {series: pd.concat([prepared(table, c) for c in both]) for series, both in columns.items()}
    ends = final(table) if "arm" in table else table.iloc[:0]
    if not {SMALL, LARGE} <= set(ends.get("arm", [])) or any(rows.empty for rows in found.values()):
        return pd.DataFrame()
    small, large = (f"B = {select(ends, arm=arm)['batch_size'].iloc[0]}" for arm in (SMALL, LARGE))
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
    sharper = times(difference(select(rows, arm=LARGE), select(rows, arm=SMALL)))
    if sharper.n < MIN_PAIRS:
        return "Sharpness of every kind of run, by both searches"
    return f"As published, φ of the large batch is {bracketed(sharper, 'times')} the small one's"


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


def _at(lines: pd.DataFrame, x: float, series: str) -> pd.Series:
    """The row of a series nearest to x."""
    rows = select(lines, series=series)
    return rows.iloc[int((rows["x"] - x).abs().argmin())]


def _above(one: pd.Series, other: pd.Series) -> bool:
    """Whether the whole interval of one lies above that of the other."""
    return bool(one["low"] > other["high"])


def interpolation_title(table: pd.DataFrame) -> str:
    found = interpolation_losses(table)
    large, small = (_at(found, x, "train loss") for x in (1.25, -0.25))
    if _above(large, small):
        return "A quarter beyond the large batch the loss is higher than beyond the small one"
    if _above(small, large):
        return "A quarter beyond the small batch the loss is higher than beyond the large one"
    return "Loss on the line through a small-batch and a large-batch network"


def accuracy_title(table: pd.DataFrame) -> str:
    found = interpolation_accuracies(table)
    middle, *ends = (_at(found, x, "test accuracy") for x in (0.5, 0, 1))
    if all(_above(middle, end) for end in ends):
        return "Halfway between the two, a network tests better than either"
    return "Accuracy on the same line"


def landscape_lines(table: pd.DataFrame) -> pd.DataFrame:
    ends = final(table)
    parts = []
    for arm in (SMALL, LARGE):
        rows = select(ends, arm=arm)
        if len(rows):
            name = f"B = {rows['batch_size'].iloc[0]}"
            parts.append(_lines(table, arm, "landscape_position", "landscape_loss", name, log=True))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["x", "mean", "series"])


def landscape_title(table: pd.DataFrame) -> str:
    found = landscape_lines(table)
    names = list(dict.fromkeys(found["series"]))
    if len(names) == 2:
        small, large = (_at(found, 0.5, name) for name in names)
        if _above(large, small):
            return "In units of its own weights the large batch is steeper too"
        if _above(small, large):
            return "In units of its own weights the large batch is flatter"
    return "Loss along a random direction, in units of the weights' size"


def prediction_points(table: pd.DataFrame) -> pd.DataFrame:
    """Every run at a fair budget: its φ and its test error. Of the small batch all in one series."""
    rows = fair_runs(table)
    own = rows["group"].astype(str).str.removeprefix("large batch, ").replace(SHORT)
    series = own.mask(own.str.startswith(SMALL), SMALL)
    x = 10 ** rows["decades"].astype(float)
    drawn = pd.DataFrame({"x": x, "mean": rows["test_error"].astype(float), "series": series})
    return drawn.sort_values("series", key=lambda names: names != SMALL, kind="stable", ignore_index=True)


def _ranked(e: Estimate) -> str:
    return f"ρ = {bracketed(dataclasses.replace(e, unit=Unit(none=0.0)))}"


def prediction_title(table: pd.DataFrame) -> str:
    e = prediction(fair_runs(table))
    if e.n < 3 * MIN_PAIRS:
        return "Test error by sharpness: too few runs at fair budgets to rank them"
    if e.low > 0:
        return f"Sharper runs test worse: {_ranked(e)}"
    if e.high < 0:
        return f"Sharper runs test better: {_ranked(e)}"
    return f"Sharpness did not tell which run tests worse: {_ranked(e)}"


def normalised(table: pd.DataFrame) -> pd.DataFrame:
    """Every run of the network with batch norm whose weights were measured, at any budget and learning rate."""
    rows = prepared(table)
    if "weight_norm" not in rows:
        return rows.iloc[:0].assign(weight_norm=np.nan)
    return rows[rows["arm"] != RESCALED].dropna(subset=["weight_norm"])


WEIGHED = {  # arm -> series
    SMALL: "small batch",
    SMALL_ON: "small batch",
    SMALL_SPLIT: "small batch",
    LARGE: "large, about as long",
    OTHER_EPOCHS: "large, about as long",
    STEPS: "large, equal steps",
    LARGE_ON: "large, trained on",
    LEARNING_RATES: "large, other rates",
}


def weight_points(table: pd.DataFrame) -> pd.DataFrame:
    """Every run's φ beside the norm of its weights."""
    rows = normalised(table)
    phi = 10 ** rows["decades"].astype(float)
    return pd.DataFrame({"x": rows["weight_norm"], "mean": phi, "series": rows["arm"].replace(WEIGHED)})


def weight_title(table: pd.DataFrame) -> str:
    e = prediction(normalised(table), "weight_norm")
    if e.n < 3 * MIN_PAIRS:
        return "Sharpness by the size of the weights: too few runs to rank them"
    if e.high < 0:
        return f"The larger the weights, the flatter: {_ranked(e)}"
    if e.low > 0:
        return f"The larger the weights, the sharper: {_ranked(e)}"
    return f"Sharpness does not surely go with the size of the weights: {_ranked(e)}"


FIGURES = (
    Figure(
        "comparisons",
        "points",
        comparison_points,
        comparison_title,
        "sharpness φ, large batch over small, times",
        "test error, large − small (points)",
        "A point is one comparison of the two batch sizes, mean over paired seeds; bars are 95 % t intervals both "
        "ways. Lines: as sharp, and no difference in test error. A comparison counts as sharper, worse or better where "
        "its whole interval is.",
        x_scale="log",
    ),
    Figure(
        "prediction",
        "points",
        prediction_points,
        prediction_title,
        "sharpness φ (scale-free search)",
        "test error (%)",
        "A point is one run: of the large batch at a fair budget, or of the small batch that it is held against. ρ is "
        "Spearman's rank correlation, with its 95 % bootstrap interval over runs.",
        x_scale="log",
    ),
    Figure(
        "sharpness",
        "dots",
        sharpness_dots,
        sharpness_title,
        "sharpness φ (full space, ε = 1e-3)",
        "",
        "The paper's search takes ten iterations from y = 0; the scale-free one does not depend on the scale of the "
        "loss. Geometric means over seeds, bars 95 % t intervals. Anew: the statistics of batch norm are those of the "
        "examples at every point of the box; elsewhere those kept from training. Hollow diamonds, on MNIST: published.",
        x_scale="log",
    ),
    Figure(
        "interpolation",
        "lines",
        interpolation_losses,
        interpolation_title,
        "α: 0 is the small batch, 1 the large",
        "loss (nats)",
        "Loss at α times the large batch's weights plus 1 − α times the small one's, in eval mode, with batch-norm "
        "statistics taken anew at every α. Geometric means over seeds, bands 95 % t intervals.",
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
