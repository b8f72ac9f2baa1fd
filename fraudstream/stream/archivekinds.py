"""Messages of each topic -> Parquet tables by date, and what could not be read, untouched.

A transaction stands as the JSON that came, or that its schema gave, so that a replay reads, and rejects, what the
worker did. Decisions and labels have a column a field; a row of the feature log has one a feature. Times are Unix
milliseconds UTC.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, Union, get_args, get_origin

import msgspec
import numpy as np
import pyarrow as pa

from fraudstream.batch import Int64
from fraudstream.bus.formats import Read
from fraudstream.bus.merge import Order
from fraudstream.bus.raw import RAW, RAW_ORDER
from fraudstream.decode import Decoder, LabelDecoder, Rejected
from fraudstream.errors import RecordError
from fraudstream.records import Decision, Label
from fraudstream.stream.featurelog import ARCHIVE_COLUMNS, OWN_COLUMNS
from fraudstream.stream.publish import RUN_HEADER
from fraudstream.stream.recorded import table_of

ROWS_A_CHUNK = 256  # msgspec decodes best in chunks of this size
DAY_MS = 86_400_000

Tables = dict[str, pa.Table]


class Kind(Protocol):
    """How one topic is archived.

    Attributes:
        name: of its folder.
        topic: that it comes from.
        order: how rows are sorted in a file.
    """

    name: str
    topic: str
    order: Order

    def tables(self, messages: Sequence[Any]) -> tuple[Tables, Tables]:
        """Return the rows by date, and the messages that could not be read, by the date of their time stamp."""


class Transactions:
    """Transactions as they came, by event date.

    Args:
        read: gives their JSON.
    """

    name = "transactions"
    order = RAW_ORDER

    def __init__(self, topic: str, decoder: Decoder, read: Read) -> None:
        self.topic = topic
        self._decoder = decoder
        self._read = read

    def tables(self, messages: Sequence[Any]) -> tuple[Tables, Tables]:
        """Return what is JSON by event date, no transaction by that of its time stamp; and what could not be read."""
        read = self._read(messages)
        unread = {row: str(value) for row, value in enumerate(read) if isinstance(value, RecordError)}
        left = [messages[row] for row in unread]
        messages = [message for row, message in enumerate(messages) if row not in unread]
        values = [value for value in read if not isinstance(value, RecordError)]
        time_ms = np.array([message.timestamp()[1] for message in messages], np.int64)
        ids: list[str | None] = [None] * len(messages)
        reasons: list[str | None] = [None] * len(messages)
        for start in range(0, len(messages), ROWS_A_CHUNK):
            chunk = messages[start : start + ROWS_A_CHUNK]
            batch, rejected = self._decoder.decode_messages(
                values[start : start + len(chunk)],
                [message.key() for message in chunk],
                ([message.partition() for message in chunk], [message.offset() for message in chunk]),
                time_ms[start : start + len(chunk)],
            )
            time_ms[start + batch.source_row] = batch.time_ms
            for row, transaction_id in zip(batch.source_row.tolist(), batch.ids, strict=True):
                ids[start + row] = transaction_id
            for bad in rejected:
                reasons[start + bad.row] = str(bad.error)
        good = _raw(messages, values, time_ms, ids, reasons)
        return _by_date(good, self.order), _untouched(left, list(unread.values()))


class Structs:
    """Messages of a fixed struct, a column a field.

    Args:
        struct: the message's.
        time: field with the time that dates it.
        decode: messages' values -> good ones and the others.
    """

    def __init__(
        self, name: str, topic: str, struct: type[msgspec.Struct], time: str, decode: Decode
    ) -> None:
        self.name, self.topic = name, topic
        self.order = (time, "partition", "offset")
        self._decode = decode
        self._fields = struct_schema(struct)
        self._schema = pa.schema([*self._fields, *_POSITION, *(_SERVED if struct is Decision else ())])

    def tables(self, messages: Sequence[Any]) -> tuple[Tables, Tables]:
        """Return the rows by date, and the messages that could not be read."""
        good, rejected = self._decode([message.value() for message in messages])
        bad = {one.row: str(one.error) for one in rejected}
        kept = [message for row, message in enumerate(messages) if row not in bad]
        rows = [
            msgspec.to_builtins(value) | _position(message) | _served(message, value)
            for value, message in zip(good, kept, strict=True)
        ]
        table = pa.Table.from_pylist(rows, self._schema)
        left = [messages[row] for row in bad]
        return _by_date(table, self.order), _untouched(left, list(bad.values()))


class Features:
    """The feature log, a row a transaction, by the date on which it was written."""

    name = "features"
    order = (ARCHIVE_COLUMNS[0], "partition", "offset")

    def __init__(self, topic: str) -> None:
        self.topic = topic

    def tables(self, messages: Sequence[Any]) -> tuple[Tables, Tables]:
        """Return the rows by date, and the messages that could not be read."""
        parts, left = [], []
        for message in messages:
            table = table_of(message.value() or b"")
            if table is None or not set(OWN_COLUMNS) <= set(table.column_names):
                left.append(message)
                continue
            own = (
                pa.scalar(message.timestamp()[1], pa.int64()),
                pa.scalar(message.partition(), pa.int32()),
                pa.scalar(message.offset(), pa.int64()),
                pa.scalar(_headers(message).get(RUN_HEADER, "")),
            )
            for name, value in zip(ARCHIVE_COLUMNS, own, strict=True):
                table = table.append_column(name, pa.repeat(value, len(table)))
            parts.append(table)
        untouched = _untouched(left, ["$: is no message of the feature log"] * len(left))
        if not parts:
            return {}, untouched
        return _by_date(pa.concat_tables(parts, promote_options="default"), self.order), untouched


Decode = Callable[[Sequence[bytes | None]], tuple[list[Any], list[Rejected]]]


def decisions(topic: str) -> Structs:
    """Return how decisions are archived: by event date."""
    return Structs("decisions", topic, Decision, "event_time_ms", _decode_decisions)


def labels(topic: str) -> Structs:
    """Return how labels are archived: by the date on which they became known."""
    return Structs("labels", topic, Label, "known_at", LabelDecoder().decode)


def _decode_decisions(values: Sequence[bytes | None]) -> tuple[list[Any], list[Rejected]]:
    decode = msgspec.json.Decoder(Decision).decode
    good, rejected = [], []
    for row, value in enumerate(values):
        try:
            decision = decode(value or b"")
            if max(map(abs, (decision.event_time_ms, decision.sequence, decision.risk_points))) >= 2**62:
                raise msgspec.ValidationError("a number is out of range")
            good.append(decision)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            rejected.append(Rejected(row, RecordError("$", f"is no decision: {error}")))
    return good, rejected


def struct_schema(struct: type[msgspec.Struct]) -> pa.Schema:
    """Return the columns of a struct's fields."""
    return pa.schema([(field.name, _column_type(field.type)) for field in msgspec.structs.fields(struct)])


_PLAIN = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def _column_type(kind: Any) -> pa.DataType:
    if kind in _PLAIN:
        return _PLAIN[kind]
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        (inner,) = [one for one in get_args(kind) if one not in (type(None), msgspec.UnsetType)]
        return _column_type(inner)
    if origin is Literal:
        return _PLAIN[type(get_args(kind)[0])]
    if origin in (tuple, list):
        return pa.list_(_column_type(get_args(kind)[0]))
    return pa.struct(list(struct_schema(kind)))


_POSITION = pa.schema([("partition", pa.int32()), ("offset", pa.int64()), ("timestamp_ms", pa.int64())])
_SERVED = pa.schema(
    [
        ("repeated", pa.bool_()),
        ("run", pa.string()),
        ("source_partition", pa.int32()),
        ("source_offset", pa.int64()),
    ]
)


def _position(message: Any) -> dict[str, Any]:
    return {
        "partition": message.partition(),
        "offset": message.offset(),
        "timestamp_ms": message.timestamp()[1],
    }


def _served(message: Any, value: Any) -> dict[str, Any]:
    """Return what a decision's headers say: which run served which message."""
    if not isinstance(value, Decision):
        return {}
    headers = _headers(message)
    *_, partition, offset = ["", "", *headers.get("ce_id", "").split("/")]
    known = partition.isdigit() and offset.isdigit()
    return {
        "repeated": "repeated" in value.flags,
        "run": headers.get(RUN_HEADER, ""),
        "source_partition": int(partition) if known else None,
        "source_offset": int(offset) if known else None,
    }


def _headers(message: Any) -> dict[str, str]:
    return {name: (value or b"").decode("utf-8", "replace") for name, value in message.headers() or []}


def _raw(
    messages: Sequence[Any],
    values: Sequence[bytes | None],
    time_ms: Int64,
    ids: Sequence[str | None],
    reasons: Sequence[str | None],
) -> pa.Table:
    headers = [
        [{"name": name, "value": value} for name, value in message.headers() or []] for message in messages
    ]
    columns = [
        time_ms,
        [message.partition() for message in messages],
        [message.offset() for message in messages],
        [message.timestamp()[1] for message in messages],
        [message.key() for message in messages],
        values,
        headers,
        ids,
        reasons,
    ]
    return pa.table([pa.array(c, kind) for c, kind in zip(columns, RAW.types, strict=True)], RAW)


def _untouched(messages: Sequence[Any], reasons: Sequence[str]) -> Tables:
    """Return messages that could not be read, by the date of their time stamp."""
    values = [message.value() for message in messages]
    stamps = np.array([message.timestamp()[1] for message in messages], np.int64)
    return _by_date(_raw(messages, values, stamps, [None] * len(messages), reasons), RAW_ORDER)


def _by_date(table: pa.Table, order: Order) -> Tables:
    """Sort a table and cut it at midnight UTC."""
    if not len(table):
        return {}
    keys = [np.asarray(table[name]) for name in reversed(order)]
    table = table.take(pa.array(np.lexsort(keys)))
    day = np.asarray(table[order[0]]) // DAY_MS
    found = {}
    days, starts = np.unique(day, return_index=True)
    for number, start, stop in zip(days, starts, [*starts[1:], len(day)], strict=True):
        found[str(np.datetime64(int(number), "D"))] = table.slice(start, stop - start)
    return found
