"""Batch norm: how it is judged, and what the reader is told."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from repro.claims.batch_norm.experiment import (
    ARM,
    BEST_EPOCH,
    CONFOUNDS,
    EPOCHS,
    GHOSTS,
    NETWORKS,
    NONE,
    RATES,
    STARTS,
    STEPS,
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


def removed(table: pd.DataFrame) -> tuple[Estimate, dict[str, Estimate]]:
    """The gap at as many epochs, large batch minus small, with whole batches; and what ghosts, and as many updates,
    gain of it."""
    start, end = (where(table, WHOLE, EPOCHS, large=large) for large in (True, False))
    ways = {GHOSTS: where(table, GHOSTS, EPOCHS), STEPS: where(table, WHOLE, STEPS)}
    return beside(table, start, end), {name: beside(table, way, start) for name, way in ways.items()}


def judge_statistics(table: pd.DataFrame, network: str) -> Verdict:
    """Whether the number of examples that statistics are taken over, at equal batches and steps, changes accuracy."""
    e, early = (of_statistics(table, budget, network) for budget in (STEPS, EPOCHS))
    effects = {
        f"{network}: ghosts minus whole batches, as many steps": e,
        f"{network}: ghosts minus whole batches, as many epochs": early,
    }
    if e.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    reason = (
        f"With a large batch and as many steps, statistics over ghosts of it test {bracketed(e, 'points')} beside "
        "statistics over all of it."
    )
    if e.equivalent(margin_for(table, MARGIN)):
        return Verdict(Outcome.NOT_REPRODUCED, reason, effects)
    return Verdict(Outcome.REPRODUCED if e.excludes(0) else Outcome.INCONCLUSIVE, reason, effects)


def judge_share(table: pd.DataFrame) -> Verdict:
    """Whether ghosts remove more than half of the gap."""
    gap, gains = removed(table)
    ghosts = gains[GHOSTS]
    ends = (where(table, WHOLE, EPOCHS), where(table, WHOLE, EPOCHS, large=False), where(table, GHOSTS, EPOCHS))
    large, small, of_ghosts = (by_seed(final(table, **rows), "test_accuracy", 100) for rows in ends)
    shared = sorted(set(large) & set(small) & set(of_ghosts))
    beyond = mean_interval([of_ghosts[s] - (large[s] + small[s]) / 2 for s in shared]).of(points(table))
    effects = {
        "large batch minus small, as many epochs": gap,
        "gain by ghosts": ghosts,
        "the same, minus half of the gap": beyond,
    }
    if beyond.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    reason = (
        f"At as many epochs the large batch tests {bracketed(gap, 'points')} beside the small one; ghosts bring "
        f"{bracketed(ghosts, 'points')}."
    )
    if gap.high >= -margin_for(table, MARGIN):
        return Verdict(Outcome.INCONCLUSIVE, f"{reason} That is not surely a gap.", effects)
    outcome = Outcome.REPRODUCED if beyond.low > 0 else Outcome.NOT_REPRODUCED if beyond.high < 0 else None
    return Verdict(outcome or Outcome.INCONCLUSIVE, reason, effects)


def judge_updates(table: pd.DataFrame) -> Verdict:
    """Whether as many updates gain more than ghosts."""
    gap, gains = removed(table)
    e = beside(table, where(table, WHOLE, STEPS), where(table, GHOSTS, EPOCHS))
    effects = {"gain by as many updates": gains[STEPS], "the same, minus the gain by ghosts": e}
    if e.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    reason = f"As many updates bring {bracketed(gains[STEPS], 'points')}, ghosts {bracketed(gains[GHOSTS], 'points')}."
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
    """Test accuracy (points): a row a kind of start, a column a seed; of the seeds of which none diverged."""
    rows = final(table, arm=STARTS.format(norm))
    if rows.empty:
        return pd.DataFrame()
    return 100 * rows.pivot(index="init", columns="init_seed", values="test_accuracy").dropna(axis=1)


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
    outcome = Outcome.REPRODUCED if e.high < 0 else Outcome.NOT_REPRODUCED if e.low > 0 else None
    return Verdict(outcome or Outcome.INCONCLUSIVE, reason, effects)


def judge_regularisation(table: pd.DataFrame) -> Verdict:
    """Whether statistics over ghosts leave a higher training loss, at equal batches and steps, as regularisation
    does."""
    losses = (by_seed(final(table, **where(table, norm, STEPS)), "train_loss") for norm in (GHOSTS, WHOLE))
    x, y = paired_values(*losses)
    e = geometric(paired_difference(np.log(x), np.log(y))).of(LOSSES)
    effects = {"training loss, ghosts over whole batches, as many steps": e}
    if e.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    reason = f"At as many steps, ghosts leave {bracketed(e, 'times')} the training loss that whole batches do."
    outcome = Outcome.REPRODUCED if e.low > 1 else Outcome.NOT_REPRODUCED if e.high < 1 else None
    return Verdict(outcome or Outcome.INCONCLUSIVE, reason, effects)


def confounds(table: pd.DataFrame) -> dict[str, Estimate]:
    """What each thing that the released code gives to ghosts alone is worth, beside ghosts without it."""
    plain = where(table, GHOSTS, EPOCHS)
    found = {name: beside(table, {"arm": name}, plain) for name in CONFOUNDS}
    rows = select(table, arm=BEST_EPOCH, status="finished")
    best = 100 * rows[rows["epoch"] > 0].groupby("init_seed")["test_accuracy"].max()
    last = by_seed(final(table, arm=BEST_EPOCH), "test_accuracy", 100)
    gains = [float(x) - last[int(str(seed))] for seed, x in best.items() if int(str(seed)) in last]
    return found | {BEST_EPOCH: mean_interval(gains).of(points(table))}


def judge_confounds(table: pd.DataFrame) -> Verdict:
    """Whether all that the released code gives to ghosts alone is worth less than the margin."""
    found, margin = confounds(table), margin_for(table, MARGIN)
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
        "Ghosts remove most of the gap at as many epochs": judge_share(table),
        "More updates remove more of it than ghosts": judge_updates(table),
        "Batch norm is worth a few per cent": judge_gain(table),
        "It reduces the dependence on the start": judge_starts(table),
        "What the released code gives to ghosts alone is worth nothing": judge_confounds(table),
    }
    return Verdict(main.outcome, main.reason, main.effects, parts)


def answer(table: pd.DataFrame, verdict: Verdict) -> str:
    if not verdict.parts:
        return "Not settled: no trial has been run."
    e = next(e for name, e in verdict.effects.items() if name.endswith(STEPS))
    if e.n < 2:
        return "Not settled: too few seeds have been run with ghosts."
    told = f"At equal batches and steps, statistics over ghosts of a batch test {bracketed(e, 'points')} beside"
    if verdict.outcome == Outcome.REPRODUCED:
        return f"Yes. {told} statistics over all of it: the batch size sets more than the gradient."
    if verdict.outcome == Outcome.NOT_REPRODUCED:
        return f"No. {told} statistics over all of it: the same."
    return f"Not settled. {told} statistics over all of it."
