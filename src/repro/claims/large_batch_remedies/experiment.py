"""Remedies for large batches: what is run."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from repro.evidence.spec import Scale, Settings
from repro.names import SpecError
from repro.trial import SEEDS, Phase, Sweep, Trial, paired_seeds

PLAIN, AUGMENTED, DROPOUT, CONSERVATIVE, ADVERSARIAL = (
    "no remedy",
    "augmentation",
    "dropout",
    "conservative training",
    "adversarial training",
)
FOUND = (AUGMENTED, CONSERVATIVE)  # of which the paper says that they help
OF_PAPER = (*FOUND, ADVERSARIAL)
REMEDIES = (*OF_PAPER, DROPOUT)  # the slides' is the last
SHAM = "as many steps a batch, without the pull"
STRONGER = "conservative training with a strong pull"
FASTER = "{} times the learning rate"
ARM, WARM, LONGER = "{}, {} batch", "{} epochs of the small batch first", "{}, large batch for longer"
SMALL, LARGE = "small", "large"

PAPER = {
    "dataset": "mnist",
    "train_size": 5000,
    "widths": (512,) * 5,  # F1
    "batch_sizes": (32, 500),  # the large one a tenth of the images, as in the paper
    "lr": 0.001,  # Adam's default
    "epochs": 100,
    "dropout": 0.2,
    "steps_per_batch": 3,  # of conservative training
    "pull": 1e-3,  # its λ; this and the number of steps as commonly cited of the paper
    "strong_pull": 1.0,
    "adversarial": 0.3,  # a tenth of the range of pixels, which are divided by 0.3
    "faster": (2, 4),  # times the learning rate, of the large batch alone
    "longer": 4,  # times the epochs, of the large batch with augmentation and without a remedy
    "warm": (1, 3, 10, 30),  # epochs of the small batch that a large one is started from
    "seeds": 10,  # of the arms that the verdict rests on
    "other_seeds": 5,  # at most, of the others
    "probe_examples": 1000,  # that sharpness is measured over
}
MNIST5K = {**PAPER, "dataset": "mnist5k", "train_size": 1000, "widths": (64, 64, 64), "batch_sizes": (10, 100)}
SETTINGS = {
    Scale.SMOKE: (
        {
            **MNIST5K,
            "train_size": 200,
            "widths": (8, 8),
            "batch_sizes": (10, 40),
            "epochs": 3,
            "warm": (1, 2),
            "seeds": 2,
            "probe_examples": 200,
        },
    ),
    Scale.LAPTOP: ({**MNIST5K, "epochs": 10, "warm": (1, 5), "seeds": 3, "probe_examples": 500},),
    # On Fashion-MNIST a pilot's large batch tested better than the small one: few seeds will tell.
    Scale.PAPER: (PAPER, {**PAPER, "dataset": "fashion-mnist", "seeds": 5}),
}


def tail(epochs: float) -> float:
    """Epochs at the end over which accuracy is averaged: a tenth."""
    return epochs / 10


def design(settings: Settings) -> list[Sweep]:
    """Both batch sizes with every remedy and without; the large one with as many steps a batch as conservative training
    makes, and no pull or a strong one; at higher learning rates; for longer, with augmentation and without; and from
    where the small one is after some epochs, with an optimizer that remembers nothing of it. Measured at the end of
    every epoch of the `tail`, and where the batch grows. The sharpness of each end by the published search and by one
    that does not depend on the scale of the loss, as the network is and with layers as long as at the start, batch norm
    taking the statistics of the batch."""
    if len(settings["batch_sizes"]) != 2 or sorted(set(settings["warm"])) != list(settings["warm"]):
        raise SpecError(f"batch_sizes {list(settings['batch_sizes'])}, warm {list(settings['warm'])}: two, and rising")
    small, large = sorted(settings["batch_sizes"])

    def looks(total: float, *others: float) -> tuple[float, ...]:
        return (*others, *(total - e for e in range(math.ceil(tail(settings["epochs"])) - 1, 0, -1)))

    many, few = settings["seeds"], min(settings["seeds"], settings["other_seeds"])

    base = Trial(
        dataset=settings["dataset"],
        train_size=settings["train_size"],
        widths=settings["widths"],
        batch_norm=True,
        norm_statistics="batch",
        norm_eps=1e-6,
        optimizer="adam",
        lr=settings["lr"],
        batch_size=small,
        epochs=settings["epochs"],
        checkpoints=looks(settings["epochs"]),
        drop_last=True,
        precision="float32",  # else large batches alone would be rounded
        probes=("fit",),
        final_probes=("sharpness", "scale-free sharpness", "sharpness, equal norms"),
        probe_examples=min(settings["probe_examples"], settings["train_size"]),
    )
    steps: dict[str, Any] = {"steps_per_batch": settings["steps_per_batch"]}
    changes: dict[str, dict[str, Any]] = {
        PLAIN: {},
        AUGMENTED: {"augmentation": "shift and rotate"},
        DROPOUT: {"dropout": settings["dropout"]},
        CONSERVATIVE: {**steps, "proximal": settings["pull"]},
        ADVERSARIAL: {"adversarial": settings["adversarial"]},
    }
    arms = {
        ARM.format(name, size): dataclasses.replace(base, batch_size=batch, **change)
        for name, change in changes.items()
        for size, batch in ((SMALL, small), (LARGE, large))
    }
    for name, pull in ((SHAM, 0.0), (STRONGER, settings["strong_pull"])):
        arms[ARM.format(name, LARGE)] = dataclasses.replace(base, batch_size=large, **steps, proximal=pull)
    for times in settings["faster"]:
        faster = dataclasses.replace(base, batch_size=large, lr=round(times * settings["lr"], 10))
        arms[ARM.format(FASTER.format(times), LARGE)] = faster
    for name in (PLAIN, AUGMENTED):
        total = settings["longer"] * settings["epochs"]
        arms[LONGER.format(name)] = dataclasses.replace(
            arms[ARM.format(name, LARGE)], epochs=total, checkpoints=looks(total)
        )
    for epoch in settings["warm"]:
        then = (Phase(epoch, settings["lr"], large),)
        total = epoch + settings["epochs"]
        seen = looks(total, float(epoch))
        warm = dataclasses.replace(base, epochs=total, schedule=then, checkpoints=seen, restart_with_phase=True)
        arms[WARM.format(epoch)] = warm
    first = [ARM.format(name, size) for name in (PLAIN, *FOUND) for size in (SMALL, LARGE)]
    return [Sweep(arm, spec, {SEEDS: paired_seeds(many if arm in first else few)}) for arm, spec in arms.items()]
