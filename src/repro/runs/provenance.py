"""Where numbers come from: the columns `run_…` of a ledger row, and what a page says of them."""

from __future__ import annotations

import datetime
import functools
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd

import repro
from repro.names import ReproError

_PACKAGE = Path(repro.__file__).resolve().parent
IN_CHECKOUT = _PACKAGE.parent.name == "src" and (_PACKAGE.parents[1] / "_toc.yml").is_file()
# The book's checkout. Installed elsewhere, the package's own folder, where none of the book's files are.
PROJECT = _PACKAGE.parents[1] if IN_CHECKOUT else _PACKAGE
# By which of these a processor's kernels for sums and products are chosen: some bear one name and differ in them.
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
# What the columns hold.
KINDS = {
    "run_code_version": "text",
    "run_git_commit": "text",
    "run_torch_version": "text",
    "run_device": "text",
    "run_processor": "text",
    "run_instructions": "text",
    "run_path": "text",
    "run_precision": "text",
    "run_threads": "whole numbers",
    "run_seconds": "numbers",
    "run_date": "text",
}


def need_checkout(what: str) -> None:
    """Raise ReproError unless this package lies in the book's checkout."""
    if not IN_CHECKOUT:
        raise ReproError(
            f"{what} needs the book's checkout, and this is a package installed in {_PACKAGE}; get the book's "
            "repository, and run 'make setup' and .venv/bin/repro there"
        )


@functools.cache
def machine() -> dict[str, str]:
    """Provenance of this process; asked for once, before training, while the code is what was loaded."""
    import torch  # not to read what is recorded

    def git(*words: str) -> str:
        if not IN_CHECKOUT:
            return ""
        # of this project alone, not of one that it lies in, nor of one whose hook is running
        own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        own["GIT_CEILING_DIRECTORIES"] = str(PROJECT.parent)
        done = subprocess.run(["git", "-C", str(PROJECT), *words], capture_output=True, text=True, env=own)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        dirty = git("status", "--porcelain", "--", "src")
    except OSError:  # no git on this machine
        commit, dirty = "", ""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names, flags = (
        [line.partition(":")[2].strip() for line in lines if line.startswith(word)] for word in ("model name", "flags")
    )
    return {
        "run_code_version": repro.__version__,
        "run_git_commit": commit + ("+changes" if commit and dirty else ""),
        "run_torch_version": torch.__version__,
        "run_device": "cpu",
        "run_processor": names[0] if names else platform.machine(),
        "run_instructions": " ".join(name for name in INSTRUCTIONS if flags and name in flags[0].split()),
    }


def of_run(path: str, precision: str, seconds: float) -> dict[str, Any]:
    """The columns of provenance of a trial that took `seconds` just now, by this `path` in this `precision`."""
    return {
        **machine(),
        "run_path": path,
        "run_precision": precision,
        "run_threads": 1,
        "run_seconds": seconds,
        "run_date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """Where the rows of a table come from: trials, those that learnt nothing, hours, versions, first and last date."""
    from repro.evidence.tables import at_chance  # which loads statistics, and every worker loads this module

    if table.empty:
        return {"trials": 0, "hours": 0.0}
    final = table[table["final"]].drop_duplicates("key")
    return {
        "trials": len(final),
        "diverged": int((final["status"] == "diverged").sum()),
        "at_chance": int(at_chance(final).sum()),
        "hours": float(final["run_seconds"].sum()) / 3600,
        "first": final["run_date"].min()[:10],
        "last": final["run_date"].max()[:10],
        **{
            name: sorted(final[f"run_{name}"].unique())
            for name in ("torch_version", "processor", "precision", "git_commit")
        },
    }
