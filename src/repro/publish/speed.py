"""The page "How fast": what benchmarks/bench.py measured, as a table and a figure for each network."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from repro.evidence.spec import Figure
from repro.publish import tables
from repro.publish.chapter import picture
from repro.publish.landing import raw
from repro.runs.provenance import PROJECT

MEASURED = PROJECT / "benchmarks" / "bench.json"
SERIES = {"ours": "this book", "tensor": "DataLoader over tensors", "tutorial": "tutorial loop"}


def chosen(told: Mapping[str, Any], net: str) -> pd.DataFrame:
    """The speeds of one network in the precision that the engine chooses, a row a batch size."""
    speeds = pd.DataFrame(told["speeds"])
    return speeds[(speeds["net"] == net) & speeds["chosen"]]


def _curves(rows: pd.DataFrame) -> pd.DataFrame:
    tidy = rows.melt(["batch_size"], list(SERIES), "series", "mean").rename(columns={"batch_size": "x"})
    return tidy.assign(series=tidy["series"].map(SERIES), low=tidy["mean"], high=tidy["mean"])


def _title(net: str, rows: pd.DataFrame) -> str:
    gain = rows["ours"] / rows["tutorial"]
    return f"{net}: {gain.min():.2g} to {gain.max():.2g} times the tutorial loop"


def _rows(told: Mapping[str, Any]) -> list[list[str]]:
    cells = []
    for r in told["speeds"]:
        mark = " (chosen)" if r["chosen"] else ""
        speeds = [f"{r[name]:,.0f}" for name in ("tutorial", "tensor", "ours")]
        gains = [f"{r['ours'] / r[name]:.1f}×" for name in ("tutorial", "tensor")]
        net = r["net"].replace("-", "\u2011")  # in one line
        cells.append([net, str(r["batch_size"]), r["precision"] + mark, *speeds, *gains, f"{r['share']:.0%}"])
    return cells


def _paths(rows: Sequence[Mapping[str, Any]]) -> str:
    """What a trial may ask for beside plain SGD: samples a second and share, a column a batch size."""
    found = {(r["path"], r["batch_size"]): r for r in rows}
    sizes = list(dict.fromkeys(r["batch_size"] for r in rows))
    cells = [
        [html.escape(path)]
        + [told for n in sizes for told in (f"{found[path, n]['ours']:,.0f}", f"{found[path, n]['share']:.0%}")]
        for path in dict.fromkeys(r["path"] for r in rows)
    ]
    header = ["trained with", *[told for n in sizes for told in (f"B\u00a0=\u00a0{n}", "share")]]
    caption = (
        "Samples a second of whatever a trial may ask for, and its share, as above: of products' operations alone."
    )
    return tables.table(header, cells, "Training paths", caption)


def _sweeps(told: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            html.escape(f"{s['trials']:,} trials, {name}"),
            f"{s['milliseconds_a_trial']:.1f} ms",
            f"{s['start_and_stop_seconds']:.1f} s",
            f"{s['parent_mib_at_a_tenth']:,.0f} and {s['parent_mib_at_the_end']:,.0f} MiB",
            f"{s['ledger_rows']:,} in {s['ledger_load_seconds']:.2f} s",
        ]
        for name, s in told["sweeps"].items()
    ]


def _norms(rows: Sequence[Mapping[str, Any]]) -> str:
    """Norms of single examples' gradients: time of each way over ours, and memory."""
    ways = list(dict.fromkeys(r["way"] for r in rows))
    found = {(r["net"], r["way"]): r for r in rows}
    nets = dict.fromkeys(r["net"] for r in rows)
    cells = [
        [
            html.escape(net),
            f"{found[net, ways[0]]['milliseconds']:.2g} ms",
            *[f"{found[net, way]['milliseconds'] / found[net, ways[0]]['milliseconds']:.1f}×" for way in ways[1:]],
            ", ".join(f"{max(0, found[net, way]['peak_mib']):,.0f}" for way in ways),
        ]
        for net in nets
    ]
    caption = (
        "Squared norms of single examples' gradients: time an example here, and of other ways as a multiple of it."
    )
    header = ["network", "here", *ways[1:], f"MiB at the peak: {', '.join(ways).replace('ours', 'here')}"]
    return tables.table(header, cells, "Norms of single examples' gradients", caption)


def _advice(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = [
        [html.escape(r["net"]), f"{r['seconds']:.1f} s", f"{r['given']} s", f"{r['peak_mib']:,.0f} MiB"] for r in rows
    ]
    return tables.table(["network", "took", "was given", "memory"], cells, "Advice", "What `repro.advise` takes.")


def fragment(path: Path = MEASURED) -> str:
    """The generated part of the page, as Markdown."""
    if not path.is_file():
        return "Nothing has been measured yet: `make bench` does it.\n"
    told = json.loads(path.read_text(encoding="utf-8"))
    rates = " and ".join(f"{rate / 1e9:.0f} GFLOP/s in {name}" for name, rate in told["matmul_flops"].items())
    source = (
        f"{told['processor']}, {told['cores']} cores, torch {told['torch']}, {told['dataset']}, {told['date']}, "
        f"commit {told['commit']}."
    )
    parts = []
    for net in dict.fromkeys(r["net"] for r in told["speeds"]):
        rows = chosen(told, net)
        figure = Figure(
            f"speed-{net}",
            "curves",
            _curves,
            lambda table, net=net: _title(net, table),  # type: ignore[misc]
            "batch size B",
            "samples a second",
            "Training speed of the whole machine: one process with all cores for the loops, a worker a core here.",
            y_scale="log",
        )
        parts.append(picture(figure, _curves(rows), figure.title(rows), f"speed-{net}"))
    header = ["network", "B", "precision", "tutorial", "tensors", "here", "÷ tutorial", "÷ tensors", "share"]
    caption = (
        "Samples a second. Share: of the rate at which as many processes multiply square matrices "
        f"in that precision here, {rates}."
    )
    workers = ", ".join(f"{gain:.2f} at B\u00a0=\u00a0{size}" for size, gain in told["workers_over_one"].items())
    table = tables.table(header, _rows(told), "Samples a second", caption)
    parts.append(f"<details class='hide'><summary>Every measurement</summary>{table}</details>")
    parts.append(
        f"<p>With a worker on each of {told['cores']} cores, the wide network trains so many times as fast as with "
        f"one, in float32: {workers}. A worker with the data in memory takes up to {told['worker_mib']:,.0f} MiB.</p>"
    )
    parts += [_paths(told["paths"])] if "paths" in told else []  # measured since 2026-11-23
    header = ["sweep", "a trial", "start and stop", "the parent's memory, at a tenth and at the end", "ledger loads"]
    parts.append(
        tables.table(
            header, _sweeps(told), "Cost of a sweep", "What a sweep costs beside training: trials of a single step."
        )
    )
    parts += [_norms(told["norms"]), _advice(told["advice"])]
    parts.append(f"<p class='note'>{html.escape(source)}</p>")
    return raw("".join(parts))
