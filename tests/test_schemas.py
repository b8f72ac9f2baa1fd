"""What the worker takes and writes is what `schemas/` says."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from docs.generate import ROOT
from fraudstream.ledger import read_ledger
from tests.stream.running import SENT, Running, as_messages, start
from tests.worlds import LIVE_MS, TinyWorld

KINDS = ("decision", "alert")
LATE_MS = LIVE_MS - 3 * 86_400_000


def validator(name: str) -> Any:
    schema = json.loads((ROOT / "schemas" / f"{name}.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.fixture
def played(tiny_world: TinyWorld) -> Running:
    return start(tiny_world, as_messages(tiny_world.rows)).to_the_end()


@pytest.mark.parametrize(("name", "topic"), [("decision", "decisions"), ("alert", "alerts")])
def test_what_the_worker_writes_is_valid(played: Running, name: str, topic: str) -> None:
    sent = [json.loads(message.value() or b"") for message in played.sent(topic)]
    assert sent
    checker = validator(name)
    assert [error.message for message in sent for error in checker.iter_errors(message)] == []


def test_what_the_worker_writes_in_rarer_cases_is_valid(
    tiny_world: TinyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tiny_world.rows[:300]
    by_path = start(
        tiny_world,
        as_messages([*rows, *rows[-20:], {**rows[0], "transaction_id": "late", "event_time": LATE_MS}]),
        worker__explain_budget_ms=0,
        worker__batch_rows_max=50,
        degradation__explanations_lag=150,
        alerts__language="fr",
    ).to_the_end()
    unscored = start(tiny_world, as_messages(rows[:50]), degradation__on_failure="closed")

    def fails(*_: object) -> None:
        raise RuntimeError("no score")

    monkeypatch.setattr(unscored.worker.pipeline, "score", fails)
    unscored.to_the_end()
    runs = (by_path, unscored)
    sent = {
        name: [json.loads(m.value() or b"") for run in runs for m in run.sent(f"{name}s")] for name in KINDS
    }
    for name, messages in sent.items():
        checker = validator(name)
        assert [error.message for message in messages for error in checker.iter_errors(message)] == []
    flags = {flag for message in sent["decision"] for flag in message["flags"]}
    assert flags >= {"late", "repeated", "unscored"}
    assert any("shed" in message for message in sent["decision"])
    assert {message["method"] for message in sent["alert"]} == {"path"}


@pytest.mark.parametrize("name", ["decision", "alert"])
def test_a_message_with_another_field_more_is_valid(played: Running, name: str) -> None:
    message = json.loads(played.sent(f"{name}s")[0].value() or b"")
    assert validator(name).is_valid(message | {"added_later": 1})


@pytest.mark.parametrize("name", ["decision", "alert"])
def test_a_message_without_its_transaction_is_not_valid(played: Running, name: str) -> None:
    message = json.loads(played.sent(f"{name}s")[0].value() or b"")
    del message["transaction_id"]
    assert not validator(name).is_valid(message)


def test_simulated_transactions_are_valid(tiny_world: TinyWorld) -> None:
    checker = validator("transaction")
    assert tiny_world.rows
    assert all(checker.is_valid(row) for row in tiny_world.rows)


def test_simulated_labels_are_valid(tiny_world: TinyWorld) -> None:
    checker = validator("label")
    labels = read_ledger(tiny_world.labels).select(SENT).to_pylist()
    assert labels
    assert all(checker.is_valid(label) for label in labels)
