"""A sample of `python -m benchmarks.mutations`, another one in each run: no damage reaches what is served."""

from __future__ import annotations

import pytest

from benchmarks.mutations import RUNS, measure


def test_no_damaged_bundle_ends_a_worker_or_changes_a_score(request: pytest.FixtureRequest) -> None:
    seed = request.config.getoption("randomly_seed", 0)
    found = measure(list(RUNS), 4, int(seed))
    wrong = {name: found[name] for name in ("deaths", "wrong_scores", "undecided", "misnamed")}
    assert wrong == dict.fromkeys(wrong, 0), (seed, found["examples"])
    assert found["mutations"] == 4 * sum(len(files) for files in RUNS.values())
    assert found["refused"] > found["mutations"] / 2
