"""Re-train recorded trials and compare: are the numbers in the ledger those that the code gives?"""

from __future__ import annotations

import dataclasses
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from repro.runs import runner
from repro.runs.ledger import Ledger, LedgerError, Rows
from repro.trial import Trial

# Where any of these differs, sums are grouped in other ways, and rounding differs.
SAME_ROUNDING = (
    "run_processor",
    "run_instructions",  # rows that were recorded before this was do not tell
    "run_torch_version",
    "run_path",
    "run_precision",
    "run_threads",
)
# What another rounding may do by the end of a long run: by how much accuracies may differ, and all else, relative.
ACCURACY_TOLERANCE, TOLERANCE = 0.01, 0.1
# Where training magnifies it, it may do more: how much, runs tell whose learning rates differ in their last bits.
NUDGED, LAST_BITS, SPREAD = 4, 2.0**-22, 10.0
TOO_MUCH = "differs by more than another rounding explains"


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


def _size(name: str, before: Any, after: Any, exact: bool, nudged: Sequence[Any]) -> float:
    """How far two values of a measure are apart, in tolerances; of lists, the entries farthest apart. `nudged` are the
    values of runs like the second."""
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
    runs = [b, *(v for v in (np.atleast_1d(np.asarray(n, dtype=np.float64)) for n in nudged) if v.shape == b.shape)]
    if np.isfinite(runs).all():
        allowed = max(allowed, SPREAD * float(np.ptp(runs, axis=0).max()))
    apart = float(np.abs(a - b)[~same].max())
    return apart / allowed if allowed and math.isfinite(apart) else math.inf


def compare(claim: str, trial: Trial, recorded: Rows, now: Rows, nudged: Sequence[Rows] = ()) -> Check:
    """The rows of one trial, one a checkpoint in order, as recorded and as trained now; and those of its `nudges`,
    which tell what training makes of a rounding: ten times as much as they spread, another machine may do."""
    exact = all(recorded[-1].get(name) == now[-1][name] for name in SAME_ROUNDING)
    at_step = [{row["step"]: row for row in rows} for rows in nudged]
    positions = [[(row["step"], row["status"]) for row in rows] for rows in (recorded, now)]
    if positions[0] != positions[1]:
        return Check(claim, trial, exact, "", math.nan, math.nan, "ends or is measured at other steps")
    spec = json.loads(trial.to_json())
    worst, most = ("", math.nan, math.nan), -1.0
    for before, after in zip(recorded, now, strict=True):
        for name in (n for n, v in before.items() if _is_measure(n, v, spec)):
            a = before[name]
            b = after.get(name, math.nan if isinstance(a, float) else [])  # the ledger has columns in every row
            like = [rows[before["step"]][name] for rows in at_step if name in rows.get(before["step"], {})]
            size = _size(name, a, b, exact, like)
            if size > most:
                a, b = (float(np.max(v)) if np.size(v) else math.nan for v in (a, b))
                worst, most = (f"{name} at step {before['step']}", a, b), size
    failure = "" if most <= 1 else "differs" if exact else TOO_MUCH
    return Check(claim, trial, exact, *worst, failure)


def in_precision(trial: Trial, recorded: pd.DataFrame) -> Trial:
    """The trial in the precision that it was recorded in, which this machine, asked to choose, might not."""
    return dataclasses.replace(trial, precision=recorded["run_precision"].iloc[-1])


def nudges(trial: Trial) -> list[Trial]:
    """The trial at learning rates that differ from its own in the last bits."""
    return [dataclasses.replace(trial, lr=trial.lr * (1 + k * LAST_BITS)) for k in range(1, NUDGED + 1)]


def _rows(table: pd.DataFrame) -> Rows:
    """A trial's rows without the columns of other trials."""
    return [{str(k): v for k, v in row.items()} for row in table.dropna(axis="columns", how="all").to_dict("records")]


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
    seconds, and compare every measure at every checkpoint. What differs by more than the tolerances is trained again
    with its `nudges`, to see whether another rounding explains it."""
    known = {trial.key: (claim, trial, rows) for claim in claims for trial, rows in ledger.recorded_trials(claim)}
    drawable = sorted(key for key, (_, _, rows) in known.items() if rows["run_seconds"].iloc[-1] <= within)
    if not drawable:
        raise LedgerError(
            f"no recorded trial of {', '.join(claims)}{'' if math.isinf(within) else f' took at most {within:g} s'}; "
            f"{'' if math.isinf(within) else 'allow longer ones, or '}record some with 'repro run CLAIM --scale paper "
            "--record'"
        )
    drawn = random.Random(seed).sample(drawable, min(sample, len(drawable)))
    total, done = len(drawn), 0

    def train(trials: list[Trial]) -> Iterator[runner.Result]:
        nonlocal done
        for batch in runner.train(trials, workers):
            yield from batch
            done += len(batch)
            progress(done, total)

    progress(done, total)
    checks, now = dict[str, Check](), dict[str, Rows]()
    again = {key: in_precision(*known[key][1:]) for key in drawn}
    places = {trial.key: key for key, trial in again.items()}
    for result in train(list(again.values())):
        claim, trial, recorded = known[places[result.trial.key]]
        now[trial.key] = result.rows
        checks[trial.key] = (
            Check(claim, trial, False, "", math.nan, math.nan, result.failure)
            if result.failure
            else compare(claim, trial, _rows(recorded), result.rows)
        )
    doubtful = {key: nudges(again[key]) for key, c in checks.items() if c.failure == TOO_MUCH}
    total += NUDGED * len(doubtful)
    nudged = {r.trial.key: r.rows for r in train([t for trials in doubtful.values() for t in trials])}
    for key, trials in doubtful.items():
        claim, trial, recorded = known[key]
        checks[key] = compare(claim, trial, _rows(recorded), now[key], [nudged[t.key] for t in trials])
    return list(checks.values())
