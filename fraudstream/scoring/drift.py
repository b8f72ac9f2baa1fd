"""How far features, and the score, have moved: on bins fixed by the training window.

PSI is the population stability index: below 0.1 is taken as no shift, above 0.25 as a large one (Siddiqi, "Credit
Risk Scorecards", 2006). KS is the largest difference of the two distributions at an edge of a bin (Kolmogorov and
Smirnov's, as far as the bins show it). Missing values are a bin of their own, the last one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta

from fraudstream.batch import Float64
from fraudstream.errors import ModelError

BINS = 10
SHARE_MIN = 1e-4  # an empty bin would make the index infinite
CALENDAR = ("hour_of_day", "day_of_week")  # aggregates that are not alike before a week is over
SCORE = "(score)"  # what the raw score is called beside the features


class Bins(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A column in the training window.

    Attributes:
        edges: ascending; a value on an edge is in the bin below it.
        shares: of the rows in each bin, last of those with a missing value: two more than edges.
    """

    edges: Annotated[list[float], Meta(max_length=BINS - 1)]
    shares: Annotated[list[Annotated[float, Meta(ge=0, le=1)]], Meta(min_length=2, max_length=BINS + 1)]


Reference = Mapping[str, Bins]


class Shift(NamedTuple):
    """How far a column has moved; None: nothing was counted."""

    psi: float | None
    ks: float | None
    missing: float
    missing_before: float


def reference_of(X: Float64, names: Sequence[str]) -> dict[str, Bins]:
    """Return the bins of each column, tenths of the values that are not missing.

    Args:
        X: [n, columns].
    """
    found = {}
    for i, name in enumerate(names):
        known = X[np.isfinite(X[:, i]), i]
        edges = np.unique(np.quantile(known, np.arange(1, BINS) / BINS)) if len(known) else np.empty(0)
        drawn = Bins(edges.tolist(), [0.0] * (len(edges) + 2))
        counting = Drift({name: drawn}, [name])
        counting.count(X[:, [i]])
        counts = counting.counts[0]
        shares = np.append(counts[: len(edges) + 1], counts[-1]) / max(len(X), 1)
        found[name] = Bins(edges.tolist(), shares.tolist())
    return found


def read_reference(content: bytes, path: str) -> dict[str, Bins]:
    """Read what a bundle holds of its training window.

    Raises:
        ModelError: it is no reference.
    """
    try:
        found: dict[str, Bins] = msgspec.json.decode(content, type=dict[str, Bins])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(f"{path}: {' '.join(str(error).split())}") from None
    for name, bins in found.items():
        if len(bins.shares) != len(bins.edges) + 2 or any(b <= a for a, b in pairwise(bins.edges)):
            raise ModelError(f"{path}: the bins of {name[:100]!r} are none")
    return found


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


def ks(expected: Float64, found: Float64) -> float:
    """Return the largest difference of two distributions over the same bins, from shares or counts.

    >>> round(ks(np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])), 4)
    0.3
    """
    total, other = expected.sum(), found.sum()
    if not total or not other:
        return float("nan")
    return float(np.abs(np.cumsum(expected / total) - np.cumsum(found / other)).max())


class Drift:
    """Counts columns in the bins of a model's training window.

    Attributes:
        counts: [columns, BINS + 1]; last, how many are missing.

    Args:
        reference: of the model.
        names: the columns that are counted, in their order.
    """

    def __init__(self, reference: Reference, names: Sequence[str]) -> None:
        self._names = [name for name in names if name in reference]
        self._columns = np.array([i for i, name in enumerate(names) if name in reference], np.int64)
        self._edges = np.full((len(self._names), BINS - 1), np.inf)
        self._shares = np.zeros((len(self._names), BINS + 1))
        for row, name in enumerate(self._names):
            bins = reference[name]
            self._edges[row, : len(bins.edges)] = bins.edges
            self._shares[row, : len(bins.edges) + 1], self._shares[row, -1] = (
                bins.shares[:-1],
                bins.shares[-1],
            )
        self.counts = np.zeros((len(self._names), BINS + 1), np.int64)

    def count(self, X: Float64) -> None:
        """Count rows, [n, names]. Takes 90 bytes of memory a value."""
        values = X[:, self._columns]
        place = (values[:, :, None] > self._edges).sum(2)
        place[np.isnan(values)] = BINS
        flat = place + np.arange(len(self._names)) * (BINS + 1)
        self.counts += np.bincount(flat.ravel(), minlength=self.counts.size).reshape(self.counts.shape)

    def shifts(self) -> dict[str, Shift]:
        """Return how far each column has moved, the one that moved most first."""
        found = {}
        for name, shares, whole in zip(self._names, self._shares, self.counts, strict=True):
            counts = whole.astype(np.float64)
            index, apart = psi(shares, counts), ks(shares, counts)
            known = not np.isnan(index)
            missing = float(counts[-1] / max(counts.sum(), 1))
            found[name] = Shift(
                index if known else None, apart if known else None, missing, float(shares[-1])
            )
        return dict(sorted(found.items(), key=lambda item: -(item[1].psi or 0)))


class RecentDrift:
    """The drift of the youngest part of a stream.

    Args:
        reference, names: as for `Drift`.
        spans_max: how many spans of event time are kept.
    """

    def __init__(self, reference: Reference, names: Sequence[str], spans_max: int) -> None:
        self._reference, self._names = reference, names
        self._spans: deque[tuple[int, Drift]] = deque(maxlen=spans_max)
        self._spans_max = spans_max
        self._first = 0

    @property
    def rows(self) -> int:
        """Return of how many rows it tells."""
        return int(self._whole().counts[:1].sum())

    @property
    def full(self) -> bool:
        """Tell whether it has counted for as long as it keeps."""
        return bool(self._spans) and self._spans[-1][0] - self._first >= self._spans_max

    def count(self, X: Float64, span: int) -> None:
        """Count rows, [n, names], of a span, numbered by time; of one before the youngest they count for that."""
        if not self._spans:
            self._first = span
        if not self._spans or span > self._spans[-1][0]:
            self._spans.append((span, Drift(self._reference, self._names)))
        self._spans[-1][1].count(X)

    def shifts(self) -> dict[str, Shift]:
        """Return how far each column has moved, as `Drift.shifts` does."""
        return self._whole().shifts()

    def _whole(self) -> Drift:
        """Add up the spans."""
        whole = Drift(self._reference, self._names)
        for span, counted in self._spans:
            if span > self._spans[-1][0] - self._spans_max:
                whole.counts += counted.counts
        return whole
