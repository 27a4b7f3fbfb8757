"""The claim on adaptive methods: what is run, and how it is judged on tables that obey it and break it."""

import json

import independent
import independent_statistics
import numpy as np
import pandas as pd
import pytest

from repro import claims
from repro.claims.adaptive_methods import experiment, judgement
from repro.evidence.spec import Outcome
from repro.names import SpecError

CLAIM = claims.get("adaptive-methods")
SWEEPS = CLAIM.sweeps("paper")


def images(adam=0.0, *, constant=0.0, default=0.0, late=0.0, others=0.0, best=2, seeds=5, sd=0.03):
    """Accuracies: 98 % of SGD with momentum at its best rate, the number `best` of five, and half a point less a rate
    away from it; so many points more of Adam (`constant` more where its rate is; at its default `default`, and `late`
    with a decay), and of all other methods."""
    rng, rows = np.random.default_rng(0), []
    shift = {"Adam": adam + constant, "Adam, decayed": adam, "momentum": 0.0, "momentum, decayed": 0.0}
    for sweep in SWEEPS:
        for trial in sweep.trials():
            if trial.init_seed >= seeds:
                continue
            rates = sorted({t.lr for t in sweep.trials()})
            away = abs(rates.index(trial.lr) - best)
            points = shift.get(sweep.name, others) - 0.5 * away
            points += {"Adam": default, "Adam, decayed": late}.get(sweep.name, 0.0) * (trial.lr == judgement.DEFAULT)
            accuracy = 0.98 + (points + rng.normal(0, sd)) / 100
            told = {k: json.dumps(v) if isinstance(v, list) else v for k, v in json.loads(trial.to_json()).items()}
            rows.append(
                told
                | {"arm": sweep.name, "key": trial.key, "status": "finished", "final": True, "step": 1}
                | {"validation_accuracy": accuracy, "test_accuracy": accuracy, "train_accuracy": 0.99}
            )
    return pd.DataFrame(rows)


def made(adaptive=None, descent=0.0, train=0.0):
    """What is learnt of the constructed examples: as proved, but for the errors given."""
    rows = []
    for method in (*experiment.DESCENT, "AdaGrad", "RMSProp", "Adam"):
        for share in experiment.SHARES:
            error = descent if method in experiment.DESCENT else 1 - share if adaptive is None else adaptive
            rows.append((experiment.AS_PUBLISHED, f"{share}", method, share, train, error))
    return pd.DataFrame(rows, columns=["variation", "setting", "method", "share", "train_error", "test_error"])


IMAGES = [
    (lambda: images(-1.0), Outcome.REPRODUCED),  # obeys
    (lambda: images(0.0), Outcome.CONDITIONAL),  # breaks: no worse
    (lambda: images(1.0), Outcome.CONDITIONAL),  # better
    (lambda: images(-0.15), Outcome.CONDITIONAL),  # worse, but by less than the margin
    (lambda: images(-0.3, sd=0.5), Outcome.INCONCLUSIVE),  # noisy
    (lambda: images(-1.0, seeds=1), Outcome.INCONCLUSIVE),  # too small
    (lambda: images(-1.0, best=4), Outcome.INCONCLUSIVE),  # on an edge
]
CONSTRUCTED = [
    ({}, Outcome.REPRODUCED),
    ({"adaptive": 0.0}, Outcome.NOT_REPRODUCED),  # they learn it
    ({"adaptive": 0.3}, Outcome.NOT_REPRODUCED),  # not the error of a constant answer
    ({"descent": 0.1}, Outcome.INCONCLUSIVE),  # too hard for descent too
    ({"train": 0.1}, Outcome.INCONCLUSIVE),  # not fitted
]


@pytest.mark.parametrize(("table", "outcome"), IMAGES)
def test_the_judge(table, outcome):
    verdict = judgement.judge(table)
    assert verdict.outcome == outcome, verdict
    assert CLAIM.answer(table, verdict)


@pytest.mark.parametrize(("given", "outcome"), CONSTRUCTED)
def test_the_judge_of_the_constructed_examples(given, outcome):
    found, table = made(**given), images(-1.0)
    assert judgement.judge_made(found).outcome == outcome
    verdict = judgement.judge_both(found, table)
    assert verdict.outcome == outcome  # which the images cannot save
    assert CLAIM.answer(table, verdict).startswith(
        {Outcome.NOT_REPRODUCED: "No.", Outcome.INCONCLUSIVE: "Not settled", Outcome.REPRODUCED: "On ex"}[outcome]
    )


@pytest.mark.parametrize(("table", "outcome"), IMAGES)
def test_a_second_implementation_says_the_same(table, outcome):
    told = CLAIM.answer(table, judgement.judge(table))
    again = independent.adaptive_methods(independent_statistics.filled(table.drop(columns="arm")), "mnist", [])
    assert again.outcome == outcome
    for phrase in again.phrases or ["Not settled"]:
        assert phrase in told


@pytest.mark.parametrize("table", [pd.DataFrame({"key": []}), pd.DataFrame({"key": [], "arm": []})])
def test_nothing_is_judged_of_nothing(table):
    verdict = judgement.judge(table)
    assert verdict.outcome == Outcome.INCONCLUSIVE and CLAIM.answer(table, verdict).startswith("Not settled")
    assert all(figure.data(table).empty and figure.title(table) for figure in CLAIM.figures)


@pytest.mark.parametrize(
    ("given", "outcome"),
    [
        ({"best": 2}, Outcome.REPRODUCED),  # at its default it is at its best
        ({"best": 2, "default": -1.0, "late": -1.0}, Outcome.NOT_REPRODUCED),
        ({"best": 2, "default": -1.0}, Outcome.CONDITIONAL),  # good with a decay alone
        ({"best": 2, "late": -1.0}, Outcome.CONDITIONAL),
        ({"best": 2, "default": -0.3, "sd": 0.5}, Outcome.INCONCLUSIVE),
        ({"best": 2, "seeds": 1}, Outcome.INCONCLUSIVE),
    ],
)
def test_whether_adam_is_a_good_default(given, outcome):
    assert judgement.judge_default(images(**given)).outcome == outcome


@pytest.mark.parametrize(
    ("gaps", "outcome"),
    [([1, 0.6], Outcome.REPRODUCED), ([1, 0.4], Outcome.CONDITIONAL), ([0.0, -1], Outcome.NOT_REPRODUCED)],
)
def test_what_it_hangs_on(gaps, outcome):
    """Of errors of 0.1 by descent and, above that, so many times the 0.4 of a constant answer."""
    rows = [
        (experiment.FAINTER, str(i), method, 0.6, 0.0, 0.1 + (method not in experiment.DESCENT) * 0.4 * gap)
        for i, gap in enumerate(gaps)
        for method in (*experiment.DESCENT, "AdaGrad", "RMSProp", "Adam")
    ]
    found = pd.DataFrame(rows, columns=made().columns)
    assert judgement.judge_hangs(found, experiment.FAINTER).outcome == outcome


def test_a_difference_below_the_margin_is_called_one():
    assert "worse, but by less than 0.3" in judgement.judge_worse(images(-0.15)).reason
    verdict = judgement.judge_worse(images(0.0))
    assert verdict.outcome == Outcome.NOT_REPRODUCED and "momentum: no worse. Without a decay" in verdict.reason


def test_where_the_decay_alone_makes_the_difference_it_is_conditional():
    verdict = judgement.judge_worse(images(0.0, constant=-1.0))
    assert verdict.outcome == Outcome.CONDITIONAL and verdict.reason.endswith(": worse.")
    assert judgement.judge(images(0.0, constant=-1.0)).outcome == Outcome.CONDITIONAL
    assert judgement.judge_worse(images(-1.0, constant=1.0)).outcome == Outcome.REPRODUCED  # whoever decays


def test_more_that_goes_with_a_better_fit_says_so():
    table = images(1.0)
    table.loc[table["arm"].str.startswith("Adam"), "train_accuracy"] += 0.005
    assert "better (in training, too, +0.50: it fits more)" in judgement.judge_worse(table).reason


def test_only_the_two_that_are_compared_decay_and_have_all_seeds():
    decayed = {s.name: s for s in SWEEPS if s.name.endswith("decayed")}
    assert set(decayed) == {"momentum, decayed", "Adam, decayed"}
    for sweep in decayed.values():
        assert all(p.epoch == 7 and p.lr == pytest.approx(t.lr / 10) for t in sweep.trials() for p in t.schedule)
        assert all(len(t.schedule) == 1 for t in sweep.trials()) and len(sweep.trials()) == 50
    assert {len(s.trials()) for s in SWEEPS if s.name not in decayed} == {25, 50}


@pytest.mark.parametrize("figure", CLAIM.figures, ids=lambda f: f.id)
def test_figures_draw_what_there_is(figure):
    table = images()
    assert len(figure.data(table)) and figure.title(table)


def test_every_method_is_tuned_around_its_default():
    """torch.optim's, where it has one that is not for everything."""
    rates = {s.name: sorted({t.lr for t in s.trials()}) for s in SWEEPS if not s.name.endswith("decayed")}
    assert set(rates) == {*experiment.DESCENT, *experiment.ADAPTIVE}
    for name, default in {"AdaGrad": 0.01, "RMSProp": 0.01, "Adam": 0.001, "AdamW": 0.001}.items():
        assert default in rates[name]


def test_a_method_that_is_not_known():
    with pytest.raises(SpecError, match="did you mean 'Adam'"):
        CLAIM.sweeps("paper", optimizers=["Adm"])
