"""The built site in a browser: what a page loads, shows and complains about, on a phone and on a desk."""

import importlib.resources
import importlib.util
import itertools
import os
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from repro import claims
from repro.publish import explorer
from repro.publish.chapter import style
from repro.runs.ledger import Ledger
from repro.runs.provenance import PROJECT

TOC = yaml.safe_load((PROJECT / "_toc.yml").read_text())
PAGES = [TOC["root"], *(c["file"] for part in TOC["parts"] for c in part["chapters"])]
CHAPTERS = [p for p in PAGES if p.startswith("notebooks/")]
PHONE, DESK = (390, 844), (1400, 900)
# Every page in both themes and at both sizes; the two pairs, page by page in turn.
VIEWS = ((("light", DESK), ("dark", PHONE)), (("dark", DESK), ("light", PHONE)))
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WEIGHT = 1_000_000  # bytes, of everything that a page loads
TEXT = 14  # px, as rendered
BLOCKING = ("serious", "critical")

SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
AXE = (
    "options => axe.run(document, { resultTypes: ['violations'], preload: false, ...options }).then(r => r.violations)"
)
# Of what is inside a picture axe finds nothing wrong, for it is hidden from screen readers; but it is half of a page.
# And of neighbours that differ in their words and numbers alone, as rows of a table do, it need not see a third.
BARE = """() => {
    document.querySelectorAll("svg[aria-hidden] *").forEach(e => e.remove());
    for (const parent of document.querySelectorAll("article *")) {
        const seen = {};
        for (const child of [...parent.children]) {
            const shape = child.outerHTML.replace(/>[^<]+</g, ">x<").replace(/[\\d.]+/g, "");
            seen[shape] = (seen[shape] || 0) + 1;
            if (seen[shape] > 2) child.remove();
        }
    }
}"""
FIGURE_TEXT = """[...document.querySelectorAll("svg text")].filter(t => t.checkVisibility()).map(t => {
    const { a, b, c, d } = t.getScreenCTM();
    return [t.textContent.trim(), parseFloat(getComputedStyle(t).fontSize) * Math.sqrt(Math.abs(a * d - b * c))];
})"""


def missing() -> str | None:
    """What these tests lack here, if anything."""
    if not all(importlib.util.find_spec(name) for name in ("playwright", "axe_playwright_python")):
        return "Playwright and axe are not installed: make setup"
    if not any(map(shutil.which, BROWSERS)):
        return f"no browser: none of {', '.join(BROWSERS)} is on the PATH"
    return None


@pytest.fixture(scope="session")
def browser():
    if lack := missing():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(lack)
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, BROWSERS)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def reader(browser):
    """Opens a page as a reader would, without a network: reader(path, size, theme) -> page."""
    contexts = []

    def read(path: Path, size=DESK, theme="light", query="", **settings):
        width, height = size
        viewport = {"width": width, "height": height}
        context = browser.new_context(viewport=viewport, color_scheme=theme, offline=True, **settings)
        contexts.append(context)
        page = context.new_page()
        page.faults, page.loaded = [], set()
        page.on("request", lambda request: page.loaded.add(request.url))
        page.on("requestfailed", lambda request: page.faults.append(f"request failed: {request.url[:200]}"))
        page.on("pageerror", lambda error: page.faults.append(f"error: {error}"))
        page.on(
            "console",
            lambda said: page.faults.append(f"console: {said.text}") if said.type in ("error", "warning") else None,
        )
        page.goto(path.as_uri() + query)
        return page

    yield read
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def axe(browser):
    return importlib.resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


def axe_faults(page, axe: str, options=None) -> list[str]:
    """What axe finds serious on an open page, a line each; `options` are its own."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(axe)
    return [
        f"axe {v['id']} ({v['impact']}): {node['html'][:200]}"
        for v in page.evaluate(AXE, options or {})
        if v["impact"] in BLOCKING
        for node in v["nodes"]
    ]


def layout_faults(page) -> list[str]:
    """What does not fit or cannot be read at the page's present size, a line each."""
    small = [(text, size) for text, size in page.evaluate(FIGURE_TEXT) if text and size < TEXT - 0.05]
    faults = [f"figure text of {size:.1f} px: {text}" for text, size in small]
    if (wider := page.evaluate(SIDEWAYS)) > 0:
        faults.append(f"the page scrolls sideways, by {wider} px")
    return faults


def load_faults(page) -> list[str]:
    """What went wrong since the page was opened, a line each."""
    hosts = {url for url in page.loaded if urlsplit(url).scheme not in ("file", "data", "blob")}
    return page.faults + [f"request off the site: {url[:200]}" for url in sorted(hosts)]


def find_faults(page, axe: str) -> list[str]:
    """All that is wrong with an open page, a line each."""
    return axe_faults(page, axe) + layout_faults(page) + load_faults(page)


def weigh(page) -> int:
    """Bytes of everything the page loaded, itself included."""
    files = {Path(unquote(urlsplit(url).path)) for url in page.loaded if url.startswith("file:")}
    return sum(file.stat().st_size for file in files if file.is_file())


TWO_FRAMES = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


def turn(page, theme, size):
    """Until the page is as it is there: it looks at what scrolls once a frame of that size has been laid out."""
    page.emulate_media(color_scheme=theme)
    page.set_viewport_size(dict(zip(("width", "height"), size, strict=True)))
    page.wait_for_function(f"document.documentElement.dataset.theme === '{theme}' && innerWidth === {size[0]}")
    page.evaluate(TWO_FRAMES)


@pytest.mark.parametrize(("name", "views"), [*zip(PAGES, itertools.cycle(VIEWS))])
def test_a_page_is_sound(site, reader, axe, name, views):
    """Opened once, then seen on a desk and on a phone."""
    (theme, size), on_phone = views
    page, faults = reader(site / f"{name}.html", size, theme), {}
    faults[views[0]] = layout_faults(page)
    turn(page, *on_phone)
    faults[on_phone] = layout_faults(page)
    page.evaluate(BARE)
    faults[on_phone] += axe_faults(page, axe)
    turn(page, theme, size)
    faults[views[0]] += axe_faults(page, axe)
    assert {view: found for view, found in faults.items() if found} == {}
    assert load_faults(page) == []
    assert weigh(page) <= WEIGHT


PLANTED = {
    "request off the site": '<img src="https://example.org/picture.png" alt="A picture">',
    "axe image-alt": '<img src="../_static/favicon.svg">',
    "axe color-contrast": '<p style="color: #808080; background: #fff">Grey on white, 3.9 to 1</p>',
    "the page scrolls sideways": '<div style="width: 3000px">Wide</div>',
    "figure text of 6.2 px": '<svg viewBox="0 0 9 9" width="4" aria-hidden="true"><text font-size="14">a</text></svg>',
    "console": "<script>console.error('planted')</script>",
    "error": "<script>planted()</script>",
    "request failed": '<link rel="stylesheet" href="planted.css">',
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found(site, reader, axe, fault):
    sound = (site / "book" / "verdicts.html").read_text(encoding="utf-8")
    planted = site / "book" / "planted.html"
    planted.write_text(sound.replace("</article>", PLANTED[fault] + "</article>"), encoding="utf-8")
    try:
        assert any(line.startswith(fault) for line in find_faults(reader(planted), axe))
    finally:
        planted.unlink()


@pytest.mark.parametrize("name", CHAPTERS)
def test_title_answer_and_verdict_fit_a_phones_first_screen(site, reader, name):
    page = reader(site / f"{name}.html", PHONE, query="?data=mnist")  # what is published opens with it
    box = page.query_selector(".verdict:visible").bounding_box()
    assert box["y"] + box["height"] <= PHONE[1]
    claim = claims.get(Path(name).name)
    if not claims.find(claim, "paper", Ledger(), dataset="mnist").whole:
        pytest.skip("not all of it is recorded on MNIST, and half a sweep is not drawn")
    assert page.query_selector("figure.hero:visible").bounding_box()["y"] <= 2 * PHONE[1]


def test_nothing_stands_between_a_low_header_and_the_title_on_a_phone(site, reader):
    page = reader(site / f"{CHAPTERS[0]}.html", PHONE)
    header = page.query_selector("header").bounding_box()
    assert header["y"] == 0 and header["height"] <= 60
    assert page.query_selector("article :is(.kick, h1)").bounding_box()["y"] <= header["height"] + 32


def test_the_text_has_its_full_width_beside_the_contents_on_a_desk(site, reader):
    page = reader(site / f"{CHAPTERS[0]}.html", DESK)
    contents, article = (page.query_selector(s).bounding_box() for s in ("#contents", "article"))
    assert article["width"] == 720
    assert contents["x"] + contents["width"] < article["x"]
    assert article["x"] + article["width"] + 48 + 280 <= DESK[0]


def test_the_contents_open_on_a_phone_and_lead_to_every_page(site, reader):
    page = reader(site / f"{PAGES[1]}.html", PHONE)
    contents = page.locator("#contents")
    assert not contents.is_visible()
    page.get_by_role("button", name="Contents").press("Enter")
    assert contents.is_visible()
    led_to = {Path(a.evaluate("a => new URL(a.href).pathname")).stem for a in contents.locator("a").all()}
    assert led_to == {Path(name).name for name in PAGES}
    page.keyboard.press("Escape")
    assert not contents.is_visible()


def test_the_theme_follows_the_system_until_a_reader_chooses(site, reader):
    page = reader(site / f"{PAGES[1]}.html", theme="dark")
    shown = "document.documentElement.dataset.theme"
    assert page.evaluate(shown) == "dark"
    page.emulate_media(color_scheme="light")
    page.wait_for_function(f"{shown} === 'light'")
    switch = page.get_by_role("button", name="Dark colours")
    switch.click()
    assert (page.evaluate(shown), switch.get_attribute("aria-pressed")) == ("dark", "true")
    page.reload()
    assert page.evaluate(shown) == "dark"
    switch.click()
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"{shown} === 'dark'")  # a choice that the system shares is no choice
    assert page.faults == []


def test_the_search_finds_a_page(site, reader):
    page = reader(site / "search.html", query="?q=learning")
    page.locator("#search-results li a").first.wait_for()


def test_a_page_reads_without_script(site, reader):
    page = reader(site / f"{CHAPTERS[0]}.html", theme="dark", java_script_enabled=False)
    assert page.locator("h1").is_visible() and page.locator("#contents").is_visible()
    assert not page.locator(".tool.theme").is_visible(), "a switch that cannot work is not offered"


@pytest.fixture
def chapter(site):
    return site / "notebooks" / "heavy-tails.html"


def shown(page):
    """Which dataset the switch says, and which the page shows."""
    checked = page.eval_on_selector('input[name="data"]:checked', "input => input.value")
    seen = page.eval_on_selector_all(
        "[data-for]", "all => all.filter(e => e.checkVisibility()).map(e => e.dataset.for)"
    )
    return checked, set(seen)


def test_the_switch_moves_everything_and_can_be_linked(chapter, reader):
    page = reader(chapter)
    first, seen = shown(page)
    assert seen == {first}
    page.click("label:has(#d-mnist)")
    assert shown(page) == ("mnist", {"mnist"}) and first != "mnist"
    assert shown(reader(chapter, query="?data=mnist")) == ("mnist", {"mnist"})
    assert shown(reader(chapter, query="?data=nothing")) == (first, {first})


def test_the_switch_works_by_keyboard_and_is_remembered(chapter, reader):
    page = reader(chapter)
    page.focus('input[name="data"]:checked')
    page.keyboard.press("ArrowRight")
    chosen, seen = shown(page)
    assert seen == {chosen} == {"mnist"}
    page.goto(chapter.as_uri())
    assert shown(page) == ("mnist", {"mnist"}), "in the same browser, the next page opens with it"


def test_the_switch_needs_no_script_and_printed_everything_is_there(chapter, reader):
    page = reader(chapter, java_script_enabled=False)
    page.click("label:has(#d-mnist)")
    assert page.locator('.verdict [data-for="mnist"]').is_visible()
    assert not page.locator('.verdict [data-for="smoke"]').is_visible()
    page.emulate_media(media="print")
    for name in ("mnist", "smoke"):
        assert page.locator(f'.verdict [data-for="{name}"]').is_visible()


# The figure with sliders


@pytest.fixture(scope="session")
def bowl(tmp_path_factory):
    """A page of the noisy quadratic alone, with its style."""
    path = tmp_path_factory.mktemp("bowl") / "page.html"
    head = '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Bowl</title></head>'
    path.write_text(f"{head}<body><main>{style()}{explorer.show().data}</main></body></html>", encoding="utf-8")
    return path


def move(page, name, value):
    page.evaluate(f"""() => {{
        const slider = document.getElementById("bowl-{name}");
        slider.value = {value};
        slider.dispatchEvent(new Event("input", {{ bubbles: true }}));
    }}""")
    page.wait_for_timeout(50)


def test_sliders_draw_what_the_package_computes(bowl, reader):
    """At the start and with another momentum, at every batch size, within the coarser grid of a browser."""
    page = reader(bowl)
    steps = "JSON.parse(document.querySelector('figure.bowl').dataset.steps)"
    plain, moving = page.evaluate(steps)
    for found, momentum in ((plain, 0.0), (moving, explorer.MOMENTUM)):
        assert found == pytest.approx(explorer.least_steps(momentum).tolist(), rel=0.06)
    move(page, "momentum", 0.5)
    page.wait_for_function(f"{steps}[1][20] > 1000")
    assert page.evaluate(steps)[1] == pytest.approx(explorer.least_steps(0.5).tolist(), rel=0.06)


def test_sliders_say_what_they_show_and_change_it(bowl, reader, axe):
    page = reader(bowl, PHONE)
    assert find_faults(page, axe) == []
    told, before = page.locator("figure.bowl .told"), page.locator("figure.bowl svg.live").inner_html()
    assert "At B = 256 plain descent" in told.inner_text() and page.locator(".still").is_hidden()
    move(page, "size", 4)
    move(page, "noise", 3)
    page.wait_for_function("document.querySelector('.told').textContent.startsWith('At B = 16 ')")
    assert page.locator("output[for=bowl-noise]").inner_text() == "×8"
    assert page.locator("figure.bowl svg.live").inner_html() != before
    assert page.faults == []


def test_without_script_the_figure_stands(bowl, reader):
    page = reader(bowl, java_script_enabled=False)
    assert page.locator(".still").is_visible()
    assert page.locator("svg.live").is_hidden() and page.locator(".controls").is_hidden()
