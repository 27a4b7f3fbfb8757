"""The pictures of a table: kurtosis by batch size, counts, quantiles, and α̂ beside what is Gaussian."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd

from repro.claims.gradient_competition.experiment import EARLY, POINTS
from repro.claims.heavy_tails.judgement import judge_counts
from repro.claims.heavy_tails.readings import (
    COORDINATES,
    DRAWS,
    GAUSSIAN,
    SMALL,
    alpha,
    growth,
    measured,
    pooled,
    pooled_at,
    sizes_of,
)
from repro.evidence.intervals import Estimate, geometric, mean_interval
from repro.evidence.spec import Figure, Outcome
from repro.evidence.tables import final, over_seeds, point, unfold
from repro.measure import tails

HISTOGRAM_SIZES = (1, 2, 16, 128, 1024)


def _kurtosis_by_size(table: pd.DataFrame, arm: str, kind: str, series: str) -> list[dict[str, object]]:
    """Mean over seeds by batch size, from the post's smaller one on: 3 more than the excess, so that it is positive."""
    rows = measured(table, arm)
    columns = zip(*(row[f"kurtosis_{kind}"] for row in rows), strict=True)
    sizes = rows[0]["tail_batch_size"] if rows else ()
    return [
        point(mean_interval(np.add(values, GAUSSIAN)), x=size, series=series)
        for size, values in zip(sizes, columns, strict=True)
        if size >= SMALL
    ]


def pooled_curves(table: pd.DataFrame) -> pd.DataFrame:
    """Kurtosis of all values pooled by batch size, and that of Gaussian values of the coordinates' scales."""
    rows = [
        point(pooled_at(table, arm, size), x=size, series=f"measured, {arm}")
        for arm, size in itertools.product(POINTS, sizes_of(table))
        if size >= SMALL and measured(table, arm)
    ]
    for arm in POINTS:
        rows += _kurtosis_by_size(table, arm, f"{COORDINATES}_surrogate", f"Gaussian, {arm}")
    return pd.DataFrame(rows)


def pooled_title(table: pd.DataFrame) -> str:
    times = pooled(table).values()
    if all(e.high < 1 for e in times):
        return "Pooled as the post does, larger batches have lighter tails"
    if all(e.low > 1 for e in times):
        return "Pooled as the post does, larger batches have heavier tails"
    return "Kurtosis of all gradient values pooled, by batch size"


def kurtosis_curves(table: pd.DataFrame) -> pd.DataFrame:
    """Kurtosis of single coordinates over draws by batch size, and a Gaussian's."""
    found = pd.DataFrame([row for arm in POINTS for row in _kurtosis_by_size(table, arm, DRAWS, arm)])
    sizes = sorted(set(found["x"])) if len(found) else []
    line = pd.DataFrame({"x": sizes, "mean": GAUSSIAN, "series": "Gaussian"})
    return pd.concat([found, line], ignore_index=True) if sizes else found


def _falls_or_rises(table: pd.DataFrame, axis: str) -> str:
    """By the interval of its growth, early and late: "falls", "rises", or "" where that is not settled or differs."""
    grown = [growth(table, arm, "kurtosis", axis) for arm in POINTS]
    return "falls" if all(e.high < 0 for e in grown) else "rises" if all(e.low > 0 for e in grown) else ""


def kurtosis_title(table: pd.DataFrame) -> str:
    return {
        "falls": "Across draws, tails get lighter towards a Gaussian's: the central limit theorem",
        "rises": "Across draws, the larger the batch, the heavier the tails",
    }.get(_falls_or_rises(table, DRAWS), "Kurtosis across draws by batch size")


def coordinate_curves(table: pd.DataFrame) -> pd.DataFrame:
    """Kurtosis over the coordinates of one draw's noise by batch size, and that of Gaussian values of their scales."""
    rows = []
    for arm in POINTS:
        rows += _kurtosis_by_size(table, arm, COORDINATES, f"measured, {arm}")
        rows += _kurtosis_by_size(table, arm, f"{COORDINATES}_surrogate", f"Gaussian, {arm}")
    return pd.DataFrame(rows)


def coordinate_title(table: pd.DataFrame) -> str:
    return {
        "falls": "Across coordinates, tails get lighter as the batch grows",
        "rises": "Across coordinates, tails get heavier as the batch grows",
    }.get(_falls_or_rises(table, COORDINATES), "Kurtosis across coordinates by batch size")


def _flat(table: pd.DataFrame, prefix: str) -> pd.DataFrame:
    """A table that the probe flattened, early in training: columns drawn (batch size), x, y, and those of its row."""
    columns = {f"{prefix}_batch_size": "drawn", f"{prefix}_x": "x", f"{prefix}_y": "y"}
    return unfold(final(table, arm=EARLY), list(columns)).rename(columns=columns)


def _lines(rows: pd.DataFrame, mean: Callable[[pd.Series], Estimate]) -> pd.DataFrame:
    """Mean of y over seeds at every x, of a `_flat` table: a series a batch size."""
    out: list[dict[str, object]] = []
    for size in HISTOGRAM_SIZES if len(rows) else ():
        groups = rows[rows["drawn"] == size].groupby("x")["y"]
        out += [point(mean(values), x=x, series=f"B = {size}") for x, values in groups]
    return pd.DataFrame(out)


def count_lines(table: pd.DataFrame) -> pd.DataFrame:
    """How many values lie in a bin of magnitudes; of the bins that are empty in no network."""
    rows = _flat(table, "magnitude")
    filled = rows[rows.groupby(["drawn", "x"])["y"].transform("min") > 0]
    return _lines(filled, lambda counts: geometric(mean_interval(np.log(counts))))


def count_title(table: pd.DataFrame) -> str:
    return {
        Outcome.REPRODUCED: "Larger batches have far more large values, summed or averaged",
        Outcome.CONDITIONAL: "Sums of more gradients are larger; their means are not",
        Outcome.NOT_REPRODUCED: "Larger batches have not many more large values",
    }.get(judge_counts(table).outcome, "How many values of the gradient are how large, by batch size")


def quantile_lines(table: pd.DataFrame) -> pd.DataFrame:
    """Quantiles of single coordinates over draws, standardised, minus those of a Gaussian."""
    points = _lines(_flat(table, "quantile"), mean_interval)
    for column in ("mean", "low", "high") if len(points) else ():
        points[column] -= points["x"]
    return points


def quantile_title(table: pd.DataFrame) -> str:
    return {
        "falls": "Brought to one scale, small batches have the far-off values",
        "rises": "Brought to one scale, large batches have the far-off values",
    }.get(_falls_or_rises(table, DRAWS), "Brought to one scale: quantiles beside a Gaussian's")


@functools.cache
def null_alphas() -> dict[str, float]:
    """α̂ of samples that are not α-stable with α < 2."""
    samples = tails.null_controls(np.random.default_rng(0))
    return {name: float(tails.stable_index(values)) for name, values in samples.items()}


def alpha_dots(table: pd.DataFrame) -> pd.DataFrame:
    """α̂ of the pooled noise at B=2 and at the largest batch, of its surrogates, and of the null controls."""
    rows = []
    for arm, size in itertools.product(POINTS, (SMALL, max(sizes_of(table), default=SMALL))):
        for series, kind in (("gradient noise", ""), ("Gaussian values", "_surrogate")):
            estimate = over_seeds(measured(table, arm), functools.partial(alpha, size, kind))
            if estimate.n:
                rows.append(point(estimate, name=f"noise, B = {size:g}, {arm}", series=series))
    nulls = null_alphas() if rows else {}
    for name, value in nulls.items():
        series = "Gaussian values" if "Gaussian" in name else "Student's t"
        rows.append({"name": f"control: {name}", "mean": value, "low": value, "high": value, "series": series})
    return pd.DataFrame(rows)


def alpha_title(table: pd.DataFrame) -> str:
    values = null_alphas()
    unequal = [value for name, value in values.items() if name.startswith("Gaussian, ")]
    if max(unequal) < 2:
        return "α̂ below 2 is no sign of an α-stable law: Gaussian values give it too"
    return "α̂ of gradient noise beside that of Gaussian values"


OVER_SEEDS = "Means over paired seeds, 95 % t intervals."
FIGURES = (
    Figure(
        "pooled",
        "curves",
        pooled_curves,
        pooled_title,
        "batch size B",
        "kurtosis, all values pooled",
        "All gradient values of all random batches at once, as the post's histogram has them; kurtosis does not change "
        "with their scale, and one Gaussian's is 3. Beside Gaussian values of the same standard deviations, coordinate "
        "by coordinate. Geometric means over paired seeds, 95 % t intervals of the logarithm.",
        y_scale="log",
    ),
    Figure(
        "kurtosis",
        "curves",
        kurtosis_curves,
        kurtosis_title,
        "batch size B",
        "kurtosis across draws",
        "How heavy the tails of one gradient value are over many random batches, whatever their scale; early and late "
        "in training. A Gaussian's is 3. The excess over it falls as 1/B for any sum of independent terms, and cannot "
        f"be seen where it nears the number of draws. {OVER_SEEDS}",
        y_scale="log",
    ),
    Figure(
        "counts",
        "lines",
        count_lines,
        count_title,
        "magnitude of a gradient value, summed",
        "values a bin",
        "Raw counts over all draws and coordinates, early in training, in ten bins a decade. Dividing by B moves "
        "each line to the left by its B. Geometric means over seeds, bands 95 % t intervals of the logarithm.",
        x_scale="log",
        y_scale="log",
    ),
    Figure(
        "quantiles",
        "lines",
        quantile_lines,
        quantile_title,
        "quantile of a Gaussian (standard deviations)",
        "measured minus Gaussian (sd)",
        "Each coordinate over draws, standardised, early in training. Zero: as a Gaussian. Above it on the right: "
        "a heavier upper tail. Bands are 95 % t intervals over seeds.",
        x_scale="linear",
    ),
    Figure(
        "across-coordinates",
        "curves",
        coordinate_curves,
        coordinate_title,
        "batch size B",
        "kurtosis across coordinates",
        "Over all coordinates of one draw's noise, beside Gaussian values of the same standard deviations, coordinate "
        f"by coordinate. {OVER_SEEDS}",
        y_scale="log",
    ),
    Figure(
        "alpha",
        "dots",
        alpha_dots,
        alpha_title,
        "α̂ by pooled log-moments",
        "",
        "Pooled coordinates of one draw's noise, beside Gaussian values of the same standard deviations; and samples "
        f"of known law, a million values each. {OVER_SEEDS}",
    ),
)
