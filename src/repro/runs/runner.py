"""Run the trials that a ledger lacks, on Dask distributed: here, one single-threaded worker a core, or on a cluster."""

from __future__ import annotations

import collections
import contextlib
import math
import os
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Client

from repro.names import ReproError
from repro.runs.cluster import RunError, Say, awaits_workers, connect, local_cluster
from repro.runs.ledger import Ledger, Rows, failed_rows
from repro.runs.processes import exit_status
from repro.training import shapes
from repro.trial import ENGINE_VERSION, Trial

# Work that takes less than this takes less than starting workers. A core's time for a step, and its rate, roughly.
IN_PROCESS_SECONDS = 8.0
STEP_SECONDS, FLOPS = 4e-4, 5e10
MAX_WORKERS_A_CORE = 4
POLL_SECONDS = 0.05
QUIET_SECONDS = 30  # without a result, after which a cluster is asked whether it has workers left

Progress = Callable[[int, int], None]  # (trials finished, trials in all)


@dataclass(frozen=True)
class Result:
    """A trial that has ended: its ledger rows, or the reason why there are none."""

    trial: Trial
    rows: Rows
    failure: str = ""

    def __str__(self) -> str:
        t = self.trial
        return f"{t.model} B={t.batch_size} lr={t.lr:g} seed={t.init_seed} ({t.key}): {self.failure}"


Batches = Generator[list[Result]]  # what ended together


@dataclass(frozen=True)
class Report:
    """What a run did. `trained` trials are now in the ledger; `failed` names those that raised, and why."""

    trained: int
    found: int
    failed: tuple[str, ...]
    seconds: float


def run_stack(stack: list[Trial], engine_version: int = ENGINE_VERSION) -> list[Rows]:
    """The ledger rows of the trials of one stack, trained in the process that this is called in."""
    if engine_version != ENGINE_VERSION:
        raise RunError(
            f"this worker's repro has engine version {ENGINE_VERSION}, the sweep needs {engine_version}; install "
            "the sweep's version there and restart the worker"
        )
    from repro.runs import worker  # which loads torch

    return worker.train(stack)


def num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def stacks(trials: Iterable[Trial], workers: int) -> list[list[Trial]]:
    """The trials in stacks, no larger than a worker's share of those alike. Whole seeds come first, so that a
    half-finished sweep holds whole comparisons, and neighbours in lr share a stack, for they diverge together."""
    groups: dict[Trial, list[Trial]] = {}
    for trial in sorted(trials, key=lambda t: (t.init_seed, t.lr)):
        groups.setdefault(shapes.stack_key(trial), []).append(trial)
    out = []
    for alike in groups.values():
        size = min(shapes.max_stack(alike[0]), math.ceil(len(alike) / max(workers, 1)))
        out += [alike[i : i + size] for i in range(0, len(alike), size)]
    return sorted(out, key=lambda stack: (stack[0].init_seed, stack[0].num_samples))


def run(
    plan: Mapping[str, Iterable[Trial]],
    ledger: Ledger,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    record: bool = False,
    progress: Progress = lambda finished, total: None,
    say: Say = lambda line: None,
) -> Report:
    """Train what the ledger lacks of `plan`, claim id -> trials, and append to the claim's file as they finish.

    `workers` processes share the trials; 0 trains in this process. The default is one a core, or this
    process where starting others would take longer than the work. `scheduler` is the address of a Dask
    scheduler whose workers do it instead. The numbers are the same either way. An interrupt keeps every finished trial.
    """
    began = time.perf_counter()
    owner = {t.key: claim for claim, trials in reversed(list(plan.items())) for t in trials}
    wanted = list({t.key: t for trials in plan.values() for t in trials}.values())
    missing = ledger.missing(wanted)
    for claim in dict.fromkeys(owner[t.key] for t in missing):
        ledger.append(claim, [], record)  # a ledger that cannot be written is found before, not after, the work
    failed: list[str] = []
    finished = len(wanted) - len(missing)
    progress(finished, len(wanted))
    results = train(missing, workers, scheduler, say)
    try:
        for batch in results:
            rows: dict[str, Rows] = {}
            for result in batch:
                claim = owner[result.trial.key]
                if result.failure:
                    failed.append(str(result))
                    ledger.append(claim, failed_rows(result.trial, result.failure))  # never among the recorded
                else:
                    rows.setdefault(claim, []).extend(result.rows)
            for claim, new in rows.items():
                ledger.append(claim, new, record)
            finished += len(batch)
            progress(finished, len(wanted))
    except (KeyboardInterrupt, ConnectionError) as stop:
        kept = len(wanted) - len(ledger.missing(wanted))
        what = "stopped" if isinstance(stop, KeyboardInterrupt) else stop
        raise RunError(
            f"{what}: {kept} of {len(wanted)} trials are in the ledger; the same command goes on from there",
            exit_status=exit_status(stop),
        ) from None
    finally:
        results.close()
    return Report(
        trained=len(missing) - len(failed),
        found=len(wanted) - len(missing),
        failed=tuple(failed),
        seconds=time.perf_counter() - began,
    )


def choose_workers(trials: Iterable[Trial], workers: int | None) -> int:
    """`workers`, or by default one a core, or 0, this process, where starting others would take longer. RunError for
    more than would find a core to wait for."""
    most = MAX_WORKERS_A_CORE * num_cores()
    if workers is not None:
        if not 0 <= workers <= most:
            raise RunError(f"workers {workers}: must be a number from 0 to {most}, {MAX_WORKERS_A_CORE} a core")
        return workers
    seconds = [t.num_steps * STEP_SECONDS + 6 * shapes.multiply_adds(t) * t.num_samples / FLOPS for t in trials]
    return 0 if sum(seconds) <= IN_PROCESS_SECONDS else min(num_cores(), len(seconds))


def train(
    trials: list[Trial], workers: int | None = None, scheduler: str | None = None, say: Say = lambda line: None
) -> Batches:
    """Train all `trials`, yielding results as they come. A stack that fails is tried again trial by trial,
    so that only the one at fault is lost. What the user must mend, such as absent data, ends it."""
    workers = choose_workers(trials, workers)
    if not trials:
        return
    if scheduler is not None:
        yield from _on_cluster(trials, connect(scheduler, say), say)
        return
    from repro.training import data

    for dataset in {t.dataset for t in trials}:  # absent or damaged data is one error here, not one a worker
        data.load(dataset)
    if workers:
        yield from _on_cluster(trials, local_cluster(workers), say)
        return
    waiting = collections.deque(stacks(trials, 1))
    while waiting:
        stack = waiting.popleft()
        try:
            yield [Result(t, rows) for t, rows in zip(stack, run_stack(stack), strict=True)]
        except ReproError:
            raise
        except Exception as error:
            again, failed = _after_failure(stack, error)
            waiting.extendleft(reversed(again))
            yield failed


def _after_failure(stack: list[Trial], error: BaseException) -> tuple[list[list[Trial]], list[Result]]:
    """(stacks to try again, results)"""
    if len(stack) > 1:
        return [[t] for t in stack], []
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return [], [Result(stack[0], [], reason)]


def _blame_fairly(dask_scheduler: Any) -> None:
    """Runs on the scheduler. A worker gets its next task when it has finished the last, so a dead worker
    took one with it; a task that did so twice is given up."""
    dask_scheduler.WORKER_SATURATION = 1.0
    dask_scheduler.allowed_failures = 1


def _on_cluster(trials: list[Trial], connection: contextlib.AbstractContextManager[Client], say: Say) -> Batches:
    from distributed import KilledWorker, as_completed

    with connection as client:
        address = client.scheduler_info()["address"]
        try:
            client.run_on_scheduler(_blame_fairly)
        except ImportError as absent:
            raise RunError(f"the scheduler at {address} cannot import this package ({absent}); install it") from None
        say(f"dashboard: {client.dashboard_link}")
        num_workers = client.scheduler_info()["n_workers"]
        futures: dict[Any, list[Trial]] = {}

        def submit(stack: list[Trial]) -> Any:
            key = f"stack-{stack[0].key}{len(stack)}"
            future = client.submit(run_stack, stack, ENGINE_VERSION, key=key, priority=-len(futures), pure=False)
            futures[future] = stack
            return future

        completed = as_completed(
            [submit(s) for s in stacks(trials, num_workers)], with_results=True, raise_errors=False
        )
        heard, told = time.monotonic(), False
        while futures:
            batch = completed.next_batch(block=False)
            if not batch:
                time.sleep(POLL_SECONDS)
                if not told and time.monotonic() - heard > QUIET_SECONDS:
                    heard, told = time.monotonic(), awaits_workers(client, address, say)
                continue
            heard, told = time.monotonic(), False
            out: list[Result] = []
            for future, result in batch:
                stack = futures.pop(future)
                error = future.exception() if future.status == "error" else None
                if future.status == "finished":
                    out += [Result(t, rows) for t, rows in zip(stack, result, strict=True)]
                elif error is None and client.status == "running":
                    completed.update([submit(stack)])  # the worker died before it could hand the result over
                elif error is None or isinstance(error, ReproError):
                    yield out
                    raise error or ConnectionError(f"lost the scheduler at {address}")
                else:
                    if isinstance(error, KilledWorker):
                        error = RuntimeError("the worker process died, twice")
                    again, failed = _after_failure(stack, error)
                    completed.update([submit(s) for s in again])
                    out += failed
                future.release()
            began = time.perf_counter()
            yield out
            if futures:  # results gather meanwhile, so that writing them down takes a quarter of the time at most
                time.sleep(min(3 * (time.perf_counter() - began), 1))
