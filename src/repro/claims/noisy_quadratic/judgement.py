"""Noisy quadratic: how it is judged."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from repro.claims.noise_scale.experiment import ALONG
from repro.claims.noise_scale.judgement import on_the_way
from repro.claims.noisy_quadratic.prediction import Predicted, predicted
from repro.claims.steps_to_target.experiment import split
from repro.claims.steps_to_target.judgement import OCTAVES, flaws, in_an_octave, studies
from repro.evidence.intervals import Estimate, Unit, geometric, mean_interval
from repro.evidence.spec import Outcome, Verdict
from repro.evidence.steps import Study, bootstrapped, critical
from repro.evidence.words import bracketed

SHAPE = 1.5  # times: within this factor, one constant free, at every batch size, the curve has the predicted shape
STEPS = 2.0  # times: within this factor, nothing free, steps are as predicted
LEAST = 4  # batch sizes that have a shape
TIMES = Unit("times", "Measured over predicted", 1.0, ("fewer", "more"), log=True)


@dataclass(frozen=True)
class Held:
    """A study and what the theory says of it, at the same batch sizes; and what it says of `others`."""

    measured: Study
    theory: Predicted
    others: Sequence[Predicted] = ()

    @property
    def beside_others(self) -> float:
        """log of the misfit over the mean of those with the theory of others that meet their target everywhere; NaN
        where none does."""
        theirs = [o.log_steps for o in self.others if np.isfinite(o.log_steps).all()]
        ours, *misfits = (float(np.std(self.measured.log_steps[0] - log)) for log in (self.theory.log_steps, *theirs))
        return ours - float(np.mean(misfits)) if misfits else math.nan

    @property
    def reached(self) -> bool:
        """Whether the theory meets the target at every batch size."""
        return bool(np.isfinite(self.theory.log_steps).all())

    def excess(self, sizes: np.ndarray, logs: np.ndarray) -> np.ndarray:
        """Statistic: log of measured over predicted steps (..., b)."""
        return logs - self.theory.log_steps

    def misses(self) -> dict[int, Estimate]:
        """By batch size, measured steps over the predicted ones times a constant, for which their geometric mean over
        batch sizes is one."""

        def statistic(k: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
            def of(sizes: np.ndarray, logs: np.ndarray) -> np.ndarray:
                left = self.excess(sizes, logs)
                return np.exp(left[..., k] - left.mean(-1))

            return of

        return {s.batch_size: self.measured.estimate(statistic(k)).of(TIMES) for k, s in enumerate(self.measured.sizes)}

    def worst_miss(self) -> tuple[int, Estimate]:
        """The batch size with the largest of `misses`, up or down, and that."""
        return max(self.misses().items(), key=lambda item: abs(np.log(item[1].value)))

    @property
    def over(self) -> Estimate:
        """Measured over predicted steps: the geometric mean over batch sizes."""
        return self.measured.estimate(lambda sizes, logs: np.exp(self.excess(sizes, logs).mean(-1))).of(TIMES)

    @property
    def ends(self) -> Estimate:
        """Where perfect scaling ends, measured over predicted."""
        sizes = self.measured.batch_sizes
        theirs = float(critical(sizes, self.theory.log_steps[None])[0])
        return self.measured.estimate(lambda b, logs: critical(b, logs) / theirs).of(TIMES)

    @property
    def misfit(self) -> Estimate:
        """The factor by which the predicted curve misses, one constant free: root mean square over batch sizes."""
        return self.measured.estimate(lambda sizes, logs: np.exp(self.excess(sizes, logs).std(-1))).of(TIMES)

    def rates(self) -> dict[str, Estimate]:
        """The best learning rate, predicted over measured, in octaves: the means over each third of the batch sizes."""
        best = np.array([np.concatenate([[s.where[0]], s.where_draws[:, 0]]) for s in self.measured.sizes])
        parts = np.array_split(self.theory.log_rates[:, None] - best, 3)
        told = [bootstrapped(part.mean(0), self.measured.num_trials).of(OCTAVES) for part in parts]
        return dict(zip(("small B", "middle B", "large B"), told, strict=True))


def along(table: pd.DataFrame, study: str, larger: bool) -> list[pd.DataFrame]:
    """The rows of every trial along which a study's curvature was measured, at the `larger` batch size or the smaller,
    from the first look after the start to the target."""
    needed = ("gradient_eigenvalue", "noise_eigenvalue", "train_loss")
    if not {*needed} <= {*table.columns}:
        return []
    trials = on_the_way(table.dropna(subset=list(needed)), study, larger)
    return [after for trial in trials if len(after := trial[trial["step"] > 0]) > 1]


def held(table: pd.DataFrame, larger: bool = True) -> dict[str, Held]:
    """Studies without flaw, at four batch sizes or more, of which curvature and noise were measured; what theory says
    of each, and with the curvature and noise of each of the others."""
    if "arm" not in table or table.empty:
        return {}
    known = {
        name: (s, trials)
        for name, s in studies(table[~table["arm"].str.endswith(ALONG)]).items()
        if not flaws(s) and len(s.sizes) >= LEAST and (trials := along(table, name, larger))
    }
    found = {}
    for name, (s, _) in known.items():
        sizes = [size.batch_size for size in s.sizes]
        by_source = {of: predicted(t, sizes, split(of)[1] == "momentum") for of, (_, t) in known.items()}
        theories = {of: theory for of, theory in by_source.items() if theory}
        if theory := theories.pop(name, None):
            found[name] = Held(s, theory, [*theories.values()])
    return found


def _all(held: Mapping[str, bool | None], effects: Mapping[str, Estimate], told: str) -> Verdict:
    """Reproduced where all studies hold, not where all break, conditional where each does one."""
    holds, breaks = ([name for name, h in held.items() if h is flag] for flag in (True, False))
    reason = f"{told} in {len(holds)} of {len(held)} studies"
    if not held or len(holds) + len(breaks) < len(held):
        return Verdict(Outcome.INCONCLUSIVE, f"{reason}; not settled for the rest." if effects else "Not run.", effects)
    if not breaks:
        return Verdict(Outcome.REPRODUCED, f"{reason}.", effects)
    outcome = Outcome.CONDITIONAL if holds else Outcome.NOT_REPRODUCED
    return Verdict(outcome, f"{reason}, not in {', '.join(breaks)}.", effects)


def judge_shape(found: Mapping[str, Held]) -> Verdict:
    """Whether steps go with the batch size as predicted, one constant free; where, in theory, a target that was met is
    never met, they do not."""
    effects = {name: h.misfit for name, h in found.items() if h.reached}
    held = {name: True if e.high < SHAPE else False if e.low > SHAPE else None for name, e in effects.items()}
    held |= {name: False for name, h in found.items() if not h.reached}  # in theory the target is not met somewhere
    return _all(held, effects, f"The curve has the predicted shape, within {SHAPE:g} times,")


def _within(effects: Mapping[str, Estimate], told: str) -> Verdict:
    """Whether ratios lie within STEPS times of one."""

    def holds(e: Estimate) -> bool | None:
        if e.low > STEPS or e.high < 1 / STEPS:
            return False
        return True if e.low > 1 / STEPS and e.high < STEPS else None

    return _all({name: holds(e) for name, e in effects.items()}, effects, f"{told}, within {STEPS:g} times,")


def judge_steps(found: Mapping[str, Held]) -> Verdict:
    """Whether the number of steps is as predicted, nothing free."""
    return _within({name: h.over for name, h in found.items() if h.reached}, "The number of steps is as predicted")


def judge_ends(found: Mapping[str, Held]) -> Verdict:
    """Whether perfect scaling ends where it should."""
    return _within({name: h.ends for name, h in found.items() if h.reached}, "Perfect scaling ends where predicted")


def judge_rates(found: Mapping[str, Held]) -> Verdict:
    """Whether the best learning rate is within an octave of the predicted one, over each third of the batch sizes."""
    told = {name: h.rates() for name, h in found.items() if h.reached}
    effects = {f"{name}, {where}": e for name, rates in told.items() for where, e in rates.items()}
    held = {name: in_an_octave(rates) for name, rates in told.items()}
    return _all(held, effects, "The best learning rate is within an octave of the predicted one")


def judge_apart(found: Mapping[str, Held]) -> Verdict:
    """The control: whether a study's own theory tells its curve better than the theories of others do."""
    values = [x for h in found.values() if h.reached and np.isfinite(x := h.beside_others)]
    e = geometric(mean_interval(values)).of(TIMES)
    effects = {"misfit with its own theory over that with others'": e}
    if e.n < 3:
        return Verdict(Outcome.INCONCLUSIVE, f"Needs three studies, has {e.n}.", effects if e.n else {})
    reason = f"Its own theory misses by {bracketed(e, 'times')} what those of other studies miss by."
    if e.excludes(1):
        return Verdict(Outcome.REPRODUCED if e.value < 1 else Outcome.NOT_REPRODUCED, reason, effects)
    return Verdict(Outcome.INCONCLUSIVE, reason, effects)


def judge(table: pd.DataFrame) -> Verdict:
    found = held(table)
    main = judge_shape(found)
    parts = {
        "It tells studies apart": judge_apart(found),
        "Measured along small batches, the shape is right as well": judge_shape(held(table, larger=False)),
        "Perfect scaling ends where theory says": judge_ends(found),
        "The best learning rate is the predicted one": judge_rates(found),
        "The number of steps is the predicted one": judge_steps(found),
    }
    return Verdict(main.outcome, main.reason, main.effects, parts)


def answer(table: pd.DataFrame, verdict: Verdict) -> str:
    """How far the measured curve lies from the predicted one, in steps and in shape."""
    found = {name: h for name, h in held(table).items() if h.reached}
    if not found and verdict.outcome == Outcome.NOT_REPRODUCED:
        return "No. In theory, targets that were met are never met at some batch sizes."
    if not found:
        return f"Not settled. {verdict.reason}"
    name, h = next(iter(found.items()))
    starts = {
        Outcome.REPRODUCED: "In shape, yes.",
        Outcome.CONDITIONAL: "In shape, but not for every network and method.",
        Outcome.NOT_REPRODUCED: "Not even in shape.",
    }
    network, method = split(name)
    at, worst = h.worst_miss()
    return (
        f"{starts.get(verdict.outcome, 'Not settled.')} By {method} {network} takes {bracketed(h.over, 'times')} the "
        f"predicted steps; once that is put right, the curve is farthest off at B = {at}, "
        f"{bracketed(worst, 'times')}."
    )
