"""Rates with intervals against known values and drawn worlds; reliability against its slow twin."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.batch import Int64
from fraudstream.scoring.promises import BIN_EDGES, Z, calibration, promise, rate, reliability, wilson


@given(st.integers(1, 100_000), st.data())
def test_the_interval_ends_where_a_share_would_be_rejected(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n))
    low, high = wilson(hits, n)
    assert (low == 0) == (hits == 0)
    assert (high == 1) == (hits == n)
    for end in {low, high} - {0.0, 1.0}:
        assert abs(hits / n - end) == pytest.approx(Z * math.sqrt(end * (1 - end) / n), rel=1e-6)


@given(st.integers(1, 10_000), st.data(), st.floats(1, 50))
def test_an_interval_holds_its_share_and_widens_with_the_design_effect(
    n: int, data: st.DataObject, effect: float
) -> None:
    hits = data.draw(st.integers(0, n))
    (low, high), (lower, higher) = wilson(hits, n), wilson(hits, n, effect)
    assert 0 <= lower <= low <= hits / n <= high <= higher <= 1


Flags = npt.NDArray[np.bool_]


def drawn_cards(chance: np.random.Generator, cards: int) -> tuple[Flags, Int64]:
    """Return whether each transaction is a false positive, and its card: some cards have them often."""
    per_card = chance.poisson(8, cards) + 1
    share = np.where(chance.random(cards) < 0.02, chance.uniform(0.1, 0.9, cards), 0.001)
    card = np.repeat(np.arange(cards), per_card)
    return chance.random(len(card)) < share[card], card


def covered(seeds: int, by_card: bool) -> float:
    """Return how often the interval holds the truth."""
    truth = 0.02 * 0.5 + 0.98 * 0.001
    held = 0
    for seed in range(seeds):
        hit, card = drawn_cards(np.random.default_rng(seed), 2000)
        met = rate(hit, [card] if by_card else [])
        held += met.low <= truth <= met.high
    return held / seeds


def test_the_interval_covers_the_truth_though_a_cards_false_positives_come_together() -> None:
    assert covered(200, by_card=True) >= 0.92
    assert covered(200, by_card=False) < 0.8  # what counting every transaction by itself would say


def test_independent_transactions_have_a_design_effect_of_about_one() -> None:
    chance = np.random.default_rng(5)
    hit, card = chance.random(50_000) < 0.01, chance.integers(0, 5000, 50_000)
    assert 1.0 <= rate(hit, [card]).design_effect < 1.15
    assert rate(hit, [np.arange(50_000)]).design_effect == pytest.approx(1.0, abs=1e-3)


def test_the_kind_whose_rows_hang_together_most_counts() -> None:
    chance = np.random.default_rng(5)
    hit, card = drawn_cards(chance, 500)
    merchant = chance.integers(0, 50, len(hit))
    assert rate(hit, [merchant, card]) == rate(hit, [card, merchant]) == rate(hit, [card])


def test_a_rate_of_one_cluster_or_without_hits_counts_every_row() -> None:
    assert rate(np.array([True, False]), [np.zeros(2, np.int64)]).design_effect == 1.0
    assert rate(np.zeros(9, bool), [np.zeros(9, np.int64)]).design_effect == 1.0
    assert (rate(np.ones(4, bool)).rate, rate(np.ones(4, bool)).high) == (1.0, 1.0)


def test_a_promise_is_kept_where_the_interval_holds_it() -> None:
    hit = np.arange(10_000) < 10  # 0.1 %, 0.054 % to 0.184 %
    kept = {promised: promise(990, promised, rate(hit)).kept for promised in (0.0005, 0.0006, 0.0018, 0.0019)}
    assert kept == {0.0005: "above", 0.0006: "yes", 0.0018: "yes", 0.0019: "below"}


@given(
    st.lists(st.tuples(st.floats(0, 1) | st.sampled_from(BIN_EDGES), st.booleans()), min_size=1, max_size=80)
)
def test_calibration_is_what_its_slow_twin_says(rows: list[tuple[float, bool]]) -> None:
    bins: dict[int, list[tuple[float, bool]]] = {}
    for row in rows:
        place = next((i for i in range(len(BIN_EDGES) - 1) if row[0] < BIN_EDGES[i + 1]), len(BIN_EDGES) - 2)
        bins.setdefault(place, []).append(row)
    expected = []
    for place in sorted(bins):
        inside = bins[place]
        mean = sum(p for p, _ in inside) / len(inside)
        share = sum(fraud for _, fraud in inside) / len(inside)
        expected.append((BIN_EDGES[place], len(inside), pytest.approx(mean), share))
    probability, fraud = np.array([p for p, _ in rows]), np.array([f for _, f in rows])
    found = reliability(probability, fraud)
    assert [(b["from"], b["transactions"], b["probability"], b["frauds"]["rate"]) for b in found] == expected
    n = len(rows)
    said = calibration(probability, fraud)
    assert said["ece"] == pytest.approx(sum(k / n * abs(m.expected - s) for _, k, m, s in expected))
    assert said["brier"] == pytest.approx(sum((p - f) ** 2 for p, f in rows) / n)
    assert said["brier_constant"] == pytest.approx(np.mean((fraud - fraud.mean()) ** 2))
    assert said["frauds"] == fraud.sum()
    assert said["expected_frauds"] == pytest.approx(probability.sum())
