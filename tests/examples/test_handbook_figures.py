"""The Handbook's test set: which rows the benchmark judges scores on."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.handbook_figures import Table, figures, rows_of_week

Row = tuple[int, int, bool]  # day, customer, fraud
FIRST = 20


def table_of(rows: list[Row]) -> Table:
    day, customer, fraud = (np.array(column) for column in zip(*rows, strict=True))
    return Table([str(i) for i in range(len(rows))], day, customer, fraud)


def slow_rows(rows: list[Row]) -> list[int]:
    """Ask of each row of the week whether its customer was known, as the book's loop over days comes to."""
    kept = []
    for i, (day, customer, _) in enumerate(rows):
        known = {c for d, c, fraud in rows if fraud and FIRST - 14 <= d <= day - 8}
        if FIRST <= day < FIRST + 7 and customer not in known:
            kept.append(i)
    return kept


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.integers(0, 5), st.sampled_from([False, False, True])),
        min_size=1,
        max_size=80,
    )
)
def test_the_rows_of_the_week_are_those_the_slow_twin_keeps(rows: list[Row]) -> None:
    rows = sorted(rows)
    assert rows_of_week(table_of(rows), FIRST).tolist() == slow_rows(rows)


def test_a_fraud_counts_as_known_eight_days_later_and_not_before_the_weeks_that_are_looked_at() -> None:
    #            known from the first day on   known from day 23 on         too long ago
    frauds = [(FIRST - 14, 1, True), (15, 2, True), (FIRST - 15, 3, True)]
    week = [(FIRST, 1, False), (22, 2, False), (23, 2, False), (FIRST, 3, False)]
    rows = sorted(frauds + week)
    kept = [rows[i][:2] for i in rows_of_week(table_of(rows), FIRST)]
    assert kept == [(FIRST, 3), (22, 2)]


def test_perfect_scores_reach_the_ceiling() -> None:
    rows = [(FIRST + i % 7, i, i % 5 == 0) for i in range(140)]
    table = table_of(sorted(rows))
    found = figures(table, FIRST, {key: float(table.fraud[int(key)]) for key in table.ids})
    assert found["auc"] == found["average_precision"] == 1.0
    assert found["card_precision_100"] == found["ceiling_measured"] == 0.04  # 28 frauds in 7 days of 100
    assert (found["test_transactions"], found["frauds"]) == (140, 28)
