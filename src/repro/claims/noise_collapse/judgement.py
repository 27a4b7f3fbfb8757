"""Noise collapse: how it is judged, and what the reader is told."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from repro.claims.noise_collapse.experiment import DECAY, GRID, MOMENTUM, SIZES, SMALL
from repro.evidence.intervals import (
    Estimate,
    Unit,
    bootstrap_interval,
    equivalence_p,
    mean_interval,
    parabola_vertex,
    slope_interval,
)
from repro.evidence.spec import Outcome, Verdict
from repro.evidence.tables import margin_for, select
from repro.evidence.tuning import tune, tuned_difference
from repro.evidence.words import bracketed

MARGIN = 0.3  # percentage points of 10,000 test images
FITS = 0.99  # least mean training accuracy of a cell that counts as trained
HALF = 0.5  # spread within groups over that between them: below, they collapse
ALIKE = (0.75, 4 / 3)  # exponents that count as 1
RESAMPLES = 999
RESOLVED = 4.0  # times the variance of luck: what settings must differ by
LEAST = 3  # cells of a group, and points of a slope
SPREAD = Unit("times", "Spread of test accuracy within groups, over that between groups, times", 1.0,
              ("collapses", "does not"), log=True)  # fmt: skip
EXPONENT = Unit("", "Exponent with which the best batch size goes", 1.0, ("lower", "higher"), ALIKE)
TOGETHER, ALL, KNOB = (
    "within groups of equal η/B over between, trained networks",
    "the same, those that do not fit too",
    "within groups of equal weight decay over B, over between",
)


@dataclass(frozen=True)
class Cells:
    """Test accuracy (points) of an arm's settings: `values` (cells, seeds) and a table of what each cell is, among
    it `noise`: log2 of ηN/(B(1 - m))."""

    about: pd.DataFrame
    values: np.ndarray
    seeds: tuple[int, ...] = ()

    def where(self, keep: pd.Series) -> Cells:
        return Cells(self.about[keep].reset_index(drop=True), self.values[keep.to_numpy()], self.seeds)

    def on(self, seeds: tuple[int, ...]) -> Cells:
        """Of these seeds alone."""
        return Cells(self.about, self.values[:, [self.seeds.index(s) for s in seeds]], seeds)


COLUMNS = ["batch_size", "lr", "momentum", "weight_decay", "train_size"]


def cells(table: pd.DataFrame, arm: str) -> Cells:
    """An arm's settings, over the seeds that all of them were run with. A trial that diverged has the accuracy that it
    ended with."""
    rows = select(table, arm=arm, final=True) if "arm" in table and len(table) else table.iloc[:0]
    if rows.empty:
        return Cells(pd.DataFrame(columns=[*COLUMNS, "noise", "train"], dtype=float), np.zeros((0, 0)))
    test, train = (
        rows.pivot(index=COLUMNS, columns="init_seed", values=f"{split}_accuracy") for split in ("test", "train")
    )
    known = test.notna().all(axis=0) & train.notna().all(axis=0)
    test, train = test.loc[:, known], train.loc[:, known]
    about = test.index.to_frame(index=False)
    noise = about["lr"] * about["train_size"] / (about["batch_size"] * (1 - about["momentum"]))
    about = about.assign(noise=np.log2(noise).round(6), train=train.mean(axis=1).to_numpy())
    return Cells(about, 100 * test.to_numpy(), tuple(map(int, test.columns)))


def is_small(about: pd.DataFrame) -> pd.Series:
    """Whether the batch is small beside the training set."""
    return about["batch_size"] * SMALL <= about["train_size"]


def ratio_of(labels: np.ndarray) -> Callable[..., np.ndarray]:
    """A function of mean accuracies (cells, ...) and of the variance that luck gives such a mean: standard deviation
    within groups of equal label, less that of luck, over that between groups, by the analysis of variance with groups
    of unequal size."""
    _, group = np.unique(labels, return_inverse=True)
    member = np.eye(group.max() + 1)[group]  # (cells, groups)
    counts, n = member.sum(0), len(labels)
    size = (n - (counts**2).sum() / n) / (len(counts) - 1)

    def ratio(y: np.ndarray, luck: np.ndarray | float = 0.0) -> np.ndarray:
        y = y - y.mean(0)
        sums = np.tensordot(member.T, y, 1)
        explained = (sums**2 / counts.reshape(-1, *[1] * (y.ndim - 1))).sum(0)
        within = ((y**2).sum(0) - explained) / (n - len(counts))
        between = (explained / (len(counts) - 1) - within) / size
        return np.asarray(np.sqrt(np.maximum(within - luck, 0) / np.maximum(between, 1e-9)))

    return ratio


def luck_of(values: np.ndarray) -> np.ndarray:
    """Variance of a cell's mean over seeds, of (cells, seeds, ...), on average; what a seed does to all cells alike is
    none, for it is no difference between them."""
    apart = values - values.mean(0)
    return np.asarray(apart.var(1, ddof=1).mean(0) / values.shape[1])


def in_groups(found: Cells, by: str) -> Cells:
    """The cells in groups of LEAST or more that have `by` in common."""
    return found.where(found.about.groupby(by)[by].transform("size") >= LEAST)


def spread(found: Cells, by: str) -> Estimate:
    """`ratio_of` the cells by groups of equal `by`, bootstrapped over seeds. Of no seed without two groups."""
    found = in_groups(found, by)
    if found.about[by].nunique() < 2 or found.values.shape[1] < 2:
        return mean_interval([]).of(SPREAD)
    ratio = ratio_of(found.about[by].to_numpy())

    def statistic(seeds: np.ndarray, axis: int = -1) -> np.ndarray:
        drawn = np.moveaxis(found.values[:, seeds.astype(int)], axis if axis < 0 else axis + 1, 1)
        return ratio(drawn.mean(1), luck_of(drawn))

    return _over_seeds(statistic, found.values.shape[1]).of(SPREAD)


def resolved(found: Cells, by: str) -> bool:
    """Whether cells differ by more than luck: their variance is RESOLVED times that."""
    values = in_groups(found, by).values
    return bool(values.mean(1).var(ddof=1) > RESOLVED * luck_of(values))


def chance(found: Cells, by: str) -> float:
    """p of the permutation test: how often cells dealt out to the groups at random spread as little within them."""
    found = in_groups(found, by)
    labels, means = found.about[by].to_numpy(), found.values.mean(1)
    ratio, rng = ratio_of(labels), np.random.default_rng(0)
    dealt = np.stack([rng.permutation(means) for _ in range(RESAMPLES)], axis=1)
    return float((1 + (ratio(dealt) <= ratio(means)).sum()) / (RESAMPLES + 1))


def _over_seeds(statistic: Callable[..., np.ndarray], n: int) -> Estimate:
    rng = np.random.default_rng(0)
    found = bootstrap_interval(np.arange(n), statistic, rng, resamples=RESAMPLES, vectorized=True)
    return Estimate(found.value, found.low, found.high, n, found.method)


def trained(found: Cells) -> Cells:
    """Small batches that fit."""
    return found.where(is_small(found.about) & (found.about["train"] >= FITS))


def judge_together(table: pd.DataFrame) -> Verdict:
    """Whether accuracy goes with η/B, among networks that fit; and the control with an unrelated knob."""
    grid, knob = cells(table, GRID), cells(table, DECAY)
    decays = knob.about.assign(knob=np.log2(knob.about["weight_decay"] / knob.about["batch_size"]).round(6))
    e = spread(trained(grid), "noise")
    every = spread(grid.where(is_small(grid.about)), "noise")
    control = spread(trained(Cells(decays, knob.values, knob.seeds)), "knob")
    effects = {TOGETHER: e, ALL: every, KNOB: control}
    if min(e.n, control.n) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Too few settings that fit, or too few seeds.", effects)
    p = chance(trained(grid), "noise")
    reason = (
        f"Among networks that fit, test accuracy within groups of equal η/B spreads {bracketed(e, 'times')} as much as "
        f"between them (permutation test, p = {p:.3f}); of equal weight decay over B, {bracketed(control, 'times')}"
    )
    if not resolved(trained(grid), "noise"):
        return Verdict(Outcome.INCONCLUSIVE, f"{reason}: but settings differ by little more than luck.", effects)
    learns = every.high < HALF  # at least whether a network learns goes with η/B
    if e.low > HALF and not learns:
        return Verdict(Outcome.NOT_REPRODUCED, f"{reason}.", effects)
    if control.low <= e.high:
        return Verdict(Outcome.INCONCLUSIVE, f"{reason}: what has nothing to do with it collapses as well.", effects)
    if e.high < HALF and p < 0.05:
        return Verdict(Outcome.REPRODUCED, f"{reason}.", effects)
    if e.low > HALF:
        reason += f"; with those that do not fit, {bracketed(every, 'times')}"
    return Verdict(Outcome.CONDITIONAL if e.low > HALF else Outcome.INCONCLUSIVE, f"{reason}.", effects)


@dataclass(frozen=True)
class Peaks:
    """Where accuracy is highest over batch sizes, for several values of something: log2 of both, and whether any lies
    on an edge."""

    at: np.ndarray
    batch: Estimate  # the slope
    edge: bool
    log2_best: np.ndarray


def peaks(found: Cells, by: str) -> Peaks | None:
    """The best batch size for every `by`, between batch sizes by a parabola, and its slope in logarithms, bootstrapped
    over seeds and joined with the t interval about the line. None below LEAST values."""
    groups = [(float(str(x)), rows.sort_values("batch_size").index.to_numpy()) for x, rows in found.about.groupby(by)]
    groups = [(x, rows) for x, rows in groups if len(rows) >= LEAST]
    if len(groups) < LEAST or found.values.shape[1] < 2:
        return None
    x = np.log2([x for x, _ in groups])
    centred = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    sizes = [np.log2(found.about["batch_size"].to_numpy(dtype=float)[rows]) for _, rows in groups]

    def best(seeds: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.stack(
            [
                _peak(size, found.values[rows][:, seeds.astype(int)].mean(axis=axis if axis < 0 else axis + 1))
                for size, (_, rows) in zip(sizes, groups, strict=True)
            ]
        )

    n = found.values.shape[1]
    now = best(np.arange(n))
    over_seeds = _over_seeds(lambda seeds, axis=-1: np.tensordot(centred, best(seeds, axis), 1), n)
    line = slope_interval(x, now)
    slope = Estimate(
        over_seeds.value, min(over_seeds.low, line.low), max(over_seeds.high, line.high), n,
        f"{over_seeds.method}, joined with the t interval about the line",
    )  # fmt: skip
    means = [found.values[rows].mean(1) for _, rows in groups]
    edge = any(y.argmax() in (0, len(y) - 1) for y in means)
    return Peaks(x, slope.of(EXPONENT), edge, now)


def _peak(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x (n,) at which y (n, ...) is largest: the vertex of the parabola through the largest and its neighbours."""
    best = y.argmax(0)[None]
    padded = np.pad(y, [(1, 1), *([(0, 0)] * (y.ndim - 1))], constant_values=np.nan)
    near = np.concatenate([np.take_along_axis(padded, best + k, 0) for k in range(3)])
    spacing = x[1] - x[0]
    offset = np.where(np.isnan(near).any(0), 0.0, parabola_vertex(-near))
    return np.asarray(x[best[0]] + offset * spacing)


def judge_peaks(found: Cells, by: str, what: str) -> Verdict:
    """Whether the best batch size goes in proportion to `by`."""
    p = peaks(found.where(is_small(found.about)), by)
    if p is None:
        return Verdict(Outcome.INCONCLUSIVE, "Too few settings or seeds.")
    effects = {f"exponent of the best batch size with {what}": p.batch}
    low, high = 2 ** p.log2_best.min(), 2 ** p.log2_best.max()
    reason = f"The best batch size, from {low:.0f} to {high:.0f}, goes as {what} to the {bracketed(p.batch)}"
    if p.edge:
        return Verdict(Outcome.INCONCLUSIVE, f"{reason}; but some of them are the smallest or largest tried.", effects)
    if ALIKE[0] <= p.batch.low and p.batch.high <= ALIKE[1]:
        return Verdict(Outcome.REPRODUCED, f"{reason}.", effects)
    return Verdict(Outcome.NOT_REPRODUCED if p.batch.excludes(1) else Outcome.INCONCLUSIVE, f"{reason}.", effects)


def points(table: pd.DataFrame, axis: str) -> Unit:
    margin = margin_for(table, MARGIN)
    return Unit("points", f"Test accuracy, {axis}, percentage points", 0.0, ("worse", "better"), (-margin, margin))


def residuals(found: Cells, of: Cells) -> np.ndarray:
    """Of every cell, (cells, seeds): accuracy minus the mean of the trained cells of `of` with equal noise; NaN where
    there are none."""
    shared = tuple(s for s in found.seeds if s in of.seeds)
    found, known = found.on(shared), trained(of).on(shared)
    by_noise = {x: known.values[rows].mean(0) for x, rows in known.about.groupby("noise").indices.items()}
    nothing = np.full(found.values.shape[1], math.nan)
    expected = [by_noise.get(x, nothing) for x in found.about["noise"]]
    return found.values - np.array(expected).reshape(found.values.shape)


def judge_momentum(table: pd.DataFrame) -> Verdict:
    """Whether a network trained with momentum tests as one without does at equal η/(B(1 - m))."""
    found = trained(cells(table, MOMENTUM))
    left = residuals(found, cells(table, GRID)) if len(found.about) else np.zeros((0, 0))
    left = left[~np.isnan(left).any(1)] if left.size else left
    e = mean_interval(left.mean(0) if left.size else []).of(points(table, "with momentum minus without, equal noise"))
    effects = {"test accuracy with momentum minus without, at equal η/(B(1 − m))": e}
    if e.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    worst = left.mean(1)[np.abs(left.mean(1)).argmax()]
    reason = (
        f"At equal η/(B(1 − m)) it tests {bracketed(e, 'points')} beside a network without momentum, on average over "
        f"{len(left)} settings; {worst:+.2f} where it differs most.".replace("-", "−")
    )
    margin = margin_for(table, MARGIN)
    if equivalence_p(e.values, [0.0] * e.n, margin) < 0.05:
        return Verdict(Outcome.REPRODUCED, reason, effects)
    outcome = Outcome.NOT_REPRODUCED if e.low > margin or e.high < -margin else Outcome.INCONCLUSIVE
    return Verdict(outcome, reason, effects)


def judge_whole(table: pd.DataFrame) -> Verdict:
    """Whether the relation is gone where a batch is half of the training set or all of it."""
    grid = cells(table, GRID)
    large = grid.where(grid.about["batch_size"] * 2 >= grid.about["train_size"])
    left = residuals(large, grid) if len(large.about) else np.zeros((0, 0))
    left = left[~np.isnan(left).any(1)] if left.size else left
    e = mean_interval(left.mean(0) if left.size else []).of(points(table, "batches of half of all images or more"))
    effects = {"test accuracy, batches of half of all images or more, minus small ones at equal η/B": e}
    if e.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds, or at no noise that small batches have.", effects)
    reason = f"Batches of half of the images or more test {bracketed(e, 'points')} beside small ones of equal η/B."
    margin = margin_for(table, MARGIN)
    if equivalence_p(e.values, [0.0] * e.n, margin) < 0.05:
        return Verdict(Outcome.NOT_REPRODUCED, reason, effects)
    return Verdict(Outcome.REPRODUCED if e.low > margin or e.high < -margin else Outcome.INCONCLUSIVE, reason, effects)


def judge_tuned(table: pd.DataFrame) -> Verdict:
    """Whether, each at its best learning rate, the larger of two batch sizes tests worse."""
    rows = select(table, arm=GRID, final=True) if "arm" in table and len(table) else table
    sizes = sorted({b for b in rows["batch_size"] if b > 1}) if len(rows) else []
    few = [b for b in sizes if b * SMALL <= rows["train_size"].iloc[0]]
    if len(few) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two batch sizes.")
    large, small = sizes[-1], few[len(few) // 2]
    pair = select(rows, batch_size=large), select(rows, batch_size=small)
    best = [tune(size, "validation_accuracy", largest=True) for size in pair]
    e = tuned_difference(*pair).of(points(table, "whole training set minus a small batch, both tuned"))
    effects = {f"test accuracy, B = {large} minus B = {small}, each tuned": e}
    if e.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    reason = f"Each at its best learning rate, B = {large} tests {bracketed(e, 'points')} beside B = {small}."
    if any(b and b.edge for b in best):
        return Verdict(Outcome.INCONCLUSIVE, f"{reason} One of these rates is the lowest or highest tried.", effects)
    margin = margin_for(table, MARGIN)
    if tuned_difference(*pair, 0.9).within(margin) or e.low > 0:
        return Verdict(Outcome.NOT_REPRODUCED, reason, effects)
    return Verdict(Outcome.REPRODUCED if e.high < 0 else Outcome.INCONCLUSIVE, reason, effects)


def judge(table: pd.DataFrame) -> Verdict:
    if "arm" not in table or table.empty:
        return Verdict(Outcome.INCONCLUSIVE, "No trial has been run.")
    together, grid = judge_together(table), cells(table, GRID)
    steady = grid.where(grid.about["lr"] < grid.about["lr"].max())
    parts = {
        "The best batch size goes as the learning rate": judge_peaks(steady, "lr", "η"),
        "The best batch size goes as the number of training examples": judge_peaks(
            cells(table, SIZES), "train_size", "N"
        ),
        "With momentum it is η/(B(1 − m))": judge_momentum(table),
        "It vanishes as B approaches N": judge_whole(table),
        "Each tuned, the whole training set tests worse than a small batch": judge_tuned(table),
    }
    return Verdict(together.outcome, together.reason, together.effects, parts)


def answer(table: pd.DataFrame, verdict: Verdict) -> str:
    e = verdict.effects.get(TOGETHER)
    if e is None or e.n < 2:
        return "Not settled: too few settings have been run that fit."
    told = f"At equal η/B networks that fit differ {bracketed(e, 'times')} as much in test accuracy as at others"
    if verdict.outcome == Outcome.REPRODUCED:
        return f"Yes, while the batch is small beside the training set. {told}."
    if verdict.outcome == Outcome.CONDITIONAL:
        every = verdict.effects[ALL]
        return f"Only for whether they learn at all ({bracketed(every, 'times')}). {told}."
    return f"{'No' if verdict.outcome == Outcome.NOT_REPRODUCED else 'Not settled'}. {told}."


def means(found: Cells) -> Iterable[tuple[pd.Series, Estimate]]:
    """Every cell and the mean over its seeds."""
    for (_, about), values in zip(found.about.iterrows(), found.values, strict=True):
        yield about, mean_interval(values.tolist())
