"""Steps to target: how it is judged."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd

from repro.claims.steps_to_target.experiment import BY_MOMENTUM, FAR_ARM, split
from repro.evidence.intervals import Estimate, Unit, equivalence_p, paired_difference
from repro.evidence.spec import Outcome, Verdict
from repro.evidence.steps import (
    Study,
    critical,
    efficient,
    slope,
    study,
    trials,
    useful,
)
from repro.evidence.tables import by_seed, final, margin_for, select
from repro.evidence.words import bracketed

SMALL, LARGE = 8, 4  # small batch sizes: up to 8 times the smallest; large ones: from a quarter of the largest on
PERFECT, TOLERANCE = -1.0, 0.15  # the power with which steps fall in perfect scaling, and within what it counts as held
FLAT = -1 / 3  # a power above which a doubling saves less than a fifth of the steps
ALIKE = 1.25  # times: one law tells all batch sizes within this factor
OCTAVE = 1.0  # from the best learning rate, within which a heuristic's counts as good
HEURISTICS = {"in proportion": 1.0, "square root": 0.5, "unchanged": 0.0}
MARGIN = 0.2  # percentage points within which test errors are the same, of 10,000 images

POWER = Unit("", "Power of the batch size with which steps to the target go", sides=("steps fall", "less"))
EXAMPLES = Unit("examples", "Batch size, examples", log=True)
TIMES = Unit("times", "Ratio", 1.0, log=True)
OCTAVES = Unit("octaves", "Learning rate by the heuristic over the best, octaves", 0.0, ("too low", "too high"))
POINTS = Unit("points", "Test error, largest batch minus smallest, percentage points", 0.0, ("large better", "worse"))


def studies(table: pd.DataFrame) -> dict[str, Study]:
    """The studies of the table by name, without those of which no batch size met the target often enough."""
    if "arm" not in table or "target_accuracy" not in table or "validation_accuracy" not in table:
        return {}
    names = [name for name in table["arm"].unique() if not name.endswith(FAR_ARM)]
    rows = trials(table[table["arm"].isin(names)])
    found = {name: study(name, rows[rows["arm"] == name]) for name in names}
    return {name: s for name, s in found.items() if s.sizes}


def regimes(s: Study) -> tuple[Estimate, Estimate] | None:
    """The powers with which steps go over the small and over the large batch sizes; None where either has but one."""
    sizes = s.batch_sizes
    small, large = sizes <= SMALL * sizes[0], sizes >= sizes[-1] / LARGE
    if small.sum() < 2 or large.sum() < 2 or (small & large).any():
        return None
    return (
        s.estimate(slope(sizes[0], SMALL * sizes[0])).of(POWER),
        s.estimate(slope(sizes[-1] / LARGE, sizes[-1])).of(POWER),
    )


def flaws(s: Study) -> str:
    """Why a study cannot decide: a best on the edge of what was tried, or a batch size that hardly met the target."""
    edges = [f"B = {size.batch_size} ({size.edge})" for size in s.sizes if size.edge]
    told = [f"{s.name}: the best lies on an edge at {', '.join(edges)}"] if edges else []
    if s.infeasible:
        told.append(f"{s.name}: the target is hardly met at B = {', '.join(map(str, s.infeasible))}")
    return "; ".join(told)


def judge_regimes(found: Mapping[str, Study]) -> Verdict:
    """Whether steps fall in proportion over small batches, and no longer help over large ones, in every study."""
    effects, holds, breaks, open_ = {}, [], [], []
    for name, s in found.items():
        both = regimes(s)
        if both is None or flaws(s):
            open_.append(name)
            continue
        small, large = both
        effects[f"{name}, small B"], effects[f"{name}, large B"] = small, large
        linear = small.low > PERFECT - TOLERANCE and small.high < PERFECT + TOLERANCE
        if linear and large.low > FLAT:
            holds.append(name)
        elif small.low > PERFECT + TOLERANCE or small.high < PERFECT - TOLERANCE or large.high < FLAT:
            breaks.append(name)
        else:
            open_.append(name)
    told = f"Both regimes are seen in {len(holds)} of {len(found)} studies"
    if open_:
        why = [f for name in open_ if (f := flaws(found[name]))] or [f"not settled for {', '.join(open_)}"]
        if not (holds and breaks):
            return Verdict(Outcome.INCONCLUSIVE, f"{told}; {'; '.join(why)}.", effects)
    if not found:
        return Verdict(Outcome.INCONCLUSIVE, "No study has met its target often enough.", effects)
    if not breaks:
        return Verdict(Outcome.REPRODUCED, f"{told}.", effects)
    reason = f"{told}, and not in {', '.join(breaks)}."
    return Verdict(Outcome.CONDITIONAL if holds else Outcome.NOT_REPRODUCED, reason, effects)


def ratio(a: Study, b: Study, statistic: object) -> Estimate:
    """A statistic of one study over that of another, on the batch sizes both have; resampled apart."""
    shared = sorted(set(a.batch_sizes) & set(b.batch_sizes))
    values = []
    for s in (a, b):
        kept = np.isin(s.batch_sizes, shared)
        values.append(statistic(s.batch_sizes[kept], s.log_steps[:, kept]))  # type: ignore[operator]
    found = values[0] / values[1]
    low, high = np.quantile(found[1:], [0.025, 0.975])
    n = sum(size.num_trials for s in (a, b) for size in s.sizes)
    value = float(found[0])
    return Estimate(
        value, min(float(low), value), max(float(high), value), n, "percentile bootstrap over trials", unit=TIMES
    )


def judge_momentum(found: Mapping[str, Study]) -> Verdict:
    """Whether momentum, of either kind, scales perfectly to larger batches than plain SGD does."""
    effects = {}
    for name, s in found.items():
        network, method = split(name)
        plain = found.get(f"{network}, SGD")
        if method in BY_MOMENTUM and plain and not (flaws(s) or flaws(plain)):
            effects[f"{method} over none, {network}"] = ratio(s, plain, efficient)
    if not effects:
        return Verdict(Outcome.INCONCLUSIVE, "Not run, or its best lies on an edge.")
    told = ", ".join(f"{bracketed(e, 'times')} as large with {name}" for name, e in effects.items())
    reason = f"The largest batch that scales perfectly is {told}."
    if all(e.low > 1 for e in effects.values()):
        return Verdict(Outcome.REPRODUCED, reason, effects)
    if all(e.high <= 1 for e in effects.values()):
        return Verdict(Outcome.NOT_REPRODUCED, reason, effects)
    return Verdict(Outcome.INCONCLUSIVE, reason, effects)


def heuristic_error(s: Study, power: float) -> dict[int, Estimate]:
    """By batch size, the learning rate that a heuristic gives, followed from the middle size up and down, over the
    best, in octaves; with its interval over trials, of both ends."""
    base = len(s.sizes) // 2
    best = np.array([np.concatenate([[size.where[0]], size.where_draws[:, 0]]) for size in s.sizes])
    found = {}
    for k, size in enumerate(s.sizes):
        if k == base:
            continue
        errors = best[base] + power * np.log2(size.batch_size / s.sizes[base].batch_size) - best[k]
        low, high = np.quantile(errors[1:], [0.025, 0.975])
        value = float(errors[0])
        found[size.batch_size] = Estimate(
            value,
            min(float(low), value),
            max(float(high), value),
            size.num_trials,
            "percentile bootstrap over trials",
            unit=OCTAVES,
        )
    return found


def judge_heuristics(found: Mapping[str, Study]) -> Verdict:
    """Whether every rule for the learning rate is off by more than an octave somewhere, in every study."""
    effects, fails, holds, open_ = {}, set(), set(), set()
    for (name, s), (rule, power) in itertools.product(found.items(), HEURISTICS.items()):
        errors = heuristic_error(s, power)
        if len(errors) < 2 or flaws(s):
            open_.add((name, rule))
            continue
        at, worst = max(errors.items(), key=lambda item: max(abs(item[1].value), 0))
        effects[f"{name}, {rule}, B = {at}"] = worst
        if any(e.low > OCTAVE or e.high < -OCTAVE for e in errors.values()):
            fails.add((name, rule))
        elif all(e.within(OCTAVE) for e in errors.values()):
            holds.add((name, rule))
        else:
            open_.add((name, rule))
    if not effects:
        return Verdict(Outcome.INCONCLUSIVE, "Too few batch sizes, or a best on an edge.")
    everywhere = [rule for rule in HEURISTICS if all((name, rule) in holds for name in found)]
    nowhere = [rule for rule in HEURISTICS if any((name, rule) in fails for name in found)]
    told = f"Off by more than an octave somewhere: {len(fails)} of {len(fails) + len(holds) + len(open_)}"
    if everywhere:
        return Verdict(Outcome.NOT_REPRODUCED, f"{told}; {everywhere[0]} holds in every study.", effects)
    if len(nowhere) == len(HEURISTICS):
        return Verdict(Outcome.REPRODUCED, f"{told}; each rule fails in some study.", effects)
    return Verdict(Outcome.INCONCLUSIVE, f"{told}; not settled for the rest.", effects)


def judge_law(found: Mapping[str, Study]) -> Verdict:
    """Whether S_min (1 + B_c/B) tells every batch size of every study within a factor of ALIKE."""
    effects, beyond, open_ = {}, [], []
    for name, s in found.items():
        if len(s.sizes) < 4 or flaws(s):
            open_.append(name)
            continue
        largest = s.estimate(misfit).of(TIMES)
        effects[name] = largest
        if largest.low > ALIKE:
            beyond.append(name)
        elif largest.high >= ALIKE:
            open_.append(name)
    reason = f"S_min (1 + B_c/B) misses some batch size by more than {ALIKE:g} times in {len(beyond)} of {len(found)}."
    if beyond:
        return Verdict(Outcome.NOT_REPRODUCED, reason, effects)
    if open_ or not effects:
        return Verdict(Outcome.INCONCLUSIVE, f"Not settled for {', '.join(open_) or 'any'}.", effects)
    return Verdict(Outcome.REPRODUCED, f"S_min (1 + B_c/B) tells every batch size within {ALIKE:g} times.", effects)


def misfit(sizes: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """Statistic: the largest factor by which the fitted law misses a batch size."""
    c = np.log(critical(sizes, logs))
    left = logs - np.logaddexp(0, c[..., None] - np.log(sizes))
    return np.exp(np.abs(left - left.mean(-1, keepdims=True)).max(-1))


def judge_budgets(found: Mapping[str, Study]) -> Verdict:
    """Whether at equal epochs small batches, and at equal steps large ones, come out ahead: the same table, read by
    either budget."""
    effects: dict[str, Estimate] = {}
    holds: list[str] = []
    open_: list[str] = []
    for name, s in found.items():
        if len(s.sizes) < 2 or flaws(s):
            open_.append(name)
            continue
        first, last = s.batch_sizes[0], s.batch_sizes[-1]
        fewer = s.estimate(lambda sizes, logs: np.exp(logs[..., 0] - logs[..., -1])).of(TIMES)
        more = s.estimate(lambda sizes, logs: np.exp(logs[..., -1] - logs[..., 0]) * sizes[-1] / sizes[0]).of(TIMES)
        effects[f"{name}: steps, B = {first:.0f} over {last:.0f}"] = fewer
        effects[f"{name}: examples, B = {last:.0f} over {first:.0f}"] = more
        (holds if fewer.low > 1 and more.low > 1 else open_).append(name)
    if not holds:
        return Verdict(Outcome.INCONCLUSIVE, "Not settled for any study.", effects)
    reason = f"The smallest batch takes the most steps and the fewest examples in {len(holds)} of {len(found)} studies."
    return Verdict(Outcome.INCONCLUSIVE if open_ else Outcome.REPRODUCED, reason, effects)


def far_errors(table: pd.DataFrame) -> dict[int, dict[int, float]]:
    """By batch size, test error (%) by seed far beyond the target, at the learning rate of best validation accuracy."""
    if "arm" not in table or "test_accuracy" not in table:
        return {}
    rows = final(table[table["arm"].str.endswith(FAR_ARM)])
    found = {}
    for size, group in rows.groupby("batch_size"):
        means = group.groupby("lr")["validation_accuracy"].mean()
        best = select(group, lr=means.idxmax())
        found[int(str(size))] = {s: 100 - 100 * a for s, a in by_seed(best, "test_accuracy").items()}
    return found


def judge_far(table: pd.DataFrame) -> Verdict:
    """Whether, trained far beyond the target, the largest batch tests no worse than the smallest."""
    errors = far_errors(table)
    if len(errors) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run far beyond the target at two batch sizes.")
    small, large = min(errors), max(errors)
    seeds = sorted(set(errors[small]) & set(errors[large]))
    a, b = ([errors[size][s] for s in seeds] for size in (large, small))
    difference = paired_difference(a, b).of(POINTS)
    margin = margin_for(table, MARGIN)
    effects = {f"B = {large} minus {small}": difference}
    told = f"B = {large} tests {bracketed(difference, 'points')} above B = {small}"
    if len(seeds) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Too few seeds.", effects)
    if difference.high < 0 or equivalence_p(a, b, margin) < 0.05:
        return Verdict(Outcome.REPRODUCED, f"{told}: the same within {margin:.1f} points, or better.", effects)
    if difference.low > 0:
        return Verdict(Outcome.NOT_REPRODUCED, f"{told}.", effects)
    return Verdict(Outcome.INCONCLUSIVE, f"{told}.", effects)


def judge(table: pd.DataFrame) -> Verdict:
    found = studies(table)
    if not found:
        return Verdict(Outcome.INCONCLUSIVE, "No study has been run.")
    main = judge_regimes(found)
    more = {}
    for name, s in found.items():
        if len(s.sizes) > 2:
            more[f"{name}: scales perfectly up to"] = s.estimate(efficient).of(EXAMPLES)
            more[f"{name}: useful up to"] = s.estimate(useful).of(EXAMPLES)
    parts = {
        "Momentum extends perfect scaling": judge_momentum(found),
        "No heuristic for the learning rate holds": judge_heuristics(found),
        "One law, S_min (1 + B_c/B), for every network": judge_law(found),
        "Equal epochs and equal steps say opposite things": judge_budgets(found),
        "Large batches do not test worse": judge_far(table),
    }
    return dataclasses.replace(main, effects={**main.effects, **more}, parts=parts)


def answer(table: pd.DataFrame, verdict: Verdict) -> str:
    """Over which batch sizes steps fall in proportion, and what a doubling saves at the end."""
    found = studies(table)
    sound = {name: s for name, s in found.items() if regimes(s)}
    if not sound:
        return "Not run yet." if not found else f"Not settled. {verdict.reason}"
    name, s = next(iter(sound.items()))
    small, large = regimes(s) or (None, None)
    assert small and large
    first, last = s.batch_sizes[0], s.batch_sizes[-1]
    network, _ = split(name)
    told = (
        f"From B = {first:.0f} to {SMALL * first:.0f} steps go as B to the power {bracketed(small)}, from "
        f"{last / LARGE:.0f} to {last:.0f} to the power {bracketed(large)}. Scaling is perfect up to "
        f"B = {bracketed(s.estimate(efficient).of(EXAMPLES))}"
    )
    helped = [name for name in sound if split(name)[0] == network and split(name)[1] == "momentum"]
    if helped:
        told += f", with momentum up to {bracketed(sound[helped[0]].estimate(efficient).of(EXAMPLES))}"
    starts = {
        Outcome.REPRODUCED: "First half at each doubling, then none.",
        Outcome.CONDITIONAL: "First half at each doubling, then none, but not in every study.",
        Outcome.NOT_REPRODUCED: "Not as claimed.",
    }
    return f"{starts.get(verdict.outcome, 'Not settled.')} {told}."
