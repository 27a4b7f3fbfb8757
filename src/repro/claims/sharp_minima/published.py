"""Sharp minima: the published numbers, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from repro.claims.sharp_minima.experiment import (
    ANEW,
    LARGE,
    LARGE_ANEW,
    LARGE_ON,
    LARGE_ON_ANEW,
    SMALL,
    SMALL_ANEW,
    SMALL_ON,
    SMALL_ON_ANEW,
)
from repro.evidence.spec import Published


def _keskar(
    name: str,
    printed: Mapping[str, str],
    column: str,
    note: str = "",
    spread: Sequence[str] = (),
    again: bool = False,
) -> list[Published]:
    """Numbers of his tables 2 to 4, by arm; `spread` is the standard deviation that he prints with each. `again`: they
    are listed already."""
    of_phi = "accuracy" not in column
    unit, scale = ("", 1.0) if of_phi else ("%", 100.0)
    notes = [f"printed ± {s}" for s in spread] or [note] * len(printed)
    return [
        Published(f"{name}, {arm}", number, {"arm": arm}, column, unit, scale, told, of_phi, again)
        for (arm, number), told in zip(printed.items(), notes, strict=True)
    ]


PUBLISHED = (
    *_keskar("training accuracy", {SMALL: "99.66", LARGE: "99.92"}, "train_accuracy", spread=("0.05", "0.01")),
    *_keskar("test accuracy", {SMALL: "98.03", LARGE: "97.81"}, "test_accuracy", spread=("0.07", "0.07")),
    *_keskar("φ, full space, ε = 1e-3", {SMALL: "1.23", LARGE: "205.14"}, "sharpness", spread=("0.83", "69.52")),
    *_keskar("φ, full space, ε = 5e-4", {SMALL: "0.61", LARGE: "42.90"}, "sharpness_half", spread=("0.27", "17.14")),
    *_keskar(
        "φ, 100 random dimensions, ε = 1e-3",
        {SMALL: "0.11", LARGE: "9.22"},
        "sharpness_manifold",
        note="the paper does not give the scale of the columns; here they have unit norm",
    ),
    *(
        number
        for column, small, large in (
            ("sharpness", SMALL_ON, LARGE_ON),
            (ANEW, SMALL_ANEW, LARGE_ANEW),
            (ANEW, SMALL_ON_ANEW, LARGE_ON_ANEW),
        )
        for number in _keskar(
            "φ, full space, ε = 1e-3", {small: "1.23", large: "205.14"}, column, spread=("0.83", "69.52"), again=True
        )
    ),
    *_keskar(
        "φ, 100 random dimensions, ε = 1e-3, entries of unit variance",
        {SMALL: "0.11", LARGE: "9.22"},
        "sharpness_manifold_wide",
        note="the other way to scale the columns",
        again=True,
    ),
)
