"""CSV files: a first line of names, then commas; UTF-8, with or without a byte order mark. An empty cell is missing.

A cell is text. What becomes of it follows from the field that reads its column, so an id keeps its leading zeros.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from fraudstream.batch import TransactionBatch
from fraudstream.bus.place import Place
from fraudstream.decode import Decoder, Rejected
from fraudstream.errors import ConfigError, RecordError
from fraudstream.event import Field

_WHOLE = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?\d{1,18}\.\d+", re.ASCII)
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}

Cells = list[str | None]


def csv_names(file: Place) -> list[str]:
    """Return the names of the columns. Raises ConfigError where they cannot be read, or two are the same."""
    with _rows(file) as (names, _):
        return names


def csv_columns(file: Place, wanted: list[str]) -> dict[str, Cells]:
    """Return those of the wanted columns that a file has, whole. Raises ConfigError for a row of another length."""
    with _rows(file) as (names, rows):
        kept = []
        for number, row in enumerate(rows, 1):
            if len(row) != len(names):
                raise ConfigError(f"{file}: row {number} {_of_another_length(row, names)}")
            kept.append(row)
    places = {name: names.index(name) for name in wanted if name in names}
    return {name: [row[place] or None for row in kept] for name, place in places.items()}


def csv_batches(
    file: Place, decoder: Decoder, rows_a_batch: int, offset: int
) -> Iterator[tuple[TransactionBatch, list[Rejected], int]]:
    """Yield batches of transactions, the rows that are none, and how many rows both were.

    Args:
        offset: of the file's first row; rows count from it.
    """
    with _rows(file) as (names, rows):
        fields = {place: (name, decoder.columns[name]) for place, name in enumerate(names)
                  if name in decoder.columns}  # fmt: skip
        if not fields:
            raise ConfigError(f"{file}: has none of the columns {', '.join(decoder.columns)}")
        while some := list(islice(rows, rows_a_batch)):
            odd = {i: _of_another_length(row, names) for i, row in enumerate(some) if len(row) != len(names)}
            whole = [[""] * len(names) if i in odd else row for i, row in enumerate(some)]
            columns = list(zip(*whole, strict=True))
            read: dict[str, Sequence[Any]] = {
                name: _typed(columns[place], field) for place, (name, field) in fields.items()
            }
            batch, rejected = decoder.decode_columns(read, offset)
            told = [
                Rejected(r.row, RecordError("$", odd[r.row]) if r.row in odd else r.error) for r in rejected
            ]
            yield batch, told, len(some)
            offset += len(some)


@contextmanager
def _rows(file: Place) -> Iterator[tuple[list[str], Iterator[list[str]]]]:
    """Open a file; gives its names and its further rows, blank lines left out."""
    try:
        with io.TextIOWrapper(file.open("rb"), encoding="utf-8-sig", newline="") as lines:
            rows = (row for row in csv.reader(lines, strict=True) if row)
            names = next(rows, [])
            if not names or len(set(names)) < len(names):
                raise ConfigError(f"{file}: the first line has to name the columns, each once")
            yield names, rows
    except csv.Error as error:
        raise ConfigError(f"{file}: is not CSV: {error}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: is not UTF-8 (byte {error.start} of a block)") from None


def _of_another_length(row: list[str], names: list[str]) -> str:
    return f"has {len(row)} cells; the first line has {len(names)}"


def _typed(cells: tuple[str, ...], field: Field) -> list[Any]:
    """Return cells as a field's reader takes them; what is of no such form is left as text, which it refuses."""
    if field.type == "boolean":
        return [_BOOLEANS.get(cell.lower(), cell) if cell else None for cell in cells]
    if field.type in ("timestamp", "integer") or field.unit == "minor":
        return [_number(cell) if cell else None for cell in cells]
    return [cell or None for cell in cells]


def _number(cell: str) -> int | float | str:
    if _WHOLE.fullmatch(cell):
        return int(cell)
    return float(cell) if _DECIMAL.fullmatch(cell) else cell
