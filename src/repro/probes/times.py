"""Probe of step times: how long a step takes on this machine, by batch size, in a plain PyTorch loop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from repro.advice.throughput import throughput
from repro.training import models, optimizers
from repro.training.data import Dataset
from repro.trial import Trial

LARGEST = 16384  # batch size that is timed


def _mean_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return functional.cross_entropy(model(batch[0]), batch[1])


def step_times(model: nn.Module, initial: Mapping[str, Tensor], dataset: Dataset, trial: Trial) -> dict[str, Any]:
    """Probe: `run_step_seconds`, what one step of a new network of this kind takes, in float32, as the adviser times
    it; by `timed_batch_size`, powers of two up to LARGEST or to the training set. Seconds belong to the machine: a
    column `run_…`, which an audit does not compare."""
    new = models.build(trial)
    found = throughput(
        new,
        _mean_loss,
        (dataset.x_train, dataset.y_train),
        optimizers.make_optimizer(trial, new),
        largest=min(LARGEST, len(dataset.y_train)),
        critical=None,
        seconds=math.inf,
        memory=math.inf,
        random=torch.Generator().manual_seed(trial.data_seed),
    )
    return {"timed_batch_size": list(found.seconds), "run_step_seconds": list(found.seconds.values())}
