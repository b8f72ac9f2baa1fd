"""The alerts of a worker are in the cases of the slow twin, whatever befell the worker."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraudstream.bus.memory import MemorySource
from tests.oracles.cases import Alert, slow_cases
from tests.stream.running import Running, as_messages, ce_id, contents, start
from tests.worlds import LIVE_MS, TinyWorld

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
CASES: dict[str, Any] = {"alerts__case_period": "12h", "alerts__case_length_max": "2d"}
Said = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def rows(tiny_world: TinyWorld) -> list[dict[str, Any]]:
    """Ten days; some transactions come twice."""
    history = pq.read_table(tiny_world.transactions).to_pylist()
    found = [row for row in history if row["event_time"] >= LIVE_MS - 6 * DAY_MS] + tiny_world.rows
    for at in range(100, len(found), 97):
        found.insert(at, found[at - 2])
    return found


def said(*runs: Running) -> Said:
    """Return each alert by the id of its message; fails where two runs say different things."""
    found: Said = {}
    for run in runs:
        for message in run.sent("alerts"):
            assert found.setdefault(ce_id(message), contents(message)) == contents(message)
    return found


@pytest.fixture(scope="module")
def undisturbed(tiny_world: TinyWorld, rows: list[dict[str, Any]]) -> Running:
    return start(tiny_world, as_messages(rows), **CASES).to_the_end()


def test_alerts_are_in_the_cases_of_the_twin(undisturbed: Running) -> None:
    alerts = undisturbed.alerts()
    plain = [Alert(a.entities["card"], a.event_time_ms, a.transaction_id) for a in alerts]
    assert [(a.case_id, a.case_alerts) for a in alerts] == slow_cases(plain, 12 * HOUR_MS, 2 * DAY_MS)
    sizes = Counter(a.case_id for a in alerts)
    assert max(sizes.values()) > 3
    assert len(sizes) > 20


@pytest.mark.parametrize("batch_rows_max", [7, 50_000])
def test_cases_do_not_depend_on_how_the_stream_is_cut(
    tiny_world: TinyWorld, rows: list[dict[str, Any]], undisturbed: Running, batch_rows_max: int
) -> None:
    run = start(tiny_world, as_messages(rows), worker__batch_rows_max=batch_rows_max, **CASES)
    assert said(run.to_the_end()) == said(undisturbed)


@settings(max_examples=8)
@given(
    lives=st.lists(st.tuples(st.integers(1, 5), st.integers(100, 900)), min_size=1, max_size=4),
    every=st.integers(1, 4),
    snapshots=st.booleans(),
)
def test_crashes_change_no_case_with_snapshots_and_without(
    tiny_world: TinyWorld,
    rows: list[dict[str, Any]],
    undisturbed: Running,
    tmp_path_factory: pytest.TempPathFactory,
    lives: list[tuple[int, int]],
    every: int,
    snapshots: bool,
) -> None:
    folder = str(tmp_path_factory.mktemp("snapshots")) if snapshots else ""
    options: dict[str, Any] = CASES | {
        "snapshots__folder": folder,
        "snapshots__interval": "1h",
        "worker__commit_interval_ms": 1,
    }
    source, runs = MemorySource(as_messages(rows)), []
    for steps, rows_max in lives:
        run = start(tiny_world, source, worker__batch_rows_max=rows_max, **options)
        runs.append(run)
        checkpoints = run.worker._checkpoints
        for step in range(steps):
            if checkpoints is not None and step % every == 0:
                checkpoints._due_s = 0.0
            run.worker.step()
            if checkpoints is not None:
                checkpoints.look(wait=True)
        source = MemorySource(source.messages, emit_from=source.emit_from | source.committed)
    runs.append(start(tiny_world, source, **options).to_the_end())
    assert said(*runs) == said(undisturbed)


def test_a_state_rebuilt_from_the_log_goes_on_with_the_cases(
    tiny_world: TinyWorld, rows: list[dict[str, Any]], undisturbed: Running
) -> None:
    half = len(rows) // 2
    taken = start(tiny_world, MemorySource(as_messages(rows), emit_from={0: half}), **CASES).to_the_end()
    later = {key: what for key, what in said(undisturbed).items() if int(key.rpartition("/")[2]) >= half}
    assert said(taken) == later
    assert any(alert["case_id"] != alert["transaction_id"] for alert in later.values())


def test_without_a_period_there_are_no_cases(tiny_world: TinyWorld) -> None:
    run = start(tiny_world, as_messages(tiny_world.rows), alerts__case_period="0s").to_the_end()
    assert {(alert.case_id, alert.case_alerts) for alert in run.alerts()} == {("", 0)}
