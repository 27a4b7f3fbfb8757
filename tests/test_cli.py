"""The command line: what it prints, and the one line it prints when something is wrong."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request

import pytest
from rich.console import Console
from typer.testing import CliRunner

from repro import claims, cli, terminal
from repro.runs import ledger, provenance, worker
from repro.runs.ledger import Ledger
from repro.training import data

CLAIM = "generalization-gap"
pytestmark = pytest.mark.xdist_group("cli")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty cache, no recorded results, no data and no network."""
    monkeypatch.setenv("REPRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("REPRO_DATA", str(tmp_path / "data"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setattr(urllib.request, "_opener", None)
    provenance.machine()  # provenance, asked for once a process, is of the true project
    monkeypatch.setattr(ledger, "PROJECT", tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    """The claim run at smoke scale in an empty cache, as a user does: the process that ended, and the cache."""
    folder = tmp_path_factory.mktemp("trained")
    command = [sys.executable, "-m", "repro.cli", "run", CLAIM, "--scale", "smoke"]
    environment = {**os.environ, "REPRO_CACHE": str(folder), "COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, env=environment), folder


@pytest.fixture
def trained(first_run, home, monkeypatch):
    """A home whose cache holds the claim's smoke-scale trials."""
    shutil.copytree(first_run[1], home / "cache")
    return home


def repro(*words):
    result = CliRunner().invoke(cli.app, [str(w) for w in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def error_line(result):
    """The one line on stderr; a progress bar that had begun may stand above it."""
    assert result.exit_code == 1
    lines = [li for li in result.stderr.splitlines() if li.strip() and not re.match(rf"{CLAIM}, \w+ ", li)]
    assert len(lines) == 1 and lines[0].startswith("error: "), result.stderr
    return lines[0]


# What is wrong is one line


@pytest.mark.parametrize("words", [["run"], ["show"], ["run", CLAIM]], ids=" ".join)
def test_unknown_claim(home, words):
    line = error_line(repro(*words, "generalisation-gap"))
    assert "unknown claim 'generalisation-gap'" in line and f"did you mean {CLAIM!r}" in line
    assert all(c in line for c in claims.all_claims())
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("command", [["run", CLAIM], ["build"]], ids=" ".join)
def test_unknown_scale(home, command):
    line = error_line(repro(*command, "--scale", "papr"))
    assert "unknown scale 'papr'" in line and "smoke, laptop, paper" in line and "did you mean 'paper'" in line
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    "words", [["run"], ["run", CLAIM, "--workers", "-1"], ["show"], ["train"], ["list", "--xml"]], ids=" ".join
)
def test_wrong_usage(home, words):
    result = repro(*words)
    assert result.exit_code == 2 and "Usage:" in result.stderr


def test_paper_scale_without_data_or_network(home):
    line = error_line(repro("run", CLAIM, "--scale", "paper"))
    assert re.match(r"error: (fashion-)?mnist: ", line)
    assert str(home / "data") in line and "REPRO_DATA" in line and "'mnist5k'" in line
    assert not Ledger().working.exists()


def test_paper_scale_with_damaged_data(home):
    for name, files in data.RAW_FILES.items():
        raw = home / "data" / data.TORCHVISION[name] / "raw"
        raw.mkdir(parents=True)
        for file in files:
            (raw / file).write_bytes(b"not digits")
    line = error_line(repro("run", CLAIM, "--scale", "paper"))
    assert "is damaged" in line and str(home / "data") in line and "-ubyte" in line and "delete it" in line
    assert not Ledger().working.exists()


@pytest.mark.parametrize("words", [["list"], ["show", CLAIM], ["run", CLAIM]], ids=" ".join)
def test_damaged_ledger(trained, words):
    file = trained / "cache" / "ledger" / f"{CLAIM}.parquet"
    file.write_bytes(file.read_bytes()[:-1000])
    damaged = file.read_bytes()
    line = error_line(repro(*words))
    assert str(file) in line and "is damaged" in line
    assert file.with_suffix(".damaged").read_bytes() == damaged
    assert repro(*words).exit_code == 0


def test_cache_folder_that_is_a_file(home):
    (home / "cache").write_text("mine")
    line = error_line(repro("run", CLAIM))
    assert "cannot write" in line and str(home / "cache") in line and "REPRO_CACHE" in line
    assert (home / "cache").read_text() == "mine"


def test_ledger_locked_by_another_process(home, monkeypatch):
    monkeypatch.setattr(ledger, "LOCK_SECONDS", 0.2)
    folder = Ledger().working
    folder.mkdir(parents=True)
    code = "import filelock, sys\nwith filelock.FileLock(sys.argv[1]): print('held', flush=True), sys.stdin.read()"
    command = [sys.executable, "-c", code, folder / f"{CLAIM}.lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        line = error_line(repro("run", CLAIM, "--workers", 0))
        holder.stdin.close()
    assert f"{CLAIM}.parquet is being written by another run" in line


# What is right


def test_help_names_every_command_and_option(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    commands = {
        "list": ["--json"],
        "show": ["claim", "--json"],
        "run": ["claim", "--scale", "--workers", "--record", "smoke", "laptop", "paper"],
        "build": ["--scale", "--output", "--repository", "--workers"],
        "refresh": [],
        "doctor": ["--json"],
    }
    text = repro("--help").stdout
    assert all(c in text for c in commands) and "REPRO_DATA" in text and "REPRO_CACHE" in text
    for command, options in commands.items():
        result = repro(command, "--help")
        assert result.exit_code == 0 and all(o in result.stdout for o in options), command


def test_run_trains_what_is_missing_once(first_run, trained):
    done, planned = first_run[0], len(claims.find(claims.get(CLAIM), "smoke", Ledger()).trials)
    assert done.returncode == 0, done.stderr
    assert f"{planned} trials trained, 0 found in the ledger" in done.stderr
    assert re.match(rf"{CLAIM}, smoke, mnist5k: [a-z ]+\. \w", done.stdout)
    assert "Traceback" not in done.stdout + done.stderr
    again = repro("run", CLAIM, "--scale", "smoke")
    assert again.exit_code == 0
    assert f"0 trials trained, {planned} found in the ledger" in again.stderr
    assert " ".join(again.stdout.split()) == " ".join(done.stdout.split())


def test_a_site_at_a_path_that_looks_like_markup(home, monkeypatch):
    from repro.publish import book

    folder = home / "[bold]" / "[" / "x]"
    monkeypatch.setattr(book, "build", lambda *given, **more: book.Site(folder, (), {}))
    result = repro("build", "--output", folder)
    assert result.exit_code == 0 and f"The site is at {folder / 'index.html'}" in result.stdout


def test_a_failed_trial_is_named_and_the_exit_status_is_1(home, monkeypatch):

    def broken(model, initial, dataset, trial):
        raise RuntimeError("no such measure")

    monkeypatch.setitem(worker.PROBES, "fit", broken)
    result = repro("run", CLAIM, "--workers", 0)
    assert result.exit_code == 1
    failed = [li for li in result.stderr.splitlines() if li.startswith("failed: ")]
    planned = len(claims.find(claims.get(CLAIM), "smoke", Ledger()).trials)
    assert len(failed) == planned and all(li.endswith("no such measure") for li in failed)
    assert "0 trials trained" in result.stderr and "inconclusive" in result.stdout


def check_claim_json(told):
    claim = claims.get(told["id"])
    assert told["question"] == claim.question and told["rule"] == claim.rule and told["statement"] == claim.statement
    alone = {"none", None}  # what is not run beside the dataset
    expected = {
        (scale, setting["dataset"] if setting.get("other_dataset") in alone else "both")
        for scale, several in claim.settings.items()
        for setting in several
    }
    assert {(f["scale"], f["dataset"]) for f in told["findings"]} == expected
    for finding in told["findings"]:
        assert finding["verdict"] in {"reproduced", "conditional", "not reproduced", "inconclusive"}
        assert finding["reason"] and 0 <= finding["trials"]["finished"] <= finding["trials"]["planned"]
        for effect in finding["effects"]:
            assert {"name", "value", "low", "high", "n"} <= set(effect)
            if None not in (effect["value"], effect["low"], effect["high"]):
                assert effect["low"] <= effect["value"] <= effect["high"]
            assert len(effect["values"]) in (0, effect["n"])  # what is fitted or resampled has no value a seed
        assert {"verdict", "reason", "effects", "parts"} <= set.union(set(finding), *map(set, finding["parts"]))
    assert [p["name"] for p in told["published"]] == [n.name for n in claim.published]
    for number in told["published"]:
        tested = {"met", "missed", "too wide to tell"}
        assert number["outcome"] in {*tested, "not testable here", "not run", "for comparison"}
        assert number["ours"] is not None or number["outcome"] not in tested
        assert {"published", "unit", "low", "high", "n"} <= set(number)
        if number["outcome"] in tested:
            assert number["next_run"]["low"] <= number["low"] <= number["high"] <= number["next_run"]["high"]


def no_constants(name):
    raise AssertionError(f"{name} is not JSON")


@pytest.mark.parametrize("state", ["empty", "trained"])
def test_list_and_show_as_json(request, state):
    request.getfixturevalue("trained" if state == "trained" else "home")
    listed = json.loads(repro("list", "--json").stdout, parse_constant=no_constants)
    assert {c["id"] for c in listed} == set(claims.all_claims())
    for told in listed:
        check_claim_json(told)
    shown = json.loads(repro("show", CLAIM, "--json").stdout, parse_constant=no_constants)
    assert shown == next(c for c in listed if c["id"] == CLAIM)
    smoke = next(f for f in shown["findings"] if f["scale"] == "smoke")
    trials = smoke["trials"]
    if state == "trained":
        assert trials["finished"] == trials["planned"] and len(smoke["effects"]) >= 2
        assert all(e["n"] >= 2 and e["value"] is not None for e in smoke["effects"])
    else:
        assert trials["finished"] == 0 and smoke["verdict"] == "inconclusive"
    assert all(p["outcome"] in {"not testable here", "not run"} for p in shown["published"])


def test_list_and_show_for_people(trained, monkeypatch):
    monkeypatch.setattr(cli.out, "width", 200)
    listed, shown = repro("list"), repro("show", CLAIM)
    assert all(c in listed.stdout for c in claims.all_claims())
    claim = claims.get(CLAIM)
    text = " ".join(shown.stdout.split())
    assert claim.statement in text and claim.rule in text and "not run" in text
    assert all(n.name in text for n in claim.published)


def test_show_tells_the_parts_of_a_verdict_with_their_effects(tmp_path, monkeypatch):
    """Of a claim whose verdict has no effects of its own, as recorded."""
    monkeypatch.setenv("REPRO_CACHE", str(tmp_path))
    monkeypatch.setattr(cli.out, "width", 200)
    told = json.loads(repro("show", "sharp-minima", "--json").stdout)["findings"]
    parts = next(f for f in told if f["scale"] == "paper")["parts"]
    text = " ".join(repro("show", "sharp-minima").stdout.split())
    assert len(parts) == 6 and sum(len(p["effects"]) for p in parts) > 20
    assert all(p["name"] in text and e["name"] in text for p in parts for e in p["effects"])


def test_doctor_without_data(home):
    told = json.loads(repro("doctor", "--json").stdout)
    assert told["scales"] == {"smoke": True, "laptop": True, "paper": False}
    assert told["datasets"]["mnist5k"] == "intact" and told["datasets"]["mnist"] == "absent"
    assert told["data folder"] == str(home / "data") and told["working ledger"].startswith(str(home / "cache"))
    assert told["cores"] >= 1 and "torch" in told["packages"]
    assert list(home.iterdir()) == []


def test_doctor_names_damaged_data(home):
    folder = home / "data" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for file in data.RAW_FILES["mnist"]:
        (folder / file).write_bytes(b"not digits")
    text = " ".join(repro("doctor").stdout.split())
    assert "mnist5k: intact" in text and re.search(r" mnist: mnist: \S+ is damaged", text)
    assert "smoke: True" in text and "paper: False" in text and str(home / "data") in text


def test_progress_follows_a_total_that_grows(monkeypatch):
    """As an audit's does, which trains doubtful trials again."""
    screen = io.StringIO()
    monkeypatch.setattr(terminal, "err", Console(file=screen, force_terminal=True, width=80))
    with terminal.progress_bar("audit") as progress:
        for finished, total in ((0, 2), (2, 2), (2, 6), (6, 6)):
            progress(finished, total)
    assert "6/6" in screen.getvalue() and "/2" not in screen.getvalue().splitlines()[-1]
