"""Moments and counts of many values, a chunk at a time: nothing of draws × P numbers is ever held."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from repro.measure import checks
from repro.measure.gradients import CHUNK, Gradients
from repro.measure.tails import unbiased_kurtosis


@dataclass(frozen=True)
class Moments:
    """Count, mean and central sums of squares, cubes and fourth powers of (n, P) values by column, float64.

    Parts merge in any order into those of the whole (Chan et al. 1979; Pébay 2008, eq. 2.1 to 3.1).
    """

    count: int
    mean: Tensor
    m2: Tensor
    m3: Tensor
    m4: Tensor

    @classmethod
    def of(cls, values: Tensor) -> Moments:
        """ValueError for no value, or for one that is not finite."""
        x = values.double()
        if x.ndim < 1 or not len(x):
            raise ValueError(f"values: needs at least one along the first axis, got {tuple(x.shape)}")
        mean = x.mean(0)
        if not mean.isfinite().all():
            checks.finite("values", x)
        deviation = x - mean
        squared = deviation.square()
        return cls(len(x), mean, squared.sum(0), (squared * deviation).sum(0), squared.square_().sum(0))

    def merge(self, other: Moments) -> Moments:
        a, b = self.count, other.count
        n = a + b
        d = other.mean - self.mean
        step = d / n
        cross = d * step * a * b
        m2 = self.m2 + other.m2 + cross
        m3 = self.m3 + other.m3 + cross * step * (a - b) + 3 * step * (a * other.m2 - b * self.m2)
        m4 = (
            self.m4
            + other.m4
            + cross * step.square() * (a * a - a * b + b * b)
            + 6 * step.square() * (a * a * other.m2 + b * b * self.m2)
            + 4 * step * (a * other.m3 - b * self.m3)
        )
        return Moments(n, self.mean + step * b, m2, m3, m4)

    @property
    def variance(self) -> Tensor:
        """(P,). ValueError for a single value."""
        if self.count < 2:
            raise ValueError(f"variance needs at least 2 values, got {self.count}")
        return self.m2 / (self.count - 1)

    @property
    def excess_kurtosis(self) -> Tensor:
        """(P,), unbiased for Gaussian values; NaN where all values are equal. ValueError for fewer than 4."""
        return torch.from_numpy(np.asarray(unbiased_kurtosis(self.count, self.m2.numpy(), self.m4.numpy())))


@dataclass(frozen=True)
class Histogram:
    """Counts of values between shared, rising edges (e,); counts (e + 1,), the first and last of what lies outside.
    A value on an edge counts above it. Histograms of the same edges merge by adding."""

    edges: Tensor
    counts: Tensor

    @classmethod
    def of(cls, values: Tensor, edges: Tensor) -> Histogram:
        """ValueError for a value that is not finite, or edges that do not rise."""
        checks.rising("edges", edges)
        if values.numel() and not torch.stack(values.aminmax()).isfinite().all():
            checks.finite("values", values)
        bins = torch.bucketize(values.flatten().contiguous(), edges.to(values.dtype), right=True)
        return cls(edges, torch.bincount(bins, minlength=len(edges) + 1))

    def merge(self, other: Histogram) -> Histogram:
        if not torch.equal(self.edges, other.edges):
            raise ValueError("histograms merge only where their edges are the same")
        return Histogram(self.edges, self.counts + other.counts)

    def count_above(self, value: float) -> float:
        """How many values lie above `value`, the logarithm of the count interpolated linearly between edges."""
        above = self.counts.flip(0).cumsum(0).flip(0)[1:].double().clamp(min=0.5)  # half a value for none
        return math.exp(float(np.interp(value, self.edges.numpy(), above.log().numpy())))

    def value_exceeded_by(self, count: float) -> float:
        """The value that `count` values lie above: the inverse of `count_above`."""
        checks.positive("count", count)
        above = self.counts.flip(0).cumsum(0).flip(0)[1:].double().clamp(min=0.5)
        return float(np.interp(-math.log(count), -above.log().numpy(), self.edges.numpy()))


def stream(
    gradients: Gradients, orders: Tensor, batch_size: int, edges: Tensor, chunk: int = CHUNK
) -> tuple[Moments, Histogram]:
    """Moments by coordinate, and counts of the magnitudes of all coordinates, of the sum-reduced gradients of the first
    B examples of every row of `orders`. What is held is a chunk of draws, whatever their number."""
    checks.whole("batch_size", batch_size, orders.shape[1], "examples of a draw")
    checks.whole("chunk", chunk)
    moments: Moments | None = None
    histogram: Histogram | None = None
    for rows in orders.split(chunk):
        values = gradients(rows[:, :batch_size])
        part, counted = Moments.of(values), Histogram.of(values.abs(), edges)
        moments = moments.merge(part) if moments else part
        histogram = histogram.merge(counted) if histogram else counted
    if moments is None or histogram is None:
        raise ValueError("orders: holds no draw")
    return moments, histogram
