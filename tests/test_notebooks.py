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
BONES = ["What was run", "Published against here", "Verdict", "Why", "Try to break it", "Deviations", "Run it yourself"]


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


def test_nbval_notices_one_corrupted_number(tmp_path):
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
