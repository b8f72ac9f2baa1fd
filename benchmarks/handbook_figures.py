"""The Fraud Detection Handbook's way to judge scores: its test set, its three figures, and their ceiling.

Source: Fraud Detection Handbook, chapters 3 and 4 (`get_train_test_set`, `card_precision_top_k`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fraudstream.scoring.quality import card_precision_at_k, quality

TEST_DAYS = 7
TRAIN_DAYS, DELAY_DAYS = 7, 7  # the book's; here they only say which customers are known as defrauded
K = 100
BOOK = {
    "auc": 0.871,  # logistic regression
    "average_precision": 0.658,  # random forest
    "card_precision_100": 0.291,  # logistic regression
    "ceiling": 0.397,
    "test_transactions": 58_264,
}

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Table:
    """Transactions in time order; every column has one entry a row.

    Attributes:
        day: counted from any fixed day.
        customer: a number for each customer.
    """

    ids: list[str]
    day: Rows
    customer: Rows
    fraud: npt.NDArray[np.bool_]


def rows_of_week(table: Table, first_day: int) -> Rows:
    """Return the rows of the week from `first_day` whose customers are not known as defrauded by then.

    Known are customers with a fraud in the week that ended a week before, and on each day of the test week
    those with a fraud up to 8 days earlier: the book adds one day's frauds a day, a week after that day.
    """
    trained = first_day - DELAY_DAYS
    known = table.fraud & (table.day >= trained - TRAIN_DAYS) & (table.day < trained)
    kept = []
    for day in range(first_day, first_day + TEST_DAYS):
        known |= table.fraud & (table.day == day - DELAY_DAYS - 1)
        today = np.flatnonzero(table.day == day)
        kept.append(today[~np.isin(table.customer[today], table.customer[known])])
    return np.concatenate(kept)


def figures(table: Table, first_day: int, score_of: dict[str, float]) -> dict[str, Any]:
    """Return the book's figures for scores by transaction id, and the card precision of perfect scores."""
    rows = rows_of_week(table, first_day)
    score = np.array([score_of[table.ids[row]] for row in rows.tolist()])
    day, customer, fraud = table.day[rows], table.customer[rows], table.fraud[rows]
    found = quality(fraud, score)
    return {
        "auc": found["auc"],
        "average_precision": found["average_precision"],
        "card_precision_100": float(card_precision_at_k(day, customer, fraud, score, K).mean()),
        "ceiling_measured": float(
            card_precision_at_k(day, customer, fraud, fraud.astype(np.float64), K).mean()
        ),
        "test_transactions": len(rows),
        "frauds": int(fraud.sum()),
    }
