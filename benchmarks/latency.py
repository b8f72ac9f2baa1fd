"""How long a decision takes: from the time a transaction was due to the time its decision was read.

`python -m benchmarks.latency --json`. Starts the broker as the tests do, simulates a world, trains a model, and for
each way of delivery and each rate lets an open loop send transactions on a fixed schedule to a worker process, while
a reader of committed messages notes when each decision comes. A stall is not hidden: what was due meanwhile is late.
Broker, sender, worker and reader share the machine's cores.

`stage_us` are the worker's own times by stage for a transaction, `wall_us` the time that passed for one; `consume`
includes waiting for work. What they leave of `wall_us` is the loop between two turns. `batch_rows` is the mean.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from confluent_kafka import OFFSET_END, Consumer, TopicPartition

from benchmarks.machine import about_machine
from benchmarks.openloop import sender, write_messages
from benchmarks.worker import STAGES, START_MS, configure, metrics_of, process, say, wait_for_metrics
from fraudstream.bus.topics import create_topics
from fraudstream.sections import Settings
from fraudstream.simulate import WorldConfig, simulate
from fraudstream.simulate.write import write_world
from fraudstream.training.run import train_from_files
from tests.kafka.broker import broker_from_environment

RATES = (1_000, 10_000, 30_000)
MODES = {"at_least_once": "50", "exactly_once": "20"}  # with the commit interval in ms
WARM_S, LATE_S = 25.0, 30.0
BATCHES = re.compile(r"^fraudstream_batch_rows_(sum|count) (\S+)", re.MULTILINE)
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99_9": 0.999, "max": 1.0}


class Named(msgspec.Struct):
    """What is needed of a decision."""

    transaction_id: str


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options.add_argument("--rates", type=int, nargs="+", default=RATES, help="transactions a second")
    options.add_argument("--seconds", type=float, default=60.0, help="of each run, after 25 s of warm-up")
    options.add_argument("--partitions", type=int, default=4)
    options.add_argument("--modes", nargs="+", choices=list(MODES), default=list(MODES))
    chosen = options.parse_args()
    result = run(chosen.rates, chosen.seconds, chosen.partitions, chosen.modes)
    if chosen.json:
        print(json.dumps(result))
        return
    for one in result["runs"]:
        figures = "  ".join(f"{name} {one[f'{name}_ms']:8.2f}" for name in QUANTILES)
        print(f"{one['delivery']:14} {one['rate']:6}/s  {figures} ms")


def run(rates: list[int], seconds: float, partitions: int, modes: list[str]) -> dict[str, Any]:
    """Measure every mode at every rate."""
    count = int(max(rates) * (WARM_S + seconds))
    with (
        tempfile.TemporaryDirectory(prefix="fraudstream-bench-") as name,
        broker_from_environment() as broker,
    ):
        folder = Path(name)
        settings = configure(folder, broker.bootstrap, partitions, 1024)
        ids = prepare(folder, settings, count)
        runs = []
        for mode in modes:
            for rate in rates:
                settings = configure(folder, broker.bootstrap, partitions, 1024, prefix=f"{mode}.{rate}.")
                create_topics(settings)
                runs.append(measure(folder, settings, mode, rate, seconds, ids))
    return {"runs": runs, "partitions": partitions, "seconds": seconds, **about_machine()}


def prepare(folder: Path, settings: Settings, count: int) -> dict[str, int]:
    """Train a model, write the messages, and return each transaction's number by its id."""
    say("simulating and training")
    world = simulate(WorldConfig(start_ms=START_MS, customers=10_000, days=max(12, count // 18_000 + 1)))
    write_world(world, folder / "data", "parquet")
    data = folder / "data"
    train_from_files(settings, data / "transactions", data / "labels", None, True, lambda *done: None)
    return write_messages(world.transactions, folder / "all", count)


def measure(
    folder: Path, settings: Settings, mode: str, rate: int, seconds: float, ids: dict[str, int]
) -> dict[str, Any]:
    """Run one worker under one rate."""
    count = int(rate * (WARM_S + seconds))
    with (folder / "all").open("rb") as every, (folder / "messages").open("wb") as some:
        for _ in range(count):
            some.write(every.readline())
    variables = {"DELIVERY": mode, "COMMIT_INTERVAL_MS": MODES[mode]}
    variables = {f"FRAUDSTREAM_WORKER__{name}": value for name, value in variables.items()}
    with process(["fraudstream", "worker", "-c"], folder, variables):
        wait_for_metrics(settings, "fraudstream_ready 1.0")
        say(f"{mode}: {count} transactions at {rate}/s")
        start_s = time.monotonic() + 2.0
        with sender(folder, rate, start_s) as sending:
            at_s, before = read(settings, ids, count, start_s + WARM_S)
            sent = json.loads(sending.communicate(timeout=60)[0])
        after = look(settings)
    due_s = start_s + np.arange(count) / rate
    latency_ms = 1000 * (at_s - due_s)[due_s >= start_s + WARM_S]
    rows = after["rows"] - before["rows"]
    stages = {s: 1e6 * (v - before["stages"].get(s, 0.0)) / rows for s, v in after["stages"].items()}
    return {
        "delivery": mode,
        "commit_interval_ms": int(MODES[mode]),
        "rate": rate,
        "decisions": len(latency_ms),
        **{f"{n}_ms": round(float(np.quantile(latency_ms, q)), 2) for n, q in QUANTILES.items()},
        "sender_behind_ms_max": sent["behind_ms_max"],
        "batch_rows": round(rows / (after["batches"] - before["batches"]), 1),
        "stage_us": {stage: round(us, 2) for stage, us in stages.items()},
        "wall_us": round(1e6 * (after["at_s"] - before["at_s"]) / rows, 2),
    }


def look(settings: Settings) -> dict[str, Any]:
    """Return the worker's own counts."""
    at_s, text = time.monotonic(), metrics_of(settings)
    sizes, stages = dict(BATCHES.findall(text)), {s: float(v) for s, v in STAGES.findall(text)}
    return {"at_s": at_s, "rows": float(sizes["sum"]), "batches": float(sizes["count"]), "stages": stages}


def read(
    settings: Settings, ids: dict[str, int], count: int, warm_s: float
) -> tuple[npt.NDArray[np.float64], dict[str, Any]]:
    """Return when each decision was read, by number, and the worker's counts after the warm-up."""
    config = {**settings.kafka, "group.id": "bench-reader", "enable.auto.commit": False}
    consumer = Consumer(config | {"isolation.level": "read_committed", "fetch.wait.max.ms": 5})
    topic, partitions = settings.topics.decisions, range(settings.topics.partitions)
    consumer.assign([TopicPartition(topic, partition, OFFSET_END) for partition in partitions])
    decode = msgspec.json.Decoder(Named).decode
    gc.collect()
    gc.freeze()  # of the world, which would be looked through again and again: a stall of the reader's own
    at_s, seen, before = np.full(count, np.nan), 0, None
    end_s = warm_s + count / 1000 + LATE_S
    while seen < count and time.monotonic() < end_s:
        polled = consumer.consume(1, 0.02)
        polled += consumer.consume(2000, 0) if polled else []
        now_s = time.monotonic()
        for message in polled:
            assert message.error() is None, message.error()
            number = ids[decode(message.value()).transaction_id]
            assert np.isnan(at_s[number]), f"transaction {number} was decided twice"
            at_s[number] = now_s
        seen += len(polled)
        if before is None and now_s >= warm_s:
            before = look(settings)
    consumer.close()
    assert seen == count, f"{count - seen} decisions never came"
    assert before is not None
    return at_s, before


if __name__ == "__main__":
    main()
