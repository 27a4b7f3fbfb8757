"""Estimates with intervals. numpy and scipy only; arrays in, Estimates out.

Every interval is two-sided at 95 % unless `level` says otherwise.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # its parts load when they are asked for: what only plans trials need not wait for them
from numpy.typing import ArrayLike

LARGEST_RHO = 0.999  # of which Fisher's z is taken: that of 1 is infinite


@dataclass(frozen=True)
class Unit:
    """What a number counts, and how an axis of such numbers is drawn: the `axis`' title says what minus (or over) what;
    `none` is the value that means no difference, `sides` what lies below and above it, `band` the margin within which
    numbers count as the same. `log`: of ratios; `symlog`: logarithmic beyond ±1."""

    symbol: str = ""
    axis: str = ""
    none: float | None = None
    sides: tuple[str, str] = ("", "")
    band: tuple[float, float] | None = None
    log: bool = False
    symlog: bool = False


@dataclass(frozen=True)
class Estimate:
    """A number, its interval, what they rest on and what they count. With fewer than two values the interval is
    unbounded."""

    value: float
    low: float
    high: float
    n: int
    method: str
    values: tuple[float, ...] = ()
    unit: Unit = Unit()

    def of(self, unit: Unit) -> Estimate:
        return dataclasses.replace(self, unit=unit)

    def excludes(self, x: float) -> bool:
        return x < self.low or x > self.high  # an interval that is not a number excludes nothing

    def within(self, margin: float) -> bool:
        """Whether the whole interval lies strictly inside ±margin."""
        return -margin < self.low and self.high < margin

    def equivalent(self, margin: float) -> bool:
        """Whether the mean of `values` lies inside ±margin, by two one-sided t tests at 5 %."""
        return equivalence_p(self.values, margin) < 0.05


def _finite(values: ArrayLike, name: str = "values") -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError(f"{name}: needs a one-dimensional array of finite numbers, got {array!r}")
    return array


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, such as 0.95, got {level}")


def _check_pairs(x: np.ndarray, y: np.ndarray) -> None:
    if x.shape != y.shape:
        raise ValueError(f"paired arrays must be of one length, got {len(x)} and {len(y)}")


def _t_interval(values: np.ndarray, spread: float, level: float) -> tuple[float, float]:
    """mean ± t · sd · spread; unbounded below two values."""
    _check_level(level)
    if len(values) < 2:
        return -math.inf, math.inf
    half = scipy.stats.t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) * spread
    return float(values.mean() - half), float(values.mean() + half)


def mean_interval(values: ArrayLike, level: float = 0.95) -> Estimate:
    """Mean of (n,) independent values with Student's t interval: x̄ ± t_{n-1} s/√n."""
    x = _finite(values)
    mean = float(x.mean()) if len(x) else math.nan
    low, high = _t_interval(x, 1 / math.sqrt(max(len(x), 1)), level)
    return Estimate(mean, low, high, len(x), "t interval of the mean", tuple(x.tolist()))


def prediction_interval(values: ArrayLike, level: float = 0.95) -> Estimate:
    """Where one more run would fall, given (n,) runs: x̄ ± t_{n-1} s √(1 + 1/n).

    Source: Hahn & Meeker, Statistical Intervals (1991), §4.8. Use it to ask whether a published number from
    a single run could be one of ours.
    """
    x = _finite(values)
    mean = float(x.mean()) if len(x) else math.nan
    low, high = _t_interval(x, math.sqrt(1 + 1 / max(len(x), 1)), level)
    return Estimate(mean, low, high, len(x), "t prediction interval for one more run", tuple(x.tolist()))


def paired_difference(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Estimate:
    """Mean of a - b over pairs, (n,) each, with Student's t interval of the differences."""
    x, y = _finite(a, "a"), _finite(b, "b")
    _check_pairs(x, y)
    difference = mean_interval(x - y, level)
    return Estimate(
        difference.value, difference.low, difference.high, difference.n, "paired t interval", difference.values
    )


def geometric(logs: Estimate) -> Estimate:
    """The estimate of a mean of natural logarithms as that of the geometric mean (of a difference: of a ratio)."""
    with np.errstate(over="ignore"):  # of two values that differ much, the upper end is beyond any number
        value, low, high = np.exp([logs.value, logs.low, logs.high]).tolist()
    values = tuple(np.exp(logs.values).tolist())
    return Estimate(value, low, high, logs.n, f"{logs.method}, of logarithms", values)


def equivalence_p(differences: ArrayLike, margin: float) -> float:
    """p of the two one-sided t tests that the mean of (n,) differences lies inside ±margin.

    Small p: equivalent within the margin (Schuirmann 1987). 1.0 below two; differences without any spread are decided
    by their value.
    """
    if not 0 < margin < math.inf:
        raise ValueError(f"margin must be above 0, got {margin}")
    x = _finite(differences, "differences")
    if len(x) < 2:
        return 1.0
    if x.std(ddof=1) <= 1e-12 * max(1.0, float(np.abs(x).max())):
        return 0.0 if abs(x.mean()) < margin else 1.0
    sides = ((-margin, "greater"), (margin, "less"))
    return max(float(scipy.stats.ttest_1samp(x, end, alternative=way).pvalue) for end, way in sides)


def values_to_decide(e: Estimate, margin: float, power: float = 0.8) -> float:
    """How many values would, with this probability, either tell their mean from 0 (95 % t interval) or call it
    `equivalent` to 0 within ±margin, if they were normal with the mean and the spread of those at hand; ∞ beyond 4,096.

    By 4,000 simulated means and variances for each number tried, by bisection.
    """
    x = _finite(e.values)
    mean, sd = x.mean(), x.std(ddof=1)
    shifts = np.random.default_rng(0).standard_normal(4000)

    def decides(n: int) -> bool:
        error = sd * np.sqrt(np.random.default_rng(n).chisquare(n - 1, 4000) / (n - 1) / n)
        off = np.abs(mean + shifts * sd / math.sqrt(n))
        told = off > scipy.stats.t.ppf(0.975, n - 1) * error
        same = off + scipy.stats.t.ppf(0.95, n - 1) * error < margin
        return bool((told | same).mean() >= power)

    if not decides(4096):
        return math.inf
    return 2 + bisect.bisect_left(range(2, 4096), True, key=decides)


def bootstrap_interval(
    values: ArrayLike,
    statistic: Callable[..., Any],
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = 9999,
    vectorized: bool = False,
) -> Estimate:
    """Bias-corrected and accelerated bootstrap interval of `statistic` over (n,) values (Efron 1987). A vectorized
    statistic takes (..., n) and the keyword `axis`, and is much faster.

    Where BCa is undefined (leaving any one value out changes nothing), the percentile interval of the
    same resamples, and `method` says so.
    """
    _check_level(level)
    x = _finite(values)
    method = "BCa"
    value = float(statistic(x))
    if len(x) < 2 or np.ptp(x) == 0:
        low, high = (-math.inf, math.inf) if len(x) < 2 else (value, value)
    else:
        with warnings.catch_warnings(), np.errstate(invalid="ignore"):
            warnings.simplefilter("ignore", scipy.stats.DegenerateDataWarning)
            result = scipy.stats.bootstrap(
                (x,),
                statistic,
                confidence_level=level,
                n_resamples=resamples,
                method="BCa",
                rng=rng,
                vectorized=vectorized,
            )
        low, high = map(float, result.confidence_interval)
        if math.isnan(low) or math.isnan(high):
            method = "percentile"
            ends = [(1 - level) / 2, (1 + level) / 2]
            low, high = map(float, np.quantile(result.bootstrap_distribution, ends))
    return Estimate(value, low, high, len(x), f"{method} bootstrap, {resamples} resamples", tuple(x.tolist()))


def luck_of(values: np.ndarray) -> np.ndarray:
    """Variance of a cell's mean over seeds, of (cells, seeds, ...), on average; what a seed does to all cells alike is
    none, for it is no difference between them. Of one seed, not a number."""
    if values.shape[1] < 2:
        return np.full(values.shape[2:], np.nan)
    apart = values - values.mean(0)
    return np.asarray(apart.var(1, ddof=1).mean(0) / values.shape[1])


def slope_interval(x: ArrayLike, y: ArrayLike, level: float = 0.95) -> Estimate:
    """Least-squares slope of y on x, (n,) each, with its t interval (n - 2 degrees of freedom)."""
    _check_level(level)
    a, b = _finite(x, "x"), _finite(y, "y")
    if a.shape != b.shape or len(a) < 2 or np.ptp(a) == 0:
        raise ValueError("a slope needs two arrays of one length, with at least two different x")
    fit = scipy.stats.linregress(a, b)
    half = math.inf
    if len(a) > 2:
        half = float(scipy.stats.t.ppf((1 + level) / 2, len(a) - 2) * fit.stderr)
    slope = float(fit.slope)
    return Estimate(slope, slope - half, slope + half, len(a), "least-squares slope, t interval")


def mean_rank_correlation(pairs: Sequence[tuple[ArrayLike, ArrayLike]]) -> Estimate:
    """Spearman's ρ of each of several pairs of arrays (n,), (n,), averaged as Fisher's z, with Student's t interval
    over the pairs: what shares its luck within a pair, such as the runs of one seed, is counted once. A pair of which
    one side is constant has ρ = 0."""

    def z(x: ArrayLike, y: ArrayLike) -> float:
        a, b = _finite(x, "x"), _finite(y, "y")
        _check_pairs(a, b)
        if not (len(a) > 1 and np.ptp(a) and np.ptp(b)):
            return 0.0
        return float(np.arctanh(np.clip(scipy.stats.spearmanr(a, b).statistic, -LARGEST_RHO, LARGEST_RHO)))

    e = mean_interval([z(x, y) for x, y in pairs])
    value, low, high = np.tanh([e.value, e.low, e.high]).tolist()
    return Estimate(value, low, high, e.n, "t interval of Fisher's z", tuple(np.tanh(e.values).tolist()))


def most_misses_by_chance(n: int, miss_rate: float = 0.05, level: float = 0.95) -> int:
    """The most misses among n intervals that chance alone explains: the binomial quantile at `level`."""
    return int(scipy.stats.binom.ppf(level, n, miss_rate)) if n else 0


def paired_values(a: Mapping[int, float], b: Mapping[int, float]) -> tuple[np.ndarray, np.ndarray]:
    """Values of two arms, each given by seed, over the seeds that both have, in one order."""
    seeds = sorted(set(a) & set(b))
    return np.array([a[s] for s in seeds], dtype=np.float64), np.array([b[s] for s in seeds], dtype=np.float64)


def parabola_vertex(y: ArrayLike) -> np.ndarray:
    """Where the parabola through (-1, y₀), (0, y₁), (1, y₂) has its extremum, for y (3, ...), held to ±1; 0 where the
    three points lie on a line."""
    low, middle, high = np.asarray(y, dtype=np.float64)
    bend = low - 2 * middle + high
    flat = bend == 0
    return np.clip(np.where(flat, 0, (low - high) / (2 * np.where(flat, 1, bend))), -1, 1)
