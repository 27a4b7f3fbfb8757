"""The pieces of a chapter, as a notebook shows them: protocol, figures, published numbers, verdicts.

Everything is HTML of its own, so that a figure carries its alt text, caption and table wherever it is read:
in Jupyter, in the built site, or in a saved file.
"""

from __future__ import annotations

import base64
import html
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from IPython.display import HTML

from repro import claims
from repro.claims import Finding
from repro.evidence.intervals import Estimate
from repro.evidence.spec import Figure, Outcome, Scale, Verdict
from repro.evidence.tables import MET, MISSED, NOT_RUN, count
from repro.publish import figures
from repro.runs import provenance, runner
from repro.runs.ledger import Ledger
from repro.trial import Trial, choose

log = logging.getLogger("repro")

DATASET_NAMES = {
    "mnist5k": "MNIST-5k",
    "mnist": "MNIST",
    "fashion-mnist": "Fashion-MNIST",
    "kmnist": "KMNIST",
    "cifar10": "CIFAR-10",
}
OUTCOME_CLASSES = {
    Outcome.REPRODUCED: "holds",
    Outcome.CONDITIONAL: "depends",
    Outcome.NOT_REPRODUCED: "fails",
    Outcome.INCONCLUSIVE: "open",
}
MAX_EFFECTS = 6  # of a verdict; a longer list is folded


def badge(outcome: str, kind: str) -> str:
    return f'<span class="repro-badge repro-{kind}">{html.escape(outcome)}</span>'


def verdict_badge(verdict: Verdict) -> str:
    return badge(verdict.outcome, OUTCOME_CLASSES[verdict.outcome])


def finding_badge(finding: Finding) -> str:
    """The verdict's; but where no trial has been run there is none."""
    return verdict_badge(finding.verdict) if finding.num_finished else badge(NOT_RUN, "open")


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """A table whose cells are HTML already; it scrolls sideways where the page is narrow."""
    head = "".join(f'<th scope="col">{h}</th>' for h in header)
    body = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in rows)
    told = f'<p class="repro-caption">{caption}</p>' if caption else ""
    return (
        f'<div class="repro-scroll"><table class="table repro-table"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{told}"
    )


def interval(estimate: Estimate, form: str = "") -> str:
    """ "1.23 [1.10, 1.36]", or the value alone where there is no interval; by default two decimals, from 1,000 on
    none."""
    if not math.isfinite(estimate.value):
        return "–"
    form = form or (".2f" if abs(estimate.value) < 1000 else ",.0f")
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return f"{estimate.value:z{form}}"
    return f"{estimate.value:z{form}} [{estimate.low:z{form}}, {estimate.high:z{form}}]"


def label(finding: Finding) -> str:
    """ "Paper scale, MNIST (recorded)": what was run, and whether just now."""
    own = len(finding.table) and not finding.table["recorded"].all()  # of paper scale, in the reader's own ledger
    when = "recorded" if finding.scale == Scale.PAPER else "trained when this page was run"
    when = "trained here, at least in part" if finding.scale == Scale.PAPER and own else when
    return f"{finding.scale.capitalize()} scale, {DATASET_NAMES[finding.dataset]} ({when})"


def origin(finding: Finding) -> str:
    """One sentence: how much was run, at what cost, when, with what."""
    come_from = provenance.summary(finding.table)
    if not come_from["trials"]:
        return f"No trial of {len(finding.trials):,} is in the ledger yet."
    dates = " to ".join(dict.fromkeys((come_from["first"], come_from["last"])))
    hours = come_from["hours"]
    cost = f"{hours:.1f} core hours" if hours >= 0.1 else f"{hours * 3600:.0f} core seconds"
    diverged = f", {come_from['diverged']} of them diverged" if come_from["diverged"] else ""
    return (
        f"{finding.num_finished:,} of {len(finding.trials):,} trials{diverged}; {cost} of training; {dates}; "
        f"torch {', '.join(come_from['torch_version'])}; {', '.join(come_from['precision'])} products."
    )


class Chapter:
    """One claim's page: what is recorded at paper scale, and what is trained here at `scale`.

    Settings given as None stay as the scale has them. `run()` trains what is missing; the other methods
    each return one piece of the page.
    """

    def __init__(self, claim_id: str, scale: str, **overrides: Any) -> None:
        self.claim = claims.get(claim_id)
        self.ledger = Ledger()
        self.scale, self.overrides = scale, overrides
        self.here = claims.find(self.claim, scale, self.ledger, **overrides)
        self.recorded = list(claims.findings(self.claim, Scale.PAPER, self.ledger))

    def run(self) -> None:
        """Train what the ledger lacks at this scale. At paper scale, only show: `repro run` records."""
        if self.scale == Scale.PAPER:
            return
        report = runner.run({self.claim.id: self.here.trials}, self.ledger)
        for line in report.failed:
            log.warning("failed: %s", line)
        self.here = claims.find(self.claim, self.scale, self.ledger, **self.overrides)

    @property
    def shown(self) -> list[Finding]:
        """Findings in the order of the page: the recorded ones first, but a tinkerer's own run before them."""
        recorded = [f for f in self.recorded if f.num_finished]
        if self.scale == Scale.PAPER:
            changed = any(v is not None for v in self.overrides.values())
            return [self.here] if changed or not recorded else recorded
        return [*recorded, self.here] if self.scale == Scale.LAPTOP else [self.here, *recorded]

    def protocol(self) -> HTML:
        """What was run: a column a finding, a row a field of its trials; what is to be run, where none has been."""
        rows = [
            ("dataset", lambda ts: _each(DATASET_NAMES[t.dataset] for t in ts)),
            ("training examples", lambda ts: _each(f"{t.num_train:,}" for t in ts)),
            ("model", lambda ts: _each(_model(t) for t in ts)),
            ("initialisation, pixels", lambda ts: _each(f"{t.init}, {t.preprocessing}" for t in ts)),
            ("optimizer", lambda ts: _each(t.optimizer for t in ts)),
            ("learning rate (per step)", lambda ts: _numbers(t.lr for t in ts)),
            ("batch size", lambda ts: _each(sorted({t.batch_size for t in ts}))),
            ("epochs", lambda ts: _numbers(t.num_steps / t.steps_in_epoch(0) for t in ts)),
            ("steps", lambda ts: _range(t.num_steps for t in ts)),
            ("paired seeds", lambda ts: str(len({t.init_seed for t in ts}))),
        ]  # fmt: skip
        body = [[name, *(cell(f.finished or f.trials) for f in self.shown)] for name, cell in rows]
        body.append(["trials run", *(f"{f.num_finished:,} of {len(f.trials):,}" for f in self.shown)])
        return HTML(html_table(["", *(html.escape(label(f)) for f in self.shown)], body))

    def figure(self, figure_id: str) -> HTML:
        """The figure for every finding that has something to show: the first open, the others folded. At smoke scale,
        where seconds count, of the recorded ones the main dataset's alone."""
        by_id = {f.id: f for f in self.claim.figures}
        choose(f"figure of {self.claim.id}", figure_id, by_id)
        figure = by_id[figure_id]
        drawn = []
        for finding in self.shown[: 2 if self.scale == Scale.SMOKE else None]:
            if not finding.num_finished:
                continue
            drawing = figures.draw(figure, finding.table)
            if drawing.svg:
                csv_name = f"{self.claim.id}-{figure.id}-{finding.scale}-{finding.dataset}.csv"
                drawn.append((label(finding), figure_html(figure, drawing, origin(finding), csv_name)))
        if not drawn:
            return HTML("<p>Nothing to draw yet: no trial of this figure is in the ledger.</p>")
        folded = "".join(
            f"<details class='repro-more'><summary>{html.escape(name)}</summary>{body}</details>"
            for name, body in drawn[1:]
        )
        return HTML(f"<p class='repro-label'>{html.escape(drawn[0][0])}</p>{drawn[0][1]}{folded}")

    def published(self) -> HTML:
        """Published numbers beside ours, from the recorded main dataset."""
        compared = self.recorded[0].published
        rows = []
        for c in compared:
            number = c.number
            kind = {MET: "holds", MISSED: "fails"}.get(c.outcome, "open")
            note = f"<br><small>{html.escape(number.note)}</small>" if number.note else ""
            here = f"{interval(c.ours, number.format)} {number.unit}".rstrip() + f", n={c.ours.n}" if c.ours.n else "–"
            name = html.escape(number.name) + note
            rows.append([badge(c.outcome, kind), name, f"{number.printed} {number.unit}", here])
        met, tested = count(compared, MET), count(compared, MET, MISSED)
        numbers = f"{met} of {tested} tested numbers met" if tested else "No number is tested so far"
        mean = "mean (of what differs by factors, geometric)" if any(c.number.logarithmic for c in compared) else "mean"
        beside = " For comparison: the same number beside another measure of ours, not counted."
        caption = (
            f"{numbers}. Ours: {mean} and 95 % t interval over n seeds, paper scale, "
            f"{DATASET_NAMES[self.recorded[0].dataset]}. Met: the published number lies in the 95 % prediction "
            "interval for one more run, widened by half a unit of its last printed digit."
            f"{beside if any(c.number.again for c in compared) else ''}"
        )
        return HTML(html_table(["", "number", "published", "here"], rows, caption))

    def verdicts(self) -> HTML:
        """The verdict at each scale with the effects that decided it, and the rule."""
        blocks = []
        for finding in self.shown:
            verdict = finding.verdict
            parts = "".join(
                f"<p class='repro-part'>{verdict_badge(part)} {html.escape(sentence)}: {html.escape(part.reason)}</p>"
                f"{_effects(part)}"
                for sentence, part in verdict.parts.items()
            )
            blocks.append(
                f'<div class="repro-verdict"><p>{verdict_badge(verdict)} '
                f"<strong>{html.escape(label(finding))}</strong></p><p>{html.escape(verdict.reason)}</p>"
                f"{_effects(verdict)}{parts}<p><small>{html.escape(origin(finding))}</small></p></div>"
            )
        title = "<strong>The rule, written before the run</strong> (what was changed since is told under Deviations)."
        return HTML("".join([*blocks, f"<p>{title} {html.escape(self.claim.rule)}</p>"]))


def _effects(verdict: Verdict) -> str:
    items = "".join(f"<li>{html.escape(name)}: {interval(e)}, n={e.n}</li>" for name, e in verdict.effects.items())
    if len(verdict.effects) > MAX_EFFECTS:
        return (
            f"<details class='repro-more'><summary>{len(verdict.effects)} effects</summary><ul>{items}</ul></details>"
        )
    return items and f"<ul>{items}</ul>"


def _each(values: Any) -> str:
    return ", ".join(html.escape(str(v)) for v in dict.fromkeys(values))


def _numbers(values: Any) -> str:
    return ", ".join(f"{v:g}" for v in sorted({float(f"{v:.4g}") for v in values}))


def _range(values: Any) -> str:
    ordered = sorted(set(values))
    return " to ".join(f"{v:,}" for v in dict.fromkeys((ordered[0], ordered[-1])))


def _model(trial: Trial) -> str:
    if trial.model != "mlp":
        return trial.model.upper()
    return "MLP " + "-".join(map(str, ("in", *trial.widths, "out"))) + (" with batch norm" if trial.batch_norm else "")


def figure_html(figure: Figure, drawing: figures.Drawing, source: str, csv_name: str) -> str:
    """<figure> with the picture, its alt text, its caption, where its numbers come from, and its table as a CSV
    download. A table with a column n counts seeds a point."""
    svg, table, title = drawing
    series = ", ".join(table["series"].unique())
    axes = " against ".join(part for part in (figure.y, figure.x) if part)
    alt = f"{' '.join(title.split())}. The figure shows {axes} for: {series}."
    image = base64.b64encode(svg.encode()).decode()
    csv = base64.b64encode(table.to_csv(index=False, float_format="%.6g").encode()).decode()
    seeds = ""
    if "n" in table:
        counts = sorted(set(table["n"].dropna().astype(int)) - {0})
        seeds = " to ".join(str(n) for n in dict.fromkeys((counts[0], counts[-1]))) if counts else "no"
        seeds = f"n = {seeds} seeds a point. "
    return (
        f'<figure class="repro-figure"><img alt="{html.escape(alt, quote=True)}" '
        f'src="data:image/svg+xml;base64,{image}"><figcaption>{html.escape(figure.caption)} '
        f"{seeds}<small>{html.escape(source)} "
        f'<a download="{csv_name}" href="data:text/csv;base64,{csv}">The table as CSV</a></small></figcaption></figure>'
    )


def fragments(ledger: Ledger, scale: Scale | None, seconds: Mapping[str, float]) -> dict[str, str]:
    """The generated parts of the pages that are not notebooks, by file name. `scale`: what was trained when
    the book was built, if anything was; `seconds`: what each notebook took then."""
    recorded = {c.id: list(claims.findings(c, Scale.PAPER, ledger)) for c in claims.all_claims().values()}
    here = {}
    if scale and scale != Scale.PAPER:
        here = {c.id: claims.find(c, scale, ledger) for c in claims.all_claims().values()}
    return {
        "cards.md": _cards(recorded),
        "board.md": _board(recorded, here),
        "status.md": _status(recorded, here, seconds),
    }


def raw(text: str) -> str:
    return f"```{{raw}} html\n{text}\n```\n"


def _cards(recorded: Mapping[str, list[Finding]]) -> str:
    cards = ["::::{grid} 1 1 2 2\n:gutter: 3\n"]
    for claim_id, found in recorded.items():
        claim, reason = found[0].claim, found[0].verdict.reason
        done, planned = found[0].num_finished, len(found[0].trials)
        so_far = f" on {done:,} of {planned:,} trials" if 0 < done < planned else ""
        cards.append(
            f":::{{grid-item-card}} {claim.title}\n:link: ../notebooks/{claim_id}\n:link-type: doc\n\n"
            f"“{claim.statement}”\n\n{finding_badge(found[0])}{so_far}\n\n{html.escape(reason)}\n:::\n"
        )
    return "\n".join([*cards, "::::\n"])


def _board(recorded: Mapping[str, list[Finding]], here: Mapping[str, Finding]) -> str:
    found = [f for fs in recorded.values() for f in fs] + list(here.values())
    columns = list(dict.fromkeys((f.scale, f.dataset) for f in found))
    cells = {(f.claim.id, f.scale, f.dataset): finding_badge(f) for f in found}
    rows = []
    for claim_id, (main, *_) in recorded.items():
        link = f'<a href="../notebooks/{claim_id}.html">{html.escape(main.claim.title)}</a>'
        rows.append([link, *(cells.get((claim_id, *column), "") for column in columns)])
    outcomes = [str(fs[0].verdict.outcome) if fs[0].num_finished else NOT_RUN for fs in recorded.values()]
    tally = ", ".join(f"{outcomes.count(o)} {o}" for o in (*Outcome, NOT_RUN) if o in outcomes)
    listed = (c for fs in recorded.values() for c in fs[0].published)
    compared = list({(c.number.value, c.number.unit, c.ours): c for c in listed}.values())  # two claims may list one
    met, tested = count(compared, MET), count(compared, MET, MISSED)
    caption = (
        f"Paper scale is recorded: the published protocol, run once, at length. Published numbers met: {met} of "
        f"{tested} tested so far."
    )
    if here:
        caption += f" {next(iter(here.values())).scale.capitalize()} scale was trained when these pages were built."
    header = ["claim", *(f"{DATASET_NAMES[dataset]}, {scale} scale" for scale, dataset in columns)]
    summary = f"{len(outcomes)} claims at paper scale on MNIST: {tally}.\n\n"
    return summary + raw(html_table(header, rows, caption))


def _status(recorded: Mapping[str, list[Finding]], here: Mapping[str, Finding], seconds: Mapping[str, float]) -> str:
    rows = []
    for claim_id, found in recorded.items():
        runs = [*found, *([here[claim_id]] if claim_id in here else [])]
        told = "<br>".join(f"<strong>{html.escape(label(f))}.</strong> {html.escape(origin(f))}" for f in runs)
        took = f"{seconds[claim_id]:.0f} s" if claim_id in here and claim_id in seconds else ""
        rows.append([html.escape(found[0].claim.title), told, took])
    return raw(html_table(["notebook", "trials and versions", "it ran in"], rows))
