"""One hot entity: what a transaction costs with 10 to 10,000 rows in its window, by aggregate.

All rows of every batch are one card's, so that each waits for the row before it. The window is 30 days; the
state keeps the day of lateness behind it too. Repeated transactions are not looked for: with one card alone, an
hour of stream time passes within a few rows, and forgetting ids would be all that is measured.
"""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks.features_cases import Laps, absorb, bench_settings, compiled_engine, observed
from benchmarks.features_stream import BATCH_ROWS, DAY_MS, START_MS, World, batches, rows_between
from fraudstream.features import Catalog, build_catalog
from fraudstream.features.aggregates import AGGREGATES
from fraudstream.sections import FeatureGroup

WINDOW, WINDOW_DAYS, SHORT = "30d", 30, "7d"
ROWS_IN_WINDOW = (10, 30, 100, 300, 1_000, 3_000, 10_000)
ROWS_MAX = 16_384
TIMED_ROWS, REPETITIONS = 4_096, 3
FIELD = {"measure": "amount", "text": "merchant_id"}
KINDS: dict[str, tuple[str, ...]] = {
    "all": tuple(AGGREGATES),
    "min, max": ("min", "max"),
    "distinct": ("distinct",),
    "share": ("share",),
    "sum": ("sum",),
}


def curve(kind: str, seed: int) -> dict[str, Any]:
    """Return microseconds a transaction by rows in the window."""
    settings = bench_settings(rows_max=ROWS_MAX, repeat_horizon="0s")
    catalog = catalog_of(kind)
    us: dict[str, float] = {}
    for in_window in ROWS_IN_WINDOW:
        laps = Laps()
        engine = compiled_engine(catalog, settings, laps)
        width_ms = WINDOW_DAYS * DAY_MS // in_window
        filled = in_window + in_window // 8 + 8  # the window's and the lateness's
        rows = filled + (REPETITIONS + 1) * TIMED_ROWS
        taken = rows_between(World(1, 1_000, seed=seed), rows, START_MS, START_MS + rows * width_ms)
        whole = next(batches(taken, batch_rows=rows))
        absorb(engine, [([], whole.part(0, filled))])
        took_s = []
        for begin in range(filled, rows, TIMED_ROWS):
            cuts = range(begin, begin + TIMED_ROWS, BATCH_ROWS)
            took_s.append(observed(engine, [([], whole.part(at, at + BATCH_ROWS)) for at in cuts], laps))
        us[str(in_window)] = round(1e6 * median(took_s[1:]) / TIMED_ROWS, 3)
    return {"features": len(catalog), "us": us}


def catalog_of(kind: str) -> Catalog:
    """Return the aggregates of a kind over one window, one group each."""
    settings = bench_settings()
    groups = []
    for name in KINDS[kind]:
        more: dict[str, Any] = {}
        if AGGREGATES[name].of:
            more["of"] = FIELD[AGGREGATES[name].of]
        if name == "velocity":
            more["baseline"] = WINDOW
        if name == "rate":
            more["where"] = 'channel = "online"'
        window = SHORT if name == "velocity" else WINDOW
        groups.append(FeatureGroup(entity="card", aggregates=[name], windows=[window], **more))
    return build_catalog(groups, settings.event)
