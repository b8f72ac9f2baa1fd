"""What an entity with many rows keeps beside them, so that a read costs the same with 100 rows as with 10,000.

Each window has a first and a last place, and what stands between them is kept added up: count, sum and squares of
each term, rows by hour, and for each text a map from its values to how often they stand in each window. A read at
time t moves both ends of every window to where t wants them: a row enters and leaves each window once in the
stream's life, and for a late row the ends move back by as much as it is late. Minimum and maximum, which cannot be
taken back, come from blocks of 16 rows.

All of it follows from the rows: it can be dropped at any time and is then built anew.

    an index: LOW (a window each), HIGH (same), then from the offsets of `plan.shape`: P_ACC four words a slot,
    P_HOURS 24 words an hour slot, P_DISTINCT one a text slot, P_MAPS three a text term, P_BLOCKS the minima and
    maxima of each block for each term with extremes, then the blocks' bits.
"""

from __future__ import annotations

import numpy as np

from fraudstream.compiled import compiled
from fraudstream.features.access import (
    D_TERMS,
    D_WINDOWS,
    add_word_at,
    by_window,
    half_at,
    header,
    hour_slot_at,
    number_of,
    order_at,
    put_half_at,
    put_header,
    put_word_at,
    shape,
    slot_at,
    term_at,
    text_slot_at,
    text_term_at,
    window_at,
    word_at,
)
from fraudstream.features.arena import allocate, release
from fraudstream.features.memory import word
from fraudstream.features.plan import (
    BLOCK_ROWS,
    P_ACC,
    P_BITS,
    P_BLOCKS,
    P_DISTINCT,
    P_EXTREMES,
    P_HOURS,
    P_MAPS,
    P_MASK,
    P_RESOLUTION_MS,
    P_ROW_BYTES,
    T_COUNT_AT,
    T_EXTREMES,
    X_ENTRY_WORDS,
    X_FIRST,
    X_NEED,
    X_TEXT,
)
from fraudstream.features.rows import (
    GREATEST,
    LEAST,
    MAP_BASE,
    MAP_LENGTH,
    MAP_USED,
    MAP_WORDS,
    blocks_in,
    fulfils,
    index_size,
    narrow_of,
    part_of,
    row_at,
    text_of,
    tile_part,
)
from fraudstream.features.table import H_BASE, H_CAPACITY, H_COUNT, H_INDEX, H_START
from fraudstream.features.wide import add, subtract

HOUR_MS = 3_600_000
_MAP_MIN = 16
_MIX = np.uint64(0x9E3779B97F4A7C15)


@compiled
def bounds_of(plan, window, time_ms):  # type: ignore[no-untyped-def]
    """Return (after, until): a row at `time_ms` sees rows later than the one and not later than the other."""
    until = time_ms - window_at(plan, window, 1)
    after = until - window_at(plan, window, 0)
    resolution_ms = shape(plan, P_RESOLUTION_MS)
    if resolution_ms > 0:
        return after // resolution_ms * resolution_ms - 1, until // resolution_ms * resolution_ms
    return after, until


@compiled
def build(store, plan, slot):  # type: ignore[no-untyped-def]
    """Make an entity's index with every window empty at the first row; the next `move_to` fills it."""
    base, capacity = header(store, slot, H_BASE), header(store, slot, H_CAPACITY)
    start, end = header(store, slot, H_START), header(store, slot, H_START) + header(store, slot, H_COUNT)
    index = allocate(store, index_size(plan, capacity))
    for i in range(shape(plan, P_BLOCKS)):
        put_word_at(store, index + i, 0)
    for i in range(2 * number_of(plan, D_WINDOWS)):
        put_word_at(store, index + i, start)
    put_header(store, slot, H_INDEX, index)
    fill_blocks(store, plan, index, base, capacity, (start, start, end))


@compiled
def block_at(plan, index, capacity, column):  # type: ignore[no-untyped-def]
    """Return the first word of one column of the blocks.

    Args:
        column: twice a term's number among those with extremes for its minima, one more for its maxima; behind
            them all the bits.
    """
    return index + shape(plan, P_BLOCKS) + blocks_in(capacity) * column


@compiled
def fill_blocks(store, plan, index, base, capacity, span):  # type: ignore[no-untyped-def]
    """Work out the blocks that hold places from `span[1]` to `span[2]` - 1; rows begin at `span[0]`."""
    first, changed, end = span
    if shape(plan, P_EXTREMES) == 0 and shape(plan, P_BITS) == 0:
        return
    for block in range(changed // BLOCK_ROWS, blocks_in(end)):
        low, high = max(first, block * BLOCK_ROWS), min(end, (block + 1) * BLOCK_ROWS)
        for term in range(number_of(plan, D_TERMS)):
            number = term_at(plan, term, T_EXTREMES)
            if number < 0:
                continue
            least, greatest = GREATEST, LEAST
            for i in range(low, high):
                _, _, _, _, small, large = part_of(plan, row_at(store, plan, base, i), term)
                least, greatest = min(least, small), max(greatest, large)
            put_word_at(store, block_at(plan, index, capacity, 2 * number) + block, least)
            put_word_at(store, block_at(plan, index, capacity, 2 * number + 1) + block, greatest)
        if shape(plan, P_BITS):
            bits = 0
            for i in range(low, high):
                bits |= narrow_of(row_at(store, plan, base, i), shape(plan, P_MASK))
            at = block_at(plan, index, capacity, 2 * shape(plan, P_EXTREMES)) + block
            put_word_at(store, at, bits)


@compiled
def note_row(store, plan, index, base, capacity, place):  # type: ignore[no-untyped-def]
    """Take the row appended at a place into its block."""
    if shape(plan, P_EXTREMES) == 0 and shape(plan, P_BITS) == 0:
        return
    block, opens = place // BLOCK_ROWS, place % BLOCK_ROWS == 0
    row = row_at(store, plan, base, place)
    for term in range(number_of(plan, D_TERMS)):
        number = term_at(plan, term, T_EXTREMES)
        if number < 0:
            continue
        _, _, _, _, small, large = part_of(plan, row, term)
        minimum = block_at(plan, index, capacity, 2 * number) + block
        maximum = block_at(plan, index, capacity, 2 * number + 1) + block
        put_word_at(store, minimum, small if opens else min(word_at(store, minimum), small))
        put_word_at(store, maximum, large if opens else max(word_at(store, maximum), large))
    if shape(plan, P_BITS):
        bits = narrow_of(row, shape(plan, P_MASK))
        at = block_at(plan, index, capacity, 2 * shape(plan, P_EXTREMES)) + block
        put_word_at(store, at, bits if opens else word_at(store, at) | bits)


@compiled
def extremes(store, plan, index, chunk, term, span):  # type: ignore[no-untyped-def]
    """Return the least and the greatest of a term over places span[0] to span[1] - 1; rows end at span[2]."""
    base, capacity = chunk
    low, high, end = span
    number = term_at(plan, term, T_EXTREMES)
    minima, maxima = (
        block_at(plan, index, capacity, 2 * number),
        block_at(plan, index, capacity, 2 * number + 1),
    )
    least, greatest = GREATEST, LEAST
    i = low
    while i < high and i % BLOCK_ROWS != 0:
        _, _, _, _, small, large = part_of(plan, row_at(store, plan, base, i), term)
        least, greatest = min(least, small), max(greatest, large)
        i += 1
    if i >= high:
        return least, greatest
    first, last = i // BLOCK_ROWS, high // BLOCK_ROWS
    if high == end:
        last = blocks_in(high)
    for block in range(first, last):
        least = min(least, word_at(store, minima + block))
        greatest = max(greatest, word_at(store, maxima + block))
    i = last * BLOCK_ROWS
    while i < high:
        _, _, _, _, small, large = part_of(plan, row_at(store, plan, base, i), term)
        least, greatest = min(least, small), max(greatest, large)
        i += 1
    return least, greatest


@compiled
def home_of(key, length):  # type: ignore[no-untyped-def]
    """Return the place of a map where a value's entry should be."""
    return np.int64((np.uint64(key) * _MIX) >> np.uint64(32)) & (length - 1)


@compiled
def entry_of(store, plan, index, term, key):  # type: ignore[no-untyped-def]
    """Return the first word of a value's entry in a text term's map, or -1."""
    at = index + shape(plan, P_MAPS) + MAP_WORDS * term
    length, words = word_at(store, at + MAP_LENGTH), text_term_at(plan, term, X_ENTRY_WORDS)
    if length == 0:
        return -1
    place = home_of(key, length)
    while True:
        entry = word_at(store, at + MAP_BASE) + place * words
        if word_at(store, entry) == key:
            return entry
        if word_at(store, entry) == 0:
            return -1
        place = (place + 1) & (length - 1)


@compiled
def count_in(store, plan, entry, term, text_slot):  # type: ignore[no-untyped-def]
    """Return how often an entry's value stands in the window of a text slot."""
    return np.int64(half_at(store, 2 * (entry + 2) + text_slot - text_term_at(plan, term, X_FIRST)))


@compiled
def _place_entry(store, plan, base, length, words, key):  # type: ignore[no-untyped-def]
    """Return the entry of a value in a map, or the empty one that it shall take."""
    place = home_of(key, length)
    while word_at(store, base + place * words) != 0 and word_at(store, base + place * words) != key:
        place = (place + 1) & (length - 1)
    return base + place * words


@compiled
def _is_live(store, plan, entry, words):  # type: ignore[no-untyped-def]
    for i in range(2, words):  # noqa: SIM110 -- numba knows no any()
        if word_at(store, entry + i) != 0:
            return True
    return False


@compiled
def _make_map_room(store, plan, at, words):  # type: ignore[no-untyped-def]
    """Rebuild a map that is three quarters full, without the values that stand in no window."""
    base, length = word_at(store, at + MAP_BASE), word_at(store, at + MAP_LENGTH)
    if length > 0 and (word_at(store, at + MAP_USED) + 1) * 4 <= length * 3:
        return
    live = 0
    for place in range(length):
        entry = base + place * words
        live += word_at(store, entry) != 0 and _is_live(store, plan, entry, words)
    larger = _MAP_MIN
    while larger < 2 * (live + 1):
        larger *= 2
    fresh = allocate(store, larger * words)
    for i in range(larger * words):
        put_word_at(store, fresh + i, 0)
    for place in range(length):
        entry = base + place * words
        if word_at(store, entry) != 0 and _is_live(store, plan, entry, words):
            to = _place_entry(store, plan, fresh, larger, words, word_at(store, entry))
            for i in range(words):
                put_word_at(store, to + i, word_at(store, entry + i))
    if length > 0:
        release(store, base, length * words)
    put_word_at(store, at + MAP_BASE, fresh)
    put_word_at(store, at + MAP_LENGTH, larger)
    put_word_at(store, at + MAP_USED, live)


@compiled
def _count_text(store, plan, index, text_slot, row, sign):  # type: ignore[no-untyped-def]
    """Let the row at an address enter (1) or leave (-1) the window of a text slot."""
    term = text_slot_at(plan, text_slot, 0)
    if not fulfils(plan, row, text_term_at(plan, term, X_NEED)):
        return
    key = text_of(plan, row, text_term_at(plan, term, X_TEXT))
    if key == 0:
        return
    at = index + shape(plan, P_MAPS) + MAP_WORDS * term
    words = text_term_at(plan, term, X_ENTRY_WORDS)
    if sign > 0:
        _make_map_room(store, plan, at, words)
    entry = _place_entry(
        store, plan, word_at(store, at + MAP_BASE), word_at(store, at + MAP_LENGTH), words, key
    )
    if word_at(store, entry) == 0:
        put_word_at(store, entry, key)
        put_word_at(store, entry + 1, LEAST)
        add_word_at(store, at + MAP_USED, 1)
    counter = 2 * (entry + 2) + text_slot - text_term_at(plan, term, X_FIRST)
    before = half_at(store, counter)
    put_half_at(store, counter, before + sign)
    if sign > 0:
        put_word_at(store, entry + 1, max(word_at(store, entry + 1), word(row, 0)))
    if before + min(sign, 0) == 0:  # the first to come, or the last to go
        add_word_at(store, index + shape(plan, P_DISTINCT) + text_slot, sign)


@compiled
def add_sums(store, plan, index, slot, part, sign):  # type: ignore[no-untyped-def]
    """Add (1) to a slot's sums, or take from them (-1), what a row is: count, sum, squares (two halves)."""
    count, total, high, low = part
    at = index + shape(plan, P_ACC) + 4 * slot
    add_word_at(store, at, sign * count)
    add_word_at(store, at + 1, sign * total)
    first, second = np.uint64(word_at(store, at + 2)), np.uint64(word_at(store, at + 3))
    first, second = add(first, second, high, low) if sign > 0 else subtract(first, second, high, low)
    put_word_at(store, at + 2, np.int64(first))
    put_word_at(store, at + 3, np.int64(second))


@compiled
def add_hours(store, plan, index, hour_slot, time_ms, rows):  # type: ignore[no-untyped-def]
    """Add rows of one instant to an hour slot."""
    hour = (time_ms // HOUR_MS) % 24
    add_word_at(store, index + shape(plan, P_HOURS) + 24 * hour_slot + hour, rows)


@compiled
def rows_that_count(plan, row, counted):  # type: ignore[no-untyped-def]
    """Return how many rows a row (or tile) is for an hour slot, which `counted` is the first column of."""
    if shape(plan, P_RESOLUTION_MS) > 0:
        return tile_part(row, term_at(plan, counted, T_COUNT_AT))
    return np.int64(fulfils(plan, row, counted))


@compiled
def _count_row(store, plan, index, window, row, sign):  # type: ignore[no-untyped-def]
    """Let the row at an address enter (1) or leave (-1) a window."""
    for o in range(by_window(plan, window, 0), by_window(plan, window, 1)):
        slot = order_at(plan, o)
        part = part_of(plan, row, slot_at(plan, slot, 0))
        add_sums(store, plan, index, slot, part[:4], sign)
    for o in range(by_window(plan, window, 2), by_window(plan, window, 3)):
        _count_text(store, plan, index, order_at(plan, o), row, sign)
    for o in range(by_window(plan, window, 4), by_window(plan, window, 5)):
        slot = order_at(plan, o)
        rows = rows_that_count(plan, row, hour_slot_at(plan, slot, 0))
        add_hours(store, plan, index, slot, word(row, 0), sign * rows)


@compiled
def move_to(store, plan, slot, window, bounds):  # type: ignore[no-untyped-def]
    """Move a window's ends so that it holds the rows later than bounds[0] and not later than bounds[1]."""
    index, first = header(store, slot, H_INDEX), row_at(store, plan, header(store, slot, H_BASE), 0)
    row_bytes = shape(plan, P_ROW_BYTES)
    start, end = header(store, slot, H_START), header(store, slot, H_START) + header(store, slot, H_COUNT)
    low, high = ends_of(store, plan, index, window)
    while high < end and word(first + row_bytes * high, 0) <= bounds[1]:
        _count_row(store, plan, index, window, first + row_bytes * high, 1)
        high += 1
    while low > start and word(first + row_bytes * (low - 1), 0) > bounds[0]:
        low -= 1
        _count_row(store, plan, index, window, first + row_bytes * low, 1)
    while low < high and word(first + row_bytes * low, 0) <= bounds[0]:
        _count_row(store, plan, index, window, first + row_bytes * low, -1)
        low += 1
    while high > low and word(first + row_bytes * (high - 1), 0) > bounds[1]:
        high -= 1
        _count_row(store, plan, index, window, first + row_bytes * high, -1)
    _put_ends(store, plan, index, window, (low, high))
    return low, high


@compiled
def enter(store, plan, slot, place):  # type: ignore[no-untyped-def]
    """Let the row appended at a place enter the windows without a lag: what it needs was just read."""
    index = header(store, slot, H_INDEX)
    row = row_at(store, plan, header(store, slot, H_BASE), place)
    for window in range(number_of(plan, D_WINDOWS)):
        low, high = ends_of(store, plan, index, window)
        if high == place and window_at(plan, window, 1) == 0:
            _count_row(store, plan, index, window, row, 1)
            _put_ends(store, plan, index, window, (low, place + 1))


@compiled
def ends_of(store, plan, index, window):  # type: ignore[no-untyped-def]
    """Return the first place of a window, and the one behind its last."""
    return word_at(store, index + window), word_at(store, index + number_of(plan, D_WINDOWS) + window)


@compiled
def _put_ends(store, plan, index, window, ends):  # type: ignore[no-untyped-def]
    put_word_at(store, index + window, ends[0])
    put_word_at(store, index + number_of(plan, D_WINDOWS) + window, ends[1])


@compiled
def let_go_of_first(store, plan, slot):  # type: ignore[no-untyped-def]
    """Take an entity's first row out of every window that holds it, before it is dropped."""
    index, start = header(store, slot, H_INDEX), header(store, slot, H_START)
    if index < 0:
        return
    row = row_at(store, plan, header(store, slot, H_BASE), start)
    for window in range(number_of(plan, D_WINDOWS)):
        low, high = ends_of(store, plan, index, window)
        if low == start:
            if high > start:
                _count_row(store, plan, index, window, row, -1)
            _put_ends(store, plan, index, window, (start + 1, max(high, start + 1)))


@compiled
def shift(store, plan, slot, places):  # type: ignore[no-untyped-def]
    """Follow rows that moved down by a whole number of blocks."""
    index = header(store, slot, H_INDEX)
    for i in range(2 * number_of(plan, D_WINDOWS)):
        add_word_at(store, index + i, -places)
    capacity, moved = header(store, slot, H_CAPACITY), places // BLOCK_ROWS
    used = blocks_in(header(store, slot, H_START) + header(store, slot, H_COUNT))
    for column in range(2 * shape(plan, P_EXTREMES) + shape(plan, P_BITS)):
        at = block_at(plan, index, capacity, column)
        for block in range(used):
            put_word_at(store, at + block, word_at(store, at + block + moved))
