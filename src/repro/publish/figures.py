"""Figures, by kind. Each kind draws a tidy table on a given axes; none loads, trains or saves.

A claim's `Figure` prepares the table and computes the title from it, so a title cannot outlive its picture.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator
from matplotlib.transforms import ScaledTranslation

from repro.evidence.spec import PUBLISHED_SERIES, Figure

PUBLISHED_STYLE: dict[str, Any] = {"marker": "D", "color": "black", "mfc": "none", "ms": 8}
MARKERS = "os^vDPX"
TINY = 6.5  # points: the text in a cell of a heat map
STYLE = {
    **sns.axes_style("ticks", {"axes.grid": True, "grid.color": ".92"}),
    "axes.prop_cycle": plt.cycler(color=sns.color_palette("colorblind")),
    "figure.facecolor": "white",  # opaque: pages have a dark mode
    "savefig.facecolor": "white",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "repro",
}


def _bars(rows: pd.DataFrame) -> np.ndarray:
    """Lengths of the interval's arms, zero where there is none."""
    return np.nan_to_num(np.vstack([rows["mean"] - rows["low"], rows["high"] - rows["mean"]]))


def _series(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame, dict[str, Any]]]:
    """(name, rows by x, style) of every series. Batch sizes get one sequential palette, all else categories."""
    groups = list(table[table["series"] != PUBLISHED_SERIES].groupby("series", sort=False))
    sized = len(groups) > 1 and all(str(name).startswith("B=") for name, _ in groups)
    palette = sns.color_palette("viridis_r", len(groups) + 1)[1:] if sized else sns.color_palette("colorblind")
    return [
        (
            str(name),
            rows.sort_values("x"),
            {
                "color": palette[i % len(palette)],
                "marker": MARKERS[i % len(MARKERS)],
                "ls": "-" if sized else ["-", "--", ":", "-."][i % 4],
            },
        )
        for i, (name, rows) in enumerate(groups)
    ]


def curves(ax: Axes, table: pd.DataFrame) -> None:
    """Means joined by lines, intervals as bars, one line a series; published values as hollow diamonds. A series
    without numbers n was computed, not run: a line without markers.

    Columns: x, mean, low, high, series, and n where it matters.
    """
    for name, rows, style in _series(table):
        if "n" in rows and rows["n"].isna().all():
            ax.plot(rows["x"], rows["mean"], label=name, color=style["color"], ls=style["ls"], lw=1.2)
        else:
            ax.errorbar(rows["x"], rows["mean"], _bars(rows), label=name, capsize=3, ms=5, **style)
    published = table[table["series"] == PUBLISHED_SERIES]
    if len(published):
        ax.plot(published["x"], published["mean"], ls="none", label=PUBLISHED_SERIES, **PUBLISHED_STYLE)
    _legend(ax)


def lines(ax: Axes, table: pd.DataFrame) -> None:
    """Lines of many points, intervals as bands. Columns: x, mean, low, high, series."""
    for name, rows, style in _series(table):
        ax.plot(rows["x"], rows["mean"], label=name, color=style["color"], ls=style["ls"])
        ax.fill_between(rows["x"], rows["low"], rows["high"], color=style["color"], alpha=0.2, lw=0)
    _legend(ax, inside=3)  # bands fill the axes


def points(ax: Axes, table: pd.DataFrame) -> None:
    """One marker a row, a colour a series: every run, nothing averaged. Columns: x, mean, series."""
    for name, rows, style in _series(table):
        ax.plot(rows["x"], rows["mean"], label=name, **{**style, "ls": "none"}, ms=5, alpha=0.8)
    _legend(ax)


def _legend(ax: Axes, inside: int = 5) -> None:
    """Inside where few names leave room, beside the axes otherwise."""
    many = len(ax.get_legend_handles_labels()[1]) > inside
    ax.legend(**{"loc": "center left", "bbox_to_anchor": (1, 0.5), "fontsize": 8.5} if many else {})


def _scale(ax: Axes, table: pd.DataFrame, x_scale: str, y_scale: str) -> None:
    """Scales as a Figure names them; a log2 axis is ticked where it was run."""
    if x_scale == "log2":
        sizes = sorted(table["x"].unique())
        shown = sizes[:: math.ceil(len(sizes) / 13)]
        ax.set_xscale("log", base=2)
        ax.set_xticks(shown, [f"{s:g}" for s in shown], fontsize=10 if len(shown) < 9 else 8)
        ax.minorticks_off()
        ax.set_xlim(min(sizes) / 1.5, max(sizes) * 1.5)
    else:
        ax.set_xscale(x_scale)
    if x_scale == "linear" and (table["x"] % 1 == 0).all():  # epochs
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_yscale(y_scale)
    for axis, scale in ((ax.xaxis, x_scale), (ax.yaxis, y_scale)):
        low, high = axis.get_view_interval()
        if scale == "log" and high < 300 * low:  # few decades: plain numbers, more of them
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter("")


def heat_map(ax: Axes, table: pd.DataFrame) -> None:
    """A cell for every pair of x and y, coloured by value, with a text of its own; white where there is no value.
    Rows go upwards, by number, or names downwards, in the order of the table.

    Columns: x, y, value, text.
    """
    order = list(dict.fromkeys(table["y"]))
    named = isinstance(order[0], str)
    order = order[::-1] if named else sorted(order)
    values, texts = (table.pivot(index="y", columns="x", values=name).loc[order] for name in ("value", "text"))
    low = table["value"].quantile(0.25)  # most cells are good: colours are for telling those apart
    cells = {"annot": texts.fillna(""), "fmt": "", "annot_kws": {"size": TINY}, "cbar": False, "linewidths": 0.5}
    sns.heatmap(values, cmap="viridis", vmin=low, ax=ax, **cells)
    columns = list(values.columns)
    for x, y, text in table.loc[table["value"].isna(), ["x", "y", "text"]].to_numpy():  # seaborn leaves these out
        ax.text(columns.index(x) + 0.5, order.index(y) + 0.5, text, size=TINY, ha="center", va="center")
    ax.invert_yaxis()
    ax.grid(False)
    ax.tick_params(length=0)
    ax.set_yticklabels([y if named else f"{y:g}" for y in order], rotation=0)
    ax.set_xticklabels([f"{x:.3g}" for x in values.columns], rotation=0 if values.shape[1] < 10 else 60)


def dots(ax: Axes, table: pd.DataFrame) -> None:
    """A row a name, a marker a series, intervals as bars; a shaded band where one is given.

    Columns: name, mean, low, high, series and, the same in all rows, band_low, band_high. An axis that
    spans more than a decade on either side of zero is drawn symmetric and logarithmic beyond ±1.
    """
    names = list(table["name"].unique())
    if "band_low" in table:
        ax.axvspan(table["band_low"].iloc[0], table["band_high"].iloc[0], color="C2", alpha=0.18, lw=0)
    groups = list(table.groupby("series", sort=False))
    for i, (series, rows) in enumerate(groups):
        y = [names.index(n) for n in rows["name"]]
        style: dict[str, Any] = {
            "marker": MARKERS[i % len(MARKERS)],
            "ms": 6,
            "color": f"C{i}",
            "mfc": "none" if i else f"C{i}",
            "capsize": 3,
        }
        if series == PUBLISHED_SERIES:
            style = PUBLISHED_STYLE
        ax.errorbar(rows["mean"], y, xerr=_bars(rows), label=series, ls="none", zorder=4 - 0.1 * i, **style)
    if table["mean"].min() < 0 and table["mean"].abs().max() > 10:
        ax.set_xscale("symlog", linthresh=1)
        edge = 10 ** math.ceil(math.log10(table["mean"].abs().max()))
        ax.set_xlim(-edge, edge)
    elif table["mean"].min() >= 0:
        ax.set_xlim(0, None)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    if len(groups) > 1:
        # half an inch below, however tall the axes: a part of its height would end outside of a short figure
        below = ax.transAxes + ScaledTranslation(0, -0.5, ax.figure.dpi_scale_trans)
        ax.legend(loc="upper center", bbox_to_anchor=(0.4, 0), bbox_transform=below, ncols=2, fontsize=9)


KINDS: dict[str, Callable[[Axes, pd.DataFrame], None]] = {
    "curves": curves,
    "lines": lines,
    "points": points,
    "dots": dots,
    "heat map": heat_map,
}
ROWS = {"dots": "name", "heat map": "y"}  # kinds that grow by a row for every value of this column


class Drawing(NamedTuple):
    """A figure as SVG text, the tidy table that it shows, and its title. Of an empty table there is no picture."""

    svg: str
    table: pd.DataFrame
    title: str


def draw(figure: Figure, table: pd.DataFrame) -> Drawing:
    drawn = figure.data(table)
    if drawn.empty:
        return Drawing("", drawn, "")
    title = figure.title(table)
    with plt.rc_context(STYLE):
        height = 1.7 + 0.32 * drawn[ROWS[figure.kind]].nunique() if figure.kind in ROWS else 3.6
        fig, ax = plt.subplots(figsize=(5.8, height), layout="constrained")
        KINDS[figure.kind](ax, drawn)
        if figure.kind not in ROWS:
            _scale(ax, drawn, figure.x_scale, figure.y_scale)
        elif figure.kind == "dots" and figure.x_scale == "log":
            ax.set_xscale("log")
            ax.autoscale(axis="x")
        ax.set(xlabel=figure.x, ylabel=figure.y)
        fig.suptitle(title, x=0.01, ha="left", fontsize=10.5, fontweight="bold", wrap=True)
        buffer = io.StringIO()
        fig.savefig(buffer, format="svg", metadata={"Date": None})
        plt.close(fig)
    return Drawing(buffer.getvalue(), drawn, title)
