"""The page of recorded trials: every file is there, and every column explained."""

import dataclasses
import re

import pyarrow.parquet as pq
import pytest

from repro.publish import records
from repro.runs import runner
from repro.runs.ledger import Ledger, make_rows
from repro.runs.provenance import PROJECT
from repro.training.engine import Training
from repro.trial import Trial

FILES = sorted((PROJECT / "results").glob("*.parquet"))


def test_every_recorded_column_is_explained():
    assert len(FILES) > 5
    for path in FILES:
        for column in pq.read_schema(path).names:
            assert records.explain(column)


def test_every_column_of_a_new_row_is_explained():
    [row] = make_rows(Trial(epochs=1), Training("finished", [{"step": 0, "epoch": 0.0}], "stacked", "float32"), 1.0)
    assert {f.name for f in dataclasses.fields(Trial)} < set(row)
    for column in row:
        assert records.explain(column)


def test_what_nobody_explained_is_refused():
    with pytest.raises(LookupError, match="'colour' of the recorded trials is not explained"):
        records.explain("colour")


def test_every_explanation_is_of_some_column():
    """None is left over from a column that is gone; of a probe of which no row is recorded yet, of what it gives."""
    columns = {c for path in FILES for c in pq.read_schema(path).names} | {f.name for f in dataclasses.fields(Trial)}
    [rows] = runner.run_stack([Trial(probes=("gradient noise",), train_size=200, widths=(4,), steps=1)])
    columns |= {*rows[-1]}
    used = {records.explain(c) for c in columns}
    assert used == set(records.COLUMNS.values())


def test_the_page_lists_every_file_with_its_size(tmp_path):
    ledger = Ledger(tmp_path / "w", tmp_path / "r")
    runner.run({"heavy-tails": [Trial(train_size=100, widths=(4,), steps=2)]}, ledger, workers=0, record=True)
    text = records.fragment(ledger.recorded)
    assert re.search(
        r"\| \{download\}`heavy-tails\.parquet <\.\./results/heavy-tails\.parquet>` \| .* \| 1 \| 2 \|", text
    )
    assert text.count("{download}") == 1 and "<code>weight_norm</code>" in text
