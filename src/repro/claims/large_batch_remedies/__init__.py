"""Keskar et al.: "several strategies to attempt to help large-batch methods"; what does each, and what stays sharp?"""

from __future__ import annotations

from repro.claims.large_batch_remedies.experiment import SETTINGS, design
from repro.claims.large_batch_remedies.figures import FIGURES
from repro.claims.large_batch_remedies.judgement import ANY, MARGIN, SHARP, answer, judge
from repro.evidence.spec import Claim, Revision

CLAIM = Claim(
    id="large-batch-remedies",
    question="Is there a remedy for large batches?",
    statement="“several strategies to attempt to help large-batch methods eliminate this generalization gap”",
    source="keskar2017",
    counter_claim="what a large batch lacks is updates, and more of them are the remedy",
    counter_sources=("hoffer2017",),
    rule=(
        "Paired differences over seeds of test accuracy, averaged over the last tenth of the epochs, 95 % t "
        f"intervals, as many epochs for all. There is a gap if the large batch is surely more than {MARGIN} points "
        "behind the small one (the margin is for 10,000 test images); without one the verdict is inconclusive. A "
        "remedy is given to both. It makes the gap smaller if the large batch is surely better with it and surely "
        f"gains more than the small one ({100 * ANY:.1f} % intervals, for any of the paper's three would do); it "
        "eliminates it if, besides, the large batch is then the same as the small one with it, and as the small one "
        f"without, to within ±{MARGIN} points (two one-sided tests, 5 %) or surely better; it fails if it surely "
        f"brings the large batch less than {MARGIN} points, or less than that more than the small one. Conservative "
        "training must surely beat as many steps a batch without its pull, too, and fails if it surely does not. "
        "Reproduced: as the paper found it, augmentation, conservative or adversarial training makes the gap smaller,"
        f" and with each that does, the large batch's φ is still surely more than {SHARP:g} times the small one's, by "
        "ten iterations from y = 0 as published. Conditional: one makes it smaller, and with one φ is surely no "
        "longer so. Not reproduced: all three fail. Inconclusive: anything else, or φ is not so without a remedy. The"
        " parts: each remedy, and dropout, which is the slides' (reproduced: it eliminates the gap; conditional: "
        "makes it smaller; not: fails); the pull is surely better than as many steps without it (not reproduced: the "
        "same, or worse), and so is one of λ = 1; minima stay sharp with every remedy (not reproduced: with all of "
        "them surely not; conditional: with some), by the published search and by one that does not depend on the "
        "scale of the loss; the large batch is surely better from the latest epoch of the small one than from the "
        "earliest and than from the start, and from the earliest not surely better than from the start (conditional: "
        "that, too; not reproduced: the same from both); it ends surely less sharp, by the published search, from the "
        f"latest than from the earliest (not reproduced: surely more than 1/{SHARP:g} as sharp); twice or four times "
        f"the learning rate is surely better (not reproduced: surely less than {MARGIN} points); and augmentation "
        f"surely brings the small batch more than {MARGIN} points (not reproduced: less)."
    ),
    history=(
        Revision("2026-11-23T01:47", "Written, before the first run."),
        Revision(
            "2026-11-23T04:27",
            "Still before it, after a sceptic's reading: what the paper found is on trial, that remedies make the gap"
            " smaller and minima stay sharp, where it was whether they eliminate it, which the paper only attempts; "
            "dropout, which is not the paper's, is a part; a remedy that harms the small batch eliminates nothing; "
            "conservative training must beat as many steps without its pull; accuracy is averaged over the last "
            "epochs; and two higher learning rates stand beside.",
        ),
        Revision(
            "2026-11-23T10:43",
            "Still before it: any of three remedies would do, so what each gains is told at 98.3 %.",
        ),
        Revision(
            "2026-11-23T13:52",
            "Still before it: a part for a pull a thousand times as strong, for λ = 0.001 may be too little to matter.",
        ),
        Revision(
            "2026-11-23T20:11",
            "Still before it: a part for whether a late warm start ends flatter, which was drawn nowhere.",
        ),
    ),
    sentences={
        "several strategies to attempt": (),
        "Crucial for achieving state-of-the-art": ("Augmentation is crucial",),
    },
    settings=SETTINGS,
    design=design,
    judge=judge,
    answer=answer,
    advice=(
        "Try what helps on the small batch, too, before you call it a remedy.",
        "What is left of the gap then is the large batch's own.",
    ),
    change="A remedy that brings a large batch to a small one that has it too.",
    figures=FIGURES,
)
