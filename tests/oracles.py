"""Slow plain oracles: float64, Python loops, formulas written out; only permutations shared."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor, nn

from repro.training.data import Dataset, generator
from repro.trial import Trial


def mlp_gradient(
    weights: list[np.ndarray], biases: list[np.ndarray], x: np.ndarray, y: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Float64 gradient of the mean cross-entropy of a ReLU MLP, one example at a time."""
    weights = [w.astype(np.float64) for w in weights]
    biases = [b.astype(np.float64) for b in biases]
    gw, gb = [np.zeros_like(w) for w in weights], [np.zeros_like(b) for b in biases]
    for image, label in zip(x.astype(np.float64), y, strict=True):
        inputs, before = [image], []
        for w, b in zip(weights, biases, strict=True):
            before.append(w @ inputs[-1] + b)
            inputs.append(np.maximum(before[-1], 0))
        logits = before[-1]
        delta = np.exp(logits - logits.max())
        delta /= delta.sum()
        delta[label] -= 1
        for layer in reversed(range(len(weights))):
            gw[layer] += np.outer(delta, inputs[layer]) / len(y)
            gb[layer] += delta / len(y)
            if layer:
                delta = (weights[layer].T @ delta) * (before[layer - 1] > 0)
    return gw, gb


def softmax_regression_gradient(
    w: np.ndarray, b: np.ndarray, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(P - Y)ᵀX / B and the mean of P - Y, in float64."""
    logits = x.astype(np.float64) @ w.T.astype(np.float64) + b
    p = np.exp(logits - logits.max(1, keepdims=True))
    residual = p / p.sum(1, keepdims=True) - np.eye(len(b))[y]
    return residual.T @ x / len(y), residual.mean(0)


class Update:
    """One parameter's optimizer, by the textbook formulas with torch's default constants."""

    def __init__(self, trial: Trial) -> None:
        self.trial, self.t = trial, 0
        self.first: Tensor | float = 0.0
        self.second: Tensor | float = 0.0

    def __call__(self, w: Tensor, g: Tensor, lr: float) -> Tensor:
        name, m, decay = self.trial.optimizer, self.trial.momentum, self.trial.weight_decay
        self.t += 1
        if name == "adamw":
            w = w - lr * decay * w
        else:
            g = g + decay * w
        if name in ("sgd", "nesterov"):
            self.first = m * self.first + g
            return w - lr * (g + m * self.first if name == "nesterov" else self.first)
        if name == "adagrad":
            self.second = self.second + g**2
            return w - lr * g / (self.second.sqrt() + 1e-10)
        if name == "rmsprop":
            self.second = 0.99 * self.second + 0.01 * g**2
            self.first = m * self.first + g / (self.second.sqrt() + 1e-8)
            return w - lr * self.first
        self.first = 0.9 * self.first + 0.1 * g
        self.second = 0.999 * self.second + 0.001 * g**2
        mean, square = self.first / (1 - 0.9**self.t), self.second / (1 - 0.999**self.t)
        return w - lr * mean / (square.sqrt() + 1e-8)


def phase_of(trial: Trial, epoch: int) -> tuple[float, int]:
    """(lr, batch size) in force during `epoch`: the last phase that has begun."""
    lr, batch_size = trial.lr, trial.batch_size
    for phase in trial.schedule:
        if phase.epoch <= epoch:
            lr, batch_size = phase.lr, phase.batch_size
    return lr, batch_size


def gradients_of(trial: Trial, model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Of the mean loss of a batch; with `adversarial`, of that and of the same batch moved up its gradient, on
    average."""

    def loss(x: Tensor) -> Tensor:
        return -torch.log_softmax(model(x), 1)[range(len(x)), y].mean()

    batches = [x]
    if trial.adversarial:
        pixels = x.clone().requires_grad_()
        loss(pixels).backward()
        batches.append(x + trial.adversarial * pixels.grad.sign())
    found = []
    for batch in batches:
        model.zero_grad()
        loss(batch).backward()
        found.append({name: p.grad.clone() for name, p in model.named_parameters()})
    return {name: sum(g[name] for g in found) / len(found) for name in found[0]}


def train(trial: Trial, dataset: Dataset, model: nn.Module, num_steps: int) -> dict[str, Tensor]:
    """`num_steps` from the parameters of `model`, in float64; the parameters at the end."""
    model = model.double()
    updates = {name: Update(trial) for name, _ in model.named_parameters()}
    random = generator("order", trial.data_seed)
    epoch, done = 0, 0
    while done < num_steps:
        lr, batch_size = phase_of(trial, epoch)
        order = torch.randperm(len(dataset.x_train), generator=random).tolist()
        if trial.restart_optimizer or (trial.restart_with_phase and epoch in {p.epoch for p in trial.schedule}):
            updates = {name: Update(trial) for name, _ in model.named_parameters()}
        for start in range(0, len(order), batch_size):
            if done == num_steps:
                break
            batch = order[start : start + batch_size]
            if trial.drop_last and len(batch) < batch_size:
                continue
            x, y = dataset.x_train[batch].double(), dataset.y_train[batch]
            began = {name: p.detach().clone() for name, p in model.named_parameters()}
            for _ in range(trial.steps_per_batch):
                gradients = gradients_of(trial, model, x, y)
                for name, p in model.named_parameters():
                    gradients[name] = gradients[name] + trial.proximal * (p.detach() - began[name])
                length = math.sqrt(sum(float((g**2).sum()) for g in gradients.values()))
                cut = min(1.0, (trial.max_gradient_norm or math.inf) / length)
                with torch.no_grad():
                    for name, p in model.named_parameters():
                        p.copy_(updates[name](p, gradients[name] * cut, lr))
            done += 1
        epoch += 1
    return {name: p.detach() for name, p in model.named_parameters()}


def epoch_sizes(trial: Trial, epoch: int) -> list[int]:
    """The batch sizes of one epoch, counted out."""
    left, sizes = trial.num_train, []
    while left:
        sizes.append(min(phase_of(trial, epoch)[1], left))
        left -= sizes[-1]
    return [size for size in sizes if size == sizes[0] or not trial.drop_last]


def all_sizes(trial: Trial) -> Iterator[int]:
    """The sizes of all batches, epoch after epoch, without end."""
    epoch = 0
    while True:
        yield from epoch_sizes(trial, epoch)
        epoch += 1


def step_at(trial: Trial, epochs: float) -> int:
    """Whole epochs one by one, then the fraction of the next, rounded to a whole step."""
    whole = math.floor(epochs)
    steps = Fraction(sum(len(epoch_sizes(trial, e)) for e in range(whole)))
    return round(steps + (Fraction(epochs) - whole) * len(epoch_sizes(trial, whole)))
