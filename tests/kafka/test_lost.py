"""A client that finds no broker where others do is given up; one that shares the outage is not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Consumer

from fraudstream.bus import lost
from fraudstream.bus.delivery import AtLeastOnce
from fraudstream.bus.kafka import KafkaSource
from fraudstream.bus.lost import Doubts, Hearing, others_reach
from fraudstream.errors import BusError
from tests.kafka.broker import Broker
from tests.kafka.deployment import Deployment, deployed, free_port
from tests.worlds import TinyWorld

pytestmark = pytest.mark.broker


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QUIET_S", "ASK_EVERY_S", "REACHED_FOR_S"):
        monkeypatch.setattr(lost, name, 0.0)
    monkeypatch.setattr(lost, "ASK_TIMEOUT_S", 0.3)
    monkeypatch.setattr(lost, "STATE_EVERY_MS", 50)


@contextmanager
def nowhere(hearing: Hearing) -> Iterator[Consumer]:
    """Yield a consumer without a broker."""
    address = f"127.0.0.1:{free_port()}"
    consumer = Consumer(
        {"bootstrap.servers": address, "group.id": "nobody", "log_level": 0, **hearing.callbacks}
    )
    try:
        yield consumer
    finally:
        consumer.close()


def listen(consumer: Consumer, hearing: Hearing) -> None:
    for _ in range(20):
        consumer.consume(1, 0.05)
        hearing.heard(anything=False)


def test_a_consumer_without_a_broker_is_lost_where_others_have_one(broker: Broker) -> None:
    hearing = Hearing("t", {"bootstrap.servers": broker.bootstrap})
    with (
        nowhere(hearing) as consumer,
        pytest.raises(BusError, match="t: the consumer finds no broker though others do"),
    ):
        listen(consumer, hearing)


def test_a_consumer_without_a_broker_waits_where_nobody_has_one() -> None:
    config = {"bootstrap.servers": f"127.0.0.1:{free_port()}"}
    hearing = Hearing("t", config)
    with nowhere(hearing) as consumer:
        listen(consumer, hearing)
    assert not others_reach(config)


def test_a_consumer_that_only_has_nothing_to_read_is_not_lost(
    broker: Broker, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    with deployed(broker, tiny_world, tmp_path) as deployment:
        source = KafkaSource(deployment.settings)
        for _ in range(20):
            assert list(source.poll(10, 0.05)) == []
        assert source._hearing._connected
        source.close()


def test_one_answer_ends_all_doubts(broker: Broker) -> None:
    doubts = Doubts({"bootstrap.servers": broker.bootstrap})
    assert [doubts.lost() for _ in range(4)][-1]
    doubts.well()
    assert not doubts.lost()


def test_a_producer_without_a_broker_is_lost_where_others_have_one(
    broker: Broker, tiny_world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with deployed(broker, tiny_world, tmp_path) as deployment:
        sink = at_least_once(deployment, f"127.0.0.1:{free_port()}")
        sink.send(deployment.topic("decisions"), [(b"1", b"k", [])])
        with pytest.raises(BusError, match="the producer finds no broker though others do"):
            for _ in range(20):
                sink.commit({}, 5.0)
        sink.close()


def at_least_once(deployment: Deployment, brokers: str) -> AtLeastOnce:
    """Return a sink with these brokers, whose doubts ask the deployment's."""
    settings = msgspec.structs.replace(deployment.settings, kafka_producer={"bootstrap.servers": brokers})
    source = KafkaSource(deployment.settings)
    source.close()
    sink = AtLeastOnce(settings, source)
    sink._doubts = Doubts({"bootstrap.servers": deployment.bootstrap})
    return sink
