"""A model, a loss and data, made by a function in a file of the user's."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path
from typing import Any

from repro.advice.adviser import advise
from repro.measure import checks

WANTED = "it must give (model, loss, data), or a dict of what repro.advise takes"


def made(target: str) -> dict[str, Any]:
    """What `file.py:function` gives, as arguments of `advise`. The file's folder can be imported from, as if it were
    run. ValueError, in one line, for all that goes wrong."""
    file, _, function = target.rpartition(":")
    path = Path(file)
    if not file or not function:
        raise ValueError(f"{target!r}: must be a file and a function in it, such as train.py:make")
    if not path.is_file():
        raise ValueError(f"{file}: no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{file}: must be a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
        make = getattr(module, function, None)
        found = make() if callable(make) else None
    except Exception as error:  # of any kind: it is the user's code
        raise ValueError(f"{target} fails: {type(error).__name__}: {checks.told(error)}") from error
    finally:
        sys.path.pop(0)
    if not callable(make):
        raise ValueError(f"{file}: has no function {function!r}")
    if isinstance(found, dict):
        unknown = [str(name) for name in found if name not in inspect.signature(advise).parameters]
        if unknown or not {"model", "data"} <= found.keys():
            raise ValueError(f"{target} gives {', '.join(map(str, found))}; {WANTED}")
        return {"loss": None, **found}
    if isinstance(found, (tuple, list)) and len(found) == 3:
        return dict(zip(("model", "loss", "data"), found, strict=True))
    raise ValueError(f"{target} gives {type(found).__name__}; {WANTED}")
