"""When a worker commits, and what: what was sent and nothing else, whatever its bus does meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from fraudstream.bus.memory import MemorySource
from fraudstream.clock import monotonic_s
from fraudstream.errors import BusError
from fraudstream.stream import commits
from tests.stream.running import BrokenSink, SlowSink, as_messages, spread, start
from tests.worlds import TinyWorld


def test_offsets_committed_are_those_processed_in_every_partition(tiny_world: TinyWorld) -> None:
    messages = spread(as_messages(tiny_world.rows[:500]), 3)
    run = start(tiny_world, messages, worker__batch_rows_max=64)
    run.worker.step()
    run.worker.commit()
    assert run.source.committed == {0: 22, 1: 21, 2: 21}  # 64 messages, dealt out in turn
    run.to_the_end()
    assert run.source.committed == {0: 167, 1: 167, 2: 166}
    assert len(run.sent("decisions")) == 500


def test_the_next_rows_are_decided_while_a_commit_goes_on_and_are_not_in_it(tiny_world: TinyWorld) -> None:
    patient: dict[str, Any] = {"worker__batch_rows_max": 100, "worker__commit_interval_ms": 60_000}
    sink = SlowSink(looks=3)
    run = start(tiny_world, as_messages(tiny_world.rows[:500]), sink, **patient)
    run.worker.step()
    assert not run.worker.commit(0.0)
    read = [run.worker.step() for _ in range(3)]
    assert read == [100, 100, 100]
    assert sink.committed == [({0: 100}, 100)]
    assert run.worker.commit_all(60.0)
    assert sink.committed == [({0: 100}, 100), ({0: 400}, 400)]


def test_nothing_is_read_on_once_a_commit_takes_too_long(
    tiny_world: TinyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "LATE_AFTER_S", 0.0)
    sink = SlowSink(looks=7)
    messages = as_messages(tiny_world.rows[:300])
    run = start(tiny_world, messages, sink, worker__batch_rows_max=100, worker__commit_interval_ms=1)
    run.worker.step()
    while not run.worker._commits.late(monotonic_s()):
        pass
    read = []
    while not sink.committed:
        read.append(run.worker.step())
    assert read[:2] == [0, 0]
    assert sink.committed == [({0: 100}, 100)]
    assert run.worker.step() == 100


def test_nothing_is_committed_when_what_was_sent_is_not_acknowledged(tiny_world: TinyWorld) -> None:
    run = start(tiny_world, as_messages(tiny_world.rows[:200]), BrokenSink())
    with pytest.raises(BusError, match="7 messages were not delivered"):
        run.to_the_end()
    run.worker.close()  # as the host does with a worker that failed; its flush has nothing left to report
    assert run.source.committed == {}
    assert run.sink.sent != {}


def test_nothing_is_committed_while_the_worker_only_rebuilds(tiny_world: TinyWorld) -> None:
    messages = as_messages(tiny_world.rows[:300])
    run = start(tiny_world, MemorySource(messages[:200], emit_from={0: 250})).to_the_end()
    assert run.source.committed == {}
    assert run.sink.sent == {}
    assert not run.worker.ready


class LeavingSource(MemorySource):
    """A source that asks to finish when it is closed, as a member of a group does that gives its partitions back."""

    def close(self) -> None:
        assert self._handover is not None
        self._handover.finish()


class StuckSink(SlowSink):
    """A sink whose commit does not come through before it is closed, and would at once after that."""

    def close(self) -> None:
        self.left = 0


def test_a_worker_that_leaves_without_its_last_commit_commits_no_positions(
    tiny_world: TinyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fraudstream.stream.worker.FINISH_WITHIN_S", 0.05)
    source, sink = LeavingSource(as_messages(tiny_world.rows[:300])), StuckSink(looks=10**9)
    run = start(tiny_world, source, sink, worker__batch_rows_max=100)
    while run.worker.step():
        pass
    with pytest.raises(BusError, match="the last decisions could not be committed in time"):
        run.worker.leave()
    assert sink.committed == []
    assert source.committed == {}
