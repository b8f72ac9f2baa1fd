"""One stage's features as integer arrays, which is all that the kernels know of a catalogue.

A *term* is what numbers are summed over: a measure (or just the rows), of the rows that fulfil a filter. A
*slot* is a term over one window. Text terms and hour terms likewise. Windows are sorted by lag, then length, so
that one walk back over the rows fills the slots of a term one after the other.

A row stands in the arena as `row_bytes` bytes one behind the other, so that all of it lies in one or two cache
lines: a time of 8 bytes; a measure or the hash of an id of 6 (48 bits); a category's code of 2; the bits of the
filters of 2. A tile keeps words only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from fraudstream.batch import Int64
from fraudstream.errors import ConfigError
from fraudstream.event import spell_duration
from fraudstream.features.access import plan_block
from fraudstream.features.aggregates import AGGREGATES
from fraudstream.features.catalog import Catalog, Feature
from fraudstream.features.where import Condition
from fraudstream.sections import StateSettings

ROWS = -1  # a term over the rows themselves
BLOCK_ROWS = 16
FILTERS_MAX = 15

# Columns of `terms`: the measure, the bits that a row must have, whether squares and extremes are needed (the
# number among those with extremes, or -1), and a tile's columns for count, sum, squares (two), minimum, maximum.
T_MEASURE, T_NEED, T_SQUARES, T_EXTREMES, T_COUNT_AT, T_SUM_AT, T_HIGH_AT, T_LOW_AT, T_MIN_AT, T_MAX_AT = (
    range(10)
)
# Columns of `text_terms`: the text, the bits, whether different values are counted, its words an entry of a map,
# its first text slot.
X_TEXT, X_NEED, X_DISTINCT, X_ENTRY_WORDS, X_FIRST = range(5)
# Columns of `ops`.
(OP_CODE, OP_WINDOW, OP_SLOT, OP_BASE_WINDOW, OP_BASE_SLOT, OP_MEASURE, OP_TEXT_SLOT, OP_HOUR_SLOT, OP_OUT,
 OP_SCALE, OP_NEED) = range(11)  # fmt: skip
# `shape`: bytes a row, where the filters' bits are (-1: none), a tile's length (0: rows), the reach, then the
# parts of an index: see `index.py`.
(P_ROW_BYTES, P_MASK, P_RESOLUTION_MS, P_REACH_MS, P_ACC, P_HOURS, P_DISTINCT, P_MAPS, P_BLOCKS, P_EXTREMES,
 P_BITS, P_ID) = range(12)  # fmt: skip

FRAUD_BIT = 1
MEDIANS = ("median", "median_ratio")
_FOUND = ("time_since_last", "time_since_first", "others_since_last", "others_since_first")
_WORD, _WIDE, _NARROW = 8, 6, 2


class Plan(NamedTuple):
    """What a stage computes and how its rows are laid out; all int64."""

    windows: Int64  # [w, 2] length and lag in ms
    terms: Int64
    slots: Int64  # [s, 3] term, window, 1 where the median is needed
    text_terms: Int64
    text_slots: Int64  # [s, 2] text term, window
    hour_slots: Int64  # [s, 2] bits that a row must have (of a tile: the term that counts), window
    by_window: Int64  # [w, 6] first and last slot of each of the three kinds in `order`
    order: Int64  # slots, text slots, hour slots, each sorted by window
    ops: Int64
    measures: Int64  # [m, 1] where in a row
    texts: Int64  # [t, 2] where in a row, 1 for an id, 0 for a category
    shape: Int64


class StagePlan(NamedTuple):
    """A plan with the names behind its numbers.

    Attributes:
        measures, ids, filters: fields of the measures and texts in order; conditions by bit.
        labelled: whether bit 0 marks fraud; masked: whether rows need bits.
    """

    plan: Plan
    measures: list[str]
    texts: list[str]
    filters: list[tuple[Condition, ...]]
    labelled: bool
    masked: bool


class _Numbers:
    """Hands out the numbers of (measure or text, bits), in order of first use."""

    def __init__(self) -> None:
        self.of: dict[tuple[int, int], int] = {}

    def __getitem__(self, thing: tuple[int, int]) -> int:
        return self.of.setdefault(thing, len(self.of))


def plan_stage(catalog: Catalog, features: list[tuple[int, Feature]], resolution_ms: int) -> StagePlan:
    """Return the plan of the features of one entity and resolution; each with its column of X."""
    spans = {(f.lag_ms, f.window_ms) for _, f in features}
    spans |= {(f.lag_ms, f.baseline_ms) for _, f in features if f.baseline_ms}
    windows = sorted(spans)
    filters = list(dict.fromkeys(f.where for _, f in features if f.where))
    if len(filters) > FILTERS_MAX:
        raise ConfigError(
            f"features: {features[0][1].entity} has {len(filters)} different `where`; {FILTERS_MAX} are accepted"
        )
    measured = [f for _, f in features if f.of and AGGREGATES[f.aggregate].of == "measure"]
    measures = list(dict.fromkeys(f.of[0] for f in measured))
    texts = list(dict.fromkeys(f.of[0] for _, f in features if f.of and AGGREGATES[f.aggregate].of == "text"))
    builder = _Builder(windows, filters, measures, texts, resolution_ms)
    ops = [builder.operation(f, column, catalog) for column, f in features]
    categories = {name for name in texts if catalog.event.fields[name].type == "category"}
    labelled = any(f.label for _, f in features)
    if labelled and not resolution_ms and catalog.event.id not in texts:
        texts.append(catalog.event.id)  # tells the rows of one instant apart when a label comes
    id_text = texts.index(catalog.event.id) if labelled and not resolution_ms else -1
    plan = builder.plan(ops, categories, bool(filters) or labelled, id_text)
    return StagePlan(plan, measures, texts, filters, labelled, bool(filters) or labelled)


def check_catalog(catalog: Catalog, state: StateSettings) -> None:
    """Check that every stage can be planned, and that its tiles fit into the rows of an entity: none is ever dropped.

    Raises:
        ConfigError: naming the entity or the feature that reaches furthest, and what would fit.
    """
    for entity, resolution_ms in catalog.stages:
        features = catalog.of_stage(entity, resolution_ms)
        plan_block(plan_stage(catalog, features, resolution_ms).plan)
        if not resolution_ms:
            continue
        longest = max((f for _, f in features), key=lambda f: f.reach_ms)
        span_ms = longest.reach_ms + state.lateness_ms
        needed = -(-span_ms // resolution_ms) + 2
        if needed > state.rows_max:
            raise ConfigError(
                f"{longest.name}: needs {needed:,} tiles of {spell_duration(resolution_ms)} for one {entity} "
                f"(window, lag and state.lateness), state.rows_max is {state.rows_max:,}; "
                "give a longer resolution or a shorter window"
            )


class _Builder:
    """Collects terms and slots while the operations are spelled out."""

    def __init__(
        self,
        windows: list[tuple[int, int]],
        filters: list[tuple[Condition, ...]],
        measures: list[str],
        texts: list[str],
        resolution_ms: int,
    ) -> None:
        self._windows = windows
        self._filters = filters
        self._measures = measures
        self._texts = texts
        self._resolution_ms = resolution_ms
        self._terms, self._text_terms = _Numbers(), _Numbers()
        self._slots: set[tuple[int, int]] = set()
        self._text_slots: set[tuple[int, int]] = set()
        self._hour_slots: set[tuple[int, int]] = set()
        self._squared: set[int] = set()
        self._extreme: dict[int, int] = {}  # term: its number among those with extremes
        self._distinct: set[tuple[int, int]] = set()
        self._medians: set[tuple[int, int]] = set()
        self._found = False

    def operation(self, feature: Feature, column: int, catalog: Catalog) -> dict[int, Any]:
        """Return the columns of one operation; slots still as (term, window)."""
        window = self._windows.index((feature.lag_ms, feature.window_ms))
        need = FRAUD_BIT if feature.label else 0
        if feature.where:
            need |= 2 << self._filters.index(feature.where)
        kind = AGGREGATES[feature.aggregate].of
        scale = 10 ** catalog.event.fields[feature.of[0]].digits if kind == "measure" else 1
        op: dict[int, Any] = {OP_CODE: AGGREGATES[feature.aggregate].code, OP_WINDOW: window, OP_SLOT: -1,
              OP_BASE_WINDOW: 0, OP_BASE_SLOT: -1, OP_MEASURE: 0, OP_TEXT_SLOT: -1, OP_HOUR_SLOT: -1,
              OP_OUT: column, OP_SCALE: scale, OP_NEED: need}  # fmt: skip
        if kind == "measure":
            op[OP_MEASURE] = self._measures.index(feature.of[0])
            op[OP_SLOT] = self._slot(op[OP_MEASURE], need, window)
            term = self._terms[(op[OP_MEASURE], need)]
            if feature.aggregate in ("std", "zscore"):
                self._squared.add(term)
            if feature.aggregate in ("min", "max"):
                self._extreme.setdefault(term, len(self._extreme))
            if feature.aggregate in MEDIANS:
                self._medians.add(op[OP_SLOT])
            return op
        if need or self._resolution_ms:
            op[OP_SLOT] = self._slot(ROWS, need, window)
        if feature.aggregate == "rate" and self._resolution_ms:
            op[OP_BASE_WINDOW], op[OP_BASE_SLOT] = window, self._slot(ROWS, 0, window)
        elif feature.aggregate == "rate":
            op[OP_BASE_WINDOW] = window
        if feature.baseline_ms:
            op[OP_BASE_WINDOW] = baseline = self._windows.index((feature.lag_ms, feature.baseline_ms))
            if need or self._resolution_ms:
                op[OP_BASE_SLOT] = self._slot(ROWS, need, baseline)
        if kind == "text":
            term = self._text_terms[(self._texts.index(feature.of[0]), need)]
            self._text_slots.add((term, window))
            op[OP_TEXT_SLOT] = (term, window)
            if feature.aggregate == "distinct":
                self._distinct.add((term, window))
        if feature.aggregate == "hour_habit":
            counted = self._terms[(ROWS, need)] if self._resolution_ms else need
            self._hour_slots.add((counted, window))
            op[OP_HOUR_SLOT] = (counted, window)
        self._found |= feature.aggregate in _FOUND and need != 0
        return op

    def _slot(self, measure: int, need: int, window: int) -> tuple[int, int]:
        slot = (self._terms[(measure, need)], window)
        self._slots.add(slot)
        return slot

    def plan(self, ops: list[dict[int, Any]], categories: set[str], masked: bool, id_text: int) -> Plan:
        """Return the arrays."""
        slots, text_slots, hour_slots = (
            sorted(self._slots),
            sorted(self._text_slots),
            sorted(self._hour_slots),
        )
        numbered = {
            OP_SLOT: slots, OP_BASE_SLOT: slots, OP_TEXT_SLOT: text_slots, OP_HOUR_SLOT: hour_slots,
        }  # fmt: skip
        table = [
            [
                numbered[key].index(value) if isinstance(value, tuple) else value
                for key, value in sorted(op.items())
            ]
            for op in ops
        ]
        measures, texts, mask, row_bytes = self._columns(categories, masked)
        terms, row_bytes = self._term_table(row_bytes)
        text_terms = [
            [text, need, 1 + max((text_slots.index(s) for s in self._distinct if s[0] == number), default=-1),
             2 + (sum(t == number for t, _ in text_slots) + 1) // 2,
             next(i for i, (t, _) in enumerate(text_slots) if t == number)]
            for (text, need), number in self._text_terms.of.items()
        ]  # fmt: skip
        by_window, order = self._order(slots, text_slots, hour_slots)
        reach = max(lag + length for lag, length in self._windows) + self._resolution_ms
        acc = 2 * len(self._windows)
        hours = acc + 4 * len(slots)
        distinct = hours + 24 * len(hour_slots)
        maps = distinct + len(text_slots)
        blocks = maps + 3 * len(text_terms)
        shape = [row_bytes, mask, self._resolution_ms, reach, acc, hours, distinct, maps, blocks,
                 len(self._extreme), int(self._found), id_text]  # fmt: skip
        return Plan(
            windows=_table([(length, lag) for lag, length in self._windows], 2),
            terms=_table(terms, T_MAX_AT + 1),
            slots=_table([(*slot, int(slot in self._medians)) for slot in slots], 3),
            text_terms=_table(text_terms, X_FIRST + 1),
            text_slots=_table(text_slots, 2),
            hour_slots=_table(hour_slots, 2),
            by_window=_table(by_window, 6),
            order=np.array(order, np.int64),
            ops=_table(table, OP_NEED + 1),
            measures=_table(measures, 1),
            texts=_table(texts, 2),
            shape=np.array(shape, np.int64),
        )

    def _columns(
        self, categories: set[str], masked: bool
    ) -> tuple[list[list[int]], list[list[int]], int, int]:
        """Return the columns of measures, texts and bits, and the bytes of a row."""
        if self._resolution_ms:
            return [], [], -1, _WORD
        measures = [[_WORD + _WIDE * i] for i in range(len(self._measures))]
        row_bytes = _WORD + _WIDE * len(measures)
        texts = []
        for name in self._texts:
            texts.append([row_bytes, int(name not in categories)])
            row_bytes += _NARROW if name in categories else _WIDE
        return measures, texts, row_bytes if masked else -1, row_bytes + _NARROW * masked

    def _term_table(self, row_bytes: int) -> tuple[list[list[int]], int]:
        """Return the terms, and the row_bytes of a row (of a tile: with the terms' columns)."""
        table = []
        for (measure, need), number in self._terms.of.items():
            squares, extreme = number in self._squared, self._extreme.get(number, -1)
            wanted = [True, measure != ROWS, squares, squares, extreme >= 0, extreme >= 0]
            at = [-1] * 6
            if self._resolution_ms:
                for part, is_wanted in enumerate(wanted):
                    if is_wanted:
                        at[part] = row_bytes
                        row_bytes += _WORD
            table.append([measure, need, int(squares), extreme, *at])
        return table, row_bytes

    def _order(self, *kinds: list[tuple[int, int]]) -> tuple[list[list[int]], list[int]]:
        order: list[int] = []
        by_window: list[list[int]] = [[] for _ in self._windows]
        for slots in kinds:
            for window, bounds in enumerate(by_window):
                mine = [number for number, (_, w) in enumerate(slots) if w == window]
                bounds += [len(order), len(order) + len(mine)]
                order += mine
        return by_window, order


def _table(rows: Iterable[Iterable[int]], width: int) -> Int64:
    return np.array(list(rows), np.int64).reshape(-1, width)
