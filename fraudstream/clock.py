"""The only place that reads a clock. Times are int64 Unix milliseconds UTC."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now_ms() -> int:
    """Return the wall clock in Unix milliseconds."""
    return time.time_ns() // 1_000_000


def monotonic_s() -> float:
    """Return a clock for durations, in seconds; it never runs backwards."""
    return time.perf_counter()


def pause(seconds: float) -> None:
    """Do nothing for a while."""
    time.sleep(seconds)


class Seldom:
    """Lets something happen once in a while: a complaint that would else be made at every turn."""

    def __init__(self, every_s: float = 10.0) -> None:
        self._every_s = every_s
        self._due_s = 0.0

    def now(self) -> bool:
        """Tell whether it may happen now; if so, not again for a while."""
        now_s = monotonic_s()
        if now_s < self._due_s:
            return False
        self._due_s = now_s + self._every_s
        return True


def iso(time_ms: int) -> str:
    """Write Unix milliseconds as ISO 8601 UTC.

    >>> iso(1533686400000)
    '2018-08-08T00:00:00.000Z'
    """
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
