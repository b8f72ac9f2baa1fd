"""The share of dead letters above which a worker stops, before a whole topic drains into them."""

from __future__ import annotations

from collections import deque

from fraudstream.decode import Rejected
from fraudstream.errors import DeadLetterLimitError
from fraudstream.sections import WorkerSettings


class DeadLetterLimit:
    """Watches the last messages."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._window, self._limit = settings.dead_letter_window, settings.dead_letter_rate_max
        self._recent: deque[tuple[int, int]] = deque()  # rows and dead letters of the last batches
        self._rows = self._bad = 0  # of all of them

    def passed(self, good: int, rejected: list[Rejected]) -> DeadLetterLimitError | None:
        """Return why to stop, if a batch makes it too many."""
        self._recent.append((good + len(rejected), len(rejected)))
        self._rows += good + len(rejected)
        self._bad += len(rejected)
        while self._rows - self._recent[0][0] >= self._window:
            batch_rows, batch_bad = self._recent.popleft()
            self._rows -= batch_rows
            self._bad -= batch_bad
        rows, bad = self._rows, self._bad
        if not rejected or rows < self._window or bad <= self._limit * rows:
            return None
        return DeadLetterLimitError(
            f"{bad} of the last {rows} messages are dead letters (worker.dead_letter_rate_max = {self._limit}): "
            f"stopped before the topic drains into them. The last one: {rejected[-1].error}"
        )
