"""Models: shapes, and initial weights that follow their closed forms and nothing but the seed."""

import copy
import math

import pytest
import torch
from torch import nn

from repro.names import DATASETS
from repro.probes import fit
from repro.training.models import GhostBatchNorm1d, GhostBatchNorm2d, build
from repro.trial import Trial

LAYERS = ((784, 1024), (1024, 1024), (1024, 10))  # of the reference net


def of(**fields):
    return build(Trial(**{"epochs": 1, **fields}))


def parameters(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("dataset", ["mnist5k", "fashion-mnist", "cifar10"])
@pytest.mark.parametrize(
    "fields",
    [
        {"model": "mlp", "widths": (32, 16)},
        {"model": "mlp", "widths": (8,), "batch_norm": True},
        {"model": "f1"},
        {"model": "cnn"},
        {"model": "cnn", "batch_norm": True},
        {"model": "lenet5"},
        {"model": "lenet5", "batch_norm": True},
    ],
    ids=str,
)
def test_logits_have_one_row_an_example_and_one_column_a_class(fields, dataset):
    x = torch.randn(3, math.prod(DATASETS[dataset].shape))
    logits = of(dataset=dataset, **fields)(x)
    assert logits.shape == (3, 10)
    assert logits.dtype == torch.float32
    assert len({tuple(row) for row in logits.tolist()}) == 3  # each row answers its own image


@pytest.mark.parametrize(
    ("fields", "shapes"),
    [
        ({"widths": (32, 16)}, [(32, 784), (32,), (16, 32), (16,), (10, 16), (10,)]),
        (
            {"model": "cnn"},
            [(16, 1, 5, 5), (16,), (32, 16, 5, 5), (32,), (128, 1568), (128,), (10, 128), (10,)],
        ),
        (
            {"model": "lenet5"},
            [(6, 1, 5, 5), (6,), (16, 6, 5, 5), (16,), (120, 400), (120,), (84, 120), (84,), (10, 84), (10,)],
        ),
    ],
    ids=str,
)
def test_parameter_shapes(fields, shapes):
    assert [tuple(p.shape) for p in of(**fields).parameters()] == shapes


def test_f1_is_five_batch_normalised_layers_of_512():
    """Keskar et al. (2017), appendix B; widths and batch_norm of the trial do not enter."""
    model = of(model="f1", widths=(7,), batch_norm=False)
    linears = [m for m in model if isinstance(m, nn.Linear)]
    assert [m.in_features for m in linears] == [784, 512, 512, 512, 512, 512]
    assert [m.out_features for m in linears] == [512, 512, 512, 512, 512, 10]
    assert sum(isinstance(m, nn.BatchNorm1d) for m in model) == 5


@pytest.mark.parametrize(
    ("init", "variance", "norm", "tolerance"),
    [
        ("glorot", lambda fan_in, fan_out: 2 / (fan_in + fan_out), 43.97, 0.05),
        ("glorot_normal", lambda fan_in, fan_out: 2 / (fan_in + fan_out), 43.97, 0.08),
        ("pytorch", lambda fan_in, fan_out: 1 / (3 * fan_in), 26.2, 0.05),
        ("he", lambda fan_in, fan_out: 2 / fan_in, 64.2, 0.15),
    ],
)
def test_initial_weights_meet_their_closed_form(init, variance, norm, tolerance):
    model = of(init=init)
    expected = sum(i * o * variance(i, o) for i, o in LAYERS) ** 0.5
    assert expected == pytest.approx(norm, abs=0.05)
    weights = [m.weight.detach() for m in model if isinstance(m, nn.Linear)]
    assert fit.norm(weights) == pytest.approx(norm, abs=tolerance)
    for w, (i, o) in zip(weights, LAYERS, strict=True):
        assert float(w.double().var()) == pytest.approx(variance(i, o), rel=5 / (i * o) ** 0.5)
        assert abs(float(w.double().mean())) < 5 * (variance(i, o) / (i * o)) ** 0.5


@pytest.mark.parametrize("init", ["glorot", "pytorch"])
def test_uniform_initialisations_fill_their_range(init):
    for m, (i, o) in zip([m for m in of(init=init) if hasattr(m, "weight")], LAYERS, strict=True):
        bound = (6 / (i + o)) ** 0.5 if init == "glorot" else i**-0.5
        assert 0.99 * bound < float(m.weight.detach().abs().max()) <= bound * (1 + 1e-6)


@pytest.mark.parametrize("model", ["mlp", "f1", "cnn", "lenet5"])
@pytest.mark.parametrize(
    ("init", "zero"), [("glorot", True), ("glorot_normal", True), ("he", True), ("pytorch", False)]
)
def test_biases_are_zero_but_for_pytorch(model, init, zero):
    modules = of(model=model, init=init).modules()
    layers = [m for m in modules if isinstance(m, nn.Linear | nn.Conv2d)]
    assert all((float(m.bias.detach().abs().max()) == 0) == zero for m in layers)


@pytest.mark.parametrize("init", ["glorot", "glorot_normal", "pytorch", "he"])
@pytest.mark.parametrize("model", ["mlp", "f1", "cnn", "lenet5"])
def test_initial_weights_follow_the_seed_alone(init, model):
    torch.manual_seed(1)
    first = parameters(of(model=model, init=init, init_seed=4))
    torch.manual_seed(2)
    assert torch.equal(first, parameters(of(model=model, init=init, init_seed=4, data_seed=9)))
    assert not torch.equal(first, parameters(of(model=model, init=init, init_seed=5)))


def test_different_seeds_give_unrelated_weights():
    a, b = (parameters(of(init_seed=s)).double() for s in (0, 1))
    assert abs(fit.cosine(a, b)) < 5 / len(a) ** 0.5


def test_layers_of_one_shape_differ():
    model = of(widths=(32, 32, 32))
    assert not torch.equal(model[2].weight, model[4].weight)


@pytest.mark.parametrize("model", ["mlp", "f1", "cnn", "lenet5"])
def test_building_leaves_the_global_generator_untouched(model):
    torch.manual_seed(7)
    expected = torch.rand(4)
    torch.manual_seed(7)
    of(model=model)
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("model", ["f1", "cnn"])
def test_batch_norm_divides_by_what_the_trial_says(model):
    """In evaluation: by what was kept in training, which is nothing yet, or by the batch's own."""
    x = torch.randn(64, 784, generator=torch.Generator().manual_seed(1)) * 3 + 1
    fields = {"epochs": 1, "model": model, "batch_norm": model == "cnn"}
    kept, batch = (build(Trial(**fields, norm_statistics=s)) for s in ("kept", "batch"))
    with torch.no_grad():
        trained = {name: m.train()(x) for name, m in (("kept", kept), ("batch", batch))}
        assert torch.equal(trained["kept"], trained["batch"])
        assert torch.equal(batch.eval()(x), trained["batch"])
        assert not torch.allclose(kept.eval()(x), trained["kept"])
        half = batch(x[:32])
    assert not torch.allclose(half, trained["batch"][:32])  # another batch, other statistics


def test_norm_eps_is_added_to_the_variance():
    x = torch.randn(64, 784, generator=torch.Generator().manual_seed(1)) * 0.01
    trial = Trial(epochs=1, model="mlp", widths=(8,), batch_norm=True, norm_statistics="batch", norm_eps=0.5)
    model = build(trial).eval()
    with torch.no_grad():
        before = model[0](x)
        expected = (before - before.mean(0)) / (before.var(0, unbiased=False) + 0.5).sqrt()
        assert torch.allclose(model[1](before), expected, atol=1e-6)


@pytest.mark.parametrize(("model", "shape"), [("f1", (512,)), ("cnn", (16, 28, 28))])
def test_ghosts_are_batches_of_their_own(model, shape):
    """By the formula, ghost by ghost, the last one smaller; running statistics move with every ghost in turn, all of
    them as far as a batch: by 1 - 0.9^(1/3) each."""
    trial = Trial(epochs=1, model=model, batch_norm=model == "cnn", ghost_size=10, norm_eps=1e-3)
    layer = next(m for m in build(trial).modules() if isinstance(m, GhostBatchNorm1d | GhostBatchNorm2d))
    x = torch.randn(24, *shape, generator=torch.Generator().manual_seed(1)) * 3 + 1
    dims = [0, *range(2, x.ndim)]
    mean, var, expected, keep = torch.zeros(shape[0]), torch.ones(shape[0]), [], 0.9 ** (1 / 3)
    for ghost in (x[:10], x[10:20], x[20:]):
        of_ghost = ghost.mean(dims, keepdim=True), ghost.var(dims, unbiased=False, keepdim=True)
        expected.append((ghost - of_ghost[0]) / (of_ghost[1] + 1e-3).sqrt())
        mean, var = keep * mean + (1 - keep) * ghost.mean(dims), keep * var + (1 - keep) * ghost.var(dims)
    with torch.no_grad():
        assert torch.allclose(layer.train()(x), torch.cat(expected), atol=1e-5)
        assert torch.allclose(layer.running_mean, mean, atol=1e-5) and torch.allclose(layer.running_var, var, atol=1e-4)
        whole = layer.eval()(x)
        assert torch.allclose(whole[:1], layer(x[:1]))  # in evaluation no example depends on another


def test_a_ghost_as_large_as_the_batch_is_plain_batch_norm():
    x = torch.randn(32, 784, generator=torch.Generator().manual_seed(1))
    plain, ghost = (build(Trial(epochs=1, model="f1", ghost_size=size)).train() for size in (None, 32))
    with torch.no_grad():
        assert torch.equal(plain(x), ghost(x))


def test_dropout_silences_a_share_and_keeps_the_mean():
    """By a generator of its own: the same units in every process, and others in every batch; nothing in evaluation."""
    models = [build(Trial(epochs=1, widths=(64, 64), dropout=0.25, data_seed=7)) for _ in range(2)]
    x = torch.rand(500, 784, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(models[0](x), models[1](x)) and not torch.equal(models[0](x), models[0](x))
        hidden, dropped = models[0][0](x).relu(), models[0][1](models[0][0](x))
        kept = dropped != 0
        assert torch.allclose(dropped[kept], hidden[kept] / 0.75)
        assert abs(kept[hidden > 0].float().mean() - 0.75) < 0.02
        units = torch.ones(500, 64)
        assert not torch.equal(models[0][1](units), models[0][3](units))  # layers draw in turn
        assert torch.equal(models[0].eval()[1](models[0][0](x)), hidden)


def test_dropout_can_be_copied():
    model = build(Trial(epochs=1, widths=(64,), dropout=0.5))
    x = torch.ones(3, 784)
    assert torch.equal(copy.deepcopy(model)(x), model(x))
