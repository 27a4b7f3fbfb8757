"""Linear scaling: what a learning rate is best by, the best at every batch size, and what following a rule costs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from repro.claims.linear_scaling.experiment import EARLY, READ, SGD
from repro.evidence.intervals import mean_interval, paired_difference
from repro.evidence.tables import point, select
from repro.evidence.tuning import Optimum, optima

LINEAR, SQUARE_ROOT, CONSTANT = "in proportion", "square root", "unchanged"
RULES = {LINEAR: 1.0, SQUARE_ROOT: 0.5, CONSTANT: 0.0}  # learning rate goes as the batch size to this power
MEASURED = ["train_loss", "validation_loss", "validation_accuracy", "test_accuracy"]  # of every cell of the grid
SMALL = 32  # the largest batch size over which the slope is judged; from its best rate rules are followed, up and down
TRAINING = f"training loss, epoch {EARLY}"  # by which the best learning rate is chosen
COLUMNS = ("arm", "key", "final", "status", "dataset", "epoch", "batch_size", "lr", "init_seed", *MEASURED)
READINGS = {  # what a learning rate can be best by, as columns of `ends`, all least at the best
    TRAINING: "early_loss",
    "held-out loss": "validation_loss",
    "held-out loss, stopped early": "stopped_loss",
    "held-out accuracy": "validation_error",
}


def ends(table: pd.DataFrame, arm: str) -> pd.DataFrame:
    """Final rows of an arm, of trials that diverged too, with all that a learning rate can be best by: of the training
    loss its mean over the checkpoints of `experiment.READ`, and that after the first epoch; the held-out loss at its
    least after an epoch; the held-out error."""
    rows = table.loc[(table["arm"] == arm).to_numpy(), [c for c in COLUMNS if c in table]]
    last = select(rows, final=True)
    if not {"epoch", "train_loss", "validation_loss"} <= set(rows.columns):
        return last
    epoch = rows["epoch"].round(6)
    read = (epoch >= READ[0]) & (epoch <= READ[-1])
    derived = {
        "early_loss": rows[read].groupby("key")["train_loss"].mean(),
        "first_loss": rows[epoch == 1].groupby("key")["train_loss"].mean(),
        "stopped_loss": rows[epoch >= 1].groupby("key")["validation_loss"].min(),
    }
    derived = {name: last["key"].map(values) for name, values in derived.items()}
    return last.assign(**derived, validation_error=1 - last["validation_accuracy"])


def best(table: pd.DataFrame, reading: str = TRAINING) -> dict[int, Optimum]:
    """The best learning rate of plain SGD by batch size, by one of READINGS, or another column of `ends`."""
    return optima(ends(table, SGD), READINGS.get(reading, reading))


def of_small(found: Mapping[int, Optimum]) -> dict[int, Optimum]:
    return {size: o for size, o in found.items() if size <= SMALL}


def near_best(found: Optimum) -> tuple[float, float]:
    """The lowest and the highest learning rate around the best that seeds do not tell from it: the paired t interval
    of their loss minus the best one's holds zero."""
    at = int(np.argmin(np.abs(found.rates - found.tuned.lr)))

    def told_apart(k: int) -> bool:
        other = found.losses[k]
        return bool(np.isnan(other).any()) or mean_interval(other - found.losses[at]).excludes(0)

    low, high = at, at
    while low > 0 and not told_apart(low - 1):
        low -= 1
    while high + 1 < len(found.rates) and not told_apart(high + 1):
        high += 1
    return float(found.rates[low]), float(found.rates[high])


def costs(table: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy (points) at each rule's learning rate, minus that at the best by held-out loss: paired difference
    over seeds at the grid's learning rate nearest to the rule's. Rules are followed from the batch size SMALL, or the
    largest below it that was run: from its best learning rate, and from either end of those near it (column `start`).
    Where a trial of the rule diverged, or its learning rate is beyond the grid, there is no mean."""
    rows_of_arm = ends(table, SGD)
    found, tested = optima(rows_of_arm), optima(rows_of_arm, "test_accuracy")
    known = [size for size in found if size <= SMALL]
    if not known or len(found) < 2:
        return pd.DataFrame(columns=["x", "mean", "low", "high", "n", "series", "start"])
    base, rows = max(known), []
    lowest, highest = near_best(found[base])
    starts = {"best": found[base].tuned.lr, "lowest": lowest, "highest": highest}
    for (rule, power), (size, optimum), (start, lr) in itertools.product(RULES.items(), found.items(), starts.items()):
        wanted = lr * (size / base) ** power
        at = int(np.argmin(np.abs(np.log(optimum.rates / wanted))))
        half_step = 1.001 * math.sqrt(optimum.rates[1] / optimum.rates[0])
        inside = optimum.rates[at] / half_step <= wanted <= optimum.rates[at] * half_step
        accuracy = tested[size].on(optimum.seeds)
        lost = 100 * (accuracy[at] - accuracy[optimum.rates == optimum.tuned.lr][0])
        known_everywhere = inside and np.isfinite(lost).all()
        e = paired_difference(lost, np.zeros_like(lost)) if known_everywhere else mean_interval([])
        rows.append(point(e, x=size, series=rule, lr=wanted, start=start, base=base))
    return pd.DataFrame(rows)
