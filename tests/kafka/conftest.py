"""Fixtures for tests on a real Kafka: one broker a session, fresh topics a test, messages in and out.

The functions that take a `bootstrap` are for the tests that have a broker of their own (`own_broker`); the
fixtures of similar names do the same on the session's `broker`.
"""

import re
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import pytest
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic

from tests.java import skip_or_fail_without
from tests.kafka.broker import (
    Broker,
    KafkaBroker,
    broker_from_environment,
    external_bootstrap,
    java_command,
)

REQUEST_TIMEOUT_S = 30.0

Headers = Sequence[tuple[str, bytes]]
Outgoing = tuple[bytes | None, bytes | None, Headers | None]
"""Key, value and headers of a message to send."""


class MakeTopic(Protocol):
    """Creates a topic of this test and returns its name."""

    def __call__(
        self, name_suffix: str, partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> str: ...


class Produce(Protocol):
    """`produce_to` on the session's broker."""

    def __call__(self, topic: str, messages: Iterable[Outgoing]) -> list[Message]: ...


class ConsumeAll(Protocol):
    """`consume_all_from` on the session's broker."""

    def __call__(self, topic: str, timeout_s: float = 30.0, count: int | None = None) -> list[Message]: ...


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of this folder in one process: they share a broker."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.xdist_group("kafka"))


def pytest_runtest_setup() -> None:
    """Skips the tests of this folder where there is no Kafka, with one line for all; fails them if `CI=true`.

    It is done here because pytest reports a skip in a fixture once for each test.
    """
    if external_bootstrap() is None:
        skip_or_fail_without(_kafka_command)


def _kafka_command() -> list[str]:
    return java_command((), "kafka.Kafka")


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """The session's broker: ours, or that of `FRAUDSTREAM_TEST_BROKERS`. Leave it running."""
    with broker_from_environment() as started:
        yield started


@pytest.fixture(scope="session")
def startable_kafka() -> None:
    """For tests that start a Kafka or its tools themselves, also if the session's broker is external."""
    skip_or_fail_without(_kafka_command)


@pytest.fixture
def own_broker(startable_kafka: None) -> Iterator[KafkaBroker]:
    """A broker for this test alone, which may kill and restart it (2 to 3 s to start)."""
    with KafkaBroker() as started:
        yield started


@pytest.fixture
def topic_prefix(request: pytest.FixtureRequest) -> str:
    """How the names of this test's topics, groups and transactional ids start: unique, also between runs."""
    test = re.sub(r"[^a-zA-Z0-9]+", "-", request.node.name).strip("-")
    return f"{test[:60]}-{secrets.token_hex(4)}"  # not the seeded random: runs may share an external broker


@pytest.fixture
def make_topic(broker: Broker, topic_prefix: str) -> Iterator[MakeTopic]:
    """Creates topics named `{topic_prefix}.{name_suffix}`; deleted after the test if the broker stays."""
    created: list[str] = []

    def make(name_suffix: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
        name = f"{topic_prefix}.{name_suffix}"
        create_topic(broker.bootstrap, name, partitions, config)
        created.append(name)
        return name

    yield make
    if created and not isinstance(broker, KafkaBroker):
        admin = _admin(broker.bootstrap)  # by name: its answers are lost when it is collected
        for deletion in admin.delete_topics(created).values():
            deletion.result(REQUEST_TIMEOUT_S)


@pytest.fixture
def produce(broker: Broker) -> Produce:
    """Sends messages to the session's broker, see `produce_to`."""

    def send(topic: str, messages: Iterable[Outgoing]) -> list[Message]:
        return produce_to(broker.bootstrap, topic, messages)

    return send


@pytest.fixture
def consume_all(broker: Broker) -> ConsumeAll:
    """Reads a topic of the session's broker to its end, see `consume_all_from`."""

    def read(topic: str, timeout_s: float = 30.0, count: int | None = None) -> list[Message]:
        return consume_all_from(broker.bootstrap, topic, timeout_s, count)

    return read


def create_topic(
    bootstrap: str, name: str, partitions: int = 1, config: Mapping[str, str] | None = None
) -> None:
    """Creates a topic, and returns when each of its partitions has a leader.

    Raises:
        KafkaException: it exists, or the broker refuses a setting.
        TimeoutError: no leaders in time.
    """
    admin = _admin(bootstrap)
    topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config=dict(config or {}))
    admin.create_topics([topic])[name].result(REQUEST_TIMEOUT_S)
    deadline_s = time.monotonic() + REQUEST_TIMEOUT_S
    while time.monotonic() < deadline_s:
        found = admin.list_topics(name, timeout=REQUEST_TIMEOUT_S).topics[name].partitions
        if len(found) == partitions and all(part.leader >= 0 for part in found.values()):
            return
    raise TimeoutError(f"{name}: no leaders for {partitions} partitions after {REQUEST_TIMEOUT_S:g} s")


def produce_to(bootstrap: str, topic: str, messages: Iterable[Outgoing]) -> list[Message]:
    """Sends messages in order, each to the partition that Java's clients would choose for its key.

    Returns:
        The delivered messages, with partition and offset, in the order of their delivery reports.

    Raises:
        AssertionError: a message was not delivered; the text has the first few and why.
    """
    delivered: list[Message] = []
    failures: list[str] = []

    def note(error: KafkaError | None, message: Message) -> None:
        if error is None:
            delivered.append(message)
        else:
            failures.append(f"key {message.key()!r}: {error}")

    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "partitioner": "murmur2_random",
            "enable.idempotence": True,  # no duplicates, and the order kept, when a send is tried again
            "queue.buffering.max.messages": 0,  # no limit
            "message.timeout.ms": int(REQUEST_TIMEOUT_S * 1000),
            "message.max.bytes": 8_000_000,  # the topic's own limit decides
        }
    )
    for key, value, headers in messages:
        producer.produce(topic, value, key, on_delivery=note, headers=list(headers or ()))
        producer.poll(0)
    unreported = producer.flush(REQUEST_TIMEOUT_S + 5)
    assert not failures, f"{topic}: {len(failures)} messages not delivered: {failures[:3]}"
    assert unreported == 0, f"{topic}: {unreported} messages without a delivery report"
    return delivered


def consume_all_from(
    bootstrap: str, topic: str, timeout_s: float = 30.0, count: int | None = None
) -> list[Message]:
    """Reads the committed messages of all partitions, from the first to the end.

    The end is where no partition has more for a reader of committed messages: at the oldest open transaction,
    if there is one. With `count`, waits there until as many have come. More than `count` are returned if more
    are there, so that a duplicate shows.

    Returns:
        The messages as they arrived: in order within a partition only.

    Raises:
        TimeoutError: not at the end, or not `count` messages, within `timeout_s`.
        KafkaException: no such topic, or another error of the broker's.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "fraudstream-tests-consume-all",  # librdkafka wants one; nothing is committed
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 10,  # else an empty partition takes 500 ms to say so
        }
    )
    try:
        found = consumer.list_topics(topic, timeout=timeout_s).topics[topic]
        if found.error is not None:
            raise KafkaException(found.error)
        consumer.assign(
            [TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in found.partitions]
        )
        return _read_to_end(consumer, len(found.partitions), timeout_s, count)
    finally:
        consumer.close()


def _read_to_end(consumer: Consumer, partitions: int, timeout_s: float, count: int | None) -> list[Message]:
    messages: list[Message] = []
    ended: set[int] = set()
    deadline_s = time.monotonic() + timeout_s
    while len(ended) < partitions or (count is not None and len(messages) < count):
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            wanted = "any number" if count is None else count
            raise TimeoutError(
                f"after {timeout_s:g} s: {len(messages)} messages, wanted {wanted}; "
                f"{len(ended)} of {partitions} partitions at their end"
            )
        message = consumer.poll(left_s)
        if message is None:
            continue
        error = message.error()
        if error is None:
            messages.append(message)
            ended.discard(message.partition())
        elif error.code() == KafkaError._PARTITION_EOF:
            ended.add(message.partition())
        else:
            raise KafkaException(error)
    return messages


def _admin(bootstrap: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap})
