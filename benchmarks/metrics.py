"""What the metrics cost a transaction.

    python -m benchmarks.metrics --json

Calls everything that a worker updates in one turn, on a batch of which 2 % alert and 2 % are flagged: ten stage
times, two histograms, a commit, the counts of decisions, alerts and flags, the latency. The comparison with a
challenger, which only a worker that has one pays, is told apart. Figures are medians of the repetitions, in processor
time. Gauges are updated once a second whatever the rate, and are not in it. Pessimistic: a commit in each batch, a
challenger that disagrees as often as chance would have it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np

from benchmarks.machine import with_machine
from fraudstream.batch import TransactionBatch
from fraudstream.bus.memory import MemoryMessage
from fraudstream.features.engine import FLAG_COLD, FLAG_REPEATED
from fraudstream.metrics import STAGES, WorkerMetrics
from fraudstream.scoring import Policy, Scored, build_policy
from fraudstream.settings import load_settings
from fraudstream.stream.counts import BothCounts, Counts

TURNS = 500  # timed at once


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options.add_argument("--rows", type=int, default=1024, help="of a batch (default: %(default)s)")
    options.add_argument("--alerts", type=float, default=0.02, help="share of alerts (default: %(default)s)")
    options.add_argument("--repetitions", type=int, default=9)
    chosen = options.parse_args()
    result = with_machine(run(chosen.rows, chosen.alerts, chosen.repetitions))
    if chosen.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:28} {value}")


def run(rows: int, alerts: float, repetitions: int) -> dict[str, float]:
    """Measure both and return the figures."""
    policy = build_policy(load_settings(environment={}))
    champion, challenger = (made(rows, alerts, policy, seed) for seed in (1, 2))
    messages = [MemoryMessage(b"{}", b"card", None, 0, row, 1_700_000_000_000) for row in range(rows)]
    metrics = WorkerMetrics()
    counts = Counts(metrics, policy, "card_payment/0001")
    both = BothCounts(metrics, policy.names)
    stages = [metrics.stage_seconds.labels(stage) for stage in STAGES]

    def turn() -> None:
        for stage in stages:
            stage.inc(0.001)
        metrics.batch_rows.observe(rows)
        metrics.batch_seconds.observe(0.002)
        metrics.commit_seconds.observe(0.002)
        metrics.alerts_explained.labels("treeshap").inc(20)
        counts.count(champion, messages)

    def shadow() -> None:
        both.count(champion, challenger)

    taken: dict[str, list[float]] = {"us_a_transaction": [], "challenger_us_a_transaction": []}
    for _ in range(repetitions):
        for name, work in zip(taken, (turn, shadow), strict=True):
            began_s = time.process_time()
            for _ in range(TURNS):
                work()
            taken[name].append((time.process_time() - began_s) / TURNS / rows * 1e6)
    medians = {name: round(statistics.median(times), 4) for name, times in taken.items()}
    return {**medians, "rows": rows, "alerts": alerts}


def made(rows: int, alerts: float, policy: Policy, seed: int) -> Scored:
    """Return a batch with decisions drawn at random."""
    chance = np.random.default_rng(seed)
    last = len(policy.names) - 1
    decided = np.where(chance.random(rows) < alerts, chance.integers(0, last, rows), last)
    zeros, whole = np.zeros(rows), np.arange(rows)
    flags = (FLAG_COLD * (chance.random(rows) < 0.01) + FLAG_REPEATED * (chance.random(rows) < 0.01)).astype(
        np.uint8
    )
    batch = TransactionBatch([""] * rows, whole, {}, {}, whole * 0, whole, whole)
    points = chance.integers(0, 1000, rows)
    return Scored(batch, np.zeros((rows, 0)), zeros, zeros, points, decided, policy.alerting(decided), flags)


if __name__ == "__main__":
    main()
