"""The same features the way a service keeps them today: a dict of entities, a deque and running sums a window.

Every window of an entity is a deque of its rows. A row that comes first lets each window drop from the left
what has left it, reads the running sums, and is appended to each. So a sum, a count, a mean or a deviation
costs the same whatever the window holds; extremes keep a deque of candidates (a monotonic queue), distinct
values, shares and hours keep counts. Integers are Python's, so that a value is the engine's to the last bit.

What it leaves out, in its own favour: rows must come in time order, each has every measure, there is no cap,
no sweep of idle entities, no record of what is kept, and labels are not fed.
"""

from __future__ import annotations

import math
import operator
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any

from fraudstream.batch import TransactionBatch
from fraudstream.event import NUMERIC_TYPES
from fraudstream.features import Catalog, Feature
from fraudstream.features.where import Condition

Row = tuple[Any, ...]  # event time, hour of the day, then the fields that the entity's features look at
Values = list[float]
Test = Callable[[Row], bool]

NAN = math.nan
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
TIME, HOUR, FIRST_FIELD = 0, 1, 2
NEVER_MS = -(2**62)
EXTREMES = ("min", "max")
SUMS = ("sum", "mean", "std", "zscore", "ratio")
SAME = ("distinct", "share", "same_count", "time_since_same")
COMPARE = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt,
    ">=": operator.ge,
}  # fmt: skip


def can(feature: Feature) -> bool:
    """Tell whether the twin knows this feature."""
    return not feature.label


class WindowPlan:
    """What one window of a kind of entity keeps; `span` is (length, lag, resolution) in milliseconds."""

    def __init__(self, span: tuple[int, int, int], test: Test | None) -> None:
        self.length_ms, self.lag_ms, self.resolution_ms = span
        self.test = test
        self.sums: list[int] = []  # places in a row
        self.squares: list[int] = []
        self.extremes: list[tuple[int, int]] = []  # place, sign
        self.same: list[int] = []
        self.hours = False

    def begin_ms(self, time_ms: int) -> int:
        """Return the time at or before which a row has left the window."""
        begin_ms = time_ms - self.lag_ms - self.length_ms
        return begin_ms // self.resolution_ms * self.resolution_ms - 1 if self.resolution_ms else begin_ms

    def end_ms(self, time_ms: int) -> int:
        """Return the time up to which a row has come in."""
        end_ms = time_ms - self.lag_ms
        if not self.resolution_ms:
            return end_ms
        return end_ms // self.resolution_ms * self.resolution_ms + self.resolution_ms - 1


class Window:
    """One window of one entity."""

    __slots__ = ("extremes", "hours", "last", "plan", "rows", "same", "squares", "sums", "waiting")

    def __init__(self, plan: WindowPlan) -> None:
        self.plan = plan
        self.rows: deque[Row] = deque()
        self.waiting: deque[Row] | None = deque() if plan.lag_ms else None
        self.sums = [0] * len(plan.sums)
        self.squares = [0] * len(plan.squares)
        self.extremes: list[deque[tuple[int, int]]] = [deque() for _ in plan.extremes]
        self.same: list[Counter[str]] = [Counter() for _ in plan.same]
        self.last: list[dict[str, int]] = [{} for _ in plan.same]
        self.hours = [0] * 24 if plan.hours else []

    def move_to(self, time_ms: int) -> None:
        """Let rows come in that the lag kept out, and rows go that are too old."""
        if self.waiting is not None:
            end_ms = self.plan.end_ms(time_ms)
            while self.waiting and self.waiting[0][TIME] <= end_ms:
                self._enter(self.waiting.popleft())
        begin_ms = self.plan.begin_ms(time_ms)
        rows = self.rows
        while rows and rows[0][TIME] <= begin_ms:
            self._leave(rows.popleft())
        for candidates in self.extremes:
            while candidates and candidates[0][0] <= begin_ms:
                candidates.popleft()

    def append(self, row: Row) -> None:
        """Take the newest row in."""
        if self.plan.test is not None and not self.plan.test(row):
            return
        if self.waiting is None:
            self._enter(row)
        else:
            self.waiting.append(row)

    def _enter(self, row: Row) -> None:
        plan = self.plan
        self.rows.append(row)
        for i, at in enumerate(plan.sums):
            self.sums[i] += row[at]
        for i, at in enumerate(plan.squares):
            self.squares[i] += row[at] * row[at]
        for candidates, (at, sign) in zip(self.extremes, plan.extremes, strict=True):
            value = sign * row[at]
            while candidates and candidates[-1][1] <= value:
                candidates.pop()
            candidates.append((row[TIME], value))
        for i, at in enumerate(plan.same):
            if row[at] is not None:
                self.same[i][row[at]] += 1
                self.last[i][row[at]] = row[TIME]
        if self.hours:
            self.hours[row[HOUR]] += 1

    def _leave(self, row: Row) -> None:
        plan = self.plan
        for i, at in enumerate(plan.sums):
            self.sums[i] -= row[at]
        for i, at in enumerate(plan.squares):
            self.squares[i] -= row[at] * row[at]
        for i, at in enumerate(plan.same):
            text = row[at]
            if text is not None:
                left = self.same[i][text] - 1
                if left:
                    self.same[i][text] = left
                else:
                    del self.same[i][text], self.last[i][text]
        if self.hours:
            self.hours[row[HOUR]] -= 1


Read = Callable[[list[Window], Row], float]


class EntityPlan:
    """One kind of entity: the fields of its rows, its windows, and how each feature is read."""

    def __init__(self, catalog: Catalog, entity: str) -> None:
        self._event = catalog.event
        self.keys = catalog.event.entity_fields(entity)
        self.fields: list[str] = []
        self.windows: list[WindowPlan] = []
        self._spans: dict[tuple[Any, ...], int] = {}
        self.reads = [
            (column, self._read(f)) for column, f in enumerate(catalog.features) if f.entity == entity
        ]

    def _read(self, feature: Feature) -> Read:
        at = self._place(feature.of[0]) if feature.of else -1
        scale = 1
        if feature.of and self._event.fields[feature.of[0]].type in NUMERIC_TYPES:
            scale = 10 ** self._event.fields[feature.of[0]].digits
        seen = self._window(feature, feature.window_ms, filtered=True)
        plan = self.windows[seen]
        if feature.aggregate in SUMS:
            total = _index(plan.sums, at)
            squares = _index(plan.squares, at) if feature.aggregate in ("std", "zscore") else -1
            return lambda w, row: _from_sums(feature.aggregate, w[seen], total, squares, row[at], scale)
        if feature.aggregate in EXTREMES:
            sign = 1 if feature.aggregate == "max" else -1
            place = _index(plan.extremes, (at, sign))
            return lambda w, _: _extreme(w[seen].extremes[place], sign, scale)
        if feature.aggregate in SAME:
            return _read_same(feature.aggregate, seen, _index(plan.same, at), at)
        if feature.aggregate in ("velocity", "rate"):
            by_rate = feature.aggregate == "rate"
            all_ms = feature.window_ms if by_rate else feature.baseline_ms
            of_all = self._window(feature, all_ms, filtered=not by_rate)
            top, bottom = (1, 1) if by_rate else (feature.baseline_ms, feature.window_ms)
            return lambda w, _: _fraction(len(w[seen].rows) * top, len(w[of_all].rows) * bottom)
        plan.hours |= feature.aggregate == "hour_habit"
        return _READ_ROWS[feature.aggregate](seen)

    def _place(self, field: str) -> int:
        return FIRST_FIELD + _index(self.fields, field)

    def _window(self, feature: Feature, length_ms: int, filtered: bool) -> int:
        conditions = feature.where if filtered else ()
        span = (length_ms, feature.lag_ms, feature.resolution_ms)
        if (span, conditions) not in self._spans:
            self._spans[span, conditions] = len(self.windows)
            self.windows.append(WindowPlan(span, self._test(conditions)))
        return self._spans[span, conditions]

    def _test(self, conditions: Iterable[Condition]) -> Test | None:
        checks = [(self._place(c.field), COMPARE[c.op], c.value) for c in conditions]
        if not checks:
            return None
        return lambda row: all(row[at] is not None and holds(row[at], value) for at, holds, value in checks)


class DequeTwin:
    """Features one row after the other; rows must come in time order.

    Args:
        catalog: the features; `can` must hold for each.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._columns = len(catalog.features)
        self._event_reads = [
            (column, _read_event(feature, catalog))
            for column, feature in enumerate(catalog.features)
            if feature.entity == "event"
        ]
        kinds = dict.fromkeys(f.entity for f in catalog.features if f.entity != "event")
        self._plans = [EntityPlan(catalog, entity) for entity in kinds]
        self._entities: list[dict[Any, list[Window]]] = [{} for _ in self._plans]

    def observe(self, batch: TransactionBatch) -> list[Values]:
        """Return the features of a batch's rows and take the rows in."""
        times: list[int] = batch.time_ms.tolist()
        hours: list[int] = (batch.time_ms // HOUR_MS % 24).tolist()
        columns: dict[str, list[Any]] = {name: column.tolist() for name, column in batch.measures.items()}
        columns.update(batch.texts)
        X = [[NAN] * self._columns for _ in times]
        for plan, entities in zip(self._plans, self._entities, strict=True):
            keys: Iterable[Any] = zip(*(columns[field] for field in plan.keys), strict=True)
            rows = zip(times, hours, *(columns[field] for field in plan.fields), strict=True)
            for x, key, row in zip(X, keys, rows, strict=True):
                if None in key:
                    continue
                windows = entities.get(key)
                if windows is None:
                    windows = entities[key] = [Window(of_window) for of_window in plan.windows]
                for window in windows:
                    window.move_to(row[TIME])
                for column, read in plan.reads:
                    x[column] = read(windows, row)
                for window in windows:
                    window.append(row)
        for column, of_event in self._event_reads:
            for x, value in zip(X, of_event(batch), strict=True):
                x[column] = value
        return X


def _index(places: list[Any], wanted: Any) -> int:
    """Return the place of a value in a list, appended where it is not there yet."""
    if wanted not in places:
        places.append(wanted)
    return places.index(wanted)


def _fraction(top: int, bottom: int) -> float:
    return float(top) / float(bottom) if bottom else NAN


def _from_sums(aggregate: str, window: Window, total_at: int, squares_at: int, own: int, scale: int) -> float:
    n, total = len(window.rows), window.sums[total_at]
    if aggregate == "sum":
        return float(total) / float(scale)
    if aggregate == "mean":
        return _fraction(total, n * scale)
    if aggregate == "ratio":
        return _fraction(own * n, total)
    if n < 2:
        return NAN
    deviation = math.sqrt(_fraction(n * window.squares[squares_at] - total * total, n * (n - 1)))
    if aggregate == "std":
        return deviation / scale
    return _fraction(own * n - total, n) / deviation if deviation else NAN


def _extreme(candidates: deque[tuple[int, int]], sign: int, scale: int) -> float:
    return float(sign * candidates[0][1]) / float(scale) if candidates else NAN


def _read_same(aggregate: str, seen: int, place: int, at: int) -> Read:
    def distinct(w: list[Window], _: Row) -> float:
        return float(len(w[seen].same[place]))

    def same_count(w: list[Window], row: Row) -> float:
        return NAN if row[at] is None else float(w[seen].same[place].get(row[at], 0))

    def share(w: list[Window], row: Row) -> float:
        return NAN if row[at] is None else _fraction(w[seen].same[place].get(row[at], 0), len(w[seen].rows))

    def time_since_same(w: list[Window], row: Row) -> float:
        last = w[seen].last[place].get(row[at]) if row[at] is not None else None
        return NAN if last is None else (row[TIME] - last) / 1000.0

    return {
        "distinct": distinct, "same_count": same_count, "share": share, "time_since_same": time_since_same,
    }[aggregate]  # fmt: skip


def _hour_habit(window: Window, hour: int) -> float:
    near = window.hours[hour] + window.hours[hour - 1] + window.hours[(hour + 1) % 24]
    return _fraction(near, len(window.rows))


def _since_last(window: Window, time_ms: int) -> float:
    return (time_ms - window.rows[-1][TIME]) / 1000.0 if window.rows else NAN


_READ_ROWS: dict[str, Callable[[int], Read]] = {
    "count": lambda seen: lambda w, _: float(len(w[seen].rows)),
    "first_seen": lambda seen: lambda w, _: float(not w[seen].rows),
    "time_since_last": lambda seen: lambda w, row: _since_last(w[seen], row[TIME]),
    "hour_habit": lambda seen: lambda w, row: _hour_habit(w[seen], row[HOUR]),
}


def _read_event(feature: Feature, catalog: Catalog) -> Callable[[TransactionBatch], Iterable[float]]:
    of = feature.of
    if feature.aggregate == "hour_of_day":
        return lambda batch: (batch.time_ms // HOUR_MS % 24).astype(float).tolist()
    if feature.aggregate == "day_of_week":
        return lambda batch: ((batch.time_ms // DAY_MS + 3) % 7).astype(float).tolist()
    if feature.aggregate == "differs":
        return lambda batch: [
            NAN if None in pair else float(pair[0] != pair[1])
            for pair in zip(batch.texts[of[0]], batch.texts[of[1]], strict=True)
        ]
    field = catalog.event.fields[of[0]]
    if field.type in NUMERIC_TYPES:
        return lambda batch: [value / 10**field.digits for value in batch.measures[of[0]].tolist()]
    codes: dict[str | None, float] = {value: float(code) for code, value in enumerate(field.values)}
    return lambda batch: [codes.get(text, NAN) for text in batch.texts[of[0]]]
