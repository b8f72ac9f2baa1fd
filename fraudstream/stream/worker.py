"""The loop: poll, decode, features, score, decide, explain, produce, commit. The only endless one.

At least once: what a batch led to is flushed, with every delivery report checked, before its offsets are
committed. A crash in between sends the same messages with the same ids again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import structlog

from fraudstream.batch import TransactionBatch
from fraudstream.bus.base import LabelSource, Positions, Sink, Source
from fraudstream.clock import iso, monotonic_s, now_ms
from fraudstream.decode import Decoder, Rejected
from fraudstream.errors import DeadLetterLimitError
from fraudstream.features import FeatureEngine
from fraudstream.metrics import WorkerMetrics
from fraudstream.scoring import Pipeline
from fraudstream.scoring.explain import Explainer
from fraudstream.settings import Settings
from fraudstream.stream.align import Aligner
from fraudstream.stream.explaining import AlertExplainer
from fraudstream.stream.featurelog import FeatureLog
from fraudstream.stream.labels import LabelFeed
from fraudstream.stream.models import ModelWatch
from fraudstream.stream.publish import Publisher
from fraudstream.stream.reload import Reloads
from fraudstream.stream.runs import new_run
from fraudstream.stream.serve import Server
from fraudstream.words import read_words

log = structlog.get_logger("worker")

_GAUGES_EVERY_S = 1.0
BACKLOG_ROWS = 8  # a few offsets may hold no message (a transaction's end): no backlog yet


@dataclass
class _Timer:
    """Adds the time since its last call to a stage."""

    metrics: WorkerMetrics
    last_s: float = field(default_factory=monotonic_s)

    def lap(self, stage: str) -> None:
        now = monotonic_s()
        self.metrics.stage_seconds.labels(stage).inc(now - self.last_s)
        self.last_s = now


@dataclass(frozen=True, slots=True)
class Ends:
    """Where a worker's messages come from and go to.

    Attributes:
        labels: read only where a feature is fed by labels.
    """

    source: Source
    sink: Sink
    labels: LabelSource | None = None


class Worker:
    """One partition set's way from transactions to decisions.

    Args:
        settings: checked settings.
        warmed: makes an engine with whatever history there is outside the topic.
        pipeline_of: binds an engine to model and policy.
        metrics: updated once a batch.
        run_of: names a run by its partitions.
        watches: where other models come from; none: the first one stays.
    """

    def __init__(
        self,
        settings: Settings,
        warmed: Callable[[], FeatureEngine],
        pipeline_of: Callable[[FeatureEngine], Pipeline],
        ends: Ends,
        metrics: WorkerMetrics,
        run_of: Callable[[Iterable[int]], str] = new_run,
        watches: Sequence[ModelWatch] = (),
    ) -> None:
        self._settings = settings
        self._warmed = warmed
        self._ends = ends
        self._metrics = metrics
        self._run_of = run_of
        engine = warmed()
        self._fresh = True
        pipeline = pipeline_of(engine)
        version = pipeline.model.parts.version
        self._decoder = Decoder(settings.event, engine.catalog.fields_used | pipeline.policy.fields_used)
        self._publisher = Publisher(ends.sink, settings.topics, settings.event, pipeline.policy, [version])
        feature_log = None
        if settings.worker.feature_log:
            feature_log = FeatureLog(ends.sink, settings.topics.features, engine.catalog)
        words = read_words(settings.alerts.language, settings.alerts.words)
        explainer = AlertExplainer(
            Explainer(engine.catalog, words, settings.worker.reasons_max),
            settings.worker.explain_budget_ms,
            metrics,
        )
        self._server = Server(pipeline, self._publisher, feature_log, metrics, explainer)
        self._server.begin(pipeline, run_of(ends.source.emit_from))
        self._reloads = Reloads(self._server, metrics, watches)
        self._labels: LabelFeed | None = None
        if ends.labels is not None and engine.labels is not None:
            self._labels = LabelFeed(ends.labels, self._publisher, metrics, settings.labels.grace_ms)
        self._polled: Sequence[Any] = []  # messages that wait for the labels
        self._generation = ends.source.generation
        self._aligner = Aligner()
        self._read: Positions = {}
        self._done: Positions = {}
        self._uncommitted = False
        self._commit_due_s = 0.0
        self._gauges_due_s = 0.0
        self._recent: deque[tuple[int, int]] = deque()  # rows and dead letters of the last batches
        ends.source.on_revoke(self.commit)

    @property
    def pipeline(self) -> Pipeline:
        """Return the pipeline of the current state."""
        return self._server.pipeline

    @property
    def explainer(self) -> AlertExplainer:
        """Return what explains the alerts."""
        return self._server.explainer

    @property
    def ready(self) -> bool:
        """Tell whether partitions are assigned and state is rebuilt up to what was served before."""
        return bool(self._ends.source.emit_from) and self._labels_known and not any(self._left().values())

    def progress(self) -> dict[str, object]:
        """Return how far the state is rebuilt: messages left by partition until serving begins; and its warmth."""
        left = {str(partition): messages for partition, messages in self._left().items()}
        version = self.pipeline.model.parts.version
        return {"model": version, "partitions": len(left), "replay_left": left, **self.warmth()}

    def warmth(self) -> dict[str, object]:
        """Return how many features reach back before the known history, and the event time of the last to be warm."""
        engine = self.pipeline.engine
        cold = set(engine.cold())
        if not cold or engine.history_from_ms is None:
            return {"features_cold": len(cold), "warm_at": None}
        reach_ms = max(f.reach_ms for f in engine.catalog.features if f.name in cold)
        return {"features_cold": len(cold), "warm_at": iso(engine.history_from_ms + reach_ms)}

    @property
    def _labels_known(self) -> bool:
        return self._labels is None or self._labels.caught_up

    def _left(self) -> Positions:
        """Return by partition how many messages are to be read before serving begins."""
        source, done = self._ends.source, self._done
        return {
            p: max(0, start - done.get(p, source.begin_from.get(p, 0)))
            for p, start in source.emit_from.items()
        }

    def step(self) -> int:
        """Take one micro-batch all the way; return how many messages were read.

        Raises:
            BusError: something was not delivered or not committed; nothing of it is lost.
            DeadLetterLimitError: too many of the last messages were bad.
        """
        timer = _Timer(self._metrics)
        worker = self._settings.worker
        self._reloads.take()
        if not self._labels_known:
            return self._learn(worker.poll_timeout_ms / 1000, timer)
        messages = self._polled or self._ends.source.poll(
            worker.batch_rows_max, worker.poll_timeout_ms / 1000
        )
        self._polled = []
        if self._ends.source.generation != self._generation:
            self._start_over()
        timer.lap("consume")
        if not self._labels_known:
            self._polled = messages
            return len(messages)
        self._learn(0.0, timer)
        if messages or self._aligner.holds:
            started_s = timer.last_s
            self._take(messages, timer)
            self._metrics.batch_rows.observe(len(messages))
            self._metrics.batch_seconds.observe(timer.last_s - started_s)
        now_s = timer.last_s
        if self._uncommitted and now_s >= self._commit_due_s:
            self.commit()
            self._commit_due_s = now_s + worker.commit_interval_ms / 1000
            timer.lap("commit")
        if now_s >= self._gauges_due_s:
            self._gauges_due_s = now_s + _GAUGES_EVERY_S
            self._update_gauges()
        return len(messages)

    def commit(self) -> None:
        """Flush what was sent, then commit the positions it came from."""
        if not self._uncommitted:
            return
        self._uncommitted = False  # first: after a failed flush nothing may commit these, close least of all
        self._ends.sink.flush()
        emit_from = self._ends.source.emit_from
        served = {p: o for p, o in self._done.items() if o > emit_from.get(p, 0)}
        if served:
            self._uncommitted = not self._ends.source.commit(served)

    def close(self) -> None:
        """Finish: flush, commit, leave the group."""
        try:
            self.commit()
        finally:
            self._ends.source.close()
            self._ends.sink.close()
            if self._labels is not None:
                self._labels.close()

    def _learn(self, timeout_s: float, timer: _Timer) -> int:
        """Take in labels; return how many."""
        if self._labels is None:
            return 0
        engine, owned = self.pipeline.engine, self._ends.source.emit_from
        number, refused = self._labels.learn(engine, owned, timeout_s)
        self._uncommitted |= refused
        timer.lap("labels")
        return number

    def _start_over(self) -> None:
        """Partitions changed hands: state is rebuilt from the labels, the warm history and the topic."""
        partitions = sorted(self._ends.source.emit_from)
        self._generation = self._ends.source.generation
        self._aligner = Aligner()
        self._read = {}
        self._done = {}
        self._uncommitted = False
        pipeline = self.pipeline
        if not self._fresh:
            pipeline = Pipeline(self._warmed(), pipeline.model, pipeline.policy)
            if self._labels is not None:
                self._labels.rewind()
            log.info("state_rebuilding", partitions=partitions)
        self._fresh = True
        self._server.begin(pipeline, self._run_of(partitions))

    def _take(self, messages: Sequence[Any], timer: _Timer) -> None:
        """Decode messages and serve what need not wait for other partitions; no messages: what waited."""
        self._fresh = False
        partitions = [message.partition() for message in messages]
        offsets = [message.offset() for message in messages]
        for partition, offset in zip(partitions, offsets, strict=True):
            self._read[partition] = offset + 1
        rebuilding = not self.ready
        batch, rejected = self._decoder.decode_messages(
            [message.value() for message in messages],
            [message.key() for message in messages],
            (partitions, offsets),
            np.array([message.timestamp()[1] for message in messages], np.int64) if rebuilding else now_ms(),
        )
        behind = self._ends.source.behind(BACKLOG_ROWS) if messages else set()
        timer.lap("decode")
        emit_from = self._ends.source.emit_from
        rejected = [bad for bad in rejected if offsets[bad.row] >= emit_from.get(partitions[bad.row], 0)]
        self._publisher.dead_letters(rejected, messages, "decode")
        self._metrics.dead_letters.labels("decode").inc(len(rejected))
        ready, its_messages = self._aligner.add(batch, messages, behind)
        self._serve(ready, its_messages, timer)
        self._done = self._read | self._aligner.first_held()
        self._uncommitted |= any(o > emit_from.get(p, 0) for p, o in self._done.items())
        self._watch_dead_letters(len(batch), rejected)

    def _serve(self, batch: TransactionBatch, messages: Sequence[Any], timer: _Timer) -> None:
        """Take rows into the state and decide those that were not served before."""
        old = np.zeros(len(batch), bool)
        if not self.ready:
            starts = self._ends.source.emit_from
            old = batch.offset < np.array([starts.get(p, 0) for p in batch.partition.tolist()], np.int64)
        self._server.serve(batch, old, messages, timer.lap)

    def _watch_dead_letters(self, good: int, rejected: list[Rejected]) -> None:
        """Stop before a whole topic drains into the dead letters."""
        window, limit = self._settings.worker.dead_letter_window, self._settings.worker.dead_letter_rate_max
        self._recent.append((good + len(rejected), len(rejected)))
        rows = sum(batch_rows for batch_rows, _ in self._recent)
        while rows - self._recent[0][0] >= window:
            rows -= self._recent.popleft()[0]
        bad = sum(batch_bad for _, batch_bad in self._recent)
        if not rejected or rows < window or bad <= limit * rows:
            return
        self.commit()
        raise DeadLetterLimitError(
            f"{bad} of the last {rows} messages are dead letters (worker.dead_letter_rate_max = {limit}): stopped "
            f"before the topic drains into them. The last one: {rejected[-1].error}"
        )

    def _update_gauges(self) -> None:
        metrics, engine = self._metrics, self.pipeline.engine
        metrics.lag.set(self._ends.source.lag())
        metrics.watermark.set(engine.watermark_ms / 1000)
        metrics.state_bytes.set(engine.bytes_used())
        for entity, number in engine.entities().items():
            metrics.entities.labels(entity).set(number)
        metrics.features_cold.set(len(engine.cold()))
        metrics.ready.set(int(self.ready))
