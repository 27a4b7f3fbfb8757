"""How long a step of training takes by batch size, and how much memory it needs."""

from __future__ import annotations

import math
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from repro.advice import rules
from repro.measure import checks, examples, objective
from repro.measure.objective import Forward

STEPS = 3  # timed at least, of every batch size
SECONDS = 0.1  # that they take at least
WORSE = 1.3  # times the least time to a target: larger batch sizes are timed no more
BETTER = 0.98  # of it, by three doublings, or they are not either


@dataclass(frozen=True)
class Throughput:
    """Seconds a step by batch size, and the most examples that memory holds: infinite if that was not met."""

    seconds: dict[int, float]
    most: float


def available_memory(device: torch.device) -> float:
    """Bytes that are free on `device`, as far as it tells."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    limits = [float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))] if hasattr(os, "sysconf") else []
    for at in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        told = Path(at).read_text().strip() if Path(at).is_file() else "max"
        limits += [float(told)] if told.isdigit() else []
    return min(limits, default=math.inf)


def throughput(
    model: nn.Module,
    mean_loss: Forward,
    data: Any,
    optimizer: torch.optim.Optimizer,
    *,
    largest: float,
    critical: float | None,
    seconds: float,
    memory: float,
    random: torch.Generator,
) -> Throughput:
    """Times steps of `optimizer` on `model`, whose weights they move, at B = 1 (32 with batch norm), and twice as many
    up to `largest`, for as long as `seconds` allow, time to a target falls with a critical batch size of `critical`
    (None: however long it takes), and a step needs no more than `memory` bytes: parameters, gradients and the
    optimizer's state, and twice what the forward pass keeps, for what the backward pass makes of it. A step is timed
    without reading its batch."""
    started, found = time.perf_counter(), dict[int, float]()
    device = next(model.parameters()).device
    size, most = (32 if objective.batch_norms(model) else 1), math.inf
    while size <= largest:
        took: list[float] = []
        try:
            batch = examples.to(next(examples.batches(data, size, random)), device)
            if examples.size(batch) < size:
                break
            with objective.saved_bytes(model) as kept:
                _step(model, mean_loss, batch, optimizer)
            fixed = 2 * sum(p.numel() * p.element_size() for p in model.parameters()) + _state(optimizer)
            most = (memory - fixed) / (2 * kept() / size) if kept() else math.inf
            if most < size:
                break
            while len(took) < STEPS or sum(took) < SECONDS:
                took.append(_step(model, mean_loss, batch, optimizer))
                if time.perf_counter() - started > seconds:
                    break
        except Exception as error:
            if not checks.out_of_memory(error):
                raise
            most = size / 2
            break
        found[size] = statistics.median(took)
        if time.perf_counter() - started + 2 * found[size] * (STEPS + 1) > seconds:
            break
        if critical is not None and _past(found, critical):
            break
        size *= 2
    return Throughput(found, most)


def _past(times: dict[int, float], critical: float) -> bool:
    """Whether larger batch sizes than those of `times` are not worth timing."""
    costs = [float(rules.time_to_target(size, step, critical)) for size, step in times.items()]
    return costs[-1] > WORSE * min(costs) or (len(costs) > 3 and min(costs[-3:]) > BETTER * min(costs[:-3]))


def _step(model: nn.Module, mean_loss: Forward, batch: Any, optimizer: torch.optim.Optimizer) -> float:
    start = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    objective.evaluate(model, mean_loss, batch).backward()
    optimizer.step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _state(optimizer: torch.optim.Optimizer) -> int:
    return sum(
        t.numel() * t.element_size()
        for state in optimizer.state.values()
        for t in state.values()
        if isinstance(t, Tensor)
    )
