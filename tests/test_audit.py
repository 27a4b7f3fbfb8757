"""Auditing: recorded trials trained again, and every number that does not come out as it was."""

import dataclasses
import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_cli import error_line, no_constants, repro

from repro import cli
from repro import trial as spec
from repro.runs import audit, ledger, provenance, runner, worker
from repro.runs.ledger import Ledger, LedgerError, failed_rows
from repro.trial import Trial

SMALL = {"train_size": 100, "widths": (8,), "lr": 0.05, "batch_size": 16, "steps": 12, "checkpoints": (5,)}
TRIALS = [Trial(**SMALL, init_seed=seed, data_seed=seed) for seed in range(3)]
DIVERGING = Trial(**SMALL | {"lr": 1e20})
pytestmark = pytest.mark.xdist_group("audit")


@pytest.fixture
def books(tmp_path):
    return Ledger(tmp_path / "working", tmp_path / "recorded")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty cache and no recorded results, for the command line: its ledger."""
    monkeypatch.setenv("REPRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cli.out, "width", 200)
    provenance.machine()  # provenance, asked for once a process, is of the true project
    monkeypatch.setattr(ledger, "PROJECT", tmp_path)
    return Ledger()


def record(books, trials, claim="claim"):
    report = runner.run({claim: trials}, books, workers=0, record=True)
    assert (report.trained, report.failed) == (len(trials), ())


def rewrite(books, change, claim="claim"):
    """Put the rows that `change` gives, or leaves, in place of the recorded ones; NaN stays NaN, null null."""
    path = books.recorded / f"{claim}.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    aside = path.with_suffix(".new")
    pq.write_table(pa.Table.from_pylist(change(rows) or rows, schema=table.schema), aside)
    aside.replace(path)


def rewrite_where(books, values, claim="claim", **where):
    """Set `values` (a function of the old one may stand for one) in the recorded rows with these fields."""

    def change(rows):
        found = [row for row in rows if all(row[name] == value for name, value in where.items())]
        assert found
        for row in found:
            row.update({name: v(row[name]) if callable(v) else v for name, v in values.items()})

    rewrite(books, change, claim)


def audited(books, claims=("claim",), sample=100, seed=0, **options):
    """The checks by the trial's key."""
    checks = audit.audit(books, list(claims), sample, seed, workers=0, **options)
    assert len({c.trial.key for c in checks}) == len(checks)
    return {c.trial.key: c for c in checks}


def slightly(value):
    return value * (1 + 1e-12)


@pytest.fixture(scope="module")
def pair():
    """The same trial's rows, trained twice. Copies: tests change them."""
    return [runner.run_stack(TRIALS[:1])[0] for _ in range(2)]


@pytest.fixture
def recorded(pair):
    return [dict(row) for row in pair[0]]


@pytest.fixture
def now(pair):
    return [dict(row) for row in pair[1]]


def elsewhere(rows):
    """As if trained on another processor."""
    for row in rows:
        row["run_processor"] = "another"
    return rows


# Two sets of rows


def test_the_same_rows_agree_exactly(recorded, now):
    check = audit.compare("claim", TRIALS[0], recorded, now)
    assert check.exact and check.failure == "" and check.recorded == check.now
    assert (check.claim, check.trial) == ("claim", TRIALS[0])


@pytest.mark.parametrize("row", [0, 1, 2], ids=["start", "checkpoint", "end"])
@pytest.mark.parametrize("name", ["train_loss", "test_accuracy", "weight_norm", "cosine_2"])
def test_on_the_same_machine_the_last_bits_count(recorded, now, name, row):
    recorded[row][name] = slightly(now[row][name])
    check = audit.compare("claim", TRIALS[0], recorded, now)
    assert check.exact and check.failure == "differs"
    assert check.worst == f"{name} at step {(0, 5, 12)[row]}"
    assert (check.recorded, check.now) == (recorded[row][name], now[row][name]) and check.recorded != check.now


@pytest.mark.parametrize("name", ["processor", "instructions", "torch_version", "path", "precision", "threads"])
def test_what_may_round_otherwise_is_compared_within_tolerance(recorded, now, name):
    for row in recorded:
        row[f"run_{name}"] = 2 if name == "threads" else "another"
    recorded[-1]["train_loss"] = slightly(now[-1]["train_loss"])
    check = audit.compare("claim", TRIALS[0], recorded, now)
    assert not check.exact and check.failure == ""
    assert check.worst == "train_loss at step 12" and check.recorded != check.now


def test_rows_that_do_not_tell_their_instructions_are_compared_within_tolerance(recorded, now):
    """Processors of one name may round otherwise."""
    for row in recorded:
        del row["run_instructions"]
    recorded[-1]["train_loss"] = slightly(now[-1]["train_loss"])
    check = audit.compare("claim", TRIALS[0], recorded, now)
    assert not check.exact and check.failure == ""


@pytest.mark.parametrize(
    ("spread", "agrees"),
    [
        ((0.95, 0.99, 1.01, 1.06), True),  # training magnifies everything: ten times .11 of it
        ((0.999, 1.0, 1.001, 1.002), False),
        ((), False),
        ((0.5, math.nan, 1.1, 1.2), False),
    ],
)
def test_what_training_makes_of_a_nudge_another_machine_may_do_but_not_this_one(recorded, now, spread, agrees):
    nudged = [[row | {"train_loss": row["train_loss"] * by} for row in now] for by in spread]
    for rows in nudged:
        rows[1]["train_loss"] = now[1]["train_loss"]
    recorded[-1]["train_loss"] = 2 * now[-1]["train_loss"]
    assert audit.compare("claim", TRIALS[0], recorded, now, nudged).failure == "differs"
    check = audit.compare("claim", TRIALS[0], elsewhere(recorded), now, nudged)
    assert check.failure == ("" if agrees else audit.TOO_MUCH)
    recorded[1]["train_loss"] *= 2  # where no run does so
    check = audit.compare("claim", TRIALS[0], recorded, now, nudged)
    assert check.failure == audit.TOO_MUCH and check.worst


def test_a_doubtful_trial_is_trained_with_nudges_that_only_chaos_magnifies(books):
    """At a learning rate at which training all but diverges: losses from .28 to .61 where this was written."""
    wild = Trial(train_size=200, widths=(128,), batch_size=4, lr=0.15, steps=300, init_seed=1)
    record(books, [TRIALS[0], wild])
    rewrite_where(books, {"run_processor": "another"})
    rewrite_where(books, {"train_loss": lambda x: 1.2 * x}, key=TRIALS[0].key, step=12)
    rewrite_where(books, {"train_loss": lambda x: 1.2 * x}, key=wild.key, step=300)
    seen = []
    checks = audited(books, progress=lambda *now: seen.append(now))
    assert {key: c.failure for key, c in checks.items()} == {TRIALS[0].key: audit.TOO_MUCH, wild.key: ""}
    assert seen[-1] == (2 + 2 * audit.NUDGED,) * 2 and (2, 2) in seen


def test_a_trial_is_trained_again_in_the_precision_that_it_was_recorded_in(books, monkeypatch):
    """Whatever this machine would choose."""
    trial = Trial(**SMALL)
    books.append("claim", [r | {"key": trial.key, "trial": trial.to_json()} for r in half(trial)], record=True)
    [check] = audited(books).values()
    assert (check.trial, check.exact, check.failure) == (trial, True, "")


def half(trial):
    return runner.run_stack([dataclasses.replace(trial, precision="bfloat16")])[0]


def test_nudges_are_the_trial_but_for_the_last_bits():
    found = audit.nudges(TRIALS[0])
    assert len({t.key for t in (TRIALS[0], *found)}) == 1 + audit.NUDGED
    assert all(t.lr == pytest.approx(TRIALS[0].lr, rel=2e-6) for t in found)
    assert {dataclasses.replace(t, lr=TRIALS[0].lr) for t in found} == {TRIALS[0]}


@pytest.mark.parametrize("name", ["code_version", "git_commit", "date", "seconds", "device"])
def test_other_provenance_does_not_excuse_a_difference(recorded, now, name):
    for row in recorded:
        row[f"run_{name}"] = 1e9 if name == "seconds" else "another"
    assert audit.compare("claim", TRIALS[0], recorded, now).failure == ""
    recorded[-1]["train_loss"] = slightly(now[-1]["train_loss"])
    check = audit.compare("claim", TRIALS[0], recorded, now)
    assert check.exact and check.failure == "differs"


@pytest.mark.parametrize(
    ("name", "change", "agrees"),
    [
        ("test_accuracy", lambda x: x + 0.0099, True),
        ("test_accuracy", lambda x: x - 0.0099, True),
        ("test_accuracy", lambda x: x + 0.0101, False),
        ("test_accuracy", lambda x: x - 0.0101, False),
        ("train_accuracy", lambda x: x - 0.0101, False),
        ("test_loss", lambda x: x / 1.099, True),  # a tenth of what is recorded
        ("test_loss", lambda x: x / 0.901, True),
        ("test_loss", lambda x: x / 1.101, False),
        ("test_loss", lambda x: x / 0.899, False),
        ("cosine_1", lambda x: -x, False),
        ("weight_distance", lambda x: math.nan, False),
        ("weight_distance", lambda x: math.inf, False),
        ("weight_distance", lambda x: 0.0, False),
    ],
)
def test_tolerances(recorded, now, name, change, agrees):
    elsewhere(recorded)[-1][name] = change(now[-1][name])
    check = audit.compare("claim", TRIALS[0], recorded, now)
    assert not check.exact
    assert check.failure == ("" if agrees else audit.TOO_MUCH)
    assert check.worst == f"{name} at step 12"


def test_the_worst_is_counted_in_tolerances(recorded, now):
    elsewhere(recorded)
    recorded[1]["train_loss"] *= 1.05  # half its tolerance
    recorded[1]["test_accuracy"] += 0.008  # four fifths
    recorded[2]["weight_norm"] *= 1.06
    check = audit.compare("claim", TRIALS[0], recorded, now)
    assert (check.worst, check.failure) == ("test_accuracy at step 5", "")
    recorded[0]["test_loss"] *= 2
    recorded[2]["weight_norm"] *= 2
    check = audit.compare("claim", TRIALS[0], recorded, now)
    assert check.failure and check.worst in {"test_loss at step 0", "weight_norm at step 12"}


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "tolerance"])
def test_nan_equals_nan_and_nothing_else(recorded, now, exact):
    if not exact:
        elsewhere(recorded)
    recorded[-1]["test_loss"] = now[-1]["test_loss"] = math.nan
    recorded[-1]["train_loss"] = now[-1]["train_loss"] = math.inf
    check = audit.compare("claim", TRIALS[0], recorded, now)
    assert (check.exact, check.failure) == (exact, "")
    for rows in (recorded, now):
        before, rows[-1]["test_loss"] = rows[-1]["test_loss"], 2.3
        check = audit.compare("claim", TRIALS[0], recorded, now)
        assert check.failure and check.worst == "test_loss at step 12"
        assert sorted([check.recorded, check.now], key=math.isnan)[0] == 2.3
        rows[-1]["test_loss"] = before


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "tolerance"])
def test_a_measure_that_is_no_longer_taken_is_named(recorded, now, exact):
    if not exact:
        elsewhere(recorded)
    for row in now:
        del row["bias_norm"]
    check = audit.compare("claim", TRIALS[0], recorded, now)
    assert check.failure and check.worst == "bias_norm at step 0" and math.isnan(check.now)


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "tolerance"])
@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows.pop(1),
        lambda rows: rows.insert(1, rows[1]),
        lambda rows: rows[1].update(step=6),
        lambda rows: rows[2].update(status="diverged"),
    ],
    ids=["one fewer", "one more", "another step", "another end"],
)
def test_other_checkpoints_are_told_whatever_the_machine(recorded, now, change, exact):
    if not exact:
        elsewhere(recorded)
    change(recorded)
    check = audit.compare("claim", TRIALS[0], recorded, now)
    assert check.failure == "ends or is measured at other steps" and check.exact == exact


# Recorded trials


def test_recorded_trials_agree_on_the_machine_that_trained_them(books):
    wide = Trial(**SMALL | {"optimizer": "adam"})
    trials = [*TRIALS, DIVERGING, wide]
    record(books, trials)
    table, seen = books.rows([DIVERGING]), []
    assert set(table["status"]) == {"diverged"} and table["test_loss"].isna().any()
    content = (books.recorded / "claim.parquet").read_bytes()
    checks = audited(books, progress=lambda *now: seen.append(now))
    assert checks.keys() == {t.key for t in trials}
    assert all(c.exact and c.failure == "" and c.claim == "claim" for c in checks.values())
    assert {c.trial for c in checks.values()} == set(trials)
    assert seen[0] == (0, 5) and seen[-1] == (5, 5) and seen == sorted(seen)
    assert (books.recorded / "claim.parquet").read_bytes() == content and not books.working.exists()


@pytest.mark.parametrize(("name", "step"), [("train_loss", 12), ("test_accuracy", 5), ("weight_distance_1", 12)])
def test_one_corrupted_value_is_found(books, name, step):
    record(books, TRIALS)
    victim = TRIALS[1].key
    rewrite_where(books, {name: slightly}, key=victim, step=step)
    checks = audited(books)
    assert {key: c.failure for key, c in checks.items() if c.failure} == {victim: "differs"}
    assert checks[victim].worst == f"{name} at step {step}"
    assert checks[victim].recorded == pytest.approx(checks[victim].now, rel=1e-11)
    rewrite_where(books, {"run_processor": "another"}, key=victim)
    checks = audited(books)
    assert not any(c.failure for c in checks.values())
    assert [key for key, c in checks.items() if not c.exact] == [victim]
    rewrite_where(books, {name: lambda x: x + 0.2 * abs(x) + 0.02}, key=victim, step=step)
    checks = audited(books)
    assert [key for key, c in checks.items() if c.failure] == [victim]
    assert checks[victim].failure == audit.TOO_MUCH


def test_a_diverged_trial_is_held_to_its_numbers_too(books):
    record(books, [DIVERGING])
    rewrite_where(books, {"weight_norm": slightly}, step=0)
    assert audited(books)[DIVERGING.key].failure == "differs"
    rewrite_where(books, {"status": "finished"})
    assert audited(books)[DIVERGING.key].failure == "ends or is measured at other steps"


def test_a_missing_checkpoint_is_found(books):
    record(books, TRIALS[:2])
    rewrite(books, lambda rows: [r for r in rows if (r["key"], r["step"]) != (TRIALS[0].key, 5)])
    assert {key: c.failure for key, c in audited(books).items()} == {
        TRIALS[0].key: "ends or is measured at other steps",
        TRIALS[1].key: "",
    }


def test_a_trial_that_can_no_longer_be_trained_is_told(books, monkeypatch):
    def broken(model, initial, dataset, trial):
        raise RuntimeError("the probe\nbroke")

    other = Trial(**SMALL, probes=("fit",))
    record(books, [other], "fit alone")
    record(books, [Trial(**SMALL, probes=("travel",))], "travel alone")
    monkeypatch.setitem(worker.PROBES, "travel", broken)
    checks = audited(books, ["fit alone", "travel alone"])
    assert {c.claim: c.failure for c in checks.values()} == {"fit alone": "", "travel alone": "the probe broke"}


def test_a_failure_remembered_is_no_recorded_trial(books):
    lost = Trial(**SMALL | {"widths": (9,)})
    books.append("claim", failed_rows(lost, "out of memory"), record=True)
    with pytest.raises(LedgerError, match="no recorded trial"):
        audited(books)


def test_a_failure_remembered_beside_a_recorded_trial_changes_nothing(books):
    record(books, TRIALS[:1])
    books.append("claim", failed_rows(Trial(**SMALL | {"widths": (9,)}), "out of memory"), record=True)
    assert {key: c.failure for key, c in audited(books).items()} == {TRIALS[0].key: ""}


def test_trials_of_different_shapes_share_a_recorded_file(books):
    trials = [TRIALS[0], Trial(**SMALL | {"widths": (8, 8)}), Trial(**SMALL, probes=("fit",))]
    record(books, trials)
    assert {key: c.failure for key, c in audited(books).items()} == {t.key: "" for t in trials}


def test_a_trial_recorded_by_two_runs_at_once_counts_once(books):
    for _ in range(2):
        books.append("claim", runner.run_stack(TRIALS[:1])[0], record=True)
    assert {key: c.failure for key, c in audited(books).items()} == {TRIALS[0].key: ""}


# What is drawn


def test_trials_of_another_engine_are_not_drawn(books, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(spec, "ENGINE_VERSION", 0)
        made = [dataclasses.replace(t) for t in TRIALS[:2]]  # a trial keeps its key
        record(books, made)
        old = {t.key for t in made}
    assert not old & {t.key for t in TRIALS}
    with pytest.raises(LedgerError, match="no recorded trial of claim"):
        audited(books)
    record(books, TRIALS[1:])
    assert audited(books).keys() == {t.key for t in TRIALS[1:]}


@pytest.mark.parametrize("spec", ['{"dataset": "mnist5k", "colour": "red"}', '{"dataset": "mnist5k", "lr": -1}'])
def test_a_trial_that_this_version_cannot_read_is_not_drawn(books, spec):
    record(books, TRIALS[:2])
    rewrite_where(books, {"trial": spec}, key=TRIALS[0].key)
    assert audited(books).keys() == {TRIALS[1].key}


def test_within_draws_only_what_took_no_longer(books):
    record(books, TRIALS)
    for t, seconds in zip(TRIALS, (1.0, 10.0, 100.0), strict=True):
        rewrite_where(books, {"run_seconds": seconds}, key=t.key)
    keys = [t.key for t in TRIALS]
    for within, drawn in ((1.0, keys[:1]), (10.0, keys[:2]), (99.9, keys[:2]), (100.0, keys), (math.inf, keys)):
        assert audited(books, within=within).keys() == set(drawn)
    with pytest.raises(LedgerError, match=r"at most 0\.5 s"):
        audited(books, within=0.5)


def test_only_the_claims_named_and_only_what_is_recorded(books):
    record(books, TRIALS[:1], "one")
    record(books, TRIALS[1:2], "two")
    runner.run({"one": TRIALS[2:]}, books, workers=0)  # in the working ledger
    assert audited(books, ["one"]).keys() == {TRIALS[0].key}
    assert {c.claim: c.trial for c in audited(books, ["two", "one"]).values()} == {"one": TRIALS[0], "two": TRIALS[1]}


def test_nothing_to_draw_is_one_line(books):
    runner.run({"claim": TRIALS[:1]}, books, workers=0)
    with pytest.raises(LedgerError) as error:
        audited(books, ["claim", "other"])
    text = str(error.value)
    assert "\n" not in text and "claim, other" in text and "--record" in text


def test_the_seed_and_nothing_else_steers_the_draw(books, tmp_path):
    trials = [Trial(**SMALL | {"steps": 6}, init_seed=seed) for seed in range(9)]
    record(books, trials)
    backwards = Ledger(tmp_path / "w", tmp_path / "r")
    record(backwards, trials[::-1][:4], "first")
    record(backwards, trials[::-1][4:], "claim")
    draws = [audited(books, sample=3, seed=seed).keys() for seed in range(6)]
    assert all(len(draw) == 3 for draw in draws)
    assert len({frozenset(draw) for draw in draws}) > 2
    assert len(set().union(*draws)) > 5
    for seed, draw in enumerate(draws[:2]):
        assert audited(books, sample=3, seed=seed).keys() == draw
        assert audited(backwards, ["first", "claim"], sample=3, seed=seed).keys() == draw
    assert len(audited(books, sample=100)) == 9


# The command line


def record_two_claims(home):
    """Recorded trials of two claims, one diverged."""
    record(home, [*TRIALS[:2], DIVERGING], "generalization-gap")
    record(home, TRIALS[2:], "bfloat16")


def test_audit_command_when_all_agrees(home):
    record_two_claims(home)
    result = repro("audit", "--sample", 10, "--workers", 0)
    assert result.exit_code == 0 and result.stdout.count("agrees") == 4 and result.stdout.count("exact") == 4
    for t in (*TRIALS, DIVERGING):
        assert f"mnist5k sgd B=16 lr={t.lr:g} seed={t.init_seed}" in result.stdout
    result = repro("audit", "bfloat16", "--sample", 10, "--workers", 0)
    assert result.exit_code == 0 and result.stdout.count("agrees") == 1 and "generalization-gap" not in result.stdout
    assert repro("audit", "--workers", 0).stdout.count("agrees") == 3  # the default sample


def test_audit_command_names_the_trial_that_differs(home):
    record_two_claims(home)
    rewrite_where(home, {"test_loss": slightly}, "generalization-gap", key=TRIALS[1].key, step=12)
    result = repro("audit", "--sample", 10, "--workers", 0)
    assert result.exit_code == 1 and result.stdout.count("agrees") == 3
    [line] = [li for li in result.stdout.splitlines() if "differs" in li]
    assert "generalization-gap" in line and "mnist5k sgd B=16 lr=0.05 seed=1" in line
    assert "test_loss at step 12" in line and "exact" in line
    assert repro("audit", "bfloat16", "--workers", 0).exit_code == 0


def test_audit_command_as_json(home):
    record_two_claims(home)
    rewrite_where(home, {"test_loss": slightly, "run_processor": "another"}, "bfloat16", step=12)
    words = ("audit", "--sample", 10, "--workers", 0, "--json")
    result = repro(*words)
    assert result.exit_code == 0
    told = {c["key"]: c for c in json.loads(result.stdout, parse_constant=no_constants)}
    assert told.keys() == {t.key for t in (*TRIALS, DIVERGING)}
    for t in (*TRIALS, DIVERGING):
        assert Trial(**told[t.key]["trial"]) == t and told[t.key]["failure"] == ""
    assert [told[t.key]["compared"] for t in TRIALS] == ["exact", "exact", "tolerance"]
    assert [told[t.key]["claim"] for t in TRIALS] == ["generalization-gap"] * 2 + ["bfloat16"]
    assert told[TRIALS[2].key]["worst"] == "test_loss at step 12"
    assert told[TRIALS[2].key]["recorded"] != told[TRIALS[2].key]["now"]
    rewrite_where(home, {"test_loss": math.nan}, "bfloat16", step=12)
    result = repro(*words)
    assert result.exit_code == 1
    told = {c["key"]: c for c in json.loads(result.stdout, parse_constant=no_constants)}
    assert [key for key, c in told.items() if c["failure"]] == [TRIALS[2].key]
    assert told[TRIALS[2].key]["recorded"] is None and told[TRIALS[2].key]["now"] > 0


def test_audit_command_draws_by_seed_and_within(home):
    record_two_claims(home)
    for seed in range(3):
        drawn = [
            json.loads(repro("audit", "--sample", 2, "--seed", seed, "--workers", 0, "--json").stdout) for _ in range(2)
        ]
        assert len(drawn[0]) == 2 and drawn[0] == drawn[1]
    rewrite_where(home, {"run_seconds": 1e6}, "generalization-gap")
    drawn = json.loads(repro("audit", "--within", 1e5, "--workers", 0, "--json").stdout)
    assert [c["claim"] for c in drawn] == ["bfloat16"]


def test_audit_command_with_nothing_recorded_is_one_line(home):
    line = error_line(repro("audit", "bfloat16", "--workers", 0))
    assert line.startswith("error: no recorded trial of bfloat16") and "--record" in line
    record(home, TRIALS[:1], "bfloat16")
    line = error_line(repro("audit", "bfloat16", "--within", 1e-9, "--workers", 0))
    assert "at most 1e-09 s" in line
    assert "did you mean 'bfloat16'" in error_line(repro("audit", "bfloat61"))
    assert repro("audit", "--sample", 0).exit_code == 2


def test_what_is_measured_at_the_end_alone_agrees_with_itself(books):
    """The ledger has a column in every row, empty before the end; a training has not."""
    trial = Trial(**SMALL, batch_norm=True, final_probes=("curvature",))
    record(books, [trial])
    (check,) = audited(books).values()
    assert check.failure == "" and check.exact
    rewrite_where(books, {"largest_eigenvalue": lambda v: v and slightly(v)}, final=True)
    assert "differs" in audited(books)[trial.key].failure
