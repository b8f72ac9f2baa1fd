"""Archived transactions: the messages as they came, read back in the order of their event times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from fraudstream.batch import TransactionBatch
from fraudstream.bus.merge import Order, merged
from fraudstream.decode import Decoder
from fraudstream.errors import RecordError

# `event_time_ms` of a message that is no transaction is its time stamp; `reason` says what is wrong with it.
RAW = pa.schema(
    [
        ("event_time_ms", pa.int64()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("timestamp_ms", pa.int64()),
        ("key", pa.binary()),
        ("value", pa.binary()),
        ("headers", pa.list_(pa.struct([("name", pa.string()), ("value", pa.binary())]))),
        ("transaction_id", pa.string()),
        ("reason", pa.string()),
    ]
)
RAW_ORDER: Order = ("event_time_ms", "partition", "offset")
_READ = ("timestamp_ms", "key", "value")


@dataclass(frozen=True, slots=True)
class RejectedMessage:
    """A message that is no transaction, and where it stood in its topic."""

    partition: int
    offset: int
    error: RecordError


def is_raw(schema: pa.Schema) -> bool:
    """Tell whether a Parquet file holds messages as they came."""
    return set(_READ) | set(RAW_ORDER) <= set(schema.names)


def read_raw(
    files: Sequence[Any], decoder: Decoder, rows: int
) -> Iterator[tuple[TransactionBatch, list[RejectedMessage]]]:
    """Yield the transactions of one date's files in event order, and the messages that are none.

    Args:
        files: `pyarrow.parquet.ParquetFile`s.
        rows: of a batch, at most.
    """
    for part in merged(files, RAW_ORDER, rows, _READ):
        partition, offset, stamp_ms = (
            np.asarray(part.column(name)) for name in ("partition", "offset", "timestamp_ms")
        )
        batch, rejected = decoder.decode_messages(
            part.column("value").to_pylist(),
            part.column("key").to_pylist(),
            (partition, offset),
            stamp_ms,
        )
        yield (
            batch.in_event_order(),
            [RejectedMessage(int(partition[r.row]), int(offset[r.row]), r.error) for r in rejected],
        )
