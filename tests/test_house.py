"""The house: what the wings are, and what taking one of them along loads."""

import subprocess
import sys
import tomllib

from repro.runs.provenance import PROJECT

SOURCE = PROJECT / "src" / "repro"
HEAVY = ("pandas", "matplotlib", "seaborn", "dask", "distributed", "pyarrow", "statsmodels", "mlxtend")


def test_measure_is_a_library_of_its_own():
    """A fresh process that imports it holds nothing of the book, and nothing heavy but torch and scipy."""
    told = subprocess.run(
        [sys.executable, "-c", "import sys; from repro.measure import *; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert not set(HEAVY) & set(told)
    ours = {name for name in told if name.partition(".")[0] == "repro"}
    rooms = {p.stem for p in (SOURCE / "measure").glob("[!_]*.py")}
    assert ours == {"repro", "repro.measure", *(f"repro.measure.{room}" for room in rooms)}


def test_public_names_are_where_readers_look_for_them():
    from repro import Chapter, measure

    assert Chapter("generalization-gap", "smoke").claim.id == "generalization-gap"
    assert callable(measure.sharpness) and callable(measure.largest_eigenvalue)


def test_every_wing_says_what_it_knows_and_stands_in_readme_and_contract():
    wings = [p for p in SOURCE.iterdir() if (p / "__init__.py").is_file()]
    readme = (PROJECT / "README.md").read_text()
    contracts = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    ordered = {c["containers"][0]: " ".join(c["layers"]).replace("|", " ").split() for c in contracts}
    for wing in wings:
        assert (wing / "__init__.py").read_text().startswith('"""')
        assert f"`{wing.name}/`" in readme
        rooms = {p.stem for p in wing.glob("*.py")} - {"__init__"}
        if wing.name != "claims":
            assert set(ordered[f"repro.{wing.name}"]) == rooms
            assert all(f"`{room}`" in readme for room in rooms)
    alone = {"names", "folders", "trial", "terminal", "cli", "__main__"}
    assert set(ordered["repro"]) == {w.name for w in wings} | alone


def test_what_is_recorded_is_read_without_torch():
    """Which takes longer to load than all else together: pages, the list of claims and the plan of a sweep."""
    read = (
        "import sys; from repro import Chapter; from repro.publish import book; from repro.runs import runner;"
        "c = Chapter('gradient-competition', 'paper'); c.run(); c.opening(); c.figure(c.claim.figures[0].id);"
        "trials = c.here.trials; runner.stacks(trials, 2); runner.choose_workers(trials, None);"
        "print([m for m in ('torch', 'torchvision', 'distributed') if m in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", read], capture_output=True, text=True, timeout=300)
    assert told.stdout.splitlines()[-1:] == ["[]"], told.stderr


def test_no_room_is_too_large():
    long = {str(p): n for p in SOURCE.rglob("*.py") if (n := len(p.read_text().splitlines())) > 400}
    assert not long
