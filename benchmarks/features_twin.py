"""What the twins of the feature engine share: rows in time order, one after the other, by kind of entity.

What they leave out, in their own favour: a late row, a row without its measures, a sweep of idle entities, a record
of what is kept, and labels. Integers are Python's, and a ratio is taken last, so that a value is the engine's
to the last bit.
"""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from fraudstream.batch import TransactionBatch
from fraudstream.event import NUMERIC_TYPES
from fraudstream.features import Catalog, Feature
from fraudstream.features.where import Condition

Key = tuple[str, ...]
Row = tuple[Any, ...]  # event time, hour of the day, then the fields that the entity's features look at
Values = list[float]
Check = tuple[int, Callable[[Any, Any], bool], Any]  # place in a row, comparison, with what

NAN = math.nan
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
TIME, HOUR, FIRST_FIELD = 0, 1, 2
COMPARE = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt,
    ">=": operator.ge,
}  # fmt: skip


def can(feature: Feature) -> bool:
    """Tell whether the twins know this feature."""
    return not feature.label


@dataclass(frozen=True, slots=True)
class Span:
    """Where a window lies before a row."""

    length_ms: int
    lag_ms: int
    resolution_ms: int

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


class Kind(ABC):
    """One kind of entity: its state, and how its features are read."""

    def __init__(self, catalog: Catalog, entity: str) -> None:
        self.keys = catalog.event.entity_fields(entity)
        self.fields: list[str] = []
        self._event = catalog.event

    @abstractmethod
    def observe(self, key: Key, row: Row, x: Values) -> None:
        """Fill in the features of an entity's row and take the row in."""

    @abstractmethod
    def absorb(self, key: Key, row: Row) -> None:
        """Take a row in."""

    def place(self, field: str) -> int:
        """Return where a row holds a field."""
        return FIRST_FIELD + index(self.fields, field)

    def scale(self, feature: Feature) -> int:
        """Return what a feature's sums are divided by; 1 unless it is about a number."""
        field = self._event.fields[feature.of[0]] if feature.of else None
        return 10**field.digits if field and field.type in NUMERIC_TYPES else 1

    def checks(self, conditions: Iterable[Condition]) -> list[Check]:
        """Return what a row must fulfil, by place."""
        return [(self.place(c.field), COMPARE[c.op], c.value) for c in conditions]


class Twin:
    """Features one row after the other; rows must come in time order.

    Args:
        catalog: the features; `can` must hold for each.
        kind: what keeps the rows of one kind of entity.
    """

    def __init__(self, catalog: Catalog, kind: Callable[[Catalog, str], Kind]) -> None:
        self._columns = len(catalog.features)
        self._event_reads = [
            (column, _read_event(feature, catalog))
            for column, feature in enumerate(catalog.features)
            if feature.entity == "event"
        ]
        entities = dict.fromkeys(f.entity for f in catalog.features if f.entity != "event")
        self._kinds = [kind(catalog, entity) for entity in entities]

    def observe(self, batch: TransactionBatch) -> list[Values]:
        """Return the features of a batch's rows and take the rows in."""
        X = [[NAN] * self._columns for _ in range(len(batch))]
        for kind in self._kinds:
            for x, (key, row) in zip(X, _keyed_rows(kind, batch), strict=True):
                if None not in key:
                    kind.observe(key, row, x)
        for column, of_event in self._event_reads:
            for x, value in zip(X, of_event(batch), strict=True):
                x[column] = value
        return X

    def absorb(self, batch: TransactionBatch) -> None:
        """Take a batch's rows in."""
        for kind in self._kinds:
            for key, row in _keyed_rows(kind, batch):
                if None not in key:
                    kind.absorb(key, row)


def index(places: list[Any], wanted: Any) -> int:
    """Return the place of a value in a list, appended where it is not there yet."""
    if wanted not in places:
        places.append(wanted)
    return places.index(wanted)


def fraction(top: int, bottom: int) -> float:
    """Return top / bottom of exact integers, each rounded to a float first; NaN where there is none."""
    return float(top) / float(bottom) if bottom else NAN


def _keyed_rows(kind: Kind, batch: TransactionBatch) -> Iterator[tuple[Key, Row]]:
    columns: dict[str, list[Any]] = {name: column.tolist() for name, column in batch.measures.items()}
    columns.update(batch.texts)
    hours = (batch.time_ms // HOUR_MS % 24).tolist()
    keys = zip(*(columns[field] for field in kind.keys), strict=True)
    rows = zip(batch.time_ms.tolist(), hours, *(columns[field] for field in kind.fields), strict=True)
    return zip(keys, rows, strict=True)


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
