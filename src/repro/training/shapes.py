"""What a trial's network costs, and which trials are trained as one stack. No torch is imported, so that a sweep is
cheap to plan, and what is recorded cheap to read.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import NamedTuple

from repro.names import DATASETS
from repro.trial import Trial

F1_WIDTHS = (512,) * 5  # Keskar et al. (2017), table 1
# Weights of one stack that a core's share of the cache holds: beyond it, stacking loses what it gains.
STACK_BYTES = 8 * 2**20
MAX_STACK = 32


class Convolutional(NamedTuple):
    """Two 5×5 convolutions, each pooled by 2, and hidden layers on what is left."""

    channels: tuple[int, int]
    paddings: tuple[int, int]
    hidden: tuple[int, ...]

    def sides(self, side: int) -> list[int]:
        """Of the image (height or width), after the first convolution, and after the second; before pooling."""
        first = side + 2 * self.paddings[0] - 4
        return [side, first, first // 2 + 2 * self.paddings[1] - 4]

    def flat(self, height: int, width: int) -> int:
        """Numbers that the first hidden layer is given."""
        return self.channels[1] * (self.sides(height)[2] // 2) * (self.sides(width)[2] // 2)

    def multiply_adds(self, shape: tuple[int, int, int], outputs: int) -> int:
        """Of one example of this shape (channels, height, width)."""
        channels, height, width = shape
        places = [h * w for h, w in zip(self.sides(height), self.sides(width), strict=True)][1:]
        inputs = (channels, self.channels[0])
        convolutions = sum(p * 25 * i * o for p, i, o in zip(places, inputs, self.channels, strict=True))
        layers = (self.flat(height, width), *self.hidden, outputs)
        return convolutions + sum(a * b for a, b in itertools.pairwise(layers))


CONVOLUTIONAL = {
    "cnn": Convolutional((16, 32), (2, 2), (128,)),
    "lenet5": Convolutional((6, 16), (2, 0), (120, 84)),  # LeCun et al. (1998), with ReLUs and maxima
}


def choose_path(trial: Trial) -> str:
    """ "stacked", in closed form, for plain SGD on a plain MLP, without batch norm or dropout; "autograd" for all
    else."""
    mlp = trial.model == "mlp" and not trial.batch_norm
    changed = (trial.dropout, trial.adversarial, trial.steps_per_batch > 1)
    restarted = trial.restart_optimizer or trial.restart_with_phase
    plain = trial.max_gradient_norm is None and trial.augmentation == "none" and not any(changed) and not restarted
    return "stacked" if mlp and plain and trial.optimizer in ("sgd", "nesterov") else "autograd"


def stack_key(trial: Trial) -> Trial:
    """Equal for trials that may share a stack. Momentum and weight decay may differ, but not be 0 in some:
    every trial's steps are then computed as they would be alone."""
    return dataclasses.replace(
        trial,
        init_seed=0,
        data_seed=0,
        lr=1.0,
        schedule=tuple(dataclasses.replace(p, lr=1.0) for p in trial.schedule),
        momentum=0.5 if trial.momentum else 0.0,
        weight_decay=1.0 if trial.weight_decay else 0.0,
    )


def multiply_adds(trial: Trial) -> int:
    """Of one example through the trial's network; of an MLP, the number of its weights."""
    info = DATASETS[trial.dataset]
    if trial.model in CONVOLUTIONAL:
        return CONVOLUTIONAL[trial.model].multiply_adds(info.shape, info.num_classes)
    widths = F1_WIDTHS if trial.model == "f1" else trial.widths
    return sum(a * b for a, b in itertools.pairwise((math.prod(info.shape), *widths, info.num_classes)))


def max_stack(trial: Trial) -> int:
    """The number of trials such as this that are best trained as one stack."""
    if choose_path(trial) == "autograd":
        return 1
    return min(MAX_STACK, max(1, STACK_BYTES // (4 * multiply_adds(trial))))
