"""Shen: gradients in a batch compete, so that their norm grows as √B and larger batches spread more; read how?"""

from __future__ import annotations

from repro.claims.gradient_competition.experiment import MIN_SEEDS, POINTS, RISE, ROOT_HIGH, ROOT_LOW, SETTINGS, design
from repro.claims.gradient_competition.figures import FIGURES
from repro.claims.gradient_competition.judgement import answer, judge
from repro.evidence.spec import Claim, Published

NOTE = "√B; of the reading closest to it, the summed gradient of one batch at frozen weights"

CLAIM = Claim(
    id="gradient-competition",
    question="Do summed gradients grow as √B?",
    statement=(
        "for the same average Euclidean norm distance from the initial weights of the model, larger batch sizes have "
        "larger variance in the distance"
    ),
    source="shen2018",
    counter_claim="noise and mean gradient explain the norm, and a sum of more gradients spreads less",
    counter_sources=("mccandlish2018",),
    rule=(
        "The post's text admits eight readings: gradients reduced by sum or mean, weights frozen or moving, the norm "
        "of one batch or accumulated over 1,024 examples. Each is measured early and late in training, and each power "
        "of B is the slope of a least-squares line through logarithms over all batch sizes, with a 95 % t interval "
        f"over seeds. A reading supports √B where the power of the mean norm lies between {ROOT_LOW} and {ROOT_HIGH}, "
        f"interval and all; a larger spread where the power of the coefficient of variation lies above {RISE}; larger "
        "and smaller values where the 95 % and the 5 % quantile both move away from the mean, in units of the mean, "
        f"with powers above {RISE}. Reproduced: one reading supports all three sentences, early and late. Conditional: "
        "each sentence is supported by some reading at some point. Not reproduced: some sentence by none. "
        f"Inconclusive: fewer than {MIN_SEEDS} seeds, or intervals too wide to say. A sentence alone is reproduced "
        "where every reading supports it, conditional where some do."
    ),
    settings=SETTINGS,
    design=design,
    judge=judge,
    answer=answer,
    advice=(
        "With a gradient norm, say what was summed and whether the weights moved.",
        "Read differently, the same gradients grow, stay or shrink with the batch.",
    ),
    change=(
        "One way of reading the post that gives all three findings, early and late in training. The code behind the "
        "post would show which way was meant."
    ),
    published=tuple(
        Published(f"power of B in the mean norm, {arm}", "0.5", {"arm": arm}, "single_slope", note=NOTE)
        for arm in POINTS
    ),
    figures=FIGURES,
)
