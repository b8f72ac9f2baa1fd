"""A calibration rises with the score, says the share of fraud, and is never certain."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.training.calibrate import ALWAYS, NEVER, calibrated


@given(st.integers(0, 2**32 - 1), st.integers(2, 400), st.integers(0, 6), st.floats(-8, 2))
def test_a_higher_score_is_a_higher_probability(seed: int, n: int, places: int, centre: float) -> None:
    chance = np.random.default_rng(seed)
    raw = np.round(chance.normal(centre, 3, n), places)
    fraud = chance.random(n) < 1 / (1 + np.exp(-raw))
    fraud[:2] = [True, False]
    knots = calibrated(raw, fraud)
    assert (np.diff(knots.x) > 0).all()
    assert (np.diff(knots.y) > 0).all()
    assert (knots.x[0], knots.x[-1], knots.y[0], knots.y[-1]) == (NEVER, ALWAYS, 0, 1)
    asked = np.unique(raw)
    assert (np.diff(knots.at(asked)) > 0).all()


def test_a_step_is_the_share_of_fraud_at_its_centre() -> None:
    #  raw    -3  -2  -1     0   1     2   3   4
    #  fraud   -   -   x     -   x     x   -   x     steps 0, 1/2, 2/3 and 1; the first joins the next, the last too
    raw = np.array([-3.0, -2, -1, 0, 1, 2, 3, 4])
    fraud = np.array([0, 0, 1, 0, 1, 1, 0, 1], bool)
    knots = calibrated(raw, fraud)
    assert knots.x[1:-1] == [-1.5, 2.5]
    assert knots.y[1:-1] == [1 / 4, 3 / 4]


def test_where_the_classes_stand_apart_there_is_one_step() -> None:
    knots = calibrated(np.array([-2.0, -1, 1, 2]), np.array([False, False, True, True]))
    assert (knots.x, knots.y) == ([NEVER, 0, ALWAYS], [0, 0.5, 1])


def test_probabilities_are_those_of_the_scores_drawn() -> None:
    chance = np.random.default_rng(5)
    raw = chance.normal(-4, 2, 200_000)
    odds = 1 / (1 + np.exp(-raw))
    knots = calibrated(raw, chance.random(len(raw)) < odds)
    assert np.abs(knots.at(raw) - odds).mean() < 0.004
