"""Models change in a worker under load: nothing is lost, and each decision is that of the version it names."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from itertools import count, groupby
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from fraudstream.records import Challenger, Decision
from fraudstream.registry import Registry
from tests.cli.running import fraudstream
from tests.kafka.broker import Broker
from tests.kafka.deployment import Deployment, deployed, eventually, headers_of
from tests.stream.running import as_messages, start
from tests.stream.versions import add_smaller, copied
from tests.worlds import TinyWorld

pytestmark = pytest.mark.broker

ROWS_A_TURN, TURNS_A_SECOND = 10, 30
WITHIN_S = 60.0


@pytest.fixture
def registry(tiny_world: TinyWorld, tmp_path: Path) -> Registry:
    """0001 is champion, 0003 challenger; 0002 is promoted by the test."""
    registry = copied(tiny_world, tmp_path)
    assert [add_smaller(registry, trees) for trees in (5, 2)] == ["0002", "0003"]
    registry.challenge("0003")
    return registry


def endless(world: TinyWorld) -> Iterator[dict[str, Any]]:
    """Yield the world's transactions, and the same again and again, each time later and with other ids."""
    span_ms = world.rows[-1]["event_time"] - world.rows[0]["event_time"] + 1
    for turn in count():
        for row in world.rows:
            identity = f"{row['transaction_id']}-{turn}"
            yield {**row, "transaction_id": identity, "event_time": row["event_time"] + turn * span_ms}


class Load:
    """Sends transactions at a steady rate until it is left.

    Attributes:
        sent: all of them.
    """

    def __init__(self, deployment: Deployment, world: TinyWorld) -> None:
        self.sent: list[dict[str, Any]] = []
        self._deployment = deployment
        self._rows = endless(world)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _send(self) -> None:
        while not self._over.wait(1 / TURNS_A_SECOND):
            rows = [next(self._rows) for _ in range(ROWS_A_TURN)]
            self._deployment.send_rows(rows)
            self.sent += rows


def test_a_promotion_and_a_rollback_under_load_lose_and_mix_nothing(
    broker: Broker, tiny_world: TinyWorld, registry: Registry, tmp_path: Path
) -> None:
    variables = {"FRAUDSTREAM_MODEL__REGISTRY": str(registry.root), "FRAUDSTREAM_MODEL__RELOAD": "100ms"}
    with deployed(broker, tiny_world, tmp_path, worker="feature_log = true") as deployment:
        worker = deployment.start(**variables).wait_ready()

        def has(line: str) -> bool:
            return worker.metrics().get(f"fraudstream_{line}") == 1

        eventually(
            lambda: has('challenger_info{model="card_payment/0003"}'), WITHIN_S, "a challenger", worker
        )
        with Load(deployment, tiny_world) as load:
            for command, version in (
                (("promote", "0002", "--force", "a test"), "0002"),
                (("rollback",), "0001"),
            ):
                ended = fraudstream("models", *command, "-c", deployment.config, **variables)
                assert ended.code == 0, ended.err
                model = f'model_info{{model="card_payment/{version}"}}'
                eventually(partial(has, model), WITHIN_S, f"{version} decides", worker)
        sent = load.sent
        messages = deployment.read("decisions", len(sent))
        logged = [pa.ipc.open_stream(m.value()).read_all() for m in deployment.read("features")]
        assert worker.stop() == 0
        audited = fraudstream("audit", "-c", deployment.config, "--json", **variables)

    assert len({headers_of(m)["fraudstream-run"] for m in messages}) == 1
    decisions = [msgspec.json.decode(m.value(), type=Decision) for m in messages]
    decisions.sort(key=lambda decision: decision.sequence)
    assert [d.transaction_id for d in decisions] == [row["transaction_id"] for row in sent]
    versions = [d.model.removeprefix("card_payment/") for d in decisions]
    assert [version for version, _ in groupby(versions)] == ["0001", "0002", "0001"]
    for batch in logged:  # one message a batch
        assert len({versions[sequence] for sequence in batch["sequence"].to_pylist()}) == 1

    said = {version: alone(tiny_world, registry, version, sent) for version in registry.versions()}
    for version, decision in zip(versions, decisions, strict=True):
        shadow = decision.challenger
        assert isinstance(shadow, Challenger)
        assert (decision.score, decision.risk_points, decision.outcome) == said[version][
            decision.transaction_id
        ]
        assert (shadow.score, shadow.risk_points, shadow.outcome) == said["0003"][decision.transaction_id]
    assert said["0001"] != said["0002"]
    assert (audited.code, audited.last_object()["matched"]) == (0, len(sent))


def alone(
    world: TinyWorld, registry: Registry, version: str, rows: list[dict[str, Any]]
) -> dict[str, tuple[float, int, str]]:
    """Return what a version says of each transaction where it decides all of them, on the memory bus."""
    run = start(world, as_messages(rows), model__registry=str(registry.root), model__version=version)
    decisions = run.to_the_end().decisions()
    return {d.transaction_id: (d.score, d.risk_points, d.outcome) for d in decisions}
