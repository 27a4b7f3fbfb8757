"""The only training loop. In-memory tensors, one thread, and every random draw from the trial's seeds.

A trial's numbers depend on its spec, the machine and the torch version, and on nothing that runs beside it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from repro import models
from repro.data import Dataset, generator
from repro.trial import Trial

Probe = Callable[[nn.Module, Mapping[str, Tensor], Dataset], Mapping[str, Any]]
Step = Callable[[Tensor, Tensor, float], Tensor]  # (x, y, lr) -> logits before the update

# Steps between looks for a divergence: NaN and infinity stay in the weights, so late is not too late.
DIVERGENCE_CHECK_STEPS = 200
# From this batch size on autograd in bfloat16 is the faster path; below it, float32 by closed form.
BFLOAT16_MIN_BATCH_SIZE = 256


@dataclass(frozen=True)
class Outcome:
    """What training gave: one dict of measures a checkpoint, with its step and epoch, the last one final."""

    status: str  # "finished" or "diverged"
    checkpoints: list[dict[str, Any]]
    path: str  # how steps were computed
    precision: str


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Sums are grouped by the number of threads, so a fixed number is part of "same numbers"."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def batches(trial: Trial, num_train: int) -> Iterator[tuple[int, float, Tensor]]:
    """Endless (epoch, lr, indices): a fresh permutation an epoch from the data seed, in the phase's sizes."""
    random = generator("order", trial.data_seed)
    epoch = 0
    while True:
        phase = trial.phase_at(epoch)
        order = torch.randperm(num_train, generator=random)
        for indices in order.split(phase.batch_size):
            yield epoch, phase.lr, indices
        epoch += 1


def has_native_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 matrices in hardware (AVX-512 BF16 or AMX)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def choose_precision(trial: Trial) -> str:
    """The trial's precision; for "auto", bfloat16 products (float32 weights) where they are faster, and only
    for networks without batch norm, whose first steps bfloat16 moves by more than rounding."""
    if trial.precision != "auto":
        return trial.precision
    smallest = min([trial.batch_size, *(p.batch_size for p in trial.schedule)])
    plain = trial.model == "mlp" and not trial.batch_norm
    fast = plain and smallest >= BFLOAT16_MIN_BATCH_SIZE and has_native_bfloat16()
    return "bfloat16" if fast else "float32"


def choose_path(trial: Trial, model: nn.Module, precision: str) -> str:
    """ "closed form" for plain SGD on a batch-norm-free MLP in float32, "autograd" for everything else."""
    plain = trial.optimizer == "sgd" and not trial.momentum and not trial.weight_decay
    mlp = all(isinstance(m, nn.Linear | nn.ReLU) for m in model.children())
    return "closed form" if plain and mlp and precision == "float32" else "autograd"


def closed_form_step(model: nn.Module) -> Step:
    """Plain SGD on a ReLU MLP with cross-entropy: backward by hand, straight into the weights.

    With Z the logits, dL/dZ = (softmax(Z) - onehot(y))/B; each W gets -η (dL/dZ)ᵀ H.
    """
    linears = [m for m in model.children() if isinstance(m, nn.Linear)]
    weights = [m.weight.detach() for m in linears]
    biases = [m.bias.detach() for m in linears]

    def step(x: Tensor, y: Tensor, lr: float) -> Tensor:
        inputs = [x]
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            inputs.append(torch.addmm(bias, inputs[-1], weight.t()).relu_())
        logits = torch.addmm(biases[-1], inputs[-1], weights[-1].t())
        delta = torch.softmax(logits, 1)
        delta[torch.arange(len(y)), y] -= 1
        delta /= len(y)
        for layer in range(len(weights) - 1, -1, -1):
            weight, bias, h = weights[layer], biases[layer], inputs[layer]
            below = delta @ weight if layer else None
            weight.addmm_(delta.t(), h, alpha=-lr)
            bias.sub_(delta.sum(0), alpha=lr)
            if below is not None:
                delta = below.mul_(h > 0)
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
    adam = torch.optim.AdamW if trial.optimizer == "adamw" else torch.optim.Adam
    return adam(parameters, lr, weight_decay=decay, fused=True)


def autograd_step(trial: Trial, model: nn.Module, precision: str) -> Step:
    """Any model, any torch optimizer. In bfloat16, products run under autocast; weights stay float32."""
    optimizer = make_optimizer(trial, model)

    def step(x: Tensor, y: Tensor, lr: float) -> Tensor:
        for group in optimizer.param_groups:
            group["lr"] = lr
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            logits = model(x)
        optimizer.zero_grad()
        functional.cross_entropy(logits.float(), y).backward()
        optimizer.step()
        return logits.detach()

    return step


def train(trial: Trial, dataset: Dataset, probes: Sequence[Probe]) -> Outcome:
    """Train the trial's model on `dataset` and measure it with every probe at every checkpoint.

    A trial whose logits or losses stop being finite ends there, with status "diverged", measured as it stands.
    """
    with one_thread():
        model = models.build(trial)
        initial = {name: p.detach().clone() for name, p in model.named_parameters()}
        precision = choose_precision(trial)
        path = choose_path(trial, model, precision)
        step = closed_form_step(model) if path == "closed form" else autograd_step(trial, model, precision)
        stops = set(trial.checkpoint_steps)
        checkpoints: list[dict[str, Any]] = []

        def measure(done: int, epoch: float) -> None:
            values = {name: v for probe in probes for name, v in probe(model, initial, dataset).items()}
            checkpoints.append({"step": done, "epoch": epoch, **values})

        measure(0, 0.0)
        diverged = False
        start_of_epoch = (0, 0)  # (epoch, steps done before it)
        for done, (epoch, lr, indices) in enumerate(batches(trial, len(dataset.x_train)), start=1):
            if epoch != start_of_epoch[0]:
                start_of_epoch = (epoch, done - 1)
            # index_select: a third of the time of x[indices]
            x, y = (t.index_select(0, indices) for t in (dataset.x_train, dataset.y_train))
            logits = step(x, y, lr)
            at_stop = done in stops
            if at_stop or done % DIVERGENCE_CHECK_STEPS == 0:
                diverged = not bool(torch.isfinite(logits).all())
            if at_stop or diverged:
                measure(done, epoch + (done - start_of_epoch[1]) / trial.steps_in_epoch(epoch))
                losses = (value for name, value in checkpoints[-1].items() if name.endswith("_loss"))
                diverged = diverged or not all(map(math.isfinite, losses))
            if diverged or done == trial.num_steps:
                break
    return Outcome("diverged" if diverged else "finished", checkpoints, path, precision)
