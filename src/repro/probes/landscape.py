"""The loss around a network that has been trained: along lines, in boxes, and under changes of its parameters that
leave its function alone. The probes of the claim on sharp minima.

Two rooms meet here: the measures, which know nothing of trials, and the trial's dataset, seeds and settings.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import update_bn

from repro import measure
from repro.probes import fit
from repro.training import engine
from repro.training.data import Dataset, generator
from repro.trial import Trial

EPSILON = 1e-3  # Keskar et al. print φ for two boxes: this and half of it
DIMENSIONS = 100  # of their random manifold
POSITIONS = tuple(np.linspace(-1, 1, 21).tolist())  # along a filter-normalised direction
MIXES = tuple(np.linspace(-1, 2, 25).tolist())  # α of αx_ℓ + (1 - α)x_s: 0 is the small batch, 1 the large
CHUNK = 2048  # examples that batch norm takes its statistics over

Vector = Mapping[str, Tensor]  # parameters by name


def parameters(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in model.named_parameters()}


def filter_normalised(at: Vector, random: torch.Generator) -> dict[str, Tensor]:
    """A random direction whose filters are as long as those of `at` (Li et al. 2018, §4).

    A filter is a row of a weight: what makes one unit or one channel. Biases and the parameters of batch norm, of one
    dimension, do not move, as in the paper's figures.
    """
    direction = {}
    for name, p in at.items():
        if p.ndim < 2:
            direction[name] = torch.zeros_like(p)
            continue
        drawn = torch.randn(p.shape, generator=random, dtype=p.dtype)
        flat, filters = drawn.flatten(1), p.flatten(1)
        scaled = flat * (filters.norm(dim=1) / flat.norm(dim=1))[:, None]
        direction[name] = scaled.view_as(p)
    return direction


def along(
    model: nn.Module, start: Vector, direction: Vector, positions: Sequence[float], dataset: Dataset, trial: Trial
) -> dict[str, list[float]]:
    """Loss and accuracy of `model` at the parameters start + t · direction, for every t of `positions`, on every split,
    in eval mode: lists by the names of the probe fit.

    At each t the statistics of batch norm are taken anew over the training set, as the mean over chunks of 2,048:
    those of the endpoints mean nothing between them. The model itself is left as it was.
    """
    moved = copy.deepcopy(model).eval()
    pieces = dataset.x_train.tensor_split(math.ceil(len(dataset.x_train) / CHUNK))
    values: dict[str, list[float]] = {}
    for t in positions:
        with torch.no_grad():
            for name, p in moved.named_parameters():
                p.copy_(start[name] + float(t) * direction[name])
            update_bn(pieces, moved)
        for name, value in fit.fit(moved, {}, dataset, trial).items():
            values.setdefault(name, []).append(value)
    return values


def with_statistics_anew(model: nn.Module) -> nn.Module:
    """A copy whose batch norms take the statistics of the examples they are given, as in training, in eval mode too."""
    anew = copy.deepcopy(model)
    for module in anew.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.track_running_stats = False
            module.running_mean = module.running_var = None
    return anew


def with_equal_norms(model: nn.Sequential, initial: Vector) -> nn.Sequential:
    """A copy in which every layer that batch norm follows is as long as it was at the start, its weights (Euclidean
    norm of all entries) and with them its biases: the same function, for batch norm undoes the factor c. What it adds
    to the variances is multiplied by c² too, and so are those it has kept, and the means by c; so the outputs agree but
    for rounding. Networks that start alike then have layers of equal norms, however far they grew in training.
    """
    scaled = copy.deepcopy(model)
    for (name, layer), (_, norm) in itertools.pairwise(scaled.named_children()):
        if not isinstance(layer, nn.Linear) or not isinstance(norm, nn.BatchNorm1d):
            continue
        factor = float(initial[f"{name}.weight"].double().norm() / layer.weight.detach().double().norm())
        with torch.no_grad():
            for p in layer.parameters():
                p.mul_(factor)
            norm.eps *= factor**2
            if norm.running_mean is not None and norm.running_var is not None:
                norm.running_mean.mul_(factor)
                norm.running_var.mul_(factor**2)
    return scaled


def rescale(model: nn.Sequential, factor: float, layer: int = 1) -> nn.Sequential:
    """A copy of a plain ReLU network with hidden `layer` (from 1 at the input) multiplied by `factor`, and the next
    divided by it: the same function, for relu(cz) = c · relu(z) (Dinh et al. 2017, §3, α-scale transformation).

    A power of two makes it exact. Raises ValueError for a network with anything but Linear and ReLU layers, such as
    batch norm, which would undo the factor itself.
    """
    if not all(isinstance(m, nn.Linear | nn.ReLU) for m in model):
        raise ValueError("rescale: needs a network of Linear and ReLU layers alone, without batch norm")
    linears = sum(isinstance(m, nn.Linear) for m in model)
    if not (0 < factor < math.inf and 1 <= layer < linears):
        raise ValueError(f"rescale: factor {factor} must be above 0, layer {layer} from 1 to {linears - 1}")
    scaled = copy.deepcopy(model)
    first, second = [m for m in scaled if isinstance(m, nn.Linear)][layer - 1 : layer + 1]
    with torch.no_grad():
        for p in first.parameters():
            p.mul_(factor)
        second.weight.div_(factor)
    return scaled


# Probes


def _phi(model: nn.Module, dataset: Dataset, trial: Trial, epsilon: float = EPSILON, **options: Any) -> float:
    return _search(model, dataset, trial, epsilon, **options).value


def _search(
    model: nn.Module, dataset: Dataset, trial: Trial, epsilon: float = EPSILON, **options: Any
) -> measure.Sharpness:
    """φ over the training examples that it is measured over, in the batches that the network is evaluated in."""
    x, y = _examples(dataset, trial)
    if trial.norm_statistics == "batch":
        options = {"chunk": fit.chunk_of(trial, len(y)), **options}
    return measure.sharpness(model, functional.cross_entropy, (x, y), epsilon, **options)


def _examples(dataset: Dataset, trial: Trial) -> tuple[Tensor, Tensor]:
    return dataset.x_train[: trial.probe_examples], dataset.y_train[: trial.probe_examples]


def sharpness(model: nn.Module, initial: Vector, dataset: Dataset, trial: Trial) -> dict[str, float]:
    """Probe: φ in full space at ε = 1e-3, in percent, with the losses it is made of and the evaluations it took."""
    found = _search(model, dataset, trial)
    return {
        "sharpness": found.value,
        "sharpness_base": found.loss,
        "sharpness_max": found.max_loss,
        "sharpness_evaluations": float(found.evaluations),
    }


def scale_free_sharpness(model: nn.Module, initial: Vector, dataset: Dataset, trial: Trial) -> dict[str, float]:
    """Probe: φ as above, its maximum searched for without regard to the scale of the loss."""
    found = _search(model, dataset, trial, scale_free=True)
    return {"sharpness_scale_free": found.value, "sharpness_scale_free_evaluations": float(found.evaluations)}


def sharpness_anew(model: nn.Module, initial: Vector, dataset: Dataset, trial: Trial) -> dict[str, float]:
    """Probe: φ as above by either search, where at every point of the box the statistics of batch norm are those of the
    training examples there, in chunks of 2,048 at most, instead of those kept from training."""
    anew, n = with_statistics_anew(model), len(_examples(dataset, trial)[0])
    chunk = math.ceil(n / math.ceil(n / CHUNK))  # of one size: a last one of a single example has no variance
    return {
        "sharpness_anew": _phi(anew, dataset, trial, chunk=chunk),
        "sharpness_anew_scale_free": _phi(anew, dataset, trial, chunk=chunk, scale_free=True),
    }


def _on_manifold(model: nn.Module, dataset: Dataset, trial: Trial, epsilon: float, wide: bool) -> float:
    """φ on a random manifold of 100 dimensions, its columns of unit norm, or `wide`, their entries of unit variance."""
    n = sum(p.numel() for p in model.parameters())
    random = generator("manifold", trial.init_seed)
    options: dict[str, Any] = {"dimensions": min(DIMENSIONS, n), "random": random}
    return _phi(model, dataset, trial, epsilon, column_norm=math.sqrt(n) if wide else 1.0, **options)


def half_sharpness(model: nn.Module, initial: Vector, dataset: Dataset, trial: Trial) -> dict[str, float]:
    """Probe: φ in full space, in percent, at half the ε."""
    return {"sharpness_half": _phi(model, dataset, trial, EPSILON / 2)}


def sharpness_variants(model: nn.Module, initial: Vector, dataset: Dataset, trial: Trial) -> dict[str, float]:
    """Probe: φ in percent at half the ε, and on a random manifold at ε, with columns of unit norm and with entries of
    unit variance."""
    return {
        **half_sharpness(model, initial, dataset, trial),
        "sharpness_manifold": _on_manifold(model, dataset, trial, EPSILON, wide=False),
        "sharpness_manifold_wide": _on_manifold(model, dataset, trial, EPSILON, wide=True),
    }


def sharpness_in_other_boxes(model: nn.Module, initial: Vector, dataset: Dataset, trial: Trial) -> dict[str, float]:
    """Probe: the same, and on the manifolds at half the ε."""
    return {
        **sharpness_variants(model, initial, dataset, trial),
        "sharpness_manifold_half": _on_manifold(model, dataset, trial, EPSILON / 2, wide=False),
        "sharpness_manifold_wide_half": _on_manifold(model, dataset, trial, EPSILON / 2, wide=True),
    }


def largest_eigenvalue(
    model: nn.Module, initial: Vector, dataset: Dataset, trial: Trial, **options: Any
) -> dict[str, float]:
    """Probe: the largest eigenvalue of the Hessian of the training loss."""
    x, y = _examples(dataset, trial)
    if trial.norm_statistics == "batch":
        options = {"chunk": fit.chunk_of(trial, len(y)), **options}
    return {"largest_eigenvalue": measure.largest_eigenvalue(model, functional.cross_entropy, (x, y), **options)}


def curvature(model: nn.Module, initial: Vector, dataset: Dataset, trial: Trial) -> dict[str, float]:
    """Probe: the same, to a looser tolerance, as it was first recorded: it can be some per cent too small."""
    return largest_eigenvalue(model, initial, dataset, trial, tolerance=5e-2, vectors=3)


def landscape(model: nn.Module, initial: Vector, dataset: Dataset, trial: Trial) -> dict[str, list[float]]:
    """Probe: training loss along one filter-normalised direction, the same draws for every batch size of a seed."""
    at = parameters(model)
    values = along(model, at, filter_normalised(at, generator("direction", trial.init_seed)), POSITIONS, dataset, trial)
    return {"landscape_position": list(POSITIONS), "landscape_loss": values["train_loss"]}


def interpolation(model: nn.Module, initial: Vector, dataset: Dataset, trial: Trial) -> dict[str, list[float]]:
    """Probe: trains the trial's partner, alike but for its batch size, and measures loss and accuracy on the line
    (1 - α) · trial + α · partner (Goodfellow et al. 2015; Keskar et al. 2017, figure 3)."""
    if trial.partner_batch_size is None:
        raise ValueError("interpolation: the trial needs a partner_batch_size, that of the network at α = 1")
    partner = dataclasses.replace(
        trial, batch_size=trial.partner_batch_size, partner_batch_size=None, probes=(), final_probes=(), checkpoints=()
    )
    ends: list[dict[str, Tensor]] = []

    def capture(network: nn.Module, *rest: Any) -> dict[str, float]:
        ends.append({name: p.clone() for name, p in parameters(network).items()})
        return {}

    engine.train([partner], dataset, [], [capture])
    start = parameters(model)
    if not ends:  # the partner diverged: there is no line
        return {}
    direction = {name: p - start[name] for name, p in ends[0].items()}
    values = along(model, start, direction, MIXES, dataset, trial)
    return {"interpolation_alpha": list(MIXES)} | {f"interpolation_{k}": v for k, v in values.items()}


def equal_norms(model: nn.Module, initial: Vector, dataset: Dataset, trial: Trial) -> dict[str, float]:
    """Probe, of a sequence with batch norm: φ as above by either search, with every layer that batch norm follows as
    long as at the start, and the largest difference of the outputs from the network's own over the training set, in
    float64."""
    if not isinstance(model, nn.Sequential):
        raise ValueError("equal norms: needs a plain sequence of layers")
    equal = with_equal_norms(copy.deepcopy(model).double(), initial)
    chunk = fit.chunk_of(trial, len(dataset.y_train))
    return {
        "sharpness_equal": _phi(equal, dataset, trial),
        "sharpness_equal_scale_free": _phi(equal, dataset, trial, scale_free=True),
        "equal_difference": _largest_difference(model, equal, dataset, chunk),
    }


def _largest_difference(a: nn.Module, b: nn.Module, dataset: Dataset, chunk: int) -> float:
    """Of two networks' outputs on the training set, in float64 and eval mode."""
    a, b = (copy.deepcopy(m).double().eval() for m in (a, b))
    with torch.no_grad():
        return max(float((a(x) - b(x)).abs().max()) for x in dataset.x_train.double().split(chunk))


def rescaled(model: nn.Module, initial: Vector, dataset: Dataset, trial: Trial) -> dict[str, float]:
    """Probe, of a ReLU network without batch norm: φ before and after its first layer is scaled into the box by a
    power of two, and the largest difference of the two networks' outputs on the training set, in float64."""
    if not isinstance(model, nn.Sequential):
        raise ValueError("rescaled: needs a plain sequence of layers")
    largest = max(float(p.detach().abs().max()) for p in model[0].parameters())
    factor = 2.0 ** math.floor(math.log2(EPSILON / largest))
    scaled = rescale(model, factor)
    return {
        "sharpness": _phi(model, dataset, trial),
        "sharpness_rescaled": _phi(scaled, dataset, trial),
        "rescaling": factor,
        "rescaling_difference": _largest_difference(model, scaled, dataset, CHUNK),
    }
