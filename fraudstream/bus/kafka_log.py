"""A topic as a log to look things up in: read through from an instant on, or one message by its position."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from fraudstream.bus.base import Positions
from fraudstream.bus.clients import REQUEST_TIMEOUT_S, client, client_config, patiently
from fraudstream.clock import monotonic_s
from fraudstream.errors import BusError
from fraudstream.sections import Settings

SILENCE_MAX_S = 60.0
_READ_ROWS = 500

Advance = Callable[[str, int, int | None], None]  # what, how many more, of how many


class KafkaLog:
    """Reads topics outside any group; commits nothing.

    Args:
        advance: told of what is read, for a progress bar.

    Memory: the messages that librdkafka fetches ahead (`queued.max.messages.kbytes`), whatever the topic holds.
    """

    def __init__(self, settings: Settings, advance: Advance) -> None:
        self._advance = advance
        config = client_config(settings, "consumer") | {
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,  # else each question behind a fetch at a topic's end waits half a second
        }
        self._config = config | {"auto.offset.reset": "earliest"}
        self._consumer = client(Consumer, self._config)
        self._reader: Any = None

    def scan(self, topic: str, since_ms: int | None = None, begin: Positions | None = None) -> Iterator[Any]:
        """Yield a topic's messages up to its current end, in order within a partition.

        Args:
            since_ms: only those of this time stamp or later; None: from the oldest on.
            begin: where to begin in some partitions.

        Raises:
            BusError: there is no such topic, or nothing more comes before the end.
        """
        try:
            yield from self._scan(topic, since_ms, begin or {})
        except KafkaException as error:
            raise BusError(f"{topic}: {error.args[0].str()}") from None

    def at(self, topic: str, partition: int, offset: int) -> Any | None:
        """Return the message of a position; None where it is not there any more.

        Raises:
            BusError: there is no such topic, or the broker does not answer.
        """
        where = TopicPartition(topic, partition, offset)
        try:
            if partition not in self._partitions(topic):
                return None
            low, high = patiently(self._consumer.get_watermark_offsets, where)
            if not low <= offset < high:
                return None
            for message in self._heard(topic, [where]):
                if message.error() is None:
                    return message if message.offset() == offset else None
                return None
        except KafkaException as error:
            raise BusError(f"{topic}: {error.args[0].str()}") from None
        return None

    def close(self) -> None:
        """Drop the consumers."""
        self._drop_reader()
        self._consumer.close()

    def _scan(self, topic: str, since_ms: int | None, begin: Positions) -> Iterator[Any]:
        parts = [TopicPartition(topic, partition) for partition in self._partitions(topic)]
        ends: dict[int, int] = {}
        starts: dict[int, int] = {}
        for part in parts:
            low, high = patiently(self._consumer.get_watermark_offsets, part)
            starts[part.partition] = max(low, begin.get(part.partition, low))
            ends[part.partition] = high
        if since_ms is not None:
            asked = [TopicPartition(topic, part.partition, max(0, since_ms)) for part in parts]
            for found in patiently(self._consumer.offsets_for_times, asked):
                starts[found.partition] = found.offset if found.offset >= 0 else ends[found.partition]
        left = {partition: end for partition, end in ends.items() if starts[partition] < end}
        total = sum(end - starts[partition] for partition, end in left.items())
        if not left:
            return
        begin_at = [TopicPartition(topic, partition, starts[partition]) for partition in left]
        for message in self._heard(topic, begin_at):
            partition, error = message.partition(), message.error()
            if error is None:
                self._advance(f"reading {topic}", 1, total)
                if partition in left and message.offset() < left[partition]:
                    yield message
            if error is not None or message.offset() + 1 >= left.get(partition, 0):
                left.pop(partition, None)  # an end may be a marker of a transaction, which is no message
            if not left:
                return

    def _heard(self, topic: str, begin: list[Any]) -> Iterator[Any]:
        """Yield messages and ends of partitions as they come.

        Each time with another consumer: one that read before may still give what it had fetched, ends included.
        """
        self._drop_reader()
        self._reader = client(Consumer, self._config)
        self._reader.assign(begin)
        heard_s = monotonic_s()
        while monotonic_s() - heard_s < SILENCE_MAX_S:
            for message in self._reader.consume(_READ_ROWS, 0.1):
                error = message.error()
                if error is not None and error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
                    continue  # no member of a group reads here
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise BusError(f"{topic}: {error.str()}")
                heard_s = monotonic_s()
                yield message
        raise BusError(f"{topic}: no message for {SILENCE_MAX_S:.0f} s before its end")

    def _drop_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _partitions(self, topic: str) -> list[int]:
        found = self._consumer.list_topics(topic, timeout=REQUEST_TIMEOUT_S).topics[topic]
        if found.error is not None:
            raise BusError(f"topic {topic} does not exist; run `fraudstream topics create`")
        return sorted(found.partitions)
