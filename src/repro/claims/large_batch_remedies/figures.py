"""Remedies for large batches: the figures."""

from __future__ import annotations

import pandas as pd

from repro.claims.large_batch_remedies.experiment import ARM, LARGE, PLAIN, REMEDIES, SMALL
from repro.claims.large_batch_remedies.judgement import (
    FREE,
    SEARCHES,
    beside,
    ends,
    judge,
    judge_flatter,
    judge_sharp,
    judge_warm,
    sharper,
    times_as_sharp,
    warmed,
)
from repro.evidence.intervals import mean_interval
from repro.evidence.spec import Figure, Outcome
from repro.evidence.tables import by_seed, final, point, select


def by_remedy(table: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy of the large batch and of the small one with every remedy, minus the small one without."""
    table = ends(table)
    alone, rows = ARM.format(PLAIN, SMALL), []
    for remedy in (PLAIN, *REMEDIES) if "arm" in table else ():
        for size in (SMALL, LARGE):
            e = beside(table, ARM.format(remedy, size), alone)
            if e.n and (remedy, size) != (PLAIN, SMALL):
                rows.append(point(e, name=remedy, series=f"{size} batch") | {"none": 0.0})
    return pd.DataFrame(rows, columns=["name", "mean", "low", "high", "n", "series", "none"])


def by_remedy_title(table: pd.DataFrame) -> str:
    told = {
        Outcome.REPRODUCED: "Augmentation and conservative training make the gap smaller",
        Outcome.NOT_REPRODUCED: "Neither of the paper's two brings a large batch nearer to a small one that has it too",
    }
    return told.get(judge(table).outcome, "Test accuracy with every remedy")


def by_sharpness(table: pd.DataFrame) -> pd.DataFrame:
    rows = [
        point(e, name=remedy, series=how) | {"none": 1.0}
        for remedy in ((PLAIN, *REMEDIES) if "arm" in table else ())
        for how, column in SEARCHES.items()
        if (e := sharper(table, remedy, column)).n
    ]
    return pd.DataFrame(rows, columns=["name", "mean", "low", "high", "n", "series", "none"])


def by_sharpness_title(table: pd.DataFrame) -> str:
    judged = judge_sharp(ends(table), SEARCHES[FREE]) if "arm" in table else None
    if judged and judged.outcome == Outcome.REPRODUCED:
        return "With every remedy of the paper the large batch's minimum stays sharp"
    return "How much sharper the large batch's minimum is, with every remedy"


def by_start(table: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy (per cent) of the large batch, by for how many epochs the small one came first, and of that one
    there."""
    rows = []
    for epoch, arm in warmed(table).items():
        there = select(table, arm=arm, epoch=float(epoch))
        for series, at in (("large batch, at its end", final(ends(table), arm=arm)), ("small batch, there", there)):
            values = by_seed(at, "test_accuracy", 100)
            rows.append(point(mean_interval([*values.values()]), x=float(epoch), series=series))
    found = pd.DataFrame(rows, columns=["x", "mean", "low", "high", "n", "series"])
    return found[found["n"] > 0]


def by_start_title(table: pd.DataFrame) -> str:
    if judge_warm(ends(table)).outcome == Outcome.REPRODUCED:
        return "A large batch does better from a late epoch of the small one"
    return "The large batch, started from an epoch of the small one"


def by_start_sharpness(table: pd.DataFrame) -> pd.DataFrame:
    """φ of the large batch over that of the small one alone, by for how many epochs the small one came first."""
    alone = ARM.format(PLAIN, SMALL)
    rows = [
        point(e, x=float(epoch), series=how)
        for how, column in SEARCHES.items()
        for epoch, arm in warmed(table).items()
        if (e := times_as_sharp(table, arm, alone, column)).n
    ]
    return pd.DataFrame(rows, columns=["x", "mean", "low", "high", "n", "series"])


def by_start_sharpness_title(table: pd.DataFrame) -> str:
    told = {
        Outcome.REPRODUCED: "From a late epoch of the small batch the large one ends less sharp",
        Outcome.NOT_REPRODUCED: "From a late epoch of the small batch the large one ends no less sharp",
    }
    return told.get(judge_flatter(table).outcome, "How sharp the large batch ends, by where it starts")


SETTLED = "Accuracy averaged over the last tenth of the epochs."
INTERVALS = "Paired by seed, 95 % t intervals."
FIGURES = (
    Figure(
        "remedies",
        "dots",
        by_remedy,
        by_remedy_title,
        "test accuracy, minus the small batch without a remedy, percentage points",
        "",
        f"{SETTLED} {INTERVALS}",
        x_scale="linear",
    ),
    Figure(
        "sharpness",
        "dots",
        by_sharpness,
        by_sharpness_title,
        "φ of the large batch with the remedy over that of the small one without, times",
        "",
        INTERVALS,
        x_scale="log",
    ),
    Figure(
        "warm-starts",
        "curves",
        by_start,
        by_start_title,
        "epochs of the small batch first",
        "test accuracy (%)",
        f"Then the large batch for as many epochs as without. {SETTLED} Means over seeds, 95 % t intervals.",
        x_scale="log",
    ),
    Figure(
        "warm-starts-sharpness",
        "curves",
        by_start_sharpness,
        by_start_sharpness_title,
        "epochs of the small batch first",
        "φ over that of the small batch alone, times",
        f"Then the large batch for as many epochs as without. {INTERVALS}",
        x_scale="log",
        y_scale="log",
    ),
)
