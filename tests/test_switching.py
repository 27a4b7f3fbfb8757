"""The claim on switching the batch size: what is run, and how it is judged on tables that obey it and break it."""

import json

import independent
import independent_statistics
import numpy as np
import pandas as pd
import pytest

from repro import claims
from repro.claims import switching
from repro.claims.switching import experiment, judgement
from repro.evidence.spec import Outcome
from repro.names import SpecError

CLAIM = claims.get("switching")
ARMS = {s.name: s.trials()[0] for s in CLAIM.sweeps("paper")}


def switching_table(
    behind=0.0, *, late=None, kept=-2.0, stuck=-3.0, faster=0.0, equal=0.0, rest=0.0, seeds=5, sd=0.05, post=None,
    wide_kept=None, wide_stuck=None, wavers=0.0,
):  # fmt: skip
    """Test accuracies: 98 % of the small batch; so many points more of what is switched, or is not; `late`: switched
    last; `post`: on the post's network, and so `wide_kept`, `wide_stuck`; `wavers`: from checkpoint to checkpoint."""
    rng, rows = np.random.default_rng(0), []
    shift = {experiment.SMALL_KEPT: 0.0, experiment.SMALL_LONGER: 0.0, experiment.LARGE_KEPT: kept}
    shift |= {experiment.STUCK: stuck, experiment.LATEST: rest, experiment.AT_EQUAL_STEPS: equal}
    shift |= {arm: faster for arm in ARMS if arm.startswith("ten times")}
    shift |= {"switched after epoch 30": behind if late is None else late}
    on_post = experiment.OF_POST.format
    of_wide = {experiment.LARGE_KEPT: wide_kept, experiment.STUCK: wide_stuck}
    for arm in [a.removeprefix(on_post("")) for a in ARMS if a.startswith(on_post(""))]:
        usual = shift.get(arm, behind) if not arm.startswith("switched after") or post is None else post
        shift[on_post(arm)] = usual if of_wide.get(arm) is None else of_wide[arm]
    for arm, trial in ARMS.items():
        fields = json.loads(trial.to_json())
        told = {name: json.dumps(v) if isinstance(v, list) else v for name, v in fields.items()} | {"arm": arm}
        for seed in range(seeds):
            accuracy = 0.98 + shift.get(arm, behind) / 100 + rng.normal(0, sd / 100)
            told |= {"key": f"{arm}{seed}", "init_seed": seed, "data_seed": seed, "status": "finished"}
            for i, epoch in enumerate((*trial.checkpoints, trial.epochs)):
                end = epoch == trial.epochs
                now = accuracy + (0 if end else (-1) ** i * wavers / 100)
                rows.append(told | {"epoch": epoch, "final": end, "test_accuracy": now, "step": 1})
    return pd.DataFrame(rows)


TABLES = [
    (lambda: switching_table(), Outcome.REPRODUCED),  # obeys
    (lambda: switching_table(0.5), Outcome.REPRODUCED),  # better than the small batch alone
    (lambda: switching_table(-1.0), Outcome.NOT_REPRODUCED),  # breaks
    (lambda: switching_table(-2.0), Outcome.NOT_REPRODUCED),  # stays where the large batch has left it
    (lambda: switching_table(late=-1.0), Outcome.CONDITIONAL),
    (lambda: switching_table(post=-1.0), Outcome.CONDITIONAL),  # on the post's network it is stuck
    (lambda: switching_table(rest=-1.0), Outcome.CONDITIONAL),  # after as many steps it is stuck
    (lambda: switching_table(faster=-3.0), Outcome.CONDITIONAL),  # a higher rate harms
    (lambda: switching_table(faster=-2.0), Outcome.INCONCLUSIVE),  # is worth nothing that can be seen
    (lambda: switching_table(kept=1.0), Outcome.NOT_REPRODUCED),  # switching harms
    (lambda: switching_table(sd=0.6), Outcome.INCONCLUSIVE),  # noisy
    (lambda: switching_table(seeds=1), Outcome.INCONCLUSIVE),  # too small
    (lambda: switching_table(stuck=0.0), Outcome.INCONCLUSIVE),  # what is stuck cannot be told
    (lambda: switching_table(kept=0.0), Outcome.INCONCLUSIVE),  # nothing to gain
    (lambda: switching_table(wide_stuck=0.0), Outcome.INCONCLUSIVE),  # the same on the post's network alone
    (lambda: switching_table(wide_kept=0.0), Outcome.INCONCLUSIVE),
    (lambda: switching_table(wide_kept=1.0), Outcome.NOT_REPRODUCED),
]


@pytest.mark.parametrize(("table", "outcome"), TABLES)
def test_the_judge(table, outcome):
    verdict = switching.judge(table)
    assert verdict.outcome == outcome, verdict
    assert 0 < len(CLAIM.answer(table, verdict)) <= 260


@pytest.mark.parametrize(("table", "outcome"), TABLES)
def test_a_second_implementation_says_the_same(table, outcome):
    """From the fields of the trials, without the names of arms."""
    told = CLAIM.answer(table, switching.judge(table))
    again = independent.switching(independent_statistics.filled(table.drop(columns="arm")), "mnist", [])
    assert again.outcome == outcome
    for phrase in again.phrases or ["Not settled"]:
        assert phrase in told


@pytest.mark.parametrize("table", [pd.DataFrame({"key": []}), pd.DataFrame({"key": [], "arm": []})])
def test_nothing_is_judged_of_nothing(table):
    verdict = switching.judge(table)
    assert verdict.outcome == Outcome.INCONCLUSIVE and CLAIM.answer(table, verdict).startswith("Not settled")
    assert all(figure.data(table).empty and figure.title(table) for figure in CLAIM.figures)


@pytest.mark.parametrize("missing", [*ARMS])
def test_a_sweep_without_one_of_its_arms_is_judged(missing):
    table = switching_table()
    verdict = switching.judge(table[table["arm"] != missing])
    assert CLAIM.answer(table, verdict)


def test_a_single_row_that_wavers_does_not_decide():
    """Every end is 0.4 points above the epochs before it, by turns: averaged over ten of them, it is the same."""
    table = switching_table(wavers=0.4, sd=0.01)
    ends = judgement.ends(table)
    assert ends["test_accuracy"].max() < 0.981 and len(ends) == len(table[table["final"]])


@pytest.mark.parametrize(
    ("fields", "part", "outcome"),
    [
        ({}, "Switched with as many", Outcome.REPRODUCED),
        ({"equal": -1.0}, "Switched with as many", Outcome.NOT_REPRODUCED),
        ({"faster": -1.0}, "A higher learning rate catches", Outcome.NOT_REPRODUCED),
        ({"faster": -0.28}, "A higher learning rate catches", Outcome.INCONCLUSIVE),
        ({"faster": -1.0}, "A higher learning rate, too", Outcome.REPRODUCED),
        ({"faster": -2.5}, "A higher learning rate, too", Outcome.NOT_REPRODUCED),
        ({"faster": -2.0}, "A higher learning rate, too", Outcome.INCONCLUSIVE),
        ({"faster": -1.0, "wide_kept": -0.5}, "A higher learning rate, too", Outcome.CONDITIONAL),
        ({"rest": -1.0}, "Switched after as many steps of the large batch", Outcome.NOT_REPRODUCED),
        ({}, "A network that is stuck", Outcome.REPRODUCED),
        ({"stuck": 0.0}, "A network that is stuck", Outcome.NOT_REPRODUCED),
        ({}, "On the post's network, it", Outcome.REPRODUCED),
        ({"post": -1.0}, "On the post's network, it", Outcome.NOT_REPRODUCED),
    ],
)
def test_parts(fields, part, outcome):
    verdict = next(v for name, v in switching.judge(switching_table(**fields)).parts.items() if name.startswith(part))
    assert verdict.outcome == outcome, verdict


@pytest.mark.parametrize("figure", CLAIM.figures, ids=lambda f: f.id)
def test_figures_draw_what_there_is(figure):
    table = switching_table()
    assert len(figure.data(table)) and figure.title(table)


def test_the_published_arms_are_as_published():
    """The post's five: B = 64 for 30 epochs, 1024 for 60, 1 or 30 epochs of 1024 and then 30 of 64, or of ten times
    the learning rate."""
    told = {
        arm.removeprefix(experiment.OF_POST.format("")): (
            t.batch_size,
            t.epochs,
            [(p.epoch, p.batch_size, p.lr) for p in t.schedule],
        )
        for arm, t in ARMS.items()
        if t.widths == (1024, 1024) and not arm.endswith(experiment.STUCK)
    }
    assert told == {
        experiment.SMALL_KEPT: (64, 30, []),
        experiment.LARGE_KEPT: (1024, 60, []),
        "switched after epoch 1": (1024, 31, [(1, 64, 0.01)]),
        "switched after epoch 30": (1024, 60, [(30, 64, 0.01)]),
        experiment.FASTER.format(30): (1024, 60, [(30, 1024, 0.1)]),
    }


def test_as_many_steps_in_all_are_as_many():
    assert ARMS[experiment.AT_EQUAL_STEPS].num_steps == ARMS[experiment.SMALL_KEPT].num_steps


@pytest.mark.parametrize("given", [{"switches": [3, 1]}, {"small": 512, "large": 64}])
def test_a_design_that_makes_no_sense_is_refused(given):
    with pytest.raises(SpecError, match="must rise, and small"):
        CLAIM.sweeps("paper", **given)


@pytest.mark.parametrize(
    ("given", "outcome"),
    [
        ({}, Outcome.REPRODUCED),
        ({"late": -1.0}, Outcome.NOT_REPRODUCED),  # what the epochs of the large batch cost
        ({"late": -0.3}, Outcome.INCONCLUSIVE),
        ({"seeds": 1}, Outcome.INCONCLUSIVE),
    ],
)
def test_with_as_many_epochs_in_all(given, outcome):
    verdict = switching.judge(switching_table(**given)).parts[judgement.EQUAL_EPOCHS]
    assert verdict.outcome == outcome, verdict


def test_other_numbers_of_epochs_are_not_compared():
    table = switching_table()
    table.loc[table["arm"] == experiment.SMALL_LONGER, "epochs"] = 50.0
    assert judgement.judge_equal_epochs(table).reason == "Not run for as many epochs in all."
