"""Products with the Hessian, and how vectors spread over its eigenvalues; noise scales weighted by curvature."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from repro import measure
from repro.measure import micro_batches
from repro.measure.micro_batches import Groups

LOSS = functional.cross_entropy


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def images(n, seed=1):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(n, 4, generator=random, dtype=torch.float64), torch.randint(3, (n,), generator=random)


def dense(model, x, y):
    """The Hessian (P, P) of the mean loss, entry by entry."""
    names, shapes = zip(*((name, p.shape) for name, p in model.named_parameters()), strict=True)
    sizes = [math.prod(shape) for shape in shapes]

    def loss(flat):
        parts = [part.view(shape) for part, shape in zip(flat.split(sizes), shapes, strict=True)]
        return LOSS(torch.func.functional_call(model, dict(zip(names, parts, strict=True)), (x,)), y)

    return torch.autograd.functional.hessian(loss, torch.cat([p.detach().flatten() for p in model.parameters()]))


def gradients(model, x, y):
    """(n, P): one example at a time."""
    rows = []
    for i in range(len(x)):
        parts = torch.autograd.grad(LOSS(model(x[i : i + 1]), y[i : i + 1]), list(model.parameters()))
        rows.append(torch.cat([part.flatten() for part in parts]))
    return torch.stack(rows)


def test_products_are_those_of_the_dense_matrix():
    """Of one vector and of several, over data in more pieces than one."""
    model, (x, y) = network(), images(90)
    whole = dense(model, x, y)
    hessian = measure.Hessian(model, LOSS, (x, y), dtype=torch.float64, chunk=40)
    vectors = torch.randn(3, hessian.size, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(hessian(vectors), vectors @ whole, rtol=1e-9, atol=1e-12)
    assert torch.allclose(hessian(vectors[0]), whole @ vectors[0], rtol=1e-9, atol=1e-12)
    assert hessian(vectors.float()).dtype == torch.float32


def test_one_line_where_the_loss_has_no_finite_curvature():
    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return (self.w + 0 * x).abs().sqrt()

    hessian = measure.Hessian(Root(), lambda out, y: out.mean(), (torch.ones(8, 1), torch.ones(8, 1)))
    with pytest.raises(ValueError, match="second derivatives at the model are not all finite"):
        hessian(torch.ones(1))


@given(
    st.lists(st.floats(-3, 3), min_size=1, max_size=9),
    st.integers(0, 2**31),
    st.integers(1, 12),
)
@settings(max_examples=60, deadline=None)
def test_the_measure_of_a_vector_has_its_moments(eigenvalues, seed, steps):
    """Σ w λ^p = vᵀH^p v for p < 2 k; all weight, and none below zero."""
    n, random = len(eigenvalues), np.random.default_rng(seed)
    rotation = np.linalg.qr(random.standard_normal((n, n)))[0]
    h = torch.from_numpy(rotation @ np.diag(eigenvalues) @ rotation.T)
    v = torch.from_numpy(random.standard_normal(n))
    values, weights = measure.spectral_measure(lambda u: h @ u, v, steps)
    assert len(values) <= min(steps, n) and (weights >= 0).all()
    assert weights.sum() == pytest.approx(float(v @ v))
    scale = max(map(abs, eigenvalues), default=0)
    for p in range(1, min(2 * steps, 6)):
        expected = float(v @ torch.linalg.matrix_power(h, p) @ v)
        assert (weights * values**p).sum() == pytest.approx(expected, rel=1e-6, abs=1e-6 * float(v @ v) * scale**p)


def test_the_measure_finds_every_eigenvalue_where_there_are_few():
    values, weights = measure.spectral_measure(lambda u: torch.tensor([1.0, 2.0, 4.0, 4.0]) * u, torch.ones(4), 10)
    np.testing.assert_allclose(values, [1, 2, 4], rtol=1e-5)
    np.testing.assert_allclose(weights, [1, 1, 2], rtol=1e-5)  # one direction of each eigenvalue


@pytest.mark.parametrize("vector", [torch.zeros(3), torch.tensor([1.0, math.nan])])
def test_a_vector_without_a_direction_is_one_line(vector):
    with pytest.raises(ValueError, match="vector: must be finite and not zero"):
        measure.spectral_measure(lambda u: u, vector)


@pytest.mark.parametrize("metric", ["none", "diagonal", "hessian"])
def test_weighted_noise_scales_are_those_written_out(metric):
    """All N examples, one a group: tr(AΣ)/GᵀAG with every matrix dense. The Hessian near a minimum."""
    model, (x, y) = network(), images(120)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=15)
    optimizer.step(lambda: (optimizer.zero_grad(), value := LOSS(model(x), y), value.backward())[1])
    rows = gradients(model, x, y)
    n, size = rows.shape
    diagonal = torch.linspace(0.1, 2, size, dtype=torch.float64)
    a = {"none": torch.eye(size), "diagonal": diagonal.diag(), "hessian": dense(model, x, y)}[metric].double()
    applied = {"none": None, "diagonal": lambda v: v * diagonal}.get(metric)
    if metric == "hessian":
        applied = measure.Hessian(model, LOSS, (x, y), dtype=torch.float64)
    found = measure.noise_scale(model, LOSS, (x, y), micro_batch=1, within=None, metric=applied)
    mean = rows.mean(0)
    trace = float(((rows - mean) @ a * (rows - mean)).sum()) / (n - 1)
    assert found.num_examples == n and found.low <= found.scale <= found.high
    if metric == "none":
        assert found.trace == pytest.approx(trace)
        assert found.squared_norm == pytest.approx(float(mean @ mean))
    else:  # the groups' sums alone tell less of the noise: an estimate
        assert found.trace == pytest.approx(trace, rel=0.3)
        assert found.squared_norm == pytest.approx(float(mean @ a @ mean), rel=1e-6)
        assert found.low < trace / float(mean @ a @ mean) < found.high


def test_weighted_by_the_identity_it_is_the_same_but_for_luck():
    """Without bias, whatever the numbers of micro-batches in the groups: the mean of 2,000 repeats."""
    rng, found = np.random.default_rng(0), []
    mean, counts = np.array([0.3, 0.0, 0.0]), np.array([1.0, 1, 1, 2, 2, 3])
    for _ in range(2000):
        sums = np.stack([rng.normal(mean, 0.5, (int(c), 3)).sum(0) for c in counts])
        products = sums @ sums.T
        found.append(Groups(counts, products.diagonal(), products, 4, math.inf, summed=True).noise())
    trace, squared = np.mean(found, 0)
    assert trace == pytest.approx(4 * 0.75, rel=0.03)  # micro-batches of 4, three coordinates of variance ¼ each
    assert squared == pytest.approx(0.09, abs=0.006)


@pytest.mark.parametrize("ratio", [0.5, 4])
def test_intervals_of_weighted_scales_hold_the_truth(ratio, monkeypatch):
    """1,000 repeats of 256 examples of noise 1/i, weighted by i^-½."""
    monkeypatch.setattr(micro_batches, "RESAMPLES", 300)
    rng, d, n = np.random.default_rng(5), 100, 256
    variances, a = 1 / np.arange(1, d + 1), np.arange(1, d + 1) ** -0.5
    batch, low, high = n / ratio, 0, 0
    for repeat in range(1000):
        mean = np.sqrt(variances) * rng.standard_normal(d)
        mean *= math.sqrt((a * variances).sum() / batch / (a @ mean**2))
        sums = (mean + np.sqrt(variances) * rng.standard_normal((32, n // 32, d))).sum(1) / 4
        products = (sums * a) @ sums.T
        groups = Groups(np.full(32, 2.0), products.diagonal(), products, 4, math.inf, summed=True)
        found = groups.estimate(seed=repeat)
        low, high = low + (batch < found.low), high + (batch > found.high)
    assert 930 <= 1000 - low - high <= 999
    assert low <= 45 and high <= 45


def test_a_metric_needs_gradients_whole_and_keeps_their_shape():
    model, data = network(), images(128)
    with pytest.raises(ValueError, match="memory: does not hold the groups' gradients whole"):
        measure.noise_scale(model, LOSS, data, metric=lambda v: v, memory=1, within=None)
    with pytest.raises(ValueError, match="metric: must keep the shape"):
        measure.noise_scale(model, LOSS, data, metric=lambda v: v[:, :3], within=None)
