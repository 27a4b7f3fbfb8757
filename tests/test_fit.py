"""Measures against numpy, and against models whose answers are known."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from repro.probes import fit
from repro.training.data import Dataset
from repro.training.models import build
from repro.trial import Trial

TRIAL = Trial(epochs=1)  # whose fields these probes do not read
RNG = np.random.default_rng(0)


def numbers(*shape):
    return torch.from_numpy(RNG.standard_normal(shape)).float()


def dataset(split="test", n=50):
    y = torch.arange(n) % 10
    return Dataset("toy", numbers(n, 784), y, {split: (numbers(n // 2, 784), y[: n // 2])})


def start(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def test_norm_is_the_euclidean_norm_of_all_entries():
    tensors = [numbers(3, 4), numbers(5), numbers(2, 1, 2)]
    everything = np.concatenate([t.double().numpy().ravel() for t in tensors])
    assert fit.norm(tensors) == pytest.approx(np.linalg.norm(everything), rel=1e-14)
    assert fit.norm([torch.tensor([3.0, 4.0])]) == 5.0
    assert fit.norm([]) == 0.0


def test_norm_sums_in_float64():
    """In float32, 1e-4 ten million times beside 1e4 would be lost."""
    tensor = torch.full((10_000_000,), 1e-4)
    tensor[0] = 1e4
    assert fit.norm([tensor]) ** 2 - 1e8 == pytest.approx(0.1, rel=1e-3)


def test_cosine_against_numpy():
    a, b = numbers(7, 5), numbers(7, 5)
    x, y = a.double().numpy().ravel(), b.double().numpy().ravel()
    expected = x @ y / np.linalg.norm(x) / np.linalg.norm(y)
    assert fit.cosine(a, b) == pytest.approx(expected, rel=1e-12)
    assert fit.cosine(a, 2.5 * a) == pytest.approx(1, abs=1e-7)
    assert fit.cosine(a, -a) == pytest.approx(-1, abs=1e-12)
    assert fit.cosine(torch.tensor([1.0, 0]), torch.tensor([0, 1.0])) == 0


def test_cosine_of_tiny_tensors_is_not_rounded_away():
    a = torch.tensor([1e-20, 2e-20])
    assert fit.cosine(a, a) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("chunk", [1, 7, 50, 2048])
def test_loss_and_accuracy_against_numpy(chunk):
    model = build(Trial(widths=(9,), epochs=1))
    x, y = numbers(50, 784), torch.arange(50) % 10
    weights = {name: p.detach().double().numpy() for name, p in model.named_parameters()}
    hidden = np.maximum(x.double().numpy() @ weights["0.weight"].T + weights["0.bias"], 0)
    logits = hidden @ weights["2.weight"].T + weights["2.bias"]
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    loss, accuracy = fit.loss_and_accuracy(model, x, y, chunk)
    assert loss == pytest.approx(-log_p[np.arange(50), y].mean(), rel=1e-5)
    assert accuracy == (logits.argmax(1) == y.numpy()).mean()


@pytest.mark.parametrize("training", [True, False])
def test_measuring_leaves_the_model_as_it_was(training):
    model = build(Trial(model="f1", epochs=1)).train(training)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    fit.fit(model, start(model), dataset(), TRIAL)
    fit.travel(model, start(model), dataset(), TRIAL)
    assert model.training == training and all(m.training == training for m in model)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_batch_norm_is_measured_with_its_running_statistics():
    """In training mode a batch's own mean would enter, and accuracy would depend on the chunk."""
    model = build(Trial(model="f1", epochs=1))
    x, y = numbers(40, 784) + 3, torch.arange(40) % 10
    whole, pieces = (fit.loss_and_accuracy(model, x, y, chunk) for chunk in (40, 3))
    assert whole == pytest.approx(pieces, rel=1e-5)


def test_batches_are_of_about_one_size_where_batch_norm_takes_its_statistics_from_them():
    kept, batch = (Trial(epochs=1, model="f1", norm_statistics=s) for s in ("kept", "batch"))
    assert [fit.chunk_of(batch, n) for n in (60_000, 10_000, 5_001, 400)] == [5000, 5000, 2501, 400]
    assert fit.chunk_of(kept, 60_000) == 2048


@pytest.mark.parametrize("split", ["test", "validation"])
def test_fit_measures_both_sets_and_names_the_held_out_one(split):
    model, data = build(Trial(widths=(9,), epochs=1)), dataset(split)
    values = fit.fit(model, {}, data, TRIAL)
    train = fit.loss_and_accuracy(model, data.x_train, data.y_train)
    held = fit.loss_and_accuracy(model, *data.held[split])
    assert values == {
        "train_loss": train[0],
        "train_accuracy": train[1],
        f"{split}_loss": held[0],
        f"{split}_accuracy": held[1],
    }
    assert train != held


def test_an_untrained_constant_model_scores_chance():
    model = nn.Sequential(nn.Linear(784, 10))
    nn.init.zeros_(model[0].weight)
    nn.init.zeros_(model[0].bias)
    loss, accuracy = fit.loss_and_accuracy(model, *(dataset().x_train, dataset().y_train))
    assert loss == pytest.approx(math.log(10), rel=1e-6)
    assert accuracy == 0.1


def test_travel_against_numpy():
    model = build(Trial(widths=(9, 6), epochs=1))
    initial = start(model)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(numbers(*p.shape))
    values = fit.travel(model, initial, dataset(), TRIAL)

    now = {n: p.detach().double().numpy() for n, p in model.named_parameters()}
    then = {n: p.double().numpy() for n, p in initial.items()}
    moved = {n: now[n].astype(np.float32) - then[n].astype(np.float32) for n in now}

    def length(arrays):
        return math.sqrt(sum(float((a.astype(np.float64) ** 2).sum()) for a in arrays))

    weights, biases = ["0.weight", "2.weight", "4.weight"], ["0.bias", "2.bias", "4.bias"]
    expected = {
        "weight_distance": length(moved[n] for n in weights),
        "bias_distance": length(moved[n] for n in biases),
        "weight_norm": length(now[n] for n in weights),
        "bias_norm": length(now[n] for n in biases),
    }
    for layer, n in enumerate(weights, 1):
        expected[f"weight_distance_{layer}"] = length([moved[n]])
        expected[f"weight_norm_{layer}"] = length([now[n]])
        cosine = (now[n] * then[n]).sum() / length([now[n]]) / length([then[n]])
        expected[f"cosine_{layer}"] = cosine
    assert values == pytest.approx(expected, rel=1e-9)


def test_travel_of_a_model_that_has_not_moved():
    model = build(Trial(widths=(9,), epochs=1))
    values = fit.travel(model, start(model), dataset(), TRIAL)
    assert values["weight_distance"] == values["bias_distance"] == 0
    assert values["cosine_1"] == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("fields", "num_weights", "scales"),
    [({"model": "f1"}, 6, 5 * 512), ({"model": "cnn", "batch_norm": True}, 4, 16 + 32)],
    ids=str,
)
def test_batch_norm_parameters_count_as_biases(fields, num_weights, scales):
    """Scales start at one and all other biases at zero, so the norm at the start is √n."""
    model = build(Trial(**fields, epochs=1))
    initial = start(model)
    values = fit.travel(model, initial, dataset(), TRIAL)
    assert values["bias_norm"] == pytest.approx(scales**0.5, rel=1e-9)
    assert sum(name.startswith("cosine_") for name in values) == num_weights
    with torch.no_grad():
        for m in model:
            if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
                m.weight.add_(1)
                m.running_mean.add_(100)  # a statistic, not a parameter: it does not travel
    values = fit.travel(model, initial, dataset(), TRIAL)
    assert values["bias_distance"] == pytest.approx(scales**0.5, rel=1e-9)
    assert values["weight_distance"] == 0
