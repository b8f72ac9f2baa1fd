"""Labels on their way from the topic into the engine.

They are all read again whenever the state is rebuilt, before any transaction, so that the rebuilt state sees what it
would have seen. From then on they are taken in as they come, before each batch.
"""

from __future__ import annotations

from collections.abc import Collection

import structlog

from fraudstream.bus.base import LabelSource, Positions
from fraudstream.clock import Seldom
from fraudstream.decode import LabelDecoder
from fraudstream.features import FeatureEngine
from fraudstream.features.labels import known_label
from fraudstream.metrics import WorkerMetrics
from fraudstream.sections import LabelSettings
from fraudstream.stream.counts import begin_dead_letters, count_dead_letters
from fraudstream.stream.publish import LABEL_STAGE, Publisher

log = structlog.get_logger("worker")

LABELS_A_TURN = 2_000


class LabelFeed:
    """Reads labels and teaches them to an engine.

    Args:
        source: all labels.
        publisher: takes the bad ones.
        settings: when features see a label, and which one counts.
    """

    def __init__(
        self, source: LabelSource, publisher: Publisher, metrics: WorkerMetrics, settings: LabelSettings
    ) -> None:
        self._source = source
        self._publisher = publisher
        self._metrics = metrics
        self._grace_ms, self._ranks = settings.grace_ms, settings.ranks
        self._decoder = LabelDecoder()
        self._seldom = Seldom()
        self._bad = 0  # since the last complaint
        for result in ("learned", "late", "bad"):
            metrics.labels.labels(result).inc(0)
        begin_dead_letters(metrics, LABEL_STAGE)
        source.rewind()

    @property
    def caught_up(self) -> bool:
        """Tell whether the labels have been read that were there when the state began to be rebuilt."""
        return self._source.caught_up()

    def rewind(self, positions: Positions | None = None) -> None:
        """Begin again: at the oldest label for an engine that has seen none, else behind those that it has seen."""
        self._source.rewind(positions)

    def positions(self) -> Positions:
        """Return where the labels stand that the engine has not seen."""
        return self._source.positions()

    def learn(self, engine: FeatureEngine, owned: Collection[int], timeout_s: float) -> tuple[int, bool]:
        """Take in what is there, a bounded number; return how many, and whether any became a dead letter.

        A bad label goes to the dead letters when it comes while a worker runs, and only from the one that has the
        partition of the same number: else each restart and each worker would send it again.

        Args:
            owned: partitions of this worker.
            timeout_s: how long to wait for the first.
        """
        rebuilding = not self.caught_up
        messages = self._source.poll(LABELS_A_TURN, timeout_s)
        if not messages:
            return 0, False
        labels, rejected = self._decoder.decode([message.value() for message in messages])
        late = 0
        if not rebuilding:
            seen_ms = engine.watermark_ms - self._grace_ms
            late = sum(label.known_at <= seen_ms for label in labels)
        engine.learn(known_label(one, self._ranks) for one in labels)
        results = (("learned", len(labels) - late), ("late", late), ("bad", len(rejected)))
        for result, number in results:
            self._metrics.labels.labels(result).inc(number)
        if not rejected:
            return len(messages), False
        self._complain(messages[rejected[-1].row], len(rejected))
        sent = [bad for bad in rejected if not rebuilding and messages[bad.row].partition() in owned]
        self._publisher.dead_letters(sent, messages, LABEL_STAGE)
        count_dead_letters(self._metrics, LABEL_STAGE, sent)
        return len(messages), bool(sent)

    def close(self) -> None:
        """Give the source back."""
        self._source.close()

    def _complain(self, message: object, number: int) -> None:
        """Say once in a while that labels are bad and where the last one is; never what it holds."""
        self._bad += number
        if self._seldom.now():
            where = {"partition": message.partition(), "offset": message.offset()}  # type: ignore[attr-defined]
            log.warning("labels_rejected", number=self._bad, **where)
            self._bad = 0
