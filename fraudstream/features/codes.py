"""Numbers that kernels know things by: aggregates, as in `aggregates.py`, and the columns of a row's scratch."""

from __future__ import annotations

(COUNT, SUM, MEAN, STD, MIN, MAX, ZSCORE, RATIO, VELOCITY, TIME_SINCE_LAST, DISTINCT, SHARE, HOUR_HABIT, FIRST_SEEN,
 RATE, SAME_COUNT, TIME_SINCE_SAME, TIME_SINCE_FIRST, OTHERS_SINCE_LAST, OTHERS_SINCE_FIRST, MEDIAN,
 MEDIAN_RATIO, IN_A_ROW, TIME_SINCE_OTHER) = range(24)  # fmt: skip

A_COUNT, A_SUM, A_HIGH, A_LOW, A_MIN, A_MAX, A_MIDDLE = range(7)  # A_MIDDLE: twice the median
X_DIFFERENT, X_SAME, X_SAME_MS = range(3)
