"""Adam's drift: how distance grows with training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from repro.claims.adam_drift.experiment import PUBLISHED_ADAM, PUBLISHED_SGD
from repro.evidence.intervals import Estimate, Unit, geometric, mean_interval, paired_difference
from repro.evidence.spec import Outcome, Verdict
from repro.evidence.tables import SMALLEST, point, select
from repro.evidence.words import bracketed

LEFT = Unit("%", "Share of the variance of distance by epoch that a straight line leaves unexplained, %", log=True)
UNEXPLAINED = Unit("times", "What a law leaves unexplained, over what another leaves, times", 1.0, log=True)
ARMS = {"SGD": PUBLISHED_SGD, "Adam": PUBLISHED_ADAM}
LAWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"linear": lambda t: t, "√t": np.sqrt, "log t": np.log}
POWER = "power of t"


def extrapolate(t: np.ndarray, d: np.ndarray, law: str, kept: int) -> np.ndarray:
    """Distances at all times t (n,), by a law of two constants fitted to the first `kept`."""
    if law == POWER:
        slope, offset = np.polyfit(np.log(t[:kept]), np.log(d[:kept]), 1)
        return np.exp(offset + slope * np.log(t))
    slope, offset = np.polyfit(LAWS[law](t[:kept]), d[:kept], 1)
    return offset + slope * LAWS[law](t)


def distances_by_epoch(table: pd.DataFrame, arm: str) -> pd.DataFrame:
    """Weight distance by epoch and seed, of trials that finished, past the start."""
    rows = select(table, arm=arm, status="finished")
    rows = rows[rows["epoch"] > 0]
    return rows.pivot(index="epoch", columns="init_seed", values="weight_distance").dropna(axis=1)


def growth(table: pd.DataFrame) -> pd.DataFrame:
    """Error (%) of every law, fitted to all but the last two checkpoints, at those two: root mean square, relative,
    mean over seeds. None where it would be fitted to fewer than three, and have as many constants."""
    rows = []
    for arm in (PUBLISHED_SGD, PUBLISHED_ADAM):
        distances = distances_by_epoch(table, arm)
        kept = len(distances) - 2
        for law in (*LAWS, POWER) if kept >= 3 else ():
            t, errors = distances.index.to_numpy(dtype=float), []
            for d in distances.to_numpy().T:
                off = extrapolate(t, d, law, kept)[kept:] / d[kept:] - 1
                errors.append(100 * float(np.sqrt((off**2).mean())))
            rows.append(point(mean_interval(errors), name=law, series=arm))
    return pd.DataFrame(rows, columns=["name", "mean", "low", "high", "n", "series"])


def left_unexplained(table: pd.DataFrame, arm: str, law: str) -> np.ndarray:
    """1 - R² of a + b·`law`(t), with an intercept, fitted to the distance by epoch, as the post draws it: a value a
    seed. A checkpoint counts as the stretch of epochs that it stands for, as if it were drawn at each."""
    distances = distances_by_epoch(table, arm)
    if len(distances) < 4:
        return np.array([])
    t = distances.index.to_numpy(dtype=float)
    ends = np.concatenate([t[:1] - (t[1] - t[0]) / 2, (t[1:] + t[:-1]) / 2, t[-1:]])
    weights = np.diff(ends)
    columns = np.column_stack([np.ones_like(t), LAWS[law](t)]) * np.sqrt(weights)[:, None]
    left = []
    for d in distances.to_numpy().T:
        _, residual, *_ = np.linalg.lstsq(columns, d * np.sqrt(weights), rcond=None)
        about_mean = (weights * (d - np.average(d, weights=weights)) ** 2).sum()
        left.append(max(float(residual[0]) / about_mean, SMALLEST))
    return np.array(left)


def _over(a: np.ndarray, b: np.ndarray) -> Estimate:
    return geometric(paired_difference(np.log(a), np.log(b))).of(UNEXPLAINED)


def judge_growth(table: pd.DataFrame) -> Verdict:
    """Whether Adam's distance grows along a straight line, and SGD's not, as the post draws them."""
    line, root = ({name: left_unexplained(table, arm, law) for name, arm in ARMS.items()} for law in ("linear", "√t"))
    shared = min(map(len, line.values()))
    if shared < 2 or len({len(values) for values in line.values()}) > 1:
        return Verdict(Outcome.INCONCLUSIVE, "Too few paired seeds or checkpoints.")
    left = {name: geometric(mean_interval(np.log(100 * values))).of(LEFT) for name, values in line.items()}
    bends = {name: _over(root[name], line[name]) for name in ARMS}
    straighter = _over(line["Adam"], line["SGD"])
    effects = {
        **{f"{name}, a + bt": e for name, e in left.items()},
        **{f"{name}, a + b√t over a + bt": e for name, e in bends.items()},
        "a + bt, Adam over SGD": straighter,
    }
    told = " and ".join(f"{bracketed(e, '%')} of {name}'s" for name, e in left.items())
    reason = f"A straight line with an intercept leaves {told} distance by epoch unexplained"
    if bends["SGD"].low > 1 or straighter.low > 1:
        which = "SGD's is no less straight" if straighter.low > 1 else "SGD's is as straight as a line"
        return Verdict(Outcome.NOT_REPRODUCED, f"{reason}: {which}.", effects)
    if bends["SGD"].high < 1 and bends["Adam"].low > 1:
        return Verdict(Outcome.REPRODUCED, f"{reason}: Adam's is straight, SGD's bends.", effects)
    if bends["SGD"].high < 1 and bends["Adam"].high < 1 and straighter.high < 1:
        reason += ": Adam's is the straighter, but a square root with an intercept fits it better too"
        return Verdict(Outcome.CONDITIONAL, f"{reason}.", effects)
    return Verdict(Outcome.INCONCLUSIVE, f"{reason}: they are not told apart.", effects)
