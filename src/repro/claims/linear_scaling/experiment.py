"""Linear scaling: what is run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from repro.evidence.spec import Scale, Settings
from repro.trial import SEEDS, Sweep, Trial, paired_seeds, whole

SGD, WARM, FLOAT32 = "SGD", "SGD, warm-up", "SGD, in float32"
FLOAT32_FROM = 256  # the engine rounded to bfloat16 from here on, as the first of the paper-scale runs were made
ADAM, MALLADI = "Adam", "Adam, rescaled"

EARLY, LATE_PART = 2, 0.1  # training loss is read over the last tenth of the second epoch
READ = tuple(round(EARLY - LATE_PART * (1 - k / 4), 3) for k in range(5))  # at these epochs, of which it is the mean

PAPER = {
    "dataset": "mnist",
    "batch_sizes": tuple(2**k for k in range(15)),
    "lr": 2.0**-12,  # where the grid of batch size 1 begins
    "lr_factor": math.sqrt(2),  # from one learning rate of the grid to the next
    "lr_steps": 13,
    "lr_rises_to": 128,  # the grid begins higher in proportion to the batch size, up to this one
    "epochs": 5,
    "warmup_epochs": 1,
    "seeds": 5,
    "widths": (256,),
    "adam_batch_sizes": (16, 32, 64, 128, 256, 512),
    "adam_lr": 2.0**-14,
    "adam_lr_steps": 9,  # each twice the last
    "adam_seeds": 3,
}

MNIST5K = {**PAPER, "dataset": "mnist5k", "widths": (64,), "seeds": 3, "lr_factor": 2.0}

SETTINGS = {
    Scale.SMOKE: (
        {
            **MNIST5K,
            "batch_sizes": (8, 16, 32, 128),
            "lr": 2.0**-8,
            "lr_steps": 5,
            "lr_rises_to": 32,
            "epochs": 3,
            "seeds": 2,
            "widths": (16,),
            "adam_batch_sizes": (128, 512),
            "adam_lr": 2.0**-11,
            "adam_lr_steps": 3,
            "adam_seeds": 2,
        },
    ),
    Scale.LAPTOP: (
        {
            **MNIST5K,
            "batch_sizes": tuple(2**k for k in range(11)),
            "lr": 2.0**-10,
            "lr_steps": 7,
            "lr_rises_to": 32,
            "epochs": 3,
            "adam_batch_sizes": (32, 64, 128, 256),
            "adam_lr": 2.0**-11,
            "adam_lr_steps": 6,
        },
    ),
    Scale.PAPER: (PAPER, {**PAPER, "dataset": "fashion-mnist"}),
}


def design(settings: Settings) -> list[Sweep]:
    """SGD: every batch size at the learning rates of its grid. Warm-up: the same at the largest batch size. In float32:
    the same at B = 256, or the largest there is. Adam: a coarser grid, as it is and with 1 - β₁, 1 - β₂ multiplied by κ
    and ε divided by √κ, where the batch size is κ times the smallest (Malladi et al. 2022, definition 1). All are
    evaluated on a validation split, and on the test set too, and all leave out the last, smaller batch of an epoch."""
    epochs = settings["epochs"]
    base = Trial(
        dataset=settings["dataset"],
        evaluate_on="both",
        widths=settings["widths"],
        epochs=epochs,
        probes=("fit",),
        checkpoints=tuple(e for e in (1, *READ, 3, 4) if e < epochs),
        drop_last=True,
    )

    def rates(lowest: float, factor: float, steps: int) -> list[float]:
        return [round(lowest * factor**k, 10) for k in range(whole("lr_steps", steps))]

    def grid(*sizes: int) -> dict[Any, Sequence[Any]]:
        """Batch sizes with the learning rates of each, at every seed."""
        lowest = {size: settings["lr"] * min(size, settings["lr_rises_to"]) for size in sizes}
        pairs = [
            (size, lr) for size in sizes for lr in rates(lowest[size], settings["lr_factor"], settings["lr_steps"])
        ]
        return {("batch_size", "lr"): pairs, SEEDS: paired_seeds(settings["seeds"])}

    sizes, adam_sizes = settings["batch_sizes"], settings["adam_batch_sizes"]
    rounded = [size for size in sizes if size >= FLOAT32_FROM]
    adam = dataclasses.replace(base, optimizer="adam")
    adam_grid = rates(settings["adam_lr"], 2, settings["adam_lr_steps"])
    adam_seeds = paired_seeds(min(settings["seeds"], settings["adam_seeds"]))
    kappas = [size / min(adam_sizes) for size in adam_sizes]
    rescaled = [
        (size, 1 - k * (1 - adam.beta1), 1 - k * (1 - adam.beta2), adam.eps / math.sqrt(k))
        for size, k in zip(adam_sizes, kappas, strict=True)
        if k * (1 - adam.beta1) <= 1
    ]
    return [
        Sweep(SGD, base, grid(*sizes)),
        Sweep(WARM, dataclasses.replace(base, warmup_epochs=settings["warmup_epochs"]), grid(max(sizes))),
        Sweep(FLOAT32, dataclasses.replace(base, precision="float32"), grid(min(rounded, default=max(sizes)))),
        Sweep(ADAM, adam, {"batch_size": adam_sizes, "lr": adam_grid, SEEDS: adam_seeds}),
        Sweep(MALLADI, adam, {("batch_size", "beta1", "beta2", "eps"): rescaled, "lr": adam_grid, SEEDS: adam_seeds}),
    ]
