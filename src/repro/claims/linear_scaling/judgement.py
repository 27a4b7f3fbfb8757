"""Linear scaling: how it is judged."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from repro.claims.linear_scaling.experiment import ADAM, FLOAT32, MALLADI, SGD, WARM
from repro.evidence.intervals import Estimate, Unit, geometric, mean_interval
from repro.evidence.spec import Outcome, Verdict
from repro.evidence.tables import paired, point, select
from repro.evidence.tuning import Optimum, inner, knees, noise_scale, optima, ratio, slope
from repro.evidence.words import bracketed, signed

LINEAR, SQUARE_ROOT, CONSTANT = "in proportion", "square root", "unchanged"
RULES = {LINEAR: 1.0, SQUARE_ROOT: 0.5, CONSTANT: 0.0}  # learning rate goes as the batch size to this power
MEASURED = ["train_loss", "validation_loss", "validation_accuracy", "test_accuracy"]  # of every cell of the grid
COINCIDE = 0.1  # training curves coincide where losses differ by at most this, relative
BELOW, ABOVE = "below the best knee", "above the best knee"  # effects: slopes
POWER = Unit("", "The power of B with which the best learning rate grows", sides=("flatter", "steeper"))
POINTS = Unit("points", "Test accuracy, percentage points", 0.0, ("worse", "better"))
TIMES = Unit("×", "Best learning rate as chosen by the engine over that in float32, times", 1.0, log=True)
EXAMPLES = Unit("examples", "Noise scale fitted to the best learning rates, examples", log=True)

# The best learning rate


def ends(table: pd.DataFrame, arm: str) -> pd.DataFrame:
    """Final rows of an arm, of trials that diverged too."""
    return select(table, arm=arm, final=True)


@dataclass(frozen=True)
class Regimes:
    """The best learning rate below and above the knee, or at all batch sizes where there is none; and the slopes below
    the other knees that fit about as well."""

    found: dict[int, Optimum]
    knee: int | None
    below: Estimate
    above: Estimate
    elsewhere: dict[int, Estimate]


def regimes(table: pd.DataFrame, column: str = "validation_loss") -> Regimes:
    found = inner(optima(ends(table, SGD), column))
    at, *others = knees(found) or (None,)

    def up_to(top: int | None) -> Estimate:
        return slope({b: o for b, o in found.items() if top is None or b <= top})

    above = {b: o for b, o in found.items() if at is not None and b >= at}
    return Regimes(found, at, up_to(at), slope(above), {other: up_to(other) for other in others})


# What a rule costs


def costs(table: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy (points) at each rule's learning rate, set by the best of the smallest batch size, minus that at
    the best: paired difference over seeds between the grid's learning rate nearest to the rule's and the grid's best.
    Where a trial of the rule diverged, or its learning rate is beyond the grid, there is no mean."""
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
            half_step = 1.001 * math.sqrt(optimum.rates[1] / optimum.rates[0])
            inside = nearest / half_step <= wanted <= nearest * half_step
            a, b = ({"arm": SGD, "batch_size": size, "lr": lr} for lr in (nearest, optimum.tuned.lr))
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


def next_size(found: Mapping[int, Optimum], base: int) -> int:
    return min(size for size in found if size > base)


def training_losses(table: pd.DataFrame) -> pd.DataFrame:
    """Training loss of SGD after the start: a row a batch size, learning rate and epoch, a column a seed."""
    rows = select(table, arm=SGD, status="finished")
    rows = rows[rows["epoch"] > 0].assign(epoch=lambda r: r["epoch"].round(6))
    return rows.pivot(index=["batch_size", "lr", "epoch"], columns="init_seed", values="train_loss").sort_index()


def on_rule(rate: float, size: int, base: int, lr: float) -> bool:
    """Whether `rate` is the learning rate that the linear rule gives `size` from `base` at `lr`, but for rounding."""
    return abs(math.log2(rate * base / (lr * size))) < 0.1


def scaled_sizes(rows: pd.DataFrame, base: int, lr: float) -> list[int]:
    """The batch sizes, from the base on, that have been run at the learning rate the linear rule gives them."""
    cells = rows[["batch_size", "lr"]].drop_duplicates().itertuples(index=False)
    return sorted({size for size, rate in cells if size >= base and on_rule(rate, size, base, lr)})


def scaled_losses(losses: pd.DataFrame, base: int, lr: float) -> dict[int, pd.DataFrame]:
    """Of `training_losses`, those (epochs, seeds) of `base` at learning rate `lr`, and of larger batch sizes at rates
    scaled linearly from it, by batch size: what the grid holds and what finished with every seed of the base."""
    found: dict[int, pd.DataFrame] = {}
    for size in losses.index.unique("batch_size"):
        runs = losses.loc[size]
        near = [rate for rate in runs.index.unique("lr") if on_rule(rate, size, base, lr)]
        if size < base or not near:
            continue
        runs = runs.loc[near[0]].dropna(axis=1, how="all")
        seeds = found[base].columns if found else runs.columns
        if seeds.isin(runs.columns).all():
            found[size] = runs[seeds]
    return found if base in found else {}


def log_ratios(losses: pd.DataFrame, base: int, lr: float) -> dict[int, pd.DataFrame]:
    """Logarithms of `scaled_losses` over those of the base (epochs from the second on that both measured, seeds), by
    larger batch size."""
    scaled = scaled_losses(losses, base, lr)
    ratios = {size: (runs / scaled[base]).dropna().map(math.log) for size, runs in scaled.items() if size > base}
    return {size: of_size[of_size.index >= 2] for size, of_size in ratios.items()}


def carries(losses: pd.DataFrame, base: int, lr: float) -> int:
    """The largest k up to which training curves coincide with that of `base` at `lr`, in the mean over seeds."""
    ratios, farthest = log_ratios(losses, base, lr), 1
    for size in (b for b in losses.index.unique("batch_size") if b > base):
        if size not in ratios or ratios[size].empty or (ratios[size].mean(axis=1).abs() > math.log1p(COINCIDE)).any():
            break
        farthest = size // base
    return farthest


def parts_from(table: pd.DataFrame, base: int, lr: float) -> float:
    """The least k at which training curves surely differ from that of `base` at `lr`: at some epoch by more than what
    counts as coinciding, with the t interval over seeds, or because a run diverged. Infinite where there is none."""
    ratios = log_ratios(training_losses(table), base, lr)
    apart = set(scaled_sizes(select(table, arm=SGD, status="diverged"), base, lr))
    for size, of_size in ratios.items():
        found = [mean_interval(values) for values in of_size.to_numpy()]
        if any(max(e.low, -e.high) > math.log1p(COINCIDE) for e in found):
            apart.add(size)
    return min((size / base for size in apart if size > base), default=math.inf)


def scaled_curves(table: pd.DataFrame) -> pd.DataFrame:
    """Training loss by epoch of runs whose learning rate is scaled linearly from the best of the base: geometric means
    over seeds with t intervals."""
    base, found = base_size(table), optima(ends(table, SGD))
    losses = scaled_losses(training_losses(table), base, found[base].tuned.lr) if base else {}
    return pd.DataFrame(
        [
            point(geometric(mean_interval(np.log(values))), x=epoch, series=f"B = {size}")
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
        rows += [
            {"x": lr, **largest},
            {"x": lr, "mean": cap / lr, "n": None, "series": f"k at which the rule reaches lr {cap:.3g}"},
        ]
    return pd.DataFrame(rows).assign(low=np.nan, high=np.nan)


# Judging

HELD = {LINEAR: "1 and not ½", SQUARE_ROOT: "½ and not 1", "both": "both 1 and ½", "neither": "neither 1 nor ½"}


def _power(estimate: Estimate) -> str:
    """What the interval of a slope holds, of HELD; "" where it is unknown."""
    if not math.isfinite(estimate.value) or not math.isfinite(estimate.high):
        return ""
    linear, root = not estimate.excludes(1.0), not estimate.excludes(0.5)
    return "both" if linear and root else LINEAR if linear else SQUARE_ROOT if root else "neither"


def _told(estimate: Estimate) -> str:
    told = f"B to the power {estimate.value:.2f} ({signed(estimate.low, '.2f')} to {signed(estimate.high, '.2f')})"
    return f"{told}, which holds {HELD[_power(estimate)]}" if _power(estimate) else told


def judge_slope(table: pd.DataFrame) -> Verdict:
    """The sentence itself: how the best learning rate goes with the batch size."""
    found = optima(ends(table, SGD))
    edges = [f"B = {b} ({o.tuned.edge})" for b, o in found.items() if o.tuned.edge]
    if edges:
        reason = f"The best learning rate lies on an edge of the grid at {', '.join(edges)}."
        return Verdict(Outcome.INCONCLUSIVE, reason)
    both = regimes(table)
    law = _power(both.below)
    effects = {BELOW if not both.knee else f"{BELOW}, B = {both.knee}": both.below.of(POWER)}
    if both.knee:
        effects[ABOVE] = both.above.of(POWER)
    for other, below in both.elsewhere.items():
        effects[f"below a knee at B = {other}, which fits about as well"] = below.of(POWER)
    by_training = regimes(table, "train_loss")
    knee_there = f", below its knee, B = {by_training.knee}" if by_training.knee else ""
    effects[f"by training loss{knee_there}"] = by_training.below.of(POWER)
    if not law or min(o.losses.shape[1] for o in found.values()) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Too few batch sizes or seeds.", effects)
    where = (
        f"Up to B = {both.knee} the best learning rate grows as {_told(both.below)}"
        if both.knee
        else f"The best learning rate grows as {_told(both.below)}"
    )
    if law == "both":
        return Verdict(Outcome.INCONCLUSIVE, f"{where}.", effects)
    contrary = {b: e for b, e in both.elsewhere.items() if _power(e) not in ("", "both", law)}
    if contrary:
        otherwise = "; ".join(f"at B = {b}, {_told(e)}" for b, e in contrary.items())
        reason = f"{where}. But the knee fits about as well elsewhere, with another law below it: {otherwise}."
        return Verdict(Outcome.INCONCLUSIVE, reason, effects)
    if law != LINEAR:
        return Verdict(Outcome.NOT_REPRODUCED, f"{where}.", effects)
    if not both.knee:
        return Verdict(Outcome.REPRODUCED, f"{where}.", effects)
    outcome = Outcome.REPRODUCED if _power(both.above) == LINEAR else Outcome.INCONCLUSIVE
    if both.above.excludes(1.0):
        outcome = Outcome.CONDITIONAL
    return Verdict(outcome, f"{where}; above it as {_told(both.above)}.", effects)


def judge_curves(table: pd.DataFrame) -> Verdict:
    base, found = base_size(table), optima(ends(table, SGD))
    if base is None or len(found[base].seeds) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Too few batch sizes or seeds.")
    lr, lowest, losses = found[base].tuned.lr, float(found[base].rates[0]), training_losses(table)
    tried = max(scaled_sizes(ends(table, SGD), base, lr)) // base
    if tried < 4:
        return Verdict(Outcome.INCONCLUSIVE, "Too few batch sizes whose scaled learning rate is on the grid.")
    farthest = carries(losses, base, lr)
    if all(r.empty for r in log_ratios(losses, base, lr).values()):
        return Verdict(Outcome.INCONCLUSIVE, "No two batch sizes were measured at one epoch from the second on.")
    sure = parts_from(table, base, lr)
    apart = f"surely further apart from k = {sure:.0f} on" if sure < math.inf else "surely further apart nowhere"
    reason = (
        f"They coincide to within {100 * COINCIDE:.0f} % from the second epoch on up to k = {farthest}, of {tried} "
        f"tried, and are {apart}; from the lowest learning rate of the grid, {lowest:.3g}, they coincide up to "
        f"k = {carries(losses, base, lowest)}."
    )
    if farthest == tried:
        return Verdict(Outcome.REPRODUCED, reason)
    if farthest > 1 and sure < math.inf:
        return Verdict(Outcome.CONDITIONAL, reason)
    first = next_size(found, base) / base
    return Verdict(Outcome.NOT_REPRODUCED if sure == first else Outcome.INCONCLUSIVE, reason)


def judge_warmup(table: pd.DataFrame) -> Verdict:
    """At the largest batch size, the best with warm-up minus the best without."""
    warm, cold = optima(ends(table, WARM)), optima(ends(table, SGD))
    top = max(cold, default=0)
    if top not in warm:
        return Verdict(Outcome.INCONCLUSIVE, "Not run at the largest batch size.")
    a, b = ({"arm": arm, "batch_size": top, "lr": o[top].tuned.lr} for arm, o in ((WARM, warm), (SGD, cold)))
    gain = paired(table, a, b, "test_accuracy", 100)
    effects = {f"warm-up minus none, each at its best, B = {top}": gain.of(POINTS)}
    if warm[top].tuned.edge or cold[top].tuned.edge:
        return Verdict(Outcome.INCONCLUSIVE, "A best learning rate lies on the edge of the grid.", effects)
    if gain.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, f"Too few paired seeds at B = {top}.", effects)
    told = f"At B = {top} it changes test accuracy by {bracketed(gain.of(POINTS), 'points')}"
    if not gain.excludes(0):
        return Verdict(Outcome.INCONCLUSIVE, f"{told}, an interval that holds zero.", effects)
    return Verdict(Outcome.REPRODUCED if gain.value > 0 else Outcome.NOT_REPRODUCED, f"{told}.", effects)


def judge_adam(table: pd.DataFrame, arm: str) -> Verdict:
    """Whether the best learning rate of an Adam arm goes as the square root of the batch size."""
    found = optima(ends(table, arm))
    along = slope(inner(found))
    effects = {f"{arm}, B = {min(found)} to {max(found)}" if found else arm: along.of(POWER)}
    if len(inner(found)) < len(found):
        return Verdict(Outcome.INCONCLUSIVE, "A best learning rate lies on the edge of the grid.", effects)
    if not _power(along):
        return Verdict(Outcome.INCONCLUSIVE, "Too few batch sizes or seeds.", effects)
    outcomes = {SQUARE_ROOT: Outcome.REPRODUCED, "both": Outcome.INCONCLUSIVE}
    outcome = outcomes.get(_power(along), Outcome.NOT_REPRODUCED)
    return Verdict(outcome, f"It grows as {_told(along)}.", effects)


def judge(table: pd.DataFrame) -> Verdict:
    """The verdict on the sentence, with the cost of each rule, and its four companions apart."""
    if "arm" not in table or table.empty:
        return Verdict(Outcome.INCONCLUSIVE, "No trial has been run.")
    main = judge_slope(table)
    told = costs(table)
    left = {
        f"{row.series} minus the best, B = {row.x}": Estimate(
            row.mean, row.low, row.high, int(row.n), "paired t interval", unit=POINTS
        )
        for row in told[told["x"] == told["x"].max()].itertuples()
    }
    sgd = optima(ends(table, SGD))
    for size, exact in optima(ends(table, FLOAT32)).items():
        if size in sgd:
            left[f"in float32, B = {size}"] = ratio(sgd[size], exact).of(TIMES)
    fitted = noise_scale(regimes(table).found)
    if fitted:
        left["B_noise of ε_max/(1 + B_noise/B)"] = Estimate(
            fitted[1], -math.inf, math.inf, len(regimes(table).found), "least squares", unit=EXAMPLES
        )
    parts = {
        "Scaled linearly, training curves coincide": judge_curves(table),
        "Warm-up helps the largest batch": judge_warmup(table),
        "Adam's best learning rate goes as √B": judge_adam(table, ADAM),
        "Adam's goes as √B once β₁, β₂ and ε are rescaled": judge_adam(table, MALLADI),
    }
    return dataclasses.replace(main, effects={**main.effects, **left}, parts=parts)
