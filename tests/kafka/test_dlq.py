"""Dead letters on a real Kafka: counted, shown, and sent back once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import Ended, fraudstream
from tests.kafka.broker import Broker
from tests.kafka.conftest import produce_to
from tests.kafka.deployment import Deployment, deployed, headers_of
from tests.worlds import TinyWorld

pytestmark = pytest.mark.broker

BAD_BYTES = b'{"transaction_id": "caf\xe9"}'


@pytest.fixture
def deployment(broker: Broker, tiny_world: TinyWorld, tmp_path: Path) -> Iterator[Deployment]:
    """Two transactions without an amount, one that is no UTF-8, a bad label; all of them dead letters."""
    with deployed(broker, tiny_world, tmp_path) as made:
        worker = made.start().wait_ready()
        rows = [{k: v for k, v in row.items() if k != "amount"} for row in tiny_world.rows[:2]]
        made.send((row["card_id"].encode(), json.dumps(row).encode(), [("trace", b"7")]) for row in rows)
        made.send([(b"card", BAD_BYTES, None)])
        made.read("dlq", 3)
        produce_to(made.bootstrap, made.topic("labels"), [(b"card", b"fraud!", None)])
        made.read("dlq", 4)
        assert worker.stop() == 0
        yield made


def dlq(deployment: Deployment, *words: str) -> Any:
    ended: Ended = fraudstream("dlq", *words, "-c", deployment.config, "--json")
    assert ended.code == 0, ended.err
    return ended.last_object()


def test_dead_letters_are_counted_by_what_is_wrong(deployment: Deployment) -> None:
    told = dlq(deployment, "list")
    assert told["letters"] == 4
    first = told["kinds"][0]
    assert (first["letters"], first["path"], first["stage"]) == (2, "$.amount", "decode")
    assert first["topic"] == deployment.topic("transactions")
    assert dlq(deployment, "list", "--stage", "label")["letters"] == 1
    assert "no open dead letters" not in fraudstream("dlq", "list", "-c", deployment.config).out


def test_a_dead_letter_is_shown_with_the_bytes_it_came_with(deployment: Deployment) -> None:
    at = next(kind["last"] for kind in dlq(deployment, "list")["kinds"] if kind["path"] == "$.amount")
    told = dlq(deployment, "show", at)
    assert (told["headers"], told["path"]) == ([["trace", "7"]], "$.amount")
    assert json.loads(told["value"])["transaction_id"]
    assert fraudstream("dlq", "show", "nowhere", "-c", deployment.config).code == 2
    missing = fraudstream("dlq", "show", "0/999999", "-c", deployment.config)
    assert (missing.code, "there is no dead letter at 0/999999" in missing.err) == (1, True)


def test_what_is_chosen_goes_back_once_and_the_others_stay_open(
    deployment: Deployment, tiny_world: TinyWorld
) -> None:
    before = deployment.read("transactions")
    assert dlq(deployment, "replay", "--path", "$.amount", "--dry-run")["replayed"] == 2
    told = dlq(deployment, "replay", "--path", "$.amount")
    assert (told["replayed"], told["kept"]) == (2, 2)
    back = deployment.read("transactions", len(before) + 2)[len(before) :]
    assert [(m.key(), m.value(), m.headers()) for m in back] == [
        (m.key(), m.value(), m.headers()) for m in before[:2]
    ]
    assert dlq(deployment, "list")["letters"] == 2
    assert dlq(deployment, "list", "--all")["letters"] == 6

    assert dlq(deployment, "replay", "--path", "$.amount")["replayed"] == 0  # once
    told = dlq(deployment, "replay")
    assert told["topics"] == {deployment.topic("transactions"): 1, deployment.topic("labels"): 1}
    assert dlq(deployment, "replay") == {
        "dry_run": False,
        "replayed": 0,
        "kept": 0,
        "topics": {},
        "foreign": 0,
    }

    worker = deployment.start().wait_ready()  # they are still bad: they become dead letters again
    deployment.read("dlq", 4 + 2 + 2 + 3)
    assert worker.stop() == 0
    again = [headers_of(m) for m in deployment.read("dlq")[-3:]]
    sent = deployment.read("transactions")[-3:]
    assert {h["fraudstream.dlq.offset"] for h in again} == {str(m.offset()) for m in sent}
    assert all(sum(name == "fraudstream.dlq.reason" for name in h) == 1 for h in again)
