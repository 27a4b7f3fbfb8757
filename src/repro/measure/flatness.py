"""How flat a minimum is: Keskar's φ, never released by its authors."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import optimize
from torch import nn

from repro.measure import checks, examples, objective
from repro.measure.objective import Forward, Loss

CHUNK = 1024  # examples at once, where a whole dataset is gone through


class FullLoss:
    """f and its gradient as functions of one vector, the n trainable parameters of `model`: the mean loss over all of
    `data`, in eval mode and in `dtype`. Batch norm without running statistics takes those of `chunk` examples. It works
    on a copy: `model` is never touched. Data is read once, and held."""

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None,
        data: Any,
        dtype: torch.dtype,
        chunk: int,
        forward: Forward | None = None,
    ) -> None:
        checks.weights(model)
        self.model = copy.deepcopy(model).to(dtype).eval()
        self.parameters = list(objective.parameters(self.model).values())
        if isinstance(loss, nn.Module):  # class weights and the like in dtype, too
            loss = copy.deepcopy(loss).to(dtype)
        self.forward = objective.objective(loss, forward)
        device = self.parameters[0].device
        self.pieces = [examples.to(b, device, dtype) for b in examples.batches(data, checks.whole("chunk", chunk))]
        self.num_examples = sum(map(examples.size, self.pieces))
        objective.check(self.model, self.forward, self.pieces[0], batch_norm=True)

    @property
    def position(self) -> np.ndarray:
        """(n,) float64: where the copy is now."""
        return torch.cat([p.detach().flatten() for p in self.parameters]).cpu().double().numpy()

    @torch.no_grad()
    def _move(self, position: np.ndarray) -> None:
        rows = torch.from_numpy(position).split([p.numel() for p in self.parameters])
        for parameter, row in zip(self.parameters, rows, strict=True):
            parameter.copy_(row.view_as(parameter))

    def __call__(self, position: np.ndarray) -> tuple[float, np.ndarray]:
        """f and its gradient (n,) at `position` (n,)."""
        self._move(position)
        self.model.zero_grad()
        total = 0.0
        for batch in self.pieces:
            share = objective.evaluate(self.model, self.forward, batch) * (examples.size(batch) / self.num_examples)
            share.backward()
            total += share.item()
        gradient = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        return total, torch.cat([g.flatten() for g in gradient]).cpu().double().numpy()


@dataclass(frozen=True)
class Sharpness:
    """φ (`value`), the loss f(x) and the largest loss met in the box, which φ is made of, and the number of
    evaluations of f and its gradient that finding it took."""

    value: float
    loss: float
    max_loss: float
    evaluations: int


def sharpness(
    model: nn.Module,
    loss: Loss | None,
    data: Any,
    epsilon: float = 1e-3,
    *,
    forward: Forward | None = None,
    dimensions: int | None = None,
    column_norm: float = 1.0,
    random: torch.Generator | None = None,
    iterations: int = 10,
    scale_free: bool = False,
    dtype: torch.dtype = torch.float64,
    chunk: int = CHUNK,
) -> Sharpness:
    """φ(x; ε, A) = 100 · (max over y in C of f(x + Ay) - f(x)) / (1 + f(x)), C: |y_i| ≤ ε (|(A⁺x)_i| + 1)
    (Keskar et al. 2017, metric 2.1, equations 3 and 4; φ in percent).

    x are the n trainable parameters of `model`, f the mean `loss` over `data`, which is read once and held in memory,
    in eval mode and `dtype`; float32 may lose a small φ in rounding. `loss` takes (outputs, targets) and gives their
    mean; where a batch is not (x, ..., y) or a dict, `forward` takes (model, batch) and gives its mean loss. The model
    is left as it was.

    A is the identity, or, with `dimensions` = p, a matrix (n, p) of standard normal entries drawn from `random`, its
    columns scaled to the Euclidean norm `column_norm`. The paper does not say how its columns are scaled, and φ
    depends on it: unit columns keep Ay within ε√p of x or so, columns of norm √n (entries of variance 1) move
    every parameter by that much.

    The maximum is that found by `iterations` of scipy's L-BFGS-B on -f from y = 0, none of which is cut short: at
    a minimiser the gradient is small, and the tolerances scipy stops at by default can end the search at y = 0 with
    φ = 0. Where the gradient is exactly zero it does end there. The first step of L-BFGS-B is as long as the gradient,
    so where that is far smaller than the box, ten iterations end far below the maximum. With `scale_free`, what is
    searched is f divided by a tenth of its mean |gradient| in half-widths of the box: the first step then fills most
    of the box, whatever the scale of f. φ is still that of f.

    Memory: about 40 vectors of n float64, and 2np float64 with `dimensions`. Raises ValueError, in one line.
    """
    checks.positive("epsilon", epsilon)
    checks.positive("column_norm", column_norm)
    checks.whole("iterations", iterations)
    f = FullLoss(model, loss, data, dtype, chunk, forward)
    x = f.position
    columns: np.ndarray | None = None
    center = x
    if dimensions is not None:
        if random is None or not 1 <= dimensions <= len(x):
            raise ValueError(
                f"dimensions {dimensions}: must be a whole number from 1 to {len(x)}, the model's parameters, with "
                "a generator as random to draw them from"
            )
        columns = torch.randn(len(x), dimensions, generator=random, dtype=torch.float64).numpy()
        columns *= column_norm / np.linalg.norm(columns, axis=0)
        center = np.linalg.lstsq(columns, x)[0]  # A⁺x
    half = epsilon * (np.abs(center) + 1)

    def climb(y: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = f(x + (y if columns is None else columns @ y))
        return value, gradient if columns is None else columns.T @ gradient

    start, slope = climb(np.zeros(len(half)))
    if not (-1 < start < math.inf and np.isfinite(slope).all()):
        raise ValueError(f"loss {start!r}: must be above -1 and finite, with a finite gradient, for φ to be defined")
    steepness = float(np.mean(np.abs(slope) / half))
    scale = 10 / steepness if scale_free and steepness else 1.0

    def descend(y: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = climb(y)
        return -scale * value, -scale * gradient

    found = optimize.minimize(
        descend,
        np.zeros(len(half)),
        jac=True,
        method="L-BFGS-B",
        bounds=optimize.Bounds(-half, half),
        options={"maxiter": iterations, "ftol": 0.0, "gtol": 0.0},
    )
    largest = max(start, -float(found.fun) / scale)
    if not math.isfinite(found.fun):
        raise ValueError(f"loss: is {-found.fun} somewhere in the box of epsilon {epsilon}; give a smaller one")
    return Sharpness(100 * (largest - start) / (1 + start), start, largest, found.nfev + 1)
