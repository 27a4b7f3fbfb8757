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
WHOLE, GHOSTS, NONE, SMALLER = "whole batches", "ghosts", "no batch norm", "smaller ghosts"
NORMS = (WHOLE, GHOSTS, NONE)
EPOCHS, STEPS, FASTER = "as many epochs", "as many steps", "as many epochs at a higher rate"
ARM = "{}, {}, {}"  # network, norm, budget
RATES, STARTS = "learning rates, {}", "starts, {}"  # of the perceptron, with and without
ROOT, TWICE = "√2 times the learning rate", "twice the epochs"  # which the released code gives to ghosts alone
SHARED: Mapping[str, Mapping[str, Any]] = {  # and what it gives to all
    "momentum begins anew every epoch": {"restart_optimizer": True},
    "gradients cut to a norm of 5": {"max_gradient_norm": 5.0},
}
BEST_EPOCH = "the best epoch by the test set"

PAPER = {
    "dataset": "mnist",
    "train_size": 10_240,  # of which either batch size takes all
    "networks": NETWORKS,
    "batch_sizes": (128, 1024),
    "ghost_size": 128,
    "smaller_ghosts": 32,
    "lr": 0.01,  # per step, the same for all
    "momentum": 0.9,
    "epochs": 10,
    "lr_steps": 6,  # of the grids, from a quarter of lr on, each twice the last
    "seeds": 10,  # of the perceptron with batch norm, on which the verdict rests
    "other_seeds": 10,  # at most, of the others
    "few_seeds": 5,  # at most, of learning rates
    "widths": (512,) * 5,  # F1
}
MNIST5K = {
    **PAPER,
    "dataset": "mnist5k",
    "train_size": 2048,
    "batch_sizes": (32, 256),
    "ghost_size": 32,
    "smaller_ghosts": 8,
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
            "smaller_ghosts": 10,
            "epochs": 2,
            "lr_steps": 3,
            "seeds": 2,
            "widths": (16, 16),
        },
    ),
    Scale.LAPTOP: ({**MNIST5K, "networks": NETWORKS[:1], "seeds": 3},),
    # Of Fashion-MNIST's test images two networks of a pilot disagreed on six times as many as of MNIST's.
    Scale.PAPER: (PAPER, {**PAPER, "dataset": "fashion-mnist", "seeds": 20}),
}


Fields = dict[str, dict[str, Any]]


def design(settings: Settings) -> list[Sweep]:
    """Small batches and large ones, as many epochs; large ones for as many steps as small ones take: with batch norm
    over whole batches, over ghosts of them, and without. Of the perceptron besides: smaller ghosts, for as many steps;
    both with the learning rate times the root of how much larger the batch is, for as many epochs; of ghosts, what the
    released code gives to them alone, and to all; and, of the small batch with batch norm and without, learning rates
    and starts."""
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
        SMALLER: {"batch_norm": True, "ghost_size": settings["smaller_ghosts"]},
        NONE: {},
    }
    limits = ("seeds", "other_seeds", "few_seeds")
    many, some, few = (paired_seeds(min(settings["seeds"], settings[name])) for name in limits)

    def trial(network: str, norm: str, size: int, **changes: Any) -> Trial:
        fields = {**of_network[network], **of_norm[norm], "batch_size": size, **changes}
        return dataclasses.replace(base, **fields)

    sweeps = []
    for network in settings["networks"]:
        choose("network", network, NETWORKS)
        steps = trial(network, NONE, small).num_steps
        for norm in NORMS:
            sizes = (large,) if norm == GHOSTS else (small, large)  # of small batches each is a ghost
            seeds = many if network == NETWORKS[0] and norm != NONE else some
            spec = trial(network, norm, large)
            sweeps.append(Sweep(ARM.format(network, norm, EPOCHS), spec, {"batch_size": sizes, SEEDS: seeds}))
            longer = trial(network, norm, large, epochs=None, steps=steps)
            sweeps.append(Sweep(ARM.format(network, norm, STEPS), longer, {SEEDS: seeds}))
    first, lr = NETWORKS[0], settings["lr"]
    rates = [lr * 2.0 ** (k - 2) for k in range(whole("lr_steps", settings["lr_steps"]))]
    higher = {"lr": round(lr * math.sqrt(large / small), 10)}
    for norm in (WHOLE, GHOSTS):
        sweeps.append(Sweep(ARM.format(first, norm, FASTER), trial(first, norm, large, **higher), {SEEDS: some}))
    of_small = trial(first, SMALLER, large, epochs=None, steps=trial(first, NONE, small).num_steps)
    sweeps.append(Sweep(ARM.format(first, SMALLER, STEPS), of_small, {SEEDS: some}))
    each = tuple(float(e) for e in range(1, epochs))
    given = {ROOT: {"lr": round(lr * math.sqrt(2), 10)}, TWICE: {"epochs": 2 * epochs}, **SHARED}
    for name, changes in (given | {BEST_EPOCH: {"checkpoints": each}}).items():
        sweeps.append(Sweep(name, trial(first, GHOSTS, large, **changes), {SEEDS: some}))
    for norm in (WHOLE, NONE):
        spec = trial(first, norm, small)
        sweeps.append(Sweep(RATES.format(norm), spec, {"lr": rates, SEEDS: few}))
        sweeps.append(Sweep(STARTS.format(norm), spec, {"init": INITS, SEEDS: some}))
    return sweeps
