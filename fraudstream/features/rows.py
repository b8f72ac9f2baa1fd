"""The rows of one entity: columns in a chunk of the arena, in event-time order, from `H_START` on.

A row behind the last is appended; one that comes late moves those behind it up by one. When the chunk's end is
reached the rows move to its front, if enough has been forgotten there, or into a larger chunk.
"""

from __future__ import annotations

import numpy as np

from fraudstream.compiled import compiled
from fraudstream.features.access import (
    D_MEASURES,
    D_TERMS,
    D_TEXT_TERMS,
    D_TEXTS,
    D_WINDOWS,
    K_WORDS,
    add_count,
    add_word_at,
    batch_bits,
    batch_key,
    batch_time,
    batch_value,
    header,
    measure_at,
    number_of,
    put_header,
    put_word_at,
    shape,
    term_at,
    text_column,
    text_term_at,
    word_at,
)
from fraudstream.features.arena import allocate, release
from fraudstream.features.memory import put_half, put_quarter, put_word, quarter, word
from fraudstream.features.plan import (
    BLOCK_ROWS,
    P_BITS,
    P_BLOCKS,
    P_EXTREMES,
    P_MAPS,
    P_MASK,
    P_RESOLUTION_MS,
    P_ROW_BYTES,
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
    H_INDEX,
    H_START,
    empty_header,
    remove,
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
def row_at(store, plan, base, i):  # type: ignore[no-untyped-def]
    """Return the address of the row at place i of the chunk at `base`."""
    return word(store, K_WORDS) + 8 * base + shape(plan, P_ROW_BYTES) * i


@compiled
def time_at(store, plan, base, i):  # type: ignore[no-untyped-def]
    """Return the time of the row at place i of the chunk at `base`."""
    return word(row_at(store, plan, base, i), 0)


@compiled
def wide_of(row, column):  # type: ignore[no-untyped-def]
    """Return a 48-bit value: a measure, or the hash of an id. Two bytes behind it are loaded and dropped."""
    return (word(row + column, 0) << 16) >> 16


@compiled
def narrow_of(row, column):  # type: ignore[no-untyped-def]
    """Return a 16-bit value: a category's code, or the bits of the filters."""
    return quarter(row + column, 0)


@compiled
def text_of(plan, row, text):  # type: ignore[no-untyped-def]
    """Return what stands for a text: 0 where there is none."""
    if text_column(plan, text, 1):
        return wide_of(row, text_column(plan, text, 0))
    return narrow_of(row, text_column(plan, text, 0))


@compiled
def fulfils(plan, row, need):  # type: ignore[no-untyped-def]
    """Tell whether a row has all the bits of `need`."""
    return need == 0 or narrow_of(row, shape(plan, P_MASK)) & need == need


@compiled
def tile_part(row, column):  # type: ignore[no-untyped-def]
    """Return one word of a tile; 0 for a part that is not kept."""
    return word(row + column, 0) if column >= 0 else 0


@compiled
def square_of(value):  # type: ignore[no-untyped-def]
    """Return value ** 2 in two halves."""
    size = np.uint64(abs(value))
    if size < _HALF:
        return _NONE, size * size
    return multiply(size, size)


@compiled
def part_of(plan, row, term):  # type: ignore[no-untyped-def]
    """Return what a row (or tile) adds to a term: count, sum, squares (two halves), minimum, maximum."""
    if shape(plan, P_RESOLUTION_MS) > 0:
        count = tile_part(row, term_at(plan, term, T_COUNT_AT))
        return (
            count,
            tile_part(row, term_at(plan, term, T_SUM_AT)),
            np.uint64(tile_part(row, term_at(plan, term, T_HIGH_AT))),
            np.uint64(tile_part(row, term_at(plan, term, T_LOW_AT))),
            tile_part(row, term_at(plan, term, T_MIN_AT)) if count > 0 else GREATEST,
            tile_part(row, term_at(plan, term, T_MAX_AT)) if count > 0 else LEAST,
        )
    if not fulfils(plan, row, term_at(plan, term, T_NEED)):
        return 0, 0, _NONE, _NONE, GREATEST, LEAST
    measure = term_at(plan, term, T_MEASURE)
    if measure < 0:
        return 1, 0, _NONE, _NONE, GREATEST, LEAST
    value = wide_of(row, measure_at(plan, measure))
    if value == MISSING_48:
        return 0, 0, _NONE, _NONE, GREATEST, LEAST
    if term_at(plan, term, T_SQUARES) == 0:
        return 1, value, _NONE, _NONE, value, value
    high, low = square_of(value)
    return 1, value, high, low, value, value


@compiled
def rows_until(store, plan, base, low, high, time_ms):  # type: ignore[no-untyped-def]
    """Return the first place in [low, high) whose time is later than `time_ms`, else `high`."""
    while low < high:
        middle = (low + high) >> 1
        if time_at(store, plan, base, middle) <= time_ms:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def chunk_size(plan, capacity):  # type: ignore[no-untyped-def]
    """Return the words of a chunk of so many rows."""
    return (capacity * shape(plan, P_ROW_BYTES) + 7) >> 3


@compiled
def blocks_in(rows):  # type: ignore[no-untyped-def]
    """Return how many blocks so many rows need."""
    return (rows + BLOCK_ROWS - 1) // BLOCK_ROWS


@compiled
def index_size(plan, capacity):  # type: ignore[no-untyped-def]
    """Return the words of an index over a chunk of so many rows, its maps apart."""
    return shape(plan, P_BLOCKS) + blocks_in(capacity) * (2 * shape(plan, P_EXTREMES) + shape(plan, P_BITS))


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
    add_count(store, C_ROWS, -(header(store, slot, H_COUNT)))
    empty_header(store, slot)


@compiled
def let_go(store, plan, slot):  # type: ignore[no-untyped-def]
    """Let go of an entity altogether."""
    forget_rows(store, plan, slot)
    remove(store, slot)


@compiled
def move_rows(store, plan, origin, to, count):  # type: ignore[no-untyped-def]
    """Copy `count` rows from one (chunk, place) to another, which may overlap."""
    source, target = row_at(store, plan, origin[0], origin[1]), row_at(store, plan, to[0], to[1])
    copy_octets(source, target, count * shape(plan, P_ROW_BYTES))


@compiled
def copy_octets(source, target, octets):  # type: ignore[no-untyped-def]
    """Copy an even number of bytes between two addresses, which may overlap."""
    words, rest = octets >> 3, (octets & 7) >> 1
    if target <= source:
        for i in range(words):
            put_word(target, i, word(source, i))
        for i in range(4 * words, 4 * words + rest):
            put_quarter(target, i, quarter(source, i))
        return
    for k in range(rest):
        put_quarter(target, 4 * words + rest - 1 - k, quarter(source, 4 * words + rest - 1 - k))
    for k in range(words):
        put_word(target, words - 1 - k, word(source, words - 1 - k))


@compiled
def enlarged(capacity):  # type: ignore[no-untyped-def]
    """Return the next capacity: a quarter more, a multiple of 4."""
    return max(CAPACITY_MIN, capacity + max(4, (capacity // 4 + 3) // 4 * 4))


@compiled
def resize(store, plan, slot, capacity):  # type: ignore[no-untyped-def]
    """Move an entity's rows into a chunk of another capacity, and its index along."""
    base, former = header(store, slot, H_BASE), header(store, slot, H_CAPACITY)
    start, count = header(store, slot, H_START), header(store, slot, H_COUNT)
    fresh = allocate(store, chunk_size(plan, capacity))
    first = start % BLOCK_ROWS if header(store, slot, H_INDEX) >= 0 else 0  # blocks keep their rows
    if former > 0:
        move_rows(store, plan, (base, start), (fresh, first), count)
        release(store, base, chunk_size(plan, former))
    put_header(store, slot, H_BASE, fresh)
    put_header(store, slot, H_CAPACITY, capacity)
    put_header(store, slot, H_START, first)
    if header(store, slot, H_INDEX) >= 0:
        _carry_index(store, plan, slot, former, start - first)


@compiled
def _carry_index(store, plan, slot, former, moved):  # type: ignore[no-untyped-def]
    """Make an index fit a chunk of another capacity, to which the rows moved down by whole blocks."""
    index, capacity = header(store, slot, H_INDEX), header(store, slot, H_CAPACITY)
    fresh = allocate(store, index_size(plan, capacity))
    for i in range(shape(plan, P_BLOCKS)):
        put_word_at(store, fresh + i, word_at(store, index + i))
    for i in range(2 * number_of(plan, D_WINDOWS)):
        add_word_at(store, fresh + i, -moved)
    before, after = blocks_in(former), blocks_in(capacity)
    skipped = moved // BLOCK_ROWS
    for column in range(2 * shape(plan, P_EXTREMES) + shape(plan, P_BITS)):
        for block in range(min(after, before - skipped)):
            value = word_at(store, index + shape(plan, P_BLOCKS) + before * column + skipped + block)
            put_word_at(store, fresh + shape(plan, P_BLOCKS) + after * column + block, value)
    release(store, index, index_size(plan, former))
    put_header(store, slot, H_INDEX, fresh)


@compiled
def _put_wide(row, column, value):  # type: ignore[no-untyped-def]
    put_half(row + column, 0, value)
    put_quarter(row + column + 4, 0, value >> 32)


@compiled
def write_row(plan, row, batch, i):  # type: ignore[no-untyped-def]
    """Write row i of a batch at an address."""
    put_word(row, 0, batch_time(batch, i))
    for m in range(number_of(plan, D_MEASURES)):
        value = batch_value(batch, i, m)
        _put_wide(row, measure_at(plan, m), MISSING_48 if value == MISSING else value)
    for k in range(number_of(plan, D_TEXTS)):
        if text_column(plan, k, 1):
            _put_wide(row, text_column(plan, k, 0), batch_key(batch, i, k))
        else:
            put_quarter(row + text_column(plan, k, 0), 0, batch_key(batch, i, k))
    if shape(plan, P_MASK) >= 0:
        put_quarter(row + shape(plan, P_MASK), 0, batch_bits(batch, i))


@compiled
def add_to_tile(plan, row, batch, i, fresh):  # type: ignore[no-untyped-def]
    """Add row i of a batch to the tile at an address; `fresh` tiles are emptied first."""
    for term in range(number_of(plan, D_TERMS)):
        if fresh:
            for part in range(T_COUNT_AT, T_MAX_AT + 1):
                if term_at(plan, term, part) >= 0:
                    put_word(row + term_at(plan, term, part), 0, 0)
        count, total, high, low = batch_part(plan, batch, term, i)
        if count == 0:
            continue
        at = row + term_at(plan, term, T_COUNT_AT)
        before = word(at, 0)
        put_word(at, 0, before + 1)
        if term_at(plan, term, T_SUM_AT) >= 0:
            at = row + term_at(plan, term, T_SUM_AT)
            put_word(at, 0, word(at, 0) + total)
        if term_at(plan, term, T_HIGH_AT) >= 0:
            at_high, at_low = row + term_at(plan, term, T_HIGH_AT), row + term_at(plan, term, T_LOW_AT)
            high, low = add(np.uint64(word(at_high, 0)), np.uint64(word(at_low, 0)), high, low)
            put_word(at_high, 0, np.int64(high))
            put_word(at_low, 0, np.int64(low))
        if term_at(plan, term, T_MIN_AT) >= 0:
            at_min, at_max = row + term_at(plan, term, T_MIN_AT), row + term_at(plan, term, T_MAX_AT)
            put_word(at_min, 0, min(word(at_min, 0), total) if before > 0 else total)
            put_word(at_max, 0, max(word(at_max, 0), total) if before > 0 else total)


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
