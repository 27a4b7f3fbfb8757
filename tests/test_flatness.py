"""φ, λ_max, and the loss along lines, on problems of known answer."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from repro import measure
from repro.measure import flatness
from repro.probes import fit, landscape
from repro.runs import runner
from repro.training import data
from repro.training.data import Dataset, generator
from repro.training.models import build
from repro.trial import Trial

CROSS_ENTROPY = functional.cross_entropy
SMALL = Trial(
    train_size=300, widths=(8, 8), optimizer="adam", lr=1e-3, batch_size=30, epochs=1, precision="float32", probes=()
)


class Point(nn.Module):
    """Parameters θ, put out once an example."""

    def __init__(self, values):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(values, dtype=torch.float64))

    def forward(self, x):
        return self.theta.expand(len(x), -1)


ONE = (torch.zeros(7, 1), torch.zeros(7))  # seven examples that all give the same loss
THETA = [0.3, -1.2, 2.0, 0.0, 5.0]


def quadratic(curvatures, centre):
    h, c = (torch.tensor(v, dtype=torch.float64) for v in (curvatures, centre))
    return lambda outputs, y: (h / 2 * (outputs - c) ** 2).sum(1).mean()


def linear(slopes, above=0.0):
    g = torch.tensor(slopes, dtype=torch.float64)
    return lambda outputs, y: (outputs @ g).mean() + above


def phi(largest, at):
    return 100 * (largest - at) / (1 + at)


def toy(n=60, features=784, seed=0):
    random = torch.Generator().manual_seed(seed)
    x, y = torch.randn(n, features, generator=random), torch.arange(n) % 10
    return Dataset("toy", x, y, {"test": (torch.randn(n // 2, features, generator=random), y[: n // 2])})


# φ


@pytest.mark.parametrize("epsilon", [1e-3, 5e-4, 0.1])
def test_a_convex_quadratic_is_largest_at_a_corner_of_the_box(epsilon):
    """Coordinate by coordinate, outwards: h/2 (|θ - c| + ε(|θ| + 1))²."""
    h, c, theta = np.array([4.0, 9, 3, 5, 7]), np.array([0.1, -1.0, 2.5, 0.4, 4.0]), np.array(THETA)
    found = measure.sharpness(Point(THETA), quadratic(h.tolist(), c.tolist()), ONE, epsilon)
    at = float((h / 2 * (theta - c) ** 2).sum())
    largest = float((h / 2 * (np.abs(theta - c) + epsilon * (np.abs(theta) + 1)) ** 2).sum())
    assert found.loss == pytest.approx(at, rel=1e-12) and found.max_loss == pytest.approx(largest, rel=1e-10)
    assert found.value == pytest.approx(phi(largest, at), rel=1e-9)


def test_a_maximum_inside_the_box_is_found():
    """Concave, with the top 0.001 away from θ in every coordinate and half-widths of at least 0.1."""
    top = [t + 0.001 for t in THETA]
    found = measure.sharpness(Point(THETA), quadratic([-2.0, -3, -4, -5, -6], top), ONE, 0.1)
    at = -0.5 * 20 * 0.001**2
    assert found.value == pytest.approx(phi(0.0, at), rel=1e-6)


@pytest.mark.parametrize("column_norm", [1.0, 3.0])
def test_on_a_manifold_the_box_and_the_maximum_are_those_of_its_columns(column_norm):
    """A linear loss is largest at Σ |Aᵀg|_i ε (|(A⁺θ)_i| + 1) above where it is."""
    g, p, epsilon = [300.0, -200, 100, 500, -400], 3, 1e-3
    found = measure.sharpness(
        Point(THETA),
        linear(g, above=2000),
        ONE,
        epsilon,
        dimensions=p,
        column_norm=column_norm,
        random=generator("A", 1),
    )
    columns = torch.randn(5, p, generator=generator("A", 1), dtype=torch.float64).numpy()
    columns = columns / np.sqrt((columns**2).sum(0)) * column_norm
    half = epsilon * (np.abs(np.linalg.pinv(columns) @ np.array(THETA)) + 1)
    at = float(np.dot(g, THETA)) + 2000
    assert found.max_loss - found.loss == pytest.approx(float(np.abs(columns.T @ g) @ half), rel=1e-9)
    assert found.value == pytest.approx(phi(found.max_loss, at), rel=1e-9)


def test_wider_columns_see_more_and_a_generator_decides_which():
    def on(seed, norm=1.0):
        random = generator("A", seed)
        loss = linear([300.0, -200, 100, 500, -400], above=2000)
        found = measure.sharpness(Point(THETA), loss, ONE, dimensions=2, column_norm=norm, random=random)
        return found.max_loss - found.loss

    assert on(0) == on(0) != on(1)
    assert on(0, 10.0) > 2 * on(0)


def test_where_the_gradient_is_exactly_zero_the_search_ends_and_a_small_one_does_not_end_it():
    """Slopes below scipy's default tolerance of 1e-5 are followed all the same."""
    minimum = measure.sharpness(Point(THETA), quadratic([1.0] * 5, THETA), ONE)
    assert minimum.value == 0 and minimum.evaluations <= 3
    found = measure.sharpness(Point([0.0]), linear([1e-6]), ONE)
    assert found.value == pytest.approx(100 * 1e-9, rel=1e-6)


def test_a_scale_free_search_reaches_what_ten_iterations_from_a_small_gradient_do_not():
    """A convex quadratic whose slopes at the start are far below the box."""
    h = np.geomspace(1e-6, 1, 40)
    loss = quadratic(h.tolist(), [-1e-9 if i % 2 else 1e-9 for i in range(40)])
    plain, free = (measure.sharpness(Point([0.0] * 40), loss, ONE, scale_free=s) for s in (False, True))
    true = float((h / 2).sum()) * (1e-3 + 1e-9) ** 2
    assert 0 < plain.value < 0.97 * free.value and plain.loss == free.loss
    assert free.max_loss == pytest.approx(true, rel=1e-3)


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_a_scale_free_search_does_not_depend_on_the_scale_of_the_loss(scale):
    model, d = build(Trial(widths=(8,), epochs=1)), toy()
    pair = (d.x_train, d.y_train)

    def rise(by):
        found = measure.sharpness(model, lambda o, y: by * CROSS_ENTROPY(o, y), pair, scale_free=True)
        return (found.max_loss - found.loss) / by

    assert rise(scale) == pytest.approx(rise(1.0), rel=1e-4)


def test_a_scale_free_search_at_an_exact_minimum_ends_there():
    assert measure.sharpness(Point(THETA), quadratic([1.0] * 5, THETA), ONE, scale_free=True).value == 0


@pytest.mark.parametrize("chunk", [1, 7, 60, 4096])
def test_chunks_make_one_full_loss_and_gradient(chunk):
    model, d = build(Trial(widths=(16, 16), batch_norm=True, epochs=1)), toy()
    f = flatness.FullLoss(model, CROSS_ENTROPY, (d.x_train, d.y_train), torch.float64, chunk)
    value, gradient = f(f.position)
    whole = copy.deepcopy(model).double().eval()
    loss = CROSS_ENTROPY(whole(d.x_train.double()), d.y_train)
    loss.backward()
    expected = torch.cat([p.grad.flatten() for p in whole.parameters()]).numpy()
    assert value == pytest.approx(loss.item(), rel=1e-12)
    np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was_bit_for_bit(training):
    model, d = build(Trial(widths=(16, 16), batch_norm=True, epochs=1)).train(training), toy()
    model[0].bias.requires_grad_(False)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    pointers = [p.data_ptr() for p in model.parameters()]
    found = measure.sharpness(model, CROSS_ENTROPY, (d.x_train, d.y_train))
    measure.largest_eigenvalue(model, CROSS_ENTROPY, (d.x_train, d.y_train))
    landscape.landscape(model, {}, d, Trial(epochs=1))
    assert found.value > 0
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert [p.data_ptr() for p in model.parameters()] == pointers
    assert all(p.dtype == torch.float32 and p.grad is None for p in model.parameters())
    assert model.training == training and not model[0].bias.requires_grad


def test_parameters_that_are_not_trained_are_no_part_of_x():
    model, d = build(Trial(widths=(8,), epochs=1)), toy()
    for p in model[0].parameters():
        p.requires_grad_(False)
    f = flatness.FullLoss(model, CROSS_ENTROPY, (d.x_train, d.y_train), torch.float64, 64)
    assert len(f.position) == len(f(f.position)[1]) == 8 * 10 + 10


def test_float32_agrees_where_phi_is_large_and_loses_it_where_it_is_small():
    model, d = build(Trial(widths=(16,), epochs=1)), toy()
    double, single = (
        measure.sharpness(model, CROSS_ENTROPY, (d.x_train, d.y_train), dtype=t) for t in (torch.float64, torch.float32)
    )
    assert single.value == pytest.approx(double.value, rel=1e-2)
    tiny = 1e-9
    double, single = (
        measure.sharpness(model, CROSS_ENTROPY, (d.x_train, d.y_train), tiny, dtype=t)
        for t in (torch.float64, torch.float32)
    )
    assert double.value > 0 and abs(single.value / double.value - 1) > 0.1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epsilon": 0.0}, "epsilon 0.0: must be a finite number above 0"),
        ({"epsilon": math.nan}, "epsilon nan"),
        ({"iterations": 0}, "iterations 0: must be a whole number ≥ 1"),
        ({"dimensions": 2}, "from 1 to 5, the model's parameters, with a generator"),
        ({"dimensions": 6, "random": torch.Generator()}, "dimensions 6"),
        ({"column_norm": 0.0}, "column_norm 0.0"),
        ({"chunk": 0}, "chunk 0"),
        ({"data": (torch.zeros(0, 1), torch.zeros(0))}, "as many examples each, and at least one"),
        ({"data": (torch.zeros(3, 1), torch.zeros(2))}, "got 3 in data[0], 2 in data[1]"),
        ({"model": nn.ReLU()}, "no parameter"),
    ],
)
def test_what_cannot_be_measured_is_one_line(changes, said):
    given = {"model": Point(THETA), "loss": linear([1.0] * 5), "data": ONE, **changes}
    with pytest.raises(ValueError) as error:
        measure.sharpness(**given)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_any_torch_module_will_do():
    """A torchvision ResNet-18, with batch norm's buffers, over random images: in full space its first stage and its
    last layer alone, for scipy takes minutes to take in bounds of 11 million parameters."""
    torchvision = pytest.importorskip("torchvision")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torchvision.models.resnet18(num_classes=10)
        x, y = torch.randn(8, 3, 32, 32), torch.arange(8)
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    random = generator("A", 0)
    manifold = measure.sharpness(model, CROSS_ENTROPY, (x, y), iterations=2, dimensions=3, random=random)
    for name, p in model.named_parameters():
        p.requires_grad_(name.startswith(("conv1", "bn1", "layer1", "fc")))
    full = measure.sharpness(model, CROSS_ENTROPY, (x, y), iterations=2, chunk=4)
    assert full.loss == pytest.approx(manifold.loss, rel=1e-10)
    assert full.value > 0 and manifold.value > 0
    assert all(torch.equal(b, buffers[name]) for name, b in model.named_buffers())


# The same function, another φ


def test_rescaling_keeps_the_function_and_moves_phi():
    model, d = build(Trial(widths=(12, 12), epochs=1)), toy()
    factor = 2.0**-12
    scaled = landscape.rescale(model, factor)
    assert float(scaled[0].weight.detach().abs().max()) < 1e-3 < float(model[0].weight.detach().abs().max())
    with torch.no_grad():
        difference = (copy.deepcopy(model).double()(d.x_train.double()) - scaled.double()(d.x_train.double())).abs()
    assert float(difference.max()) < 1e-10
    pair = (d.x_train, d.y_train)
    before, after = (measure.sharpness(m, CROSS_ENTROPY, pair).value for m in (model, scaled))
    assert after > 10 * before > 0
    zeroed = copy.deepcopy(scaled)
    nn.init.zeros_(zeroed[0].weight)  # a point of the box
    at, there = (CROSS_ENTROPY(m(d.x_train.double()), d.y_train).item() for m in (scaled, zeroed))
    assert there == pytest.approx(math.log(10), rel=1e-9) and np.isfinite(phi(there, at))


@pytest.mark.parametrize(
    ("trial", "factor", "layer"),
    [
        (Trial(model="f1", epochs=1), 0.5, 1),
        (Trial(model="cnn", epochs=1), 0.5, 1),
        (Trial(epochs=1), 0.0, 1),
        (Trial(epochs=1), 0.5, 3),
        (Trial(epochs=1), 0.5, 0),
    ],
)
def test_what_cannot_be_rescaled_is_refused(trial, factor, layer):
    with pytest.raises(ValueError, match="rescale"):
        landscape.rescale(build(trial), factor, layer)


@pytest.mark.parametrize("layer", [1, 2])
def test_any_hidden_layer_with_biases_can_be_rescaled(layer):
    model, d = build(Trial(widths=(9, 8), init="pytorch", epochs=1)).double(), toy()
    scaled = landscape.rescale(model, 0.3, layer)
    with torch.no_grad():
        torch.testing.assert_close(scaled(d.x_train.double()), model(d.x_train.double()), rtol=1e-10, atol=1e-10)


# λ_max


def dense_hessian(model, x, y):
    names, values = zip(*model.double().eval().named_parameters(), strict=True)
    sizes = [v.numel() for v in values]

    def f(vector):
        parts = [part.view_as(v) for part, v in zip(vector.split(sizes), values, strict=True)]
        return CROSS_ENTROPY(torch.func.functional_call(model, dict(zip(names, parts, strict=True)), x.double()), y)

    return torch.func.hessian(f)(torch.cat([v.detach().flatten() for v in values]))


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize(("dtype", "rel"), [(torch.float64, 1e-8), (torch.float32, 1e-3)])
def test_the_largest_eigenvalue_is_that_of_the_dense_hessian(batch_norm, dtype, rel):
    d = toy(60, 784)
    x, y = d.x_train[:, :12], d.y_train
    layers = [nn.Linear(12, 6), *([nn.BatchNorm1d(6)] if batch_norm else []), nn.ReLU(), nn.Linear(6, 10)]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = nn.Sequential(*layers)
        for p in model.parameters():
            nn.init.normal_(p, std=0.5)
    expected = float(torch.linalg.eigvalsh(dense_hessian(copy.deepcopy(model), x, y))[-1])
    found = measure.largest_eigenvalue(model, CROSS_ENTROPY, (x, y), tolerance=1e-9, vectors=20, dtype=dtype, chunk=13)
    assert found == pytest.approx(expected, rel=rel)
    rough = measure.largest_eigenvalue(model, CROSS_ENTROPY, (x, y), dtype=dtype)
    assert rough == pytest.approx(expected, rel=1e-3)


def test_the_eigenvalue_of_few_parameters_is_exact_too():
    loss = quadratic([1.0, 7.0, 3.0], [0.0, 0.0, 0.0])
    assert measure.largest_eigenvalue(Point([1.0, 1, 1]), loss, ONE) == pytest.approx(7.0, rel=1e-6)


# Along lines


def test_a_filter_normalised_direction_has_the_filters_norms_and_keeps_biases():
    at = landscape.parameters(build(Trial(model="cnn", init="pytorch", epochs=1)))
    direction = landscape.filter_normalised(at, generator("d", 0))
    for name, p in at.items():
        if p.ndim < 2:
            assert not direction[name].any()
            continue
        torch.testing.assert_close(direction[name].flatten(1).norm(dim=1), p.flatten(1).norm(dim=1))
    again, other = (landscape.filter_normalised(at, generator("d", seed)) for seed in (0, 1))
    assert all(torch.equal(direction[n], again[n]) for n in at)
    assert not torch.equal(direction["1.weight"], other["1.weight"])


def test_along_takes_the_statistics_of_batch_norm_anew_at_every_position():
    """Twice the weights before a batch norm are the same network, once its statistics are of the data."""
    model, d = build(Trial(widths=(8,), batch_norm=True, epochs=1)), toy(100)
    at = landscape.parameters(model)
    direction = {name: p if name in ("0.weight", "0.bias") else torch.zeros_like(p) for name, p in at.items()}
    values = landscape.along(model, at, direction, (0.0, 1.0), d, SMALL)
    assert {*values} == {"train_loss", "train_accuracy", "test_loss", "test_accuracy"}
    assert values["train_loss"][1] == pytest.approx(values["train_loss"][0], rel=1e-3)
    whole = copy.deepcopy(model).train()
    whole[1].momentum = 1.0
    whole(d.x_train)
    expected = fit.loss_and_accuracy(whole, d.x_train, d.y_train)
    assert values["train_loss"][0] == pytest.approx(expected[0], rel=1e-6)


def test_along_without_batch_norm_is_the_loss_at_each_point():
    model, d = build(Trial(widths=(8,), epochs=1)), toy()
    at = landscape.parameters(model)
    values = landscape.along(model, at, at, (-1.0, 0.0, 0.5), d, SMALL)
    assert values["train_loss"][0] == pytest.approx(math.log(10), rel=1e-6)  # all parameters zero
    assert values["train_loss"][1] == fit.loss_and_accuracy(model, d.x_train, d.y_train)[0]
    moved = copy.deepcopy(model)
    with torch.no_grad():
        for p in moved.parameters():
            p.mul_(1.5)
    assert values["test_loss"][2] == pytest.approx(fit.loss_and_accuracy(moved, *d.held["test"])[0], rel=1e-6)


# Probes


def measured(**changes):
    [rows] = runner.run_stack([dataclasses.replace(SMALL, **changes)])
    return rows[-1]


def test_the_probes_measure_what_the_functions_do():
    row = measured(
        batch_norm=True,
        final_probes=("sharpness", "scale-free sharpness", "sharpness variants", "largest eigenvalue", "landscape"),
    )
    assert row["sharpness"] == pytest.approx(phi(row["sharpness_max"], row["sharpness_base"]), rel=1e-9)
    assert row["sharpness"] > row["sharpness_half"] > 0 and row["sharpness_evaluations"] >= 10
    assert row["sharpness_manifold_wide"] > row["sharpness_manifold"] > 0
    assert row["sharpness_scale_free"] > 0 and row["largest_eigenvalue"] > 0
    assert len(row["landscape_position"]) == len(row["landscape_loss"]) == 21
    assert np.argmin(row["landscape_loss"]) in range(5, 16)


def test_the_boxes_are_those_that_their_names_say():
    found = measured(final_probes=("sharpness, half the box", "sharpness, other boxes"))
    variants = measured(final_probes=("sharpness variants",))
    assert all(found[name] == variants[name] for name in variants if name.startswith("sharpness"))
    assert 0 < found["sharpness_manifold_half"] < found["sharpness_manifold"]
    assert 0 < found["sharpness_manifold_wide_half"] < found["sharpness_manifold_wide"]


@pytest.mark.parametrize("statistics", ["kept", "batch"])
def test_sharpness_and_curvature_are_measured_over_the_first_examples(statistics):
    trial = dataclasses.replace(SMALL, batch_norm=True, norm_statistics=statistics, steps=1, epochs=None)
    dataset, model = data.load("mnist5k", train_size=SMALL.num_train), build(trial)
    few = dataclasses.replace(dataset, x_train=dataset.x_train[:90], y_train=dataset.y_train[:90])
    first = dataclasses.replace(trial, probe_examples=90)
    searches = (landscape.sharpness, landscape.scale_free_sharpness, landscape.sharpness_anew)
    for probe in (*searches, landscape.largest_eigenvalue, landscape.curvature):
        assert probe(model, {}, dataset, first) == probe(model, {}, few, trial)
        assert probe(model, {}, dataset, first) != probe(model, {}, dataset, trial)


def test_statistics_taken_anew_are_those_of_training():
    trial = dataclasses.replace(SMALL, batch_norm=True)
    torch.manual_seed(0)
    model, dataset = build(trial).eval(), data.load("mnist5k", train_size=300)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):  # kept statistics that fit nothing
            module.running_mean.fill_(1.0)
            module.running_var.fill_(9.0)
    x, y = dataset.x_train, dataset.y_train
    anew = landscape.with_statistics_anew(model)
    training = copy.deepcopy(model).train()
    assert torch.equal(anew.eval()(x), training(x))
    assert not torch.allclose(model(x), training(x))

    def change(network):
        """Of the loss, as the biases before the first batch norm are shifted."""
        f = flatness.FullLoss(network, CROSS_ENTROPY, (x, y), torch.float64, 300)
        start = f.position
        shifted = start.copy()
        shifted[8 * 784 : 8 * 784 + 8] += 5.0
        return abs(f(shifted)[0] - f(start)[0])

    assert change(anew) < 1e-9 < 1e-3 < change(model)


def test_without_batch_norm_there_are_no_statistics_to_take_anew():
    plain = measured(final_probes=("sharpness", "scale-free sharpness"))
    anew = measured(final_probes=("sharpness, statistics anew",))
    assert anew["sharpness_anew"] == pytest.approx(plain["sharpness"], rel=1e-9)
    assert anew["sharpness_anew_scale_free"] == pytest.approx(plain["sharpness_scale_free"], rel=1e-9)
    normed = measured(final_probes=("sharpness, statistics anew",), batch_norm=True)
    assert normed["sharpness_anew"] > 0 and normed["sharpness_anew_scale_free"] > 0


@pytest.mark.parametrize("statistics", ["kept", "batch"])
def test_equal_norms_change_no_output_and_make_layers_as_long_as_at_the_start(statistics):
    trial = Trial(epochs=1, widths=(16, 8), batch_norm=True, norm_statistics=statistics, norm_eps=1e-3)
    model = build(trial).double()
    initial = landscape.parameters(build(trial))
    x = torch.randn(300, 784, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    with torch.no_grad():
        for k, p in enumerate(model.parameters()):
            p.add_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(k), dtype=p.dtype))
        model.train()(x)  # statistics to keep
        equal = landscape.with_equal_norms(model, initial)
        assert torch.allclose(model.eval()(x), equal.eval()(x), rtol=1e-9, atol=1e-9)
    for name, layer in equal.named_children():
        if isinstance(layer, nn.Linear) and layer.out_features != 10:
            assert float(layer.weight.detach().norm()) == pytest.approx(
                float(initial[f"{name}.weight"].norm()), rel=1e-6
            )
            assert float(layer.weight.detach().norm()) < 0.9 * float(model.get_submodule(name).weight.detach().norm())


def test_the_probe_of_equal_norms_finds_one_function_with_another_sharpness():
    found = measured(final_probes=("sharpness", "sharpness, equal norms"), batch_norm=True, norm_statistics="batch")
    assert found["equal_difference"] < 1e-9
    assert found["sharpness_equal"] > 0 and found["sharpness_equal"] != pytest.approx(found["sharpness"], rel=1e-3)
    assert found["sharpness_equal_scale_free"] > 0


def test_the_rescaled_probe_finds_one_function_with_two_sharpnesses():
    row = measured(final_probes=("rescaled",), epochs=20)
    assert row["rescaling_difference"] < 1e-10
    assert row["sharpness_rescaled"] > 10 * row["sharpness"]
    assert math.log2(row["rescaling"]) == int(math.log2(row["rescaling"]))


def test_the_interpolation_runs_between_the_trial_and_its_partner():
    row = measured(
        batch_norm=True, probes=("fit",), final_probes=("interpolation",), batch_size=10, partner_batch_size=100
    )
    alpha = np.array(row["interpolation_alpha"])
    assert alpha[0] == -1 and alpha[-1] == 2
    names = [f"interpolation_{split}_{kind}" for split in ("train", "test") for kind in ("loss", "accuracy")]
    assert all(len(row[name]) == len(alpha) for name in names)
    partner = measured(batch_norm=True, probes=("fit",), batch_size=100)
    for here, there in ((0.0, row), (1.0, partner)):  # but for the statistics of batch norm
        at = int(np.argmin(np.abs(alpha - here)))
        assert row["interpolation_train_loss"][at] == pytest.approx(there["train_loss"], rel=0.1)
    assert row["train_loss"] < 0.9 * partner["train_loss"]


def test_an_interpolation_without_a_partner_is_refused():
    trial = dataclasses.replace(SMALL, final_probes=("interpolation",))
    with pytest.raises(ValueError, match="partner_batch_size"):
        landscape.interpolation(build(trial), {}, data.load("mnist5k", train_size=300), trial)
