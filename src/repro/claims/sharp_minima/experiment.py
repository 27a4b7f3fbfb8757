"""Sharp minima: what is run, and what is measured of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from repro.evidence.spec import Scale, Settings
from repro.evidence.tables import final
from repro.trial import SEEDS, Sweep, Trial, paired_seeds

SMALL, LARGE = "small batch", "large batch"
SMALL_ALL, LARGE_ALL = "small batch, all images", "large batch, all images"
SMALL_RATES, LARGE_RATES = "small batch, learning rates", "large batch, learning rates"
SMALL_ON, LARGE_ON = "small batch, trained on", "large batch, trained on"
SMALL_STEPS, OTHER_EPOCHS = "small batch, equal steps", "large batch, other epochs"
SMALL_KEPT, LARGE_KEPT = "small batch, statistics kept", "large batch, statistics kept"
SMALL_ON_KEPT, LARGE_ON_KEPT = "small batch, trained on, statistics kept", "large batch, trained on, statistics kept"
SMALL_FLOAT32, LARGE_FLOAT32 = "small batch, in float32", "large batch, in float32"
RESCALED = "no batch norm, rescaled"
SETUPS = "set-ups"  # the candidates for the paper's own set-up, told apart by the columns of SETUP
SETUPS_PHI = "set-ups, sharpness"  # of each, for as many epochs as the one has that is chosen
SETUP = ("preprocessing", "norm_eps")
CANDIDATES = tuple((pixels, eps) for pixels in ("unit", "standardize") for eps in (1e-6, 1e-5, 1e-3))
SEARCHED, EQUAL_NORMS, TRAINED_ON, EQUAL_NORMS_ON, TUNED, MATCHED, EQUAL_STEPS = (
    "equal epochs",
    "equal layer norms",
    "trained on",
    "trained on, equal layer norms",
    "tuned learning rates",
    "matched training loss",
    "equal steps",
)

FREE_PROBE, EQUAL_PROBE = "scale-free sharpness", "sharpness, equal norms"
PUBLISHED_SEARCH, SCALE_FREE = "sharpness", "sharpness_scale_free"  # columns: φ by either search
EQUAL_FREE = "sharpness_equal_scale_free"  # the same, every layer as long as at the start
FLOOR = 1e-6  # per cent: a smaller sharpness is rounding

PAPER: dict[str, Any] = {
    "dataset": "mnist",
    "train_size": None,
    "widths": (512,) * 5,  # F1
    "batch_sizes": (256, 6000),
    "preprocessing": "standardize",  # this, norm_eps and epochs: the candidate that the paper's accuracies choose
    "norm_eps": 1e-6,
    "lr": 0.001,  # Adam's default
    "lr_steps": 6,  # of the grids: a quarter of lr, half, and so on, each twice the last
    "epochs": 6,
    "epochs_on": 100,  # of both, trained on: as many as the paper's other experiments have
    "epochs_kept": 10,  # where the statistics of batch norm are kept, and where there is no batch norm
    "other_epochs": (60, 80, 120, 150),  # of the large batch, per cent of the epochs
    "seeds": 5,
    "few_seeds": 3,  # for the fair budgets, the candidates and the controls
    "setup_epochs": 20,  # as the released code has them; 0: the paper's set-up is not looked for
    "probe_examples": 5000,  # that sharpness is measured over: one of the released code's batches in testing
    "all_measures": 1,  # 0: without the paper's other boxes, the lines, and the longer runs of statistics kept
}

MNIST5K = {
    **PAPER,
    "dataset": "mnist5k",
    "train_size": 1000,
    "widths": (64, 64, 64),
    "batch_sizes": (10, 100),
    "epochs": 20,
    "epochs_on": 60,
    "epochs_kept": 20,
    "setup_epochs": 0,
    "other_epochs": (150, 200),
    "probe_examples": 1000,
}

SETTINGS = {
    Scale.SMOKE: (
        {
            **MNIST5K,
            "train_size": 400,
            "batch_sizes": (10, 40),
            "widths": (8, 8),
            "lr_steps": 3,
            "epochs": 2,
            "epochs_on": 6,
            "epochs_kept": 2,
            "other_epochs": (200,),
            "seeds": 1,
            "few_seeds": 1,
            "probe_examples": 400,
        },
    ),
    Scale.LAPTOP: (
        {**MNIST5K, "epochs": 10, "epochs_on": 30, "epochs_kept": 10, "seeds": 3, "lr_steps": 5, "probe_examples": 500},
    ),
    Scale.PAPER: (PAPER, {**PAPER, "dataset": "fashion-mnist", "seeds": 3, "setup_epochs": 0, "all_measures": 0}),
}

Axes = dict[str | tuple[str, ...], Any]


def design(settings: Settings) -> list[Sweep]:
    """The two batch sizes as published, and trained on; the small one for as few steps as the large one then takes; the
    large one for fewer and for more epochs, of which one number comes nearest to the small one's training loss; and
    both at every learning rate of one grid, chosen among on a validation split. Batch norm takes the statistics of the
    batch in training and in testing, as the released code has it. Then both again in float32, and with the statistics
    kept in training; the small one without batch norm; and, to recover the paper's own set-up from its accuracies,
    every candidate for its pixels and its batch norm, its fit measured after every epoch, and its sharpness once."""
    small, large = min(settings["batch_sizes"]), max(settings["batch_sizes"])
    widths, everything = settings["widths"], bool(settings["all_measures"])
    model: dict[str, Any] = {"model": "mlp", "widths": widths, "batch_norm": True}
    if widths == (512,) * 5:
        model = {"model": "f1"}
    kept = Trial(
        dataset=settings["dataset"],
        train_size=settings["train_size"],
        **model,
        optimizer="adam",
        lr=settings["lr"],
        batch_size=small,
        epochs=settings["epochs_kept"],
    )
    base = dataclasses.replace(
        kept,
        epochs=settings["epochs"],
        preprocessing=settings["preprocessing"],
        norm_statistics="batch",
        norm_eps=settings["norm_eps"],
        final_probes=(FREE_PROBE,),
        probe_examples=min(settings["probe_examples"], kept.num_train),
    )
    many, few = (Axes({SEEDS: paired_seeds(min(settings["seeds"], settings[name]))}) for name in ("seeds", "few_seeds"))
    both = ("sharpness", FREE_PROBE)
    boxes = ("sharpness, other boxes",) if everything else ()
    measured = dataclasses.replace(base, final_probes=(*both, EQUAL_PROBE, "largest eigenvalue", *boxes))
    on = dataclasses.replace(base, epochs=settings["epochs_on"], final_probes=(*both, EQUAL_PROBE))
    rates = {"lr": [round(settings["lr"] * 2.0 ** (k - 2), 10) for k in range(settings["lr_steps"])], **few}
    lengths = {"epochs": [settings["epochs"] * share / 100 for share in settings["other_epochs"]], **few}
    steps = dataclasses.replace(on, batch_size=large).num_steps

    def big(trial: Trial, **changes: Any) -> Trial:
        return dataclasses.replace(trial, batch_size=large, **changes)

    split = dataclasses.replace(base, evaluate_on="both", final_probes=(FREE_PROBE, EQUAL_PROBE))
    sweeps = [
        Sweep(SMALL, measured, many),
        Sweep(LARGE, big(measured), many),
        Sweep(SMALL_ON, on, few),
        Sweep(LARGE_ON, big(on), few),
        Sweep(SMALL_STEPS, dataclasses.replace(base, epochs=None, steps=steps), few),
        Sweep(OTHER_EPOCHS, big(base), lengths),
        Sweep(SMALL_RATES, split, rates),
        Sweep(LARGE_RATES, big(split), rates),
    ]
    lines = ("sharpness variants", "landscape") if everything else ()
    first = dataclasses.replace(kept, final_probes=(*both, "curvature", *lines))
    beside = {"final_probes": (*first.final_probes, "interpolation"), "partner_batch_size": large} if lines else {}
    sweeps += [Sweep(SMALL_KEPT, dataclasses.replace(first, **beside), few), Sweep(LARGE_KEPT, big(first), few)]
    if everything:
        kept_on = dataclasses.replace(kept, epochs=settings["epochs_on"], final_probes=both)
        plain = {"model": "mlp", "widths": widths, "batch_norm": False, "precision": "float32"}
        sweeps += [
            Sweep(SMALL_ON_KEPT, kept_on, few),
            Sweep(LARGE_ON_KEPT, big(kept_on), few),
            Sweep(RESCALED, dataclasses.replace(kept, **plain, final_probes=("rescaled",)), few),
        ]
    if settings["setup_epochs"]:
        whole = dataclasses.replace(base, probe_examples=None, final_probes=("sharpness", "sharpness, half the box"))
        ends = tuple(range(1, settings["setup_epochs"]))
        candidate = dataclasses.replace(
            whole, epochs=settings["setup_epochs"], probes=("fit",), checkpoints=ends, final_probes=()
        )
        exact = dataclasses.replace(base, precision="float32", final_probes=both)
        sweeps += [
            Sweep(SMALL_FLOAT32, exact, few),
            Sweep(LARGE_FLOAT32, big(exact), few),
            Sweep(SMALL_ALL, whole, many),
            Sweep(LARGE_ALL, big(whole), many),
            Sweep(SETUPS, candidate, {SETUP: CANDIDATES, "batch_size": (small, large), **few}),
            Sweep(
                SETUPS_PHI,
                dataclasses.replace(whole, probe_examples=base.probe_examples),
                {SETUP: CANDIDATES, "batch_size": (small, large), **few},
            ),
        ]
    return sweeps


def prepared(table: pd.DataFrame, column: str = SCALE_FREE) -> pd.DataFrame:
    """The last rows of finished trials that φ is known of, with its decimal logarithm and the test error in per cent.
    `column`: by which search."""
    if not {"arm", column, "test_accuracy", "train_loss"} <= set(table.columns):
        known = ("arm", "key", "init_seed", "epochs", "lr", "batch_size", "train_loss", column)
        return pd.DataFrame(columns=[*known, "decades", "test_error"])
    rows = final(table).dropna(subset=[column])
    return rows.assign(decades=decades(rows[column]), test_error=100 * (1 - rows["test_accuracy"]))


def decades(values: pd.Series) -> pd.Series:
    return np.log10(values.clip(lower=FLOOR))
