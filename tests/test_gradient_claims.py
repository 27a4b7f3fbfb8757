"""The judges of the gradient claims on tables that obey, break and under-decide them."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest

from repro import claims
from repro.claims.gradient_competition import CLAIM as COMPETITION
from repro.claims.gradient_competition import experiment as competition
from repro.claims.gradient_competition import figures as pictures
from repro.claims.gradient_competition import judgement
from repro.claims.heavy_tails import CLAIM as TAILS
from repro.claims.heavy_tails import figures as tails_pictures
from repro.claims.heavy_tails import judgement as tails_claim
from repro.evidence.spec import Outcome, Scale
from repro.probes import gradients
from repro.publish import chapter
from repro.trial import Trial

SIZES = np.array(gradients.BATCH_SIZES, dtype=float)
EARLY, LATE = competition.EARLY, competition.LATE
ROOT, FLAT, RISING, FALLING = 0.5, 0.0, 0.3, -0.3


def seeded(arm, seed):
    trial = Trial(dataset="mnist", epochs=2 if arm == EARLY else 30, init_seed=seed, data_seed=seed)
    return {"arm": arm, "key": trial.key, "dataset": "mnist", "init_seed": seed, "status": "finished", "final": True}


def norm_table(slopes, spreads, seeds=5, sd=0.01, arms=(EARLY, LATE)):
    """Log-log slopes of the sum-reduced mean norm and of its spread, by (weights, extent)."""
    rows = []
    for arm in arms:
        for seed in range(seeds):
            luck = sd * (seed - (seeds - 1) / 2)
            row = {
                **seeded(arm, seed),
                "drawn_batch_size": SIZES.tolist(),
                "mean_square_frozen_single": (SIZES + SIZES**2 / 500).tolist(),
                "square_cv_frozen_single": (1 / SIZES**0.5).tolist(),
                "noise_trace": 1.0,
                "noise_squared_norm": 1 / 500,
            }
            for reading in competition.SUMS:
                kind = reading.weights, reading.extent
                mean = 5 * SIZES ** (slopes.get(kind, FLAT) + luck)
                cv = 0.02 * SIZES ** (spreads.get(kind, FLAT) + luck)
                columns = {"mean": mean, "cv": cv, "low": mean * (1 - 1.6 * cv), "high": mean * (1 + 1.7 * cv)}
                row |= {reading.column(name): values.tolist() for name, values in columns.items()}
            rows.append(row)
    return pd.DataFrame(rows)


ONE, ALL = ("frozen", "single"), ("moving", "accumulated")
OBEYS = norm_table({ONE: ROOT}, {ONE: RISING})
SPLIT = norm_table({ONE: ROOT}, {ONE: FALLING, ALL: RISING})
BREAKS = norm_table({ONE: ROOT}, {ONE: FALLING})
NO_ROOT = norm_table({ONE: 0.8}, {ONE: RISING})


@pytest.mark.parametrize(
    ("table", "outcome", "says"),
    [
        (OBEYS, Outcome.REPRODUCED, "sum · frozen · one batch"),
        (norm_table({ALL: -0.5 + 1}, {ALL: RISING}), Outcome.REPRODUCED, "sum · moving · accumulated"),
        (norm_table({ALL: 0.5 + 1}, {ALL: RISING}), Outcome.REPRODUCED, "mean · moving · accumulated"),
        (SPLIT, Outcome.CONDITIONAL, "No way gives all three"),
        (BREAKS, Outcome.NOT_REPRODUCED, "spread more"),
        (NO_ROOT, Outcome.NOT_REPRODUCED, "√B"),
        (norm_table({ONE: ROOT}, {ONE: RISING}, seeds=2), Outcome.INCONCLUSIVE, "Too few seeds: 2 early, 2 late"),
        (norm_table({ONE: ROOT}, {ONE: RISING}, sd=0.2), Outcome.INCONCLUSIVE, "Too uncertain"),
        (norm_table({ONE: ROOT}, {ONE: RISING}, arms=(EARLY,)), Outcome.INCONCLUSIVE, "0 late"),
        (OBEYS.assign(status="diverged"), Outcome.INCONCLUSIVE, "0 early"),
        (OBEYS.drop(columns="drawn_batch_size"), Outcome.INCONCLUSIVE, "0 early"),
        (OBEYS.iloc[:0], Outcome.INCONCLUSIVE, "Too few"),
        (pd.DataFrame({"key": []}), Outcome.INCONCLUSIVE, "Too few"),
    ],
)
def test_competition_judge(table, outcome, says):
    verdict = judgement.judge(table)
    assert verdict.outcome == outcome, verdict
    assert says in verdict.reason and verdict.reason.endswith(".")
    assert judgement.judge(table.sample(frac=1, random_state=1)) == verdict


def test_competition_needs_both_points():
    """Early alone is not enough: what one point of training shows, the other must."""
    early, late = norm_table({ONE: ROOT}, {ONE: RISING}, arms=(EARLY,)), norm_table({ONE: 0.8}, {}, arms=(LATE,))
    verdict = judgement.judge(pd.concat([early, late], ignore_index=True))
    assert verdict.outcome == Outcome.CONDITIONAL
    assert all("(early)" in part.reason for part in verdict.parts.values())


@pytest.mark.parametrize(
    ("table", "outcomes"),
    [
        (OBEYS, "conditional conditional conditional"),
        (BREAKS, "conditional not reproduced not reproduced"),
        (NO_ROOT, "not reproduced conditional conditional"),
        (norm_table({}, {(w, e): RISING for w in ("frozen", "moving") for e in ("single", "accumulated")}),
         "not reproduced reproduced reproduced"),
    ],
)  # fmt: skip
def test_competition_judges_each_sentence_apart(table, outcomes):
    parts = judgement.judge(table).parts
    assert " ".join(part.outcome for part in parts.values()) == outcomes
    assert list(parts) == [s.text for s in competition.SENTENCES]


def test_both_ends_must_move():
    """A longer upper tail alone is not larger and smaller values."""
    table = OBEYS.copy()
    for column in ("mean", "low"):
        assert f"{column}_frozen_single" in table
    below = [(np.asarray(mean) * 0.9).tolist() for mean in table["mean_frozen_single"]]
    table["low_frozen_single"] = below
    parts = judgement.judge(table).parts
    assert parts[competition.SPREAD.text].outcome == Outcome.CONDITIONAL
    assert parts[competition.BOTH_ENDS.text].outcome == Outcome.NOT_REPRODUCED


@pytest.mark.parametrize("slope", [0.39, 0.61])
def test_the_band_of_root_b_has_edges(slope):
    inside = 0.4 + 0.02 if slope < 0.5 else 0.6 - 0.02
    at = {s: judgement.judge(norm_table({ONE: s}, {}, sd=0.002)).parts[competition.ROOT.text] for s in (slope, inside)}
    assert at[slope].outcome == Outcome.NOT_REPRODUCED
    assert at[inside].outcome == Outcome.CONDITIONAL
    unsettled = judgement.judge(norm_table({ONE: slope}, {}, sd=0.05)).parts[competition.ROOT.text]
    assert unsettled.outcome == Outcome.INCONCLUSIVE


def test_reductions_differ_by_one_in_slope_and_not_in_spread():
    effects = judgement.judge(SPLIT).parts[competition.ROOT.text].effects
    for name, estimate in effects.items():
        if name.startswith("sum"):
            mean = effects[name.replace("sum", "mean")]
            assert estimate.value - mean.value == pytest.approx(1)
            assert estimate.n == 5


def test_bends_are_found_by_both_ways():
    effects = judgement.judge(OBEYS).effects
    for arm in (EARLY, LATE):
        direct = effects[f"of the examples' gradients, {arm}"]
        assert direct.value == pytest.approx(500)
        # the table has no correction for drawing without replacement
        assert effects[f"fitted to the norms, {arm}"].value == pytest.approx(500, rel=0.02)


def test_a_norm_that_does_not_bend_has_no_mean_bend():
    straight = OBEYS.copy()
    first = straight.index[straight["arm"] == EARLY][0]
    straight.at[first, "noise_squared_norm"] = 0.0
    with np.errstate(divide="ignore"):
        effects = judgement.bends(straight)
        assert "noise and mean gradient" in pictures.theory_title(straight)
    lost, kept = (effects[f"of the examples' gradients, {arm}"] for arm in (EARLY, LATE))
    assert np.isnan(lost.value) and kept.value == pytest.approx(500)


def test_dots_are_what_the_judge_weighs():
    verdict = judgement.judge(SPLIT)
    for dots, sentence in ((pictures.norm_dots, competition.ROOT), (pictures.spread_dots, competition.SPREAD)):
        points, effects = dots(SPLIT), verdict.parts[sentence.text].effects
        assert len(points) == len(effects)
        for dot in points.itertuples():
            effect = effects[f"{dot.name}, {dot.series.removesuffix(' in training')}"]
            assert (dot.mean, dot.low, dot.high, dot.n) == (effect.value, effect.low, effect.high, effect.n)
    assert pictures.norm_title(SPLIT).endswith("read as: sum · frozen · one batch")
    assert pictures.norm_title(NO_ROOT).startswith("In no reading")
    assert pictures.norm_title(norm_table({ONE: 0.65}, {})).startswith(
        "Only the summed gradient of one batch comes near √B"
    )
    assert pictures.spread_title(SPLIT).endswith("one reading alone: moving · accumulated")
    assert pictures.spread_title(BREAKS).startswith("In no reading")


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (
            OBEYS,
            r"^Yes, .* the power 0\.50 \(.*All three findings hold, read as: sum · frozen · one batch\.$",
        ),
        (
            norm_table({ALL: 0.5}, {ALL: RISING}),
            r"^No, .* the power 0\.00 .*findings hold, read as: sum · moving · acc",
        ),
        (SPLIT, r"^Yes, .* the power 0\.50 .* No way of reading the post gives all three of its findings\.$"),
        (BREAKS, r"^Yes, .* No way of reading the post gives larger batches that spread more\.$"),
        (NO_ROOT, r"^No, .* the power 0\.80 .* No way of reading the post gives norms that grow as √B\.$"),
        (norm_table({ONE: 0.62}, {ONE: RISING}, sd=0.03), r"^Nearly, .* the power 0\.62 .* is not settled\.$"),
        (norm_table({ONE: ROOT}, {ONE: RISING}, sd=0.2), r"^Not settled, .* the power 0\.50 .* is not settled\.$"),
        (
            norm_table({ONE: ROOT}, {ONE: RISING}, seeds=2),
            r"^Not settled: too few networks .* \(2 early in training, 2 late\)\.$",
        ),
        (
            norm_table({ONE: ROOT}, {}, arms=(EARLY,)),
            r"^Not settled: too few networks .* \(5 early in training, 0 late\)\.$",
        ),
        (pd.DataFrame({"key": []}), r"^Not settled: too few networks"),
    ],
)
def test_competition_answers(table, says):
    told = judgement.answer(table, judgement.judge(table))
    assert re.search(says, told) and len(told) <= 230, told


@pytest.mark.parametrize(
    "settings", [s for scale in Scale for s in competition.SETTINGS[scale]], ids=lambda s: s["dataset"]
)
def test_competition_design(settings):
    sweeps = {sweep.name: sweep.trials() for sweep in competition.design(settings)}
    assert list(sweeps) == [EARLY, LATE]
    for early, late in zip(sweeps[EARLY], sweeps[LATE], strict=True):
        assert dataclasses.replace(early, epochs=late.epochs) == late
        assert early.epochs < late.epochs and early.final_probes == ("gradient norms", "gradient tails")
    assert len(sweeps[EARLY]) == settings["seeds"]


def tail_table(
    draws=-3.0, coordinates=-3.0, sums=5.0, means=-1.0, alpha=0.0, seeds=5, sd=0.05, arms=(EARLY, LATE), late=None
):
    """How much each measure beyond its surrogate changes from B=2 to 1024, across draws and across coordinates; log₁₀
    of large values; and α̂ minus that of the surrogate at large B. `late` changes all this for late in training."""
    rows = []
    for arm in arms:
        given = {"draws": draws, "coordinates": coordinates, "sums": sums, "means": means, "alpha": alpha}
        given |= (late or {}) if arm == LATE else {}
        for seed in range(seeds):
            luck = sd * (seed - (seeds - 1) / 2)
            row = {**seeded(arm, seed), "tail_batch_size": SIZES.tolist()}
            row |= {"large_values_sum": given["sums"] + luck, "large_values_mean": given["means"] + luck}
            along = np.log(SIZES / 2) / np.log(512)  # 0 at B=2, 1 at 1024
            for axis in tails_claim.DRAWS, tails_claim.COORDINATES:
                for measure in tails_claim.MEASURES.values():
                    surrogate = np.full(len(SIZES), 0.65)
                    row[f"{measure}_{axis}_surrogate"] = surrogate.tolist()
                    row[f"{measure}_{axis}"] = (surrogate + 5 + (given[axis] + luck) * along).tolist()
            # the index has a table of its own: 1/α̂ across coordinates at B ≥ 256
            inverse = 1 / (1 / 0.65 + given["alpha"] + luck)
            change = 1.0 if given["coordinates"] > 0 else -1.0
            beyond = [inverse if b >= 256 else inverse - change for b in SIZES]
            row["inverse_alpha_coordinates"] = beyond
            rows.append(row)
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("table", "outcome", "says"),
    [
        (tail_table(draws=3, coordinates=3), Outcome.REPRODUCED, "heavier tails, across draws and coordinates"),
        (tail_table(), Outcome.NOT_REPRODUCED, "scale, not shape"),
        (tail_table(sums=1.0), Outcome.NOT_REPRODUCED, "not many more large values either"),
        (tail_table(sums=5.0, means=5.0), Outcome.NOT_REPRODUCED, "summed or averaged"),
        (tail_table(draws=3), Outcome.CONDITIONAL, "disagree"),
        (tail_table(coordinates=3), Outcome.CONDITIONAL, "disagree"),
        (tail_table(late={"draws": 3.0}), Outcome.CONDITIONAL, "disagree"),
        (tail_table(draws=0.0, sd=0.5), Outcome.INCONCLUSIVE, "not settled"),
        (tail_table(seeds=2), Outcome.INCONCLUSIVE, "Too few seeds: 2 early, 2 late"),
        (tail_table(arms=(LATE,)), Outcome.INCONCLUSIVE, "0 early"),
        (tail_table().assign(status="diverged"), Outcome.INCONCLUSIVE, "Too few"),
        (tail_table().drop(columns="tail_batch_size"), Outcome.INCONCLUSIVE, "Too few"),
        (tail_table().iloc[:0], Outcome.INCONCLUSIVE, "Too few"),
        (pd.DataFrame({"key": []}), Outcome.INCONCLUSIVE, "Too few"),
    ],
)
def test_tails_judge(table, outcome, says):
    verdict = tails_claim.judge(table)
    assert verdict.outcome == outcome, verdict
    assert says in verdict.reason and verdict.reason.endswith(".")
    assert tails_claim.judge(table.sample(frac=1, random_state=1)) == verdict


@pytest.mark.parametrize(
    ("table", "part", "outcome"),
    [
        (tail_table(sums=5, means=5), tails_claim.COUNTS, Outcome.REPRODUCED),
        (tail_table(sums=5, means=-1), tails_claim.COUNTS, Outcome.CONDITIONAL),  # the reduction decides
        (tail_table(sums=2, means=-1), tails_claim.COUNTS, Outcome.NOT_REPRODUCED),
        (tail_table(sums=5, means=-1, late={"sums": 2}), tails_claim.COUNTS, Outcome.INCONCLUSIVE),
        (tail_table(sums=3, sd=1), tails_claim.COUNTS, Outcome.INCONCLUSIVE),
        (tail_table(draws=3), tails_claim.ACROSS_DRAWS, Outcome.REPRODUCED),
        (tail_table(draws=-3), tails_claim.ACROSS_DRAWS, Outcome.NOT_REPRODUCED),
        (tail_table(draws=3, late={"draws": -3}), tails_claim.ACROSS_DRAWS, Outcome.CONDITIONAL),
        (tail_table(draws=3, late={"draws": 0}), tails_claim.ACROSS_DRAWS, Outcome.INCONCLUSIVE),
        (tail_table(alpha=0.0), tails_claim.STABLE, Outcome.NOT_REPRODUCED),  # below 2, as its surrogate is
        (tail_table(alpha=0.5), tails_claim.STABLE, Outcome.NOT_REPRODUCED),
        (tail_table(alpha=-0.5), tails_claim.STABLE, Outcome.REPRODUCED),
        (tail_table(alpha=-0.5, late={"alpha": 0.0}), tails_claim.STABLE, Outcome.CONDITIONAL),
        (tail_table(alpha=-0.1), tails_claim.STABLE, Outcome.INCONCLUSIVE),
    ],
)
def test_tails_judges_each_part_apart(table, part, outcome):
    assert tails_claim.judge(table).parts[part].outcome == outcome


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (tail_table(draws=30, coordinates=3), r"^Yes\. .* rises from 9 \(.* at B = 2 to 38\.\d \(.* at B = 1024"),
        (tail_table(), r"^No, lighter\. .* falls from 9 \(.* to 5\.\d \(.* at B = 1024.* scale, not shape\.$"),
        (tail_table(means=5.0), r"^No, lighter\. .* a Gaussian's is 3\.$"),
        (tail_table(draws=3), r"^It depends .* rises from 9 \("),
        (tail_table(draws=0.0, sd=0.5), r"^Not settled\. .* goes from 9 \("),
        (tail_table(seeds=2), r"^Not settled: too few networks .* \(2 early in training, 2 late\)\.$"),
        (tail_table(arms=(LATE,)), r"^Not settled: too few networks .* \(0 early in training, 5 late\)\.$"),
        (pd.DataFrame({"key": []}), r"^Not settled: too few networks"),
    ],
)
def test_tails_answers(table, says):
    told = tails_claim.answer(table, tails_claim.judge(table))
    assert re.search(says, told) and len(told) <= 230, told


def test_the_tails_figure_runs_from_the_posts_smaller_batch_beside_a_gaussian():
    drawn = tails_pictures.kurtosis_curves(tail_table())
    assert list(dict.fromkeys(drawn["series"])) == [EARLY, LATE, "Gaussian"]
    assert drawn["x"].min() == 2 and drawn["x"].max() == 1024
    gaussian = drawn[drawn["series"] == "Gaussian"]
    assert (gaussian["mean"] == 3).all() and gaussian["n"].isna().all()  # computed, not run
    for draws, says in ((-3.0, "lighter"), (3.0, "heavier"), (0.0, "by batch size")):
        assert says in tails_pictures.kurtosis_title(tail_table(draws=draws, sd=0.5))


def test_counts_are_told_in_times():
    effects = tails_claim.judge_counts(tail_table(sums=5, means=-1)).effects
    assert effects[f"sums, {EARLY}"].value == pytest.approx(1000)
    assert effects[f"means, {LATE}"].value == pytest.approx(0.001)


def test_where_too_few_values_are_drawn_none_is_called_large():
    few = tail_table().drop(columns=["large_values_sum", "large_values_mean"])
    part = tails_claim.judge(few).parts[tails_claim.COUNTS]
    assert (part.outcome, "Too few values" in part.reason) == (Outcome.INCONCLUSIVE, True)
    assert tails_pictures.count_title(few).startswith("How many values")


def test_tails_are_judged_beyond_their_surrogate():
    """A surrogate that grows as much leaves nothing that is not scale."""
    table = tail_table(draws=3, coordinates=3)
    for measure, axis in [(m, a) for m in tails_claim.MEASURES.values() for a in ("draws", "coordinates")]:
        table[f"{measure}_{axis}_surrogate"] = table[f"{measure}_{axis}"]
    parts = tails_claim.judge(table).parts
    assert parts[tails_claim.ACROSS_DRAWS].outcome == Outcome.INCONCLUSIVE  # no difference at all
    assert parts[tails_claim.STABLE].outcome == Outcome.NOT_REPRODUCED


def test_both_claims_read_the_same_trials():
    for scale in Scale:
        keys = [{t.key for s in c.sweeps(scale) for t in s.trials()} for c in (COMPETITION, TAILS)]
        assert keys[0] == keys[1]


def test_figures_of_both_claims_are_drawn_from_what_smoke_scale_trains(smoke_ledger):
    """Every title is one line that holds no NaN; nothing is drawn of nothing."""
    for claim in (COMPETITION, TAILS):
        table = claims.find(claim, "smoke", smoke_ledger).table
        for figure in claim.figures:
            drawn, title = figure.data(table), figure.title(table)
            shown = chapter.picture(figure, drawn, title, "name")
            assert len(drawn) and ('class="forest"' in shown if figure.kind == "dots" else "<svg" in shown)
            assert "\n" not in title and "nan" not in title
            assert figure.data(pd.DataFrame({"key": []})).empty


def test_counts_are_averaged_geometrically_over_bins_that_no_network_leaves_empty():
    flat = {"magnitude_batch_size": [2, 2], "magnitude_x": [0.1, 1.0]}
    rows = [{**flat, "magnitude_y": y, "init_seed": seed} for seed, y in enumerate(([0, 10], [5, 1000], [5, 100]))]
    table = pd.DataFrame(rows).assign(arm=EARLY, final=True, status="finished")
    points = tails_pictures.count_lines(table)
    assert points[["x", "n"]].to_numpy().tolist() == [[1.0, 3]]
    assert points["mean"].item() == pytest.approx(100)
    assert 0 < points["low"].item() < 100 < points["high"].item()
