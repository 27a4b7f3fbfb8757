"""Gradients of single examples and of batches, for any torch module.

Notation: g_i the gradient of one example's loss, P the number of trainable parameters looked at. A batch's gradient is
sum-reduced here: Σ g_i over its B examples; that of the mean-reduced loss is the same divided by B. `loss` takes
(outputs, targets) and gives their mean; where a batch is not (x, ..., y) or a dict, `forward` takes (model, batch) and
gives its mean loss. `data` is what `examples` says. The model is left as it was. Every function raises ValueError, in
one line, for data or weights that are not finite, and for a loss that is not the mean of its examples' losses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from repro.measure import checks, examples, objective
from repro.measure.examples import Batch
from repro.measure.objective import Forward, Loss

Gradients = Callable[[Tensor], Tensor]  # indices (draws, B) -> sum-reduced gradients (draws, P)

CHUNK = 16  # draws whose gradients are held at once
BYTES = 2**28  # that per-example gradients of one chunk may take, unless a chunk is given


def separate(model: nn.Module, loss: Loss | None, forward: Forward | None, batch: Batch) -> Forward:
    """The mean loss of a batch, tried on one. ValueError, in one line, where examples are not separate."""
    checks.weights(model)
    for name in objective.batch_norms(model):
        raise ValueError(
            f"{name} is a batch norm that takes its statistics from the batch, so that an example has no gradient of "
            "its own; call model.eval() first"
        )
    mean_loss = objective.objective(loss, forward)
    objective.check(model, mean_loss, batch)
    return mean_loss


def per_example_gradients(
    model: nn.Module,
    loss: Loss | None,
    data: Any,
    names: Sequence[str] | None = None,
    chunk: int | None = None,
    *,
    forward: Forward | None = None,
) -> Iterator[Tensor]:
    """The exact gradient of every example's loss, in chunks (≤ chunk, P), the trained parameters, or those called
    `names`, one after the other. A chunk is by default as many examples as BYTES hold.

    By torch.func: vmap of grad of functional_call; one example after the other where vmap cannot run the model. Source:
    McCandlish et al. (2018), appendix A, without their moving averages.
    """
    trained = objective.parameters(model, None if names is None else list(names))
    chosen = {name: p.detach() for name, p in trained.items()}
    if chunk is None:
        chunk = max(1, BYTES // (2 * sum(p.numel() * p.element_size() for p in chosen.values())))
    whole: objective.Whole | None = None
    together = True
    for batch in examples.batches(data, checks.whole("chunk", chunk)):
        if whole is None:
            whole = objective.Whole(model, separate(model, loss, forward, batch))
            gradients = vmap(grad(_example_loss), in_dims=(None, None, None, 0))
            rest = {n: t.detach() for n, t in (*whole.named_parameters(), *whole.named_buffers())}
        if together:
            try:
                found = gradients(chosen, rest, whole, batch)
            except RuntimeError:
                together = False
        if together:
            yield torch.cat([found[name].flatten(1) for name in chosen], 1)
        else:
            yield torch.stack([_alone(whole, batch, i, list(trained.values())) for i in range(examples.size(batch))])


def _alone(whole: objective.Whole, batch: Batch, i: int, chosen: list[nn.Parameter]) -> Tensor:
    """The gradient of example i, by a pass of its own."""
    value = whole(examples.take(batch, slice(i, i + 1)))
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, chosen, materialize_grads=True)])


def _example_loss(chosen: dict[str, Tensor], rest: dict[str, Tensor], whole: objective.Whole, example: Batch) -> Tensor:
    """The loss of one example, its tensors without the axis of examples."""
    given = {**rest, **{whole.prefix + name: p for name, p in chosen.items()}}
    alone = examples.mapped(lambda t: t.unsqueeze(0) if isinstance(t, Tensor) else t, example)
    return functional_call(whole, given, (alone,)).squeeze()


@dataclass(frozen=True)
class Factors:
    """The per-example gradients of one linear layer's weight as outer products, g_i = delta_i ⊗ inputs_i:
    delta (n, out) the gradient with respect to the layer's output, inputs (n, in). A `Gradients`, when called."""

    delta: Tensor
    inputs: Tensor

    def __call__(self, indices: Tensor) -> Tensor:
        return (self.delta[indices].transpose(-1, -2) @ self.inputs[indices]).flatten(-2)

    def squared_norms(self) -> Tensor:
        """‖g_i‖² (n,), float64."""
        pairs = zip(
            self.delta.split(2048), self.inputs.split(2048), strict=True
        )  # a float64 copy would be twice as big
        return torch.cat([d.double().square().sum(1) * i.double().square().sum(1) for d, i in pairs])

    def mean(self) -> Tensor:
        """G (P,)."""
        return (self.delta.T @ self.inputs).flatten() / len(self.delta)


def last_linear(model: nn.Module) -> str:
    """The name of the last linear layer."""
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not names:
        raise ValueError("the model has no linear layer; give the names of parameters to per_example_gradients instead")
    return names[-1]


def _adds_up(delta: Tensor, inputs: Tensor, summed: Tensor) -> bool:
    """Whether the outer products of the rows (n, out) and (n, in) sum to `summed` (out, in), but for rounding."""
    rounding = math.sqrt(torch.finfo(delta.dtype).eps) * float((delta.abs().T @ inputs.abs()).max())
    return torch.allclose(delta.T @ inputs, summed, rtol=0, atol=rounding)


def factors(
    model: nn.Module,
    loss: Loss | None,
    data: Any,
    layer: str | None = None,
    chunk: int = 2048,
    *,
    forward: Forward | None = None,
) -> Factors:
    """The per-example gradients of linear layer `layer` (default: the last), from one forward and backward pass:
    thousands of times faster than one pass an example. ValueError, of one line, where the layer does not act exactly
    once on each example, which its weight's own gradient tells."""
    layer = layer or last_linear(model)
    module = dict(model.named_modules()).get(layer)
    if not isinstance(module, nn.Linear):
        linear = [name for name, found in model.named_modules() if isinstance(found, nn.Linear)]
        raise ValueError(f"layer {layer!r}: must be a linear layer of the model: {', '.join(linear) or 'it has none'}")
    if not module.weight.requires_grad:
        raise ValueError(f"layer {layer}: must be trainable; call its requires_grad_() first")
    seen: dict[str, Tensor] = {}

    def see(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.update(inputs=inputs[0].detach(), output=output)

    found: list[tuple[Tensor, Tensor]] = []
    mean_loss: Forward | None = None
    for batch in examples.batches(data, checks.whole("chunk", chunk)):
        mean_loss = mean_loss or separate(model, loss, forward, batch)
        count = examples.size(batch)
        seen.clear()
        handle = module.register_forward_hook(see)
        try:
            value = objective.evaluate(model, mean_loss, batch)
        finally:
            handle.remove()
        acts = tuple(seen["output"].shape) if seen else ()
        if acts[:-1] != (count,):
            raise ValueError(f"layer {layer}: acts {acts} on a batch, not once an example")
        delta, summed = torch.autograd.grad(value, [seen["output"], module.weight])
        if not found and not _adds_up(delta, seen["inputs"], summed):
            raise ValueError(f"layer {layer}: acts more than once on an example, or shares its weight with another")
        found.append((delta * count, seen["inputs"]))  # the loss is a mean
    delta, inputs = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Factors(delta, inputs)


def batch_gradients(
    model: nn.Module,
    loss: Loss | None,
    data: Any,
    names: Sequence[str] | None = None,
    *,
    forward: Forward | None = None,
) -> Gradients:
    """The sum-reduced gradients of batches of `data` with respect to the trained parameters, or those called `names`,
    by autograd: for any module whose examples are separate. All data is held in memory."""
    held = examples.in_memory(data)
    chosen = list(objective.parameters(model, None if names is None else list(names)).values())
    mean_loss = separate(model, loss, forward, held)

    def gradient(indices: Tensor) -> Tensor:
        value = objective.evaluate(model, mean_loss, examples.take(held, indices)) * len(indices)
        return torch.cat([g.flatten() for g in torch.autograd.grad(value, chosen, materialize_grads=True)])

    return lambda indices: torch.stack([gradient(row) for row in indices])


def random_orders(num_examples: int, samples: int, draws: int, random: torch.Generator) -> Tensor:
    """(draws, samples) indices, each row drawn without replacement. Batches are cut from the rows, so that every
    batch size sees the same examples."""
    checks.whole("samples", samples, num_examples, "examples there are")
    checks.whole("draws", draws)
    return torch.stack([torch.randperm(num_examples, generator=random)[:samples] for _ in range(draws)])


def batch_gradient_norms(
    gradients: Gradients, orders: Tensor, batch_sizes: Sequence[int], chunk: int = CHUNK
) -> Tensor:
    """(draws, batch sizes), float64: the norms ‖Σ g_i‖ of the first B examples of every row of `orders`. ValueError for
    a B that is larger than a row."""
    for size in batch_sizes:
        checks.whole("batch_size", size, orders.shape[1], "examples of a draw")
    checks.whole("chunk", chunk)
    return torch.stack(
        [
            torch.cat([gradients(rows[:, :size]).double().norm(dim=1) for rows in orders.split(chunk)])
            for size in batch_sizes
        ],
        dim=1,
    )
