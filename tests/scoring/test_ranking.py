"""Weighted figures against the plain ones of repeated rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.scoring.quality import quality
from fraudstream.scoring.ranking import Ranking, interval, resamples

RATES = (0.001, 0.1, 0.5)

rows = st.lists(
    st.tuples(st.booleans(), st.integers(-4, 4), st.integers(0, 3), st.integers(0, 100)),
    min_size=1,
    max_size=60,
)


@given(rows)
def test_a_weight_counts_as_so_many_equal_rows(drawn: list[tuple[bool, int, int, int]]) -> None:
    fraud = np.array([row[0] for row in drawn])
    score = np.array([row[1] for row in drawn], np.float64)
    weight = np.array([row[2] for row in drawn])
    amount = np.array([row[3] for row in drawn], np.float64)
    ranking = Ranking(fraud, score, amount, RATES)
    found = dict(zip(ranking.names, ranking.figures(weight.astype(np.float64)), strict=True))
    fraud, score, amount = (np.repeat(column, weight) for column in (fraud, score, amount))
    if not fraud.any() or fraud.all():
        assert np.isnan(list(found.values())).all()
        return
    plain = quality(fraud, score)
    for name in ("auc", "average_precision"):
        assert found[name] == pytest.approx(plain[name])
    legitimate = np.sort(score[~fraud])[::-1]
    for rate in RATES:
        caught = fraud & (score > legitimate[min(int(rate * len(legitimate)), len(legitimate) - 1)])
        assert found[f"recall_at_fpr_{rate:g}"] == pytest.approx(caught.sum() / fraud.sum())
        if amount[fraud].sum():
            assert found[f"money_at_fpr_{rate:g}"] == pytest.approx(
                amount[caught].sum() / amount[fraud].sum()
            )


def test_whole_clusters_are_drawn_as_many_as_there_are() -> None:
    cluster = np.array([5, 5, 9, -1, 9, 9])
    for weight in resamples(cluster, 20, seed=1):
        assert len(set(weight[[0, 1]])) == 1
        assert len(set(weight[[2, 4, 5]])) == 1
        assert weight[0] + weight[2] + weight[3] == 3
    assert [w.tolist() for w in resamples(cluster, 3, 1)] == [w.tolist() for w in resamples(cluster, 3, 1)]


def test_the_interval_of_mostly_unknown_draws_is_unknown() -> None:
    assert np.isnan(interval(np.array([1.0, np.nan, np.nan]))).all()
    assert np.isnan(interval(np.empty(0))).all()
    low, high = interval(np.arange(1001) / 1000)
    assert [low, high] == pytest.approx([0.025, 0.975])
