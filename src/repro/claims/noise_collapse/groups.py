"""Noise collapse: settings, in groups that have something in common, and how much they differ within them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from repro.claims.noise_collapse.experiment import SMALL
from repro.evidence.intervals import Estimate, Unit, bootstrap_interval, luck_of, mean_interval
from repro.evidence.tables import select

FITS = 0.99  # least mean training accuracy of a cell that counts as trained
MOST = 0.2  # share of the variance that lies within groups: below, they collapse
RESAMPLES = 999
RESOLVED = 4.0  # times the variance of luck: what settings must differ by
LEAST = 3  # cells of a group, and points of a slope
SHARE = Unit("of the variance", "Share of the variance of test accuracy that lies within groups", MOST,
             ("collapses", "does not"))  # fmt: skip
EXCESS = Unit("", "That share by equal epochs, minus that by equal η/B", 0.0, ("epochs tell more", "η/B tells more"))


@dataclass(frozen=True)
class Cells:
    """Test accuracy (points) of an arm's settings: `values` (cells, seeds) and a table of what each cell is, among
    it log2 of ηN/(B(1 - m)), `noise`, of weight decay over B, `knob`, and of `epochs`."""

    about: pd.DataFrame
    values: np.ndarray
    seeds: tuple[int, ...] = ()

    def where(self, keep: pd.Series) -> Cells:
        return Cells(self.about[keep].reset_index(drop=True), self.values[keep.to_numpy()], self.seeds)

    def on(self, seeds: tuple[int, ...]) -> Cells:
        """Of these seeds alone."""
        return Cells(self.about, self.values[:, [self.seeds.index(s) for s in seeds]], seeds)


COLUMNS = ["batch_size", "lr", "momentum", "weight_decay", "train_size", "steps"]


def cells(table: pd.DataFrame, *arms: str) -> Cells:
    """The settings of arms, over the seeds that all of them were run with. A trial that diverged has the accuracy that
    it ended with."""
    rows = select(table, final=True) if "arm" in table and len(table) else table.iloc[:0]
    rows = rows[rows["arm"].isin(arms)].drop_duplicates("key") if len(rows) else rows
    if rows.empty:
        return Cells(
            pd.DataFrame(columns=[*COLUMNS, "noise", "knob", "epochs", "train"], dtype=float), np.zeros((0, 0))
        )
    test, train = (
        rows.pivot(index=COLUMNS, columns="init_seed", values=f"{split}_accuracy") for split in ("test", "train")
    )
    known = test.notna().all(axis=0) & train.notna().all(axis=0)
    test, train = test.loc[:, known], train.loc[:, known]
    about = test.index.to_frame(index=False)
    noise = about["lr"] * about["train_size"] / (about["batch_size"] * (1 - about["momentum"]))
    with np.errstate(divide="ignore"):  # no weight decay
        knob = np.log2(about["weight_decay"] / about["batch_size"]).round(6)
    epochs = np.log2(about["steps"] * about["batch_size"] / about["train_size"]).round(2)
    about = about.assign(noise=np.log2(noise).round(6), knob=knob, epochs=epochs, train=train.mean(axis=1).to_numpy())
    return Cells(about, 100 * test.to_numpy(), tuple(map(int, test.columns)))


def is_small(about: pd.DataFrame) -> pd.Series:
    """Whether the batch is small beside the training set."""
    return about["batch_size"] * SMALL <= about["train_size"]


def share_of(labels: np.ndarray) -> Callable[..., np.ndarray]:
    """A function of mean accuracies (cells, ...) and of the variance that luck gives such a mean: the variance within
    groups of equal label (pooled, one-way analysis of variance), less that of luck, over the variance of all. Where
    labels mean nothing it is 1 on average, so at times more; where they mean all, 0, at times less."""
    _, group = np.unique(labels, return_inverse=True)
    member = np.eye(group.max() + 1)[group]  # (cells, groups)
    counts, n = member.sum(0), len(labels)

    def share(y: np.ndarray, luck: np.ndarray | float = 0.0) -> np.ndarray:
        y = y - y.mean(0)
        sums, squares = np.tensordot(member.T, y, 1), (y**2).sum(0)
        explained = (sums**2 / counts.reshape(-1, *[1] * (y.ndim - 1))).sum(0)
        return np.asarray(((squares - explained) / (n - len(counts)) - luck) / (squares / (n - 1)))

    return share


def in_groups(found: Cells, by: str) -> Cells:
    """The cells in groups of LEAST or more that have `by` in common."""
    return found.where(found.about.groupby(by)[by].transform("size") >= LEAST)


def _share(found: Cells, by: str) -> Callable[..., np.ndarray] | None:
    """`share_of` the cells by groups of equal `by`, of seeds drawn (..., n). None without two seeds or two groups."""
    found = in_groups(found, by)
    if found.about[by].nunique() < 2 or found.values.shape[1] < 2:
        return None
    share = share_of(found.about[by].to_numpy())

    def statistic(seeds: np.ndarray, axis: int = -1) -> np.ndarray:
        drawn = np.moveaxis(found.values[:, seeds.astype(int)], axis if axis < 0 else axis + 1, 1)
        return share(drawn.mean(1), luck_of(drawn))

    return statistic


def spread(found: Cells, by: str) -> Estimate:
    """The share of variance within groups, bootstrapped over seeds. Of no seed without two groups."""
    share = _share(found, by)
    return (over_seeds(share, found.values.shape[1]) if share else mean_interval([])).of(SHARE)


def without_one(found: Cells, by: str) -> float:
    """The least share that lies within the same groups if any one cell is left out."""
    found = in_groups(found, by)
    others = (found.where(pd.Series(found.about.index != i)) for i in found.about.index)
    return min(float(share_of(o.about[by].to_numpy())(o.values.mean(1), luck_of(o.values))) for o in others)


def excess(found: Cells, by: str, over: str) -> Estimate:
    """That share in groups of equal `by`, minus the share in groups of equal `over`."""
    one, other = _share(found, by), _share(found, over)
    if one is None or other is None:
        return mean_interval([]).of(EXCESS)
    return over_seeds(lambda seeds, axis=-1: one(seeds, axis) - other(seeds, axis), found.values.shape[1]).of(EXCESS)


def resolved(found: Cells, by: str) -> bool:
    """Whether cells differ by more than luck: their variance is RESOLVED times that."""
    values = in_groups(found, by).values
    return bool(values.mean(1).var(ddof=1) > RESOLVED * luck_of(values))


def chance(found: Cells, by: str) -> float:
    """p of the permutation test: how often cells dealt out to the groups at random spread as little within them."""
    found = in_groups(found, by)
    labels, means = found.about[by].to_numpy(), found.values.mean(1)
    share, rng = share_of(labels), np.random.default_rng(0)
    dealt = np.stack([rng.permutation(means) for _ in range(RESAMPLES)], axis=1)
    return float((1 + (share(dealt) <= share(means)).sum()) / (RESAMPLES + 1))


def over_seeds(statistic: Callable[..., np.ndarray], n: int) -> Estimate:
    rng = np.random.default_rng(0)
    found = bootstrap_interval(np.arange(n), statistic, rng, resamples=RESAMPLES, vectorized=True)
    return Estimate(found.value, found.low, found.high, n, found.method)


def small(table: pd.DataFrame, *arms: str) -> Cells:
    """The settings of arms whose batch is small beside the training set."""
    found = cells(table, *arms)
    return found.where(is_small(found.about))


def trained(found: Cells) -> Cells:
    """Those that fit."""
    return found.where(found.about["train"] >= FITS)
