"""Adam's drift: what each figure shows, and what its title says of it."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd

from repro.claims.adam_drift.experiment import (
    COMPARED,
    DEFAULTS,
    OPTIMIZERS,
    PUBLISHED,
    PUBLISHED_ADAM,
    PUBLISHED_SGD,
    chosen,
    distances_by_epoch,
    exponent,
    growth,
)
from repro.evidence.intervals import mean_interval
from repro.evidence.spec import PUBLISHED_SERIES, Figure
from repro.evidence.tables import by_seed, final, point, select
from repro.evidence.tuning import cells

MEASURED = ["weight_distance", "weight_norm", "cosine_1", "cosine_2", "cosine_3", "test_accuracy"]


def by_rate(table: pd.DataFrame, column: Callable[[pd.DataFrame], pd.Series]) -> pd.DataFrame:
    """`column` of every optimizer by learning rate: means over seeds with t intervals, where no seed diverged."""
    rows = []
    for name in (n for n in OPTIMIZERS if n in set(table["arm"])):
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
    both = found.pivot(index="x", columns="series", values="mean")
    if not set(COMPARED) <= set(both.columns) or both[[*COMPARED]].dropna().empty:
        return "Distance of the weights from their start, by learning rate"
    ratio = (both["Adam"] / both["SGD"]).dropna()
    return f"At one learning rate Adam goes {ratio.min():.1f} to {ratio.max():.0f} times as far as SGD"


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
    told = [f"{name} from lr {lost[name]:g}" if name in lost else f"{name} at none" for name in COMPARED]
    return f"The first layer forgets its start (cosine below ½): {', '.join(told)}"


def errors_title(table: pd.DataFrame) -> str:
    best = {name: chosen(table, name) for name in OPTIMIZERS if name in set(table["arm"])}
    known = {name: found[0]["lr"] for name, found in best.items() if found}
    shown = [f"{name} {known[name]:g}" for name in ("SGD", "momentum", "Adam") if name in known]
    return f"Best learning rates differ by optimizer: {', '.join(shown)}" if shown else "Test error by learning rate"


def paths(table: pd.DataFrame) -> pd.DataFrame:
    """Distance by epoch of the two published arms, and where the post says they end."""
    parts: list[dict[str, object]] = []
    for arm in (PUBLISHED_SGD, PUBLISHED_ADAM):
        for epoch, values in distances_by_epoch(table, arm).iterrows():
            parts.append(point(mean_interval(values), x=epoch, series=arm))
    if "mnist" in set(table["dataset"]):
        parts += [
            {"x": 30, "mean": n.value, "series": PUBLISHED_SERIES} for n in PUBLISHED if n.column == "weight_distance"
        ]
    return pd.DataFrame(parts, columns=["x", "mean", "low", "high", "n", "series"])


def paths_title(table: pd.DataFrame) -> str:
    powers = [exponent(table, arm).value for arm in (PUBLISHED_SGD, PUBLISHED_ADAM)]
    if not all(map(math.isfinite, powers)):
        return "Distance from the start, by epoch"
    return f"Distance grows as epochs to the power {powers[0]:.2f} for SGD, {powers[1]:.2f} for Adam"


def growth_title(table: pd.DataFrame) -> str:
    errors = growth(table)
    if errors.empty:
        return "How well laws of growth extrapolate"
    best = errors.loc[errors.groupby("series", sort=False)["mean"].idxmin()]
    told = [f"{arm.partition(',')[0]}: {law}" for arm, law in zip(best["series"], best["name"], strict=True)]
    return f"The law that extrapolates best: {'; '.join(told)}"


def tuned_distances(table: pd.DataFrame) -> pd.DataFrame:
    """Distance of every optimizer at its best learning rate and at torch's default."""
    rows = []
    for name in (n for n in OPTIMIZERS if n in set(table["arm"])):
        best = chosen(table, name)
        default = {"arm": name, "lr": DEFAULTS.get(name, 0.001)}
        for series, where in (("best learning rate", best[0] if best else None), ("default learning rate", default)):
            values = list(by_seed(final(table, **where), "weight_distance").values()) if where else []
            if values:
                rows.append(point(mean_interval(values), name=name, series=series))
    return pd.DataFrame(rows, columns=["name", "mean", "low", "high", "n", "series"])


def tuned_title(table: pd.DataFrame) -> str:
    found = tuned_distances(table)
    best = found[found["series"] == "best learning rate"].set_index("name")["mean"]
    if not set(COMPARED) <= set(best.index):
        return "Distance of the weights from their start, tuned"
    return f"Tuned, Adam ends {best['Adam'] / best['SGD']:.1f} times as far from its start as SGD"


INTERVALS = "Means over paired seeds, bars 95 % t intervals."
FIGURES = (
    Figure(
        "rates",
        "curves",
        distances_by_rate,
        distances_title,
        "learning rate (per step)",
        "weight distance",
        f"Distance of all weights from their start, where no seed diverged. {INTERVALS}",
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
        f"The same runs. {INTERVALS}",
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
        f"Best by validation accuracy; default as in torch.optim. {INTERVALS}",
    ),
    Figure(
        "paths",
        "curves",
        paths,
        paths_title,
        "epoch",
        "weight distance",
        f"Both at the published learning rate. {INTERVALS}",
        x_scale="log",
        y_scale="log",
    ),
    Figure(
        "growth",
        "dots",
        growth,
        growth_title,
        "error at the last two checkpoints (%)",
        "",
        "Laws of two constants: a + bt, a + b√t, a + b log t and at^b, t in epochs, fitted to the checkpoints before "
        f"the last two. {INTERVALS}",
    ),
)
