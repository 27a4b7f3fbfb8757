"""Shen: "higher batch sizes lead to lower asymptotic test accuracy"; at equal epochs, or at all?"""

from __future__ import annotations

import math

import pandas as pd

from repro.evidence.intervals import Estimate, equivalence_p
from repro.evidence.spec import (
    PUBLISHED_SERIES,
    Claim,
    Figure,
    Outcome,
    Published,
    Scale,
    Settings,
    Verdict,
    log_checkpoints,
)
from repro.evidence.tables import curve, final, margin_for, paired
from repro.trial import SEEDS, Sweep, Trial, paired_seeds

EQUAL_EPOCHS, EQUAL_STEPS = "equal epochs", "equal steps"
BASE_BATCH_SIZE = 64  # its steps are the equal steps; the smallest given where 64 is not
MARGIN = 0.3  # percentage points: test accuracies closer than this count as the same, on 10,000 test images
SMALL_BATCH_SEEDS = 3  # at most, below B=16, where a run costs a hundred times as much

PAPER = {
    "dataset": "mnist",
    "batch_sizes": (2, 16, 64, 256, 1024, 4096),
    "lr": 0.01,
    "epochs": 30,
    "seeds": 10,
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
    Scale.PAPER: (PAPER, {**PAPER, "dataset": "fashion-mnist", "seeds": 3}),
}


def design(settings: Settings) -> list[Sweep]:
    """Equal epochs: every batch size for `epochs`. Equal steps, for base/4 … 16 · base: epochs in proportion
    to the batch size, which gives every arm the steps of the base, to within one step an epoch."""
    trial = Trial(dataset=settings["dataset"], widths=settings["widths"], lr=settings["lr"], epochs=1)
    sizes = settings["batch_sizes"]
    base = BASE_BATCH_SIZE if BASE_BATCH_SIZE in sizes else min(sizes)

    def sweep(arm: str, size: int, epochs: float) -> Sweep:
        seeds = min(settings["seeds"], SMALL_BATCH_SEEDS) if size < 16 else settings["seeds"]
        moves = ("batch_size", "epochs", "checkpoints")
        return Sweep(arm, trial, {moves: [(size, epochs, log_checkpoints(epochs))], SEEDS: paired_seeds(seeds)})

    at_epochs = [sweep(EQUAL_EPOCHS, size, settings["epochs"]) for size in sizes]
    near = [size for size in sizes if base / 4 <= size <= 16 * base]
    return at_epochs + [sweep(EQUAL_STEPS, size, settings["epochs"] * size / base) for size in near]


def difference(table: pd.DataFrame, arm: str, small: int, large: int, column: str) -> Estimate:
    """Paired difference over seeds, in percentage points: batch size `small` minus `large`."""
    a, b = ({"arm": arm, "batch_size": size} for size in (small, large))
    return paired(table, a, b, column, 100)


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
    train = difference(table, EQUAL_EPOCHS, small, large, "train_accuracy")
    what = f"B={small} minus B={large}"
    effects = {
        f"test accuracy, {EQUAL_EPOCHS}, {what} (pp)": gap,
        f"test accuracy, {EQUAL_STEPS}, {what} (pp)": control,
        f"train accuracy, {EQUAL_EPOCHS}, {what} (pp)": train,
    }
    if min(gap.n, control.n) < 2:
        few = f"Too few paired seeds: {gap.n} at equal epochs, {control.n} at equal steps; two is the least."
        return Verdict(Outcome.INCONCLUSIVE, few, effects)
    at_epochs = f"At equal epochs B={small} ends {gap.value:+.2f} pp from B={large}"
    at_steps = f"at equal steps {control.value:+.2f} pp"
    same_epochs = equivalence_p(gap.values, [0.0] * gap.n, margin) < 0.05
    same_steps = equivalence_p(control.values, [0.0] * control.n, margin) < 0.05
    if gap.high < 0 or (same_epochs and gap.low <= 0):
        return Verdict(Outcome.NOT_REPRODUCED, f"{at_epochs}: the large batch is no worse.", effects)
    if gap.low <= 0:
        return Verdict(Outcome.INCONCLUSIVE, f"{at_epochs}, with an interval that holds zero.", effects)
    if same_steps or control.high < 0:
        reason = f"{at_epochs}, but {at_steps}: the loss goes with the budget, not with the batch size."
        return Verdict(Outcome.CONDITIONAL, reason, effects)
    if control.low > 0:
        reason = f"{at_epochs}, and {at_steps}: the loss stays when the steps are equal."
        return Verdict(Outcome.REPRODUCED, reason, effects)
    reason = f"{at_epochs}; {at_steps}, too uncertain to say whether the loss stays when the steps are equal."
    return Verdict(Outcome.INCONCLUSIVE, reason, effects)


def _shen(name: str, printed: str, batch_size: int, column: str, note: str = "") -> Published:
    where = {"arm": EQUAL_EPOCHS, "batch_size": batch_size}
    return Published(name, printed, where, column, "%", 100, note)


PUBLISHED = (
    _shen("test accuracy, B=2", "99", 2, "test_accuracy"),
    _shen("test accuracy, B=64", "98", 64, "test_accuracy"),
    _shen("train accuracy, B=64", "100", 64, "train_accuracy"),
    _shen("test accuracy, B=1024", "95", 1024, "test_accuracy", "elsewhere in the post: about 96 %"),
    Published(
        "test accuracy, B=32 minus B=512, mean of 60 models",
        "0.59",
        unit="pp",
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
    return (
        f"From B={pair[0]} to {pair[1]} test accuracy changes by {0 - epochs.value:+.2f} pp\n"
        f"at equal epochs and by {0 - steps.value:+.2f} pp at equal steps"
    )


def gap_curves(table: pd.DataFrame) -> pd.DataFrame:
    """Train minus test accuracy at both budgets."""
    table = table.assign(gap=table["train_accuracy"] - table["test_accuracy"])
    return pd.concat([curve(table, "gap", arm, 100, arm=arm) for arm in (EQUAL_EPOCHS, EQUAL_STEPS)])


def gap_title(table: pd.DataFrame) -> str:
    points = gap_curves(table)
    points = points[points["series"] == EQUAL_EPOCHS].sort_values("x")
    if len(points) < 2:
        return "Train minus test accuracy by batch size"
    first, last = points.iloc[0], points.iloc[-1]
    return (
        f"At equal epochs, train minus test goes from {first['mean']:.1f} pp\n"
        f"at B={first['x']:.0f} to {last['mean']:.1f} pp at B={last['x']:.0f}"
    )


INTERVALS = "Points are means over paired seeds, bars 95 % t intervals."
CLAIM = Claim(
    id="generalization-gap",
    title="The generalization gap",
    statement="higher batch sizes lead to lower asymptotic test accuracy",
    source="shen2018",
    counter_claim="no degradation of out-of-sample error at any batch size, once training is tuned for it",
    counter_sources=("shallue2019", "hoffer2017"),
    rule=(
        f"Paired differences over seeds, small batch minus large, 95 % t intervals. Reproduced: the test "
        f"accuracy at equal epochs is higher for the small batch (interval above zero), and at equal steps "
        f"too. Conditional: higher at equal epochs, but at equal steps the same to within ±{MARGIN} pp (two "
        f"one-sided tests, 5 %) or lower. Not reproduced: at equal epochs the same to within ±{MARGIN} pp, "
        f"or lower. Inconclusive: anything else. The margin is for 10,000 test images and grows as one over the "
        f"root of their number: ±{MARGIN * math.sqrt(10):.1f} pp on MNIST-5k's 1,000."
    ),
    settings=SETTINGS,
    design=design,
    judge=judge,
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
            "train − test accuracy (pp)",
            f"The generalization gap in the narrow sense: train minus test accuracy. {INTERVALS}",
        ),
    ),
)
