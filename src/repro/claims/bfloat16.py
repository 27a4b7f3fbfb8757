"""Kalamkar et al.: bfloat16 "achieves the same (…) results (…) as FP32 tensors"; to within the luck of a seed?"""

from __future__ import annotations

import dataclasses
import statistics
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from repro.evidence.intervals import Estimate, Unit, paired_difference, paired_values
from repro.evidence.spec import Claim, Figure, Outcome, Revision, Scale, Settings, Verdict
from repro.evidence.tables import by_seed, final, point
from repro.evidence.words import bracketed
from repro.trial import SEEDS, Sweep, Trial, paired_seeds

FLOAT32, BFLOAT16 = "float32", "bfloat16"
BATCH_NORM = "F1, batch norm"
CONTROL, CONTROL_FACTOR = "control: lr 10 % higher", 1.1
PLAIN = "B = "  # how the arms without batch norm begin
MEASURES = {
    "test accuracy": "test_accuracy",
    "test loss": "test_loss",
    "train loss": "train_loss",
    "weight distance": "weight_distance",
}
MIN_PAIRS = 3
SHIFT = Unit(
    "SD",
    "bfloat16 minus float32, in standard deviations of float32 over seeds; green counts as the same",
    0.0,
    ("bfloat16 lower", "higher"),
    (-1.0, 1.0),
)
CONTROL_SHIFT = dataclasses.replace(
    SHIFT,
    axis="The control: a 10 % higher learning rate minus the same as it is, both in float32, in the same unit",
    sides=("higher rate lower", "higher"),
)

PAPER = {
    "dataset": "mnist",
    "batch_sizes": (64, 256, 1024),
    "lr": 0.1,  # at the largest batch size, in proportion below
    "epochs": 30,
    "f1_epochs": 5,
    "f1_batch_size": 256,
    "seeds": 25,  # of F1: with batch norm, paired runs part as far as unpaired ones do
    "plain_seeds": 5,  # at most, without batch norm
    "widths": (1024, 1024),
    "drop_last": 0,  # 1: without batch norm the last, smaller batch of an epoch is left out
}
SMALL = {**PAPER, "dataset": "mnist5k", "batch_sizes": (64, 256), "f1_batch_size": 64, "widths": (128,)}
SETTINGS = {
    Scale.SMOKE: ({**SMALL, "widths": (32,), "epochs": 2, "f1_epochs": 0.2, "seeds": 3},),
    Scale.LAPTOP: ({**SMALL, "epochs": 10, "f1_epochs": 0.5, "seeds": 10},),
    Scale.PAPER: (PAPER, {**PAPER, "dataset": "fashion-mnist", "drop_last": 1}),
}


Axes = dict[str | tuple[str, ...], Any]
Where = dict[str, object]  # which rows of the table: column -> value


def arm_of(batch_size: int) -> str:
    return f"{PLAIN}{batch_size}"


def design(settings: Settings) -> list[Sweep]:
    """Every arm in both precisions, paired by seed, F1 with more seeds. The control is the largest batch size in
    float32 at a slightly higher learning rate: a change that the comparison must not let pass."""
    whole = Trial(dataset=settings["dataset"], widths=settings["widths"], epochs=settings["epochs"])
    base = dataclasses.replace(whole, drop_last=bool(settings["drop_last"]))
    largest = max(settings["batch_sizes"])
    seeds: Axes = {SEEDS: paired_seeds(min(settings["seeds"], settings["plain_seeds"]))}
    precisions: Axes = {"precision": (FLOAT32, BFLOAT16)}

    def plain(size: int, factor: float = 1.0) -> Axes:
        return {("batch_size", "lr"): [(size, factor * settings["lr"] * size / largest)]}

    f1: Axes = {
        ("model", "epochs", "batch_size", "lr"): [("f1", settings["f1_epochs"], settings["f1_batch_size"], 0.1)],
        SEEDS: paired_seeds(settings["seeds"]),
    }
    return [
        *(Sweep(arm_of(size), base, {**plain(size), **precisions, **seeds}) for size in settings["batch_sizes"]),
        Sweep(BATCH_NORM, whole, {**f1, **precisions}),
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
    difference = paired_difference(a / sd, b / sd)
    return difference, difference.equivalent(1.0)


@dataclass(frozen=True)
class Weighed:
    """What the judge weighs: every arm's shifts by measure, those inside ±1, and those off zero that are not; or `few`,
    the first arm with too few pairs to say."""

    shifts: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    same: dict[str, list[str]] = field(default_factory=dict)
    off: dict[str, list[str]] = field(default_factory=dict)
    few: str | None = None

    @property
    def plain(self) -> list[str]:
        return [arm for arm in self.shifts if arm not in (BATCH_NORM, CONTROL)]

    @property
    def effects(self) -> dict[str, Estimate]:
        return {
            f"{measure}, {'control' if arm == CONTROL else arm}": e.of(CONTROL_SHIFT if arm == CONTROL else SHIFT)
            for arm, shifts in self.shifts.items()
            for measure, e in shifts.items()
        }

    def unsure(self, arm: str) -> list[str]:
        """Measures that are neither shown to be the same nor to be off."""
        return [m for m in MEASURES if m not in self.same[arm] + self.off[arm]]


def weigh(table: pd.DataFrame) -> Weighed:
    found = Weighed()
    for arm, changed, kept in compared_arms(table):
        shifts: dict[str, Estimate] = {}
        same, off = [], []
        for measure, column in MEASURES.items():
            estimate, equivalent = shift(table, changed, kept, column)
            if estimate.n < MIN_PAIRS:
                return Weighed(few=arm)
            shifts[measure] = estimate
            if equivalent:
                same.append(measure)
            elif estimate.excludes(0):
                off.append(measure)
        found.shifts[arm], found.same[arm], found.off[arm] = shifts, same, off
    return found


def more_diverged(table: pd.DataFrame) -> int:
    """How many more trials without batch norm diverge in bfloat16 than in float32."""
    lost = table[table["final"] & (table["status"] == "diverged") & table["arm"].str.startswith(PLAIN)]["precision"]
    return int((lost == BFLOAT16).sum() - (lost == FLOAT32).sum())


def judge(table: pd.DataFrame) -> Verdict:
    if "arm" not in table or table.empty:
        return Verdict(Outcome.INCONCLUSIVE, "No trial has been run.")
    more = more_diverged(table)
    if more > 0:
        return Verdict(Outcome.NOT_REPRODUCED, f"{more} more trials diverge in bfloat16 than in float32.")
    found = weigh(table)
    if found.few:
        few = f"Too few pairs of seeds that finished, or no spread among them: {found.few}."
        return Verdict(Outcome.INCONCLUSIVE, few)
    same, off, plain, effects = found.same, found.off, found.plain, found.effects
    if CONTROL not in same:
        return Verdict(Outcome.INCONCLUSIVE, "The control has not been run.", effects)
    total = len(MEASURES)
    told = "; ".join(f"{arm}, {len(same[arm])} of {total}" for arm in found.shifts)
    told = f"Measures that stay the same: {told}."
    if not off[CONTROL]:
        reason = f"The comparison would not have seen the control either. {told}"
        return Verdict(Outcome.INCONCLUSIVE, reason, effects)
    if any(off[arm] for arm in plain):
        reason = f"In bfloat16 some measures move by more than the luck of a seed explains. {told}"
        return Verdict(Outcome.NOT_REPRODUCED, reason, effects)
    if any(len(same[arm]) < total for arm in plain):
        return Verdict(Outcome.INCONCLUSIVE, f"Some shifts are too uncertain to call them the same. {told}", effects)
    within = "Every measure stays within one standard deviation over seeds"
    if off[BATCH_NORM]:
        reason = f"{within} without batch norm; with it, some move. {told}"
        return Verdict(Outcome.CONDITIONAL, reason, effects)
    if len(same[BATCH_NORM]) < total:
        reason = f"{within} without batch norm; with it, some are not settled. {told}"
        return Verdict(Outcome.INCONCLUSIVE, reason, effects)
    return Verdict(Outcome.REPRODUCED, f"{within}, with batch norm and without. {told}", effects)


def largest(shifts: dict[str, Estimate]) -> str:
    """In words: "+2.00 (+1.80 to +2.20) standard deviations over seeds, in weight distance"."""
    measure = max(shifts, key=lambda m: abs(shifts[m].value))
    return f"{bracketed(shifts[measure].of(SHIFT))} standard deviations over seeds, in {measure}"


def answer(table: pd.DataFrame, verdict: Verdict) -> str:
    if "arm" not in table or table.empty:
        return "Not settled: nothing has been run."
    if (more := more_diverged(table)) > 0:
        return f"No. {more} more trials diverge in bfloat16 than in float32."
    found = weigh(table)
    if found.few or CONTROL not in found.same:
        return f"Not settled: too few pairs of seeds have finished ({found.few or CONTROL})."
    plain = {f"{measure} at {arm}": e for arm in found.plain for measure, e in found.shifts[arm].items()}
    most = f"the largest shift is {largest(plain)}"
    if verdict.outcome == Outcome.REPRODUCED:
        with_norm = {f"{measure} of {BATCH_NORM}": e for measure, e in found.shifts[BATCH_NORM].items()}
        return f"Yes, to within the luck of a seed: the largest shift is {largest(plain | with_norm)}."
    if verdict.outcome == Outcome.CONDITIONAL:
        moved = {measure: found.shifts[BATCH_NORM][measure] for measure in found.off[BATCH_NORM]}
        return f"Yes without batch norm: {most}. No with it: {largest(moved)}."
    settled = not any(found.unsure(arm) for arm in found.plain)
    if verdict.outcome == Outcome.INCONCLUSIVE and found.off[CONTROL] and settled and found.unsure(BATCH_NORM):
        *others, last = found.unsure(BATCH_NORM)
        unsure = f"{', '.join(others)} and {last} are" if others else f"{last} is"
        return f"Yes without batch norm: {most}. With it, {unsure} not settled."
    if verdict.outcome == Outcome.NOT_REPRODUCED:
        moved = {f"{m} at {arm}": found.shifts[arm][m] for arm in found.plain for m in found.off[arm]}
        return f"No. The largest shift in bfloat16 is {largest(moved)}."
    if not found.off[CONTROL]:
        control = largest(found.shifts[CONTROL])
        return f"Not settled: a learning rate 10 % higher would not have been seen either ({control})."
    return f"Not settled: {most}, too uncertain to be called none."


def _dots(table: pd.DataFrame, arms: Any) -> pd.DataFrame:
    rows = []
    for arm, changed, kept in compared_arms(table):
        for measure, column in MEASURES.items() if arms(arm) else ():
            estimate, same = shift(table, changed, kept, column)
            if estimate.n >= 2:
                name = measure if arm == CONTROL else f"{measure}, {arm}"
                rows.append(point(estimate, name=name, series=arm, same=same, band_low=-1.0, band_high=1.0))
    return pd.DataFrame(rows)


def shift_dots(table: pd.DataFrame) -> pd.DataFrame:
    """Every measure's shift in bfloat16, by arm, with the band of ±1 SD."""
    return _dots(table, lambda arm: arm != CONTROL)


def shift_title(table: pd.DataFrame) -> str:
    if more_diverged(table) > 0:
        return "How far bfloat16 moves each measure, where it finishes"
    return {
        Outcome.REPRODUCED: "bfloat16 moves no measure beyond the luck of a seed",
        Outcome.CONDITIONAL: "Without batch norm, bfloat16 moves no measure beyond the luck of a seed",
        Outcome.NOT_REPRODUCED: "bfloat16 moves some measures beyond the luck of a seed",
        Outcome.INCONCLUSIVE: "How far bfloat16 moves each measure, beside the luck of a seed",
    }[judge(table).outcome]


def control_dots(table: pd.DataFrame) -> pd.DataFrame:
    """Every measure's shift in the control, with the band of ±1 SD."""
    return _dots(table, lambda arm: arm == CONTROL)


def control_title(table: pd.DataFrame) -> str:
    points = control_dots(table)
    seen = ~points["same"].astype(bool) & ((points["low"] > 0) | (points["high"] < 0))
    if seen.any():
        return f"The same comparison sees a slightly higher learning rate in {seen.sum()} of {len(points)} measures"
    return "The same comparison would not see a slightly higher learning rate"


CLAIM = Claim(
    id="bfloat16",
    question="Do half the bits do?",
    statement=(
        "“deep learning training using BFLOAT16 tensors achieves the same state-of-the-art (SOTA) results across "
        "domains as FP32 tensors in the same number of iterations and with no changes to hyper-parameters”"
    ),
    source="kalamkar2019",
    counter_claim="rounding every product to eight bits moves losses and distances by more than another seed would",
    counter_sources=("micikevicius2018",),
    rule=(
        "Paired differences over seeds, bfloat16 minus float32, of test accuracy, test loss, train loss and "
        "weight distance, in standard deviations of the float32 runs over seeds. The same: inside ±1 (two one-"
        "sided tests, 5 %). Reproduced: every measure is the same in every arm. Conditional: in every arm without"
        " batch norm, but in F1, which has it, some measure is not shown to be the same, and its 95 % t interval "
        "lies off zero. Not reproduced: without batch norm some measure is not shown to be the same, and its 95 %"
        " t interval lies off zero, or more trials diverge in bfloat16. Inconclusive: anything else, or if the "
        "same comparison does not tell a 10 % higher learning rate apart. Without batch norm paired runs stay "
        "together, and five seeds can show it; with it they part as far as unpaired ones, and it takes 25."
    ),
    history=(
        Revision("2026-11-20T12:40", "Written, before the first run."),
        Revision(
            "2026-11-21T21:37",
            "Before the runs that it adds: 25 seeds of F1, since five could not have shown that nothing moves; a "
            "measure that is not settled makes the verdict inconclusive, no longer conditional; B = 64, to ask whether "
            "the engine may choose bfloat16 there.",
            {"mnist": Outcome.CONDITIONAL},
        ),
        Revision(
            "2026-11-22T01:15",
            "After three seeds on Fashion-MNIST: without batch norm the last, smaller batch of an epoch is left out "
            "there, since its step, as large as any, comes right before the measures and moved them by more than "
            "another seed does; and five seeds, as on MNIST.",
            {"fashion-mnist": Outcome.INCONCLUSIVE},
        ),
    ),
    sentences={
        "deep learning training using BFLOAT16 tensors": (),
    },
    settings=SETTINGS,
    design=design,
    judge=judge,
    answer=answer,
    advice=(
        "Multiply in bfloat16, keep the weights in float32, and test networks with batch norm first.",
        "What rounding adds is less than another seed does.",
    ),
    change=(
        "A measure that moves beyond the luck of a seed, or runs that diverge in bfloat16 alone; another network with "
        "batch norm."
    ),
    figures=(
        Figure(
            "shift",
            "dots",
            shift_dots,
            shift_title,
            "bfloat16 minus float32, standard deviations over seeds",
            "",
            "Mean paired differences with 95 % t intervals, in standard deviations of the float32 runs over seeds. "
            "Green: one of them either way, which counts as the same by two one-sided tests: those go by 90 % "
            "intervals, a little shorter.",
        ),
        Figure(
            "control",
            "dots",
            control_dots,
            control_title,
            "higher learning rate minus lower, standard deviations over seeds",
            "",
            "Two learning rates, both in float32, at the largest batch size; unit, seeds and green as above.",
        ),
    ),
    instrument=True,
)
