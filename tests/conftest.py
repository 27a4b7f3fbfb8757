"""Every test, and every kernel and process it starts, works in a cache folder of its own."""

import os
import tempfile

import filelock
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


@pytest.fixture(scope="session")
def site(tmp_path_factory, request):
    """The folder of the real book, built at smoke scale: once, also where several workers share a test run."""
    from repro.publish import book

    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with filelock.FileLock(shared / "site.lock"):
        if not (shared / "site").is_dir():  # a build that fails leaves none
            request.getfixturevalue("smoke_ledger")
            book.build("smoke", output=shared / "site", workers=0)
    return shared / "site"
