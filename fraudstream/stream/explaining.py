"""Explaining a batch's alerts within a time: beyond it by path, and the alerts say so."""

from __future__ import annotations

from collections import Counter

import numpy as np

from fraudstream.clock import monotonic_s
from fraudstream.metrics import WorkerMetrics
from fraudstream.scoring import Model, Scored
from fraudstream.scoring.explain import Explainer, Explanation, rows_of

ROWS_AT_ONCE = 32  # explained before the clock is looked at again


class AlertExplainer:
    """Explains the alerting rows of batches.

    Attributes:
        by_path: explain all alerts by path from now on, whatever the time; for a worker that sheds work.

    Args:
        budget_ms: time for exact explanations in a batch.
    """

    def __init__(self, explainer: Explainer, budget_ms: float, metrics: WorkerMetrics) -> None:
        self.by_path = False
        self._explainer = explainer
        self._budget_s = budget_ms / 1000
        self._metrics = metrics

    def explain(self, model: Model, scored: Scored) -> list[Explanation]:
        """Explain the alerting rows, in their order."""
        rows, currency = np.flatnonzero(scored.alerting), self._explainer.currency
        explained: list[Explanation] = []
        until_s = monotonic_s() + self._budget_s
        while len(explained) < len(rows) and not self.by_path and monotonic_s() < until_s:
            some = rows[len(explained) : len(explained) + ROWS_AT_ONCE]
            explained += self._explainer.explain(model, rows_of(scored, some, currency))
        late = rows_of(scored, rows[len(explained) :], currency)
        explained += self._explainer.explain(model, late, by_path=True)
        for method, number in Counter(one.method for one in explained).items():
            self._metrics.alerts_explained.labels(method).inc(number)
        return explained
