"""The headline of every chapter a second time, from the recorded tables: its outcome and its numbers.

A function a chapter, after the words of its rule. It takes the rows of one dataset and the numbers that the source
prints, and gives the outcome; every phrase of the headline that holds a number, in order, or None where too little has
been run to judge; and the rows by the names that the printed numbers use. pandas, numpy and scipy alone.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import independent_steps
import numpy as np
import pandas as pd
from independent_statistics import (
    Interval,
    Printed,
    Rows,
    Tables,
    best_rate,
    bootstrap,
    by_seed,
    chance,
    chosen,
    ended,
    finished,
    grid,
    is_inner,
    joined,
    log_checkpoints,
    mean,
    num_diverged,
    number,
    of_best,
    over,
    points,
    power,
    same,
    slope,
    spearman,
    tally,
    trials,
    tuned_difference,
)

YES, IN_PART, NO, OPEN = "reproduced", "conditional", "not reproduced", "inconclusive"
POST = {"epochs": 30, "checkpoints": log_checkpoints(30)}  # the post's network, for as long as the post trains it
TUNED = {"epochs": 30, "evaluate_on": "both", "drop_last": True}
HALF_OCTAVES = [2 ** (k / 2) for k in range(13)]


class Found(NamedTuple):
    outcome: str
    phrases: list[str] | None
    arms: Mapping[str, Rows]


def reference_setup(rows: Rows, dataset: str, printed: Sequence[Printed]) -> Found:
    """Of the printed numbers no more are missed than by chance, and of the row SGD B=64 every rival misses more."""
    arms = {
        "SGD B=64": trials(rows, 5, **POST),
        "SGD B=1024": trials(rows, 5, batch_size=1024, **POST),
        "SGD B=1024, lr 0.1": trials(rows, 5, batch_size=1024, lr=0.1, **POST),
        "SGD B=1024, 480 epochs": trials(rows, 3, batch_size=1024, epochs=480, checkpoints=log_checkpoints(480)),
        "Adam B=64": trials(rows, 5, optimizer="adam", **POST),
    }
    row = [p for p in printed if p.where["arm"] == "SGD B=64"]
    others = [{"init": "pytorch"}, {"init": "he"}, {"preprocessing": "unit"}, {"init": "glorot_normal"}]
    ours = tally(printed, arms)
    *rivals, twin = (tally(row, {"SGD B=64": trials(rows, 3, **other, **POST)}) for other in others)
    if any(counted["not run"] for counted in (ours, *rivals)):
        return Found(OPEN, None, arms)
    phrases = [f"{ours['met']} of {sum(ours.values())} published numbers"]
    if ours["missed"] > chance(len(printed)):
        return Found(NO, phrases, arms)
    if any(counted["missed"] <= chance(len(row)) for counted in rivals):
        return Found(IN_PART, phrases, arms)
    if not twin["not run"] and twin["missed"] <= chance(len(row)):
        phrases.insert(0, "be they uniform or normal")
    return Found(YES, phrases, arms)


def generalization_gap(rows: Rows, dataset: str, printed: Sequence[Printed]) -> Found:
    """B = 1024 against B = 64, at equal epochs and at the steps that B = 64 takes in them."""
    seeds, few = 5 if dataset == "mnist" else 7, 3

    def at(size: int, epochs: float) -> Rows:
        most = seeds if size in (64, 1024) else few
        return trials(rows, most, batch_size=size, epochs=epochs, checkpoints=log_checkpoints(epochs))

    arms = {"equal epochs": pd.concat([at(size, 30) for size in (16, 64, 256, 1024, 4096)])}
    small, large, large_steps = at(64, 30), at(1024, 30), at(1024, 480)
    epochs, steps = points(large, small), points(large_steps, small)
    if min(epochs.n, steps.n) < 2:
        return Found(OPEN, None, arms)
    worse = f"At equal epochs B = 1024 tests {number(abs(epochs.value), '.1f')} points worse than B = 64"
    phrases = [worse, f"({number(steps.value, '+.2f')}, {steps.ends('+.2f')})"]
    if epochs.side < 0 and (same(points(large_steps, small, 0.9)) or steps.side > 0):
        return Found(IN_PART, phrases, arms)
    if epochs.side < 0:
        return Found(YES if steps.side < 0 else OPEN, phrases, arms)
    phrases = ["B = 1024", "B = 64", f"{number(epochs.value, '+.2f')}, {epochs.ends('+.2f')} points"]
    return Found(NO if epochs.side > 0 or same(points(large, small, 0.9)) else OPEN, phrases, arms)


def learning_rate_recovery(rows: Rows, dataset: str, printed: Sequence[Printed]) -> Found:
    """B = 1024 against B = 64 at its rate and at ten times that; then B = 4096 against B = 64, each tuned."""
    of_post, seeds, lowest = (5, 7, 0.08) if dataset == "mnist" else (10, 5, 0.02)
    small, large, raised = (
        trials(rows, of_post, batch_size=b, lr=r, **POST) for b, r in ((64, 0.01), (1024, 0.01), (1024, 0.1))
    )
    tuned_small = trials(rows, seeds, lr=[lowest * f for f in HALF_OCTAVES[:7]], **TUNED)
    tuned_largest = trials(rows, seeds, batch_size=4096, lr=[0.16 * f for f in HALF_OCTAVES[:7]], **TUNED)
    arms = {"large batch, raised lr": raised}
    lost, left = points(large, small), points(raised, small)
    lower_there = bool(num_diverged(raised)) and lost.side < 0
    if lost.n < 2 or left.n < 2:
        return Found(NO if lower_there else OPEN, None, arms)
    told = f"ten times the learning rate brings B = 1024 from {number(lost.value, '+.2f')} to"
    phrases = [f"{told} {left.told('points', '+.2f')} beside B = 64"]
    back = same(points(raised, small, 0.9)) or left.side > 0
    if lost.side >= 0:
        return Found(OPEN, None, arms)
    if lower_there or (left.side < 0 and left.value < -0.3 and not back):
        return Found(NO, phrases, arms)
    if not back or not chosen(tuned_small, tuned_largest):
        return Found(OPEN, phrases, arms)
    rest = tuned_difference(tuned_largest, tuned_small)
    if rest.side > 0 or same(tuned_difference(tuned_largest, tuned_small, 0.9)):
        return Found(YES, phrases, arms)
    if rest.side < 0:
        phrases.append(f"B = 4096 stays at {rest.told('points', '+.2f')}")
    return Found(IN_PART if rest.side < 0 else OPEN, phrases, arms)


def bfloat16(rows: Rows, dataset: str, printed: Sequence[Printed]) -> Found:
    """bfloat16 minus float32 in standard deviations of float32 over seeds; the same: inside ±1, by two one-sided tests.
    Arms without any run are left out."""
    seeds, columns = 5, ("test accuracy", "test loss", "train loss", "weight distance")
    whole = {"epochs": 30, "drop_last": dataset != "mnist"}

    def both(n: int, **fields: Any) -> list[Rows]:
        return [trials(rows, n, precision=kind, **fields) for kind in ("bfloat16", "float32")]

    plain = {f"B = {b}": both(seeds, batch_size=b, lr=0.1 * b / 1024, **whole) for b in (64, 256, 1024)}
    higher, base = trials(rows, seeds, batch_size=1024, lr=0.11, precision="float32", **whole), plain["B = 1024"][1]
    plain = {arm: pair for arm, pair in plain.items() if len(pair[0]) or len(pair[1])}
    pairs = plain | {"F1": both(25, model="f1", batch_size=256, lr=0.1, epochs=5), "control": [higher, base]}

    def shift(pair: list[Rows], column: str, level: float) -> Interval:
        a, b = (by_seed(x, column.replace(" ", "_")) for x in pair)
        shared = a.index.intersection(b.index)
        return mean((a - b)[shared] / b[shared].std(ddof=1) if len(shared) > 1 else [], level)

    def largest(shifts: dict[str, Interval]) -> str:
        name = max(shifts, key=lambda m: abs(shifts[m].value))
        return f"{shifts[name].told(form='+.2f')} standard deviations over seeds, in {name}"

    more = sum(num_diverged(changed) - num_diverged(kept) for changed, kept in plain.values())
    shifts = {arm: {m: shift(pair, m, 0.95) for m in columns} for arm, pair in pairs.items()}
    if more > 0 or min(e.n for of_arm in shifts.values() for e in of_arm.values()) < 3:
        return Found(NO, [f"{more} more"], {}) if more > 0 else Found(OPEN, None, {})
    alike = {arm: [m for m in columns if same(shift(pair, m, 0.9), 1.0)] for arm, pair in pairs.items()}
    moved = {arm: [m for m in columns if shifts[arm][m].side and m not in alike[arm]] for arm in pairs}
    if not moved["control"]:
        return Found(OPEN, ["10 %", f"({largest(shifts['control'])})"], {})
    if any(moved[arm] for arm in plain):
        return Found(NO, [largest({f"{m} at {arm}": shifts[arm][m] for arm in plain for m in moved[arm]})], {})
    phrases = [largest({f"{m} at {arm}": e for arm in plain for m, e in shifts[arm].items()})]
    if any(len(alike[arm]) < len(columns) for arm in plain):
        return Found(OPEN, phrases, {})
    if len(alike["F1"]) == len(columns):
        of_f1 = {f"{m} of F1, batch norm": e for m, e in shifts["F1"].items()}
        every = {f"{m} at {arm}": e for arm in plain for m, e in shifts[arm].items()}
        return Found(YES, [largest(every | of_f1)], {})
    if moved["F1"]:
        return Found(IN_PART, [*phrases, largest({m: shifts["F1"][m] for m in moved["F1"]})], {})
    return Found(OPEN, phrases, {})


def drift(adam: Rows, sgd: Rows) -> bool | None:
    """More than 2 times the weight norm, and a cosine of layer 1 below ½; None: not settled."""
    norm, cosine = over(adam, sgd, "weight_norm"), mean(by_seed(adam, "cosine_1"))
    if norm.n < 2 or (norm.low > 2 and cosine.high < 0.5):
        return True if norm.n >= 2 else None
    return False if norm.high < 2 or cosine.low > 0.5 else None


def adam_drift(rows: Rows, dataset: str, printed: Sequence[Printed]) -> Found:
    seeds, lowest = 5 if dataset == "mnist" else 3, {"sgd": -3, "adam": -9}
    rates = {name: [float(f"{10 ** (k / 2):.3g}") for k in range(low, low + 4)] for name, low in lowest.items()}
    sgd, adam = (trials(rows, seeds, optimizer=name, **POST) for name in rates)
    tuned = [trials(rows, seeds, optimizer=name, lr=lrs, **TUNED) for name, lrs in rates.items()]
    arms = {"SGD, as published": sgd, "Adam, as published": adam}
    far, as_published = over(adam, sgd, "weight_distance"), drift(adam, sgd)
    if far.n < 2:
        return Found(OPEN, None, arms)
    phrases = ["ten times its usual rate", f"it goes {far.times} as far as SGD"]
    if as_published is False:
        return Found(NO, [*phrases, mean(by_seed(adam, "cosine_1")).told(form=".3f")], arms)
    best = chosen(*tuned)
    if not as_published or not best or (still := drift(best[1], best[0])) is None:
        return Found(OPEN, phrases, arms)
    phrases.append(f"{over(best[1], best[0], 'weight_distance').times} as far as tuned SGD")
    usual = tuned[1][np.isclose(tuned[1]["lr"], 0.001)]
    told = over(usual, best[0], "weight_distance")
    if not still and told.n and not np.isclose(best[1]["lr"], 0.001).all():
        phrases.append(f"at its usual rate {told.times}")
    return Found(YES if still else IN_PART, phrases, arms)


def sharp_minima(rows: Rows, dataset: str, printed: Sequence[Printed]) -> Found:
    """φ of B = 6000 over that of B = 256: as published; by the scale-free search, in seven comparisons."""
    main, free, phi = dataset == "mnist", "scale-free sharpness", "sharpness_scale_free"
    equal, with_equal_norms = "sharpness_equal_scale_free", "sharpness, equal norms"

    def f1(seeds: int, size: int, *probes: str, **fields: Any) -> Rows:
        fields = {"epochs": 6, "lr": 0.001, "final_probes": str([*probes]).replace("'", '"')} | fields
        fields = {"norm_statistics": "batch", "norm_eps": 1e-6, "probe_examples": 5000} | fields
        return trials(rows, seeds, model="f1", optimizer="adam", batch_size=size, **fields)

    def sharper(a: Rows, b: Rows, column: str = phi) -> bool | None:
        ratio = over(a, b, column)
        if ratio.n < 3 or ratio.low > 1:
            return None if ratio.n < 3 else True
        return False if ratio.high < 1 or (ratio.low > 0.5 and ratio.high < 2) else None

    measures = [
        "sharpness",
        free,
        with_equal_norms,
        "largest eigenvalue",
        *(["sharpness, other boxes"] if main else []),
    ]
    small, large = (f1(5 if main else 3, size, *measures) for size in (256, 6000))
    every = {"probe_examples": None}
    arms = {"small batch": small, "large batch": large}
    for name, size in (("small", 256), ("large", 6000)):
        arms[f"{name} batch, all images"] = f1(5, size, "sharpness", "sharpness, half the box", **every)
    ratio = over(large, small, "sharpness")
    if ratio.n < 3:
        return Found(OPEN, None, arms)
    on = [f1(3, size, "sharpness", free, with_equal_norms, epochs=100) for size in (6000, 256)]
    fair = [(large, small, phi), (large, small, equal), (*on, phi), (*on, equal)]
    grids = [
        f1(3, b, free, with_equal_norms, evaluate_on="both", lr=[0.00025 * 2**k for k in range(6)]) for b in (6000, 256)
    ]
    if best := chosen(*grids):
        fair.append((*best, phi))
    lengths = {e: f1(3, 6000, free, epochs=e) for e in (3.6, 4.8, 7.2, 9)} | {6: large}
    losses = {e: np.log(by_seed(x, "train_loss")).mean() for e, x in lengths.items() if len(finished(x))}
    apart = {e: abs(loss - np.log(by_seed(small, "train_loss")).mean()) for e, loss in losses.items()}
    if apart[nearest := min(apart, key=lambda e: apart[e])] < math.log(2):
        fair.append((lengths[nearest], small, phi))
    fair.append((on[0], f1(3, 256, free, epochs=None, steps=1000), phi))
    answers = [sharper(*budget) for budget in fair]
    published, gone = sharper(large, small, "sharpness"), answers.count(False)
    phrases = [f"B = 6000 ends {ratio.times} as sharp as B = 256"]
    phrases += [f"in {gone} of 7 comparisons"] if published and gone > 1 else []
    runs = pd.concat([finished(x) for x in grids]).dropna(subset=[phi])
    seeds = [g for _, g in runs.groupby("init_seed") if len(g) == runs.groupby("init_seed").size().max()]
    if len(seeds) >= 3 and runs["batch_size"].nunique() == 2:
        rho = [spearman(g[phi].to_numpy(float), -g["test_accuracy"].to_numpy(float)) for g in seeds]
        told = mean(np.arctanh(np.clip(rho, -0.999, 0.999))).map(math.tanh)
        phrases.append(f"ρ = {told.told(form='+.2f')}")
    if not published:
        return Found(OPEN if published is None else NO, phrases, arms)
    return Found(IN_PART if gone else YES if all(answers) and len(fair) == 7 else OPEN, phrases, arms)


def measured_gradients(rows: Rows, dataset: str) -> dict[str, Rows]:
    fields = {"probes": '["fit"]', "final_probes": '["gradient norms", "gradient tails"]', "batch_size": 1024}
    return {arm: trials(rows, 3, epochs=e, **fields) for arm, e in (("early", 2), ("late", 30))}


def measured_passes(rows: Rows) -> list[Rows]:
    fields = {"probes": '["fit"]', "final_probes": '["gradient passes"]', "batch_size": 1024}
    return [trials(rows, 3, epochs=e, **fields) for e in (2, 30)]


def each(rows: Rows, of: Callable[[Any], float]) -> Interval:
    """The mean over networks of a value of each."""
    return mean([of(row) for _, row in finished(rows).iterrows()])


def every(answers: Sequence[bool | None]) -> bool | None:
    return False if False in answers else None if None in answers else True


def gradient_competition(rows: Rows, dataset: str, printed: Sequence[Printed]) -> Found:
    """Eight readings: reduced by sum or mean × weights frozen or moving × one batch or accumulated. To reduce by the
    mean is to divide by B: it takes 1 from the power of the mean norm, and leaves the spread, in means, as it is."""
    arms = measured_gradients(rows, dataset)
    if min(len(finished(x)) for x in arms.values()) < 3:
        return Found(OPEN, None, arms)

    def between(e: Interval, low: float, high: float) -> bool | None:
        return True if low <= e.low and e.high <= high else False if e.high < low or e.low > high else None

    def answers(name: str, start: str, low: float, high: float = math.inf, less: int = 0) -> list[bool | None]:
        """Whether the power of B, early and late, lies between, interval and all."""
        return [between(each(x, lambda row: power(row, name, start) - less), low, high) for x in arms.values()]

    readings = []  # of each: what it says of the three sentences, early and late
    for name in ("_frozen_single", "_frozen_accumulated", "_moving_single", "_moving_accumulated"):
        spread, high, low = (answers(name, start, 0.05) for start in ("cv", "high", "low"))
        both_ends = [every(pair) for pair in zip(high, low, strict=True)]
        readings += [(answers(name, "mean", 0.4, 0.6, less), spread, both_ends) for less in (0, 1)]
    early, late = (each(x, lambda row: power(row, "_frozen_single")) for x in arms.values())
    phrases = [f"B to the power {early.told()} early in training, {late.told()} late"]
    whole = [every([answer for sentence in reading for answer in sentence]) for reading in readings]
    by_sentence = [{answer for reading in readings for answer in reading[k]} for k in range(3)]
    if True in whole:
        return Found(YES, phrases, arms)
    if {False} in by_sentence:
        return Found(NO, phrases, arms)
    return Found(IN_PART if all(True in s for s in by_sentence) and None not in whole else OPEN, phrases, arms)


def pooled_kurtosis(row: Any, size: float) -> float:
    """E x⁴/(E x²)² of all 1,000 × 10,240 values, from the counts of their magnitudes in ten bins a decade: the centre
    of a bin stands for it, and Sheppard's correction takes off what that adds to a moment."""
    sizes, x, counts = (np.asarray(row[f"magnitude_{name}"], float) for name in ("batch_size", "x", "y"))
    width, kept = math.log(10) / 10, sizes == size

    def moment(order: int) -> float:
        half = order * width / 2
        return float((counts[kept] * x[kept] ** order).sum()) / 10_240_000 * half / math.sinh(half)

    return moment(4) / moment(2) ** 2


def heavy_tails(rows: Rows, dataset: str, printed: Sequence[Printed]) -> Found:
    """Kurtosis of all values pooled, in times; and across the coordinates three measures minus those of Gaussian values
    of the same scales; each at the largest batch beside B = 2."""
    arms = measured_gradients(rows, dataset)
    if min(len(finished(x)) for x in arms.values()) < 3:
        return Found(OPEN, None, arms)

    def at(row: Any, column: str, size: float) -> float:
        return dict(zip(row["tail_batch_size"], row[column], strict=True))[size or max(row["tail_batch_size"])]

    def grown(row: Any, column: str) -> float:
        ours, gaussian = (at(row, name, 0) - at(row, name, 2) for name in (column, f"{column}_surrogate"))
        return ours - gaussian

    def settled(sides: list[set[int]]) -> str:
        found = set.union(*sides) - {0}
        unsure = any(not side - {0} for side in sides)
        return IN_PART if len(found) == 2 else OPEN if unsure else YES if found == {1} else NO

    largest = max(max(row["tail_batch_size"]) for _, row in finished(arms["early"]).iterrows())
    logs = {
        (arm, size): each(x, lambda row, size=size: math.log(pooled_kurtosis(row, size)))
        for arm, x in arms.items()
        for size in (2, largest)
    }
    times = [
        each(x, lambda row: math.log(pooled_kurtosis(row, largest) / pooled_kurtosis(row, 2))).side
        for x in arms.values()
    ]
    columns = [f"{measure}_coordinates" for measure in ("kurtosis", "hill", "inverse_alpha")]
    shapes = [{each(x, lambda row, c=c: grown(row, c)).side for c in columns} for x in arms.values()]
    both = [settled([{side} for side in times]), settled(shapes)]
    small, large = (logs["early", size].map(math.exp) for size in (2, largest))
    phrases = [f"from {small.told(form='.0f')} at B = 2 to {large.told(form='.1f')} at B = {largest:g}"]
    outcome = OPEN if OPEN in both else both[0] if both[0] == both[1] else IN_PART
    passes = measured_passes(rows)
    if outcome in (YES, NO) and min(len(finished(x)) for x in passes) >= 3:
        other = {YES: NO, NO: YES}[outcome]
        for extent in ("single", "accumulated"):
            pooled, draws = (f"kurtosis_{kind}_moving_{extent}" for kind in ("pooled", "draws"))
            growths = (
                lambda row, c=pooled: math.log((3 + at(row, c, 0)) / (3 + at(row, c, 2))),
                lambda row, c=draws: at(row, c, 0) - at(row, c, 2),
            )
            if settled([{each(x, growth).side for growth in growths} for x in passes]) == other:
                outcome = IN_PART
    return Found(outcome, phrases + ["a Gaussian's is 3"] * (outcome == YES), arms)


def falls_to_half(found: Tables) -> Interval:
    """Where the best rate falls below half of the line in proportion through B = 1 to 32; the end where it does not."""
    x = np.log2([*found])

    def statistic(y: np.ndarray) -> float:
        above = y - x - (y - x)[x <= 5].mean() + 1
        for k in range(1, len(x)):
            if above[k] < 0 <= above[k - 1]:
                return float(x[k - 1] + (x[k] - x[k - 1]) * above[k - 1] / (above[k - 1] - above[k]))
        return float(x[-1])

    seeds = set.intersection(*(set(table.columns) for table in found.values()))
    alone = mean([of_best(statistic, {b: table[[seed]] for b, table in found.items()}).value for seed in sorted(seeds)])
    return joined(of_best(statistic, found), alone).map(lambda e: min(2**e, float(max(found))))


def cost_of_rule(runs: Mapping[int, Rows]) -> list[str]:
    """Where following the rule from B = 32 surely loses most: test accuracy at the grid's rate nearest to the rule's,
    minus that at the best by held-out loss; nowhere beyond the grid, or where a trial diverged. Followed from the best
    rate and from the lowest that seeds do not tell from it: the lesser loss counts."""
    held_out = {b: grid(x, "validation_loss") for b, x in runs.items()}
    best = {b: lr for b, table in held_out.items() if (lr := best_rate(table, -1))}
    base, costs = max((b for b in best if b <= 32), default=0), {}
    lowest = best.get(base, 0.0)
    for lr in reversed([r for r in held_out[base].index if r < lowest] if base else []):
        worse = held_out[base].loc[lr] - held_out[base].loc[best[base]]
        if worse.isna().any() or mean(worse).side:
            break
        lowest = lr
    for b, lr in best.items() if base else ():
        tested, lost = 100 * grid(runs[b], "test_accuracy"), []
        for start in (best[base], lowest):
            octaves = np.log2(held_out[b].index / (start * b / base))
            at = tested.iloc[int(abs(octaves).argmin())]
            if min(abs(octaves)) < 0.251 and at.notna().all() and (cost := mean(at - tested.loc[lr])).side < 0:
                lost.append(cost)
        if len(lost) == 2:
            costs[b] = max(lost, key=lambda cost: cost.value)
    worst = min(costs, key=lambda b: costs[b].value, default=0)
    told, cost = f"Scaled in proportion from B = {base}, B = {worst} loses", -costs.get(worst, mean([]))
    return [f"{told} {cost.told('points', '.0f' if cost.value > 10 else '.1f')}"] if worst else []


def linear_scaling(rows: Rows, dataset: str, printed: Sequence[Printed]) -> Found:
    """The best learning rate by training loss over the last tenth of the second epoch, B = 1 to 32, and beyond."""
    fields = {"evaluate_on": "both", "widths": "[256]", "epochs": 5, "probes": '["fit"]', "drop_last": True}
    fields["checkpoints"] = "[1.0, 1.9, 1.925, 1.95, 1.975, 2.0, 3.0, 4.0]"
    lowest = {2**k: 2.0 ** (min(k, 7) - 12) for k in range(15)}
    runs = {b: trials(rows, 5, batch_size=b, lr=[low * f for f in HALF_OCTAVES], **fields) for b, low in lowest.items()}

    def tables(start: float, end: float) -> Tables:
        found = {}
        for b, x in runs.items():
            read = x[x["epoch"].between(start - 1e-6, end + 1e-6)].groupby("key")["train_loss"].mean()
            found[b] = grid(x.assign(loss=x["key"].map(read)), "loss")
        return {b: table for b, table in found.items() if best_rate(table, -1)}

    def held(e: Interval) -> set[float]:
        return {p for p in (0, 0.5, 1) if e.low <= p <= e.high or (p - 0.2 < e.low and e.high < p + 0.2)}

    everywhere = tables(1.9, 2)
    small, earlier = ({b: table for b, table in found.items() if b <= 32} for found in (everywhere, tables(1, 1)))
    grows = slope(small)
    if not math.isfinite(grows.value):
        return Found(OPEN, None, {})
    span, power_told = f"From B = {min(small)} to {max(small)}", f"grows as B to the power {grows.told()}"
    phrases = [f"{span} the best learning rate {power_told}", *cost_of_rule(runs)]
    at_edge = not all(is_inner(table, best_rate(table, -1)) for table in everywhere.values())
    if at_edge or not math.isfinite(grows.high) or len(held(grows)) > 1:
        return Found(OPEN, phrases, {})
    if held(grows) != {1} or 1 not in held(slope(earlier)):
        return Found(NO if held(grows) != {1} else OPEN, phrases, {})
    end, largest = falls_to_half(everywhere), max(everywhere)
    if not math.isfinite(end.high) or end.low >= largest or end.high >= largest:
        return Found(YES if end.low >= largest else OPEN, phrases, {})
    return Found(IN_PART, [f"Yes, up to B = {end.told(form='.0f')}", f"{span} it {power_told}", *phrases[1:]], {})


def steps_to_target(rows: Rows, dataset: str, printed: Sequence[Printed]) -> Found:
    """The powers of B with which steps go over small batch sizes and over large ones; where scaling stops."""
    curves = independent_steps.curves(rows)
    told = {name: both for name, c in curves.items() if (both := independent_steps.regimes(c))}
    answers = independent_steps.verdicts(curves)
    yes, no = ([name for name, answer in answers.items() if answer is flag] for flag in (True, False))

    def enough(names: Sequence[str]) -> bool:
        networks = [n.partition(", ")[0] for n in names if not n.endswith("Nesterov")]
        return len(networks) >= 3 and len(set(networks)) >= 2

    outcome = IN_PART if yes and no else YES if enough(yes) else NO if enough(no) else OPEN
    if not told:
        return Found(outcome, None, {})
    name, (small, large) = next(iter(told.items()))
    first, last = curves[name].run
    phrases = [f"From B = {first:.0f} to {8 * first:.0f} steps go as B to the power {small.told()}"]
    phrases.append(f"from {last / 8:.0f} to {last:.0f} to the power {large.told()}")
    ends = {n: independent_steps.figures(c.of(independent_steps.perfect_up_to)) for n, c in curves.items() if n in told}
    phrases.append(f"B = {ends[name]}")
    helped = name.partition(",")[0] + ", momentum"
    return Found(outcome, phrases + ([f"with momentum up to {ends[helped]}"] if helped in ends else []), {})


def noise_scale(rows: Rows, dataset: str, printed: Sequence[Printed]) -> Found:
    """B_c of the fitted law over the noise scale, by study: within ten times, interval and all."""
    logs, holds, places = [], [], []
    for place, c, scales in _measured(rows):
        places.append(place)
        values = [math.log(x) for x in scales]
        size, noise = c.of(independent_steps.critical).map(math.log), mean(values)
        logs.append(size.value - noise.value)
        low = logs[-1] - math.hypot(size.value - size.low, noise.high - noise.value)
        high = logs[-1] + math.hypot(size.high - size.value, noise.value - noise.low)
        beyond = high < -math.log(10) or low > math.log(10)
        holds.append(True if -math.log(10) < low and high < math.log(10) else False if beyond else None)
    if len(logs) < 3:
        return Found(OPEN, None, {})
    of_logs = mean(logs)
    reach = math.sqrt(len(logs) + 1) * (of_logs.high - of_logs.value)
    told = [f"{math.exp(of_logs.value + side * reach):.2g}" for side in (0, -1, 1)]
    phrases = [f"Over {len(logs)} workloads", f"is {told[0]} times", f"expect {told[1]} to {told[2]} times"]
    yes, no = ([p for p, h in zip(places, holds, strict=True) if h is flag] for flag in (True, False))
    enough = len(set(yes)) >= 3 and len(yes) >= 0.75 * len(holds)
    outcome = IN_PART if yes and no else YES if enough else NO if len(set(no)) >= 3 else OPEN
    return Found(outcome, phrases, {})


def _measured(rows: Rows) -> list[tuple[str, independent_steps.Curve, list[float]]]:
    """Of every dataset, network and optimizer but Nesterov's, where that is, dataset and network, the curve, where it
    can decide, and the noise scales."""
    found = []
    for dataset in rows["dataset"].unique():
        of_dataset = rows[rows["dataset"] == dataset]
        scales = independent_steps.noise_scales(of_dataset)
        for name, c in independent_steps.curves(of_dataset).items():
            if not name.endswith("Nesterov") and c.sound and len(c.sizes) >= 4 and len(scales.get(name, [])) > 1:
                found.append((f"{dataset}, {name.partition(', ')[0]}", c, scales[name]))
    return found


def noisy_quadratic(rows: Rows, dataset: str, printed: Sequence[Printed]) -> Found:
    """Measured steps over those of the noisy quadratic, by batch size; their mean; the largest miss beside it."""
    told: dict[str, tuple[Interval, float, Interval]] = {}
    holds: list[bool | None] = []
    for name, c in independent_steps.curves(rows).items():
        looks = independent_steps.looks(rows, name)
        if not name.endswith((", SGD", ", momentum")) or not c.sound or len(c.sizes) < 4 or not looks:
            continue
        theory = independent_steps.in_theory(looks, c.sizes, name.endswith("momentum"))
        if not np.isfinite(theory).all():
            holds.append(False)
            continue
        over = c.of(lambda sizes, logs, theory=theory: math.exp((logs - theory).mean()))
        misses = [
            c.of(lambda sizes, logs, k=k, theory=theory: math.exp((logs - theory)[k] - (logs - theory).mean()))
            for k in range(len(c.sizes))
        ]
        worst = max(range(len(misses)), key=lambda k: abs(math.log(misses[k].value)))
        told[name] = over, c.sizes[worst], misses[worst]
        spread = c.of(lambda sizes, logs, theory=theory: math.exp((logs - theory).std()))
        holds.append(True if spread.high < 1.5 else False if spread.low > 1.5 else None)
    if not told:
        return Found(NO, ["No. In theory"], {}) if holds else Found(OPEN, None, {})
    over, at, miss = next(iter(told.values()))
    phrases = [f"{over.times} the predicted steps", f"B = {at:.0f}, {miss.times}"]
    if None in holds:
        return Found(OPEN, phrases, {})
    return Found(YES if all(holds) else IN_PART if any(holds) else NO, phrases, {})


def what_batch_size(rows: Rows, dataset: str, printed: Sequence[Printed]) -> Found:
    """Time to the target at the batch size that noise scale and step times advise, over the least, by workload."""
    advised: list[Interval] = []
    usual: list[float] = []
    places: list[str] = []
    guesses: list[tuple[np.ndarray, np.ndarray]] = []  # by power of two and draw, log of the slowdown; as advised
    for at in rows["dataset"].unique():
        of_dataset = rows[rows["dataset"] == at]
        scales, timed = independent_steps.noise_scales(of_dataset), independent_steps.step_seconds(of_dataset)
        for name, c in independent_steps.curves(of_dataset).items():
            noise = scales.get(name, [])
            if name.endswith("Nesterov") or not c.sound or len(c.sizes) < 4 or len(noise) < 2:
                continue
            first, last = c.sizes[0], c.sizes[-1]
            seconds = {b: s for b, s in timed.get(name, {}).items() if first <= b <= last}
            if not {first, last} <= seconds.keys():
                continue
            random = np.random.default_rng([len(noise), *name.encode()])
            picked = random.integers(len(noise), size=(len(c.logs), len(noise)))
            picked[0] = range(len(noise))
            best = {
                key: independent_steps.fastest(seconds, math.exp(np.mean([math.log(noise[i]) for i in key])))
                for key in {tuple(sorted(row)) for row in picked.tolist()}
            }
            drawn = [best[tuple(sorted(row))] for row in picked.tolist()]
            advised.append(independent_steps.slowdown(c, seconds, drawn))
            places.append(f"{at}, {name.partition(', ')[0]}")
            sizes = [min(max(2.0**k, first), last) for k in range(1, 15)]
            every = [independent_steps.slowdowns(c, seconds, [size] * len(drawn)) for size in sizes]
            guesses.append((np.log(every), np.log(independent_steps.slowdowns(c, seconds, drawn))))
            nearest = min(max(32.0, first), last)
            usual.append(independent_steps.slowdown(c, seconds, [nearest] * len(c.logs)).value)
    good, bad = (
        [p for p, e in zip(places, advised, strict=True) if holds(e)]
        for holds in (lambda e: e.high <= 1.25, lambda e: e.low > 1.25)
    )
    enough = len(good) >= max(4, 0.75 * len(advised)) and len(set(good)) >= 3
    no = len(bad) >= 4 and len(set(bad)) >= 3
    outcome = IN_PART if good and bad else YES if enough else NO if no else OPEN
    if outcome == YES:
        mean = [np.mean([of[:, 0] for k, (of, _) in enumerate(guesses) if k != j], axis=0) for j in range(len(guesses))]
        gains = [of[int(np.argmin(mean[j]))] - told for j, (of, told) in enumerate(guesses)]
        value, *draws = np.mean(gains, axis=0)
        if not min(np.quantile(draws, 0.025, method="nearest"), value) > 0:
            outcome = IN_PART
    if len(advised) < 4:
        return Found(outcome, None, {})
    worst = max(advised, key=lambda e: e.value)
    phrases = [f"Over {len(advised)} workloads", f"{worst.times} the least time at worst"]
    return Found(outcome, [*phrases, f"{min(usual):.1f} to {max(usual):.1f} times"], {})


def averaged(rows: Rows, epochs: float) -> Rows:
    """With the test accuracy of every row that of its trial's last so many epochs."""
    means = {}
    for key, of_trial in rows[["key", "epoch", "test_accuracy"]].groupby("key"):
        last = of_trial.loc[of_trial["epoch"] > of_trial["epoch"].max() - epochs + 1e-6, "test_accuracy"]
        means[key] = float(np.mean(last.to_list()))
    return rows.assign(test_accuracy=[means[key] for key in rows["key"]])


def switching(rows: Rows, dataset: str, printed: Sequence[Printed]) -> Found:
    """A large batch for some epochs, then a small one for thirty: beside the small one alone, and the large kept; over
    the last ten epochs."""
    narrow, wide = ("[256]", {"mnist": 5}.get(dataset, 12)), ("[1024, 1024]", 5)

    def arm(
        total: float, size: int, start: int = 0, rate: float = 0.01, then: int = 64, net: tuple[str, int] = narrow
    ) -> Rows:
        looks = {start + e for e in (0, 1, 2, 5, 10)} | {total - e for e in range(1, 11)}
        told = f'[{{"batch_size": {then}, "epoch": {start}, "lr": {rate}}}]' if start else "[]"
        seen = str(sorted(float(e) for e in looks if 0 < e < total))
        return trials(rows, net[1], batch_size=size, epochs=total, widths=net[0], schedule=told, checkpoints=seen,
                      probes='["held-out fit"]')  # fmt: skip

    def minus(a: Rows, b: Rows, level: float = 0.95) -> Interval:
        return points(averaged(a, 10), averaged(b, 10), level)

    def caught(a: Rows, b: Rows) -> bool | None:
        e = minus(a, b)
        return True if e.side > 0 or (e.n > 1 and same(minus(a, b, 0.9))) else False if e.high < -0.3 else None

    nets = [narrow, *([wide] if dataset == "mnist" else [])]
    alone, kept, stuck, late, faster = (
        [arm(30, 64, net=net) for net in nets],
        [arm(60, 1024, net=net) for net in nets],
        [arm(60, 1024, 30, 1e-05, net=net) for net in nets],
        [arm(60, 1024, 30, net=net) for net in nets],
        [arm(60, 1024, 30, 0.1, 1024, net=net) for net in nets],
    )
    switched = [(arm(e + 30, 1024, e), alone[0]) for e in (1, 3, 10, 30)]
    switched += [(arm(e + 30, 1024, e, net=wide), alone[1]) for e in (1, 30) if len(nets) > 1]
    arms = {}
    if len(nets) > 1:
        of_post = (alone[1], switched[4][0], switched[5][0], faster[1])
        names = ("small batch from the start", "switched after epoch 1", "switched after epoch 30",
                 "ten times the learning rate after epoch 30")  # fmt: skip
        arms = {f"network of the post: {name}": found for name, found in zip(names, of_post, strict=True)}
    behind = [minus(*pair) for pair in switched]
    if min(e.n for e in behind) < 2:
        return Found(OPEN, None, arms)
    gain = min((minus(*pair) for pair in zip(late, kept, strict=True)), key=lambda e: e.high)
    worst = min(behind, key=lambda e: e.value)
    where = f"{number(worst.value, '+.2f')}, {worst.ends('+.2f')} points"
    if gain.n > 1 and gain.side < 0:
        return Found(NO, [gain.told("points", "+.2f")], arms)
    told_apart = all(caught(*pair) is False for pair in zip(stuck, alone, strict=True))
    if not told_apart or not all(minus(*pair).high < -0.3 for pair in zip(kept, alone, strict=True)):
        return Found(OPEN, [where], arms)
    up = [caught(*pair) for pair in switched]
    latest, after = caught(arm(510, 1024, 480), arm(60, 64)), minus(arm(510, 1024, 480), arm(60, 64))
    rates = [minus(arm(60, 1024, 1, 0.1, 1024), kept[0]), *(minus(*pair) for pair in zip(faster, kept, strict=True))]
    if not any(up) and False in up:
        return Found(NO, [where], arms)
    if False in up:
        return Found(IN_PART, [where], arms)
    if not all(up):
        return Found(OPEN, [where], arms)
    if latest is False:
        return Found(IN_PART, [where, after.told("points", "+.2f")], arms)
    if any(e.high < 0 for e in rates) and (any(e.low > 0 for e in rates) or all(e.high < 0 for e in rates)):
        return Found(IN_PART, [where, min(rates, key=lambda e: e.value).told("points", "+.2f")], arms)
    if latest and all(e.low > 0 for e in rates):
        much_later = f"much later, {number(after.value, '+.2f')}, {after.ends('+.2f')}"
        return Found(YES, [where, much_later, gain.told("points", "+.2f")], arms)
    return Found(OPEN, [where], arms)


def adaptive_methods(rows: Rows, dataset: str, printed: Sequence[Printed]) -> Found:
    """Adam against SGD with momentum, each tuned over half decades, decayed. The constructed examples are proved."""
    plain = {"widths": "[256]", "epochs": 10, "evaluate_on": "both", "drop_last": True}
    late = '[{{"batch_size": 64, "epoch": 7, "lr": {}}}]'
    adam, momentum, constant = (
        pd.concat(
            trials(rows, 10, lr=lr, schedule=schedule.format(float(f"{lr / 10:.4g}")), **plain, **fields)
            for lr in (float(f"{10 ** (k / 2):.3g}") for k in range(lowest, lowest + 5))
        )
        for lowest, schedule, fields in (
            (-8, late, {"optimizer": "adam"}), (-5, late, {"momentum": 0.9}), (-8, "[]", {"optimizer": "adam"})
        )
    )  # fmt: skip
    if not chosen(adam, momentum, constant):
        return Found(OPEN, [], {})
    e, narrow = (tuned_difference(adam, momentum, level) for level in (0.95, 0.9))
    told = [
        f"tuned, Adam tests {e.told('points', '+.2f')} beside SGD with momentum if both rates decay",
        f"{tuned_difference(constant, momentum, 0.95).told('', '+.2f')} if its own does not",
    ]
    if e.n < 2 or not (e.side or same(narrow)):
        return Found(OPEN, [], {})
    return Found(IN_PART if e.side > 0 or same(narrow) else YES, told, {})


def travel(rows: Rows, dataset: str, printed: Sequence[Printed]) -> Found:
    """B = 1024 against B = 64 at equal epochs; where it ends, against B = 64 where that was as far from the start; and
    at as many steps, and at sixteen times the learning rate."""
    seeds = 5 if dataset == "mnist" else 7

    def at(size: int, epochs: float, lr: float = 0.01, most: int = seeds) -> Rows:
        return trials(rows, most, batch_size=size, epochs=epochs, lr=lr, checkpoints=log_checkpoints(epochs))

    small, large, longer, raised = at(64, 30), at(1024, 30), at(1024, 480), at(1024, 30, 0.16)
    arms = {
        "equal epochs": pd.concat([small, large, *(at(size, 30, most=3) for size in (16, 256, 4096))]),
        "equal steps": pd.concat([small, longer, at(16, 7.5, most=3), at(256, 120, most=3)]),
    }
    nearer, worse = over(large, small, "weight_distance"), points(large, small)
    if min(nearer.n, worse.n) < 2:
        return Found(OPEN, None, arms)

    def on_the_way(rows: Rows, seed: int, at: float) -> float:
        """Test accuracy where a seed was so far from the start."""
        way = rows[(rows["init_seed"] == seed) & (rows["step"] > 0) & (rows["status"] == "finished")]
        for (_, before), (_, after) in itertools.pairwise(way.sort_values("step").iterrows()):
            if before["weight_distance"] <= at <= after["weight_distance"]:
                share = math.log(at / before["weight_distance"])
                share /= math.log(after["weight_distance"] / before["weight_distance"])
                errors = [max(1 - row["test_accuracy"], 1e-6) for row in (before, after)]
                return float(1 - errors[0] ** (1 - share) * errors[1] ** share)
        return math.nan

    def as_far(one: Rows, other: Rows) -> Interval:
        far = [by_seed(x, "weight_distance") for x in (one, other)]
        near = {seed: min(far[0][seed], far[1][seed]) for seed in far[0].index.intersection(far[1].index)}
        gaps = [on_the_way(one, seed, d) - on_the_way(other, seed, d) for seed, d in near.items()]
        return mean([100 * gap for gap in gaps if math.isfinite(gap)])

    at_same = as_far(large, small)
    far = f"B = 1024 goes {number(nearer.value)} times as far as B = 64"
    phrases = [far, at_same.told("points", "+.2f")]
    if nearer.low > 1 / 1.1 or worse.low > 0 or same(points(large, small, 0.9)):
        return Found(NO, [far, worse.told("points", "+.2f")], arms)
    ways = []
    for way in (longer, raised):
        distance, accuracy = over(way, small, "weight_distance"), points(way, small)
        fails = distance.high < 1 / 1.1 or accuracy.high < -0.3
        as_good = same(points(way, small, 0.9)) or accuracy.side > 0
        known = min(distance.n, accuracy.n) > 1
        ways.append(True if known and distance.low > 1 / 1.1 and as_good else False if known and fails else None)
    if nearer.high >= 1 or worse.high >= 0:
        return Found(OPEN, phrases, arms)
    if at_same.high < -0.3 or False in ways:
        return Found(IN_PART, phrases if at_same.high < -0.3 else [far], arms)
    if at_same.low > -0.3 and all(ways):
        narrow = {"widths": "[256]", "batch_size": 64, "epochs": 30, "drop_last": True, "label_noise": 0.0}
        narrow["checkpoints"] = log_checkpoints(30)
        descent, adam = (
            trials(rows, 5, lr=lr, optimizer=name, **narrow) for lr, name in ((0.1, "sgd"), (3e-4, "adam"))
        )
        other = as_far(adam, descent)
        told = [f"Adam, as far as SGD, tests {other.told('', '+.2f')} beside it"] if other.side < 0 else []
        return Found(YES, [far, f"tests {-worse.value:.1f} points worse", phrases[-1], *told], arms)
    return Found(OPEN, phrases, arms)


def noise_collapse(rows: Rows, dataset: str, printed: Sequence[Printed]) -> Found:
    """A thousand images, η from ½ to 1/32: do networks that fit, at batches up to 1/8 of that, go by η/B?"""
    plain = {"widths": "[64]", "train_size": 1000, "evaluate_on": "both", "drop_last": True, "probes": '["fit"]'}
    by = ["lr", "batch_size", "weight_decay", "steps"]

    def settings(powers: Sequence[float], time: int = 256, decays: Sequence[float] = (0.0,)) -> Rows:
        return pd.concat(
            [
                trials(
                    rows,
                    10,
                    batch_size=[2**k for k in range(7)],
                    lr=round(0.5**power, 10),
                    steps=round(time * 2**power),
                    weight_decay=decay,
                    **plain,
                )
                for power in powers
                for decay in decays
            ]
        )

    def accuracies(found: Rows, least: float) -> pd.DataFrame:
        ends = ended(found)
        known = ends.pivot(index=by, columns="init_seed", values="test_accuracy").notna().all()
        ends = ends[ends["init_seed"].isin(known.index[known])]
        ends = ends[ends.groupby(by)["train_accuracy"].transform("mean") >= least]
        return 100 * ends.pivot(index=by, columns="init_seed", values="test_accuracy")

    def in_groups(table: pd.DataFrame, what: str) -> tuple[np.ndarray, np.ndarray]:
        """Accuracies (cells, seeds) of three or more that have something in common, and which have."""
        at = table.index.to_frame().astype(float)
        shared = {"noise": at["lr"] / at["batch_size"], "epochs": at["batch_size"] * at["steps"] / 1000}
        shared["knob"] = at["weight_decay"] / at["batch_size"]
        label = np.log2(shared[what]).round(6 if what != "epochs" else 2)
        kept = label.groupby(label).transform("size") >= 3
        return table[kept].to_numpy(), label[kept].to_numpy()

    def luck(y: np.ndarray) -> float:
        return float((y - y.mean(0)).var(1, ddof=1).mean() / y.shape[1])

    def within(y: np.ndarray, label: np.ndarray) -> float:
        groups = [y[label == g] for g in np.unique(label)]
        return float(sum(((g - g.mean()) ** 2).sum() for g in groups) / (len(y) - len(groups)))

    def share(y: np.ndarray, label: np.ndarray) -> float:
        return (within(y.mean(1), label) - luck(y)) / float(y.mean(1).var(ddof=1))

    def spread(*groups: tuple[np.ndarray, np.ndarray]) -> Interval | None:
        """The share within groups; of two groupings, the first's minus the second's."""
        if any(len({*label}) < 2 or y.shape[1] < 2 for y, label in groups):
            return None
        signs = (1, -1)
        return bootstrap(
            lambda s: sum(k * share(y[:, s], label) for k, (y, label) in zip(signs, groups, strict=False)),
            groups[0][0].shape[1],
        )

    def judged_of(powers: Sequence[float], longer: Sequence[float]) -> tuple[str, Interval | None]:
        """The outcome, and what it hangs on among networks that fit."""
        grid = settings(powers)
        fitting = in_groups(accuracies(grid, 0.99), "noise")
        e, every = spread(fitting), spread(in_groups(accuracies(grid, 0.0), "noise"))
        if e is None or every is None:
            return OPEN, None
        y, label = fitting
        if not y.mean(1).var(ddof=1) > 4 * luck(y):
            return OPEN, e
        judged, least = (every, 0.0) if e.low > 0.2 else (e, 0.99)
        if judged.low > 0.2:
            return NO, e
        knob = settings((5,), decays=[1e-4 * 4**k for k in range(5)])
        control = spread(in_groups(accuracies(knob, least), "knob"))
        times = accuracies(pd.concat([grid, settings(longer, 1024)]), least)
        rival = spread(in_groups(times, "epochs"), in_groups(times, "noise"))
        if control is None or rival is None or control.low <= judged.high or rival.low <= 0 or judged.high >= 0.2:
            return OPEN, e
        if judged is every:
            return IN_PART, e
        rng, means = np.random.default_rng(0), y.mean(1)
        dealt = [within(rng.permutation(means), label) <= within(means, label) for _ in range(999)]
        return YES if (1 + sum(dealt)) / 1000 < 0.05 else OPEN, e

    outcome, e = judged_of((1, 2, 3, 4, 5), (2, 2.5, 3, 3.5, 4, 4.5, 5))
    if e is None:
        return Found(OPEN, None, {})
    told = [f"{e.told()} remains at equal η/B"]
    if outcome == IN_PART:
        every = spread(in_groups(accuracies(settings((1, 2, 3, 4, 5)), 0.0), "noise"))
        told = [every.told() if every else "", f"remains at equal η/B; among those that fit, {e.told()}"]
    return Found(outcome, told, {})


def grow_the_batch(rows: Rows, dataset: str, printed: Sequence[Printed]) -> Found:
    """η/4 after epochs 9, 18 and 24, or 4 B; or neither. From the rate that η/4 does best from."""
    plain = {"widths": "[32]", "epochs": 30, "evaluate_on": "both", "drop_last": True, "batch_size": 64}
    plain |= {"warmup_epochs": 1, "label_noise": {"mnist": 0.1}.get(dataset, 0.0)}
    plain |= {"checkpoints": "[1.0, 3.0, 9.0, 10.0, 18.0, 19.0, 24.0, 25.0]"}

    def arm(lr: float, changes: Sequence[tuple[int, float]]) -> Rows:
        """`changes`: the batch and the learning rate from each epoch on."""
        told = [
            {"batch_size": size, "epoch": epoch, "lr": rate}
            for (size, rate), epoch in zip(changes, (9, 18, 24), strict=False)
        ]
        return trials(rows, 10, lr=lr, schedule=json.dumps(told), **plain)

    rates = [0.0125 * 2**k for k in range(6)]
    decay = pd.concat([arm(lr, [(64, float(f"{lr / 4**k:.8g}")) for k in (1, 2, 3)]) for lr in rates])
    if not chosen(decay):  # on an edge, too
        return Found(OPEN, [], {})
    best = best_rate(grid(decay, "validation_accuracy"))
    grow, neither = arm(best, [(64 * 4**k, best) for k in (1, 2, 3)]), arm(best, [])
    decay = decay[decay["lr"] == best]
    e, gain, control = points(grow, decay), points(grow, neither), points(neither, decay)
    if min(e.n, control.n) < 2:
        return Found(OPEN, None, {})
    told = [f"tests {e.told('points', '+.2f')} beside"]
    if control.high >= -0.2:
        return Found(OPEN, told, {})
    if same(points(grow, decay, 0.9), 0.2) or e.side > 0:
        told += ["where 10 % of labels are redrawn"] if plain["label_noise"] else []
        taken = {64: 9, 256: 9, 1024: 6, 4096: 6}  # epochs, of 50,000 images
        steps = {size: epochs * (50_000 // size) for size, epochs in taken.items()}
        all_of_decay = 30 * (50_000 // 64)
        told += [f"{sum(steps.values()) / all_of_decay:.2f} times the updates"]
        once = {name: plain[name] for name in ("widths", "evaluate_on", "drop_last", "batch_size", "label_noise")}
        timed = ended(trials(rows, 3, **once, lr=1e-4, steps=1, final_probes='["step times"]'))
        each = [
            dict(zip(sizes, seconds, strict=True))
            for sizes, seconds in zip(timed["timed_batch_size"], timed["run_step_seconds"], strict=True)
        ]
        logs = [math.log(sum(n * of[b] for b, n in steps.items()) / all_of_decay / of[64]) for of in each]
        told += [f"in {mean(logs).map(math.exp).times} the seconds"] if logs else []
        return Found(YES, told, {})
    if e.high < -0.2:
        return Found(IN_PART if gain.side > 0 else NO, told, {})
    return Found(OPEN, told, {})


def batch_norm(rows: Rows, dataset: str, printed: Sequence[Printed]) -> Found:
    """F1 at B = 1024 for the 800 steps that B = 128 takes, and for as many epochs: statistics over ghosts of 128, or
    over all."""
    fields = {"widths": "[512, 512, 512, 512, 512]", "batch_norm": True, "train_size": 10_240, "evaluate_on": "both"}
    fields |= {"drop_last": True, "momentum": 0.9, "probes": '["fit"]', "batch_size": 1024, "precision": "float32"}
    seeds = 10 if dataset == "mnist" else 20

    def side(budget: Mapping[str, Any]) -> tuple[Interval, int | None]:
        ghosts, all_of_it = (trials(rows, seeds, ghost_size=size, **fields, **budget) for size in (128, None))
        e = points(ghosts, all_of_it)
        return e, 0 if e.n > 1 and same(points(ghosts, all_of_it, 0.9), 0.2) else (e.side or None)

    (late, of_late), (early, of_early) = side({"steps": 800}), side({"epochs": 10})
    if late.n < 2:
        return Found(OPEN, None, {})
    told = [f"of a batch test {late.told('points', '+.2f')} beside"]
    if of_late is None:
        return Found(OPEN, told, {})
    if of_late < 0 or of_early not in (None, of_late):
        return Found(IN_PART, [*told, f"at as many epochs {early.told('points', '+.2f')}"], {})
    return Found(YES if of_late else NO, told, {})


def large_batch_remedies(rows: Rows, dataset: str, printed: Sequence[Printed]) -> Found:
    """F1 on 5,000 images, batches of 32 and 500, Adam: do augmentation and conservative training bring the large one
    nearer to the small one that has them too, and is its minimum still twice as sharp as the small one's without?"""
    fields = {"widths": "[512, 512, 512, 512, 512]", "batch_norm": True, "norm_statistics": "batch", "norm_eps": 1e-6}
    fields |= {"train_size": 5000, "optimizer": "adam", "lr": 0.001, "drop_last": True}
    fields |= {"precision": "float32", "probes": '["fit"]', "probe_examples": 1000}
    fields |= {"final_probes": '["sharpness", "scale-free sharpness", "sharpness, equal norms"]'}
    remedies = {
        "augmentation": {"augmentation": "shift and rotate"},
        "conservative training": {"steps_per_batch": 3, "proximal": 1e-3},
    }

    def arm(size: int, epochs: int = 100, **changes: Any) -> pd.DataFrame:
        looks = str([float(e) for e in range(epochs - 9, epochs)])
        found = trials(rows, 10, batch_size=size, epochs=epochs, checkpoints=looks, **fields, **changes)
        return ended(averaged(found, 10)).set_index("init_seed")

    def accuracy(*of: Any, **changes: Any) -> pd.Series:
        return 100 * arm(*of, **changes)["test_accuracy"]

    def estimate(values: pd.Series, level: float = 0.95) -> Interval:
        return mean(values.dropna().tolist(), level)

    def outcome_of(with_large: pd.Series, without: pd.Series, with_small: pd.Series) -> str:
        more = (with_large - with_small) - (without - small)
        ratio = np.log((100 - with_large) / (100 - with_small)) - np.log((100 - without) / (100 - small))
        helped = estimate(with_large - without)
        if helped.low > 0 and estimate(more, 0.975).low > 0 and estimate(ratio, 0.975).high < 0:
            behind = (with_large - with_small, with_large - small)
            return YES if all(estimate(d, 0.9).low > -0.3 for d in behind) else IN_PART
        return NO if min(helped.high, estimate(more).high) < 0.3 else OPEN

    large, small = accuracy(500), accuracy(32)
    gap = estimate(large - small)
    if gap.n < 2:
        return Found(OPEN, None, {})
    told = [f"it tests {gap.told('points', '+.2f')} beside"]
    if gap.high >= -0.3:
        return Found(OPEN, told, {})
    outcomes = {
        name: outcome_of(accuracy(500, **changes), large, accuracy(32, **changes)) for name, changes in remedies.items()
    }
    moved = remedies["augmentation"]
    if outcomes["augmentation"] not in (YES, IN_PART):
        later = outcome_of(accuracy(500, 400, **moved), accuracy(500, 400), accuracy(32, **moved))
        if later != outcomes["augmentation"]:
            outcomes["augmentation"] = IN_PART if later in (YES, IN_PART) else OPEN
    works = [name for name, found in outcomes.items() if found in (YES, IN_PART)]
    if not works:
        return Found(NO if {*outcomes.values()} == {NO} else OPEN, told, {})
    alone = arm(32)["sharpness_scale_free"]
    wide = [arm(500, **remedies.get(name, {}))["sharpness_scale_free"] for name in ("", *works)]
    plain, *sharp = (estimate(np.log(x.clip(lower=1e-6)) - np.log(alone.clip(lower=1e-6))) for x in wide)
    closed = [name for name in works if outcomes[name] == YES]
    many = ["", "s"][len(works) == 1]
    said = [f"{' and '.join(works)} make{many} the gap smaller"]
    said += [f"{' and '.join(closed)} eliminate{['', 's'][len(closed) == 1]} it"] if closed else []
    if plain.low <= math.log(2):
        return Found(OPEN, told, {})
    if all(e.low > math.log(2) for e in sharp):
        return Found(YES if len(works) == 2 else IN_PART, [*said, "and minima stay sharp", *told], {})
    mixed = any(e.high < math.log(2) for e in sharp)
    return Found(IN_PART if mixed else OPEN, [*said, "but minima do not all stay", *told] if mixed else told, {})


_ALL = (
    *(reference_setup, generalization_gap, learning_rate_recovery, linear_scaling, gradient_competition),
    *(heavy_tails, adam_drift, sharp_minima, bfloat16, steps_to_target, noise_scale, noisy_quadratic),
    *(what_batch_size, switching, adaptive_methods, travel, noise_collapse, grow_the_batch, batch_norm),
    large_batch_remedies,
)
CHAPTERS: Mapping[str, Callable[[Rows, str, Sequence[Printed]], Found]] = {
    chapter.__name__.replace("_", "-"): chapter for chapter in _ALL
}
