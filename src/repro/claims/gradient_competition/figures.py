"""The pictures of a table: powers of B by reading, norms by batch size, the theory's fit, norms over their mean."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from repro.claims.gradient_competition.experiment import (
    EARLY,
    MIN_SEEDS,
    PLAIN,
    POINTS,
    RISE,
    ROOT,
    ROOT_HIGH,
    ROOT_LOW,
    SPREAD,
    SUMS,
    Sentence,
    measured,
    supporting,
    supports,
)
from repro.claims.gradient_competition.judgement import OVER, bends
from repro.evidence.intervals import mean_interval
from repro.evidence.spec import Figure
from repro.evidence.tables import final, point, unfold
from repro.evidence.words import bracketed
from repro.probes.readings import (
    ACCUMULATED,
    READINGS,
    SINGLE,
    Reading,
    Row,
    fitted_mean_squares,
    mean_squares,
    per_example,
)

HISTOGRAM_SIZES = (1, 4, 32, 256, 1024)
ROOT_LINE = "√B"


def _by_size(rows: list[dict[str, Any]], value: Callable[[Row], Any], series: str) -> list[dict[str, object]]:
    """Mean over seeds of a list by batch size; of the sizes at which all are finite."""
    columns = zip(*(value(row) for row in rows), strict=True)
    sizes = rows[0]["drawn_batch_size"] if rows else ()
    return [
        point(mean_interval(column), x=size, series=series)
        for size, column in zip(sizes, columns, strict=True)
        if np.isfinite(column).all()
    ]


def _dots(table: pd.DataFrame, sentence: Sentence, low: float, high: float) -> pd.DataFrame:
    rows = [
        point(slope, name=name, series=f"{arm} in training", band_low=low, band_high=high)
        for (name, arm), slopes in sentence.effects(table).items()
        for slope in slopes.values()
        if slope.n
    ]
    return pd.DataFrame(rows)


def norm_dots(table: pd.DataFrame) -> pd.DataFrame:
    """Power of B of the mean norm, by reading and point of training."""
    return _dots(table, ROOT, ROOT_LOW, ROOT_HIGH)


def norm_title(table: pd.DataFrame) -> str:
    told = supporting(table, ROOT)
    if told and {*told} <= {r.name for r in SUMS if r.extent != ACCUMULATED}:
        return "Only the summed gradient of one batch surely grows as √B, early and late"
    if told:
        also = " (and in other ways)" if len(told) > 1 else ""
        return f"Norms grow about as √B, early and late, read as: {told[0]}{also}"
    return "In no reading does the norm surely grow as √B, early and late in training"


def spread_dots(table: pd.DataFrame) -> pd.DataFrame:
    """Power of B of the coefficient of variation, by reading and point of training."""
    return _dots(table, SPREAD, RISE, np.nan)


def spread_title(table: pd.DataFrame) -> str:
    told = supporting(table, SPREAD)
    if not told:
        return "In no reading do larger batches surely spread more, early and late"
    if len(told) == 1:
        return f"Larger batches spread more in one reading alone: {told[0]}"
    answers = supports(SPREAD, SPREAD.effects(table))
    if not any(answers[r.spread_name, arm] is not False for r in SUMS if r.extent == SINGLE for arm in POINTS):
        return "Larger batches spread more over whole passes, but not batch by batch"
    return "Larger batches spread more in several readings, early and late in training"


def norm_curves(table: pd.DataFrame) -> pd.DataFrame:
    """Mean norm by batch size, every reading, early in training, and √B from the plain reading's first: the readings
    that show the ways to go first."""
    ways = (("sum", "moving", "accumulated"), ("sum", "frozen", "accumulated"), ("mean", "frozen", "single"))
    leading = [Reading(*way) for way in ways]
    others = [r for r in READINGS if r not in (PLAIN, *leading)]
    plain = pd.DataFrame(_by_size(measured(table, EARLY), PLAIN.norms, PLAIN.name))
    if plain.empty:
        return plain
    line = plain.iloc[0]["mean"] * np.sqrt(plain["x"] / plain.iloc[0]["x"])
    root = pd.DataFrame({"x": plain["x"], "mean": line, "series": ROOT_LINE})
    rest = [pd.DataFrame(_by_size(measured(table, EARLY, r.extent), r.norms, r.name)) for r in (*leading, *others)]
    return pd.concat([plain, root, *rest], ignore_index=True)


def curves_title(table: pd.DataFrame) -> str:
    early = [e for (_, arm), es in ROOT.effects(table).items() if arm == EARLY for e in es.values() if e.n >= MIN_SEEDS]
    if any(e.low > RISE for e in early) and any(e.high < -RISE for e in early):
        return "The same gradients, read in other ways: norms grow, stay or shrink with B"
    return "The same gradients, read in other ways: norms by batch size"


def theory_curves(table: pd.DataFrame) -> pd.DataFrame:
    """Mean squared norm of a single batch over B, measured and as fitted."""
    parts = []
    for arm in POINTS:
        found, fitted = (
            pd.DataFrame(_by_size(measured(table, arm), functools.partial(per_example, squares), f"{name}, {arm}"))
            for name, squares in (("measured", mean_squares), ("fitted", fitted_mean_squares))
        )
        parts += [found, fitted.assign(n=np.nan)]  # computed: a line without markers
    return pd.concat(parts, ignore_index=True)


def theory_title(table: pd.DataFrame) -> str:
    ratio = bends(table)[f"{OVER}, {EARLY}"]
    if ratio.n < MIN_SEEDS:
        return "The mean squared norm, and the noise and mean gradient of which it is made"
    return f"Early in training the norms bend at {bracketed(ratio)} times the predicted B"


def histogram_lines(table: pd.DataFrame) -> pd.DataFrame:
    """Share of draws by norm over its mean: one batch, frozen weights, early in training."""
    rows = unfold(final(table, arm=EARLY), ["norm_batch_size", "norm_x", "norm_y"])
    out: list[dict[str, object]] = []
    for size in HISTOGRAM_SIZES if len(rows) else ():
        of_size = rows[rows["norm_batch_size"] == size]
        shares = of_size.pivot_table(index="init_seed", columns="norm_x", values="norm_y", fill_value=0.0)
        if shares.empty:
            continue
        shares = shares.div(shares.sum(axis=1), axis=0)
        out += [point(mean_interval(shares[x].tolist()), x=x, series=f"B = {size}") for x in shares]
    points = pd.DataFrame(out)
    return points.assign(low=points["low"].clip(lower=0)) if out else points  # a share


def histogram_title(table: pd.DataFrame) -> str:
    [slope] = SPREAD.effects(table)[PLAIN.spread_name, EARLY].values()
    if slope.n >= MIN_SEEDS and slope.high < 0:
        return "Read the plain way, larger batches spread less"
    if slope.n >= MIN_SEEDS and slope.low > RISE:
        return "Read the plain way, larger batches spread more"
    return "Norms of one batch at frozen weights, scaled to one mean"


OVER_SEEDS = "Means over paired seeds, 95 % t intervals."
FIGURES = (
    Figure(
        "norm-slope",
        "dots",
        norm_dots,
        norm_title,
        "Power of B with which the mean norm goes; printed: early",
        "",
        "Twelve ways to read the post: gradients summed or averaged (sum, mean), weights frozen or moving, the norm of "
        "one batch, of all that a pass adds up (accumulated), or the average of a pass's norms. Green is nearer to √B "
        f"than to no growth, 0, and to proportion, 1. {OVER_SEEDS}",
    ),
    Figure(
        "spread-slope",
        "dots",
        spread_dots,
        spread_title,
        "Power of B with which the spread goes; printed: early",
        "",
        "The standard deviation of the norms over draws, divided by their mean: the same for sums and means. In the "
        "green it grows with B, as the post says. Averaging over a pass adds one half by itself, since larger batches "
        f"make fewer norms. {OVER_SEEDS}",
    ),
    Figure(
        "norm-by-size",
        "curves",
        norm_curves,
        curves_title,
        "batch size B",
        "mean norm",
        f"Early in training. Gradients of the last layer's weight. {OVER_SEEDS}",
        y_scale="log",
    ),
    Figure(
        "theory",
        "curves",
        theory_curves,
        theory_title,
        "batch size B",
        "mean squared norm / B",
        "One batch, summed, weights frozen. Flat: the noise alone, norms as √B. Rising: the mean gradient adds up. "
        f"Predicted from each example's gradient. {OVER_SEEDS}",
        y_scale="log",
    ),
    Figure(
        "histogram",
        "lines",
        histogram_lines,
        histogram_title,
        "norm / mean norm",
        "share of draws",
        "Norms of the summed gradient of one batch at frozen weights, early in training, each batch size scaled to a "
        "mean of one. Bands are 95 % t intervals over seeds.",
        x_scale="linear",
    ),
)
