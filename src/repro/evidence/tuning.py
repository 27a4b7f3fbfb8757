"""The best learning rate of a grid, with an interval, and how it goes with the batch size."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from repro.evidence.intervals import (
    Estimate,
    bootstrap_interval,
    hinges,
    mean_interval,
    parabola_vertex,
    slope_interval,
)

RESAMPLES = 999
LEAST = 3  # learning rates that have a best one


@dataclass(frozen=True)
class Tuned:
    """The best of a grid of learning rates. `edge` names the end of the grid it sits on: "lowest", "highest" or
    neither, ""; where every higher learning rate was tried and lost a seed to divergence, it is no edge."""

    lr: float
    edge: str
    tried: int  # learning rates
    feasible: int  # learning rates at which every seed finished


def _grid(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """`column` by learning rate, a column a seed, NaN where a trial diverged; empty where nothing has it."""
    if column not in rows:
        return pd.DataFrame()
    values = rows[["lr", "init_seed"]].assign(value=rows[column].where(rows["status"] == "finished", np.inf))
    grid = values.pivot(index="lr", columns="init_seed", values="value").dropna(axis=1)
    return grid.replace([np.inf, -np.inf], np.nan)


def _best(grid: pd.DataFrame, largest: bool) -> Tuned | None:
    means = grid.dropna().mean(axis=1).dropna()
    if means.empty or len(grid) < LEAST:
        return None
    best = float(means.index[int(means.argmax() if largest else means.argmin())])
    ends = {grid.index[0]: "lowest", grid.index[-1]: "highest"}
    return Tuned(best, ends.get(best, ""), len(grid), len(means))


def tune(rows: pd.DataFrame, column: str, largest: bool) -> Tuned | None:
    """The learning rate whose mean of `column` over seeds is largest (or smallest), among those at which every seed
    finished. `rows` are the final rows of one arm, diverged ones too; of an unfinished sweep, the seeds that every
    learning rate has been run with count. None where fewer than three learning rates have such, or none is feasible."""
    return _best(_grid(rows, column), largest)


def cells(rows: pd.DataFrame, columns: list[str], by: str = "batch_size") -> pd.DataFrame:
    """A row a batch size (or other `by`) and learning rate: means of `columns` over the seeds that finished, how many
    trials were run and how many of them diverged. `rows` are final ones, of trials that diverged too."""
    finished = rows["status"] == "finished"
    groups = rows[[by, "lr"]].join(rows[columns].where(finished)).assign(diverged=~finished).groupby([by, "lr"])
    return groups[columns].mean().assign(trials=groups.size(), diverged=groups["diverged"].sum()).reset_index()


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


def _over_seeds(statistic: Callable[..., np.ndarray], n: int) -> Estimate:
    """`statistic` of the positions of n seeds, with its bootstrap interval. It has no value of its own a seed."""
    e = bootstrap_interval(np.arange(n), statistic, np.random.default_rng(0), resamples=RESAMPLES, vectorized=True)
    return dataclasses.replace(e, values=())


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
    found = {}
    for size, rows in arm.groupby("batch_size"):
        losses = _grid(rows, column)
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


def knees(found: Mapping[int, Optimum]) -> list[int]:
    """The batch size at which log lr against log B bends, of three or more on either side: where a bent line fits
    best, then where it fits about as well (`intervals.hinges`). Empty where there are too few."""
    sizes = list(found)
    x = np.log2(sizes)
    places = hinges(x, [o.log2_lr.value for o in found.values()]) if found else []
    return [sizes[list(x).index(at)] for at in places]


def slope(found: Mapping[int, Optimum]) -> Estimate:
    """Slope of log2 lr on log2 B: bootstrapped over the seeds that all batch sizes share, or the least-squares t
    interval about the line, whichever is wider. Not a number below three batch sizes."""
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
    widest = max(over_seeds, about_line, key=lambda e: e.high - e.low)
    return dataclasses.replace(widest, value=over_seeds.value, n=len(shared))


def ratio(a: Optimum, b: Optimum) -> Estimate:
    """How many times the best learning rate of `b` that of `a` is, bootstrapped over the seeds that both share."""
    shared = _shared([a, b])

    def statistic(seeds: np.ndarray, axis: int = -1) -> np.ndarray:
        located = [_locate(o.rates, o.on(shared), seeds, axis) for o in (a, b)]
        return 2.0 ** (located[0] - located[1])

    return _over_seeds(statistic, len(shared)) if shared else mean_interval([])


def noise_scale(found: Mapping[int, Optimum]) -> tuple[float, float] | None:
    """(ε_max, B_noise) of ε_opt(B) = ε_max/(1 + B_noise/B), least squares in the logarithm (McCandlish et al. 2018,
    eq. 2.6); None below four batch sizes."""
    if len(found) < 4:
        return None
    sizes, rates = np.array(list(found), dtype=float), np.array([o.log2_lr.value for o in found.values()])

    def residuals(logs: np.ndarray) -> np.ndarray:
        return logs[0] - np.log2(1 + 2 ** logs[1] / sizes) - rates

    log2_max, log2_noise = least_squares(residuals, (rates.max(), 8.0), bounds=(-40, 40)).x
    return float(2**log2_max), float(2**log2_noise)
