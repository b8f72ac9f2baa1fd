"""Transactions that come again: told by their id, answered with what was decided the first time.

A payment system that gets no answer sends again. Within the horizon (stream time since the first) such a row changes
no window, and gets the first decision once more, marked as repeated.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fraudstream.batch import Float64, Int64, TransactionBatch, UInt64
from fraudstream.features.recent import Recent

# Words of an entry: probability, then outcome, risk points, model and flags in 16 bits each; -1 where not known.
_WIDTH = Recent.FIRST + 2
UNDECIDED = -1


class Recognised(NamedTuple):
    """A batch's rows, told apart.

    Attributes:
        fresh: [f] positions of the rows that are new.
        repeats: position and id of those that are not.
        entries: [n] under which the transaction of each row is remembered.
    """

    fresh: Int64
    repeats: list[tuple[int, str]]
    entries: UInt64


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

    def recognise(self, batch: TransactionBatch, entries: UInt64, watermark_ms: int) -> Recognised:
        """Tell new rows from repeated ones and remember the new.

        Args:
            entries: [n] hashes of the ids.
        """
        n = len(batch)
        if self.recent is None or not n:
            return Recognised(np.arange(n), [], entries)
        known = np.empty(n, np.int64)
        self.recent.add(entries, batch.time_ms, watermark_ms, known)
        again = np.flatnonzero(known).tolist()
        fresh = np.flatnonzero(known == 0) if again else np.arange(n)
        return Recognised(fresh, [(row, batch.ids[row]) for row in again], entries)

    def remember(self, entries: UInt64, decisions: FirstDecisions) -> None:
        """Keep what was decided of transactions, by their entries."""
        if self.recent is None:
            return
        packed = decisions.outcome | decisions.points << 16 | decisions.model << 32 | decisions.flags << 48
        words = np.column_stack([decisions.probability.view(np.int64), packed])
        self.recent.put(entries, Recent.FIRST, words)

    def recall(self, entries: UInt64) -> FirstDecisions:
        """Return what was decided of transactions, by their entries."""
        assert self.recent is not None, "nothing is remembered, so nothing is repeated"
        words = self.recent.get(entries)
        packed = words[:, Recent.FIRST + 1]
        known = packed != UNDECIDED
        outcome, points, model, flags = (
            np.where(known, packed >> shift & 0xFFFF, UNDECIDED) for shift in (0, 16, 32, 48)
        )
        probability = np.ascontiguousarray(words[:, Recent.FIRST]).view(np.float64)
        return FirstDecisions(probability, outcome, points, model, flags)
