"""The figures of a report: known values, and card precision against its slow, obvious twin."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.scoring.quality import card_precision_at_k, quality, recall_at_fpr

Row = tuple[int, int, bool, float]


def slow_card_precision(rows: list[Row], k: int) -> list[float]:
    """Go through the days one by one, with dictionaries."""
    blocked: set[int] = set()
    result = []
    for today in sorted({day for day, *_ in rows}):
        best: dict[int, float] = {}
        compromised = set()
        for day, card, fraud, score in rows:
            if day == today and card not in blocked:
                best[card] = max(score, best.get(card, score))
                compromised |= {card} if fraud else set()
        top = sorted(best, key=lambda card: (-best[card], card))[:k]
        found = [card for card in top if card in compromised]
        blocked.update(found)
        result.append(len(found) / k)
    return result


def card_precision(rows: list[Row], k: int) -> list[float]:
    day, card, fraud, score = (np.array(column) for column in zip(*rows, strict=True))
    return card_precision_at_k(day, card, fraud, score.astype(np.float64), k).tolist()


ROWS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 6), st.booleans(), st.sampled_from([-1.5, 0.0, 0.25, 3.0])),
    min_size=1,
    max_size=60,
)


@given(rows=ROWS, k=st.integers(1, 9))
def test_card_precision_is_what_its_slow_twin_says(rows: list[Row], k: int) -> None:
    assert card_precision(rows, k) == slow_card_precision(rows, k)


def test_a_card_counts_by_its_highest_score_and_by_any_fraud_of_the_day() -> None:
    rows = [(0, 1, True, 0.1), (0, 1, False, 0.9), (0, 2, False, 0.5), (0, 3, True, 0.2)]
    assert card_precision(rows, 1) == [1.0]
    assert card_precision(rows, 2) == [0.5]
    assert card_precision(rows, 4) == [0.5]  # three cards that day, two of them compromised


def test_a_card_that_was_found_is_left_out_on_later_days_and_one_that_was_missed_is_not() -> None:
    rows = [(0, 1, True, 0.9), (0, 2, True, 0.1), (1, 1, True, 0.9), (1, 2, True, 0.5), (1, 3, False, 0.2)]
    assert card_precision(rows, 1) == [1.0, 1.0]
    assert card_precision(rows, 2) == [1.0, 0.0]  # both are found on the first day


def test_perfect_and_random_order_have_the_known_figures() -> None:
    fraud = np.array([True, False, True, False])
    perfect = quality(fraud, fraud.astype(np.float64))
    assert perfect["auc"] == 1.0
    assert perfect["average_precision"] == 1.0
    assert quality(fraud, np.zeros(4))["auc"] == 0.5


def test_figures_that_need_both_classes_are_none_without_one() -> None:
    assert set(quality(np.zeros(3, bool), np.arange(3.0)).values()) == {None}


def test_recall_counts_fraud_above_what_the_allowed_share_of_legitimate_rows_reach() -> None:
    score = np.arange(1000.0)
    fraud = np.zeros(1000, bool)
    fraud[[995, 500]] = True
    assert recall_at_fpr(fraud, score, 0.01) == pytest.approx(0.5)
