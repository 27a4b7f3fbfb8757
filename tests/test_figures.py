"""Figures: numbers printed on them are whole, intervals and lines at no difference are drawn."""

import re

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from repro.evidence.intervals import Estimate, Unit
from repro.evidence.spec import Figure
from repro.evidence.words import bracketed
from repro.publish import figures, tables


def figure(kind, **scales):
    return Figure("f", kind, lambda t: t, lambda t: "", "x", "y", "", **scales)


def test_ticks_keep_their_digits_and_coordinates_do_not():
    table = pd.DataFrame({"x": [0.001, 0.01, 0.1, 1.0], "mean": [0.25, 0.5, 0.75, 1.0], "series": "s"})
    table = table.assign(low=table["mean"], high=table["mean"])
    for svg in figures.draw(figure("curves", x_scale="log"), table):
        told = re.findall(r">([^<>]+)</text>", svg)
        assert {"0.001", "0.01", "0.1", "1", "0.25" if "0.25" in told else "0.3"} <= set(told), told
        assert not re.search(r"\d\.\d\d", re.sub(r">[^<>]+<", "><", svg))


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


def test_dots_draw_the_line_at_no_difference_where_there_is_one():
    table = pd.DataFrame({"name": ["a"], "mean": [3.0], "low": [2.0], "high": [4.0], "series": "s"})
    assert 'class="none"' not in tables.dots(figure("dots", x_scale="log"), table)
    assert 'class="none"' in tables.dots(figure("dots", x_scale="log"), table.assign(none=1.0))


@pytest.mark.parametrize(
    ("value", "low", "high", "unit", "told"),
    [
        (37.57, 35.35, 39.94, Unit(none=1.0, log=True), "38 times (35 to 40)"),
        (2629.0, 460.0, 15030.0, Unit(log=True), "2,629 times (460 to 15,030)"),
        (-0.483, -0.663, -0.304, Unit(none=0.0), "−0.48 times (−0.66 to −0.30)"),
        (5.7, float("-inf"), float("inf"), Unit(log=True), "5.7 times"),
    ],
)
def test_numbers_in_sentences_carry_their_interval_in_brackets(value, low, high, unit, told):
    assert bracketed(Estimate(value, low, high, 3, "", unit=unit), "times") == told
