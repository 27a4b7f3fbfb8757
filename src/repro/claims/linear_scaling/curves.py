"""Linear scaling: Goyal's own criterion, that training curves of scaled runs coincide."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from repro.claims.linear_scaling.experiment import SGD
from repro.claims.linear_scaling.readings import best, ends
from repro.evidence.intervals import geometric, mean_interval
from repro.evidence.spec import Outcome, Verdict
from repro.evidence.tables import point, select
from repro.evidence.tuning import Optimum

COINCIDE = 0.1  # training curves coincide where losses differ by at most this, relative


def base_size(table: pd.DataFrame) -> int | None:
    """The batch size that training curves are scaled from: the smallest that has a best learning rate."""
    return min(best(table), default=None)


def next_size(found: Mapping[int, Optimum], base: int) -> int:
    return min(size for size in found if size > base)


def training_losses(table: pd.DataFrame) -> pd.DataFrame:
    """Training loss of SGD after whole epochs: a row a batch size, learning rate and epoch, a column a seed."""
    rows = select(table, arm=SGD, status="finished").assign(epoch=lambda r: r["epoch"].round(6))
    rows = rows[(rows["epoch"] > 0) & (rows["epoch"] % 1 == 0)]
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
    base, found = base_size(table), best(table)
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
    base, found = base_size(table), best(table)
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


def judge_curves(table: pd.DataFrame) -> Verdict:
    base, found = base_size(table), best(table)
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
