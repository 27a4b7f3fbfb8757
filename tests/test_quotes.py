"""Quotation marks hold a source's own words: each quotation is a part of a sentence of book/sources.yml.

What stands in quotation marks on a page, in a notebook's text or in a string of a claim is a quotation if it has three
words or more; one or two are words that are mentioned, be they a source's (“ignores”) or ours (“no difference”). Code
is not looked at, nor are docstrings but a module's, which opens with whom it is about: elsewhere they show what a
function returns. A cut, marked …, may leave out words or whole sentences of one source; what is left keeps its order.
"""

import ast
import html
import re

import nbformat
import pytest
import yaml

from repro import claims
from repro.evidence.sources import NAMES
from repro.evidence.spec import Outcome, Verdict
from repro.publish import sentences
from repro.publish.book import notebooks
from repro.runs.ledger import Ledger
from repro.runs.provenance import PROJECT

SENTENCES = yaml.safe_load((PROJECT / "book" / "sources.yml").read_text(encoding="utf-8"))
KEYS = set(re.findall(r"^@\w+\{(\w+),", (PROJECT / "book" / "references.bib").read_text(encoding="utf-8"), re.M))
MENTIONED = 2  # words: no more are no quotation
ALL = list(claims.all_claims().values())


def plain(text):
    """With typewriter's quotation marks and hyphens, one space between words."""
    for marks, one in (("‘’", "'"), ("“”", '"'), ("–—‑−", "-")):
        text = re.sub(f"[{marks}]", one, text)
    return " ".join(text.split())


def is_from(quotation, key):
    """Whether the quotation is a part of the source's sentences, cuts aside, in their order."""
    text, at = "\n".join(map(plain, SENTENCES[key])), 0
    for piece in re.split(r"\(…\)|\[…\]|…|\.\.\.", quotation):
        found = text.find(plain(piece), at)
        if found < 0:
            return False
        at = found + len(plain(piece))
    return True


def sources_of(quotation):
    return [key for key in SENTENCES if is_from(quotation, key)]


def quotations(text):
    """What stands in quotation marks in a text, of three words or more."""
    found = [a or b for a, b in re.findall(r'“([^”]*)”|"([^"\n]*(?:\n[^"\n]+)*)"', text)]
    return [quoted for quoted in found if len(quoted.split()) > MENTIONED]


def prose_of_page(text):
    """Markdown without its code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def strings_of(path):
    """A module's docstring, and its strings that are no other's docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef))
    described = {id(n.body[0].value) for n in inner if ast.get_docstring(n)}
    strings = (n for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str))
    return [n.value for n in strings if id(n) not in described]


def texts():
    """(where, text) of all that may quote a source."""
    for path in (PROJECT / "README.md", *sorted((PROJECT / "book").glob("*.md"))):
        yield path.name, prose_of_page(path.read_text(encoding="utf-8"))
    for path in notebooks():
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                yield path.name, prose_of_page(cell.source)
    for folder in ("claims", "evidence", "publish"):
        for path in sorted((PROJECT / "src" / "repro" / folder).rglob("*.py")):
            for text in strings_of(path):
                yield str(path.relative_to(PROJECT)), re.sub(r"<[^>]*>", " ", html.unescape(text))


QUOTED = [(where, quoted) for where, text in texts() for quoted in quotations(text)]


@pytest.mark.parametrize(("where", "quoted"), QUOTED, ids=lambda x: x[:40])
def test_a_quotation_is_a_sources_own_words(where, quoted):
    assert sources_of(quoted), f"{where}: not in book/sources.yml: {quoted}"


def test_quotations_are_found_everywhere():
    places = {where for where, _ in QUOTED}
    quoting = {f"{c.id}.ipynb" for c in ALL if c.statement.startswith("“")}
    assert quoting <= places and len(quoting) == len(ALL) - 2
    assert "src/repro/claims/sharp_minima/judgement.py" in places  # in the names of its parts
    assert "src/repro/claims/generalization_gap.py" in places


@pytest.mark.parametrize(
    ("quotation", "key"),
    [
        ("higher batch sizes leads to lower asymptotic test accuracy", "shen2018"),
        ("we can recover the lost test accuracy (…) by increasing the learning rate", "shen2018"),
        ("ADAM finds solutions with much larger weights … the model completely ignores the initialization", "shen2018"),
        ("sharp minimizers of the training and testing functions – and as is well known", "keskar2017"),
        ("batch norm’s artificial dependence", "thread2018"),
    ],
)
def test_exact_words_and_marked_cuts_pass(quotation, key):
    assert sources_of(quotation) == [key]


@pytest.mark.parametrize(
    "quotation",
    [
        "higher batch sizes lead to lower asymptotic test accuracy",  # mended
        "Higher batch sizes leads to lower asymptotic test accuracy",
        "we can recover the lost test accuracy by increasing the learning rate",  # a cut that is not marked
        "multiply the batch by k, multiply the learning rate by k",
        "completely ignores the initialization … finds solutions with much larger weights",  # turned round
        "higher batch sizes … sharp minimizers",  # of two sources
    ],
)
def test_other_words_fail(quotation):
    assert sources_of(quotation) == []


def test_what_is_no_quotation_is_left_alone():
    assert quotations('“no difference”, “ignores” and "the same"') == []
    assert quotations(prose_of_page('say `print("one two three")`\n```bash\necho "one two three"\n```\n')) == []
    assert quotations('he said "one two three" and “four five six”') == ["one two three", "four five six"]


@pytest.mark.parametrize("claim", ALL, ids=lambda c: c.id)
def test_claim_and_counter_claim_are_quoted_from_who_made_them_or_said_to_be_ours(claim):
    """In the notebook each is a block: a quotation, or in a box whose heading says that it is in our words."""
    notebook = nbformat.read(PROJECT / "notebooks" / f"{claim.id}.ipynb", as_version=4)
    prose = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    boxes = re.findall(r"^:::\{div\}\n(.*?)^:::$", prose, re.M | re.S)
    assert len(boxes) == 2
    said = [(claim.statement, [claim.source]), (claim.counter_claim, claim.counter_sources)]
    for (text, by), box in zip(said, boxes, strict=True):
        heading, blocks = box.splitlines()[0], re.findall(r"^> (.+)$", box, re.M)
        assert text in blocks
        assert all(block.startswith("“") != ("in our words" in heading) for block in blocks)
        if text.startswith("“"):
            quoted = re.findall(r"“(.+?)”", text)  # one sentence, or more
            assert " ".join(f"“{sentence}”" for sentence in quoted) == text
            assert all(any(is_from(sentence, key) for key in by) for sentence in quoted), text


def test_what_is_quoted_can_be_cited():
    """Only sources that no page quotes yet may lack a key; every sentence is listed once."""
    used = {key for _, quoted in QUOTED for key in sources_of(quoted)}
    assert used <= KEYS & set(NAMES)
    listed = [plain(sentence) for sentences in SENTENCES.values() for sentence in sentences]
    assert len(listed) == len(set(listed)) > 30


# Where each sentence is judged


def test_every_sentence_is_judged_or_it_is_said_why_not():
    for key, told in SENTENCES.items():
        for sentence in told:
            why = [start for start in sentences.UNJUDGED if plain(sentence).startswith(start)]
            assert bool(sentences.judged(sentence)) != bool(why), (key, sentence)


@pytest.mark.parametrize("claim", ALL, ids=lambda c: c.id)
def test_what_a_claim_judges_is_a_sentence_and_its_parts_are_parts(claim):
    told = [plain(s) for of_source in SENTENCES.values() for s in of_source]
    path = PROJECT / "src" / "repro" / "claims" / claim.id.replace("-", "_")
    files = [path.with_suffix(".py")] if path.with_suffix(".py").is_file() else sorted(path.glob("*.py"))
    code = ast.unparse(ast.Module([node for f in files for node in ast.parse(f.read_text(encoding="utf-8")).body], []))
    named = set()
    for start in claim.sentences:
        [sentence] = [s for s in told if s.startswith(plain(start))]
        named |= {by.part for by in dict(sentences.judged(sentence))[claim.id]} - {""}
    for part in named:  # where it is judged, beside where it is listed
        assert code.count(repr(part)) + code.count(part) > 1, part
    for finding in claims.findings(claim, "paper", Ledger()):
        parts = set(finding.verdict.parts)
        assert not parts or named <= parts


def rows_of(found, start):
    """The rows of the page of sentences whose sentence begins so."""
    page = html.unescape(sentences.fragment(found))
    return [row for row in page.split("<tr>") if f"“{start}" in row]


def test_the_page_of_sentences_holds_each_with_its_verdicts():
    found = {c.id: list(claims.findings(c, "paper", Ledger())) for c in ALL}
    page = html.unescape(sentences.fragment(found))
    for told in SENTENCES.values():
        for sentence in told:
            assert f"“{sentence}”" in page
    assert page.count('href="../notebooks/travel.html') == 4
    [gap] = rows_of(found, "higher batch sizes leads")
    assert "conditional</span> MNIST" in gap and "inconclusive</span> Fashion‑MNIST" in gap


def test_a_verdict_speaks_for_the_sentence_that_it_stands_beside(tmp_path):
    """Reproduced or not: turned round where a part says the contrary; and nothing where nothing is run."""
    found = {c.id: list(claims.findings(c, "paper", Ledger(tmp_path, tmp_path))) for c in ALL}
    [flat] = rows_of(found, "most notions of flatness")
    assert "not run</span> MNIST and Fashion‑MNIST" in flat and flat.count("outcome") == 1
    claim = claims.get("sharp-minima")
    outcomes = {}
    for outcome in Outcome:
        part = "φ is a property of the function that was learnt"
        finding, _ = claims.findings(claim, "paper", Ledger())
        finding.__dict__["verdict"] = Verdict(outcome, "", parts={part: Verdict(outcome, "")})
        [flat] = rows_of(found | {claim.id: [finding]}, "most notions of flatness")
        [minima] = rows_of(found | {claim.id: [finding]}, "small-batch methods consistently")
        outcomes[str(outcome)] = re.findall(r"</span> ([a-z ]+)</span> MNIST", flat)
        assert re.findall(r"</span> ([a-z ]+)</span> MNIST", minima) == [outcome]
    assert outcomes == {
        "reproduced": ["not reproduced"],
        "conditional": ["conditional"],
        "not reproduced": ["reproduced"],
        "inconclusive": ["inconclusive"],
    }
