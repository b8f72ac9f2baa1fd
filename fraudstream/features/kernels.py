"""What a row reads from its entity's rows, and how it is put among them. numba, generic over the catalogue.

One pass a micro-batch and kind of entity: for each row, read the windows as they stand, then insert the row.
Nothing here depends on where a batch begins.

Cost: two binary searches a window at worst, constant time a sum, count, mean, std, z-score or ratio; min,
max, distinct, share and hour_habit walk the window's rows.
"""

from __future__ import annotations

import numba
import numpy as np

from fraudstream.features.state import (
    H_BASE,
    H_CAPACITY,
    H_COUNT,
    H_DROPPED_MS,
    H_HEAD,
    H_TOTALS,
    NO_TIME,
    RING_MIN,
    UNTRACKED,
    allocate,
    release,
)
from fraudstream.features.wide import add, multiply, spread, subtract

MISSING = np.iinfo(np.int64).min

FLAG_LATE, FLAG_CAPPED, FLAG_UNTRACKED = np.uint8(1), np.uint8(2), np.uint8(4)

COUNT, SUM, MEAN, STD, MIN, MAX, ZSCORE, RATIO, VELOCITY, TIME_SINCE_LAST, DISTINCT, SHARE, HOUR_HABIT = (
    range(13)
)

# Columns of `ops`, one row a feature: its code, window, baseline window, measure or text, column of X.
OP_CODE, OP_WINDOW, OP_BASELINE, OP_OF, OP_OUT = range(5)

_HOUR_MS = 3_600_000


@numba.njit(cache=True, inline="always")
def _at(header, position):  # type: ignore[no-untyped-def]
    """Return the arena row of the ring's n-th row."""
    return header[H_BASE] + ((header[H_HEAD] + position) & (header[H_CAPACITY] - 1))


@numba.njit(cache=True)
def _rows_until(arena, header, time_ms, stop):  # type: ignore[no-untyped-def]
    """Return how many of the first `stop` rows have an event time of at most `time_ms`."""
    low, high = 0, stop
    while low < high:
        middle = (low + high) >> 1
        if arena[_at(header, middle), 0] <= time_ms:
            low = middle + 1
        else:
            high = middle
    return low


@numba.njit(cache=True, inline="always")
def _before(arena, header, position, column):  # type: ignore[no-untyped-def]
    """Return a running sum as it stood before the n-th row."""
    if position < header[H_COUNT]:
        return arena[_at(header, position), column]
    return header[H_TOTALS + column]


@numba.njit(cache=True, inline="always")
def _between(arena, header, low, high, column):  # type: ignore[no-untyped-def]
    """Return the sum over rows low to high - 1."""
    return _before(arena, header, high, column) - _before(arena, header, low, column)


@numba.njit(cache=True)
def _present(arena, header, low, high, count_column):  # type: ignore[no-untyped-def]
    if count_column < 0:
        return high - low
    return _between(arena, header, low, high, count_column)


@numba.njit(cache=True)
def _spread(arena, header, low, high, n, measure):  # type: ignore[no-untyped-def]
    """Return n * sum(x**2) - sum(x)**2 over rows low to high - 1, exact before its one rounding."""
    total = _between(arena, header, low, high, measure[0])
    squares_high, squares_low = subtract(
        np.uint64(_before(arena, header, high, measure[2])),
        np.uint64(_before(arena, header, high, measure[3])),
        np.uint64(_before(arena, header, low, measure[2])),
        np.uint64(_before(arena, header, low, measure[3])),
    )
    return spread(n, total, squares_high, squares_low)


@numba.njit(cache=True)
def _extreme(arena, header, low, high, measure, largest):  # type: ignore[no-untyped-def]
    found = False
    best = np.int64(0)
    for i in range(low, high):
        if measure[1] >= 0 and _between(arena, header, i, i + 1, measure[1]) == 0:
            continue
        value = _between(arena, header, i, i + 1, measure[0])
        if not found or (value > best) == largest:
            best = value
        found = True
    return found, best


@numba.njit(cache=True)
def _of_measure(code, arena, header, low, high, measure, scale, value):  # type: ignore[no-untyped-def]
    """Return an aggregate over the measure's values in rows low to high - 1."""
    n = _present(arena, header, low, high, measure[1])
    total = _between(arena, header, low, high, measure[0])
    if code == SUM:
        return total / scale
    if n == 0:
        return np.nan
    if code == MEAN:
        return total / (n * scale)
    if code in (MIN, MAX):
        _, best = _extreme(arena, header, low, high, measure, code == MAX)
        return best / scale
    if code == RATIO:
        if value == MISSING or total == 0:
            return np.nan
        return np.float64(value * n) / np.float64(total)
    if n < 2:
        return np.nan
    deviation = np.sqrt(_spread(arena, header, low, high, n, measure) / np.float64(n * (n - 1)))
    if code == STD:
        return deviation / scale
    if value == MISSING or deviation == 0.0:
        return np.nan
    return np.float64(value * n - total) / np.float64(n) / deviation


@numba.njit(cache=True)
def _distinct(arena, header, low, high, column, scratch, stamps, stamp):  # type: ignore[no-untyped-def]
    """Count different hashes in rows low to high - 1, with a scratch table that a new stamp empties."""
    mask = np.uint64(len(scratch) - 1)
    different = 0
    for i in range(low, high):
        key = np.uint64(arena[_at(header, i), column])
        if key == np.uint64(0):
            continue
        at = key & mask
        while stamps[at] == stamp and scratch[at] != key:
            at = (at + np.uint64(1)) & mask
        if stamps[at] != stamp:
            stamps[at] = stamp
            scratch[at] = key
            different += 1
    return different


@numba.njit(cache=True)
def _share(arena, header, low, high, column, key):  # type: ignore[no-untyped-def]
    if key == 0 or high == low:
        return np.nan
    same = 0
    for i in range(low, high):
        same += arena[_at(header, i), column] == key
    return same / (high - low)


@numba.njit(cache=True)
def _hour_habit(arena, header, low, high, time_ms):  # type: ignore[no-untyped-def]
    if high == low:
        return np.nan
    hour = (time_ms // _HOUR_MS) % 24
    near = 0
    for i in range(low, high):
        apart = abs((arena[_at(header, i), 0] // _HOUR_MS) % 24 - hour)
        near += min(apart, 24 - apart) <= 1
    return near / (high - low)


@numba.njit(cache=True)
def _read(arena, header, time_ms, values, hashes, plan, scratch, stamps, stamp, x):  # type: ignore[no-untyped-def]
    """Fill one row of X from the entity's rows as they stand."""
    windows_ms, ops, measures, scales, texts, lows = plan
    count = header[H_COUNT]
    high = count
    if count > 0 and arena[_at(header, count - 1), 0] > time_ms:
        high = _rows_until(arena, header, time_ms, count)
    below = high
    for w in range(len(windows_ms)):  # ascending: a longer window begins no later
        if below > 0 and arena[_at(header, below - 1), 0] > time_ms - windows_ms[w]:
            below = _rows_until(arena, header, time_ms - windows_ms[w], below)
        lows[w] = below
    for o in range(len(ops)):
        code, of = ops[o, OP_CODE], ops[o, OP_OF]
        low = lows[ops[o, OP_WINDOW]]
        if code == COUNT:
            result = float(high - low)
        elif code == VELOCITY:
            longer = high - lows[ops[o, OP_BASELINE]]
            rate = float((high - low) * windows_ms[ops[o, OP_BASELINE]])
            result = rate / float(longer * windows_ms[ops[o, OP_WINDOW]]) if longer > 0 else np.nan
        elif code == TIME_SINCE_LAST:
            result = (time_ms - arena[_at(header, high - 1), 0]) / 1000.0 if high > low else np.nan
        elif code == DISTINCT:
            stamp += 1
            result = float(_distinct(arena, header, low, high, texts[of], scratch, stamps, stamp))
        elif code == SHARE:
            result = _share(arena, header, low, high, texts[of], np.int64(hashes[of]))
        elif code == HOUR_HABIT:
            result = _hour_habit(arena, header, low, high, time_ms)
        else:
            result = _of_measure(code, arena, header, low, high, measures[of], scales[of], values[of])
        x[ops[o, OP_OUT]] = result
    return stamp


@numba.njit(cache=True)
def _drop_oldest(arena, header):  # type: ignore[no-untyped-def]
    header[H_DROPPED_MS] = max(header[H_DROPPED_MS], arena[_at(header, 0), 0])
    header[H_HEAD] = (header[H_HEAD] + 1) & (header[H_CAPACITY] - 1)
    header[H_COUNT] -= 1


@numba.njit(cache=True)
def _make_room(arena, allocator, header):  # type: ignore[no-untyped-def]
    """Double a full ring; False when the arena must grow first."""
    count, capacity = header[H_COUNT], header[H_CAPACITY]
    if count < capacity:
        return True
    larger = max(RING_MIN, capacity * 2)
    base = allocate(arena, allocator, larger)
    if base < 0:
        return False
    for i in range(count):
        arena[base + i] = arena[_at(header, i)]
    if capacity > 0:
        release(arena, allocator, header[H_BASE], capacity)
    header[H_BASE], header[H_CAPACITY], header[H_HEAD] = base, larger, 0
    return True


@numba.njit(cache=True)
def _add_squares(cells, measure, high, low):  # type: ignore[no-untyped-def]
    new_high, new_low = add(np.uint64(cells[measure[2]]), np.uint64(cells[measure[3]]), high, low)
    cells[measure[2]], cells[measure[3]] = np.int64(new_high), np.int64(new_low)


@numba.njit(cache=True)
def _add_value(cells, measure, value):  # type: ignore[no-untyped-def]
    """Add one present value to running sums."""
    cells[measure[0]] += value
    if measure[1] >= 0:
        cells[measure[1]] += 1
    if measure[2] >= 0:
        size = np.uint64(abs(value))
        high, low = multiply(size, size)
        _add_squares(cells, measure, high, low)


@numba.njit(cache=True)
def _insert(arena, header, time_ms, values, hashes, measures, texts):  # type: ignore[no-untyped-def]
    """Put a row in its place by event time; there is room for it."""
    count = header[H_COUNT]
    place = count
    while place > 0 and arena[_at(header, place - 1), 0] > time_ms:
        place -= 1
        to, origin = _at(header, place + 1), _at(header, place)
        arena[to] = arena[origin]
        for m in range(len(measures)):
            if values[m] != MISSING:
                _add_value(arena[to], measures[m], values[m])
    here = arena[_at(header, place)]
    if place == count:
        here[:] = header[H_TOTALS:]
    # Else the shifted row's own cells still stand here: the sums before it are the sums before this row.
    here[0] = time_ms
    for k in range(len(texts)):
        here[texts[k]] = np.int64(hashes[k])
    header[H_COUNT] = count + 1
    totals = header[H_TOTALS:]
    for m in range(len(measures)):
        if values[m] != MISSING:
            _add_value(totals, measures[m], values[m])


@numba.njit(cache=True, nogil=True)
def observe(  # type: ignore[no-untyped-def]
    state, slots, time_ms, values, hashes, plan, bounds, scratch, stamps, X, flags, start
):
    """Read and insert rows from `start` on.

    Args:
        state: (arena, headers, allocator) of the kind of entity.
        slots: [n] the rows' entities.
        time_ms: [n]; values: [n, measures]; hashes: [n, texts].
        plan: (windows_ms ascending, ops, measures, scales, texts, scratch of one entry a window).
        bounds: (rows_max, lateness_ms, longest window in ms, newest time of all rows before the batch).
        scratch, stamps: the table that counts distinct values; stamps[-1] is the last stamp.
        X: [n, features], filled in the columns of the ops; flags: [n], or-ed.

    Returns:
        n, or the row at which the arena must grow before going on.
    """
    arena, headers, allocator = state
    _, ops, measures, _, texts, _ = plan
    rows_max, lateness_ms, longest_ms, watermark_ms = bounds
    stamp = stamps[-1]
    for i in range(start, len(slots)):
        if i > 0:
            watermark_ms = max(watermark_ms, time_ms[i - 1])
        idle_ms = watermark_ms - longest_ms - lateness_ms
        if slots[i] < 0:
            for o in range(len(ops)):
                X[i, ops[o, OP_OUT]] = np.nan
            if slots[i] == UNTRACKED:
                flags[i] |= FLAG_UNTRACKED
            continue
        header = headers[slots[i]]
        t = time_ms[i]
        newest = arena[_at(header, header[H_COUNT] - 1), 0] if header[H_COUNT] > 0 else NO_TIME
        if newest < idle_ms:  # whether or not the state has let go of the entity by now
            newest, header[H_COUNT], header[H_DROPPED_MS] = NO_TIME, 0, NO_TIME
        if len(ops) > 0:
            stamp = _read(arena, header, t, values[i], hashes[i], plan, scratch, stamps, stamp, X[i])
        if header[H_DROPPED_MS] > t - longest_ms:
            flags[i] |= FLAG_CAPPED
        if t < max(newest - lateness_ms, idle_ms):
            flags[i] |= FLAG_LATE
            continue
        forget_ms = max(newest, t) - longest_ms - lateness_ms
        while header[H_COUNT] > 0 and arena[_at(header, 0), 0] <= forget_ms:
            header[H_HEAD] = (header[H_HEAD] + 1) & (header[H_CAPACITY] - 1)
            header[H_COUNT] -= 1
        if header[H_COUNT] >= rows_max:
            if arena[_at(header, 0), 0] > t:
                header[H_DROPPED_MS] = max(header[H_DROPPED_MS], t)
                continue
            _drop_oldest(arena, header)
        if not _make_room(arena, allocator, header):
            stamps[-1] = stamp
            return i
        _insert(arena, header, t, values[i], hashes[i], measures, texts)
    stamps[-1] = stamp
    return len(slots)
