"""Run the trials that a ledger lacks, on Dask distributed: one single-threaded worker a core."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Client

from repro import data, engine, measure
from repro.ledger import Ledger, Rows, machine, make_rows
from repro.trial import ReproError, Trial

PROBES: dict[str, engine.Probe] = {"fit": measure.fit, "travel": measure.travel}

# Fewer examples to train on than this take less time than starting workers.
IN_PROCESS_SAMPLES = 150_000

# What finished together: a trial's rows, or the line that says why it failed.
Batches = Generator[list[Rows | str]]
Progress = Callable[[int, int], None]  # (trials finished, trials in all)


class RunError(ReproError):
    """A sweep that stopped before its end."""

    exit_status = 130  # as of any program stopped by Ctrl-C


@dataclass(frozen=True)
class Report:
    """What a run did. `trained` trials are now in the ledger; `failed` names those that raised, and why."""

    trained: int
    found: int
    failed: tuple[str, ...]
    seconds: float


def run_trial(trial: Trial) -> Rows:
    """Train one trial and return its ledger rows. A pure function of the trial, but for its provenance."""
    machine()
    dataset = data.load(trial.dataset, trial.preprocessing, trial.train_size, trial.evaluate_on)
    began = time.perf_counter()
    outcome = engine.train(trial, dataset, [PROBES[name] for name in trial.probes])
    return make_rows(trial, outcome, time.perf_counter() - began)


def num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(
    plan: Mapping[str, Iterable[Trial]],
    ledger: Ledger,
    *,
    workers: int | None = None,
    record: bool = False,
    progress: Progress = lambda finished, total: None,
) -> Report:
    """Train what the ledger lacks of `plan`, claim id -> trials, and append to the claim's file as they finish.

    `workers` processes share the trials; 0 trains in this process. The default is one a core, or this
    process where starting others would take longer than the work. The numbers are the same either way.
    Whole seeds come first, so that a half-finished sweep holds whole comparisons. An interrupt keeps every
    finished trial.
    """
    began = time.perf_counter()
    owner = {t.key: claim for claim, trials in reversed(list(plan.items())) for t in trials}
    wanted = list({t.key: t for trials in plan.values() for t in trials}.values())
    missing = sorted(ledger.missing(wanted), key=lambda t: (t.init_seed, t.num_samples))
    if workers is None:
        small = sum(t.num_samples for t in missing) <= IN_PROCESS_SAMPLES
        workers = 0 if small else min(num_cores(), len(missing))
    for dataset in {t.dataset for t in missing}:  # absent or damaged data is one error here, not one a worker
        data.load(dataset)
    for claim in dict.fromkeys(owner[t.key] for t in missing):
        ledger.append(claim, [], record)  # a ledger that cannot be written is found before, not after, the work
    failed: list[str] = []
    finished = len(wanted) - len(missing)
    progress(finished, len(wanted))
    results = _here(missing) if workers == 0 else _on_cluster(missing, workers)
    try:
        for batch in results:
            rows: dict[str, Rows] = {}
            for result in batch:
                if isinstance(result, str):
                    failed.append(result)
                else:
                    rows.setdefault(owner[result[0]["key"]], []).extend(result)
            for claim, new in rows.items():
                ledger.append(claim, new, record)
            finished += len(batch)
            progress(finished, len(wanted))
    except KeyboardInterrupt:
        kept = len(wanted) - len(ledger.missing(wanted))
        raise RunError(
            f"stopped: {kept} of {len(wanted)} trials are in the ledger; the same command goes on from there"
        ) from None
    finally:
        results.close()
    return Report(
        trained=len(missing) - len(failed),
        found=len(wanted) - len(missing),
        failed=tuple(failed),
        seconds=time.perf_counter() - began,
    )


def _name(trial: Trial, error: BaseException) -> str:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return f"{trial.model} B={trial.batch_size} lr={trial.lr:g} seed={trial.init_seed} ({trial.key}): {reason}"


def _here(trials: list[Trial]) -> Batches:
    for trial in trials:
        try:
            yield [run_trial(trial)]
        except Exception as error:
            yield [_name(trial, error)]


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits for the end of the block. Threads and processes started in it never see one: the terminal
    sends it to all, and the parent ends its workers itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    resource_tracker.ensure_running()  # it would lift the mask in the thread that starts the first worker
    held: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: held.append(number))
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # inherited by what is started
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        signal.signal(signal.SIGINT, before)
    if held:
        raise KeyboardInterrupt


@contextlib.contextmanager
def _cluster(workers: int) -> Iterator[Client]:
    import dask
    from distributed import Client, LocalCluster

    stack = contextlib.ExitStack()
    try:
        with _interrupts_held(), dask.config.set({"distributed.worker.daemon": True}):
            # memory_limit 0: the trials' size is known and small; Dask's spilling and pausing only get in the way
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=0,
                dashboard_address=":0",
                silence_logs=logging.CRITICAL,
            )
            client = stack.enter_context(Client(stack.enter_context(cluster)))
        yield client
    finally:
        with contextlib.suppress(KeyboardInterrupt), _interrupts_held():
            stack.close()


def _on_cluster(trials: list[Trial], workers: int) -> Batches:
    if not trials:
        return
    from distributed import as_completed

    with _cluster(workers) as client:
        futures = {}
        for i, trial in enumerate(trials):
            future = client.submit(run_trial, trial, key=f"trial-{trial.key}", priority=-i, pure=False)
            futures[future] = trial
        for batch in as_completed(list(futures), with_results=True, raise_errors=False).batches():
            out: list[Rows | str] = []
            for future, result in batch:
                trial = futures.pop(future)
                if future.status == "finished":
                    out.append(result)
                else:
                    out.append(_name(trial, future.exception()))
                future.release()
            yield out
