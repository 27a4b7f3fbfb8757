"""Examples on which adaptive methods learn nothing (Wilson et al. 2017, §3.3), and what every method learns there.

Labels are y = 1 for the share p > 1/2 of n examples and -1 for the rest. Of an example's features, the first is its
label; the second and third are 1; and it has some of its own, 0 for all others: one if y = 1, five if y = -1. A linear
model without bias is trained by least squares. From zero, the first step of an adaptive method has the same length in
every weight, and its examples' outputs are 4y: from there on all weights keep one size, the second and third outvote
the first, and an example that was not seen, whose own features weigh nothing, is told to be a 1. Test error is then
1 - p exactly. Descent stays in the span of the examples, where the first feature decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike

COMMON, OWN = 3, 5  # features: of all examples, and of one, at most
LEARNING_RATES = {
    "SGD": 0.1,
    "momentum": 0.01,
    "Nesterov": 0.01,
    "AdaGrad": 0.1,
    "RMSProp": 0.01,
    "Adam": 0.01,
}
ADAPTIVE = ("AdaGrad", "RMSProp", "Adam")  # Wilson et al.'s
MOMENTUM = 0.9


@dataclass(frozen=True)
class Learnt:
    """What a method has learnt of K constructions: arrays (K,). Errors are shares of examples: of those it was trained
    on, and of unseen ones, of which the share p is positive, in expectation over the start of their own features."""

    train_error: np.ndarray
    test_error: np.ndarray


def _method(name: str, weights: np.ndarray) -> Callable[[np.ndarray], None]:
    """A step of torch.optim's method of that name, at its defaults but for the learning rate and momentum: takes a
    gradient of the shape of `weights`, and changes these in place."""
    lr, first, second, steps = LEARNING_RATES[name], np.zeros_like(weights), np.zeros_like(weights), 0

    def step(gradient: np.ndarray) -> None:
        nonlocal first, second, steps
        steps += 1
        if name == "SGD":
            weights[:] -= lr * gradient
        elif name in ("momentum", "Nesterov"):
            first = MOMENTUM * first + gradient
            weights[:] -= lr * (gradient + MOMENTUM * first if name == "Nesterov" else first)
        elif name == "AdaGrad":
            second += gradient**2
            weights[:] -= lr * gradient / (np.sqrt(second) + 1e-10)
        elif name == "RMSProp":
            second = 0.99 * second + 0.01 * gradient**2
            weights[:] -= lr * gradient / (np.sqrt(second) + 1e-8)
        else:
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            denominator = np.sqrt(second / (1 - 0.999**steps)) + 1e-8
            weights[:] -= lr * first / (1 - 0.9**steps) / denominator

    return step


def learn(
    name: str,
    positive: ArrayLike,
    *,
    examples: int = 60,
    start: ArrayLike = 0.0,
    own: ArrayLike = 1.0,
    batch_size: int | None = None,
    steps: int = 1000,
    seed: int = 0,
) -> Learnt:
    """Train by the method `name` on K constructions at once, of which `positive` (K,) of `examples` have the label 1.

    `start` (K,) is the standard deviation of the weights at the start, normal; `own` (K,) the value of the features of
    an example's own, 1 in the paper. `batch_size` None: all examples at every step; else so many, which divide
    `examples`, in an order drawn anew for each construction and epoch, from `seed`, as the start is. float64
    throughout. ValueError for what is none of these."""
    if name not in LEARNING_RATES:
        raise ValueError(f"method {name!r}: must be one of {', '.join(LEARNING_RATES)}")
    given = (np.asarray(value, dtype=np.float64) for value in (positive, start, own))
    count, spread, size = (np.atleast_1d(value) for value in np.broadcast_arrays(*given))
    size_of_batch = examples if batch_size is None else batch_size
    if not ((count > examples / 2) & (count < examples)).all() or (spread < 0).any():
        raise ValueError(f"positive must be more than half of {examples} and fewer than all; start at least 0")
    if size_of_batch < 1 or examples % size_of_batch:
        raise ValueError(f"batch_size {batch_size}: must divide {examples}")
    random = np.random.default_rng(seed)
    y = np.where(np.arange(examples) < count[:, None], 1.0, -1.0)
    has = np.where((np.arange(OWN) == 0) | (y[..., None] < 0), size[:, None, None], 0.0)  # (K, n, OWN)
    weights = spread[:, None] * random.standard_normal((len(count), COMMON + OWN * examples))
    step = _method(name, weights)

    def output() -> np.ndarray:
        of_own = (has * weights[:, COMMON:].reshape(has.shape)).sum(-1)
        return y * weights[:, :1] + weights[:, 1:2] + weights[:, 2:3] + of_own

    order = np.tile(np.arange(examples), (len(count), 1))
    per_epoch = examples // size_of_batch
    share = np.full_like(y, 1 / examples)  # of each example in the loss of a step
    for done in range(steps):
        at = done % per_epoch
        if per_epoch > 1:
            order = order if at else random.permuted(order, axis=1)
            share[:] = 0
            np.put_along_axis(share, order[:, at * size_of_batch :][:, :size_of_batch], 1 / size_of_batch, 1)
        left = share * (output() - y)  # dL/d output, of L the mean of half the squares
        common = np.stack([(left * y).sum(-1), left.sum(-1), left.sum(-1)], 1)
        step(np.concatenate([common, (left[..., None] * has).reshape(len(count), -1)], 1))

    def wrong(label: float, features: int) -> np.ndarray:
        """The chance to err on an unseen example, whose own features weigh what they did at the start."""
        margin = label * (label * weights[:, 0] + weights[:, 1] + weights[:, 2])
        noise = spread * size * np.sqrt(features)
        return np.where(noise > 0, scipy.stats.norm.sf(margin / np.where(noise > 0, noise, 1)), margin <= 0)

    p = count / examples
    return Learnt((y * output() <= 0).mean(-1), p * wrong(1.0, 1) + (1 - p) * wrong(-1.0, OWN))
