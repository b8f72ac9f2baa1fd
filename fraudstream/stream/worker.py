"""The loop: poll, decode, features, score, decide, explain, produce, commit. The only endless one.

What a batch led to is made last together with the positions it came from (`bus.delivery`), while the next batches
are decided; nothing is read on once a commit takes too long. The state is what was read: after a crash, or when
partitions change hands, it is taken from a snapshot, or from nothing, and the log is read again silently up to what
was served.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import structlog
from prometheus_client import Counter

from fraudstream.batch import TransactionBatch
from fraudstream.bus.base import LabelSource, Positions, Sink, Source
from fraudstream.clock import monotonic_s, now_ms
from fraudstream.decode import Decoder, Value
from fraudstream.errors import BusError
from fraudstream.features import FeatureEngine, new_engine, partial_features
from fraudstream.metrics import STAGES, WorkerMetrics
from fraudstream.scoring import Pipeline
from fraudstream.sections import Settings
from fraudstream.stream.align import Aligner
from fraudstream.stream.checkpoints import Checkpoints, Stamp
from fraudstream.stream.commits import WAIT_S as COMMIT_WAIT_S
from fraudstream.stream.commits import Commits
from fraudstream.stream.counts import begin_dead_letters, count_dead_letters
from fraudstream.stream.drifting import Drifting
from fraudstream.stream.explaining import AlertExplainer
from fraudstream.stream.labels import LabelFeed
from fraudstream.stream.ladder import Ladder
from fraudstream.stream.limit import DeadLetterLimit
from fraudstream.stream.models import ModelWatch
from fraudstream.stream.progress import Progress, warmth
from fraudstream.stream.publish import DECODE_STAGE, Publisher
from fraudstream.stream.reload import Reloads
from fraudstream.stream.runs import new_run
from fraudstream.stream.serve import new_server
from fraudstream.stream.topicreader import TopicReader
from fraudstream.stream.tracking import Tracking

log = structlog.get_logger("worker")

RETRY_AFTER_S = 0.1
REGISTRY_AFTER_S = 0.5
COMMIT_LOOK_S = 0.001  # how often to look whether a commit is through, while there is nothing else to do
FINISH_WITHIN_S = 4.0  # of the 10 that a supervisor gives
BACKLOG_ROWS = 8  # a few offsets may hold no message (a transaction's end): no backlog yet


@dataclass
class _Timer:
    """Adds the time since its last call to a stage."""

    stages: Mapping[str, Counter]
    last_s: float = field(default_factory=monotonic_s)

    def lap(self, stage: str) -> None:
        now = monotonic_s()
        self.stages[stage].inc(now - self.last_s)
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
        checkpoints: the snapshots; None: state is always rebuilt.
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
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self._settings = settings
        self._warmed = warmed
        self._ends = ends
        self._metrics = metrics
        self._stages = {stage: metrics.stage_seconds.labels(stage) for stage in STAGES}
        self._run_of = run_of
        self._checkpoints = checkpoints
        waiting = checkpoints.empty_engine() if checkpoints is not None else None
        engine = waiting or warmed()
        self._waits = waiting is not None  # for partitions, to take their state from a snapshot
        self._fresh = not self._waits  # the state holds the warm history alone
        pipeline = pipeline_of(engine)
        version = pipeline.model.parts.version
        self._partial = partial_features(engine.catalog)
        segment = {settings.quality.segment} - {""}
        fields_used = engine.catalog.fields_used | pipeline.policy.fields_used | segment
        self._decoder = Decoder(settings.event, fields_used)
        self._reader = TopicReader(settings)
        self._publisher = Publisher(ends.sink, settings.topics, settings.event, pipeline.policy, [version])
        begin_dead_letters(metrics, DECODE_STAGE)
        self._ladder = Ladder(settings.degradation, metrics)
        self._drifting = Drifting(pipeline.model, metrics, settings.quality.drift_max)
        self._server = new_server(settings, pipeline, ends.sink, self._publisher, self._drifting, metrics)
        self._tracking = Tracking(settings, metrics)
        self._server.begin(pipeline, run_of(ends.source.emit_from))
        self._reloads = Reloads(self._server, metrics, watches)
        self._labels: LabelFeed | None = None
        if ends.labels is not None and engine.labels is not None:
            self._labels = LabelFeed(ends.labels, self._publisher, metrics, settings.labels)
        self._polled: Sequence[Any] = []  # messages that wait for the labels, or for their schemas
        self._generation = ends.source.generation
        self._restored: tuple[FeatureEngine, Stamp] | None = None
        self._goes_on: Positions | None = None  # where the state stands, if it can be gone on with as it is
        self._aligner = Aligner()
        self._read: Positions = {}
        self._done: Positions = {}
        self._left_at: Positions = {}
        self._commits = Commits(ends.sink, settings.worker.commit_interval_ms, self._committable, metrics)
        self._progress = Progress(metrics)
        self._dead_letter_limit = DeadLetterLimit(settings.worker)
        ends.source.listen(self)

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

    @property
    def waits_for_broker(self) -> bool:
        """Tell whether a commit has been going on for so long that nothing is being decided."""
        return self._commits.stuck

    @property
    def waits_for_registry(self) -> bool:
        """Tell whether messages wait for schemas that cannot be had."""
        return self._reader.waits

    def progress(self) -> dict[str, object]:
        """Return how far the state is rebuilt: messages left by partition until serving begins; and its warmth."""
        return {
            "model": self.pipeline.model.parts.version,
            **self._progress.told(self._left()),
            "waits_for_broker": self.waits_for_broker,
            "waits_for_registry": self.waits_for_registry,
            **self.warmth(),
        }

    def warmth(self) -> dict[str, object]:
        """Return how many features are not warm yet, and when the last one is."""
        return warmth(self.pipeline.engine)

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
        timer = _Timer(self._stages)
        worker = self._settings.worker
        if self._commits.going_on:
            late = self._commits.late(timer.last_s)
            if not self.commit(COMMIT_WAIT_S if late else 0.0) and late:
                self._go_on_committing(timer)
                return 0
            timer.lap("commit")
        self._reloads.take()
        if not self._labels_known and not self._waits:
            return self._learn(worker.poll_timeout_ms / 1000, timer)
        rows_max = self._ladder.rows_max(worker.batch_rows_max)
        timeout_s = worker.poll_timeout_ms / 1000
        if self._commits.going_on:
            timeout_s = COMMIT_LOOK_S
        elif self._commits.owed:
            timeout_s = min(timeout_s, self._commits.due_in_s(timer.last_s))
        messages = self._polled or self._ends.source.poll(rows_max, timeout_s)
        self._polled = []
        if self._ends.source.generation != self._generation:
            self._start_over()
        timer.lap("consume")
        if not self._labels_known:
            self._polled = messages
            return len(messages)
        self._learn(0.0, timer)
        values = self._reader.read(messages)
        if values is None:
            self._hold(messages)
            timer.lap("consume")
        elif messages or self._aligner.holds:
            started_s = timer.last_s
            self._take(messages, values, timer)
            self._metrics.batch_rows.observe(len(messages))
            self._metrics.batch_seconds.observe(timer.last_s - started_s)
        if self._commits.owed and not self._commits.going_on and self._commits.due(timer.last_s):
            self.commit(0.0)
            timer.lap("commit")
        self._save(timer)
        if self._progress.due:
            self._look()
        return len(messages)

    def commit_all(self, within_s: float) -> bool:
        """Make last everything that was sent; False: it takes longer than that. Raises BusError."""
        deadline_s = monotonic_s() + within_s
        while self._commits.going_on or self._commits.owed:
            if not self.commit() and monotonic_s() > deadline_s:
                return False
        return True

    def begin(self, oldest: Positions, served: Positions) -> Positions:
        """Return where to read partitions from that are assigned, as `Handover` says; take the state from there."""
        self._restored = None
        if self._goes_on == served:
            return dict(served)
        self._goes_on = None
        if self._checkpoints is not None:
            if not self._fresh:
                self._let_go()
            self._restored = self._checkpoints.restore(oldest, served)
        if self._restored is not None:
            return {p: self._restored[1].positions[p] for p in served}
        return oldest

    def finish(self) -> None:
        """Commit before partitions are given up, as `Handover` says; what cannot be is served by somebody else."""
        if not self.commit_all(FINISH_WITHIN_S):
            log.warning("commit_given_up", reason="partitions are revoked", action="they are served again")
            return
        self._goes_on = self._positions() if self.ready and not self._aligner.holds else None

    def close(self) -> None:
        """Finish: leave, and save the state."""
        self.leave()
        self.save()

    def leave(self) -> None:
        """Commit, and leave the group.

        Raises:
            BusError: what was decided last could not be committed.
        """
        made_last = False
        try:
            made_last = self.commit_all(FINISH_WITHIN_S)
        finally:
            self._left_at = self._positions()
            self._commits.close()
            self._ends.source.close()  # which asks to finish
            if self._labels is not None:
                self._labels.close()
        if not made_last:
            raise BusError(
                "the last decisions could not be committed in time; they are made again at the next start"
            )

    def save(self) -> None:
        """Write the state as it was when the worker left."""
        if self._checkpoints is not None:
            self._checkpoints.look(wait=True)
            if self._savable:
                self._start_snapshot(self._checkpoints, self._left_at)
                self._checkpoints.look(wait=True)

    def _go_on_committing(self, timer: _Timer) -> None:
        """Wait for a commit that takes long; read nothing meanwhile."""
        self._metrics.commits_waiting.inc()
        self._wait(RETRY_AFTER_S)
        self.commit()
        timer.lap("commit")
        if self._progress.due:
            self._look()

    def commit(self, timeout_s: float = COMMIT_WAIT_S) -> bool:
        """Go on with the commit, or begin one, as `Commits.commit` says."""
        try:
            return self._commits.commit(timeout_s)
        except BusError:
            self._done = {}  # nor may a snapshot say that it was made last
            raise

    def _committable(self) -> Positions:
        """Return up to where all is done, of partitions that have moved on since they were assigned."""
        emit_from = self._ends.source.emit_from
        return {p: o for p, o in self._done.items() if o > emit_from.get(p, 0)}

    def _hold(self, messages: Sequence[Any]) -> None:
        """Keep messages whose schemas cannot be had yet; read nothing meanwhile."""
        self._polled = messages
        self._wait(REGISTRY_AFTER_S)

    def _wait(self, timeout_s: float) -> None:
        """Stay a member of the group, and read nothing."""
        self._ends.source.wait(timeout_s)
        if self._ends.source.generation != self._generation:
            self._start_over()

    @property
    def _savable(self) -> bool:
        """Tell whether the state holds exactly what lies before some positions."""
        return self._labels_known and not self._aligner.holds and bool(self._done)

    def _positions(self) -> Positions:
        """Return the next offset of each partition that the state does not hold."""
        source = self._ends.source
        return {p: self._done.get(p, source.begin_from.get(p, 0)) for p in source.emit_from or self._done}

    def _save(self, timer: _Timer) -> None:
        """Begin a snapshot when it is time for one and the state can be saved."""
        if self._checkpoints is None:
            return
        self._checkpoints.look()
        if self._checkpoints.due and self._savable and self.commit_all(0.0):
            self._start_snapshot(self._checkpoints, self._positions())
            timer.lap("snapshot")

    def _start_snapshot(self, checkpoints: Checkpoints, positions: Positions) -> None:
        labels = self._labels.positions() if self._labels is not None else {}
        checkpoints.start(self.pipeline.engine, positions, labels, self._server.numbered)

    def _learn(self, timeout_s: float, timer: _Timer) -> int:
        """Take in labels; return how many."""
        if self._labels is None:
            return 0
        engine, owned = self.pipeline.engine, self._ends.source.emit_from
        number, refused = self._labels.learn(engine, owned, timeout_s)
        self._commits.owed |= refused
        timer.lap("labels")
        return number

    def _start_over(self) -> None:
        """Partitions changed hands: go on with the state, or take it from a snapshot, or rebuild it."""
        source = self._ends.source
        partitions = sorted(source.emit_from)
        self._generation = source.generation
        self._aligner = Aligner()
        self._polled = []
        self._reader.waits = False
        if self._goes_on is None:
            self._forget()
        if not partitions:
            return
        self._server.partial = self._sees_part
        if self._server.partial:
            log.warning("features_partial", partitions=partitions, features=self._partial, flag="partial")
        if self._goes_on is not None:
            self._read, self._done, self._goes_on = dict(self._goes_on), self._goes_on, None
            return
        pipeline = self.pipeline
        if self._restored is not None:
            engine, stamp = self._restored
            self._server.recall(engine, stamp.numbered)
            pipeline = Pipeline(engine, pipeline.model, pipeline.policy)
            if engine.cohorts is not None:
                engine.cohorts.keep(set(partitions))
            if self._labels is not None:
                self._labels.rewind(stamp.labels)
        elif not self._fresh:
            pipeline = Pipeline(self._warmed(), pipeline.model, pipeline.policy)
            if self._labels is not None:
                self._labels.rewind()
            log.info("state_rebuilding", partitions=partitions)
        self._server.recounts = self._restored is not None
        self._fresh, self._restored, self._waits = self._restored is None, None, False
        self._server.begin(pipeline, self._run_of(partitions))

    def _forget(self) -> None:
        """Drop what was not made last: whoever has the partitions serves it again."""
        self._read, self._done = {}, {}
        self._commits.forget()

    @property
    def _sees_part(self) -> bool:
        return bool(self._partial) and not self._ends.source.whole

    def _let_go(self) -> None:
        """Free the state: another one is loaded in its place."""
        pipeline = self.pipeline
        empty = new_engine(self._settings, pipeline.engine.catalog)
        self._server.begin(Pipeline(empty, pipeline.model, pipeline.policy), self._server.run)

    def _take(self, messages: Sequence[Any], values: Sequence[Value], timer: _Timer) -> None:
        """Decode messages and serve what need not wait for other partitions; no messages: what waited."""
        self._fresh = False
        partitions = [message.partition() for message in messages]
        offsets = [message.offset() for message in messages]
        for partition, offset in dict(zip(partitions, offsets, strict=True)).items():  # the last of each
            self._read[partition] = offset + 1
        if messages:
            self._progress.read_ms = messages[-1].timestamp()[1]
        rebuilding = not self.ready
        batch, rejected = self._decoder.decode_messages(
            values,
            [message.key() for message in messages],
            (partitions, offsets),
            np.array([message.timestamp()[1] for message in messages], np.int64) if rebuilding else now_ms(),
        )
        behind = self._ends.source.behind(BACKLOG_ROWS) if messages else set()
        timer.lap("decode")
        emit_from = self._ends.source.emit_from
        rejected = [bad for bad in rejected if offsets[bad.row] >= emit_from.get(partitions[bad.row], 0)]
        if rejected:
            self._publisher.dead_letters(rejected, messages, DECODE_STAGE)
            count_dead_letters(self._metrics, DECODE_STAGE, rejected)
        ready, its_messages = self._aligner.add(batch, messages, behind)
        self._serve(ready, its_messages, timer)
        self._done = self._read | self._aligner.first_held()
        self._commits.owed |= bool(self._committable())
        self._commits.count(len(messages))
        if too_many := self._dead_letter_limit.passed(len(batch), rejected):
            self.commit_all(FINISH_WITHIN_S)
            raise too_many

    def _serve(self, batch: TransactionBatch, messages: Sequence[Any], timer: _Timer) -> None:
        """Take rows into the state and decide those that were not served before."""
        old = np.zeros(len(batch), bool)
        if not self.ready:
            starts = self._ends.source.emit_from
            old = batch.offset < np.array([starts.get(p, 0) for p in batch.partition.tolist()], np.int64)
        self._server.serve(batch, old, messages, timer.lap)

    def _look(self) -> None:
        """Tell how it goes, and take or leave steps of the ladder."""
        left = sum(self._left().values())
        waiting = self._progress.look(self._ends.source, self.pipeline.engine, left, self.ready)
        self._ladder.look(waiting)
        self._server.shed(self._ladder.shed)
        self._tracking.look(self.pipeline.engine)
        self._drifting.look(self.pipeline.engine)
        self._server.partial = self._sees_part
