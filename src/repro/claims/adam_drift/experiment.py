"""Adam's drift: what is run."""

from __future__ import annotations

import dataclasses

from repro.evidence.spec import Scale, Settings, log_checkpoints
from repro.names import choose
from repro.trial import SEEDS, Sweep, Trial, paired_seeds, whole

PUBLISHED_SGD, PUBLISHED_ADAM = "SGD, as published", "Adam, as published"
COMPARED = ("SGD", "Adam")
TUNED = {"SGD": "SGD, tuned", "Adam": "Adam, tuned"}  # arms
OPTIMIZERS = {
    "SGD": {"optimizer": "sgd"},
    "momentum": {"optimizer": "sgd", "momentum": 0.9},
    "Nesterov": {"optimizer": "nesterov", "momentum": 0.9},
    "AdaGrad": {"optimizer": "adagrad"},
    "RMSProp": {"optimizer": "rmsprop"},
    "Adam": {"optimizer": "adam"},
    "AdamW": {"optimizer": "adamw", "weight_decay": 0.01},
    "SGD, L2": {"optimizer": "sgd", "weight_decay": 5e-4},
    "Adam, L2": {"optimizer": "adam", "weight_decay": 5e-4},
}

DEFAULTS = {"AdaGrad": 0.01, "RMSProp": 0.01}  # learning rates of torch.optim, 0.001 for all others

PAPER = {
    "dataset": "mnist",
    "optimizers": tuple(OPTIMIZERS),
    "lr": 0.01,  # as published, of both
    "batch_size": 64,
    "epochs": 30,
    "sgd_lowest": -3,  # where the two that are compared are tuned from, in half decades: 10^-1.5
    "adam_lowest": -9,
    "tuned_steps": 4,  # half decades
    "lr_lowest": -5,  # exponents of ten, of the grid of all optimizers
    "lr_highest": 0,
    "grid_epochs": 10,
    "seeds": 5,
    "grid_seeds": 3,  # at most, of the two that are compared; the others are run once
    "widths": (1024, 1024),
}

MNIST5K = {**PAPER, "dataset": "mnist5k", "batch_size": 32}

SETTINGS = {
    Scale.SMOKE: (
        {
            **MNIST5K,
            "optimizers": ("SGD", "momentum", "Adam"),
            "batch_size": 128,
            "epochs": 10,
            "sgd_lowest": -2,
            "adam_lowest": -6,
            "tuned_steps": 3,
            "lr_lowest": -4,
            "lr_highest": 0,
            "grid_epochs": 1,
            "seeds": 2,
            "widths": (32, 32),
        },
    ),
    Scale.LAPTOP: (
        {
            **MNIST5K,
            "epochs": 10,
            "lr_lowest": -4,
            "lr_highest": 0,
            "grid_epochs": 3,
            "seeds": 3,
            "grid_seeds": 1,
            "widths": (64, 64),
        },
    ),
    Scale.PAPER: (PAPER, {**PAPER, "dataset": "fashion-mnist", "seeds": 3, "optimizers": COMPARED}),
}


def rates(settings: Settings, name: str) -> list[float]:
    """The grid of learning rates of an optimizer, per step."""
    lowest, highest = settings["lr_lowest"], settings["lr_highest"]
    between = [float(f"3e{k}") for k in range(lowest, highest)] if name in COMPARED else []
    return sorted([*(float(f"1e{k}") for k in range(lowest, highest + 1)), *between])


def half_decades(lowest: int, steps: int) -> list[float]:
    """Learning rates from 10 to the power `lowest`/2 on, to three figures."""
    return [float(f"{10 ** (k / 2):.3g}") for k in range(lowest, lowest + steps)]


def design(settings: Settings) -> list[Sweep]:
    """SGD and Adam as published, at one learning rate, evaluated on the test set. The same two tuned in half decades,
    for as many epochs, evaluated on a validation split and on the test set, without the smaller batch at an epoch's
    end. And, as a picture, shorter runs of every optimizer over decades of learning rates."""
    for name in settings["optimizers"]:
        choose("optimizer", name, OPTIMIZERS)
    epochs, seeds = settings["epochs"], settings["seeds"]
    published = Trial(
        dataset=settings["dataset"],
        widths=settings["widths"],
        batch_size=settings["batch_size"],
        lr=settings["lr"],
        epochs=epochs,
        checkpoints=log_checkpoints(epochs),
    )
    tuned = dataclasses.replace(published, evaluate_on="both", drop_last=True, checkpoints=())
    short = dataclasses.replace(tuned, epochs=settings["grid_epochs"], drop_last=False)
    steps = whole("tuned_steps", settings["tuned_steps"])

    def grid_of(name: str) -> Sweep:
        runs = min(seeds, settings["grid_seeds"] if name in COMPARED else 1)
        base = dataclasses.replace(short, **OPTIMIZERS[name])  # type: ignore[arg-type]
        return Sweep(name, base, {"lr": rates(settings, name), SEEDS: paired_seeds(runs)})

    def tuned_of(name: str, lowest: int) -> Sweep:
        base = dataclasses.replace(tuned, **OPTIMIZERS[name])  # type: ignore[arg-type]
        return Sweep(TUNED[name], base, {"lr": half_decades(lowest, steps), SEEDS: paired_seeds(seeds)})

    return [
        Sweep(PUBLISHED_SGD, published, {SEEDS: paired_seeds(seeds)}),
        Sweep(PUBLISHED_ADAM, dataclasses.replace(published, optimizer="adam"), {SEEDS: paired_seeds(seeds)}),
        tuned_of("SGD", settings["sgd_lowest"]),
        tuned_of("Adam", settings["adam_lowest"]),
        *(grid_of(name) for name in settings["optimizers"]),
    ]
