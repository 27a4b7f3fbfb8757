"""Noise scale: how it is judged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from repro.claims.noise_scale.experiment import ALONG
from repro.claims.steps_to_target.judgement import flaws, studies
from repro.evidence.intervals import (
    Estimate,
    Unit,
    geometric,
    mean_interval,
    paired_difference,
    prediction_interval,
    slope_interval,
)
from repro.evidence.spec import Outcome, Verdict
from repro.evidence.steps import Study, critical
from repro.evidence.words import bracketed
from repro.names import DATASET_NAMES

ORDER = 10.0  # times: within an order of magnitude
SIMPLE, CURVED, ADAM, ADAM_SQUARED = (
    "noise_scale",
    "noise_scale_curvature",
    "noise_scale_adam",
    "noise_scale_adam_squared",
)
VARIANTS: Mapping[str, str] = {
    SIMPLE: "tr Σ/‖G‖²",
    CURVED: "weighed by curvature",
    ADAM: "by Adam's preconditioner",
    ADAM_SQUARED: "by its square",
}
HALF = 0.5  # a power of the noise scale below which it is of little use
LEAST = 3  # studies, of which an error for one more can be told

EXAMPLES = Unit("examples", "Examples", log=True)
RATIO = Unit("times", "Critical batch size over noise scale", 1.0, ("smaller", "larger"), (1 / ORDER, ORDER), log=True)
GROWTH = Unit("times", "Noise scale at the target over that at the start", 1.0, ("falls", "grows"), log=True)
POWER = Unit("", "Power of the noise scale with which the critical batch size goes", 0.0, ("falls", "grows"))
FACTOR = Unit(
    "", "Error of the prediction, in factors of e, with the noise scale minus without", 0.0, ("better with", "worse")
)


@dataclass(frozen=True)
class Workload:
    """One study: its critical batch size, and by variant its noise scale, the mean over the steps to the target, of
    every seed; by how much the simple one has grown from the first look after the start to the end, `growth`, and up to
    that look, `at_first`."""

    critical: Estimate
    scales: Mapping[str, Estimate]
    growth: Estimate
    at_first: Estimate

    def ratio(self, variant: str = SIMPLE) -> Estimate:
        """Critical batch size over noise scale; the two intervals, which know nothing of each other, join as squares,
        in logarithms."""
        c, s = self.critical, self.scales[variant]
        value = math.log(c.value / s.value)
        with np.errstate(divide="ignore"):
            below = math.hypot(math.log(c.value / c.low), np.log(s.high) - math.log(s.value))
            above = math.hypot(math.log(c.high / c.value), math.log(s.value) - np.log(max(s.low, 0.0)))
        logs = Estimate(value, value - below, value + above, c.n, "bootstrap over trials and t over seeds, joined")
        return geometric(logs).of(RATIO)


def mean_scale(rows: pd.DataFrame, column: str) -> float:
    """The mean of a noise scale over the steps of one trial, by the trapezoidal rule."""
    rows = rows.sort_values("step").drop_duplicates("step")
    steps = rows["step"].to_numpy(float)
    return float(np.trapezoid(rows[column].to_numpy(float), steps) / np.ptp(steps))


def by_trial(table: pd.DataFrame, study: str) -> list[pd.DataFrame]:
    """The rows of every trial along which the study's noise scale was measured, those that diverged left out."""
    if SIMPLE not in table:
        return []
    rows = table[(table["arm"] == f"{study}{ALONG}") & (table["status"] == "finished")].dropna(subset=[SIMPLE])
    rows = rows.sort_values("step")
    return [trial for _, trial in rows.groupby("init_seed") if trial["step"].nunique() > 2]


def measured(
    table: pd.DataFrame, but: tuple[str, ...] = ()
) -> Iterator[tuple[str, Study, pd.DataFrame, list[pd.DataFrame]]]:
    """Every study whose best learning rates are sound and along which the noise scale was measured with two seeds or
    more: its name, with that of the dataset where there are several; itself; its dataset's rows; and those of each
    trial along it. Arms whose names end in one of `but` are no studies."""
    if "arm" not in table or table.empty:
        return
    datasets: list[str] = table["dataset"].unique().tolist()
    for dataset in datasets:
        rows = table[table["dataset"] == dataset]
        where = f", {DATASET_NAMES[dataset]}" if len(datasets) > 1 else ""
        for name, s in studies(rows[~rows["arm"].str.endswith((ALONG, *but))]).items():
            trials = by_trial(rows, name)
            if not flaws(s) and len(s.sizes) >= 4 and len(trials) > 1:
                yield name + where, s, rows, trials


def _logs(values: list[float]) -> Estimate:
    return geometric(mean_interval(np.log(values)))


def workloads(table: pd.DataFrame) -> dict[str, Workload]:
    """By study, those whose best learning rates are sound and whose noise scale was measured with two seeds or more, by
    every variant, at three steps or more, with a finite answer every time."""
    found = {}
    for name, s, _, trials in measured(table):
        scales = {v: [mean_scale(t, v) for t in trials] for v in VARIANTS}
        growth = [float(t[SIMPLE].iloc[-1] / t[SIMPLE].iloc[1]) for t in trials]
        at_first = [float(t[SIMPLE].iloc[1] / t[SIMPLE].iloc[0]) for t in trials]
        if all(0 < x < math.inf for values in (*scales.values(), growth, at_first) for x in values):
            found[name] = Workload(
                s.estimate(critical).of(EXAMPLES),
                {v: _logs(values).of(EXAMPLES) for v, values in scales.items()},
                _logs(growth).of(GROWTH),
                _logs(at_first).of(GROWTH),
            )
    return found


def record(found: Mapping[str, Workload]) -> dict[str, list[float]]:
    """What the adviser says its error by: the workloads' noise scales and critical batch sizes, three figures each."""
    told = {name: (w.scales[SIMPLE].value, w.critical.value) for name, w in found.items()}
    return {name: [float(f"{value:.3g}") for value in values] for name, values in told.items()}


def prediction(found: Mapping[str, Workload], variant: str = SIMPLE) -> Estimate | None:
    """Critical batch size over noise scale for one more workload: the geometric mean, and the prediction interval."""
    if len(found) < LEAST:
        return None
    return geometric(prediction_interval([math.log(w.ratio(variant).value) for w in found.values()])).of(RATIO)


def errors(found: Mapping[str, Workload], variant: str | None) -> list[float]:
    """|log| of each critical batch size over what the other workloads predict: their mean ratio times its noise scale;
    with None their mean critical batch size, as if noise had not been measured."""
    logs = np.array([math.log(w.critical.value if variant is None else w.ratio(variant).value) for w in found.values()])
    others = (logs.sum() - logs) / (len(logs) - 1)
    return [float(e) for e in np.abs(logs - others)]


def judge_order(found: Mapping[str, Workload]) -> Verdict:
    """Whether every critical batch size lies within an order of magnitude of the noise scale."""
    effects = {name: w.ratio() for name, w in found.items()}
    if not effects:
        return Verdict(Outcome.INCONCLUSIVE, "No workload has both been measured.")
    holds = [name for name, e in effects.items() if e.low > 1 / ORDER and e.high < ORDER]
    breaks = [name for name, e in effects.items() if e.high < 1 / ORDER or e.low > ORDER]
    told = f"Within an order of magnitude in {len(holds)} of {len(effects)} workloads"
    if holds and breaks:
        return Verdict(Outcome.CONDITIONAL, f"{told}; beyond it in {', '.join(breaks)}.", effects)
    if len(holds) >= max(LEAST, 0.75 * len(effects)):
        return Verdict(Outcome.REPRODUCED, f"{told}.", effects)
    if len(breaks) >= LEAST:
        return Verdict(Outcome.NOT_REPRODUCED, f"{told}; beyond it in {', '.join(breaks)}.", effects)
    return Verdict(Outcome.INCONCLUSIVE, f"{told}, not settled in {len(effects) - len(holds) - len(breaks)}.", effects)


def judge_apart(found: Mapping[str, Workload]) -> Verdict:
    """Whether, over the workloads of plain SGD, the critical batch size grows with the noise scale: those of another
    optimizer on the same network and data have nearly the same noise."""
    found = {name: w for name, w in found.items() if name.split(", ")[1] == "SGD"}
    scales = [math.log(w.scales[SIMPLE].value) for w in found.values()]
    if len(found) < LEAST or np.ptp(scales) == 0:
        return Verdict(Outcome.INCONCLUSIVE, f"Needs {LEAST} workloads, has {len(found)}.")
    power = slope_interval(scales, [math.log(w.critical.value) for w in found.values()]).of(POWER)
    ours, none = (math.exp(float(np.mean(errors(found, v)))) for v in (SIMPLE, None))
    reason = (
        f"Over workloads of SGD, the critical batch size goes as the noise scale to the power {bracketed(power)}; "
        f"predicted from the others, it is off by {ours:.1f} times with the noise scale, by {none:.1f} without."
    )
    if power.low > 0:
        outcome = Outcome.CONDITIONAL if power.high < HALF else Outcome.REPRODUCED
        return Verdict(outcome, reason, {"power": power})
    return Verdict(Outcome.NOT_REPRODUCED if power.high < HALF else Outcome.INCONCLUSIVE, reason, {"power": power})


def judge_against(found: Mapping[str, Workload], variant: str, other: str, better: str) -> Verdict:
    """Whether one noise scale predicts a critical batch size from the other workloads better than another."""
    if len(found) < LEAST:
        return Verdict(Outcome.INCONCLUSIVE, f"Needs {LEAST} workloads, has {len(found)}.")
    difference = paired_difference(errors(found, variant), errors(found, other)).of(FACTOR)
    ours, theirs = (math.exp(float(np.mean(errors(found, v)))) for v in (variant, other))
    told = f"Predicted from the other workloads, it is off by {ours:.1f} times {better}, {theirs:.1f} without"
    effects = {"with minus without": difference}
    if difference.excludes(0):
        outcome = Outcome.REPRODUCED if difference.value < 0 else Outcome.NOT_REPRODUCED
        return Verdict(outcome, f"{told}.", effects)
    return Verdict(Outcome.INCONCLUSIVE, f"{told}: {len(found)} workloads do not settle it.", effects)


def judge_growth(found: Mapping[str, Workload]) -> Verdict:
    """Whether, over workloads, the noise scale grows from the first look after the start to the target: from where
    training begins it cannot but grow."""
    effects = {name: w.growth for name, w in found.items()} | {
        f"{name}, before": w.at_first for name, w in found.items()
    }
    if len(found) < LEAST:
        return Verdict(Outcome.INCONCLUSIVE, f"Needs {LEAST} workloads, has {len(found)}.", effects)
    mean, first = (
        geometric(mean_interval([math.log(getattr(w, part).value) for w in found.values()])).of(GROWTH)
        for part in ("growth", "at_first")
    )
    reason = (
        f"From a sixteenth of the way on it grows {bracketed(mean, 'times')}, the geometric mean over workloads; "
        f"before that, {bracketed(first, 'times')}."
    )
    if mean.excludes(1):
        return Verdict(Outcome.REPRODUCED if mean.value > 1 else Outcome.NOT_REPRODUCED, reason, effects)
    return Verdict(Outcome.INCONCLUSIVE, reason, effects)


def judge(table: pd.DataFrame) -> Verdict:
    found = workloads(table)
    main = judge_order(found)
    endless = [name for name, *_ in measured(table) if name not in found]
    left = f" Left out, for a look at which no noise scale could be told: {', '.join(endless)}." if endless else ""
    return Verdict(
        main.outcome,
        main.reason + left,
        main.effects,
        {
            "It tells workloads apart": judge_apart(found),
            "Weighed by curvature it predicts better": judge_against(found, CURVED, SIMPLE, "so weighed"),
            "It grows during training": judge_growth(found),
        },
    )


def answer(table: pd.DataFrame, verdict: Verdict) -> str:
    """How far the critical batch size lies from the noise scale, and for one more workload."""
    found = workloads(table)
    expected = prediction(found)
    if expected is None:
        return f"Not settled. {verdict.reason}"
    ratios = [w.ratio().value for w in found.values()]
    starts = {
        Outcome.REPRODUCED: "To within an order of magnitude.",
        Outcome.CONDITIONAL: "To within an order of magnitude, but not everywhere.",
        Outcome.NOT_REPRODUCED: "Not even to within an order of magnitude.",
    }
    mean, low, high = (f"{x:.2g}" for x in (expected.value, expected.low, expected.high))
    return (
        f"{starts.get(verdict.outcome, 'Not settled.')} Over {len(ratios)} workloads the critical batch size is {mean} "
        f"times the noise scale; for one more, expect {low} to {high} times."
    )
