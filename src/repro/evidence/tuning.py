"""The best learning rate of a grid, with an interval, and how it goes with the batch size."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy

from repro.evidence.intervals import (
    Estimate,
    bootstrap_interval,
    mean_interval,
    paired_difference,
    parabola_vertex,
    slope_interval,
)
from repro.evidence.tables import at_chance

RESAMPLES = 999
LEAST = 3  # learning rates that have a best one


@dataclass(frozen=True)
class Tuned:
    """The best of a grid of learning rates. `edge` names the end of the grid that it sits on, or that is just as good:
    "lowest", "highest" or neither, ""; where every higher learning rate was tried and lost a seed to divergence, it is
    no edge."""

    lr: float
    edge: str
    tried: int  # learning rates
    feasible: int  # learning rates at which every seed finished


def _grid(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """`column` by learning rate, a column a seed, NaN where a trial diverged; empty where nothing has it."""
    if column not in rows:
        return pd.DataFrame()
    return _whole_seeds(_pivot(rows, column, ["lr"]))


def _pivot(rows: pd.DataFrame, column: str, by: list[str]) -> pd.DataFrame:
    """`column`, infinite where a trial diverged, by the columns `by`, a column a seed; NaN where none was run."""
    values = rows[[*by, "init_seed"]].assign(value=rows[column].where(rows["status"] == "finished", np.inf))
    return values.pivot(index=by, columns="init_seed", values="value").rename_axis(index=by)


def _whole_seeds(grid: pd.DataFrame) -> pd.DataFrame:
    return grid.dropna(axis=1).replace([np.inf, -np.inf], np.nan)


def _best(grid: pd.DataFrame, largest: bool) -> Tuned | None:
    means = grid.dropna().mean(axis=1).dropna()
    if means.empty or len(grid) < LEAST:
        return None
    best = float(means.index[int(means.argmax() if largest else means.argmin())])
    as_good = means.index[np.isclose(means, means[best], rtol=1e-9, atol=0)]
    edges = [name for end, name in ((grid.index[0], "lowest"), (grid.index[-1], "highest")) if end in as_good]
    return Tuned(best, edges[0] if edges else "", len(grid), len(means))


def tune(rows: pd.DataFrame, column: str, largest: bool) -> Tuned | None:
    """The learning rate whose mean of `column` over seeds is largest (or smallest), among those at which every seed
    finished. `rows` are the final rows of one arm, diverged ones too; of an unfinished sweep, the seeds that every
    learning rate has been run with count. None where fewer than three learning rates have such, or none is feasible."""
    return _best(_grid(rows, column), largest)


def cells(rows: pd.DataFrame, columns: list[str], by: str = "batch_size") -> pd.DataFrame:
    """A row a batch size (or other `by`) and learning rate: means of `columns` over the seeds that finished, how many
    trials were run, how many of them diverged and how many ended at chance. `rows` are final ones, of trials that
    diverged too."""
    finished = rows["status"] == "finished"
    fates = {"diverged": ~finished, "at_chance": at_chance(rows)}
    groups = rows[[by, "lr"]].join(rows[columns].where(finished)).assign(**fates).groupby([by, "lr"])
    counts = {"trials": groups.size(), **{fate: groups[fate].sum() for fate in fates}}
    return groups[columns].mean().assign(**counts).reset_index()


@dataclass(frozen=True)
class Optimum:
    """The best learning rate of one batch size, by a loss. `log2_lr` is between grid points, with its
    bootstrap interval over `seeds`; `losses` (learning rates, seeds) holds NaN where a trial diverged."""

    tuned: Tuned
    log2_lr: Estimate
    rates: np.ndarray
    losses: np.ndarray
    seeds: tuple[int, ...]

    def on(self, seeds: Sequence[int]) -> np.ndarray:
        """`losses` of these seeds alone."""
        return self.losses[:, [self.seeds.index(s) for s in seeds]]


def _shared(found: Iterable[Optimum]) -> list[int]:
    """The seeds that all have."""
    return sorted(set.intersection(*(set(o.seeds) for o in found)))


def _over_seeds(statistic: Callable[..., np.ndarray], n: int, level: float = 0.95) -> Estimate:
    """`statistic` of the positions of n seeds, with its bootstrap interval. It has no value of its own a seed."""
    rng = np.random.default_rng(0)
    e = bootstrap_interval(np.arange(n), statistic, rng, level, resamples=RESAMPLES, vectorized=True)
    return dataclasses.replace(e, values=())


def _joined(a: Estimate, b: Estimate, method: str) -> Estimate:
    """`a` with an interval that holds that of `b` too."""
    return dataclasses.replace(a, low=min(a.low, b.low), high=max(a.high, b.high), method=f"{a.method}, {method}")


def tuned_difference(a: pd.DataFrame, b: pd.DataFrame, level: float = 0.95) -> Estimate:
    """Mean difference in test accuracy (points) over the seeds that both share, `a` minus `b`, the final rows of an arm
    each, at each one's learning rate of highest mean validation accuracy. Its interval joins the paired t interval at
    those rates and the bootstrap over seeds in which every sample chooses its own, so that the luck of choosing among
    rates that are about as good counts. Of no seed where an arm has no best rate."""
    tuned = [_best(_grid(rows, "validation_accuracy"), largest=True) for rows in (a, b)]
    grids = [[_grid(rows, column) for column in ("validation_accuracy", "test_accuracy")] for rows in (a, b)]
    seeds = sorted(set.intersection(*(set(grid.columns) for pair in grids for grid in pair)))
    if None in tuned or not seeds:
        return mean_interval([])
    known = [[grid[seeds].to_numpy() for grid in pair] for pair in grids]

    def statistic(kept: np.ndarray, axis: int = -1) -> np.ndarray:
        tests = []
        for held_out, test in known:
            means = [x[:, kept.astype(int)].mean(axis=axis if axis < 0 else axis + 1) for x in (held_out, test)]
            best = np.argmax(np.where(np.isnan(means[0]), -np.inf, means[0]), axis=0)[None]
            tests.append(np.take_along_axis(means[1], best, 0)[0])
        return np.asarray(100 * (tests[0] - tests[1]))

    at_best = [100 * pair[1].loc[chosen.lr, seeds] for pair, chosen in zip(grids, tuned, strict=True) if chosen]
    paired = paired_difference(at_best[0], at_best[1], level)
    return _joined(paired, _over_seeds(statistic, len(seeds), level), "joined with the bootstrap over choices")


def _locate(rates: np.ndarray, losses: np.ndarray, seeds: np.ndarray, axis: int = -1) -> np.ndarray:
    """log2 of the learning rate of the least mean loss over `seeds` (..., n): the vertex of the parabola through the
    best of the grid and its neighbours, or that best itself where a neighbour diverged or is lacking."""
    means = losses[:, seeds.astype(int)].mean(axis=axis if axis < 0 else axis + 1)
    best = np.argmin(np.where(np.isnan(means), np.inf, means), axis=0)[None]
    padded = np.pad(means, [(1, 1), *([(0, 0)] * (means.ndim - 1))], constant_values=np.nan)
    near = np.concatenate([np.take_along_axis(padded, best + k, 0) for k in range(3)])
    offset = np.where(np.isnan(near).any(axis=0), 0.0, parabola_vertex(near))
    spacing = math.log2(rates[1] / rates[0])
    return np.log2(rates)[best[0]] + offset * spacing


@functools.lru_cache(maxsize=1024)
def _best_log2_lr(rates: tuple[float, ...], losses: tuple[tuple[float, ...], ...]) -> Estimate:
    """log2 of the best learning rate, with its bootstrap interval over seeds; a page asks for the same ones often."""
    return _over_seeds(functools.partial(_locate, np.array(rates), np.array(losses)), len(losses[0]))


def optima(arm: pd.DataFrame, column: str = "validation_loss") -> dict[int, Optimum]:
    """By batch size, for those at which a learning rate is feasible, the least mean of `column`. `arm` holds the final
    rows of one arm, of trials that diverged too."""
    found: dict[int, Optimum] = {}
    if column not in arm or arm.empty:
        return found
    for size, grid in _pivot(arm, column, ["batch_size", "lr"]).groupby(level="batch_size"):
        losses = _whole_seeds(grid.droplevel("batch_size"))
        tuned = _best(losses, largest=False)
        if tuned is None:
            continue
        rates, values = losses.index.to_numpy(dtype=float), losses.to_numpy()
        estimate = _best_log2_lr(tuple(rates.tolist()), tuple(map(tuple, values.tolist())))
        found[int(str(size))] = Optimum(tuned, estimate, rates, values, tuple(map(int, losses.columns)))
    return found


def inner(found: Mapping[int, Optimum]) -> dict[int, Optimum]:
    """Those that do not sit on an edge of the grid."""
    return {size: o for size, o in found.items() if not o.tuned.edge}


def slope(found: Mapping[int, Optimum]) -> Estimate:
    """Slope of log2 lr on log2 B. Its interval joins two: bootstrapped over the seeds that all batch sizes share, and
    the least-squares t interval about the line. Not a number below three batch sizes."""
    if len(found) < 3:
        return mean_interval([])
    x = np.log2(list(found))
    centred = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    shared = _shared(found.values())
    if not shared:
        return mean_interval([])
    grids = [(o.rates, o.on(shared)) for o in found.values()]

    def statistic(seeds: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.tensordot(centred, np.stack([_locate(*grid, seeds, axis) for grid in grids]), 1)

    over_seeds = _over_seeds(statistic, len(shared))
    about_line = slope_interval(x, [o.log2_lr.value for o in found.values()])
    return _joined(over_seeds, about_line, "joined with the t interval about the line")


def falls_to_half(found: Mapping[int, Optimum], largest: int) -> Estimate:
    """The batch size at which the best learning rate first falls below half of what a line in proportion to B gives,
    put through those of batch sizes up to `largest`; between batch sizes, log lr is taken as straight in log B. Where
    it never does, the largest batch size. Its interval joins two, over the seeds that all batch sizes share: the
    bootstrap's, too short where seeds are few, and the t interval of the logarithms that each seed alone gives."""
    shared = _shared(found.values()) if found else []
    x = np.log2(list(found))
    small = x <= math.log2(largest)
    if not shared or not small.any():
        return mean_interval([])
    grids = [(o.rates, o.on(shared)) for o in found.values()]

    def statistic(seeds: np.ndarray, axis: int = -1) -> np.ndarray:
        behind = np.stack([_locate(*grid, seeds, axis) for grid in grids])
        behind = behind - np.reshape(x, (-1, *[1] * (behind.ndim - 1)))
        behind = behind - behind[small].mean(axis=0) + 1  # below 0: less than half of the line's
        end = np.full(behind.shape[1:], x[-1])
        for k in range(len(x) - 1, 0, -1):
            if not small[k]:
                before, after = behind[k - 1], behind[k]
                crosses = (before >= 0) & (after < 0)
                share = before / np.where(crosses, before - after, 1)
                end = np.where(crosses, x[k - 1] + share * (x[k] - x[k - 1]), end)
        return end

    alone = mean_interval([float(statistic(np.array([seed]))) for seed in range(len(shared))])
    e = _joined(_over_seeds(statistic, len(shared)), alone, "joined with the t interval of single seeds")
    return dataclasses.replace(e, value=2**e.value, low=2**e.low, high=min(2**e.high, float(max(found))))


def ratio(a: Optimum, b: Optimum) -> Estimate:
    """How many times the best learning rate of `b` that of `a` is, bootstrapped over the seeds that both share."""
    shared = _shared([a, b])

    def statistic(seeds: np.ndarray, axis: int = -1) -> np.ndarray:
        located = [_locate(o.rates, o.on(shared), seeds, axis) for o in (a, b)]
        return 2.0 ** (located[0] - located[1])

    return _over_seeds(statistic, len(shared)) if shared else mean_interval([])


def noise_scale(found: Mapping[int, Optimum]) -> tuple[float, Estimate] | None:
    """(ε_max, B_noise) of ε_opt(B) = ε_max/(1 + B_noise/B), least squares in the logarithm (McCandlish et al. 2018,
    eq. 2.6), B_noise with the t interval of its logarithm; None below four batch sizes."""
    if len(found) < 4:
        return None
    x, y = np.log2(list(found)), np.array([o.log2_lr.value for o in found.values()])
    fit = _law(x, y)
    log2_max, log2_noise = fit.x
    free = len(x) - 2
    covariance = np.linalg.pinv(fit.jac.T @ fit.jac) * 2 * fit.cost / free
    half = float(scipy.stats.t.ppf(0.975, free) * math.sqrt(covariance[1, 1]))
    low, high = (2.0 ** float(np.clip(log2_noise + side * half, -60, 60)) for side in (-1, 1))
    method = "least squares, t interval of the logarithm"
    return float(2**log2_max), Estimate(float(2**log2_noise), low, high, len(x), method)


def _law(x: np.ndarray, y: np.ndarray) -> Any:
    """scipy's fit of ε_max/(1 + B_noise/B), both parameters as powers of two, to log2 lr `y` at log2 B `x`."""
    return scipy.optimize.least_squares(
        lambda p: p[0] - np.log2(1 + 2 ** (p[1] - x)) - y, (y.max(), 8.0), bounds=(-40, 40)
    )


LINE, LAW, HINGE = "one line", "the smooth law", "a bent line"


def hinge(x: np.ndarray, y: np.ndarray, least: int = 3) -> tuple[float, np.ndarray]:
    """Two straight lines that meet, fitted to y on x, (n,) each and x rising, by least squares: the x at which they
    meet, of those that have `least` points up to them and `least` from them on, and (intercept, slope, change of slope
    there). ValueError where no x has."""
    if len(x) < 2 * least - 1:
        raise ValueError(f"a bent line needs {2 * least - 1} points, got {len(x)}")
    fits = []
    for at in x[least - 1 : len(x) - least + 1]:
        columns = np.column_stack([np.ones_like(x), x, np.maximum(x - at, 0)])
        solution = np.linalg.lstsq(columns, y, rcond=None)[0]
        fits.append((float(((y - columns @ solution) ** 2).sum()), float(at), solution))
    _, at, solution = min(fits, key=lambda fit: fit[0])
    return at, solution


def left_out_errors(found: Mapping[int, Optimum]) -> dict[str, np.ndarray]:
    """By form, LINE, LAW (`noise_scale`) or HINGE (`hinge`): by how many octaves the best learning rate of each batch
    size is missed, (sizes,), by the form fitted to those of all others. Empty below eight batch sizes."""
    if len(found) < 8:
        return {}
    x, y = np.log2(list(found)), np.array([o.log2_lr.value for o in found.values()])

    def by_line(a: np.ndarray, b: np.ndarray, at: float) -> float:
        return float(np.polyval(np.polyfit(a, b, 1), at))

    def by_law(a: np.ndarray, b: np.ndarray, at: float) -> float:
        log2_max, log2_noise = _law(a, b).x
        return float(log2_max - np.log2(1 + 2 ** (log2_noise - at)))

    def by_hinge(a: np.ndarray, b: np.ndarray, at: float) -> float:
        bend, solution = hinge(a, b)
        return float(solution @ [1, at, max(at - bend, 0)])

    others = [np.arange(len(x)) != k for k in range(len(x))]
    return {
        name: np.array([abs(form(x[kept], y[kept], x[k]) - y[k]) for k, kept in enumerate(others)])
        for name, form in ((LINE, by_line), (LAW, by_law), (HINGE, by_hinge))
    }
