"""The filter of a declaration: `channel = "online" and amount >= 100`, read into conditions.

Conditions are joined by `and`. A text stands in quotes, a number in the unit in which features show it
(an amount in major units). A row whose field is missing fulfils no condition.
"""

from __future__ import annotations

import json
import operator
import re
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from fraudstream.batch import MISSING, TransactionBatch
from fraudstream.errors import ConfigError
from fraudstream.event import FIXED_POINT_MAX, NUMERIC_TYPES, TEXT_TYPES, EventType, Field

CONDITIONS_MAX = 8
OPERATORS = {"=": "", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}  # with their names in a slug
_COMPARE = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_EQUALITIES = ("=", "!=")
_EXAMPLE = 'channel = "online" and amount >= 100'

_CONDITION = re.compile(
    r"""\s*(?P<field>\w+)\s*(?P<op>[^\w\s"'.-]+)\s*"""
    r"""(?P<literal>"(?:[^"\\]|\\.)*"|'[^']*'|[^\s"']+)\s*(?P<joined>\w+\s|$)""",
    re.DOTALL,
)
_NUMBER = re.compile(r"-?[0-9]{1,20}(?:\.([0-9]{1,20}))?")


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison that a row fulfils or not.

    Attributes:
        field: a declared field.
        op: a key of OPERATORS.
        value: text of an id or a category; else a fixed-point number, 0 or 1 of a boolean.
    """

    field: str
    op: str
    value: str | int


def parse_where(text: str, key: str, event: EventType) -> tuple[Condition, ...]:
    """Read a filter.

    Args:
        text: as declared; empty for none.
        key: where it stands, for the error.
        event: which fields there are.

    Raises:
        ConfigError: with one line that names key, value and accepted form.

    >>> from fraudstream.settings import load_settings
    >>> parse_where("amount >= 100", "any", load_settings(environment={}).event)
    (Condition(field='amount', op='>=', value=10000),)
    """
    if not text.isprintable():
        raise ConfigError(f"{key} = {text!r}: give one line of printable characters")
    where = f"{key} = '{text}'"
    conditions: list[Condition] = []
    position, joined = 0, bool(text)
    while joined:
        match = _CONDITION.match(text, position)
        if match is None:
            raise ConfigError(f"{where}: give comparisons joined by and, such as {_EXAMPLE}")
        conditions.append(_condition(match["field"], match["op"], match["literal"], where, event))
        position, joined = match.end(), bool(match["joined"])
        if joined and match["joined"].strip() != "and":
            raise ConfigError(f'{where}: "{match["joined"].strip()}": conditions are joined by and only')
    if len(conditions) > CONDITIONS_MAX:
        raise ConfigError(f"{where}: {len(conditions)} conditions; give {CONDITIONS_MAX} at most")
    return tuple(conditions)


def slug_of(conditions: tuple[Condition, ...], event: EventType) -> str:
    """Return a filter as part of a name: `channel_online_and_amount_ge_100`."""
    parts = []
    for condition in conditions:
        words = [condition.field, OPERATORS[condition.op], _spelled(condition, event)]
        parts.append("_".join(re.sub(r"[^a-z0-9]", "_", word.lower()) for word in words if word))
    return "_and_".join(parts)


def spell_where(conditions: tuple[Condition, ...], event: EventType, between: str = "_") -> str:
    """Return a filter as it is declared; with a space for `between`, as a person reads it."""
    parts = []
    for condition in conditions:
        spelled = _spelled(condition, event)
        shown = _quoted(condition.value) if isinstance(condition.value, str) else spelled
        parts.append(f"{condition.field.replace('_', between)} {condition.op} {shown}")
    return " and ".join(parts)


def definition_of(conditions: tuple[Condition, ...], event: EventType) -> list[list[object]]:
    """Return what an id is made of: the same for the same filter, whatever the digits of a literal."""
    return [
        [c.field, c.op, _spelled(c, event), event.fields[c.field].type, event.fields[c.field].digits]
        for c in conditions
    ]


def fulfilled(conditions: tuple[Condition, ...], batch: TransactionBatch) -> npt.NDArray[np.bool_]:
    """Return which rows of a batch fulfil all conditions themselves, [n]."""
    rows = np.ones(len(batch), np.bool_)
    for condition in conditions:
        rows &= _fulfils(condition, batch)
    return rows


def _fulfils(condition: Condition, batch: TransactionBatch) -> npt.NDArray[np.bool_]:
    if isinstance(condition.value, str):
        texts = batch.texts[condition.field]
        if condition.op == "=":
            return np.array([text == condition.value for text in texts], np.bool_)
        return np.array([text is not None and text != condition.value for text in texts], np.bool_)
    column = batch.measures[condition.field]
    holds: npt.NDArray[np.bool_] = _COMPARE[condition.op](column, condition.value) & (column != MISSING)
    return holds


def _condition(name: str, op: str, literal: str, where: str, event: EventType) -> Condition:
    field = event.fields.get(name)
    if field is None:
        raise ConfigError(
            f'{where}: "{name}" is not a declared field; declared are {", ".join(event.fields)}'
        )
    if field.type not in (*TEXT_TYPES, *NUMERIC_TYPES):
        raise ConfigError(
            f'{where}: "{name}" has type {field.type}; compare an id, category, boolean or numeric field'
        )
    ordered = field.type in NUMERIC_TYPES and field.type != "boolean"
    accepted = tuple(OPERATORS) if ordered else _EQUALITIES
    if op not in accepted:
        raise ConfigError(
            f'{where}: "{op}": {name} has type {field.type}; compare it with {", ".join(accepted)}'
        )
    return Condition(name, op, _value(name, field, literal, where))


def _value(name: str, field: Field, literal: str, where: str) -> str | int:
    said = f"{where}: {literal}: {name} has type {field.type}; give"
    if field.type in TEXT_TYPES:
        return _text(field, literal, said)
    if field.type == "boolean":
        if literal not in ("true", "false"):
            raise ConfigError(f"{said} true or false")
        return int(literal == "true")
    match = _NUMBER.fullmatch(literal)
    if match is None or len(match[1] or "") > field.digits:
        form = f"a decimal number with at most {field.digits} digits behind the point"
        raise ConfigError(f"{said} {form if field.digits else 'a whole number'}")
    value = int(Decimal(literal).scaleb(field.digits))
    if abs(value) > FIXED_POINT_MAX:
        raise ConfigError(f"{said} a number below {(FIXED_POINT_MAX + 1) / 10**field.digits:,.0f}")
    return value


def _text(field: Field, literal: str, said: str) -> str:
    if literal[0] not in "\"'":
        raise ConfigError(f'{said} a text in quotes, "{literal}"')
    text = literal[1:-1]
    if literal[0] == '"':
        try:
            text = json.loads(literal)
        except json.JSONDecodeError:
            raise ConfigError(f"{said} a text as in JSON, or in single quotes") from None
    if not text:
        raise ConfigError(f"{said} a text that is not empty")
    if field.values and text not in field.values:
        raise ConfigError(f"{said} one of its values {', '.join(field.values)}")
    return text


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _spelled(condition: Condition, event: EventType) -> str:
    """Return the value as it is written, in its shortest form."""
    if isinstance(condition.value, str):
        return condition.value
    field = event.fields[condition.field]
    if field.type == "boolean":
        return "true" if condition.value else "false"
    whole = f"{Decimal(condition.value).scaleb(-field.digits):f}"
    return whole.rstrip("0").rstrip(".") if "." in whole else whole
