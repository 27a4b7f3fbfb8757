"""A thread on Shallue et al.: "batch norm's artificial dependence between batch size and regularization strength"."""

from __future__ import annotations

from repro.claims.batch_norm.experiment import SETTINGS, design
from repro.claims.batch_norm.figures import FIGURES
from repro.claims.batch_norm.judgement import FEW, MARGIN, answer, judge
from repro.evidence.spec import Claim, Published, Revision

NOT_RUN_SO = "other numbers of epochs and images; thirty-two times the updates were not run"
CLAIM = Claim(
    id="batch-norm",
    question="Does batch norm make the batch size mean more than it says?",
    statement="“batch norm's artificial dependence between batch size and regularization strength”",
    source="thread2018",
    counter_claim="what a large batch lacks with batch norm is what it lacks without it: updates",
    counter_sources=("hoffer2017",),
    rule=(
        "Paired differences over seeds of test accuracy, 95 % t intervals, at one learning rate. The large batch, for"
        " as many steps as the small one takes, with batch norm's statistics over ghosts of it, minus the same with "
        "statistics over all of it: nothing else differs. Reproduced: surely not zero, and not the same to within "
        f"±{MARGIN} points (two one-sided tests, 5 %; the margin is for 10,000 test images). Not reproduced: the same "
        "to within that. Inconclusive: anything else. The parts: ghosts gain of the gap at as many epochs surely more"
        " than half (not reproduced: surely less); as many updates gain surely more than ghosts; both inconclusive "
        f"unless there is surely a gap of {MARGIN} points. Batch norm, each tuned by held-out accuracy, is surely "
        f"worth more than {FEW:g} point (not reproduced: surely less). Accuracies from four kinds of start (means over "
        "seeds) have surely less variance with it, beyond that of luck (bootstrap over seeds). At as many steps the "
        "large batch's training loss is surely higher with ghosts, as regularisation makes it (not reproduced: surely "
        "lower). And the control: of what the released code gives to ghosts alone, nothing is "
        "worth as much as the margin (whole intervals), else its table confounds them."
    ),
    history=(
        Revision("2026-11-22T21:15", "Written, before the first run."),
        Revision(
            "2026-11-23T00:21",
            "Still before it, after a review: all ghosts of a batch move the kept statistics as far as one batch does, "
            "for else they forget faster, and evaluation differs too (0.2 to 0.4 points after 90 steps of a pilot, on "
            "validation data). Ten seeds. Training loss is judged. Over starts, a variance less that of luck: a range "
            "is mostly luck.",
        ),
    ),
    sentences={
        "batch norm's artificial dependence": (),
        "Using BN usually nets you a gain": ("Batch norm is worth a few per cent",),
        "this reduces dependence on initialization": ("It reduces the dependence on the start",),
    },
    settings=SETTINGS,
    design=design,
    judge=judge,
    answer=answer,
    advice=(
        "With batch norm, keep the number of examples that statistics are taken over when the batch changes.",
        "Else two things change at once.",
    ),
    change="Statistics over ghosts and over whole batches, at equal batches and steps, that end on the other side.",
    published=(
        Published("test accuracy of F1, small batch", "98.27", unit="%", note=NOT_RUN_SO),
        Published("test accuracy of F1, large batch", "97.05", unit="%", note=NOT_RUN_SO),
        Published("test accuracy of F1, large batch, as many updates", "98.53", unit="%", note=NOT_RUN_SO),
    ),
    figures=FIGURES,
)
