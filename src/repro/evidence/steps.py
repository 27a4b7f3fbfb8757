"""Steps to a target by batch size: the best of many trials, each at a learning rate (and momentum) of its own.

A study is one network, dataset and optimizer. At every batch size its trials lie at quasi-random points; each ends
where it meets the target or its budget ends. S(B) is the least number of steps to the target, E(B) = B·S(B) the
examples that takes. McCandlish et al. (2018, eq. 2.11): S = S_min (1 + B_c/B), E = E_min (1 + B/B_c).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy
from numpy.typing import ArrayLike

from repro.evidence.intervals import Estimate

RESAMPLES = 999
NEAR = math.log(2)  # the surface is fitted to trials that take less than twice the least steps
FARTHEST = math.log(1.5)  # that the surface may lie below the best trial
GAINS = math.log(1.02), math.log(1.10)  # what a best on an edge must gain by being there: of rates, of momentum
MET, OUT_OF_BUDGET, DIVERGED = "met", "out of budget", "diverged"
LOSS = 1.2  # a batch is efficient, or still useful, up to this factor of examples, or of steps, above the least
LEAST = 3  # feasible trials that have a best, and batch sizes that have a curve
SOUND = 0.75  # of the batch sizes run, that must have a best inside what was tried


def quasi_random(count: int, dimensions: int, seed: int, name: str = "") -> np.ndarray:
    """Points (count, dimensions) in the unit cube: scipy's Sobol sequence, scrambled, by seed and name. `count` is a
    power of two."""
    return scipy.stats.qmc.Sobol(dimensions, scramble=True, rng=_random(seed, name)).random_base2(
        round(math.log2(count))
    )


def _random(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, *name.encode()])


def checkpoints(first: float, budget: int, ratio: float) -> tuple[int, ...]:
    """Steps at which to look for the target: from `first` on, each `ratio` times the last or one more, below the
    budget. So a trial is seen to meet it at most `ratio` times, or a step, later than it does."""
    found, step = [], max(first, 1.0)
    while (now := round(step)) < budget:
        found.append(now)
        step = max(step * ratio, now + 1.0)
    return tuple(found)


def trials(table: pd.DataFrame) -> pd.DataFrame:
    """A row a trial: its last row, with its `fate`, `steps` to the target, infinite where it did not meet it, and
    whether it did at the `first_look`, before which it may have.

    Between the last look before the target and the one at which it is met, accuracy is taken to rise in proportion to
    the logarithm of the steps.
    """
    held = "validation_accuracy"
    rows = table.sort_values("step").drop_duplicates(["arm", "key", "step"])
    groups = rows.groupby(["arm", "key"], sort=False)
    last = rows[rows["final"]].set_index(["arm", "key"])
    before = groups.nth(-2).set_index(["arm", "key"])[["step", held]].reindex(last.index)
    met = (last["status"] == "finished") & (last[held] >= last["target_accuracy"])
    share = ((last["target_accuracy"] - before[held]) / (last[held] - before[held])).clip(0, 1)
    logs = np.log(last["step"].where(before["step"] < 1, last["step"] / before["step"].clip(lower=1)))
    exact = last["step"] * np.exp((share - 1).where(before["step"] >= 1, 0) * logs)
    fate = np.select([met, last["status"] != "finished"], [MET, DIVERGED], OUT_OF_BUDGET)
    first = met & (before["step"] < 1)
    found = last.assign(steps=exact.where(met, np.inf), fate=fate, first_look=first).reset_index()
    return found.sort_values(["arm", "batch_size", "init_seed"], ignore_index=True)  # what a resample draws hangs on it


def coordinates(rows: pd.DataFrame) -> np.ndarray:
    """Where trials lie, in octaves (n, k): of the effective learning rate η/(1 - m), and of 1 - m where it varies."""
    slow = 1 - rows["momentum"].to_numpy(float)
    found = [np.log2(rows["lr"].to_numpy(float) / slow)]
    if np.ptp(slow) > 0:
        found.append(np.log2(slow))
    return np.stack(found, 1)


def _coefficients(log_steps: np.ndarray, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Coefficients (..., 1 + 2k) of the quadratic surface, without cross terms, nearest to `log_steps` (n,) at `x`
    (n, k), by least squares with `weights` (..., n)."""
    design = np.concatenate([np.ones((len(x), 1)), x, x**2], 1)
    normal = np.einsum("...n,ni,nj->...ij", weights, design, design)
    target = np.einsum("...n,ni,n->...i", weights, design, np.where(np.isfinite(log_steps), log_steps, 0))
    return (np.linalg.pinv(normal, hermitian=True) @ target[..., None])[..., 0]


def _value(coefficients: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A surface of `coefficients` (..., 1 + 2k) at `x` (..., n, k): (..., n)."""
    k = x.shape[-1]
    linear, square = coefficients[..., None, 1 : 1 + k], coefficients[..., None, 1 + k :]
    return coefficients[..., :1] + (linear * x + square * x**2).sum(-1)


class _Surface:
    """The quadratic surface through the trials near the best, of one sample of them or many: near are those at which a
    first surface, through all that take at most four times the least steps, lies less than twice above its least:
    chosen by the surface, not by their own luck. `log_steps` (n,), infinite where infeasible; `x` (n, k); `counts`
    (..., n): how often a sample holds each trial."""

    def __init__(self, log_steps: np.ndarray, x: np.ndarray, counts: np.ndarray) -> None:
        self._middle, self._spread = x.mean(0), x.std(0).clip(1e-9)
        self._x = (x - self._middle) / self._spread
        inside = np.where(counts > 0, log_steps, np.inf)
        wide = inside < inside.min(-1, keepdims=True) + 2 * NEAR
        first = _value(_coefficients(log_steps, self._x, np.where(wide, counts, 0.0)), self._x)
        lowest = np.where(wide, first, np.inf).min(-1, keepdims=True)
        near = np.isfinite(inside) & (first < lowest + NEAR)
        self.coefficients = _coefficients(log_steps, self._x, np.where(near, counts, 0.0))
        self._near = near
        self._low = np.where(near[..., None], self._x, np.inf).min(-2)  # where trials are
        self._high = np.where(near[..., None], self._x, -np.inf).max(-2)
        self.enough = near.sum(-1) >= 3 + 2 * x.shape[1]
        self._best, self._at_best = inside.min(-1), x[inside.argmin(-1)]

    def least(self, margin: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """Its lowest value (...) and where (..., k), no nearer to the ends of where trials are than `margin` of that
        range; of the trials themselves where too few are near. Along one coordinate anywhere between them; of several,
        at the trials and on the lines from the lowest of them to the others: off the ridge on which the best of large
        batches lie, a surface goes anywhere. No lower than FARTHEST below the best of them."""
        inset = margin * (self._high - self._low)
        low, high = self._low + inset, self._high - inset
        if self._x.shape[1] > 1:
            inside = self._near & ((low[..., None, :] <= self._x) & (self._x <= high[..., None, :])).all(-1)
            fitted, at = self._least_on_lines(inside)
        else:
            linear, square = self.coefficients[..., 1:2], self.coefficients[..., 2:3]
            ends = np.where(linear * low + square * low**2 < linear * high + square * high**2, low, high)
            vertex = np.clip(-linear / np.where(square > 0, 2 * square, 1), low, high)
            at = np.where(square > 0, vertex, ends)  # the lower end of a parabola that opens downward
            fitted = _value(self.coefficients, at[..., None, :])[..., 0]
        value = np.where(self.enough, np.maximum(fitted, self._best - FARTHEST), self._best)
        return value, np.where(self.enough[..., None], at * self._spread + self._middle, self._at_best)

    def _least_on_lines(self, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The lowest value (...) and where (..., k) on the lines from the trial `inside` (..., n) at which the surface
        is lowest to all others inside: along each it is a parabola."""
        k = self._x.shape[1]
        values = np.where(inside, _value(self.coefficients, self._x), np.inf)
        lowest = self._x[values.argmin(-1)]
        linear, square = self.coefficients[..., 1 : 1 + k], self.coefficients[..., 1 + k :]
        away = self._x - lowest[..., None, :]
        slope = (away * (linear + 2 * square * lowest)[..., None, :]).sum(-1)
        bend = (away**2 * square[..., None, :]).sum(-1)
        share = np.clip(-slope / np.where(bend > 0, 2 * bend, 1), 0, np.where(inside & (bend > 0), 1, 0))
        gain = share * slope + share**2 * bend
        best = gain.argmin(-1)[..., None]
        at = lowest + np.take_along_axis(share, best, -1) * np.take_along_axis(away, best[..., None], -2)[..., 0, :]
        return values.min(-1) + np.take_along_axis(gain, best, -1)[..., 0], at


@dataclass(frozen=True)
class Size:
    """One batch size of a study: `log_steps` is the logarithm of S, `draws` (RESAMPLES,) the same of bootstrap samples
    of its trials, `where` (k,) and `where_draws` (RESAMPLES, k) the coordinates of the best. `edge` says what bounds
    the best: the end of a coordinate's range, or the first look at a trial."""

    batch_size: int
    log_steps: float
    draws: np.ndarray
    where: np.ndarray
    where_draws: np.ndarray
    edge: str
    fates: Mapping[str, int]

    @property
    def num_trials(self) -> int:
        return sum(self.fates.values())


def _edge(log_steps: np.ndarray, x: np.ndarray, surface: _Surface, looked: np.ndarray) -> str:
    """What bounds the best. The end of a range does where the best is a twelfth of it or less away, the surface lies
    lower there, by its GAINS, than anywhere inside, and no trial beyond was infeasible. That momentum is none bounds
    nothing; where it hardly matters, noise alone tilts the surface.
    `looked` (n,): met at the first look."""
    if (looked & (log_steps < log_steps.min() + NEAR)).any():
        return "first look"
    value, where = surface.least()
    inner, _ = surface.least(1 / 12)
    for k, (low, high) in enumerate((("lowest learning rate", "highest learning rate"), ("highest momentum", ""))):
        if k == x.shape[1]:
            break
        if surface.enough and inner - value < GAINS[k]:
            continue
        margin = np.ptp(x[:, k]) / 12
        if where[k] - x[:, k].min() <= margin and np.isfinite(log_steps[x[:, k] < where[k]]).all():
            return low
        if x[:, k].max() - where[k] <= margin and np.isfinite(log_steps[x[:, k] > where[k]]).all() and high:
            return high
    return ""


def size_of(rows: pd.DataFrame, batch_size: int, name: str = "") -> Size | None:
    """From the rows of `trials` of one batch size of the study `name`, which sets apart what is drawn of it; None where
    fewer than three met the target."""
    fates = {fate: int((rows["fate"] == fate).sum()) for fate in (MET, OUT_OF_BUDGET, DIVERGED)}
    if fates[MET] < LEAST:
        return None
    y, x = np.log(rows["steps"].to_numpy(float)), coordinates(rows)
    values, at, edge = _best(batch_size, name, tuple(y), tuple(map(tuple, x)), tuple(rows["first_look"]), RESAMPLES)
    return Size(batch_size, float(values[0]), values[1:], at[0], at[1:], edge, fates)


@functools.lru_cache(
    maxsize=1024
)  # a chapter asks for the same studies many times, and four chapters for the same ones
def _best(
    batch_size: int,
    name: str,
    log_steps: tuple[float, ...],
    coordinates: tuple[tuple[float, ...], ...],
    looked: tuple[bool, ...],
    resamples: int,
) -> tuple[np.ndarray, np.ndarray, str]:
    """The least log steps (1 + resamples,) of the trials, then of bootstrap samples of them, and where (…, k); and the
    edge that bounds the first."""
    y, x = np.array(log_steps), np.array(coordinates)
    counts = _random(batch_size, name).multinomial(len(y), np.full(len(y), 1 / len(y)), resamples)
    counts[:, np.isfinite(y)] += ~(counts[:, np.isfinite(y)].any(1, keepdims=True))  # a sample that met it nowhere
    values, at = _Surface(y, x, np.concatenate([np.ones((1, len(y))), counts])).least()
    values.flags.writeable = at.flags.writeable = False  # they are everyone's
    return values, at, _edge(y, x, _Surface(y, x, np.ones(len(y))), np.array(looked))


@dataclass(frozen=True)
class Study:
    """The batch sizes of one study whose best lies inside what was tried, in order."""

    name: str
    sizes: tuple[Size, ...]
    infeasible: tuple[int, ...]  # batch sizes run at which the target was not met often enough
    edges: tuple[Size, ...] = ()  # those whose best lies on an edge

    @property
    def _run(self) -> list[int]:
        return sorted([*self.infeasible, *(s.batch_size for s in (*self.sizes, *self.edges))])

    @property
    def is_sound(self) -> bool:
        """Whether enough batch sizes are left to judge it by."""
        return len(self.sizes) >= max(LEAST, SOUND * len(self._run))

    @property
    def ends(self) -> tuple[int, int]:
        """The smallest batch size that was run, and the largest."""
        return self._run[0], self._run[-1]

    @property
    def batch_sizes(self) -> np.ndarray:
        return np.array([s.batch_size for s in self.sizes], dtype=np.float64)

    @functools.cached_property
    def log_steps(self) -> np.ndarray:
        """(1 + RESAMPLES, sizes): what was found, then the bootstrap samples."""
        return np.array([[s.log_steps, *s.draws] for s in self.sizes]).T

    def estimate(self, statistic: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Estimate:
        """`statistic` of (batch sizes (n,), log S (..., n)) -> (...), with the percentile interval over trials."""
        return bootstrapped(statistic(self.batch_sizes, self.log_steps), self.num_trials)

    @property
    def num_trials(self) -> int:
        return sum(s.num_trials for s in self.sizes)


def bootstrapped(values: np.ndarray, num_trials: int) -> Estimate:
    """Of what was found and then of bootstrap samples of trials (1 + RESAMPLES,): the percentile interval, which holds
    what was found."""
    low, high = np.quantile(values[1:], [0.025, 0.975], method="nearest")
    value = float(values[0])
    ends = min(float(low), value), max(float(high), value)
    return Estimate(value, *ends, num_trials, "percentile bootstrap over trials")


def study(name: str, rows: pd.DataFrame) -> Study:
    """The study made of rows of `trials`, all of one arm."""
    sizes_run = rows["batch_size"].unique().tolist()
    found = {b: size_of(rows[rows["batch_size"] == b], b, name) for b in sorted(sizes_run)}
    known = [s for s in found.values() if s]
    infeasible = tuple(b for b, s in found.items() if not s)
    return Study(name, tuple(s for s in known if not s.edge), infeasible, tuple(s for s in known if s.edge))


def steps_at(batch_size: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Statistic: S at one of the study's batch sizes."""
    return lambda sizes, logs: np.exp(logs[..., int(np.flatnonzero(sizes == batch_size)[0])])


def slope(low: float, high: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Statistic: the power of B with which S goes between two batch sizes: -1 in perfect scaling, 0 where a larger
    batch no longer helps."""

    def statistic(sizes: np.ndarray, logs: np.ndarray) -> np.ndarray:
        within = (sizes >= low) & (sizes <= high)
        x = np.log(sizes[within]) - np.log(sizes[within]).mean()
        return logs[..., within] @ x / (x @ x)

    return statistic


def _monotone(values: np.ndarray, increasing: bool) -> np.ndarray:
    """The nearest sequence that only rises, or only falls, along the last axis: what theory says of E, and of S."""
    flat = values.reshape(-1, values.shape[-1])
    found = np.array([scipy.optimize.isotonic_regression(row, increasing=increasing).x for row in flat])
    return found.reshape(values.shape)


def _crossing(x: np.ndarray, rising: np.ndarray, first: int = 1) -> np.ndarray:
    """Where each row of `rising` (..., n) has risen by LOSS, of logarithms, above the mean of its `first` values,
    between points in proportion; the last x where it has not."""
    above = rising - rising[..., :first].mean(-1, keepdims=True) - math.log(LOSS)
    found = np.empty(above.shape[:-1])
    for at in np.ndindex(found.shape):
        row = above[at]
        k = int(np.argmax(row > 0))
        found[at] = x[-1] if row[k] <= 0 else x[k - 1] + (x[k] - x[k - 1]) * -row[k - 1] / (row[k] - row[k - 1])
    return found


def efficient(sizes: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """Statistic: the largest batch size that still scales perfectly: it takes at most LOSS times the examples that the
    smallest (a third of them, four at most) take in the mean. The largest that was run where all do."""
    x = np.log(sizes)
    return np.exp(_crossing(x, _monotone(logs + x, increasing=True), first=max(1, min(4, len(x) // 3))))


def useful(sizes: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """Statistic: the largest useful batch size: beyond it, steps fall by less than a factor of LOSS more. The largest
    that was run where they fall on."""
    x = np.log(sizes)
    falling = _monotone(logs, increasing=False)
    return np.exp(-_crossing(-x[::-1], falling[..., ::-1]))


def critical(sizes: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """Statistic: B_c of S = S_min (1 + B_c/B), by least squares on log S: where it takes twice the least steps, and
    twice the least examples."""
    return np.exp(hyperbola(sizes, logs)[1])


def hyperbola(sizes: ArrayLike, logs: ArrayLike, iterations: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """(log S_min, log B_c) of S = S_min (1 + B_c/B) nearest to log S (..., n), each (...). With log S_min the mean of
    what is left, one unknown remains: golden-section search from 2⁻⁴ times the smallest to 2⁴ times the largest."""
    x, y = np.log(np.asarray(sizes, float)), np.asarray(logs, float)

    def misfit(b: np.ndarray) -> np.ndarray:
        left = y - np.logaddexp(0, b[..., None] - x)
        return left.var(-1)

    low = np.full(y.shape[:-1], x[0] - 4 * math.log(2))
    high = np.full(y.shape[:-1], x[-1] + 4 * math.log(2))
    golden = (math.sqrt(5) - 1) / 2
    for _ in range(iterations):
        a, b = high - golden * (high - low), low + golden * (high - low)
        lower = misfit(a) < misfit(b)
        low, high = np.where(lower, low, a), np.where(lower, b, high)
    b = (low + high) / 2
    return (y - np.logaddexp(0, b[..., None] - x)).mean(-1), b
