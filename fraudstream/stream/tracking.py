"""What became of what a worker decided: counted with the state, told in the metrics.

The counts are of stream time: a report counts once features see it (`labels.grace` after it was known). Two windows
are told: the newest days that are mature, and the younger ones, of which some frauds are not reported yet. How many
those are is estimated as `fraudstream quality` does it, beside the loop.

Counts add up over workers; so do the estimated numbers of frauds. A rate is to be taken of the sums.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import groupby

import numpy as np
import structlog

from fraudstream.batch import Int64, TransactionBatch
from fraudstream.clock import Seldom
from fraudstream.event import EventType
from fraudstream.features import FeatureEngine
from fraudstream.features.cohorts import Cell, Cohort, Cohorts
from fraudstream.metrics import WorkerMetrics
from fraudstream.scoring import Scored
from fraudstream.scoring.tracking import DAY_MS, NEVER_MS, Figures, Rows, Tracked, Tracker
from fraudstream.sections import MATURE_DAYS, Settings

log = structlog.get_logger("worker")

OTHER = "other"  # segments that are not listed
TELL_EVERY_S = 60.0
TOLD = (
    *("transactions", "alerts", "labelled", "frauds", "frauds_alerted"),
    *("frauds_expected", "frauds_alerted_expected"),
)


class Marker:
    """Says of each transaction which cohort it is of.

    Args:
        segment: a field with listed values; empty: all are of one segment.
    """

    def __init__(self, segment: str, event: EventType) -> None:
        self._field = segment
        values = event.fields[segment].values if segment else []
        self._segments = [*values, OTHER] if segment else [""]
        self._place = {value: place for place, value in enumerate(values)}
        self._model = ""
        self._cohorts: Cohorts | None = None
        self._words = np.zeros((0, len(self._segments)), np.int64)

    def words(self, cohorts: Cohorts, scored: Scored, model: str) -> Int64:
        """Return the word of each row, [n], by which `FeatureEngine.track` counts it."""
        if model != self._model or cohorts is not self._cohorts:
            self._model, self._cohorts, self._words = model, cohorts, self._words[:0]
        partition = scored.batch.partition
        for new in range(len(self._words), int(partition.max()) + 1):
            row = [cohorts.word(Cohort(new, model, segment)) for segment in self._segments]
            self._words = np.vstack([self._words, np.array(row, np.int64)])
        found: Int64 = self._words[partition, self._segment_of(scored.batch)] + scored.alerting
        return found

    def _segment_of(self, batch: TransactionBatch) -> Int64 | int:
        if not self._field:
            return 0
        place, other = self._place, len(self._place)
        return np.array([place.get(value or "", other) for value in batch.texts[self._field]], np.int64)


class Tracking:
    """Tells in the metrics what became of what was decided.

    Args:
        settings: `labels.maturity` says when it is known.
    """

    def __init__(self, settings: Settings, metrics: WorkerMetrics) -> None:
        self._maturity_ms = settings.labels.maturity_ms
        self._metrics = metrics
        self._seldom = Seldom(TELL_EVERY_S)
        self._thread: threading.Thread | None = None
        self._told: set[tuple[str, str, str]] = set()

    def look(self, engine: FeatureEngine) -> None:
        """Tell it once in a while, in a thread: estimating takes a tenth of a second."""
        if engine.cohorts is None or (self._thread is not None and self._thread.is_alive()):
            return
        if engine.watermark_ms and self._seldom.now() and (cells := engine.cohorts.cells()):
            now = (cells, engine.watermark_ms)
            self._thread = threading.Thread(target=self._try_to_tell, args=now, name="tracking", daemon=True)
            self._thread.start()

    def _try_to_tell(self, cells: Sequence[Cell], watermark_ms: int) -> None:
        try:
            self.tell(cells, watermark_ms)
        except Exception as error:  # whatever it is, decisions go on
            log.exception("tracking_failed", reason=repr(error))

    def tell(self, cells: Sequence[Cell], watermark_ms: int) -> None:
        """Update the metrics.

        How long reports take and how much of what is mature was fraud is learned of all models: one that has just
        been promoted has nothing mature yet. Where none has, what is to come is not told.

        Args:
            cells: at least one.
            watermark_ms: stream time of the counts.
        """
        today = watermark_ms // DAY_MS
        everything = tracked_of(cells, self._maturity_ms)
        tracker = Tracker(everything, today * DAY_MS, self._maturity_ms + DAY_MS)
        foreseen = bool((today * DAY_MS - everything.time_ms >= self._maturity_ms + DAY_MS).any())
        told: dict[tuple[str, str, str], Figures] = {}
        for model, of_model in groupby(sorted(cells, key=_model_of), key=_model_of):
            mine = list(of_model)
            for segment in sorted({cell.cohort.segment for cell in mine}):
                those = tracked_of(
                    [cell for cell in mine if cell.cohort.segment == segment], self._maturity_ms
                )
                for window, rows in self._windows(those, today).items():
                    if rows.any():
                        told[window, model, segment] = tracker.figures(those.take(rows))
        for name in TOLD:
            gauge = getattr(self._metrics, f"tracked_{name}")
            for labels, figures in told.items():
                if foreseen or not name.endswith("_expected"):
                    gauge.labels(*labels).set(getattr(figures, name))
            for labels in self._told - told.keys():
                gauge.remove(*labels)
        self._told = set(told)

    def _windows(self, tracked: Tracked, today: int) -> dict[str, Rows]:
        """Return the rows of the newest mature days, and of those that are not mature."""
        age_ms = today * DAY_MS - tracked.time_ms
        mature_ms = self._maturity_ms + DAY_MS
        newest = (age_ms >= mature_ms) & (age_ms < mature_ms + MATURE_DAYS * DAY_MS)
        return {"mature": newest, "provisional": age_ms < mature_ms}


def tracked_of(cells: Sequence[Cell], maturity_ms: int) -> Tracked:
    """Return counts as rows of several transactions; each event and report is at the begin of its day.

    What was reported after `maturity_ms`, in whole days, was legitimate by then, and stays so.
    """
    rows: list[tuple[int, bool, int, int]] = []
    labelled: list[bool] = []
    for cell in cells:
        frauds, at_ms = sum(cell.reports.values()), cell.day * DAY_MS
        known = cell.labelled - frauds
        for number, is_known in ((cell.transactions - cell.labelled, False), (known, True)):
            rows.append((at_ms, cell.alerted, NEVER_MS, number))
            labelled.append(is_known)
        for days, number in cell.reports.items():
            in_time = days * DAY_MS < maturity_ms
            rows.append((at_ms, cell.alerted, at_ms + days * DAY_MS if in_time else NEVER_MS, number))
            labelled.append(True)
    time_ms, alerted, reported_ms, weight = (np.array(column) for column in zip(*rows, strict=True))
    there = weight > 0
    return Tracked(time_ms, alerted, reported_ms, np.array(labelled), weight=weight).take(there)


def _model_of(cell: Cell) -> str:
    return cell.cohort.model
