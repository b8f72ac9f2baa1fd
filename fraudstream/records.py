"""Wire structs: what is read from and written to the topics, as JSON.

The transaction's struct is made from the user's event type; the others are fixed, and fields are only
ever added to them.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from fraudstream.event import EventType, Field

_WIRE_TYPES: dict[str, Any] = {
    "id": str | int,
    "category": str | int,
    "timestamp": int | float | str,
    "amount": int | float | str,
    "integer": int,
    "number": int | float,
    "boolean": bool,
}


def transaction_struct(event: EventType) -> type[msgspec.Struct]:
    """Return the struct that one transaction of this event type decodes to; unknown keys are ignored."""
    fields: list[Any] = [_declared(name, field) for name, field in event.fields.items()]
    renamed = {name: event.source_of(name) for name in event.fields}
    return msgspec.defstruct("Transaction", fields, rename=renamed, kw_only=True, gc=False, frozen=False)


def _declared(name: str, field: Field) -> Any:
    wire = _WIRE_TYPES[field.type]
    return (name, wire) if field.required else (name, wire | None, None)


class Challenger(msgspec.Struct, frozen=True, gc=False):
    """What the challenger would have decided from the same features; nobody acts on it.

    Attributes:
        outcome, score, risk_points, model: as in the decision.
    """

    outcome: str
    score: float
    risk_points: int
    model: str


class Decision(msgspec.Struct, frozen=True, gc=False):
    """One for every transaction.

    Attributes:
        event_time_ms: Unix milliseconds UTC.
        score: calibrated probability of fraud, 0 to 1.
        risk_points: 0 to 1000, tied to the false-positive rate (990 is 0.1 %).
        model: name/version that scored.
        flags: what an analyst should know of the inputs: `late`, `rows_capped`, `untracked`, `cold`, `repeated`.
        features_hash: fingerprint of the features that were scored, 16 hexadecimal digits; empty where none were:
            a repeated transaction gets its first decision.
        sequence: position of the transaction, from 0, in the order in which its worker's run served them; the header
            `fraudstream-run` names the run.
        rule: what decided, in the words of this message's fields (`risk_points >= 990`), or `otherwise`.
        challenger: absent where none scored: there was no challenger, or no features were scored.
    """

    transaction_id: str
    event_time_ms: int
    outcome: str
    score: float
    risk_points: int
    model: str
    flags: tuple[str, ...] = ()
    features_hash: str = ""
    sequence: int = -1
    rule: str = ""
    challenger: Challenger | msgspec.UnsetType = msgspec.UNSET


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """One feature's part in a score.

    Attributes:
        value: the feature's value; None where it is missing.
        contribution: its part of the raw score (log odds); all contributions and the base add up.
        text: the same in plain words.
    """

    feature: str
    value: float | None
    contribution: float
    text: str


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """The decision of an alerting outcome, with its explanation.

    Attributes:
        entities: the entities the transaction names, by kind.
        amount: in major units of `currency`.
        raw_score: log odds; equals `base` plus the contributions of `reasons` plus `rest`.
        score: calibrated probability of fraud, 0 to 1.
        flags, features_hash, sequence, rule: as in the decision.
        expected_loss: `score` times `amount`: the money at risk, in major units of `currency`.
    """

    transaction_id: str
    event_time_ms: int
    event_time: str
    outcome: str
    score: float
    risk_points: int
    model: str
    flags: tuple[str, ...]
    entities: dict[str, str]
    amount: float
    currency: str | None
    raw_score: float
    base: float
    rest: float
    reasons: list[Reason]
    features_hash: str = ""
    sequence: int = -1
    rule: str = ""
    expected_loss: float = 0.0


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome that became known.

    Attributes:
        known_at: Unix milliseconds UTC at which it was known.
        source: who says so (`chargeback`, `customer_report`, `analyst`, ...).
    """

    transaction_id: str
    label: Literal["fraud", "legit"]
    known_at: int
    source: str = ""
