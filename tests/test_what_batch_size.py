"""The claim on what batch size to use: what is run, and how it is judged on tables that obey it and break it."""

import json
import math

import independent
import independent_statistics
import numpy as np
import pandas as pd
import pytest
from test_noise_scale import NAMES, SIZES, along_rows
from test_steps_to_target import as_recorded, hyperbola, study_rows

from repro import claims
from repro.claims.noise_scale.experiment import ALONG
from repro.claims.what_batch_size import judgement
from repro.claims.what_batch_size.experiment import TIMED
from repro.evidence.spec import Outcome
from repro.publish import examples, practice
from repro.runs import runner
from repro.runs.ledger import Ledger
from repro.runs.provenance import PROJECT

CLAIM = claims.get("what-batch-size")
pytestmark = pytest.mark.usefixtures("few_resamples")
TIMES = tuple(2**k for k in range(15))
LINE = (1000.0, 1.0)  # seconds a step: so much, and so much an example
CRITICALS = (8, 250, 30, 4000)


def timed_rows(study, line=LINE, repeats=2):
    """Step times on a line; the second timing is half as slow again."""
    told = {"arm": f"{study}{TIMED}", "step": 1.0, "final": True, "status": "finished", "dataset": "mnist"}
    a, b = line
    told |= {"timed_batch_size": list(TIMES), "momentum": 0.0, "lr": 0.1, "target_accuracy": math.nan}
    told |= {"batch_size": 64, "validation_accuracy": 0.1}
    return [
        told
        | {"key": f"{study}t{i}", "init_seed": i, "run_step_seconds": [(1 + i / 2) * (a + b * size) for size in TIMES]}
        for i in range(repeats)
    ]


def advice_table(criticals=CRITICALS, ratios=(1, 1, 1, 1), studies=NAMES, law=True, timed=True, off=0.0, **more):
    """Workloads of these critical batch sizes, which are so many times their noise scales."""
    rows = []
    for k, (name, critical, ratio) in enumerate(zip(studies, criticals, ratios, strict=False)):
        rate = {"rate": lambda size, critical=critical: 1 / (1 + critical / size) if law else 0.1}
        rows += study_rows(name, hyperbola(critical), sizes=SIZES, trials=16, seed=k, off=off, sd=0.03, **rate)
        rows += along_rows(name, critical / ratio, **more)
        rows += timed_rows(name) if timed else []
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("table", "outcome"),
    [
        (lambda: advice_table(), Outcome.REPRODUCED),  # obeys
        (lambda: advice_table(ratios=(3, 0.4, 2, 0.5)), Outcome.REPRODUCED),  # off in the noise scale, not in time
        (lambda: advice_table((100, 100, 100, 100)), Outcome.CONDITIONAL),  # good, and so is any guess
        (lambda: advice_table(ratios=(0.002, 0.001, 0.002, 0.001)), Outcome.NOT_REPRODUCED),  # breaks
        (lambda: advice_table(ratios=(1, 1, 1, 0.001)), Outcome.CONDITIONAL),
        (lambda: advice_table(studies=NAMES[:3]), Outcome.INCONCLUSIVE),  # too small
        (lambda: advice_table(timed=False), Outcome.INCONCLUSIVE),
        (lambda: advice_table(off=4.5), Outcome.INCONCLUSIVE),  # the best learning rates lie on an edge
        (lambda: pd.DataFrame({"key": [], "arm": []}), Outcome.INCONCLUSIVE),
        (lambda: pd.DataFrame({"key": []}), Outcome.INCONCLUSIVE),
    ],
)
def test_the_judge(table, outcome):
    verdict = judgement.judge(table)
    assert verdict.outcome == outcome, verdict
    assert CLAIM.answer(table, verdict)


def again(table):
    """From the fields of trials, without the names of arms."""
    arms = table["arm"]
    named = table.assign(arm=arms.str.replace(ALONG, "").str.replace(TIMED, ""), probes="[]", final_probes="[]")
    named["probes"] = np.where(arms.str.endswith(ALONG), '["fit", "gradient noise"]', "[]")
    named["final_probes"] = np.where(arms.str.endswith(TIMED), '["step times"]', "[]")
    return independent.what_batch_size(independent_statistics.filled(as_recorded(named)), "mnist", [])


@pytest.mark.parametrize(
    ("table", "outcome"),
    [
        (lambda: advice_table(), "reproduced"),
        (lambda: advice_table(ratios=(1, 1, 1, 0.001), seeds=2), "conditional"),
        (lambda: advice_table(studies=NAMES[:3]), "inconclusive"),
    ],
)
def test_a_second_implementation_says_the_same(table, outcome):
    told = CLAIM.answer(table, judgement.judge(table))
    found = again(table)
    assert found.outcome == outcome == judgement.judge(table).outcome
    for phrase in found.phrases or ["Not settled"]:
        assert phrase in told


def part(table, start):
    return next(v for name, v in judgement.judge(table).parts.items() if name.startswith(start))


@pytest.mark.parametrize(
    ("fields", "name", "outcome"),
    [
        ({"criticals": (5, 8000, 4, 9000)}, "Measuring", Outcome.REPRODUCED),  # no batch size suits all
        ({"criticals": (100, 100, 100, 100)}, "Measuring", Outcome.NOT_REPRODUCED),  # one suits all
        ({"studies": NAMES[:3]}, "Measuring", Outcome.INCONCLUSIVE),
        ({"criticals": (4, 4, 5, 5)}, "A noise scale ten", Outcome.NOT_REPRODUCED),  # little is lost anywhere near
        ({"criticals": (4, 4, 5, 5)}, "A tenth", Outcome.NOT_REPRODUCED),
        ({"criticals": (500, 600, 700, 800)}, "A tenth", Outcome.REPRODUCED),
        ({"ratios": (0.01, 0.01, 0.01, 0.01)}, "Put right", Outcome.REPRODUCED),
        ({"growth": 2.0}, "Asked before", Outcome.REPRODUCED),
        ({"growth": 5000.0, "criticals": (500, 600, 700, 800)}, "Asked before", Outcome.NOT_REPRODUCED),
        ({}, "The learning rate", Outcome.REPRODUCED),
        ({"law": False, "criticals": (60, 250, 100, 500)}, "The learning rate", Outcome.NOT_REPRODUCED),
    ],
)
def test_parts(fields, name, outcome):
    verdict = part(advice_table(**fields), name)
    assert verdict.outcome == outcome, verdict


def test_workloads_of_both_datasets_are_judged_together():
    table = pd.concat([advice_table(), advice_table((90, 300, 150, 700)).assign(dataset="fashion-mnist")])
    found = judgement.workloads(table)
    assert [*found] == [f"{name}, {dataset}" for dataset in ("MNIST", "Fashion-MNIST") for name in NAMES]
    verdict = judgement.judge(table)
    assert "in 8 of 8 workloads" in verdict.reason
    assert "Over 8 workloads" in CLAIM.answer(table, verdict)
    assert again(table).outcome == verdict.outcome


def test_a_slowdown_is_the_time_there_over_the_least():
    """Against the closed form: (1 + B_c/B)(a + bB), least at √(B_c a/b)."""
    table = advice_table((1000,), (1,), NAMES[:1])
    w = judgement.workloads(table)[NAMES[0]]
    assert w.seconds == {b: 1000.0 + b for b in TIMES if b >= SIZES[0]}  # the faster timing
    assert w.advised() == pytest.approx(1000, rel=0.1)

    def time(b):
        return (1 + 1000 / b) * (1000 + b)

    for size in (64, 16384):
        assert w.at(size).value == pytest.approx(time(size) / time(1024), rel=0.1)
        assert w.found_at(size) == w.at(size).value
    assert w.at(1024).value == 1.0


def test_no_advice_is_faster_than_the_fastest():
    for w in judgement.workloads(advice_table()).values():
        assert all(w.at(b).low >= 1 for b in np.geomspace(4, 16384, 9))


@pytest.mark.parametrize("figure", CLAIM.figures, ids=lambda f: f.id)
def test_figures_draw_what_there_is(figure):
    table = advice_table()
    assert len(figure.data(table)) and figure.title(table)
    assert figure.data(pd.DataFrame({"key": [], "arm": []})).empty


def test_the_probe_times_every_power_of_two():
    trial = next(t for s in CLAIM.sweeps("smoke") if s.name.endswith(TIMED) for t in s.trials())
    [rows] = runner.run_stack([trial])
    sizes, seconds = rows[-1]["timed_batch_size"], rows[-1]["run_step_seconds"]
    assert sizes == [2**k for k in range(len(sizes))] and sizes[-1] >= 1024
    assert len(seconds) == len(sizes) and min(seconds) > 0
    assert seconds[-1] > seconds[0]
    assert "run_step_seconds" not in rows[0]  # once, at the end


def test_a_rule_stands_on_its_evidence(monkeypatch):
    """A rule is told as settled only if all that it rests on came out as it must."""
    found = practice.find(Ledger())
    monkeypatch.setattr(practice, "find", lambda ledger: found)
    standing = {rule.what: practice.stands(rule, found) for rule in practice.RULES}
    assert standing["Move the learning rate with the batch size; then tune it."]
    told = practice.show().data
    assert told.count("Not settled here yet") == list(standing.values()).count(False)
    assert told.count("<li>") == 5
    monkeypatch.setattr(practice.Evidence, "verdict", lambda self, finding: finding.verdict.__class__("diverged", ""))
    assert practice.show().data.count("Not settled here yet") == 5


@pytest.mark.parametrize("rule", practice.RULES, ids=lambda rule: rule.what)
def test_evidence_of_a_rule_names_parts_that_there_are(rule):
    """On a page that has been run, the judge comes to the part."""
    for e in rule.evidence:
        finding = next(claims.findings(claims.get(e.claim), "paper", Ledger()))
        if e.part and finding.whole:
            assert e.part in finding.verdict.parts


def test_what_is_told_of_the_examples_is_of_the_code_as_it_stands():
    """Whoever changes one asks again: make advice."""
    source = (PROJECT / "benchmarks" / "examples.py").read_text()
    told = json.loads(examples.WRITTEN.read_text())["examples"]
    assert len(told) == 3
    for one in told:
        assert one["source"] in source and one["about"] in one["source"]


def test_examples_are_told_as_they_were_written_down(tmp_path):
    written = tmp_path / "advice.json"
    one = {"name": "A <model>", "about": "About.", "function": "made", "source": "def made(): ...", "took": 1.0}
    one |= {"says": "Noise scale: 100 < 200", "noise_scale": [100.0, 50.0, 200.0]}
    one |= {"step_seconds": {str(b): 1.0 + b / 100 for b in (1, 10, 100, 1000)}}
    told = {"processor": "A processor", "threads": 2, "torch": "2", "commit": "c0ffee", "date": "2026-11-22"}
    written.write_text(json.dumps(told | {"examples": [one]}))
    page = examples.show(written).data
    assert "A &lt;model&gt;" in page and "100 &lt; 200" in page and "def made()" in page and "c0ffee" in page
    drawn = examples.costs(one).set_index(["series", "x"])
    assert drawn.loc[("steps", 100), "mean"] == 2 and drawn.loc[("examples", 1000), "mean"] == 11
    assert drawn.loc[("time here", 100), "mean"] == 1  # √(100 · 1/.01) = 100
    assert "make advice" in examples.show(tmp_path / "none.json").data
