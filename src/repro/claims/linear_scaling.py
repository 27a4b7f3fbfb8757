"""Goyal: "multiply the batch by k, multiply the learning rate by k"; the best learning rate, by batch size."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from repro.evidence import paired, point, select
from repro.spec import Claim, Figure, Outcome, Published, Scale, Settings, Verdict
from repro.stats import Estimate, geometric, mean_interval
from repro.trial import SEEDS, Sweep, Trial, paired_seeds, whole
from repro.tuning import Optimum, cells, inner, knee, noise_scale, optima, slope

SGD, WARM, ADAM, MALLADI = "SGD", "SGD, warm-up", "Adam", "Adam, rescaled"
LINEAR, SQUARE_ROOT, CONSTANT = "linear", "square root", "constant"
RULES = {LINEAR: 1.0, SQUARE_ROOT: 0.5, CONSTANT: 0.0}  # learning rate goes as the batch size to this power
MEASURED = ["train_loss", "validation_loss", "validation_accuracy", "test_accuracy"]  # of every cell of the grid
COINCIDE = 0.1  # training curves coincide where losses differ by at most this, relative

PAPER = {
    "dataset": "mnist",
    "batch_sizes": tuple(2**k for k in range(4, 16)),
    "lr": 2.0**-7,  # where the grid begins
    "lr_factor": math.sqrt(2),  # from one learning rate of the grid to the next
    "lr_steps": 18,
    "epochs": 10,
    "warmup_epochs": 2,
    "seeds": 5,
    "widths": (256,),
    "adam_batch_sizes": (64, 128, 256, 512),
    "adam_lr": 2.0**-13,
    "adam_lr_steps": 7,  # each twice the last
    "adam_seeds": 3,
}
MNIST5K = {**PAPER, "dataset": "mnist5k", "widths": (64,), "seeds": 3}
SETTINGS = {
    Scale.SMOKE: (
        {
            **MNIST5K,
            "batch_sizes": (64, 256, 1024),
            "lr": 0.04,
            "lr_factor": 2.0,
            "lr_steps": 5,
            "epochs": 2,
            "warmup_epochs": 1,
            "seeds": 2,
            "widths": (16,),
            "adam_batch_sizes": (128, 512),
            "adam_lr": 2.0**-11,
            "adam_lr_steps": 3,
            "adam_seeds": 2,
        },
    ),
    Scale.LAPTOP: (
        {
            **MNIST5K,
            "batch_sizes": tuple(2**k for k in range(4, 11)),
            "lr": 2.0**-6,
            "lr_factor": 2.0,
            "lr_steps": 8,
            "epochs": 5,
            "warmup_epochs": 1,
            "adam_batch_sizes": (32, 64, 128, 256),
            "adam_lr": 2.0**-11,
            "adam_lr_steps": 6,
        },
    ),
    Scale.PAPER: (PAPER, {**PAPER, "dataset": "fashion-mnist", "seeds": 3}),
}


def design(settings: Settings) -> list[Sweep]:
    """SGD: every batch size at every learning rate. Warm-up: the same at the largest batch size. Adam: a coarser grid,
    as it is and with 1 - β₁, 1 - β₂ multiplied by κ and ε divided by √κ, where the batch size is κ times the smallest
    (Malladi et al. 2022, definition 1). All are evaluated on a validation split, and on the test set too."""
    epochs = settings["epochs"]
    base = Trial(
        dataset=settings["dataset"],
        evaluate_on="both",
        widths=settings["widths"],
        epochs=epochs,
        probes=("fit",),
        checkpoints=tuple(e for e in (1, 2, 3, 5, 7) if e < epochs),
    )

    def rates(lowest: float, factor: float, steps: int) -> list[float]:
        return [round(lowest * factor**k, 10) for k in range(whole("lr_steps", steps))]

    grid = rates(settings["lr"], settings["lr_factor"], settings["lr_steps"])
    seeds = paired_seeds(settings["seeds"])
    sizes, adam_sizes = settings["batch_sizes"], settings["adam_batch_sizes"]
    adam = Trial(**{**vars(base), "optimizer": "adam", "checkpoints": ()})
    adam_grid = rates(settings["adam_lr"], 2, settings["adam_lr_steps"])
    adam_seeds = paired_seeds(min(settings["seeds"], settings["adam_seeds"]))
    kappas = [size / min(adam_sizes) for size in adam_sizes]
    rescaled = [
        (size, 1 - k * (1 - adam.beta1), 1 - k * (1 - adam.beta2), adam.eps / math.sqrt(k))
        for size, k in zip(adam_sizes, kappas, strict=True)
        if k * (1 - adam.beta1) <= 1
    ]
    return [
        Sweep(SGD, base, {"batch_size": sizes, "lr": grid, SEEDS: seeds}),
        Sweep(
            WARM,
            base,
            {"batch_size": [max(sizes)], "warmup_epochs": [settings["warmup_epochs"]], "lr": grid, SEEDS: seeds},
        ),
        Sweep(ADAM, adam, {"batch_size": adam_sizes, "lr": adam_grid, SEEDS: adam_seeds}),
        Sweep(
            MALLADI,
            adam,
            {("batch_size", "beta1", "beta2", "eps"): rescaled, "lr": adam_grid, SEEDS: adam_seeds},
        ),
    ]


# The best learning rate


def ends(table: pd.DataFrame, arm: str) -> pd.DataFrame:
    """Final rows of an arm, of trials that diverged too."""
    return select(table, arm=arm, final=True)


@dataclass(frozen=True)
class Regimes:
    """The best learning rate below and above the knee, or at all batch sizes where there is none."""

    found: dict[int, Optimum]
    knee: float | None
    below: Estimate
    above: Estimate


def regimes(table: pd.DataFrame, column: str = "validation_loss") -> Regimes:
    found = inner(optima(ends(table, SGD), column))
    at = knee(found)
    below = {b: o for b, o in found.items() if at is None or b <= at}
    above = {b: o for b, o in found.items() if at is not None and b >= at}
    return Regimes(found, at, slope(below), slope(above))


# What a rule costs


def costs(table: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy (pp) left on the table by each rule, set by the best learning rate of the smallest batch size:
    paired difference over seeds between the best of the grid and the grid's learning rate nearest to the rule's. Where
    a trial of the rule diverged, or its learning rate is beyond the grid, there is no mean."""
    table = ends(table, SGD)
    found = optima(table)
    table = table[["arm", "batch_size", "lr", "init_seed", "final", "status", "test_accuracy"]]
    rows = []
    if not found or len(found) < 2:
        return pd.DataFrame(columns=["x", "mean", "low", "high", "n", "series"])
    base = min(found)
    start = found[base].tuned.lr
    for rule, power in RULES.items():
        for size, optimum in found.items():
            wanted = start * (size / base) ** power
            nearest = float(optimum.rates[np.argmin(np.abs(np.log(optimum.rates / wanted)))])
            step = optimum.rates[1] / optimum.rates[0]
            inside = nearest / step < wanted < nearest * step
            a, b = ({"arm": SGD, "batch_size": size, "lr": lr} for lr in (optimum.tuned.lr, nearest))
            lost = paired(table, a, b, "test_accuracy", 100) if inside else mean_interval([])
            if lost.n < optimum.losses.shape[1]:
                lost = mean_interval([])
            rows.append(point(lost, x=size, series=rule, lr=wanted))
    return pd.DataFrame(rows)


# Goyal's own criterion


def base_size(table: pd.DataFrame) -> int | None:
    """The batch size that learning rates are scaled from: 64, or the smallest that has a best learning rate."""
    found = optima(ends(table, SGD))
    return None if not found else 64 if 64 in found else min(found)


def training_losses(table: pd.DataFrame) -> pd.DataFrame:
    """Training loss of SGD after the start: a row a batch size, learning rate and epoch, a column a seed."""
    rows = select(table, arm=SGD, status="finished")
    rows = rows[rows["epoch"] > 0].assign(epoch=lambda r: r["epoch"].round(6))
    return rows.pivot(index=["batch_size", "lr", "epoch"], columns="init_seed", values="train_loss").sort_index()


def scaled_losses(losses: pd.DataFrame, base: int, lr: float) -> dict[int, pd.DataFrame]:
    """Of `training_losses`, those (epochs, seeds) of `base` at learning rate `lr`, and of larger batch sizes at rates
    scaled linearly from it, by batch size: what the grid holds and what finished with every seed of the base."""
    found: dict[int, pd.DataFrame] = {}
    for size in losses.index.unique("batch_size"):
        runs = losses.loc[size]
        near = [rate for rate in runs.index.unique("lr") if abs(math.log2(rate * base / (lr * size))) < 0.1]
        if size < base or not near:
            continue
        runs = runs.loc[near[0]].dropna(axis=1, how="all")
        seeds = found[base].columns if found else runs.columns
        if seeds.isin(runs.columns).all():
            found[size] = runs[seeds]
    return found if base in found else {}


def carries(losses: pd.DataFrame, base: int, lr: float) -> int:
    """The largest k up to which training curves coincide with that of `base` at `lr`, from the second epoch on."""
    scaled, farthest = scaled_losses(losses, base, lr), 1
    for size in (b for b in losses.index.unique("batch_size") if b > base):
        if size not in scaled:
            break
        ratios = np.log(scaled[size] / scaled[base]).mean(axis=1).dropna()  # at the epochs that both measured
        if (ratios[ratios.index >= 2].abs() > math.log1p(COINCIDE)).any():
            break
        farthest = size // base
    return farthest


def scaled_curves(table: pd.DataFrame) -> pd.DataFrame:
    """Training loss by epoch of runs whose learning rate is scaled linearly from the best of the base: geometric means
    over seeds with t intervals."""
    base, found = base_size(table), optima(ends(table, SGD))
    losses = scaled_losses(training_losses(table), base, found[base].tuned.lr) if base else {}
    return pd.DataFrame(
        [
            point(geometric(mean_interval(np.log(values))), x=epoch, series=f"B={size}")
            for size, runs in losses.items()
            for epoch, values in runs.iterrows()
        ]
    )


def reach(table: pd.DataFrame) -> pd.DataFrame:
    """How far the rule carries from the base, by the learning rate there; and where it would end if it ended at one
    learning rate, the highest that is best at any batch size."""
    base, found = base_size(table), optima(ends(table, SGD))
    if base is None:
        return pd.DataFrame(columns=["x", "mean", "low", "high", "n", "series"])
    cap = max(o.tuned.lr for o in found.values())
    losses = training_losses(table)
    rows = []
    for lr in found[base].rates[found[base].rates <= cap]:
        largest = {
            "mean": carries(losses, base, lr),
            "n": found[base].losses.shape[1],
            "series": "curves coincide up to",
        }
        rows += [{"x": lr, **largest}, {"x": lr, "mean": cap / lr, "n": None, "series": f"k that makes it {cap:.3g}"}]
    return pd.DataFrame(rows).assign(low=np.nan, high=np.nan)


# Judging


def _power(estimate: Estimate) -> str:
    """What the interval of a slope contains: "linear", "square root", "both" or "neither"; "" where it is unknown."""
    if not math.isfinite(estimate.value) or not math.isfinite(estimate.high):
        return ""
    linear, root = not estimate.excludes(1.0), not estimate.excludes(0.5)
    return "both" if linear and root else LINEAR if linear else SQUARE_ROOT if root else "neither"


def _told(estimate: Estimate) -> str:
    return f"slope {estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def judge_slope(table: pd.DataFrame) -> Verdict:
    """The sentence itself: how the best learning rate goes with the batch size."""
    found = optima(ends(table, SGD))
    edges = [f"B={b} ({o.tuned.edge})" for b, o in found.items() if o.tuned.edge]
    if edges:
        reason = f"The best learning rate lies on an edge of the grid at {', '.join(edges)}."
        return Verdict(Outcome.INCONCLUSIVE, reason)
    both = regimes(table)
    law = _power(both.below)
    effects = {"slope of the best learning rate below the knee (log-log)": both.below}
    if both.knee:
        effects["slope above the knee (log-log)"] = both.above
    by_training = regimes(table, "train_loss")
    knee_there = f" below its knee, B={by_training.knee:.0f}" if by_training.knee else ""
    effects[f"slope of the best by training loss{knee_there} (log-log)"] = by_training.below
    if not law or min(o.losses.shape[1] for o in found.values()) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Too few batch sizes or seeds.", effects)
    where = (
        f"Up to B={both.knee:.0f} the best learning rate has {_told(both.below)}"
        if both.knee
        else (f"The best learning rate has {_told(both.below)}")
    )
    if law == "both":
        return Verdict(Outcome.INCONCLUSIVE, f"{where}, which holds both 1 and ½.", effects)
    if law != LINEAR:
        held = "½, the square root, and not 1" if law == SQUARE_ROOT else "neither 1 nor ½"
        return Verdict(Outcome.NOT_REPRODUCED, f"{where}, which holds {held}.", effects)
    if both.knee and both.above.excludes(1.0):
        return Verdict(Outcome.CONDITIONAL, f"{where}, which holds 1; above it {_told(both.above)}.", effects)
    return Verdict(Outcome.REPRODUCED, f"{where}, which holds 1.", effects)


def judge_curves(table: pd.DataFrame) -> Verdict:
    base, found = base_size(table), optima(ends(table, SGD))
    tried = max(found) // base if base else 1
    if base is None or tried < 4:
        return Verdict(Outcome.INCONCLUSIVE, "Too few batch sizes to compare.")
    losses, lowest = training_losses(table), float(found[base].rates[0])
    farthest = carries(losses, base, found[base].tuned.lr)
    reason = (
        f"They coincide to within {100 * COINCIDE:.0f} % from the second epoch on up to k={farthest}, of {tried} "
        f"tried; from the lowest learning rate of the grid, {lowest:.3g}, up to k={carries(losses, base, lowest)}."
    )
    outcome = Outcome.REPRODUCED if farthest == tried else Outcome.CONDITIONAL if farthest > 1 else None
    return Verdict(outcome or Outcome.NOT_REPRODUCED, reason)


def judge_warmup(table: pd.DataFrame) -> Verdict:
    """At the largest batch size, the best with warm-up minus the best without."""
    warm, cold = optima(ends(table, WARM)), optima(ends(table, SGD))
    top = max(cold, default=0)
    if top not in warm:
        return Verdict(Outcome.INCONCLUSIVE, "Not run at the largest batch size.")
    a, b = ({"arm": arm, "batch_size": top, "lr": o[top].tuned.lr} for arm, o in ((WARM, warm), (SGD, cold)))
    gain = paired(table, a, b, "test_accuracy", 100)
    effects = {f"test accuracy at B={top}, warm-up minus none, each at its best (pp)": gain}
    if warm[top].tuned.edge or cold[top].tuned.edge:
        return Verdict(Outcome.INCONCLUSIVE, "A best learning rate lies on the edge of the grid.", effects)
    told = f"At B={top} it changes test accuracy by {gain.value:+.2f} pp"
    if gain.n < 2 or not gain.excludes(0):
        return Verdict(Outcome.INCONCLUSIVE, f"{told}, with an interval that holds zero.", effects)
    return Verdict(Outcome.REPRODUCED if gain.value > 0 else Outcome.NOT_REPRODUCED, f"{told}.", effects)


def judge_adam(table: pd.DataFrame, arm: str) -> Verdict:
    """Whether the best learning rate of an Adam arm goes as the square root of the batch size."""
    found = optima(ends(table, arm))
    along = slope(inner(found))
    effects = {"slope of the best learning rate (log-log)": along}
    if len(inner(found)) < len(found):
        return Verdict(Outcome.INCONCLUSIVE, "A best learning rate lies on the edge of the grid.", effects)
    if not _power(along):
        return Verdict(Outcome.INCONCLUSIVE, "Too few batch sizes or seeds.", effects)
    outcomes = {SQUARE_ROOT: Outcome.REPRODUCED, "both": Outcome.INCONCLUSIVE}
    held = {SQUARE_ROOT: "½ and not 1", "both": "both ½ and 1", LINEAR: "1 and not ½", "neither": "neither 1 nor ½"}
    law = _power(along)
    return Verdict(
        outcomes.get(law, Outcome.NOT_REPRODUCED), f"{_told(along).capitalize()} holds {held[law]}.", effects
    )


def judge(table: pd.DataFrame) -> Verdict:
    """The verdict on the sentence, with the cost of each rule, and its four companions apart."""
    if "arm" not in table or table.empty:
        return Verdict(Outcome.INCONCLUSIVE, "No trial has been run.")
    main = judge_slope(table)
    told = costs(table)
    left = {
        f"test accuracy left by the {row.series} rule at B={row.x} (pp)": Estimate(
            row.mean, row.low, row.high, int(row.n), "paired t interval"
        )
        for row in told[told["x"] == told["x"].max()].itertuples()
    }
    fitted = noise_scale(regimes(table).found)
    if fitted:
        left["B_noise of ε_max/(1 + B_noise/B), fitted (examples)"] = Estimate(
            fitted[1], -math.inf, math.inf, len(regimes(table).found), "least squares"
        )
    parts = {
        "Scaled linearly, training curves coincide": judge_curves(table),
        "Warm-up helps the largest batch": judge_warmup(table),
        "Adam's best learning rate goes as √B": judge_adam(table, ADAM),
        "Adam's goes as √B once β₁, β₂ and ε are rescaled": judge_adam(table, MALLADI),
    }
    return dataclasses.replace(main, effects={**main.effects, **left}, parts=parts)


# Figures


def _points(found: Mapping[int, Optimum], series: str) -> pd.DataFrame:
    """Best learning rates as a figure's series."""
    rows = []
    for size, optimum in found.items():
        e = optimum.log2_lr
        known = e.n > 1
        rows.append(
            {
                "x": size,
                "mean": 2**e.value,
                "low": 2**e.low if known else np.nan,
                "high": 2**e.high if known else np.nan,
                "n": e.n,
                "series": series,
                "edge": optimum.tuned.edge,
                "tried": optimum.tuned.tried,
                "feasible": optimum.tuned.feasible,
            }
        )
    return pd.DataFrame(rows, columns=["x", "mean", "low", "high", "n", "series", "edge", "tried", "feasible"])


def _line(sizes: list[int], start: float, power: float, series: str, highest: float) -> pd.DataFrame:
    """A rule's learning rates, up to a little beyond the highest that is drawn."""
    rates = [start * (size / sizes[0]) ** power for size in sizes]
    kept = [(size, lr) for size, lr in zip(sizes, rates, strict=True) if lr < 4 * highest]
    return pd.DataFrame({"x": [x for x, _ in kept], "mean": [y for _, y in kept], "series": series})


def best_rates(table: pd.DataFrame) -> pd.DataFrame:
    """Best learning rates by batch size, the rules from the smallest, and McCandlish's law fitted."""
    found = optima(ends(table, SGD))
    if not found:
        return _points({}, "")
    sizes, start = list(found), 2 ** found[min(found)].log2_lr.value
    highest = max(2**o.log2_lr.value for o in found.values())
    parts = [_points(found, "best on held-out data")]
    parts.append(_points(inner(optima(ends(table, SGD), "train_loss")), "best on training data"))
    parts += [_line(sizes, start, RULES[rule], f"{rule} rule", highest) for rule in (LINEAR, SQUARE_ROOT)]
    fitted = noise_scale(inner(found))
    if fitted:
        law = [fitted[0] / (1 + fitted[1] / size) for size in sizes]
        parts.append(pd.DataFrame({"x": sizes, "mean": law, "series": "McCandlish's law, fitted"}))
    return pd.concat(parts, ignore_index=True)


def best_title(table: pd.DataFrame) -> str:
    both = regimes(table)
    if not math.isfinite(both.below.value):
        return "The best learning rate by batch size"
    if both.knee is None:
        return f"The best learning rate grows as B to the {both.below.value:.2f}"
    return (
        f"Up to B={both.knee:.0f} the best learning rate grows as B to the {both.below.value:.2f},\nbeyond as B to the "
        f"{both.above.value:.2f}"
    )


def costs_title(table: pd.DataFrame) -> str:
    told = costs(table).dropna(subset=["mean"])
    if told.empty:
        return "What each rule leaves on the table"
    far = []
    for rule, points in told.groupby("series", sort=False):
        below = points[(points["mean"] < 1).cummin()]["x"]
        far.append(f"{rule} to B={below.max():.0f}")
    return f"Less than 1 pp is left on the table by: {', '.join(far)}"


def curves_title(table: pd.DataFrame) -> str:
    base, found = base_size(table), optima(ends(table, SGD))
    if base is None:
        return "Training curves of linearly scaled runs"
    lr = found[base].tuned.lr
    farthest = carries(training_losses(table), base, lr)
    return f"Scaled linearly from lr {lr:.3g} at B={base}, training curves\ncoincide up to k={farthest}"


def reach_title(table: pd.DataFrame) -> str:
    points = reach(table)
    points = points[points["series"] == "curves coincide up to"]
    if points.empty:
        return "How far the linear rule carries"
    first, last = points.iloc[0], points.iloc[-1]
    return (
        f"From lr {first['x']:.3g} at B={base_size(table)} the linear rule carries up to k={first['mean']:.0f},\n"
        f"from lr {last['x']:.3g} up to k={last['mean']:.0f}"
    )


def adam_rates(table: pd.DataFrame) -> pd.DataFrame:
    found = {arm: optima(ends(table, arm)) for arm in (ADAM, MALLADI)}
    parts = [_points(o, arm) for arm, o in found.items() if o]
    if not parts:
        return _points({}, "")
    sizes = sorted({size for o in found.values() for size in o})
    start = 2 ** next(iter(found.values()))[sizes[0]].log2_lr.value if sizes[0] in found[ADAM] else 1e-3
    highest = max(p["mean"].max() for p in parts)
    return pd.concat(
        [*parts, *(_line(sizes, start, RULES[rule], f"{rule} rule", highest) for rule in (LINEAR, SQUARE_ROOT))],
        ignore_index=True,
    )


def adam_title(table: pd.DataFrame) -> str:
    slopes = {arm: slope(inner(optima(ends(table, arm)))).value for arm in (ADAM, MALLADI)}
    known = [f"{arm}, as B to the {value:.2f}" for arm, value in slopes.items() if math.isfinite(value)]
    return f"The best learning rate of {'; of '.join(known)}" if known else "Best learning rates of Adam by batch size"


def grid(table: pd.DataFrame) -> pd.DataFrame:
    found = cells(ends(table, SGD), MEASURED)
    if found.empty:
        return found
    text = [f"{100 * a:.1f}" if not d else "×" for a, d in zip(found["test_accuracy"], found["diverged"], strict=True)]
    return found.assign(
        x=found["lr"],
        y=found["batch_size"],
        value=100 * found["test_accuracy"].where(found["diverged"] == 0),
        text=text,
        n=found["trials"],
        series="test accuracy",
    )


def grid_title(table: pd.DataFrame) -> str:
    found = cells(ends(table, SGD), MEASURED)
    if found.empty:
        return "Test accuracy by batch size and learning rate"
    ends_of = [found[found["batch_size"] == size] for size in (found["batch_size"].min(), found["batch_size"].max())]
    best = [rows.loc[rows["test_accuracy"].idxmax()] for rows in ends_of if rows["test_accuracy"].notna().any()]
    told = ", ".join(f"{row['lr']:.3g} for B={row['batch_size']:.0f}" for row in best)
    lost = f"{found['diverged'].sum():.0f} of {found['trials'].sum():.0f} trials diverged"
    return f"Test accuracy is highest at lr {told};\n{lost}" if told else lost


def _goyal(name: str, printed: str) -> Published:
    return Published(f"ImageNet error, {name}", printed, unit="%", note="ResNet-50 on ImageNet, out of reach here")


INTERVALS = "Bars are 95 % intervals over paired seeds."
CLAIM = Claim(
    id="linear-scaling",
    title="The linear scaling rule",
    statement="when the minibatch size is multiplied by k, multiply the learning rate by k",
    source="goyal2017",
    counter_claim="no simple heuristic for the learning rate holds at all batch sizes",
    counter_sources=("shallue2019", "mccandlish2018"),
    rule=(
        "The best learning rate of every batch size is that of least mean validation loss on a grid, between grid "
        "points by a parabola. The knee is where a bent line fits their logarithms best. Reproduced: the 95 % interval "
        "of the slope (bootstrap over seeds or t interval about the line, the wider) holds 1 and not ½, to the largest "
        "batch. Conditional: up to the knee it does, and above it does not hold 1. Not reproduced: up to the knee it "
        "does not hold 1. Inconclusive: it holds both, a best learning rate lies on the grid's edge, or there are too "
        "few. Apart: training curves of linearly scaled runs coincide where their losses differ by at most "
        f"{100 * COINCIDE:.0f} % from the second epoch on (conditional: up to some k); warm-up helps if at the largest "
        "batch size, each at its best, test accuracy is higher with it (paired t interval above zero); Adam's best "
        "learning rate goes as √B if the interval of its slope holds ½ and not 1."
    ),
    settings=SETTINGS,
    design=design,
    judge=judge,
    published=(
        _goyal("B=256", "23.60"),
        _goyal("B=8192, linear rule and warm-up", "23.74"),
        _goyal("B=8192, learning rate not scaled", "41.67"),
        _goyal("B=8192, square-root rule", "26.22"),
        _goyal("B=16384", "24.79"),
        _goyal("B=32768", "27.55"),
        _goyal("B=65536", "33.96"),
        _goyal("B=256, half the learning rate", "23.92"),
        _goyal("B=256, twice the learning rate", "23.68"),
        _goyal("B=8192, half the learning rate", "24.27"),
        _goyal("B=8192, twice the learning rate", "24.05"),
    ),
    figures=(
        Figure(
            "best",
            "curves",
            best_rates,
            best_title,
            "batch size B",
            "best learning rate (per step)",
            "Learning rate of the least loss on held-out data, which decides, and on the training data, with bootstrap "
            "intervals over seeds. The rules start from the smallest batch.",
            y_scale="log",
        ),
        Figure(
            "costs",
            "curves",
            costs,
            costs_title,
            "batch size B",
            "test accuracy left on the table (pp)",
            "Best of the grid minus the rule's learning rate, set at the smallest batch size. A line ends where the "
            f"rule's runs diverge or its learning rate is beyond the grid. The axis is logarithmic beyond "
            f"±2. {INTERVALS}",
            y_scale="symlog",
        ),
        Figure(
            "curves",
            "lines",
            scaled_curves,
            curves_title,
            "epoch",
            "training loss (nats)",
            "Runs whose learning rate is scaled linearly from the best of the smallest batch size shown. Bands are "
            "95 % t intervals over seeds.",
            x_scale="linear",
            y_scale="log",
        ),
        Figure(
            "reach",
            "curves",
            reach,
            reach_title,
            "learning rate of the smaller batch (per step)",
            "k: how much larger a batch",
            "Up to which k training curves coincide with those of the smaller batch, by its learning rate. Dashed: the "
            "k at which the rule arrives at the highest learning rate that is best at any batch size.",
            x_scale="log",
            y_scale="log",
        ),
        Figure(
            "adam",
            "curves",
            adam_rates,
            adam_title,
            "batch size B",
            "best learning rate (per step)",
            "As above, for Adam; rescaled: 1 − β₁ and 1 − β₂ times κ and ε over √κ, κ the batch size over the "
            "smallest.",
            y_scale="log",
        ),
        Figure(
            "grid",
            "heat map",
            grid,
            grid_title,
            "learning rate (per step)",
            "batch size B",
            "Every trial of plain SGD: mean test accuracy (%) over seeds, × where one diverged.",
        ),
    ),
)
