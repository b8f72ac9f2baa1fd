"""How good scores are, on transactions whose labels are mature. One definition for every report."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

from fraudstream.batch import Float64, Int64

FPR_POINTS = (0.001, 0.005, 0.01)


def quality(fraud: npt.NDArray[np.bool_], score: Float64) -> dict[str, float | None]:
    """Return AUC, average precision and the recall at fixed false-positive rates.

    A figure that needs both classes is None where one is missing.
    """
    found: dict[str, float | None] = {"auc": None, "average_precision": None}
    both = bool(fraud.any()) and not bool(fraud.all())
    if both:
        found["auc"] = float(roc_auc_score(fraud, score))
        found["average_precision"] = float(average_precision_score(fraud, score))
    for rate in FPR_POINTS:
        found[f"recall_at_fpr_{rate:g}"] = recall_at_fpr(fraud, score, rate) if both else None
    return found


def recall_at_fpr(fraud: npt.NDArray[np.bool_], score: Float64, rate: float) -> float:
    """Return the share of fraud above the threshold that at most this share of legitimate rows pass."""
    legitimate = np.sort(score[~fraud])[::-1]
    threshold = legitimate[min(int(rate * len(legitimate)), len(legitimate) - 1)]
    return float((score[fraud] > threshold).mean())


def card_precision_at_k(
    day: Int64, card: Int64, fraud: npt.NDArray[np.bool_], score: Float64, k: int
) -> Float64:
    """Return for each day, in order, the share of compromised cards among the k cards that score highest.

    A card's score of a day is its highest; it is compromised when any of its transactions that day is fraud.
    A compromised card that a day finds is blocked: its rows of later days do not count. Of equal scores the
    lower card number comes first. On a day with fewer than k cards the share is still of k.

    Args:
        day, card: [n] of each transaction; cards known before the first day are not among them.

    Source: Fraud Detection Handbook, chapter 4, "Precision top-k metrics" (`card_precision_top_k`).
    """
    days = np.unique(day)
    precision = np.zeros(len(days))
    blocked: Int64 = np.empty(0, np.int64)
    for i, today in enumerate(days):
        rows = np.flatnonzero((day == today) & ~np.isin(card, blocked))
        cards, where = np.unique(card[rows], return_inverse=True)
        best = np.full(len(cards), -np.inf)
        np.maximum.at(best, where, score[rows])
        compromised = np.zeros(len(cards), bool)
        np.logical_or.at(compromised, where, fraud[rows])
        top = np.argsort(-best, kind="stable")[:k]
        found = cards[top[compromised[top]]]
        precision[i] = len(found) / k
        blocked = np.append(blocked, found)
    return precision
