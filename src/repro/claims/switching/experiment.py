"""Switching the batch size: what is run."""

from __future__ import annotations

import dataclasses

from repro.evidence.spec import Scale, Settings
from repro.names import SpecError
from repro.trial import SEEDS, Phase, Sweep, Trial, paired_seeds

SMALL_KEPT, SMALL_LONGER = "small batch from the start", "small batch for twice as long"
LARGE_KEPT = "large batch kept"
SWITCHED, AT_EQUAL_STEPS = "switched after epoch {}", "switched last, as many steps in all"
LATEST = "switched after as many steps of the large batch"
FASTER, STUCK = "ten times the learning rate after epoch {}", "switched, with too low a learning rate"
OF_POST = "network of the post: {}"  # arms run on it, too
TOO_LOW = 1e-3  # of the learning rate: so little that the network stays where it is
LOOKS = (1, 2, 5, 10)  # epochs after a switch, at which accuracy is measured

PAPER = {
    "dataset": "mnist",
    "small": 64,
    "large": 1024,
    "lr": 0.01,
    "precision": "auto",  # the same for both batch sizes, of 64 and more
    "epochs": 30,  # before the longest switch, and after every one
    "switches": (1, 3, 10, 30),  # epochs after which the batch size changes
    "rest": 480,  # epochs after which the large batch has taken as many steps as the small one takes alone
    "seeds": 5,
    "widths": (256,),
    "post_seeds": 5,  # at most, of the arms that the post publishes, on its network; 0 leaves them out
    "post_widths": (1024, 1024),
}
MNIST5K = {**PAPER, "dataset": "mnist5k", "small": 16, "large": 256, "lr": 0.05, "precision": "float32"}
SETTINGS = {
    Scale.SMOKE: (
        {
            **MNIST5K,
            "epochs": 3,
            "switches": (1, 3),
            "rest": 48,
            "seeds": 2,
            "widths": (32,),
            "post_seeds": 2,
            "post_widths": (64,),
        },
    ),
    Scale.LAPTOP: (
        {
            **MNIST5K,
            "epochs": 10,
            "switches": (1, 3, 10),
            "rest": 160,
            "seeds": 3,
            "widths": (64,),
            "post_widths": (128,),
        },
    ),
    Scale.PAPER: (PAPER, {**PAPER, "dataset": "fashion-mnist", "seeds": 12, "post_seeds": 0}),
}


def tail(epochs: float) -> float:
    """Epochs at the end, of those that the small batch gets, over which accuracy is averaged: a third."""
    return epochs / 3


def design(settings: Settings) -> list[Sweep]:
    """The small batch and the large one, kept; the large one until each of `switches`, then the small one for `epochs`
    more; and, after the longest, until as many steps are taken in all as the small batch takes from the start, or the
    small batch at a learning rate that is far too low. The large one, kept, with ten times the learning rate after the
    first of them and after the last. And the small one after `rest` epochs of the large one, beside the small one for
    twice as many epochs. On the post's network, what the post has of these."""
    small, large, lr, epochs = (settings[name] for name in ("small", "large", "lr", "epochs"))
    switches = settings["switches"]
    if sorted(set(switches)) != list(switches) or small >= large:
        raise SpecError(f"switches {list(switches)}: must rise, and small {small} be below large {large}")
    first, longest = switches[0], switches[-1]

    def trial(size: int, total: float, phase: Phase | None = None) -> Trial:
        """Measured after a switch, and at the end of every epoch of the tail."""
        start = phase.epoch if phase else 0
        looks = {float(start + look) for look in (0, *LOOKS)}
        last = {total - e for e in range(1, 1 + int(tail(epochs)))}
        seen = tuple(sorted(e for e in looks | last if 0 < e < total))
        return Trial(
            dataset=settings["dataset"],
            widths=settings["widths"],
            lr=lr,
            batch_size=size,
            epochs=total,
            schedule=(phase,) if phase else (),
            checkpoints=seen,
            probes=("held-out fit",),
            precision=settings["precision"],
        )

    whole = float(longest + epochs)
    arms = {SMALL_KEPT: trial(small, epochs), SMALL_LONGER: trial(small, 2 * epochs), LARGE_KEPT: trial(large, whole)}
    arms |= {SWITCHED.format(e): trial(large, float(e + epochs), Phase(e, lr, small)) for e in switches}
    moved = arms[SWITCHED.format(longest)]
    left = (arms[SMALL_KEPT].num_steps - moved.step_at(longest)) / arms[SMALL_KEPT].steps_in_epoch(0)
    arms[AT_EQUAL_STEPS] = trial(large, longest + left, Phase(longest, lr, small))
    arms[LATEST] = trial(large, float(settings["rest"] + epochs), Phase(settings["rest"], lr, small))
    arms |= {FASTER.format(e): trial(large, whole, Phase(e, 10 * lr, large)) for e in (first, longest)}
    arms[STUCK] = trial(large, whole, Phase(longest, TOO_LOW * lr, small))
    sweeps = [Sweep(arm, spec, {SEEDS: paired_seeds(settings["seeds"])}) for arm, spec in arms.items()]
    if settings["post_seeds"]:
        seeds = paired_seeds(min(settings["seeds"], settings["post_seeds"]))
        switching = (SWITCHED.format(first), SWITCHED.format(longest), FASTER.format(longest), STUCK)
        of_post = (SMALL_KEPT, LARGE_KEPT, *switching)
        wide = {arm: dataclasses.replace(arms[arm], widths=settings["post_widths"]) for arm in of_post}
        sweeps += [Sweep(OF_POST.format(arm), spec, {SEEDS: seeds}) for arm, spec in wide.items()]
    return sweeps
