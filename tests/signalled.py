"""Real processes to which tests send real signals, whatever this one was started to ignore."""

import contextlib
import subprocess
import sys
import time

import psutil

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
# A background job of a script's shell ignores SIGINT, and so does all that it starts: pytest, and what that starts.
LAUNCHER = f"""
import os, signal, sys
for name in {SIGNALS}:
    signal.signal(getattr(signal, name), signal.SIG_IGN if name in sys.argv[1] else signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


def start(*command, ignores="", **given):
    """Python with this command line, in a process group of its own, which heeds all signals but those it `ignores`."""
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, ignores, *map(str, command)],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True, **given},
    )


def wait_until(true, process=None, seconds=120):
    """Return as soon as this is true, while the process runs."""
    deadline = time.monotonic() + seconds
    while not true():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def workers_of(process):
    """The workers that a psutil.Process has now: forked from a server, whose command line they keep."""
    found = []
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # one that has ended since, or a zombie
            told = [" ".join(p.cmdline()) for p in (child, child.parent())]
            found += [child] if all("multiprocessing.forkserver" in words for words in told) else []
    return found


def living_of(cache):
    """Every process, of whatever session, that has this cache folder in its environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("REPRO_CACHE") == str(cache) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            pass
    return found


def assert_all_gone(cache, seconds=5):
    """Nothing that was started with this cache folder lives on; what does is killed, and the test fails."""
    _, alive = psutil.wait_procs(living_of(cache), timeout=seconds)
    told = [" ".join(p.cmdline())[:200] for p in alive if p.is_running()]
    for process in alive:
        process.kill()
    assert not told
