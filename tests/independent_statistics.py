"""What the second implementation of the headlines rests on: which trials, intervals, learning rates, numbers as told.

Written from the words of the rules, with pandas, numpy and scipy alone: nothing of the package is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

# Which trials

Rows = pd.DataFrame

# What a trial is where nothing else is said; a field that was added later is null in older rows, which were this.
PLAIN: dict[str, Any] = {
    "train_size": None, "evaluate_on": "test", "preprocessing": "standardize", "model": "mlp", "widths": "[1024, 1024]",
    "batch_norm": False, "init": "glorot", "optimizer": "sgd", "lr": 0.01, "momentum": 0.0, "weight_decay": 0.0,
    "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "batch_size": 64.0, "warmup_epochs": 0.0, "schedule": "[]",
    "epochs": None, "steps": None, "probes": '["fit", "travel"]', "final_probes": "[]", "draws": 1000.0,
    "partner_batch_size": None, "checkpoints": "[]", "precision": "auto", "drop_last": False,
    "norm_statistics": "kept", "norm_eps": 1e-5, "probe_examples": None, "target_accuracy": None,
    "label_noise": 0.0, "ghost_size": None, "max_gradient_norm": None, "restart_optimizer": False,
    "restart_with_phase": False,
    "augmentation": "none", "dropout": 0.0, "steps_per_batch": 1.0, "proximal": 0.0, "adversarial": 0.0,
}  # fmt: skip


def read(folder: Path) -> Rows:
    """Every row of every table in the folder, the fields of its trial filled in."""
    return filled(pd.concat([pd.read_parquet(path) for path in sorted(folder.glob("*.parquet"))], ignore_index=True))


def filled(rows: Rows) -> Rows:
    columns = {}
    for field, value in PLAIN.items():
        known = (rows[field] if field in rows else pd.Series(None, rows.index, dtype=object)).astype(object)
        known = known.where(known.notna(), value)
        columns[field] = known.astype(float) if isinstance(value, float) or value is None else known
    return rows.assign(**columns)


def log_checkpoints(epochs: float) -> str:
    """After 1, 2, 5, 10, 20, 50 … epochs."""
    return str([m * 10.0**e for e in range(4) for m in (1, 2, 5) if m * 10**e < epochs])


def trials(rows: Rows, seeds: int, **fields: Any) -> Rows:
    """Rows of the trials that have these fields, all others plain, and seeds 0 to `seeds` - 1, which set the start and
    the data's order alike. A list: any of these. A batch left over at an epoch's end can only be dropped where there
    is one."""
    whole = fields | {field: value for field, value in PLAIN.items() if field not in fields}  # the telling ones first
    num_train = whole["train_size"] or {"test": 60_000, "both": 50_000}[whole["evaluate_on"]]
    left_over = num_train % rows["batch_size"] > 0
    of_seeds = (rows["init_seed"] < seeds) & (rows["init_seed"] == rows["data_seed"])
    at = np.flatnonzero(of_seeds & (rows["drop_last"] == (left_over & whole.pop("drop_last"))))
    for field, allowed in whole.items():
        found, known = np.zeros(len(at), bool), rows[field].to_numpy()[at]
        for value in allowed if isinstance(allowed, list) else [allowed]:
            if isinstance(value, str | bool):
                found |= known == value
            else:
                found |= pd.isna(known) if value is None else np.isclose(known.astype(float), value, rtol=1e-6, atol=0)
        at = at[found]
    return rows.iloc[at].sort_values(["lr", "init_seed", "step"], kind="stable")


def ended(rows: Rows) -> Rows:
    """One row a trial, where it ended; of those that diverged too."""
    return rows[rows["final"].astype(bool) & rows["status"].isin(["finished", "diverged"])]


def finished(rows: Rows) -> Rows:
    return ended(rows)[ended(rows)["status"] == "finished"]


def num_diverged(rows: Rows) -> int:
    return len(ended(rows)) - len(finished(rows))


def by_seed(rows: Rows, column: str) -> pd.Series:
    found = finished(rows).set_index("init_seed")[column].astype(float)
    assert found.index.is_unique, "rows of more than one arm"
    return found.dropna()


# Numbers as they are told


def number(x: float, form: str = ".2f") -> str:
    """With a true minus; what rounds to zero has no sign. Sums in another order differ in the last bit: not a tie."""
    text = f"{round(x, 9):{form}}"
    return (text if float(text.replace(",", "")) else text.lstrip("+-")).replace("-", "−")


class Interval(NamedTuple):
    value: float
    low: float
    high: float
    n: int

    def map(self, f: Callable[[float], float]) -> Interval:
        return Interval(f(self.value), *sorted((f(self.low), f(self.high))), self.n)

    def __neg__(self) -> Interval:
        return self.map(lambda x: -x)

    @property
    def side(self) -> int:
        """Of zero: 1 above, -1 below, 0 where the interval holds it."""
        return 1 if self.low > 0 else -1 if self.high < 0 else 0

    def ends(self, form: str = ".2f") -> str:
        return f"{number(self.low, form)} to {number(self.high, form)}"

    def told(self, unit: str = "", form: str = ".2f") -> str:
        """ "1.23 points (1.10 to 1.36)"; without ends where there are none; from 1,000 on without decimals."""
        form = form.replace(".2f", ",.0f") if abs(self.value) >= 1000 else form
        value = f"{number(self.value, form)} {unit}".rstrip()
        return f"{value} ({self.ends(form)})" if math.isfinite(self.low + self.high) else value

    @property
    def times(self) -> str:
        """ "5.7 times (3.1 to 11)": two figures each, at most three decimals; where the ends lie within half as much
        again and two figures would make some of them equal, up to three decimals."""
        known = self[:3] if self.n > 1 else self[:1]
        decimals = [min(3, max(0, 1 - math.floor(math.log10(x)))) if 0 < x < math.inf else 2 for x in known]
        if self.n > 1 and self.high < 1.5 * self.low:
            more = next((d for d in range(decimals[0], 4) if len({f"{x:.{d}f}" for x in known}) == 3), 3)
            decimals = [max(d, more) for d in decimals]
        value, *ends = (f"{x:,.{d}f}" for x, d in zip(known, decimals, strict=True))
        return f"{value} times ({' to '.join(ends)})" if ends else f"{value} times"


# Intervals, two-sided at 95 % unless said otherwise


def mean(values: Sequence[float] | pd.Series, level: float = 0.95) -> Interval:
    """Student's t interval; unbounded below two values."""
    x = np.asarray(values, float)
    if len(x) < 2:
        return Interval(float(x.mean()) if len(x) else math.nan, -math.inf, math.inf, len(x))
    half = stats.t.ppf((1 + level) / 2, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x))
    return Interval(float(x.mean()), float(x.mean() - half), float(x.mean() + half), len(x))


def points(a: Rows, b: Rows, level: float = 0.95) -> Interval:
    """Test accuracy in percentage points, a minus b: paired over the seeds that both have."""
    percent = (100 * by_seed(rows, "test_accuracy") for rows in (a, b))  # before the difference: so ties round alike
    return mean((next(percent) - next(percent)).dropna(), level)


def over(a: Rows, b: Rows, column: str) -> Interval:
    """The geometric mean of a over b, paired: the t interval of the logarithms' difference."""
    logs = mean((np.log(by_seed(a, column)) - np.log(by_seed(b, column))).dropna())
    return logs.map(lambda x: math.exp(x) if x < 700 else math.inf)


def same(narrow: Interval, margin: float = 0.3) -> bool:
    """Two one-sided tests at 5 %, given the 90 % interval. ±0.3 points are for 10,000 test images, as all here have."""
    return -margin < narrow.low and narrow.high < margin


def bootstrap(statistic: Callable[[np.ndarray], float], n: int, level: float = 0.95, resamples: int = 999) -> Interval:
    """BCa over n seeds or runs, given by their positions: as many resamples by generator 0 as in the package, so that
    the digits can agree; percentile where BCa is undefined."""
    if n < 2:
        return Interval(statistic(np.arange(n)) if n else math.nan, -math.inf, math.inf, n)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = stats.bootstrap(
            (np.arange(n),), lambda i: statistic(i.astype(int)), n_resamples=resamples, confidence_level=level,
            method="BCa", vectorized=False, rng=np.random.default_rng(0),
        )  # fmt: skip
    low, high = map(float, found.confidence_interval)
    if math.isnan(low) or math.isnan(high):
        low, high = map(float, np.quantile(found.bootstrap_distribution, [(1 - level) / 2, (1 + level) / 2]))
    return Interval(statistic(np.arange(n)), low, high, n)


def joined(a: Interval, b: Interval) -> Interval:
    return Interval(a.value, min(a.low, b.low), max(a.high, b.high), a.n)


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    p, q = (ranks - ranks.mean() for ranks in (stats.rankdata(x), stats.rankdata(y)))
    return float(p @ q / math.sqrt((p @ p) * (q @ q))) if p.any() and q.any() else 0.0


# Learning rates


def grid(rows: Rows, column: str) -> pd.DataFrame:
    """`column` by learning rate, a column a seed, of the seeds that every rate has been run with; NaN where a trial
    diverged."""
    rows = ended(rows)
    values = rows[column].astype(float).where(rows["status"] == "finished", np.inf)
    table = (
        rows[["lr", "init_seed"]]
        .assign(value=values)
        .pivot(index="lr", columns="init_seed", values="value")
        .sort_index()
    )
    return table.dropna(axis=1).replace(np.inf, np.nan)


def best_rate(table: pd.DataFrame, sign: int = 1) -> float | None:
    """The learning rate of largest (`sign` -1: of least) mean, of those at which every seed finished; None below three
    rates."""
    means = sign * table.mean(axis=1, skipna=False)
    return None if len(table) < 3 or means.isna().all() else float(means.idxmax())


def is_inner(table: pd.DataFrame, best: float | None) -> bool:
    """No edge of the grid is as good. The highest that does not diverge is none, where higher ones were tried."""
    means = table.mean(axis=1, skipna=False)
    return best is not None and not np.isclose(means.iloc[[0, -1]], means.loc[best], rtol=1e-9, atol=0).any()


def chosen(*arms: Rows) -> list[Rows] | None:
    """Of every arm the rows at its rate of highest held-out accuracy; None where one lies on an edge, or is not run."""
    tables = [grid(rows, "validation_accuracy") for rows in arms]
    if not all(is_inner(table, best_rate(table)) for table in tables):
        return None
    return [rows[rows["lr"] == best_rate(table)] for rows, table in zip(arms, tables, strict=True)]


def tuned_difference(a: Rows, b: Rows, level: float = 0.95) -> Interval:
    """Test accuracy of a minus b in points, each at its rate of highest held-out accuracy: the paired t interval there,
    joined with a bootstrap over the seeds of both in which every sample chooses anew."""
    held_out, tested = ([grid(x, column) for x in (a, b)] for column in ("validation_accuracy", "test_accuracy"))
    seeds = sorted(set(held_out[0].columns) & set(held_out[1].columns))

    def statistic(sample: np.ndarray) -> float:
        best = [int(np.nanargmax(table[seeds].to_numpy()[:, sample].mean(axis=1))) for table in held_out]
        found = [table[seeds].to_numpy()[k, sample].mean() for table, k in zip(tested, best, strict=True)]
        return float(100 * (found[0] - found[1]))

    at = [table.loc[best_rate(choice), seeds] for table, choice in zip(tested, held_out, strict=True)]
    return joined(mean(100 * (at[0] - at[1]), level), bootstrap(statistic, len(seeds), level))


def located(losses: np.ndarray, rates: np.ndarray) -> float:
    """log₂ of the best learning rate: the parabola's through the least mean (rates × seeds) and its neighbours; that of
    the least itself where a neighbour diverged or is lacking."""
    means, octaves = losses.mean(axis=1), np.log2(rates)
    k = int(np.nanargmin(means))
    near = means[max(k - 1, 0) : k + 2]
    if len(near) < 3 or np.isnan(near).any():
        return float(octaves[k])
    below, least, above = near
    return float(octaves[k] + (octaves[1] - octaves[0]) * (below - above) / (2 * (below - 2 * least + above)))


Tables = Mapping[int, pd.DataFrame]  # by batch size: a learning rate a row, a seed a column


def of_best(statistic: Callable[[np.ndarray], float], found: Tables) -> Interval:
    """A function of log₂ of all best rates, bootstrapped over the seeds that all batch sizes share."""
    seeds = sorted(set.intersection(*(set(table.columns) for table in found.values())))
    known = [(table[seeds].to_numpy(), table.index.to_numpy()) for table in found.values()]
    return bootstrap(lambda i: statistic(np.array([located(losses[:, i], lr) for losses, lr in known])), len(seeds))


def slope(found: Tables) -> Interval:
    """Of log₂ of the best rate on log₂ B: the bootstrap over seeds joined with the t interval about the line."""
    x = np.log2([*found])
    if len(x) < 3:
        return mean([])
    line = stats.linregress(x, [located(table.to_numpy(), table.index.to_numpy()) for table in found.values()])
    half = stats.t.ppf(0.975, len(x) - 2) * line.stderr
    about_line = Interval(line.slope, line.slope - half, line.slope + half, len(x))
    return joined(of_best(lambda y: float(stats.linregress(x, y).slope), found), about_line)


# Printed numbers


class Printed(NamedTuple):
    """A number that a source prints: its text, and where ours is, by arm and maybe more columns."""

    text: str
    where: Mapping[str, Any]
    column: str | None  # None: cannot be tested here
    factor: float
    logarithmic: bool
    again: bool  # told elsewhere too: not counted
    most: float | None  # the largest value that there is: 100 of a percentage, 1 of a cosine


def held_against(printed: Printed, values: Sequence[float]) -> str:
    """Missed: outside the 95 % prediction interval for one more run, widened by half a unit of the last printed digit.
    Met: inside, and the interval's ends are less than a factor of 2 apart, or no farther than one unit of that digit;
    near the largest value that there is, a factor of what is left to it. Below three runs: not run."""
    x, unit = np.asarray(values, float) * printed.factor, 10.0 ** -len(printed.text.partition(".")[2])
    x, number = x[np.isfinite(x)], float(printed.text)
    if len(x) < 3:
        return "not run"
    y = np.log(x) if printed.logarithmic else x
    reach = stats.t.ppf(0.975, len(y) - 1) * y.std(ddof=1) * math.sqrt(1 + 1 / len(y))
    low, high = y.mean() - reach, y.mean() + reach
    low, high = (math.exp(low), math.exp(high)) if printed.logarithmic else (low, high)
    if number + unit / 2 < low - 1e-12 or high + 1e-12 < number - unit / 2:
        return "missed"
    if printed.most is not None and printed.most - number < number:
        low, high = printed.most - high, printed.most - low
    narrow = high - low <= unit or (low * high > 0 and max(low / high, high / low) < 2)
    return "met" if narrow else "too wide to tell"


def power(row: Any, column: str, start: str = "mean") -> float:
    """The power of B with which the norms go, or their distance from the mean, in means (`start`: of column names)."""
    y = np.asarray(row[start + column], float)
    y = abs(y / np.asarray(row[f"mean{column}"], float) - 1) if start in ("high", "low") else y
    return float(stats.linregress(np.log(np.asarray(row["drawn_batch_size"], float)), np.log(y)).slope)


def tally(printed: Sequence[Printed], arms: Mapping[str, Rows]) -> dict[str, int]:
    """How many of the printed numbers are met, and so on."""
    counted = dict.fromkeys(("met", "missed", "too wide to tell", "not testable here", "not run"), 0)
    for p in (p for p in printed if not p.again):
        if p.column is None:
            counted["not testable here"] += 1
            continue
        rows = finished(arms[p.where["arm"]])
        for column, value in p.where.items():
            rows = rows if column == "arm" else rows[rows[column] == value]
        if p.column == "single_slope":  # taken anew, from the norms
            values = [power(row, "_frozen_single") for _, row in rows.iterrows()]
        else:
            values = rows[p.column].astype(float).tolist() if p.column in rows else []
        counted[held_against(p, values)] += 1
    return counted


def chance(n: int) -> int:
    """The most misses of n that chance explains: binomial, 5 % each, at the 95 % quantile."""
    return int(stats.binom.ppf(0.95, n, 0.05))
