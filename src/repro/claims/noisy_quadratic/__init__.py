"""Zhang: a noisy quadratic predicts what batch sizes do; here with the curvature and noise of the network itself."""

from __future__ import annotations

from repro.claims.noisy_quadratic.experiment import SETTINGS, design
from repro.claims.noisy_quadratic.figures import FIGURES
from repro.claims.noisy_quadratic.judgement import LEAST, SHAPE, STEPS, answer, judge
from repro.claims.steps_to_target.judgement import OCTAVE
from repro.evidence.spec import Claim, Judged, Revision

CLAIM = Claim(
    id="noisy-quadratic",
    question="Does theory predict how many steps a batch size takes?",
    statement=(
        "“The NQM predicts our results with preconditioned optimizers, previous results with accelerated gradient "
        "descent, and other results around optimal learning rates and large batch training”"
    ),
    source="zhang2019",
    counter_claim="a network is no quadratic: its curvature moves with the learning rate it is trained at",
    counter_sources=("cohen2021",),
    rule=(
        "Studies are those of the chapter on steps to a target by SGD with and without momentum. Along runs of each, "
        "at one batch size and learning rate, the larger of two, where the weights jitter least, the curvature is "
        "measured at several looks, and how gradient and noise spread over it. Between two looks the loss is taken "
        "for a noisy quadratic, and the exact recursion says after how many steps it has fallen as far as the runs'; "
        "the whole way is the sum, from the first look after the start to the target, at the one learning rate (and "
        "momentum) that makes it shortest. Nothing is fitted. The shape is right if measured steps over predicted "
        f"ones differ from their geometric mean by less than {SHAPE:g} times, root mean square over batch sizes, "
        "interval and all (bootstrap over trials), and wrong if surely by more. Reproduced: right in every study. "
        "Conditional: right in some, wrong in the rest. Not reproduced: wrong in all. Where, in theory, a target "
        f"that was met is never met, it is wrong. Inconclusive: anything else, or a study of fewer than {LEAST} batch "
        "sizes; one too many of whose best learning rates lie on an edge is left out. Apart: the theory tells "
        "studies apart if the curve of each is missed by less with its own curvature and noise than with those of "
        "other studies, in the mean (t interval over studies of the logarithm of the ratio surely below 0; not "
        "reproduced: surely above); the shape is judged again with what is measured along the smaller batches; and, "
        "in the same way, perfect scaling ends where predicted (B_c of S_min (1 + B_c/B), fitted to both), and the "
        f"number of steps is the predicted one, each within {STEPS:g} times; the best learning rate is within "
        f"{OCTAVE:g} octave of the predicted one, in the mean over each third of the batch sizes."
    ),
    history=(
        Revision(
            "2026-11-22T10:57",
            "Written before any trial that ends at a target, but for the pilot's of one network; with them and one "
            "network's measured noise the method was tried: it begins at the first look, since the curvature falls "
            "tenfold before it.",
        ),
        Revision(
            "2026-11-22T14:12",
            "Before any trial that ends at a target still: root mean square and means in place of the largest of many "
            "errors, by which made-up studies that obey the theory were found undecided.",
        ),
        Revision(
            "2026-11-23T04:16",
            "Before any trial that ends at a target still: a theory by which a target is never met is wrong there, "
            "and no longer leaves the whole open.",
        ),
        Revision(
            "2026-11-23T21:15",
            "Before any trial that ends at a target is recorded, after a second sceptic's reading: measured along "
            "large batches, for at B = 64 much of what is left to fall was the weights' own jitter, which theory "
            "dropped for free at a large batch; the largest curvature is the mean over seeds, not the largest of "
            "any; and two parts more, of which one is a control: any curve that levels off a little sooner or later "
            "would pass, so other studies' theories are asked, too.",
        ),
    ),
    sentences={
        "The NQM predicts our results": (),
        "The time-to-target-validation is explained": (Judged(words="“As theory would predict.”"),),
    },
    settings=SETTINGS,
    design=design,
    judge=judge,
    answer=answer,
    advice=(
        "Think with it: noise first, then curvature.",
        "What it gets wrong of a network is measured here.",
    ),
    change=(
        "A theory of how the curvature itself moves with the batch size and the learning rate; a task whose loss is "
        "a quadratic near where training ends."
    ),
    figures=FIGURES,
)
