"""The policy against its slow twin: the first outcome whose points are reached."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.scoring import Policy
from fraudstream.settings import Outcome

points = st.integers(0, 1000)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    thresholds = sorted(draw(st.sets(points, max_size=6)), reverse=True)
    outcomes = tuple(
        Outcome(name=f"outcome {i}", points_min=threshold, alert=draw(st.booleans()))
        for i, threshold in enumerate(thresholds)
    )
    return Policy(outcomes, "approve")


def by_hand(policy: Policy, row_points: int) -> tuple[str, bool]:
    for outcome in policy.outcomes:
        if row_points >= outcome.points_min:
            return outcome.name, outcome.alert
    return policy.otherwise, False


@given(policies(), st.lists(points, max_size=50))
def test_a_row_gets_the_first_outcome_whose_points_it_reaches(policy: Policy, rows: list[int]) -> None:
    decided = policy.decide(np.array(rows, np.int64))
    alerting = policy.alerting(decided)
    names = [policy.names[i] for i in decided.tolist()]
    assert list(zip(names, alerting.tolist(), strict=True)) == [by_hand(policy, row) for row in rows]


def test_without_outcomes_every_row_passes_and_none_alerts() -> None:
    policy = Policy((), "approve")
    decided = policy.decide(np.array([0, 500, 1000]))
    assert [policy.names[i] for i in decided.tolist()] == ["approve"] * 3
    assert policy.alerting(decided).tolist() == [False] * 3
