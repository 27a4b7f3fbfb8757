"""The Hessian of the mean loss over a dataset: its products with vectors, its largest eigenvalue, and how a vector
spreads over its eigenvalues."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal
from scipy.sparse import linalg
from torch import Tensor, nn

from repro.measure import checks, examples, objective
from repro.measure.flatness import CHUNK, FullLoss
from repro.measure.objective import Forward, Loss

START_SEED = 64112088248907242  # of the vector that Lanczos starts from, unless a generator is given


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


class Hessian:
    """H of the mean loss over `data`, as in `sharpness`, in the n trainable parameters of `model` as it is now, in
    eval mode and `dtype`, by curvlinops' Hessian-vector products: a function of vectors (k, n), or (n,), that gives H
    times each. Data is read once, and held; the model is left as it was. Raises ValueError, in one line."""

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None,
        data: Any,
        *,
        forward: Forward | None = None,
        dtype: torch.dtype = torch.float32,
        chunk: int = 4 * CHUNK,
    ) -> None:
        with _no_script_warnings():
            from curvlinops import HessianLinearOperator  # takes its time to load
        f = FullLoss(model, loss, data, dtype, chunk, forward)
        self._model, self.dtype, self.size = f.model, dtype, sum(p.numel() for p in f.parameters)
        self._operator = HessianLinearOperator(
            _Boxed(f.model, f.forward),
            _Output(),
            f.parameters,
            [({"batch": piece}, torch.empty(0)) for piece in f.pieces],
            check_deterministic=False,
            num_data=f.num_examples,
            batch_size_fn=lambda box: examples.size(box["batch"]),
        )

    def __call__(self, vectors: Tensor) -> Tensor:
        with _no_script_warnings(), _twice_differentiable(self._model):
            try:
                products = self._operator @ vectors.reshape(-1, self.size).to(self.dtype).T
            except (RuntimeError, NotImplementedError) as error:
                raise ValueError(
                    f"the model has no second derivatives that torch can take ({checks.told(error)})"
                ) from None
        if not products.isfinite().all():
            raise ValueError("loss: its second derivatives at the model are not all finite")
        return products.T.reshape(vectors.shape).to(vectors.dtype)


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
    """λ_max of the `Hessian`: Lanczos (scipy's eigsh, `vectors` held, to the relative `tolerance`). The tolerance is of
    the residual. Of an eigenvalue apart from the others the error goes as its square, and is far smaller; with few
    vectors and a loose tolerance the search can end at a smaller one. The start vector is drawn from `random`, by
    default always the same. Raises ValueError, in one line.
    """
    checks.positive("tolerance", tolerance)
    if checks.whole("vectors", vectors) < 2:
        raise ValueError(f"vectors {vectors!r}: must be a whole number ≥ 2")
    hessian = Hessian(model, loss, data, forward=forward, dtype=dtype, chunk=chunk)
    n = hessian.size
    start = torch.randn(n, generator=random or torch.Generator().manual_seed(START_SEED), dtype=dtype).numpy()

    def times(vector: np.ndarray) -> np.ndarray:
        return hessian(torch.from_numpy(vector.reshape(n))).numpy()

    if n <= vectors:  # too small for Lanczos
        return float(np.linalg.eigvalsh(hessian(torch.eye(n, dtype=dtype)).numpy())[-1])
    operator = linalg.LinearOperator((n, n), matvec=times, dtype=start.dtype)
    try:
        found = linalg.eigsh(operator, k=1, which="LA", v0=start, ncv=vectors, tol=tolerance, return_eigenvectors=False)
    except linalg.ArpackError as error:
        raise ValueError(f"Lanczos found no eigenvalue ({checks.told(error)})") from None
    return float(found[0])


def spectral_measure(
    product: Callable[[Tensor], Tensor], vector: Tensor, steps: int = 16
) -> tuple[np.ndarray, np.ndarray]:
    """How much of ‖v‖² lies along which eigenvalues of a symmetric matrix: at most `steps` values, and the weights at
    them, whose sum is ‖v‖², both float64. Σ w λ^p is vᵀH^p v for p below twice as many: Gauss quadrature, by Lanczos
    from v, every vector made orthogonal to all before (Golub and Meurant 2010). `product` takes (n,) to H times it.
    ValueError for a vector that is zero or not finite.
    """
    checks.whole("steps", steps)
    length = float(vector.double().norm())
    if not 0 < length < np.inf:
        raise ValueError(f"vector: must be finite and not zero, its norm is {length}")
    basis = [vector / length]
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(min(steps, len(vector))):
        after = product(basis[-1])
        diagonal.append(float(after @ basis[-1]))
        known = torch.stack(basis)
        for _ in range(2):  # once is not orthogonal enough
            after = after - known.T @ (known @ after)
        beside.append(float(after.norm()))
        if beside[-1] <= 1e-6 * max(map(abs, diagonal)):
            break
        basis.append(after / beside[-1])
    values, vectors = eigh_tridiagonal(np.array(diagonal), np.array(beside[:-1]))
    return values, length**2 * np.square(vectors[0])
