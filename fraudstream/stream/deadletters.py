"""The dead letters: which are open, what they hold, and their way back to where they came from, once.

A letter is open until it has been replayed. How far that has come is kept in Kafka, as the offsets of the group
`{worker.group}.dlq`: they move in the same transaction that sends the originals back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from fraudstream.bus.base import Headers, Positions
from fraudstream.bus.clients import MESSAGE_BYTES_MAX, REQUEST_TIMEOUT_S, client, client_config, patiently
from fraudstream.bus.kafka_log import Advance, KafkaLog
from fraudstream.bus.topics import meet_broker
from fraudstream.errors import BusError
from fraudstream.sections import Settings
from fraudstream.stream.publish import DLQ_PREFIX

LETTERS_A_TRANSACTION = 1_000


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter.

    Attributes:
        partition, offset: where it stands among the dead letters.
        sent_ms: when it was sent there, Unix milliseconds.
        why: what its headers say: `topic`, `partition`, `offset`, `stage`, `path`, `reason`.
        headers: those of the original.
    """

    partition: int
    offset: int
    sent_ms: int
    why: dict[str, str]
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters are meant; empty: all.

    Attributes:
        reason: a part of the reason's text.
    """

    stage: str = ""
    path: str = ""
    reason: str = ""

    def takes(self, letter: Letter) -> bool:
        """Tell whether a letter is meant."""
        why = letter.why
        return (
            (not self.stage or why.get("stage") == self.stage)
            and (not self.path or why.get("path") == self.path)
            and self.reason in why.get("reason", "")
        )


@dataclass(slots=True)
class Replayed:
    """What a replay did.

    Attributes:
        replayed: sent back to where they came from; kept: moved to the end of the dead letters, still open.
        foreign: of these, how many came from a topic that the settings do not name, and were not sent there.
    """

    replayed: int = 0
    kept: int = 0
    foreign: int = 0
    topics: dict[str, int] = field(default_factory=dict)


class DeadLetters:
    """The topic of dead letters, up to its current end.

    Args:
        advance: told of what is read, for a progress bar.
        part: `dlq list` or `dlq replay`, for what is to be done.

    Raises:
        BusError: there is no such topic, the broker cannot be reached, or a right is missing.
    """

    def __init__(self, settings: Settings, advance: Advance, part: str = "dlq list") -> None:
        meet_broker(settings, part)
        self._settings = settings
        self._topic = settings.topics.dlq
        self._group = f"{settings.worker.group}.dlq"
        self._log = KafkaLog(settings, advance)
        self._consumer = client(Consumer, client_config(settings, "consumer") | {"group.id": self._group})

    def read(self, everything: bool = False) -> Iterator[Letter]:
        """Yield the open letters, or all that are kept."""
        begin = None if everything else self._replayed_to()
        return map(_letter, self._log.scan(self._topic, begin=begin))

    def at(self, partition: int, offset: int) -> Letter | None:
        """Return the letter that stands at a position; None where there is none."""
        message = self._log.at(self._topic, partition, offset)
        return None if message is None else _letter(message)

    def goes_back(self, letter: Letter, chosen: Filter) -> bool:
        """Tell whether a letter is meant, and comes from a topic that the settings name."""
        return self._is_ours(letter) and chosen.takes(letter)

    def replay(self, chosen: Filter) -> Replayed:
        """Send the open letters that are meant back; return what was done.

        The others are moved to the end of the dead letters in the same transaction, where they stay open.

        Raises:
            BusError: saying how many were sent before.
        """
        producer, done, letters = self._producer(), Replayed(), self.read()
        while batch := list(islice(letters, LETTERS_A_TRANSACTION)):
            self._send(producer, batch, chosen, done)
        return done

    def close(self) -> None:
        """Give the consumers back."""
        self._log.close()
        self._consumer.close()

    def _is_ours(self, letter: Letter) -> bool:
        topics = self._settings.topics
        return letter.why.get("topic", "") in (topics.transactions, topics.labels)

    def _replayed_to(self) -> Positions:
        try:
            found = self._consumer.list_topics(self._topic, timeout=REQUEST_TIMEOUT_S).topics[self._topic]
            parts = [TopicPartition(self._topic, partition) for partition in found.partitions]
            committed = patiently(self._consumer.committed, parts)
        except KafkaException as error:
            raise BusError(f"{self._topic}: {error.args[0].str()}") from None
        return {part.partition: part.offset for part in committed if part.offset >= 0}

    def _producer(self) -> Producer:
        config = client_config(self._settings, "producer") | {"transactional.id": f"{self._group}-replay"}
        config.setdefault("message.max.bytes", MESSAGE_BYTES_MAX)
        producer = client(Producer, config)
        try:
            producer.init_transactions(2 * REQUEST_TIMEOUT_S)
        except KafkaException as error:
            raise BusError(f"no transactions for a replay: {error.args[0].str()}") from None
        return producer

    def _send(self, producer: Producer, letters: list[Letter], chosen: Filter, done: Replayed) -> None:
        """Send letters and move the group's offsets behind them: all of it, or nothing."""
        positions: Positions = {}
        kept = foreign = 0
        back: dict[str, int] = {}
        try:
            producer.begin_transaction()
            for letter in letters:
                positions[letter.partition] = letter.offset + 1
                if self.goes_back(letter, chosen):
                    origin = letter.why["topic"]
                    back[origin] = back.get(origin, 0) + 1
                    producer.produce(origin, letter.value, letter.key, headers=letter.headers)
                else:
                    kept += 1
                    foreign += not self._is_ours(letter)
                    headers = letter.headers + [(DLQ_PREFIX + k, v.encode()) for k, v in letter.why.items()]
                    producer.produce(self._topic, letter.value, letter.key, headers=headers)
            offsets = [TopicPartition(self._topic, p, offset) for p, offset in positions.items()]
            producer.send_offsets_to_transaction(offsets, self._consumer.consumer_group_metadata())
            producer.commit_transaction(2 * REQUEST_TIMEOUT_S)
        except KafkaException as error:
            raise BusError(
                f"the replay stopped, {sum(done.topics.values())} letters were sent back before: "
                f"{error.args[0].str()}; run it again to go on"
            ) from None
        done.kept += kept
        done.foreign += foreign
        for origin, number in back.items():
            done.topics[origin] = done.topics.get(origin, 0) + number
        done.replayed = sum(done.topics.values())


def _letter(message: Any) -> Letter:
    headers, why = [], {}
    for name, value in message.headers() or []:
        if name.startswith(DLQ_PREFIX):
            why[name.removeprefix(DLQ_PREFIX)] = (value or b"").decode(errors="replace")
        else:
            headers.append((name, value))
    return Letter(
        message.partition(),
        message.offset(),
        message.timestamp()[1],
        why,
        message.key(),
        message.value(),
        headers,
    )
