"""Verdicts: what analysts say of transactions, on its way into the label topic, and what is known already.

A label has the key of its transaction and goes to the partition of the same number. Both are learned from what was
sent about the transaction: its alert, else its decision.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import KafkaException, Producer

from fraudstream.bus.clients import FLUSH_TIMEOUT_S, REQUEST_TIMEOUT_S, client, client_config
from fraudstream.bus.kafka_log import KafkaLog
from fraudstream.clock import iso
from fraudstream.console.alerts import identity_of
from fraudstream.decode import LabelDecoder
from fraudstream.errors import BusError, ConfigError
from fraudstream.records import Label
from fraudstream.sections import LabelSettings, Settings

IDS_MAX = 10_000  # labelled at once
_SHOWN = 5


class Place(NamedTuple):
    """Where a transaction stands.

    Attributes:
        partition: of its topic; None: that of its key.
        event_time_ms: None where it is not known.
    """

    key: bytes
    partition: int | None = None
    event_time_ms: int | None = None


class Sent(NamedTuple):
    """A label that was acknowledged, and where it stands."""

    label: Label
    partition: int
    offset: int


class _Named(msgspec.Struct, gc=False):
    transaction_id: str
    event_time_ms: int


def ids_from(lines: Iterable[str]) -> Iterator[str]:
    """Read transaction ids, one a line: as they are, or as JSON objects with a `transaction_id` (alerts).

    Raises:
        ConfigError: naming the line that is neither.
    """
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text.startswith("{"):
            try:
                found = msgspec.json.decode(text).get("transaction_id")
            except msgspec.DecodeError:
                found = None
            if not isinstance(found, str):
                raise ConfigError(
                    f"line {number}: give a transaction id, or a JSON object with a transaction_id"
                )
            yield found
        elif text:
            yield text


def find_places(
    log: KafkaLog, settings: Settings, wanted: Collection[str], since_ms: int
) -> dict[str, Place]:
    """Look transactions up by id: in the alerts, and those that did not alert in the decisions.

    Args:
        since_ms: what was written before is not read.

    Raises:
        BusError: naming those that are not there.
    """
    found: dict[str, Place] = {}
    left = set(wanted)
    decode = msgspec.json.Decoder(_Named).decode
    for topic in (settings.topics.alerts, settings.topics.decisions):
        for message in log.scan(topic, since_ms) if left else ():
            try:
                named = decode(message.value() or b"")
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            if named.transaction_id in left:
                left.discard(named.transaction_id)
                found[named.transaction_id] = _place(message, named.event_time_ms)
            if not left:
                return found
    if left:
        shown = ", ".join(sorted(left)[:_SHOWN]) + (
            f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
        )
        raise BusError(
            f"{shown}: not in {settings.topics.alerts} or {settings.topics.decisions} since {iso(since_ms)}; "
            "look further back with --within, or give the message key (the card) as --key; nothing was sent"
        )
    return found


def _place(message: Any, event_time_ms: int) -> Place:
    """Return where the transaction stands that a decision or an alert is of: its `ce_id` says so."""
    _, _, at = (identity_of(message) or b"").decode("utf-8", "replace").rpartition("/")[0].rpartition("/")
    partition = int(at) if at.isdigit() else message.partition()
    return Place(message.key(), partition, event_time_ms)


def check_labels(labels: Sequence[Label], places: Mapping[str, Place], now_ms: int) -> None:
    """Refuse labels that would become dead letters, or that were known when nothing could be known.

    Raises:
        ConfigError: naming the first.
    """
    _, rejected = LabelDecoder().decode([msgspec.json.encode(label) for label in labels])
    if rejected:
        label, error = labels[rejected[0].row], rejected[0].error
        raise ConfigError(f"label of {label.transaction_id!r}: {error.path}: {error.reason}")
    for label in labels:
        event_ms = places[label.transaction_id].event_time_ms
        if label.known_at > now_ms:
            raise ConfigError(f"--known-at {iso(label.known_at)}: is in the future; give when it was known")
        if event_ms is not None and label.known_at < min(event_ms, now_ms):  # a clock may be behind
            raise ConfigError(
                f"--known-at {iso(label.known_at)}: is before {label.transaction_id} itself ({iso(event_ms)})"
            )


def send_labels(settings: Settings, labels: Sequence[Label], places: Mapping[str, Place]) -> list[Sent]:
    """Send labels, each to the partition of its transaction; return once all are acknowledged.

    The producer is idempotent: one that is sent again by the client is there once.

    Raises:
        BusError: the broker cannot be reached, has too few partitions, or did not acknowledge one.
    """
    topic = settings.topics.labels
    producer = client(Producer, client_config(settings, "producer"))
    sent: list[Sent] = []
    failed: list[str] = []

    def report(label: Label, error: Any, message: Any) -> None:
        if error is not None:
            failed.append(error.str())
        else:
            sent.append(Sent(label, message.partition(), message.offset()))

    _check_partitions(producer, topic, places)
    for label in labels:
        place = places[label.transaction_id]
        where = {} if place.partition is None else {"partition": place.partition}
        producer.produce(
            topic,
            msgspec.json.encode(label),
            place.key,
            on_delivery=lambda error, message, label=label: report(label, error, message),
            **where,
        )
        producer.poll(0)
    left = producer.flush(FLUSH_TIMEOUT_S)
    if failed or left:
        why = failed[0] if failed else f"no answer within {FLUSH_TIMEOUT_S:.0f} s"
        raise BusError(
            f"{topic}: {len(failed) + left} of {len(labels)} labels were not delivered: {why}; give them again"
        )
    return sent


def _check_partitions(producer: Producer, topic: str, places: Mapping[str, Place]) -> None:
    try:
        known = producer.list_topics(topic, timeout=REQUEST_TIMEOUT_S).topics[topic]
    except KafkaException as error:
        raise BusError(f"{topic}: {error.args[0].str()}") from None
    if known.error is not None:
        raise BusError(f"topic {topic} does not exist; run `fraudstream topics create`")
    highest = max((place.partition or 0 for place in places.values()), default=0)
    if highest >= len(known.partitions):
        raise BusError(
            f"topic {topic} has {len(known.partitions)} partitions, a transaction stands in number {highest}; "
            "both topics need as many"
        )


def read_verdicts(
    log: KafkaLog, settings: Settings, since_ms: int | None, wanted: Collection[str] | None = None
) -> dict[str, list[Label]]:
    """Return the labels in the topic by transaction, in the order of writing; bad ones are passed over.

    Args:
        since_ms: what was written before is not read; None: all that is kept.
        wanted: of these transactions only.
    """
    found: dict[str, list[Label]] = defaultdict(list)
    decoder = LabelDecoder()
    for message in log.scan(settings.topics.labels, since_ms):
        labels, _ = decoder.decode([message.value()])
        for label in labels:
            if wanted is None or label.transaction_id in wanted:
                found[label.transaction_id].append(label)
    return dict(found)


def verdict_of(labels: Sequence[Label], settings: LabelSettings) -> str | None:
    """Return what counts of a transaction's labels: the highest source's latest word; None: there is none."""
    ranks = settings.ranks
    last = max(
        enumerate(labels),
        key=lambda one: (ranks.get(one[1].source, 0), one[1].known_at, one[0]),
        default=None,
    )
    return None if last is None else last[1].label


def verdicts_since(log: KafkaLog, settings: Settings, since_ms: int | None) -> dict[str, str]:
    """Return what counts of each transaction's labels, of those written since an instant."""
    found = read_verdicts(log, settings, since_ms)
    return {one: word for one, labels in found.items() if (word := verdict_of(labels, settings.labels))}
