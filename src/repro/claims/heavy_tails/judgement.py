"""Which tails are heavier, by which measure and along which axis; the raw counts; α; and what is answered."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import pandas as pd

from repro.claims.gradient_competition.experiment import EARLY, LATE, MIN_SEEDS, POINTS
from repro.evidence.intervals import Estimate, Unit, geometric
from repro.evidence.spec import Outcome, Verdict
from repro.evidence.tables import over_seeds, records
from repro.evidence.words import bracketed

SMALL = 2  # the smaller of the batch sizes that the post compares; its larger one, 1024, or the largest that was drawn
GAUSSIAN_FROM = 256  # Panigrahi et al.: Gaussian from this batch size on
MARGIN = 0.1  # of α̂: what it must lie below that of Gaussian values of the same scales to tell of more than scales
MANY = 10.0  # times as many large values count as more
GAUSSIAN = 3.0  # its kurtosis
MEASURES = {"kurtosis": "kurtosis", "Hill's ξ": "hill", "1/α̂": "inverse_alpha"}  # each grows with the tail
DRAWS, COORDINATES = "draws", "coordinates"

LARGEST_MINUS_SMALL = f"largest batch minus B = {SMALL}, each beyond Gaussian values of the same scales"
SIDES = ("large batch lighter", "heavier")
KURTOSIS = Unit("kurtosis", f"Kurtosis, {LARGEST_MINUS_SMALL}", 0.0, SIDES)
INDEX = Unit("tail index", f"Hill's ξ and 1/α̂, {LARGEST_MINUS_SMALL}", 0.0, SIDES)
TIMES = Unit(
    "times",
    f"Large values at the largest batch over those at B = {SMALL}, times; green counts as far more",
    1.0,
    ("fewer", "more"),
    (MANY, math.inf),
    log=True,
)
ALPHA = Unit("α̂", "α̂ of the pooled noise; 2 for Gaussian values of one scale", 2.0, ("heavier", ""))
ALPHA_APART = Unit(
    "α̂",
    "α̂ of the pooled noise minus that of Gaussian values of the same scales; green is no heavier",
    0.0,
    ("noise heavier", "lighter"),
    (-MARGIN, math.inf),
)


def measured(table: pd.DataFrame, arm: str) -> list[dict[str, Any]]:
    return records(table, "tail_batch_size", arm=arm)


def sizes_of(table: pd.DataFrame) -> list[float]:
    rows = measured(table, EARLY)
    return list(rows[0]["tail_batch_size"]) if rows else []


def by_size(row: Any, column: str) -> dict[float, float]:
    return dict(zip(row["tail_batch_size"], row[column], strict=True))


def excess(row: Any, measure: str, axis: str) -> dict[float, float]:
    """A measure minus that of its Gaussian surrogate, by batch size."""
    ours, surrogate = (by_size(row, f"{measure}_{axis}{kind}") for kind in ("", "_surrogate"))
    return {size: ours[size] - surrogate[size] for size in ours}


def growth(table: pd.DataFrame, arm: str, measure: str, axis: str) -> Estimate:
    """The measure beyond its surrogate at the largest batch size, minus that at B=2: above zero, heavier."""

    def value(row: Any) -> float:
        found = excess(row, measure, axis)
        return found[max(found)] - found[SMALL]

    return over_seeds(measured(table, arm), value).of(KURTOSIS if measure == MEASURES["kurtosis"] else INDEX)


def log_times(reduction: str, row: Any) -> float:
    """Logarithm of how many times as many values are large at the largest batch as at B=2, where they are 100; not a
    number where too few were drawn to say."""
    return math.log(10) * (row.get(f"large_values_{reduction}", math.nan) - 2)


def judge_counts(table: pd.DataFrame) -> Verdict:
    """More large values at the largest batch than at B=2, whatever their scale?"""
    effects, more = {}, {}
    for (reduction, name), arm in itertools.product((("sum", "sums"), ("mean", "means")), POINTS):
        logs = over_seeds(measured(table, arm), functools.partial(log_times, reduction))
        times = (geometric(logs) if logs.n else logs).of(TIMES)
        effects[f"{name}, {arm}"] = times
        more[reduction, arm] = True if times.low > MANY else False if times.high < MANY else None
    if not all(e.n for e in effects.values()):
        return Verdict(Outcome.INCONCLUSIVE, "Too few values were drawn to say which are large.", effects)
    sums, means = ({more[reduction, arm] for arm in POINTS} for reduction in ("sum", "mean"))
    if sums == means == {True}:
        return Verdict(Outcome.REPRODUCED, "Sums and means both have far more large values.", effects)
    if sums == {True} and means == {False}:
        rows = [row for arm in POINTS for row in measured(table, arm)]
        fewer_than_one = all(row["large_values_mean"] < 0 for row in rows)  # as a logarithm: not one was counted
        none = " Not one mean is as large; half a one stands for none." if fewer_than_one else ""
        return Verdict(Outcome.CONDITIONAL, f"Sums have far more large values; means have not.{none}", effects)
    if sums == means == {False}:
        return Verdict(Outcome.NOT_REPRODUCED, "Neither sums nor means have many more large values.", effects)
    return Verdict(Outcome.INCONCLUSIVE, "How many values are large is not settled, or changes with training.", effects)


def judge_shape(table: pd.DataFrame, axis: str) -> Verdict:
    """Heavier at the largest batch than at B=2, beyond what Gaussian values of the same scales give?"""
    effects = {
        f"{name}, {arm}": growth(table, arm, measure, axis)
        for (name, measure), arm in itertools.product(MEASURES.items(), POINTS)
    }
    heavier = [name for name, e in effects.items() if e.low > 0]
    lighter = [name for name, e in effects.items() if e.high < 0]
    told = f"{len(heavier)} of {len(effects)} comparisons say heavier, {len(lighter)} lighter"
    if heavier and lighter:
        return Verdict(Outcome.CONDITIONAL, f"It depends on the measure or on training: {told}.", effects)
    if all(any(arm in name for name in heavier) for arm in POINTS):
        reason = f"{len(heavier)} of {len(effects)} comparisons say heavier at the largest batch, none lighter."
        return Verdict(Outcome.REPRODUCED, reason, effects)
    if all(any(arm in name for name in lighter) for arm in POINTS):
        reason = f"{len(lighter)} of {len(effects)} comparisons say lighter at the largest batch, none heavier."
        return Verdict(Outcome.NOT_REPRODUCED, reason, effects)
    return Verdict(Outcome.INCONCLUSIVE, f"Too uncertain at one point of training at least: {told}.", effects)


def alpha(size: float, kind: str, row: Any) -> float:
    """α̂ of the pooled noise (kind "") or of its surrogate."""
    return 1 / by_size(row, f"inverse_alpha_{COORDINATES}{kind}")[size]


def alpha_apart(size: float, row: Any) -> float:
    return alpha(size, "", row) - alpha(size, "_surrogate", row)


def judge_alpha(table: pd.DataFrame) -> Verdict:
    """Is the pooled noise of large batches α-stable with α < 2, or what Gaussian values of the same scales give?"""
    sizes = [size for size in sizes_of(table) if size >= min(GAUSSIAN_FROM, max(sizes_of(table)))]
    effects, beyond, below = {}, [], []
    for size, arm in itertools.product(sizes, POINTS):
        ours = over_seeds(measured(table, arm), functools.partial(alpha, size, ""))
        apart = over_seeds(measured(table, arm), functools.partial(alpha_apart, size))
        effects[f"B = {size:g}, {arm}"] = ours.of(ALPHA)
        effects[f"minus Gaussian, B = {size:g}, {arm}"] = apart.of(ALPHA_APART)
        below.append(ours.high < 2)
        beyond.append(True if apart.high < -MARGIN else False if apart.low > -MARGIN else None)
    cases = f"{len(below)} cases (B = {min(sizes):g} and larger, early and late)"
    surely = f"{beyond.count(True) or 'none'} surely"
    told = (
        f"α̂ lies below 2 in {sum(below)} of {cases}. More than {MARGIN} below Gaussian values of such scales: {surely}"
    )
    outcome = Outcome.CONDITIONAL
    if set(beyond) == {True}:
        outcome = Outcome.REPRODUCED
    elif set(beyond) == {False}:
        outcome = Outcome.NOT_REPRODUCED
    elif None in beyond:
        outcome = Outcome.INCONCLUSIVE
        told += f", {beyond.count(None)} not settled"
    return Verdict(outcome, f"{told}.", effects)


ACROSS_DRAWS = "across draws, each coordinate standardised: heavier tails in larger batches"
ACROSS_COORDINATES = "across coordinates, beyond their unequal scales: heavier tails in larger batches"
COUNTS = "as they are counted: far more large values in larger batches"
STABLE = "the noise of large batches is α-stable with α < 2"


def judge(table: pd.DataFrame) -> Verdict:
    seeds = {arm: len(measured(table, arm)) for arm in POINTS}
    if min(seeds.values()) < MIN_SEEDS:
        told = ", ".join(f"{n} {arm}" for arm, n in seeds.items())
        return Verdict(Outcome.INCONCLUSIVE, f"Too few seeds: {told}; {MIN_SEEDS} is the least.")
    parts = {
        ACROSS_DRAWS: judge_shape(table, DRAWS),
        ACROSS_COORDINATES: judge_shape(table, COORDINATES),
        COUNTS: judge_counts(table),
        STABLE: judge_alpha(table),
    }
    shapes = [parts[name].outcome for name in (ACROSS_DRAWS, ACROSS_COORDINATES)]
    counts = {
        Outcome.REPRODUCED: "Larger batches have far more large values, summed or averaged.",
        Outcome.CONDITIONAL: "Only their sums have far more large values: scale, not shape.",
        Outcome.NOT_REPRODUCED: "They have not many more large values either.",
        Outcome.INCONCLUSIVE: "How many values are large is not settled.",
    }[parts[COUNTS].outcome]
    reasons = {
        Outcome.REPRODUCED: "larger batches have heavier tails, across draws and coordinates.",
        Outcome.NOT_REPRODUCED: "larger batches have lighter tails, across draws and coordinates.",
        Outcome.CONDITIONAL: "the axes, the measures or the points of training disagree.",
        Outcome.INCONCLUSIVE: "it is not settled which tails are heavier.",
    }
    outcome = shapes[0] if shapes[0] == shapes[1] else Outcome.CONDITIONAL
    if Outcome.INCONCLUSIVE in shapes:
        outcome = Outcome.INCONCLUSIVE
    return Verdict(outcome, f"Brought to one scale, {reasons[outcome]} {counts}", parts=parts)


def kurtosis(table: pd.DataFrame, arm: str, size: float) -> Estimate:
    """Across draws: 3 for a Gaussian."""
    return over_seeds(measured(table, arm), lambda row: by_size(row, f"kurtosis_{DRAWS}")[size] + GAUSSIAN)


def answer(table: pd.DataFrame, verdict: Verdict) -> str:
    if not verdict.parts:
        counts = {arm: len(measured(table, arm)) for arm in POINTS}
        return f"Not settled: too few networks measured ({counts[EARLY]} early in training, {counts[LATE]} late)."
    largest = max(sizes_of(table))
    ends = [bracketed(kurtosis(table, EARLY, size), form=form) for size, form in ((SMALL, ".0f"), (largest, ".1f"))]
    grown = growth(table, EARLY, MEASURES["kurtosis"], DRAWS)
    verb = "falls" if grown.high < 0 else "rises" if grown.low > 0 else "goes"
    change = f"{verb} from {ends[0]} at B = {SMALL} to {ends[1]} at B = {largest:g}, early in training"
    told = f"Brought to one scale, kurtosis over random batches {change}"
    if verdict.outcome == Outcome.REPRODUCED:
        return f"Yes. {told}; a Gaussian's is 3."
    if verdict.outcome == Outcome.NOT_REPRODUCED:
        merely_larger = verdict.parts[COUNTS].outcome == Outcome.CONDITIONAL
        return f"No, lighter. {told}; a Gaussian's is 3.{' Larger sums are scale, not shape.' if merely_larger else ''}"
    if verdict.outcome == Outcome.CONDITIONAL:
        return f"It depends on what is compared. {told}."
    return f"Not settled. {told}."
