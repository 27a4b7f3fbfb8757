"""Signals that stop a program, and processes that do not outlive the one that started them."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import forkserver, resource_tracker
from multiprocessing.process import BaseProcess
from types import FrameType

import psutil

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AGAIN_SECONDS = 1.0  # what sends a signal to a process may send it to its group, too: that is one wish


# How workers start: from a server, where the system has that, which has imported all they need, once.
START = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def prepare(*modules: str) -> None:
    """Start the server that workers are forked from, if it does not run yet, with these modules imported. It ends with
    this process; its environment stays as it is now."""
    if START == "forkserver":
        multiprocessing.get_context(START).set_forkserver_preload([*modules])
        forkserver.ensure_running()


class Stopped(KeyboardInterrupt):
    """SIGINT, SIGTERM or SIGHUP: where Ctrl-C is heeded, so are they."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def exit_status(error: BaseException) -> int:
    """Of a program that ends so: as shells have it, 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP; else 1."""
    if not isinstance(error, KeyboardInterrupt):
        return 1
    return 128 + (error.number if isinstance(error, Stopped) else signal.SIGINT)


class _Stop:
    """The handler: the first signal raises Stopped, a later one ends this process and all it has started."""

    def __init__(self) -> None:
        self.since: float | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.since is None:
            self.since = now
            raise Stopped(number)
        if now - self.since > AGAIN_SECONDS:
            end_children()
            show_cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # a progress bar hides it
            os.write(2, f"{show_cursor}\nstopped at once\n".encode())
            os._exit(128 + number)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """In the block, SIGINT, SIGTERM and SIGHUP raise Stopped, once; whoever sends another, then or until this process
    ends, is not made to wait. One that it was started to ignore, as shells start jobs in the background and nohup all,
    stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stop = _Stop()
    before = {n: signal.signal(n, stop) for n in STOPPING if signal.getsignal(n) != signal.SIG_IGN}
    try:
        yield
    finally:
        if stop.since is None:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def held(cut_short: Callable[[], object] = lambda: None) -> Iterator[None]:
    """What would stop the block waits for its end, which `cut_short` may hasten. Threads and processes started in it
    never see an interrupt or a hangup: the terminal sends them to all, and the parent ends its children itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        cut_short()

    before = {int(n): signal.getsignal(n) for n in STOPPING}
    heeded = {n: handler for n, handler in before.items() if callable(handler)}  # not those ignored, or deadly
    for number in heeded:
        signal.signal(number, hold)
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])  # inherited by what is started
    try:
        resource_tracker.ensure_running()  # it lifts the mask of SIGINT in the thread that starts the first worker
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)
        for number, handler in heeded.items():
            signal.signal(number, handler)
        if caught:
            heeded[caught[0]](caught[0], None)


def end(process: psutil.Process) -> None:
    """Kill the process and all it has started. It stands still meanwhile, so that none is started unseen."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.suspend()
        for child in process.children():
            end(child)
        process.kill()


def end_children() -> None:
    """Kill all that this process has started, but for what clears up after it."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if not any("resource_tracker" in word for word in child.cmdline()):
                end(child)


def end_workers(but: Collection[BaseProcess]) -> None:
    """Kill the processes that multiprocessing has started for this one, `but` these, and what they have started."""
    for process in multiprocessing.active_children():
        if process not in but:
            with contextlib.suppress(psutil.NoSuchProcess):
                end(psutil.Process(process.pid))


def _follow_parent() -> None:
    """End this process, and all it has started, with its parent or at SIGTERM. Ctrl-C is the parent's to heed."""

    def leave(*signalled: object) -> None:
        end_children()
        os._exit(1)

    def watch() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        multiprocessing.connection.wait([parent.sentinel])
        leave()

    # handlers, for children would inherit that a signal is ignored
    signal.signal(signal.SIGINT, lambda number, frame: None)
    signal.signal(signal.SIGHUP, lambda number, frame: None)
    signal.signal(signal.SIGTERM, leave)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT, signal.SIGHUP])
    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that end with the block, however it ends, or with this process, and all they have started with them.
    Their jobs are to be submitted in `held()`."""
    others = multiprocessing.active_children()
    executor = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _follow_parent)
    try:
        yield executor
    finally:
        with held():
            end_workers(others)
            executor.shutdown(cancel_futures=True)
