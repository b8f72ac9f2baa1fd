"""Features once more, offline and independent of the engine: numpy, entity by entity, from raw columns.

The rows stand in time order, which is their log order. For one kind of entity they are sorted by entity, so that
what a row may see is a slice of its entity's rows, found by bisection. Sums are differences of prefix sums of
integers; an extreme is taken over the slice; values are compared in Python, slice by slice. Rows that a filter
leaves out are taken out of the arrays first. A fraction's top and bottom are integers, divided last, as the
contract of the features has it, so that equal means equal to the last bit.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fraudstream.event import NUMERIC_TYPES, EventType
from fraudstream.features import Feature
from fraudstream.features.where import Condition

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
AGAINST = ("others_since_last", "others_since_first", "in_a_row", "time_since_other")
COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt,
    ">=": operator.ge,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class RawTable:
    """Transactions in log order, none late and none with a missing field.

    Attributes:
        time_ms: [n], never falling.
        numbers: measures in fixed point by field, each [n].
        codes: a number for each different text by field, each [n]; `texts` has the text of each number.
        fraud: [n] whether a label says fraud; known_at_ms: [n] since when, in stream time with grace.
    """

    event: EventType
    time_ms: Ints
    numbers: dict[str, Ints]
    codes: dict[str, Ints]
    texts: dict[str, list[str]]
    fraud: Flags
    known_at_ms: Ints

    def fulfilling(self, conditions: tuple[Condition, ...]) -> Flags:
        """Return which rows fulfil a filter."""
        met = np.ones(len(self.time_ms), bool)
        for condition in conditions:
            compare = COMPARE[condition.op]
            if condition.field in self.numbers:
                met &= compare(self.numbers[condition.field], condition.value)
            else:
                of_code = np.array([compare(text, condition.value) for text in self.texts[condition.field]])
                met &= of_code[self.codes[condition.field]]
        return met


@dataclass(frozen=True, slots=True)
class Slices:
    """What each row sees: rows `low` to `high` - 1 of those at `rows`, positions in log order.

    Attributes:
        rows: [m] by entity, then in log order.
        low, high: [n] one for each row of the table, in log order.
    """

    rows: Ints
    low: Ints
    high: Ints

    def of(self, kept: Flags) -> Slices:
        """Return the slices without the rows that are not kept."""
        before = np.r_[0, np.cumsum(kept[self.rows])]
        return Slices(self.rows[kept[self.rows]], before[self.low], before[self.high])

    @property
    def count(self) -> Ints:
        """Return the length of each slice."""
        return self.high - self.low


class Recomputation:
    """Columns of features over one table."""

    def __init__(self, table: RawTable) -> None:
        self._table = table
        self._ordered: dict[str, tuple[Ints, Ints, Ints]] = {}

    def column(self, feature: Feature) -> Floats:
        """Return one feature of all rows, in log order; NaN for missing."""
        if feature.entity == "event":
            return self._of_event(feature)
        everything = self._slices(feature, feature.window_ms)
        fulfilling = self._table.fulfilling(feature.where)
        seen = everything.of(fulfilling)
        if feature.label and feature.of:
            return self._of_known_amounts(feature, everything.of(fulfilling & self._table.fraud))
        if feature.aggregate in AGAINST or (feature.label and feature.aggregate.startswith("time_since")):
            return self._against_others(feature, everything, fulfilling)
        if feature.label:
            frauds = self._known_frauds(everything.of(fulfilling & self._table.fraud))
            return frauds.astype(float) if feature.aggregate == "count" else divided(frauds, everything.count)
        match feature.aggregate:
            case "count":
                return seen.count.astype(float)
            case "first_seen":
                return (seen.count == 0).astype(float)
            case "rate":
                return divided(seen.count, everything.count)
            case "velocity":
                longer = self._slices(feature, feature.baseline_ms).of(fulfilling)
                return divided(seen.count * feature.baseline_ms, longer.count * feature.window_ms)
            case "time_since_last":
                return self._since(np.where(seen.count > 0, seen.high - 1, -1), seen)
            case "time_since_first":
                return self._since(np.where(seen.count > 0, seen.low, -1), seen)
            case "hour_habit":
                return divided(self._near_in_hour(seen), seen.count)
            case "distinct" | "share" | "same_count" | "time_since_same":
                return self._by_value(feature, seen)
        return self._of_measure(feature, seen)

    def _by_entity(self, entity: str) -> tuple[Ints, Ints, Ints]:
        """Return the rows by entity, and in that order each row's first of its entity and a rising clock."""
        if entity not in self._ordered:
            fields = self._table.event.entity_fields(entity)
            _, number = np.unique([self._table.codes[f] for f in fields], axis=1, return_inverse=True)
            rows = np.argsort(number, kind="stable")
            ordered = number[rows]
            apart_ms = int(self._table.time_ms[-1] - self._table.time_ms[0]) + 400 * DAY_MS
            clock = ordered * apart_ms + self._table.time_ms[rows]
            self._ordered[entity] = rows, np.searchsorted(ordered, ordered), clock
        return self._ordered[entity]

    def _slices(self, feature: Feature, length_ms: int) -> Slices:
        rows, first, clock = self._by_entity(feature.entity)
        time_ms = self._table.time_ms[rows]
        end_ms = time_ms - feature.lag_ms
        begin_ms = end_ms - length_ms + 1  # the first that is seen
        if tile_ms := feature.resolution_ms:
            begin_ms = (begin_ms - 1) // tile_ms * tile_ms
            end_ms = end_ms // tile_ms * tile_ms + tile_ms - 1
        here = np.arange(len(rows))
        low = np.maximum(np.searchsorted(clock, clock - time_ms + begin_ms, side="left"), first)
        high = np.minimum(np.searchsorted(clock, clock - time_ms + end_ms, side="right"), here)
        in_log = np.empty_like(rows)
        in_log[rows] = here
        return Slices(rows, np.minimum(low, high)[in_log], high[in_log])

    def _of_measure(self, feature: Feature, seen: Slices) -> Floats:
        values = self._table.numbers[feature.of[0]]
        scale = 10 ** self._table.event.fields[feature.of[0]].digits
        n, inside = seen.count, values[seen.rows]
        if feature.aggregate in ("min", "max"):
            return divided(extremes(inside, seen, feature.aggregate), np.where(n > 0, scale, 0))
        if feature.aggregate in ("median", "median_ratio"):
            middle = twice_medians(inside, seen)
            if feature.aggregate == "median":
                return divided(middle, np.where(n > 0, 2 * scale, 0))
            return divided(2 * values, np.where(n > 0, middle, 0))
        total = within(inside, seen)
        match feature.aggregate:
            case "sum":
                return total / scale
            case "mean":
                return divided(total, n * scale)
            case "ratio":
                return divided(values * n, total)
        deviation = np.sqrt(divided(n * within(inside * inside, seen) - total * total, n * (n - 1)))
        if feature.aggregate == "std":
            return deviation / scale
        assert feature.aggregate == "zscore", feature.aggregate
        return divided(values * n - total, n) / np.where(deviation > 0, deviation, np.nan)

    def _by_value(self, feature: Feature, seen: Slices) -> Floats:
        codes = self._table.codes[feature.of[0]]
        inside, own = codes[seen.rows].tolist(), codes.tolist()
        bounds = zip(seen.low.tolist(), seen.high.tolist(), strict=True)
        if feature.aggregate == "distinct":
            return np.array([float(len(set(inside[low:high]))) for low, high in bounds])
        if feature.aggregate == "time_since_same":
            newest = [
                newest_of(inside, low, high, code) for code, (low, high) in zip(own, bounds, strict=True)
            ]
            return self._since(np.array(newest, np.int64), seen)
        counted = [inside[low:high].count(code) for code, (low, high) in zip(own, bounds, strict=True)]
        same = np.array(counted, np.int64)
        return same.astype(float) if feature.aggregate == "same_count" else divided(same, seen.count)

    def _since(self, at: Ints, seen: Slices) -> Floats:
        """Return the seconds since the row at a place of the slices' rows; NaN for place -1."""
        times = np.r_[self._table.time_ms[seen.rows], 0]  # -1 reads what is masked
        return np.where(at >= 0, (self._table.time_ms - times[at]) / 1000.0, np.nan)

    def _near_in_hour(self, seen: Slices) -> Ints:
        own, inside = (self._table.time_ms // HOUR_MS % 24), self._table.time_ms[seen.rows] // HOUR_MS % 24
        near = np.zeros(len(own), np.int64)
        for hour in range(24):
            near += within(np.isin(inside, [(hour - 1) % 24, hour, (hour + 1) % 24]), seen) * (own == hour)
        return near

    def _against_others(self, feature: Feature, window: Slices, fulfilling: Flags) -> Floats:
        times, now_ms = self._table.time_ms[window.rows], self._table.time_ms
        counting = fulfilling[window.rows] & (self._table.fraud[window.rows] | (not feature.label))
        known_ms = self._table.known_at_ms[window.rows] if feature.label else np.zeros(len(times), np.int64)
        found = np.full(len(now_ms), np.nan)
        for row, (low, high) in enumerate(zip(window.low.tolist(), window.high.tolist(), strict=True)):
            here = slice(low, high)
            counts = counting[here] & (known_ms[here] <= now_ms[row])
            found[row] = against(feature.aggregate, times[here], counts, int(now_ms[row]))
        return found

    def _of_known_amounts(self, feature: Feature, frauds: Slices) -> Floats:
        values = self._table.numbers[feature.of[0]][frauds.rows]
        scale = 10 ** self._table.event.fields[feature.of[0]].digits
        known_ms, found = self._table.known_at_ms[frauds.rows], np.full(len(self._table.time_ms), np.nan)
        for row in np.flatnonzero(frauds.count).tolist():
            here = slice(frauds.low[row], frauds.high[row])
            known = values[here][known_ms[here] <= self._table.time_ms[row]]
            if len(known):
                top = {"mean": known.sum, "min": known.min, "max": known.max}[feature.aggregate]()
                found[row] = top / (scale * len(known) if feature.aggregate == "mean" else scale)
        return found

    def _known_frauds(self, frauds: Slices) -> Ints:
        known_ms = self._table.known_at_ms[frauds.rows]
        known = np.zeros(len(self._table.time_ms), np.int64)
        for row in np.flatnonzero(frauds.count).tolist():
            here = known_ms[frauds.low[row] : frauds.high[row]]
            known[row] = (here <= self._table.time_ms[row]).sum()
        return known

    def _of_event(self, feature: Feature) -> Floats:
        field, time_ms = feature.of[0], self._table.time_ms
        match feature.aggregate:
            case "hour_of_day":
                return (time_ms // HOUR_MS % 24).astype(float)
            case "day_of_week":
                return ((time_ms // DAY_MS + 3) % 7).astype(float)  # 1970-01-01 was a Thursday
        declared = self._table.event.fields[field]
        if feature.aggregate == "value" and declared.type in NUMERIC_TYPES:
            return self._table.numbers[field] / 10**declared.digits
        texts = [np.array(self._table.texts[name], object)[self._table.codes[name]] for name in feature.of]
        if feature.aggregate == "differs":
            return (texts[0] != texts[1]).astype(float)
        code = {value: float(number) for number, value in enumerate(declared.values)}
        return np.array([code.get(text, np.nan) for text in texts[0]])


def divided(top: Ints, bottom: Ints) -> Floats:
    """Return top / bottom, each rounded to a float first; NaN where the bottom is 0."""
    return top.astype(float) / np.where(bottom == 0, np.nan, bottom.astype(float))


def within(values: npt.NDArray[Any], seen: Slices) -> Ints:
    """Return the sum of the values of each slice, exactly."""
    before = np.r_[0, np.cumsum(values, dtype=np.int64)]
    sums: Ints = before[seen.high] - before[seen.low]
    return sums


def extremes(values: Ints, seen: Slices, which: str) -> Ints:
    """Return the smallest or largest value of each slice; anything where it is empty."""
    found = np.zeros(len(seen.low), np.int64)
    filled = np.flatnonzero(seen.count)
    filled = filled[np.argsort(seen.high[filled])]  # slices follow each other: little lies between two
    cuts = np.stack([seen.low[filled], seen.high[filled]], axis=1).ravel()
    reduce = np.minimum if which == "min" else np.maximum
    found[filled] = reduce.reduceat(np.r_[values, 0], cuts)[::2]
    return found


def twice_medians(values: Ints, seen: Slices) -> Ints:
    """Return the sum of the two values in the middle of each slice; 0 where it is empty."""
    found = np.zeros(len(seen.low), np.int64)
    for row in np.flatnonzero(seen.count).tolist():
        ordered = np.sort(values[seen.low[row] : seen.high[row]])
        found[row] = ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]
    return found


def against(aggregate: str, times: Ints, counts: Flags, now_ms: int) -> float:
    """Return what sets the rows of a window that count against its others."""
    own, others = times[counts], times[~counts]
    if aggregate == "in_a_row":
        return float((own > others[-1]).sum() if len(others) else len(own))
    chosen = others if aggregate == "time_since_other" else own
    if not len(chosen):
        return np.nan
    match aggregate:
        case "others_since_last":
            return float((others > own[-1]).sum())
        case "others_since_first":
            return float((others >= own[0]).sum())
        case "time_since_first":
            return float(now_ms - own[0]) / 1000.0
    return float(now_ms - chosen[-1]) / 1000.0


def newest_of(values: list[int], low: int, high: int, wanted: int) -> int:
    """Return the last place in the slice with this value, -1 where there is none."""
    return next((at for at in range(high - 1, low - 1, -1) if values[at] == wanted), -1)
