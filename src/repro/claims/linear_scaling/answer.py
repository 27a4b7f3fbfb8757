"""Linear scaling: what the reader is told."""

from __future__ import annotations

import math

import pandas as pd

from repro.claims.linear_scaling.judgement import POWER, holds_to
from repro.claims.linear_scaling.readings import LINEAR, SMALL, TRAINING, best, costs
from repro.evidence.intervals import Estimate
from repro.evidence.spec import Outcome, Verdict
from repro.evidence.words import bracketed


def worst_of_rule(table: pd.DataFrame, rule: str) -> tuple[int, int, Estimate] | None:
    """The batch size at which following the rule from another surely loses most, that other, and the accuracy there
    minus the best (points)."""
    known = costs(table).dropna(subset=["mean"])
    known = known[(known["series"] == rule) & (known["start"] == "best") & (known["high"] < 0)]
    if known.empty:
        return None
    row = known.sort_values("mean").iloc[0]
    lost = Estimate(row["mean"], row["low"], row["high"], int(row["n"]), "paired t interval")
    return int(row["x"]), int(row["base"]), lost


def answer(table: pd.DataFrame, verdict: Verdict) -> str:
    """Slope over the small batch sizes, how far the rule holds, and what following it costs where it costs most."""
    if "arm" not in table or table.empty:
        return "Not run yet."
    slopes = [e for e in verdict.effects.values() if e.unit == POWER]
    if not slopes or not math.isfinite(slopes[0].value):
        return f"Not settled. {verdict.reason}"
    small = [size for size in best(table, TRAINING) if size <= SMALL]
    grows = f"From B = {min(small)} to {max(small)} the best learning rate grows as B to the power "
    grows += bracketed(slopes[0])
    worst, cost = worst_of_rule(table, LINEAR), ""
    if worst:
        size, base, lost = worst
        points = f"{-lost.value:.0f} points ({-lost.high:.0f} to {-lost.low:.0f})"
        cost = f" Scaled in proportion from B = {base}, B = {size} loses {points}."
    if verdict.outcome == Outcome.REPRODUCED:
        return f"Yes. {grows}, and goes on.{cost}"
    end = holds_to(table)
    if verdict.outcome == Outcome.CONDITIONAL and end:
        where = bracketed(end[0], form=".0f")
        return f"Yes, for small batches: to B = {where}. {grows}; there it has fallen to half of that line.{cost}"
    if verdict.outcome == Outcome.NOT_REPRODUCED:
        return f"Not in proportion. {grows}.{cost}"
    return f"Not settled. {grows}.{cost}"
