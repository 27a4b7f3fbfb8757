"""What follows from a critical batch size B_c and step times: steps, examples, time to target, learning rates.

S = S_min (1 + B_c/B) steps and E = E_min (1 + B/B_c) examples reach a target (McCandlish et al. 2018, equations 2.11
and 5.1). Batch sizes may be arrays. B_c may be infinite.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import special

MORE_EXAMPLES = 0.1  # than the least, that the sample-efficient batch size may take
MORE_TIME = 0.1  # than the least, that a batch size may take that is as good as the fastest
ADAPTIVE = ("Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "Adagrad", "Adadelta")


def relative_steps(batch_size: np.ndarray | float, critical: float) -> np.ndarray | float:
    """S/S_min."""
    return 1 + critical / batch_size


def relative_examples(batch_size: np.ndarray | float, critical: float) -> np.ndarray | float:
    """E/E_min."""
    return 1 + batch_size / critical


def time_to_target(batch_size: np.ndarray | float, step: np.ndarray | float, critical: float) -> np.ndarray | float:
    """S(B) t(B), relative: `step` the seconds of one. With an infinite B_c, seconds an example."""
    return step / batch_size if critical == math.inf else step * relative_steps(batch_size, critical)


def fastest(times: Mapping[int, float], critical: float) -> float:
    """The batch size from the least to the largest of `times` (seconds a step by batch size) at which S(B) t(B) is
    least, t(B) interpolated linearly between those timed: between neighbours t = a + b B, and (1 + B_c/B)(a + b B) is
    least at B = √(B_c a/b), or at an end. With an infinite B_c, where examples a second are most. ValueError for no
    time."""
    if not times:
        raise ValueError("times: needs at least one batch size that was timed")
    sizes = sorted(times)
    tried = [float(size) for size in sizes]
    if critical != math.inf:
        for small, large in itertools.pairwise(sizes):
            slope = (times[large] - times[small]) / (large - small)
            fixed = times[small] - slope * small
            if slope > 0 and fixed > 0 and small < (at := math.sqrt(critical * fixed / slope)) < large:
                tried.append(at)
    step = np.interp(tried, sizes, [times[size] for size in sizes])
    return tried[int(np.argmin(time_to_target(np.array(tried), step, critical)))]


def nearly_fastest(times: Mapping[int, float], critical: float) -> tuple[float, float]:
    """The least and the largest batch size, to 1 %, that take at most MORE_TIME more time to a target than the
    fastest."""
    sizes = sorted(times)
    tried = np.geomspace(sizes[0], sizes[-1], 1 + math.ceil(math.log(sizes[-1] / sizes[0]) / 0.01))
    cost = time_to_target(tried, np.interp(tried, sizes, [times[size] for size in sizes]), critical)
    best = fastest(times, critical)
    good = [best, *tried[cost <= (1 + MORE_TIME) * np.min(cost)]]
    return float(min(good)), float(max(good))


def learning_rate_factor(
    optimizer: str, from_batch_size: float, to_batch_size: float, critical: float, betas: Sequence[float] = ()
) -> float:
    """By what to multiply the learning rate. SGD: ∝ 1/(1 + B_c/B), which is in proportion for B ≪ B_c (McCandlish et
    al. 2018, equation 2.6). Adaptive methods: √κ, with κ the ratio of batch sizes, as long as κ(1 - β₁) < 1 (Malladi et
    al. 2022): NaN beyond."""
    ratio = to_batch_size / from_batch_size
    if optimizer in ADAPTIVE:
        return math.sqrt(ratio) if ratio * (1 - (betas[0] if betas else 0.0)) < 1 or not betas else math.nan
    if critical == math.inf:
        return ratio
    return (1 + critical / from_batch_size) / (1 + critical / to_batch_size)


def error_of_advice(log_ratios: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """Measured critical batch size over the noise scale, of workloads on which both were measured: the geometric mean
    of the ratios, and the interval for one more workload, exp(mean ± t s √(1 + 1/k)). ValueError for fewer than
    three."""
    k = len(log_ratios)
    if k < 3:
        raise ValueError(f"needs three workloads or more, got {k}")
    mean, sd = float(np.mean(log_ratios)), float(np.std(log_ratios, ddof=1))
    half = float(special.stdtrit(k - 1, (1 + level) / 2)) * sd * math.sqrt(1 + 1 / k)
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)
