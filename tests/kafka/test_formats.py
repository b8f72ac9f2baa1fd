"""Transactions in Avro, and in compressed batches, on a real Kafka."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.cli.running import fraudstream
from tests.kafka.broker import Broker
from tests.kafka.deployment import Deployment, deployed, eventually, headers_of
from tests.schemaregistry import RegistryStub, card_payments, schema_registry
from tests.stream.running import as_messages, contents, start
from tests.worlds import TinyWorld

pytestmark = pytest.mark.broker

ROWS = 200
CODECS = ("gzip", "snappy", "lz4", "zstd")


@pytest.fixture
def deployment(broker: Broker, tiny_world: TinyWorld, tmp_path: Path) -> Iterator[Deployment]:
    """A deployment with one partition, so that its order is the order of the rows."""
    with deployed(broker, tiny_world, tmp_path, worker="feature_log = true") as made:
        yield made


@pytest.fixture
def registry() -> Iterator[RegistryStub]:
    with schema_registry() as stub:
        yield stub


def test_avro_transactions_are_served_and_audited_as_json_is_once_their_registry_answers(
    deployment: Deployment, registry: RegistryStub, tiny_world: TinyWorld
) -> None:
    registry.credentials = "worker:hunter2"
    variables = {
        "FRAUDSTREAM_EVENT__FORMAT": "avro",
        "FRAUDSTREAM_SCHEMA_REGISTRY__URL": registry.url,
        "FRAUDSTREAM_SCHEMA_REGISTRY__BASIC_AUTH_USER_INFO": "worker:hunter2",
    }
    rows = tiny_world.rows[:ROWS]
    values = card_payments(registry, rows)
    worker = deployment.start(**variables).wait_ready()
    registry.broken = 503
    deployment.send((row["card_id"].encode(), value, None) for row, value in zip(rows, values, strict=True))
    deployment.send([(b"card", b'{"transaction_id": "json"}', None)])
    eventually(lambda: len(registry.asked) > 3, 30, "the worker asks again", worker)
    status, said = worker.get("/readyz")
    assert (status, json.loads(said)["waits_for_registry"]) == (503, True)
    assert deployment.read("dlq") == []
    registry.broken = 0

    decisions = deployment.read("decisions", ROWS)
    expected = start(tiny_world, as_messages(rows)).to_the_end().sent("decisions")
    assert [contents(m) for m in decisions] == [contents(m) for m in expected]
    (letter,) = deployment.read("dlq", 1)
    assert letter.value() == b'{"transaction_id": "json"}'
    assert headers_of(letter)["fraudstream.dlq.reason"].endswith("is 0x7b, not 0x00; it looks like JSON")
    worker.wait_ready()
    assert worker.stop() == 0
    (away,) = worker.events("schema_registry_away")[:1]
    assert away["error"].endswith("answers 503 out of order")
    assert "hunter2" not in worker.log_text()

    audited = fraudstream("audit", "-c", deployment.config, "--json", **variables)
    assert (audited.code, audited.last_object()["matched"]) == (0, ROWS), audited.err
    told = fraudstream(
        "explain", rows[7]["transaction_id"], "-c", deployment.config, "--json", **variables
    ).last_object()
    assert (told["ok"], told["missing"]) == (True, [])
    registry.broken = 503
    ended = fraudstream("audit", "-c", deployment.config, **variables)
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert "cannot be asked for schema 1: answers 503 out of order" in ended.err


def test_compressed_topics_are_read(deployment: Deployment, tiny_world: TinyWorld) -> None:
    worker = deployment.start()
    rows = tiny_world.rows[:ROWS]
    for number, codec in enumerate(CODECS):
        producer = Producer(
            {"bootstrap.servers": deployment.bootstrap, "compression.type": codec, "linger.ms": 1000}
        )
        for row in rows[number * 50 : number * 50 + 50]:
            producer.produce(deployment.topic("transactions"), json.dumps(row), row["card_id"])
        assert producer.flush(30) == 0
    decisions = deployment.read("decisions", ROWS)
    expected = start(tiny_world, as_messages(rows)).to_the_end().sent("decisions")
    assert [contents(m) for m in decisions] == [contents(m) for m in expected]
    assert worker.stop() == 0
