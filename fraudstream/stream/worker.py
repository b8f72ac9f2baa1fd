"""The loop: poll, decode, features, score, decide, explain, produce, commit. The only endless one.

At least once: what a batch led to is flushed, with every delivery report checked, before its offsets are
committed. A crash in between sends the same messages with the same ids again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import structlog

from fraudstream.batch import TransactionBatch
from fraudstream.bus.base import Positions, Sink, Source
from fraudstream.clock import monotonic_s, now_ms
from fraudstream.decode import Decoder, Rejected
from fraudstream.errors import DeadLetterLimitError
from fraudstream.features import FeatureEngine, Observed
from fraudstream.metrics import WorkerMetrics
from fraudstream.scoring import Pipeline, Scored
from fraudstream.settings import Settings
from fraudstream.stream.align import Aligner
from fraudstream.stream.publish import Publisher

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


class Worker:
    """One partition set's way from transactions to decisions.

    Args:
        settings: checked settings.
        warmed: makes an engine with whatever history there is outside the topic.
        pipeline_of: binds an engine to model and policy.
        source, sink: the two ends.
        metrics: updated once a batch.
    """

    def __init__(
        self,
        settings: Settings,
        warmed: Callable[[], FeatureEngine],
        pipeline_of: Callable[[FeatureEngine], Pipeline],
        source: Source,
        sink: Sink,
        metrics: WorkerMetrics,
    ) -> None:
        self._settings = settings
        self._warmed = warmed
        self._pipeline_of = pipeline_of
        self._source = source
        self._sink = sink
        self._metrics = metrics
        engine = warmed()
        self._fresh = True
        self.pipeline = pipeline_of(engine)
        self._decoder = Decoder(settings.event, engine.catalog.fields_used)
        self._publisher = Publisher(
            sink,
            settings.topics,
            settings.event,
            self.pipeline.policy.names,
            self.pipeline.model.parts.version,
        )
        self._generation = source.generation
        self._aligner = Aligner()
        self._read: Positions = {}
        self._done: Positions = {}
        self._uncommitted = False
        self._commit_due_s = 0.0
        self._gauges_due_s = 0.0
        self._recent: deque[tuple[int, int]] = deque()  # rows and dead letters of the last batches
        source.on_revoke(self.commit)
        metrics.model_compiled.set(int(not self.pipeline.model.fallback))
        metrics.model_info.labels(self.pipeline.model.parts.version).set(1)

    @property
    def ready(self) -> bool:
        """Tell whether partitions are assigned and state is rebuilt up to what was served before."""
        return bool(self._source.emit_from) and not any(self._left().values())

    def progress(self) -> dict[str, object]:
        """Return how far the state is rebuilt: messages left by partition until serving begins."""
        left = {str(partition): messages for partition, messages in self._left().items()}
        return {"model": self.pipeline.model.parts.version, "partitions": len(left), "replay_left": left}

    def _left(self) -> Positions:
        """Return by partition how many messages are to be read before serving begins."""
        source, done = self._source, self._done
        return {
            p: max(0, start - done.get(p, source.begin_from.get(p, 0)))
            for p, start in source.emit_from.items()
        }

    def step(self) -> int:
        """Take one micro-batch all the way; return how many messages it had.

        Raises:
            BusError: something was not delivered or not committed; nothing of it is lost.
            DeadLetterLimitError: too many of the last messages were bad.
        """
        timer = _Timer(self._metrics)
        worker = self._settings.worker
        messages = self._source.poll(worker.batch_rows_max, worker.poll_timeout_ms / 1000)
        if self._source.generation != self._generation:
            self._start_over()
        timer.lap("consume")
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
        self._sink.flush()
        emit_from = self._source.emit_from
        served = {p: o for p, o in self._done.items() if o > emit_from.get(p, 0)}
        self._uncommitted = not self._source.commit(served)

    def close(self) -> None:
        """Finish: flush, commit, leave the group."""
        try:
            self.commit()
        finally:
            self._source.close()
            self._sink.close()

    def _start_over(self) -> None:
        """Partitions changed hands: state is rebuilt from the warm history and the topic."""
        self._generation = self._source.generation
        self._aligner = Aligner()
        self._read = {}
        self._done = {}
        self._uncommitted = False
        if not self._fresh:
            self.pipeline = self._pipeline_of(self._warmed())
            log.info("state_rebuilding", partitions=sorted(self._source.emit_from))
        self._fresh = True

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
        behind = self._source.behind(BACKLOG_ROWS) if messages else set()
        timer.lap("decode")
        emit_from = self._source.emit_from
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
        starts = self._source.emit_from
        old = np.zeros(len(batch), bool)
        if not self.ready:
            first = np.array([starts.get(p, 0) for p in batch.partition.tolist()], np.int64)
            old = batch.offset < first
        if old.all():
            self.pipeline.engine.absorb(batch)
            timer.lap("features")
            self._metrics.replayed.inc(len(batch))
            return
        observed = self.pipeline.engine.observe(batch)
        timer.lap("features")
        if old.any():
            rows = np.flatnonzero(~old)
            batch = batch.take(rows)
            observed = Observed(observed.X[rows], observed.flags[rows])
            self._metrics.replayed.inc(int(old.sum()))
        scored = self.pipeline.score(batch, observed)
        timer.lap("score")
        explanations = self.pipeline.explain(scored, self._settings.worker.reasons_max)
        timer.lap("explain")
        self._publisher.decisions(scored, messages)
        self._publisher.alerts(scored, explanations, messages)
        self._count(scored)
        timer.lap("produce")

    def _count(self, scored: Scored) -> None:
        metrics, names = self._metrics, self.pipeline.policy.names
        metrics.transactions.inc(len(scored.batch))
        for i, number in enumerate(np.bincount(scored.decided, minlength=len(names)).tolist()):
            metrics.decisions.labels(names[i]).inc(number)
        metrics.alerts.inc(int(scored.alerting.sum()))
        if scored.flag_bits.any():
            for flags in scored.flags():
                for flag in flags:
                    metrics.flagged.labels(flag).inc()

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
        metrics.lag.set(self._source.lag())
        metrics.watermark.set(engine.watermark_ms / 1000)
        metrics.state_bytes.set(engine.bytes_used())
        for entity, number in engine.entities().items():
            metrics.entities.labels(entity).set(number)
        metrics.ready.set(int(self.ready))
