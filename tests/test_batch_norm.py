"""The claim that batch norm ties the batch size to regularisation: judged on tables that obey it and break it."""

import json

import independent
import independent_statistics
import numpy as np
import pandas as pd
import pytest

from repro import claims
from repro.claims import batch_norm as claim
from repro.claims.batch_norm import experiment, judgement
from repro.evidence.spec import Outcome
from repro.names import SpecError

CLAIM = claims.get("batch-norm")
TRIALS = [(s.name, trial) for s in CLAIM.sweeps("paper") for trial in s.trials()]
EPOCHS, STEPS = experiment.EPOCHS, experiment.STEPS


def table_of(
    ghosts=0.6,
    *,
    gap=-2.0,
    early=1.5,
    steps=1.6,
    gain=2.0,
    start=3.0,
    worth=0.0,
    seeds=10,
    sd=0.03,
    loss=(2.0, 2.0),
    **more,
):
    """Test accuracies: 97 % of the small batch with batch norm; points more: `gap` of the large one at as many epochs,
    of which ghosts bring `early` back (`faster`, at a higher rate) and as many updates `steps`; `ghosts`, at as many
    steps, and smaller ones `dose` more; `without`, of the large batch without batch norm at as many steps; `gain`, of
    batch norm, alone. `worth`: of what is given to ghosts alone, `to_all` to all. `loss`: of training, with ghosts,
    times, at as many epochs and steps. Kinds of start
    lie `start` points apart without batch norm, at `kinds` thirds of it."""
    rng, rows = np.random.default_rng(1), []
    ends = {
        experiment.ARM.format(net, norm, budget): value
        for net in experiment.NETWORKS
        for norm, budget, value in (
            (experiment.WHOLE, EPOCHS, gap),
            (experiment.GHOSTS, EPOCHS, gap + early),
            (experiment.WHOLE, STEPS, gap + steps),
            (experiment.GHOSTS, STEPS, gap + steps + ghosts),
            (experiment.SMALLER, STEPS, gap + steps + ghosts + more.get("dose", 0.5)),
            (experiment.NONE, STEPS, more.get("without", 0.0)),
            (experiment.WHOLE, experiment.FASTER, gap),
            (experiment.GHOSTS, experiment.FASTER, gap + more.get("faster", 0.5)),
        )
    }
    inits = ("glorot", "glorot_normal", "pytorch", "he")
    kinds = more.get("kinds", (0, 1, 2, 3))
    for arm, t in TRIALS:
        if t.init_seed >= seeds:
            continue
        end = 97.0 + ends.get(arm, 0.0) * (t.batch_size == 1024) + rng.normal(0, sd)
        if arm in (*judgement.ALONE, *judgement.TO_ALL):
            given = worth if arm in judgement.ALONE else more.get("to_all", 0.0) * (arm in experiment.SHARED)
            end = 97.0 + gap + early + given + rng.normal(0, sd)
        if "learning rates" in arm:
            end += gain * t.batch_norm - abs(np.log2(t.lr / 0.02))
        if "starts" in arm:
            i = inits.index(t.init)
            end += (0.5 * i if t.batch_norm else start * kinds[i]) / 3
        fields = json.loads(t.to_json())
        told = {name: json.dumps(v) if isinstance(v, list) else v for name, v in fields.items()} | {"arm": arm}
        told |= {"key": t.key, "status": "finished"}
        for step in t.checkpoint_steps:
            best = more.get("best", 0.0) if arm == experiment.BEST_EPOCH and step == t.checkpoint_steps[-2] else 0.0
            accuracy = (end + best if step else 10.0) / 100
            if 0 < step < t.num_steps and not best:
                accuracy -= 0.02
            told |= {"step": step, "epoch": step / t.steps_in_epoch(0), "final": step == t.num_steps}
            times = loss[t.steps is not None] if t.ghost_size else 1.0
            told["train_loss"] = 0.1 * times * np.exp(rng.normal(0, sd))
            rows.append(told | {"test_accuracy": accuracy, "validation_accuracy": accuracy})
    return pd.DataFrame(rows)


TABLES = [
    (lambda: table_of(), Outcome.REPRODUCED),  # obeys
    (lambda: table_of(-0.6), Outcome.CONDITIONAL),  # a dependence, but not as regularisation has it
    (lambda: table_of(early=-0.5), Outcome.CONDITIONAL),  # the other way round at as many epochs
    (lambda: table_of(0.0), Outcome.CONDITIONAL),  # at as many epochs alone
    (lambda: table_of(0.0, early=0.0), Outcome.NOT_REPRODUCED),  # breaks
    (lambda: table_of(0.3, sd=0.8), Outcome.INCONCLUSIVE),  # noisy
    (lambda: table_of(seeds=1), Outcome.INCONCLUSIVE),  # too small
]


@pytest.mark.parametrize(("table", "outcome"), TABLES)
def test_the_judge(table, outcome):
    verdict = claim.judge(table)
    assert verdict.outcome == outcome, verdict
    told = CLAIM.answer(table, verdict)
    assert 0 < len(told) <= 260
    again = independent.batch_norm(
        independent_statistics.filled(table.drop_duplicates(["key", "step"]).drop(columns="arm")), "mnist", []
    )
    assert again.outcome == outcome
    for phrase in again.phrases or ["Not settled"]:
        assert phrase in told


PARTS = [
    ({}, "The same on LeNet-5", Outcome.REPRODUCED),
    ({"ghosts": 0.0, "early": 0.0}, "The same on LeNet-5", Outcome.NOT_REPRODUCED),
    ({}, "Over smaller", Outcome.REPRODUCED),
    ({"ghosts": -0.6, "dose": -0.5}, "Over smaller", Outcome.REPRODUCED),
    ({"dose": 0.0}, "Over smaller", Outcome.NOT_REPRODUCED),
    ({"dose": -0.5}, "Over smaller", Outcome.NOT_REPRODUCED),
    ({"ghosts": 0.0}, "Over smaller", Outcome.INCONCLUSIVE),  # of nothing there is no more
    ({}, "With batch norm a large", Outcome.REPRODUCED),
    ({"without": -0.4}, "With batch norm a large", Outcome.NOT_REPRODUCED),
    ({"without": -2.0}, "With batch norm a large", Outcome.NOT_REPRODUCED),
    ({"without": -0.1, "sd": 0.5}, "With batch norm a large", Outcome.INCONCLUSIVE),
    ({}, "With ghosts it is not", Outcome.REPRODUCED),
    ({"ghosts": 0.0}, "With ghosts it is not", Outcome.NOT_REPRODUCED),
    ({"ghosts": 0.2, "sd": 0.1}, "With ghosts it is not", Outcome.INCONCLUSIVE),
    ({}, "Ghosts make the gap", Outcome.REPRODUCED),
    ({"faster": 0.0}, "Ghosts make the gap", Outcome.NOT_REPRODUCED),
    ({"faster": -0.5}, "Ghosts make the gap", Outcome.NOT_REPRODUCED),
    ({"faster": 0.2, "sd": 0.2}, "Ghosts make the gap", Outcome.INCONCLUSIVE),
    ({"gap": 0.0}, "Ghosts make the gap", Outcome.INCONCLUSIVE),  # nothing to remove
    ({}, "More updates", Outcome.REPRODUCED),
    ({"steps": 1.0}, "More updates", Outcome.NOT_REPRODUCED),
    ({"gap": 0.0}, "More updates", Outcome.INCONCLUSIVE),
    ({}, "Batch norm is worth", Outcome.REPRODUCED),
    ({"gain": 0.5}, "Batch norm is worth", Outcome.NOT_REPRODUCED),
    ({}, "It reduces", Outcome.REPRODUCED),
    ({"start": 0.1}, "It reduces", Outcome.NOT_REPRODUCED),
    ({"start": 9.0, "kinds": (0, 0.01, 1, 0)}, "It reduces", Outcome.CONDITIONAL),  # of one kind alone
    ({"start": 0.4, "sd": 0.15}, "It reduces", Outcome.INCONCLUSIVE),
    ({}, "It is regularisation", Outcome.REPRODUCED),
    ({"loss": (2.0, 0.5)}, "It is regularisation", Outcome.CONDITIONAL),
    ({"loss": (0.5, 0.5)}, "It is regularisation", Outcome.NOT_REPRODUCED),
    ({"loss": (2.0, 1.0)}, "It is regularisation", Outcome.INCONCLUSIVE),
    ({}, "What the released", Outcome.REPRODUCED),
    ({"worth": 0.5}, "What the released", Outcome.NOT_REPRODUCED),
    ({"worth": 0.15, "sd": 0.12}, "What the released", Outcome.INCONCLUSIVE),
    ({"worth": 0.5}, "What it gives to all", Outcome.REPRODUCED),
    ({"to_all": 0.5}, "What it gives to all", Outcome.NOT_REPRODUCED),
    ({"best": 0.5}, "What it gives to all", Outcome.NOT_REPRODUCED),
    ({"to_all": 0.15, "sd": 0.12}, "What it gives to all", Outcome.INCONCLUSIVE),
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


def test_figures_draw_what_there_is_and_say_what_was_found():
    for figure in CLAIM.figures:
        assert len(figure.data(table_of())) in (12, 5) and figure.title(table_of())
    told = {CLAIM.figures[0].title(table_of(**of)) for of in ({}, {"ghosts": -0.6}, {"ghosts": 0.0, "early": 0.0})}
    assert len(told) == 3


def test_only_the_statistics_differ_between_the_two_that_are_held_against_each_other():
    arms = {name: t for name, t in TRIALS if t.init_seed == 0 and t.batch_size == 1024}
    whole, ghosts = (arms[experiment.ARM.format("perceptron", n, STEPS)] for n in (experiment.WHOLE, experiment.GHOSTS))
    told = [json.loads(t.to_json()) for t in (whole, ghosts)]
    assert {name for name in told[0] if told[0][name] != told[1][name]} == {"ghost_size"}
    small = next(t for name, t in TRIALS if name == experiment.ARM.format("perceptron", experiment.WHOLE, EPOCHS))
    assert small.batch_size == 128 and whole.num_steps == small.num_steps


def test_a_start_that_diverges_counts():
    """As one from which nothing is learnt; its seed is not left out."""
    table = table_of()
    lost = table["arm"].str.startswith("starts, no") & (table["init"] == "he") & table["final"]
    table.loc[lost & (table["init_seed"] == 0), ["status", "test_accuracy"]] = ["diverged", np.nan]
    starts = judgement.of_starts(table, experiment.NONE)
    assert starts.shape == (4, 10) and starts.loc["he", 0] == 10.0


def test_the_best_epoch_is_chosen_by_the_test_set():
    e = judgement.worth(table_of(best=0.5, sd=0.0), experiment.BEST_EPOCH)
    assert e.value == pytest.approx(0.5)


@pytest.mark.parametrize("given", [{"batch_sizes": [64, 1024]}, {"batch_sizes": [1024]}, {"ghost_size": 2000}])
def test_a_design_that_makes_no_sense_is_refused(given):
    with pytest.raises(SpecError, match="must be two, rising"):
        CLAIM.sweeps("paper", **given)
