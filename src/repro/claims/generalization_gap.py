"""Shen: "higher batch sizes leads to lower asymptotic test accuracy"; at equal epochs, or at all?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from repro.evidence.intervals import Estimate, Unit
from repro.evidence.spec import (
    PUBLISHED_SERIES,
    Claim,
    Figure,
    Judged,
    Outcome,
    Published,
    Revision,
    Scale,
    Settings,
    Verdict,
    log_checkpoints,
)
from repro.evidence.tables import curve, final, margin_for, paired
from repro.evidence.words import signed, spread
from repro.trial import SEEDS, Sweep, Trial, paired_seeds

EQUAL_EPOCHS, EQUAL_STEPS = "equal epochs", "equal steps"
BASE_BATCH_SIZE = 64  # its steps are the equal steps; the smallest given where 64 is not
MARGIN = 0.3  # percentage points: test accuracies closer than this count as the same, on 10,000 test images
AT_EPOCHS, AT_STEPS = f"test accuracy, {EQUAL_EPOCHS}", f"test accuracy, {EQUAL_STEPS}"  # effects

PAPER = {
    "dataset": "mnist",
    "batch_sizes": (16, 64, 256, 1024, 4096),
    "lr": 0.01,
    "epochs": 30,
    "seeds": 5,  # of the two batch sizes that are compared
    "curve_seeds": 3,  # at most, of the others, which draw the curve between and beyond
    "widths": (1024, 1024),
}
SETTINGS = {
    Scale.SMOKE: (
        {
            **PAPER,
            "dataset": "mnist5k",
            "batch_sizes": (16, 64, 256),
            "lr": 0.05,
            "epochs": 2,
            "seeds": 2,
            "widths": (32,),
        },
    ),
    Scale.LAPTOP: (
        {
            **PAPER,
            "dataset": "mnist5k",
            "batch_sizes": (4, 16, 64, 256, 1024),
            "lr": 0.05,
            "epochs": 10,
            "seeds": 5,
            "widths": (128,),
        },
    ),
    Scale.PAPER: (PAPER, {**PAPER, "dataset": "fashion-mnist", "seeds": 7}),
}


def base_of(sizes: Sequence[int]) -> int:
    """The batch size whose steps are the equal steps."""
    return BASE_BATCH_SIZE if BASE_BATCH_SIZE in sizes else min(sizes)


def design(settings: Settings) -> list[Sweep]:
    """Equal epochs: every batch size for `epochs`. Equal steps, for base/4 … 16 · base: epochs in proportion
    to the batch size, which gives every arm the steps of the base, to within one step an epoch."""
    trial = Trial(dataset=settings["dataset"], widths=settings["widths"], lr=settings["lr"], epochs=1)
    sizes = settings["batch_sizes"]
    base = base_of(sizes)
    near = [size for size in sizes if base / 4 <= size <= 16 * base]

    def sweep(arm: str, size: int, epochs: float) -> Sweep:
        seeds = settings["seeds"] if size in (base, max(near)) else min(settings["seeds"], settings["curve_seeds"])
        moves = ("batch_size", "epochs", "checkpoints")
        return Sweep(arm, trial, {moves: [(size, epochs, log_checkpoints(epochs))], SEEDS: paired_seeds(seeds)})

    at_epochs = [sweep(EQUAL_EPOCHS, size, settings["epochs"]) for size in sizes]
    return at_epochs + [sweep(EQUAL_STEPS, size, settings["epochs"] * size / base) for size in near]


def difference(table: pd.DataFrame, arm: str, small: int, large: int, column: str) -> Estimate:
    """Paired difference over seeds, in percentage points: batch size `large` minus `small`."""
    a, b = ({"arm": arm, "batch_size": size} for size in (large, small))
    return paired(table, a, b, column, 100).of(points(table, f"B = {large} minus B = {small}"))


def points(table: pd.DataFrame, what: str) -> Unit:
    """Of differences in accuracy, with the margin within which the table's count as the same."""
    margin = margin_for(table, MARGIN)
    sides = ("large batch worse", "better")
    return Unit("points", f"Accuracy, {what}, percentage points", 0.0, sides, (-margin, margin))


def batch_sizes_compared(table: pd.DataFrame) -> tuple[int, int] | None:
    """The base batch size, which both budgets share, and the largest that both have."""
    steps, epochs = (final(table, arm=arm) for arm in (EQUAL_STEPS, EQUAL_EPOCHS))
    if steps.empty or epochs.empty:
        return None
    shared = steps[steps["key"].isin(epochs["key"])]["batch_size"]
    both = set(steps["batch_size"]) & set(epochs["batch_size"])
    if shared.empty or max(both) <= shared.min():
        return None
    return int(shared.min()), int(max(both))


def judge(table: pd.DataFrame) -> Verdict:
    pair = batch_sizes_compared(table)
    if pair is None:
        return Verdict(Outcome.INCONCLUSIVE, "The two budgets do not share a small and a large batch size.")
    small, large = pair
    margin = margin_for(table, MARGIN)
    gap = difference(table, EQUAL_EPOCHS, small, large, "test_accuracy")
    control = difference(table, EQUAL_STEPS, small, large, "test_accuracy")
    effects = {
        AT_EPOCHS: gap,
        AT_STEPS: control,
        f"train accuracy, {EQUAL_EPOCHS}": difference(table, EQUAL_EPOCHS, small, large, "train_accuracy"),
    }
    if min(gap.n, control.n) < 2:
        few = f"Too few paired seeds: {gap.n} at equal epochs, {control.n} at equal steps; two is the least."
        return Verdict(Outcome.INCONCLUSIVE, few, effects)
    at_epochs = f"At equal epochs B = {large} tests {compared(gap)} B = {small}"
    at_steps = f"at equal steps {compared(control)} it"
    same_epochs = gap.equivalent(margin)
    same_steps = control.equivalent(margin)
    if gap.low > 0 or (same_epochs and gap.high >= 0):
        return Verdict(Outcome.NOT_REPRODUCED, f"{at_epochs}: the large batch is no worse.", effects)
    if gap.high >= 0:
        return Verdict(Outcome.INCONCLUSIVE, f"{at_epochs}, which is not surely less.", effects)
    if same_steps or control.low > 0:
        reason = f"{at_epochs}; {at_steps}. The loss goes with the budget, not with the batch size."
        return Verdict(Outcome.CONDITIONAL, reason, effects)
    if control.high < 0:
        reason = f"{at_epochs}, and {at_steps}: the loss stays when the steps are equal."
        return Verdict(Outcome.REPRODUCED, reason, effects)
    reason = f"{at_epochs}; {at_steps}, too uncertain to say whether the loss stays when the steps are equal."
    return Verdict(Outcome.INCONCLUSIVE, reason, effects)


def compared(e: Estimate) -> str:
    """A difference in words, with its interval: "2.80 points worse (2.61 to 2.99) than"."""
    if e.excludes(0):
        low, high = sorted((abs(e.low), abs(e.high)))
        return f"{abs(e.value):.2f} points {'better' if e.value > 0 else 'worse'} ({low:.2f} to {high:.2f}) than"
    return f"{signed(e.value)} points ({signed(e.low)} to {signed(e.high)}) beside"


def answer(table: pd.DataFrame, verdict: Verdict) -> str:
    pair, gap, steps = batch_sizes_compared(table), *(verdict.effects.get(name) for name in (AT_EPOCHS, AT_STEPS))
    if not pair or not gap or not steps or min(gap.n, steps.n) < 2:
        return "Not settled: too few seeds have been run at equal epochs and at equal steps."
    small, large = pair
    worse = f"At equal epochs B = {large} tests {abs(gap.value):.1f} points worse than B = {small}"
    at_steps = f"({spread(steps)})"
    if verdict.outcome == Outcome.CONDITIONAL:
        return f"{worse}; at equal steps {'better' if steps.low > 0 else 'the same'} {at_steps}."
    if verdict.outcome == Outcome.REPRODUCED:
        return f"Yes. {worse}, and at equal steps too {at_steps}."
    if verdict.outcome == Outcome.NOT_REPRODUCED:
        return f"No. At equal epochs B = {large} tests no worse than B = {small} ({spread(gap)} points)."
    if gap.high < 0:
        return f"{worse}. Whether the loss stays at equal steps is not settled {at_steps}."
    return f"Not settled: at equal epochs B = {large} against B = {small} is {spread(gap)} points."


def _shen(name: str, printed: str, batch_size: int, column: str, note: str = "") -> Published:
    where = {"arm": EQUAL_EPOCHS, "batch_size": batch_size}
    return Published(name, printed, where, column, "%", 100, note)


PUBLISHED = (
    _shen("test accuracy, B = 2", "99", 2, "test_accuracy", "three runs take many hours, and no verdict rests on them"),
    _shen("test accuracy, B = 64", "98", 64, "test_accuracy"),
    _shen("train accuracy, B = 64", "100", 64, "train_accuracy"),
    _shen("test accuracy, B = 1024", "95", 1024, "test_accuracy", "elsewhere in the post: about 96 %"),
    Published(
        "test accuracy, B = 512 minus B = 32, mean of 60 models",
        "-0.59",
        unit="points",
        note="other models and data; the nearest published comparison of the same kind",
    ),
)


def accuracy_curves(table: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy at both budgets, train accuracy at equal epochs, and the post's test accuracies."""
    shown = [n for n in PUBLISHED if n.column == "test_accuracy"] if "mnist" in set(table["dataset"]) else []
    published = pd.DataFrame(
        {"x": [n.where["batch_size"] for n in shown], "mean": [n.value for n in shown], "series": PUBLISHED_SERIES}
    )
    curves = (
        curve(table, "test_accuracy", "test, equal epochs", 100, arm=EQUAL_EPOCHS),
        curve(table, "test_accuracy", "test, equal steps", 100, arm=EQUAL_STEPS),
        curve(table, "train_accuracy", "train, equal epochs", 100, arm=EQUAL_EPOCHS),
        published,
    )
    return pd.concat([c for c in curves if len(c)], ignore_index=True)


def accuracy_title(table: pd.DataFrame) -> str:
    pair = batch_sizes_compared(table)
    if pair is None:
        return "Accuracy by batch size"
    epochs, steps = (difference(table, arm, *pair, "test_accuracy") for arm in (EQUAL_EPOCHS, EQUAL_STEPS))
    if not epochs.high < 0:
        return "Accuracy by batch size, at equal epochs and at equal steps"
    falls = "Test accuracy falls with the batch at equal epochs"
    if steps.high < 0:
        return f"{falls}, and at equal steps too"
    return f"{falls}, and holds at equal steps" if steps.within(margin_for(table, MARGIN)) else falls


def gap_curves(table: pd.DataFrame) -> pd.DataFrame:
    """Train minus test accuracy at both budgets."""
    table = table.assign(gap=table["train_accuracy"] - table["test_accuracy"])
    return pd.concat([curve(table, "gap", arm, 100, arm=arm) for arm in (EQUAL_EPOCHS, EQUAL_STEPS)])


def gap_title(table: pd.DataFrame) -> str:
    shown = gap_curves(table)
    shown = shown[shown["series"] == EQUAL_EPOCHS].sort_values("x")
    if len(shown) < 2 or not shown["high"].iloc[-1] < shown["low"].iloc[0]:
        return "Train minus test accuracy by batch size"
    return "At equal epochs the gap between train and test shrinks: this is no overfitting"


INTERVALS = "Points are means over paired seeds, bars 95 % t intervals."
CLAIM = Claim(
    id="generalization-gap",
    question="Does a large batch test worse?",
    statement="“higher batch sizes leads to lower asymptotic test accuracy”",
    source="shen2018",
    counter_claim="no degradation of out-of-sample error at any batch size, once training is tuned for it",
    counter_sources=("shallue2019", "hoffer2017"),
    rule=(
        f"Paired differences over seeds, large batch minus small, 95 % t intervals. Reproduced: the test "
        f"accuracy at equal epochs is lower for the large batch (interval below zero), and at equal steps "
        f"too. Conditional: lower at equal epochs, but at equal steps the same to within ±{MARGIN} points (two "
        f"one-sided tests, 5 %) or higher. Not reproduced: at equal epochs the same to within ±{MARGIN} points, "
        f"or higher. Inconclusive: anything else. The margin is for 10,000 test images and grows as one over the "
        f"root of their number: ±{MARGIN * math.sqrt(10):.1f} points on MNIST-5k's 1,000."
    ),
    history=(
        Revision(
            "2026-11-20T09:41",
            "Written, a quarter of an hour after four runs that are shared with the reference set-up had begun; the "
            "margin had been named before them.",
        ),
    ),
    sentences={
        "higher batch sizes leads to lower asymptotic": (),
        "when using a larger batch there is a degradation": (Judged(words="By the post's network and rates"),),
    },
    settings=SETTINGS,
    design=design,
    judge=judge,
    answer=answer,
    advice=(
        "Compare batch sizes at equal steps, or with the learning rate tuned for each.",
        "At equal epochs and one learning rate you measure missing steps.",
    ),
    change="A large batch that stays behind after as many steps, on any of these datasets.",
    published=PUBLISHED,
    figures=(
        Figure(
            "accuracy",
            "curves",
            accuracy_curves,
            accuracy_title,
            "batch size B",
            "accuracy (%)",
            f"Accuracy at the end of training. {INTERVALS}",
        ),
        Figure(
            "train-minus-test",
            "curves",
            gap_curves,
            gap_title,
            "batch size B",
            "train − test accuracy (points)",
            f"The generalization gap in the narrow sense: train minus test accuracy. {INTERVALS}",
        ),
    ),
)
