"""The rows of one entity: columns in a chunk of the arena, in event-time order, from `H_START` on.

A row behind the last is appended; one that comes late moves those behind it up by one. When the chunk's end is
reached the rows move to its front, if enough has been forgotten there, or into a larger chunk.

Inside the kernels an array never gets a name of its own, and the arrays travel as one named tuple: numba counts
references atomically for every array that a variable holds, which made a read of a sum cost 140 ns instead of 5.
"""

from __future__ import annotations

import numpy as np

from fraudstream.features.access import (
    K_WORDS,
    D_MEASURES,
    D_TERMS,
    D_TEXTS,
    D_TEXT_TERMS,
    batch_bits,
    batch_key,
    batch_time,
    batch_value,
    count_of,
    half_at,
    header,
    measure_at,
    number_of,
    put_count,
    put_half_at,
    put_header,
    put_quarter_at,
    put_word_at,
    quarter_at,
    shape,
    term_at,
    text_column,
    text_term_at,
    word_at,
)
from fraudstream.features.arena import allocate, release
from fraudstream.features.memory import compiled, half, put_half, put_quarter, put_word, quarter, word
from fraudstream.features.plan import (
    BLOCK_ROWS,
    P_BLOCKS,
    P_EXTREMES,
    P_LAST,
    P_MAPS,
    P_MASK,
    P_QUARTERS,
    P_RESOLUTION_MS,
    P_WIDE,
    T_COUNT_AT,
    T_HIGH_AT,
    T_LOW_AT,
    T_MAX_AT,
    T_MEASURE,
    T_MIN_AT,
    T_NEED,
    T_SQUARES,
    T_SUM_AT,
    X_ENTRY_WORDS,
)
from fraudstream.features.table import (
    C_ROWS,
    H_BASE,
    H_CAPACITY,
    H_COUNT,
    H_DROPPED_MS,
    H_INDEX,
    H_NEWEST_MS,
    H_START,
    NO_TIME,
)
from fraudstream.features.wide import add, multiply

MISSING = np.iinfo(np.int64).min
MISSING_48 = -(1 << 47)
LEAST, GREATEST = np.iinfo(np.int64).min, np.iinfo(np.int64).max
CAPACITY_MIN = 4

# Words of a map in an index: its chunk, length in entries, entries in use.
MAP_BASE, MAP_LENGTH, MAP_USED, MAP_WORDS = range(4)

_NONE = np.uint64(0)
_HALF = np.uint64(1) << np.uint64(32)


@compiled
def time_at(store, base, i):  # type: ignore[no-untyped-def]
    """Return the time of the row at place i of the chunk at `base`."""
    return word_at(store, base + i)


@compiled
def wide_at(store, base, capacity, low, high, i):  # type: ignore[no-untyped-def]
    """Return a 48-bit value: a measure, or the hash of an id."""
    upper = np.int64(np.int16(quarter_at(store, 4 * base + capacity * high + i)))
    return (upper << 32) | np.int64(half_at(store, 2 * base + (capacity * low >> 1) + i))


@compiled
def narrow_at(store, base, capacity, column, i):  # type: ignore[no-untyped-def]
    """Return a 16-bit value: a category's code, or the bits of the filters."""
    return np.int64(quarter_at(store, 4 * base + capacity * column + i))


@compiled
def text_at(store, plan, base, capacity, text, i):  # type: ignore[no-untyped-def]
    """Return what stands for a text: 0 where there is none."""
    if text_column(plan, text, 0) < 0:
        return narrow_at(store, base, capacity, text_column(plan, text, 1), i)
    return wide_at(store, base, capacity, text_column(plan, text, 0), text_column(plan, text, 1), i)


@compiled
def fulfils(store, plan, base, capacity, need, i):  # type: ignore[no-untyped-def]
    """Tell whether a row has all the bits of `need`."""
    return need == 0 or narrow_at(store, base, capacity, shape(plan, P_MASK), i) & need == need


@compiled
def tile_at(store, base, capacity, column, i):  # type: ignore[no-untyped-def]
    """Return one word of a tile; 0 for a part that is not kept."""
    return word_at(store, base + (capacity * column >> 2) + i) if column >= 0 else 0


@compiled
def square_of(value):  # type: ignore[no-untyped-def]
    """Return value ** 2 in two halves."""
    size = np.uint64(abs(value))
    if size < _HALF:
        return _NONE, size * size
    return multiply(size, size)


@compiled
def part_of(store, plan, base, capacity, term, i):  # type: ignore[no-untyped-def]
    """Return what a row (or tile) adds to a term: count, sum, squares (two halves), minimum, maximum."""
    if shape(plan, P_RESOLUTION_MS) > 0:
        count = tile_at(store, base, capacity, term_at(plan, term, T_COUNT_AT), i)
        return (
            count,
            tile_at(store, base, capacity, term_at(plan, term, T_SUM_AT), i),
            np.uint64(tile_at(store, base, capacity, term_at(plan, term, T_HIGH_AT), i)),
            np.uint64(tile_at(store, base, capacity, term_at(plan, term, T_LOW_AT), i)),
            tile_at(store, base, capacity, term_at(plan, term, T_MIN_AT), i) if count > 0 else GREATEST,
            tile_at(store, base, capacity, term_at(plan, term, T_MAX_AT), i) if count > 0 else LEAST,
        )
    if not fulfils(store, plan, base, capacity, term_at(plan, term, T_NEED), i):
        return 0, 0, _NONE, _NONE, GREATEST, LEAST
    measure = term_at(plan, term, T_MEASURE)
    if measure < 0:
        return 1, 0, _NONE, _NONE, GREATEST, LEAST
    value = wide_at(store, base, capacity, measure_at(plan, measure, 0), measure_at(plan, measure, 1), i)
    if value == MISSING_48:
        return 0, 0, _NONE, _NONE, GREATEST, LEAST
    if term_at(plan, term, T_SQUARES) == 0:
        return 1, value, _NONE, _NONE, value, value
    high, low = square_of(value)
    return 1, value, high, low, value, value


@compiled
def rows_until(store, base, low, high, time_ms):  # type: ignore[no-untyped-def]
    """Return the first place in [low, high) whose time is later than `time_ms`, else `high`."""
    while low < high:
        middle = (low + high) >> 1
        if word_at(store, base + middle) <= time_ms:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def chunk_size(plan, capacity):  # type: ignore[no-untyped-def]
    """Return the words of a chunk of so many rows."""
    return capacity * shape(plan, P_QUARTERS) >> 2


@compiled
def index_size(plan, capacity):  # type: ignore[no-untyped-def]
    """Return the words of an index over a chunk of so many rows, its maps apart."""
    blocks = (capacity + BLOCK_ROWS - 1) // BLOCK_ROWS
    return shape(plan, P_BLOCKS) + blocks * (2 * shape(plan, P_EXTREMES) + shape(plan, P_LAST))


@compiled
def words_needed(plan, count):  # type: ignore[no-untyped-def]
    """Return at most how many words one row may take for an entity with `count` rows, whatever happens."""
    capacity = 2 * count + 64
    words = 2 * chunk_size(plan, capacity) + 2 * index_size(plan, capacity)
    for term in range(number_of(plan, D_TEXT_TERMS)):
        words += text_term_at(plan, term, X_ENTRY_WORDS) * (8 * count + 256)
    return words + 64


@compiled
def drop_index(store, plan, slot):  # type: ignore[no-untyped-def]
    """Give an entity's index back; it is built anew where it is needed."""
    index = header(store, slot, H_INDEX)
    if index < 0:
        return
    for term in range(number_of(plan, D_TEXT_TERMS)):
        at = index + shape(plan, P_MAPS) + MAP_WORDS * term
        if word_at(store, at + MAP_LENGTH) > 0:
            words = word_at(store, at + MAP_LENGTH) * text_term_at(plan, term, X_ENTRY_WORDS)
            release(store, word_at(store, at + MAP_BASE), words)
    release(store, index, index_size(plan, header(store, slot, H_CAPACITY)))
    put_header(store, slot, H_INDEX, -1)


@compiled
def forget_rows(store, plan, slot):  # type: ignore[no-untyped-def]
    """Give back an entity's rows and index."""
    drop_index(store, plan, slot)
    capacity = header(store, slot, H_CAPACITY)
    if capacity > 0:
        release(store, header(store, slot, H_BASE), chunk_size(plan, capacity))
    put_count(store, C_ROWS, count_of(store, C_ROWS) - (header(store, slot, H_COUNT)))
    put_header(store, slot, H_BASE, -1)
    put_header(store, slot, H_CAPACITY, 0)
    put_header(store, slot, H_START, 0)
    put_header(store, slot, H_COUNT, 0)
    put_header(store, slot, H_NEWEST_MS, NO_TIME)
    put_header(store, slot, H_DROPPED_MS, NO_TIME)


@compiled
def move_rows(store, plan, origin, to, place, count):  # type: ignore[no-untyped-def]
    """Copy `count` rows from place `place[0]` of a chunk to `place[1]` of another (or the same).

    Args:
        origin, to: (base, capacity) of the chunks. Within one chunk, rows move down, or up by any number.
    """
    copy_rows(plan, (word(store, K_WORDS), word(store, K_WORDS)), origin, to, place, count)


@compiled
def copy_rows(plan, memory, origin, to, place, count):  # type: ignore[no-untyped-def]
    """Copy rows between chunks of two memories, given by the addresses of their words."""
    source, target = memory
    down = place[1] <= place[0]
    words = 1 if shape(plan, P_RESOLUTION_MS) == 0 else shape(plan, P_QUARTERS) >> 2
    for column in range(words):
        first, second = origin[0] + origin[1] * column + place[0], to[0] + to[1] * column + place[1]
        for k in range(count):
            i = k if down else count - 1 - k
            put_word(target, second + i, word(source, first + i))
    if shape(plan, P_RESOLUTION_MS) > 0:
        return
    column = 4
    for _ in range(shape(plan, P_WIDE)):
        first, second = 2 * origin[0] + (origin[1] * column >> 1), 2 * to[0] + (to[1] * column >> 1)
        for k in range(count):
            i = k if down else count - 1 - k
            put_half(target, second + place[1] + i, half(source, first + place[0] + i))
        column += 2
    while column < shape(plan, P_QUARTERS):
        first, second = 4 * origin[0] + origin[1] * column, 4 * to[0] + to[1] * column
        for k in range(count):
            i = k if down else count - 1 - k
            put_quarter(target, second + place[1] + i, quarter(source, first + place[0] + i))
        column += 1


@compiled
def enlarged(capacity):  # type: ignore[no-untyped-def]
    """Return the next capacity: a quarter more, a multiple of 4."""
    return max(CAPACITY_MIN, capacity + max(4, (capacity // 4 + 3) // 4 * 4))


@compiled
def resize(store, plan, slot, capacity):  # type: ignore[no-untyped-def]
    """Move an entity's rows into a chunk of another capacity; its index goes."""
    drop_index(store, plan, slot)
    base, former = header(store, slot, H_BASE), header(store, slot, H_CAPACITY)
    fresh = allocate(store, chunk_size(plan, capacity))
    if former > 0:
        start, count = header(store, slot, H_START), header(store, slot, H_COUNT)
        move_rows(store, plan, (base, former), (fresh, capacity), (start, 0), count)
        release(store, base, chunk_size(plan, former))
    put_header(store, slot, H_BASE, fresh)
    put_header(store, slot, H_CAPACITY, capacity)
    put_header(store, slot, H_START, 0)


@compiled
def write_row(store, plan, base, capacity, place, batch, i):  # type: ignore[no-untyped-def]
    """Write row i of a batch at a place of a chunk."""
    put_word_at(store, base + place, batch_time(batch, i))
    for m in range(number_of(plan, D_MEASURES)):
        value = batch_value(batch, i, m)
        if value == MISSING:
            value = MISSING_48
        put_half_at(store, 2 * base + (capacity * measure_at(plan, m, 0) >> 1) + place, value)
        put_quarter_at(store, 4 * base + capacity * measure_at(plan, m, 1) + place, value >> 32)
    for k in range(number_of(plan, D_TEXTS)):
        key = batch_key(batch, i, k)
        if text_column(plan, k, 0) < 0:
            put_quarter_at(store, 4 * base + capacity * text_column(plan, k, 1) + place, key)
            continue
        put_half_at(store, 2 * base + (capacity * text_column(plan, k, 0) >> 1) + place, key)
        put_quarter_at(store, 4 * base + capacity * text_column(plan, k, 1) + place, key >> 32)
    if shape(plan, P_MASK) >= 0:
        put_quarter_at(store, 4 * base + capacity * shape(plan, P_MASK) + place, batch_bits(batch, i))


@compiled
def add_to_tile(store, plan, base, capacity, place, batch, i, fresh):  # type: ignore[no-untyped-def]
    """Add row i of a batch to a tile; `fresh` tiles are emptied first."""
    for term in range(number_of(plan, D_TERMS)):
        if fresh:
            for part in range(T_COUNT_AT, T_MAX_AT + 1):
                if term_at(plan, term, part) >= 0:
                    put_word_at(store, base + (capacity * term_at(plan, term, part) >> 2) + place, 0)
        count, total, high, low = batch_part(plan, batch, term, i)
        if count == 0:
            continue
        before = tile_at(store, base, capacity, term_at(plan, term, T_COUNT_AT), place)
        put_word_at(store, base + (capacity * term_at(plan, term, T_COUNT_AT) >> 2) + place, before + 1)
        if term_at(plan, term, T_SUM_AT) >= 0:
            put_word_at(store, base + (capacity * term_at(plan, term, T_SUM_AT) >> 2) + place, word_at(store, base + (capacity * term_at(plan, term, T_SUM_AT) >> 2) + place) + (total))
        if term_at(plan, term, T_HIGH_AT) >= 0:
            at_high = base + (capacity * term_at(plan, term, T_HIGH_AT) >> 2) + place
            at_low = base + (capacity * term_at(plan, term, T_LOW_AT) >> 2) + place
            high, low = add(np.uint64(word_at(store, at_high)), np.uint64(word_at(store, at_low)), high, low)
            put_word_at(store, at_high, np.int64(high))
            put_word_at(store, at_low, np.int64(low))
        if term_at(plan, term, T_MIN_AT) >= 0:
            at_min = base + (capacity * term_at(plan, term, T_MIN_AT) >> 2) + place
            at_max = base + (capacity * term_at(plan, term, T_MAX_AT) >> 2) + place
            put_word_at(store, at_min, min(word_at(store, at_min), total) if before > 0 else total)
            put_word_at(store, at_max, max(word_at(store, at_max), total) if before > 0 else total)


@compiled
def batch_part(plan, batch, term, i):  # type: ignore[no-untyped-def]
    """Return what row i of a batch adds to a term: count, sum, squares (two halves)."""
    need = term_at(plan, term, T_NEED)
    if need != 0 and batch_bits(batch, i) & need != need:
        return 0, 0, _NONE, _NONE
    measure = term_at(plan, term, T_MEASURE)
    if measure < 0:
        return 1, 0, _NONE, _NONE
    value = batch_value(batch, i, measure)
    if value == MISSING:
        return 0, 0, _NONE, _NONE
    high, low = square_of(value)
    return 1, value, high, low
