"""Sharp minima: the published numbers, as data."""

from __future__ import annotations

from repro.claims.sharp_minima.experiment import (
    LARGE,
    LARGE_ALL,
    LARGE_KEPT,
    LARGE_ON,
    LARGE_ON_KEPT,
    PAPER,
    SMALL,
    SMALL_ALL,
    SMALL_KEPT,
    SMALL_ON,
    SMALL_ON_KEPT,
)
from repro.evidence.spec import Published

ACCURACIES = {  # of F1: mean and standard deviation as printed, per cent
    (SMALL_ALL, "train_accuracy"): ("99.66", "0.05"),
    (LARGE_ALL, "train_accuracy"): ("99.92", "0.01"),
    (SMALL_ALL, "test_accuracy"): ("98.03", "0.07"),
    (LARGE_ALL, "test_accuracy"): ("97.81", "0.07"),
}


def _phi(
    name: str,
    column: str,
    small: tuple[str, str, str],
    large: tuple[str, str, str],
    note: str = "",
    again: bool = False,
) -> tuple[Published, Published]:
    """φ of either batch size: its arm, the mean as printed, and the standard deviation printed with it, where it is
    among the sentences that we hold."""

    def number(arm: str, printed: str, sd: str) -> Published:
        told = "; ".join(filter(None, [f"printed ± {sd}" if sd else "", note]))
        return Published(f"φ, {name}, {arm}", printed, {"arm": arm}, column, note=told, logarithmic=True, again=again)

    return number(*small), number(*large)


SAMPLE, KEPT = f"over {PAPER['probe_examples']:,} images", "with the statistics of batch norm kept from training"
UNSAID = f"the paper does not give the scale of the columns; here they have unit norm, and φ is {SAMPLE}"
WIDE = "the other way to scale the columns"
SHARPNESSES = (
    *_phi("full space, ε = 1e-3", "sharpness", (SMALL_ALL, "1.23", "0.83"), (LARGE_ALL, "205.14", "69.52")),
    *_phi("full space, ε = 5e-4", "sharpness_half", (SMALL_ALL, "0.61", "0.27"), (LARGE_ALL, "42.90", "17.14")),
    *_phi("100 random dimensions, ε = 1e-3", "sharpness_manifold", (SMALL, "0.11", ""), (LARGE, "9.22", ""), UNSAID),
)
AGAIN = (
    ("100 random dimensions, ε = 1e-3, unit variance", "sharpness_manifold_wide", SMALL, LARGE, "0.11", "9.22", WIDE),
    ("full space, ε = 1e-3", "sharpness", SMALL, LARGE, "1.23", "205.14", SAMPLE),
    ("full space, ε = 1e-3", "sharpness", SMALL_ON, LARGE_ON, "1.23", "205.14", SAMPLE),
    ("full space, ε = 1e-3", "sharpness", SMALL_KEPT, LARGE_KEPT, "1.23", "205.14", KEPT),
    ("full space, ε = 1e-3", "sharpness", SMALL_ON_KEPT, LARGE_ON_KEPT, "1.23", "205.14", KEPT),
)
PUBLISHED = (
    *(
        Published(
            f"{'training' if 'train' in column else 'test'} accuracy, {arm}",
            printed,
            {"arm": arm},
            column,
            "%",
            100.0,
            f"printed ± {sd}",
        )
        for (arm, column), (printed, sd) in ACCURACIES.items()
    ),
    *SHARPNESSES,
    *(
        number
        for name, column, small, large, less, more, note in AGAIN
        for number in _phi(name, column, (small, less, ""), (large, more, ""), note, again=True)
    ),
)
