"""A batch's fields as the stages take them: ids hashed, categories as codes, filters as bits."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fraudstream.batch import MISSING, Float64, Int64, TransactionBatch, UInt64
from fraudstream.event import TEXT_TYPES, EventType
from fraudstream.features.keys import combine, hash_texts
from fraudstream.features.where import Condition

CODES_MAX = 65_535
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


class Codes:
    """The codes of one category field, from 1 on, in order of first sight; 0 stands for no value.

    Beyond CODES_MAX different values all further ones share the last code.
    """

    def __init__(self) -> None:
        self.of: dict[str | None, int] = {None: 0}
        self._places = np.empty(0)

    def code(self, text: str | None) -> int:
        """Return a value's code, a new one if need be."""
        found = self.of.get(text)
        if found is None:
            found = self.of[text] = min(len(self.of), CODES_MAX)
        return found

    def places(self, values: list[str]) -> Float64:
        """Return by code where a value stands in the field's listed values; NaN for one that is not listed."""
        if len(self._places) != len(self.of) + 1:
            numbers = [self.code(value) for value in values]
            self._places = np.full(len(self.of) + 1, np.nan)
            self._places[numbers] = np.arange(len(numbers))
        return self._places

    def column(self, texts: list[str | None]) -> Int64:
        """Return the codes of a column, [n]."""
        try:
            return np.fromiter(map(self.of.__getitem__, texts), np.int64, len(texts))
        except KeyError:
            return np.fromiter(map(self.code, texts), np.int64, len(texts))


class BatchColumns:
    """The columns of one batch, each made once, when a stage first asks for it."""

    def __init__(self, batch: TransactionBatch, event: EventType, codes: dict[str, Codes]) -> None:
        self.batch = batch
        self._event = event
        self._codes = codes
        self._hashes: dict[str, UInt64] = {}
        self._keys: dict[str, Int64] = {}
        self._bits: dict[int, npt.NDArray[np.uint16]] = {}

    def hashes(self, field: str) -> UInt64:
        """Return the 64-bit hashes of a text field, [n]; 0 where there is none."""
        if field not in self._hashes:
            texts = self.batch.ids if field == self._event.id else self.batch.texts[field]
            self._hashes[field] = hash_texts(texts)
        return self._hashes[field]

    def know(self, field: str, hashes: UInt64) -> None:
        """Take hashes that were made before."""
        self._hashes[field] = hashes

    def entity(self, fields: tuple[str, ...]) -> UInt64:
        """Return the hashes of an entity, [n]; 0 where a field is missing."""
        return combine([self.hashes(field) for field in fields])

    def keys(self, field: str) -> Int64:
        """Return what rows keep of a text, [n]: a category's code, the upper 48 bits of an id's hash."""
        if field not in self._keys:
            if self._event.fields[field].type == "category":
                column = self._codes[field].column(self.batch.texts[field])
            else:
                hashes = self.hashes(field)
                column = hashes.view(np.int64) >> 16
                column[(column == 0) & (hashes != 0)] = 1
            self._keys[field] = column
        return self._keys[field]

    def bits(self, filters: list[tuple[Condition, ...]]) -> npt.NDArray[np.uint16]:
        """Return the bits of the filters that each row fulfils, [n]; bit 0 is the label's."""
        if id(filters) in self._bits:
            return self._bits[id(filters)]
        found = self._bits[id(filters)] = np.zeros(len(self.batch), np.uint16)
        for number, conditions in enumerate(filters):
            fulfilled = np.ones(len(self.batch), bool)
            for condition in conditions:
                fulfilled &= self._fulfilled(condition)
            found |= fulfilled.astype(np.uint16) << np.uint16(number + 1)
        return found

    def differing(self, left: str, right: str) -> Float64:
        """Return 1 where two text fields differ, 0 where they are equal, NaN where one is missing, [n]."""
        if {self._event.fields[left].type, self._event.fields[right].type} == {"category"}:
            first, second = self.keys(left), self._codes[left].column(self.batch.texts[right])
        else:
            first, second = self.hashes(left).view(np.int64), self.hashes(right).view(np.int64)
        return np.where((first == 0) | (second == 0), np.nan, (first != second).astype(np.float64))

    def positions(self, field: str) -> Float64:
        """Return where in its listed values a category stands, [n]; NaN for another value or none."""
        keys = self.keys(field)
        return self._codes[field].places(self._event.fields[field].values)[keys]

    def _fulfilled(self, condition: Condition) -> npt.NDArray[np.bool_]:
        compare = _OPERATORS[condition.op]
        field = self._event.fields[condition.field]
        if field.type in TEXT_TYPES:
            if field.type == "category":
                column, value = (
                    self.keys(condition.field),
                    self._codes[condition.field].code(str(condition.value)),
                )
                return np.asarray(compare(column, value) & (column != 0))
            hashes = self.hashes(condition.field)
            return np.asarray(compare(hashes, hash_texts([str(condition.value)])[0]) & (hashes != 0))
        column = self.batch.measures[condition.field]
        return np.asarray(compare(column, condition.value) & (column != MISSING))
