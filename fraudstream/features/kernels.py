"""What a row reads from its entity's rows, and how it is put among them. numba, generic over the catalogue.

One pass a micro-batch and kind of entity: for each row, read the windows as they stand, then insert the row.
Nothing here depends on where a batch begins.

Cost: a binary search a window, constant time a sum, count, mean, std, z-score or ratio; min, max, distinct,
share and hour_habit walk the window's rows.

No array view is made and no array is handed through two calls on the way of a row: numba counts references
atomically there, which made a sum cost 140 ns instead of 10.
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


_compiled = numba.njit(cache=True, error_model="numpy")


@_compiled
def _at(headers, s, position):  # type: ignore[no-untyped-def]
    """Return the arena row of the n-th row of entity s."""
    return headers[s, H_BASE] + ((headers[s, H_HEAD] + position) & (headers[s, H_CAPACITY] - 1))


@_compiled
def _rows_until(arena, headers, s, time_ms, stop):  # type: ignore[no-untyped-def]
    """Return how many of the first `stop` rows have an event time of at most `time_ms`."""
    base, head, mask = headers[s, H_BASE], headers[s, H_HEAD], headers[s, H_CAPACITY] - 1
    low, high = 0, stop
    while low < high:
        middle = (low + high) >> 1
        if arena[base + ((head + middle) & mask), 0] <= time_ms:
            low = middle + 1
        else:
            high = middle
    return low


@_compiled
def _extreme(arena, headers, s, low, high, sums, counts, sign):  # type: ignore[no-untyped-def]
    """Return the largest of sign * value over rows low to high - 1, of which at least one is present."""
    base, head, mask = headers[s, H_BASE], headers[s, H_HEAD], headers[s, H_CAPACITY] - 1
    best = NO_TIME
    at = base + ((head + low) & mask)
    for i in range(low + 1, high + 1):
        after = base + ((head + i) & mask)
        if counts < 0 or arena[after, counts] != arena[at, counts]:
            value = sign * (arena[after, sums] - arena[at, sums])
            if value > best:
                best = value
        at = after
    return best


@_compiled
def _distinct(arena, headers, s, low, high, column, scratch, stamps):  # type: ignore[no-untyped-def]
    """Count different hashes in rows low to high - 1, with a scratch table that a new stamp empties."""
    base, head, ring = headers[s, H_BASE], headers[s, H_HEAD], headers[s, H_CAPACITY] - 1
    last = len(stamps) - 1
    stamp = stamps[last] + 1
    stamps[last] = stamp
    mask = np.uint64(len(scratch) - 1)
    different = 0
    for i in range(low, high):
        key = np.uint64(arena[base + ((head + i) & ring), column])
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


@_compiled
def _share(arena, headers, s, low, high, column, key):  # type: ignore[no-untyped-def]
    if key == 0 or high == low:
        return np.nan
    base, head, mask = headers[s, H_BASE], headers[s, H_HEAD], headers[s, H_CAPACITY] - 1
    same = 0
    for i in range(low, high):
        same += arena[base + ((head + i) & mask), column] == key
    return same / (high - low)


@_compiled
def _hour_habit(arena, headers, s, low, high, time_ms):  # type: ignore[no-untyped-def]
    if high == low:
        return np.nan
    base, head, mask = headers[s, H_BASE], headers[s, H_HEAD], headers[s, H_CAPACITY] - 1
    hour = (time_ms // _HOUR_MS) % 24
    near = 0
    for i in range(low, high):
        apart = abs((arena[base + ((head + i) & mask), 0] // _HOUR_MS) % 24 - hour)
        near += min(apart, 24 - apart) <= 1
    return near / (high - low)


@_compiled
def _from_sums(code, n, total, value, scale, squares):  # type: ignore[no-untyped-def]
    """Return an aggregate of n present values that add up to `total`, and their squares to `squares`."""
    if code == SUM:
        return total / scale
    if n == 0:
        return np.nan
    if code == MEAN:
        return total / (n * scale)
    if code == RATIO:
        if value == MISSING or total == 0:
            return np.nan
        return float(value * n) / float(total)
    if n < 2:
        return np.nan
    deviation = np.sqrt(spread(n, total, squares[0], squares[1]) / float(n * (n - 1)))
    if code == STD:
        return deviation / scale
    if value == MISSING or deviation == 0.0:
        return np.nan
    return float(value * n - total) / float(n) / deviation


@_compiled
def _read(arena, headers, s, time_ms, values, hashes, plan, scratch, stamps, X, i):  # type: ignore[no-untyped-def]
    """Fill row i of X from the entity's rows as they stand."""
    windows_ms, ops, measures, scales, texts, lows = plan
    base, head, mask = headers[s, H_BASE], headers[s, H_HEAD], headers[s, H_CAPACITY] - 1
    high = headers[s, H_COUNT]
    if high > 0 and arena[base + ((head + high - 1) & mask), 0] > time_ms:
        high = _rows_until(arena, headers, s, time_ms, high)
    below = high
    for w in range(len(windows_ms)):  # ascending: a longer window begins no later
        if below > 0 and arena[base + ((head + below - 1) & mask), 0] > time_ms - windows_ms[w]:
            below = _rows_until(arena, headers, s, time_ms - windows_ms[w], below)
        lows[w] = below
    at_high = base + ((head + high) & mask) if base >= 0 else 0  # no ring yet: any row, less itself, is 0
    none = np.uint64(0)
    for o in range(len(ops)):
        code, of = ops[o, OP_CODE], ops[o, OP_OF]
        low = lows[ops[o, OP_WINDOW]]
        n = high - low
        if code == COUNT:
            result = float(n)
        elif code == VELOCITY:
            longer = high - lows[ops[o, OP_BASELINE]]
            rate = float(n * windows_ms[ops[o, OP_BASELINE]])
            result = rate / float(longer * windows_ms[ops[o, OP_WINDOW]]) if longer > 0 else np.nan
        elif code == TIME_SINCE_LAST:
            newest = arena[base + ((head + high - 1) & mask), 0] if n > 0 else 0
            result = (time_ms - newest) / 1000.0 if n > 0 else np.nan
        elif code == DISTINCT:
            result = float(_distinct(arena, headers, s, low, high, texts[of], scratch, stamps))
        elif code == SHARE:
            result = _share(arena, headers, s, low, high, texts[of], np.int64(hashes[i, of]))
        elif code == HOUR_HABIT:
            result = _hour_habit(arena, headers, s, low, high, time_ms)
        else:
            at_low = base + ((head + low) & mask) if base >= 0 else 0
            sums, counts = measures[of, 0], measures[of, 1]
            if counts >= 0:
                n = arena[at_high, counts] - arena[at_low, counts]
            if code in (MIN, MAX):
                sign = 1 if code == MAX else -1
                best = _extreme(arena, headers, s, low, high, sums, counts, sign) if n > 0 else 0
                result = sign * best / scales[of] if n > 0 else np.nan
            else:
                squares = (none, none)
                if code in (STD, ZSCORE):
                    first, second = measures[of, 2], measures[of, 3]
                    squares = subtract(
                        np.uint64(arena[at_high, first]),
                        np.uint64(arena[at_high, second]),
                        np.uint64(arena[at_low, first]),
                        np.uint64(arena[at_low, second]),
                    )
                total = arena[at_high, sums] - arena[at_low, sums]
                result = _from_sums(code, n, total, values[i, of], scales[of], squares)
        X[i, ops[o, OP_OUT]] = result


@_compiled
def _make_room(arena, allocator, headers, s):  # type: ignore[no-untyped-def]
    """Double a ring that cannot take one more row; False when the arena must grow first."""
    count, capacity = headers[s, H_COUNT], headers[s, H_CAPACITY]
    if count + 2 <= capacity:
        return True
    larger = max(RING_MIN, capacity * 2)
    base = allocate(arena, allocator, larger)
    if base < 0:
        return False
    width = arena.shape[1]
    if capacity == 0:
        for column in range(width):
            arena[base, column] = 0
    else:
        for i in range(count + 1):
            origin = _at(headers, s, i)
            for column in range(width):
                arena[base + i, column] = arena[origin, column]
        release(arena, allocator, headers[s, H_BASE], capacity)
    headers[s, H_BASE], headers[s, H_CAPACITY], headers[s, H_HEAD] = base, larger, 0
    return True


@_compiled
def _carry(arena, origin, to, values, i, measures):  # type: ignore[no-untyped-def]
    """Write into row `to` the sums before row `origin` and row i of the batch added to them."""
    for m in range(len(measures)):
        value = values[i, m]
        present = value != MISSING
        sums, counts, first, second = measures[m, 0], measures[m, 1], measures[m, 2], measures[m, 3]
        arena[to, sums] = arena[origin, sums] + (value if present else 0)
        if counts >= 0:
            arena[to, counts] = arena[origin, counts] + present
        if first >= 0:
            size = np.uint64(abs(value)) if present else np.uint64(0)
            high, low = multiply(size, size)
            high, low = add(np.uint64(arena[origin, first]), np.uint64(arena[origin, second]), high, low)
            arena[to, first], arena[to, second] = np.int64(high), np.int64(low)


@_compiled
def _insert(arena, headers, s, time_ms, values, hashes, i, measures, texts):  # type: ignore[no-untyped-def]
    """Put row i of the batch in its place by event time; there is room for it.

    Rows behind the place move up by one, each with its sums one row richer; the last of them is the one that
    holds the sums of all.
    """
    count = headers[s, H_COUNT]
    place = count
    while True:
        here, to = _at(headers, s, place), _at(headers, s, place + 1)
        _carry(arena, here, to, values, i, measures)
        if place < count:
            arena[to, 0] = arena[here, 0]
            for k in range(len(texts)):
                arena[to, texts[k]] = arena[here, texts[k]]
        if place == 0 or arena[_at(headers, s, place - 1), 0] <= time_ms:
            break
        place -= 1
    arena[here, 0] = time_ms
    for k in range(len(texts)):
        arena[here, texts[k]] = np.int64(hashes[i, k])
    headers[s, H_COUNT] = count + 1


@numba.njit(cache=True, nogil=True, error_model="numpy")
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
        s = slots[i]
        t = time_ms[i]
        newest = arena[_at(headers, s, headers[s, H_COUNT] - 1), 0] if headers[s, H_COUNT] > 0 else NO_TIME
        if newest < idle_ms:  # whether or not the state has let go of the entity by now
            newest, headers[s, H_COUNT], headers[s, H_DROPPED_MS] = NO_TIME, 0, NO_TIME
        if len(ops) > 0:
            _read(arena, headers, s, t, values, hashes, plan, scratch, stamps, X, i)
        if headers[s, H_DROPPED_MS] > t - longest_ms:
            flags[i] |= FLAG_CAPPED
        if t < max(newest - lateness_ms, idle_ms):
            flags[i] |= FLAG_LATE
            continue
        forget_ms = max(newest, t) - longest_ms - lateness_ms
        while headers[s, H_COUNT] > 0 and arena[_at(headers, s, 0), 0] <= forget_ms:
            headers[s, H_HEAD] = (headers[s, H_HEAD] + 1) & (headers[s, H_CAPACITY] - 1)
            headers[s, H_COUNT] -= 1
        if headers[s, H_COUNT] >= rows_max:
            if arena[_at(headers, s, 0), 0] > t:
                headers[s, H_DROPPED_MS] = max(headers[s, H_DROPPED_MS], t)
                continue
            headers[s, H_DROPPED_MS] = max(headers[s, H_DROPPED_MS], arena[_at(headers, s, 0), 0])
            headers[s, H_HEAD] = (headers[s, H_HEAD] + 1) & (headers[s, H_CAPACITY] - 1)
            headers[s, H_COUNT] -= 1
        if not _make_room(arena, allocator, headers, s):
            return i
        _insert(arena, headers, s, t, values, hashes, i, measures, texts)
    return len(slots)
