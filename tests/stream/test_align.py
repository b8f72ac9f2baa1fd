"""Partitions read unevenly, as a broker hands out a backlog, and what the aligner makes of it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.batch import TransactionBatch
from fraudstream.stream.align import Aligner


def batch_of(rows: list[tuple[int, int, int]]) -> tuple[TransactionBatch, list[str]]:
    """Return rows of (partition, offset, event time) and a message for each."""
    partition, offset, time_ms = (np.array([row[i] for row in rows], np.int64) for i in range(3))
    batch = TransactionBatch(
        ids=[f"{p}/{o}" for p, o, _ in rows],
        time_ms=time_ms,
        measures={},
        texts={},
        partition=partition,
        offset=offset,
        source_row=np.arange(len(rows)),
    )
    return batch, list(batch.ids)


def test_nothing_waits_while_no_partition_is_behind() -> None:
    aligner = Aligner()
    ready, _ = aligner.add(*batch_of([(0, 0, 500), (1, 0, 100)]), behind=set())
    assert ready.ids == ["1/0", "0/0"]
    assert not aligner.holds


def test_rows_ahead_of_a_partition_with_a_backlog_wait_for_it() -> None:
    aligner = Aligner()
    ready, _ = aligner.add(*batch_of([(0, 0, 500), (0, 1, 900), (1, 0, 600)]), behind={1})
    assert ready.ids == ["0/0", "1/0"]
    assert aligner.first_held() == {0: 1}
    ready, _ = aligner.add(*batch_of([(1, 1, 950)]), behind=set())
    assert ready.ids == ["0/1", "1/1"]
    assert aligner.first_held() == {}


def test_a_partition_that_never_delivered_holds_all_others() -> None:
    aligner = Aligner()
    ready, _ = aligner.add(*batch_of([(0, 0, 500)]), behind={0, 1})
    assert ready.ids == []
    ready, _ = aligner.add(*batch_of([]), behind=set())
    assert ready.ids == ["0/0"]


def test_beyond_the_bound_everything_goes() -> None:
    aligner = Aligner(rows_max=2)
    ready, _ = aligner.add(*batch_of([(0, i, i) for i in range(3)]), behind={1})
    assert len(ready) == 3
    assert not aligner.holds


@given(
    times=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 50)), min_size=1, max_size=60),
    cuts=st.lists(st.integers(1, 9), min_size=1, max_size=60),
)
def test_every_row_goes_once_with_its_own_message_and_a_backlog_comes_out_in_event_order(
    times: list[tuple[int, int]], cuts: list[int]
) -> None:
    queues: dict[int, list[tuple[int, int, int]]] = {}
    for partition, time_ms in sorted(times, key=lambda row: row[1]):
        queue = queues.setdefault(partition, [])
        queue.append((partition, len(queue), time_ms))
    aligner, out = Aligner(), []
    left = {p: list(rows) for p, rows in queues.items()}
    for cut in [*cuts, *[100] * len(queues)]:  # a whole run of one partition, then of the next
        waiting = [p for p in left if left[p]]
        if not waiting:
            break
        partition = waiting[0]
        taken, left[partition] = left[partition][:cut], left[partition][cut:]
        ready, messages = aligner.add(*batch_of(taken), behind={p for p in left if left[p]})
        assert [messages[row] for row in ready.source_row.tolist()] == ready.ids
        out += list(zip(ready.ids, ready.time_ms.tolist(), strict=True))
    ready, _ = aligner.add(*batch_of([]), behind=set())
    out += list(zip(ready.ids, ready.time_ms.tolist(), strict=True))
    assert sorted(name for name, _ in out) == sorted(f"{p}/{o}" for q in queues.values() for p, o, _ in q)
    assert [time_ms for _, time_ms in out] == sorted(time_ms for _, time_ms in times)
