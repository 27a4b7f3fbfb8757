"""Published claims about batch size, run again."""

import importlib
from typing import Any

__version__ = "0.1.0"

# What notebooks and visitors ask for by the package's own name; loaded when asked for.
_ROOMS = {"Chapter": "repro.publish.chapter", "advise": "repro.advice"}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'repro' has no attribute {name!r}")
    return getattr(importlib.import_module(_ROOMS[name]), name)
