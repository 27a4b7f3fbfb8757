"""Sharp minima: the loss along lines, from a small-batch network to a large-batch one, and in a random direction."""

from __future__ import annotations

import numpy as np
import pandas as pd

from repro.claims.sharp_minima.experiment import LARGE_KEPT, SMALL_KEPT
from repro.evidence.intervals import geometric, mean_interval
from repro.evidence.tables import final, point, select, unfold


def _lines(table: pd.DataFrame, arm: str, x: str, column: str, series: str, log: bool = False) -> pd.DataFrame:
    """Mean over seeds of a list-valued measure with its t interval, in the logarithm if `log`, as a figure's series."""
    columns = ["x", "mean", "low", "high", "n", "series"]
    rows = unfold(final(table, arm=arm), [x, column])
    points = []
    for position, values in rows.groupby(x)[column]:
        e = geometric(mean_interval(np.log(values))) if log else mean_interval(values)
        points.append(point(e, x=position, series=series))
    return pd.DataFrame(points, columns=columns)


def interpolation_losses(table: pd.DataFrame) -> pd.DataFrame:
    parts = [
        _lines(table, SMALL_KEPT, "interpolation_alpha", f"interpolation_{split}_loss", f"{split} loss", log=True)
        for split in ("train", "test")
    ]
    return pd.concat(parts, ignore_index=True)


def interpolation_accuracies(table: pd.DataFrame) -> pd.DataFrame:
    parts = [
        _lines(table, SMALL_KEPT, "interpolation_alpha", f"interpolation_{split}_accuracy", f"{split} accuracy")
        for split in ("train", "test")
    ]
    joined = pd.concat(parts, ignore_index=True)
    return joined.assign(**{c: (100 * joined[c].astype(float)).clip(0, 100) for c in ("mean", "low", "high")})


def _at(lines: pd.DataFrame, x: float, series: str) -> pd.Series:
    """The row of a series nearest to x."""
    rows = select(lines, series=series)
    return rows.iloc[int((rows["x"] - x).abs().argmin())]


def _above(one: pd.Series, other: pd.Series) -> bool:
    """Whether the whole interval of one lies above that of the other."""
    return bool(one["low"] > other["high"])


def interpolation_title(table: pd.DataFrame) -> str:
    found = interpolation_losses(table)
    large, small = (_at(found, x, "train loss") for x in (1.25, -0.25))
    if _above(large, small):
        return "A quarter beyond the large batch the loss is higher than beyond the small one"
    if _above(small, large):
        return "A quarter beyond the small batch the loss is higher than beyond the large one"
    return "Loss on the line through a small-batch and a large-batch network"


def accuracy_title(table: pd.DataFrame) -> str:
    found = interpolation_accuracies(table)
    middle, *ends = (_at(found, x, "test accuracy") for x in (0.5, 0, 1))
    if all(_above(middle, end) for end in ends):
        return "Halfway between the two, a network tests better than either"
    return "Accuracy on the same line"


def landscape_lines(table: pd.DataFrame) -> pd.DataFrame:
    ends = final(table)
    parts = []
    for arm in (SMALL_KEPT, LARGE_KEPT):
        rows = select(ends, arm=arm)
        if len(rows):
            name = f"B = {rows['batch_size'].iloc[0]}"
            parts.append(_lines(table, arm, "landscape_position", "landscape_loss", name, log=True))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["x", "mean", "series"])


def landscape_title(table: pd.DataFrame) -> str:
    found = landscape_lines(table)
    names = list(dict.fromkeys(found["series"]))
    if len(names) == 2:
        small, large = (_at(found, 0.5, name) for name in names)
        if _above(large, small):
            return "In units of its own weights the large batch is steeper"
        if _above(small, large):
            return "In units of its own weights the large batch is flatter"
    return "Loss along a random direction, in units of the weights' size"
