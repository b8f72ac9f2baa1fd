"""Counts what was decided, a batch at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from fraudstream.clock import now_ms
from fraudstream.decode import Rejected
from fraudstream.errors import RecordError
from fraudstream.features.engine import FLAG_NAMES
from fraudstream.metrics import SHIFTS, WorkerMetrics
from fraudstream.registry import CHALLENGER, CHAMPION
from fraudstream.scoring import Policy, Scored

POINTS_MAX = 1000
LATENCIES_A_BATCH = 32  # a message's stamp costs 0.1 us, as much as everything else here

_SHIFT_NAMES = [
    str(low) if low == next_low - 1 else f"{low}..{next_low - 1}"
    for low, next_low in zip(SHIFTS, (*SHIFTS[1:], POINTS_MAX + 1), strict=True)
]
_SHIFT_PLACES = np.array(SHIFTS) + POINTS_MAX


def begin_dead_letters(metrics: WorkerMetrics, stage: str) -> None:
    """Begin at 0: the first dead letter would not show as an increase of a series that was not there."""
    for kind in RecordError.kinds:
        metrics.dead_letters.labels(stage, kind)


def count_dead_letters(metrics: WorkerMetrics, stage: str, rejected: Sequence[Rejected]) -> None:
    """Count what has just become dead letters."""
    for reason, number in Counter(bad.error.kind for bad in rejected).items():
        metrics.dead_letters.labels(stage, reason).inc(number)


class BothCounts:
    """Counts how far a challenger is from the champion.

    Args:
        outcomes: by their numbers in `Scored.decided`.
    """

    def __init__(self, metrics: WorkerMetrics, outcomes: Sequence[str]) -> None:
        self._kinds = len(outcomes)
        self._pairs = [metrics.agreement.labels(one, other) for one in outcomes for other in outcomes]
        self._shifts = [metrics.challenger_shift.labels(name) for name in _SHIFT_NAMES]
        self._points = [metrics.shadow_points.labels(role) for role in (CHAMPION, CHALLENGER)]

    def count(self, champion: Scored, challenger: Scored) -> None:
        """Count what both say of the same rows."""
        pairs = np.bincount(champion.decided * self._kinds + challenger.decided)
        for pair in np.flatnonzero(pairs).tolist():
            self._pairs[pair].inc(int(pairs[pair]))
        more = challenger.points - champion.points
        shifts = np.add.reduceat(np.bincount(more + POINTS_MAX, minlength=2 * POINTS_MAX + 1), _SHIFT_PLACES)
        for place in np.flatnonzero(shifts).tolist():
            self._shifts[place].inc(int(shifts[place]))
        for counted, scored in zip(self._points, (champion, challenger), strict=True):
            counted.inc(int(scored.points.sum()))


class Counts:
    """Counts decided rows in the metrics.

    Args:
        policy: names the outcomes.
        model: the one that decides.
    """

    def __init__(self, metrics: WorkerMetrics, policy: Policy, model: str) -> None:
        self._metrics = metrics
        self._policy = policy
        self._decided = [metrics.decisions.labels(name) for name in policy.names]
        self._flagged = {bit: metrics.flagged.labels(name) for bit, name in FLAG_NAMES.items()}
        self.use(model)

    def use(self, model: str) -> None:
        """Count alerts as those of another model from now on."""
        names = self._policy.names
        alerting = self._policy.alerting(np.arange(len(names))).nonzero()[0].tolist()
        self._alerts = {place: self._metrics.alerts.labels(names[place], model) for place in alerting}
        self._metrics.model_info.clear()
        self._metrics.model_info.labels(model).set(1)

    def count(self, scored: Scored, messages: Sequence[Any]) -> None:
        """Count rows whose decisions have just been handed to the producer.

        Args:
            messages: those that the batch was decoded from.
        """
        metrics = self._metrics
        metrics.transactions.inc(len(scored.batch))
        for number, decided in zip(np.bincount(scored.decided).tolist(), self._decided, strict=False):
            if number:
                decided.inc(number)
        if scored.alerting.any():
            for place, number in enumerate(np.bincount(scored.decided[scored.alerting]).tolist()):
                if number:
                    self._alerts[place].inc(number)
        for bits, number in enumerate(np.bincount(scored.flag_bits).tolist()):
            if bits and number:
                for bit, flagged in self._flagged.items():
                    if bits & bit:
                        flagged.inc(number)
        self._time(scored, messages)

    def _time(self, scored: Scored, messages: Sequence[Any]) -> None:
        """Observe the latency of some rows, each for those that it stands for."""
        rows, now = len(scored.batch), now_ms()
        step = -(-rows // LATENCIES_A_BATCH)
        stamps = [messages[row].timestamp()[1] for row in scored.batch.source_row[::step].tolist()]
        waited_s = [max(0, now - stamp) / 1000 for stamp in stamps]  # clocks may differ
        stands_for = [step] * (len(stamps) - 1) + [rows - step * (len(stamps) - 1)]
        self._metrics.latency.observe_each(waited_s, stands_for)
