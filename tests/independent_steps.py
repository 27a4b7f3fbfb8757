"""Steps to a target a second time, after the words of the rule, with numpy and scipy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from independent_statistics import Interval, Rows
from scipy import optimize

RESAMPLES = 999
NETWORKS = {"784-256-10": ("mlp", "[256]"), "784-1024-1024-10": ("mlp", "[1024, 1024]"), "LeNet-5": ("lenet5", None)}


def studies(rows: Rows) -> dict[str, Rows]:
    """Trials by network and optimizer; momentum is a method of its own where there is any."""
    found: dict[str, Rows] = {}
    for network, (model, widths) in NETWORKS.items():
        of_network = rows[(rows["model"] == model) & ((rows["widths"] == widths) | (widths is None))]
        plain, moving = (of_network[(of_network["momentum"] > 0) == flag] for flag in (False, True))
        methods = {"SGD": plain[plain["optimizer"] == "sgd"], "momentum": moving[moving["optimizer"] == "sgd"]}
        methods |= {name: of_network[of_network["optimizer"] == name.lower()] for name in ("Nesterov", "Adam")}
        found |= {f"{network}, {method}": trials for method, trials in methods.items() if len(trials)}
    return found


class Point(NamedTuple):
    """A trial: the logarithm of its steps to the target, infinite where it did not meet it; its learning rate over
    1 - m, and 1 - m, in octaves; whether it met the target when it was looked at for the first time."""

    log_steps: float
    rate: float
    slow: float
    looked: bool


def point(looks: Sequence[Mapping[str, Any]]) -> Point:
    """Between the last two looks accuracy is taken to rise in proportion to the logarithm of the steps."""
    by_step = {look["step"]: look for look in looks}
    *earlier, end = (by_step[step] for step in sorted(by_step))
    slow = 1 - end["momentum"]
    where = math.log2(end["lr"] / slow), math.log2(slow)
    reached = end["validation_accuracy"]
    if end["status"] != "finished" or reached < end["target_accuracy"]:
        return Point(math.inf, *where, False)
    if not earlier or earlier[-1]["step"] < 1:
        return Point(math.log(end["step"]), *where, bool(earlier))
    before = earlier[-1]
    share = (end["target_accuracy"] - before["validation_accuracy"]) / (reached - before["validation_accuracy"])
    a, b = math.log(before["step"]), math.log(end["step"])
    return Point(a + min(max(share, 0), 1) * (b - a), *where, False)


class Least(NamedTuple):
    """Of a quadratic surface: its least value; where; how near trials are to every side; and the least farther in."""

    value: float
    where: np.ndarray
    inner: float
    fitted: bool


def least(y: np.ndarray, x: np.ndarray, samples: np.ndarray) -> list[Least]:
    """Of the surface through the trials that a first surface, through all within four times the best, puts within
    twice its own least; for every row of `samples`, how often each trial counts. Of one coordinate it is sought
    anywhere between those trials, of two at them and between the lowest and each of the others, and counts no lower
    than two thirds of the best trial; with fewer than three trials more than it has slopes and bends, the best trial is
    the least."""
    middle, scale, k = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-9), x.shape[1]
    z, met = (x - middle) / scale, np.isfinite(y)
    design = np.hstack([np.ones((len(y), 1)), z, z**2])

    def fitted(kept: np.ndarray, counts: np.ndarray) -> np.ndarray:
        w = np.sqrt(counts[kept])
        return np.linalg.lstsq(w[:, None] * design[kept], w * y[kept], rcond=1e-7)[0]

    def one(counts: np.ndarray) -> Least:
        drawn = met & (counts > 0)
        best = y[drawn].min()
        wide = drawn & (y < best + math.log(4))
        first = design @ fitted(wide, counts)
        near = drawn & (first < first[wide].min() + math.log(2))
        if near.sum() < 3 + 2 * k:
            return Least(best, x[np.flatnonzero(drawn & (y == best))[0]], best, False)
        c, lows, highs = fitted(near, counts), z[near].min(axis=0), z[near].max(axis=0)

        def surface(p: np.ndarray) -> float:
            return float(c[0] + c[1 : 1 + k] @ p + c[1 + k :] @ p**2)

        def lowest(inset: float) -> tuple[float, np.ndarray]:
            low, high = lows + inset * (highs - lows), highs - inset * (highs - lows)
            if k > 1:
                ways = [p for p in z[near] if (low <= p).all() and (p <= high).all()]
                ways += lines(c, min(ways, key=surface), ways) if ways else []
            else:
                vertex = -c[1] / (2 * c[2]) if c[2] > 0 else math.inf
                ways = [low, high] + ([np.array([vertex])] if low[0] < vertex < high[0] else [])
            values = [surface(p) for p in ways]
            if not ways:
                return math.inf, low
            return max(min(values), best - math.log(1.5)), ways[int(np.argmin(values))]

        value, at = lowest(0)
        return Least(value, at * scale + middle, lowest(1 / 12)[0], True)

    return [one(counts) for counts in samples]


def lines(c: np.ndarray, lowest: np.ndarray, others: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Where a quadratic surface is lowest on the way from one point to each of the others, if not at its ends."""
    k, found = len(lowest), []
    for other in others:
        away = other - lowest
        slope, bend = away @ (c[1 : 1 + k] + 2 * c[1 + k :] * lowest), away**2 @ c[1 + k :]
        if bend > 0 and 0 < (share := -slope / (2 * bend)) < 1:
            found.append(lowest + share * away)
    return found


class Curve(NamedTuple):
    """The batch sizes of a study; log S as found, then of every bootstrap sample of trials; whether it can decide."""

    sizes: np.ndarray
    logs: np.ndarray  # (1 + RESAMPLES, sizes)
    sound: bool
    run: tuple[float, float]  # the smallest and the largest that was run

    def of(self, statistic: Callable[[np.ndarray, np.ndarray], float]) -> Interval:
        value, *draws = (statistic(self.sizes, row) for row in self.logs)
        low, high = np.quantile(draws, [0.025, 0.975], method="nearest")
        return Interval(value, min(low, value), max(high, value), len(draws))


def on_edge(y: np.ndarray, x: np.ndarray, found: Least) -> bool:
    """The best within a twelfth of the range tried, two per cent lower than any farther in, of momentum ten, and every
    trial beyond it met the target. A momentum of none is no edge."""
    for i in range(x.shape[1]):
        if found.fitted and found.inner - found.value < math.log(1.1 if i else 1.02):
            continue
        low, high, at = x[:, i].min(), x[:, i].max(), found.where[i]
        if at - low <= (high - low) / 12 and np.isfinite(y[x[:, i] < at]).all():
            return True
        if i == 0 and high - at <= (high - low) / 12 and np.isfinite(y[x[:, i] > at]).all():
            return True
    return False


def curve(rows: Rows, name: str) -> Curve:
    sizes, logs, run = [], [], 0
    for size, group in rows.groupby("batch_size"):
        looks: dict[Any, list[Mapping[str, Any]]] = {}
        for look in group.sort_values("init_seed", kind="stable").to_dict("records"):
            looks.setdefault(look["key"], []).append(look)
        found = [point(of_trial) for of_trial in looks.values()]
        y = np.array([p.log_steps for p in found])
        x = np.array([[p.rate, p.slow] for p in found])
        x = x if np.ptp(x[:, 1]) > 0 else x[:, :1]
        met, run = np.isfinite(y), run + 1
        if met.sum() < 3:
            continue
        counts = np.random.default_rng([int(size), *name.encode()]).multinomial(
            len(y), np.full(len(y), 1 / len(y)), RESAMPLES
        )
        counts[~(counts[:, met] > 0).any(axis=1)] += met  # a sample that met it nowhere
        whole, *drawn = least(y, x, np.vstack([np.ones(len(y)), counts]))
        looked = any(p.looked and p.log_steps < y.min() + math.log(2) for p in found)
        if not looked and not on_edge(y, x, whole):
            sizes.append(float(size))
            logs.append([found.value for found in (whole, *drawn)])
    ends = float(rows["batch_size"].min()), float(rows["batch_size"].max())
    return Curve(np.array(sizes), np.array(logs).T, len(sizes) >= max(3, 0.75 * run), ends)


def power(low: float, high: float) -> Callable[[np.ndarray, np.ndarray], float]:
    def statistic(sizes: np.ndarray, logs: np.ndarray) -> float:
        within = (sizes >= low) & (sizes <= high)
        return float(np.polyfit(np.log(sizes[within]), logs[within], 1)[0])

    return statistic


def perfect_up_to(sizes: np.ndarray, logs: np.ndarray) -> float:
    """Where examples, made to rise alone by pooling neighbours, are 1.2 times those of the smallest batch sizes (a
    third of them, at most four) in the geometric mean."""
    x, pools = np.log(sizes), []
    for value in logs + x:
        pools.append([value, 1])
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, n), (b, m) = pools[-2:]
            pools[-2:] = [[(a * n + b * m) / (n + m), n + m]]
    rising = np.concatenate([np.full(n, value) for value, n in pools])
    level = rising[: max(1, min(4, len(x) // 3))].mean() + math.log(1.2)
    if rising[-1] <= level:
        return float(sizes[-1])
    k = int(np.argmax(rising > level))
    return math.exp(x[k - 1] + (x[k] - x[k - 1]) * (level - rising[k - 1]) / (rising[k] - rising[k - 1]))


def regimes(c: Curve) -> tuple[Interval, Interval] | None:
    """The powers up to eight times the smallest batch size, and from an eighth of the largest on."""
    if not len(c.sizes):
        return None
    end, start = 8 * c.run[0], c.run[1] / 8
    if start <= end or (c.sizes <= end).sum() < 2 or (c.sizes >= start).sum() < 2:
        return None
    return c.of(power(c.run[0], end)), c.of(power(start, c.run[1]))


def verdicts(curves: Mapping[str, Curve]) -> dict[str, bool | None]:
    """By study: both regimes are seen, surely not, or neither can be said."""
    found: dict[str, bool | None] = {}
    for name, c in curves.items():
        both = regimes(c) if c.sound else None
        found[name] = None
        if both:
            small, large = both
            if small.low > -1.15 and small.high < -0.85 and large.low > -1 / 3:
                found[name] = True
            elif small.low > -0.85 or small.high < -1.15 or large.high < -1 / 3:
                found[name] = False
    return found


def figures(e: Interval) -> str:
    """ "34 (31 to 40)": examples."""
    return e.times.replace(" times", "", 1)


def curves(rows: Rows) -> dict[str, Curve]:
    """Of the trials that end at a target."""
    return {name: curve(trials, name) for name, trials in studies(rows[rows["target_accuracy"].notna()]).items()}


def critical(sizes: np.ndarray, logs: np.ndarray) -> float:
    """B_c of S = S_min (1 + B_c/B), by least squares on log S, from 1/16 of the smallest to 16 times the largest."""
    x, reach = np.log(sizes), math.log(16)

    def misfit(b: float) -> float:
        return float((logs - np.log1p(np.exp(b - x))).var())

    found = optimize.minimize_scalar(
        misfit, bounds=(x[0] - reach, x[-1] + reach), method="bounded", options={"xatol": 1e-9}
    )
    return math.exp(found.x)


def noise_scales(rows: Rows) -> dict[str, list[float]]:
    """By study and seed, tr Σ/‖G‖² along training at the smallest batch size, up to where the target is met: the mean
    over the steps, each weighed by what it is worth, B/(B + noise scale); of those that have it at every look."""
    rows = rows[rows["target_accuracy"].isna() & rows["probes"].str.contains("gradient noise")]
    found = {}
    for name, of_study in studies(rows).items():
        means = []
        size = of_study["batch_size"].min()
        for _, trial in of_study[of_study["batch_size"] == size].groupby("init_seed"):
            looks = on_the_way(trial)
            if (looks["status"] == "finished").all() and len(looks) > 2:
                steps, scales = (looks[column].to_numpy(float) for column in ("step", "noise_scale"))
                worth, gaps = size / (size + scales), np.diff(steps)
                above, below = ((v[1:] + v[:-1]) @ gaps for v in (worth * scales, worth))
                means.append(float(above / below))
        found[name] = means if np.isfinite(means).all() else []
    return found


def on_the_way(trial: Rows) -> Rows:
    """A trial's looks up to the first at which the target is met."""
    looks = trial.drop_duplicates("step").sort_values("step")
    target = {"mnist": 0.97, "fashion-mnist": 0.84, "mnist5k": 0.85}[looks["dataset"].iloc[0]]
    after = (looks["validation_accuracy"] >= target).cumsum().shift(fill_value=0)
    return looks[after == 0]


def step_seconds(rows: Rows) -> dict[str, dict[float, float]]:
    """By study and batch size, the least seconds of a step that was timed."""
    found: dict[str, dict[float, float]] = {}
    for name, of_study in studies(rows[rows["final_probes"].str.contains("step times")]).items():
        at_end = of_study[of_study["final"] & (of_study["status"] == "finished")]
        pairs = [
            pair
            for _, row in at_end.iterrows()
            for pair in zip(row["timed_batch_size"], row["run_step_seconds"], strict=True)
        ]
        found[name] = {float(b): min(s for size, s in pairs if size == b) for b in sorted({b for b, _ in pairs})}
    return found


def fastest(seconds: Mapping[float, float], scale: float) -> float:
    """Where (1 + scale/B) times the seconds of a step is least, on a fine grid."""
    known = sorted(seconds)
    grid = np.geomspace(known[0], known[-1], 200_001)
    return float(grid[np.argmin((1 + scale / grid) * np.interp(grid, known, [seconds[b] for b in known]))])


def slowdowns(c: Curve, seconds: Mapping[float, float], batch_sizes: Sequence[float]) -> list[float]:
    """Time to the target at a batch size over the least, as found and in every bootstrap sample of trials."""
    known, values = sorted(seconds), []
    step = [seconds[b] for b in known]
    for logs, at in zip(c.logs, batch_sizes, strict=True):
        everywhere = np.exp(logs) * np.interp(c.sizes, known, step)
        here = math.exp(np.interp(math.log(at), np.log(c.sizes), logs)) * np.interp(at, known, step)
        values.append(here / min(here, everywhere.min()))
    return values


def slowdown(c: Curve, seconds: Mapping[float, float], batch_sizes: Sequence[float]) -> Interval:
    values = slowdowns(c, seconds, batch_sizes)
    low, high = np.quantile(values[1:], [0.025, 0.975], method="nearest")
    return Interval(values[0], min(low, values[0]), max(high, values[0]), len(values) - 1)


def looks(rows: Rows, study: str) -> list[Rows]:
    """By step, after the start, the rows of all seeds in which a study's curvature was measured."""
    rows = rows[rows["target_accuracy"].isna() & rows["probes"].str.contains("gradient noise") & (rows["step"] > 0)]
    found = studies(rows[rows["status"] == "finished"]).get(study)
    if found is None:
        return []
    largest = found[found["batch_size"] == found["batch_size"].max()]
    seeds = [on_the_way(trial) for _, trial in largest.groupby("init_seed")]
    shared = set.intersection(*(set(trial["step"]) for trial in seeds))
    together = pd.concat(seeds)
    by_step = [look for step, look in together.groupby("step") if step in shared]
    return by_step if len(by_step) > 1 else []


def in_theory(by_look: Sequence[Rows], sizes: np.ndarray, momentum: bool) -> np.ndarray:
    """log of the least steps by batch size: between looks the loss is a noisy quadratic, its directions in 30 bins of
    curvature, from a thousandth of the largest on; their second moments go step by step on a grid of steps, by powers
    of the matrix of (θ², θv, v²)."""
    grid = np.unique(np.geomspace(1, 1e6, 160).round())
    ways, largest = [], 0.0
    for now, then in itertools.pairwise(by_look):
        fall = now["train_loss"].mean() - then["train_loss"].mean()
        if fall <= 0:
            continue
        nodes, kinds, weights = [], [], []
        for kind, name in enumerate(("gradient", "noise")):
            for _, row in now.iterrows():
                nodes += list(row[f"{name}_eigenvalue"])
                weights += [w / len(now) for w in row[f"{name}_weight"]]
                kinds += [kind] * len(row[f"{name}_weight"])
        top = np.mean([max(*row["gradient_eigenvalue"], *row["noise_eigenvalue"]) for _, row in now.iterrows()])
        largest = max(largest, top)
        h = top * np.logspace(-3, 0, 30)
        place = np.rint((np.log10(np.clip(np.array(nodes) / top, 1e-3, 1)) + 3) / 3 * 29).astype(int)
        gradient, noise = (
            np.array(
                [
                    sum(w for w, p, q in zip(weights, place, kinds, strict=True) if (p, q) == (i, kind))
                    for i in range(30)
                ]
            )
            for kind in (0, 1)
        )
        ways.append((h, gradient / h**2, noise, fall))
    best = np.full(len(sizes), np.inf)
    for m in (0.0, 0.5, 0.75, 0.9, 0.95, 0.98) if momentum else (0.0,):
        rates = np.append(2.0 ** np.arange(-12, 0, 0.25), [0.9, 0.95, 0.98]) * 2 * (1 + m) / largest
        total = np.zeros((len(rates), len(sizes)))
        for h, start, noise, fall in ways:
            each, curved = np.repeat(rates, 30), np.tile(h, len(rates))
            unstable = (rates[:, None] * h > 2 * (1 + m) * (1 + 1e-9)).any(1)
            moments = _second_moments(curved, np.where(np.repeat(unstable, 30), 0.0, each), m, grid)
            kept, drawn = (x.reshape(len(grid), len(rates), 30) for x in moments)
            level = 0.5 * (h * start).sum() - fall
            signal, spread = ((0.5 * h * w * x).sum(2).T for w, x in ((start, kept), (noise, drawn)))  # (rates, steps)
            for i in range(len(rates)):
                above = signal[i] + spread[i] / sizes[:, None] - level
                total[i] += np.inf if unstable[i] else [_first_below(row, grid) for row in above]
        best = np.minimum(best, total.min(0))
    return np.log(best)


def _second_moments(h: np.ndarray, lr: np.ndarray, m: float, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """E θ² at the grid's steps (t, d): of a start of one at rest without noise, and from none with noise of one."""
    one = np.ones_like(h)
    step = np.array([[1 - lr * h, -lr * m * one], [h, m * one]]).transpose(2, 0, 1)  # of (θ, v)
    push = np.array([[lr**2, -lr], [-lr, one]]).transpose(2, 0, 1)
    powers, sums = [step], [push]
    for _ in range(int(math.log2(grid[-1])) + 1):
        a, s = powers[-1], sums[-1]
        sums.append(s + a @ s @ a.transpose(0, 2, 1))
        powers.append(a @ a)
    kept, drawn = [], []
    for t in grid.astype(int):
        a, s = np.broadcast_to(np.eye(2), step.shape), np.zeros(step.shape)
        for k in range(int(t).bit_length()):
            if t >> k & 1:
                s = sums[k] + powers[k] @ s @ powers[k].transpose(0, 2, 1)
                a = powers[k] @ a
        kept.append(a[:, 0, 0] ** 2)
        drawn.append(s[:, 0, 0])
    return np.array(kept), np.array(drawn)


def _first_below(above: np.ndarray, grid: np.ndarray) -> float:
    """Where it falls below zero, to stay for six entries; between two, in proportion, by the logarithm of steps."""
    below = above <= 0
    for k in range(len(grid) - 5):
        if below[k : k + 6].all():
            if not k:
                return float(grid[0])
            share = above[k - 1] / (above[k - 1] - above[k]) if math.isfinite(above[k - 1]) else 1.0
            return math.exp(math.log(grid[k - 1]) + share * math.log(grid[k] / grid[k - 1]))
    return math.inf
