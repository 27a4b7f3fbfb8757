"""The command line where the terminal, the user or the disk is not as usual: real processes, one line each."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import signalled

from repro import claims
from repro.runs.ledger import Ledger
from repro.runs.provenance import PROJECT

CLAIM = "generalization-gap"
pytestmark = pytest.mark.xdist_group("terminal")


def repro(*words, env=None, **given):
    command = [sys.executable, "-m", "repro.cli", *words]
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **given}
    done = subprocess.run(command, env=os.environ | (env or {}), timeout=300, **given)
    err = done.stderr.decode()
    assert "Traceback" not in err and "Exception ignored" not in err, err
    return done


def caught(process):
    """The signals that Python code of `python -m repro` handles now; none of its launcher, which names it too."""
    with contextlib.suppress(OSError, TypeError):
        command = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
        status = Path(f"/proc/{process.pid}/status").read_text()
        mask = int(re.search(r"^SigCgt:\s+(\w+)$", status, re.M)[1], 16)
        begun = command[1:3] == [b"-m", b"repro"]
        return {n for n in (signal.SIGINT, signal.SIGTERM) if begun and mask >> n - 1 & 1}
    return set()


def error_line(done):
    assert done.returncode == 1
    [line] = done.stderr.decode().splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize("words", [["show", CLAIM], ["doctor"], ["run", "--help"]], ids=" ".join)
def test_a_terminal_that_knows_ascii_alone(words):
    done = repro(*words, env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    assert done.returncode == 0 and done.stdout.decode("ascii")


@pytest.mark.parametrize("words", [["doctor"], ["doctor", "--json"]], ids=" ".join)
def test_output_to_a_full_disk(words):
    with Path("/dev/full").open("wb") as full:
        line = error_line(repro(*words, stdout=full))
    assert "No space left on device" in line and "free some space" in line


def test_a_cache_whose_name_is_too_long(tmp_path):
    for words in (["list"], ["run", CLAIM]):
        line = error_line(repro(*words, env={"REPRO_CACHE": str(tmp_path / ("x" * 300))}))
        assert "File name too long" in line and "REPRO_CACHE" in line


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_streams_that_the_shell_has_closed(closed, tmp_path):
    """Nothing that is opened later takes their place, and what would have been printed is in none of it."""
    shell = f'exec "$0" -m repro run {CLAIM} --workers 0 {closed}'
    environment = {**os.environ, "REPRO_CACHE": str(tmp_path)}
    done = subprocess.run(["sh", "-c", shell, sys.executable], env=environment, capture_output=True, timeout=300)
    told = done.stdout + done.stderr
    assert done.returncode == 0 and b"Traceback" not in told and b"Exception ignored" not in told, told
    assert bool(done.stdout) == (not re.search(r"(^| )>&-", closed)) and bool(done.stderr) == ("2>&-" not in closed)
    assert not Ledger(tmp_path / "ledger", tmp_path).missing(claims.find(claims.get(CLAIM), "smoke", Ledger()).trials)


@pytest.mark.parametrize(("limit", "allowed"), [("-n 40", False), ("-Sn 40", True)], ids=["hard", "soft"])
def test_too_few_open_files_for_workers(tmp_path, limit, allowed):
    """What the system allows is taken; where it does not, that is told before Dask fails anywhere."""
    shell = f'ulimit {limit}; exec "$0" -m repro run {CLAIM} --workers 2'
    environment = {**os.environ, "REPRO_CACHE": str(tmp_path)}
    done = subprocess.run(["sh", "-c", shell, sys.executable], env=environment, capture_output=True, timeout=300)
    told = done.stderr.decode()
    assert "Traceback" not in told
    if allowed:
        assert done.returncode == 0 and "10 trials trained" in told
        return
    beside = ("timing a few steps", "10 trials to train, about", f"{CLAIM}, smoke ")
    [line] = [li for li in told.splitlines() if not li.startswith(beside)]
    assert done.returncode == 1
    assert line.startswith("error: 2 workers need 112 open files, and 40 are allowed; raise the limit (ulimit -n)")


def test_ctrl_c_at_any_moment_of_the_start_leaves_no_traceback():
    """From when Python runs our first line on: soon after it has begun to load, and while commands load."""
    for wait in (0.0, 0.05, 0.1, 0.2, 0.5, 1.0):
        process = signalled.start("-m", "repro", "list")
        # Python has begun; where that was too short to be seen, the command has loaded
        signalled.wait_until(lambda process=process: signal.SIGINT in caught(process), process)
        signalled.wait_until(lambda process=process: caught(process) != {signal.SIGINT}, process)  # and so have we
        time.sleep(wait)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode in (-signal.SIGINT, 128 + signal.SIGINT) and out == "", (process.returncode, err)
        assert err in ("", "stopped\n"), err


# What becomes a user whom the system does not know, where that is allowed.
STRANGER = ["unshare", "--user", "--map-user=54321"]
allowed = shutil.which("unshare") and subprocess.run([*STRANGER, "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not allowed, reason="nobody may become another user here")
def test_a_user_without_a_home(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "REPRO_CACHE", "XDG_CACHE_HOME")}
    environment["PYTHONPATH"] = str(PROJECT / "src")

    def as_stranger(*words, **more):
        command = [*STRANGER, sys.executable, "-m", "repro.cli", *words]
        return subprocess.run(command, env=environment | more, cwd=tmp_path, capture_output=True, timeout=300)

    assert "set REPRO_CACHE" in error_line(as_stranger("list"))
    assert not list(tmp_path.iterdir())
    done = as_stranger("run", CLAIM, "--workers", "0", REPRO_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr.decode()
    assert [p.name for p in tmp_path.iterdir()] == ["cache"]
    assert as_stranger("doctor", REPRO_CACHE=str(tmp_path / "cache")).returncode == 0
