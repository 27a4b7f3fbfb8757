"""Probe of gradient noise: noise scales by several metrics, and how gradient and noise spread over the curvature."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from repro import measure
from repro.measure import objective
from repro.training.data import Dataset, generator
from repro.trial import Trial

EXAMPLES = 4096  # at most, of one half of the training set, whose noise is measured
CURVED = 1024  # of that half, whose loss the Hessian is of
AVERAGED = 32  # batches whose squared gradients Adam's preconditioner is the mean of
DAMPING = 0.01  # of the root mean square of √v, added to it
NODES = 12  # eigenvalues that a vector is spread over
NOISE_BATCH, NOISE_VECTORS = 32, 4  # whose gradients minus G stand for the noise

# Columns begin with these: by the metric A, the noise scale tr(AΣ)/GᵀAG.
SCALES = {
    "noise_scale": "no metric",
    "noise_scale_curvature": "the Hessian",
    "noise_scale_adam": "Adam's preconditioner",
    "noise_scale_adam_squared": "its square",
}


def _gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """(P,): of the mean loss, in pieces."""
    total = torch.zeros(sum(p.numel() for p in objective.parameters(model).values()))
    for images, labels in zip(x.split(2048), y.split(2048), strict=True):
        loss = functional.cross_entropy(model(images), labels) * (len(labels) / len(y))
        total += torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
    return total


def preconditioner(model: nn.Module, x: Tensor, y: Tensor, batch_size: int, batches: int = AVERAGED) -> Tensor:
    """P (P,) = 1/(√v + ε), v the mean of the squared gradients of as many batches of x, y, one after the other: Adam's,
    were the weights held. ε is DAMPING times the root mean square of √v: with Adam's own, 1e-8, pixels that are hardly
    ever on would decide."""
    pieces = list(zip(x.split(batch_size), y.split(batch_size), strict=True))[:batches]
    v = torch.stack([_gradient(model, images, labels).square() for images, labels in pieces]).mean(0)
    return 1 / (v.sqrt() + DAMPING * v.mean().sqrt())


def gradient_noise(model: nn.Module, initial: Mapping[str, Tensor], dataset: Dataset, trial: Trial) -> dict[str, Any]:
    """Probe: noise scales of the training set by every metric A of SCALES, tr(AΣ)/GᵀAG: Σ from examples, G of all of
    them, exactly; infinite where GᵀAG is not positive, as it may be with a Hessian. G's spread over the eigenvalues of
    the Hessian, and that of the noise: lists of eigenvalues and of weights, which add up to ‖G‖² and to tr Σ. In eval
    mode.

    Noise and Hessian are measured on examples of one half of the training set, Adam's preconditioner on the other.
    Nothing of a network that has diverged.
    """
    x, y = dataset.x_train, dataset.y_train
    random = generator("gradient noise", trial.data_seed)
    measured, others = torch.randperm(len(x), generator=random).tensor_split(2)
    half, values = (x[measured], y[measured]), dict[str, Any]()
    with objective.evaluating(model):
        mean = _gradient(model, x, y)
        if not mean.isfinite().all():
            return values
        hessian = measure.Hessian(model, functional.cross_entropy, (x[measured[:CURVED]], y[measured[:CURVED]]))
        size = max(1, min(trial.batch_size, len(others) // AVERAGED))
        p = preconditioner(model, x[others], y[others], size)
        metrics = (None, hessian, lambda v: v * p, lambda v: v * p**2)
        for name, metric in zip(SCALES, metrics, strict=True):
            found = measure.noise_scale(
                model, functional.cross_entropy, half, max_examples=EXAMPLES, within=None, metric=metric
            )
            pulled = mean if metric is None else metric(mean[None])[0]
            along = float(mean.double() @ pulled.double())
            values[name] = found.trace / along if along > 0 else math.inf
            values.setdefault("noise_trace", found.trace)  # of the first, without a metric
            values.setdefault("noise_squared_norm", along)
        values["gradient_eigenvalue"], values["gradient_weight"] = _listed(hessian, mean, values["noise_squared_norm"])
        nodes: list[float] = []
        weights: list[float] = []
        for batch in measured.flip(0).split(NOISE_BATCH)[:NOISE_VECTORS]:
            noise = _gradient(model, x[batch], y[batch]) - mean
            at, spread = _listed(hessian, noise, values["noise_trace"] / NOISE_VECTORS)
            nodes, weights = nodes + at, weights + spread
        values["noise_eigenvalue"], values["noise_weight"] = nodes, weights
    return values


def _listed(hessian: measure.Hessian, vector: Tensor, total: float) -> tuple[list[float], list[float]]:
    """Eigenvalues and the vector's weights at them, scaled to `total`."""
    nodes, weights = measure.spectral_measure(hessian, vector, NODES)
    return nodes.tolist(), (weights * (total / np.sum(weights))).tolist()
