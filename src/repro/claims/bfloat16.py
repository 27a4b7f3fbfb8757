"""Kalamkar et al.: bfloat16 "achieves the same … results … as FP32 tensors"; to within the luck of a seed?"""

from __future__ import annotations

import statistics
from typing import Any

import pandas as pd

from repro.evidence.intervals import Estimate, equivalence_p, paired_difference, paired_values
from repro.evidence.spec import Claim, Figure, Outcome, Scale, Settings, Verdict
from repro.evidence.tables import by_seed, final, point
from repro.trial import SEEDS, Sweep, Trial, paired_seeds

FLOAT32, BFLOAT16 = "float32", "bfloat16"
BATCH_NORM = "F1, batch norm"
CONTROL, CONTROL_FACTOR = "control: lr 10 % higher", 1.1
MEASURES = {
    "test accuracy": "test_accuracy",
    "test loss": "test_loss",
    "train loss": "train_loss",
    "weight distance": "weight_distance",
}
MIN_PAIRS = 3

PAPER = {
    "dataset": "mnist",
    "batch_sizes": (256, 1024),
    "lr": 0.1,  # at the largest batch size, in proportion below
    "epochs": 30,
    "f1_epochs": 5,
    "seeds": 5,
    "widths": (1024, 1024),
}
SMALL = {**PAPER, "dataset": "mnist5k", "batch_sizes": (64, 256), "widths": (128,)}
SETTINGS = {
    Scale.SMOKE: ({**SMALL, "widths": (32,), "epochs": 2, "f1_epochs": 0.2, "seeds": 3},),
    Scale.LAPTOP: ({**SMALL, "epochs": 20, "f1_epochs": 1},),
    Scale.PAPER: (PAPER, {**PAPER, "dataset": "fashion-mnist", "seeds": 3}),
}


Axes = dict[str | tuple[str, ...], Any]
Where = dict[str, object]  # which rows of the table: column -> value


def arm_of(batch_size: int) -> str:
    return f"B={batch_size}"


def design(settings: Settings) -> list[Sweep]:
    """Every arm in both precisions, paired by seed. The control is the largest batch size in float32 at a slightly
    higher learning rate: a change that the comparison must not let pass."""
    base = Trial(dataset=settings["dataset"], widths=settings["widths"], epochs=settings["epochs"])
    largest = max(settings["batch_sizes"])
    seeds: Axes = {SEEDS: paired_seeds(settings["seeds"])}
    both: Axes = {"precision": (FLOAT32, BFLOAT16), **seeds}

    def plain(size: int, factor: float = 1.0) -> Axes:
        return {("batch_size", "lr"): [(size, factor * settings["lr"] * size / largest)]}

    f1: Axes = {
        ("model", "epochs", "batch_size", "lr"): [("f1", settings["f1_epochs"], min(settings["batch_sizes"]), 0.1)]
    }
    return [
        *(Sweep(arm_of(size), base, {**plain(size), **both}) for size in settings["batch_sizes"]),
        Sweep(BATCH_NORM, base, {**f1, **both}),
        Sweep(CONTROL, base, {**plain(largest, CONTROL_FACTOR), "precision": (FLOAT32,), **seeds}),
    ]


def compared_arms(table: pd.DataFrame) -> list[tuple[str, Where, Where]]:
    """(name, rows of the changed runs, rows of the float32 runs that they are held against)."""
    sizes = sorted(final(table)["batch_size"].unique())
    plain = [arm_of(size) for size in sizes if arm_of(size) in set(table["arm"])]
    arms: list[tuple[str, Where, Where]] = [
        (arm, {"arm": arm, "precision": BFLOAT16}, {"arm": arm, "precision": FLOAT32}) for arm in [*plain, BATCH_NORM]
    ]
    controlled = [arm_of(size) for size in table[table["arm"] == CONTROL]["batch_size"].unique()]
    return arms + [(CONTROL, {"arm": CONTROL}, {"arm": arm, "precision": FLOAT32}) for arm in controlled]


def shift(table: pd.DataFrame, changed: Where, kept: Where, column: str) -> tuple[Estimate, bool]:
    """The mean paired difference, changed minus kept, in standard deviations of the kept runs over seeds, and
    whether it lies inside ±1 (two one-sided tests, 5 %)."""
    a, b = paired_values(*(by_seed(final(table, **where), column) for where in (changed, kept)))
    sd = statistics.stdev(b) if len(b) > 1 else 0.0
    if not sd:
        return paired_difference([], []), False
    return paired_difference(a / sd, b / sd), equivalence_p(a / sd, b / sd, 1.0) < 0.05


def judge(table: pd.DataFrame) -> Verdict:
    if "arm" not in table or table.empty:
        return Verdict(Outcome.INCONCLUSIVE, "No trial has been run.")
    lost = table[table["final"] & (table["status"] == "diverged") & table["arm"].str.startswith("B=")]["precision"]
    more = int((lost == BFLOAT16).sum() - (lost == FLOAT32).sum())
    if more > 0:
        return Verdict(Outcome.NOT_REPRODUCED, f"{more} more trials diverge in bfloat16 than in float32.")
    effects: dict[str, Estimate] = {}
    same: dict[str, list[str]] = {}
    off: dict[str, list[str]] = {}
    arms = compared_arms(table)
    for arm, changed, kept in arms:
        same[arm], off[arm] = [], []
        for name, column in MEASURES.items():
            estimate, equivalent = shift(table, changed, kept, column)
            if estimate.n < MIN_PAIRS:
                few = f"Too few pairs of seeds that finished, or no spread among them: {arm}."
                return Verdict(Outcome.INCONCLUSIVE, few)
            effects[f"{name}, {arm} (SD over seeds)"] = estimate
            if equivalent:
                same[arm].append(name)
            elif estimate.low > 0 or estimate.high < 0:
                off[arm].append(name)
    if CONTROL not in same:
        return Verdict(Outcome.INCONCLUSIVE, "The control has not been run.", effects)
    plain = [arm for arm, *_ in arms if arm not in (BATCH_NORM, CONTROL)]
    total = len(MEASURES)
    told = "; ".join(f"{arm}: {len(same[arm])} of {total} measures the same" for arm, *_ in arms)
    if not off[CONTROL]:
        return Verdict(Outcome.INCONCLUSIVE, f"{told}. The comparison would not have seen the control either.", effects)
    if any(off[arm] for arm in plain):
        return Verdict(Outcome.NOT_REPRODUCED, f"{told}.", effects)
    if any(len(same[arm]) < total for arm in plain):
        return Verdict(Outcome.INCONCLUSIVE, f"{told}. The others are too uncertain.", effects)
    if off[BATCH_NORM]:
        return Verdict(Outcome.CONDITIONAL, f"{told}. It depends on batch norm.", effects)
    if len(same[BATCH_NORM]) < total:
        return Verdict(Outcome.CONDITIONAL, f"{told}. With batch norm it is not settled.", effects)
    return Verdict(Outcome.REPRODUCED, f"{told}, as with batch norm so without.", effects)


def shift_dots(table: pd.DataFrame) -> pd.DataFrame:
    """Every measure's shift, by arm, with the band of ±1 SD."""
    rows = []
    for arm, changed, kept in compared_arms(table):
        for name, column in MEASURES.items():
            estimate, same = shift(table, changed, kept, column)
            if estimate.n < 2:
                continue
            rows.append(point(estimate, name=name, series=arm, same=same, band_low=-1.0, band_high=1.0))
    return pd.DataFrame(rows)


def shift_title(table: pd.DataFrame) -> str:
    points = shift_dots(table)
    points = points[~points["series"].isin([CONTROL, BATCH_NORM])]
    told = f"{points['same'].sum()} of {len(points)} measures"
    return f"Without batch norm, {told} stay\nwithin the luck of a seed in bfloat16"


CLAIM = Claim(
    id="bfloat16",
    question="Do half the bits do?",
    statement=(
        "deep learning training using BFLOAT16 tensors achieves the same state-of-the-art (SOTA) results across "
        "domains as FP32 tensors in the same number of iterations and with no changes to hyper-parameters"
    ),
    source="kalamkar2019",
    counter_claim="rounding every product to eight bits moves losses and distances by more than another seed would",
    counter_sources=("micikevicius2018",),
    rule=(
        "Paired differences over seeds, bfloat16 minus float32, of test accuracy, test loss, train loss and weight "
        "distance, in standard deviations of the float32 runs over seeds. The same: inside ±1 (two one-sided tests, "
        "5 %). Reproduced: every measure is the same in every arm. Conditional: in every arm without batch norm, but "
        "not in F1, which has it. Not reproduced: without batch norm some measure is not shown to be the same, and its "
        "95 % t interval lies off zero, or more trials diverge in bfloat16. Inconclusive: anything else, or if the "
        "same comparison does not tell a 10 % higher learning rate apart."
    ),
    settings=SETTINGS,
    design=design,
    judge=judge,
    answer=lambda table, verdict: verdict.reason,
    advice=("To be written.", ""),
    change="To be written.",
    figures=(
        Figure(
            "shift",
            "dots",
            shift_dots,
            shift_title,
            "bfloat16 − float32 (standard deviations over seeds)",
            "",
            "Mean paired difference and its 95 % t interval, in standard deviations of the float32 runs over seeds. "
            "The shaded band is one standard deviation either way. The control compares two learning rates, both in "
            "float32. Where an effect is above 10, the axis is logarithmic beyond ±1.",
        ),
    ),
    instrument=True,
)
