"""What a worker served, derived again: the same bytes, or a line for everything that is not there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fraudstream.bus.memory import MemoryMessage
from fraudstream.records import Alert
from fraudstream.stream.rederive import Rederived, rederive
from fraudstream.stream.served import InTopics
from tests.cli.running import fraudstream
from tests.stream.running import Running, as_messages, start
from tests.stream.test_audit import changed
from tests.worlds import TinyWorld, write_rows


class MemoryLog:
    """Topics of the memory bus, to look things up in."""

    def __init__(self, topics: dict[str, list[MemoryMessage]]) -> None:
        self.topics = topics

    def scan(self, topic: str, since_ms: int | None = None) -> Iterator[MemoryMessage]:
        return iter(self.topics.get(topic, []))

    def at(self, topic: str, partition: int, offset: int) -> MemoryMessage | None:
        found = [m for m in self.topics[topic] if (m.partition(), m.offset()) == (partition, offset)]
        return found[0] if found else None


def served(world: TinyWorld, repeated: int = 690, **overrides: Any) -> tuple[Running, MemoryLog]:
    rows = list(world.rows[:700])
    rows.append(rows[repeated])
    messages = as_messages(rows)
    run = start(
        world, messages, worker__feature_log=True, worker__batch_rows_max=64, **overrides
    ).to_the_end()
    return run, MemoryLog({**run.sink.sent, run.settings.topics.transactions: messages})


def again(run: Running, log: MemoryLog, transaction_id: str) -> Rederived:
    return rederive(run.settings, InTopics(log, run.settings), transaction_id)


@pytest.fixture(scope="module")
def played(tiny_world: TinyWorld) -> tuple[Running, MemoryLog]:
    return served(tiny_world)


@pytest.mark.parametrize("overrides", [{}, {"alerts__language": "fr"}, {"worker__explain_budget_ms": 0}])
def test_alerts_are_derived_again_byte_for_byte(tiny_world: TinyWorld, overrides: dict[str, Any]) -> None:
    run, log = served(tiny_world, **overrides)
    alerts = run.alerts()
    assert len(alerts) > 20
    run.settings = tiny_world.settings_with()  # what is set now does not matter to how it was told then
    for alert in alerts[:25]:
        found = again(run, log, alert.transaction_id)
        assert found.ok, [check for check in found.checks if not check.same] + found.missing
        assert {check.what for check in found.checks} == {
            "features_hash", "score", "risk_points", "outcome", "rule", "raw_score", "base", "rest", "reasons",
            "groups", "method", "expected_loss",
        }  # fmt: skip
        assert found.alert == alert
        parts = sum(part.contribution for part in found.parts)
        assert alert.base + parts == pytest.approx(alert.raw_score, abs=1e-9)
        (decided,) = [threshold for threshold in found.thresholds if threshold.decided]
        assert (decided.outcome, decided.rule) == (alert.outcome, alert.rule)


def test_a_decision_that_did_not_alert_is_derived_and_explained_too(
    played: tuple[Running, MemoryLog],
) -> None:
    run, log = played
    quiet = next(d for d in run.decisions() if d.outcome == "approve")
    found = again(run, log, quiet.transaction_id)
    assert found.ok
    assert found.alert is None
    assert found.why is not None
    assert {check.what for check in found.checks} == {
        "features_hash",
        "score",
        "risk_points",
        "outcome",
        "rule",
    }


def test_of_a_repeated_transaction_the_first_decision_is_shown(
    played: tuple[Running, MemoryLog], tiny_world: TinyWorld
) -> None:
    run, log = played
    found = again(run, log, tiny_world.rows[690]["transaction_id"])
    assert (found.ok, found.repeats, found.written_again, found.position) == (True, 1, 0, (0, 690))
    doubled = dict(log.topics)
    doubled["fraud.decisions"] = [*log.topics["fraud.decisions"], log.topics["fraud.decisions"][690]]
    found = again(run, MemoryLog(doubled), tiny_world.rows[690]["transaction_id"])
    assert (found.ok, found.repeats, found.written_again) == (True, 1, 1)


def test_of_an_id_that_was_decided_twice_both_decisions_are_told(tiny_world: TinyWorld) -> None:
    run, log = served(tiny_world, 600, state__repeat_horizon="1s")
    alerts = {alert.sequence: alert for alert in run.alerts()}
    transaction_id = tiny_world.rows[600]["transaction_id"]
    first = again(run, log, transaction_id)
    assert (first.ok, first.repeats, first.position) == (True, 0, (0, 600))
    (other,) = first.others
    assert (other.sequence, other.outcome) == (640, run.decisions()[640].outcome)  # first of its batch
    second = rederive(run.settings, InTopics(log, run.settings), transaction_id, other.sequence)
    assert (second.ok, second.position, second.alert) == (True, (0, 700), alerts.get(640))
    assert [one.sequence for one in second.others] == [600]
    nothing = rederive(run.settings, InTopics(log, run.settings), transaction_id, 5)
    (missing,) = nothing.missing
    assert missing.why.endswith("has this sequence number, but 600, 640")


def without(log: MemoryLog, topic: str) -> MemoryLog:
    return MemoryLog({**log.topics, f"fraud.{topic}": []})


@pytest.mark.parametrize(
    ("topic", "what", "why"),
    [
        ("decisions", "decision", "there is no decision of"),
        ("features", "features", "the features that were scored are not in"),
        ("transactions", "transaction", "the transaction itself is not in"),
    ],
)
def test_what_is_gone_is_named_with_what_to_do(
    played: tuple[Running, MemoryLog], topic: str, what: str, why: str
) -> None:
    run, log = played
    found = again(run, without(log, topic), run.alerts()[0].transaction_id)
    assert not found.ok
    (missing,) = found.missing
    assert (missing.what, missing.why.startswith(why)) == (what, True), missing
    assert f"fraud.{topic}" in missing.why
    assert missing.do
    assert all(check.same for check in found.checks)


def test_where_only_a_repeat_is_left_it_says_so(
    played: tuple[Running, MemoryLog], tiny_world: TinyWorld
) -> None:
    run, log = played
    late = MemoryLog({**log.topics, "fraud.decisions": log.topics["fraud.decisions"][695:]})
    found = again(run, late, tiny_world.rows[690]["transaction_id"])
    assert [missing.why for missing in found.missing] == [
        "this decision repeats an earlier one, which is no longer there; no features were scored for it"
    ]


def test_a_model_that_is_gone_from_the_registry_is_named(
    played: tuple[Running, MemoryLog], tiny_world: TinyWorld, tmp_path: Path
) -> None:
    run, log = played
    shutil.copytree(tiny_world.folder / "models", tmp_path / "models")
    shutil.rmtree(tmp_path / "models" / "card_payment" / "0001")
    settings = tiny_world.settings_with(model__registry=str(tmp_path / "models"))
    found = rederive(settings, InTopics(log, settings), run.alerts()[0].transaction_id)
    (missing,) = found.missing
    assert missing.what == "model"
    assert missing.why.startswith("card_payment/0001, which decided, cannot be loaded")
    assert str(tmp_path / "models" / "card_payment" / "0001") in missing.do


@pytest.mark.parametrize(
    ("topic", "field", "value", "differs"),
    [
        ("decisions", "score", 0.123, {"score"}),
        ("decisions", "features_hash", "0" * 16, {"features_hash"}),
        ("decisions", "outcome", "decline", {"outcome"}),
        ("alerts", "rest", 0.5, {"rest"}),
        ("alerts", "groups", [], {"groups"}),
    ],
)
def test_what_differs_from_what_was_served_is_found(
    played: tuple[Running, MemoryLog], topic: str, field: str, value: Any, differs: set[str]
) -> None:
    run, log = played
    alert = next(alert for alert in run.alerts() if alert.outcome == "review")
    forged = [
        changed(
            m, lambda told: {**told, field: value} if told["transaction_id"] == alert.transaction_id else told
        )
        for m in log.topics[f"fraud.{topic}"]
    ]
    found = again(run, MemoryLog({**log.topics, f"fraud.{topic}": forged}), alert.transaction_id)
    assert not found.ok
    assert {check.what for check in found.checks if not check.same} == differs


def test_from_files_as_the_topics_have_it(
    played: tuple[Running, MemoryLog], tiny_world: TinyWorld, tmp_path: Path
) -> None:
    run, _ = played
    alert = run.alerts()[0]
    for name in ("decisions", "alerts"):
        write_rows([json.loads(m.value() or b"") for m in run.sent(name)], tmp_path / f"{name}.ndjson")
    write_rows(run.log(), tmp_path / "features.ndjson")
    write_rows(tiny_world.rows[:700], tmp_path / "transactions.ndjson")
    given = [part for name in ("decisions", "features", "alerts", "transactions")
             for part in (f"--{name}", tmp_path / f"{name}.ndjson")]  # fmt: skip
    told = fraudstream("explain", alert.transaction_id, "-c", tiny_world.config, "--json", *given)
    found = told.last_object()
    assert (told.code, found["ok"], found["missing"]) == (0, True, []), found
    assert msgspec.convert(found["alert"], Alert) == alert
    assert found["explanation"]["reasons"] == msgspec.to_builtins(alert.reasons)
    shown = fraudstream("explain", alert.transaction_id, "-c", tiny_world.config, *given)
    assert shown.code == 0
    assert alert.reasons[0].text[:30] in shown.out
    assert "the same bytes as served: features_hash, score" in shown.out

    nobody = fraudstream("explain", "tx-nobody", "-c", tiny_world.config, *given)
    assert nobody.code == 1
    assert "missing decision: there is no decision of tx-nobody" in nobody.out


def test_from_what_a_replay_writes(tiny_world: TinyWorld, tmp_path: Path) -> None:
    transactions = write_rows(tiny_world.rows[:300], tmp_path / "transactions.ndjson")
    to = tmp_path / "scored.parquet"
    labels = ("--labels", tiny_world.labels)
    replayed = fraudstream("replay", "--transactions", transactions, "--output", to, "--features", *labels,
                           "-c", tiny_world.config)  # fmt: skip
    assert replayed.code == 0, replayed.err
    told = fraudstream("explain", tiny_world.rows[200]["transaction_id"], "-c", tiny_world.config, "--json",
                       "--decisions", to, "--features", to, "--transactions", transactions)  # fmt: skip
    found = told.last_object()
    assert (told.code, found["ok"], found["missing"]) == (0, True, []), found
    assert found["decision"]["model"] == "card_payment/0001"


def test_wrong_use_is_one_line(tiny_world: TinyWorld, tmp_path: Path) -> None:
    ended = fraudstream("explain", "x", "-c", tiny_world.config, "--decisions", tmp_path / "d.ndjson")
    assert (ended.code, ended.one_line()) == (
        2, "fraudstream: explain: give both --decisions and --features; files are read in place of Kafka",
    )  # fmt: skip
    bad = tmp_path / "bad.ndjson"
    bad.write_text('{"transaction_id": "x", "score": "?"}\n', "utf-8")
    ended = fraudstream("explain", "x", "-c", tiny_world.config, "--decisions", bad, "--features", bad)
    assert ended.code == 2
    assert f"{bad}: is no decision: " in ended.one_line()
