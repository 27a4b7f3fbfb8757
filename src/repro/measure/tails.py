"""How heavy tails are: estimators, and the Gaussian samples to hold them against. numpy only; arrays in, arrays out.

Each estimator takes values (n, ...) and works along the first axis. None of them sees tails alone: pooled values of
unequal scale look heavy-tailed to all three, so every estimate belongs beside that of `gaussian_surrogate`.
"""

from __future__ import annotations

import math

import numpy as np

# What log 0 is taken as, in the published code of Şimşekli et al. (2019): the log of this.
SMALLEST = float(np.spacing(1.0))
HILL_SHARE = 0.05  # of the values count as the tail


def _columns(values: np.ndarray, least: int) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim < 1 or len(array) < least or not np.isfinite(array).all():
        raise ValueError(
            f"needs at least {least} finite values along the first axis, got an array {array.shape}"
            + ("" if np.isfinite(array).all() else " with NaN or infinity")
        )
    return array


def excess_kurtosis(values: np.ndarray) -> np.ndarray:
    """Fourth standardised moment minus 3 of (n, ...) values -> (...), with the small-sample correction that makes
    it unbiased for a Gaussian (Joanes & Gill 1998, G₂). 0: Gaussian; NaN where all values are equal."""
    x = _columns(values, 4)
    deviation = x - x.mean(0)
    return unbiased_kurtosis(len(x), (deviation**2).sum(0), (deviation**4).sum(0))


def unbiased_kurtosis(n: int, m2: np.ndarray, m4: np.ndarray) -> np.ndarray:
    """G₂ from n values' central sums of squares and of fourth powers, (...) each. ValueError for n < 4."""
    if n < 4:
        raise ValueError(f"kurtosis needs at least 4 values, got {n}")
    with np.errstate(invalid="ignore", divide="ignore"):
        g2 = n * m4 / np.square(m2) - 3
    return (n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * g2 + 6)


def hill_index(values: np.ndarray, share: float = HILL_SHARE) -> np.ndarray:
    """Hill's ξ of |values| (n, ...) -> (...): the mean of log(x₍ᵢ₎/x₍ₖ₊₁₎) over the k = share · n largest.

    ξ = 1/α for a tail P(|X| > x) ∝ x^-α (Hill 1975), so larger is heavier. It has no zero to compare with: Gaussian
    values give a ξ well above 0 at any finite n. ValueError for a share that is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"share {share!r}: must be a number between 0 and 1, such as {HILL_SHARE}")
    x = np.sort(np.abs(_columns(values, 4)), axis=0)[::-1]
    k = max(1, min(len(x) - 1, round(share * len(x))))
    logs = np.log(np.maximum(x[: k + 1], SMALLEST))
    return (logs[:k] - logs[k]).mean(0)


def stable_index(values: np.ndarray) -> np.ndarray:
    """The index α̂ of a symmetric α-stable law by pooled log-moments, of (n, ...) values -> (...).

    1/α̂ = (mean log|Y| - mean log|X|)/log m, with Y the sums of m = ⌊√n⌋ neighbours (Mohammadi, Mohammadpour & Ogata
    2015, corollary 2.4; Şimşekli et al. 2019, eq. 10). 2: Gaussian, smaller is heavier. It takes the values to be
    independent and of one scale. Exact zeros count as 2e-16, as in the published code.
    """
    x = _columns(values, 4)
    m = math.isqrt(len(x))
    x = x[: len(x) // m * m]
    sums = x.reshape(-1, m, *x.shape[1:]).sum(1)
    log_y, log_x = (np.log(np.abs(a) + SMALLEST).mean(0) for a in (sums, x))
    return math.log(m) / (log_y - log_x)


def inverse_stable_index(values: np.ndarray) -> np.ndarray:
    """1/α̂: like the other estimates it grows with the tail, and can be averaged."""
    return 1 / stable_index(values)


ESTIMATORS = {"kurtosis": excess_kurtosis, "hill": hill_index, "inverse_alpha": inverse_stable_index}


def gaussian_surrogate(sd: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(draws, coordinates) independent Gaussian values whose coordinates have standard deviations `sd`.
    ValueError for a negative one, or no draw."""
    sd = np.asarray(sd, dtype=np.float64)
    if sd.ndim != 1 or not (np.isfinite(sd) & (sd >= 0)).all():
        raise ValueError(f"sd: must be one axis of finite numbers ≥ 0, got an array {sd.shape}")
    if draws < 1:
        raise ValueError(f"draws {draws!r}: must be a whole number ≥ 1")
    return rng.standard_normal((draws, len(sd))) * sd


def null_controls(rng: np.random.Generator, n: int = 1_000_000) -> dict[str, np.ndarray]:
    """Samples (n,) on which an α̂ below 2 says nothing of an α-stable law: none is one, and all but the last have
    Gaussian values. ValueError for fewer than 4 values."""
    if n < 4:
        raise ValueError(f"n {n!r}: must be a whole number ≥ 4")
    normal = rng.standard_normal(n)
    return {
        "Gaussian": normal,
        "Gaussian, scales lognormal with sd 1": normal * np.exp(rng.standard_normal(n)),
        "Gaussian, scales lognormal with sd 2": normal * np.exp(2 * rng.standard_normal(n)),
        "Gaussian, 10 % exact zeros": np.where(rng.random(n) < 0.1, 0.0, normal),
        "Student t, 3 degrees of freedom": rng.standard_t(3, n),
    }
