"""The generated parts of the pages that are not notebooks: the landing page, and what each chapter rests on."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

from repro import claims
from repro.claims import Finding, generalization_gap, learning_rate_recovery
from repro.evidence.intervals import Estimate, Unit
from repro.evidence.spec import Outcome, Scale
from repro.evidence.tables import Comparison, met_of_tested
from repro.names import BOTH, DATASET_NAMES
from repro.publish import sentences, tables
from repro.publish.chapter import answer, is_advised, label, origin, outcome, progress
from repro.publish.tables import Forest, Mark, badge, unbroken
from repro.runs.ledger import Ledger

# The comparisons of the first figure: what is held equal, the claim, and the effect that its judge weighs
COMPARISONS = (
    ("Same epochs, same learning rate", "generalization-gap", generalization_gap.AT_EPOCHS),
    ("Same epochs, a higher learning rate", "learning-rate-recovery", learning_rate_recovery.LEFT),
    ("Same learning rate, as many steps", "generalization-gap", generalization_gap.AT_STEPS),
)
GAP = Unit(
    "points",
    "Test accuracy of the large batch minus that of the small one, percentage points",
    0.0,
    ("large batch worse", "better"),
    (-generalization_gap.MARGIN, generalization_gap.MARGIN),
)
Found = Mapping[str, Sequence[Finding]]  # by claim, one a dataset, the main one first


def found_in(ledger: Ledger, scale: Scale = Scale.PAPER) -> Found:
    """What is recorded, and what was trained at `scale` when the book was built."""
    scales = dict.fromkeys((Scale.PAPER, scale))
    return {c.id: [f for s in scales for f in claims.findings(c, s, ledger)] for c in claims.all_claims().values()}


def fragments(found: Found, seconds: Mapping[str, float]) -> dict[str, str]:
    """The generated parts of the pages that are not notebooks, by file name. `seconds`: what each notebook took when
    the book was built, if it was."""
    at_paper = {name: [f for f in fs if f.scale == Scale.PAPER] for name, fs in found.items()}
    told = {"landing.md": _landing(found), "status.md": _status(found, seconds)}
    return told | {"sentences.md": sentences.fragment(at_paper)}


def raw(text: str) -> str:
    return f"```{{raw}} html\n{text}\n```\n"


def _landing(found: Found) -> str:
    numbered = {name: fs for name, fs in found.items() if not fs[0].claim.instrument}
    instruments = {name: fs for name, fs in found.items() if name not in numbered}
    title = "Does batch size matter?"
    title += " Mostly through the number of steps it leaves you." if _is_budget(found) else ""
    recovery = found["learning-rate-recovery"][0]
    rest = learning_rate_recovery.left_over(recovery.table, recovery.verdict) if recovery.num_finished else ""
    second = f"{rest[0].upper()}{rest[1:]}." if rest else ""
    deck = f'<p class="deck">{unbroken(answer(found["generalization-gap"][0]))} {unbroken(second)}</p>'
    scope = (
        f'<p class="note">{_number(len(numbered)).capitalize()} published claims about batch size and what goes with '
        "it, each run again under a written rule; what was changed in a rule after runs is told on its page. Small "
        "networks on images like MNIST's: expect directions to carry over, not numbers.</p>"
    )
    return "\n".join(
        [
            f"# {title}\n",
            raw(f"{deck}{scope}{_how_sure(found)}{_hero(found)}"),
            "## If you have three minutes\n",
            raw(_advice(numbered)),
            f"## {_number(len(numbered)).capitalize()} claims, and what held\n",
            raw(_board(numbered)),
            "## The instruments, checked apart\n",
            raw(_board(instruments)),
        ]
    )


def _is_budget(found: Found) -> bool:
    """Whether, on the main dataset, a large batch tests worse at equal epochs and not at equal steps."""
    return found["generalization-gap"][0].verdict.outcome == Outcome.CONDITIONAL


def _number(n: int) -> str:
    words = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    return words[n] if n < len(words) else str(n)


def _how_sure(found: Found) -> str:
    """How much of it is run, and how many published numbers are met, and where those come from."""
    recorded = [f for fs in found.values() for f in fs if f.scale == Scale.PAPER]
    trials = len({t.key for f in recorded for t in f.finished})  # chapters share some
    planned = len({t.key for f in recorded for t in f.trials})
    page = next(name for name, fs in found.items() if fs[0].claim.instrument and fs[0].published)
    compared = listed_once({page: found[page], **found})
    there = listed_once({page: found[page]})
    elsewhere = [c for c in compared if c not in there]
    whole, here, rest = (met_of_tested(cs) for cs in (compared, there, elsewhere))
    link = f'<a href="../notebooks/{page}.html">one page</a>'
    return (
        f'<aside class="side top notes"><p><b>How sure?</b> {trials:,} of {planned:,} planned trials are recorded, on '
        f"MNIST and Fashion-MNIST.</p><p><b>Published numbers tested: {whole}.</b> On {link}, which rebuilds one blog "
        f"post’s set-up, {here}; elsewhere {rest}. A number that two pages list counts once.</p></aside>"
    )


def listed_once(found: Found) -> list[Comparison]:
    """The published numbers on the main datasets; of one that two claims list, the first: they print the same, and some
    of the runs behind both are the same."""
    once: list[Comparison] = []
    for c in (c for fs in found.values() for c in fs[0].published):
        same = (d for d in once if (d.number.printed, d.number.unit) == (c.number.printed, c.number.unit))
        if not any(set(d.ours.values) & set(c.ours.values) for d in same):
            once.append(c)
    return once


def _hero(found: Found) -> str:
    """The first figure: the large batch against the small one, at three budgets, on every dataset."""
    groups: dict[str, dict[str, list[Mark]]] = {}
    for title, claim, effect in COMPARISONS:
        for i, finding in enumerate(f for f in found[claim] if f.scale == Scale.PAPER):  # of equal batch sizes
            estimate = finding.verdict.effects.get(effect)
            known = estimate if estimate and estimate.n else Estimate(math.nan, math.nan, math.nan, 0, "")
            groups.setdefault(title, {})[label(finding)] = [Mark(known.of(GAP), min(i, 2))]
    drawn = tables.forest_table(Forest(GAP, groups), GAP.axis)
    links = [
        f'<a href="../notebooks/{name}.html">{found[name][0].claim.question}</a>'
        for name in dict.fromkeys(c for _, c, _ in COMPARISONS)
    ]
    title = "On MNIST, as many steps or longer ones win most of the loss back" if _is_budget(found) else GAP.axis
    return (
        f'<figure class="plot hero"><figcaption><p class="title">{title}</p><p>{GAP.axis}. Green: the margin named '
        f"beforehand for “no difference” on 10,000 test images.</p></figcaption>{drawn}<p class='note'>Means over "
        f"paired seeds, 95 % t intervals; –: not run yet. From {' and '.join(links)}</p></figure>"
    )


def _advice(found: Found) -> str:
    """What every chapter advises that has evidence to show for it."""
    rows = "".join(
        f"<li><b>{html.escape(fs[0].claim.advice[0])}</b> {html.escape(fs[0].claim.advice[1])} <a "
        f'href="../notebooks/{name}.html">Why<span class="hidden">: {html.escape(fs[0].claim.question)}</span></a></li>'
        for name, fs in found.items()
        if is_advised(fs)
    )
    return f'<ul class="advice">{rows}</ul>'


def _board(found: Found) -> str:
    """Questions with their answers on the main dataset, and a verdict for every dataset."""
    columns = list(dict.fromkeys((f.scale, f.dataset) for fs in found.values() for f in fs if f.dataset != BOTH))
    columns.sort(key=lambda column: column[0] != Scale.PAPER)
    names = [DATASET_NAMES[d] if s == Scale.PAPER else str(s) for s, d in columns]
    rows = []
    for name, fs in found.items():
        cells = {(f.scale, d): _cell(f) for f in fs for d in f.datasets}
        question = f'<a href="../notebooks/{name}.html">{html.escape(fs[0].claim.question)}</a>'
        rows.append([f"{question}<br><small>{unbroken(answer(fs[0]))}</small>", *(cells.get(c, "–") for c in columns)])
    header = [f"question, and the answer on {names[0]}", *names]
    return tables.table(header, rows, "Claims and verdicts", kind="rows board")


def _cell(finding: Finding) -> str:
    together = "both together, " if finding.dataset == BOTH else ""
    return f"{badge(outcome(finding))} <small>{together}{progress(finding)}</small>"


def _status(found: Found, seconds: Mapping[str, float]) -> str:
    rows = []
    for name, fs in found.items():
        told = "<br>".join(f"<b>{html.escape(label(f))}.</b> {html.escape(origin(f))}" for f in fs)
        took = f"{seconds[name]:.0f} s" if name in seconds else "–"
        rows.append([html.escape(fs[0].claim.question), told, took])
    return raw(
        tables.table(["chapter", "trials and versions", "its notebook ran in"], rows, "What every chapter rests on")
    )
