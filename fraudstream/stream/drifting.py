"""How far what the champion scores has moved since its training: sampled from the batches, told in the metrics.

A shift means that the model sees transactions unlike those that it learned from: a changed field, another mix of
customers, a feature whose source has failed, or fraud that is new.
"""

from __future__ import annotations

import numpy as np
import structlog

from fraudstream.clock import Seldom
from fraudstream.features import FeatureEngine
from fraudstream.metrics import WorkerMetrics
from fraudstream.scoring import Model, Scored
from fraudstream.scoring.drift import CALENDAR, SCORE, RecentDrift

log = structlog.get_logger("worker")

SPAN_MS = 6 * 3_600_000
SPANS = 28  # a week: the days of one differ
ROWS_MAX = 64  # of a batch: 0.1 ms
SAMPLE_EVERY_S = 0.25
TELL_EVERY_S = 60.0
ROWS_MIN = 400  # fewer have a PSI of more than 0.02 by chance
GAIN_MIN = 0.01  # a feature with less is not warned of


class Drifting:
    """Counts rows, and tells how far their features and scores have moved.

    Args:
        warn_from: a PSI that is warned of.
    """

    def __init__(self, model: Model, metrics: WorkerMetrics, warn_from: float) -> None:
        self._metrics = metrics
        self._warn_from = warn_from
        self._sampling = Seldom(SAMPLE_EVERY_S)
        self._telling = Seldom(TELL_EVERY_S)
        self.use(model)

    def use(self, model: Model) -> None:
        """Begin anew with another champion."""
        names = [*model.catalog.names, SCORE]
        self._recent = RecentDrift(model.parts.reference, names, SPANS)
        self._calendar = {f.name for f in model.catalog.features if f.aggregate in CALENDAR}
        self._gains = {**model.gains(), SCORE: 1.0} if model.parts.reference else {}
        self._version = model.parts.version
        self._warned: set[str] = set()
        for gauge in (self._metrics.drift_psi, self._metrics.drift_ks, self._metrics.drift_gain):
            gauge.clear()
        self._metrics.drift_rows.set(0)

    def count(self, scored: Scored) -> None:
        """Count some rows that were scored, once in a while."""
        rows = len(scored.batch)
        if not self._gains or not rows or not self._sampling.now():
            return
        chosen = np.arange(0, rows, -(-rows // ROWS_MAX))  # spread over the batch
        span = int(scored.batch.time_ms[-1]) // SPAN_MS
        self._recent.count(np.column_stack([scored.X[chosen], scored.raw[chosen]]), span)

    def look(self, engine: FeatureEngine) -> None:
        """Tell it once in a while; warn of a feature, once, that matters and has moved far.

        Not of one that is cold, or of the score while one is, nor of hour and day before a week is over.
        """
        rows = self._recent.rows if self._gains else 0
        self._metrics.drift_rows.set(rows)
        if rows < ROWS_MIN or not self._telling.now():
            return
        spared = set(engine.cold()) & self._gains.keys()
        spared |= {SCORE} if spared else set()
        spared |= set() if self._recent.full else self._calendar
        for name, shift in self._recent.shifts().items():
            psi, ks, gain = shift.psi or 0.0, shift.ks or 0.0, self._gains.get(name, 0.0)
            self._metrics.drift_psi.labels(name).set(psi)
            self._metrics.drift_ks.labels(name).set(ks)
            self._metrics.drift_gain.labels(name).set(gain)
            if psi <= self._warn_from or gain < GAIN_MIN or name in spared:
                self._warned.discard(name)
            elif name not in self._warned:
                self._warned.add(name)
                log.warning(
                    "feature_shifted",
                    feature=name,
                    psi=round(psi, 3),
                    ks=round(ks, 3),
                    missing=round(shift.missing, 4),
                    missing_before=round(shift.missing_before, 4),
                    gain=round(gain, 3),
                    model=self._version,
                    rows=rows,
                )
