"""The same features with all that can be kept up to date kept so: a deque and running sums a window.

Every window of an entity is a deque of its rows. A row that comes first lets each window drop from the left
what has left it, reads the running sums, and is appended to each. So a sum, a count, a mean or a deviation
costs the same whatever the window holds; extremes keep a deque of candidates (a monotonic queue), distinct
values, shares and hours keep counts. This is a tuned baseline; what one writes first is in `features_walk.py`.

There is no cap on an entity's rows. See `features_twin.py` for what else is left out.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable

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

EXTREMES = ("min", "max")
SUMS = ("sum", "mean", "std", "zscore", "ratio")
SAME = ("distinct", "share", "same_count", "time_since_same")


class WindowPlan:
    """What one window of a kind of entity keeps."""

    def __init__(self, span: Span, checks: list[Check]) -> None:
        self.span = span
        self.checks = checks
        self.sums: list[int] = []  # places in a row
        self.squares: list[int] = []
        self.extremes: list[tuple[int, int]] = []  # place, sign
        self.same: list[int] = []
        self.hours = False


class Window:
    """One window of one entity."""

    __slots__ = ("extremes", "hours", "last", "plan", "rows", "same", "squares", "sums", "waiting")

    def __init__(self, plan: WindowPlan) -> None:
        self.plan = plan
        self.rows: deque[Row] = deque()
        self.waiting: deque[Row] | None = deque() if plan.span.lag_ms else None
        self.sums = [0] * len(plan.sums)
        self.squares = [0] * len(plan.squares)
        self.extremes: list[deque[tuple[int, int]]] = [deque() for _ in plan.extremes]
        self.same: list[Counter[str]] = [Counter() for _ in plan.same]
        self.last: list[dict[str, int]] = [{} for _ in plan.same]
        self.hours = [0] * 24 if plan.hours else []

    def move_to(self, time_ms: int) -> None:
        """Let rows come in that the lag kept out, and rows go that are too old."""
        if self.waiting is not None:
            end_ms = self.plan.span.end_ms(time_ms)
            while self.waiting and self.waiting[0][TIME] <= end_ms:
                self._enter(self.waiting.popleft())
        begin_ms = self.plan.span.begin_ms(time_ms)
        rows = self.rows
        while rows and rows[0][TIME] <= begin_ms:
            self._leave(rows.popleft())
        for candidates in self.extremes:
            while candidates and candidates[0][0] <= begin_ms:
                candidates.popleft()

    def append(self, row: Row) -> None:
        """Take the newest row in."""
        for at, holds, value in self.plan.checks:
            if row[at] is None or not holds(row[at], value):
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


class RunningKind(Kind):
    """One kind of entity: the windows of each, and how each feature is read from them."""

    def __init__(self, catalog: Catalog, entity: str) -> None:
        super().__init__(catalog, entity)
        self._plans: list[WindowPlan] = []
        self._reads = [
            (column, self._read(f)) for column, f in enumerate(catalog.features) if f.entity == entity
        ]
        self._entities: dict[Key, list[Window]] = {}

    def observe(self, key: Key, row: Row, x: Values) -> None:
        """Fill in the features of an entity's row and take the row in."""
        windows = self._moved(key, row)
        for column, read in self._reads:
            x[column] = read(windows, row)
        for window in windows:
            window.append(row)

    def absorb(self, key: Key, row: Row) -> None:
        """Take a row in."""
        for window in self._moved(key, row):
            window.append(row)

    def _moved(self, key: Key, row: Row) -> list[Window]:
        windows = self._entities.get(key)
        if windows is None:
            windows = self._entities[key] = [Window(plan) for plan in self._plans]
        for window in windows:
            window.move_to(row[TIME])
        return windows

    def _read(self, feature: Feature) -> Read:
        at = self.place(feature.of[0]) if feature.of else -1
        scale = self.scale(feature)
        seen = self._window(feature, feature.window_ms, filtered=True)
        plan = self._plans[seen]
        if feature.aggregate in SUMS:
            total = index(plan.sums, at)
            squares = index(plan.squares, at) if feature.aggregate in ("std", "zscore") else -1
            return lambda w, row: _from_sums(feature.aggregate, w[seen], total, squares, row[at], scale)
        if feature.aggregate in EXTREMES:
            sign = 1 if feature.aggregate == "max" else -1
            place = index(plan.extremes, (at, sign))
            return lambda w, _: _extreme(w[seen].extremes[place], sign, scale)
        if feature.aggregate in SAME:
            return _read_same(feature.aggregate, seen, index(plan.same, at), at)
        if feature.aggregate in ("velocity", "rate"):
            by_rate = feature.aggregate == "rate"
            all_ms = feature.window_ms if by_rate else feature.baseline_ms
            of_all = self._window(feature, all_ms, filtered=not by_rate)
            top, bottom = (1, 1) if by_rate else (feature.baseline_ms, feature.window_ms)
            return lambda w, _: fraction(len(w[seen].rows) * top, len(w[of_all].rows) * bottom)
        plan.hours |= feature.aggregate == "hour_habit"
        return _READ_ROWS[feature.aggregate](seen)

    def _window(self, feature: Feature, length_ms: int, filtered: bool) -> int:
        span = Span(length_ms, feature.lag_ms, feature.resolution_ms)
        checks = self.checks(feature.where if filtered else ())
        for at, plan in enumerate(self._plans):
            if (plan.span, plan.checks) == (span, checks):
                return at
        self._plans.append(WindowPlan(span, checks))
        return len(self._plans) - 1


def _from_sums(aggregate: str, window: Window, total_at: int, squares_at: int, own: int, scale: int) -> float:
    n, total = len(window.rows), window.sums[total_at]
    if aggregate == "sum":
        return float(total) / float(scale)
    if aggregate == "mean":
        return fraction(total, n * scale)
    if aggregate == "ratio":
        return fraction(own * n, total)
    if n < 2:
        return NAN
    deviation = math.sqrt(fraction(n * window.squares[squares_at] - total * total, n * (n - 1)))
    if aggregate == "std":
        return deviation / scale
    return fraction(own * n - total, n) / deviation if deviation else NAN


def _extreme(candidates: deque[tuple[int, int]], sign: int, scale: int) -> float:
    return float(sign * candidates[0][1]) / float(scale) if candidates else NAN


def _read_same(aggregate: str, seen: int, place: int, at: int) -> Read:
    def distinct(w: list[Window], _: Row) -> float:
        return float(len(w[seen].same[place]))

    def same_count(w: list[Window], row: Row) -> float:
        return NAN if row[at] is None else float(w[seen].same[place].get(row[at], 0))

    def share(w: list[Window], row: Row) -> float:
        return NAN if row[at] is None else fraction(w[seen].same[place].get(row[at], 0), len(w[seen].rows))

    def time_since_same(w: list[Window], row: Row) -> float:
        last = w[seen].last[place].get(row[at]) if row[at] is not None else None
        return NAN if last is None else (row[TIME] - last) / 1000.0

    return {
        "distinct": distinct, "same_count": same_count, "share": share, "time_since_same": time_since_same,
    }[aggregate]  # fmt: skip


def _hour_habit(window: Window, hour: int) -> float:
    near = window.hours[hour] + window.hours[hour - 1] + window.hours[(hour + 1) % 24]
    return fraction(near, len(window.rows))


def _since_last(window: Window, time_ms: int) -> float:
    return (time_ms - window.rows[-1][TIME]) / 1000.0 if window.rows else NAN


_READ_ROWS: dict[str, Callable[[int], Read]] = {
    "count": lambda seen: lambda w, _: float(len(w[seen].rows)),
    "first_seen": lambda seen: lambda w, _: float(not w[seen].rows),
    "time_since_last": lambda seen: lambda w, row: _since_last(w[seen], row[TIME]),
    "hour_habit": lambda seen: lambda w, row: _hour_habit(w[seen], row[HOUR]),
}
