"""Which ways of reading the post give which of its findings, and what is answered."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from repro.claims.gradient_competition.experiment import (
    EARLY,
    LATE,
    MIN_SEEDS,
    PLAIN,
    POINTS,
    ROOT,
    SENTENCES,
    SPREAD,
    Answers,
    Sentence,
    is_just_root,
    is_root,
    measured,
    supports,
    without_averaging,
)
from repro.evidence.intervals import Estimate, Unit, geometric, mean_interval
from repro.evidence.spec import Outcome, Verdict
from repro.evidence.words import bracketed
from repro.measure.noise import NoiseScale
from repro.probes.readings import AVERAGED, READINGS, SINGLE, Row, fit

BEND = Unit("examples", "Batch size at which the norms bend from √B towards B (the noise scale)", log=True)
BEND_RATIO = Unit(
    "times",
    "The batch size of that bend, fitted to the norms over that of the examples' gradients, times",
    1.0,
    ("fitted smaller", "larger"),
    log=True,
)
OVER = "fitted over direct"  # its effects' names begin so
ALL_HOLD = "All three findings hold"


def _named(answers: Answers, which: bool | None) -> str:
    """The readings of which this is the answer, and at which points: "sum · frozen · one batch (early and late)"."""
    points: dict[str, list[str]] = {}
    for (name, arm), found in answers.items():
        if found is which:
            points.setdefault(name, []).append(arm)
    return "; ".join(f"{name} ({' and '.join(arms)})" for name, arms in points.items())


def judge_sentence(sentence: Sentence, table: pd.DataFrame) -> tuple[Answers, Verdict]:
    found = sentence.effects(table)
    answers = supports(sentence, found)
    effects = {
        ", ".join(filter(None, (what, name, arm))): estimate
        for (name, arm), slopes in found.items()
        for what, estimate in slopes.items()
        if estimate.n
    }
    told, unsettled = (_named(answers, which) for which in (True, None))
    outcome, reason = Outcome.NOT_REPRODUCED, "It holds in no reading."
    if all(answers.values()):
        outcome, reason = Outcome.REPRODUCED, "It holds in every reading."
    elif told:
        left = f" Not settled: {unsettled}." if unsettled else ""
        outcome, reason = Outcome.CONDITIONAL, f"It holds where the post is read as: {told}.{left}"
    elif None in answers.values():
        outcome, reason = Outcome.INCONCLUSIVE, f"It surely holds in no reading. Not settled: {unsettled}."
    return answers, Verdict(outcome, reason, effects)


@dataclass(frozen=True)
class Readings:
    """Which readings support all sentences, early and late: those that stand their control, and those that do so only
    without it. `open`: some other may yet."""

    standing: list[str]
    averages: list[str]
    open: bool

    @classmethod
    def of(cls, answers: Mapping[str, Answers]) -> Readings:
        """From the answers to every sentence, by its text."""
        held: dict[str, list[bool | None]] = {}
        control: dict[str, list[bool | None]] = {}
        for reading in READINGS:
            held[reading.name] = [answers[s.text][s.label(reading), arm] for s in SENTENCES for arm in POINTS]
            one = without_averaging(reading)
            spreads = [answers[SPREAD.text][SPREAD.label(one), arm] for arm in POINTS]
            control[reading.name] = spreads if reading.extent == AVERAGED else []
        standing = [name for name in held if all(held[name] + control[name])]
        averages = [name for name in held if all(held[name]) and False in control[name]]
        return cls(standing, averages, any(False not in held[name] + control[name] for name in held))


def plain_powers(table: pd.DataFrame) -> list[Estimate]:
    """The power of B of the mean norm, read the plain way: early, and late."""
    found = ROOT.effects(table)
    return [next(iter(found[PLAIN.name, arm].values())) for arm in POINTS]


def _too_few(table: pd.DataFrame, extent: str) -> str:
    """How many networks were measured at either point, where that is too few: "2 early, 2 late"."""
    seeds = {arm: len(measured(table, arm, extent)) for arm in POINTS}
    return ", ".join(f"{n} {arm}" for arm, n in seeds.items()) if min(seeds.values()) < MIN_SEEDS else ""


def judge(table: pd.DataFrame) -> Verdict:
    plain = dict(zip((f"read the plain way, {arm}" for arm in POINTS), plain_powers(table), strict=True))
    effects = plain | bends(table)
    if told := _too_few(table, SINGLE):
        return Verdict(Outcome.INCONCLUSIVE, f"Too few seeds: {told}; {MIN_SEEDS} is the least.", effects)
    judged = {s.text: judge_sentence(s, table) for s in SENTENCES}
    parts = {text: verdict for text, (_, verdict) in judged.items()}
    found = Readings.of({text: answers for text, (answers, _) in judged.items()})
    if found.standing:
        reason = f"{ALL_HOLD}, early and late in training, where the post is read as: {'; '.join(found.standing)}."
        return Verdict(Outcome.REPRODUCED, reason, effects, parts)
    missing = [s for s in SENTENCES if parts[s.text].outcome == Outcome.NOT_REPRODUCED]
    if missing:
        reason = f"No way of reading the post gives {missing[0].found}."
        return Verdict(Outcome.NOT_REPRODUCED, reason, effects, parts)
    if found.open or any(part.outcome == Outcome.INCONCLUSIVE for part in parts.values()):
        reason = "Too uncertain to say which ways of reading the post give which of its findings."
        return Verdict(Outcome.INCONCLUSIVE, reason, effects, parts)
    return Verdict(Outcome.CONDITIONAL, _condition(table, found), effects, parts)


def _condition(table: pd.DataFrame, found: Readings) -> str:
    if found.averages:
        return (
            f"{ALL_HOLD}, early and late in training, only where norms are averaged over a pass: "
            f"{'; '.join(found.averages)}. There larger batches spread more because fewer of their norms are averaged: "
            "of as many norms, they do not."
        )
    gives = "Every finding has a way of reading the post that gives it. No way"
    if told := _too_few(table, AVERAGED):
        left = f"Norms averaged over a pass are yet to be measured on enough networks ({told})."
        return f"{gives} measured so far gives all three, early and late. {left}"
    return f"{gives} gives all three, early and late."


def answer(table: pd.DataFrame, verdict: Verdict) -> str:
    if not verdict.parts:
        counts = {arm: len(measured(table, arm)) for arm in POINTS}
        return f"Not settled: too few networks measured ({counts[EARLY]} early in training, {counts[LATE]} late)."
    early, late = powers = plain_powers(table)
    word = "Not settled"
    if all(map(is_just_root, powers)):
        word = "Yes"
    elif all(map(is_root, powers)):
        word = "Nearly"
    elif any(is_root(power) is False for power in powers):
        word = "No"
    powers_told = f"B to the power {bracketed(early)} early in training, {bracketed(late)} late; √B is ½"
    plainly = f"{word}, read the plain way: {powers_told}."
    if verdict.outcome == Outcome.REPRODUCED:
        first, *others = verdict.reason.rpartition("read as: ")[2].removesuffix(".").split("; ")
        return f"{plainly} {ALL_HOLD}, read as: {first}{' (and in other ways)' if others else ''}."
    if verdict.outcome == Outcome.INCONCLUSIVE:
        return f"{plainly} Which ways of reading the post give its findings is not settled."
    if verdict.outcome == Outcome.CONDITIONAL and verdict.reason.startswith(ALL_HOLD):
        return f"{plainly} {ALL_HOLD} only for norms averaged over a pass, where larger batches average fewer."
    if verdict.outcome == Outcome.CONDITIONAL:
        so_far = " tried so far" if _too_few(table, AVERAGED) else ""
        return f"{plainly} No way of reading the post{so_far} gives all three of its findings."
    return f"{plainly} {verdict.reason}"


def bends(table: pd.DataFrame) -> dict[str, Estimate]:
    """B_simple = S²/‖G‖², where the root-mean-square norm bends from √B to B: fitted, and from the examples. Geometric
    means over seeds: it differs by factors. Not a number where one is infinite: its norms do not bend."""
    ways: dict[str, Callable[[Row], float]] = {
        "fitted to the norms": lambda row: fit(row).scale,
        "of the examples' gradients": lambda row: NoiseScale(row["noise_trace"], row["noise_squared_norm"]).scale,
    }
    fitted, direct = ways.values()
    ways[OVER] = lambda row: fitted(row) / direct(row)
    found = {}
    for arm, (way, scale) in itertools.product(POINTS, ways.items()):
        logs = [np.log(scale(row)) for row in measured(table, arm)]
        bend = mean_interval(logs if np.isfinite(logs).all() else [])
        bend = geometric(bend) if bend.n else bend
        found[f"{way}, {arm}"] = bend.of(BEND_RATIO if way == OVER else BEND)
    return found
