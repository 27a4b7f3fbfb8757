"""Where each sentence is judged: what the sources say, word for word, with the verdict on it and its chapter."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import yaml

from repro import claims
from repro.claims import Finding
from repro.evidence.sources import NAMES
from repro.evidence.spec import Judged, Outcome
from repro.evidence.tables import NOT_RUN
from repro.names import DATASET_NAMES
from repro.publish.tables import badge, table
from repro.runs.provenance import PROJECT

SOURCES = PROJECT / "book" / "sources.yml"
CONTRARY = {Outcome.REPRODUCED: Outcome.NOT_REPRODUCED, Outcome.NOT_REPRODUCED: Outcome.REPRODUCED}
# What no chapter judges, by its first words, and why.
UNJUDGED: Mapping[str, str] = {
    "The stochastic gradient descent (SGD) method": "What is used, not a finding.",
    "These methods operate in a small-batch regime": "How it is done, not a finding.",
    "this is due to the inherent noise": "A cause. Chapters measure what noise does; none tests whether it is the "
    "cause.",
    "The networks were trained, without any budget": "How it was done, not a finding.",
    "The idea is to prevent co-adaptation": "A reason for dropout, which says nothing that could be measured here.",
}


def said() -> dict[str, list[str]]:
    """Every sentence of the sources, by citation key."""
    found: dict[str, list[str]] = yaml.safe_load(SOURCES.read_text(encoding="utf-8"))
    return found


def judged(sentence: str) -> list[tuple[str, list[Judged]]]:
    """The claims that judge a sentence, and by what."""
    return [
        (claim.id, [by if isinstance(by, Judged) else Judged(by, by) for by in parts or (Judged(),)])
        for claim in claims.all_claims().values()
        for start, parts in claim.sentences.items()
        if sentence.startswith(start)
    ]


def _outcome(finding: Finding, by: Judged) -> str:
    """What is found of a sentence."""
    verdict = finding.verdict.parts.get(by.part) if by.part else finding.verdict
    if not finding.num_finished or not verdict:
        return NOT_RUN
    return str(CONTRARY.get(verdict.outcome, verdict.outcome) if by.contrary else verdict.outcome)


def _verdicts(found: Sequence[Finding], judges: Sequence[Judged]) -> str:
    """Of each judge a badge an outcome, a line each, with the datasets that it was found on."""
    told = ""
    for by in judges:
        lines = [f"{html.escape(by.words)}:"] if by.words else []
        for outcome in dict.fromkeys(_outcome(f, by) for f in found):
            names = (DATASET_NAMES[f.dataset].replace("-", "‑") for f in found if _outcome(f, by) == outcome)
            lines.append(f"{badge(outcome)} {' and '.join(names)}")
        told += f"<div>{'<br>'.join(lines)}</div>"
    return told


def _link(finding: Finding, judges: Sequence[Judged]) -> str:
    """To the chapter; to its list of parts where they judge."""
    place = "#parts" if any(by.part for by in judges) else ""
    return f'<a href="../notebooks/{finding.claim.id}.html{place}">{html.escape(finding.claim.question)}</a>'


def fragment(found: Mapping[str, Sequence[Finding]]) -> str:
    """The page's generated part: a table a source. `found`: at paper scale, by claim."""
    out = []
    for key, sentences in said().items():
        rows = []
        for sentence in sentences:
            where = judged(sentence)
            why = next((why for start, why in UNJUDGED.items() if sentence.startswith(start)), "")
            verdicts = "".join(_verdicts(found[name], judges) for name, judges in where) or html.escape(why)
            links = "<br>".join(_link(found[name][0], judges) for name, judges in where)
            rows.append([f"“{html.escape(sentence)}”", verdicts, links or "–"])
        told = table(["sentence", "verdict", "chapter"], rows, f"Sentences of {NAMES[key]}", kind="rows judged")
        out.append(
            f"## {NAMES[key][0].upper()}{NAMES[key][1:]}\n\nSource: {{cite:t}}`{key}`\n\n```{{raw}} html\n{told}\n```\n"
        )
    return "\n".join(out)
