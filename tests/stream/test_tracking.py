"""What a worker counts of its decisions is what a recount of everything gives, whatever befell the worker."""

from __future__ import annotations

import json
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraudstream.bus.memory import MemoryMessage, MemoryReader, MemorySource
from fraudstream.features.cohorts import Cell
from fraudstream.stream.tracking import TOLD, Tracking, tracked_of
from fraudstream.training.replay import ReplayPlan
from fraudstream.training.run import replay_files
from fraudstream.training.tracked import quality_of_files
from tests.stream.running import Running, as_messages, label_messages, start
from tests.worlds import LIVE_MS, TinyWorld, ignore, write_table

DAY_MS, HOUR_MS = 86_400_000, 3_600_000
DAYS, KEPT_DAYS = 16, 15  # labels.maturity and a day, then the newest mature week
Counted = dict[tuple[int, bool, str], tuple[int, int, dict[int, int]]]


@pytest.fixture(scope="module")
def rows(tiny_world: TinyWorld) -> list[dict[str, Any]]:
    """The last days before the live ones, and those; some transactions come twice."""
    history = pq.read_table(tiny_world.transactions).to_pylist()
    found = [row for row in history if row["event_time"] >= LIVE_MS - DAYS * DAY_MS] + tiny_world.rows
    for at in range(500, len(found), 497):
        found.insert(at, found[at - 2])
    return found


def play(world: TinyWorld, source: Any, **overrides: Any) -> Running:
    return start(world, source, labels=MemoryReader(label_messages(world)), **overrides)


def cells_of(run: Running) -> list[Cell]:
    cohorts = run.worker.pipeline.engine.cohorts
    assert cohorts is not None
    return cohorts.cells()


def counted(run: Running) -> Counted:
    return {
        (cell.day, cell.alerted, cell.cohort.segment): (cell.transactions, cell.labelled, cell.reports)
        for cell in cells_of(run)
    }


def recounted(world: TinyWorld, rows: list[dict[str, Any]], alerted: set[str], by: str = "") -> Counted:
    """The slow way: what each transaction is by the labels that features see after the last row."""
    newest_ms = max(row["event_time"] for row in rows)
    seen_ms = newest_ms - HOUR_MS  # labels.grace
    said: dict[str, list[tuple[int, str]]] = {}
    for message in label_messages(world):
        label = json.loads(message.value() or b"")
        if label["known_at"] <= seen_ms:
            said.setdefault(label["transaction_id"], []).append((label["known_at"], label["label"]))
    found: Counted = {}
    for transaction, row in {row["transaction_id"]: row for row in rows}.items():
        key = (row["event_time"] // DAY_MS, transaction in alerted, row[by] if by else "")
        if key[0] < newest_ms // DAY_MS - KEPT_DAYS:
            continue
        number, labelled, reports = found.setdefault(key, (0, 0, {}))
        since_ms = None
        for known_ms, label in sorted(said.get(transaction, [])):
            since_ms = None if label == "legit" else known_ms if since_ms is None else since_ms
        if since_ms is not None:
            days = (since_ms - row["event_time"]) // DAY_MS
            reports[days] = reports.get(days, 0) + 1
        found[key] = (number + 1, labelled + (transaction in said), reports)
    return found


def alerts_of(run: Running) -> set[str]:
    return {alert.transaction_id for alert in run.alerts()}


@pytest.fixture(scope="module")
def uninterrupted(tiny_world: TinyWorld, rows: list[dict[str, Any]]) -> Running:
    return play(tiny_world, as_messages(rows), quality__segment="channel").to_the_end()


def test_counts_are_those_of_a_recount_and_move_with_the_labels(
    tiny_world: TinyWorld, rows: list[dict[str, Any]], uninterrupted: Running
) -> None:
    found = counted(uninterrupted)
    assert found == recounted(tiny_world, rows, alerts_of(uninterrupted), "channel")
    assert sum(labelled > sum(reports.values()) for _, labelled, reports in found.values()) > 0  # reversals


@pytest.mark.parametrize("batch_rows_max", [3, 50_000])
def test_counts_do_not_depend_on_how_the_stream_is_cut(
    tiny_world: TinyWorld, rows: list[dict[str, Any]], batch_rows_max: int
) -> None:
    some = rows[-2500:]
    run = play(tiny_world, as_messages(some), worker__batch_rows_max=batch_rows_max).to_the_end()
    assert counted(run) == recounted(tiny_world, some, alerts_of(run))


@settings(max_examples=8)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(50, 600)), min_size=1, max_size=4), st.integers(1, 4)
)
def test_crashes_lose_no_count_and_double_none(
    tiny_world: TinyWorld,
    rows: list[dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
    lives: list[tuple[int, int]],
    every: int,
) -> None:
    some = rows[-2500:]
    options = {
        "snapshots__folder": str(tmp_path_factory.mktemp("snapshots")),
        "snapshots__interval": "1h",
        "worker__commit_interval_ms": 1,
    }
    source, alerted = MemorySource(as_messages(some)), set[str]()
    for steps, rows_max in lives:
        run = play(tiny_world, source, worker__batch_rows_max=rows_max, **options)
        checkpoints = run.worker._checkpoints
        assert checkpoints is not None
        for step in range(steps):
            if step % every == 0:  # the first life has one from its first step on
                checkpoints._due_s = 0.0
            run.worker.step()
            checkpoints.look(wait=True)
        alerted |= alerts_of(run)
        source = MemorySource(source.messages, emit_from=source.emit_from | source.committed)
    last = play(tiny_world, source, **options).to_the_end()
    assert counted(last) == recounted(tiny_world, some, alerted | alerts_of(last))


def test_a_state_rebuilt_from_the_log_counts_from_then_on(
    tiny_world: TinyWorld, rows: list[dict[str, Any]]
) -> None:
    some = rows[-1500:]
    served = 700
    run = play(tiny_world, MemorySource(as_messages(some), emit_from={0: served})).to_the_end()
    again = {row["transaction_id"] for row in some[:served]}
    new = [row for row in some[served:] if row["transaction_id"] not in again]
    assert counted(run) == recounted(tiny_world, new, alerts_of(run))


def test_a_worker_goes_on_counting_its_own_partitions_alone(
    tiny_world: TinyWorld, rows: list[dict[str, Any]]
) -> None:
    dealt = [
        MemoryMessage(m.value(), m.key(), None, i % 3, i // 3, m.timestamp()[1])
        for i, m in enumerate(as_messages(rows[-900:]))
    ]
    run = play(tiny_world, dealt).to_the_end()
    cohorts = run.worker.pipeline.engine.cohorts
    assert cohorts is not None
    before = Counter(cell.cohort.partition for cell in cells_of(run))
    cohorts.keep({0, 2})
    assert set(before) == {0, 1, 2}
    assert {cell.cohort.partition for cell in cells_of(run)} == {0, 2}


def test_the_metrics_are_the_counts_that_files_give(
    tiny_world: TinyWorld, rows: list[dict[str, Any]], uninterrupted: Running, tmp_path: Path
) -> None:
    Tracking(uninterrupted.settings, uninterrupted.metrics).tell(
        cells_of(uninterrupted), uninterrupted.worker.pipeline.engine.watermark_ms
    )
    told = {
        (window, name): sum(
            sample.value
            for family in uninterrupted.metrics.registry.collect()
            for sample in family.samples
            if sample.name == f"fraudstream_tracked_{name}" and sample.labels["window"] == window
        )
        for window in ("mature", "provisional")
        for name in TOLD
    }
    newest_ms = max(row["event_time"] for row in rows)
    table = pq.read_table(tiny_world.transactions).schema.empty_table().from_pylist(rows)
    write_table(table, tmp_path / "rows")
    scored = tmp_path / "scored.parquet"
    replay_files(tiny_world.settings, ReplayPlan(tmp_path / "rows", scored, tiny_world.labels), ignore)
    days = quality_of_files(tiny_world.settings, scored, tiny_world.labels, newest_ms - HOUR_MS, ignore)
    today = newest_ms // DAY_MS
    by_age = {
        today - (date.fromisoformat(day["day"]) - date(1970, 1, 1)).days: day
        for day in days["models"]["all"]["days"]
    }
    for window, span in (("mature", range(8, 15)), ("provisional", range(8))):
        those = [day for age, day in by_age.items() if age in span]
        for name in ("alerts", "labelled", "frauds", "frauds_alerted"):
            assert told[window, name] == sum(day[name] for day in those), (window, name)
    assert told["mature", "frauds_expected"] == told["mature", "frauds"] > 0
    assert told["provisional", "frauds_expected"] > told["provisional", "frauds"]


def test_nothing_is_counted_where_nobody_wants_it(tiny_world: TinyWorld) -> None:
    run = play(tiny_world, as_messages(tiny_world.rows[:50]), quality__track=False).to_the_end()
    assert run.worker.pipeline.engine.cohorts is None


def test_rows_of_several_transactions_stand_for_their_cells(uninterrupted: Running) -> None:
    cells = cells_of(uninterrupted)
    tracked = tracked_of(cells, uninterrupted.settings.labels.maturity_ms)
    assert tracked.number() == sum(cell.transactions for cell in cells)
    assert tracked.number(tracked.labelled) == sum(cell.labelled for cell in cells)
    assert tracked.number(tracked.alerted) == sum(cell.transactions for cell in cells if cell.alerted)
