"""The event type: its derived values, and the one line that each wrong declaration gets."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.decode import Decoder
from fraudstream.errors import ConfigError
from fraudstream.event import EventType, Field, check_event, parse_duration_ms, parse_instant_ms
from tests.strategies import card_event


def field(**changes: Any) -> dict[str, Any]:
    """Return changes that put one more field, `extra`, into the event type."""
    return {"fields": {**card_event().fields, "extra": Field(**changes)}}


def without(name: str) -> dict[str, Any]:
    return {"fields": {n: f for n, f in card_event().fields.items() if n != name}}


def changed_to(name: str, **changes: Any) -> dict[str, Any]:
    return {"fields": {**card_event().fields, name: Field(**changes)}}


def event_with(**changes: Any) -> EventType:
    return msgspec.structs.replace(card_event(), **changes)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "id of no field": ({"id": "nr"}, r'event\.id = "nr": not a declared field; declared are transaction_id, '),
    "time of no field": ({"time": "when"}, r'event\.time = "when": not a declared field'),
    "amount of no field": ({"amount": "value"}, r'event\.amount = "value": not a declared field'),
    "currency of no field": ({"currency": "money"}, r'event\.currency = "money": not a declared field'),
    "an id that is a category": (
        {"id": "channel"}, r'event\.id = "channel": needs type "id", the field has "category"'),
    "a time that is an id": ({"time": "card_id"}, r'event\.time = "card_id": needs type "timestamp"'),
    "an amount that is a number": ({"amount": "tip"}, r'event\.amount = "tip": needs type "amount"'),
    "a currency that is an id": ({"currency": "card_id"}, r'event\.currency = "card_id": needs type "category"'),
    "an optional id": ({"id": "device_id"}, r'event\.id = "device_id": this field must have required = true'),
    "an optional time": (
        changed_to("event_time", type="timestamp"),
        r'event\.time = "event_time": this field must have required = true',
    ),
    "a key that is no entity": ({"key": "shop"}, r'event\.key = "shop": give one of the entities card, device'),
    "an entity of no field": (
        {"entities": {"card": "pan"}}, r'event\.entities\.card: "pan" is not a declared field; declared are'),
    "an entity of a number": (
        {"entities": {"card": "amount"}},
        r'event\.entities\.card: "amount" has type amount; an entity needs id or category',
    ),
    "an entity of nothing": ({"entities": {"card": []}}, r"event\.entities\.card: give one to four fields"),
    "an entity of five fields": (
        {"entities": {"card": ["card_id"] * 5}}, r"event\.entities\.card: give one to four fields"),
    "an entity called event": (
        {"entities": {"event": "card_id"}}, r'event\.entities\.event: a name is .* not "event"'),
    "an entity in capitals": (
        {"entities": {"Card": "card_id"}}, r"event\.entities\.Card: a name is lower-case letters"),
    "a field name in capitals": (
        {"fields": {**card_event().fields, "Fee": Field(type="number")}},
        r"event\.fields\.Fee: a name is lower-case letters",
    ),
    "too long a field name": (
        {"fields": {**card_event().fields, "f" * 65: Field(type="number")}},
        r"event\.fields\.f+: a name is .* 64 at most",
    ),
    "two fields of one source": (field(type="id", source="card_id"), r'event\.fields: two fields read "card_id"'),
    "a unit of an id": (field(type="id", unit="s"), r'event\.fields\.extra\.unit = "s": none for this type'),
    "an unknown unit of time": (field(type="timestamp", unit="h"), r'extra\.unit = "h": one of s, ms, us, ns'),
    "an unknown unit of money": (field(type="amount", unit="cents"), r'extra\.unit = "cents": one of major, minor'),
    "nine decimals": (field(type="number", decimals=9), r"extra\.decimals = 9: 0 to 8, for an amount or a number"),
    "negative decimals": (field(type="amount", decimals=-1), r"extra\.decimals = -1: 0 to 8"),
    "decimals of an integer": (
        field(type="integer", decimals=0), r"extra\.decimals = 0: 0 to 8, for an amount or a number"),
    "listed values of an id": (field(type="id", values=["a"]), r"extra\.values: only a category has listed values"),
    "a value listed twice": (
        field(type="category", values=["a", "b", "a"]), r"extra\.values: values must differ, given are a, b, a"),
    "an origin of a number": (
        field(type="number", origin="2018-04-01"), r"extra\.origin: only a timestamp has an origin"),
    "an unreadable origin": (
        field(type="timestamp", origin="April"), r'extra\.origin = "April": give an ISO 8601 instant'),
    "a default of a required field": (
        field(type="number", required=True, default=1), r"extra: a required field has no default"),
    "a text as default of a number": (
        field(type="number", default="1"), r"extra\.default = '1': not a value of type number"),
    "a number as default of an id": (field(type="id", default=1), r"extra\.default = 1: not a value of type id"),
    "true as default of an integer": (
        field(type="integer", default=True), r"extra\.default = True: not a value of type integer"),
    "true as default of a number": (
        field(type="number", default=True), r"extra\.default = True: not a value of type number"),
    "1 as default of a boolean": (
        field(type="boolean", default=1), r"extra\.default = 1: not a value of type boolean"),
    "an unreadable tolerance": (
        {"future_tolerance": "soon"}, r'event\.future_tolerance = "soon": give a whole number and a unit'),
    "too small a message": ({"message_bytes_max": 63}, r"event\.message_bytes_max = 63: give 64 to 10000000"),
    "too large a message": ({"message_bytes_max": 10_000_001}, r"message_bytes_max = 10000001: give 64 to 10000000"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_event_type_gets_one_line_that_names_key_value_and_accepted_form(wrong: str) -> None:
    changes, told = WRONG[wrong]
    with pytest.raises(ConfigError) as caught:
        check_event(event_with(**changes))
    line = str(caught.value)
    assert line.startswith("event.")
    assert re.search(told, line), line
    assert "\n" not in line


DEFAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "words as amount": ({"type": "amount", "default": "much"}, r'extra\.default = "much": is not a decimal number'),
    "a negative amount": ({"type": "amount", "default": -1}, r"extra\.default = -1: is negative"),
    "too large an integer": ({"type": "integer", "default": 2**40}, r"extra\.default = \d+: is too large"),
    "an infinite number": (
        {"type": "number", "default": float("inf")}, r"extra\.default = Infinity: is not a finite number"),
    "not a number": ({"type": "number", "default": float("nan")}, r"extra\.default = NaN: is not a finite number"),
    "words as time": ({"type": "timestamp", "default": "noon"}, r'extra\.default = "noon": is not a time'),
    "a time of 1970": ({"type": "timestamp", "default": 5}, r"extra\.default = 5: is outside the years 1990 to 2200"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", DEFAULTS)
def test_a_default_that_no_message_could_carry_is_refused_before_the_first_message(wrong: str) -> None:
    changes, told = DEFAULTS[wrong]
    event = event_with(**field(**changes))
    check_event(event)
    with pytest.raises(ConfigError, match=r"^event\.fields\." + told):
        Decoder(event, set())


def test_a_good_default_of_each_type_is_taken() -> None:
    goods: list[dict[str, Any]] = [
        {"type": "id", "default": "none"}, {"type": "category", "default": "EUR"},
        {"type": "timestamp", "default": "2020-01-01"}, {"type": "timestamp", "default": 1_600_000_000_000},
        {"type": "amount", "default": "1.50"}, {"type": "amount", "default": 0}, {"type": "integer", "default": -1},
        {"type": "number", "default": -0.5}, {"type": "boolean", "default": False},
    ]  # fmt: skip
    for good in goods:
        event = event_with(**field(**good))
        check_event(event)
        assert Decoder(event, {"extra"}).columns.keys() >= {"extra"}


def test_a_field_that_a_role_names_must_be_declared_even_if_it_was_taken_out() -> None:
    with pytest.raises(ConfigError, match=r'^event\.amount = "amount": not a declared field'):
        check_event(event_with(**without("amount")))


def test_an_entity_is_named_by_one_field_or_several() -> None:
    event = card_event()
    assert event.entity_fields("card") == ("card_id",)
    assert event.entity_fields("card_merchant") == ("card_id", "merchant_id")


def test_a_field_is_read_from_its_source_or_from_its_own_name() -> None:
    event = event_with(**field(type="id", source="Terminal No"))
    assert event.source_of("extra") == "Terminal No"
    assert event.source_of("card_id") == "card_id"


@pytest.mark.parametrize(
    ("given", "digits"),
    [
        (Field(type="amount"), 2), (Field(type="number"), 4), (Field(type="integer"), 0), (Field(type="boolean"), 0),
        (Field(type="amount", decimals=0), 0), (Field(type="amount", unit="minor"), 2),
        (Field(type="number", decimals=8), 8),
    ],
)  # fmt: skip
def test_a_fixed_point_value_has_the_declared_digits_or_those_of_its_type(given: Field, digits: int) -> None:
    assert given.digits == digits


def test_a_timestamp_has_a_unit_and_an_origin() -> None:
    units = ("", "s", "ms", "us", "ns")
    assert [Field(type="timestamp", unit=unit).unit_ms for unit in units] == [
        1,
        1000,
        1,
        1e-3,
        1e-6,
    ]
    assert Field(type="timestamp").origin_ms == 0
    assert Field(type="timestamp", origin="2018-04-01").origin_ms == 1_522_540_800_000


def test_the_future_tolerance_is_a_duration() -> None:
    assert card_event().future_tolerance_ms == 3_600_000


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1ms", 1),
        ("90s", 90_000),
        ("10m", 600_000),
        ("24h", 86_400_000),
        ("30d", 2_592_000_000),
        ("2w", 1_209_600_000),
        ("0s", 0),
    ],
)
def test_a_duration_is_a_whole_number_and_a_unit(text: str, ms: int) -> None:
    assert parse_duration_ms(text, "any") == ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "h",
        "24",
        "24 h",
        " 24h",
        "24h ",
        "24H",
        "1.5h",
        "-1h",
        "1h30m",
        "1month",
        "٣h",
        "1h\n",
        "1" * 10 + "s",
    ],
)
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_duration_ms(text, "state.lateness")
    assert str(caught.value).startswith(
        f'state.lateness = "{text}": give a whole number and a unit, one of ms, s, m, h'
    )


@given(st.integers(0, 999_999_999), st.sampled_from(["ms", "s", "m", "h", "d", "w"]))
def test_a_duration_of_any_length_is_exact(number: int, unit: str) -> None:
    one = parse_duration_ms(f"1{unit}", "any")
    assert parse_duration_ms(f"{number}{unit}", "any") == number * one


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01", 0), ("1970-01-01T00:00:00.0019Z", 1), ("1969-12-31T23:59:59.9999+00:00", -1),
        ("2018-04-01T02:00:00+02:00", 1_522_540_800_000), ("0001-01-01T00:00:00+14:00", -62_135_647_200_000),
    ],
)  # fmt: skip
def test_an_instant_is_unix_milliseconds_rounded_down(text: str, ms: int) -> None:
    assert parse_instant_ms(text) == ms
