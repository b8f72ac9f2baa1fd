"""Topics -> the archive: messages are gathered, then written with the positions behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from fraudstream.bus.archive import Archive
from fraudstream.bus.base import Positions
from fraudstream.bus.formats import new_reader
from fraudstream.bus.raw import RAW_ORDER
from fraudstream.bus.store import Store
from fraudstream.clock import monotonic_s, now_ms
from fraudstream.decode import Decoder
from fraudstream.sections import Settings
from fraudstream.stream.archivekinds import Features, Kind, Transactions, decisions, labels

log = structlog.get_logger("archive")

POLL_ROWS = 5_000
POLL_S = 0.2
BYTES_GATHERED_MAX = 64_000_000  # of one topic; then it is written at once
ROWS_GATHERED_MAX = 200_000
COMPACT_FILES_MIN = 8

Advance = Callable[[str, int, int | None], None]  # what, how many more, of how many


class Tail(Protocol):
    """Where messages come from: topics read on from positions."""

    positions: dict[str, Positions]

    def caught_up(self) -> bool:
        """Tell whether everything that was there at the beginning has been read."""

    def waiting(self) -> int:
        """Return how many messages are known to wait."""

    def poll(self, rows_max: int, timeout_s: float) -> Sequence[Any]:
        """Return up to `rows_max` messages."""

    def close(self) -> None:
        """Give everything back."""


@dataclass
class Shelf:
    """What is gathered of one topic, and where it goes."""

    kind: Kind
    archive: Archive
    messages: list[Any] = field(default_factory=list)
    octets: int = 0
    rows: int = 0
    bad: int = 0

    def gather(self, message: Any) -> None:
        """Keep a message until it is written."""
        self.messages.append(message)
        self.octets += len(message.value() or b"") + len(message.key() or b"")

    def full(self) -> bool:
        """Tell whether it must be written now."""
        return self.octets >= BYTES_GATHERED_MAX or len(self.messages) >= ROWS_GATHERED_MAX

    def write(self, positions: Positions) -> None:
        """Write what is gathered; it and the positions last when this returns. Raises BusError."""
        if not self.messages and positions == self.archive.positions:
            return
        tables, bad = self.kind.tables(self.messages)
        self.archive.append(tables, bad, positions)
        unread = sum(len(table) for table in bad.values())
        self.rows += len(self.messages)
        self.bad += unread
        log.info("archived", topic=self.kind.topic, rows=len(self.messages), bad=unread)
        self.messages, self.octets = [], 0


class Archiver:
    """Archives topics until it is stopped or has caught up.

    Args:
        open_tail: opens the topics at positions.
    """

    def __init__(
        self,
        settings: Settings,
        open_tail: Callable[[dict[str, Positions]], Tail],
        advance: Advance,
    ) -> None:
        store = Store(settings.archive.uri)
        self.uri = store.uri
        self._lock = store.lock()
        self._advance = advance
        self._interval_s = settings.archive.interval_ms / 1000
        self.shelves = {
            kind.topic: Shelf(kind, Archive(store.sub(kind.name), kind.topic)) for kind in kinds_of(settings)
        }
        self._tail = open_tail({topic: shelf.archive.positions for topic, shelf in self.shelves.items()})
        self._total = self._tail.waiting()
        self._written_s = monotonic_s()

    def step(self) -> None:
        """Read what is there, and write what is due. Raises BusError."""
        messages = self._tail.poll(POLL_ROWS, POLL_S)
        self._advance("archiving messages", len(messages), self._total)
        for message in messages:
            self.shelves[message.topic()].gather(message)
        due = monotonic_s() - self._written_s >= self._interval_s
        for topic, shelf in self.shelves.items():
            if due or shelf.full():
                shelf.write(self._tail.positions[topic])
        if due:
            self._written_s = monotonic_s()
            self.compact(COMPACT_FILES_MIN)

    def caught_up(self) -> bool:
        """Tell whether everything that was there at the beginning has been read."""
        return self._tail.caught_up()

    def waiting(self) -> int:
        """Return how many messages are known to wait."""
        return self._tail.waiting()

    def write(self) -> None:
        """Write what is gathered. Raises BusError."""
        for topic, shelf in self.shelves.items():
            shelf.write(self._tail.positions[topic])

    def compact(self, files_min: int) -> int:
        """Merge small files of dates that have so many; return how many are gone. Raises BusError."""
        return sum(
            shelf.archive.compact(shelf.kind.order, RAW_ORDER, now_ms(), files_min)
            for shelf in self.shelves.values()
        )

    def close(self) -> None:
        """Give everything back; what was not written is read again next time."""
        self._tail.close()
        if self._lock is not None:
            self._lock.close()


def kinds_of(settings: Settings) -> list[Kind]:
    """Return what is archived; the feature log where it is on."""
    topics = settings.topics
    found: list[Kind] = [
        Transactions(
            topics.transactions, Decoder(settings.event, set(settings.event.fields)), new_reader(settings)
        ),
        decisions(topics.decisions),
        labels(topics.labels),
    ]
    if settings.worker.feature_log:
        found.append(Features(topics.features))
    return found
