"""When what was sent is made last: one commit after the other, each with the positions of its time."""

from __future__ import annotations

from collections.abc import Callable

from fraudstream.bus.base import Positions, Sink
from fraudstream.clock import monotonic_s
from fraudstream.errors import BusError
from fraudstream.metrics import WorkerMetrics

STUCK_AFTER_S = 5.0
WAIT_S = 0.5  # a turn of a commit that is waited for
LATE_AFTER_S = 1.0  # a commit that takes longer, and than its interval, is waited for
ROWS_MAX = 50_000  # sooner than `commit_interval_ms` then: what was sent is kept until it is committed


class Commits:
    """Knows what is owed, and what goes on.

    Attributes:
        owed: something was sent, or is done, that no commit has begun for.

    Args:
        interval_ms: from the beginning of one commit to that of the next.
        positions: tells up to where all is done now.
    """

    def __init__(
        self, sink: Sink, interval_ms: int, positions: Callable[[], Positions], metrics: WorkerMetrics
    ) -> None:
        self.owed = False
        self._sink = sink
        self._interval_s = interval_ms / 1000
        self._positions = positions
        self._metrics = metrics
        self._going: Positions | None = None
        self._rows = 0  # since the last one began
        self._due_s = 0.0
        self._began_s = 0.0

    @property
    def going_on(self) -> bool:
        """Tell whether one has begun and is not through."""
        return self._going is not None

    @property
    def stuck(self) -> bool:
        """Tell whether one has been going on for so long that nothing is being decided."""
        return self.going_on and monotonic_s() - self._began_s > STUCK_AFTER_S

    def count(self, rows: int) -> None:
        """Take that so many more messages are done."""
        self._rows += rows

    def due(self, now_s: float) -> bool:
        """Tell whether it is time for the next one."""
        return now_s >= self._due_s or self._rows >= ROWS_MAX

    def late(self, now_s: float) -> bool:
        """Tell whether one has been going on for so long, or so much was sent since, that nothing is to be added."""
        too_long = now_s - self._began_s > max(LATE_AFTER_S, self._interval_s)
        return self.going_on and (too_long or self._rows >= ROWS_MAX)

    def due_in_s(self, now_s: float) -> float:
        """Return for how long nothing needs to be committed."""
        return max(0.0, self._due_s - now_s)

    def commit(self, timeout_s: float) -> bool:
        """Make last what was sent, with the positions it came from; False: it goes on.

        Where a commit goes on already it is that one, and what was sent since is left to the next.

        Raises:
            BusError: it cannot be had; nothing of it is recorded, now or later.
        """
        if self._going is None:
            if not self.owed:
                return True
            self._going = self._positions()
            self.owed, self._rows = False, 0
            self._began_s = monotonic_s()
            self._due_s = self._began_s + self._interval_s
        try:
            made_last = self._sink.commit(self._going, timeout_s)
        except BusError:
            self._going = None
            raise
        if made_last:
            self._going = None
            self._metrics.commit_seconds.observe(monotonic_s() - self._began_s)
        return made_last

    def forget(self) -> None:
        """Drop what was not made last: whoever has the partitions serves it again."""
        self.owed, self._going = False, None
        self._sink.discard()

    def close(self) -> None:
        """Close the sink. Nothing is committed after that: of what it let go, only the positions would be left."""
        self.owed, self._going = False, None
        self._sink.close()
