"""The first and the last row of a window that count, and the last that does not: when they were, what came since.

Rows of one time stand in no order: those since the last are later than it, those since the first not earlier.
"""

from __future__ import annotations

import numpy as np

from fraudstream.compiled import compiled
from fraudstream.features.access import end_at, header, op_at, shape, word_at
from fraudstream.features.codes import (
    IN_A_ROW,
    OTHERS_SINCE_LAST,
    TIME_SINCE_FIRST,
    TIME_SINCE_LAST,
    TIME_SINCE_OTHER,
)
from fraudstream.features.index import block_at
from fraudstream.features.plan import BLOCK_ROWS, OP_NEED, OP_WINDOW, P_EXTREMES
from fraudstream.features.rows import fulfils, row_at, rows_until, time_at
from fraudstream.features.table import H_BASE, H_CAPACITY, H_INDEX


@compiled
def seconds_since(time_ms, other_ms):  # type: ignore[no-untyped-def]
    """Return the seconds from one time to another."""
    return (time_ms - other_ms) / 1000.0


@compiled
def _last_with(store, plan, index, chunk, need, span):  # type: ignore[no-untyped-def]
    """Return the last place of [span[0], span[1]) with all bits of `need`, or -1."""
    base, capacity = chunk
    i = span[1] - 1
    while i >= span[0]:
        if index >= 0 and i % BLOCK_ROWS == BLOCK_ROWS - 1:
            at = block_at(plan, index, capacity, 2 * shape(plan, P_EXTREMES)) + i // BLOCK_ROWS
            if word_at(store, at) & need != need:
                i -= BLOCK_ROWS
                continue
        if fulfils(plan, row_at(store, plan, base, i), need):
            return i
        i -= 1
    return -1


@compiled
def _first_with(store, plan, index, chunk, need, span):  # type: ignore[no-untyped-def]
    """Return the first place of [span[0], span[1]) with all bits of `need`, or -1."""
    base, capacity = chunk
    i = span[0]
    while i < span[1]:
        if index >= 0 and i % BLOCK_ROWS == 0:
            at = block_at(plan, index, capacity, 2 * shape(plan, P_EXTREMES)) + i // BLOCK_ROWS
            if word_at(store, at) & need != need:
                i += BLOCK_ROWS
                continue
        if fulfils(plan, row_at(store, plan, base, i), need):
            return i
        i += 1
    return -1


@compiled
def of_found(store, plan, scratch, slot, o, code, n, time_ms):  # type: ignore[no-untyped-def]
    """Return an aggregate of the first or last row of a window that counts, of which there are n."""
    if n == 0:
        return np.nan
    window, need = op_at(plan, o, OP_WINDOW), op_at(plan, o, OP_NEED)
    base, index = header(store, slot, H_BASE), header(store, slot, H_INDEX)
    low, high = end_at(scratch, window, 0), end_at(scratch, window, 1)
    chunk = (base, header(store, slot, H_CAPACITY))
    if code in (TIME_SINCE_LAST, OTHERS_SINCE_LAST):
        place = _last_with(store, plan, index, chunk, need, (low, high)) if need != 0 else high - 1
    else:
        place = _first_with(store, plan, index, chunk, need, (low, high)) if need != 0 else low
    found_ms = time_at(store, plan, base, place)
    if code in (TIME_SINCE_LAST, TIME_SINCE_FIRST):
        return seconds_since(time_ms, found_ms)
    if code == OTHERS_SINCE_LAST:
        return float(high - rows_until(store, plan, base, place, high, found_ms))
    return float(high - rows_until(store, plan, base, low, place, found_ms - 1) - n)


@compiled
def of_last_other(store, plan, scratch, slot, o, code, n, time_ms):  # type: ignore[no-untyped-def]
    """Return an aggregate of a window's last row that does not count; n of its rows do.

    Costs as many steps as there are rows behind it.
    """
    base, window = header(store, slot, H_BASE), op_at(plan, o, OP_WINDOW)
    low, high = end_at(scratch, window, 0), end_at(scratch, window, 1)
    if n == high - low:
        return float(n) if code == IN_A_ROW else np.nan
    place = high - 1
    while fulfils(plan, row_at(store, plan, base, place), op_at(plan, o, OP_NEED)):
        place -= 1
    other_ms = time_at(store, plan, base, place)
    if code == TIME_SINCE_OTHER:
        return seconds_since(time_ms, other_ms)
    return float(high - rows_until(store, plan, base, place, high, other_ms))
