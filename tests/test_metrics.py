"""A batch is counted as if each of its rows had been."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from fraudstream.metrics import BatchHistogram

EDGES = (0.001, 0.01, 0.1, 1.0)
amounts = st.one_of(st.sampled_from([0.0, *EDGES]), st.floats(0, 10))


@given(st.lists(st.lists(st.tuples(amounts, st.integers(0, 40)), min_size=1, max_size=32), max_size=4))
def test_a_histogram_of_batches_is_that_of_their_rows(batches: list[list[tuple[float, int]]]) -> None:
    fast, slow = CollectorRegistry(), CollectorRegistry()
    of_batches = BatchHistogram("a", "a", buckets=EDGES, registry=fast)
    of_rows = Histogram("a", "a", buckets=EDGES, registry=slow)
    for batch in batches:
        observed, times = zip(*batch, strict=True)
        of_batches.observe_each(observed, times)
        for amount, number in batch:
            for _ in range(number):
                of_rows.observe(amount)
    for edge in ("0.001", "0.01", "0.1", "1.0", "+Inf"):
        values = [one.get_sample_value("a_bucket", {"le": edge}) for one in (fast, slow)]
        assert values[0] == values[1]
    sums = [one.get_sample_value("a_sum") or 0.0 for one in (fast, slow)]
    assert sums[0] == pytest.approx(sums[1])
