"""Building: strict where papermill is lenient, and the previous site is safe from a build that fails."""

import os
import shutil
import signal
import time

import filelock
import nbformat
import pytest
import signalled

from repro.names import SpecError
from repro.publish import book
from repro.runs.ledger import cache_folder
from repro.runs.provenance import PROJECT


def write(path, *cells, parameters='scale = "smoke"'):
    made = [nbformat.v4.new_markdown_cell("# A page")]
    if parameters:
        cell = nbformat.v4.new_code_cell(parameters)
        cell.metadata["tags"] = ["parameters"]
        made.append(cell)
    made += [nbformat.v4.new_code_cell(c) for c in cells]
    notebook = nbformat.v4.new_notebook(cells=made)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


@pytest.fixture
def root(tmp_path, smoke_ledger, monkeypatch):
    """A small book: the real settings, one page, one notebook, and a site that already stands."""
    monkeypatch.setattr(book, "write_fragments", lambda *given: {})  # they are of the whole book
    shutil.copy(PROJECT / "_config.yml", tmp_path)
    shutil.copytree(PROJECT / "book", tmp_path / "book")
    (tmp_path / "book" / "index.md").write_text("# Home\n")
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: book/index\nchapters:\n  - file: notebooks/page\n  - file: book/bibliography\n"
    )
    write(tmp_path / "notebooks" / "page.ipynb", "print(scale)")
    (tmp_path / "_build" / "site" / "_static").mkdir(parents=True)
    (tmp_path / "_build" / "site" / "index.html").write_text("the previous site")
    (tmp_path / "_build" / "site" / book.OURS).touch()
    return tmp_path


def previous_site_stands(root):
    return (root / "_build" / "site" / "index.html").read_text() == "the previous site"


def test_a_good_build_replaces_the_site_with_the_executed_notebook(root):
    site = book.build("smoke", root=root, workers=0)
    assert "Home" in (site.folder / "index.html").read_text() or (site.folder / "book" / "index.html").is_file()
    page = (site.folder / "notebooks" / "page.html").read_text()
    assert ">smoke\n" in page
    assert site.seconds["page"] > 0
    committed = nbformat.read(root / "notebooks" / "page.ipynb", as_version=4)
    assert not any(c.get("outputs") for c in committed.cells), "the committed notebook stays as it was"


def test_folders_given_relative_are_the_ones_that_notebooks_see(root, tmp_path, monkeypatch):
    """A build's kernels run in folders of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REPRO_CACHE", "books")
    monkeypatch.setattr(book, "notebooks", lambda root=None: [])
    monkeypatch.setattr(book, "write_fragments", lambda *given: {})
    book.refresh(print)
    monkeypatch.chdir(root / "book")
    assert cache_folder() == tmp_path / "books"


@pytest.mark.parametrize(
    ("cells", "parameters", "given", "line"),
    [
        (["1"], None, {}, "page.ipynb: no cell is tagged 'parameters'"),
        (["1"], 'scale = "smoke"', {"lrr": 1}, "page.ipynb: unknown parameter 'lrr'; its parameters cell sets scale"),
        (["1", "1/0"], 'scale = "smoke"', {}, "page.ipynb: cell 4 failed: ZeroDivisionError: division by zero"),
        (["import os; os._exit(1)"], 'scale = "smoke"', {}, "page.ipynb: did not run"),
    ],
    ids=["no parameters cell", "unknown parameter", "failing cell", "dead kernel"],
)
def test_a_bad_notebook_fails_the_build_and_leaves_the_site(root, cells, parameters, given, line):
    write(root / "notebooks" / "page.ipynb", *cells, parameters=parameters)
    with pytest.raises(book.BookError) as error:
        book.build("smoke", root=root, parameters=given, workers=0)
    assert line in str(error.value)
    assert "\n" not in str(error.value)
    assert previous_site_stands(root)
    assert not list(root.rglob("*.partial*"))


def test_a_warning_of_the_site_builder_fails_the_build_and_leaves_the_site(root):
    (root / "book" / "index.md").write_text("# Home\n\n[nowhere](no-such-page.md) {cite:p}`nobody1900`\n")
    with pytest.raises(book.BookError, match=r"Jupyter Book: .*nobody1900"):
        book.build("smoke", root=root, workers=0)
    assert previous_site_stands(root)


def test_a_killed_refresh_leaves_nothing_that_counts_as_a_notebook(tmp_path):
    """Not the notebook it was at, half written; and what another left is not taken for one."""
    path = write(tmp_path / "notebooks" / "page.ipynb", "import time; time.sleep(600)")
    before = path.read_bytes()
    code = "import sys; from pathlib import Path; from repro.publish import book; p = Path(sys.argv[1])\n"
    process = signalled.start(
        "-c", code + "book.execute(p, p, {})", path, env=os.environ | {"REPRO_CACHE": str(tmp_path)}
    )
    signalled.wait_until(lambda: len(signalled.living_of(tmp_path)) >= 2, process)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    signalled.assert_all_gone(tmp_path)
    assert [p.name for p in path.parent.iterdir()] == ["page.ipynb"] and path.read_bytes() == before
    (path.parent / ".page.ipynb.partial").write_text("half")
    (path.parent / ".old.partial.ipynb").write_text("half, of an earlier version")
    assert book.notebooks(tmp_path) == [path]


def test_a_failed_refresh_leaves_the_committed_notebook(tmp_path):
    path = write(tmp_path / "page.ipynb", "1/0")
    before = path.read_bytes()
    with pytest.raises(book.BookError):
        book.execute(path, path, {})
    assert path.read_bytes() == before


def test_links_only_where_a_repository_is_given(root):
    site = book.build("smoke", root=root, workers=0, repository="https://github.com/someone/batch-size")
    page = (site.folder / "notebooks" / "page.html").read_text()
    assert "colab.research.google.com/github/someone/batch-size/blob/main/notebooks/page.ipynb" in page


@pytest.mark.parametrize(
    "address",
    [
        "github.com/x",
        "https://github.com/x",
        "https://../../..",
        "https://github.com/../x",
        "https://github.com/x/..",
        "https://a b.com/x/y",
        "https://github.com/x/y#z",
        "https://github.com/x/y\n",
        "javascript://github.com/x/y",
    ],
)
def test_what_is_no_repository(root, address):
    with pytest.raises(book.BookError, match=r"must look like https://github\.com/OWNER/NAME"):
        book.build("smoke", root=root, workers=0, repository=address)
    assert previous_site_stands(root)


@pytest.mark.parametrize(
    ("given", "line"),
    [({"lr": -1}, "SpecError: lr -1.0: must be a number above 0"), ({"seeds": 0}, "seeds 0: must be a whole number")],
)
def test_a_parameter_out_of_range_is_one_line(tmp_path, given, line):
    source = PROJECT / "notebooks" / "generalization-gap.ipynb"
    with pytest.raises(book.BookError, match=f"cell 3 failed: .*{line}"):
        book.execute(source, tmp_path / "page.ipynb", given)
    assert not list(tmp_path.iterdir())


def test_two_builds_at_once(root):
    lock = filelock.FileLock(root / "_build" / "stage.lock")
    with lock, pytest.raises(book.BookError, match="another build is at work"):
        book.build("smoke", root=root)
    assert previous_site_stands(root)


def test_unknown_scale(root):
    with pytest.raises(SpecError, match="did you mean 'smoke'"):
        book.build("smoky", root=root)
    assert previous_site_stands(root)
