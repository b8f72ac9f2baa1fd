"""How far a feature's values have moved: the population stability index, on bins fixed by the training window.

A PSI below 0.1 is taken as no shift and one above 0.25 as a large one (Siddiqi, "Credit Risk Scorecards", 2006).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fraudstream.batch import Float64, Int64

BINS = 10
SHARE_MIN = 1e-4  # an empty bin would make the index infinite


def reference_of(X: Float64, names: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Return for each feature the edges of its bins and their shares of the rows, the last one of missing values.

    Args:
        X: [n, features].
    """
    found = {}
    for i, name in enumerate(names):
        column = X[:, i]
        known = column[np.isfinite(column)]
        edges = np.unique(np.quantile(known, np.arange(1, BINS) / BINS)) if len(known) else np.empty(0)
        counts = counted(column, edges)
        found[name] = {"edges": edges.tolist(), "shares": (counts / max(len(column), 1)).tolist()}
    return found


def counted(column: Float64, edges: Float64) -> Int64:
    """Return how many values lie in each bin, those on an edge below it; last, how many are missing."""
    missing = np.isnan(column)
    where = np.searchsorted(edges, column, side="left")
    where[missing] = len(edges) + 1
    return np.bincount(where, minlength=len(edges) + 2)


def psi(expected: Float64, found: Float64) -> float:
    """Return the population stability index of two sets of shares (or counts) over the same bins.

    >>> round(psi(np.array([0.5, 0.5]), np.array([0.2, 0.8])), 4)
    0.4159
    """
    total, other = expected.sum(), found.sum()
    if not total or not other:
        return float("nan")
    before, after = np.maximum(expected / total, SHARE_MIN), np.maximum(found / other, SHARE_MIN)
    return float(((after - before) * np.log(after / before)).sum())


class Drift:
    """Counts a stream's features in the bins of a model's training window.

    Args:
        reference: from `reference_of`, as a bundle holds it.
        names: the features of the rows that are counted, in their order.
    """

    def __init__(self, reference: dict[str, Any], names: Sequence[str]) -> None:
        self._columns = [(i, name) for i, name in enumerate(names) if name in reference]
        self._edges = {n: np.array(reference[n]["edges"], np.float64) for _, n in self._columns}
        self._shares = {n: np.array(reference[n]["shares"], np.float64) for _, n in self._columns}
        self._counts = {n: np.zeros(len(self._shares[n]), np.int64) for _, n in self._columns}

    def count(self, X: Float64) -> None:
        """Count rows, [n, names]."""
        for i, name in self._columns:
            self._counts[name] += counted(X[:, i], self._edges[name])

    def shifts(self) -> dict[str, dict[str, float | None]]:
        """Return each feature's index, and its shares of missing values then and now; the most shifted first.

        The index is None where nothing was counted.
        """
        found = {}
        for _, name in self._columns:
            shares, counts = self._shares[name], self._counts[name].astype(np.float64)
            index = psi(shares, counts)
            found[name] = {
                "psi": None if np.isnan(index) else index,
                "missing": float(counts[-1] / max(counts.sum(), 1)),
                "missing_before": float(shares[-1]),
            }
        return dict(sorted(found.items(), key=lambda item: -(item[1]["psi"] or 0)))
