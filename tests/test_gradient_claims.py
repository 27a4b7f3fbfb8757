"""The judges of the gradient claims on tables that obey, break and under-decide them."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from repro import gradients
from repro.claims import gradient_competition as competition
from repro.spec import Outcome, Scale
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
        (OBEYS, Outcome.REPRODUCED, "sum, frozen, one batch"),
        (norm_table({ALL: -0.5 + 1}, {ALL: RISING}), Outcome.REPRODUCED, "sum, moving, accumulated"),
        (norm_table({ALL: 0.5 + 1}, {ALL: RISING}), Outcome.REPRODUCED, "mean, moving, accumulated"),
        (SPLIT, Outcome.CONDITIONAL, "no reading supports all three"),
        (BREAKS, Outcome.NOT_REPRODUCED, "spread more"),
        (NO_ROOT, Outcome.NOT_REPRODUCED, "√B"),
        (norm_table({ONE: ROOT}, {ONE: RISING}, seeds=2), Outcome.INCONCLUSIVE, "Too few seeds: 2 early, 2 late"),
        (norm_table({ONE: ROOT}, {ONE: RISING}, sd=0.2), Outcome.INCONCLUSIVE, "not settled"),
        (norm_table({ONE: ROOT}, {ONE: RISING}, arms=(EARLY,)), Outcome.INCONCLUSIVE, "0 late"),
        (OBEYS.assign(status="diverged"), Outcome.INCONCLUSIVE, "0 early"),
        (OBEYS.drop(columns="drawn_batch_size"), Outcome.INCONCLUSIVE, "0 early"),
        (OBEYS.iloc[:0], Outcome.INCONCLUSIVE, "Too few"),
        (pd.DataFrame({"key": []}), Outcome.INCONCLUSIVE, "Too few"),
    ],
)
def test_competition_judge(table, outcome, says):
    verdict = competition.judge(table)
    assert verdict.outcome == outcome, verdict
    assert says in verdict.reason and verdict.reason.endswith(".")
    assert competition.judge(table.sample(frac=1, random_state=1)) == verdict


def test_competition_needs_both_points():
    """Early alone is not enough: what one point of training shows, the other must."""
    early, late = norm_table({ONE: ROOT}, {ONE: RISING}, arms=(EARLY,)), norm_table({ONE: 0.8}, {}, arms=(LATE,))
    verdict = competition.judge(pd.concat([early, late], ignore_index=True))
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
    parts = competition.judge(table).parts
    assert " ".join(part.outcome for part in parts.values()) == outcomes
    assert list(parts) == [s.text for s in competition.SENTENCES]


def test_both_ends_must_move():
    """A longer upper tail alone is not larger and smaller values."""
    table = OBEYS.copy()
    for column in ("mean", "low"):
        assert f"{column}_frozen_single" in table
    below = [(np.asarray(mean) * 0.9).tolist() for mean in table["mean_frozen_single"]]
    table["low_frozen_single"] = below
    parts = competition.judge(table).parts
    assert parts[competition.SPREAD.text].outcome == Outcome.CONDITIONAL
    assert parts[competition.BOTH_ENDS.text].outcome == Outcome.NOT_REPRODUCED


@pytest.mark.parametrize("slope", [0.39, 0.61])
def test_the_band_of_root_b_has_edges(slope):
    inside = 0.4 + 0.02 if slope < 0.5 else 0.6 - 0.02
    at = {
        s: competition.judge(norm_table({ONE: s}, {}, sd=0.002)).parts[competition.ROOT.text] for s in (slope, inside)
    }
    assert at[slope].outcome == Outcome.NOT_REPRODUCED
    assert at[inside].outcome == Outcome.CONDITIONAL
    unsettled = competition.judge(norm_table({ONE: slope}, {}, sd=0.05)).parts[competition.ROOT.text]
    assert unsettled.outcome == Outcome.INCONCLUSIVE


def test_reductions_differ_by_one_in_slope_and_not_in_spread():
    effects = competition.judge(SPLIT).parts[competition.ROOT.text].effects
    for name, estimate in effects.items():
        if ", sum, " in name:
            mean = effects[name.replace(", sum, ", ", mean, ")]
            assert estimate.value - mean.value == pytest.approx(1)
            assert estimate.n == 5


def test_bends_are_found_by_both_ways():
    effects = competition.judge(OBEYS).effects
    for arm in (EARLY, LATE):
        direct = effects[f"B_simple, of the examples' gradients, {arm}"]
        assert direct.value == pytest.approx(500)
        # the table has no correction for drawing without replacement
        assert effects[f"B_simple, fitted to the norms, {arm}"].value == pytest.approx(500, rel=0.02)


def test_dots_are_what_the_judge_weighs():
    verdict = competition.judge(SPLIT)
    for dots, sentence, what in (
        (competition.norm_dots, competition.ROOT, "slope of the mean norm"),
        (competition.spread_dots, competition.SPREAD, "slope of the CV"),
    ):
        points, effects = dots(SPLIT), verdict.parts[sentence.text].effects
        assert len(points) == len(effects)
        for dot in points.itertuples():
            effect = effects[f"{what}, {dot.name}, {dot.series.removesuffix(' in training')}"]
            assert (dot.mean, dot.low, dot.high, dot.n) == (effect.value, effect.low, effect.high, effect.n)
    assert "In 1 of 8 readings" in competition.norm_title(SPLIT)
    assert "in 1 of 4 readings:\nmoving, accumulated" in competition.spread_title(SPLIT)
    assert "in 0 of 4 readings" in competition.spread_title(BREAKS)


@pytest.mark.parametrize(
    "settings", [s for scale in Scale for s in competition.SETTINGS[scale]], ids=lambda s: s["dataset"]
)
def test_competition_design(settings):
    sweeps = {sweep.name: sweep.trials() for sweep in competition.design(settings)}
    assert list(sweeps) == [EARLY, LATE]
    for early, late in zip(sweeps[EARLY], sweeps[LATE], strict=True):
        assert dataclasses.replace(early, epochs=late.epochs) == late
        assert early.epochs < late.epochs and early.final_probes == ("gradient_norms", "gradient_tails")
    assert len(sweeps[EARLY]) == settings["seeds"]
