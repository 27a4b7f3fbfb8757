"""Noise collapse: how it is judged, and what the reader is told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from repro.claims.noise_collapse.experiment import DECAY, GRID, LONGER, MOMENTUM, SIZES, SLOW, SMALL
from repro.claims.noise_collapse.groups import (
    LEAST,
    MOST,
    Cells,
    cells,
    chance,
    excess,
    in_groups,
    over_seeds,
    resolved,
    small,
    spread,
    trained,
    without_one,
)
from repro.evidence.intervals import Estimate, Unit, mean_interval, parabola_vertex, slope_interval
from repro.evidence.spec import Outcome, Verdict
from repro.evidence.tables import margin_for, select
from repro.evidence.tuning import tune, tuned_difference
from repro.evidence.words import bracketed, signed

MARGIN = 0.3  # percentage points of 10,000 test images
ALIKE = (0.75, 4 / 3)  # exponents that count as 1
EXPONENT = Unit("", "Exponent with which the best batch size goes", 1.0, ("lower", "higher"), ALIKE)
TOGETHER, ALL, KNOB, EPOCHS = (
    "within groups of equal η/B, trained networks",
    "the same, those that do not fit too",
    "within groups of equal weight decay over B",
    "equal epochs minus equal η/B, two training times",
)
GENTLE = 4  # times lower than the highest are the learning rates that are judged apart
LOW_RATES = "It does at low learning rates, a quarter of the highest or less (asked after the runs)"
VANISHES = "It vanishes as B approaches N"


def judge_together(table: pd.DataFrame) -> Verdict:
    """Whether accuracy goes with η/B, among networks that fit or at least among all; and the controls: an unrelated
    knob, and epochs, of which runs of equal η/B and equal time take as many."""
    grid, knob, times = small(table, GRID), small(table, DECAY), small(table, GRID, LONGER)
    e, every = spread(trained(grid), "noise"), spread(grid, "noise")
    effects = {TOGETHER: e, ALL: every}
    if min(e.n, every.n) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Too few settings that fit, or too few seeds.", effects)
    judged, chosen = (every, lambda found: found) if e.low > MOST else (e, trained)
    control, rival = spread(chosen(knob), "knob"), excess(chosen(times), "epochs", "noise")
    effects |= {KNOB: control, EPOCHS: rival}
    p, fitting = chance(trained(grid), "noise"), in_groups(trained(grid), "noise")
    reason = (
        f"Of the variance of test accuracy among networks that fit, {bracketed(e)} lies within groups of equal η/B "
        f"(permutation test, p = {p:.3f}; {len(fitting.about)} settings in {fitting.about['noise'].nunique()} groups; "
        f"without one of them, no less than {signed(without_one(fitting, 'noise'), '.2f')})"
    )
    if not resolved(trained(grid), "noise"):
        return Verdict(Outcome.INCONCLUSIVE, f"{reason}: but settings differ by little more than luck.", effects)
    if judged is every:
        reason += f", of all networks {bracketed(every)}"
    if judged.low > MOST:
        return Verdict(Outcome.NOT_REPRODUCED, f"{reason}.", effects)
    if min(control.n, rival.n) < 2:
        return Verdict(Outcome.INCONCLUSIVE, f"{reason}: but the controls are not run with two seeds.", effects)
    if control.low <= judged.high:
        told = f"by weight decay over B, which has nothing to do with it, {bracketed(control)}"
        return Verdict(Outcome.INCONCLUSIVE, f"{reason}; {told}.", effects)
    if rival.low <= 0:
        told = "groups of equal epochs do not surely differ more, over two training times"
        return Verdict(Outcome.INCONCLUSIVE, f"{reason}; {told}.", effects)
    if judged.high >= MOST or (judged is e and p >= 0.05):
        return Verdict(Outcome.INCONCLUSIVE, f"{reason}.", effects)
    return Verdict(Outcome.REPRODUCED if judged is e else Outcome.CONDITIONAL, f"{reason}.", effects)


def judge_low_rates(table: pd.DataFrame) -> Verdict:
    """The same of low learning rates alone, by all the same controls."""
    verdict = judge_together(table[table["lr"] <= _highest(cells(table, GRID)) / GENTLE])
    effects = {f"{name}, low learning rates": e for name, e in verdict.effects.items()}
    return Verdict(verdict.outcome, verdict.reason, effects)


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
    drawn = over_seeds(lambda seeds, axis=-1: np.tensordot(centred, best(seeds, axis), 1), n)
    line = slope_interval(x, now)
    slope = Estimate(
        drawn.value, min(drawn.low, line.low), max(drawn.high, line.high), n,
        f"{drawn.method}, joined with the t interval about the line",
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
    p = peaks(found, by)
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
    """Of every cell, (cells, seeds): accuracy minus that of the cells of `of` with equal noise, between two of those
    by a straight line in its logarithm; cells whose noise they do not span are left out."""
    shared = tuple(s for s in found.seeds if s in of.seeds)
    if not shared:
        return np.zeros((0, 0))
    found, of = found.on(shared), of.on(shared)
    known = pd.DataFrame(of.values).groupby(of.about["noise"]).mean()  # sorted by noise
    if len(known) < 2:
        return np.zeros((0, 0))
    found = found.where(found.about["noise"].between(known.index[0], known.index[-1]))
    of_seed = [np.interp(found.about["noise"], known.index, known[i]) for i in range(len(shared))]
    return np.asarray(found.values - np.stack(of_seed, axis=1))


def hold_together(found: Cells, of: Cells, unit: Unit) -> tuple[bool | None, Estimate, str]:
    """Whether all cells test as those of `of` with equal noise; None if that is not settled. Of the cell that differs
    most, the difference, with an interval as wide as so many comparisons ask for; and how it is told."""
    left = residuals(found, of)
    if not len(left) or left.shape[1] < 2:
        return None, mean_interval([]).of(unit), "Not run with two seeds, or at no noise that small batches have."
    apart = [mean_interval(cell, 1 - 0.05 / len(left)).of(unit) for cell in left]
    worst = max(apart, key=lambda e: abs(e.value))
    low, high = unit.band or (0.0, 0.0)
    told = f"of {len(left)} settings, the one that differs most does so by {bracketed(worst, 'points')}"
    if any(e.low > high or e.high < low for e in apart):
        return False, worst, told
    alike = all(e.equivalent(high) for e in apart)
    return (True if alike else None), worst, told


def judge_momentum(table: pd.DataFrame) -> Verdict:
    """Whether a network trained with momentum tests as one without does at equal η/(B(1 - m))."""
    unit = points(table, "with momentum minus without, equal noise")
    alike, worst, told = hold_together(trained(small(table, MOMENTUM)), trained(small(table, GRID)), unit)
    effects = {"test accuracy with momentum minus without, at equal η/(B(1 − m)), where they differ most": worst}
    if not worst.n:
        return Verdict(Outcome.INCONCLUSIVE, told, effects)
    outcome = {True: Outcome.REPRODUCED, False: Outcome.NOT_REPRODUCED, None: Outcome.INCONCLUSIVE}[alike]
    return Verdict(outcome, f"With momentum and without, at equal η/(B(1 − m)): {told}.", effects)


def judge_whole(table: pd.DataFrame) -> Verdict:
    """Whether the relation is gone where a batch is half of the training set or all of it. The highest learning rate
    is left out: large batches do not bear it. At rates that small batches of equal η/B have as well, or it may be the
    rate that tells them apart."""
    grid, known = cells(table, GRID), trained(small(table, GRID, SLOW))
    large = grid.where((grid.about["batch_size"] * 2 >= grid.about["train_size"]) & (grid.about["lr"] < _highest(grid)))
    unit = points(table, "large batches minus small ones, equal noise")
    alike, worst, told = hold_together(large, known, unit)
    gentle, low, low_told = hold_together(large.where(large.about["lr"] <= _highest(grid) / GENTLE), known, unit)
    name = "test accuracy, batches of half of all images or more, minus small ones, where they differ most"
    effects = {name: worst, f"{name}, low learning rates": low}
    if not worst.n:
        return Verdict(Outcome.INCONCLUSIVE, told, effects)
    reason = f"Batches of half of the images or more, and small ones of equal η/B: {told}"
    if alike is False and gentle is not False:
        reason += f"; but at learning rates at which small batches agree, {low_told}: it may be the rate that differs"
        return Verdict(Outcome.INCONCLUSIVE, f"{reason}.", effects)
    outcome = {True: Outcome.NOT_REPRODUCED, False: Outcome.REPRODUCED, None: Outcome.INCONCLUSIVE}[alike]
    return Verdict(outcome, f"{reason}.", effects)


def _highest(found: Cells) -> float:
    return float(found.about["lr"].max()) if len(found.about) else 0.0


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
    together = judge_together(table)
    parts = {
        LOW_RATES: judge_low_rates(table),
        "The best batch size goes as the learning rate": judge_peaks(small(table, LONGER), "lr", "η"),
        "The best batch size goes as the number of training examples": judge_peaks(
            small(table, SIZES), "train_size", "N"
        ),
        "With momentum it is η/(B(1 − m))": judge_momentum(table),
        VANISHES: judge_whole(table),
        "Each tuned, the whole training set tests worse than a small batch": judge_tuned(table),
    }
    return Verdict(together.outcome, together.reason, together.effects, parts)


def answer(table: pd.DataFrame, verdict: Verdict) -> str:
    e = verdict.effects.get(TOGETHER)
    if e is None or e.n < 2:
        return "Not settled: too few settings have been run that fit."
    told = f"Of the variance of test accuracy among settings that fit, {bracketed(e)} remains at equal η/B"
    if verdict.outcome == Outcome.REPRODUCED:
        return f"Yes, while the batch is small beside the training set. {told}."
    if verdict.outcome == Outcome.CONDITIONAL:
        return (
            "Only for which networks learn at all: of the variance of test accuracy among all settings, "
            f"{bracketed(verdict.effects[ALL])} remains at equal η/B; among those that fit, {bracketed(e)}."
        )
    return f"{'No' if verdict.outcome == Outcome.NOT_REPRODUCED else 'Not settled'}. {told}."


def means(found: Cells) -> Iterable[tuple[pd.Series, Estimate]]:
    """Every cell and the mean over its seeds."""
    for (_, about), values in zip(found.about.iterrows(), found.values, strict=True):
        yield about, mean_interval(values.tolist())
