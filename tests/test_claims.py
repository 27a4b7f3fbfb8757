"""Claims: each judge on tables that obey, break and under-decide it; published numbers; the book's wiring."""

import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pytest
import yaml

from repro import claims
from repro.claims import generalization_gap as gap
from repro.claims import reference_setup as reference
from repro.evidence import MET, MISSED, NOT_RUN, NOT_TESTABLE, by_seed, compare, curve, is_met
from repro.ledger import PROJECT
from repro.spec import Outcome, Published, Scale
from repro.trial import DATASETS, SpecError, Trial

ALL = list(claims.all_claims().values())


def rows(arm, seeds, trial=None, start=None, status="finished", **measures):
    """Rows as a ledger gives them: a start and a final row a seed; measures are value or (mean, sd)."""
    rng = np.random.default_rng([len(arm), *map(ord, arm[:4])])
    trial = trial or Trial(dataset="mnist", epochs=30)
    out = []
    for seed in range(seeds):
        seeded = dataclasses.replace(trial, init_seed=seed, data_seed=seed)
        drawn = {k: rng.normal(*v) if isinstance(v, tuple) else v for k, v in measures.items()}
        common = {
            "arm": arm,
            "key": seeded.key,
            "dataset": trial.dataset,
            "batch_size": trial.batch_size,
            "init_seed": seed,
            "status": status,
        }
        out.append({**common, "final": False, "step": 0, **(start or {})})
        out.append({**common, "final": True, "step": 100, **drawn})
    return pd.DataFrame(out)


def gap_table(at_epochs, at_steps, seeds=10, sd=0.001, base=0.98):
    """Losses of B=1024 against B=64 (fractions) at equal epochs and equal steps."""
    small = Trial(dataset="mnist", epochs=30, batch_size=64)
    large = Trial(dataset="mnist", epochs=30, batch_size=1024)
    longer = Trial(dataset="mnist", epochs=480, batch_size=1024)

    def arm(name, trial, loss):
        accuracy = (base - loss, sd)
        return rows(name, seeds, trial, test_accuracy=accuracy, train_accuracy=(1 - loss, sd))

    common = arm(gap.EQUAL_EPOCHS, small, 0)
    return pd.concat(
        [
            common,
            common.assign(arm=gap.EQUAL_STEPS),
            arm(gap.EQUAL_EPOCHS, large, at_epochs),
            arm(gap.EQUAL_STEPS, longer, at_steps),
        ],
        ignore_index=True,
    )


@pytest.mark.parametrize(
    ("table", "outcome"),
    [
        (gap_table(0.02, 0.01), Outcome.REPRODUCED),  # obeys: the loss stays when the steps are equal
        (gap_table(0.02, 0.0), Outcome.CONDITIONAL),  # the control sinks it
        (gap_table(0.02, -0.01), Outcome.CONDITIONAL),  # at equal steps the large batch is better
        (gap_table(0.0, 0.0), Outcome.NOT_REPRODUCED),  # breaks: no loss at equal epochs
        (gap_table(-0.02, 0.0), Outcome.NOT_REPRODUCED),  # breaks: a gain
        (gap_table(0.02, 0.0, seeds=1), Outcome.INCONCLUSIVE),  # too small
        (gap_table(0.004, 0.0, seeds=3, sd=0.01), Outcome.INCONCLUSIVE),  # too noisy
        (gap_table(0.02, 0.001, seeds=3, sd=0.004), Outcome.INCONCLUSIVE),  # the control does not decide
        (rows(gap.EQUAL_EPOCHS, 3, test_accuracy=0.98, train_accuracy=1.0), Outcome.INCONCLUSIVE),
        (pd.DataFrame({"key": [], "arm": []}), Outcome.INCONCLUSIVE),
    ],
)
def test_gap_judge(table, outcome):
    verdict = gap.judge(table)
    assert verdict.outcome == outcome, verdict


def test_gap_verdict_carries_its_evidence():
    verdict = gap.judge(gap_table(0.02, 0.0))
    effect = next(e for name, e in verdict.effects.items() if "equal epochs" in name and "test" in name)
    assert effect.n == len(effect.values) == 10
    assert effect.low < 2.0 < effect.high
    assert "+2." in verdict.reason or "+1.9" in verdict.reason


def test_gap_pairs_by_seed_and_drops_what_diverged():
    table = gap_table(0.02, 0.0)
    table.loc[(table["batch_size"] == 1024) & (table["init_seed"] < 4), "status"] = "diverged"
    assert gap.judge(table.sample(frac=1, random_state=1)).effects.popitem()[1].n == 6


def test_gap_margin_follows_the_test_set():
    small_test = gap_table(0.05, 0.005, sd=0.0005).assign(dataset="mnist5k")
    large_test = gap_table(0.05, 0.005, sd=0.0005)
    assert gap.judge(small_test).outcome == Outcome.CONDITIONAL  # 0.5 pp is within ±0.9
    assert gap.judge(large_test).outcome == Outcome.REPRODUCED  # and outside ±0.3


def test_gap_budgets_are_equal():
    for setting in (s for settings in gap.SETTINGS.values() for s in settings):
        for sweep in gap.design(setting):
            for trial in sweep.trials():
                base = dataclasses.replace(trial, batch_size=64, epochs=setting["epochs"], checkpoints=())
                if sweep.name == gap.EQUAL_STEPS:
                    assert abs(trial.num_steps - base.num_steps) <= max(trial.epochs, setting["epochs"]) + 1
                else:
                    assert trial.epochs == setting["epochs"]


def reference_table(shift=0.0, rival_shift=30.0, seeds=5, sd=0.002):
    """The published numbers, `shift` standard deviations off, and rivals `rival_shift` off."""
    parts = []
    for arm in (*reference.ROWS, *reference.RIVALS):
        source, off = (arm, shift) if arm in reference.ROWS else ("SGD B=64", rival_shift)
        numbers = [n for n in reference.PUBLISHED if n.where["arm"] == source]
        values = {n.column: ((n.value * (1 + off * sd)) / n.factor, sd * n.value / n.factor) for n in numbers}
        parts.append(rows(arm, seeds, start={"weight_norm": 44.0}, **values))
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize(
    ("table", "outcome"),
    [
        (reference_table(), Outcome.REPRODUCED),
        (reference_table(shift=30), Outcome.NOT_REPRODUCED),
        (reference_table(rival_shift=0), Outcome.CONDITIONAL),
        (reference_table(seeds=1), Outcome.INCONCLUSIVE),
        (reference_table()[lambda t: t["arm"] != "He initialisation"], Outcome.INCONCLUSIVE),
        (pd.DataFrame({"key": []}), Outcome.INCONCLUSIVE),
    ],
)
def test_reference_judge(table, outcome):
    verdict = reference.judge(table)
    assert verdict.outcome == outcome, verdict


@pytest.mark.parametrize(
    ("norms", "outcome"),
    [
        ((44.0, 26.2, 64.2), Outcome.CONDITIONAL),
        ((26.2, 44.0, 64.2), Outcome.NOT_REPRODUCED),
        ((44.0, 45.0, 64.2), Outcome.INCONCLUSIVE),
    ],
)
def test_reference_judge_without_full_mnist(norms, outcome):
    small = Trial(dataset="mnist5k", epochs=1)
    arms = zip(("SGD B=64", "PyTorch's default initialisation", "He initialisation"), norms, strict=True)
    table = pd.concat([rows(arm, 2, small, start={"weight_norm": norm}) for arm, norm in arms])
    assert reference.judge(table).outcome == outcome


def number(printed, **kwargs):
    return Published("n", printed, {"arm": "a"}, "x", **kwargs)


@pytest.mark.parametrize(
    ("printed", "values", "met"),
    [
        ("6.71", [6.70, 6.72, 6.71], True),
        ("6.71", [6.80, 6.81, 6.80], False),
        ("6.7", [6.74, 6.74, 6.74], True),  # no spread: half a unit of the last digit is allowed
        ("6.7", [6.76, 6.76, 6.76], False),
        ("98", [98.4, 98.4], True),
        ("98", [97.4, 97.4], False),
    ],
)
def test_is_met(printed, values, met):
    assert is_met(number(printed), values) is met


def test_compare_says_met_missed_not_testable_not_run():
    claim = dataclasses.replace(
        gap.CLAIM,
        published=(
            number("1.0"),
            number("3.0"),
            Published("elsewhere", "5"),
            Published("other arm", "1", {"arm": "b"}, "x"),
        ),
    )
    table = rows("a", 4, x=(1.0, 0.01))
    got = compare(claim, table)
    assert [c.outcome for c in got] == [MET, MISSED, NOT_TESTABLE, NOT_RUN]
    assert got[0].ours.n == 4
    assert got[3].ours.n == 0


def test_by_seed_refuses_mixed_arms():
    table = pd.concat([rows("a", 2, x=1.0), rows("b", 2, x=2.0)])
    with pytest.raises(ValueError, match="several rows for one seed"):
        by_seed(table[table["final"]], "x")


def test_curve_is_mean_and_interval_by_batch_size():
    table = pd.concat([rows("a", 3, Trial(dataset="mnist", epochs=1, batch_size=b), x=(b, 0.1)) for b in (2, 8)])
    got = curve(table, "x", "s", arm="a")
    assert got["x"].tolist() == [2, 8]
    assert (got["low"] < got["mean"]).all()
    assert (got["mean"] < got["high"]).all()
    assert got["n"].tolist() == [3, 3]


@pytest.mark.parametrize("claim", ALL, ids=lambda c: c.id)
class TestEveryClaim:
    def test_has_a_notebook_and_a_line_in_the_toc(self, claim):
        toc = yaml.safe_load((PROJECT / "_toc.yml").read_text())
        files = [c["file"] for part in toc["parts"] for c in part["chapters"]]
        assert f"notebooks/{claim.id}" in files
        assert (PROJECT / "notebooks" / f"{claim.id}.ipynb").is_file()

    def test_prose_states_the_claim_as_data_does(self, claim):
        notebook = json.loads((PROJECT / "notebooks" / f"{claim.id}.ipynb").read_text())
        prose = "".join("".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "markdown")
        assert claim.statement in prose
        assert claim.counter_claim in prose
        for source in (claim.source, *claim.counter_sources):
            assert source in prose

    def test_sources_are_in_the_bibliography(self, claim):
        keys = re.findall(r"^@\w+\{(\w+),", (PROJECT / "book" / "references.bib").read_text(), re.M)
        assert {claim.source, *claim.counter_sources} <= set(keys)

    def test_runs_at_every_scale_with_paired_seeds(self, claim):
        for scale in Scale:
            trials = [t for s in claim.sweeps(scale) for t in s.trials()]
            assert trials
            assert all(t.init_seed == t.data_seed for t in trials)
            assert {t.dataset for t in trials} == ({"mnist"} if scale == Scale.PAPER else {"mnist5k"})
        assert len({t.init_seed for t in trials}) >= 5

    def test_published_numbers_name_columns_and_arms_that_exist(self, claim, smoke_ledger):
        table = claims.find(claim, "smoke", smoke_ledger).table
        arms = {s.name for s in claim.sweeps("paper")}
        for number in claim.published:
            assert number.column is None or number.column in table.columns, number
            assert number.column is None or number.where["arm"] in arms
            assert number.column or number.note, "a number that is not testable says why"

    def test_unknown_settings_are_named(self, claim):
        with pytest.raises(SpecError, match="setting"):
            claim.sweeps("smoke", no_such_setting=1)
        with pytest.raises(SpecError, match="did you mean 'laptop'"):
            claim.sweeps("labtop")
        with pytest.raises(SpecError, match="seeds 0"):
            claim.sweeps("smoke", seeds=0)
        with pytest.raises(SpecError, match="epochs 'ten': must be a number, such as"):
            claim.sweeps("smoke", epochs="ten")
        with pytest.raises(SpecError, match="widths 5: must be a list such as"):
            claim.sweeps("smoke", widths=5)
        with pytest.raises(SpecError, match="dataset"):
            claim.sweeps("smoke", dataset="mnist6k")

    def test_overrides_reach_the_trials(self, claim):
        trials = [t for s in claim.sweeps("smoke", dataset="mnist", seeds=1) for t in s.trials()]
        assert {t.dataset for t in trials} == {"mnist"}
        assert {t.init_seed for t in trials} == {0}

    def test_judges_what_smoke_scale_trains(self, claim, smoke_ledger):
        finding = claims.find(claim, "smoke", smoke_ledger)
        assert finding.num_finished == len(finding.trials)
        assert finding.verdict.reason.endswith(".")


def test_claims_share_the_trials_they_have_in_common():
    keys = {c.id: {t.key for s in c.sweeps("paper") for t in s.trials()} for c in ALL}
    shared = keys["generalization-gap"] & keys["reference-setup"]
    assert len(shared) == 5 + 5 + 3  # B=64, B=1024 and B=1024 for 480 epochs


def test_unknown_claim_gets_the_nearest_name():
    with pytest.raises(SpecError, match="did you mean 'generalization-gap'"):
        claims.get("generalisation-gap")


def test_every_dataset_has_a_name_on_pages():
    from repro.pages import DATASET_NAMES

    assert set(DATASET_NAMES) == set(DATASETS)
