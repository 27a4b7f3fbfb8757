"""Re-train recorded trials and compare: are the numbers in the ledger those that the code gives?"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from repro.runs import runner
from repro.runs.ledger import Ledger, LedgerError, Rows
from repro.trial import Trial

# Where any of these differs, sums are grouped in other ways, and rounding differs.
SAME_ROUNDING = ("run_processor", "run_torch_version", "run_path", "run_precision", "run_threads")
# What another rounding may do by the end of a long run: by how much accuracies may differ, and all else, relative.
ACCURACY_TOLERANCE, TOLERANCE = 0.01, 0.1


@dataclass(frozen=True)
class Check:
    """A recorded trial beside the same trained now. `worst` is the measure that differs most, in tolerances;
    `failure` says what is wrong, if anything is."""

    claim: str
    trial: Trial
    exact: bool  # whether the numbers had to be equal to the last bit
    worst: str
    recorded: float
    now: float
    failure: str


def _is_measure(name: str, value: object, spec: Mapping[str, Any]) -> bool:
    numeric = isinstance(value, float | list | np.ndarray)
    return numeric and not name.startswith("run_") and name not in (*spec, "epoch")


def _size(name: str, before: Any, after: Any, exact: bool) -> float:
    """How far two values of a measure are apart, in tolerances; of lists, the entries farthest apart."""
    a, b = (np.atleast_1d(np.asarray(value, dtype=np.float64)) for value in (before, after))
    if a.shape != b.shape:
        return math.inf
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if same.all():
        return 0.0
    if exact:
        return math.inf
    # entries of a list are noisier than the list is long: they are held to the size of its largest
    allowed = ACCURACY_TOLERANCE if name.endswith("accuracy") else TOLERANCE * float(np.abs(a).max())
    apart = float(np.abs(a - b)[~same].max())
    return apart / allowed if allowed and math.isfinite(apart) else math.inf


def compare(claim: str, trial: Trial, recorded: Rows, now: Rows) -> Check:
    """The rows of one trial, one a checkpoint in order, as recorded and as trained now."""
    exact = all(recorded[-1][name] == now[-1][name] for name in SAME_ROUNDING)
    positions = [[(row["step"], row["status"]) for row in rows] for rows in (recorded, now)]
    if positions[0] != positions[1]:
        return Check(claim, trial, exact, "", math.nan, math.nan, "ends or is measured at other steps")
    spec = json.loads(trial.to_json())
    worst, most = ("", math.nan, math.nan), -1.0
    for before, after in zip(recorded, now, strict=True):
        for name in (n for n, v in before.items() if _is_measure(n, v, spec)):
            a = before[name]
            b = after.get(name, math.nan if isinstance(a, float) else [])  # the ledger has columns in every row
            size = _size(name, a, b, exact)
            if size > most:
                a, b = (float(np.max(v)) if np.size(v) else math.nan for v in (a, b))
                worst, most = (f"{name} at step {before['step']}", a, b), size
    failure = "" if most <= 1 else "differs" if exact else "differs by more than another rounding explains"
    return Check(claim, trial, exact, *worst, failure)


def audit(
    ledger: Ledger,
    claims: list[str],
    sample: int,
    seed: int,
    within: float = math.inf,
    workers: int | None = None,
    progress: runner.Progress = lambda finished, total: None,
) -> list[Check]:
    """Train `sample` recorded trials of `claims` again, drawn with `seed` from those that took at most `within`
    seconds, and compare every measure at every checkpoint."""
    known = {trial.key: (claim, trial, rows) for claim in claims for trial, rows in ledger.recorded_trials(claim)}
    drawable = sorted(key for key, (_, _, rows) in known.items() if rows[-1]["run_seconds"] <= within)
    if not drawable:
        raise LedgerError(
            f"no recorded trial of {', '.join(claims)}{'' if math.isinf(within) else f' took at most {within:g} s'}; "
            f"{'' if math.isinf(within) else 'allow longer ones, or '}record some with 'repro run CLAIM --scale paper "
            "--record'"
        )
    drawn = random.Random(seed).sample(drawable, min(sample, len(drawable)))
    checks: list[Check] = []
    progress(0, len(drawn))
    for batch in runner.train([known[key][1] for key in drawn], workers):
        for result in batch:
            claim, trial, recorded = known[result.trial.key]
            if result.failure:
                checks.append(Check(claim, trial, False, "", math.nan, math.nan, result.failure))
            else:
                checks.append(compare(claim, trial, recorded, result.rows))
        progress(len(checks), len(drawn))
    return checks
