"""Decoding: every message is either a row exactly right or a dead letter that says where and why."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.batch import MISSING, TransactionBatch
from fraudstream.decode import Decoder, LabelDecoder, Rejected, read_measures, read_texts
from fraudstream.errors import RecordError
from fraudstream.event import FIXED_POINT_MAX, EventType, Field, check_event

NOW_MS = 1_700_000_000_000
HOUR_MS = 3_600_000
MICROSECONDS = Field(type="timestamp", unit="us")

EVENT = EventType(
    id="transaction_id",
    time="event_time",
    amount="amount",
    currency="currency",
    fields={
        "transaction_id": Field(type="id", required=True),
        "event_time": Field(type="timestamp", required=True),
        "card_id": Field(type="id", required=True, source="Card No"),
        "amount": Field(type="amount", required=True),
        "currency": Field(type="category", default="EUR"),
        "device_id": Field(type="id"),
        "fee": Field(type="number"),
        "items": Field(type="integer", default=1),
        "recurring": Field(type="boolean"),
        "opened_at": Field(type="timestamp", unit="s"),
    },
    entities={"card": "card_id"},
)
check_event(EVENT)
COLUMNS = ("event_time", *EVENT.fields)

Message = dict[str, Any]


def decoder_of(event: EventType = EVENT) -> Decoder:
    return Decoder(event, set(event.fields))


def decode(
    values: list[bytes | None],
    event: EventType = EVENT,
    keys: list[bytes | None] | None = None,
    now_ms: int | None = None,
) -> tuple[TransactionBatch, list[Rejected]]:
    positions = ([3] * len(values), list(range(100, 100 + len(values))))
    return decoder_of(event).decode_messages(values, keys, positions, now_ms)


def message(**changes: Any) -> Message:
    """Return a good transaction with some fields changed, or taken out where the change is `...`."""
    fields = {"transaction_id": "t1", "event_time": NOW_MS, "Card No": "c1", "amount": 12.34, **changes}
    return {key: value for key, value in fields.items() if value is not ...}


def written(fields: Message) -> bytes:
    return json.dumps(fields).encode()


def fields_of(batch: TransactionBatch, row: int) -> Message:
    """Return a row's values by field name, None for missing."""
    measures = {name: int(column[row]) for name, column in batch.measures.items()}
    plain: Message = {name: None if value == MISSING else value for name, value in measures.items()}
    return {
        **plain,
        **{name: column[row] for name, column in batch.texts.items()},
        "event_time": int(batch.time_ms[row]),
    }


def one(fields: Message, event: EventType = EVENT) -> Message:
    """Return the one row that a good message gives."""
    batch, rejected = decode([written(fields)], event)
    assert [str(letter.error) for letter in rejected] == []
    return fields_of(batch, 0)


def refused(value: bytes | None, event: EventType = EVENT, now_ms: int | None = None) -> RecordError:
    """Return why a message is a dead letter."""
    batch, rejected = decode([value], event, now_ms=now_ms)
    assert len(batch) == 0
    (letter,) = rejected
    return letter.error


Bad = tuple[Callable[[bytes], bytes | None], str]


def changed(**changes: Any) -> Bad:
    (source,) = changes
    return lambda _: written(message(**changes)), f"$.{source}"


def text(literal: str, source: str, path: str = "") -> Bad:
    """Put a literal that `json.dumps` would not write in the place of a value."""

    def make(_: bytes) -> bytes:
        return written(message(**{source: "@"})).replace(b'"@"', literal.encode())

    return make, path or f"$.{source}"


def raw(value: bytes | None) -> Bad:
    return lambda _: value, "$"


BAD: dict[str, Bad] = {
    "null value": raw(None),
    "nothing": raw(b""),
    "white space": raw(b"  \n"),
    "not JSON": raw(b"hello"),
    "binary": raw(bytes(range(256))),
    "an array": raw(b"[]"),
    "a number": raw(b"12"),
    "a string": raw(b'"{}"'),
    "null": raw(b"null"),
    "cut off": (lambda good: good[:-1], "$"),
    "two values": (lambda good: good + good, "$"),
    "two values on two lines": (lambda good: good + b"\n" + good, "$"),
    "an array of two": (lambda good: b"[" + good + b"," + good + b"]", "$"),
    "single quotes": (lambda good: good.replace(b'"', b"'"), "$"),
    "a trailing comma": (lambda good: good[:-1] + b",}", "$"),
    "a byte order mark": (lambda good: b"\xef\xbb\xbf" + good, "$"),
    "UTF-16": (lambda good: good.decode().encode("utf-16"), "$"),
    "invalid UTF-8 in a value": (lambda _: written(message(transaction_id="@")).replace(b"@", b"\xff"), "$"),
    "invalid UTF-8 in an unknown value": (lambda good: good[:-1] + b',"x":"\xc3"}', "$"),
    "invalid UTF-8 in an unknown key": (lambda good: good[:-1] + b',"\xed\xa0\x80":1}', "$"),
    "a raw surrogate": (lambda _: written(message(transaction_id="@")).replace(b"@", b"\xed\xa0\x80"), "$"),
    "a lone surrogate escape": (lambda _: written(message(transaction_id="\ud800")), "$"),
    "a lone surrogate escape with text after it": (lambda _: written(message(**{"Card No": "\ud83dabcdefgh"})), "$"),
    "a lone low surrogate escape": (lambda _: written(message(transaction_id="a\udc00b")), "$"),
    "surrogates turned round": (lambda _: written(message(transaction_id="\ude00\ud83d")), "$"),
    "a megabyte": (lambda good: good[:-1] + b',"x":"' + b"x" * 1_000_000 + b'"}', "$"),
    "nested 100,000 deep": (lambda good: good[:-1] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "$"),
    "nested 20,000 deep": (lambda good: good[:-1] + b',"x":' + b"[" * 20_000 + b"]" * 20_000 + b"}", "$"),
    "nested and cut off": (lambda good: good[:-1] + b',"x":' + b'{"a":' * 10_000, "$"),
    "no id": changed(transaction_id=...),
    "no time": changed(event_time=...),
    "no card": (lambda _: written(message(**{"Card No": ...})), "$.Card No"),
    "the field's name for its source": (lambda _: written(message(**{"Card No": ..., "card_id": "c"})), "$.Card No"),
    "no amount": changed(amount=...),
    "null id": changed(transaction_id=None),
    "null amount": changed(amount=None),
    "empty id": changed(transaction_id=""),
    "empty card": (lambda _: written(message(**{"Card No": ""})), "$.Card No"),
    "a fraction as id": changed(transaction_id=1.5),
    "true as id": changed(transaction_id=True),
    "an object as id": changed(transaction_id={"id": "t1"}),
    "true as amount": changed(amount=True),
    "an array as amount": changed(amount=[1]),
    "an object as time": changed(event_time={"ms": 1}),
    "NaN": text("NaN", "amount"),
    "Infinity": text("Infinity", "amount"),
    "-Infinity": text("-Infinity", "fee"),
    "NaN under an unknown key": text("NaN", "x"),
    "NaN under a key of a lone surrogate": text("NaN", "\ud800", "$"),
    "NaN under a key of two lines": text("NaN", "a\nb", "$"),
    "NaN under a long key": text("NaN", "x" * 10_000, "$"),
    "NaN in a list": raw(b'{"x":[NaN]}'),
    "only NaN": raw(b"NaN"),
    "NaN as text": changed(amount="NaN"),
    "inf as text": changed(amount="inf"),
    "1e999": text("1e999", "amount"),
    "-1e999": text("-1e999", "fee"),
    "1e308": text("1e308", "amount"),
    "-1e308 as optional number": text("-1e308", "fee"),
    "a negative amount": changed(amount=-0.01),
    "a negative amount as text": changed(amount="-1"),
    "too large an amount": changed(amount=(FIXED_POINT_MAX + 1) / 100),
    "too large an amount as text": changed(amount="10995116277.76"),
    "a huge whole number": changed(amount=10**50),
    "a whole number beyond floats": changed(amount=10**400),
    "a whole number beyond int()": text("9" * 5000, "amount"),
    "an id beyond int()": text("9" * 5000, "transaction_id"),
    "digits beyond floats as text": changed(amount="9" * 400),
    "too large an integer": changed(items=2**40),
    "a fraction as integer": changed(items=1.5),
    "a whole float as integer": changed(items=1.0),
    "digits as integer": changed(items="1"),
    "true as integer": changed(items=True),
    "1 as boolean": changed(recurring=1),
    "yes as boolean": changed(recurring="yes"),
    "text as number": changed(fee="1.5"),
    "too large a number": changed(fee=2.0**40),
    "an empty amount": changed(amount=""),
    "a dot": changed(amount="."),
    "two dots": changed(amount="1.2.3"),
    "an exponent as text": changed(amount="1e3"),
    "grouped digits": changed(amount="1_000"),
    "a thousands comma": changed(amount="1,000"),
    "a space before": changed(amount=" 1"),
    "a newline after": changed(amount="1\n"),
    "Arabic digits": changed(amount="١٢"),
    "hexadecimal": changed(amount="0x10"),
    "a currency sign": changed(amount="€5"),
    "two signs": changed(amount="+-1"),
    "words as time": changed(event_time="yesterday"),
    "digits as time": changed(event_time=str(NOW_MS)),
    "an empty time": changed(event_time=""),
    "no such month": changed(event_time="2023-13-01T00:00:00Z"),
    "true as time": changed(event_time=True),
    "seconds as milliseconds": changed(event_time=NOW_MS // 1000),
    "microseconds as milliseconds": changed(event_time=NOW_MS * 1000),
    "a time before all cards": changed(event_time="0001-01-01T00:00:00+14:00"),
    "a time after all cards": changed(event_time="9999-12-31T23:59:59-14:00"),
    "a huge time": changed(event_time=10**400),
    "a huge float time": text("1e300", "event_time"),
    "zero time": changed(event_time=0),
    "milliseconds as seconds": changed(opened_at=NOW_MS),
    "an hour and a bit ahead": changed(event_time=NOW_MS + HOUR_MS + 1),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_message_is_refused_with_the_path_of_what_is_wrong(kind: str) -> None:
    make, path = BAD[kind]
    error = refused(make(written(message())), now_ms=NOW_MS)
    assert error.path == path
    assert error.reason.strip()
    assert "\n" not in str(error)
    assert len(str(error).encode()) < 300  # it goes into a header


@pytest.mark.parametrize("kind", ["nested 100,000 deep", "a megabyte", "nested and cut off"])
def test_a_large_or_deep_message_is_refused_whatever_the_size_limit(kind: str) -> None:
    make, _ = BAD[kind]
    event = msgspec.structs.replace(EVENT, message_bytes_max=10_000_000)
    batch, rejected = decode([make(written(message())), written(message())], event)
    assert len(batch) + len(rejected) == 2
    assert (len(batch) == 2) == (kind == "a megabyte")


@dataclass(frozen=True)
class Good:
    """A message and the row it must give; fields not named are missing or at their defaults."""

    value: bytes
    row: Message


def good(fields: Message, **row: Any) -> Good:
    missing = {
        "device_id": None,
        "fee": None,
        "items": 1,
        "recurring": None,
        "opened_at": None,
        "currency": "EUR",
    }
    expected = {"transaction_id": "t1", "event_time": NOW_MS, "card_id": "c1", "amount": 1234}
    return Good(written(fields), {**missing, **expected, **row})


GOOD: dict[str, Good] = {
    "plain": good(message()),
    "all fields": good(
        message(device_id="d", fee=-1.5, items=-3, recurring=True, opened_at=1_600_000_000, currency="CHF"),
        device_id="d",
        fee=-15_000,
        items=-3,
        recurring=1,
        opened_at=1_600_000_000_000,
        currency="CHF",
    ),
    "nulls": good(message(device_id=None, fee=None, items=None, recurring=None, opened_at=None, currency=None)),
    "an empty optional id": good(message(device_id="", currency="")),
    "false": good(message(recurring=False), recurring=0),
    "unknown fields": good(message(x={"y": [1, {"z": None}]}, card_id=7)),
    "amount as text": good(message(amount="12.34")),
    "amount as text without a fraction": good(message(amount="12."), amount=1200),
    "amount as text without a whole part": good(message(amount=".5"), amount=50),
    "amount with a plus": good(message(amount="+1"), amount=100),
    "amount of minus zero": good(message(amount="-0"), amount=0),
    "amount of leading zeros": good(message(amount="007.10"), amount=710),
    "whole amount": good(message(amount=12), amount=1200),
    "zero": good(message(amount=0), amount=0),
    "the largest amount": good(message(amount="10995116277.75"), amount=FIXED_POINT_MAX),
    "the largest amount as number": good(message(amount=10995116277.75), amount=FIXED_POINT_MAX),
    "less than a cent": good(message(amount="0.004"), amount=0),
    "half a cent and more": good(message(amount=0.006), amount=1),
    "an exponent as number": Good(
        written(message(amount="@")).replace(b'"@"', b"1.5e3"), good(message(), amount=150_000).row),
    "numeric ids": good(message(transaction_id=17, **{"Card No": -4}), transaction_id="17", card_id="-4"),
    "a huge numeric id": good(message(transaction_id=10**40), transaction_id=str(10**40)),
    "ids of other scripts": good(
        message(transaction_id="käfer", **{"Card No": "😀"}), transaction_id="käfer", card_id="😀"),
    "a NUL in an id": good(message(transaction_id="a\x00b"), transaction_id="a\x00b"),
    "time as text": good(message(event_time="2023-11-14T22:13:20Z")),
    "time with an offset": good(message(event_time="2023-11-15T00:13:20.25+02:00"), event_time=NOW_MS + 250),
    "time without an offset": good(message(event_time="2023-11-14 22:13:20")),
    "time as a day": good(message(event_time="2023-11-14"), event_time=1_699_920_000_000),
    "time with microseconds": good(message(event_time="2023-11-14T22:13:20.000999Z")),
    "time as a float": good(message(event_time=NOW_MS + 0.4)),
    "a time just within the tolerance": good(message(event_time=NOW_MS + HOUR_MS), event_time=NOW_MS + HOUR_MS),
    "duplicate keys": Good(b'{"amount":1,' + written(message())[1:], good(message()).row),
    "white space around": Good(b" \n" + written(message()) + b"\r\n ", good(message()).row),
    "UTF-8 not escaped": Good(
        json.dumps(message(transaction_id="ж", ключ="é"), ensure_ascii=False).encode(),
        good(message(), transaction_id="ж").row,
    ),
    "the opening a second before 1970": good(message(opened_at="1999-12-31T23:59:59Z"), opened_at=946_684_799_000),
}  # fmt: skip


@pytest.mark.parametrize("kind", GOOD)
def test_a_good_message_gives_exactly_its_row(kind: str) -> None:
    batch, rejected = decode([GOOD[kind].value], now_ms=NOW_MS)
    assert rejected == []
    assert fields_of(batch, 0) == GOOD[kind].row


def assert_sorted_out(kinds: list[str]) -> None:
    """Decode a batch of these kinds and account for every message."""
    plain = written(message())
    values = [GOOD[kind].value if kind in GOOD else BAD[kind][0](plain) for kind in kinds]
    batch, rejected = decode(values, now_ms=NOW_MS)
    expected = [(row, GOOD[kind].row) for row, kind in enumerate(kinds) if kind in GOOD]
    assert batch.source_row.tolist() == [row for row, _ in expected]
    assert batch.offset.tolist() == [100 + row for row, _ in expected]
    assert batch.partition.tolist() == [3] * len(expected)
    assert [fields_of(batch, row) for row in range(len(batch))] == [fields for _, fields in expected]
    assert batch.ids == [fields["transaction_id"] for _, fields in expected]
    told = [(letter.row, letter.error.path) for letter in rejected]
    assert told == [(row, BAD[kind][1]) for row, kind in enumerate(kinds) if kind in BAD]


@given(st.lists(st.sampled_from([*GOOD, *BAD]), max_size=30))
def test_bad_messages_never_touch_the_good_ones_beside_them(kinds: list[str]) -> None:
    assert_sorted_out(kinds)


def test_thousands_of_messages_are_each_a_row_or_a_dead_letter() -> None:
    draw = random.Random(20_240_229)
    small = [kind for kind in BAD if kind not in ("a megabyte", "nested 100,000 deep")]
    for share in (0.0, 0.01, 0.5, 1.0):
        assert_sorted_out([draw.choice(small if draw.random() < share else list(GOOD)) for _ in range(1500)])


@given(st.binary(max_size=200))
def test_any_bytes_are_a_row_or_a_dead_letter(value: bytes) -> None:
    batch, rejected = decode([value, written(message()), value])
    assert len(batch) + len(rejected) == 3
    assert 1 in batch.source_row.tolist()


@given(st.data())
def test_a_good_message_damaged_anywhere_is_a_row_or_a_dead_letter(data: st.DataObject) -> None:
    value = bytearray(GOOD[data.draw(st.sampled_from(list(GOOD)))].value)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(value) - 1))
        value[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
        value = value or bytearray(b"x")
    batch, rejected = decode([bytes(value), written(message())])
    assert len(batch) + len(rejected) == 2


def test_no_messages_give_an_empty_batch() -> None:
    batch, rejected = decode([])
    assert (len(batch), rejected) == (0, [])
    assert set(batch.texts) | set(batch.measures) | {"event_time"} == set(EVENT.fields)


def test_a_null_key_is_refused_unless_the_event_accepts_it() -> None:
    values: list[bytes | None] = [written(message()), written(message()), b"?"]
    keys: list[bytes | None] = [b"c1", None, None]
    batch, rejected = decode(values, keys=keys)
    assert batch.source_row.tolist() == [0]
    assert [(letter.row, letter.error.path) for letter in rejected] == [(1, "key"), (2, "$")]
    assert "card_id" in rejected[0].error.reason
    accepting = msgspec.structs.replace(EVENT, null_key="accept")
    assert decode(values, accepting, keys)[0].source_row.tolist() == [0, 1]
    assert decode(values)[0].source_row.tolist() == [0, 1]


def test_the_clock_of_each_message_decides_what_is_the_future() -> None:
    ahead = written(message(event_time=NOW_MS + 2 * HOUR_MS))
    clocks = np.array([NOW_MS, NOW_MS + HOUR_MS, NOW_MS], np.int64)
    values: list[bytes | None] = [b"?", ahead, ahead]
    batch, rejected = decoder_of().decode_messages(values, None, ([0] * 3, [0, 1, 2]), clocks)
    assert batch.source_row.tolist() == [1]
    assert [(letter.row, letter.error.path) for letter in rejected] == [(0, "$"), (2, "$.event_time")]
    assert "event.future_tolerance" in rejected[1].error.reason
    assert len(decoder_of().decode_messages([ahead], None, ([0], [0]), None)[0]) == 1


def test_fields_that_nobody_uses_are_not_carried() -> None:
    batch, _ = Decoder(EVENT, {"fee"}).decode_messages([written(message())], None, ([0], [0]), None)
    assert set(batch.measures) == {"amount", "fee"}
    assert set(batch.texts) == {"transaction_id", "card_id", "currency"}


def test_amounts_in_minor_units_are_whole_numbers_only() -> None:
    event = msgspec.structs.replace(
        EVENT, fields={**EVENT.fields, "amount": Field(type="amount", required=True, unit="minor")}
    )
    assert one(message(amount=1234), event)["amount"] == 1234
    assert one(message(amount=FIXED_POINT_MAX), event)["amount"] == FIXED_POINT_MAX
    for wrong in (12.34, 1234.0, "1234", -1, FIXED_POINT_MAX + 1):
        assert refused(written(message(amount=wrong)), event).path == "$.amount"


def test_a_time_counts_from_its_origin_in_its_unit() -> None:
    field = Field(type="timestamp", required=True, unit="s", origin="2018-04-01")
    event = msgspec.structs.replace(EVENT, fields={**EVENT.fields, "event_time": field})
    assert one(message(event_time=31), event)["event_time"] == 1_522_540_831_000
    assert one(message(event_time="2018-04-01T00:00:31Z"), event)["event_time"] == 1_522_540_831_000


# --- a column as a whole, and value by value -------------------------------------------------------------

NUMBER_FIELDS: dict[str, Field] = {
    "amount": Field(type="amount", required=True),
    "amount of 0 digits": Field(type="amount", decimals=0),
    "amount of 8 digits": Field(type="amount", decimals=8, default=1),
    "minor amount": Field(type="amount", unit="minor"),
    "number": Field(type="number", default=0.5),
    "integer": Field(type="integer"),
    "boolean": Field(type="boolean", default=False),
    "ms": Field(type="timestamp", required=True),
    "s": Field(type="timestamp", unit="s"),
    "ns": Field(type="timestamp", unit="ns"),
    "s of 2018": Field(type="timestamp", unit="s", origin="2018-04-01T00:00:00.123"),
}
DIGITS = "0123456789."
STRINGS = [
    *(
        "1.",
        ".5",
        "",
        ".",
        "1e3",
        "1_000",
        " 1",
        "1 ",
        "+1",
        "-1",
        "-0",
        "0x1",
        "inf",
        "nan",
        "NaN",
        "١",
        "1\n",
        "²",
    ),
    *("0.125", "0.005", "0.015", "1.005", "2.675", "10995116277.75", "10995116277.755", "10995116277.76"),
]


def numbers() -> st.SearchStrategy[Any]:
    """Draw strategies of one kind of value, so that whole columns are of one kind."""
    times = st.sampled_from([631_152_000_000, 7_258_118_400_000, NOW_MS, NOW_MS * 10**6, 631_152_000])
    near = st.builds(lambda time, off: time + off, times, st.integers(-2, 2))
    cents = st.integers(-(10**6), 2**41)
    integers = st.one_of(
        st.integers(-5, 2**41), near, st.integers(), st.sampled_from([10**400, -(10**30), 2**63])
    )
    floats = st.one_of(st.builds(lambda c: c / 100, cents), st.builds(lambda c: c / 1000, cents), st.floats())
    strings = st.one_of(
        st.builds(lambda c: f"{c / 100:.2f}", cents),
        st.builds(lambda c: f"{c / 1000}", cents),
        st.text(DIGITS, max_size=6),
        st.text(DIGITS, max_size=400),
        st.sampled_from(STRINGS),
    )
    return st.sampled_from(
        [integers, floats, strings, st.one_of(integers, floats, strings, st.none(), st.booleans())]
    )


@given(st.sampled_from(list(NUMBER_FIELDS)), st.data())
def test_a_column_read_as_a_whole_equals_its_values_read_one_by_one(name: str, data: st.DataObject) -> None:
    """A list as the last value is refused, and keeps the column from being read as a whole."""
    values = data.draw(st.lists(data.draw(numbers()), max_size=12))
    whole_bad: dict[int, str] = {}
    single_bad: dict[int, str] = {}
    whole = read_measures(values, NUMBER_FIELDS[name], whole_bad)
    single = read_measures([*values, [], None], NUMBER_FIELDS[name], single_bad)
    single_bad.pop(len(values))
    single_bad.pop(len(values) + 1, None)
    assert whole.tolist() == single[: len(values)].tolist()
    assert whole_bad == single_bad


@given(st.sampled_from(["amount", "number", "minor amount", "ms", "ns"]), st.data())
def test_a_value_is_read_the_same_whatever_stands_beside_it(name: str, data: st.DataObject) -> None:
    kind = data.draw(numbers())
    value, others = data.draw(kind), data.draw(st.lists(kind, max_size=5))
    alone_bad: dict[int, str] = {}
    among_bad: dict[int, str] = {}
    alone = read_measures([value], NUMBER_FIELDS[name], alone_bad)
    among = read_measures([value, *others], NUMBER_FIELDS[name], among_bad)
    assert alone[0] == among[0]
    assert alone_bad.get(0) == among_bad.get(0)


@given(
    st.sampled_from([Field(type="id", required=True), Field(type="id"), Field(type="category", default="EUR")]),
    st.sampled_from(["text", "text or none", "anything"]), st.data(),
)  # fmt: skip
def test_a_column_of_texts_read_as_a_whole_equals_its_values_read_one_by_one(
    field: Field, kind: str, data: st.DataObject
) -> None:
    texts = st.one_of(st.text(max_size=4), st.sampled_from(["", "pos"]))
    kinds = {
        "text": texts,
        "text or none": st.one_of(texts, st.none()),
        "anything": st.one_of(texts, st.none(), st.integers(), st.booleans(), st.floats()),
    }
    values = data.draw(st.lists(kinds[kind], max_size=8))
    whole_bad: dict[int, str] = {}
    single_bad: dict[int, str] = {}
    whole = read_texts(values, field, whole_bad)
    single = read_texts([*values, []], field, single_bad)
    assert single_bad.pop(len(values))
    assert whole == single[:-1]
    assert whole_bad == single_bad


@given(st.integers(0, FIXED_POINT_MAX), st.sampled_from([0, 2, 8]))
def test_every_amount_survives_as_decimal_text_and_as_number(minor: int, digits: int) -> None:
    field = Field(type="amount", required=True, decimals=digits)
    exact = Decimal(minor).scaleb(-digits)
    bad: dict[int, str] = {}
    assert read_measures([f"{exact:f}"], field, bad).tolist() == [minor]
    assert read_measures([float(exact)], field, bad).tolist() == [minor]
    assert read_measures([exact], field, bad).tolist() == [minor]
    assert bad == {}


# --- tables ----------------------------------------------------------------------------------------------

CELLS: dict[str, st.SearchStrategy[Any]] = {
    "transaction_id": st.sampled_from(["t1", "t2", 7, "", None, True, 1.5]),
    "event_time": st.sampled_from([NOW_MS, NOW_MS + 1, "2023-11-14T22:13:20Z", "soon", 5, None, False, NOW_MS + 0.5]),
    "Card No": st.sampled_from(["c1", "c2", 10**40, "ж", "", None]),
    "amount": st.sampled_from(
        [1.5, "1.50", 2, "2", "1e3", ".5", "1.", "+1", -1, None, True, 10**50, "", 1e308, 0.125]),
    "currency": st.sampled_from(["EUR", "CHF", None, 5, ""]),
    "device_id": st.sampled_from(["d", None, 3, False]),
    "fee": st.sampled_from([1.5, -2, None, 1e308, True]),
    "items": st.sampled_from([1, -5, None, 2**40, 2**70, 1.0]),
    "recurring": st.sampled_from([True, False, None, 1]),
    "opened_at": st.sampled_from([1_600_000_000, "2020-01-01", None, NOW_MS, "then"]),
}  # fmt: skip


@given(st.data(), st.integers(0, 10))
def test_a_table_gives_the_same_batch_as_the_same_rows_in_json(data: st.DataObject, rows: int) -> None:
    first_good = data.draw(st.booleans())
    columns = {
        source: [
            data.draw(cells) if not first_good or row > 5 else message().get(source) for row in range(rows)
        ]
        for source, cells in CELLS.items()
    }
    values: list[bytes | None] = [
        written({s: column[row] for s, column in columns.items()}) for row in range(rows)
    ]
    from_json, rejected_json = decode(values)
    from_table, rejected_table = decoder_of().decode_columns(dict(columns), first_offset=40)
    assert [letter.row for letter in rejected_table] == [letter.row for letter in rejected_json]
    assert [fields_of(from_table, row) for row in range(len(from_table))] == [
        fields_of(from_json, row) for row in range(len(from_json))
    ]
    assert from_table.source_row.tolist() == from_json.source_row.tolist()
    assert from_table.offset.tolist() == [40 + row for row in from_table.source_row.tolist()]


def table(**changes: list[Any]) -> dict[str, Any]:
    columns = {source: [value, value] for source, value in message().items()}
    return {**columns, **changes}


def test_a_table_may_carry_datetimes_and_decimals_and_nan_for_missing() -> None:
    zone = timezone(timedelta(hours=2))
    columns = table(
        event_time=[datetime(2023, 11, 14, 22, 13, 20), datetime(2023, 11, 15, 0, 13, 20, tzinfo=zone)],
        amount=[Decimal("12.34"), Decimal("0.1")],
        fee=[float("nan"), 0.5],
        opened_at=[datetime(2000, 1, 1, tzinfo=UTC), None],
    )
    batch, rejected = decoder_of().decode_columns(columns)
    assert rejected == []
    assert batch.time_ms.tolist() == [NOW_MS, NOW_MS]
    assert batch.measures["amount"].tolist() == [1234, 10]
    assert batch.measures["fee"].tolist() == [MISSING, 5000]
    assert batch.measures["opened_at"].tolist() == [946_684_800_000, MISSING]


def test_nan_in_a_required_column_is_refused() -> None:
    batch, rejected = decoder_of().decode_columns(table(amount=[float("nan"), Decimal("NaN")]))
    assert len(batch) == 0
    assert [letter.error.path for letter in rejected] == ["$.amount", "$.amount"]


def test_an_infinite_or_overlarge_decimal_in_a_column_is_refused() -> None:
    columns = table(amount=[Decimal("Infinity"), Decimal("1e400")])
    assert [letter.error.path for letter in decoder_of().decode_columns(columns)[1]] == [
        "$.amount",
        "$.amount",
    ]


def test_a_table_without_a_required_column_is_refused_and_without_an_optional_one_is_not() -> None:
    columns = table()
    columns.pop("amount")
    with pytest.raises(RecordError, match=r"^\$\.amount: the table has no such column"):
        decoder_of().decode_columns(columns)
    batch, rejected = decoder_of().decode_columns(table())
    assert rejected == []
    assert batch.texts["currency"] == ["EUR", "EUR"]
    assert batch.measures["items"].tolist() == [1, 1]


def test_an_empty_table_gives_an_empty_batch() -> None:
    batch, rejected = decoder_of().decode_columns({source: [] for source in message()})
    assert (len(batch), rejected) == (0, [])


def test_a_label_of_a_whole_entity_is_rejected_with_the_place_where_it_belongs() -> None:
    wide = b'{"entity":"card","key":"c","from":1,"label":"fraud","known_at":1700000000000}'
    labels, rejected = LabelDecoder().decode([wide])
    assert not labels
    assert (rejected[0].error.path, "label ledger" in rejected[0].error.reason) == ("$.entity", True)
