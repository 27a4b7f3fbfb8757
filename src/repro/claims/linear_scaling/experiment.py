"""Linear scaling: what is run."""

from __future__ import annotations

import dataclasses
import math

from repro.evidence.spec import Scale, Settings
from repro.training.engine import BFLOAT16_MIN_BATCH_SIZE
from repro.trial import SEEDS, Sweep, Trial, paired_seeds, whole

SGD, WARM, FLOAT32 = "SGD", "SGD, warm-up", "SGD, in float32"
ADAM, MALLADI = "Adam", "Adam, rescaled"

PAPER = {
    "dataset": "mnist",
    "batch_sizes": tuple(2**k for k in range(4, 16)),
    "lr": 2.0**-7,  # where the grid begins
    "lr_factor": math.sqrt(2),  # from one learning rate of the grid to the next
    "lr_steps": 18,
    "epochs": 10,
    "warmup_epochs": 2,
    "seeds": 5,
    "widths": (256,),
    "adam_batch_sizes": (64, 128, 256, 512),
    "adam_lr": 2.0**-13,
    "adam_lr_steps": 7,  # each twice the last
    "adam_seeds": 3,
}

MNIST5K = {**PAPER, "dataset": "mnist5k", "widths": (64,), "seeds": 3}

SETTINGS = {
    Scale.SMOKE: (
        {
            **MNIST5K,
            "batch_sizes": (64, 256, 1024),
            "lr": 0.04,
            "lr_factor": 2.0,
            "lr_steps": 5,
            "epochs": 2,
            "warmup_epochs": 1,
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
            "batch_sizes": tuple(2**k for k in range(4, 11)),
            "lr": 2.0**-6,
            "lr_factor": 2.0,
            "lr_steps": 8,
            "epochs": 5,
            "warmup_epochs": 1,
            "adam_batch_sizes": (32, 64, 128, 256),
            "adam_lr": 2.0**-11,
            "adam_lr_steps": 6,
        },
    ),
    Scale.PAPER: (
        PAPER,
        {**PAPER, "dataset": "fashion-mnist", "seeds": 3, "adam_lr": 2.0**-15, "adam_lr_steps": 9},  # best is lower
    ),
}


def design(settings: Settings) -> list[Sweep]:
    """SGD: every batch size at every learning rate. Warm-up: the same at the largest batch size. In float32: the same
    at the smallest batch size that the engine may multiply in bfloat16. Adam: a coarser grid, as it is and with
    1 - β₁, 1 - β₂ multiplied by κ and ε divided by √κ, where the batch size is κ times the smallest (Malladi et al.
    2022, definition 1). All are evaluated on a validation split, and on the test set too."""
    epochs = settings["epochs"]
    base = Trial(
        dataset=settings["dataset"],
        evaluate_on="both",
        widths=settings["widths"],
        epochs=epochs,
        probes=("fit",),
        checkpoints=tuple(e for e in (1, 2, 3, 5, 7) if e < epochs),
    )

    def rates(lowest: float, factor: float, steps: int) -> list[float]:
        return [round(lowest * factor**k, 10) for k in range(whole("lr_steps", steps))]

    grid = rates(settings["lr"], settings["lr_factor"], settings["lr_steps"])
    seeds = paired_seeds(settings["seeds"])
    sizes, adam_sizes = settings["batch_sizes"], settings["adam_batch_sizes"]
    rounded = [size for size in sizes if size >= BFLOAT16_MIN_BATCH_SIZE]
    adam = Trial(**{**vars(base), "optimizer": "adam", "checkpoints": ()})
    adam_grid = rates(settings["adam_lr"], 2, settings["adam_lr_steps"])
    adam_seeds = paired_seeds(min(settings["seeds"], settings["adam_seeds"]))
    kappas = [size / min(adam_sizes) for size in adam_sizes]
    rescaled = [
        (size, 1 - k * (1 - adam.beta1), 1 - k * (1 - adam.beta2), adam.eps / math.sqrt(k))
        for size, k in zip(adam_sizes, kappas, strict=True)
        if k * (1 - adam.beta1) <= 1
    ]
    return [
        Sweep(SGD, base, {"batch_size": sizes, "lr": grid, SEEDS: seeds}),
        Sweep(
            WARM,
            base,
            {"batch_size": [max(sizes)], "warmup_epochs": [settings["warmup_epochs"]], "lr": grid, SEEDS: seeds},
        ),
        Sweep(
            FLOAT32,
            dataclasses.replace(base, precision="float32"),
            {"batch_size": [min(rounded, default=max(sizes))], "lr": grid, SEEDS: seeds},
        ),
        Sweep(ADAM, adam, {"batch_size": adam_sizes, "lr": adam_grid, SEEDS: adam_seeds}),
        Sweep(
            MALLADI,
            adam,
            {("batch_size", "beta1", "beta2", "eps"): rescaled, "lr": adam_grid, SEEDS: adam_seeds},
        ),
    ]
