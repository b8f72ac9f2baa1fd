"""A batch's way from rows in event order to what is sent, and into the state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import structlog

from fraudstream.batch import Int64, TransactionBatch, UInt64
from fraudstream.bus.base import Sink
from fraudstream.features import FeatureEngine, Observed
from fraudstream.features.cases import Case
from fraudstream.features.engine import FLAG_PARTIAL
from fraudstream.features.repeats import UNDECIDED, FirstDecisions
from fraudstream.metrics import WorkerMetrics
from fraudstream.scoring import Model, Pipeline, Scored
from fraudstream.scoring.explain import Explainer
from fraudstream.scoring.fingerprint import fingerprints
from fraudstream.scoring.pipeline import DecidedAgain
from fraudstream.sections import Settings
from fraudstream.stream.counts import Counts
from fraudstream.stream.drifting import Drifting
from fraudstream.stream.explaining import AlertExplainer
from fraudstream.stream.featurelog import FeatureLog
from fraudstream.stream.publish import Publisher, Serving
from fraudstream.stream.shadow import NOTHING, Said, Shadow
from fraudstream.stream.tracking import Marker
from fraudstream.words import read_words

log = structlog.get_logger("worker")

Lap = Callable[[str], None]


class Numbered(NamedTuple):
    """What the numbers in remembered decisions stand for; `outcomes` and `rules` belong together."""

    models: list[str]
    outcomes: list[str]
    rules: list[str]


def absorb(engine: FeatureEngine, batch: TransactionBatch) -> None:
    """Take a batch into the state silently; what is repeated changes nothing."""
    engine.absorb(engine.recognise(batch).fresh_of(batch))


class Server:
    """Decides rows, sends what was decided, and numbers it.

    Attributes:
        pipeline: engine, model and policy; another one when the state is rebuilt.
        explainer: of alerts.
        run: the name of this state's life, see `runs`.
        shadow: the challenger.
        partial: some features see only the rows of this worker's partitions; decisions say so.
        recounts: rows that were served before count once more in the cohorts: those between a snapshot and the last
            commit.

    Where there are cohorts to count or cases to go on with, rows that were served before are decided once more,
    silently, by the model that decides now.

    Args:
        feature_log: takes the features that were scored; None: nobody wants them.
        on_failure: `stop`, `open` or `closed`, as `[degradation]` has it.
        marker: of what is counted; see `tracking`.
        drifting: counts what the champion scores.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        publisher: Publisher,
        feature_log: FeatureLog | None,
        metrics: WorkerMetrics,
        explainer: AlertExplainer,
        marker: Marker,
        drifting: Drifting,
        on_failure: str = "stop",
    ) -> None:
        self.pipeline = pipeline
        self.recounts = False
        self._marker = marker
        self._drifting = drifting
        self._on_failure = on_failure
        self._steps: tuple[str, ...] = ()  # of the ladder, that are left out
        self.explainer = explainer
        self.run = ""
        self.shadow = Shadow(metrics)
        self.partial = False
        self._model = 0  # the number of the model that decides, in the publisher's list
        self._publisher = publisher
        self._feature_log = feature_log
        self._metrics = metrics
        self._sequence = 0
        self._counts = Counts(metrics, pipeline.policy, pipeline.model.parts.version)

    def begin(self, pipeline: Pipeline, run: str) -> None:
        """Go on with another state."""
        self.pipeline = pipeline
        self.run = run
        self._sequence = 0
        self._publisher.begin(run)

    @property
    def numbered(self) -> Numbered:
        """Return models and rules by the numbers under which first decisions are remembered."""
        policy = self.pipeline.policy
        return Numbered(self._publisher.models, policy.names, policy.texts)

    def recall(self, engine: FeatureEngine, theirs: Numbered) -> None:
        """Give the first decisions that an engine remembers from elsewhere the numbers that are used here.

        A rule that is not there any more becomes the first one with its outcome.
        """
        ours, outcomes = self.numbered, []
        for name, text in zip(theirs.outcomes, theirs.rules, strict=True):
            alike = [i for i, known in enumerate(ours.outcomes) if known == name]
            same = [i for i in alike if ours.rules[i] == text]
            outcomes.append((same or alike or [UNDECIDED])[0])
        if outcomes != list(range(len(outcomes))):
            engine.repeats.renumber(outcomes)
        self._model = self._publisher.recall(theirs.models, self.pipeline.model.parts.version)

    def use(self, model: Model) -> None:
        """Let another model decide from the next batch on; what was decided before stays as it was."""
        self.pipeline.model = model
        self._drifting.use(model)
        self._counts.use(model.parts.version)
        self._model = self._publisher.use(model.parts.version)

    def shed(self, steps: tuple[str, ...]) -> None:
        """Leave steps of the ladder out from the next batch on."""
        self.explainer.by_path = "explanations" in steps
        self._steps = steps

    def serve(
        self, batch: TransactionBatch, old: npt.NDArray[np.bool_], messages: Sequence[Any], lap: Lap
    ) -> None:
        """Take rows into the state and decide them.

        Args:
            batch: in event order.
            old: which rows were served before and only change the state, [n].
            messages: those that the batch was decoded from.
            lap: told of each stage behind it.
        """
        if old.any():
            self._metrics.replayed.inc(int(old.sum()))
        engine = self.pipeline.engine
        decides_old = engine.cases is not None or (self.recounts and engine.cohorts is not None)
        if old.all() and not decides_old:
            absorb(engine, batch)
            lap("features")
            return
        told = engine.recognise(batch)
        fresh, rows = told.fresh_of(batch), told.fresh
        observed = engine.observe(fresh)
        if self.partial:
            observed.flags[:] |= FLAG_PARTIAL
        lap("features")
        scored = self._scored(fresh, observed)
        decided = self.pipeline.remember(told.entries[rows], scored, self._model)
        cases = engine.open_cases(scored.batch, np.flatnonzero(scored.alerting).tolist())
        new = ~old[rows]
        mine = scored if new.all() else scored.take(np.flatnonzero(new))
        self._track(scored if self.recounts else mine)
        lap("score")
        if len(mine.batch):
            its_cases = [case for case, is_new in zip(cases, new[scored.alerting], strict=True) if is_new]
            self._decide(mine, its_cases, messages, lap)
        asked = np.flatnonzero(~old[told.again])
        if len(asked):
            first = told.first_with(rows, decided).take(asked)
            again = told.again[asked]
            self._decide_again(batch.take(again), told.entries[again], first, messages, lap)

    def _track(self, scored: Scored) -> None:
        """Count what was decided in the cohorts."""
        pipeline = self.pipeline
        if pipeline.engine.cohorts is not None and len(scored.batch):
            version = pipeline.model.parts.version
            pipeline.engine.track(scored.batch, self._marker.words(pipeline.engine.cohorts, scored, version))

    def _scored(self, batch: TransactionBatch, observed: Observed) -> Scored:
        """Score rows; where that fails, do as `degradation.on_failure` says."""
        try:
            return self.pipeline.score(batch, observed)
        except Exception as error:
            if self._on_failure == "stop":
                raise
            self._metrics.unscored.labels(self._on_failure).inc(len(batch))
            log.exception("not_scored", rows=len(batch), failed=self._on_failure, error=repr(error))
            return self.pipeline.unscored(batch, observed, self._on_failure == "closed")

    def _decide(self, scored: Scored, cases: Sequence[Case], messages: Sequence[Any], lap: Lap) -> None:
        self._drifting.count(scored)
        said = self._shadowed(scored)
        lap("shadow")
        explanations = self.explainer.explain(self.pipeline.model, scored)
        lap("explain")
        fresh = scored.batch
        serving = self._numbered(fingerprints(scored.X), np.full(len(fresh), self._model, np.int64), said)
        self._publisher.decisions(scored, serving, messages)
        self._publisher.alerts(scored, serving, explanations, cases, messages)
        if self._feature_log is not None:
            self._feature_log.write(fresh, scored.X, serving.sequence, self.run)
        self._counts.count(scored, messages)
        lap("produce")

    def _decide_again(
        self,
        batch: TransactionBatch,
        entries: UInt64,
        first: FirstDecisions,
        messages: Sequence[Any],
        lap: Lap,
    ) -> None:
        again = self.pipeline.decide_again(batch, entries, first, self._model)
        lap("score")
        said = self._said_again(again)
        lap("shadow")
        hashes = [
            "" if recalled else hashed
            for recalled, hashed in zip(again.recalled.tolist(), fingerprints(again.scored.X), strict=True)
        ]
        serving = self._numbered(hashes, again.model, said)
        self._publisher.decisions(again.scored, serving, messages)
        if self._feature_log is not None:
            for row in np.flatnonzero(~again.recalled).tolist():
                one = slice(row, row + 1)
                part = batch.part(row, row + 1)
                self._feature_log.write(part, again.scored.X[one], serving.sequence + row, self.run)
        self._counts.count(again.scored, messages)
        lap("produce")

    def _shadowed(self, scored: Scored) -> Said:
        """Return what the challenger says of rows; nothing while the ladder leaves it out."""
        if "shadow" in self._steps:
            return NOTHING * len(scored.batch)
        return self.shadow.of(self.pipeline, scored)

    def _said_again(self, again: DecidedAgain) -> Said:
        """Return what the challenger says of the rows that were scored now; of recalled ones it says nothing."""
        rows = np.flatnonzero(~again.recalled)
        said = NOTHING * len(again.recalled)
        for row, of_it in zip(rows.tolist(), self._shadowed(again.scored.take(rows)), strict=True):
            said[row] = of_it
        return said

    def _numbered(self, hashes: list[str], model: Int64, said: Said) -> Serving:
        serving = Serving(hashes, self._sequence, model, said, self._steps or msgspec.UNSET)
        self._sequence += len(hashes)
        return serving


def new_server(
    settings: Settings,
    pipeline: Pipeline,
    sink: Sink,
    publisher: Publisher,
    drifting: Drifting,
    metrics: WorkerMetrics,
) -> Server:
    """Return a server as the settings want it."""
    worker, alerts, catalog = settings.worker, settings.alerts, pipeline.engine.catalog
    feature_log = FeatureLog(sink, settings.topics.features, catalog) if worker.feature_log else None
    explainer = Explainer(catalog, read_words(alerts.language, alerts.words), worker.reasons_max)
    return Server(
        pipeline,
        publisher,
        feature_log,
        metrics,
        AlertExplainer(explainer, worker.explain_budget_ms, metrics),
        Marker(settings.quality.segment, settings.event),
        drifting,
        settings.degradation.on_failure,
    )
