"""Steps to target: how it is judged."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from repro.claims.steps_to_target.experiment import BY_MOMENTUM, FAR_ARM, split
from repro.evidence.intervals import Estimate, Unit, paired_difference, paired_values
from repro.evidence.spec import Outcome, Verdict
from repro.evidence.steps import (
    Study,
    bootstrapped,
    critical,
    efficient,
    slope,
    study,
    trials,
    useful,
)
from repro.evidence.tables import by_seed, final, margin_for, select
from repro.evidence.words import bracketed

SMALL, LARGE = 8, 8  # small batch sizes: up to 8 times the smallest; large ones: from an eighth of the largest on
MANY, NETWORKS = 3, 2  # studies that must agree, Nesterov's momentum not counted, and networks among them
PERFECT, TOLERANCE = -1.0, 0.15  # the power with which steps fall in perfect scaling, and within what it counts as held
FLAT = -1 / 3  # a power above which a doubling saves less than a fifth of the steps
ALIKE = 1.25  # times: one law tells a study's batch sizes within this factor, in the root mean square
OCTAVE = 1.0  # from the best learning rate, within which a heuristic's counts as good
HEURISTICS = {"in proportion": 1.0, "square root": 0.5, "unchanged": 0.0}
OPPOSITE = "Equal epochs and equal steps say opposite things"
MARGIN = 0.2  # percentage points within which test errors are the same, of 10,000 images

POWER = Unit("", "Power of the batch size with which steps to the target go", sides=("steps fall", "less"))
EXAMPLES = Unit("examples", "Batch size, examples", log=True)
TIMES = Unit("times", "Ratio", 1.0, log=True)
OCTAVES = Unit("octaves", "Learning rate by a rule over the best, octaves", 0.0, ("too low", "too high"))
RISE = Unit("points", "Validation accuracy, end minus halfway, percentage points", 0.0, ("falls", "rises"))
POINTS = Unit("points", "Test error, largest batch minus smallest, percentage points", 0.0, ("large better", "worse"))


def studies(table: pd.DataFrame) -> dict[str, Study]:
    """The studies of the table by name."""
    if "arm" not in table or "target_accuracy" not in table or "validation_accuracy" not in table:
        return {}
    names = [name for name in table["arm"].unique() if not name.endswith(FAR_ARM)]
    rows = trials(table[table["arm"].isin(names)])
    return {name: study(name, rows[rows["arm"] == name]) for name in names}


def regimes(s: Study) -> tuple[Estimate, Estimate] | None:
    """The powers with which steps go over the small and over the large of the batch sizes that were run; None where
    either has but one that is judged."""
    sizes, (first, last) = s.batch_sizes, s.ends
    small, large = sizes <= SMALL * first, sizes >= last / LARGE
    if small.sum() < 2 or large.sum() < 2 or (small & large).any():
        return None
    return s.estimate(slope(first, SMALL * first)).of(POWER), s.estimate(slope(last / LARGE, last)).of(POWER)


def enough(names: Iterable[str]) -> bool:
    """Whether these studies are enough to say what holds: Nesterov's momentum is too near plain momentum to count."""
    counted = [split(name) for name in names]
    networks = [network for network, method in counted if method != "Nesterov"]
    return len(networks) >= MANY and len(set(networks)) >= NETWORKS


def flaws(s: Study) -> str:
    """Why a study cannot decide: too many batch sizes are left out."""
    return "" if s.is_sound else f"{s.name}: {left_out(s)}"


def left_out(s: Study) -> str:
    """Batch sizes of a study that are not judged, and why."""
    told = []
    if s.edges:
        edges = ", ".join(f"B = {size.batch_size} ({size.edge})" for size in s.edges)
        told.append(f"the best lies on an edge at {edges}")
    if s.infeasible:
        told.append(f"the target is hardly met at B = {', '.join(map(str, s.infeasible))}")
    return "; ".join(told) or "too few batch sizes"


def judge_regimes(found: Mapping[str, Study]) -> Verdict:
    """Whether steps fall in proportion over small batches, and no longer help over large ones."""
    effects, holds, breaks, open_ = {}, [], [], []
    for name, s in found.items():
        both = None if flaws(s) else regimes(s)
        if both is None:
            open_.append(flaws(s) or f"{name}: too few batch sizes")
            continue
        small, large = both
        effects[f"{name}, small B"], effects[f"{name}, large B"] = small, large
        linear = small.low > PERFECT - TOLERANCE and small.high < PERFECT + TOLERANCE
        if linear and large.low > FLAT:
            holds.append(name)
        elif small.low > PERFECT + TOLERANCE or small.high < PERFECT - TOLERANCE or large.high < FLAT:
            breaks.append(name)
        else:
            open_.append(f"{name}: not settled")
    told = f"Both regimes are seen in {len(holds)} of {len(found)} studies"
    if holds and breaks:
        return Verdict(Outcome.CONDITIONAL, f"{told}, and not in {', '.join(breaks)}.", effects)
    if enough(holds) or enough(breaks):
        return Verdict(Outcome.REPRODUCED if holds else Outcome.NOT_REPRODUCED, f"{told}.", effects)
    needed = f"{MANY} of {NETWORKS} networks are needed, Nesterov's momentum not counted"
    return Verdict(Outcome.INCONCLUSIVE, f"{told}; {needed}{''.join(f'; {o}' for o in open_)}.", effects)


def ratio(a: Study, b: Study, statistic: object) -> Estimate:
    """A statistic of one study over that of another, on the batch sizes both have; resampled apart."""
    shared = sorted(set(a.batch_sizes) & set(b.batch_sizes))
    values = []
    for s in (a, b):
        kept = np.isin(s.batch_sizes, shared)
        values.append(statistic(s.batch_sizes[kept], s.log_steps[:, kept]))  # type: ignore[operator]
    return bootstrapped(values[0] / values[1], a.num_trials + b.num_trials).of(TIMES)


def judge_momentum(found: Mapping[str, Study]) -> Verdict:
    """Whether momentum, of every kind that was run, scales to larger batches than plain SGD does: whether the batch
    size at which steps are twice the fewest is larger."""
    effects, open_ = {}, []
    for name, s in found.items():
        network, method = split(name)
        plain = found.get(f"{network}, SGD")
        if method not in BY_MOMENTUM or not plain:
            continue
        if flaws(s) or flaws(plain):
            open_.append(flaws(s) or flaws(plain))
        else:
            effects[f"{method} over none, {network}"] = ratio(s, plain, critical)
    if open_ or not effects:
        return Verdict(Outcome.INCONCLUSIVE, f"{'; '.join(open_) or 'Not run'}.", effects)
    told = ", ".join(f"{bracketed(e, 'times')} as large with {name}" for name, e in effects.items())
    reason = f"The batch size of twice the fewest steps is {told}."
    if all(e.low > 1 for e in effects.values()):
        return Verdict(Outcome.REPRODUCED, reason, effects)
    if all(e.high <= 1 for e in effects.values()):
        return Verdict(Outcome.NOT_REPRODUCED, reason, effects)
    return Verdict(Outcome.INCONCLUSIVE, reason, effects)


def heuristic_error(s: Study, moved: Callable[[float, float], float]) -> dict[str, Estimate]:
    """The learning rate that a heuristic gives, followed from the middle third of a study's batch sizes down and up,
    over the best, in octaves: the means over the lowest third and over the highest. The heuristic says by how many
    octaves the rate moves from one batch size to another."""
    best = np.array([np.concatenate([[size.where[0]], size.where_draws[:, 0]]) for size in s.sizes])
    middle = s.batch_sizes[len(s.sizes) // 2]
    left = np.array([moved(middle, size.batch_size) for size in s.sizes])[:, None] - best  # off by a constant
    low, base, high = (part.mean(0) for part in np.array_split(left, 3))
    ends = {"small B": low - base, "large B": high - base}
    return {where: bootstrapped(error, s.num_trials).of(OCTAVES) for where, error in ends.items()}


def scaling(s: Study) -> Study:
    """The study's batch sizes up to that of twice the fewest steps: over those, steps still fall."""
    ends = float(critical(s.batch_sizes, s.log_steps[:1])[0]) if len(s.sizes) > 2 else 0.0
    return dataclasses.replace(s, sizes=tuple(size for size in s.sizes if size.batch_size <= ends))


def in_an_octave(errors: Mapping[str, Estimate]) -> bool | None:
    """Whether all of a heuristic's errors lie within an octave; False if one surely does not; else None."""
    if any(e.low > OCTAVE or e.high < -OCTAVE for e in errors.values()):
        return False
    return True if all(e.within(OCTAVE) for e in errors.values()) else None


def _as_power(power: float, start: float, end: float) -> float:
    return power * math.log2(end / start)


def judge_heuristics(found: Mapping[str, Study], part: Callable[[Study], Study] = lambda s: s) -> Verdict:
    """Whether every rule for the learning rate is off by more than an octave in some study, over its batch sizes or a
    part of them. No study in which momentum is tuned, too, counts: its best rate moves with the best momentum."""
    effects, held = dict[str, Estimate](), dict[tuple[str, str], bool | None]()
    parts = {name: part(s) for name, s in found.items() if not flaws(s)}
    for (name, s), (rule, power) in itertools.product(parts.items(), HEURISTICS.items()):
        if len(s.sizes) < 3:
            continue
        errors = heuristic_error(s, functools.partial(_as_power, power))
        effects |= {f"{name}, {rule}, {where}": e for where, e in errors.items()}
        if split(name)[1] not in BY_MOMENTUM:
            held[name, rule] = in_an_octave(errors)
    if not held:
        return Verdict(Outcome.INCONCLUSIVE, "Too few batch sizes, or a best on an edge.")
    names = {name for name, _ in held}
    whole = all(name in names for name in found if split(name)[1] not in BY_MOMENTUM)
    everywhere = [rule for rule in HEURISTICS if whole and all(held[name, rule] for name in names)]
    nowhere = [rule for rule in HEURISTICS if any(held[name, rule] is False for name in names)]
    fails = sum(h is False for h in held.values())
    told = f"Off by more than an octave at one end: {fails} of {len(held)}"
    if everywhere:
        return Verdict(Outcome.NOT_REPRODUCED, f"{told}; {everywhere[0]} holds in every study.", effects)
    if len(nowhere) == len(HEURISTICS):
        return Verdict(Outcome.REPRODUCED, f"{told}; each rule fails in some study.", effects)
    return Verdict(Outcome.INCONCLUSIVE, f"{told}; not settled for the rest.", effects)


def judge_law(found: Mapping[str, Study]) -> Verdict:
    """Whether S_min (1 + B_c/B) tells the batch sizes of every study within a factor of ALIKE."""
    effects, beyond, open_ = {}, [], []
    for name, s in found.items():
        if len(s.sizes) < 4 or flaws(s):
            open_.append(name)
            continue
        effects[name] = s.estimate(misfit).of(TIMES)
        if effects[name].low > ALIKE:
            beyond.append(name)
        elif effects[name].high >= ALIKE:
            open_.append(name)
    reason = f"S_min (1 + B_c/B) misses by more than {ALIKE:g} times, root mean square, in {', '.join(beyond)}."
    if beyond:
        return Verdict(Outcome.NOT_REPRODUCED, reason, effects)
    if open_ or not effects:
        return Verdict(Outcome.INCONCLUSIVE, f"Not settled for {', '.join(open_) or 'any'}.", effects)
    return Verdict(Outcome.REPRODUCED, f"S_min (1 + B_c/B) misses by less than {ALIKE:g} times everywhere.", effects)


def misfit(sizes: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """Statistic: the factor by which the fitted law misses, root mean square of logarithms over batch sizes."""
    c = np.log(critical(sizes, logs))
    left = logs - np.logaddexp(0, c[..., None] - np.log(sizes))
    return np.exp(left.std(-1))


def judge_budgets(found: Mapping[str, Study]) -> Verdict:
    """Whether at equal epochs small batches, and at equal steps large ones, come out ahead: the same table, read by
    either budget."""
    effects: dict[str, Estimate] = {}
    holds, breaks = 0, 0
    for name, s in found.items():
        if len(s.sizes) < 2 or flaws(s):
            continue
        first, last = s.batch_sizes[0], s.batch_sizes[-1]
        fewer = s.estimate(lambda sizes, logs: np.exp(logs[..., 0] - logs[..., -1])).of(TIMES)
        more = s.estimate(lambda sizes, logs: np.exp(logs[..., -1] - logs[..., 0]) * sizes[-1] / sizes[0]).of(TIMES)
        effects[f"{name}: steps, B = {first:.0f} over {last:.0f}"] = fewer
        effects[f"{name}: examples, B = {last:.0f} over {first:.0f}"] = more
        holds += fewer.low > 1 and more.low > 1
        breaks += fewer.high < 1 or more.high < 1
    told = f"The smallest batch takes the most steps and the fewest examples in {holds} of {len(found)} studies"
    if breaks:
        return Verdict(Outcome.NOT_REPRODUCED, f"{told}, and surely not in {breaks}.", effects)
    settled = holds and holds == len(found)
    return Verdict(Outcome.REPRODUCED if settled else Outcome.INCONCLUSIVE, f"{told}.", effects)


class Far(NamedTuple):
    """One batch size far beyond the target, at the learning rate of best validation accuracy, of those at which no seed
    diverged."""

    last: pd.DataFrame
    on_edge: bool  # whether that rate is the lowest or the highest of all that were tried
    rise: Estimate  # of validation accuracy over the second half


def far_best(table: pd.DataFrame) -> dict[int, Far]:
    """By batch size, what was trained far beyond the target."""
    if "arm" not in table or "test_accuracy" not in table:
        return {}
    tried = table[table["arm"].str.endswith(FAR_ARM)]
    found = {}
    for size, group in tried.groupby("batch_size"):
        last = final(group)
        whole = [lr for lr, of_rate in last.groupby("lr") if len(of_rate) == select(group, lr=lr)["key"].nunique()]
        if not whole:
            continue
        accuracy = last[last["lr"].isin(whole)].groupby("lr")["validation_accuracy"].mean()
        best = accuracy.idxmax()
        at_best = select(group, lr=best)
        before = at_best[~at_best["final"] & (at_best["step"] > 0)]
        values = paired_values(*(by_seed(rows, "validation_accuracy", 100) for rows in (final(at_best), before)))
        edge = bool(best in (group["lr"].min(), group["lr"].max()))
        found[int(str(size))] = Far(final(at_best), edge, paired_difference(*values).of(RISE))
    return found


def far_errors(table: pd.DataFrame) -> dict[int, dict[int, float]]:
    """By batch size, test error (%) by seed there."""
    best = {size: by_seed(far.last, "test_accuracy") for size, far in far_best(table).items()}
    return {size: {s: 100 - 100 * a for s, a in accuracies.items()} for size, accuracies in best.items()}


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
    found = far_best(table)
    epochs = [found[size].last["epoch"].mean() for size in (large, small)]
    effects |= {f"B = {size}, over the second half": found[size].rise for size in (small, large)}
    told = (
        f"B = {large} tests {bracketed(difference, 'points')} above B = {small}, after {epochs[0]:.0f} epochs and "
        f"{epochs[1]:.0f}"
    )
    if len(seeds) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Too few seeds.", effects)
    if on := [size for size in (small, large) if found[size].on_edge]:
        where = " and ".join(f"B = {size}" for size in on)
        return Verdict(Outcome.INCONCLUSIVE, f"{told}; the best rate tried is the last at {where}.", effects)
    same = difference.high < 0 or difference.equivalent(margin)
    if not same and difference.low <= 0:
        return Verdict(Outcome.INCONCLUSIVE, f"{told}.", effects)
    if not found[behind := small if same else large].rise.high < margin:
        return Verdict(Outcome.INCONCLUSIVE, f"{told}; at B = {behind} accuracy may still be rising.", effects)
    if same:
        return Verdict(Outcome.REPRODUCED, f"{told}: the same within {margin:.1f} points, or better.", effects)
    return Verdict(Outcome.NOT_REPRODUCED, f"{told}.", effects)


def judge(table: pd.DataFrame) -> Verdict:
    found = studies(table)
    if not found:
        return Verdict(Outcome.INCONCLUSIVE, "No study has been run.")
    main = judge_regimes(found)
    more = {}
    for name, s in found.items():
        if len(s.sizes) > 2:
            more[f"{name}: twice the fewest steps at"] = s.estimate(critical).of(EXAMPLES)
            more[f"{name}: scales perfectly up to"] = s.estimate(efficient).of(EXAMPLES)
            more[f"{name}: useful up to"] = s.estimate(useful).of(EXAMPLES)
    told = [f"{name}: {left_out(s)}" for name, s in found.items() if s.is_sound and (s.edges or s.infeasible)]
    if told:
        main = dataclasses.replace(main, reason=f"{main.reason} Left out: {'; '.join(told)}.")
    parts = {
        "Momentum extends perfect scaling": judge_momentum(found),
        "No heuristic for the learning rate holds": judge_heuristics(found),
        "Nor does one where a larger batch still saves steps": judge_heuristics(found, scaling),
        "One law, S_min (1 + B_c/B), for every network": judge_law(found),
        OPPOSITE: judge_budgets(found),
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
    first, last = s.ends
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
        Outcome.REPRODUCED: "First half at each doubling, then little.",
        Outcome.CONDITIONAL: "First half at each doubling, then little, but not in every study.",
        Outcome.NOT_REPRODUCED: "Not as claimed.",
    }
    return f"{starts.get(verdict.outcome, 'Not settled.')} {told}."
