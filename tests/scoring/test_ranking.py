"""Weighted figures against the plain ones of repeated rows; drift by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.scoring.drift import Drift, psi, reference_of
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


def test_a_shifted_feature_stands_first_and_one_that_stays_has_none() -> None:
    random = np.random.default_rng(3)
    before = random.normal(size=(20_000, 3))
    before[:, 2] = 7.0
    drift = Drift(reference_of(before, ["stays", "moves", "constant"]), ["moves", "stays", "constant"])
    now = np.column_stack([random.normal(1.0, size=20_000), random.normal(size=20_000), np.full(20_000, 7.0)])
    now[:5_000, 0] = np.nan
    drift.count(now[:10_000])
    drift.count(now[10_000:])
    shifts = drift.shifts()
    assert next(iter(shifts)) == "moves"
    moved, stayed, constant = (shifts[name]["psi"] for name in ("moves", "stays", "constant"))
    assert moved is not None
    assert moved > 0.5
    assert stayed == pytest.approx(0, abs=0.01)
    assert constant == 0
    assert (shifts["moves"]["missing_before"], shifts["moves"]["missing"]) == (0, 0.25)


def test_nothing_counted_has_no_index() -> None:
    reference = reference_of(np.full((4, 1), np.nan), ["missing"])
    assert reference["missing"] == {"edges": [], "shares": [0, 1]}
    assert Drift(reference, ["missing"]).shifts()["missing"]["psi"] is None
    assert np.isnan(psi(np.zeros(2), np.ones(2)))
