"""The feature engine's twin, written from its contract.

`FeatureTwin` keeps a list of rows for every entity of a stage and filters it anew for every feature. Its
integers are Python's, so nothing wraps; where a result is a fraction, its top and bottom are exact integers,
each is rounded once to a float, and the division is the last step.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from fraudstream.batch import MISSING, TransactionBatch
from fraudstream.event import NUMERIC_TYPES
from fraudstream.features import Catalog, Feature
from fraudstream.features.catalog import stage_name
from fraudstream.features.labels import KnownLabel
from fraudstream.sections import StateSettings

LATE, ROWS_CAPPED, COLD = 1, 2, 8
NAN = math.nan
NEVER = -(2**62)  # before every time
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip

Entity = tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """A transaction: its time, its present measures in fixed point, its present texts."""

    transaction_id: str
    time_ms: int
    measures: dict[str, int]
    texts: dict[str, str]


@dataclass
class History:
    """One entity's kept rows by time (arrival order among equals), and what went for lack of room."""

    rows: list[Row]
    newest_dropped_ms: int = NEVER


@dataclass
class Told:
    """A label, and the stream time at the first row that could see it."""

    label: KnownLabel
    seen_ms: int | None = None


@dataclass
class Stage:
    """One kind of entity at one resolution (0: exact rows), with its features by column of X."""

    kind: str
    resolution_ms: int
    features: dict[int, Feature] = field(default_factory=dict)
    histories: dict[Entity, History] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return how the engine calls it: `card`, or `card@5m` for tiles."""
        return stage_name(self.kind, self.resolution_ms)

    @property
    def reach_ms(self) -> int:
        """Return how far behind a row its features look; a tile that is touched is seen whole."""
        longest_ms = max(f.lag_ms + max(f.window_ms, f.baseline_ms) for f in self.features.values())
        return longest_ms + self.resolution_ms

    def stands_ms(self, time_ms: int) -> int:
        """Return the time at which a row counts as standing: its own, or the start of its tile."""
        return floor(time_ms, self.resolution_ms) if self.resolution_ms else time_ms


class FeatureTwin:
    """The features of the contract in `fraudstream/features/__init__.py`, one row after the other.

    Attributes:
        watermark_ms: the stream's newest event time so far.
        history_from_ms: from here on no transaction is missing; None until the first row tells.
    """

    def __init__(self, catalog: Catalog, settings: StateSettings, grace_ms: int = 0) -> None:
        self.catalog = catalog
        self.settings = settings
        self.grace_ms = grace_ms
        self.watermark_ms = NEVER
        self.history_from_ms = settings.complete_from_ms
        self.stages = stages_of(catalog)
        self.labels: dict[str, list[Told]] = {}
        self.observed_ms: dict[str, int] = {}  # stream time at which each transaction was observed
        self.label_horizon_ms = settings.lateness_ms + max(
            (s.reach_ms for s in self.stages if any(f.label for f in s.features.values())), default=0
        )
        self.first_seen_ms: dict[str, int] = {}

    def recognise(self, batch: TransactionBatch) -> tuple[list[int], list[tuple[int, str]]]:
        """Return the rows that are new, and the repeats with their ids, before any is taken in."""
        fresh, repeats, stream_ms = [], [], self.watermark_ms
        for i, row in enumerate(rows_of(batch)):
            now_ms = max(stream_ms, row.time_ms)
            seen_ms = self.first_seen_ms.get(row.transaction_id, NEVER)
            if 0 < self.settings.repeat_horizon_ms >= now_ms - seen_ms:
                repeats.append((i, row.transaction_id))
            else:
                fresh.append(i)
                self.first_seen_ms[row.transaction_id] = stream_ms = now_ms
        return fresh, repeats

    def learn(self, labels: Iterable[KnownLabel]) -> None:
        """Take labels in, for the rows that are observed from now on."""
        for label in labels:
            self.labels.setdefault(label.transaction_id, []).append(Told(label))

    def observe(self, batch: TransactionBatch) -> tuple[list[list[float]], list[int]]:
        """Return features and flags of the rows, in the order given, and take them in."""
        served = [self._observe_row(row) for row in rows_of(batch)]
        return [x for x, _ in served], [flags for _, flags in served]

    def kept(self, stage: Stage) -> dict[Entity, list[int]]:
        """Return where the kept rows stand that a row in time can still see, by entity."""
        past_ms = self._in_time_from_ms(stage, self.watermark_ms) - stage.reach_ms
        within = {
            entity: [at for row in history.rows if (at := stage.stands_ms(row.time_ms)) > past_ms]
            for entity, history in stage.histories.items()
        }
        if stage.resolution_ms:
            within = {entity: sorted(set(times)) for entity, times in within.items()}
        return {entity: times for entity, times in within.items() if times}

    def _observe_row(self, row: Row) -> tuple[list[float], int]:
        x, flags = [NAN] * len(self.catalog.features), 0
        now_ms = max(self.watermark_ms, row.time_ms)
        if self.history_from_ms is None:
            self.history_from_ms = row.time_ms
        for told in (told for labels in self.labels.values() for told in labels):
            if told.seen_ms is None and told.label.known_at_ms + self.grace_ms <= now_ms:
                told.seen_ms = now_ms
        for stage in self.stages:
            entity = self._entity(stage.kind, row)
            if entity is None:
                continue
            history = stage.histories.get(entity)
            if history is None or self._idle(stage, history):
                history = stage.histories[entity] = History([])
            for column, feature in stage.features.items():
                x[column] = self._windowed(feature, history.rows, row)
            flags |= self._take_in(stage, history, row)
        for column, feature in enumerate(self.catalog.features):
            if feature.entity == "event":
                x[column] = self._event(feature, row)
            elif self._is_cold(feature, row):
                flags |= COLD
        self.observed_ms.setdefault(row.transaction_id, now_ms)
        self.watermark_ms = now_ms
        return x, flags

    def _idle(self, stage: Stage, history: History) -> bool:
        """Say whether no row in time can see the entity's rows any more, so that they are gone."""
        newest_ms = max((row.time_ms for row in history.rows), default=NEVER)
        return stage.stands_ms(newest_ms) < self._in_time_from_ms(stage, self.watermark_ms) - stage.reach_ms

    def _in_time_from_ms(self, stage: Stage, newest_ms: int) -> int:
        """Return from when on a row is in time behind a newest one; in tiles, a whole tile is or none of it."""
        return stage.stands_ms(stage.stands_ms(newest_ms) - self.settings.lateness_ms)

    def _entity(self, kind: str, row: Row) -> Entity | None:
        fields = self.catalog.event.entity_fields(kind)
        if any(name not in row.texts for name in fields):
            return None
        return tuple(row.texts[name] for name in fields)

    def _take_in(self, stage: Stage, history: History, row: Row) -> int:
        """Put a row in its place unless it is too late, and let the oldest go; return the flags."""
        flags = ROWS_CAPPED if history.newest_dropped_ms > row.time_ms - stage.reach_ms else 0
        at_ms = stage.stands_ms(row.time_ms)
        newest_ms = max((stage.stands_ms(kept.time_ms) for kept in history.rows), default=at_ms)
        stream_ms = self._in_time_from_ms(stage, self.watermark_ms)
        if at_ms < self._in_time_from_ms(stage, newest_ms) or at_ms < stream_ms - stage.reach_ms:
            return flags | LATE
        kept = sorted([*history.rows, row], key=lambda r: r.time_ms)  # stable: arrival order among equals
        forgotten_ms = self._in_time_from_ms(stage, kept[-1].time_ms) - stage.reach_ms
        kept = [r for r in kept if stage.stands_ms(r.time_ms) > forgotten_ms]
        room = len(kept) if stage.resolution_ms else self.settings.rows_max
        for gone in kept[:-room]:
            history.newest_dropped_ms = max(history.newest_dropped_ms, gone.time_ms)
        history.rows = kept[-room:]
        return flags

    def _is_cold(self, feature: Feature, row: Row) -> bool:
        """Say whether a row's window reaches back before what is known; then nothing is said of it."""
        assert self.history_from_ms is not None
        longest_ms = max(feature.window_ms, feature.baseline_ms)
        return row.time_ms - feature.lag_ms - longest_ms < self.history_from_ms

    def _is_fraud(self, transaction_id: str) -> bool:
        """Say whether the newest of the labels that are seen by now, and were not too late, says fraud."""
        latest_ms = self.observed_ms[transaction_id] + self.label_horizon_ms
        known = [
            told.label
            for told in self.labels.get(transaction_id, [])
            if told.seen_ms is not None and told.seen_ms <= latest_ms
        ]
        known.sort(
            key=lambda label: (label.rank, label.known_at_ms)
        )  # stable: of equals the later learned is last
        return bool(known) and known[-1].fraud

    def _windowed(self, feature: Feature, kept: list[Row], row: Row) -> float:
        """Return one windowed feature of a row from its entity's earlier rows."""
        if self._is_cold(feature, row):
            return NAN

        def counts(earlier: Row) -> bool:
            known = not feature.label or self._is_fraud(earlier.transaction_id)
            return known and fulfils(earlier, feature)

        window = within(feature, kept, row, feature.window_ms)
        seen = [r for r in window if counts(r)]
        if feature.aggregate == "rate":
            return fraction(len(seen), len(window))
        if feature.aggregate in ("others_since_last", "others_since_first", "in_a_row", "time_since_other"):
            return against_others(feature.aggregate, seen, window, row)
        if feature.aggregate == "velocity":
            longer = [r for r in within(feature, kept, row, feature.baseline_ms) if counts(r)]
            return fraction(len(seen) * feature.baseline_ms, len(longer) * feature.window_ms)
        if feature.of and self.catalog.event.fields[feature.of[0]].type in NUMERIC_TYPES:
            measure = feature.of[0]
            values = [r.measures[measure] for r in seen if measure in r.measures]
            return of_values(feature.aggregate, values, row.measures.get(measure), self._scale(feature))
        return of_rows(feature, seen, row)

    def _scale(self, feature: Feature) -> int:
        return 10 ** self.catalog.event.fields[feature.of[0]].digits

    def _event(self, feature: Feature, row: Row) -> float:
        if feature.aggregate == "hour_of_day":
            return float(row.time_ms % DAY_MS // HOUR_MS)
        if feature.aggregate == "day_of_week":
            return float((row.time_ms // DAY_MS + 3) % 7)  # 1970-01-01 was a Thursday
        if feature.aggregate == "differs":
            left, right = (row.texts.get(name) for name in feature.of)
            return NAN if left is None or right is None else float(left != right)
        of = feature.of[0]
        if self.catalog.event.fields[of].type in NUMERIC_TYPES:
            return row.measures[of] / self._scale(feature) if of in row.measures else NAN
        known = self.catalog.event.fields[of].values
        text = row.texts.get(of)
        return float(known.index(text)) if text in known else NAN


def stages_of(catalog: Catalog) -> list[Stage]:
    """Return the stages in the order of their first feature."""
    stages: dict[tuple[str, int], Stage] = {}
    for column, feature in enumerate(catalog.features):
        if feature.entity != "event":
            key = feature.entity, feature.resolution_ms
            stages.setdefault(key, Stage(*key)).features[column] = feature
    return list(stages.values())


def rows_of(batch: TransactionBatch) -> list[Row]:
    """Return a batch's rows one by one."""
    rows = []
    for i, (transaction_id, time_ms) in enumerate(zip(batch.ids, batch.time_ms.tolist(), strict=True)):
        measures = {name: int(column[i]) for name, column in batch.measures.items()}
        texts = {name: column[i] for name, column in batch.texts.items()}
        rows.append(
            Row(
                transaction_id,
                time_ms,
                {name: value for name, value in measures.items() if value != MISSING},
                {name: text for name, text in texts.items() if text is not None},
            )
        )
    return rows


def floor(time_ms: int, resolution_ms: int) -> int:
    """Return the start of the tile that a time falls in."""
    return time_ms // resolution_ms * resolution_ms


def within(feature: Feature, kept: list[Row], row: Row, length_ms: int) -> list[Row]:
    """Return the kept rows in a row's window of this length."""
    end_ms = row.time_ms - feature.lag_ms
    start_ms = end_ms - length_ms
    if not feature.resolution_ms:
        return [r for r in kept if start_ms < r.time_ms <= end_ms]
    first, last = floor(start_ms, feature.resolution_ms), floor(end_ms, feature.resolution_ms)
    return [r for r in kept if first <= floor(r.time_ms, feature.resolution_ms) <= last]


def fulfils(row: Row, feature: Feature) -> bool:
    """Say whether a row fulfils every condition of a feature; one without the field fulfils none."""
    for condition in feature.where:
        value = row.measures.get(condition.field, row.texts.get(condition.field))
        if value is None or not OPERATORS[condition.op](value, condition.value):
            return False
    return True


def of_rows(feature: Feature, seen: list[Row], row: Row) -> float:
    """Return an aggregate of a window's rows that needs no measure."""
    of = feature.of[0] if feature.of else ""
    own = row.texts.get(of)
    match feature.aggregate:
        case "count":
            return float(len(seen))
        case "first_seen":
            return 0.0 if seen else 1.0
        case "time_since_last":
            return seconds_since(seen, row)
        case "time_since_first":
            return seconds_since(sorted(seen, key=lambda r: r.time_ms)[:1], row)
        case "hour_habit":
            hours = [(hour_of(r.time_ms) - hour_of(row.time_ms)) % 24 for r in seen]
            return fraction(sum(apart in (23, 0, 1) for apart in hours), len(seen))
        case "distinct":
            return float(len({r.texts[of] for r in seen if of in r.texts}))
    if own is None:
        return NAN
    same = [r for r in seen if r.texts.get(of) == own]
    match feature.aggregate:
        case "share":
            return fraction(len(same), len(seen))
        case "same_count":
            return float(len(same))
        case "time_since_same":
            return seconds_since(same, row)
    raise AssertionError(feature.aggregate)


def seconds_since(seen: list[Row], row: Row) -> float:
    """Return the seconds from the newest of some rows to this one; NaN where there is none."""
    return fraction(row.time_ms - max(r.time_ms for r in seen), 1000) if seen else NAN


def against_others(aggregate: str, seen: list[Row], window: list[Row], row: Row) -> float:
    """Return an aggregate that sets some of a window's rows against the others."""
    others = [r for r in window if all(r is not each for each in seen)]
    if aggregate == "time_since_other":
        return seconds_since(others, row)
    if aggregate == "in_a_row":
        last_ms = max((r.time_ms for r in others), default=NEVER)
        return float(sum(r.time_ms > last_ms for r in window))
    if not seen:
        return NAN
    times = [r.time_ms for r in seen]
    if aggregate == "others_since_last":
        return float(sum(r.time_ms > max(times) for r in others))
    return float(sum(r.time_ms >= min(times) for r in others))


def of_values(aggregate: str, values: list[int], own: int | None, scale: int) -> float:
    """Return an aggregate of a window's present values, in fixed point, as the declared unit."""
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
        case "median":
            return fraction(twice_median(values), 2 * scale) if values else NAN
        case "median_ratio":
            return NAN if own is None or not values else fraction(2 * own, twice_median(values))
    if n < 2:
        return NAN
    deviation = math.sqrt(fraction(n * squares - total * total, n * (n - 1)))
    if aggregate == "std":
        return deviation / scale
    assert aggregate == "zscore", aggregate
    if own is None or deviation == 0:
        return NAN
    return fraction(own * n - total, n) / deviation


def twice_median(values: list[int]) -> int:
    """Return the sum of the two values in the middle."""
    ordered, n = sorted(values), len(values)
    return ordered[(n - 1) // 2] + ordered[n // 2]


def fraction(top: int, bottom: int) -> float:
    """Return top / bottom of exact integers, each rounded to a float first; NaN where there is none."""
    return float(top) / float(bottom) if bottom else NAN


def hour_of(time_ms: int) -> int:
    """Return the hour of the day, UTC."""
    return time_ms // HOUR_MS % 24
