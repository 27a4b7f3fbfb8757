"""Measures of a network, for any torch module and data that torch knows: how flat a minimum is, how noisy gradients
are, how heavy their tails. A library of its own, which knows no trial, dataset or ledger of this book.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from repro.measure import gradients, moments, noise, passes, tails
    from repro.measure.curvature import Hessian, largest_eigenvalue, spectral_measure
    from repro.measure.flatness import Sharpness, sharpness
    from repro.measure.micro_batches import noise_scale
    from repro.measure.norms import squared_norms

__all__ = [
    "Hessian",
    "Sharpness",
    "gradients",
    "largest_eigenvalue",
    "moments",
    "noise",
    "noise_scale",
    "passes",
    "sharpness",
    "spectral_measure",
    "squared_norms",
    "tails",
]
# Loaded when asked for: some rooms are of numbers alone, and torch takes seconds to load.
_ROOMS = {
    **dict.fromkeys(("Hessian", "largest_eigenvalue", "spectral_measure"), "curvature"),
    **dict.fromkeys(("Sharpness", "sharpness"), "flatness"),
    "noise_scale": "micro_batches",
    "squared_norms": "norms",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'repro.measure' has no attribute {name!r}")
    room = importlib.import_module(f"repro.measure.{_ROOMS.get(name, name)}")
    return getattr(room, name) if name in _ROOMS else room


def __dir__() -> list[str]:
    return __all__
