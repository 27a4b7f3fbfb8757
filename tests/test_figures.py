"""Figures with axes: what is drawn, at two widths, in the page's colours."""

import re

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from repro import claims
from repro.evidence.spec import Figure
from repro.publish import figures, tables

FIGURES = [(c, f) for c in claims.all_claims().values() for f in c.figures if f.kind in figures.KINDS]


def tidy(**columns):
    return pd.DataFrame(columns)


def figure(kind="curves", **fields):
    return Figure("f", kind, lambda t: t, lambda t: "t", "batch size B", "loss", "c.", **fields)


def drawn_axes(kind, table, **fields):
    _, ax = plt.subplots()
    figures.KINDS[kind](ax, table)
    figures._scale(ax, figure(kind, **fields), table, figures.WIDE)
    plt.close("all")
    return ax


CURVES = tidy(
    x=[2, 64, 1024, 64],
    mean=[1.0, 2.0, 3.0, 2.5],
    low=[0.5, 1.5, np.nan, np.nan],
    high=[1.5, 2.5, np.nan, np.nan],
    series=["a", "a", "a", "published"],
)


def test_curves_are_over_log2_ticked_where_run_with_published_as_hollow_diamonds():
    ax = drawn_axes("curves", CURVES)
    assert ax.get_xscale() == "log"
    assert [t.get_text() for t in ax.get_xticklabels()] == ["2", "64", "1024"]
    diamond = next(line for line in ax.lines if line.get_marker() == "D")
    assert diamond.get_markerfacecolor() == "none"
    assert diamond.get_xdata().tolist() == [64]
    bars = ax.containers[0][2][0].get_segments()
    assert bars[0][:, 1].tolist() == [0.5, 1.5]


@pytest.mark.parametrize("width", [figures.WIDE, figures.NARROW])
def test_text_is_text_of_a_size_that_can_be_read_and_colours_are_the_pages(width):
    svg = figures._svg(figure(), CURVES, width)
    assert svg.count("<text") >= 5 and "batch size B" in svg and ">1024<" in svg
    assert set(re.findall(r"font-size: (\d+)px", svg)) == {"15"}
    assert f'viewBox="0 0 {width} ' in svg
    assert "<style" not in svg and "font-family" not in svg
    colours = set(re.findall(r"#[0-9a-f]{3,6}", re.sub(r"var\(--[\w-]+,#[0-9a-f]+\)|url\(#[^)]*\)", "", svg)))
    assert not colours - {"#fff"}, "a colour that no theme changes"


def test_a_number_on_an_axis_keeps_its_digits():
    """Coordinates are rounded to a tenth of a pixel; what is written is not."""
    table = tidy(x=[1, 2, 4], mean=[0.003, 0.03, 0.3], low=[np.nan] * 3, high=[np.nan] * 3, series=["a"] * 3)
    svg = figures._svg(figure(y_scale="log"), table, figures.WIDE)
    assert ">0.01<" in svg and ">0.1<" in svg


def test_two_pictures_of_one_page_share_no_id():
    def ids(svg):
        return set(re.findall(r' id="([^"]+)"', svg))

    other = CURVES.assign(mean=CURVES["mean"] + 0.1)
    one, two, three = (ids(figures._svg(figure(), t, w)) for t, w in ((CURVES, 720), (CURVES, 358), (other, 720)))
    assert one and not one & two and not one & three
    referred = set(re.findall(r"url\(#([^)]+)\)", figures._svg(figure(), CURVES, 720)))
    assert referred <= one


@pytest.mark.parametrize(("claim", "figure"), FIGURES, ids=lambda x: x.id)
def test_a_figure_is_the_same_twice_leaves_no_style_behind_and_is_light(smoke_ledger, claim, figure):
    drawn = figure.data(claims.find(claim, "smoke", smoke_ledger).table)
    if drawn.empty:
        pytest.skip("drawn from full MNIST alone")
    before = dict(mpl.rcParams)
    wide, narrow = figures.draw(figure, drawn)
    assert (wide, narrow) == figures.draw(figure, drawn)
    assert dict(mpl.rcParams) == before
    assert len(wide) + len(narrow) < 120_000


def test_more_series_than_a_reader_can_tell_apart_are_grey():
    names = [f"s{i}" for i in range(7)]
    table = tidy(x=[1] * 7, mean=range(7), low=[np.nan] * 7, high=[np.nan] * 7, series=names)
    found = figures.series_of(table)
    assert [s.name for s in found if s.named] == names[: figures.MAX_SERIES]
    assert {s.colour for s in found if not s.named} == {figures.OTHER}


def test_names_at_the_ends_of_lines_do_not_overlap():
    none = [np.nan] * 2
    ends = [tidy(x=[1, 2], mean=[1, 1 + k / 1000], low=none, high=none, series=[f"series {k}"] * 2) for k in range(4)]
    table = pd.concat(ends)
    svg = figures._svg(figure(), table, figures.WIDE)
    heights = sorted(float(y) for y in re.findall(r'y="([\d.]+)"[^>]*>series \d', svg))
    assert len(heights) == 4 and min(np.diff(heights)) > figures.TEXT


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.003, "0.003"), (1, "1"), (20_000, "20,000"), (1e-5, "10⁻⁵"), (3e6, "3·10⁶"), (-0.5, "−0.5")],
)
def test_numbers_on_axes(value, text):
    assert figures.number(value) == text


def test_every_kind_of_figure_is_known():
    kinds = {f.kind for c in claims.all_claims().values() for f in c.figures}
    assert kinds <= {*figures.KINDS, "dots", "heat map"}
    assert callable(tables.dots) and callable(tables.heat_map)


def test_a_figure_unknown_to_kinds_cannot_be_drawn():
    with pytest.raises(KeyError):
        figures.draw(figure("no-such-kind"), CURVES)


def test_points_have_intervals_both_ways_and_lines_at_no_difference():
    plain = pd.DataFrame({"x": [2.0, 5.0], "mean": [1.0, 2.0], "series": ["a", "b"]})
    ends = plain.assign(low=0.5, high=2.5, x_low=1.5, x_high=6.0)
    lined = ends.assign(x_none=1.0, y_none=0.0)

    def drawn(table):
        fig, ax = plt.subplots()
        figures.points(ax, table)
        plt.close(fig)
        return len(ax.lines)

    assert [drawn(plain), drawn(ends), drawn(lined)] == [2, 2 + 4, 2 + 4 + 2]
    assert drawn(ends.assign(x_low=float("nan"))) == 2 + 2  # one without interval
