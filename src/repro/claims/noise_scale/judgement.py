"""Noise scale: how it is judged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from repro.claims.noise_scale.experiment import ALONG
from repro.claims.steps_to_target.experiment import TARGETS
from repro.claims.steps_to_target.judgement import flaws, studies
from repro.evidence.intervals import (
    Estimate,
    Unit,
    geometric,
    mean_interval,
    paired_difference,
    paired_values,
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
ALIKE = "every step alike"  # the simple one, each step counting as much as any other
HALF = 0.5  # a power of the noise scale below which it is of little use
LEAST = 3  # networks on a dataset, of which an error for one more can be told
SHARE = 0.75  # of the workloads, that must hold
TWICE = 2.0  # times: within this factor a noise scale is the same wherever it is measured

EXAMPLES = Unit("examples", "Examples", log=True)
RATIO = Unit("times", "Critical batch size over noise scale", 1.0, ("smaller", "larger"), (1 / ORDER, ORDER), log=True)
GROWTH = Unit("times", "Noise scale, later over earlier", 1.0, ("falls", "grows"), log=True)
ELSEWHERE = Unit(
    "times",
    "Noise scale, at the larger batch size over the smaller",
    1.0,
    ("smaller", "larger"),
    (1 / TWICE, TWICE),
    True,
)
POWER = Unit("", "Power of the noise scale with which the critical batch size goes", 0.0, ("falls", "grows"))
FACTOR = Unit(
    "", "Error of the prediction, in factors of e, with the noise scale minus without", 0.0, ("better with", "worse")
)


@dataclass(frozen=True)
class Workload:
    """One study: its critical batch size, and by variant its noise scale, the mean over the steps to the target, of
    every seed; the simple one at the `start`; by how much it grows from the first third of the way to the last,
    `growth`, and from the start to the first third, `at_first`; and how many times as large it is along large batches,
    `elsewhere`."""

    critical: Estimate
    scales: Mapping[str, Estimate]
    start: float
    growth: Estimate
    at_first: Estimate
    elsewhere: Estimate

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


def mean_scale(rows: pd.DataFrame, column: str, alike: bool = False) -> float:
    """The mean of a noise scale over the steps of one trial, by the trapezoidal rule: each counts by how much of the
    way it makes, 1/(1 + noise scale/B), unless all count `alike`. McCandlish et al. (2018, appendix D): so weighed it
    is E_min/S_min."""
    steps, scale, batch_size = (rows[name].to_numpy(float) for name in ("step", column, "batch_size"))
    weights = np.ones_like(scale) if alike else 1 / (1 + scale / batch_size)
    with np.errstate(invalid="ignore"):  # of a noise scale without an end there is no mean
        return float(np.trapezoid(weights * scale, steps) / np.trapezoid(weights, steps))


def by_trial(table: pd.DataFrame, study: str, larger: bool = False) -> list[pd.DataFrame]:
    """The rows, by step, of every trial along which the study's noise scale was measured, at the smallest batch size or
    the one `larger`, up to the look at which the target is met; those that diverged left out."""
    if SIMPLE not in table:
        return []
    return on_the_way(table.dropna(subset=[SIMPLE]), study, larger)


def on_the_way(table: pd.DataFrame, study: str, larger: bool) -> list[pd.DataFrame]:
    """What `by_trial` gives, of a table without rows to leave out."""
    rows = table[(table["arm"] == f"{study}{ALONG}") & (table["status"] == "finished")]
    if rows.empty or (larger and rows["batch_size"].nunique() < 2):
        return []
    size = rows["batch_size"].max() if larger else rows["batch_size"].min()
    found = []
    for _, trial in rows[rows["batch_size"] == size].groupby("init_seed"):
        trial = trial.sort_values("step").drop_duplicates("step")
        met = (trial["validation_accuracy"] >= TARGETS[trial["dataset"].iloc[0]]).to_numpy()
        found.append(trial.iloc[: int(met.argmax()) + 1] if met.any() else trial)
    return [trial for trial in found if len(trial) > 2]


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


def places(names: Iterable[str]) -> set[tuple[str, ...]]:
    """The networks on a dataset among workloads: other optimizers on one see nearly the same noise."""
    return {(name.split(", ")[0], *name.split(", ")[2:]) for name in names}


def by_place(found: Mapping[str, float]) -> list[float]:
    """The mean of a number of each workload over those of one place."""
    grouped = pd.Series([*found.values()]).groupby([str(places([name])) for name in found])
    return [float(mean) for mean in grouped.mean()]


def thirds(trial: pd.DataFrame) -> tuple[float, float, float]:
    """log of the simple noise scale at the start, and in the mean over the looks of the first third of the way after
    it, and of the last third."""
    share, logs = trial["step"] / trial["step"].max(), np.log(trial[SIMPLE])
    later = [logs[part].mean() for part in ((share > 0) & (share < 0.34), share > 0.66)]
    return float(logs.iloc[0]), *(float(x) for x in later)  # type: ignore[return-value]


def _logs(values: list[float]) -> Estimate:
    return geometric(mean_interval(np.log(values)))


def workloads(table: pd.DataFrame) -> dict[str, Workload]:
    """By study, those whose best learning rates are sound and whose noise scale was measured with two seeds or more, at
    three steps or more; of its variants those that have a finite answer every time."""
    found = {}
    for name, s, rows, trials in measured(table):
        scales = {v: [mean_scale(t, v) for t in trials] for v in VARIANTS if v in rows}
        scales[ALIKE] = [mean_scale(t, SIMPLE, alike=True) for t in trials]
        known = {v: values for v, values in scales.items() if all(0 < x < math.inf for x in values)}
        start, early, late = np.array([thirds(t) for t in trials]).T
        if SIMPLE not in known or not np.isfinite([start, early, late]).all():
            continue
        here, there = (
            {int(t["init_seed"].iloc[0]): math.log(mean_scale(t, SIMPLE)) for t in of}
            for of in (trials, by_trial(rows, s.name, larger=True))
        )
        found[name] = Workload(
            s.estimate(critical).of(EXAMPLES),
            {v: _logs(values).of(EXAMPLES) for v, values in known.items()},
            math.exp(start.mean()),
            geometric(mean_interval(late - early)).of(GROWTH),
            geometric(mean_interval(early - start)).of(GROWTH),
            geometric(paired_difference(*paired_values(there, here))).of(ELSEWHERE),
        )
    return found


def record(found: Mapping[str, Workload]) -> dict[str, list[float]]:
    """What the adviser says its error by: the workloads' noise scales, critical batch sizes, and noise scales at the
    start, three figures each."""
    told = {name: (w.scales[SIMPLE].value, w.critical.value, w.start) for name, w in found.items()}
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


def _in_all(effects: Mapping[str, Estimate], factor: float, told: str) -> Verdict:
    """Whether ratios lie within a factor of one, in as many places as it takes."""
    if not effects:
        return Verdict(Outcome.INCONCLUSIVE, "No workload has both been measured.")
    holds = [name for name, e in effects.items() if e.low > 1 / factor and e.high < factor]
    breaks = [name for name, e in effects.items() if e.high < 1 / factor or e.low > factor]
    told = f"{told} in {len(holds)} of {len(effects)} workloads"
    if holds and breaks:
        return Verdict(Outcome.CONDITIONAL, f"{told}; beyond it in {', '.join(breaks)}.", effects)
    if len(places(holds)) >= LEAST and len(holds) >= SHARE * len(effects):
        return Verdict(Outcome.REPRODUCED, f"{told}.", effects)
    if len(places(breaks)) >= LEAST:
        return Verdict(Outcome.NOT_REPRODUCED, f"{told}; beyond it in {', '.join(breaks)}.", effects)
    left = len(effects) - len(holds) - len(breaks)
    why = f"not settled in {left}" if left else f"{LEAST} networks on a dataset are needed"
    return Verdict(Outcome.INCONCLUSIVE, f"{told}; {why}.", effects)


def judge_order(found: Mapping[str, Workload]) -> Verdict:
    """Whether every critical batch size lies within an order of magnitude of the noise scale."""
    return _in_all({name: w.ratio() for name, w in found.items()}, ORDER, "Within an order of magnitude")


def judge_elsewhere(found: Mapping[str, Workload]) -> Verdict:
    """Whether it is the same along large batches as along small ones."""
    effects = {name: w.elsewhere for name, w in found.items() if w.elsewhere.n}
    return _in_all(effects, TWICE, f"Within {TWICE:g} times")


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
    found = {name: w for name, w in found.items() if {variant, other} <= w.scales.keys()}
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
    """Whether, over networks and datasets, the noise scale grows from the first third of the way to the last: from
    where training begins it cannot but grow."""
    effects = {name: w.growth for name, w in found.items()} | {
        f"{name}, before": w.at_first for name, w in found.items()
    }
    if len(places(found)) < LEAST:
        told = f"Needs {LEAST} networks on a dataset, has {len(places(found))}."
        return Verdict(Outcome.INCONCLUSIVE, told, effects)
    mean, first = (
        _logs([math.exp(x) for x in by_place({name: math.log(getattr(w, part).value) for name, w in found.items()})])
        for part in ("growth", "at_first")
    )
    reason = (
        f"From the first third of the way to the last it grows {bracketed(mean.of(GROWTH), 'times')}, the geometric "
        f"mean over networks and datasets; from the start to the first third, {bracketed(first.of(GROWTH), 'times')}."
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
            "It is the same along large batches": judge_elsewhere(found),
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
