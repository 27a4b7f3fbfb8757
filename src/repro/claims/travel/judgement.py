"""How far networks travel: how it is judged, and what the reader is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from repro.claims.generalization_gap import EQUAL_EPOCHS, EQUAL_STEPS, batch_sizes_compared
from repro.claims.travel.experiment import (
    ADAM,
    DRAWN_LABELS,
    F1_LARGE,
    F1_SMALL,
    RAISED,
    ROOT_RATE,
    SAME_RATE,
    TENFOLD,
    TRUE_LABELS,
)
from repro.claims.travel.readings import AS_FAR, LEAST_STEPS, as_far, ends, misses, over, path, slopes
from repro.evidence.intervals import Estimate, Unit, geometric, mean_interval, paired_difference
from repro.evidence.spec import Outcome, Verdict
from repro.evidence.tables import by_seed, margin_for, paired, select
from repro.evidence.words import bracketed

MARGIN = 0.3  # percentage points of 10,000 test images
KESKAR = (3.0, 10.0)  # how many times as far small batches are said to go
LOG = "log t"
MISSES = Unit("times", "What log t misses two held-out checkpoints by, over what another law does, times", 1.0,
              ("log t better", "worse"), log=True)  # fmt: skip
LABELS = Unit("points", "Test accuracy, random labels minus true ones, percentage points", 0.0, ("worse", "better"))
SPREADS = Unit("times", "Spread of slopes over batch sizes, learning rate ∝ √B over one learning rate, times", 1.0,
               ("more alike with √B", "less"), log=True)  # fmt: skip
NEARER, WORSE = "distance at equal epochs, large batch over small", "test accuracy at equal epochs, large minus small"
EPOCHS_WAY = "More epochs bring the large batch as far, and make it as good"  # parts
RATE_WAY = "A learning rate as many times as high brings it as far, and makes it as good"
ADAM_TOO = "Another optimizer, as far from the start, tests as well"
TEN_WAY = "The post's ten times the learning rate brings it as far, and makes it as good"
AT_SAME = "test accuracy at the same distance, large minus small"  # effects


def farther(table: pd.DataFrame, a: Mapping[str, Any], b: Mapping[str, Any]) -> Estimate:
    """How many times as far as rows `b` rows `a` end from the start."""
    return over(ends(table, "weight_distance", **a), ends(table, "weight_distance", **b))


def better(table: pd.DataFrame, a: Mapping[str, Any], b: Mapping[str, Any]) -> Estimate:
    return paired(table, a, b, "test_accuracy", 100).of(points(table))


def points(table: pd.DataFrame) -> Unit:
    margin = margin_for(table, MARGIN)
    axis = "Test accuracy, the first named minus the second, percentage points"
    return Unit("points", axis, 0.0, ("worse", "better"), (-margin, margin))


def same(table: pd.DataFrame, e: Estimate) -> bool:
    """Whether accuracies are the same within the margin, by two one-sided tests."""
    return e.equivalent(margin_for(table, MARGIN))


def at_same_distance(table: pd.DataFrame, a: Mapping[str, Any], b: Mapping[str, Any]) -> Estimate:
    """Test accuracy of rows `a` minus rows `b`, percentage points, both where the nearer of the two ends (`as_far`)."""
    found = as_far(path(table, **a), path(table, **b))
    return mean_interval([100 * (mine - other) for mine, other in found.values()]).of(points(table))


def judge_as_far(table: pd.DataFrame, a: Mapping[str, Any], b: Mapping[str, Any], how: str) -> Verdict:
    """Whether rows `a` end as far from the start as rows `b`, and test the same or better."""
    distance, accuracy = farther(table, a, b), better(table, a, b)
    effects = {
        f"distance, {how} over the small batch": distance,
        f"test accuracy, {how} minus the small batch": accuracy,
    }
    if min(distance.n, accuracy.n) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    reason = (
        f"With {how} the large batch goes {bracketed(distance, 'times')} as far as the small one and tests "
        f"{bracketed(accuracy, 'points')} beside it"
    )
    if distance.low > 1 / AS_FAR and (same(table, accuracy) or accuracy.low > 0):
        return Verdict(Outcome.REPRODUCED, f"{reason}.", effects)
    fails = {"not as far": distance.high < 1 / AS_FAR, "not as good": accuracy.high < -margin_for(table, MARGIN)}
    if any(fails.values()):
        told = " and ".join(how for how, failed in fails.items() if failed)
        return Verdict(Outcome.NOT_REPRODUCED, f"{reason}: {told}.", effects)
    return Verdict(Outcome.INCONCLUSIVE, f"{reason}.", effects)


def judge_steps(table: pd.DataFrame, arm: str) -> Verdict:
    """Whether, after as many steps, distance is the same at every batch size."""
    sizes = sorted(select(table, arm=arm)["batch_size"].unique().tolist())
    if len(sizes) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two batch sizes.")
    base = max(sizes)
    ratios = {size: farther(table, *({"arm": arm, "batch_size": n} for n in (size, base))) for size in sizes[:-1]}
    effects = {f"distance at equal steps, B = {size} over B = {base}": e for size, e in ratios.items()}
    if min(e.n for e in ratios.values()) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    farthest = max(ratios, key=lambda size: abs(np.log(ratios[size].value)))
    reason = (
        f"After as many steps B = {farthest} is {bracketed(ratios[farthest], 'times')} as far from the start as "
        f"B = {base}" + (", where they differ most." if len(ratios) > 1 else ".")
    )
    alike = [e.low > 1 / AS_FAR and e.high < AS_FAR for e in ratios.values()]
    apart = [e.low > AS_FAR or e.high < 1 / AS_FAR for e in ratios.values()]
    if all(alike):
        return Verdict(Outcome.REPRODUCED, reason, effects)
    if any(apart):
        return Verdict(Outcome.CONDITIONAL if any(alike) else Outcome.NOT_REPRODUCED, reason, effects)
    return Verdict(Outcome.INCONCLUSIVE, reason, effects)


def judge_log(table: pd.DataFrame) -> Verdict:
    """Whether log t foretells distance better than any other law, at every batch size, at either rule for rates."""
    beside, without, seen = [], 0, set[frozenset[str]]()
    for arm in (SAME_RATE, ROOT_RATE) if len(table) else ():
        found = misses(table, arm)
        without += len({*select(table, arm=arm)["batch_size"]} - {*found})
        for size, by_law in found.items():
            trials = frozenset(select(table, arm=arm, batch_size=size)["key"])
            if trials in seen:  # at the batch size that both rules start from, the rate is the same
                continue
            seen.add(trials)
            logs = {law: np.log(np.maximum(x, 1e-9)) for law, x in by_law.items()}
            rivals = {law: geometric(paired_difference(logs[LOG], logs[law])) for law in logs if law != LOG}
            rival = max(rivals, key=lambda law: rivals[law].value)
            told = all(e.high < 1 for e in rivals.values()), any(e.low > 1 for e in rivals.values())
            beside.append((arm, size, rival, rivals[rival].of(MISSES), *told))
    if not beside or min(e.n for _, _, _, e, _, _ in beside) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds and enough checkpoints.")
    effects = {
        f"log t over {rival}, B = {size}, {arm.removeprefix('narrow, ')}": e for arm, size, rival, e, _, _ in beside
    }
    best, beaten = [b[4] for b in beside], [b[5] for b in beside]
    reason = (
        f"Fitted from step {LEAST_STEPS} on, log t foretells the last two distances best at {sum(best)} "
        f"of {len(beside)} batch sizes and rules for the rate; at {sum(beaten)} another law surely does better"
        + (f"; at {without} more no law can be fitted, for want of a run that finished." if without else ".")
    )
    if all(best) and not without:
        return Verdict(Outcome.REPRODUCED, reason, effects)
    if any(best):
        return Verdict(Outcome.CONDITIONAL, reason, effects)
    return Verdict(Outcome.NOT_REPRODUCED if all(beaten) and not without else Outcome.INCONCLUSIVE, reason, effects)


def judge_slopes(table: pd.DataFrame) -> Verdict:
    """Whether slopes on log t differ by batch size at one learning rate, and are more alike at one that goes as √B."""
    of_arms = [slopes(table, arm).dropna(axis=1) for arm in (SAME_RATE, ROOT_RATE)]
    both = of_arms[0].index.intersection(of_arms[1].index)
    of_arms = [grid.loc[both] for grid in of_arms]
    if min(map(len, of_arms)) < 3 or (of_arms[0] <= 0).any(axis=None) or (of_arms[1] <= 0).any(axis=None):
        return Verdict(Outcome.INCONCLUSIVE, "Not run with three batch sizes, or a distance that falls.")
    one, root = ({int(str(s)): float(np.log(c).std(ddof=1)) for s, c in grid.items()} for grid in of_arms)
    ratio = over(root, one).of(SPREADS)
    first, last = of_arms[0].index[0], of_arms[0].index[-1]
    steepest = over(*({int(str(s)): float(v) for s, v in of_arms[0].loc[size].items()} for size in (last, first)))
    effects = {
        "spread of slopes, learning rate ∝ √B over one": ratio,
        f"slope at one learning rate, B = {last} over B = {first}": steepest,
    }
    if ratio.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    reason = (
        f"At one learning rate the slope of B = {last} is {bracketed(steepest, 'times')} that of B = {first}; with the "
        f"learning rate ∝ √B slopes spread {bracketed(ratio, 'times')} as much over batch sizes."
    )
    if ratio.high < 1 and steepest.excludes(1):
        return Verdict(Outcome.REPRODUCED, reason, effects)
    if ratio.low > 1:
        return Verdict(Outcome.NOT_REPRODUCED, reason, effects)
    return Verdict(Outcome.INCONCLUSIVE, reason, effects)


def judge_keskar(table: pd.DataFrame) -> Verdict:
    """Whether Keskar's network goes 3 to 10 times as far with the small batch."""
    e = farther(table, {"arm": F1_SMALL}, {"arm": F1_LARGE})
    effects = {"distance of F1, small batch over large": e}
    if e.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    low, high = KESKAR
    told = ": farther than was said." if e.low > high else "."
    reason = f"On F1 the small batch ends {bracketed(e, 'times')} as far from the start as the large one{told}"
    if low <= e.low and e.high <= high:
        return Verdict(Outcome.REPRODUCED, reason, effects)
    return Verdict(Outcome.NOT_REPRODUCED if e.high < low or e.low > high else Outcome.INCONCLUSIVE, reason, effects)


def judge_labels(table: pd.DataFrame) -> Verdict:
    """The control: whether a network that goes as far as another also tests as well, if it is shown labels drawn at
    random."""
    arms = {"arm": DRAWN_LABELS}, {"arm": TRUE_LABELS}
    distance, accuracy = farther(table, *arms), better(table, *arms).of(LABELS)
    effects = {"distance, random labels over true ones": distance, "test accuracy, random labels minus true": accuracy}
    if min(distance.n, accuracy.n) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    reason = (
        f"Shown random labels, the network goes {bracketed(distance, 'times')} as far and tests "
        f"{bracketed(accuracy, 'points')} beside true ones."
    )
    if distance.low > 1 / AS_FAR and accuracy.high < -margin_for(table, MARGIN):
        return Verdict(Outcome.NOT_REPRODUCED, reason, effects)
    if distance.low > 1 / AS_FAR and (same(table, accuracy) or accuracy.low > 0):
        return Verdict(Outcome.REPRODUCED, reason, effects)
    return Verdict(Outcome.INCONCLUSIVE, reason, effects)


def judge_adam(table: pd.DataFrame) -> Verdict:
    """Whether Adam, which takes another way, tests the same as SGD where both are as far from the start. Distance and
    learning rate times steps are as one in every arm of SGD; here they are not."""
    e = at_same_distance(table, {"arm": ADAM}, {"arm": TRUE_LABELS})
    effects = {"test accuracy at the same distance, Adam minus SGD": e}
    if e.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds that go as far.", effects)
    reason = f"As far from the start as SGD, Adam tests {bracketed(e, 'points')} beside it."
    margin = margin_for(table, MARGIN)
    if same(table, e):
        return Verdict(Outcome.REPRODUCED, reason, effects)
    if e.low > margin or e.high < -margin:
        return Verdict(Outcome.NOT_REPRODUCED, reason, effects)
    return Verdict(Outcome.INCONCLUSIVE, reason, effects)


def judge_first_epoch(table: pd.DataFrame, small: int, large: int) -> Verdict:
    """Whether after as many examples, an epoch, the large batch has moved less: the sum of its few steps, beside that
    of many small ones."""

    def moved(size: int) -> dict[int, float]:
        return by_seed(select(table, arm=EQUAL_EPOCHS, batch_size=size, epoch=1.0), "weight_distance")

    e = over(moved(large), moved(small))
    effects = {f"distance after one epoch, B = {large} over B = {small}": e}
    if e.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    reason = (
        f"After one epoch B = {large} has moved {bracketed(e, 'times')} as far as B = {small}, at one learning rate."
    )
    outcome = Outcome.REPRODUCED if e.high < 1 else Outcome.NOT_REPRODUCED if e.low > 1 else Outcome.INCONCLUSIVE
    return Verdict(outcome, reason, effects)


def judge(table: pd.DataFrame) -> Verdict:
    pair = batch_sizes_compared(table) if "arm" in table else None
    if pair is None:
        return Verdict(Outcome.INCONCLUSIVE, "The two budgets do not share a small and a large batch size.")
    small, large = pair
    alone = {"arm": EQUAL_EPOCHS, "batch_size": small}
    at_epochs = {"arm": EQUAL_EPOCHS, "batch_size": large}
    nearer, worse = farther(table, at_epochs, alone), better(table, at_epochs, alone)
    at_same = at_same_distance(table, at_epochs, alone)
    longer = judge_as_far(table, {"arm": EQUAL_STEPS, "batch_size": large}, alone, "more epochs")
    raised = judge_as_far(table, {"arm": RAISED}, alone, "a higher learning rate")
    parts = {
        EPOCHS_WAY: longer,
        RATE_WAY: raised,
        TEN_WAY: judge_as_far(table, {"arm": TENFOLD}, alone, "ten times the learning rate"),
        "For as many steps, distance does not depend on the batch size": judge_steps(table, EQUAL_STEPS),
        "The same for the first steps, on a narrow network": judge_steps(table, SAME_RATE),
        "A step of a large batch is less than the sum of many small ones": judge_first_epoch(table, small, large),
        "Distance grows as log t": judge_log(table),
        "Slopes on log t differ by batch size, and are alike where the rate goes as √B": judge_slopes(table),
        "Small batches go 3 to 10 times as far as large ones": judge_keskar(table),
        ADAM_TOO: judge_adam(table),
        "What goes as far tests as well, whatever it is shown": judge_labels(table),
    }
    effects = {NEARER: nearer, WORSE: worse, AT_SAME: at_same}
    if min(nearer.n, worse.n) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Too few paired seeds at equal epochs.", effects, parts)
    reason = (
        f"At equal epochs B = {large} goes {bracketed(nearer, 'times')} as far as B = {small} and tests "
        f"{bracketed(worse, 'points')} beside it"
    )
    if nearer.low > 1 / AS_FAR or worse.low > 0 or same(table, worse):
        return Verdict(Outcome.NOT_REPRODUCED, f"{reason}.", effects, parts)
    if nearer.high >= 1 or worse.high >= 0:
        return Verdict(Outcome.INCONCLUSIVE, f"{reason}: not surely less.", effects, parts)
    reason += f"; at the same distance, {bracketed(at_same, 'points')}."
    margin = margin_for(table, MARGIN)
    outcomes = [longer.outcome, raised.outcome]
    if at_same.high < -margin or Outcome.NOT_REPRODUCED in outcomes:
        return Verdict(Outcome.CONDITIONAL, reason, effects, parts)
    if at_same.low > -margin and set(outcomes) == {Outcome.REPRODUCED}:
        return Verdict(Outcome.REPRODUCED, reason, effects, parts)
    return Verdict(Outcome.INCONCLUSIVE, reason, effects, parts)


def answer(table: pd.DataFrame, verdict: Verdict) -> str:
    pair = batch_sizes_compared(table) if "arm" in table else None
    if not pair or NEARER not in verdict.effects or min(verdict.effects[e].n for e in (NEARER, WORSE)) < 2:
        return "Not settled: too few seeds have been run at equal epochs and at equal steps."
    small, large = pair
    nearer, worse, at_same = (verdict.effects[name] for name in (NEARER, WORSE, AT_SAME))
    far = f"At equal epochs B = {large} goes {nearer.value:.2f} times as far as B = {small}"
    if verdict.outcome == Outcome.REPRODUCED:
        adam = next(iter(verdict.parts[ADAM_TOO].effects.values()))
        other = f" Adam, as far as SGD, tests {bracketed(adam)} beside it: distance alone is not all." * (adam.high < 0)
        return (
            f"Yes. {far} and tests {abs(worse.value):.1f} points worse; where it is as far, it tests "
            f"{bracketed(at_same, 'points')} beside it.{other}"
        )
    if verdict.outcome == Outcome.CONDITIONAL:
        if at_same.high < -margin_for(table, MARGIN):
            return f"In part. {far}; but at the same distance, too, it tests worse ({bracketed(at_same, 'points')})."
        ways = {"as many steps": EPOCHS_WAY, "a learning rate as many times as high": RATE_WAY}
        failed = [how for how, name in ways.items() if verdict.parts[name].outcome == Outcome.NOT_REPRODUCED]
        return f"In part. {far}, but {' and '.join(failed)} does not bring it as far and make it as good."
    if verdict.outcome == Outcome.NOT_REPRODUCED:
        return f"No. {far}, and tests {bracketed(worse, 'points')} beside it."
    if at_same.n < 2:
        return f"Not settled. {far}; no small batch was measured on its way as far from the start."
    return f"Not settled. {far}; at the same distance it tests {bracketed(at_same, 'points')} beside it."
