"""Steps to target: what each figure shows, and what its title says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from repro.claims.steps_to_target.experiment import FAR_ARM, split
from repro.claims.steps_to_target.judgement import (
    EXAMPLES,
    far_errors,
    flaws,
    judge_budgets,
    judge_far,
    judge_heuristics,
    studies,
)
from repro.evidence.intervals import mean_interval
from repro.evidence.spec import Figure, Outcome
from repro.evidence.steps import DIVERGED, MET, OUT_OF_BUDGET, Study, efficient, steps_at, trials
from repro.evidence.tables import point
from repro.evidence.words import bracketed

COLUMNS = ["x", "mean", "low", "high", "n", "series"]
PERFECT = "perfect scaling"
LONGEST = 90  # characters of a title


def _first_network(found: Mapping[str, Study]) -> dict[str, Study]:
    """The studies of the first network, by method."""
    first = split(next(iter(found)))[0] if found else ""
    return {split(name)[1]: s for name, s in found.items() if split(name)[0] == first}


def _by_sgd(found: Mapping[str, Study]) -> dict[str, Study]:
    """The studies of plain SGD, by network."""
    return {split(name)[0]: s for name, s in found.items() if split(name)[1] == "SGD"}


def _steps(found: Mapping[str, Study], examples: bool = False) -> pd.DataFrame:
    """Steps, or examples, to the target by batch size, as figures' series."""
    rows = []
    for name, s in found.items():
        for size in s.sizes:
            e, times = s.estimate(steps_at(size.batch_size)), size.batch_size if examples else 1
            scaled = {"mean": e.value * times, "low": e.low * times, "high": e.high * times}
            counts = {fate: size.fates[fate] for fate in (MET, OUT_OF_BUDGET, DIVERGED)}
            rows.append(point(e, x=size.batch_size, series=name) | scaled | {"n": size.num_trials} | counts)
    return pd.DataFrame(rows, columns=[*COLUMNS, MET, OUT_OF_BUDGET, DIVERGED]).assign(counted="trial")


def _with_perfect(drawn: pd.DataFrame) -> pd.DataFrame:
    """And a line in proportion to 1/B through the smallest batch size of the first series, as far down as the rest."""
    if drawn.empty:
        return drawn
    first = drawn.iloc[0]
    line = pd.DataFrame({"x": sorted(set(drawn["x"]))})
    line = line.assign(mean=first["mean"] * first["x"] / line["x"], series=PERFECT)
    return pd.concat([drawn, line[line["mean"] > drawn["mean"].min() / 2]], ignore_index=True)


def steps_by_method(table: pd.DataFrame) -> pd.DataFrame:
    return _with_perfect(_steps(_first_network(studies(table))))


def steps_by_network(table: pd.DataFrame) -> pd.DataFrame:
    return _with_perfect(_steps(_by_sgd(studies(table))))


def examples_by_method(table: pd.DataFrame) -> pd.DataFrame:
    return _steps(_first_network(studies(table)), examples=True)


def _ends_title(found: Mapping[str, Study], what: str) -> str:
    ends = [
        f"{bracketed(s.estimate(efficient).of(EXAMPLES))} with {name}"
        for name, s in list(found.items())[:2]
        if len(s.sizes) > 2 and not flaws(s) and efficient(s.batch_sizes, s.log_steps[:1])[0] < s.batch_sizes[-1]
    ]
    told = [f"Batches scale perfectly up to {', '.join(ends[:most])}" for most in (2, 1) if ends]
    return next((title for title in told if len(title) <= LONGEST), what)


def method_title(table: pd.DataFrame) -> str:
    return _ends_title(_first_network(studies(table)), "Steps to the target by batch size")


def network_title(table: pd.DataFrame) -> str:
    return _ends_title(_by_sgd(studies(table)), "Steps to the target by batch size and network")


def examples_title(table: pd.DataFrame) -> str:
    if judge_budgets(studies(table)).outcome == Outcome.REPRODUCED:
        return "Fewer steps are paid for with more examples"
    return "Examples to the target by batch size"


def best_rates(table: pd.DataFrame) -> pd.DataFrame:
    """The best learning rate, η/(1 - m) where momentum is tuned, by batch size."""
    rows = []
    for name, s in _first_network(studies(table)).items():
        for size in s.sizes:
            low, high = 2.0 ** np.quantile(size.where_draws[:, 0], [0.025, 0.975])
            best = 2.0 ** size.where[0]
            rows.append(
                {
                    "x": size.batch_size,
                    "mean": best,
                    "low": min(low, best),
                    "high": max(high, best),
                    "n": size.num_trials,
                    "series": name,
                    "edge": size.edge,
                }
            )
    return pd.DataFrame(rows, columns=[*COLUMNS, "edge"]).assign(counted="trial")


def rates_title(table: pd.DataFrame) -> str:
    outcome = judge_heuristics(studies(table)).outcome
    if outcome == Outcome.REPRODUCED:
        return "No rule finds the best learning rate at every batch size"
    return "The best learning rate by batch size"


def fates(table: pd.DataFrame) -> pd.DataFrame:
    """Of how many trials each batch size's best is the best: those that met the target, of all."""
    if "arm" not in table or "target_accuracy" not in table:
        return pd.DataFrame(columns=["x", "y", "value", "text", "n", "series"])
    rows = trials(table[~table["arm"].str.endswith(FAR_ARM)])
    by = [rows["arm"], rows["batch_size"]]
    counts = {fate: (rows["fate"] == fate).groupby(by, sort=False).sum() for fate in (MET, OUT_OF_BUDGET, DIVERGED)}
    found = pd.DataFrame(counts).reset_index()
    found = found.assign(n=found[[MET, OUT_OF_BUDGET, DIVERGED]].sum(axis=1))
    return found.assign(
        x=found["batch_size"].astype(int),
        y=found["arm"],
        value=found[MET] / found["n"],
        text=[f"{m} of {n}" for m, n in zip(found[MET], found["n"], strict=True)],
        series="met the target",
        counted="trial",
    )


def fates_title(table: pd.DataFrame) -> str:
    return "Trials that met the target within their budget"


def far_by_size(table: pd.DataFrame) -> pd.DataFrame:
    rows = [
        point(mean_interval(list(errors.values())), x=size, series="test error")
        for size, errors in far_errors(table).items()
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def far_title(table: pd.DataFrame) -> str:
    outcome = judge_far(table).outcome
    if outcome == Outcome.REPRODUCED:
        return "Trained on, the largest batch tests no worse"
    if outcome == Outcome.NOT_REPRODUCED:
        return "Trained on, the largest batch tests worse"
    return "Test error far beyond the target"


def _figure(
    id: str,
    data: Callable[[pd.DataFrame], pd.DataFrame],
    title: Callable[[pd.DataFrame], str],
    y: str,
    caption: str,
    y_scale: str = "log",
) -> Figure:
    return Figure(id, "curves", data, title, "batch size B", y, caption, y_scale=y_scale)


FIGURES = (
    _figure(
        "steps",
        steps_by_method,
        method_title,
        "steps to the target",
        "The best of many trials at each batch size, each at a learning rate (and momentum) of its own; bootstrap "
        "intervals over trials. The line without dots halves the steps at every doubling.",
    ),
    _figure(
        "networks",
        steps_by_network,
        network_title,
        "steps to the target",
        "As above, plain SGD on each network.",
    ),
    _figure(
        "examples",
        examples_by_method,
        examples_title,
        "examples to the target",
        "The same numbers times B. Level: perfect scaling. Bootstrap intervals over trials.",
    ),
    _figure(
        "rates",
        best_rates,
        rates_title,
        "learning rate per step",
        "Where the surface through the trials is lowest; with momentum, η/(1 − m). Bootstrap intervals over trials.",
    ),
    _figure(
        "far",
        far_by_size,
        far_title,
        "test error (%)",
        "Plain SGD, ten times as many steps as to the target, and thirty epochs at least, at the best of five "
        "learning rates by validation accuracy. 95 % t intervals over seeds.",
        y_scale="linear",
    ),
    Figure(
        "fates",
        "heat map",
        fates,
        fates_title,
        "B",
        "",
        "Of all trials at a batch size. The others ran out of budget, 2.25 times the steps that a pilot foretold, or "
        "diverged. All of them are in the table.",
    ),
)
