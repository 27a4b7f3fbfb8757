"""The claim on noise scales: what is run, and how it is judged on tables that obey it and break it."""

import dataclasses
import math

import independent
import independent_statistics
import numpy as np
import pandas as pd
import pytest
from scipy import optimize
from test_steps_to_target import TARGET, as_recorded, hyperbola, study_rows

from repro import claims
from repro.claims.noise_scale import judgement
from repro.claims.noise_scale.experiment import ALONG
from repro.claims.noise_scale.judgement import SIMPLE, VARIANTS
from repro.evidence.spec import Outcome
from repro.runs import runner

CLAIM = claims.get("noise-scale")
pytestmark = pytest.mark.usefixtures("few_resamples")
SIZES = tuple(4**k for k in range(1, 8))
NAMES = ("784-256-10, SGD", "784-256-10, momentum", "784-1024-1024-10, SGD", "LeNet-5, SGD")


def weighed(scales, steps, batch_size):
    """The mean over steps, each worth 1/(1 + scale/B), by the trapezoidal rule."""
    worth = 1 / (1 + scales / batch_size)
    return np.trapezoid(worth * scales, steps) / np.trapezoid(worth, steps)


def along_rows(study, scale, *, growth=8.0, seeds=3, sd=0.05, steps=1000, factors=(1.0, 0.7, 1.5, 2.0), elsewhere=1.0):
    """Trials whose noise scale grows in proportion to the steps, its weighed mean over them `scale` at B = 64, and
    `elsewhere` times that at B = 1024."""
    rng, rows = np.random.default_rng(int(scale)), []
    at = np.linspace(0, steps, 9)
    shape = 1 + (growth - 1) * at / steps
    for size, wanted in ((64, scale), (1024, scale * elsewhere)):
        first = optimize.brentq(lambda f, b=size, w=wanted: weighed(f * shape, at, b) - w, 1e-9, 1e9)
        for seed in range(seeds):
            for step, value in zip(at, first * shape * np.exp(rng.normal(0, sd, len(at))), strict=True):
                told = {"arm": f"{study}{ALONG}", "key": f"{study}{size}-{seed}", "init_seed": seed, "step": step}
                told |= {"final": step == steps, "status": "finished", "dataset": "mnist", "batch_size": size}
                told |= {"lr": 0.1, "momentum": 0.0, "validation_accuracy": 0.8, "target_accuracy": math.nan}
                rows.append(told | {name: value * f for name, f in zip(VARIANTS, factors, strict=True)})
    return rows


def scale_table(criticals=(60, 250, 100, 500), ratios=(1.5, 2.0, 1.2, 1.8), studies=NAMES, off=0.0, **more):
    """Workloads of these critical batch sizes, which are so many times their noise scales."""
    rows = []
    for k, (name, critical, ratio) in enumerate(zip(studies, criticals, ratios, strict=False)):
        rows += study_rows(name, hyperbola(critical), sizes=SIZES, trials=16, seed=k, off=off)
        rows += along_rows(name, critical / ratio, **more)
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("table", "outcome"),
    [
        (lambda: scale_table(), Outcome.REPRODUCED),  # obeys
        (lambda: scale_table(ratios=(100, 150, 120, 80)), Outcome.NOT_REPRODUCED),  # breaks: far too large
        (lambda: scale_table(ratios=(0.01, 0.02, 0.012, 0.01)), Outcome.NOT_REPRODUCED),  # far too small
        (lambda: scale_table(ratios=(1.5, 2.0, 1.2, 80)), Outcome.CONDITIONAL),
        (lambda: scale_table(ratios=(1.5, 10, 1.2, 10)), Outcome.INCONCLUSIVE),  # on the brink
        (lambda: scale_table(ratios=(1.5, 10, 1.2, 1.8)), Outcome.REPRODUCED),  # one of four is left open
        (lambda: scale_table(ratios=(1.5, 2.0, 1.2, 10)), Outcome.INCONCLUSIVE),  # two networks are too few
        (lambda: scale_table(sd=2.0), Outcome.INCONCLUSIVE),  # noisy
        (lambda: scale_table(studies=NAMES[:2]), Outcome.INCONCLUSIVE),  # too small
        (lambda: scale_table(off=4.5), Outcome.INCONCLUSIVE),  # the best learning rates lie on an edge
        (lambda: pd.DataFrame({"key": [], "arm": []}), Outcome.INCONCLUSIVE),
        (lambda: pd.DataFrame({"key": []}), Outcome.INCONCLUSIVE),
    ],
)
def test_the_judge(table, outcome):
    verdict = judgement.judge(table)
    assert verdict.outcome == outcome, verdict
    assert CLAIM.answer(table, verdict)


@pytest.mark.parametrize(
    ("table", "outcome"),
    [
        (lambda: scale_table(), "reproduced"),
        (lambda: scale_table(ratios=(1.5, 2.0, 1.2, 80)), "conditional"),
        (lambda: scale_table(studies=NAMES[:2]), "inconclusive"),
    ],
)
def test_a_second_implementation_says_the_same(table, outcome):
    told = CLAIM.answer(table, judgement.judge(table))
    named = table.assign(arm=table["arm"].str.replace(ALONG, ""), probes="[]")
    named.loc[table["arm"].str.endswith(ALONG), "probes"] = '["fit", "gradient noise"]'
    again = independent.noise_scale(independent_statistics.filled(as_recorded(named)), "mnist", [])
    assert again.outcome == outcome == judgement.judge(table).outcome
    for phrase in again.phrases or ["Not settled"]:
        assert phrase in told


def part(table, start):
    return next(v for name, v in judgement.judge(table).parts.items() if name.startswith(start))


@pytest.mark.parametrize(
    ("fields", "name", "outcome"),
    [
        ({"criticals": (15, 1500, 150, 700), "ratios": (1.5, 1.4, 1.5, 1.6)}, "It tells", Outcome.REPRODUCED),
        ({"criticals": (100, 105, 98, 102), "ratios": (1, 9, 0.12, 3)}, "It tells", Outcome.NOT_REPRODUCED),  # no use
        ({"ratios": (3, 3, 0.5, 1.5)}, "It tells", Outcome.INCONCLUSIVE),
        ({"studies": NAMES[:2]}, "It tells", Outcome.INCONCLUSIVE),
        ({}, "It grows", Outcome.REPRODUCED),
        ({"growth": 0.2}, "It grows", Outcome.NOT_REPRODUCED),
        ({"growth": 1.0, "sd": 0.2}, "It grows", Outcome.INCONCLUSIVE),
        ({}, "It is the same", Outcome.REPRODUCED),
        ({"elsewhere": 4.0}, "It is the same", Outcome.NOT_REPRODUCED),
        ({"elsewhere": 2.0}, "It is the same", Outcome.INCONCLUSIVE),
        ({"studies": NAMES[:2]}, "It is the same", Outcome.INCONCLUSIVE),
        ({}, "Weighed", Outcome.INCONCLUSIVE),  # the same but for a factor, which the other workloads tell
    ],
)
def test_parts(fields, name, outcome):
    verdict = part(scale_table(**fields), name)
    assert verdict.outcome == outcome, verdict


def test_a_variant_that_errs_less_is_told_from_one_that_does_not():
    table = scale_table(ratios=(1, 8, 0.3, 3))
    for study, ratio in zip(NAMES, (1, 8, 0.3, 3), strict=True):  # weighed, the noise scale is the critical batch size
        rows = table["arm"] == f"{study}{ALONG}"
        table.loc[rows, "noise_scale_curvature"] = table.loc[rows, SIMPLE] * ratio
    assert part(table, "Weighed").outcome == Outcome.REPRODUCED


def test_the_mean_is_over_steps_and_the_ratio_of_it():
    table = scale_table(sd=0.0)
    for name, critical, ratio in zip(NAMES, (60, 250, 100, 500), (1.5, 2.0, 1.2, 1.8), strict=True):
        w = judgement.workloads(table)[name]
        assert w.scales[SIMPLE].value == pytest.approx(critical / ratio, rel=1e-6)
        assert w.ratio().value == pytest.approx(ratio, rel=0.1) and w.ratio().low < ratio < w.ratio().high
        early, late = (math.exp(np.mean(np.log([1 + 7 * k / 8 for k in looks]))) for looks in ((1, 2), (6, 7, 8)))
        assert (w.at_first.value, w.growth.value) == pytest.approx((early, late / early))
        assert w.scales[judgement.ALIKE].value > 1.05 * w.scales[SIMPLE].value


def test_the_way_ends_where_the_target_is_met():
    table = scale_table(sd=0.0)
    late = (table["arm"].str.endswith(ALONG)) & (table["step"] >= 500)
    cut = table.assign(validation_accuracy=table["validation_accuracy"].mask(late, TARGET))
    for name, trials in ((name, trials) for name, _, _, trials in judgement.measured(cut)):
        assert {trial["step"].max() for trial in trials} == {500} and {t["batch_size"].max() for t in trials} == {64}
        shorter = judgement.workloads(cut)[name].scales[SIMPLE].value
        assert shorter < judgement.workloads(table)[name].scales[SIMPLE].value


def test_a_variant_without_an_end_leaves_the_others():
    table = scale_table()
    table.loc[table["arm"] == f"{NAMES[0]}{ALONG}", "noise_scale_curvature"] = math.inf
    found = judgement.workloads(table)
    assert [*found] == [*NAMES] and "noise_scale_curvature" not in found[NAMES[0]].scales
    assert judgement.judge(table).outcome == Outcome.REPRODUCED


def test_the_error_for_one_more_workload_is_that_of_the_others():
    """Ratios whose logarithms are 0, 1 and 2: mean e, interval e^(1 ± t₂ √(4/3))."""
    table = scale_table(ratios=(1, math.e, math.e**2), studies=NAMES[:3], sd=0.0)
    found = judgement.workloads(table)
    exact = {
        name: dataclasses.replace(w, critical=dataclasses.replace(w.critical, value=w.scales[SIMPLE].value * math.e**k))
        for k, (name, w) in enumerate(found.items())
    }
    expected = judgement.prediction(exact)
    half = 4.30265 * math.sqrt(4 / 3)
    assert (expected.value, expected.low, expected.high) == pytest.approx(
        (math.e, math.exp(1 - half), math.exp(1 + half)), rel=1e-4
    )
    assert judgement.errors(exact, SIMPLE) == pytest.approx([1.5, 0, 1.5])


def test_the_adviser_is_told_of_every_workload():
    found = judgement.workloads(scale_table(sd=0.0))
    told = judgement.record(found)
    assert [*told] == [*NAMES]
    for (noise, critical, start), w in zip(told.values(), found.values(), strict=True):
        assert critical / noise == pytest.approx(w.ratio().value, rel=0.02)
        assert start < noise / 2


@pytest.mark.parametrize("figure", CLAIM.figures, ids=lambda f: f.id)
def test_figures_draw_what_there_is(figure):
    table = scale_table()
    assert len(figure.data(table)) and figure.title(table)
    assert figure.data(pd.DataFrame({"key": [], "arm": []})).empty


def test_the_published_sweep_is_as_planned():
    """Of both datasets the trials of the chapter steps to target, but for Nesterov's momentum, and five seeds of
    each study along training."""
    sweeps, theirs = CLAIM.sweeps("paper"), []
    for dataset in ("mnist", "fashion-mnist"):
        *studies, _ = claims.get("steps-to-target").sweeps("paper", dataset=dataset)
        theirs += [s for s in studies if not s.name.endswith("Nesterov")]
    ours = [s for s in sweeps if not s.name.endswith(ALONG)]
    assert [t.key for s in ours for t in s.trials()] == [t.key for s in theirs for t in s.trials()]
    along = [s for s in sweeps if s.name.endswith(ALONG)]
    assert len(along) == len(ours) >= 6
    for sweep in along:
        assert {t.batch_size for t in sweep.trials()} == {64, 1024} and len(sweep.trials()) == 2 * 5
        assert all(len(t.checkpoints) >= 8 and t.target_accuracy is None for t in sweep.trials())
    one = CLAIM.sweeps("paper", dataset="fashion-mnist")
    assert {t.dataset for s in one for t in s.trials()} == {"fashion-mnist"}


def test_every_field_of_a_setting_is_used():
    before = [t.key for s in CLAIM.sweeps("smoke") for t in s.trials()]
    for name, value in {"measured_batch_sizes": (32,), "looks": 2, "seeds": 1, "octaves": 3}.items():
        assert [t.key for s in CLAIM.sweeps("smoke", **{name: value}) for t in s.trials()] != before


def test_the_probe_measures_what_the_functions_do():
    """On a network that is hardly trained: every variant, and lists that add up."""
    trial = next(t for t in CLAIM.sweeps("smoke")[-1].trials() if t.init_seed == 0)
    [rows] = runner.run_stack([dataclasses.replace(trial, steps=2, checkpoints=(), train_size=1000)])
    row = rows[-1]
    assert all(row[name] > 0 for name in VARIANTS)
    assert sum(row["gradient_weight"]) == pytest.approx(row["noise_squared_norm"])
    assert sum(row["noise_weight"]) == pytest.approx(row["noise_trace"])
    assert row["noise_trace"] / row["noise_squared_norm"] == pytest.approx(row[SIMPLE])
    curved = np.array(row["gradient_eigenvalue"]) @ row["gradient_weight"], row["noise_scale_curvature"]
    noisy = np.array(row["noise_eigenvalue"]) @ row["noise_weight"]
    assert noisy / curved[0] == pytest.approx(curved[1], rel=0.7)  # of a few batches
    assert len(row["gradient_eigenvalue"]) == len(row["gradient_weight"]) > 4
    assert len(row["noise_eigenvalue"]) == len(row["noise_weight"]) > 8


def test_of_a_network_that_diverged_the_probe_measures_nothing():
    trial = next(t for t in CLAIM.sweeps("smoke")[-1].trials() if t.init_seed == 0)
    changes = {"steps": 200, "checkpoints": (), "train_size": 1000, "lr": 1e30, "momentum": 0.0}
    [rows] = runner.run_stack([dataclasses.replace(trial, **changes)])
    assert rows[-1]["status"] == "diverged" and SIMPLE not in rows[-1]
