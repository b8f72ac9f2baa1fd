"""Labels, repeats, the feature log and the audit on a real Kafka."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fraudstream.bus.kafka import KafkaReader
from fraudstream.bus.kafka_log import KafkaLog
from fraudstream.errors import BusError
from tests.cli.running import Ended, fraudstream
from tests.kafka.broker import Broker
from tests.kafka.conftest import MakeTopic, produce_to
from tests.kafka.deployment import Deployment, WorkerProcess, deployed, eventually, headers_of
from tests.stream.test_labels import COUNT, DAY_MS, FIRST, HOUR_MS, KNOWN_MS, LATER, transaction
from tests.worlds import LIVE_MS, TinyWorld, ignore

pytestmark = pytest.mark.broker

LOGGED = "feature_log = true\nbatch_rows_max = 64"


@pytest.fixture
def deployment(broker: Broker, tiny_world: TinyWorld, tmp_path: Path) -> Iterator[Deployment]:
    with deployed(broker, tiny_world, tmp_path, worker=LOGGED) as made:
        yield made


def label(number: int, known_ms: int, said: str = "fraud") -> dict[str, Any]:
    return {"transaction_id": f"tx-{number}", "label": said, "known_at": LIVE_MS + known_ms, "source": "bank"}


def logged(deployment: Deployment) -> dict[str, float]:
    """Return the fraud count that each transaction was scored with."""
    tables = [pa.ipc.open_stream(m.value()).read_all() for m in deployment.read("features")]
    rows = [row for table in tables for row in table.to_pylist()]
    return {row["transaction_id"]: row[COUNT] for row in rows}


def audited(deployment: Deployment, **variables: str) -> Ended:
    return fraudstream("audit", "-c", deployment.config, "--json", **variables)


def learned(worker: WorkerProcess, number: int) -> bool:
    return worker.metrics().get('fraudstream_labels_total{result="learned"}') == number


def test_labels_change_a_fraud_rate_from_their_grace_on_also_after_a_restart(deployment: Deployment) -> None:
    worker = deployment.start().wait_ready()
    deployment.send_rows(FIRST)
    deployment.read("decisions", 2)
    deployment.send_labels([label(0, KNOWN_MS)])
    eventually(lambda: learned(worker, 1), 30, "the label is learned", worker)
    deployment.send_rows(LATER)
    deployment.read("decisions", 8)
    assert worker.stop() == 0
    assert list(logged(deployment).values()) == [0, 0, 0, 0, 0, 1, 1, 1]

    deployment.send_labels([label(1, KNOWN_MS + HOUR_MS), label(0, 9 * DAY_MS, "legit")])
    again = deployment.start().wait_ready()
    assert learned(again, 3)
    deployment.send_rows([transaction(8, 8 * DAY_MS + 6 * HOUR_MS), transaction(9, 9 * DAY_MS + HOUR_MS)])
    deployment.read("decisions", 10)
    assert again.stop() == 0
    assert [logged(deployment)[f"tx-{number}"] for number in (8, 9)] == [2, 1]

    ended = audited(deployment)
    # The label of tx-1 came after its grace had passed: a replay sees it two transactions earlier than the worker.
    assert (ended.code, ended.last_object()["matched"], ended.last_object()["mismatched"]) == (1, 8, 2)


def test_a_bad_label_goes_to_the_dead_letters(deployment: Deployment) -> None:
    worker = deployment.start().wait_ready()
    produce_to(deployment.bootstrap, deployment.topic("labels"), [(b"card", b"fraud!", None)])
    (letter,) = deployment.read("dlq", 1)
    assert letter.value() == b"fraud!"
    assert headers_of(letter)["fraudstream.dlq.stage"] == "label"
    assert headers_of(letter)["fraudstream.dlq.topic"] == deployment.topic("labels")
    assert worker.stop() == 0
    (said,) = worker.events("labels_rejected")
    assert (said["number"], said["partition"], said["offset"]) == (1, 0, 0)
    assert "fraud!" not in worker.log_text()


def test_a_transaction_that_comes_again_gets_its_first_decision(
    deployment: Deployment, tiny_world: TinyWorld
) -> None:
    rows = tiny_world.rows[:200]
    worker = deployment.start().wait_ready()
    deployment.send_rows(rows)
    deployment.read("decisions", 200)
    deployment.send_rows([rows[199]])
    deployment.send_rows([rows[198]])
    decisions = [json.loads(m.value()) for m in deployment.read("decisions", 202)]
    for row, again in ((rows[199], decisions[200]), (rows[198], decisions[201])):
        first = next(d for d in decisions if d["transaction_id"] == row["transaction_id"])
        assert again["transaction_id"] == row["transaction_id"]
        assert again["flags"] == [*first["flags"], "repeated"]
        for name in ("outcome", "score", "risk_points", "model", "event_time_ms"):
            assert again[name] == first[name]
    assert worker.metrics()['fraudstream_flagged_total{flag="repeated"}'] == 2
    assert worker.stop() == 0
    alerts = [json.loads(m.value())["transaction_id"] for m in deployment.read("alerts")]
    assert len(set(alerts)) == len(alerts)


def test_an_audit_of_crashes_and_restarts_on_several_partitions_finds_nothing(
    broker: Broker, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    rows = tiny_world.rows[:1500]
    slowly = f"{LOGGED}\ncommit_interval_ms = 400"
    with deployed(broker, tiny_world, tmp_path, partitions=3, worker=slowly) as deployment:
        deployment.send_rows(rows[:1000])
        first = deployment.start()
        eventually(lambda: len(deployment.read("decisions")) >= 300, 90, "some decisions", first)
        first.kill()
        second = deployment.start().wait_ready()
        deployment.send_rows(rows[1000:])
        eventually(lambda: sum(deployment.committed().values()) == len(rows), 60, "all is committed", second)
        assert second.stop() == 0

        ended = audited(deployment)
        found = ended.last_object()
        assert (ended.code, found["ok"], found["mismatched"], found["missing"]) == (0, True, 0, 0), found
        assert found["matched"] + found["superseded"] == len(deployment.read("decisions"))
        assert found["matched"] >= len(rows)
        assert found["runs"] >= 2
        assert len(found["features"]) > 60
        assert {(f["mismatched"], f["missing"]) for f in found["features"]} == {(0, 0)}

        shown = fraudstream("audit", "-c", deployment.config)
        assert shown.code == 0
        assert "card_count_24h" in shown.out


def test_a_decision_and_a_feature_log_that_were_changed_are_found(
    deployment: Deployment, tiny_world: TinyWorld, make_topic: MakeTopic
) -> None:
    worker = deployment.start().wait_ready()
    deployment.send_rows(tiny_world.rows[:200])
    decisions = deployment.read("decisions", 200)
    assert worker.stop() == 0
    assert audited(deployment).code == 0

    forged = []
    for number, message in enumerate(decisions):
        said = json.loads(message.value())
        if number == 77:
            said["features_hash"] = "0123456789abcdef"
        forged.append((message.key(), json.dumps(said).encode(), message.headers()))
    other = make_topic("decisions")
    produce_to(deployment.bootstrap, other, forged)
    ended = audited(deployment, FRAUDSTREAM_TOPICS__DECISIONS=other)
    assert (ended.code, ended.last_object()["mismatched"]) == (1, 1)

    forged = []
    for number, message in enumerate(deployment.read("features")):
        table = pa.ipc.open_stream(message.value()).read_all()
        if number == 0:
            column = table.column_names.index("amount")
            values = table["amount"].to_pylist()
            values[0] += 0.01
            table = table.set_column(column, "amount", pa.array(values))
        octets = pa.BufferOutputStream()
        with pa.ipc.new_stream(octets, table.schema) as writer:
            writer.write_table(table)
        forged.append((message.key(), octets.getvalue().to_pybytes(), message.headers()))
    other = make_topic("features")
    produce_to(deployment.bootstrap, other, forged)
    ended = audited(deployment, FRAUDSTREAM_TOPICS__FEATURES=other)
    wrong = {f["name"]: f["mismatched"] for f in ended.last_object()["features"] if f["mismatched"]}
    assert (ended.code, wrong) == (1, {"amount": 1})


def test_a_topic_is_read_from_its_beginning_as_often_as_it_is_rewound(deployment: Deployment) -> None:
    deployment.send_labels([label(number, 0) for number in range(300)])
    reader = KafkaReader(deployment.settings, deployment.topic("labels"))
    for _ in range(2):
        reader.rewind()
        messages: list[Any] = []
        while not reader.caught_up():
            messages += reader.poll(40, 5.0)
        assert len(messages) == 300
    deployment.send_labels([label(300, 0)])
    late: list[Any] = []

    def more() -> bool:
        late.extend(reader.poll(40, 0.0))
        return bool(late)

    eventually(more, 10, "the next one comes")
    assert len(late) == 1
    assert deployment.committed() == {}
    reader.close()


def test_an_empty_topic_is_at_its_end_and_a_missing_one_is_named(
    deployment: Deployment, make_topic: MakeTopic
) -> None:
    log = KafkaLog(deployment.settings, ignore)
    assert list(log.scan(make_topic("empty", 3))) == []
    with pytest.raises(BusError, match="nowhere does not exist; run `fraudstream topics create`"):
        list(log.scan(f"{deployment.prefix}.nowhere"))
    log.close()
