"""Adaptive methods: what is run, on the constructed examples and on images."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pandas as pd

from repro.claims.adam_drift.experiment import OPTIMIZERS, half_decades
from repro.evidence.spec import Scale, Settings
from repro.names import choose
from repro.theory import adaptive
from repro.trial import SEEDS, Phase, Sweep, Trial, paired_seeds, whole

DESCENT, ADAPTIVE = ("SGD", "momentum", "Nesterov"), ("AdaGrad", "RMSProp", "Adam", "AdamW")
# Where each is tuned from, in half decades: -3 is 10^-1.5.
LOWEST = {"SGD": -3, "momentum": -5, "Nesterov": -5, "AdaGrad": -6, "RMSProp": -8, "Adam": -8, "AdamW": -8}
COMPARED = ("momentum", "Adam")  # whom the slides compare
DECAYED = "{}, decayed"
DECAY, LATE = 0.1, 0.7  # by what the learning rate falls once, and after what share of the epochs
PAPER = {
    "dataset": "mnist",
    "optimizers": tuple(LOWEST),
    "batch_size": 64,
    "epochs": 10,
    "tuned_steps": 5,  # half decades
    "seeds": 10,  # of the two that are compared
    "other_seeds": 5,  # at most, of the others
    "widths": (256,),
}
MNIST5K = {**PAPER, "dataset": "mnist5k", "batch_size": 32, "widths": (64,)}
SETTINGS = {
    Scale.SMOKE: (
        {
            **MNIST5K,
            "optimizers": ("SGD", "momentum", "Adam"),
            "batch_size": 64,
            "epochs": 3,
            "seeds": 2,
            "widths": (32,),
        },
    ),
    Scale.LAPTOP: ({**MNIST5K, "epochs": 5, "seeds": 3},),
    Scale.PAPER: (PAPER, {**PAPER, "dataset": "fashion-mnist"}),
}


def design(settings: Settings) -> list[Sweep]:
    """Every method over half decades of learning rates, evaluated on a validation split, which chooses, and on the test
    set, without the smaller batch at an epoch's end; and the two that are compared once more, their rates falling to a
    tenth after seven tenths of the epochs."""
    for name in settings["optimizers"]:
        choose("optimizer", name, LOWEST)
    base = Trial(
        dataset=settings["dataset"],
        widths=settings["widths"],
        batch_size=settings["batch_size"],
        epochs=settings["epochs"],
        evaluate_on="both",
        drop_last=True,
        lr=1.0,
    )
    steps, epoch = whole("tuned_steps", settings["tuned_steps"]), max(1, round(LATE * settings["epochs"]))

    def tuned(name: str, decayed: bool = False) -> Sweep:
        spec = dataclasses.replace(base, **OPTIMIZERS[name])  # type: ignore[arg-type]
        many = settings["seeds"] if name in COMPARED else min(settings["seeds"], settings["other_seeds"])
        rates = [
            (lr, (Phase(epoch, float(f"{DECAY * lr:.4g}"), base.batch_size),) if decayed else ())
            for lr in half_decades(LOWEST[name], steps)
        ]
        arm = DECAYED.format(name) if decayed else name
        return Sweep(arm, spec, {("lr", "schedule"): rates, SEEDS: paired_seeds(many)})

    names = settings["optimizers"]
    return [*map(tuned, names), *(tuned(name, decayed=True) for name in names if name in COMPARED)]


# The constructed examples

SHARES = (0.55, 0.6, 0.7, 0.8, 0.9, 0.95)  # of the label 1, of 60 examples
SHARE = 0.6  # where something else is varied
STARTS = (0.01, 0.1, 1.0)  # standard deviations of the weights
SIZES = (0.5, 0.2, 0.1, 0.0)  # of an example's own features
BATCHES = (30, 15, 4, 1)  # of 60
DRAWS = 10  # starts, or orders, of each
AS_PUBLISHED, FROM_START, FAINTER, IN_BATCHES = "as published", "random start", "fainter own features", "in batches"


@functools.cache
def constructed() -> pd.DataFrame:
    """What every method learns of the constructed examples, a row a method and setting. Columns: variation, setting,
    method, share (of the label 1), train_error and test_error (means over draws), and draws."""
    n, p = 60, SHARE
    starts, sizes = [s for s in STARTS for _ in range(DRAWS)], list(SIZES)
    positive = np.array([*SHARES, *[p] * (len(starts) + len(sizes))]) * n
    start = np.array([*[0.0] * len(SHARES), *starts, *[0.0] * len(sizes)])
    own = np.array([*[1.0] * (len(SHARES) + len(starts)), *sizes])
    told = [
        *((AS_PUBLISHED, f"{share:g} of the label 1", share) for share in SHARES),
        *((FROM_START, f"weights of {s:g} at the start", p) for s in starts),
        *((FAINTER, f"own features of {s:g}", p) for s in sizes),
    ]
    rows = []
    for method in adaptive.LEARNING_RATES:
        together = adaptive.learn(method, np.round(positive), start=start, own=own)
        found = zip(together.train_error, together.test_error, strict=True)
        for (variation, setting, share), (train, test) in zip(told, found, strict=True):
            rows.append((variation, setting, method, share, train, test, 1))
        for size in BATCHES:
            drawn = adaptive.learn(method, [round(p * n)] * DRAWS, batch_size=size)
            train, test = drawn.train_error.mean(), drawn.test_error.mean()
            rows.append((IN_BATCHES, f"B = {size}", method, p, train, test, DRAWS))
    columns = ["variation", "setting", "method", "share", "train_error", "test_error", "draws"]
    groups = pd.DataFrame(rows, columns=columns).groupby(columns[:4], sort=False, as_index=False)
    return groups.agg({"train_error": "mean", "test_error": "mean", "draws": "sum"})
