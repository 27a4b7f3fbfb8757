"""Linear scaling: how it is judged."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import pandas as pd

from repro.claims.linear_scaling.curves import judge_curves
from repro.claims.linear_scaling.experiment import ADAM, FLOAT32, MALLADI, SGD, WARM
from repro.claims.linear_scaling.readings import (
    LINEAR,
    READINGS,
    RULES,
    SMALL,
    SQUARE_ROOT,
    TRAINING,
    best,
    costs,
    ends,
    of_small,
)
from repro.evidence.intervals import Estimate, Unit, mean_interval
from repro.evidence.spec import Outcome, Verdict
from repro.evidence.tables import paired
from repro.evidence.tuning import (
    HINGE,
    LAW,
    LINE,
    Optimum,
    falls_to_half,
    inner,
    left_out_errors,
    noise_scale,
    optima,
    ratio,
    slope,
)
from repro.evidence.words import bracketed, signed

ROOT = "Adam's best learning rate goes as √B"
POWER = Unit("", "The power of B with which the best learning rate grows", sides=("flatter", "steeper"))
POINTS = Unit("points", "Test accuracy, the first named minus the second, percentage points", 0.0, ("worse", "better"))
TIMES = Unit("×", "Best learning rate as chosen by the engine over that in float32, times", 1.0, log=True)
EXAMPLES = Unit("examples", "Batch size, examples", log=True)
OCTAVES = Unit("octaves", "Error of the smooth law minus another form's, octaves", 0.0, ("law nearer", "law farther"))

SEVERAL, NONE = "several", "none"
TOLERANCE = 1 / math.log2(SMALL)  # of a power: a factor of two from B = 1 to SMALL


def _holds(estimate: Estimate, power: float) -> bool:
    """Whether the interval of a slope holds a power, or lies nearer to it than makes a factor of two from B = 1 to
    SMALL: a law that bends somewhere above never has a slope of just 1 below."""
    return not estimate.excludes(power) or power - TOLERANCE < estimate.low <= estimate.high < power + TOLERANCE


def _held(estimate: Estimate) -> list[float]:
    """Which of the rules' powers the interval of a slope holds."""
    return [power for power in (0.0, 0.5, 1.0) if _holds(estimate, power)]


def _power(estimate: Estimate) -> str:
    """The one rule whose power the interval of a slope holds, SEVERAL or NONE; "" where it is unknown."""
    if not math.isfinite(estimate.value) or not math.isfinite(estimate.high):
        return ""
    rules = [rule for rule, power in RULES.items() if power in _held(estimate)]
    return rules[0] if len(rules) == 1 else SEVERAL if rules else NONE


def _told(estimate: Estimate) -> str:
    told = f"B to the power {estimate.value:.2f} ({signed(estimate.low, '.2f')} to {signed(estimate.high, '.2f')})"
    held = ["½" if power == 0.5 else f"{power:.0f}" for power in _held(estimate)]
    which = f"{held[0]} alone" if len(held) == 1 else " and ".join(held) or "none"
    return f"{told}: of 0, ½ and 1 it holds {which}" if _power(estimate) else told


def judge_slope(table: pd.DataFrame, reading: str = TRAINING) -> Verdict:
    """How the best learning rate, by one reading, goes with the batch size over the small ones."""
    found = of_small(best(table, reading))
    along = slope(found)
    span = f", B = {min(found)} to {max(found)}" if found else ""
    effects = {f"{reading}{span}": along.of(POWER)}
    if at_edge := edges(found):
        return Verdict(Outcome.INCONCLUSIVE, at_edge, effects)
    if not _power(along):
        return Verdict(Outcome.INCONCLUSIVE, "Too few batch sizes or seeds.", effects)
    outcome = {LINEAR: Outcome.REPRODUCED, SEVERAL: Outcome.INCONCLUSIVE}.get(_power(along), Outcome.NOT_REPRODUCED)
    reason = f"From B = {min(found)} to {max(found)} the best learning rate grows as {_told(along)}."
    return Verdict(outcome, reason, effects)


def edges(found: Mapping[int, Optimum]) -> str:
    """The batch sizes whose best learning rate lies on an edge of the grid, told; "" where none does."""
    at = [f"B = {b} ({o.tuned.edge})" for b, o in found.items() if o.tuned.edge]
    return f"The best learning rate lies on an edge of the grid at {', '.join(at)}." if at else ""


def holds_to(table: pd.DataFrame) -> Estimate | None:
    """The batch size at which the best learning rate falls below half of the line's (`falls_to_half`); None where that
    is not known."""
    found = best(table)
    end = falls_to_half(found, SMALL)
    return end.of(EXAMPLES) if math.isfinite(end.high) and not edges(found) else None


def whole(where: Estimate) -> str:
    """A batch size with its interval, in whole examples."""
    return f"{where.value:.0f} ({where.low:.0f} to {where.high:.0f})"


def judge_scaling(table: pd.DataFrame) -> Verdict:
    """The sentence itself: the slope over the small batch sizes, the same an epoch earlier, and how far it holds."""
    main, found = judge_slope(table), best(table)
    control = slope(of_small(best(table, "first_loss")))
    effects = {**main.effects, "training loss, an epoch earlier": control.of(POWER)}
    if at_edge := edges(found):
        return Verdict(Outcome.INCONCLUSIVE, at_edge, effects)
    if main.outcome != Outcome.REPRODUCED:
        return dataclasses.replace(main, effects=effects)
    if not _power(control) or not _holds(control, 1.0):
        read = f"Read an epoch earlier, it grows as {_told(control)}" if _power(control) else "Not read at epoch 1"
        return Verdict(Outcome.INCONCLUSIVE, f"{main.reason} {read}: that hangs on when it is read.", effects)
    end, largest = holds_to(table), max(found)
    if end is None:
        return Verdict(Outcome.INCONCLUSIVE, f"{main.reason} Too few seeds to say how far it holds.", effects)
    effects["where the best falls to half of the line"] = end
    if end.low >= largest:
        reason = f"{main.reason} It stays above half of that line up to B = {largest}."
        return Verdict(Outcome.REPRODUCED, reason, effects)
    reason = f"{main.reason} It falls to half of that line at B = {whole(end)}"
    if end.high >= largest:
        return Verdict(Outcome.INCONCLUSIVE, f"{reason}, or not at all.", effects)
    return Verdict(Outcome.CONDITIONAL, f"{reason}.", effects)


def judge_law(table: pd.DataFrame) -> Verdict:
    """Whether one smooth law tells the best learning rate of batch sizes it has not seen, better than lines do."""
    found = best(table)
    if at_edge := edges(found):
        return Verdict(Outcome.INCONCLUSIVE, at_edge)
    errors = left_out_errors(found)
    if not errors:
        return Verdict(Outcome.INCONCLUSIVE, "Too few batch sizes.")
    minus = {name: mean_interval(errors[LAW] - errors[name]).of(OCTAVES) for name in (LINE, HINGE)}
    effects = {f"minus {name}": e for name, e in minus.items()}
    told = ", ".join(f"{name} by {errors[name].mean():.2f}" for name in (LAW, LINE, HINGE))
    reason = f"The best learning rate of a batch size left out is missed, in octaves: {told}."
    worse = [name for name, e in minus.items() if e.low > 0]
    if worse:
        return Verdict(Outcome.NOT_REPRODUCED, f"{reason} {' and '.join(worse).capitalize()} is nearer.", effects)
    if all(e.high < 0 for e in minus.values()):
        return Verdict(Outcome.REPRODUCED, f"{reason} The law is nearest.", effects)
    return Verdict(Outcome.INCONCLUSIVE, f"{reason} They are not told apart.", effects)


def judge_warmup(table: pd.DataFrame) -> Verdict:
    """At the largest batch size, the best with warm-up minus the best without."""
    warm, cold = (optima(ends(table, arm)) for arm in (WARM, SGD))
    top = max(cold, default=0)
    if top not in warm:
        return Verdict(Outcome.INCONCLUSIVE, "Not run at the largest batch size.")
    a, b = ({"arm": arm, "batch_size": top, "lr": o[top].tuned.lr} for arm, o in ((WARM, warm), (SGD, cold)))
    gain = paired(table, a, b, "test_accuracy", 100)
    effects = {f"warm-up minus none, each at its best, B = {top}": gain.of(POINTS)}
    if warm[top].tuned.edge or cold[top].tuned.edge:
        return Verdict(Outcome.INCONCLUSIVE, "A best learning rate lies on the edge of the grid.", effects)
    if gain.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, f"Too few paired seeds at B = {top}.", effects)
    told = f"At B = {top} it changes test accuracy by {bracketed(gain.of(POINTS), 'points')}"
    if not gain.excludes(0):
        return Verdict(Outcome.INCONCLUSIVE, f"{told}, an interval that holds zero.", effects)
    return Verdict(Outcome.REPRODUCED if gain.value > 0 else Outcome.NOT_REPRODUCED, f"{told}.", effects)


def judge_adam(table: pd.DataFrame, arm: str) -> Verdict:
    """Whether the best learning rate of an Adam arm goes as the square root of the batch size."""
    found = optima(ends(table, arm), READINGS[TRAINING])
    along = slope(inner(found))
    effects = {f"{arm}, B = {min(found)} to {max(found)}" if found else arm: along.of(POWER)}
    if len(inner(found)) < len(found):
        return Verdict(Outcome.INCONCLUSIVE, "A best learning rate lies on the edge of the grid.", effects)
    if not _power(along):
        return Verdict(Outcome.INCONCLUSIVE, "Too few batch sizes or seeds.", effects)
    outcomes = {SQUARE_ROOT: Outcome.REPRODUCED, SEVERAL: Outcome.INCONCLUSIVE}
    outcome = outcomes.get(_power(along), Outcome.NOT_REPRODUCED)
    return Verdict(outcome, f"It grows as {_told(along)}.", effects)


def judge(table: pd.DataFrame) -> Verdict:
    """The verdict on the sentence, with the cost of each rule, and its companions apart."""
    if "arm" not in table or table.empty:
        return Verdict(Outcome.INCONCLUSIVE, "No trial has been run.")
    main, found = judge_scaling(table), best(table)
    told = costs(table)
    told = told[told["start"] == "best"]
    more = {
        f"{row.series} minus the best, B = {row.x}": Estimate(
            row.mean, row.low, row.high, int(row.n), "paired t interval", unit=POINTS
        )
        for row in told[told["x"] == told["x"].max()].itertuples()
    }
    for size, exact in optima(ends(table, FLOAT32), READINGS[TRAINING]).items():
        if size in found:
            more[f"in float32, B = {size}"] = ratio(found[size], exact).of(TIMES)
    fitted = noise_scale(inner(found))
    if fitted:
        more["B_noise of ε_max/(1 + B_noise/B)"] = fitted[1].of(EXAMPLES)
    parts = {
        **{f"In proportion by {reading}": judge_slope(table, reading) for reading in READINGS if reading != TRAINING},
        "One smooth law, ε_max/(1 + B_noise/B), tells all batch sizes": judge_law(table),
        "Scaled linearly, training curves coincide": judge_curves(table),
        "Warm-up helps the largest batch": judge_warmup(table),
        ROOT: judge_adam(table, ADAM),
        "Adam's goes as √B once β₁, β₂ and ε are rescaled": judge_adam(table, MALLADI),
    }
    return dataclasses.replace(main, effects={**main.effects, **more}, parts=parts)
