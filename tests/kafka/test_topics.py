"""`fraudstream topics create` and `simulate --kafka`: topics as the worker needs them, keys where they meet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import ConfigResource, ResourceType

from fraudstream.records import Label
from tests.cli.running import fraudstream
from tests.kafka.broker import Broker
from tests.kafka.deployment import TOPICS, Deployment, deployed, free_port, quiet_admin
from tests.worlds import TinyWorld

pytestmark = pytest.mark.broker


@pytest.fixture
def deployment(broker: Broker, tiny_world: TinyWorld, tmp_path: Path) -> Iterator[Deployment]:
    with deployed(broker, tiny_world, tmp_path, partitions=3) as made:
        yield made


def test_topics_are_created_once_and_then_left_as_they_are(
    broker: Broker, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    with Deployment(tiny_world, broker.bootstrap, tmp_path, partitions=3) as deployment:
        names = [deployment.topic(name) for name in TOPICS]
        first = fraudstream("topics", "create", "-c", deployment.config, "--json")
        assert (first.code, first.err) == (0, "")
        assert first.last_object() == dict.fromkeys(names, "created")
        try:
            fewer = fraudstream(
                "topics", "create", "-c", deployment.config, "--json", FRAUDSTREAM_TOPICS__PARTITIONS="1"
            )
            assert fewer.code == 0
            assert fewer.last_object() == dict.fromkeys(names, "exists")
            found = quiet_admin(broker.bootstrap).list_topics(timeout=30).topics
            assert {name: len(found[name].partitions) for name in names} == dict.fromkeys(names, 3)
        finally:
            deployment.remove_topics()


def test_the_dead_letters_take_every_message_that_the_transactions_took(deployment: Deployment) -> None:
    admin = quiet_admin(deployment.bootstrap)
    limits = {}
    for name in ("transactions", "dlq"):
        resource = ConfigResource(ResourceType.TOPIC, deployment.topic(name))
        settings = admin.describe_configs([resource])[resource].result(30)
        limits[name] = int(settings["max.message.bytes"].value)
    assert limits["dlq"] > limits["transactions"] + 1_000_000


def test_a_broker_that_is_not_there_is_said_in_one_line(tiny_world: TinyWorld) -> None:
    brokers = f"127.0.0.1:{free_port()}"
    ended = fraudstream("topics", "create", "-c", tiny_world.config, "--brokers", brokers)
    assert ended.code == 1
    assert ended.out == ""
    assert "Traceback" not in ended.err
    said = ended.err.splitlines()[-1]
    assert said.startswith(f"fraudstream: {brokers}: ")
    assert "Connection refused" in said


def test_what_the_broker_refuses_is_said_in_one_line(
    broker: Broker, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    with Deployment(tiny_world, broker.bootstrap, tmp_path) as deployment:
        copies = {"FRAUDSTREAM_TOPICS__REPLICATION": "100"}
        ended = fraudstream("topics", "create", "-c", deployment.config, **copies)
        assert ended.code == 1
        assert deployment.prefix in ended.one_line()
        assert "eplication" in ended.one_line()


def test_a_simulated_world_is_sent_whole_and_labels_meet_their_transactions(deployment: Deployment) -> None:
    ended = fraudstream(
        *("simulate", "--kafka", "-c", deployment.config, "--customers", "30", "--merchants", "40"),
        *("--days", "6", "--fraud-rate", "0.05", "--json"),
    )
    assert (ended.code, ended.err) == (0, "")
    made = ended.last_object()
    transactions, labels = deployment.read("transactions"), deployment.read("labels")
    assert made["sent"] == made["transactions"] == len(transactions)
    assert made["labels"] == len(labels) > 0

    partition_of = {}
    for message in transactions:
        transaction = json.loads(message.value())
        assert message.key().decode() == transaction["card_id"]
        partition_of[transaction["transaction_id"]] = (message.key(), message.partition())
    assert {partition for _, partition in partition_of.values()} == {0, 1, 2}
    for message in labels:
        label = Label(**json.loads(message.value()))
        assert label.label in ("fraud", "legit")
        assert partition_of[label.transaction_id] == (message.key(), message.partition())
