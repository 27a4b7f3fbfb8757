"""Shallue: steps to a target fall in proportion to the batch, then less, then not at all."""

from __future__ import annotations

from repro.claims.steps_to_target.experiment import SETTINGS, design
from repro.claims.steps_to_target.figures import FIGURES
from repro.claims.steps_to_target.judgement import (
    ALIKE,
    FLAT,
    LARGE,
    MANY,
    MARGIN,
    NETWORKS,
    OCTAVE,
    OPPOSITE,
    SMALL,
    TOLERANCE,
    answer,
    judge,
)
from repro.evidence.spec import Claim, Judged, Revision
from repro.evidence.steps import SOUND

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
        "validation set, over the learning rate, and over momentum where there is one: the lowest point of a "
        "quadratic surface through the logarithms of the trials' steps near the best, by the logarithm of η/(1 − m) "
        "and of 1 − m; where too few lie near it, the best trial. Intervals: bootstrap over trials. The first regime "
        f"is seen where the power of B with which S goes, from the smallest batch size to {SMALL} times that, lies "
        f"within {TOLERANCE:g} of −1 with its whole interval; the second where from an {({8: 'eighth'})[LARGE]} of "
        f"the largest on it lies above {FLAT:.2f}, so that a doubling saves less than a fifth of the steps: of the "
        "batch sizes that were run, whichever of them can be judged. A batch size whose best lies on the edge of "
        "what was tried, or at which fewer than three trials met the target, is left out, and so is a study of which "
        f"more than a {({0.75: 'quarter'})[SOUND]} of the batch sizes are. Reproduced: both are seen in "
        f"{({3: 'three'})[MANY]} studies or more, of {({2: 'two'})[NETWORKS]} networks, Nesterov's momentum not "
        "counted, and in none is one surely not. Conditional: both in some, and in others one is surely not. Not "
        "reproduced: surely not in as many, and seen in none. Inconclusive: anything else. Apart: momentum extends "
        "perfect scaling if B_c of S = S_min (1 + B_c/B), fitted to a study, is larger with it than without "
        "(intervals of the ratio above 1, for every kind of momentum; open where one cannot be judged). No heuristic "
        "holds if each of three rules (learning rate in proportion to B, to its square root, unchanged), followed "
        f"from the middle third of the batch sizes down and up, is surely more than {OCTAVE:g} octave off in the mean "
        "over the lowest third or the highest, in some study without momentum (with it, the best rate moves with the "
        "best momentum). Over all batch sizes a curve that rises and then levels off fails all three, so this restates "
        "the two regimes; it is judged once more over those up to B_c, where a larger batch still saves steps. One law "
        f"tells all if that fitted to a study misses its batch sizes by less than {ALIKE:g} times, root mean square, "
        "in all. Equal epochs and equal steps say opposite things if the smallest batch surely takes more steps, and "
        "fewer examples, than the largest, in every study. Large batches do not test worse if ten times beyond the "
        "target, and for 30 epochs at least, at the learning rate of best validation accuracy, test error at the "
        f"largest of three batch sizes is the same as at the smallest to within ±{MARGIN} points (two one-sided "
        "tests), or lower; not settled if one of those rates is the lowest or highest tried, or if over the second "
        f"half validation accuracy may still rise by {MARGIN} points: of the smallest batch size, where the largest "
        "does not test worse, else of the largest."
    ),
    history=(
        Revision("2026-11-22T08:50", "Written, before the first run but those of the pilot, of other seeds."),
        Revision(
            "2026-11-22T14:12",
            "Before the first run still: made-up studies that obey the claim were found undecided by it, since one "
            "batch size on an edge cost a study, all studies had to hold, and largest errors were taken over many "
            "batch sizes.",
        ),
        Revision(
            "2026-11-23T04:16",
            "Before the first run still, after a sceptic's reading: one precision, which would have gone with the "
            "batch size and the machine; more batch sizes for networks other than the first, of which made-up studies"
            " were found undecided for want of them; heuristics once more up to B_c.",
        ),
        Revision(
            "2026-11-23T06:50",
            "Before the first run still: half as many trials from B = 2048 on, and 2.25 times the steps that the pilot "
            "foretold for 3 times: nearly all of the hours were to go there. Made-up data that obey the claim, with "
            "trials that differ by 15 %, are called reproduced by either plan (14 of 14 times by the one, 16 of 16 by "
            "the other); with half as many trials at small batches, too, 10 of 14 times.",
        ),
        Revision(
            "2026-11-23T20:34",
            "Before the first run still, after a second sceptic's reading: ten times the steps to the target would "
            "have set a small batch after 5 epochs beside a large one after 100, so 30 epochs at least, ten seeds "
            "for five, a fifth learning rate, and a look halfway; twice as many trials with Nesterov's momentum, and "
            "of plain SGD on the first network at large batches; the wide network from B = 2 on Fashion-MNIST, where "
            "its B_c is small; studies must be of two networks; ends are those of what was run; and what cannot be "
            "judged is open, where it was left out.",
        ),
    ),
    sentences={
        "They have separate experiments where": (OPPOSITE,),
        "When the experiments are done carefully enough": ("One law, S_min (1 + B_c/B), for every network",),
        "they don't find any evidence for a 'sharp/flat optima'": ("Large batches do not test worse",),
        "The time-to-target-validation is explained": (Judged(words="The two regimes"),),
    },
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
