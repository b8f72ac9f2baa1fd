"""One shard of an engine's entities as bytes.

    8 bytes  SHARD_MAGIC
    8 bytes  length of the head, then the head: JSON with layout, codes, and the words of each stage
    8 bytes  check sum (CRC-32) of head and words, then the words

Codes of categories are numbered by each engine for itself, so they travel along and are translated. Labels that wait,
and the ids that were seen, are the engine's, not a shard's: they travel in a snapshot.
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from fraudstream.batch import Int64
from fraudstream.errors import CheckpointError
from fraudstream.features.columns import Codes

if TYPE_CHECKING:
    from fraudstream.features.engine import FeatureEngine

SHARD_MAGIC = b"FSSHARD1"


def layout_of(engine: FeatureEngine) -> dict[str, Any]:
    """Return what state must have in common to be exchanged: what rows hold, and for how long."""
    stages = {}
    for stage in engine.stages:
        stages[stage.name] = {
            "fields": list(stage.key_fields),
            "measures": stage.planned.measures,
            "texts": stage.planned.texts,
            "filters": [[[c.field, c.op, c.value] for c in where] for where in stage.planned.filters],
            "labelled": stage.labelled,
            "reach_ms": stage.reach_ms,
            "row": [stage.plan.terms.tolist(), stage.plan.shape[:3].tolist()],
        }
    return {
        "layout": 1,
        "event": engine.catalog.event.name,
        "id": engine.catalog.event.id,
        "lateness_ms": engine.settings.lateness_ms,
        "rows_max": engine.settings.rows_max,
        "repeat_horizon_ms": engine.settings.repeat_horizon_ms,
        "label_horizon_ms": engine.labels.transactions.horizon_ms if engine.labels is not None else 0,
        "stages": stages,
    }


def check_layout(found: dict[str, Any], engine: FeatureEngine, what: str) -> None:
    """Raise CheckpointError that names the first thing in which a saved state differs from this engine."""
    wanted = json.loads(json.dumps(layout_of(engine)))
    for key, value in wanted.items():
        if key != "stages" and found.get(key) != value:
            raise CheckpointError(f"{what}: {key} is {found.get(key)} there and {value} here; {_WAY_ON}")
    theirs = found.get("stages", {})
    for name in [*wanted["stages"], *theirs]:
        if name not in theirs or name not in wanted["stages"]:
            there = "is not" if name not in theirs else "is"
            raise CheckpointError(
                f"{what}: the stage {name} {there} in it and should be otherwise; {_WAY_ON}"
            )
        for key, value in wanted["stages"][name].items():
            if theirs[name].get(key) != value:
                raise CheckpointError(
                    f"{what}: {name}.{key} is {theirs[name].get(key)} there and {value} here; {_WAY_ON}"
                )


_WAY_ON = "it is of another catalogue. Use the catalogue it was made with, or rebuild the state from the log"


def codes_to_json(engine: FeatureEngine) -> dict[str, list[str]]:
    """Return the category codes, each value at the position of its code less one."""
    return {field: [text for text in codes.of if text is not None] for field, codes in engine.codes.items()}


def translation(engine: FeatureEngine, theirs: dict[str, list[str]]) -> dict[str, Int64]:
    """Return by field what each of their codes is here, where that differs; new values get a code."""
    changed = {}
    for field, texts in theirs.items():
        codes: Codes = engine.codes[field]
        column = np.array([0, *(codes.code(text) for text in texts)], np.int64)
        if not np.array_equal(column, np.arange(len(column))):
            changed[field] = column
    return changed


def pack_shard(engine: FeatureEngine, shard: int) -> bytes:
    """Return one shard's entities."""
    words = {stage.name: stage.pack(shard) for stage in engine.stages}
    head = json.dumps(
        {
            "layout": layout_of(engine),
            "codes": codes_to_json(engine),
            "shard": shard,
            "words": {name: len(part) for name, part in words.items()},
        }
    ).encode()
    body = b"".join([head, *(part.tobytes() for part in words.values())])
    return b"".join(
        [SHARD_MAGIC, len(head).to_bytes(8, "little"), zlib.crc32(body).to_bytes(8, "little"), body]
    )


def unpack_shard(engine: FeatureEngine, data: bytes) -> None:
    """Take a shard in.

    Raises:
        CheckpointError: it is not one, is damaged, or of another catalogue.
    """
    if data[:8] != SHARD_MAGIC:
        raise CheckpointError("the shard is not one, or of another version; take one that this version saved")
    length, check = (int.from_bytes(data[at : at + 8], "little") for at in (8, 16))
    if zlib.crc32(data[24:]) != check:
        raise CheckpointError("the shard is damaged: its check sum does not fit; take another copy of it")
    head = json.loads(data[24 : 24 + length])
    check_layout(head["layout"], engine, "the shard")
    codes = translation(engine, head["codes"])
    at = 24 + length
    for stage in engine.stages:
        octets = 8 * head["words"][stage.name]
        stage.drop(head["shard"])
        stage.unpack(np.frombuffer(data[at : at + octets], np.int64), codes)
        at += octets
