"""Measures of a network, for any torch module and data that torch knows: how flat a minimum is, how noisy gradients
are, how heavy their tails. A library of its own, which knows no trial, dataset or ledger of this book.
"""

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
