"""Switching the batch size: its figures."""

from __future__ import annotations

import pandas as pd

from repro.claims.switching.experiment import OF_POST, SMALL_KEPT, SMALL_LONGER
from repro.claims.switching.judgement import MARGIN, behind, ends, judge, switched
from repro.evidence.intervals import mean_interval
from repro.evidence.spec import Figure, Outcome
from repro.evidence.tables import by_seed, margin_for, point, select


def after_switch(table: pd.DataFrame) -> pd.DataFrame:
    """Test error by epochs since the switch, on a scale of its own for every switch; and of the small batch."""
    rows = []
    arms = {0: SMALL_KEPT, **switched(table)} if switched(table) else {}
    for start, arm in arms.items():
        for epoch, group in select(table, arm=arm, status="finished").groupby("epoch"):
            if float(str(epoch)) > start:
                errors = [100 - a for a in by_seed(group, "test_accuracy", 100).values()]
                name = "small batch from the start" if not start else f"switched after {start}"
                rows.append(point(mean_interval(errors), x=float(str(epoch)) - start, series=name))
    return pd.DataFrame(rows, columns=["x", "mean", "low", "high", "n", "series"])


def after_switch_title(table: pd.DataFrame) -> str:
    if judge(table).outcome == Outcome.REPRODUCED:
        return "After the switch, test error falls to where the small batch alone ends"
    return "Test error after the switch to the small batch"


def differences(table: pd.DataFrame) -> pd.DataFrame:
    """Every arm's test accuracy minus that of the small batch from the start."""
    table = ends(table)
    margin = margin_for(table, MARGIN) if len(table) else MARGIN
    small = (SMALL_KEPT, SMALL_LONGER, OF_POST.format(SMALL_KEPT))
    arms = [a for a in (table["arm"].unique() if "arm" in table else []) if a not in small]
    rows = [
        point(behind(table, arm), name=arm, series="test accuracy")
        | {"none": 0.0, "band_low": -margin, "band_high": margin}
        for arm in arms
        if behind(table, arm).n
    ]
    columns = ["name", "mean", "low", "high", "n", "series", "none", "band_low", "band_high"]
    return pd.DataFrame(rows, columns=columns)


def differences_title(table: pd.DataFrame) -> str:
    return "Test accuracy at the end, minus that of the small batch from the start"


FIGURES = (
    Figure(
        "after",
        "curves",
        after_switch,
        after_switch_title,
        "epochs since the switch",
        "test error (%)",
        "From each switch on, as many epochs of the small batch as it gets alone. Means over seeds, 95 % t intervals.",
        x_scale="log",
        y_scale="log",
    ),
    Figure(
        "differences",
        "dots",
        differences,
        differences_title,
        "Test accuracy, minus the small batch from the start, percentage points",
        "",
        "Averages over the last epochs, paired by seed, 95 % t intervals. Band: within the margin. What is switched "
        "after as many steps of the large batch: minus the small batch for twice as long.",
        x_scale="linear",
    ),
)
