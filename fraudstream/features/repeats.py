"""Transactions that come again: told by their id, answered with what was decided the first time.

A payment system that gets no answer sends again. Within the horizon (stream time since the first) such a row changes
no window, and gets the first decision once more, marked as repeated.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fraudstream.batch import Float64, Int64, TransactionBatch
from fraudstream.features.keys import hash_texts
from fraudstream.features.recent import NOTHING, Recent

# Words of an entry: the stream time when it was made, then probability, outcome, risk points, model, flags.
_WIDTH = 6
UNDECIDED = -1


class Recognised(NamedTuple):
    """A batch's rows, told apart.

    Attributes:
        fresh: [f] positions of the rows that are new.
        repeats: position and id of those that are not.
        entries: [n, 2] where the transaction of each row is remembered.
    """

    fresh: Int64
    repeats: list[tuple[int, str]]
    entries: Int64


class FirstDecisions(NamedTuple):
    """What was decided of some transactions; each [n]. `outcome` is UNDECIDED where it is not known."""

    probability: Float64
    outcome: Int64
    points: Int64
    model: Int64
    flags: Int64


class Repeats:
    """Ids of the last transactions with their decisions.

    Args:
        horizon_ms: 0 remembers nothing.
    """

    def __init__(self, horizon_ms: int) -> None:
        self.recent = Recent(horizon_ms, _WIDTH) if horizon_ms else None

    def bytes_used(self) -> int:
        """Return the bytes of all entries."""
        return self.recent.bytes_used() if self.recent else 0

    def recognise(self, batch: TransactionBatch, watermark_ms: int) -> Recognised:
        """Tell new rows from repeated ones and remember the new."""
        n = len(batch)
        found = np.full((n, 3), NOTHING, np.int64)
        if self.recent is None or not n:
            return Recognised(np.arange(n), [], found[:, :2])
        self.recent.add(hash_texts(batch.ids), batch.time_ms, watermark_ms, found)
        again = np.flatnonzero(found[:, 2] == 1).tolist()
        fresh = np.flatnonzero(found[:, 2] != 1) if again else np.arange(n)
        return Recognised(fresh, [(row, batch.ids[row]) for row in again], found[:, :2])

    def remember(self, entries: Int64, decisions: FirstDecisions) -> None:
        """Keep what was decided of transactions, by their entries."""
        if self.recent is None:
            return
        columns = np.stack([decisions.probability.view(np.int64), *decisions[1:]], axis=1)
        for generation in np.unique(entries[:, 0]).tolist():
            age = self.recent.generation - generation
            if 0 <= age < len(self.recent.tables):
                rows = entries[:, 0] == generation
                self.recent.tables[age].entries[entries[rows, 1], 1:] = columns[rows]

    def recall(self, entries: Int64) -> FirstDecisions:
        """Return what was decided of transactions, by their entries."""
        assert self.recent is not None
        words = np.full((len(entries), _WIDTH), UNDECIDED, np.int64)
        for row, (generation, place) in enumerate(entries.tolist()):
            entry = self.recent.entry(generation, place)
            if entry is not None:
                words[row] = entry
        probability = np.ascontiguousarray(words[:, 1]).view(np.float64)
        return FirstDecisions(probability, *(words[:, column] for column in range(2, _WIDTH)))
