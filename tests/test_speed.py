"""The page of speeds, from a table made up here."""

import json
import sys

from repro.publish import speed
from repro.runs.provenance import PROJECT
from repro.trial import Trial

sys.path.insert(0, str(PROJECT / "benchmarks"))
import bench
import pytest


def measured():
    def row(net, size, precision, chosen, ours):
        return {
            "net": net,
            "batch_size": size,
            "precision": precision,
            "chosen": chosen,
            "stack": 1,
            "tutorial": 100.0,
            "tensor": 200.0,
            "ours": ours,
            "share": 0.875,
        }

    sweep = {
        "trials": 1000,
        "milliseconds_a_trial": 4.25,
        "start_and_stop_seconds": 5.0,
        "parent_mib_at_a_tenth": 600.0,
        "parent_mib_at_the_end": 610.0,
        "ledger_rows": 2000,
        "ledger_load_seconds": 0.05,
    }
    return {
        "date": "2026-01-02",
        "cores": 2,
        "dataset": "mnist5k",
        "torch": "1.2.3",
        "processor": "A <Processor>",
        "commit": "abc",
        "matmul_flops": {"float32": 1e11, "bfloat16": 2e11},
        "workers_over_one": {"64": 1.9},
        "worker_mib": 900.0,
        "speeds": [
            row("wide", 64, "float32", True, 500.0),
            row("wide", 256, "float32", False, 654.0),
            row("wide", 256, "bfloat16", True, 1200.0),
            row("narrow", 64, "float32", True, 3000.0),
        ],
        "paths": [
            {"path": path, "batch_size": size, "ours": ours, "share": ours / 10_000, "matmul_flops": 1e11}
            for path, ours in (("SGD", 6_543.0), ("<Adam>", 2_100.0))
            for size in (64, 1024)
        ],
        "sweeps": {"in stacks": sweep},
        "norms": [
            {"net": "a <net>", "way": way, "milliseconds": took, "peak_mib": mib, "n": 10}
            for way, took, mib in (("ours", 0.25, 70.0), ("plain loop", 5.0, 30.0))
        ],
        "advice": [{"net": "a net", "given": 10, "seconds": 2.5, "peak_mib": 400.0}],
    }


def test_the_page_shows_what_was_measured(tmp_path):
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(measured()))
    text = speed.fragment(path)
    assert text.count("<figure") == 2  # a figure a network
    assert "wide: 5 to 12 times the tutorial loop" in text and "narrow: 30 to 30 times" in text
    for told in (
        "1,200",
        "12.0×",
        "6.0×",
        "88%",
        "100 GFLOP/s in float32",
        "1.90 at B\u00a0=\u00a064",
        "4.2 ms",
        "A &lt;Processor&gt;",
        "0.25 ms",
        "20.0×",
        "70, 30",
        "2.5 s",
        "6,543",
        "&lt;Adam&gt;",
        "21%",
    ):
        assert told in text, told
    assert "654" in text  # what was not chosen is in the table, too


def test_figures_take_what_the_engine_chooses():
    rows = speed.chosen(measured(), "wide")
    assert rows["ours"].tolist() == [500.0, 1200.0]


def test_nothing_measured_is_said(tmp_path):
    assert "make bench" in speed.fragment(tmp_path / "absent.json")


def test_each_measurement_is_told_as_it_ends(monkeypatch):
    """The whole benchmark, but tiny."""
    monkeypatch.setattr(bench, "NETS", {"784-8-10": (8,)})
    monkeypatch.setattr(bench, "BATCH_SIZES", (64,))
    monkeypatch.setattr(bench, "WORKERS_AT", (64,))
    monkeypatch.setattr(bench, "PATHS", {"Adam": {"optimizer": "adam"}})
    monkeypatch.setattr(bench, "WIDE", "784-8-10")
    monkeypatch.setattr(bench, "SWEEPS", {"in stacks": (20, {})})
    monkeypatch.setattr(bench, "SECONDS", 0.02)
    monkeypatch.setattr(bench, "SWEEP_SECONDS", 0.02)
    monkeypatch.setattr(bench, "dataset_here", lambda: "mnist5k")
    rows = [("norms", {"net": "n", "way": "ours", "milliseconds": 1.0, "peak_mib": 2.0, "n": 3})]
    monkeypatch.setattr(bench.measures, "NETS", {"n": ()})
    monkeypatch.setattr(bench.measures, "WAYS", {"ours": ()})
    monkeypatch.setattr(bench.measures, "ADVISED", {})
    monkeypatch.setattr(bench.measures, "measured", lambda: iter(rows))
    seen, lines = [], []
    told = bench.bench(True, lambda *now: seen.append((len(lines), *now)), lines.append)
    assert seen == [(n, n, 5) for n in range(6)]  # a line, then the bar
    assert lines[0].startswith("norms, n, ours: 1.000 ms an example")
    assert lines[1].startswith("784-8-10 B=64: ") and lines[2].startswith("Adam B=64: ")
    assert "over one at B=64" in lines[3] and "20 tiny trials" in lines[4]
    for path in told["paths"]:  # one, or where bfloat16 is native one a precision
        operations = bench.operations(Trial(widths=(8,), steps=1))
        assert path["ours"] > 0 and path["share"] == path["ours"] * operations / path["matmul_flops"]
    assert told["paths"] and told["speeds"] and all(row["ours"] > 0 for row in told["speeds"])
    assert told["sweeps"]["in stacks"]["trials"] == 20


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        # forward 2·(784·256 + 256·10), twice that back, less the gradient by the image
        ({}, 6 * (784 * 256 + 256 * 10) - 2 * 784 * 256),
        ({"steps_per_batch": 3, "proximal": 0.1}, 3 * (6 * (784 * 256 + 256 * 10) - 2 * 784 * 256)),
        # once more, and this time down to the image
        ({"adversarial": 0.1}, 12 * (784 * 256 + 256 * 10) - 2 * 784 * 256),
        # 5×5, padded by 2: 28×28 places of 1 → 16 channels, 14×14 of 16 → 32, then 7·7·32 → 128 → 10
        (
            {"model": "cnn"},
            6 * (784 * 25 * 16 + 196 * 25 * 16 * 32 + 1568 * 128 + 1280) - 2 * 784 * 25 * 16,
        ),
    ],
)
def test_operations_of_a_sample_counted_by_hand(fields, count):
    assert bench.operations(Trial(widths=(256,), steps=1, **fields)) == count


def test_every_path_is_a_trial():
    """And no two of them the same."""
    trials = [Trial(widths=bench.NETS[bench.WIDE], steps=1, **fields) for fields in bench.PATHS.values()]
    assert len({t.key for t in trials}) == len(trials)


@pytest.mark.parametrize("way", bench.measures.WAYS)
def test_every_way_to_take_norms_gives_the_same(way, monkeypatch):
    """`norms` compares each with the plain loop before it times it."""
    shape, _, build = bench.measures.NETS["convolutional net"]
    monkeypatch.setattr(bench.measures, "NETS", {"net": (shape, 64, build)})
    monkeypatch.setattr(bench.measures, "FEWER", 8)
    found = bench.measures.norms("net", way)
    assert found["milliseconds"] > 0 and found["n"] == (8 if way in bench.measures.SLOW else 64)
