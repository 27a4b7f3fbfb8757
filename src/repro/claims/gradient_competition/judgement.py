"""Which ways of reading the post give which of its findings, and what is answered."""

from __future__ import annotations

import itertools
from collections.abc import Callable

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
    Answers,
    Sentence,
    is_near_root,
    is_root,
    measured,
    supports,
)
from repro.evidence.intervals import Estimate, Unit, geometric, mean_interval
from repro.evidence.spec import Outcome, Verdict
from repro.evidence.words import bracketed
from repro.measure.noise import NoiseScale
from repro.probes.gradients import READINGS, Reading, Row, fit

BEND = Unit("examples", "Batch size at which the norms bend from √B towards B (the noise scale)", log=True)
BEND_RATIO = Unit(
    "times",
    "The batch size of that bend, fitted to the norms over that of the examples' gradients, times",
    1.0,
    ("fitted smaller", "larger"),
    log=True,
)
OVER = "fitted over direct"  # its effects' names begin so


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


def plain_powers(table: pd.DataFrame) -> list[Estimate]:
    """The power of B of the mean norm, read the plain way: early, and late."""
    found = ROOT.effects(table)
    return [next(iter(found[PLAIN.name, arm].values())) for arm in POINTS]


def judge(table: pd.DataFrame) -> Verdict:
    plain = dict(zip((f"read the plain way, {arm}" for arm in POINTS), plain_powers(table), strict=True))
    effects = plain | bends(table)
    seeds = {arm: len(measured(table, arm)) for arm in POINTS}
    if min(seeds.values()) < MIN_SEEDS:
        told = ", ".join(f"{n} {arm}" for arm, n in seeds.items())
        return Verdict(Outcome.INCONCLUSIVE, f"Too few seeds: {told}; {MIN_SEEDS} is the least.", effects)
    judged = {s.text: judge_sentence(s, table) for s in SENTENCES}
    parts = {text: verdict for text, (_, verdict) in judged.items()}

    def holds(reading: Reading) -> list[bool | None]:
        return [judged[s.text][0][s.label(reading), arm] for s in SENTENCES for arm in POINTS]

    whole = [r.name for r in READINGS if all(holds(r))]
    if whole:
        reason = f"All three findings hold, early and late in training, where the post is read as: {'; '.join(whole)}."
        return Verdict(Outcome.REPRODUCED, reason, effects, parts)
    missing = [s for s in SENTENCES if parts[s.text].outcome == Outcome.NOT_REPRODUCED]
    if missing:
        reason = f"No way of reading the post gives {missing[0].found}."
        return Verdict(Outcome.NOT_REPRODUCED, reason, effects, parts)
    unsettled = any(part.outcome == Outcome.INCONCLUSIVE for part in parts.values())
    if unsettled or any(False not in holds(r) for r in READINGS):
        reason = "Too uncertain to say which ways of reading the post give which of its findings."
        return Verdict(Outcome.INCONCLUSIVE, reason, effects, parts)
    reason = "Every finding has a way of reading the post that gives it. No way gives all three, early and late."
    return Verdict(Outcome.CONDITIONAL, reason, effects, parts)


def answer(table: pd.DataFrame, verdict: Verdict) -> str:
    if not verdict.parts:
        counts = {arm: len(measured(table, arm)) for arm in POINTS}
        return f"Not settled: too few networks measured ({counts[EARLY]} early in training, {counts[LATE]} late)."
    early, late = powers = plain_powers(table)
    word = "Not settled"
    if all(map(is_root, powers)):
        word = "Yes"
    elif all(map(is_near_root, powers)):
        word = "Nearly"
    elif any(is_root(power) is False for power in powers):
        word = "No"
    powers_told = f"B to the power {bracketed(early)} early in training, {bracketed(late)} late; √B is ½"
    plainly = f"{word}, read the plain way: {powers_told}."
    if verdict.outcome == Outcome.REPRODUCED:
        first, *others = verdict.reason.rpartition("read as: ")[2].removesuffix(".").split("; ")
        return f"{plainly} All three findings hold, read as: {first}{' (and in other ways)' if others else ''}."
    if verdict.outcome == Outcome.INCONCLUSIVE:
        return f"{plainly} Which ways of reading the post give its findings is not settled."
    if verdict.outcome == Outcome.CONDITIONAL:
        return f"{plainly} No way of reading the post gives all three of its findings."
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
