"""Remedies for large batches: how they are judged, and what the reader is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from repro.claims.large_batch_remedies.experiment import (
    ARM,
    AUGMENTED,
    CONSERVATIVE,
    FASTER,
    LARGE,
    OF_PAPER,
    PLAIN,
    REMEDIES,
    SHAM,
    SMALL,
    STRONGER,
    WARM,
    tail,
)
from repro.claims.sharp_minima.experiment import FLOOR
from repro.evidence.intervals import (
    Estimate,
    Unit,
    geometric,
    mean_interval,
    paired_difference,
    paired_values,
)
from repro.evidence.spec import Outcome, Verdict
from repro.evidence.tables import by_seed, final, margin_for, numbered, paired, select, settled
from repro.evidence.words import bracketed

MARGIN = 0.3  # percentage points of 10,000 test images
ANY = 1 - 0.05 / len(OF_PAPER)  # level at which one of the paper's remedies gains, where any of them would do
SHARP = 2.0  # times as sharp as the small batch's minimum: what counts as sharp
PUBLISHED = "ten iterations"
SEARCHES = {PUBLISHED: "sharpness", "a search free of scale": "sharpness_scale_free"}
GAP = "no remedy: large batch minus small"


def ends(table: pd.DataFrame) -> pd.DataFrame:
    """The last rows, test accuracy averaged over the `tail`."""
    alone = select(table, arm=ARM.format(PLAIN, LARGE)) if "arm" in table else table
    return settled(table, tail(float(alone["epochs"].iloc[0])), "test_accuracy") if len(alone) else table.iloc[:0]


def points(table: pd.DataFrame) -> Unit:
    margin = margin_for(table, MARGIN) if len(table) else MARGIN
    axis = "Test accuracy, the first named minus the second, percentage points"
    return Unit("points", axis, 0.0, ("worse", "better"), (-margin, margin))


RATIO = Unit("times", "Sharpness, large batch over small, times", 1.0, ("flatter", "sharper"), (1 / SHARP, SHARP), True)


def beside(table: pd.DataFrame, arm: str, other: str) -> Estimate:
    """Test accuracy of one arm minus another, paired by seed. Of `ends`, as all tables below."""
    return paired(table, {"arm": arm}, {"arm": other}, "test_accuracy", 100).of(points(table))


def gap(table: pd.DataFrame, remedy: str) -> Estimate:
    """Large batch minus small, both with the remedy."""
    return beside(table, ARM.format(remedy, LARGE), ARM.format(remedy, SMALL))


def shrinks(table: pd.DataFrame, remedy: str) -> Estimate:
    """By how much the large batch gains more from a remedy than the small one does, at the level `ANY`."""
    arms = [ARM.format(name, size) for name in (remedy, PLAIN) for size in (LARGE, SMALL)]
    by_arm = [by_seed(final(table, arm=arm), "test_accuracy", 100) for arm in arms]
    shared = sorted(set.intersection(*map(set, by_arm)))
    a, b, c, d = ([values[s] for s in shared] for values in by_arm)
    return mean_interval(np.subtract(np.subtract(a, b), np.subtract(c, d)), ANY).of(points(table))


def is_none(table: pd.DataFrame, e: Estimate) -> bool:
    """Whether a gap is none, or for the better."""
    return e.low > 0 or e.equivalent(margin_for(table, MARGIN))


def judge_remedy(table: pd.DataFrame, remedy: str) -> Verdict:
    """Whether a remedy that helps the large batch eliminates the gap, or at least makes it smaller; conservative
    training only if it helps more than as many steps without its pull."""
    left, gained = gap(table, remedy), shrinks(table, remedy)
    helped = beside(table, ARM.format(remedy, LARGE), ARM.format(PLAIN, LARGE))
    effects = {
        f"{remedy}: large batch minus small, both with it": left,
        f"{remedy}: the large batch with it minus without": helped,
        f"{remedy}: what the large batch gains more than the small, at {100 * ANY:.1f} %": gained,
    }
    if min(left.n, gained.n, helped.n) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    reason = (
        f"It brings the large batch {bracketed(helped, 'points')}; beside the small one, which has it too, the large "
        f"one tests {bracketed(left, 'points')}."
    )
    fit = on_training(table, remedy)
    effects |= {f"{remedy}: training accuracy of the large batch, with it minus without": fit} if fit.n else {}
    pull = judge_pull(table).outcome if remedy == CONSERVATIVE else Outcome.REPRODUCED
    if helped.low > 0 and gained.low > 0 and pull == Outcome.REPRODUCED:
        unharmed = is_none(table, beside(table, ARM.format(remedy, LARGE), ARM.format(PLAIN, SMALL)))
        closed = unharmed and is_none(table, left)
        return Verdict(Outcome.REPRODUCED if closed else Outcome.CONDITIONAL, reason, effects)
    worse = min(helped.high, gained.high) < margin_for(table, MARGIN) or pull == Outcome.NOT_REPRODUCED
    return Verdict(Outcome.NOT_REPRODUCED if worse else Outcome.INCONCLUSIVE, reason, effects)


def on_training(table: pd.DataFrame, remedy: str) -> Estimate:
    """Training accuracy of the large batch with a remedy minus without: one that fits less has not generalised
    worse."""
    if "train_accuracy" not in table:
        return mean_interval([])
    ours, plain = ({"arm": ARM.format(name, LARGE)} for name in (remedy, PLAIN))
    axis = "Training accuracy, the first named minus the second, percentage points"
    return paired(table, ours, plain, "train_accuracy", 100).of(Unit("points", axis, 0.0, ("fits less", "more")))


def judge_pull(table: pd.DataFrame, name: str = CONSERVATIVE) -> Verdict:
    """Whether the pull of conservative training does anything that more steps a batch do not."""
    e = beside(table, ARM.format(name, LARGE), ARM.format(SHAM, LARGE))
    sham = beside(table, ARM.format(SHAM, LARGE), ARM.format(PLAIN, LARGE))
    effects = {
        f"{name} minus as many steps a batch without the pull": e,
        "as many steps a batch without the pull, minus none": sham,
    }
    if e.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    reason = (
        f"With the pull it tests {bracketed(e, 'points')} beside as many steps a batch without it, which alone bring "
        f"{bracketed(sham, 'points')}."
    )
    if e.low > 0:
        return Verdict(Outcome.REPRODUCED, reason, effects)
    same = e.equivalent(margin_for(table, MARGIN)) or e.high < 0
    return Verdict(Outcome.NOT_REPRODUCED if same else Outcome.INCONCLUSIVE, reason, effects)


def times_as_sharp(table: pd.DataFrame, arm: str, other: str, column: str) -> Estimate:
    """φ of one arm over that of another, paired by seed."""
    x, y = paired_values(*(by_seed(final(table, arm=name), column) for name in (arm, other)))
    return geometric(paired_difference(*(np.log(np.maximum(v, FLOOR)) for v in (x, y)))).of(RATIO)


def sharper(table: pd.DataFrame, remedy: str, column: str) -> Estimate:
    """φ of the large batch over that of the small one, both with the remedy."""
    return times_as_sharp(table, ARM.format(remedy, LARGE), ARM.format(remedy, SMALL), column)


def judge_sharp(table: pd.DataFrame, column: str, remedies: Sequence[str] = REMEDIES) -> Verdict:
    """Whether minima stay sharp with every one of these remedies, where they are without."""
    found = {name: sharper(table, name, column) for name in (PLAIN, *remedies)}
    effects = {f"{name}, φ of the large batch over the small one's": e for name, e in found.items()}
    if min(e.n for e in found.values()) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    least = min(remedies, key=lambda name: found[name].value)
    reason = (
        f"Without a remedy the large batch's minimum is {bracketed(found[PLAIN], 'times')} as sharp as the small one's;"
        f" least with {least}, {bracketed(found[least], 'times')}."
    )
    if found[PLAIN].low <= SHARP:
        return Verdict(Outcome.INCONCLUSIVE, f"{reason} So nothing could stay sharp.", effects)
    if all(found[name].low > SHARP for name in remedies):
        return Verdict(Outcome.REPRODUCED, reason, effects)
    flat = [name for name in remedies if found[name].high < SHARP]
    if not flat:
        return Verdict(Outcome.INCONCLUSIVE, reason, effects)
    return Verdict(Outcome.NOT_REPRODUCED if len(flat) == len(remedies) else Outcome.CONDITIONAL, reason, effects)


def warmed(table: pd.DataFrame) -> dict[int, str]:
    """The arms that start from the small batch, by for how many epochs."""
    return numbered(table, WARM)


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
    if late.low > 0 and e.low > 0 and early.low <= 0:
        return Verdict(Outcome.REPRODUCED, reason, effects)
    if late.low > 0 and e.low > 0:
        return Verdict(Outcome.CONDITIONAL, f"{reason} So the early start helps, too, but less.", effects)
    same = e.equivalent(margin_for(table, MARGIN)) or e.high < 0
    return Verdict(Outcome.NOT_REPRODUCED if same else Outcome.INCONCLUSIVE, reason, effects)


def judge_flatter(table: pd.DataFrame) -> Verdict:
    """Whether a large batch ends less sharp from a late epoch of the small one than from an early one."""
    arms, alone, column = warmed(table), ARM.format(PLAIN, SMALL), SEARCHES[PUBLISHED]
    if len(arms) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run from two epochs.")
    first, last = min(arms), max(arms)
    e = times_as_sharp(table, arms[last], arms[first], column)
    beside_small = {
        f"{arm}, φ over the small batch's": times_as_sharp(table, arm, alone, column) for arm in arms.values()
    }
    effects = {f"{last} epochs first, φ over that of {first}": e, **beside_small}
    if e.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    reason = (
        f"From epoch {last} of the small batch the large one ends {bracketed(e, 'times')} as sharp as from epoch "
        f"{first}."
    )
    outcome = Outcome.REPRODUCED if e.high < 1 else Outcome.NOT_REPRODUCED if e.low > 1 / SHARP else None
    return Verdict(outcome or Outcome.INCONCLUSIVE, reason, effects)


def judge_faster(table: pd.DataFrame) -> Verdict:
    """Whether a higher learning rate alone makes the large batch better: no remedy of the paper's, and cheaper."""
    plain = ARM.format(PLAIN, LARGE)
    arms = numbered(table, ARM.format(FASTER, LARGE)).values()
    effects = {f"{arm}, minus none": beside(table, arm, plain) for arm in arms}
    if min((e.n for e in effects.values()), default=0) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    best = max(effects.values(), key=lambda e: e.value)
    reason = (
        f"At the better of two higher learning rates the large batch tests {bracketed(best, 'points')} beside the "
        "usual one."
    )
    if any(e.low > 0 for e in effects.values()):
        return Verdict(Outcome.REPRODUCED, reason, effects)
    none = all(e.high < margin_for(table, MARGIN) for e in effects.values())
    return Verdict(Outcome.NOT_REPRODUCED if none else Outcome.INCONCLUSIVE, reason, effects)


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


def judge(table: pd.DataFrame) -> Verdict:
    table = ends(table)
    if table.empty:
        return Verdict(Outcome.INCONCLUSIVE, "No trial has been run.")
    without = gap(table, PLAIN)
    each = {remedy: judge_remedy(table, remedy) for remedy in REMEDIES}
    parts = {f"{remedy.capitalize()} eliminates it": verdict for remedy, verdict in each.items()}
    parts["In conservative training it is the pull that helps"] = judge_pull(table)
    parts["A strong pull helps"] = judge_pull(table, STRONGER)
    for how, column in SEARCHES.items():
        parts[f"Minima stay sharp all the same, by {how}"] = judge_sharp(table, column)
    parts["A late warm start helps, an early one does not"] = judge_warm(table)
    parts["A late warm start ends flatter"] = judge_flatter(table)
    parts["A higher learning rate helps the large batch"] = judge_faster(table)
    parts["Augmentation is crucial"] = judge_crucial(table)
    effects = {GAP: without}
    if without.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects, parts)
    reason = f"Without a remedy the large batch tests {bracketed(without, 'points')} beside the small one."
    if without.high >= -margin_for(table, MARGIN):
        none = "There is no gap to remedy." if is_none(table, without) else "That is not surely a gap to remedy."
        return Verdict(Outcome.INCONCLUSIVE, f"{reason} {none}", effects, parts)
    works = helping(parts, OF_PAPER)
    if works:
        sharp = judge_sharp(table, SEARCHES[PUBLISHED], works)
        told = {
            Outcome.REPRODUCED: "and minima stay sharp",
            Outcome.INCONCLUSIVE: "and whether minima stay sharp is open",
        }.get(sharp.outcome, "but minima do not all stay sharp")
        reason += f" What makes that smaller: {', '.join(works)}; {told}."
        flat = sharp.outcome == Outcome.NOT_REPRODUCED
        return Verdict(Outcome.CONDITIONAL if flat else sharp.outcome, reason, effects, parts)
    failed = all(each[name].outcome == Outcome.NOT_REPRODUCED for name in OF_PAPER)
    outcome = Outcome.NOT_REPRODUCED if failed else Outcome.INCONCLUSIVE
    return Verdict(outcome, f"{reason} None of the paper's remedies surely makes that smaller.", effects, parts)


def helping(parts: Mapping[str, Verdict], remedies: Sequence[str]) -> list[str]:
    """Those that make the gap smaller, or eliminate it."""
    helps = (Outcome.REPRODUCED, Outcome.CONDITIONAL)
    return [name for name in remedies if parts[f"{name.capitalize()} eliminates it"].outcome in helps]


def answer(table: pd.DataFrame, verdict: Verdict) -> str:
    e = verdict.effects.get(GAP)
    if e is None or e.n < 2:
        return "Not settled: too few seeds have been run."
    told = f"Without a remedy it tests {bracketed(e, 'points')} beside the small one"
    names = helping(verdict.parts, OF_PAPER)
    whole = [n for n in names if verdict.parts[f"{n.capitalize()} eliminates it"].outcome == Outcome.REPRODUCED]
    if verdict.outcome in (Outcome.REPRODUCED, Outcome.CONDITIONAL):
        what = f"{' and '.join(names)} {'makes' if len(names) == 1 else 'make'} the gap smaller"
        if whole:
            what += f", {' and '.join(whole)} {'eliminates' if len(whole) == 1 else 'eliminate'} it"
        sharp = "and minima stay sharp" if verdict.outcome == Outcome.REPRODUCED else "but minima do not all stay sharp"
        return f"In part: {what}, {sharp}. {told}."
    if verdict.outcome == Outcome.NOT_REPRODUCED:
        return f"None of the paper's. {told}, and none brings it nearer to a small one that has it too."
    if is_none(ends(table), e):
        return f"Not settled: there is no gap to remedy here. {told}."
    return f"Not settled. {told}."
