"""A worked example of one feature: four drawn transactions, and the value that the engine gives the last.

Two of them lie in the window. The third shows what does not count: one that does not fulfil the filter, that is
too young (lag), that only the baseline sees, or that is too old.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from fraudstream.batch import Int64, TransactionBatch
from fraudstream.event import NUMERIC_TYPES, EventType, Field, parse_instant_ms
from fraudstream.features.catalog import EVENT, Catalog, Feature
from fraudstream.features.engine import FeatureEngine
from fraudstream.features.labels import KnownLabel
from fraudstream.features.where import Condition
from fraudstream.sections import StateSettings
from fraudstream.words import read_words

NOW_MS = parse_instant_ms("2026-03-02T12:00Z")
_DAY_MS = 86_400_000
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_AMOUNTS = {"first": 20, "second": 30, "other": 500, "now": 80}

Value = str | int


@dataclass(frozen=True, slots=True)
class Drawn:
    """One transaction of an example; measures in fixed point."""

    role: str  # a key of _AMOUNTS
    time_ms: int
    values: dict[str, Value]


@dataclass(frozen=True, slots=True)
class Example:
    """What was drawn and what came out.

    Attributes:
        transactions: event time, then the fields that matter, in declared units.
        notes: for each, how it counts.
        value: of the feature for the last transaction; NaN where it has none.
    """

    transactions: list[dict[str, str | float]]
    notes: list[str]
    value: float


def worked_example(feature: Feature, event: EventType, state: StateSettings) -> Example:
    """Draw transactions for a feature and let a FeatureEngine compute its value."""
    drawn = sorted(_draw(feature, event), key=lambda row: row.time_ms)
    warm = msgspec.structs.replace(state, complete_from="start")
    engine = FeatureEngine(Catalog(event, (feature,)), warm)
    if feature.label:
        fraud = next(row for row in drawn if row.role == "first")
        engine.learn([KnownLabel(_id_of(fraud), True, _reported_ms(fraud))])
    observed = engine.observe(_batch(drawn, feature, event))
    return Example(
        [_shown(row, event) for row in drawn],
        [_note(row, feature) for row in drawn],
        float(observed.X[-1, 0]),
    )


def _draw(feature: Feature, event: EventType) -> list[Drawn]:
    roles = ["now"] if feature.entity == EVENT else ["first", "second", "other", "now"]
    return [Drawn(role, _time_ms(role, feature), _values(role, feature, event)) for role in roles]


def _time_ms(role: str, feature: Feature) -> int:
    window_ms, end_ms = feature.window_ms, NOW_MS - feature.lag_ms
    if role == "now":
        return NOW_MS
    if role == "first":
        half_ms = window_ms // 2
        return end_ms - (half_ms // _DAY_MS * _DAY_MS or half_ms)  # whole days: at the same time of day
    if role == "second":
        return end_ms - window_ms // 4
    if feature.where:
        return end_ms - window_ms * 3 // 8
    if feature.lag_ms:
        return NOW_MS - feature.lag_ms // 2
    if feature.baseline_ms:
        return end_ms - (window_ms + feature.baseline_ms) // 2
    return end_ms - window_ms - window_ms // 5 - feature.resolution_ms


def _values(role: str, feature: Feature, event: EventType) -> dict[str, Value]:
    keys = event.entity_fields(feature.entity) if feature.entity != EVENT else ()
    names = dict.fromkeys([*keys, *(c.field for c in feature.where), *feature.of])
    names.pop(event.time, None)
    failing = next((c.field for c in feature.where if c.field not in keys), "") if role == "other" else ""
    values: dict[str, Value] = {}
    for name in names:
        drawn_as = "first" if name in keys else role  # all are of one entity
        conditions = [c for c in feature.where if c.field == name]
        if conditions:
            values[name] = _compared(drawn_as, event.fields[name], conditions, name == failing)
        elif event.fields[name].type in NUMERIC_TYPES:
            values[name] = _number(event.fields[name], role)
        else:
            values[name] = _text(name, event.fields[name], drawn_as)
    return values


def _text(name: str, field: Field, role: str) -> str:
    listed = field.values or [f"{name.removesuffix('_id')}-{number}" for number in (1, 2)]
    return listed[int(role == "second") % len(listed)]


def _number(field: Field, role: str) -> int:
    if field.type == "boolean":
        return int(role in ("first", "now"))
    return _AMOUNTS[role] * 10**field.digits


def _compared(role: str, field: Field, conditions: list[Condition], fails: bool) -> Value:
    """Return a value that fulfils, or fails, the conditions on its field, if there is one."""
    candidates: list[Value] = []
    for condition in conditions:
        value = condition.value
        if isinstance(value, str):
            candidates += [value, *field.values, f"other than {value}"]
        elif field.type == "boolean":
            candidates += [1, 0]
        else:
            unit = 10**field.digits
            candidates += [value, value + 20 * unit, value - unit, value + unit, value - 1, value + 1]
    fitting = [value for value in dict.fromkeys(candidates) if _fulfils(value, conditions) != fails]
    return (fitting or candidates)[int(role == "second") % len(fitting or candidates)]


def _fulfils(value: Value, conditions: list[Condition]) -> bool:
    return all(_COMPARE[c.op](value, c.value) for c in conditions)


def _batch(drawn: list[Drawn], feature: Feature, event: EventType) -> TransactionBatch:
    numeric = [name for name in drawn[0].values if event.fields[name].type in NUMERIC_TYPES]
    texts: dict[str, list[str | None]] = {
        name: [str(row.values[name]) for row in drawn] for name in drawn[0].values if name not in numeric
    }
    numbers: Int64 = np.arange(len(drawn), dtype=np.int64)
    return TransactionBatch(
        ids=[_id_of(row) for row in drawn],
        time_ms=np.array([row.time_ms for row in drawn], np.int64),
        measures={name: np.array([row.values[name] for row in drawn], np.int64) for name in numeric},
        texts=texts,
        partition=np.zeros(len(drawn), np.int64),
        offset=numbers,
        source_row=numbers,
    )


def _id_of(row: Drawn) -> str:
    return f"example-{row.role}"


def _reported_ms(fraud: Drawn) -> int:
    return fraud.time_ms + (NOW_MS - fraud.time_ms) // 4


def _shown(row: Drawn, event: EventType) -> dict[str, str | float]:
    shown: dict[str, str | float] = {event.time: _instant(row.time_ms)}
    for name, value in row.values.items():
        shown[name] = value if isinstance(value, str) else value / 10 ** event.fields[name].digits
    return shown


def _instant(time_ms: int) -> str:
    return str(np.datetime64(time_ms, "ms")).removesuffix(".000") + "Z"


def _note(row: Drawn, feature: Feature) -> str:
    if row.role == "now":
        return "the transaction to be scored"
    earlier = f"{read_words().duration((NOW_MS - row.time_ms) / 1000)} earlier: "
    end_ms = NOW_MS - feature.lag_ms
    if _tile(row.time_ms, feature) > _tile(end_ms, feature):
        return earlier + "too young, inside the lag"
    if not _reaches(row.time_ms, end_ms - feature.window_ms, feature):
        in_baseline = feature.baseline_ms and _reaches(row.time_ms, end_ms - feature.baseline_ms, feature)
        return earlier + ("in the baseline only" if in_baseline else "too old")
    if not all(_fulfils(row.values[c.field], [c]) for c in feature.where):
        return earlier + "in the window, does not fulfil the filter"
    if feature.label and row.role == "first":
        reported = read_words().duration((_reported_ms(row) - row.time_ms) / 1000)
        return f"{earlier}in the window, reported as fraud {reported} later"
    return earlier + "in the window" + (", not reported as fraud" if feature.label else "")


def _tile(time_ms: int, feature: Feature) -> int:
    return time_ms // (feature.resolution_ms or 1)


def _reaches(time_ms: int, tail_ms: int, feature: Feature) -> bool:
    """Say whether a row lies behind a window's tail; with tiles, in the tail's tile too."""
    if feature.resolution_ms:
        return _tile(time_ms, feature) >= _tile(tail_ms, feature)
    return time_ms > tail_ms
