"""The slow, obvious twins: pure Python, written from the contract and not from the kernels.

`FeatureTwin` keeps a list of rows an entity and filters it for every feature. Its integers are Python's, so
nothing wraps; where a result is a fraction, its top and bottom are exact integers, each is rounded once to
a float, and the division is the last step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from fraudstream.batch import MISSING, TransactionBatch
from fraudstream.event import NUMERIC_TYPES
from fraudstream.features import Catalog, Feature
from fraudstream.settings import StateSettings

LATE, ROWS_CAPPED, UNTRACKED = 1, 2, 4
NAN = math.nan
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

Entity = tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """A transaction: its time, its present measures in minor units, its present texts."""

    time_ms: int
    measures: dict[str, int]
    texts: dict[str, str]


@dataclass
class History:
    """One entity's kept rows by time (arrival order among equals), and what went for lack of room."""

    rows: list[Row]
    newest_dropped_ms: int | None = None


class FeatureTwin:
    """The features of the contract in `fraudstream/features/__init__.py`, one row after the other."""

    def __init__(self, catalog: Catalog, settings: StateSettings) -> None:
        self.catalog = catalog
        self.settings = settings
        self.watermark_ms: int | None = None
        self.histories: dict[str, dict[Entity, History]] = {kind: {} for kind in catalog.entities}

    def observe(self, batch: TransactionBatch) -> tuple[list[list[float]], list[int]]:
        """Return features and flags of the rows, in the order given, and take them in."""
        served = [self._observe_row(row) for row in rows_of(batch)]
        return [x for x, _ in served], [flags for _, flags in served]

    def longest_ms(self, kind: str) -> int:
        """Return the longest window or baseline of a kind of entity."""
        return max(max(f.window_ms, f.baseline_ms) for f in self.catalog.features if f.entity == kind)

    def kept(self, kind: str) -> dict[Entity, list[Row]]:
        """Return the kept rows that a row in time can still see, by entity."""
        if self.watermark_ms is None:
            return {}
        reach_ms = self.longest_ms(kind) + self.settings.lateness_ms
        within = {
            entity: [row for row in history.rows if row.time_ms > self.watermark_ms - reach_ms]
            for entity, history in self.histories[kind].items()
        }
        return {entity: rows for entity, rows in within.items() if rows}

    def _observe_row(self, row: Row) -> tuple[list[float], int]:
        x, flags = [NAN] * len(self.catalog.features), 0
        for kind, histories in self.histories.items():
            entity = self._entity(kind, row)
            if entity is None:
                continue
            history = histories.get(entity)
            if history is None or self._idle(kind, history):
                history = histories[entity] = History([])
            for column, feature in enumerate(self.catalog.features):
                if feature.entity == kind:
                    x[column] = windowed(feature, history.rows, row, self._scale(feature))
            flags |= self._take_in(history, row, self.longest_ms(kind))
        for column, feature in enumerate(self.catalog.features):
            if feature.entity == "event":
                x[column] = self._event(feature, row)
        self.watermark_ms = max(self.watermark_ms or row.time_ms, row.time_ms)
        return x, flags

    def _idle(self, kind: str, history: History) -> bool:
        """Say whether no row in time can see the entity's rows any more, so that they are gone."""
        if self.watermark_ms is None:
            return not history.rows
        reach_ms = self.longest_ms(kind) + self.settings.lateness_ms
        return not history.rows or history.rows[-1].time_ms < self.watermark_ms - reach_ms

    def _entity(self, kind: str, row: Row) -> Entity | None:
        fields = self.catalog.event.entity_fields(kind)
        if any(field not in row.texts for field in fields):
            return None
        return tuple(row.texts[field] for field in fields)

    def _take_in(self, history: History, row: Row, longest_ms: int) -> int:
        flags = 0
        dropped_ms = history.newest_dropped_ms
        if dropped_ms is not None and dropped_ms > row.time_ms - longest_ms:
            flags |= ROWS_CAPPED
        newest_ms = max((kept.time_ms for kept in history.rows), default=row.time_ms)
        stream_ms = row.time_ms if self.watermark_ms is None else self.watermark_ms
        lateness_ms = self.settings.lateness_ms
        if row.time_ms < newest_ms - lateness_ms or row.time_ms < stream_ms - longest_ms - lateness_ms:
            return flags | LATE
        kept = sorted([*history.rows, row], key=lambda r: r.time_ms)  # stable: arrival order among equals
        forgotten_ms = kept[-1].time_ms - longest_ms - lateness_ms
        kept = [r for r in kept if r.time_ms > forgotten_ms]
        for gone in kept[: -self.settings.rows_max]:
            history.newest_dropped_ms = max(history.newest_dropped_ms or gone.time_ms, gone.time_ms)
        history.rows = kept[-self.settings.rows_max :]
        return flags

    def _scale(self, feature: Feature) -> int:
        if not feature.of or self.catalog.event.fields[feature.of[0]].type not in NUMERIC_TYPES:
            return 1
        return 10 ** self.catalog.event.fields[feature.of[0]].digits

    def _event(self, feature: Feature, row: Row) -> float:
        if feature.aggregate == "hour_of_day":
            return float(row.time_ms % DAY_MS // HOUR_MS)
        if feature.aggregate == "day_of_week":
            return float((row.time_ms // DAY_MS + 3) % 7)  # 1970-01-01 was a Thursday
        if feature.aggregate == "differs":
            left, right = (row.texts.get(field) for field in feature.of)
            return NAN if left is None or right is None else float(left != right)
        field = feature.of[0]
        if self.catalog.event.fields[field].type in NUMERIC_TYPES:
            return row.measures[field] / self._scale(feature) if field in row.measures else NAN
        known = self.catalog.event.fields[field].values
        text = row.texts.get(field)
        return float(known.index(text)) if text in known else NAN


def rows_of(batch: TransactionBatch) -> list[Row]:
    """Return a batch's rows one by one."""
    rows = []
    for i in range(len(batch)):
        measures = {field: int(column[i]) for field, column in batch.measures.items()}
        texts = {field: column[i] for field, column in batch.texts.items()}
        rows.append(
            Row(
                int(batch.time_ms[i]),
                {field: value for field, value in measures.items() if value != MISSING},
                {field: text for field, text in texts.items() if text is not None},
            )
        )
    return rows


def windowed(feature: Feature, kept: list[Row], row: Row, scale: int) -> float:
    """Return one windowed feature of a row from its entity's earlier rows."""

    def within(length_ms: int) -> list[Row]:
        return [r for r in kept if row.time_ms - length_ms < r.time_ms <= row.time_ms]

    seen = within(feature.window_ms)
    of = feature.of[0] if feature.of else ""
    match feature.aggregate:
        case "count":
            return float(len(seen))
        case "velocity":
            longer = within(feature.baseline_ms)
            return fraction(len(seen) * feature.baseline_ms, len(longer) * feature.window_ms)
        case "time_since_last":
            return fraction(row.time_ms - max(r.time_ms for r in seen), 1000) if seen else NAN
        case "distinct":
            return float(len({r.texts[of] for r in seen if of in r.texts}))
        case "share":
            if of not in row.texts:
                return NAN
            return fraction(sum(r.texts.get(of) == row.texts[of] for r in seen), len(seen))
        case "hour_habit":
            hours = [(hour_of(r.time_ms) - hour_of(row.time_ms)) % 24 for r in seen]
            return fraction(sum(apart in (23, 0, 1) for apart in hours), len(seen))
        case _:
            values = [r.measures[of] for r in seen if of in r.measures]
            return of_values(feature.aggregate, values, row.measures.get(of), scale)


def of_values(aggregate: str, values: list[int], own: int | None, scale: int) -> float:
    """Return an aggregate of a window's present values, in minor units, as the declared unit."""
    n, total = len(values), sum(values)
    squares = sum(value * value for value in values)
    match aggregate:
        case "sum":
            return fraction(total, scale)
        case "mean":
            return fraction(total, n * scale)
        case "min":
            return fraction(min(values), scale) if values else NAN
        case "max":
            return fraction(max(values), scale) if values else NAN
        case "ratio":
            return NAN if own is None else fraction(own * n, total)
    if n < 2:
        return NAN
    deviation_minor = math.sqrt(fraction(n * squares - total * total, n * (n - 1)))
    if aggregate == "std":
        return deviation_minor / scale
    assert aggregate == "zscore", aggregate
    if own is None or deviation_minor == 0:
        return NAN
    return fraction(own * n - total, n) / deviation_minor


def fraction(top: int, bottom: int) -> float:
    """Return top / bottom of exact integers, each rounded to a float first; NaN where there is none."""
    return float(top) / float(bottom) if bottom else NAN


def hour_of(time_ms: int) -> int:
    """Return the hour of the day, UTC."""
    return time_ms // HOUR_MS % 24


def siphash_1_3(data: bytes, key: tuple[int, int]) -> int:
    """Return SipHash-1-3 (Aumasson and Bernstein 2012, section 2, with c = 1 and d = 3)."""
    full = 2**64 - 1

    def rotated(x: int, bits: int) -> int:
        return (x << bits | x >> (64 - bits)) & full

    def sipround(v: list[int]) -> None:
        v[0] = (v[0] + v[1]) & full
        v[2] = (v[2] + v[3]) & full
        v[1] = rotated(v[1], 13) ^ v[0]
        v[3] = rotated(v[3], 16) ^ v[2]
        v[0] = rotated(v[0], 32)
        v[2] = (v[2] + v[1]) & full
        v[0] = (v[0] + v[3]) & full
        v[1] = rotated(v[1], 17) ^ v[2]
        v[3] = rotated(v[3], 21) ^ v[0]
        v[2] = rotated(v[2], 32)

    constants = b"somepseudorandomlygeneratedbytes"
    v = [int.from_bytes(constants[i : i + 8], "big") ^ key[i // 8 % 2] for i in range(0, 32, 8)]
    padded = data + bytes(-(len(data) + 1) % 8) + bytes([len(data) % 256])
    for start, stop in pairwise(range(0, len(padded) + 8, 8)):
        word = int.from_bytes(padded[start:stop], "little")
        v[3] ^= word
        sipround(v)
        v[0] ^= word
    v[2] ^= 0xFF
    for _ in range(3):
        sipround(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def text_hash(text: str | None, key: tuple[int, int]) -> int:
    """Return the hash that stands for a text: 0 is kept for "no such value"."""
    return 0 if text is None else siphash_1_3(text.encode(), key) or 1
