"""Models that are ready are put to use between two batches, and it is told: in the log and in the metrics."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from fraudstream.metrics import WorkerMetrics
from fraudstream.registry import CHAMPION
from fraudstream.scoring import Model
from fraudstream.stream.models import Found, ModelWatch
from fraudstream.stream.serve import Server

log = structlog.get_logger("worker")


class Reloads:
    """Changes the models that a server scores with.

    Args:
        watches: one for each role whose model may change.
    """

    def __init__(self, server: Server, metrics: WorkerMetrics, watches: Sequence[ModelWatch]) -> None:
        self._server = server
        self._metrics = metrics
        self._watches = watches
        for watch in watches:
            for result in ("loaded", "refused"):
                metrics.model_reloads.labels(watch.role, result)
        self._tell_of(CHAMPION, server.pipeline.model)

    def take(self) -> None:
        """Score with what the watches have ready from here on. To be called between two batches; never waits."""
        for watch in self._watches:
            found = watch.newer()
            if found is not None:
                self._put_to_use(watch.role, found)

    def _put_to_use(self, role: str, found: Found) -> None:
        current = self._server.pipeline.model if role == CHAMPION else self._server.shadow.model
        before = current.parts.version if current is not None else None
        if found.refused:
            self._metrics.model_reloads.labels(role, "refused").inc()
            log.error("model_refused", role=role, reason=found.refused, goes_on=before)
        elif found.model is None:
            self._server.shadow.use(None)
            self._metrics.model_reloads.labels(role, "removed").inc()
            log.info("model_removed", role=role, before=before)
        else:
            if role == CHAMPION:
                self._server.use(found.model)
            else:
                self._server.shadow.use(found.model)
            self._metrics.model_reloads.labels(role, "loaded").inc()
            log.info("model_loaded", role=role, model=found.model.parts.version, before=before)
            self._tell_of(role, found.model)

    def _tell_of(self, role: str, model: Model) -> None:
        version = model.parts.version
        if role == CHAMPION:
            self._metrics.model_compiled.set(int(not model.fallback))
        if model.fallback:
            log.warning(
                "model_not_compiled", role=role, model=version, reason=model.fallback, scored_by="lightgbm"
            )
        if (reason := model.explains_by_fallback) and role == CHAMPION:
            log.warning("explanations_not_compiled", model=version, reason=reason, explained_by="lightgbm")
