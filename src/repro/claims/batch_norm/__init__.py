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
        f"statistics over all of it: nothing else differs. Two are the same if within ±{MARGIN} points (two one-sided "
        "tests, 5 %; the margin is for 10,000 test images), and differ if they are not that and the interval leaves "
        "out zero. Reproduced: ghosts are better, as stronger regularisation is. Conditional: they are worse, so that "
        "it matters, but not to the good; or at as many epochs it is otherwise, the same or the other way round. Not "
        "reproduced: the same. Inconclusive: anything else. LeNet-5, with batch norm after its convolutions alone, is "
        "a part: its statistics are taken over hundreds of positions an example, so that the reasoning expects "
        "nothing there, and the same does not speak against it. The other parts: with ghosts the training loss, as "
        "the network is evaluated, is surely higher at as many epochs and as many steps (conditional: higher at one "
        "and lower at the other; not reproduced: lower at both); ghosts of a quarter of the examples differ the same "
        "way from ghosts (not reproduced: the same, or the other way; open unless ghosts differ). At as many steps, "
        "the large batch falls further behind the small one with batch norm than without (not reproduced: the same, "
        f"or less far); with ghosts it is surely less than {MARGIN} points behind (one-sided, 5 %; not reproduced: "
        "surely more). At as many epochs and a learning rate times the root of how much larger the batch is, as the "
        "paper has it, ghosts are better (not reproduced: the same, or worse); as many updates gain surely more than "
        f"ghosts; both inconclusive unless there is surely a gap of {MARGIN} points. Batch norm, each tuned by "
        f"held-out accuracy, is surely worth more than {FEW:g} point (not reproduced: surely less). Accuracies from "
        "four kinds of start (means over seeds; what diverges tests as chance does) have surely less variance with it,"
        " beyond that of luck (bootstrap over seeds; conditional if without one of the kinds it is the other way "
        "round). And the controls: of what the released code gives to ghosts alone nothing is worth as much as the "
        "margin (whole intervals), else its table confounds them; and nothing of what it gives to all."
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
        Revision(
            "2026-11-24T00:40",
            "Still before it, after a sceptic's reading, who trained a few pilots (four other seeds, judged on "
            "held-out images): ghosts must be better, where any difference did; and as many epochs must not say "
            "otherwise. The released code cuts gradients, begins momentum anew and takes the best epoch with "
            "ghosts and without: only √2 times the rate, and twice the epochs, are given to ghosts alone. "
            "Training loss is judged early and late: in the pilots it was higher at the one and lower at the "
            "other. New parts: smaller ghosts, what the large batch lacks with batch norm and without, ghosts "
            "beside the small batch, and at the paper's rate. Of starts, each kind is left out once; ten seeds. "
            "On Fashion-MNIST twenty. 10,240 images, of which either batch size takes all.",
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
