"""Remedies for large batches: how they are judged, and what the reader is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from repro.claims.large_batch_remedies.experiment import (
    ADVERSARIAL,
    ARM,
    AUGMENTED,
    CONSERVATIVE,
    FASTER,
    FOUND,
    LARGE,
    LONGER,
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
ANY = 1 - 0.05 / 2  # level at which one of two does something, where either would do
SHARP = 2.0  # times as sharp as the small batch's minimum: what counts as sharp
FREE = "a search free of the loss's scale"
SEARCHES = {
    FREE: "sharpness_scale_free",
    "the same, layers as long as at the start": "sharpness_equal_scale_free",
    "ten iterations, as published": "sharpness",
}
GAP = "no remedy: large batch minus small"
HELPS = (Outcome.REPRODUCED, Outcome.CONDITIONAL)  # of a remedy: eliminates the gap, makes it smaller
OPPOSITE = {
    **dict.fromkeys(HELPS, Outcome.NOT_REPRODUCED),
    Outcome.NOT_REPRODUCED: Outcome.REPRODUCED,
    Outcome.INCONCLUSIVE: Outcome.INCONCLUSIVE,
}


def ends(table: pd.DataFrame) -> pd.DataFrame:
    """The last rows, test accuracy averaged over the `tail`."""
    alone = select(table, arm=ARM.format(PLAIN, LARGE)) if "arm" in table else table
    return settled(table, tail(float(alone["epochs"].iloc[0])), "test_accuracy") if len(alone) else table.iloc[:0]


def points(table: pd.DataFrame) -> Unit:
    margin = margin_for(table, MARGIN) if len(table) else MARGIN
    axis = "Test accuracy, the first named minus the second, percentage points"
    return Unit("points", axis, 0.0, ("worse", "better"), (-margin, margin))


RATIO = Unit("times", "Sharpness, the first named over the second, times", 1.0, ("flatter", "sharper"), None, True)
ERRORS = Unit("times", "Test errors, large batch over small, with the remedy over without, times", 1.0, log=True)


def beside(table: pd.DataFrame, arm: str, other: str) -> Estimate:
    """Test accuracy of one arm minus another, paired by seed. Of `ends`, as all tables below."""
    return paired(table, {"arm": arm}, {"arm": other}, "test_accuracy", 100).of(points(table))


def gap(table: pd.DataFrame, remedy: str) -> Estimate:
    """Large batch minus small, both with the remedy."""
    return beside(table, ARM.format(remedy, LARGE), ARM.format(remedy, SMALL))


def _four(table: pd.DataFrame, remedy: str, large: str, level: float) -> tuple[Estimate, Estimate]:
    """Large batch minus small with the remedy, minus the same without: of test accuracy (points), and of the logarithm
    of the share of errors. `large` names the large batch's arm."""
    names = [form.format(name, size) for name in (remedy, PLAIN) for form, size in ((large, LARGE), (ARM, SMALL))]
    by_arm = [by_seed(final(table, arm=arm), "test_accuracy") for arm in names]
    shared = sorted(set.intersection(*map(set, by_arm)))
    accuracy = np.array([[values[s] for s in shared] for values in by_arm]).reshape(4, -1)
    found = (100 * accuracy, np.log(np.maximum(1 - accuracy, 1e-4)))
    points_, errors = (mean_interval((x[0] - x[1]) - (x[2] - x[3]), level) for x in found)
    return points_.of(points(table)), geometric(errors).of(ERRORS)


def is_none(table: pd.DataFrame, e: Estimate) -> bool:
    """Whether a gap is surely less than the margin, or for the better (one-sided, 5 %)."""
    return e.n > 1 and mean_interval(e.values, 0.9).low > -margin_for(table, MARGIN)


def judge_remedy(table: pd.DataFrame, remedy: str, large: str = ARM) -> Verdict:
    """Whether a remedy makes the gap smaller, or eliminates it. `large` names the large batch's arms."""
    ours, plain = (large.format(name, LARGE) for name in (remedy, PLAIN))
    left = beside(table, ours, ARM.format(remedy, SMALL))
    helped = beside(table, ours, plain)
    (gained, errors), (usual, _) = (_four(table, remedy, large, level) for level in (ANY, 0.95))
    effects = {
        f"{remedy}: large batch minus small, both with it": left,
        f"{remedy}: the large batch with it minus without": helped,
        f"{remedy}: what the large batch gains more than the small, at {100 * ANY:.1f} %": gained,
        f"{remedy}: errors of the large batch over the small, with it over without, at {100 * ANY:.1f} %": errors,
    }
    if min(left.n, gained.n, helped.n) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    reason = (
        f"It brings the large batch {bracketed(helped, 'points')}; beside the small one, which has it too, the large "
        f"one tests {bracketed(left, 'points')}."
    )
    fit = on_training(table, ours, plain)
    effects |= {f"{remedy}: training accuracy of the large batch, with it minus without": fit} if fit.n else {}
    if helped.low > 0 and gained.low > 0 and errors.high < 1:
        closed = is_none(table, beside(table, ours, ARM.format(PLAIN, SMALL))) and is_none(table, left)
        return Verdict(Outcome.REPRODUCED if closed else Outcome.CONDITIONAL, reason, effects)
    fails = min(helped.high, usual.high) < margin_for(table, MARGIN)
    return Verdict(Outcome.NOT_REPRODUCED if fails else Outcome.INCONCLUSIVE, reason, effects)


def judge_augmentation(table: pd.DataFrame) -> Verdict:
    """As any remedy; but images that are new every epoch are learnt slowly, so what fails must fail for longer, too."""
    usual, longer = judge_remedy(table, AUGMENTED), judge_remedy(table, AUGMENTED, LONGER)
    effects = {**usual.effects, **{f"{name}, for longer": e for name, e in longer.effects.items()}}
    if usual.outcome in HELPS or longer.outcome == usual.outcome:
        return Verdict(usual.outcome, usual.reason, effects)
    outcome = Outcome.CONDITIONAL if longer.outcome in HELPS else Outcome.INCONCLUSIVE
    return Verdict(outcome, f"{usual.reason} For longer: {longer.reason}", effects)


def on_training(table: pd.DataFrame, arm: str, other: str) -> Estimate:
    """Training accuracy of one arm minus another: what fits less has not generalised worse."""
    if "train_accuracy" not in table:
        return mean_interval([])
    axis = "Training accuracy, the first named minus the second, percentage points"
    unit = Unit("points", axis, 0.0, ("fits less", "more"))
    return paired(table, {"arm": arm}, {"arm": other}, "train_accuracy", 100).of(unit)


def judge_better(table: pd.DataFrame, arms: Mapping[str, str], told: str) -> Verdict:
    """Whether the large batch is surely better in one of these arms, by what they are called; the level counts that
    any would do."""
    plain, margin = ARM.format(PLAIN, LARGE), margin_for(table, MARGIN)
    found = {name: beside(table, arm, plain) for name, arm in arms.items()}
    effects: dict[str, Estimate] = {f"{name}, minus none": e for name, e in found.items()}
    if min((e.n for e in found.values()), default=0) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    best = max(found.values(), key=lambda e: e.value)
    reason = f"{told} the large batch tests {bracketed(best, 'points')} beside the usual one."
    if any(mean_interval(e.values, 1 - 0.05 / len(found)).low > 0 for e in found.values()):
        return Verdict(Outcome.REPRODUCED, reason, effects)
    none = all(e.high < margin for e in found.values())
    return Verdict(Outcome.NOT_REPRODUCED if none else Outcome.INCONCLUSIVE, reason, effects)


def judge_pull(table: pd.DataFrame, name: str = CONSERVATIVE) -> Verdict:
    """Whether the pull of conservative training does anything that more steps a batch do not."""
    e = beside(table, ARM.format(name, LARGE), ARM.format(SHAM, LARGE))
    effects = {f"{name} minus as many steps a batch without the pull": e}
    if e.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    reason = f"With the pull it tests {bracketed(e, 'points')} beside as many steps a batch without it."
    if e.low > 0:
        return Verdict(Outcome.REPRODUCED, reason, effects)
    same = e.equivalent(margin_for(table, MARGIN)) or e.high < 0
    return Verdict(Outcome.NOT_REPRODUCED if same else Outcome.INCONCLUSIVE, reason, effects)


def times_as_sharp(table: pd.DataFrame, arm: str, other: str, column: str) -> Estimate:
    """φ of one arm over that of another, paired by seed."""
    x, y = paired_values(*(by_seed(final(table, arm=name), column) for name in (arm, other)))
    return geometric(paired_difference(*(np.log(np.maximum(v, FLOOR)) for v in (x, y)))).of(RATIO)


def sharper(table: pd.DataFrame, remedy: str, column: str, small: str = PLAIN) -> Estimate:
    """φ of the large batch with a remedy over that of the small one without, or with `small`."""
    return times_as_sharp(table, ARM.format(remedy, LARGE), ARM.format(small, SMALL), column)


def judge_sharp(
    table: pd.DataFrame, column: str, remedies: Sequence[str] = OF_PAPER, *, alike: bool = False
) -> Verdict:
    """Whether minima stay sharp with every one of these remedies, where they are without: beside the small batch
    without a remedy, or, if `alike`, with the same."""
    found = {name: sharper(table, name, column, name if alike else PLAIN) for name in (PLAIN, *remedies)}
    effects = {f"{name}, φ of the large batch over the small one's{' with it' * alike}": e for name, e in found.items()}
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
    if late.low > 0 and e.low > 0 and early.high < margin_for(table, MARGIN):
        return Verdict(Outcome.REPRODUCED, reason, effects)
    if late.low > 0 and e.low > 0 and early.low > 0:
        return Verdict(Outcome.CONDITIONAL, f"{reason} So the early start helps, too, but less.", effects)
    same = e.equivalent(margin_for(table, MARGIN)) or e.high < 0
    return Verdict(Outcome.NOT_REPRODUCED if same else Outcome.INCONCLUSIVE, reason, effects)


def judge_flatter(table: pd.DataFrame) -> Verdict:
    """Whether a large batch ends less sharp from a late epoch of the small one than from an early one."""
    arms, alone, column = warmed(table), ARM.format(PLAIN, SMALL), SEARCHES[FREE]
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
    each = {name: judge_augmentation(table) if name == AUGMENTED else judge_remedy(table, name) for name in REMEDIES}
    none = each.pop(ADVERSARIAL)
    parts = {f"{remedy.capitalize()} eliminates it": verdict for remedy, verdict in each.items()}
    parts["Adversarial training brings nothing"] = Verdict(OPPOSITE[none.outcome], none.reason, none.effects)
    parts["In conservative training it is the pull that helps"] = judge_pull(table)
    parts["A strong pull helps"] = judge_pull(table, STRONGER)
    parts["More steps on a batch help, without a pull"] = judge_better(
        table, {SHAM: ARM.format(SHAM, LARGE)}, "With as many steps a batch as in conservative training, and no pull,"
    )
    for how, column in SEARCHES.items():
        parts[f"Minima stay sharp all the same, by {how}"] = judge_sharp(table, column)
    parts["Minima stay sharp beside a small batch with the remedy, too"] = judge_sharp(
        table, SEARCHES[FREE], alike=True
    )
    parts["A late warm start helps, an early one does not"] = judge_warm(table)
    parts["A late warm start ends flatter"] = judge_flatter(table)
    rates = numbered(table, ARM.format(FASTER, LARGE)).values()
    parts["A higher learning rate helps the large batch"] = judge_better(
        table, {arm: arm for arm in rates}, "At the better of two higher learning rates"
    )
    parts["Augmentation is crucial"] = judge_crucial(table)
    effects = {GAP: without}
    if without.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects, parts)
    reason = f"Without a remedy the large batch tests {bracketed(without, 'points')} beside the small one."
    if without.high >= -margin_for(table, MARGIN):
        small = "There is no gap to remedy." if is_none(table, without) else "That is not surely a gap to remedy."
        return Verdict(Outcome.INCONCLUSIVE, f"{reason} {small}", effects, parts)
    works = helping(parts)
    if not works:
        failed = all(each[name].outcome == Outcome.NOT_REPRODUCED for name in FOUND)
        outcome = Outcome.NOT_REPRODUCED if failed else Outcome.INCONCLUSIVE
        return Verdict(outcome, f"{reason} Neither of the paper's two surely makes that smaller.", effects, parts)
    sharp = judge_sharp(table, SEARCHES[FREE], works)
    told = {
        Outcome.REPRODUCED: "and minima stay sharp",
        Outcome.INCONCLUSIVE: "and whether minima stay sharp is open",
    }.get(sharp.outcome, "but minima do not all stay sharp")
    reason += f" What makes that smaller: {', '.join(works)}; {told}."
    if sharp.outcome == Outcome.INCONCLUSIVE:
        return Verdict(Outcome.INCONCLUSIVE, reason, effects, parts)
    both = len(works) == len(FOUND) and sharp.outcome == Outcome.REPRODUCED
    return Verdict(Outcome.REPRODUCED if both else Outcome.CONDITIONAL, reason, effects, parts)


def helping(parts: Mapping[str, Verdict]) -> list[str]:
    """Those of the paper's two that make the gap smaller, or eliminate it."""
    return [name for name in FOUND if parts[f"{name.capitalize()} eliminates it"].outcome in HELPS]


def answer(table: pd.DataFrame, verdict: Verdict) -> str:
    e = verdict.effects.get(GAP)
    if e is None or e.n < 2:
        return "Not settled: too few seeds have been run."
    told = f"Without a remedy it tests {bracketed(e, 'points')} beside the small one"
    if verdict.outcome == Outcome.NOT_REPRODUCED:
        return (
            f"Neither of the paper's two. {told}, and neither surely brings it nearer to a small one that has it too."
        )
    if verdict.outcome == Outcome.INCONCLUSIVE:
        none = ": there is no gap to remedy here" if is_none(ends(table), e) else ""
        return f"Not settled{none}. {told}."
    names = helping(verdict.parts)
    whole = [n for n in names if verdict.parts[f"{n.capitalize()} eliminates it"].outcome == Outcome.REPRODUCED]
    what = f"{' and '.join(names)} {'makes' if len(names) == 1 else 'make'} the gap smaller"
    if whole:
        what += f", {' and '.join(whole)} {'eliminates' if len(whole) == 1 else 'eliminate'} it"
    stay = judge_sharp(ends(table), SEARCHES[FREE], names).outcome == Outcome.REPRODUCED
    return f"In part: {what}, {'and minima stay sharp' if stay else 'but minima do not all stay sharp'}. {told}."
