"""Transactions and labels from Parquet, NDJSON and CSV files; tables to Parquet.

A path is a file or a folder, here or in a bucket; a folder's files are read in the order of their names, which is the
log order. Of an archive (`bus/archive.py`) those files are read that its manifest names, transactions by event time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from fraudstream.batch import TransactionBatch
from fraudstream.bus.archive import archived_files
from fraudstream.bus.csvfiles import csv_batches, csv_columns, csv_names
from fraudstream.bus.place import Place, files_within, source
from fraudstream.bus.raw import is_raw, read_raw
from fraudstream.decode import Decoder, Rejected
from fraudstream.errors import BusError, ConfigError, RecordError

ROWS_A_BATCH = 8192
_PARQUET, _NDJSON, _CSV = (".parquet",), (".ndjson", ".jsonl", ".json"), (".csv",)


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row of a file that is not a transaction."""

    file: str
    row: int
    error: RecordError


def data_files(path: Place, begin_ms: int | None = None) -> list[Place]:
    """Return the data files at a path, in log order.

    Args:
        begin_ms: of an archive, the dates before this instant's are left out; None: none are.

    Raises:
        ConfigError: there are none.
    """
    if not path.exists():
        raise ConfigError(f"{path}: does not exist; give a Parquet, NDJSON or CSV file, or a folder of them")
    if path.is_dir() and (archived := archived_files(path, begin_ms)) is not None:
        if not archived:
            raise ConfigError(f"{path}: holds no row that is asked for; run `fraudstream archive`")
        return archived
    files = [path] if path.is_file() else files_within(path)
    known = [p for p in files if p.suffix in _PARQUET + _NDJSON + _CSV and not p.name.startswith((".", "_"))]
    if not known:
        raise ConfigError(f"{path}: holds no .parquet, .ndjson, .jsonl, .json or .csv file")
    return known


def count_rows(path: Place, begin_ms: int | None = None) -> int:
    """Return how many rows the files hold, from Parquet's footers and by counting lines (of CSV, one too many)."""
    total = 0
    for file in data_files(path, begin_ms):
        if file.suffix in _PARQUET:
            total += opened_parquet(file).metadata.num_rows
        else:
            with file.open("rb") as lines:
                total += sum(1 for _ in lines)
    return total


def read_transactions(
    path: Place, decoder: Decoder, rows_a_batch: int = ROWS_A_BATCH, begin_ms: int | None = None
) -> Iterator[tuple[TransactionBatch, list[RejectedRow]]]:
    """Yield batches in event order, and the rows that are not transactions.

    Args:
        begin_ms: nobody needs what is older; an archive's earlier dates are left out.
    """
    offset = 0
    for folder, files in groupby(data_files(path, begin_ms), key=lambda file: file.parent):
        chosen = list(files)
        if chosen[0].suffix in _PARQUET and is_raw(opened_parquet(chosen[0]).schema_arrow):
            for batch, messages in read_raw([opened_parquet(file) for file in chosen], decoder, rows_a_batch):
                yield (
                    batch,
                    [RejectedRow(f"{folder} partition {m.partition}", m.offset, m.error) for m in messages],
                )
            continue
        for file in chosen:
            first_row = 0
            for batch, rejected, rows in _batches(file, decoder, rows_a_batch, offset):
                bad = [RejectedRow(str(file), first_row + r.row, r.error) for r in rejected]
                yield batch.in_event_order(), bad
                first_row += rows
                offset += rows


def columns_of(path: Place) -> set[str]:
    """Return the names of the columns of the first file; of NDJSON and CSV, those of its first line.

    Raises:
        ConfigError: there is no file, or its first line is not a JSON object.
    """
    file = data_files(path)[0]
    if file.suffix in _PARQUET:
        return set(opened_parquet(file).schema_arrow.names)
    if file.suffix in _CSV:
        return set(csv_names(file))
    with file.open("rb") as lines:
        try:
            return set(msgspec.json.decode(lines.readline(), type=dict[str, Any]))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ConfigError(f"{file}: is not NDJSON: {' '.join(str(error).split())}") from None


def read_table(path: Place, columns: dict[str, pa.DataType], optional: Collection[str] = ()) -> pa.Table:
    """Read whole files with these columns, cast to these types (labels, small tables).

    Args:
        optional: columns that are null where a file has none.

    Raises:
        ConfigError: a column is missing or of another kind.
    """
    tables = []
    for file in data_files(path):
        if file.suffix in _PARQUET:
            opened = opened_parquet(file)
            table = opened.read([name for name in columns if name in opened.schema_arrow.names])
        elif file.suffix in _CSV:
            cells = csv_columns(file, list(columns))
            table = pa.table({name: pa.array(column, pa.string()) for name, column in cells.items()})
        else:
            import pyarrow.json as pj  # loads a thread pool that Parquet users never need

            try:
                table = pj.read_json(source(file))
            except pa.ArrowInvalid as error:
                raise ConfigError(f"{file}: is not NDJSON: {error}") from None
        missing = [name for name in columns if name not in table.column_names]
        for name in {*missing} & {*optional}:
            table = table.append_column(name, pa.nulls(len(table), columns[name]))
        if missing := [name for name in missing if name not in optional]:
            needed = [name for name in columns if name not in optional]
            raise ConfigError(f"{file}: has no column {', '.join(missing)}; needed are {', '.join(needed)}")
        try:
            tables.append(table.select(list(columns)).cast(pa.schema(list(columns.items()))))
        except pa.ArrowInvalid as error:
            raise ConfigError(f"{file}: {error}") from None
    return pa.concat_tables(tables)


def _batches(
    file: Place, decoder: Decoder, rows_a_batch: int, offset: int
) -> Iterator[tuple[TransactionBatch, list[Rejected], int]]:
    if file.suffix in _PARQUET:
        opened = opened_parquet(file)
        present = [name for name in opened.schema_arrow.names if name in decoder.columns]
        for part in opened.iter_batches(rows_a_batch, columns=present):
            lists = {name: part.column(i).to_pylist() for i, name in enumerate(present)}
            if part.num_rows:
                try:
                    batch, rejected = decoder.decode_columns(lists, offset)
                except RecordError as error:
                    raise ConfigError(f"{file}: {error}") from None
                yield batch, rejected, part.num_rows
                offset += part.num_rows
        return
    if file.suffix in _CSV:
        try:
            yield from csv_batches(file, decoder, rows_a_batch, offset)
        except RecordError as error:
            raise ConfigError(f"{file}: {error}") from None
        return
    with file.open("rb") as lines:
        while chunk := _some(lines, rows_a_batch):
            positions = ([0] * len(chunk), list(range(offset, offset + len(chunk))))
            batch, rejected = decoder.decode_messages(chunk, None, positions, None)
            yield batch, rejected, len(chunk)
            offset += len(chunk)


def _some(lines: Any, rows: int) -> list[bytes]:
    return [line for _, line in zip(range(rows), lines, strict=False)]


def opened_parquet(file: Place) -> Any:
    """Open a file to read parts of. Raises BusError."""
    try:
        return pq.ParquetFile(source(file), pre_buffer=False)  # else all of it is read at once
    except (pa.ArrowInvalid, OSError) as error:
        raise BusError(f"{file}: is not a readable Parquet file: {error}") from None
