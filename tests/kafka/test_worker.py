"""The worker as a process on a real Kafka: complete, restartable, and plain to every other client."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Message

from fraudstream.records import Alert, Decision
from fraudstream.stream.runs import partitions_of
from tests.cli.running import fraudstream
from tests.kafka.broker import Broker, KafkaBroker
from tests.kafka.conftest import Outgoing
from tests.kafka.deployment import (
    Deployment,
    WorkerProcess,
    deployed,
    eventually,
    free_port,
    headers_of,
)
from tests.stream.bad import BAD, NULL_KEY
from tests.stream.running import as_messages, contents, start
from tests.worlds import TinyWorld

pytestmark = pytest.mark.broker

CONSOLE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
CONSOLE_PRODUCER = "org.apache.kafka.tools.ConsoleProducer"
TRACE = ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
GOOD = 700


@pytest.fixture
def deployment(broker: Broker, tiny_world: TinyWorld, tmp_path: Path) -> Iterator[Deployment]:
    """A deployment of this test's own with one partition, so that its order is the order of the rows."""
    with deployed(broker, tiny_world, tmp_path) as made:
        yield made


@dataclass(frozen=True)
class Played:
    """A worker that runs, what was sent to it, and all that it sent.

    Attributes:
        sent: the delivered messages by kind, `good` among them.
    """

    broker: Broker
    deployment: Deployment
    worker: WorkerProcess
    sent: list[tuple[str, Message]]
    decisions: list[Message]
    alerts: list[Message]
    dead_letters: list[Message]

    def good(self) -> dict[str, Message]:
        """Return the transactions to be decided by the id that their decisions carry."""
        return {self.id_of(message): message for kind, message in self.sent if kind == "good"}

    def bad(self) -> list[tuple[str, Message]]:
        return [(kind, message) for kind, message in self.sent if kind != "good"]

    def id_of(self, message: Message) -> str:
        return f"{self.deployment.topic('transactions')}/{message.partition()}/{message.offset()}"


@pytest.fixture(scope="module")
def played(
    broker: Broker, startable_kafka: None, tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Played]:
    """Good transactions, every bad kind among them, and three from Java's console, on three partitions."""
    folder = tmp_path_factory.mktemp("played")
    with deployed(broker, tiny_world, folder, partitions=3) as deployment:
        worker = deployment.start().wait_ready()
        kinds, outgoing = mixed(tiny_world)
        deployment.send(outgoing)
        send_by_java(broker, deployment, tiny_world)
        log = deployment.read("transactions", len(kinds) + 3)
        sent = [(kinds[int(headers_of(m)["n"])] if m.headers() else "good", m) for m in log]
        decisions = deployment.read("decisions", GOOD + 3)
        dead_letters = deployment.read("dlq", len(BAD) + 1)
        alerting = sum(json.loads(m.value())["outcome"] != "approve" for m in decisions)
        yield Played(
            broker, deployment, worker, sent, decisions, deployment.read("alerts", alerting), dead_letters
        )


def mixed(world: TinyWorld) -> tuple[list[str], list[Outgoing]]:
    """Return kinds and messages, each with its number in a header."""
    bad = [*BAD, "null key"]
    kinds = ["good"] * GOOD
    for i, kind in enumerate(bad):
        kinds.insert(10 + i * 13, kind)
    outgoing: list[Outgoing] = []
    rows = iter(world.rows)
    for i, kind in enumerate(kinds):
        row = next(rows) if kind == "good" else world.rows[0]
        value = BAD[kind][1](row) if kind in BAD else json.dumps(row).encode()
        key = None if kind == "null key" else row["card_id"].encode()
        outgoing.append((key, value, [TRACE, ("n", str(i).encode())]))
    return kinds, outgoing


def send_by_java(broker: Broker, deployment: Deployment, world: TinyWorld) -> None:
    """Send three transactions with Kafka's console producer."""
    rows = [{**row, "transaction_id": f"java-{i}"} for i, row in enumerate(world.rows[GOOD : GOOD + 3])]
    ended = broker.run_class(
        CONSOLE_PRODUCER,
        *("--bootstrap-server", broker.bootstrap, "--topic", deployment.topic("transactions")),
        *("--property", "parse.key=true", "--property", "key.separator=\t"),
        input="".join(f"{row['card_id']}\t{json.dumps(row)}\n" for row in rows),
    )
    assert ended.returncode == 0, ended.stderr


def test_every_transaction_gets_exactly_one_decision_with_its_key_on_its_partition(played: Played) -> None:
    good, by_id = played.good(), {headers_of(m)["ce_id"]: m for m in played.decisions}
    assert len(by_id) == len(played.decisions) == GOOD + 3
    assert by_id.keys() == good.keys()
    for key, decision in by_id.items():
        transaction = json.loads(good[key].value())
        told = msgspec.json.decode(decision.value(), type=Decision)
        assert (told.transaction_id, told.event_time_ms) == (
            transaction["transaction_id"],
            transaction["event_time"],
        )
        assert (decision.key(), decision.partition()) == (good[key].key(), good[key].partition())


def test_every_bad_transaction_becomes_a_dead_letter_that_names_its_field(played: Played) -> None:
    letters = {
        (headers_of(m)["fraudstream.dlq.partition"], headers_of(m)["fraudstream.dlq.offset"]): m
        for m in played.dead_letters
    }
    assert len(letters) == len(played.dead_letters) == len(BAD) + 1
    for kind, original in played.bad():
        letter = letters[str(original.partition()), str(original.offset())]
        headers = headers_of(letter)
        assert (letter.key(), letter.value()) == (original.key(), original.value())
        assert list(letter.headers())[:2] == list(original.headers())
        assert headers["fraudstream.dlq.path"] == (BAD[kind][0] if kind in BAD else NULL_KEY[0]), kind
        assert headers["fraudstream.dlq.topic"] == played.deployment.topic("transactions")
        assert headers["fraudstream.dlq.stage"] == "decode"
        assert headers["fraudstream.dlq.reason"]


def test_every_alerting_decision_has_its_alert_whose_reasons_add_up(played: Played) -> None:
    decisions = {headers_of(m)["ce_id"]: json.loads(m.value()) for m in played.decisions}
    alerts = {headers_of(m)["ce_id"]: m for m in played.alerts}
    assert len(alerts) == len(played.alerts) > 5
    assert alerts.keys() == {key for key, told in decisions.items() if told["outcome"] != "approve"}
    for key, message in alerts.items():
        alert = msgspec.json.decode(message.value(), type=Alert)
        plain = json.loads(message.value())
        assert {name: plain[name] for name in decisions[key]} == decisions[key]
        added = alert.base + alert.rest + sum(reason.contribution for reason in alert.reasons)
        assert added == pytest.approx(alert.raw_score, abs=1e-9)


def test_decisions_and_alerts_carry_the_headers_of_cloud_events_and_the_trace(played: Played) -> None:
    for kind, messages in (("decision", played.decisions), ("alert", played.alerts)):
        for message in messages:
            headers = headers_of(message)
            traced = {"traceparent": TRACE[1].decode()} if "traceparent" in headers else {}
            assert headers == {
                "ce_id": headers["ce_id"],
                "ce_specversion": "1.0",
                "ce_type": f"fraudstream.{kind}.v1",
                "ce_source": "fraudstream",
                "content-type": "application/json",
                "fraudstream-model": "card_payment/0001",
                "fraudstream-run": headers["fraudstream-run"],
                **traced,
            }
    assert sum("traceparent" in headers_of(m) for m in played.decisions) == GOOD  # Java sent none
    runs = {headers_of(m)["fraudstream-run"] for m in [*played.decisions, *played.alerts]}
    assert [partitions_of(run) for run in runs] == [{0, 1, 2}]
    assert sorted(json.loads(m.value())["sequence"] for m in played.decisions) == list(range(GOOD + 3))


def test_transactions_of_javas_console_producer_are_decided(played: Played) -> None:
    decided = {json.loads(m.value())["transaction_id"] for m in played.decisions}
    assert {"java-0", "java-1", "java-2"} <= decided


def test_kafkas_console_consumer_reads_decisions_and_alerts_as_plain_json_with_their_headers(
    played: Played,
) -> None:
    for name, messages in (("decisions", played.decisions), ("alerts", played.alerts)):
        ended = played.broker.run_class(
            CONSOLE_CONSUMER,
            *("--bootstrap-server", played.broker.bootstrap, "--topic", played.deployment.topic(name)),
            *("--from-beginning", "--max-messages", str(len(messages)), "--timeout-ms", "20000"),
            *("--property", "print.headers=true", "--property", "print.key=true"),
        )
        assert ended.returncode == 0, ended.stderr
        lines = [line.split("\t") for line in ended.stdout.splitlines()]
        assert {(key, value) for _, key, value in lines} == {
            (m.key().decode(), m.value().decode()) for m in messages
        }
        assert {line[0] for line in lines} == {
            ",".join(f"{header}:{value.decode()}" for header, value in m.headers()) for m in messages
        }
        assert all(json.loads(value)["model"] == "card_payment/0001" for _, _, value in lines)


def test_the_pages_say_that_the_worker_lives_serves_and_what_it_did(played: Played) -> None:
    assert played.worker.get("/livez") == (200, '{"live": true}\n')
    status, ready = played.worker.get("/readyz")
    assert (status, json.loads(ready)) == (
        200,
        {"ready": True, "live": True, "model": "card_payment/0001", "partitions": 3}
        | {"replay_left": {"0": 0, "1": 0, "2": 0}, "ready_in_s": None, "waits_for_broker": False}
        | {"waits_for_registry": False}
        | {"features_cold": 0, "warm_at": None},
    )
    eventually(lambda: played.worker.metrics()["fraudstream_lag_messages"] == 0, 10, "the lag is 0")
    metrics = played.worker.metrics()
    outcomes = Counter(json.loads(m.value())["outcome"] for m in played.decisions)
    assert metrics["fraudstream_transactions_total"] == GOOD + 3
    assert total(metrics, "fraudstream_dead_letters_total") == len(BAD) + 1
    assert metrics['fraudstream_dead_letters_total{reason="key",stage="decode"}'] == 1
    assert total(metrics, "fraudstream_alerts_total") == len(played.alerts)
    assert metrics["fraudstream_latency_seconds_count"] == GOOD + 3
    assert metrics["fraudstream_commit_seconds_count"] >= 1
    assert metrics["fraudstream_lag_seconds"] == 0
    for outcome, number in outcomes.items():
        assert metrics[f'fraudstream_decisions_total{{outcome="{outcome}"}}'] == number
    assert metrics["fraudstream_ready"] == 1


def total(metrics: dict[str, float], name: str) -> float:
    return sum(value for labelled, value in metrics.items() if labelled.startswith(f"{name}{{"))


def test_the_offsets_of_all_that_was_read_are_committed(played: Played) -> None:
    ends = Counter(message.partition() for _, message in played.sent)
    eventually(lambda: played.deployment.committed() == dict(ends), 10, "all offsets are committed")
    assert sum(ends.values()) == GOOD + 3 + len(BAD) + 1


def test_the_log_is_json_and_holds_no_card(played: Played, tiny_world: TinyWorld) -> None:
    text = played.worker.log_text()
    entries = [json.loads(line) for line in text.splitlines()]
    assert {"kernels_warm", "partitions_assigned", "worker_ready"} <= {entry["event"] for entry in entries}
    assert not any(row["card_id"] in text for row in tiny_world.rows)


def test_alerts_are_tailed_as_json_lines(played: Played) -> None:
    count = len(played.alerts) - 1
    words = ("alerts", "tail", "-c", played.deployment.config, "--from-beginning", "--count", str(count))
    ended = fraudstream(*words, "--json")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert len(lines) == count
    assert set(lines) < {m.value().decode() for m in played.alerts}

    shown = fraudstream(*words)
    assert shown.code == 0
    assert sum(" points " in line for line in shown.out.splitlines()) == count


def test_tailing_ends_when_no_alert_comes_for_a_while(played: Played) -> None:
    ended = fraudstream("alerts", "tail", "-c", played.deployment.config, "--idle", "0.2", "--json")
    assert (ended.code, ended.out) == (0, "")


def uninterrupted(world: TinyWorld, rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the decisions of a worker that never stopped, by transaction."""
    run = start(world, as_messages(rows)).to_the_end()
    return {row["transaction_id"]: contents(m) for row, m in zip(rows, run.sent("decisions"), strict=True)}


def by_transaction(messages: list[Message]) -> dict[str, dict[str, Any]]:
    """Return the decisions by transaction; fails on one that is decided twice."""
    found = {json.loads(m.value())["transaction_id"]: contents(m) for m in messages}
    assert len(found) == len(messages)
    return found


def test_a_worker_ends_on_sigterm_and_the_next_continues_as_if_it_had_never_stopped(
    deployment: Deployment, tiny_world: TinyWorld
) -> None:
    rows, half = tiny_world.rows, len(tiny_world.rows) // 2
    first = deployment.start().wait_ready()
    deployment.send_rows(rows[:half])
    deployment.read("decisions", half)
    assert first.stop() == 0
    assert deployment.committed() == {0: half}
    assert len(first.events("worker_stopped")) == 1

    deployment.send_rows(rows[half:])
    second = deployment.start().wait_ready()
    decisions = deployment.read("decisions", len(rows))
    assert second.metrics()["fraudstream_replayed_total"] == half
    assert second.stop() == 0

    assert deployment.committed() == {0: len(rows)}
    # The values hold scores to the last bit: the state, too, is that of a worker that never stopped.
    assert by_transaction(decisions) == uninterrupted(tiny_world, rows)


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_after_a_crash_nothing_is_undecided_and_what_comes_twice_is_the_same(
    broker: Broker, tiny_world: TinyWorld, tmp_path: Path, delivery: str
) -> None:
    slowly = f'batch_rows_max = 16\ncommit_interval_ms = 400\ndelivery = "{delivery}"'
    with deployed(broker, tiny_world, tmp_path, worker=slowly) as deployment:
        deployment.send_rows(tiny_world.rows)
        crashed = 0
        for more in (1, 400):
            worker = deployment.start()
            eventually(partial(_has_decisions, deployment, crashed + more), 90, "some decisions", worker)
            worker.kill()
            crashed = len(deployment.read("decisions"))
        last = deployment.start().wait_ready()
        wanted = len(tiny_world.rows)
        eventually(lambda: deployment.committed() == {0: wanted}, 60, "all is committed", last)
        assert last.stop() == 0

        decisions = deployment.read("decisions")
        by_id = {headers_of(m)["ce_id"]: contents(m) for m in decisions}
        differing = [m for m in decisions if by_id[headers_of(m)["ce_id"]] != contents(m)]
        assert differing == []
        assert len(by_id) == wanted
        if delivery == "exactly_once":
            assert len(decisions) == wanted
        else:
            assert len(decisions) > wanted  # some were in flight when it crashed
        told = {said["transaction_id"]: said for said in by_id.values()}
        assert told == uninterrupted(tiny_world, tiny_world.rows)


def test_faust_can_run_the_worker_by_its_own_command_line(
    deployment: Deployment, tiny_world: TinyWorld
) -> None:
    worker = deployment.start(
        ("-m", "faust", "-A", "fraudstream.stream.app", "worker", "--loglevel", "warn"),
        FRAUDSTREAM_CONFIG=str(deployment.config),
    )
    worker.wait_ready()
    deployment.send_rows(tiny_world.rows[:300])
    decisions = deployment.read("decisions", 300)
    assert worker.metrics()["fraudstream_transactions_total"] == 300
    assert worker.stop() == 0
    assert deployment.committed() == {0: 300}
    assert by_transaction(decisions) == uninterrupted(tiny_world, tiny_world.rows[:300])
    assert "Traceback" not in worker.log_text()


def test_a_worker_without_a_broker_says_so_tries_again_and_ends_on_sigterm(
    tiny_world: TinyWorld, tmp_path: Path
) -> None:
    address = f"127.0.0.1:{free_port()}"
    with Deployment(tiny_world, address, tmp_path) as deployment:
        worker = deployment.start()
        eventually(
            lambda: worker.events("kafka_unreachable") != [], 60, "it says that nobody answers", worker
        )
        said = worker.events("kafka_unreachable")[0]
        assert (said["brokers"], said["action"], said["level"]) == (address, "retrying", "warning")
        assert worker.get("/livez")[0] == 200
        assert worker.get("/readyz")[0] == 503
        assert worker.stop() == 0
        assert "Traceback" not in worker.log_text()
        assert worker.events("worker_failed") == []


def test_a_worker_whose_topics_are_missing_names_them_and_ends_with_1(
    broker: Broker, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    with Deployment(tiny_world, broker.bootstrap, tmp_path) as deployment:
        worker = deployment.start()
        assert worker.process.wait(90) == 1
        (said,) = worker.events("worker_failed")
        for name in ("transactions", "decisions", "alerts", "dlq"):
            assert deployment.topic(name) in said["error"]
        assert "`fraudstream topics create`" in said["error"]
        assert "Traceback" not in worker.log_text()


def test_a_worker_waits_for_its_broker_and_outlives_its_restart_without_a_loss(
    own_broker: KafkaBroker, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    third = len(tiny_world.rows) // 3
    with Deployment(tiny_world, own_broker.bootstrap, tmp_path) as deployment:
        deployment.make_topics()
        own_broker.kill()
        worker = deployment.start()
        eventually(
            lambda: worker.events("kafka_unreachable") != [], 60, "it says that nobody answers", worker
        )
        own_broker.start()
        worker.wait_ready()
        deployment.send_rows(tiny_world.rows[:third])
        deployment.read("decisions", third)

        own_broker.restart()
        deployment.send_rows(tiny_world.rows[third : 2 * third])
        deployment.read("decisions", 2 * third)

        deployment.send_rows(tiny_world.rows[2 * third :])
        own_broker.kill()
        own_broker.start()
        wanted = len(tiny_world.rows)
        eventually(lambda: deployment.committed() == {0: wanted}, 60, "all is committed", worker)
        assert worker.stop() == 0
        assert "Traceback" not in worker.log_text()

        said = [contents(m) for m in deployment.read("decisions")]
        assert {one["transaction_id"]: one for one in said} == uninterrupted(tiny_world, tiny_world.rows)


def test_a_worker_ends_in_time_while_its_broker_stands_still_and_the_next_goes_on(
    own_broker: KafkaBroker, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    half = len(tiny_world.rows) // 2
    with Deployment(tiny_world, own_broker.bootstrap, tmp_path) as deployment:
        deployment.make_topics()
        worker = deployment.start().wait_ready()
        deployment.send_rows(tiny_world.rows)
        deployment.read("decisions", half)
        os.kill(own_broker.pid, signal.SIGSTOP)
        try:
            assert worker.stop() in (0, 1)
        finally:
            os.kill(own_broker.pid, signal.SIGCONT)
        deployment.start()
        said = [contents(m) for m in deployment.read("decisions", len(tiny_world.rows))]
        assert {one["transaction_id"]: one for one in said} == uninterrupted(tiny_world, tiny_world.rows)


def test_a_second_worker_takes_over_partitions_and_none_is_lost(
    broker: Broker, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    several = 'batch_rows_max = 64\nseveral = "allow"'
    with deployed(broker, tiny_world, tmp_path, partitions=4, worker=several) as deployment:
        first = deployment.start().wait_ready()
        half = len(tiny_world.rows) // 2
        deployment.send_rows(tiny_world.rows[:half])
        second = deployment.start(FRAUDSTREAM_WORKER__WEB_PORT="0")
        eventually(lambda: second.events("worker_ready") != [], 90, "the second is ready", second)
        deployment.send_rows(tiny_world.rows[half:])
        decisions = deployment.read("decisions", len(tiny_world.rows))
        assert second.stop() == 0
        assert first.stop() == 0
        assert sum(deployment.committed().values()) == len(tiny_world.rows)
        assert {json.loads(m.value())["transaction_id"] for m in decisions} == {
            row["transaction_id"] for row in tiny_world.rows
        }
        ids = [headers_of(m)["ce_id"] for m in deployment.read("decisions")]
        assert len(set(ids)) == len(ids) == len(tiny_world.rows)


def test_a_worker_stops_before_a_topic_drains_into_the_dead_letters(
    broker: Broker, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    with deployed(broker, tiny_world, tmp_path) as deployment:
        worker = deployment.start(
            FRAUDSTREAM_WORKER__DEAD_LETTER_RATE_MAX="0.2", FRAUDSTREAM_WORKER__DEAD_LETTER_WINDOW="100"
        )
        worker.wait_ready()
        deployment.send((b"card", b'{"another": "format"}', None) for _ in range(5_000))
        assert worker.process.wait(60) == 1
        (said,) = worker.events("worker_failed")
        assert "worker.dead_letter_rate_max" in said["error"]
        assert "$.transaction_id" in said["error"]
        assert "Traceback" not in worker.log_text()
        letters = deployment.read("dlq")
        assert 100 <= len(letters) < 5_000
        assert deployment.committed() == {0: len(letters)}


def _has_decisions(deployment: Deployment, count: int) -> bool:
    return len(deployment.read("decisions")) >= count
