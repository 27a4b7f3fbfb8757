"""`advise`: measures a model's noise scale and its step times, and says what batch sizes are worth it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from repro.advice import rules
from repro.advice.report import RECORD
from repro.advice.throughput import Throughput, available_memory, throughput
from repro.measure import checks, examples, micro_batches, objective
from repro.measure.micro_batches import Estimate
from repro.measure.objective import Forward, Loss

NOISE_SHARE = 0.6  # of the time, for the noise scale; the rest is for step times
LARGEST = 2**20  # batch size that is timed


@dataclass(frozen=True)
class Advice:
    """What was measured, and what follows. `noise` is of the model as it is now, in training mode; `evaluated`
    the same in eval mode, of a model with batch norm; `record` by workload the noise scale measured along training,
    the critical batch size, and the noise scale at the start."""

    noise: Estimate
    evaluated: Estimate | None
    speed: Throughput
    device: str
    optimizer: str
    betas: tuple[float, ...]
    lr: float | None
    batch_size: int | None
    notes: tuple[str, ...] = ()
    record: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def _range(self, of: Any) -> tuple[float, float, float]:
        """`of` the noise scale and of both its ends."""
        return of(self._scale), of(self.noise.low), of(self.noise.high)

    @property
    def _scale(self) -> float:
        """The noise scale, or its lower end where it has no upper."""
        return self.noise.scale if self.noise.high < math.inf else self.noise.low

    @property
    def sample_efficient(self) -> tuple[float, float, float]:
        """The batch size that takes 10 % more examples than the least, and its interval."""
        return self._range(lambda b: rules.MORE_EXAMPLES * b)

    @property
    def diminishing(self) -> tuple[float, float, float]:
        """The batch size that takes twice the examples and twice the steps of the least, and its interval."""
        return self._range(lambda b: b)

    @property
    def fastest(self) -> tuple[float, float, float]:
        """The batch size that is fastest here, among those timed, and the least and largest that take at most 10 %
        longer. ValueError if none was timed."""
        return rules.fastest(self.speed.seconds, self._scale), *rules.nearly_fastest(self.speed.seconds, self._scale)

    @property
    def error(self) -> tuple[float, float, float] | None:
        """Measured critical batch size over noise scale: the geometric mean over `record`, and the interval for one
        more workload."""
        if len(self.record) < 3:
            return None
        return rules.error_of_advice([math.log(critical / noise) for noise, critical, _ in self.record.values()])

    def learning_rate(self, batch_size: float) -> float:
        """That for `batch_size`, from the one given. NaN where no rule holds. ValueError if none was given."""
        if self.lr is None or self.batch_size is None:
            raise ValueError("lr and batch_size: give both to advise, for the rate to start from")
        factor = rules.learning_rate_factor(self.optimizer, self.batch_size, batch_size, self._scale, self.betas)
        return self.lr * factor

    def __str__(self) -> str:
        from repro.advice.report import told

        return told(self)

    def plot(self) -> Any:
        """A matplotlib figure: steps, examples and time to a target against batch size, relative to the least."""
        from repro.advice.report import drawn

        return drawn(self)


def advise(
    model: nn.Module,
    loss: Loss | None,
    data: Any,
    *,
    forward: Forward | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    lr: float | None = None,
    batch_size: int | None = None,
    device: str | torch.device | None = None,
    seconds: float = 60,
    memory: float | None = None,
    train_seconds: float = 0,
    seed: int = 0,
) -> Advice:
    """What batch size to train `model` with on `data`, with `optimizer`, on this machine. Print the answer.

    `data` yields (x, y), (x1, x2, ..., y) or a dict: tensors, a Dataset or a DataLoader; otherwise `forward` takes
    (model, batch) and gives its mean loss. `loss` takes (outputs, targets) and gives their mean. With `lr` and
    `batch_size`, those of today, it says how to move the rate. The noise scale grows during training: give a model that
    has been trained some, or let a copy be trained for `train_seconds` first, which takes an optimizer or an lr. About
    `seconds` in all, `memory` bytes at most, by default what is free. The caller's model, gradients, buffers, modes,
    optimizer and random numbers are left as they were. Raises ValueError, in one line, and nothing else.
    """
    checks.positive("seconds", seconds)
    if lr is not None:
        checks.positive("lr", lr)
    if batch_size is not None:
        checks.whole("batch_size", batch_size)
    if not 0 <= train_seconds < math.inf:
        raise ValueError(f"train_seconds {train_seconds!r}: must be a finite number ≥ 0")
    if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
        raise ValueError(f"optimizer: must be one of torch.optim, made; got {optimizer!r}")
    if not isinstance(model, nn.Module):
        raise ValueError(f"model: must be a torch module; got {type(model).__name__}")
    objective.parameters(model)
    mean_loss = objective.objective(loss, forward)
    data = examples.checked(data)
    started = time.perf_counter()
    with objective.kept(model), checks.one_line("the model cannot be measured"):
        torch.manual_seed(seed)
        own, rates = _copied(model, optimizer, lr, device)
        at = next(own.parameters()).device
        most = available_memory(at) if memory is None else memory
        notes: list[str] = []
        if not own.training:
            own.train()
            notes.append("The model was in eval mode; it was measured in training mode, in which it is trained.")
        if train_seconds:
            notes.append(_trained(own, mean_loss, data, rates, batch_size, train_seconds, seed))
            started = time.perf_counter()
        options: dict[str, Any] = {"forward": mean_loss, "memory": most / 2, "seed": seed}
        norms = objective.batch_norms(own)
        share = NOISE_SHARE * seconds / (1.5 if norms else 1)
        noise = _within_memory(own, data, share, options)
        evaluated = None
        if norms:
            with objective.evaluating(own):
                evaluated = _within_memory(own, data, share / 2, options)
        if any(isinstance(module, nn.modules.dropout._DropoutNd) and module.p for module in own.modules()):
            notes.append("Dropout is left on, as in training; what it adds is part of the noise.")
        number = examples.number(data)
        speed = throughput(
            own,
            mean_loss,
            data,
            rates,
            largest=min(LARGEST, math.inf if number is None else number),
            critical=noise.high,
            seconds=max(0.0, seconds - (time.perf_counter() - started)),
            memory=most,
            random=torch.Generator().manual_seed(seed),
        )
    if lr is None and optimizer is not None:
        lr = float(optimizer.param_groups[0]["lr"])
    return Advice(
        noise=noise,
        evaluated=evaluated,
        speed=speed,
        device=f"{at.type}, {torch.get_num_threads()} threads" if at.type == "cpu" else torch.cuda.get_device_name(at),
        optimizer=type(optimizer).__name__ if optimizer is not None else "SGD",
        betas=tuple(rates.param_groups[0].get("betas", ())),
        lr=lr,
        batch_size=batch_size,
        notes=tuple(notes),
        record=json.loads(RECORD.read_text()) if RECORD.is_file() else {},
    )


def _copied(
    model: nn.Module, optimizer: torch.optim.Optimizer | None, lr: float | None, device: str | torch.device | None
) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Copies of model and optimizer, the optimizer's on the model's."""
    own, rates = objective.copied((model, optimizer))
    if device is not None:
        with checks.one_line(f"device {device!r}: cannot be used"):
            own = own.to(device)
    trained = list(objective.parameters(own).values())
    held = {id(p) for group in rates.param_groups for p in group["params"]} if rates is not None else set()
    if rates is None or not held & {id(p) for p in trained}:
        if rates is not None:
            raise ValueError("optimizer: holds none of the model's parameters; make it of model.parameters()")
        rates = torch.optim.SGD(trained, lr=0.0 if lr is None else lr)
    return own, rates


def _within_memory(model: nn.Module, data: Any, seconds: float, options: Mapping[str, Any]) -> Estimate:
    """The noise scale by micro-batches of half the size, as often as memory does not hold one."""
    number = examples.number(data)
    size = micro_batches.micro_batch_size(model, math.inf if number is None else number)
    while True:
        try:
            return micro_batches.noise_scale(model, None, data, micro_batch=size, seconds=seconds, **options)
        except Exception as error:
            if not checks.out_of_memory(error):
                raise
            if size == 1:
                raise ValueError(f"memory: does not hold the gradient of one example ({checks.told(error)})") from None
            size //= 2


def _trained(
    model: nn.Module,
    mean_loss: Forward,
    data: Any,
    optimizer: torch.optim.Optimizer,
    batch_size: int | None,
    seconds: float,
    seed: int,
) -> str:
    """Trains the copy, and tells how far."""
    if not any(group["lr"] for group in optimizer.param_groups):
        raise ValueError("train_seconds: needs an optimizer, or an lr for SGD")
    random, started, steps = torch.Generator().manual_seed(seed), time.perf_counter(), 0
    size = batch_size or micro_batches.MICRO_BATCH
    at = next(model.parameters()).device
    first = last = math.nan
    while time.perf_counter() - started < seconds:
        for batch in examples.batches(data, size, random):
            optimizer.zero_grad(set_to_none=True)
            value = objective.evaluate(model, mean_loss, examples.to(batch, at))
            value.backward()
            optimizer.step()
            last, steps = float(value.detach()), steps + 1
            first = last if steps == 1 else first
            if not math.isfinite(last):
                raise ValueError(f"train_seconds: the loss is {last} after {steps} steps; give a smaller lr")
            if time.perf_counter() - started >= seconds:
                break
    return f"A copy was trained first: {steps:,} steps of {size}, loss {first:.3g} to {last:.3g}."
