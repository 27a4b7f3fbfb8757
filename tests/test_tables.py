"""What is shown without axes: badges, tables, forests, grids; and how numbers are told."""

import math
import re

import numpy as np
import pandas as pd
import pytest

from repro.evidence import words
from repro.evidence.intervals import Estimate, Unit
from repro.evidence.spec import Figure, Outcome, Verdict
from repro.publish import tables
from repro.publish.tables import Forest, Mark

POINTS = Unit("points", "accuracy, large minus small", 0.0, ("worse", "better"), (-0.3, 0.3))
TIMES = Unit("×", "large over small", 1.0, log=True)


def estimate(value, low=-math.inf, high=math.inf, n=5, unit=POINTS):
    return Estimate(value, low, high, n, "", unit=unit)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (Estimate(1.234, 1.1, 1.36, 5, ""), "1.23 [1.10, 1.36]"),
        (Estimate(1.234, -np.inf, np.inf, 1, ""), "1.23"),
        (Estimate(1.234, 0.0, np.inf, 1, ""), "1.23"),  # a geometric mean of one
        (Estimate(-0.001, -0.004, 0.002, 5, ""), "0.00 [0.00, 0.00]"),
        (Estimate(np.nan, -np.inf, np.inf, 0, ""), "–"),
        (Estimate(1311.12, 415.92, 4133.15, 3, ""), "1,311 [416, 4,133]"),
        (estimate(-2.8, -2.99, -2.61), "−2.80 [−2.99, −2.61]"),
        (estimate(0.05, -0.12, 0.21), "+0.05 [−0.12, +0.21]"),
        (estimate(14.2, 4.1, 48, unit=TIMES), "14 [4.1, 48]"),
        (estimate(0.69, 0.61, 0.78, unit=TIMES), "0.69 [0.61, 0.78]"),
        (estimate(0.994, 0.93, 1.04, unit=TIMES), "0.99 [0.93, 1.04]"),  # ends near one another keep their digits
        (estimate(1.183, 1.178, 1.189, unit=TIMES), "1.183 [1.178, 1.189]"),
    ],
)
def test_interval_text(given, text):
    assert words.interval(given) == text


def test_how_a_tie_is_rounded_does_not_hang_on_the_order_of_a_sum():
    accuracies = [0.1, 0.1, 0.1, 0.16]
    below, above = sum(accuracies) / 4, sum(reversed(accuracies)) / 4
    assert f"{below:.2f}" != f"{above:.2f}"
    assert words.signed(below) == words.signed(above)


def test_in_sentences_an_interval_is_in_words():
    assert words.spread(estimate(0.05, -0.12, 0.21)) == "+0.05, −0.12 to +0.21"
    assert words.bracketed(estimate(0.94, 0.39, 1.49, unit=Unit())) == "0.94 (0.39 to 1.49)"
    assert words.bracketed(estimate(0.94, unit=Unit())) == "0.94"


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_badge_has_a_mark_and_the_word(outcome):
    text = re.sub(r"<[^>]+>", "", tables.badge(outcome))
    assert text.split()[0] in "●◐○✕" and text.split(" ", 1)[1] == outcome
    assert len({tables.KINDS[o] for o in Outcome}) == len(Outcome)


def test_what_is_not_ours_is_escaped():
    forest = Forest(POINTS, {"": {"<script>x</script>": [Mark(estimate(1.0))]}})
    assert "<script" not in tables.forest_table(forest, "a")
    assert "<script" not in tables.badge("<script>")
    grid = pd.DataFrame({"x": [1.0], "y": ["<b>"], "value": [1.0], "text": ["<script>"], "series": ["s"]})
    figure = Figure("f", "heat map", lambda t: t, lambda t: "t", "x", "y", "c")
    assert "<script" not in tables.heat_map(figure, grid) and "&lt;b&gt;" in tables.heat_map(figure, grid)


def places(text):
    """Positions (%) of dots, and (left, width) of intervals."""
    dots = [float(v) for v in re.findall(r'<em style="left:([\d.−-]+)%', text)]
    bars = [(float(a), float(b)) for a, b in re.findall(r'<s style="left:([\d.−-]+)%;width:([\d.]+)%', text)]
    return dots, bars


def test_a_forest_puts_numbers_in_order_inside_their_intervals():
    rows = {
        "a": [Mark(estimate(-2.8, -3.0, -2.6))],
        "b": [Mark(estimate(0.05, -0.12, 0.21))],
        "c": [Mark(estimate(1.0))],
    }
    text = tables.forest_table(Forest(POINTS, {"": rows}), "effects")
    dots, bars = places(text)
    assert dots == sorted(dots) and all(0 <= d <= 100 for d in dots)
    assert len(bars) == 2, "no interval, no bar"
    for dot, (left, width) in zip(dots, bars, strict=False):
        assert left < dot < left + width
    zero = float(re.search(r'<i class="none" style="left:([\d.]+)%', text)[1])
    assert dots[0] < zero < dots[1] < dots[2]
    left, width = map(float, re.search(r'<u style="left:([\d.]+)%;width:([\d.]+)%', text).groups())
    assert left < zero < left + width, "the margin is a band about no difference"
    assert "← worse" in text and "better →" in text


def test_ratios_are_on_a_log_axis():
    rows = {k: [Mark(estimate(v, v / 2, v * 2, unit=TIMES))] for k, v in {"a": 0.1, "b": 1.0, "c": 10.0}.items()}
    dots, _ = places(tables.forest_table(Forest(TIMES, {"": rows}), "ratios"))
    assert dots[1] - dots[0] == pytest.approx(dots[2] - dots[1], abs=0.2)


def test_an_interval_that_would_hide_the_others_is_cut():
    rows = {"a": [Mark(estimate(0.1, -0.1, 0.3))], "b": [Mark(estimate(0.2, -500, 500))]}
    dots, bars = places(tables.forest_table(Forest(POINTS, {"": rows}), "x"))
    assert abs(dots[1] - dots[0]) > 2
    assert bars[1][0] < 0 and bars[1][0] + bars[1][1] > 100


def test_a_forest_of_nothing_known_is_nothing():
    assert tables.forest_table(Forest(POINTS, {"": {"a": [Mark(estimate(math.nan))]}}), "x") == ""


def test_effects_are_grouped_by_what_they_count_and_by_part():
    part = Verdict(Outcome.REPRODUCED, "r.", {"q": estimate(3.0, 2, 4, unit=TIMES), "p": estimate(1.0, 0, 2)})
    verdict = Verdict(
        Outcome.CONDITIONAL, "r.", {"p": estimate(0.5, 0, 1), "none": estimate(1.0, n=0)}, {"a part": part}
    )
    points, times = tables.effects(verdict)
    assert points.unit == POINTS and [list(rows) for rows in points.groups.values()] == [["p"], ["p"]]
    assert times.unit == TIMES and "a part" in next(iter(times.groups)) and "reproduced" in next(iter(times.groups))


def test_a_grid_has_a_cell_for_every_pair_and_says_why_one_is_empty():
    figure = Figure("f", "heat map", lambda t: t, lambda t: "t", "lr", "B", "c")
    table = pd.DataFrame({"x": [0.1, 0.2], "y": [64, 64], "value": [98.0, np.nan], "text": ["98.0", "diverged"]})
    text = tables.heat_map(figure, table)
    assert re.findall(r'<td class="(\w+)">([^<]*)</td>', text) == [("q0", "98.0"), ("none", "diverged")]
    assert 'tabindex="0"' in text and 'role="region"' in text


@pytest.mark.parametrize(
    ("y", "down"), [([64, 1024, 16], ["16", "64", "1024"]), (["SGD", "Adam", "RMSProp"], ["SGD", "Adam", "RMSProp"])]
)
def test_rows_of_a_grid_go_down_by_number_or_in_their_order(y, down):
    figure = Figure("f", "heat map", lambda t: t, lambda t: "t", "lr", "", "c")
    table = pd.DataFrame({"x": [1, 1, 1], "y": y, "value": [1.0, 2, 3], "text": [str(v) for v in y]})
    text = tables.heat_map(figure, table)
    assert re.findall(r'<th scope="row">([^<]+)</th>', text) == down
    assert re.findall(r'<td class="q\d">([^<]+)</td>', text) == down


def test_dots_draw_every_series_of_a_name_in_its_row():
    figure = Figure("f", "dots", lambda t: t, lambda t: "t", "φ", "", "c", x_scale="log")
    table = pd.DataFrame(
        {"name": ["a", "a", "b"], "mean": [1.0, 10, 100], "low": [np.nan] * 3, "high": [np.nan] * 3,
         "series": ["one", "published", "one"]}
    )  # fmt: skip
    text = tables.dots(figure, table)
    assert text.count('<th scope="row">') == 2
    assert re.findall(r'class="dot (m\d)"', text) == ["m0", "m9", "m0"]


def test_dots_draw_the_line_at_no_difference_where_there_is_one():
    figure = Figure("f", "dots", lambda t: t, lambda t: "", "x", "y", "", x_scale="log")
    table = pd.DataFrame({"name": ["a"], "mean": [3.0], "low": [2.0], "high": [4.0], "series": "s"})
    assert 'class="none"' not in tables.dots(figure, table)
    assert 'class="none"' in tables.dots(figure, table.assign(none=1.0))


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
    assert words.bracketed(Estimate(value, low, high, 3, "", unit=unit), "times") == told
