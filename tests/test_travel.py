"""The claim on how far networks travel: what is run, and how it is judged on tables that obey it and break it."""

import json

import independent
import independent_statistics
import numpy as np
import pandas as pd
import pytest

from repro import claims
from repro.claims import travel
from repro.claims.generalization_gap import EQUAL_EPOCHS, EQUAL_STEPS
from repro.claims.travel import experiment, judgement, readings
from repro.evidence.spec import Outcome

CLAIM = claims.get("travel")
TRIALS = [(s.name, trial) for s in CLAIM.sweeps("paper") for trial in s.trials()]
FAR = "distance"


def distance(trial, arm, law, root_slope, drawn):
    """A function of steps: of η·t alone, but for what is told."""
    if arm in (experiment.SAME_RATE, experiment.ROOT_RATE):
        slope = root_slope(trial.batch_size) if arm == experiment.ROOT_RATE else 1 + np.log2(trial.batch_size) / 20
        return lambda t: {"log": slope * np.log(1 + t), "root": slope * np.sqrt(t)}[law]
    if arm == experiment.DRAWN_LABELS:
        return lambda t: drawn * 0.1 * np.sqrt(trial.lr * t)
    if arm == experiment.ADAM:
        return lambda t: 0.3 * t**0.4
    return lambda t: 0.4 * np.sqrt(trial.lr * t)


def travel_table(
    *, behind=0.0, law="log", root_slope=lambda size: 1.0, drawn=10.0, raised=0.0, longer=0.0, f1=5.0, seeds=9, sd=0.03,
    same=False, adam=0.0, lost=(),
):  # fmt: skip
    """Test error falls with distance alone: 10 % over its square; `behind`: so many points worse of the large batch, at
    any distance; `same`: a large batch goes as far at equal epochs; `raised`, `longer`, `adam`: points worse of these
    arms; `lost`: batch sizes whose runs at a rate that goes as √B diverge."""
    rows = []
    worse = {experiment.RAISED: raised, EQUAL_STEPS: longer, experiment.ADAM: adam}
    for arm, trial in TRIALS:
        if trial.init_seed >= seeds:
            continue
        far = distance(trial, arm, law, root_slope, drawn)
        if arm in (experiment.F1_SMALL, experiment.F1_LARGE):
            far = lambda t, arm=arm: f1 if arm == experiment.F1_SMALL else 1.0  # noqa: E731
        fields = json.loads(trial.to_json())
        told = {name: json.dumps(v) if isinstance(v, list) else v for name, v in fields.items()} | {"arm": arm}
        rng = np.random.default_rng(int(trial.key, 16))  # a trial of two arms is one
        luck = rng.normal(0, sd)
        for step in trial.checkpoint_steps:
            equal = same and arm == EQUAL_EPOCHS
            d = far(step * (trial.batch_size / 64 if equal else 1)) * (1 + rng.normal(0, 1e-4))
            own = worse.get(arm, 0.0) * (trial.batch_size == 1024 or arm == experiment.ADAM)
            points_worse = luck + own + behind * (trial.batch_size == 1024)
            accuracy = 0.1 if trial.label_noise else 1 - min(0.1 / max(d, 1e-3) ** 2, 0.9) - points_worse / 100
            end = step == trial.num_steps
            diverged = arm == experiment.ROOT_RATE and trial.batch_size in lost
            epoch = step / trial.steps_in_epoch(0)
            rows.append(
                told
                | {
                    "key": trial.key,
                    "step": step,
                    "epoch": epoch,
                    "final": end,
                    "status": "diverged" if diverged else "finished",
                }
                | {"weight_distance": d, "bias_distance": d / 60, "weight_norm": 44.0, "test_accuracy": accuracy}
            )
    return pd.DataFrame(rows)


TABLES = [
    (lambda: travel_table(), Outcome.REPRODUCED),  # obeys
    (lambda: travel_table(behind=-0.5), Outcome.REPRODUCED),  # better at the same distance
    (lambda: travel_table(behind=2.0), Outcome.CONDITIONAL),  # worse at the same distance
    (lambda: travel_table(raised=2.0), Outcome.CONDITIONAL),  # a higher rate does not do
    (lambda: travel_table(longer=2.0), Outcome.CONDITIONAL),
    (lambda: travel_table(same=True), Outcome.NOT_REPRODUCED),  # breaks: it goes as far
    (lambda: travel_table(behind=-30.0), Outcome.NOT_REPRODUCED),  # nearer and better
    (lambda: travel_table(sd=0.8), Outcome.INCONCLUSIVE),  # noisy
    (lambda: travel_table(seeds=1), Outcome.INCONCLUSIVE),  # too small
]


@pytest.mark.parametrize(("table", "outcome"), TABLES)
def test_the_judge(table, outcome):
    verdict = travel.judge(table)
    assert verdict.outcome == outcome, verdict
    told = CLAIM.answer(table, verdict)
    assert 0 < len(told) <= 260
    again = independent.travel(
        independent_statistics.filled(table.drop_duplicates(["key", "step"]).drop(columns="arm")), "mnist", []
    )
    assert again.outcome == outcome
    for phrase in again.phrases or ["Not settled"]:
        assert phrase in told


@pytest.mark.parametrize("table", [pd.DataFrame({"key": []}), pd.DataFrame({"key": [], "arm": []})])
def test_nothing_is_judged_of_nothing(table):
    verdict = travel.judge(table)
    assert verdict.outcome == Outcome.INCONCLUSIVE and CLAIM.answer(table, verdict).startswith("Not settled")
    assert all(figure.data(table).empty and figure.title(table) for figure in CLAIM.figures)


PARTS = [
    ({}, "More epochs", Outcome.REPRODUCED),
    ({"longer": 2.0}, "More epochs", Outcome.NOT_REPRODUCED),
    ({}, "A learning rate", Outcome.REPRODUCED),
    ({"raised": 2.0}, "A learning rate", Outcome.NOT_REPRODUCED),
    ({}, "The post's ten times", Outcome.NOT_REPRODUCED),  # √(10/16) as far
    ({}, "For as many steps", Outcome.REPRODUCED),
    ({}, "The same for the first steps", Outcome.CONDITIONAL),  # those of B = 1024 and 4096 are within a tenth
    ({}, "A step of a large batch", Outcome.REPRODUCED),
    ({}, "Distance grows as log t", Outcome.REPRODUCED),
    ({"law": "root"}, "Distance grows as log t", Outcome.NOT_REPRODUCED),
    ({"lost": (4096,)}, "Distance grows as log t", Outcome.CONDITIONAL),
    ({"lost": (4096,), "law": "root"}, "Distance grows as log t", Outcome.INCONCLUSIVE),
    ({"lost": (4096,)}, "Slopes on log t", Outcome.REPRODUCED),  # of the batch sizes that both have
    ({}, "Slopes on log t", Outcome.REPRODUCED),
    ({"root_slope": lambda size: size}, "Slopes on log t", Outcome.NOT_REPRODUCED),
    ({}, "Small batches go", Outcome.REPRODUCED),
    ({"f1": 1.5}, "Small batches go", Outcome.NOT_REPRODUCED),
    ({"f1": 20.0}, "Small batches go", Outcome.NOT_REPRODUCED),
    ({}, "Another optimizer", Outcome.REPRODUCED),
    ({"adam": 1.0}, "Another optimizer", Outcome.NOT_REPRODUCED),
    ({"adam": 0.3}, "Another optimizer", Outcome.INCONCLUSIVE),
    ({}, "What goes as far", Outcome.NOT_REPRODUCED),  # the control: random labels go farther and test at chance
    ({"drawn": 0.1}, "What goes as far", Outcome.INCONCLUSIVE),  # which does not hold if they do not go as far
]


@pytest.mark.parametrize(("fields", "part", "outcome"), PARTS)
def test_parts(fields, part, outcome):
    verdict = next(v for name, v in travel.judge(travel_table(**fields)).parts.items() if name.startswith(part))
    assert verdict.outcome == outcome, verdict


@pytest.mark.parametrize("figure", CLAIM.figures, ids=lambda f: f.id)
def test_figures_draw_what_there_is(figure):
    table = travel_table()
    assert len(figure.data(table)) and figure.title(table)


def test_titles_say_what_was_found():
    titles = [figure.title(travel_table()) for figure in CLAIM.figures]
    assert titles == [
        "Where it is as far from the start, B = 1024 tests no worse than B = 64",
        "At equal epochs, the larger the batch, the nearer the network stays to its start",
        "Slopes on log t are more alike where the learning rate goes as √B",
        "The logarithm of time foretells distance best",
    ]
    broken = travel_table(behind=2.0, law="root", root_slope=lambda size: size, same=True)
    assert not {*titles} & {figure.title(broken) for figure in CLAIM.figures}


def test_accuracy_on_the_way_is_that_of_the_path_at_that_distance():
    """Where error is a power of distance, exactly; beyond the path, not a number."""
    d = np.array([1.0, 3.0, 7.0])
    rows = pd.DataFrame({"weight_distance": d, "test_accuracy": 1 - 0.1 * d**-0.7})
    for at in (1.0, 2.2, 6.9, 7.0):
        assert readings.accuracy_on_the_way(rows, at) == pytest.approx(1 - 0.1 * at**-0.7, rel=1e-12)
    assert np.isnan([readings.accuracy_on_the_way(rows, at) for at in (0.9, 7.1)]).all()


def test_paths_are_compared_where_the_nearer_ends():
    near = pd.DataFrame({"weight_distance": [1.0, 2.0], "test_accuracy": [0.8, 0.9]})
    far = pd.DataFrame({"weight_distance": [2.0, 4.0], "test_accuracy": [0.7, 0.95]})
    late = far.assign(weight_distance=[3.0, 4.0])
    found = readings.as_far({0: near, 1: far, 2: near}, {0: far, 1: near, 2: late, 3: near})
    assert found == {0: (pytest.approx(0.9), pytest.approx(0.7)), 1: (pytest.approx(0.7), pytest.approx(0.9))}


def test_slopes_are_per_unit_of_the_natural_logarithm():
    found = readings.slopes(travel_table(sd=0.0), experiment.SAME_RATE)
    assert found.index.tolist() == [16, 64, 256, 1024, 4096]
    assert found.loc[1024].mean() == pytest.approx(1.5, rel=0.02)


def test_the_raised_rate_makes_rate_times_steps_as_much():
    arms = {name: trial for name, trial in TRIALS if trial.init_seed == 0 and name == experiment.RAISED}
    alone = next(t for name, t in TRIALS if name == EQUAL_EPOCHS and t.batch_size == 64)
    raised = arms[experiment.RAISED]
    assert raised.lr * raised.num_steps == pytest.approx(alone.lr * alone.num_steps, rel=0.01)


def test_the_arms_of_other_chapters_are_theirs():
    """So that what they ran is not run again."""
    mine = {t.key for _, t in TRIALS}
    gap = {t.key for s in claims.get("generalization-gap").sweeps("paper") for t in s.trials()}
    sharp = {t.key for s in claims.get("sharp-minima").sweeps("paper") for t in s.trials() if "trained on" in s.name}
    assert gap <= mine and len(sharp & mine) == 6


def test_only_the_control_has_random_labels():
    assert {name for name, t in TRIALS if t.label_noise} == {experiment.DRAWN_LABELS}
    assert {t.label_noise for name, t in TRIALS if name == experiment.DRAWN_LABELS} == {1.0}


def test_a_large_batch_that_moves_farther_in_an_epoch_speaks_against_it():
    assert judgement.judge_first_epoch(travel_table(), 1024, 64).outcome == Outcome.NOT_REPRODUCED


def test_judgement_names_what_it_weighs():
    assert {judgement.NEARER, judgement.WORSE, judgement.AT_SAME} == set(travel.judge(travel_table()).effects)
