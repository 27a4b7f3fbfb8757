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
        "Paired differences over seeds of test accuracy, averaged over the last tenth of the epochs, 95 % t intervals. "
        f"There is a gap if the large batch is surely more than {MARGIN} points behind the small one (the margin is "
        "for 10,000 test images); without one the verdict is inconclusive. A remedy is given to both. It makes the gap "
        "smaller if the large batch is surely better with it and surely gains more than the small one, in points and "
        f"in the ratio of their errors ({100 * ANY:.1f} % intervals, for either of two would do); it eliminates it if, "
        f"besides, the large batch is then surely less than {MARGIN} points behind the small one with it, and behind "
        "the small one without (one-sided, 5 %); else it fails if it surely brings the large batch less than "
        f"{MARGIN} points, or less than that more than the small one. Augmentation fails only if it fails in four times"
        " the epochs, too, and is conditional if it does not. Reproduced: as the paper found it, augmentation and "
        "conservative training both make the gap smaller, and with each the large batch's φ is still surely more than "
        f"{SHARP:g} times that of the small one without a remedy, by a search that does not depend on the scale of the "
        "loss. Conditional: only one surely makes it smaller, or with one φ is surely no longer so. Not reproduced: "
        "both fail. Inconclusive: anything else, or φ is not so without a remedy. The parts: each of the two, and "
        "dropout, which is the slides' (reproduced: it eliminates the gap; conditional: makes it smaller; not: fails);"
        " adversarial training, of which the paper found no gain, brings nothing (reproduced: fails; not: makes it "
        "smaller); the pull of conservative training is surely better than as many steps without it (not reproduced: "
        "the same, or worse), and so is one of λ = 1; as many steps, and no pull, are surely better than one a batch "
        f"(not reproduced: surely less than {MARGIN} points); minima stay sharp with each of the paper's three (not "
        "reproduced: with all of them surely not; conditional: with some), by that search, by the same with every "
        "layer as long as at the start, by the published one, and beside a small batch that has the remedy, too; the "
        "large batch is surely better from the latest epoch of the small one than from the earliest and than from the "
        f"start, and from the earliest surely less than {MARGIN} points better than from the start (conditional: "
        "surely better, too; not reproduced: the same from both); it ends surely less sharp from the latest than from "
        f"the earliest (else not reproduced: surely more than 1/{SHARP:g} as sharp); at twice or four times the "
        f"learning rate it is surely better ({100 * ANY:.1f} %; not reproduced: surely less than {MARGIN} points); and "
        f"augmentation surely brings the small batch more than {MARGIN} points (not reproduced: less)."
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
        Revision(
            "2026-11-24T00:25",
            "Still before it, after a second sceptic's reading and a pilot of both batch sizes without a remedy (two "
            "other seeds). On trial is what the paper found helps, augmentation and conservative training, both; that "
            "adversarial training brings nothing is a part. Conservative training is what the paper trained, its steps "
            "with it, and what the steps do alone are parts. Sharpness is held against the small batch without a "
            "remedy, for remedies make its minimum sharper, too; and by the search that does not depend on the scale "
            "of the loss, for after a hundred epochs on 5,000 images the pilot's loss was 0.00002, and the published "
            "search found nothing; equal layer norms stand beside. What a remedy brings must show in the ratio of "
            "errors, too. Ten seeds for five on MNIST, where the pilot's large batch was 0.6 points behind; on "
            "Fashion-MNIST it was ahead (one seed), which five will tell. Augmentation has four times the epochs "
            "besides. Warm starts begin with an optimizer without memory.",
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
