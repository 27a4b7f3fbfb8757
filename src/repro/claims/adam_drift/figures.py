"""Adam's drift: what each figure shows, and what its title says of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pandas as pd

from repro.claims.adam_drift.experiment import COMPARED, OPTIMIZERS, PUBLISHED_ADAM, PUBLISHED_SGD
from repro.claims.adam_drift.growth import POWER, distances_by_epoch, growth, judge_growth
from repro.claims.adam_drift.judgement import chosen, distance_ratios, times, usual
from repro.evidence.intervals import Estimate, mean_interval
from repro.evidence.spec import Figure, Outcome
from repro.evidence.tables import by_seed, final, paired, point, select
from repro.evidence.tuning import cells
from repro.evidence.words import bracketed

SHOWN = (*COMPARED, "momentum", "RMSProp", "AdaGrad")  # by name; the others are drawn in grey behind them
MEASURED = ["weight_distance", "weight_norm", "cosine_1", "cosine_2", "cosine_3", "test_accuracy"]


def ratio_dots(table: pd.DataFrame) -> pd.DataFrame:
    """Adam's distance over SGD's: as published, at its default, tuned."""
    rows = [point(e, name=name, series="Adam over SGD", none=1.0) for name, e in distance_ratios(table).items()]
    return pd.DataFrame(rows, columns=["name", "mean", "low", "high", "n", "series", "none"])


def ratio_title(table: pd.DataFrame) -> str:
    found = list(distance_ratios(table).values())
    if len(found) == 3 and all(a.low > b.high for a, b in itertools.pairwise(found)):
        return "How far Adam goes is a matter of its learning rate"
    return "How far Adam goes, over SGD, by its learning rate"


def by_rate(table: pd.DataFrame, column: Callable[[pd.DataFrame], pd.Series]) -> pd.DataFrame:
    """`column` of every optimizer by learning rate: means over seeds with t intervals, where no seed diverged."""
    rows = []
    for name in (n for n in dict.fromkeys((*SHOWN, *OPTIMIZERS)) if n in set(table["arm"])):
        for lr, cell in select(table, arm=name, final=True).groupby("lr"):
            if (cell["status"] != "finished").any():
                continue
            rows.append(point(mean_interval(column(cell)), x=lr, series=name))
    return pd.DataFrame(rows, columns=["x", "mean", "low", "high", "n", "series"])


def distances_by_rate(table: pd.DataFrame) -> pd.DataFrame:
    found = by_rate(table, lambda rows: rows["weight_distance"])
    return found.assign(low=found["low"].clip(lower=found["mean"] / 10))  # an axis of logarithms


def errors_by_rate(table: pd.DataFrame) -> pd.DataFrame:
    found = by_rate(table, lambda rows: 100 * (1 - rows["test_accuracy"]))
    return found.assign(low=found["low"].clip(lower=found["mean"] / 10), high=found["high"].clip(upper=100))


def distances_title(table: pd.DataFrame) -> str:
    found = distances_by_rate(table)
    rates = [set(select(found, series=name)["x"]) for name in COMPARED]
    ratios = [
        times({"arm": "Adam", "lr": lr}, {"arm": "SGD", "lr": lr}, table, "weight_distance")
        for lr in sorted(rates[0] & rates[1])
    ]
    if len(ratios) > 1 and all(e.low > 1 for e in ratios):
        return "At every learning rate that both were run at, Adam goes farther than SGD"
    return "Distance of the weights from their start, by learning rate"


def grid(table: pd.DataFrame) -> pd.DataFrame:
    rows = select(table, final=True)
    found = cells(rows[rows["arm"].isin(OPTIMIZERS)], MEASURED, "arm")
    if found.empty:
        return found
    text = [
        "×" if lost else f"{w:.{2 if w < 10 else 1 if w < 100 else 0}f}\n{c:z.2f}\n{100 * a:.1f}"
        for w, c, a, lost in found[["weight_distance", "cosine_1", "test_accuracy", "diverged"]].to_numpy()
    ]
    value = 100 * found["test_accuracy"].where(found["diverged"] == 0)
    found = found.assign(x=found["lr"], y=found["arm"], value=value, text=text, n=found["trials"], series="trials")
    return found.sort_values("y", key=lambda names: names.map(list(OPTIMIZERS).index))


def grid_title(table: pd.DataFrame) -> str:
    found = grid(table)
    if found.empty:
        return "Every optimizer at every learning rate"
    lost = found[(found["diverged"] == 0) & (found["cosine_1"] < 0.5)].groupby("y")["lr"].min()
    told = [f"{name} from lr {lost[name]:g} on" if name in lost else f"{name} at no rate" for name in COMPARED]
    return f"Cosine with the start below ½: {', '.join(told)}"


def errors_title(table: pd.DataFrame) -> str:
    sgd, adam = (chosen(table, name) for name in COMPARED)
    if sgd and adam and paired(table, {**adam[0], "lr": sgd[0]["lr"]}, adam[0], "test_accuracy").high < 0:
        return "The learning rate that suits SGD best does not suit Adam"
    return "Test error by learning rate"


def paths(table: pd.DataFrame) -> pd.DataFrame:
    """Distance by epoch of the two published arms, as a share of that at the end, with the start."""
    parts: list[dict[str, object]] = []
    for arm in (PUBLISHED_SGD, PUBLISHED_ADAM):
        distances = distances_by_epoch(table, arm)
        for epoch, values in distances.iterrows():
            share = 100 * values / distances.iloc[-1]
            parts.append(point(mean_interval(share), x=epoch, series=arm))
    return pd.DataFrame(parts, columns=["x", "mean", "low", "high", "n", "series"])


def paths_title(table: pd.DataFrame) -> str:
    return {
        Outcome.REPRODUCED: "Adam goes on at one speed, SGD slows down",
        Outcome.CONDITIONAL: "Both slow down, SGD more than Adam",
        Outcome.NOT_REPRODUCED: "Adam's path is no straighter than SGD's",
    }.get(judge_growth(table).outcome, "Distance from the start, by epoch")


def growth_title(table: pd.DataFrame) -> str:
    told = []
    for arm, errors in growth(table).groupby("series", sort=False):
        errors = errors.sort_values("mean")
        best = errors.iloc[0]
        if best["high"] < errors["low"].iloc[1:].min():
            law = {POWER: "a power of t", "linear": "a straight line"}.get(best["name"], best["name"])
            told.append(f"by {law} for {str(arm).partition(',')[0]}")
    return f"The end is best foretold {' and '.join(told)}" if told else "How well laws of growth foretell the end"


def tuned_distances(table: pd.DataFrame) -> pd.DataFrame:
    """Distance of every optimizer at its best learning rate and at torch's default."""
    rows = []
    for name in (n for n in OPTIMIZERS if n in set(table["arm"])):
        best = chosen(table, name)
        for series, where in (("best learning rate", best[0] if best else None), ("torch's default", usual(name))):
            values = list(by_seed(final(table, **where), "weight_distance").values()) if where else []
            if values:
                rows.append(point(mean_interval(values), name=name, series=series))
    return pd.DataFrame(rows, columns=["name", "mean", "low", "high", "n", "series"])


def tuned_title(table: pd.DataFrame) -> str:
    pair = [chosen(table, name) for name in ("Adam", "SGD")]
    e: Estimate | None = times(pair[0][0], pair[1][0], table, "weight_distance") if pair[0] and pair[1] else None
    if e is None or e.n < 2:
        return "Distance of the weights from their start, tuned"
    return f"Tuned, Adam ends {bracketed(e, 'times')} as far from its start as SGD"


INTERVALS = "Means over paired seeds, bars 95 % t intervals."
FIGURES = (
    Figure(
        "over-sgd",
        "dots",
        ratio_dots,
        ratio_title,
        "Distance of the weights from their start, Adam over SGD, times",
        "",
        "Dots say how many times as far Adam goes as SGD: in the first row both at the published learning rate, in "
        "the others SGD tuned. Geometric means over paired seeds, bars 95 % t intervals; the line is "
        "where both go equally far.",
        x_scale="log",
    ),
    Figure(
        "rates",
        "curves",
        distances_by_rate,
        distances_title,
        "learning rate (per step)",
        "weight distance",
        f"Distance of all weights from their start, each optimizer at each rate where no seed diverged. {INTERVALS}",
        x_scale="log",
        y_scale="log",
    ),
    Figure(
        "errors",
        "curves",
        errors_by_rate,
        errors_title,
        "learning rate (per step)",
        "test error (%)",
        f"Every optimizer at each rate where no seed diverged; lowest is best. {INTERVALS}",
        x_scale="log",
        y_scale="log",
    ),
    Figure(
        "grid",
        "heat map",
        grid,
        grid_title,
        "learning rate (per step)",
        "",
        "In each cell: distance of the weights from their start, cosine of the first layer with its start, and test "
        "accuracy (%), which is the colour too; means over seeds, × where one diverged, empty where none was run. "
        "Norms and the cosines of the other layers are in the table.",
    ),
    Figure(
        "tuned",
        "dots",
        tuned_distances,
        tuned_title,
        "weight distance",
        "",
        "Best by validation accuracy; default as in torch.optim. SGD and Adam for as many epochs as published, the "
        f"others in shorter runs, once. {INTERVALS}",
        x_scale="log",
    ),
    Figure(
        "paths",
        "curves",
        paths,
        paths_title,
        "epoch",
        "distance, share of that at the end (%)",
        f"Both at the published learning rate; a straight line is one speed. {INTERVALS}",
        x_scale="linear",
    ),
    Figure(
        "growth",
        "dots",
        growth,
        growth_title,
        "error at the last two checkpoints (%)",
        "",
        "Laws of two constants: a + bt, a + b√t, a + b log t and a·tᵇ, t in epochs, fitted to the checkpoints before "
        f"the last two. {INTERVALS}",
    ),
)
