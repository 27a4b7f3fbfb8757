"""From a claim's table to values a judge can weigh: per-seed values, and published numbers beside ours."""

from __future__ import annotations

import functools
import math
import re
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

CHANCE_MARGIN = 0.01  # of accuracy: a network that tests better than always naming that class by no more is at chance
MIN_RUNS = 3  # below this a prediction interval is so wide that any number lies in it
SMALLEST = 1e-12  # that has a logarithm here
NARROW = 2.0  # times: what a prediction interval's ends must differ by less than, for a number in it to be met
MET, MISSED, TOO_WIDE, NOT_TESTABLE, NOT_RUN = "met", "missed", "too wide to tell", "not testable here", "not run"
TESTED = (MET, MISSED, TOO_WIDE)  # outcomes of a number that runs of ours stand beside
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


def settled(table: pd.DataFrame, epochs: float, column: str) -> pd.DataFrame:
    """The last row of every trial, with the mean of `column` over its checkpoints of the last so many epochs: at one
    learning rate a single row wavers with the last steps that were taken."""
    end = table.groupby("key")["epoch"].transform("max")
    means = table[table["epoch"] > end - epochs + 1e-6].groupby("key")[column].mean()
    last = table[table["final"].astype(bool)]
    return last.assign(**{column: last["key"].map(means)})


def at_chance(rows: pd.DataFrame) -> pd.Series:
    """Whether each trial finished and ended at chance: on held-out images it is no better, but for CHANCE_MARGIN, than
    naming the most frequent class every time. `rows` are final ones."""
    held_out = (rows[f"{split}_accuracy"] for split in ("test", "validation") if f"{split}_accuracy" in rows)
    accuracy = functools.reduce(pd.Series.combine_first, held_out, pd.Series(math.nan, rows.index))
    guessing = [DATASETS[name].most_frequent for name in rows["dataset"]]
    return (rows["status"] == "finished") & (accuracy <= np.add(guessing, CHANCE_MARGIN))


def numbered(table: pd.DataFrame, name: str) -> dict[int, str]:
    """The arms of the table called `name` with a whole number for its `{}`, by that number."""
    before, after = map(re.escape, name.split("{}"))
    names: list[str] = table["arm"].unique().tolist() if "arm" in table else []
    matches = (re.fullmatch(rf"{before}(\d+){after}", arm) for arm in names)
    return dict(sorted((int(match[1]), match[0]) for match in matches if match))


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
    needed = {"final", "status", "init_seed", column, *a, *b}
    few = table[[name for name in table.columns if name in needed]]  # taking rows of all takes ten times as long
    values = (by_seed(final(few, **where), column, factor) for where in (a, b))
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
    names = [str(name) for name in known]  # to_dict("records") takes ten times as long
    return [dict(zip(names, row, strict=True)) for row in known.to_numpy(dtype=object)]


def over_seeds(rows: list[dict[str, Any]], value: Callable[[dict[str, Any]], float]) -> Estimate:
    """Mean of a value of `records`, one a seed; what is not finite is left out."""
    values = [value(row) for row in rows]
    return mean_interval([v for v in values if np.isfinite(v)])


def next_run(number: Published, values: list[float]) -> Estimate:
    """Where one more run of ours would fall, 95 times in 100."""
    if number.logarithmic:
        return geometric(prediction_interval(_logarithms(values)))
    return prediction_interval(values)


def hold_against(number: Published, run: Estimate) -> str:
    """Whether one more run of ours, `run`, could have printed this number. MISSED: the number lies outside its
    prediction interval, widened by half a unit of the last printed digit. MET: inside, and the interval is narrow; else
    TOO_WIDE."""
    half = number.resolution / 2 * (1 + 1e-9)
    if number.value + half < run.low or run.high < number.value - half:
        return MISSED
    return MET if is_narrow(number, run.low, run.high) else TOO_WIDE


def is_narrow(number: Published, low: float, high: float) -> bool:
    """Whether the ends of an interval that holds the number are less than a factor of NARROW apart, so that neither
    twice our mean nor half of it could lie in it too; or no farther than one unit of the number's last printed digit.
    Near the largest value that there is, nearer than to 0, the factor is one of what is left to it: of an accuracy of
    98 %, of the error."""
    if high - low <= number.resolution:
        return True
    if number.most is not None and number.most - number.value < number.value:
        low, high = number.most - high, number.most - low
    near, far = sorted((low, high), key=abs)
    return near * far > 0 and far / near < NARROW


def _logarithms(values: Iterable[float]) -> list[float]:
    return [math.log(max(x, SMALLEST)) for x in values]


@dataclass(frozen=True)
class Comparison:
    """A published number beside ours: `ours` is our mean over seeds with its 95 % t interval, geometric where the
    number is logarithmic."""

    number: Published
    ours: Estimate
    outcome: str  # one of TESTED, or NOT_TESTABLE, NOT_RUN or BESIDE
    run: Estimate  # `next_run`


def compare(claim: Claim, table: pd.DataFrame) -> list[Comparison]:
    """Every published number of the claim beside ours."""
    compared = []
    for number in claim.published:
        values: list[float] = []
        if number.column:
            values = list(by_seed(final(table, **number.where), number.column, number.factor).values())
        run = next_run(number, values)
        if number.again:
            outcome = BESIDE
        elif number.column is None:
            outcome = NOT_TESTABLE
        elif len(values) < MIN_RUNS:
            outcome = NOT_RUN
        else:
            outcome = hold_against(number, run)
        ours = geometric(mean_interval(_logarithms(values))) if number.logarithmic else mean_interval(values)
        compared.append(Comparison(number, ours, outcome, run))
    return compared


def count(compared: list[Comparison], *outcomes: str) -> int:
    return sum(c.outcome in outcomes for c in compared)


def met_of_tested(compared: list[Comparison], what: str = "") -> str:
    """ "29 of 33 published numbers met, 2 missed, 2 too wide to tell"."""
    told = f"{count(compared, MET)} of {count(compared, *TESTED)} {what}".rstrip()
    others = (f", {n} {outcome}" for outcome in (MISSED, TOO_WIDE) if (n := count(compared, outcome)))
    return f"{told} met{''.join(others)}"


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
