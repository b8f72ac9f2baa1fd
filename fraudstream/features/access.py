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
from fraudstream.errors import ConfigError
from fraudstream.features.memory import (
    address_of,
    compiled,
    half,
    octet,
    put_double,
    put_half,
    put_octet,
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
# `plan`: how many rows each table has, then the tables, each at its fixed place, so that a kernel finds an
# entry with
# one load. (name, most rows, columns) of each:
TABLES = (
    ("windows", 64, 2), ("terms", 256, 10), ("slots", 1024, 2), ("text_terms", 64, 5), ("text_slots", 512, 2),
    ("hour_slots", 64, 2), ("by_window", 64, 6), ("order", 2048, 1), ("ops", 2000, 11), ("measures", 64, 1),
    ("texts", 64, 2), ("shape", 16, 1),
)  # fmt: skip
(D_WINDOWS, D_TERMS, D_SLOTS, D_TEXT_TERMS, D_TEXT_SLOTS, D_HOUR_SLOTS, D_BY_WINDOW, D_ORDER, D_OPS, D_MEASURES,
 D_TEXTS, D_SHAPE) = range(len(TABLES))  # fmt: skip
_PLACES = [
    len(TABLES) + sum(rows * columns for _, rows, columns in TABLES[:n]) for n in range(len(TABLES) + 1)
]
(_WINDOWS, _TERMS, _SLOTS, _TEXT_TERMS, _TEXT_SLOTS, _HOUR_SLOTS, _BY_WINDOW, _ORDER, _OPS, _MEASURES, _TEXTS, _SHAPE,
 _PLAN_WORDS) = _PLACES  # fmt: skip
# `scratch`: where ends, sums, texts and hours begin.
E_ENDS, E_SUMS, E_TEXTS, E_HOURS = range(4)
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
    block = np.zeros(_PLAN_WORDS, np.int64)
    for number, (table, (name, rows, _), place) in enumerate(zip(tables, TABLES, _PLACES, strict=False)):
        if len(table) > rows:
            what = name.replace("_", " ")
            raise ConfigError(
                f"features: one entity needs {len(table)} {what}; {rows} are accepted, give it fewer"
            )
        block[number] = len(table)
        block[place : place + table.size] = table.ravel()
    return block


def scratch_block(windows: int, slots: int, text_slots: int, hour_slots: int) -> Int64:
    """Return room for what one row reads: where each part begins, then the parts."""
    sizes = [2 * windows, 6 * slots, 3 * text_slots, 2 * hour_slots]
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


@compiled
def word_at(store, i):  # type: ignore[no-untyped-def]
    """Return word i of the arena."""
    return word(word(store, K_WORDS), i)


@compiled
def put_word_at(store, i, value):  # type: ignore[no-untyped-def]
    put_word(word(store, K_WORDS), i, value)


@compiled
def arena_words(store):  # type: ignore[no-untyped-def]
    """Return how many words the arena has."""
    return word(store, K_ROOM)


@compiled
def header(store, slot, column):  # type: ignore[no-untyped-def]
    """Return one column of an entity's header."""
    return word(word(store, K_HEADERS), HEADER_WIDTH * slot + column)


@compiled
def put_header(store, slot, column, value):  # type: ignore[no-untyped-def]
    put_word(word(store, K_HEADERS), HEADER_WIDTH * slot + column, value)


@compiled
def header_room(store):  # type: ignore[no-untyped-def]
    """Return how many headers there is room for."""
    return word(store, K_HEADER_ROOM)


@compiled
def allocator_at(store, i):  # type: ignore[no-untyped-def]
    return word(word(store, K_ALLOCATOR), i)


@compiled
def put_allocator(store, i, value):  # type: ignore[no-untyped-def]
    put_word(word(store, K_ALLOCATOR), i, value)


@compiled
def shard_of(store, shard, column):  # type: ignore[no-untyped-def]
    return word(word(store, K_SHARDS), 3 * shard + column)


@compiled
def put_shard(store, shard, column, value):  # type: ignore[no-untyped-def]
    put_word(word(store, K_SHARDS), 3 * shard + column, value)


@compiled
def count_of(store, i):  # type: ignore[no-untyped-def]
    return word(word(store, K_COUNTS), i)


@compiled
def put_count(store, i, value):  # type: ignore[no-untyped-def]
    put_word(word(store, K_COUNTS), i, value)


@compiled
def number_of(plan, table):  # type: ignore[no-untyped-def]
    """Return the rows of one of the plan's tables."""
    return word(plan, table)


@compiled
def window_at(plan, i, column):  # type: ignore[no-untyped-def]
    return word(plan, _WINDOWS + 2 * i + column)


@compiled
def term_at(plan, i, column):  # type: ignore[no-untyped-def]
    return word(plan, _TERMS + 10 * i + column)


@compiled
def slot_at(plan, i, column):  # type: ignore[no-untyped-def]
    return word(plan, _SLOTS + 2 * i + column)


@compiled
def text_term_at(plan, i, column):  # type: ignore[no-untyped-def]
    return word(plan, _TEXT_TERMS + 5 * i + column)


@compiled
def text_slot_at(plan, i, column):  # type: ignore[no-untyped-def]
    return word(plan, _TEXT_SLOTS + 2 * i + column)


@compiled
def hour_slot_at(plan, i, column):  # type: ignore[no-untyped-def]
    return word(plan, _HOUR_SLOTS + 2 * i + column)


@compiled
def by_window(plan, i, column):  # type: ignore[no-untyped-def]
    return word(plan, _BY_WINDOW + 6 * i + column)


@compiled
def order_at(plan, i):  # type: ignore[no-untyped-def]
    return word(plan, _ORDER + i)


@compiled
def op_at(plan, i, column):  # type: ignore[no-untyped-def]
    return word(plan, _OPS + 11 * i + column)


@compiled
def measure_at(plan, i):  # type: ignore[no-untyped-def]
    return word(plan, _MEASURES + i)


@compiled
def text_column(plan, i, column):  # type: ignore[no-untyped-def]
    return word(plan, _TEXTS + 2 * i + column)


@compiled
def shape(plan, i):  # type: ignore[no-untyped-def]
    return word(plan, _SHAPE + i)


@compiled
def end_at(scratch, window, column):  # type: ignore[no-untyped-def]
    return word(scratch, word(scratch, E_ENDS) + 2 * window + column)


@compiled
def put_end(scratch, window, column, value):  # type: ignore[no-untyped-def]
    put_word(scratch, word(scratch, E_ENDS) + 2 * window + column, value)


@compiled
def sum_at(scratch, slot, column):  # type: ignore[no-untyped-def]
    return word(scratch, word(scratch, E_SUMS) + 6 * slot + column)


@compiled
def put_sum(scratch, slot, column, value):  # type: ignore[no-untyped-def]
    put_word(scratch, word(scratch, E_SUMS) + 6 * slot + column, value)


@compiled
def text_sum(scratch, slot, column):  # type: ignore[no-untyped-def]
    return word(scratch, word(scratch, E_TEXTS) + 3 * slot + column)


@compiled
def put_text_sum(scratch, slot, column, value):  # type: ignore[no-untyped-def]
    put_word(scratch, word(scratch, E_TEXTS) + 3 * slot + column, value)


@compiled
def hour_sum(scratch, slot, column):  # type: ignore[no-untyped-def]
    return word(scratch, word(scratch, E_HOURS) + 2 * slot + column)


@compiled
def put_hour_sum(scratch, slot, column, value):  # type: ignore[no-untyped-def]
    put_word(scratch, word(scratch, E_HOURS) + 2 * slot + column, value)


@compiled
def batch_time(batch, row):  # type: ignore[no-untyped-def]
    return word(word(batch, B_TIME), row)


@compiled
def batch_value(batch, row, measure):  # type: ignore[no-untyped-def]
    return word(word(batch, B_VALUES), row * word(batch, B_VALUES_WIDTH) + measure)


@compiled
def batch_key(batch, row, text):  # type: ignore[no-untyped-def]
    return word(word(batch, B_KEYS), row * word(batch, B_KEYS_WIDTH) + text)


@compiled
def batch_bits(batch, row):  # type: ignore[no-untyped-def]
    return quarter(word(batch, B_BITS), row)


@compiled
def put_feature(batch, row, column, value):  # type: ignore[no-untyped-def]
    put_double(word(batch, B_X), row * word(batch, B_X_WIDTH) + column, value)


@compiled
def batch_flags(batch, row):  # type: ignore[no-untyped-def]
    return octet(word(batch, B_FLAGS), row)


@compiled
def put_flags(batch, row, value):  # type: ignore[no-untyped-def]
    put_octet(word(batch, B_FLAGS), row, value)


@compiled
def batch_stored(batch, row):  # type: ignore[no-untyped-def]
    return octet(word(batch, B_STORED), row)


@compiled
def put_stored(batch, row, value):  # type: ignore[no-untyped-def]
    put_octet(word(batch, B_STORED), row, value)


@compiled
def mark_count(marks):  # type: ignore[no-untyped-def]
    return word(marks, M_COUNT)


@compiled
def mark_row(marks, i):  # type: ignore[no-untyped-def]
    return word(word(marks, M_ROW), i)


@compiled
def mark_source(marks, i):  # type: ignore[no-untyped-def]
    return word(word(marks, M_SOURCE), i)


@compiled
def mark_slot(marks, i):  # type: ignore[no-untyped-def]
    return word(word(marks, M_SLOT), i)


@compiled
def mark_time(marks, i):  # type: ignore[no-untyped-def]
    return word(word(marks, M_TIME), i)


@compiled
def mark_key(marks, i):  # type: ignore[no-untyped-def]
    return word(word(marks, M_KEY), i)


@compiled
def mark_sign(marks, i):  # type: ignore[no-untyped-def]
    return word(word(marks, M_SIGN), i)


@compiled
def mark_bits(marks, i):  # type: ignore[no-untyped-def]
    return word(word(marks, M_BITS), i)


@compiled
def half_at(store, i):  # type: ignore[no-untyped-def]
    """Return half word i of the arena, unsigned."""
    return half(word(store, K_WORDS), i)


@compiled
def put_half_at(store, i, value):  # type: ignore[no-untyped-def]
    put_half(word(store, K_WORDS), i, value)
