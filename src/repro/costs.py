"""How long trials take on this machine: steps and probes are timed for a moment, and multiplied."""

from __future__ import annotations

import dataclasses
import functools
import heapq
import itertools
import time
from collections.abc import Iterable, Sequence

from repro import data, engine, runner
from repro.trial import Phase, Trial

TIMING_SECONDS = 0.2


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
        steps *= 4
        elapsed = _seconds([dataclasses.replace(t, steps=steps) for t in stack]) - start
    return elapsed / (steps - 1)


@functools.cache
def _probe_seconds(shape: Trial) -> float:
    """Seconds to build one such network and to measure all its probes, once."""
    return _seconds([shape]) / 2  # at the start and at the end


def estimate_stack(stack: Sequence[Trial]) -> float:
    """Seconds that one worker needs for the stack, if no trial of it diverges."""
    trial = stack[0]
    data.load(trial.dataset, trial.preprocessing, trial.train_size, trial.evaluate_on)  # not part of the timing
    shape = dataclasses.replace(
        trial, epochs=None, steps=1, checkpoints=(), schedule=(), lr=1e-6, precision=engine.choose_precision(trial)
    )
    shape = dataclasses.replace(shape, init_seed=0, data_seed=0, momentum=0.9 if trial.momentum else 0.0)
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
    return total + len(stack) * len(trial.checkpoint_steps) * _probe_seconds(small)


def estimate(trials: Iterable[Trial], workers: int | None = None) -> float:
    """Seconds until the last of `trials` has ended, on `workers` as fast as this process is now."""
    trials = list(trials)
    busy = [0.0] * max(runner.choose_workers(trials, workers), 1)
    for stack in runner.stacks(trials, len(busy)):
        heapq.heapreplace(busy, busy[0] + estimate_stack(stack))
    return max(busy)
