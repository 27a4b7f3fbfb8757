"""Remedies for large batches: how they are judged, and what the reader is told."""

from __future__ import annotations

import numpy as np
import pandas as pd

from repro.claims.large_batch_remedies.experiment import (
    ARM,
    AUGMENTED,
    CONSERVATIVE,
    LARGE,
    PLAIN,
    REMEDIES,
    SHAM,
    SMALL,
    WARM,
)
from repro.evidence.intervals import (
    Estimate,
    Unit,
    equivalence_p,
    geometric,
    mean_interval,
    paired_difference,
    paired_values,
)
from repro.evidence.spec import Outcome, Verdict
from repro.evidence.tables import by_seed, final, margin_for, paired
from repro.evidence.words import bracketed

MARGIN = 0.3  # percentage points of 10,000 test images
SHARP = 2.0  # times as sharp as the small batch's minimum: what counts as sharp
SEARCHES = {"ten iterations": "sharpness", "a search free of scale": "sharpness_scale_free"}


def points(table: pd.DataFrame) -> Unit:
    margin = margin_for(table, MARGIN) if len(table) else MARGIN
    axis = "Test accuracy, the first named minus the second, percentage points"
    return Unit("points", axis, 0.0, ("worse", "better"), (-margin, margin))


RATIO = Unit("times", "Sharpness, large batch over small, times", 1.0, ("flatter", "sharper"), (1 / SHARP, SHARP), True)


def beside(table: pd.DataFrame, arm: str, other: str) -> Estimate:
    """Test accuracy of one arm minus another, paired by seed."""
    return paired(table, {"arm": arm}, {"arm": other}, "test_accuracy", 100).of(points(table))


def gap(table: pd.DataFrame, remedy: str) -> Estimate:
    """Large batch minus small, both with the remedy."""
    return beside(table, ARM.format(remedy, LARGE), ARM.format(remedy, SMALL))


def shrinks(table: pd.DataFrame, remedy: str) -> Estimate:
    """By how much the large batch gains more from a remedy than the small one does."""
    arms = [ARM.format(name, size) for name in (remedy, PLAIN) for size in (LARGE, SMALL)]
    by_arm = [by_seed(final(table, arm=arm), "test_accuracy", 100) for arm in arms]
    shared = sorted(set.intersection(*map(set, by_arm)))
    a, b, c, d = ([values[s] for s in shared] for values in by_arm)
    return mean_interval(np.subtract(np.subtract(a, b), np.subtract(c, d))).of(points(table))


def is_none(table: pd.DataFrame, e: Estimate) -> bool:
    """Whether a gap is none, or for the better."""
    return e.n > 1 and (e.low > 0 or equivalence_p(e.values, [0.0] * e.n, margin_for(table, MARGIN)) < 0.05)


def judge_remedy(table: pd.DataFrame, remedy: str) -> Verdict:
    """Whether a remedy that helps the large batch eliminates the gap, or at least makes it smaller."""
    left, gained = gap(table, remedy), shrinks(table, remedy)
    helped = beside(table, ARM.format(remedy, LARGE), ARM.format(PLAIN, LARGE))
    effects = {
        f"{remedy}: large batch minus small, both with it": left,
        f"{remedy}: the large batch with it minus without": helped,
        f"{remedy}: what the large batch gains more than the small": gained,
    }
    if min(left.n, gained.n, helped.n) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    reason = (
        f"It brings the large batch {bracketed(helped, 'points')}; beside the small one, which has it too, the large "
        f"one tests {bracketed(left, 'points')}."
    )
    if helped.low > 0 and gained.low > 0:
        return Verdict(Outcome.REPRODUCED if is_none(table, left) else Outcome.CONDITIONAL, reason, effects)
    worse = min(helped.high, gained.high) < margin_for(table, MARGIN)
    return Verdict(Outcome.NOT_REPRODUCED if worse else Outcome.INCONCLUSIVE, reason, effects)


def judge_pull(table: pd.DataFrame) -> Verdict:
    """Whether the pull of conservative training does anything that more steps a batch do not."""
    e = beside(table, ARM.format(CONSERVATIVE, LARGE), ARM.format(SHAM, LARGE))
    effects = {"conservative training minus as many steps a batch without the pull": e}
    if e.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    reason = f"With the pull it tests {bracketed(e, 'points')} beside as many steps a batch without it."
    if e.low > 0:
        return Verdict(Outcome.REPRODUCED, reason, effects)
    same = equivalence_p(e.values, [0.0] * e.n, margin_for(table, MARGIN)) < 0.05 or e.high < 0
    return Verdict(Outcome.NOT_REPRODUCED if same else Outcome.INCONCLUSIVE, reason, effects)


def sharper(table: pd.DataFrame, remedy: str, column: str) -> Estimate:
    """φ of the large batch over that of the small one, both with the remedy."""
    values = (by_seed(final(table, arm=ARM.format(remedy, size)), column) for size in (LARGE, SMALL))
    x, y = paired_values(*values)
    known = (x > 0) & (y > 0)
    return geometric(paired_difference(np.log(x[known]), np.log(y[known]))).of(RATIO)


def judge_sharp(table: pd.DataFrame, column: str) -> Verdict:
    """Whether minima stay sharp with every remedy, where they are without."""
    found = {name: sharper(table, name, column) for name in (PLAIN, *REMEDIES)}
    effects = {f"{name}, φ of the large batch over the small one's": e for name, e in found.items()}
    if min(e.n for e in found.values()) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    least = min(REMEDIES, key=lambda name: found[name].value)
    reason = (
        f"Without a remedy the large batch's minimum is {bracketed(found[PLAIN], 'times')} as sharp as the small one's;"
        f" least with {least}, {bracketed(found[least], 'times')}."
    )
    if found[PLAIN].low <= SHARP:
        return Verdict(Outcome.INCONCLUSIVE, f"{reason} So nothing could stay sharp.", effects)
    if all(found[name].low > SHARP for name in REMEDIES):
        return Verdict(Outcome.REPRODUCED, reason, effects)
    flat = [name for name in REMEDIES if found[name].high < SHARP]
    if not flat:
        return Verdict(Outcome.INCONCLUSIVE, reason, effects)
    return Verdict(Outcome.NOT_REPRODUCED if len(flat) == len(REMEDIES) else Outcome.CONDITIONAL, reason, effects)


def warmed(table: pd.DataFrame) -> dict[int, str]:
    """The arms that start from the small batch, by for how many epochs."""
    prefix, suffix = WARM.split("{}")
    names: list[str] = table["arm"].unique().tolist() if "arm" in table else []
    found = {int(n.removesuffix(suffix)): n for n in names if n.startswith(prefix) and n.endswith(suffix)}
    return dict(sorted(found.items()))


def judge_warm(table: pd.DataFrame) -> Verdict:
    """Whether a large batch does better from a late epoch of the small one, and not from an early one."""
    arms, plain = warmed(table), ARM.format(PLAIN, LARGE)
    if len(arms) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run from two epochs.")
    first, last = min(arms), max(arms)
    effects = {f"{arm}, minus none": beside(table, arm, plain) for arm in arms.values()}
    late, early = (effects[f"{arms[epoch]}, minus none"] for epoch in (last, first))
    e = beside(table, arms[last], arms[first])
    effects[f"{last} epochs first minus {first}"] = e
    if min(late.n, early.n, e.n) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    reason = (
        f"From epoch {last} of the small batch the large one tests {bracketed(late, 'points')} beside one from the "
        f"start, from epoch {first} {bracketed(early, 'points')}."
    )
    if late.low > 0 and e.low > 0:
        return Verdict(Outcome.REPRODUCED, reason, effects)
    same = equivalence_p(e.values, [0.0] * e.n, margin_for(table, MARGIN)) < 0.05 or e.high < 0
    return Verdict(Outcome.NOT_REPRODUCED if same else Outcome.INCONCLUSIVE, reason, effects)


def judge_crucial(table: pd.DataFrame) -> Verdict:
    """Whether the better network, of the small batch, is much better with augmentation."""
    e = beside(table, ARM.format(AUGMENTED, SMALL), ARM.format(PLAIN, SMALL))
    effects = {"the small batch with augmentation minus without": e}
    if e.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    margin = margin_for(table, MARGIN)
    outcome = Outcome.REPRODUCED if e.low > margin else Outcome.NOT_REPRODUCED if e.high < margin else None
    reason = f"The small batch tests {bracketed(e, 'points')} with augmentation beside without."
    return Verdict(outcome or Outcome.INCONCLUSIVE, reason, effects)


GAP = "no remedy: large batch minus small"


def judge(table: pd.DataFrame) -> Verdict:
    if "arm" not in table or table.empty:
        return Verdict(Outcome.INCONCLUSIVE, "No trial has been run.")
    without = gap(table, PLAIN)
    each = {remedy: judge_remedy(table, remedy) for remedy in REMEDIES}
    parts = {f"{remedy.capitalize()} eliminates it": verdict for remedy, verdict in each.items()}
    parts["In conservative training it is the pull that helps"] = judge_pull(table)
    for how, column in SEARCHES.items():
        parts[f"Minima stay sharp all the same, by {how}"] = judge_sharp(table, column)
    parts["A late warm start helps, an early one does not"] = judge_warm(table)
    parts["Augmentation is crucial"] = judge_crucial(table)
    effects = {GAP: without}
    if without.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects, parts)
    reason = f"Without a remedy the large batch tests {bracketed(without, 'points')} beside the small one."
    if without.high >= -margin_for(table, MARGIN):
        return Verdict(Outcome.INCONCLUSIVE, f"{reason} That is not surely a gap to eliminate.", effects, parts)
    named: dict[Outcome, list[str]] = {o: [name for name, v in each.items() if v.outcome == o] for o in Outcome}
    if named[Outcome.REPRODUCED]:
        reason += f" What eliminates that: {', '.join(named[Outcome.REPRODUCED])}."
        return Verdict(Outcome.REPRODUCED, reason, effects, parts)
    if named[Outcome.CONDITIONAL]:
        reason += f" What makes it smaller: {', '.join(named[Outcome.CONDITIONAL])}; nothing eliminates it."
        return Verdict(Outcome.CONDITIONAL, reason, effects, parts)
    outcome = Outcome.INCONCLUSIVE if named[Outcome.INCONCLUSIVE] else Outcome.NOT_REPRODUCED
    return Verdict(outcome, f"{reason} No remedy surely changes that.", effects, parts)


def answer(table: pd.DataFrame, verdict: Verdict) -> str:
    e = verdict.effects.get(GAP)
    if e is None or e.n < 2:
        return "Not settled: too few seeds have been run."
    told = f"Without a remedy it tests {bracketed(e, 'points')} beside the small one"
    names = [
        remedy
        for remedy in REMEDIES
        if verdict.parts[f"{remedy.capitalize()} eliminates it"].outcome == verdict.outcome
    ]
    if verdict.outcome == Outcome.REPRODUCED:
        return f"Yes: {' and '.join(names)}. {told}."
    if verdict.outcome == Outcome.CONDITIONAL:
        return f"In part: {' and '.join(names)} make the gap smaller, and nothing eliminates it. {told}."
    if verdict.outcome == Outcome.NOT_REPRODUCED:
        return f"No. {told}, and no remedy changes that."
    return f"Not settled. {told}."
