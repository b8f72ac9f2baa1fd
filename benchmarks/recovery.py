"""How soon a worker that was killed decides again, and how fast it replays what it had served.

`python -m benchmarks.recovery --json`. Starts the broker as the tests do and lets a worker take in a million cards.
Then an open loop sends transactions at a fixed rate; once the newest snapshot is as old as asked for, the worker is
killed (SIGKILL) and started again at once. `recovery_s` is from the kill to the first decision of a transaction that
was not decided before. At last a worker without snapshots reads the whole topic: `silent_replay_per_s` is the rate at
which it takes in what was served before. Broker, sender, worker and reader share the machine's cores.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.machine import about_machine
from benchmarks.openloop import sender
from benchmarks.worker import START_MS, configure, metrics_of, process, say, wait_for_metrics
from fraudstream.bus.topics import create_topics
from fraudstream.sections import Settings
from fraudstream.simulate import WorldConfig, simulate
from fraudstream.simulate.write import write_world
from fraudstream.training.run import train_from_files
from tests.kafka.broker import broker_from_environment

REPLAYED = re.compile(r"^fraudstream_replayed_total (\S+)", re.MULTILINE)
ENTITIES = re.compile(r'^fraudstream_entities\{entity="card"\} (\S+)', re.MULTILINE)
DAY_MS = 86_400_000
GIVE_UP_S = 600.0
COUNTRIES = ("FR", "DE", "ES", "IT", "NL", "BE")
CATEGORIES = ("grocery", "fuel", "travel", "electronics", "restaurant")


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options.add_argument("--cards", type=int, default=1_000_000)
    options.add_argument("--transactions", type=int, default=2_000_000, help="before the open loop")
    options.add_argument("--rate", type=int, default=10_000, help="transactions a second of the open loop")
    options.add_argument("--age", type=float, default=60.0, help="of the snapshot at the kill, seconds")
    chosen = options.parse_args()
    result = run(chosen.cards, chosen.transactions, chosen.rate, chosen.age)
    if chosen.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:28} {value}")


def run(cards: int, transactions: int, rate: int, age_s: float) -> dict[str, Any]:
    """Play it once and return the figures."""
    with (
        tempfile.TemporaryDirectory(prefix="fraudstream-bench-") as name,
        broker_from_environment() as broker,
    ):
        folder = Path(name)
        settings = configure(folder, broker.bootstrap, 4, 1024)
        with (folder / "fraudstream.toml").open("a") as file:
            file.write('[state]\ncomplete_from = "start"\n')
            file.write(f'[snapshots]\nfolder = "{folder}/snapshots"\ninterval = "30s"\n')
        train(folder, settings)
        create_topics(settings)
        say(f"filling the topic with {transactions} transactions of {cards} cards")
        fill(settings, lines(cards, transactions, 0))
        with process(["fraudstream", "worker", "-c"], folder):
            wait_for_metrics(settings, "fraudstream_ready 1.0")
            wait_until_committed(settings, transactions)
            entities = float(ENTITIES.findall(metrics_of(settings))[0])
            snapshot_bytes = wait_for_snapshot(folder).stat().st_size
        # One snapshot, then none before the kill: the next worker saves less often than the kill comes.
        later = {"FRAUDSTREAM_SNAPSHOTS__INTERVAL": "1h"}
        more = int(rate * (age_s + 90))
        (folder / "messages").write_bytes(b"\n".join(lines(cards, more, transactions)))
        recovered = kill_and_wait(folder, settings, rate, age_s, later, transactions)
        replayed = replay_rate(folder, settings)
    return {
        **recovered,
        "silent_replay_per_s": replayed,
        "snapshot_mb": round(snapshot_bytes / 1e6),
        "cards": int(entities),
        "rate": rate,
        **about_machine(),
    }


def train(folder: Path, settings: Settings) -> None:
    """Train a model on a simulated world of its own."""
    say("simulating and training")
    data = folder / "data"
    write_world(simulate(WorldConfig(start_ms=START_MS, customers=5_000, days=40)), data, "parquet")
    train_from_files(settings, data / "transactions", data / "labels", None, True, lambda *done: None)


def lines(cards: int, count: int, first: int) -> list[bytes]:
    """Return transactions of cards that come in turn, a month's worth, as key, tab and value."""
    chance = np.random.default_rng(first)
    card = (np.arange(first, first + count) * 7_919) % cards
    time_ms = START_MS + 60 * DAY_MS + np.arange(first, first + count) * 200
    merchant, amount = chance.integers(0, 20_000, count), chance.integers(100, 30_000, count)
    place, kind = chance.integers(0, len(COUNTRIES), count), chance.integers(0, len(CATEGORIES), count)
    columns = (
        card.tolist(),
        time_ms.tolist(),
        merchant.tolist(),
        amount.tolist(),
        place.tolist(),
        kind.tolist(),
    )
    made = []
    for number, (c, t, m, a, p, k) in enumerate(zip(*columns, strict=True), first):
        made.append(
            b'card_%d\t{"transaction_id":"tx_%d","event_time":%d,"card_id":"card_%d","merchant_id":"m_%d",'
            b'"amount":"%d.%02d","currency":"EUR","merchant_category":"%s","merchant_country":"%s",'
            b'"channel":"online","device_id":"d_%d","card_country":"FR"}'
            % (c, number, t, c, m, a // 100, a % 100, CATEGORIES[k].encode(), COUNTRIES[p].encode(), c)
        )
    return made


def fill(settings: Settings, made: list[bytes]) -> None:
    """Send lines as fast as it goes."""
    producer = Producer(
        {**settings.kafka, "partitioner": "murmur2_random", "linger.ms": 20, "compression.type": "lz4",
         "queue.buffering.max.messages": 1_000_000}
    )  # fmt: skip
    for number, line in enumerate(made):
        key, _, value = line.partition(b"\t")
        producer.produce(settings.topics.transactions, value, key)
        if number % 50_000 == 0:
            producer.flush(60)
    assert producer.flush(60) == 0, "the topic could not be filled"


def committed(settings: Settings) -> int:
    """Return how many transactions are committed."""
    consumer = Consumer({**settings.kafka, "group.id": settings.worker.group})
    asked = [TopicPartition(settings.topics.transactions, p) for p in range(settings.topics.partitions)]
    total = sum(max(0, part.offset) for part in consumer.committed(asked, timeout=10))
    consumer.close()
    return total


def wait_until_committed(settings: Settings, count: int) -> None:
    """Return once so many transactions are committed."""
    deadline_s = time.monotonic() + GIVE_UP_S
    while (done := committed(settings)) < count:
        if time.monotonic() > deadline_s:
            raise SystemExit(f"{done} of {count} transactions are committed after {GIVE_UP_S} s")
        time.sleep(1.0)


def wait_for_snapshot(folder: Path) -> Path:
    """Return the newest snapshot once there is one."""
    deadline_s = time.monotonic() + GIVE_UP_S
    while time.monotonic() < deadline_s:
        if found := sorted((folder / "snapshots").rglob("*.state")):
            return found[-1]
        time.sleep(0.2)
    raise SystemExit("there is no snapshot")


def kill_and_wait(
    folder: Path, settings: Settings, rate: int, age_s: float, variables: dict[str, str], before: int
) -> dict[str, Any]:
    """Kill a worker under load, start it again, and return how long it took to go on."""
    with process(["fraudstream", "worker", "-c"], folder, variables) as worker:
        wait_for_metrics(settings, "fraudstream_ready 1.0")
        # Stopped, the first worker saved its state; this one has served nothing yet.
        start_s = time.monotonic() + 1.0
        with sender(folder, rate, start_s):
            time.sleep(age_s + 1.0)
            worker.kill()
            killed_s = time.monotonic()
            worker.wait()
            done = committed(settings)
            again = [sys.executable, "-m", "fraudstream", "worker", "-c", str(folder / "fraudstream.toml")]
            log = (folder / "again.log").open("wb")
            with subprocess.Popen(again, stdout=log, stderr=log) as second:
                deadline_s = time.monotonic() + GIVE_UP_S
                while committed(settings) <= done:
                    assert second.poll() is None, (folder / "again.log").read_text()[-2000:]
                    assert time.monotonic() < deadline_s, "no decision after the kill"
                    time.sleep(0.05)
                took_s = time.monotonic() - killed_s
                loaded = [
                    line
                    for line in (folder / "again.log").read_text("utf-8", "replace").splitlines()
                    if "snapshot_loaded" in line
                ]
                second.terminate()
                second.wait(30)
    return {
        "recovery_s": round(took_s, 2),
        "served_before_kill": done - before,
        "snapshot": json.loads(loaded[-1]) if loaded else None,
    }


def replay_rate(folder: Path, settings: Settings) -> int:
    """Return how many transactions a second are taken in silently, between 10 % and 90 % of them."""
    say("replaying without a snapshot")
    done = committed(settings)
    low, high = done // 10, done * 9 // 10
    first: tuple[float, float] | None = None
    deadline_s = time.monotonic() + GIVE_UP_S
    with process(["fraudstream", "worker", "-c"], folder, {"FRAUDSTREAM_SNAPSHOTS__FOLDER": ""}):
        while time.monotonic() < deadline_s:
            time.sleep(0.25)
            try:
                found = REPLAYED.search(metrics_of(settings))
            except OSError:
                continue
            now = (time.monotonic(), float(found[1]) if found else 0.0)
            if first is None and now[1] >= low:
                first = now
            if first is not None and now[1] >= high:
                return round((now[1] - first[1]) / (now[0] - first[0]))
    raise SystemExit("the replay did not end")


if __name__ == "__main__":
    main()
