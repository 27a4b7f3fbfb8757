"""Build the site: train what is missing, execute every notebook, strictly, and publish with Jupyter Book.

Everything happens in a stage beside the site; the previous site is replaced only by one that built.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import filelock
import nbformat
import yaml

from repro import claims
from repro.advice.report import RECORD
from repro.claims import Finding
from repro.claims.noise_scale.judgement import record, workloads
from repro.evidence.spec import Scale
from repro.names import ReproError, choose
from repro.publish import records, speed
from repro.publish.landing import Found, found_in, fragments
from repro.runs import runner
from repro.runs.ledger import Ledger
from repro.runs.processes import held, pool
from repro.runs.provenance import PROJECT, need_checkout

STATIC = "src/repro/publish/static"  # the style sheet, where _config.yml names it
OURS = "_static/repro.css"  # what every site of this book holds
CELL_TIMEOUT = 900  # seconds; papermill's own default is forever


class BookError(ReproError):
    """A notebook or site that did not build."""


@dataclass(frozen=True)
class Site:
    """A built site: where it is, what it found here, and the seconds each notebook took."""

    folder: Path
    findings: tuple[Finding, ...]
    seconds: Mapping[str, float]


def notebooks(root: Path = PROJECT) -> list[Path]:
    return sorted(p for p in (root / "notebooks").glob("*.ipynb") if not p.name.startswith("."))


def write_whole(path: Path, text: str) -> None:
    """Write the text beside `path` and put it in its place, so that `path` is never half written."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def execute(source: Path, target: Path, parameters: Mapping[str, Any]) -> float:
    """Run the notebook with `parameters` and write it, with outputs, to `target`; seconds taken.

    Strict where papermill is lenient: a missing parameters cell, an unknown parameter or a failed cell
    raises BookError and leaves `target` as it was.
    """
    import papermill

    name = source.name
    notebook = nbformat.read(source, as_version=4)
    if not any("parameters" in c.metadata.get("tags", []) for c in notebook.cells):
        raise BookError(f"{name}: no cell is tagged 'parameters'; tag the one that sets scale, dataset and seeds")
    known = papermill.inspect_notebook(str(source))
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise BookError(f"{name}: unknown parameter {unknown[0]!r}; its parameters cell sets {', '.join(known)}")
    target.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    try:
        executed = papermill.execute_notebook(
            str(source),
            None,  # it would write after every cell
            dict(parameters),
            progress_bar=False,
            cwd=str(source.parent),
            execution_timeout=CELL_TIMEOUT,
            start_timeout=120,
        )
    except papermill.PapermillExecutionError as error:
        reason = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error.evalue)).split())
        raise BookError(f"{name}: cell {error.exec_count} failed: {error.ename}: {reason[:300]}") from None
    except Exception as error:  # a kernel that dies or hangs: nbclient raises its own kinds
        raise BookError(f"{name}: did not run: {' '.join(str(error).split())[:300]}") from None
    seconds = time.perf_counter() - began
    write_whole(target, nbformat.writes(scrub(executed)) + "\n")
    return seconds


def scrub(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop what differs from run to run or names this machine, papermill's timestamps and paths; and keep the cell of
    parameters that papermill puts in off the page, as the one above it is."""
    for part in (notebook, *notebook.cells):
        part.metadata.pop("papermill", None)
        part.metadata.pop("execution", None)
        if "injected-parameters" in part.metadata.get("tags", []):
            part.metadata["tags"].append("remove-cell")
    return notebook


def _fix_folders() -> None:
    """Make the folders given in the environment absolute: a notebook's kernel runs in a folder of its own."""
    for name in ("REPRO_CACHE", "REPRO_DATA"):
        if os.environ.get(name):
            os.environ[name] = str(Path(os.environ[name]).absolute())


def refresh(say: Callable[[str], None]) -> None:
    """Re-run the committed notebooks at smoke scale, in place, and the generated parts of the pages."""
    need_checkout("refreshing the notebooks")
    _fix_folders()
    with _elsewhere(1) as submit:
        for path in notebooks():
            seconds = submit(execute, path, path, {}).result()
            say(f"{path.name}: {seconds:.1f} s")
    write_fragments(PROJECT / "book" / "_generated", Ledger())
    if measured := adviser_record(Ledger()):
        write_whole(RECORD, json.dumps(measured, indent=1, ensure_ascii=False) + "\n")


def adviser_record(ledger: Ledger) -> dict[str, list[float]]:
    """What `repro.advise` knows of its own error: by workload, the recorded noise scale and critical batch size."""
    found: dict[str, list[float]] = {}
    for finding in claims.findings(claims.get("noise-scale"), Scale.PAPER, ledger):
        found |= record(workloads(finding.table)) if finding.whole else {}
    return found


@contextlib.contextmanager
def _elsewhere(workers: int) -> Iterator[Callable[..., Future[Any]]]:
    """Run functions in other processes, which end with the block, and with this one, and take kernels and all else
    that they have started along. BookError if one dies."""
    with pool(workers) as executor:

        def submit(function: Callable[..., Any], *given: Any) -> Future[Any]:
            with held():
                return executor.submit(function, *given)

        try:
            yield submit
        except BrokenProcessPool:
            raise BookError("a process that ran notebooks was killed; free some memory, then build again") from None


def write_fragments(
    folder: Path, ledger: Ledger, scale: Scale = Scale.PAPER, seconds: Mapping[str, float] = MappingProxyType({})
) -> Found:
    """Write the generated parts of the pages, and return what they tell: what is recorded; and, in a book that is
    built, what was trained at its `scale`, and the seconds that its notebooks took."""
    folder.mkdir(parents=True, exist_ok=True)
    found = found_in(ledger, scale)
    told = {"speed.md": speed.fragment(), "records.md": records.fragment(ledger.recorded)}
    for name, text in {**fragments(found, seconds), **told}.items():
        write_whole(folder / name, text)
    return found


def _configure(stage: Path, repository: str | None) -> None:
    """Launch, edit and download links only where a repository is given: no invented addresses."""
    if not repository:
        return
    if not re.fullmatch(r"https://\w[\w-]*(\.\w[\w-]*)+(/[.-]*\w[\w.-]*){2}", repository, re.ASCII):
        raise BookError(f"repository {repository!r}: must look like https://github.com/OWNER/NAME")
    path = stage / "_config.yml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["repository"] = {"url": repository, "branch": "main"}
    config["html"] |= {"use_repository_button": True, "use_edit_page_button": True, "use_issues_button": True}
    config["launch_buttons"] = {"colab_url": "https://colab.research.google.com"}
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def _sphinx(stage: Path) -> Path:
    """Run Jupyter Book over the stage, warnings as errors; the folder of pages it made."""
    command = [str(Path(sys.executable).parent / "jupyter-book"), "build", "-W", "-n", "--keep-going", str(stage)]
    done = subprocess.run(command, capture_output=True, text=True)
    pages = stage / "_build" / "html"
    if done.returncode != 0 or not (pages / "index.html").is_file():
        told = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr).splitlines()
        faults = [line for line in told if re.search(r"WARNING|ERROR|rror:", line)] or told[-5:]
        raise BookError("Jupyter Book: " + " | ".join(f.replace(str(stage) + "/", "") for f in faults[:8]))
    return pages


def _site_folder(output: Path, stage: Path) -> Path:
    """Where the site goes, absolute: a folder that is not there yet, is empty, or holds a site of this book.
    BookError for anything else, which is not touched."""
    site = output.parent.resolve() / output.name if output.name not in ("", "..") else output.resolve()
    what = ""
    try:
        if site.is_symlink():
            what = "is a link; give the folder that it leads to"
        elif os.path.ismount(site):
            what = "is a mount point, which cannot be replaced; give a folder in it"
        elif os.path.lexists(site) and not site.is_dir():
            what = "is no folder; give a new or an empty one"
        elif stage.is_relative_to(site) or site.is_relative_to(stage):
            what = f"is where sites are made, or holds it; give another folder, such as {stage.parent / 'site'}"
        elif site.is_dir() and any(site.iterdir()) and not (site / OURS).is_file():
            what = "holds something that is no site of this book; give a new or an empty folder"
        else:
            site.parent.mkdir(parents=True, exist_ok=True)
            if not os.access(site.parent, os.W_OK):
                what = "cannot be written; give a new or an empty folder elsewhere"
    except OSError as error:
        what = f"cannot be written ({error.strerror}); give a new or an empty folder elsewhere"
    if what:
        raise BookError(f"output {output}: {what}")
    return site


def _recover(site: Path) -> None:
    """Put the old site back where a build was killed while it exchanged the two."""
    _, old = _beside(site)
    if old.is_dir() and not site.exists():
        old.rename(site)


def _beside(site: Path) -> tuple[Path, Path]:
    """Where the new site is copied to, and where the old one makes room for it."""
    return site.with_name(f".{site.name}.repro-new"), site.with_name(f".{site.name}.repro-old")


def _replace(site: Path, pages: Path) -> None:
    """Put `pages` where `site` is: beside it first, where another file system may fill up; then the old site makes room
    for the new one. BookError, and the old site as it was, where that cannot be."""
    new, old = _beside(site)
    try:
        try:
            shutil.rmtree(new, ignore_errors=True)
            shutil.copytree(pages, new)
            with held():
                shutil.rmtree(old, ignore_errors=True)
                if site.exists():
                    site.rename(old)
                new.rename(site)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    except (OSError, shutil.Error) as error:
        _recover(site)
        faults = error.args[0] if isinstance(error, shutil.Error) else [("", "", error.strerror or error)]
        raise BookError(
            f"output {site}: the new site cannot be written there ({str(faults[0][2])[:120]}); free some space, or "
            "give another folder"
        ) from None
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _alone(stage: Path) -> Iterator[None]:
    """Hold the stage for one build at a time."""
    try:
        stage.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(stage.with_suffix(".lock"), timeout=0):
            yield
    except filelock.Timeout:
        raise BookError(f"another build is at work in {stage.parent}; wait for it to end, then build again") from None


def build(
    scale: str,
    *,
    root: Path = PROJECT,
    output: Path | None = None,
    repository: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    workers: int | None = None,
    progress: runner.Progress = lambda finished, total: None,
    say: Callable[[str], None] = lambda line: None,
) -> Site:
    """Build the whole site at `scale` into `output` (default _build/site). All missing trials of all claims
    train in one sweep; the notebooks then find their rows. Raises BookError and leaves the old site alone."""
    choose("scale", scale, tuple(Scale))
    scale = Scale(scale)
    if root == PROJECT:
        need_checkout("building the book")
    stage = root.resolve() / "_build" / "stage"
    output = _site_folder(output or stage.with_name("site"), stage)
    _fix_folders()
    with _alone(stage):
        _recover(output)
        ledger = Ledger()
        shutil.rmtree(stage, ignore_errors=True)
        shutil.copytree(root / "book", stage / "book")
        shutil.copytree(Path(__file__).parent / "static", stage / STATIC)
        if (root / "results").is_dir():  # to download
            shutil.copytree(root / "results", stage / "results", ignore=shutil.ignore_patterns("*.lock"))
        for name in ("_config.yml", "_toc.yml"):
            shutil.copy(root / name, stage / name)
        _configure(stage, repository)

        if scale != Scale.PAPER:
            plan = {c.id: claims.find(c, scale, ledger).trials for c in claims.all_claims().values()}
            report = runner.run(plan, ledger, workers=workers, progress=progress)
            say(f"{report.trained} trials trained, {report.found} found, in {report.seconds:.0f} s")
            if report.failed:
                raise BookError(f"{len(report.failed)} trials failed, the first: {report.failed[0]}")

        sources = notebooks(root)
        values = {"scale": str(scale), **(parameters or {})}
        with _elsewhere(runner.num_cores()) as submit:
            jobs = {p.stem: submit(execute, p, stage / "notebooks" / p.name, values) for p in sources}
            seconds = {name: job.result() for name, job in jobs.items()}
            say(f"{len(sources)} notebooks executed in {sum(seconds.values()):.0f} s")
            found = write_fragments(stage / "book" / "_generated", ledger, scale, seconds)
            pages = submit(_sphinx, stage).result()
        _replace(output, pages)
        return Site(output, tuple(f for of_claim in found.values() for f in of_claim), seconds)
