"""Sphinx extension: the frame around a page. What it loads, what it tells machines, and what axe objects to in its body.

The frame itself is `_templates/layout.html`, its looks `_static/shell.css`.
"""

import html
import json
import re
from collections.abc import Iterable
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


def card(
    title: str, description: str, book: str, author: str, year: str, is_chapter: bool, url: str | None, image: str | None
) -> str:
    """Tags of the page's head for search engines, social cards and reference managers."""
    names = {"description": description, "twitter:card": "summary_large_image" if image else "summary"}
    if is_chapter:
        names |= {"citation_title": title, "citation_author": author, "citation_publication_date": year}
        names |= {"citation_inbook_title": book, "citation_language": "en"}
        names |= {"citation_public_url": url} if url else {}
    properties = {"og:type": "article" if is_chapter else "website", "og:site_name": book, "og:title": title}
    properties |= {"og:description": description, "og:url": url, "og:image": image}
    data = {
        "@context": "https://schema.org",
        "@type": "ScholarlyArticle" if is_chapter else "WebPage",
        "headline" if is_chapter else "name": title,
        "description": description,
        "author": {"@type": "Organization", "name": author},
        "datePublished": year,
        "inLanguage": "en",
        "isPartOf": {"@type": "Book", "name": book},
        "url": url,
        "image": image,
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
    return re.sub(r'<p class="caption" role="heading" aria-level="\d"><span.*?>(.*?)</span></p>', r"<p>\1</p>", tree)


def links(buttons: Iterable[Any]) -> list[dict[str, str]]:
    """Those of the theme's buttons that lead off the site: there are none without a repository."""
    flat = [b for button in buttons for b in button.get("buttons", [button])]
    return [
        {"url": b["url"], "text": b.get("text") or b["tooltip"]} for b in flat if b.get("url", "").startswith("http")
    ]


def frame(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document) -> None:
    body = lift_kicker(mend(context.get("body") or ""))
    context["body"] = body
    for kind in ("css_files", "script_files"):
        context[kind] = [asset for asset in context[kind] if is_loaded(asset, body)]
    soup = BeautifulSoup(str(context.get("toc") or ""), "html.parser")
    sections = [(a["href"][1:], a.get_text()) for a in soup.select("ul > li > ul > li > a") if a["href"] != "#"]
    top = {i for i, _ in sections if f'<section id="{i}">\n<h2' in body}
    tree = context["toctree"](collapse=True, titles_only=True, includehidden=True, maxdepth=1)
    context["contents"] = contents(str(tree or ""), [s for s in sections if s[0] in top])
    context["repository_links"] = links(context.get("header_buttons", []))

    title = BeautifulSoup(str(context.get("title") or "Search"), "html.parser").get_text()
    base = app.config.html_baseurl.rstrip("/")
    context["said_to_machines"] = card(
        title,
        describe(body),
        app.config.html_title,
        app.config.author,
        str(app.config.copyright),
        pagename.startswith("notebooks/"),
        context.get("pageurl") if base else None,
        f"{base}/_static/card.png" if base else None,
    )


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_js_file("shell.js", priority=100)
    app.add_css_file("shell.css", priority=400)  # after the extensions, before the book
    app.connect("html-page-context", frame, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
