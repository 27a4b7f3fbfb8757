"""What batch size: what is run."""

from __future__ import annotations

import dataclasses

from repro.claims.noise_scale import experiment as noise
from repro.claims.steps_to_target import experiment as steps
from repro.evidence.spec import Scale, Settings
from repro.trial import SEEDS, Sweep, paired_seeds

TIMED = ", step times"  # ends the name of an arm in which the steps of a study are timed

SETTINGS = {
    scale: tuple({**s, "timings": 1 if scale is Scale.SMOKE else 3} for s in several)
    for scale, several in noise.SETTINGS.items()
}


def design(settings: Settings) -> list[Sweep]:
    """What the chapter on the noise scale runs; and of every study, what a step takes here by batch size, as often as
    `timings` says."""
    sweeps = noise.design(settings)
    bases = dict.fromkeys((sweep.base.dataset, sweep.name.removesuffix(noise.ALONG)) for sweep in sweeps)
    for dataset, study in bases:
        network, method = steps.split(study)
        timed = dataclasses.replace(
            steps.base_of(dataset),
            **{**steps.NETWORKS[network], **steps.METHODS[method]},
            target_accuracy=None,
            precision="auto",  # the loop that is timed is one of its own, in float32
            lr=1e-4,  # which lets nothing diverge while it is timed
            final_probes=("step times",),
        )
        sweeps.append(Sweep(f"{study}{TIMED}", timed, {SEEDS: paired_seeds(settings["timings"])}))
    return sweeps
