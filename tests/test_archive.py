"""A ledger's file: what is not ours is named and left alone, and no bit of what is ours flips unnoticed."""

import os
import random
import tempfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_ledger import file_of, rows_of, servers, trial

from repro.runs import archive
from repro.runs.ledger import Ledger, LedgerError
from repro.runs.provenance import PROJECT

TRIALS = [trial(i) for i in range(4)]


@pytest.fixture
def ledger(tmp_path):
    """A ledger that holds four trials, numbers and a list."""
    it = Ledger(tmp_path / "working", tmp_path / "recorded")
    it.append("claim", [row for i, t in enumerate(TRIALS) for row in rows_of(t, test_loss=1 / (i + 3), hill=[0.5, i])])
    return it


def as_first_written(table):
    """The bytes of a file such as this program wrote before it kept digests."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue().to_pybytes()


def says(call, *told):
    """The one line of the LedgerError that the call raises, which holds what is to be told."""
    with pytest.raises(LedgerError) as error:
        call()
    line = str(error.value)
    assert "\n" not in line and all(word in line for word in told), line


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix != ".lock"}


def flips(content, seed):
    """300 contents, each with one bit flipped, every other in the footer, where the names are."""
    draw, footer = random.Random(seed), archive._footer_start(content)
    for i in range(300):
        bit = draw.randrange(8 * footer if i % 2 else 0, 8 * len(content))
        yield bytes(byte ^ (1 << bit % 8 if at == bit // 8 else 0) for at, byte in enumerate(content))


@pytest.mark.parametrize("kind", ["with a digest", "as first written"])
def test_no_flipped_bit_is_read_as_another_table(ledger, tmp_path, kind):
    whole = archive.read(file_of(ledger))
    content = file_of(ledger).read_bytes() if kind == "with a digest" else as_first_written(whole)
    path, noticed = tmp_path / "flipped.parquet", 0
    for flipped in flips(content, seed=1):
        path.write_bytes(flipped)
        try:
            assert archive.read(path).equals(whole)
        except (archive.DamagedError, archive.ForeignError):
            noticed += 1
    assert noticed > (295 if kind == "with a digest" else 120)  # a flip in the digest's own mark is harmless


def test_flipped_bits_are_told_in_one_line(ledger):
    path, before = file_of(ledger), file_of(ledger).read_bytes()
    for flipped, _ in zip(flips(before, seed=2), range(10), strict=False):
        path.write_bytes(flipped)
        says(lambda: ledger.rows(TRIALS), str(path), "is damaged", "was moved to claim.damaged")


def test_any_reader_of_parquet_reads_the_file(ledger):
    assert pq.read_table(file_of(ledger)).equals(archive.read(file_of(ledger)))
    assert pq.ParquetFile(file_of(ledger)).read_row_group(0, ["hill"]).num_rows == 12


def test_recorded_files_without_a_digest_are_read_as_they_are_and_get_one_when_added_to(ledger, tmp_path):
    table = archive.read(file_of(ledger))
    file_of(ledger).write_bytes(as_first_written(table))
    assert ledger.missing(TRIALS) == []
    assert archive.MARK not in file_of(ledger).read_bytes()
    ledger.append("claim", rows_of(trial(9), test_loss=0.1))
    assert archive.MARK in file_of(ledger).read_bytes()
    assert archive.read(file_of(ledger)).slice(0, 12).select(table.column_names).equals(table)
    for path in (PROJECT / "results").glob("*.parquet"):
        read = archive.read(path)
        archive.write(read, tmp_path / "again.parquet")
        for again in (pq.read_table(path), archive.read(tmp_path / "again.parquet")):
            assert again.schema.equals(read.schema, check_metadata=True)
            pd.testing.assert_frame_equal(again.to_pandas(), read.to_pandas(), check_exact=True)


def change(name, values):
    """A sound table of trials, but for one column, written without a digest."""

    def made(table):
        if values is None:
            return table.drop_columns([name])
        return table.set_column(table.column_names.index(name), name, pa.array(values))

    return made


FOREIGN = {
    "another table": (lambda table: pa.table({"x": [1, 2]}), "no column key, trial, status"),
    "too few columns": (change("trial", None), "no column trial"),
    "text for a measure": (change("test_loss", ["low"] * 12), "column test_loss holds string, not numbers"),
    "text for a field": (change("lr", ["low"] * 12), "column lr holds string, not numbers"),
    "numbers for the key": (change("key", range(12)), "column key holds int64, not text"),
    "text for truth": (change("final", ["yes"] * 12), "column final holds string, not yes or no"),
    "text for the step": (change("step", ["1"] * 12), "column step holds string, not whole numbers"),
    "gaps": (change("final", [None, True] * 6), "column final has gaps"),
    "one name twice": (lambda table: table.append_column("lr", table["lr"]), "one name"),
}


@pytest.mark.parametrize("call", ["rows", "failures", "append"])
@pytest.mark.parametrize("name", FOREIGN)
def test_a_table_that_is_not_ours_is_named_and_left_alone(ledger, name, call):
    make, told = FOREIGN[name]
    file_of(ledger).write_bytes(as_first_written(make(archive.read(file_of(ledger)))))
    before = contents(ledger.working)
    calls = {
        "rows": lambda: ledger.rows(TRIALS),
        "failures": lambda: ledger.failures(TRIALS),
        "append": lambda: ledger.append("claim", rows_of(trial(9))),
    }
    says(calls[call], str(file_of(ledger)), told, "move it", "REPRO_CACHE")
    assert contents(ledger.working) == before


@pytest.mark.parametrize("call", ["rows", "append"])
def test_bytes_that_this_program_never_wrote_are_named_and_left_alone(tmp_path, call):
    ledger = Ledger(tmp_path / "working", tmp_path / "recorded")
    ledger.working.mkdir()
    file_of(ledger).write_bytes(b"my own notes")
    calls = {"rows": lambda: ledger.rows(TRIALS), "append": lambda: ledger.append("claim", rows_of(trial()))}
    says(calls[call], str(file_of(ledger)), "is damaged", "move it away")
    assert contents(ledger.working) == {"claim.parquet": b"my own notes"}


@pytest.mark.parametrize("call", ["rows", "append"])
@pytest.mark.parametrize("what", ["a dangling link", "a looping link", "a folder", "a pipe"])
def test_what_is_no_file_is_named_and_left_alone(ledger, what, call):
    path = file_of(ledger)
    path.unlink()
    make = {
        "a dangling link": lambda: path.symlink_to("nowhere"),
        "a looping link": lambda: path.symlink_to(path.name),
        "a folder": path.mkdir,
        "a pipe": lambda: os.mkfifo(path),
    }
    make[what]()

    def seen():  # all but the time of the last reading, which looking at a link changes
        told = path.lstat()
        return told.st_ino, told.st_mode, told.st_size, told.st_mtime_ns, told.st_ctime_ns

    before = seen()
    calls = {"rows": lambda: ledger.rows(TRIALS), "append": lambda: ledger.append("claim", rows_of(trial()))}
    says(calls[call], f"cannot read {path}", "REPRO_CACHE")
    assert seen() == before


def look_as_nobody(working, recorded, answer):
    if os.geteuid() == 0:  # whom no folder is closed to
        os.setuid(65534)
    try:
        answer.put(str(len(Ledger(working, recorded).rows(TRIALS))))
    except LedgerError as error:
        answer.put(str(error))


@pytest.mark.parametrize("which", ["working", "recorded"])
def test_a_folder_that_may_not_be_looked_into_is_not_taken_for_an_empty_one(which):
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to others
        Path(folder).chmod(0o755)
        ledger = Ledger(Path(folder, "working"), Path(folder, "recorded"))
        ledger.working.mkdir()
        ledger.recorded.mkdir()
        closed = getattr(ledger, which)
        closed.chmod(0)
        answer = servers.SimpleQueue()
        process = servers.Process(target=look_as_nobody, args=(ledger.working, ledger.recorded, answer))
        process.start()
        process.join()
        closed.chmod(0o755)
    told = answer.get()
    assert told.startswith(f"cannot read {closed} (Permission denied)") and "\n" not in told


def test_values_of_another_kind_are_refused_before_anything_is_written(ledger):
    before = file_of(ledger).read_bytes()
    says(lambda: ledger.append("claim", rows_of(trial(9), hill="steep")), str(file_of(ledger)), "other kinds of values")
    assert file_of(ledger).read_bytes() == before
