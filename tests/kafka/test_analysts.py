"""Worklist, case, explanation, verdict: what an analyst runs, on a real Kafka."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message

from tests.cli.running import REPOSITORY, Ended, environment, fraudstream
from tests.kafka.broker import Broker
from tests.kafka.conftest import produce_to
from tests.kafka.deployment import Deployment, deployed, headers_of
from tests.worlds import TinyWorld

pytestmark = pytest.mark.broker

ROWS = 1500


@pytest.fixture(scope="module")
def played(
    broker: Broker, tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """A worker has decided the live days; one alert was written twice, and something that is none."""
    with deployed(broker, tiny_world, tmp_path_factory.mktemp("analysts"), partitions=3) as deployment:
        worker = deployment.start().wait_ready()
        deployment.send_rows(tiny_world.rows[:ROWS])
        deployment.read("decisions", ROWS)
        assert worker.stop() == 0
        again = deployment.read("alerts")[0]
        topic = deployment.topic("alerts")
        copies = [(again.key(), again.value(), again.headers()), (b"key", b"\xff no alert", None)]
        produce_to(deployment.bootstrap, topic, copies)
        yield deployment


@pytest.fixture(scope="module")
def alerts(played: Deployment) -> dict[str, dict[str, Any]]:
    values = [message.value() for message in played.read("alerts")]
    return {found["transaction_id"]: found for found in map(json.loads, filter(_is_json, values))}


def _is_json(value: bytes) -> bool:
    return value.startswith(b"{")


def run(deployment: Deployment, *arguments: str, given: str = "") -> Ended:
    return fraudstream(*arguments, "-c", str(deployment.config), given=given)


def listed(deployment: Deployment, *options: str) -> list[dict[str, Any]]:
    ended = run(deployment, "alerts", "list", "--json", *options)
    assert (ended.code, ended.err) == (0, "")
    return [json.loads(line) for line in ended.out.splitlines()]


def test_the_worklist_has_each_alert_once_the_largest_expected_loss_first(
    played: Deployment, alerts: dict[str, dict[str, Any]]
) -> None:
    found = listed(played, "--limit", "1000")
    assert {alert["transaction_id"]: alert for alert in found} == alerts
    assert len(found) == len(alerts) > 20
    losses = [alert["expected_loss"] for alert in found]
    assert losses == sorted(losses, reverse=True)
    ended = run(played, "alerts", "list", "--json", "--sort", "points", "--limit", "7")
    assert (ended.code, ended.err) == (0, f"the first 7 of {len(alerts)}, by points; --limit shows more\n")
    points = [json.loads(line)["risk_points"] for line in ended.out.splitlines()]
    assert points == sorted((alert["risk_points"] for alert in alerts.values()), reverse=True)[:7]


def test_filters_let_through_what_they_say(played: Deployment, alerts: dict[str, dict[str, Any]]) -> None:
    some = sorted(alerts.values(), key=lambda alert: alert["event_time_ms"])[len(alerts) // 2]
    card, since = some["entities"]["card"], some["event_time"]
    options = ["--entity", f"card={card}", "--outcome", some["outcome"], "--since", since, "--loss-min", "1"]
    wanted = {
        name
        for name, alert in alerts.items()
        if alert["entities"]["card"] == card
        and alert["outcome"] == some["outcome"]
        and alert["event_time_ms"] >= some["event_time_ms"]
        and alert["expected_loss"] >= 1
    }
    assert {alert["transaction_id"] for alert in listed(played, *options)} == wanted
    assert {alert["transaction_id"] for alert in listed(played, "--until", since)} == {
        name for name, alert in alerts.items() if alert["event_time_ms"] < some["event_time_ms"]
    }
    assert listed(played, "--model", "0007") == []
    assert len(
        listed(played, "--model", "card_payment/0001", "--points-min", "900", "--score-min", "0.2")
    ) == sum(alert["risk_points"] >= 900 and alert["score"] >= 0.2 for alert in alerts.values())


def test_tail_filters_too_and_passes_over_what_is_no_alert(
    played: Deployment, alerts: dict[str, dict[str, Any]]
) -> None:
    case = next(alert["case_id"] for alert in alerts.values() if alert["case_alerts"] > 1)
    ended = run(played, "alerts", "tail", "--from-beginning", "--idle", "1", "--case", case, "--json")
    found = {json.loads(line)["transaction_id"] for line in ended.out.splitlines()}
    assert found == {name for name, alert in alerts.items() if alert["case_id"] == case}
    assert len(found) > 1


def test_a_case_is_one_row_until_it_is_judged(played: Deployment, alerts: dict[str, dict[str, Any]]) -> None:
    sizes = Counter(alert["case_id"] for alert in alerts.values())
    cases = {case["case_id"]: case for case in listed(played, "--cases", "--limit", "1000")}
    assert {name: case["alerts"] for name, case in cases.items()} == sizes
    case, size = sizes.most_common(1)[0]
    assert size > 2
    members = [alert for alert in alerts.values() if alert["case_id"] == case]
    assert cases[case]["expected_loss"] == pytest.approx(sum(alert["expected_loss"] for alert in members))
    assert cases[case]["entities"] == {"card": members[0]["entities"]["card"]}

    lines = run(played, "alerts", "list", "--json", "--case", case).out
    told = run(played, "label", "-", "fraud", "--json", given=lines).last_object()["labels"]
    assert {label["transaction_id"] for label in told} == {alert["transaction_id"] for alert in members}
    assert case not in {case["case_id"] for case in listed(played, "--cases", "--open")}
    still = {alert["transaction_id"] for alert in listed(played, "--open", "--limit", "1000")}
    judged = {json.loads(message.value())["transaction_id"] for message in played.read("labels")}
    assert still == set(alerts) - judged

    shown = run(played, "alerts", "show", members[0]["transaction_id"], "--json").last_object()
    assert shown["alert"] == members[0]
    assert shown["verdict"] == "fraud"
    assert [one["verdict"] for one in shown["case"]] == ["fraud"] * size
    text = run(played, "alerts", "show", members[0]["transaction_id"])
    assert (text.code, text.err) == (0, "")
    assert f"case {case}: {size} alerts" in text.out
    assert "fraud says analyst" in text.out


def positions(messages: list[Message]) -> dict[str, int]:
    return {json.loads(message.value())["transaction_id"]: message.partition() for message in messages}


def test_a_verdict_stands_in_the_partition_of_its_transaction(
    played: Deployment, alerts: dict[str, dict[str, Any]]
) -> None:
    quiet = next(
        json.loads(message.value())["transaction_id"]
        for message in played.read("decisions")
        if json.loads(message.value())["outcome"] == "approve"
    )
    loud = list(alerts)[-1]
    told = run(played, "label", quiet, loud, quiet, "legit", "--source", "back_office",
               "--known-at", "2024-03-01T12:00Z", "--json").last_object()["labels"]  # fmt: skip
    assert sorted(label["transaction_id"] for label in told) == sorted([quiet, loud])
    where = positions(played.read("transactions"))
    labels = {json.loads(m.value())["transaction_id"]: m for m in played.read("labels")}
    for label in told:
        message = labels[label["transaction_id"]]
        assert message.partition() == label["partition"] == where[label["transaction_id"]]
        assert json.loads(message.value()) == {
            "transaction_id": label["transaction_id"], "label": "legit", "known_at": 1709294400000,
            "source": "back_office",
        }  # fmt: skip
    decided = {headers_of(m)["ce_id"]: m.key() for m in played.read("alerts") if m.headers()}
    assert labels[loud].key() in decided.values()


def test_the_commands_of_the_page_run(
    played: Deployment, alerts: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    page = (REPOSITORY / "docs" / "analysts.md").read_text("utf-8")
    blocks = re.findall(r"^```\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    commands = [text for text in blocks if text.startswith("fraudstream ")]
    assert len(commands) >= 5
    shim = tmp_path / "fraudstream"
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m fraudstream "$@"\n', "utf-8")
    shim.chmod(0o755)
    second = next(alert for alert in alerts.values() if alert["case_alerts"] == 2)
    (tmp_path / "ids.txt").write_text(f"{second['transaction_id']}\n", "utf-8")
    own = {"tx_000019809": second["case_id"], "tx_000019810": second["transaction_id"],
           "alerts tail": "alerts tail --idle 0.1"}  # fmt: skip
    path = f"{tmp_path}:{os.environ['PATH']}"
    for text in commands:
        for shown, real in own.items():
            text = text.replace(shown, real)
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=tmp_path,
            env=environment(FRAUDSTREAM_CONFIG=str(played.config), PATH=path),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (0, ""), text


def test_with_the_key_nothing_is_looked_up(played: Deployment, tiny_world: TinyWorld) -> None:
    row = tiny_world.rows[0]
    told = run(played, "label", "tx-of-yesterday", "fraud", "--key", row["card_id"], "--json")
    where = positions(played.read("transactions"))
    assert told.last_object()["labels"][0]["partition"] == where[row["transaction_id"]]


def test_what_cannot_be_labelled_is_said_in_one_line_and_nothing_is_sent(
    played: Deployment, alerts: dict[str, dict[str, Any]]
) -> None:
    before, known = len(played.read("labels")), next(iter(alerts))
    unknown = run(played, "label", known, "tx-nobody", "fraud")
    assert unknown.code == 1
    assert "tx-nobody: not in" in unknown.one_line()
    early = run(played, "label", known, "fraud", "--known-at", "2020-01-01")
    assert (early.code, f"before {known} itself" in early.one_line()) == (2, True)
    late = run(played, "label", known, "fraud", "--known-at", "2190-01-01")
    assert (late.code, "is in the future" in late.one_line()) == (2, True)
    bad = run(played, "label", "-", "fraud", given='{"id": 1}\n')
    assert (bad.code, "line 1" in bad.one_line()) == (2, True)
    none = run(played, "label", "-", "fraud", given="\n")
    assert (none.code, "there is none" in none.one_line()) == (2, True)
    alert = run(played, "alerts", "show", "tx-nobody")
    assert (alert.code, "fraudstream explain tx-nobody" in alert.one_line()) == (1, True)
    entity = run(played, "alerts", "list", "--entity", "cards=1")
    assert (entity.code, "one of card, merchant, device" in entity.one_line()) == (2, True)
    since = run(played, "alerts", "list", "--since", "yesterday")
    assert (since.code, "how long ago" in since.one_line()) == (2, True)
    assert len(played.read("labels")) == before
