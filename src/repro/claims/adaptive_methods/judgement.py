"""Adaptive methods: how they are judged, and what the reader is told."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from repro.claims.adaptive_methods.experiment import (
    ADAPTIVE,
    AS_PUBLISHED,
    COMPARED,
    DECAYED,
    DESCENT,
    FAINTER,
    FROM_START,
    IN_BATCHES,
    constructed,
)
from repro.evidence.intervals import Estimate, Unit, mean_interval
from repro.evidence.spec import Outcome, Verdict
from repro.evidence.tables import final, margin_for, paired, select
from repro.evidence.tuning import tune, tuned_difference
from repro.evidence.words import bracketed, signed
from repro.names import DATASET_NAMES
from repro.theory import adaptive

MARGIN = 0.3  # percentage points of 10,000 test images
EXACT = 1e-9
BASE, NAMED = COMPARED
DEFAULT = 0.001  # learning rate of torch.optim's Adam
MADE = "There are examples on which adaptive methods learn nothing"  # parts
WORSE = "SGD with momentum and a decay rate outperforms Adam, both tuned"
GOOD_DEFAULT = "Adam is a good default"
HANGS = {
    FROM_START: "They learn nothing from a random start either",
    FAINTER: "They learn nothing with fainter own features either",
    IN_BATCHES: "They learn nothing in smaller batches either",
}


def judge_made(found: pd.DataFrame) -> Verdict:
    """Whether adaptive methods fit all that they are shown and err on exactly the share 1 - p of what they are not,
    where descent errs nowhere."""
    rows = select(found, variation=AS_PUBLISHED)
    ours, theirs = (rows[rows["method"].isin(names)] for names in (adaptive.ADAPTIVE, DESCENT))
    if ours.empty or theirs.empty:
        return Verdict(Outcome.INCONCLUSIVE, "Nothing has been computed.")
    if (theirs["test_error"] > EXACT).any() or (rows["train_error"] > 0).any():
        return Verdict(Outcome.INCONCLUSIVE, "Descent errs there too, or a method does not fit what it is shown.")
    off = (ours["test_error"] - (1 - ours["share"])).abs().max()
    shares = f"{rows['share'].min():g} to {rows['share'].max():g}"
    if off <= EXACT:
        reason = (
            f"With a share p of the label 1, {shares}, AdaGrad, RMSProp and Adam fit every example and err on 1 − p of "
            "those they have not seen: on all of the label −1. SGD errs on none, with momentum or without."
        )
        return Verdict(Outcome.REPRODUCED, reason)
    return Verdict(Outcome.NOT_REPRODUCED, f"An adaptive method is off 1 − p by {off:.2g}, p from {shares}.")


def apart(rows: pd.DataFrame, methods: Sequence[str] = adaptive.ADAPTIVE) -> pd.Series:
    """By setting: the least test error of these methods minus the largest of descent, over 1 - p."""
    errors = rows.pivot_table(index="setting", columns="method", values="test_error", sort=False)
    share = rows.groupby("setting", sort=False)["share"].first()
    least, most = (errors[list(names)] for names in (methods, DESCENT))
    return (least.min(axis=1) - most.max(axis=1)) / (1 - share)


def judge_hangs(found: pd.DataFrame, variation: str) -> Verdict:
    """Whether they still learn nothing when something is varied."""
    rows = select(found, variation=variation)
    if rows.empty:
        return Verdict(Outcome.INCONCLUSIVE, "Nothing has been computed.")
    gaps = apart(rows)
    fails = gaps >= 0.5
    told = [f"{gap:.2f} ({name})".replace("-", "−") for name, gap in gaps.items()]
    alone = ", ".join(f"{gap:.2f}".replace("-", "−") for gap in apart(rows, [NAMED]))
    reason = (
        f"What the best of them errs beyond descent, in shares of a constant answer's error: {', '.join(told)}; "
        f"{NAMED} alone, {alone}."
    )
    outcome = Outcome.REPRODUCED if fails.all() else Outcome.CONDITIONAL if fails.any() else Outcome.NOT_REPRODUCED
    return Verdict(outcome, reason)


def points(table: pd.DataFrame) -> Unit:
    margin = margin_for(table, MARGIN)
    axis = "Test accuracy, the first named minus the second, percentage points"
    return Unit("points", axis, 0.0, ("worse", "better"), (-margin, margin))


def beside(table: pd.DataFrame, arm: str, base: str = BASE, level: float = 0.95) -> Estimate:
    """Test accuracy of an arm minus that of another, SGD with momentum, both tuned, the choice of both counted."""
    method, other = (select(table, arm=name, final=True) for name in (arm, base))
    return tuned_difference(method, other, level).of(points(table))


def decayed(table: pd.DataFrame, level: float = 0.95) -> Estimate:
    """Adam beside SGD with momentum, both tuned and decayed."""
    return beside(table, DECAYED.format(NAMED), DECAYED.format(BASE), level)


def as_said(table: pd.DataFrame) -> Estimate:
    """Adam beside SGD with momentum and a decay, both tuned: the slides' own comparison."""
    return beside(table, NAMED, DECAYED.format(BASE))


def on_training(table: pd.DataFrame) -> Estimate:
    """Training accuracy of Adam minus that of SGD with momentum, both decayed, each at its best rate: if that differs,
    what differs in testing need not be generalisation."""
    adam, base = (DECAYED.format(name) for name in (NAMED, BASE))
    best = [tune(select(table, arm=arm, final=True), "validation_accuracy", largest=True) for arm in (adam, base)]
    if best[0] is None or best[1] is None or "train_accuracy" not in table:
        return mean_interval([])
    ours, theirs = {"arm": adam, "lr": best[0].lr}, {"arm": base, "lr": best[1].lr}
    return paired(table, ours, theirs, "train_accuracy", 100).of(points(table))


def by_default(table: pd.DataFrame, name: str = "{}") -> Estimate:
    """Adam's test accuracy at its default learning rate minus that of tuned SGD with momentum; both, if `name` is
    DECAYED, decayed."""
    adam, base = name.format(NAMED), name.format(BASE)
    best = tune(select(table, arm=base, final=True), "validation_accuracy", largest=True)
    if best is None or final(table, arm=adam, lr=DEFAULT).empty:
        return mean_interval([])
    pair = ({"arm": adam, "lr": DEFAULT}, {"arm": base, "lr": best.lr})
    return paired(table, *pair, "test_accuracy", 100).of(points(table))


def edges(table: pd.DataFrame) -> list[str]:
    """What is said of those compared whose best learning rate lies on the edge of its grid."""
    arms = (DECAYED.format(NAMED), DECAYED.format(BASE), NAMED)
    found = {arm: tune(select(table, arm=arm, final=True), "validation_accuracy", largest=True) for arm in arms}
    return [f"the {best.edge} rate of {arm}, {best.lr:g}" for arm, best in found.items() if best and best.edge]


def judge_worse(table: pd.DataFrame) -> Verdict:
    """Whether Adam tests worse than SGD with momentum and a decay, both tuned; and if both decay."""
    margin = margin_for(table, MARGIN)
    names = [name for name in (*DESCENT, *ADAPTIVE) if name != BASE and name in set(table["arm"])]
    e, said, training = decayed(table), as_said(table), on_training(table)
    effects = {f"{NAMED} minus momentum, both tuned and decayed": e, "the same, in training": training}
    effects[f"{NAMED} without decay minus momentum with"] = said
    effects |= {f"{name} minus momentum, both tuned, no decay": beside(table, name) for name in names}
    if e.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Too few paired seeds that finished.", effects)
    reason = f"Each tuned and decayed, {NAMED} tests {bracketed(e, 'points')} beside SGD with momentum"
    if on := edges(table):
        return Verdict(Outcome.INCONCLUSIVE, f"{reason}; best is {' and '.join(on)}: a better may lie beyond.", effects)
    if e.low > 0 or decayed(table, 0.9).within(margin):
        how = "better" if e.low > 0 else f"worse, but by less than {margin:.1f}" if e.high < 0 else "no worse"
        if e.low > 0 and training.low > 0:
            how += f" (in training, too, {signed(training.value)}: it fits more)"
        reason = f"{reason}: {how}. Without a decay of its own it tests {bracketed(said, 'points')} beside that"
        worse = said.high < 0
        return Verdict(
            Outcome.CONDITIONAL if worse else Outcome.NOT_REPRODUCED,
            f"{reason}: {'worse' if worse else 'not surely worse'}.",
            effects,
        )
    if e.high < 0:
        return Verdict(Outcome.REPRODUCED, f"{reason}: worse.", effects)
    return Verdict(Outcome.INCONCLUSIVE, f"{reason}: too uncertain to decide.", effects)


def judge_default(table: pd.DataFrame) -> Verdict:
    """Whether Adam, untuned, tests as well as SGD with momentum, tuned: neither decayed, and both."""
    plain, late = by_default(table), by_default(table, DECAYED)
    compared = f"{NAMED} at its default minus momentum tuned"
    effects = {f"{compared}, no decay": plain, f"{compared}, both decayed": late}
    if min(plain.n, late.n) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Too few paired seeds that finished.", effects)
    reason = (
        f"At {DEFAULT:g}, its default, {NAMED} tests {bracketed(plain, 'points')} beside SGD with momentum, tuned; "
        f"where both decay, {bracketed(late, 'points')}."
    )
    margin = margin_for(table, MARGIN)
    good, poor = sum(e.low > -margin for e in (plain, late)), sum(e.high < -margin for e in (plain, late))
    known = {(2, 0): Outcome.REPRODUCED, (1, 1): Outcome.CONDITIONAL, (0, 2): Outcome.NOT_REPRODUCED}
    return Verdict(known.get((good, poor), Outcome.INCONCLUSIVE), reason, effects)


def judge(table: pd.DataFrame) -> Verdict:
    if "arm" not in table or table.empty:
        return Verdict(Outcome.INCONCLUSIVE, "No trial has been run.")
    return judge_both(constructed(), table)


def judge_both(found: pd.DataFrame, table: pd.DataFrame) -> Verdict:
    """The claim, of what is learnt of the constructed examples and of images."""
    made, worse = judge_made(found), judge_worse(table)
    parts = {MADE: made, WORSE: worse, GOOD_DEFAULT: judge_default(table)}
    parts |= {name: judge_hangs(found, variation) for variation, name in HANGS.items()}
    if made.outcome != Outcome.REPRODUCED:
        return Verdict(made.outcome, made.reason, parts=parts)
    where = DATASET_NAMES[table["dataset"].iloc[0]]
    told = worse.reason[0].lower() + worse.reason[1:]
    reason = f"On the constructed examples adaptive methods err as said, on 1 − p. On {where}, {told}"
    outcome = {Outcome.NOT_REPRODUCED: Outcome.CONDITIONAL}.get(worse.outcome, worse.outcome)
    return Verdict(outcome, reason, parts=parts)


def answer(table: pd.DataFrame, verdict: Verdict) -> str:
    if not verdict.parts:
        return "Not settled: no trial has been run."
    made, worse = verdict.parts[MADE], verdict.parts[WORSE]
    if made.outcome != Outcome.REPRODUCED:
        return f"{'No' if made.outcome == Outcome.NOT_REPRODUCED else 'Not settled'}. {made.reason}"
    made_for = "On examples made for it, yes: they err on all of one label, where SGD errs on none."
    if worse.outcome == Outcome.INCONCLUSIVE:
        return f"Not settled on images. {made_for}"
    where = DATASET_NAMES[table["dataset"].iloc[0]]
    return (
        f"{made_for} On {where}, tuned, {NAMED} tests {bracketed(decayed(table), 'points')} beside SGD with momentum "
        f"if both rates decay, {bracketed(as_said(table))} if its own does not."
    )
