"""Batch norm: how it is judged, and what the reader is told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from repro.claims.batch_norm.experiment import (
    ARM,
    BEST_EPOCH,
    EPOCHS,
    FASTER,
    GHOSTS,
    NETWORKS,
    NONE,
    RATES,
    ROOT,
    SHARED,
    SMALLER,
    STARTS,
    STEPS,
    TWICE,
    WHOLE,
)
from repro.evidence.intervals import (
    Estimate,
    Unit,
    bootstrap_interval,
    geometric,
    luck_of,
    mean_interval,
    paired_difference,
    paired_values,
)
from repro.evidence.spec import Outcome, Verdict
from repro.evidence.tables import by_seed, final, margin_for, paired, select
from repro.evidence.tuning import tune, tuned_difference
from repro.evidence.words import bracketed
from repro.names import INITS

MARGIN = 0.2  # percentage points of 10,000 test images
FEW = 1.0  # percentage points that a few per cent are more than
ALONE = (ROOT, TWICE)
TO_ALL = (*SHARED, BEST_EPOCH)
CHANCE = 10.0  # per cent: what a network that diverged tests
BOTH_SIZES = ((STEPS, True), (EPOCHS, False))  # for as many steps: budget, whether large
BETTER, WORSE, SAME = "better", "worse", "the same"
LOSSES = Unit("times", "Training loss, of the first named over the second, times", 1.0, ("lower", "higher"), log=True)


def points(table: pd.DataFrame) -> Unit:
    margin = margin_for(table, MARGIN)
    axis = "Test accuracy, the first named minus the second, percentage points"
    return Unit("points", axis, 0.0, ("worse", "better"), (-margin, margin))


def beside(table: pd.DataFrame, a: Mapping[str, Any], b: Mapping[str, Any], column: str = "test_accuracy") -> Estimate:
    return paired(table, a, b, column, 100).of(points(table))


def sizes_of(table: pd.DataFrame) -> tuple[int, int]:
    found = table["batch_size"]
    return int(found.min()), int(found.max())


def where(
    table: pd.DataFrame, norm: str, budget: str, large: bool = True, network: str = NETWORKS[0]
) -> dict[str, Any]:
    """The rows of the large batch, or of the small one, which has no ghosts of its own."""
    norm = norm if large or norm == NONE else WHOLE
    return {"arm": ARM.format(network, norm, budget), "batch_size": sizes_of(table)[large]}


def of_statistics(table: pd.DataFrame, budget: str, network: str = NETWORKS[0]) -> Estimate:
    """The large batch with ghosts minus the same with whole batches: all else is equal."""
    ghosts, all_of_it = (where(table, norm, budget, network=network) for norm in (GHOSTS, WHOLE))
    return beside(table, ghosts, all_of_it)


def side(e: Estimate, margin: float) -> str | None:
    """Whether a difference is surely one, and not the same to within the margin."""
    if e.n < 2:
        return None
    return SAME if e.equivalent(margin) else BETTER if e.low > 0 else WORSE if e.high < 0 else None


def judge_statistics(table: pd.DataFrame, network: str) -> Verdict:
    """Whether statistics over fewer examples, at equal batches and steps, make for better accuracy, as stronger
    regularisation does; conditional, where as many epochs say otherwise."""
    found = {budget: of_statistics(table, budget, network) for budget in (STEPS, EPOCHS)}
    effects = {f"{network}: ghosts minus whole batches, {budget}": e for budget, e in found.items()}
    if found[STEPS].n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    reason = (
        "With a large batch, statistics over ghosts of it instead of all of it bring "
        f"{bracketed(found[STEPS], 'points')} at as many steps, {bracketed(found[EPOCHS], 'points')} at as many epochs."
    )
    late, early = (side(e, margin_for(table, MARGIN)) for e in found.values())
    if late is None:
        return Verdict(Outcome.INCONCLUSIVE, reason, effects)
    flips = early not in (None, late)
    if late == WORSE or flips:
        return Verdict(Outcome.CONDITIONAL, reason, effects)
    return Verdict(Outcome.REPRODUCED if late == BETTER else Outcome.NOT_REPRODUCED, reason, effects)


def judge_dose(table: pd.DataFrame) -> Verdict:
    """Whether ghosts that are smaller still do more of what ghosts do."""
    small, ghosts = (where(table, norm, STEPS) for norm in (SMALLER, GHOSTS))
    e, first = beside(table, small, ghosts), of_statistics(table, STEPS)
    effects = {"smaller ghosts minus ghosts, as many steps": e}
    if e.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    reason = f"At as many steps, smaller ghosts test {bracketed(e, 'points')} beside ghosts."
    margin = margin_for(table, MARGIN)
    now, before = side(e, margin), side(first, margin)
    if now is None or before not in (BETTER, WORSE):
        return Verdict(Outcome.INCONCLUSIVE, reason, effects)
    return Verdict(Outcome.REPRODUCED if now == before else Outcome.NOT_REPRODUCED, reason, effects)


def judge_behind(table: pd.DataFrame) -> Verdict:
    """Whether the large batch falls further behind the small one with batch norm than without, at as many steps."""
    arms = [where(table, norm, budget, large) for norm in (WHOLE, NONE) for budget, large in BOTH_SIZES]
    by_arm = [by_seed(final(table, **arm), "test_accuracy", 100) for arm in arms]
    shared = sorted(set.intersection(*map(set, by_arm)))
    a, b, c, d = (np.array([values[seed] for seed in shared]) for values in by_arm)
    e = mean_interval((a - b) - (c - d)).of(points(table))
    with_norm, without = beside(table, arms[0], arms[1]), beside(table, arms[2], arms[3])
    effects = {
        "large batch minus small with batch norm, as many steps": with_norm,
        "the same without batch norm": without,
        "what it falls further behind with batch norm": e,
    }
    if e.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    reason = (
        f"At as many steps the large batch tests {bracketed(with_norm, 'points')} beside the small one with batch norm,"
        f" {bracketed(without, 'points')} without."
    )
    found = side(e, margin_for(table, MARGIN))
    outcome = Outcome.REPRODUCED if found == WORSE else Outcome.NOT_REPRODUCED if found else Outcome.INCONCLUSIVE
    return Verdict(outcome, reason, effects)


def judge_made_up(table: pd.DataFrame) -> Verdict:
    """Whether a large batch with statistics over as many examples as the small one has, and as many steps, is not
    behind it: what is left is the gradient's noise."""
    margin = margin_for(table, MARGIN)
    e = beside(table, where(table, GHOSTS, STEPS), where(table, WHOLE, EPOCHS, large=False))
    effects = {"ghosts of the large batch minus the small one, as many steps": e}
    if e.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    reason = f"With ghosts, and as many steps, the large batch tests {bracketed(e, 'points')} beside the small one."
    if mean_interval(e.values, 0.9).low > -margin:
        return Verdict(Outcome.REPRODUCED, reason, effects)
    return Verdict(Outcome.NOT_REPRODUCED if e.high < -margin else Outcome.INCONCLUSIVE, reason, effects)


def judge_smaller(table: pd.DataFrame) -> Verdict:
    """Whether ghosts make the gap at as many epochs smaller, where both have the higher learning rate of the paper."""
    margin = margin_for(table, MARGIN)
    whole, ghosts = (where(table, norm, FASTER) for norm in (WHOLE, GHOSTS))
    gap, e = beside(table, whole, where(table, WHOLE, EPOCHS, large=False)), beside(table, ghosts, whole)
    effects = {
        "large batch at the higher rate minus small, as many epochs": gap,
        "gain by ghosts, at the higher rate": e,
        "gain by ghosts, at the same rate": of_statistics(table, EPOCHS),
    }
    if min(e.n, gap.n) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    reason = (
        f"At as many epochs and a higher rate the large batch tests {bracketed(gap, 'points')} beside the small one; "
        f"ghosts bring {bracketed(e, 'points')}."
    )
    if gap.high >= -margin:
        return Verdict(Outcome.INCONCLUSIVE, f"{reason} That is not surely a gap.", effects)
    found = side(e, margin)
    outcome = Outcome.REPRODUCED if found == BETTER else Outcome.NOT_REPRODUCED if found else Outcome.INCONCLUSIVE
    return Verdict(outcome, reason, effects)


def judge_updates(table: pd.DataFrame) -> Verdict:
    """Whether as many updates gain more than ghosts."""
    start = where(table, WHOLE, EPOCHS)
    gap = beside(table, start, where(table, WHOLE, EPOCHS, large=False))
    steps, ghosts = (beside(table, where(table, *of), start) for of in ((WHOLE, STEPS), (GHOSTS, EPOCHS)))
    e = beside(table, where(table, WHOLE, STEPS), where(table, GHOSTS, EPOCHS))
    effects = {
        "large batch minus small, as many epochs": gap,
        "gain by as many updates": steps,
        "the same, minus the gain by ghosts": e,
    }
    if e.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    reason = f"As many updates bring {bracketed(steps, 'points')}, ghosts {bracketed(ghosts, 'points')}."
    if gap.high >= -margin_for(table, MARGIN):
        return Verdict(Outcome.INCONCLUSIVE, f"{reason} But there is not surely a gap.", effects)
    outcome = Outcome.REPRODUCED if e.low > 0 else Outcome.NOT_REPRODUCED if e.high < 0 else None
    return Verdict(outcome or Outcome.INCONCLUSIVE, reason, effects)


def judge_gain(table: pd.DataFrame) -> Verdict:
    """Whether batch norm is worth more than FEW points, with and without it tuned."""
    arms = [select(table, arm=RATES.format(norm), final=True) for norm in (WHOLE, NONE)]
    e = tuned_difference(arms[0], arms[1]).of(points(table))
    effects = {"with batch norm minus without, each tuned": e}
    if e.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    reason = f"Each tuned, a perceptron with batch norm tests {bracketed(e, 'points')} beside one without."
    edges = [b.edge for b in (tune(rows, "validation_accuracy", largest=True) for rows in arms) if b and b.edge]
    if edges:
        return Verdict(Outcome.INCONCLUSIVE, f"{reason} But one does best at the {edges[0]} rate tried.", effects)
    outcome = Outcome.REPRODUCED if e.low > FEW else Outcome.NOT_REPRODUCED if e.high < FEW else None
    return Verdict(outcome or Outcome.INCONCLUSIVE, reason, effects)


def of_starts(table: pd.DataFrame, norm: str) -> pd.DataFrame:
    """Test accuracy (points): a row a kind of start, a column a seed. What diverged tests as chance does."""
    rows = select(table, arm=STARTS.format(norm), final=True)
    if rows.empty:
        return pd.DataFrame()
    ended = (100 * rows["test_accuracy"]).where(rows["status"] == "finished", CHANCE)
    return rows.assign(ended=ended).pivot(index="init", columns="init_seed", values="ended").dropna(axis=1)


def variance_of_starts(values: np.ndarray) -> np.ndarray:
    """Of accuracies (starts, seeds, ...): the variance of the starts' means, less that of luck."""
    return np.asarray(values.mean(1).var(0, ddof=1) - luck_of(values))


def judge_starts(table: pd.DataFrame) -> Verdict:
    """Whether accuracies from different kinds of start lie nearer to one another with batch norm."""
    arms = [of_starts(table, norm) for norm in (WHOLE, NONE)]
    shared = [s for s in arms[0] if s in arms[1]]
    with_norm, without = (arm[shared].to_numpy() if shared else np.zeros((0, 0)) for arm in arms)

    def nearer(seeds: np.ndarray, axis: int = -1) -> np.ndarray:
        drawn = (np.moveaxis(v[:, seeds.astype(int)], axis if axis < 0 else axis + 1, 1) for v in (with_norm, without))
        return np.asarray(np.subtract(*map(variance_of_starts, drawn)))

    enough = len(shared) > 1 and len(with_norm) == len(without) == len(INITS)
    e = mean_interval([])
    if enough:
        e = bootstrap_interval(np.arange(len(shared)), nearer, np.random.default_rng(0), resamples=999, vectorized=True)
    e = e.of(Unit("points²", "Variance over starts, with batch norm minus without", 0.0, ("nearer", "farther apart")))
    effects = {"variance of test accuracy over starts, less luck, with batch norm minus without": e}
    if not enough:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    apart = [math.sqrt(max(float(variance_of_starts(v)), 0)) for v in (with_norm, without)]
    reason = (
        f"Over four kinds of start, mean accuracies have a standard deviation of {apart[0]:.2f} points with batch norm "
        f"and {apart[1]:.2f} without it, beyond luck."
    )
    if not e.excludes(0):
        return Verdict(Outcome.INCONCLUSIVE, reason, effects)
    without_one = [np.delete(np.stack([with_norm, without]), kind, axis=1) for kind in range(len(INITS))]
    signs = {np.sign(variance_of_starts(a) - variance_of_starts(b)) for a, b in without_one}
    if signs != {np.sign(e.value)}:
        told = f"{reason} Without one of the kinds it is the other way round."
        return Verdict(Outcome.CONDITIONAL, told, effects)
    return Verdict(Outcome.REPRODUCED if e.high < 0 else Outcome.NOT_REPRODUCED, reason, effects)


def judge_regularisation(table: pd.DataFrame) -> Verdict:
    """Whether statistics over ghosts leave a higher training loss, at equal batches, as regularisation does: early,
    at as many epochs, and late, at as many steps."""
    found = {}
    for budget in (EPOCHS, STEPS):
        losses = (by_seed(final(table, **where(table, norm, budget)), "train_loss") for norm in (GHOSTS, WHOLE))
        x, y = paired_values(*losses)
        found[budget] = geometric(paired_difference(np.log(x), np.log(y))).of(LOSSES)
    effects = {f"training loss, ghosts over whole batches, {budget}": e for budget, e in found.items()}
    if min(e.n for e in found.values()) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    early, late = (bracketed(e, "times") for e in found.values())
    reason = f"Ghosts leave {early} the training loss of whole batches at as many epochs, {late} at as many steps."
    higher, lower = ([e.low > 1 for e in found.values()], [e.high < 1 for e in found.values()])
    if any(higher) and any(lower):
        return Verdict(Outcome.CONDITIONAL, reason, effects)
    outcome = Outcome.REPRODUCED if all(higher) else Outcome.NOT_REPRODUCED if all(lower) else None
    return Verdict(outcome or Outcome.INCONCLUSIVE, reason, effects)


def worth(table: pd.DataFrame, name: str) -> Estimate:
    """What one thing that the released code does is worth, beside ghosts without it."""
    if name != BEST_EPOCH:
        return beside(table, {"arm": name}, where(table, GHOSTS, EPOCHS))
    rows = select(table, arm=BEST_EPOCH, status="finished")
    best = 100 * rows[rows["epoch"] > 0].groupby("init_seed")["test_accuracy"].max()
    last = by_seed(final(table, arm=BEST_EPOCH), "test_accuracy", 100)
    gains = [float(x) - last[int(str(seed))] for seed, x in best.items() if int(str(seed)) in last]
    return mean_interval(gains).of(points(table))


def judge_worth(table: pd.DataFrame, names: Sequence[str]) -> Verdict:
    """Whether each of these is worth less than the margin."""
    found, margin = {name: worth(table, name) for name in names}, margin_for(table, MARGIN)
    effects = {f"{name}, minus ghosts without": e for name, e in found.items()}
    if min(e.n for e in found.values()) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    most = max(found, key=lambda name: abs(found[name].value))
    reason = f"Worth most is {most}: {bracketed(found[most], 'points')}."
    if all(e.within(margin) for e in found.values()):
        return Verdict(Outcome.REPRODUCED, reason, effects)
    beyond = any(e.low > margin or e.high < -margin for e in found.values())
    return Verdict(Outcome.NOT_REPRODUCED if beyond else Outcome.INCONCLUSIVE, reason, effects)


def judge(table: pd.DataFrame) -> Verdict:
    if "arm" not in table or table.empty:
        return Verdict(Outcome.INCONCLUSIVE, "No trial has been run.")
    ran = [n for n in NETWORKS if ARM.format(n, WHOLE, EPOCHS) in set(table["arm"])]
    if not ran:
        return Verdict(Outcome.INCONCLUSIVE, "No network has been run with batch norm.")
    main = judge_statistics(table, ran[0])
    parts = {f"The same on {network}": judge_statistics(table, network) for network in ran[1:]}
    parts |= {
        "It is regularisation: ghosts leave a higher training loss": judge_regularisation(table),
        "Over smaller ghosts it is more so": judge_dose(table),
        "With batch norm a large batch falls further behind": judge_behind(table),
        "With ghosts it is not behind": judge_made_up(table),
        "Ghosts make the gap at as many epochs smaller": judge_smaller(table),
        "More updates remove more of it than ghosts": judge_updates(table),
        "Batch norm is worth a few per cent": judge_gain(table),
        "It reduces the dependence on the start": judge_starts(table),
        "What the released code gives to ghosts alone is worth nothing": judge_worth(table, ALONE),
        "What it gives to all is worth nothing": judge_worth(table, TO_ALL),
    }
    return Verdict(main.outcome, main.reason, main.effects, parts)


def answer(table: pd.DataFrame, verdict: Verdict) -> str:
    if not verdict.parts:
        return "Not settled: no trial has been run."
    e, early = verdict.effects.values()
    if e.n < 2:
        return "Not settled: too few seeds have been run with ghosts."
    told = f"At equal batches and steps, statistics over ghosts of a batch test {bracketed(e, 'points')} beside"
    if verdict.outcome == Outcome.REPRODUCED:
        return f"Yes. {told} statistics over all of it: the batch size sets more than the gradient."
    if verdict.outcome == Outcome.CONDITIONAL:
        return f"In part. {told} statistics over all of it; at as many epochs {bracketed(early, 'points')}."
    if verdict.outcome == Outcome.NOT_REPRODUCED:
        return f"No. {told} statistics over all of it: less than the margin."
    return f"Not settled. {told} statistics over all of it."
