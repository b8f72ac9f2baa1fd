"""Several topics read on from given positions, outside any group: nothing is left out unnoticed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from fraudstream.bus.base import Positions
from fraudstream.bus.clients import REQUEST_TIMEOUT_S, client, client_config, patiently
from fraudstream.bus.rights import Right, lacks
from fraudstream.clock import Seldom
from fraudstream.errors import BusError
from fraudstream.sections import Settings

log = structlog.get_logger("kafka")

_LOOK_FOR_PARTITIONS_S = 60.0
_WAYS_ON = (
    "messages were deleted before they were archived; lengthen the topic's retention. `fraudstream archive "
    "--skip-gap` goes on behind the gap"
)

Place = tuple[str, int]  # topic and partition


class KafkaTail:
    """Reads the committed messages of topics, each partition from its position, else from the oldest kept.

    Args:
        positions: what is to be read next, by topic.
        skip_gap: go on at the oldest message kept where a position is older.

    Raises:
        BusError: there is no such topic, or a position is not in it any more.
    """

    def __init__(self, settings: Settings, positions: Mapping[str, Positions], skip_gap: bool) -> None:
        self.positions = {topic: dict(begin) for topic, begin in positions.items()}
        self._skip_gap = skip_gap
        config = client_config(settings, "consumer") | {
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
        }
        self._consumer = client(Consumer, config)
        self._read: set[Place] = set()
        self._high: dict[Place, int] = {}
        self._ahead: set[Place] = set()  # not at its end yet, since it is read
        self._seldom = Seldom(_LOOK_FOR_PARTITIONS_S)
        self._look()

    def caught_up(self) -> bool:
        """Tell whether everything that was there at the beginning has been read."""
        return not self._ahead

    def waiting(self) -> int:
        """Return how many messages are known to wait."""
        total = 0
        for topic, partition in self._read:
            _, high = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), cached=True)
            total += max(0, max(high, self._high[topic, partition]) - self.positions[topic][partition])
        return total

    def poll(self, rows_max: int, timeout_s: float) -> Sequence[Any]:
        """Return up to `rows_max` messages: wait for the first, then take what is there. Raises BusError."""
        self._look()
        polled = self._consumer.consume(1, timeout_s)
        polled += self._consumer.consume(rows_max, 0) if polled else []
        messages = []
        for message in polled:
            error, place = message.error(), (message.topic(), message.partition())
            if error is None:
                self._pass(place, message.offset() + 1)
                messages.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                self._pass(
                    place, message.offset()
                )  # behind the markers of transactions, which are no messages
                self._ahead.discard(place)
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                raise BusError(f"{place[0]}/{place[1]}: {_WAYS_ON} ({error.str()})")
            elif error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise BusError(lacks([Right("topic", place[0], "Read")]))
            elif error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
                pass  # no member of a group reads here
            elif error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._FATAL):
                raise BusError(f"{place[0]}: {error.str()}")
            else:
                log.warning("consume_error", topic=place[0], error=error.str())
        return messages

    def close(self) -> None:
        """Drop the consumer."""
        self._consumer.close()

    def _pass(self, place: Place, position: int) -> None:
        topic, partition = place
        self.positions[topic][partition] = max(position, self.positions[topic][partition])
        if position >= self._high[place]:
            self._ahead.discard(place)

    def _look(self) -> None:
        """Take in partitions that are not read yet."""
        if not self._seldom.now():
            return
        found = []
        for topic, begin in self.positions.items():
            try:
                known = self._consumer.list_topics(topic, timeout=REQUEST_TIMEOUT_S).topics[topic]
                if known.error is not None:
                    raise BusError(f"topic {topic} does not exist; run `fraudstream topics create`")
                for partition in sorted(known.partitions):
                    if (topic, partition) not in self._read:
                        begin[partition] = self._begin(topic, partition)
                        found.append(TopicPartition(topic, partition, begin[partition]))
            except KafkaException as error:
                if not self._read:
                    raise BusError(f"{topic}: {error.args[0].str()}") from None
                log.debug("partitions_unknown", topic=topic, error=error.args[0].str())
        self._read.update((part.topic, part.partition) for part in found)
        if found:
            self._consumer.incremental_assign(found)

    def _begin(self, topic: str, partition: int) -> int:
        part = TopicPartition(topic, partition)
        low, high = patiently(self._consumer.get_watermark_offsets, part)
        position = self.positions[topic].get(partition, low)
        if position > high:
            raise BusError(
                f"{topic}/{partition}: is archived up to offset {position}, but ends at {high}: it is another topic "
                "of the same name; give another archive.uri"
            )
        if position < low:
            if not self._skip_gap:
                raise BusError(f"{topic}/{partition}: offsets {position} to {low - 1}: {_WAYS_ON}")
            log.warning("archive_gap", topic=topic, partition=partition, begin=position, end=low)
            position = low
        self._high[topic, partition] = high
        if position < high:
            self._ahead.add((topic, partition))
        return position
