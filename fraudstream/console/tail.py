"""Alerts live in a terminal, or as JSON lines."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, TopicPartition
from rich.markup import escape

from fraudstream.bus.clients import client, client_config
from fraudstream.bus.rights import Right, lacks
from fraudstream.bus.topics import wait_for_broker
from fraudstream.errors import BusError
from fraudstream.records import PATH, Alert
from fraudstream.sections import Settings
from fraudstream.words import currency_digits

_POLL_S = 0.5
_READ_MAX = 500
_GROUPS_SHOWN = 4


def masked(text: str) -> str:
    """Hide all but the last four characters of what looks like a card number.

    >>> masked("4111111111111111"), masked("card_000123")
    ('************1111', 'card_000123')
    """
    digits = text.replace(" ", "").replace("-", "")
    return "*" * (len(digits) - 4) + digits[-4:] if digits.isdigit() and 12 <= len(digits) <= 19 else text


def read_topic(settings: Settings, topic: str, from_beginning: bool) -> Iterator[list[bytes]]:
    """Yield the values of a topic as they come, in lists that may be empty, for ever.

    Reads without a consumer group of its own: nothing is committed, other readers are not disturbed.
    """
    reads = [Right("topic", topic, "Read")]
    wait_for_broker(settings, reads, lambda: False)
    config = client_config(settings, "consumer") | {"group.id": f"fraudstream-tail-{uuid.uuid4()}"}
    consumer = client(Consumer, config)
    try:
        known = consumer.list_topics(topic, timeout=10.0).topics[topic].partitions
        start = OFFSET_BEGINNING if from_beginning else OFFSET_END
        consumer.assign([TopicPartition(topic, partition, start) for partition in known])
        while True:
            messages = consumer.consume(1, _POLL_S)
            messages += consumer.consume(_READ_MAX, 0) if messages else []
            for message in messages:
                error = message.error()
                if error is not None and error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                    raise BusError(lacks(reads))
            yield [m.value() for m in messages if m.error() is None and m.value() is not None]
    finally:
        consumer.close()


def alert_text(alert: Alert) -> str:
    """Say an alert in a few lines, for a rich console; card numbers are masked."""
    colour = "red" if alert.outcome == "decline" else "yellow"
    entities = ", ".join(f"{name} {masked(text)}" for name, text in alert.entities.items())
    amount = f"{alert.amount:,.{currency_digits(alert.currency)}f}"
    head = (
        f"[bold {colour}]{escape(alert.outcome.upper())}[/] {alert.risk_points} points "
        f"({alert.score:.0%})  {alert.event_time[:19]}Z  {amount} {escape(alert.currency or '')}  "
        f"[dim]{escape(alert.transaction_id)}[/]"
    )
    lines = [head, f"  {escape(entities)}"]
    raising = [group for group in alert.groups if group.contribution > 0][:_GROUPS_SHOWN]
    if raising:
        told = ", ".join(f"{escape(group.text)} [dim]+{group.contribution:.2f}[/]" for group in raising)
        lines.append(f"  {told}" + ("" if alert.method != PATH else f" [dim]({PATH})[/]"))
    lines += [f"  - {escape(reason.text)} [dim](+{reason.contribution:.2f})[/]" for reason in alert.reasons]
    return "\n".join(lines)
