"""Kafka through confluent-kafka. All consumer calls come from the thread that polls.

Wake, then drain: `consume(1, T)` returns with the first message, `consume(N, 0)` takes what the fetcher
has; `consume(N, T)` would wait out all of T.

State is rebuilt by reading: an assignment starts at the oldest message kept, and what lies below the
committed offset is marked as served before (`emit_from`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import structlog
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from fraudstream.bus.base import Handover, Positions
from fraudstream.bus.clients import ASK_AGAIN_S, REQUEST_TIMEOUT_S, answered, client, client_config, patiently
from fraudstream.bus.lost import Hearing
from fraudstream.bus.rights import KIND_OF, Right, lacks
from fraudstream.clock import monotonic_s
from fraudstream.errors import BusError, FencedError
from fraudstream.sections import Settings

log = structlog.get_logger("kafka")

CLOSE_AFTER_S = 0.2
REFUSALS_MAX = 600  # commits in a row: a minute at ten a second
_FENCED = KafkaError(KafkaError.FENCED_INSTANCE_ID).str()  # within the text of a fatal error
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


class KafkaSource:
    """A member of the worker's consumer group.

    Partitions are given up all together (`range` and the like) or one by one (`cooperative-sticky`, and
    `group.protocol = consumer`). In both cases what is assigned is read anew from where `Handover.begin` says.
    """

    def __init__(self, settings: Settings) -> None:
        self.generation = 0
        self.emit_from: Positions = {}
        self.begin_from: Positions = {}
        self.whole = False
        self._topic = settings.topics.transactions
        self._group = settings.worker.group
        self._begin = str(settings.kafka_consumer.get("auto.offset.reset", "earliest"))
        self._high: Positions = {}
        self._refusals = 0
        self._handover: Handover | None = None
        self._closing = False
        self._counted = 0  # the generation of which `whole` tells
        self._early: list[Any] = []  # read while nothing was to be read
        self._asked: Positions | None = None  # offsets are on their way
        self._answer: list[KafkaError | None] = []  # to them
        self._ask_again_s = 0.0
        config = client_config(settings, "consumer")
        if instance := settings.worker.instance_name:
            config.setdefault("group.instance.id", instance)
        self._one_by_one = config.get("group.protocol", "classic") != "classic" or "cooperative" in str(
            config.get("partition.assignment.strategy", "")
        )
        self._hearing = Hearing(self._topic, config)
        self._consumer = client(Consumer, config | self._hearing.callbacks | {"on_commit": self._answered})
        self._consumer.subscribe(
            [self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )

    def poll(self, rows_max: int, timeout_s: float) -> Sequence[Any]:
        """Return up to `rows_max` messages, as `Source` says."""
        first, self._early = self._early or self._consumer.consume(1, timeout_s), []
        generation = self.generation  # now: partitions assigned in that call came before its message
        rest = self._consumer.consume(rows_max - len(first), 0) if 0 < len(first) < rows_max else []
        if self.generation != generation:
            first = []  # fetched before the partitions changed; it is read again
        self._hearing.heard(bool(first))
        self._count_partitions()
        return _usable(first + rest, self._topic, self._group)

    def wait(self, timeout_s: float) -> None:
        """Serve the group without reading, as `Source` says."""
        generation = self.generation
        paused = self._consumer.assignment()
        self._consumer.pause(paused)
        arrived = _usable(self._consumer.consume(1, timeout_s), self._topic, self._group)
        self._consumer.resume(paused)  # also what is lost: it would come back paused
        self._early = self._early + arrived if self.generation == generation else []
        self._count_partitions()

    def _count_partitions(self) -> None:
        """Find out whether all partitions are assigned.

        Not while they are being assigned: `list_topics` within a callback of the same consumer makes the next
        callback end the process (confluent-kafka 2.16).
        """
        if self._counted == self.generation:
            return
        try:
            known = self._consumer.list_topics(self._topic, timeout=REQUEST_TIMEOUT_S).topics[self._topic]
        except KafkaException as error:
            log.debug("partitions_unknown", error=error.args[0].str())
            return
        self._counted = self.generation
        self.whole = len(known.partitions) == len(self.emit_from)

    def group_metadata(self) -> Any:
        """Return what makes a transaction fail once another member has the partitions."""
        return self._consumer.consumer_group_metadata()

    def commit(self, positions: Positions, wait: bool = True) -> bool:
        """Commit offsets; False when the broker has not answered yet, or it is to be tried again later.

        While the group changes or its broker is away a commit is refused. Either the next one goes through, or
        the partitions are lost and read again from what was committed last.

        Args:
            wait: for the answer; else it comes while messages are read, and further calls tell.
        """
        if wait:
            self._asked = None
            return self._through(self._commit_now(positions))
        if self._asked != positions:
            if monotonic_s() < self._ask_again_s:
                return False
            self._asked, self._answer = dict(positions), []
            try:
                self._consumer.commit(offsets=self.offsets(positions), asynchronous=True)
            except KafkaException as error:
                self._answer.append(error.args[0])
        if not self._answer:
            return False
        self._asked = None
        return self._through(self._answer[0])

    def _commit_now(self, positions: Positions) -> KafkaError | None:
        try:
            self._consumer.commit(offsets=self.offsets(positions), asynchronous=False)
        except KafkaException as error:
            return error.args[0]
        return None

    def _answered(self, error: KafkaError | None, parts: list[TopicPartition]) -> None:
        if self._asked == {part.partition: part.offset for part in parts}:
            self._answer.append(error or next((part.error for part in parts if part.error), None))

    def _through(self, error: KafkaError | None) -> bool:
        """Tell whether a commit was not refused. Raises BusError where it will be again."""
        if error is None:
            self._refusals = 0
            return True
        if error.code() in KIND_OF:
            raise BusError(_denied(error, self._topic, self._group))
        self._refusals += 1
        passing = error.retriable() or error.code() in _GROUP_CHANGES
        if not passing or self._refusals > REFUSALS_MAX:
            raise BusError(f"offsets could not be committed: {error.str()}")
        self._ask_again_s = monotonic_s() + ASK_AGAIN_S
        log.warning("commit_refused", error=error.str(), action="trying again")
        return False

    def offsets(self, positions: Positions) -> list[TopicPartition]:
        """Return positions as librdkafka takes them."""
        return [TopicPartition(self._topic, partition, offset) for partition, offset in positions.items()]

    def committed(self, positions: Positions) -> list[TopicPartition]:
        """Return the committed offsets of the partitions of some positions. Raises KafkaException."""
        return answered(self._consumer.committed(self.offsets(positions), timeout=REQUEST_TIMEOUT_S))

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

    def listen(self, handover: Handover) -> None:
        """Ask and tell this one when partitions change hands."""
        self._handover = handover

    def close(self) -> None:
        """Leave the group.

        What was under way is served first: partitions that come while librdkafka closes can make it wait for ever.
        """
        self._closing = True
        with contextlib.suppress(KafkaException):
            self._consumer.unsubscribe()
            self._consumer.consume(1, CLOSE_AFTER_S)
        self._consumer.close()

    def _assigned(self, consumer: Any, partitions: list[Any]) -> None:
        if self._closing:
            return
        try:
            self._take(consumer, partitions)
        except KafkaException as error:
            cause = error.args[0]
            if cause.code() in KIND_OF:
                raise BusError(_denied(cause, self._topic, self._group)) from None
            raise BusError(f"partitions of {self._topic} cannot be taken: {cause.str()}") from None

    def _take(self, consumer: Any, partitions: list[Any]) -> None:
        kept = [TopicPartition(self._topic, p) for p in self.emit_from] if self._one_by_one else []
        everything = kept + [part for part in partitions if part.partition not in self.emit_from]
        self.generation += 1
        self.emit_from = {}
        oldest: Positions = {}
        for part, committed in zip(everything, patiently(consumer.committed, everything), strict=True):
            low, high = patiently(consumer.get_watermark_offsets, part)
            oldest[part.partition], self._high[part.partition] = low, high
            self.emit_from[part.partition] = self._served(committed, low, high)
        self.begin_from = dict(oldest)
        if self._handover is not None:
            self.begin_from = self._handover.begin(oldest, self.emit_from)
        for part in everything:
            part.offset = self.begin_from[part.partition]
        log.info("partitions_assigned", partitions=sorted(self.emit_from), emit_from=self.emit_from)
        if not self._one_by_one:
            consumer.assign(everything)
            return
        if kept:
            consumer.incremental_unassign(kept)
        consumer.incremental_assign(everything)

    def _served(self, committed: Any, low: int, high: int) -> int:
        """Return the first offset of a partition that was not served before."""
        if committed.offset < 0:
            return low if self._begin in ("earliest", "smallest", "beginning") else high
        if committed.offset < low:
            raise BusError(
                f"{self._topic}/{committed.partition}: committed offset {committed.offset} is older than the "
                f"oldest message kept ({low}); transactions were deleted before they were scored. Reset the "
                "group's offsets to go on"
            )
        return int(committed.offset)

    def _revoked(self, consumer: Any, partitions: list[Any]) -> None:
        if self._handover is not None:
            self._handover.finish()
        gone = {part.partition for part in partitions}
        log.info("partitions_revoked", partitions=sorted(gone))
        self._give_up(consumer, partitions, gone)

    def _lost(self, consumer: Any, partitions: list[Any]) -> None:
        gone = {part.partition for part in partitions}
        log.warning("partitions_lost", partitions=sorted(gone))
        self._give_up(consumer, partitions, gone)

    def _give_up(self, consumer: Any, partitions: list[Any], gone: set[int]) -> None:
        self.generation += 1
        self.whole = False
        self.emit_from = {p: o for p, o in self.emit_from.items() if self._one_by_one and p not in gone}
        if not self._one_by_one:
            return
        consumer.incremental_unassign(partitions)
        if self.emit_from:
            self._assigned(consumer, [])  # the others are read anew: the state holds rows of those that went


class KafkaReader:
    """Reads a whole topic, all partitions from the oldest message on, outside any group.

    What is older than the retention by then is gone; a partition that is added is seen after the next `rewind`.
    """

    def __init__(self, settings: Settings, topic: str) -> None:
        self._topic = topic
        config = client_config(settings, "consumer") | {"enable.partition.eof": True}
        self._hearing = Hearing(topic, config)
        self._consumer = client(
            Consumer, config | self._hearing.callbacks | {"auto.offset.reset": "earliest"}
        )
        self._ahead: Positions = {}  # the end at the last rewind, until it is reached
        self._next: Positions = {}

    def rewind(self, positions: Positions | None = None) -> None:
        """Begin again at the oldest message of each partition, or at a position where there is one."""
        self._ahead, self._next = {}, {}
        try:
            found = self._consumer.list_topics(self._topic, timeout=REQUEST_TIMEOUT_S).topics[self._topic]
            if found.error is not None:
                raise BusError(f"topic {self._topic} does not exist; run `fraudstream topics create`")
            parts = [TopicPartition(self._topic, partition) for partition in found.partitions]
            for part in parts:
                low, high = patiently(self._consumer.get_watermark_offsets, part)
                part.offset = max(low, (positions or {}).get(part.partition, low))
                self._next[part.partition] = part.offset
                if part.offset < high:
                    self._ahead[part.partition] = high
            self._consumer.assign(parts)
        except KafkaException as error:
            raise BusError(f"{self._topic}: {error.args[0].str()}") from None

    def positions(self) -> Positions:
        """Return the offset behind the last message read of each partition."""
        return dict(self._next)

    def caught_up(self) -> bool:
        """Tell whether everything that was there at the last `rewind` has been read."""
        return not self._ahead

    def poll(self, rows_max: int, timeout_s: float) -> Sequence[Any]:
        """Return up to `rows_max` messages: wait for the first, if at all, then take what is there."""
        polled = self._consumer.consume(1, timeout_s) if timeout_s else []
        if polled or not timeout_s:
            polled += self._consumer.consume(rows_max, 0)
        self._hearing.heard(bool(polled))
        messages = _usable(polled, self._topic)
        for message in messages:
            self._next[message.partition()] = message.offset() + 1
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


def _denied(error: KafkaError, topic: str, group: str) -> str:
    """Return which right a reader of the topic lacks."""
    of_group = error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED
    return lacks([Right("group", group, "Read") if of_group else Right("topic", topic, "Read")])


def _usable(polled: list[Any], topic: str, group: str = "") -> list[Any]:
    """Return the messages among what was polled. Raises BusError where waiting does not help.

    Args:
        group: whose member reads; empty: none, and what is refused to a group does not matter.
    """
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
        elif error.code() == KafkaError._FATAL and _FENCED in error.str():
            raise FencedError(f"another worker has joined as this one (worker.instance): {error.str()}")
        elif error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            raise BusError(_denied(error, topic, group))
        elif error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            if group:
                raise BusError(_denied(error, topic, group))
        elif error.code() == KafkaError._FATAL:  # `fatal()` of a message's error is False
            raise BusError(f"the consumer cannot go on: {error.str()}")
        elif error.code() != KafkaError._PARTITION_EOF:
            log.warning("consume_error", topic=topic, error=error.str())
    return messages
