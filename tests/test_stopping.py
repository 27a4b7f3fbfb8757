"""`repro build`, stopped: soon, in one line, with nothing left running and the old site in its place."""

import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
from commands import SWEEPS, new_ledger
from signalled import assert_all_gone, living_of, start, wait_until
from test_book import previous_site_stands, write

from repro.publish import book
from repro.runs.provenance import PROJECT

pytestmark = pytest.mark.xdist_group("stopping")
SECONDS = 5 * max(1, os.getloadavg()[0] / (os.cpu_count() or 1))  # that a stop may take, where others want cores too
BUILD = """
import functools, sys
from pathlib import Path
if __name__ == "__main__":
    from dataclasses import replace
    sys.path.insert(0, {tests!r})
    from repro import claims, cli
    from repro.publish import book
    claim = claims.get("generalization-gap")
    if {phase!r} == "training":
        from commands import SWEEPS
        claim = replace(claim, design=lambda settings: [SWEEPS["twenty"]])
    claims.all_claims().clear()
    claims.all_claims()[claim.id] = claim
    book.write_fragments = lambda *given: {{}}  # they are of the whole book
    book.build = functools.partial(book.build, root=Path({root!r}))
    cli.app(["build", "--scale", "smoke", "--workers", "2" if {phase!r} == "training" else "0"])
"""
# What tells that it has begun, and then goes on for ever, with a process of its own.
ENDLESS = """
import pathlib, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path({begun!r}).touch()
time.sleep(600)
"""


@pytest.fixture
def root(tmp_path):
    """A small book whose build does not end by itself, and a site that already stands."""
    shutil.copy(PROJECT / "_config.yml", tmp_path)
    shutil.copytree(PROJECT / "book", tmp_path / "book")
    (tmp_path / "book" / "index.md").write_text("# Home\n")
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/index\nchapters:\n  - file: notebooks/page0\n")
    (tmp_path / "_build" / "site" / "_static").mkdir(parents=True)
    (tmp_path / "_build" / "site" / "index.html").write_text("the previous site")
    (tmp_path / "_build" / "site" / book.OURS).touch()
    return tmp_path


def build(root, phase):
    """`repro build` as far as into this phase, which would not end."""
    begun = root / "begun"
    endless = ENDLESS.format(begun=str(begun))
    for i in range(3 if phase == "notebooks" else 1):  # more than there are processes for
        write(root / "notebooks" / f"page{i}.ipynb", endless if phase == "notebooks" else "1")
    if phase == "sphinx":
        (root / "book" / "endless.py").write_text("def setup(app):\n" + re.sub("^", "    ", endless, flags=re.M))
        config = (root / "_config.yml").read_text()
        assert config.count("  local_extensions:\n") == 1
        (root / "_config.yml").write_text(
            config.replace("  local_extensions:\n", "  local_extensions:\n    endless: book\n")
        )
    script = root / "command.py"
    script.write_text(BUILD.format(tests=str(Path(__file__).parent), phase=phase, root=str(root)))
    process = start(script, env={**os.environ, "REPRO_CACHE": str(root / "cache")})
    if phase == "training":
        ledger, trials = new_ledger(root / "cache"), SWEEPS["twenty"].trials()
        wait_until(lambda: len(ledger.rows(trials)), process)
    else:
        wait_until(begun.exists, process)
    return process


def assert_stops(process, numbers, cache):
    """To these signals, to the process alone or, as a terminal and `timeout` do, to its group."""
    began = time.monotonic()
    for send, number in numbers:
        send(process.pid, number)
    out, err = process.communicate(timeout=60)
    seconds = time.monotonic() - began
    assert_all_gone(cache, seconds=max(SECONDS - seconds, 0))
    assert seconds < SECONDS
    assert process.returncode == 128 + numbers[0][1] and out == "" and "Traceback" not in err, err
    assert re.search(r"^(error: )?stopped(: \d+ of \d+ trials are in the ledger; [\w ]+)?$", err, re.M), err


WAYS = {
    "ctrl-c": [(os.killpg, signal.SIGINT)],
    "ctrl-c twice": [(os.killpg, signal.SIGINT)] * 2,
    "kill": [(os.kill, signal.SIGTERM)],
    "kill the group": [(os.killpg, signal.SIGTERM)],
    "hangup": [(os.killpg, signal.SIGHUP)],
}


@pytest.mark.parametrize(
    ("phase", "how"),
    [
        ("training", "hangup"),
        ("notebooks", "ctrl-c"),
        ("notebooks", "ctrl-c twice"),
        ("notebooks", "kill the group"),
        ("sphinx", "ctrl-c twice"),
        ("sphinx", "kill"),
    ],
)
def test_a_stopped_build_ends_soon_and_leaves_the_site(root, phase, how):
    process = build(root, phase)
    assert_stops(process, WAYS[how], root / "cache")
    assert previous_site_stands(root)


@pytest.mark.parametrize("phase", ["notebooks", "sphinx"])
def test_nothing_outlives_a_build_that_is_killed(root, phase):
    process = build(root, phase)
    assert len(living_of(root / "cache")) >= 4
    process.kill()
    process.communicate()
    assert_all_gone(root / "cache")
    assert previous_site_stands(root)


HANGING = """
import pathlib, subprocess, sys, time
from repro.runs import processes
with processes.stoppable():
    try:
        pathlib.Path(sys.argv[1]).touch()
        time.sleep(600)
    except KeyboardInterrupt:
        subprocess.run([sys.executable, "-c", "import time; time.sleep(600)"])
"""


def test_a_later_stop_waits_for_nothing(tmp_path):
    """Where clearing up hangs."""
    process = start("-c", HANGING, tmp_path / "begun", env={**os.environ, "REPRO_CACHE": str(tmp_path)})
    wait_until((tmp_path / "begun").exists, process)
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.05)
    assert process.returncode == 130 and process.stderr.read() == "\nstopped at once\n"
    assert_all_gone(tmp_path)
