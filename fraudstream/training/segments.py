"""Which transactions a figure is also told of by themselves: each value of a field, or what fulfils a filter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fraudstream.batch import Int64, TransactionBatch
from fraudstream.errors import ConfigError
from fraudstream.event import TEXT_TYPES, EventType
from fraudstream.features.where import Condition, fulfilled, parse_where

VALUES_MAX = 12  # of a field, the most frequent ones

Flags = npt.NDArray[np.bool_]


class Segments:
    """Gathers batch by batch which rows belong to which segment.

    Args:
        declared: fields of text, and filters as outcomes have them.

    Raises:
        ConfigError: one is neither.
    """

    def __init__(self, declared: Sequence[str], event: EventType) -> None:
        self._columns: dict[str, list[Any]] = {text: [] for text in declared}
        for text in declared:
            if text in event.fields and event.fields[text].type not in TEXT_TYPES:
                raise ConfigError(
                    f"segment {text}: has type {event.fields[text].type}; give an id, a category, or a filter such "
                    "as amount >= 100"
                )
        self._filters: dict[str, tuple[Condition, ...]] = {
            text: parse_where(text, "segment", event) for text in declared if text not in event.fields
        }
        compared = {c.field for where in self._filters.values() for c in where}
        self.fields = set(declared) - set(self._filters) | compared

    def add(self, batch: TransactionBatch) -> None:
        """Keep what says which rows belong to them."""
        for text, parts in self._columns.items():
            if text in self._filters:
                parts.append(fulfilled(self._filters[text], batch))
            else:
                parts.append(pa.array(batch.texts[text], pa.large_string()))

    def rows(self) -> dict[str, Flags]:
        """Return the rows of each segment, the most frequent values of a field first."""
        found: dict[str, Flags] = {}
        for text, parts in self._columns.items():
            if text in self._filters:
                found[text] = np.concatenate(parts)
                continue
            code, names = codes_of(pa.chunked_array(parts))
            often = np.argsort(-np.bincount(code[code >= 0], minlength=len(names)), kind="stable")
            for value in often[:VALUES_MAX].tolist():
                found[f'{text} = "{names[value]}"'] = code == value
        return found


def codes_of(column: pa.ChunkedArray) -> tuple[Int64, list[str]]:
    """Return a number for each text, and the texts by number; a null has a negative number of its own."""
    encoded = column.combine_chunks().dictionary_encode()
    alone = -1 - np.arange(len(encoded))
    missing = np.asarray(encoded.indices.is_null())
    code = np.where(missing, alone, np.asarray(encoded.indices.fill_null(0))).astype(np.int64)
    return code, encoded.dictionary.to_pylist()
