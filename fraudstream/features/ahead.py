"""Asks for memory some rows before it is needed: with a million cards nearly every row's is in no cache.

Four steps, each of which needs what the one before has brought: the header tells where rows and index are, the
index where the ends of the windows and the maps are, a row at an end which entries of the maps it will change.
"""

from __future__ import annotations

from fraudstream.compiled import compiled
from fraudstream.features.access import (
    D_TEXT_SLOTS,
    D_TEXT_TERMS,
    D_WINDOWS,
    HEADER_WIDTH,
    K_HEADERS,
    K_WORDS,
    batch_key,
    batch_time,
    by_window,
    header,
    number_of,
    order_at,
    shape,
    store_of,
    text_slot_at,
    text_term_at,
    word_at,
)
from fraudstream.features.index import bounds_of, ends_of, home_of
from fraudstream.features.memory import prefetch, word
from fraudstream.features.plan import P_BLOCKS, P_MAPS, P_ROW_BYTES, X_ENTRY_WORDS, X_TEXT
from fraudstream.features.rows import MAP_BASE, MAP_LENGTH, MAP_WORDS, row_at, text_of
from fraudstream.features.table import H_BASE, H_COUNT, H_HASH, H_INDEX, H_START

HEADER_AHEAD, ROWS_AHEAD, ENDS_AHEAD, ENTRIES_AHEAD = 12, 8, 5, 2
_LINE_BYTES = 64
_LINES_MAX = 24


@compiled
def fetch_header(stores, slot):  # type: ignore[no-untyped-def]
    """Ask for an entity's header."""
    if slot >= 0:
        prefetch(word(stores, K_HEADERS) + 8 * HEADER_WIDTH * slot)


@compiled
def _fetch_span(address, octets):  # type: ignore[no-untyped-def]
    for line in range(min(_LINES_MAX, (octets + _LINE_BYTES - 1) // _LINE_BYTES + 1)):
        prefetch(address + _LINE_BYTES * line)


@compiled
def fetch_rows(stores, plan, slot):  # type: ignore[no-untyped-def]
    """Ask for an entity's rows, or for its index and the end of its rows."""
    if slot < 0 or header(stores, slot, H_BASE) < 0:
        return
    store = store_of(stores, header(stores, slot, H_HASH))
    start, count = header(store, slot, H_START), header(store, slot, H_COUNT)
    index = header(store, slot, H_INDEX)
    if index < 0:
        octets = (count + 1) * shape(plan, P_ROW_BYTES)
        _fetch_span(row_at(store, plan, header(store, slot, H_BASE), start), octets)
        return
    _fetch_span(word(store, K_WORDS) + 8 * index, 8 * shape(plan, P_BLOCKS))
    _fetch_span(row_at(store, plan, header(store, slot, H_BASE), start + count - 1), _LINE_BYTES)


@compiled
def _fetch_entry(store, plan, index, term, key):  # type: ignore[no-untyped-def]
    """Ask for the entry of a text in its map."""
    at = index + shape(plan, P_MAPS) + MAP_WORDS * term
    length, words = word_at(store, at + MAP_LENGTH), text_term_at(plan, term, X_ENTRY_WORDS)
    if length > 0:
        prefetch(word(store, K_WORDS) + 8 * (word_at(store, at + MAP_BASE) + home_of(key, length) * words))


@compiled
def fetch_ends(stores, plan, slot, batch, row):  # type: ignore[no-untyped-def]
    """Ask for the rows at the ends of an entity's windows, and for the entries of this row's texts."""
    if slot < 0 or header(stores, slot, H_INDEX) < 0:
        return
    store = store_of(stores, header(stores, slot, H_HASH))
    base, index = header(store, slot, H_BASE), header(store, slot, H_INDEX)
    for window in range(number_of(plan, D_WINDOWS)):
        first = row_at(store, plan, base, word_at(store, index + window))
        prefetch(first)
        prefetch(first - shape(plan, P_ROW_BYTES))  # looked at too: does it come back in?
    for term in range(number_of(plan, D_TEXT_TERMS)):
        _fetch_entry(store, plan, index, term, batch_key(batch, row, text_term_at(plan, term, X_TEXT)))


@compiled
def fetch_entries(stores, plan, slot, batch, row):  # type: ignore[no-untyped-def]
    """Ask for the entries of the rows that this row's time will push out of their windows."""
    if slot < 0 or number_of(plan, D_TEXT_SLOTS) == 0 or header(stores, slot, H_INDEX) < 0:
        return
    store = store_of(stores, header(stores, slot, H_HASH))
    index = header(store, slot, H_INDEX)
    for window in range(number_of(plan, D_WINDOWS)):
        first, end = by_window(plan, window, 2), by_window(plan, window, 3)
        if first == end:
            continue
        low, high = ends_of(store, plan, index, window)
        at = row_at(store, plan, header(store, slot, H_BASE), low)
        if low == high or word(at, 0) > bounds_of(plan, window, batch_time(batch, row))[0]:
            continue
        for o in range(first, end):
            term = text_slot_at(plan, order_at(plan, o), 0)
            _fetch_entry(store, plan, index, term, text_of(plan, at, text_term_at(plan, term, X_TEXT)))
