"""From a claim's table to values a judge can weigh: per-seed values, and published numbers beside ours."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from repro.evidence.intervals import (
    Estimate,
    geometric,
    mean_interval,
    paired_difference,
    paired_values,
    prediction_interval,
)
from repro.evidence.spec import Claim, Published
from repro.names import DATASETS

MIN_RUNS = 3  # below this a prediction interval is so wide that any number is met
SMALLEST = 1e-12  # that has a logarithm here
MET, MISSED, NOT_TESTABLE, NOT_RUN = "met", "missed", "not testable here", "not run"
BESIDE = "for comparison"


def select(table: pd.DataFrame, **where: Any) -> pd.DataFrame:
    """Rows whose columns have the given values."""
    keep = np.ones(len(table), bool)
    for column, value in where.items():
        keep &= (table[column] == value).to_numpy(bool)
    return table[keep]


def final(table: pd.DataFrame, **where: Any) -> pd.DataFrame:
    """The last row of every trial that finished; one that diverged has no result to compare."""
    if not {"final", "status", *where} <= set(table.columns):
        return table.iloc[:0]
    return select(table, final=True, status="finished", **where)


def by_seed(rows: pd.DataFrame, column: str, factor: float = 1.0) -> dict[int, float]:
    """Values of a column by seed. Rows must be of one arm: one a seed."""
    if rows.empty or column not in rows:
        return {}
    if rows["init_seed"].duplicated().any():
        raise ValueError(f"{column}: several rows for one seed; select one arm first")
    known = rows.dropna(subset=[column])
    return dict(zip(known["init_seed"].tolist(), (known[column] * factor).tolist(), strict=True))


def paired(
    table: pd.DataFrame, a: Mapping[str, Any], b: Mapping[str, Any], column: str, factor: float = 1.0
) -> Estimate:
    """Paired difference over seeds of finished trials: rows `a` minus rows `b`, each given by column and value."""
    values = (by_seed(final(table, **where), column, factor) for where in (a, b))
    return paired_difference(*paired_values(*values))


def margin_for(table: pd.DataFrame, margin: float) -> float:
    """A margin of equivalence that was set for 10,000 test images (pp), for the table's: sampling error goes as
    1/√n, so fewer test images widen it."""
    num_test = min(DATASETS[name].num_test for name in table["dataset"].unique())
    return margin * math.sqrt(10_000 / num_test)


def unfold(rows: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """A row for every entry of the lists in `columns`, which are of one length within a row."""
    if not {*columns} <= {*rows.columns}:
        return pd.DataFrame(columns=[*rows.columns, *(c for c in columns if c not in rows)])
    known = rows.dropna(subset=list(columns))
    return known.explode(list(columns), ignore_index=True).astype(dict.fromkeys(columns, float))


def records(table: pd.DataFrame, column: str, **where: Any) -> list[dict[str, Any]]:
    """The last row of every trial that finished and has `column`, by seed, as a dict: for columns of lists."""
    rows = final(table, **where)
    if rows.empty or column not in rows:
        return []
    known = rows.dropna(subset=[column]).sort_values("init_seed")
    return [{str(name): value for name, value in row.items()} for row in known.to_dict("records")]


def over_seeds(rows: list[dict[str, Any]], value: Callable[[dict[str, Any]], float]) -> Estimate:
    """Mean of a value of `records`, one a seed; what is not finite is left out."""
    values = [value(row) for row in rows]
    return mean_interval([v for v in values if np.isfinite(v)])


def is_met(number: Published, values: list[float]) -> bool:
    """Whether one more run of ours could have printed this number: it lies in the 95 % prediction interval,
    widened by half a unit of its last printed digit."""
    half = number.resolution / 2 * (1 + 1e-9)
    ends = [number.value - half, number.value + half]
    if number.logarithmic:
        values, ends = _logarithms(values), _logarithms(ends)
    ours = prediction_interval(values)
    return ours.low <= ends[1] and ends[0] <= ours.high


def _logarithms(values: Iterable[float]) -> list[float]:
    return [math.log(max(x, SMALLEST)) for x in values]


@dataclass(frozen=True)
class Comparison:
    """A published number beside ours: `ours` is our mean over seeds with its 95 % t interval, geometric where the
    number is logarithmic."""

    number: Published
    ours: Estimate
    outcome: str  # MET, MISSED, NOT_TESTABLE, NOT_RUN or BESIDE


def compare(claim: Claim, table: pd.DataFrame) -> list[Comparison]:
    """Every published number of the claim beside ours."""
    compared = []
    for number in claim.published:
        values: list[float] = []
        if number.column:
            values = list(by_seed(final(table, **number.where), number.column, number.factor).values())
        if number.again:
            outcome = BESIDE
        elif number.column is None:
            outcome = NOT_TESTABLE
        elif len(values) < MIN_RUNS:
            outcome = NOT_RUN
        else:
            outcome = MET if is_met(number, values) else MISSED
        ours = geometric(mean_interval(_logarithms(values))) if number.logarithmic else mean_interval(values)
        compared.append(Comparison(number, ours, outcome))
    return compared


def count(compared: list[Comparison], *outcomes: str) -> int:
    return sum(c.outcome in outcomes for c in compared)


def point(estimate: Estimate, **columns: object) -> dict[str, object]:
    """A row of a figure's table: the estimate's mean, interval (NaN where unbounded) and n, with other columns."""
    low, high = (x if np.isfinite(x) and estimate.n > 1 else np.nan for x in (estimate.low, estimate.high))
    return {**columns, "mean": estimate.value, "low": low, "high": high, "n": estimate.n}


def curve(table: pd.DataFrame, column: str, series: str, factor: float = 1.0, **where: Any) -> pd.DataFrame:
    """Mean over seeds of `column` by batch size with its 95 % t interval, as a figure's series."""
    rows = []
    for size, group in final(table, **where).groupby("batch_size"):
        estimate = mean_interval(list(by_seed(group, column, factor).values()))
        rows.append(point(estimate, x=size, series=series))
    return pd.DataFrame(rows, columns=["x", "mean", "low", "high", "n", "series"])
