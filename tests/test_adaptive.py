"""Examples on which adaptive methods learn nothing: against torch's own optimizers, and what is proved of them."""

import numpy as np
import pytest
import torch

from repro.theory import adaptive

OPTIMIZERS = {
    "SGD": (torch.optim.SGD, {}),
    "momentum": (torch.optim.SGD, {"momentum": 0.9}),
    "Nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "AdaGrad": (torch.optim.Adagrad, {}),
    "RMSProp": (torch.optim.RMSprop, {}),
    "Adam": (torch.optim.Adam, {}),
}


def examples(positive, n, own):
    """The matrix (n, features) and the labels, as the paper writes them down."""
    y = np.where(np.arange(n) < positive, 1.0, -1.0)
    x = np.zeros((n, 3 + 5 * n))
    for i, label in enumerate(y):
        x[i, :3] = label, 1, 1
        x[i, 3 + 5 * i : 3 + 5 * i + (1 if label > 0 else 5)] = own
    return x, y


@pytest.mark.parametrize("batch_size", [None, 2])
@pytest.mark.parametrize("name", adaptive.LEARNING_RATES)
def test_as_torch_does(name, batch_size):
    """From random weights, with fainter features: the errors of weights that torch's optimizer finds in float64."""
    n, positive, start, own, steps = 10, 6, 0.3, 0.7, 40
    x, y = map(torch.from_numpy, examples(positive, n, own))
    random = np.random.default_rng(3)
    weights = torch.tensor(start * random.standard_normal((1, 3 + 5 * n))[0], requires_grad=True)
    kind, settings = OPTIMIZERS[name]
    optimizer = kind([weights], lr=adaptive.LEARNING_RATES[name], **settings)
    order, size = np.arange(n)[None], batch_size or n
    for step in range(steps):
        at = step % (n // size)
        if batch_size and at == 0:
            order = random.permuted(order, axis=1)
        batch = order[0, at * size :][:size]
        optimizer.zero_grad()
        ((x[batch] @ weights - y[batch]) ** 2 / 2).mean().backward()
        optimizer.step()
    found = adaptive.learn(name, positive, examples=n, start=start, own=own, batch_size=batch_size, steps=steps, seed=3)
    w = weights.detach().numpy()
    assert found.train_error[0] == np.mean((x.numpy() @ w) * y.numpy() <= 0)
    unseen = start * own * np.random.default_rng(0).standard_normal((200_000, 5))
    wrong = [(w[:3].sum() + unseen[:, 0] <= 0).mean(), (w[1] + w[2] - w[0] + unseen.sum(1) >= 0).mean()]
    assert found.test_error[0] == pytest.approx(0.6 * wrong[0] + 0.4 * wrong[1], abs=0.005)


@pytest.mark.parametrize("name", adaptive.LEARNING_RATES)
@pytest.mark.parametrize("positive", [31, 45, 59])
def test_what_is_proved(name, positive):
    """Wilson et al. (2017, §3.3): all are fitted; of the unseen, adaptive methods err on all of the label -1."""
    found = adaptive.learn(name, positive)
    assert found.train_error[0] == 0
    expected = 1 - positive / 60 if name in adaptive.ADAPTIVE else 0
    assert found.test_error[0] == pytest.approx(expected, abs=1e-12)


def test_what_the_proof_rests_on():
    """The sum of labels is positive, and X sign(Xᵀy) is 4y: the direction of an adaptive method's first step fits."""
    x, y = examples(36, 60, 1.0)
    assert np.array_equal(x @ np.sign(x.T @ y), 4 * y)


def test_several_at_once_are_as_each_alone():
    together = adaptive.learn("Adam", [36, 45], own=[1.0, 0.5], steps=50)
    for i, (positive, own) in enumerate(((36, 1.0), (45, 0.5))):
        alone = adaptive.learn("Adam", positive, own=own, steps=50)
        assert (alone.train_error[0], alone.test_error[0]) == (together.train_error[i], together.test_error[i])


@pytest.mark.parametrize("given", [{"positive": 30}, {"positive": 60}, {"positive": 40, "start": -1.0}])
def test_constructions_that_are_none(given):
    with pytest.raises(
        ValueError, match=r"^positive must be more than half of 60 and fewer than all; start at least 0$"
    ):
        adaptive.learn("Adam", **given)


@pytest.mark.parametrize("batch_size", [7, 0, -1])
def test_batches_that_do_not_divide(batch_size):
    with pytest.raises(ValueError, match=rf"^batch_size {batch_size}: must divide 60$"):
        adaptive.learn("Adam", 36, batch_size=batch_size)


def test_a_method_that_is_not_known():
    with pytest.raises(ValueError, match=r"^method 'Adm': must be one of SGD, momentum, "):
        adaptive.learn("Adm", 36)
