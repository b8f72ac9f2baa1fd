"""Transactions and labels from Parquet and NDJSON files; tables to Parquet.

A path is a file or a folder; a folder's files are read in the order of their names, which is the log order. Of
an archive (`bus/archive.py`) those files are read that its manifest names, transactions by event time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fraudstream.batch import Int64, TransactionBatch
from fraudstream.bus.archive import archived_files
from fraudstream.bus.raw import is_raw, read_raw
from fraudstream.decode import Decoder, Rejected
from fraudstream.errors import BusError, ConfigError, RecordError
from fraudstream.features.labels import KnownLabel

ROWS_A_BATCH = 8192
LABEL_COLUMNS = {"transaction_id": pa.large_string(), "label": pa.string(), "known_at": pa.int64()}
_PARQUET, _NDJSON = (".parquet",), (".ndjson", ".jsonl", ".json")


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row of a file that is not a transaction."""

    file: str
    row: int
    error: RecordError


@dataclass(frozen=True, slots=True)
class Labels:
    """What became known, in the order of `known_at`; what became known at once stands as in the files.

    Attributes:
        ids: of the transactions, [n].
        fraud: [n].
        known_at_ms: Unix milliseconds UTC, [n], ascending.
    """

    ids: pa.Array
    fraud: npt.NDArray[np.bool_]
    known_at_ms: Int64

    def as_of(self, instant_ms: int) -> Labels:
        """Return what was known at an instant."""
        end = int(np.searchsorted(self.known_at_ms, instant_ms, side="right"))
        return Labels(self.ids.slice(0, end), self.fraud[:end], self.known_at_ms[:end])

    def latest(self) -> dict[str, bool]:
        """Return fraud or not by transaction id; the latest label counts."""
        return dict(zip(self.ids.to_pylist(), self.fraud.tolist(), strict=True))

    def known_within(self, after_ms: int, until_ms: int) -> list[KnownLabel]:
        """Return what became known after one instant and not after the other, in that order."""
        start, end = np.searchsorted(self.known_at_ms, (after_ms, until_ms), side="right").tolist()
        columns = (self.ids[start:end].to_pylist(), self.fraud[start:end], self.known_at_ms[start:end])
        return [KnownLabel(i, bool(fraud), int(at_ms)) for i, fraud, at_ms in zip(*columns, strict=True)]


def data_files(path: Path) -> list[Path]:
    """Return the data files at a path, in log order.

    Raises:
        ConfigError: there are none.
    """
    if not path.exists():
        raise ConfigError(f"{path}: does not exist; give a Parquet or NDJSON file, or a folder of them")
    if path.is_dir() and (archived := archived_files(path)) is not None:
        if not archived:
            raise ConfigError(f"{path}: holds no row yet; run `fraudstream archive`")
        return archived
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    known = [p for p in files if p.suffix in _PARQUET + _NDJSON and not p.name.startswith((".", "_"))]
    if not known:
        raise ConfigError(f"{path}: holds no .parquet, .ndjson, .jsonl or .json file")
    return known


def count_rows(path: Path) -> int:
    """Return how many rows the files hold, from Parquet's footers and by counting lines."""
    total = 0
    for file in data_files(path):
        if file.suffix in _PARQUET:
            total += _opened(file).metadata.num_rows
        else:
            with file.open("rb") as lines:
                total += sum(1 for _ in lines)
    return total


def read_transactions(
    path: Path, decoder: Decoder, rows_a_batch: int = ROWS_A_BATCH
) -> Iterator[tuple[TransactionBatch, list[RejectedRow]]]:
    """Yield batches in event order, and the rows that are not transactions."""
    offset = 0
    for folder, files in groupby(data_files(path), key=lambda file: file.parent):
        chosen = list(files)
        if chosen[0].suffix in _PARQUET and is_raw(_opened(chosen[0]).schema_arrow):
            for batch, messages in read_raw([_opened(file) for file in chosen], decoder, rows_a_batch):
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


def read_labels(path: Path) -> Labels:
    """Read the labels of files; all of them stand in memory.

    Raises:
        ConfigError: a label is neither `fraud` nor `legit`, or a value is missing.
    """
    table = read_table(path, LABEL_COLUMNS)
    kinds = set(pc.unique(table["label"]).to_pylist()) - {"fraud", "legit"}
    if kinds:
        raise ConfigError(f'{path}: label {sorted(map(str, kinds))[0]!r}: give "fraud" or "legit"')
    for name in ("transaction_id", "known_at"):
        if table[name].null_count:
            raise ConfigError(f"{path}: {name}: {table[name].null_count} of the labels have none")
    known_at_ms = table["known_at"].to_numpy()
    order = np.argsort(known_at_ms, kind="stable")
    fraud = pc.equal(table["label"], "fraud").to_numpy()
    ids = table["transaction_id"].combine_chunks()
    return Labels(ids.take(pa.array(order)), fraud[order], known_at_ms[order])


def columns_of(path: Path) -> set[str]:
    """Return the names of the columns of the first file; of NDJSON, those of its first line.

    Raises:
        ConfigError: there is no file, or its first line is not a JSON object.
    """
    file = data_files(path)[0]
    if file.suffix in _PARQUET:
        return set(_opened(file).schema_arrow.names)
    with file.open("rb") as lines:
        try:
            return set(msgspec.json.decode(lines.readline(), type=dict[str, Any]))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ConfigError(f"{file}: is not NDJSON: {' '.join(str(error).split())}") from None


def read_table(path: Path, columns: dict[str, pa.DataType]) -> pa.Table:
    """Read whole files with these columns, cast to these types (labels, small tables).

    Raises:
        ConfigError: a column is missing or of another kind.
    """
    tables = []
    for file in data_files(path):
        if file.suffix in _PARQUET:
            opened = _opened(file)
            table = opened.read([name for name in columns if name in opened.schema_arrow.names])
        else:
            import pyarrow.json as pj  # loads a thread pool that Parquet users never need

            try:
                table = pj.read_json(file)
            except pa.ArrowInvalid as error:
                raise ConfigError(f"{file}: is not NDJSON: {error}") from None
        missing = [name for name in columns if name not in table.column_names]
        if missing:
            raise ConfigError(f"{file}: has no column {', '.join(missing)}; needed are {', '.join(columns)}")
        try:
            tables.append(table.select(list(columns)).cast(pa.schema(list(columns.items()))))
        except pa.ArrowInvalid as error:
            raise ConfigError(f"{file}: {error}") from None
    return pa.concat_tables(tables)


def _batches(
    file: Path, decoder: Decoder, rows_a_batch: int, offset: int
) -> Iterator[tuple[TransactionBatch, list[Rejected], int]]:
    if file.suffix in _PARQUET:
        opened = _opened(file)
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
    with file.open("rb") as lines:
        while chunk := _some(lines, rows_a_batch):
            positions = ([0] * len(chunk), list(range(offset, offset + len(chunk))))
            batch, rejected = decoder.decode_messages(chunk, None, positions, None)
            yield batch, rejected, len(chunk)
            offset += len(chunk)


def _some(lines: Any, rows: int) -> list[bytes]:
    return [line for _, line in zip(range(rows), lines, strict=False)]


def _opened(file: Path) -> Any:
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise BusError(f"{file}: is not a readable Parquet file: {error}") from None
