"""`fraudstream archive` on a real Kafka: killed again and again, it has each message once; replays read them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from confluent_kafka import TopicPartition

from fraudstream.bus.files import data_files, read_transactions
from fraudstream.decode import Decoder
from fraudstream.ledger import read_labels
from tests.cli.running import Ended, fraudstream, started
from tests.kafka.broker import Broker
from tests.kafka.conftest import produce_to
from tests.kafka.deployment import Deployment, deployed, eventually, headers_of, quiet_admin
from tests.worlds import TinyWorld

pytestmark = pytest.mark.broker

BAD = (b'{"transaction_id": "caf\xe9"}', b"", b"[]", b'{"amount": NaN}', None)


@pytest.fixture
def deployment(broker: Broker, tiny_world: TinyWorld, tmp_path: Path) -> Iterator[Deployment]:
    with deployed(broker, tiny_world, tmp_path, partitions=3) as made:
        yield made


def archive(deployment: Deployment, *words: str, **variables: str) -> Ended:
    to = str(deployment.folder / "archive")
    return fraudstream("archive", "-c", deployment.config, "--to", to, *words, **variables)


def archived(deployment: Deployment, kind: str) -> list[dict[str, Any]]:
    """Return all rows of a kind, those that could not be read too."""
    folder = deployment.folder / "archive" / kind
    manifest = json.loads((folder / "_manifest.json").read_text("utf-8"))
    return [row for file in manifest["files"] for row in pq.read_table(folder / file["name"]).to_pylist()]


def test_killed_at_any_point_it_has_every_message_once(deployment: Deployment, tiny_world: TinyWorld) -> None:
    chance = random.Random(5)
    rows = iter(tiny_world.rows * 2)
    variables = {"FRAUDSTREAM_ARCHIVE__INTERVAL": "20ms"}
    words = ("archive", "-c", deployment.config, "--to", deployment.folder / "archive")
    manifest = deployment.folder / "archive" / "transactions" / "_manifest.json"

    def stamp() -> bytes:
        return manifest.read_bytes() if manifest.exists() else b""

    def changed(before: bytes) -> bool:
        return stamp() != before

    for _ in range(3):
        before = stamp()
        running = started(*words, **variables)
        deployment.send_rows([next(rows) for _ in range(150)])
        deployment.send((b"card", value, None) for value in BAD)
        eventually(partial(changed, before), 60, "something is archived")
        for _ in range(chance.randrange(4)):
            deployment.send_rows([next(rows) for _ in range(40)])
        running.kill()
        running.communicate()
    ended = archive(deployment, "--once", "--compact", "--json")
    assert ended.code == 0, ended.err
    sent = [(m.partition(), m.offset(), m.key(), m.value()) for m in deployment.read("transactions")]
    found = archived(deployment, "transactions")
    assert sorted((row["partition"], row["offset"]) for row in found) == sorted(m[:2] for m in sent)
    assert {(r["partition"], r["offset"], r["key"], r["value"]) for r in found} == set(sent)
    dates = [file.parent.name for file in data_files(deployment.folder / "archive" / "transactions")]
    assert len(dates) == len(set(dates))


def test_what_a_worker_served_is_archived_and_read_back(
    deployment: Deployment, tiny_world: TinyWorld
) -> None:
    worker = deployment.start(FRAUDSTREAM_WORKER__FEATURE_LOG="true").wait_ready()
    deployment.send_rows(tiny_world.rows[:60])
    deployment.send([(None, json.dumps(tiny_world.rows[60]).encode(), [("trace", b"7")])])
    deployment.send((b"card", value, None) for value in BAD)
    ids = [row["transaction_id"] for row in tiny_world.rows[:2]]
    known = [{"transaction_id": i, "label": "fraud", "known_at": 1_710_000_000_000} for i in ids]
    deployment.send_labels(known)
    produce_to(deployment.bootstrap, deployment.topic("labels"), [(b"card", b"fraud!", None)])
    deployment.read("decisions", 60)
    assert worker.stop() == 0
    dead = {
        (headers_of(m)["fraudstream.dlq.reason"], m.value()) for m in deployment.read("dlq", len(BAD) + 2)
    }

    ended = archive(deployment, "--once", "--json", FRAUDSTREAM_WORKER__FEATURE_LOG="true")
    assert ended.code == 0, ended.err
    told = {entry["folder"]: entry for entry in ended.last_object()["topics"].values()}
    assert {name: (entry["rows"], entry["bad"]) for name, entry in told.items() if name != "features"} == {
        "transactions": (61 + len(BAD), 0),
        "decisions": (60, 0),
        "labels": (3, 1),
    }
    folder = deployment.folder / "archive"
    decoder = Decoder(deployment.settings.event, set())
    batches = list(read_transactions(folder / "transactions", decoder))
    assert [i for batch, _ in batches for i in batch.ids] == [
        r["transaction_id"] for r in tiny_world.rows[:60]
    ]
    values = {(row["partition"], row["offset"]): row["value"] for row in archived(deployment, "transactions")}
    rejected = {
        (bad.error.reason, values[int(bad.file.rpartition(" ")[2]), bad.row])
        for _, bads in batches
        for bad in bads
    }
    assert rejected == {letter for letter in dead if letter[1] != b"fraud!"}
    labels = read_labels(folder / "labels", {})
    assert dict(zip(labels.ids.to_pylist(), labels.fraud.tolist(), strict=True)) == dict.fromkeys(ids, True)
    decided = {row["transaction_id"]: row for row in archived(deployment, "decisions")}
    for message in deployment.read("decisions"):
        said = json.loads(message.value())
        row = decided[said["transaction_id"]]
        assert {name: row[name] for name in said} == said
        assert f"{row['source_partition']}/{row['source_offset']}" in headers_of(message)["ce_id"]
    features = {row["transaction_id"]: row for row in archived(deployment, "features")}
    assert set(features) == set(decided)
    assert all(features[i]["sequence"] == row["sequence"] for i, row in decided.items())
    explained = fraudstream(
        "explain", ids[0], "-c", deployment.config, "--json",
        "--decisions", folder / "decisions", "--features", folder / "features",
        "--transactions", folder / "transactions",
    )  # fmt: skip
    assert explained.code == 0, explained.out


def test_messages_that_were_deleted_before_are_said_and_skipped_on_demand(
    deployment: Deployment, tiny_world: TinyWorld
) -> None:
    deployment.send_rows(tiny_world.rows[:30])
    assert archive(deployment, "--once").code == 0
    deployment.send_rows(tiny_world.rows[30:90])
    topic = deployment.topic("transactions")
    ends = {m.partition(): m.offset() for m in deployment.read("transactions")}
    admin = quiet_admin(deployment.bootstrap)
    cut = [TopicPartition(topic, partition, offset) for partition, offset in ends.items()]
    for future in admin.delete_records(cut).values():
        future.result(30)
    refused = archive(deployment, "--once")
    assert refused.code == 1
    assert "messages were deleted before they were archived" in refused.err
    assert "--skip-gap" in refused.err
    assert archive(deployment, "--once", "--skip-gap").code == 0
    assert len(archived(deployment, "transactions")) == 30 + 3
    assert archive(deployment, "--once", "--json").last_object()["topics"][topic]["rows"] == 0


def test_a_service_writes_what_it_has_when_it_is_asked_to_stop(
    deployment: Deployment, tiny_world: TinyWorld
) -> None:
    running = started("archive", "-c", deployment.config, "--to", deployment.folder / "archive", "--json")
    deployment.send_rows(tiny_world.rows[:20])
    folder = deployment.folder / "archive"
    eventually(lambda: (folder / "_lock").exists(), 60, "it has begun")
    second = archive(deployment, "--once")
    assert (second.code, "another process is writing it" in second.err) == (1, True)
    running.terminate()
    out, _ = running.communicate(timeout=20)
    assert running.returncode == 0
    assert json.loads(out)["waiting"] + len(archived(deployment, "transactions")) == 20
