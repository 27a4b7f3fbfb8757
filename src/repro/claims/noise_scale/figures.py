"""Noise scale: what each figure shows, and what its title says of it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from repro.claims.noise_scale.judgement import (
    ADAM,
    ALIKE,
    CURVED,
    ORDER,
    SIMPLE,
    VARIANTS,
    judge_growth,
    judge_order,
    measured,
    workloads,
)
from repro.evidence.intervals import Estimate, geometric, mean_interval
from repro.evidence.spec import Figure, Outcome
from repro.evidence.tables import point

DRAWN = {**{v: VARIANTS[v] for v in (SIMPLE, CURVED, ADAM)}, ALIKE: ALIKE}  # variants of which there is a picture


def ratios(table: pd.DataFrame) -> pd.DataFrame:
    """Critical batch size over noise scale, of every workload and variant."""
    rows = [
        point(w.ratio(v), name=name, series=told) | {"none": 1.0, "band_low": 1 / ORDER, "band_high": ORDER}
        for name, w in workloads(table).items()
        for v, told in DRAWN.items()
        if v in w.scales
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
    rows = []
    for name, _, _, trials in measured(table):
        values: dict[float, list[float]] = {}
        for trial in trials:
            share = (trial["step"] / max(of["step"].max() for of in trials)).round(3)
            for x, scale in zip(share, trial[SIMPLE], strict=True):
                values.setdefault(float(x), []).append(float(np.log(scale)))
        rows += [point(_mean(logs), x=x, series=name) for x, logs in sorted(values.items()) if len(logs) > 1]
    return pd.DataFrame(rows, columns=["x", "mean", "low", "high", "n", "series"])


def _mean(logs: list[float]) -> Estimate:
    return geometric(mean_interval(logs))


def along_title(table: pd.DataFrame) -> str:
    if judge_growth(workloads(table)).outcome == Outcome.REPRODUCED:
        return "The noise scale grows on the way to the target"
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
        "tr Σ/‖G‖² along training at one batch size and learning rate; geometric means over seeds, as far as two of "
        "them go on, with 95 % t intervals.",
        x_scale="linear",
        y_scale="log",
    ),
)
