"""The command line where the terminal, the user or the disk is not as usual: real processes, one line each."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user whom the system does not know")
@pytest.mark.parametrize("cache", [True, False])
def test_a_user_without_a_home(cache):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "REPRO_CACHE", "XDG_CACHE_HOME")}
        environment |= {"REPRO_CACHE": folder} if cache else {}
        words = ["run", CLAIM, "--workers", "0"] if cache else ["list"]
        command = [sys.executable, "-m", "repro.cli", *words]
        done = subprocess.run(command, env=environment, user=54321, cwd=folder, capture_output=True, timeout=300)
        if cache:
            assert done.returncode == 0, done.stderr.decode()
            assert (Path(folder) / "ledger" / f"{CLAIM}.parquet").is_file()
        else:
            assert "REPRO_CACHE" in error_line(done) and not list(Path(folder).iterdir())
