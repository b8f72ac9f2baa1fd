"""What the kernels are handed: blocks of integers that say where things are, and the names of what is in them.

A block is an int64 array; its address is what a kernel gets. `store` says where a stage's memory is, `plan`
holds what it computes, `scratch` what one row reads, `batch` says where a batch's columns are, `marks` where
its labels are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fraudstream.batch import Int64
from fraudstream.compiled import compiled
from fraudstream.errors import ConfigError
from fraudstream.features.memory import (
    address_of,
    half,
    octet,
    put_double,
    put_half,
    put_octet,
    put_quarter,
    put_word,
    quarter,
    word,
)

# `store`, one for each shard, one behind the other: the shard's arena and its length in words, its allocator;
# and
# what all share: the headers and how many there is room for, where the shards' tables are, counts.
K_WORDS, K_ROOM, K_HEADERS, K_HEADER_ROOM, K_ALLOCATOR, K_SHARDS, K_COUNTS = range(7)
STORE_WORDS = 8
HEADER_WIDTH = 8
SHARD_BITS = np.uint64(58)  # the shard is the hash's top bits
# `plan`: how many rows each table has, then the tables, each at its fixed place, so that a kernel finds an entry
# with one load. (name, most rows, columns) of each:
TABLES = (
    ("windows", 64, 2), ("terms", 256, 10), ("slots", 1024, 3), ("text_terms", 64, 5), ("text_slots", 512, 2),
    ("hour_slots", 64, 2), ("by_window", 64, 6), ("order", 2048, 1), ("ops", 2000, 11), ("measures", 64, 1),
    ("texts", 64, 2), ("shape", 16, 1),
)  # fmt: skip
(D_WINDOWS, D_TERMS, D_SLOTS, D_TEXT_TERMS, D_TEXT_SLOTS, D_HOUR_SLOTS, D_BY_WINDOW, D_ORDER, D_OPS, D_MEASURES,
 D_TEXTS, D_SHAPE) = range(len(TABLES))  # fmt: skip
_PLACES = [
    len(TABLES) + sum(rows * columns for _, rows, columns in TABLES[:n]) for n in range(len(TABLES) + 1)
]
# `scratch`: where ends, sums, texts, hours and the values that a median is taken of begin.
E_ENDS, E_SUMS, E_TEXTS, E_HOURS, E_VALUES = range(5)
# `batch`: addresses, each matrix followed by its width.
(B_TIME, B_VALUES, B_VALUES_WIDTH, B_KEYS, B_KEYS_WIDTH, B_BITS, B_X, B_X_WIDTH, B_FLAGS, B_STORED) = range(
    10
)
# `marks`: how many, then addresses.
M_COUNT, M_ROW, M_SOURCE, M_SLOT, M_TIME, M_KEY, M_SIGN, M_BITS = range(8)


def plan_block(tables: Sequence[Int64]) -> Int64:
    """Return a plan's tables, in the order of TABLES, as the kernels take them.

    Raises:
        ConfigError: there are more of something than there is room for.
    """
    block = np.zeros(_PLACES[-1], np.int64)
    for number, (table, (name, rows, _), place) in enumerate(zip(tables, TABLES, _PLACES, strict=False)):
        if len(table) > rows:
            what = name.replace("_", " ")
            raise ConfigError(
                f"features: one entity needs {len(table)} {what}; {rows} are accepted, give it fewer"
            )
        block[number] = len(table)
        block[place : place + table.size] = table.ravel()
    return block


def scratch_block(windows: int, slots: int, text_slots: int, hour_slots: int, values: int) -> Int64:
    """Return room for what one row reads: where each part begins, then the parts."""
    sizes = [2 * windows, 7 * slots, 3 * text_slots, 2 * hour_slots, values]
    places = np.cumsum([len(sizes), *sizes])
    block = np.zeros(places[-1], np.int64)
    block[: len(sizes)] = places[:-1]
    return block


def block_of(parts: Sequence[int | npt.NDArray[Any]]) -> Int64:
    """Return a block of numbers and of the addresses of arrays, which the caller keeps alive."""
    return np.array([address_of(part) if isinstance(part, np.ndarray) else part for part in parts], np.int64)


@compiled
def store_of(stores, key):  # type: ignore[no-untyped-def]
    """Return the store of an entity's shard, by its hash."""
    return stores + 8 * STORE_WORDS * np.int64(np.uint64(key) >> SHARD_BITS)


def _in_plan(table: int) -> Any:
    """Return a kernel on one of the plan's tables: (plan, i, column), or (plan, i) where it has one column."""
    place, width = _PLACES[table], TABLES[table][2]

    @compiled
    def entry(plan, i, column):  # type: ignore[no-untyped-def]
        return word(plan, place + width * i + column)

    @compiled
    def only(plan, i):  # type: ignore[no-untyped-def]
        return word(plan, place + i)

    return entry if width > 1 else only


def _in_scratch(part: int, width: int) -> Any:
    """Return two kernels, to get and to put: (scratch, i, column) -> a word of a part of the scratch."""

    @compiled
    def entry(scratch, i, column):  # type: ignore[no-untyped-def]
        return word(scratch, word(scratch, part) + width * i + column)

    @compiled
    def put(scratch, i, column, value):  # type: ignore[no-untyped-def]
        put_word(scratch, word(scratch, part) + width * i + column, value)

    return entry, put


def _in_array(at: int, load: Any, store: Any) -> Any:
    """Return three kernels on an array whose address stands in a block, to get, put and add: (block, i)."""

    @compiled
    def entry(block, i):  # type: ignore[no-untyped-def]
        return load(word(block, at), i)

    @compiled
    def put(block, i, value):  # type: ignore[no-untyped-def]
        store(word(block, at), i, value)

    @compiled
    def more(block, i, value):  # type: ignore[no-untyped-def]
        store(word(block, at), i, load(word(block, at), i) + value)

    return entry, put, more


def _in_rows(at: int, width: int) -> Any:
    """Return three kernels on an array of rows, to get, put and add: (block, i, column)."""

    @compiled
    def entry(block, i, column):  # type: ignore[no-untyped-def]
        return word(word(block, at), width * i + column)

    @compiled
    def put(block, i, column, value):  # type: ignore[no-untyped-def]
        put_word(word(block, at), width * i + column, value)

    @compiled
    def more(block, i, column, value):  # type: ignore[no-untyped-def]
        place = width * i + column
        put_word(word(block, at), place, word(word(block, at), place) + value)

    return entry, put, more


# The arena of a store, in words and in halves of words (unsigned), and how many words it has.
word_at, put_word_at, add_word_at = _in_array(K_WORDS, word, put_word)
half_at, put_half_at, _ = _in_array(K_WORDS, half, put_half)


@compiled
def arena_words(store):  # type: ignore[no-untyped-def]
    """Return how many words the arena has."""
    return word(store, K_ROOM)


@compiled
def header_room(store):  # type: ignore[no-untyped-def]
    """Return how many headers there is room for."""
    return word(store, K_HEADER_ROOM)


# What else a store knows: an entity's header, (header number, column); the allocator; a shard's table; counts.
header, put_header, add_header = _in_rows(K_HEADERS, HEADER_WIDTH)
allocator_at, put_allocator, add_allocator = _in_array(K_ALLOCATOR, word, put_word)
shard_of, put_shard, add_shard = _in_rows(K_SHARDS, 3)
count_of, put_count, add_count = _in_array(K_COUNTS, word, put_word)


@compiled
def number_of(plan, table):  # type: ignore[no-untyped-def]
    """Return the rows of one of the plan's tables."""
    return word(plan, table)


# Entries of the plan's tables.
(window_at, term_at, slot_at, text_term_at, text_slot_at, hour_slot_at, by_window, order_at, op_at, measure_at,
 text_column, shape) = map(_in_plan, range(len(TABLES)))  # fmt: skip

# Parts of the scratch, by window or slot and column.
end_at, put_end = _in_scratch(E_ENDS, 2)
sum_at, put_sum = _in_scratch(E_SUMS, 7)
text_sum, put_text_sum = _in_scratch(E_TEXTS, 3)
hour_sum, put_hour_sum = _in_scratch(E_HOURS, 2)


@compiled
def values_at(scratch):  # type: ignore[no-untyped-def]
    """Return the address of the room for the values that a median is taken of."""
    return scratch + 8 * word(scratch, E_VALUES)


# Columns of a batch, by row; of its labels, by number.
batch_time, _, _ = _in_array(B_TIME, word, put_word)
batch_bits, _, _ = _in_array(B_BITS, quarter, put_quarter)
batch_flags, put_flags, _ = _in_array(B_FLAGS, octet, put_octet)
batch_stored, put_stored, _ = _in_array(B_STORED, octet, put_octet)
mark_row, mark_source, mark_slot, mark_time, mark_key, mark_sign, mark_bits = (
    _in_array(part, word, put_word)[0] for part in (M_ROW, M_SOURCE, M_SLOT, M_TIME, M_KEY, M_SIGN, M_BITS)
)


@compiled
def mark_count(marks):  # type: ignore[no-untyped-def]
    """Return how many labels a batch brings."""
    return word(marks, M_COUNT)


@compiled
def batch_value(batch, row, measure):  # type: ignore[no-untyped-def]
    """Return a measure of a row."""
    return word(word(batch, B_VALUES), row * word(batch, B_VALUES_WIDTH) + measure)


@compiled
def batch_key(batch, row, text):  # type: ignore[no-untyped-def]
    """Return what stands for a text of a row."""
    return word(word(batch, B_KEYS), row * word(batch, B_KEYS_WIDTH) + text)


@compiled
def put_feature(batch, row, column, value):  # type: ignore[no-untyped-def]
    """Write one value of X."""
    put_double(word(batch, B_X), row * word(batch, B_X_WIDTH) + column, value)


@compiled
def add_flag(batch, row, flag):  # type: ignore[no-untyped-def]
    """Set a flag of a row."""
    put_flags(batch, row, batch_flags(batch, row) | flag)
