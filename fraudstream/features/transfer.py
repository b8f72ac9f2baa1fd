"""A shard's entities as one run of words, to be saved and loaded again, in this process or another.

For each entity: hash, newest time, newest time dropped, number of rows, then the rows, up to a whole word.
Indexes are left out, since they follow from the rows.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fraudstream.batch import Int64
from fraudstream.compiled import compiled
from fraudstream.features.access import (
    D_TEXT_TERMS,
    D_TEXTS,
    K_WORDS,
    add_count,
    header,
    number_of,
    put_header,
    put_shard,
    put_word_at,
    shape,
    shard_of,
    text_column,
    text_term_at,
    word_at,
)
from fraudstream.features.arena import allocate
from fraudstream.features.memory import put_quarter, put_word, quarter, word
from fraudstream.features.plan import P_MAPS, P_RESOLUTION_MS, P_ROW_BYTES, X_ENTRY_WORDS
from fraudstream.features.rows import (
    MAP_BASE,
    MAP_LENGTH,
    MAP_WORDS,
    chunk_size,
    copy_octets,
    forget_rows,
    index_size,
    let_go,
    row_at,
)
from fraudstream.features.table import (
    C_ROWS,
    H_BASE,
    H_CAPACITY,
    H_COUNT,
    H_DROPPED_MS,
    H_HASH,
    H_INDEX,
    H_NEWEST_MS,
    H_START,
    S_BASE,
    S_LENGTH,
)

ENTITY_WORDS = 4
_SLOT_MASK = np.int64(0xFFFFFFFF)


@compiled
def shard_words(store, plan, shard):  # type: ignore[no-untyped-def]
    """Return the words that a shard takes when packed."""
    words = 0
    for at in range(shard_of(store, shard, S_LENGTH)):
        entry = word_at(store, shard_of(store, shard, S_BASE) + at)
        if entry != 0:
            count = header(store, (entry & _SLOT_MASK) - 1, H_COUNT)
            words += ENTITY_WORDS + chunk_size(plan, count)
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
            rows = row_at(store, plan, header(store, slot, H_BASE), header(store, slot, H_START))
            size = chunk_size(plan, count)
            put_word(target, done + size - 1, 0)  # the last word may be filled in part
            copy_octets(rows, target + 8 * done, count * shape(plan, P_ROW_BYTES))
            done += size


@compiled
def hashes_in(plan, source, words, hashes):  # type: ignore[no-untyped-def]
    """Fill `hashes` with those of the packed entities, as far as it reaches; return how many there are."""
    done, entities = 0, 0
    while done < words:
        if entities < len(hashes):
            hashes[entities] = np.uint64(word(source, done))
        done += ENTITY_WORDS + chunk_size(plan, word(source, done + 3))
        entities += 1
    return entities


@compiled
def unpack(store, plan, source, slots, codes):  # type: ignore[no-untyped-def]
    """Give packed entities their rows; their headers are there, empty, and the arena has room.

    Args:
        slots: header of each entity; source: address of the packed words.
        codes: [texts, codes] what a code of the packed rows is here; a text's begins with -1 if nothing changes.
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
        capacity = (count + 3) // 4 * 4
        base = allocate(store, chunk_size(plan, capacity))
        copy_octets(source + 8 * done, row_at(store, plan, base, 0), count * shape(plan, P_ROW_BYTES))
        put_header(store, slot, H_BASE, base)
        put_header(store, slot, H_CAPACITY, capacity)
        put_header(store, slot, H_START, 0)
        put_header(store, slot, H_COUNT, count)
        add_count(store, C_ROWS, count)
        done += chunk_size(plan, count)
        if shape(plan, P_RESOLUTION_MS) == 0:
            for text in range(number_of(plan, D_TEXTS)):
                if codes[text, 0] >= 0:
                    for i in range(count):
                        at = row_at(store, plan, base, i) + text_column(plan, text, 0)
                        put_quarter(at, 0, codes[text, quarter(at, 0)])


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
        let_go(store, plan, slot)


def unpacked(words: Int64, row_bytes: int) -> list[tuple[int, npt.NDArray[np.uint8]]]:
    """Return (hash, [rows, row_bytes] bytes) of each packed entity; for dumps and tests."""
    found, done = [], 0
    while done < len(words):
        count = int(words[done + 3])
        first, done = done + ENTITY_WORDS, done + ENTITY_WORDS + (count * row_bytes + 7) // 8
        octets = words[first:done].view(np.uint8)[: count * row_bytes]
        found.append((int(words[first - ENTITY_WORDS]), octets.reshape(count, row_bytes)))
    return found


@compiled
def _evacuate_chunk(store, fresh, base, words):  # type: ignore[no-untyped-def]
    to = allocate(fresh, words)
    copy_octets(word(store, K_WORDS) + 8 * base, word(fresh, K_WORDS) + 8 * to, 8 * words)
    return to


@compiled
def evacuate(store, fresh, plan, shard):  # type: ignore[no-untyped-def]
    """Copy a shard's table, rows and indexes into an empty arena, and let headers and table point there."""
    length = shard_of(store, shard, S_LENGTH)
    for at in range(length):
        entry = word_at(store, shard_of(store, shard, S_BASE) + at)
        if entry == 0:
            continue
        slot = (entry & _SLOT_MASK) - 1
        capacity, index = header(store, slot, H_CAPACITY), header(store, slot, H_INDEX)
        if capacity > 0:
            words = chunk_size(plan, capacity)
            put_header(store, slot, H_BASE, _evacuate_chunk(store, fresh, header(store, slot, H_BASE), words))
        if index >= 0:
            moved = _evacuate_chunk(store, fresh, index, index_size(plan, capacity))
            for term in range(number_of(plan, D_TEXT_TERMS)):
                map_at = moved + shape(plan, P_MAPS) + MAP_WORDS * term
                entries = word_at(fresh, map_at + MAP_LENGTH)
                if entries > 0:
                    words = entries * text_term_at(plan, term, X_ENTRY_WORDS)
                    map_base = _evacuate_chunk(store, fresh, word_at(fresh, map_at + MAP_BASE), words)
                    put_word_at(fresh, map_at + MAP_BASE, map_base)
            put_header(store, slot, H_INDEX, moved)
    put_shard(store, shard, S_BASE, _evacuate_chunk(store, fresh, shard_of(store, shard, S_BASE), length))
