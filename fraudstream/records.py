"""Wire structs: what is read from and written to the topics, as JSON.

The transaction's struct is made from the user's event type; the others are fixed, and fields are only
ever added to them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from fraudstream.event import TEXT_TYPES, EventType, Field

TREESHAP, LIGHTGBM, PATH, NOT_EXPLAINED = "treeshap", "lightgbm", "path", "none"  # see `Alert.method`

_WIRE_TYPES: dict[str, Any] = {
    "id": str | int,
    "category": str | int,
    "timestamp": int | float | str,
    "amount": int | float | str,
    "integer": int,
    "number": int | float,
    "boolean": bool,
}


def transaction_struct(event: EventType, plain: bool = False) -> type[msgspec.Struct]:
    """Return the struct that one transaction of this event type decodes to; unknown keys are ignored.

    Args:
        plain: take ids and categories only as they stay: text that is not empty, or none where none is needed.
    """
    declared = _plain if plain else _declared
    fields: list[Any] = [declared(name, field) for name, field in event.fields.items()]
    renamed = {name: event.source_of(name) for name in event.fields}
    return msgspec.defstruct("Transaction", fields, rename=renamed, kw_only=True, gc=False, frozen=False)


def _declared(name: str, field: Field) -> Any:
    wire = _WIRE_TYPES[field.type]
    return (name, wire) if field.required else (name, wire | None, None)


def _plain(name: str, field: Field) -> Any:
    if field.type not in TEXT_TYPES:
        return _declared(name, field)
    text = Annotated[str, msgspec.Meta(min_length=1)]
    if field.required:
        return name, text
    return (name, text | None, None) if field.default is None else (name, text, str(field.default))


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
        score: calibrated probability of fraud, 0 to 1; where none could be had (flag `unscored`) 0 for open, 1 for
            closed.
        risk_points: 0 to 1000, tied to the false-positive rate (990 is 0.1 %).
        model: name/version that scored.
        flags: what an analyst should know of the inputs: `late`, `rows_capped`, `untracked`, `cold`, `repeated`,
            `partial`; `unscored` where it was decided by `degradation.on_failure`.
        features_hash: fingerprint of the features that were scored, 16 hexadecimal digits; empty where none were:
            a repeated transaction gets its first decision.
        sequence: position of the transaction, from 0, in the order in which its worker's run served them; the header
            `fraudstream-run` names the run.
        rule: what decided, in the words of this message's fields (`risk_points >= 990`), or `otherwise`; `fail_open`
            or `fail_closed` where no score could be had.
        challenger: absent where none scored: there was no challenger, or no features were scored.
        shed: what the worker left out because it was behind: `explanations`, `shadow`, `batches`; absent: nothing.
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
    shed: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET


class Number(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A number that a reason's text says.

    Attributes:
        value: as the feature has it; of a length, seconds.
        unit: of the value; the currency of an amount.
        said: how the text says `value` times `factor`, rounded.
        feature: whose value it is; empty for a length that is declared.
        factor: 1, or what spreads a long window's count evenly over a shorter one.
    """

    value: float
    unit: str
    said: str
    feature: str = ""
    factor: float = 1.0


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """One feature's part in a score.

    Attributes:
        value: the feature's value; None where it is missing.
        contribution: its part of the raw score (log odds); all contributions and the base add up.
        text: the same in plain words, beside the entity's own baseline where there is one.
        group: the behaviour that it is about, one of the alert's `groups`.
        numbers: those that the text says, by their place in it: `value`, `window`, `baseline`, ...
    """

    feature: str
    value: float | None
    contribution: float
    text: str
    group: str = ""
    numbers: dict[str, Number] = {}


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """All features about one behaviour.

    Attributes:
        name: `velocity`, `amount`, `novelty`, `place`, `time_habit`, `category_habit`, `label_history`,
            `transaction`, or an entity with `_risk` behind it.
        contribution: sum of the contributions of all its features, in `reasons` or not.
        text: the same in plain words.
    """

    name: str
    contribution: float
    text: str


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """The decision of an alerting outcome, with its explanation.

    Attributes:
        entities: the entities the transaction names, by kind.
        amount: in major units of `currency`.
        score: calibrated probability of fraud, 0 to 1.
        raw_score: log odds; equals `base` plus the contributions of `reasons` plus `rest`, and `base` plus those of
            `groups`.
        flags, features_hash, sequence, rule: as in the decision.
        expected_loss: `score` times `amount`: the money at risk, in major units of `currency`.
        groups: the behaviours, those that raise the score most first.
        method: how the contributions were found: `treeshap` or `lightgbm` (exact Shapley values, by our own code or
            by LightGBM's), `path` (along each tree's path only, when time is short), `none` (nothing explains this
            model).
        language: of all texts.
        case_id: transaction id of the first alert of the case that this one belongs to; empty: there are no cases.
        case_alerts: how many alerts the case has up to this one.
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
    expected_loss: float | None = None
    groups: list[Group] = []
    method: str = ""
    language: str = ""
    case_id: str = ""
    case_alerts: int = 0


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
