"""Keeps partitions level while a backlog is read: rows that are ahead wait for the partitions behind.

A merchant's rows come over several partitions. While all of them are at their ends nothing waits. While one
has a backlog (a restart, an outage), librdkafka hands out a megabyte of one partition and then of another:
without this, one partition's days would come before another's, and late rows beyond `state.lateness` would be
lost to the merchant's windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
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

    Cost: constant a batch while nothing waits; else each row is copied a few times on its way.
    """

    def __init__(self, rows_max: int = HELD_ROWS_MAX) -> None:
        self._rows_max = rows_max
        self._held: list[_Run] = []
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
        batch = batch.in_event_order()
        newest_ms = dict(
            zip(batch.partition.tolist(), batch.time_ms.tolist(), strict=True)
        )  # the last counts
        for partition, time_ms in newest_ms.items():
            self._newest_ms[partition] = max(time_ms, self._newest_ms.get(partition, time_ms))
        if not behind and not self._held:
            return batch, messages
        if len(batch):
            self._held.append(_Run(batch, list(map(messages.__getitem__, batch.source_row.tolist()))))
        frontier_ms = min((self._newest_ms.get(p, TIME_MIN) for p in behind), default=TIME_MAX)
        if sum(len(run.batch) for run in self._held) > self._rows_max:
            frontier_ms = TIME_MAX
        return self._release(frontier_ms, batch)

    def first_held(self) -> Positions:
        """Return the lowest offset held of each partition: nothing from there on may be committed."""
        first: Positions = {}
        for run in self._held:
            for partition in np.unique(run.batch.partition).tolist():
                offset = int(run.batch.offset[run.batch.partition == partition].min())
                first[partition] = min(offset, first.get(partition, offset))
        return first

    def _release(self, frontier_ms: int, like: TransactionBatch) -> tuple[TransactionBatch, list[Any]]:
        """Cut every run at the frontier; what is not later goes."""
        ready: list[_Run] = []
        kept: list[_Run] = []
        for run in self._held:
            cut = int(np.searchsorted(run.batch.time_ms, frontier_ms, side="right"))
            if cut == len(run.batch):
                ready.append(run)
            elif cut:
                ready.append(run.part(0, cut))
                kept.append(run.part(cut, len(run.batch)))
            else:
                kept.append(run)
        self._held = kept
        if not ready:
            return like.part(0, 0), []
        messages = list(chain.from_iterable(run.messages for run in ready))
        joined = concatenate([run.batch for run in ready])
        joined = replace(joined, source_row=np.arange(len(joined)))
        return joined.in_event_order(), messages


@dataclass(frozen=True, slots=True)
class _Run:
    """Rows in event order, and the message of each."""

    batch: TransactionBatch
    messages: list[Any]

    def part(self, start: int, stop: int) -> _Run:
        """Return rows start to stop - 1."""
        return _Run(self.batch.part(start, stop), self.messages[start:stop])
