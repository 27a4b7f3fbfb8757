"""Learning-rate recovery: its judge on tables that obey, break and under-decide it; and the best of a grid."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from repro import claims
from repro.claims import learning_rate_recovery as recovery
from repro.evidence import words
from repro.evidence.intervals import parabola_vertex
from repro.evidence.spec import Outcome, Scale
from repro.evidence.tuning import tune
from repro.names import SpecError
from repro.trial import Trial

RATES = (0.01, 0.04, 0.16, 0.64)


def row(arm, trial, seed, status="finished", **measures):
    seeded = dataclasses.replace(trial, init_seed=seed, data_seed=seed)
    fields = {name: getattr(seeded, name) for name in ("dataset", "batch_size", "lr", "init_seed")}
    return {"arm": arm, "key": seeded.key, "status": status, "final": True, "step": 100, **fields, **measures}


def recovery_table(lost, left, at_top, seeds=5, sd=0.0005, best=0.16, small_best=0.04, diverged=()):
    """Losses (fractions) of the large batch at both learning rates, and of the largest against the small one, each
    tuned. `diverged`: cells, as (batch size, learning rate), and single trials, as (arm, seed)."""
    rng = np.random.default_rng(7)
    base = Trial(dataset="mnist", epochs=30)

    def rows(arm, size, lr, loss, count, **more):
        trial = dataclasses.replace(base, batch_size=size, lr=lr)
        measures = {"weight_distance": 6.0, "bias_distance": 0.1, **more}

        def status(seed):
            return "diverged" if (size, lr) in diverged or (arm, seed) in diverged else "finished"

        return [
            row(arm, trial, seed, status(seed), test_accuracy=0.98 - loss + rng.normal(0, sd), **measures)
            for seed in range(count)
        ]

    out = rows(recovery.SMALL, 64, 0.01, 0, seeds) + rows(recovery.LARGE, 1024, 0.01, lost, seeds)
    out += rows(recovery.RAISED, 1024, 0.1, left, seeds)
    for arm, size, at, loss in (
        (recovery.SMALL_TUNED, 64, small_best, 0.0),
        (recovery.LARGEST_TUNED, 4096, best, at_top),
    ):
        for lr in RATES:
            held_out = 0.97 - 0.01 * abs(np.log2(lr / at))
            out += rows(arm, size, lr, loss if lr == at else loss - 0.002, seeds, validation_accuracy=held_out)
    for size in (64, 1024, 4096):
        for lr in RATES:
            out += rows(recovery.GRID, size, lr, 0.01, 1)
    return pd.DataFrame(out)


TOP = ("largest batch, tuned", "small batch, tuned")


@pytest.mark.parametrize(
    ("table", "outcome"),
    [
        (recovery_table(0.03, 0.0, 0.0), Outcome.REPRODUCED),  # obeys, however large the batch
        (recovery_table(0.03, -0.01, 0.0), Outcome.REPRODUCED),  # better than before
        (recovery_table(0.03, 0.0, -0.01), Outcome.REPRODUCED),  # the largest too
        (recovery_table(0.03, 0.0, 0.02), Outcome.CONDITIONAL),  # the largest stays behind
        (recovery_table(0.03, 0.0, 0.02, diverged=[(4096, 0.64)]), Outcome.CONDITIONAL),
        (recovery_table(0.03, 0.0, 0.02, best=0.64), Outcome.INCONCLUSIVE),  # the best lies on the grid's edge
        (recovery_table(0.03, 0.0, 0.0, best=0.64), Outcome.INCONCLUSIVE),
        (recovery_table(0.03, 0.0, 0.02, small_best=0.01), Outcome.INCONCLUSIVE),  # the control is not tuned
        (recovery_table(0.03, 0.0, 0.002, sd=0.003), Outcome.INCONCLUSIVE),  # at the top neither the same nor less
        (recovery_table(0.03, 0.01, 0.0), Outcome.NOT_REPRODUCED),  # breaks: a loss is left
        (
            recovery_table(0.03, 0.0, 0.0, diverged=[(recovery.RAISED, 0)]),
            Outcome.NOT_REPRODUCED,
        ),  # breaks: one is lost
        (recovery_table(0.03, 0.004, 0.0, sd=0.004), Outcome.INCONCLUSIVE),  # left: neither nothing nor a loss
        (recovery_table(0.0, 0.0, 0.0), Outcome.INCONCLUSIVE),  # nothing to recover
        (recovery_table(0.03, 0.0, 0.0, seeds=1), Outcome.INCONCLUSIVE),  # too small
        (recovery_table(0.03, 0.0, 0.0).query("arm not in @TOP"), Outcome.INCONCLUSIVE),
        (recovery_table(0.03, 0.0, 0.0).query("batch_size < 4096 or lr > 0.1"), Outcome.INCONCLUSIVE),  # two rates
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
        (recovery_table(0.03, 0.0, 0.0), "Yes: ten times the learning rate brings B = 1024 from −"),
        (recovery_table(0.03, 0.0, 0.02), "Up to a point: ten times the learning rate brings B = 1024 from −"),
        (recovery_table(0.03, 0.01, 0.0), "Not all of it: ten times the learning rate brings B = 1024 from −"),
        (recovery_table(0.03, 0.004, 0.0, sd=0.004), "Not settled: ten times the learning rate brings B = 1024"),
        (recovery_table(0.03, 0.0, 0.0, seeds=1), "Not settled. "),
        (recovery_table(0.0, 0.0, 0.0), "Not settled. Nothing to recover: "),
        (recovery_table(0.03, 0.0, 0.0, diverged=[(1024, 0.1)]), "No. Of 5 trials at the raised learning rate"),
    ],
)
def test_recovery_answers_by_outcome(table, start):
    verdict = recovery.judge(table)
    told = recovery.answer(table, verdict)
    assert told.startswith(start), told
    lost, left = (verdict.effects[name] for name in (recovery.LOST, recovery.LEFT))
    brings = f"from {words.value(lost)} to {words.bracketed(left, 'points')} beside B = 64"
    assert min(lost.n, left.n) < 2 or lost.high >= 0 or brings in told, (
        "the table's numbers, with the signs that its effects have"
    )
    if verdict.outcome == Outcome.CONDITIONAL:
        assert "B = 4096 stays at −1.96 points (−2.03 to −1.90)" in told, told


def test_recovery_says_which_rate_lies_on_the_edge():
    told = recovery.judge(recovery_table(0.03, 0.0, 0.02, best=0.64, small_best=0.01)).reason
    assert "the lowest rate of the small batch, 0.01 and the highest rate of the largest batch, 0.64" in told


def test_the_tuned_rate_is_chosen_on_held_out_images_and_compared_on_test_images():
    """Every other rate tests better by 0.2 points."""
    table = recovery_table(0.03, 0.0, 0.02, sd=1e-5)
    assert recovery.tuned_best(table, recovery.LARGEST_TUNED).lr == 0.16
    assert recovery.left_tuned(table).value == pytest.approx(-2, abs=0.01)


def test_a_cell_of_the_heat_map_counts_what_diverged():
    table = recovery_table(0.03, 0.0, 0.0, diverged=[(4096, 0.64)])
    cells = recovery.heat(table).set_index(["batch_size", "lr"])
    assert cells.loc[(4096, 0.64), "text"] == "diverged"
    assert cells.loc[(64, 0.01), ["diverged", "at_chance", "trials"]].tolist() == [0, 0, 1]
    assert cells.loc[(64, 0.01), "text"].startswith("6.0 / 0.10\n")


def test_recovery_arms_are_the_posts():
    arms = {s.name: s.trials() for s in recovery.design(recovery.SETTINGS[Scale.PAPER][0])}
    published = [arms[name] for name in (recovery.SMALL, recovery.LARGE, recovery.RAISED, recovery.GRID)]
    assert {(t.evaluate_on, t.drop_last) for trials in published for t in trials} == {("test", False)}
    assert {(t.batch_size, t.lr, t.epochs) for trials in published[:3] for t in trials} == {
        (64, 0.01, 30),
        (1024, 0.01, 30),
        (1024, 0.1, 30),
    }
    grid = {(t.batch_size, t.lr) for t in arms[recovery.GRID]}
    assert grid == {(b, 0.01 * 2**k) for b in (64, 256, 1024, 4096) for k in range(8)}


def test_recovery_tunes_the_small_batch_as_it_tunes_the_largest():
    arms = {s.name: s.trials() for s in recovery.design(recovery.SETTINGS[Scale.PAPER][0])}
    for name, size in ((recovery.SMALL_TUNED, 64), (recovery.LARGEST_TUNED, 4096)):
        assert {(t.batch_size, t.evaluate_on, t.drop_last) for t in arms[name]} == {(size, "both", True)}
        assert np.diff(np.log2(sorted({t.lr for t in arms[name]}))) == pytest.approx(0.5)
        assert {t.init_seed for t in arms[name]} == set(range(7))


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


def test_parabola_vertex():
    assert parabola_vertex([[1.0], [0.0], [1.0]]).tolist() == [0.0]
    x = np.array([-1, 0, 1])
    assert parabola_vertex((x - 0.3) ** 2 * 5 + 2) == pytest.approx(0.3)
    assert parabola_vertex((x - 4.0) ** 2) == 1.0  # held to the three points
    assert parabola_vertex([1.0, 2.0, 3.0]) == 0.0


@pytest.mark.parametrize("claim", [recovery.CLAIM, claims.get("linear-scaling")], ids=lambda c: c.id)
@pytest.mark.parametrize("steps", [2.5, 0])
def test_a_grid_of_no_whole_number_of_learning_rates_is_refused_in_one_line(claim, steps):
    with pytest.raises(SpecError, match=f"lr_steps {steps}: must be a whole number"):
        claim.sweeps("smoke", lr_steps=steps)
