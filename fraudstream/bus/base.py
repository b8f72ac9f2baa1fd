"""What the worker asks of a bus. An offset always means the next one to read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

Headers = list[tuple[str, bytes | None]]
Outgoing = tuple[bytes | None, bytes | None, Headers]  # value, key, headers
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
            messages after it begin again at `begin_from`.
        emit_from: for each assigned partition the first offset that was not served before; messages below
            it only rebuild state.
        begin_from: for each assigned partition the offset that reading begins at.
        whole: whether all partitions of the topic are assigned.
    """

    generation: int
    emit_from: Positions
    begin_from: Positions
    whole: bool

    def poll(self, rows_max: int, timeout_s: float) -> Sequence[Any]:
        """Return up to `rows_max` messages: wait for the first, then take what is there."""

    def wait(self, timeout_s: float) -> None:
        """Stay a member of the group, without reading, until something changes or the time is over."""

    def lag(self) -> int:
        """Return how many messages are known to wait."""

    def behind(self, rows: int) -> set[int]:
        """Return the assigned partitions of which more than `rows` messages are known to wait."""

    def listen(self, handover: Handover) -> None:
        """Ask before partitions come and tell before they go."""

    def close(self) -> None:
        """Leave the group and give everything back."""


class Handover(Protocol):
    """What a source asks and tells when partitions change hands; called from within `poll` and `wait`."""

    def begin(self, oldest: Positions, served: Positions) -> Positions:
        """Return where to begin reading partitions that are assigned.

        Args:
            oldest: the first offset kept of each.
            served: the first offset that was not served before.
        """

    def finish(self) -> None:
        """Commit: all partitions are about to be given up."""


class LabelSource(Protocol):
    """Where labels come from: all of them, from the oldest kept on. Used from one thread; commits nothing."""

    def rewind(self, positions: Positions | None = None) -> None:
        """Begin again at the oldest one kept, or at these positions. Raises BusError."""

    def positions(self) -> Positions:
        """Return what is to be read next of each partition."""

    def caught_up(self) -> bool:
        """Tell whether everything that was there at the last `rewind` has been read."""

    def poll(self, rows_max: int, timeout_s: float) -> Sequence[Any]:
        """Return up to `rows_max` messages: wait for the first, then take what is there. Raises BusError."""

    def close(self) -> None:
        """Give everything back."""


class Sink(Protocol):
    """Where messages go. Used from one thread."""

    def send(self, topic: str, messages: Iterable[Outgoing]) -> None:
        """Queue messages; while a commit goes on, for the next one.

        Raises:
            BusError: one cannot be queued within a bounded time.
        """

    def commit(self, positions: Positions, timeout_s: float) -> bool:
        """Make what was sent so far last, and record that everything before these positions is done.

        Args:
            timeout_s: how long to wait for it. False: it goes on beside whatever the caller does, and further
                calls with the same positions tell when it is done.

        Raises:
            BusError: it cannot be had, and nothing of it is recorded.
        """

    def discard(self) -> None:
        """Forget what was sent since the last commit: somebody serves it again."""

    def close(self) -> None:
        """Give everything back; what was not committed may be lost."""
