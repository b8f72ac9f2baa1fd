"""Hypothesis strategies: event types, catalogues and streams, small enough that windows and ties matter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
from hypothesis import strategies as st

from fraudstream.batch import MISSING, TransactionBatch
from fraudstream.event import FIXED_POINT_MAX, EventType, Field, check_event
from fraudstream.features import Catalog, build_catalog, check_catalog
from fraudstream.features.aggregates import AGGREGATES, LABELLED
from fraudstream.features.labels import KnownLabel
from fraudstream.sections import FeatureGroup, StateSettings

START_MS = 1_700_000_000_000
UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
WINDOWS = (1, 2, 3, 5, 10, 20, 30)  # in units, ascending; a stream has some 40 ticks of one unit
LAGS = (1, 3, 20)
REACH = WINDOWS[-1] + LAGS[-1]
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
    """One transaction as drawn: `time_ms`, then a value or None a field; its id, else its offset is one."""

    time_ms: int
    measures: dict[str, int | None]
    texts: dict[str, str | None]
    transaction_id: str = ""


@dataclass(frozen=True)
class Told:
    """A label that is learned before the row at `position` of the stream."""

    position: int
    label: KnownLabel


@dataclass(frozen=True)
class World:
    """A catalogue, the bounds of the state, a stream in the order of the log, and the labels about it."""

    catalog: Catalog
    state: StateSettings
    stream: list[Drawn]
    told: Sequence[Told] = ()
    grace_ms: int = 0


@dataclass(frozen=True)
class Flavour:
    """The keys that may stand in a group of features beside entity, aggregates, of, windows and baseline."""

    where: str = ""
    lag: str = ""
    label: str = ""
    resolution: str = ""


PLAIN = Flavour()


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


def bounds(
    lateness: str = "1h",
    rows_max: int = 4096,
    entities_max: int = 1_000_000,
    repeat_horizon: str = "0s",
    complete_from: str = "start",
) -> StateSettings:
    """Return the bounds of the state."""
    return StateSettings(
        lateness=lateness,
        rows_max=rows_max,
        entities_max=entities_max,
        repeat_horizon=repeat_horizon,
        complete_from=complete_from,
    )


def batch_of(rows: Sequence[Drawn], first_offset: int = 0) -> TransactionBatch:
    """Return rows as a batch, in the given order."""
    measures = {
        field: np.array([MISSING if (v := row.measures[field]) is None else v for row in rows], np.int64)
        for field in MEASURES
    }
    offsets = np.arange(first_offset, first_offset + len(rows), dtype=np.int64)
    return TransactionBatch(
        ids=[row.transaction_id or f"t{at}" for row, at in zip(rows, offsets.tolist(), strict=True)],
        time_ms=np.array([row.time_ms for row in rows], np.int64),
        measures=measures,
        texts={field: [row.texts[field] for row in rows] for field in ("card_id", *TEXTS)},
        partition=np.zeros(len(rows), np.int64),
        offset=offsets,
        source_row=np.arange(len(rows), dtype=np.int64),
    )


def cut(rows: Sequence[Drawn], sizes: Iterable[int], also_at: Iterable[int] = ()) -> list[TransactionBatch]:
    """Return the rows as batches of these sizes (the last takes the rest), each in event order.

    A batch ends before each of the positions `also_at`, too.
    """
    ends = {int(end) for end in np.cumsum([0, *sizes])} | set(also_at) | {len(rows)}
    edges = sorted(end for end in ends if 0 <= end <= len(rows))
    return [batch_of(rows[start:end], start).in_event_order() for start, end in pairwise(edges)]


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


CONDITIONS = [
    'channel = "online"', 'channel != "online"', 'merchant_id = "m1"', 'merchant_id != "m1"', 'device_id = "d1"',
    'device_id != "m1"', 'card_id = "hot"', "recurring = true", "recurring != true", "recurring = false",
    *[f"{field} {op} {value}" for field, value in (("amount", 3), ("tip", 0), ("items", -1), ("items", 1))
      for op in ("=", "!=", "<", "<=", ">", ">=")],
]  # fmt: skip


@st.composite
def flavours(draw: st.DrawFn, unit: str, resolutions: Sequence[int]) -> Flavour:
    """Draw the further keys of a group; tiles only of the given lengths, in units."""
    conditions = draw(st.lists(st.sampled_from(CONDITIONS), max_size=2, unique=True))
    lags = st.sampled_from([f"{lag}{unit}" for lag in LAGS])
    labelled = draw(st.sampled_from([False, False, True]))
    tiled = bool(resolutions) and draw(st.booleans())
    return Flavour(
        where=" and ".join(conditions),
        lag=draw(lags if labelled else st.one_of(st.just(""), lags)),
        label="fraud" if labelled else "",
        resolution=f"{draw(st.sampled_from(resolutions))}{unit}" if tiled else "",
    )


@st.composite
def catalogs(
    draw: st.DrawFn, unit: str = "h", drawn_flavours: st.SearchStrategy[Flavour] | None = None
) -> Catalog:
    """Draw any subset of what can be declared, each entity and flavour with windows and a baseline of its own.

    Without flavours nothing but entity, aggregates, of, windows and baseline is given.
    """
    event = card_event(
        draw(st.sampled_from([0, 2, 8])), draw(st.sampled_from([0, 4])), draw(st.sampled_from([None, 0.0]))
    )
    groups: list[FeatureGroup] = []
    for entity in draw(st.lists(st.sampled_from(list(ENTITIES)), min_size=1, max_size=3, unique=True)):
        chosen = [PLAIN]
        if drawn_flavours is not None:
            chosen = draw(st.lists(drawn_flavours, min_size=1, max_size=3, unique=True))
        for flavour in chosen:
            groups.extend(draw(declarations(entity, unit, flavour)))
    groups.extend(draw(st.lists(st.sampled_from(EVENT_GROUPS), max_size=3, unique_by=str)))
    return build_catalog(draw(st.permutations(groups)), event)


@st.composite
def declarations(draw: st.DrawFn, entity: str, unit: str, flavour: Flavour) -> list[FeatureGroup]:
    """Draw the groups of one entity and one flavour, over the same windows."""
    tile = int(flavour.resolution.removesuffix(unit) or 0)
    fitting = [length for length in WINDOWS[:-1] if length >= tile]
    lengths = draw(st.lists(st.sampled_from(fitting), min_size=1, max_size=3, unique=True))
    baseline = draw(st.sampled_from([length for length in WINDOWS if length > max(lengths)]))
    groups = []
    fields = ("",) if flavour.label and tile else ("", *MEASURES)
    if not (flavour.label or tile):
        fields = (*fields, *TEXTS)
    for of in draw(st.lists(st.sampled_from(fields), min_size=1, unique=True)):
        names = aggregates_for(of, flavour, tile * UNITS_MS[unit])
        groups.append(
            FeatureGroup(
                entity=entity,
                of=of,
                aggregates=draw(st.lists(st.sampled_from(names), min_size=1, unique=True)),
                windows=[f"{length}{unit}" for length in lengths],
                baseline=f"{baseline}{unit}",
                where=flavour.where,
                lag=flavour.lag,
                label=flavour.label,
                resolution=flavour.resolution,
            )
        )
    return groups


def aggregates_for(of: str, flavour: Flavour, tile_ms: int) -> list[str]:
    """Return the aggregates that can be declared over a field with these keys."""
    kind = "measure" if of in MEASURES else "text" if of else ""
    known = LABELLED if flavour.label else AGGREGATES
    names = [name for name in known if AGGREGATES[name].of == kind]
    if not (flavour.where or flavour.label):
        names = [name for name in names if not AGGREGATES[name].compares]
    if tile_ms:
        names = [name for name in names if AGGREGATES[name].tiled]
        if UNITS_MS["h"] % tile_ms:
            names = [name for name in names if name != "hour_habit"]
    return names


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


CAPS = st.sampled_from([1, 2, 3, 4, 5, 8, 9, 16, 64, 200])
COMPLETE = ("start", "start", "start", "start", "start", "start", "", "instant")


@st.composite
def scenes(
    draw: st.DrawFn, unit: str, caps: st.SearchStrategy[int], complete: Sequence[str]
) -> tuple[Catalog, StateSettings]:
    """Draw the bounds of the state and a catalogue that fits into them."""
    lateness, rows_max = draw(st.sampled_from(LATENESSES)), draw(caps)
    complete_from = draw(st.sampled_from(complete))
    if complete_from == "instant":
        from_ms = START_MS + draw(st.integers(-5, 30)) * UNITS_MS[unit]
        complete_from = datetime.fromtimestamp(from_ms / 1000, UTC).isoformat()
    lengths = (1,) if unit == "d" else (1, 2, 3, 10)  # a tile is a day at most
    resolutions = [tile for tile in lengths if -(-(REACH + lateness) // tile) + 2 <= rows_max]
    catalog = draw(catalogs(unit, flavours(unit, resolutions)))
    state = bounds(f"{lateness}{unit}", rows_max, complete_from=complete_from)
    check_catalog(catalog, state)
    return catalog, state


@st.composite
def worlds(
    draw: st.DrawFn, rows_max: st.SearchStrategy[int] = CAPS, complete: Sequence[str] = COMPLETE
) -> World:
    """Draw a catalogue and a stream for it: ties in time, rows late by little and by too much, gaps, labels."""
    unit = draw(units())
    catalog, state = draw(scenes(unit, rows_max, complete))
    times = st.builds(
        lambda tick, off: START_MS + tick * UNITS_MS[unit] + off,
        st.one_of(st.integers(0, 6), st.integers(0, 40)),
        st.sampled_from([0, 0, 0, -1, 1]),
    )
    tip_missing = catalog.event.fields["tip"].default is None
    rows = draw(st.sampled_from([4, 10, 20, 30, 40, 50, 1, 0]))  # a list alone is a handful long on average
    stream = draw(st.lists(transactions(times, tip_missing), min_size=rows, max_size=rows))
    if draw(st.booleans()):
        stream.sort(key=lambda row: row.time_ms)
    told = []
    if any(feature.label for feature in catalog.features):
        labels = draw(st.integers(0, rows))
        told = draw(st.lists(tellings(rows, times), min_size=labels, max_size=labels))
    grace_ms = draw(st.sampled_from([0, 1, 4])) * UNITS_MS[unit]
    return World(catalog, state, named(stream), told, grace_ms)


def named(stream: Sequence[Drawn]) -> list[Drawn]:
    """Return the rows with their position in the stream as their id."""
    return [replace(row, transaction_id=f"t{position}") for position, row in enumerate(stream)]


@st.composite
def tellings(draw: st.DrawFn, rows: int, times: st.SearchStrategy[int]) -> Told:
    """Draw a label, now and then of a row that never comes: learned before its transaction or behind it."""
    label = KnownLabel(
        transaction_id=f"t{draw(st.integers(0, rows))}",
        fraud=draw(st.sampled_from([True, True, False])),
        known_at_ms=draw(st.one_of(st.just(START_MS), times)),
        rank=draw(st.sampled_from([0, 0, 1, 2])),
    )
    return Told(draw(st.one_of(st.just(0), st.integers(0, rows))), label)


HORIZONS = ("0s", "1s", "3m", "4h", "2d", "1000d")


@st.composite
def repeated(draw: st.DrawFn) -> World:
    """Draw a world in which some ids come again, with the same content or another, soon or late.

    There are labels only where an id stands for one transaction as long as the stream lasts.
    """
    world = draw(worlds())
    horizon = draw(st.sampled_from(HORIZONS))
    stream = list(world.stream)
    for _ in range(draw(st.integers(0, 15)) if stream else 0):
        like, content, at = (draw(st.integers(0, len(stream) - 1)) for _ in range(3))
        stream.insert(at, replace(stream[content], transaction_id=stream[like].transaction_id))
    state = msgspec.structs.replace(world.state, repeat_horizon=horizon)
    told = world.told if horizon == HORIZONS[-1] else ()
    return replace(world, state=state, stream=stream, told=told)


def fillers(number: int, time_ms: int, prefix: str) -> list[Drawn]:
    """Return one transaction each of `number` cards that are never seen again."""
    measures: dict[str, int | None] = {"amount": 1, "tip": 1, "items": 1, "recurring": 1}
    texts: dict[str, Any] = {"merchant_id": "m", "device_id": "d", "channel": "pos"}
    names = [f"{prefix}-{i}" for i in range(number)]
    return [Drawn(time_ms, measures, {**texts, "card_id": name}, name) for name in names]
