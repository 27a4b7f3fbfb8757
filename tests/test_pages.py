"""Figures and page pieces: what is drawn, what it says of itself, what can be taken away."""

import base64
import io
import re

import numpy as np
import pandas as pd
import pytest

from repro import claims
from repro.evidence.intervals import Estimate
from repro.evidence.spec import Figure, Scale
from repro.publish import figures, pages
from repro.runs import runner
from repro.runs.ledger import Ledger

ALL = list(claims.all_claims().values())
FIGURES = [(c, f) for c in ALL for f in c.figures]


@pytest.fixture(scope="module")
def chapters(smoke_ledger):
    made = {c.id: pages.Chapter(c.id, "smoke") for c in ALL}
    for chapter in made.values():
        chapter.run()
    return made


@pytest.mark.parametrize(("claim", "figure"), FIGURES, ids=lambda x: x.id)
def test_a_figure_has_alt_text_caption_and_its_table(chapters, claim, figure):
    text = chapters[claim.id].figure(figure.id).data
    if "Nothing to draw" in text:  # a figure of full MNIST, which smoke scale does not train
        assert figure.data(chapters[claim.id].here.table).empty
        return
    alts = re.findall(r'<img alt="([^"]+)"', text)
    assert len(alts) == text.count("<img ") == text.count("<figcaption>") >= 1
    assert all(len(alt) > 40 for alt in alts)
    assert figure.caption.split(".")[0].replace("'", "&#x27;") in text
    for encoded in re.findall(r'href="data:text/csv;base64,([^"]+)"', text):
        table = pd.read_csv(io.BytesIO(base64.b64decode(encoded)))
        needed = {"heat map": {"x", "y", "value", "text"}, "points": {"x", "mean"}}
        assert {"series", *needed.get(figure.kind, {"mean", "low", "high"})} <= set(table.columns)
        assert len(table)


@pytest.mark.parametrize(("claim", "figure"), FIGURES, ids=lambda x: x.id)
def test_a_figure_is_the_same_twice_and_leaves_no_style_behind(smoke_ledger, claim, figure):
    import matplotlib as mpl

    table = claims.find(claim, "smoke", smoke_ledger).table
    if figure.data(table).empty:
        pytest.skip("drawn from full MNIST alone")
    before = dict(mpl.rcParams)
    assert figures.draw(figure, table).svg == figures.draw(figure, table).svg
    assert dict(mpl.rcParams) == before


def tidy(**columns):
    return pd.DataFrame(columns)


def drawn_axes(kind, table):
    import matplotlib.pyplot as plt

    _, ax = plt.subplots()
    figures.KINDS[kind](ax, table)
    if kind not in figures.ROWS:
        figures._scale(ax, table, "log2", "linear")
    plt.close("all")
    return ax


def test_curves_are_over_log2_ticked_where_run_with_published_as_hollow_diamonds():
    ax = drawn_axes(
        "curves",
        tidy(
            x=[2, 64, 1024, 64],
            mean=[1.0, 2.0, 3.0, 2.5],
            low=[0.5, 1.5, np.nan, np.nan],
            high=[1.5, 2.5, np.nan, np.nan],
            series=["a", "a", "a", "published"],
        ),
    )
    assert ax.get_xscale() == "log"
    assert [t.get_text() for t in ax.get_xticklabels()] == ["2", "64", "1024"]
    diamond = next(line for line in ax.lines if line.get_marker() == "D")
    assert diamond.get_markerfacecolor() == "none"
    assert diamond.get_xdata().tolist() == [64]
    bars = ax.containers[0][2][0].get_segments()
    assert bars[0][:, 1].tolist() == [0.5, 1.5]


def test_dots_spread_over_decades_are_drawn_symmetric_log():
    wide = tidy(name=["a", "b"], mean=[-500.0, 1.0], low=[-500.0, 1.0], high=[-500.0, 1.0], series=["s", "s"])
    assert drawn_axes("dots", wide).get_xscale() == "symlog"
    narrow = tidy(name=["a", "b"], mean=[1.0, 2.0], low=[0.9, 1.9], high=[1.1, 2.1], series=["s", "s"])
    assert drawn_axes("dots", narrow).get_xscale() == "linear"


def test_a_cell_of_a_heat_map_without_a_value_says_why():
    ax = drawn_axes("heat map", tidy(x=[1, 2], y=[64, 64], value=[98.0, np.nan], text=["98.0", "diverged"]))
    assert {t.get_text(): t.get_position()[0] for t in ax.texts} == {"98.0": 0.5, "diverged": 1.5}


@pytest.mark.parametrize(
    ("y", "from_above"),
    [([64, 1024, 16], ["1024", "64", "16"]), (["SGD", "Adam", "RMSProp"], ["SGD", "Adam", "RMSProp"])],
)
def test_rows_of_a_heat_map_go_up_by_number_or_down_by_name(y, from_above):
    ax = drawn_axes("heat map", tidy(x=[1, 1, 1], y=y, value=[1.0, 2, 3], text=[str(v) for v in y]))
    height = {t.get_text(): ax.transData.transform((0, t.get_position()[1]))[1] for t in ax.get_yticklabels()}
    assert sorted(height, key=height.get, reverse=True) == from_above
    assert {t.get_text(): t.get_position()[1] for t in ax.texts} == {
        t.get_text(): t.get_position()[1] for t in ax.get_yticklabels()
    }


def test_a_title_is_computed_from_the_table(smoke_ledger):
    claim = claims.get("generalization-gap")
    table = claims.find(claim, "smoke", smoke_ledger).table
    figure = next(f for f in claim.figures if f.id == "accuracy")
    title = figure.title(table)
    assert "From B=64 to 256" in title
    assert figure.title(table.assign(test_accuracy=0.5)) != title
    assert "+0.00 pp" in figure.title(table.assign(test_accuracy=0.5))


def test_every_kind_of_figure_is_known():
    assert {f.kind for _, f in FIGURES} <= set(figures.KINDS)


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(1.234, 1.1, 1.36, 5, ""), "1.23 [1.10, 1.36]"),
        (Estimate(1.234, -np.inf, np.inf, 1, ""), "1.23"),
        (Estimate(1.234, 0.0, np.inf, 1, ""), "1.23"),  # a geometric mean of one
        (Estimate(-0.001, -0.004, 0.002, 5, ""), "0.00 [0.00, 0.00]"),
        (Estimate(np.nan, -np.inf, np.inf, 0, ""), "–"),
        (Estimate(1311.12, 415.92, 4133.15, 3, ""), "1,311 [416, 4,133]"),
    ],
)
def test_interval_text(estimate, text):
    assert pages.interval(estimate) == text


def test_tables_escape_what_is_not_theirs(chapters):
    text = chapters["generalization-gap"].verdicts().data
    assert "&lt;script" not in text
    assert "<script" not in text
    assert "repro-badge" in text
    assert "The rule, written before the run" in text


def test_order_of_findings_recorded_first_but_a_tinkerers_own_run_before(chapters):
    smoke = chapters["reference-setup"]
    assert smoke.shown[0].scale == Scale.SMOKE
    laptop = pages.Chapter("reference-setup", "laptop")
    assert laptop.shown[-1].scale == Scale.LAPTOP


def test_a_changed_setting_changes_what_is_shown(smoke_ledger):
    chapter = pages.Chapter("generalization-gap", "smoke", batch_sizes=[64, 128], seeds=1)
    assert {t.batch_size for t in chapter.here.trials} == {64, 128}
    assert chapter.here.num_finished < len(chapter.here.trials)
    chapter.run()
    assert chapter.here.num_finished == len(chapter.here.trials)
    assert ">64, 128<" in chapter.protocol().data


def test_the_protocol_tells_what_was_run_of_what_is_planned(smoke_ledger):
    def chapter():
        made = pages.Chapter("learning-rate-recovery", "smoke", batch_sizes=[20, 40], seeds=1, grid_seeds=1)
        made.recorded = []
        return made

    planned = chapter().here.trials
    some = [t for t in planned if t.batch_size == 20]
    assert f">0 of {len(planned)}<" in chapter().protocol().data
    assert ">20, 40<" in chapter().protocol().data
    runner.run({"learning-rate-recovery": some}, smoke_ledger)
    assert f">{len(some)} of {len(planned)}<" in chapter().protocol().data
    assert ">20<" in chapter().protocol().data


def test_the_protocol_gives_batch_sizes_to_the_digit(smoke_ledger):
    assert " 8192, 16384, 32768</td>" in pages.Chapter("linear-scaling", "paper").protocol().data


def test_paper_scale_is_shown_never_trained_from_a_page(smoke_ledger, monkeypatch):
    from repro.runs import runner

    monkeypatch.setattr(runner, "run", lambda *a, **k: pytest.fail("a page started paper-scale training"))
    chapter = pages.Chapter("generalization-gap", "paper")
    chapter.run()
    assert all(f.scale == Scale.PAPER for f in chapter.shown)


def test_a_number_that_two_claims_list_is_counted_once():
    found = claims.find(claims.get("reference-setup"), Scale.PAPER, Ledger())
    one, two = (pages._board({name: [found] for name in names}, {}) for names in ("a", "ab"))
    numbers = re.search(r"Published numbers met: [1-9]\d* of \d+", one)[0]
    assert numbers in two


def test_where_no_trial_has_been_run_the_board_gives_no_verdict(tmp_path):
    empty = claims.find(claims.get("sharp-minima"), Scale.PAPER, Ledger(tmp_path, tmp_path))
    board = pages._board({"sharp-minima": [empty]}, {})
    assert "1 not run" in board and "inconclusive" not in board


def test_a_figure_unknown_to_kinds_cannot_be_drawn():
    lost = Figure("x", "no-such-kind", lambda t: t, lambda t: "t", "x", "y", "c")
    with pytest.raises(KeyError):
        figures.draw(lost, tidy(name=["a"]))


def test_at_smoke_scale_only_the_main_dataset_is_drawn_beside_the_run_and_every_verdict_is_given(chapters):
    smoke = chapters["heavy-tails"]
    folded = [f for f in smoke.shown if f.scale == Scale.PAPER]
    assert {f.dataset for f in folded} == {"mnist", "fashion-mnist"}
    figure_id = smoke.claim.figures[0].id
    assert "Paper scale, MNIST (" in smoke.figure(figure_id).data
    assert "Fashion-MNIST" not in smoke.figure(figure_id).data
    assert "Fashion-MNIST" in smoke.verdicts().data
    assert "Fashion-MNIST" in pages.Chapter("heavy-tails", "paper").figure(figure_id).data
