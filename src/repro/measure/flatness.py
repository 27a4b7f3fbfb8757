"""How flat a minimum is: Keskar's φ, never released by its authors, and the largest eigenvalue of the Hessian."""

from __future__ import annotations

import contextlib
import copy
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import optimize
from scipy.sparse import linalg
from torch import Tensor, nn

from repro.measure import checks, examples, objective
from repro.measure.objective import Forward, Loss

CHUNK = 1024  # examples at once, where a whole dataset is gone through
START_SEED = 64112088248907242  # of the vector that Lanczos starts from, unless a generator is given


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


class _Boxed(objective.Whole):
    """The mean loss of a batch, which comes in a dict: what curvlinops passes on as it is."""

    def forward(self, box: dict[str, Any]) -> Tensor:
        return super().forward(box["batch"])


class _Output(nn.Module):
    """The output of the model as its loss, in the form in which curvlinops takes one."""

    reduction = "mean"

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs


@contextlib.contextmanager
def _no_script_warnings() -> Iterator[None]:
    """Those of torch itself, at the first Hessian-vector product, and of curvlinops' libraries: not ours to mend."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit.script", FutureWarning)
        yield


@contextlib.contextmanager
def _twice_differentiable(model: nn.Module) -> Iterator[None]:
    """Attention and recurrent layers by kernels that have second derivatives."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH))
        if any(isinstance(module, nn.RNNBase) for module in model.modules()):
            stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield


def largest_eigenvalue(
    model: nn.Module,
    loss: Loss | None,
    data: Any,
    *,
    forward: Forward | None = None,
    random: torch.Generator | None = None,
    tolerance: float = 1e-2,
    vectors: int = 10,
    dtype: torch.dtype = torch.float32,
    chunk: int = 4 * CHUNK,
) -> float:
    """λ_max of the Hessian of the mean loss over `data`, as in `sharpness`, in the trainable parameters of `model`, in
    eval mode: Lanczos (scipy's eigsh, `vectors` held, to the relative `tolerance`) on curvlinops' Hessian-vector
    products. The tolerance is of the residual. Of an eigenvalue apart from the others the error goes as its square,
    and is far smaller; with few vectors and a loose tolerance the search can end at a smaller one. The start vector is
    drawn from `random`, by default always the same. The model is left as it was. Raises ValueError, in one line.
    """
    checks.positive("tolerance", tolerance)
    if checks.whole("vectors", vectors) < 2:
        raise ValueError(f"vectors {vectors!r}: must be a whole number ≥ 2")
    with _no_script_warnings():
        from curvlinops import HessianLinearOperator  # takes its time to load
    f = FullLoss(model, loss, data, dtype, chunk, forward)
    hessian = HessianLinearOperator(
        _Boxed(f.model, f.forward),
        _Output(),
        f.parameters,
        [({"batch": piece}, torch.empty(0)) for piece in f.pieces],
        check_deterministic=False,
        num_data=f.num_examples,
        batch_size_fn=lambda box: examples.size(box["batch"]),
    )
    n = hessian.shape[0]
    start = torch.randn(n, generator=random or torch.Generator().manual_seed(START_SEED), dtype=dtype).numpy()
    operator = hessian.to_scipy(dtype=start.dtype)
    with _no_script_warnings(), _twice_differentiable(f.model):
        try:
            once = operator @ start
        except (RuntimeError, NotImplementedError) as error:
            raise ValueError(
                f"the model has no second derivatives that torch can take ({checks.told(error)})"
            ) from None
        if not np.isfinite(once).all():
            raise ValueError("loss: its second derivatives at the model are not all finite")
        if n <= vectors:  # too small for Lanczos
            return float(np.linalg.eigvalsh(np.asarray(operator @ np.eye(n)))[-1])
        try:
            found = linalg.eigsh(
                operator, k=1, which="LA", v0=start, ncv=vectors, tol=tolerance, return_eigenvectors=False
            )
        except linalg.ArpackError as error:
            raise ValueError(f"Lanczos found no eigenvalue ({checks.told(error)})") from None
    return float(found[0])
