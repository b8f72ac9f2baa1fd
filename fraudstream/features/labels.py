"""Labels that features see: each joins the entities of its transaction, from `known_at` + grace on, in stream time.

Stream time at a row is the newest event time of all rows up to it. Of the labels that are visible, the one of the
highest rank counts, of those the one with the latest `known_at`, so that a reversal takes a mark back, and an older
label that comes later changes nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from itertools import count, pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fraudstream.batch import Int64, UInt64
from fraudstream.features.cohorts import DAY_MS, Cohorts
from fraudstream.features.keys import hash_texts
from fraudstream.features.recent import Recent
from fraudstream.records import Label

WAITING_MAX = 1_000_000  # transactions that labels wait for
# Words of a remembered transaction: its event time, the label that counts (twice its weight, and 1 for fraud), what
# was decided of it (`cohorts`), then for each labelled stage its entity's hash, 0 where it left no state, then the
# bits of the filters that it fulfils in each, four stages a word.
R_TIME, R_LABEL, R_DECIDED, R_ENTITIES = range(Recent.FIRST, Recent.FIRST + 4)
STAGES_A_WORD = 4
RANK_UNIT = 2**43  # more than any `known_at`: the year 2248
_UNLABELLED = np.iinfo(np.int64).min


class KnownLabel(NamedTuple):
    """What became known of a transaction.

    Attributes:
        known_at_ms: Unix milliseconds UTC.
        rank: of its source, as `labels.precedence` gives it.
    """

    transaction_id: str
    fraud: bool
    known_at_ms: int
    rank: int = 0

    @property
    def said(self) -> int:
        """Return twice the rank, and 1 for fraud."""
        return 2 * self.rank + self.fraud


def known_label(label: Label, ranks: Mapping[str, int]) -> KnownLabel:
    """Return a message of the topic as features learn it."""
    rank = ranks.get(label.source, 0)
    return KnownLabel(label.transaction_id, label.label == "fraud", label.known_at, rank)


class Marking(NamedTuple):
    """One mark to set or take back before a row of a batch is read.

    Attributes:
        row: the first row that sees it.
        source: the transaction's row in the same batch, or -1.
        id_hash: of the transaction.
        entities: hash of the transaction's entity in each labelled stage; 0: none.
        bits: of the filters that it fulfils in each, four stages a word.
        sign: 1 for a mark set, -1 for one taken back.
    """

    row: int
    source: int
    id_hash: int
    time_ms: int
    entities: list[int]
    bits: list[int]
    sign: int

    def of_stage(self, labelled: int) -> tuple[Marking, int, int]:
        """Return the mark with the entity's hash and the bits in one labelled stage."""
        word, place = divmod(labelled, STAGES_A_WORD)
        return self, self.entities[labelled], self.bits[word] >> (16 * place) & 0xFFFF


class LabelBook:
    """Labels that wait to be visible, and the transactions that they can still belong to.

    Args:
        horizon_ms: how long a transaction can be seen in a labelled window, lateness included.
        stages: number of labelled stages.
        grace_ms: after `known_at`.
        cohorts: counts what was decided of the transactions; None: nobody wants to know.
    """

    def __init__(self, horizon_ms: int, stages: int, grace_ms: int, cohorts: Cohorts | None = None) -> None:
        self.grace_ms = grace_ms
        self.cohorts = cohorts
        bit_words = -(-stages // STAGES_A_WORD)
        self._stages = stages
        self.transactions = Recent(horizon_ms, R_ENTITIES + stages + bit_words)
        self.waiting: list[tuple[int, int, int, int]] = []  # a heap: visible at, order learned, id hash, said
        self.orphans: dict[int, list[tuple[int, int]]] = {}  # by id hash: visible at, said
        self._order = count()
        self._ids = np.empty(0, np.uint64)
        self._entities: list[UInt64] = []
        self._known = np.empty(0, np.int64)

    def learn(self, labels: Iterable[KnownLabel]) -> None:
        """Take labels in as they arrive."""
        known = list(labels)
        hashes = hash_texts([label.transaction_id for label in known]).tolist()
        for label, id_hash in zip(known, hashes, strict=True):
            visible_ms = label.known_at_ms + self.grace_ms
            heapq.heappush(self.waiting, (visible_ms, next(self._order), id_hash, label.said))

    def restore(self, waiting: list[tuple[int, int, int, int]], orphans: list[tuple[int, int, int]]) -> None:
        """Take in the labels that waited when a snapshot was saved."""
        self.waiting = waiting
        heapq.heapify(self.waiting)
        self.orphans = {}
        for id_hash, visible_ms, said in orphans:
            self.orphans.setdefault(id_hash, []).append((visible_ms, said))
        self._order = count(1 + max((order for _, order, _, _ in waiting), default=0))

    def markings(
        self,
        ids: UInt64,
        time_ms: Int64,
        entities: list[UInt64],
        bits: list[npt.NDArray[np.uint16]],
        watermark_ms: int,
    ) -> list[Marking]:
        """Remember a batch's transactions, and return the marks that become visible within it, in order.

        Args:
            ids: [n] hashes of the transaction ids.
            entities: by labelled stage the hashes of the rows' entities, [n] each.
            bits: by labelled stage those of the filters that the rows fulfil, [n] each.
            watermark_ms: stream time before the batch.
        """  # fmt: skip
        stream_ms = np.maximum.accumulate(np.maximum(time_ms, watermark_ms))
        self._ids, self._entities, self._known = ids, entities, np.empty(len(ids), np.int64)
        words = self._words(time_ms, entities, bits)
        marks: list[Marking] = []
        for first, end in pairwise([0, *self._turns(stream_ms), len(ids)]):
            span = slice(first, end)
            self.transactions.add(ids[span], time_ms[span], watermark_ms, self._known[span], words[span])
            watermark_ms = int(stream_ms[end - 1])
            due = self._orphans_of(ids[span], first)
            while self.waiting and self.waiting[0][0] <= watermark_ms:
                visible_ms, _, id_hash, said = heapq.heappop(self.waiting)
                due.append((int(np.searchsorted(stream_ms, visible_ms)), id_hash, visible_ms, said))
            marks += [mark for label in due if (mark := self._weigh(label, end, stream_ms))]
        marks.sort(key=lambda mark: mark.row)
        return marks

    def _turns(self, stream_ms: Int64) -> list[int]:
        """Return the rows from which on older entries are dropped."""
        generations = stream_ms // self.transactions.horizon_ms
        if generations[0] == generations[-1]:
            return []
        return (np.flatnonzero(np.diff(generations)) + 1).tolist()

    def decided(self, ids: UInt64, time_ms: Int64, words: Int64, watermark_ms: int) -> None:
        """Count what was decided of transactions that have been taken in; each of them counts once.

        Args:
            ids: [n] hashes of the transaction ids.
            words: [n], of `Cohorts.word`.
        """
        assert self.cohorts is not None, "nobody counts"
        stood = np.empty((len(ids), 3), np.int64)
        self.transactions.put_once(ids, R_DECIDED, words, stood)
        self.cohorts.forget(watermark_ms)
        rows = slice(None) if stood[:, 0].all() else np.flatnonzero(stood[:, 0])
        label, late = stood[rows, 1], stood[rows, 2] >> 32
        self.cohorts.count(
            time_ms[rows] // DAY_MS, words[rows], (label != _UNLABELLED).astype(np.int64), late
        )

    def settle(self, stored: list[npt.NDArray[np.uint8]]) -> None:
        """Forget the entities in which a transaction of the last batch left no state."""
        for stage, (kept, hashes) in enumerate(zip(stored, self._entities, strict=True)):
            if kept.all():
                continue
            gone = np.flatnonzero((kept == 0) & (hashes != 0) & (self._known == 0))
            if len(gone):
                nowhere = np.zeros((len(gone), 1), np.int64)
                self.transactions.put(self._ids[gone], R_ENTITIES + stage, nowhere)

    def _words(
        self, time_ms: Int64, entities: list[UInt64], bits: list[npt.NDArray[np.uint16]]
    ) -> Int64:  # fmt: skip
        """Return what is remembered of new transactions, [n, words]."""
        words = np.zeros((len(time_ms), self.transactions.width - R_TIME), np.int64)
        words[:, 0], words[:, R_LABEL - R_TIME] = time_ms, _UNLABELLED
        column = R_ENTITIES - R_TIME
        for stage, (hashes, fulfilled) in enumerate(zip(entities, bits, strict=True)):
            place, shift = divmod(stage, STAGES_A_WORD)
            words[:, column + stage] = hashes.view(np.int64)
            words[:, column + self._stages + place] |= fulfilled.astype(np.int64) << (16 * shift)
        return words

    def _orphans_of(self, ids: UInt64, first: int) -> list[tuple[int, int, int, int]]:
        """Return the labels that waited for these transactions, of which the first is row `first`."""
        due = []
        if self.orphans:
            hashes = ids.tolist()
            for row in np.flatnonzero([*map(self.orphans.__contains__, hashes)]).tolist():
                for visible_ms, said in self.orphans.pop(hashes[row], ()):
                    due.append((first + row, hashes[row], visible_ms, said))
        return due

    def _weigh(self, label: tuple[int, int, int, int], end: int, stream_ms: Int64) -> Marking | None:
        """Return the mark that a visible label makes; None where it changes nothing.

        Args:
            end: behind the rows that are remembered by now; its transaction may be one of them.
        """
        row, id_hash, visible_ms, said = label
        now_ms = int(stream_ms[row])
        entry = self.transactions.find(id_hash, now_ms)
        if entry is None:
            self._keep_orphan(id_hash, visible_ms, said, now_ms)
            return None
        rank, fraud = said >> 1, bool(said & 1)
        weight = rank * RANK_UNIT + visible_ms - self.grace_ms
        former = int(entry[R_LABEL])
        if weight < former >> 1:
            return None
        entry[R_LABEL] = 2 * weight + fraud
        if self.cohorts is not None:
            at_ms, first = int(entry[R_TIME]), former == _UNLABELLED
            known_at_ms = visible_ms - self.grace_ms
            entry[R_DECIDED] = self.cohorts.learn(int(entry[R_DECIDED]), at_ms, known_at_ms, fraud, first)
        if bool(former & 1) == fraud:
            return None
        same = self._ids[:end] == np.uint64(id_hash)
        made = np.flatnonzero(same & (self._known[:end] == 0))  # a repeat did not make the entry
        source = int(made[-1]) if len(made) else -1
        sign = 1 if fraud else -1
        row = max(row, source + 1)
        hashes = entry[R_ENTITIES : R_ENTITIES + self._stages].tolist()
        bits = entry[R_ENTITIES + self._stages :].tolist()
        return Marking(row, source, id_hash, int(entry[R_TIME]), hashes, bits, sign)

    def _keep_orphan(self, id_hash: int, visible_ms: int, said: int, now_ms: int) -> None:
        """Let a label wait for its transaction, as long as that could still be seen; within a bound."""
        if len(self.orphans) >= WAITING_MAX:
            old_ms = now_ms - self.transactions.horizon_ms
            self.orphans = {key: kept for key, kept in self.orphans.items() if kept[-1][0] > old_ms}
        if len(self.orphans) < WAITING_MAX:
            self.orphans.setdefault(id_hash, []).append((visible_ms, said))
