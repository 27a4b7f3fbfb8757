"""The frame around a page: what it loads and tells machines, and how it mends a body."""

import importlib.util
import json
import re
import sys
from dataclasses import replace

import pytest
import yaml
from bs4 import BeautifulSoup

from repro.runs.provenance import PROJECT

_spec = importlib.util.spec_from_file_location("shell", PROJECT / "book" / "_ext" / "shell.py")
shell = sys.modules["shell"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(shell)

TOC = yaml.safe_load((PROJECT / "_toc.yml").read_text())
PAGES = [TOC["root"], *(c["file"] for part in TOC["parts"] for c in part["chapters"])]


def read(site, name):
    return BeautifulSoup((site / f"{name}.html").read_text(encoding="utf-8"), "html.parser")


def test_the_kicker_of_a_cell_stands_before_the_title():
    body = (
        '<section id="a">\n<h1>Title</h1>\n<div class="cell"><p class="kick">Claim 1</p>\n<p class="deck">No.</p></div>'
    )
    lifted = shell.lift_kicker(body)
    assert lifted.startswith('<section id="a">\n<p class="kick">Claim 1</p>\n<h1>Title</h1>')
    assert lifted.count("Claim 1") == 1
    assert shell.lift_kicker("<h1>Title</h1>") == "<h1>Title</h1>"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            '<section><p>First.</p><div><p class="deck">The <b>answer</b>\n is 2.</p></div></section>',
            "The answer is 2.",
        ),
        ('<section><p class="kick">Claim 1</p><h1>Title</h1><p>First.</p></section>', "First."),
        ("<h1>Title</h1>", ""),
        (f'<p class="deck">{"word " * 100}</p>', f"{'word ' * 60}".strip()[: shell.DESCRIPTION_LENGTH] + " …"),
    ],
    ids=["the deck", "else the first paragraph", "nothing", "shortened at a word"],
)
def test_a_page_is_described_by_its_answer(body, said):
    assert shell.describe(body) == said


@pytest.fixture
def card():
    return shell.Card('A "title"', "1 < 2 </script>", "Book", "Us", "2026", is_chapter=True)


def test_what_is_told_to_machines_is_escaped(card):
    soup = BeautifulSoup(card.tags(), "html.parser")
    assert soup.find("meta", attrs={"name": "description"})["content"] == card.description
    assert soup.find("meta", attrs={"name": "citation_title"})["content"] == card.title
    assert json.loads(soup.find("script").string)["description"] == card.description
    assert len(soup.find_all("script")) == 1


def test_addresses_are_told_only_where_the_book_has_one(card):
    assert "url" not in card.tags() and "image" not in card.tags()
    told = replace(card, url="u.html", image="c.png").tags()
    for tag in ('"og:url" content="u.html"', '"og:image" content="c.png"', '"citation_public_url" content="u.html"'):
        assert tag in told


@pytest.mark.parametrize("name", PAGES)
def test_a_page_tells_machines_what_it_says(site, name):
    page = read(site, name)
    said = page.find("meta", attrs={"name": "description"})["content"]
    assert said
    deck = page.select_one("article .deck")
    if deck:
        assert " ".join(deck.get_text().split()).startswith(said.removesuffix(" …"))
    assert page.find("meta", property="og:description")["content"] == said
    data = json.loads(page.find("script", type="application/ld+json").string)
    is_chapter = name.startswith("notebooks/")
    assert data["@type"] == ("ScholarlyArticle" if is_chapter else "WebPage")
    assert bool(page.find("meta", attrs={"name": "citation_title"})) == is_chapter
    assert not page.find("link", rel="canonical"), "the book has no address of its own"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_one_title_and_loads_what_it_uses(site, name):
    page = read(site, name)
    assert len(page.find_all("h1")) == 1
    loaded = " ".join(tag.get("src") or tag.get("href") or "" for tag in page.select("script, link[rel=stylesheet]"))
    assert bool(re.search("sphinx-design", loaded)) == bool(page.select("[class^=sd-], [class*=' sd-']"))
    for gone in ("fontawesome", "thebe", "bootstrap"):
        assert gone not in str(page.head) and gone not in loaded
    assert "THEBE_JS_URL" not in str(page)
