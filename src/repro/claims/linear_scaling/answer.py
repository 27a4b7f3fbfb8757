"""Linear scaling: what the reader is told."""

from __future__ import annotations

import math

import pandas as pd

from repro.claims.linear_scaling.judgement import POWER, holds_to, whole
from repro.claims.linear_scaling.readings import LINEAR, SMALL, TRAINING, best, costs
from repro.evidence.intervals import Estimate
from repro.evidence.spec import Outcome, Verdict
from repro.evidence.words import bracketed


def worst_of_rule(table: pd.DataFrame, rule: str) -> tuple[int, int, Estimate] | None:
    """The batch size at which following the rule from another surely loses most, that other, and the accuracy there
    minus the best (points). The rule is followed from the best learning rate and from the lowest that seeds do not
    tell from it, and what counts is the lesser loss of the two."""
    known = costs(table).dropna(subset=["mean"])
    sure = known[(known["series"] == rule) & known["start"].isin(["best", "lowest"]) & (known["high"] < 0)]
    lesser = (
        sure[sure.groupby("x")["start"].transform("nunique") == 2].sort_values("mean").drop_duplicates("x", keep="last")
    )
    if lesser.empty:
        return None
    row = lesser.iloc[0]
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
    power = f"as B to the power {bracketed(slopes[0])}"
    span = f"From B = {min(small)} to {max(small)}"
    grows = f"{span} the best learning rate grows {power}"
    worst, cost = worst_of_rule(table, LINEAR), ""
    if worst:
        size, base, lost = worst
        form = ".0f" if lost.value < -10 else ".1f"
        points = " to ".join(f"{-x:{form}}" for x in (lost.high, lost.low))
        points = f"{-lost.value:{form}} points ({points})"
        cost = f" Scaled in proportion from B = {base}, B = {size} loses {points}."
    if verdict.outcome == Outcome.REPRODUCED:
        return f"Yes. {grows}, and goes on.{cost}"
    end = holds_to(table)
    if verdict.outcome == Outcome.CONDITIONAL and end:
        half = "where the best learning rate has fallen to half of what the rule gives"
        return f"Yes, up to B = {whole(end)}, {half}. {span} it grows {power}.{cost}"
    if verdict.outcome == Outcome.NOT_REPRODUCED:
        return f"Not in proportion. {grows}.{cost}"
    return f"Not settled. {grows}.{cost}"
