"""Adaptive methods: what each figure shows, and what its title says of it."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan

import pandas as pd

from repro.claims.adaptive_methods.experiment import (
    ADAPTIVE,
    AS_PUBLISHED,
    DESCENT,
    FAINTER,
    FROM_START,
    IN_BATCHES,
    constructed,
)
from repro.claims.adaptive_methods.judgement import (
    BASE,
    MARGIN,
    NAMED,
    as_said,
    beside,
    decayed,
    judge_made,
    judge_worse,
)
from repro.evidence.spec import Figure, Outcome
from repro.evidence.tables import margin_for, point
from repro.theory import adaptive

OF_DESCENT, CONSTANT = "descent, the most of three", "always the label 1"


def made(variations: Sequence[str]) -> pd.DataFrame:
    """Test errors (%) by setting: of the three adaptive methods, and the most of the three of descent."""
    found = constructed()
    rows = found[found["variation"].isin(variations)]
    errors = 100 * rows.pivot_table(index=["setting", "share"], columns="method", values="test_error", sort=False)
    told = {name: errors[name] for name in adaptive.ADAPTIVE} | {OF_DESCENT: errors[list(DESCENT)].max(axis=1)}
    frame = pd.DataFrame(told).reset_index().melt(["setting", "share"], var_name="series", value_name="mean")
    draws = rows.groupby("setting")["draws"].first()
    return frame.assign(low=nan, high=nan, n=frame["setting"].map(draws), counted="construction")


def by_share(table: pd.DataFrame) -> pd.DataFrame:
    """Test errors as published, by the share of the label 1, and a constant answer's. Nothing where no trial has been
    run."""
    drawn = made([AS_PUBLISHED]).rename(columns={"share": "x"})
    constant = drawn[drawn["series"] == OF_DESCENT].assign(series=CONSTANT, mean=100 * (1 - drawn["x"]), n=nan)
    return pd.concat([drawn, constant]) if len(table) else drawn.iloc[:0]


def by_share_title(table: pd.DataFrame) -> str:
    if judge_made(constructed()).outcome == Outcome.REPRODUCED:
        return "On examples made for it, adaptive methods do no better than a constant answer"
    return "Test error on the constructed examples, by the share of the label 1"


def varied(table: pd.DataFrame) -> pd.DataFrame:
    """Test errors where something else is varied, a row a setting."""
    drawn = made([FROM_START, FAINTER, IN_BATCHES]).rename(columns={"setting": "name"}).drop(columns="share")
    return drawn if len(table) else drawn.iloc[:0]


def varied_title(table: pd.DataFrame) -> str:
    return "What the failure hangs on: the start, the own features, the batch"


def on_images(table: pd.DataFrame) -> pd.DataFrame:
    """Every method's tuned test accuracy minus that of SGD with momentum, without decay; of the two compared, with."""
    if "arm" not in table or table.empty:
        return pd.DataFrame()
    margin = margin_for(table, MARGIN)
    told = {f"{NAMED} minus momentum, both decayed": decayed(table)}
    told[f"{NAMED} minus momentum, which alone decays"] = as_said(table)
    names = [name for name in (*DESCENT, *ADAPTIVE) if name != BASE and name in set(table["arm"])]
    told |= {f"{name} minus momentum, no decay": beside(table, name) for name in names}
    band = {"none": 0.0, "band_low": -margin, "band_high": margin}
    return pd.DataFrame([point(e, name=name, series="tuned") | band for name, e in told.items() if e.n])


def on_images_title(table: pd.DataFrame) -> str:
    known = "arm" in table and len(table)
    same = known and decayed(table, 0.9).within(margin_for(table, MARGIN))
    if same and judge_worse(table).outcome in (Outcome.NOT_REPRODUCED, Outcome.CONDITIONAL):
        return "On images, both tuned and decayed, Adam tests as SGD with momentum does"
    return "On images: test accuracy beside SGD with momentum, each tuned"


FIGURES = (
    Figure(
        "constructed",
        "curves",
        by_share,
        by_share_title,
        "share p of the label 1 among the examples",
        "test error (%)",
        "Expected error on examples not seen, after 1,000 steps on all of 60, from zero. Exact, so without intervals. "
        "Where one line hides another, they are the same.",
        x_scale="linear",
    ),
    Figure(
        "varied",
        "dots",
        varied,
        varied_title,
        "test error (%)",
        "",
        "The same, at p = 0.6, where a constant answer errs on 40 %, and one thing is another: random weights at the "
        "start; an example's own features smaller than 1; smaller batches. Means over draws.",
        x_scale="linear",
    ),
    Figure(
        "images",
        "dots",
        on_images,
        on_images_title,
        "test accuracy, minus that of SGD with momentum, percentage points",
        "",
        "Paired by seed; each at the learning rate of its highest held-out accuracy. 95 % intervals count that choice. "
        "Band: counts as the same.",
        x_scale="linear",
    ),
)
