"""The noisy quadratic model of Zhang et al. (2019): the expected loss of SGD with momentum, exactly.

L(θ) = ½ Σ hᵢ θᵢ², and the gradient of a batch of B examples is hᵢ θᵢ + ξᵢ with Var ξᵢ = cᵢ/B, independent in every
direction and at every step. The state of a direction is z = (θ, v, a): the parameter, its velocity and the average
of θ. A step takes it to M z + w ξ, so its second moments go C ← M C Mᵀ + (c/B) w wᵀ, and t steps of that are one
affine map of C. Doubling it finds any t in log₂ t products: no simulation, no approximation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike

MOST_STEPS = 2**40
MOST_MOMENTUM = 0.999
HAIR = 1e-6  # beside a singular value of a closed form
CHECKS = 24  # looks ahead, at whether the loss stays where it is


@dataclass(frozen=True)
class Quadratic:
    """A noisy quadratic. Arrays (d,): `curvature` h > 0, `noise` c ≥ 0, the variance of a single example's gradient,
    `start` E[θ²] ≥ 0 at the start, and how many directions each entry stands for."""

    curvature: np.ndarray
    noise: np.ndarray
    start: np.ndarray
    count: np.ndarray

    @classmethod
    def of(cls, curvature: ArrayLike, noise: ArrayLike, start: ArrayLike, count: ArrayLike = 1.0) -> Quadratic:
        """Arrays or numbers, broadcast to one shape (d,); ValueError unless they are as above."""
        given = (np.asarray(x, dtype=np.float64) for x in (curvature, noise, start, count))
        h, c, s, n = np.broadcast_arrays(*given)
        if h.ndim != 1 or not len(h):
            raise ValueError(f"curvature must be a list of numbers, got an array of shape {h.shape}")
        if not all(np.isfinite(x).all() for x in (h, c, s, n)) or (h <= 0).any() or min(c.min(), s.min()) < 0:
            raise ValueError("curvature must be above 0, noise and start at least 0, and all of them finite")
        return cls(h, c, s, n)

    def loss(self, second_moments: np.ndarray) -> np.ndarray:
        """½ Σ h E[θ²] for E[θ²] (..., d)."""
        return 0.5 * (self.count * self.curvature * second_moments).sum(-1)

    @classmethod
    def harmonic(cls, dimensions: int, start: float = 1.0, singly: int = 200, ratio: float = 1.02) -> Quadratic:
        """h = c = 1/i for i = 1 to `dimensions`, from E[θ²] = `start` (Zhang et al. 2019, §3): the first `singly` by
        themselves, further on in groups of which the last i is about `ratio` times the first."""
        edges = [*range(1, min(singly, dimensions) + 1)]
        while edges[-1] <= dimensions:
            edges.append(max(edges[-1] + 1, round(edges[-1] * ratio)))
        edges[-1] = dimensions + 1
        count = np.diff(edges)
        groups = np.split(1 / np.arange(1, dimensions + 1), np.cumsum(count)[:-1])
        curvature = np.array([group.mean() for group in groups])
        return cls.of(curvature, curvature, start, count)

    def preconditioned(self, power: float) -> Quadratic:
        """The same in the coordinates that a preconditioner h^-power turns it into (Zhang et al. 2019, §3.2)."""
        h = self.curvature
        return Quadratic(h ** (1 - power), self.noise * h**-power, self.start * h**power, self.count)


@dataclass(frozen=True)
class Method:
    """SGD: `lr` and `momentum` as torch.optim.SGD has them, Nesterov's form of it too; with `average` in (0, 1), what
    is evaluated is the exponential moving average a ← average·a + (1 - average)·θ."""

    lr: float
    momentum: float = 0.0
    nesterov: bool = False
    average: float = 0.0

    def maps(self, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """M (3, 3, d) and w (3,): a step takes z = (θ, v, a) to M z + w ξ."""
        m, lr, keep = self.momentum, self.lr, self.average
        first, second = (1 + m, m * m) if self.nesterov else (1.0, m)  # the step is -lr (first·g + second·v)
        one, zero = np.ones_like(h), np.zeros_like(h)
        theta = np.stack([1 - lr * first * h, -lr * second * one, zero])
        velocity = np.stack([h, m * one, zero])
        average = (1 - keep) * theta + keep * np.stack([zero, zero, one])
        return np.stack([theta, velocity, average]), np.array([-lr * first, 1.0, -(1 - keep) * lr * first])


def _times(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Matrix product over the first two axes."""
    return np.einsum("ijd,jkd->ikd", a, b)


class _Moments:
    """Second moments of one quadratic under one method, after any number of steps."""

    def __init__(self, quadratic: Quadratic, method: Method, batch_size: float) -> None:
        used = [0, *([1] if method.momentum else []), *([2] if method.average else [])]  # of (θ, v, a)
        step, w = method.maps(quadratic.curvature)
        step, w, initial = step[np.ix_(used, used)], w[used], np.array([1.0, 0.0, 1.0])[used]
        drawn = np.outer(w, w)[:, :, None] * (quadratic.noise / batch_size)
        self._powers = [(step, drawn)]  # (M^k, what k steps of noise add) for k = 1, 2, 4, …
        self.start = np.outer(initial, initial)[:, :, None] * quadratic.start
        self._quadratic = quadratic
        self._evaluated = len(used) - 1 if method.average else 0

    def after(self, moments: np.ndarray, doublings: int) -> np.ndarray:
        """2^doublings steps on."""
        while len(self._powers) <= doublings:
            step, drawn = self._powers[-1]
            self._powers.append((_times(step, step), self._go(drawn, step) + drawn))
        step, drawn = self._powers[doublings]
        return self._go(moments, step) + drawn

    def at(self, steps: int) -> np.ndarray:
        """After `steps` steps from the start."""
        now = self.start
        for k in range(steps.bit_length()):
            if steps >> k & 1:
                now = self.after(now, k)
        return now

    @staticmethod
    def _go(moments: np.ndarray, step: np.ndarray) -> np.ndarray:
        return _times(_times(step, moments), step.swapaxes(0, 1))

    def loss(self, moments: np.ndarray) -> float:
        return float(self._quadratic.loss(moments[self._evaluated, self._evaluated]))


def loss_after(quadratic: Quadratic, method: Method, batch_size: float, steps: int) -> float:
    """The expected loss after `steps` steps of batches of `batch_size` (may be infinite)."""
    with np.errstate(over="ignore", invalid="ignore"):
        moments = _Moments(quadratic, method, batch_size)
        return moments.loss(moments.at(steps))


def steps_to_target(quadratic: Quadratic, method: Method, batch_size: float, target: float) -> float:
    """The number of steps after which the expected loss is at most `target`, and is so at CHECKS points up to half as
    many steps again: with much momentum it swings, and a swing may reach the target long before the loss stays there.
    Infinite where that is not within 2⁴⁰ steps. The loss between is taken to fall."""
    with np.errstate(over="ignore", invalid="ignore"):
        moments = _Moments(quadratic, method, batch_size)
        done = 0.0
        while True:
            done = _crossing(moments, int(done), target)
            if not math.isfinite(done):
                return math.inf
            ahead = np.unique(np.linspace(done, 1.5 * done, CHECKS).round().astype(int))
            above = [int(t) for t in ahead if not moments.loss(moments.at(int(t))) <= target]
            if not above:
                return done
            done = above[-1]


def _crossing(moments: _Moments, done: int, target: float) -> float:
    """The first step after `done`, by doubling and halving, at which the loss is at most `target`."""
    now, k = moments.at(done), 0
    if moments.loss(now) <= target:
        return done
    while True:
        then = moments.after(now, k)
        loss = moments.loss(then)
        if loss <= target:
            break
        if not math.isfinite(loss) or done + 2**k > MOST_STEPS:
            return math.inf
        now, done, k = then, done + 2**k, k + 1
    for j in range(k - 1, -1, -1):  # it lies within 2^k steps of `now`
        then = moments.after(now, j)
        if not moments.loss(then) <= target:
            now, done = then, done + 2**j
    return done + 1


def decay_and_noise(
    quadratic: Quadratic, lr: ArrayLike, steps: ArrayLike, momentum: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """D and N (l, t) of L = D + N/B, the expected loss after `steps` (t,) steps of SGD at learning rates `lr` (l,) and
    one momentum: in closed form, so for any number of steps, rates and batch sizes at once.

    A push at one step moves θ, k steps on, by -η uₖ times as much, uₖ = (r₁ᵏ - r₂ᵏ)/(r₁ - r₂), with r₁, r₂ the roots of
    r² - (1 + m - ηh) r + m; and from θ₀, at rest, θₜ = θ₀ (uₜ₊₁ - m uₜ). Infinite where it is not stable.
    """
    rates, t = (np.asarray(x, dtype=np.float64) for x in (lr, steps))
    h, m = quadratic.curvature, momentum
    trace = (1 + m - rates[:, None] * h)[:, None, :]  # (l, 1, d)
    # Equal roots, and roots of 1 or -1, are limits of what is written here: a hair beside them
    gap = np.sqrt(trace.astype(complex) ** 2 - 4 * m)
    gap = np.where(abs(gap) < HAIR, HAIR, gap)
    first, second = (trace + gap) / 2, (trace - gap) / 2
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        x, y = first ** t[:, None], second ** t[:, None]
        now, then = (x - y) / gap, (x * first - y * second) / gap

        def powers(r: np.ndarray, last: np.ndarray) -> np.ndarray:
            """Σ rᵏ for k = 1 to t, of which rᵗ is the `last`."""
            near = abs(1 - r) < HAIR**2
            return np.where(near, t[:, None], r * (1 - last) / np.where(near, 1, 1 - r))

        drawn = (powers(first**2, x * x) - 2 * powers(first * second, x * y) + powers(second**2, y * y)) / gap**2
        kept = (then - m * now).real ** 2
        weight = 0.5 * quadratic.count * h
        decay = (weight * quadratic.start * kept).sum(-1)
        noise = (weight * quadratic.noise * drawn.real).sum(-1) * rates[:, None] ** 2
    stable = (np.maximum(abs(first), abs(second)) < 1 + HAIR).all((1, 2))[:, None]
    return np.where(stable, decay, np.inf), np.where(stable, noise, np.inf)


def best_method(
    quadratic: Quadratic, batch_size: float, target: float, momentum: bool = False, average: float = 0.0
) -> tuple[float, Method]:
    """The least `steps_to_target` over the learning rate, and with `momentum` over that up to MOST_MOMENTUM, beyond
    which it does the work of averaging, too; and the method that takes them. From the best of a coarse grid by Nelder
    and Mead's search, in logarithms of η and 1 - m."""
    largest = 2 / float(quadratic.curvature.max())

    def method(point: np.ndarray) -> Method:
        slow = min(max(math.exp(point[1]), 1 - MOST_MOMENTUM), 1.0) if momentum else 1.0
        return Method(math.exp(point[0]), 1 - slow, average=average)

    def cost(point: np.ndarray) -> float:
        return math.log(max(min(steps_to_target(quadratic, method(point), batch_size, target), 4.0 * MOST_STEPS), 1))

    slows = [0.3, 0.1, 0.03, 0.01] if momentum else [1.0]
    # momentum m is stable up to η h = 2(1 + m)
    grid = [[math.log(largest * (2 - slow) * 2.0**-k * 0.97), math.log(slow)] for slow in slows for k in range(0, 14)]
    starts = sorted((np.array(p[: 1 + momentum]) for p in grid), key=cost)[:3]
    options = {"xatol": 1e-3, "fatol": 1e-5}
    found = min(
        (scipy.optimize.minimize(cost, s, method="Nelder-Mead", options=options) for s in starts), key=lambda r: r.fun
    )
    best = method(found.x)
    return steps_to_target(quadratic, best, batch_size, target), best
