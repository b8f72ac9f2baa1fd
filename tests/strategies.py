"""Hypothesis strategies: event types, catalogues and streams, small enough that windows and ties matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from fraudstream.batch import MISSING, TransactionBatch
from fraudstream.event import FIXED_POINT_MAX, EventType, Field, check_event
from fraudstream.features import Catalog, build_catalog
from fraudstream.features.catalog import AGGREGATES
from fraudstream.settings import FeatureGroup, StateSettings

START_MS = 1_700_000_000_000
UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
WINDOWS = (1, 2, 3, 5, 10, 20, 30)  # in units, ascending; a stream has some 40 ticks of one unit
LATENESSES = (0, 1, 3, 10, 1000)
MEASURES = ("amount", "tip", "items", "recurring")
TEXTS = ("merchant_id", "device_id", "channel")
ENTITIES: dict[str, str | list[str]] = {
    "card": "card_id",
    "device": "device_id",
    "card_merchant": ["card_id", "merchant_id"],
    "card_device": ["card_id", "device_id", "channel"],
}


@dataclass(frozen=True)
class Drawn:
    """One transaction as drawn: `time_ms`, then a value or None a field."""

    time_ms: int
    measures: dict[str, int | None]
    texts: dict[str, str | None]


@dataclass(frozen=True)
class World:
    """A catalogue, the bounds of the state, and a stream in the order of the log."""

    catalog: Catalog
    state: StateSettings
    stream: list[Drawn]


def card_event(
    amount_decimals: int = 2, tip_decimals: int = 4, tip_default: float | None = None
) -> EventType:
    """Return an event type with a required and an optional field of each kind that features look at."""
    event = EventType(
        id="transaction_id",
        time="event_time",
        amount="amount",
        fields={
            "transaction_id": Field(type="id", required=True),
            "event_time": Field(type="timestamp", required=True),
            "card_id": Field(type="id", required=True),
            "merchant_id": Field(type="id", required=True),
            "device_id": Field(type="id"),
            "channel": Field(type="category", values=["pos", "online"]),
            "amount": Field(type="amount", required=True, decimals=amount_decimals),
            "tip": Field(type="number", decimals=tip_decimals, default=tip_default),
            "items": Field(type="integer", required=True),
            "recurring": Field(type="boolean"),
        },
        entities=ENTITIES,
    )
    check_event(event)
    return event


def bounds(lateness: str = "1h", rows_max: int = 4096, entities_max: int = 1_000_000) -> StateSettings:
    """Return the bounds of the state."""
    return StateSettings(lateness=lateness, rows_max=rows_max, entities_max=entities_max)


def batch_of(rows: Sequence[Drawn], first_offset: int = 0) -> TransactionBatch:
    """Return rows as a batch, in the given order."""
    measures = {
        field: np.array([MISSING if (v := row.measures[field]) is None else v for row in rows], np.int64)
        for field in MEASURES
    }
    offsets = np.arange(first_offset, first_offset + len(rows), dtype=np.int64)
    return TransactionBatch(
        ids=[f"t{offset}" for offset in offsets.tolist()],
        time_ms=np.array([row.time_ms for row in rows], np.int64),
        measures=measures,
        texts={field: [row.texts[field] for row in rows] for field in ("card_id", *TEXTS)},
        partition=np.zeros(len(rows), np.int64),
        offset=offsets,
        source_row=np.arange(len(rows), dtype=np.int64),
    )


def cut(rows: Sequence[Drawn], sizes: Sequence[int]) -> list[TransactionBatch]:
    """Return the rows as batches of these sizes (the last takes the rest), each in event order."""
    batches, start = [], 0
    for size in [*sizes, len(rows)]:
        batches.append(batch_of(rows[start : start + size], start).in_event_order())
        start += size
    return [batch for batch in batches if len(batch)]


def amounts() -> st.SearchStrategy[int]:
    return st.one_of(
        st.integers(0, 5), st.integers(0, FIXED_POINT_MAX), st.integers(FIXED_POINT_MAX - 2, FIXED_POINT_MAX)
    )


def signed() -> st.SearchStrategy[int]:
    return st.builds(lambda size, negative: -size if negative else size, amounts(), st.booleans())


def lengths() -> st.SearchStrategy[list[int]]:
    """Draw the sizes of the micro-batches that a stream is cut into."""
    return st.lists(st.integers(1, 12), max_size=20)


def units() -> st.SearchStrategy[str]:
    """Draw the unit of time that a stream's ticks and its windows share."""
    return st.sampled_from(list(UNITS_MS))


@st.composite
def catalogs(draw: st.DrawFn, unit: str = "h") -> Catalog:
    """Draw any subset of what can be declared, each entity with windows and a baseline of its own."""
    event = card_event(
        draw(st.sampled_from([0, 2, 8])), draw(st.sampled_from([0, 4])), draw(st.sampled_from([None, 0.0]))
    )
    groups = []
    for entity in draw(st.lists(st.sampled_from(list(ENTITIES)), min_size=1, max_size=3, unique=True)):
        lengths = draw(st.lists(st.sampled_from(WINDOWS[:-1]), min_size=1, max_size=3, unique=True))
        windows = [f"{length}{unit}" for length in lengths]
        baseline = f"{draw(st.sampled_from([length for length in WINDOWS if length > max(lengths)]))}{unit}"
        for of in draw(st.lists(st.sampled_from(["", *MEASURES, *TEXTS]), min_size=1, unique=True)):
            kind = "measure" if of in MEASURES else "text" if of else ""
            fitting = [name for name, aggregate in AGGREGATES.items() if aggregate.of == kind]
            chosen = draw(st.lists(st.sampled_from(fitting), min_size=1, unique=True))
            groups.append(
                FeatureGroup(entity=entity, of=of, aggregates=chosen, windows=windows, baseline=baseline)
            )
    groups.extend(draw(st.lists(st.sampled_from(EVENT_GROUPS), max_size=3, unique_by=str)))
    return build_catalog(draw(st.permutations(groups)), event)


EVENT_GROUPS = [
    FeatureGroup(entity="event", of="tip", aggregates=["value"]),
    FeatureGroup(entity="event", of="amount", aggregates=["value"]),
    FeatureGroup(entity="event", of="channel", aggregates=["value"]),
    FeatureGroup(entity="event", of="event_time", aggregates=["hour_of_day", "day_of_week"]),
    FeatureGroup(entity="event", of=["merchant_id", "device_id"], aggregates=["differs"]),
]


@st.composite
def transactions(draw: st.DrawFn, times: st.SearchStrategy[int], tip_missing: bool) -> Drawn:
    return Drawn(
        draw(times),
        {
            "amount": draw(amounts()),
            "tip": draw(st.one_of(st.none(), signed()) if tip_missing else signed()),
            "items": draw(st.integers(-3, 3)),
            "recurring": draw(st.sampled_from([None, 0, 1])),
        },
        {
            "card_id": draw(st.sampled_from(["hot", "hot", "hot", "cold", "kärtchen 😀"])),
            "merchant_id": draw(st.sampled_from(["m1", "m2", "m3"])),
            "device_id": draw(st.sampled_from([None, "d1", "d2", "m1"])),
            "channel": draw(st.sampled_from([None, "pos", "online", "fax"])),
        },
    )


CAPS = st.sampled_from([1, 2, 3, 4, 5, 8, 9, 64])


@st.composite
def worlds(draw: st.DrawFn, rows_max: st.SearchStrategy[int] = CAPS) -> World:
    """Draw a catalogue and a stream for it: ties in time, rows late by little and by too much, gaps."""
    unit = draw(units())
    catalog = draw(catalogs(unit))
    times = st.builds(
        lambda tick, off: START_MS + tick * UNITS_MS[unit] + off,
        st.one_of(st.integers(0, 6), st.integers(0, 40)),
        st.sampled_from([0, 0, 0, -1, 1]),
    )
    tip_missing = catalog.event.fields["tip"].default is None
    rows = draw(st.integers(0, 50))  # by itself: a list alone is a handful long on average
    stream = draw(st.lists(transactions(times, tip_missing), min_size=rows, max_size=rows))
    if draw(st.booleans()):
        stream.sort(key=lambda row: row.time_ms)
    lateness = f"{draw(st.sampled_from(LATENESSES))}{unit}"
    return World(catalog, bounds(lateness, draw(rows_max)), stream)


def fillers(number: int, time_ms: int, prefix: str) -> list[Drawn]:
    """Return one transaction each of `number` cards that are never seen again."""
    measures: dict[str, int | None] = {"amount": 1, "tip": 1, "items": 1, "recurring": 1}
    texts: dict[str, Any] = {"merchant_id": "m", "device_id": "d", "channel": "pos"}
    return [Drawn(time_ms, measures, {**texts, "card_id": f"{prefix}-{i}"}) for i in range(number)]
