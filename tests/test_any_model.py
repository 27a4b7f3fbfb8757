"""`repro.measure` on models that the book has never seen: right against a slow loop in float64, or one clear line."""

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from repro import measure
from repro.measure.flatness import FullLoss

LOSS = functional.cross_entropy
N = 12
Y = torch.arange(N) % 3


def numbers(*shape, seed=0):
    return torch.randn(N, *shape, generator=torch.Generator().manual_seed(seed))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(9, 4)
        self.layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 6, 0.1, batch_first=True), 2)
        self.out = nn.Linear(4, 3)

    def forward(self, ids, mask=None):
        return self.out(self.layers(self.tokens(ids), src_key_padding_mask=mask).mean(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.out = nn.LSTM(4, 3, 2, batch_first=True), nn.Linear(3, 3)

    def forward(self, x):
        return self.out(self.lstm(x)[0][:, -1])


def mlp(*layers):
    return nn.Sequential(nn.Linear(6, 5), *layers, nn.Tanh(), nn.Linear(5, 3))


def tied():
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3))
    model[2].weight = model[0].weight
    return model


def frozen():
    model = mlp()
    model[0].requires_grad_(False)
    return model


class Residual(nn.Module):
    """ResNet-18's blocks, few and narrow, so that a dense Hessian is to be had."""

    def __init__(self):
        super().__init__()
        block = torchvision.models.resnet.BasicBlock
        self.stem, self.block, self.out = nn.Conv2d(1, 3, 3), block(3, 3), nn.Linear(3, 3)

    def forward(self, x):
        return self.out(self.block(torch.relu(self.stem(x))).mean((2, 3)))


class Pairs(Dataset):
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


IDS = torch.randint(9, (N, 5), generator=torch.Generator().manual_seed(1))
RIGHT = {
    "residual blocks with batch norm": (Residual, LOSS, (numbers(1, 8, 8), Y)),
    "a transformer on token ids": (Transformer, LOSS, (IDS, Y)),
    "an LSTM": (Recurrent, LOSS, (numbers(4, 4), Y)),
    "tied weights": (tied, LOSS, (numbers(6), Y)),
    "frozen layers": (frozen, LOSS, (numbers(6), Y)),
    "a dict": (Transformer, LOSS, {"ids": IDS, "mask": IDS > 7, "labels": Y}),
    "dropout with batch norm": (lambda: mlp(nn.BatchNorm1d(5), nn.Dropout()), LOSS, (numbers(6), Y)),
    "a squared error": (lambda: nn.Linear(6, 1), nn.MSELoss(), (numbers(6), numbers(1, seed=2))),
    "weights of positives": (
        lambda: nn.Linear(6, 2),
        nn.BCEWithLogitsLoss(pos_weight=torch.tensor([2.0, 3.0])),
        (numbers(6), (numbers(2, seed=3) > 0).float()),
    ),
    "a DataLoader": (mlp, LOSS, DataLoader(TensorDataset(numbers(6), Y), batch_size=5, shuffle=True)),
    "a Dataset": (mlp, LOSS, Pairs(numbers(6), Y)),
    "a list of examples": (mlp, LOSS, [(x, int(y)) for x, y in zip(numbers(6), Y, strict=True)]),
    "numpy": (mlp, LOSS, (numbers(6).numpy(), Y.numpy())),
}


def plain(data):
    """The data as one batch, by hand."""
    if isinstance(data, DataLoader):
        data = data.dataset
    if isinstance(data, (Dataset, list)):
        return torch.stack([x for x, _ in data]), torch.tensor([int(y) for _, y in data])
    return tuple(map(torch.as_tensor, data)) if isinstance(data, tuple) else data


def doubled(loss, data):
    loss = loss.double() if isinstance(loss, nn.Module) else loss
    if isinstance(data, dict):
        return loss, data
    return loss, tuple(t.double() if t.is_floating_point() else t for t in data)


def value(model, loss, batch):
    """The mean loss of a batch of tensors, as a reader would write it."""
    if isinstance(batch, dict):
        return loss(model(batch["ids"], batch["mask"]), batch["labels"])
    return loss(model(batch[0]), batch[1])


def of_each(model, loss, batch):
    """The gradients of single examples (n, P)."""
    chosen, rows = [p for p in model.parameters() if p.requires_grad], []
    for i in range(N):
        one = {k: t[i : i + 1] for k, t in batch.items()} if isinstance(batch, dict) else [t[i : i + 1] for t in batch]
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(value(model, loss, one), chosen)]))
    return torch.stack(rows)


def dense_hessian(model, loss, batch):
    """By two backward passes, a row at a time."""
    chosen = [p for p in model.parameters() if p.requires_grad]
    with (
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        torch.backends.mkldnn.flags(enabled=False),
    ):
        first = torch.autograd.grad(value(model, loss, batch), chosen, create_graph=True)
        flat = torch.cat([g.flatten() for g in first])
        rows = [torch.autograd.grad(g, chosen, retain_graph=True, materialize_grads=True) for g in flat]
    return torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])


@pytest.fixture(params=RIGHT)
def case(request):
    make, loss, data = RIGHT[request.param]
    torch.manual_seed(0)
    model = make().eval()
    slow_loss, batch = doubled(loss, plain(data))
    torch.manual_seed(0)
    slow = make().double().eval()
    slow.load_state_dict(model.state_dict())
    return model, loss, data, slow, slow_loss, batch


@pytest.mark.filterwarnings("ignore:TF32")
def test_loss_gradient_and_curvature_are_those_of_a_slow_loop(case):
    model, loss, data, slow, slow_loss, batch = case
    f = FullLoss(model, loss, data, torch.float64, 5)
    found, gradient = f(f.position)
    each = of_each(slow, slow_loss, batch)
    assert found == pytest.approx(float(value(slow, slow_loss, batch).detach()), rel=1e-9)
    np.testing.assert_allclose(gradient, each.mean(0), rtol=1e-6, atol=1e-9)
    top = float(torch.linalg.eigvalsh(dense_hessian(slow, slow_loss, batch))[-1])
    assert measure.largest_eigenvalue(model, loss, data, tolerance=1e-4) == pytest.approx(top, rel=5e-3)


def test_gradients_of_examples_and_batches_are_those_of_a_slow_loop(case):
    model, loss, data, slow, slow_loss, batch = case
    each = of_each(slow, slow_loss, batch).float()
    found = torch.cat(list(measure.gradients.per_example_gradients(model, loss, data, chunk=5)))
    torch.testing.assert_close(found, each, rtol=1e-3, atol=1e-5)
    norms, mean = measure.squared_norms(model, loss, data, chunk=5)
    torch.testing.assert_close(norms.float(), each.square().sum(1), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(mean.float(), each.mean(0), rtol=1e-3, atol=1e-5)
    batches = measure.gradients.batch_gradients(model, loss, data)(torch.tensor([[0, 3, 7]]))
    torch.testing.assert_close(batches[0], each[[0, 3, 7]].sum(0), rtol=1e-3, atol=1e-5)


def test_resnet18_and_its_memory():
    """Its largest eigenvalue by power iteration on two backward passes; 64 gradients at once would take 3 GB."""
    torch.manual_seed(0)
    model, x = torchvision.models.resnet18(num_classes=3).eval(), torch.randn(4, 3, 16, 16)
    chunks = [len(rows) for rows in measure.gradients.per_example_gradients(model, LOSS, (x, Y[:4]))]
    each = 4 * sum(p.numel() for p in model.parameters())
    assert sum(chunks) == 4 and 2 * each * max(chunks) <= measure.gradients.BYTES
    chosen = list(model.parameters())
    gradient = torch.autograd.grad(LOSS(model(x), Y[:4]), chosen, create_graph=True)
    vector = [torch.randn_like(p) for p in chosen]
    for _ in range(25):
        norm = torch.sqrt(sum(v.square().sum() for v in vector))
        vector = [v / norm for v in vector]
        vector = list(torch.autograd.grad(gradient, chosen, vector, retain_graph=True))
    top = float(torch.sqrt(sum(v.square().sum() for v in vector)))
    assert measure.largest_eigenvalue(model, LOSS, (x, Y[:4])) == pytest.approx(top, rel=0.01)


def test_bfloat16_is_right_within_its_rounding():
    torch.manual_seed(0)
    model, batch = mlp(), (numbers(6), Y)
    rounded = mlp().bfloat16()
    rounded.load_state_dict(model.state_dict())
    each = of_each(model, LOSS, batch)
    found = torch.cat(list(measure.gradients.per_example_gradients(rounded, LOSS, (batch[0].bfloat16(), Y)))).float()
    assert float((found - each).norm() / each.norm()) < 0.02


SHARED = "examples share it, by class weights"
EVERY = {
    "sharpness": lambda *a: measure.sharpness(*a),
    "largest eigenvalue": lambda *a: measure.largest_eigenvalue(*a),
    "per example": lambda *a: next(measure.gradients.per_example_gradients(*a)),
    "factors": lambda *a: measure.gradients.factors(*a),
    "batches": lambda *a: measure.gradients.batch_gradients(*a),
    "norms": lambda *a: measure.squared_norms(*a),
}
LINES = {
    "class weights": (mlp, nn.CrossEntropyLoss(torch.tensor([1.0, 3.0, 9.0])), (numbers(6), Y), SHARED),
    "targets (n,) against outputs (n, 1)": (lambda: nn.Linear(6, 1), nn.MSELoss(), (numbers(6), numbers()), SHARED),
    "a summed loss": (mlp, nn.CrossEntropyLoss(reduction="sum"), (numbers(6), Y), r"is a sum over the batch"),
    "a loss each": (mlp, nn.CrossEntropyLoss(reduction="none"), (numbers(6), Y), r"must be one number.* \(\d+,\)"),
    "a label out of range": (mlp, LOSS, (numbers(6), Y + 1), "Target 3 is out of bounds"),
    "no data": (mlp, LOSS, 3, "data: must be a tuple, list or dict of tensors .* got int"),
    "ragged batches": (
        mlp,
        LOSS,
        [(torch.randn(6), 0), (torch.randn(5), 1)],
        "cannot be read in batches .*stack expects each tensor",
    ),
    "everything frozen": (lambda: mlp().requires_grad_(False), LOSS, (numbers(6), Y), "trained|trainable"),
}


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("measured", EVERY)
@pytest.mark.parametrize("given", LINES)
def test_what_cannot_be_measured_is_one_clear_line(given, measured):
    make, loss, data, line = LINES[given]
    torch.manual_seed(0)
    with pytest.raises(ValueError, match=line) as error:
        EVERY[measured](make(), loss, data)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("measured", [name for name in EVERY if name not in ("sharpness", "largest eigenvalue")])
def test_dropout_is_never_drawn_anew_without_a_word(measured):
    torch.manual_seed(0)
    with pytest.raises(ValueError, match=r"the model draws at random, as dropout does; call model.eval\(\) first"):
        EVERY[measured](mlp(nn.Dropout()).train(), LOSS, (numbers(6), Y))


@pytest.mark.parametrize("measured", ["sharpness", "largest eigenvalue"])
def test_with_statistics_of_the_batch_a_mean_is_measured_and_a_sum_refused(measured):
    """They may share a loss by batch norm, which f is then of, and by nothing else."""
    torch.manual_seed(0)
    model = mlp(nn.BatchNorm1d(5, track_running_stats=False))
    EVERY[measured](model, LOSS, (numbers(6), Y))
    with pytest.raises(ValueError, match="is a sum over the batch"):
        EVERY[measured](model, nn.CrossEntropyLoss(reduction="sum"), (numbers(6), Y))
