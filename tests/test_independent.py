"""The headline of every page against a second implementation: to the digit, and no number left unexplained.

`independent` reads the recorded tables itself and imports nothing of the package. Bootstrap intervals are made by scipy
there too, with as many resamples by the same generator (0): only so can their digits agree. How far those digits
are luck is another question, which this test does not ask.
"""

import ast
import dataclasses
import functools
import re
import sys
from pathlib import Path

import independent
import independent_statistics
import independent_steps
import numpy as np
import pytest
from independent_statistics import Printed

from repro import claims
from repro.evidence import intervals
from repro.evidence.spec import Scale
from repro.evidence.tables import MET, MISSED, NOT_RUN, NOT_TESTABLE, TOO_WIDE
from repro.publish import chapter
from repro.runs.ledger import Ledger
from repro.runs.provenance import PROJECT

RECORDED = PROJECT / "results"
PAGES = {(c.id, s["dataset"]): c for c in claims.all_claims().values() for s in c.settings[Scale.PAPER]}
FIRST = {c.id: c.settings[Scale.PAPER][0]["dataset"] for c in claims.all_claims().values()}  # printed numbers are of it


@functools.cache
def page(claim: str, dataset: str) -> claims.Finding:
    return claims.find(PAGES[claim, dataset], "paper", Ledger(Path("nowhere"), RECORDED), dataset=dataset)


@functools.cache
def rows(*datasets: str):
    return recorded()[recorded()["dataset"].isin(datasets)]


recorded = functools.cache(lambda: independent_statistics.read(RECORDED))


def printed(claim: str) -> list[Printed]:
    names = ("printed", "where", "column", "factor", "logarithmic", "again", "most")
    return [Printed(*(getattr(number, name) for name in names)) for number in PAGES[claim, FIRST[claim]].published]


@functools.cache
def again(claim: str, dataset: str) -> independent.Found:
    return independent.CHAPTERS[claim](rows(*page(claim, dataset).datasets), dataset, printed(claim))


def differences(headline: str, phrases: list[str]) -> list[str]:
    """Phrases that a headline lacks, in their order and as whole numbers; then what it says besides with a number."""
    missing, besides, start = [], "", 0
    for phrase in phrases:
        found = re.compile(rf"(?<![\w.,+−-]){re.escape(phrase)}(?!\w|[.,]\d)").search(headline, start)
        if found:
            besides += headline[start : found.start()] + "…"
            start = found.end()
        else:
            missing.append(phrase)
    besides += headline[start:]
    return missing + ([besides] if re.search(r"(?<!\w)\d", besides) else [])  # not that of "bfloat16"


@pytest.mark.parametrize(("claim", "dataset"), PAGES)
def test_headline_is_reproduced_to_the_digit(claim, dataset):
    if not page(claim, dataset).whole:
        pytest.skip(f"not every trial of {claim} is recorded on {dataset}: its headline says so, and no more")
    found, headline = again(claim, dataset), chapter.answer(page(claim, dataset))
    assert found.outcome == page(claim, dataset).verdict.outcome
    assert found.outcome == independent.OPEN or not headline.startswith("Not settled")
    if found.phrases is None:
        assert headline.startswith("Not settled")
        pytest.skip(f"too few trials of {claim} are recorded on {dataset}: {headline}")
    assert differences(headline, found.phrases) == []
    if not found.phrases:
        pytest.skip(f"the headline of {claim} on {dataset} has no number: {headline}")


@pytest.mark.parametrize("claim", FIRST)
def test_published_numbers_met_are_as_many(claim):
    if not page(claim, FIRST[claim]).whole:
        pytest.skip(f"not every trial of {claim} is recorded: its published numbers are compared with nothing yet")
    outcomes = [c.outcome for c in page(claim, FIRST[claim]).published]
    if not outcomes:
        pytest.skip(f"the source of {claim} prints no number")
    counted = independent_statistics.tally(printed(claim), again(claim, FIRST[claim]).arms)
    assert counted == {
        name: outcomes.count(name) for name in (MET, MISSED, TOO_WIDE, NOT_TESTABLE, NOT_RUN)
    }  # as `repro list`


def test_every_chapter_has_a_second_implementation_that_uses_nothing_of_the_package():
    assert set(independent.CHAPTERS) == set(claims.all_claims())
    for module in (independent, independent_statistics, independent_steps):
        for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8"))):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert {name.partition(".")[0] for name in names} <= {
                *sys.stdlib_module_names,
                "numpy",
                "pandas",
                "scipy",
                "independent_statistics",
                "independent_steps",
            }


def test_a_changed_value_is_noticed():
    """One recorded test accuracy, 0.4 points higher."""
    claim, dataset = "generalization-gap", "mnist"
    headline, changed = chapter.answer(page(claim, dataset)), rows(dataset).copy()
    one = changed["final"] & (changed["batch_size"] == 1024) & (changed["epochs"] == 30) & (changed["init_seed"] == 0)
    changed.loc[one & (changed["lr"] == 0.01), "test_accuracy"] += 0.004
    assert differences(headline, again(claim, dataset).phrases) == []
    assert differences(headline, independent.CHAPTERS[claim](changed, dataset, []).phrases)


@pytest.mark.parametrize(
    ("claim", "dataset"), [("generalization-gap", "mnist"), ("adam-drift", "fashion-mnist"), ("heavy-tails", "mnist")]
)
def test_a_wrong_interval_is_noticed(claim, dataset, monkeypatch):
    """The normal distribution's quantile in place of Student's."""

    def narrow(values, spread, level):
        mean, half = values.mean(), 1.96 * spread * values.std(ddof=1) if len(values) > 1 else np.inf
        return float(mean - half), float(mean + half)

    phrases = again(claim, dataset).phrases
    assert differences(chapter.answer(page(claim, dataset)), phrases) == []
    monkeypatch.setattr(intervals, "_t_interval", narrow)
    judged_anew = dataclasses.replace(page(claim, dataset))
    assert differences(chapter.answer(judged_anew), phrases)


def test_numbers_are_compared_whole_and_in_order():
    headline = "At B = 1024 it loses 12.8 points (2.61 to 2.99)."
    assert differences(headline, ["At B = 1024", "12.8 points (2.61 to 2.99)"]) == []
    assert differences(headline, ["At B = 1024", "2.8 points"]) != []
    assert differences(headline, ["12.8 points (2.61 to 2.99)", "B = 1024"]) != []
    assert differences(headline, ["12.8 points (2.61 to 2.99)"]) == ["At B = 1024 it loses …."]
    assert differences("Half the bits do, in bfloat16.", []) == []
