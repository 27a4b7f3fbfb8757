"""What is measured of random gradients, for any torch module and in-memory tensors.

Notation: g_i the gradient of one example's loss, G their mean over the N examples, S² their summed variance (tr Σ),
P the number of parameters looked at. A batch's gradient is sum-reduced here: Σ g_i over its B examples; that of the
mean-reduced loss is the same divided by B. A `loss` is mean-reduced: (outputs (n, ...), y (n,)) -> scalar.
Nothing of draws × P numbers is ever held: gradients come in chunks, and go into moments, counts and norms.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from repro.measure import checks
from repro.measure.tails import unbiased_kurtosis

Loss = Callable[[Tensor, Tensor], Tensor]  # (outputs, targets) -> their mean loss
Gradients = Callable[[Tensor], Tensor]  # indices (draws, B) -> sum-reduced gradients (draws, P)

CHUNK = 16  # draws whose gradients are held at once


def chosen_parameters(model: nn.Module, names: Sequence[str] | None) -> dict[str, nn.Parameter]:
    """The parameters called `names`, or all. ValueError for an unknown name, or where examples are not separate."""
    known = dict(model.named_parameters())
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ValueError(f"no parameter {unknown[0]!r}: the model's are {', '.join(known)}")
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.training or module.running_mean is None):
            raise ValueError(
                f"{name} is a batch norm that takes its statistics from the batch, so that an example has no gradient "
                "of its own; call model.eval() first"
            )
    return known if names is None else {name: known[name] for name in names}


def per_example_gradients(
    model: nn.Module, loss: Loss, x: Tensor, y: Tensor, names: Sequence[str] | None = None, chunk: int = 64
) -> Iterator[Tensor]:
    """The exact gradient of every example's loss, in chunks (≤ chunk, P), the parameters `names` one after the other.

    By torch.func: vmap of grad of functional_call. Source: McCandlish et al. (2018), appendix A, without their moving
    averages. ValueError, of one line, for what vmap cannot do: batch norm in training mode, random or data-dependent
    modules; and for data or weights that are not finite.
    """
    checks.examples(x, y)
    checks.weights(model)
    checks.whole("chunk", chunk)
    chosen = {name: p.detach() for name, p in chosen_parameters(model, names).items()}
    rest = {n: t.detach() for n, t in (*model.named_parameters(), *model.named_buffers()) if n not in chosen}

    def example_loss(parameters: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return loss(functional_call(model, {**rest, **parameters}, (image.unsqueeze(0),)), label.unsqueeze(0))

    gradients = vmap(grad(example_loss), in_dims=(None, 0, 0))
    for images, labels in zip(x.split(chunk), y.split(chunk), strict=True):
        try:
            found = gradients(chosen, images, labels)
        except RuntimeError as error:
            told = str(error).strip().splitlines()[0]
            raise ValueError(
                f"vmap cannot run this model one example at a time ({told}); call model.eval(), or replace the layer"
            ) from None
        yield torch.cat([found[name].flatten(1) for name in chosen], 1)


@dataclass(frozen=True)
class Factors:
    """The per-example gradients of one linear layer's weight as outer products, g_i = delta_i ⊗ inputs_i:
    delta (n, out) the gradient with respect to the layer's output, inputs (n, in). A `Gradients`, when called."""

    delta: Tensor
    inputs: Tensor

    def __call__(self, indices: Tensor) -> Tensor:
        return (self.delta[indices].transpose(-1, -2) @ self.inputs[indices]).flatten(-2)

    def squared_norms(self) -> Tensor:
        """‖g_i‖² (n,), float64."""
        pairs = zip(
            self.delta.split(2048), self.inputs.split(2048), strict=True
        )  # a float64 copy would be twice as big
        return torch.cat([d.double().square().sum(1) * i.double().square().sum(1) for d, i in pairs])

    def mean(self) -> Tensor:
        """G (P,)."""
        return (self.delta.T @ self.inputs).flatten() / len(self.delta)


def last_linear(model: nn.Module) -> str:
    """The name of the last linear layer."""
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not names:
        raise ValueError("the model has no linear layer; give the names of parameters to per_example_gradients instead")
    return names[-1]


def _adds_up(delta: Tensor, inputs: Tensor, summed: Tensor) -> bool:
    """Whether the outer products of the rows (n, out) and (n, in) sum to `summed` (out, in), but for rounding."""
    rounding = math.sqrt(torch.finfo(delta.dtype).eps) * float((delta.abs().T @ inputs.abs()).max())
    return torch.allclose(delta.T @ inputs, summed, rtol=0, atol=rounding)


def factors(model: nn.Module, loss: Loss, x: Tensor, y: Tensor, layer: str | None = None, chunk: int = 2048) -> Factors:
    """The per-example gradients of linear layer `layer` (default: the last) over x (n, ...), y (n,), from one forward
    and backward pass: thousands of times faster than one pass an example. ValueError, of one line, where the layer does
    not act exactly once on each example, which its weight's own gradient tells."""
    checks.examples(x, y)
    checks.weights(model)
    checks.whole("chunk", chunk)
    layer = layer or last_linear(model)
    module = dict(model.named_modules()).get(layer)
    if not isinstance(module, nn.Linear):
        linear = [name for name, found in model.named_modules() if isinstance(found, nn.Linear)]
        raise ValueError(f"layer {layer!r}: must be a linear layer of the model: {', '.join(linear) or 'it has none'}")
    chosen_parameters(model, None)
    seen: dict[str, Tensor] = {}

    def see(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.update(inputs=inputs[0].detach(), output=output)

    handle = module.register_forward_hook(see)
    try:
        found: list[tuple[Tensor, Tensor]] = []
        for images, labels in zip(x.split(chunk), y.split(chunk), strict=True):
            seen.clear()
            value = loss(model(images), labels)
            acts = tuple(seen["output"].shape) if seen else ()
            if acts[:-1] != (len(images),):
                raise ValueError(f"layer {layer}: acts {acts} on a batch, not once an example")
            if not (seen["output"].requires_grad and module.weight.requires_grad):
                raise ValueError(f"layer {layer}: must be trainable; call its requires_grad_() first")
            delta, summed = torch.autograd.grad(value, [seen["output"], module.weight])
            if not found and not _adds_up(delta, seen["inputs"], summed):
                raise ValueError(f"layer {layer}: acts more than once on an example, or shares its weight with another")
            found.append((delta * len(images), seen["inputs"]))  # the loss is a mean
    finally:
        handle.remove()
    delta, inputs = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Factors(delta, inputs)


def batch_gradients(
    model: nn.Module, loss: Loss, x: Tensor, y: Tensor, names: Sequence[str] | None = None
) -> Gradients:
    """The sum-reduced gradients of batches of x, y with respect to the parameters `names`, by autograd: for any
    module whose examples are separate. ValueError for data or weights that are not finite."""
    checks.examples(x, y)
    checks.weights(model)
    parameters = list(chosen_parameters(model, names).values())

    def gradient(indices: Tensor) -> Tensor:
        value = loss(model(x[indices]), y[indices]) * len(indices)
        return torch.cat([g.flatten() for g in torch.autograd.grad(value, parameters)])

    return lambda indices: torch.stack([gradient(row) for row in indices])


def random_orders(num_examples: int, samples: int, draws: int, random: torch.Generator) -> Tensor:
    """(draws, samples) indices, each row drawn without replacement. Batches are cut from the rows, so that every
    batch size sees the same examples."""
    checks.whole("samples", samples, num_examples, "examples there are")
    checks.whole("draws", draws)
    return torch.stack([torch.randperm(num_examples, generator=random)[:samples] for _ in range(draws)])


def batch_gradient_norms(
    gradients: Gradients, orders: Tensor, batch_sizes: Sequence[int], chunk: int = CHUNK
) -> Tensor:
    """(draws, batch sizes), float64: the norms ‖Σ g_i‖ of the first B examples of every row of `orders`. ValueError for
    a B that is larger than a row."""
    for size in batch_sizes:
        checks.whole("batch_size", size, orders.shape[1], "examples of a draw")
    checks.whole("chunk", chunk)
    return torch.stack(
        [
            torch.cat([gradients(rows[:, :size]).double().norm(dim=1) for rows in orders.split(chunk)])
            for size in batch_sizes
        ],
        dim=1,
    )


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


@dataclass(frozen=True)
class NoiseScale:
    """trace: S² = Σ‖g_i - G‖²/(N - 1); squared_norm: ‖G‖²; scale: B_simple = S²/‖G‖², in examples."""

    trace: float
    squared_norm: float

    @property
    def scale(self) -> float:
        return self.trace / self.squared_norm if self.squared_norm > 0 else math.inf

    def mean_square(self, batch_sizes: np.ndarray, num_examples: float = math.inf) -> np.ndarray:
        """E‖Σ g_i‖² = B(1 - B/N) S² + B² ‖G‖², exact for batches drawn without replacement from N examples; N is
        infinite for batches drawn with replacement. ValueError for a B outside 1 to N."""
        batch_sizes = np.asarray(batch_sizes, dtype=np.float64)
        if not ((batch_sizes >= 1) & (batch_sizes <= num_examples)).all():
            raise ValueError(f"batch_sizes: must be from 1 to the {num_examples} examples, got {batch_sizes.tolist()}")
        return batch_sizes * (1 - batch_sizes / num_examples) * self.trace + batch_sizes**2 * self.squared_norm


def noise_scale(mean_squared_norm: float, mean: Tensor, num_examples: int, population: bool = False) -> NoiseScale:
    """B_simple from n examples' mean ‖g_i‖² and mean gradient (P,). Source: McCandlish et al. (2018), eq. 2.9.

    ‖G‖² is that of the distribution the examples were drawn from: ‖ḡ‖² - S²/n, without bias. With `population` the
    examples are all there are, and it is ‖ḡ‖². ValueError for fewer than two examples, or what is not finite.
    """
    if num_examples < 2 or not 0 <= mean_squared_norm < math.inf:
        raise ValueError(
            f"needs at least 2 examples of a finite mean squared norm ≥ 0, got {num_examples} of {mean_squared_norm!r}"
        )
    checks.finite("mean", mean)
    n, squared = num_examples, float(mean.double().square().sum())
    trace = (mean_squared_norm - squared) * n / (n - 1)
    return NoiseScale(trace, squared if population else squared - trace / n)


def fit_noise_scale(
    batch_sizes: np.ndarray, mean_squares: np.ndarray, num_examples: float, errors: np.ndarray | None = None
) -> NoiseScale:
    """S² and ‖G‖² from mean ‖Σ g_i‖² by batch size, by `mean_square`; least squares of relative errors, weighted by
    the inverse squares of the means' relative standard `errors`, where they are given. ValueError for fewer than two
    batch sizes, or what is no positive number."""
    b, y, e = (
        np.asarray(v, dtype=np.float64) for v in (batch_sizes, mean_squares, batch_sizes if errors is None else errors)
    )
    if not (b.ndim == 1 and b.shape == y.shape == e.shape and len(set(b.tolist())) >= 2):
        raise ValueError(
            f"needs a mean and an error for each of two or more batch sizes, got {b.shape}, {y.shape}, {e.shape}"
        )
    if not all((np.isfinite(v) & (v > 0)).all() for v in (b, y, e)):
        raise ValueError("batch_sizes, mean_squares and errors: must be finite numbers above 0")
    weights = np.ones(len(b)) if errors is None else 1 / e
    terms = np.stack([NoiseScale(1, 0).mean_square(b, num_examples), NoiseScale(0, 1).mean_square(b)], 1)
    (trace, squared_norm), *_ = np.linalg.lstsq(terms * (weights / y)[:, None], weights, rcond=None)
    return NoiseScale(float(trace), float(squared_norm))


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode, and then as it was."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, was in training.items():
            module.training = was
