"""How well a trial's network fits, and how far it has travelled: what every trial measures, at every checkpoint.

A probe takes (model, initial, dataset, trial), where `initial` holds the parameters at the start by name, and returns
named values: numbers, or lists of numbers. "Weights" are the parameters of two or more dimensions, "biases" the rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from repro.measure.objective import evaluating
from repro.training.data import Dataset
from repro.training.shapes import CONVOLUTIONAL
from repro.trial import Trial


def chunk_of(trial: Trial, num_examples: int) -> int:
    """Examples that are evaluated at once: 2,048, or 256 where there are convolutions, whose outputs then stay in the
    cache; where batch norm takes the statistics of what it is given, 5,000, as the released code of Keskar et al.
    (2017) does, or the next smaller number that divides them into batches of about one size, since one of a single
    example would have no variance."""
    if trial.norm_statistics == "kept":
        return 256 if trial.model in CONVOLUTIONAL else 2048
    return math.ceil(num_examples / math.ceil(num_examples / 5000))


@torch.no_grad()
def loss_and_accuracy(model: nn.Module, x: Tensor, y: Tensor, chunk: int = 2048) -> tuple[float, float]:
    """Mean cross-entropy (nats) and accuracy (fraction) over x (n, features), y (n,), in eval mode."""
    total, correct = 0.0, 0
    with evaluating(model):
        for images, labels in zip(x.split(chunk), y.split(chunk), strict=True):
            logits = model(images)
            total += functional.cross_entropy(logits, labels, reduction="sum").item()
            correct += int((logits.argmax(1) == labels).sum())
    return total / len(y), correct / len(y)


def fit(model: nn.Module, initial: Mapping[str, Tensor], dataset: Dataset, trial: Trial) -> dict[str, float]:
    """Probe: loss (nats) and accuracy (fraction) on the training set and on what is held out."""
    return _fit(model, {"train": (dataset.x_train, dataset.y_train), **dataset.held}, trial)


def held_out_fit(model: nn.Module, initial: Mapping[str, Tensor], dataset: Dataset, trial: Trial) -> dict[str, float]:
    """Probe: as `fit`, on what is held out alone: a fifth of the time or less, for many checkpoints."""
    return _fit(model, dataset.held, trial)


def _fit(model: nn.Module, splits: Mapping[str, tuple[Tensor, Tensor]], trial: Trial) -> dict[str, float]:
    values = {}
    for split, (x, y) in splits.items():
        values[f"{split}_loss"], values[f"{split}_accuracy"] = loss_and_accuracy(model, x, y, chunk_of(trial, len(y)))
    return values


def norm(tensors: Iterable[Tensor]) -> float:
    """Euclidean norm of all entries together, summed in float64."""
    return float(sum(t.double().pow(2).sum() for t in tensors)) ** 0.5


def cosine(a: Tensor, b: Tensor) -> float:
    """Cosine of the angle between two tensors read as vectors, in float64."""
    return float(functional.cosine_similarity(a.double().flatten(), b.double().flatten(), dim=0, eps=1e-300))


@torch.no_grad()
def travel(model: nn.Module, initial: Mapping[str, Tensor], dataset: Dataset, trial: Trial) -> dict[str, float]:
    """Probe: how far the parameters are from where they started.

    Norms and distances from the start (Euclidean) of all weights and of all biases, and per weight tensor,
    counted from 1 at the input, with the cosine between its present and its initial value.
    """
    now = {name: p.detach() for name, p in model.named_parameters()}
    weights = [name for name, p in now.items() if p.ndim >= 2]
    biases = [name for name in now if name not in weights]
    values = {
        "weight_distance": norm(now[n] - initial[n] for n in weights),
        "bias_distance": norm(now[n] - initial[n] for n in biases),
        "weight_norm": norm(now[n] for n in weights),
        "bias_norm": norm(now[n] for n in biases),
    }
    for layer, name in enumerate(weights, start=1):
        values[f"weight_distance_{layer}"] = norm([now[name] - initial[name]])
        values[f"weight_norm_{layer}"] = norm([now[name]])
        values[f"cosine_{layer}"] = cosine(now[name], initial[name])
    return values
