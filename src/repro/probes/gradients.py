"""Probes of random gradients: what a trained network's last layer is told by batches of every size.

A draw is 1,024 training examples (half of a training set that is smaller than twice that) in random order, without
replacement; batches of B are cut from it. All
gradients are of the last linear layer's weight and sum-reduced; the mean-reduced ones are the same divided by B.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from repro.measure import gradients, moments, noise, objective, passes, tails
from repro.probes.readings import MAGNITUDES, log_log_slope
from repro.training.data import Dataset, generator
from repro.trial import Trial

BATCH_SIZES = (1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 64, 128, 256, 512, 1024)
# A moving draw costs a training step for every batch: so many times fewer of them.
MOVING_SHARE = 50
NORM_EDGES = torch.linspace(0.0, 4.0, 81, dtype=torch.float64)  # of norms over their mean
MAGNITUDE_EDGES = torch.logspace(*MAGNITUDES, dtype=torch.float64)  # of single gradient values
SMALL, LARGE = 2, 1024  # the batch sizes whose large values the post counts
# 100 of its values at B=2 are large: 1,000 draws of 10,240 weights
LARGE_COUNT, PUBLISHED_VALUES = 100, 1000 * 10_240
COORDINATES = 256  # whose values are kept over all draws
POOLED_DRAWS = 20  # whose coordinates are pooled, each alone
MIN_DRAWS = 4  # of which a kurtosis can be had
NORMAL_QUANTILES = torch.linspace(-3.5, 3.5, 15, dtype=torch.float64)


def _sizes(trial: Trial) -> list[int]:
    """Batch sizes of at most half of the training set, for all of it could be drawn in one way only."""
    return [size for size in BATCH_SIZES if size <= max(trial.num_train // 2, 1)]


def _num_moving(trial: Trial) -> int:
    return max(2, trial.draws // MOVING_SHARE)


def moving_steps(trial: Trial) -> dict[int, int]:
    """By batch size, the steps that the moving readings take."""
    sizes = _sizes(trial)
    return {size: sizes[-1] // size * _num_moving(trial) for size in sizes}


def _draw(dataset: Dataset, trial: Trial) -> tuple[list[int], Tensor]:
    """Batch sizes, and the orders that batches are cut from."""
    sizes, random = _sizes(trial), generator("gradient draws", trial.data_seed)
    return sizes, gradients.random_orders(len(dataset.x_train), sizes[-1], trial.draws, random)


def _factors(model: nn.Module, dataset: Dataset) -> gradients.Factors:
    with objective.evaluating(model):
        return gradients.factors(model, functional.cross_entropy, (dataset.x_train, dataset.y_train))


def gradient_norms(model: nn.Module, initial: Mapping[str, Tensor], dataset: Dataset, trial: Trial) -> dict[str, Any]:
    """Probe: norms of random batches' gradients, by batch size (lists) and by reading.

    "frozen": at the network as it is; "moving": after and along SGD steps of the trial's lr through the draw, with
    batches of B. "single": of one batch, the draw's first (frozen) or last (moving); "accumulated": summed over the
    draw's whole batches. Of each the mean over draws, the coefficient of variation, and the 5 % and 95 % quantiles;
    a histogram of the norms of single frozen batches over their mean; S² and ‖G‖² of the training set.
    Frozen readings take `trial.draws` draws, moving ones a fiftieth of them.
    """
    sizes, orders = _draw(dataset, trial)
    few = orders[: _num_moving(trial)]
    found = _factors(model, dataset)
    used = [orders.shape[1] // size * size for size in sizes]
    totals = sorted(set(used))
    summed = gradients.batch_gradient_norms(found, orders, totals)
    norms = {
        "frozen_single": gradients.batch_gradient_norms(found, orders, sizes),
        "frozen_accumulated": summed[:, [totals.index(n) for n in used]],
    }
    pairs = [
        (torch.stack([p.total.double().norm() for p in moved]), torch.stack([p.norms[-1] for p in moved]))
        for moved in _moving(model, dataset, trial, few, sizes)
    ]
    for i, reading in enumerate(("moving_accumulated", "moving_single")):
        norms[reading] = torch.stack([pair[i] for pair in pairs], 1)
    values: dict[str, Any] = {"drawn_batch_size": [float(size) for size in sizes], **_over_draws(norms)}
    single = norms["frozen_single"]
    values["single_slope"] = log_log_slope(np.array(sizes), single.mean(0).numpy())
    squares = single.square()
    values["mean_square_frozen_single"] = squares.mean(0).tolist()
    values["square_cv_frozen_single"] = (squares.std(0) / squares.mean(0)).tolist()
    counts = [moments.Histogram.of(column, NORM_EDGES).counts[1:-1] for column in (single / single.mean(0)).T]
    values.update(_flat("norm", sizes, (NORM_EDGES[:-1] + NORM_EDGES[1:]) / 2, counts))
    scale = noise.from_norms(float(found.squared_norms().mean()), found.mean(), len(dataset.x_train), population=True)
    return values | {"noise_trace": scale.trace, "noise_squared_norm": scale.squared_norm}


def _moving(
    model: nn.Module, dataset: Dataset, trial: Trial, orders: Tensor, sizes: list[int]
) -> Iterator[list[passes.Pass]]:
    """By batch size, the passes of SGD through the draws, a step of the trial's lr a batch."""
    with objective.evaluating(model):
        layer = f"{gradients.last_linear(model)}.weight"
        x, y = dataset.x_train, dataset.y_train
        for size in sizes:
            yield list(passes.moving_gradients(model, functional.cross_entropy, (x, y), layer, orders, size, trial.lr))


def _over_draws(norms: Mapping[str, Tensor]) -> dict[str, list[float]]:
    """Of norms (draws, sizes) by reading: mean, coefficient of variation, 5 % and 95 % quantiles over draws."""
    values = {}
    for reading, table in norms.items():
        mean = table.mean(0)
        low, high = torch.quantile(table, torch.tensor([0.05, 0.95], dtype=table.dtype), dim=0)
        columns = {"mean": mean, "cv": table.std(0) / mean, "low": low, "high": high}
        values.update({f"{name}_{reading}": column.tolist() for name, column in columns.items()})
    return values


def _flat(prefix: str, sizes: list[int], x: Tensor, rows: list[Tensor]) -> dict[str, list[float]]:
    """A table (sizes, len(x)) as three lists of one length: every entry, its batch size and its x."""
    columns = {
        "batch_size": torch.tensor(sizes, dtype=torch.float64).repeat_interleave(len(x)),
        "x": x.repeat(len(sizes)),
        "y": torch.cat(rows).double(),
    }
    return {f"{prefix}_{name}": column.tolist() for name, column in columns.items()}


def gradient_tails(model: nn.Module, initial: Mapping[str, Tensor], dataset: Dataset, trial: Trial) -> dict[str, Any]:
    """Probe: how the values of single random batches' gradients are distributed, by batch size (lists).

    Counts of raw magnitudes over all draws and coordinates. Excess kurtosis, Hill's ξ and the α-stable index, each
    beside that of Gaussian values: across draws (of one coordinate, and then the mean over coordinates) and across the
    coordinates of one draw's noise Σ(g_i - G), in random order, beside Gaussian values of the same standard
    deviations (and then the mean over draws). Quantiles of single coordinates, standardised, at those of a Gaussian.
    Coordinates that never change, such as those of a dead unit, are left out.
    """
    sizes, orders = _draw(dataset, trial)
    found = _factors(model, dataset)
    streamed = [moments.stream(found, orders, size, MAGNITUDE_EDGES) for size in sizes]
    live = torch.stack([part.variance > 0 for part, _ in streamed]).all(0)
    seed = int(torch.randint(2**62, (1,), generator=generator("tails", trial.data_seed)))
    rng = np.random.default_rng(seed)
    coordinates = torch.from_numpy(rng.permutation(_changing(live)))
    columns: dict[str, list[float]] = {}
    quantiles = []
    for size, (part, _) in zip(sizes, streamed, strict=True):
        some = coordinates[:COORDINATES]
        kept = torch.cat([found(rows[:, :size])[:, some].double() for rows in orders.split(gradients.CHUNK)])
        standardised = ((kept - kept.mean(0)) / kept.std(0)).numpy()
        pooled = found(orders[:POOLED_DRAWS, :size]) - size * found.mean()
        sd = part.variance.sqrt()[coordinates].numpy()
        samples = {
            "draws": standardised,
            "draws_surrogate": rng.standard_normal(standardised.shape),
            "coordinates": pooled[:, coordinates].double().numpy().T,
            "coordinates_surrogate": tails.gaussian_surrogate(sd, len(pooled), rng).T,
        }
        for axis, sample in samples.items():
            for name, estimate in tails.ESTIMATORS.items():
                columns.setdefault(f"{name}_{axis}", []).append(float(np.nanmean(estimate(sample))))
        quantiles.append(torch.from_numpy(np.quantile(standardised, normal_cdf(NORMAL_QUANTILES))))
    # of all coordinates that change, not of those kept alone
    columns["kurtosis_draws"] = [float(part.excess_kurtosis[coordinates].mean()) for part, _ in streamed]
    counts = [histogram.counts[1:-1] for _, histogram in streamed]
    ends = {sizes[i]: streamed[i][1] for i in (0, min(SMALL, len(sizes)) - 1, len(sizes) - 1)}
    return {
        "tail_batch_size": [float(size) for size in sizes],
        **columns,
        **_flat("magnitude", sizes, (MAGNITUDE_EDGES[:-1] * MAGNITUDE_EDGES[1:]).sqrt(), counts),
        **_flat("quantile", sizes, NORMAL_QUANTILES, quantiles),
        **large_values(ends),
    }


def _changing(live: Tensor) -> np.ndarray:
    """Which coordinates change, of those that do (P,). ValueError for fewer than four."""
    coordinates = np.flatnonzero(live.numpy())
    if len(coordinates) < 4:
        raise ValueError("fewer than four coordinates of the last layer's gradient change at all")
    return coordinates


def gradient_passes(model: nn.Module, initial: Mapping[str, Tensor], dataset: Dataset, trial: Trial) -> dict[str, Any]:
    """Probe: all batches of a pass through a draw, by batch size (lists).

    Norms averaged over a pass ("averaged"), with the columns of `gradient_norms`: "frozen", of `trial.draws` draws, and
    "moving", of a fiftieth of them. Of the moving draws, excess kurtosis of the pass's last batch ("single") and of its
    sum ("accumulated"): across draws, the mean over coordinates that change at every size, and pooled, of all values.
    Nothing is told of single draws across coordinates: so few draws do not tell the coordinates' scales.
    """
    sizes, orders = _draw(dataset, trial)
    few = orders[: max(_num_moving(trial), MIN_DRAWS)]
    norms = {"frozen_averaged": passes.averaged_gradient_norms(_factors(model, dataset), orders, sizes)}
    averaged = []
    moving: dict[str, list[Tensor]] = {"single": [], "accumulated": []}  # by extent, (draws, P) of every size
    for moved in _moving(model, dataset, trial, few, sizes):
        averaged.append(torch.stack([p.norms.mean() for p in moved]))
        moving["single"].append(torch.stack([p.last.flatten() for p in moved]).double())
        moving["accumulated"].append(torch.stack([p.total.flatten() for p in moved]).double())
    norms["moving_averaged"] = torch.stack(averaged, 1)
    columns: dict[str, list[float]] = {}
    for extent, by_size in moving.items():
        live = _changing(torch.stack([values.std(0) > 0 for values in by_size]).all(0))
        for values in by_size:
            for axis, sample in (("draws", values.numpy()[:, live]), ("pooled", values.numpy().ravel())):
                kurtosis = float(np.mean(tails.excess_kurtosis(sample)))
                columns.setdefault(f"kurtosis_{axis}_moving_{extent}", []).append(kurtosis)
    listed = [float(size) for size in sizes]
    return {"drawn_batch_size": listed, "tail_batch_size": listed, **_over_draws(norms), **columns}


def normal_cdf(x: Tensor) -> np.ndarray:
    return torch.special.ndtr(x).numpy()


def large_values(histograms: Mapping[int, moments.Histogram]) -> dict[str, float]:
    """Log₁₀ of how many values of the largest batch's gradient are large, of as many values as the post has drawn.

    The post does not say what is large. It counts about 100 such values at B=2; what 100 exceed there is taken for the
    threshold. For the sum-reduced gradient, and for the mean-reduced one with a threshold of its own. Nothing where too
    few values were drawn for even one to be as large.
    """
    small = SMALL if SMALL in histograms else min(histograms)
    large = max(histograms)
    total = int(histograms[small].counts.sum())
    wanted = LARGE_COUNT / PUBLISHED_VALUES * total
    found: dict[str, float] = {}
    if wanted < 1:
        return found
    threshold = histograms[small].value_exceeded_by(wanted)
    for reduction, factor in (("sum", 1.0), ("mean", large / small)):  # a mean at B exceeds t where the sum exceeds B t
        share = histograms[large].count_above(threshold * factor) / total
        found[f"large_values_{reduction}"] = float(np.log10(share * PUBLISHED_VALUES))
    return found
