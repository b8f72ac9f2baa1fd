"""What a row reads: first the slots of its entity, from the rows themselves or from an index, then the features.

Up to `SMALL_ROWS` rows are walked, newest first, once for each term; beyond that an index has the sums ready. Both
fill the same scratch, from which the features are taken.
"""

from __future__ import annotations

import numpy as np

from fraudstream.compiled import compiled
from fraudstream.features.access import (
    D_HOUR_SLOTS,
    D_OPS,
    D_SLOTS,
    D_TEXT_SLOTS,
    D_WINDOWS,
    batch_key,
    batch_time,
    batch_value,
    end_at,
    header,
    hour_slot_at,
    hour_sum,
    number_of,
    op_at,
    put_end,
    put_feature,
    put_hour_sum,
    put_sum,
    put_text_sum,
    shape,
    slot_at,
    sum_at,
    term_at,
    text_column,
    text_slot_at,
    text_sum,
    text_term_at,
    window_at,
    word_at,
)
from fraudstream.features.codes import (
    A_COUNT,
    A_HIGH,
    A_LOW,
    A_MAX,
    A_MIDDLE,
    A_MIN,
    A_SUM,
    COUNT,
    DISTINCT,
    FIRST_SEEN,
    HOUR_HABIT,
    IN_A_ROW,
    MAX,
    MEAN,
    MEDIAN,
    MEDIAN_RATIO,
    MIN,
    OTHERS_SINCE_FIRST,
    RATE,
    RATIO,
    SAME_COUNT,
    SHARE,
    STD,
    SUM,
    TIME_SINCE_FIRST,
    TIME_SINCE_LAST,
    TIME_SINCE_OTHER,
    VELOCITY,
    X_DIFFERENT,
    X_SAME,
    X_SAME_MS,
)
from fraudstream.features.found import of_found, of_last_other, seconds_since
from fraudstream.features.index import (
    HOUR_MS,
    bounds_of,
    build,
    count_in,
    entry_of,
    extremes,
    move_to,
    rows_that_count,
)
from fraudstream.features.medians import put_medians
from fraudstream.features.memory import word
from fraudstream.features.plan import (
    OP_BASE_SLOT,
    OP_BASE_WINDOW,
    OP_CODE,
    OP_HOUR_SLOT,
    OP_MEASURE,
    OP_OUT,
    OP_SCALE,
    OP_SLOT,
    OP_TEXT_SLOT,
    OP_WINDOW,
    P_ACC,
    P_DISTINCT,
    P_HOURS,
    P_ROW_BYTES,
    T_EXTREMES,
    X_DISTINCT,
    X_NEED,
    X_TEXT,
)
from fraudstream.features.rows import (
    GREATEST,
    LEAST,
    MISSING,
    drop_index,
    fulfils,
    narrow_of,
    part_of,
    row_at,
    rows_until,
    text_of,
    time_at,
    wide_of,
)
from fraudstream.features.table import H_BASE, H_CAPACITY, H_COUNT, H_INDEX, H_START
from fraudstream.features.wide import add, spread

SMALL_ROWS = 48


_NONE = np.uint64(0)


@compiled
def _walk_sums(store, plan, scratch, base):  # type: ignore[no-untyped-def]
    row, row_bytes, i, term, lag_ms = 0, shape(plan, P_ROW_BYTES), 0, -1, -1
    count, total, high, low, least, greatest = 0, 0, _NONE, _NONE, GREATEST, LEAST
    for s in range(number_of(plan, D_SLOTS)):
        window = slot_at(plan, s, 1)
        if slot_at(plan, s, 0) != term or window_at(plan, window, 1) != lag_ms:
            term, lag_ms = slot_at(plan, s, 0), window_at(plan, window, 1)
            i = end_at(scratch, window, 1)
            row = row_at(store, plan, base, i)
            count, total, high, low, least, greatest = 0, 0, _NONE, _NONE, GREATEST, LEAST
        while i > end_at(scratch, window, 0):
            i -= 1
            row -= row_bytes
            more, value, first, second, small, large = part_of(plan, row, term)
            count += more
            total += value
            high, low = add(high, low, first, second)
            least, greatest = min(least, small), max(greatest, large)
        put_sum(scratch, s, A_COUNT, count)
        put_sum(scratch, s, A_SUM, total)
        put_sum(scratch, s, A_HIGH, np.int64(high))
        put_sum(scratch, s, A_LOW, np.int64(low))
        put_sum(scratch, s, A_MIN, least)
        put_sum(scratch, s, A_MAX, greatest)


@compiled
def _has_text(plan, row, term, key):  # type: ignore[no-untyped-def]
    """Tell whether a row counts for a text term and has this value."""
    text, need = text_term_at(plan, term, X_TEXT), text_term_at(plan, term, X_NEED)
    return text_of(plan, row, text) == key and fulfils(plan, row, need)


@compiled
def _is_repeated(store, plan, base, term, key, span):  # type: ignore[no-untyped-def]
    """Tell whether a value stands again in places span[0] to span[1] - 1."""
    for i in range(span[0], span[1]):  # noqa: SIM110 -- numba knows no any()
        if _has_text(plan, row_at(store, plan, base, i), term, key):
            return True
    return False


@compiled
def _walk_texts(store, plan, scratch, base, batch, row):  # type: ignore[no-untyped-def]
    at, row_bytes, i, term, lag_ms, last = 0, shape(plan, P_ROW_BYTES), 0, -1, -1, 0
    different, same, same_ms = 0, 0, LEAST
    own, column, is_id, need, distinct = 0, 0, 0, 0, 0
    for s in range(number_of(plan, D_TEXT_SLOTS)):
        window = text_slot_at(plan, s, 1)
        if text_slot_at(plan, s, 0) != term or window_at(plan, window, 1) != lag_ms:
            term, lag_ms = text_slot_at(plan, s, 0), window_at(plan, window, 1)
            i = last = end_at(scratch, window, 1)
            at = row_at(store, plan, base, i)
            different, same, same_ms = 0, 0, LEAST
            text = text_term_at(plan, term, X_TEXT)
            own, column, is_id = (
                batch_key(batch, row, text),
                text_column(plan, text, 0),
                text_column(plan, text, 1),
            )
            need, distinct = text_term_at(plan, term, X_NEED), text_term_at(plan, term, X_DISTINCT)
        end = end_at(scratch, window, 0)
        while i > end:
            i -= 1
            at -= row_bytes
            key = wide_of(at, column) if is_id else narrow_of(at, column)
            if key == own and key != 0 and fulfils(plan, at, need):
                same += 1
                if same == 1:  # newest first
                    same_ms = word(at, 0)
            if s < distinct and key != 0 and fulfils(plan, at, need):
                different += not _is_repeated(store, plan, base, term, key, (i + 1, last))
        put_text_sum(scratch, s, X_DIFFERENT, different)
        put_text_sum(scratch, s, X_SAME, same)
        put_text_sum(scratch, s, X_SAME_MS, same_ms)


@compiled
def _walk_hours(store, plan, scratch, base, time_ms):  # type: ignore[no-untyped-def]
    own = (time_ms // HOUR_MS) % 24
    for s in range(number_of(plan, D_HOUR_SLOTS)):
        counted, window = hour_slot_at(plan, s, 0), hour_slot_at(plan, s, 1)
        near, rows = 0, 0
        for i in range(end_at(scratch, window, 0), end_at(scratch, window, 1)):
            row = row_at(store, plan, base, i)
            more = rows_that_count(plan, row, counted)
            apart = abs((word(row, 0) // HOUR_MS) % 24 - own)
            rows += more
            if min(apart, 24 - apart) <= 1:
                near += more
        put_hour_sum(scratch, s, 0, near)
        put_hour_sum(scratch, s, 1, rows)


@compiled
def _walk(store, plan, scratch, slot, batch, row, time_ms):  # type: ignore[no-untyped-def]
    """Fill the scratch by walking over the rows."""
    base = header(store, slot, H_BASE)
    start = header(store, slot, H_START)
    end = start + header(store, slot, H_COUNT)
    for window in range(number_of(plan, D_WINDOWS)):
        after, until = bounds_of(plan, window, time_ms)
        high = end
        if end > start and time_at(store, plan, base, end - 1) > until:
            high = rows_until(store, plan, base, start, end, until)
        low = high
        if window > 0 and window_at(plan, window, 1) == window_at(plan, window - 1, 1):
            low = end_at(scratch, window - 1, 0)  # a longer window of the same lag begins no later
        if low > start and time_at(store, plan, base, low - 1) > after:
            low = (
                start
                if time_at(store, plan, base, start) > after
                else rows_until(store, plan, base, start, low, after)
            )
        put_end(scratch, window, 0, low)
        put_end(scratch, window, 1, high)
    _walk_sums(store, plan, scratch, base)
    _walk_texts(store, plan, scratch, base, batch, row)
    _walk_hours(store, plan, scratch, base, time_ms)


@compiled
def _newest_same(store, plan, base, term, key, span):  # type: ignore[no-untyped-def]
    """Return the time of the last row with a value in a window, which has one."""
    for k in range(span[1] - span[0]):
        row = row_at(store, plan, base, span[1] - 1 - k)
        if _has_text(plan, row, term, key):
            return word(row, 0)
    return LEAST


@compiled
def _look_up(store, plan, scratch, slot, batch, row, time_ms):  # type: ignore[no-untyped-def]
    """Fill the scratch from the entity's index."""
    for window in range(number_of(plan, D_WINDOWS)):
        low, high = move_to(store, plan, slot, window, bounds_of(plan, window, time_ms))
        put_end(scratch, window, 0, low)
        put_end(scratch, window, 1, high)
    index = header(store, slot, H_INDEX)
    chunk = (header(store, slot, H_BASE), header(store, slot, H_CAPACITY))
    end = header(store, slot, H_START) + header(store, slot, H_COUNT)
    for s in range(number_of(plan, D_SLOTS)):
        for part in range(4):
            put_sum(scratch, s, part, word_at(store, index + shape(plan, P_ACC) + 4 * s + part))
        if term_at(plan, slot_at(plan, s, 0), T_EXTREMES) >= 0:
            window = slot_at(plan, s, 1)
            span = (end_at(scratch, window, 0), end_at(scratch, window, 1), end)
            least, greatest = extremes(store, plan, index, chunk, slot_at(plan, s, 0), span)
            put_sum(scratch, s, A_MIN, least)
            put_sum(scratch, s, A_MAX, greatest)
    term, entry = -1, -1
    for s in range(number_of(plan, D_TEXT_SLOTS)):
        if text_slot_at(plan, s, 0) != term:
            term = text_slot_at(plan, s, 0)
            own = batch_key(batch, row, text_term_at(plan, term, X_TEXT))
            entry = entry_of(store, plan, index, term, own) if own != 0 else -1
        put_text_sum(scratch, s, X_DIFFERENT, word_at(store, index + shape(plan, P_DISTINCT) + s))
        same = count_in(store, plan, entry, term, s) if entry >= 0 else 0
        put_text_sum(scratch, s, X_SAME, same)
        same_ms = LEAST
        if same > 0:
            window = text_slot_at(plan, s, 1)
            same_ms = word_at(store, entry + 1)
            if same_ms > bounds_of(plan, window, time_ms)[1]:  # of a row later than this one
                seen = (end_at(scratch, window, 0), end_at(scratch, window, 1))
                same_ms = _newest_same(store, plan, chunk[0], term, word_at(store, entry), seen)
        put_text_sum(scratch, s, X_SAME_MS, same_ms)
    hour = (time_ms // HOUR_MS) % 24
    for s in range(number_of(plan, D_HOUR_SLOTS)):
        at = index + shape(plan, P_HOURS) + 24 * s
        near = (
            word_at(store, at + hour)
            + word_at(store, at + (hour + 1) % 24)
            + word_at(store, at + (hour + 23) % 24)
        )
        rows = 0
        for other in range(24):
            rows += word_at(store, at + other)
        put_hour_sum(scratch, s, 0, near)
        put_hour_sum(scratch, s, 1, rows)


@compiled
def _of_values(code, n, total, value, scale, squares):  # type: ignore[no-untyped-def]
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


@compiled
def _rows_in(scratch, window, slot):  # type: ignore[no-untyped-def]
    """Return the rows of a window that count: those of a slot, or all."""
    if slot >= 0:
        return sum_at(scratch, slot, A_COUNT)
    return end_at(scratch, window, 1) - end_at(scratch, window, 0)


@compiled
def _of_text(plan, scratch, o, code, own, n, time_ms):  # type: ignore[no-untyped-def]
    s = op_at(plan, o, OP_TEXT_SLOT)
    if code == DISTINCT:
        return float(text_sum(scratch, s, X_DIFFERENT))
    if own == 0:
        return np.nan
    if code == SAME_COUNT:
        return float(text_sum(scratch, s, X_SAME))
    if code == SHARE:
        return text_sum(scratch, s, X_SAME) / n if n > 0 else np.nan
    if text_sum(scratch, s, X_SAME) == 0:
        return np.nan
    return seconds_since(time_ms, text_sum(scratch, s, X_SAME_MS))


@compiled
def _feature(store, plan, scratch, slot, o, batch, row, time_ms):  # type: ignore[no-untyped-def]
    """Return one feature from the scratch."""
    code, s = op_at(plan, o, OP_CODE), op_at(plan, o, OP_SLOT)
    n = _rows_in(scratch, op_at(plan, o, OP_WINDOW), s)
    if code == COUNT:
        return float(n)
    if code == FIRST_SEEN:
        return 1.0 if n == 0 else 0.0
    if code == VELOCITY:
        longer = _rows_in(scratch, op_at(plan, o, OP_BASE_WINDOW), op_at(plan, o, OP_BASE_SLOT))
        rate = float(n * window_at(plan, op_at(plan, o, OP_BASE_WINDOW), 0))
        return rate / float(longer * window_at(plan, op_at(plan, o, OP_WINDOW), 0)) if longer > 0 else np.nan
    if code == RATE:
        rows = _rows_in(scratch, op_at(plan, o, OP_BASE_WINDOW), op_at(plan, o, OP_BASE_SLOT))
        return n / rows if rows > 0 else np.nan
    if code == TIME_SINCE_LAST or TIME_SINCE_FIRST <= code <= OTHERS_SINCE_FIRST:
        return of_found(store, plan, scratch, slot, o, code, n, time_ms)
    if code in (IN_A_ROW, TIME_SINCE_OTHER):
        return of_last_other(store, plan, scratch, slot, o, code, n, time_ms)
    if code == HOUR_HABIT:
        near, rows = (
            hour_sum(scratch, op_at(plan, o, OP_HOUR_SLOT), 0),
            hour_sum(scratch, op_at(plan, o, OP_HOUR_SLOT), 1),
        )
        return near / rows if rows > 0 else np.nan
    if op_at(plan, o, OP_TEXT_SLOT) >= 0:
        term = text_slot_at(plan, op_at(plan, o, OP_TEXT_SLOT), 0)
        own = batch_key(batch, row, text_term_at(plan, term, X_TEXT))
        return _of_text(plan, scratch, o, code, own, n, time_ms)
    if code in (MIN, MAX):
        extreme = sum_at(scratch, s, A_MIN) if code == MIN else sum_at(scratch, s, A_MAX)
        return extreme / op_at(plan, o, OP_SCALE) if n > 0 else np.nan
    if code == MEDIAN:
        return sum_at(scratch, s, A_MIDDLE) / (2 * op_at(plan, o, OP_SCALE)) if n > 0 else np.nan
    if code == MEDIAN_RATIO:
        value, middle = batch_value(batch, row, op_at(plan, o, OP_MEASURE)), sum_at(scratch, s, A_MIDDLE)
        return float(2 * value) / float(middle) if n > 0 and value != MISSING and middle != 0 else np.nan
    squares = (np.uint64(sum_at(scratch, s, A_HIGH)), np.uint64(sum_at(scratch, s, A_LOW)))
    value = batch_value(batch, row, op_at(plan, o, OP_MEASURE))
    return _of_values(code, n, sum_at(scratch, s, A_SUM), value, op_at(plan, o, OP_SCALE), squares)


@compiled
def read(store, plan, scratch, slot, batch, row):  # type: ignore[no-untyped-def]
    """Fill row `row` of X from the entity's rows as they stand."""
    time_ms = batch_time(batch, row)
    count = header(store, slot, H_COUNT)
    if count > SMALL_ROWS or (header(store, slot, H_INDEX) >= 0 and 2 * count > SMALL_ROWS):
        if header(store, slot, H_INDEX) < 0:
            build(store, plan, slot)
        _look_up(store, plan, scratch, slot, batch, row, time_ms)
    else:
        drop_index(store, plan, slot)
        _walk(store, plan, scratch, slot, batch, row, time_ms)
    put_medians(store, plan, scratch, header(store, slot, H_BASE))
    for o in range(number_of(plan, D_OPS)):
        put_feature(
            batch, row, op_at(plan, o, OP_OUT), _feature(store, plan, scratch, slot, o, batch, row, time_ms)
        )
