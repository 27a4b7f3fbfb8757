"""Shen: gradients of larger batches have "a much heavier tail"; in counts, or once they are of one scale?"""

from __future__ import annotations

from repro.claims.gradient_competition.experiment import MIN_SEEDS, POINTS, SETTINGS, design
from repro.claims.heavy_tails.figures import FIGURES
from repro.claims.heavy_tails.judgement import GAUSSIAN_FROM, MANY, MARGIN, SMALL, answer, judge
from repro.evidence.spec import Claim, Published


def _published(arm: str) -> Published:
    note = "about 2 at B = 2; what counts as large is set here so that it is 2 there, for the post does not say"
    name = f"log₁₀ of the number of large values at B = 1024, {arm}"
    return Published(name, "5", {"arm": arm}, "large_values_sum", note=note)


CLAIM = Claim(
    id="heavy-tails",
    question="Do large batches have heavier-tailed gradients?",
    statement="the distribution of gradients for larger batch sizes has a much heavier tail",
    source="shen2018",
    counter_claim="a sum of more independent gradients is closer to a Gaussian, whose tails are light",
    counter_sources=("panigrahi2019", "xie2023"),
    rule=(
        "A heavier tail is one of shape: after everything is brought to one scale. Three measures that grow with the "
        "tail (excess kurtosis, Hill's ξ of the largest 5 %, 1/α̂), each minus that of Gaussian values of the same "
        f"standard deviations, at the largest batch minus at B = {SMALL}, early and late in training; 95 % t intervals "
        "over seeds. Across draws (each coordinate by itself) and across coordinates (of one draw's noise) are judged "
        "apart. On either axis: heavier where some interval lies above zero at both points and none below; lighter the "
        "other way round; conditional where some lie above and some below. Reproduced: heavier on both axes. Not "
        "reproduced: lighter on both. Conditional: anything else that is settled. Inconclusive: an axis is not "
        f"settled, or fewer than {MIN_SEEDS} seeds. Raw counts are judged apart: more than {MANY:g} times as "
        f"many large values at the largest batch as at B = {SMALL}, for sums and for means. So is α: reproduced where "
        f"α̂ lies more than {MARGIN} below that of Gaussian values of the same scales at every B of {GAUSSIAN_FROM} or "
        "more, not reproduced where it does at none."
    ),
    settings=SETTINGS,
    design=design,
    judge=judge,
    answer=answer,
    advice=(
        "Bring gradients to one scale before you compare their tails.",
        "A count of large values measures how wide they spread, and sums spread wider.",
    ),
    change=(
        "Kurtosis, Hill's ξ or 1/α̂ that rises with the batch, beyond that of Gaussian values of the same scales, "
        "across draws and across coordinates."
    ),
    published=(
        *map(_published, POINTS),
        Published(
            "batch size from which gradient noise is Gaussian (Panigrahi et al.)",
            str(GAUSSIAN_FROM),
            note="of tests on other networks; judged here by α̂ beside Gaussian values of the same scales",
        ),
    ),
    figures=FIGURES,
)
