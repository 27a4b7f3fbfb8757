"""What batch size to use: a measured noise scale and measured step times, put into words. Knows `measure` alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from repro.advice.adviser import Advice, advise

__all__ = ["Advice", "advise"]


def __getattr__(name: str) -> Any:  # loaded when asked for, as torch takes seconds to load
    if name not in __all__:
        raise AttributeError(f"module 'repro.advice' has no attribute {name!r}")
    from repro.advice import adviser

    return getattr(adviser, name)


def __dir__() -> list[str]:
    return __all__
