"""The catalogue: the `[[features]]` declarations spelled out, one `Feature` each, in a fixed order.

THE list of what can be declared is `AGGREGATES`; the kernels know these by their code and nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from fraudstream.errors import ConfigError
from fraudstream.event import NUMERIC_TYPES, TEXT_TYPES, EventType, parse_duration_ms
from fraudstream.settings import FeatureGroup

WINDOW_MIN_MS = 1_000
WINDOW_MAX_MS = 90 * 86_400_000
FEATURES_MAX = 2_000

EVENT = "event"


@dataclass(frozen=True, slots=True)
class Aggregate:
    """What one aggregate needs and says.

    Attributes:
        code: its number in the kernels.
        of: kind of field it is taken over: `measure`, `text`, or none.
        unit: of the result; `{of}` stands for the field's own unit.
        meaning: in words; `{of}`, `{entity}`, `{window}`, `{baseline}` stand for the declared ones.
        phrase: how a reason says it; `{value}` stands for the value with its unit.
    """

    code: int
    of: str
    unit: str
    meaning: str
    phrase: str


AGGREGATES: dict[str, Aggregate] = {
    "count": Aggregate(
        0, "", "transactions", "transactions of this {entity} in the last {window}",
        "{value} earlier transaction(s) of this {entity} in {window}"),
    "sum": Aggregate(
        1, "measure", "{of}", "sum of {of} of this {entity} in the last {window}",
        "{of} of this {entity} in {window} adds up to {value}"),
    "mean": Aggregate(
        2, "measure", "{of}", "mean {of} of this {entity} in the last {window}",
        "mean {of} of this {entity} over {window} is {value}"),
    "std": Aggregate(
        3, "measure", "{of}", "sample standard deviation of {of} of this {entity} in the last {window}",
        "{of} of this {entity} varies by {value} over {window}"),
    "min": Aggregate(
        4, "measure", "{of}", "smallest {of} of this {entity} in the last {window}",
        "smallest {of} of this {entity} in {window} was {value}"),
    "max": Aggregate(
        5, "measure", "{of}", "largest {of} of this {entity} in the last {window}",
        "largest {of} of this {entity} in {window} was {value}"),
    "zscore": Aggregate(
        6, "measure", "standard deviations",
        "how many standard deviations {of} is from the mean of this {entity} over {window}",
        "{of} is {value} standard deviations from the {window} mean of this {entity}"),
    "ratio": Aggregate(
        7, "measure", "times", "{of} as a multiple of the mean of this {entity} over {window}",
        "{of} is {value} times the {window} mean of this {entity}"),
    "velocity": Aggregate(
        8, "", "times",
        "transactions a time unit of this {entity} in {window}, as a multiple of its rate over {baseline}",
        "transactions of this {entity} in {window} come {value} times as often as over {baseline}"),
    "time_since_last": Aggregate(
        9, "", "seconds", "time since the last transaction of this {entity}, looking back {window}",
        "the last transaction of this {entity} was {value} earlier"),
    "distinct": Aggregate(
        10, "text", "values", "different {of} of this {entity} in the last {window}",
        "{value} different values of {of} for this {entity} in {window}"),
    "share": Aggregate(
        11, "text", "share", "share of the transactions of this {entity} in {window} with the same {of}",
        "{value} of this {entity}'s transactions in {window} had the same {of}"),
    "hour_habit": Aggregate(
        12, "", "share",
        "share of the transactions of this {entity} in {window} within an hour of this time of day",
        "{value} of this {entity}'s transactions in {window} were at about this time of day"),
}  # fmt: skip

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

EVENT_AGGREGATES: dict[str, tuple[str, str, str]] = {
    # name: unit, meaning, phrase
    "value": ("{of}", "{of} of this transaction", "{of} is {value}"),
    "hour_of_day": ("hours", "hour of the day (UTC)", "hour of the day (UTC) is {value}"),
    "day_of_week": ("days", "day of the week, 0 is Monday", "day of the week is {value}"),
    "differs": ("0 or 1", "1 where {of} differ, 0 where they are equal", "{of} {value}"),
}


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of X.

    Attributes:
        name: derived, `{entity}_{of}_{aggregate}_{window}`.
        id: hash of the definition; a model names the ids it needs.
        aggregate: a key of AGGREGATES, or of EVENT_AGGREGATES where entity is `event`.
        of: the fields it is taken over.
        window_ms, baseline_ms: milliseconds; 0 where there is none.
    """

    name: str
    id: str
    entity: str
    aggregate: str
    of: tuple[str, ...]
    window: str
    baseline: str
    window_ms: int
    baseline_ms: int
    unit: str
    meaning: str
    phrase: str

    def in_words(self, value: float | None) -> str:
        """Say a value of this feature in plain words."""
        if value is None or value != value:
            return self._in_words_of_none()
        if self.aggregate == "differs":
            return self.phrase.replace("{value}", "differ" if value else "are the same")
        if self.aggregate == "day_of_week":
            return self.phrase.replace("{value}", _WEEKDAYS[int(value) % 7])
        if self.aggregate == "count" and value == 0:
            return self._in_words_of_none()
        spoken = self.phrase.replace("{value}", _spoken(value, self.unit))
        return spoken.replace("(s)", "" if value == 1 else "s")

    def _in_words_of_none(self) -> str:
        who = self.entity.replace("_", " and ")
        if self.aggregate == "count":
            return f"no earlier transaction of this {who} in {self.window}"
        if self.aggregate == "time_since_last":
            return f"this {who} was not seen in the {self.window} before"
        if self.window:
            return f"{self.meaning}: this {who} has too few to tell"
        return f"{self.meaning}: not given"


@dataclass(frozen=True, slots=True)
class Catalog:
    """The features of one worker, in the order of X's columns."""

    event: EventType
    features: tuple[Feature, ...]

    def __len__(self) -> int:
        return len(self.features)

    @property
    def names(self) -> list[str]:
        """Return the column names of X."""
        return [feature.name for feature in self.features]

    @property
    def entities(self) -> list[str]:
        """Return the entities that keep state, in order of first use."""
        return list(dict.fromkeys(f.entity for f in self.features if f.entity != EVENT))

    @property
    def fields_used(self) -> set[str]:
        """Return the fields that a batch must carry for these features."""
        return {field for feature in self.features for field in feature.of}

    def of_entity(self, entity: str) -> list[tuple[int, Feature]]:
        """Return one entity's features with their columns in X."""
        return [(i, f) for i, f in enumerate(self.features) if f.entity == entity]


def build_catalog(groups: list[FeatureGroup], event: EventType) -> Catalog:
    """Spell the declarations out.

    Raises:
        ConfigError: for the first declaration that does not hold, with the accepted form.
    """
    features: dict[str, Feature] = {}
    for number, group in enumerate(groups):
        where = f"features[{number}]"
        if not group.aggregates:
            known = ", ".join(EVENT_AGGREGATES if group.entity == EVENT else AGGREGATES)
            raise ConfigError(f"{where}.aggregates: missing; give one or more of {known}")
        for feature in (
            _event_group(where, group, event) if group.entity == EVENT else _group(where, group, event)
        ):
            if feature.name in features:
                raise ConfigError(f"{where}: {feature.name} is declared twice")
            features[feature.name] = feature
    if not 1 <= len(features) <= FEATURES_MAX:
        raise ConfigError(f"features: {len(features)} declared; give 1 to {FEATURES_MAX}")
    return Catalog(event, tuple(features.values()))


def _group(where: str, group: FeatureGroup, event: EventType) -> list[Feature]:
    if group.entity not in event.entities:
        known = ", ".join([EVENT, *event.entities])
        raise ConfigError(f'{where}.entity = "{group.entity}": give one of {known}')
    if not group.windows:
        raise ConfigError(f'{where}.windows: missing; give lengths from 1s to 90d, ["1h", "30d"]')
    given = [("windows", window) for window in group.windows]
    for key, window in [*given, *([("baseline", group.baseline)] if group.baseline else [])]:
        length = parse_duration_ms(window, f"{where}.{key}")
        if not WINDOW_MIN_MS <= length <= WINDOW_MAX_MS:
            raise ConfigError(f'{where}.{key}: "{window}" is not between 1s and 90d')
    return [
        _windowed(where, group, event, aggregate, window)
        for aggregate, window in product(group.aggregates, group.windows)
    ]


def _windowed(where: str, group: FeatureGroup, event: EventType, aggregate: str, window: str) -> Feature:
    spec = AGGREGATES.get(aggregate)
    if spec is None:
        raise ConfigError(f'{where}.aggregates: "{aggregate}": give one of {", ".join(AGGREGATES)}')
    of = _of_field(where, group, event, aggregate, spec)
    baseline = group.baseline if aggregate == "velocity" else ""
    if aggregate == "velocity":
        _check_baseline(where, group, window)
    name = "_".join(part for part in (group.entity, of, aggregate, window, baseline) if part)
    spoken = {"of": of.replace("_", " "), "entity": group.entity.replace("_", " and "), "window": window,
              "baseline": baseline}  # fmt: skip
    definition = [group.entity, event.entity_fields(group.entity), of, aggregate, window, baseline]
    return Feature(
        name=name,
        id=_identity(definition, event, (of,) if of else ()),
        entity=group.entity,
        aggregate=aggregate,
        of=(of,) if of else (),
        window=window,
        baseline=baseline,
        window_ms=parse_duration_ms(window, where),
        baseline_ms=parse_duration_ms(baseline, where) if baseline else 0,
        unit=spec.unit.replace("{of}", spoken["of"]),
        meaning=spec.meaning.format(**spoken),
        phrase=spec.phrase.format(**spoken, value="{value}"),
    )


def _of_field(where: str, group: FeatureGroup, event: EventType, aggregate: str, spec: Aggregate) -> str:
    if not spec.of:
        if group.of:
            raise ConfigError(
                f'{where}: "{aggregate}" is not taken over a field; put it in a group without `of`'
            )
        return ""
    if not isinstance(group.of, str) or group.of not in event.fields:
        raise ConfigError(f'{where}.of = {json.dumps(group.of)}: "{aggregate}" needs one declared field')
    if event.fields[group.of].type not in (NUMERIC_TYPES if spec.of == "measure" else TEXT_TYPES):
        needed = (
            "a numeric field (amount, integer, number)" if spec.of == "measure" else "an id or a category"
        )
        raise ConfigError(f'{where}.of = "{group.of}": "{aggregate}" needs {needed}')
    return group.of


def _check_baseline(where: str, group: FeatureGroup, window: str) -> None:
    if not group.baseline:
        raise ConfigError(f'{where}.baseline: missing; "velocity" compares with a longer window, "30d"')
    if parse_duration_ms(group.baseline, where) <= parse_duration_ms(window, where):
        raise ConfigError(f'{where}.baseline = "{group.baseline}": must be longer than the window {window}')


def _event_group(where: str, group: FeatureGroup, event: EventType) -> list[Feature]:
    of = (group.of,) if isinstance(group.of, str) else tuple(group.of)
    if group.windows or group.baseline:
        raise ConfigError(f'{where}.windows: entity "event" looks at one transaction and has no windows')
    for field in of:
        if field not in event.fields:
            raise ConfigError(f'{where}.of = "{field}": not a declared field')
    return [_of_event(where, event, aggregate, of) for aggregate in group.aggregates]


def _of_event(where: str, event: EventType, aggregate: str, of: tuple[str, ...]) -> Feature:
    if aggregate not in EVENT_AGGREGATES:
        raise ConfigError(f'{where}.aggregates: "{aggregate}": give one of {", ".join(EVENT_AGGREGATES)}')
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
        raise ConfigError(f'{where}.of = {json.dumps(list(of))}: "{aggregate}" needs {accepted}')
    spoken = " and ".join(field.replace("_", " ") for field in of)
    unit, meaning, phrase = EVENT_AGGREGATES[aggregate]
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
        phrase=phrase.format(of=spoken, value="{value}"),
    )


def _identity(definition: Sequence[object], event: EventType, of: tuple[str, ...]) -> str:
    fields = [[event.fields[f].type, event.fields[f].digits, event.fields[f].values] for f in of]
    text = json.dumps([definition, fields], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _spoken(value: float, unit: str) -> str:
    if unit == "share":
        return f"{100 * value:.0f} %"
    if unit == "seconds":
        for length, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
            if value >= length:
                return f"{value / length:.1f} {name}"
        return f"{value:.0f} s"
    if unit in ("transactions", "values", "code", "0 or 1", "hours", "days"):
        return f"{value:.0f}"
    return f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"
