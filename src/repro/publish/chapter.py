"""The pieces of a chapter, as a notebook shows them, answer first: `Chapter` gives each as HTML of its own.

What is shown of several datasets carries `data-for`; one switch a page, of radio buttons that need no script, says
which of them is seen. The style sheet is the package's own: a notebook looks in JupyterLab as it does in the site.
"""

from __future__ import annotations

import html
import importlib.resources
import logging
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from IPython.display import HTML

from repro import claims
from repro.claims import Finding
from repro.evidence.intervals import Estimate, values_to_decide
from repro.evidence.sources import NAMES
from repro.evidence.spec import PUBLISHED_SERIES, Figure, Outcome, Revision, Scale, Verdict
from repro.evidence.tables import NARROW, NOT_RUN, NOT_TESTABLE, TESTED, TOO_WIDE, count, met_of_tested, select
from repro.evidence.words import interval, signed, unlearnt
from repro.names import DATASET_NAMES, choose
from repro.publish import figures, protocol, tables
from repro.publish.tables import badge
from repro.runs import provenance, runner
from repro.runs.ledger import Ledger

log = logging.getLogger("repro")


def slug(finding: Finding) -> str:
    """What the dataset switch calls it: the dataset of what is recorded, the scale of what is trained here."""
    return finding.dataset if finding.scale == Scale.PAPER else str(finding.scale)


def label(finding: Finding) -> str:
    """ "MNIST" for what is recorded, "MNIST-5k, laptop" for what is trained when the page is built."""
    name = DATASET_NAMES[finding.dataset]
    return name if finding.scale == Scale.PAPER else f"{name}, {finding.scale}"


def outcome(finding: Finding) -> str:
    """The verdict's; but where no trial has been run there is none."""
    return str(finding.verdict.outcome) if finding.num_finished else NOT_RUN


def progress(finding: Finding) -> str:
    """ "17 of 83 trials run"; where all are, "83 trials"."""
    planned = f"{len(finding.trials):,} trials"
    return planned if finding.whole else f"{finding.num_finished:,} of {planned} run"


def is_advised(findings: Sequence[Finding]) -> bool:
    """Whether a claim's advice has a whole sweep to rest on."""
    return any(f.scale == Scale.PAPER and f.whole for f in findings)


def answer(finding: Finding) -> str:
    """The claim's answer where its sweep is whole; elsewhere that it is not."""
    if not finding.num_finished:
        return f"Not run yet on {DATASET_NAMES[finding.dataset]}."
    if not finding.whole:
        return f"Not settled: {progress(finding)} so far on {DATASET_NAMES[finding.dataset]}."
    return finding.claim.answer(finding.table, finding.verdict)


def origin(finding: Finding) -> str:
    """One sentence: how much was run, at what cost, when, with what."""
    come_from = provenance.summary(finding.table)
    if not come_from["trials"]:
        return f"No trial of {len(finding.trials):,} is in the ledger yet."
    dates = " to ".join(dict.fromkeys((come_from["first"], come_from["last"])))
    fates = unlearnt(come_from["diverged"], come_from["at_chance"])
    return (
        f"{finding.num_finished:,} of {len(finding.trials):,} trials, of which {fates}; {_cost(finding)} of training; "
        f"{dates}; "
        f"torch {', '.join(come_from['torch_version'])}; {', '.join(come_from['precision'])} products."
    )


def _cost(finding: Finding) -> str:
    hours = provenance.summary(finding.table)["hours"]
    return f"{hours:.1f} core hours" if hours >= 0.1 else f"{hours * 3600:.0f} core seconds"


def would_decide(finding: Finding) -> str:
    """Of what is open though all was run, the verdict or parts of it: how many seeds would decide each difference that
    is, and at what cost; then the parts that no number of seeds is known for. "" where nothing is open."""
    verdict = finding.verdict
    judged = {"": verdict, **verdict.parts} if finding.whole else {}
    seeds: dict[str, str] = {}
    others: list[str] = []
    for part, v in judged.items():
        if v.outcome == Outcome.INCONCLUSIVE:
            asked = {name: n for name, e in v.effects.items() if (n := _seeds_to_decide(e))}
            seeds |= {name: f"about {n:,} seeds instead of {v.effects[name].n} ({name})" for name, n in asked.items()}
            others += [part] if part and not asked else []
    told = []
    if seeds:
        rows = select(finding.table, final=True)
        one = rows[rows["init_seed"] == rows["init_seed"].max()].drop_duplicates("key")["run_seconds"].sum() / 3600
        cost = f"a seed of every arm takes {one:.1f} core hours. Not done so far, for the cost."
        told.append(f"On {label(finding)} {', '.join(seeds.values())}, if mean and spread stay as they are; {cost}")
    if others:
        told.append(f"Open on {label(finding)}, and more seeds are not known to decide it: {'; '.join(others)}.")
    return " ".join(told)


def _seeds_to_decide(e: Estimate) -> int:
    """How many would decide a difference that is open; 0 where that is not what is, or none would."""
    _, margin = e.unit.band or (0.0, 0.0)
    if not margin or e.unit.log or len(e.values) < 2 or e.excludes(0) or e.equivalent(margin):
        return 0
    seeds = values_to_decide(e, margin)
    return int(seeds) if math.isfinite(seeds) else 0


def style() -> str:
    """The style sheet, for a notebook; the site has its own copy."""
    text = importlib.resources.files("repro.publish").joinpath("static", "repro.css").read_text(encoding="utf-8")
    return f"<style>{text}</style>"


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

    def run(self) -> HTML:
        """Train what the ledger lacks at this scale. At paper scale, only show: `repro run` records."""
        if self.scale != Scale.PAPER:
            report = runner.run({self.claim.id: self.here.trials}, self.ledger)
            for line in report.failed:
                log.warning("failed: %s", line)
            self.here = claims.find(self.claim, self.scale, self.ledger, **self.overrides)
        return HTML(style())

    @property
    def shown(self) -> list[Finding]:
        """Findings in the order of the switch: the recorded ones first, but a tinkerer's own run before them. At smoke
        scale, where seconds count, of the recorded ones the main dataset's alone."""
        recorded = [f for f in self.recorded if f.num_finished]
        if self.scale == Scale.PAPER:
            changed = any(v is not None for v in self.overrides.values())
            return [self.here] if changed or not recorded else recorded
        return [*recorded, self.here] if self.scale == Scale.LAPTOP else [self.here, *recorded[:1]]

    def _each(self, piece: Callable[[Finding], str], tag: str = "div") -> str:
        """`piece` of every finding, of which the switch shows one."""
        return "".join(f'<{tag} data-for="{slug(f)}">{piece(f)}</{tag}>' for f in self.shown)

    def opening(self) -> HTML:
        """Kicker, answer, dataset switch and verdict card."""
        answers = self._each(lambda f: tables.unbroken(answer(f)), "p")
        deck = answers.replace("<p data-for", '<p class="deck" data-for')
        return HTML(f"{self._kicker()}{deck}{self._switch()}{self._card()}")

    def _kicker(self) -> str:
        numbered = [c.id for c in claims.all_claims().values() if not c.instrument]
        claim = self.claim
        place = "Instrument" if claim.instrument else f"Claim {numbered.index(claim.id) + 1} of {len(numbered)}"
        against = ", ".join(NAMES[s] for s in claim.counter_sources)
        return f'<p class="kick">{place} · {NAMES[claim.source]}, against {against}</p>'

    def _switch(self) -> str:
        shown = self.shown
        if len(shown) < 2:
            return f'<input type="radio" name="data" id="d-{slug(shown[0])}" checked hidden>' if shown else ""
        options = "".join(
            f'<label><input type="radio" name="data" id="d-{slug(f)}" value="{slug(f)}"{" checked" * (i == 0)}>'
            f"{html.escape(label(f))}</label>"
            for i, f in enumerate(shown)
        )
        return f'<div class="seg" role="radiogroup" aria-label="Dataset">{options}</div>'

    def _card(self) -> str:
        def card(f: Finding) -> str:
            planned, done = protocol.seeds(f.trials), protocol.seeds(f.finished) if f.finished else "no"
            seeds = f"{done} seeds a setting" + f" ({planned} planned)" * (planned != done)
            how = "" if f.scale == Scale.PAPER else ", trained when this page was built"
            return (
                f"<p>{badge(outcome(f))} <span>on {html.escape(label(f))}</span></p>"
                f"<p>{tables.unbroken(f.verdict.reason)}</p><p class='note'>{progress(f)}, {seeds}, {_cost(f)}{how} · "
                '<a href="#the-rule">the rule</a></p>'
            )

        return f'<div class="verdict">{self._each(card)}</div>'

    def notes(self) -> HTML:
        """What to do, what would change the verdict, and the verdicts on the other datasets."""
        advice = "Nothing yet: no sweep of this page is whole."
        if is_advised(self.recorded):
            advice = " ".join(self.claim.advice)
        unfinished = [
            f"{len(f.trials) - f.num_finished:,} trials on {DATASET_NAMES[f.dataset]}"
            for f in self.recorded
            if not f.whole
        ]
        left = f" Still to run: {', '.join(unfinished)}." if unfinished else ""
        decide = " ".join(filter(None, map(would_decide, self.recorded)))
        decide = f"<p><b>What would decide what is open.</b> {html.escape(decide)}</p>" if decide else ""
        verdicts = "<br>".join(f"{badge(outcome(f))} {html.escape(label(f))}" for f in self.shown)
        return HTML(
            f'<aside class="side top notes"><p><b>What to do.</b> {html.escape(advice)}</p>'
            f"<p><b>What would change this.</b> {html.escape(self.claim.change + left)}</p>{decide}"
            f"<p><b>Verdicts.</b><br>{verdicts}</p></aside>"
        )

    def figure(self, figure_id: str) -> HTML:
        """The figure for every finding that has something to show. The claim's first is the one that answers."""
        by_id = {f.id: f for f in self.claim.figures}
        choose(f"figure of {self.claim.id}", figure_id, by_id)
        figure = by_id[figure_id]
        kind = "plot hero" if figure is self.claim.figures[0] else "plot"
        return HTML(self._each(lambda f: self._picture(figure, f, kind)))

    def _picture(self, figure: Figure, finding: Finding, kind: str) -> str:
        if not finding.whole or (drawn := figure.data(finding.table)).empty:
            return f"<p class='note'>Nothing to draw yet on {html.escape(label(finding))}.</p>"
        name = f"{self.claim.id}-{figure.id}-{slug(finding)}"
        return picture(figure, drawn, figure.title(finding.table), name, kind)

    def forest(self) -> HTML:
        """Every effect that the judge weighed, and what it says of the claim's parts."""

        def each(finding: Finding) -> str:
            verdict = finding.verdict
            parts = [
                [html.escape(name), badge(p.outcome), tables.unbroken(p.reason)] for name, p in verdict.parts.items()
            ]
            told = (
                tables.table(["part of the claim", "verdict", "because"], parts, "Parts of the claim") if parts else ""
            )
            name = f"{self.claim.id}-effects-{slug(finding)}.csv"
            none = "<p class='note'>No single effect is weighed here: the verdict says what is counted.</p>"
            return told + effects(verdict, name) or none

        return HTML(f'<div id="parts">{self._each(each)}</div>')

    def protocol(self) -> HTML:
        """What was run: a row a field of the trials; what is to be run, where none has been."""

        def each(f: Finding) -> str:
            body = [
                ["dataset", DATASET_NAMES[f.dataset]],
                *([name, told] for name, told in protocol.what_was_run(f.finished or f.trials)),
                ["trials", progress(f)],
            ]
            return tables.table(["", ""], body, "What was run", kind="rows pairs")

        return HTML(self._each(each))

    def published(self) -> HTML:
        """Published numbers beside ours, from the recorded main dataset."""
        compared = self.recorded[0].published
        rows = []
        for c in compared:
            note = f"<br><small>{html.escape(c.number.note)}</small>" if c.number.note else ""
            ours = f"{interval(c.ours, c.number.format)} {c.number.unit}".rstrip()
            here = f"{ours}, n = {c.ours.n}" if c.ours.n else "–"
            if c.outcome == TOO_WIDE:
                ends = " to ".join(signed(end, c.number.format) for end in (c.run.low, c.run.high))
                here += f"<br><small>one more run: {ends}</small>"
            name = html.escape(c.number.name) + note
            rows.append([name, f"{c.number.printed} {c.number.unit}".replace("-", "−"), here, badge(c.outcome)])
        tested, untestable = count(compared, *TESTED), count(compared, NOT_TESTABLE)
        numbers = met_of_tested(compared, "tested numbers") if tested else "No number is tested so far"
        if untestable == len(compared):
            numbers = f"No number can be tested here: all {untestable} need data or models out of reach"
        elif untestable:
            numbers += f", {untestable} more cannot be tested here"
        mean = "mean (of what differs by factors, geometric)" if any(c.number.logarithmic for c in compared) else "mean"
        beside = " For comparison: the same number beside another measure of ours, not counted."
        caption = (
            f"{numbers}. Ours: {mean} and 95 % t interval over n seeds, recorded on "
            f"{DATASET_NAMES[self.recorded[0].dataset]}. Met: the published number lies in the 95 % prediction "
            "interval for one more run, widened by half a unit of its last printed digit, and the interval's ends are "
            f"less than a factor of {NARROW:g} apart (of accuracies: of the error); wider, it is too wide to tell."
            f"{beside if any(c.number.again for c in compared) else ''}"
        )
        if not rows:
            return HTML("<p>The source prints no number that this claim could be held against.</p>")
        return HTML(tables.table(["number", "published", "here", ""], rows, "Published beside ours", caption))

    def rule(self) -> HTML:
        """The rule by which the verdict is made, when it was written and changed, how many of the trials it judges were
        run after that, and what would change it."""
        past = [(r.date.replace("T", " ") + " UTC", _revised(r)) for r in self.claim.history]
        dated = tables.table(["", ""], [[html.escape(x) for x in row] for row in past], "History", kind="rows pairs")
        since = [f"{label(f)}: {self._judged_after(f)}" for f in self.recorded if f.num_finished]
        after = f"<p>Run after its last change: {html.escape('; '.join(since))}.</p>" if past and since else ""
        return HTML(
            f"{_by_outcome(self.claim.rule)}{dated if past else ''}{after}<p><b>What would change our mind.</b> "
            f"{html.escape(self.claim.change)}</p>"
        )

    def _judged_after(self, finding: Finding) -> str:
        """ "12 of 83 trials": those run since the rule was last changed."""
        dates = select(finding.table, final=True).drop_duplicates("key")["run_date"]
        return f"{int((dates >= self.claim.history[-1].date).sum()):,} of {len(dates):,} trials"

    def settings(self) -> HTML:
        """What the first cell's parameters may change, and what they are at every scale."""
        scales = {str(scale): self.claim.settings[scale][0] for scale in Scale}
        rows = [
            [f"<code>{name}</code>", *(html.escape(protocol.setting(s[name])) for s in scales.values())]
            for name in scales[Scale.PAPER]
        ]
        return HTML(tables.table(["setting", *scales], rows, "Settings at every scale"))

    def provenance(self) -> HTML:
        """Where the numbers come from, once."""
        rows = [[html.escape(label(f)), html.escape(origin(f))] for f in self.shown]
        return HTML(tables.table(["", ""], rows, "Where the numbers come from", kind="rows pairs"))


def picture(figure: Figure, drawn: pd.DataFrame, title: str, name: str, kind: str = "plot") -> str:
    """A figure with its title, how to read it, what it is drawn from, and its table as CSV."""
    heading, caption = tables.unbroken(" ".join(title.split())), tables.unbroken(figure.caption)
    if figure.kind == "dots":
        told, body = f'<p class="axis-title">{html.escape(figure.x)}</p>', tables.dots(figure, drawn)
    elif figure.kind == "heat map":
        told, body = "", tables.heat_map(figure, drawn)
    else:
        told, body = "", both_widths(figure, drawn)
    return (
        f'<figure class="{kind}"><figcaption><p class="title">{heading}</p><p>{caption}</p>{told}'
        f"</figcaption>{body}<p class='note'>{tables.seeds(drawn)}{tables.fates(drawn)}"
        f"{tables.csv_link(drawn, f'{name}.csv')}</p></figure>"
    )


def both_widths(figure: Figure, drawn: pd.DataFrame) -> str:
    """The picture for a wide page and for a phone, with the names that are not written into it."""
    wide, narrow = figures.draw(figure, drawn)
    series = figures.series_of(drawn)
    names = ", ".join(s.name for s in series)
    alt = html.escape(f"{figure.y} against {figure.x}, for: {names}", quote=True)
    key = [(s.name, figures.css(s.colour)) for s in series if s.named] if len(series) > 1 else []
    chips = "".join(f'<span style="--c:{colour}"><em></em> {html.escape(name)}</span>' for name, colour in key)
    where = " for-phone" if figures.has_ends(figure, figures.WIDE) else ""
    chips = f'<p class="key{where}">{chips}</p>' if chips else ""
    more = [s.name for s in series if not s.named]
    chips += f'<p class="key">Grey: {html.escape("; ".join(more))}</p>' if more else ""
    if PUBLISHED_SERIES in set(drawn["series"]):
        chips += '<p class="key"><span class="m9"><em></em> published</span></p>'
    return (
        f'{chips}<div class="for-wide" role="img" aria-label="{alt}">{wide}</div>'
        f'<div class="for-phone" role="img" aria-label="{alt}">{narrow}</div>'
    )


def effects(verdict: Verdict, csv_name: str) -> str:
    """The forests of a verdict and the table behind them."""
    judged = [("", verdict), *verdict.parts.items()]
    rows = pd.DataFrame(
        [
            {"part": part, "effect": name, "value": e.value, "low": e.low, "high": e.high, "n": e.n,
             "unit": e.unit.symbol, "interval": e.method}
            for part, v in judged for name, e in v.effects.items()
        ]
    )  # fmt: skip
    if rows.empty:
        return ""
    drawn = "".join(
        f'<figure class="plot"><figcaption><p class="title">{html.escape(f.unit.axis)}</p></figcaption>'
        f"{tables.forest_table(f, f.unit.axis)}</figure>"
        for f in tables.effects(verdict)
    )
    link = tables.csv_link(rows, csv_name)
    return f"{drawn}<p class='note'>95 % intervals; how each is made is in the table. {link}</p>"


def _by_outcome(rule: str) -> str:
    """A rule's words, a paragraph for each outcome that it defines."""
    start = rf"(?<=\.) (?=(?:{'|'.join(str(o).capitalize() for o in Outcome)}|Apart):)"
    return "\n".join(f"<p>{tables.unbroken(part)}</p>" for part in re.split(start, rule))


def _revised(revision: Revision) -> str:
    told = ", ".join(f"{outcome} on {DATASET_NAMES[dataset]}" for dataset, outcome in revision.before.items())
    return revision.what + (f" By the rule before: {told}." if told else "")
