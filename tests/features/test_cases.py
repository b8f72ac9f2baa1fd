"""Which alerts are one case: a twin that looks at everything before, and examples that are drawn."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.features import cases as module
from fraudstream.features.cases import Case, Cases
from tests.oracles.cases import Alert, slow_cases

PERIOD, LENGTH, LATENESS = 10, 40, 15


def fast_cases(alerts: list[Alert], cuts: set[int], saved: set[int] | None = None) -> list[Case]:
    """Take batches that end at the cuts; after some of them the state is saved and read again."""
    cases, found, begin = Cases(PERIOD, LENGTH), [], 0
    for end in sorted({*cuts, len(alerts)}):
        batch = alerts[begin:end]
        entities, times = [int(alert.entity) for alert in batch], [alert.time_ms for alert in batch]
        found += cases.take(entities, times, [alert.id for alert in batch])
        if saved and end in saved:
            again = Cases(PERIOD, LENGTH)
            again.restore(json.loads(json.dumps(cases.to_json())))
            cases = again
        begin = end
    return found


@st.composite
def streams(draw: st.DrawFn) -> list[Alert]:
    """Draw alerts of few entities, none of them later than LATENESS."""
    steps = draw(
        st.lists(
            st.tuples(st.sampled_from([3, 2**64 - 1]), st.integers(-LATENESS, 14)), min_size=1, max_size=40
        )
    )
    newest_ms, alerts = 100, []
    for number, (entity, step) in enumerate(steps):
        time_ms = newest_ms + step
        newest_ms = max(newest_ms, time_ms)
        alerts.append(Alert(entity, time_ms, f"tx{number}"))
    return alerts


@given(streams(), st.sets(st.integers(1, 40)), st.sets(st.integers(1, 40)))
def test_cases_are_those_of_the_twin_however_batches_are_cut_and_the_state_is_saved(
    alerts: list[Alert], cuts: set[int], saved: set[int]
) -> None:
    within = {cut for cut in cuts if cut < len(alerts)}
    assert fast_cases(alerts, within, saved) == slow_cases(alerts, PERIOD, LENGTH)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        # 0         10        20        30        40        50   period 10, length 40
        # a         b         c
        ([100, 110, 120], [("a", 1), ("a", 2), ("a", 3)]),
        # a          b
        ([100, 111], [("a", 1), ("b", 1)]),
        # a    b    c    d    e    f         f is 50 after a
        ([100, 110, 120, 130, 140, 150], [("a", 1), ("a", 2), ("a", 3), ("a", 4), ("a", 5), ("f", 1)]),
        # b         a              b comes late, within the period of the first
        ([110, 100, 120], [("a", 1), ("a", 2), ("a", 3)]),
        # b          a             later than that: alone, and a goes on
        ([111, 100, 112], [("a", 1), ("b", 1), ("a", 2)]),
    ],
)
def test_an_alert_belongs_to_the_case_that_is_open_at_its_time(
    times: list[int], expected: list[tuple[str, int]]
) -> None:
    alerts = [Alert(1, time_ms, "abcdefg"[at]) for at, time_ms in enumerate(times)]
    assert fast_cases(alerts, set()) == expected
    assert slow_cases(alerts, PERIOD, LENGTH) == expected


def test_alerts_without_an_entity_stand_alone() -> None:
    assert fast_cases([Alert(0, 100, "a"), Alert(0, 101, "b")], set()) == [("a", 1), ("b", 1)]


def test_a_case_does_not_end_because_others_are_ahead() -> None:
    alerts = [Alert(1, 100, "a"), Alert(2, 100_000, "b"), Alert(1, 110, "c")]
    expected = [("a", 1), ("b", 1), ("a", 2)]
    assert fast_cases(alerts, {1, 2}, {2}) == expected
    assert slow_cases(alerts, PERIOD, LENGTH) == expected


def test_beyond_the_limit_the_case_goes_whose_last_alert_came_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CASES_MAX", 2)
    cases = Cases(PERIOD, LENGTH)
    found = cases.take([1, 2, 1, 3, 1, 2], [100] * 6, list("abcdef"))
    assert found == [("a", 1), ("b", 1), ("a", 2), ("d", 1), ("a", 3), ("f", 1)]
    assert cases.take([1, 3], [100] * 2, list("xy")) == [("a", 4), ("y", 1)]
    assert len(cases) == 2
