"""What the public measures refuse, each in one line: never a number made of what is not one."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from repro import measure
from repro.measure import gradients, moments, noise, passes, tails

LOSS = functional.cross_entropy
NAN, INF = math.nan, math.inf


class Twice(nn.Module):
    """A network whose hidden layer acts twice on every example."""

    def __init__(self):
        super().__init__()
        self.inner, self.last = nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.last(torch.tanh(self.inner(torch.tanh(self.inner(x)))))


def tied():
    model = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 3))
    model[2].weight = model[0].weight
    return model


def toy(n=16):
    random = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    return model, torch.randn(n, 5, generator=random), torch.arange(n) % 3


MODEL, X, Y = toy()
DATASET = (X, Y)
ORDERS = gradients.random_orders(16, 16, 4, torch.Generator().manual_seed(0))
GRADIENTS = gradients.factors(MODEL, LOSS, (X, Y))
EDGES = torch.linspace(0, 10, 11)
HISTOGRAM = moments.Histogram.of(torch.rand(20), EDGES)
PIT = X.clone()
PIT[3, 2] = NAN
LOST = copy.deepcopy(MODEL)
with torch.no_grad():
    LOST[2].bias[1] = INF
SIZES = np.array([1.0, 2.0, 4.0])


def dead(outputs, targets):
    """A loss whose gradient is not finite where the loss is: that of a root at 0."""
    return outputs.mul(0).sum().sqrt() + LOSS(outputs, targets)


REFUSED = {
    # batches larger than what there is, or than nothing
    "17 of 16": (lambda: gradients.batch_gradient_norms(GRADIENTS, ORDERS, [17]), "batch_size 17: .* from 1 to the 16"),
    "a batch of -1": (lambda: gradients.batch_gradient_norms(GRADIENTS, ORDERS, [4, -1]), "batch_size -1: .* from 1"),
    "a pass in batches of 17": (lambda: passes.averaged_gradient_norms(GRADIENTS, ORDERS, [17]), "batch_size 17"),
    "a pass in chunks of 0": (lambda: passes.averaged_gradient_norms(GRADIENTS, ORDERS, [4], 0), "chunk 0"),
    "a batch of 1.5": (lambda: gradients.batch_gradient_norms(GRADIENTS, ORDERS, [1.5]), r"batch_size 1\.5: .* whole"),
    "a stream of 17": (lambda: moments.stream(GRADIENTS, ORDERS, 17, EDGES), "batch_size 17"),
    "a stream of 0": (lambda: moments.stream(GRADIENTS, ORDERS, 0, EDGES), "batch_size 0"),
    "moving 17": (
        lambda: next(passes.moving_gradients(MODEL, LOSS, (X, Y), "2.weight", ORDERS, 17, 0.1)),
        "batch_size 17",
    ),
    "moving, no such name": (
        lambda: next(passes.moving_gradients(MODEL, LOSS, (X, Y), "3.weight", ORDERS, 4, 0.1)),
        "no parameter '3.weight': the model's are 0.weight",
    ),
    "moving by NaN": (lambda: next(passes.moving_gradients(MODEL, LOSS, (X, Y), "2.weight", ORDERS, 4, NAN)), "lr nan"),
    "no draw": (lambda: gradients.random_orders(16, 4, 0, torch.Generator()), "draws 0"),
    "17 samples": (lambda: gradients.random_orders(16, 17, 2, torch.Generator()), "samples 17"),
    "the theory of 17 of 16": (lambda: noise.NoiseScale(1, 1).mean_square([17], 16), "from 1 to the 16"),
    "chunks of 0": (lambda: next(gradients.per_example_gradients(MODEL, LOSS, (X, Y), chunk=0)), "chunk 0"),
    # data and weights that are no numbers
    "NaN, per example": (
        lambda: next(gradients.per_example_gradients(MODEL, LOSS, (PIT, Y))),
        r"data\[0\]: .* nan at \[3, 2\]",
    ),
    "NaN, factors": (lambda: gradients.factors(MODEL, LOSS, (PIT, Y)), r"data\[0\]: must be finite"),
    "NaN, batches": (lambda: gradients.batch_gradients(MODEL, LOSS, (PIT, Y)), r"data\[0\]: must be finite"),
    "NaN, sharpness": (lambda: measure.sharpness(MODEL, LOSS, (PIT, Y)), r"data\[0\]: must be finite"),
    "NaN, eigenvalue": (lambda: measure.largest_eigenvalue(MODEL, LOSS, (PIT, Y)), r"data\[0\]: must be finite"),
    "diverged, factors": (
        lambda: gradients.factors(LOST, LOSS, (X, Y)),
        r"model, 2\.bias: must be finite, and holds inf",
    ),
    "diverged, sharpness": (lambda: measure.sharpness(LOST, LOSS, DATASET), r"model, 2\.bias: must be finite"),
    "diverged, eigenvalue": (lambda: measure.largest_eigenvalue(LOST, LOSS, DATASET), r"model, 2\.bias: must be"),
    "a gradient of NaN": (lambda: measure.sharpness(MODEL, dead, DATASET), "with a finite gradient"),
    "a curvature of NaN": (lambda: measure.largest_eigenvalue(MODEL, dead, DATASET), "second derivatives"),
    "NaN moments": (lambda: moments.Moments.of(torch.tensor([[1.0], [NAN]])), r"values: .* nan at \[1, 0\]"),
    "NaN counts": (lambda: moments.Histogram.of(torch.tensor([1.0, NAN]), EDGES), r"values: .* nan at \[1\]"),
    "infinite counts": (lambda: moments.Histogram.of(torch.tensor([1.0, INF]), EDGES), r"values: .* inf at \[1\]"),
    "NaN kurtosis": (lambda: tails.excess_kurtosis(np.array([1, 2, 3, 4, NAN])), "with NaN or infinity"),
    "a NaN mean gradient": (lambda: noise.from_norms(1.0, torch.tensor([NAN]), 4), "mean: must be finite"),
    "a NaN mean square": (lambda: noise.from_norms(NAN, torch.ones(1), 4), "finite mean squared norm"),
    "a fit of NaN": (lambda: noise.fit(SIZES, np.array([1, NAN, 3]), 16), "finite numbers above 0"),
    # fewer targets than examples, or none
    "15 targets, per example": (
        lambda: next(gradients.per_example_gradients(MODEL, LOSS, (X, Y[:15]))),
        r"got 16 in data\[0\], 15 in data\[1\]",
    ),
    "15 targets, factors": (
        lambda: gradients.factors(MODEL, LOSS, (X, Y[:15])),
        r"got 16 in data\[0\], 15 in data\[1\]",
    ),
    "15 targets, batches": (
        lambda: gradients.batch_gradients(MODEL, LOSS, (X, Y[:15])),
        r"got 16 in data\[0\], 15 in data\[1\]",
    ),
    "15 targets, moving": (
        lambda: next(passes.moving_gradients(MODEL, LOSS, (X, Y[:15]), "2.weight", ORDERS, 4, 0.1)),
        r"got 16 in data\[0\], 15 in data\[1\]",
    ),
    "no example": (lambda: gradients.factors(MODEL, LOSS, (X[:0], Y[:0])), r"at least one; got 0 in data\[0\]"),
    # layers
    "a layer that acts twice": (lambda: gradients.factors(Twice(), LOSS, (X, Y), "inner"), "acts more than once"),
    "a weight of two layers": (
        lambda: gradients.factors(tied(), LOSS, (X, Y), "0"),
        "or shares its weight with another",
    ),
    "no such layer": (
        lambda: gradients.factors(MODEL, LOSS, (X, Y), "fc"),
        "layer 'fc': must be a linear layer .*: 0, 2",
    ),
    "not a linear layer": (lambda: gradients.factors(MODEL, LOSS, (X, Y), "1"), "layer '1': must be a linear layer"),
    "a frozen layer": (
        lambda: gradients.factors(copy.deepcopy(MODEL).requires_grad_(False), LOSS, (X, Y)),
        r"layer 2: must be trainable",
    ),
    # numbers out of range
    "a loss of -1": (
        lambda: measure.sharpness(MODEL, lambda o, t: o.sum() * 0 - 1, DATASET),
        r"loss -1\.0: .* above -1",
    ),
    "a share of 2": (lambda: tails.hill_index(np.arange(9.0), share=2), "share 2: must be a number between 0 and 1"),
    "a share of 0": (lambda: tails.hill_index(np.arange(9.0), share=0), "share 0"),
    "a share of NaN": (lambda: tails.hill_index(np.arange(9.0), share=NAN), "share nan"),
    "a negative deviation": (lambda: tails.gaussian_surrogate(np.array([-1.0]), 3, np.random.default_rng(0)), "sd: "),
    "no surrogate": (lambda: tails.gaussian_surrogate(np.ones(1), 0, np.random.default_rng(0)), "draws 0"),
    "no control": (lambda: tails.null_controls(np.random.default_rng(0), 0), "n 0"),
    "the variance of one": (lambda: moments.Moments.of(torch.ones(1, 2)).variance, "at least 2 values, got 1"),
    "the kurtosis of three": (lambda: moments.Moments.of(torch.rand(3, 2)).excess_kurtosis, "at least 4 values, got 3"),
    "moments of none": (lambda: moments.Moments.of(torch.ones(0, 2)), "needs at least one"),
    "edges that fall": (lambda: moments.Histogram.of(torch.ones(2), EDGES.flip(0)), "edges: must be"),
    "exceeded by none": (lambda: HISTOGRAM.value_exceeded_by(0), "count 0: must be"),
    "the noise of one example": (lambda: noise.from_norms(1.0, torch.ones(1), 1), "at least 2 examples"),
    "a fit to one batch size": (lambda: noise.fit(SIZES[:1], SIZES[:1], 16), "two or more batch sizes"),
    "a fit of unequal lengths": (lambda: noise.fit(SIZES, SIZES[:2], 16), "for each of two or more"),
    "an epsilon of NaN": (lambda: measure.sharpness(MODEL, LOSS, DATASET, NAN), "epsilon nan"),
    "no iteration": (lambda: measure.sharpness(MODEL, LOSS, DATASET, iterations=0), "iterations 0"),
    "a tolerance of -1": (lambda: measure.largest_eigenvalue(MODEL, LOSS, DATASET, tolerance=-1), "tolerance -1"),
    "one vector": (lambda: measure.largest_eigenvalue(MODEL, LOSS, DATASET, vectors=1), "vectors 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_is_refused_in_one_line(case):
    call, line = REFUSED[case]
    with pytest.raises(ValueError, match=line) as error:
        call()
    assert "\n" not in str(error.value) and len(str(error.value)) < 250


def test_a_loss_that_is_infinite_in_the_box_is_refused():
    """Not where the model is, but somewhere that the search goes."""

    def cliff(outputs, targets):
        return torch.where(outputs.detach().abs().max() > MODEL(X).detach().abs().max() * 1.0005, INF, 1.0) * LOSS(
            outputs, targets
        )

    with pytest.raises(ValueError, match=r"somewhere in the box of epsilon 0\.01"):
        measure.sharpness(MODEL, cliff, DATASET, 1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_factors_of_honest_layers_are_accepted(dtype):
    """Their weight's gradient is what the factors add up to, within rounding, even where examples cancel."""
    model, x, y = toy(64)
    for scale in (1e-6, 1.0, 1e3):
        model = model.to(dtype)
        found = gradients.factors(model, lambda o, t, by=scale: LOSS(o, t) * by, (x.to(dtype), y))
        opposed = gradients.factors(
            model, lambda o, t, by=scale: o[:, 0].mul(1 - 2 * (t > 0)).mean() * by, (x.to(dtype), y)
        )
        assert found.delta.shape == opposed.delta.shape == (64, 3)
