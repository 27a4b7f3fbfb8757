"""Keskar et al.: "several strategies to attempt to help large-batch methods"; what does each, and what stays sharp?"""

from __future__ import annotations

from repro.claims.large_batch_remedies.experiment import SETTINGS, design
from repro.claims.large_batch_remedies.figures import FIGURES
from repro.claims.large_batch_remedies.judgement import MARGIN, SHARP, answer, judge
from repro.evidence.spec import Claim, Revision

CLAIM = Claim(
    id="large-batch-remedies",
    question="Is there a remedy for large batches?",
    statement="“several strategies to attempt to help large-batch methods eliminate this generalization gap”",
    source="keskar2017",
    counter_claim="what a large batch lacks is updates, and more of them are the remedy",
    counter_sources=("hoffer2017",),
    rule=(
        "Paired differences over seeds of test accuracy, 95 % t intervals, as many epochs for all. There is a gap if"
        f" the large batch is surely more than {MARGIN} points behind the small one (the margin is for 10,000 test"
        " images); without one the verdict is inconclusive. A remedy is given to both. It eliminates the gap if the"
        " large batch is surely better with it, surely gains more than the small one, and is then the same as the"
        f" small one to within ±{MARGIN} points (two one-sided tests, 5 %) or surely better; conditional: the same"
        f" without the last; not reproduced: it surely brings the large batch less than {MARGIN} points, or less than"
        " that more than the small one. Reproduced: one of augmentation, dropout, conservative and adversarial"
        " training eliminates it. Conditional: none does, but one makes it smaller. Not reproduced: none of the four"
        " does either. Inconclusive: anything else. The parts: each remedy; conservative training is surely better"
        " than as many steps a batch without its pull, or the same (not reproduced); with every remedy the large"
        f" batch's φ is surely more than {SHARP:g} times the small one's (not reproduced: with all of them surely"
        " less; conditional: with some), by ten iterations from y = 0 as published, and by a search that does not"
        " depend on the scale of the loss, where it is so without remedy; the large batch is surely better from the"
        " latest epoch of the small one than from the earliest and than from the start (not reproduced: the same from"
        f" both); and augmentation surely brings the small batch more than {MARGIN} points (not reproduced: less)."
    ),
    history=(Revision("2026-11-23T01:47", "Written, before the first run."),),
    sentences={
        "several strategies to attempt": (),
        "Crucial for achieving state-of-the-art": ("Augmentation is crucial",),
    },
    settings=SETTINGS,
    design=design,
    judge=judge,
    answer=answer,
    advice=(
        "Give a large batch more updates before anything else.",
        "What helps it otherwise helps a small batch as well.",
    ),
    change="A remedy that brings a large batch to a small one that has it too.",
    figures=FIGURES,
)
