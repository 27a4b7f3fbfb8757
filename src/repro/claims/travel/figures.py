"""How far networks travel: its figures."""

from __future__ import annotations

import numpy as np
import pandas as pd

from repro.claims.adam_drift.growth import LAWS, POWER
from repro.claims.generalization_gap import EQUAL_EPOCHS, batch_sizes_compared
from repro.claims.travel.experiment import ROOT_RATE, SAME_RATE
from repro.claims.travel.judgement import MARGIN, at_same_distance, judge_log, judge_slopes
from repro.claims.travel.readings import LEAST_STEPS, misses, slopes
from repro.evidence.intervals import mean_interval
from repro.evidence.spec import Figure, Outcome
from repro.evidence.tables import by_seed, margin_for, point, select

CURVE = ["x", "mean", "low", "high", "n", "series"]
RULES = {SAME_RATE: "one learning rate", ROOT_RATE: "learning rate ∝ √B"}


def on_the_way(table: pd.DataFrame) -> list[tuple[str, float, pd.DataFrame]]:
    """Every checkpoint past the start at equal epochs: whose it is, its epoch, and its rows, one a seed."""
    rows = select(table, arm=EQUAL_EPOCHS, status="finished") if "arm" in table and len(table) else table.iloc[:0]
    if rows.empty:
        return []
    of_sizes = rows[rows["epoch"] > 0].groupby("batch_size")
    return [(f"B = {size}", float(str(at)), g) for size, rows in of_sizes for at, g in rows.groupby("epoch")]


def error_by_distance(table: pd.DataFrame) -> pd.DataFrame:
    """Test error at every checkpoint by how far from the start it was, both means over seeds."""
    found = []
    for name, _, group in on_the_way(table):
        errors = mean_interval([100 - a for a in by_seed(group, "test_accuracy", 100).values()])
        found.append(point(errors, x=float(group["weight_distance"].mean()), series=name))
    return pd.DataFrame(found, columns=CURVE)


def error_title(table: pd.DataFrame) -> str:
    pair = batch_sizes_compared(table) if "arm" in table else None
    small, large = ({"arm": EQUAL_EPOCHS, "batch_size": size} for size in pair or (0, 0))
    if pair and at_same_distance(table, large, small).low > -margin_for(table, MARGIN):
        return f"Where it is as far from the start, B = {pair[1]} tests no worse than B = {pair[0]}"
    return "Test error by distance from the start"


def distance_by_epoch(table: pd.DataFrame) -> pd.DataFrame:
    found = []
    for name, epoch, group in on_the_way(table):
        far = mean_interval([*by_seed(group, "weight_distance").values()])
        found.append(point(far, x=epoch, series=name))
    return pd.DataFrame(found, columns=CURVE)


def distance_title(table: pd.DataFrame) -> str:
    shown = distance_by_epoch(table)
    if len(shown):
        last = shown[shown["x"] == shown["x"].max()]
        if len(last) > 1 and (last["high"].to_numpy()[1:] < last["low"].to_numpy()[:-1]).all():
            return "At equal epochs, the larger the batch, the nearer the network stays to its start"
    return "Distance from the start by epoch"


def slopes_by_size(table: pd.DataFrame) -> pd.DataFrame:
    """Slope of distance on ln t by batch size, at either rule for the learning rate."""
    found = [
        point(mean_interval(values.dropna().tolist()), x=size, series=name)
        for arm, name in RULES.items()
        for size, values in slopes(table, arm).iterrows()
    ]
    return pd.DataFrame(found, columns=CURVE)


def slopes_title(table: pd.DataFrame) -> str:
    told = {
        Outcome.REPRODUCED: "Slopes on log t are more alike where the learning rate goes as √B",
        Outcome.NOT_REPRODUCED: "Slopes on log t are less alike where the learning rate goes as √B",
    }
    return told.get(judge_slopes(table).outcome, "Slopes of distance on log t, by batch size")


def missed(table: pd.DataFrame) -> pd.DataFrame:
    """By how much (%) every law misses the last two distances, geometric mean over batch sizes."""
    rows = []
    for arm, name in RULES.items():
        by_size = misses(table, arm)
        for law in (*LAWS, POWER) if by_size else ():
            seeds = min(len(found[law]) for found in by_size.values())
            logs = np.mean([np.log(np.maximum(found[law][:seeds], 1e-9)) for found in by_size.values()], axis=0)
            rows.append(point(mean_interval(100 * np.exp(logs)), name=law, series=name))
    return pd.DataFrame(rows, columns=["name", "mean", "low", "high", "n", "series"])


def missed_title(table: pd.DataFrame) -> str:
    if judge_log(table).outcome == Outcome.REPRODUCED:
        return "The logarithm of time foretells distance best"
    return "How far each law misses the last two distances"


FIGURES = (
    Figure(
        "error",
        "curves",
        error_by_distance,
        error_title,
        "distance of the weights from the start",
        "test error (%)",
        "Every checkpoint of training at equal epochs and one learning rate, by how far from the start it was. Means "
        "over seeds, 95 % t intervals.",
        x_scale="log",
        y_scale="log",
    ),
    Figure(
        "distance",
        "curves",
        distance_by_epoch,
        distance_title,
        "epochs",
        "distance of the weights from the start",
        "The same, by epoch.",
        x_scale="log",
        y_scale="log",
    ),
    Figure(
        "slopes",
        "curves",
        slopes_by_size,
        slopes_title,
        "batch size B",
        "distance per unit of ln t",
        f"Slope of distance on the logarithm of the step, from step {LEAST_STEPS} on, of a narrow network; every batch "
        "size takes as many steps. Means over seeds, 95 % t intervals.",
        y_scale="log",
    ),
    Figure(
        "laws",
        "dots",
        missed,
        missed_title,
        "miss of the last two distances (%)",
        "",
        f"Every law has two constants, fitted to the checkpoints from step {LEAST_STEPS} to a quarter of the way, and "
        "foretells the last two. Root mean square, geometric mean over batch sizes, 95 % t intervals over seeds.",
        x_scale="log",
    ),
)
