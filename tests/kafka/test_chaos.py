"""Nothing lost, nothing doubled, nothing altered, whatever is done to workers and broker; the short run."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from confluent_kafka import Message

from tests.kafka.broker import KafkaBroker
from tests.kafka.chaos import cards_world, play
from tests.kafka.deployment import deployed, headers_of
from tests.kafka.verifier import differences, is_right, oracle, position_of
from tests.worlds import TinyWorld

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return cards_world(tmp_path_factory.mktemp("cards"))


@pytest.mark.parametrize(
    ("delivery", "faults"),
    [
        ("exactly_once", ["freeze", "kill", "broker_kill", "fence", "leave"]),
        ("at_least_once", ["kill", "broker_restart", "freeze"]),
    ],
)
def test_nothing_is_lost_doubled_or_altered_by_what_befalls_workers_and_broker(
    own_broker: KafkaBroker, world: TinyWorld, tmp_path: Path, delivery: str, faults: list[str]
) -> None:
    told = play(world, tmp_path, faults, random.Random(7), delivery, own_broker=own_broker)
    assert told["faults"] == len(faults)
    assert told["restarts"] > 0
    assert is_right(told), told


def test_the_count_finds_what_is_dropped_doubled_altered_or_invented(
    own_broker: KafkaBroker, world: TinyWorld, tmp_path: Path
) -> None:
    with deployed(own_broker, world, tmp_path, partitions=3) as deployment:
        deployment.start()
        deployment.send_rows(world.rows[:300])
        decisions = deployment.read("decisions", 300)
        expected = oracle(world, deployment.read("transactions")).decisions
    assert differences(expected, decisions, True) == {}
    assert differences(expected, decisions[1:], True) == {"lost": 1}
    assert differences(expected, [*decisions, decisions[9]], True) == {"doubled": 1}
    assert differences(expected, [*decisions, decisions[9]], False) == {}
    altered: Message = _Altered(decisions[5])
    assert differences(expected, [*decisions[:5], altered, *decisions[6:]], True) == {"altered": 1}
    at = position_of(headers_of(decisions[3])["ce_id"])
    fewer = {position: said for position, said in expected.items() if position != at}
    assert differences(fewer, decisions, True) == {"invented": 1}


class _Altered:
    """A message one digit of which is another."""

    def __init__(self, message: Message) -> None:
        self._message = message

    def value(self) -> bytes:
        octets = self._message.value()
        at = octets.index(b'"score":0.') + len(b'"score":0.')
        changed: bytes = octets[:at] + (b"1" if octets[at : at + 1] != b"1" else b"2") + octets[at + 1 :]
        return changed

    def headers(self) -> list[tuple[str, bytes]]:
        found: list[tuple[str, bytes]] = self._message.headers()
        return found
