"""The claim on sharp minima: tables that obey, break and under-decide it, and each control deciding once."""

import dataclasses
import math
import re

import numpy as np
import pandas as pd
import pytest

from repro import claims
from repro.claims.sharp_minima import experiment as sharp
from repro.claims.sharp_minima import figures as sharp_figures
from repro.claims.sharp_minima import judgement as weigh
from repro.evidence.spec import Outcome, Scale
from repro.evidence.tables import BESIDE, MET, MISSED, TOO_WIDE, compare
from repro.trial import Trial

CLAIM = claims.get("sharp-minima")
BASE = Trial(dataset="mnist", model="f1", optimizer="adam", lr=1e-3, batch_size=256, epochs=10)
RATES = (5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)
SHARP = 2.0  # decades: the published distance, or so
RATIO = {sharp.TRAINED_ON: SHARP, sharp.TUNED: SHARP, sharp.MATCHED: SHARP, sharp.EQUAL_STEPS: SHARP}


def rows(arm, seeds, decades, error=2.0, loss=1e-3, noise=0.04, status="finished", **fields):
    """A final row a seed. φ and the test error share their luck within an arm only as far as both say."""
    out = []
    for seed in range(seeds):
        trial = dataclasses.replace(BASE, init_seed=seed, data_seed=seed, **fields)
        luck = (0, 1, -1, 0.5, -0.5)[seed] * (1 + sum(map(ord, arm)) % 3) / 2  # none on average
        out.append(
            {
                **dataclasses.asdict(trial),
                "arm": arm,
                "key": trial.key,
                "status": status,
                "final": True,
                "step": trial.num_steps,
                "sharpness": 10 ** (decades + noise * luck),
                "sharpness_scale_free": 10 ** (decades + noise * luck + 0.1),
                "test_accuracy": 1 - error / 100 - 1e-4 * math.cos(3 * seed),
                "validation_accuracy": 0.97,
                "train_loss": loss,
            }
        )
    return pd.DataFrame(out)


def table(
    published=SHARP,
    searched=None,
    ratios=RATIO,
    seeds=5,
    few=3,
    noise=0.04,
    best=2e-3,
    losses=(3e-3, 1e-3),
    rescaled=3.0,
    outputs=0.0,
):
    """Small-batch φ of 1. `published` and `ratios`: decades of the large batch above it; `best`: the learning rate of
    best validation accuracy; `losses`: training loss at 5 and 10 epochs, the small batch having 0.003."""
    split = {"batch_size": 6000, "evaluate_on": "both"}
    grid = []
    for lr in RATES:
        cell = rows(sharp.LEARNING_RATES, few, ratios[sharp.TUNED], 2.1, noise=noise, lr=lr, **split)
        grid.append(cell.assign(validation_accuracy=0.98 - 0.001 * abs(math.log2(lr / best))))
    plain = rows(sharp.RESCALED, few, 0.5, noise=noise, model="mlp", widths=(512,) * 5)
    steps = {"batch_size": 6000, "epochs": None, "steps": BASE.num_steps}
    large = rows(sharp.LARGE, seeds, published, 2.2, loss=losses[1], noise=noise, batch_size=6000)
    if searched is not None:
        large["sharpness_scale_free"] = large["sharpness"] * 10 ** (searched - published + 0.1)
    anew = []
    for arm, ratio, fields in (
        (sharp.SMALL_ANEW, 0.0, {}),
        (sharp.LARGE_ANEW, published, {"batch_size": 6000}),
        (sharp.SMALL_ON_ANEW, 0.0, {"epochs": 100}),
        (sharp.LARGE_ON_ANEW, published, {"batch_size": 6000, "epochs": 100}),
    ):
        of = rows(arm, few, ratio, noise=noise, final_probes=(sharp.ANEW_PROBE,), **fields)
        anew.append(of.assign(sharpness_anew=of["sharpness"], sharpness=np.nan, sharpness_scale_free=np.nan))
    parts = [
        *anew,
        rows(sharp.SMALL, seeds, 0.0, loss=3e-3, noise=noise),
        large,
        rows(sharp.SMALL_ON, few, 0.0, 1.9, noise=noise, epochs=100),
        rows(sharp.LARGE_ON, few, ratios[sharp.TRAINED_ON], 2.1, noise=noise, epochs=100, batch_size=6000),
        rows(sharp.SMALL_SPLIT, few, 0.0, noise=noise, evaluate_on="both"),
        *grid,
        rows(sharp.OTHER_EPOCHS, few, ratios[sharp.MATCHED], 2.3, losses[0], noise, batch_size=6000, epochs=5),
        rows(sharp.STEPS, few, ratios[sharp.EQUAL_STEPS], 2.4, noise=noise, **steps),
        plain.assign(sharpness_rescaled=plain["sharpness"] * 10**rescaled, rescaling_difference=outputs),
    ]
    return pd.concat(parts, ignore_index=True)


def without(*arms):
    return table()[lambda t: ~t["arm"].isin(arms)]


def diverged(arm):
    whole = table()
    return whole.assign(status=np.where(whole["arm"] == arm, "diverged", "finished"))


@pytest.mark.parametrize(
    ("made", "outcome"),
    [
        (table(), Outcome.REPRODUCED),  # obeys
        (table(published=0.0), Outcome.NOT_REPRODUCED),  # breaks: the same, inside a factor of 2
        (table(published=-1.0), Outcome.NOT_REPRODUCED),  # breaks: flatter
        (table(searched=0.0), Outcome.CONDITIONAL),  # each control decides once
        (table(ratios={**RATIO, sharp.TRAINED_ON: 0.0}), Outcome.CONDITIONAL),
        (table(ratios={**RATIO, sharp.TUNED: 0.0}), Outcome.CONDITIONAL),
        (table(ratios={**RATIO, sharp.MATCHED: 0.0}), Outcome.CONDITIONAL),
        (table(ratios={**RATIO, sharp.EQUAL_STEPS: 0.0}), Outcome.CONDITIONAL),
        (table(ratios={**RATIO, sharp.EQUAL_STEPS: -1.0}), Outcome.CONDITIONAL),
        (table(seeds=2, few=2), Outcome.INCONCLUSIVE),  # too small
        (table(few=2), Outcome.INCONCLUSIVE),
        (table(published=0.4, noise=2.0), Outcome.INCONCLUSIVE),  # too noisy
        (table(best=RATES[-1]), Outcome.INCONCLUSIVE),  # the tuned rate on an edge
        (table(best=RATES[0]), Outcome.INCONCLUSIVE),
        (table(losses=(3e-2, 3e-4)), Outcome.INCONCLUSIVE),  # no budget matches the loss
        (table(best=RATES[-1], ratios={**RATIO, sharp.EQUAL_STEPS: 0.0}), Outcome.CONDITIONAL),  # another decides
        (without(sharp.SMALL), Outcome.INCONCLUSIVE),
        (without(sharp.LARGE), Outcome.INCONCLUSIVE),
        (without(sharp.STEPS), Outcome.INCONCLUSIVE),
        (without(sharp.LARGE_ON), Outcome.INCONCLUSIVE),
        (without(sharp.LEARNING_RATES, sharp.SMALL_SPLIT), Outcome.INCONCLUSIVE),
        (without(sharp.SMALL_SPLIT), Outcome.INCONCLUSIVE),
        (without(sharp.RESCALED), Outcome.REPRODUCED),
        (diverged(sharp.LARGE), Outcome.INCONCLUSIVE),
        (diverged(sharp.STEPS), Outcome.INCONCLUSIVE),
        (table().drop(columns="sharpness"), Outcome.INCONCLUSIVE),
        (table().drop(columns="sharpness_scale_free"), Outcome.INCONCLUSIVE),
        (table().iloc[:1], Outcome.INCONCLUSIVE),
        (pd.DataFrame({"key": [], "arm": []}), Outcome.INCONCLUSIVE),
        (pd.DataFrame({"key": []}), Outcome.INCONCLUSIVE),
    ],
)
def test_judge(made, outcome):
    verdict = weigh.judge(made)
    assert verdict.outcome == outcome, verdict.reason
    assert verdict.reason.endswith(".")


def test_the_verdict_carries_its_evidence():
    verdict = weigh.judge(table())
    effect = verdict.parts[weigh.AS_PUBLISHED].effects[weigh.PHI]
    assert effect.n == 5 and effect.low < 10**SHARP < effect.high and effect.unit.log
    worse = verdict.parts[weigh.AS_PUBLISHED].effects["test error"]  # large minus small
    assert worse.value == pytest.approx(0.2) and worse.unit.symbol == "points"
    fair = verdict.parts[weigh.AT_FAIR_BUDGETS]
    assert [e.n for name, e in fair.effects.items() if name.startswith("φ")] == [5, 3, 3, 3, 3]
    assert all(told in fair.reason for told in ("lr 0.002", "after 5 epochs", "trained on (100 epochs)"))


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (table(), r"^Yes: B = 6000 ends 100 times \(9\d to 1\d\d\) as sharp as B = 256, and is sharper at every"),
        (table(searched=0.0), r"^As published, yes: .*By a scale-free search, not at equal epochs\. "),
        (table(ratios={**RATIO, sharp.TUNED: 0.0}), "not with its learning rate tuned"),
        (table(ratios=dict.fromkeys(RATIO, 0.0), searched=0.0), "not in 5 of 5 comparisons"),
        (table(published=0.0), r"^No: B = 6000 ends 1\.00 times"),
        (table(published=0.4, noise=2.0), "^Not settled: B = 6000 ends"),
        (table(best=RATES[-1]), r"^As published, yes: .*At fair budgets it is not settled\."),
        (table(seeds=2, few=2), "^Not settled: too few pairs"),
        (without(sharp.SMALL), "^Not settled: too few pairs"),
        (pd.DataFrame({"key": []}), "^Not settled: too few pairs"),
    ],
)
def test_answer(made, says):
    told = weigh.answer(made, weigh.judge(made))
    assert re.search(says, told) and told.endswith(".") and len(told) <= 230, (len(told), told)


@pytest.mark.parametrize(
    ("slopes", "says"),
    [
        ((1.0, 1.0), r"Sharper runs test worse: over \d+ runs ρ = \+[01]\."),
        ((1.0, 0.0), "Sharper settings test worse, not sharper runs of one"),
        ((-1.0, -1.0), "Sharper runs do not test worse: .*ρ = −"),
        (None, "too few runs to say whether sharp means worse"),
    ],
)
def test_answer_says_whether_sharp_means_worse(slopes, says):
    few = (sharp.STEPS, sharp.OTHER_EPOCHS, sharp.LEARNING_RATES, sharp.LARGE_ON, sharp.SMALL_ON, sharp.SMALL_SPLIT)
    made = predicting(*slopes) if slopes else without(*few)
    told = weigh.answer(made, weigh.judge(made))
    assert re.search(says, told) and len(told) <= 230, told


def test_the_matched_budget_is_the_nearest_training_loss_shorter_or_not():
    for losses, epochs in (((3.1e-3, 1e-3), 5), ((9e-3, 2.5e-3), 10)):
        made = table(losses=losses)
        assert f"after {epochs} epochs" in weigh.matched_budget(sharp.prepared(made)).told


def test_a_learning_rate_that_loses_a_seed_is_not_chosen():
    made = table()
    lost = (made["arm"] == sharp.LEARNING_RATES) & (made["lr"] == 2e-3) & (made["init_seed"] == 1)
    made.loc[lost, "status"] = "diverged"
    assert "lr 0.001" in weigh.tuned_budget(made, sharp.prepared(made)).told or "lr 0.004" in (
        weigh.tuned_budget(made, sharp.prepared(made)).told
    )


# Does φ predict test error?


def predicting(slope, within):
    """Test error (%) that rises by `slope` a decade between arms, and by `within` a decade inside them."""
    made = table(
        noise=0.1, ratios={sharp.TRAINED_ON: 0.7, sharp.TUNED: 0.5, sharp.MATCHED: 1.0, sharp.EQUAL_STEPS: 1.5}
    )
    phi = np.log10(made["sharpness_scale_free"])
    centre = phi.groupby([made["arm"], made["lr"]]).transform("mean")
    errors = 2 + slope * centre + within * (phi - centre) + 1e-3 * np.sin(9 * np.arange(len(made)))
    return made.assign(test_accuracy=1 - errors / 100)


@pytest.mark.parametrize(
    ("made", "outcome"),
    [
        (predicting(1.0, 1.0), Outcome.REPRODUCED),
        (predicting(1.0, 0.0), Outcome.CONDITIONAL),
        (predicting(1.0, -0.5), Outcome.CONDITIONAL),
        (predicting(-1.0, -1.0), Outcome.NOT_REPRODUCED),
        (without(sharp.STEPS, sharp.OTHER_EPOCHS, sharp.LEARNING_RATES, sharp.LARGE_ON), Outcome.INCONCLUSIVE),
        (table(few=1, seeds=1), Outcome.INCONCLUSIVE),
    ],
)
def test_prediction(made, outcome):
    verdict = weigh.judge_prediction(made)
    assert verdict.outcome == outcome, verdict


# The search


def wildly_searched(made):
    """The search of one arm finds a hundred thousand times as much, or nothing more."""
    wild = made["sharpness"] * 10.0 ** np.where(made["init_seed"] == 0, 13, 0)
    return made.assign(sharpness_scale_free=made["sharpness_scale_free"].mask(made["arm"] == sharp.SMALL_ON, wild))


@pytest.mark.parametrize(
    ("made", "outcome"),
    [
        (table(), Outcome.REPRODUCED),
        (table(searched=3.0), Outcome.NOT_REPRODUCED),
        (wildly_searched(table(searched=3.0)), Outcome.NOT_REPRODUCED),  # one arm is sure, another larger but not sure
        (table(few=2), Outcome.INCONCLUSIVE),
        (table().drop(columns="sharpness_scale_free"), Outcome.INCONCLUSIVE),
    ],
)
def test_search(made, outcome):
    verdict = weigh.judge_search(made)
    assert verdict.outcome == outcome, verdict


# Rescaling


@pytest.mark.parametrize(
    ("made", "outcome"),
    [
        (table(rescaled=3.0), Outcome.NOT_REPRODUCED),
        (table(rescaled=0.01), Outcome.REPRODUCED),
        (table(rescaled=np.array([0.25, 0.3, 0.38])), Outcome.INCONCLUSIVE),  # about the factor that counts as the same
        (table(rescaled=3.0, outputs=1e-3), Outcome.INCONCLUSIVE),  # not the same function
        (table(few=2), Outcome.INCONCLUSIVE),
        (without(sharp.RESCALED), Outcome.INCONCLUSIVE),
    ],
)
def test_rescaling(made, outcome):
    verdict = weigh.judge_rescaling(made)
    assert verdict.outcome == outcome, verdict


# Published numbers, design, figures


def having_the_published_numbers(luck):
    """A table in which they differ from seed to seed by about a share of `luck`."""
    made = table()
    for number in CLAIM.published:
        if number.column not in made:
            made[number.column] = np.nan
        here = made["arm"] == number.where["arm"]
        made.loc[here, number.column] = number.value * (1 + luck * np.sin(made["init_seed"]))[here] / number.factor
    return made


def test_the_published_numbers_are_met_by_a_table_that_has_them():
    made = having_the_published_numbers(1e-4)
    assert {c.outcome for c in compare(CLAIM, made)} == {MET, BESIDE}
    assert MISSED in {c.outcome for c in compare(CLAIM, made.assign(sharpness=7.0))}
    assert {c.outcome for c in compare(CLAIM, having_the_published_numbers(0.5))} == {TOO_WIDE, BESIDE}
    assert len(CLAIM.published) == 18 and sum(not n.again for n in CLAIM.published) == 10


def test_fair_budgets_are_what_they_are_called():
    for settings in (s for scale in Scale for s in CLAIM.settings[scale]):
        arms = {sweep.name: sweep.trials() for sweep in sharp.design(settings)}
        assert {t.num_steps for t in arms[sharp.STEPS]} == {t.num_steps for t in arms[sharp.SMALL]}
        assert {t.epochs for t in arms[sharp.LARGE]} == {t.epochs for t in arms[sharp.SMALL]}
        longer = {t.epochs for arm in (sharp.SMALL_ON, sharp.LARGE_ON) for t in arms[arm]}
        assert len(longer) == 1 and min(longer) >= 3 * arms[sharp.SMALL][0].epochs
        assert arms[sharp.LARGE][0].epochs not in {t.epochs for t in arms[sharp.OTHER_EPOCHS]}
        assert {t.num_train for t in arms[sharp.SMALL_SPLIT]} == {t.num_train for t in arms[sharp.LEARNING_RATES]}
        assert all(t.evaluate_on == "both" for t in arms[sharp.LEARNING_RATES])
        anew = {sharp.SMALL_ANEW, sharp.LARGE_ANEW, sharp.SMALL_ON_ANEW, sharp.LARGE_ON_ANEW}
        searched = {
            t.final_probes for arm, ts in arms.items() for t in ts if arm not in {sharp.RESCALED, sharp.SETUPS, *anew}
        }
        assert all(sharp.FREE_PROBE in probes for probes in searched)
        assert {t.final_probes for arm in anew & set(arms) for t in arms[arm]} <= {(sharp.ANEW_PROBE,)}
        both = (sharp.SMALL, sharp.LARGE, sharp.SMALL_ON, sharp.LARGE_ON, sharp.STEPS)
        assert all("sharpness" in t.final_probes for arm in both for t in arms[arm])
        assert BASE.lr in {t.lr for t in arms[sharp.LEARNING_RATES]}
        keys = [t.key for ts in arms.values() for t in ts]
        assert len(keys) == len(set(keys))


def test_the_candidates_for_the_papers_setup():
    arms = {sweep.name: sweep.trials() for sweep in sharp.design(CLAIM.settings[Scale.PAPER][0])}
    told = {(t.preprocessing, t.norm_eps) for t in arms[sharp.SETUPS]}
    assert told == {(pixels, eps) for pixels in ("unit", "standardize") for eps in (1e-6, 1e-5, 1e-3)}
    fields = {
        (t.model, t.optimizer, t.lr, t.init, t.norm_statistics, t.epochs, t.drop_last) for t in arms[sharp.SETUPS]
    }
    assert fields == {("f1", "adam", 0.001, "glorot", "batch", 20.0, False)}
    assert {t.batch_size for t in arms[sharp.SETUPS]} == {256, 6000}
    assert {t.checkpoints for t in arms[sharp.SETUPS]} == {tuple(map(float, range(1, 20)))}


def test_the_papers_large_batch_is_a_tenth_of_the_data():
    main, second = CLAIM.settings[Scale.PAPER]
    assert main["dataset"] == "mnist" and second["dataset"] == "fashion-mnist"
    arms = {sweep.name: sweep.trials() for sweep in sharp.design(main)}
    assert {(t.model, t.optimizer, t.batch_size, t.num_train) for t in arms[sharp.LARGE]} == {
        ("f1", "adam", 6000, 60000)
    }
    assert len(arms[sharp.SMALL]) == len(arms[sharp.LARGE]) == 5
    assert arms[sharp.SMALL][0].partner_batch_size == 6000


def listed(made):
    """With the lists of the lines, and weights that are the larger the smaller φ is."""
    alpha, position = np.linspace(-1, 2, 25).tolist(), np.linspace(-1, 1, 21).tolist()
    lists = {
        "interpolation_alpha": alpha,
        "landscape_position": position,
        "landscape_loss": [1 + p**2 for p in position],
    }
    for split in ("train", "test"):
        lists[f"interpolation_{split}_loss"] = [0.1 + a**2 for a in alpha]
        lists[f"interpolation_{split}_accuracy"] = [0.9 - a**2 / 10 for a in alpha]
    made["weight_norm"] = 100 / made.get("sharpness", pd.Series(1.0, made.index)) ** 0.1
    for name, values in lists.items():
        made[name] = pd.Series([values if arm in (sharp.SMALL, sharp.LARGE) else None for arm in made["arm"]])
    return made


@pytest.mark.parametrize("figure", CLAIM.figures, ids=lambda f: f.id)
def test_figures_draw_what_there_is_and_nothing_where_there_is_nothing(figure):
    from repro.publish.chapter import picture

    drawn = figure.data(listed(table()))
    assert len(drawn) >= 6 and {"mean", "series"} <= set(drawn)
    assert "<figure" in picture(figure, drawn, figure.title(listed(table())), "name")
    assert figure.data(pd.DataFrame({"key": [], "arm": []})).empty
    assert figure.data(table().drop(columns=["sharpness", "sharpness_scale_free"])).empty


def test_titles_say_what_the_intervals_say():
    titles = {figure.id: figure.title(listed(table())) for figure in CLAIM.figures}
    assert titles["comparisons"] == "The large batch is sharper in 6 of 6 comparisons, tests worse in 5 of 5"
    assert re.fullmatch(
        r"As published, φ of the large batch is 100 times \(.* to .*\) the small one's", titles["sharpness"]
    )
    assert re.search(r"ρ = \+0\.\d\d \(.* to .*\)$", titles["prediction"])
    assert titles["interpolation"].startswith("A quarter beyond the large batch the loss is higher")
    assert titles["interpolation-accuracy"] == "Accuracy on the same line"
    assert titles["landscape"] == "Loss along a random direction, in units of the weights' size"  # both alike
    assert titles["weights"].startswith("The larger the weights, the flatter: ρ = −1.00 (")
    alike = listed(table()).assign(weight_norm=lambda rows: rows["sharpness"])
    assert sharp_figures.weight_title(alike).startswith("The larger the weights, the sharper: ρ = +1.00")
    unrelated = alike.assign(weight_norm=np.random.default_rng(1).normal(size=len(alike)))
    assert sharp_figures.weight_title(unrelated).startswith("Sharpness does not surely go with")


def test_comparisons_are_drawn_with_their_intervals_and_those_that_do_not_count_are_not():
    points = sharp_figures.comparison_points(table(searched=0.0)).set_index("series")
    assert points.index[0] == "as published" and len(points) == 6
    assert points.loc["as published", "x_low"] < 10**SHARP < points.loc["as published", "x_high"]
    assert points.loc["as published, scale-free search", "x"] == pytest.approx(1, rel=0.01)
    assert points.loc["tuned", "mean"] == pytest.approx(0.1) and (points["y_none"] == 0).all()
    assert "tuned" not in set(sharp_figures.comparison_points(table(best=RATES[-1]))["series"])  # on an edge
    assert sharp_figures.comparison_points(table(seeds=1, few=1)).empty
    assert "sharper in 5 of 6" in sharp_figures.comparison_title(table(searched=0.0))


def test_any_arm_alone_and_the_whole_without_it_is_answered():
    whole = table()
    for arm in whole["arm"].unique():
        for part in (whole[whole["arm"] == arm], whole[whole["arm"] != arm]):
            told = weigh.answer(part, weigh.judge(part))
            assert told.endswith(".") and len(told) <= 230 and "nan" not in told and "inf" not in told, told
