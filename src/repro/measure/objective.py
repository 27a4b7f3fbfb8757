"""What a model is trained on: the mean loss of a batch, as a function of the model and the batch."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from repro.measure import checks, examples
from repro.measure.examples import Batch

Loss = Callable[[Any, Any], Tensor]  # (outputs, targets) -> their mean loss
Forward = Callable[[nn.Module, Batch], Tensor]  # (model, batch) -> the batch's mean loss

TARGETS = ("labels", "label", "targets", "target", "y")  # what targets are called in a dict
# How far the loss of a batch may lie from the mean of its examples' own, as a share: rounding, on a CPU.
ROUNDING = {torch.float64: 1e-6, torch.float32: 1e-4}
COARSE = 3e-2  # of shorter formats, which other devices may multiply float32 in
EXAMPLES = 8  # that it is tried on, from all over a batch


def objective(loss: Loss | None, forward: Forward | None = None) -> Forward:
    """`forward`, or the loss of what the model makes of a batch (x, y), (x1, x2, ..., y), or a dict of inputs by name
    and targets called one of TARGETS; inputs that are a dict themselves go to the model by name."""
    if forward is not None:
        return forward
    if loss is None:
        raise ValueError("loss: must be a function of (outputs, targets); or give forward, one of (model, batch)")

    def mean_loss(model: nn.Module, batch: Batch) -> Tensor:
        inputs, targets = _apart(batch)
        return loss(model(**inputs) if isinstance(inputs, Mapping) else model(*inputs), targets)

    return mean_loss


def _apart(batch: Batch) -> tuple[Any, Any]:
    """Inputs, to be given by name or in order, and targets."""
    if isinstance(batch, Mapping):
        found = [name for name in TARGETS if name in batch]
        if not found:
            raise ValueError(f"no target among {', '.join(map(str, batch))}: call it one of {', '.join(TARGETS)}")
        return {name: part for name, part in batch.items() if name != found[0]}, batch[found[0]]
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        raise ValueError("a batch must be (x, y), (x1, x2, ..., y) or a dict")
    *inputs, targets = batch
    return (inputs[0] if len(inputs) == 1 and isinstance(inputs[0], Mapping) else inputs), targets


class Whole(nn.Module):
    """Model and loss as one module, whose output is the mean loss of a batch. Its parameters are the model's, their
    names with `prefix` before them."""

    prefix = "model."

    def __init__(self, model: nn.Module, forward: Forward) -> None:
        super().__init__()
        self.model, self._forward = model, forward

    def forward(self, batch: Batch) -> Tensor:
        return self._forward(self.model, batch)


def parameters(model: nn.Module, names: list[str] | None = None) -> dict[str, nn.Parameter]:
    """The parameters that are trained, each once, or those called `names`. ValueError, in one line, for none, an
    unknown name, or a frozen one."""
    known = dict(model.named_parameters())
    trained = {name: p for name, p in known.items() if p.requires_grad}
    for name in names or ():
        if name not in known:
            raise ValueError(f"no parameter {name!r}: the model's are {', '.join(known)}")
        if name not in trained:
            raise ValueError(f"parameter {name!r}: is frozen; call its requires_grad_() first")
    if not trained:
        raise ValueError("model: has no parameter that can be trained")
    return trained if names is None else {name: trained[name] for name in names}


@contextmanager
def _modes(model: nn.Module) -> Iterator[None]:
    training = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, was in training.items():
            module.training = was


@contextmanager
def kept(model: nn.Module) -> Iterator[None]:
    """The model's buffers, modes and the state of torch's random numbers afterwards as before."""
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices), _modes(model):
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode, and then as it was."""
    with _modes(model):
        model.eval()
        yield


def copied(held: Any) -> Any:
    """A copy of a model, or of a model and what refers to it. ValueError, in one line, where there can be none."""
    with checks.one_line("model: cannot be copied, and is not touched itself"):
        return copy.deepcopy(held)


@contextmanager
def saved_bytes(model: nn.Module) -> Iterator[Callable[[], int]]:
    """The bytes that a forward pass keeps for the backward pass, but for the parameters' own."""
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def keep(t: Tensor) -> Tensor:
        if t.untyped_storage().data_ptr() not in own:
            kept[t.data_ptr()] = max(kept.get(t.data_ptr(), 0), t.numel() * t.element_size())
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        yield lambda: sum(kept.values())


def evaluate(model: nn.Module, forward: Forward, batch: Batch) -> Tensor:
    """The loss of a batch. ValueError, in one line, where the model or the loss fails, or it is no single number."""
    try:
        value = forward(model, batch)
    except Exception as error:  # of any kind: it is the caller's code that runs here
        if checks.out_of_memory(error):
            raise
        raise ValueError(
            f"the model or its loss fails on a batch of {examples.size(batch)}: {checks.told(error)}; if the batch is "
            "meant for it in another way, give forward(model, batch)"
        ) from error
    if not isinstance(value, Tensor) or value.numel() != 1:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"loss: must be one number, the mean over a batch, and is {shape}; average it")
    return value.squeeze()


def batch_norms(model: nn.Module) -> list[str]:
    """The batch norms that take their statistics from the batch."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.training or module.running_mean is None)
    ]


def check(model: nn.Module, forward: Forward, batch: Batch, batch_norm: bool = False) -> None:
    """Refuse, in one line, a model that draws at random, or a loss of EXAMPLES of `batch` that is not the mean of
    each one's own: a sum, or one that examples share, but by `batch_norm`, if that is allowed. In the mode the model is
    in, which is left as it was."""
    count = min(EXAMPLES, examples.size(batch))
    some = examples.take(batch, torch.linspace(0, examples.size(batch) - 1, count).long())
    norms = batch_norms(model)
    with kept(model), torch.no_grad():
        whole, again = (evaluate(model, forward, some) for _ in range(2))
        # with statistics of the batch, all of it twice has the same: its mean loss stays, and a sum doubles
        parts = [torch.arange(count).repeat(2)] if norms else [slice(i, i + 1) for i in range(count)]
        each = [evaluate(model, forward, examples.take(some, part)) for part in parts]
    exact = all(p.device.type == "cpu" and p.dtype in ROUNDING for p in model.parameters())
    rounding = ROUNDING.get(whole.dtype, COARSE) if exact else COARSE

    def far(a: float, b: float) -> bool:
        return abs(a - b) > rounding * max(abs(a), abs(b)) + 1e-6

    value = float(whole)
    if not all(math.isfinite(float(v)) for v in (whole, again, *each)):
        raise ValueError(f"loss: must be finite, and is {value!r} on {count} examples")
    if far(value, float(again)):
        raise ValueError(
            f"the same batch has losses {value:.4g} and {float(again):.4g}: the model draws at random, as dropout "
            "does; call model.eval() first"
        )
    if norms and not batch_norm:
        raise ValueError(
            f"examples share a loss, by the statistics of the batch that {norms[0]} takes, so that none has a gradient "
            "of its own"
        )
    total = sum(float(v) for v in each)
    if not far(value, total / len(each)):
        return
    if norms or not far(value, total):
        raise ValueError(f"loss: is a sum over the batch ({value:.4g} over {count} examples); average it")
    raise ValueError(
        f"loss: {value:.4g} over {count} examples is not the mean of their own, {total / count:.4g}: examples share "
        "it, by class weights, a target of another shape than the output, or a loss between examples, so that none has "
        "a gradient of its own"
    )
