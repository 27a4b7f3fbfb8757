"""Trials that learnt nothing: which count as ended at chance, and that they are told beside those that diverged."""

import re

import pandas as pd
import pytest

from repro.evidence.tables import CHANCE_MARGIN, at_chance
from repro.evidence.tuning import cells
from repro.evidence.words import unlearnt
from repro.names import DATASETS
from repro.runs import provenance
from repro.runs.provenance import PROJECT
from repro.training import data


def ends(*rows, **columns):
    """Final rows of trials: (dataset, status, test accuracy)."""
    table = pd.DataFrame(rows, columns=["dataset", "status", "test_accuracy"])
    return table.assign(batch_size=64, lr=0.1, **columns)


@pytest.mark.parametrize(
    ("row", "stuck"),
    [
        (("mnist", "finished", 0.0958), True),  # one class for all
        (("mnist", "finished", 0.1135), True),  # the most frequent one
        (("mnist", "finished", 0.1235), True),
        (("mnist", "finished", 0.1236), False),
        (("mnist", "finished", 0.98), False),
        (("mnist", "diverged", 0.0980), False),  # counted as that
        (("fashion-mnist", "finished", 0.11), True),
        (("fashion-mnist", "finished", 0.1135), False),
        (("mnist5k", "finished", 0.1), True),
        (("mnist", "finished", float("nan")), False),
    ],
)
def test_at_chance_is_no_better_than_naming_the_most_frequent_class(row, stuck):
    assert at_chance(ends(row)).tolist() == [stuck]


def test_where_the_test_set_is_left_alone_the_validation_set_tells():
    table = ends(("mnist", "finished", None), ("mnist", "finished", None), validation_accuracy=[0.1, 0.9])
    assert at_chance(table).tolist() == at_chance(table.drop(columns="test_accuracy")).tolist() == [True, False]
    assert not at_chance(table.drop(columns=["test_accuracy", "validation_accuracy"])).any()
    assert at_chance(table.iloc[:0]).empty


@pytest.mark.parametrize("name", ["mnist5k", "mnist", "fashion-mnist"])
def test_the_most_frequent_class_is_as_frequent_as_is_said(name):
    if data.state(name) != "intact":
        pytest.skip(f"{name} is not here")
    _, labels = data.load(name).held["test"]
    share = float(labels.bincount().max()) / len(labels)
    assert share == pytest.approx(DATASETS[name].most_frequent)


def test_the_glossary_says_where_chance_ends():
    entry = (PROJECT / "book" / "glossary.md").read_text().partition("\nat chance\n")[2].partition("\n\n")[0]
    limits = [100 * (share + CHANCE_MARGIN) for share in (DATASETS["mnist"].most_frequent, 0.1)]
    assert [float(x) for x in re.findall(r"([\d.]+) %", entry)] == pytest.approx(limits)
    assert CHANCE_MARGIN == 0.01 and "one percentage point" in " ".join(entry.split())


def test_a_grid_and_a_ledger_count_both_kinds():
    rows = [("mnist", "finished", 0.1), ("mnist", "finished", 0.9), ("mnist", "diverged", 0.1)]
    [cell] = cells(ends(*rows), ["test_accuracy"]).to_dict("records")
    assert (cell["trials"], cell["diverged"], cell["at_chance"]) == (3, 1, 1)
    assert cell["test_accuracy"] == pytest.approx(0.5), "the mean is of all that finished"
    columns = {f"run_{name}": "x" for name in ("torch_version", "processor", "precision", "git_commit")}
    table = ends(*rows, key=["a", "b", "c"], final=True, run_date="2026-11-21", run_seconds=1.0, **columns)
    told = provenance.summary(table)
    assert (told["trials"], told["diverged"], told["at_chance"]) == (3, 1, 1)
    assert unlearnt(told["diverged"], told["at_chance"]) == "1 diverged, 1 ended at chance"
    assert unlearnt(0, 38) == "none diverged, 38 ended at chance"
