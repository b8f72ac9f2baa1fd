"""A state comes back from its snapshot and the log: as if the worker had never stopped, whatever befell it."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraudstream.bus.memory import MemoryMessage, MemoryReader, MemorySource
from fraudstream.clock import now_ms
from fraudstream.errors import ConfigError
from fraudstream.features import build_catalog
from fraudstream.metrics import WorkerMetrics
from fraudstream.stream import checkpoints
from fraudstream.stream.checkpoints import Checkpoints
from tests.stream.running import (
    MovingSource,
    Running,
    as_messages,
    contents,
    label_messages,
    spread,
    start,
)
from tests.worlds import TinyWorld

ROWS = 900


@pytest.fixture(scope="module")
def uninterrupted(tiny_world: TinyWorld) -> Running:
    return start(tiny_world, log_of(tiny_world), labels=labels_of(tiny_world)).to_the_end()


def log_of(world: TinyWorld) -> list[MemoryMessage]:
    """Return transactions of which some come twice, soon enough to be known again wherever batches are cut."""
    rows = list(world.rows[:ROWS])
    for at in range(100, ROWS, 97):
        rows.insert(at, rows[at - 2])
    return as_messages(rows)


def labels_of(world: TinyWorld) -> MemoryReader:
    return MemoryReader(label_messages(world))


def saving(folder: Path, **more: Any) -> dict[str, Any]:
    """Return settings that save the state at each commit, and commit at each batch."""
    return {
        "snapshots__folder": str(folder),
        "snapshots__interval": "0s",
        "worker__commit_interval_ms": 1,
    } | more


def metric(run: Running, name: str, **labels: str) -> float:
    return run.metrics.registry.get_sample_value(name, labels) or 0.0


def crash(run: Running, steps: int) -> None:
    """Let a worker take some batches, wait for the snapshot of each, and leave it where it is."""
    checkpoints = run.worker._checkpoints
    assert checkpoints is not None
    for _ in range(steps):
        run.worker.step()
        checkpoints.look(wait=True)


def first_ones(decisions: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return those that are not of repeated transactions: a replay is silent, so it may not know what to repeat."""
    return {key: said for key, said in decisions.items() if "repeated" not in said["flags"]}


def after(world: TinyWorld, before: Running, folder: Path, **overrides: Any) -> Running:
    """Return a worker that goes on where another one has committed."""
    source = MemorySource(before.source.messages, emit_from=dict(before.source.committed))
    return start(world, source, labels=labels_of(world), **saving(folder, **overrides))


def test_a_worker_goes_on_from_its_snapshot_as_if_it_had_never_stopped(
    tiny_world: TinyWorld, uninterrupted: Running, tmp_path: Path
) -> None:
    messages = log_of(tiny_world)
    first = start(
        tiny_world, messages, labels=labels_of(tiny_world), **saving(tmp_path, worker__batch_rows_max=100)
    )
    crash(first, 5)
    second = after(tiny_world, first, tmp_path).to_the_end()
    assert first.by_id() | second.by_id() == uninterrupted.by_id()
    assert first.by_id().keys().isdisjoint(second.by_id())
    assert second.worker.pipeline.engine.dump() == uninterrupted.worker.pipeline.engine.dump()
    assert metric(second, "fraudstream_replayed_total") == 0  # all of it is in the snapshot
    assert metric(second, "fraudstream_labels_total", result="learned") == 0  # and all labels


def test_a_worker_that_is_stopped_leaves_nothing_to_replay(
    tiny_world: TinyWorld, uninterrupted: Running, tmp_path: Path
) -> None:
    messages = log_of(tiny_world)
    options = saving(tmp_path, snapshots__interval="1h")
    start(tiny_world, messages[:500], labels=labels_of(tiny_world), **options).to_the_end()
    second = start(
        tiny_world, MemorySource(messages, emit_from={0: 500}), labels=labels_of(tiny_world), **options
    )
    assert not second.worker.ready
    second.to_the_end()
    assert metric(second, "fraudstream_replayed_total") == 0
    assert second.worker.pipeline.engine.dump() == uninterrupted.worker.pipeline.engine.dump()


@settings(max_examples=12)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(20, 300)), min_size=1, max_size=4), st.booleans())
def test_any_number_of_crashes_gives_the_decisions_and_the_state_of_none(
    tiny_world: TinyWorld,
    uninterrupted: Running,
    tmp_path_factory: pytest.TempPathFactory,
    lives: list[tuple[int, int]],
    logged: bool,
) -> None:
    folder, decided = tmp_path_factory.mktemp("snapshots"), dict[str, dict[str, Any]]()
    source = MemorySource(log_of(tiny_world))
    for steps, rows in lives:
        options = saving(folder, worker__batch_rows_max=rows, worker__feature_log=logged)
        run = start(tiny_world, source, labels=labels_of(tiny_world), **options)
        crash(run, steps)
        decided |= run.by_id()
        source = MemorySource(source.messages, emit_from=source.emit_from | source.committed)
    last = start(tiny_world, source, labels=labels_of(tiny_world), **saving(folder)).to_the_end()
    assert first_ones(decided | last.by_id()) == first_ones(uninterrupted.by_id())
    assert last.worker.pipeline.engine.dump() == uninterrupted.worker.pipeline.engine.dump()


def test_a_damaged_snapshot_is_passed_over_for_an_older_one_and_at_last_for_the_log(
    tiny_world: TinyWorld, uninterrupted: Running, tmp_path: Path
) -> None:
    first = start(
        tiny_world,
        log_of(tiny_world),
        labels=labels_of(tiny_world),
        **saving(tmp_path, worker__batch_rows_max=100),
    )
    for _ in range(5):
        crash(first, 1)
    newest, *older = sorted(tmp_path.rglob("*.state"), reverse=True)
    assert len(older) == 2

    octets = bytearray(newest.read_bytes())
    octets[len(octets) // 3] ^= 4
    newest.write_bytes(octets)
    second = after(tiny_world, first, tmp_path, snapshots__interval="1h")
    second.to_the_end()
    assert 100 <= metric(second, "fraudstream_replayed_total") <= 200
    assert second.worker.pipeline.engine.dump() == uninterrupted.worker.pipeline.engine.dump()

    for path in tmp_path.rglob("*.state"):
        path.write_bytes(path.read_bytes()[:-9])
    third = after(tiny_world, first, tmp_path, snapshots__interval="1h").to_the_end()
    assert metric(third, "fraudstream_replayed_total") == first.source.committed[0]
    assert third.by_id() == second.by_id()


def test_a_snapshot_of_another_catalogue_or_topic_is_not_used(tiny_world: TinyWorld, tmp_path: Path) -> None:
    first = start(tiny_world, log_of(tiny_world), **saving(tmp_path)).to_the_end()
    for change in ({"state__lateness": "2d"}, {"topics__transactions": "other.transactions"}):
        second = after(tiny_world, first, tmp_path, snapshots__interval="1h", **change)
        for _ in range(3):
            second.worker.step()
        assert metric(second, "fraudstream_replayed_total") > 0, change
        second.worker.close()


def checkpoints_in(world: TinyWorld, folder: Path) -> Checkpoints:
    settings_ = world.settings_with(snapshots__folder=str(folder))
    return Checkpoints(settings_, build_catalog(settings_.features, settings_.event), WorkerMetrics())


def test_what_does_not_fit_the_log_is_not_used(tiny_world: TinyWorld, tmp_path: Path) -> None:
    start(tiny_world, spread(log_of(tiny_world)[:600], 3), **saving(tmp_path)).to_the_end()
    here = checkpoints_in(tiny_world, tmp_path)
    oldest, served = {0: 0, 1: 0, 2: 0}, {0: 250, 1: 250, 2: 250}
    restored = here.restore(oldest, served)
    assert restored is not None
    assert restored[1].positions == {0: 200, 1: 200, 2: 200}
    assert here.restore({0: 0, 2: 0}, {0: 250, 2: 250}) is None  # merchants of partition 1 are in it
    assert here.restore(oldest | {3: 0}, served | {3: 5}) is None  # it has not seen another one
    assert here.restore(oldest | {1: 201}, served) is None  # the log has lost what comes behind it
    assert here.restore(oldest, served | {1: 199}) is None  # it holds what is to be served yet


def test_partitions_that_come_back_as_they_were_need_neither_a_snapshot_nor_the_log(
    tiny_world: TinyWorld, uninterrupted: Running
) -> None:
    source = MovingSource(log_of(tiny_world))
    run = start(tiny_world, source, labels=labels_of(tiny_world), worker__batch_rows_max=100)
    for _ in range(4):
        run.worker.step()
    run.worker.finish()
    source.rebalance(dict(source.committed))
    run.to_the_end()
    assert metric(run, "fraudstream_replayed_total") == 0
    assert run.by_id() == uninterrupted.by_id()
    assert run.worker.pipeline.engine.dump() == uninterrupted.worker.pipeline.engine.dump()


@pytest.mark.parametrize("backwards_ms", [0, 3_600_000])
def test_the_newest_are_kept_whatever_the_clock_does(
    tiny_world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backwards_ms: int
) -> None:
    run = start(
        tiny_world, log_of(tiny_world), **saving(tmp_path, worker__batch_rows_max=50, snapshots__kept=2)
    )
    for number in range(6):
        then_ms = now_ms() - number * backwards_ms
        monkeypatch.setattr(checkpoints, "now_ms", lambda then_ms=then_ms: then_ms)
        crash(run, 1)
    kept = sorted(tmp_path.rglob("*"))
    assert [path.suffix for path in kept] == ["", ".state", ".state"]
    restored = checkpoints_in(tiny_world, tmp_path).restore({0: 0}, {0: 300})
    assert restored is not None
    assert restored[1].positions == {0: 300}


@contextmanager
def files_no_larger_than(octets: int) -> Iterator[None]:
    """Let writing fail beyond a size, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_snapshot_that_cannot_be_written_stops_nothing_and_harms_none(
    tiny_world: TinyWorld, uninterrupted: Running, tmp_path: Path
) -> None:
    run = start(
        tiny_world,
        log_of(tiny_world),
        labels=labels_of(tiny_world),
        **saving(tmp_path, worker__batch_rows_max=100),
    )
    crash(run, 1)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.state")}
    with files_no_larger_than(10_000):
        crash(run, 2)
    assert metric(run, "fraudstream_snapshots_total", result="failed") >= 1
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.state")} == before
    shutil.rmtree(tmp_path / "fraudstream")
    crash(run, 1)
    run.to_the_end()
    assert run.by_id() == uninterrupted.by_id()


def test_a_folder_that_cannot_be_one_is_refused(tiny_world: TinyWorld, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"snapshots\.folder = .*: cannot be used"):
        checkpoints_in(tiny_world, tmp_path / "file")


def test_first_decisions_are_recalled_under_their_own_outcome(tiny_world: TinyWorld, tmp_path: Path) -> None:
    rows = tiny_world.rows[:300]
    first = start(tiny_world, as_messages(rows), **saving(tmp_path)).to_the_end()
    late = [
        row for row in rows if row["event_time"] > rows[-1]["event_time"] - 1_800_000
    ]  # within the horizon
    again = as_messages([*rows, *late])
    outcomes = [  # the same ones under other numbers
        {"name": "block", "points_min": 1000, "alert": True},
        {"name": "decline", "points_min": 950, "alert": True},
        {"name": "review", "points_min": 860, "alert": True},
    ]
    settings_ = tiny_world.settings_with()
    assert [o.name for o in settings_.outcomes] == ["decline", "review"]
    world = TinyWorld(
        tiny_world.folder, tmp_path / "other.toml", settings_, rows, tiny_world.frauds, tiny_world.trained
    )
    lines = [
        f'[[outcomes]]\nname = "{o["name"]}"\npoints_min = {o["points_min"]}\nalert = true\n'
        for o in outcomes
    ]
    head, _, tail = tiny_world.toml_with("").partition("[[outcomes]]")
    (tmp_path / "other.toml").write_text(head + "\n".join(lines) + tail[tail.index("[model]") :], "utf-8")
    second = start(world, MemorySource(again, emit_from={0: 300}), **saving(tmp_path)).to_the_end()
    told = {m["transaction_id"]: m for m in map(contents, first.sent("decisions"))}
    repeated = [contents(m) for m in second.sent("decisions")]
    assert len(repeated) == len(late) > 3
    for said in repeated:
        for name in ("outcome", "score", "risk_points", "model"):
            assert said[name] == told[said["transaction_id"]][name]
