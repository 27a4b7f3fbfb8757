"""Speed and memory of the norms of single examples' gradients, ours beside three other ways, and of the adviser.

Each measurement has a process of its own, with all cores: the median of REPEATS, after one that warms up, and the peak
of memory above what was held before. Other ways: a plain loop of one backward pass an example, torch.func's vmap, and
BackPACK's BatchL2Grad.
"""

from __future__ import annotations

import copy
import multiprocessing
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import torch
import torchvision
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

import repro
from repro import measure
from repro.training import models
from repro.trial import Trial

REPEATS = 3
NETS = {
    "MLP, 1.9 M": ((784,), 8192, lambda: models.build(Trial(widths=(1024, 1024), epochs=1.0))),
    "convolutional net": ((784,), 2048, lambda: models.build(Trial(model="cnn", epochs=1.0))),
    "ResNet-18": ((3, 32, 32), 512, lambda: torchvision.models.resnet18(num_classes=10)),
}
ADVISED = {"MLP, 1.9 M": 10, "ResNet-18": 20}  # seconds given
EXAMPLES = 4096  # to take advice on
CHUNK = 16  # examples at once, for vmap
SLOW, FEWER = ("plain loop", "vmap"), 32  # ways that get so many times fewer examples


def ours(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return measure.squared_norms(model, functional.cross_entropy, (x, y))[0]


def loop(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    chosen, norms = list(model.parameters()), []
    for i in range(len(x)):
        gradient = torch.autograd.grad(functional.cross_entropy(model(x[i : i + 1]), y[i : i + 1]), chosen)
        norms.append(sum(g.double().square().sum() for g in gradient))
    return torch.stack(norms)


def by_vmap(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(parameters: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return functional.cross_entropy(functional_call(model, parameters, (image[None],)), label[None])

    each = vmap(grad(loss), in_dims=(None, 0, 0))
    parts = [each(parameters, a, b) for a, b in zip(x.split(CHUNK), y.split(CHUNK), strict=True)]
    return torch.cat([sum(g.double().square().flatten(1).sum(1) for g in part.values()) for part in parts])


def by_backpack(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    from backpack import backpack, extend
    from backpack.extensions import BatchL2Grad

    extended = extend(copy.deepcopy(model), use_converter=not isinstance(model, nn.Sequential)).eval()
    with backpack(BatchL2Grad()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Full backward hook")  # of its own, for the loss
        extend(nn.CrossEntropyLoss())(extended(x), y).backward()
    return sum(p.batch_l2.double() for p in extended.parameters()) * len(x) ** 2


WAYS: dict[str, Callable[[nn.Module, Tensor, Tensor], Tensor]] = {
    "ours": ours,
    "plain loop": loop,
    "vmap": by_vmap,
    "BackPACK": by_backpack,
}


def _made(net: str) -> tuple[nn.Module, Tensor, Tensor]:
    shape, count, build = NETS[net]
    torch.manual_seed(0)
    return build().eval(), torch.randn(count, *shape), torch.arange(count) % 10


def _peak(before: float) -> float:
    """MiB at the peak above `before`: of this process alone, where getrusage counts from before it was one."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024 - before


def norms(net: str, way: str) -> dict[str, Any]:
    """Milliseconds an example, and memory."""
    model, x, y = _made(net)
    if way in SLOW:
        x, y = x[: len(x) // FEWER], y[: len(y) // FEWER]
    expected = loop(model, x[:4], y[:4])
    torch.testing.assert_close(WAYS[way](model, x[:4], y[:4]).double(), expected, rtol=1e-3, atol=0)
    before, seconds = psutil.Process().memory_info().rss / 2**20, []
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        WAYS[way](model, x, y)
        seconds.append(time.perf_counter() - began)
    each = 1000 * statistics.median(seconds[1:]) / len(x)
    return {"net": net, "way": way, "milliseconds": each, "peak_mib": _peak(before), "n": len(x)}


def advice(net: str) -> dict[str, Any]:
    model, x, y = _made(net)
    x, y = torch.randn(EXAMPLES, *x.shape[1:]), torch.arange(EXAMPLES) % 10
    before, began = psutil.Process().memory_info().rss / 2**20, time.perf_counter()
    repro.advise(model, functional.cross_entropy, (x, y), seconds=ADVISED[net])
    return {"net": net, "given": ADVISED[net], "seconds": time.perf_counter() - began, "peak_mib": _peak(before)}


def measured() -> Iterator[tuple[str, dict[str, Any]]]:
    """("norms" or "advice", a row) one after the other, each from a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    for kind, function, cases in (
        ("norms", norms, [(net, way) for net in NETS for way in WAYS]),
        ("advice", advice, [(net,) for net in ADVISED]),
    ):
        for case in cases:
            with ProcessPoolExecutor(1, spawn) as alone:
                yield kind, alone.submit(function, *case).result()
