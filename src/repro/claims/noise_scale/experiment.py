"""Noise scale: what is run."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from repro.claims.steps_to_target import experiment as steps
from repro.evidence.spec import Scale, Settings
from repro.trial import SEEDS, Sweep, paired_seeds, whole

ALONG = ", along training"  # ends the name of an arm in which the noise scale of a study is measured
USUAL_MOMENTUM = 0.9
BEYOND = 1.25  # times the steps that the pilot foretold are run: the way ends where the target is met
SEEDS_ALONG = 5
NONE = "none"  # no other dataset
TWIN = "Nesterov"  # so near to momentum that it would count as the same workload twice


def _measured(settings: Settings, looks: int) -> dict[str, Any]:
    """Those of the chapter steps to target, without what it runs far beyond the target, and without TWIN; after the
    start there are `looks`, evenly over the steps to the target."""
    kept = {name: value for name, value in settings.items() if not name.startswith("far_")}
    studies = tuple(study for study in settings["studies"] if steps.split(study)[1] != TWIN)
    seeds = min(settings["seeds"], SEEDS_ALONG)
    return {**kept, "studies": studies, "seeds": seeds, "measured_batch_sizes": (64, 1024), "looks": looks}


LOOKS = {Scale.SMOKE: 3, Scale.LAPTOP: 4, Scale.PAPER: 8}
# One dataset at a time
SEPARATE = {scale: tuple(_measured(s, LOOKS[scale]) for s in several) for scale, several in steps.SETTINGS.items()}


def _together(first: Settings, *others: Settings) -> Settings:
    """The datasets' settings as one: what is asked is how workloads differ."""
    [other] = others or [{"dataset": NONE, "studies": first["studies"]}]
    return {**first, "other_dataset": other["dataset"], "other_studies": other["studies"]}


SETTINGS = {scale: (_together(*several),) for scale, several in SEPARATE.items()}


def design(settings: Settings) -> list[Sweep]:
    """What `design_of` gives, of either dataset."""
    sweeps = design_of(settings)
    if settings["other_dataset"] not in (NONE, settings["dataset"]):
        other = {"dataset": settings["other_dataset"], "studies": settings["other_studies"]}
        sweeps += design_of({**settings, **other})
    return sweeps


def design_of(settings: Settings) -> list[Sweep]:
    """The studies of the chapter steps to target; and the same network and optimizer along training, at each of the
    `measured_batch_sizes` and the pilot's learning rate there, for somewhat more steps than it took to the target:
    there its noise scale is measured."""
    sweeps, looks = steps.study_sweeps(settings), whole("looks", settings["looks"])
    base = dataclasses.replace(
        steps.base_of(settings["dataset"]), target_accuracy=None, probes=("fit", "gradient noise")
    )
    for study in settings["studies"]:
        network, method = steps.split(study)
        pilot = steps.pilot_of(settings["dataset"], study)
        momentum = USUAL_MOMENTUM if method in steps.BY_MOMENTUM else 0.0
        points = []
        for size in settings["measured_batch_sizes"]:
            rate, count = steps.expected(pilot, size)
            most = max(round(BEYOND * count), 2)
            seen = {max(1, round(k * count / looks)) for k in range(1, math.ceil(BEYOND * looks))}
            points.append(
                (size, float(f"{rate * (1 - momentum):.6g}"), most, tuple(sorted(n for n in seen if n < most)))
            )
        along = dataclasses.replace(base, **steps.NETWORKS[network], **{**steps.METHODS[method], "momentum": momentum})
        axes: dict[str | tuple[str, ...], list[Any]] = {
            ("batch_size", "lr", "steps", "checkpoints"): points,
            SEEDS: paired_seeds(settings["seeds"]),
        }
        sweeps.append(Sweep(f"{study}{ALONG}", along, axes))
    return sweeps
