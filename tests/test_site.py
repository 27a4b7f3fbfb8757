"""The real book, built at smoke scale: what a reader would meet on its pages."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from repro import claims
from repro.advice.adviser import RECORD
from repro.publish import book
from repro.publish.chapter import answer
from repro.runs.ledger import Ledger
from repro.runs.provenance import PROJECT

TOC = yaml.safe_load((PROJECT / "_toc.yml").read_text())
PAGES = [TOC["root"], *(c["file"] for part in TOC["parts"] for c in part["chapters"])]
CHAPTERS = [p for p in PAGES if p.startswith("notebooks/")]


class Page(HTMLParser):
    """Links, images and visible text of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.images, self.ids, self.text, self._hidden = [], [], set(), [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if "id" in attrs:
            self.ids.add(attrs["id"])
        if tag == "a" and attrs.get("href"):
            self.links.append(attrs["href"])
        if tag == "img":
            self.images.append(attrs)
        self._hidden += tag in ("script", "style", "pre")

    def handle_endtag(self, tag):
        self._hidden -= tag in ("script", "style", "pre")

    def handle_data(self, data):
        if not self._hidden:
            self.text.append(data)


def page(site: Path, name: str) -> Page:
    return Page((site / f"{name}.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", PAGES)
def test_page(site, name):
    it = page(site, name)
    text = " ".join(it.text)
    for bad in ("Traceback", "nan [", " nan", "inf]", "None", str(PROJECT), "{cite", "{{", "\\("):
        assert bad not in text, bad
    for image in it.images:
        assert image.get("alt"), image.get("src", "")[:60]


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(site, name):
    it = page(site, name)
    for link in it.links:
        parts = urlsplit(link)
        if parts.scheme in ("http", "https", "data", "mailto"):
            assert "github.com" not in link or "sphinx" in link or "executablebooks" in link, "no invented addresses"
            continue
        target = (site / name).parent / unquote(parts.path) if parts.path else site / f"{name}.html"
        assert target.exists(), link
        if parts.fragment and target.suffix == ".html":
            ids = it.ids if not parts.path else Page(target.read_text(encoding="utf-8")).ids
            assert unquote(parts.fragment) in ids, link


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_shows_verdict_rule_numbers_and_where_they_come_from(site, name):
    text = " ".join(" ".join(page(site, name).text).split())
    claim = claims.get(Path(name).name)
    assert claim.question in text
    assert " ".join(claim.rule.split()) in text
    for number in claim.published:
        assert number.name in text
    assert re.search(r"\d+ of \d+ trials run|\d+ trials,", text)


def test_the_landing_page_asks_every_question_and_gives_its_verdict(site):
    text = " ".join(" ".join(page(site, "book/index").text).split())
    for claim in claims.all_claims().values():
        finding = next(iter(claims.findings(claim, "paper", Ledger())))
        verdict = finding.verdict.outcome if finding.num_finished else "not run"
        told = " ".join(answer(finding).split())
        assert claim.question in text
        assert re.match(f"[●◐○✕–] {verdict} ", text[text.rindex(told) + len(told) :].strip()), claim.id


def test_no_launch_or_edit_button_without_a_repository(site):
    text = (site / f"{CHAPTERS[0]}.html").read_text(encoding="utf-8")
    assert "colab" not in text
    assert "btn-source-edit-button" not in text


def test_no_page_needs_another_host_to_be_read(site):
    """Scripts and styles come with the site; math is MathML."""
    for name in PAGES:
        text = (site / f"{name}.html").read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', text)
    assert "<math" in (site / "book" / "verdicts.html").read_text(encoding="utf-8")


def test_committed_fragments_are_what_the_recorded_ledger_gives(tmp_path):
    book.write_fragments(tmp_path, Ledger(working=tmp_path / "none"))
    for path in tmp_path.glob("*.md"):
        committed = PROJECT / "book" / "_generated" / path.name
        assert committed.read_text() == path.read_text(), "run 'make notebooks' and commit what it changes"
    known = json.loads(RECORD.read_text()) if RECORD.is_file() else {}
    assert known == book.adviser_record(Ledger(working=tmp_path / "none"))
