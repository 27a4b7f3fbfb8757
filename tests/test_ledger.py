"""The ledger: what goes in comes out, whatever is killed, damaged, full or locked meanwhile."""

import contextlib
import datetime
import itertools
import math
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from repro.runs import ledger as room
from repro.runs import provenance
from repro.runs.ledger import Ledger, LedgerError, make_rows
from repro.training.engine import Training
from repro.trial import SEEDS, Sweep, Trial, paired_seeds

pytestmark = pytest.mark.xdist_group("ledger")
STEPS = (0, 20, 63)
# Children forked from a process that has imported what this file imports: they start in no time.
servers = multiprocessing.get_context("forkserver")
servers.set_forkserver_preload(["repro.runs.ledger", "repro.training.engine", "hypothesis", "pytest"])


def trial(seed=0, **fields):
    return Trial(**{"epochs": 1, "widths": (32,), "init_seed": seed, **fields})


def rows_of(trial, value=0.5, status="finished", **measures):
    """The trial's ledger rows as the runner makes them, with a made-up training behind."""
    points = [{"step": s, "epoch": s / 63, "train_loss": value + s, **measures} for s in STEPS]
    return make_rows(trial, Training(status, points, "closed form", "float32"), seconds=1.5)


def whole(table):
    return not len(table) or set(table.groupby("key")["step"].agg(tuple)) == {STEPS}


def file_of(ledger, claim="claim"):
    return ledger.working / f"{claim}.parquet"


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "working", tmp_path / "recorded")


@contextlib.contextmanager
def held_by_another_process(lock):
    code = "import filelock, sys\nwith filelock.FileLock(sys.argv[1]): print('held', flush=True), sys.stdin.read()"
    command = [sys.executable, "-c", code, lock]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        yield
        holder.stdin.close()


# What goes in comes out


def test_every_value_comes_back_bit_for_bit(ledger):
    values = (0.1, 1 / 3, 5e-324, -0.0, math.inf, math.nan, 1e300)
    trials = [trial(i) for i in range(len(values))]
    for t, value in zip(trials, values, strict=True):
        ledger.append("claim", rows_of(t, test_loss=value, num_flips=7))
    table = ledger.table([Sweep("arm", trial(), {"init_seed": range(len(values))})])
    assert whole(table) and table["key"].nunique() == len(values)
    assert (table["arm"] == "arm").all() and not table["recorded"].any()
    for t, value in zip(trials, values, strict=True):
        mine = table[table["key"] == t.key].reset_index()
        assert [v.hex() for v in mine["test_loss"]] == [float(value).hex()] * 3
        assert list(mine["train_loss"]) == [0.5 + s for s in STEPS]
        assert list(mine["final"]) == [False, False, True]
        assert set(mine["num_flips"]) == {7}
        assert Trial.from_json(mine["trial"][0]) == t


def test_trials_of_different_shapes_share_a_file(ledger):
    shallow, deep = trial(0, steps=70, epochs=None), trial(0, widths=(32, 32), train_size=100, epochs=1.5)
    ledger.append("claim", rows_of(shallow, cosine_1=0.1, cosine_2=0.2))
    ledger.append("claim", rows_of(deep, cosine_1=0.3, cosine_2=0.4, cosine_3=0.5))
    ledger.append("claim", rows_of(trial(1), status="diverged"))
    table = ledger.rows([shallow, deep, trial(1)]).set_index("key")
    assert set(table.loc[deep.key, "cosine_3"]) == {0.5}
    assert table.loc[shallow.key, "cosine_3"].isna().all()
    assert set(table.loc[shallow.key, "steps"]) == {70} and set(table.loc[deep.key, "train_size"]) == {100}
    assert table.loc[shallow.key, "epochs"].isna().all()
    assert set(table.loc[trial(1).key, "status"]) == {"diverged"}
    assert "cosine_3" not in ledger.rows([shallow])  # a measure that none of the trials asked for has


def test_a_number_stays_a_number_across_files(ledger):
    ledger.append("a", rows_of(trial(0)))
    ledger.append("b", rows_of(trial(1, epochs=None, steps=70), test_loss=0.5))
    assert ledger.rows([trial(0), trial(1, epochs=None, steps=70)])["steps"].sum() == 3 * 70


def test_missing_lists_what_no_file_holds_in_order_once(ledger):
    a, b, c, d = (trial(i) for i in range(4))
    assert ledger.missing([b, a, b]) == [b, a]
    ledger.append("one", rows_of(a))
    ledger.append("two", rows_of(b), record=True)
    assert ledger.missing([d, a, c, b, d]) == [d, c]
    assert ledger.missing([]) == [] and ledger.rows([c, d]).empty
    assert ledger.table([Sweep("arm", c)]).empty


def test_a_trial_in_two_sweeps_stands_in_both_arms(ledger):
    narrow = Sweep("narrow", trial(), {SEEDS: paired_seeds(2)})
    wide = Sweep("wide", trial(), {SEEDS: paired_seeds(3)})
    for t in wide.trials():
        ledger.append("claim", rows_of(t))
    arms = ledger.table([narrow, wide, narrow]).groupby("arm")["key"].agg(["nunique", "size"])
    assert arms.loc["narrow"].tolist() == [2, 6] and arms.loc["wide"].tolist() == [3, 9]


def test_the_recorded_trial_wins_over_the_working_one(ledger):
    ledger.append("a", rows_of(trial(), value=1))
    ledger.append("z", rows_of(trial(), value=2), record=True)
    table = ledger.rows([trial()])
    assert list(table["train_loss"]) == [2 + s for s in STEPS] and table["recorded"].all()


def test_a_trial_appended_twice_counts_once_and_the_first_stays(ledger):
    for value in (1, 2):
        ledger.append("claim", rows_of(trial(), value=value))
    ledger.append("other", rows_of(trial(), value=3))
    assert list(ledger.rows([trial(), trial()])["train_loss"]) == [1 + s for s in STEPS]


def test_appends_within_one_clock_tick_are_seen(ledger):
    ledger.append("claim", rows_of(trial(0)))
    before = file_of(ledger).stat()
    assert ledger.missing([trial(0), trial(1)]) == [trial(1)]
    ledger.append("claim", rows_of(trial(1)))
    os.utime(file_of(ledger), ns=(before.st_atime_ns, before.st_mtime_ns))
    assert ledger.missing([trial(0), trial(1)]) == []


def test_nothing_to_append_writes_nothing_but_finds_out_whether_it_could(ledger, tmp_path):
    ledger.append("claim", [])
    assert not ledger.files()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LedgerError, match="cannot write"):
        Ledger(tmp_path / "file" / "ledger", tmp_path / "recorded").append("claim", [])


def test_provenance_of_every_row(ledger):
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    ledger.append("claim", rows_of(trial()) + rows_of(trial(1), status="diverged"))
    table = ledger.rows([trial(), trial(1)])
    assert set(table["run_torch_version"]) == {torch.__version__}
    assert set(table["run_device"]) == {"cpu"} and set(table["run_threads"]) == {1}
    assert set(table["run_path"]) == {"closed form"} and set(table["run_precision"]) == {"float32"}
    assert set(table["run_seconds"]) == {1.5}
    assert table["run_processor"].str.len().min() > 2 and table["run_code_version"].str.match(r"\d+\.\d+").all()
    if (provenance.PROJECT / ".git").exists():
        assert table["run_git_commit"].str.fullmatch(r"[0-9a-f]{12}(\+changes)?").all()
    dates = pd.to_datetime(table["run_date"])
    assert (dates >= before).all() and (dates <= datetime.datetime.now(datetime.UTC)).all()
    told = provenance.summary(table)
    assert (told["trials"], told["diverged"], told["hours"]) == (2, 1, 2 * 1.5 / 3600)
    assert told["torch_version"] == [torch.__version__]
    assert provenance.summary(ledger.rows([trial(2)])) == {"trials": 0, "hours": 0.0}


@settings(max_examples=25, deadline=None, database=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("ab"), st.booleans(), st.floats()), max_size=6))
def test_any_appends_equal_a_dictionary(appends):
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder, "working"), Path(folder, "recorded"))
        oracle = {}
        for seed, claim, record, value in appends:
            ledger.append(claim, rows_of(trial(seed), test_loss=value), record)
        for record, claim in itertools.product((True, False), "ab"):  # the order of precedence
            for seed, to, recorded, value in appends:
                if (to, recorded) == (claim, record):
                    oracle.setdefault(seed, value)
        assert ledger.missing([trial(s) for s in range(4)]) == [trial(s) for s in range(4) if s not in oracle]
        for seed, value in oracle.items():
            table = ledger.rows([trial(seed)])
            found = table["test_loss"] if "test_loss" in table else pd.Series([math.nan] * len(table))
            assert [v.hex() for v in found] == [value.hex()] * len(STEPS)


# What breaks on the way


def append_forever(working, recorded, start):
    ledger = Ledger(working, recorded)
    for seed in itertools.count(start):
        ledger.append("claim", rows_of(trial(seed), value=seed))


def test_kill_9_while_appending_leaves_whole_trials(ledger):
    ledger.append("claim", rows_of(trial()))
    kept = 1
    for start in range(1000, 6000, 1000):
        process = servers.Process(target=append_forever, args=(ledger.working, ledger.recorded, start))
        before, deadline = file_of(ledger).stat().st_mtime_ns, time.monotonic() + 60
        process.start()
        while file_of(ledger).stat().st_mtime_ns == before:
            assert process.is_alive() and time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(random.uniform(0, 0.2))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        table = pq.read_table(file_of(ledger)).to_pandas()
        assert whole(table) and table["key"].nunique() > kept
        kept = table["key"].nunique()
    began = time.monotonic()
    ledger.append("claim", rows_of(trial(1)))
    assert time.monotonic() - began < 10  # the lock of the dead is no obstacle
    assert {p.name for p in ledger.working.iterdir()} <= {"claim.parquet", "claim.lock"}


def append_range(working, recorded, start, barrier):
    ledger = Ledger(working, recorded)
    barrier.wait()
    for seed in range(start, start + 15):
        ledger.append("claim", rows_of(trial(seed), value=seed))


def test_two_processes_appending_at_once_lose_nothing(ledger):
    barrier = servers.Barrier(2)
    both = [
        servers.Process(target=append_range, args=(ledger.working, ledger.recorded, start, barrier))
        for start in (0, 15)
    ]
    for process in both:
        process.start()
    for process in both:
        process.join()
        assert process.exitcode == 0
    table = ledger.rows([trial(i) for i in range(30)])
    assert table["key"].nunique() == 30 and whole(table)
    assert (table["train_loss"] == table["init_seed"] + table["step"]).all()


@pytest.mark.parametrize("call", ["rows", "append"])
@pytest.mark.parametrize("damage", ["truncated", "garbage", "zero bytes", "a flipped name"])
def test_a_damaged_file_is_kept_aside_and_named(ledger, damage, call):
    ledger.append("claim", rows_of(trial()))
    path, good = file_of(ledger), file_of(ledger).read_bytes()
    bad = {
        "truncated": good[: len(good) // 2],
        "garbage": random.Random(0).randbytes(3000),
        "zero bytes": b"",
        "a flipped name": good.replace(b"train_loss", b"train_lost"),
    }[damage]
    for number, aside in enumerate(["claim.damaged", "claim.damaged2"], start=1):
        path.write_bytes(bad + b" " * (number - 1))
        with pytest.raises(LedgerError) as error:
            ledger.rows([trial()]) if call == "rows" else ledger.append("claim", rows_of(trial(1)))
        assert "\n" not in str(error.value) and str(path) in str(error.value) and aside in str(error.value)
        assert (path.parent / aside).read_bytes() == bad + b" " * (number - 1)
        assert not path.exists()
        assert ledger.missing([trial()]) == [trial()]
        ledger.append("claim", rows_of(trial()))
        assert ledger.missing([trial()]) == []


@pytest.mark.parametrize("where", ["working folder is a file", "its parent is a file", "the ledger is a folder"])
def test_a_path_that_cannot_be_written_is_one_line(tmp_path, where):
    (tmp_path / "file").write_text("mine")
    folder = {"working folder is a file": "file", "its parent is a file": "file/working"}.get(where, "working")
    ledger = Ledger(tmp_path / folder, tmp_path / "recorded")
    if where == "the ledger is a folder":
        file_of(ledger).mkdir(parents=True)
    with pytest.raises(LedgerError, match=r"cannot (write|read) .*claim\.parquet") as error:
        ledger.append("claim", rows_of(trial()))
    assert "\n" not in str(error.value)
    assert (tmp_path / "file").read_text() == "mine"


def append_on_full_disk(working, recorded, size, answer):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    try:
        Ledger(working, recorded).append("claim", [r for i in range(1, 200) for r in rows_of(trial(i), i / 7)])
    except LedgerError as error:
        answer.put(str(error))


def test_a_full_disk_leaves_the_old_file_and_no_partial_one(ledger):
    ledger.append("claim", rows_of(trial()))
    before = file_of(ledger).read_bytes()
    answer = servers.SimpleQueue()
    process = servers.Process(
        target=append_on_full_disk, args=(ledger.working, ledger.recorded, len(before) // 2, answer)
    )
    process.start()
    process.join()
    assert process.exitcode == 0
    told = answer.get()
    assert told.startswith(f"cannot write {file_of(ledger)}") and "space" in told and "\n" not in told
    assert file_of(ledger).read_bytes() == before
    assert {p.name for p in ledger.working.iterdir()} <= {"claim.parquet", "claim.lock"}


def test_a_ledger_locked_by_another_process_is_one_line(ledger, monkeypatch):
    monkeypatch.setattr(room, "LOCK_SECONDS", 0.2)
    ledger.append("claim", rows_of(trial()))
    with held_by_another_process(file_of(ledger).with_suffix(".lock")):
        with pytest.raises(LedgerError, match=r"claim\.parquet is being written by another run") as error:
            ledger.append("claim", rows_of(trial(1)))
        assert "\n" not in str(error.value)
        assert ledger.missing([trial(), trial(1)]) == [trial(1)]  # reading waits for nobody
    ledger.append("claim", rows_of(trial(1)))
    assert ledger.missing([trial(), trial(1)]) == []
