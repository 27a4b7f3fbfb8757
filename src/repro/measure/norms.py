"""Norms of single examples' gradients, without the gradients: layer by layer from one backward pass, where every layer
with parameters is one that is known here; one example after the other elsewhere.

A layer's gradient of one example is a contraction of what came in, a, with the loss's gradient of what went out, δ. Its
norm needs that contraction alone (Goodfellow 2015; for convolutions and sequences by T × T products where these are
smaller: Li et al. 2022, "ghost norms"). Both hold a layer's numbers for BYTES of examples at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from repro.measure import checks, examples, gradients, objective
from repro.measure.examples import Batch
from repro.measure.objective import Forward, Loss

SAVED_BYTES = 2**28  # that the forward passes of a chunk may keep
MAX_CHUNK = 1024  # examples of one backward pass
BYTES = 2**24  # of a layer's numbers at once: about what a cache holds
TRIED = 2  # examples on which layers are held against the loop
AGREE = 1e-3  # as a share: or else the loop it is

Rule = Callable[[Any, Tensor, Tensor], Tensor]  # (layer, a (n, ...), δ (n, ...)) -> squared norms (n,)


def _pieces(each: int, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The examples of all tensors, as many at a time as take BYTES, of `each` numbers an example."""
    at_once = max(1, BYTES // (4 * max(1, each)))
    return zip(*(t.split(at_once) for t in tensors), strict=True)


def _contracted(a: Tensor, delta: Tensor) -> Tensor:
    """‖Σ_t δ_t ⊗ a_t‖² (n,), from a (n, T, in) and δ (n, T, out): by whichever product is smaller."""
    steps, inputs, outputs = a.shape[1], a.shape[2], delta.shape[2]
    if steps == 1:
        return a[:, 0].square().sum(1) * delta[:, 0].square().sum(1)
    if steps * (inputs + outputs) < inputs * outputs:
        return ((a @ a.transpose(1, 2)) * (delta @ delta.transpose(1, 2))).sum((1, 2))
    return (delta.transpose(1, 2) @ a).square().sum((1, 2))


def _linear(layer: nn.Linear, a: Tensor, delta: Tensor) -> Tensor:
    a, delta = (t.reshape(len(t), -1, t.shape[-1]) for t in (a, delta))
    found = torch.zeros(len(a), dtype=a.dtype, device=a.device)
    if layer.weight.requires_grad:
        each = a[0].numel() + (layer.weight.numel() if a.shape[1] > 1 else 0)
        found = torch.cat([_contracted(*both) for both in _pieces(each, a, delta)])
    if layer.bias is not None and layer.bias.requires_grad:
        found = found + delta.sum(1).square().sum(1)
    return found


def _convolution(layer: nn.Conv2d, a: Tensor, delta: Tensor) -> Tensor:
    delta = delta.flatten(2)
    found = torch.zeros(len(a), dtype=a.dtype, device=a.device)
    if layer.weight.requires_grad:
        each = layer.weight[0].numel() * delta.shape[2]

        def unfolded(part: Tensor) -> Tensor:
            padding: Any = layer.padding
            return functional.unfold(part, layer.kernel_size, layer.dilation, padding, layer.stride).transpose(1, 2)

        parts = _pieces(each, a, delta)
        found = torch.cat([_contracted(unfolded(x), d.transpose(1, 2)) for x, d in parts])
    if layer.bias is not None and layer.bias.requires_grad:
        found = found + delta.sum(2).square().sum(1)
    return found


def _scaled(layer: Any, normalised: Tensor, delta: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Of a layer that multiplies `normalised` by weights and adds biases, the same along `axes`."""
    found = torch.zeros(len(delta), dtype=delta.dtype, device=delta.device)
    for parameter, of in ((layer.weight, delta * normalised), (layer.bias, delta)):
        if parameter is not None and parameter.requires_grad:
            found = found + (of.sum(axes) if axes else of).flatten(1).square().sum(1)
    return found


def _batch_norm(layer: Any, a: Tensor, delta: Tensor) -> Tensor:
    normalised = functional.batch_norm(a, layer.running_mean, layer.running_var, eps=layer.eps)
    return _scaled(layer, normalised, delta, tuple(range(2, a.ndim)))


def _layer_norm(layer: nn.LayerNorm, a: Tensor, delta: Tensor) -> Tensor:
    normalised = functional.layer_norm(a, layer.normalized_shape, eps=layer.eps)
    return _scaled(layer, normalised, delta, tuple(range(1, a.ndim - len(layer.normalized_shape))))


def _group_norm(layer: nn.GroupNorm, a: Tensor, delta: Tensor) -> Tensor:
    return _scaled(layer, functional.group_norm(a, layer.num_groups, eps=layer.eps), delta, tuple(range(2, a.ndim)))


def _embedding(layer: nn.Embedding, a: Tensor, delta: Tensor) -> Tensor:
    """Σ over pairs of places with the same token of the products of their δ."""
    a, delta = a.reshape(len(a), -1), delta.reshape(len(a), -1, delta.shape[-1])
    if layer.padding_idx is not None:
        delta = delta * (a != layer.padding_idx).unsqueeze(-1)
    same = a.unsqueeze(1) == a.unsqueeze(2)
    return ((delta @ delta.transpose(1, 2)) * same).sum((1, 2))


RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: _linear,
    nn.Conv2d: _convolution,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.LayerNorm: _layer_norm,
    nn.GroupNorm: _group_norm,
    nn.Embedding: _embedding,
}


def _known(model: nn.Module) -> list[nn.Module] | None:
    """The layers with trained parameters, if there is a rule for each and none shares one with another."""
    layers, seen = [], set[int]()
    for module in model.modules():
        own = [p for p in module.parameters(recurse=False) if p.requires_grad]
        if not own:
            continue
        plain = not isinstance(module, nn.Conv2d) or (
            module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
        )
        if type(module) not in RULES or not plain or seen & {id(p) for p in own}:
            return None
        seen |= {id(p) for p in own}
        layers.append(module)
    return layers


@dataclass
class _Call:
    """One call of a layer: what came in, how many examples went out, and the loss's gradient of that, once known."""

    layer: nn.Module
    inputs: Tensor
    count: int
    delta: Tensor | None = None


@contextmanager
def _watched(layers: list[nn.Module]) -> Iterator[list[_Call]]:
    """Every call of the layers. A tensor's own hook sees what went out even if it is changed in place later."""
    calls: list[_Call] = []

    def see(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        call = _Call(module, inputs[0].detach(), len(output))
        calls.append(call)
        output.register_hook(lambda delta: setattr(call, "delta", delta))

    handles = [layer.register_forward_hook(see) for layer in layers]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _by_layers(
    model: nn.Module, mean_loss: Forward, batch: Batch, layers: list[nn.Module], chosen: list[Tensor]
) -> tuple[Tensor, list[Tensor]] | None:
    """Squared norms (n,), float64, and the batch's mean gradient; None where a layer acts other than once."""
    count = examples.size(batch)
    with _watched(layers) as calls:
        value = objective.evaluate(model, mean_loss, batch)
    if len({id(call.layer) for call in calls}) != len(calls) or any(call.count != count for call in calls):
        return None
    mean = torch.autograd.grad(value, chosen, materialize_grads=True)
    norms = torch.zeros(count, dtype=torch.float64)
    for call in calls:
        if call.delta is not None:
            norms += RULES[type(call.layer)](call.layer, call.inputs, call.delta * count).double().cpu()
    return norms, list(mean)


def _one_by_one(
    model: nn.Module, mean_loss: Forward, batch: Batch, chosen: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    norms, total = [], [torch.zeros_like(p) for p in chosen]
    count = examples.size(batch)
    for i in range(count):
        value = objective.evaluate(model, mean_loss, examples.take(batch, slice(i, i + 1)))
        gradient = torch.autograd.grad(value, chosen, materialize_grads=True)
        norms.append(torch.stack(torch._foreach_norm(gradient)).double().square().sum().cpu())
        torch._foreach_add_(total, gradient, alpha=1 / count)
    return torch.stack(norms), total


def squared_norms(
    model: nn.Module, loss: Loss | None, data: Any, *, forward: Forward | None = None, chunk: int | None = None
) -> tuple[Tensor, Tensor]:
    """‖g_i‖² of every example (n,), float64, and the mean gradient G (P,) over all, in the trained parameters, one
    after the other. Layer by layer is tried on two examples against one after the other, which decides. A chunk, of
    one backward pass, is by default as many examples as SAVED_BYTES hold. Data as in the room `examples`. The model is
    left as it was. ValueError, in one line, where examples are not separate."""
    chosen: list[Tensor] = list(objective.parameters(model).values())
    few = examples.to(next(examples.batches(data, objective.EXAMPLES)), chosen[0].device)
    mean_loss = gradients.separate(model, loss, forward, few)
    if chunk is None:
        with objective.saved_bytes(model) as kept:
            objective.evaluate(model, mean_loss, few)
        chunk = int(max(1, min(MAX_CHUNK, SAVED_BYTES * examples.size(few) // max(1, kept()))))
    layers = _tried(model, mean_loss, few, _known(model), chosen)
    norms: list[Tensor] = []
    total = [torch.zeros_like(p, dtype=torch.float64) for p in chosen]
    for batch in examples.batches(data, checks.whole("chunk", chunk)):
        batch = examples.to(batch, chosen[0].device)
        found = _by_layers(model, mean_loss, batch, layers, chosen) if layers else None
        each, mean = found or _one_by_one(model, mean_loss, batch, chosen)
        norms.append(each)
        for so_far, part in zip(total, mean, strict=True):
            so_far.add_(part, alpha=len(each))
    every = torch.cat(norms)
    if not every.isfinite().all():
        raise ValueError(f"the gradient of example {int(every.isfinite().logical_not().nonzero()[0])} is not finite")
    return every, torch.cat([t.flatten() for t in total]) / len(every)


def _tried(
    model: nn.Module, mean_loss: Forward, batch: Batch, layers: list[nn.Module] | None, chosen: list[Tensor]
) -> list[nn.Module] | None:
    """The layers, if on TRIED examples they say what one after the other says; none otherwise."""
    few = examples.take(batch, slice(0, TRIED))
    found = _by_layers(model, mean_loss, few, layers, chosen) if layers else None
    if found is None:
        return None
    slow, _ = _one_by_one(model, mean_loss, few, chosen)
    near = all(math.isclose(a, b, rel_tol=AGREE, abs_tol=1e-30) for a, b in zip(found[0], slow, strict=True))
    return layers if near else None
