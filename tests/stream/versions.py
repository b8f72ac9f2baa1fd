"""Registries with several versions of the tiny world's model, and workers that watch them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import Any

import lightgbm as lgb

from fraudstream.registry import CHAMPION, Registry, Trust, read_bundle, write_bundle
from fraudstream.registry.bundle import Golden
from tests.stream.running import Running, as_messages, start
from tests.worlds import TinyWorld

WITHIN_S = 180.0  # the first child on a machine compiles the kernels


def copied(world: TinyWorld, folder: Path) -> Registry:
    """Return a copy of the world's models: 0001 is champion."""
    shutil.copytree(world.folder / "models", folder / "models")
    return Registry(folder / "models", "card_payment", Trust())


def describe(folder: Path, **changed: object) -> None:
    """Change what a bundle says of itself, with its check sum."""
    bundle = json.loads((folder / "bundle.json").read_text()) | changed
    text = json.dumps(bundle).encode()
    (folder / "bundle.json").write_bytes(text)
    (folder / "bundle.json.sha256").write_text(f"{hashlib.sha256(text).hexdigest()}  bundle.json\n")


def add_smaller(registry: Registry, trees: int) -> str:
    """Add 0001's first trees as a version of their own, which scores otherwise; return it."""
    bundle = read_bundle(registry.folder / "0001", Trust())
    parts, golden = bundle.parts, bundle.golden()
    path = registry.next_path()
    booster = lgb.Booster(model_str=parts.booster_text)
    text = booster.model_to_string(num_iteration=trees)
    raw = booster.predict(golden.X, raw_score=True, num_iteration=trees, num_threads=1)
    write_bundle(
        path,
        dataclasses.replace(parts, version=f"{registry.name}/{path.name}", booster_text=text),
        {name: getattr(bundle.described, name) for name in ("created_at", "training", "metrics")},
        Golden.of(parts, golden.X, raw),
        {"report.md": f"The first {trees} trees of 0001.\n"},
    )
    return path.name


def watched(world: TinyWorld, registry: Registry, rows: int | None = None, **overrides: str | int) -> Running:
    """Start a worker on the world's rows that looks for other models all the time."""
    chosen: dict[str, Any] = {"model__reload": "1ms", "worker__batch_rows_max": 20, **overrides}
    messages = as_messages(world.rows[:rows])
    return start(world, messages, watch=True, model__registry=str(registry.root), **chosen)


def until(run: Running, result: str, role: str = CHAMPION, number: int = 1) -> None:
    """Let the worker look for models, without a batch, until there was this number of a result."""
    deadline_s = time.monotonic() + WITHIN_S
    while run.reloads(result, role) < number:
        assert time.monotonic() < deadline_s, f"no {role} was {result}"
        run.worker._reloads.take()
