"""The false-positive rate: exact once all reports are in, and before that an estimate that holds the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.fpr import MATURITY_MS, NOW_MS, as_of_now, judge, stream
from fraudstream.scoring.delays import delay_curve
from fraudstream.scoring.tracking import DAY_MS, NEVER_MS, Tracked, Tracker


def slow_share(pairs: list[tuple[int, int]], delay: int) -> float:
    """The share of reports within a delay: what is above it is taken off, delay by delay."""
    share = 1.0
    for later in sorted({d for d, _ in pairs if d > delay}, reverse=True):
        could_be_seen = [d for d, age in pairs if d <= later <= age]
        share *= 1 - sum(d == later for d in could_be_seen) / len(could_be_seen)
    return share if any(d <= delay for d, _ in pairs) else 0.0


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=40))
def test_the_delay_curve_is_that_of_its_slow_twin(drawn: list[tuple[int, int]]) -> None:
    pairs = [(delay, delay + more) for delay, more in drawn]
    curve = delay_curve(np.array([d for d, _ in pairs]), np.array([age for _, age in pairs]))
    for delay in range(-1, 26):
        assert curve.at(np.array([delay]))[0] == pytest.approx(slow_share(pairs, delay), abs=1e-12)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 4)), min_size=1, max_size=20))
def test_a_weight_counts_like_so_many_reports(drawn: list[tuple[int, int]]) -> None:
    delay, weight = np.array([d for d, _ in drawn]), np.array([w for _, w in drawn])
    age = delay + np.arange(len(drawn)) % 5
    weighted = delay_curve(delay, age, weight.astype(np.float64))
    repeated = delay_curve(np.repeat(delay, weight), np.repeat(age, weight))
    assert weighted.share == pytest.approx(repeated.share)


def test_delays_seen_while_young_are_not_taken_for_short_ones() -> None:
    random = np.random.default_rng(1)
    delay, age = random.integers(1, 31, 40_000), random.integers(1, 46, 40_000)
    seen = delay <= age
    curve, within = delay_curve(delay[seen], age[seen]), np.arange(1, 31)
    assert curve.at(within) == pytest.approx(within / 30, abs=0.02)
    naive = np.array([(delay[seen] <= each).mean() for each in within])
    assert np.abs(naive - within / 30).max() > 0.1


def test_nothing_reported_gives_a_curve_of_nothing() -> None:
    curve = delay_curve(np.empty(0, np.int64), np.empty(0, np.int64))
    assert curve.at(np.array([0, 5])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("seed", range(5))
def test_the_rate_of_mature_transactions_is_the_count_itself(seed: int) -> None:
    everything = stream(seed)
    figures = Tracker(everything, NOW_MS + MATURITY_MS, MATURITY_MS).figures(everything)
    fraud = everything.reported_ms != NEVER_MS
    assert figures.mature
    assert figures.fpr.value == everything.alerted[~fraud].mean()
    assert figures.fpr.value == figures.fpr_now
    assert figures.recall.value == everything.alerted[fraud].mean()
    assert figures.precision.value == fraud[everything.alerted].mean()
    assert (figures.frauds_expected, figures.completeness) == (fraud.sum(), 1.0)


def test_the_interval_holds_the_truth_where_the_naive_one_does_not() -> None:
    found = [judge(seed) for seed in range(12)]
    assert sum(one["covered"] for one in found) >= 11
    assert sum(one["covered_last_week"] for one in found) >= 11
    assert sum(one["covered_naive_last_week"] for one in found) <= 9


def test_days_add_up_to_the_whole_and_say_which_are_provisional() -> None:
    known = as_of_now(stream(3))
    days = Tracker(known, NOW_MS, MATURITY_MS).days(known)
    assert [day.begins_ms // DAY_MS for day in days] == np.unique(known.time_ms // DAY_MS).tolist()
    assert sum(day.figures.alerts for day in days) == known.alerted.sum()
    assert sum(day.figures.frauds for day in days) == (known.reported_ms != NEVER_MS).sum()
    assert [day.figures.mature for day in days] == [True] * 15 + [False] * 45
    assert all(day.figures.frauds_expected >= day.figures.frauds for day in days)


def test_what_nothing_is_known_of_has_wide_intervals_and_no_false_certainty() -> None:
    n = 1_000
    tracked = Tracked(
        np.full(n, NOW_MS - DAY_MS), np.arange(n) < 50, np.full(n, NEVER_MS), np.zeros(n, np.bool_)
    )
    figures = Tracker(tracked, NOW_MS, MATURITY_MS).figures(tracked)
    assert (figures.frauds, figures.fpr_now, figures.coverage) == (0, 0.05, 0.0)
    assert figures.fpr.low is not None
    assert figures.fpr.high is not None
    assert figures.fpr.low < 0.03 < figures.fpr.high


def test_a_report_that_comes_after_maturity_changes_nothing() -> None:
    everything = stream(3)
    late = everything.reported_ms != NEVER_MS
    late[np.flatnonzero(late)[::2]] = False
    reported_ms = np.where(late, everything.time_ms + MATURITY_MS + 1, everything.reported_ms)
    moved = Tracked(everything.time_ms, everything.alerted, reported_ms, everything.labelled)
    never = Tracked(
        everything.time_ms, everything.alerted, np.where(late, NEVER_MS, reported_ms), everything.labelled
    )
    end_ms = NOW_MS + 10 * MATURITY_MS
    assert late.sum() > 10
    assert Tracker(moved, end_ms, MATURITY_MS).figures(moved) == Tracker(never, end_ms, MATURITY_MS).figures(
        never
    )
