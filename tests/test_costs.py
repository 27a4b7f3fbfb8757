"""Estimates of time: by hand where steps and probes take known times, and sane where they are measured."""

import dataclasses

import pytest
from test_cli import CLAIM, repro

from repro import claims
from repro.runs import costs, ledger, provenance, runner
from repro.runs.ledger import Ledger
from repro.training import shapes
from repro.trial import Phase, Trial

SMALL = {"train_size": 600, "widths": (8,), "lr": 0.05}
STEP = {16: 1.0, 32: 10.0, 64: 100.0, 128: 1000.0}  # seconds, by batch size
pytestmark = pytest.mark.xdist_group("costs")


@pytest.fixture
def known(monkeypatch):
    """A step takes what STEP says, a tenth more for each further trial of its stack; a probe as given."""

    def set_probe(seconds):
        monkeypatch.setattr(costs, "_step_seconds", lambda shape, size: STEP[shape.batch_size] * (0.9 + size / 10))
        monkeypatch.setattr(costs, "_probe_seconds", lambda shape: seconds)

    return set_probe


@pytest.fixture
def quick(monkeypatch):
    """True timings, but short ones, and none of another test's."""
    monkeypatch.setattr(costs, "TIMING_SECONDS", 0.005)
    measured = costs._step_seconds, costs._probe_seconds, costs._final_probe_seconds
    for function in measured:
        function.cache_clear()
    yield
    for function in measured:
        function.cache_clear()


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty cache and no recorded results."""
    monkeypatch.setenv("REPRO_CACHE", str(tmp_path / "cache"))
    provenance.machine()  # provenance, asked for once a process, is of the true project
    monkeypatch.setattr(ledger, "PROJECT", tmp_path)
    return tmp_path


# With known times


@pytest.mark.parametrize(
    ("fields", "seconds", "probes"),
    [
        ({"batch_size": 16, "epochs": 2}, 2 * 38, 2),  # ⌈600/16⌉ steps an epoch
        ({"batch_size": 16, "epochs": 2.5}, 95, 2),
        ({"batch_size": 16, "steps": 7}, 7, 2),
        ({"batch_size": 16, "steps": 7, "checkpoints": (1, 3)}, 7, 4),
        ({"batch_size": 32, "epochs": 3, "schedule": (Phase(1, 0.1, 64),)}, 19 * 10 + 2 * 10 * 100, 2),
        ({"batch_size": 32, "epochs": 1.5, "schedule": (Phase(1, 0.1, 64),)}, 19 * 10 + 5 * 100, 2),
        (
            {"batch_size": 32, "epochs": 6, "schedule": (Phase(1, 0.1, 64), Phase(3, 0.2, 16)), "checkpoints": (2,)},
            19 * 10 + 2 * 10 * 100 + 3 * 38,
            3,
        ),
        ({"batch_size": 32, "steps": 25, "schedule": (Phase(1, 0.1, 64), Phase(2, 0.2, 16))}, 19 * 10 + 6 * 100, 2),
        ({"batch_size": 32, "steps": 5, "schedule": (Phase(1, 0.1, 64), Phase(2, 0.2, 16))}, 5 * 10, 2),
        ({"batch_size": 64, "epochs": 2, "schedule": (Phase(1, 0.5, 64),)}, 20 * 100, 2),  # another lr alone
    ],
)
@pytest.mark.parametrize("probe", [0.0, 0.25])
def test_steps_of_every_phase_and_probes_of_every_checkpoint_are_counted(known, fields, seconds, probes, probe):
    known(probe)
    trial = Trial(**SMALL, **fields)
    assert costs.estimate([trial], 0) == pytest.approx(seconds + probes * probe)
    assert costs.estimate([trial]) == costs.estimate([trial], 5) == costs.estimate([trial], 0)


def test_a_stack_takes_its_steps_at_once_and_its_probes_one_by_one(known):
    known(0.25)
    trials = [Trial(**SMALL, batch_size=16, steps=8, init_seed=seed) for seed in range(4)]
    assert runner.stacks(trials, 1) == [trials]
    assert costs.estimate(trials, 1) == pytest.approx(8 * 1.3 + 4 * 2 * 0.25)
    assert costs.estimate(trials, 2) == pytest.approx(8 * 1.1 + 2 * 2 * 0.25)
    assert costs.estimate(trials, 4) == pytest.approx(8 + 2 * 0.25)


@pytest.mark.parametrize(("workers", "makespan"), [(0, 31), (1, 31), (2, 21), (3, 18), (4, 17), (5, 16), (9, 16)])
def test_whoever_is_free_first_takes_the_next(known, workers, makespan):
    """Trials of 1, 2, 4, 8 and 16 s, in that order: on two workers 1 + 4 + 16 and 2 + 8."""
    known(0.0)
    trials = [Trial(**SMALL, batch_norm=True, batch_size=16, steps=2**seed, init_seed=seed) for seed in range(5)]
    assert [len(stack) for stack in runner.stacks(trials, 2)] == [1] * 5
    assert costs.estimate(trials[::-1], workers) == makespan


@pytest.mark.parametrize(("size", "seconds"), [(100, 4.0), (500, 8.0), (600, 9.0), (4000, 43.0)])
def test_a_final_probe_is_timed_on_few_examples_and_drawn_out(known, monkeypatch, size, seconds):
    """3 s and 0.01 s an example, timed on no more than 500 of them; once for every trial of a stack."""
    known(0.25)
    timed = []

    def pretend(stack):
        timed.append(stack)
        return 7.0 + sum(3 + 0.01 * t.num_train for t in stack if t.final_probes)

    monkeypatch.setattr(costs, "_seconds", pretend)
    costs._final_probe_seconds.cache_clear()
    trial = Trial(**{**SMALL, "train_size": size}, batch_size=16, steps=8, final_probes=("sharpness",))
    assert costs.estimate([trial], 0) == pytest.approx(8 + 2 * 0.25 + seconds)
    assert max(t.num_train for stack in timed for t in stack) <= 500
    both = [trial, dataclasses.replace(trial, init_seed=1)]
    asked = len(timed)
    assert costs.estimate(both, 1) == pytest.approx(8 * 1.1 + 2 * (2 * 0.25 + seconds))
    assert len(timed) == asked  # what was timed once is not timed again


def test_a_partner_is_trained_too(known, monkeypatch):
    known(0.0)
    monkeypatch.setattr(costs, "_seconds", lambda stack: 0.0)
    costs._final_probe_seconds.cache_clear()
    trial = Trial(**SMALL, batch_size=16, epochs=2, partner_batch_size=64, final_probes=("interpolation",))
    assert costs.estimate([trial], 0) == pytest.approx(2 * 38 + 2 * 10 * 100)


def test_a_probe_that_grows_with_draws_is_timed_on_few_draws(known, monkeypatch):
    known(0.0)
    monkeypatch.setitem(costs.GROWS_WITH, "curvature", "draws")
    monkeypatch.setattr(costs, "_seconds", lambda stack: sum(0.5 * t.draws for t in stack if t.final_probes))
    costs._final_probe_seconds.cache_clear()
    trial = Trial(**SMALL, batch_size=16, steps=1, draws=1000, final_probes=("curvature",))
    assert costs.estimate([trial], 0) == pytest.approx(1 + 500)


def test_nothing_takes_no_time():
    assert costs.estimate([]) == costs.estimate([], 0) == costs.estimate(iter(()), 4) == 0.0


def test_a_step_is_the_slope_and_a_probe_half_of_one_step_between_two(quick, monkeypatch):
    timed = []

    def pretend(stack):
        timed.append(stack)
        return 0.5 + 0.001 * stack[0].steps

    monkeypatch.setattr(costs, "_seconds", pretend)
    shape = Trial(**SMALL, batch_size=16, steps=1, probes=())
    assert costs._step_seconds(shape, 3) == pytest.approx(0.001)
    assert all(len(stack) == 3 and len({t.init_seed for t in stack}) == 3 for stack in timed)
    assert {shapes.stack_key(dataclasses.replace(t, steps=1)) for stack in timed for t in stack} == {
        shapes.stack_key(shape)
    }
    assert costs._probe_seconds(shape) == pytest.approx(0.2505)


# With times as measured


@pytest.mark.parametrize("fields", [{}, {"batch_norm": True}, {"epochs": 100, "steps": None, "checkpoints": (0.5,)}])
def test_an_estimate_is_positive_and_grows_with_the_steps(quick, fields):
    short = Trial(**{**SMALL, "batch_size": 16, "steps": 5000, **fields})
    budget = "steps" if short.steps else "epochs"
    long = dataclasses.replace(short, **{budget: 100 * getattr(short, budget)})
    assert long.num_steps == 100 * short.num_steps
    seconds = costs.estimate([short], 0)
    assert seconds > 0
    assert costs.estimate([long], 0) > 2 * seconds
    assert costs.estimate([short], 0) == seconds  # what was timed once is not timed again


@pytest.mark.parametrize(
    "fields",
    [
        {"batch_norm": True},
        {"batch_norm": True, "batch_size": 2},
        {"batch_norm": True, "schedule": (Phase(1, 0.1, 2),), "epochs": 2, "steps": None},
        {"model": "f1", "batch_size": 2},
        {"model": "cnn", "batch_norm": True, "batch_size": 2},
        {"batch_size": 1},
        {"batch_size": 100},
        {"optimizer": "nesterov", "momentum": 0.9},
        {"optimizer": "rmsprop", "momentum": 0.5, "weight_decay": 1e-3},
        {"optimizer": "adam"},
        {"precision": "bfloat16"},
        {"precision": "bfloat16", "batch_norm": True},
        {"evaluate_on": "validation", "preprocessing": "unit"},
        {"probes": ()},
        {"batch_norm": True, "ghost_size": 5},
        {"augmentation": "shift and rotate", "dropout": 0.5},
        {"probes": ("fit",), "target_accuracy": 0.5},
        {"train_size": 101},
        {"lr": 1e20},  # it would diverge; the estimate says how long it takes if not
        pytest.param(
            {"batch_norm": True, "batch_size": 3, "train_size": 101},
        ),
        {"final_probes": ("sharpness",)},
        {"final_probes": ("sharpness, statistics anew",), "batch_norm": True, "train_size": 102},
        {"final_probes": ("interpolation", "landscape"), "batch_norm": True, "partner_batch_size": 50},
        {"final_probes": ("curvature",), "batch_norm": True, "batch_size": 3, "train_size": 602},
        {"final_probes": ("gradient norms", "gradient tails", "gradient passes"), "draws": 40},
    ],
    ids=str,
)
def test_whatever_can_be_trained_can_be_estimated(quick, fields):
    trial = Trial(**{**SMALL, "train_size": 100, "batch_size": 10, "steps": 3, **fields})
    assert 0 < costs.estimate([trial], 0) < 3600


# The command line


def test_a_plan_trains_nothing_and_counts_what_is_missing(home, quick, monkeypatch):
    monkeypatch.setattr(runner, "run", None)
    books, claim = Ledger(), claims.get(CLAIM)
    missing = claims.find(claim, "smoke", books).trials
    result = repro("run", CLAIM, "--scale", "smoke", "--plan")
    assert result.exit_code == 0 and result.stdout == ""
    assert f"{len(missing)} trials to train, about " in result.stderr and " with 1 at once" in result.stderr
    assert not books.files() and books.missing(missing) == missing
    assert not (home / "cache").exists() and not (home / "results").exists()


def test_a_plan_leaves_out_what_is_found_and_counts_shared_trials_once(home, monkeypatch):
    asked = []

    def pretend(trials, workers=None, progress=None):
        asked.append((list(trials), workers))
        return 7200.0

    monkeypatch.setattr(costs, "estimate", pretend)
    books = Ledger()
    trials = claims.find(claims.get(CLAIM), "smoke", books).trials
    runner.run({CLAIM: trials[:2]}, books, workers=0)
    left = books.missing(trials)
    assert len(left) == len(trials) - 2
    result = repro("run", CLAIM, CLAIM, "--plan", "--workers", 3)
    assert f"{len(left)} trials to train, about 2.0 h with 3 at once" in result.stderr
    assert asked == [(left, 3)] and books.missing(trials) == left
    result = repro("run", CLAIM, "--plan", "--scheduler", "tcp://nowhere:1")
    assert f"{len(left)} trials to train, about 2.0 h of one worker" in result.stderr and asked[-1] == (left, 1)
    runner.run({CLAIM: left}, books, workers=0)
    result = repro("run", CLAIM, "--plan")
    assert result.exit_code == 0 and "0 trials to train" in result.stderr


@pytest.mark.parametrize(("workers", "asked"), [(0, 0), (2, 1)])
def test_a_run_says_how_long_it_should_take_if_it_starts_workers(home, monkeypatch, workers, asked):
    given = []
    report = runner.Report(3, 0, (), 50.0)
    monkeypatch.setattr(costs, "estimate", lambda trials, workers, progress: given.append(workers) or 100.0)
    monkeypatch.setattr(runner, "run", lambda *args, **options: report)
    result = repro("run", CLAIM, "--workers", workers)
    assert result.exit_code == 0 and given == [workers] * asked
    assert ("about 2 min with 2 at once" in result.stderr) == bool(asked)
    assert ("estimated 100 s: +100%" in result.stderr) == bool(asked)
