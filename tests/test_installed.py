"""The package installed from a wheel, away from the book's checkout."""

import os
import subprocess
import sys

import pytest

from repro.runs.provenance import PROJECT

TRAIN = """
import repro
from repro.runs import provenance
assert repro.__file__.startswith({site!r}), repro.__file__
chapter = repro.Chapter("generalization-gap", "smoke")
chapter.run()
assert chapter.here.whole
assert set(chapter.here.table["run_git_commit"]) == {{""}}
assert not chapter.here.table["recorded"].any()
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the package in site/, an empty home and an empty place to work, inside another project's git."""
    folder = tmp_path_factory.mktemp("installed")
    # built from a copy, for setuptools leaves things beside
    source = folder / "source"
    subprocess.run(["git", "-C", PROJECT, "checkout-index", "-a", f"--prefix={source}/"], check=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    wheel = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder / "wheel", source]
    subprocess.run([*pip, *wheel], check=True)
    target = ["install", "--no-deps", "--no-index", "--target", folder / "site", *(folder / "wheel").glob("*.whl")]
    subprocess.run([*pip, *target], check=True)
    for name in ("home", "work"):
        (folder / name).mkdir()
    subprocess.run(["git", "init", "-q", folder], check=True)
    author = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", "-C", folder, *author, "commit", "-q", "--allow-empty", "-m", "another's"], check=True)
    return folder


def python(folder, *words):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("REPRO_")} | {
        "PYTHONPATH": str(folder / "site"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(folder / "home"),
        "REPRO_CACHE": str(folder / "cache"),
        "MPLCONFIGDIR": str(folder / "cache" / "matplotlib"),
    }
    return subprocess.run(
        [sys.executable, *words], env=environment, cwd=folder / "work", capture_output=True, text=True, timeout=300
    )


def everything(folder):
    """Every file and folder outside the cache."""
    kept = (folder / "cache", folder / ".git")
    return sorted(str(p) for p in folder.rglob("*") if not any(k in (p, *p.parents) for k in kept))


def test_it_lists_examines_and_trains_and_writes_to_its_cache_alone(installed):
    before = everything(installed)
    listed, examined = (python(installed, "-m", "repro.cli", word) for word in ("list", "doctor"))
    assert listed.returncode == 0 and "generalization-gap" in listed.stdout, listed.stderr
    assert examined.returncode == 0 and "recorded ledger: none" in examined.stdout, examined.stderr
    trained = python(installed, "-c", TRAIN.format(site=str(installed / "site")))
    assert trained.returncode == 0, trained.stderr
    assert (installed / "cache" / "ledger" / "generalization-gap.parquet").is_file()
    assert everything(installed) == before


@pytest.mark.parametrize("words", [["refresh"], ["build"], ["run", "generalization-gap", "--record"]], ids=" ".join)
def test_what_belongs_to_the_book_is_refused(installed, words):
    before = everything(installed)
    done = python(installed, "-m", "repro.cli", *words)
    assert done.returncode == 1
    [line] = filter(None, done.stderr.splitlines())  # a progress bar that had nothing to show leaves an empty one
    assert line.startswith("error: ") and "needs the book's checkout" in line and "'make setup'" in line
    assert everything(installed) == before
