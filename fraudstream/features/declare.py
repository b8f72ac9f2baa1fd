"""The `[[features]]` declarations spelled out, one `Feature` each, in the order in which they stand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

from fraudstream.errors import ConfigError
from fraudstream.event import NUMERIC_TYPES, TEXT_TYPES, EventType, parse_duration_ms
from fraudstream.features.aggregates import (
    AGGREGATES,
    EVENT_AGGREGATES,
    LABELLED,
    Aggregate,
    filter_words,
    meaning_template,
    window_words,
)
from fraudstream.features.catalog import EVENT, Catalog, Feature
from fraudstream.features.where import Condition, definition_of, parse_where, slug_of, spell_where
from fraudstream.sections import FeatureGroup

WINDOW_MIN_MS = 1_000
WINDOW_MAX_MS = 90 * 86_400_000
RESOLUTION_MAX_MS = 86_400_000
FEATURES_MAX = 2_000
_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class _Declared:
    """One table, its lengths and its filter read; `key` is where it stands, for errors."""

    key: str
    group: FeatureGroup
    event: EventType
    where: tuple[Condition, ...]
    lag_ms: int
    resolution_ms: int


def build_catalog(groups: list[FeatureGroup], event: EventType) -> Catalog:
    """Spell the declarations out.

    Raises:
        ConfigError: for the first declaration that does not hold, with the accepted form.
    """
    features: dict[str, Feature] = {}
    for number, group in enumerate(groups):
        key = f"features[{number}]"
        if not group.aggregates:
            known = ", ".join(EVENT_AGGREGATES if group.entity == EVENT else AGGREGATES)
            raise ConfigError(f"{key}.aggregates: missing; give one or more of {known}")
        spelled = _event_group if group.entity == EVENT else _group
        for feature in spelled(key, group, event):
            if feature.name in features:
                raise ConfigError(f"{key}: {feature.name} is declared twice")
            features[feature.name] = feature
    if not 1 <= len(features) <= FEATURES_MAX:
        raise ConfigError(f"features: {len(features)} declared; give 1 to {FEATURES_MAX}")
    return Catalog(event, tuple(features.values()))


def declaration_of(feature: Feature, event: EventType) -> FeatureGroup:
    """Return the shortest declaration that spells out to this feature alone."""
    return FeatureGroup(
        entity=feature.entity,
        aggregates=[feature.aggregate],
        of=list(feature.of) if len(feature.of) > 1 else "".join(feature.of),
        windows=[feature.window] if feature.window else [],
        baseline=feature.baseline,
        where=spell_where(feature.where, event),
        lag=feature.lag,
        label=feature.label,
        resolution=feature.resolution,
        monotone=feature.monotone,
    )


def _group(key: str, group: FeatureGroup, event: EventType) -> list[Feature]:
    if group.entity not in event.entities:
        known = ", ".join([EVENT, *event.entities])
        raise ConfigError(f'{key}.entity = "{group.entity}": give one of {known}')
    if not group.windows:
        raise ConfigError(f'{key}.windows: missing; give lengths from 1s to 90d, ["1h", "30d"]')
    for window in group.windows:
        _length(window, f"{key}.windows")
    _length(group.baseline, f"{key}.baseline")
    declared = _Declared(
        key,
        group,
        event,
        parse_where(group.where, f"{key}.where", event),
        _length(group.lag, f"{key}.lag"),
        _length(group.resolution, f"{key}.resolution", RESOLUTION_MAX_MS),
    )
    _check_label(declared)
    return [
        _windowed(declared, aggregate, window)
        for aggregate, window in product(group.aggregates, group.windows)
    ]


def _length(text: str, key: str, longest_ms: int = WINDOW_MAX_MS) -> int:
    if not text:
        return 0
    length = parse_duration_ms(text, key)
    if not WINDOW_MIN_MS <= length <= longest_ms:
        raise ConfigError(f'{key}: "{text}" is not between 1s and {longest_ms // 86_400_000}d')
    return length


def _check_label(declared: _Declared) -> None:
    key, group = declared.key, declared.group
    if group.label not in ("", "fraud"):
        raise ConfigError(f'{key}.label = "{group.label}": give "fraud", or leave it out')
    if group.label and not group.lag:
        raise ConfigError(
            f'{key}.lag: missing; label = "fraud" needs the time that labels take to come, lag = "7d"'
        )


def _windowed(declared: _Declared, aggregate: str, window: str) -> Feature:
    key, group, event = declared.key, declared.group, declared.event
    spec = AGGREGATES.get(aggregate)
    if spec is None:
        raise ConfigError(f'{key}.aggregates: "{aggregate}": give one of {", ".join(AGGREGATES)}')
    of = _of_field(declared, aggregate, spec)
    _check_aggregate(declared, aggregate, window)
    baseline = group.baseline if aggregate == "velocity" else ""
    words = _words(declared, of, window, baseline)
    meaning = meaning_template(aggregate, group.label).format(**words)
    if group.resolution:
        meaning = f"{meaning}, in tiles of {group.resolution}"
    return Feature(
        name=_name(declared, of, aggregate, window, baseline),
        id=_identity(_definition(declared, of, aggregate, window, baseline), event, (of,) if of else ()),
        entity=group.entity,
        aggregate=aggregate,
        of=(of,) if of else (),
        window=window,
        baseline=baseline,
        window_ms=parse_duration_ms(window, key),
        baseline_ms=parse_duration_ms(baseline, key) if baseline else 0,
        unit=spec.unit.format(**words),
        meaning=meaning,
        where=declared.where,
        lag=group.lag,
        lag_ms=declared.lag_ms,
        label=group.label,
        resolution=group.resolution,
        monotone=group.monotone,
        resolution_ms=declared.resolution_ms,
    )


def _of_field(declared: _Declared, aggregate: str, spec: Aggregate) -> str:
    key, group, event = declared.key, declared.group, declared.event
    if not spec.of:
        if group.of:
            raise ConfigError(
                f'{key}: "{aggregate}" is not taken over a field; put it in a group without `of`'
            )
        return ""
    if not isinstance(group.of, str) or group.of not in event.fields:
        raise ConfigError(f'{key}.of = {json.dumps(group.of)}: "{aggregate}" needs one declared field')
    if event.fields[group.of].type not in (NUMERIC_TYPES if spec.of == "measure" else TEXT_TYPES):
        needed = (
            "a numeric field (amount, integer, number)" if spec.of == "measure" else "an id or a category"
        )
        raise ConfigError(f'{key}.of = "{group.of}": "{aggregate}" needs {needed}')
    return group.of


def _check_aggregate(declared: _Declared, aggregate: str, window: str) -> None:
    key, group = declared.key, declared.group
    if group.label and aggregate not in LABELLED:
        raise ConfigError(f'{key}.label = "{group.label}": goes with {", ".join(LABELLED)}, not {aggregate}')
    if AGGREGATES[aggregate].compares and not (group.where or group.label):
        raise ConfigError(f'{key}.where: missing; "{aggregate}" needs a where or label = "fraud"')
    if aggregate == "velocity":
        _check_baseline(key, group, window)
    if group.resolution:
        _check_resolution(declared, aggregate, window)


def _check_baseline(key: str, group: FeatureGroup, window: str) -> None:
    if not group.baseline:
        raise ConfigError(f'{key}.baseline: missing; "velocity" compares with a longer window, "30d"')
    if parse_duration_ms(group.baseline, key) <= parse_duration_ms(window, key):
        raise ConfigError(f'{key}.baseline = "{group.baseline}": must be longer than the window {window}')


def _check_resolution(declared: _Declared, aggregate: str, window: str) -> None:
    said = f'{declared.key}.resolution = "{declared.group.resolution}"'
    if not AGGREGATES[aggregate].tiled:
        tiled = ", ".join(name for name, spec in AGGREGATES.items() if spec.tiled)
        raise ConfigError(f"{said}: goes with {tiled}, not {aggregate}")
    if declared.group.label and AGGREGATES[aggregate].of:
        raise ConfigError(f"{said}: of what is known as fraud, tiles hold count and rate, not {aggregate}")
    if declared.resolution_ms > parse_duration_ms(window, declared.key):
        raise ConfigError(f"{said}: is longer than the window {window}")
    if aggregate == "hour_habit" and _HOUR_MS % declared.resolution_ms:
        raise ConfigError(f'{said}: "hour_habit" needs one that divides an hour, "15m"')


def _name(declared: _Declared, of: str, aggregate: str, window: str, baseline: str) -> str:
    group = declared.group
    lag = f"lag{group.lag}" if group.lag else ""
    tiles = f"tiles{group.resolution}" if group.resolution else ""
    where = slug_of(declared.where, declared.event)
    parts = (group.entity, where, group.label, of, aggregate, window, baseline, lag, tiles)
    return "_".join(part for part in parts if part)


def _words(declared: _Declared, of: str, window: str, baseline: str) -> dict[str, str]:
    spoken = of.replace("_", " ")
    return {
        "entity": declared.group.entity.replace("_", " and "),
        "of": spoken,
        **filter_words(spell_where(declared.where, declared.event, " "), spoken),
        **window_words(window, baseline, declared.group.lag),
    }


def _definition(declared: _Declared, of: str, aggregate: str, window: str, baseline: str) -> list[object]:
    """Return what the id is a hash of; a key that is not given leaves no trace, so that old ids hold."""
    group, event = declared.group, declared.event
    more = {
        "where": definition_of(declared.where, event),
        "lag": group.lag,
        "label": group.label,
        "resolution": group.resolution,
    }
    given = {name: value for name, value in more.items() if value}
    definition: list[object] = [
        group.entity,
        event.entity_fields(group.entity),
        of,
        aggregate,
        window,
        baseline,
    ]
    return [*definition, given] if given else definition


def _event_group(key: str, group: FeatureGroup, event: EventType) -> list[Feature]:
    of = (group.of,) if isinstance(group.of, str) else tuple(group.of)
    for name in ("windows", "baseline", "where", "lag", "label", "resolution"):
        if getattr(group, name):
            raise ConfigError(f'{key}.{name}: entity "event" looks at one transaction and has no {name}')
    for field in of:
        if field not in event.fields:
            raise ConfigError(f'{key}.of = "{field}": not a declared field')
    if group.monotone and any(event.fields[field].type == "category" for field in of):
        raise ConfigError(
            f'{key}.monotone = "{group.monotone}": the code of a category has no order; leave it out'
        )
    return [
        replace(_of_event(key, event, aggregate, of), monotone=group.monotone)
        for aggregate in group.aggregates
    ]


def _of_event(key: str, event: EventType, aggregate: str, of: tuple[str, ...]) -> Feature:
    if aggregate not in EVENT_AGGREGATES:
        raise ConfigError(f'{key}.aggregates: "{aggregate}": give one of {", ".join(EVENT_AGGREGATES)}')
    types = [event.fields[field].type for field in of]
    fits = {
        "value": len(of) == 1 and (types[0] in NUMERIC_TYPES or bool(event.fields[of[0]].values)),
        "hour_of_day": of == (event.time,),
        "day_of_week": of == (event.time,),
        "differs": len(of) == 2 and all(kind in ("id", "category") for kind in types),
    }
    if not fits[aggregate]:
        accepted = {
            "value": "one numeric field, or a category with listed values",
            "differs": "two id or category fields",
        }.get(aggregate, f'the event time, "{event.time}"')
        raise ConfigError(f'{key}.of = {json.dumps(list(of))}: "{aggregate}" needs {accepted}')
    spoken = " and ".join(field.replace("_", " ") for field in of)
    unit, meaning = EVENT_AGGREGATES[aggregate]
    return Feature(
        name={"value": of[0], "differs": "_".join((*of, "differs"))}.get(aggregate, aggregate),
        id=_identity([EVENT, [], of, aggregate, "", ""], event, of),
        entity=EVENT,
        aggregate=aggregate,
        of=of,
        window="",
        baseline="",
        window_ms=0,
        baseline_ms=0,
        unit="code" if types[0] == "category" and aggregate == "value" else unit.replace("{of}", spoken),
        meaning=meaning.format(of=spoken),
    )


def _identity(definition: Sequence[object], event: EventType, of: tuple[str, ...]) -> str:
    fields = [[event.fields[f].type, event.fields[f].digits, event.fields[f].values] for f in of]
    text = json.dumps([definition, fields], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
