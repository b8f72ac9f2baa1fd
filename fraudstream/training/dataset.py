"""Training sets as of an instant: nothing that became known later is in them.

A transaction is mature when `labels.maturity` has passed since it: by then silence means legitimate. Of
younger transactions only the frauds would be known, so all of them are left out. A repeated transaction is
left out too: it is no second one. So are those of a silence, a stretch longer than `labels.silence` without one
labelled transaction: no source of labels was connected then, and nothing of it is known to be legitimate.

Memory is bounded: of the legitimate transactions before the validation window at most `negatives_max` are kept while
they are replayed. Which ones follows from a seeded hash of their ids, so that it depends on nothing else: whenever
there are more, the half with the larger hashes goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fraudstream.batch import Float64, Int64, TransactionBatch, UInt64
from fraudstream.bus.place import Place
from fraudstream.clock import iso
from fraudstream.errors import ConfigError
from fraudstream.features import FeatureEngine
from fraudstream.features.keys import combine, hash_texts
from fraudstream.ledger import Flags, Labels, silences
from fraudstream.sections import DAY_MS
from fraudstream.training.replay import Advance, LogFiles, observe_files


@dataclass(frozen=True, slots=True)
class Dataset:
    """Transactions with their features and what was known of them.

    Attributes:
        X: [n, features] of the catalogue.
        fraud: [n]; time_ms: [n].
        rejected: rows of the files that are not transactions.
        share: of the legitimate ones that were sampled from, kept; each stands for 1 / share.
        silent: the silences (from, to) of the window, whose transactions are left out.
    """

    X: Float64
    fraud: npt.NDArray[np.bool_]
    time_ms: Int64
    rejected: int
    share: float = 1.0
    silent: tuple[tuple[int, int], ...] = ()

    def between(self, start_ms: int, end_ms: int) -> Dataset:
        """Return the transactions of [start, end)."""
        rows = (self.time_ms >= start_ms) & (self.time_ms < end_ms)
        return Dataset(self.X[rows], self.fraud[rows], self.time_ms[rows], 0, self.share, self.silent)

    def weights(self, half_life_days: float) -> Float64 | None:
        """Return how much each counts in training, 1 for the newest; None where all count the same (0 days)."""
        if not half_life_days:
            return None
        return np.exp2((self.time_ms - self.time_ms.max()) / (half_life_days * DAY_MS))

    def without(self, silent: list[tuple[int, int]]) -> Dataset:
        """Return the frauds, one of which may begin a silence, and the others outside these."""
        if not silent:
            return self
        rows = np.ones(len(self.fraud), np.bool_)
        for start_ms, end_ms in silent:
            rows &= self.fraud | (self.time_ms < start_ms) | (self.time_ms >= end_ms)
        X, fraud, time_ms = self.X[rows], self.fraud[rows], self.time_ms[rows]
        return Dataset(X, fraud, time_ms, self.rejected, self.share, tuple(silent))


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which legitimate transactions are sampled.

    Attributes:
        negatives_max: kept at most.
        until_ms: those from here on are all kept.
    """

    negatives_max: int
    until_ms: int
    seed: int


class _Kept:
    """Rows kept while replaying, within the bound."""

    def __init__(self, sampling: Sampling | None) -> None:
        self._sampling = sampling
        self._halvings = 0
        self._sampled = 0  # legitimate ones kept that are sampled
        self._parts: list[_Part] = []

    def add(self, batch: TransactionBatch, X: Float64, fraud: Flags) -> None:
        """Keep of the rows what the sampling lets through."""
        if self._sampling is None:
            certain, draw = np.ones(len(fraud), np.bool_), np.zeros(len(fraud), np.uint64)
        else:
            certain = fraud | (batch.time_ms >= self._sampling.until_ms)
            seeds = np.full(len(fraud), self._sampling.seed, np.uint64)
            draw = combine([hash_texts(batch.ids), seeds])
        self._keep(_Part(X, fraud, batch.time_ms, certain, draw))
        while self._sampling is not None and self._sampled > self._sampling.negatives_max:
            self._halvings += 1
            parts, self._parts, self._sampled = self._parts, [], 0
            for part in parts:
                self._keep(part)

    def _keep(self, part: _Part) -> None:
        limit = np.uint64((1 << 64 - self._halvings) - 1)
        kept = part.certain | (part.draw <= limit)
        if kept.any():
            part = part if kept.all() else part.take(kept)
            self._parts.append(part)
            self._sampled += int((~part.certain).sum())

    def dataset(self, rejected: int) -> Dataset | None:
        """Return what was kept; None where that is nothing."""
        if not self._parts:
            return None
        fraud = np.concatenate([part.fraud for part in self._parts])
        time_ms = np.concatenate([part.time_ms for part in self._parts])
        X = np.empty((len(fraud), self._parts[0].X.shape[1]))
        end = len(fraud)
        while self._parts:  # each goes as it is copied: `concatenate` would hold all of it twice
            part = self._parts.pop().X
            X[end - len(part) : end] = part
            end -= len(part)
        return Dataset(X, fraud, time_ms, rejected, 0.5**self._halvings)


class _Part(NamedTuple):
    X: Float64
    fraud: Flags
    time_ms: Int64
    certain: Flags
    draw: UInt64

    def take(self, rows: Flags) -> _Part:
        X, fraud, time_ms, certain, draw = self
        return _Part(X[rows], fraud[rows], time_ms[rows], certain[rows], draw[rows])


def dataset_as_of(
    transactions: Place,
    labels: Labels,
    engine: FeatureEngine,
    window_ms: tuple[int, int],
    advance: Advance,
    sampling: Sampling | None = None,
    silence_ms: int | None = None,
) -> Dataset:
    """Replay the transactions and keep those of [start, end), with their labels.

    Args:
        labels: what was known at the instant. It says what a transaction was, and feeds features, these only
            from the moment on at which it was known.
        sampling: of the legitimate ones; None: all are kept.
        silence_ms: how long without any labelled transaction is a silence; None: nothing is.

    Raises:
        ConfigError: none lies in the window.
    """
    start_ms, end_ms = window_ms

    def wanted(batch: TransactionBatch) -> bool:
        return bool(((batch.time_ms >= start_ms) & (batch.time_ms < end_ms)).any())

    event, outcomes = engine.catalog.event, labels.outcomes()
    reach_ms = max((feature.reach_ms for feature in engine.catalog.features), default=0)
    begin_ms = start_ms - reach_ms - engine.settings.repeat_horizon_ms
    files = LogFiles(transactions, labels, labels.fields(event), end_ms, begin_ms)
    kept = _Kept(sampling)
    rejected = 0
    labelled_ms = []
    for seen in observe_files(files, engine, wanted, advance):
        rejected += len(seen.rejected)
        batch = seen.fresh
        rows = np.flatnonzero((batch.time_ms >= start_ms) & (batch.time_ms < end_ms))
        if len(rows):
            chosen = batch.take(rows)
            fraud, labelled = outcomes.of_batch(chosen, event)
            labelled_ms.append(chosen.time_ms[labelled])
            kept.add(chosen, seen.observed.X[rows], fraud)
    data = kept.dataset(rejected)
    if data is None:
        raise ConfigError(
            f"{transactions}: no transaction between {iso(start_ms)} and {iso(end_ms)}, the mature ones to learn "
            "from; give earlier transactions, a later --as-of, or a shorter labels.maturity"
        )
    if silence_ms is None:
        return data
    first_ms = max(start_ms, int(data.time_ms.min()))
    return data.without(silences(np.concatenate(labelled_ms), (first_ms, end_ms), silence_ms))
