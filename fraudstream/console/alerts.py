"""Alerts looked through: which ones are wanted, and those of the topic up to its current end."""

from __future__ import annotations

import heapq
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
from rich.console import Console

from fraudstream.bus.kafka_log import KafkaLog
from fraudstream.clock import monotonic_s
from fraudstream.console.tail import alert_text, masked, read_topic
from fraudstream.errors import ConfigError
from fraudstream.event import EventType
from fraudstream.records import Alert
from fraudstream.sections import Settings

_decode = msgspec.json.Decoder(Alert).decode


class Told(NamedTuple):
    """An alert, and the bytes in which it was sent."""

    alert: Alert
    value: bytes


@dataclass(frozen=True, slots=True)
class AlertFilter:
    """Which alerts are wanted; what is left as it is lets all through.

    Attributes:
        entities: by kind, as the alert has them or as a person reads them (masked).
        model: `name/version`, or the version alone.
        since_ms, until_ms: event times from the one on and before the other, Unix ms.
    """

    entities: Mapping[str, str] = field(default_factory=dict)
    outcome: str = ""
    case_id: str = ""
    model: str = ""
    points_min: int = 0
    score_min: float = 0.0
    expected_loss_min: float = 0.0
    since_ms: int | None = None
    until_ms: int | None = None

    def takes(self, alert: Alert) -> bool:
        """Tell whether an alert is wanted."""
        return (
            alert.risk_points >= self.points_min
            and alert.score >= self.score_min
            and (alert.expected_loss or 0.0) >= self.expected_loss_min
            and self.outcome in ("", alert.outcome)
            and self.case_id in ("", alert.case_id)
            and self.model in ("", alert.model, alert.model.rpartition("/")[2])
            and (self.since_ms is None or alert.event_time_ms >= self.since_ms)
            and (self.until_ms is None or alert.event_time_ms < self.until_ms)
            and all(_is(alert.entities.get(kind), wanted) for kind, wanted in self.entities.items())
        )


def _is(text: str | None, wanted: str) -> bool:
    return text is not None and wanted in (text, masked(text))


def entities_of(given: Sequence[str], event: EventType) -> dict[str, str]:
    """Read `card=card_000846` as entities by kind.

    Raises:
        ConfigError: it is of another form, or no entity that alerts name.
    """
    named = [name for name, declared in event.entities.items() if isinstance(declared, str)]
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or name not in named:
            raise ConfigError(f'--entity = "{text}": give NAME=VALUE; NAME is one of {", ".join(named)}')
        found[name] = value
    return found


def told_of(value: bytes | None) -> Told | None:
    """Read a message of the alerts' topic; None where it is no alert."""
    try:
        return None if value is None else Told(_decode(value), value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def read_alerts(log: KafkaLog, settings: Settings, wanted: AlertFilter) -> Iterator[Told]:
    """Yield the wanted alerts of the topic, each once, in the order of writing within a partition.

    An alert is written at most `event.future_tolerance` before its event time: older messages are not read.
    """
    seen: set[bytes] = set()
    for message in log.scan(settings.topics.alerts, written_since(settings, wanted.since_ms)):
        told = told_of(message.value())
        if told is None or not wanted.takes(told.alert):
            continue
        identity = identity_of(message) or told.alert.transaction_id.encode()
        if identity not in seen:
            seen.add(identity)
            yield told


def written_since(settings: Settings, event_ms: int | None) -> int | None:
    """Return since when messages about transactions of an event time or later can have been written, Unix ms."""
    return None if event_ms is None else max(0, event_ms - settings.event.future_tolerance_ms)


def identity_of(message: Any) -> bytes | None:
    """Return a message's `ce_id`, which is the same where it was written twice."""
    return next((value for name, value in message.headers() or [] if name == "ce_id"), None)


SORTS: dict[str, Callable[[Alert], tuple[float, ...]]] = {
    "expected_loss": lambda alert: (alert.expected_loss or 0.0, alert.event_time_ms),
    "points": lambda alert: (alert.risk_points, alert.score, alert.event_time_ms),
    "time": lambda alert: (alert.event_time_ms,),
}


def first_of(alerts: Iterator[Told], sort: str, limit: int) -> tuple[list[Told], int]:
    """Return the first alerts by a key of SORTS, the largest first, and of how many. Memory: `limit` alerts."""
    key, number = SORTS[sort], itertools.count()
    counted = (told for told, _ in zip(alerts, number, strict=False))
    return heapq.nlargest(limit, counted, key=lambda told: key(told.alert)), next(number)


def tail_alerts(
    settings: Settings,
    wanted: AlertFilter,
    from_beginning: bool,
    count: int | None,
    idle_s: float | None,
    as_json: bool,
) -> None:
    """Print wanted alerts until `count` are shown or none came for `idle_s` seconds; for ever without either."""
    console = Console(highlight=False, soft_wrap=True)
    shown, last_s = 0, monotonic_s()
    for values in read_topic(settings, settings.topics.alerts, from_beginning):
        for told in filter(None, map(told_of, values)):
            if not wanted.takes(told.alert):
                continue
            if as_json:
                sys.stdout.write(told.value.decode() + "\n")
            else:
                console.print(alert_text(told.alert))
            shown += 1
            last_s = monotonic_s()
            if count is not None and shown >= count:
                sys.stdout.flush()
                return
        sys.stdout.flush()
        if idle_s is not None and monotonic_s() - last_s > idle_s:
            return
