"""The judges of the gradient claims on tables that obey, break and under-decide them."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
import torch

from repro import claims
from repro.claims.gradient_competition import CLAIM as COMPETITION
from repro.claims.gradient_competition import experiment as competition
from repro.claims.gradient_competition import figures as pictures
from repro.claims.gradient_competition import judgement
from repro.claims.heavy_tails import CLAIM as TAILS
from repro.claims.heavy_tails import figures as tails_pictures
from repro.claims.heavy_tails import judgement as tails_claim
from repro.claims.heavy_tails import readings as tails_readings
from repro.evidence.spec import Outcome, Scale
from repro.measure import moments
from repro.probes import gradients, readings
from repro.publish import chapter
from repro.trial import Trial

SIZES = np.array(gradients.BATCH_SIZES, dtype=float)
EARLY, LATE = competition.EARLY, competition.LATE
ROOT, FLAT, RISING, FALLING = 0.5, 0.0, 0.3, -0.3


def seeded(arm, seed):
    trial = Trial(dataset="mnist", epochs=2 if arm.startswith(EARLY) else 30, init_seed=seed, data_seed=seed)
    row = {"arm": arm, "key": f"{arm} {trial.key}", "trial": trial.to_json(), "dataset": "mnist", "init_seed": seed}
    return row | {"status": "finished", "final": True}


def norm_table(slopes, spreads, seeds=5, sd=0.01, arms=(EARLY, LATE), passes=5):
    """Log-log slopes of the sum-reduced mean norm and of its spread, by (weights, extent); of so many seeds in whose
    trials norms were averaged over a pass."""
    rows = []
    for arm, count in [(arm, seeds) for arm in arms] + [(competition.PASSES[arm], passes) for arm in arms]:
        for seed in range(count):
            luck = sd * (seed - (count - 1) / 2)
            row = {
                **seeded(arm, seed),
                "drawn_batch_size": SIZES.tolist(),
                "mean_square_frozen_single": (SIZES + SIZES**2 / 500).tolist(),
                "square_cv_frozen_single": (1 / SIZES**0.5).tolist(),
                "noise_trace": 1.0,
                "noise_squared_norm": 1 / 500,
            }
            for reading in competition.SUMS:
                if (reading.extent == readings.AVERAGED) != (arm in competition.PASSES.values()):
                    continue
                kind = reading.weights, reading.extent
                mean = 5 * SIZES ** (slopes.get(kind, FLAT) + luck)
                cv = 0.02 * SIZES ** (spreads.get(kind, FLAT) + luck)
                columns = {"mean": mean, "cv": cv, "low": mean * (1 - 1.6 * cv), "high": mean * (1 + 1.7 * cv)}
                row |= {reading.column(name): values.tolist() for name, values in columns.items()}
            rows.append(row)
    return pd.DataFrame(rows)


ONE, ALL, AVERAGED = ("frozen", "single"), ("moving", "accumulated"), ("frozen", "averaged")
OBEYS = norm_table({ONE: ROOT}, {ONE: RISING})
SPLIT = norm_table({ONE: ROOT}, {ONE: FALLING, ALL: RISING})
BREAKS = norm_table({ONE: ROOT}, {ONE: FALLING})
NO_ROOT = norm_table({ONE: 0.9}, {ONE: RISING})
# all three sentences hold in averages over a pass: with one batch alone too, without, and of too few networks
AVERAGES_STAND = norm_table({AVERAGED: ROOT}, {AVERAGED: RISING, ONE: RISING})
AVERAGES_FALL = norm_table({ONE: ROOT, AVERAGED: ROOT}, {AVERAGED: RISING, ONE: FALLING, ALL: RISING})
AVERAGES_FEW = norm_table({ONE: ROOT, AVERAGED: ROOT}, {AVERAGED: RISING, ONE: FALLING, ALL: RISING}, passes=2)


@pytest.mark.parametrize(
    ("table", "outcome", "says"),
    [
        (OBEYS, Outcome.REPRODUCED, "sum · frozen · one batch"),
        (lambda: norm_table({ALL: -0.5 + 1}, {ALL: RISING}), Outcome.REPRODUCED, "sum · moving · accumulated"),
        (lambda: norm_table({ALL: 0.5 + 1}, {ALL: RISING}), Outcome.REPRODUCED, "mean · moving · accumulated"),
        (SPLIT, Outcome.CONDITIONAL, "No way gives all three"),
        (AVERAGES_STAND, Outcome.REPRODUCED, "sum · frozen · averaged"),
        (AVERAGES_FALL, Outcome.CONDITIONAL, "of as many norms, they do not"),
        (
            AVERAGES_FEW,
            Outcome.CONDITIONAL,
            "averaged over a pass are yet to be measured on enough networks (2 early, 2 late)",
        ),
        (lambda: norm_table({ONE: ROOT}, {ONE: FALLING}, passes=2), Outcome.INCONCLUSIVE, "Too uncertain"),
        (
            lambda: norm_table({AVERAGED: ROOT}, {AVERAGED: RISING, ONE: 0.05, ALL: RISING}),
            Outcome.INCONCLUSIVE,
            "Too uncer",
        ),
        (BREAKS, Outcome.NOT_REPRODUCED, "spread more"),
        (NO_ROOT, Outcome.NOT_REPRODUCED, "√B"),
        (
            lambda: norm_table({ONE: ROOT}, {ONE: RISING}, seeds=2),
            Outcome.INCONCLUSIVE,
            "Too few seeds: 2 early, 2 late",
        ),
        (lambda: norm_table({ONE: ROOT}, {ONE: RISING}, sd=0.2), Outcome.INCONCLUSIVE, "Too uncertain"),
        (lambda: norm_table({ONE: ROOT}, {ONE: RISING}, arms=(EARLY,)), Outcome.INCONCLUSIVE, "0 late"),
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
    early, late = norm_table({ONE: ROOT}, {ONE: RISING}, arms=(EARLY,)), norm_table({ONE: 0.9}, {}, arms=(LATE,))
    verdict = judgement.judge(pd.concat([early, late], ignore_index=True))
    assert verdict.outcome == Outcome.CONDITIONAL
    assert all("(early)" in part.reason for part in verdict.parts.values())


@pytest.mark.parametrize(
    ("table", "outcomes"),
    [
        (OBEYS, "conditional conditional conditional"),
        (BREAKS, "conditional not reproduced not reproduced"),
        (NO_ROOT, "not reproduced conditional conditional"),
        (lambda: norm_table({}, {(r.weights, r.extent): RISING for r in competition.SUMS}),
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
    table["low_frozen_single"] = [
        (np.asarray(mean) * 0.9).tolist() if np.ndim(mean) else mean for mean in table["mean_frozen_single"]
    ]
    parts = judgement.judge(table).parts
    assert parts[competition.SPREAD.text].outcome == Outcome.CONDITIONAL
    assert parts[competition.BOTH_ENDS.text].outcome == Outcome.NOT_REPRODUCED


@pytest.mark.parametrize("slope", [0.24, 0.76])
def test_the_band_of_root_b_ends_half_way_to_no_growth_and_to_proportion(slope):
    inside = 0.25 + 0.02 if slope < 0.5 else 0.75 - 0.02
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
    assert (
        pictures.norm_title(AVERAGES_FALL) == "Only the summed gradient of one batch surely grows as √B, early and late"
    )
    assert pictures.norm_title(norm_table({ALL: ROOT}, {})).endswith("read as: sum · moving · accumulated")
    assert pictures.norm_title(NO_ROOT).startswith("In no reading")
    assert pictures.spread_title(SPLIT).endswith("one reading alone: moving · accumulated")
    assert pictures.spread_title(AVERAGES_FALL).endswith("over whole passes, but not batch by batch")
    assert pictures.spread_title(AVERAGES_STAND).startswith("Larger batches spread more in several readings")
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
        (AVERAGES_FALL, r"^Yes, .* hold only for norms averaged over a pass, where larger batches average fewer\.$"),
        (AVERAGES_FEW, r"^Yes, .* No way of reading the post tried so far gives all three of its findings\.$"),
        (NO_ROOT, r"^No, .* the power 0\.90 .* No way of reading the post gives norms that grow as √B\.$"),
        (
            lambda: norm_table({ONE: 0.6}, {ONE: FALLING, ALL: RISING}),
            r"^Nearly, .* the power 0\.60 .* No way of reading",
        ),
        (
            lambda: norm_table({ONE: ROOT}, {ONE: RISING}, sd=0.2),
            r"^Not settled, .* the power 0\.50 .* is not settled\.$",
        ),
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
    passes = competition.PASSES
    assert list(sweeps) == [EARLY, LATE, passes[EARLY], passes[LATE]]
    for early, late in zip(sweeps[EARLY], sweeps[LATE], strict=True):
        assert dataclasses.replace(early, epochs=late.epochs) == late
        assert early.epochs < late.epochs and early.final_probes == ("gradient norms", "gradient tails")
    for arm in (EARLY, LATE):  # the same networks again
        again = [dataclasses.replace(trial, final_probes=("gradient passes",)) for trial in sweeps[arm]]
        assert sweeps[passes[arm]] == again
    assert len(sweeps[EARLY]) == settings["seeds"]


def test_what_was_recorded_before_norms_were_averaged_keeps_its_key():
    """The early and late arms of seed 0 on MNIST, as recorded."""
    trials = {sweep.name: sweep.trials()[0].key for sweep in COMPETITION.sweeps(Scale.PAPER)}
    assert (trials[EARLY], trials[LATE]) == ("c399f68f69ae8dec6917", "84a266a518d67508ad94")


def tail_table(
    pooled=-2.0, draws=-3.0, coordinates=-3.0, moving=(-3.0, -3.0), sums=5.0, means=-1.0, alpha=0.0,
    seeds=5, sd=0.05, arms=(EARLY, LATE), late=None, passes=5,
):  # fmt: skip
    """How much each measure beyond its surrogate changes from B=2 to 1024, across draws and across coordinates; the
    logarithm of the pooled kurtosis, 60 at B=2; kurtosis of moving weights, one batch and accumulated, of so many seeds
    in `passes`; log₁₀ of large values; and α̂ minus that of the surrogate at large B. `late` changes all this for late
    in training."""
    rows = []
    along = np.log(SIZES / 2) / np.log(512)  # 0 at B=2, 1 at 1024
    for arm, seed in [(arm, seed) for arm in arms for seed in range(passes)]:
        row = {**seeded(competition.PASSES[arm], seed), "tail_batch_size": SIZES.tolist()}
        change = (late or {}).get("moving", moving) if arm == LATE else moving
        for extent, grown in zip(tails_claim.MOVING, change, strict=True):
            luck = sd * (seed - (passes - 1) / 2)
            for axis in ("pooled", tails_readings.DRAWS):
                row[f"kurtosis_{axis}_moving_{extent}"] = (5 + (grown + luck) * along).tolist()
        rows.append(row)
    for arm in arms:
        given = {"pooled": pooled, "draws": draws, "coordinates": coordinates}
        given |= {"sums": sums, "means": means, "alpha": alpha, **((late or {}) if arm == LATE else {})}
        for seed in range(seeds):
            luck = sd * (seed - (seeds - 1) / 2)
            row = {**seeded(arm, seed), "tail_batch_size": SIZES.tolist()}
            # all values but a share are zero, and that share of one size: their kurtosis is its inverse
            share = np.exp(-(given["pooled"] + luck) * along) / 60
            row |= {"magnitude_batch_size": SIZES.tolist(), "magnitude_x": np.ones(len(SIZES)).tolist()}
            row["magnitude_y"] = (share * 1000 * 10_240).tolist()
            row |= {"large_values_sum": given["sums"] + luck, "large_values_mean": given["means"] + luck}
            for axis in tails_readings.DRAWS, tails_readings.COORDINATES:
                for measure in tails_readings.MEASURES.values():
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
        (
            lambda: tail_table(pooled=1, coordinates=3, moving=(3, 3)),
            Outcome.REPRODUCED,
            "heavier tails, pooled as in the",
        ),
        (
            lambda: tail_table(pooled=1, coordinates=3),
            Outcome.CONDITIONAL,
            "with moving weights it is the other way round in ",
        ),
        (lambda: tail_table(), Outcome.NOT_REPRODUCED, "scale, not shape"),
        (lambda: tail_table(sums=1.0), Outcome.NOT_REPRODUCED, "not many more large values either"),
        (lambda: tail_table(sums=5.0, means=5.0), Outcome.NOT_REPRODUCED, "summed or averaged"),
        (lambda: tail_table(draws=3), Outcome.NOT_REPRODUCED, "scale, not shape."),  # draws decide nothing
        (lambda: tail_table(), Outcome.NOT_REPRODUCED, "central limit theorem demands of any sum"),
        (lambda: tail_table(pooled=1), Outcome.CONDITIONAL, "disagree"),
        (lambda: tail_table(coordinates=3), Outcome.CONDITIONAL, "disagree"),
        (lambda: tail_table(late={"pooled": 1.0}), Outcome.CONDITIONAL, "disagree"),
        (lambda: tail_table(moving=(-3, 3)), Outcome.CONDITIONAL, "with moving weights it is the other way round in "),
        (lambda: tail_table(moving=(3, 3), passes=2), Outcome.NOT_REPRODUCED, "lighter tails, pooled"),
        (lambda: tail_table(pooled=0.0, sd=0.5), Outcome.INCONCLUSIVE, "not settled"),
        (lambda: tail_table(seeds=2), Outcome.INCONCLUSIVE, "Too few seeds: 2 early, 2 late"),
        (lambda: tail_table(arms=(LATE,)), Outcome.INCONCLUSIVE, "0 early"),
        (lambda: tail_table().assign(status="diverged"), Outcome.INCONCLUSIVE, "Too few"),
        (lambda: tail_table().drop(columns="tail_batch_size"), Outcome.INCONCLUSIVE, "Too few"),
        (lambda: tail_table().iloc[:0], Outcome.INCONCLUSIVE, "Too few"),
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
        (lambda: tail_table(sums=5, means=5), tails_claim.COUNTS, Outcome.REPRODUCED),
        (lambda: tail_table(sums=5, means=-1), tails_claim.COUNTS, Outcome.CONDITIONAL),  # the reduction decides
        (lambda: tail_table(sums=2, means=-1), tails_claim.COUNTS, Outcome.NOT_REPRODUCED),
        (lambda: tail_table(sums=5, means=-1, late={"sums": 2}), tails_claim.COUNTS, Outcome.INCONCLUSIVE),
        (lambda: tail_table(sums=3, sd=1), tails_claim.COUNTS, Outcome.INCONCLUSIVE),
        (lambda: tail_table(pooled=1), tails_claim.POOLED, Outcome.REPRODUCED),
        (lambda: tail_table(), tails_claim.POOLED, Outcome.NOT_REPRODUCED),
        (lambda: tail_table(late={"pooled": 1.0}), tails_claim.POOLED, Outcome.CONDITIONAL),
        (lambda: tail_table(late={"pooled": 0.0}), tails_claim.POOLED, Outcome.INCONCLUSIVE),
        (lambda: tail_table(moving=(3, -3)), tails_claim.MOVING["single"], Outcome.REPRODUCED),
        (lambda: tail_table(moving=(3, -3)), tails_claim.MOVING["accumulated"], Outcome.NOT_REPRODUCED),
        (
            lambda: tail_table(moving=(3, 3), late={"moving": (-3, 0)}),
            tails_claim.MOVING["single"],
            Outcome.CONDITIONAL,
        ),
        (
            lambda: tail_table(moving=(3, 3), late={"moving": (-3, 0)}),
            tails_claim.MOVING["accumulated"],
            Outcome.INCONCLUSIVE,
        ),
        (lambda: tail_table(passes=2), tails_claim.MOVING["single"], Outcome.INCONCLUSIVE),
        (lambda: tail_table(draws=3), tails_claim.ACROSS_DRAWS, Outcome.REPRODUCED),
        (lambda: tail_table(draws=-3), tails_claim.ACROSS_DRAWS, Outcome.NOT_REPRODUCED),
        (lambda: tail_table(draws=3, late={"draws": -3}), tails_claim.ACROSS_DRAWS, Outcome.CONDITIONAL),
        (lambda: tail_table(draws=3, late={"draws": 0}), tails_claim.ACROSS_DRAWS, Outcome.INCONCLUSIVE),
        (lambda: tail_table(alpha=0.0), tails_claim.STABLE, Outcome.NOT_REPRODUCED),  # below 2, as its surrogate is
        (lambda: tail_table(alpha=0.5), tails_claim.STABLE, Outcome.NOT_REPRODUCED),
        (
            lambda: tail_table(alpha=-0.3),
            tails_claim.STABLE,
            Outcome.NOT_REPRODUCED,
        ),  # nearer to its surrogate than that to 2
        (lambda: tail_table(alpha=-0.8), tails_claim.STABLE, Outcome.REPRODUCED),
        (lambda: tail_table(alpha=-0.8, late={"alpha": 0.0}), tails_claim.STABLE, Outcome.CONDITIONAL),
        (lambda: tail_table(alpha=1 / 0.65 - 2), tails_claim.STABLE, Outcome.INCONCLUSIVE),  # half-way
    ],
)
def test_tails_judges_each_part_apart(table, part, outcome):
    assert tails_claim.judge(table).parts[part].outcome == outcome


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (
            tail_table(pooled=1, coordinates=3, moving=(3, 3)),
            r"^Yes\. .* rises from 59 \(.* at B = 2 to 16\d\.\d \(.* B = 1024",
        ),
        (
            lambda: tail_table(),
            r"^No, lighter: .* falls from 59 \(.* at B = 2 to 8\.0 \(.* at B = 1024.* scale, not shape\.$",
        ),
        (lambda: tail_table(means=5.0), r"^No, lighter: .* nearer to a Gaussian\..* early in training\.$"),
        (lambda: tail_table(pooled=1), r"^It depends .* rises from 59 \("),
        (lambda: tail_table(pooled=0.0, sd=0.5), r"^Not settled\. .* goes from 59 \("),
        (lambda: tail_table(seeds=2), r"^Not settled: too few networks .* \(2 early in training, 2 late\)\.$"),
        (lambda: tail_table(arms=(LATE,)), r"^Not settled: too few networks .* \(0 early in training, 5 late\)\.$"),
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


def test_the_pooled_figure_stands_beside_gaussian_values_of_the_same_scales():
    drawn = tails_pictures.pooled_curves(tail_table())
    assert list(dict.fromkeys(drawn["series"])) == [
        "measured, early",
        "measured, late",
        "Gaussian, early",
        "Gaussian, late",
    ]
    ends = drawn[drawn["series"] == "measured, early"]["mean"].iloc[[0, -1]].tolist()
    assert ends == pytest.approx([60, 60 * np.exp(-2)], rel=0.03)
    for pooled, says in ((-1.0, "lighter"), (1.0, "heavier"), (0.0, "by batch size")):
        assert says in tails_pictures.pooled_title(tail_table(pooled=pooled, sd=0.2))


@pytest.mark.parametrize(("law", "expected"), [("normal", 3.0), ("laplace", 6.0), ("uniform", 1.8)])
def test_pooled_kurtosis_is_that_of_the_values_counted(law, expected):
    """Of a million values of known law, by their magnitudes in bins of a tenth of a decade."""
    rng = np.random.default_rng(0)
    values = rng.uniform(-1, 1, 1_024_000) if law == "uniform" else getattr(rng, law)(size=1_024_000)
    edges = gradients.MAGNITUDE_EDGES
    counts = moments.Histogram.of(torch.from_numpy(np.abs(values)), edges).counts[1:-1].tolist()
    centres = (edges[:-1] * edges[1:]).sqrt().tolist()
    flat = {"magnitude_batch_size": [2.0] * len(counts), "magnitude_x": centres, "magnitude_y": counts}
    found = readings.pooled_kurtosis({**flat, "trial": Trial(epochs=1, draws=100).to_json()})
    assert found[2.0] == pytest.approx(expected, rel=0.02 if law != "uniform" else 0.05)


def test_excess_kurtosis_of_sums_falls_as_one_over_b():
    table = tail_table()
    table["kurtosis_draws"] = [(40 / SIZES).tolist() if np.ndim(k) else k for k in table["kurtosis_draws"]]
    effects = tails_claim.judge(table).parts[tails_claim.ACROSS_DRAWS].effects
    assert effects["power of B, early"].value == pytest.approx(-1)


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
    for measure, axis in [(m, a) for m in tails_readings.MEASURES.values() for a in ("draws", "coordinates")]:
        table[f"{measure}_{axis}_surrogate"] = table[f"{measure}_{axis}"]
    parts = tails_claim.judge(table).parts
    assert parts[tails_claim.ACROSS_DRAWS].outcome == Outcome.INCONCLUSIVE  # no difference at all
    assert parts[tails_claim.ACROSS_COORDINATES].outcome == Outcome.INCONCLUSIVE
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
