"""The same features as one writes them first: a dict of entities, a deque of rows each, walked for every feature.

A row lets the deque of its entity drop from the left what no window reaches any more. Each window's rows are cut
from the deque once, by their time, and each of their fields that features look at becomes a list once; then every
feature goes through such a list, by Python's own `sum`, `max`, `set` or `count` where it can. Nothing is kept up
to date between two rows, so what a feature costs grows with what its window holds.

An entity keeps at most as many rows as the engine keeps, its newest: else a busy merchant's walk would go further
back than the engine does, and the twin take 2.6 times as long. See `features_twin.py` for what is left out.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from operator import itemgetter, mul
from typing import Any

from benchmarks.features_twin import (
    HOUR,
    NAN,
    TIME,
    Check,
    Key,
    Kind,
    Row,
    Span,
    Values,
    fraction,
    index,
)
from fraudstream.features import Catalog, Feature
from fraudstream.features.where import Condition

Read = Callable[[Row, list[list[Row]], list[list[Any]]], float]  # of a row, the windows, and their columns

TIME_OF = itemgetter(TIME)


class WalkedKind(Kind):
    """One kind of entity: the rows of each, the windows that are cut from them, and the columns of those."""

    def __init__(self, catalog: Catalog, entity: str, rows_max: int) -> None:
        super().__init__(catalog, entity)
        self._rows_max = rows_max
        self._windows: list[tuple[Span, list[Check]]] = []
        self._columns: list[tuple[int, int]] = []  # window, place in a row
        self._reads = [
            (column, self._read(f)) for column, f in enumerate(catalog.features) if f.entity == entity
        ]
        self._reach_ms = max(s.length_ms + s.lag_ms + s.resolution_ms for s, _ in self._windows)
        self._entities: dict[Key, deque[Row]] = {}

    def observe(self, key: Key, row: Row, x: Values) -> None:
        """Fill in the features of an entity's row and take the row in."""
        rows = self._within_reach(key, row)
        kept = list(rows)
        windows = [cut(kept, row[TIME], span, checks) for span, checks in self._windows]
        columns = [[earlier[at] for earlier in windows[window]] for window, at in self._columns]
        for column, read in self._reads:
            x[column] = read(row, windows, columns)
        rows.append(row)

    def absorb(self, key: Key, row: Row) -> None:
        """Take a row in."""
        self._within_reach(key, row).append(row)

    def _within_reach(self, key: Key, row: Row) -> deque[Row]:
        rows = self._entities.get(key)
        if rows is None:
            rows = self._entities[key] = deque(maxlen=self._rows_max)
        while rows and rows[0][TIME] <= row[TIME] - self._reach_ms:
            rows.popleft()
        return rows

    def _read(self, feature: Feature) -> Read:
        seen = self._window(feature, feature.window_ms, feature.where)
        match feature.aggregate:
            case "velocity":
                longer = self._window(feature, feature.baseline_ms, feature.where)
                top, bottom = feature.baseline_ms, feature.window_ms
                return lambda _, windows, __: fraction(
                    len(windows[seen]) * top, len(windows[longer]) * bottom
                )
            case "rate":
                of_all = self._window(feature, feature.window_ms, ())
                return lambda _, windows, __: fraction(len(windows[seen]), len(windows[of_all]))
            case "time_since_same":
                place = self.place(feature.of[0])
                return lambda row, windows, _: time_since_same(windows[seen], row, place)
        if of_rows := OF_ROWS.get(feature.aggregate):
            return lambda row, windows, _: of_rows(windows[seen], row)
        at = HOUR if feature.aggregate == "hour_habit" else self.place(feature.of[0])
        column, scale = index(self._columns, (seen, at)), self.scale(feature)
        of_values = OF_VALUES[feature.aggregate]
        return lambda row, _, columns: of_values(columns[column], row[at], scale)

    def _window(self, feature: Feature, length_ms: int, conditions: tuple[Condition, ...]) -> int:
        span = Span(length_ms, feature.lag_ms, feature.resolution_ms)
        return index(self._windows, (span, self.checks(conditions)))


def cut(kept: list[Row], time_ms: int, span: Span, checks: list[Check]) -> list[Row]:
    """Return the rows of a window, from those of its entity in time order."""
    begin = bisect_right(kept, span.begin_ms(time_ms), key=TIME_OF)
    end = bisect_right(kept, span.end_ms(time_ms), key=TIME_OF) if span.lag_ms else len(kept)
    rows = kept[begin:end]
    for at, holds, value in checks:
        rows = [row for row in rows if row[at] is not None and holds(row[at], value)]
    return rows


def time_since_same(rows: list[Row], row: Row, at: int) -> float:
    """Return the seconds since the newest row of a window with the same value."""
    own = row[at]
    if own is None:
        return NAN
    return next((_seconds(earlier, row) for earlier in reversed(rows) if earlier[at] == own), NAN)


def _seconds(earlier: Row, row: Row) -> float:
    return (row[TIME] - earlier[TIME]) / 1000.0


def _deviation(values: list[int]) -> float:
    n, total = len(values), sum(values)
    if n < 2:
        return NAN
    squares = sum(map(mul, values, values))
    return math.sqrt(fraction(n * squares - total * total, n * (n - 1)))


def _zscore(values: list[int], own: int, _: int) -> float:
    deviation = _deviation(values)
    return fraction(own * len(values) - sum(values), len(values)) / deviation if deviation else NAN


def _hour_habit(hours: list[int], own: int, _: int) -> float:
    near = sum(hours.count(hour % 24) for hour in (own - 1, own, own + 1))
    return fraction(near, len(hours))


OF_ROWS: dict[str, Callable[[list[Row], Row], float]] = {
    "count": lambda rows, _: float(len(rows)),
    "first_seen": lambda rows, _: float(not rows),
    "time_since_last": lambda rows, row: _seconds(rows[-1], row) if rows else NAN,
}
OF_VALUES: dict[
    str, Callable[[list[Any], Any, int], float]
] = {  # a window's values, the row's own, the scale
    "sum": lambda values, _, scale: fraction(sum(values), scale),
    "mean": lambda values, _, scale: fraction(sum(values), len(values) * scale),
    "min": lambda values, _, scale: fraction(min(values), scale) if values else NAN,
    "max": lambda values, _, scale: fraction(max(values), scale) if values else NAN,
    "std": lambda values, _, scale: _deviation(values) / scale,
    "zscore": _zscore,
    "ratio": lambda values, own, _: fraction(own * len(values), sum(values)),
    "hour_habit": _hour_habit,
    "distinct": lambda values, _, __: float(len(set(values) - {None})),
    "same_count": lambda values, own, _: NAN if own is None else float(values.count(own)),
    "share": lambda values, own, _: NAN if own is None else fraction(values.count(own), len(values)),
}
