"""The command line where the terminal, the user or the disk is not as usual: real processes, one line each."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


def error_line(done):
    assert done.returncode == 1
    [line] = done.stderr.decode().splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize("words", [["list"], ["show", CLAIM], ["doctor"], ["run", "--help"]], ids=" ".join)
def test_a_terminal_that_knows_ascii_alone(words):
    done = repro(*words, env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    assert done.returncode == 0 and done.stdout.decode("ascii")


@pytest.mark.parametrize("words", [["list"], ["list", "--json"]], ids=" ".join)
def test_output_to_a_full_disk(words):
    with Path("/dev/full").open("wb") as full:
        line = error_line(repro(*words, stdout=full))
    assert "No space left on device" in line and "free some space" in line


def test_a_cache_whose_name_is_too_long(tmp_path):
    for words in (["list"], ["run", CLAIM]):
        line = error_line(repro(*words, env={"REPRO_CACHE": str(tmp_path / ("x" * 300))}))
        assert "File name too long" in line and "REPRO_CACHE" in line


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
