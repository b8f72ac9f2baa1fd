"""The Kafka ends by themselves: every message once after an assignment, nothing acknowledged that was not."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from fraudstream.bus.kafka import KafkaSink, KafkaSource
from fraudstream.errors import BusError
from tests.kafka.broker import Broker
from tests.kafka.conftest import MakeTopic
from tests.kafka.deployment import Deployment, deployed, quiet_admin
from tests.worlds import TinyWorld

pytestmark = pytest.mark.broker


@pytest.fixture
def deployment(broker: Broker, tiny_world: TinyWorld, tmp_path: Path) -> Iterator[Deployment]:
    with deployed(broker, tiny_world, tmp_path, partitions=2) as made:
        yield made


@contextmanager
def reading(deployment: Deployment) -> Iterator[KafkaSource]:
    source = KafkaSource(deployment.settings)
    try:
        yield source
    finally:
        source.close()


def numbers(count: int) -> list[tuple[bytes | None, bytes | None, None]]:
    return [(b"%d" % i, b"%d" % i, None) for i in range(count)]


def read(source: KafkaSource, count: int, rows_max: int = 100) -> list[Any]:
    """Poll until `count` messages have come, or none came for a while."""
    messages: list[Any] = []
    while len(messages) < count:
        polled = source.poll(rows_max, 10.0)
        if not polled:
            break
        messages += polled
    return messages


@pytest.mark.parametrize("rows_max", [1, 2, 100, 5000])
def test_the_first_messages_after_an_assignment_are_not_passed_over(
    deployment: Deployment, rows_max: int
) -> None:
    deployment.send(numbers(1000))
    with reading(deployment) as source:
        messages = read(source, 1000, rows_max)
        assert len(source.poll(rows_max, 0.2)) == 0
    assert sorted(int(m.value()) for m in messages) == list(range(1000))
    assert source.generation == 1
    assert source.emit_from == {}


def test_a_new_reader_begins_at_the_oldest_message_and_knows_what_was_served(deployment: Deployment) -> None:
    deployment.send(numbers(100))
    with reading(deployment) as source:
        assert len(read(source, 100)) == 100
        assert source.emit_from == {0: 0, 1: 0}
        source.commit({0: 20})
        assert source.lag() == 0
    assert deployment.committed() == {0: 20}
    with reading(deployment) as source:
        assert len(read(source, 100)) == 100
        assert source.emit_from == {0: 20, 1: 0}


def test_a_second_reader_takes_partitions_over_and_the_first_begins_anew(deployment: Deployment) -> None:
    deployment.send(numbers(200))
    with reading(deployment) as first:
        finished: list[int] = []
        first.on_revoke(lambda: finished.append(first.generation))
        assert len(read(first, 200)) == 200
        with reading(deployment) as second:
            taken: list[Any] = []
            again: list[Any] = []
            while len(taken) + len(again) < 200:
                taken += second.poll(50, 0.1)
                again += first.poll(50, 0.1)
            assert {m.partition() for m in taken}.isdisjoint({m.partition() for m in again})
            assert sorted(int(m.value()) for m in taken + again) == list(range(200))
        assert finished == [1]
        assert first.generation == 2


def test_a_position_that_the_broker_no_longer_has_stops_the_reader(
    broker: Broker, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    with deployed(broker, tiny_world, tmp_path) as deployment:
        deployment.send(numbers(50))
        with reading(deployment) as source:
            assert len(read(source, 50)) == 50
            source.commit({0: 10})
        admin = quiet_admin(deployment.bootstrap)
        topic = deployment.topic("transactions")
        for deletion in admin.delete_records([TopicPartition(topic, 0, 30)]).values():
            deletion.result(30)
        source = KafkaSource(deployment.settings)
        try:
            with pytest.raises(BusError, match=r"offset 10 is older than the oldest message kept \(30\)"):
                read(source, 1)
        finally:
            source.close()


def test_what_the_broker_refuses_is_an_error_at_the_next_flush(
    deployment: Deployment, make_topic: MakeTopic
) -> None:
    small = make_topic("small", config={"max.message.bytes": "1000"})
    sink = KafkaSink(deployment.settings)
    sink.send(small, b"fits", b"key", [])
    sink.flush()
    sink.send(small, random.Random(1).randbytes(5_000), b"key", [])  # noise: it cannot be compressed
    sink.send(small, b"fits", b"key", [])
    with pytest.raises(BusError, match=rf"messages were not delivered; the first: {small}: .*too large"):
        sink.flush()
    sink.close()
