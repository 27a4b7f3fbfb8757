"""Figures with axes, by kind. Each kind draws a tidy table on a given axes; none loads, trains or saves.

A figure is drawn twice, for a wide page and for a phone, as SVG with real text whose colours are the page's own: every
colour drawn here stands for a CSS variable. What needs no axes (rows of effects, cells of a grid) is HTML: `tables`.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from repro.evidence.spec import PUBLISHED_SERIES, Figure

WIDE, NARROW = 720, 358  # widths in CSS pixels: a page's column, and a phone's
HEIGHTS = {WIDE: 400, NARROW: 330}
TEXT = 15  # CSS pixels
DIGIT = 8.7  # CSS pixels: a digit's width at this size, at most
MAX_SERIES = 5  # in one panel; the rest are drawn in grey behind them
MARKERS = "os^Dv"


def _colour(css: str) -> str:
    """A colour that nothing else is drawn in, which stands for `css` until the SVG is finished."""
    number = int(hashlib.sha256(css.encode()).hexdigest()[:6], 16)
    _CSS[f"#{number:06x}"] = css
    return f"#{number:06x}"


_CSS: dict[str, str] = {}


def css(colour: str) -> str:
    """What a colour drawn here stands for."""
    return _CSS[colour]


INK, MUTED, GRID, GROUND, OTHER = (
    _colour(f"var(--{name},{light})")
    for name, light in (
        ("text", "#1b1f24"),
        ("muted", "#57606a"),
        ("grid", "#e4e7eb"),
        ("bg", "#fff"),
        ("other", "#8b949e"),
    )
)
CATEGORIES = tuple(
    _colour(f"var(--s{i},{light})")
    for i, light in enumerate(("#0b5cad", "#a84b00", "#11703f", "#6b3fa0", "#4d5560"), start=1)
)


def _sequence(n: int) -> list[str]:
    """Of batch sizes, small to large: light to dark on a light page, dark to light on a dark one. The first, which is
    nearest to the page's own colour, is still that of text to be read: 4.5 to 1."""
    colours = []
    for k in range(n):
        at = k / max(n - 1, 1)
        share, other = (84 + 80 * at, "bg") if at < 0.2 else (117.5 - 87.5 * at, "text")
        light = "#fff" if other == "bg" else "#1b1f24"
        mix = f"color-mix(in oklab,var(--s1,#0b5cad) {share:.0f}%,var(--{other},{light}))"
        colours.append(_colour(mix))
    return colours


STYLE = {
    **sns.axes_style("ticks", {"axes.grid": True, "grid.color": GRID}),
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.size": TEXT,
    "axes.labelsize": TEXT,
    "xtick.labelsize": TEXT,
    "ytick.labelsize": TEXT,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "axes.edgecolor": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "xtick.major.size": 4,
    "ytick.major.size": 0,
    "lines.linewidth": 2,
    "svg.fonttype": "none",
    "svg.hashsalt": "repro",
}


class Series(NamedTuple):
    """A series of a figure: its name, its rows by x, and how it is drawn. `named` ones are labelled."""

    name: str
    rows: pd.DataFrame
    colour: str
    marker: str
    line: str
    named: bool = True


def series_of(table: pd.DataFrame) -> list[Series]:
    """Batch sizes get one sequential palette, all else categories: a few in colours, those beyond in grey."""
    groups = list(table[table["series"] != PUBLISHED_SERIES].groupby("series", sort=False))
    sized = len(groups) > 1 and all(str(name).startswith("B = ") for name, _ in groups)
    palette = _sequence(len(groups)) if sized else list(CATEGORIES)
    found = []
    for i, (name, rows) in enumerate(groups):
        named = sized or i < MAX_SERIES
        colour = palette[i] if named else OTHER
        line = "-" if sized or not named else ("-", "--", ":", "-.", "-")[i]
        found.append(Series(str(name), rows.sort_values("x"), colour, MARKERS[i % len(MARKERS)], line, named))
    return found


def _bars(rows: pd.DataFrame) -> np.ndarray:
    """Lengths of the interval's arms, zero where there is none."""
    return np.nan_to_num(np.vstack([rows["mean"] - rows["low"], rows["high"] - rows["mean"]]))


def curves(ax: Axes, table: pd.DataFrame) -> None:
    """Means joined by lines, intervals as bars, one line a series; published values as hollow diamonds. A series
    without numbers n was computed, not run: a line without markers. Columns low_band and high_band, where there are
    any, shade the values between.

    Columns: x, mean, low, high, series, and n where it matters.
    """
    for s in series_of(table):
        style: dict[str, Any] = {"color": s.colour, "ls": s.line, "zorder": 3 if s.named else 2}
        if "low_band" in s.rows and s.rows["low_band"].notna().any():
            for x, low, high in s.rows[["x", "low_band", "high_band"]].dropna().to_numpy():
                ax.plot([x, x], [low, high], color=s.colour, alpha=0.22, lw=_band_width(table), solid_capstyle="butt")
        if "n" in s.rows and s.rows["n"].isna().all():
            ax.plot(s.rows["x"], s.rows["mean"], lw=1.6, **style)
        else:
            bars = _bars(s.rows)
            ax.errorbar(s.rows["x"], s.rows["mean"], bars, marker=s.marker, ms=7, mec=GROUND, elinewidth=2, **style)
    published = table[table["series"] == PUBLISHED_SERIES]
    if len(published):
        ax.plot(published["x"], published["mean"], ls="none", marker="D", color=INK, mfc="none", ms=9, zorder=4)


def _band_width(table: pd.DataFrame) -> float:
    return 240 / max(table["x"].nunique(), 8)


def lines(ax: Axes, table: pd.DataFrame) -> None:
    """Lines of many points, intervals as bands. Columns: x, mean, low, high, series."""
    for s in series_of(table):
        ax.plot(s.rows["x"], s.rows["mean"], color=s.colour, ls=s.line)
        ax.fill_between(s.rows["x"], s.rows["low"], s.rows["high"], color=s.colour, alpha=0.18, lw=0)


def points(ax: Axes, table: pd.DataFrame) -> None:
    """One marker a row, a colour a series; pairs of a column `pair` are joined, intervals drawn where there are any.

    Columns: x, mean, series; and, where there are any, low, high, x_low, x_high, and x_none, y_none, the same in all
    rows: lines at no difference.
    """
    for column, draw_line in (("x_none", ax.axvline), ("y_none", ax.axhline)):
        if column in table:
            draw_line(table[column].iloc[0], color=MUTED, lw=1.4, zorder=1)
    if "pair" in table:
        for _, rows in table.groupby("pair", sort=False):
            ax.plot(rows["x"], rows["mean"], color=OTHER, lw=1.2, zorder=1)
    for s in series_of(table):
        style: dict[str, Any] = {"color": s.colour, "zorder": 3 if s.named else 2}
        for x, _, low, high in s.rows.get(["x", "mean", "low", "high"], table.iloc[:0]).dropna().to_numpy():
            ax.plot([x, x], [low, high], lw=2, **style)
        for y, low, high in s.rows.get(["mean", "x_low", "x_high"], table.iloc[:0]).dropna().to_numpy():
            ax.plot([low, high], [y, y], lw=2, **style)
        ax.plot(s.rows["x"], s.rows["mean"], marker=s.marker, mec=GROUND, ls="none", ms=9, **style)


KINDS: dict[str, Callable[[Axes, pd.DataFrame], None]] = {"curves": curves, "lines": lines, "points": points}


def number(value: float) -> str:
    """For a tick: 0.003, 1, 20,000; powers of ten beyond."""
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)) + 1e-9)
    if -4 < exponent < 5:
        return f"{value:,.10g}".replace("-", "−")
    digits = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    mantissa = value / 10**exponent
    return f"10{digits}" if abs(mantissa - 1) < 1e-9 else f"{mantissa:.3g}·10{digits}"


def _thin(sizes: Sequence[float], width: float) -> list[float]:
    """Of rising sizes those that have room for their numbers on a log axis of this width, powers of two first."""
    octave = width / math.log2(2.25 * sizes[-1] / sizes[0])
    kept: list[float] = []
    for size in sorted(sizes, key=lambda size: (math.log2(size) % 1 > 0, size)):
        room = DIGIT * len(f"{max([size, *kept]):g}") + 14
        if all(octave * abs(math.log2(size / other)) >= room for other in kept):
            kept.append(size)
    return sorted(kept)


def _scale(ax: Axes, figure: Figure, table: pd.DataFrame, width: int) -> None:
    """Scales as the figure names them; a log2 axis is ticked where it was run."""
    few = 6 if width == NARROW else 12
    if figure.x_scale == "log2":
        sizes = sorted(table["x"].unique())
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_locator(FixedLocator(_thin(sizes, 0.65 * width if width == WIDE else 0.8 * width)))
        ax.set_xlim(min(sizes) / 1.5, max(sizes) * 1.5)
    else:
        ax.set_xscale(figure.x_scale)
    if figure.x_scale == "linear":
        ax.xaxis.set_major_locator(MaxNLocator(few - 2, integer=bool((table["x"] % 1 == 0).all())))
    ax.set_yscale(figure.y_scale, **({"linthresh": 2} if figure.y_scale == "symlog" else {}))
    if figure.y_scale == "linear":
        ax.yaxis.set_major_locator(MaxNLocator(6))
    for axis, scale in ((ax.xaxis, figure.x_scale), (ax.yaxis, figure.y_scale)):
        if scale == "log":
            low, high = axis.get_view_interval()
            decades = math.log10(high / low)
            narrow = (1, 1.5, 2, 3, 5, 7) if decades < 0.6 else (1, 2, 5)
            subs = narrow if decades < 1.5 else (1, 3) if decades < 2.6 else (1,)
            axis.set_major_locator(LogLocator(subs=subs, numticks=few))
        axis.set_minor_locator(NullLocator())
        form = "{:g}".format if scale == "log2" else number
        axis.set_major_formatter(FuncFormatter(lambda value, at, form=form: form(value)))


def _label_ends(ax: Axes, table: pd.DataFrame, room: float) -> None:
    """The name of every series at its right end, moved apart where they would overlap."""
    ends = []
    for s in series_of(table):
        rows = s.rows.dropna(subset=["mean"])
        if s.named and len(rows):
            at = ax.transAxes.inverted().transform(ax.transData.transform((rows["x"].iloc[-1], rows["mean"].iloc[-1])))
            ends.append((min(max(float(at[1]), 0.0), 1.0), s))
    step = 1.35 * TEXT / (HEIGHTS[WIDE] * 0.78)
    ends.sort(key=lambda end: end[0])
    heights = [y for y, _ in ends]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + step)
    over = max(heights[-1] - 1.0, 0.0) if heights else 0.0
    for i in range(len(heights) - 1, -1, -1):
        top = 1.0 if i == len(heights) - 1 else heights[i + 1] - step
        heights[i] = min(heights[i], top) if over else heights[i]
    for y, (_, s) in zip(heights, ends, strict=True):
        ax.text(1.015, y, s.name, transform=ax.transAxes, color=s.colour, va="center", fontsize=TEXT, weight="bold")


def has_ends(figure: Figure, width: int) -> bool:
    """Whether there is room and a right end for the names of series to stand at; else a key names them."""
    return width == WIDE and figure.kind != "points"


def _margins(ax: Axes, figure: Figure, table: pd.DataFrame, width: int) -> None:
    """Room for the numbers on the left, the axis title below and above, and in a wide figure the names on the right."""
    height = HEIGHTS[width]
    low, high = sorted(ax.get_ylim())
    shown = [number(tick) for tick in ax.yaxis.get_major_locator()() if low <= tick <= high]
    left = 14 + DIGIT * max((len(text) for text in shown), default=2)
    names = [s.name for s in series_of(table) if s.named] if has_ends(figure, width) else []
    right = 16 + (10 * max(map(len, names)) if len(names) > 1 else 0)
    ax.figure.subplots_adjust(left=left / width, right=1 - right / width, bottom=56 / height, top=1 - 34 / height)
    if len(names) > 1:
        _label_ends(ax, table, right)


def draw(figure: Figure, drawn: pd.DataFrame) -> tuple[str, str]:
    """A figure's tidy table as SVG text, for a wide page and for a phone."""
    return _svg(figure, drawn, WIDE), _svg(figure, drawn, NARROW)


def _svg(figure: Figure, drawn: pd.DataFrame, width: int) -> str:
    with plt.rc_context(STYLE):
        fig, ax = plt.subplots(figsize=(width / 72, HEIGHTS[width] / 72))  # a point of 1/72 inch is a CSS pixel
        KINDS[figure.kind](ax, drawn)
        _scale(ax, figure, drawn, width)
        ax.set_xlabel(figure.x)
        _margins(ax, figure, drawn, width)
        fig.text(4 / width, 1 - 6 / HEIGHTS[width], figure.y, color=MUTED, va="top", fontsize=TEXT)
        buffer = io.StringIO()
        fig.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
        plt.close(fig)
    return _slim(buffer.getvalue(), f"{figure.id}-{width}-{hashlib.sha256(buffer.getvalue().encode()).hexdigest()[:8]}")


def _slim(svg: str, prefix: str) -> str:
    """The <svg> element alone, hidden from screen readers (a figure's text says what it shows), with the page's colours
    and font, coordinates to a tenth of a pixel, and no ids but those it refers to, which are its own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.S)
    referred = set(re.findall(r"url\(#([^)]+)\)|xlink:href=\"#([^\"]+)\"", svg))
    kept = {a or b for a, b in referred}
    svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{prefix}-{m[1]}"' if m[1] in kept else "", svg)
    svg = re.sub(r'(url\(#|xlink:href="#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.S)  # it would hold for the whole page
    svg = re.sub(r"font: [^;\"]*?(\d+)px[^;\"]*|font-size: (\d+)px; font-family: [^;\"]*", _font, svg)
    svg = re.sub(r"<[^>]+>", lambda tag: re.sub(r"\d+\.\d{2,}", _tenth, tag[0]), svg)  # and no tick's text
    svg = re.sub(r"#[0-9a-f]{6}", lambda m: _CSS.get(m[0], m[0]), svg)
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true" focusable="false">', svg)
    svg = svg.replace("xlink:href", "href").replace("; stroke-linejoin: miter", "")
    return re.sub(r"\s*\n\s*", "", svg)


def _tenth(coordinate: re.Match[str]) -> str:
    return f"{float(coordinate[0]):.1f}".removesuffix(".0")


def _font(declared: re.Match[str]) -> str:
    """Of a declared font the size and the weight: the family is the page's."""
    weight = "; font-weight: 650" if re.search(r"\b(bold|700)\b", declared[0]) else ""
    return f"font-size: {declared[1] or declared[2]}px{weight}"
