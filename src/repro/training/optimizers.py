"""Steps: SGD in closed form on stacks of networks, and every optimizer of torch on any network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from repro.names import DATASETS
from repro.training.augmentation import shift_and_rotate
from repro.training.data import generator
from repro.trial import Trial

MINUS_ONE = torch.full((1, 1, 1), -1.0)
# Batch size from which the products of one network and of several were rounded alike on every processor tried. On one
# with AMX they were not at 1 in float32 and at 32 in bfloat16.
ROUNDED_ALIKE = {"float32": 2, "bfloat16": 64}


class Step(Protocol):
    """One step of the networks of a stack."""

    def __call__(self, x: Tensor, y: Tensor, lr: Tensor) -> Tensor:
        """x (S, B, features), y (S, B), lr (S,) -> logits (S, B, classes) before the update"""

    def keep(self, rows: Sequence[int]) -> None:
        """Train these networks of the stack alone from now on, in this order."""

    def begin_epoch(self, epoch: int) -> None:
        """Called before the first step of every epoch but the first, 0."""


def _stack(parameters: Sequence[nn.Parameter]) -> Tensor:
    """One tensor (S, ...) of the parameters of S networks, which become views of it."""
    stack = torch.stack([p.detach() for p in parameters])
    for parameter, row in zip(parameters, stack, strict=True):
        parameter.data = row
    return stack


class ClosedForm:
    """SGD on a stack of ReLU MLPs with cross-entropy: backward by hand, straight into the weights.

    With Z the logits, D = dL/dZ = (softmax(Z) - onehot(y))/B, and a layer's gradients are DᵀH for its weight
    and the sum of D for its bias, H its inputs. All of it is linear in D, so without momentum and weight decay η goes
    into D at once, and the weight takes -DᵀH in the product itself. In bfloat16 the products take a rounded copy of
    the float32 weights. Momentum, Nesterov's too, and weight decay as in torch.optim.SGD. A network alone is trained
    beside itself where the products of one and of several may differ in their last bits.
    """

    def __init__(self, stack: Sequence[Trial], networks: Sequence[nn.Module], precision: str) -> None:
        linears = [[m for m in network.children() if isinstance(m, nn.Linear)] for network in networks]
        self._layers = list(zip(*linears, strict=True))  # of each, that of every network
        self._half = precision == "bfloat16"
        self._nesterov = stack[0].optimizer == "nesterov"
        self._momentum, self._decay = (
            torch.tensor([getattr(t, name) for t in stack])[:, None, None] for name in ("momentum", "weight_decay")
        )
        self._decays = bool(self._decay.any())
        self._plain = not self._momentum.any() and not self._decays
        smallest = min([stack[0].batch_size, *(p.batch_size for p in stack[0].schedule)])
        self._in_pairs = smallest < ROUNDED_ALIKE[precision]
        self._gather()
        moving = [] if self._plain else [*self._weights, *self._biases]
        self._velocities = [torch.zeros_like(p) for p in moving]  # of the weights, layer by layer, then of the biases

    def _gather(self) -> None:
        layers = [layer * 2 if self._twinned else layer for layer in self._layers]
        self._weights = [_stack([m.weight for m in layer]) for layer in layers]
        self._biases = [_stack([m.bias for m in layer]).unsqueeze(1) for layer in layers]
        self._rounded = [w.bfloat16() for w in self._weights] if self._half else self._weights

    @property
    def _twinned(self) -> bool:
        return self._in_pairs and len(self._layers[0]) == 1

    def keep(self, rows: Sequence[int]) -> None:
        """Train these networks of the stack alone from now on, in this order. The others stay as they are."""
        self._layers = [tuple(layer[i] for i in rows) for layer in self._layers]
        self._momentum, self._decay = self._momentum[rows], self._decay[rows]
        self._velocities = [v[[*rows, *rows] if self._twinned else rows] for v in self._velocities]
        self._gather()

    def begin_epoch(self, epoch: int) -> None:
        """Nothing changes."""

    def _descend(self, parameter: Tensor, gradient: Tensor, lr: Tensor, place: int) -> None:
        if self._plain:
            parameter.sub_(gradient.float())  # mixed types are slow
            return
        gradient = gradient.float()  # ours alone, so what follows may write into it: a new tensor costs as much again
        if self._decays:
            gradient.addcmul_(parameter, self._decay)
        velocity = self._velocities[place].mul_(self._momentum).add_(gradient)
        direction = gradient.addcmul_(velocity, self._momentum) if self._nesterov else velocity
        parameter.addcmul_(direction, lr, value=-1)

    def __call__(self, x: Tensor, y: Tensor, lr: Tensor) -> Tensor:
        if self._twinned:
            x, y = torch.cat([x, x]), torch.cat([y, y])
        rounded, biases, depth = self._rounded, self._biases, len(self._weights)
        lr = lr.float()[:, None, None]
        inputs = [x]
        for weight, bias in zip(rounded[:-1], biases[:-1], strict=True):
            inputs.append(torch.baddbmm(bias.to(x.dtype), inputs[-1], weight.transpose(1, 2)).relu_())
        logits = torch.baddbmm(biases[-1].to(x.dtype), inputs[-1], rounded[-1].transpose(1, 2)).float()
        delta = torch.softmax(logits, 2).scatter_add_(2, y.unsqueeze(2), MINUS_ONE.expand(*y.shape, 1))
        delta = delta.mul_(lr / y.shape[1] if self._plain else 1 / y.shape[1]).to(x.dtype)
        for layer in range(depth - 1, -1, -1):
            weight, transposed = self._weights[layer], delta.transpose(1, 2)
            below = torch.bmm(delta, rounded[layer]) if layer else None
            self._descend(biases[layer], delta.sum(1, keepdim=True, dtype=torch.float32), lr, depth + layer)
            if self._plain and rounded is self._weights:
                weight.baddbmm_(transposed, inputs[layer], alpha=-1)
            else:
                self._descend(weight, torch.bmm(transposed, inputs[layer]), lr, layer)
                rounded[layer].copy_(weight)
            if below is not None:
                delta = torch.ops.aten.threshold_backward(below, inputs[layer], 0)  # a fifth of the time of a mask
        return logits[: len(self._layers[0])]


def make_optimizer(trial: Trial, model: nn.Module) -> torch.optim.Optimizer:
    parameters, lr, decay = list(model.parameters()), trial.lr, trial.weight_decay
    if trial.optimizer in ("sgd", "nesterov"):
        nesterov = trial.optimizer == "nesterov"
        return torch.optim.SGD(parameters, lr, trial.momentum, weight_decay=decay, nesterov=nesterov)
    if trial.optimizer == "adagrad":
        return torch.optim.Adagrad(parameters, lr, weight_decay=decay)
    if trial.optimizer == "rmsprop":
        return torch.optim.RMSprop(parameters, lr, momentum=trial.momentum, weight_decay=decay)
    adam = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[trial.optimizer]
    return adam(parameters, lr, (trial.beta1, trial.beta2), trial.eps, weight_decay=decay, fused=True)


class Autograd:
    """Any model, any torch optimizer. In bfloat16, products run under autocast; weights stay float32."""

    def __init__(self, trial: Trial, model: nn.Module, precision: str) -> None:
        self._trial, self._model, self._optimizer = trial, model, make_optimizer(trial, model)
        self._half, self._random = precision == "bfloat16", generator("augmentation", trial.data_seed)

    def keep(self, rows: Sequence[int]) -> None:
        """Its only network, as it is."""

    def begin_epoch(self, epoch: int) -> None:
        """An optimizer that remembers nothing, if the trial wants one."""
        begins = self._trial.restart_with_phase and epoch in {p.epoch for p in self._trial.schedule}
        if self._trial.restart_optimizer or begins:
            self._optimizer = make_optimizer(self._trial, self._model)

    def __call__(self, x: Tensor, y: Tensor, lr: Tensor) -> Tensor:
        for group in self._optimizer.param_groups:
            group["lr"] = lr.item()
        trial, batch, parameters = self._trial, x[0], list(self._model.parameters())
        if trial.augmentation != "none":
            batch = shift_and_rotate(batch, DATASETS[trial.dataset].shape, self._random)
        start = [p.detach().clone() for p in parameters] if trial.proximal else []
        outputs = []
        for _ in range(trial.steps_per_batch):
            logits, loss = self._loss(batch, y[0])
            outputs.append(logits.detach())
            self._optimizer.zero_grad()
            loss.backward()
            for p, began in zip(parameters, start, strict=False):  # of λ/2 ‖w - w₀‖²
                p.grad = (p.detach() - began).mul_(trial.proximal).add_(p.grad)  # type: ignore[arg-type]
            if trial.max_gradient_norm is not None:
                nn.utils.clip_grad_norm_(parameters, trial.max_gradient_norm)
            self._optimizer.step()
        return outputs[0].unsqueeze(0)

    def _loss(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and the loss to be lowered."""

        def of(x: Tensor) -> tuple[Tensor, Tensor]:
            with torch.autocast("cpu", torch.bfloat16, enabled=self._half):
                logits = self._model(x)
            return logits, functional.cross_entropy(logits.float(), y)

        if not self._trial.adversarial:
            return of(x)
        x = x.detach().requires_grad_()
        logits, loss = of(x)
        [uphill] = torch.autograd.grad(loss, x, retain_graph=True)
        moved = (x + self._trial.adversarial * uphill.sign()).detach()
        return logits, (loss + of(moved)[1]) / 2
