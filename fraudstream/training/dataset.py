"""Training sets as of an instant: nothing that became known later is in them.

A transaction is mature when `labels.maturity` has passed since it: by then silence means legitimate. Of
younger transactions only the frauds would be known, so all of them are left out. A repeated transaction is
left out too: it is no second one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fraudstream.batch import Float64, Int64, TransactionBatch
from fraudstream.clock import iso
from fraudstream.errors import ConfigError
from fraudstream.features import FeatureEngine
from fraudstream.ledger import Labels
from fraudstream.training.replay import Advance, LogFiles, observe_files


@dataclass(frozen=True, slots=True)
class Dataset:
    """Transactions with their features and what was known of them.

    Attributes:
        X: [n, features] of the catalogue.
        fraud: [n]; time_ms: [n].
        rejected: rows of the files that are not transactions.
    """

    X: Float64
    fraud: npt.NDArray[np.bool_]
    time_ms: Int64
    rejected: int

    def between(self, start_ms: int, end_ms: int) -> Dataset:
        """Return the transactions of [start, end)."""
        rows = (self.time_ms >= start_ms) & (self.time_ms < end_ms)
        return Dataset(self.X[rows], self.fraud[rows], self.time_ms[rows], 0)


def dataset_as_of(
    transactions: Path,
    labels: Labels,
    engine: FeatureEngine,
    window_ms: tuple[int, int],
    advance: Advance,
) -> Dataset:
    """Replay the transactions and keep those of [start, end), with their labels.

    Args:
        labels: what was known at the instant. It says what a transaction was, and feeds features, these only
            from the moment on at which it was known.

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
    parts: list[tuple[Float64, npt.NDArray[np.bool_], Int64]] = []
    rejected = 0
    for seen in observe_files(files, engine, wanted, advance):
        rejected += len(seen.rejected)
        batch = seen.fresh
        rows = np.flatnonzero((batch.time_ms >= start_ms) & (batch.time_ms < end_ms))
        if len(rows):
            fraud, _ = outcomes.of_batch(batch.take(rows), event)
            parts.append((seen.observed.X[rows], fraud, batch.time_ms[rows]))
    if not parts:
        raise ConfigError(
            f"{transactions}: no transaction between {iso(start_ms)} and {iso(end_ms)}, the mature ones to learn "
            "from; give earlier transactions, a later --as-of, or a shorter labels.maturity"
        )
    X, fraud, time_ms = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Dataset(X, fraud, time_ms, rejected)
