"""Noisy quadratic: what each figure shows, and what its title says of it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from repro.claims.noisy_quadratic.judgement import Held, held, judge_rates, judge_shape
from repro.claims.steps_to_target.experiment import split
from repro.evidence.spec import Figure, Outcome
from repro.evidence.steps import steps_at
from repro.evidence.tables import point

COLUMNS = ["x", "mean", "low", "high", "n", "series"]


def _first_network(table: pd.DataFrame) -> dict[str, Held]:
    """By method, the studies of the first network that the theory was held against."""
    found = held(table)
    first = split(next(iter(found)))[0] if found else ""
    return {split(name)[1]: h for name, h in found.items() if split(name)[0] == first}


def steps(table: pd.DataFrame) -> pd.DataFrame:
    """Measured steps by batch size, and predicted ones."""
    rows = []
    for method, h in _first_network(table).items():
        for size in h.measured.sizes:
            rows.append(point(h.measured.estimate(steps_at(size.batch_size)), x=size.batch_size, series=method))
        for size, log in zip(h.measured.sizes, h.theory.log_steps, strict=True):
            rows.append({"x": size.batch_size, "mean": float(np.exp(log)), "series": f"{method}, theory"})
    return pd.DataFrame(rows, columns=COLUMNS).assign(counted="trial")


def steps_title(table: pd.DataFrame) -> str:
    outcome = judge_shape(held(table)).outcome
    if outcome == Outcome.REPRODUCED:
        return "Measured curves have the shape that theory predicts"
    if outcome == Outcome.INCONCLUSIVE:
        return "Steps to the target, measured and predicted"
    return "Measured curves do not all have the shape that theory predicts"


def rates(table: pd.DataFrame) -> pd.DataFrame:
    """The best learning rate η/(1 - m), measured and predicted."""
    rows = []
    for method, h in _first_network(table).items():
        for size in h.measured.sizes:
            value, (low, high) = size.where[0], np.quantile(size.where_draws[:, 0], [0.025, 0.975])
            ends = {"mean": 2.0**value, "low": 2.0 ** min(low, value), "high": 2.0 ** max(high, value)}
            rows.append({"x": size.batch_size, "n": size.num_trials, "series": method} | ends)
        for size, log in zip(h.measured.sizes, h.theory.log_rates, strict=True):
            if h.reached:
                rows.append({"x": size.batch_size, "mean": float(2.0**log), "series": f"{method}, theory"})
    return pd.DataFrame(rows, columns=COLUMNS).assign(counted="trial")


def rates_title(table: pd.DataFrame) -> str:
    if judge_rates(held(table)).outcome == Outcome.REPRODUCED:
        return "Best learning rates are within an octave of the predicted ones"
    return "The best learning rate, measured and predicted"


def shapes(table: pd.DataFrame) -> pd.DataFrame:
    """Measured over predicted steps by batch size, every study: level where the shape is right."""
    rows = []
    for name, h in held(table).items():
        if not h.reached:
            continue
        for size, log in zip(h.measured.sizes, h.theory.log_steps, strict=True):
            e, times = h.measured.estimate(steps_at(size.batch_size)), float(np.exp(-log))
            scaled = {"mean": e.value * times, "low": e.low * times, "high": e.high * times}
            rows.append(point(e, x=size.batch_size, series=name) | scaled)
    return pd.DataFrame(rows, columns=COLUMNS).assign(counted="trial")


def shapes_title(table: pd.DataFrame) -> str:
    return "Measured over predicted steps"


FIGURES = (
    Figure(
        "steps",
        "curves",
        steps,
        steps_title,
        "batch size B",
        "steps to the target",
        "Dots: the best of many trials, with bootstrap intervals. Lines without dots: the noisy quadratic, with the "
        "curvature and the noise measured along training; nothing is fitted.",
        y_scale="log",
    ),
    Figure(
        "shapes",
        "curves",
        shapes,
        shapes_title,
        "batch size B",
        "measured over predicted steps",
        "Level: the right shape. At one: the right number. Bootstrap intervals over trials.",
        y_scale="log",
    ),
    Figure(
        "rates",
        "curves",
        rates,
        rates_title,
        "batch size B",
        "learning rate per step",
        "With momentum, η/(1 − m). Lines without dots: predicted. Bootstrap intervals over trials.",
        y_scale="log",
    ),
)
