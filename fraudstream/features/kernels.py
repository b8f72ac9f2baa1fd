"""One pass a micro-batch and stage: each row reads its entity's windows as they stand, then takes its place there.

Nothing here depends on where a batch begins.
"""

from __future__ import annotations

import numpy as np

from fraudstream.compiled import compiled
from fraudstream.features.access import (
    D_OPS,
    D_SLOTS,
    D_TERMS,
    D_WINDOWS,
    add_count,
    add_flag,
    add_header,
    allocator_at,
    arena_words,
    batch_stored,
    batch_time,
    by_window,
    count_of,
    header,
    hour_slot_at,
    mark_bits,
    mark_count,
    mark_key,
    mark_row,
    mark_sign,
    mark_slot,
    mark_source,
    mark_time,
    number_of,
    op_at,
    order_at,
    put_feature,
    put_header,
    put_stored,
    shape,
    slot_at,
    store_of,
    term_at,
)
from fraudstream.features.ahead import (
    ENDS_AHEAD,
    ENTRIES_AHEAD,
    HEADER_AHEAD,
    ROWS_AHEAD,
    fetch_ends,
    fetch_entries,
    fetch_header,
    fetch_rows,
)
from fraudstream.features.arena import BUMP
from fraudstream.features.index import (
    add_hours,
    add_sums,
    ends_of,
    enter,
    fill_blocks,
    let_go_of_first,
    note_row,
    shift,
)
from fraudstream.features.memory import put_quarter, put_word, word
from fraudstream.features.plan import (
    BLOCK_ROWS,
    FRAUD_BIT,
    OP_OUT,
    P_ID,
    P_MASK,
    P_REACH_MS,
    P_RESOLUTION_MS,
    T_COUNT_AT,
    T_NEED,
)
from fraudstream.features.reading import read
from fraudstream.features.rows import (
    add_to_tile,
    batch_part,
    drop_index,
    enlarged,
    forget_rows,
    let_go,
    move_rows,
    narrow_of,
    part_of,
    resize,
    row_at,
    rows_until,
    text_of,
    time_at,
    words_needed,
    write_row,
)
from fraudstream.features.table import (
    C_HEADERS,
    C_ROWS,
    H_BASE,
    H_CAPACITY,
    H_COUNT,
    H_DROPPED_MS,
    H_HASH,
    H_INDEX,
    H_NEWEST_MS,
    H_START,
    UNTRACKED,
)

_NONE = np.uint64(0)
FLAG_LATE, FLAG_CAPPED, FLAG_UNTRACKED = 1, 2, 4


@compiled
def _tile_of(plan, time_ms):  # type: ignore[no-untyped-def]
    """Return the time that a row is kept under: the start of its tile, where there are tiles."""
    resolution_ms = shape(plan, P_RESOLUTION_MS)
    return time_ms // resolution_ms * resolution_ms if resolution_ms > 0 else time_ms


@compiled
def _in_time_from(plan, newest_ms, lateness_ms):  # type: ignore[no-untyped-def]
    """Return from when on a row is in time behind the newest one: from the start of a tile, where there are tiles."""
    return _tile_of(plan, _tile_of(plan, newest_ms) - lateness_ms)


@compiled
def _drop_first(store, plan, slot):  # type: ignore[no-untyped-def]
    add_header(store, slot, H_START, 1)
    add_header(store, slot, H_COUNT, -1)
    add_count(store, C_ROWS, -1)


@compiled
def _forget_until(store, plan, slot, forget_ms):  # type: ignore[no-untyped-def]
    """Drop the rows that no row in time can see: they stand in no window any more."""
    while (
        header(store, slot, H_COUNT) > 0
        and time_at(store, plan, header(store, slot, H_BASE), header(store, slot, H_START)) <= forget_ms
    ):
        _drop_first(store, plan, slot)


@compiled
def _make_room(store, plan, slot):  # type: ignore[no-untyped-def]
    """Let one more row fit behind the last one."""
    start, count = header(store, slot, H_START), header(store, slot, H_COUNT)
    capacity = header(store, slot, H_CAPACITY)
    if start + count < capacity:
        return
    if capacity > 64 and count < capacity // 4:
        resize(store, plan, slot, (count // 4 + 6) * 4)
        return
    places = start
    if header(store, slot, H_INDEX) >= 0:
        places = start // BLOCK_ROWS * BLOCK_ROWS
    if places == 0 or (capacity > 64 and places < capacity // 8):
        resize(store, plan, slot, enlarged(capacity))
        return
    base = header(store, slot, H_BASE)
    move_rows(store, plan, (base, start), (base, start - places), count)
    put_header(store, slot, H_START, start - places)
    if header(store, slot, H_INDEX) >= 0:
        shift(store, plan, slot, places)


@compiled
def _insert(store, plan, slot, batch, row):  # type: ignore[no-untyped-def]
    """Put a row in its place by event time. It was just read, so no window holds anything behind it."""
    _make_room(store, plan, slot)
    base, capacity = header(store, slot, H_BASE), header(store, slot, H_CAPACITY)
    start, index = header(store, slot, H_START), header(store, slot, H_INDEX)
    end = start + header(store, slot, H_COUNT)
    time_ms = batch_time(batch, row)
    place = end
    if end > start and time_at(store, plan, base, end - 1) > time_ms:
        place = rows_until(store, plan, base, start, end, time_ms)
        move_rows(store, plan, (base, place), (base, place + 1), end - place)
    write_row(plan, row_at(store, plan, base, place), batch, row)
    add_header(store, slot, H_COUNT, 1)
    add_count(store, C_ROWS, 1)
    if index >= 0:
        if place == end:
            note_row(store, plan, index, base, capacity, place)
            enter(store, plan, slot, place)
        else:
            fill_blocks(store, plan, index, base, capacity, (start, place, end + 1))


@compiled
def _add_to_windows(store, plan, slot, place, batch, row):  # type: ignore[no-untyped-def]
    """Add a row to what the index says of its tile, which has just taken it in."""
    index, base = header(store, slot, H_INDEX), header(store, slot, H_BASE)
    for window in range(number_of(plan, D_WINDOWS)):
        low, high = ends_of(store, plan, index, window)
        if not low <= place < high:
            continue
        for o in range(by_window(plan, window, 0), by_window(plan, window, 1)):
            number = order_at(plan, o)
            part = batch_part(plan, batch, slot_at(plan, number, 0), row)
            add_sums(store, plan, index, number, part, 1)
        for o in range(by_window(plan, window, 4), by_window(plan, window, 5)):
            number = order_at(plan, o)
            part = batch_part(plan, batch, hour_slot_at(plan, number, 0), row)
            add_hours(store, plan, index, number, time_at(store, plan, base, place), part[0])
    start = header(store, slot, H_START)
    end = min(start + header(store, slot, H_COUNT), (place // BLOCK_ROWS + 1) * BLOCK_ROWS)
    fill_blocks(store, plan, index, base, header(store, slot, H_CAPACITY), (start, place, end))


@compiled
def _insert_into_tile(store, plan, slot, batch, row, tile_ms):  # type: ignore[no-untyped-def]
    """Add a row to its tile, a new one where there is none."""
    base, start = header(store, slot, H_BASE), header(store, slot, H_START)
    end = start + header(store, slot, H_COUNT)
    place = rows_until(store, plan, base, start, end, tile_ms)
    if place > start and time_at(store, plan, base, place - 1) == tile_ms:
        place -= 1
        add_to_tile(plan, row_at(store, plan, base, place), batch, row, False)
        if header(store, slot, H_INDEX) >= 0:
            _add_to_windows(store, plan, slot, place, batch, row)
        return
    _make_room(store, plan, slot)
    base, capacity = header(store, slot, H_BASE), header(store, slot, H_CAPACITY)
    place += header(store, slot, H_START) - start
    end += header(store, slot, H_START) - start
    if place < end:
        move_rows(store, plan, (base, place), (base, place + 1), end - place)
    put_word(row_at(store, plan, base, place), 0, tile_ms)
    add_to_tile(plan, row_at(store, plan, base, place), batch, row, True)
    add_header(store, slot, H_COUNT, 1)
    add_count(store, C_ROWS, 1)
    if header(store, slot, H_INDEX) >= 0:
        index, start = header(store, slot, H_INDEX), header(store, slot, H_START)
        fill_blocks(store, plan, index, base, capacity, (start, place, end + 1))


@compiled
def _place_of(store, plan, slot, time_ms, key):  # type: ignore[no-untyped-def]
    """Return the place of a transaction's row (or tile), or -1 where it is not kept any more."""
    base, start = header(store, slot, H_BASE), header(store, slot, H_START)
    place = rows_until(store, plan, base, start, start + header(store, slot, H_COUNT), time_ms) - 1
    while place >= start and time_at(store, plan, base, place) == time_ms:
        if shape(plan, P_RESOLUTION_MS) > 0:
            return place
        if text_of(plan, row_at(store, plan, base, place), shape(plan, P_ID)) == key:
            return place
        place -= 1
    return -1


@compiled
def _is_marked_in(plan, term, bits):  # type: ignore[no-untyped-def]
    """Tell whether a mark changes a term: it counts frauds, and the row fulfils the rest of it."""
    need = term_at(plan, term, T_NEED)
    return need & FRAUD_BIT != 0 and bits & need == need


@compiled
def _flip_fraud(plan, row):  # type: ignore[no-untyped-def]
    put_quarter(row + shape(plan, P_MASK), 0, narrow_of(row, shape(plan, P_MASK)) ^ FRAUD_BIT)


@compiled
def _mark(store, plan, marks, mark):  # type: ignore[no-untyped-def]
    """Mark a transaction of an entity as fraud (1), or take the mark back (-1)."""
    slot, sign, bits = mark_slot(marks, mark), mark_sign(marks, mark), mark_bits(marks, mark) | FRAUD_BIT
    resolution_ms = shape(plan, P_RESOLUTION_MS)
    place = _place_of(store, plan, slot, _tile_of(plan, mark_time(marks, mark)), mark_key(marks, mark))
    if place < 0:
        return
    base = header(store, slot, H_BASE)
    row, index = row_at(store, plan, base, place), header(store, slot, H_INDEX)
    if resolution_ms == 0 and sign > 0:
        _flip_fraud(plan, row)
    for term in range(number_of(plan, D_TERMS)):
        if resolution_ms > 0 and _is_marked_in(plan, term, bits):
            at = row + term_at(plan, term, T_COUNT_AT)
            put_word(at, 0, word(at, 0) + sign)
    for s in range(number_of(plan, D_SLOTS) if index >= 0 else 0):
        term = slot_at(plan, s, 0)
        low, high = ends_of(store, plan, index, slot_at(plan, s, 1))
        if _is_marked_in(plan, term, bits) and low <= place < high:
            part = part_of(plan, row, term)[:4] if resolution_ms == 0 else (1, 0, _NONE, _NONE)
            add_sums(store, plan, index, s, part, sign)
    if resolution_ms == 0 and sign < 0:
        _flip_fraud(plan, row)
    if index >= 0 and resolution_ms == 0:
        start = header(store, slot, H_START)
        end = min(start + header(store, slot, H_COUNT), (place // BLOCK_ROWS + 1) * BLOCK_ROWS)
        fill_blocks(store, plan, index, base, header(store, slot, H_CAPACITY), (start, place, end))


@compiled
def _set_marks(stores, plan, batch, marks, mark, row):  # type: ignore[no-untyped-def]
    """Set the marks from `mark` on that a row sees; return the next."""
    while mark < mark_count(marks) and mark_row(marks, mark) <= row:
        slot, source = mark_slot(marks, mark), mark_source(marks, mark)
        if slot >= 0 and (source < 0 or batch_stored(batch, source) == 1):
            _mark(store_of(stores, header(stores, slot, H_HASH)), plan, marks, mark)
        mark += 1
    return mark


@compiled
def _take_in(store, plan, slot, batch, row, bounds):  # type: ignore[no-untyped-def]
    """Keep a row that has been read, within the bounds.

    Args:
        bounds: (rows_max, lateness_ms, the time before which nothing of the stream is kept).
    """
    rows_max, lateness_ms, idle_ms = bounds
    reach_ms = shape(plan, P_REACH_MS)
    time_ms = _tile_of(plan, batch_time(batch, row))
    newest_ms = header(store, slot, H_NEWEST_MS)
    if header(store, slot, H_DROPPED_MS) > time_ms - reach_ms:
        add_flag(batch, row, FLAG_CAPPED)
    if time_ms < max(_in_time_from(plan, newest_ms, lateness_ms), idle_ms):
        add_flag(batch, row, FLAG_LATE)
        return
    newest_ms = max(newest_ms, time_ms)
    put_header(store, slot, H_NEWEST_MS, newest_ms)
    _forget_until(store, plan, slot, _in_time_from(plan, newest_ms, lateness_ms) - reach_ms)
    if shape(plan, P_RESOLUTION_MS) > 0:
        _insert_into_tile(store, plan, slot, batch, row, time_ms)
        put_stored(batch, row, 1)
        return
    if header(store, slot, H_COUNT) >= rows_max:
        oldest_ms = time_at(store, plan, header(store, slot, H_BASE), header(store, slot, H_START))
        put_header(store, slot, H_DROPPED_MS, max(header(store, slot, H_DROPPED_MS), min(oldest_ms, time_ms)))
        if oldest_ms > time_ms:
            return
        let_go_of_first(store, plan, slot)
        _drop_first(store, plan, slot)
    _insert(store, plan, slot, batch, row)
    put_stored(batch, row, 1)


@compiled
def observe(stores, plan, scratch, slots, batch, marks, bounds, start):  # type: ignore[no-untyped-def]
    """Read and keep rows from start[0] on, with the marks from start[1] on in between.

    Args:
        slots: [n] headers of the rows' entities.
        bounds: (rows_max, or 0 to read only; lateness_ms; newest time of all rows before the batch).

    Returns:
        The row and the mark to go on from: n and m, or where the arena must grow first.
    """
    rows_max, lateness_ms, watermark_ms = bounds
    row, mark = start
    for i in range(row if rows_max > 0 else 0):
        watermark_ms = max(watermark_ms, batch_time(batch, i))
    while row < len(slots):
        mark = _set_marks(stores, plan, batch, marks, mark, row)
        if row + HEADER_AHEAD < len(slots):
            fetch_header(stores, slots[row + HEADER_AHEAD])
        if row + ROWS_AHEAD < len(slots):
            fetch_rows(stores, plan, slots[row + ROWS_AHEAD])
        if row + ENDS_AHEAD < len(slots):
            fetch_ends(stores, plan, slots[row + ENDS_AHEAD], batch, row + ENDS_AHEAD)
        if row + ENTRIES_AHEAD < len(slots):
            fetch_entries(stores, plan, slots[row + ENTRIES_AHEAD], batch, row + ENTRIES_AHEAD)
        slot, time_ms = slots[row], batch_time(batch, row)
        idle_ms = _in_time_from(plan, watermark_ms, lateness_ms) - shape(plan, P_REACH_MS)
        if rows_max > 0:  # a row that is only looked at moves no stream
            watermark_ms = max(watermark_ms, time_ms)
        if slot < 0:
            for o in range(number_of(plan, D_OPS)):
                put_feature(batch, row, op_at(plan, o, OP_OUT), np.nan)
            if slot == UNTRACKED:
                add_flag(batch, row, FLAG_UNTRACKED)
            row += 1
            continue
        store = store_of(stores, header(stores, slot, H_HASH))
        if arena_words(store) - allocator_at(store, BUMP) < words_needed(plan, header(store, slot, H_COUNT)):
            return row, mark
        if header(store, slot, H_NEWEST_MS) < idle_ms:  # whether or not it has been swept by now
            forget_rows(store, plan, slot)
        if number_of(plan, D_OPS) > 0:
            read(store, plan, scratch, slot, batch, row)
        else:
            drop_index(store, plan, slot)
        if rows_max > 0:
            _take_in(store, plan, slot, batch, row, (rows_max, lateness_ms, idle_ms))
        row += 1
    return row, _set_marks(
        stores, plan, batch, marks, mark, row
    )  # of the last rows: the next batch sees them


@compiled
def sweep(stores, plan, span, idle_ms):  # type: ignore[no-untyped-def]
    """Let go of the entities with headers span[0] to span[1] - 1 whose newest row nobody can see any more."""
    for slot in range(span[0], min(span[1], count_of(stores, C_HEADERS))):
        if header(stores, slot, H_HASH) != 0 and header(stores, slot, H_NEWEST_MS) < idle_ms:
            let_go(store_of(stores, header(stores, slot, H_HASH)), plan, slot)
