"""How far networks travel: what is read off the tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from repro.claims.adam_drift.growth import LAWS, POWER, extrapolate
from repro.evidence.intervals import Estimate, Unit, geometric, paired_difference
from repro.evidence.tables import by_seed, final, select

AS_FAR = 1.1  # times: distances that differ by no more count as the same
LEAST_STEPS = 16  # from which on distance is held against a law: before, a few steps decide
HELD_OUT = 2  # checkpoints that a law must foretell
FAR = Unit("times", "Distance from the start, the first named over the second, times", 1.0, ("nearer", "farther"),
           (1 / AS_FAR, AS_FAR), log=True)  # fmt: skip


def ends(table: pd.DataFrame, column: str, factor: float = 1.0, **where: Any) -> dict[int, float]:
    return by_seed(final(table, **where), column, factor)


def over(a: Mapping[int, float], b: Mapping[int, float]) -> Estimate:
    """Geometric mean over the seeds that both have of distances `a` over `b`."""
    shared = sorted(set(a) & set(b))
    first, second = (np.log([values[s] for s in shared]) for values in (a, b))
    return geometric(paired_difference(first, second)).of(FAR)


def path(table: pd.DataFrame, **where: Any) -> dict[int, pd.DataFrame]:
    """By seed, the rows past the start of a trial that finished, from the first checkpoint to the end."""
    rows = select(table, status="finished", **where)
    return {int(str(seed)): g.sort_values("step") for seed, g in rows[rows["step"] > 0].groupby("init_seed")}


def accuracy_on_the_way(rows: pd.DataFrame, distance: float) -> float:
    """Test accuracy of a path (`path`) where it was so far from the start: log error is taken as straight in log
    distance between checkpoints. Not a number beyond them."""
    d = np.maximum.accumulate(rows["weight_distance"].to_numpy(dtype=float))
    if not d[0] <= distance <= d[-1]:
        return float("nan")
    error = np.log(np.maximum(1 - rows["test_accuracy"].to_numpy(dtype=float), 1e-6))
    return 1 - float(np.exp(np.interp(np.log(distance), np.log(d), error)))


def as_far(ours: Mapping[int, pd.DataFrame], others: Mapping[int, pd.DataFrame]) -> dict[int, tuple[float, float]]:
    """By seed of two sets of paths (`path`), the test accuracy of either where the first ends or, if the second ends
    nearer, where that does. Without seeds whose other path starts beyond it."""
    found = {}
    for seed in sorted(set(ours) & set(others)):
        at = float(min(paths[seed]["weight_distance"].iloc[-1] for paths in (ours, others)))
        mine, other = (accuracy_on_the_way(paths[seed], at) for paths in (ours, others))
        if np.isfinite(mine + other):
            found[seed] = (mine, other)
    return found


def distances(table: pd.DataFrame, arm: str) -> dict[int, pd.DataFrame]:
    """By batch size, distance by step (rows) and seed (columns), from LEAST_STEPS on."""
    if table.empty:
        return {}
    rows = select(table, arm=arm, status="finished")
    rows = rows[rows["step"] >= LEAST_STEPS]
    pivots = rows.groupby("batch_size")
    return {
        int(str(size)): g.pivot(index="step", columns="init_seed", values="weight_distance").dropna(axis=1)
        for size, g in pivots
    }


def misses(table: pd.DataFrame, arm: str) -> dict[int, dict[str, np.ndarray]]:
    """By batch size and law, (seeds,): by what share the law, fitted to all but the last HELD_OUT checkpoints, misses
    those: root mean square."""
    found = {}
    for size, grid in distances(table, arm).items():
        kept, t = len(grid) - HELD_OUT, grid.index.to_numpy(dtype=float)
        if kept >= 3 and grid.shape[1]:
            off = {
                law: [extrapolate(t, d, law, kept)[kept:] / d[kept:] - 1 for d in grid.to_numpy().T]
                for law in (*LAWS, POWER)
            }
            found[size] = {law: np.sqrt((np.array(o) ** 2).mean(1)) for law, o in off.items()}
    return found


def slopes(table: pd.DataFrame, arm: str) -> pd.DataFrame:
    """Slope of distance on ln t, from LEAST_STEPS on, by batch size (rows) and seed (columns)."""
    found = {
        size: {seed: float(np.polyfit(np.log(grid.index.to_numpy(dtype=float)), d, 1)[0]) for seed, d in grid.items()}
        for size, grid in distances(table, arm).items()
        if len(grid) > 1
    }
    return pd.DataFrame.from_dict(found, orient="index").sort_index()
