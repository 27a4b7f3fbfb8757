"""Shen: gradients of larger batches "have a much heavier tail"; in counts, or once they are of one scale?"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from repro.claims.gradient_competition.experiment import EARLY, MIN_SEEDS, POINTS, SETTINGS, design
from repro.evidence.intervals import Estimate, geometric, mean_interval
from repro.evidence.spec import Claim, Figure, Outcome, Published, Verdict
from repro.evidence.tables import final, over_seeds, point, records, unfold
from repro.measure import tails
from repro.probes.gradients import PUBLISHED_VALUES

SMALL, LARGE = 2, 1024  # the batch sizes that the post compares; the largest that was drawn where 1024 was not
GAUSSIAN_FROM = 256  # Panigrahi et al.: Gaussian from this batch size on
MARGIN = 0.1  # of α̂: what it must lie below that of Gaussian values of the same scales to tell of more than scales
MANY = 1.0  # decades more large values that count as more
MEASURES = {"excess kurtosis": "kurtosis", "Hill's ξ": "hill", "1/α̂": "inverse_alpha"}  # each grows with the tail
DRAWS, COORDINATES = "draws", "coordinates"
HISTOGRAM_SIZES = (1, 2, 16, 128, 1024)


def measured(table: pd.DataFrame, arm: str) -> list[dict[str, Any]]:
    return records(table, "tail_batch_size", arm=arm)


def by_size(row: Any, column: str) -> dict[float, float]:
    return dict(zip(row["tail_batch_size"], row[column], strict=True))


def excess(row: Any, measure: str, axis: str) -> dict[float, float]:
    """A measure minus that of its Gaussian surrogate, by batch size."""
    ours, surrogate = (by_size(row, f"{measure}_{axis}{kind}") for kind in ("", "_surrogate"))
    return {size: ours[size] - surrogate[size] for size in ours}


def growth(table: pd.DataFrame, arm: str, measure: str, axis: str) -> Estimate:
    """The measure beyond its surrogate at the largest batch size, minus that at B=2: above zero, heavier."""

    def value(row: Any) -> float:
        found = excess(row, measure, axis)
        return found[max(found)] - found[SMALL]

    return over_seeds(measured(table, arm), value)


def decades(reduction: str, row: Any) -> float:
    """Log₁₀ of how many times as many values are large at the largest batch as at B=2, where they are 100; not a number
    where too few were drawn to say."""
    return row.get(f"large_values_{reduction}", math.nan) - 2


def judge_counts(table: pd.DataFrame) -> Verdict:
    """More large values at the largest batch than at B=2, whatever their scale?"""
    effects, more = {}, {}
    for reduction, arm in itertools.product(("sum", "mean"), POINTS):
        e = over_seeds(measured(table, arm), functools.partial(decades, reduction))
        effects[f"log₁₀ of how many times as many large values, {reduction}-reduced, {arm}"] = e
        more[reduction, arm] = True if e.low > MANY else False if e.high < MANY else None
    if not all(e.n for e in effects.values()):
        return Verdict(Outcome.INCONCLUSIVE, "Too few values were drawn to say which are large.", effects)
    sums, means = ({more[reduction, arm] for arm in POINTS} for reduction in ("sum", "mean"))
    if sums == means == {True}:
        return Verdict(Outcome.REPRODUCED, "Far more large values, for sums and for means.", effects)
    if sums == {True} and means == {False}:
        return Verdict(Outcome.CONDITIONAL, "Far more large values for sums, and not for means.", effects)
    if sums == means == {False}:
        return Verdict(Outcome.NOT_REPRODUCED, "Not many more large values, for sums or means.", effects)
    return Verdict(Outcome.INCONCLUSIVE, "How many values are large is not settled, or changes with training.", effects)


def judge_shape(table: pd.DataFrame, axis: str) -> Verdict:
    """Heavier at the largest batch than at B=2, beyond what Gaussian values of the same scales give?"""
    effects = {
        f"{name}, {arm}": growth(table, arm, measure, axis)
        for (name, measure), arm in itertools.product(MEASURES.items(), POINTS)
    }
    heavier = [name for name, e in effects.items() if e.low > 0]
    lighter = [name for name, e in effects.items() if e.high < 0]
    told = f"{len(heavier)} of {len(effects)} measures are heavier at the largest batch, {len(lighter)} lighter."
    if heavier and lighter:
        return Verdict(Outcome.CONDITIONAL, f"It depends on the measure or on training: {told}", effects)
    for found, outcome in ((heavier, Outcome.REPRODUCED), (lighter, Outcome.NOT_REPRODUCED)):
        if all(any(arm in name for name in found) for arm in POINTS):
            return Verdict(outcome, told, effects)
    return Verdict(Outcome.INCONCLUSIVE, f"Too uncertain at one point of training at least: {told}", effects)


def alpha(size: float, kind: str, row: Any) -> float:
    """α̂ of the pooled noise (kind "") or of its surrogate."""
    return 1 / by_size(row, f"inverse_alpha_{COORDINATES}{kind}")[size]


def alpha_apart(size: float, row: Any) -> float:
    return alpha(size, "", row) - alpha(size, "_surrogate", row)


def judge_alpha(table: pd.DataFrame) -> Verdict:
    """Is the pooled noise of large batches α-stable with α < 2, or what Gaussian values of the same scales give?"""
    sizes = [size for size in _sizes(table) if size >= min(GAUSSIAN_FROM, max(_sizes(table)))]
    effects, beyond, below = {}, [], []
    for size, arm in itertools.product(sizes, POINTS):
        ours = over_seeds(measured(table, arm), functools.partial(alpha, size, ""))
        apart = over_seeds(measured(table, arm), functools.partial(alpha_apart, size))
        effects[f"α̂, B={size:g}, {arm}"] = ours
        effects[f"α̂ minus that of Gaussian values of the same scales, B={size:g}, {arm}"] = apart
        below.append(ours.high < 2)
        beyond.append(True if apart.high < -MARGIN else False if apart.low > -MARGIN else None)
    told = f"α̂ is surely below 2 in {sum(below)} of {len(below)} cases (B ≥ {min(sizes):g}, early and late)"
    told += f", and below that of Gaussian values of the same scales by more than {MARGIN} in {beyond.count(True)}"
    outcome = Outcome.CONDITIONAL
    if set(beyond) == {True}:
        outcome = Outcome.REPRODUCED
    elif set(beyond) == {False}:
        outcome = Outcome.NOT_REPRODUCED
    elif None in beyond:
        outcome = Outcome.INCONCLUSIVE
        told += f", with {beyond.count(None)} not settled"
    return Verdict(outcome, f"{told}.", effects)


def _sizes(table: pd.DataFrame) -> list[float]:
    rows = measured(table, EARLY)
    return list(rows[0]["tail_batch_size"]) if rows else []


COUNTS = "raw counts: far more large values in larger batches"
ACROSS_DRAWS = "across draws, each coordinate standardised: heavier tails in larger batches"
ACROSS_COORDINATES = "across coordinates, beyond their unequal scales: heavier tails in larger batches"
STABLE = "the noise of large batches is α-stable with α < 2"


def judge(table: pd.DataFrame) -> Verdict:
    seeds = {arm: len(measured(table, arm)) for arm in POINTS}
    if min(seeds.values()) < MIN_SEEDS:
        told = ", ".join(f"{n} {arm}" for arm, n in seeds.items())
        return Verdict(Outcome.INCONCLUSIVE, f"Too few seeds: {told}; {MIN_SEEDS} is the least.")
    parts = {
        COUNTS: judge_counts(table),
        ACROSS_DRAWS: judge_shape(table, DRAWS),
        ACROSS_COORDINATES: judge_shape(table, COORDINATES),
        STABLE: judge_alpha(table),
    }
    shapes = [parts[name].outcome for name in (ACROSS_DRAWS, ACROSS_COORDINATES)]
    effects = {
        f"excess kurtosis across {axis} beyond Gaussian values, largest batch minus B={SMALL}, {arm}": growth(
            table, arm, "kurtosis", axis
        )
        for axis, arm in itertools.product((DRAWS, COORDINATES), POINTS)
    }
    counts = {
        Outcome.REPRODUCED: "The raw counts grow with B.",
        Outcome.CONDITIONAL: "The raw counts grow with B for sums alone: scale, not shape.",
        Outcome.NOT_REPRODUCED: "The raw counts do not grow with B either.",
        Outcome.INCONCLUSIVE: "The raw counts are not settled.",
    }[parts[COUNTS].outcome]
    reasons = {
        Outcome.REPRODUCED: "At one scale, larger batches have heavier tails, across draws and across coordinates.",
        Outcome.NOT_REPRODUCED: "At one scale, larger batches have lighter tails, across draws and across coordinates.",
        Outcome.CONDITIONAL: "At one scale, the tails across draws and across coordinates say different things.",
        Outcome.INCONCLUSIVE: "At one scale, it is not settled which tails are heavier.",
    }
    outcome = shapes[0] if shapes[0] == shapes[1] else Outcome.CONDITIONAL
    if Outcome.INCONCLUSIVE in shapes:
        outcome = Outcome.INCONCLUSIVE
    return Verdict(outcome, f"{reasons[outcome]} {counts}", effects, parts)


def _published(arm: str) -> Published:
    note = "about 2 at B=2; what counts as large is set here so that it is 2 there, for the post does not say"
    name = f"log₁₀ of the number of large values at B=1024, {arm}"
    return Published(name, "5", {"arm": arm}, "large_values_sum", note=note)


PUBLISHED = (
    *map(_published, POINTS),
    Published(
        "batch size from which gradient noise is Gaussian (Panigrahi et al.)",
        str(GAUSSIAN_FROM),
        note="of tests on other networks; judged here by α̂ beside Gaussian values of the same scales",
    ),
)


def _flat(table: pd.DataFrame, prefix: str) -> pd.DataFrame:
    """A table that the probe flattened, early in training: columns drawn (batch size), x, y, and those of its row."""
    columns = {f"{prefix}_batch_size": "drawn", f"{prefix}_x": "x", f"{prefix}_y": "y"}
    return unfold(final(table, arm=EARLY), list(columns)).rename(columns=columns)


def _lines(rows: pd.DataFrame, mean: Callable[[pd.Series], Estimate]) -> pd.DataFrame:
    """Mean of y over seeds at every x, of a `_flat` table: a series a batch size."""
    out: list[dict[str, object]] = []
    for size in HISTOGRAM_SIZES if len(rows) else ():
        groups = rows[rows["drawn"] == size].groupby("x")["y"]
        out += [point(mean(values), x=x, series=f"B={size}") for x, values in groups]
    return pd.DataFrame(out)


def count_lines(table: pd.DataFrame) -> pd.DataFrame:
    """How many values lie in a bin of magnitudes; of the bins that are empty in no network."""
    rows = _flat(table, "magnitude")
    filled = rows[rows.groupby(["drawn", "x"])["y"].transform("min") > 0]
    return _lines(filled, lambda counts: geometric(mean_interval(np.log(counts))))


def count_title(table: pd.DataFrame) -> str:
    rows = measured(table, EARLY)
    sums, means = (2 + over_seeds(rows, functools.partial(decades, kind)).value for kind in ("sum", "mean"))
    if not math.isfinite(sums) or not math.isfinite(means):
        return "How many values of the gradient are how large, by batch size"
    told = "fewer" if means < 2 else _rounded(10**means)
    return (
        f"Where B={SMALL} has 100 large values, the largest batch has\n{_rounded(10**sums)}; "
        f"of mean-reduced gradients {told}"
    )


def _rounded(count: float) -> str:
    """A count to two figures: "3,200,000"."""
    return f"{float(f'{count:.2g}'):,.0f}"


def quantile_lines(table: pd.DataFrame) -> pd.DataFrame:
    """Quantiles of single coordinates over draws, standardised, minus those of a Gaussian."""
    points = _lines(_flat(table, "quantile"), mean_interval)
    for column in ("mean", "low", "high") if len(points) else ():
        points[column] -= points["x"]
    return points


def quantile_title(table: pd.DataFrame) -> str:
    points = quantile_lines(table)
    ends = points[points["x"] == points["x"].max()].set_index("series")["mean"]
    return (
        f"At a Gaussian's {points['x'].max():g} sd, {ends.index[0]} lies {ends.iloc[0]:.1f} sd beyond, "
        f"{ends.index[-1]} {ends.iloc[-1]:.1f} sd:\n"
        f"standardised, larger batches have {_comparative(table, DRAWS)} tails"
    )


def _comparative(table: pd.DataFrame, axis: str) -> str:
    grown = growth(table, EARLY, "kurtosis", axis)
    return "heavier" if grown.low > 0 else "lighter" if grown.high < 0 else "no surely other"


def _by_size(table: pd.DataFrame, arm: str, column: str, series: str) -> list[dict[str, object]]:
    """Mean over seeds of a list by batch size."""
    rows = measured(table, arm)
    columns = zip(*(row[column] for row in rows), strict=True)
    sizes = rows[0]["tail_batch_size"] if rows else ()
    return [point(mean_interval(values), x=x, series=series) for x, values in zip(sizes, columns, strict=True)]


def kurtosis_curves(table: pd.DataFrame) -> pd.DataFrame:
    """Kurtosis by batch size: 3 more than the excess, so that it is positive."""
    out = []
    for arm in POINTS if measured(table, EARLY) else ():
        out += _by_size(table, arm, f"kurtosis_{DRAWS}", f"across draws, {arm}")
        out += _by_size(table, arm, f"kurtosis_{COORDINATES}", f"across coordinates, {arm}")
        out += _by_size(table, arm, f"kurtosis_{COORDINATES}_surrogate", f"across coordinates, Gaussian, {arm}")
    points = pd.DataFrame(out)
    for column in ("mean", "low", "high") if out else ():
        points[column] += 3
    return points


def kurtosis_title(table: pd.DataFrame) -> str:
    points = kurtosis_curves(table)
    ends = points[points["series"] == f"across draws, {EARLY}"].set_index("x")["mean"]
    return (
        f"Early in training, across draws, kurtosis goes from {ends[SMALL]:.1f} at B={SMALL}\n"
        f"to {ends.iloc[-1]:.1f} at B={ends.index[-1]:g} (Gaussian: 3): {_comparative(table, DRAWS)} tails"
    )


@functools.cache
def null_alphas() -> dict[str, float]:
    """α̂ of samples that are not α-stable with α < 2."""
    samples = tails.null_controls(np.random.default_rng(0))
    return {name: float(tails.stable_index(values)) for name, values in samples.items()}


def alpha_dots(table: pd.DataFrame) -> pd.DataFrame:
    """α̂ of the pooled noise at B=2 and at the largest batch, of its surrogates, and of the null controls."""
    rows = []
    for arm, size in itertools.product(POINTS, (SMALL, max(_sizes(table), default=SMALL))):
        for series, kind in (("measured", ""), ("Gaussian values", "_surrogate")):
            estimate = over_seeds(measured(table, arm), functools.partial(alpha, size, kind))
            if estimate.n:
                rows.append(point(estimate, name=f"gradient noise, B={size:g}, {arm}", series=series))
    nulls = null_alphas() if rows else {}
    for name, value in nulls.items():
        series = "Gaussian values" if "Gaussian" in name else "Student's t"
        rows.append({"name": f"control: {name}", "mean": value, "low": value, "high": value, "series": series})
    return pd.DataFrame(rows)


def alpha_title(table: pd.DataFrame) -> str:
    values = null_alphas()
    gaussian = [value for name, value in values.items() if name.startswith("Gaussian, ")]
    return f"α̂ below 2 is no sign of an α-stable law:\nGaussian values give {min(gaussian):.2f} to {max(gaussian):.2f}"


CAPTION = "Means over paired seeds with 95 % t intervals. Gradients of the last layer's weight."
CLAIM = Claim(
    id="heavy-tails",
    question="Do large batches have heavier-tailed gradients?",
    statement="gradients of larger batches have a much heavier tail",
    source="shen2018",
    counter_claim="a sum of more independent gradients is closer to a Gaussian, whose tails are light",
    counter_sources=("panigrahi2019", "xie2023"),
    rule=(
        "A heavier tail is one of shape: after everything is brought to one scale. Three measures that grow with the "
        "tail (excess kurtosis, Hill's ξ of the largest 5 %, 1/α̂), each minus that of Gaussian values of the same "
        f"standard deviations, at the largest batch minus at B={SMALL}, early and late in training; 95 % t intervals "
        "over seeds. Across draws (each coordinate by itself) and across coordinates (of one draw's noise) are judged "
        "apart. On either axis: heavier where some interval lies above zero at both points and none below; lighter the "
        "other way round; conditional where some lie above and some below. Reproduced: heavier on both axes. Not "
        "reproduced: lighter on both. Conditional: anything else that is settled. Inconclusive: an axis is not "
        f"settled, or fewer than {MIN_SEEDS} seeds. Raw counts are judged apart: more than {10**MANY:.0f} times as "
        "many large values at the largest batch as at B=2, for sums and for means. So is α: reproduced where α̂ lies "
        f"more than {MARGIN} below that of Gaussian values of the same scales at every B ≥ {GAUSSIAN_FROM}, not "
        "reproduced where it does at none."
    ),
    settings=SETTINGS,
    design=design,
    judge=judge,
    answer=lambda table, verdict: verdict.reason,
    advice=("To be written.", ""),
    change="To be written.",
    published=PUBLISHED,
    figures=(
        Figure(
            "counts",
            "lines",
            count_lines,
            count_title,
            "magnitude of a gradient value, sum-reduced",
            "values a bin",
            "Raw counts over all draws and coordinates, early in training, in ten bins a decade. Dividing by B moves "
            "each line to the left by its B. Counts in the title are for as many values as the post has drawn, "
            f"{PUBLISHED_VALUES:,}. Geometric means over seeds, bands 95 % t intervals of the logarithm.",
            x_scale="log",
            y_scale="log",
        ),
        Figure(
            "quantiles",
            "lines",
            quantile_lines,
            quantile_title,
            "quantile of a Gaussian (standard deviations)",
            "measured minus Gaussian (sd)",
            "Each coordinate over draws, standardised, early in training. Zero: as a Gaussian; above it on the right: "
            "a heavier upper tail. Bands are 95 % t intervals over seeds.",
            x_scale="linear",
        ),
        Figure(
            "kurtosis",
            "curves",
            kurtosis_curves,
            kurtosis_title,
            "batch size B",
            "kurtosis",
            f"3 for a Gaussian. Gaussian: values of the same standard deviations, coordinate by coordinate. {CAPTION}",
            y_scale="log",
        ),
        Figure(
            "alpha",
            "dots",
            alpha_dots,
            alpha_title,
            "α̂ by pooled log-moments",
            "",
            "Pooled coordinates of one draw's noise beside Gaussian values of the same standard deviations, and "
            f"samples of known law, a million values each. {CAPTION}",
        ),
    ),
)
