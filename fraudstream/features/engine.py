"""The feature engine: a batch in, X and flags out, the state one batch further."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fraudstream.batch import MISSING, Float64, Int64, TransactionBatch, UInt64
from fraudstream.event import NUMERIC_TYPES
from fraudstream.features import kernels
from fraudstream.features.cases import NO_CASE, Case, Cases
from fraudstream.features.catalog import EVENT, Catalog, Feature
from fraudstream.features.cohorts import Cohorts
from fraudstream.features.columns import BatchColumns, Codes
from fraudstream.features.inspecting import Rows, dump
from fraudstream.features.keys import combine, hash_texts
from fraudstream.features.labels import KnownLabel, LabelBook, Marking
from fraudstream.features.plan import check_catalog
from fraudstream.features.repeats import Recognised, Repeats
from fraudstream.features.shards import pack_shard, unpack_shard
from fraudstream.features.stage import Stage
from fraudstream.features.table import SHARDS
from fraudstream.sections import Settings, StateSettings

_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000
FLAG_COLD, FLAG_REPEATED, FLAG_PARTIAL, FLAG_UNSCORED = (np.uint8(1 << bit) for bit in range(3, 7))
FLAG_NAMES = {
    int(kernels.FLAG_LATE): "late",
    int(kernels.FLAG_CAPPED): "rows_capped",
    int(kernels.FLAG_UNTRACKED): "untracked",
    int(FLAG_COLD): "cold",
    int(FLAG_REPEATED): "repeated",
    int(FLAG_PARTIAL): "partial",
    int(FLAG_UNSCORED): "unscored",
}


@dataclass(frozen=True, slots=True)
class Observed:
    """What the engine says of a batch.

    Attributes:
        X: features, [n, features], NaN for missing.
        flags: bits of FLAG_NAMES, [n].
    """

    X: Float64
    flags: npt.NDArray[np.uint8]


class FeatureEngine:
    """Exact windows over a stream of batches.

    Attributes:
        SHARDS: parts that the entities fall into by their hash.

    Args:
        catalog: the features to compute.
        settings: the bounds of the state.
        grace_ms: how long after `known_at` a label is seen, in stream time.
        lap: told of each step of `observe` behind it, for whoever times them.
        tracked_days: how long what was decided is counted where features are fed by labels; 0: not at all.
        cases: those of the alerts; None: there are none.
    """

    SHARDS = SHARDS

    def __init__(
        self,
        catalog: Catalog,
        settings: StateSettings,
        grace_ms: int = 0,
        lap: Callable[[str], None] | None = None,
        tracked_days: int = 0,
        cases: Cases | None = None,
    ) -> None:
        self.catalog = catalog
        self.settings = settings
        self.lap = lap if lap is not None else _unheard
        self.stages = [Stage(catalog, *stage, settings) for stage in catalog.stages]
        self.watermark_ms = 0
        self.history_from_ms = settings.complete_from_ms
        self.repeats = Repeats(settings.repeat_horizon_ms)
        categories = [name for name, field in catalog.event.fields.items() if field.type == "category"]
        self._hashed: tuple[list[str], UInt64] = ([], np.empty(0, np.uint64))
        self.codes = {name: Codes() for name in categories}
        self._event_features = catalog.of_entity(EVENT)
        reaches = np.array([0 if f.entity == EVENT else f.reach_ms for f in catalog.features], np.int64)
        self._reaches = [
            (int(reach), np.flatnonzero(reaches == reach)) for reach in np.unique(reaches) if reach
        ]
        self._reach_ms = max((reach_ms for reach_ms, _ in self._reaches), default=0)
        labelled = [stage for stage in self.stages if stage.labelled]
        horizon_ms = max((stage.reach_ms for stage in labelled), default=0) + settings.lateness_ms
        horizon_ms = max(horizon_ms, (tracked_days + 1) * _DAY_MS) if tracked_days else horizon_ms
        self.cases = cases
        self.cohorts = Cohorts(tracked_days) if labelled and tracked_days else None
        self.labels = LabelBook(horizon_ms, len(labelled), grace_ms, self.cohorts) if labelled else None

    def observe(self, batch: TransactionBatch) -> Observed:
        """Return the features of a batch's rows, in its order, and take the rows in.

        The batch must be in event order (`TransactionBatch.in_event_order`).
        """
        return self._observed(batch, keep=True)

    def peek(self, batch: TransactionBatch) -> Observed:
        """Return the features that the rows would have now, and change nothing."""
        return self._observed(batch, keep=False)

    def absorb(self, batch: TransactionBatch) -> None:
        """Take a batch's rows in without computing features: the silent replay."""
        self._advance(batch, None, np.zeros(len(batch), np.uint8), keep=True)

    def recognise(self, batch: TransactionBatch) -> Recognised:
        """Tell new transactions from repeated ones, and remember the new. Only those may be observed."""
        return self.repeats.recognise(batch, self._hashes_of(batch.ids), self.watermark_ms)

    def track(self, batch: TransactionBatch, words: Int64) -> None:
        """Count what was decided of rows that have been observed; only where there are `cohorts`.

        Args:
            words: [n], of `Cohorts.word`, one more for an alert.
        """
        if self.labels is not None and len(batch):
            self.labels.decided(self._hashes_of(batch.ids), batch.time_ms, words, self.watermark_ms)

    def open_cases(self, batch: TransactionBatch, rows: Sequence[int]) -> list[Case]:
        """Return the case of each alert, and go on with it.

        Args:
            rows: that alert, of a batch that has been observed, rising.
        """
        if not rows or self.cases is None:
            return [NO_CASE] * len(rows)
        fields = self.catalog.event.entity_fields(self.catalog.event.key)
        entities = combine([hash_texts([batch.texts[name][row] for row in rows]) for name in fields])
        ids, time_ms = [batch.ids[row] for row in rows], [int(batch.time_ms[row]) for row in rows]
        return self.cases.take(entities.tolist(), time_ms, ids)

    def learn(self, labels: Iterable[KnownLabel]) -> None:
        """Take in what became known; features see it in its time."""
        if self.labels is not None:
            self.labels.learn(labels)

    def cold(self) -> list[str]:
        """Return the features whose windows reach back before the known history."""
        if self.history_from_ms is None:
            return [f.name for f in self.catalog.features if f.entity != EVENT]
        known_ms = self.watermark_ms - self.history_from_ms
        cold = [column for reach_ms, columns in self._reaches if reach_ms > known_ms for column in columns]
        return [self.catalog.features[column].name for column in sorted(cold)]

    def bytes_used(self) -> int:
        """Return the bytes of all state."""
        tables = self.repeats.bytes_used() + (self.labels.transactions.bytes_used() if self.labels else 0)
        return tables + sum(stage.bytes_used for stage in self.stages)

    def entities(self) -> dict[str, int]:
        """Return how many entities each stage keeps."""
        return {stage.name: stage.entities for stage in self.stages}

    def rows_kept(self) -> dict[str, int]:
        """Return how many rows (or tiles) each stage keeps."""
        return {stage.name: stage.rows_kept for stage in self.stages}

    def dump(self) -> dict[str, dict[int, Rows]]:
        """Return every row that a row in time can still see, by stage and entity hash; for tests and audits."""
        return dump(self)

    def save_shard(self, shard: int) -> bytes:
        """Return the entities of one shard (of SHARDS, by their hash), to be loaded here or elsewhere."""
        return pack_shard(self, shard)

    def load_shard(self, data: bytes) -> None:
        """Take in a saved shard, in the place of what is here of it.

        Raises:
            CheckpointError: it is damaged, or of another catalogue.
        """
        unpack_shard(self, data)

    def drop_shard(self, shard: int) -> None:
        """Let go of the entities of one shard."""
        for stage in self.stages:
            stage.drop(shard)

    def _observed(self, batch: TransactionBatch, keep: bool) -> Observed:
        X = np.empty((len(batch), len(self.catalog)), np.float64)
        flags = np.zeros(len(batch), np.uint8)
        columns = self._advance(batch, X, flags, keep)
        for column, feature in self._event_features:
            X[:, column] = _event_column(feature, columns, self.catalog)
        self._blank_cold(batch, X, flags)
        self.lap("event")
        return Observed(X, flags)

    def _advance(
        self, batch: TransactionBatch, X: Float64 | None, flags: npt.NDArray[np.uint8], keep: bool
    ) -> BatchColumns:
        columns = BatchColumns(batch, self.catalog.event, self.codes)
        if self.labels is not None:
            columns.know(self.catalog.event.id, self._hashes_of(batch.ids))
        if not len(batch):
            return columns
        if keep and self.history_from_ms is None:
            self.history_from_ms = int(batch.time_ms[0])
        entities = [columns.entity(stage.key_fields) for stage in self.stages]
        self.lap("texts")
        marks = self._markings(columns, entities) if keep else []
        stored: list[npt.NDArray[np.uint8]] = []
        for stage, hashes in zip(self.stages, entities, strict=True):
            labelled = len(stored)
            mine = [mark.of_stage(labelled) for mark in marks] if stage.labelled else []
            left = stage.advance(columns, hashes, mine, self.watermark_ms, (X, flags), keep)
            if stage.labelled:
                stored.append(left)
            self.lap(stage.name)
        if keep:
            if self.labels is not None:
                self.labels.settle(stored)
            self.watermark_ms = max(self.watermark_ms, int(batch.time_ms.max()))
        return columns

    def _hashes_of(self, ids: list[str]) -> UInt64:
        """Return the hashes of a batch's ids; asked twice for one list, they are made once."""
        if self._hashed[0] is not ids:
            self._hashed = (ids, hash_texts(ids))
        return self._hashed[1]

    def _markings(self, columns: BatchColumns, entities: list[UInt64]) -> list[Marking]:
        if self.labels is None:
            return []
        hashed = [hashes for stage, hashes in zip(self.stages, entities, strict=True) if stage.labelled]
        bits = [columns.bits(stage.planned.filters) for stage in self.stages if stage.labelled]
        ids, time_ms = self._hashes_of(columns.batch.ids), columns.batch.time_ms
        marks = self.labels.markings(ids, time_ms, hashed, bits, self.watermark_ms)
        self.lap("labels")
        return marks

    def _blank_cold(self, batch: TransactionBatch, X: Float64, flags: npt.NDArray[np.uint8]) -> None:
        """Take back what windows say that reach behind the known history: not known is not zero."""
        if not len(batch):
            return
        history_ms = int(batch.time_ms[0]) if self.history_from_ms is None else self.history_from_ms
        oldest_ms, newest_ms = int(batch.time_ms.min()), int(batch.time_ms.max())
        for reach_ms, columns in self._reaches:
            if newest_ms - reach_ms < history_ms:
                X[:, columns] = np.nan
            elif oldest_ms - reach_ms < history_ms:
                X[np.ix_((batch.time_ms - reach_ms < history_ms).nonzero()[0], columns)] = np.nan
        if oldest_ms - self._reach_ms < history_ms:
            flags[batch.time_ms - self._reach_ms < history_ms] |= FLAG_COLD


def new_engine(
    settings: Settings, catalog: Catalog, lap: Callable[[str], None] | None = None
) -> FeatureEngine:
    """Return an engine that has seen nothing, as the settings want it.

    Raises:
        ConfigError: the catalogue does not fit into the bounds of the state.
    """
    check_catalog(catalog, settings.state)
    return FeatureEngine(
        catalog,
        settings.state,
        settings.labels.grace_ms,
        lap,
        settings.quality.tracked_days(settings.labels),
        cases_of(settings),
    )


def cases_of(settings: Settings) -> Cases | None:
    """Return no cases yet, as the settings want them; None: they are turned off."""
    alerts = settings.alerts
    if not alerts.case_period_ms:
        return None
    return Cases(alerts.case_period_ms, alerts.case_length_max_ms)


def _unheard(step: str) -> None:
    pass


def _event_column(feature: Feature, columns: BatchColumns, catalog: Catalog) -> Float64 | Int64:
    batch = columns.batch
    if feature.aggregate == "hour_of_day":
        return batch.time_ms // _HOUR_MS - batch.time_ms // _DAY_MS * 24
    if feature.aggregate == "day_of_week":
        days = batch.time_ms // _DAY_MS + 3
        return days - days // 7 * 7
    if feature.aggregate == "differs":
        return columns.differing(*feature.of)
    field = catalog.event.fields[feature.of[0]]
    if field.type in NUMERIC_TYPES:
        column = batch.measures[feature.of[0]]
        return np.where(column == MISSING, np.nan, column / 10**field.digits)
    return columns.positions(feature.of[0])
