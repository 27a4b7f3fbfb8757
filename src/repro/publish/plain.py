"""Findings as plain data, for JSON."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from repro import claims
from repro.claims import Finding
from repro.evidence.intervals import Estimate
from repro.evidence.spec import Claim, Scale, Verdict
from repro.evidence.tables import Comparison
from repro.runs.ledger import Ledger


def _finite(estimate: Estimate) -> dict[str, Any]:
    """An estimate as plain data; JSON has no infinity, so an unbounded interval is null."""
    bounds = {k: getattr(estimate, k) for k in ("value", "low", "high")}
    return {k: v if math.isfinite(v) else None for k, v in bounds.items()} | {"n": estimate.n}


def verdict(of: Verdict) -> dict[str, Any]:
    """A verdict as plain data: its effects, with intervals and, where they have them, values by seed; and the verdicts
    on the parts of the claim."""
    effects = [
        {"name": name, **_finite(e), "unit": e.unit.symbol, "method": e.method, "values": list(e.values)}
        for name, e in of.effects.items()
    ]
    parts = [{"name": name, **verdict(part)} for name, part in of.parts.items()]
    return {"verdict": of.outcome, "reason": of.reason, "effects": effects, "parts": parts}


def finding(of: Finding) -> dict[str, Any]:
    """A finding as plain data."""
    return {
        "scale": of.scale,
        "dataset": of.dataset,
        "trials": {"finished": of.num_finished, "planned": len(of.trials)},
        **verdict(of.verdict),
    }


def published(of: Comparison) -> dict[str, Any]:
    """A published number as plain data, beside ours."""
    number, ours, run = of.number, _finite(of.ours), _finite(of.run)
    return {
        "name": number.name,
        "published": number.printed,
        "unit": number.unit,
        "ours": ours.pop("value"),
        **ours,
        "next_run": {end: run[end] for end in ("low", "high")},
        "outcome": of.outcome,
        "note": number.note,
    }


def claim(of: Claim, ledger: Ledger) -> dict[str, Any]:
    """A claim as plain data: what it says, and what was found at every scale."""
    found = [f for scale in Scale for f in claims.findings(of, scale, ledger)]
    paper = next(f for f in found if f.scale == Scale.PAPER)
    return {
        "id": of.id,
        "question": of.question,
        "statement": of.statement,
        "source": of.source,
        "counter_claim": of.counter_claim,
        "counter_sources": list(of.counter_sources),
        "rule": of.rule,
        "rule_history": [dataclasses.asdict(revision) for revision in of.history],
        "findings": [finding(f) for f in found],
        "published": [published(c) for c in paper.published],
    }
