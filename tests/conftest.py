"""Every test, and every kernel and process it starts, works in a cache folder of its own, on one thread."""

import inspect
import os
import shutil
import tempfile
from pathlib import Path

import filelock
import pytest

_cache = tempfile.TemporaryDirectory(prefix="repro-tests-")
os.environ["REPRO_CACHE"] = _cache.name
# As many test workers as cores, each with a thread a core, wait for one another: small products take ten times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def _shared(tmp_path_factory) -> Path:
    """A folder of this test run, one for all its workers."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """A parameter `table` or `made` that is a function is called now: made in collection, every worker makes all."""
    for name in ("table", "made"):
        make = pyfuncitem.funcargs.get(name)
        if inspect.isfunction(make):
            pyfuncitem.funcargs[name] = make()


def pytest_collection_modifyitems(items):
    """Of the files that need the trials trained once, one comes first and trains; the others come last. So no worker
    waits for another."""
    shared = {"smoke_ledger", "site"}
    asks = (i.path for i in items if i.path.suffix == ".ipynb" or shared & {*getattr(i, "fixturenames", ())})
    needy = dict.fromkeys(asks)
    first = next(iter(needy), None)
    items.sort(key=lambda item: (item.path != first, item.path in needy))


def _take_trained(trained: Path) -> None:
    """Copy into this worker's ledger what another has trained, once, if one has."""
    taken = Path(_cache.name) / "taken"
    if trained.is_dir() and not taken.exists():
        shutil.copytree(trained, Path(_cache.name) / "ledger", dirs_exist_ok=True)
        taken.touch()


def pytest_runtest_setup(item):
    """A notebook's kernel finds the trials that this test run has trained already."""
    if item.path.suffix == ".ipynb":
        _take_trained(_shared(item.config._tmp_path_factory) / "smoke-ledger")


@pytest.fixture
def few_resamples(monkeypatch):
    """A fifth of the bootstrap samples of steps to a target, in both implementations: what a rule says of a made table,
    and that both say it, does not hang on their number."""
    import independent_steps

    from repro.evidence import steps

    for module in (steps, independent_steps):
        monkeypatch.setattr(module, "RESAMPLES", 199)


@pytest.fixture(scope="session")
def smoke_ledger(tmp_path_factory):
    """A ledger that holds the smoke-scale trials of every claim: trained once, by the worker that asks first."""
    from repro import claims
    from repro.runs import runner
    from repro.runs.ledger import Ledger

    ledger, trained = Ledger(), _shared(tmp_path_factory) / "smoke-ledger"
    with filelock.FileLock(trained.with_suffix(".lock")):
        _take_trained(trained)
        plan = {c.id: claims.find(c, "smoke", ledger).trials for c in claims.all_claims().values()}
        report = runner.run(plan, ledger, workers=0)
        assert not report.failed
        if not trained.is_dir():  # whole at once, for those who do not wait
            shutil.copytree(ledger.working, aside := trained.with_suffix(".partial"))
            aside.rename(trained)
    return ledger


@pytest.fixture(scope="session")
def site(tmp_path_factory, request):
    """The folder of the real book, built at smoke scale: once, also where several workers share a test run."""
    from repro.publish import book

    shared = _shared(tmp_path_factory)
    with filelock.FileLock(shared / "site.lock"):
        if not (shared / "site").is_dir():  # a build that fails leaves none
            request.getfixturevalue("smoke_ledger")
            book.build("smoke", output=shared / "site", workers=0)
    return shared / "site"
