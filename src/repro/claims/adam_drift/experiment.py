"""Adam's drift: what is run, and how it is judged."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from repro.evidence.intervals import Estimate, equivalence_p, geometric, mean_interval, paired_difference, paired_values
from repro.evidence.spec import Outcome, Published, Scale, Settings, Verdict, log_checkpoints
from repro.evidence.tables import by_seed, final, margin_for, paired, point, select
from repro.evidence.tuning import tune
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


def times(a: dict[str, object], b: dict[str, object], table: pd.DataFrame, column: str) -> Estimate:
    """How many times as large `column` is in rows `a` as in rows `b`: geometric mean over paired seeds, with the t
    interval of the logarithms' difference."""
    x, y = paired_values(*(by_seed(final(table, **where), column) for where in (a, b)))
    return geometric(paired_difference(np.log(x), np.log(y)))


def chosen(table: pd.DataFrame, name: str) -> tuple[dict[str, object], str] | None:
    """The rows of an optimizer at its learning rate of highest validation accuracy, and the edge of the grid that it
    sits on, if any; None where it has none."""
    best = tune(select(table, arm=name, final=True), "validation_accuracy", largest=True)
    return None if best is None else ({"arm": name, "lr": best.lr}, best.edge)


def judge_drift(table: pd.DataFrame, sgd: dict[str, object], adam: dict[str, object], told: str) -> Verdict:
    """Much larger weights, and hardly any cosine left with the start, in rows `adam` against rows `sgd`."""
    larger = times(adam, sgd, table, "weight_norm")
    farther = times(adam, sgd, table, "weight_distance")
    cosine = mean_interval(list(by_seed(final(table, **adam), "cosine_1").values()))
    effects = {
        f"weight norm, Adam over SGD, {told} (times)": larger,
        f"weight distance, Adam over SGD, {told} (times)": farther,
        f"cosine of the first layer with its start, Adam, {told}": cosine,
    }
    if larger.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Too few paired seeds that finished.", effects)
    reason = (
        f"{told.capitalize()}, Adam's weights are {larger.value:.2f} times as large as SGD's, and the cosine of its "
        f"first layer with the start is {cosine.value:.2f}"
    )
    if larger.low > MUCH and cosine.high < 0.5:
        return Verdict(Outcome.REPRODUCED, f"{reason}.", effects)
    if larger.high < MUCH or cosine.low > 0.5:
        missed = [f"less than {MUCH:g} times"] * (larger.high < MUCH) + ["the start is still seen"] * (cosine.low > 0.5)
        return Verdict(Outcome.NOT_REPRODUCED, f"{reason}: {', '.join(missed)}.", effects)
    return Verdict(Outcome.INCONCLUSIVE, f"{reason}, too uncertain to decide.", effects)


def judge_tuned(table: pd.DataFrame, judge_pair: Callable[[dict[str, object], dict[str, object]], Verdict]) -> Verdict:
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
    verdict = judge_pair(sgd, adam)
    return dataclasses.replace(verdict, reason=f"{verdict.reason} (SGD lr {sgd['lr']:g}, Adam lr {adam['lr']:g}.)")


def at_default(table: pd.DataFrame) -> dict[str, Estimate]:
    """What Adam's drift would be had its default learning rate been chosen, and how near that is to the best."""
    sgd, adam = chosen(table, "SGD"), chosen(table, "Adam")
    usual = {"arm": "Adam", "lr": DEFAULTS.get("Adam", 0.001)}
    if not sgd or not adam or final(table, **usual).empty or adam[0] == usual:
        return {}
    behind = paired(table, adam[0], usual, "validation_accuracy", 100)
    drift = judge_drift(table, sgd[0], usual, f"Adam at its default {usual['lr']:g}, SGD tuned")
    return {f"validation accuracy, Adam at its best minus at its default {usual['lr']:g} (pp)": behind, **drift.effects}


def judge_accuracy(table: pd.DataFrame, sgd: dict[str, object], adam: dict[str, object]) -> Verdict:
    """Whether Adam generalises worse."""
    behind = paired(table, sgd, adam, "test_accuracy", 100)
    effects = {"test accuracy, SGD minus Adam, each tuned (pp)": behind}
    side = "below" if behind.value > 0 else "above"
    reason = f"Tuned, Adam ends {abs(behind.value):.2f} pp {side} SGD"
    if behind.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Too few paired seeds that finished.", effects)
    if behind.high < 0 or equivalence_p(behind.values, [0.0] * behind.n, margin_for(table, MARGIN)) < 0.05:
        return Verdict(Outcome.NOT_REPRODUCED, f"{reason}: no worse.", effects)
    if behind.low > 0:
        return Verdict(Outcome.REPRODUCED, f"{reason}.", effects)
    return Verdict(Outcome.INCONCLUSIVE, f"{reason}, too uncertain to decide.", effects)


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
    powers = {arm: exponent(table, arm) for arm in (PUBLISHED_SGD, PUBLISHED_ADAM)}
    effects = {f"distance grows as the epoch to this power, {arm}": e for arm, e in powers.items()}
    later = {
        f"distance grows as the epoch to this power, both from the end of the first, {arm}": exponent(table, arm, 1)
        for arm in powers
    }
    effects |= {name: e for name, e in later.items() if e.n}
    sgd, adam = powers.values()
    if min(sgd.n, adam.n) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Too few seeds or checkpoints.", effects)
    reason = f"Distance grows as epochs to the power {sgd.value:.2f} for SGD and {adam.value:.2f} for Adam."
    if sgd.high < 1 and adam.low > 0.8:
        return Verdict(Outcome.REPRODUCED, reason, effects)
    if sgd.low > 1 or adam.high < 0.8:
        return Verdict(Outcome.NOT_REPRODUCED, reason, effects)
    return Verdict(Outcome.INCONCLUSIVE, reason, effects)


def judge(table: pd.DataFrame) -> Verdict:
    if "arm" not in table or table.empty:
        return Verdict(Outcome.INCONCLUSIVE, "No trial has been run.")
    published = judge_drift(table, {"arm": PUBLISHED_SGD}, {"arm": PUBLISHED_ADAM}, "as published")
    tuned = judge_tuned(table, lambda sgd, adam: judge_drift(table, sgd, adam, "at tuned learning rates"))
    parts = {
        "Drift as published": published,
        "Drift at tuned learning rates": dataclasses.replace(tuned, effects={**tuned.effects, **at_default(table)}),
        "Adam generalises worse, at tuned learning rates": judge_tuned(
            table, lambda sgd, adam: judge_accuracy(table, sgd, adam)
        ),
        "Distance grows near-linearly for Adam, sublinearly for SGD": judge_growth(table),
    }
    adam = final(table, arm=PUBLISHED_ADAM)
    effects = {}
    if len(adam):
        root = math.sqrt(multiply_adds(Trial.from_json(adam["trial"].iloc[0])))  # one a weight
        distances = [d / root for d in by_seed(adam, "weight_distance").values()]
        effects["distance a weight, root mean square, Adam as published"] = mean_interval(distances)
    if published.outcome != Outcome.REPRODUCED:
        return Verdict(published.outcome, published.reason, effects, parts)
    reason = f"{published.reason} {tuned.reason}"
    if tuned.outcome == Outcome.NOT_REPRODUCED:
        return Verdict(Outcome.CONDITIONAL, f"{reason} The drift was the learning rate's.", effects, parts)
    return Verdict(tuned.outcome, reason, effects, parts)


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
