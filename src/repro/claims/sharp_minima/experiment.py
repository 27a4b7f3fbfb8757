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
SMALL_SPLIT, LEARNING_RATES = "small batch, validation held out", "large batch, learning rates"
OTHER_EPOCHS, STEPS = "large batch, other epochs", "large batch, equal steps"
SMALL_ON, LARGE_ON = "small batch, trained on", "large batch, trained on"
SMALL_ANEW, LARGE_ANEW = "small batch, statistics anew", "large batch, statistics anew"
SMALL_ON_ANEW, LARGE_ON_ANEW = "small batch, trained on, statistics anew", "large batch, trained on, statistics anew"
RESCALED = "no batch norm, rescaled"
SETUPS = "set-ups"  # the candidates for the paper's own set-up, told apart by the columns of SETUP
SETUP = ("preprocessing", "norm_eps")
CANDIDATES = tuple((pixels, eps) for pixels in ("unit", "standardize") for eps in (1e-6, 1e-5, 1e-3))
SEARCHED, TRAINED_ON, TUNED, MATCHED, EQUAL_STEPS = (
    "equal epochs",
    "trained on",
    "tuned learning rate",
    "matched training loss",
    "equal steps",
)

FREE_PROBE, ANEW_PROBE = "scale-free sharpness", "sharpness, statistics anew"
PUBLISHED_SEARCH, SCALE_FREE = "sharpness", "sharpness_scale_free"  # columns: φ by either search
ANEW, ANEW_FREE = "sharpness_anew", "sharpness_anew_scale_free"  # the same, statistics of batch norm taken anew
FLOOR = 1e-6  # per cent: a smaller sharpness is rounding

PAPER: dict[str, Any] = {
    "dataset": "mnist",
    "train_size": None,
    "widths": (512,) * 5,  # F1
    "batch_sizes": (256, 6000),
    "lr": 0.001,  # Adam's default
    "lr_steps": 6,  # of the grid: half of lr, lr, and so on, each twice the last
    "epochs": 10,
    "epochs_on": 100,  # of both, trained on: as many as the paper's other experiments have
    "other_epochs": (60, 80, 120, 150),  # of the large batch, per cent of the epochs
    "seeds": 5,
    "few_seeds": 3,  # for the fair budgets and the control
    "setup_epochs": 20,  # as the released code has them; 0: the paper's set-up is not looked for
    "all_measures": 1,  # 0: sharpness and λ_max alone
}

MNIST5K = {
    **PAPER,
    "dataset": "mnist5k",
    "train_size": 1000,
    "widths": (64, 64, 64),
    "batch_sizes": (10, 100),
    "epochs": 20,
    "epochs_on": 60,
    "setup_epochs": 0,
    "other_epochs": (150, 200),
}

SETTINGS = {
    Scale.SMOKE: (
        {
            **MNIST5K,
            "train_size": 400,
            "batch_sizes": (10, 40),
            "widths": (8, 8),
            "lr_steps": 2,
            "epochs": 2,
            "epochs_on": 6,
            "other_epochs": (200,),
            "seeds": 1,
            "few_seeds": 1,
        },
    ),
    Scale.LAPTOP: ({**MNIST5K, "seeds": 3},),
    Scale.PAPER: (PAPER, {**PAPER, "dataset": "fashion-mnist", "seeds": 3, "setup_epochs": 0, "all_measures": 0}),
}

Axes = dict[str | tuple[str, ...], Any]


def design(settings: Settings) -> list[Sweep]:
    """The two batch sizes as published, and trained on; then the large one at every learning rate of a grid, chosen
    among on a validation split, beside the small one on the same split; for fewer and for more epochs, of which one
    number comes nearest to the small one's training loss; and for the small one's steps. Then the small one without
    batch norm; and the first four with the statistics of batch norm taken anew. And, to recover the paper's own set-up,
    every candidate for its pixels and its batch norm, with the statistics of the batch in training and in testing, as
    the released code has it, its fit measured after every epoch."""
    small, large = min(settings["batch_sizes"]), max(settings["batch_sizes"])
    epochs, widths = settings["epochs"], settings["widths"]
    model: dict[str, Any] = {"model": "mlp", "widths": widths, "batch_norm": True}
    if widths == (512,) * 5:
        model = {"model": "f1"}
    base = Trial(
        dataset=settings["dataset"],
        train_size=settings["train_size"],
        **model,
        optimizer="adam",
        lr=settings["lr"],
        batch_size=small,
        epochs=epochs,
        final_probes=(FREE_PROBE,),
    )
    many, few = (Axes({SEEDS: paired_seeds(min(settings["seeds"], settings[name]))}) for name in ("seeds", "few_seeds"))
    both: tuple[str, ...] = ("sharpness", FREE_PROBE)
    measures = (*both, "curvature", *(("sharpness variants", "landscape") if settings["all_measures"] else ()))
    between = ("interpolation",) if settings["all_measures"] else ()
    held_out = dataclasses.replace(base, evaluate_on="both")
    big = dataclasses.replace(base, batch_size=large)
    base_on, big_on = (dataclasses.replace(t, epochs=settings["epochs_on"]) for t in (base, big))
    grid = [round(settings["lr"] * 2 ** (k - 1), 10) for k in range(settings["lr_steps"])]
    plain = dataclasses.replace(
        base, model="mlp", widths=widths, batch_norm=False, precision="float32", final_probes=("rescaled",)
    )
    measured = dataclasses.replace(
        base, final_probes=(*measures, *between), partner_batch_size=large if between else None
    )
    sweeps = [
        Sweep(SMALL, measured, many),
        Sweep(LARGE, dataclasses.replace(big, final_probes=measures), many),
        Sweep(SMALL_ON, dataclasses.replace(base_on, final_probes=both), few),
        Sweep(LARGE_ON, dataclasses.replace(big_on, final_probes=both), few),
        Sweep(SMALL_SPLIT, held_out, few),
        Sweep(LEARNING_RATES, dataclasses.replace(held_out, batch_size=large), {"lr": grid, **few}),
        Sweep(OTHER_EPOCHS, big, {"epochs": [epochs * share / 100 for share in settings["other_epochs"]], **few}),
        Sweep(STEPS, dataclasses.replace(big, epochs=None, steps=base.num_steps, final_probes=both), few),
        Sweep(RESCALED, plain, few),
    ]
    if settings["setup_epochs"]:
        candidate = dataclasses.replace(
            base,
            epochs=settings["setup_epochs"],
            norm_statistics="batch",
            probes=("fit",),
            checkpoints=tuple(range(1, settings["setup_epochs"])),
            final_probes=(),
        )
        sweeps.append(Sweep(SETUPS, candidate, {SETUP: CANDIDATES, "batch_size": (small, large), **many}))
    if settings["all_measures"]:
        firsts = {SMALL_ANEW: base, LARGE_ANEW: big, SMALL_ON_ANEW: base_on, LARGE_ON_ANEW: big_on}
        sweeps += [Sweep(arm, dataclasses.replace(t, final_probes=(ANEW_PROBE,)), few) for arm, t in firsts.items()]
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
