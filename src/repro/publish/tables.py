"""What a page shows without axes, as HTML: verdict badges, tables, the cells of a grid, rows of effects (forests)."""

from __future__ import annotations

import base64
import html
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, MaxNLocator

from repro.evidence.intervals import Estimate, Unit
from repro.evidence.spec import PUBLISHED_SERIES, Figure, Outcome, Verdict
from repro.evidence.tables import MET, MISSED, NOT_RUN, TOO_WIDE
from repro.evidence.words import interval, unlearnt
from repro.publish.figures import MAX_SERIES, number

KINDS = {  # an outcome's class in the style sheet, and its mark: never colour alone
    Outcome.REPRODUCED: ("good", "●"),
    Outcome.CONDITIONAL: ("cond", "◐"),
    Outcome.INCONCLUSIVE: ("open", "○"),
    Outcome.NOT_REPRODUCED: ("bad", "✕"),
    NOT_RUN: ("open", "–"),
    MET: ("good", "●"),
    MISSED: ("bad", "✕"),
    TOO_WIDE: ("open", "○"),
}


def unbroken(text: str) -> str:
    """As HTML, in which no line breaks within "B = 64", "1 − p" or "95 %"."""
    text = re.sub(r"(\w) ([=≤≥<>−]) (?=\w)", "\\1\u00a0\\2\u00a0", text)
    return html.escape(re.sub(r"(?<=\d) %", "\u00a0%", text))


def badge(outcome: str) -> str:
    kind, mark = KINDS.get(outcome, ("open", "–"))
    return f'<span class="outcome {kind}"><span aria-hidden="true">{mark}</span> {html.escape(outcome)}</span>'


def scrolling(label: str, table: str) -> str:
    """A region that scrolls sideways where the page is narrow, by keyboard too."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(label, quote=True)}">{table}</div>'


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], label: str, caption: str = "", kind: str = "rows"
) -> str:
    """A table whose cells are HTML already. On a phone every row is a block, its cells behind their column's name."""
    head = "".join(f'<th scope="col">{h}</th>' for h in header)
    body = "".join(
        "<tr>"
        + "".join(
            f'<th scope="row">{c}</th>' if i == 0 else f'<td data-label="{html.escape(h, quote=True)}">{c}</td>'
            for i, (h, c) in enumerate(zip(header, row, strict=True))
        )
        + "</tr>"
        for row in rows
    )
    told = f'<p class="note">{caption}</p>' if caption else ""
    top = f"<thead><tr>{head}</tr></thead>" if any(header) else ""
    return (
        f'<table class="{kind}" aria-label="{html.escape(label, quote=True)}">{top}<tbody>{body}</tbody></table>{told}'
    )


def csv_link(rows: pd.DataFrame, name: str) -> str:
    rows = rows.replace([np.inf, -np.inf], np.nan)  # an interval without an end is left empty
    encoded = base64.b64encode(rows.to_csv(index=False, float_format="%.6g").encode()).decode()
    return f'<a download="{name}" href="data:text/csv;base64,{encoded}">CSV</a>'


def seeds(rows: pd.DataFrame) -> str:
    """How many seeds a point of a figure's table has, where it says; or how many of what its column `counted` names."""
    if "n" not in rows:
        return ""
    counts = sorted(set(rows["n"].dropna().astype(int)) - {0})
    told = " to ".join(str(n) for n in dict.fromkeys((counts[0], counts[-1]))) if counts else "no"
    what = rows["counted"].dropna().iloc[0] if "counted" in rows else "seed"
    return f"{told} {what}{'' if told == '1' else 's'} a point. "


def fates(rows: pd.DataFrame) -> str:
    """How many trials of a figure's table diverged and how many ended at chance, where it says."""
    if not {"trials", "diverged", "at_chance"} <= set(rows):
        return ""
    trials, diverged, at_chance = (int(rows[name].sum()) for name in ("trials", "diverged", "at_chance"))
    return f"Of {trials:,} trials {unlearnt(diverged, at_chance)}. "


# Rows of effects


class Mark(NamedTuple):
    """What is drawn in a row: a number with its interval, as series `series` of the forest."""

    estimate: Estimate
    series: int = 0


@dataclass(frozen=True)
class Forest:
    """Rows of numbers along one axis. `groups`: title -> row's label -> marks, the first of which is printed."""

    unit: Unit
    groups: Mapping[str, Mapping[str, Sequence[Mark]]]
    key: Sequence[str] = field(default=())  # names of the series, where there are several


def _place(unit: Unit) -> Callable[[float], float]:
    """Where a value lies on the unit's axis."""
    if unit.log:
        return lambda value: math.log10(value) if value > 0 else -math.inf
    return (lambda value: math.asinh(5 * value)) if unit.symlog else float


def _domain(unit: Unit, estimates: Sequence[Estimate]) -> tuple[float, float]:
    """The ends of the axis: all values, what they are held against, and of intervals as much as keeps those apart."""
    place = _place(unit)
    values = [place(e.value) for e in estimates]
    values += [place(v) for v in (unit.none, *(unit.band or ())) if v is not None and math.isfinite(v)]
    least, most = min(values), max(values)
    room = max(most - least, 0.3 if unit.log else 1e-3 + 0.1 * max(abs(least), abs(most)))
    if most == least:
        least, most = least - room, most + room
    ends = [place(end) for e in estimates for end in (e.low, e.high) if math.isfinite(end)]
    low = min([least, *(max(end, least - room) for end in ends)])
    high = max([most, *(min(end, most + room) for end in ends)])
    pad = 0.04 * max(high - low, 1e-9)
    return low - pad, high + pad


def _ticks(unit: Unit, low: float, high: float) -> list[float]:
    place = _place(unit)
    if unit.symlog:
        powers = [10.0**k for k in range(0, 5)]
        found = [-p for p in reversed(powers)] + [0.0] + powers
    elif unit.log:
        subs = (1, 2, 5) if high - low < 1.2 else (1, 3) if high - low < 2.2 else (1,)
        found = [float(t) for t in LogLocator(subs=subs, numticks=6).tick_values(10**low, 10**high)]
    else:
        found = list(MaxNLocator(4).tick_values(low, high))
    kept = [float(t) for t in found if low <= place(t) <= high]
    return kept[:: math.ceil(len(kept) / 6)]


def _tick_text(unit: Unit, value: float) -> str:
    text = number(round(value, 10))
    return f"+{text}" if unit.none == 0 and value > 0 else text


def forest_table(forest: Forest, label: str) -> str:
    """The rows as a table: label, strip with the interval, and the numbers. On a phone the strip is below them."""
    unit = forest.unit
    marks = [m for rows in forest.groups.values() for ms in rows.values() for m in ms]
    known = [m.estimate for m in marks if math.isfinite(m.estimate.value)]
    if not known:
        return ""
    low, high = _domain(unit, known)

    place = _place(unit)

    def at(value: float) -> float:
        return 100 * (min(max(place(value), 2 * low - high), 2 * high - low) - low) / (high - low)

    ticks = _ticks(unit, low, high)
    lines = "".join(f'<i style="left:{at(t):.1f}%"></i>' for t in ticks)
    if unit.band:
        left, right = (min(max(at(v), 0.0), 100.0) for v in unit.band)
        lines = f'<u style="left:{left:.1f}%;width:{right - left:.1f}%"></u>' + lines
    if unit.none is not None:
        lines += f'<i class="none" style="left:{at(unit.none):.1f}%"></i>'

    def mark(m: Mark) -> str:
        e = m.estimate
        if not math.isfinite(e.value):
            return ""
        bar = ""
        if math.isfinite(e.low) and math.isfinite(e.high):
            left, right = max(at(e.low), -2), min(at(e.high), 102)
            bar = f'<s style="left:{left:.1f}%;width:{max(right - left, 0):.1f}%"></s>'
        return f'<span class="dot m{m.series}">{bar}<em style="left:{at(e.value):.1f}%"></em></span>'

    def row(name: str, ms: Sequence[Mark]) -> str:
        told, _, ends = interval(ms[0].estimate).partition(" ")
        shown = "".join(mark(m) for m in ms)
        return (
            f'<tr><th scope="row">{unbroken(name)}</th><td class="strip"><div aria-hidden="true">{lines}{shown}'
            f'</div></td><td class="value">{told} <small>{ends}</small></td></tr>'
        )

    body = ""
    for group, rows in forest.groups.items():
        body += f'<tr class="group"><th scope="rowgroup" colspan="3">{group}</th></tr>' if group else ""
        body += "".join(row(name, ms) for name, ms in rows.items())
    axis = "".join(f'<span style="left:{at(t):.1f}%">{_tick_text(unit, t)}</span>' for t in ticks)
    sides = [s and f"{a}{html.escape(s)}{b}" for s, a, b in zip(unit.sides, ("← ", ""), ("", " →"), strict=True)]
    told = f'<p class="sides"><span>{sides[0]}</span><span>{sides[1]}</span></p>' if any(sides) else ""
    names = "".join(f'<span class="m{i}"><em></em> {html.escape(n)}</span>' for i, n in enumerate(forest.key))
    keyed = f'<p class="key">{names}</p>' if len(forest.key) > 1 else ""
    return (
        f'{keyed}<table class="forest" aria-label="{html.escape(label, quote=True)}"><thead><tr><td></td><td>{told}'
        f'<div class="axis" aria-hidden="true">{axis}</div></td><td class="value"></td></tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def effects(verdict: Verdict) -> list[Forest]:
    """A forest for every unit that the effects of a verdict and of its parts are counted in: a group a part."""
    found: dict[Unit, dict[str, dict[str, list[Mark]]]] = {}
    judged = [("", verdict), *((f"{badge(p.outcome)} {html.escape(n)}", p) for n, p in verdict.parts.items())]
    for title, part in judged:
        for name, estimate in part.effects.items():
            if estimate.n:
                found.setdefault(estimate.unit, {}).setdefault(title, {})[name] = [Mark(estimate)]
    return [Forest(unit, groups) for unit, groups in found.items()]


# Figures without axes


def _estimates(rows: pd.DataFrame, unit: Unit) -> Iterable[tuple[str, str, Estimate]]:
    for row in rows.to_dict("records"):
        known = np.isfinite([row["low"], row["high"]]).all() and row["low"] < row["high"]
        low, high = (row["low"], row["high"]) if known else (-math.inf, math.inf)
        yield row["name"], row["series"], Estimate(row["mean"], low, high, 1, "", unit=unit)


def dots(figure: Figure, drawn: pd.DataFrame) -> str:
    """A row a name, a marker a series, intervals as bars; a shaded band and a line at no difference where given.

    Columns: name, mean, low, high, series and, the same in all rows, band_low, band_high, none.
    """
    band = None
    if "band_low" in drawn:
        low, high = drawn["band_low"].iloc[0], drawn["band_high"].iloc[0]
        band = (low, math.inf if pd.isna(high) else high)
    none = float(drawn["none"].iloc[0]) if "none" in drawn else None
    log, symlog = figure.x_scale == "log", figure.x_scale == "symlog"
    unit = Unit(axis=figure.x, none=none, band=band, log=log, symlog=symlog)
    series = [s for s in dict.fromkeys(drawn["series"]) if s != PUBLISHED_SERIES]
    order = {name: i for i, name in enumerate(series[:MAX_SERIES])} | {PUBLISHED_SERIES: 9}
    rows: dict[str, list[Mark]] = {}
    for name, of, estimate in _estimates(drawn, unit):
        rows.setdefault(name, []).append(Mark(estimate, order.get(of, MAX_SERIES - 1)))
    return forest_table(Forest(unit, {"": rows}, series), figure.x)


def heat_map(figure: Figure, drawn: pd.DataFrame) -> str:
    """A cell for every pair of x and y with a text of its own, tinted by how its value ranks: good, middling, bad, or
    none. Rows go down by number, or by name, in the order of the table.

    Columns: x, y, value, text.
    """
    order = list(dict.fromkeys(drawn["y"]))
    order = order if isinstance(order[0], str) else sorted(order)
    best, cuts = drawn["value"].max(), (drawn["value"].max() - drawn["value"].quantile(0.25)) / 3
    columns = list(dict.fromkeys(drawn["x"]))
    columns = columns if isinstance(columns[0], str) else sorted(columns)
    cells = {(row["y"], row["x"]): row for row in drawn.to_dict("records")}

    def cell(y: object, x: object) -> str:
        found = cells.get((y, x))
        if found is None:
            return '<td class="empty"></td>'
        below = (best - found["value"]) / (cuts or 1.0)
        kind = "none" if pd.isna(below) else f"q{min(int(below), 3)}"
        return f'<td class="{kind}">{html.escape(found["text"]).replace(chr(10), "<br>")}</td>'

    names = [x if isinstance(x, str) else number(float(f"{x:.3g}")) for x in columns]
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in names)
    body = "".join(
        f'<tr><th scope="row">{html.escape(y) if isinstance(y, str) else f"{y:g}"}</th>'
        + "".join(cell(y, x) for x in columns)
        + "</tr>"
        for y in order
    )
    corner = html.escape(f"{figure.y} ↓ · {figure.x} →" if figure.y else f"{figure.x} →")
    told = f'<table class="heat"><caption>{corner}</caption><thead><tr><td></td>{head}</tr></thead>'
    return scrolling(f"{figure.y or 'name'} by {figure.x}", f"{told}<tbody>{body}</tbody></table>")
