"""Where each sentence is judged: what the sources say, word for word, with the verdict on it and its chapter."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import yaml

from repro import claims
from repro.claims import Finding
from repro.evidence.sources import NAMES
from repro.evidence.spec import Outcome
from repro.names import DATASET_NAMES
from repro.publish.tables import badge, table
from repro.runs.provenance import PROJECT

SOURCES = PROJECT / "book" / "sources.yml"
# What no chapter judges, by its first words, and why.
UNJUDGED: Mapping[str, str] = {
    "this is due to the inherent noise": "A cause. Chapters measure what noise does; none could show that it is the "
    "cause.",
    "The networks were trained, without any budget": "How it was done, not a finding.",
    "The idea is to prevent co-adaptation": "A reason for dropout, which says nothing that could be measured here.",
}


def said() -> dict[str, list[str]]:
    """Every sentence of the sources, by citation key."""
    found: dict[str, list[str]] = yaml.safe_load(SOURCES.read_text(encoding="utf-8"))
    return found


def judged(sentence: str) -> list[tuple[str, tuple[str, ...]]]:
    """The claims that judge a sentence, and by which parts of their verdicts."""
    return [
        (claim.id, parts)
        for claim in claims.all_claims().values()
        for start, parts in claim.sentences.items()
        if sentence.startswith(start)
    ]


def _verdicts(found: Sequence[Finding], parts: tuple[str, ...]) -> str:
    """Badges, a line a part, each for every dataset that it was judged on."""
    lines = []
    for part in parts or ("",):
        outcomes = []
        for f in found:
            verdict = f.verdict.parts.get(part) if part else f.verdict
            outcome = verdict.outcome if verdict else Outcome.INCONCLUSIVE  # not run: not judged apart yet
            outcomes.append(f"{badge(outcome)} {html.escape(DATASET_NAMES[f.dataset])}")
        told = f"{html.escape(part)}: " if part else ""
        lines.append(told + "; ".join(outcomes))
    return "<br>".join(lines)


def fragment(found: Mapping[str, Sequence[Finding]]) -> str:
    """The page's generated part: a table a source. `found`: at paper scale, by claim."""
    out = []
    for key, sentences in said().items():
        rows = []
        for sentence in sentences:
            where = judged(sentence)
            why = next((why for start, why in UNJUDGED.items() if sentence.startswith(start)), "")
            verdicts = "<br>".join(_verdicts(found[name], parts) for name, parts in where) or html.escape(why)
            links = "<br>".join(
                f'<a href="../notebooks/{name}.html">{html.escape(found[name][0].claim.question)}</a>'
                for name, _ in where
            )
            rows.append([f"“{html.escape(sentence)}”", verdicts, links or "–"])
        told = table(["sentence", "verdict", "chapter"], rows, f"What {NAMES[key]} says, and the verdicts on it")
        out.append(f"## {NAMES[key][0].upper()}{NAMES[key][1:]}\n\n```{{raw}} html\n{told}\n```\n")
    return "\n".join(out)
