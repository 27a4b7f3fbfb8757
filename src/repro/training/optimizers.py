"""Steps: SGD in closed form on stacks of networks, and every optimizer of torch on any network."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from repro.trial import Trial

# (x (S, B, features), y (S, B), lr (S,)) -> logits (S, B, classes) before the update
Step = Callable[[Tensor, Tensor, Tensor], Tensor]


def _stack(parameters: Sequence[nn.Parameter]) -> Tensor:
    """One tensor (S, ...) of the parameters of S networks, which become views of it."""
    stack = torch.stack([p.detach() for p in parameters])
    for parameter, row in zip(parameters, stack, strict=True):
        parameter.data = row
    return stack


def closed_form_step(stack: Sequence[Trial], networks: Sequence[nn.Module], precision: str) -> Step:
    """SGD on a stack of ReLU MLPs with cross-entropy: backward by hand, straight into the weights.

    With Z the logits, D = dL/dZ = (softmax(Z) - onehot(y))/B, and a layer's gradients are DᵀH for its weight
    and the sum of D for its bias, H its inputs. All of it is linear in D, so without momentum and weight decay η goes
    into D at once, and the weight takes -DᵀH in the product itself. In bfloat16 the products take a rounded copy of
    the float32 weights. Momentum, Nesterov's too, and weight decay as in torch.optim.SGD.
    """
    linears = [[m for m in network.children() if isinstance(m, nn.Linear)] for network in networks]
    weights = [_stack([m.weight for m in layer]) for layer in zip(*linears, strict=True)]
    biases = [_stack([m.bias for m in layer]).unsqueeze(1) for layer in zip(*linears, strict=True)]
    rounded = [w.bfloat16() for w in weights] if precision == "bfloat16" else weights
    momentum, decay = (
        torch.tensor([getattr(t, name) for t in stack])[:, None, None] for name in ("momentum", "weight_decay")
    )
    nesterov = stack[0].optimizer == "nesterov"
    plain = not momentum.any() and not decay.any()
    velocities = {id(p): torch.zeros_like(p) for p in (*weights, *biases) if not plain}
    minus_one = torch.full((1, 1, 1), -1.0)

    def descend(parameter: Tensor, gradient: Tensor, lr: Tensor) -> None:
        if plain:
            parameter.sub_(gradient.float())  # mixed types are slow
            return
        gradient = torch.addcmul(gradient, parameter, decay)
        velocity = velocities[id(parameter)].mul_(momentum).add_(gradient)
        direction = torch.addcmul(gradient, velocity, momentum) if nesterov else velocity
        parameter.addcmul_(direction, lr, value=-1)

    def step(x: Tensor, y: Tensor, lr: Tensor) -> Tensor:
        lr = lr.float()[:, None, None]
        inputs = [x]
        for weight, bias in zip(rounded[:-1], biases[:-1], strict=True):
            inputs.append(torch.baddbmm(bias.to(x.dtype), inputs[-1], weight.transpose(1, 2)).relu_())
        logits = torch.baddbmm(biases[-1].to(x.dtype), inputs[-1], rounded[-1].transpose(1, 2)).float()
        delta = torch.softmax(logits, 2).scatter_add_(2, y.unsqueeze(2), minus_one.expand(*y.shape, 1))
        delta = delta.mul_(lr / y.shape[1] if plain else 1 / y.shape[1]).to(x.dtype)
        for layer in range(len(weights) - 1, -1, -1):
            weight, bias, transposed = weights[layer], biases[layer], delta.transpose(1, 2)
            below = torch.bmm(delta, rounded[layer]) if layer else None
            descend(bias, delta.sum(1, keepdim=True, dtype=torch.float32), lr)
            if plain and rounded is weights:
                weight.baddbmm_(transposed, inputs[layer], alpha=-1)
            else:
                descend(weight, torch.bmm(transposed, inputs[layer]), lr)
                rounded[layer].copy_(weight)
            if below is not None:
                delta = torch.ops.aten.threshold_backward(below, inputs[layer], 0)  # a fifth of the time of a mask
        return logits

    return step


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


def autograd_step(trial: Trial, model: nn.Module, precision: str) -> Step:
    """Any model, any torch optimizer. In bfloat16, products run under autocast; weights stay float32."""
    optimizer = make_optimizer(trial, model)

    def step(x: Tensor, y: Tensor, lr: Tensor) -> Tensor:
        for group in optimizer.param_groups:
            group["lr"] = lr.item()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            logits = model(x[0])
        optimizer.zero_grad()
        functional.cross_entropy(logits.float(), y[0]).backward()
        optimizer.step()
        return logits.detach().unsqueeze(0)

    return step
