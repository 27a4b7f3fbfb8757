"""Linear scaling: what the reader is told."""

from __future__ import annotations

import math

import pandas as pd

from repro.claims.linear_scaling.judgement import LINEAR, POWER, costs, regimes
from repro.evidence.intervals import Estimate
from repro.evidence.spec import Outcome, Verdict
from repro.evidence.words import bracketed


def worst_of_rule(table: pd.DataFrame, rule: str) -> tuple[int, Estimate] | None:
    """The batch size at which following the rule surely loses most, and the accuracy there minus the best (points)."""
    known = costs(table).dropna(subset=["mean"])
    known = known[(known["series"] == rule) & (known["high"] < 0)]
    if known.empty:
        return None
    row = known.sort_values("mean").iloc[0]
    return int(row["x"]), Estimate(row["mean"], row["low"], row["high"], int(row["n"]), "paired t interval")


def answer(table: pd.DataFrame, verdict: Verdict) -> str:
    """Slope below the knee and beyond, and what following the rule costs where it costs most."""
    if "arm" not in table or table.empty:
        return "Not run yet."
    slopes = [e for e in verdict.effects.values() if e.unit == POWER]
    if not slopes or not math.isfinite(slopes[0].value):
        return f"Not settled. {verdict.reason}"
    both = regimes(table)
    knee, below = both.knee, f"the power {bracketed(slopes[0])}"
    knees = sorted([knee, *both.elsewhere]) if knee else []
    worst = worst_of_rule(table, LINEAR)
    cost = ""
    if worst:
        size, lost = worst
        points = f"{-lost.value:.0f} points ({-lost.high:.0f} to {-lost.low:.0f})"
        cost = f" Scaled on in proportion, B = {size} loses {points}."
    if verdict.outcome == Outcome.REPRODUCED:
        return f"Yes: the best learning rate grows as B to {below}.{cost}"
    if verdict.outcome == Outcome.CONDITIONAL:
        return f"Up to B = {knee}, yes: the best learning rate grows as B to {below}. Beyond, no.{cost}"
    if verdict.outcome == Outcome.NOT_REPRODUCED:
        upto = f" up to B = {knee}" if knee else ""
        return f"No: the best learning rate grows as B to {below}{upto}.{cost}"
    if knee and both.above.high < 0.5:
        where = f"at B = {knee}" if len(knees) == 1 else f"somewhere from B = {knees[0]} to {knees[-1]}"
        before = f"Up to B = {knee} it grows as B to {below}: not settled."
        return f"The best learning rate grows with the batch, then stops, {where}. {before}{cost}"
    return f"Not settled: the best learning rate grows as B to {below}.{cost}"
