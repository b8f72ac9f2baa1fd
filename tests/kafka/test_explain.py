"""`fraudstream explain` on a real Kafka."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fraudstream.bus.kafka_log import KafkaLog
from fraudstream.errors import BusError
from tests.cli.running import Ended, fraudstream
from tests.kafka.broker import Broker
from tests.kafka.conftest import produce_to
from tests.kafka.deployment import Deployment, deployed
from tests.worlds import TinyWorld, ignore

pytestmark = pytest.mark.broker

LOGGED = "feature_log = true\nbatch_rows_max = 64"


@pytest.fixture
def deployment(broker: Broker, tiny_world: TinyWorld, tmp_path: Path) -> Iterator[Deployment]:
    with deployed(broker, tiny_world, tmp_path, partitions=3, worker=LOGGED) as made:
        yield made


def explained(deployment: Deployment, transaction_id: str, *more: str) -> Ended:
    return fraudstream("explain", transaction_id, "-c", deployment.config, *more)


def test_what_was_served_is_derived_again_byte_for_byte(
    deployment: Deployment, tiny_world: TinyWorld
) -> None:
    rows: list[dict[str, Any]] = [*tiny_world.rows[:600], tiny_world.rows[599]]
    worker = deployment.start().wait_ready()
    deployment.send_rows(rows[:600])
    decisions = [json.loads(m.value()) for m in deployment.read("decisions", 600)]
    deployment.send_rows(rows[600:])
    deployment.read("decisions", 601)
    assert worker.stop() == 0
    alerts = {a["transaction_id"]: a for a in (json.loads(m.value()) for m in deployment.read("alerts"))}
    assert len(alerts) > 5

    alert = list(alerts.values())[-1]
    told = explained(deployment, alert["transaction_id"], "--sequence", str(alert["sequence"]), "--json")
    found = told.last_object()
    assert (told.code, found["ok"], found["missing"]) == (0, True, []), found
    assert (found["alert"], found["others"]) == (alert, []), (told.out[:2000], told.err)
    assert {check["what"] for check in found["checks"]} >= {
        "features_hash",
        "score",
        "reasons",
        "groups",
        "rule",
    }

    repeated = explained(deployment, rows[600]["transaction_id"], "--json").last_object()
    assert (repeated["ok"], repeated["repeats"]) == (True, 1)
    quiet = next(d for d in decisions if d["outcome"] == "approve")
    shown = explained(deployment, quiet["transaction_id"])
    assert (shown.code, shown.err) == (0, "")
    assert "the same bytes as served: features_hash, score, risk_points, outcome, rule" in shown.out

    nobody = explained(deployment, "tx-nobody", "--json")
    assert (nobody.code, [m["what"] for m in nobody.last_object()["missing"]]) == (1, ["decision"])
    assert "601 of which were read" in nobody.last_object()["missing"][0]["why"]


def test_a_log_is_read_from_an_instant_on_and_by_position(deployment: Deployment) -> None:
    topic = deployment.topic("transactions")
    sent = produce_to(deployment.bootstrap, topic, [(b"%d" % n, b"%d" % n, None) for n in range(50)])
    read: list[int] = []

    def advance(what: str, more: int, total: int | None) -> None:
        assert (what, total) == (f"reading {topic}", 50)
        read.append(more)

    log = KafkaLog(deployment.settings, advance)
    assert sorted(m.value() for m in log.scan(topic)) == sorted(m.value() for m in sent)
    assert sum(read) == 50
    log.close()
    log = KafkaLog(deployment.settings, ignore)
    assert list(log.scan(topic, max(m.timestamp()[1] for m in sent) + 1)) == []
    assert len(list(log.scan(topic, min(m.timestamp()[1] for m in sent)))) == 50
    for message in sent[:5]:
        found = log.at(topic, message.partition(), message.offset())
        assert found is not None
        assert found.value() == message.value()
    assert log.at(topic, 0, 10_000) is None
    assert log.at(topic, 99, 0) is None
    with pytest.raises(BusError, match="does not exist"):
        list(log.scan(f"{deployment.prefix}.nowhere"))
    log.close()
