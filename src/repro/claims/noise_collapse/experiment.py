"""Noise collapse: what is run."""

from __future__ import annotations

import dataclasses
from typing import Any

from repro.evidence.spec import Scale, Settings
from repro.names import SpecError
from repro.trial import SEEDS, Sweep, Trial, paired_seeds, whole

GRID, LONGER, SLOW, MOMENTUM, SIZES, DECAY = "grid", "longer", "slow", "momentum", "training sets", "weight decay"
SMALL = 8  # times a batch must be smaller than the training set, to be small beside it
TIMES = 4  # times as much learning rate times steps as the grid: so long as `longer` trains

PAPER = {
    "dataset": "mnist",
    "train_size": 1000,
    "batch_sizes": (1, 2, 4, 8, 16, 32, 64, 128, 256, 512),  # and the whole training set
    "lr_halvings": (1, 2, 3, 4, 5),  # learning rates: ½ to the power of each
    "time": 256.0,  # learning rate times steps; at 64 few settings fit Fashion-MNIST
    "longer_halvings": (2, 2.5, 3, 3.5, 4, 4.5, 5),  # of small batches that train TIMES as long
    "slow_halvings": (6, 7, 8),  # of the largest small batch: at as little noise as large ones have
    "momentum": 0.9,
    "momentum_halvings": (3, 5),
    "train_sizes": (250, 500, 1000, 2000, 4000),
    "sizes_halvings": 3,  # the learning rate of training sets of other sizes
    "decay_halvings": 5,  # and of weight decays
    "decay_lowest": 1e-4,
    "decays": 5,  # weight decays, each four times the last
    "seeds": 10,
    "widths": (64,),
}
SETTINGS = {
    Scale.SMOKE: (
        {
            **PAPER,
            "dataset": "mnist5k",
            "train_size": 200,
            "batch_sizes": (1, 4, 16, 64),
            "lr_halvings": (1, 3, 5),
            "time": 16.0,
            "longer_halvings": (3,),
            "slow_halvings": (6,),
            "momentum_halvings": (3,),
            "train_sizes": (100, 400),
            "decays": 3,
            "seeds": 2,
            "widths": (16,),
        },
    ),
    Scale.LAPTOP: (
        {
            **PAPER,
            "dataset": "mnist5k",
            "batch_sizes": (1, 4, 16, 64, 256),
            "train_sizes": (250, 500, 1000, 2000),
            "lr_halvings": (2, 3, 4, 5),
            "longer_halvings": (2, 3, 4),
            "time": 32.0,
            "seeds": 3,
        },
    ),
    Scale.PAPER: (PAPER, {**PAPER, "dataset": "fashion-mnist"}),
}


Axes = dict[str | tuple[str, ...], Any]


def design(settings: Settings) -> list[Sweep]:
    """Every learning rate with every batch size, on a fixed subset of the images, for as much learning rate times
    steps (the time). Small batches for TIMES as long. The largest of them at lower rates. Small batches with momentum,
    at learning rates 1 - m as high. At one learning rate, for the longer time, training sets of other sizes; and weight
    decays, a knob that noise has nothing to do with. All are measured on a validation split, too."""
    size, time = settings["train_size"], settings["time"]
    base = Trial(
        dataset=settings["dataset"],
        train_size=size,
        widths=settings["widths"],
        evaluate_on="both",
        drop_last=True,
        probes=("fit",),
        steps=1,
    )
    axis = ("batch_size", "lr", "steps")
    seeds = Axes({SEEDS: paired_seeds(settings["seeds"])})
    few = [b for b in settings["batch_sizes"] if b * SMALL <= size]
    if len(few) < 2 or max(settings["batch_sizes"]) > size:
        raise SpecError(
            f"batch_sizes {list(settings['batch_sizes'])}: must be no larger than the {size} training examples, and "
            f"two of them no larger than an eighth of those"
        )

    def points(sizes: Any, halvings: Any, times: float = 1.0, factor: float = 1.0) -> list[tuple[int, float, int]]:
        return [(b, round(factor * 0.5**k, 10), round(times * time * 2**k)) for k in halvings for b in sizes]

    heavy, m = whole("decays", settings["decays"]), settings["momentum"]
    sweeps = [
        Sweep(GRID, base, {axis: points((*settings["batch_sizes"], size), settings["lr_halvings"]), **seeds}),
        Sweep(LONGER, base, {axis: points(few, settings["longer_halvings"], TIMES), **seeds}),
        Sweep(SLOW, base, {axis: points(few[-1:], settings["slow_halvings"]), **seeds}),
        Sweep(
            MOMENTUM,
            dataclasses.replace(base, momentum=m),
            {axis: points(few, settings["momentum_halvings"], factor=1 - m), **seeds},
        ),
        Sweep(
            DECAY,
            base,
            {
                axis: points(few, [settings["decay_halvings"]]),
                "weight_decay": [round(settings["decay_lowest"] * 4**k, 10) for k in range(heavy)],
                **seeds,
            },
        ),
    ]
    for other in settings["train_sizes"]:
        spec = dataclasses.replace(base, train_size=other)
        sizes = [b for b in settings["batch_sizes"] if b * SMALL <= other]
        sweeps.append(Sweep(SIZES, spec, {axis: points(sizes, [settings["sizes_halvings"]], TIMES), **seeds}))
    return sweeps
