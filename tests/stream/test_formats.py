"""A worker whose transactions are Avro: it decides as if they were JSON, and waits for a registry that is away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fraudstream.bus.archive import Archive
from fraudstream.bus.files import read_transactions
from fraudstream.bus.formats import new_reader
from fraudstream.bus.memory import MemoryMessage
from fraudstream.bus.store import Store
from fraudstream.decode import Decoder
from fraudstream.stream.archivekinds import Transactions
from tests.schemaregistry import RegistryStub, card_payments, schema_registry
from tests.stream.running import Running, as_messages, contents, header, start
from tests.worlds import TinyWorld

ROWS = 300


@pytest.fixture
def registry() -> Iterator[RegistryStub]:
    with schema_registry() as stub:
        yield stub


@pytest.fixture(scope="module")
def as_json(tiny_world: TinyWorld) -> Running:
    return start(tiny_world, as_messages(tiny_world.rows[:ROWS])).to_the_end()


def as_avro(world: TinyWorld, registry: RegistryStub) -> list[MemoryMessage]:
    rows = world.rows[:ROWS]
    return [
        MemoryMessage(value, row["card_id"].encode(), None, 0, i, row["event_time"])
        for i, (value, row) in enumerate(zip(card_payments(registry, rows), rows, strict=True))
    ]


def begun(world: TinyWorld, registry: RegistryStub, messages: list[MemoryMessage], **more: Any) -> Running:
    overrides = {"event__format": "avro", "schema_registry__url": registry.url} | more
    return start(world, messages, **overrides)


def test_avro_transactions_are_decided_as_the_same_in_json(
    tiny_world: TinyWorld, registry: RegistryStub, as_json: Running
) -> None:
    run = begun(tiny_world, registry, as_avro(tiny_world, registry)).to_the_end()
    for topic in ("decisions", "alerts"):
        assert [contents(m) for m in run.sent(topic)] == [contents(m) for m in as_json.sent(topic)]
    assert run.sent("dlq") == []
    assert registry.asked == ["/schemas/ids/1", "/schemas/ids/2"]


def test_a_message_that_no_schema_reads_becomes_a_dead_letter_as_it_came(
    tiny_world: TinyWorld, registry: RegistryStub
) -> None:
    messages = as_avro(tiny_world, registry)
    cut = MemoryMessage(messages[3].value()[:-4], b"c", [("trace", b"7")], 0, 3, 0)  # type: ignore[index]
    run = begun(tiny_world, registry, [*messages[:3], cut, *messages[4:]]).to_the_end()
    (letter,) = run.sent("dlq")
    assert (letter.value(), letter.key(), header(letter, "trace")) == (cut.value(), b"c", "7")
    assert header(letter, "fraudstream.dlq.reason").startswith("is cut off or not of schema 2: EOFError")
    assert len(run.decisions()) == ROWS - 1
    assert run.metrics.dead_letters.labels("decode", "schema")._value.get() == 1


@pytest.mark.parametrize("status", [401, 503])
def test_while_the_registry_is_away_nothing_is_read_on_and_nothing_is_a_dead_letter(
    tiny_world: TinyWorld, registry: RegistryStub, as_json: Running, status: int
) -> None:
    run = begun(tiny_world, registry, as_avro(tiny_world, registry), worker__batch_rows_max=100)
    registry.broken = status
    for _ in range(5):
        assert run.worker.step() == 100
        assert run.source.lag() == ROWS - 100
        assert run.worker.progress()["waits_for_registry"]
    assert run.sink.sent == {}
    assert run.source.committed == {}
    registry.broken = 0
    run.worker.step()
    assert not run.worker.waits_for_registry
    run.to_the_end()
    assert [contents(m) for m in run.sent("decisions")] == [contents(m) for m in as_json.sent("decisions")]
    assert run.sent("dlq") == []
    assert run.source.committed == {0: ROWS}


def test_what_was_decided_before_the_registry_went_away_is_committed(
    tiny_world: TinyWorld, registry: RegistryStub
) -> None:
    messages = as_avro(tiny_world, registry)
    values = card_payments(registry, [{**row, "more": "x"} for row in tiny_world.rows[100:ROWS]])
    later = [
        MemoryMessage(value, m.key(), None, 0, m.offset(), m.timestamp()[1])
        for value, m in zip(values, messages[100:], strict=True)
    ]
    run = begun(
        tiny_world,
        registry,
        [*messages[:100], *later],
        worker__batch_rows_max=100,
        worker__commit_interval_ms=1,
    )
    run.worker.step()
    registry.broken = 503
    for _ in range(3):
        run.worker.step()
    assert run.worker.waits_for_registry
    assert run.source.committed == {0: 100}
    run.worker.close()
    assert len(run.decisions()) == 100


def test_an_archive_is_read_without_the_registry(
    tiny_world: TinyWorld, registry: RegistryStub, tmp_path: Path
) -> None:
    settings = tiny_world.settings_with(event__format="avro", schema_registry__url=registry.url)
    messages = as_avro(tiny_world, registry)
    cut = MemoryMessage(messages[0].value()[:-4], b"c", None, 0, ROWS, 0)  # type: ignore[index]
    decoder = Decoder(settings.event, set(settings.event.fields))
    tables, bad = Transactions("t", decoder, new_reader(settings)).tables([*messages, cut])
    Archive(Store(str(tmp_path)), "t").append(tables, bad, {0: ROWS + 1})
    (untouched,) = (row for table in bad.values() for row in table.to_pylist())
    assert (untouched["offset"], untouched["value"]) == (ROWS, cut.value())
    assert untouched["reason"].startswith("$: is cut off or not of schema 1: EOFError")
    registry.broken = 503
    read = list(read_transactions(tmp_path, decoder))
    assert [i for batch, _ in read for i in batch.ids] == [
        r["transaction_id"] for r in tiny_world.rows[:ROWS]
    ]
    assert not [bad for _, bads in read for bad in bads]
    kept = next(row for table in tables.values() for row in table.to_pylist() if row["offset"] == 0)
    assert json.loads(kept["value"])["amount"] == tiny_world.rows[0]["amount"]
