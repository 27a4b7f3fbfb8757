"""Shen: "ADAM finds solutions with much larger weights" and "completely ignores the initialization"; Adam, or its
learning rate?"""

from __future__ import annotations

from repro.claims.adam_drift.experiment import MARGIN, MUCH, PUBLISHED, SETTINGS, answer, design, judge
from repro.claims.adam_drift.figures import FIGURES
from repro.evidence.spec import Claim

CLAIM = Claim(
    id="adam-drift",
    question="Does Adam forget where it started?",
    statement=(
        "ADAM finds solutions with much larger weights (…) As for ADAM, the model completely ignores the initialization"
    ),
    source="shen2018",
    counter_claim="tuned widely enough, an adaptive method never does worse than what it contains",
    counter_sources=("choi2019",),
    rule=(
        f"Drift: the weight norm of Adam is more than {MUCH:g} times that of SGD (geometric mean over paired "
        "seeds, 95 % t interval above it), and the cosine of Adam's first layer with its start is below ½ "
        "(interval below it). Not drift: either interval lies wholly on the other side. Reproduced: drift as "
        "published and at tuned learning rates. Conditional: as published, not tuned. Not reproduced: not as "
        "published. Inconclusive: anything else, or a best learning rate on the edge of the grid. Learning rates "
        "are tuned by validation accuracy. Apart: Adam, both tuned, does not generalise worse if test accuracies "
        f"are the same to within ±{MARGIN} points (two one-sided tests; wider where fewer images are tested) or Adam's "
        "is higher; if neither, it does where Adam's is lower (interval of Adam minus SGD below zero). Distance grows "
        "near-linearly where its power of the epoch is above 0.8, sublinearly where below 1."
    ),
    settings=SETTINGS,
    design=design,
    judge=judge,
    answer=answer,
    advice=(
        "Compare optimizers at a learning rate tuned for each.",
        "At one rate for all you measure what a rate means to each of them.",
    ),
    change=(
        f"Adam at its best learning rate with more than {MUCH:g} times the weights of tuned SGD and little of its "
        "first layer's start left, on any of these datasets."
    ),
    published=PUBLISHED,
    figures=FIGURES,
)
