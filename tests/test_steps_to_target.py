"""The claim on steps to a target: what is run, and how it is judged on tables that obey it and break it."""

import math

import independent
import independent_statistics
import numpy as np
import pandas as pd
import pytest

from repro import claims
from repro.claims.steps_to_target import experiment, judgement
from repro.claims.steps_to_target.experiment import FAR_ARM
from repro.evidence import steps
from repro.evidence.spec import Outcome
from repro.names import SpecError

CLAIM = claims.get("steps-to-target")
pytestmark = pytest.mark.usefixtures("few_resamples")
SIZES = tuple(2**k for k in range(1, 15))
TARGET = 0.97
SGD, MOMENTUM, WIDE = "784-256-10, SGD", "784-256-10, momentum", "784-1024-1024-10, SGD"
FAR = f"784-256-10, {FAR_ARM}"


def hyperbola(critical, least=60):
    return lambda size: least * (1 + critical / size)


def study_rows(arm, law, *, sizes=SIZES, trials=32, sd=0.05, rate=lambda size: 1 / (1 + 100 / size), off=0.0, seed=0):
    """Trials whose least steps go as `law` of the batch size, and whose best learning rate as `rate`."""
    rng, rows = np.random.default_rng(seed), []
    for size in sizes:
        x = 6 * steps.quasi_random(trials, 1, seed=size)[:, 0] - 3 + off
        logs = math.log(law(size)) + 0.12 * x**2 + rng.normal(0, sd, trials)
        for i in range(trials):
            fate = "diverged" if x[i] > 2.2 else "finished"
            met = fate == "finished" and x[i] ** 2 < 8
            told = {"arm": arm, "key": f"{arm}{size}-{i}", "batch_size": size, "lr": rate(size) * 2 ** x[i]}
            told |= {"momentum": 0.0, "target_accuracy": TARGET, "init_seed": i, "status": fate, "dataset": "mnist"}
            last = math.exp(logs[i])
            for step, accuracy, final in (
                (0.0, 0.1, False),
                (last / 1.1, 0.9, False),
                (last, TARGET if met else 0.95, True),
            ):
                rows.append(told | {"step": step, "validation_accuracy": accuracy, "final": final})
    return rows


def far_rows(worse=0.0, sizes=(16, 4096), seeds=5, sd=0.03, rates=(0.1, 0.2, 0.4), rising=(), diverged=()):
    """`rising`: batch sizes at which validation accuracy rises by a point over the second half; `diverged`: learning
    rates at which all but the first seed do."""
    rng, rows = np.random.default_rng(1), []
    for size in sizes:
        for lr in rates:
            for seed in range(seeds):
                error = 1.8 + worse * (size == max(sizes)) + 0.3 * (lr != 0.2) + rng.normal(0, sd)
                told = {"arm": FAR, "key": f"far{size}-{lr}-{seed}", "batch_size": size, "lr": lr, "init_seed": seed}
                told |= {
                    "momentum": 0.0,
                    "status": "diverged" if lr in diverged and seed else "finished",
                    "dataset": "mnist",
                    "epoch": size / 40,
                }
                for step, final, lower in ((50.0, False, 0.01 if size in rising else 0.0002), (100.0, True, 0.0)):
                    accuracy = 1 - error / 100 - lower
                    told |= {"step": step, "final": final, "validation_accuracy": accuracy}
                    rows.append(told | {"test_accuracy": accuracy})
    return rows


def steps_table(sgd=200.0, momentum=800.0, wide=100.0, far=0.0, luck=0.03, **more):
    """A number is the critical batch size of a law that holds; a function the law itself."""
    rows = []
    for k, (arm, law) in enumerate(((SGD, sgd), (MOMENTUM, momentum), (WIDE, wide))):
        rows += study_rows(arm, law if callable(law) else hyperbola(law), seed=k, **more)
    return pd.DataFrame(rows + far_rows(far, sd=luck))


def power(p):
    return lambda size: 20_000 * size**p


@pytest.mark.parametrize(
    ("table", "outcome"),
    [
        (lambda: steps_table(), Outcome.REPRODUCED),  # obeys
        (lambda: steps_table(power(-0.5), power(-0.5), power(-0.5)), Outcome.NOT_REPRODUCED),  # breaks: no regime
        (lambda: steps_table(1e6, 1e6, 1e6), Outcome.NOT_REPRODUCED),  # breaks: large batches go on helping
        (lambda: steps_table(1.0, 1.0, 1.0), Outcome.NOT_REPRODUCED),  # breaks: small batches do not
        (lambda: steps_table(wide=power(-0.5)), Outcome.CONDITIONAL),  # one study breaks it
        (lambda: steps_table(sizes=SIZES[:3]), Outcome.INCONCLUSIVE),  # too small
        (lambda: steps_table(trials=4, sd=0.5), Outcome.INCONCLUSIVE),
        (lambda: steps_table(off=4.5), Outcome.INCONCLUSIVE),  # the best lies on an edge
        (lambda: pd.DataFrame({"key": [], "arm": []}), Outcome.INCONCLUSIVE),
        (lambda: pd.DataFrame({"key": []}), Outcome.INCONCLUSIVE),
    ],
)
def test_the_judge(table, outcome):
    verdict = judgement.judge(table)
    assert verdict.outcome == outcome, verdict
    assert CLAIM.answer(table, verdict)


def as_recorded(table, far=FAR_ARM):
    """With columns for what the names of arms tell, in which recorded trials have it; `far` is no study."""
    network, method = zip(*(experiment.split(arm.replace(far, "SGD")) for arm in table["arm"]), strict=True)
    fields = [experiment.NETWORKS[name] for name in network]
    found = table.assign(
        model=[f.get("model", "mlp") for f in fields],
        widths=[str(list(f.get("widths", (1024, 1024)))) for f in fields],
        optimizer="sgd",
        momentum=[0.5 * (m == "momentum") for m in method],
    )
    found["lr"] *= 1 - found["momentum"]
    found.loc[found["arm"].str.endswith(far), "target_accuracy"] = np.nan
    return found


@pytest.mark.parametrize(
    ("table", "outcome"),
    [
        (lambda: steps_table(wide=power(-0.5), sizes=SIZES[1::2]), "conditional"),
        (lambda: steps_table(power(-0.5), power(-0.5), power(-0.5), sizes=SIZES[1::2], sd=0.2), "not reproduced"),
        (lambda: steps_table(off=4.5, sizes=SIZES[1::2]), "inconclusive"),
    ],
)
def test_a_second_implementation_says_the_same(table, outcome):
    """The one that the recorded rows are held against, before there are any."""
    told = CLAIM.answer(table, judgement.judge(table))
    again = independent.steps_to_target(independent_statistics.filled(as_recorded(table)), "mnist", [])
    assert again.outcome == outcome == judgement.judge(table).outcome
    for phrase in again.phrases or ["Not settled"]:
        assert phrase in told


def part(table, start):
    return next(v for name, v in judgement.judge(table).parts.items() if name.startswith(start))


@pytest.mark.parametrize(
    ("fields", "name", "outcome"),
    [
        ({}, "Momentum", Outcome.REPRODUCED),
        ({"momentum": 50.0}, "Momentum", Outcome.NOT_REPRODUCED),
        ({"momentum": 200.0, "sd": 0.2}, "Momentum", Outcome.INCONCLUSIVE),
        ({"off": 4.5}, "Momentum", Outcome.INCONCLUSIVE),
        ({}, "No heuristic", Outcome.REPRODUCED),
        ({"rate": lambda size: 0.001 * size}, "No heuristic", Outcome.NOT_REPRODUCED),
        ({"sizes": SIZES[:1]}, "No heuristic", Outcome.INCONCLUSIVE),
        ({"rate": lambda size: 0.001 * size}, "Nor does one", Outcome.NOT_REPRODUCED),
        ({"rate": lambda size: 0.001 * size**2}, "Nor does one", Outcome.REPRODUCED),
        ({"sizes": SIZES[:5], "sgd": 5.0, "momentum": 5.0, "wide": 5.0}, "Nor does one", Outcome.INCONCLUSIVE),
        ({}, "One law", Outcome.REPRODUCED),
        ({"sgd": power(-0.5)}, "One law", Outcome.NOT_REPRODUCED),
        ({"sizes": SIZES[:3]}, "One law", Outcome.INCONCLUSIVE),
        ({}, "Equal epochs", Outcome.REPRODUCED),
        ({"sgd": power(-1.0)}, "Equal epochs", Outcome.INCONCLUSIVE),  # examples do not rise
        ({}, "Large batches", Outcome.REPRODUCED),
        ({"far": -0.5}, "Large batches", Outcome.REPRODUCED),
        ({"far": 0.6}, "Large batches", Outcome.NOT_REPRODUCED),
        ({"far": 0.1, "luck": 0.3}, "Large batches", Outcome.INCONCLUSIVE),
    ],
)
def test_parts(fields, name, outcome):
    verdict = part(steps_table(**fields), name)
    assert verdict.outcome == outcome, verdict


def test_a_best_rate_on_an_edge_decides_nothing_far_beyond_the_target():
    verdict = judgement.judge_far(pd.DataFrame(far_rows(rates=(0.1, 0.2))))
    assert verdict.outcome == Outcome.INCONCLUSIVE and "the last at B = 16 and B = 4096" in verdict.reason
    assert "after 102 epochs and 0" in judgement.judge_far(pd.DataFrame(far_rows())).reason


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({}, Outcome.REPRODUCED),
        ({"rising": (16,)}, Outcome.INCONCLUSIVE),  # the small batch may yet be better
        ({"rising": (4096,)}, Outcome.REPRODUCED),
        ({"rising": (4096,), "worse": 0.6}, Outcome.INCONCLUSIVE),  # the large one may yet arrive
        ({"rising": (16,), "worse": 0.6}, Outcome.NOT_REPRODUCED),
        ({"diverged": (0.2,)}, Outcome.INCONCLUSIVE),  # the best of the others is the first
    ],
)
def test_what_still_rises_settles_nothing_in_its_favour(fields, outcome):
    verdict = judgement.judge_far(pd.DataFrame(far_rows(**fields)))
    assert verdict.outcome == outcome, verdict


def test_where_scaling_ends_is_that_of_the_law():
    """Of S = 60 (1 + 200/B): 1.2 times the examples of B = 2 at B = 42."""
    ends = judgement.judge(steps_table()).effects[f"{SGD}: scales perfectly up to"]
    assert ends.low < 42.4 < ends.high and ends.high < 2 * ends.low


@pytest.mark.parametrize("figure", CLAIM.figures, ids=lambda f: f.id)
def test_figures_draw_what_there_is(figure):
    table = steps_table()
    assert len(figure.data(table)) and figure.title(table)
    empty = pd.DataFrame({"key": [], "arm": []})
    assert figure.data(empty).empty


def test_the_published_sweep_is_as_planned():
    """At every batch size 32 trials, 64 where momentum matters and half as many where they are dear, each of its own
    learning rate (and momentum) and seed, around the pilot; far beyond the target 30 epochs at least."""
    for dataset in ("mnist", "fashion-mnist"):
        *studies, far = CLAIM.sweeps("paper", dataset=dataset)
        assert {t.target_accuracy for t in far.trials()} == {None} and {t.evaluate_on for t in far.trials()} == {"both"}
        assert all(t.num_steps >= 30 * (t.num_train // t.batch_size) for t in far.trials())
        assert {t.checkpoints for t in far.trials()} == {(t.num_steps // 2,) for t in far.trials()}
        assert len(far.trials()) == 3 * 5 * 10
        for sweep in studies:
            _, method = experiment.split(sweep.name)
            narrow, by_momentum = sweep.name.startswith("784-256-10,"), method in experiment.BY_MOMENTUM
            planned = [b for b in SIZES if method != "Adam" or b >= 16]
            if not narrow:
                ends = (
                    [2] if "LeNet" in sweep.name or "fashion" in dataset else [],
                    [4096] * ("LeNet" not in sweep.name),
                )
                planned = [*ends[0], 4, 8, 16, 32, 128, 512, 2048, *ends[1]]
            assert sorted({t.batch_size for t in sweep.trials()}) == planned
            for size in sorted({t.batch_size for t in sweep.trials()}):
                trials = [t for t in sweep.trials() if t.batch_size == size]
                rates = [t.lr / (1 - t.momentum) for t in trials]
                centre, foretold = experiment.expected(experiment.pilot_of(dataset, sweep.name), size)
                count, most = 64 if by_momentum and size >= 256 else 32, 8.1 if by_momentum else 4.1
                count = count // 2 if size >= 2048 and sweep.name != SGD else count
                assert len(set(rates)) == count and {t.init_seed for t in trials} == set(range(count))
                assert centre / most < min(rates) < 1.6 * centre / most
                assert most * centre / 1.6 < max(rates) < most * centre
                assert any(t.momentum for t in trials) == by_momentum
                assert {t.steps for t in trials} == {round(2.25 * foretold)}
                assert {t.precision for t in trials} == {"float32"}
                assert all(t.target_accuracy and t.evaluate_on == "validation" for t in trials)
                assert all(t.drop_last or t.num_train % size == 0 for t in trials)


def test_points_are_what_they_were():
    """Recorded rows are found by them: another version of the library that draws them must not move any."""
    first = CLAIM.sweeps("smoke")[1].trials()[0]
    assert (first.batch_size, first.lr, first.momentum) == (16, 0.00668898, 0.965336)


def test_a_study_that_nobody_knows_is_one_line():
    for wrong in (("784-256-10, magic",), ("perceptron, SGD",)):
        with pytest.raises(SpecError, match=r"unknown (network|method) of a study"):
            CLAIM.sweeps("smoke", studies=wrong)
    with pytest.raises(SpecError, match="no pilot; known are"):
        CLAIM.sweeps("smoke", studies=("784-1024-1024-10, Adam",))
    with pytest.raises(SpecError, match="trials 12: must be a power of two"):
        CLAIM.sweeps("smoke", trials=12)
    with pytest.raises(SpecError, match="unknown dataset with a target 'cifar10'"):
        CLAIM.sweeps("smoke", dataset="cifar10")


def test_what_the_pilot_does_not_know_follows_from_what_it_does():
    pilot = {8: (0.1, 400.0), 128: (0.4, 50.0)}
    critical = (400 - 50) / (50 / 8 - 400 / 128)  # of a hyperbola through both
    for size, rate in ((32, 0.2), (2, 0.025), (1024, 0.4)):
        steps = 50 * (1 + critical / size) / (1 + critical / 128)
        assert experiment.expected(pilot, size) == pytest.approx((rate, steps), rel=1e-4)


def test_every_field_of_a_setting_is_used():
    base = dict(CLAIM.settings["smoke"][0])
    before = [t.key for s in CLAIM.sweeps("smoke") for t in s.trials()]
    changed = {
        "batch_sizes": (16, 64),
        "trials": 4,
        "octaves": 3,
        "more_octaves": 5,
        "budget": 2,
        "look": 1.5,
        "far_batch_sizes": (64,),
        "far_epochs": 50,
    }
    for name, value in {**changed, "seeds": 1, "studies": base["studies"][:1]}.items():
        assert [t.key for s in CLAIM.sweeps("smoke", **{name: value}) for t in s.trials()] != before
