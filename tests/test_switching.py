"""The claim on switching the batch size: what is run, and how it is judged on tables that obey it and break it."""

import json

import independent
import independent_statistics
import numpy as np
import pandas as pd
import pytest

from repro import claims
from repro.claims import switching
from repro.evidence.spec import Outcome
from repro.names import SpecError

CLAIM = claims.get("switching")
ARMS = {s.name: s.trials()[0] for s in CLAIM.sweeps("paper")}


def switching_table(
    behind=0.0, *, late=None, kept=-2.0, stuck=-3.0, faster=0.0, equal=0.0, rest=0.0, seeds=5, sd=0.05, post=None,
    wide_kept=None, wide_stuck=None,
):  # fmt: skip
    """Test accuracies: 98 % of the small batch; so many points more of what is switched, or is not; `late`: switched
    last; `post`: on the post's network, and so `wide_kept`,
    `wide_stuck`."""
    rng, rows = np.random.default_rng(0), []
    shift = {switching.SMALL_KEPT: 0.0, switching.LARGE_KEPT: kept, switching.STUCK: stuck, switching.FASTER: faster}
    shift |= {
        switching.LATEST: rest,
        switching.AT_EQUAL_STEPS: equal,
        "switched after epoch 30": behind if late is None else late,
    }
    on_post = switching.OF_POST.format
    shift |= {on_post(arm): shift.get(arm, behind) for arm in (switching.SMALL_KEPT, switching.LARGE_KEPT)}
    of_wide = {switching.LARGE_KEPT: wide_kept, switching.STUCK: stuck if wide_stuck is None else wide_stuck}
    shift |= {on_post(arm): value for arm, value in of_wide.items() if value is not None}
    shift |= {arm: behind if post is None else post for arm in ARMS if arm.startswith(on_post("")) and arm not in shift}
    for arm, trial in ARMS.items():
        fields = json.loads(trial.to_json())
        told = {name: json.dumps(v) if isinstance(v, list) else v for name, v in fields.items()} | {"arm": arm}
        for seed in range(min(seeds, 3) if arm.startswith(on_post("")) else seeds):
            accuracy = 0.98 + shift.get(arm, behind) / 100 + rng.normal(0, sd / 100)
            told |= {"key": f"{arm}{seed}", "init_seed": seed, "data_seed": seed, "status": "finished"}
            for epoch in (*trial.checkpoints, trial.epochs):
                rows.append(
                    told | {"epoch": epoch, "final": epoch == trial.epochs, "test_accuracy": accuracy, "step": 1}
                )
    return pd.DataFrame(rows)


TABLES = [
    (lambda: switching_table(), Outcome.REPRODUCED),  # obeys
    (lambda: switching_table(0.5), Outcome.REPRODUCED),  # better than the small batch alone
    (lambda: switching_table(-1.0), Outcome.NOT_REPRODUCED),  # breaks
    (lambda: switching_table(late=-1.0), Outcome.CONDITIONAL),
    (lambda: switching_table(post=-1.0), Outcome.CONDITIONAL),  # on the post's network it is stuck
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
    assert CLAIM.answer(table, verdict)


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


@pytest.mark.parametrize(
    ("fields", "part", "outcome"),
    [
        ({}, "Switched with as many", Outcome.REPRODUCED),
        ({"equal": -1.0}, "Switched with as many", Outcome.NOT_REPRODUCED),
        ({"faster": -1.0}, "A higher", Outcome.NOT_REPRODUCED),
        ({"faster": -0.28}, "A higher", Outcome.INCONCLUSIVE),
        ({"rest": -1.0}, "Switched after as many steps of the large batch", Outcome.NOT_REPRODUCED),
        ({}, "A network that is stuck", Outcome.REPRODUCED),
        ({"stuck": 0.0}, "A network that is stuck", Outcome.NOT_REPRODUCED),
        ({}, "On the post's network, it", Outcome.REPRODUCED),
        ({"post": -1.0}, "On the post's network, it", Outcome.NOT_REPRODUCED),
        ({"post": -1.0}, "On the post's network, a higher", Outcome.NOT_REPRODUCED),
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
        arm.removeprefix(switching.OF_POST.format("")): (
            t.batch_size,
            t.epochs,
            [(p.epoch, p.batch_size, p.lr) for p in t.schedule],
        )
        for arm, t in ARMS.items()
        if t.widths == (1024, 1024) and not arm.endswith(switching.STUCK)
    }
    assert told == {
        switching.SMALL_KEPT: (64, 30, []),
        switching.LARGE_KEPT: (1024, 60, []),
        "switched after epoch 1": (1024, 31, [(1, 64, 0.01)]),
        "switched after epoch 30": (1024, 60, [(30, 64, 0.01)]),
        switching.FASTER: (1024, 60, [(30, 1024, 0.1)]),
    }


def test_as_many_steps_in_all_are_as_many():
    assert ARMS[switching.AT_EQUAL_STEPS].num_steps == ARMS[switching.SMALL_KEPT].num_steps


@pytest.mark.parametrize("given", [{"switches": [3, 1]}, {"small": 512, "large": 64}])
def test_a_design_that_makes_no_sense_is_refused(given):
    with pytest.raises(SpecError, match="must rise, and small"):
        CLAIM.sweeps("paper", **given)
