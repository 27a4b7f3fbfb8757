"""What examples come in: tensors or numpy arrays in any structure, a Dataset or a DataLoader; and batches of them.

A batch is a tensor, or a tuple, list or dict of batches: the first axis of every tensor in it counts the examples.
What is no tensor in it goes along as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler, default_collate

from repro.measure import checks

Batch = Any
ALLOWED = "a tuple, list or dict of tensors or arrays, a Dataset, a list of examples, or a DataLoader"


def mapped(function: Callable[[Any], Any], batch: Batch) -> Batch:
    """The batch with `function` of everything in it that is no tuple, list or dict."""
    if isinstance(batch, Mapping):
        return {key: mapped(function, part) for key, part in batch.items()}
    if isinstance(batch, (tuple, list)):
        parts = [mapped(function, part) for part in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return function(batch)


def named(batch: Batch, name: str = "data") -> Iterator[tuple[str, Tensor]]:
    """The tensors of a batch, each with where it is."""
    if isinstance(batch, Mapping):
        for key, part in batch.items():
            yield from named(part, f"{name}[{key!r}]")
    elif isinstance(batch, (tuple, list)):
        for i, part in enumerate(batch):
            yield from named(part, f"{name}[{i}]")
    elif isinstance(batch, Tensor):
        yield name, batch


def size(batch: Batch) -> int:
    """How many examples there are. ValueError, in one line, for none, or for tensors of unequal lengths."""
    lengths = {name: len(t) if t.ndim else None for name, t in named(batch)}
    if not lengths or None in lengths.values() or len(set(lengths.values())) > 1 or 0 in lengths.values():
        told = ", ".join(f"{'no axis' if n is None else n} in {name}" for name, n in lengths.items())
        raise ValueError(f"data: needs tensors of as many examples each, and at least one; got {told or 'no tensor'}")
    return next(n for n in lengths.values() if n is not None)


def take(batch: Batch, indices: Tensor | slice) -> Batch:
    """The examples at `indices`."""
    return mapped(lambda t: t[indices] if isinstance(t, Tensor) else t, batch)


def to(batch: Batch, device: torch.device | None = None, dtype: torch.dtype | None = None) -> Batch:
    """The batch on `device`, its floating-point tensors in `dtype`."""
    return mapped(
        lambda t: t.to(device, dtype if t.is_floating_point() else None) if isinstance(t, Tensor) else t, batch
    )


def _tensors(batch: Batch) -> Batch:
    return mapped(lambda part: torch.as_tensor(part) if isinstance(part, np.ndarray) else part, batch)


def finite(batch: Batch) -> Batch:
    """The batch, arrays as tensors. ValueError, in one line, for NaN or infinity, and where `size` raises one."""
    batch = _tensors(batch)
    size(batch)
    for name, values in named(batch):
        checks.finite(name, values)
    return batch


def _structure(data: Any) -> bool:
    """Whether it is a batch itself, rather than what batches are read from."""
    if isinstance(data, list):
        return bool(data) and all(isinstance(part, (Tensor, np.ndarray)) for part in data)
    return isinstance(data, (Tensor, np.ndarray, tuple, Mapping))


def _any_order(data: Any) -> TypeGuard[DataLoader]:
    """Whether it is a DataLoader that goes once through a Dataset, so that another order will do."""
    return (
        isinstance(data, DataLoader)
        and not isinstance(data.dataset, IterableDataset)
        and data.batch_size is not None
        and (
            isinstance(data.sampler, SequentialSampler)
            or (isinstance(data.sampler, RandomSampler) and not data.sampler.replacement)
        )
    )


def checked(data: Any) -> Any:
    """The data, as tensors and looked through for what is not finite, if it is held in memory."""
    return finite(data) if _structure(data) else data


def number(data: Any) -> int | None:
    """How many examples there are, where that is known before they are read. ValueError, in one line, for no data."""
    if _structure(data):
        return size(_tensors(data))
    if isinstance(data, IterableDataset) or (isinstance(data, DataLoader) and not _any_order(data)):
        return None
    dataset = data.dataset if isinstance(data, DataLoader) else data
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise ValueError(f"data: must be {ALLOWED}; got {type(data).__name__}")
    if not _length(dataset):
        raise ValueError("data: needs at least one example, and has none")
    return _length(dataset)


def _length(dataset: Any) -> int:
    return len(dataset)


def batches(data: Any, size_of_each: int, random: torch.Generator | None = None) -> Iterator[Batch]:
    """`data` in batches of `size_of_each`, the last of what is left, and each of finite numbers.

    In its own order, or with `random` in one drawn from it, where there is a choice: an iterable dataset, or a
    DataLoader with a sampler of its own, has none, and what it yields is cut no further than each of its batches.
    ValueError, in one line, for what is no data.
    """
    checks.whole("batch size", size_of_each)
    count = number(data)
    if _structure(data):
        whole = finite(data) if random is None else _tensors(data)
        for indices in _order(size(whole), random).split(size_of_each):
            if random is None:
                yield take(whole, slice(int(indices[0]), int(indices[-1]) + 1))
            else:
                yield finite(take(whole, indices))
        return
    if count is None:
        loader = data if isinstance(data, DataLoader) else DataLoader(data, size_of_each, generator=torch.Generator())
    else:
        given = data if isinstance(data, DataLoader) else None
        loader = DataLoader(
            given.dataset if given else data,
            batch_size=size_of_each,
            sampler=_order(count, random).tolist(),
            collate_fn=given.collate_fn if given else default_collate,
            num_workers=given.num_workers if given else 0,
            worker_init_fn=given.worker_init_fn if given else None,
            multiprocessing_context=given.multiprocessing_context if given else None,
            generator=torch.Generator(),  # that no number is drawn from the caller's
        )
    with checks.one_line("data: cannot be read in batches"):
        for batch in loader:
            batch = finite(batch)
            for start in range(0, size(batch), size_of_each):
                yield take(batch, slice(start, start + size_of_each))


def _order(count: int, random: torch.Generator | None) -> Tensor:
    return torch.arange(count) if random is None else torch.randperm(count, generator=random)


def in_memory(data: Any, at_once: int = 1024) -> Batch:
    """All of `data` as one batch. ValueError, in one line, where `batches` raises one, or for unequal shapes."""
    if _structure(data):
        return finite(data)
    parts = list(batches(data, at_once))
    try:
        return _joined(parts)
    except RuntimeError as error:
        raise ValueError(f"data: batches of unequal shapes ({checks.told(error)}); pad them to one") from None


def _joined(parts: list[Batch]) -> Batch:
    first = parts[0]
    if isinstance(first, Mapping):
        return {key: _joined([part[key] for part in parts]) for key in first}
    if isinstance(first, (tuple, list)):
        joined = [_joined(list(some)) for some in zip(*parts, strict=True)]
        return type(first)(*joined) if hasattr(first, "_fields") else type(first)(joined)
    return torch.cat(parts) if isinstance(first, Tensor) else first
