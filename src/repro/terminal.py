"""What every command does with a terminal: styles, progress, streams that close, and errors in one line."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from repro.names import ReproError
from repro.runs import processes

out = Console()
err = Console(stderr=True, soft_wrap=True)

OUTCOME_STYLES = {"reproduced": "green", "conditional": "yellow", "not reproduced": "red", "inconclusive": "dim"}


class Program(typer.Typer):
    """What the terminal's encoding lacks is printed as "?", in help too."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")
        return super().__call__(*args, **kwargs)


# What a full or closed disk, a path too long, a quota or a limit give.
MENDABLE = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO),
    *(errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP),
}


@contextlib.contextmanager
def flushed() -> Iterator[None]:
    """What was printed is out at the end of the block, or the block raises OSError."""
    try:
        yield
    finally:
        try:
            sys.stdout.flush()
        except OSError:
            with contextlib.suppress(OSError):  # what is still in the buffer goes nowhere, without a word at the end
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise


def one_line_errors(command: Callable[..., None]) -> Callable[..., None]:
    """What the user can mend is one line on stderr and exit status 1; Ctrl-C is one line and 130,
    SIGTERM 143, SIGHUP 129."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            with processes.stoppable(), flushed():
                command(*args, **kwargs)
        except ReproError as error:
            err.print(f"[bold red]error:[/] {escape(str(error))}", highlight=False)
            raise typer.Exit(error.exit_status) from None
        except OSError as error:
            if error.errno not in MENDABLE and not isinstance(error, shutil.Error):
                raise
            what = " ".join(str(error.filename or "").split()) or "what was to be printed or copied"
            why = " ".join((error.strerror or str(error)).split())[:200]
            hint = "free some space, or give another place (REPRO_CACHE, --output)"
            err.print(f"[bold red]error:[/] cannot write {escape(what)} ({escape(why)}); {hint}", highlight=False)
            raise typer.Exit(1) from None
        except KeyboardInterrupt as stop:
            err.print("stopped")
            raise typer.Exit(processes.exit_status(stop)) from None

    return wrapped


def styled(verdict: Any) -> str:
    return f"[{OUTCOME_STYLES[verdict.outcome]}]{verdict.outcome}[/]. {escape(verdict.reason)}"


def say(line: str) -> None:
    err.print(line, markup=False, highlight=False)


@contextlib.contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, given (finished, total) as trials finish; nothing where there is nothing to do."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=err)

    def advance(finished: int, total: int) -> None:
        if not bar.tasks and finished < total:
            bar.start()
            bar.add_task(what, total=total)
        for task in bar.task_ids:
            bar.update(task, completed=finished, total=total)

    try:
        yield advance
    finally:
        if bar.tasks:
            bar.stop()


def duration(seconds: float) -> str:
    """For a reader: 40 s, 12 min, 3.4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
