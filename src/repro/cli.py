"""`repro`: run the trials of published claims about batch size, see what was found, build the book."""

from __future__ import annotations

import importlib.metadata
import json
import math
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from repro.evidence.spec import Scale
from repro.names import DATASETS, ReproError
from repro.terminal import (
    OUTCOME_STYLES,
    Program,
    duration,
    err,
    escape,
    one_line_errors,
    out,
    progress_bar,
    say,
    styled,
)

app = Program(
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="Data: $REPRO_DATA. Working ledger: $REPRO_CACHE. Both default to your cache folder.",
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Workers = Annotated[
    int | None, typer.Option(min=0, help="Worker processes; 0 trains in this one. Default: one a core, if it pays.")
]


@app.command("list")
@one_line_errors
def list_claims(as_json: AsJson = False) -> None:
    """List every claim: verdicts at laptop and paper scale; how many published numbers are met, missed, or neither."""
    from repro import claims
    from repro.evidence.tables import NOT_RUN, NOT_TESTABLE, TESTED
    from repro.publish import plain
    from repro.runs.ledger import Ledger

    ledger = Ledger()
    told = [plain.claim(c, ledger) for c in claims.all_claims().values()]
    if as_json:
        print(json.dumps(told, indent=1))
        return
    for claim in told:
        out.print(f"[bold]{claim['id']}[/]")
        for f in (f for f in claim["findings"] if f["scale"] != Scale.SMOKE):
            trials = f"{f['trials']['finished']}/{f['trials']['planned']} trials"
            verdict = f"[{OUTCOME_STYLES[f['verdict']]}]{f['verdict']}[/]"
            out.print(f"  {f['scale']:8}{f['dataset']:15}{trials:18}{verdict}", highlight=False)
        outcomes = [p["outcome"] for p in claim["published"]]
        counts = [f"{outcomes.count(o)} {o}" for o in (*TESTED, NOT_TESTABLE, NOT_RUN) if o in outcomes]
        out.print(f"  published numbers: {', '.join(counts) or 'none'}", highlight=False)


@app.command()
@one_line_errors
def show(claim: str, as_json: AsJson = False) -> None:
    """Show one claim: the rule, the verdict at each scale with its effects, every published number with ours."""
    from repro import claims
    from repro.evidence.words import interval
    from repro.publish import plain
    from repro.runs.ledger import Ledger

    ledger = Ledger()
    it = claims.get(claim)
    if as_json:
        print(json.dumps(plain.claim(it, ledger), indent=1))
        return
    found = [f for scale in Scale for f in claims.findings(it, scale, ledger)]
    out.print(f"[bold]{it.question}[/]\n{escape(it.statement)} ({it.source})")
    out.print(f"against it: {escape(it.counter_claim)} ({', '.join(it.counter_sources)})")
    out.print(f"rule: {escape(it.rule)}\n", highlight=False)

    def effects(verdict: Any) -> None:
        for name, e in verdict.effects.items():
            out.print(f"    {escape(name)}: {escape(interval(e))}, n={e.n}", highlight=False)

    for f in found:
        trials = f"{f.num_finished}/{len(f.trials)} trials"
        out.print(f"[bold]{f.scale}, {f.dataset}[/] ({trials}): {styled(f.verdict)}", highlight=False)
        effects(f.verdict)
        for name, part in f.verdict.parts.items():
            out.print(f"  {escape(name)}: {styled(part)}", highlight=False)
            effects(part)
    table = Table("published number", "published", "here, paper scale", "n", "")
    for c in next(f for f in found if f.scale == Scale.PAPER).published:
        here = escape(interval(c.ours, c.number.format))
        table.add_row(c.number.name, f"{c.number.printed} {c.number.unit}", here, str(c.ours.n or ""), c.outcome)
    out.print(table)


@app.command()
@one_line_errors
def run(
    claim: Annotated[list[str], typer.Argument(help="Claims to run, as 'repro list' names them.")],
    scale: Annotated[str, typer.Option(help="smoke (seconds), laptop (minutes) or paper (hours).")] = "smoke",
    workers: Workers = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler, such as tcp://host:8786, whose workers train.")
    ] = None,
    record: Annotated[bool, typer.Option("--record", help="Write to results/, the ledger that git keeps.")] = False,
    plan_only: Annotated[
        bool, typer.Option("--plan", help="Say what is missing and how long it should take here, and stop.")
    ] = False,
) -> None:
    """Train the trials that no ledger holds yet. Stop it at any time: the same command goes on from there."""
    from repro import claims
    from repro.runs import costs, provenance, runner
    from repro.runs.ledger import Ledger

    if record:
        provenance.need_checkout("--record")
    ledger = Ledger()
    plan = {c: [t for f in claims.findings(claims.get(c), scale, ledger) for t in f.trials] for c in claim}
    missing = ledger.missing(t for trials in plan.values() for t in trials)
    for key, why in ledger.failures(missing).items():
        err.print(f"failed before, tried again: {key}: {escape(why)}", highlight=False)
    num_workers = 1 if scheduler is not None else runner.choose_workers(missing, workers)
    expected = None
    if plan_only or (num_workers and missing):
        with progress_bar("timing a few steps of each stack") as progress:
            expected = costs.estimate(missing, num_workers, progress)
    if expected is not None:
        where = "of one worker as fast as this machine" if scheduler else f"with {max(num_workers, 1)} at once"
        err.print(f"{len(missing)} trials to train, about {duration(expected)} {where}", highlight=False)
    if plan_only:
        return
    with progress_bar(f"{', '.join(claim)}, {scale}") as progress:
        report = runner.run(
            plan, ledger, workers=workers, scheduler=scheduler, record=record, progress=progress, say=say
        )
    err.print(f"{report.trained} trials trained, {report.found} found in the ledger, in {report.seconds:.0f} s")
    if expected and not scheduler and not report.failed:
        err.print(f"estimated {expected:.0f} s: {expected / report.seconds - 1:+.0%}", highlight=False)
    for line in report.failed:
        err.print(f"[red]failed:[/] {escape(line)}", highlight=False)
    for c in claim:
        for finding in claims.findings(claims.get(c), scale, ledger):
            out.print(f"{c}, {scale}, {finding.dataset}: {styled(finding.verdict)}", highlight=False)
    if report.failed:
        raise typer.Exit(1)


@app.command()
@one_line_errors
def audit(
    claim: Annotated[
        list[str] | None, typer.Argument(help="Claims whose recorded trials to check; all by default.")
    ] = None,
    sample: Annotated[int, typer.Option(min=1, help="How many recorded trials to train again.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Which are drawn.")] = 0,
    within: Annotated[
        float, typer.Option(help="Draw only from trials that took at most this many seconds.")
    ] = math.inf,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Train recorded trials again and compare: to the last bit where machine and path are the same, within
    tolerances elsewhere, or within what a rounding grows into. Exit status 1 if a number differs."""
    from repro import claims
    from repro.runs import audit
    from repro.runs.ledger import Ledger

    names = [claims.get(c).id for c in claim or claims.all_claims()]
    with progress_bar("audit") as progress:
        checks = audit.audit(Ledger(), names, sample, seed, within, workers, progress)
    told = [
        {
            "claim": c.claim,
            "trial": json.loads(c.trial.to_json()),
            "key": c.trial.key,
            "compared": "exact" if c.exact else "tolerance",
            "worst": c.worst,
            "recorded": c.recorded if math.isfinite(c.recorded) else None,
            "now": c.now if math.isfinite(c.now) else None,
            "failure": c.failure,
        }
        for c in checks
    ]
    if as_json:
        print(json.dumps(told, indent=1))
    else:
        table = Table("claim", "trial", "compared", "worst", "recorded", "now", "")
        for c in checks:
            t = c.trial
            name = f"{t.dataset} {t.optimizer} B={t.batch_size} lr={t.lr:g} seed={t.init_seed}"
            compared = "exact" if c.exact else "tolerance"
            result = f"[red]{escape(c.failure)}[/]" if c.failure else "[green]agrees[/]"
            table.add_row(c.claim, name, compared, c.worst, f"{c.recorded:.6g}", f"{c.now:.6g}", result)
        out.print(table)
    if any(c.failure for c in checks):
        raise typer.Exit(1)


@app.command()
@one_line_errors
def build(
    scale: Annotated[str, typer.Option(help="What to train while building: smoke, laptop or paper.")] = "laptop",
    output: Annotated[Path | None, typer.Option(help="Where the site goes. Default: _build/site.")] = None,
    repository: Annotated[
        str | None, typer.Option(help="https://github.com/OWNER/NAME: adds launch and edit links.")
    ] = None,
    workers: Workers = None,
) -> None:
    """Build the book: train what is missing, run every notebook, make the site."""
    from repro.publish import book

    with progress_bar(f"training, {scale} scale") as progress:
        site = book.build(scale, output=output, repository=repository, workers=workers, progress=progress, say=say)
    table = Table("claim", "scale", "dataset", "verdict")
    for f in site.findings:
        style = OUTCOME_STYLES[f.verdict.outcome]
        table.add_row(f.claim.id, f.scale, f.dataset, f"[{style}]{f.verdict.outcome}[/]")
    out.print(table)
    out.print(f"The site is at {escape(str(site.folder / 'index.html'))}", soft_wrap=True, highlight=False)


@app.command()
@one_line_errors
def advise(
    script: Annotated[
        str, typer.Argument(help="A file and a function in it that gives model, loss and data: f.py:make")
    ],
    lr: Annotated[float | None, typer.Option(help="The learning rate of today.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="The batch size of today.")] = None,
    seconds: Annotated[float, typer.Option(help="How long it may take, about.")] = 60,
    train_seconds: Annotated[float, typer.Option(help="How long to train a copy first.")] = 0,
    memory: Annotated[float | None, typer.Option(help="Gigabytes it may take; by default what is free.")] = None,
    device: Annotated[str | None, typer.Option(help="Where: cpu, cuda; by default where the model is.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Which examples are drawn.")] = 0,
) -> None:
    """Measure a model of your own, and say what batch size to train it with on this machine."""
    from repro import advice
    from repro.advice.script import made

    try:
        given = {
            "lr": lr,
            "batch_size": batch_size,
            "seconds": seconds,
            "train_seconds": train_seconds,
            "memory": None if memory is None else memory * 2**30,
            "device": device,
            "seed": seed,
        }
        advised = advice.advise(**{**given, **made(script)})
    except ValueError as error:
        raise ReproError(str(error)) from None
    out.print(str(advised), markup=False, highlight=False, soft_wrap=True)


@app.command()
@one_line_errors
def refresh() -> None:
    """Re-run the committed notebooks at smoke scale, in place, and the generated parts of the pages."""
    from repro.publish import book

    book.refresh(say)


@app.command()
@one_line_errors
def doctor(as_json: AsJson = False) -> None:
    """Say what is installed, which data is present and intact, and which scales can run here."""
    from repro.runs import provenance, runner
    from repro.runs.ledger import Ledger
    from repro.training import data, engine

    ledger = Ledger()
    packages = ("torch", "torchvision", "jupyter-book", "papermill", "nbval", "distributed", "mlxtend")
    versions = {p: importlib.metadata.version(p) for p in packages if _installed(p)}
    states = {name: data.state(name) for name in DATASETS}
    ready = {name for name, state in states.items() if state == "intact"}
    told = {
        "python": sys.version.split()[0],
        "packages": versions,
        "not installed": [p for p in packages if p not in versions],
        "cores": runner.num_cores(),
        "native bfloat16": engine.has_native_bfloat16(),
        "data folder": str(data.data_folder()),
        "datasets": states,
        "working ledger": str(ledger.working),
        "recorded ledger": str(ledger.recorded) if provenance.IN_CHECKOUT else "none outside the book's checkout",
        "scales": {
            "smoke": "mnist5k" in ready,
            "laptop": "mnist5k" in ready,
            "paper": {"mnist", "fashion-mnist"} <= ready,
        },
    }
    if as_json:
        print(json.dumps(told, indent=1))
        return
    for name, value in told.items():
        if isinstance(value, dict):
            out.print(f"[bold]{name}[/]")
            for key, state in value.items():
                out.print(f"  {key}: {escape(str(state))}", highlight=False, soft_wrap=True)
        else:
            out.print(f"[bold]{name}[/]: {escape(str(value))}", highlight=False, soft_wrap=True)


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    app()
