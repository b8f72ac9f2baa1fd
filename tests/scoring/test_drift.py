"""How far columns have moved, by hand and against a recount."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fraudstream.errors import ModelError
from fraudstream.scoring.drift import (
    Bins,
    Drift,
    RecentDrift,
    ks,
    psi,
    read_reference,
    reference_of,
)  # fmt: skip

NAMES = ["a", "b"]
SHAPE = st.tuples(st.integers(1, 40), st.just(2))


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
    moved, stayed, constant = (shifts[name].psi for name in ("moves", "stays", "constant"))
    assert moved is not None
    assert moved > 0.5
    assert stayed == pytest.approx(0, abs=0.01)
    assert constant == 0
    assert (shifts["moves"].missing_before, shifts["moves"].missing) == (0, 0.25)


def test_nothing_counted_has_no_index() -> None:
    reference = reference_of(np.full((4, 1), np.nan), ["missing"])
    assert reference["missing"] == Bins([], [0, 1])
    assert Drift(reference, ["missing"]).shifts()["missing"] == (None, None, 0.0, 1.0)
    assert np.isnan(psi(np.zeros(2), np.ones(2)))


@given(
    arrays(np.float64, SHAPE, elements=st.sampled_from([0, 1, 2.5, np.nan, np.inf])),
    arrays(np.float64, SHAPE, elements=st.floats(-1, 4) | st.just(np.nan)),
)
def test_counts_are_those_of_a_loop_over_values_and_edges(before: np.ndarray, now: np.ndarray) -> None:
    reference = reference_of(before, NAMES)
    drift = Drift(reference, NAMES)
    drift.count(now)
    same = Drift(reference, NAMES)
    same.count(before)
    assert [shift.psi for shift in same.shifts().values()] == pytest.approx([0, 0])
    for column, name in enumerate(NAMES):
        edges = reference[name].edges
        slow = [0] * (len(edges) + 2)
        for value in now[:, column]:
            slow[-1 if np.isnan(value) else sum(value > edge for edge in edges)] += 1
        counts = drift.counts[column]
        assert [*counts[: len(edges) + 1], counts[-1]] == slow


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5)), min_size=1, max_size=30), st.integers(1, 4))
def test_recent_drift_is_that_of_the_rows_of_the_last_spans(parts: list[tuple[int, int]], kept: int) -> None:
    random = np.random.default_rng(1)
    reference = reference_of(random.normal(size=(50, 2)), NAMES)
    recent, seen, youngest = RecentDrift(reference, NAMES, kept), [], -1
    for span, rows in parts:
        X = random.normal(size=(rows, 2))
        recent.count(X, span)
        youngest = max(youngest, span)
        seen.append((youngest, X))
    drift = Drift(reference, NAMES)
    for span, X in seen:
        if span > youngest - kept:
            drift.count(X)
    assert recent.shifts() == drift.shifts()
    assert recent.rows == drift.counts[0].sum()
    assert recent.full == (youngest - parts[0][0] >= kept)


@given(arrays(np.int64, 5, elements=st.integers(0, 50)), arrays(np.int64, 5, elements=st.integers(0, 50)))
def test_psi_and_ks_are_of_shares_and_nothing_where_either_has_none(one: np.ndarray, two: np.ndarray) -> None:
    if not one.sum() or not two.sum():
        assert np.isnan(psi(one, two))
        assert np.isnan(ks(one, two))
        return
    assert psi(one * 7, two) == pytest.approx(psi(one, two))
    assert ks(one, two) == pytest.approx(ks(two * 3, one))
    assert 0 <= ks(one, two) <= 1
    assert (ks(one, two) < 1e-12) == np.allclose(one / one.sum(), two / two.sum())


@pytest.mark.parametrize(
    "bad",
    [
        b"", b"[]", b"\xff", b'{"a": 1}', b"[" * 100_000,
        b'{"a": {"edges": [1, 1], "shares": [0.1, 0.2, 0.3, 0.4]}}',
        b'{"a": {"edges": [1], "shares": [0.5, 0.5]}}',
        b'{"a": {"edges": [], "shares": [0.5, 1.5]}}',
        b'{"a": {"edges": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], "shares": [0.1]}}',
    ],
)  # fmt: skip
def test_a_damaged_reference_is_named(bad: bytes) -> None:
    with pytest.raises(ModelError, match=r"^report/reference\.json: "):
        read_reference(bad, "report/reference.json")


def test_a_reference_is_read_as_it_was_written() -> None:
    reference = reference_of(np.random.default_rng(2).normal(size=(100, 2)), NAMES)
    assert read_reference(msgspec.json.encode(reference), "") == reference
