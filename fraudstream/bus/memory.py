"""A bus in memory: the tests' and the benchmarks' own log, with the same interface as Kafka's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from fraudstream.bus.base import Handover, Headers, Outgoing, Positions


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
    whole: bool = True
    committed: Positions = field(default_factory=dict)
    _next: int = 0
    _begun: bool = False
    _handover: Handover | None = None

    def poll(self, rows_max: int, timeout_s: float) -> Sequence[MemoryMessage]:
        """Return the next messages; at the end none, at once."""
        if not self._begun:
            self.begin_again()
        taken = self.messages[self._next : self._next + rows_max]
        self._next += len(taken)
        return [m for m in taken if m.offset() >= self.begin_from.get(m.partition(), 0)]

    def begin_again(self) -> None:
        """Read from the first message on, without those before what the listener names."""
        self.generation += 1
        self._begun = True
        oldest = {message.partition(): 0 for message in self.messages} | dict.fromkeys(self.emit_from, 0)
        self.emit_from = oldest | self.emit_from
        self.begin_from = oldest if self._handover is None else self._handover.begin(oldest, self.emit_from)
        wanted = (i for i, m in enumerate(self.messages) if m.offset() >= self.begin_from[m.partition()])
        self._next = next(wanted, len(self.messages))

    def wait(self, timeout_s: float) -> None:
        """Nothing changes by itself."""

    def lag(self) -> int:
        """Return how many messages are left."""
        return len(self.messages) - self._next

    def behind(self, rows: int) -> set[int]:
        """One log is never behind another."""
        return set()

    def listen(self, handover: Handover) -> None:
        """Ask this one where to begin."""
        self._handover = handover

    def close(self) -> None:
        """Nothing to give back."""


@dataclass(slots=True)
class MemoryReader:
    """Reads a list of messages that may grow, as often as it is rewound."""

    messages: list[MemoryMessage] = field(default_factory=list)
    _next: int = 0
    _end: int = 0

    def rewind(self, positions: Positions | None = None) -> None:
        """Begin again with the first, or where the positions say."""
        self._next, self._end = (positions or {}).get(0, 0), len(self.messages)

    def positions(self) -> Positions:
        """Return what is to be read next."""
        return {0: self._next}

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
    """Keeps what is sent, by topic.

    Attributes:
        source: its positions are recorded with each commit.
    """

    source: MemorySource | None = None
    sent: dict[str, list[MemoryMessage]] = field(default_factory=dict)

    def send(self, topic: str, messages: Iterable[Outgoing]) -> None:
        """Append messages."""
        log = self.sent.setdefault(topic, [])
        for value, key, headers in messages:
            log.append(MemoryMessage(value, key, headers, 0, len(log)))

    def commit(self, positions: Positions, timeout_s: float) -> bool:
        """Record the positions."""
        if self.source is not None:
            self.source.committed.update(positions)
        return True

    def discard(self) -> None:
        """Keep it all the same: at least once."""

    def close(self) -> None:
        """Nothing to give back."""
