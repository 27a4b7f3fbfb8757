"""Claims: each judge on tables that obey, break and under-decide it; published numbers; the book's wiring."""

import dataclasses
import datetime
import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from repro import claims
from repro.claims import bfloat16 as half
from repro.claims import generalization_gap as gap
from repro.claims import reference_setup as reference
from repro.evidence import tuning
from repro.evidence.spec import Outcome, Published, Scale
from repro.evidence.tables import (
    MET,
    MIN_RUNS,
    MISSED,
    NOT_RUN,
    NOT_TESTABLE,
    TOO_WIDE,
    by_seed,
    compare,
    curve,
    hold_against,
    met_of_tested,
    next_run,
)
from repro.names import DATASETS, SpecError
from repro.publish import chapter
from repro.runs.ledger import Ledger
from repro.runs.provenance import PROJECT
from repro.training import engine
from repro.trial import Trial

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
    effect = verdict.effects[gap.AT_EPOCHS]
    assert effect.n == len(effect.values) == 10
    assert effect.low < -2.0 < effect.high, "the large batch minus the small one"
    assert effect.unit.band == (-gap.MARGIN, gap.MARGIN)
    assert f"{-effect.value:.2f} points worse" in verdict.reason


def noisy(table):
    return table.assign(test_accuracy=table["test_accuracy"] + np.random.default_rng(0).normal(0, 0.02, len(table)))


@pytest.mark.parametrize(
    ("table", "start"),
    [
        (gap_table(0.02, 0.01), "Yes. At equal epochs B = 1024 tests 2.0 points worse"),
        (gap_table(0.02, 0.0), "At equal epochs B = 1024 tests 2.0 points worse than B = 64; at equal steps the same"),
        (gap_table(0.02, -0.01), "At equal epochs B = 1024 tests 2.0 points worse than B = 64; at equal steps better"),
        (gap_table(0.0, 0.0), "No. At equal epochs B = 1024 tests no worse"),
        (gap_table(0.02, 0.001, seeds=3, sd=0.004), "At equal epochs"),
        (noisy(gap_table(0.004, 0.0, seeds=3)), "Not settled: at equal epochs"),
        (gap_table(0.02, 0.0, seeds=1), "Not settled: too few seeds"),
    ],
)
def test_gap_answers_by_outcome(table, start):
    told = gap.answer(table, gap.judge(table))
    assert re.sub(r"(2\.[01]|1\.9) points", "2.0 points", told).startswith(start), told


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


def reference_table(shift=0.0, rival_shift=30.0, seeds=5, sd=0.002, twin_shift=0.0):
    """The published numbers, `shift` standard deviations off, rivals `rival_shift` off, and the twin `twin_shift`."""
    parts = []
    offsets = dict.fromkeys(reference.RIVALS, rival_shift) | {reference.TWIN: twin_shift}
    for arm in (*reference.ROWS, *offsets):
        source, off = (arm, shift) if arm in reference.ROWS else ("SGD B=64", offsets[arm])
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
    ("table", "outcome", "said"),
    [
        (reference_table(twin_shift=0), Outcome.NOT_REPRODUCED, "Weights of Glorot's variance"),
        (reference_table(twin_shift=30), Outcome.REPRODUCED, "Glorot-uniform weights, zero biases"),
        (reference_table()[lambda t: t["arm"] != reference.TWIN], Outcome.INCONCLUSIVE, "Glorot-uniform weights"),
    ],
)
def test_a_twin_of_the_same_variance_is_told_apart_or_not(table, outcome, said):
    """It changes what is said to be recovered, and not whether."""
    verdict = reference.judge(table)
    assert (verdict.outcome, verdict.parts[reference.TOLD_APART].outcome) == (Outcome.REPRODUCED, outcome)
    assert said in reference.answer(table, verdict)


def test_reference_deviations_are_ours_minus_the_published_number():
    drawn = reference.deviation_dots(reference_table(shift=30, rival_shift=-30))
    assert (drawn[drawn["series"] == reference.REFERENCE]["mean"] > 1).all()
    assert (drawn[drawn["series"].isin(reference.RIVALS)]["mean"] < -1).all()
    assert ((drawn["mean"] > 0) == (drawn["ours"] > drawn["published"])).all()


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


SAME = (0.1, 0.2)  # mean and spread of the paired differences, in standard deviations of the float32 runs over seeds
OFF = (2.0, 0.2)
UNSETTLED = (0.0, 3.0)
NARROW = (0.5, 0.2)  # off zero, inside ±1
BASES = {"test_accuracy": (0.98, 0.001), "test_loss": (0.07, 0.002), "train_loss": (0.01, 1e-4)}
BASES["weight_distance"] = (12.0, 0.05)


def half_table(small=SAME, large=SAME, batch_norm=SAME, control=OFF, seeds=5, measures=tuple(BASES)):
    """Both precisions of two plain arms and of F1, and the control, every one of `measures` shifted as said, the
    others not at all. The spread over seeds is exact: no luck."""
    over_seeds = np.linspace(-1, 1, seeds)
    between = np.where(np.arange(seeds) % 2, 1.0, -1.0) * np.linspace(1, 2, seeds)
    over_seeds, between = ((x - x.mean()) / x.std(ddof=1) for x in (over_seeds, between))
    plain, f1 = Trial(dataset="mnist", epochs=30), Trial(dataset="mnist", epochs=5, model="f1", batch_size=256)

    def runs(arm, trial, precision, shift=(0.0, 0.0)):
        trial = dataclasses.replace(trial, precision=precision)
        table = rows(arm, seeds, trial).assign(precision=precision)
        for column, (mean, sd) in BASES.items():
            mean_shift, spread = shift if column in measures else (0.0, 0.0)
            values = mean + sd * (over_seeds + mean_shift + spread * between)
            table[column] = np.repeat(values, 2)  # a start and a final row a seed
        return table

    parts = []
    arms = (("B = 256", 256, plain, small), ("B = 1024", 1024, plain, large), (half.BATCH_NORM, 256, f1, batch_norm))
    for arm, size, trial, shift in arms:
        trial = dataclasses.replace(trial, batch_size=size)
        parts += [runs(arm, trial, half.FLOAT32), runs(arm, trial, half.BFLOAT16, shift)]
    faster = dataclasses.replace(plain, batch_size=1024, lr=0.011)
    return pd.concat([*parts, runs(half.CONTROL, faster, half.FLOAT32, control)], ignore_index=True)


def without(arms, table=None):
    table = half_table() if table is None else table
    return table[~table["arm"].isin(arms)]


def diverged(table, arm, precision, first):
    """The table with all but the first few seeds of these runs diverged."""
    these = (table["arm"] == arm) & (table["precision"] == precision) & (table["init_seed"] >= first)
    assert these.any()
    return table.assign(status=table["status"].mask(these, "diverged"))


@pytest.mark.parametrize(
    ("table", "outcome", "says"),
    [
        (half_table(), Outcome.REPRODUCED, "with batch norm and without"),  # obeys
        (half_table(seeds=3), Outcome.REPRODUCED, ""),
        (half_table(small=NARROW, large=NARROW, batch_norm=NARROW), Outcome.REPRODUCED, ""),  # off zero, but inside ±1
        (half_table(small=(0.5, 0.5)), Outcome.REPRODUCED, ""),  # p = 0.045
        (half_table(small=(0.5, 0.6)), Outcome.INCONCLUSIVE, "too uncertain"),  # p = 0.07
        (half_table(small=(1.2, 0.2)), Outcome.NOT_REPRODUCED, "B = 256, 0 of 4"),  # just outside ±1
        (half_table(batch_norm=OFF), Outcome.CONDITIONAL, "with it, some move"),
        (half_table(batch_norm=UNSETTLED), Outcome.INCONCLUSIVE, "with it, some are not settled"),
        (half_table(small=OFF, large=OFF), Outcome.NOT_REPRODUCED, "B = 256, 0 of 4"),  # breaks
        (half_table(large=OFF), Outcome.NOT_REPRODUCED, "B = 1024, 0 of 4"),  # in one arm
        (half_table(small=(-2.0, 0.2)), Outcome.NOT_REPRODUCED, ""),  # the other way
        (half_table(small=OFF, large=UNSETTLED, batch_norm=OFF), Outcome.NOT_REPRODUCED, ""),
        (half_table(small=OFF, measures=("train_loss",)), Outcome.NOT_REPRODUCED, "B = 256, 3 of 4"),  # in one measure
        (half_table(batch_norm=OFF, measures=("test_loss",)), Outcome.CONDITIONAL, "F1, batch norm, 3 of 4"),
        (half_table(small=UNSETTLED), Outcome.INCONCLUSIVE, "too uncertain"),  # too noisy
        (half_table(large=UNSETTLED, batch_norm=OFF), Outcome.INCONCLUSIVE, "too uncertain"),
        (half_table(seeds=3, small=(0.5, 0.6)), Outcome.INCONCLUSIVE, "too uncertain"),  # too small
        (half_table(seeds=2), Outcome.INCONCLUSIVE, "Too few pairs"),
        (half_table()[lambda t: t["init_seed"] == 0], Outcome.INCONCLUSIVE, "Too few pairs"),
        (diverged(half_table(), "B = 1024", "float32", 2), Outcome.INCONCLUSIVE, "Too few pairs of .* B = 1024"),
        (diverged(half_table(), "B = 1024", "float32", 3), Outcome.REPRODUCED, ""),
        (diverged(half_table(), "B = 1024", "bfloat16", 3), Outcome.NOT_REPRODUCED, "2 more trials diverge"),
        (half_table(control=SAME), Outcome.INCONCLUSIVE, "not have seen the control"),
        (half_table(control=UNSETTLED), Outcome.INCONCLUSIVE, "not have seen the control"),
        (half_table(control=NARROW), Outcome.INCONCLUSIVE, "not have seen the control"),
        (half_table(small=OFF, control=SAME), Outcome.INCONCLUSIVE, "not have seen the control"),
        (half_table(control=(-2.0, 0.2)), Outcome.REPRODUCED, ""),  # seen the other way
        (without(["B = 256", "B = 1024"]), Outcome.INCONCLUSIVE, "Too few pairs .* control"),
        (without([half.BATCH_NORM]), Outcome.INCONCLUSIVE, "Too few pairs .* F1, batch norm"),
        pytest.param(
            without(["B = 1024"]),
            Outcome.INCONCLUSIVE,
            "",
        ),
        (without([half.CONTROL]), Outcome.INCONCLUSIVE, "control has not been run"),
        (half_table()[lambda t: t["precision"] == "float32"], Outcome.INCONCLUSIVE, "Too few pairs"),
        (half_table()[lambda t: t["precision"] == "bfloat16"], Outcome.INCONCLUSIVE, "Too few pairs"),
        (half_table().assign(status="diverged"), Outcome.INCONCLUSIVE, "Too few pairs"),
        (half_table().iloc[:0], Outcome.INCONCLUSIVE, "No trial"),
        (pd.DataFrame({"key": []}), Outcome.INCONCLUSIVE, "No trial"),
        (pd.DataFrame({"key": [], "arm": []}), Outcome.INCONCLUSIVE, "No trial"),
    ],
)
def test_half_judge(table, outcome, says):
    verdict = half.judge(table)
    assert verdict.outcome == outcome, verdict
    assert re.search(says, verdict.reason) and verdict.reason.endswith(".")
    assert half.judge(table.sample(frac=1, random_state=1)) == verdict


def test_half_verdict_carries_its_evidence():
    verdict = half.judge(half_table(small=(0.3, 0.2)))
    assert len(verdict.effects) == 4 * 4
    for name in half.MEASURES:
        effect = verdict.effects[f"{name}, B = 256"]
        assert effect.n == len(effect.values) == 5
        assert effect.value == pytest.approx(0.3, abs=1e-6) and effect.low < 0.3 < effect.high
        assert np.std(effect.values, ddof=1) == pytest.approx(0.2, abs=1e-6)
        assert verdict.effects[f"{name}, control"].value == pytest.approx(2.0, abs=1e-6)


def test_half_unit_is_the_spread_of_the_float32_pairs_alone():
    table = half_table()
    unpaired = (table["arm"] == "B = 256") & (table["precision"] == "bfloat16") & (table["init_seed"] >= 3)
    table = table[~unpaired]
    kept = by_seed(table[table["final"] & (table["arm"] == "B = 256") & (table["precision"] == "float32")], "test_loss")
    sd = np.std([kept[s] for s in range(3)], ddof=1)
    effect = half.judge(table).effects["test loss, B = 256"]
    changed = table[table["final"] & (table["arm"] == "B = 256") & (table["precision"] == "bfloat16")]
    changed = by_seed(changed[changed["status"] == "finished"], "test_loss")
    assert effect.values == pytest.approx([(changed[s] - kept[s]) / sd for s in range(3)], rel=1e-6)


def test_half_control_is_held_against_the_largest_batch():
    table = half_table()
    table.loc[table["arm"] == "B = 256", list(BASES)] += 100.0  # would put a control held against it far off
    assert half.judge(table).effects["test loss, control" + ""].value == pytest.approx(2.0)


def test_half_dots_are_what_the_judge_weighs():
    table = half_table(large=OFF)
    shifts, control, effects = half.shift_dots(table), half.control_dots(table), half.judge(table).effects
    assert set(shifts["series"]) == {"B = 256", "B = 1024", half.BATCH_NORM} and set(control["series"]) == {
        half.CONTROL
    }
    assert len(shifts) + len(control) == len(effects)
    for dot in shifts.itertuples():
        effect = effects[dot.name]
        assert (dot.mean, dot.low, dot.high, dot.n) == (effect.value, effect.low, effect.high, effect.n)
    assert {(dot.mean, dot.n) for dot in control.itertuples()} == {
        (effects[f"{m}, control"].value, 5) for m in half.MEASURES
    }


@pytest.mark.parametrize(
    ("table", "shifts", "control"),
    [
        (half_table(), "^bfloat16 moves no measure", "sees a slightly"),
        (half_table(batch_norm=OFF), "^Without batch norm, bfloat16 moves no measure", "sees a slightly"),
        (half_table(batch_norm=UNSETTLED), "^How far .* luck of a seed$", "sees a slightly"),
        (half_table(large=OFF), "moves some measures", "sees a slightly"),
        (half_table(small=UNSETTLED), "^How far .* luck of a seed$", "sees a slightly"),
        (half_table(control=SAME), "^How far .* luck of a seed$", "would not see"),
        (diverged(half_table(), "B = 1024", "bfloat16", 3), "^How far .* where it finishes$", "sees a slightly"),
    ],
)
def test_half_titles_say_no_more_than_the_judge(table, shifts, control):
    assert re.search(shifts, half.shift_title(table)) and re.search(control, half.control_title(table))


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (half_table(small=(0.3, 0.2)), r"^Yes, .* is \+0\.30 \(\+0\.05 to \+0\.55\) standard .* at B = 256\.$"),
        (half_table(batch_norm=OFF), r"^Yes without batch norm: .* is \+0\.10 \(.*\. No with it: \+2\.00 \("),
        (
            half_table(batch_norm=UNSETTLED, measures=("test_loss", "train_loss")),
            r"^Yes without .* With it, test loss and train loss are not settled\.$",
        ),
        (half_table(large=OFF), r"^No\. .* is \+2\.00 \(\+1\.75 to \+2\.25\) .* at B = 1024\.$"),
        (half_table(small=UNSETTLED), r"^Not settled: the largest shift is .* uncertain"),
        (half_table(control=NARROW), r"^Not settled: a learning rate 10 % higher .* \(\+0\.50 \("),
        (diverged(half_table(), "B = 1024", "bfloat16", 3), r"^No\. 2 more trials diverge"),
        (half_table(seeds=2), r"^Not settled: too few pairs"),
        (without([half.CONTROL]), r"^Not settled: too few pairs"),
        (half_table().iloc[:0], r"^Not settled: nothing"),
    ],
)
def test_half_answers(table, says):
    told = half.answer(table, half.judge(table))
    assert re.search(says, told) and len(told) <= 230, told


@pytest.mark.parametrize("settings", [s for scale in half.SETTINGS.values() for s in scale], ids=lambda s: s["dataset"])
def test_half_design_forces_and_pairs_precisions(settings):
    sweeps = {sweep.name: sweep.trials() for sweep in half.design(settings)}
    plain = [half.arm_of(size) for size in settings["batch_sizes"]]
    assert list(sweeps) == [*plain, half.BATCH_NORM, half.CONTROL]
    for arm, trials in sweeps.items():
        seeds = range(settings["seeds"] if arm == half.BATCH_NORM else min(settings["seeds"], settings["plain_seeds"]))
        precisions = ["float32"] if arm == half.CONTROL else ["bfloat16", "float32"]
        pairs = {}
        for t in trials:
            assert engine.choose_precision(t) == t.precision and t.init_seed == t.data_seed
            pairs.setdefault(dataclasses.replace(t, precision="auto"), []).append(t.precision)
        assert all(sorted(pair) == precisions for pair in pairs.values())  # equal but for the precision
        assert sorted(t.init_seed for t in pairs) == list(seeds)
        assert len({dataclasses.replace(t, init_seed=0, data_seed=0) for t in pairs}) == 1
    largest = max(settings["batch_sizes"])
    for size in settings["batch_sizes"]:
        assert {(t.batch_size, t.model, t.epochs) for t in sweeps[half.arm_of(size)]} == {
            (size, "mlp", settings["epochs"])
        }
        assert all(t.lr / size == pytest.approx(settings["lr"] / largest) for t in sweeps[half.arm_of(size)])
    assert {t.model for t in sweeps[half.BATCH_NORM]} == {"f1"}
    kept = [t for t in sweeps[half.arm_of(largest)] if t.precision == "float32"]
    assert [t.lr for t in sweeps[half.CONTROL]] == pytest.approx([1.1 * t.lr for t in kept])
    assert [dataclasses.replace(t, lr=0.1) for t in sweeps[half.CONTROL]] == [
        dataclasses.replace(t, lr=0.1) for t in kept
    ]


def number(printed, **kwargs):
    return Published("n", printed, {"arm": "a"}, "x", **kwargs)


def held(given, values):
    return hold_against(given, next_run(given, values))


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
def test_a_number_is_met_to_its_last_printed_digit(printed, values, met):
    assert held(number(printed), values) == (MET if met else MISSED)


@pytest.mark.parametrize(
    ("given", "values", "outcome"),
    [
        (number("0.61", logarithmic=True), [11.3, 13.6, 31.5], MISSED),
        (number("0.61", logarithmic=True), [8.0, 17.6, 34.0], TOO_WIDE),  # one more run: 0.5 to 600
        (number("10", logarithmic=True), [9.5, 10, 10.5], MET),  # 8 to 12.6
        (number("10", logarithmic=True), [9, 10, 11], TOO_WIDE),  # 6.1 to 16.5
        (number("18.3"), [17.0, 18.0, 19.5], TOO_WIDE),  # 11.9 to 24.4
        (number("18.3"), [17.8, 18.0, 18.6], MET),
        (number("30"), [17.0, 18.0, 19.5], MISSED),  # outside, however wide
        (number("0.1"), [-0.2, 0.1, 0.3], TOO_WIDE),  # on both sides of 0
        (number("98.0", unit="%"), [97.5, 98.0, 98.4], TOO_WIDE),  # errors of −0.2 to 4.3: the accuracies are near
        (number("98.0", unit="%"), [97.9, 98.0, 98.1], MET),  # errors of 1.5 to 2.5
        (number("98", unit="%"), [97.9, 98.0, 98.1], MET),
        (number("100", unit="%"), [99.92, 99.94, 99.96], MET),  # a factor of 2 in the error, but no digit was printed
        (number("0.993", most=1.0), [0.990, 0.993, 0.996], TOO_WIDE),
        (number("0.993"), [0.990, 0.993, 0.996], MET),  # where there is no largest value, it is narrow
        (number("0.15", most=1.0), [0.1, 0.15, 0.2], TOO_WIDE),  # nearer to 0
        (number("-5"), [-5.2, -5.0, -4.8], MET),
    ],
)
def test_a_number_in_a_wide_interval_is_neither_met_nor_missed(given, values, outcome):
    assert held(given, values) == outcome, next_run(given, values)


@pytest.mark.parametrize("factor", [0.5, 2.0])
@pytest.mark.parametrize("logarithmic", [False, True])
def test_where_a_number_is_met_neither_twice_nor_half_of_ours_would_be(factor, logarithmic):
    rng = np.random.default_rng(3)
    outcomes = []
    for spread in rng.uniform(0.001, 0.3, 200):
        values = (100 * np.exp(rng.normal(0, spread, 5))).tolist()
        outcomes.append(held(number("100.0", logarithmic=logarithmic), values))
        mean = next_run(number("1", logarithmic=logarithmic), values).value
        if outcomes[-1] == MET:
            assert held(number(f"{factor * mean:.1f}", logarithmic=logarithmic), values) == MISSED
    assert {MET, TOO_WIDE} <= set(outcomes)


def test_a_logarithmic_number_is_compared_by_factors():
    """The interval of three values about 280 holds 1.23, for it reaches below zero; no factor among them does."""
    values, plain = [219.0, 181.0, 448.0], number("1.23")
    logarithmic = dataclasses.replace(plain, logarithmic=True)
    assert held(plain, values) == TOO_WIDE and held(logarithmic, values) == MISSED
    assert held(number("300", logarithmic=True), values) == TOO_WIDE
    assert held(number("0", logarithmic=True), [0.0, 0.0]) == MET
    claim = dataclasses.replace(gap.CLAIM, published=(logarithmic,))
    table = rows("a", 3)
    table["x"] = table["init_seed"].map(dict(enumerate(values)))
    [compared] = compare(claim, table)
    assert compared.outcome == MISSED
    assert compared.ours.value == pytest.approx(math.prod(values) ** (1 / 3)) and 0 < compared.ours.low < 181


def test_compare_says_met_missed_not_testable_not_run():
    claim = dataclasses.replace(
        gap.CLAIM,
        published=(
            number("1.0"),
            number("3.0"),
            Published("elsewhere", "5"),
            Published("other arm", "1", {"arm": "b"}, "x"),
            Published("wide", "1.00", {"arm": "a"}, "y"),
        ),
    )
    table = rows("a", 4, x=(1.0, 0.01), y=(1.0, 0.5))
    got = compare(claim, table)
    assert [c.outcome for c in got] == [MET, MISSED, NOT_TESTABLE, NOT_RUN, TOO_WIDE]
    assert got[0].ours.n == 4
    assert got[3].ours.n == 0
    assert got[4].run.low < got[4].ours.low < got[4].ours.high < got[4].run.high
    assert met_of_tested(got) == "1 of 3 met, 1 missed, 1 too wide to tell"


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
            several = "other_dataset" in claim.settings[scale][0]  # judged together
            expected = {"mnist", "fashion-mnist"} if several else {"mnist"}
            assert {t.dataset for t in trials} == (expected if scale == Scale.PAPER else {"mnist5k"})
        assert len({t.init_seed for t in trials}) >= MIN_RUNS, "fewer have no prediction interval worth the name"

    def test_published_numbers_name_columns_and_arms_that_exist(self, claim, smoke_ledger):
        tables = claims.find(claim, "smoke", smoke_ledger).table, claims.find(claim, "paper", Ledger()).table
        columns = {name for table in tables for name in table}  # what is rare is not counted at smoke scale
        arms = {s.name for s in claim.sweeps("paper")}
        for number in claim.published:
            assert number.column is None or number.column in columns, number
            assert number.column is None or number.where["arm"] in arms
            assert number.column or number.note, "a number that is not testable says why"

    def test_unknown_settings_are_named(self, claim):
        with pytest.raises(SpecError, match="setting"):
            claim.sweeps("smoke", no_such_setting=1)
        with pytest.raises(SpecError, match="did you mean 'laptop'"):
            claim.sweeps("labtop")
        with pytest.raises(SpecError, match="seeds 0"):
            claim.sweeps("smoke", seeds=0)
        number = next(name for name in ("epochs", "budget", "time") if name in claim.settings[Scale.SMOKE][0])
        with pytest.raises(SpecError, match=f"{number} 'ten': must be a number, such as"):
            claim.sweeps("smoke", **{number: "ten"})
        several = next(name for name in ("widths", "batch_sizes") if name in claim.settings[Scale.SMOKE][0])
        with pytest.raises(SpecError, match=f"{several} 5: must be a list such as"):
            claim.sweeps("smoke", **{several: 5})
        with pytest.raises(SpecError, match="dataset"):
            claim.sweeps("smoke", dataset="mnist6k")

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("batch_sizes", [0]),
            ("batch_sizes", [-4]),
            ("batch_size", 0),
            ("lr", 0),
            ("lr_steps", 2000),
            ("lr_steps", 2.5),
            ("lr_factor", 1e300),
            ("lr_lowest", -3.5),
            ("rows", ["x"]),
            ("optimizers", ["x"]),
        ],
        ids=str,
    )
    def test_a_setting_that_makes_no_experiment_is_one_line(self, claim, name, value):
        if name not in claim.settings[Scale.SMOKE][0]:
            return
        with pytest.raises(SpecError) as told:
            [t.key for sweep in claim.sweeps("smoke", **{name: value}) for t in sweep.trials()]
        assert "\n" not in str(told.value)

    def test_the_rule_is_dated_and_told_as_it_was(self, claim):
        """Days rise; what is said to be older than the first run is older than any that is recorded."""
        dates = [revision.date for revision in claim.history]
        assert dates and dates == sorted(set(dates))
        assert all(datetime.datetime.fromisoformat(date) and len(date) == 16 for date in dates)
        for revision in claim.history:
            assert revision.what.endswith((".", ".)")) and set(revision.before) <= set(DATASETS)
            if "before the first run." in revision.what:
                for finding in claims.findings(claim, Scale.PAPER, Ledger()):
                    runs = finding.table["run_date"] if finding.num_finished else pd.Series(["9"])
                    assert runs.min() > revision.date

    def test_overrides_reach_the_trials(self, claim):
        trials = [t for s in claim.sweeps("smoke", dataset="mnist", seeds=1) for t in s.trials()]
        assert {t.dataset for t in trials} == {"mnist"}
        own = "trials" in claim.settings[Scale.SMOKE][0]  # every trial has a seed of its own
        assert own or {t.init_seed for t in trials} == {0}

    def test_judges_what_smoke_scale_trains(self, claim, smoke_ledger):
        finding = claims.find(claim, "smoke", smoke_ledger)
        assert finding.whole
        assert finding.verdict.reason.endswith(".")


def test_half_a_sweep_is_no_evidence():
    """Of grow-the-batch, reproduced: without one of its trials neither the verdict nor a part of it is."""
    finding = next(claims.findings(claims.get("grow-the-batch"), Scale.PAPER, Ledger(working=Path("none"))))
    assert finding.whole and finding.verdict.outcome == Outcome.REPRODUCED and finding.verdict.parts
    part = dataclasses.replace(finding, table=finding.table[finding.table["key"] != finding.trials[0].key])
    assert not part.whole and part.verdict.effects
    for verdict in (part.verdict, *part.verdict.parts.values()):
        assert verdict.outcome == Outcome.INCONCLUSIVE
        assert verdict.reason == "272 of 273 trials are run; half a sweep is no evidence."
    assert chapter.answer(part) == "Not settled: 272 of 273 trials run so far on MNIST."
    post = next(claims.findings(claims.get("reference-setup"), Scale.PAPER, Ledger(working=Path("none"))))
    part = dataclasses.replace(post, table=post.table[post.table["key"] != post.trials[0].key])
    assert {c.outcome for c in post.published} > {MET, MISSED} and {c.outcome for c in part.published} == {NOT_RUN}


def test_claims_share_the_trials_they_have_in_common():
    keys = {c.id: {t.key for s in c.sweeps("paper") for t in s.trials()} for c in ALL}
    shared = keys["generalization-gap"] & keys["reference-setup"]
    assert len(shared) == 5 + 5 + 3  # B=64, B=1024 and B=1024 for 480 epochs


def test_unknown_claim_gets_the_nearest_name():
    with pytest.raises(SpecError, match="did you mean 'generalization-gap'"):
        claims.get("generalisation-gap")


def test_every_dataset_has_a_name_on_pages():
    from repro.names import BOTH, DATASET_NAMES

    assert set(DATASET_NAMES) == {*DATASETS, BOTH}


@pytest.mark.parametrize("claim", claims.all_claims().values(), ids=lambda c: c.id)
def test_a_sweep_that_was_stopped_is_judged_and_drawn(claim, monkeypatch):
    """Of what is recorded, any one arm alone, and the whole without it: of some five arms, the first and the last among
    them."""
    monkeypatch.setattr(tuning, "RESAMPLES", 99)  # what they say is not looked at
    finding = next(iter(claims.findings(claim, "paper", Ledger(working=Path("none")))))
    arms = sorted(set(finding.table["arm"])) if finding.num_finished else []
    for arm in {*arms[:: max(1, len(arms) // 5)], *arms[-1:]}:
        for kept in (finding.table["arm"] == arm, finding.table["arm"] != arm):
            part = finding.table[kept].dropna(axis=1, how="all")
            assert claim.judge(part).reason
            for figure in claim.figures:
                drawn = figure.data(part)
                assert drawn.empty or figure.title(part)
