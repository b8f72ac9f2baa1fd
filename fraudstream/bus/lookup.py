"""Rows of one transaction in files, found without holding the files in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fraudstream.bus.files import data_files, opened_parquet
from fraudstream.bus.place import Place
from fraudstream.errors import BusError, ConfigError

ROWS_AT_ONCE = 8192
ID = "transaction_id"


def rows_of(path: Place, transaction_id: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of an id, in the order of the files.

    Raises:
        ConfigError: there are no files, or they have no column `transaction_id`.
        BusError: a file cannot be read.
    """
    for file in data_files(path):
        if file.suffix == ".parquet":
            yield from _of_parquet(file, transaction_id)
        elif file.suffix == ".csv":
            raise ConfigError(f"{file}: one transaction is looked up in Parquet and NDJSON files only")
        else:
            yield from _of_lines(file, transaction_id)


def _of_parquet(file: Place, transaction_id: str) -> Iterator[dict[str, Any]]:
    try:
        opened = opened_parquet(file)
        if ID not in opened.schema_arrow.names:
            raise ConfigError(f"{file}: has no column {ID}")
        for batch in opened.iter_batches(ROWS_AT_ONCE):
            own = pc.equal(batch.column(ID).cast(pa.string()), transaction_id)
            yield from batch.filter(own).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise BusError(f"{file}: is not a readable Parquet file: {error}") from None


def _of_lines(file: Place, transaction_id: str) -> Iterator[dict[str, Any]]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if ID.encode() not in line:
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ConfigError(f"{file}: line {number} is not JSON: {error}") from None
            if isinstance(row, dict) and str(row.get(ID)) == transaction_id:
                yield row
