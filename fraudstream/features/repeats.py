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
_NONE = np.empty(0, np.int64)


class FirstDecisions(NamedTuple):
    """What was decided of some transactions; each [n]. `outcome` is UNDECIDED where it is not known."""

    probability: Float64
    outcome: Int64
    points: Int64
    model: Int64
    flags: Int64

    def take(self, rows: Int64) -> FirstDecisions:
        """Return some of them."""
        return FirstDecisions(
            self.probability[rows], self.outcome[rows], self.points[rows], self.model[rows], self.flags[rows]
        )


_NOTHING = FirstDecisions(np.empty(0), _NONE, _NONE, _NONE, _NONE)


class Recognised(NamedTuple):
    """A batch's rows, told apart.

    Attributes:
        fresh: [f] positions of the rows that are new.
        again: [r] positions of those that are not.
        entries: [n] under which the transaction of each row is remembered.
        first: [r] what was decided of the repeated ones before this batch.
        sources: [r] where in this batch they stand for the first time; -1: in an earlier one.
    """

    fresh: Int64
    again: Int64
    entries: UInt64
    first: FirstDecisions
    sources: Int64

    def fresh_of(self, batch: TransactionBatch) -> TransactionBatch:
        """Return the new rows of the batch."""
        return batch.take(self.fresh) if len(self.again) else batch

    def first_with(self, rows: Int64, decided: FirstDecisions) -> FirstDecisions:
        """Return the first decisions of the repeated rows, with what has been decided in this batch.

        Args:
            rows: positions of the rows that were decided, rising; decided: how.
        """
        at = np.searchsorted(rows, self.sources)
        at[at == len(rows)] = 0
        here = np.flatnonzero(rows[at] == self.sources) if len(rows) else np.empty(0, np.int64)
        for column, more in zip(self.first, decided, strict=True):
            column[here] = more[at[here]]
        return self.first


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
        known, words = np.zeros(n, np.int64), np.full((n, _WIDTH - Recent.FIRST), UNDECIDED, np.int64)
        if self.recent is not None:
            self.recent.add(entries, batch.time_ms, watermark_ms, known, words)
        if not known.any():
            return Recognised(np.arange(n), _NONE, entries, _NOTHING, _NONE)
        again, fresh = np.flatnonzero(known), np.flatnonzero(known == 0)
        sources = [_last_before(row, entries, fresh) for row in again.tolist()]
        return Recognised(fresh, again, entries, _unpacked(words[again]), np.array(sources, np.int64))

    def remember(self, entries: UInt64, decisions: FirstDecisions) -> None:
        """Keep what was decided of transactions, by their entries."""
        if self.recent is None:
            return
        packed = decisions.outcome | decisions.points << 16 | decisions.model << 32 | decisions.flags << 48
        words = np.column_stack([decisions.probability.view(np.int64), packed])
        self.recent.put(entries, Recent.FIRST, words)

    def renumber(self, outcomes: list[int]) -> None:
        """Give remembered outcomes other numbers; those that become UNDECIDED are decided anew if they come again.

        Args:
            outcomes: the new number of each.
        """
        changed = np.array(outcomes, np.int64)
        for table in self.recent.tables if self.recent is not None else ():
            packed = table.entries[:, _WIDTH - 1]
            known = packed != UNDECIDED
            outcome = changed[packed[known] & 0xFFFF]
            packed[known] = np.where(outcome < 0, UNDECIDED, packed[known] & ~0xFFFF | outcome)


def _last_before(row: int, entries: UInt64, fresh: Int64) -> int:
    """Return the last new row before a row with the same entry, or -1."""
    same = fresh[(entries[fresh] == entries[row]) & (fresh < row)]
    return int(same[-1]) if len(same) else -1


def _unpacked(words: Int64) -> FirstDecisions:
    packed = words[:, 1]
    known = packed != UNDECIDED
    outcome, points, model, flags = (
        np.where(known, packed >> shift & 0xFFFF, UNDECIDED) for shift in (0, 16, 32, 48)
    )
    return FirstDecisions(np.ascontiguousarray(words[:, 0]).view(np.float64), outcome, points, model, flags)
