"""The engine, polars and dict-and-deque twins on one stream: what each takes a transaction, and who agrees.

A stream covers 60 days, so that in its second half the 30-day windows are full. Engine and twins take the first
half in before the clock starts, and are timed on the second; a slow twin on the first batches of it, its state as
full as the engine's. Polars computes the whole table at once and is given all its rows, the first half's with
emptier windows too.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from benchmarks import features_polars
from benchmarks.features_deque import RunningKind
from benchmarks.features_process import settle_memory
from benchmarks.features_stream import DAY_MS, START_MS, World, batches, rows_between
from benchmarks.features_twin import Kind, Twin
from benchmarks.features_twin import can as twin_can
from benchmarks.features_walk import WalkedKind
from fraudstream.batch import TransactionBatch
from fraudstream.features import Catalog, FeatureEngine, build_catalog, new_engine
from fraudstream.features.labels import KnownLabel
from fraudstream.sections import Settings
from fraudstream.settings import load_settings

DAYS = 60
CARDS_A_MERCHANT = 10
FRAUDS = 1 / 500
CLOSE = 1e-9  # polars sums floats; engine and twins sum integers
WAYS: dict[str, features_polars.Way] = {
    "group_by": features_polars.GroupBy,
    "one_clock": features_polars.OneClock,
}

Matrix = npt.NDArray[np.float64]
Step = tuple[list[KnownLabel], TransactionBatch]  # what is learned before the batch, and the batch


class Laps:
    """Seconds by step of a batch, and the longest of each."""

    def __init__(self) -> None:
        self._since_s = 0.0
        self.clear()

    def clear(self) -> None:
        """Forget what was timed."""
        self._spent_s: dict[str, float] = defaultdict(float)
        self._longest_s: dict[str, float] = defaultdict(float)

    def begin(self) -> None:
        """Start a batch."""
        self._since_s = time.perf_counter()

    def __call__(self, step: str) -> None:
        """Note the end of a step."""
        now_s = time.perf_counter()
        self._spent_s[step] += now_s - self._since_s
        self._longest_s[step] = max(self._longest_s[step], now_s - self._since_s)
        self._since_s = now_s

    def us_a_row(self, rows: int) -> dict[str, float]:
        """Return microseconds a row by step."""
        return {step: round(1e6 * spent_s / rows, 3) for step, spent_s in self._spent_s.items()}

    def longest_ms(self) -> dict[str, float]:
        """Return the milliseconds of each step in the batch where it took longest."""
        return {step: round(1e3 * longest_s, 2) for step, longest_s in self._longest_s.items()}


def bench_settings(**state: Any) -> Settings:
    """Return the built-in settings; nothing came before the stream's first row, so all windows are warm."""
    overrides = {f"state.{name}": value for name, value in {"complete_from": "start", **state}.items()}
    return load_settings(environment={}, overrides=overrides)


def default_catalog(columns: str = "all") -> Catalog:
    """Return the built-in catalogue, or the columns of it that `polars` or the `twins` have too."""
    settings = bench_settings()
    catalog = build_catalog(settings.features, settings.event)
    can = {"all": lambda _: True, "polars": features_polars.can, "twins": twin_can}[columns]
    return replace(catalog, features=tuple(f for f in catalog.features if can(f)))


def compiled_engine(catalog: Catalog, settings: Settings, laps: Laps | None = None) -> FeatureEngine:
    """Return an engine whose kernels are compiled."""
    warm = new_engine(settings, catalog)
    few = batches(rows_between(World(3, 3), 64, START_MS, START_MS + DAY_MS), batch_rows=32)
    steps: list[Step] = [([KnownLabel(batch.ids[0], True, START_MS)], batch) for batch in few]
    observed(warm, steps[:1], Laps())
    absorb(warm, steps[1:])
    return new_engine(settings, catalog, laps)


def stream(rows: int, cards: int, seed: int) -> list[Step]:
    """Return the batches of one stream, each with the labels that became known before its last row."""
    world = World(cards, max(1, cards // CARDS_A_MERCHANT), seed=seed)
    taken = list(batches(rows_between(world, rows, START_MS, START_MS + DAYS * DAY_MS)))
    labels = deque(labels_of(taken, seed))
    steps: list[Step] = []
    for batch in taken:
        known = []
        while labels and labels[0].known_at_ms <= int(batch.time_ms[-1]):
            known.append(labels.popleft())
        steps.append((known, batch))
    return steps


def labels_of(taken: list[TransactionBatch], seed: int) -> list[KnownLabel]:
    """Return the frauds as they become known: one transaction in 500, ten days later in the mean."""
    random = np.random.default_rng([seed, 500])
    labels = []
    for batch in taken:
        for row in np.flatnonzero(random.random(len(batch)) < FRAUDS).tolist():
            known_at_ms = int(batch.time_ms[row]) + int(random.exponential(10 * DAY_MS))
            labels.append(KnownLabel(batch.ids[row], True, known_at_ms))
    return sorted(labels, key=lambda label: label.known_at_ms)


def observed(engine: FeatureEngine, steps: Iterable[Step], laps: Laps) -> float:
    """Let the engine do what a worker has it do with each batch; return the seconds."""
    settle_memory()
    began_s = time.perf_counter()
    for labels, batch in steps:
        laps.begin()
        engine.learn(labels)
        laps("learn")
        engine.recognise(batch)
        laps("ids")
        engine.observe(batch)
    return time.perf_counter() - began_s


def absorb(engine: FeatureEngine, steps: Iterable[Step]) -> None:
    """Let the engine take batches in."""
    for labels, batch in steps:
        engine.learn(labels)
        engine.recognise(batch)
        engine.absorb(batch)


def state_of(engine: FeatureEngine) -> dict[str, Any]:
    """Return entities, rows and bytes of the state by stage."""
    entities, kept = engine.entities(), engine.rows_kept()
    used = {stage.name: stage.bytes_used for stage in engine.stages}
    return {
        "entities": entities,
        "rows_kept": kept,
        "bytes": used,
        "bytes_of_ids": engine.repeats.bytes_used(),
        "bytes_of_labels": engine.labels.transactions.bytes_used() if engine.labels else 0,
        "bytes_total": engine.bytes_used(),
        "bytes_per_entity": {stage: round(used[stage] / max(n, 1), 1) for stage, n in entities.items()},
        "bytes_per_row_kept": {stage: round(used[stage] / max(n, 1), 1) for stage, n in kept.items()},
    }


def engine(rows: int, cards: int, seed: int, columns: str = "all") -> dict[str, Any]:
    """Measure the engine."""
    taken = stream(rows, cards, seed)
    laps = Laps()
    measured = compiled_engine(default_catalog(columns), bench_settings(), laps)
    half = len(taken) // 2
    absorb(measured, taken[:half])
    laps.clear()
    took_s = observed(measured, taken[half:], laps)
    timed = sum(len(batch) for _, batch in taken[half:])
    return {
        "transactions_per_s": timed / took_s,
        "features": len(measured.catalog),
        "rows_timed": timed,
        "us_per_transaction": laps.us_a_row(timed),
        "longest_ms": laps.longest_ms(),
        **state_of(measured),
    }


def polars(rows: int, cards: int, seed: int, way: str) -> dict[str, Any]:
    """Measure polars on the whole table, behind a small one that compiles and loads what it needs."""
    catalog = default_catalog("polars")
    taken = [batch for _, batch in stream(rows, cards, seed)]
    features_polars.features_of(features_polars.table_of(taken[:4]), catalog, WAYS[way])
    table = features_polars.table_of(taken)
    settle_memory()
    began_s = time.perf_counter()
    features_polars.features_of(table, catalog, WAYS[way])
    rate = rows / (time.perf_counter() - began_s)
    left_out = [name for name in default_catalog().names if name not in catalog.names]
    return {"transactions_per_s": rate, "columns": catalog.names, "left_out": left_out}


def twin(rows: int, cards: int, seed: int, way: str, batches_timed: int | None = None) -> dict[str, Any]:
    """Measure a dict-and-deque twin on the second half of a stream, or on that many batches of it."""
    taken = [batch for _, batch in stream(rows, cards, seed)]
    half = len(taken) // 2
    measured = new_twin(way)
    for batch in taken[:half]:
        measured.absorb(batch)
    timed = taken[half:][:batches_timed]
    settle_memory()
    began_s = time.perf_counter()
    for batch in timed:
        measured.observe(batch)
    took_s, rows_timed = time.perf_counter() - began_s, sum(map(len, timed))
    return {"transactions_per_s": rows_timed / took_s, "rows_timed": rows_timed}


def new_twin(way: str) -> Twin:
    """Return the twin that is `walked`, or the one that keeps `running` sums."""
    kinds: dict[str, Callable[[Catalog, str], Kind]] = {
        "walked": partial(WalkedKind, rows_max=bench_settings().state.rows_max),
        "running": RunningKind,
    }
    return Twin(default_catalog("twins"), kinds[way])


def agreement(rows: int, cards: int, seed: int) -> dict[str, Any]:
    """Count values that differ: of the twins by a bit, of polars by more than CLOSE of their size.

    Rows that the engine flags (an entity has more rows than `state.rows_max`) are left out and counted.
    """
    steps = stream(rows, cards, seed)
    catalog = default_catalog()
    seen = compiled_engine(catalog, bench_settings())
    taken = [batch for _, batch in steps]
    results = []
    for labels, batch in steps:
        seen.learn(labels)
        results.append(seen.observe(batch))
    exact = np.concatenate([result.flags for result in results]) == 0
    X = np.concatenate([result.X for result in results])[exact]
    by_twins, by_polars = default_catalog("twins"), default_catalog("polars")
    of_twins, of_polars = (X[:, [catalog.names.index(n) for n in by.names]] for by in (by_twins, by_polars))
    table = features_polars.table_of(taken)

    def of_twin(way: str) -> dict[str, int]:
        fresh = new_twin(way)
        given = np.array([x for batch in taken for x in fresh.observe(batch)])[exact]
        return _counts(differs(of_twins, given), by_twins.names)

    def of_way(way: str) -> dict[str, int]:
        given = features_polars.features_of(table, by_polars, WAYS[way])
        values = given.cast(pl.Float64).fill_null(np.nan).to_numpy()[exact]
        apart = ~np.isclose(of_polars, values, rtol=CLOSE, atol=CLOSE, equal_nan=True)
        return _counts(apart, by_polars.names)

    return {
        "rows": int(exact.sum()),
        "rows_flagged": int((~exact).sum()),
        "twin_columns": len(by_twins),
        "twin_mismatches": of_twin("walked"),
        "deque_twin_incremental_mismatches": of_twin("running"),
        "polars_columns": len(by_polars),
        "polars_mismatches": of_way("group_by"),
        "polars_tuned_mismatches": of_way("one_clock"),
    }


def differs(given: Matrix, expected: Matrix) -> npt.NDArray[np.bool_]:
    """Tell where two matrices have other bits; all NaN are alike."""
    bits: npt.NDArray[np.bool_] = given.view(np.int64) != np.ascontiguousarray(expected).view(np.int64)
    return bits & ~(np.isnan(given) & np.isnan(expected))


def _counts(wrong: npt.NDArray[np.bool_], names: list[str]) -> dict[str, int]:
    return {name: int(n) for name, n in zip(names, wrong.sum(axis=0), strict=True) if n}
