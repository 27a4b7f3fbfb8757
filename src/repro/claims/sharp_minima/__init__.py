"""Keskar et al.: "large-batch methods tend to converge to sharp minimizers"; and once the budget is fair?"""

from __future__ import annotations

from repro.claims.sharp_minima.experiment import SETTINGS, design
from repro.claims.sharp_minima.figures import FIGURES
from repro.claims.sharp_minima.judgement import MIN_PAIRS, SAME_FACTOR, WEAK, answer, judge
from repro.claims.sharp_minima.published import PUBLISHED
from repro.evidence.spec import Claim, Revision

CLAIM = Claim(
    id="sharp-minima",
    question="Do large batches end in sharper minima?",
    statement="“large-batch methods tend to converge to sharp minimizers of the training and testing functions”",
    source="keskar2017",
    counter_claim=(
        "“most notions of flatness are problematic for deep models and can not be directly applied to explain "
        "generalization”"
    ),
    counter_sources=("dinh2017", "shallue2019"),
    rule=(
        "Paired differences over seeds of log φ (full space, ε = 1e-3), large batch minus small, 95 % t intervals. "
        "The large batch is sharper if the interval lies above zero, and not if it lies below or inside a factor of "
        f"{SAME_FACTOR:g} either way. As published: φ by ten iterations from y = 0, equal epochs, one learning rate. "
        "Then by a search that does not depend on the scale of the loss, at the same budget and at four fair ones: "
        "both batch sizes trained on, for many more epochs; the large batch at the learning rate of best validation "
        "accuracy, against the small one trained on the same split; for the epochs that bring its training loss "
        "nearest to the small one's; for the small one's steps. A fair budget is open where the best learning rate is "
        f"an end of the grid, or the training losses still differ by a factor of {SAME_FACTOR:g}. "
        "Reproduced: sharper as published and in all five comparisons. "
        "Conditional: sharper as published, and not in one of the five. Not reproduced: not sharper as published. "
        f"Inconclusive: anything else, or fewer than {MIN_PAIRS} pairs. Apart: φ, by the scale-free search, predicts "
        "test error if Spearman's ρ over all runs at fair budgets and ρ within their arms are both above zero (BCa "
        f"bootstrap over runs); conditional, if only the first is; not, if the first is below {WEAK:g}. Ten iterations "
        f"find the maximum if the scale-free search finds no more than {SAME_FACTOR:g} times as much in any arm, in "
        "eval mode. φ is a property of the function if rescaling, which changes no output by 1e-10, changes φ by less "
        f"than a factor of {SAME_FACTOR:g}."
    ),
    history=(
        Revision("2026-11-20T16:18", "Written, before the first run."),
        Revision(
            "2026-11-20T23:12",
            "After runs on MNIST: a fifth comparison, both batch sizes trained on, since the paper's other experiments "
            "last as long; the verdict asks for five where it asked for four.",
        ),
    ),
    settings=SETTINGS,
    design=design,
    judge=judge,
    answer=answer,
    advice=(
        "Do not choose a batch size for flatness.",
        "It changes with the search, with batch norm and with the size of the weights, whatever the network computes.",
    ),
    change=(
        "A fair budget at which the large batch is no sharper, or enough independent runs to rank test error by "
        "sharpness."
    ),
    published=PUBLISHED,
    figures=FIGURES,
)
