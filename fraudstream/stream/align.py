"""Keeps partitions level while a backlog is read: rows that are ahead wait for the partitions behind.

A merchant's rows come over several partitions. While all of them are at their ends nothing waits. While one
has a backlog (a restart, an outage), librdkafka hands out a megabyte of one partition and then of another:
without this, one partition's days would come before another's, and late rows beyond `state.lateness` would be
lost to the merchant's windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fraudstream.batch import TransactionBatch, concatenate
from fraudstream.bus.base import Positions

HELD_ROWS_MAX = 200_000
TIME_MIN, TIME_MAX = -(2**62), 2**62


class Aligner:
    """Rows held back, with the messages they came from.

    Args:
        rows_max: held at most; beyond it everything goes, in event order.
    """

    def __init__(self, rows_max: int = HELD_ROWS_MAX) -> None:
        self._rows_max = rows_max
        self._held: list[TransactionBatch] = []
        self._messages: list[Any] = []
        self._newest_ms: dict[int, int] = {}

    @property
    def holds(self) -> bool:
        """Tell whether rows wait."""
        return bool(self._held)

    def add(
        self, batch: TransactionBatch, messages: Sequence[Any], behind: set[int]
    ) -> tuple[TransactionBatch, Sequence[Any]]:
        """Take rows in and return those that may go, in event order, with their messages.

        Args:
            batch: rows in any order; `source_row` counts in `messages`.
            behind: partitions with a backlog; nothing later than the newest row of each may go.
        """
        for partition, time_ms in zip(batch.partition.tolist(), batch.time_ms.tolist(), strict=True):
            self._newest_ms[partition] = max(time_ms, self._newest_ms.get(partition, time_ms))
        if not behind and not self._held:
            return batch.in_event_order(), messages
        whole = self._joined(batch, messages)
        frontier_ms = min((self._newest_ms.get(p, TIME_MIN) for p in behind), default=TIME_MAX)
        waits = whole.time_ms > frontier_ms
        if int(waits.sum()) > self._rows_max:
            waits[:] = False
        messages = self._messages
        self._hold(whole.take(np.flatnonzero(waits)))
        return whole.take(np.flatnonzero(~waits)), messages

    def first_held(self) -> Positions:
        """Return the lowest offset held of each partition: nothing from there on may be committed."""
        first: Positions = {}
        for batch in self._held:
            for partition, offset in zip(batch.partition.tolist(), batch.offset.tolist(), strict=True):
                first[partition] = min(offset, first.get(partition, offset))
        return first

    def _joined(self, batch: TransactionBatch, messages: Sequence[Any]) -> TransactionBatch:
        if not self._held:
            self._messages = list(messages)
            return batch.in_event_order()
        batch.source_row[:] += len(self._messages)
        self._messages = [*self._messages, *messages]
        return concatenate([*self._held, batch]).in_event_order()

    def _hold(self, batch: TransactionBatch) -> None:
        self._held = [batch] if len(batch) else []
        self._messages = [self._messages[row] for row in batch.source_row.tolist()]
        batch.source_row[:] = np.arange(len(batch))
