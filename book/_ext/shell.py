"""Sphinx extension: the frame around a page. What it loads, what it tells machines, and repairs that axe asks for.

The frame itself is `_templates/layout.html`, its looks `_static/shell.css`.
"""

import html
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bs4 import BeautifulSoup
from docutils import nodes
from sphinx.application import Sphinx

# Files of the theme and of extensions that no page needs: the frame has its own
DROPPED = re.compile(
    r"styles/sphinx-book-theme\.css|scripts/sphinx-book-theme\.js|sphinx-thebe\.|mystnb\.|copybutton\.|clipboard\."
    r"|documentation_options\.js|doctools\.js|sphinx_highlight\.js"
)
# Files that a page loads only where its body matches
NEEDED_BY = {
    "pygments.css": r'class="highlight"',
    "sphinx-design.": r'class="[^"]*\bsd-',
    "design-tabs.": r'class="[^"]*\bsd-tab',
    "togglebutton.": r'class="[^"]*\b(?:toggle|dropdown)\b',
}
# A section of a page: its anchor and its heading
SECTION = re.compile(r'<section id="([^"]+)">\n(?:<span[^>]*></span>)*<h2>(.*?)<a class="headerlink"', re.DOTALL)
DESCRIPTION_LENGTH = 300


def is_loaded(asset: Any, body: str) -> bool:
    """Whether a page with this body loads the script or style sheet. Scripts without a file configure dropped ones."""
    name = str(getattr(asset, "filename", asset) or "").removeprefix("_static/")
    if not name:
        return "toggle" in str(getattr(asset, "attributes", {}).get("body", "")) and is_loaded("togglebutton.js", body)
    if DROPPED.match(name):
        return False
    return all(re.search(pattern, body) for prefix, pattern in NEEDED_BY.items() if name.startswith(prefix))


def mend(body: str) -> str:
    """Body without what Thebe left, and without the roles and labels that axe reports."""
    body = re.sub(r'<script type="text/x-thebe-config">.*?</script>', "", body, flags=re.DOTALL)
    body = re.sub(r"<script>kernelName = .*?</script>", "", body)
    body = body.replace('<summary aria-label="Toggle hidden content">', "<summary>")  # it hides the name that is seen
    # A list without list items, of entries whose role is out of use
    body = body.replace('<div role="list" class="citation-list">', '<div class="citation-list">')
    return body.replace(' role="doc-biblioentry"', "")


def lift_kicker(body: str) -> str:
    """Body with its kicker, `<p class="kick">`, right before its title, wherever a cell put it."""
    found = re.search(r'<p class="kick">.*?</p>\s*', body, flags=re.DOTALL)
    if not found:
        return body
    rest = body[: found.start()] + body[found.end() :]
    return rest.replace("<h1>", f"{found.group().strip()}\n<h1>", 1)


def describe(body: str) -> str:
    """The page's answer as plain text: what has class `deck`, else its first paragraph."""
    soup = BeautifulSoup(body, "html.parser")
    found = soup.select_one(".deck") or soup.select_one("section > p:not(.kick)")
    text = " ".join(found.get_text().split()) if found else ""
    if len(text) > DESCRIPTION_LENGTH:
        text = text[:DESCRIPTION_LENGTH].rsplit(" ", 1)[0].rstrip(",;:") + " …"
    return text


@dataclass(frozen=True)
class Card:
    """What a page says of itself to search engines, social networks and reference managers."""

    title: str
    description: str
    book: str
    author: str
    year: str
    is_chapter: bool
    url: str | None = None
    image: str | None = None

    def tags(self) -> str:
        """For the page's head. What is not known is left out."""
        names = {
            "description": self.description,
            "twitter:card": "summary_large_image" if self.image else "summary",
        }
        if self.is_chapter:
            names |= {"citation_title": self.title, "citation_author": self.author}
            names |= {"citation_publication_date": self.year, "citation_inbook_title": self.book}
            names |= {"citation_language": "en", "citation_public_url": self.url}
        properties = {
            "og:type": "article" if self.is_chapter else "website",
            "og:site_name": self.book,
            "og:title": self.title,
            "og:description": self.description,
            "og:url": self.url,
            "og:image": self.image,
        }
        data = {
            "@context": "https://schema.org",
            "@type": "ScholarlyArticle" if self.is_chapter else "WebPage",
            "headline" if self.is_chapter else "name": self.title,
            "description": self.description,
            "author": {"@type": "Organization", "name": self.author},
            "datePublished": self.year,
            "inLanguage": "en",
            "isPartOf": {"@type": "Book", "name": self.book},
            "url": self.url,
            "image": self.image,
        }
        tags = [f'<meta name="{n}" content="{html.escape(v)}">' for n, v in names.items() if v]
        tags += [f'<meta property="{p}" content="{html.escape(v)}">' for p, v in properties.items() if v]
        told = json.dumps({k: v for k, v in data.items() if v}, ensure_ascii=False).replace("<", "\\u003c")
        return "\n".join([*tags, f'<script type="application/ld+json">{told}</script>'])


def contents(tree: str, sections: Iterable[tuple[str, str]]) -> str:
    """The book's contents, with the sections of the current page under its entry."""
    items = "".join(f'<li><a href="#{html.escape(i)}">{html.escape(t)}</a></li>' for i, t in sections)
    current = re.compile(r'<a class="current reference internal" href="#">(.*?)</a>', re.DOTALL)
    under = f"<ul>{items}</ul>" if items else ""
    tree = current.sub(lambda m: f'<a class="current" aria-current="page" href="#">{m.group(1)}</a>{under}', tree)
    return re.sub(r'<p [^>]*role="heading"[^>]*><span[^>]*>(.*?)</span></p>', r"<p>\1</p>", tree)  # before the title


def links(buttons: Iterable[Any]) -> list[dict[str, str]]:
    """Those of the theme's buttons that lead off the site: there are none without a repository."""
    flat = [b for button in buttons for b in button.get("buttons", [button])]
    return [
        {"url": b["url"], "text": b.get("text") or b["tooltip"]} for b in flat if b.get("url", "").startswith("http")
    ]


def frame(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Put into a page's context what the frame shows."""
    body = context["body"] = lift_kicker(mend(context.get("body") or ""))
    for kind in ("css_files", "script_files"):
        context[kind] = [asset for asset in context[kind] if is_loaded(asset, body)]
    tree = context["toctree"](collapse=True, titles_only=True, includehidden=True, maxdepth=1)
    sections = [(i, BeautifulSoup(t, "html.parser").get_text()) for i, t in SECTION.findall(body)]
    context["contents"] = contents(str(tree or ""), sections)
    context["repository_links"] = links(context.get("header_buttons", []))
    if doctree is None:  # the search page, which says nothing
        return
    config = app.config
    title = BeautifulSoup(context["title"], "html.parser").get_text()
    base = config.html_baseurl.rstrip("/")
    context["said_to_machines"] = Card(
        title=title,
        description=describe(body) or f"{title}, in {config.html_title}",
        book=config.html_title,
        author=config.author,
        year=config.copyright,
        is_chapter=page.startswith("notebooks/"),
        url=context.get("pageurl") if base else None,
        image=f"{base}/_static/card.png" if base else None,
    ).tags()


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_js_file("shell.js", priority=100)
    app.add_css_file("shell.css", priority=400)  # after the extensions, before the book
    app.connect("html-page-context", frame, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
