"""Dask's workers: on this machine, where nobody else can speak to them, or those of a scheduler that runs already."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import multiprocessing
import os
import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Client

from repro.names import ReproError
from repro.runs import processes
from repro.runs.processes import end_workers, held

CONNECT_SECONDS = 8
# What a cluster needs, with room: at most 44 were open with two workers, 103 with eight.
OPEN_FILES, OPEN_FILES_A_WORKER = 80, 16

Say = Callable[[str], None]


class RunError(ReproError):
    """A sweep that stopped before its end."""

    def __init__(self, text: str, exit_status: int = 1) -> None:
        super().__init__(text)
        self.exit_status = exit_status


def _hush() -> None:
    """Have Dask's own log say nothing. It sets levels of its own for some of its loggers when it is imported. A result
    that is on its way when a scheduler dies, tornado's tells with a traceback."""
    for name in ("distributed", "distributed.client", "distributed.core", "distributed.batched"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.getLogger("tornado.application").addFilter(_is_not_of_a_lost_connection)


def _is_not_of_a_lost_connection(record: logging.LogRecord) -> bool:
    from distributed.comm import CommClosedError

    return not (record.exc_info and isinstance(record.exc_info[1], CommClosedError))


def _allow_open_files(workers: int) -> None:
    """Let this process open as many files as the workers' connections take; RunError where the system forbids it.
    Short of them, Dask would fail anywhere, and clearing up too."""
    needed = OPEN_FILES + OPEN_FILES_A_WORKER * workers
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < needed:
        if hard != unlimited and hard < needed:
            raise RunError(
                f"{workers} workers need {needed} open files, and {hard} are allowed; raise the limit (ulimit -n), or "
                "train in this process: --workers 0"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


@contextlib.contextmanager
def local_cluster(workers: int) -> Iterator[Client]:
    """A client of `workers` single-threaded processes on this machine, which no other user of it can speak to: they
    listen on loopback alone, and to those who hold this cluster's key. A block that fails does not wait for them."""
    import dask
    from distributed import Client, LocalCluster
    from distributed.security import Security

    _allow_open_files(workers)
    _hush()  # workers that are killed break connections, which it would tell
    stack = contextlib.ExitStack()
    cut_short = functools.partial(end_workers, multiprocessing.active_children())
    settings = {
        "distributed.worker.daemon": True,
        "distributed.worker.multiprocessing-method": processes.START,
        "distributed.worker.profile.enabled": False,
        "distributed.admin.low-level-log-length": 100,  # it would grow to 100,000 entries
    }
    try:
        with held(cut_short), dask.config.set(settings):
            # memory_limit 0: the trials' size is known and small; Dask's spilling and pausing only get in the way
            try:
                processes.prepare("repro.runs.runner")
                cluster = LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    memory_limit=0,
                    host="127.0.0.1",
                    protocol="tls://",
                    security=Security.temporary(),
                    dashboard_address="127.0.0.1:0",
                    worker_dashboard_address="127.0.0.1:0",
                    silence_logs=logging.CRITICAL,
                    env={name: value for name, value in os.environ.items() if name.startswith("REPRO_")},
                )
                client = stack.enter_context(Client(stack.enter_context(cluster)))
            except Exception as error:  # of its own kinds, whatever was short
                why = " ".join(str(error).split())[:80].rstrip(".") or type(error).__name__
                raise RunError(
                    f"{workers} workers cannot be started ({why}); allow more processes (ulimit -u), free some memory, "
                    "or train in this process: --workers 0"
                ) from None
        yield client
    except BaseException:
        cut_short()
        raise
    finally:
        with contextlib.suppress(KeyboardInterrupt), held(cut_short):
            stack.close()


async def _ask(address: str) -> None:
    """Raise unless a scheduler answers at this address soon: Dask's client would wait for a silent one for ever."""
    from distributed import rpc
    from distributed.security import Security

    keys = Security().get_connection_args("client")  # as Dask's own configuration names them
    async with asyncio.timeout(CONNECT_SECONDS), rpc(address, timeout=CONNECT_SECONDS, connection_args=keys) as there:
        who = (await there.identity())["type"]
    if who != "Scheduler":
        raise ValueError(f"it is a {who}")


@contextlib.contextmanager
def connect(scheduler: str, say: Say) -> Iterator[Client]:
    """A client of the Dask scheduler at this address."""
    from distributed import Client

    _hush()  # a lost scheduler is told in one line, by us
    try:
        with ThreadPoolExecutor(1) as thread:  # in a notebook, this one's loop runs already
            thread.submit(asyncio.run, _ask(scheduler)).result()
        client = Client(scheduler, timeout=CONNECT_SECONDS)
    except Exception as error:  # whatever there is instead makes Dask raise a dozen kinds
        why = " ".join(str(error).split())[:80] or type(error).__name__
        raise RunError(
            f"no Dask scheduler answers at {scheduler!r} ({why}); start one with 'dask "
            "scheduler' and give its address, such as tcp://host:8786"
        ) from None
    try:
        awaits_workers(client, scheduler, say)
        yield client
    finally:
        with contextlib.suppress(Exception):  # a lost scheduler cannot be taken leave of
            client.close(timeout=5)


def awaits_workers(client: Client, address: str, say: Say) -> bool:
    """Whether there are none, which is said."""
    if client.scheduler_info()["n_workers"]:  # "workers" may be empty: the client's own beat asks for none of them
        return False
    say(f"waiting for workers: start some with 'dask worker {address} --nthreads 1'")
    return True
