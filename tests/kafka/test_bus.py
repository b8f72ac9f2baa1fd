"""The Kafka ends by themselves: every message once after an assignment, nothing acknowledged that was not."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from fraudstream.bus import delivery
from fraudstream.bus.base import Positions
from fraudstream.bus.delivery import AtLeastOnce, ExactlyOnce
from fraudstream.bus.kafka import KafkaSource
from fraudstream.errors import BusError, FencedError
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
def reading(deployment: Deployment, instance: str = "one") -> Iterator[KafkaSource]:
    worker = msgspec.structs.replace(deployment.settings.worker, instance=instance)
    source = KafkaSource(msgspec.structs.replace(deployment.settings, worker=worker))
    try:
        yield source
    finally:
        source.close()


class Listening:
    """Notes what it is told; reads on from where it is told to."""

    def __init__(self, source: KafkaSource, begin: Positions) -> None:
        self.source, self.at = source, begin
        self.finished: list[int] = []

    def begin(self, oldest: Positions, served: Positions) -> Positions:
        return {p: self.at.get(p, offset) for p, offset in oldest.items()}

    def finish(self) -> None:
        self.finished.append(self.source.generation)


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
        assert source.generation == 1
    assert sorted(int(m.value()) for m in messages) == list(range(1000))
    assert source.generation == 2
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
        told = Listening(first, {})
        first.listen(told)
        assert len(read(first, 200)) == 200
        with reading(deployment, "another") as second:
            taken: list[Any] = []
            again: list[Any] = []
            while len(taken) + len(again) < 200:
                taken += second.poll(50, 0.1)
                again += first.poll(50, 0.1)
            assert {m.partition() for m in taken}.isdisjoint({m.partition() for m in again})
            assert sorted(int(m.value()) for m in taken + again) == list(range(200))
        assert told.finished == [1]
        assert first.generation == 3


def test_a_reader_whose_place_another_takes_says_so(deployment: Deployment) -> None:
    deployment.send(numbers(10))
    with reading(deployment, "same") as first:
        assert len(read(first, 10)) == 10
        with reading(deployment, "same") as second:
            assert len(read(second, 10)) == 10
            with pytest.raises(FencedError, match="another worker has joined as this one"):
                for _ in range(100):
                    first.poll(10, 0.1)


def test_reading_begins_where_the_listener_says(deployment: Deployment) -> None:
    deployment.send(numbers(100))
    with reading(deployment) as source:
        every = [(m.partition(), m.offset()) for m in read(source, 100)]
    with reading(deployment) as source:
        source.listen(Listening(source, {0: 7}))
        seen = [(m.partition(), m.offset()) for m in read(source, 93)]
        assert source.begin_from == {0: 7, 1: 0}
    assert sorted(seen) == sorted(at for at in every if at >= (0, 7) or at[0] == 1)


def test_a_reader_that_waits_stays_in_the_group_and_passes_over_nothing(deployment: Deployment) -> None:
    with reading(deployment) as source:
        assert len(source.poll(10, 5.0)) == 0
        deployment.send(numbers(50))
        for _ in range(30):  # longer than the session, 2 s
            source.wait(0.1)
        assert source.generation == 1
        assert sorted(int(m.value()) for m in read(source, 50)) == list(range(50))


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


def test_what_the_broker_refuses_is_an_error_at_the_next_commit(
    deployment: Deployment, make_topic: MakeTopic
) -> None:
    small = make_topic("small", config={"max.message.bytes": "1000"})
    with reading(deployment) as source:
        sink = AtLeastOnce(deployment.settings, source)
        sink.send(small, [(b"fits", b"key", [])])
        while not sink.commit({}, 0.5):
            pass
        sink.send(small, [(random.Random(1).randbytes(5_000), b"key", [])])  # noise: it cannot be compressed
        sink.send(small, [(b"fits", b"key", [])])
        with pytest.raises(BusError, match=rf"messages were not delivered; the first: {small}: .*too large"):
            while not sink.commit({}, 0.5):
                pass
        sink.close()


class Busy:
    """A producer that always has something on its way, until it may deliver it."""

    def __init__(self, producer: Any) -> None:
        self._producer, self.may = producer, threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def __len__(self) -> int:
        return len(self._producer) + (not self.may.is_set())

    def flush(self, timeout_s: float) -> int:
        self.may.wait(30)
        return int(self._producer.flush(timeout_s))


@pytest.mark.parametrize("patient", [True, False])
def test_at_least_once_what_is_sent_on_waits_only_where_the_rest_is_never_delivered(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, patient: bool
) -> None:
    topic = deployment.topic("decisions")
    monkeypatch.setattr(delivery, "EMPTY_WITHIN_S", 60.0 if patient else 0.0)
    with reading(deployment) as source:
        sink = AtLeastOnce(deployment.settings, source)
        busy = Busy(sink._producer)
        monkeypatch.setattr(sink, "_producer", busy)
        sink.send(topic, [(b"1", b"key", [])])
        assert not sink.commit({}, 0.0)
        sink.send(topic, [(b"2", b"key", [])])
        assert len(sink._held) == (0 if patient else 1)
        busy.may.set()
        while not sink.commit({}, 0.0):
            pass
        while not sink.commit({}, 0.5):
            pass
        sink.close()
    assert [m.value() for m in deployment.read("decisions", 2)] == [b"1", b"2"]


def test_offsets_are_committed_while_messages_are_read(deployment: Deployment) -> None:
    deployment.send(numbers(60))
    with reading(deployment) as source:
        read(source, 60)
        asked = []
        for offset in (3, 5, 7):
            while not source.commit({0: offset}, wait=False):
                asked.append(offset)
                source.poll(10, 0.01)
            assert deployment.committed()[0] == offset
        assert set(asked) == {3, 5, 7}
        assert not source.commit({0: 9}, wait=False)
        assert source.commit({0: 11})
    assert deployment.committed()[0] == 11


def test_offsets_that_are_refused_are_asked_for_again(deployment: Deployment) -> None:
    with reading(deployment) as source:
        read(source, 1)
        source._asked = {0: 1}
        source._answered(KafkaError(KafkaError.REBALANCE_IN_PROGRESS), [TopicPartition("t", 0, 1)])
        assert not source.commit({0: 1}, wait=False)
        while not source.commit({0: 1}, wait=False):
            source.poll(10, 0.01)
        source._asked, source._answer = {0: 2}, []
        source._answered(KafkaError(KafkaError.OFFSET_METADATA_TOO_LARGE), [TopicPartition("t", 0, 2)])
        with pytest.raises(BusError, match="offsets could not be committed"):
            source.commit({0: 2}, wait=False)
    assert deployment.committed()[0] == 1


def test_transactions_that_the_broker_does_not_give_are_refused_at_once_with_its_reason(
    deployment: Deployment,
) -> None:
    longer = {"transaction.timeout.ms": 2_000_000_000}  # than the broker's transaction.max.timeout.ms
    settings = msgspec.structs.replace(deployment.settings, kafka_producer=longer)
    with reading(deployment) as source, pytest.raises(BusError, match=r"no transactions to .*timeout"):
        ExactlyOnce(settings, source)


def test_a_sink_whose_name_another_one_has_taken_is_fenced(deployment: Deployment) -> None:
    topic = deployment.topic("decisions")
    with reading(deployment) as source:
        first = ExactlyOnce(deployment.settings, source)
        first.send(topic, [(b"of the first", b"key", [])])
        second = ExactlyOnce(deployment.settings, source)
        with pytest.raises(FencedError, match="has taken the place"):
            while not first.commit({}, 0.5):
                pass
        second.send(topic, [(b"of the second", b"key", [])])
        while not second.commit({}, 0.5):
            pass
        second.close()
    assert [m.value() for m in deployment.read("decisions")] == [b"of the second"]


class Hesitant:
    """A producer that once does not begin a transaction, but may be asked again."""

    def __init__(self, producer: Any) -> None:
        self._producer, self.refused = producer, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def begin_transaction(self) -> None:
        if not self.refused:
            self.refused += 1
            raise KafkaException(KafkaError(KafkaError._CONFLICT, retriable=True))
        self._producer.begin_transaction()


def test_what_was_sent_while_no_transaction_could_begin_is_in_the_next(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = deployment.topic("decisions")
    with reading(deployment) as source:
        sink = ExactlyOnce(deployment.settings, source)
        hesitant = Hesitant(sink._producer)
        monkeypatch.setattr(sink, "_producer", hesitant)
        sink.send(topic, [(b"1", b"key", []), (b"2", b"key", [])])
        sink.send(topic, [(b"3", b"key", [])])
        while not sink.commit({}, 0.5):
            pass
        sink.close()
    assert hesitant.refused
    assert [m.value() for m in deployment.read("decisions")] == [b"1", b"2", b"3"]


class Hanging:
    """A producer that is asked for its transactional id and answers when it may."""

    def __init__(self, producer: Any) -> None:
        self._producer, self.may = producer, threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def init_transactions(self, timeout_s: float) -> None:
        self.may.wait(30)
        self._producer.init_transactions(10)


def test_a_producer_that_answers_after_it_was_replaced_changes_nothing(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fraudstream.bus.delivery.REQUEST_TIMEOUT_S", 0.2)
    topic = deployment.topic("decisions")
    with reading(deployment) as source:
        sink = ExactlyOnce(deployment.settings, source)
        hanging = Hanging(Producer(sink._config))
        monkeypatch.setattr(sink, "_producer", hanging)
        monkeypatch.setattr(sink, "_initialised", False)
        sink.send(topic, [(b"1", b"key", [])])
        assert not sink.commit({}, 0.1)
        late = sink._trying
        assert late is not None
        sink.discard()
        hanging.may.set()
        assert late.done(10)
        sink.send(topic, [(b"2", b"key", [])])
        while not sink.commit({}, 0.5):
            pass
        sink.close()
    assert [m.value() for m in deployment.read("decisions")] == [b"2"]


def test_a_try_that_outlives_its_sink_commits_no_positions(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fraudstream.bus.delivery.CLOSE_WITHIN_S", 0.2)
    deployment.send(numbers(10))
    with reading(deployment) as source:
        assert len(read(source, 10)) == 10
        sink = ExactlyOnce(deployment.settings, source)
        hanging = Hanging(Producer(sink._config))
        monkeypatch.setattr(sink, "_producer", hanging)
        monkeypatch.setattr(sink, "_initialised", False)
        sink.send(deployment.topic("decisions"), [(b"1", b"key", [])])
        assert not sink.commit({0: 1}, 0.1)
        late = sink._trying
        assert late is not None
        sink.close()
        hanging.may.set()
        assert late.done(10)
    assert deployment.committed() == {}
    assert deployment.read("decisions") == []
