"""The audit of what a worker on the memory bus did: clean where nothing was touched, and every touch is found."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pytest

from fraudstream.bus.base import Headers
from fraudstream.bus.memory import MemoryMessage, MemoryReader, MemorySource
from fraudstream.features import FeatureEngine, build_catalog
from fraudstream.stream.audit import Audit, audit
from fraudstream.stream.runs import new_run, partitions_of
from tests.stream.running import MovingSource, Running, as_messages, ce_id, label_messages, spread, start
from tests.worlds import TinyWorld

RUNS = ("1704067200000-00000001/0-2", "1704067200000-00000002/0-2")


@dataclass
class Topics:
    """What stands in the topics, to be changed before it is audited."""

    run: Running
    transactions: list[MemoryMessage]
    decisions: list[MemoryMessage] = field(init=False)
    features: list[MemoryMessage] = field(init=False)

    def __post_init__(self) -> None:
        self.decisions, self.features = list(self.run.sent("decisions")), list(self.run.sent("features"))

    def audited(self) -> Audit:
        settings = self.run.settings
        catalog = build_catalog(settings.features, settings.event)
        standing: dict[str, Sequence[MemoryMessage]] = {
            settings.topics.transactions: self.transactions,
            settings.topics.decisions: self.decisions,
            settings.topics.features: self.features,
            settings.topics.labels: self.run.labels.messages,
            settings.topics.dlq: self.run.sent("dlq"),
        }
        grace_ms = settings.labels.grace_ms
        return audit(
            settings,
            lambda: FeatureEngine(catalog, settings.state, grace_ms),
            lambda topic: standing[topic],
            lambda more: None,
        )


def changed(message: MemoryMessage, change: Callable[[Any], Any]) -> MemoryMessage:
    value = json.dumps(change(json.loads(message.value() or b""))).encode()
    return MemoryMessage(value, message.key(), message.headers(), message.partition(), message.offset())


@pytest.fixture
def served(tiny_world: TinyWorld) -> Topics:
    """Three partitions, two runs, labels, repeats of both kinds, a bad message, and the feature log."""
    rows = list(tiny_world.rows[:900])
    rows[500:500] = [rows[498]]
    rows[300:300] = [rows[299]]
    messages = spread(as_messages(rows), 3)
    messages[700] = MemoryMessage(b"?", b"card", None, 700 % 3, 700 // 3, messages[700].timestamp()[1])
    labels = MemoryReader(label_messages(tiny_world))
    overrides: dict[str, Any] = {"worker__feature_log": True, "worker__batch_rows_max": 60}
    first = start(tiny_world, messages[:600], labels=labels, run=RUNS[0], **overrides).to_the_end()
    source = MemorySource(messages, emit_from=dict.fromkeys(range(3), 165))  # some are decided twice
    second = start(tiny_world, source, first.sink, labels, run=RUNS[1], **overrides).to_the_end()
    return Topics(second, messages)


def test_what_was_served_is_what_a_replay_gives(served: Topics) -> None:
    found = served.audited()
    assert (found.mismatched, found.missing, found.waiting, found.before) == (0, 0, 0, 0), found.examples
    assert found.runs == 2
    assert found.matched + found.repeated == len(served.decisions) > 1000
    assert found.repeated == 3
    assert len(found.features) > 60
    assert set(map(tuple, found.features.values())) == {(found.matched, 0, 0)}
    assert found.clean


def test_without_a_feature_log_the_hashes_alone_are_compared(served: Topics) -> None:
    served.features = []
    found = served.audited()
    assert (found.clean, found.features) == (True, {})
    assert found.matched > 1000


def test_another_hash_is_found(served: Topics) -> None:
    served.decisions[50] = changed(served.decisions[50], lambda d: {**d, "features_hash": "0" * 16})
    found = served.audited()
    assert (found.clean, found.mismatched, found.missing) == (False, 1, 0)
    assert found.examples[0]["what"] == "other features"


def test_another_transaction_than_was_scored_is_found(served: Topics) -> None:
    served.transactions[33] = changed(served.transactions[33], lambda t: {**t, "amount": t["amount"] + 1})
    found = served.audited()
    assert not found.clean
    assert found.mismatched > 1  # the transaction, and later ones of its card and its merchant


def test_a_decision_that_is_gone_is_found(served: Topics) -> None:
    del served.decisions[400]
    found = served.audited()
    assert not found.clean
    assert found.examples[0]["what"] == "no decision"
    assert {example["what"] for example in found.examples[1:]} == {"not decided again after a crash"}


def test_decisions_of_a_crash_that_were_lost_make_the_later_ones_of_their_run_superseded(
    served: Topics,
) -> None:
    lost = [i for i, m in enumerate(served.decisions[:600]) if ce_id(m).startswith("fraud.transactions/1/")]
    for i in reversed([i for i in lost if i >= 550]):
        del served.decisions[i]
    found = served.audited()
    assert found.clean, found.examples
    assert 30 <= found.superseded <= 50
    assert found.matched + found.repeated + found.superseded == len(served.decisions)


def test_where_the_oldest_decisions_are_gone_the_others_are_compared(served: Topics) -> None:
    del served.decisions[:150]
    found = served.audited()
    assert (found.clean, found.before) == (True, 150), found.examples


def test_a_transaction_that_is_gone_is_found(served: Topics) -> None:
    del served.transactions[40]
    found = served.audited()
    assert not found.clean
    assert found.missing == 1


def test_a_value_in_the_feature_log_that_was_changed_is_found_by_name(served: Topics) -> None:
    table = pa.ipc.open_stream(served.features[2].value()).read_all()
    name = "card_count_24h"
    values = table[name].to_pylist()
    values[0] += 1
    forged = table.set_column(table.column_names.index(name), name, pa.array(values))
    served.features[2] = written(forged, served.features[2].headers())
    found = served.audited()
    assert (found.clean, found.mismatched) == (False, 0)
    assert {n: counts[1] for n, counts in found.features.items() if counts[1]} == {name: 1}
    assert {counts[2] for counts in found.features.values()} == {0}


def test_a_message_of_the_feature_log_that_is_gone_is_found(served: Topics) -> None:
    rows = pa.ipc.open_stream(served.features.pop(2).value()).read_all().num_rows
    found = served.audited()
    assert (found.clean, found.mismatched) == (False, 0)
    assert {counts[2] for counts in found.features.values()} == {rows}


def test_what_waits_and_what_was_before_is_counted_and_is_no_error(tiny_world: TinyWorld) -> None:
    messages = as_messages(tiny_world.rows[:500])
    source = MovingSource(messages[:400], emit_from={0: 100})
    run = start(tiny_world, source, worker__batch_rows_max=50).to_the_end()
    found = Topics(run, messages).audited()
    assert (found.clean, found.before, found.matched, found.waiting) == (True, 100, 300, 100)


def test_where_nothing_was_served_there_is_nothing_to_find(tiny_world: TinyWorld) -> None:
    run = start(tiny_world, [])
    found = Topics(run, as_messages(tiny_world.rows[:10])).audited()
    assert (found.clean, found.matched, found.waiting) == (True, 0, 10)


@pytest.mark.parametrize("partitions", [[], [0], [3], [0, 1, 2], [0, 2], [0, 1, 5, 6, 9]])
def test_a_run_names_its_partitions(partitions: list[int]) -> None:
    run = new_run(partitions)
    assert partitions_of(run) == (set(partitions) if partitions else None)
    assert new_run(partitions) != run


def written(table: pa.Table, headers: Headers | None) -> MemoryMessage:
    octets = pa.BufferOutputStream()
    with pa.ipc.new_stream(octets, table.schema) as writer:
        writer.write_table(table)
    return MemoryMessage(octets.getvalue().to_pybytes(), b"run", headers)
