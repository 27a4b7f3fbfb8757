"""Shen: gradients in a batch compete, so that their norm grows as √B and larger batches spread more; read how?"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from repro.evidence.intervals import Estimate, geometric, mean_interval
from repro.evidence.spec import Claim, Figure, Outcome, Published, Scale, Settings, Verdict
from repro.evidence.tables import final, over_seeds, point, records, unfold
from repro.measure.noise import NoiseScale
from repro.probes.gradients import (
    READINGS,
    Reading,
    Row,
    above_slope,
    below_slope,
    cv_slope,
    fit,
    fitted_mean_squares,
    mean_squares,
    norm_slope,
    per_example,
)
from repro.trial import SEEDS, Sweep, Trial, paired_seeds

EARLY, LATE = "early", "late"
ROOT_LOW, ROOT_HIGH = 0.4, 0.6  # slopes of the mean norm that count as √B: a tenth is a factor of 2 over B = 1 … 1024
RISE = 0.05  # log-log slope that counts as growing: a factor of 1.4 over B = 1 … 1024
MIN_SEEDS = 3

PAPER: Settings = {
    "dataset": "mnist",
    "train_size": None,
    "widths": (1024, 1024),
    "batch_size": 1024,
    "lr": 0.01,
    "early_epochs": 2,
    "epochs": 30,
    "draws": 1000,
    "seeds": 5,
}
SMALL: Settings = {**PAPER, "dataset": "mnist5k", "batch_size": 64}
SETTINGS = {
    Scale.SMOKE: (
        {**SMALL, "train_size": 600, "widths": (16,), "early_epochs": 2, "epochs": 10, "draws": 40, "seeds": 2},
    ),
    Scale.LAPTOP: ({**SMALL, "widths": (64,), "draws": 200},),
    Scale.PAPER: (PAPER, {**PAPER, "dataset": "fashion-mnist", "seeds": 3}),
}


def design(settings: Settings) -> list[Sweep]:
    """One network, measured at the end of a short and of a long training. Both gradient claims read these trials."""
    names = ("dataset", "train_size", "widths", "batch_size", "lr", "draws", "epochs")
    fields: dict[str, Any] = {name: settings[name] for name in names}
    base = Trial(**fields, probes=("fit",), final_probes=("gradient norms", "gradient tails"))
    return [
        Sweep(arm, base, {"epochs": (settings[epochs],), SEEDS: paired_seeds(settings["seeds"])})
        for arm, epochs in ((EARLY, "early_epochs"), (LATE, "epochs"))
    ]


SUMS = tuple(r for r in READINGS if r.reduction == "sum")
POINTS = (EARLY, LATE)
HISTOGRAM_SIZES = (1, 4, 16, 64, 256, 1024)


def measured(table: pd.DataFrame, arm: str) -> list[dict[str, Any]]:
    return records(table, "drawn_batch_size", arm=arm)


def is_root(slope: Estimate) -> bool | None:
    """Whether the interval lies inside the band of √B; None where it lies neither inside nor outside."""
    if slope.n < MIN_SEEDS:
        return None
    if slope.low >= ROOT_LOW and slope.high <= ROOT_HIGH:
        return True
    return False if slope.high < ROOT_LOW or slope.low > ROOT_HIGH else None


def rises(slope: Estimate) -> bool | None:
    if slope.n < MIN_SEEDS:
        return None
    return True if slope.low > RISE else False if slope.high < RISE else None


@dataclass(frozen=True)
class Sentence:
    """A sentence of the post, the slopes that speak for it, and when they do. Of the norms' spread only the sum-reduced
    readings are looked at: the reduction cannot change it."""

    text: str
    decide: Callable[[Estimate], bool | None]
    slopes: Mapping[str, Callable[[Reading, Row], float]]
    of_spread: bool

    def label(self, reading: Reading) -> str:
        return reading.spread_name if self.of_spread else reading.name

    def effects(self, table: pd.DataFrame) -> dict[tuple[str, str], dict[str, Estimate]]:
        """(reading, point of training) -> its slopes over seeds"""
        found = {}
        for reading, arm in itertools.product(SUMS if self.of_spread else READINGS, POINTS):
            slopes = {what: functools.partial(slope, reading) for what, slope in self.slopes.items()}
            rows = measured(table, arm)
            found[self.label(reading), arm] = {what: over_seeds(rows, slope) for what, slope in slopes.items()}
        return found


ROOT = Sentence("the mean norm is proportional to √B", is_root, {"slope of the mean norm": norm_slope}, False)
SPREAD = Sentence("scaled to equal means, larger batches spread more", rises, {"slope of the CV": cv_slope}, True)
REACH = {"slope of the reach above": above_slope, "slope of the reach below": below_slope}
BOTH_ENDS = Sentence("scaled so, they have both larger and smaller values", rises, REACH, True)
SENTENCES = (ROOT, SPREAD, BOTH_ENDS)
Answers = dict[tuple[str, str], bool | None]


def answer(sentence: Sentence, effects: Mapping[tuple[str, str], Mapping[str, Estimate]]) -> Answers:
    """Whether each reading, at each point of training, supports the sentence; None where that is not settled."""
    answers: Answers = {}
    for where, slopes in effects.items():
        each = [sentence.decide(slope) for slope in slopes.values()]
        answers[where] = False if False in each else None if None in each else True
    return answers


def _named(answers: Answers, which: bool | None) -> str:
    """The readings of which this is the answer, and at which points: "sum, frozen, one batch (early and late)"."""
    points: dict[str, list[str]] = {}
    for (name, arm), found in answers.items():
        if found is which:
            points.setdefault(name, []).append(arm)
    return "; ".join(f"{name} ({' and '.join(arms)})" for name, arms in points.items())


def judge_sentence(sentence: Sentence, table: pd.DataFrame) -> tuple[Answers, Verdict]:
    found = sentence.effects(table)
    answers = answer(sentence, found)
    effects = {f"{what}, {name}, {arm}": e for (name, arm), slopes in found.items() for what, e in slopes.items()}
    told, unsettled = (_named(answers, which) for which in (True, None))
    left = f" Not settled: {unsettled}." if unsettled else ""
    outcome, reason = Outcome.NOT_REPRODUCED, "No reading supports it."
    if all(answers.values()):
        outcome, reason = Outcome.REPRODUCED, "Every reading supports it."
    elif told:
        outcome, reason = Outcome.CONDITIONAL, f"Supported, of all readings, by: {told}.{left}"
    elif None in answers.values():
        outcome, reason = Outcome.INCONCLUSIVE, "No reading is settled to support it, and not all are ruled out."
    return answers, Verdict(outcome, reason, effects)


def judge(table: pd.DataFrame) -> Verdict:
    seeds = {arm: len(measured(table, arm)) for arm in POINTS}
    if min(seeds.values()) < MIN_SEEDS:
        told = ", ".join(f"{n} {arm}" for arm, n in seeds.items())
        return Verdict(Outcome.INCONCLUSIVE, f"Too few seeds: {told}; {MIN_SEEDS} is the least.", bends(table))
    judged = {s.text: judge_sentence(s, table) for s in SENTENCES}
    parts = {text: verdict for text, (_, verdict) in judged.items()}

    def holds(reading: Reading) -> list[bool | None]:
        return [judged[s.text][0][s.label(reading), arm] for s in SENTENCES for arm in POINTS]

    effects = bends(table)
    whole = [r.name for r in READINGS if all(holds(r))]
    if whole:
        reason = f"One reading supports all three sentences at both points: {'; '.join(whole)}."
        return Verdict(Outcome.REPRODUCED, reason, effects, parts)
    outcomes = [verdict.outcome for verdict in parts.values()]
    if Outcome.NOT_REPRODUCED in outcomes:
        without = list(parts)[outcomes.index(Outcome.NOT_REPRODUCED)]
        reason = f"No reading of the experiment supports the sentence: {without}."
        return Verdict(Outcome.NOT_REPRODUCED, reason, effects, parts)
    if any(False not in holds(r) for r in READINGS) or Outcome.INCONCLUSIVE in outcomes:
        reason = "The readings are not settled enough to say which sentences they support."
        return Verdict(Outcome.INCONCLUSIVE, reason, effects, parts)
    most = max(READINGS, key=lambda r: holds(r).count(True))
    reason = (
        "Each sentence is supported by some reading of the experiment, but no reading supports all three at both "
        f"points; the best, {most.name}, has {holds(most).count(True)} of {len(holds(most))}."
    )
    return Verdict(Outcome.CONDITIONAL, reason, effects, parts)


def bends(table: pd.DataFrame) -> dict[str, Estimate]:
    """B_simple = S²/‖G‖², where the root-mean-square norm bends from √B to B: fitted, and from the examples. Geometric
    means over seeds: it differs by factors. Not a number where one is infinite: its norms do not bend."""
    ways: dict[str, Callable[[Row], float]] = {
        "fitted to the norms": lambda row: fit(row).scale,
        "of the examples' gradients": lambda row: NoiseScale(row["noise_trace"], row["noise_squared_norm"]).scale,
    }
    fitted, direct = ways.values()
    ways["fitted over the examples' (times)"] = lambda row: fitted(row) / direct(row)
    found = {}
    for arm, (way, scale) in itertools.product(POINTS, ways.items()):
        logs = [np.log(scale(row)) for row in measured(table, arm)]
        bend = mean_interval(logs if np.isfinite(logs).all() else [])
        found[f"B_simple, {way}, {arm}"] = geometric(bend) if bend.n else bend
    return found


NOTE = "√B; of the reading closest to it, the sum-reduced gradient of one batch at frozen weights"
PUBLISHED = tuple(
    Published(f"log-log slope of the mean norm in B, {arm}", "0.5", {"arm": arm}, "single_slope", note=NOTE)
    for arm in POINTS
)


def _by_size(table: pd.DataFrame, arm: str, value: Callable[[Row], Any], series: str) -> list[dict[str, object]]:
    """Mean over seeds of a list by batch size; of the sizes at which all are finite."""
    rows = measured(table, arm)
    columns = zip(*(value(row) for row in rows), strict=True)
    sizes = rows[0]["drawn_batch_size"] if rows else ()
    return [
        point(mean_interval(column), x=size, series=series)
        for size, column in zip(sizes, columns, strict=True)
        if np.isfinite(column).all()
    ]


def _dots(table: pd.DataFrame, sentence: Sentence, what: str, low: float, high: float) -> pd.DataFrame:
    rows = [
        point(slopes[what], name=name, series=f"{arm} in training", band_low=low, band_high=high)
        for (name, arm), slopes in sentence.effects(table).items()
        if slopes[what].n
    ]
    return pd.DataFrame(rows)


def norm_dots(table: pd.DataFrame) -> pd.DataFrame:
    """Slope of the mean norm in B, by reading and point of training."""
    return _dots(table, ROOT, "slope of the mean norm", ROOT_LOW, ROOT_HIGH)


def spread_dots(table: pd.DataFrame) -> pd.DataFrame:
    """Slope of the coefficient of variation in B, by reading and point of training."""
    points = _dots(table, SPREAD, "slope of the CV", RISE, np.nan)
    return points.assign(band_high=max(0.5, float(points["mean"].max()))) if len(points) else points


def _told(table: pd.DataFrame, sentence: Sentence) -> list[str]:
    """Readings that support the sentence at both points."""
    answers = answer(sentence, sentence.effects(table))
    names = dict.fromkeys(name for name, _ in answers)
    return [name for name in names if all(answers[name, arm] for arm in POINTS)]


def norm_title(table: pd.DataFrame) -> str:
    count = len(_told(table, ROOT))
    return f"In {count} of {len(READINGS)} readings the mean norm surely grows as √B\nboth early and late in training"


def spread_title(table: pd.DataFrame) -> str:
    told = _told(table, SPREAD)
    readings = f"{len(told)} of {len(SUMS)} readings{':' if told else ''}\n{'; '.join(told)}"
    return f"Early and late, larger batches spread more in {readings}".strip()


def norm_curves(table: pd.DataFrame) -> pd.DataFrame:
    """Mean norm by batch size, every reading, early in training."""
    return pd.DataFrame([row for r in READINGS for row in _by_size(table, EARLY, r.norms, r.name)])


def curves_title(table: pd.DataFrame) -> str:
    points = norm_dots(table)
    early = points[points["series"].str.startswith(EARLY)]["mean"]
    powers = f"{early.min():.2f} to {early.max():.2f}"
    return f"Read eight ways, the same gradients have norms\nthat go as B to powers from {powers}"


def theory_curves(table: pd.DataFrame) -> pd.DataFrame:
    """Mean squared norm of a single batch over B, measured and as fitted."""
    rows = []
    for arm in POINTS:
        for name, squares in (("measured", mean_squares), ("fitted", fitted_mean_squares)):
            rows += _by_size(table, arm, functools.partial(per_example, squares), f"{name}, {arm}")
    return pd.DataFrame(rows)


def theory_title(table: pd.DataFrame) -> str:
    found = bends(table)
    ways = ("fitted to the norms", "of the examples' gradients")
    fitted, direct = (found[f"B_simple, {way}, {EARLY}"] for way in ways)
    if not math.isfinite(fitted.value + direct.value):
        return "The root-mean-square norm early in training, and noise and mean of which it is made"
    return (
        f"Early in training, the norms bend at B = {fitted.value:,.0f}, fitted;\n"
        f"by noise and mean of the examples' gradients they should at {direct.value:,.0f}"
    )


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
        out += [point(mean_interval(shares[x].tolist()), x=x, series=f"B={size}") for x in shares]
    points = pd.DataFrame(out)
    return points.assign(low=points["low"].clip(lower=0)) if out else points  # a share


def histogram_title(table: pd.DataFrame) -> str:
    cv: dict[Any, Any] = {row["x"]: row["mean"] for row in _by_size(table, EARLY, lambda r: r["cv_frozen_single"], "")}
    first, last = min(cv), max(cv)
    return (
        f"One batch's norm has a standard deviation of {cv[first]:.2f} of its mean\n"
        f"at B={first:g} and of {cv[last]:.2f} at B={last:g}"
    )


CAPTION = "Means over paired seeds with 95 % t intervals. Gradients of the last layer's weight."
CLAIM = Claim(
    id="gradient-competition",
    question="Do summed gradients grow as √B?",
    statement="larger batches have larger variance in the distance",
    source="shen2018",
    counter_claim="noise and mean gradient explain the norm, and a sum of more gradients spreads less",
    counter_sources=("mccandlish2018",),
    rule=(
        "The post's text admits eight readings: gradients reduced by sum or mean, weights frozen or moving, the norm "
        "of one batch or accumulated over 1,024 examples. Each is measured early and late in training, and each slope "
        f"is that of a least-squares line through logarithms over all batch sizes, with a 95 % t interval over seeds. "
        f"A reading supports √B where the slope of the mean norm lies between {ROOT_LOW} and {ROOT_HIGH}, interval and "
        f"all; a larger spread where the slope of the coefficient of variation lies above {RISE}; larger and smaller "
        "values where the 95 % and the 5 % quantile both move away from the mean, in units of the mean, with slopes "
        f"above {RISE}. Reproduced: one reading supports all three sentences, early and late. Conditional: each "
        "sentence is supported by some reading at some point. Not reproduced: some sentence by none. Inconclusive: "
        f"fewer than {MIN_SEEDS} seeds, or intervals too wide to say. A sentence alone is reproduced where every "
        "reading supports it, conditional where some do."
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
            "norm-slope",
            "dots",
            norm_dots,
            norm_title,
            "log-log slope of the mean norm in B",
            "",
            f"The shaded band counts as √B. {CAPTION}",
        ),
        Figure(
            "spread-slope",
            "dots",
            spread_dots,
            spread_title,
            "log-log slope of the coefficient of variation in B",
            "",
            "The spread of the norms over draws, divided by their mean. It is the same for sums and means. In the "
            f"shaded band it grows with B, as the post says. {CAPTION}",
        ),
        Figure(
            "norm-by-size",
            "curves",
            norm_curves,
            curves_title,
            "batch size B",
            "mean norm",
            f"Early in training. {CAPTION}",
            y_scale="log",
        ),
        Figure(
            "theory",
            "curves",
            theory_curves,
            theory_title,
            "batch size B",
            "mean squared norm / B",
            "One batch, sum-reduced, frozen weights: E‖Σ g‖² = B(1 − B/N) S² + B² ‖G‖², without replacement. Flat: the "
            f"noise alone, norms as √B. Rising: the mean gradient adds up. {CAPTION}",
            y_scale="log",
        ),
        Figure(
            "histogram",
            "lines",
            histogram_lines,
            histogram_title,
            "norm / mean norm",
            "share of draws",
            "Norms of the sum-reduced gradient of one batch at frozen weights, early in training, each batch size "
            "scaled to a mean of one. Bands are 95 % t intervals over seeds.",
            x_scale="linear",
        ),
    ),
)
