"""Norms of single examples' gradients: layer by layer as one example after the other in float64, for every model."""

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from repro import measure
from repro.measure import norms
from repro.training import models
from repro.trial import Trial

LOSS = functional.cross_entropy


def images(n=5, *shape):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Tokens(nn.Module):
    """Tokens that come again, one of them padding, and norms over features of a sequence."""

    def __init__(self):
        super().__init__()
        self.embed, self.norm = nn.Embedding(4, 6, padding_idx=0), nn.LayerNorm(6)
        self.wide, self.out = nn.Linear(6, 40), nn.Linear(40, 3)

    def forward(self, ids):
        return self.out(torch.tanh(self.wide(self.norm(self.embed(ids))))).mean(1)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.layer = nn.Embedding(9, 8), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.out = nn.Linear(8, 3)

    def forward(self, ids):
        return self.out(self.layer(self.embed(ids)).mean(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.out = nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, x):
        return self.out(self.lstm(x)[0][:, -1])


class Behind(nn.Module):
    """A layer whose weight is used once more, where no hook sees it."""

    def __init__(self):
        super().__init__()
        self.inner, self.out = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.out(functional.linear(torch.tanh(self.inner(x)), self.inner.weight))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.out = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.out(self.inner(torch.tanh(self.inner(x))))


def tied():
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3))
    model[2].weight = model[0].weight
    return model


def frozen():
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 3))
    model[0].requires_grad_(False)
    model[2].bias.requires_grad_(False)
    model[3].weight.requires_grad_(False)
    return model


def convolutions():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1),
        nn.GroupNorm(3, 6),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 4, 4, dilation=1),
        nn.Flatten(),
        nn.Linear(36, 3),
    )


IDS = torch.tensor([[1, 2, 1, 0], [3, 3, 3, 3], [0, 1, 2, 3], [2, 2, 0, 0], [1, 1, 2, 2]])
BY_LAYERS = {
    "an MLP": lambda: (nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 3)), images(5, 6)),
    "the book's convolutional net": lambda: (models.build(Trial(model="cnn", epochs=1.0)), images(5, 784)),
    "convolutions with strides and group norm": lambda: (convolutions(), images(5, 3, 12, 12)),
    "batch norm in eval mode": lambda: (models.build(Trial(model="f1", epochs=1.0)), images(5, 784)),
    "ResNet-18": lambda: (torchvision.models.resnet18(num_classes=3), images(3, 3, 32, 32)),
    "tokens": lambda: (Tokens(), IDS),
    "frozen parameters": lambda: (frozen(), images(5, 6)),
}
ONE_BY_ONE = {
    "attention": lambda: (Attention(), IDS),
    "recurrent layers": lambda: (Recurrent(), images(5, 3, 4)),
    "tied weights": lambda: (tied(), images(5, 6)),
    "a layer called twice": lambda: (Twice(), images(5, 6)),
    "a weight used behind the layer's back": lambda: (Behind(), images(5, 6)),
    "grouped convolutions": lambda: (
        nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(16, 3)),
        images(5, 4, 4, 4),
    ),
}


def slow(model, x, y):
    """One example after the other, all gradients in one vector."""
    each = []
    for i in range(len(x)):
        model.zero_grad()
        LOSS(model(x[i : i + 1]), y[i : i + 1]).backward()
        each.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad]))
    model.zero_grad()
    return torch.stack(each)


@pytest.mark.parametrize("chunk", [2, 256])
@pytest.mark.parametrize("case", [*BY_LAYERS, *ONE_BY_ONE])
def test_norms_are_those_of_one_example_after_the_other(case, chunk, monkeypatch):
    torch.manual_seed(0)
    model, x = {**BY_LAYERS, **ONE_BY_ONE}[case]()
    model, y = model.double().eval(), torch.arange(len(x)) % 3
    by = {"layers": 0, "one": 0}
    one_by_one, by_layers = norms._one_by_one, norms._by_layers
    monkeypatch.setattr(norms, "_one_by_one", lambda *a: by.update(one=by["one"] + 1) or one_by_one(*a))
    monkeypatch.setattr(norms, "_by_layers", lambda *a: by.update(layers=by["layers"] + 1) or by_layers(*a))
    monkeypatch.setattr(norms, "BYTES", 4096)  # so that layers go by pieces
    found, mean = measure.squared_norms(model, LOSS, (x, y), chunk=chunk)
    expected = slow(model, x, y)
    torch.testing.assert_close(found, expected.square().sum(1), rtol=1e-8, atol=0)
    torch.testing.assert_close(mean, expected.mean(0), rtol=1e-8, atol=1e-12)
    batches = -(-len(x) // chunk)
    if case in BY_LAYERS:
        assert by == {"layers": batches + 1, "one": 1}  # one after the other on the examples tried alone
    else:
        assert by["one"] >= batches


@pytest.mark.parametrize(("steps", "inputs", "outputs"), [(1, 5, 4), (3, 40, 50), (60, 4, 3)])
def test_either_product_gives_the_norm(steps, inputs, outputs):
    a, delta = images(2, steps, inputs), images(2, steps, outputs)
    expected = torch.einsum("nti,nto->nio", a, delta).square().sum((1, 2))
    torch.testing.assert_close(norms._contracted(a, delta), expected)


def test_they_give_the_exact_noise_scale():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double(), images(300, 6)
    y = x[:, :3].argmax(1)
    each, mean = measure.squared_norms(model, LOSS, (x, y))
    exact = measure.noise.from_norms(float(each.mean()), mean, len(x), population=True)
    drawn = measure.noise_scale(model, LOSS, (x, y), micro_batch=1, within=None)
    assert drawn.scale == pytest.approx(exact.scale)


def test_what_is_not_separate_is_refused():
    model, y = models.build(Trial(model="f1", epochs=1.0)), torch.arange(8) % 3
    with pytest.raises(ValueError, match=r"batch norm that takes its statistics .*; call model.eval\(\) first$"):
        measure.squared_norms(model.train(), LOSS, (images(8, 784).float(), y))
    with pytest.raises(ValueError, match="is a sum over the batch"):
        measure.squared_norms(model.eval(), nn.CrossEntropyLoss(reduction="sum"), (images(8, 784).float(), y))
