"""What batch size: how it is judged."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from repro.advice import rules
from repro.claims.noise_scale.judgement import LEAST as PLACES
from repro.claims.noise_scale.judgement import SIMPLE, mean_scale, measured, places
from repro.claims.steps_to_target.experiment import split
from repro.claims.steps_to_target.judgement import heuristic_error, in_an_octave
from repro.claims.what_batch_size.experiment import TIMED
from repro.evidence.intervals import Estimate, Unit
from repro.evidence.spec import Outcome, Verdict
from repro.evidence.steps import Study, bootstrapped, critical
from repro.evidence.words import bracketed

WITHIN = 1.25  # times the least time: what good advice stays below
NEAR = 1.10  # times: what one would wish
LEAST = 4  # workloads on which advice must be good
MOST = 0.75  # of all workloads, likewise
OFF = 10.0  # times: a noise scale that is wrong
UNASKED = (32, 64, 256)  # batch sizes that many use unasked
SAVES = 1.05  # times: a gain below which measuring is not worth it

TIMES = Unit("times", "Time to the target over the least", 1.0, ("", "slower"), (1 / WITHIN, WITHIN), log=True)
GAIN = Unit("times", "Time to the target over that at the advised batch size", 1.0, ("faster", "slower"), log=True)
CONSTANT = "the others' best batch size"
LAW = "The learning rate goes as the adviser says"


@dataclass(frozen=True)
class Workload:
    """A study; its noise scale of every seed, the mean over the steps to the target, and at the start; and seconds a
    step by batch size, over the batch sizes of the study."""

    study: Study
    scales: Sequence[float]
    starts: Sequence[float]
    seconds: Mapping[int, float]

    @property
    def critical(self) -> float:
        """The batch size of twice the fewest steps."""
        return float(critical(self.study.batch_sizes, self.study.log_steps[:1])[0])

    @property
    def usual(self) -> float:
        """The first of UNASKED, or the nearest batch size that was run."""
        return self.within(UNASKED[0])

    def within(self, batch_size: float) -> float:
        """That batch size, or the nearest that was run."""
        return float(np.clip(batch_size, self.study.batch_sizes[0], self.study.batch_sizes[-1]))

    def advised(self, scales: Sequence[float] | None = None) -> float:
        """The batch size that is fastest by these noise scales' geometric mean."""
        return rules.fastest(self.seconds, math.exp(np.mean(np.log(scales or self.scales))))

    def slowdown(self, at: np.ndarray, logs: np.ndarray) -> np.ndarray:
        """Time to the target at batch sizes `at` (k,) over that at the best, by log S (k, sizes): between batch sizes
        that were run and timed, log S in proportion to log B, seconds a step to B."""
        sizes, known = self.study.batch_sizes, sorted(self.seconds)
        step = [self.seconds[size] for size in known]
        steps = np.array([np.interp(math.log(b), np.log(sizes), row) for b, row in zip(at, logs, strict=True)])
        here = steps + np.log(np.interp(at, known, step))
        best = (logs + np.log(np.interp(sizes, known, step))).min(-1)
        return np.exp(here - np.minimum(best, here))

    def found_at(self, batch_size: float) -> float:
        """The slowdown, without an interval."""
        return float(self.slowdown(np.array([batch_size]), self.study.log_steps[:1])[0])

    def at(self, batch_size: float) -> Estimate:
        fixed = np.full(len(self.study.log_steps), batch_size)
        return self.study.estimate(lambda sizes, logs: self.slowdown(fixed, logs)).of(TIMES)

    def drawn(self, scales: Sequence[float]) -> np.ndarray:
        """The advised batch size (1 + resamples,): by these noise scales, then by as many drawn from them."""
        random = np.random.default_rng([len(scales), *self.study.name.encode()])
        picked = random.integers(len(scales), size=(len(self.study.log_steps), len(scales)))
        picked[0] = np.arange(len(scales))
        found, which = np.unique(np.sort(picked), axis=0, return_inverse=True)
        return np.array([self.advised([scales[i] for i in row]) for row in found])[which.ravel()]

    def as_advised(self, scales: Sequence[float] | None = None) -> Estimate:
        """The slowdown at the advised batch size."""
        at = self.drawn(scales or self.scales)
        return self.study.estimate(lambda sizes, logs: self.slowdown(at, logs)).of(TIMES)


def step_seconds(table: pd.DataFrame, study: str) -> dict[int, float]:
    """Seconds a step by batch size: the least of the timings, for whatever else ran can only have made it slower."""
    if "run_step_seconds" not in table:
        return {}
    rows = table[(table["arm"] == f"{study}{TIMED}") & table["final"] & (table["status"] == "finished")]
    found: dict[int, float] = {}
    for sizes, seconds in zip(rows["timed_batch_size"], rows["run_step_seconds"], strict=True):
        for size, second in zip(sizes, seconds, strict=True):
            found[int(size)] = min(second, found.get(int(size), math.inf))
    return found


def workloads(table: pd.DataFrame) -> dict[str, Workload]:
    """By study, those whose best learning rates are sound, whose noise scale was measured with two seeds or more, and
    whose steps were timed at the smallest and the largest batch size."""
    found = {}
    for name, s, rows, trials in measured(table, but=(TIMED,)):
        scales = [mean_scale(trial, SIMPLE) for trial in trials]
        starts = [float(trial[SIMPLE].iloc[0]) for trial in trials]
        first, last = s.batch_sizes[0], s.batch_sizes[-1]
        seconds = {b: t for b, t in step_seconds(rows, s.name).items() if first <= b <= last}
        if all(0 < x < math.inf for x in (*scales, *starts)) and {first, last} <= seconds.keys():
            found[name] = Workload(s, scales, starts, seconds)
    return found


def slowed(effects: Mapping[str, Estimate], told: str) -> Verdict:
    """Whether training at a batch size takes about the least time: `effects` are slowdowns by workload."""
    good = [name for name, e in effects.items() if e.high <= WITHIN]
    bad = [name for name, e in effects.items() if e.low > WITHIN]
    near = sum(e.value <= NEAR for e in effects.values())
    reason = (
        f"{told}, a target takes surely less than {WITHIN:.2f} times the least time in {len(good)} of {len(effects)} "
        f"workloads, surely more in {len(bad)}; at most {NEAR:.2f} times by the estimate in {near}"
    )
    if good and bad:
        return Verdict(Outcome.CONDITIONAL, f"{reason}: {', '.join(bad)}." if len(bad) < 3 else f"{reason}.", effects)
    if len(good) >= max(LEAST, MOST * len(effects)) and len(places(good)) >= PLACES:
        return Verdict(Outcome.REPRODUCED, f"{reason}.", effects)
    breaks = len(bad) >= LEAST and len(places(bad)) >= PLACES
    return Verdict(Outcome.NOT_REPRODUCED if breaks else Outcome.INCONCLUSIVE, f"{reason}.", effects)


def corrected(found: Mapping[str, Workload]) -> dict[str, Estimate]:
    """The slowdown of every workload where its noise scale is first put right by the others: times the geometric mean
    of their critical batch sizes over their noise scales."""
    logs = {name: math.log(w.critical) - float(np.mean(np.log(w.scales))) for name, w in found.items()}
    others = {name: math.exp((sum(logs.values()) - logs[name]) / max(len(logs) - 1, 1)) for name in logs}
    return {name: w.as_advised([others[name] * s for s in w.scales]) for name, w in found.items() if len(found) > 1}


def judge_off(found: Mapping[str, Workload], factor: float, what: str) -> Verdict:
    """Whether a noise scale that is `factor` times the measured one makes bad advice: if not, it does not matter."""
    effects = {name: w.as_advised([factor * s for s in w.scales]) for name, w in found.items()}
    bad = [name for name, e in effects.items() if e.low > WITHIN]
    fine = [name for name, e in effects.items() if e.high <= WITHIN]
    reason = (
        f"With a noise scale {what} the advice costs surely more than {WITHIN:.2f} times the least time in {len(bad)} "
        f"of {len(effects)} workloads, surely less in {len(fine)}."
    )
    if len(bad) >= LEAST:
        return Verdict(Outcome.REPRODUCED, reason, effects)
    small = effects and len(fine) == len(effects)
    return Verdict(Outcome.NOT_REPRODUCED if small else Outcome.INCONCLUSIVE, reason, effects)


def others_best(found: Mapping[str, Workload]) -> dict[str, float]:
    """For every workload the power of two at which the others take least time, in the geometric mean: what advises one
    who measures nothing here."""
    sizes = 2.0 ** np.arange(1, 15)
    logs = {name: np.log([w.found_at(w.within(b)) for b in sizes]) for name, w in found.items()}
    return {name: float(sizes[np.argmin(sum(logs.values()) - logs[name])]) for name in logs}


def over(found: Mapping[str, Workload], batch_sizes: Mapping[str, float]) -> Estimate:
    """Time at a batch size of each workload over that at the advised one: the geometric mean over these workloads,
    whose trials and noise scales are resampled."""
    logs = []
    for name, w in found.items():
        fixed = w.slowdown(np.full(len(w.study.log_steps), w.within(batch_sizes[name])), w.study.log_steps)
        logs.append(np.log(fixed) - np.log(w.slowdown(w.drawn(w.scales), w.study.log_steps)))
    return bootstrapped(np.exp(np.mean(logs, 0)), sum(w.study.num_trials for w in found.values())).of(GAIN)


def judge_measuring(found: Mapping[str, Workload]) -> Verdict:
    """Whether the advised batch size is faster than those that nobody measured for."""
    if len(found) < LEAST:
        return Verdict(Outcome.INCONCLUSIVE, f"Needs {LEAST} workloads, has {len(found)}.")
    effects = {f"B = {size}": over(found, dict.fromkeys(found, size)) for size in UNASKED}
    told = ", ".join(f"B = {size} takes {bracketed(effects[f'B = {size}'], 'times')} as long" for size in UNASKED)
    reason = f"Over {len(found)} workloads {told} as the advised batch size."
    if all(e.low > 1 for e in effects.values()):
        return Verdict(Outcome.REPRODUCED, reason, effects)
    as_good = any(e.high < SAVES for e in effects.values())
    return Verdict(Outcome.NOT_REPRODUCED if as_good else Outcome.INCONCLUSIVE, reason, effects)


def judge_law(found: Mapping[str, Workload]) -> Verdict:
    """Whether SGD's best learning rate goes with the batch size as the adviser says, within an octave."""
    effects: dict[str, Estimate] = {}
    held = []
    for name, w in found.items():
        if split(w.study.name)[1] != "SGD":  # Adam's it does not know over so many sizes; momentum's moves with m
            continue
        scale = math.exp(np.mean(np.log(w.scales)))

        def moved(start: float, end: float, scale: float = scale) -> float:
            return math.log2(rules.learning_rate_factor("SGD", start, end, scale))

        errors = heuristic_error(w.study, moved)
        effects |= {f"{name}, {where}": e for where, e in errors.items()}
        held.append(in_an_octave(errors))
    holds, fails = held.count(True), held.count(False)
    told = f"Within an octave at both ends in {holds} of {len(held)} workloads by SGD, surely not in {fails}."
    if holds and fails:
        return Verdict(Outcome.CONDITIONAL, told, effects)
    if max(holds, fails) >= PLACES:
        return Verdict(Outcome.REPRODUCED if holds else Outcome.NOT_REPRODUCED, told, effects)
    return Verdict(Outcome.INCONCLUSIVE, told, effects)


def judge(table: pd.DataFrame) -> Verdict:
    found = workloads(table)
    if not found:
        return Verdict(Outcome.INCONCLUSIVE, "No workload has been run, measured and timed.")
    main = slowed({name: w.as_advised() for name, w in found.items()}, "At the advised batch size")
    if len(found) > 1:
        constant = over(found, others_best(found))
        reason = (
            f"{main.reason} At the batch size that is best for the others it takes {bracketed(constant, 'times')} as"
        )
        blunt = main.outcome == Outcome.REPRODUCED and not constant.low > 1
        outcome = Outcome.CONDITIONAL if blunt else main.outcome
        main = Verdict(outcome, f"{reason} long as at the advised one.", {**main.effects, CONSTANT: constant})
    parts = {
        "Asked before training begins, it advises as well": slowed(
            {name: w.as_advised(w.starts) for name, w in found.items()},
            "At the batch size advised before training begins",
        ),
        "Put right by the other workloads, it advises as well": slowed(
            corrected(found), "Where the noise scale is put right by the other workloads"
        ),
        "A noise scale ten times too large spoils the advice": judge_off(found, OFF, "ten times as large"),
        "A tenth of it spoils the advice": judge_off(found, 1 / OFF, "of a tenth"),
        "Measuring beats a batch size that nobody measured for": judge_measuring(found),
        LAW: judge_law(found),
    }
    return dataclasses.replace(main, parts=parts)


def answer(table: pd.DataFrame, verdict: Verdict) -> str:
    """What it costs to train at the advised batch size, and at the usual one."""
    found = workloads(table)
    if len(found) < LEAST:
        return f"Not settled. {verdict.reason}"
    starts = {
        Outcome.REPRODUCED: "The one that a measured noise scale and timed steps advise.",
        Outcome.CONDITIONAL: "Measuring tells, but not everywhere, or no better than a good guess.",
        Outcome.NOT_REPRODUCED: "Not the one that a measured noise scale and timed steps advise.",
    }
    worst = max((w.as_advised() for w in found.values()), key=lambda e: e.value)
    usual = [w.found_at(w.usual) for w in found.values()]
    return (
        f"{starts.get(verdict.outcome, 'Not settled.')} Over {len(found)} workloads, training there took "
        f"{bracketed(worst, 'times')} the least time at worst; at B = {UNASKED[0]}, {min(usual):.1f} to "
        f"{max(usual):.1f} times."
    )
