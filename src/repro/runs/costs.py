"""How long trials take on this machine: steps and probes are timed for a moment, and multiplied."""

from __future__ import annotations

import dataclasses
import functools
import heapq
import itertools
import time
from collections.abc import Iterable, Sequence

from repro.probes import gradients
from repro.runs import runner, worker
from repro.training import data, engine
from repro.trial import Phase, Trial

TIMING_SECONDS = 0.2
# The field of a trial that a final probe's time grows with, along a line: timed at two small values of it, it is known
# at any. A probe that is not named here is timed as it is.
GROWS_WITH = {
    **dict.fromkeys((name for name in worker.PROBES if "sharpness" in name), "probe_examples"),
    **dict.fromkeys(("largest eigenvalue", "curvature"), "probe_examples"),
    "landscape": "train_size",
    "interpolation": "train_size",
    "rescaled": "train_size",
    "gradient tails": "draws",
}
TIMED_AT = {"train_size": (100, 500), "probe_examples": (100, 500), "draws": (8, 16)}
TRAINS_A_PARTNER = ("interpolation",)


def _seconds(stack: Sequence[Trial]) -> float:
    began = time.perf_counter()
    runner.run_stack(list(stack))
    return time.perf_counter() - began


@functools.cache
def _step_seconds(shape: Trial, size: int) -> float:
    """Seconds a step of a stack of `size` trials such as `shape`."""
    stack = [dataclasses.replace(shape, init_seed=seed, data_seed=seed) for seed in range(size)]
    _seconds(stack)  # first calls are slower
    start, steps, elapsed = _seconds(stack), 1, 0.0
    while elapsed < TIMING_SECONDS:
        steps *= 2 if steps == 1 else 4  # one more is enough where it is slow
        elapsed = _seconds([dataclasses.replace(t, steps=steps) for t in stack]) - start
    return elapsed / (steps - 1)


@functools.cache
def _probe_seconds(shape: Trial) -> float:
    """Seconds to build one such network and to measure all its probes, once."""
    return _seconds([shape]) / 2  # at the start and at the end


@functools.cache
def _final_probe_seconds(shape: Trial, name: str) -> float:
    """Seconds that one final probe takes at the end of such a trial, but for the training of a partner."""
    field = GROWS_WITH.get(name)
    of_all = {"train_size": shape.num_train, "draws": shape.draws}
    size = {**of_all, "probe_examples": shape.probe_examples or shape.num_train}.get(field or "", 0)
    low, high = TIMED_AT.get(field or "", (0, 0))

    def seconds(**changes: int | None) -> float:
        without = dataclasses.replace(shape, probes=(), **changes)  # type: ignore[arg-type]
        if name in TRAINS_A_PARTNER:
            without = dataclasses.replace(without, partner_batch_size=without.batch_size)
        began = _seconds([without])  # reads the data, too
        return max(_seconds([dataclasses.replace(without, final_probes=(name,))]) - began, 0.0)

    if size <= high:
        return seconds()
    small = {"batch_size": 2, "probe_examples": None}  # a training set of so many examples has as many to measure over
    changes = ({"draws": n} if field == "draws" else {**small, "train_size": n} for n in (low, high))
    at_low, at_high = (seconds(**change) for change in changes)
    return at_high + max(at_high - at_low, 0.0) * (size - high) / (high - low)


def estimate_stack(stack: Sequence[Trial]) -> float:
    """Seconds that one worker needs for the stack, if no trial of it diverges or meets its target."""
    trial = stack[0]
    data.of(trial)  # not part of the timing
    shape = dataclasses.replace(
        trial, epochs=None, steps=1, checkpoints=(), schedule=(), lr=1e-6, precision=engine.choose_precision(trial)
    )
    alike = {"init_seed": 0, "data_seed": 0, "momentum": 0.9 if trial.momentum else 0.0, "target_accuracy": None}
    shape = dataclasses.replace(shape, **alike, final_probes=(), partner_batch_size=None)  # type: ignore[arg-type]
    phases = [Phase(0, trial.lr, trial.batch_size), *trial.schedule]
    ends = [*(trial.step_at(p.epoch) for p in trial.schedule), trial.num_steps]
    total, done = 0.0, 0
    for phase, end in zip(phases, ends, strict=True):
        steps = max(min(end, trial.num_steps) - done, 0)
        bare = dataclasses.replace(shape, batch_size=phase.batch_size, probes=())
        total += steps * _step_seconds(bare, len(stack))
        done += steps
    few = next(b for b in itertools.count(2) if trial.num_train % b != 1)  # batch norm needs two in every batch
    small = dataclasses.replace(shape, batch_size=min(few, trial.num_train), precision="float32")
    total += len(stack) * len(trial.checkpoint_steps) * _probe_seconds(small)
    for name in trial.final_probes:
        if name in ("gradient norms", "gradient passes"):  # all but steps of batches of other sizes is little
            bare = dataclasses.replace(shape, probes=())
            passes = gradients.moving_steps(trial).items()
            each = sum(steps * _step_seconds(dataclasses.replace(bare, batch_size=b), 1) for b, steps in passes)
        else:
            each = _final_probe_seconds(small, name)
        if name in TRAINS_A_PARTNER and trial.partner_batch_size is not None:
            partner = dataclasses.replace(trial, batch_size=trial.partner_batch_size, checkpoints=())
            bare = dataclasses.replace(shape, batch_size=partner.batch_size, probes=())
            each += partner.num_steps * _step_seconds(bare, 1)
        total += len(stack) * each
    return total


def estimate(
    trials: Iterable[Trial], workers: int | None = None, progress: runner.Progress = lambda finished, total: None
) -> float:
    """Seconds until the last of `trials` has ended, on `workers` as fast as this process is now."""
    trials = list(trials)
    busy = [0.0] * max(runner.choose_workers(trials, None) if workers is None else workers, 1)
    stacks = runner.stacks(trials, len(busy))
    for i, stack in enumerate(stacks, start=1):
        heapq.heapreplace(busy, busy[0] + estimate_stack(stack))
        progress(i, len(stacks))
    return max(busy)
