"""The kept rows spelled out: slow, and only for tests, audits and explanations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fraudstream.batch import MISSING
from fraudstream.features.plan import P_MASK, P_RESOLUTION_MS, P_ROW_BYTES
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
    seen_ms = stage.seen_after_ms(engine.watermark_ms)
    names = {field: {code: text for text, code in codes.of.items()} for field, codes in engine.codes.items()}
    dumped: dict[int, Rows] = {}
    for shard in range(SHARDS):
        for key, octets in unpacked(stage.pack(shard), int(shape[P_ROW_BYTES])):
            columns = _tile_columns(octets) if resolution_ms else _row_columns(stage, octets, names)
            rows = [row for row in zip(*columns, strict=True) if row[0] > seen_ms]
            if rows:
                dumped[key & (2**64 - 1)] = rows
    return dumped


def _tile_columns(octets: npt.NDArray[np.uint8]) -> list[list[int]]:
    columns: list[list[int]] = np.ascontiguousarray(octets).view(np.int64).T.tolist()
    return columns


def _row_columns(
    stage: Stage, octets: npt.NDArray[np.uint8], names: dict[str, dict[int, str | None]]
) -> list[list[int | str | None]]:
    def whole(at: int, size: int) -> list[int]:
        part = np.zeros((len(octets), 8), np.uint8)
        part[:, :size] = octets[:, at : at + size]
        found: list[int] = (part.view(np.int64)[:, 0] << (64 - 8 * size) >> (64 - 8 * size)).tolist()
        return found

    columns: list[list[int | str | None]] = [[*whole(0, 8)]]
    for (at,) in stage.plan.measures.tolist():
        columns.append([MISSING if value == MISSING_48 else value for value in whole(at, 6)])
    for field, (at, is_id) in zip(stage.planned.texts, stage.plan.texts.tolist(), strict=True):
        if is_id:
            columns.append([*whole(at, 6)])
        else:
            columns.append([names[field][code & 0xFFFF] for code in whole(at, 2)])
    if stage.plan.shape[P_MASK] >= 0:
        columns.append([*whole(int(stage.plan.shape[P_MASK]), 2)])
    return columns
