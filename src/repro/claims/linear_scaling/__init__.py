"""Goyal: "When the minibatch size is multiplied by k, multiply the learning rate by k."; the best, by batch size."""

from __future__ import annotations

from repro.claims.linear_scaling.answer import answer
from repro.claims.linear_scaling.curves import COINCIDE
from repro.claims.linear_scaling.experiment import SETTINGS, design
from repro.claims.linear_scaling.figures import FIGURES
from repro.claims.linear_scaling.judgement import TOLERANCE, judge
from repro.claims.linear_scaling.readings import SMALL
from repro.evidence.spec import Claim, Outcome, Published, Revision


def _goyal(name: str, printed: str) -> Published:
    return Published(f"ImageNet error, {name}", printed, unit="%", note="ResNet-50 on ImageNet, out of reach here")


CLAIM = Claim(
    id="linear-scaling",
    question="Batch times k: learning rate times k?",
    statement="“When the minibatch size is multiplied by k, multiply the learning rate by k.”",
    source="goyal2017",
    counter_claim="no simple heuristic for the learning rate holds at all batch sizes",
    counter_sources=("shallue2019", "mccandlish2018"),
    rule=(
        "The best learning rate of every batch size is that of least training loss on a grid, in the mean over "
        "seeds, between grid points by a parabola. The loss is that of the whole training set, averaged over the "
        "last tenth of the second epoch: what the rule is derived for, before the training set is fitted. The "
        f"slope of its logarithm on that of B is judged over B = 1 to {SMALL}; its 95 % interval joins the "
        "bootstrap's over seeds and the t interval about the line. A power counts as held, too, where the whole "
        f"interval lies within {TOLERANCE:g} of it: less than a factor of two from B = 1 to {SMALL}, for a law "
        "that bends above never has a slope of just 1 below. In proportion: of 0, ½ and 1 it holds 1 alone. Then "
        "the rule holds to the batch size at which the best learning rate falls below half of the line in "
        "proportion through the small batch sizes (bootstrap over seeds, joined with the t interval of what each "
        "seed alone gives). Reproduced: in proportion, and it surely never falls there. Conditional: in "
        "proportion, and it surely does. Not reproduced: it holds another of them alone, or none. Inconclusive: "
        "it holds several; read an epoch earlier, which is the control, it does not hold 1; how far it holds is "
        "not sure; a best learning rate, at any batch size, lies on an edge of its grid; or there are too few. "
        "Apart: the same slope by held-out loss at the end, by held-out loss at its least, and by held-out "
        "accuracy (reproduced: in proportion; inconclusive: several of the three; not reproduced: anything else)."
        " One smooth law tells all batch sizes if it misses those left out by fewer octaves than one line and "
        "than a bent line (paired t intervals below zero; not reproduced: one above). Training curves of linearly"
        f" scaled runs coincide where their losses differ by at most {100 * COINCIDE:.0f} % from the second epoch "
        "on, in the mean over seeds, and part where the 95 % t interval of some epoch's mean ratio lies beyond "
        "that, or a run diverges (reproduced: they coincide as far as the grid goes; conditional: up to some k, "
        "and part beyond; not reproduced: they part at the first; inconclusive: anything else). Warm-up helps if "
        "at the largest batch size, each at its best by held-out loss, test accuracy is higher with it (paired t "
        "interval above zero). Adam's best learning rate goes as √B if the interval of its slope holds ½ alone of"
        " 0, ½ and 1."
    ),
    history=(
        Revision("2026-11-20T15:55", "Written, before the first run: least held-out loss, B = 16 to 32768, one line."),
        Revision(
            "2026-11-21T09:12",
            "After the runs of that grid: a bent line in place of one, since the best learning rate stopped growing; "
            "no law is given where another knee that fits about as well has another.",
        ),
        Revision(
            "2026-11-21T21:13",
            "Written anew, before the runs that it judges, since the old rule could not decide: from B = 16 on the "
            "slope of a smooth law that levels off lies between 1 and ½, however many seeds; held-out loss is flat "
            "over a wide range of rates, and asks for less because small batches overfit; and on Fashion-MNIST the "
            "smaller batch at an epoch's end moved accuracy just before it was measured. Now from B = 1, by "
            "training loss early on, with that batch left out.",
            {"mnist": Outcome.INCONCLUSIVE, "fashion-mnist": Outcome.INCONCLUSIVE},
        ),
        Revision(
            "2026-11-21T23:19",
            "With two of five seeds known, after a second implementation by the rule's words: an edge of the grid "
            "counts at any batch size, how far the rule holds must be sure, and its interval holds more than a "
            "bootstrap of few seeds, which is too short. No outcome so far hung on any of them.",
            {"mnist": Outcome.CONDITIONAL, "fashion-mnist": Outcome.CONDITIONAL},
        ),
    ),
    sentences={
        "When the minibatch size is multiplied by k": (),
    },
    settings=SETTINGS,
    design=design,
    judge=judge,
    answer=answer,
    advice=(
        "Raise the learning rate with the batch from a rate below your best, and stop where training turns unstable.",
        "Too low costs points; too high can cost most of them at one step.",
    ),
    change=(
        "A network or data whose gradients are noisier, where the rule would hold to larger batches; another budget, "
        "such as equal steps."
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
