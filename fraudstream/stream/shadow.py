"""The challenger: it scores the features that the champion decided on, is compared with it, and never acted upon."""

from __future__ import annotations

from itertools import repeat

import msgspec
import structlog

from fraudstream.features import Observed
from fraudstream.metrics import WorkerMetrics
from fraudstream.records import Challenger
from fraudstream.scoring import Model, Pipeline, Scored
from fraudstream.stream.counts import BothCounts

log = structlog.get_logger("worker")

Said = list[Challenger | msgspec.UnsetType]
NOTHING: Said = [msgspec.UNSET]


class Shadow:
    """Scores with the challenger, if there is one. One that fails is dropped, and the champion goes on alone.

    Attributes:
        model: the challenger.
    """

    def __init__(self, metrics: WorkerMetrics) -> None:
        self.model: Model | None = None
        self._metrics = metrics
        self._counts: BothCounts | None = None  # a worker without a challenger tells nothing of one

    def use(self, model: Model | None) -> None:
        """Score with another challenger from the next batch on, or with none."""
        self.model = model
        self._metrics.challenger_info.clear()
        if model is not None:
            self._metrics.challenger_info.labels(model.parts.version).set(1)

    def of(self, pipeline: Pipeline, scored: Scored) -> Said:
        """Return what the challenger would have decided of each row, and count how far it is from the champion.

        A model does not challenge itself: where both are the same version, nothing is scored.
        """
        model = self.model
        rows = len(scored.batch)
        if model is None or not rows or model.parts.version == pipeline.model.parts.version:
            return NOTHING * rows
        try:
            said = pipeline.scored_by(model, scored.batch, Observed(scored.X, scored.flag_bits))
        except Exception as error:  # whatever it is, it must not stop the champion
            self.use(None)
            self._metrics.model_reloads.labels("challenger", "dropped").inc()
            log.exception("challenger_dropped", model=model.parts.version, reason=repr(error))
            return NOTHING * rows
        names = pipeline.policy.names
        if self._counts is None:
            self._counts = BothCounts(self._metrics, names)
        self._counts.count(scored, said)
        return list(
            map(
                Challenger,
                [names[i] for i in said.decided.tolist()],
                said.probability.tolist(),
                said.points.tolist(),
                repeat(model.parts.version),
            )
        )
