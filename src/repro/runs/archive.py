"""One file of a ledger: Parquet, and a digest of all its bytes, so that a change of any one of them is noticed.

The digest lies between data and footer, where no reader of Parquet looks; whoever rewrites the file leaves it out. A
file without one, as this program wrote them at first, is held to what Parquet keeps twice: checksums of the values, and
the names and types of the columns, of which there is a copy for Arrow.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from repro.names import ReproError
from repro.runs import provenance
from repro.trial import Trial

MARK = b"repro: SHA-256 of all but itself:"  # the digest's 32 bytes follow


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _is_measure(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _is_measure(kind.value_type)
    return _is_number(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)


HOLDS: dict[str, Callable[[pa.DataType], bool]] = {
    "text": lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind),
    "yes or no": pa.types.is_boolean,
    "whole numbers": pa.types.is_integer,
    "numbers": _is_number,
    "numbers or lists of them": _is_measure,
    "anything": lambda kind: True,  # what another version of this program wrote
}
REQUIRED = {
    "key": "text",
    "trial": "text",
    "status": "text",
    "final": "yes or no",
    "step": "whole numbers",
    "epoch": "numbers",
}


class LedgerError(ReproError):
    """A ledger file that cannot be read or written."""


class ForeignError(Exception):
    """Sound Parquet, but no table of trials."""


class DamagedError(Exception):
    """Bytes that are no Parquet, or not those that were written."""


def write(table: pa.Table, path: Path) -> None:
    """Write the table and its digest to `path`, through to the disk; OSError if that cannot be."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    content = sink.getvalue().to_pybytes()
    place = _footer_start(content)
    with path.open("wb") as file:
        file.writelines([content[:place], MARK, hashlib.sha256(content).digest(), content[place:]])
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> pa.Table:
    """The table at `path`, each value as it was written. Raises OSError, DamagedError or ForeignError."""
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
        raise OSError(errno.EINVAL, "it is no file")
    content = path.read_bytes()
    end = _footer_start(content)
    start = end - len(MARK) - hashlib.sha256().digest_size
    marked = content[max(start, 0) : end].startswith(MARK)
    if marked and not content[:end].endswith(hashlib.sha256(content[:start] + content[end:]).digest()):
        raise DamagedError("its bytes are not those that were written")
    try:
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        table = file.read()
        table.validate(full=True)
        if not marked:
            _hold_to_copies(table, file.metadata)
    except ForeignError:
        raise
    except Exception as error:  # damaged bytes make pyarrow raise a dozen kinds
        raise DamagedError(" ".join(str(error).split())[:80]) from None
    _check(table, REQUIRED if marked else _kinds())
    return table


def _footer_start(content: bytes) -> int:
    """Where Parquet's footer begins: its length and the letters PAR1 end the file."""
    return len(content) - 8 - int.from_bytes(content[-8:-4], "little")


def _hold_to_copies(table: pa.Table, metadata: pq.FileMetaData) -> None:
    """ForeignError if there is no copy of the schema for Arrow; DamagedError if names or types are not those of the
    copy, or those under which the values lie."""
    stored = (metadata.metadata or {}).get(b"ARROW:schema")
    if stored is None:
        raise ForeignError("it was written by another program")
    copy = pa.ipc.read_schema(pa.BufferReader(base64.b64decode(stored, validate=True)))
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        columns = [group.column(i) for i in range(group.num_columns)]
        names = list(dict.fromkeys(c.path_in_schema.partition(".")[0] for c in columns))
        flat = {c.num_values for c in columns if "." not in c.path_in_schema}
        if names != list(dict.fromkeys(table.column_names)) or flat != {group.num_rows}:
            raise DamagedError("its columns are not those that were written")
    if not copy.equals(table.schema):
        raise DamagedError("its columns are not those that were written")


def _kinds() -> dict[str, str]:
    """What the columns of a row hold that are no measures, by name: text where the fields of a trial are text."""
    kinds = {str: "text", list: "text", bool: "yes or no"}
    fields = {name: kinds.get(type(value), "numbers") for name, value in json.loads(Trial(epochs=1).to_json()).items()}
    return fields | provenance.KINDS | {"failure": "text"} | REQUIRED


def _check(table: pa.Table, kinds: Mapping[str, str]) -> None:
    """ForeignError unless the columns are those of ledger rows: the required ones without gaps, each of its kind."""
    names = table.column_names
    absent = [name for name in REQUIRED if name not in names]
    if absent:
        raise ForeignError(f"it has no column {', '.join(absent)}")
    if len(set(names)) < len(names):
        raise ForeignError("two of its columns have one name")
    for field, column in zip(table.schema, table.columns, strict=True):
        kind = kinds.get(field.name, "anything" if kinds is REQUIRED else "numbers or lists of them")
        if field.name in REQUIRED and column.null_count:
            raise ForeignError(f"column {field.name} has gaps")
        if not HOLDS[kind](field.type) and not pa.types.is_null(field.type):
            raise ForeignError(f"column {field.name} holds {field.type}, not {kind}")
