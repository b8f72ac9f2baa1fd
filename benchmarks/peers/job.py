"""What the Python peers share: the job's names, the windows of a card, and LightGBM's call for one row.

Imported in each peer's own environment, so it needs nothing but LightGBM.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm

FEATURES = (
    "amount",
    "card_count_1h", "card_count_24h", "card_count_7d",
    "card_amount_sum_1h", "card_amount_sum_24h", "card_amount_sum_7d",
)  # fmt: skip
WINDOWS_MS = (3_600_000, 86_400_000, 604_800_000)
REVIEW_FROM = 0.5  # probability
FLOAT64, NORMAL = 1, 0  # LightGBM's C_API_DTYPE_FLOAT64 and C_API_PREDICT_NORMAL

Features = tuple[float, int, int, int, float, float, float]


@dataclass(frozen=True)
class Job:
    """Where a peer reads, writes and keeps its state, and the model's text file."""

    bootstrap: str
    transactions: str
    decisions: str
    partitions: int
    group: str
    model: str
    folder: str


def job() -> Job:
    """Return the job that the command line names."""
    return Job(**json.loads(Path(sys.argv[1]).read_text("utf-8")))


def minor_of(amount: float) -> int:
    """Return an amount in cents; sums of them are exact."""
    return round(amount * 100)


def observe(rows: list[list[int]], time_ms: int, amount_minor: int) -> Features:
    """Return a transaction's features; add it to its card's rows and drop those that no window can see any more.

    Args:
        rows: the card's earlier transactions, time in ms and amount in cents, oldest first; a state store's value.
    """
    hour, day, week = (time_ms - window for window in WINDOWS_MS)
    old = 0
    counts, sums = [0, 0, 0], [0, 0, 0]
    for then, minor in rows:
        if then <= week:
            old += 1
            continue
        counts[2] += 1
        sums[2] += minor
        if then > day:
            counts[1] += 1
            sums[1] += minor
            if then > hour:
                counts[0] += 1
                sums[0] += minor
    del rows[:old]
    rows.append([time_ms, amount_minor])
    return (amount_minor / 100, counts[0], counts[1], counts[2], sums[0] / 100, sums[1] / 100, sums[2] / 100)


class Card:
    """A card's last 7 days with running sums: each row enters and leaves each window once."""

    __slots__ = ("day", "day_sum", "hour", "hour_sum", "rows", "week", "week_sum")

    def __init__(self) -> None:
        self.rows: list[tuple[int, int]] = []  # time in ms, amount in cents
        self.hour = self.day = self.week = 0  # the first row in each window
        self.hour_sum = self.day_sum = self.week_sum = 0

    def observe(self, time_ms: int, amount_minor: int) -> Features:
        """Return a transaction's features and add it to the windows; written out, since a loop is slower."""
        rows, n = self.rows, len(self.rows)
        hour, day, week = self.hour, self.day, self.week
        hour_sum, day_sum, week_sum = self.hour_sum, self.day_sum, self.week_sum
        while hour < n and rows[hour][0] <= time_ms - WINDOWS_MS[0]:
            hour_sum -= rows[hour][1]
            hour += 1
        while day < n and rows[day][0] <= time_ms - WINDOWS_MS[1]:
            day_sum -= rows[day][1]
            day += 1
        while week < n and rows[week][0] <= time_ms - WINDOWS_MS[2]:
            week_sum -= rows[week][1]
            week += 1
        features = (
            amount_minor / 100, n - hour, n - day, n - week, hour_sum / 100, day_sum / 100, week_sum / 100
        )  # fmt: skip
        if week > 64 and 2 * week > n:  # most of it is behind all windows
            del rows[:week]
            hour, day, week = hour - week, day - week, 0
        rows.append((time_ms, amount_minor))
        self.hour, self.day, self.week = hour, day, week
        self.hour_sum, self.day_sum = hour_sum + amount_minor, day_sum + amount_minor
        self.week_sum = week_sum + amount_minor
        return features


def row_scorer(model: str) -> Callable[[Features], float]:
    """Return what scores one row: LightGBM's C call for that, several times as fast as `Booster.predict`."""
    booster = lightgbm.Booster(model_file=model)
    library, fast = lightgbm.basic._LIB, ctypes.c_void_p()
    failed = library.LGBM_BoosterPredictForMatSingleRowFastInit(
        booster._handle, NORMAL, 0, -1, FLOAT64, len(FEATURES), b"num_threads=1", ctypes.byref(fast)
    )
    assert not failed, library.LGBM_GetLastError()
    row: Any = (ctypes.c_double * len(FEATURES))()
    score, length = ctypes.c_double(), ctypes.c_int64()
    call, to, length_to = (
        library.LGBM_BoosterPredictForMatSingleRowFast,
        ctypes.byref(score),
        ctypes.byref(length),
    )
    kept = booster  # it owns what `fast` points to

    def score_of(features: Features) -> float:
        row[:] = features
        call(fast, row, length_to, to)
        assert kept is booster
        return score.value

    return score_of


def decision(transaction_id: str, time_ms: int, score: float) -> dict[str, Any]:
    """Return what is published for a transaction."""
    return {
        "transaction_id": transaction_id,
        "event_time_ms": time_ms,
        "outcome": "review" if score >= REVIEW_FROM else "approve",
        "score": score,
        "model": "card_payment/0001",
    }
