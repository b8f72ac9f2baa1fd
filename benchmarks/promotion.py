"""What a promotion costs under load: a model changes in a worker on a real Kafka, and is rolled back.

`python -m benchmarks.promotion --json`. Starts the broker as the tests do, simulates a world, trains a model of at
most 200 trees of 31 leaves, and copies it to two other versions. Then an open loop sends transactions at a fixed rate
to a worker process that has a champion and a challenger; a reader of the decisions' topic notes when each one comes.
After a while the second version is promoted, and later rolled back. Latency is from the time at which a transaction
was due to the time at which its decision was read.

A switch lasts from the new alias to a second after the first decision of the other version: in it the worker notices,
checks the bundle in a child process, compiles, and takes it. Broker, sender, reader, worker and that child share the
machine's cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from confluent_kafka import OFFSET_END, Consumer, TopicPartition

from benchmarks.machine import about_machine
from benchmarks.openloop import sender, write_messages
from benchmarks.worker import START_MS, configure, process, say, wait_for_metrics
from fraudstream.bus.topics import create_topics
from fraudstream.records import Challenger, Decision
from fraudstream.registry import Registry, Trust, read_bundle, write_bundle
from fraudstream.sections import Settings
from fraudstream.settings import load_settings
from fraudstream.simulate import WorldConfig, simulate
from fraudstream.simulate.write import write_world
from fraudstream.stream.publish import RUN_HEADER
from fraudstream.training.run import train_from_files
from tests.kafka.broker import broker_from_environment

MODEL = {"training.trees_max": 200, "training.leaves_max": 31, "training.learning_rate": 0.01}
WARM_S, SETTLED_S = 25.0, 1.0
SWITCH_S = 5.0  # about as long as one takes
SWITCHED_WITHIN_S = 60.0
FIRST, SECOND, CHALLENGING = "0001", "0002", "0003"


@dataclasses.dataclass(slots=True)
class Seen:
    """What the reader saw, a decision an entry, in the order in which they came."""

    at_s: list[float] = dataclasses.field(default_factory=list)
    number: list[int] = dataclasses.field(default_factory=list)  # of the transaction in the order of sending
    sequence: list[int] = dataclasses.field(default_factory=list)
    model: list[str] = dataclasses.field(default_factory=list)
    run: list[bytes] = dataclasses.field(default_factory=list)
    challenged: int = 0


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options.add_argument("--rate", type=int, default=10_000, help="transactions a second")
    options.add_argument("--phase", type=float, default=20.0, help="seconds before, between and after")
    options.add_argument("--partitions", type=int, default=4)
    chosen = options.parse_args()
    result = run(chosen.rate, chosen.phase, chosen.partitions)
    if chosen.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:28} {value}")


def run(rate: int, phase_s: float, partitions: int) -> dict[str, Any]:
    """Play it once and return the figures."""
    count = int(rate * (WARM_S + 3 * phase_s + 2 * SWITCH_S))
    with (
        tempfile.TemporaryDirectory(prefix="fraudstream-bench-") as name,
        broker_from_environment() as broker,
    ):
        folder = Path(name)
        settings = configure(folder, broker.bootstrap, partitions, 1024)
        ids, trees = prepare(folder, count)
        create_topics(settings)
        registry = Registry(folder / "models", "card_payment", Trust())
        with process(["fraudstream", "worker", "-c"], folder), reader_of(settings) as read:
            wait_for_metrics(settings, "fraudstream_ready 1.0", "fraudstream_challenger_info{")
            say(f"sending {count} transactions at {rate}/s")
            gc.disable()  # a run of the collector over all that was seen is a stall of the reader's own
            start_s = time.monotonic() + 3.0
            with sender(folder, rate, start_s) as sending:
                seen, switches = play(read, ids, registry, start_s + WARM_S, phase_s)
                sent = json.loads(sending.communicate(timeout=60)[0])
    return {
        **figures(seen, rate, start_s, switches),
        "rate": rate,
        "transactions": count,
        **checks(seen, count),
        "sender_behind_ms_max": sent["behind_ms_max"],
        "trees": trees,
        "partitions": partitions,
        **about_machine(),
    }


def prepare(folder: Path, count: int) -> tuple[dict[str, int], int]:
    """Write messages and three versions of a model; return each transaction's number by its id, and the trees."""
    say("simulating and training")
    world = simulate(WorldConfig(start_ms=START_MS, customers=10_000, days=max(12, count // 18_000 + 1)))
    write_world(world, folder / "data", "parquet")
    training = load_settings(folder / "fraudstream.toml", MODEL, environment={})
    data = folder / "data"
    train_from_files(training, data / "transactions", data / "labels", None, True, lambda *done: None)
    registry = Registry(folder / "models", "card_payment", Trust())
    for version in (SECOND, CHALLENGING):
        copy_version(registry, version)
    registry.challenge(CHALLENGING)
    text = read_bundle(registry.folder / FIRST, Trust()).parts.booster_text
    return write_messages(world.transactions, folder / "messages", count), text.count("\nTree=")


def copy_version(registry: Registry, version: str) -> None:
    """Add the first version once more under another number."""
    bundle = read_bundle(registry.folder / FIRST, Trust())
    about = {name: getattr(bundle.described, name) for name in ("created_at", "training", "metrics")}
    other = dataclasses.replace(bundle.parts, version=f"{registry.name}/{version}")
    write_bundle(registry.folder / version, other, about, bundle.golden(), {"report.md": "A copy.\n"})


@contextmanager
def reader_of(settings: Settings) -> Iterator[Callable[[Seen, dict[str, int]], None]]:
    """Yield what notes the decisions that have come since the last call."""
    consumer = Consumer({**settings.kafka, "group.id": "bench-reader", "enable.auto.commit": False})
    topic, partitions = settings.topics.decisions, range(settings.topics.partitions)
    consumer.assign([TopicPartition(topic, partition, OFFSET_END) for partition in partitions])
    decode = msgspec.json.Decoder(Decision).decode

    def read(seen: Seen, ids: dict[str, int]) -> None:
        polled = consumer.consume(1, 0.005)
        polled += consumer.consume(2000, 0) if polled else []
        at_s = time.monotonic()
        for message in polled:
            assert message.error() is None, message.error()
            decision = decode(message.value())
            seen.at_s.append(at_s)
            seen.number.append(ids[decision.transaction_id])
            seen.sequence.append(decision.sequence)
            seen.model.append(decision.model)
            seen.run.append(dict(message.headers())[RUN_HEADER])
            seen.challenged += isinstance(decision.challenger, Challenger)

    try:
        yield read
    finally:
        consumer.close()


@dataclasses.dataclass(frozen=True, slots=True)
class Switch:
    """When the alias named another version, and when the first decision of that version was read."""

    named_s: float
    seen_s: float


def play(
    read: Callable[[Seen, dict[str, int]], None],
    ids: dict[str, int],
    registry: Registry,
    begin_s: float,
    phase_s: float,
) -> tuple[Seen, list[Switch]]:
    """Read to the end, promoting and rolling back on the way; return what was seen, and both switches."""
    seen, switches = Seen(), []
    for name, version in ((SECOND, SECOND), ("previous", FIRST)):
        while time.monotonic() < begin_s + phase_s:
            read(seen, ids)
        registry.promote(name)
        named_s, deadline_s = time.monotonic(), time.monotonic() + SWITCHED_WITHIN_S
        while not seen.model[-1].endswith(version):
            assert time.monotonic() < deadline_s, f"no decision of {version} within {SWITCHED_WITHIN_S} s"
            read(seen, ids)
        switches.append(Switch(named_s, seen.at_s[-1]))
        begin_s = seen.at_s[-1] + SETTLED_S
    deadline_s = time.monotonic() + SWITCHED_WITHIN_S + 2 * phase_s
    while len(seen.number) < len(ids) and time.monotonic() < deadline_s:
        read(seen, ids)
    deadline_s = time.monotonic() + SETTLED_S
    while time.monotonic() < deadline_s:  # what comes twice may come late
        read(seen, ids)
    return seen, switches


def figures(seen: Seen, rate: int, start_s: float, switches: list[Switch]) -> dict[str, Any]:
    """Return latencies and the longest gap by phase, and how long each switch took."""
    at_s, due_s = np.array(seen.at_s), start_s + np.array(seen.number) / rate
    ends = [start_s + WARM_S]
    for switch in switches:
        ends += [switch.named_s, switch.seen_s + SETTLED_S]
    names = ("before", "promotion", "between", "rollback", "after")
    bounds = zip(names, ends, [*ends[1:], np.inf], strict=True)
    phases = {name: of_phase(at_s, due_s, low, high) for name, low, high in bounds}
    before = phases["before"]["p99_ms"]
    return {
        "phases": phases,
        "p99_ratio_promotion": round(phases["promotion"]["p99_ms"] / before, 2),
        "p99_ratio_rollback": round(phases["rollback"]["p99_ms"] / before, 2),
        "promotion_to_decision_s": round(switches[0].seen_s - switches[0].named_s, 2),
        "rollback_to_decision_s": round(switches[1].seen_s - switches[1].named_s, 2),
    }


def of_phase(
    at_s: npt.NDArray[np.float64], due_s: npt.NDArray[np.float64], low_s: float, high_s: float
) -> dict[str, float]:
    """Return latencies of what was due in a phase, and the longest time without a decision in it."""
    latency_ms = 1000 * (at_s - due_s)[(due_s >= low_s) & (due_s < high_s)]
    gaps = np.diff(at_s[(at_s >= low_s) & (at_s < high_s)])
    p50, p99, p999 = np.quantile(latency_ms, [0.5, 0.99, 0.999])
    return {
        "decisions": len(latency_ms),
        "p50_ms": round(float(p50), 2),
        "p99_ms": round(float(p99), 2),
        "p999_ms": round(float(p999), 2),
        "gap_ms_max": round(1000 * float(gaps.max()), 1),
    }


def checks(seen: Seen, count: int) -> dict[str, Any]:
    """Return what must be 0, and the order of the versions in the order of serving."""
    times = np.bincount(np.array(seen.number), minlength=count)
    in_order = [model for _, model in sorted(zip(seen.sequence, seen.model, strict=True))]
    changes = [in_order[0], *(now for was, now in pairwise(in_order) if now != was)]
    return {
        "missing": int((times == 0).sum()),
        "doubled": int((times > 1).sum()),
        "runs": len(set(seen.run)),
        "versions_in_order_of_serving": changes,
        "without_challenger": len(seen.number) - seen.challenged,
    }


if __name__ == "__main__":
    main()
