"""The noise scale with an interval: known answers, coverage, invariances, faults planted, and what it leaves alone."""

import copy
import math
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from repro import measure
from repro.measure import micro_batches
from repro.measure.micro_batches import GROUPS, GroupedGradients, Groups

LOSS = functional.cross_entropy


class Point(nn.Module):
    """One vector w; with `pull` as its loss, ½‖w - x‖² averaged, the gradient of an example is w - x."""

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(torch.as_tensor(w, dtype=torch.float64))

    def forward(self, x):
        return self.w - x


def pull(outputs, targets):
    return outputs.square().sum(1).mean() / 2


def cloud(rng, n, spectrum, batch, noise=None):
    """n gradients (n, d) whose variances are `spectrum` and whose mean makes the noise scale `batch`."""
    d = len(spectrum)
    mean = np.sqrt(spectrum) * rng.standard_normal(d)
    mean *= math.sqrt(spectrum.sum() / batch) / np.linalg.norm(mean)
    z = rng.standard_normal((n, d)) if noise is None else rng.standard_t(noise, (n, d)) / math.sqrt(noise / (noise - 2))
    return mean + np.sqrt(spectrum) * z


def grouped(gradients, micro_batch, num_examples=math.inf, groups=GROUPS):
    """Groups of micro-batches' mean gradients, by numpy."""
    means = (
        gradients[: len(gradients) // micro_batch * micro_batch].reshape(-1, micro_batch, gradients.shape[1]).mean(1)
    )
    turns = np.arange(len(means)) % groups
    sums = np.stack([means[turns == k].sum(0) for k in range(min(groups, len(means)))])
    counts = np.bincount(turns).astype(float)
    squares = np.bincount(turns, np.square(means).sum(1))
    return Groups(counts, squares, sums @ sums.T, micro_batch, num_examples)


def slow(gradients, micro_batch, num_examples=math.inf):
    """tr Σ and ‖G‖² by every pair, written out."""
    means = [gradients[i : i + micro_batch].mean(0) for i in range(0, len(gradients), micro_batch)]
    product = np.mean([a @ b for a, b in combinations(means, 2)])
    trace = micro_batch * (np.mean([a @ a for a in means]) - product)
    return trace, product + trace / num_examples


@pytest.mark.parametrize(("n", "micro_batch", "num_examples"), [(24, 1, math.inf), (48, 2, 100), (96, 1, 96)])
def test_groups_hold_every_pair_of_distinct_micro_batches(n, micro_batch, num_examples):
    gradients = cloud(np.random.default_rng(0), n, np.ones(7), 10)
    for groups in (5, 32):
        found = grouped(gradients, micro_batch, num_examples, groups).noise()
        np.testing.assert_allclose(found, slow(gradients, micro_batch, num_examples), rtol=1e-10)


def test_a_group_taken_twice_is_never_paired_with_itself():
    """As if every pair of groups, copies among them, were written out, but for pairs of one micro-batch."""
    gradients, times = cloud(np.random.default_rng(1), 12, np.ones(3), 5), np.array([2, 0, 1, 3])
    held = [(k, gradients[i]) for k in range(4) for _ in range(times[k]) for i in range(k, 12, 4)]
    pairs = [a @ b for (k, a), (m, b) in combinations(held, 2) if not (k == m and np.array_equal(a, b))]
    trace, squared = grouped(gradients, 1, groups=4).noise(times.astype(float))
    assert squared == pytest.approx(np.mean(pairs))
    assert trace == pytest.approx(np.mean([a @ a for _, a in held]) - np.mean(pairs))


def test_of_everything_the_answer_is_exact_and_the_interval_a_point():
    """All N examples, in micro-batches of one: S²/‖ḡ‖², by enumeration."""
    x = cloud(np.random.default_rng(2), 640, 1 / np.arange(1, 21), 200)
    found = measure.noise_scale(Point(np.zeros(20)), pull, (-x, np.zeros(640)), micro_batch=1, within=None)
    mean, trace = x.mean(0), x.var(0, ddof=1).sum()
    assert found.num_examples == 640 and found.trace == pytest.approx(trace)
    assert found.squared_norm == pytest.approx(mean @ mean)
    assert found.low == pytest.approx(found.scale) == pytest.approx(found.high)


def test_of_everything_in_micro_batches_the_trace_is_uncertain_still():
    """All N examples, 500 times in other micro-batches of 16: which share one moves tr Σ, and the interval says so."""
    rng, held = np.random.default_rng(4), 0
    x = cloud(rng, 640, 1 / np.arange(1, 21), 200)
    truth = x.var(0, ddof=1).sum() / np.square(x.mean(0)).sum()
    for _ in range(500):
        found = grouped(rng.permutation(x), 16, len(x)).estimate()
        assert found.low < found.scale < found.high
        held += found.low <= truth <= found.high
    assert 0.92 * 500 <= held <= 0.99 * 500


@pytest.mark.parametrize("noise", [None, 9])
def test_linear_regression_has_the_noise_scale_of_the_closed_form(noise):
    """Residual δ = w - w*, x of unit variance: ‖G‖² = ‖δ‖², tr Σ = (d + 1)‖δ‖² + d s² for Gaussian x."""
    d, s, n, rng = 40, 2.0, 200_000, np.random.default_rng(3)
    x = rng.standard_normal((n, d)) if noise is None else rng.standard_t(noise, (n, d)) * math.sqrt((noise - 2) / noise)
    truth = rng.standard_normal(d)
    delta = rng.standard_normal(d)
    y = x @ truth + s * rng.standard_normal(n)
    model = nn.Linear(d, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(truth + delta)[None])

    def half_square(outputs, targets):
        return (outputs[:, 0] - targets).square().mean() / 2

    found = measure.noise_scale(model, half_square, (x, y), max_examples=40_000, within=None)
    squared = float(delta @ delta)
    fourth = 3.0 if noise is None else 3 * (noise - 2) / (noise - 4)  # E x⁴ of unit variance
    trace = (d + fourth - 2) * squared + d * s**2
    assert found.num_examples == 40_000 and found.low < trace / squared < found.high
    assert found.trace == pytest.approx(trace, rel=0.05) and found.high < 1.2 * found.low


COVERED = [
    (spectrum, noise, ratio)
    for spectrum, noise in (("flat", 5), ("1/i", None), ("1/i", 3))
    for ratio in (0.1, 0.5, 1, 4, 16)
]


@pytest.mark.parametrize(("spectrum", "noise", "ratio"), COVERED)
def test_intervals_hold_the_truth(spectrum, noise, ratio, monkeypatch):
    """1,000 repeats, nominal 95 %: 93 to 99.9 %, neither end wrong in more than 4.5 %; and an upper end wherever there
    are four times as many examples as the noise scale, but for the heaviest tails."""
    monkeypatch.setattr(micro_batches, "RESAMPLES", 300)  # a third of the time
    rng = np.random.default_rng([COVERED.index((spectrum, noise, ratio)), 7])
    variances, n = np.ones(100) if spectrum == "flat" else 1 / np.arange(1, 101), 256
    batch, low, high, finite = n / ratio, 0, 0, 0
    for repeat in range(1000):
        found = grouped(cloud(rng, n, variances, batch, noise), 4).estimate(seed=repeat)
        low, high = low + (batch < found.low), high + (batch > found.high)
        finite += found.high < math.inf
    assert 930 <= 1000 - low - high <= 999
    assert low <= 45 and high <= 45
    if ratio >= 4:
        assert finite >= (950 if noise != 3 else 880)
    if ratio <= 0.1:
        assert finite <= 100


FAULTS = {
    "no correction for the noise in the mean": lambda g: (g.noise()[0], g.products.sum() / g.counts.sum() ** 2),
    "the size of micro-batches forgotten": lambda g: (g.noise()[0] / g.micro_batch, g.noise()[1]),
    "the naive ratio": lambda g: (g.squares.sum() / g.counts.sum(), g.products.sum() / g.counts.sum() ** 2),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_miss_what_the_estimate_hits(fault):
    """Over 300 samples of as many examples as the noise scale, the mean of 1/B is right; with a fault it is not."""
    rng, n, batch = np.random.default_rng(5), 512, 512
    samples = [grouped(cloud(rng, n, np.ones(50), batch), 4) for _ in range(300)]
    right = np.array([q / t for t, q in (g.noise() for g in samples)]) * batch
    wrong = np.array([q / t for t, q in (FAULTS[fault](g) for g in samples)]) * batch
    error = right.std() / math.sqrt(300)
    assert abs(right.mean() - 1) < 4 * error < abs(wrong.mean() - 1)


def toy(n=400, classes=3, seed=0):
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 6, generator=random)
    y = (x[:, :classes] + 0.5 * torch.randn(n, classes, generator=random)).argmax(1)
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, classes)).double(), x.double(), y


def test_neither_the_losss_scale_nor_the_micro_batch_matters_once_all_is_read():
    model, x, y = toy()
    found = [
        measure.noise_scale(model, lambda o, t, by=by: LOSS(o, t) * by, (x, y), micro_batch=size, within=None)
        for by, size in ((1, 1), (1e6, 1), (1e-6, 1))
    ]
    each = torch.cat(list(measure.gradients.per_example_gradients(model, LOSS, (x, y))))
    norms, mean = float(each.double().square().sum(1).mean()), each.double().mean(0)
    exact = measure.noise.from_norms(norms, mean, len(x), population=True)
    assert [f.scale for f in found] == pytest.approx([exact.scale] * 3, rel=1e-6)


def test_examples_come_in_any_form():
    from torch.utils.data import DataLoader, IterableDataset, TensorDataset

    class Stream(IterableDataset):
        def __iter__(self):
            return iter(TensorDataset(x, y))

    model, x, y = toy()
    pair = measure.noise_scale(model, LOSS, (x, y), within=None)
    for data in ([x, y], TensorDataset(x, y), DataLoader(TensorDataset(x, y), batch_size=17, shuffle=True)):
        found = measure.noise_scale(model, LOSS, data, within=None)
        assert (found.scale, found.low, found.high) == pytest.approx((pair.scale, pair.low, pair.high))
    named = measure.noise_scale(
        model, None, {"x": x, "y": y}, forward=lambda m, b: LOSS(m(b["x"]), b["y"]), within=None
    )
    assert named == pair
    streamed = measure.noise_scale(model, LOSS, Stream(), within=None)
    assert streamed.num_examples == 384 and streamed.low < pair.scale < streamed.high  # of 12 times 32


def test_gradients_folded_to_fewer_numbers_keep_their_products(monkeypatch):
    monkeypatch.setattr(micro_batches, "SKETCH", 4096)
    random = torch.Generator().manual_seed(0)
    mean = torch.randn(10_001, generator=random) * 0.2
    whole = GroupedGradients([torch.zeros(10_001)])
    folded = GroupedGradients([torch.zeros(10_001)], memory=1)
    assert folded.sums.shape == (GROUPS, 4096)
    for _ in range(64):
        gradient = [mean + torch.randn(10_001, generator=random)]
        whole.add(gradient)
        folded.add(gradient)
    a, b = (g.groups(8, math.inf).estimate() for g in (whole, folded))
    assert b.scale == pytest.approx(a.scale, rel=0.1) and b.scale != a.scale
    assert whole.squares == pytest.approx(folded.squares)


class Busy(nn.Module):
    """Dropout, batch norm and a buffer that counts."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.drop = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.3)
        self.last = nn.Linear(8, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.last(self.drop(torch.relu(self.norm(self.first(x)))))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fails", [False, True])
def test_the_callers_model_is_left_as_it_was_bit_for_bit(training, fails):
    torch.manual_seed(0)
    model, (_, x, y) = Busy().train(training), toy()
    x = x.float()
    model(x[:50]).sum().backward()
    model.first.weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    state, modes = torch.get_rng_state(), [m.training for m in model.modules()]
    if fails:
        with pytest.raises(ValueError, match="out of bounds"):
            measure.noise_scale(model, LOSS, (x, y + 1))
    else:
        measure.noise_scale(model, LOSS, (x, y))
    for name, values in model.state_dict().items():
        assert torch.equal(values, before[name])
    for p, gradient in zip(model.parameters(), gradients, strict=True):
        assert (p.grad is None) == (gradient is None) and (gradient is None or torch.equal(p.grad, gradient))
    assert torch.equal(torch.get_rng_state(), state) and [m.training for m in model.modules()] == modes


def test_batch_norm_is_another_network_in_training_mode():
    torch.manual_seed(0)
    model, (_, x, y) = Busy(), toy()
    x = 3 * x.float() + 2
    training = measure.noise_scale(model.train(), LOSS, (x, y), within=None)
    evaluated = measure.noise_scale(model.eval(), LOSS, (x, y), within=None)
    assert training.micro_batch == 32 and evaluated.micro_batch < 32
    assert not evaluated.low < training.scale < evaluated.high


def test_it_stops_when_it_is_sure_or_time_or_examples_are_up():
    model, x, y = toy(20_000)
    sure = measure.noise_scale(model, LOSS, (x, y), within=2.0)
    surer = measure.noise_scale(model, LOSS, (x, y), within=1.2)
    assert sure.num_examples < surer.num_examples < 20_000 and surer.high < 1.2 * surer.low
    assert measure.noise_scale(model, LOSS, (x, y), seconds=1e-9).num_examples == 64
    assert measure.noise_scale(model, LOSS, (x, y), max_examples=500, within=None).num_examples == 480


def at_minimum():
    x = torch.randn(200, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return Point(x.mean(0)), (x, torch.zeros(200))


MODEL, X, Y = toy()
REFUSED = {
    "99 examples": (lambda: measure.noise_scale(MODEL, LOSS, (X[:99], Y[:99])), "too few examples .*: 99, needs 100"),
    "one micro-batch": (lambda: measure.noise_scale(MODEL, LOSS, (X, Y), micro_batch=300), "needs two"),
    "a summed loss": (lambda: measure.noise_scale(MODEL, nn.CrossEntropyLoss(reduction="sum"), (X, Y)), "a sum"),
    "a loss each": (lambda: measure.noise_scale(MODEL, nn.CrossEntropyLoss(reduction="none"), (X, Y)), "one number"),
    "class weights": (
        lambda: measure.noise_scale(MODEL, nn.CrossEntropyLoss(torch.tensor([1.0, 2, 9]).double()), (X, Y)),
        "examples share it, by class weights",
    ),
    "no noise": (lambda: measure.noise_scale(MODEL, LOSS, (X[:1].repeat(200, 1), Y[:1].repeat(200))), "do not differ"),
    "no loss": (lambda: measure.noise_scale(MODEL, None, (X, Y)), "or give forward"),
    "no data": (lambda: measure.noise_scale(MODEL, LOSS, 3), "data: must be .* got int"),
    "frozen": (lambda: measure.noise_scale(copy.deepcopy(MODEL).requires_grad_(False), LOSS, (X, Y)), "no parameter"),
    "no second": (lambda: measure.noise_scale(MODEL, LOSS, (X, Y), seconds=0), "seconds 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_is_refused_in_one_line(case):
    call, line = REFUSED[case]
    with pytest.raises(ValueError, match=line) as error:
        call()
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_no_gradient_to_tell_from_noise_has_no_upper_end():
    model, data = at_minimum()
    random = torch.randperm(200, generator=torch.Generator().manual_seed(1))[:150]
    found = measure.noise_scale(
        model, pull, (data[0][random], data[1][random]), micro_batch=1, within=None, max_examples=75
    )
    assert found.high == math.inf and found.low > 0 and "at least" in str(found)
