"""Noise statistics against plain loops and closed forms; parts that merge; any torch module."""

import copy
import math

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn
from torch.nn import functional

from repro import measure
from repro.measure import moments, noise, passes
from repro.probes import gradients, readings
from repro.training import models
from repro.training.data import Dataset
from repro.trial import Trial

LOSS = functional.cross_entropy


def random(seed=0):
    return torch.Generator().manual_seed(seed)


def toy(n=40, inputs=6, widths=(5,)):
    torch.manual_seed(0)
    layers, before = [], inputs
    for width in widths:
        layers += [nn.Linear(before, width), nn.ReLU()]
        before = width
    model = nn.Sequential(*layers, nn.Linear(before, 3)).double()
    return model, torch.randn(n, inputs, generator=random()).double(), torch.arange(n) % 3


def loop(model, x, y, names=None):
    """The gradient of each example's loss, one backward pass at a time."""
    chosen = [p for n, p in model.named_parameters() if names is None or n in names]
    rows = []
    for image, label in zip(x, y, strict=True):
        g = torch.autograd.grad(LOSS(model(image[None]), label[None]), chosen)
        rows.append(torch.cat([t.flatten() for t in g]))
    return torch.stack(rows)


@pytest.mark.parametrize("chunk", [1, 7, 40, 64])
@pytest.mark.parametrize("names", [None, ["2.weight"], ["0.bias", "2.weight"]])
def test_per_example_gradients_are_those_of_a_loop(chunk, names):
    model, x, y = toy()
    found = list(measure.gradients.per_example_gradients(model, LOSS, (x, y), names, chunk))
    assert max(map(len, found)) <= chunk
    torch.testing.assert_close(torch.cat(found), loop(model, x, y, names))


@pytest.mark.parametrize("layer", ["0", "2", None])
def test_factors_are_the_per_example_gradients_of_torch_func(layer):
    model, x, y = toy()
    found = measure.gradients.factors(model, LOSS, (x, y), layer, chunk=7)
    each = torch.cat(list(measure.gradients.per_example_gradients(model, LOSS, (x, y), [f"{layer or 2}.weight"])))
    torch.testing.assert_close(found(torch.arange(len(x))[:, None]), each)
    torch.testing.assert_close(found(torch.tensor([[0, 3, 3]])), each[[0, 3, 3]].sum(0, keepdim=True))
    torch.testing.assert_close(found.squared_norms(), each.square().sum(1))
    torch.testing.assert_close(found.mean(), each.mean(0))


def test_factors_of_a_convolutional_network():
    model = models.build(Trial(model="cnn", epochs=1))
    x, y = torch.randn(9, 784, generator=random()), torch.arange(9)
    found = measure.gradients.factors(model, LOSS, (x, y))
    each = torch.cat(
        list(
            measure.gradients.per_example_gradients(
                model, LOSS, (x, y), [f"{measure.gradients.last_linear(model)}.weight"]
            )
        )
    )
    torch.testing.assert_close(found(torch.arange(9)[:, None]), each, rtol=1e-4, atol=1e-6)


def test_batch_gradients_add_up_examples():
    model, x, y = toy()
    each, indices = loop(model, x, y), torch.tensor([[0, 5, 9], [5, 5, 30]])
    torch.testing.assert_close(measure.gradients.batch_gradients(model, LOSS, (x, y))(indices), each[indices].sum(1))


def test_norms_are_of_the_first_examples_of_each_order():
    model, x, y = toy()
    each, orders = loop(model, x, y), measure.gradients.random_orders(40, 20, 9, random())
    expected = torch.stack([each[orders[:, :size]].sum(1).norm(dim=1) for size in (1, 4, 20)], 1)
    for chunk in (1, 4, 16):
        by_autograd = measure.gradients.batch_gradients(model, LOSS, (x, y))
        torch.testing.assert_close(
            measure.gradients.batch_gradient_norms(by_autograd, orders, (1, 4, 20), chunk), expected
        )


def test_orders_hold_no_example_twice_and_follow_the_seed():
    orders = measure.gradients.random_orders(30, 20, 50, random())
    assert all(len(set(row.tolist())) == 20 for row in orders) and orders.max() == 29
    assert torch.equal(orders, measure.gradients.random_orders(30, 20, 50, random()))
    assert not torch.equal(orders, measure.gradients.random_orders(30, 20, 50, random(1)))
    with pytest.raises(ValueError, match="samples 31: must be a whole number from 1 to the 30"):
        measure.gradients.random_orders(30, 31, 1, random())


@pytest.mark.parametrize("size", [1, 3, 8, 20])
def test_moving_gradients_are_those_of_sgd(size):
    """Against torch.optim, step by step; and the model stays as it was."""
    model, x, y = toy()
    before = {n: p.clone() for n, p in model.named_parameters()}
    orders = measure.gradients.random_orders(40, 20, 3, random())
    found = list(passes.moving_gradients(model, LOSS, (x, y), "2.weight", orders, size, 0.3))
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())
    for order, moved in zip(orders, found, strict=True):
        model.load_state_dict({**model.state_dict(), **before})
        optimizer, gradients = torch.optim.SGD(model.parameters(), lr=0.3), []
        for batch in order[: 20 // size * size].reshape(-1, size):
            optimizer.zero_grad()
            LOSS(model(x[batch]), y[batch], reduction="mean").backward()
            gradients.append(model[2].weight.grad * size)
            optimizer.step()
        torch.testing.assert_close(moved.total, sum(gradients))
        torch.testing.assert_close(moved.last, gradients[-1])
        torch.testing.assert_close(moved.norms, torch.stack(gradients).flatten(1).norm(dim=1))


def test_a_moving_batch_must_fit_in_its_draw():
    model, x, y = toy()
    with pytest.raises(ValueError, match="batch_size 21: must be a whole number from 1 to the 20"):
        next(
            passes.moving_gradients(
                model, LOSS, (x, y), "2.weight", measure.gradients.random_orders(40, 20, 1, random()), 21, 0.1
            )
        )


def test_without_a_learning_rate_moving_is_frozen():
    model, x, y = toy()
    orders = measure.gradients.random_orders(40, 20, 5, random())
    found = measure.gradients.factors(model, LOSS, (x, y))
    for size in (1, 4, 20):
        moved = list(passes.moving_gradients(model, LOSS, (x, y), "2.weight", orders, size, 0.0))
        total, last = (torch.stack([getattr(p, name).flatten() for p in moved]) for name in ("total", "last"))
        torch.testing.assert_close(total, found(orders))
        torch.testing.assert_close(last, found(orders[:, 20 - size :]))
        means = passes.averaged_gradient_norms(found, orders, [size])[:, 0]
        torch.testing.assert_close(torch.stack([p.norms.mean() for p in moved]), means)


def test_norms_averaged_over_a_pass_are_those_of_a_loop():
    model, x, y = toy()
    each, orders = loop(model, x, y, ["2.weight"]), measure.gradients.random_orders(40, 20, 3, random())
    expected = [
        [
            torch.stack([each[b].sum(0).norm() for b in order[: 20 // size * size].split(size)]).mean()
            for size in (1, 3, 20)
        ]
        for order in orders
    ]
    found = measure.gradients.factors(model, LOSS, (x, y))
    for chunk in (1, 2, 64):
        means = passes.averaged_gradient_norms(found, orders, (1, 3, 20), chunk)
        torch.testing.assert_close(means, torch.tensor(expected).double())


def test_unrelated_noise_gives_every_finding_once_norms_are_averaged_over_a_pass():
    """Gaussian examples in many dimensions: √B for the norm, a spread of one batch that no B changes, and so one that
    grows as √B where 1/B as many norms are averaged."""
    values = torch.randn(4096, 500, generator=random())
    orders, sizes = measure.gradients.random_orders(4096, 256, 400, random(1)), (1, 4, 16, 64, 256)
    sums = lambda indices: values[indices].sum(-2)  # noqa: E731
    one, averaged = (
        measure.gradients.batch_gradient_norms(sums, orders, sizes),
        passes.averaged_gradient_norms(sums, orders, sizes),
    )
    for norms, spread in ((one, 0.0), (averaged, 0.5)):
        mean = norms.mean(0).numpy()
        assert readings.log_log_slope(np.array(sizes), mean) == pytest.approx(0.5, abs=0.01)
        found = readings.log_log_slope(np.array(sizes), norms.std(0).numpy() / mean)
        assert found == pytest.approx(spread, abs=0.04)


arrays = st.integers(0, 2**32).map(lambda seed: np.random.default_rng(seed).standard_t(4, (24, 3)) * [1, 1e-3, 50])
cuts = st.lists(st.integers(1, 23), max_size=6, unique=True).map(sorted)


@given(arrays, cuts, st.randoms())
def test_moments_of_parts_in_any_order_are_those_of_the_whole(values, at, shuffle):
    whole = moments.Moments.of(torch.from_numpy(values))
    parts = [moments.Moments.of(torch.from_numpy(part)) for part in np.split(values, at)]
    shuffle.shuffle(parts)
    while len(parts) > 1:  # any tree of merges
        i = shuffle.randrange(len(parts) - 1)
        parts[i : i + 2] = [parts[i].merge(parts[i + 1])]
    [merged] = parts
    assert merged.count == len(values)
    scale = torch.from_numpy(values).abs().amax(0)
    for power, name in enumerate(("mean", "m2", "m3", "m4"), 1):
        torch.testing.assert_close(getattr(merged, name) / scale**power, getattr(whole, name) / scale**power)


def test_moments_are_numpys_and_scipys():
    from scipy import stats

    values = np.random.default_rng(0).standard_t(5, (50, 4)) + 7
    found = moments.Moments.of(torch.from_numpy(values))
    np.testing.assert_allclose(found.mean, values.mean(0))
    np.testing.assert_allclose(found.variance, values.var(0, ddof=1))
    np.testing.assert_allclose(found.excess_kurtosis, stats.kurtosis(values, bias=False))


def test_moments_survive_a_mean_far_from_zero():
    values = torch.from_numpy(np.random.default_rng(0).standard_normal((1000, 2)))
    shifted = [moments.Moments.of(part + 1e6) for part in values.split(10)]
    merged = shifted[0]
    for part in shifted[1:]:
        merged = merged.merge(part)
    np.testing.assert_allclose(merged.variance, values.var(0), rtol=1e-6)
    np.testing.assert_allclose(merged.excess_kurtosis, moments.Moments.of(values).excess_kurtosis, atol=1e-4)


EDGES = torch.tensor([-1.0, 0.0, 0.5, 2.0], dtype=torch.float64)


@given(arrays, cuts)
def test_histograms_of_parts_are_that_of_the_whole(values, at):
    whole = moments.Histogram.of(torch.from_numpy(values), EDGES)
    assert whole.counts.sum() == values.size
    merged = moments.Histogram(EDGES, torch.zeros(5, dtype=torch.int64))
    for part in reversed(np.split(values, at)):
        merged = moments.Histogram.of(torch.from_numpy(part), EDGES).merge(merged)
    assert torch.equal(merged.counts, whole.counts)
    expected, _ = np.histogram(values, [-np.inf, *EDGES.tolist(), np.inf])
    assert whole.counts.tolist() == expected.tolist()


def test_histograms_of_other_edges_do_not_merge():
    a, b = (moments.Histogram.of(torch.zeros(3), edges) for edges in (EDGES, EDGES + 1))
    with pytest.raises(ValueError, match="edges"):
        a.merge(b)


def test_counts_above_a_value_and_back():
    values = torch.from_numpy(np.random.default_rng(0).exponential(size=200_000))
    histogram = moments.Histogram.of(values, torch.linspace(0, 12, 61, dtype=torch.float64))
    for x in (0.4, 1.7, 5.3):
        assert histogram.count_above(x) == pytest.approx(200_000 * math.exp(-x), rel=0.05)
        assert histogram.value_exceeded_by(histogram.count_above(x)) == pytest.approx(x)


def test_streamed_moments_and_counts_are_those_of_all_draws():
    model, x, y = toy()
    found, orders = (
        measure.gradients.factors(model, LOSS, (x, y)),
        measure.gradients.random_orders(40, 20, 33, random()),
    )
    edges = torch.logspace(-6, 2, 20, dtype=torch.float64)
    values = found(orders[:, :4])
    for chunk in (1, 16, 33):
        found_moments, histogram = moments.stream(found, orders, 4, edges, chunk)
        torch.testing.assert_close(found_moments.m4, moments.Moments.of(values).m4)
        assert torch.equal(histogram.counts, moments.Histogram.of(values.abs(), edges).counts)


def test_what_streams_is_no_larger_for_more_draws():
    """Gradients are asked for a chunk of draws at a time, whatever the number of draws."""
    largest = 0

    def watched(indices):
        nonlocal largest
        largest = max(largest, len(indices))
        return torch.ones(len(indices), 5)

    orders = measure.gradients.random_orders(40, 20, 100, random())
    moments.stream(watched, orders, 4, EDGES)
    measure.gradients.batch_gradient_norms(watched, orders, (1, 4))
    assert largest == measure.gradients.CHUNK


@pytest.mark.parametrize("num_examples", [60, math.inf])
def test_fit_recovers_the_noise_scale(num_examples):
    sizes = np.array([1, 2, 4, 8, 16, 32])
    truth = noise.NoiseScale(50.0, 0.7)
    fitted = noise.fit(sizes, truth.mean_square(sizes, num_examples), num_examples)
    assert (fitted.trace, fitted.squared_norm) == pytest.approx((50, 0.7))
    assert fitted.scale == pytest.approx(50 / 0.7)


def test_fit_trusts_what_is_sure():
    sizes, truth = np.array([1, 4, 16, 64]), noise.NoiseScale(50.0, 0.7)
    squares = truth.mean_square(sizes) * [3.0, 1, 1, 1]
    assert abs(noise.fit(sizes, squares, math.inf).trace - 50) > 5
    fitted = noise.fit(sizes, squares, math.inf, np.array([1e3, 1, 1, 1]))
    assert (fitted.trace, fitted.squared_norm) == pytest.approx((50, 0.7), rel=1e-3)


def test_the_mean_square_norm_of_drawn_batches_is_the_theorys():
    """Without replacement, from a small population, where the correction is large."""
    each = torch.randn(30, 4, generator=random()).double() + 0.5
    orders = measure.gradients.random_orders(30, 24, 40_000, random(1))
    squared = float(each.square().sum(1).mean())
    truth = noise.from_norms(squared, each.mean(0), 30, population=True)
    for size in (1, 6, 24):
        drawn = each[orders[:, :size]].sum(1).square().sum(1).mean()
        assert float(drawn) == pytest.approx(float(truth.mean_square(np.array(size), 30)), rel=0.02)


def test_noise_scale_is_unbiased_over_samples():
    """Known answer: G = (1, 0, 0, 0), S² = 4."""
    traces, norms = [], []
    for seed in range(2000):
        each = torch.randn(10, 4, generator=random(seed)).double()
        each[:, 0] += 1
        found = noise.from_norms(float(each.square().sum(1).mean()), each.mean(0), 10)
        traces.append(found.trace)
        norms.append(found.squared_norm)
    assert np.mean(traces) == pytest.approx(4, rel=0.03)
    assert np.mean(norms) == pytest.approx(1, rel=0.05)
    assert noise.NoiseScale(1.0, -0.1).scale == math.inf


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return torchvision.models.resnet18(num_classes=10)


class TestAnyModule:
    """A ResNet-18 of torchvision over random tensors."""

    x, y = torch.randn(6, 3, 32, 32, generator=random()), torch.arange(6)

    def test_exact_gradients_in_eval_mode(self, resnet):
        """In float64: how many of float32's digits survive hangs on the processor's convolutions."""
        exact, x = copy.deepcopy(resnet).double().eval(), self.x.double()
        names = ["conv1.weight", "layer4.1.bn2.weight", "fc.weight"]
        found = torch.cat(list(measure.gradients.per_example_gradients(exact, LOSS, (x, self.y), names, chunk=3)))
        torch.testing.assert_close(found, loop(exact, x, self.y, names))
        last = measure.gradients.factors(exact, LOSS, (x, self.y))
        torch.testing.assert_close(last(torch.arange(6)[:, None]), found[:, -5120:], check_dtype=False)

    def test_norms_moments_and_noise_scale(self, resnet):
        resnet.eval()
        orders = measure.gradients.random_orders(6, 4, 5, random())
        everything = measure.gradients.batch_gradients(resnet, LOSS, (self.x, self.y))
        norms = measure.gradients.batch_gradient_norms(everything, orders, (1, 4), chunk=2)
        assert norms.shape == (5, 2) and (norms > 0).all()
        last = measure.gradients.factors(resnet, LOSS, (self.x, self.y))
        found_moments, _ = moments.stream(last, orders, 2, EDGES)
        assert found_moments.variance.shape == (5120,)
        assert noise.from_norms(float(last.squared_norms().mean()), last.mean(), 6).trace > 0

    def test_training_mode_is_one_clear_error(self, resnet):
        resnet.train()
        for function in (
            measure.gradients.per_example_gradients,
            measure.gradients.batch_gradients,
            measure.gradients.factors,
        ):
            with pytest.raises(ValueError, match=r"^bn1 is a batch norm .*; call model.eval\(\) first$"):
                list(function(resnet, LOSS, (self.x, self.y)))


def test_what_vmap_cannot_do_is_done_one_example_after_the_other():
    class Jumpy(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(6, 3, bias=False)

        def forward(self, x):
            return self.linear(x) if x.sum() > 0 else self.linear(-x)

    _, x, y = toy()
    model = Jumpy().double()
    found = torch.cat(list(measure.gradients.per_example_gradients(model, one_sign, (x, y), chunk=7)))
    for i in (0, 7, 39):
        gradient = torch.autograd.grad(one_sign(model(x[i : i + 1]), y[i : i + 1]), list(model.parameters()))
        torch.testing.assert_close(found[i], torch.cat([g.flatten() for g in gradient]))


def one_sign(outputs, targets):
    """Of a model's outputs up to their sign, so that a batch's loss is the mean of its examples'."""
    return outputs.square().mean()


def test_unknown_parameters_and_layers_are_named():
    model, x, y = toy()
    with pytest.raises(ValueError, match=r"no parameter 'fc.weight': the model's are 0.weight"):
        measure.gradients.batch_gradients(model, LOSS, (x, y), ["fc.weight"])
    with pytest.raises(ValueError, match="no linear layer"):
        measure.gradients.last_linear(nn.ReLU())
    with pytest.raises(ValueError, match=r"acts .* on a batch, not once an example"):
        measure.gradients.factors(nn.Sequential(nn.Linear(6, 3), nn.Flatten(), nn.Linear(12, 3)), LOSS,
                      (torch.randn(5, 4, 6), torch.arange(5) % 3), layer="0")  # fmt: skip


DATA = Dataset("toy", torch.randn(80, 784, generator=random()), torch.arange(80) % 10, {})
TRIAL = Trial(dataset="mnist5k", train_size=80, widths=(7,), batch_size=8, epochs=1, draws=30)


@pytest.fixture(scope="module")
def measured():
    model = models.build(TRIAL)
    norms = gradients.gradient_norms(model, {}, DATA, TRIAL) | gradients.gradient_passes(model, {}, DATA, TRIAL)
    return model, norms | gradients.gradient_tails(model, {}, DATA, TRIAL) | {"dataset": "mnist5k", "train_size": 80}


@settings(deadline=None)
@given(st.sampled_from(readings.READINGS))
def test_readings_are_of_what_they_say(measured, reading):
    """Each reading's mean norm at B=4 and 32, by plain loops over draws and batches."""
    model, values = measured
    orders = gradients._draw(DATA, TRIAL)[1]
    assert orders.shape == (30, 32)  # the largest size that is at most half of the 80
    few = 4 if reading.extent == "averaged" else 2
    orders = orders if reading.weights == "frozen" else orders[:few]
    for size in (4, 32):
        norms = []
        for order in orders:
            net = models.build(TRIAL)
            net.load_state_dict(model.state_dict())
            found = []
            for batch in order.reshape(-1, size):
                net.zero_grad()
                LOSS(net(DATA.x_train[batch]), DATA.y_train[batch], reduction=reading.reduction).backward()
                found.append(net[-1].weight.grad.clone())
                step = 1 / size if reading.reduction == "sum" else 1.0
                with torch.no_grad():
                    for p in net.parameters() if reading.weights == "moving" else ():
                        p -= 0.01 * step * p.grad
            one = found[0] if reading.weights == "frozen" else found[-1]
            ways = {"single": [one], "accumulated": [sum(found)], "averaged": found}
            norms.append(np.mean([float(gradient.norm()) for gradient in ways[reading.extent]]))
        at = values["drawn_batch_size"].index(size)
        assert reading.norms(values)[at] == pytest.approx(np.mean(norms), rel=1e-4)
        spread = np.std(norms, ddof=1) / np.mean(norms)
        assert values[reading.column("cv")][at] == pytest.approx(spread, rel=1e-2)
        assert reading.norms(values, "high")[at] == pytest.approx(np.quantile(norms, 0.95), rel=1e-4)


@pytest.mark.parametrize("extent", ["single", "accumulated"])
def test_tails_of_moving_gradients_are_those_of_sgd(measured, extent):
    """Kurtosis of the gradients of four passes at B=4 by scipy, pooled and across draws."""
    model, values = measured
    gradient = {}
    for size in gradients._sizes(TRIAL):
        orders = gradients._draw(DATA, TRIAL)[1][:4]
        moved = list(
            passes.moving_gradients(model, LOSS, (DATA.x_train, DATA.y_train), "2.weight", orders, size, TRIAL.lr)
        )
        gradient[size] = torch.stack([(p.last if extent == "single" else p.total).flatten() for p in moved]).double()
    live = torch.stack([g.std(0) > 0 for g in gradient.values()]).all(0)
    at, found = values["drawn_batch_size"].index(4), gradient[4][:, live].numpy()
    expected = {
        "pooled": stats.kurtosis(gradient[4].flatten().numpy(), bias=False),
        "draws": stats.kurtosis(found, axis=0, bias=False).mean(),
    }
    for axis, kurtosis in expected.items():  # a difference from 3, of sums in float32 that threads group otherwise
        assert values[f"kurtosis_{axis}_moving_{extent}"][at] == pytest.approx(kurtosis, rel=1e-6, abs=1e-5), axis
    assert values["kurtosis_pooled_moving_single"][-1] == values["kurtosis_pooled_moving_accumulated"][-1]  # one batch


def test_histograms_and_scales_of_the_probe(measured):
    _, values = measured
    for size in values["drawn_batch_size"]:
        counts = [y for b, y in zip(values["norm_batch_size"], values["norm_y"], strict=True) if b == size]
        assert 25 <= sum(counts) <= 30  # but for norms beyond four times the mean
        counts = [y for b, y in zip(values["magnitude_batch_size"], values["magnitude_y"], strict=True) if b == size]
        assert sum(counts) <= 30 * 70
    fitted = readings.fit(values)
    assert fitted.trace == pytest.approx(values["noise_trace"], rel=0.2)
    assert values["single_slope"] == pytest.approx(readings.norm_slope(readings.READINGS[0], values))


def test_values_are_called_large_only_where_enough_are_drawn():
    """Ten times the batch, each value ten times as large: nearly all exceed what few did; of the means, as few."""
    values = torch.rand(1_024_000, generator=torch.Generator().manual_seed(0))
    small, large = (moments.Histogram.of(k * values, torch.logspace(-3, 2, 51)) for k in (1, 10))
    found = gradients.large_values({2: small, 20: large})
    assert found["large_values_mean"] == pytest.approx(2, abs=0.01)
    assert found["large_values_sum"] == pytest.approx(math.log10(0.9 * 10_240_000), abs=0.02)
    few = moments.Histogram.of(values[:10_000], torch.logspace(-3, 2, 51))
    assert gradients.large_values({2: few, 20: few}) == {}


def test_probes_leave_the_model_and_follow_the_data_seed():
    model = models.build(TRIAL)
    before = {n: p.clone() for n, p in model.state_dict().items()}
    first = gradients.gradient_tails(model, {}, DATA, TRIAL)
    assert gradients.gradient_tails(model, {}, DATA, TRIAL) == first
    assert gradients.gradient_tails(model, {}, DATA, Trial(**{**vars(TRIAL), "data_seed": 1})) != first
    gradients.gradient_norms(model, {}, DATA, TRIAL)
    assert all(torch.equal(p, before[n]) for n, p in model.state_dict().items())


def test_log_log_slope():
    x = np.array([1, 2, 4, 8])
    assert readings.log_log_slope(x, 3 * x**0.5) == pytest.approx(0.5)
    assert math.isnan(readings.log_log_slope(x, np.array([1, 0, 1, 1])))
    assert math.isnan(readings.log_log_slope(x[:1], x[:1]))
