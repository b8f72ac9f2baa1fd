"""Sorted Parquet files read as one sorted file, a part of each in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Order = tuple[str, str, str]  # int columns: time, partition, offset
_ROWS_MIN = 256


def merged(files: Sequence[Any], order: Order, rows: int, columns: Sequence[str] | None = None) -> Any:
    """Return a reader of the rows of Parquet files that are each sorted by `order`, sorted by it.

    Args:
        files: `pyarrow.parquet.ParquetFile`s; a column that one does not have is null there.
        rows: about how many are in memory, and at most how many come at once.
        columns: those to read, with those of `order`; None: all.

    Returns:
        `pyarrow.RecordBatchReader`.
    """
    schema = pa.unify_schemas([file.schema_arrow for file in files])
    if columns is not None:
        schema = pa.schema([field for field in schema if field.name in {*columns, *order}])
    return pa.RecordBatchReader.from_batches(schema, _merge(files, order, rows, schema))


def _merge(files: Sequence[Any], order: Order, rows: int, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    each = max(_ROWS_MIN, rows // max(1, len(files)))
    streams = [_tables(file, each, schema) for file in files]
    heads = [head for head in map(_next_of, streams) if head is not None]
    while heads:
        limit = min(_key(head, order, len(head) - 1) for head, _ in heads)
        ready, left = [], []
        for head, stream in heads:
            through = _through(head, order, limit)
            ready.append(head.slice(0, through))
            if through < len(head):
                left.append((head.slice(through), stream))
            elif (following := _next_of(stream)) is not None:
                left.append(following)
        heads = left
        table = pa.concat_tables(ready)
        keys = [np.asarray(table[name]) for name in reversed(order)]
        yield from table.take(pa.array(np.lexsort(keys))).to_batches(max_chunksize=rows)


def _tables(file: Any, rows: int, schema: pa.Schema) -> Iterator[pa.Table]:
    own = [name for name in schema.names if name in file.schema_arrow.names]
    for batch in file.iter_batches(rows, columns=own):
        if batch.num_rows:
            table = pa.Table.from_batches([batch])
            missing = [
                pa.nulls(len(table), field.type) if field.name not in own else table[field.name]
                for field in schema
            ]
            yield pa.table(missing, schema)


def _next_of(stream: Iterator[pa.Table]) -> tuple[pa.Table, Iterator[pa.Table]] | None:
    head = next(stream, None)
    return None if head is None else (head, stream)


def _key(table: pa.Table, order: Order, row: int) -> tuple[int, ...]:
    return tuple(table[name][row].as_py() for name in order)


def _through(table: pa.Table, order: Order, limit: tuple[int, ...]) -> int:
    """Return how many rows of a sorted table are not after a key."""
    within: npt.NDArray[np.bool_] = np.ones(len(table), np.bool_)
    for name, value in zip(reversed(order), reversed(limit), strict=True):
        column = np.asarray(table[name])
        within = (column < value) | ((column == value) & within)
    return int(within.sum())
