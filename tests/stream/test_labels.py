"""Labels into the worker: seen from `known_at` + grace on, learned before a rebuild, bad ones told of."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fraudstream.bus.memory import MemoryMessage, MemoryReader
from tests.stream.running import MovingSource, Running, as_messages, header, start
from tests.worlds import LIVE_MS, TinyWorld

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
COUNT, RATE = "merchant_fraud_count_30d_lag7d", "merchant_fraud_rate_30d_lag7d"


def transaction(number: int, at_ms: int) -> dict[str, Any]:
    """Return a transaction at the one merchant."""
    return {
        "transaction_id": f"tx-{number}",
        "event_time": LIVE_MS + at_ms,
        "card_id": f"card-{number}",
        "merchant_id": "shop",
        "amount": 10.0,
    }


def label(number: int, known_ms: int, said: str = "fraud", offset: int = 0) -> MemoryMessage:
    told = {"transaction_id": f"tx-{number}", "label": said, "known_at": LIVE_MS + known_ms, "source": "bank"}
    return MemoryMessage(json.dumps(told).encode(), b"card", None, 0, offset)


# Two transactions, then one an hour from the eighth day on, and one of them is known to be fraud on the eighth day.
FIRST = [transaction(0, 0), transaction(1, HOUR_MS)]
LATER = [transaction(2 + hour, 8 * DAY_MS + hour * HOUR_MS) for hour in range(6)]
KNOWN_MS = 8 * DAY_MS + 2 * HOUR_MS  # seen from hour 3 on: the grace is an hour


def counts(run: Running) -> list[float]:
    return [row[COUNT] for row in run.log()]


def play(world: TinyWorld, labels: MemoryReader, **overrides: Any) -> Running:
    rows = as_messages([*FIRST, *LATER])
    return start(world, rows, labels=labels, worker__feature_log=True, **overrides).to_the_end()


@pytest.mark.parametrize("batch_rows_max", [1, 3, 100])
def test_a_label_is_seen_from_its_grace_on(tiny_world: TinyWorld, batch_rows_max: int) -> None:
    run = play(tiny_world, MemoryReader([label(0, KNOWN_MS)]), worker__batch_rows_max=batch_rows_max)
    assert counts(run) == [0, 0, 0, 0, 0, 1, 1, 1]
    assert [row[RATE] for row in run.log()][2:] == [0, 0, 0, 0.5, 0.5, 0.5]
    assert labels_read(run) == {"learned": 1, "late": 0, "bad": 0}


def test_a_later_label_takes_an_earlier_one_back(tiny_world: TinyWorld) -> None:
    labels = [label(0, KNOWN_MS), label(0, KNOWN_MS + 2 * HOUR_MS, "legit", offset=1)]
    run = play(tiny_world, MemoryReader(labels))
    assert counts(run) == [0, 0, 0, 0, 0, 1, 1, 0]


def test_a_label_that_comes_too_late_is_seen_from_then_on_and_counted(tiny_world: TinyWorld) -> None:
    labels = MemoryReader()
    rows = as_messages([*FIRST, *LATER])
    run = start(tiny_world, rows, labels=labels, worker__feature_log=True, worker__batch_rows_max=1)
    for _ in range(7):
        run.worker.step()
    labels.messages.append(label(0, KNOWN_MS))
    run.to_the_end()
    assert counts(run) == [0, 0, 0, 0, 0, 0, 0, 1]
    assert labels_read(run) == {"learned": 0, "late": 1, "bad": 0}


def test_a_rebuilt_state_sees_the_labels_that_the_first_one_saw(tiny_world: TinyWorld) -> None:
    labels = MemoryReader([label(0, KNOWN_MS)])
    source = MovingSource(as_messages([*FIRST, *LATER]))
    run = start(tiny_world, source, labels=labels, worker__feature_log=True, worker__batch_rows_max=1)
    for _ in range(6):
        run.worker.step()
    labels.messages.append(label(1, KNOWN_MS + 2 * HOUR_MS, offset=1))
    run.worker.commit()
    source.rebalance(dict(source.committed))
    assert source.committed == {0: 5}
    run.worker.step()
    assert not run.worker.ready  # the labels come first
    run.to_the_end()
    assert counts(run) == [0, 0, 0, 0, 0, 1, 1, 2]
    whole = play(tiny_world, MemoryReader(labels.messages))
    assert run.by_id() == whole.by_id()


BAD = {
    "not JSON": ("$", b"fraud!"),
    "nothing": ("$", None),
    "no id": ("$.transaction_id", b'{"label": "fraud", "known_at": 1704067200000}'),
    "an empty id": (
        "$.transaction_id",
        b'{"transaction_id": "", "label": "fraud", "known_at": 1704067200000}',
    ),
    "no time": ("$.known_at", b'{"transaction_id": "a", "label": "fraud"}'),
    "a time in seconds": ("$.known_at", b'{"transaction_id": "a", "label": "fraud", "known_at": 1704067200}'),
    "another label": ("$.label", b'{"transaction_id": "a", "label": "maybe", "known_at": 1704067200000}'),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_label_becomes_a_dead_letter_and_the_others_are_learned(
    tiny_world: TinyWorld, kind: str
) -> None:
    path, value = BAD[kind]
    labels = MemoryReader()
    source = MovingSource(as_messages([*FIRST, *LATER]), emit_from={0: 0})
    run = start(tiny_world, source, labels=labels, worker__feature_log=True, worker__batch_rows_max=1)
    run.worker.step()
    labels.messages += [MemoryMessage(value, b"card", [("n", b"1")], 0, 0), label(0, KNOWN_MS, offset=1)]
    run.to_the_end()
    assert counts(run) == [0, 0, 0, 0, 0, 1, 1, 1]
    assert labels_read(run) == {"learned": 1, "late": 0, "bad": 1}
    (letter,) = run.sent("dlq")
    assert (letter.value(), letter.key()) == (value, b"card")
    assert header(letter, "fraudstream.dlq.topic") == "fraud.labels"
    assert header(letter, "fraudstream.dlq.stage") == "label"
    assert header(letter, "fraudstream.dlq.path") == path
    assert header(letter, "fraudstream.dlq.reason")


def test_a_bad_label_that_was_there_at_the_start_is_counted_but_not_sent_again(tiny_world: TinyWorld) -> None:
    run = play(tiny_world, MemoryReader([MemoryMessage(b"?"), label(0, KNOWN_MS, offset=1)]))
    assert labels_read(run) == {"learned": 1, "late": 0, "bad": 1}
    assert run.sent("dlq") == []
    assert counts(run)[-1] == 1


def test_a_dead_letter_of_a_label_is_flushed_while_no_transaction_comes(tiny_world: TinyWorld) -> None:
    labels = MemoryReader()
    run = start(tiny_world, MovingSource([], emit_from={0: 0}), labels=labels)
    run.worker.step()
    labels.messages.append(MemoryMessage(b"?"))
    run.to_the_end()
    assert len(run.sent("dlq")) == 1
    assert run.source.committed == {}


def labels_read(run: Running) -> dict[str, float | None]:
    value = run.metrics.registry.get_sample_value
    return {r: value("fraudstream_labels_total", {"result": r}) for r in ("learned", "late", "bad")}
