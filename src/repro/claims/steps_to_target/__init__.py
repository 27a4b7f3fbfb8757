"""Shallue: steps to a target fall in proportion to the batch, then less, then not at all."""

from __future__ import annotations

from repro.claims.steps_to_target.experiment import SETTINGS, design
from repro.claims.steps_to_target.figures import FIGURES
from repro.claims.steps_to_target.judgement import (
    ALIKE,
    FLAT,
    LARGE,
    MARGIN,
    OCTAVE,
    SMALL,
    TOLERANCE,
    answer,
    judge,
)
from repro.evidence.spec import Claim, Revision
from repro.evidence.steps import LOSS

CLAIM = Claim(
    id="steps-to-target",
    question="How many steps does a larger batch save?",
    statement=(
        "“There's a regime where variance dominates, and you get linear speedups w/ batch size. Then there's a regime "
        "where curvature dominates and larger batches don't help.”"
    ),
    source="thread2018",
    counter_claim="at equal epochs, large batches give worse models",
    counter_sources=("keskar2017", "shen2018"),
    rule=(
        "A study is a network and an optimizer. S(B) is the least number of steps to its target, an accuracy on the "
        "validation set, over the learning rate, and over momentum where there is one: the lowest point of a quadratic "
        "surface through the logarithms of the trials' steps near the best, by the logarithm of η/(1 − m) and of "
        "1 − m. Intervals: bootstrap over trials. The first regime is seen where the power of B with which S goes, "
        f"from the smallest batch size to {SMALL} times that, lies within {TOLERANCE:g} of −1 with its whole interval; "
        f"the second where from a {({4: 'quarter'})[LARGE]} of the largest on it lies above {FLAT:.2f}, so that a "
        "doubling saves less than a fifth of the steps. Reproduced: both are seen in every study. Conditional: in "
        "some, and in others one is surely not. Not reproduced: surely in none. Inconclusive: anything else, a best on "
        "the edge of what was tried, or a batch size at which fewer than three trials met the target. Apart: momentum "
        f"extends perfect scaling if the largest batch size that takes at most {LOSS:g} times the examples of the "
        "smallest is larger with it than without (intervals of the ratio above 1, for either kind of momentum). No "
        "heuristic holds if each of three rules (learning rate in proportion to B, to its square root, unchanged), "
        f"followed from the middle batch size, is surely more than {OCTAVE:g} octave from the best somewhere in some "
        "study. One law tells all if S_min (1 + B_c/B), fitted to a study, misses none of its batch sizes by more than "
        f"{ALIKE:g} times. Equal epochs and equal steps say opposite things if the smallest batch surely takes more "
        "steps, and fewer examples, than the largest. Large batches do not test worse if ten times beyond the target, "
        "at the learning rate of best validation accuracy, test error at the largest batch size is the same as at the "
        f"smallest to within ±{MARGIN} points (two one-sided tests), or lower."
    ),
    history=(Revision("2026-11-22T08:50", "Written, before the first run but those of the pilot, of other seeds."),),
    settings=SETTINGS,
    design=design,
    judge=judge,
    answer=answer,
    advice=(
        "Grow the batch while steps fall in proportion, and stop soon after.",
        "Beyond that, examples are spent and little time is gained.",
    ),
    change=(
        "A harder target or noisier data, where perfect scaling goes on to larger batches; an optimizer that copes "
        "better with curvature."
    ),
    figures=FIGURES,
)
