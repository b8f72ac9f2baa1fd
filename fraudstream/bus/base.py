"""What the worker asks of a bus. An offset always means the next one to read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

Headers = list[tuple[str, bytes | None]]
Positions = dict[int, int]  # partition -> the next offset to read


class Message(Protocol):
    """A message as confluent-kafka gives it; nothing of it is copied."""

    def value(self) -> bytes | None:
        """Return the payload; None for a tombstone."""

    def key(self) -> bytes | None:
        """Return the key, by which Kafka orders."""

    def headers(self) -> Headers | None:
        """Return the headers, in their order."""

    def partition(self) -> int:
        """Return the partition."""

    def offset(self) -> int:
        """Return the offset in the partition."""

    def timestamp(self) -> tuple[int, int]:
        """Return the kind of time stamp and the stamp in Unix milliseconds."""


class Source(Protocol):
    """Where transactions come from. Used from one thread.

    Attributes:
        generation: grows whenever what was read before must be forgotten (partitions changed hands): the
            messages after it begin again at the oldest ones kept.
        emit_from: for each assigned partition the first offset that was not served before; messages below
            it only rebuild state.
        begin_from: for each assigned partition the offset that reading begins at.
    """

    generation: int
    emit_from: Positions
    begin_from: Positions

    def poll(self, rows_max: int, timeout_s: float) -> Sequence[Any]:
        """Return up to `rows_max` messages: wait for the first, then take what is there."""

    def commit(self, positions: Positions) -> bool:
        """Record that everything before these positions is done; False: try again later. Raises BusError."""

    def lag(self) -> int:
        """Return how many messages are known to wait."""

    def behind(self, rows: int) -> set[int]:
        """Return the assigned partitions of which more than `rows` messages are known to wait."""

    def on_revoke(self, finish: Callable[[], None]) -> None:
        """Call `finish` before partitions are given up."""

    def close(self) -> None:
        """Leave the group and give everything back."""


class LabelSource(Protocol):
    """Where labels come from: all of them, from the oldest kept on. Used from one thread; commits nothing."""

    def rewind(self) -> None:
        """Begin again at the oldest one kept. Raises BusError."""

    def caught_up(self) -> bool:
        """Tell whether everything that was there at the last `rewind` has been read."""

    def poll(self, rows_max: int, timeout_s: float) -> Sequence[Any]:
        """Return up to `rows_max` messages: wait for the first, then take what is there. Raises BusError."""

    def close(self) -> None:
        """Give everything back."""


class Sink(Protocol):
    """Where messages go. Used from one thread."""

    def send(self, topic: str, value: bytes | None, key: bytes | None, headers: Headers) -> None:
        """Queue one message. Raises BusError when it cannot be queued within a bounded time."""

    def flush(self) -> None:
        """Wait until everything sent is acknowledged. Raises BusError when anything was not."""

    def close(self) -> None:
        """Give everything back; what was not flushed may be lost."""
