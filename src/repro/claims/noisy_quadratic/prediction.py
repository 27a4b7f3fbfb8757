"""What the noisy quadratic model says of a network whose curvature and noise were measured along training.

Between two looks the loss is taken for a quadratic, with the curvature, gradient and noise of the first, and the model
tells after how many steps it has fallen by as much as the network's did. The whole way is all of these, one after the
other, at one learning rate and momentum: the best. Nothing is fitted.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from repro.theory.noisy_quadratic import Quadratic, decay_and_noise

BINS = 30  # of curvature, even in its logarithm
LEAST_CURVATURE = 1e-3  # of the largest; what is flatter, or curved downward, counts as so flat: a slope
STEPS = np.unique(np.geomspace(1, 1e6, 160).round())
AHEAD = 6  # of STEPS, half as many steps again: over so many the loss must stay below
RATES = np.array([*2.0 ** np.arange(-12, 0, 0.25), 0.9, 0.95, 0.98])  # of the largest stable learning rate
MOMENTA = (0.0, 0.5, 0.75, 0.9, 0.95, 0.98)


@dataclass(frozen=True)
class Stretch:
    """Curvature, noise and gradient at a look, and by how much the loss falls until the next."""

    quadratic: Quadratic
    fall: float


@dataclass(frozen=True)
class Predicted:
    """log S (b,) by batch size, infinite where the target is never met, and log₂ of the best η/(1 - m) (b,)."""

    log_steps: np.ndarray
    log_rates: np.ndarray


def binned(trials: Sequence[pd.Series]) -> Quadratic:
    """The quadratic of one look, of the mean over several trials: the spread of the gradient, γ at curvature h, is a
    start of θ² = γ/h²; that of the noise is c. The largest curvature is the mean of the trials' largest: the largest of
    many is an accident."""

    def mean(of: str) -> tuple[np.ndarray, np.ndarray]:
        parts = [np.asarray(row[f"{of}_{name}"], float) for name in ("eigenvalue", "weight") for row in trials]
        half = len(trials)
        return np.concatenate(parts[:half]), np.concatenate(parts[half:]) / half

    (at, gradient), (at_noise, noise) = mean("gradient"), mean("noise")
    largest = float(np.mean([max(*row["gradient_eigenvalue"], *row["noise_eigenvalue"]) for row in trials]))
    h = largest * np.geomspace(LEAST_CURVATURE, 1, BINS)

    def put(nodes: np.ndarray, weights: np.ndarray) -> np.ndarray:
        places = np.log(np.clip(nodes / largest, LEAST_CURVATURE, 1) / LEAST_CURVATURE)
        return np.bincount(np.rint(places / -np.log(LEAST_CURVATURE) * (BINS - 1)).astype(int), weights, BINS)

    return Quadratic.of(h, put(at_noise, noise), put(at, gradient) / h**2)


def stretches(trials: Sequence[pd.DataFrame]) -> list[Stretch]:
    """Those along which the mean training loss of several trials, with looks at the same steps, falls."""
    by_step = [trial.drop_duplicates("step").set_index("step").sort_index() for trial in trials]
    losses = pd.concat([trial["train_loss"] for trial in by_step], axis=1).dropna().mean(axis=1)
    found = []
    for start, end in zip(losses.index, losses.index[1:], strict=False):
        if (fall := float(losses[start] - losses[end])) > 0:
            found.append(Stretch(binned([trial.loc[start] for trial in by_step]), fall))
    return found


def steps_of(stretch: Stretch, rates: np.ndarray, momentum: float, batch_sizes: np.ndarray) -> np.ndarray:
    """Steps (l, b) until the loss has fallen by as much, at `rates` (l,) and `batch_sizes` (b,); infinite where it
    does not."""
    decay, noise = decay_and_noise(stretch.quadratic, rates, STEPS, momentum)
    target = stretch.quadratic.loss(stretch.quadratic.start) - stretch.fall
    with np.errstate(invalid="ignore"):
        above = decay[:, None] + noise[:, None] / batch_sizes[:, None] - target  # (l, b, t)
    below = above <= 0
    ahead = np.lib.stride_tricks.sliding_window_view(below, AHEAD, axis=2)
    stays = np.asarray(ahead.all(-1))
    first = stays.argmax(-1)
    before = np.maximum(first - 1, 0)
    left, right = (np.take_along_axis(above, k[..., None], 2)[..., 0] for k in (before, first))
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where((first > 0) & np.isfinite(left), left / (left - right), 1.0)
    logs = np.log(STEPS)
    found = np.exp(logs[before] + share * (logs[first] - logs[before]))
    return np.where(stays.any(-1), found, np.inf)


def predict(way: Sequence[Stretch], batch_sizes: np.ndarray, momentum: bool) -> Predicted:
    """The least steps over learning rate, and with `momentum` over that, too."""
    largest = max(float(s.quadratic.curvature.max()) for s in way)
    steps, rates = [], []
    for m in MOMENTA if momentum else (0.0,):
        tried = RATES * 2 * (1 + m) / largest
        steps.append(sum(steps_of(s, tried, m, batch_sizes) for s in way))
        rates.append(tried / (1 - m))
    table, by_rate = np.concatenate(steps), np.concatenate(rates)
    best = table.argmin(0)
    with np.errstate(divide="ignore"):
        return Predicted(np.log(table.min(0)), np.log2(by_rate[best]))


def predicted(trials: Sequence[pd.DataFrame], batch_sizes: Sequence[int], momentum: bool) -> Predicted | None:
    """`predict` along several trials of one kind; None where their loss falls nowhere. Remembered: a page asks many
    times."""
    way = stretches(trials)
    arrays = [(s.quadratic.curvature, s.quadratic.noise, s.quadratic.start) for s in way]
    key = tuple((s.fall, *(a.tobytes() for a in of)) for s, of in zip(way, arrays, strict=True))
    return _remembered(key, tuple(batch_sizes), momentum) if way else None


@functools.lru_cache(maxsize=64)
def _remembered(
    key: tuple[tuple[float, bytes, bytes, bytes], ...], sizes: tuple[int, ...], momentum: bool
) -> Predicted:
    way = [Stretch(Quadratic.of(*(np.frombuffer(a) for a in arrays)), fall) for fall, *arrays in key]
    return predict(way, np.array(sizes, float), momentum)
