"""One file a claim, or one folder. A new one is found by being here: no list to keep."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from repro.evidence.spec import Claim, Outcome, Scale, Verdict
from repro.evidence.tables import Comparison, compare
from repro.names import BOTH, choose
from repro.runs.ledger import Ledger
from repro.runs.provenance import PROJECT
from repro.trial import Sweep, Trial


@functools.cache
def all_claims() -> dict[str, Claim]:
    """Every claim of the book by id, in the order of the book's contents."""
    modules = (importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__))
    found = {module.CLAIM.id: module.CLAIM for module in modules}
    toc = PROJECT / "_toc.yml"
    contents = re.findall(r"file: notebooks/(\S+)", toc.read_text(encoding="utf-8")) if toc.is_file() else []
    return {
        name: found[name] for name in [*(c for c in contents if c in found), *(c for c in found if c not in contents)]
    }


def get(claim_id: str) -> Claim:
    """The claim `claim_id`; SpecError with the nearest name if there is none."""
    choose("claim", claim_id, all_claims())
    return all_claims()[claim_id]


@dataclass(frozen=True)
class Finding:
    """A claim judged at one scale, on one dataset or on several at once, by as much of its sweep as there is."""

    claim: Claim
    scale: Scale
    sweeps: tuple[Sweep, ...]
    table: pd.DataFrame

    @property
    def datasets(self) -> list[str]:
        return list(dict.fromkeys(sweep.base.dataset for sweep in self.sweeps))

    @property
    def dataset(self) -> str:
        """BOTH where there are several."""
        return self.datasets[0] if len(self.datasets) == 1 else BOTH

    @functools.cached_property
    def trials(self) -> list[Trial]:
        """Every trial of the sweeps, once."""
        return list({t.key: t for sweep in self.sweeps for t in sweep.trials()}.values())

    @functools.cached_property
    def finished(self) -> list[Trial]:
        """Those that the ledger holds, diverged ones too."""
        keys = set(self.table["key"])
        return [t for t in self.trials if t.key in keys]

    @property
    def num_finished(self) -> int:
        return len(self.finished)

    @property
    def whole(self) -> bool:
        """Whether every planned trial is run."""
        return self.num_finished == len(self.trials)

    @functools.cached_property
    def verdict(self) -> Verdict:
        """What the claim's judge says of the whole sweep; of half a one, which is no evidence, that it is."""
        verdict = self.claim.judge(self.table)
        return verdict if self.whole else self._open(verdict)

    def _open(self, verdict: Verdict) -> Verdict:
        reason = f"{self.num_finished:,} of {len(self.trials):,} trials are run; half a sweep is no evidence."
        parts = {name: self._open(part) for name, part in verdict.parts.items()}
        return dataclasses.replace(verdict, outcome=Outcome.INCONCLUSIVE, reason=reason, parts=parts)

    @functools.cached_property
    def published(self) -> list[Comparison]:
        """Every published number and ours, where the sweep is whole."""
        return compare(self.claim, self.table if self.whole else self.table.iloc[:0])


def find(claim: Claim, scale: Scale | str, ledger: Ledger, **overrides: Any) -> Finding:
    """The finding at `scale`, with settings overridden where a value is given."""
    sweeps = claim.sweeps(scale, **overrides)
    return Finding(claim, Scale(scale), tuple(sweeps), ledger.table(sweeps))


def findings(claim: Claim, scale: Scale | str, ledger: Ledger) -> Iterator[Finding]:
    """A finding for every dataset that the claim is run on at `scale`, the main one first."""
    choose("scale", scale, tuple(Scale))
    for settings in claim.settings[Scale(scale)]:
        yield find(claim, scale, ledger, dataset=settings["dataset"])
