"""Bytes or table columns -> TransactionBatch, and what had to be left out with the reason.

Every value has one definition, the scalar readers `_read_*`; a column is first tried as a whole in numpy,
and read value by value when that does not fit. Both give the same (tests/test_decode.py). A message is
decoded by itself: joining messages into one JSON array saves nothing (measured, docs/decisions/0003) and
would let a crafted message swallow its neighbour.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from fraudstream.batch import MISSING, Int64, TransactionBatch
from fraudstream.errors import ConfigError, RecordError
from fraudstream.event import FIXED_POINT_MAX, TEXT_TYPES, EventType, Field, parse_instant_ms
from fraudstream.records import Label, transaction_struct
from fraudstream.tokens import Tokens

TIME_MIN_MS = parse_instant_ms("1990-01-01")
TIME_MAX_MS = parse_instant_ms("2200-01-01")

LABEL_BYTES_MAX = 65_536
MISSING_FIELD = "is required and missing"
CHUNK_ROWS = 256  # what is decoded of them fits into a core's cache

_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)

Column = Sequence[Any]
Value = bytes | None | RecordError  # of a message; or why it has none that could be read
Problems = dict[int, str]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that is not scored: its place among the rows given, and why."""

    row: int
    error: RecordError


class Decoder:
    """Reads transactions of one event type.

    Args:
        event: the declared event type.
        used: names of the fields that the batch shall carry; the roles and the entities always are.

    Raises:
        ConfigError: a field's default is not a value of that field, or the key of the tokens cannot be had.
    """

    def __init__(self, event: EventType, used: set[str]) -> None:
        self._event = event
        carried = {event.id, event.time, event.amount, *([event.currency] if event.currency else [])}
        for entity in event.entities:
            carried.update(event.entity_fields(entity))
        self._fields = {n: f for n, f in event.fields.items() if n in carried | used}
        for name, field in event.fields.items():
            _check_default(name, field)
        self._tokens = Tokens(event.token_key_file) if event.token_key_file else None
        self._json = msgspec.json.Decoder(transaction_struct(event))
        self._plain = msgspec.json.Decoder(transaction_struct(event, plain=True))

    @property
    def columns(self) -> dict[str, Field]:
        """Return the keys or columns that are read, each with the field that reads it."""
        return {self._event.source_of(name): field for name, field in self._fields.items()}

    def decode_messages(
        self,
        values: Sequence[Value],
        keys: Sequence[bytes | None] | None,
        positions: tuple[npt.ArrayLike, npt.ArrayLike],
        now_ms: int | Int64 | None,
    ) -> tuple[TransactionBatch, list[Rejected]]:
        """Decode JSON messages.

        Args:
            values: the messages' values, n.
            keys: their keys, or None where the source has none (a file).
            positions: partitions and offsets, n each.
            now_ms: the instant(s) that an event time may be `future_tolerance` ahead of; None: any time.

        Returns:
            The good rows in the given order, and the others.
        """
        problems: dict[int, RecordError] = {}
        keyless: set[int] = set()
        if keys is not None and None in keys and self._event.null_key == "reject":
            keyless = {row for row, key in enumerate(keys) if key is None}
        columns: dict[str, list[Any]] = {name: [] for name in self._fields}
        getters = [(columns[name].extend, attrgetter(name)) for name in self._fields]
        plain = True
        for start in range(0, len(values), CHUNK_ROWS):
            chunk = values[start : start + CHUNK_ROWS]
            rows = None if keyless else self._plain_rows(chunk)
            if rows is None:
                plain, rows = False, self._rows(chunk, start, keyless, problems)
            for extend, get in getters:
                extend(map(get, rows))
        kept = [row for row in range(len(values)) if row not in problems] if problems else None
        return self._assemble(columns, kept, len(values), positions, now_ms, problems, plain)

    def decode_columns(
        self, columns: dict[str, Column], first_offset: int = 0
    ) -> tuple[TransactionBatch, list[Rejected]]:
        """Decode table columns, by source name, all of one length; rows are numbered from `first_offset`."""
        rows = len(next(iter(columns.values())))
        named: dict[str, Column] = {}
        for name in self._fields:
            source = self._event.source_of(name)
            if source not in columns and self._fields[name].required:
                raise RecordError(f"$.{source}", "the table has no such column")
            named[name] = columns.get(source) or [None] * rows
        positions = (np.zeros(rows, np.int64), np.arange(first_offset, first_offset + rows))
        return self._assemble(named, None, rows, positions, None, {}, False)

    def _null_key_reason(self) -> str:
        field = self._event.entity_fields(self._event.key)[0]
        return f'the message key is null; produce with {field} as the key, or set event.null_key = "accept"'

    def _plain_rows(self, values: Sequence[Value]) -> list[Any] | None:
        """Decode messages that need no closer look at any id or category; None: at least one does."""
        decode = self._plain.decode
        try:
            joined = b"".join(values)  # type: ignore[arg-type]  # what is no bytes raises
            if joined.isascii() and max(map(len, values)) <= self._event.message_bytes_max:  # type: ignore[arg-type]
                return [decode(value) for value in values]  # type: ignore[arg-type]
        except (TypeError, msgspec.DecodeError, RecursionError):
            pass
        return None

    def _rows(
        self, values: Sequence[Value], first: int, keyless: set[int], problems: dict[int, RecordError]
    ) -> list[Any]:
        """Decode the good ones of messages, and tell what is wrong with the others, numbered from `first`."""
        rows = []
        for row, value in enumerate(values, first):
            try:
                decoded = _decode_one(self._json.decode, value, self._event.message_bytes_max)
                if row in keyless:
                    raise RecordError("key", self._null_key_reason(), "key")
                rows.append(decoded)
            except RecordError as error:
                problems[row] = error
        return rows

    def _assemble(
        self,
        columns: Mapping[str, Column],
        kept: list[int] | None,
        total: int,
        positions: tuple[npt.ArrayLike, npt.ArrayLike],
        now_ms: int | Int64 | None,
        problems: dict[int, RecordError],
        plain: bool,
    ) -> tuple[TransactionBatch, list[Rejected]]:
        source_row = np.arange(total) if kept is None else np.array(kept, np.int64)
        found: dict[int, RecordError] = {}
        measures: dict[str, Int64] = {}
        texts: dict[str, list[str | None]] = {}
        for name, field in self._fields.items():
            bad: Problems = {}
            if field.type in TEXT_TYPES:
                texts[name] = columns[name] if plain else read_texts(columns[name], field, bad)  # type: ignore[assignment]
                if field.token and self._tokens is not None:
                    texts[name] = self._tokens.of(texts[name])
            else:
                measures[name] = read_measures(columns[name], field, bad)
            for row, reason in bad.items():
                kind = "missing" if reason == MISSING_FIELD else "value"
                found.setdefault(row, RecordError(f"$.{self._event.source_of(name)}", reason, kind))
        time_ms = measures.pop(self._event.time)
        self._reject_future(time_ms, now_ms, source_row, found)
        ids = texts[self._event.id]
        batch = TransactionBatch(
            ids=ids,  # type: ignore[arg-type]  # the id is required: no None is left below
            time_ms=time_ms,
            measures=measures,
            texts=texts,
            partition=np.asarray(positions[0], np.int64)[source_row],
            offset=np.asarray(positions[1], np.int64)[source_row],
            source_row=source_row,
        )
        if found:
            problems.update({int(source_row[row]): error for row, error in found.items()})
            batch = batch.take(np.array([r for r in range(len(ids)) if r not in found], np.int64))
        return batch, [Rejected(row, problems[row]) for row in sorted(problems)]

    def _reject_future(
        self, time_ms: Int64, now_ms: int | Int64 | None, source_row: Int64, found: dict[int, RecordError]
    ) -> None:
        if now_ms is None:
            return
        now = now_ms if isinstance(now_ms, int) else now_ms[source_row]
        path = f"$.{self._event.source_of(self._event.time)}"
        for row in np.flatnonzero(time_ms > now + self._event.future_tolerance_ms).tolist():
            reason = (
                f"is more than {self._event.future_tolerance} ahead of the clock (event.future_tolerance)"
            )
            found.setdefault(row, RecordError(path, reason, "future"))


class _LabelMessage(Label, frozen=True, kw_only=True):
    transaction_id: str = ""
    entity: str = ""


class LabelDecoder:
    """Reads labels as they stand in their topic."""

    def __init__(self) -> None:
        self._json = msgspec.json.Decoder(_LabelMessage)

    def decode(self, values: Sequence[bytes | None]) -> tuple[list[Label], list[Rejected]]:
        """Return the good labels in the given order, and the others."""
        labels, rejected = [], []
        for row, value in enumerate(values):
            try:
                label = _decode_one(self._json.decode, value, LABEL_BYTES_MAX)
                _check_label(label)
                labels.append(label)
            except RecordError as error:
                rejected.append(Rejected(row, error))
        return labels, rejected


def _check_label(label: _LabelMessage) -> None:
    if label.entity:
        raise RecordError("$.entity", "a label of a whole entity belongs into the files of the label ledger")
    if not label.transaction_id:
        raise RecordError("$.transaction_id", MISSING_FIELD, "missing")
    if not TIME_MIN_MS <= label.known_at < TIME_MAX_MS:
        raise RecordError("$.known_at", "is not between 1990 and 2200 in Unix milliseconds")


def _check_default(name: str, field: Field) -> None:
    if field.default is None or field.type in TEXT_TYPES:
        return
    try:
        _READERS[field.type](field.default, field)
    except ValueError as error:
        raise ConfigError(f"event.fields.{name}.default = {json.dumps(field.default)}: {error}") from None


_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>\$.*)`)?$", re.DOTALL)
_MISSING_FIELD = re.compile(r"Object missing required field `(.+)`")


def _decode_one(decode: Callable[[bytes], Any], value: Value, limit: int) -> Any:
    if isinstance(value, RecordError):
        raise value
    if value is None:
        raise RecordError("$", "the value is null; give a JSON object", "json")
    if (too_large := too_long(value, limit)) is not None:
        raise too_large
    try:
        value.decode()  # also where a key that nobody reads carries the bad bytes
        return decode(value)
    except UnicodeDecodeError as error:
        raise RecordError("$", f"is not UTF-8 (byte {error.start})", "json") from None
    except RecursionError:
        raise RecordError("$", "is nested too deeply", "json") from None
    except msgspec.ValidationError as error:
        raise _located(str(error)) from None
    except msgspec.DecodeError as error:
        if (name := _not_a_number(value)) is not None:
            reason = "is NaN or infinite, which JSON does not know"
            raise RecordError(f"$.{name}", reason, "json") from None
        raise RecordError("$", f"is not JSON: {error}", "json") from None


def too_long(value: bytes, limit: int) -> RecordError | None:
    """Return what is wrong with a message that is longer than accepted; None where it is not."""
    if len(value) <= limit:
        return None
    return RecordError("$", f"has {len(value)} bytes; {limit} are accepted (event.message_bytes_max)", "size")


def _not_a_number(value: bytes) -> str | None:
    """Return the first key with NaN or Infinity, if that is what keeps a message from being JSON."""
    try:
        plain = json.loads(value)  # reads what Python's own writer writes
    except (ValueError, RecursionError):
        return None
    found = plain.items() if isinstance(plain, dict) else ()
    names = (key for key, value in found if isinstance(value, float) and not math.isfinite(value))
    return next((name for name in names if len(name) <= 64 and name.isprintable()), None)


def _located(message: str) -> RecordError:
    match = _AT.match(message)
    assert match is not None
    path = match["path"] or "$"
    if missing := _MISSING_FIELD.match(match["what"]):
        return RecordError(f"{path}.{missing[1]}", MISSING_FIELD, "missing")
    return RecordError(path, match["what"].replace("`", "").lower(), "type")


def read_texts(values: Column, field: Field, bad: Problems) -> list[str | None]:
    """Read an id or category column as text; whole numbers become their decimal digits."""
    kinds = set(map(type, values))
    optional = not field.required and field.default is None
    if kinds <= ({str, type(None)} if optional else {str}) and "" not in values:
        return list(values)
    read: list[str | None] = []
    for row, value in enumerate(values):
        try:
            read.append(_read_text(value, field))
        except ValueError as error:
            bad[row] = str(error)
            read.append(None)
    return read


def _read_text(value: Any, field: Field) -> str | None:
    if value is None or value == "":
        if field.required:
            raise ValueError(MISSING_FIELD)
        return None if field.default is None else str(field.default)
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"expected text or a whole number, got {type(value).__name__}")


def read_measures(values: Column, field: Field, bad: Problems) -> Int64:
    """Read a numeric column as fixed-point int64 (a time as Unix ms); MISSING where there is none."""
    whole = _read_whole(values, field)
    if whole is not None:
        return whole
    reader = _READERS[field.type]
    read = np.full(len(values), MISSING, np.int64)
    for row, value in enumerate(values):
        try:
            chosen = field.default if value is None or value != value else value
            if chosen is not None:
                read[row] = reader(chosen, field)
            elif field.required:
                bad[row] = MISSING_FIELD if value is None else "is NaN; give a number"
        except ValueError as error:
            bad[row] = str(error)
    return read


def _read_whole(values: Column, field: Field) -> Int64 | None:
    """Read a column of one plain kind at once; None where any value needs a closer look."""
    kinds = set(map(type, values))
    if len(kinds) != 1:
        return None
    kind = kinds.pop()
    if field.type == "timestamp":
        low, high, scale, origin = TIME_MIN_MS, TIME_MAX_MS, field.unit_ms, field.origin_ms
        if kind is not int:
            return None
    elif field.type in ("amount", "number") and kind in (int, float, str):
        low = 0 if field.type == "amount" else -FIXED_POINT_MAX
        high, origin = FIXED_POINT_MAX, 0
        scale = 1.0 if field.unit == "minor" else float(10**field.digits)
        if field.unit == "minor" and kind is not int:
            return None
    else:
        return None
    try:
        if kind is str:
            if "".join(values).encode("ascii").translate(None, b"0123456789."):
                return None
            values = [float(value) for value in values]
        column = np.array(values, np.float64)
    except (ValueError, OverflowError):
        return None
    with np.errstate(over="ignore"):  # 1e308 in cents is too large, which is said below
        scaled = np.rint(column * scale) + origin
    if not bool(np.all((scaled >= low) & (scaled <= high))):
        return None
    return scaled.astype(np.int64)


def _read_time(value: Any, field: Field) -> int:
    if isinstance(value, str):
        try:
            time_ms = parse_instant_ms(value)
        except ValueError:
            raise ValueError("is not a time; give ISO 8601 text or a number") from None
    elif isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        time_ms = (moment - _EPOCH) // _MS
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e20:
        time_ms = round(float(value) * field.unit_ms) + field.origin_ms
    else:
        raise ValueError("is not a time; give ISO 8601 text or a number")
    if not TIME_MIN_MS <= time_ms <= TIME_MAX_MS:
        unit = field.unit or "ms"
        raise ValueError(f"is outside the years 1990 to 2200; numbers are read in {unit} (the field's unit)")
    return time_ms


def _read_amount(value: Any, field: Field) -> int:
    fixed = _read_fixed(value, field)
    if fixed < 0:
        raise ValueError("is negative; give an amount of 0 or more")
    return fixed


def _read_fixed(value: Any, field: Field) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        raise ValueError(f"expected a number, got {type(value).__name__}")
    if isinstance(value, str) and not _DECIMAL.fullmatch(value):
        raise ValueError("is not a decimal number")
    if field.unit == "minor" and not isinstance(value, int):
        raise ValueError("expected a whole number of minor units")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError("is not a finite number")
    scaled = number * (1.0 if field.unit == "minor" else float(10**field.digits))
    fixed = round(scaled) if math.isfinite(scaled) else FIXED_POINT_MAX + 1
    if abs(fixed) > FIXED_POINT_MAX:
        raise ValueError(f"is too large; at most {FIXED_POINT_MAX} units of its last digit are accepted")
    return fixed


def _read_integer(value: Any, field: Field) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"expected a whole number, got {type(value).__name__}")
    return _read_fixed(value, field)


def _read_boolean(value: Any, field: Field) -> int:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, got {type(value).__name__}")
    return int(value)


_READERS: dict[str, Callable[[Any, Field], int]] = {
    "timestamp": _read_time,
    "amount": _read_amount,
    "number": _read_fixed,
    "integer": _read_integer,
    "boolean": _read_boolean,
}
