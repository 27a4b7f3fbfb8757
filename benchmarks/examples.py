"""Three models asked about: what `repro.advise` says of each, for the page "What batch size".

    repro advise benchmarks/examples.py:mlp

asks about one. `make advice` asks about all, with nothing else running, and writes what is said to
benchmarks/advice.json, from which the book draws its page. Each function gives the arguments of `repro.advise`.
"""

from __future__ import annotations

import inspect
import json
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

import repro
from repro.runs import provenance
from repro.training import data


def mlp() -> dict:
    """The book's widest perceptron, on digits, after three seconds of training."""
    digits = data.load("mnist5k")
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10)
    )
    return {
        "model": model,
        "loss": functional.cross_entropy,
        "data": (digits.x_train, digits.y_train),
        "lr": 0.05,
        "batch_size": 64,
        "train_seconds": 3,
    }


def resnet() -> dict:
    """torchvision's ResNet-18, with batch norm, on the same digits in colour, 32 × 32, after twenty seconds."""
    from torchvision.models import resnet18

    digits = data.load("mnist5k")
    images = functional.interpolate(digits.x_train.view(-1, 1, 28, 28), size=32).expand(-1, 3, -1, -1).contiguous()
    model = resnet18(num_classes=10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return {
        "model": model,
        "loss": functional.cross_entropy,
        "data": (images, digits.y_train),
        "optimizer": optimizer,
        "batch_size": 128,
        "train_seconds": 20,
        "seconds": 120,
    }


class Transformer(nn.Module):
    """The next byte of a text, from those before it."""

    def __init__(self, width: int = 64, length: int = 64) -> None:
        super().__init__()
        self.bytes, self.places = nn.Embedding(256, width), nn.Embedding(length, width)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, batch_first=True)
        self.layers, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(width, 256)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        length = ids.shape[1]
        seen = nn.Transformer.generate_square_subsequent_mask(length)
        hidden = self.bytes(ids) + self.places(torch.arange(length))
        return self.head(self.layers(hidden, mask=seen, is_causal=True)).transpose(1, 2)


def transformer() -> dict:
    """A small transformer on the bytes of Python's own reference, with dropout and AdamW, after a minute."""
    from pydoc_data.topics import topics

    text = torch.tensor(list("\n".join(topics.values()).encode()))
    lines = text[: len(text) // 65 * 65].view(-1, 65)
    model = Transformer()
    return {
        "model": model,
        "loss": functional.cross_entropy,
        "data": (lines[:, :-1], lines[:, 1:]),
        "optimizer": torch.optim.AdamW(model.parameters(), lr=1e-3),
        "batch_size": 32,
        "train_seconds": 60,
    }


EXAMPLES = {"The book's perceptron": mlp, "ResNet-18": resnet, "A transformer on bytes": transformer}


def asked(name: str) -> dict:
    """What is said of one, and the numbers behind it."""
    make = EXAMPLES[name]
    torch.manual_seed(0)
    arguments, began = make(), time.perf_counter()
    advice = repro.advise(**arguments)
    print(f"{name}\n\n{advice}\n")
    return {
        "name": name,
        "about": inspect.getdoc(make),
        "function": make.__name__,
        "source": inspect.getsource(make),
        "says": str(advice),
        "took": time.perf_counter() - began,
        "noise_scale": [advice.noise.scale, advice.noise.low, advice.noise.high],
        "step_seconds": {str(size): seconds for size, seconds in advice.speed.seconds.items()},
    }


if __name__ == "__main__":
    machine = provenance.machine()
    told = {
        "processor": machine["run_processor"],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "commit": machine["run_git_commit"],
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "examples": [asked(name) for name in EXAMPLES],
    }
    path = Path(__file__).with_name("advice.json")
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(told, indent=1, allow_nan=True) + "\n")
    partial.replace(path)
