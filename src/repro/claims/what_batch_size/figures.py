"""What batch size: what each figure shows, and what its title says of it."""

from __future__ import annotations

import pandas as pd

from repro.claims.what_batch_size.judgement import UNASKED, WITHIN, judge, workloads
from repro.evidence.spec import Figure, Outcome
from repro.evidence.tables import point


def slowdowns(table: pd.DataFrame) -> pd.DataFrame:
    """Time to the target over the least, as advised, as advised at the start, and at the usual batch size."""
    rows = []
    for name, w in workloads(table).items():
        for series, e in (
            ("as advised", w.as_advised()),
            ("as advised from the start", w.as_advised(w.starts)),
            (f"B = {UNASKED[0]}", w.at(w.usual)),
        ):
            rows.append(point(e, name=name, series=series) | {"none": 1.0, "band_low": 1 / WITHIN, "band_high": WITHIN})
    columns = ["name", "mean", "low", "high", "n", "series", "none", "band_low", "band_high"]
    return pd.DataFrame(rows, columns=columns).assign(counted="trial")


def slowdowns_title(table: pd.DataFrame) -> str:
    if judge(table).outcome == Outcome.REPRODUCED:
        return "The advised batch size takes about the least time"
    return "Time to the target at the advised batch size, over the least"


def times(table: pd.DataFrame) -> pd.DataFrame:
    """Time to the target over the least, by batch size, of every workload."""
    rows = [
        point(w.at(size), x=float(size), series=name)
        for name, w in workloads(table).items()
        for size in w.study.batch_sizes
    ]
    return pd.DataFrame(rows, columns=["x", "mean", "low", "high", "n", "series"]).assign(counted="trial")


def times_title(table: pd.DataFrame) -> str:
    return "Time to the target on this machine, over the least"


FIGURES = (
    Figure(
        "slowdowns",
        "dots",
        slowdowns,
        slowdowns_title,
        "Time to the target over the least",
        "",
        "One: no batch size that was run is faster. Band: at most a quarter slower. Intervals: bootstrap over trials "
        "and seeds.",
        x_scale="log",
    ),
    Figure(
        "times",
        "curves",
        times,
        times_title,
        "batch size B",
        "time to the target over the least",
        "Least steps at every batch size times the seconds of a step of a plain PyTorch loop, on one core.",
        y_scale="log",
    ),
)
