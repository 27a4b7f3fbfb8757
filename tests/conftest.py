"""Every test, and every kernel and process it starts, works in a cache folder of its own."""

import os
import tempfile

import pytest

_cache = tempfile.TemporaryDirectory(prefix="repro-tests-")
os.environ["REPRO_CACHE"] = _cache.name


@pytest.fixture(scope="session")
def smoke_ledger():
    """A ledger that holds the smoke-scale trials of every claim."""
    from repro import claims
    from repro.runs import runner
    from repro.runs.ledger import Ledger

    ledger = Ledger()
    plan = {c.id: claims.find(c, "smoke", ledger).trials for c in claims.all_claims().values()}
    report = runner.run(plan, ledger, workers=0)
    assert not report.failed
    return ledger
