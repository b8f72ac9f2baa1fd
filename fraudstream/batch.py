"""A micro-batch of transactions as columns, with the log positions they came from.

Conventions: every column has one entry a row; a time is int64 Unix milliseconds UTC; a measure is a
fixed-point int64 (an amount in minor units) with `MISSING` for none; a text column holds str or None.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
UInt64 = npt.NDArray[np.uint64]

MISSING = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class TransactionBatch:
    """Rows in log order, or, after `in_event_order`, in the order in which the engine sees them.

    Attributes:
        ids: the transaction ids.
        time_ms: event times, [n].
        measures: fixed-point columns by field, each [n].
        texts: id and category columns by field, each of length n.
        partition, offset: log position of each row, [n]; a file counts as partition 0.
        source_row: position of each row among the messages that were decoded, [n].
    """

    ids: list[str]
    time_ms: Int64
    measures: dict[str, Int64]
    texts: dict[str, list[str | None]]
    partition: Int64
    offset: Int64
    source_row: Int64

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Int64) -> TransactionBatch:
        """Return these rows, in this order."""
        if len(rows) < 2:
            return self.part(int(rows[0]), int(rows[0]) + 1) if len(rows) else self.part(0, 0)
        picked = itemgetter(*rows.tolist())  # twice as fast as a comprehension
        ids = list(picked(self.ids))
        return TransactionBatch(
            ids=ids,
            time_ms=self.time_ms[rows],
            measures={name: column[rows] for name, column in self.measures.items()},
            texts={
                name: ids if column is self.ids else list(picked(column))
                for name, column in self.texts.items()
            },
            partition=self.partition[rows],
            offset=self.offset[rows],
            source_row=self.source_row[rows],
        )

    def part(self, start: int, stop: int) -> TransactionBatch:
        """Return rows start to stop - 1."""
        return TransactionBatch(
            ids=self.ids[start:stop],
            time_ms=self.time_ms[start:stop],
            measures={name: column[start:stop] for name, column in self.measures.items()},
            texts={name: column[start:stop] for name, column in self.texts.items()},
            partition=self.partition[start:stop],
            offset=self.offset[start:stop],
            source_row=self.source_row[start:stop],
        )

    def in_event_order(self) -> TransactionBatch:
        """Return the rows sorted by (event time, partition, offset), the order that is replayed."""
        if len(self) < 2:
            return self
        one_partition = bool((self.partition == self.partition[0]).all())
        if one_partition and bool((self.time_ms[1:] >= self.time_ms[:-1]).all()):
            return self
        return self.take(np.lexsort((self.offset, self.partition, self.time_ms)))

    def measure_of(self, field: str, row: int, digits: int) -> float:
        """Return one measure in its declared unit (an amount in major units); NaN when missing."""
        value = int(self.measures[field][row])
        return float("nan") if value == MISSING else float(value / 10**digits)


def concatenate(batches: list[TransactionBatch]) -> TransactionBatch:
    """Join batches of the same event type, rows in the given order."""
    if len(batches) == 1:
        return batches[0]
    first = batches[0]

    def joined(pick: Any) -> Any:
        return np.concatenate([pick(batch) for batch in batches])

    return TransactionBatch(
        ids=list(chain.from_iterable(batch.ids for batch in batches)),
        time_ms=joined(lambda b: b.time_ms),
        measures={name: joined(lambda b, name=name: b.measures[name]) for name in first.measures},
        texts={
            name: list(chain.from_iterable(batch.texts[name] for batch in batches)) for name in first.texts
        },
        partition=joined(lambda b: b.partition),
        offset=joined(lambda b: b.offset),
        source_row=joined(lambda b: b.source_row),
    )
