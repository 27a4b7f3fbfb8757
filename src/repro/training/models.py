"""Models, each built from a trial's spec and initialised from the trial's own seed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from repro.names import DATASETS
from repro.training.data import generator
from repro.training.shapes import CONVOLUTIONAL, F1_WIDTHS, Convolutional
from repro.trial import Trial

Norm = Callable[[type[nn.Module], int], nn.Module]  # (kind of batch norm, features) -> a layer


class Dropout(nn.Module):
    """In training a share of the units, drawn anew for every example, is silenced, and the others are as much louder
    (Srivastava et al. 2014, §10). As torch's, from a generator of its own."""

    def __init__(self, share: float, random: torch.Generator) -> None:
        super().__init__()
        self.share, self._random = share, random

    def forward(self, x: Tensor) -> Tensor:
        """x (n, ...) -> the same shape."""
        if not self.training:
            return x
        return x * (torch.rand(x.shape, generator=self._random) >= self.share) / (1 - self.share)


def _mlp(
    inputs: int, widths: tuple[int, ...], outputs: int, norm: Norm | None, hidden: Callable[[], nn.Module]
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise((inputs, *widths)):
        layers.append(nn.Linear(fan_in, fan_out))
        if norm:
            layers.append(norm(nn.BatchNorm1d, fan_out))
        layers.append(hidden())
    return nn.Sequential(*layers, nn.Linear((inputs, *widths)[-1], outputs))


class _Ghosts(nn.modules.batchnorm._BatchNorm):
    """In training every `ghost_size` examples of a batch are normalised by their own statistics, and move the running
    ones in turn (Hoffer et al. 2017, algorithm 1). There each moves them as far as a batch does, so that they forget
    the faster the more ghosts there are; here all of a batch move them as far as a batch. In evaluation as any batch
    norm."""

    def __init__(self, num_features: int, ghost_size: int, **options: Any) -> None:
        super().__init__(num_features, **options)
        self.ghost_size = ghost_size

    def forward(self, x: Tensor) -> Tensor:
        """x (n, features, ...) -> the same shape. ValueError where a ghost of one example is left."""
        if not self.training:
            return super().forward(x)
        ghosts, momentum = x.split(self.ghost_size), self.momentum
        if momentum is not None:
            self.momentum = 1 - (1 - momentum) ** (1 / len(ghosts))
        try:
            return torch.cat([super(_Ghosts, self).forward(ghost) for ghost in ghosts])
        finally:
            self.momentum = momentum


class GhostBatchNorm1d(_Ghosts, nn.BatchNorm1d):
    """Of (n, features)."""


class GhostBatchNorm2d(_Ghosts, nn.BatchNorm2d):
    """Of (n, channels, height, width)."""


GHOSTS: Mapping[type[nn.Module], type[_Ghosts]] = {nn.BatchNorm1d: GhostBatchNorm1d, nn.BatchNorm2d: GhostBatchNorm2d}


class Images(nn.Unflatten):
    """(n, features) -> (n, channels, height, width), laid out channels last: convolutions and their maxima then take
    two thirds of the time. One channel has either layout, but for its stride, which is what convolutions go by."""

    def forward(self, input: Tensor) -> Tensor:
        channels, height, width = self.unflattened_size
        last = super().forward(input).movedim(1, 3).flatten(1)
        return last.unflatten(1, (height, width, channels)).movedim(3, 1)


def _convolutional(
    kind: Convolutional,
    shape: tuple[int, int, int],
    outputs: int,
    norm: Norm | None,
    hidden: Callable[[], nn.Module],
) -> nn.Sequential:
    channels, height, width = shape
    layers: list[nn.Module] = [Images(1, shape)]
    for (fan_in, fan_out), padding in zip(itertools.pairwise((channels, *kind.channels)), kind.paddings, strict=True):
        layers.append(nn.Conv2d(fan_in, fan_out, 5, padding=padding))
        if norm:
            layers.append(norm(nn.BatchNorm2d, fan_out))
        layers += [nn.MaxPool2d(2), nn.ReLU()]  # the largest, then cut: the same numbers as cut first, of a quarter
    layers.append(nn.Flatten())
    for fan_in, fan_out in itertools.pairwise((kind.flat(height, width), *kind.hidden)):
        layers += [nn.Linear(fan_in, fan_out), hidden()]
    return nn.Sequential(*layers, nn.Linear(kind.hidden[-1], outputs))


@torch.no_grad()
def _initialise(model: nn.Module, init: str, seed: int) -> None:
    """Draw every weight anew from the seed; biases are zero, but for "pytorch".

    "glorot": U(±√(6/(fan_in + fan_out))) (Glorot & Bengio 2010, eq. 16); "glorot_normal": of the same variance,
    N(0, 2/(fan_in + fan_out)). "he": N(0, 2/fan_in) (He et al. 2015, eq. 10). "pytorch": torch's default, weights and
    biases U(±1/√fan_in).
    """
    random = generator("init", seed)
    for module in model.modules():
        if not isinstance(module, nn.Linear | nn.Conv2d):
            continue
        fan_in = module.weight[0].numel()
        if init == "glorot":
            nn.init.xavier_uniform_(module.weight, generator=random)
        elif init == "glorot_normal":
            nn.init.xavier_normal_(module.weight, generator=random)
        elif init == "he":
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=random)
        else:
            nn.init.uniform_(module.weight, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in), generator=random)
        if module.bias is not None:
            if init == "pytorch":
                nn.init.uniform_(module.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in), generator=random)
            else:
                nn.init.zeros_(module.bias)


def build(trial: Trial) -> nn.Sequential:
    """The trial's model, freshly initialised: (n, features) float32 -> (n, classes) logits.

    "f1" is the network F1 of Keskar et al. (2017, appendix B): five hidden layers of 512, batch-normalised.
    """
    info = DATASETS[trial.dataset]
    inputs = math.prod(info.shape)
    keep = trial.norm_statistics == "kept"

    def batch_norm(kind: type[nn.Module], features: int) -> nn.Module:
        if trial.ghost_size is not None:
            return GHOSTS[kind](features, trial.ghost_size, eps=trial.norm_eps)
        return kind(features, eps=trial.norm_eps, track_running_stats=keep)

    random = generator("dropout", trial.data_seed)  # one for all layers, which draw from it in turn

    def hidden() -> nn.Module:
        return nn.Sequential(nn.ReLU(), Dropout(trial.dropout, random)) if trial.dropout else nn.ReLU()

    norm = batch_norm if trial.has_batch_norm else None
    with torch.random.fork_rng(devices=[]):  # modules draw weights of their own before ours replace them
        if trial.model in CONVOLUTIONAL:
            model = _convolutional(CONVOLUTIONAL[trial.model], info.shape, info.num_classes, norm, hidden)
        else:
            model = _mlp(inputs, F1_WIDTHS if trial.model == "f1" else trial.widths, info.num_classes, norm, hidden)
    _initialise(model, trial.init, trial.init_seed)
    return model
