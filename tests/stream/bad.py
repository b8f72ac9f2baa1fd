"""Every kind of bad transaction, and the place in it that its dead letter must name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

REQUIRED = ("transaction_id", "event_time", "card_id", "merchant_id", "amount")
FAR_FUTURE_MS = 4_000_000_000_000  # 2096

Row = Mapping[str, Any]


def _with(**changed: Any) -> Callable[[Row], bytes]:
    return lambda row: json.dumps({**row, **changed}).encode()


def _without(name: str) -> Callable[[Row], bytes]:
    return lambda row: json.dumps({key: value for key, value in row.items() if key != name}).encode()


def _amount(literal: str) -> Callable[[Row], bytes]:
    return lambda row: json.dumps({**row, "amount": "@"}).replace('"@"', literal).encode()


def _nested(row: Row) -> bytes:
    return json.dumps({**row, "note": "@"}).replace('"@"', "[" * 20_000 + "]" * 20_000).encode()


BAD: dict[str, tuple[str, Callable[[Row], bytes | None]]] = {
    "null value": ("$", lambda row: None),
    "nothing": ("$", lambda row: b""),
    "not JSON": ("$", lambda row: b"card=1;amount=2"),
    "truncated": ("$", lambda row: json.dumps(row).encode()[:-7]),
    "two objects": ("$", lambda row: json.dumps(row).encode() * 2),
    "another encoding": ("$", lambda row: json.dumps(row).encode("utf-16")),
    "invalid UTF-8": (
        "$",
        lambda row: json.dumps({**row, "card_id": "@"}).encode().replace(b"@", b"\xff\xfe"),
    ),
    "invalid UTF-8 in a field nobody reads": (
        "$",
        lambda row: json.dumps({**row, "note": "@"}).encode().replace(b"@", b"\xc3("),
    ),
    "an array": ("$", lambda row: json.dumps([row]).encode()),
    "a megabyte": ("$", _with(note="x" * 1_000_000)),
    "deep nesting": ("$", _nested),
    **{f"{name} missing": (f"$.{name}", _without(name)) for name in REQUIRED},
    **{f"{name} null": (f"$.{name}", _with(**{name: None})) for name in REQUIRED},
    **{f"{name} an object": (f"$.{name}", _with(**{name: {"value": 1}})) for name in REQUIRED},
    "empty card": ("$.card_id", _with(card_id="")),
    "card a fraction": ("$.card_id", _with(card_id=1.5)),
    "optional field of a wrong type": ("$.device_id", _with(device_id=["a"])),
    "amount true": ("$.amount", _with(amount=True)),
    "amount in words": ("$.amount", _with(amount="twelve")),
    "amount NaN": ("$.amount", _amount("NaN")),
    "amount NaN as text": ("$.amount", _with(amount="NaN")),
    "amount Infinity": ("$.amount", _amount("Infinity")),
    "amount -Infinity": ("$.amount", _amount("-Infinity")),
    "amount 1e999": ("$.amount", _amount("1e999")),
    "amount negative": ("$.amount", _with(amount=-0.01)),
    "amount negative as text": ("$.amount", _with(amount="-12.34")),
    "amount overflowing": ("$.amount", _with(amount=2.0**40 / 100)),
    "amount of 400 digits": ("$.amount", _amount("9" * 400)),
    "amount of 5000 digits": ("$.amount", _amount("9" * 5000)),
    "time unparsable": ("$.event_time", _with(event_time="yesterday")),
    "time in seconds": ("$.event_time", _with(event_time=1_704_067_200)),
    "time far in the future": ("$.event_time", _with(event_time=FAR_FUTURE_MS)),
    "time far in the future as text": ("$.event_time", _with(event_time="2096-10-02T07:06:40Z")),
    "time of 30 digits": ("$.event_time", _with(event_time=10**30)),
}
NULL_KEY = ("key", "the message key is null")
