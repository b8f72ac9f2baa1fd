"""The catalogue: the features of one worker, one `Feature` a column of X, in a fixed order."""

from __future__ import annotations

from dataclasses import dataclass

from fraudstream.event import EventType, spell_duration
from fraudstream.features.aggregates import AGGREGATES
from fraudstream.features.where import Condition
from fraudstream.sections import Monotone, StateSettings

EVENT = "event"


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of X.

    Attributes:
        name: derived, `{entity}_{where}_{label}_{of}_{aggregate}_{window}_lag{lag}_tiles{resolution}`.
        id: hash of the definition; a model names the ids it needs.
        aggregate: a key of AGGREGATES, or of EVENT_AGGREGATES where entity is `event`.
        of: the fields it is taken over.
        window_ms, baseline_ms, lag_ms, resolution_ms: milliseconds; 0 where there is none.
        where: what an earlier row must fulfil to count.
        monotone: how a model's score may follow it, `rising` or `falling`; empty: in any way.
        label: `fraud` where only rows known to be fraud count; else empty.
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
    where: tuple[Condition, ...] = ()
    lag: str = ""
    lag_ms: int = 0
    label: str = ""
    resolution: str = ""
    resolution_ms: int = 0
    monotone: Monotone = ""

    @property
    def reach_ms(self) -> int:
        """Return how far before a row its oldest visible row may lie, in milliseconds."""
        return self.lag_ms + max(self.window_ms, self.baseline_ms)


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
    def stages(self) -> list[tuple[str, int]]:
        """Return each (entity, resolution in ms; 0 for exact) that keeps state, in order of first use."""
        return list(dict.fromkeys((f.entity, f.resolution_ms) for f in self.features if f.entity != EVENT))

    @property
    def fields_used(self) -> set[str]:
        """Return the fields that a batch must carry for these features."""
        compared = {condition.field for feature in self.features for condition in feature.where}
        return compared | {field for feature in self.features for field in feature.of}

    def of_entity(self, entity: str) -> list[tuple[int, Feature]]:
        """Return one entity's features with their columns in X."""
        return [(i, f) for i, f in enumerate(self.features) if f.entity == entity]

    def of_stage(self, entity: str, resolution_ms: int) -> list[tuple[int, Feature]]:
        """Return one stage's features with their columns in X."""
        return [(i, f) for i, f in self.of_entity(entity) if f.resolution_ms == resolution_ms]


def stage_name(entity: str, resolution_ms: int) -> str:
    """Return what a stage is called: its entity, for tiles with their length (`merchant@5m`)."""
    return f"{entity}@{spell_duration(resolution_ms)}" if resolution_ms else entity


def partial_features(catalog: Catalog) -> list[str]:
    """Return the features that see only part of their entity's rows where several workers share the partitions.

    Kafka brings all rows of one key to one worker. Those of an entity that is not named by the key come to several.
    """
    event = catalog.event
    key = set(event.entity_fields(event.key))
    return [
        f.name
        for f in catalog.features
        if f.entity != EVENT and not key <= set(event.entity_fields(f.entity))
    ]


def exactness(feature: Feature, state: StateSettings) -> str:
    """Return in words how exact a feature is."""
    if feature.entity == EVENT:
        return "exact"
    if feature.resolution_ms:
        return f"tiles of {spell_duration(feature.resolution_ms)}"
    return f"exact up to {state.rows_max:,} rows"


def nan_in_words(feature: Feature, event: EventType) -> list[str]:
    """Return in words each case in which a feature has no value."""
    if feature.entity == EVENT:
        optional = [name for name in feature.of if not event.fields[name].required]
        unlisted = [name for name in feature.of if event.fields[name].values and feature.aggregate == "value"]
        return [f"this transaction has no {name.replace('_', ' ')}" for name in optional] + [
            f"its {name.replace('_', ' ')} is none of the listed values" for name in unlisted
        ]
    of = "".join(feature.of).replace("_", " ")
    own = AGGREGATES[feature.aggregate].nan.replace("{of}", of)
    named = all(event.fields[name].required for name in event.entity_fields(feature.entity))
    names = [] if named else [f"this transaction names no {feature.entity.replace('_', ' and ')}"]
    return [
        *names,
        *own.split("; ") * bool(own),
        "the history that is known is shorter (state.complete_from)",
    ]
