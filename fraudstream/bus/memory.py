"""A bus in memory: the tests' and the benchmarks' own log, with the same interface as Kafka's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fraudstream.bus.base import Headers, Positions


@dataclass(frozen=True, slots=True)
class MemoryMessage:
    """One message of the memory log."""

    _value: bytes | None
    _key: bytes | None = b"key"
    _headers: Headers | None = None
    _partition: int = 0
    _offset: int = 0
    _timestamp_ms: int = 0

    def value(self) -> bytes | None:
        """Return the payload."""
        return self._value

    def key(self) -> bytes | None:
        """Return the key."""
        return self._key

    def headers(self) -> Headers | None:
        """Return the headers."""
        return self._headers

    def partition(self) -> int:
        """Return the partition."""
        return self._partition

    def offset(self) -> int:
        """Return the offset."""
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        """Return the kind of time stamp (1: the producer's) and the stamp in Unix milliseconds."""
        return 1, self._timestamp_ms


@dataclass(slots=True)
class MemorySource:
    """Reads a list of messages in order, from the first on.

    Attributes:
        committed: what was committed last.
    """

    messages: Sequence[MemoryMessage]
    emit_from: Positions = field(default_factory=dict)
    begin_from: Positions = field(default_factory=dict)
    generation: int = 0
    committed: Positions = field(default_factory=dict)
    _next: int = 0

    def poll(self, rows_max: int, timeout_s: float) -> Sequence[MemoryMessage]:
        """Return the next messages; at the end none, at once."""
        taken = self.messages[self._next : self._next + rows_max]
        self._next += len(taken)
        return taken

    def commit(self, positions: Positions) -> bool:
        """Record the positions."""
        self.committed.update(positions)
        return True

    def lag(self) -> int:
        """Return how many messages are left."""
        return len(self.messages) - self._next

    def behind(self, rows: int) -> set[int]:
        """One log is never behind another."""
        return set()

    def on_revoke(self, finish: Callable[[], None]) -> None:
        """Never revokes."""

    def close(self) -> None:
        """Nothing to give back."""


@dataclass(slots=True)
class MemoryReader:
    """Reads a list of messages that may grow, as often as it is rewound."""

    messages: list[MemoryMessage] = field(default_factory=list)
    _next: int = 0
    _end: int = 0

    def rewind(self) -> None:
        """Begin again with the first."""
        self._next, self._end = 0, len(self.messages)

    def caught_up(self) -> bool:
        """Tell whether those have been read that were there at the last `rewind`."""
        return self._next >= self._end

    def poll(self, rows_max: int, timeout_s: float) -> Sequence[MemoryMessage]:
        """Return the next messages; at the end none, at once."""
        taken = self.messages[self._next : self._next + rows_max]
        self._next += len(taken)
        return taken

    def close(self) -> None:
        """Nothing to give back."""


@dataclass(slots=True)
class MemorySink:
    """Keeps what is sent, by topic."""

    sent: dict[str, list[MemoryMessage]] = field(default_factory=dict)

    def send(self, topic: str, value: bytes | None, key: bytes | None, headers: Headers) -> None:
        """Append the message."""
        log = self.sent.setdefault(topic, [])
        log.append(MemoryMessage(value, key, headers, 0, len(log)))

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing to give back."""
