"""The rows kept for one kind of entity, in numpy arrays only.

Each entity's rows stand in event-time order in a ring of their own, a slice of one arena whose length is a
power of two. A row holds its time, for each measure the sum of everything before it (and of its squares),
and the hashes of the texts that features look at: any window's count and sums are then the difference of
two rows, whatever the window, and a late row is read and put in place like any other.

Columns of `headers` (one row an entity): see the `H_` constants. Columns of the arena: time, then as
`RowLayout` says. Behind an entity's last row stands one more, which holds the sums of all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from fraudstream.batch import Int64, UInt64

H_BASE, H_CAPACITY, H_HEAD, H_COUNT, H_DROPPED_MS, HEADER_WIDTH = 0, 1, 2, 3, 4, 5
NO_TIME = np.iinfo(np.int64).min // 2
RING_MIN = 4
SIZE_CLASSES = 18

ABSENT, UNTRACKED = -1, -2


@dataclass(frozen=True, slots=True)
class RowLayout:
    """Where a row keeps what. Column 0 is the time.

    Attributes:
        measures: [m, 4] columns of the running sum, the running count of present values (-1: always
            present), and the running sum of squares, high and low half (-1: not needed).
        texts: [k] columns of the hashes.
        width: columns in all.
    """

    measures: Int64
    texts: Int64
    width: int


class EntityState:
    """All rows of one kind of entity, found by the entity's hash.

    Args:
        layout: of a row.
        rows_max: kept for one entity.
        entities_max: kept in all.
    """

    def __init__(self, layout: RowLayout, rows_max: int, entities_max: int) -> None:
        self.layout = layout
        self.rows_max = rows_max
        self.entities_max = entities_max
        self.entities = 0
        self._swept_ms = NO_TIME
        self._keys = np.zeros(1024, np.uint64)
        self._slots = np.zeros(1024, np.int32)
        self.headers = np.zeros((256, HEADER_WIDTH), np.int64)
        self.arena = np.empty((4096, layout.width), np.int64)
        self.allocator = np.full(1 + SIZE_CLASSES, -1, np.int64)  # next free row; then a free list a class
        self.allocator[0] = 0

    def find_or_add(self, hashes: UInt64, watermark_ms: int, keep_ms: int) -> npt.NDArray[np.int32]:
        """Return the slot of each entity, [n]; ABSENT for hash 0, UNTRACKED beyond `entities_max`."""
        needed = self.entities + len(hashes)
        sweep_due = watermark_ms - self._swept_ms >= keep_ms // 16  # it walks all entities
        if needed > len(self.headers) or (needed > self.entities_max and sweep_due):
            self._drop_idle(watermark_ms - keep_ms)
            self._swept_ms = watermark_ms
            needed = self.entities + len(hashes)
            while needed > len(self.headers) * 3 // 4:
                self.headers = _doubled(self.headers)
        while needed * 2 > len(self._keys):
            self._rehash(len(self._keys) * 2)
        slots = np.empty(len(hashes), np.int32)
        before = self.entities
        self.entities = _find_or_add(hashes, self._keys, self._slots, before, self.entities_max, slots)
        fresh = self.headers[before : self.entities]
        fresh[:] = 0
        fresh[:, H_BASE] = -1
        fresh[:, H_DROPPED_MS] = NO_TIME
        return slots

    def grow_arena(self) -> None:
        """Make room for more rows."""
        self.arena = _doubled(self.arena)

    def bytes_used(self) -> int:
        """Return the bytes of all arrays, room for growth included."""
        return int(self.arena.nbytes + self.headers.nbytes + self._keys.nbytes + self._slots.nbytes)

    def rows_of(self, entity_hash: int) -> tuple[Int64, Int64]:
        """Return an entity's kept rows in event-time order, [rows, width], and its totals after the last.

        For explanation and tests.
        """
        slots = np.empty(1, np.int32)
        hashes = np.array([entity_hash], np.uint64)
        _find_or_add(hashes, self._keys, self._slots, self.entities, self.entities, slots)
        if slots[0] < 0:
            return np.empty((0, self.layout.width), np.int64), np.zeros(self.layout.width, np.int64)
        base, capacity, head, count = self.headers[slots[0], :H_DROPPED_MS].tolist()
        if base < 0:
            return np.empty((0, self.layout.width), np.int64), np.zeros(self.layout.width, np.int64)
        rows: Int64 = self.arena[base + ((head + np.arange(count + 1)) & (capacity - 1))]
        return rows[:-1], rows[-1]

    def hashes(self) -> UInt64:
        """Return the hashes of all entities kept."""
        used: UInt64 = self._keys[self._keys != 0]
        return used

    def _rehash(self, capacity: int) -> None:
        keys, slots = np.zeros(capacity, np.uint64), np.zeros(capacity, np.int32)
        _reinsert(self._keys, self._slots, keys, slots)
        self._keys, self._slots = keys, slots

    def _drop_idle(self, before_ms: int) -> None:
        """Forget entities whose newest row is older than any window can reach."""
        moved = np.empty(max(self.entities, 1), np.int32)
        kept = _release_idle(self.headers, self.arena, self.allocator, self.entities, before_ms, moved)
        if kept == self.entities:
            return
        keys, slots = np.zeros(len(self._keys), np.uint64), np.zeros(len(self._keys), np.int32)
        _reinsert_moved(self._keys, self._slots, moved, keys, slots)
        self._keys, self._slots, self.entities = keys, slots, kept


def _doubled(array: Int64) -> Int64:
    larger = np.empty((len(array) * 2, array.shape[1]), array.dtype)
    larger[: len(array)] = array
    return larger


@numba.njit(cache=True, nogil=True)
def _find_or_add(hashes, keys, slots, entities, entities_max, found):  # type: ignore[no-untyped-def]
    """Fill `found`; return the number of entities. With entities_max = entities it only finds."""
    mask = np.uint64(len(keys) - 1)
    for i in range(len(hashes)):
        key = hashes[i]
        if key == np.uint64(0):
            found[i] = ABSENT
            continue
        at = key & mask
        while keys[at] != key and keys[at] != np.uint64(0):
            at = (at + np.uint64(1)) & mask
        if keys[at] == key:
            found[i] = slots[at]
        elif entities >= entities_max:
            found[i] = UNTRACKED
        else:
            keys[at] = key
            slots[at] = entities
            found[i] = entities
            entities += 1
    return entities


@numba.njit(cache=True, nogil=True)
def _insert(key, slot, keys, slots):  # type: ignore[no-untyped-def]
    mask = np.uint64(len(keys) - 1)
    at = key & mask
    while keys[at] != np.uint64(0):
        at = (at + np.uint64(1)) & mask
    keys[at] = key
    slots[at] = slot


@numba.njit(cache=True, nogil=True)
def _reinsert(old_keys, old_slots, keys, slots):  # type: ignore[no-untyped-def]
    for i in range(len(old_keys)):
        if old_keys[i] != np.uint64(0):
            _insert(old_keys[i], old_slots[i], keys, slots)


@numba.njit(cache=True, nogil=True)
def _reinsert_moved(old_keys, old_slots, moved, keys, slots):  # type: ignore[no-untyped-def]
    for i in range(len(old_keys)):
        if old_keys[i] != np.uint64(0) and moved[old_slots[i]] >= 0:
            _insert(old_keys[i], moved[old_slots[i]], keys, slots)


@numba.njit(cache=True)
def size_class(capacity):  # type: ignore[no-untyped-def]
    """Return the class of a ring length: 0 for RING_MIN, one more for each doubling."""
    number = 0
    while (RING_MIN << number) < capacity:
        number += 1
    return number


@numba.njit(cache=True)
def allocate(arena, allocator, capacity):  # type: ignore[no-untyped-def]
    """Return the first arena row of a ring, or -1 when the arena must grow first."""
    number = 1 + size_class(capacity)
    base = allocator[number]
    if base >= 0:
        allocator[number] = arena[base, 0]
        return base
    base = allocator[0]
    if base + capacity > len(arena):
        return -1
    allocator[0] = base + capacity
    return base


@numba.njit(cache=True)
def release(arena, allocator, base, capacity):  # type: ignore[no-untyped-def]
    """Give a ring back; the next of its length takes it."""
    number = 1 + size_class(capacity)
    arena[base, 0] = allocator[number]
    allocator[number] = base


@numba.njit(cache=True, nogil=True)
def _release_idle(headers, arena, allocator, entities, before_ms, moved):  # type: ignore[no-untyped-def]
    """Close the gaps of idle entities in `headers`; `moved` gives each old slot's new one, or -1."""
    kept = 0
    for slot in range(entities):
        base, capacity, head, count = headers[slot, 0], headers[slot, 1], headers[slot, 2], headers[slot, 3]
        newest = NO_TIME
        if count > 0:
            newest = arena[base + ((head + count - 1) & (capacity - 1)), 0]
        if newest < before_ms:
            if base >= 0:
                release(arena, allocator, base, capacity)
            moved[slot] = -1
            continue
        moved[slot] = kept
        if kept != slot:
            headers[kept] = headers[slot]
        kept += 1
    return kept
