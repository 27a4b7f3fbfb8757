"""Figures, by kind. Each kind draws a tidy table on a given axes; none loads, trains or saves.

A claim's `Figure` prepares the table and computes the title from it, so a title cannot outlive its picture.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from repro.spec import Figure

PUBLISHED = "published"  # the series drawn as hollow black diamonds
MARKERS = "os^vDPX"
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


def curves(ax: Axes, table: pd.DataFrame) -> None:
    """Means joined by lines, intervals as bars, one line a series, over a log2 axis ticked where it was run.

    Columns: x, mean, low, high, series.
    """
    for i, (series, rows) in enumerate(table[table["series"] != PUBLISHED].groupby("series", sort=False)):
        rows = rows.sort_values("x")
        style = ["-", "--", ":", "-."][i % 4]
        ax.errorbar(rows["x"], rows["mean"], _bars(rows), label=series, capsize=3, marker=MARKERS[i], ms=5, ls=style)
    published = table[table["series"] == PUBLISHED]
    if len(published):
        ax.plot(published["x"], published["mean"], "D", mfc="none", mec="black", ms=9, ls="none", label=PUBLISHED)
    sizes = sorted(table["x"].unique())
    ax.set_xscale("log", base=2)
    ax.set_xticks(sizes, [f"{s:g}" for s in sizes])
    ax.minorticks_off()
    ax.set_xlim(min(sizes) / 1.5, max(sizes) * 1.5)
    ax.legend()


def log_curves(ax: Axes, table: pd.DataFrame) -> None:
    """As curves, over a logarithmic y axis."""
    curves(ax, table)
    ax.set_yscale("log")


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
        ax.errorbar(rows["mean"], y, xerr=_bars(rows), label=series, marker=MARKERS[i], ms=6, ls="none", color=f"C{i}",
                    mfc="none" if i else f"C{i}", capsize=3, zorder=4 - 0.1 * i)  # fmt: skip
    if table["mean"].min() < 0 and table["mean"].abs().max() > 10:
        ax.set_xscale("symlog", linthresh=1)
        edge = 10 ** math.ceil(math.log10(table["mean"].abs().max()))
        ax.set_xlim(-edge, edge)
    elif table["mean"].min() >= 0:
        ax.set_xlim(0, None)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    if len(groups) > 1:
        ax.legend(loc="upper center", bbox_to_anchor=(0.4, -1.4 / len(names)), ncols=2, fontsize=9)


KINDS: dict[str, Callable[[Axes, pd.DataFrame], None]] = {"curves": curves, "log curves": log_curves, "dots": dots}


def draw(figure: Figure, table: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    """The figure as SVG text, and the tidy table that it shows."""
    drawn = figure.data(table)
    with plt.rc_context(STYLE):
        height = 3.6 if figure.kind != "dots" else 1.7 + 0.32 * drawn["name"].nunique()
        fig, ax = plt.subplots(figsize=(5.8, height), layout="constrained")
        KINDS[figure.kind](ax, drawn)
        ax.set(xlabel=figure.x, ylabel=figure.y)
        fig.suptitle(figure.title(table), x=0.01, ha="left", fontsize=10.5, fontweight="bold")
        buffer = io.StringIO()
        fig.savefig(buffer, format="svg", metadata={"Date": None})
        plt.close(fig)
    return buffer.getvalue(), drawn
