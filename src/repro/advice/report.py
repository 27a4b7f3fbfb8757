"""An advice in words, on one screen, and as a figure."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from repro.advice import rules

if TYPE_CHECKING:
    from repro.advice.adviser import Advice

# Workloads on which the critical batch size was measured too: by name, [noise scale, critical batch size].
RECORD = Path(__file__).parent / "record.json"


def _number(value: float) -> str:
    if value == math.inf:
        return "∞"
    return f"{value:,.0f}" if value >= 9.95 else f"{max(value, 1):.2g}"


def _row(what: str, found: tuple[float, float, float], open_ended: bool) -> str:
    value, low, high = found
    said = f"at least {_number(low)}" if open_ended else f"{_number(value)} ({_number(low)} to {_number(high)})"
    return f"  {what:<48} {said}"


def told(advice: Advice) -> str:
    """One screen, in plain text."""
    noise, times = advice.noise, advice.speed.seconds
    open_ended = noise.high == math.inf
    lines = [
        f"Noise scale, at this checkpoint: {noise}, in training mode, micro-batches of {noise.micro_batch}.",
        *advice.notes,
    ]
    if open_ended:
        lines.append("Too few examples, or too little time, for an upper end: give more seconds.")
    if advice.evaluated is not None:
        lines.append(f"Batch norm makes eval mode another network: {advice.evaluated}.")
    lines += ["", "Batch size"]
    lines.append(_row("10 % more examples than the least", advice.sample_efficient, open_ended))
    lines.append(_row("twice the least examples, twice the least steps", advice.diminishing, open_ended))
    if times:
        best, least, most = advice.fastest
        end = ", the largest timed" if round(best) == max(times) else ""
        lines.append(
            f"  {f'fastest here ({advice.device})':<48} {_number(best)}{end}"
            f" ({_number(least)} to {_number(most)} take 10 % longer at most)"
        )
        lines.append(_gain(advice))
    else:
        lines.append("  No batch size was timed: give more seconds.")
    if advice.speed.most < math.inf:
        lines.append(f"  {'memory holds':<48} about {_number(advice.speed.most)}")
    lines += ["", *_learning_rate(advice), "", _error(advice)]
    return "\n".join(lines)


def _gain(advice: Advice) -> str:
    times, scale = advice.speed.seconds, advice.diminishing[0]
    best = advice.fastest[0]
    sizes = sorted(times)
    reference = advice.batch_size if advice.batch_size and sizes[0] <= advice.batch_size <= sizes[-1] else sizes[0]

    def cost(size: float) -> float:
        return float(rules.time_to_target(size, np.interp(size, sizes, [times[s] for s in sizes]), scale))

    return f"  {f'time to a target at B = {reference}':<48} {cost(reference) / cost(best):.1f} times that"


def _learning_rate(advice: Advice) -> list[str]:
    adaptive = advice.optimizer in rules.ADAPTIVE
    law = "√B, with 1 - β in proportion" if adaptive else "B/(B + noise scale)"
    if advice.lr is None or advice.batch_size is None:
        return [f"Learning rate: as {law} ({advice.optimizer}). Give lr and batch_size for numbers."]
    moved = []
    wanted = [advice.sample_efficient[0], advice.diminishing[0]]
    wanted += [advice.fastest[0]] if advice.speed.seconds else []
    for size in sorted({round(max(1, b)) for b in wanted}):
        rate = advice.learning_rate(size)
        moved.append(f"{rate:.3g} at B = {size:,}" if math.isfinite(rate) else f"no rule at B = {size:,}")
    return [f"Learning rate: {advice.lr:.3g} at B = {advice.batch_size:,} becomes {', '.join(moved)}: as {law}."]


def _error(advice: Advice) -> str:
    if advice.error is None:
        return "How wrong this may be: nobody has measured it yet on workloads like yours; the noise scale is a proxy."
    mean, low, high = advice.error
    lower = [along / start for along, _, start in advice.record.values()]
    return (
        f"How wrong this may be: on {len(advice.record)} measured workloads the critical batch size was {mean:.2g} "
        f"times the noise scale along training; for one more, expect {low:.2g} to {high:.2g} times. What is measured "
        f"here is one moment's: at the start of training it was lower by {min(lower):.2g} to {max(lower):.2g} times."
    )


def drawn(advice: Advice) -> Any:
    """Steps, examples and time to a target against batch size, each relative to its least, as a matplotlib figure.
    ValueError where matplotlib is missing, or nothing was timed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError("plot: needs matplotlib; pip install matplotlib") from None
    times = advice.speed.seconds
    if not times:
        raise ValueError("plot: no batch size was timed; give more seconds")
    sizes = np.array(sorted(times), dtype=float)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    scale, low, high = advice.diminishing
    step = np.array([times[int(size)] for size in sizes])
    for name, values in (
        ("steps", lambda b: rules.relative_steps(sizes, b)),
        ("examples", lambda b: rules.relative_examples(sizes, b)),
        ("time here", lambda b: step * rules.relative_steps(sizes, b)),
    ):
        line = values(scale) / np.min(values(scale)) if name == "time here" else values(scale)
        (drawn_line,) = axes.plot(sizes, line, label=name)
        if high < math.inf:
            below, above = (values(b) / (np.min(values(b)) if name == "time here" else 1) for b in (low, high))
            axes.fill_between(sizes, below, above, color=drawn_line.get_color(), alpha=0.15, linewidth=0)
    axes.axvline(advice.fastest[0], color="0.5", linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="batch size B", ylabel="times the least")
    axes.set_xscale("log", base=2)
    axes.set_title("Steps, examples and time to a target; bands: the noise scale's interval", fontsize=9, loc="left")
    axes.legend(frameon=False)
    return figure
