"""Saving and loading a million entities, cards and all others, and how long the loop stands still meanwhile."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.features_cases import (
    CARDS_A_MERCHANT,
    Laps,
    Step,
    bench_settings,
    compiled_engine,
    default_catalog,
    differs,
)
from benchmarks.features_growth import DAYS, fill, fresh_steps
from benchmarks.features_process import settle_memory
from benchmarks.features_stream import DAY_MS, World
from fraudstream.batch import TransactionBatch
from fraudstream.features import FeatureEngine
from fraudstream.features import snapshot as snapshots
from fraudstream.features.engine import cases_of
from fraudstream.features.snapshot import Snapshotter

CHECKED_ROWS = 20_480
LOOP_ROWS = 409_600


def snapshot(cards: int, rows_a_card: int, seed: int) -> dict[str, Any]:
    """Measure save, load and the longest stall."""
    settings, catalog = bench_settings(), default_catalog()
    engine = compiled_engine(catalog, settings, Laps())
    world = World(cards, max(1, cards // CARDS_A_MERCHANT), even=True, seed=seed)
    rows = fill(engine, world, rows_a_card)
    result: dict[str, Any] = {
        "cards": cards,
        "entities": sum(engine.entities().values()),
        "rows": rows,
        "state_bytes": engine.bytes_used(),
    }
    with tempfile.TemporaryDirectory(prefix="fraudstream-bench-") as name:
        path = Path(name) / "state"
        began_s = time.perf_counter()
        snapshots.save(engine, path)
        saved_s = time.perf_counter()
        tracked_days = settings.quality.tracked_days(settings.labels)
        grace_ms, cases = settings.labels.grace_ms, cases_of(settings)
        loaded = snapshots.load(path, catalog, settings.state, grace_ms, tracked_days, cases)
        result |= {"save_s": round(saved_s - began_s, 2), "load_s": round(time.perf_counter() - saved_s, 2)}
        result["file_bytes"] = sum(p.stat().st_size for p in (path, *path.rglob("*")) if p.is_file())
        rows_a_ms = rows / (DAYS * DAY_MS)
        checked = fresh_steps(world, rows_a_ms, CHECKED_ROWS, 0)
        result |= {"checked_rows": CHECKED_ROWS, "mismatches": mismatches(engine, loaded, checked)}
        del loaded
        gc.collect()
        taken = fresh_steps(world, rows_a_ms, LOOP_ROWS, 1)
        return result | stalls(engine, taken, Path(name) / "again")


def mismatches(engine: FeatureEngine, loaded: FeatureEngine, taken: list[Step]) -> int:
    """Count values that the two say otherwise of the same rows."""
    wrong = 0
    for _, batch in taken:
        left, right = engine.observe(batch), loaded.observe(batch)
        wrong += int(differs(left.X, right.X).sum()) + int((left.flags != right.flags).sum())
    return wrong


def stalls(engine: FeatureEngine, taken: list[Step], path: Path) -> dict[str, Any]:
    """Return the longest batch in milliseconds, alone and while a snapshot is taken.

    The loop is the worker's without the rest: one batch behind the other, no pause between them.
    """
    quiet, busy = taken[: len(taken) // 2], taken[len(taken) // 2 :]
    settle_memory()
    alone_ms = [timed_ms(engine, batch) for _, batch in quiet]
    during_ms: list[float] = []
    running = taking(engine, path)
    began_s = time.perf_counter()
    for _, batch in cycle_in_time(busy):
        step_s = time.perf_counter()
        if next(running):  # what the loop itself must do for the snapshot counts as its stall
            break
        during_ms.append(1e3 * (time.perf_counter() - step_s) + timed_ms(engine, batch))
    return {
        "ratio_of_longest_batches": round(max(during_ms) / max(alone_ms), 2),
        "batch_ms_max_alone": round(max(alone_ms), 2),
        "batch_ms_median_alone": round(median(alone_ms), 2),
        "batch_ms_max_during_snapshot": round(max(during_ms), 2),
        "batch_ms_first_during_snapshot": round(during_ms[0], 2),  # with the start of the snapshot
        "batch_ms_median_during_snapshot": round(median(during_ms), 2),
        "batches_during_snapshot": len(during_ms),
        "snapshot_beside_the_loop_s": round(time.perf_counter() - began_s, 2),
    }


def cycle_in_time(taken: list[Step]) -> Iterator[Step]:
    """Yield the batches again and again, each time later, so that they do not run out before the snapshot ends."""
    width_ms = int(taken[-1][1].time_ms[-1] - taken[0][1].time_ms[0]) + 1
    for turn in count():
        for labels, batch in taken:
            yield labels, replace(batch, time_ms=batch.time_ms + turn * width_ms)


def taking(engine: FeatureEngine, path: Path) -> Iterator[bool]:
    """Take a snapshot beside a loop, which asks for the next item before each batch; True: it has ended."""
    snapshotter = Snapshotter()
    snapshotter.start(engine, path)
    while not snapshotter.done():
        yield False
    yield True


def timed_ms(engine: FeatureEngine, batch: TransactionBatch) -> float:
    """Return the milliseconds of one batch."""
    began_s = time.perf_counter()
    engine.observe(batch)
    return 1e3 * (time.perf_counter() - began_s)
