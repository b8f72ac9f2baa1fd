"""How well what a model promises is met: false-positive rates with intervals, and calibrated probabilities.

The false positives of one card, or of one merchant, come together: the more they do, the less a rate is known. So an
interval counts not the transactions but as many independent ones as would tell the same (the effective sample size).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fraudstream.batch import Float64, Int64

Z = 1.959963984540054  # of a 95 % interval
# Most transactions have probabilities far below a hundredth: bins of equal width would put all of them into one.
BIN_EDGES = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.6, 0.9, 1.0)

Rows = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its 95 % interval.

    Attributes:
        hits, of: what is counted, and among how many.
        rate: their ratio.
        design_effect: how many transactions tell as much as one independent one; 1 or more.
    """

    hits: int
    of: int
    rate: float
    low: float
    high: float
    design_effect: float


def rate(hit: Rows, clusters: Sequence[Int64] = ()) -> Rate:
    """Return the share of rows that hit, with Wilson's interval for the effective sample size.

    Args:
        hit: [n], n at least 1.
        clusters: for each kind (cards, merchants) the cluster of each row, [n]; of all kinds the one counts whose
            rows hang together most.

    Sources: Wilson (1927); Korn and Graubard, "Confidence intervals for proportions with small expected number of
        positive counts estimated from survey data" (1998).
    """
    n, hits = len(hit), int(hit.sum())
    effect = max((_design_effect(hit, kind) for kind in clusters), default=1.0)
    low, high = wilson(hits, n, effect)
    return Rate(hits, n, hits / n, low, high, effect)


def wilson(hits: int, n: int, design_effect: float = 1.0) -> tuple[float, float]:
    """Return the 95 % interval of a share.

    >>> low, high = wilson(10, 10_000)
    >>> round(low, 6), round(high, 6)
    (0.000543, 0.00184)
    """
    share, effective = hits / n, n / design_effect
    squared = Z * Z / effective
    middle = (share + squared / 2) / (1 + squared)
    half = Z / (1 + squared) * math.sqrt(share * (1 - share) / effective + squared / effective / 4)
    return (max(0.0, middle - half) if hits else 0.0), (min(1.0, middle + half) if hits < n else 1.0)


def _design_effect(hit: Rows, cluster: Int64) -> float:
    """Return the variance of a share over whole clusters, against that of independent rows; 1 at least."""
    n, share = len(hit), float(hit.mean())
    if not 0 < share < 1:
        return 1.0
    _, code = np.unique(cluster, return_inverse=True)
    apart = np.bincount(code, weights=hit - share)
    if len(apart) < 2:
        return 1.0
    variance = len(apart) / (len(apart) - 1) * float(apart @ apart) / n
    return max(1.0, variance / (share * (1 - share)))


@dataclass(frozen=True, slots=True)
class Promise:
    """A promised false-positive rate beside the one that was met.

    Attributes:
        points: the risk points that promise it.
        kept: `yes` where the interval holds the promised rate, `above` or `below` where all of it is.
    """

    points: int
    promised: float
    met: Rate
    kept: str


def promise(points: int, promised: float, met: Rate) -> Promise:
    """Compare a promised rate with the one that was met."""
    kept = "above" if met.low > promised else "below" if met.high < promised else "yes"
    return Promise(points, promised, met, kept)


def calibration(probability: Float64, fraud: Rows) -> dict[str, float | int]:
    """Return how far probabilities are from what happened, [n] each, n at least 1.

    `expected_frauds` is their sum. `brier` is the mean squared error, `brier_constant` that of a forecaster who
    always says the share of fraud. `ece` is the expected calibration error: over the bins of BIN_EDGES, the mean
    distance of the mean probability from the share of fraud.
    """
    n, frauds = len(fraud), int(fraud.sum())
    bins = reliability(probability, fraud)
    return {
        "expected_frauds": float(probability.sum()),
        "frauds": frauds,
        "brier": float(np.mean((probability - fraud) ** 2)),
        "brier_constant": frauds / n * (1 - frauds / n),
        "ece": sum(b["transactions"] * abs(b["probability"] - b["frauds"]["rate"]) for b in bins) / n,
    }


def reliability(probability: Float64, fraud: Rows, clusters: Sequence[Int64] = ()) -> list[dict[str, Any]]:
    """Return the mean probability and the share of fraud (a `Rate`) of each bin of probabilities that holds any."""
    which = np.clip(np.searchsorted(BIN_EDGES, probability, side="right") - 1, 0, len(BIN_EDGES) - 2)
    found = []
    for i in np.unique(which).tolist():
        rows = np.flatnonzero(which == i)
        found.append(
            {
                "from": BIN_EDGES[i],
                "to": BIN_EDGES[i + 1],
                "transactions": len(rows),
                "probability": float(probability[rows].mean()),
                "frauds": asdict(rate(fraud[rows], [kind[rows] for kind in clusters])),
            }
        )
    return found
