"""Noise collapse: its figures."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pandas as pd

from repro.claims.noise_collapse.experiment import DECAY, GRID, LONGER, SIZES, SMALL
from repro.claims.noise_collapse.groups import FITS, Cells, cells, small, trained
from repro.claims.noise_collapse.judgement import judge, means
from repro.evidence.intervals import Estimate
from repro.evidence.spec import Figure, Outcome
from repro.evidence.tables import point


def _error(e: Estimate, **columns: object) -> dict[str, object]:
    """A row of a figure: the test error, from an estimate of accuracy."""
    row = point(e, **columns)
    return {**row, "mean": 100 - e.value, "low": 100 - row["high"], "high": 100 - row["low"]}  # type: ignore[operator]


def _drawn(found: Cells, x: pd.Series, series: pd.Series) -> pd.DataFrame:
    rows = [_error(e, x=float(at), series=str(name)) for (_, e), at, name in zip(means(found), x, series, strict=True)]
    return pd.DataFrame(rows, columns=["x", "mean", "low", "high", "n", "series"])


def _rate(lr: float) -> str:
    """As it is on the grid: "η = 1/8"."""
    return f"η = {Fraction(lr).limit_denominator(1024)}"


def by_noise(table: pd.DataFrame) -> pd.DataFrame:
    """Test error of small batches that fit, by η/B; a series a learning rate."""
    found = trained(small(table, GRID))
    return _drawn(found, found.about["lr"] / found.about["batch_size"], found.about["lr"].map(_rate))


def by_noise_title(table: pd.DataFrame) -> str:
    told = {
        Outcome.REPRODUCED: "Test error goes with η/B: at equal η/B, learning rates agree",
        Outcome.CONDITIONAL: "Among settings that fit, learning rates differ at equal η/B",
        Outcome.NOT_REPRODUCED: "At equal η/B, learning rates differ",
    }
    return told.get(judge(table).outcome, "Test error by η/B")


def by_size(table: pd.DataFrame) -> pd.DataFrame:
    """Test error of everything, by batch size; a series a learning rate."""
    found = cells(table, GRID)
    return _drawn(found, found.about["batch_size"], found.about["lr"].map(_rate))


def by_size_title(table: pd.DataFrame) -> str:
    return "Test error by batch size, at several learning rates"


def by_knob(table: pd.DataFrame) -> pd.DataFrame:
    """Test error of small batches that fit, by weight decay over B; a series a weight decay."""
    found = trained(small(table, DECAY))
    knob = found.about["weight_decay"]
    return _drawn(found, knob / found.about["batch_size"], knob.map(lambda x: f"λ = {x:g}"))


def by_knob_title(table: pd.DataFrame) -> str:
    return "The other control: test error by weight decay over B"


def by_time(table: pd.DataFrame) -> pd.DataFrame:
    """Test error of small batches that fit, at the middle learning rate of those that train longer, by η/B; a series a
    training time."""
    found = trained(small(table, GRID, LONGER))
    rates = set.intersection(*(set(of.about["lr"]) for of in (found, small(table, GRID), small(table, LONGER))))
    found = found.where(found.about["lr"] == (sorted(rates)[len(rates) // 2] if rates else None))
    time = found.about["lr"] * found.about["steps"]
    return _drawn(found, found.about["lr"] / found.about["batch_size"], time.map(lambda t: f"η · steps = {t:,.0f}"))


def by_time_title(table: pd.DataFrame) -> str:
    return "A control: at equal η/B, training longer means more epochs"


def by_training_set(table: pd.DataFrame) -> pd.DataFrame:
    """Test error of small batches by size, a series a training set."""
    found = small(table, SIZES)
    found = found.where(found.about["train"] > np.nextafter(0.5, 1))
    return _drawn(found, found.about["batch_size"], found.about["train_size"].map(lambda n: f"N = {n:,.0f}"))


def by_training_set_title(table: pd.DataFrame) -> str:
    outcome = judge(table).parts
    name = "The best batch size goes as the number of training examples"
    if name in outcome and outcome[name].outcome == Outcome.REPRODUCED:
        return "The best batch size grows in proportion to the training set"
    return "Test error by batch size, for training sets of several sizes"


INTERVALS = "Means over seeds, 95 % t intervals."
FIGURES = (
    Figure(
        "noise",
        "curves",
        by_noise,
        by_noise_title,
        "learning rate over batch size, η/B",
        "test error (%)",
        f"Every setting whose batch is no larger than one in {SMALL} of the training set and which fits "
        f"{100 * FITS:.0f} % of that. {INTERVALS}",
        x_scale="log",
    ),
    Figure(
        "sizes",
        "curves",
        by_size,
        by_size_title,
        "batch size B",
        "test error (%)",
        f"All settings, those that do not fit too. Learning rate times steps is the same in all. {INTERVALS}",
        y_scale="log",
    ),
    Figure(
        "knob",
        "curves",
        by_knob,
        by_knob_title,
        "weight decay over batch size, λ/B",
        "test error (%)",
        f"What has nothing to do with noise must not fall on one line. {INTERVALS}",
        x_scale="log",
    ),
    Figure(
        "times",
        "curves",
        by_time,
        by_time_title,
        "learning rate over batch size, η/B",
        "test error (%)",
        f"At one learning rate. If it were epochs that count, the curve of the longer training would lie as many times "
        f"further right as it is longer. {INTERVALS}",
        x_scale="log",
    ),
    Figure(
        "training-sets",
        "curves",
        by_training_set,
        by_training_set_title,
        "batch size B",
        "test error (%)",
        f"At one learning rate; settings that fit less than half of the training set are left out. {INTERVALS}",
        y_scale="log",
    ),
)
