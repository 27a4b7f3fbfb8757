"""What to do, in five rules: the book's practical answer, each rule with the verdicts it stands on."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from IPython.display import HTML

from repro import claims
from repro.claims import Finding
from repro.claims.linear_scaling.judgement import ROOT
from repro.claims.sharp_minima.judgement import PREDICTS
from repro.claims.steps_to_target.judgement import OPPOSITE
from repro.evidence.spec import Outcome, Scale, Verdict
from repro.publish.chapter import label
from repro.publish.tables import badge
from repro.runs.ledger import Ledger

HELD = (Outcome.REPRODUCED, Outcome.CONDITIONAL)
UNSHOWN = (Outcome.INCONCLUSIVE, Outcome.NOT_REPRODUCED)


@dataclass(frozen=True)
class Evidence:
    """A claim, or a part of one, and the outcomes with which a rule stands."""

    claim: str
    outcomes: tuple[Outcome, ...]
    part: str = ""

    def verdict(self, finding: Finding) -> Verdict:
        """The part's; inconclusive where the claim's judge did not come to it."""
        if not self.part:
            return finding.verdict
        return finding.verdict.parts.get(self.part, Verdict(Outcome.INCONCLUSIVE, "Not judged."))


@dataclass(frozen=True)
class Rule:
    what: str
    why: str
    evidence: tuple[Evidence, ...]


RULES = (
    Rule(
        "Count steps, not epochs.",
        "A batch k times as large takes a k-th of the steps in as many epochs, and it is those that it lacks: given as "
        "many, it tests as well.",
        # at equal steps too would be "reproduced"
        (Evidence("generalization-gap", (Outcome.CONDITIONAL,)), Evidence("steps-to-target", HELD, OPPOSITE)),
    ),
    Rule(
        "Double the batch while that halves the steps; stop when it no longer does.",
        "Beyond that, a larger batch sees more examples to get as far, and is worth it only where the machine has "
        "nothing else to do.",
        (Evidence("steps-to-target", HELD), Evidence("noise-scale", HELD)),
    ),
    Rule(
        "Measure where that is, and what a step takes.",
        "The gradient's noise tells the one to an order of magnitude in a minute, a stopwatch the other: "
        "repro.advise, below, does both.",
        (Evidence("noise-scale", HELD), Evidence("what-batch-size", HELD)),
    ),
    Rule(
        "Move the learning rate with the batch size; then tune it.",
        "In proportion for SGD while batches are small, as the square root for Adam: a place to start from.",
        (Evidence("linear-scaling", HELD), Evidence("linear-scaling", HELD, ROOT)),
    ),
    Rule(
        "Do not choose a batch size for its flat minima, or its light tails.",
        "Large batches do end in sharper minima, but that these test worse is not shown; and what is heavy about their "
        "gradients' tails hangs on how they are counted.",
        (
            Evidence("sharp-minima", HELD),
            Evidence("sharp-minima", UNSHOWN, PREDICTS),
            Evidence("heavy-tails", (*UNSHOWN, Outcome.CONDITIONAL)),
        ),
    ),
)


Found = Mapping[str, Sequence[Finding]]  # by claim, one a dataset, the main one first


def find(ledger: Ledger) -> Found:
    """What is recorded of every claim that a rule rests on."""
    names = dict.fromkeys(e.claim for rule in RULES for e in rule.evidence)
    return {name: list(claims.findings(claims.get(name), Scale.PAPER, ledger)) for name in names}


def stands(rule: Rule, found: Found) -> bool:
    """Whether all that a rule rests on came out, on the main datasets, as it must for the rule to hold."""
    return all(e.verdict(found[e.claim][0]).outcome in e.outcomes for e in rule.evidence)


def _told(rule: Rule, found: Found) -> str:
    links = []
    for e in rule.evidence:
        claim = claims.get(e.claim)
        marks = ", ".join(f"{badge(e.verdict(f).outcome)} {html.escape(label(f))}" for f in found[e.claim])
        part = f" {html.escape(e.part)}:" if e.part else ""
        links.append(f'<a href="{claim.id}.html">{html.escape(claim.question)}</a>{part} {marks}')
    doubt = "" if stands(rule, found) else "<em>Not settled here yet.</em> "
    below = "<br>".join(links)
    return f"<li><b>{html.escape(rule.what)}</b> {doubt}{html.escape(rule.why)}<br><small>{below}</small></li>"


def show() -> HTML:
    """The rules, each with what it stands on and how that came out."""
    found = find(Ledger())
    return HTML(f'<ol class="practice">{"".join(_told(rule, found) for rule in RULES)}</ol>')
