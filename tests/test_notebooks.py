"""The committed notebooks: what nbval needs to mean something, and proof that it does."""

import json
import re
import shutil
import subprocess
import sys

import nbformat
import pytest

from repro import claims
from repro.publish.book import notebooks
from repro.runs.provenance import PROJECT

PATHS = notebooks()
BONES = [
    "Who says what",
    "What was run",
    "Why",
    "Try to break it",
    "Published beside ours",
    "The rule",
    "Deviations",
    "Run it yourself",
    "Where the numbers come from",
]
# What a chapter shows, in the order of its page: the answer first
PIECES = ["run", "opening", "notes", "figure", "forest", "protocol", "published", "rule", "settings", "provenance"]


def tags(cell):
    return cell.metadata.get("tags", [])


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
class TestCommitted:
    def test_is_valid_and_of_kernel_python3(self, path):
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert notebook.metadata.kernelspec.name == "python3"

    def test_has_one_parameters_cell_at_smoke_scale(self, path):
        cells = [c for c in nbformat.read(path, as_version=4).cells if "parameters" in tags(c)]
        assert len(cells) == 1
        assert re.search(r'^scale = "smoke"', cells[0].source, re.M)

    def test_every_code_cell_has_run_in_order(self, path):
        code = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
        assert [c.execution_count for c in code] == list(range(1, len(code) + 1))

    def test_has_three_check_cells_that_print_numbers_nbval_compares(self, path):
        code = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
        checks = [
            c
            for c in code
            if "nbval-ignore-output" not in tags(c)
            and any(o.output_type == "stream" and re.search(r"\d|True|False", o.text) for o in c.outputs)
        ]
        assert len(checks) >= 3
        assert any("assert" in c.source for c in checks)

    def test_compared_outputs_hold_no_progress_timing_or_path(self, path):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code" and "nbval-ignore-output" not in tags(cell):
                for output in cell.outputs:
                    assert output.output_type == "stream"
                    assert output.name == "stdout"
                    assert not re.search(r"\d\.\d{4,}|seconds|/home|/root|/work|/tmp", output.text), output.text

    def test_names_no_machine_and_keeps_no_timestamps(self, path):
        text = path.read_text(encoding="utf-8")
        assert "papermill" not in text
        assert "iopub" not in text
        assert str(PROJECT) not in text

    def test_has_the_bones_of_a_chapter(self, path):
        notebook = nbformat.read(path, as_version=4)
        headings = re.findall(
            r"^## (.+)$", "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown"), re.M
        )
        assert [h for h in headings if h in BONES] == BONES

    def test_answers_first_and_shows_every_piece_in_order(self, path):
        code = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
        called = re.findall(r"^chapter\.(\w+)\(", "\n".join(code), re.M)
        without = [] if claims.get(path.stem).published else ["published"]
        assert list(dict.fromkeys(called)) == [piece for piece in PIECES if piece not in without]

    def test_asks_its_claims_question_and_draws_all_its_figures_the_hero_first(self, path):
        notebook = nbformat.read(path, as_version=4)
        claim = claims.get(path.stem)
        assert notebook.cells[0].source.splitlines()[0] == f"# {claim.question}"
        drawn = re.findall(r'chapter\.figure\("([\w-]+)"\)', "\n".join(c.source for c in notebook.cells))
        assert drawn[0] == claim.figures[0].id
        assert sorted(drawn) == sorted(f.id for f in claim.figures)

    def test_code_stays_off_the_page_but_for_lines_that_a_reader_types(self, path):
        seen = [
            c
            for c in nbformat.read(path, as_version=4).cells
            if c.cell_type == "code" and not {"remove-cell", "remove-input"} & set(tags(c))
        ]
        assert len(seen) <= 1
        assert all("from repro.measure import" in c.source or "from repro import measure" in c.source for c in seen)

    def test_is_thin(self, path):
        notebook = nbformat.read(path, as_version=4)
        lines = sum(len(c.source.splitlines()) for c in notebook.cells if c.cell_type == "code")
        assert lines <= 70, "logic belongs in the package"

    def test_belongs_to_a_claim(self, path):
        assert path.stem in claims.all_claims()


def run_nbval(path):
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-c", "/dev/null",
         "--rootdir", str(path.parent), str(path)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_nbval_notices_one_corrupted_number(tmp_path, smoke_ledger):
    path = tmp_path / PATHS[0].name
    shutil.copy(PATHS[0], path)
    notebook = json.loads(path.read_text())
    checks = [
        o
        for c in notebook["cells"]
        if c["cell_type"] == "code" and "nbval-ignore-output" not in c["metadata"].get("tags", [])
        for o in c["outputs"]
        if o["output_type"] == "stream"
    ]
    text = "".join(checks[0]["text"])
    corrupted = re.sub(r"\d", lambda m: str((int(m.group()) + 1) % 10), text, count=1)
    assert corrupted != text
    checks[0]["text"] = corrupted
    path.write_text(json.dumps(notebook))
    result = run_nbval(path)
    assert result.returncode == 1, result.stdout[-2000:]
    assert "1 failed" in result.stdout
    assert "mismatch" in result.stdout
