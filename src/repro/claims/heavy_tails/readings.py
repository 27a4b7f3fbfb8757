"""What the judge weighs: tails as the post pools them, along two axes and while weights move, as effects with units."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from repro.claims.gradient_competition.experiment import EARLY, PASSES, POINTS
from repro.evidence.intervals import Estimate, Unit, geometric
from repro.evidence.tables import over_seeds, records
from repro.probes.readings import log_log_slope, pooled_kurtosis

SMALL = 2  # the smaller of the batch sizes that the post compares; its larger one, 1024, or the largest that was drawn
GAUSSIAN = 3.0  # its kurtosis
MEASURES = {"kurtosis": "kurtosis", "Hill's ξ": "hill", "1/α̂": "inverse_alpha"}  # each grows with the tail
DRAWS, COORDINATES = "draws", "coordinates"
EIGHTFOLD = 8  # the largest batch sizes, over which the power of the kurtosis is told: far below the number of draws
Effects = dict[str, Estimate]

LARGEST_MINUS_SMALL = f"largest batch minus B = {SMALL}, each beyond Gaussian values of the same scales"
SIDES = ("large batch lighter", "heavier")
KURTOSIS = Unit("kurtosis", f"Kurtosis, {LARGEST_MINUS_SMALL}", 0.0, SIDES)
INDEX = Unit("tail index", f"Hill's ξ and 1/α̂, {LARGEST_MINUS_SMALL}", 0.0, SIDES)
CHANGE = Unit("kurtosis", f"Kurtosis, largest batch minus B = {SMALL}", 0.0, SIDES)
POOLED_TIMES = Unit(
    "times", f"Kurtosis of all values pooled, largest batch over B = {SMALL}, times", 1.0, SIDES, log=True
)
POWER = Unit(
    "power of B", "Power of B of the excess kurtosis; −1 by the central limit theorem", -1.0, ("falls faster", "slower")
)


def measured(table: pd.DataFrame, arm: str) -> list[dict[str, Any]]:
    return records(table, "tail_batch_size", arm=arm)


def sizes_of(table: pd.DataFrame) -> list[float]:
    rows = measured(table, EARLY)
    return list(rows[0]["tail_batch_size"]) if rows else []


def by_size(row: Any, column: str) -> dict[float, float]:
    return dict(zip(row["tail_batch_size"], row[column], strict=True))


def excess(row: Any, measure: str, axis: str) -> dict[float, float]:
    """A measure minus that of its Gaussian surrogate, by batch size."""
    ours, surrogate = (by_size(row, f"{measure}_{axis}{kind}") for kind in ("", "_surrogate"))
    return {size: ours[size] - surrogate[size] for size in ours}


def growth(table: pd.DataFrame, arm: str, measure: str, axis: str) -> Estimate:
    """The measure beyond its surrogate at the largest batch size, minus that at B=2: above zero, heavier."""

    def value(row: Any) -> float:
        found = excess(row, measure, axis)
        return found[max(found)] - found[SMALL]

    return over_seeds(measured(table, arm), value).of(KURTOSIS if measure == MEASURES["kurtosis"] else INDEX)


def shape(table: pd.DataFrame, axis: str) -> Effects:
    """How every measure grows along an axis, at frozen weights."""
    return {
        f"{name}, {arm}": growth(table, arm, measure, axis)
        for (name, measure), arm in itertools.product(MEASURES.items(), POINTS)
    }


def _in_times(table: pd.DataFrame, arm: str, value: Callable[[Any], dict[float, float]]) -> Estimate:
    """A positive value by batch size, at the largest over that at B=2; geometric mean over seeds."""

    def log_ratio(row: Any) -> float:
        found = value(row)
        return math.log(found[max(found)] / found[SMALL])

    logs = over_seeds(measured(table, arm), log_ratio)
    return (geometric(logs) if logs.n else logs).of(POOLED_TIMES)


def pooled(table: pd.DataFrame) -> Effects:
    """How the kurtosis of all values of all draws grows: that of the histogram as the post draws it."""
    return {f"pooled, {arm}": _in_times(table, arm, pooled_kurtosis) for arm in POINTS}


def moving(table: pd.DataFrame, extent: str) -> Effects:
    """How kurtosis grows while weights move, of a pass's last batch or of its sum: pooled, and across draws."""

    def pooled_of(row: Any) -> dict[float, float]:
        return {size: GAUSSIAN + found for size, found in by_size(row, f"kurtosis_pooled_moving_{extent}").items()}

    def change(row: Any) -> float:
        found = by_size(row, f"kurtosis_{DRAWS}_moving_{extent}")
        return found[max(found)] - found[SMALL]

    times = {f"pooled, {arm}": _in_times(table, PASSES[arm], pooled_of) for arm in POINTS}
    across = {f"across draws, {arm}": over_seeds(measured(table, PASSES[arm]), change).of(CHANGE) for arm in POINTS}
    return times | across


def central_limit(table: pd.DataFrame) -> Effects:
    """The power of B with which excess kurtosis across draws falls over the largest batch sizes: that of a sum of B
    independent terms is 1/B of a term's. At small B, of n draws, no sample has a kurtosis above n."""

    def power(row: Any) -> float:
        found = by_size(row, f"kurtosis_{DRAWS}")
        sizes = [size for size in found if EIGHTFOLD * size >= max(found)]
        return log_log_slope(np.array(sizes), np.array([found[size] for size in sizes]))

    return {f"power of B, {arm}": over_seeds(measured(table, arm), power).of(POWER) for arm in POINTS}


def log_times(reduction: str, row: Any) -> float:
    """Logarithm of how many times as many values are large at the largest batch as at B=2, where they are 100; not a
    number where too few were drawn to say."""
    return math.log(10) * (row.get(f"large_values_{reduction}", math.nan) - 2)


def alpha(size: float, kind: str, row: Any) -> float:
    """α̂ of the pooled noise (kind "") or of its surrogate."""
    return 1 / by_size(row, f"inverse_alpha_{COORDINATES}{kind}")[size]


def alpha_beyond(size: float, row: Any) -> float:
    """How far α̂ of Gaussian values of the same scales lies beyond half-way from the noise's to 2."""
    return alpha(size, "_surrogate", row) - (alpha(size, "", row) + 2) / 2


def pooled_at(table: pd.DataFrame, arm: str, size: float) -> Estimate:
    """Kurtosis of all values pooled, 3 for a Gaussian; geometric mean over seeds."""
    logs = over_seeds(measured(table, arm), functools.partial(_log_pooled, size))
    return geometric(logs) if logs.n else logs


def _log_pooled(size: float, row: Any) -> float:
    return math.log(pooled_kurtosis(row)[size])
