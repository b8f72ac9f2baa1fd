"""The child process that loads a candidate: `python -m fraudstream.registry.probe`, the candidate on stdin.

It may die of what it loads; that is what it is for. It prints a line before each file that it turns to, so that a
dead child tells what it died of, and at last what it found.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightgbm as lgb
import msgspec
import numpy as np

from fraudstream.errors import ModelError
from fraudstream.features.catalog import Catalog, Feature
from fraudstream.registry.bundle import (
    BOOSTER,
    CALIBRATOR,
    DESCRIPTION,
    GOLDEN,
    GOLDEN_CLOSE,
    check_files,
)
from fraudstream.registry.signing import Trust
from fraudstream.scoring.model import Model, ModelParts
from fraudstream.settings import load_settings

MEMORY_MAX = 8 << 30
SECONDS_MAX = 300
WRITTEN_MAX = 64 << 20


class Candidate(msgspec.Struct, frozen=True):
    """A bundle's bytes by path, and the folder that they were read from."""

    folder: str
    files: dict[str, bytes]


def probe(candidate: Candidate) -> Iterator[dict[str, Any]]:
    """Load a candidate as a worker does and score its golden rows; yields what `answer` prints."""
    folder = Path(candidate.folder)
    problems: list[str] = []
    yield {"at": DESCRIPTION}
    bundle = check_files(folder, candidate.files, Trust(), "", {})
    parts = bundle.parts
    yield {"at": GOLDEN}
    golden = bundle.golden()
    yield {"at": BOOSTER}
    model = Model(parts, _catalog_of(parts))
    booster = lgb.Booster(model_str=parts.booster_text)
    raw = booster.predict(golden.X, raw_score=True, num_threads=1)
    model.contributions(golden.X[:8])
    for name, same in (
        (BOOSTER, raw == golden.raw),
        (BOOSTER, model.raw_scores(golden.X) == golden.raw),
        (CALIBRATOR, np.abs(model.probabilities(raw) - golden.probability) <= GOLDEN_CLOSE),
        (DESCRIPTION, model.risk_points(raw) == golden.points),
    ):
        if differing := int((~same).sum()):
            problems.append(f"{folder / GOLDEN}: {differing} of {len(same)} rows score otherwise by {name}")
            break
    yield {"golden_rows": len(raw), "fallback": model.fallback, "problems": problems}


def _catalog_of(parts: ModelParts) -> Catalog:
    """Return a catalogue of the model's own features: whether a worker has them is another question."""
    features = (
        Feature(name, one, "event", "value", (), "", "", 0, 0, "", "")
        for name, one in zip(parts.feature_names, parts.feature_ids, strict=True)
    )
    return Catalog(load_settings(environment={}).event, tuple(features))


def confine() -> None:
    """Bound what this process can take."""
    for what, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, MEMORY_MAX),
        (resource.RLIMIT_CPU, SECONDS_MAX),
        (resource.RLIMIT_FSIZE, WRITTEN_MAX),
    ):
        _, hard = resource.getrlimit(what)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with suppress(ValueError, OSError):  # macOS knows no bound of the address space
            resource.setrlimit(what, (most, hard))


def go_first() -> None:
    """Let this process, and what it forks, be the first to go where memory runs out."""
    with suppress(OSError):  # only Linux has it
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")


def answer(candidate: bytes) -> None:
    """Load a candidate in this process, which is of no other use from here on; print one JSON object a line."""
    go_first()
    confine()
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what LightGBM prints is no line of ours
    try:
        for line in probe(msgspec.msgpack.decode(candidate, type=Candidate)):
            print(json.dumps(line), file=told, flush=True)
    except ModelError as error:
        print(json.dumps({"golden_rows": 0, "problems": [str(error)]}), file=told, flush=True)


if __name__ == "__main__":
    answer(sys.stdin.buffer.read())
