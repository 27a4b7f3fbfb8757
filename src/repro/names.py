"""The names that a trial may use: datasets and what is known of them, models, optimizers, probes. And what is said of
a name that is none of them.

This room imports nothing of ours and no torch.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


class ReproError(Exception):
    """An error the user can mend. Its text is one line: what was given, what is allowed, what to do."""

    exit_status = 1

    def _render_traceback_(self) -> list[str]:  # IPython's hook: one line in a notebook, too
        return [f"{type(self).__name__}: {self}"]


class SpecError(ReproError):
    """A trial, sweep or setting that cannot be run as written."""


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a dataset before it is read. `checksum` stands for its data in a trial's key: the start
    of a SHA-256, which of mnist5k, MNIST and Fashion-MNIST is checked when they are read."""

    num_train: int
    num_test: int
    num_validation: int  # taken off the end of the training set when a trial evaluates on "validation"
    shape: tuple[int, int, int]  # channels, height, width
    mean: tuple[float, ...]  # of the pixels / 255, per channel
    sd: tuple[float, ...]
    checksum: str
    num_classes: int = 10
    most_frequent: float = 0.1  # share of the test images that are of the most frequent class


DATASETS: Mapping[str, DatasetInfo] = {
    "mnist5k": DatasetInfo(4_000, 1_000, 500, (1, 28, 28), (0.1307,), (0.3081,), "809ec085d551285c"),
    "mnist": DatasetInfo(60_000, 10_000, 10_000, (1, 28, 28), (0.1307,), (0.3081,), "ba891046e6505d7a", 10, 0.1135),
    "fashion-mnist": DatasetInfo(60_000, 10_000, 10_000, (1, 28, 28), (0.2860,), (0.3530,), "c59f468a2f672dc8"),
    "kmnist": DatasetInfo(60_000, 10_000, 10_000, (1, 28, 28), (0.1918,), (0.3483,), "bdb82020997e1d70"),
    "cifar10": DatasetInfo(
        50_000,
        10_000,
        10_000,
        (3, 32, 32),
        (0.4914, 0.4822, 0.4465),
        (0.2470, 0.2435, 0.2616),
        "c58f30108f718f92",
    ),
}
MODELS = ("mlp", "f1", "cnn", "lenet5")
# How a reader knows them; several are what one finding may rest on.
BOTH = "both"
DATASET_NAMES = {
    "mnist5k": "MNIST-5k",
    "mnist": "MNIST",
    "fashion-mnist": "Fashion-MNIST",
    "kmnist": "KMNIST",
    "cifar10": "CIFAR-10",
    BOTH: "MNIST and Fashion-MNIST",
}
INITS = ("glorot", "glorot_normal", "pytorch", "he")
OPTIMIZERS = ("sgd", "nesterov", "adagrad", "rmsprop", "adam", "adamw")
PREPROCESSINGS = ("standardize", "unit")
SPLITS = ("test", "validation", "both")
PRECISIONS = ("auto", "float32", "bfloat16")
STATISTICS = ("kept", "batch")
AUGMENTATIONS = ("none", "shift and rotate")
PROBES = (
    "fit",
    "held-out fit",
    "travel",
    "sharpness",
    "scale-free sharpness",
    "sharpness, half the box",
    "sharpness variants",
    "sharpness, other boxes",
    "sharpness, statistics anew",
    "sharpness, equal norms",
    "largest eigenvalue",
    "curvature",
    "landscape",
    "interpolation",
    "rescaled",
    "gradient norms",
    "gradient tails",
    "gradient passes",
    "gradient noise",
    "step times",
)
NUMBERS = (
    "lr",
    "momentum",
    "weight_decay",
    "beta1",
    "beta2",
    "eps",
    "warmup_epochs",
    "norm_eps",
    "label_noise",
    "dropout",
    "proximal",
    "adversarial",
)  # fields that are floats


def choose(kind: str, given: object, allowed: Iterable[str]) -> None:
    """Raise SpecError, with the nearest allowed name, unless `given` is one of `allowed`."""
    allowed = tuple(allowed)
    if given in allowed:
        return
    allowed = tuple(str(name) for name in allowed)
    near = difflib.get_close_matches(str(given), allowed, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise SpecError(f"unknown {kind} {given!r}: allowed are {', '.join(allowed)}{hint}")


def is_number(value: object) -> bool:
    """Whether `value` is a finite number, and no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
