"""Adam's drift: how it is judged, and what the reader is told."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from repro.claims.adam_drift.experiment import (
    COMPARED,
    DEFAULTS,
    PUBLISHED_ADAM,
    PUBLISHED_SGD,
    TUNED,
)
from repro.claims.adam_drift.growth import judge_growth
from repro.evidence.intervals import Estimate, Unit, geometric, mean_interval, paired_difference, paired_values
from repro.evidence.spec import Outcome, Published, Verdict
from repro.evidence.tables import by_seed, final, margin_for, paired, select
from repro.evidence.tuning import tune, tuned_difference
from repro.evidence.words import bracketed
from repro.training.shapes import multiply_adds
from repro.trial import Trial

MUCH = 2.0  # times the weight norm: "much larger"
MARGIN = 0.3  # percentage points of 10,000 test images
RATIO = Unit("times", "Weights, Adam over SGD, times", 1.0, ("Adam's smaller", "larger"), log=True)
COSINE = Unit("", "Cosine of Adam's first layer with its start", 0.5, ("start forgotten", "still seen"))
A_WEIGHT = Unit("", "Distance of one weight from its start, root mean square")
DISTANCE, NORM = "distance from the start", "weight norm"  # of all weights


def points(table: pd.DataFrame) -> Unit:
    """Of differences in accuracy, with the margin within which the table's count as the same."""
    margin = margin_for(table, MARGIN)
    axis = "Accuracy, the first named minus the second, percentage points"
    return Unit("points", axis, 0.0, ("worse", "better"), (-margin, margin))


def times(a: dict[str, object], b: dict[str, object], table: pd.DataFrame, column: str) -> Estimate:
    """How many times as large `column` is in rows `a` as in rows `b`: geometric mean over paired seeds, with the t
    interval of the logarithms' difference."""
    x, y = paired_values(*(by_seed(final(table, **where), column) for where in (a, b)))
    return geometric(paired_difference(np.log(x), np.log(y))).of(RATIO)


def chosen(table: pd.DataFrame, name: str) -> tuple[dict[str, object], str] | None:
    """The rows of an optimizer at its learning rate of highest validation accuracy, and the edge of the grid that it
    sits on, if any; None where it has none."""
    arm = TUNED.get(name, name)
    best = tune(select(table, arm=arm, final=True), "validation_accuracy", largest=True)
    return None if best is None else ({"arm": arm, "lr": best.lr}, best.edge)


def usual(name: str) -> dict[str, object]:
    """The rows of an optimizer at the default learning rate of torch.optim."""
    return {"arm": TUNED.get(name, name), "lr": DEFAULTS.get(name, 0.001)}


def judge_drift(
    table: pd.DataFrame, sgd: dict[str, object], adam: dict[str, object], told: str, label: str = ""
) -> Verdict:
    """Much larger weights, and hardly any cosine left with the start, in rows `adam` against rows `sgd`. The effects'
    names end in `label`."""
    larger = times(adam, sgd, table, "weight_norm")
    farther = times(adam, sgd, table, "weight_distance")
    cosine = mean_interval(list(by_seed(final(table, **adam), "cosine_1").values())).of(COSINE)
    effects = {f"{NORM}{label}": larger, f"{DISTANCE}{label}": farther, f"cosine of layer 1{label}": cosine}
    if larger.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Too few paired seeds that finished.", effects)
    reason = (
        f"{told}, Adam's weights are {bracketed(larger, 'times')} as large as SGD's, and its first layer keeps a "
        f"cosine of {bracketed(cosine, form='.3f')} with its start"
    )
    if larger.low > MUCH and cosine.high < 0.5:
        return Verdict(Outcome.REPRODUCED, f"{reason}.", effects)
    if larger.high < MUCH and cosine.low > 0.5:
        return Verdict(
            Outcome.NOT_REPRODUCED, f"{reason}: no more than {MUCH:g} times, and the start is still seen.", effects
        )
    if larger.high < MUCH:
        return Verdict(Outcome.NOT_REPRODUCED, f"{reason}: no more than {MUCH:g} times.", effects)
    if cosine.low > 0.5:
        return Verdict(Outcome.NOT_REPRODUCED, f"{reason}: the start is still seen.", effects)
    return Verdict(Outcome.INCONCLUSIVE, f"{reason}: too uncertain to decide.", effects)


def judge_tuned(
    table: pd.DataFrame, judge_pair: Callable[[dict[str, object], dict[str, object], str], Verdict]
) -> Verdict:
    """A judgement of SGD and Adam at their best learning rates, where both have one inside the grid."""
    pair = {name: chosen(table, name) for name in COMPARED}
    for name, found in pair.items():
        if found is None:
            return Verdict(Outcome.INCONCLUSIVE, f"The tuned runs of {name} are still to be made.")
        if found[1]:
            return Verdict(
                Outcome.INCONCLUSIVE, f"The best learning rate of {name}, {found[0]['lr']:g}, is the grid's {found[1]}."
            )
    (sgd, _), (adam, _) = (found for found in pair.values() if found)
    return judge_pair(sgd, adam, f"Tuned (SGD at {sgd['lr']:g}, Adam at {adam['lr']:g})")


def at_default(table: pd.DataFrame) -> dict[str, Estimate]:
    """What Adam's drift would be had its default learning rate been chosen, and how near that is to the best."""
    sgd, adam, default = chosen(table, "SGD"), chosen(table, "Adam"), usual("Adam")
    if not sgd or not adam or final(table, **default).empty or adam[0] == default:
        return {}
    label = f", Adam at its default {default['lr']:g}"
    behind = paired(table, default, adam[0], "validation_accuracy", 100).of(points(table))
    drift = judge_drift(table, sgd[0], default, "", label)
    return {**drift.effects, f"validation accuracy, Adam at {default['lr']:g} minus at its best": behind}


def judge_accuracy(table: pd.DataFrame, told: str) -> Verdict:
    """Whether Adam generalises worse, the choice of both learning rates counted."""
    adam, sgd = (select(table, arm=TUNED[name], final=True) for name in ("Adam", "SGD"))
    ahead = tuned_difference(adam, sgd).of(points(table))
    effects = {"test accuracy, Adam minus SGD, both tuned": ahead}
    if ahead.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Too few paired seeds that finished.", effects)
    reason = f"{told}, Adam minus SGD is {bracketed(ahead, 'points')} of test accuracy"
    if ahead.low > 0 or tuned_difference(adam, sgd, 0.9).within(margin_for(table, MARGIN)):
        return Verdict(Outcome.NOT_REPRODUCED, f"{reason}: Adam is no worse.", effects)
    if ahead.high < 0:
        return Verdict(Outcome.REPRODUCED, f"{reason}: Adam is worse.", effects)
    return Verdict(Outcome.INCONCLUSIVE, f"{reason}: too uncertain to decide.", effects)


def of_one_weight(table: pd.DataFrame) -> dict[str, Estimate]:
    """Adam's distance as published, by the root of the number of weights."""
    adam = final(table, arm=PUBLISHED_ADAM)
    if adam.empty:
        return {}
    root = math.sqrt(multiply_adds(Trial.from_json(adam["trial"].iloc[0])))  # one a weight
    distances = [d / root for d in by_seed(adam, "weight_distance").values()]
    return {"Adam, as published": mean_interval(distances).of(A_WEIGHT)}


AS_PUBLISHED, AT_TUNED = "Drift as published", "Drift at tuned learning rates"  # parts


def judge(table: pd.DataFrame) -> Verdict:
    if "arm" not in table or table.empty:
        return Verdict(Outcome.INCONCLUSIVE, "No trial has been run.")
    published = judge_drift(table, {"arm": PUBLISHED_SGD}, {"arm": PUBLISHED_ADAM}, "As published")
    tuned = judge_tuned(table, lambda sgd, adam, told: judge_drift(table, sgd, adam, told, ", both tuned"))
    parts = {
        AS_PUBLISHED: dataclasses.replace(published, effects={**published.effects, **of_one_weight(table)}),
        AT_TUNED: dataclasses.replace(tuned, effects={**tuned.effects, **at_default(table)}),
        "Adam generalises worse, at tuned learning rates": judge_tuned(
            table, lambda sgd, adam, told: judge_accuracy(table, told)
        ),
        "Distance grows near-linearly for Adam, sublinearly for SGD": judge_growth(table),
    }
    if published.outcome != Outcome.REPRODUCED:
        return Verdict(published.outcome, published.reason, parts=parts)
    if tuned.outcome == Outcome.NOT_REPRODUCED:
        larger, _, cosine = tuned.effects.values()
        here = f"{bracketed(larger, 'times')} and {bracketed(cosine, form='.3f')}"
        reason = f"{published.reason} Tuned, {here}: the drift came from the learning rate."
        return Verdict(Outcome.CONDITIONAL, reason, parts=parts)
    return Verdict(tuned.outcome, f"{published.reason} {tuned.reason}", parts=parts)


# The reader's answer


def distance_ratios(table: pd.DataFrame) -> dict[str, Estimate]:
    """How many times as far as SGD Adam goes: at the published learning rate, both; at its default, SGD tuned; both
    tuned. Only what has been run, by the name of its row."""
    found = {}
    ends = final(table, arm=PUBLISHED_ADAM)
    if len(ends):
        row = f"at {ends['lr'].iloc[0]:g}, as published"
        found[row] = times({"arm": PUBLISHED_ADAM}, {"arm": PUBLISHED_SGD}, table, "weight_distance")
    sgd, adam, default = (chosen(table, "SGD"), chosen(table, "Adam"), usual("Adam")) if len(table) else (None,) * 3
    if sgd and default and (not adam or adam[0] != default):
        found[f"at its default {default['lr']:g}"] = times(default, sgd[0], table, "weight_distance")
    if sgd and adam:
        row = f"tuned, at {adam[0]['lr']:g}" + (", its default" if adam[0] == default else "")
        found[row] = times(adam[0], sgd[0], table, "weight_distance")
    return {row: e for row, e in found.items() if e.n}


def answer(table: pd.DataFrame, verdict: Verdict) -> str:
    published, tuned = (verdict.parts.get(name) for name in (AS_PUBLISHED, AT_TUNED))
    farther = published.effects[DISTANCE] if published else None
    if not published or not tuned or not farther or farther.n < 2:
        return "Not settled: too few seeds of SGD and Adam have been run at the published learning rate."
    rate = final(table, arm=PUBLISHED_ADAM)["lr"].iloc[0]
    usual_rate = DEFAULTS.get("Adam", 0.001)
    at = "ten times its usual rate" if math.isclose(rate, 10 * usual_rate) else f"learning rate {rate:g}"
    far = f"it goes {bracketed(farther, 'times')} as far as SGD"
    both = tuned.effects.get(f"{DISTANCE}, both tuned")
    if published.outcome == Outcome.NOT_REPRODUCED:
        cosine = published.effects["cosine of layer 1"]
        return f"No. At {at} {far}; the cosine of its first layer with its start is {bracketed(cosine, form='.3f')}."
    if published.outcome == Outcome.INCONCLUSIVE:
        return (
            f"Not settled. At {at} {far}; whether its weights end much larger and forget their start is too uncertain."
        )
    if both is None or verdict.outcome == Outcome.INCONCLUSIVE:
        return f"At {at}, yes: {far}. Whether it does so at its best learning rate is not settled."
    if verdict.outcome == Outcome.REPRODUCED:
        return f"Yes. At {at} {far}, and tuned {bracketed(both, 'times')} as far as tuned SGD."
    kept = tuned.effects["cosine of layer 1, both tuned"].low > 0.5
    told = "the start is still seen, and it goes" if kept else "its weights are not much larger; it goes"
    default = tuned.effects.get(f"{DISTANCE}, Adam at its default {usual_rate:g}")
    more = f"; at its usual rate {bracketed(default, 'times')}" if default and default.n else ""
    return f"At {at}, yes: {far}. Tuned, no: {told} {bracketed(both, 'times')} as far as tuned SGD{more}."


def _shen(name: str, printed: str, arm: str, column: str, unit: str = "", factor: float = 1.0) -> Published:
    most = 1.0 if "cosine" in name else None
    return Published(f"{name}, {arm.partition(',')[0]}", printed, {"arm": arm}, column, unit, factor, most=most)


PUBLISHED = (
    _shen("weight distance", "254.3", PUBLISHED_ADAM, "weight_distance"),
    _shen("bias distance", "18.3", PUBLISHED_ADAM, "bias_distance"),
    _shen("weight norm", "258", PUBLISHED_ADAM, "weight_norm"),
    _shen("cosine of layer 1", ".124", PUBLISHED_ADAM, "cosine_1"),
    _shen("cosine of layer 2", ".359", PUBLISHED_ADAM, "cosine_2"),
    _shen("cosine of layer 3", ".153", PUBLISHED_ADAM, "cosine_3"),
    _shen("test accuracy", "95", PUBLISHED_ADAM, "test_accuracy", "%", 100),
    _shen("weight distance", "6.71", PUBLISHED_SGD, "weight_distance"),
    _shen("weight norm", "44.9", PUBLISHED_SGD, "weight_norm"),
)
