"""The noisy quadratic with sliders: worked out in the reader's browser, and a figure of it where no script runs."""

from __future__ import annotations

import html
import importlib.resources
import math

import numpy as np
import pandas as pd
from IPython.display import HTML

from repro.claims.noisy_quadratic.prediction import RATES, Stretch, steps_of
from repro.evidence.spec import Figure
from repro.publish import tables
from repro.publish.chapter import both_widths
from repro.theory.noisy_quadratic import Quadratic, best_method

DIRECTIONS, LEFT = 10_000, 1e-2  # and the share of the loss at the start that is the target
SIZES = 2.0 ** np.arange(21)
MOMENTUM = 0.9
# By name: what a slider moves, from, to, step, and where it begins
SLIDERS = {
    "spectrum": ("Spectrum: curvature falls as 1/i to the power", 0.6, 1.4, 0.1, 1.0),
    "noise": ("Noise", -6, 6, 1, 0),
    "momentum": ("Momentum", 0.0, 0.98, 0.02, MOMENTUM),
    "size": ("Batch size B", 0, 20, 1, 8),
}
# Least steps to a loss of 0.01 on the bowl as the sliders begin, with any batch size, by another computation than ours.
ELSEWHERE = {"SGD": 8020, "momentum": 187, "SGD preconditioned by h^-½": 97}
TITLE = "In theory: steps by batch size, for any spectrum, noise and momentum"
CAPTION = (
    f"A bowl of {DIRECTIONS:,} directions, at first of curvature 1/i and as much noise in each, until a hundredth of "
    "its loss is left; at every batch size the best of many learning rates, by the formulas of the section Why."
)


def least_steps(momentum: float, sizes: np.ndarray = SIZES) -> np.ndarray:
    """Steps (b,) by batch size (b,) over learning rates, as the sliders begin."""
    bowl = Quadratic.harmonic(DIRECTIONS, start=2.0)
    stretch = Stretch(bowl, (1 - LEFT) * float(bowl.loss(bowl.start)))
    return np.asarray(steps_of(stretch, RATES * 2 * (1 + momentum), momentum, sizes).min(0))


def recomputed() -> dict[str, float]:
    """The least steps of ELSEWHERE by this package's recursion."""
    bowl = Quadratic.harmonic(DIRECTIONS, start=2.0)
    bowls = dict.fromkeys(ELSEWHERE, bowl) | {"SGD preconditioned by h^-½": bowl.preconditioned(0.5)}
    return {name: best_method(b, math.inf, 0.01, name == "momentum")[0] for name, b in bowls.items()}


def beside() -> HTML:
    """Both computations of the same numbers, side by side."""
    rows = [[name, f"{steps:,.0f}", f"{ELSEWHERE[name]:,}"] for name, steps in recomputed().items()]
    caption = (
        "Momentum's was sought on a grid of learning rates and momenta; ours, between them too, finds a better one."
    )
    return HTML(tables.table(["least steps", "here", "another computation"], rows, "Least steps in theory", caption))


def _still() -> str:
    rows = [
        {"x": size, "mean": steps, "series": name}
        for name, m in (("SGD", 0.0), (f"momentum {MOMENTUM:g}", MOMENTUM))
        for size, steps in zip(SIZES, least_steps(m), strict=True)
    ]
    drawn = pd.DataFrame(rows).assign(n=np.nan, low=np.nan, high=np.nan)
    figure = Figure(
        "bowl",
        "curves",
        lambda _: drawn,
        lambda _: TITLE,
        "batch size B",
        "steps to the target",
        CAPTION,
        y_scale="log",
    )
    return both_widths(figure, drawn)


def show() -> HTML:
    """The figure: what stands where no script runs, hidden controls, and the script that shows them."""
    controls = "".join(
        f"<label for='bowl-{name}'>{html.escape(what)} <output for='bowl-{name}'></output></label>"
        f"<input type='range' id='bowl-{name}' name='{name}' min='{low}' max='{high}' step='{step}' value='{start}'>"
        for name, (what, low, high, step, start) in SLIDERS.items()
    )
    script = importlib.resources.files("repro.publish").joinpath("static", "bowl.js").read_text(encoding="utf-8")
    return HTML(
        f'<figure class="plot bowl"><figcaption><p class="title">{TITLE}</p><p>{html.escape(CAPTION)}</p></figcaption>'
        f'<div class="still">{_still()}</div><svg class="live" hidden aria-hidden="true"></svg>'
        f'<div class="controls" hidden>{controls}</div><p class="told" aria-live="polite" hidden></p>'
        f"<script>{script}</script></figure>"
    )
