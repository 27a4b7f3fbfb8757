"""The table of finished trials: one Parquet file a claim, a row a trial and checkpoint, with provenance.

Two ledgers, one format: the working one in the user's cache folder and the recorded one in results/.
Look-ups read every file of both, so claims that share a trial share its rows.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import numpy as np
import pandas as pd
import pyarrow as pa

if TYPE_CHECKING:
    from repro.training.engine import Training

from repro.folders import cache_folder
from repro.names import SpecError
from repro.runs import archive, provenance
from repro.runs.archive import LedgerError
from repro.runs.provenance import PROJECT
from repro.trial import Sweep, Trial

Rows = list[dict[str, Any]]
Version = tuple[str, int, int, int]
FAILED = "failed"  # the status of a trial that raised or killed its worker: remembered, but not finished
LOCK_SECONDS = 60  # to wait for another run's append, which takes a fraction of one


def make_rows(trial: Trial, training: Training, seconds: float) -> Rows:
    """The trial's ledger rows, one a checkpoint: key, spec, status, position, measures, provenance."""
    came_from = provenance.of_run(training.path, training.precision, seconds)
    return _rows(trial, training.status, training.checkpoints, came_from)


def failed_rows(trial: Trial, failure: str) -> Rows:
    """The row that remembers a trial which could not be trained, and why."""
    return _rows(trial, FAILED, [{"step": 0, "epoch": 0.0, "failure": failure}], provenance.of_run("", "", 0.0))


def _rows(trial: Trial, status: str, checkpoints: Sequence[Mapping[str, Any]], came_from: Mapping[str, Any]) -> Rows:
    fields = {
        name: json.dumps(value) if isinstance(value, list | dict) else value
        for name, value in json.loads(trial.to_json()).items()
    }
    last = len(checkpoints) - 1
    return [
        {"key": trial.key, "trial": trial.to_json(), "status": status, "final": i == last}
        | {**measures, **fields, **came_from}
        for i, measures in enumerate(checkpoints)
    ]


class Ledger:
    """Finished trials on disk. `working` is written by default, `recorded` only when told to record."""

    def __init__(self, working: Path | None = None, recorded: Path | None = None) -> None:
        self.working = working or cache_folder() / "ledger"
        self.recorded = recorded or PROJECT / "results"
        self._written: dict[Version, pa.Table] = {}  # what the last append wrote, so that the next need not read it

    def files(self) -> list[Path]:
        """Every file of both, the recorded ones first. Raises LedgerError if a folder cannot be looked into."""
        return [f for folder in (self.recorded, self.working) for f in _files_in(folder)]

    def append(self, claim: str, rows: Rows, record: bool = False) -> None:
        """Add rows to the claim's file: read, add, write aside, replace. Nothing is lost on the way. With no
        rows, only find out whether the file could be written."""
        if record and self.recorded == PROJECT / "results":
            provenance.need_checkout("recording")
        folder = self.recorded if record else self.working
        path = folder / f"{claim}.parquet"
        partial = path.with_suffix(".partial")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            ours = _is_ours(path)
            with filelock.FileLock(path.with_suffix(".lock"), timeout=LOCK_SECONDS):
                if not rows:
                    return
                table = _as_table(rows)
                if os.path.lexists(path):
                    before = self._written.get(_version(path)) or _read(path, ours)
                    table = pa.concat_tables([before, table], promote_options="permissive").combine_chunks()
                try:
                    archive.write(table, partial)
                    partial.replace(path)
                finally:
                    partial.unlink(missing_ok=True)
                self._written = {_version(path): table}
        except pa.ArrowException as error:
            raise LedgerError(
                f"{path} holds other kinds of values than these trials give ({' '.join(str(error).split())[:80]}); "
                "move it away, or set REPRO_CACHE to another folder"
            ) from None
        except filelock.Timeout:
            raise LedgerError(f"{path} is being written by another run; wait for it to end, then run again") from None
        except OSError as error:
            raise LedgerError(
                f"cannot write {path} ({error.strerror or error}); make the folder writable and free some "
                "space, or set REPRO_CACHE to another folder"
            ) from None

    def rows(self, trials: Iterable[Trial]) -> pd.DataFrame:
        """The rows of those of `trials` that are finished; a trial recorded and also trained here counts
        as recorded. Column `recorded` says which."""
        keys = list({t.key: None for t in trials})
        found: list[pd.DataFrame] = []
        seen: set[str] = set()
        for path in self.files():
            finished, places = _finished(_version(path))
            here = [key for key in keys if key in places and key not in seen]
            seen.update(here)
            if here:
                part = finished.take(np.sort(np.concatenate([places[key] for key in here])))
                # empty columns go before concat, which would turn a number column into one of objects
                part = part.dropna(axis="columns", how="all")
                found.append(part.assign(recorded=path.parent == self.recorded))
        if not found:
            return pd.DataFrame({"key": pd.Series(dtype=str)})
        return pd.concat(found, ignore_index=True)

    def missing(self, trials: Iterable[Trial]) -> list[Trial]:
        """Those of `trials` that no ledger holds, in order, each once."""
        unique = {t.key: t for t in trials}
        finished = set(self.rows(unique.values())["key"])
        return [t for key, t in unique.items() if key not in finished]

    def failures(self, trials: Iterable[Trial]) -> dict[str, str]:
        """Why those of `trials` failed that were tried and are still missing, by key: the last reason."""
        missing = {t.key for t in self.missing(trials)}
        tables = [_read_cached(path) for path in self.files()]
        failed = [t[(t["status"] == FAILED) & t["key"].isin(missing)] for t in tables if "failure" in t]
        return {key: why for t in failed for key, why in zip(t["key"], t["failure"], strict=True)}

    def recorded_trials(self, claim: str) -> list[tuple[Trial, pd.DataFrame]]:
        """Every finished trial in the claim's recorded file that this version of the engine can train, with its
        rows in order and the columns of all trials."""
        path = self.recorded / f"{claim}.parquet"
        if not path.exists():
            return []
        table = _read_cached(path)
        found = []
        finished = table[table["status"] != FAILED].drop_duplicates(["key", "step"]).sort_values("step")
        for key, rows in finished.groupby("key", sort=True):
            try:
                trial = Trial.from_json(rows["trial"].iloc[0])
            except (SpecError, TypeError, ValueError):  # of a version with other fields or rules
                continue
            if trial.key == key:
                found.append((trial, rows))
        return found

    def table(self, sweeps: Sequence[Sweep]) -> pd.DataFrame:
        """What a judge reads: the rows of every sweep, with the sweep's name in column `arm`. A trial in
        two sweeps stands in both arms."""
        trials = [(sweep.name, trial.key) for sweep in sweeps for trial in sweep.trials()]
        arms = pd.DataFrame(trials, columns=["arm", "key"]).drop_duplicates()
        rows = self.rows([trial for sweep in sweeps for trial in sweep.trials()])
        found = arms.merge(rows, on="key", how="inner")
        # Text in one block, not a column each: a third of the time that judges take
        text: list[str] = found.select_dtypes("str").columns.difference(["arm", "key", "status"]).tolist()
        return found.astype(dict.fromkeys(text, object)).copy()


def _as_table(rows: Rows) -> pa.Table:
    """Rows need not have the same measures: what one lacks is null."""
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: [row.get(name) for row in rows] for name in names})


def _is_ours(path: Path) -> bool:
    """Whether this program has written a file here: the lock of its appends stays beside."""
    return path.with_suffix(".lock").exists()


def _read(path: Path, ours: bool) -> pa.Table:
    """The table at `path`; LedgerError if it cannot be had. What is ours and damaged is moved aside."""
    try:
        return archive.read(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    except archive.ForeignError as error:
        raise LedgerError(
            f"{path} is no table of trials ({error}); move it to another folder, or set REPRO_CACHE to one"
        ) from None
    except archive.DamagedError as error:
        what = f"{path} is damaged ({error})"
    if not ours:
        raise LedgerError(f"{what}; restore it from a copy, or move it away, then run again")
    aside = path.with_suffix(".damaged")
    number = 1
    while os.path.lexists(aside):
        number += 1
        aside = path.with_suffix(f".damaged{number}")
    try:
        path.rename(aside)
    except OSError as refused:
        raise LedgerError(f"{what} and cannot be moved aside ({refused.strerror}); move it, then run again") from None
    raise LedgerError(
        f"{what} and was moved to {aside.name}; restore it from a copy, or run the same command again to train "
        "its trials anew"
    )


def _unreadable(path: Path, error: OSError) -> LedgerError:
    return LedgerError(
        f"cannot read {path} ({error.strerror or error}); mend it or move it away, or set REPRO_CACHE to another folder"
    )


def _files_in(folder: Path) -> list[Path]:
    """The Parquet files in the folder, by name; none where there is no such folder."""
    try:
        return sorted(f for f in folder.iterdir() if f.suffix == ".parquet")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _unreadable(folder, error) from None


def _version(path: Path) -> Version:
    """Changes whenever the file does: two appends may fall into one tick of the file system's clock."""
    try:
        now = path.stat()
    except OSError as error:  # a link that leads nowhere
        raise _unreadable(path, error) from None
    return str(path), now.st_mtime_ns, now.st_ino, now.st_size


def _read_cached(path: Path) -> pd.DataFrame:
    return _read_version(_version(path))


@functools.lru_cache(maxsize=64)
def _read_version(version: Version) -> pd.DataFrame:
    path = Path(version[0])
    return _read(path, _is_ours(path)).to_pandas()


@functools.lru_cache(maxsize=64)
def _finished(version: Version) -> tuple[pd.DataFrame, Mapping[str, np.ndarray]]:
    """The rows of finished trials in a file, and where those of each key stand among them. Of a trial trained by two
    runs at once the first row of each step stays."""
    table = _read_version(version)
    table = table[table["status"] != FAILED].drop_duplicates(["key", "step"])
    return table, {str(key): np.asarray(places) for key, places in table.groupby("key").indices.items()}
