"""Learning-rate recovery: its judge on tables that obey, break and under-decide it; and the best of a grid."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from repro import claims
from repro.claims import learning_rate_recovery as recovery
from repro.evidence.intervals import parabola_vertex
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
