"""Steps to target: what is run."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from repro.evidence.spec import Scale, Settings
from repro.evidence.steps import checkpoints, hyperbola, quasi_random
from repro.names import SpecError, choose
from repro.trial import SEEDS, Sweep, Trial, paired_seeds, whole

NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "784-16-10": {"widths": (16,)},
    "784-256-10": {"widths": (256,)},
    "784-1024-1024-10": {"widths": (1024, 1024)},
    "LeNet-5": {"model": "lenet5"},
}
METHODS: Mapping[str, Mapping[str, Any]] = {
    "SGD": {"optimizer": "sgd"},
    "momentum": {"optimizer": "sgd", "momentum": 0.5},
    "Nesterov": {"optimizer": "nesterov", "momentum": 0.5},
    "Adam": {"optimizer": "adam"},
}
BY_MOMENTUM = ("momentum", "Nesterov")  # methods whose momentum is tuned, too
SLOWEST = 2.0**-6.5  # the least 1 - m that is tried: m up to 0.989
TARGETS = {"mnist5k": 0.85, "mnist": 0.97, "fashion-mnist": 0.84}  # accuracy on the validation set
# Batch sizes between which a method or a network is run: below 16, Adam met the target at no learning rate of the
# pilot; outside the others steps are as foreseeable as dear.
BOUNDS = {
    "Adam": (16, math.inf),
    "LeNet-5": (2, 2048),
    "784-1024-1024-10": (4, 4096),
    "784-1024-1024-10, fashion-mnist": (2, 4096),  # there B_c is smaller, by the pilot
}
DOUBLED = 256  # batch size from which momentum is tuned by twice as many trials: there it matters
HALVED = 2048  # batch size from which there are half as many trials: each is as dear as all of a small one's
KEPT = "784-256-10, SGD"  # but for this study, the one that is asked first
SPARSE = ("LeNet-5",)  # evaluated at every other look: there a look takes as long as many steps
FIRST_LOOK = 1 / 6  # of the steps that a pilot foretold
FAR_ARM = "SGD, far beyond the target"
FAR = 10  # times as many steps as to the target are trained where the end is judged, and `far_epochs` at least

# Where to look, from a few runs of other seeds, made before: learning rate (η/(1 - m) of momentum) and steps to the
# target that were best at these batch sizes, by dataset and study. Between them the rate is taken to go as powers of B,
# beyond the largest to stay, and below the smallest to go as B; the steps as S_min (1 + B_c/B), fitted to them.
Pilot = Mapping[int, tuple[float, float]]
PILOTS: Mapping[str, Mapping[str, Pilot]] = {
    "mnist5k": {
        "784-16-10, SGD": {4: (0.017, 350), 64: (0.13, 47), 1000: (0.16, 27)},
        "784-16-10, momentum": {4: (0.017, 350), 64: (0.59, 35), 1000: (1.36, 19)},
    },
    "mnist": {
        "784-256-10, SGD": {2: (0.0079, 25900), 32: (0.1, 2410), 512: (0.5, 334), 8192: (0.55, 222)},
        "784-256-10, momentum": {8: (0.026, 6660), 256: (0.9, 285), 8192: (2.0, 81)},
        "784-256-10, Adam": {8: (0.0002, 8000), 256: (0.003, 303), 8192: (0.006, 108)},
        "LeNet-5, SGD": {8: (0.04, 2020), 256: (0.15, 222), 4096: (0.12, 179)},
        "784-1024-1024-10, SGD": {8: (0.02, 6720), 256: (0.4, 227), 2048: (0.4, 156)},
    },
    "fashion-mnist": {
        "784-256-10, SGD": {8: (0.018, 2850), 256: (0.16, 190), 8192: (0.33, 125)},
        "784-256-10, momentum": {8: (0.014, 2510), 256: (0.8, 106), 8192: (1.3, 42)},
        "LeNet-5, SGD": {8: (0.05, 2280), 256: (0.13, 260), 2048: (0.16, 222)},
        "784-1024-1024-10, SGD": {8: (0.028, 1180), 256: (0.17, 103), 2048: (0.25, 99)},
    },
}

PAPER: dict[str, Any] = {
    "dataset": "mnist",
    "studies": (
        "784-256-10, SGD",
        "784-256-10, momentum",
        "784-256-10, Nesterov",
        "784-256-10, Adam",
        "LeNet-5, SGD",
        "784-1024-1024-10, SGD",
    ),
    "batch_sizes": tuple(2**k for k in range(1, 15)),
    "other_sizes": (*(2**k for k in range(1, 6)), 128, 512, 2048, 4096),  # of networks other than the first study's
    "trials": 32,  # at each batch size, a power of two
    "octaves": 4,  # that learning rates span
    "more_octaves": 6,  # where momentum is tuned, too
    "budget": 2.25,  # times the steps that a pilot foretold
    "look": 1.15,  # steps from one evaluation to the next, times
    "far_batch_sizes": (16, 256, 4096),
    "far_epochs": 30,  # of the runs far beyond the target, at least
    "seeds": 10,  # of these
}
MNIST5K = {
    **PAPER,
    "dataset": "mnist5k",
    "studies": ("784-16-10, SGD", "784-16-10, momentum"),
    "batch_sizes": tuple(4**k for k in range(1, 6)),
    "other_sizes": tuple(4**k for k in range(1, 6)),
    "far_batch_sizes": (16, 256),
    "far_epochs": 10,
    "seeds": 3,
}
SETTINGS = {
    Scale.SMOKE: (
        {
            **MNIST5K,
            "batch_sizes": (16, 64, 256, 1024),
            "other_sizes": (16, 64, 256, 1024),
            "trials": 8,
            "far_batch_sizes": (256,),
            "far_epochs": 2,
            "seeds": 2,
        },
    ),
    Scale.LAPTOP: (MNIST5K,),
    Scale.PAPER: (
        PAPER,
        {**PAPER, "dataset": "fashion-mnist", "studies": tuple(s for s in PAPER["studies"] if "Adam" not in s)},
    ),
}


def expected(pilot: Pilot, batch_size: int) -> tuple[float, float]:
    """(learning rate, steps) that the pilot foretells."""
    known = sorted(pilot)
    rates, steps = np.log([pilot[b] for b in known]).T
    x = math.log(batch_size)
    rate = float(np.interp(x, np.log(known), rates)) + min(x - math.log(known[0]), 0.0)
    least, critical = hyperbola(known, steps)
    return math.exp(rate), math.exp(float(least) + np.logaddexp(0, float(critical) - x))


def split(study: str) -> tuple[str, str]:
    """(network, method) of a study's name."""
    network, _, method = study.partition(", ")
    choose("network of a study", network, NETWORKS)
    choose("method of a study", method, METHODS)
    return network, method


def pilot_of(dataset: str, study: str) -> Pilot:
    """What a pilot found of the study, on this dataset or, if there was none, another; Nesterov's momentum is tried
    where plain momentum is."""
    network, method = split(study)
    name = f"{network}, {'momentum' if method in BY_MOMENTUM else method}"
    found = [PILOTS.get(dataset, {}), *PILOTS.values()]
    if not any(name in pilots for pilots in found):
        known = dict.fromkeys(itertools.chain.from_iterable(PILOTS.values()))
        raise SpecError(f"study {study!r}: no pilot; known are {', '.join(known)}")
    return next(pilots[name] for pilots in found if name in pilots)


def base_of(dataset: str) -> Trial:
    """What the trials on a dataset have in common: they end at its target, leave out an epoch's last, smaller batch,
    and are of one precision, which would else go with the batch size and the machine."""
    choose("dataset with a target", dataset, TARGETS)
    return Trial(
        dataset=dataset,
        evaluate_on="validation",
        steps=1,
        probes=("held-out fit",),
        target_accuracy=TARGETS[dataset],
        drop_last=True,
        precision="float32",
    )


def study_sweeps(settings: Settings) -> list[Sweep]:
    """A sweep a study: at every batch size as many trials, twice as many where momentum is tuned from DOUBLED on, and
    half as many from HALVED on of all studies but KEPT, at quasi-random points: the logarithm of the learning rate, of
    η/(1 - m) where momentum is tuned, too, uniform over `octaves` (with momentum `more_octaves`) about the pilot's
    best; that of 1 - m uniform from 1 to SLOWEST. Trial i has seed i."""
    first, _ = split(settings["studies"][0])
    sweeps = []
    for study in settings["studies"]:
        network, method = split(study)
        sizes = settings["batch_sizes" if network == first else "other_sizes"]
        octaves = settings["more_octaves" if method in BY_MOMENTUM else "octaves"]
        others = (settings[name] for name in ("budget", "look", "trials"))
        sweeps.append(_study_sweep(settings["dataset"], study, tuple(sizes), octaves, *others))
    return sweeps


@functools.lru_cache(maxsize=None, typed=True)  # several chapters rest on the same thousands of trials
def _study_sweep(
    dataset: str, study: str, sizes: tuple[int, ...], octaves: float, budget: float, look: float, trials: int
) -> Sweep:
    network, method = split(study)
    by_momentum, points = method in BY_MOMENTUM, []
    names = (method, f"{network}, {dataset}", network)
    least, largest = next((BOUNDS[name] for name in names if name in BOUNDS), (1, math.inf))
    look = look**2 if network in SPARSE else look
    for size in (b for b in sizes if least <= b <= largest):
        rate, steps = expected(pilot_of(dataset, study), size)
        most = max(round(budget * steps), 2)
        looks = checkpoints(FIRST_LOOK * steps, most, look)
        count = whole("trials", trials) * (2 if by_momentum and size >= DOUBLED else 1)
        count = max(count // 2, 1) if size >= HALVED and study != KEPT else count
        if count & (count - 1):
            raise SpecError(f"trials {count}: must be a power of two, as quasi-random points are")
        for i, point in enumerate(quasi_random(count, 1 + by_momentum, size, f"{dataset}, {study}")):
            slow = SLOWEST ** point[1] if by_momentum else 1.0
            lr = rate * 2 ** (octaves * (point[0] - 0.5)) * slow
            points.append((size, float(f"{lr:.6g}"), float(f"{1 - slow:.6g}"), most, looks, i, i))
    axis = ("batch_size", "lr", "momentum", "steps", "checkpoints", *SEEDS)
    base = dataclasses.replace(base_of(dataset), **NETWORKS[network], **METHODS[method])
    return Sweep(study, base, {axis: points})


def design(settings: Settings) -> list[Sweep]:
    """The studies; and the first one's network far beyond its target, by SGD at five learning rates about the pilot's,
    at every seed, measured halfway, too."""
    dataset = settings["dataset"]
    first, _ = split(settings["studies"][0])
    fields = {**NETWORKS[first], "evaluate_on": "both", "probes": ("fit",), "target_accuracy": None}
    far = dataclasses.replace(base_of(dataset), **fields)
    pairs = []
    for size in settings["far_batch_sizes"]:
        rate, steps = expected(pilot_of(dataset, f"{first}, SGD"), size)
        at_least = dataclasses.replace(far, batch_size=size, steps=None, epochs=settings["far_epochs"]).num_steps
        most = max(round(FAR * steps), at_least, 2)
        pairs += [(size, float(f"{rate * 2.0**k:.6g}"), most, (most // 2,)) for k in (-2, -1, 0, 1, 2)]
    axes: dict[str | tuple[str, ...], list[Any]] = {
        ("batch_size", "lr", "steps", "checkpoints"): pairs,
        SEEDS: paired_seeds(settings["seeds"]),
    }
    return [*study_sweeps(settings), Sweep(f"{first}, {FAR_ARM}", far, axes)]
