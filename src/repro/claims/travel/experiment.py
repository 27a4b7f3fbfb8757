"""How far networks travel: what is run."""

from __future__ import annotations

import dataclasses
import math

from repro.claims import generalization_gap
from repro.claims.generalization_gap import EQUAL_STEPS, base_of
from repro.claims.sharp_minima import experiment as sharp_minima
from repro.evidence.spec import Scale, Settings, log_checkpoints
from repro.trial import SEEDS, Sweep, Trial, paired_seeds, whole

RAISED, TENFOLD = "large batch, raised lr", "large batch, ten times the lr"
SAME_RATE, ROOT_RATE = "narrow, one learning rate", "narrow, learning rate ∝ √B"
TRUE_LABELS, DRAWN_LABELS = "narrow, true labels", "narrow, labels drawn at random"
ADAM = "narrow, Adam"
F1_SMALL, F1_LARGE = "F1, small batch", "F1, large batch"
# What is run besides the arms of the generalization gap, whose settings stand before these.
PAPER = {
    "raised_seeds": 7,  # at most
    "narrow_widths": (256,),
    "narrow_lr": 0.02,  # of the smallest batch
    "narrow_steps": 2048,
    "narrow_seeds": 5,  # at most
    "labels_lr": 0.1,
    "adam_lr": 3e-4,  # half a decade from the best on the page on Adam, so that it goes far enough
    "f1": 1,  # 0: without Keskar's network
}
SMALLER = {"narrow_widths": (32,), "narrow_steps": 128, "narrow_seeds": 2, "f1": 0}
MORE = {
    Scale.SMOKE: {**PAPER, **SMALLER},
    Scale.LAPTOP: {**PAPER, **SMALLER, "narrow_steps": 512, "narrow_seeds": 5},
    Scale.PAPER: PAPER,
}
SETTINGS = {scale: tuple({**s, **MORE[scale]} for s in generalization_gap.SETTINGS[scale]) for scale in Scale}


def design(settings: Settings) -> list[Sweep]:
    """Every batch size at equal epochs, and at equal steps; and the larger of the two that are compared at a learning
    rate raised in proportion, so that learning rate times steps is as much, and at one raised ten times. On a narrow
    network every batch size for as many steps, measured after 1, 2, 4, 8 … of them, at one learning rate and at one
    that goes as √B; and one batch size on the labels as they are, on labels drawn at random, and on the labels as they
    are with Adam. And Keskar's F1, trained with a small and a large batch."""
    sizes, epochs, lr = settings["batch_sizes"], settings["epochs"], settings["lr"]
    sweeps = generalization_gap.design(settings)
    small, large = base_of(sizes), max(t.batch_size for s in sweeps if s.name == EQUAL_STEPS for t in s.trials())
    wide = Trial(dataset=settings["dataset"], widths=settings["widths"], epochs=epochs)
    raised = dataclasses.replace(
        wide, batch_size=large, lr=round(lr * large / small, 10), checkpoints=log_checkpoints(epochs)
    )
    steps = whole("narrow_steps", settings["narrow_steps"])
    doubled = tuple(float(2**k) for k in range(steps.bit_length()) if 2**k < steps)
    narrow = dataclasses.replace(wide, widths=settings["narrow_widths"], drop_last=True)
    stepped = dataclasses.replace(
        narrow, epochs=None, steps=steps, checkpoints=doubled, probes=("held-out fit", "travel")
    )
    labels = dataclasses.replace(narrow, lr=settings["labels_lr"], batch_size=small, checkpoints=raised.checkpoints)
    seeds = paired_seeds(min(settings["seeds"], settings["narrow_seeds"]))
    root = [(size, round(settings["narrow_lr"] * math.sqrt(size / min(sizes)), 10)) for size in sizes]
    raised_seeds = paired_seeds(min(settings["seeds"], settings["raised_seeds"]))
    sweeps += [
        Sweep(RAISED, raised, {SEEDS: raised_seeds}),
        Sweep(TENFOLD, dataclasses.replace(raised, lr=round(10 * lr, 10)), {SEEDS: raised_seeds}),
        Sweep(SAME_RATE, stepped, {("batch_size", "lr"): [(s, settings["narrow_lr"]) for s in sizes], SEEDS: seeds}),
        Sweep(ROOT_RATE, stepped, {("batch_size", "lr"): root, SEEDS: seeds}),
        Sweep(TRUE_LABELS, labels, {SEEDS: seeds}),
        Sweep(DRAWN_LABELS, dataclasses.replace(labels, label_noise=1.0), {SEEDS: seeds}),
        Sweep(ADAM, dataclasses.replace(labels, optimizer="adam", lr=settings["adam_lr"]), {SEEDS: seeds}),
    ]
    if settings["f1"]:
        f1 = {s["dataset"]: s for s in sharp_minima.SETTINGS[Scale.PAPER]}[settings["dataset"]]
        named = {sharp_minima.SMALL_ON: F1_SMALL, sharp_minima.LARGE_ON: F1_LARGE}
        sweeps += [dataclasses.replace(s, name=named[s.name]) for s in sharp_minima.design(f1) if s.name in named]
    return sweeps
