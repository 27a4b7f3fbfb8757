"""Gradients along a pass: a draw of examples cut into batches, one after the other, with the weights frozen or moving.

Notation as in the room `noise`: gradients are sum-reduced, and examples of a draw that fill no batch are left out.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from repro.measure import checks, examples, objective
from repro.measure.gradients import Gradients, separate
from repro.measure.objective import Forward, Loss

CHUNK = 64  # batches whose gradients are held at once


def averaged_gradient_norms(
    gradients: Gradients, orders: Tensor, batch_sizes: Sequence[int], chunk: int = CHUNK
) -> Tensor:
    """(draws, batch sizes), float64: ‖Σ g_i‖ of a batch, averaged over the ⌊n/B⌋ batches that a row of `orders`
    (draws, n) is cut into, at frozen weights. ValueError for a B that is larger than a row."""
    for size in batch_sizes:
        checks.whole("batch_size", size, orders.shape[1], "examples of a draw")
    checks.whole("chunk", chunk)

    def mean(order: Tensor, size: int) -> Tensor:
        batches = order[: len(order) // size * size].view(-1, size)
        return torch.cat([gradients(part).double().norm(dim=1) for part in batches.split(chunk)]).mean()

    return torch.stack([torch.stack([mean(order, size) for order in orders]) for size in batch_sizes], dim=1)


@dataclass(frozen=True)
class Pass:
    """What one pass of SGD through a draw told of one parameter: the sum of its batches' gradients and the last of
    them, in the parameter's shape; the norms ‖Σ g_i‖ (batches,) of all, float64."""

    total: Tensor
    last: Tensor
    norms: Tensor


def moving_gradients(
    model: nn.Module,
    loss: Loss | None,
    data: Any,
    name: str,
    orders: Tensor,
    batch_size: int,
    lr: float,
    *,
    forward: Forward | None = None,
) -> Iterator[Pass]:
    """The gradient of parameter `name` while all weights move, a `Pass` for every row of `orders` (draws, n).

    Each row starts from the model as it is and takes plain SGD steps of `lr` on the mean-reduced loss, a batch each.
    ValueError for a batch larger than a row, an unknown name, or data or an lr that is not finite.
    """
    checks.whole("batch_size", batch_size, orders.shape[1], "examples of a draw")
    if not 0 <= lr < math.inf:
        raise ValueError(f"lr {lr!r}: must be a finite number ≥ 0")
    objective.parameters(model, [name])
    held = examples.in_memory(data)
    mean_loss = separate(model, loss, forward, held)
    for order in orders:
        network = copy.deepcopy(model)
        named = objective.parameters(network)
        parameters: list[Tensor] = list(named.values())
        at = list(named).index(name)
        total, norms = torch.zeros_like(parameters[at]), []
        for indices in order[: len(order) // batch_size * batch_size].split(batch_size):
            value = objective.evaluate(network, mean_loss, examples.take(held, indices))
            gradients = torch.autograd.grad(value, parameters, materialize_grads=True)
            total.add_(gradients[at], alpha=batch_size)
            norms.append(gradients[at].double().norm() * batch_size)
            with torch.no_grad():
                torch._foreach_add_(parameters, gradients, alpha=-lr)
        yield Pass(total.detach(), gradients[at] * batch_size, torch.stack(norms))
