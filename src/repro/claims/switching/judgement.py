"""Switching the batch size: how it is judged, and what the reader is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from repro.claims.switching.experiment import (
    AT_EQUAL_STEPS,
    FASTER,
    LARGE_KEPT,
    LATEST,
    OF_POST,
    SMALL_KEPT,
    SMALL_LONGER,
    STUCK,
    SWITCHED,
    tail,
)
from repro.evidence.intervals import Estimate, Unit
from repro.evidence.spec import Outcome, Verdict
from repro.evidence.tables import margin_for, numbered, paired, select, settled
from repro.evidence.words import bracketed, spread

MARGIN = 0.3  # percentage points of 10,000 test images within which accuracies count as the same
LATE = "Switched after as many steps of the large batch, it catches up"  # parts
BETTER = "A higher learning rate, too, achieves better test accuracy"
EQUAL_EPOCHS = "Switched last, with as many epochs in all, it catches up"


def ends(table: pd.DataFrame) -> pd.DataFrame:
    """The last rows, accuracy averaged over the `tail`."""
    alone = select(table, arm=SMALL_KEPT) if "arm" in table else table
    return settled(table, tail(float(alone["epochs"].iloc[0])), "test_accuracy") if len(alone) else table.iloc[:0]


def switched(table: pd.DataFrame, network: str = "{}") -> dict[int, str]:
    """The arms that switch, by the epoch; of the post's network, where `network` is OF_POST."""
    return numbered(table, network.format(SWITCHED))


def compared(table: pd.DataFrame, arm: str, other: str, what: str) -> Estimate:
    """Test accuracy of one arm minus another, percentage points, paired by seed. `table`: `ends`."""
    margin = margin_for(table, MARGIN) if len(table) else MARGIN
    unit = Unit("points", f"Test accuracy, {what}, percentage points", 0.0, ("worse", "better"), (-margin, margin))
    return paired(table, {"arm": arm}, {"arm": other}, "test_accuracy", 100).of(unit)


def behind(table: pd.DataFrame, arm: str) -> Estimate:
    """An arm minus the small batch from the start, on the same network; what is switched latest, minus the small batch
    for twice as long."""
    alone = OF_POST.format(SMALL_KEPT) if arm.startswith(OF_POST.format("")) else SMALL_KEPT
    return compared(table, arm, SMALL_LONGER if arm == LATEST else alone, "minus the small batch from the start")


def catches_up(table: pd.DataFrame, e: Estimate) -> bool | None:
    """Whether a difference from the small batch is none, or for the better; False if it is surely beyond the margin;
    None where that is open."""
    margin = margin_for(table, MARGIN)
    if e.low > 0 or e.equivalent(margin):
        return True
    return False if e.high < -margin else None


def judge_all(table: pd.DataFrame, arms: Sequence[str], what: str, beside: str = "from the start") -> Verdict:
    """Whether every arm catches up with the small batch kept."""
    return _judge_all(table, {arm: behind(table, arm) for arm in arms}, what, beside)


def judge_equal_epochs(table: pd.DataFrame) -> Verdict:
    """Whether what is switched last catches up with the small batch for as many epochs in all, where that is run: what
    the epochs of the large batch cost."""
    arm = max(switched(table).items())[1]
    totals = {name: set(rows["epochs"]) for name, rows in table.groupby("arm") if name in (arm, SMALL_LONGER)}
    if totals.get(arm) != totals.get(SMALL_LONGER):
        return Verdict(Outcome.INCONCLUSIVE, "Not run for as many epochs in all.")
    e = compared(table, arm, SMALL_LONGER, "minus the small batch from the start")
    return _judge_all(table, {f"{arm}, minus the small batch for as long": e}, "With as many epochs in all", "alone")


def _judge_all(table: pd.DataFrame, effects: Mapping[str, Estimate], what: str, beside: str) -> Verdict:
    if min((e.n for e in effects.values()), default=0) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    caught = [catches_up(table, e) for e in effects.values()]
    worst = min(effects.values(), key=lambda e: e.value)
    where = ", where it is worst" if len(effects) > 1 else ""
    reason = f"{what} it tests {bracketed(worst, 'points')} beside the small batch {beside}{where}."
    if all(caught):
        return Verdict(Outcome.REPRODUCED, reason, effects)
    if False in caught:
        return Verdict(Outcome.CONDITIONAL if True in caught else Outcome.NOT_REPRODUCED, reason, effects)
    return Verdict(Outcome.INCONCLUSIVE, reason, effects)


def judge_control(table: pd.DataFrame, networks: Sequence[str]) -> Verdict:
    """Whether a network that is stuck, since its learning rate is far too low, is told apart, on every network."""
    effects = {network.format(STUCK): behind(table, network.format(STUCK)) for network in networks}
    if min(e.n for e in effects.values()) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    nearest = max(effects.values(), key=lambda e: e.value)
    where = ", where it is nearest" if len(networks) > 1 else ""
    reason = (
        f"At a thousandth of the learning rate it tests {bracketed(nearest, 'points')} beside the small batch{where}."
    )
    told = [catches_up(table, e) for e in effects.values()]
    if True in told:
        return Verdict(Outcome.NOT_REPRODUCED, reason, effects)
    return Verdict(Outcome.INCONCLUSIVE if None in told else Outcome.REPRODUCED, reason, effects)


def judge_faster(table: pd.DataFrame) -> Verdict:
    """Whether ten times the learning rate is surely better than the large batch kept for as long, whenever it is
    raised, on every network."""
    arms = {arm: network for network in ("{}", OF_POST) for arm in numbered(table, network.format(FASTER)).values()}
    effects = {
        f"{arm}, minus the large batch kept": compared(table, arm, network.format(LARGE_KEPT), "minus the large kept")
        for arm, network in arms.items()
    }
    if min((e.n for e in effects.values()), default=0) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    least = min(effects.values(), key=lambda e: e.value)
    reason = f"With ten times the learning rate it tests {bracketed(least, 'points')} beside the large batch kept" + (
        ", where it gains least." if len(effects) > 1 else "."
    )
    if all(e.low > 0 for e in effects.values()):
        return Verdict(Outcome.REPRODUCED, reason, effects)
    if all(e.high < 0 for e in effects.values()):
        return Verdict(Outcome.NOT_REPRODUCED, reason, effects)
    if any(e.low > 0 for e in effects.values()) and any(e.high < 0 for e in effects.values()):
        return Verdict(Outcome.CONDITIONAL, reason, effects)
    return Verdict(Outcome.INCONCLUSIVE, reason, effects)


def lacks(table: pd.DataFrame) -> dict[str, Estimate]:
    """By network that was run, the large batch kept for as many epochs as what is switched last, minus the small one
    from the start: what there is to gain."""
    networks = [network for network in ("{}", OF_POST) if switched(table, network)]
    return {network: behind(table, network.format(LARGE_KEPT)) for network in networks}


def gains(table: pd.DataFrame) -> dict[str, Estimate]:
    """By network that was run, switched last minus the large batch kept for as many epochs; what is least so first."""
    last = {network: max(found.items())[1] for network in ("{}", OF_POST) if (found := switched(table, network))}
    told = {
        network: compared(table, arm, network.format(LARGE_KEPT), "switched minus the large batch kept")
        for network, arm in last.items()
    }
    return dict(sorted(told.items(), key=lambda item: item[1].high))


def judge(table: pd.DataFrame) -> Verdict:
    table = ends(table)
    arms = switched(table)
    if not arms:
        return Verdict(Outcome.INCONCLUSIVE, "Nothing has been run that switches.")
    of_post = [*switched(table, OF_POST).values()]
    after = judge_all(table, [*arms.values(), *of_post], "Whenever it is switched,")
    gained, lack = gains(table), lacks(table)
    gain = next(iter(gained.values()))
    control = judge_control(table, [*gained])
    late = judge_all(table, [LATEST], "Switched after as many steps", "for twice as long")
    rate = judge_faster(table)
    parts = {
        "Switched with as many steps in all, it catches up": judge_all(
            table, [AT_EQUAL_STEPS], "With as many steps in all"
        ),
        EQUAL_EPOCHS: judge_equal_epochs(table),
        LATE: late,
        BETTER: rate,
        "A higher learning rate catches up": judge_all(
            table, [*numbered(table, FASTER).values()], "At ten times the learning rate"
        ),
        "A network that is stuck would be told apart": control,
    }
    if of_post:
        parts["On the post's network, it catches up"] = judge_all(table, of_post, "On the post's network")
    effects = {
        **after.effects,
        **{network.format("switched last, minus the large batch kept"): e for network, e in gained.items()},
        **{network.format("large batch kept, minus the small one"): e for network, e in lack.items()},
    }
    reason = f"{after.reason} Switching after {max(arms)} epochs instead of never is worth {bracketed(gain, 'points')}."
    outcomes = [after.outcome, late.outcome, rate.outcome]
    to_gain = all(e.n > 1 and e.high < -margin_for(table, MARGIN) for e in lack.values())
    outcome = Outcome.INCONCLUSIVE
    if gain.n > 1 and gain.high < 0:
        outcome = Outcome.NOT_REPRODUCED
    elif to_gain and control.outcome == Outcome.REPRODUCED:
        if after.outcome == Outcome.NOT_REPRODUCED or set(outcomes) == {Outcome.REPRODUCED}:
            outcome = after.outcome
        elif after.outcome == Outcome.CONDITIONAL or (
            after.outcome == Outcome.REPRODUCED and {Outcome.NOT_REPRODUCED, Outcome.CONDITIONAL} & {*outcomes}
        ):
            outcome = Outcome.CONDITIONAL
    return Verdict(outcome, reason, effects, parts)


def answer(table: pd.DataFrame, verdict: Verdict) -> str:
    table = ends(table)
    arms = switched(table)
    found = [behind(table, arm) for arm in (*arms.values(), *switched(table, OF_POST).values())]
    if not found or min(e.n for e in found) < 2:
        return "Not settled: too few seeds have been run that switch."
    worst = min(found, key=lambda e: e.value)
    gain = next(iter(gains(table).values()))
    where = f"{spread(worst)} points at worst"
    if verdict.outcome == Outcome.REPRODUCED:
        return (
            "No. As many epochs after a switch as the small batch takes alone, the network is where that ends "
            f"({where}; switched much later, {spread(behind(table, LATEST))}), and {bracketed(gain, 'points')} above "
            "the large batch kept."
        )
    if verdict.outcome == Outcome.CONDITIONAL:
        late, rate = (verdict.parts[name] for name in (LATE, BETTER))
        if all(catches_up(table, e) for e in found) and late.outcome == Outcome.NOT_REPRODUCED:
            return (
                f"Not at first: it then ends where the small batch alone would have brought it ({where}). But after as "
                f"many steps of the large batch as that takes, {bracketed(behind(table, LATEST), 'points')} beside it."
            )
        if all(catches_up(table, e) for e in found):
            least = min(rate.effects.values(), key=lambda e: e.value)
            return (
                "Not where it switches to a small batch: it then ends where that alone would have brought it "
                f"({where}). But ten times the learning rate instead is worth {bracketed(least, 'points')}."
            )
        return f"Not everywhere: after some switches, on some networks, it catches up; after others not ({where})."
    if verdict.outcome == Outcome.NOT_REPRODUCED and gain.high < 0:
        return f"There is nothing to switch for: it tests {bracketed(gain, 'points')} beside the large batch kept."
    if verdict.outcome == Outcome.NOT_REPRODUCED:
        return f"Yes. After a large batch the small one does not bring it where it would have been ({where})."
    return f"Not settled: beside the small batch from the start it is {where}."
