"""Shen: "we can recover the lost test accuracy (…) by increasing the learning rate"; how far does that go?"""

from __future__ import annotations

import pandas as pd

from repro.evidence.intervals import Estimate, Unit, equivalence_p
from repro.evidence.spec import Claim, Figure, Outcome, Published, Scale, Settings, Verdict, log_checkpoints
from repro.evidence.tables import final, margin_for, paired, point, select
from repro.evidence.tuning import Tuned, cells, tune
from repro.evidence.words import bracketed, signed
from repro.trial import SEEDS, Sweep, Trial, paired_seeds, whole

SMALL, LARGE, RAISED = "small batch", "large batch", "large batch, raised lr"
GRID = "grid"
LOST, LEFT = "at the small batch's learning rate", "at the raised learning rate"  # effects
MEASURED = ["weight_distance", "bias_distance", "test_accuracy"]  # what the post prints in every cell of the grid
MARGIN = 0.3  # percentage points of 10,000 test images
PAPER = {
    "dataset": "mnist",
    "batch_sizes": (64, 256, 1024, 4096),
    "lr": 0.01,  # of the small batch, and where the grid begins
    "lr_steps": 8,  # of the grid, each twice the last
    "raise_by": 10.0,
    "epochs": 30,
    "seeds": 5,
    "grid_seeds": 3,
    "widths": (1024, 1024),
}
MNIST5K = {**PAPER, "dataset": "mnist5k", "batch_sizes": (16, 64, 256, 1024), "lr": 0.02, "widths": (128,)}
SETTINGS = {
    Scale.SMOKE: (
        {
            **MNIST5K,
            "batch_sizes": (32, 128, 512),
            "lr_steps": 4,
            "epochs": 2,
            "seeds": 3,
            "grid_seeds": 2,
            "widths": (32,),
        },
    ),
    Scale.LAPTOP: ({**MNIST5K, "epochs": 10, "seeds": 5, "grid_seeds": 3},),
    Scale.PAPER: (PAPER, {**PAPER, "dataset": "fashion-mnist", "seeds": 3, "grid_seeds": 2}),
}


def design(settings: Settings) -> list[Sweep]:
    """Three arms: the smallest batch size; one 16 times as large, or the largest there is, at its learning rate; the
    same at a higher one. And the whole grid of batch sizes and learning rates."""
    epochs, lr = settings["epochs"], settings["lr"]
    base = Trial(
        dataset=settings["dataset"],
        widths=settings["widths"],
        epochs=epochs,
        lr=lr,
        checkpoints=log_checkpoints(epochs),
    )
    small = min(settings["batch_sizes"])
    large = max(size for size in settings["batch_sizes"] if size <= 16 * small)
    pair = ("batch_size", "lr")

    def arm(name: str, points: list[tuple[int, float]], seeds: int) -> Sweep:
        return Sweep(name, base, {pair: points, SEEDS: paired_seeds(seeds)})

    grid = [
        (size, round(lr * 2**k, 10))
        for size in settings["batch_sizes"]
        for k in range(whole("lr_steps", settings["lr_steps"]))
    ]
    return [
        arm(SMALL, [(small, lr)], settings["seeds"]),
        arm(LARGE, [(large, lr)], settings["seeds"]),
        arm(RAISED, [(large, round(lr * settings["raise_by"], 10))], settings["seeds"]),
        arm(GRID, grid, min(settings["seeds"], settings["grid_seeds"])),
    ]


def best_cells(table: pd.DataFrame) -> dict[int, tuple[Tuned, Estimate]]:
    """By batch size that has run at every learning rate of the grid, three or more: the one of highest mean test
    accuracy, and the paired difference there, minus the small batch (points). The best of several looks better than
    it is: a batch size that does not recover by this measure has had every chance."""
    found = {}
    ends = select(table, arm=GRID, final=True)
    for size in sorted(set(ends["batch_size"].tolist())):
        best = tune(select(ends, batch_size=size), "test_accuracy", largest=True)
        if best and best.tried == ends["lr"].nunique():
            cell = {"arm": GRID, "batch_size": size, "lr": best.lr}
            found[size] = (best, paired(table, cell, {"arm": SMALL}, "test_accuracy", 100))
    return found


def points(table: pd.DataFrame) -> Unit:
    """Of differences in accuracy from the small batch, with the margin within which the table's count as the same."""
    margin = margin_for(table, MARGIN)
    axis = "Test accuracy, large batch minus small, percentage points"
    return Unit("points", axis, 0.0, ("large batch worse", "better"), (-margin, margin))


def judge(table: pd.DataFrame) -> Verdict:
    if "arm" not in table or table.empty:
        return Verdict(Outcome.INCONCLUSIVE, "No trial has been run.")
    margin, unit = margin_for(table, MARGIN), points(table)
    lost, left = (paired(table, {"arm": arm}, {"arm": SMALL}, "test_accuracy", 100).of(unit) for arm in (LARGE, RAISED))
    best = best_cells(table)
    effects = {
        LOST: lost,
        LEFT: left,
        **{f"B = {b} at its best, lr {t.lr:g}": e.of(unit) for b, (t, e) in best.items()},
    }
    if len(best) > 1:
        many, few = ({"arm": GRID, "batch_size": b, "lr": best[b][0].lr} for b in (max(best), min(best)))
        name = f"B = {max(best)} minus B = {min(best)}, each at its best"
        effects[name] = paired(table, many, few, "test_accuracy", 100).of(unit)
    unpaired = Verdict(Outcome.INCONCLUSIVE, "Too few paired seeds that finished.", effects)
    if lost.n < 2:
        return unpaired
    if lost.high >= 0:
        return Verdict(Outcome.INCONCLUSIVE, f"Nothing to recover: {bracketed(lost)} points is no clear loss.", effects)
    raised = select(table, arm=RAISED, final=True)["status"]
    if "diverged" in set(raised):
        reason = f"{(raised == 'diverged').sum()} of {len(raised)} trials at the raised learning rate diverged."
        return Verdict(Outcome.NOT_REPRODUCED, reason, effects)
    if left.n < 2:
        return unpaired
    worse = f"{-lost.value:.2f} points worse ({-lost.high:.2f} to {-lost.low:.2f})"
    told = f"At the small batch's learning rate the large one tests {worse}, at the raised rate it is {bracketed(left)}"
    same = equivalence_p(left.values, [0.0] * left.n, margin) < 0.05
    if not same and left.low <= 0:
        if left.high < 0 and left.value < -margin:
            return Verdict(Outcome.NOT_REPRODUCED, f"{told}: not all comes back.", effects)
        return Verdict(Outcome.INCONCLUSIVE, f"{told}, too uncertain to call it nothing.", effects)
    top = max(select(table, arm=GRID)["batch_size"], default=0)
    if top not in best or best[top][1].n < 2:
        return Verdict(Outcome.INCONCLUSIVE, f"{told}. How far up it goes: the grid is not whole yet.", effects)
    tuned, rest = best[top]
    at_top = f"At B = {top} and its best learning rate, {tuned.lr:g}, it is {bracketed(rest.of(unit))}"
    if rest.high < 0 and rest.value < -margin:
        if tuned.edge:
            at_edge = f"{at_top}, but that is the {tuned.edge} of the grid, so a better one may lie beyond."
            return Verdict(Outcome.INCONCLUSIVE, f"{told}. {at_edge}", effects)
        return Verdict(Outcome.CONDITIONAL, f"{told}. {at_top}: there no learning rate brings it all back.", effects)
    return Verdict(Outcome.REPRODUCED, f"{told}. {at_top}.", effects)


def left_over(table: pd.DataFrame, verdict: Verdict) -> str:
    """What the raised learning rate leaves, as half a sentence; "" where it has not been run."""
    lost, left = (verdict.effects.get(name) for name in (LOST, LEFT))
    if not lost or not left or min(lost.n, left.n) < 2:
        return ""
    small, large = (final(table, arm=arm) for arm in (SMALL, RAISED))
    factor, size = large["lr"].iloc[0] / small["lr"].iloc[0], large["batch_size"].iloc[0]
    ends = f"{signed(0 - left.high, '.2f')} to {signed(0 - left.low, '.2f')}"
    times = "ten times" if factor == 10 else f"{factor:.3g} times"
    rest = f"{times} the learning rate leaves {signed(0 - left.value, '.2f')} ({ends}) of the"
    return f"{rest} {-lost.value:.2f} points that B = {size} loses"


def answer(table: pd.DataFrame, verdict: Verdict) -> str:
    rest = left_over(table, verdict)
    if not rest:
        return f"Not settled. {verdict.reason}"
    if verdict.outcome == Outcome.REPRODUCED:
        return f"Yes: {rest}."
    if verdict.outcome == Outcome.CONDITIONAL:
        return f"Up to a point: {rest}. At the largest batch no learning rate brings it all back."
    if verdict.outcome == Outcome.NOT_REPRODUCED:
        return f"Not all of it: {rest}."
    return f"Not settled: {rest}."


def heat(table: pd.DataFrame) -> pd.DataFrame:
    """The post's heat-map: in each cell weight distance, bias distance and test accuracy."""
    grid = cells(select(table, arm=GRID, final=True), MEASURED)
    if grid.empty:
        return grid
    text = [
        f"{w:.{1 * (w < 100)}f} / {b:.{2 * (b < 10)}f}\n{100 * a:.1f} %" if pd.notna(a) else "diverged"
        for w, b, a in grid[MEASURED].to_numpy()
    ]
    return grid.assign(
        x=grid["lr"],
        y=grid["batch_size"],
        value=100 * grid["test_accuracy"],
        text=text,
        n=grid["trials"],
        series="test accuracy",
    )


def heat_title(table: pd.DataFrame) -> str:
    best = [tuned.lr for _, (tuned, _) in sorted(best_cells(table).items())]
    if len(best) > 1 and best == sorted(best) and best[0] < best[-1]:
        return "The larger the batch, the higher the learning rate that tests best"
    return "Test accuracy by batch size and learning rate"


def left_curves(table: pd.DataFrame) -> pd.DataFrame:
    """What is left of the loss by batch size, at the small batch's learning rate and at the best of the grid."""
    sizes = best_cells(table)
    lr = final(table, arm=SMALL)["lr"].min()
    fixed = {b: paired(table, {"arm": GRID, "batch_size": b, "lr": lr}, {"arm": SMALL}, "test_accuracy", 100)
             for b in sizes}  # fmt: skip
    series = {f"lr {lr:g} for all": fixed, "best lr each": {b: e for b, (_, e) in sizes.items()}}
    rows = [point(e, x=b, series=name) for name, points in series.items() for b, e in points.items() if e.n]
    return pd.DataFrame(rows, columns=["x", "mean", "low", "high", "n", "series"])


def left_title(table: pd.DataFrame) -> str:
    drawn = left_curves(table)
    if drawn.empty:
        return "Accuracy lost, by batch size"
    top = drawn[drawn["x"] == drawn["x"].max()]
    if len(top) == 2 and top["high"].iloc[0] < -1 and top["high"].iloc[1] >= 0:
        return "One learning rate for all costs more with every larger batch; the best costs little"
    return "What is lost at one learning rate, and at the best"


def _shen(name: str, printed: str, arm: str, column: str, unit: str = "", factor: float = 1.0) -> Published:
    return Published(f"{name}, {arm}", printed, {"arm": arm}, column, unit, factor)


CLAIM = Claim(
    id="learning-rate-recovery",
    question="Can a larger learning rate win it back?",
    statement="we can recover the lost test accuracy from a larger batch size by increasing the learning rate",
    source="shen2018",
    counter_claim="beyond some batch size no learning rate makes up for the missing steps",
    counter_sources=("shallue2019", "goyal2017"),
    rule=(
        "Paired differences in test accuracy over seeds, large batch minus the small one at its learning rate. There "
        "must be something to recover: the large batch at the same learning rate is lower (95 % t interval), else "
        f"inconclusive. Reproduced: at the raised learning rate it is the same to within ±{MARGIN} points (two "
        "one-sided tests, 5 %) or higher. Not reproduced: it is lower by more than that, the interval below zero, or a "
        "trial diverges there. Conditional: it comes back, but at the largest batch size of the grid even the best "
        f"learning rate, which must not lie on the grid's edge, leaves more than {MARGIN} points, its interval below "
        "zero; equivalence is not asked there. Inconclusive: anything else. The margin is for 10,000 test images and "
        "grows as one over the root of their number."
    ),
    settings=SETTINGS,
    design=design,
    judge=judge,
    answer=answer,
    advice=(
        "Before you blame a large batch, raise its learning rate.",
        "Most of what it loses at equal epochs comes back.",
    ),
    change=(
        "A learning rate chosen on held-out images instead of test images at the largest batch, and a small batch that "
        "is tuned too: both would make the comparison harder to pass."
    ),
    published=(
        _shen("test accuracy", "98", RAISED, "test_accuracy", "%", 100),
        _shen("weight norm", "44.7", RAISED, "weight_norm"),
        _shen("bias norm", "0.10", RAISED, "bias_norm"),
    ),
    figures=(
        Figure(
            "left",
            "curves",
            left_curves,
            left_title,
            "batch size B",
            "test accuracy minus the small batch's (points)",
            "Paired differences from the small batch at its learning rate: means over seeds and 95 % t intervals where "
            "there are two seeds or more.",
        ),
        Figure(
            "grid",
            "heat map",
            heat,
            heat_title,
            "learning rate per step",
            "B",
            "As the post prints it, in each cell: distance of the weights / of the biases from their start, and test "
            "accuracy, which is the colour too; means over seeds that finished. Diverged: the loss became infinite or "
            "not a number; a network stuck at chance has finished. Empty cells were not run.",
        ),
    ),
)
