"""The noise scale of any model, with an interval, from ordinary backward passes over micro-batches.

Notation: g_i the gradient of one example's loss, G that of all N examples (of the distribution they come from, if N is
infinite), tr Σ the summed variance of the g_i. B_simple = tr Σ / ‖G‖² (McCandlish et al. 2018, equation 2.9).

M micro-batches of m examples are drawn without replacement; g_j is the mean gradient of one. For j ≠ k
E g_j·g_k = ‖G‖² - tr Σ/N and E ‖g_j‖² = E g_j·g_k + tr Σ/m, so both are estimated without bias by means over all M
and over every pair of distinct ones. Groups of micro-batches keep that down to one vector and one number a group,
which is also what an interval needs.

All of it holds for any other inner product x·Ay, with A positive semidefinite: then it gives tr(AΣ)/GᵀAG. A is applied
to the groups' sums alone, and each is then one large micro-batch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import special
from torch import Tensor, nn

from repro.measure import checks, examples, objective
from repro.measure.noise import NoiseScale
from repro.measure.objective import Forward, Loss

GROUPS = 32
RESAMPLES = 1000  # of the bootstrap
ROUNDING = 1e-9  # of a share of the squared norms: what noise must be above
LEVEL = 0.95
MICRO_BATCH = 32  # examples, where there are enough of them
FEWEST_EXAMPLES = 100  # for an interval
SKETCH = 2**20  # numbers a group that a gradient is folded to, where its sums would not fit

Metric = Callable[[Tensor], Tensor]  # vectors (k, P) -> A times each, (k, P); P the trainable parameters, in order


@dataclass(frozen=True)
class Estimate(NoiseScale):
    """A noise scale, of `num_examples` in micro-batches of `micro_batch`, and its interval `low` to `high`, in
    examples; `high` is infinite where ‖G‖² may be zero, and `low` is `num_examples` where nothing else is likely."""

    low: float
    high: float
    num_examples: int
    micro_batch: int

    def __str__(self) -> str:
        high = "∞" if self.high == math.inf else f"{self.high:,.0f}"
        least = f"at least {self.low:,.0f}" if self.high == math.inf else f"{self.scale:,.0f}"
        return f"{least} ({self.low:,.0f} to {high}), from {self.num_examples:,} examples"


@dataclass(frozen=True)
class Groups:
    """K groups of micro-batches: how many (K,); the inner products of the groups' summed gradients (K, K); squared
    norms (K,), the sum of ‖g_j‖² over each group's micro-batches or, with `summed`, ‖Σ g_j‖²; all float64; the
    micro-batches' size, and the number of examples N."""

    counts: np.ndarray
    squares: np.ndarray
    products: np.ndarray
    micro_batch: int
    num_examples: float
    summed: bool = False

    def noise(self, times: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """tr Σ and ‖G‖² with every group taken as many `times` (..., K) as told, by default once. A micro-batch is
        never paired with a copy of itself: the square of a group expects `paired` E g_j·g_k and `counts` tr Σ/m."""
        w = np.ones(len(self.counts)) if times is None else times
        paired = np.square(self.counts) if self.summed else self.counts
        number = w @ self.counts
        pairs = number**2 - np.square(w) @ paired
        both = ((w @ self.products) * w).sum(-1) - np.square(w) @ self.squares
        with np.errstate(divide="ignore", invalid="ignore"):
            product = both / pairs
            trace = self.micro_batch * (w @ self.squares - w @ paired * product) / number
            return trace, product + trace / self.num_examples

    def estimate(self, level: float = LEVEL, seed: int = 0) -> Estimate:
        """B_simple and its interval, by that of its inverse ‖G‖²/tr Σ, which is finite where B_simple is not: the
        hull of Student's t interval of the delete-one-group jackknife and of the percentile bootstrap over groups.
        The bootstrap's spread is shrunk to the jackknife's, if that is smaller, as it is where noise dominates, and
        widened as t is wider than the normal. Both shrink as the examples are used up; but which of them share a
        micro-batch leaves tr Σ uncertain, and it is never narrower than that makes it. ValueError for no noise.
        """
        trace, squared = (float(v) for v in self.noise())
        groups = len(self.counts)
        used = float(self.counts.sum()) * self.micro_batch
        if not (math.isfinite(trace) and math.isfinite(squared)):
            raise ValueError(f"gradients of {used:.0f} examples overflow: their squared norms are not finite")
        if trace <= ROUNDING * self.micro_batch * float(self.squares.sum() / self.counts.sum()):
            raise ValueError("gradients do not differ between examples: there is no noise to measure")

        def inverse(times: np.ndarray) -> np.ndarray:
            t, q = self.noise(times)
            with np.errstate(divide="ignore", invalid="ignore"):
                return q / t

        def jackknife(without: np.ndarray) -> float:
            with np.errstate(invalid="ignore"):  # of two micro-batches, one left has no pair
                return math.sqrt((groups - 1) / groups * float(np.square(without - without.mean()).sum()))

        center = squared / trace
        one_less = 1 - np.eye(groups)
        spread = jackknife(inverse(one_less))
        t = float(special.stdtrit(groups - 1, (1 + level) / 2))
        random = np.random.default_rng(seed)
        drawn = inverse(random.multinomial(groups, np.full(groups, 1 / groups), RESAMPLES).astype(float))
        drawn = drawn[np.isfinite(drawn)]
        wider = t / float(special.ndtri((1 + level) / 2)) * math.sqrt(groups / (groups - 1))
        wider *= min(1.0, spread / float(drawn.std()) if drawn.std() > 0 else 1.0)
        tails = (np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]) - center) * wider
        left = 1.0 if self.summed else math.sqrt(max(0.0, 1 - used / self.num_examples))
        of_trace = t * jackknife(self.noise(one_less)[0]) / trace * abs(center) if self.micro_batch > 1 else 0.0
        low = center + min(left * min(-t * spread, float(tails[0])), -of_trace)
        high = center + max(left * max(t * spread, float(tails[1])), of_trace)
        return Estimate(
            trace,
            squared,
            low=1 / high if high > 0 else used,
            high=1 / low if low > 0 else math.inf,
            num_examples=round(used),
            micro_batch=self.micro_batch,
        )


class GroupedGradients:
    """Mean gradients of micro-batches, added one after the other to the groups in turn. The sums of a group take as
    many numbers as there are parameters; where those of all groups would take more than `memory` bytes, a gradient is
    folded first to `sketch` numbers, each the sum of some with random signs, which keeps inner products without bias
    and to within 1/√sketch of the product of the norms."""

    def __init__(self, parameters: Sequence[Tensor], groups: int = GROUPS, memory: float = math.inf, seed: int = 0):
        self.size = sum(p.numel() for p in parameters)
        first = parameters[0]
        self.signs: Tensor | None = None
        width = self.size
        if groups * self.size * first.element_size() > memory:
            width = min(SKETCH, self.size)
            random = torch.Generator().manual_seed(seed)
            rows = -(-self.size // width)
            signs = torch.randint(2, (rows, width), generator=random, dtype=torch.int8)
            self.signs = signs.mul_(2).sub_(1).to(first.device)
        dtype = torch.float64 if first.dtype == torch.float64 else torch.float32
        self.sums = torch.zeros(groups, width, dtype=dtype, device=first.device)
        self.squares = np.zeros(groups)
        self.counts = np.zeros(groups)
        self.turn = 0

    def add(self, gradient: Sequence[Tensor]) -> None:
        """ValueError where the gradient is not finite."""
        parts = [g.detach().flatten().to(self.sums.dtype) for g in gradient]
        square = float(torch.stack([part.norm() for part in parts]).double().square().sum())
        flat = torch.cat(parts)
        if not math.isfinite(square):
            raise ValueError(f"the gradient of micro-batch {self.turn + 1} is not finite")
        if self.signs is not None:
            rows, width = self.signs.shape
            flat = nn.functional.pad(flat, (0, rows * width - self.size)).view(rows, width).mul_(self.signs).sum(0)
        group = self.turn % len(self.counts)
        self.sums[group] += flat
        self.squares[group] += square
        self.counts[group] += 1
        self.turn += 1

    def groups(self, micro_batch: int, num_examples: float, metric: Metric | None = None) -> Groups:
        """What has been added, with inner products x·Ay by `metric`, A. ValueError for fewer than two micro-batches,
        or a metric where gradients are folded."""
        if self.turn < 2:
            raise ValueError(f"too few examples for an interval: {self.turn} micro-batch of {micro_batch}, needs two")
        if metric is not None and self.signs is not None:
            raise ValueError("memory: does not hold the groups' gradients whole, which a metric needs")
        some = self.counts > 0
        sums = self.sums[: int(some.sum())]
        other = sums if metric is None else metric(sums)
        if other.shape != sums.shape:
            raise ValueError(f"metric: must keep the shape of vectors {tuple(sums.shape)}, gave {tuple(other.shape)}")
        products = sum(
            (a.double() @ b.double().T for a, b in zip(sums.split(2**18, 1), other.split(2**18, 1), strict=True)),
            start=torch.zeros((), dtype=torch.float64, device=self.sums.device),
        )
        found = products.cpu().numpy()
        squares = self.squares[some] if metric is None else found.diagonal()
        return Groups(self.counts[some], squares, found, micro_batch, num_examples, summed=metric is not None)


def micro_batch_size(model: nn.Module, num_examples: float) -> int:
    """MICRO_BATCH, or a lower power of two so that every group has two; not lower where batch norm takes its statistics
    from them."""
    if objective.batch_norms(model):
        return MICRO_BATCH
    return int(2 ** math.floor(math.log2(max(1, min(MICRO_BATCH, num_examples // (2 * GROUPS))))))


def noise_scale(
    model: nn.Module,
    loss: Loss | None,
    data: Any,
    *,
    forward: Forward | None = None,
    micro_batch: int | None = None,
    max_examples: int | None = None,
    seconds: float = math.inf,
    within: float | None = 2.0,
    memory: float = 2**31,
    metric: Metric | None = None,
    seed: int = 0,
) -> Estimate:
    """B_simple = tr Σ / ‖G‖² of `model` on `data`, where the model is now and in the mode it is in, and its 95 %
    interval (see `Groups.estimate`). A model in training mode is measured with its dropout and its batch norm, of
    micro-batches of 32 or more: another network than in eval mode, and the one that is trained.

    `loss` takes (outputs, targets) and gives their mean; where a batch is not (x, ..., y) or a dict, `forward` takes
    (model, batch) and gives its mean loss. G is the gradient of all of `data`, drawn from without replacement; of an
    iterable dataset, that of the distribution it draws from. Reads on until the interval's ends are less than a factor
    of `within` apart, `max_examples` or the data are used up, or `seconds` are over, which is looked at between
    micro-batches. The group's sums take up to `memory` bytes. With `metric`, which takes vectors (k, P) to A times
    each, A positive semidefinite, tr(AΣ)/GᵀAG: curvature-weighted by `curvature.Hessian` (McCandlish et al. 2018,
    eq. 2.8), preconditioned by a diagonal. Parameters, gradients, buffers, modes and random numbers of the caller are
    untouched: it works on a copy. Raises ValueError, in one line.
    """
    checks.positive("seconds", seconds if seconds != math.inf else 1.0)
    number = examples.number(data)
    population = math.inf if number is None else number
    if population < FEWEST_EXAMPLES:
        raise ValueError(f"too few examples for an interval: {number}, needs {FEWEST_EXAMPLES}")
    checks.weights(model)
    with objective.kept(model):
        found = objective.copied(model)
        size = micro_batch_size(found, population) if micro_batch is None else checks.whole("micro_batch", micro_batch)
        mean_loss = objective.objective(loss, forward)
        random = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)  # of dropout
        batches = examples.batches(data, size, random)
        grouped = GroupedGradients(list(objective.parameters(found).values()), GROUPS, memory, seed)

        def now() -> Estimate:
            return grouped.groups(size, population, metric).estimate(seed=seed)

        def enough() -> bool:
            return within is not None and (e := now()).high < within * e.low

        _read(found, mean_loss, batches, size, grouped, max_examples or math.inf, seconds, enough)
        return now()


def _read(
    model: nn.Module,
    mean_loss: Forward,
    batches: Iterator[Any],
    size: int,
    grouped: GroupedGradients,
    most: float,
    seconds: float,
    enough: Callable[[], bool],
) -> None:
    """Micro-batches of `size`, the remainder dropped, until one of the limits is met or there are `enough`."""
    chosen = list(objective.parameters(model).values())
    start, look = time.perf_counter(), GROUPS
    for batch in batches:
        if examples.size(batch) < size:
            continue
        batch = examples.to(batch, chosen[0].device)
        if not grouped.turn:
            with objective.evaluating(model):
                objective.check(model, mean_loss, batch)
        value = objective.evaluate(model, mean_loss, batch)
        if not math.isfinite(float(value.detach())):
            raise ValueError(f"loss: is {float(value.detach())} on micro-batch {grouped.turn + 1}")
        grouped.add(torch.autograd.grad(value, chosen, materialize_grads=True))
        if grouped.turn >= 2 and ((grouped.turn + 1) * size > most or time.perf_counter() - start > seconds):
            break
        if grouped.turn == look:
            if enough():
                break
            look *= 2
