"""A shard's entities as one run of words, to be saved and loaded again, in this process or another.

For each entity: hash, newest time, newest time dropped, rows, then the rows' columns as in a chunk that is as short as
can be. Indexes are left out, since they follow from the rows.
"""

from __future__ import annotations

import numpy as np

from fraudstream.batch import Int64
from fraudstream.features.access import (
    D_TEXTS,
    K_WORDS,
    count_of,
    header,
    number_of,
    put_count,
    put_header,
    shape,
    shard_of,
    text_column,
    word_at,
)
from fraudstream.features.arena import allocate
from fraudstream.features.memory import compiled, put_quarter, put_word, quarter, word
from fraudstream.features.plan import P_RESOLUTION_MS
from fraudstream.features.rows import CAPACITY_MIN, chunk_size, copy_rows, forget_rows
from fraudstream.features.table import (
    C_ROWS,
    H_BASE,
    H_CAPACITY,
    H_COUNT,
    H_DROPPED_MS,
    H_HASH,
    H_NEWEST_MS,
    H_START,
    S_BASE,
    S_LENGTH,
    remove,
)

ENTITY_WORDS = 4
_SLOT_MASK = np.int64(0xFFFFFFFF)


@compiled
def snug(count):  # type: ignore[no-untyped-def]
    """Return the least capacity that holds so many rows."""
    return (count + 3) // 4 * 4


@compiled
def shard_words(store, plan, shard):  # type: ignore[no-untyped-def]
    """Return the words that a shard takes when packed."""
    words = 0
    for at in range(shard_of(store, shard, S_LENGTH)):
        entry = word_at(store, shard_of(store, shard, S_BASE) + at)
        if entry != 0:
            count = header(store, (entry & _SLOT_MASK) - 1, H_COUNT)
            words += ENTITY_WORDS + chunk_size(plan, snug(count))
    return words


@compiled
def pack(store, plan, shard, target):  # type: ignore[no-untyped-def]
    """Write a shard's entities at the address `target`."""
    done = 0
    for at in range(shard_of(store, shard, S_LENGTH)):
        entry = word_at(store, shard_of(store, shard, S_BASE) + at)
        if entry == 0:
            continue
        slot = (entry & _SLOT_MASK) - 1
        count = header(store, slot, H_COUNT)
        put_word(target, done, header(store, slot, H_HASH))
        put_word(target, done + 1, header(store, slot, H_NEWEST_MS))
        put_word(target, done + 2, header(store, slot, H_DROPPED_MS))
        put_word(target, done + 3, count)
        done += ENTITY_WORDS
        if count > 0:
            chunk = (header(store, slot, H_BASE), header(store, slot, H_CAPACITY))
            start = header(store, slot, H_START)
            copy_rows(plan, (word(store, K_WORDS), target), chunk, (done, snug(count)), (start, 0), count)
            done += chunk_size(plan, snug(count))


@compiled
def hashes_in(plan, source, words, hashes):  # type: ignore[no-untyped-def]
    """Fill `hashes` with those of the packed entities, as far as it reaches; return how many there are."""
    done, entities = 0, 0
    while done < words:
        if entities < len(hashes):
            hashes[entities] = np.uint64(word(source, done))
        done += ENTITY_WORDS + chunk_size(plan, snug(word(source, done + 3)))
        entities += 1
    return entities


@compiled
def unpack(store, plan, source, slots, codes):  # type: ignore[no-untyped-def]
    """Give packed entities their rows; their headers are there, empty, and the arena has room.

    Args:
        slots: header of each entity; source: address of the packed words.
        codes: [texts, codes] what a code of the packed rows is here; a row of it begins with -1 where nothing changes.
    """
    done = 0
    for slot in slots:
        forget_rows(store, plan, slot)
        count = word(source, done + 3)
        put_header(store, slot, H_NEWEST_MS, word(source, done + 1))
        put_header(store, slot, H_DROPPED_MS, word(source, done + 2))
        done += ENTITY_WORDS
        if count == 0:
            continue
        capacity = max(CAPACITY_MIN, snug(count))
        base = allocate(store, chunk_size(plan, capacity))
        copy_rows(plan, (source, word(store, K_WORDS)), (done, snug(count)), (base, capacity), (0, 0), count)
        put_header(store, slot, H_BASE, base)
        put_header(store, slot, H_CAPACITY, capacity)
        put_header(store, slot, H_START, 0)
        put_header(store, slot, H_COUNT, count)
        put_count(store, C_ROWS, count_of(store, C_ROWS) + count)
        done += chunk_size(plan, snug(count))
        if shape(plan, P_RESOLUTION_MS) == 0:
            for text in range(number_of(plan, D_TEXTS)):
                if codes[text, 0] >= 0:
                    at = 4 * base + capacity * text_column(plan, text, 1)
                    for i in range(count):
                        code = quarter(word(store, K_WORDS), at + i)
                        put_quarter(word(store, K_WORDS), at + i, codes[text, code])


@compiled
def drop(store, plan, shard):  # type: ignore[no-untyped-def]
    """Let go of all entities of a shard."""
    at = 0
    while at < shard_of(store, shard, S_LENGTH):
        entry = word_at(store, shard_of(store, shard, S_BASE) + at)
        if entry == 0:
            at += 1
            continue
        slot = (entry & _SLOT_MASK) - 1  # another entry may move to this place
        forget_rows(store, plan, slot)
        remove(store, slot)


def unpacked(words: Int64, row_quarters: int) -> list[tuple[int, Int64, int]]:
    """Return (hash, chunk, rows) of each packed entity; for dumps and tests."""
    found, done = [], 0
    while done < len(words):
        count = int(words[done + 3])
        size = (count + 3) // 4 * 4 * row_quarters // 4
        found.append((int(words[done]), words[done + ENTITY_WORDS : done + ENTITY_WORDS + size], count))
        done += ENTITY_WORDS + size
    return found
