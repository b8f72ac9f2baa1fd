"""The feature engine: a batch in, X and flags out, the state one batch further.

One `_Stage` a kind of entity, each with columns in, columns and state out, so that a stage can later stand
behind a topic of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fraudstream.batch import MISSING, Float64, Int64, TransactionBatch, UInt64
from fraudstream.event import NUMERIC_TYPES
from fraudstream.features import kernels
from fraudstream.features.catalog import AGGREGATES, EVENT, Catalog, Feature
from fraudstream.features.keys import combine, hash_texts
from fraudstream.features.state import EntityState, RowLayout
from fraudstream.settings import StateSettings

_NEEDS_SQUARES = {"std", "zscore"}
_DAY_MS = 86_400_000
FLAG_NAMES = {
    int(kernels.FLAG_LATE): "late",
    int(kernels.FLAG_CAPPED): "rows_capped",
    int(kernels.FLAG_UNTRACKED): "untracked",
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

    Args:
        catalog: the features to compute.
        settings: the bounds of the state.
    """

    def __init__(self, catalog: Catalog, settings: StateSettings) -> None:
        self.catalog = catalog
        self._settings = settings
        self._stages = [_Stage(catalog, entity, settings) for entity in catalog.entities]
        self._event_features = catalog.of_entity(EVENT)
        self.watermark_ms = 0

    def observe(self, batch: TransactionBatch) -> Observed:
        """Return the features of a batch's rows, in its order, and take the rows in.

        The batch must be in event order (`TransactionBatch.in_event_order`).
        """
        X = np.empty((len(batch), len(self.catalog)), np.float64)
        flags = np.zeros(len(batch), np.uint8)
        for column, feature in self._event_features:
            X[:, column] = _event_column(feature, batch, self.catalog)
        self._advance(batch, X, flags)
        return Observed(X, flags)

    def absorb(self, batch: TransactionBatch) -> None:
        """Take a batch's rows in without computing features: the silent replay."""
        self._advance(batch, None, np.zeros(len(batch), np.uint8))

    def bytes_used(self) -> int:
        """Return the bytes of all state."""
        return sum(stage.state.bytes_used() for stage in self._stages)

    def entities(self) -> dict[str, int]:
        """Return how many entities of each kind are kept."""
        return {stage.entity: stage.state.entities for stage in self._stages}

    def dump(self) -> dict[str, dict[int, list[tuple[int, ...]]]]:
        """Return every row that a row in time can still see, by kind and hash; for tests and audits.

        Independent of arrival order within the lateness, and of what has been swept.
        """
        return {stage.entity: stage.dump(self.watermark_ms) for stage in self._stages}

    def _advance(self, batch: TransactionBatch, X: Float64 | None, flags: npt.NDArray[np.uint8]) -> None:
        if not len(batch):
            return
        hashed: dict[str, UInt64] = {}
        for stage in self._stages:
            for field in stage.hashed_fields:
                if field not in hashed:
                    hashed[field] = hash_texts(batch.texts[field])
        for stage in self._stages:
            stage.advance(batch, hashed, self.watermark_ms, X, flags)
        self.watermark_ms = max(self.watermark_ms, int(batch.time_ms.max()))


class _Stage:
    """One kind of entity: its plan for the kernels and its state."""

    def __init__(self, catalog: Catalog, entity: str, settings: StateSettings) -> None:
        features = catalog.of_entity(entity)
        self.entity = entity
        self._key_fields = catalog.event.entity_fields(entity)
        spans = {f.window_ms for _, f in features} | {f.baseline_ms for _, f in features if f.baseline_ms}
        windows = sorted(spans)
        aggregated = [f for _, f in features if f.of and AGGREGATES[f.aggregate].of == "measure"]
        self._measures = list(dict.fromkeys(f.of[0] for f in aggregated))
        self._texts = list(dict.fromkeys(f.of[0] for _, f in features if f.of and f not in aggregated))
        self.hashed_fields = list(dict.fromkeys([*self._key_fields, *self._texts]))
        squared = {f.of[0] for f in aggregated if f.aggregate in _NEEDS_SQUARES}
        layout = _layout(self._measures, squared, self._texts, catalog)
        ops = np.array(
            [_operation(f, i, windows, self._measures, self._texts) for i, f in features], np.int64
        )
        scales = np.array([10 ** catalog.event.fields[m].digits for m in self._measures], np.int64)
        windows_ms = np.array(windows, np.int64)
        lows = np.zeros(len(windows), np.int64)
        self._plan = (windows_ms, ops, layout.measures, scales, layout.texts, lows)
        self._silent_plan = (windows_ms, ops[:0], layout.measures, scales, layout.texts, lows)
        self._bounds = (settings.rows_max, settings.lateness_ms, windows[-1])
        counts_distinct = any(f.aggregate == "distinct" for _, f in features)
        size = 2 << (settings.rows_max if counts_distinct else 1).bit_length()
        self._scratch = np.zeros(size, np.uint64)
        self._stamps = np.zeros(size + 1, np.int64)
        self.state = EntityState(layout, settings.rows_max, settings.entities_max)

    def advance(
        self,
        batch: TransactionBatch,
        hashed: dict[str, UInt64],
        watermark_ms: int,
        X: Float64 | None,
        flags: npt.NDArray[np.uint8],
    ) -> None:
        n = len(batch)
        values = np.empty((n, len(self._measures)), np.int64)
        for m, field in enumerate(self._measures):
            values[:, m] = batch.measures[field]
        hashes = np.empty((n, len(self._texts)), np.uint64)
        for k, field in enumerate(self._texts):
            hashes[:, k] = hashed[field]
        _, lateness_ms, longest_ms = self._bounds
        bounds = (*self._bounds, watermark_ms)
        entity_hashes = combine([hashed[field] for field in self._key_fields])
        slots = self.state.find_or_add(entity_hashes, watermark_ms, longest_ms + lateness_ms)
        plan = self._silent_plan if X is None else self._plan
        target = np.empty((n, 0), np.float64) if X is None else X
        done = 0
        while done < n:
            arrays = (self.state.arena, self.state.headers, self.state.allocator)
            done = kernels.observe(
                arrays, slots, batch.time_ms, values, hashes, plan, bounds,
                self._scratch, self._stamps, target, flags, done,
            )  # fmt: skip
            if done < n:
                self.state.grow_arena()

    def dump(self, watermark_ms: int) -> dict[int, list[tuple[int, ...]]]:
        """Return the rows of each entity that are within reach: time, own values, hashes of the texts."""
        layout = self.state.layout
        _, lateness_ms, longest_ms = self._bounds
        running = layout.measures[:, :2][layout.measures[:, :2] >= 0]
        dumped: dict[int, list[tuple[int, ...]]] = {}
        for key in self.state.hashes().tolist():
            rows, totals = self.state.rows_of(key)
            own = np.diff(rows[:, running], axis=0, append=totals[None, running])
            kept = np.concatenate([rows[:, :1], own, rows[:, layout.texts]], axis=1)
            kept = kept[kept[:, 0] > watermark_ms - longest_ms - lateness_ms]
            if len(kept):
                dumped[key] = [tuple(row) for row in kept.tolist()]
        return dumped


def _layout(measures: list[str], squared: set[str], texts: list[str], catalog: Catalog) -> RowLayout:
    width = 1
    columns: list[list[int]] = []
    for field in measures:
        cells = [width, -1, -1, -1]
        width += 1
        declared = catalog.event.fields[field]
        if not declared.required and declared.default is None:
            cells[1] = width
            width += 1
        if field in squared:
            cells[2:] = [width, width + 1]
            width += 2
        columns.append(cells)
    text_columns = np.arange(width, width + len(texts), dtype=np.int64)
    return RowLayout(np.array(columns, np.int64).reshape(-1, 4), text_columns, width + len(texts))


def _operation(
    feature: Feature, column: int, windows: list[int], measures: list[str], texts: list[str]
) -> tuple[int, int, int, int, int]:
    spec = AGGREGATES[feature.aggregate]
    of = 0
    if feature.of:
        of = (measures if spec.of == "measure" else texts).index(feature.of[0])
    baseline = windows.index(feature.baseline_ms) if feature.baseline_ms else 0
    return spec.code, windows.index(feature.window_ms), baseline, of, column


def _event_column(feature: Feature, batch: TransactionBatch, catalog: Catalog) -> Float64 | Int64:
    if feature.aggregate == "hour_of_day":
        return (batch.time_ms % _DAY_MS) // 3_600_000
    if feature.aggregate == "day_of_week":
        return (batch.time_ms // _DAY_MS + 3) % 7
    if feature.aggregate == "differs":
        left, right = (batch.texts[field] for field in feature.of)
        pairs = zip(left, right, strict=True)
        return np.array([np.nan if a is None or b is None else float(a != b) for a, b in pairs])
    field = catalog.event.fields[feature.of[0]]
    if field.type in NUMERIC_TYPES:
        column = batch.measures[feature.of[0]]
        return np.where(column == MISSING, np.nan, column / 10**field.digits)
    codes: dict[str | None, float] = {value: float(i) for i, value in enumerate(field.values)}
    return np.array([codes.get(text, np.nan) for text in batch.texts[feature.of[0]]], np.float64)
