"""A sweep under attack: `python tests/faults.py --faults 100 --seed 0` does it harm of every kind, one after the other.

After each fault nothing is lost (every row that was in the ledger still is, to the bit), nothing is silent (the command
says in one line what happened, and ends as shells have it), nothing hangs (it ends within ten seconds of the fault, or
of its reaching out for a scheduler, or, where the harm was there before, within thirty of its start), and nothing that
it started lives on. At the end the ledger holds what an undisturbed sweep's does.
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd
import psutil
import signalled
from commands import CLAIM, SWEEPS, write

from repro.runs import runner
from repro.runs.ledger import Ledger

TRIALS = SWEEPS["endless"].trials()
SOON = 10.0  # seconds after a fault by which the command has ended
GONE = 5.0  # seconds after that by which all it has started has
ENDING = "the same command goes on from there"


class Attack:
    """One ledger, and the harm done to it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.cache = folder / "cache"
        self.ledger = Ledger(self.cache / "ledger", folder / "recorded")
        self.file = self.ledger.working / f"{CLAIM}.parquet"
        self.script = write(folder, "endless")
        self.slowest = 0.0

    def rows(self) -> pd.DataFrame:
        """All that the ledger holds, read as the next process will."""
        found = Ledger(self.ledger.working, self.ledger.recorded).rows(TRIALS)
        return found.sort_values(["key", *(["step"] if "step" in found else [])], ignore_index=True)

    def start(self, *words: str, **given: object) -> subprocess.Popen[str]:
        environment = {**os.environ, "REPRO_CACHE": str(self.cache), "COLUMNS": "300"}
        return signalled.start(self.script, *words, env=environment, **given)

    def run(self, *more: str, **given: object) -> subprocess.Popen[str]:
        return self.start("run", CLAIM, "--workers", "2", *more, **given)

    def ends(self, process: subprocess.Popen[str], since: float, within: float = SOON) -> tuple[str, str]:
        """What the process said, which is over and done with soon after `since`."""
        try:
            out, err = process.communicate(timeout=max(0.1, since + 3 * within - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise AssertionError(f"hangs: {process.communicate()[1][-500:]}") from None
        seconds = time.monotonic() - since
        self.slowest = max(self.slowest, seconds)
        signalled.assert_all_gone(self.cache, GONE)
        assert seconds < within, f"took {seconds:.1f} s"
        assert "Traceback" not in out + err, out + err
        return out, err

    def errors(self, process: subprocess.Popen[str], since: float, status: int = 1) -> str:
        """The one line in which it said what is wrong."""
        _, err = self.ends(process, since)
        lines = [line for line in err.splitlines() if line.startswith("error: ") or line == "stopped"]
        assert process.returncode == status and len(lines) == 1, (process.returncode, err)
        return lines[0]

    def mid_run(self, process: subprocess.Popen[str]) -> None:
        """Anywhere in it: while it loads, starts workers, trains or writes."""
        wait = self.random.choice([0.2, 2.0, 4.0, 6.0]) * self.random.random() + 1.0
        deadline = time.monotonic() + wait
        while time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.01)

    # Harm: each leaves the ledger to be looked at

    def stop(self) -> None:
        """A signal, once or twice, to the process or to its group."""
        number = self.random.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
        send = self.random.choice([os.kill, os.killpg])
        times = self.random.choice([1, 1, 2])
        process = self.run()
        self.heeds(process)
        self.mid_run(process)
        since = time.monotonic()
        for _ in range(times):
            with contextlib.suppress(ProcessLookupError):
                send(process.pid, number)
        line = self.errors(process, since, 128 + number)
        if line != "stopped":
            told = line.removeprefix("error: stopped: ").partition(" of ")[0]
            assert ENDING in line and int(told) == self.rows()["key"].nunique(), line

    def heeds(self, process: subprocess.Popen[str]) -> None:
        """Wait until it does: before, Python itself has not got as far as our first line."""
        signalled.wait_until(lambda: _catches(process.pid, signal.SIGTERM), process)

    def kill(self) -> None:
        """kill -9 of the command alone, or of all it has started."""
        process = self.run()
        self.mid_run(process)
        since = time.monotonic()
        self.random.choice([os.kill, os.killpg])(process.pid, signal.SIGKILL)
        self.ends(process, since)

    def kill_a_worker(self) -> None:
        """kill -9 of a worker: the run goes on without a word, until it is stopped."""
        before = self.rows()["key"].nunique()
        process = self.run()
        signalled.wait_until(lambda: self.rows()["key"].nunique() > before, process)
        self.random.choice(signalled.workers_of(psutil.Process(process.pid))).kill()
        now = self.rows()["key"].nunique()
        signalled.wait_until(lambda: self.rows()["key"].nunique() > now + 2, process)
        since = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        assert ENDING in self.errors(process, since, 130)

    def flip(self) -> None:
        """One bit of the ledger's file, anywhere; or its end is lost."""
        whole, before = self.file.read_bytes(), self.rows()
        if self.random.random() < 0.3:
            damaged = whole[: self.random.randrange(len(whole))]
        else:
            at, bit = self.random.randrange(len(whole)), 1 << self.random.randrange(8)
            damaged = whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :]
        self.file.write_bytes(damaged)
        since = time.monotonic()
        process = self.start(*self.random.choice([("list",), ("show", CLAIM), ("run", CLAIM, "--plan")]))
        out, err = self.ends(process, since, within=30)
        if process.returncode == 0 and self.rows().equals(before):
            self.file.write_bytes(whole)  # in the digest's own mark, where it harms nothing
            return
        assert process.returncode == 1 and out == "" and len(err.splitlines()) == 1, (out, err)
        moved = [p for p in self.ledger.working.glob("*.damaged*") if p.read_bytes() == damaged]
        assert "is damaged" in err and len(moved) == 1 and not self.file.exists(), err
        moved[0].unlink()
        self.file.write_bytes(whole)  # restored from a copy, as the line says

    def foreign(self) -> None:
        """Something that is not ours lies in the ledger's folder."""
        theirs = self.ledger.working / "theirs.parquet"
        self.random.choice(
            [
                lambda: theirs.write_bytes(self.random.randbytes(1000)),
                lambda: pd.DataFrame({"x": [1, 2]}).to_parquet(theirs),
                lambda: theirs.symlink_to("nowhere"),
                lambda: os.mkfifo(theirs),
                theirs.mkdir,
            ]
        )()
        before = theirs.lstat()
        since = time.monotonic()
        process = self.start(*self.random.choice([("list",), ("run", CLAIM)]))
        out, err = self.ends(process, since, within=30)
        assert process.returncode == 1 and out == "" and len(err.splitlines()) == 1 and str(theirs) in err, (out, err)
        assert (theirs.lstat().st_ino, theirs.lstat().st_size) == (before.st_ino, before.st_size)
        theirs.rmdir() if theirs.is_dir() and not theirs.is_symlink() else theirs.unlink()

    def wrong_scheduler(self) -> None:
        """What is at the scheduler's address is none."""
        there = self.random.choice([silent, talker, web, nobody])
        scheme = self.random.choice(["tcp://", "tls://", "ws://", ""])
        with there() as address:
            process = self.start("run", CLAIM, "--scheduler", scheme + address)
            signalled.wait_until(lambda: _catches(process.pid, signal.SIGTERM), process)
            line = self.errors(process, time.monotonic() + 5.0)  # it loads Dask first
        assert "no Dask scheduler answers at" in line, line

    def full_disk(self) -> None:
        """No file may grow beyond what the ledger's takes up now, or standard output is full."""
        if self.random.random() < 0.3:
            with Path("/dev/full").open("wb") as full:
                since = time.monotonic()
                process = self.start("list", stdout=full, stderr=subprocess.PIPE)
                err = process.communicate(timeout=60)[1]
            assert process.returncode == 1 and "No space left on device" in err and len(err.splitlines()) == 1, err
            return
        size = self.file.stat().st_size

        def limited() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

        process = self.start("run", CLAIM, "--workers", "0", preexec_fn=limited)
        signalled.wait_until(lambda: process.poll() is not None, seconds=90)
        since = time.monotonic()
        line = self.errors(process, since)
        assert str(self.file) in line and "File too large" in line and "free some space" in line, line

    def go_on(self) -> None:
        """No fault: some more of the sweep."""
        before = self.rows()["key"].nunique()
        process = self.run()
        signalled.wait_until(lambda: self.rows()["key"].nunique() >= before + 4, process)
        since = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        assert ENDING in self.errors(process, since, 130)

    def one(self, name: str) -> None:
        """Do it, and see that nothing is lost."""
        before = self.rows()
        getattr(self, name)()
        after = self.rows()
        kept = after[after["key"].isin(before["key"])].reset_index(drop=True)
        pd.testing.assert_frame_equal(kept[before.columns], before, check_exact=True, check_dtype=False)
        assert not list(self.ledger.working.glob("*.partial")) or name == "kill"

    def compare(self) -> None:
        """What is in the ledger with what an undisturbed run gives: the same numbers, bit for bit."""
        found = set(self.rows()["key"])
        trials = [t for t in TRIALS if t.key in found]
        trials = self.random.sample(trials, min(len(trials), 100))
        quiet = Ledger(self.folder / "quiet", self.folder / "recorded")
        runner.run({CLAIM: trials}, quiet, workers=0)
        tables = []
        for ledger in (self.ledger, quiet):
            table = ledger.rows(trials).sort_values(["key", "step"], ignore_index=True)
            tables.append(table.drop(columns=[c for c in table if c.startswith("run_")]))
        pd.testing.assert_frame_equal(*tables, check_exact=True, check_like=True, check_dtype=False)


KINDS = ("stop", "kill", "kill_a_worker", "flip", "foreign", "wrong_scheduler", "full_disk")


def _catches(pid: int, number: int) -> bool:
    with contextlib.suppress(OSError, StopIteration):
        status = Path(f"/proc/{pid}/status").read_text()
        mask = next(line for line in status.splitlines() if line.startswith("SigCgt"))
        return bool(int(mask.split()[1], 16) >> (number - 1) & 1)
    return False


@contextlib.contextmanager
def silent() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as there:
        yield f"127.0.0.1:{there.getsockname()[1]}"


@contextlib.contextmanager
def nobody() -> Iterator[str]:
    with socket.socket() as there:
        there.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{there.getsockname()[1]}"


@contextlib.contextmanager
def talker() -> Iterator[str]:
    """It says something else, at once and for ever."""
    with socket.create_server(("127.0.0.1", 0)) as there:

        def talk() -> None:
            while True:
                with contextlib.suppress(OSError):
                    caller, _ = there.accept()
                    with caller:
                        caller.sendall(b"\xff" * 100_000)
                if there.fileno() < 0:
                    return

        threading.Thread(target=talk, daemon=True).start()
        yield f"127.0.0.1:{there.getsockname()[1]}"


@contextlib.contextmanager
def web() -> Iterator[str]:
    handler = type("Quiet", (http.server.BaseHTTPRequestHandler,), {"log_message": lambda *told: None})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as it:
        threading.Thread(target=it.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{it.server_port}"
        it.shutdown()


def attack(folder: Path, kinds: Sequence[str], seed: int, say: Callable[[str], None] = lambda line: None) -> None:
    """Harm of these kinds, one after the other, as the seed has it; AssertionError at the first after which something
    is not as it should be."""
    it = Attack(folder, seed)
    it.go_on()  # there is something to lose
    for i, name in enumerate(kinds, start=1):
        began = time.monotonic()
        try:
            it.one(name)
        except AssertionError as error:
            raise AssertionError(f"fault {i}, {name}: {error}") from error
        kept = it.rows()["key"].nunique()
        say(f"{i:3} {name:16} {time.monotonic() - began:5.1f} s   {kept} trials in the ledger")
    it.compare()
    say(f"{dict(Counter(kinds))}: nothing lost, nothing silent, no orphan; the slowest end took {it.slowest:.1f} s")


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--faults", type=int, default=100)
    words.add_argument("--seed", type=int, default=0)
    given = words.parse_args()
    order = [KINDS[i % len(KINDS)] for i in range(given.faults)]
    random.Random(given.seed).shuffle(order)
    place = Path(tempfile.mkdtemp(prefix="faults-"))
    attack(place, order, given.seed, lambda line: print(line, flush=True))
    shutil.rmtree(place)
