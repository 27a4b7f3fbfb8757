"""Adam's drift: what is run, and how it is judged."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from repro.evidence.intervals import (
    Estimate,
    Unit,
    equivalence_p,
    geometric,
    mean_interval,
    paired_difference,
    paired_values,
)
from repro.evidence.spec import Outcome, Published, Scale, Settings, Verdict, log_checkpoints
from repro.evidence.tables import by_seed, final, margin_for, paired, point, select
from repro.evidence.tuning import tune
from repro.evidence.words import bracketed
from repro.training.engine import multiply_adds
from repro.trial import SEEDS, Sweep, Trial, choose, paired_seeds

PUBLISHED_SGD, PUBLISHED_ADAM = "SGD, as published", "Adam, as published"
COMPARED = ("SGD", "Adam")
MUCH = 2.0  # times the weight norm: "much larger"
MARGIN = 0.3  # percentage points of 10,000 test images
OPTIMIZERS = {
    "SGD": {"optimizer": "sgd"},
    "momentum": {"optimizer": "sgd", "momentum": 0.9},
    "Nesterov": {"optimizer": "nesterov", "momentum": 0.9},
    "AdaGrad": {"optimizer": "adagrad"},
    "RMSProp": {"optimizer": "rmsprop"},
    "Adam": {"optimizer": "adam"},
    "AdamW": {"optimizer": "adamw", "weight_decay": 0.01},
    "SGD, L2": {"optimizer": "sgd", "weight_decay": 5e-4},
    "Adam, L2": {"optimizer": "adam", "weight_decay": 5e-4},
}

DEFAULTS = {"AdaGrad": 0.01, "RMSProp": 0.01}  # learning rates of torch.optim, 0.001 for all others

PAPER = {
    "dataset": "mnist",
    "optimizers": tuple(OPTIMIZERS),
    "lr": 0.01,  # as published, of both
    "batch_size": 64,
    "epochs": 30,
    "lr_lowest": -5,  # exponents of ten, of the grid
    "lr_highest": 0,
    "grid_epochs": 10,
    "seeds": 5,
    "widths": (1024, 1024),
}

MNIST5K = {**PAPER, "dataset": "mnist5k", "batch_size": 32}

SETTINGS = {
    Scale.SMOKE: (
        {
            **MNIST5K,
            "optimizers": ("SGD", "momentum", "Adam"),
            "batch_size": 128,
            "epochs": 10,
            "lr_lowest": -4,
            "lr_highest": 0,
            "grid_epochs": 1,
            "seeds": 2,
            "widths": (32, 32),
        },
    ),
    Scale.LAPTOP: (
        {
            **MNIST5K,
            "epochs": 10,
            "lr_lowest": -4,
            "lr_highest": 0,
            "grid_epochs": 5,
            "seeds": 3,
            "widths": (64, 64),
        },
    ),
    Scale.PAPER: (PAPER, {**PAPER, "dataset": "fashion-mnist", "seeds": 3}),
}


def rates(settings: Settings, name: str) -> list[float]:
    """The grid of learning rates of an optimizer, per step."""
    lowest, highest = settings["lr_lowest"], settings["lr_highest"]
    between = [float(f"3e{k}") for k in range(lowest, highest)] if name in COMPARED else []
    return sorted([*(float(f"1e{k}") for k in range(lowest, highest + 1)), *between])


def design(settings: Settings) -> list[Sweep]:
    """SGD and Adam as published, at one learning rate, evaluated on the test set. And every optimizer over decades of
    learning rates, the two that are compared over 1, 3, 10, evaluated on a validation split and on the test set."""
    for name in settings["optimizers"]:
        choose("optimizer", name, OPTIMIZERS)
    epochs = settings["epochs"]
    published = Trial(
        dataset=settings["dataset"],
        widths=settings["widths"],
        batch_size=settings["batch_size"],
        lr=settings["lr"],
        epochs=epochs,
        checkpoints=log_checkpoints(epochs),
    )
    tuned = dataclasses.replace(published, evaluate_on="both", epochs=settings["grid_epochs"], checkpoints=())
    seeds: dict[str | tuple[str, ...], list[tuple[int, int]]] = {SEEDS: paired_seeds(settings["seeds"])}
    return [
        Sweep(PUBLISHED_SGD, published, seeds),
        Sweep(PUBLISHED_ADAM, dataclasses.replace(published, optimizer="adam"), seeds),
        *(
            Sweep(
                name,
                dataclasses.replace(tuned, **OPTIMIZERS[name]),  # type: ignore[arg-type]
                {"lr": rates(settings, name), SEEDS: paired_seeds(settings["seeds"])},
            )
            for name in settings["optimizers"]
        ),
    ]


# What numbers of the verdict count

RATIO = Unit("times", "Weights, Adam over SGD, times", 1.0, ("Adam's smaller", "larger"), log=True)
COSINE = Unit("", "Cosine of Adam's first layer with its start", 0.5, ("start forgotten", "still seen"))
POWER_OF_EPOCH = Unit("", "Power of the epoch that distance grows with", 1.0, ("slower than time", "faster"))
A_WEIGHT = Unit("", "Distance of one weight from its start, root mean square")
DISTANCE, NORM = "distance from the start", "weight norm"  # of all weights


def points(table: pd.DataFrame) -> Unit:
    """Of differences in accuracy, with the margin within which the table's count as the same."""
    margin = margin_for(table, MARGIN)
    return Unit("points", "Accuracy, percentage points", 0.0, ("worse", "better"), (-margin, margin))


def times(a: dict[str, object], b: dict[str, object], table: pd.DataFrame, column: str) -> Estimate:
    """How many times as large `column` is in rows `a` as in rows `b`: geometric mean over paired seeds, with the t
    interval of the logarithms' difference."""
    x, y = paired_values(*(by_seed(final(table, **where), column) for where in (a, b)))
    return geometric(paired_difference(np.log(x), np.log(y))).of(RATIO)


def chosen(table: pd.DataFrame, name: str) -> tuple[dict[str, object], str] | None:
    """The rows of an optimizer at its learning rate of highest validation accuracy, and the edge of the grid that it
    sits on, if any; None where it has none."""
    best = tune(select(table, arm=name, final=True), "validation_accuracy", largest=True)
    return None if best is None else ({"arm": name, "lr": best.lr}, best.edge)


def usual(name: str) -> dict[str, object]:
    """The rows of an optimizer at the default learning rate of torch.optim."""
    return {"arm": name, "lr": DEFAULTS.get(name, 0.001)}


def judge_drift(
    table: pd.DataFrame, sgd: dict[str, object], adam: dict[str, object], told: str, label: str = ""
) -> Verdict:
    """Much larger weights, and hardly any cosine left with the start, in rows `adam` against rows `sgd`. The effects'
    names end in `label`."""
    larger = times(adam, sgd, table, "weight_norm")
    farther = times(adam, sgd, table, "weight_distance")
    cosine = mean_interval(list(by_seed(final(table, **adam), "cosine_1").values())).of(COSINE)
    effects = {f"{NORM}{label}": larger, f"{DISTANCE}{label}": farther, f"cosine of layer 1{label}": cosine}
    if larger.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Too few paired seeds that finished.", effects)
    reason = (
        f"{told}, Adam's weights are {bracketed(larger, 'times')} as large as SGD's, and its first layer keeps a "
        f"cosine of {bracketed(cosine, form='.3f')} with its start"
    )
    if larger.low > MUCH and cosine.high < 0.5:
        return Verdict(Outcome.REPRODUCED, f"{reason}.", effects)
    if larger.high < MUCH and cosine.low > 0.5:
        return Verdict(
            Outcome.NOT_REPRODUCED, f"{reason}: no more than {MUCH:g} times, and the start is still seen.", effects
        )
    if larger.high < MUCH:
        return Verdict(Outcome.NOT_REPRODUCED, f"{reason}: no more than {MUCH:g} times.", effects)
    if cosine.low > 0.5:
        return Verdict(Outcome.NOT_REPRODUCED, f"{reason}: the start is still seen.", effects)
    return Verdict(Outcome.INCONCLUSIVE, f"{reason}: too uncertain to decide.", effects)


def judge_tuned(
    table: pd.DataFrame, judge_pair: Callable[[dict[str, object], dict[str, object], str], Verdict]
) -> Verdict:
    """A judgement of SGD and Adam at their best learning rates, where both have one inside the grid."""
    pair = {name: chosen(table, name) for name in COMPARED}
    for name, found in pair.items():
        if found is None:
            return Verdict(Outcome.INCONCLUSIVE, f"The learning rates of {name} have not been run.")
        if found[1]:
            return Verdict(
                Outcome.INCONCLUSIVE, f"The best learning rate of {name}, {found[0]['lr']:g}, is the grid's {found[1]}."
            )
    (sgd, _), (adam, _) = (found for found in pair.values() if found)
    return judge_pair(sgd, adam, f"Tuned (SGD at {sgd['lr']:g}, Adam at {adam['lr']:g})")


def at_default(table: pd.DataFrame) -> dict[str, Estimate]:
    """What Adam's drift would be had its default learning rate been chosen, and how near that is to the best."""
    sgd, adam, default = chosen(table, "SGD"), chosen(table, "Adam"), usual("Adam")
    if not sgd or not adam or final(table, **default).empty or adam[0] == default:
        return {}
    label = f", Adam at its default {default['lr']:g}"
    behind = paired(table, default, adam[0], "validation_accuracy", 100).of(points(table))
    drift = judge_drift(table, sgd[0], default, "", label)
    return {**drift.effects, f"validation accuracy, Adam at {default['lr']:g} minus at its best": behind}


def judge_accuracy(table: pd.DataFrame, sgd: dict[str, object], adam: dict[str, object], told: str) -> Verdict:
    """Whether Adam generalises worse."""
    ahead = paired(table, adam, sgd, "test_accuracy", 100).of(points(table))
    effects = {"test accuracy, Adam minus SGD, both tuned": ahead}
    if ahead.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Too few paired seeds that finished.", effects)
    reason = f"{told}, Adam minus SGD is {bracketed(ahead, 'points')} of test accuracy"
    if ahead.low > 0 or equivalence_p(ahead.values, [0.0] * ahead.n, margin_for(table, MARGIN)) < 0.05:
        return Verdict(Outcome.NOT_REPRODUCED, f"{reason}: Adam is no worse.", effects)
    if ahead.high < 0:
        return Verdict(Outcome.REPRODUCED, f"{reason}: Adam is worse.", effects)
    return Verdict(Outcome.INCONCLUSIVE, f"{reason}: too uncertain to decide.", effects)


# How distance grows with training

LAWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"linear": lambda t: t, "√t": np.sqrt, "log t": np.log}
POWER = "power of t"


def _extrapolate(t: np.ndarray, d: np.ndarray, law: str, kept: int) -> np.ndarray:
    """Distances at all epochs t (n,), by a law of two constants fitted to the first `kept`."""
    if law == POWER:
        slope, offset = np.polyfit(np.log(t[:kept]), np.log(d[:kept]), 1)
        return np.exp(offset + slope * np.log(t))
    slope, offset = np.polyfit(LAWS[law](t[:kept]), d[:kept], 1)
    return offset + slope * LAWS[law](t)


def distances_by_epoch(table: pd.DataFrame, arm: str) -> pd.DataFrame:
    """Weight distance by epoch and seed, of trials that finished, past the start."""
    rows = select(table, arm=arm, status="finished")
    rows = rows[rows["epoch"] > 0]
    return rows.pivot(index="epoch", columns="init_seed", values="weight_distance").dropna(axis=1)


def exponent(table: pd.DataFrame, arm: str, since: float = 0.0) -> Estimate:
    """The power of the epoch that distance grows with, both counted from the epoch `since`: least squares in the
    logarithms, a value a seed."""
    distances = distances_by_epoch(table, arm)
    if since:
        if since not in distances.index:
            return mean_interval([])
        distances = distances[distances.index > since] - distances.loc[since]
    if len(distances) < 3 or not (distances > 0).all(axis=None):
        return mean_interval([])
    return mean_interval(np.polyfit(np.log(distances.index - since), np.log(distances), 1)[0])


def growth(table: pd.DataFrame) -> pd.DataFrame:
    """Error (%) of every law, fitted to all but the last two checkpoints, at those two: root mean square, relative,
    mean over seeds."""
    rows = []
    for arm in (PUBLISHED_SGD, PUBLISHED_ADAM):
        distances = distances_by_epoch(table, arm)
        kept = len(distances) - 2
        for law in (*LAWS, POWER) if kept >= 2 else ():
            t, errors = distances.index.to_numpy(dtype=float), []
            for d in distances.to_numpy().T:
                off = _extrapolate(t, d, law, kept)[kept:] / d[kept:] - 1
                errors.append(100 * float(np.sqrt((off**2).mean())))
            rows.append(point(mean_interval(errors), name=law, series=arm))
    return pd.DataFrame(rows, columns=["name", "mean", "low", "high", "n", "series"])


def judge_growth(table: pd.DataFrame) -> Verdict:
    arms = {"SGD": PUBLISHED_SGD, "Adam": PUBLISHED_ADAM}
    effects = {f"{name}, from the start": exponent(table, arm) for name, arm in arms.items()}
    sgd, adam = effects.values()
    later = {f"{name}, from the end of the first epoch": exponent(table, arm, 1) for name, arm in arms.items()}
    effects |= {name: e for name, e in later.items() if e.n}
    effects = {name: e.of(POWER_OF_EPOCH) for name, e in effects.items()}
    if min(sgd.n, adam.n) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Too few seeds or checkpoints.", effects)
    reason = f"Counted from the start, distance grows as epochs to the power {bracketed(sgd)} for SGD and "
    reason += f"{bracketed(adam)} for Adam"
    if all(e.n for e in later.values()):
        reason += f"; counted from the end of the first epoch, {' and '.join(map(bracketed, later.values()))}"
    reason += "."
    if sgd.high < 1 and adam.low > 0.8:
        return Verdict(Outcome.REPRODUCED, reason, effects)
    if sgd.low > 1 or adam.high < 0.8:
        return Verdict(Outcome.NOT_REPRODUCED, reason, effects)
    return Verdict(Outcome.INCONCLUSIVE, reason, effects)


def of_one_weight(table: pd.DataFrame) -> dict[str, Estimate]:
    """Adam's distance as published, by the root of the number of weights."""
    adam = final(table, arm=PUBLISHED_ADAM)
    if adam.empty:
        return {}
    root = math.sqrt(multiply_adds(Trial.from_json(adam["trial"].iloc[0])))  # one a weight
    distances = [d / root for d in by_seed(adam, "weight_distance").values()]
    return {"Adam, as published": mean_interval(distances).of(A_WEIGHT)}


AS_PUBLISHED, AT_TUNED = "Drift as published", "Drift at tuned learning rates"  # parts


def judge(table: pd.DataFrame) -> Verdict:
    if "arm" not in table or table.empty:
        return Verdict(Outcome.INCONCLUSIVE, "No trial has been run.")
    published = judge_drift(table, {"arm": PUBLISHED_SGD}, {"arm": PUBLISHED_ADAM}, "As published")
    tuned = judge_tuned(table, lambda sgd, adam, told: judge_drift(table, sgd, adam, told, ", both tuned"))
    parts = {
        AS_PUBLISHED: dataclasses.replace(published, effects={**published.effects, **of_one_weight(table)}),
        AT_TUNED: dataclasses.replace(tuned, effects={**tuned.effects, **at_default(table)}),
        "Adam generalises worse, at tuned learning rates": judge_tuned(
            table, lambda sgd, adam, told: judge_accuracy(table, sgd, adam, told)
        ),
        "Distance grows near-linearly for Adam, sublinearly for SGD": judge_growth(table),
    }
    if published.outcome != Outcome.REPRODUCED:
        return Verdict(published.outcome, published.reason, parts=parts)
    reason = f"{published.reason} {tuned.reason}"
    if tuned.outcome == Outcome.NOT_REPRODUCED:
        return Verdict(Outcome.CONDITIONAL, f"{reason} The drift came from the learning rate.", parts=parts)
    return Verdict(tuned.outcome, reason, parts=parts)


# The reader's answer


def distance_ratios(table: pd.DataFrame) -> dict[str, Estimate]:
    """How many times as far as SGD Adam goes: at the published learning rate, both; at its default, SGD tuned; both
    tuned. Only what has been run, by the name of its row."""
    found = {}
    ends = final(table, arm=PUBLISHED_ADAM)
    if len(ends):
        row = f"at {ends['lr'].iloc[0]:g}, as published"
        found[row] = times({"arm": PUBLISHED_ADAM}, {"arm": PUBLISHED_SGD}, table, "weight_distance")
    sgd, adam, default = (chosen(table, "SGD"), chosen(table, "Adam"), usual("Adam")) if len(table) else (None,) * 3
    if sgd and default and (not adam or adam[0] != default):
        found[f"at its default {default['lr']:g}"] = times(default, sgd[0], table, "weight_distance")
    if sgd and adam:
        row = f"tuned, at {adam[0]['lr']:g}" + (", its default" if adam[0] == default else "")
        found[row] = times(adam[0], sgd[0], table, "weight_distance")
    return {row: e for row, e in found.items() if e.n}


def answer(table: pd.DataFrame, verdict: Verdict) -> str:
    published, tuned = (verdict.parts.get(name) for name in (AS_PUBLISHED, AT_TUNED))
    farther = published.effects[DISTANCE] if published else None
    if not published or not tuned or not farther or farther.n < 2:
        return "Not settled: too few seeds of SGD and Adam have been run at the published learning rate."
    rate = final(table, arm=PUBLISHED_ADAM)["lr"].iloc[0]
    usual_rate = DEFAULTS.get("Adam", 0.001)
    at = "ten times its usual rate" if math.isclose(rate, 10 * usual_rate) else f"learning rate {rate:g}"
    far = f"it goes {bracketed(farther, 'times')} as far as SGD"
    both = tuned.effects.get(f"{DISTANCE}, both tuned")
    if published.outcome == Outcome.NOT_REPRODUCED:
        cosine = published.effects["cosine of layer 1"]
        return f"No. At {at} {far}; the cosine of its first layer with its start is {bracketed(cosine, form='.3f')}."
    if published.outcome == Outcome.INCONCLUSIVE:
        return (
            f"Not settled. At {at} {far}; whether its weights end much larger and forget their start is too uncertain."
        )
    if both is None or verdict.outcome == Outcome.INCONCLUSIVE:
        return f"At {at}, yes: {far}. Whether it does so at its best learning rate is not settled."
    if verdict.outcome == Outcome.REPRODUCED:
        return f"Yes. At {at} {far}, and tuned {bracketed(both, 'times')} as far as tuned SGD."
    kept = tuned.effects["cosine of layer 1, both tuned"].low > 0.5
    told = "the start is still seen, and it goes" if kept else "its weights are not much larger; it goes"
    default = tuned.effects.get(f"{DISTANCE}, Adam at its default {usual_rate:g}")
    more = f"; at its usual rate {bracketed(default, 'times')}" if default and default.n else ""
    return f"At {at}, yes: {far}. Tuned, no: {told} {bracketed(both, 'times')} as far as tuned SGD{more}."


def _shen(name: str, printed: str, arm: str, column: str, unit: str = "", factor: float = 1.0) -> Published:
    return Published(f"{name}, {arm.partition(',')[0]}", printed, {"arm": arm}, column, unit, factor)


PUBLISHED = (
    _shen("weight distance", "254.3", PUBLISHED_ADAM, "weight_distance"),
    _shen("bias distance", "18.3", PUBLISHED_ADAM, "bias_distance"),
    _shen("weight norm", "258", PUBLISHED_ADAM, "weight_norm"),
    _shen("cosine of layer 1", ".124", PUBLISHED_ADAM, "cosine_1"),
    _shen("cosine of layer 2", ".359", PUBLISHED_ADAM, "cosine_2"),
    _shen("cosine of layer 3", ".153", PUBLISHED_ADAM, "cosine_3"),
    _shen("test accuracy", "95", PUBLISHED_ADAM, "test_accuracy", "%", 100),
    _shen("weight distance", "6.71", PUBLISHED_SGD, "weight_distance"),
    _shen("weight norm", "44.9", PUBLISHED_SGD, "weight_norm"),
)
