"""Sweeps on a scheduler and workers started by hand, as real processes, some of which die."""

import contextlib
import http.server
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler as Handler
from pathlib import Path

import commands
import pytest
import signalled
from commands import new_ledger
from distributed import Client
from distributed.comm import CommClosedError
from test_runner import NUM, SMALL, SWEEP, assert_same, measures

from repro.runs import cluster as cluster_room
from repro.runs import runner
from repro.runs.cluster import RunError, awaits_workers
from repro.runs.provenance import PROJECT
from repro.trial import Trial

pytestmark = pytest.mark.xdist_group("cluster")
# On a worker that loads this, seed 7 is deadly.
DEADLY = """
import os, signal
from repro.runs import runner
def run_stack(stack, engine_version, train=runner.run_stack):
    if any(t.init_seed == 7 for t in stack):
        os.kill(os.getpid(), signal.SIGKILL)
    return train(stack, engine_version)
runner.run_stack = run_stack
"""
# On a worker that loads this, the first result to be handed over is deadly.
SPEECHLESS = """
import os, pathlib, signal
from repro.runs import runner
class Speechless(list):
    def __reduce__(self):
        try:
            pathlib.Path("killed").touch(exist_ok=False)
        except FileExistsError:
            return list, (list(self),)
        os.kill(os.getpid(), signal.SIGKILL)
def run_stack(stack, engine_version, train=runner.run_stack):
    return Speechless(train(stack, engine_version))
runner.run_stack = run_stack
"""
OUTDATED = "from repro.runs import runner; runner.ENGINE_VERSION = 0"


class Cluster:
    """`dask scheduler` and `dask worker` processes, ended with the test."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"

    def start(self, *words):
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *map(str, words)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def scheduler(self):
        return self.start("scheduler", "--host", "127.0.0.1", "--port", self.port, "--dashboard-address", ":0")

    def worker(self, preload=None, nanny=False):
        more = []
        if preload:
            path = self.folder / f"preload{len(self.processes)}.py"
            path.write_text(preload)
            more = ["--preload", path]
        nannies = "--nanny" if nanny else "--no-nanny"
        return self.start("worker", self.address, "--nthreads", 1, nannies, "--dashboard-address", ":0", *more)

    def wait_for_nannies(self, count):
        """One whose worker dies before it knows that the worker runs gives up, and does not start another."""
        with Client(self.address) as client:
            client.wait_for_workers(count, timeout=120)
            deadline = time.monotonic() + 120
            while set(client.run(lambda dask_worker: dask_worker.status.name, nanny=True).values()) != {"running"}:
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def end(self):
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def cluster(tmp_path):
    (tmp_path / "cluster").mkdir()
    it = Cluster(tmp_path / "cluster")
    yield it
    it.end()


def test_a_connection_lost_with_a_result_on_its_way_is_told_by_us_alone(caplog):
    """Tornado's log would tell it with a traceback, on the moment's chance; other errors of its it still tells."""
    cluster_room._hush()
    for error in (CommClosedError("gone"), ValueError("another")):
        try:
            raise error
        except Exception:
            logging.getLogger("tornado.application").exception("Exception in callback")
    assert [str(record.exc_info[1]) for record in caplog.records] == ["another"]


def test_a_server_of_workers_that_cannot_start_is_one_line(monkeypatch):
    def refused(*modules):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(cluster_room.processes, "prepare", refused)
    with (
        pytest.raises(RunError, match=r"^2 workers cannot be started \(.*unavailable\); allow more processes"),
        cluster_room.local_cluster(2),
    ):
        pass


def start(tmp_path, *words):
    """`repro run` on the sweep of test_runner, on the user's side of the scheduler."""
    script = commands.write(tmp_path, "twenty")
    return subprocess.Popen(
        [sys.executable, script, "run", "generalization-gap", *words],
        env={**os.environ, "REPRO_CACHE": str(tmp_path), "COLUMNS": "300"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_rows(process, ledger, count):
    signalled.wait_until(lambda: ledger.rows(SWEEP)["key"].nunique() >= count, process)


def test_a_killed_worker_and_a_killed_scheduler_lose_nothing(tmp_path, cluster):
    ledger, quiet = new_ledger(tmp_path), new_ledger(tmp_path / "quiet")
    scheduler, workers = cluster.scheduler(), [cluster.worker(), cluster.worker()]
    process = start(tmp_path, "--scheduler", cluster.address)
    wait_for_rows(process, ledger, 1)
    workers[0].kill()
    wait_for_rows(process, ledger, 3)
    scheduler.kill()
    out, err = process.communicate(timeout=90)
    assert process.returncode == 1 and out == "", (out, err)
    lines = [li for li in err.splitlines() if "error" in li]
    assert len(lines) == 1, err
    told = re.fullmatch(
        rf"error: lost the scheduler at \S+: (\d+) of {NUM} trials are in the ledger; "
        "the same command goes on from there",
        lines[0],
    )
    assert told and "Traceback" not in err, err
    kept = ledger.rows(SWEEP)
    assert kept["key"].nunique() == int(told[1]) < NUM
    for one in cluster.processes:
        one.kill()
        one.wait()
    cluster.scheduler()
    cluster.worker()
    process = start(tmp_path, "--scheduler", cluster.address)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and "Traceback" not in err, err
    assert "dashboard: http://127.0.0.1:" in err
    assert f"{NUM - int(told[1])} trials trained, {told[1]} found" in err
    runner.run({"claim": SWEEP}, quiet, workers=0)
    assert_same(measures(ledger, SWEEP), measures(quiet, SWEEP))
    table = ledger.rows(SWEEP)
    assert_same(table[table["key"].isin(kept["key"])].reset_index(drop=True), kept)


def test_a_trial_that_kills_its_worker_twice_is_named_and_the_sweep_goes_on(tmp_path, cluster):
    cluster.scheduler()
    cluster.worker(DEADLY, nanny=True)
    cluster.worker(DEADLY, nanny=True)
    cluster.wait_for_nannies(2)
    trials = [Trial(**SMALL, batch_size=16, steps=30, init_seed=seed) for seed in range(10)]
    assert len(runner.stacks(trials, 2)) == 2  # the deadly one takes its stack along, at first
    ledger = new_ledger(tmp_path)
    report = runner.run({"claim": trials}, ledger, scheduler=cluster.address)
    [line] = report.failed
    assert trials[7].key in line and "died" in line
    assert report.trained == 9
    assert ledger.missing(trials) == [trials[7]]
    [why] = ledger.failures(trials).values()
    assert "died" in why
    report = runner.run({"claim": trials}, ledger, workers=0)  # where it is harmless
    assert (report.trained, report.failed) == (1, ())
    assert ledger.failures(trials) == {}


def test_a_worker_that_dies_with_its_result_loses_nothing(tmp_path, cluster):
    cluster.scheduler()
    cluster.worker(SPEECHLESS, nanny=True)
    cluster.wait_for_nannies(1)
    trials = [Trial(**SMALL, batch_size=16, steps=30, init_seed=seed) for seed in range(3)]
    report = runner.run({"claim": trials}, new_ledger(tmp_path), scheduler=cluster.address)
    assert (cluster.folder / "killed").exists()
    assert (report.trained, report.failed) == (3, ())


@contextlib.contextmanager
def silent():
    """A socket that takes calls and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as there:
        yield f"127.0.0.1:{there.getsockname()[1]}"


@contextlib.contextmanager
def web():
    """A web server, which answers, but not as a scheduler."""
    with http.server.HTTPServer(("127.0.0.1", 0), type("Quiet", (Handler,), {"log_message": lambda *told: None})) as it:
        threading.Thread(target=it.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{it.server_port}"
        it.shutdown()


@pytest.mark.parametrize("scheme", ["tcp://", "ws://", ""])
@pytest.mark.parametrize("there", [silent, web])
def test_something_else_there(tmp_path, monkeypatch, there, scheme):
    monkeypatch.setattr("repro.runs.cluster.CONNECT_SECONDS", 1)
    began = time.monotonic()
    with there() as address, pytest.raises(RunError, match=r"no Dask scheduler answers at .*tcp://host:8786"):
        runner.run({"claim": SWEEP}, new_ledger(tmp_path), scheduler=scheme + address)
    assert time.monotonic() - began < 10


def test_no_scheduler_there(tmp_path, monkeypatch):
    monkeypatch.setattr("repro.runs.cluster.CONNECT_SECONDS", 0.5)
    for address in ("tcp://127.0.0.1:9", "nonsense", "", "ws://", "tcp://", "http://127.0.0.1:9"):
        with pytest.raises(RunError, match=r"no Dask scheduler answers at .*; start one with 'dask scheduler'"):
            runner.run({"claim": SWEEP}, new_ledger(tmp_path), scheduler=address)


def test_a_worker_is_no_scheduler(tmp_path, cluster):
    cluster.scheduler()
    cluster.worker()
    with Client(cluster.address) as client:
        client.wait_for_workers(1, timeout=120)
        [address] = client.scheduler_info()["workers"]
    with pytest.raises(RunError, match="it is a Worker"):
        runner.run({"claim": SWEEP}, new_ledger(tmp_path), scheduler=address)


def test_a_cluster_with_keys_as_its_page_has_it(tmp_path, monkeypatch, cluster):
    """The commands of "On a cluster", of which one sets the keys for all that follow; who has none is refused."""
    [commands] = re.findall(r"```bash\n(umask.*?)```", (PROJECT / "book" / "cluster.md").read_text(), re.S)
    keys, scheduler, worker, run = (
        commands.partition("# on one host")[0],
        *re.findall(r"^(?:dask|repro) .*$", commands, re.M),
    )
    shell = f"set -e; PATH={Path(sys.executable).parent}:$PATH; {keys}\nenv"
    done = subprocess.run(
        ["bash", "-c", shell], env={**os.environ, "HOME": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    assert not done.stderr
    made = dict(line.split("=", 1) for line in done.stdout.splitlines() if line.startswith("DASK_"))
    [path] = {value for value in made.values() if value.startswith(str(tmp_path))}
    assert len(made) == 5 and Path(path).stat().st_mode & 0o077 == 0
    with monkeypatch.context() as patch:
        for name, value in made.items():
            patch.setenv(name, value)
        cluster.address = cluster.address.replace("tcp:", "tls:")
        assert scheduler == "dask scheduler --protocol tls"
        cluster.start("scheduler", "--protocol", "tls", "--host", "127.0.0.1", "--port", cluster.port)
        assert worker.startswith("dask worker tls://HOST:8786 ") and run.endswith("--scheduler tls://HOST:8786")
        cluster.worker()
        process = start(tmp_path, "--scheduler", cluster.address)
        wait_for_rows(process, new_ledger(tmp_path), 1)
    monkeypatch.setattr("repro.runs.cluster.CONNECT_SECONDS", 2)
    for address in (cluster.address, cluster.address.replace("tls:", "tcp:")):
        with pytest.raises(RunError, match="no Dask scheduler answers at"):
            runner.run({"claim": SWEEP}, new_ledger(tmp_path / "stranger"), scheduler=address)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0 and f"{NUM} trials trained" in err, err


def test_a_worker_of_another_version_is_refused(tmp_path, cluster):
    cluster.scheduler()
    cluster.worker(OUTDATED)
    with pytest.raises(RunError, match="engine version 0, the sweep needs 1; install"):
        runner.run({"claim": SWEEP}, new_ledger(tmp_path), scheduler=cluster.address)


def test_a_sweep_waits_for_workers_and_says_so(tmp_path, cluster):
    cluster.scheduler()
    told = []

    def say(line):
        told.append(line)
        if "waiting for workers" in line:
            cluster.worker()

    trials = SWEEP[:1]
    report = runner.run({"claim": trials}, new_ledger(tmp_path), scheduler=cluster.address, say=say)
    assert report.trained == 1
    assert f"dask worker {cluster.address}" in told[0] and "dashboard" in told[1]


def test_a_sweep_that_loses_its_last_worker_says_so_and_goes_on_with_a_new_one(tmp_path, monkeypatch, cluster):
    monkeypatch.setattr(runner, "QUIET_SECONDS", 1)
    cluster.scheduler()
    workers, told = [cluster.worker()], []

    def kill(finished, total):
        if finished and len(workers) == 1:
            workers[0].kill()
            workers[0].wait()
            workers.append(None)

    def say(line):
        told.append(line)
        if "waiting for workers" in line and None in workers:
            workers[1] = cluster.worker()

    trials = SWEEP[:6]
    report = runner.run({"claim": trials}, new_ledger(tmp_path), scheduler=cluster.address, progress=kill, say=say)
    assert report.trained == 6
    assert "waiting for workers" in told[-1] and f"dask worker {cluster.address}" in told[-1]


def test_workers_are_not_asked_for_while_there_are_some():
    """Dask's client refreshes what it knows of the scheduler by itself, without the list of workers, at any moment."""

    class Beaten:
        def scheduler_info(self, **asked):
            return {"address": "tcp://127.0.0.1:1", "workers": {}, "n_workers": 2}

    told = []
    assert not awaits_workers(Beaten(), "tcp://127.0.0.1:1", told.append) and told == []
