"""The claims about learning rates: their judges on tables that obey, break and under-decide them."""

import dataclasses
import itertools
import math

import numpy as np
import pandas as pd
import pytest

from repro import claims
from repro.claims import learning_rate_recovery as recovery
from repro.claims.linear_scaling import experiment as plan
from repro.claims.linear_scaling import judgement as scaling
from repro.claims.linear_scaling.answer import answer
from repro.evidence import tuning
from repro.evidence.intervals import Estimate, hinges, parabola_vertex
from repro.evidence.spec import Outcome, Scale
from repro.evidence.tuning import tune
from repro.trial import SpecError, Trial

RATES = (0.01, 0.04, 0.16, 0.64)


def row(arm, trial, seed, status="finished", **measures):
    seeded = dataclasses.replace(trial, init_seed=seed, data_seed=seed)
    fields = {name: getattr(seeded, name) for name in ("dataset", "batch_size", "lr", "init_seed")}
    return {"arm": arm, "key": seeded.key, "status": status, "final": True, "step": 100, **fields, **measures}


def recovery_table(lost, left, at_top, seeds=5, sd=0.0005, best=0.16, diverged=()):
    """Losses (fractions) of the large batch at both learning rates, and of the grid's largest at its best. `diverged`:
    cells, as (batch size, learning rate), and single trials, as (arm, seed)."""
    rng = np.random.default_rng(7)
    base = Trial(dataset="mnist", epochs=30)

    def rows(arm, size, lr, loss, count):
        trial = dataclasses.replace(base, batch_size=size, lr=lr)
        measures = {"weight_distance": 6.0, "bias_distance": 0.1}

        def status(seed):
            return "diverged" if (size, lr) in diverged or (arm, seed) in diverged else "finished"

        return [
            row(arm, trial, seed, status(seed), test_accuracy=0.98 - loss + rng.normal(0, sd), **measures)
            for seed in range(count)
        ]

    out = rows(recovery.SMALL, 64, 0.01, 0, seeds) + rows(recovery.LARGE, 1024, 0.01, lost, seeds)
    out += rows(recovery.RAISED, 1024, 0.1, left, seeds)
    for size in (64, 1024, 4096):
        for lr in RATES:
            loss = at_top if size == 4096 and lr == best else 0.002 if size < 4096 else 0.1
            out += rows(recovery.GRID, size, lr, loss, min(seeds, 3))
    return pd.DataFrame(out)


@pytest.mark.parametrize(
    ("table", "outcome"),
    [
        (recovery_table(0.03, 0.0, 0.0), Outcome.REPRODUCED),  # obeys, however large the batch
        (recovery_table(0.03, -0.01, 0.0), Outcome.REPRODUCED),  # better than before
        (recovery_table(0.03, 0.0, 0.02), Outcome.CONDITIONAL),  # the grid limits it
        (recovery_table(0.03, 0.0, 0.02, diverged=[(4096, 0.64)]), Outcome.CONDITIONAL),
        (recovery_table(0.03, 0.0, 0.02, best=0.64), Outcome.INCONCLUSIVE),  # the best lies on the grid's edge
        (recovery_table(0.03, 0.0, 0.0, best=0.64), Outcome.REPRODUCED),  # where all is back the edge does not matter
        (recovery_table(0.03, 0.01, 0.0), Outcome.NOT_REPRODUCED),  # breaks: a loss is left
        (
            recovery_table(0.03, 0.0, 0.0, diverged=[(recovery.RAISED, 0)]),
            Outcome.NOT_REPRODUCED,
        ),  # breaks: one is lost
        (recovery_table(0.03, 0.004, 0.0, sd=0.004), Outcome.INCONCLUSIVE),  # left: neither nothing nor a loss
        (recovery_table(0.0, 0.0, 0.0), Outcome.INCONCLUSIVE),  # nothing to recover
        (recovery_table(0.03, 0.0, 0.0, seeds=1), Outcome.INCONCLUSIVE),  # too small
        (recovery_table(0.03, 0.0, 0.0).query("arm != 'grid'"), Outcome.INCONCLUSIVE),
        (recovery_table(0.03, 0.0, 0.0).query("batch_size < 4096 or lr > 0.1"), Outcome.INCONCLUSIVE),  # part of a row
        (recovery_table(0.03, 0.0, 0.0, diverged=[(4096, lr) for lr in RATES]), Outcome.INCONCLUSIVE),
        (pd.DataFrame({"key": [], "arm": []}), Outcome.INCONCLUSIVE),
        (pd.DataFrame({"key": []}), Outcome.INCONCLUSIVE),
    ],
)
def test_recovery_judge(table, outcome):
    verdict = recovery.judge(table)
    assert verdict.outcome == outcome, verdict


@pytest.mark.parametrize(
    ("table", "start"),
    [
        (recovery_table(0.03, 0.0, 0.0), "Yes: ten times the learning rate leaves"),
        (recovery_table(0.03, 0.0, 0.02), "Up to a point: ten times the learning rate leaves"),
        (recovery_table(0.03, 0.01, 0.0), "Not all of it: ten times the learning rate leaves 0.99"),
        (recovery_table(0.03, 0.004, 0.0, sd=0.004), "Not settled: ten times the learning rate leaves"),
        (recovery_table(0.03, 0.0, 0.0, seeds=1), "Not settled. "),
        (recovery_table(0.0, 0.0, 0.0), "Not settled"),
    ],
)
def test_recovery_answers_by_outcome(table, start):
    told = recovery.answer(table, recovery.judge(table))
    assert told.startswith(start), told
    lost = recovery.judge(table).effects[recovery.LOST]
    assert lost.n < 2 or f"of the {-lost.value:.2f} points" in told, "the table's number"


def test_recovery_says_that_its_best_lies_on_the_edge():
    assert "highest of the grid" in recovery.judge(recovery_table(0.03, 0.0, 0.02, best=0.64)).reason


def test_one_learning_rate_of_a_grid_is_not_called_the_best():
    verdict = recovery.judge(recovery_table(0.03, 0.0, 0.0).query("arm != 'grid' or lr == 0.01"))
    assert not any("at its best" in name for name in verdict.effects)


def test_a_cell_of_the_heat_map_counts_what_diverged_and_averages_the_rest():
    table = recovery_table(0.03, 0.0, 0.0, diverged=[(4096, 0.64)])
    one = (table["arm"] == recovery.GRID) & (table["batch_size"] == 64) & (table["lr"] == 0.01)
    table.loc[one & (table["init_seed"] == 0), "status"] = "diverged"
    cells = recovery.heat(table).set_index(["batch_size", "lr"])
    assert cells.loc[(4096, 0.64), "text"] == "diverged"
    assert cells.loc[(64, 0.01), ["diverged", "trials"]].tolist() == [1, 3]
    kept = table[one & (table["init_seed"] > 0)]["test_accuracy"].mean()
    assert cells.loc[(64, 0.01), "test_accuracy"] == pytest.approx(kept)
    assert cells.loc[(64, 0.01), "text"].startswith("6.0 / 0.10\n")


def test_recovery_arms_are_the_posts():
    arms = {s.name: s.trials() for s in recovery.design(recovery.SETTINGS[Scale.PAPER][0])}
    told = {(t.batch_size, t.lr, t.epochs) for name in arms if name != recovery.GRID for t in arms[name]}
    assert told == {(64, 0.01, 30), (1024, 0.01, 30), (1024, 0.1, 30)}
    grid = {(t.batch_size, t.lr) for t in arms[recovery.GRID]}
    assert grid == {(b, 0.01 * 2**k) for b in (64, 256, 1024, 4096) for k in range(8)}


def runs(lr, accuracies, status="finished"):
    return [
        {"lr": lr, "init_seed": s, "status": status, "validation_accuracy": a}
        for s, a in enumerate(accuracies)
        if a is not None
    ]


def test_tune_finds_the_best_mean_where_every_seed_finished():
    rows = pd.DataFrame(
        runs(0.1, [0.8, 0.8]) + runs(0.2, [0.9, 0.9]) + runs(0.4, [0.99, 0.5]) + runs(0.8, [0.99, 0.99], "diverged")
    )
    best = tune(rows.sample(frac=1, random_state=0), "validation_accuracy", largest=True)
    assert (best.lr, best.edge, best.tried, best.feasible) == (0.2, "", 4, 3)
    assert tune(rows, "validation_accuracy", largest=False).lr == 0.4


@pytest.mark.parametrize(
    ("rows", "lr", "edge"),
    [
        (runs(0.1, [0.9]) + runs(0.2, [0.8]) + runs(0.4, [0.7]), 0.1, "lowest"),
        (runs(0.1, [0.8]) + runs(0.2, [0.9]) + runs(0.4, [0.95]), 0.4, "highest"),
        (runs(0.1, [0.8]) + runs(0.2, [0.9]) + runs(0.4, [0.1], "diverged"), 0.2, ""),
        (
            runs(0.1, [0.8, 0.8]) + runs(0.2, [0.7, 0.95]) + runs(0.4, [0.75, None]),
            0.1,
            "lowest",
        ),  # seed 0 alone counts
    ],
)
def test_tune_names_the_edge(rows, lr, edge):
    best = tune(pd.DataFrame(rows), "validation_accuracy", largest=True)
    assert (best.lr, best.edge) == (lr, edge)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        runs(0.1, [0.9]) + runs(0.2, [0.8]),
        [row for lr in (0.1, 0.2, 0.4) for row in runs(lr, [0.9], "diverged")],
        runs(0.1, [0.9, None]) + runs(0.2, [None, 0.9]) + runs(0.4, [0.9, 0.9]),
    ],
    ids=["none", "fewer than three", "diverged", "no seed in common"],
)
def test_tune_finds_nothing_where_too_little_is_feasible_or_shared(rows):
    table = pd.DataFrame(rows, columns=["lr", "init_seed", "status", "validation_accuracy"])
    assert tune(table, "validation_accuracy", largest=True) is None


SIZES = tuple(2**k for k in range(4, 14))
GRID = [2 ** (k / 2) for k in range(-16, 5)]


WAVERS = (0, 0, 0, 0, -0.1, 0.2, -0.1)


def scaling_table(
    power,
    knee=None,
    seeds=5,
    sd=0.02,
    sizes=SIZES,
    adam=0.5,
    malladi=0.5,
    warm=0.01,
    apart=0.0,
    diverged_above=None,
    rough=0.0,
    exact=1.0,
    wavers=(),
):
    """Trials whose best learning rate goes as B to `power` up to the knee and is constant beyond. Test accuracy falls
    with the distance from the best, in octaves; `warm` is what warm-up gains; curves of scaled runs are `apart`,
    and those of one batch size differ from seed to seed by `rough` in the logarithm. The best of each size is off its
    power law by an octave to each of `wavers`."""
    rng = np.random.default_rng(3)
    out = []

    def add(arm, size, best, rates, gain=0.0):
        trial = Trial(dataset="mnist", epochs=3, batch_size=size, evaluate_on="both", lr=0.1)
        for lr in rates:
            for seed in range(seeds):
                off = (np.log2(lr / best) + rng.normal(0, sd)) ** 2
                status = "diverged" if diverged_above and lr > diverged_above else "finished"
                own = dataclasses.replace(trial, lr=lr)
                seeds_own = np.exp(rough * np.cos(seed + size))
                for epoch in (1.0, 2.0, 3.0):
                    train = 1 / epoch * (1 + 0.1 * abs(np.log2(lr / best))) * (size / sizes[0]) ** apart * seeds_own
                    measures = {
                        "epoch": epoch,
                        "train_loss": train,
                        "validation_loss": 0.1 + 0.01 * off,
                        "validation_accuracy": 0.98 - 0.002 * off,
                        "test_accuracy": 0.98 + gain - 0.002 * off + rng.normal(0, 1e-4),
                    }
                    out.append({**row(arm, own, seed, status, **measures), "final": epoch == 3.0})

    for size, waver in itertools.zip_longest(sizes, wavers, fillvalue=0.0):
        add(plan.SGD, size, 2.0 ** (waver - 6) * (min(size, knee or size) / sizes[0]) ** power, GRID)
    top = 2.0**-6 * (min(sizes[-1], knee or sizes[-1]) / sizes[0]) ** power
    add(plan.WARM, sizes[-1], top, GRID, warm)
    add(plan.FLOAT32, sizes[-1], top / exact, GRID)
    for arm, exponent in ((plan.ADAM, adam), (plan.MALLADI, malladi)):
        for size in (64, 128, 256, 512):
            add(arm, size, 2.0**-10 * (size / 64) ** exponent, [2.0**k for k in range(-13, -5)])
    return pd.DataFrame(out)


@pytest.mark.parametrize(
    ("table", "lr", "farthest"),
    [
        (scaling_table(1.0, sizes=SIZES[:7]), 2.0**-4, 16),  # all that were tried
        (scaling_table(1.0, sizes=SIZES[:7]), 2.0**-8, 16),  # from any learning rate
        (scaling_table(0.25, sizes=SIZES[:7]), 2.0**-5.5, 2),  # losses 7.5 % apart at k=2, 15 % at k=4
        (scaling_table(1.0, sizes=SIZES[:7], apart=0.2), 2.0**-4, 1),
        (scaling_table(1.0, sizes=SIZES[:7], diverged_above=0.2), 2.0**-4, 2),  # 1/16 twice is below, four times above
        (scaling_table(1.0, sizes=SIZES[:7]), 2.0, 2),  # the grid ends at 4
    ],
)
def test_how_far_the_linear_rule_carries(table, lr, farthest):
    assert scaling.carries(scaling.training_losses(table), 64, lr) == farthest


@pytest.mark.parametrize(
    ("table", "outcome"),
    [
        (scaling_table(1.0, sizes=SIZES[:6]), Outcome.REPRODUCED),  # obeys at all sizes
        (scaling_table(1.0, knee=256), Outcome.CONDITIONAL),  # obeys up to a knee
        (scaling_table(1.0, knee=256, sizes=SIZES[:7], wavers=WAVERS), Outcome.INCONCLUSIVE),  # above it, anything goes
        (scaling_table(0.5), Outcome.NOT_REPRODUCED),  # breaks: the square root
        (scaling_table(0.25), Outcome.NOT_REPRODUCED),  # breaks: neither
        (scaling_table(0.0), Outcome.NOT_REPRODUCED),  # breaks: constant
        (scaling_table(1.0), Outcome.INCONCLUSIVE),  # runs into the grid's edge
        (scaling_table(1.0, sizes=SIZES[:6], seeds=1), Outcome.INCONCLUSIVE),  # too small
        (scaling_table(1.0, sizes=SIZES[:2]), Outcome.INCONCLUSIVE),
        (scaling_table(0.75, sizes=SIZES[:4], sd=1.5, seeds=3), Outcome.INCONCLUSIVE),  # holds both
        (scaling_table(1.0, sizes=SIZES[:6], diverged_above=0.01), Outcome.NOT_REPRODUCED),  # a cap: nothing can rise
        (scaling_table(1.0, sizes=SIZES[:6], diverged_above=1e-9), Outcome.INCONCLUSIVE),  # all of it diverged
        (pd.DataFrame({"key": [], "arm": []}), Outcome.INCONCLUSIVE),
        (pd.DataFrame({"key": []}), Outcome.INCONCLUSIVE),
    ],
)
def test_scaling_judge(table, outcome):
    verdict = scaling.judge(table)
    assert verdict.outcome == outcome, verdict


def test_a_law_that_hangs_on_where_the_knee_is_put_is_none():
    settled = scaling_table(0.7, knee=1024)
    wavering = scaling_table(0.7, knee=1024, wavers=(0, 0.3, 0.2, 0.9, 0.6, 0, 0.1, 0.2, -0.6, -0.6))
    assert [scaling.judge(t).outcome for t in (settled, wavering)] == [Outcome.NOT_REPRODUCED, Outcome.INCONCLUSIVE]
    assert "about as well elsewhere" in scaling.judge(wavering).reason


def test_scaling_says_where_the_optimum_meets_the_edge():
    assert "B = 8192 (highest)" in scaling.judge(scaling_table(1.0)).reason


def part(table, start):
    return next(v for name, v in scaling.judge(table).parts.items() if name.startswith(start))


@pytest.mark.parametrize(
    ("fields", "name", "outcome"),
    [
        ({}, "Scaled linearly", Outcome.REPRODUCED),
        ({"apart": 0.1}, "Scaled linearly", Outcome.CONDITIONAL),  # 7 % an octave: one octave coincides
        ({"apart": 0.3}, "Scaled linearly", Outcome.NOT_REPRODUCED),
        ({"apart": 0.3, "rough": 1.0}, "Scaled linearly", Outcome.INCONCLUSIVE),  # far apart, but so are seeds
        ({"apart": 0.2, "rough": 0.06}, "Scaled linearly", Outcome.INCONCLUSIVE),  # apart later, not surely at k=2
        ({"seeds": 1}, "Scaled linearly", Outcome.INCONCLUSIVE),
        ({"diverged_above": 0.2}, "Scaled linearly", Outcome.CONDITIONAL),  # coincide, then diverge
        ({}, "Warm-up", Outcome.REPRODUCED),
        ({"warm": -0.01}, "Warm-up", Outcome.NOT_REPRODUCED),
        ({"warm": 0.0}, "Warm-up", Outcome.INCONCLUSIVE),
        ({"adam": 1.0}, "Adam's best", Outcome.NOT_REPRODUCED),
        ({}, "Adam's best", Outcome.REPRODUCED),
        ({"malladi": 0.0}, "Adam's goes", Outcome.NOT_REPRODUCED),
        ({"malladi": 1.5}, "Adam's goes", Outcome.INCONCLUSIVE),  # runs into the edge
    ],
)
def test_scaling_parts(fields, name, outcome):
    verdict = part(scaling_table(1.0, sizes=SIZES[:6], **fields), name)
    assert verdict.outcome == outcome, verdict


def test_curves_are_held_to_what_the_grid_can_scale():
    """From 1/16 at B=64 the rule asks for 8 at B=8192; the grid ends at 4."""
    verdict = part(scaling_table(1.0, knee=256), "Scaled linearly")
    assert "of 64 tried" in verdict.reason
    reached = scaling_table(1.0, sizes=SIZES[:6]).query("arm != @plan.SGD or lr < 0.3")
    assert part(reached, "Scaled linearly").outcome == Outcome.REPRODUCED
    assert "up to k = 4, of 4 tried" in part(reached, "Scaled linearly").reason


@pytest.mark.parametrize(
    ("table", "start", "inside"),
    [
        (scaling_table(1.0, sizes=SIZES[:6]), "Yes: the best learning rate grows as B to the power ", "."),
        (scaling_table(1.0, knee=256), "Up to B = ", "Beyond, no."),
        (scaling_table(0.5), "No: the best learning rate grows as B to the power 0.49", "Scaled on in proportion"),
        (scaling_table(1.0, sizes=SIZES[:2]), "Not settled", "Too few"),
    ],
)
def test_scaling_answers_by_outcome(table, start, inside):
    told = answer(table, scaling.judge(table))
    assert told.startswith(start) and inside in told, told


def test_the_two_precisions_are_held_against_each_other():
    (name,) = (n for n in scaling.judge(scaling_table(1.0, sizes=SIZES[:6])).effects if "float32" in n)
    same, double = (scaling.judge(scaling_table(1.0, sizes=SIZES[:6], exact=k)).effects[name] for k in (1, 2))
    assert f"B = {SIZES[5]}" in name and not same.excludes(1)
    assert double.value == pytest.approx(2, rel=0.05) and double.excludes(1)


def test_scaling_knee_slopes_and_law_are_found():
    both = scaling.regimes(scaling_table(1.0, knee=256))
    assert both.knee in (256, 128, 512)
    assert both.below.value == pytest.approx(1, abs=0.1)
    assert both.above.value == pytest.approx(0, abs=0.1)


def test_a_rule_that_is_right_costs_nothing_and_a_wrong_one_what_the_distance_says():
    told = scaling.costs(scaling_table(1.0, sizes=SIZES[:6])).set_index(["series", "x"])
    assert told.loc[(scaling.LINEAR, 512), "mean"] == pytest.approx(0, abs=0.05)
    assert told.loc[(scaling.CONSTANT, 512), "mean"] == pytest.approx(-0.2 * 5**2, abs=0.1)  # five octaves off
    assert told.loc[(scaling.SQUARE_ROOT, 512), "mean"] == pytest.approx(-0.2 * 2.5**2, abs=0.1)


def test_a_rule_that_diverges_or_leaves_the_grid_has_no_cost_in_numbers():
    told = scaling.costs(scaling_table(0.0, diverged_above=0.1)).set_index(["series", "x"])["mean"]
    assert math.isnan(told[(scaling.LINEAR, 8192)])  # beyond the grid
    assert math.isnan(told[(scaling.LINEAR, 256)])  # diverged
    assert told[(scaling.LINEAR, 32)] < 0


def test_scaling_design_has_every_rule_of_every_size_on_its_grid():
    settings = plan.SETTINGS[Scale.PAPER][0]
    arms = {s.name: s.trials() for s in plan.design(settings)}
    assert {t.batch_size for t in arms[plan.SGD]} == {2**k for k in range(4, 16)}
    assert {t.evaluate_on for arm in arms.values() for t in arm} == {"both"}
    rates = np.log2(sorted({t.lr for t in arms[plan.SGD]}))
    assert np.diff(rates) == pytest.approx(0.5)
    warm = arms[plan.WARM]
    assert {(t.batch_size, t.precision) for t in arms[plan.FLOAT32]} == {(256, "float32")}  # the first in bfloat16
    assert {(t.batch_size, t.warmup_epochs) for t in warm} == {(2**15, 2.0)}
    kappa = {
        t.batch_size: ((1 - t.beta1) / 0.1, (1 - t.beta2) / 0.001, (1e-8 / t.eps) ** 2) for t in arms[plan.MALLADI]
    }
    for size, factors in kappa.items():
        assert factors == pytest.approx([size / 64] * 3)


def test_parabola_vertex():
    assert parabola_vertex([[1.0], [0.0], [1.0]]).tolist() == [0.0]
    x = np.array([-1, 0, 1])
    assert parabola_vertex((x - 0.3) ** 2 * 5 + 2) == pytest.approx(0.3)
    assert parabola_vertex((x - 4.0) ** 2) == 1.0  # held to the three points
    assert parabola_vertex([1.0, 2.0, 3.0]) == 0.0


@pytest.mark.parametrize("at", [3.0, 5.0, 6.0])
def test_hinges_hold_the_true_bend_as_often_as_they_say(at):
    rng, x = np.random.default_rng(5), np.arange(12.0)
    found = [hinges(x, np.minimum(x, at) + rng.normal(0, 0.4, 12)) for _ in range(400)]
    assert np.mean([at in places for places in found]) > 0.92
    assert np.mean([len(places) for places in found]) < 5  # of eight candidates


@pytest.mark.parametrize("at", [3.0, 5.0, 6.0])
def test_hinges_begin_with_the_bend_of_a_bent_line(at):
    x = np.arange(10.0)
    assert hinges(x, np.minimum(x, at) * 2 + 1)[0] == at


def test_hinges_need_three_points_on_either_side():
    assert hinges(np.arange(4.0), np.arange(4.0)) == []
    assert hinges(np.arange(5.0), np.array([0.0, 1, 2, 2, 2])) == [2.0]


def test_a_slope_is_of_the_seeds_that_all_batch_sizes_have():
    table = scaling_table(1.0, sizes=SIZES[:5], sd=0.3)
    lacking = table.query("not (batch_size == 64 and lr > 0.5 and init_seed == 0)")
    found, without = (scaling.regimes(t).below for t in (lacking, table.query("init_seed != 0")))
    assert found.n == without.n == 4 and found.value == without.value
    assert found.values == ()


def test_the_noise_scale_of_a_known_law_is_found():
    sizes = np.array([16, 64, 256, 1024, 4096])
    rates = 0.8 / (1 + 300 / sizes)
    optimum = {
        int(b): tuning.Optimum(None, Estimate(np.log2(r), 0, 0, 1, ""), None, None, ())
        for b, r in zip(sizes, rates, strict=True)
    }
    assert tuning.noise_scale(optimum) == pytest.approx((0.8, 300), rel=1e-3)


@pytest.mark.parametrize("claim", [recovery.CLAIM, claims.get("linear-scaling")], ids=lambda c: c.id)
@pytest.mark.parametrize("steps", [2.5, 0])
def test_a_grid_of_no_whole_number_of_learning_rates_is_refused_in_one_line(claim, steps):
    with pytest.raises(SpecError, match=f"lr_steps {steps}: must be a whole number"):
        claim.sweeps("smoke", lr_steps=steps)
