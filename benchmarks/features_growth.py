"""State that grows: the rate, and the bytes an entity and a row, at 10 thousand to 10 million cards.

Every card is given the same number of rows over 30 days before the clock starts; then fresh rows come in, of
cards drawn evenly, which is the hardest for the processor's caches: nearly every row finds its card's memory
cold. Devices grow with the cards. No labels come in, but what is kept to join them to their transactions is.
"""

from __future__ import annotations

import gc
import resource
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.features_cases import (
    CARDS_A_MERCHANT,
    Laps,
    Step,
    absorb,
    bench_settings,
    compiled_engine,
    default_catalog,
    observed,
    state_of,
)
from benchmarks.features_stream import DAY_MS, START_MS, World, batches, rounds, rows_between
from fraudstream.features import FeatureEngine

DAYS = 30
ROWS_A_CARD = 20
FILL_BATCH_ROWS = 8_192
REPETITIONS = 3
ROOM_BYTES = 2 << 30  # left to the machine, and to what the next rows may ask for at once
MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def growth(cards: int, rows_a_card: int, fresh: int, seed: int) -> dict[str, Any]:
    """Fill the state and measure the engine on fresh rows, the median of three runs of them."""
    laps = Laps()
    engine = compiled_engine(default_catalog(), bench_settings(), laps)
    world = World(cards, max(1, cards // CARDS_A_MERCHANT), even=True, seed=seed)
    began_s = time.perf_counter()
    rows = fill(engine, world, rows_a_card)
    result: dict[str, Any] = {"cards": cards, "rows_a_card": round(rows / cards, 2)}
    result |= {"fill_s": round(time.perf_counter() - began_s, 1), "filled": state_of(engine)}
    if rows < cards * rows_a_card:
        result["note"] = f"memory for {rows} of {cards * rows_a_card} rows"
    if rows < cards:
        return result | {"skipped": "not even a row a card fits"}
    rates = []
    for number in range(REPETITIONS + 1):
        taken = fresh_steps(world, rows / (DAYS * DAY_MS), fresh, number)
        laps.clear()
        rates.append(fresh / observed(engine, taken, laps))
        gc.unfreeze()
    return result | {
        "transactions_per_s": round(median(rates[1:])),  # the first run warms up
        "us_per_transaction": laps.us_a_row(fresh),  # of the last run, as what follows
        "longest_ms": laps.longest_ms(),
        "resident_mb_max": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def fill(engine: FeatureEngine, world: World, rows_a_card: int) -> int:
    """Absorb so many rows of every card, or as many as there is memory for; return how many."""
    rows = 0
    for chunk in rounds(world, rows_a_card, START_MS, START_MS + DAYS * DAY_MS):
        if available_bytes() < ROOM_BYTES:
            break
        absorb(engine, (([], batch) for batch in batches(chunk, rows, FILL_BATCH_ROWS)))
        rows += len(chunk.card)
    return rows


def fresh_steps(world: World, rows_a_ms: float, rows: int, number: int) -> list[Step]:
    """Return the n-th run of rows behind the filled ones, at the same pace."""
    width_ms = max(round(rows / rows_a_ms), 2 * rows)
    begin_ms = START_MS + DAYS * DAY_MS + number * width_ms
    first_offset = 10**9 + number * rows
    drawn = rows_between(world, rows, begin_ms, begin_ms + width_ms, stream=1 + number)
    return [([], batch) for batch in batches(drawn, first_offset)]


def available_bytes() -> int:
    """Return how much more memory this process may take."""
    lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    for path in MEMORY_LIMITS:
        if Path(path).is_file() and (limit := Path(path).read_text("ascii").strip()).isdigit():
            used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            free = min(free, int(limit) - used)
    return free
