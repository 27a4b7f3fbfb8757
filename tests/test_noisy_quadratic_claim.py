"""The claim on the noisy quadratic model: its prediction on networks that are one, and how it is judged."""

import itertools
import math

import independent
import independent_statistics
import numpy as np
import pandas as pd
import pytest
from test_steps_to_target import as_recorded, study_rows

from repro import claims
from repro.claims.noise_scale.experiment import ALONG
from repro.claims.noisy_quadratic import judgement, prediction
from repro.evidence.spec import Outcome
from repro.theory.noisy_quadratic import Method, Quadratic, best_method, loss_after, steps_to_target

CLAIM = claims.get("noisy-quadratic")
SIZES = tuple(4**k for k in range(1, 8))
NAMES = ("784-256-10, SGD", "784-256-10, momentum")
CURVATURE = np.geomspace(0.01, 10, 25)
LOOKS = (0, 40, 80, 160, 320)


def network(noise=1.0):
    """A network that is a quadratic: noise in proportion to curvature, every direction equally far away."""
    return Quadratic.of(CURVATURE, noise * CURVATURE, 1.0)


def along_rows(study, q=None, seeds=2, sizes=(64, 1024)):
    """What is measured along plain descent without noise, where the gradient is known: γ = h² θ²."""
    q, rows = q or network(), []
    for size, seed, step in itertools.product(sizes, range(seeds), LOOKS):
        left = (1 - 0.15 * q.curvature) ** (2 * step) * q.start
        told = {"arm": f"{study}{ALONG}", "key": f"{study}{size}-{seed}", "init_seed": seed, "step": float(step)}
        told |= {"final": step == LOOKS[-1], "status": "finished", "dataset": "mnist", "batch_size": size, "lr": 0.1}
        told |= {"momentum": 0.0, "validation_accuracy": 0.9, "target_accuracy": math.nan}
        told |= {"gradient_eigenvalue": q.curvature.tolist(), "gradient_weight": (q.curvature**2 * left).tolist()}
        told |= {"noise_eigenvalue": q.curvature.tolist(), "noise_weight": q.noise.tolist()}
        rows.append(told | {"train_loss": float(q.loss(left))})
    return rows


def way(q=None):
    trials = [trial for _, trial in pd.DataFrame(along_rows("x", q, sizes=(1024,))).groupby("init_seed")]
    return prediction.stretches(trials)


def test_a_stretch_is_the_network_where_it_is_and_how_far_it_falls():
    q, stretches = network(), way()
    assert len(stretches) == len(LOOKS) - 1
    first = stretches[0]
    assert first.fall == pytest.approx(float(q.loss(q.start)) - along_rows("x")[1]["train_loss"])
    assert first.quadratic.noise.sum() == pytest.approx(q.noise.sum())
    bins = first.quadratic.curvature
    assert (first.quadratic.start * bins**2).sum() == pytest.approx((q.curvature**2).sum())


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_steps_are_those_of_the_exact_recursion(momentum):
    """Of one stretch, over learning rates and batch sizes, to within the grid of steps."""
    [stretch, *_] = way()
    rates, sizes = np.array([0.02, 0.1]), np.array([4.0, 64.0, 1024.0])
    found = prediction.steps_of(stretch, rates, momentum, sizes)
    target = float(stretch.quadratic.loss(stretch.quadratic.start)) - stretch.fall
    for i, lr in enumerate(rates):
        for j, size in enumerate(sizes):
            exact = steps_to_target(stretch.quadratic, Method(float(lr), momentum), float(size), target)
            assert found[i, j] == pytest.approx(exact, rel=0.1, abs=1) or exact == found[i, j] == math.inf


def test_the_best_is_that_of_a_search():
    """One stretch, for which theory itself can search."""
    [stretch, *_] = way()
    target = float(stretch.quadratic.loss(stretch.quadratic.start)) - stretch.fall
    sizes = np.array([4.0, 64.0, 1024.0])
    for momentum in (False, True):
        found = prediction.predict([stretch], sizes, momentum)
        for j, size in enumerate(sizes):
            exact, _ = best_method(stretch.quadratic, float(size), target, momentum)
            assert math.exp(found.log_steps[j]) == pytest.approx(exact, rel=0.15, abs=1)


def test_a_target_that_noise_forbids_is_never_met():
    q = network(noise=1e9)
    found = prediction.predict(way(q), np.array([1.0]), False)
    assert found.log_steps[0] == math.inf
    assert loss_after(q, Method(0.01), 1.0, 1000) > float(q.loss(q.start))


def in_theory(q, sizes, momentum=False):
    """What is predicted of the network from the first look after the start on."""
    looks = pd.DataFrame(along_rows("x", q, sizes=(1024,)))
    trials = [t for _, t in looks[looks["step"] > 0].groupby("init_seed")]
    return prediction.predict(prediction.stretches(trials), np.array(sizes, float), momentum)


def theory_table(off=(0.0, 0.0), bend=0.0, rates=(0.0, 0.0), more=0.0, trials_each=16, sd=0.05, at=SIZES):
    """Measured steps are those predicted: but for a constant e^off, a slope `bend` of log S on log B, best learning
    rates so many octaves off, and `more` at a single batch size."""
    rows = []
    for k, name in enumerate(NAMES):
        said = in_theory(network(), at, name.endswith("momentum"))
        change = off[k] + bend * np.log(np.array(at) / at[len(at) // 2]) + more * (np.arange(len(at)) == 2)
        law = dict(zip(at, 20 * np.exp(said.log_steps + change), strict=True))
        rate = dict(zip(at, 2.0 ** (said.log_rates + rates[k]), strict=True))
        rows += study_rows(name, law.get, sizes=at, trials=trials_each, sd=sd, rate=rate.get, seed=k)
        rows += along_rows(name)
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("table", "outcome"),
    [
        (lambda: theory_table(), Outcome.REPRODUCED),  # obeys
        (lambda: theory_table(off=(-3.0, -3.0)), Outcome.REPRODUCED),  # a constant is free
        (lambda: theory_table(bend=0.4), Outcome.NOT_REPRODUCED),  # breaks: another slope
        (lambda: theory_table(more=2.5), Outcome.NOT_REPRODUCED),  # breaks at one batch size
        (lambda: theory_table(bend=0.14, sd=0.4), Outcome.INCONCLUSIVE),
        (lambda: theory_table(at=SIZES[:3]), Outcome.INCONCLUSIVE),  # too small
        (lambda: pd.DataFrame({"key": [], "arm": []}), Outcome.INCONCLUSIVE),
        (lambda: pd.DataFrame({"key": []}), Outcome.INCONCLUSIVE),
    ],
)
def test_the_judge(table, outcome):
    verdict = judgement.judge(table)
    assert verdict.outcome == outcome, verdict
    assert CLAIM.answer(table, verdict)


def unreachable(*studies):
    """In theory, noise keeps these from targets that were met."""
    table = theory_table()
    loud = table["arm"].isin([f"{name}{ALONG}" for name in studies])
    table.loc[loud, "noise_weight"] = table.loc[loud, "noise_weight"].map(lambda w: [1e9 * x for x in w])
    return table


@pytest.mark.parametrize(
    ("loud", "outcome", "start"),
    [(NAMES[:1], Outcome.CONDITIONAL, "In shape, but not"), (NAMES, Outcome.NOT_REPRODUCED, "No. In theory")],
)
def test_a_theory_by_which_no_target_is_met_is_wrong(loud, outcome, start):
    table = unreachable(*loud)
    verdict = judgement.judge(table)
    assert verdict.outcome == outcome and CLAIM.answer(table, verdict).startswith(start)
    assert judgement.judge_rates(judgement.held(table)).outcome != Outcome.NOT_REPRODUCED
    assert all(len(figure.data(table)) and figure.title(table) for figure in CLAIM.figures[:1])


@pytest.mark.parametrize(
    ("fields", "name", "outcome"),
    [
        ({}, "The best", Outcome.REPRODUCED),
        ({"rates": (2.0, -2.0)}, "The best", Outcome.NOT_REPRODUCED),
        ({"rates": (0.0, 2.0)}, "The best", Outcome.CONDITIONAL),
        ({"rates": (0.9, 0.9), "sd": 0.3}, "The best", Outcome.INCONCLUSIVE),
        ({"off": (-3.0, -3.0)}, "The number", Outcome.REPRODUCED),  # 20 e^-3 is 1
        ({}, "The number", Outcome.NOT_REPRODUCED),  # twenty times as many
        ({"trials_each": 32, "sd": 0.02}, "Perfect", Outcome.REPRODUCED),
        ({"bend": -0.4}, "Perfect", Outcome.NOT_REPRODUCED),  # it never ends
    ],
)
def test_parts(fields, name, outcome):
    verdict = next(v for part, v in judgement.judge(theory_table(**fields)).parts.items() if part.startswith(name))
    assert verdict.outcome == outcome, verdict


def three_studies(*noises, own=True):
    """Networks of different noise, each as its own theory says, or as the next one's."""
    names, networks = (*NAMES[:1], "784-1024-1024-10, SGD", "LeNet-5, SGD"), [network(noise) for noise in noises]
    rows = []
    for k, name in enumerate(names):
        law = in_theory(networks[k if own else (k + 1) % 3], SIZES)
        steps = dict(zip(SIZES, 20 * np.exp(law.log_steps), strict=True))
        rate = dict(zip(SIZES, 2.0**law.log_rates, strict=True))
        rows += study_rows(name, steps.get, sizes=SIZES, trials=16, sd=0.02, rate=rate.get, seed=k)
        rows += along_rows(name, networks[k])
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("table", "outcome"),
    [
        (lambda: three_studies(0.1, 1.0, 10.0), Outcome.REPRODUCED),
        (lambda: three_studies(0.1, 1.0, 10.0, own=False), Outcome.INCONCLUSIVE),  # each is told by another
        (lambda: three_studies(1.0, 1.0, 1.0), Outcome.INCONCLUSIVE),  # they do not differ
        (lambda: theory_table(), Outcome.INCONCLUSIVE),  # too few
    ],
)
def test_others_theories_tell_a_study_worse(table, outcome):
    verdict = judgement.judge_apart(judgement.held(table))
    assert verdict.outcome == outcome, verdict


def test_what_is_measured_along_small_batches_stands_beside():
    """In theory, what is measured there forbids the target: the verdict is that of large ones."""
    table = theory_table()
    loud = table["arm"].str.endswith(ALONG) & (table["batch_size"] == 64)
    table.loc[loud, "noise_weight"] = table.loc[loud, "noise_weight"].map(lambda w: [1e9 * x for x in w])
    verdict = judgement.judge(table)
    assert verdict.outcome == Outcome.REPRODUCED
    assert verdict.parts["Measured along small batches, the shape is right as well"].outcome == Outcome.NOT_REPRODUCED


def test_a_second_implementation_says_the_same():
    table = theory_table(bend=0.4)
    told = CLAIM.answer(table, judgement.judge(table))
    named = table.assign(arm=table["arm"].str.replace(ALONG, ""), probes="[]")
    named.loc[table["arm"].str.endswith(ALONG), "probes"] = '["fit", "gradient noise"]'
    again = independent.noisy_quadratic(independent_statistics.filled(as_recorded(named)), "mnist", [])
    assert again.outcome == judgement.judge(table).outcome
    for phrase in again.phrases:
        assert phrase in told


@pytest.mark.parametrize("figure", CLAIM.figures, ids=lambda f: f.id)
def test_figures_draw_what_there_is(figure):
    table = theory_table()
    assert len(figure.data(table)) and figure.title(table)
    assert figure.data(pd.DataFrame({"key": [], "arm": []})).empty


def test_its_trials_are_those_of_two_other_chapters():
    """Of those, the ones by SGD with and without momentum; no other is run."""
    for dataset in ("mnist", "fashion-mnist"):
        theirs = {t.key: t for s in claims.get("noise-scale").sweeps("paper", dataset=dataset) for t in s.trials()}
        ours = [t for s in CLAIM.sweeps("paper", dataset=dataset) for t in s.trials()]
        assert {t.key for t in ours} < {*theirs}
        assert {t.optimizer for t in ours} == {"sgd"}
