"""Numbers as sentences and tables tell them: with a true minus, a sign where there is a side to be on, an interval."""

from __future__ import annotations

import math

from repro.evidence.intervals import Estimate, Unit


def signed(value: float, form: str = "+.2f") -> str:
    """What rounds to zero has no sign. How a tie is rounded does not hang on a sum's last bit: means of accuracies, in
    points, are often one (0.215)."""
    text = f"{round(value, 9):z{form.removeprefix('+')}}".replace("-", "−")
    return f"+{text}" if form.startswith("+") and value > 0 and float(text.replace(",", "")) else text


def unlearnt(diverged: int, at_chance: int) -> str:
    """What became of trials that learnt nothing: "3 diverged, none ended at chance"."""
    return f"{diverged or 'none'} diverged, {at_chance or 'none'} ended at chance"


def _form(estimate: Estimate) -> str:
    return ",.0f" if abs(estimate.value) >= 1000 else ".2f"


def _text(value: float, unit: Unit, form: str, decimals: int = 0) -> str:
    if unit.log:
        digits = max(0, 1 - math.floor(math.log10(value))) if 0 < value < math.inf else 2
        return f"{value:,.{max(min(digits, 3), decimals)}f}"
    return signed(value, f"+{form}" if unit.none == 0 else form)


def value(estimate: Estimate, form: str = "") -> str:
    """By default two decimals, from 1,000 on none; of ratios two figures."""
    if not math.isfinite(estimate.value):
        return "–"
    return _text(estimate.value, estimate.unit, form or _form(estimate), _decimals(estimate))


def _decimals(estimate: Estimate) -> int:
    """Of a ratio and its ends, where they are so near that two figures would make them equal."""
    numbers = (estimate.low, estimate.value, estimate.high)
    if not estimate.unit.log or not 0 < estimate.low <= estimate.high < 1.5 * estimate.low:
        return 0
    least = max(0, 1 - math.floor(math.log10(estimate.value)))
    return next((d for d in range(least, 4) if len({f"{x:.{d}f}" for x in numbers}) == 3), 3)


def _ends(estimate: Estimate, form: str) -> list[str]:
    if not (math.isfinite(estimate.value) and math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return []
    ends, decimals = (estimate.low, estimate.high), _decimals(estimate)
    return [_text(end, estimate.unit, form or _form(estimate), decimals) for end in ends]


def interval(estimate: Estimate, form: str = "") -> str:
    """In a table: "1.23 [1.10, 1.36]", or the value alone where there is no interval."""
    ends = _ends(estimate, form)
    return value(estimate, form) + (f" [{', '.join(ends)}]" if ends else "")


def spread(estimate: Estimate, form: str = "") -> str:
    """In brackets: "1.23, 1.10 to 1.36", or the value alone where there is no interval."""
    ends = _ends(estimate, form)
    return value(estimate, form) + (f", {' to '.join(ends)}" if ends else "")


def bracketed(estimate: Estimate, unit: str = "", form: str = "") -> str:
    """Inside a sentence: "38 times (35 to 40)", or without the interval where there is none."""
    ends = _ends(estimate, form)
    return f"{value(estimate, form)} {unit}".rstrip() + (f" ({' to '.join(ends)})" if ends else "")
