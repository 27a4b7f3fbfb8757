"""Running trials: the same numbers however they are run, and nothing lost when something is killed."""

import asyncio
import collections
import math
import os
import re
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor

import commands
import pandas as pd
import psutil
import pytest
import signalled
import torch
from commands import new_ledger
from distributed import rpc
from distributed.security import Security
from faults import attack
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from repro.runs import runner, worker
from repro.runs.cluster import RunError
from repro.training import models, shapes
from repro.trial import Phase, Trial

SMALL = {"train_size": 600, "widths": (32,), "lr": 0.05}
TRIALS = [
    Trial(**SMALL, batch_size=16, steps=60, checkpoints=(7, 30)),
    Trial(**SMALL, batch_size=16, steps=60, init_seed=1, data_seed=1),
    Trial(**SMALL, batch_size=256, epochs=4),  # in bfloat16 where the processor has it
    Trial(**SMALL | {"lr": 0.001}, batch_size=64, optimizer="adam", epochs=2.5),
    Trial(**SMALL, batch_size=32, momentum=0.9, optimizer="nesterov", batch_norm=True, epochs=2),
    Trial(**SMALL | {"widths": (16, 16)}, batch_size=32, epochs=3, schedule=(Phase(1, 0.1, 64),)),
]
DIVERGING = Trial(**SMALL | {"lr": 1e6}, batch_size=16, steps=60)
IMPOSSIBLE = Trial(**SMALL | {"widths": (10**10,)}, batch_size=16, steps=1)  # 28 TiB of weights

SWEEP = commands.SWEEPS["twenty"].trials()
NUM = len(SWEEP)
pytestmark = pytest.mark.xdist_group("runner")


def measures(ledger, trials):
    """Everything but provenance, in one order."""
    table = ledger.rows(trials).sort_values(["key", "step"], ignore_index=True)
    return table.drop(columns=["recorded", *(c for c in table if c.startswith("run_"))])


def assert_same(found, expected):
    """Equal bit for bit; whether a column of whole numbers with gaps is float depends on its neighbours."""
    pd.testing.assert_frame_equal(found, expected, check_exact=True, check_like=True, check_dtype=False)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """The trials run one after the other in this process: what every other way must equal."""
    ledger = new_ledger(tmp_path_factory.mktemp("quiet"))
    report = runner.run({"claim": TRIALS}, ledger, workers=0)
    assert (report.trained, report.found, report.failed) == (len(TRIALS), 0, ())
    return measures(ledger, TRIALS)


@pytest.fixture(scope="module")
def quiet_sweep(tmp_path_factory):
    ledger = new_ledger(tmp_path_factory.mktemp("quiet-sweep"))
    runner.run({"claim": SWEEP}, ledger, workers=0)
    return measures(ledger, SWEEP)


# The same numbers


def test_alone_and_in_reverse_order(tmp_path, quiet):
    for name, plans in {"alone": [[t] for t in TRIALS], "reversed": [TRIALS[::-1]]}.items():
        ledger = new_ledger(tmp_path / name)
        for plan in plans:
            runner.run({"claim": plan}, ledger, workers=0)
        assert_same(measures(ledger, TRIALS), quiet)


@pytest.mark.parametrize("workers", [1, 2])
def test_on_workers_with_one_trial_that_cannot_run(tmp_path, quiet, workers):
    ledger, seen = new_ledger(tmp_path), []
    plan = {"first": [IMPOSSIBLE, *TRIALS[:4]], "second": TRIALS[2:]}
    report = runner.run(plan, ledger, workers=workers, progress=lambda *now: seen.append(now))
    assert_same(measures(ledger, TRIALS), quiet)
    assert (report.trained, report.found) == (6, 0)
    [line] = report.failed
    assert IMPOSSIBLE.key in line and "memory" in line
    finished, totals = zip(*seen, strict=True)
    assert finished[0] == 0 and finished[-1] == 7 and set(totals) == {7} and list(finished) == sorted(finished)
    assert {p.name for p in ledger.working.glob("*.parquet")} == {"first.parquet", "second.parquet"}
    assert signalled.workers_of(psutil.Process()) == []


# What is run, and what is not


def test_only_what_is_missing_is_trained(tmp_path):
    ledger, seen = new_ledger(tmp_path), []
    runner.run({"claim": TRIALS[:2]}, ledger, workers=0)
    before = ledger.rows(TRIALS[:2])
    report = runner.run({"claim": [*TRIALS[:3], TRIALS[0]]}, ledger, workers=0, progress=lambda *now: seen.append(now))
    assert (report.trained, report.found) == (1, 2)
    assert seen == [(2, 3), (3, 3)]
    assert_same(ledger.rows(TRIALS[:2]), before)  # dates and seconds too
    content = (ledger.working / "claim.parquet").read_bytes()
    for workers in (0, 2, None):
        report = runner.run({"claim": TRIALS[:3], "other": TRIALS[1:2]}, ledger, workers=workers)
        assert (report.trained, report.found, report.failed) == (0, 3, ())
    assert (ledger.working / "claim.parquet").read_bytes() == content
    assert not (ledger.working / "other.parquet").exists()


def test_recording_writes_to_the_recorded_ledger_only(tmp_path):
    ledger = new_ledger(tmp_path)
    runner.run({"claim": TRIALS[:1]}, ledger, workers=0, record=True)
    assert not ledger.working.exists() and ledger.rows(TRIALS[:1])["recorded"].all()
    assert runner.run({"claim": TRIALS[:1]}, ledger, workers=0).trained == 0


def test_a_trial_that_raises_is_named_and_tried_again(tmp_path, monkeypatch):
    def broken(model, initial, dataset, trial):
        raise RuntimeError("the probe\nbroke")

    ledger = new_ledger(tmp_path)
    victim = Trial(**SMALL, batch_size=128, steps=3, init_seed=5, probes=("travel",))
    sound = Trial(**SMALL, batch_size=128, steps=3, init_seed=6, probes=("fit",))
    with monkeypatch.context() as patch:
        patch.setitem(worker.PROBES, "travel", broken)
        report = runner.run({"claim": [victim, IMPOSSIBLE, sound]}, ledger, workers=0)
    assert report.trained == 1 and len(report.failed) == 2
    [line] = [line for line in report.failed if victim.key in line]
    assert "B=128" in line and "lr=0.05" in line and "seed=5" in line and line.endswith("the probe broke")
    assert ledger.missing([victim, IMPOSSIBLE, sound]) == [victim, IMPOSSIBLE]
    assert runner.run({"claim": [victim, sound]}, ledger, workers=0).trained == 1


def test_divergence_is_a_status_and_not_run_again(tmp_path):
    ledger = new_ledger(tmp_path)
    report = runner.run({"claim": [DIVERGING, TRIALS[0]]}, ledger, workers=0)
    assert (report.trained, report.failed) == (2, ())
    table = ledger.rows([DIVERGING, TRIALS[0]])
    assert table.groupby("key")["status"].unique().explode().to_dict() == {
        DIVERGING.key: "diverged",
        TRIALS[0].key: "finished",
    }
    assert table[table["key"] == DIVERGING.key]["final"].sum() == 1
    assert runner.run({"claim": [DIVERGING]}, ledger, workers=0).trained == 0


# What is killed on the way


def start(tmp_path, ignores=""):
    """`repro run` on the sweep with two workers, in a process group of its own."""
    script = commands.write(tmp_path, "twenty")
    environment = {**os.environ, "REPRO_CACHE": str(tmp_path)}
    return signalled.start(script, "run", "generalization-gap", "--workers", "2", ignores=ignores, env=environment)


def wait_for_trial(process, ledger, after=()):
    """Return the process's workers as soon as it has added a trial to those `after`."""
    signalled.wait_until(lambda: len(ledger.rows(SWEEP)) > len(after), process)
    workers = signalled.workers_of(psutil.Process(process.pid))
    assert len(workers) == 2
    return workers


def in_ledger(ledger):
    """The trials that survived, each whole, as its rows."""
    table = ledger.rows(SWEEP)
    assert (table.groupby("key")["step"].agg(tuple) == commands.TRIAL.checkpoint_steps).all()
    assert 1 <= table["key"].nunique() < len(SWEEP)
    return table


def assert_gone(processes):
    _, alive = psutil.wait_procs(processes, timeout=15)
    alive = [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]
    for process in alive:
        process.kill()
    assert not alive


def test_kill_9_and_a_damaged_file_lose_nothing(tmp_path):
    """A few of the faults that `python tests/faults.py` does a hundred of."""
    attack(tmp_path, ["kill", "flip", "kill"], seed=0)


def stopped(process, number=signal.SIGINT):
    """The count in the one line that a stopped process leaves beside its progress bar."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number and out == "", err
    foretold = ("timing a few steps", "generalization-gap, smoke", f"{NUM} trials to train, about", "dashboard: ")
    lines = [li for li in err.splitlines() if li.strip() and not li.startswith(foretold)]
    assert len(lines) == 1, err
    [line] = lines
    told = re.fullmatch(
        rf"error: stopped: (\d+) of {NUM} trials are in the ledger; the same command goes on from there", line
    )
    assert told, line
    return int(told[1])


def wait_for_workers(process):
    signalled.wait_until(lambda: len(signalled.workers_of(psutil.Process(process.pid))) == 2, process)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_while_workers_start(tmp_path, number):
    process = start(tmp_path)
    wait_for_workers(process)
    os.killpg(process.pid, number)
    assert stopped(process, number) == new_ledger(tmp_path).rows(SWEEP)["key"].nunique()
    signalled.assert_all_gone(tmp_path)


@pytest.mark.parametrize("workers", [-1, 4 * runner.num_cores() + 1, 10**6])
def test_more_workers_than_cores_can_feed(tmp_path, workers):
    most = 4 * runner.num_cores()
    with pytest.raises(RunError, match=f"^workers {workers}: must be a number from 0 to {most}, 4 a core$"):
        runner.run({"claim": TRIALS}, new_ledger(tmp_path), workers=workers)


def test_a_background_job_goes_on(tmp_path):
    """What a script's shell starts with & ignores Ctrl-C, and what nohup starts ignores hangups."""
    process = start(tmp_path, ignores="SIGINT SIGHUP")
    wait_for_workers(process)
    for wait in (lambda: None, lambda: wait_for_trial(process, new_ledger(tmp_path))):
        wait()
        os.killpg(process.pid, signal.SIGINT)
        os.killpg(process.pid, signal.SIGHUP)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0 and f"{NUM} trials trained, 0 found" in err, err
    assert new_ledger(tmp_path).missing(SWEEP) == []


def heard_of(process):
    """Every address at which the process, or one that it has started, listens."""
    tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    return [c.laddr for p in tree for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]


def test_nothing_listens_to_other_machines(tmp_path):
    process = start(tmp_path)
    wait_for_trial(process, new_ledger(tmp_path))
    heard = heard_of(process)
    process.kill()
    process.communicate()
    assert len(heard) >= 4 and {address.ip for address in heard} == {"127.0.0.1"}  # scheduler, dashboard, two workers


CLUSTER = """
import sys
from repro.runs import cluster
if __name__ == "__main__":
    with cluster.local_cluster(2) as client:
        print(client.scheduler_info()["address"], flush=True)
        sys.stdin.read()
        print(client.submit(sum, [1, 2]).result())
"""


def test_another_user_of_the_machine_is_refused(tmp_path):
    """By all that listens: who has no key, or one of his own, is not spoken to."""

    async def speak(address, keys):
        async with asyncio.timeout(3), rpc(address, timeout=2, connection_args=keys) as there:
            return await there.identity()

    async def speak_to_all():
        own = Security.temporary().get_connection_args("client")
        ports = [address.port for address in heard_of(process)]
        assert len(ports) >= 6 and int(scheduler.rpartition(":")[2]) in ports
        asked = [(f"tcp://127.0.0.1:{p}", {}) for p in ports] + [(f"tls://127.0.0.1:{p}", own) for p in ports]
        return await asyncio.gather(*(speak(*it) for it in asked), return_exceptions=True)

    (tmp_path / "cluster.py").write_text(CLUSTER)
    process = signalled.start(tmp_path / "cluster.py", stdin=subprocess.PIPE)
    scheduler = process.stdout.readline().strip()
    assert scheduler.startswith("tls://127.0.0.1:")
    with ThreadPoolExecutor(1) as thread:  # this one's loop may run already
        answers = thread.submit(asyncio.run, speak_to_all()).result()
    out, _ = process.communicate(timeout=60)
    assert all(isinstance(answer, OSError | TimeoutError) for answer in answers), answers
    assert process.returncode == 0 and out == "3\n"  # who holds the key is


def test_after_ctrl_c_the_same_command_goes_on(tmp_path, quiet_sweep):
    ledger = new_ledger(tmp_path)
    process = start(tmp_path)
    workers = wait_for_trial(process, ledger)
    os.killpg(process.pid, signal.SIGINT)
    num_kept = stopped(process)
    assert_gone(workers)
    assert in_ledger(ledger)["key"].nunique() == num_kept
    process = start(tmp_path)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and "Traceback" not in out + err, err
    assert f"{NUM - num_kept} trials trained, {num_kept} found in the ledger" in err
    assert_same(measures(ledger, SWEEP), quiet_sweep)


def test_a_killed_workers_trial_is_run_again(tmp_path, quiet_sweep):
    ledger, killed, seen = new_ledger(tmp_path), [], []

    def kill_one_once(finished, total):
        seen.append(finished)
        if finished and not killed:
            killed.append(signalled.workers_of(psutil.Process())[0])
            killed[0].kill()

    report = runner.run({"claim": SWEEP}, ledger, workers=2, progress=kill_one_once)
    assert len(killed) == 1
    assert (report.trained, report.failed) == (NUM, ())
    assert seen == sorted(seen) and seen[-1] == NUM
    assert_same(measures(ledger, SWEEP), quiet_sweep)
    assert signalled.workers_of(psutil.Process()) == []


# What is trained together

ALIKE = Trial(**SMALL, batch_size=16, steps=4)
KINDS = [  # of one stack each; the last three are never stacked
    {},
    {"momentum": 0.9},
    {"batch_size": 32},
    {"steps": 40},
    {"widths": (256,)},  # at most ten
    {"schedule": (Phase(1, 0.1, 32),)},
    {"widths": (2048, 2048)},
    {"batch_norm": True},
    {"optimizer": "adam"},
]
many_trials = st.lists(
    st.builds(
        lambda kind, seed, lr, budget: Trial(
            **{**SMALL, "batch_size": 16, "steps": budget, **kind, "init_seed": seed, "data_seed": seed, "lr": lr}
        ),
        st.sampled_from(KINDS),
        st.integers(0, 12),
        st.sampled_from([0.001, 0.01, 0.1, 1.0]),
        st.sampled_from([4, 4, 4, 8]),
    ),
    max_size=60,
    unique_by=lambda t: t.key,
)


@hypothesis_settings(max_examples=150, deadline=None, database=None)
@given(many_trials, st.integers(0, 9))
def test_stacks(trials, workers):
    made = runner.stacks(trials, workers)
    assert sorted(t.key for stack in made for t in stack) == sorted(t.key for t in trials)
    groups = collections.defaultdict(list)
    for stack in made:
        [alike] = {shapes.stack_key(t) for t in stack}
        groups[alike].append(stack)
    busy = max(workers, 1)
    for stacks in groups.values():
        together = [t for stack in stacks for t in stack]
        size = min(shapes.max_stack(together[0]), math.ceil(len(together) / busy))
        assert max(map(len, stacks)) <= size and len(stacks) == math.ceil(len(together) / size)
        if len(together) >= max(busy, busy * (busy - 1)):  # enough for whole stacks of one size to reach every worker
            assert len(stacks) >= busy
        places = [(t.init_seed, t.lr) for t in together]
        assert places == sorted(places)
    seeds = [stack[0].init_seed for stack in made]
    assert seeds == sorted(seeds) and seeds == [min(t.init_seed for t in stack) for stack in made]
    again = runner.stacks(trials[::-1], workers)
    assert {tuple(t.key for t in stack) for stack in again} == {tuple(t.key for t in stack) for stack in made}


@pytest.mark.parametrize(
    ("workers", "sizes"), [(0, [24]), (1, [24]), (2, [12] * 2), (4, [6] * 4), (24, [1] * 24), (99, [1] * 24)]
)
def test_every_worker_gets_a_stack_of_the_trials_alike(workers, sizes):
    trials = [Trial(**SMALL | {"lr": lr}, batch_size=16, steps=4, init_seed=s) for lr in (0.1, 0.2) for s in range(12)]
    assert [len(stack) for stack in runner.stacks(trials, workers)] == sizes


def test_seeds_come_in_order_and_neighbours_in_lr_together():
    trials = [
        Trial(**SMALL | {"lr": lr}, batch_size=size, steps=4, init_seed=seed)
        for lr in (1.0, 0.01, 0.1, 0.001)
        for seed in (2, 0, 1)
        for size in (32, 16)
    ]
    made = [[(t.batch_size, t.init_seed, t.lr) for t in stack] for stack in runner.stacks(trials, 6)]
    pairs = ((0.001, 0.01), (0.1, 1.0))
    assert made == [
        [(size, seed, lr) for lr in pair] for seed in range(3) for size in (16, 32) for pair in pairs
    ]  # within a seed, the less work the sooner


@pytest.mark.parametrize("stack_size", [1, 2, 7])
def test_the_numbers_do_not_depend_on_the_stack(tmp_path, monkeypatch, stack_size):
    trials = [Trial(**SMALL | {"lr": lr}, batch_size=16, steps=9, init_seed=s) for s in range(3) for lr in (0.1, 1e6)]
    alone, stacked = new_ledger(tmp_path / "alone"), new_ledger(tmp_path / "stacked")
    for t in trials:
        runner.run({"claim": [t]}, alone, workers=0)
    monkeypatch.setattr(shapes, "MAX_STACK", stack_size)
    assert len(runner.stacks(trials, 1)) == math.ceil(6 / stack_size)
    runner.run({"claim": trials}, stacked, workers=0)
    assert_same(measures(stacked, trials), measures(alone, trials))


# A stack in which one trial fails


def probe_that_fails_for(victims, reason, after=0):
    """Probe: none of these trials can be measured, from its measurement number `after` on."""
    starts = {t.key: models.build(t)[0].weight for t in victims}
    asked = collections.Counter()

    def broken(model, initial, dataset, trial):
        for key, start in starts.items():
            if torch.equal(initial["0.weight"], start):
                asked[key] += 1
                if asked[key] > after:
                    raise RuntimeError(reason)
        return {"measured": 1.0}

    return broken


def seeded(count):
    return [Trial(**SMALL, batch_size=16, steps=4, init_seed=seed, probes=("fit", "travel")) for seed in range(count)]


@pytest.mark.parametrize("after", [0, 1], ids=["at the start", "at the end"])
def test_a_stack_loses_only_the_trial_at_fault(tmp_path, monkeypatch, after):
    trials = seeded(5)
    expected = new_ledger(tmp_path / "sound")
    monkeypatch.setitem(worker.PROBES, "travel", probe_that_fails_for([], ""))
    runner.run({"claim": trials}, expected, workers=0)
    ledger, seen, sizes = new_ledger(tmp_path), [], []

    def run_stack(stack, train=runner.run_stack):
        sizes.append(len(stack))
        return train(stack)

    monkeypatch.setattr(runner, "run_stack", run_stack)
    # `asked` counts on, so that the victim, tried again alone, fails at once
    monkeypatch.setitem(worker.PROBES, "travel", probe_that_fails_for(trials[2:3], "seed two\nbroke", after))
    report = runner.run({"claim": trials}, ledger, workers=0, progress=lambda *now: seen.append(now))
    assert sizes == [5, 1, 1, 1, 1, 1]
    assert (report.trained, report.found) == (4, 0)
    [line] = report.failed
    assert trials[2].key in line and "seed=2" in line and line.endswith("seed two broke")
    assert seen[0] == (0, 5) and seen[-1] == (5, 5) and seen == sorted(seen)
    assert ledger.missing(trials) == [trials[2]]
    others = trials[:2] + trials[3:]
    assert_same(measures(ledger, others), measures(expected, others))


def test_a_broken_stack_does_not_hold_up_the_next(tmp_path, monkeypatch):
    first, second = seeded(3), [Trial(**SMALL, batch_size=32, steps=4, init_seed=seed) for seed in range(3)]
    monkeypatch.setitem(worker.PROBES, "travel", probe_that_fails_for([first[0]], "broke"))  # equal weights in `second`
    ledger = new_ledger(tmp_path)
    report = runner.run({"claim": first, "other": second}, ledger, workers=0)
    assert report.trained == 4 and len(report.failed) == 2
    assert ledger.missing([*first, *second]) == [first[0], second[0]]
    assert set(ledger.failures([*first, *second])) == {first[0].key, second[0].key}


@pytest.mark.parametrize("record", [False, True], ids=["working", "recorded"])
def test_failures_are_remembered_until_a_retry_succeeds(tmp_path, monkeypatch, record):
    trials = seeded(4)
    victims, others = trials[1:3], [trials[0], trials[3]]
    ledger = new_ledger(tmp_path)
    for reason in ("first reason", "second reason"):
        monkeypatch.setitem(worker.PROBES, "travel", probe_that_fails_for(victims, reason))
        report = runner.run({"claim": trials}, ledger, workers=0, record=record)
        assert len(report.failed) == 2
        assert ledger.failures(trials) == {t.key: reason for t in victims}
        assert ledger.failures(others) == {} and ledger.failures(victims[:1]) == {victims[0].key: reason}
        assert ledger.missing(trials) == victims and set(ledger.rows(trials)["key"]) == {t.key for t in others}
    assert report.found == 2
    before = ledger.rows(others)
    assert new_ledger(tmp_path).failures(trials) == ledger.failures(trials)  # on disk, for the next process
    monkeypatch.setitem(worker.PROBES, "travel", probe_that_fails_for([], ""))
    report = runner.run({"claim": trials}, ledger, workers=0, record=record)
    assert (report.trained, report.found, report.failed) == (2, 2, ())
    assert ledger.failures(trials) == {} and ledger.missing(trials) == []
    after = ledger.rows(trials)
    assert (after["recorded"] == record).all() and set(after["status"]) == {"finished"}
    found = after[after["key"].isin([t.key for t in others])]
    assert_same(found[before.columns].reset_index(drop=True), before)  # dates and seconds too
    assert after.groupby("key")["step"].agg(tuple).tolist() == [(0, 4)] * 4
    assert {p.name for p in (ledger.recorded if record else ledger.working).glob("*.parquet")} == {"claim.parquet"}
    if record:  # what git keeps holds no failures
        assert set(pd.read_parquet(ledger.recorded / "claim.parquet")["status"]) == {"finished"}
    else:
        assert not ledger.recorded.exists()


def test_a_trial_that_failed_and_was_trained_elsewhere_is_forgiven(tmp_path, monkeypatch):
    [trial] = seeded(1)
    ledger = new_ledger(tmp_path)
    with monkeypatch.context() as patch:
        patch.setitem(worker.PROBES, "travel", probe_that_fails_for([trial], "broke"))
        runner.run({"claim": [trial]}, ledger, workers=0)
    assert ledger.failures([trial]) == {trial.key: "broke"}
    runner.run({"other": [trial]}, ledger, workers=0, record=True)
    assert ledger.failures([trial]) == {} and ledger.missing([trial]) == []
