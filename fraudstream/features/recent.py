"""Transactions seen lately, by the hash of their id: a table without a Python object a transaction.

Entries are grouped in generations as long as the horizon. The current one and the one before are looked at; older
ones are dropped whole, so that nothing is ever deleted one by one. An entry is forgotten once more than the horizon
has passed since it was made.

Two ids share a 64-bit hash with probability 2**-64 a pair: among 100 million remembered ones that is a chance of 3 in
10,000 that any two are taken for one.
"""

from __future__ import annotations

import numpy as np

from fraudstream.batch import Int64, UInt64
from fraudstream.features.arena import compiled

ROWS_MIN = 1024
NOTHING = -1


class Recent:
    """Entries of `width` words, word 0 of each the stream time at which it was made.

    Args:
        horizon_ms: how long an entry is remembered, in stream time.
        width: words an entry.
    """

    def __init__(self, horizon_ms: int, width: int) -> None:
        self.horizon_ms = horizon_ms
        self.generation = -1
        self.width = width
        self.tables = [_Table(width), _Table(width)]  # the current generation, the one before

    def __len__(self) -> int:
        return sum(table.used for table in self.tables)

    def bytes_used(self) -> int:
        """Return the bytes of all entries, room for growth included."""
        return sum(table.keys.nbytes + table.entries.nbytes for table in self.tables)

    def find(self, key: int, now_ms: int) -> tuple[int, int]:
        """Return (generation, place) of an id's entry, or (-1, -1)."""
        for age, table in enumerate(self.tables):
            place = int(_find(table.keys, np.uint64(key)))
            if place >= 0 and now_ms - table.entries[place, 0] <= self.horizon_ms:
                return self.generation - age, place
        return NOTHING, NOTHING

    def entry(self, generation: int, place: int) -> Int64 | None:
        """Return an entry to read or write; None where it has been dropped."""
        age = self.generation - generation
        return self.tables[age].entries[place] if 0 <= age < len(self.tables) else None

    def add(self, keys: UInt64, time_ms: Int64, watermark_ms: int, found: Int64) -> None:
        """Look ids up in the order given and remember those that are new.

        Args:
            keys: [n] hashes; time_ms: [n] event times; watermark_ms: stream time before them.
            found: [n, 3] filled with generation, place, and 1 where it was there already (0: made now).
        """
        done = 0
        while done < len(keys):
            now_ms = max(watermark_ms, int(time_ms[done]))
            self._turn_to(now_ms // self.horizon_ms)
            current, former = self.tables
            current.make_room(len(keys) - done)
            places = (current.keys, current.entries, former.keys, former.entries)
            counts = np.array([current.used, watermark_ms], np.int64)
            done = int(_add(keys, time_ms, places, (self.horizon_ms, self.generation), counts, found, done))
            current.used, watermark_ms = int(counts[0]), int(counts[1])

    def _turn_to(self, generation: int) -> None:
        if generation == self.generation:
            return
        fresh = _Table(self.width, self.tables[0].used)
        follows = generation == self.generation + 1
        self.tables = [fresh, self.tables[0] if follows else _Table(self.width)]
        self.generation = generation


class _Table:
    """One generation: open addressing, at most three quarters full."""

    def __init__(self, width: int, expected: int = 0) -> None:
        length = ROWS_MIN
        while length * 3 < expected * 4:
            length *= 2
        self.keys = np.zeros(length, np.uint64)
        self.entries = np.zeros((length, width), np.int64)
        self.used = 0

    def make_room(self, rows: int) -> None:
        """Let so many more entries fit."""
        if (self.used + rows) * 4 <= len(self.keys) * 3:
            return
        larger = _Table(self.entries.shape[1], 2 * (self.used + rows))
        _copy(self.keys, self.entries, larger.keys, larger.entries)
        self.keys, self.entries = larger.keys, larger.entries


@compiled
def _find(keys, key):  # type: ignore[no-untyped-def]
    mask = np.uint64(len(keys) - 1)
    at = key & mask
    while keys[at] != np.uint64(0):
        if keys[at] == key:
            return np.int64(at)
        at = (at + np.uint64(1)) & mask
    return -1


@compiled
def _place(keys, key):  # type: ignore[no-untyped-def]
    mask = np.uint64(len(keys) - 1)
    at = key & mask
    while keys[at] != np.uint64(0) and keys[at] != key:
        at = (at + np.uint64(1)) & mask
    return np.int64(at)


@compiled
def _copy(keys, entries, to_keys, to_entries):  # type: ignore[no-untyped-def]
    for i in range(len(keys)):
        if keys[i] != np.uint64(0):
            at = _place(to_keys, keys[i])
            to_keys[at] = keys[i]
            for word in range(entries.shape[1]):
                to_entries[at, word] = entries[i, word]


@compiled
def _add(keys, time_ms, places, limits, counts, found, start):  # type: ignore[no-untyped-def]
    """Return n, or the row with which a new generation begins. `counts`: entries used, stream time."""
    horizon_ms, generation = limits
    for i in range(start, len(keys)):
        now_ms = max(counts[1], time_ms[i])
        if now_ms // horizon_ms != generation:
            return i
        at = _place(places[0], keys[i])
        if places[0][at] == keys[i] and now_ms - places[1][at, 0] <= horizon_ms:
            found[i, 0] = generation
            found[i, 1] = at
            found[i, 2] = 1
            continue
        before = _find(places[2], keys[i])
        if before >= 0 and now_ms - places[3][before, 0] <= horizon_ms and places[0][at] != keys[i]:
            found[i, 0] = generation - 1
            found[i, 1] = before
            found[i, 2] = 1
            continue
        counts[0] += places[0][at] == np.uint64(0)
        places[0][at] = keys[i]
        places[1][at, 0] = now_ms
        for word in range(1, places[1].shape[1]):
            places[1][at, word] = -1
        found[i, 0] = generation
        found[i, 1] = at
        found[i, 2] = 0
        counts[1] = now_ms
    return len(keys)
