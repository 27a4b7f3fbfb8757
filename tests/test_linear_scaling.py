"""Linear scaling: its judges on tables that obey, break and under-decide it, and the measures it rests on."""

import dataclasses
import itertools
import math

import numpy as np
import pandas as pd
import pytest

from repro.claims.linear_scaling import curves, figures, judgement, readings
from repro.claims.linear_scaling import experiment as plan
from repro.claims.linear_scaling.answer import answer
from repro.evidence import tuning
from repro.evidence.intervals import Estimate
from repro.evidence.spec import Outcome, Scale
from repro.trial import Trial

SIZES = tuple(2**k for k in range(10))
FEW = SIZES[:8]
BASE = Trial(dataset="mnist", epochs=3, evaluate_on="both")


def scaling_table(
    power=1.0,
    knee=None,
    law=None,
    seeds=5,
    sd=0.02,
    sizes=SIZES,
    first=None,
    held=None,
    adam=0.5,
    malladi=0.5,
    warm=0.01,
    apart=0.0,
    diverged_above=None,
    rough=0.0,
    exact=1.0,
    wavers=(),
    shift=0.0,
):
    """Trials whose best learning rate goes as B to `power`, up to the knee if any, or as 1/(1 + `law`/B).
    Read an epoch earlier it goes as B to `first`; by held-out loss, as B to `held`. All losses rise with the square of
    the distance from the best, in octaves, which differs by `sd` from run to run; `warm` is what warm-up gains; curves
    of scaled runs are `apart`, and those of one batch size differ from seed to seed by `rough` in the logarithm. The
    best of each size is off its law by an octave to each of `wavers`; the grids lie `shift` octaves too high."""
    rng = np.random.default_rng(3)
    out = []

    def add(arm, size, best, early=None, held_out=None, gain=0.0):
        middle = round(2 * math.log2(best)) / 2 + shift
        for lr in 2.0 ** (middle + np.arange(-6, 7) / 2):
            for seed in range(seeds):
                trial = dataclasses.replace(BASE, batch_size=size, lr=float(lr), init_seed=seed, data_seed=seed)
                wrong = rng.normal(0, sd)
                off, first_off, held_off = (
                    (np.log2(lr / rate) + wrong) ** 2 for rate in (best, early or best, held_out or best)
                )
                status = "diverged" if diverged_above and lr > diverged_above else "finished"
                own = np.exp(rough * np.cos(seed + size)) * (size / sizes[0]) ** apart
                for epoch in (1.0, *plan.READ, 3.0):
                    measures = {
                        "train_loss": own / epoch * (1 + 0.1 * (first_off if epoch == 1 else off)),
                        "validation_loss": 0.1 + 0.01 * held_off,
                        "validation_accuracy": 0.98 - 0.002 * held_off,
                        "test_accuracy": 0.98 + gain - 0.002 * held_off + rng.normal(0, 1e-4),
                    }
                    fields = {name: getattr(trial, name) for name in ("dataset", "batch_size", "lr", "init_seed")}
                    told = {"arm": arm, "key": trial.key, "status": status, "final": epoch == 3.0, "epoch": epoch}
                    out.append({**told, **fields, **measures})

    def grows(size, exponent):
        if law:
            return 2.0**-2 / (1 + law / size)
        return 2.0**-8 * (min(size, knee or size) / sizes[0]) ** exponent

    for size, waver in itertools.zip_longest(sizes, wavers, fillvalue=0.0):
        rates = [2.0**waver * grows(size, p) if p is not None else None for p in (power, first, held)]
        add(plan.SGD, size, *rates)
    top = grows(sizes[-1], power)
    add(plan.WARM, sizes[-1], top, gain=warm)
    add(plan.FLOAT32, sizes[-1], top / exact)
    for arm, exponent in ((plan.ADAM, adam), (plan.MALLADI, malladi)):
        for size in (16, 32, 64, 128):
            add(arm, size, 2.0**-10 * (size / 16) ** exponent)
    return pd.DataFrame(out)


EMPTY = (pd.DataFrame({"key": [], "arm": []}), pd.DataFrame({"key": []}))


@pytest.mark.parametrize(
    ("table", "outcome"),
    [
        (lambda: scaling_table(), Outcome.REPRODUCED),  # obeys at all sizes
        (lambda: scaling_table(knee=64), Outcome.CONDITIONAL),  # obeys up to a knee
        (lambda: scaling_table(law=150), Outcome.CONDITIONAL),  # the smooth law
        (lambda: scaling_table(0.5), Outcome.NOT_REPRODUCED),  # breaks: the square root
        (lambda: scaling_table(0.75), Outcome.NOT_REPRODUCED),  # breaks: none
        (lambda: scaling_table(0.0), Outcome.NOT_REPRODUCED),  # breaks: constant
        (lambda: scaling_table(law=4), Outcome.NOT_REPRODUCED),  # breaks: the noise scale lies among the small batches
        (lambda: scaling_table(first=0.5), Outcome.INCONCLUSIVE),  # the control: it hangs on when it is read
        (lambda: scaling_table(shift=4.0), Outcome.INCONCLUSIVE),  # the best lies on the grid's edge
        (lambda: scaling_table(seeds=1), Outcome.INCONCLUSIVE),  # too small
        (lambda: scaling_table(sizes=SIZES[:2]), Outcome.INCONCLUSIVE),
        (lambda: scaling_table(0.75, sizes=SIZES[:5], sd=1.5, seeds=3), Outcome.INCONCLUSIVE),  # holds both
        (lambda: scaling_table(diverged_above=1e-9), Outcome.INCONCLUSIVE),  # all of it diverged
        *((table, Outcome.INCONCLUSIVE) for table in EMPTY),
    ],
)
def test_the_judge(table, outcome):
    verdict = judgement.judge(table)
    assert verdict.outcome == outcome, verdict


def test_it_says_where_the_optimum_meets_the_edge():
    assert "B = 1 (lowest)" in judgement.judge(scaling_table(shift=4.0)).reason


def test_it_says_to_which_batch_size_the_rule_holds():
    """A knee at 64 is an octave behind the line at 128; the law is behind by half at its noise scale, beside the line
    through all small sizes a little later."""
    end = judgement.holds_to(scaling_table(knee=64))
    assert end.value == pytest.approx(128, rel=0.1) and end.low < 128 < end.high < SIZES[-1]
    end = judgement.holds_to(scaling_table(law=100))
    assert 100 < end.value < 130 and end.high < SIZES[-1]
    assert judgement.holds_to(scaling_table()).low == SIZES[-1]
    assert judgement.holds_to(scaling_table(shift=4.0)) is None


def test_how_far_it_holds_must_be_sure():
    """Where seeds differ so much that the best may fall behind or not, the rule is not said to hold to anywhere."""
    verdict = judgement.judge_scaling(scaling_table(knee=256, seeds=3, sd=0.6))
    assert verdict.outcome == Outcome.INCONCLUSIVE and "or not at all" in verdict.reason, verdict


@pytest.mark.parametrize(
    ("table", "start", "inside"),
    [
        (
            lambda: scaling_table(),
            "Yes. From B = 1 to 32 the best learning rate grows as B to the power 1.0",
            "and goes on.",
        ),
        (
            lambda: scaling_table(knee=64),
            "Yes, up to B = 12",
            "half of what the rule gives. From B = 1 to 32 it grows as B",
        ),
        (lambda: scaling_table(0.5), "Not in proportion. From B = 1 to 32", "Scaled in proportion from B = 32, B = "),
        (lambda: scaling_table(0.75, sizes=SIZES[:5], sd=1.5, seeds=3), "Not settled. From B = 1 to 16", "grows"),
        (lambda: scaling_table(sizes=SIZES[:2]), "Not settled. Too few", "."),
        *((table, "Not run yet.", "") for table in EMPTY),
    ],
)
def test_answers_by_outcome(table, start, inside):
    told = answer(table, judgement.judge(table))
    assert told.startswith(start) and inside in told, told


def part(table, start):
    return next(v for name, v in judgement.judge(table).parts.items() if name.startswith(start))


@pytest.mark.parametrize(
    ("fields", "name", "outcome"),
    [
        ({}, "In proportion by held-out loss", Outcome.REPRODUCED),
        ({"held": 0.5}, "In proportion by held-out loss", Outcome.NOT_REPRODUCED),
        ({"held": 0.5}, "In proportion by held-out loss, stopped early", Outcome.NOT_REPRODUCED),
        ({"held": 0.5}, "In proportion by held-out accuracy", Outcome.NOT_REPRODUCED),
        (
            {"held": 0.75, "sd": 1.5, "sizes": SIZES[:5], "seeds": 3},
            "In proportion by held-out accuracy",
            Outcome.INCONCLUSIVE,
        ),
        ({"law": 30, "sizes": SIZES}, "One smooth law", Outcome.REPRODUCED),
        ({"law": 1e-9, "wavers": (0, 0.9, 0, 0.9), "sizes": SIZES}, "One smooth law", Outcome.INCONCLUSIVE),
        ({"power": 0.5, "sizes": SIZES}, "One smooth law", Outcome.NOT_REPRODUCED),
        ({"sizes": SIZES[:5]}, "One smooth law", Outcome.INCONCLUSIVE),
        ({}, "Scaled linearly", Outcome.REPRODUCED),
        ({"apart": 0.1}, "Scaled linearly", Outcome.CONDITIONAL),  # 7 % an octave: one octave coincides
        ({"apart": 0.3}, "Scaled linearly", Outcome.NOT_REPRODUCED),
        ({"apart": 0.3, "rough": 1.0}, "Scaled linearly", Outcome.INCONCLUSIVE),  # far apart, but so are seeds
        ({"seeds": 1}, "Scaled linearly", Outcome.INCONCLUSIVE),
        ({"diverged_above": 0.1}, "Scaled linearly", Outcome.CONDITIONAL),  # coincide, then diverge
        ({}, "Warm-up", Outcome.REPRODUCED),
        ({"warm": -0.01}, "Warm-up", Outcome.NOT_REPRODUCED),
        ({"warm": 0.0, "seeds": 4}, "Warm-up", Outcome.INCONCLUSIVE),
        ({}, "Adam's best", Outcome.REPRODUCED),
        ({"adam": 1.0}, "Adam's best", Outcome.NOT_REPRODUCED),
        ({"adam": 0.25, "sd": 2.0}, "Adam's best", Outcome.INCONCLUSIVE),  # half and none
        ({"malladi": 0.0}, "Adam's goes", Outcome.NOT_REPRODUCED),
        ({"shift": 4.0}, "Adam's goes", Outcome.INCONCLUSIVE),  # on the edge
    ],
)
def test_parts(fields, name, outcome):
    verdict = part(scaling_table(**{"sizes": FEW, **fields}), name)
    assert verdict.outcome == outcome, verdict


@pytest.mark.parametrize(
    ("fields", "lr", "farthest"),
    [
        ({}, 2.0**-8, 128),  # all that were tried
        ({}, 2.0**-11, 128),  # from any learning rate
        ({"power": 0.25}, 2.0**-8, 2),  # 6 % apart at k = 2, 23 % at k = 4
        ({"apart": 0.2}, 2.0**-8, 1),
        ({"diverged_above": 0.02}, 2.0**-8, 4),
    ],
)
def test_how_far_curves_coincide(fields, lr, farthest):
    assert curves.carries(curves.training_losses(scaling_table(sizes=FEW, **fields)), 1, lr) == farthest


def test_curves_are_held_to_what_the_grid_can_scale():
    """From 2⁻⁸ at B = 1 the rule asks for 2⁻² at B = 64; here the grids end at 2⁻³."""
    verdict = part(scaling_table(knee=4, sizes=FEW), "Scaled linearly")
    assert "of 32 tried" in verdict.reason, verdict


def test_the_two_precisions_are_held_against_each_other():
    (name,) = (n for n in judgement.judge(scaling_table(sizes=FEW)).effects if "float32" in n)
    same, double = (judgement.judge(scaling_table(sizes=FEW, exact=k)).effects[name] for k in (1, 2))
    assert f"B = {FEW[-1]}" in name and not same.excludes(1)
    assert double.value == pytest.approx(2, rel=0.05) and double.excludes(1)


def test_the_loss_that_decides_is_the_mean_over_the_last_tenth_of_the_second_epoch():
    table = scaling_table(sizes=FEW, seeds=2)
    key = table["key"].iloc[0]
    told = readings.ends(table, plan.SGD).set_index("key").loc[key]
    of_trial = table[table["key"] == key].set_index("epoch")["train_loss"]
    assert told["early_loss"] == pytest.approx(of_trial[[1.9, 1.925, 1.95, 1.975, 2.0]].mean())
    assert told["first_loss"] == of_trial[1.0]


def test_rates_near_the_best_are_those_that_seeds_do_not_tell_from_it():
    near = readings.near_best(readings.best(scaling_table(sizes=FEW, sd=0.001))[1])
    assert near == (2.0**-8, 2.0**-8)
    low, high = readings.near_best(readings.best(scaling_table(sizes=FEW, sd=0.5))[1])
    assert low < 2.0**-8 < high


def test_a_rule_that_is_right_costs_nothing_and_a_wrong_one_what_the_distance_says():
    told = readings.costs(scaling_table(sizes=FEW, sd=0.001))
    told = told[told["start"] == "best"].set_index(["series", "x"])
    assert set(told["base"]) == {32}
    assert told.loc[(readings.LINEAR, 128), "mean"] == pytest.approx(0, abs=0.05)
    assert told.loc[(readings.CONSTANT, 128), "mean"] == pytest.approx(-0.2 * 2**2, abs=0.05)  # two octaves off
    assert told.loc[(readings.SQUARE_ROOT, 4), "mean"] == pytest.approx(-0.2 * 1.5**2, abs=0.05)


def test_what_a_rule_loses_is_shown_as_a_difference_from_the_best():
    """Below zero, as everywhere: the rule's accuracy minus the best one."""
    cells = figures.cost_cells(scaling_table(sizes=FEW, sd=0.001)).set_index(["x", "y"])
    assert cells.loc[(readings.CONSTANT, 128), "text"].startswith("−0.8\n")
    assert (cells["value"].dropna() < 0.05).all()


def test_a_rule_is_followed_from_either_end_of_the_rates_near_the_best():
    told = readings.costs(scaling_table(sizes=FEW, sd=1.0)).set_index(["series", "x", "start"])["lr"]
    low, middle, high = (told[(readings.LINEAR, 64, start)] for start in ("lowest", "best", "highest"))
    assert low <= middle <= high and low < high


def test_a_rule_that_diverges_or_leaves_the_grid_has_no_cost_in_numbers():
    told = readings.costs(scaling_table(0.0, diverged_above=0.02))
    told = told[told["start"] == "best"].set_index(["series", "x"])["mean"]
    assert math.isnan(told[(readings.LINEAR, 512)])  # beyond the grid
    assert math.isnan(told[(readings.LINEAR, 256)])  # diverged
    assert told[(readings.LINEAR, 64)] < 0


def test_the_design():
    arms = {s.name: s.trials() for s in plan.design(plan.SETTINGS[Scale.PAPER][0])}
    grids = {}
    for t in arms[plan.SGD]:
        grids.setdefault(t.batch_size, set()).add(t.lr)
    assert sorted(grids) == [2**k for k in range(15)]
    for size, rates in grids.items():
        assert np.diff(np.log2(sorted(rates))) == pytest.approx(0.5)
        assert min(rates) == pytest.approx(2.0**-12 * min(size, 128))
    assert {t.evaluate_on for arm in arms.values() for t in arm} == {"both"}
    assert all(t.drop_last or t.num_train % t.batch_size == 0 for arm in arms.values() for t in arm)
    assert {(t.batch_size, t.precision) for t in arms[plan.FLOAT32]} == {(256, "float32")}  # the first in bfloat16
    assert {(t.batch_size, t.warmup_epochs) for t in arms[plan.WARM]} == {(2**14, 1.0)}
    kappa = {
        t.batch_size: ((1 - t.beta1) / 0.1, (1 - t.beta2) / 0.001, (1e-8 / t.eps) ** 2) for t in arms[plan.MALLADI]
    }
    assert list(kappa) == [16, 32, 64, 128]
    for size, factors in kappa.items():
        assert factors == pytest.approx([size / 16] * 3)


def test_a_slope_is_of_the_seeds_that_all_batch_sizes_have():
    table = scaling_table(sizes=SIZES[:5], sd=0.3)
    lacking = table.query("not (batch_size == 4 and lr > 0.02 and init_seed == 0)")
    found, without = (tuning.slope(readings.best(t)) for t in (lacking, table.query("init_seed != 0")))
    assert found.n == without.n == 4 and found.value == without.value
    assert found.values == ()


def test_the_interval_of_a_slope_holds_the_truth_as_often_as_it_says():
    """Seeds differ in their best by a third of an octave; the interval joins two, so it is a little too wide."""
    held = []
    for start in range(60):
        rng = np.random.default_rng(start)
        found = {}
        for size in SIZES[:6]:
            rates = 2.0 ** (np.arange(-6, 7) / 2) * size
            losses = (np.log2(rates / size)[:, None] + rng.normal(0, 0.33, 5)) ** 2
            found[size] = tuning.Optimum(
                tuning.Tuned(float(size), "", 13, 13),
                Estimate(tuning._locate(rates, losses, np.arange(5))[()], 0, 0, 5, ""),
                rates,
                losses,
                tuple(range(5)),
            )
        held.append(not tuning.slope(found).excludes(1.0))
    assert np.mean(held) > 0.9


def known(rates_by_size):
    return {
        int(b): tuning.Optimum(None, Estimate(np.log2(r), 0, 0, 1, ""), None, None, ())
        for b, r in rates_by_size.items()
    }


def test_the_noise_scale_of_a_known_law_is_found():
    highest, noise = tuning.noise_scale(known({b: 0.8 / (1 + 300 / b) for b in (16, 64, 256, 1024, 4096)}))
    assert (highest, noise.value) == pytest.approx((0.8, 300), rel=1e-3)
    assert noise.low == pytest.approx(300, rel=1e-2) == noise.high


def test_the_interval_of_the_noise_scale_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    sizes = 2.0 ** np.arange(12)
    held = []
    for _ in range(200):
        rates = 0.5 / (1 + 100 / sizes) * 2 ** rng.normal(0, 0.2, 12)
        held.append(not tuning.noise_scale(known(dict(zip(sizes, rates, strict=True))))[1].excludes(100))
    assert 0.9 < np.mean(held) <= 1


@pytest.mark.parametrize("at", [3.0, 5.0, 6.0])
def test_a_bent_line_bends_where_it_should(at):
    x = np.arange(10.0)
    bend, solution = tuning.hinge(x, np.minimum(x, at) * 2 + 1)
    assert bend == at and solution == pytest.approx([1, 2, -2])


def test_a_bent_line_needs_three_points_on_either_side():
    with pytest.raises(ValueError, match="needs 5 points, got 4"):
        tuning.hinge(np.arange(4.0), np.arange(4.0))
    assert tuning.hinge(np.arange(5.0), np.array([0.0, 1, 2, 2, 2]))[0] == 2.0


def test_what_is_left_out_is_told_best_by_its_own_form():
    sizes = 2 ** np.arange(12)
    made = {
        tuning.LINE: known({b: 0.001 * b**0.7 for b in sizes}),
        tuning.LAW: known({b: 0.5 / (1 + 60 / b) for b in sizes}),
        tuning.HINGE: known({b: 0.001 * min(b, 128) ** 0.6 * (max(b, 128) / 128) ** -0.5 for b in sizes}),
    }
    for form, found in made.items():
        errors = {name: e.mean() for name, e in tuning.left_out_errors(found).items()}
        assert min(errors, key=errors.get) == form or errors[form] < 1e-6, (form, errors)
    assert tuning.left_out_errors(known({b: b for b in sizes[:7]})) == {}
