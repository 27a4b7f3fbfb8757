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


@pytest.fixture(scope="session")
def site(tmp_path_factory, smoke_ledger):
    """The folder of the real book, built at smoke scale."""
    from repro.publish import book

    return book.build("smoke", output=tmp_path_factory.mktemp("built") / "site", workers=0).folder


def pytest_collection_modifyitems(items):
    """A file's tests stay on one worker, and all that need the site on the same: it is built once."""
    for item in items:
        group = "site" if "site" in getattr(item, "fixturenames", ()) else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
