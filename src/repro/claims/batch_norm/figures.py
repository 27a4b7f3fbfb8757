"""Batch norm: its figures."""

from __future__ import annotations

import pandas as pd

from repro.claims.batch_norm.experiment import ARM, EPOCHS, NETWORKS, NORMS, STEPS, WHOLE
from repro.claims.batch_norm.judgement import MARGIN, beside, confounds, judge, where
from repro.evidence.spec import Figure, Outcome
from repro.evidence.tables import margin_for, point


def by_norm(table: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy of the large batch minus the small one of the same norm, by norm, at either budget."""
    rows = []
    ran = [n for n in NETWORKS if "arm" in table and ARM.format(n, WHOLE, EPOCHS) in set(table["arm"])]
    for network in ran:
        for norm in NORMS:
            for budget in (EPOCHS, STEPS):
                small = where(table, norm, EPOCHS, False, network)
                e = beside(table, where(table, norm, budget, network=network), small)
                if e.n:
                    rows.append(point(e, name=f"{network}, {norm}", series=budget) | {"none": 0.0})
    return pd.DataFrame(rows, columns=["name", "mean", "low", "high", "n", "series", "none"])


def by_norm_title(table: pd.DataFrame) -> str:
    told = {
        Outcome.REPRODUCED: "At as many steps, it matters over how many examples statistics are taken",
        Outcome.NOT_REPRODUCED: "At as many steps, batch norm's statistics make no difference",
    }
    return told.get(judge(table).outcome, "Large batch minus small, with batch norm and without")


def worth(table: pd.DataFrame) -> pd.DataFrame:
    rows = [] if "arm" not in table or table.empty else [(name, e) for name, e in confounds(table).items() if e.n]
    margin = margin_for(table, MARGIN) if rows else MARGIN
    return pd.DataFrame(
        [
            point(e, name=name, series="test accuracy") | {"none": 0.0, "band_low": -margin, "band_high": margin}
            for name, e in rows
        ],
        columns=["name", "mean", "low", "high", "n", "series", "none", "band_low", "band_high"],
    )


def worth_title(table: pd.DataFrame) -> str:
    return "What the released code gives to ghosts alone"


FIGURES = (
    Figure(
        "norms",
        "dots",
        by_norm,
        by_norm_title,
        "test accuracy, large batch minus small, percentage points",
        "",
        "Beside the small batch with the same norm, at as many epochs. Paired by seed, 95 % t intervals.",
        x_scale="linear",
    ),
    Figure(
        "confounds",
        "dots",
        worth,
        worth_title,
        "test accuracy, minus ghosts without it, percentage points",
        "",
        "The large batch with ghosts at as many epochs. Paired by seed, 95 % t intervals. Band: within the margin.",
        x_scale="linear",
    ),
)
