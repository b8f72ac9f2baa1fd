"""Kafka through confluent-kafka. All consumer calls come from the thread that polls.

Wake, then drain: `consume(1, T)` returns with the first message, `consume(N, 0)` takes what the fetcher
has; `consume(N, T)` would wait out all of T.

State is rebuilt by reading: an assignment starts at the oldest message kept, and what lies below the
committed offset is marked as served before (`emit_from`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import structlog
from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic

from fraudstream.bus.base import Headers, Positions
from fraudstream.clock import monotonic_s
from fraudstream.errors import BusError
from fraudstream.settings import KafkaConfig, Settings

log = structlog.get_logger("kafka")

REQUEST_TIMEOUT_S = 10.0
FLUSH_TIMEOUT_S = 60.0
_COMPLAINT_EVERY_S = 10.0
_READ_ROWS = 10_000
MESSAGE_BYTES_MAX = 8_000_000
REFUSALS_MAX = 60  # commits in a row: a minute at one a second
_GROUP_CHANGES = (
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_COORDINATOR,
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
    KafkaError._WAIT_COORD,
    KafkaError._ALL_BROKERS_DOWN,
)


class _Complaints:
    """Says that the broker is away, once in a while, in one line."""

    def __init__(self, config: KafkaConfig) -> None:
        self._brokers = config.get("bootstrap.servers")
        self._next_s = 0.0

    def __call__(self, error: KafkaError) -> None:
        if monotonic_s() < self._next_s:
            return
        self._next_s = monotonic_s() + _COMPLAINT_EVERY_S
        log.warning("kafka_unreachable", brokers=self._brokers, error=error.str(), action="retrying")


class _Quiet:
    """Takes librdkafka's own log lines; what matters of them reaches `error_cb`."""

    def log(self, level: int, message: str, *arguments: object) -> None:
        log.debug("librdkafka", message=message % arguments if arguments else message)


def client_config(settings: Settings, role: str) -> dict[str, Any]:
    """Return librdkafka's settings for a `consumer`, a `producer` or an `admin` client."""
    config: dict[str, Any] = dict(settings.kafka)
    if role == "consumer":
        config.update(settings.kafka_consumer)
        config.update({"group.id": settings.worker.group, "enable.auto.commit": False})
        config.setdefault("auto.offset.reset", "earliest")
    elif role == "producer":
        # The default partitioner puts a key elsewhere than Java clients do.
        config.update({"partitioner": "murmur2_random", "enable.idempotence": True})
        config.update(settings.kafka_producer)
    config["error_cb"] = _Complaints(settings.kafka)
    config["logger"] = _Quiet()
    return config


class KafkaSource:
    """A member of the worker's consumer group."""

    def __init__(self, settings: Settings) -> None:
        self.generation = 0
        self.emit_from: Positions = {}
        self.begin_from: Positions = {}
        self._topic = settings.topics.transactions
        self._begin = str(settings.kafka_consumer.get("auto.offset.reset", "earliest"))
        self._high: Positions = {}
        self._refusals = 0
        self._finish: Callable[[], None] = lambda: None
        self._consumer = Consumer(client_config(settings, "consumer"))
        self._consumer.subscribe(
            [self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )

    def poll(self, rows_max: int, timeout_s: float) -> Sequence[Any]:
        """Return up to `rows_max` messages, as `Source` says."""
        first = self._consumer.consume(1, timeout_s)
        generation = self.generation  # now: partitions assigned in that call came before its message
        rest = self._consumer.consume(rows_max - 1, 0) if first and rows_max > 1 else []
        if self.generation != generation:
            first = []  # fetched before the partitions changed; it is read again
        return _usable(first + rest, self._topic)

    def commit(self, positions: Positions) -> bool:
        """Commit offsets and wait for the broker's answer; False when it is to be tried again later.

        While the group changes or its broker is away a commit is refused. Either the next one goes through, or
        the partitions are lost and read again from what was committed last.
        """
        offsets = [TopicPartition(self._topic, p, offset) for p, offset in positions.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            cause = error.args[0]
            self._refusals += 1
            passing = cause.retriable() or cause.code() in _GROUP_CHANGES
            if not passing or self._refusals > REFUSALS_MAX:
                raise BusError(f"offsets could not be committed: {cause.str()}") from None
            log.warning("commit_refused", error=cause.str(), action="trying again")
            return False
        self._refusals = 0
        return True

    def lag(self) -> int:
        """Return how many messages are known to wait in the assigned partitions."""
        return sum(self._waiting().values())

    def behind(self, rows: int) -> set[int]:
        """Return the partitions with a backlog; the only partition is behind no other."""
        if len(self.emit_from) < 2:
            return set()
        return {partition for partition, waiting in self._waiting().items() if waiting > rows}

    def _waiting(self) -> dict[int, int]:
        """Return how many messages are known to wait, by partition, as of the latest fetch."""
        waiting = {}
        for at in self._consumer.position(self._consumer.assignment()):
            _, high = self._consumer.get_watermark_offsets(at, cached=True)
            next_offset = at.offset if at.offset >= 0 else self.begin_from.get(at.partition, 0)
            waiting[at.partition] = max(0, max(high, self._high.get(at.partition, 0)) - next_offset)
        return waiting

    def on_revoke(self, finish: Callable[[], None]) -> None:
        """Call `finish` before partitions are given up."""
        self._finish = finish

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()

    def _assigned(self, consumer: Any, partitions: list[Any]) -> None:
        self.generation += 1
        self.emit_from = {}
        for partition, committed in zip(
            partitions, consumer.committed(partitions, timeout=REQUEST_TIMEOUT_S), strict=True
        ):
            low, high = consumer.get_watermark_offsets(partition, timeout=REQUEST_TIMEOUT_S)
            self.begin_from[partition.partition], self._high[partition.partition] = low, high
            start = committed.offset
            if start == OFFSET_INVALID or start < 0:
                start = low if self._begin in ("earliest", "smallest", "beginning") else high
            elif start < low:
                raise BusError(
                    f"{self._topic}/{partition.partition}: committed offset {start} is older than the oldest "
                    f"message kept ({low}); transactions were deleted before they were scored. Reset the "
                    "group's offsets to go on"
                )
            self.emit_from[partition.partition] = start
            partition.offset = low
        log.info("partitions_assigned", partitions=sorted(self.emit_from), emit_from=self.emit_from)
        consumer.assign(partitions)

    def _revoked(self, consumer: Any, partitions: list[Any]) -> None:
        self._finish()
        self.emit_from = {}
        log.info("partitions_revoked", partitions=sorted(p.partition for p in partitions))

    def _lost(self, consumer: Any, partitions: list[Any]) -> None:
        self.emit_from = {}
        self.generation += 1
        log.warning("partitions_lost", partitions=sorted(p.partition for p in partitions))


class KafkaReader:
    """Reads a whole topic, all partitions from the oldest message on, outside any group.

    What is older than the retention by then is gone; a partition that is added is seen after the next `rewind`.
    """

    def __init__(self, settings: Settings, topic: str) -> None:
        self._topic = topic
        config = client_config(settings, "consumer") | {"enable.partition.eof": True}
        self._consumer = Consumer(config | {"auto.offset.reset": "earliest"})
        self._ahead: dict[int, int] = {}  # by partition: the end at the last rewind, until it is reached

    def rewind(self) -> None:
        """Begin again at the oldest message of each partition."""
        self._ahead = {}
        try:
            found = self._consumer.list_topics(self._topic, timeout=REQUEST_TIMEOUT_S).topics[self._topic]
            if found.error is not None:
                raise BusError(f"topic {self._topic} does not exist; run `fraudstream topics create`")
            parts = [
                TopicPartition(self._topic, partition, OFFSET_BEGINNING) for partition in found.partitions
            ]
            for part in parts:
                low, high = self._consumer.get_watermark_offsets(part, timeout=REQUEST_TIMEOUT_S)
                if low < high:
                    self._ahead[part.partition] = high
            self._consumer.assign(parts)
        except KafkaException as error:
            raise BusError(f"{self._topic}: {error.args[0].str()}") from None

    def caught_up(self) -> bool:
        """Tell whether everything that was there at the last `rewind` has been read."""
        return not self._ahead

    def poll(self, rows_max: int, timeout_s: float) -> Sequence[Any]:
        """Return up to `rows_max` messages: wait for the first, if at all, then take what is there."""
        polled = self._consumer.consume(1, timeout_s) if timeout_s else []
        if polled or not timeout_s:
            polled += self._consumer.consume(rows_max, 0)
        messages = _usable(polled, self._topic)
        if self._ahead:
            for message in polled:  # an end may be a marker of a transaction, which is no message
                partition, error = message.partition(), message.error()
                at_end = error is not None and error.code() == KafkaError._PARTITION_EOF
                if at_end or message.offset() + 1 >= self._ahead.get(partition, 0):
                    self._ahead.pop(partition, None)
        return messages

    def close(self) -> None:
        """Drop the consumer."""
        self._consumer.close()


def read_topic(settings: Settings, topic: str) -> Iterator[Any]:
    """Yield the messages of a topic up to its current end.

    Raises:
        BusError: there is no such topic, or nothing more comes before the end.
    """
    reader = KafkaReader(settings, topic)
    try:
        reader.rewind()
        heard_s = monotonic_s()
        while not reader.caught_up():
            messages = reader.poll(_READ_ROWS, 1.0)
            yield from messages
            if messages:
                heard_s = monotonic_s()
            elif monotonic_s() - heard_s > FLUSH_TIMEOUT_S:
                raise BusError(f"{topic}: no message for {FLUSH_TIMEOUT_S:.0f} s before its end")
    finally:
        reader.close()


def _usable(polled: list[Any], topic: str) -> list[Any]:
    """Return the messages among what was polled."""
    if all(message.error() is None for message in polled):
        return polled
    messages = []
    for message in polled:
        error = message.error()
        if error is None:
            messages.append(message)
        elif error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise BusError(f"topic {topic} does not exist; run `fraudstream topics create`")
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise BusError(f"the position in {topic} is gone from the broker: {error.str()}")
        elif error.fatal():
            raise BusError(f"the consumer cannot go on: {error.str()}")
        elif error.code() != KafkaError._PARTITION_EOF:
            log.warning("consume_error", topic=topic, error=error.str())
    return messages


class KafkaSink:
    """A producer whose every message is accounted for."""

    def __init__(self, settings: Settings) -> None:
        config = client_config(settings, "producer")
        config.setdefault("message.max.bytes", MESSAGE_BYTES_MAX)  # the topic's own limit decides
        config["delivery.report.only.error"] = True
        self._producer = Producer(config)
        self._failed: list[str] = []

    def send(self, topic: str, value: bytes | None, key: bytes | None, headers: Headers) -> None:
        """Queue one message; wait where the queue is full."""
        deadline_s: float | None = None
        while True:
            try:
                self._producer.produce(topic, value, key, headers=headers, on_delivery=self._report)
                return
            except BufferError:
                deadline_s = deadline_s or monotonic_s() + FLUSH_TIMEOUT_S
                self._producer.poll(0.1)
                if monotonic_s() > deadline_s:
                    raise BusError(
                        f"no message could be queued for {topic} for {FLUSH_TIMEOUT_S:.0f} s"
                    ) from None
            except KafkaException as error:
                raise BusError(f"{topic}: {error.args[0].str()}") from None

    def flush(self) -> None:
        """Wait for every delivery report."""
        left = self._producer.flush(FLUSH_TIMEOUT_S)
        if self._failed:
            failed, self._failed = self._failed, []
            raise BusError(f"{len(failed)} messages were not delivered; the first: {failed[0]}")
        if left:
            raise BusError(f"{left} messages are not acknowledged after {FLUSH_TIMEOUT_S:.0f} s")

    def close(self) -> None:
        """Drop the producer."""
        self._producer.purge()

    def _report(self, error: KafkaError | None, message: Any) -> None:
        if error is not None:
            self._failed.append(f"{message.topic()}: {error.str()}")


def wait_for_topics(settings: Settings, wanted: Sequence[str], stop: Callable[[], bool]) -> None:
    """Return once the broker answers and has these topics; say so while it does not.

    Raises:
        BusError: a topic does not exist.
    """
    admin = AdminClient(client_config(settings, "admin"))
    complain = _Complaints(settings.kafka)
    while not stop():
        try:
            known = admin.list_topics(timeout=2.0).topics
        except KafkaException as error:
            complain(error.args[0])
            continue
        missing = [topic for topic in wanted if topic not in known]
        if missing:
            raise BusError(f"missing topics: {', '.join(missing)}; run `fraudstream topics create`")
        return


def create_topics(settings: Settings) -> dict[str, str]:
    """Create the topics that are not there; return what became of each: `created` or `exists`.

    Raises:
        BusError: the broker cannot be reached, or refuses one.
    """
    topics = settings.topics
    names = [topics.transactions, topics.labels, topics.decisions, topics.alerts, topics.dlq, topics.features]
    # The original bytes of a message of the largest size and the headers that say what is wrong with it; the
    # features of a whole micro-batch.
    large = {"max.message.bytes": str(MESSAGE_BYTES_MAX)}
    extra = {topics.dlq: large, topics.features: large}
    new = [
        NewTopic(
            name,
            num_partitions=topics.partitions,
            replication_factor=topics.replication,
            config=extra.get(name, {}),
        )
        for name in names
    ]
    admin = AdminClient(client_config(settings, "admin"))
    result = {}
    for name, future in admin.create_topics(new, request_timeout=REQUEST_TIMEOUT_S).items():
        try:
            future.result(timeout=2 * REQUEST_TIMEOUT_S)
            result[name] = "created"
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise BusError(f"{name}: {error.args[0].str()}") from None
            result[name] = "exists"
    return result
