"""Noise of gradients: B_simple = tr Σ / ‖G‖², by whichever norms are at hand.

Notation: g_i the gradient of one example's loss, G their mean over the N examples, S² their summed variance (tr Σ).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

from repro.measure import checks


@dataclass(frozen=True)
class NoiseScale:
    """trace: S² = Σ‖g_i - G‖²/(N - 1); squared_norm: ‖G‖²; scale: B_simple = S²/‖G‖², in examples."""

    trace: float
    squared_norm: float

    @property
    def scale(self) -> float:
        return self.trace / self.squared_norm if self.squared_norm > 0 else math.inf

    def mean_square(self, batch_sizes: np.ndarray, num_examples: float = math.inf) -> np.ndarray:
        """E‖Σ g_i‖² = B(1 - B/N) S² + B² ‖G‖², exact for batches drawn without replacement from N examples; N is
        infinite for batches drawn with replacement. ValueError for a B outside 1 to N."""
        batch_sizes = np.asarray(batch_sizes, dtype=np.float64)
        if not ((batch_sizes >= 1) & (batch_sizes <= num_examples)).all():
            raise ValueError(f"batch_sizes: must be from 1 to the {num_examples} examples, got {batch_sizes.tolist()}")
        return batch_sizes * (1 - batch_sizes / num_examples) * self.trace + batch_sizes**2 * self.squared_norm


def from_norms(mean_squared_norm: float, mean: Tensor, num_examples: int, population: bool = False) -> NoiseScale:
    """B_simple from n examples' mean ‖g_i‖² and mean gradient (P,). Source: McCandlish et al. (2018), eq. 2.9.

    ‖G‖² is that of the distribution the examples were drawn from: ‖ḡ‖² - S²/n, without bias. With `population` the
    examples are all there are, and it is ‖ḡ‖². ValueError for fewer than two examples, or what is not finite.
    """
    if num_examples < 2 or not 0 <= mean_squared_norm < math.inf:
        raise ValueError(
            f"needs at least 2 examples of a finite mean squared norm ≥ 0, got {num_examples} of {mean_squared_norm!r}"
        )
    checks.finite("mean", mean)
    n, squared = num_examples, float(mean.double().square().sum())
    trace = (mean_squared_norm - squared) * n / (n - 1)
    return NoiseScale(trace, squared if population else squared - trace / n)


def fit(
    batch_sizes: np.ndarray, mean_squares: np.ndarray, num_examples: float, errors: np.ndarray | None = None
) -> NoiseScale:
    """S² and ‖G‖² from mean ‖Σ g_i‖² by batch size, by `mean_square`; least squares of relative errors, weighted by
    the inverse squares of the means' relative standard `errors`, where they are given. ValueError for fewer than two
    batch sizes, or what is no positive number."""
    b, y, e = (
        np.asarray(v, dtype=np.float64) for v in (batch_sizes, mean_squares, batch_sizes if errors is None else errors)
    )
    if not (b.ndim == 1 and b.shape == y.shape == e.shape and len(set(b.tolist())) >= 2):
        raise ValueError(
            f"needs a mean and an error for each of two or more batch sizes, got {b.shape}, {y.shape}, {e.shape}"
        )
    if not all((np.isfinite(v) & (v > 0)).all() for v in (b, y, e)):
        raise ValueError("batch_sizes, mean_squares and errors: must be finite numbers above 0")
    weights = np.ones(len(b)) if errors is None else 1 / e
    terms = np.stack([NoiseScale(1, 0).mean_square(b, num_examples), NoiseScale(0, 1).mean_square(b)], 1)
    (trace, squared_norm), *_ = np.linalg.lstsq(terms * (weights / y)[:, None], weights, rcond=None)
    return NoiseScale(float(trace), float(squared_norm))
