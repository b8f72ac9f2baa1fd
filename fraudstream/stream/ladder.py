"""What a worker leaves out while it is behind, step by step, so that decisions keep coming."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from fraudstream.metrics import WorkerMetrics
from fraudstream.sections import DegradationSettings

log = structlog.get_logger("worker")

STEPS = ("explanations", "shadow", "batches")
"""Alerts are explained by path; the challenger does not score; batches are larger."""


@dataclass(slots=True)
class Ladder:
    """The steps that are taken, by how many messages wait.

    A step is taken back once the lag is below half of its limit, so that it is not taken and left at every look.

    Attributes:
        shed: what is left out now: names of STEPS.
    """

    settings: DegradationSettings
    metrics: WorkerMetrics
    shed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._tell()

    def look(self, lag: int) -> None:
        """Take or leave steps for so many waiting messages."""
        limits = (self.settings.explanations_lag, self.settings.shadow_lag, self.settings.batches_lag)
        shed = tuple(
            step
            for step, limit in zip(STEPS, limits, strict=True)
            if limit and lag >= (limit / 2 if step in self.shed else limit)
        )
        if shed != self.shed:
            log.warning("degradation", shed=shed, before=self.shed, lag=lag)
            self.shed = shed
            self._tell()

    def rows_max(self, usual: int) -> int:
        """Return how many rows a batch may have."""
        return max(usual, self.settings.batch_rows_max) if "batches" in self.shed else usual

    def _tell(self) -> None:
        for step in STEPS:
            self.metrics.degraded.labels(step).set(int(step in self.shed))
