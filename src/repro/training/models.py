"""Models, each built from a trial's spec and initialised from the trial's own seed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import nn

from repro.names import DATASETS
from repro.training.data import generator
from repro.trial import Trial

F1_WIDTHS = (512,) * 5  # Keskar et al. (2017), table 1
Norm = Callable[[Callable[..., nn.Module], int], nn.Module]  # (kind of batch norm, features) -> a layer


def _mlp(inputs: int, widths: tuple[int, ...], outputs: int, norm: Norm | None) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise((inputs, *widths)):
        layers.append(nn.Linear(fan_in, fan_out))
        if norm:
            layers.append(norm(nn.BatchNorm1d, fan_out))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.Linear((inputs, *widths)[-1], outputs))


def _cnn(shape: tuple[int, int, int], outputs: int, norm: Norm | None) -> nn.Sequential:
    """Two 5×5 convolutions (16, 32 channels), each pooled by 2, and one hidden layer of 128."""
    channels, height, width = shape
    layers: list[nn.Module] = [nn.Unflatten(1, shape)]
    for fan_in, fan_out in ((channels, 16), (16, 32)):
        layers.append(nn.Conv2d(fan_in, fan_out, 5, padding=2))
        if norm:
            layers.append(norm(nn.BatchNorm2d, fan_out))
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
    flat = 32 * (height // 4) * (width // 4)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, 128), nn.ReLU(), nn.Linear(128, outputs))


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

    def batch_norm(kind: Callable[..., nn.Module], features: int) -> nn.Module:
        return kind(features, eps=trial.norm_eps, track_running_stats=keep)

    norm = batch_norm if trial.has_batch_norm else None
    with torch.random.fork_rng(devices=[]):  # modules draw weights of their own before ours replace them
        if trial.model == "cnn":
            model = _cnn(info.shape, info.num_classes, norm)
        else:
            model = _mlp(inputs, F1_WIDTHS if trial.model == "f1" else trial.widths, info.num_classes, norm)
    _initialise(model, trial.init, trial.init_seed)
    return model
