"""Noisy quadratic: what is run. The trials of two other chapters, with those optimizers that the theory here knows."""

from __future__ import annotations

from typing import Any

from repro.claims.noise_scale import experiment as noise
from repro.claims.steps_to_target.experiment import split
from repro.evidence.spec import Settings
from repro.trial import Sweep

METHODS = ("SGD", "momentum")


def _of_theory(settings: Settings) -> dict[str, Any]:
    return {**settings, "studies": tuple(study for study in settings["studies"] if split(study)[1] in METHODS)}


SETTINGS = {scale: tuple(_of_theory(s) for s in several) for scale, several in noise.SEPARATE.items()}


def design(settings: Settings) -> list[Sweep]:
    """Trials that end at a target, at every batch size; and each network along training, where its curvature and its
    noise are measured."""
    return noise.design_of(settings)
