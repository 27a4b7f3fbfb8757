"""Which tails are heavier, pooled, along which axis and while weights move; the raw counts; α; and what is answered."""

from __future__ import annotations

import functools
import itertools
import math

import pandas as pd

from repro.claims.gradient_competition.experiment import EARLY, LATE, MIN_SEEDS, PASSES, POINTS
from repro.claims.heavy_tails.readings import (
    COORDINATES,
    DRAWS,
    SMALL,
    Effects,
    alpha,
    alpha_beyond,
    central_limit,
    log_times,
    measured,
    moving,
    pooled,
    pooled_at,
    shape,
    sizes_of,
)
from repro.evidence.intervals import Unit, geometric
from repro.evidence.spec import Outcome, Verdict
from repro.evidence.tables import over_seeds
from repro.evidence.words import bracketed
from repro.probes.readings import ACCUMULATED, SINGLE

GAUSSIAN_FROM = 256  # Panigrahi et al.: Gaussian from this batch size on
MANY = 10.0  # times as many large values count as more: an order of magnitude
TIMES = Unit(
    "times",
    f"Large values at the largest batch over those at B = {SMALL}, times; green counts as far more",
    1.0,
    ("fewer", "more"),
    (MANY, math.inf),
    log=True,
)
ALPHA = Unit("α̂", "α̂ of the pooled noise; 2 for Gaussian values of one scale", 2.0, ("heavier", ""))
BEYOND = Unit(
    "α̂",
    "α̂ of Gaussian values of the same scales, from half-way between the noise's and 2",
    0.0,
    ("scales tell most", "more than scales"),
)

POOLED = "pooled, as the post's histogram has them: heavier tails in larger batches"
ACROSS_COORDINATES = "across coordinates, beyond their unequal scales: heavier tails in larger batches"
ACROSS_DRAWS = "across draws, each coordinate standardised: heavier tails in larger batches"
MOVING = {
    SINGLE: "while weights move, of a pass's last batch: heavier tails in larger batches",
    ACCUMULATED: "while weights move, of all that a pass adds up: heavier tails in larger batches",
}
COUNTS = "as they are counted: far more large values in larger batches"
STABLE = "the noise of large batches is α-stable with α < 2"
LIMIT = (
    "Lighter tails across draws are what the central limit theorem demands of any sum: no surprise, and by themselves "
    "no refutation."
)


def _too_few(table: pd.DataFrame, arms: dict[str, str]) -> str:
    """How many networks were measured at either point, where that is too few: "2 early, 2 late"."""
    seeds = {point: len(measured(table, arm)) for point, arm in arms.items()}
    return ", ".join(f"{n} {point}" for point, n in seeds.items()) if min(seeds.values()) < MIN_SEEDS else ""


def judge_growth(effects: Effects) -> Verdict:
    """Heavier at the largest batch than at B=2, by the effects' intervals, early and late?"""
    heavier = [name for name, e in effects.items() if e.unit.none is not None and e.low > e.unit.none]
    lighter = [name for name, e in effects.items() if e.unit.none is not None and e.high < e.unit.none]
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


def judge_draws(table: pd.DataFrame) -> Verdict:
    """Across draws, beside what the central limit theorem demands."""
    found = judge_growth(shape(table, DRAWS))
    reason = f"{found.reason} {LIMIT}" if found.outcome == Outcome.NOT_REPRODUCED else found.reason
    checked = {name: e for name, e in central_limit(table).items() if e.n}
    return Verdict(found.outcome, reason, {**found.effects, **checked})


def judge_moving(table: pd.DataFrame, extent: str) -> Verdict:
    if told := _too_few(table, PASSES):
        return Verdict(Outcome.INCONCLUSIVE, f"Not measured on enough networks yet: {told}.")
    return judge_growth(moving(table, extent))


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


def judge_alpha(table: pd.DataFrame) -> Verdict:
    """Is the pooled noise of large batches α-stable with α < 2, or do Gaussian values of the same scales tell most of
    what α̂ lies below 2?"""
    sizes = [size for size in sizes_of(table) if size >= min(GAUSSIAN_FROM, max(sizes_of(table)))]
    effects, more, below = {}, [], []
    for size, arm in itertools.product(sizes, POINTS):
        ours = over_seeds(measured(table, arm), functools.partial(alpha, size, ""))
        beyond = over_seeds(measured(table, arm), functools.partial(alpha_beyond, size))
        effects[f"B = {size:g}, {arm}"] = ours.of(ALPHA)
        effects[f"Gaussian from half-way, B = {size:g}, {arm}"] = beyond.of(BEYOND)
        below.append(ours.high < 2)
        more.append(below[-1] if beyond.low > 0 else False if beyond.high < 0 else None)
    cases = f"{len(below)} cases (B = {min(sizes):g} and larger, early and late)"
    told = (
        f"α̂ lies below 2 in {sum(below)} of {cases}. Gaussian values of as unequal scales tell most of that in "
        f"{more.count(False) or 'none'}, less than half in {more.count(True) or 'none'}"
    )
    outcome = Outcome.CONDITIONAL
    if set(more) == {True}:
        outcome = Outcome.REPRODUCED
    elif set(more) == {False}:
        outcome = Outcome.NOT_REPRODUCED
    elif None in more:
        outcome = Outcome.INCONCLUSIVE
        told += f", {more.count(None)} not settled"
    return Verdict(outcome, f"{told}.", effects)


OPPOSITE = {Outcome.REPRODUCED: Outcome.NOT_REPRODUCED, Outcome.NOT_REPRODUCED: Outcome.REPRODUCED}


def judge(table: pd.DataFrame) -> Verdict:
    if told := _too_few(table, {arm: arm for arm in POINTS}):
        return Verdict(Outcome.INCONCLUSIVE, f"Too few seeds: {told}; {MIN_SEEDS} is the least.")
    parts = {
        POOLED: judge_growth(pooled(table)),
        ACROSS_COORDINATES: judge_growth(shape(table, COORDINATES)),
        ACROSS_DRAWS: judge_draws(table),
        **{name: judge_moving(table, extent) for extent, name in MOVING.items()},
        COUNTS: judge_counts(table),
        STABLE: judge_alpha(table),
    }
    shapes = [parts[name].outcome for name in (POOLED, ACROSS_COORDINATES)]
    outcome = shapes[0] if shapes[0] == shapes[1] else Outcome.CONDITIONAL
    if Outcome.INCONCLUSIVE in shapes:
        outcome = Outcome.INCONCLUSIVE
    reason = {
        Outcome.REPRODUCED: "In shape, larger batches have heavier tails, pooled as in the post's histogram and across "
        "coordinates.",
        Outcome.NOT_REPRODUCED: "In shape, larger batches have lighter tails, pooled as in the post's histogram and "
        "across coordinates.",
        Outcome.CONDITIONAL: "In shape, the histogram, the coordinates, the measures or the points of training "
        "disagree.",
        Outcome.INCONCLUSIVE: "In shape, it is not settled which tails are heavier.",
    }[outcome]
    opposite = sum(parts[name].outcome == OPPOSITE.get(outcome) for name in MOVING.values())
    if opposite:
        where = f"with moving weights it is the other way round in {opposite} of {len(MOVING)} readings"
        reason = f"{reason.removesuffix('.')}; {where}."
        outcome = Outcome.CONDITIONAL
    counts = {
        Outcome.REPRODUCED: "Larger batches have far more large values, summed or averaged.",
        Outcome.CONDITIONAL: "Only their sums have far more large values: scale, not shape.",
        Outcome.NOT_REPRODUCED: "They have not many more large values either.",
        Outcome.INCONCLUSIVE: "How many values are large is not settled.",
    }[parts[COUNTS].outcome]
    limit = f" {LIMIT}" if parts[ACROSS_DRAWS].outcome == Outcome.NOT_REPRODUCED else ""
    return Verdict(outcome, f"{reason} {counts}{limit}", parts=parts)


def answer(table: pd.DataFrame, verdict: Verdict) -> str:
    if not verdict.parts:
        counts = {arm: len(measured(table, arm)) for arm in POINTS}
        return f"Not settled: too few networks measured ({counts[EARLY]} early in training, {counts[LATE]} late)."
    largest = max(sizes_of(table))
    ends = [bracketed(pooled_at(table, EARLY, size), form=form) for size, form in ((SMALL, ".0f"), (largest, ".1f"))]
    times = pooled(table)[f"pooled, {EARLY}"]
    verb = "falls" if times.high < 1 else "rises" if times.low > 1 else "goes"
    change = f"{verb} from {ends[0]} at B = {SMALL} to {ends[1]} at B = {largest:g}, early in training"
    told = f"Pooled as in the post, kurtosis {change}"
    if verdict.outcome == Outcome.REPRODUCED:
        return f"Yes. {told}; a Gaussian's is 3."
    if verdict.outcome == Outcome.NOT_REPRODUCED:
        merely_larger = verdict.parts[COUNTS].outcome == Outcome.CONDITIONAL
        larger = " Larger sums are scale, not shape." if merely_larger else ""
        return f"No, lighter: sums of more gradients come nearer to a Gaussian. {told}.{larger}"
    if verdict.outcome == Outcome.CONDITIONAL:
        return f"It depends on what is compared. {told}."
    return f"Not settled. {told}."
