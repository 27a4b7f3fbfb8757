"""Sharp minima: what each figure shows, and what its title says of it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pandas as pd

from repro.claims.sharp_minima.budgets import MIN_PAIRS, budgets, difference, times
from repro.claims.sharp_minima.candidates import described, misfits
from repro.claims.sharp_minima.experiment import (
    EQUAL_FREE,
    EQUAL_NORMS,
    EQUAL_NORMS_ON,
    EQUAL_STEPS,
    LARGE,
    LARGE_ALL,
    LARGE_KEPT,
    LARGE_ON,
    LARGE_ON_KEPT,
    LARGE_RATES,
    MATCHED,
    OTHER_EPOCHS,
    PAPER,
    PUBLISHED_SEARCH,
    RESCALED,
    SEARCHED,
    SETUP,
    SETUPS_PHI,
    SMALL,
    SMALL_ALL,
    SMALL_KEPT,
    SMALL_ON,
    SMALL_ON_KEPT,
    SMALL_RATES,
    SMALL_STEPS,
    TRAINED_ON,
    TUNED,
    decades,
    prepared,
)
from repro.claims.sharp_minima.judgement import WORSE, grid_runs, prediction
from repro.claims.sharp_minima.lines import (
    accuracy_title,
    interpolation_accuracies,
    interpolation_losses,
    interpolation_title,
    landscape_lines,
    landscape_title,
)
from repro.claims.sharp_minima.published import SHARPNESSES
from repro.evidence.intervals import Estimate, Unit, geometric, mean_interval
from repro.evidence.spec import PUBLISHED_SERIES, Figure
from repro.evidence.tables import final, point, select
from repro.evidence.words import bracketed

SHORT = {  # names of comparisons
    TUNED: "tuned",
    MATCHED: "matched loss",
    SEARCHED: "as published, scale-free search",
    EQUAL_NORMS: "equal layer norms",
    EQUAL_NORMS_ON: "trained on, equal norms",
}
SAME_RUNS = (SEARCHED, EQUAL_NORMS, EQUAL_NORMS_ON)  # measured another way


def compared(table: pd.DataFrame) -> dict[str, tuple[Estimate, Estimate]]:
    """Every comparison of at least two pairs that counts: φ of the large batch over the small one's, and the difference
    of their test errors in points."""
    rows = prepared(table, PUBLISHED_SEARCH)
    large, small = (select(rows, arm=arm) for arm in (LARGE, SMALL))
    pairs = {"as published": (large, small)}
    searched, *fair = budgets(table)
    for b in (*fair, searched):  # the last is drawn in grey
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
    again = {SHORT[name] for name in SAME_RUNS}  # the errors of the same runs
    errors = [error for name, (_, error) in found.items() if name not in again]
    worse, better = (sum(e.low > 0 for e in errors), sum(e.high < 0 for e in errors))
    if not sharper:
        return "Sharpness and test error of the large batch, over the small one's"
    n = len(errors)
    counted = f"sharper in {sharper} of {len(found)} comparisons"
    if better:
        return f"{counted.capitalize()}, the large batch tests worse in {worse} of {n}, better in {better} of {n}"
    return f"The large batch is {counted}, tests worse in {worse} of {n}"


def sharpness_dots(table: pd.DataFrame) -> pd.DataFrame:
    """φ by arm and search: geometric means with t intervals over seeds, and the published values on MNIST."""
    found = {"the paper's search": prepared(table, PUBLISHED_SEARCH), "scale-free search": prepared(table)}
    ends = final(table) if "arm" in table else table.iloc[:0]
    if not {SMALL, LARGE} <= set(ends.get("arm", [])) or any(rows.empty for rows in found.values()):
        return pd.DataFrame()
    small, large = (f"B = {select(ends, arm=arm)['batch_size'].iloc[0]}" for arm in (SMALL, LARGE))
    names = {
        SMALL: small,
        LARGE: large,
        SMALL_ALL: f"{small}, over all images",
        LARGE_ALL: f"{large}, over all images",
        SMALL_ON: f"{small}, {TRAINED_ON}",
        LARGE_ON: f"{large}, {TRAINED_ON}",
        SMALL_STEPS: f"{small}, {EQUAL_STEPS}",
        SMALL_KEPT: f"{small}, statistics kept",
        LARGE_KEPT: f"{large}, statistics kept",
        SMALL_ON_KEPT: f"{small}, {TRAINED_ON}, kept",
        LARGE_ON_KEPT: f"{large}, {TRAINED_ON}, kept",
    }
    equal = {arm: f"{names[arm]}, equal norms" for arm in (SMALL, LARGE, SMALL_ON, LARGE_ON)}
    fair = {b.name: b for b in budgets(table) if b.name in (TUNED, MATCHED) and not b.flaw}
    dots: list[dict[str, Any]] = []

    def dot(name: str, values: pd.Series, series: str) -> None:
        if len(values):
            e = geometric(mean_interval(values.astype(float) * math.log(10)))
            dots.append(point(e, name=name, series=series))

    for series, rows in found.items():
        for arm, name in names.items():
            dot(name, select(rows, arm=arm)["decades"], series)
        for name, budget in fair.items():
            for runs, size in ((budget.small, small), (budget.large, large)):
                if name == TUNED or size == large:
                    dot(f"{size}, {SHORT[name]}", rows[rows["key"].isin(runs["key"])]["decades"], series)
        plain = select(rows, arm=RESCALED)
        if len(plain):
            dot(f"{small}, no batch norm", plain["decades"], series)
            dot("the same function, rescaled", decades(plain["sharpness_rescaled"]), series)
    for arm, name in equal.items():
        dot(name, select(prepared(table, EQUAL_FREE), arm=arm)["decades"], "scale-free search")
    if set(table["dataset"]) == {"mnist"}:
        for number in (n for n in SHARPNESSES if n.column == PUBLISHED_SEARCH):
            at = dict.fromkeys(("mean", "low", "high"), number.value)
            dots.append({"name": names[number.where["arm"]], **at, "n": None, "series": PUBLISHED_SERIES})
    order = [*names.values(), *equal.values()]
    drawn = pd.DataFrame(dots)
    place = drawn["name"].map(lambda name: order.index(name) if name in order else len(order))
    return drawn.iloc[np.argsort(place, kind="stable")].reset_index(drop=True)


def sharpness_title(table: pd.DataFrame) -> str:
    rows = prepared(table, PUBLISHED_SEARCH)
    sharper = times(difference(select(rows, arm=LARGE), select(rows, arm=SMALL)))
    if sharper.n < MIN_PAIRS:
        return "Sharpness of every kind of run, by both searches"
    return f"As published, φ of the large batch is {bracketed(sharper, 'times')} the small one's"


def prediction_points(table: pd.DataFrame) -> pd.DataFrame:
    """Every run of either batch size at every learning rate: its φ and its test error."""
    rows = grid_runs(table)
    series = "B = " + rows["batch_size"].astype(str)
    drawn = {"x": 10 ** rows["decades"].astype(float), "mean": rows["test_error"].astype(float), "series": series}
    return pd.DataFrame(drawn).reset_index(drop=True)


def _ranked(e: Estimate) -> str:
    return f"ρ = {bracketed(dataclasses.replace(e, unit=Unit(none=0.0)))}"


def prediction_title(table: pd.DataFrame) -> str:
    e = prediction(grid_runs(table))
    if e.n < MIN_PAIRS:
        return "Test error by sharpness, at every learning rate"
    if e.low > 0:
        return f"Sharper runs test worse: {_ranked(e)}"
    if e.high < 0:
        return f"Sharper runs test better: {_ranked(e)}"
    return f"Sharpness did not tell which run tests worse: {_ranked(e)}"


def normalised(table: pd.DataFrame) -> pd.DataFrame:
    """Every run with batch norm whose weights were measured, its statistics those of the batch, at any budget."""
    rows = prepared(table)
    if "weight_norm" not in rows:
        return rows.iloc[:0].assign(weight_norm=np.nan)
    return rows[rows["arm"].isin(WEIGHED)].dropna(subset=["weight_norm"])


WEIGHED = {  # arm -> series
    SMALL: "small batch",
    SMALL_ON: "small batch",
    SMALL_STEPS: "small batch",
    SMALL_RATES: "small, other rates",
    LARGE: "large, about as long",
    OTHER_EPOCHS: "large, about as long",
    LARGE_ON: "large, trained on",
    LARGE_RATES: "large, other rates",
}


def weight_points(table: pd.DataFrame) -> pd.DataFrame:
    """Every run's φ beside the norm of its weights."""
    rows = normalised(table)
    phi = 10 ** rows["decades"].astype(float)
    return pd.DataFrame({"x": rows["weight_norm"], "mean": phi, "series": rows["arm"].replace(WEIGHED)})


def weight_title(table: pd.DataFrame) -> str:
    e = prediction(normalised(table), "weight_norm")
    if e.n < MIN_PAIRS:
        return "Sharpness by the size of the weights"
    if e.high < 0:
        return f"The larger the weights, the flatter: {_ranked(e)}"
    if e.low > 0:
        return f"The larger the weights, the sharper: {_ranked(e)}"
    return f"Sharpness does not surely go with the size of the weights: {_ranked(e)}"


def candidate_cells(table: pd.DataFrame) -> pd.DataFrame:
    """The misfit of every candidate for the paper's set-up, after every number of epochs."""
    found = misfits(table)
    if found.empty:
        return pd.DataFrame(columns=["x", "y", "value", "text", "series"])
    names = found["preprocessing"].map({"unit": "/ 255", "standardize": "standardised"})
    drawn = found.assign(x=names + ", " + found["norm_eps"].map("{:.0e}".format), y=found["epochs"])
    drawn = drawn.sort_values(["preprocessing", "norm_eps", "y"], ascending=[False, True, True])
    text = drawn["misfit"].map("{:.1f}".format)
    drawn = drawn.assign(value=-drawn["misfit"], text=text, series="minus the misfit")
    return drawn[["x", "y", "value", "text", "series"]].reset_index(drop=True)


def candidate_dots(table: pd.DataFrame) -> pd.DataFrame:
    """φ of every candidate, and the printed values."""
    rows = select(prepared(table, PUBLISHED_SEARCH), arm=SETUPS_PHI)
    if rows.empty:
        return rows
    dots: list[dict[str, Any]] = []
    for (_, _, size), runs in rows.groupby([*SETUP, "batch_size"]):
        e = geometric(mean_interval(runs["decades"].astype(float) * math.log(10)))
        name = described(runs.iloc[0]).rpartition(",")[0]
        dots.append(point(e, name=f"{name}, B = {size}", series=f"B = {size}"))
    sizes = sorted(rows["batch_size"].unique())
    for size, number in zip(sizes, (n for n in SHARPNESSES if n.column == PUBLISHED_SEARCH), strict=False):
        at = dict.fromkeys(("mean", "low", "high"), number.value)
        dots.append({"name": f"printed, B = {size}", **at, "n": None, "series": PUBLISHED_SERIES})
    return pd.DataFrame(dots)


def candidate_dots_title(table: pd.DataFrame) -> str:
    return "Sharpness of every candidate, and as printed"


def candidate_title(table: pd.DataFrame) -> str:
    found = misfits(table)
    if found.empty or found["seeds"].min() < MIN_PAIRS:
        return "How far every candidate is from the printed accuracies"
    return f"Nearest to the printed accuracies: {described(found.iloc[0])}"


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
        "its whole interval is. With equal layer norms the networks are those beside it, their layers rescaled.",
        x_scale="log",
    ),
    Figure(
        "prediction",
        "points",
        prediction_points,
        prediction_title,
        "sharpness φ (scale-free search)",
        "test error (%)",
        "A point is one run, at a learning rate of the grid that both batch sizes share. ρ is Spearman's rank "
        "correlation over the runs of one seed, averaged over seeds, with its 95 % t interval.",
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
        "loss. Geometric means over seeds, bars 95 % t intervals. Batch norm takes the statistics of the batch, or "
        "those kept from training. Where those are kept, where it says so and without batch norm φ is over all "
        f"training images, elsewhere over {PAPER['probe_examples']:,} at most. Hollow diamonds, on MNIST: published.",
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
        "Every run of either batch size, at any budget and learning rate. ρ is Spearman's over the runs of one seed, "
        "averaged over seeds, with its 95 % t interval. This figure decides nothing.",
        x_scale="linear",
        y_scale="log",
    ),
    Figure(
        "candidates",
        "heat map",
        candidate_cells,
        candidate_title,
        "pixels, ε of batch norm",
        "epochs",
        "How far the four printed accuracies of F1 are from ours: root mean square, in standard deviations of a run, "
        "printed and ours, over three seeds. Greenest: nearest.",
    ),
    Figure(
        "candidate-sharpness",
        "dots",
        candidate_dots,
        candidate_dots_title,
        "sharpness φ (full space, ε = 1e-3)",
        "",
        "Geometric means over three seeds, bars 95 % t intervals, after as many epochs as the candidate that is chosen "
        "has. Hollow diamonds: published.",
        x_scale="log",
    ),
)
