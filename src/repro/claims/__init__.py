"""One file a claim. A new one is found by being here: no list to keep."""

from __future__ import annotations

import functools
import importlib
import pkgutil

from repro.spec import Claim, choose


@functools.cache
def all_claims() -> dict[str, Claim]:
    """Every claim of the book by id, in alphabetical order of its file."""
    modules = (importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__))
    return {module.CLAIM.id: module.CLAIM for module in modules}


def get(claim_id: str) -> Claim:
    """The claim `claim_id`; SpecError with the nearest name if there is none."""
    choose("claim", claim_id, all_claims())
    return all_claims()[claim_id]
