"""Batch norm: its figures."""

from __future__ import annotations

import pandas as pd

from repro.claims.batch_norm.experiment import ARM, EPOCHS, NETWORKS, NORMS, STEPS, WHOLE
from repro.claims.batch_norm.judgement import ALONE, MARGIN, TO_ALL, beside, judge, where, worth
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
        Outcome.REPRODUCED: "At as many steps, statistics over fewer examples make for a better network",
        Outcome.CONDITIONAL: "It matters over how many examples statistics are taken, one way or the other",
        Outcome.NOT_REPRODUCED: "At as many steps, batch norm's statistics make no difference",
    }
    return told.get(judge(table).outcome, "Large batch minus small, with batch norm and without")


def released(table: pd.DataFrame) -> pd.DataFrame:
    """What each thing that the released code does is worth to ghosts."""
    groups = {"given to ghosts alone": ALONE, "given to all": TO_ALL} if "arm" in table and len(table) else {}
    rows = [(name, given, worth(table, name)) for given, names in groups.items() for name in names]
    margin = margin_for(table, MARGIN) if rows else MARGIN
    return pd.DataFrame(
        [
            point(e, name=name, series=given) | {"none": 0.0, "band_low": -margin, "band_high": margin}
            for name, given, e in rows
            if e.n
        ],
        columns=["name", "mean", "low", "high", "n", "series", "none", "band_low", "band_high"],
    )


def released_title(table: pd.DataFrame) -> str:
    return "What the released code does besides, and what that is worth"


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
        released,
        released_title,
        "test accuracy, minus ghosts without it, percentage points",
        "",
        "The large batch with ghosts at as many epochs. Paired by seed, 95 % t intervals. Band: within the margin.",
        x_scale="linear",
    ),
)
