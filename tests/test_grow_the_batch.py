"""The claim that a batch may grow where a learning rate would decay: judged on tables that obey it and break it."""

import json

import independent
import independent_statistics
import numpy as np
import pandas as pd
import pytest

from repro import claims
from repro.claims import grow_the_batch as claim
from repro.evidence.spec import Outcome
from repro.names import SpecError
from repro.trial import Phase

CLAIM = claims.get("grow-the-batch")
TRIALS = [(s.name, trial) for s in CLAIM.sweeps("paper") for trial in s.trials()]


def table_of(grow=0.0, *, raised=0.0, constant=-1.5, seeds=10, sd=0.05, best=0.1, diverged=0, tuned=0.0):
    """Test accuracies: 97 % where the learning rate decays from `best`, less elsewhere; others as much more; at the
    rate below, neither has that and `tuned` more. So many seeds that begin from higher rates have diverged."""
    rng, rows = np.random.default_rng(0), []
    more = {claim.DECAY: 0.0, claim.GROW: grow, claim.RAISED: raised, claim.CONSTANT: constant}
    for arm, t in TRIALS:
        if t.init_seed >= seeds:
            continue
        fields = json.loads(t.to_json())
        told = {name: json.dumps(v) if isinstance(v, list) else v for name, v in fields.items()} | {"arm": arm}
        if arm == claim.TIMED:
            sizes = [2**k for k in range(15)]
            timed = {"timed_batch_size": sizes, "run_step_seconds": [1 + b / 1000 for b in sizes], "step": 1}
            rows.append(told | timed | {"key": t.key, "status": "finished", "final": True, "epoch": 0.0})
            continue
        lr = t.lr / (4 if arm == claim.RAISED else 1)
        end = 97.0 + more[arm] - abs(np.log2(lr / best)) + rng.normal(0, sd)
        if arm == claim.CONSTANT and tuned and lr == best / 2:
            end = 97.0 + tuned + rng.normal(0, sd)
        status = "diverged" if arm == claim.RAISED and t.init_seed < diverged else "finished"
        told |= {"key": t.key, "status": status}
        for step, epoch in zip(t.checkpoint_steps, (0.0, *t.checkpoints, float(t.epochs)), strict=True):
            done = step / t.num_steps
            accuracy = (10 + (end - 10) * done) / 100
            told |= {"step": step, "epoch": epoch, "final": done == 1}
            rows.append(told | {"test_accuracy": accuracy, "validation_accuracy": accuracy})
    return pd.DataFrame(rows)


TABLES = [
    (lambda: table_of(), Outcome.REPRODUCED),  # obeys
    (lambda: table_of(0.6), Outcome.REPRODUCED),  # better
    (lambda: table_of(-1.0), Outcome.CONDITIONAL),  # better than neither
    (lambda: table_of(-1.5), Outcome.NOT_REPRODUCED),  # breaks
    (lambda: table_of(constant=0.0), Outcome.INCONCLUSIVE),  # nothing to gain
    (lambda: table_of(sd=1.0), Outcome.INCONCLUSIVE),  # noisy
    (lambda: table_of(seeds=1), Outcome.INCONCLUSIVE),  # too small
    (lambda: table_of(best=0.4), Outcome.INCONCLUSIVE),  # the best rate may lie beyond
]


@pytest.mark.parametrize(("table", "outcome"), TABLES)
def test_the_judge(table, outcome):
    verdict = claim.judge(table)
    assert verdict.outcome == outcome, verdict
    told = CLAIM.answer(table, verdict)
    assert 0 < len(told) <= 260
    again = independent.grow_the_batch(independent_statistics.filled(table.drop(columns="arm")), "mnist", [])
    assert again.outcome == outcome
    for phrase in again.phrases or ["Not settled"]:
        assert phrase in told


PARTS = [
    ({}, "So does", Outcome.REPRODUCED),
    ({"raised": -1.0}, "So does", Outcome.NOT_REPRODUCED),
    ({"raised": 0.5, "diverged": 2}, "So does", Outcome.INCONCLUSIVE),
    ({"diverged": 9}, "So does", Outcome.NOT_REPRODUCED),
    ({}, "So it is with", Outcome.REPRODUCED),
    ({"tuned": 0.05}, "So it is with", Outcome.NOT_REPRODUCED),
    ({}, "Each tuned", Outcome.REPRODUCED),
    ({"grow": -1.0}, "Each tuned", Outcome.NOT_REPRODUCED),
    ({"grow": -0.22}, "Each tuned", Outcome.INCONCLUSIVE),
    ({}, "Without either", Outcome.REPRODUCED),
    ({"constant": 0.0}, "Without either", Outcome.NOT_REPRODUCED),
]


@pytest.mark.parametrize(("fields", "part", "outcome"), PARTS)
def test_parts(fields, part, outcome):
    verdict = next(v for name, v in claim.judge(table_of(**fields)).parts.items() if name.startswith(part))
    assert verdict.outcome == outcome, verdict


@pytest.mark.parametrize("table", [pd.DataFrame({"key": []}), pd.DataFrame({"key": [], "arm": []})])
def test_nothing_is_judged_of_nothing(table):
    verdict = claim.judge(table)
    assert verdict.outcome == Outcome.INCONCLUSIVE and CLAIM.answer(table, verdict).startswith("Not settled")
    assert all(figure.data(table).empty and figure.title(table) for figure in CLAIM.figures)


def test_figures_draw_every_arm_and_say_what_was_found():
    for figure in CLAIM.figures:
        assert figure.data(table_of())["series"].nunique() == 4
        assert figure.title(table_of()) != figure.title(table_of(-1.5))


def test_the_noise_scale_falls_alike_in_every_arm():
    """η/B after each change, beside decay's; a batch that may not grow on leaves the rest to the learning rate."""
    of = {arm: next(t for name, t in TRIALS if name == arm) for arm in (claim.DECAY, claim.GROW, claim.RAISED)}
    noise = {arm: [t.lr / t.batch_size, *(p.lr / p.batch_size for p in t.schedule)] for arm, t in of.items()}
    assert noise[claim.GROW] == pytest.approx(noise[claim.DECAY], rel=1e-6)
    assert noise[claim.RAISED] == pytest.approx(noise[claim.DECAY], rel=1e-6)
    assert of[claim.GROW].schedule == tuple(Phase(e, 0.0125, b) for e, b in ((9, 256), (18, 1024), (24, 4096)))
    assert [p.batch_size for p in of[claim.RAISED].schedule] == [1024, 4096, 5000]


def test_a_batch_that_grows_takes_fewer_updates():
    updates = {arm: t.num_steps for arm, t in TRIALS}
    assert updates[claim.RAISED] < updates[claim.GROW] < updates[claim.DECAY] == updates[claim.CONSTANT]
    e = claim.judge(table_of()).effects["updates, growing over decaying"]
    assert e.value == pytest.approx(updates[claim.GROW] / updates[claim.DECAY])


def test_its_seconds_are_those_of_its_steps_at_each_batch_size():
    e = claim.judge(table_of()).effects[claim.SECONDS]
    grow, decay = (next(t for name, t in TRIALS if name == arm) for arm in (claim.GROW, claim.DECAY))
    epochs = {64: 9, 256: 9, 1024: 6, 4096: 6}
    each = {b: n * (grow.num_train // b) for b, n in epochs.items()}
    assert sum(each.values()) == grow.num_steps
    seconds = sum(n * (1 + b / 1000) for b, n in each.items())
    assert e.n == 3 and e.value == pytest.approx(seconds / (decay.num_steps * 1.064))


def test_seconds_are_those_of_a_trial_that_ended():
    """Not of one that diverged before its batch grew."""
    whole = table_of()
    first = (whole["arm"] == claim.GROW) & (whole["init_seed"] == 0)
    cut = whole[~first | (whole["epoch"] < 9)].copy()
    cut.loc[first, "status"] = "diverged"
    cut.loc[first & (cut["epoch"] == 3), "final"] = True
    told = [claim.judge(table).effects[claim.SECONDS].value for table in (whole, cut)]
    assert told[0] == told[1]


def test_neither_is_tried_from_lower_rates_too():
    rates = {arm: {t.lr for name, t in TRIALS if name == arm} for arm in (claim.DECAY, claim.CONSTANT)}
    assert sorted(rates[claim.CONSTANT] - rates[claim.DECAY]) == [0.0125 / 8, 0.0125 / 4, 0.0125 / 2]
    low = table_of(best=0.025, tuned=0.1)  # the best of neither is the lowest of the others
    assert "lowest or highest" not in claim.judge_without(low).reason


@pytest.mark.parametrize("given", [{"changes": [9, 9]}, {"changes": [40]}, {"epochs": 12}])
def test_a_design_that_makes_no_sense_is_refused(given):
    with pytest.raises(SpecError, match="must rise, below the"):
        CLAIM.sweeps("paper", **given)
