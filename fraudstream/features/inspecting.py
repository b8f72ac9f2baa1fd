"""The kept rows spelled out: slow, and only for tests, audits and explanations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fraudstream.batch import MISSING, Int64
from fraudstream.features.plan import P_MASK, P_QUARTERS, P_RESOLUTION_MS
from fraudstream.features.rows import MISSING_48
from fraudstream.features.table import SHARDS
from fraudstream.features.transfer import unpacked

if TYPE_CHECKING:
    from fraudstream.features.engine import FeatureEngine
    from fraudstream.features.stage import Stage

Rows = list[tuple[int | str | None, ...]]


def dump(engine: FeatureEngine) -> dict[str, dict[int, Rows]]:
    """Return every row that a row in time can still see, by stage and entity hash.

    A row is its time, its own values, what it keeps of its texts, and its bits; a tile is its start and its words.
    Independent of arrival order within the lateness, and of what has been swept.
    """
    return {stage.name: _of_stage(stage, engine) for stage in engine.stages}


def _of_stage(stage: Stage, engine: FeatureEngine) -> dict[int, Rows]:
    shape = stage.plan.shape
    resolution_ms = int(shape[P_RESOLUTION_MS])
    newest_ms = engine.watermark_ms
    if resolution_ms:
        newest_ms = newest_ms // resolution_ms * resolution_ms
    seen_ms = newest_ms - stage.reach_ms - engine.settings.lateness_ms
    names = {field: {code: text for text, code in codes.of.items()} for field, codes in engine.codes.items()}
    dumped: dict[int, Rows] = {}
    for shard in range(SHARDS):
        for key, chunk, count in unpacked(stage.pack(shard), int(shape[P_QUARTERS])):
            columns = _tile_columns(chunk, count) if resolution_ms else _row_columns(stage, chunk, count, names)
            rows = [row for row in zip(*columns, strict=True) if row[0] > seen_ms]  # type: ignore[operator]
            if rows:
                dumped[key & (2**64 - 1)] = rows
    return dumped


def _tile_columns(chunk: Int64, count: int) -> list[list[int]]:
    capacity = (count + 3) // 4 * 4
    return [column[:count].tolist() for column in chunk.reshape(-1, max(capacity, 1))] if count else [[]]


def _row_columns(
    stage: Stage, chunk: Int64, count: int, names: dict[str, dict[int, str | None]]
) -> list[list[int | str | None]]:
    capacity = (count + 3) // 4 * 4
    narrow = chunk.view(np.uint16)

    def wide(low: int, high: int) -> list[int]:
        first = chunk.view(np.uint32)[capacity * low // 2 :][:count].astype(np.int64)
        return (first | narrow[capacity * high :][:count].view(np.int16).astype(np.int64) << 32).tolist()

    columns: list[list[int | str | None]] = [chunk[:count].tolist()]
    for low, high in stage.plan.measures.tolist():
        columns.append([MISSING if value == MISSING_48 else value for value in wide(low, high)])
    for field, (low, high) in zip(stage.planned.texts, stage.plan.texts.tolist(), strict=True):
        if low >= 0:
            columns.append([*wide(low, high)])
        else:
            columns.append([names[field][code] for code in narrow[capacity * high :][:count].tolist()])
    if stage.plan.shape[P_MASK] >= 0:
        columns.append(narrow[capacity * int(stage.plan.shape[P_MASK]) :][:count].tolist())
    return columns
