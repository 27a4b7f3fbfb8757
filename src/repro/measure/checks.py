"""What every measure refuses, in one line of a ValueError: what was given, and what is allowed."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


def whole(name: str, value: int, most: int | None = None, what: str = "") -> int:
    """`value`, a whole number from 1 to `most`, the number of `what` there are."""
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1 or (most is not None and number > most):
        allowed = "≥ 1" if most is None else f"from 1 to the {most} {what}"
        raise ValueError(f"{name} {value!r}: must be a whole number {allowed}")
    return number


def finite(name: str, values: Tensor) -> None:
    """Refuse NaN and infinity among the values."""
    if (values.is_floating_point() or values.is_complex()) and not values.isfinite().all():
        at = tuple(values.isfinite().logical_not().nonzero()[0].tolist())
        raise ValueError(f"{name}: must be finite, and holds {values[at].item()} at {list(at)}")


@contextmanager
def one_line(what: str) -> Iterator[None]:
    """Whatever fails in the caller's code that runs here is a ValueError, `what` and the first line of it."""
    try:
        yield
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"{what} ({type(error).__name__}: {told(error)})") from error


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice: torch has no kind of its own for a CPU's."""
    import torch  # the rest of this room is for measures of numbers, too

    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def told(error: BaseException) -> str:
    """What an error says, in its first line."""
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__


def weights(model: nn.Module) -> None:
    """Refuse a model whose parameters or buffers are not all finite: one that has diverged."""
    named: Iterable[tuple[str, Tensor]] = (*model.named_parameters(), *model.named_buffers())
    for name, values in named:
        finite(f"model, {name}", values.detach())


def rising(name: str, values: Tensor) -> None:
    """Refuse other than one axis of two or more finite numbers, each larger than the last."""
    if values.ndim != 1 or len(values) < 2 or not bool((values.diff() > 0).all()) or not values.isfinite().all():
        raise ValueError(
            f"{name}: must be two or more finite numbers, each above the one before; got {tuple(values.shape)}"
        )


def positive(name: str, value: float) -> None:
    """Refuse what is not a finite number above 0."""
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} {value!r}: must be a finite number above 0")
