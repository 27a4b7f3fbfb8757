"""Three models asked about: what the adviser said of each, as benchmarks/examples.py wrote it down."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import HTML

from repro.advice import rules
from repro.evidence.spec import Figure
from repro.publish.chapter import picture
from repro.runs.provenance import PROJECT

WRITTEN = PROJECT / "benchmarks" / "advice.json"


def costs(told: Mapping[str, Any]) -> pd.DataFrame:
    """Steps, examples and time to a target by batch size, each over its least, as the measured noise scale has them;
    intervals from its interval."""
    sizes = np.array([float(size) for size in told["step_seconds"]])
    step = np.array(list(told["step_seconds"].values()))
    values: dict[str, list[np.ndarray]] = {}
    for scale in told["noise_scale"]:
        time = rules.time_to_target(sizes, step, scale)
        values.setdefault("steps", []).append(np.asarray(rules.relative_steps(sizes, scale)))
        values.setdefault("examples", []).append(np.asarray(rules.relative_examples(sizes, scale)))
        values.setdefault("time here", []).append(np.asarray(time / np.min(time)))
    drawn = [
        pd.DataFrame({"x": sizes, "mean": v[0], "low": np.min(v, 0), "high": np.max(v, 0), "series": name})
        for name, v in values.items()
    ]
    return pd.concat(drawn, ignore_index=True)


def _example(told: Mapping[str, Any]) -> str:
    figure = Figure(
        f"advice-{told['function']}",
        "lines",
        lambda table: table,
        lambda table: f"{told['name']}: what a target costs, by batch size",
        "batch size B",
        "times the least",
        "Steps and examples as the noise scale has them; time with the steps that were timed. Bands: its interval.",
        y_scale="log",
    )
    drawn = costs(told)
    shown = picture(figure, drawn, figure.title(drawn), figure.id) if math.isfinite(told["noise_scale"][2]) else ""
    return (
        f"<h3>{html.escape(told['name'])}</h3><p>{html.escape(told['about'])}</p>"
        f"{_scrolled(told['says'], 'What repro.advise says')}{shown}"
        f"<details class='hide'><summary>What was asked</summary>{_scrolled(told['source'], 'The function')}</details>"
    )


def _scrolled(text: str, label: str) -> str:
    return f'<pre class="advised" tabindex="0" role="region" aria-label="{label}">{html.escape(text)}</pre>'


def show(path: Path = WRITTEN) -> HTML:
    """The examples, each with what was asked and what was said."""
    if not path.is_file():
        return HTML("<p>Nothing has been asked yet: <code>make advice</code> does it.</p>")
    told = json.loads(path.read_text(encoding="utf-8"))
    source = (
        f"{told['processor']}, {told['threads']} threads, torch {told['torch']}, {told['date']}, commit "
        f"{told['commit']}; by benchmarks/examples.py."
    )
    body = "".join(_example(e) for e in told["examples"])
    return HTML(f"{body}<p class='note'>{html.escape(source)}</p>")
