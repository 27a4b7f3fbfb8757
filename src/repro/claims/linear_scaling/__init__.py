"""Goyal: "multiply the batch by k, multiply the learning rate by k"; the best learning rate, by batch size."""

from __future__ import annotations

from repro.claims.linear_scaling.answer import answer
from repro.claims.linear_scaling.experiment import SETTINGS, design
from repro.claims.linear_scaling.figures import FIGURES
from repro.claims.linear_scaling.judgement import COINCIDE, judge
from repro.evidence.spec import Claim, Published


def _goyal(name: str, printed: str) -> Published:
    return Published(f"ImageNet error, {name}", printed, unit="%", note="ResNet-50 on ImageNet, out of reach here")


CLAIM = Claim(
    id="linear-scaling",
    question="Batch times k: learning rate times k?",
    statement="When the minibatch size is multiplied by k, multiply the learning rate by k.",
    source="goyal2017",
    counter_claim="no simple heuristic for the learning rate holds at all batch sizes",
    counter_sources=("shallue2019", "mccandlish2018"),
    rule=(
        "The best learning rate of every batch size is that of least mean validation loss on a grid, between grid "
        "points by a parabola. The knee is where a bent line fits their logarithms best. Reproduced: the 95 % interval "
        "of the slope (bootstrap over seeds or t interval about the line, the wider) holds 1 and not ½, up to the knee "
        "and above it. Conditional: up to the knee it does, and above it does not hold 1. Not reproduced: up to the "
        "knee it does not hold 1. Inconclusive: either holds both, another knee that fits about as well (F test of the "
        "residual squares, 5 %) has another law below it, a best learning rate lies on the grid's edge, or there are "
        "too few. Apart: training curves of linearly scaled runs coincide where their losses differ by at most "
        f"{100 * COINCIDE:.0f} % from the second epoch on, in the mean over seeds, and part where the 95 % t interval "
        "of some epoch's mean ratio lies beyond that, or a run diverges (reproduced: they coincide as far as the grid "
        "goes; conditional: up to some k, and part beyond; not reproduced: they part at the first; inconclusive: "
        "anything else); "
        "warm-up helps if at the largest batch size, each at its best, test accuracy is higher with it (paired t "
        "interval above zero); Adam's best learning rate goes as √B if the interval of its slope holds ½ and not 1."
    ),
    settings=SETTINGS,
    design=design,
    judge=judge,
    answer=answer,
    advice=(
        "Raise the learning rate with the batch from a rate below your best, and stop where training turns unstable.",
        "Too low costs points, more with every doubling; too high can cost most of them at one step.",
    ),
    change=(
        "Batch sizes below the smallest here, where the law and its rivals differ most; another number of epochs: the "
        "best rate depends on the budget."
    ),
    published=(
        _goyal("B = 256", "23.60"),
        _goyal("B = 8192, linear rule and warm-up", "23.74"),
        _goyal("B = 8192, learning rate not scaled", "41.67"),
        _goyal("B = 8192, square-root rule", "26.22"),
        _goyal("B = 16384", "24.79"),
        _goyal("B = 32768", "27.55"),
        _goyal("B = 65536", "33.96"),
        _goyal("B = 256, half the learning rate", "23.92"),
        _goyal("B = 256, twice the learning rate", "23.68"),
        _goyal("B = 8192, half the learning rate", "24.27"),
        _goyal("B = 8192, twice the learning rate", "24.05"),
    ),
    figures=FIGURES,
)
