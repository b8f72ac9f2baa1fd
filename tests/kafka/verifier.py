"""What workers should have said of a log, whatever befell them, and how far what they said is from it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Message, TopicPartition

from fraudstream.bus.memory import MemoryMessage
from fraudstream.features import build_catalog
from fraudstream.features import snapshot as snapshots
from fraudstream.stream.ladder import STEPS
from tests.kafka.deployment import Deployment, headers_of
from tests.stream.running import Running, contents, start
from tests.worlds import TinyWorld


@dataclass(frozen=True)
class Expected:
    """What a worker says that is never disturbed, by position of the transaction.

    Attributes:
        state: every row that a row in time can still see.
    """

    decisions: dict[tuple[int, int], dict[str, Any]]
    alerts: dict[tuple[int, int], dict[str, Any]]
    state: Any


def oracle(world: TinyWorld, log: Iterable[Message]) -> Expected:
    """Let one worker read a log on the memory bus, which leaves nothing out though all of the log is a backlog."""
    ordered = sorted(log, key=lambda m: (json.loads(m.value())["event_time"], m.partition(), m.offset()))
    messages = [
        MemoryMessage(m.value(), m.key(), m.headers(), m.partition(), m.offset(), m.timestamp()[1])
        for m in ordered
    ]
    undegraded: dict[str, Any] = {f"degradation__{step}_lag": 0 for step in STEPS}
    run: Running = start(world, messages, **undegraded).to_the_end()

    def by_position(topic: str) -> dict[tuple[int, int], dict[str, Any]]:
        return {position_of(headers["ce_id"]): said for headers, said in _read(run, topic)}

    return Expected(by_position("decisions"), by_position("alerts"), run.worker.pipeline.engine.dump())


def _read(run: Running, topic: str) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    for message in run.sent(topic):
        headers = {name: (value or b"").decode() for name, value in message.headers() or []}
        yield headers, contents(message)


def position_of(ce_id: str) -> tuple[int, int]:
    """Return partition and offset of the transaction that an id is of."""
    _, partition, offset = ce_id.rsplit("/", 2)
    return int(partition), int(offset)


def differences(
    expected: Mapping[tuple[int, int], dict[str, Any]], messages: Iterable[Message], exactly_once: bool
) -> dict[str, int]:
    """Compare what was sent with what should have been.

    Returns:
        How many are `lost`, `doubled` (beyond the first), `altered` or `invented`; none where all is well. Where it
        is at least once, doubled ones are allowed if they say the same.
    """
    found: Counter[str] = Counter()
    seen: Counter[tuple[int, int]] = Counter()
    for message in messages:
        position = position_of(headers_of(message)["ce_id"])
        seen[position] += 1
        if position not in expected:
            found["invented"] += 1
        elif contents(message) != expected[position]:
            found["altered"] += 1
    found["lost"] += sum(position not in seen for position in expected)
    if exactly_once:
        found["doubled"] += sum(number - 1 for number in seen.values())
    return {name: number for name, number in found.items() if number}


def first_altered(
    expected: Mapping[tuple[int, int], dict[str, Any]], messages: Iterable[Message]
) -> dict[str, list[Any]]:
    """Return the fields of the first altered message: what each should have been, and what it was."""
    for message in messages:
        said, should = contents(message), expected.get(position_of(headers_of(message)["ce_id"]))
        if should is not None and said != should:
            fields = sorted(said.keys() | should.keys())
            return {
                name: [should.get(name), said.get(name)]
                for name in fields
                if should.get(name) != said.get(name)
            }
    return {}


def left_hanging(deployment: Deployment, topic: str) -> int:
    """Return how many messages readers of committed ones cannot reach: an open transaction is before them."""
    hidden = 0
    config = {"bootstrap.servers": deployment.bootstrap, "group.id": "chaos-ends", "log_level": 0}
    stable = Consumer(config | {"isolation.level": "read_committed"})
    newest = Consumer(config | {"isolation.level": "read_uncommitted"})
    for partition in range(deployment.settings.topics.partitions):
        part = TopicPartition(deployment.topic(topic), partition)
        _, reachable = stable.get_watermark_offsets(part, timeout=10)
        _, end = newest.get_watermark_offsets(part, timeout=10)
        hidden += end - reachable
    stable.close()
    newest.close()
    return hidden


def saved_state(deployment: Deployment) -> Any:
    """Return what the newest snapshot holds."""
    settings = deployment.settings
    catalog = build_catalog(settings.features, settings.event)
    newest = max(Path(settings.snapshots.folder).rglob("*.state"), key=lambda path: path.stat().st_mtime_ns)
    return snapshots.load(newest, catalog, settings.state, settings.labels.grace_ms).dump()


def is_right(told: Mapping[str, Any]) -> bool:
    """Tell whether nothing was lost, doubled, altered or left behind."""
    wrong = told["wrong_decisions"] or told["wrong_alerts"] or told["dead_letters"] or told["hanging"]
    return not wrong and bool(told["state_equal"]) and told["transactions"] > 0
