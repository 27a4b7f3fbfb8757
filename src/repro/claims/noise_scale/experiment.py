"""Noise scale: what is run."""

from __future__ import annotations

import dataclasses
from typing import Any

from repro.claims.steps_to_target import experiment as steps
from repro.evidence.spec import Scale, Settings
from repro.trial import SEEDS, Sweep, paired_seeds

ALONG = ", along training"  # ends the name of an arm in which the noise scale of a study is measured
USUAL_MOMENTUM = 0.9
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4)  # of the steps to the target after which it is measured; and at both ends
SEEDS_ALONG = 5
NONE = "none"  # no other dataset
TWIN = "Nesterov"  # so near to momentum that it would count as the same workload twice


def _measured(settings: Settings, looks: int) -> dict[str, Any]:
    """Those of the chapter steps to target, without what it runs far beyond the target, and without TWIN; `looks` are
    those between start and end."""
    kept = {name: value for name, value in settings.items() if not name.startswith("far_")}
    studies = tuple(study for study in settings["studies"] if steps.split(study)[1] != TWIN)
    seeds = min(settings["seeds"], SEEDS_ALONG)
    return {**kept, "studies": studies, "seeds": seeds, "measured_batch_size": 64, "looks": looks}


LOOKS = {Scale.SMOKE: 1, Scale.LAPTOP: 3, Scale.PAPER: len(SHARES)}
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
    """The studies of the chapter steps to target; and the same network and optimizer along training, at one batch size
    and the pilot's learning rate, for as many steps as it took to the target: there its noise scale is measured."""
    size, sweeps = settings["measured_batch_size"], steps.study_sweeps(settings)
    looks = SHARES[len(SHARES) - settings["looks"] :]
    for study in settings["studies"]:
        network, method = steps.split(study)
        rate, count = steps.expected(steps.pilot_of(settings["dataset"], study), size)
        momentum = USUAL_MOMENTUM if method in steps.BY_MOMENTUM else 0.0
        changes: dict[str, Any] = {**steps.NETWORKS[network], **steps.METHODS[method], "momentum": momentum}
        along = dataclasses.replace(
            steps.base_of(settings["dataset"]),
            **changes,
            target_accuracy=None,
            batch_size=size,
            lr=float(f"{rate * (1 - momentum):.6g}"),
            steps=max(round(count), 2),
            checkpoints=tuple(dict.fromkeys(max(1, round(share * count)) for share in looks)),
            probes=("fit", "gradient noise"),
        )
        sweeps.append(Sweep(f"{study}{ALONG}", along, {SEEDS: paired_seeds(settings["seeds"])}))
    return sweeps
