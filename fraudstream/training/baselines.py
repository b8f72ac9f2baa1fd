"""What a model has to be better than: simple scores that anybody could have without it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.tree import DecisionTreeClassifier

from fraudstream.batch import Float64, TransactionBatch
from fraudstream.features import Catalog
from fraudstream.features.catalog import EVENT
from fraudstream.ledger import Labels, newest_mature_ms

HISTORY_MS = 60 * 86_400_000
TREE = {"max_leaf_nodes": 32, "min_samples_leaf": 50, "random_state": 0}


def velocity_column(catalog: Catalog) -> int | None:
    """Return the column that counts the key entity's last transactions over the shortest window, if there is one."""
    counts = [
        (f.window_ms, i)
        for i, f in enumerate(catalog.features)
        if (f.entity, f.aggregate, f.where, f.label, f.lag_ms) == (catalog.event.key, "count", (), "", 0)
    ]
    return min(counts)[1] if counts else None


class TreeBaseline:
    """A tree on the transaction's own fields, from what was mature when the window began.

    Args:
        window_ms: where the window begins that it is judged on.
    """

    def __init__(self, catalog: Catalog, labels: Labels, window_ms: int, maturity_ms: int) -> None:
        own = [i for i, f in enumerate(catalog.features) if f.entity == EVENT]
        self._columns = np.array(own, np.int64)
        self._event, self._known = catalog.event, labels.as_of(window_ms).outcomes()
        self._end_ms = newest_mature_ms(window_ms, maturity_ms)
        self._parts: list[tuple[Float64, Any]] = []
        self._tree: Any = None
        self.learned = False

    def learns_from(self, batch: TransactionBatch) -> npt.NDArray[np.bool_]:
        """Return which rows are old enough to be known and young enough to matter, [n]."""
        return (batch.time_ms >= self._end_ms - HISTORY_MS) & (batch.time_ms < self._end_ms)

    def see(self, batch: TransactionBatch, X: Float64) -> None:
        """Keep what may be learned from."""
        rows = np.flatnonzero(self.learns_from(batch))
        if len(rows) and len(self._columns):
            fraud, _ = self._known.of_batch(batch.take(rows), self._event)
            self._parts.append((X[np.ix_(rows, self._columns)], fraud))

    def score(self, X: Float64) -> Float64:
        """Return the share of fraud in each row's leaf, [n]; zeros where there was nothing to learn from."""
        if self._tree is None and self._parts:
            known, fraud = (np.concatenate(column) for column in zip(*self._parts, strict=True))
            self._parts = []
            if fraud.any() and not fraud.all():
                self._tree = DecisionTreeClassifier(**TREE).fit(known, fraud)
                self.learned = True
        if self._tree is None:
            return np.zeros(len(X))
        shares: Float64 = self._tree.predict_proba(X[:, self._columns])[:, 1]
        return shares
