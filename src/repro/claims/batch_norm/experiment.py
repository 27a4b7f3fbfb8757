"""Batch norm: what is run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from repro.evidence.spec import Scale, Settings
from repro.names import INITS, SpecError, choose
from repro.trial import SEEDS, Sweep, Trial, paired_seeds, whole

NETWORKS = ("perceptron", "LeNet-5")  # the first carries the verdict
WHOLE, GHOSTS, NONE = "whole batches", "ghosts", "no batch norm"
NORMS = (WHOLE, GHOSTS, NONE)
EPOCHS, STEPS = "as many epochs", "as many steps"
ARM = "{}, {}, {}"  # network, norm, budget
RATES, STARTS = "learning rates, {}", "starts, {}"  # of the perceptron, with and without
CONFOUNDS: Mapping[str, Mapping[str, Any]] = {
    "√2 times the learning rate": {},
    "momentum begins anew every epoch": {"restart_optimizer": True},
    "gradients cut to a norm of 5": {"max_gradient_norm": 5.0},
}
BEST_EPOCH = "the best epoch by the test set"

PAPER = {
    "dataset": "mnist",
    "train_size": 10_000,
    "networks": NETWORKS,
    "batch_sizes": (128, 1024),
    "ghost_size": 128,
    "lr": 0.01,  # per step, the same for all
    "momentum": 0.9,
    "epochs": 10,
    "lr_steps": 6,  # of the grids, from a quarter of lr on, each twice the last
    "seeds": 10,
    "few_seeds": 5,  # at most, of grids and starts
    "widths": (512,) * 5,  # F1
}
MNIST5K = {
    **PAPER,
    "dataset": "mnist5k",
    "train_size": 2000,
    "batch_sizes": (32, 256),
    "ghost_size": 32,
    "widths": (64, 64),
}
SETTINGS = {
    Scale.SMOKE: (
        {
            **MNIST5K,
            "train_size": 400,
            "networks": NETWORKS[:1],
            "batch_sizes": (20, 100),
            "ghost_size": 20,
            "epochs": 2,
            "lr_steps": 3,
            "seeds": 2,
            "widths": (16, 16),
        },
    ),
    Scale.LAPTOP: ({**MNIST5K, "networks": NETWORKS[:1], "seeds": 3},),
    Scale.PAPER: (PAPER, {**PAPER, "dataset": "fashion-mnist"}),
}


Fields = dict[str, dict[str, Any]]


def design(settings: Settings) -> list[Sweep]:
    """Small batches and large ones, as many epochs; large ones for as many steps as small ones take: with batch norm
    over whole batches, over ghosts of them, and without. Beside them, of the large batch with ghosts, what the released
    code gives to ghosts alone; and, of the small batch with batch norm and without, learning rates and starts."""
    small, large = settings["batch_sizes"][0], settings["batch_sizes"][-1]
    if not settings["ghost_size"] <= small < large:
        raise SpecError(
            f"batch_sizes {list(settings['batch_sizes'])}: must be two, rising, the first no smaller than the "
            f"{settings['ghost_size']} of a ghost"
        )
    epochs = settings["epochs"]
    base = Trial(
        dataset=settings["dataset"],
        train_size=settings["train_size"],
        evaluate_on="both",
        drop_last=True,
        lr=settings["lr"],
        momentum=settings["momentum"],
        epochs=epochs,
        probes=("fit",),
        precision="float32",  # else large batches alone would be rounded, and their statistics with them
    )
    of_network: dict[str, dict[str, Any]] = {
        "perceptron": {"widths": settings["widths"]},
        "LeNet-5": {"model": "lenet5"},
    }
    of_norm = {
        WHOLE: {"batch_norm": True},
        GHOSTS: {"batch_norm": True, "ghost_size": settings["ghost_size"]},
        NONE: {},
    }
    many, few = (paired_seeds(min(settings["seeds"], settings[name])) for name in ("seeds", "few_seeds"))

    def trial(network: str, norm: str, size: int, **changes: Any) -> Trial:
        fields = {**of_network[network], **of_norm[norm], "batch_size": size, **changes}
        return dataclasses.replace(base, **fields)

    sweeps = []
    for network in settings["networks"]:
        choose("network", network, NETWORKS)
        steps = trial(network, NONE, small).num_steps
        for norm in NORMS:
            sizes = (large,) if norm == GHOSTS else (small, large)  # of small batches each is a ghost
            spec = trial(network, norm, large)
            sweeps.append(Sweep(ARM.format(network, norm, EPOCHS), spec, {"batch_size": sizes, SEEDS: many}))
            longer = trial(network, norm, large, epochs=None, steps=steps)
            sweeps.append(Sweep(ARM.format(network, norm, STEPS), longer, {SEEDS: many}))
    first, lr = NETWORKS[0], settings["lr"]
    rates = [lr * 2.0 ** (k - 2) for k in range(whole("lr_steps", settings["lr_steps"]))]
    for name, changes in CONFOUNDS.items():
        more = changes or {"lr": round(lr * math.sqrt(2), 10)}
        sweeps.append(Sweep(name, trial(first, GHOSTS, large, **more), {SEEDS: many}))
    each = tuple(float(e) for e in range(1, epochs))
    sweeps.append(Sweep(BEST_EPOCH, trial(first, GHOSTS, large, checkpoints=each), {SEEDS: many}))
    for norm in (WHOLE, NONE):
        spec = trial(first, norm, small)
        sweeps.append(Sweep(RATES.format(norm), spec, {"lr": rates, SEEDS: few}))
        sweeps.append(Sweep(STARTS.format(norm), spec, {"init": INITS, SEEDS: few}))
    return sweeps
