"""Noise scale: what each figure shows, and what its title says of it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from repro.claims.noise_scale.experiment import ALONG
from repro.claims.noise_scale.judgement import (
    ADAM,
    CURVED,
    ORDER,
    SIMPLE,
    VARIANTS,
    by_trial,
    judge_growth,
    judge_order,
    workloads,
)
from repro.evidence.intervals import Estimate, geometric, mean_interval
from repro.evidence.spec import Figure, Outcome
from repro.evidence.tables import point

DRAWN = (SIMPLE, CURVED, ADAM)  # variants of which there is a picture


def ratios(table: pd.DataFrame) -> pd.DataFrame:
    """Critical batch size over noise scale, of every workload and variant."""
    rows = [
        point(w.ratio(v), name=name, series=VARIANTS[v]) | {"none": 1.0, "band_low": 1 / ORDER, "band_high": ORDER}
        for name, w in workloads(table).items()
        for v in DRAWN
    ]
    columns = ["name", "mean", "low", "high", "n", "series", "none", "band_low", "band_high"]
    return pd.DataFrame(rows, columns=columns).assign(counted="trial")


def ratios_title(table: pd.DataFrame) -> str:
    outcome = judge_order(workloads(table)).outcome
    if outcome == Outcome.REPRODUCED:
        return "The critical batch size is within an order of magnitude of the noise scale"
    if outcome == Outcome.INCONCLUSIVE:
        return "Critical batch size over noise scale"
    return "The critical batch size is not always within an order of magnitude of the noise scale"


def along_training(table: pd.DataFrame) -> pd.DataFrame:
    """The simple noise scale by the share of the way to the target, the geometric mean over seeds."""
    arms = table["arm"].unique().tolist() if "arm" in table else []
    rows = []
    for study in (arm.removesuffix(ALONG) for arm in arms if arm.endswith(ALONG)):
        values: dict[float, list[float]] = {}
        for trial in by_trial(table, study):
            share = (trial["step"] / trial["step"].max()).round(3)
            for x, scale in zip(share, trial[SIMPLE], strict=True):
                if 0 < scale < np.inf:
                    values.setdefault(float(x), []).append(float(np.log(scale)))
        for x, logs in sorted(values.items()):
            rows.append(point(_mean(logs), x=x, series=study))
    return pd.DataFrame(rows, columns=["x", "mean", "low", "high", "n", "series"])


def _mean(logs: list[float]) -> Estimate:
    return geometric(mean_interval(logs))


def along_title(table: pd.DataFrame) -> str:
    if judge_growth(workloads(table)).outcome == Outcome.REPRODUCED:
        return "The noise scale grows on the way to the target, in every workload"
    return "The noise scale on the way to the target"


FIGURES = (
    Figure(
        "ratios",
        "dots",
        ratios,
        ratios_title,
        "Critical batch size over noise scale",
        "",
        "One: the noise scale is the batch size at which a run takes twice the fewest steps. Band: within an order of "
        "magnitude. Intervals: bootstrap over trials, and t over seeds, joined.",
        x_scale="log",
    ),
    Figure(
        "along",
        "curves",
        along_training,
        along_title,
        "share of the steps to the target",
        "noise scale (examples)",
        "tr Σ/‖G‖² at one batch size and learning rate, geometric means over seeds with 95 % t intervals.",
        x_scale="linear",
        y_scale="log",
    ),
)
