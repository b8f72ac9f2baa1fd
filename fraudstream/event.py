"""The event type: which fields a transaction has, which entities they name.

The user declares it under `[event]` of the TOML file; the card-payment default is built in
(`fraudstream/defaults.toml`). It is pure data: what reads a message by it stands in `decode.py`.

Conventions: an amount is int64 minor units, a time int64 Unix milliseconds UTC, any other numeric field a
fixed-point int64 of `decimals` digits. All fixed-point values are below 2**40 in size, so that a window's
sums stay exact in 64 bits and its squares in 128.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec

from fraudstream.errors import ConfigError

FieldType = Literal["id", "category", "timestamp", "amount", "integer", "number", "boolean"]
NUMERIC_TYPES: tuple[FieldType, ...] = ("amount", "integer", "number", "boolean")
TEXT_TYPES: tuple[FieldType, ...] = ("id", "category")
FIXED_POINT_MAX = 2**40 - 1
NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")

_UNIT_MS = {"s": 1000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}


class Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One field of the event type.

    Attributes:
        type: how the value is read and what it may be used for.
        source: the key (or column) that carries it; the field's own name when empty.
        required: without it a message is a dead letter; otherwise null and absent mean `default`.
        default: the value of an absent optional field; None leaves it missing (NaN as a feature).
        values: the known values of a category; its code as a feature is the position in this list.
        unit: of a timestamp given as a number (`s`, `ms`, `us`, `ns`), of an amount (`major`, `minor`).
        origin: the instant that a numeric timestamp counts from, ISO 8601; Unix epoch when empty.
        decimals: fractional digits kept of an amount or a number.
        role: `place` where an id or a category says where something is; for the groups of reasons.
        token: a token takes the value's place as soon as it is read; an id only.
    """

    type: FieldType
    source: str = ""
    required: bool = False
    default: str | int | float | bool | None = None
    values: list[str] = []
    unit: str = ""
    origin: str = ""
    decimals: int | None = None
    role: Literal["", "place"] = ""
    token: bool = False

    @property
    def digits(self) -> int:
        """Return the fractional digits of the fixed-point form."""
        if self.decimals is not None:
            return self.decimals
        return {"amount": 2, "number": 4}.get(self.type, 0)

    @property
    def unit_ms(self) -> float:
        """Return the milliseconds in one unit of a numeric timestamp."""
        return _UNIT_MS[self.unit or "ms"]

    @property
    def origin_ms(self) -> int:
        """Return what is added to a numeric timestamp, in Unix milliseconds."""
        return parse_instant_ms(self.origin) if self.origin else 0


class EventType(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The declared shape of a transaction.

    Attributes:
        id, time, amount, currency: names of the fields with these roles (`currency` may be empty).
        key: the entity that Kafka orders by; the message key holds its value.
        null_key: `reject` sends a message without a key to the dead letters, `accept` takes it.
        future_tolerance: how far ahead of the clock an event time may be.
        message_bytes_max: a longer message is a dead letter.
        token_key_file: the file of the key of all tokens.
        format: of the messages in their topic; in files they are always JSON.
        fields: the declared fields by name.
        entities: each entity's field, or fields for a pair such as card x merchant.
    """

    name: str = "card_payment"
    id: str
    time: str
    amount: str
    currency: str = ""
    key: str = "card"
    null_key: Literal["reject", "accept"] = "reject"
    future_tolerance: str = "1h"
    message_bytes_max: int = 65_536
    token_key_file: str = ""
    format: Literal["json", "avro", "protobuf"] = "json"
    fields: dict[str, Field]
    entities: dict[str, str | list[str]]

    def entity_fields(self, entity: str) -> tuple[str, ...]:
        """Return the fields that name an entity."""
        declared = self.entities[entity]
        return (declared,) if isinstance(declared, str) else tuple(declared)

    @property
    def token_of_key(self) -> str:
        """Return the field whose token takes the message key's place in what is sent; empty: the key is passed on."""
        return next((name for name in self.entity_fields(self.key) if self.fields[name].token), "")

    def source_of(self, field: str) -> str:
        """Return the key or column that carries a field."""
        return self.fields[field].source or field

    @property
    def future_tolerance_ms(self) -> int:
        """Return how far ahead of the clock an event time may be, in milliseconds."""
        return parse_duration_ms(self.future_tolerance, "event.future_tolerance")


_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d|w)")
_DURATION_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def parse_duration_ms(text: str, key: str) -> int:
    """Read a duration such as `90s`, `24h` or `30d` in milliseconds.

    >>> parse_duration_ms("24h", "any")
    86400000
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ConfigError(
            f'{key} = "{text}": give a whole number and a unit, one of ms, s, m, h, d, w ("24h")'
        )
    return int(match[1]) * _DURATION_MS[match[2]]


def spell_duration(length_ms: int) -> str:
    """Return a length in the longest unit that it is a whole number of.

    >>> spell_duration(5_400_000)
    '90m'
    """
    for unit in ("d", "h", "m", "s"):
        if length_ms % _DURATION_MS[unit] == 0:
            return f"{length_ms // _DURATION_MS[unit]}{unit}"
    return f"{length_ms}ms"


def parse_instant_ms(text: str) -> int:
    """Read an ISO 8601 instant in Unix milliseconds; without an offset it is UTC.

    >>> parse_instant_ms("2018-04-01")
    1522540800000
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def check_event(event: EventType) -> None:
    """Raise ConfigError for the first thing in an event type that does not hold together."""
    for name, field in event.fields.items():
        _check_field(name, field)
    _check_role(event, "id", event.id, ("id",))
    _check_role(event, "time", event.time, ("timestamp",))
    _check_role(event, "amount", event.amount, ("amount",))
    if event.currency:
        _check_role(event, "currency", event.currency, ("category",))
    sources = [event.source_of(name) for name in event.fields]
    for source in sources:
        if sources.count(source) > 1:
            raise ConfigError(f'event.fields: two fields read "{source}"; give each its own source')
    for name, declared in event.entities.items():
        _check_entity(event, name, declared)
    if event.key not in event.entities:
        raise ConfigError(f'event.key = "{event.key}": give one of the entities {_listed(event.entities)}')
    tokens = [name for name, field in event.fields.items() if field.token]
    if tokens and not event.token_key_file:
        raise ConfigError(f"event.token_key_file: missing; event.fields.{tokens[0]}.token needs a key")
    if event.fields[event.id].token:
        raise ConfigError(
            f"event.fields.{event.id}.token = true: labels and decisions name transactions by it"
        )
    parse_duration_ms(event.future_tolerance, "event.future_tolerance")
    if not 64 <= event.message_bytes_max <= 10_000_000:
        raise ConfigError(f"event.message_bytes_max = {event.message_bytes_max}: give 64 to 10000000")


def _check_field(name: str, field: Field) -> None:
    key = f"event.fields.{name}"
    if not NAME.fullmatch(name):
        raise ConfigError(f"{key}: a name is lower-case letters, digits and _, 64 at most, a letter first")
    allowed = {"timestamp": tuple(_UNIT_MS), "amount": ("major", "minor")}.get(field.type, ())
    if field.unit and field.unit not in allowed:
        accepted = f"one of {', '.join(allowed)}" if allowed else "none for this type"
        raise ConfigError(f'{key}.unit = "{field.unit}": {accepted}')
    if field.decimals is not None and not (0 <= field.decimals <= 8 and field.type in ("amount", "number")):
        raise ConfigError(f"{key}.decimals = {field.decimals}: 0 to 8, for an amount or a number")
    if field.role and field.type not in TEXT_TYPES:
        raise ConfigError(f'{key}.role = "{field.role}": only an id or a category has a role')
    if field.token and field.type != "id":
        raise ConfigError(f"{key}.token = true: only an id has a token in its place")
    if field.values and field.type != "category":
        raise ConfigError(f"{key}.values: only a category has listed values")
    if len(set(field.values)) < len(field.values):
        raise ConfigError(f"{key}.values: values must differ, given are {_listed(field.values)}")
    if field.origin:
        _check_origin(key, field)
    if field.required and field.default is not None:
        raise ConfigError(f"{key}: a required field has no default; drop one of the two")
    fits = isinstance(field.default, _DEFAULT_TYPES[field.type])
    if field.default is not None and (
        not fits or isinstance(field.default, bool) != (field.type == "boolean")
    ):
        raise ConfigError(f"{key}.default = {field.default!r}: not a value of type {field.type}")


_DEFAULT_TYPES: dict[str, Any] = {
    "id": str, "category": str, "timestamp": (int, str), "amount": (int, float, str),
    "integer": int, "number": (int, float), "boolean": bool,
}  # fmt: skip


def _check_origin(key: str, field: Field) -> None:
    if field.type != "timestamp":
        raise ConfigError(f"{key}.origin: only a timestamp has an origin")
    try:
        parse_instant_ms(field.origin)
    except ValueError:
        raise ConfigError(
            f'{key}.origin = "{field.origin}": give an ISO 8601 instant, "2018-04-01"'
        ) from None


def _check_role(event: EventType, role: str, name: str, types: tuple[str, ...]) -> None:
    field = event.fields.get(name)
    if field is None:
        raise ConfigError(
            f'event.{role} = "{name}": not a declared field; declared are {_listed(event.fields)}'
        )
    if field.type not in types:
        raise ConfigError(f'event.{role} = "{name}": needs type "{types[0]}", the field has "{field.type}"')
    if role != "currency" and not field.required:
        raise ConfigError(f'event.{role} = "{name}": this field must have required = true')


def _check_entity(event: EventType, name: str, declared: str | list[str]) -> None:
    key = f"event.entities.{name}"
    if not NAME.fullmatch(name) or name == "event":
        raise ConfigError(f'{key}: a name is lower-case letters, digits and _, and not "event"')
    fields = [declared] if isinstance(declared, str) else declared
    if not 1 <= len(fields) <= 4:
        raise ConfigError(f"{key}: give one to four fields")
    for field in fields:
        if field not in event.fields:
            raise ConfigError(
                f'{key}: "{field}" is not a declared field; declared are {_listed(event.fields)}'
            )
        if event.fields[field].type not in TEXT_TYPES:
            raise ConfigError(
                f'{key}: "{field}" has type {event.fields[field].type}; an entity needs id or category'
            )


def _listed(names: Any) -> str:
    return ", ".join(names)
