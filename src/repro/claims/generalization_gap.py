"""Shen: "higher batch sizes lead to lower asymptotic test accuracy"; at equal epochs, or at all?"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from repro.spec import (
    SEEDS,
    Claim,
    Outcome,
    Published,
    Scale,
    Settings,
    Sweep,
    Trial,
    Verdict,
    paired_seeds,
)
from repro.stats import equivalence_p, paired_difference, paired_values

EQUAL_EPOCHS, EQUAL_STEPS = "equal epochs", "equal steps"
MARGIN = 0.3  # percentage points: two test accuracies closer than this count as the same
SMALL_BATCH_SEEDS = 3  # at most, below B=16, where a run costs a hundred times as much

PAPER = {
    "dataset": "mnist",
    "batch_sizes": (2, 16, 64, 256, 1024, 4096),
    "equal_steps_batch_sizes": (16, 64, 256, 1024),
    "base_batch_size": 64,
    "lr": 0.01,
    "epochs": 30,
    "seeds": 10,
    "widths": (1024, 1024),
}
SETTINGS = {
    Scale.SMOKE: (
        {
            **PAPER,
            "dataset": "mnist5k",
            "batch_sizes": (16, 64, 256),
            "equal_steps_batch_sizes": (64, 256),
            "lr": 0.05,
            "epochs": 2,
            "seeds": 2,
            "widths": (32,),
        },
    ),
    Scale.LAPTOP: (
        {
            **PAPER,
            "dataset": "mnist5k",
            "batch_sizes": (4, 16, 64, 256, 1024),
            "lr": 0.05,
            "epochs": 20,
            "seeds": 5,
            "widths": (128,),
        },
    ),
    Scale.PAPER: (PAPER, {**PAPER, "dataset": "fashion-mnist", "seeds": 3}),
}


def checkpoints(epochs: float) -> tuple[float, ...]:
    """1, 2, 5, 10, 20, 50 … epochs, below the budget."""
    return tuple(m * 10.0**e for e in range(5) for m in (1, 2, 5) if m * 10**e < epochs)


def design(settings: Settings) -> list[Sweep]:
    """Equal epochs: every batch size for `epochs`. Equal steps: `epochs` in proportion to the batch size,
    so that every arm takes the steps of the base batch size, to within one step an epoch."""
    base = Trial(dataset=settings["dataset"], widths=settings["widths"], lr=settings["lr"], epochs=1)
    sweeps = []
    for arm, sizes in (
        (EQUAL_EPOCHS, settings["batch_sizes"]),
        (EQUAL_STEPS, settings["equal_steps_batch_sizes"]),
    ):
        for size in sizes:
            stretch = size / settings["base_batch_size"] if arm == EQUAL_STEPS else 1
            epochs = settings["epochs"] * stretch
            seeds = min(settings["seeds"], SMALL_BATCH_SEEDS) if size < 16 else settings["seeds"]
            sweeps.append(
                Sweep(
                    arm,
                    base,
                    {
                        ("batch_size", "epochs", "checkpoints"): [(size, epochs, checkpoints(epochs))],
                        SEEDS: paired_seeds(range(seeds)),
                    },
                )
            )
    return sweeps
