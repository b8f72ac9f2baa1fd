"""The entities of one kind: found by their hash, in 64 shards, without a Python object an entity.

A header of 64 bytes (one cache line) says where an entity's rows are. Each shard has an arena of its own, and in it
its hash table, with one word an entry: 32 bits of the hash, which sort out nearly all strangers, and the header's
number; the header holds the whole hash.
"""

from __future__ import annotations

import numpy as np

from fraudstream.compiled import compiled
from fraudstream.features.access import (
    HEADER_WIDTH,
    K_HEADERS,
    K_WORDS,
    SHARD_BITS,
    add_count,
    add_shard,
    count_of,
    header,
    header_room,
    put_count,
    put_header,
    put_shard,
    put_word_at,
    shard_of,
    store_of,
    word_at,
)
from fraudstream.features.arena import allocate, release
from fraudstream.features.memory import prefetch, word

SHARDS = 64
TABLE_WORDS_MIN = 16
_AHEAD = 8  # rows whose memory is asked for before it is needed

# Columns of a header. A free header has hash 0, and in H_BASE the next free one.
H_HASH, H_BASE, H_CAPACITY, H_START, H_COUNT, H_NEWEST_MS, H_DROPPED_MS, H_INDEX = range(8)
# Columns of `shards`: first word and length of the table, entries in it.
S_BASE, S_LENGTH, S_USED = range(3)
# `counts`: entities, headers ever used, first free header, rows kept.
C_ENTITIES, C_HEADERS, C_FREE, C_ROWS = range(4)

NO_TIME = np.iinfo(np.int64).min // 2
ABSENT, UNTRACKED = -1, -2

_TAG_SHIFT, _TAG_MASK = np.uint64(26), np.uint64(0xFFFFFFFF)


@compiled
def _entry(key, slot):  # type: ignore[no-untyped-def]
    return np.int64((((key >> _TAG_SHIFT) & _TAG_MASK) << np.uint64(32)) | np.uint64(slot + 1))


@compiled
def _find(store, key):  # type: ignore[no-untyped-def]
    """Return (header number or -1, place in the table where it is or would be)."""
    shard = np.int64(key >> SHARD_BITS)
    base, mask = shard_of(store, shard, S_BASE), shard_of(store, shard, S_LENGTH) - 1
    tag = np.int64((key >> _TAG_SHIFT) & _TAG_MASK)
    at = np.int64(key) & mask
    while True:
        entry = word_at(store, base + at)
        if entry == 0:
            return -1, at
        if (entry >> 32) & np.int64(0xFFFFFFFF) == tag:
            slot = (entry & np.int64(0xFFFFFFFF)) - 1
            if header(store, slot, H_HASH) == np.int64(key):
                return slot, at
        at = (at + 1) & mask


@compiled
def _fetch_entry(stores, key):  # type: ignore[no-untyped-def]
    """Ask for the cache line of the table where a hash's entry should be."""
    store = store_of(stores, key)
    shard = np.int64(key >> SHARD_BITS)
    at = np.int64(key) & (shard_of(store, shard, S_LENGTH) - 1)
    prefetch(word(store, K_WORDS) + 8 * (shard_of(store, shard, S_BASE) + at))


@compiled
def _fetch_header(stores, key):  # type: ignore[no-untyped-def]
    """Ask for the header that a hash's entry names; the entry itself should be here by now."""
    store = store_of(stores, key)
    shard = np.int64(key >> SHARD_BITS)
    at = np.int64(key) & (shard_of(store, shard, S_LENGTH) - 1)
    entry = word_at(store, shard_of(store, shard, S_BASE) + at)
    if entry != 0:
        prefetch(word(store, K_HEADERS) + 8 * HEADER_WIDTH * ((entry & np.int64(0xFFFFFFFF)) - 1))


@compiled
def find(stores, hashes, found):  # type: ignore[no-untyped-def]
    """Fill `found` with header numbers, -1 where there is none."""
    for i in range(len(hashes)):
        found[i] = ABSENT if hashes[i] == np.uint64(0) else _find(store_of(stores, hashes[i]), hashes[i])[0]


@compiled
def find_or_add(stores, hashes, entities_max, found, start):  # type: ignore[no-untyped-def]
    """Fill `found` from `start` on; return n, or the row at which a table or the headers must grow first."""
    for i in range(start, min(start + 2 * _AHEAD, len(hashes))):
        _fetch_entry(stores, hashes[i])
    for i in range(start, len(hashes)):
        if i + 2 * _AHEAD < len(hashes):
            _fetch_entry(stores, hashes[i + 2 * _AHEAD])
        if i + _AHEAD < len(hashes):
            _fetch_header(stores, hashes[i + _AHEAD])
        key = hashes[i]
        if key == np.uint64(0):
            found[i] = ABSENT
            continue
        store = store_of(stores, key)
        slot, at = _find(store, key)
        if slot >= 0:
            found[i] = slot
            continue
        if count_of(store, C_ENTITIES) >= entities_max:
            found[i] = UNTRACKED
            continue
        shard = np.int64(key >> SHARD_BITS)
        slot = count_of(store, C_FREE)
        if (shard_of(store, shard, S_USED) + 1) * 4 > shard_of(store, shard, S_LENGTH) * 3 or (
            slot < 0 and count_of(store, C_HEADERS) >= header_room(store)
        ):
            return i
        if slot >= 0:
            put_count(store, C_FREE, header(store, slot, H_BASE))
        else:
            slot = count_of(store, C_HEADERS)
            add_count(store, C_HEADERS, 1)
        put_header(store, slot, H_HASH, np.int64(key))
        empty_header(store, slot)
        put_word_at(store, shard_of(store, shard, S_BASE) + at, _entry(key, slot))
        add_shard(store, shard, S_USED, 1)
        add_count(store, C_ENTITIES, 1)
        found[i] = slot
    return len(hashes)


@compiled
def empty_header(store, slot):  # type: ignore[no-untyped-def]
    """Say in an entity's header that it has no rows."""
    put_header(store, slot, H_BASE, -1)
    put_header(store, slot, H_CAPACITY, 0)
    put_header(store, slot, H_START, 0)
    put_header(store, slot, H_COUNT, 0)
    put_header(store, slot, H_NEWEST_MS, NO_TIME)
    put_header(store, slot, H_DROPPED_MS, NO_TIME)
    put_header(store, slot, H_INDEX, -1)


@compiled
def grow_table(store, shard):  # type: ignore[no-untyped-def]
    """Double a shard's table (or make its first); the arena has room for it."""
    base, length = shard_of(store, shard, S_BASE), shard_of(store, shard, S_LENGTH)
    larger = max(TABLE_WORDS_MIN, length * 2)
    fresh = allocate(store, larger)
    for at in range(larger):
        put_word_at(store, fresh + at, 0)
    for at in range(length):
        entry = word_at(store, base + at)
        if entry != 0:
            to = header(store, (entry & np.int64(0xFFFFFFFF)) - 1, H_HASH) & (larger - 1)
            while word_at(store, fresh + to) != 0:
                to = (to + 1) & (larger - 1)
            put_word_at(store, fresh + to, entry)
    if length > 0:
        release(store, base, length)
    put_shard(store, shard, S_BASE, fresh)
    put_shard(store, shard, S_LENGTH, larger)


@compiled
def remove(store, slot):  # type: ignore[no-untyped-def]
    """Take an entity out of its table and free its header; its chunks are gone already.

    Entries behind the hole move up (linear probing without tombstones: Knuth, vol. 3, 6.4, algorithm R).
    """
    key = np.uint64(header(store, slot, H_HASH))
    shard = np.int64(key >> SHARD_BITS)
    base, mask = shard_of(store, shard, S_BASE), shard_of(store, shard, S_LENGTH) - 1
    _, hole = _find(store, key)
    at = hole
    while True:
        at = (at + 1) & mask
        entry = word_at(store, base + at)
        if entry == 0:
            break
        home = header(store, (entry & np.int64(0xFFFFFFFF)) - 1, H_HASH) & mask
        if ((at - home) & mask) >= ((at - hole) & mask):
            put_word_at(store, base + hole, entry)
            hole = at
    put_word_at(store, base + hole, 0)
    add_shard(store, shard, S_USED, -1)
    add_count(store, C_ENTITIES, -1)
    put_header(store, slot, H_HASH, 0)
    put_header(store, slot, H_BASE, count_of(store, C_FREE))
    put_count(store, C_FREE, slot)
