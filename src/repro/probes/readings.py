"""What the recorded norms and magnitudes of random gradients say. Imports no torch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from repro.measure import noise
from repro.names import DATASETS
from repro.trial import Trial

MAGNITUDES = (-9, 5, 141)  # edges of single gradient values: log₁₀ of the first and of the last, and how many
Row = Mapping[str, Any]  # a trial's final row
SINGLE, ACCUMULATED, AVERAGED = EXTENTS = ("single", "accumulated", "averaged")


def batch_sizes(row: Row) -> np.ndarray:
    return np.asarray(row["drawn_batch_size"], dtype=np.float64)


def log_log_slope(x: np.ndarray, y: np.ndarray) -> float:
    """Least-squares slope of log y on log x, NaN where a value is not positive."""
    if len(x) < 2 or not (np.isfinite(y) & (np.asarray(y) > 0)).all():
        return float("nan")
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


@dataclass(frozen=True)
class Reading:
    """One way to read the post: how a batch's gradients are reduced, whether the weights move, and what is summed."""

    reduction: str  # "sum" or "mean"
    weights: str  # "frozen" or "moving"
    extent: str  # of one batch: "single"; of a pass: "accumulated", the norm of its sum, or "averaged", its mean norm

    @property
    def name(self) -> str:
        return f"{self.reduction} · {self.spread_name}"

    @property
    def spread_name(self) -> str:
        """Without the reduction, which scales all norms at one B alike and so leaves their spread as it is."""
        return f"{self.weights} · {'one batch' if self.extent == SINGLE else self.extent}"

    def column(self, statistic: str) -> str:
        return f"{statistic}_{self.weights}_{self.extent}"

    def norms(self, row: Row, statistic: str = "mean") -> np.ndarray:
        """A statistic of the norms by batch size, of one trial's final row."""
        sizes, values = (np.asarray(row[name], dtype=float) for name in ("drawn_batch_size", self.column(statistic)))
        return values / sizes if self.reduction == "mean" else values


READINGS = tuple(Reading(*parts) for parts in itertools.product(("sum", "mean"), ("frozen", "moving"), EXTENTS))


def norm_slope(reading: Reading, row: Row) -> float:
    """Log-log slope of the mean norm in B."""
    return log_log_slope(batch_sizes(row), reading.norms(row))


def cv_slope(reading: Reading, row: Row) -> float:
    """Log-log slope in B of the coefficient of variation over draws: the spread once means are equal."""
    return log_log_slope(batch_sizes(row), np.asarray(row[reading.column("cv")], dtype=float))


def above_slope(reading: Reading, row: Row) -> float:
    """Log-log slope in B of how far, in means, the 95 % quantile lies above the mean."""
    return log_log_slope(batch_sizes(row), reading.norms(row, "high") / reading.norms(row) - 1)


def below_slope(reading: Reading, row: Row) -> float:
    """Log-log slope in B of how far, in means, the 5 % quantile lies below the mean."""
    return log_log_slope(batch_sizes(row), 1 - reading.norms(row, "low") / reading.norms(row))


def pooled_kurtosis(row: Row) -> dict[float, float]:
    """Kurtosis of single gradient values, those of all coordinates and draws pooled as they are, by batch size; 3 for a
    Gaussian, and no common factor changes it.

    E x⁴/(E x²)², for over the outputs of a softmax gradients sum to 0, and so does all that is pooled. From the counts
    of magnitudes: a bin's centre stands for its values, which makes the moment of order p too large by
    sinh(pw/2)/(pw/2) where bins are w wide in log x (Sheppard's correction).
    """
    trial = Trial.from_json(row["trial"])
    num_values = trial.draws * trial.widths[-1] * DATASETS[trial.dataset].num_classes
    sizes, x, counts = (np.asarray(row[f"magnitude_{name}"], dtype=float) for name in ("batch_size", "x", "y"))
    width = math.log(10) * (MAGNITUDES[1] - MAGNITUDES[0]) / (MAGNITUDES[2] - 1)

    def moment(order: int, size: float) -> float:
        excess = math.sinh(order * width / 2) / (order * width / 2)
        return float((counts * x**order)[sizes == size].sum()) / num_values / excess

    return {size: moment(4, size) / moment(2, size) ** 2 for size in dict.fromkeys(sizes.tolist())}


def mean_squares(row: Row) -> np.ndarray:
    """Mean ‖Σ g_i‖² of single batches at frozen weights, by batch size."""
    return np.asarray(row["mean_square_frozen_single"], dtype=np.float64)


def _num_train(row: Row) -> int:
    size = row.get("train_size")
    return DATASETS[row["dataset"]].num_train if size is None or np.isnan(size) else int(size)


def fit(row: Row) -> noise.NoiseScale:
    """S² and ‖G‖² from the norms of single batches at frozen weights, each mean weighted by how sure it is."""
    errors = np.asarray(row["square_cv_frozen_single"], dtype=np.float64)
    return noise.fit(batch_sizes(row), mean_squares(row), _num_train(row), errors)


def fitted_mean_squares(row: Row) -> np.ndarray:
    """E‖Σ g_i‖² by batch size, as `fit` has it."""
    return fit(row).mean_square(batch_sizes(row), _num_train(row))


def per_example(squares: Callable[[Row], np.ndarray], row: Row) -> np.ndarray:
    """Values by batch size, divided by it."""
    return squares(row) / batch_sizes(row)
