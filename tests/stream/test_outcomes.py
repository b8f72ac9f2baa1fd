"""Which rule decided, in what the worker sends and in what a replay writes."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from fraudstream.training.replay import ReplayPlan
from fraudstream.training.run import replay_files
from tests.stream.running import as_messages, start
from tests.stream.test_repeats import same_decision
from tests.worlds import TinyWorld, ignore

OUTCOMES = """
[[outcomes]]
name = "decline"
where = 'channel = "online"'
points_min = 700
alert = true

[[outcomes]]
name = "decline"
points_min = 900
probability_min = 0.01
alert = true

[[outcomes]]
name = "review"
where = 'amount >= 20 and merchant_city != "Lyon"'
expected_loss_min = 0.25
alert = true
"""
RULES = [
    'channel = "online" and risk_points >= 700',
    "risk_points >= 900 and score >= 0.01",
    'amount >= 20 and merchant_city != "Lyon" and expected_loss >= 0.25',
    "otherwise",
]


@pytest.fixture
def world(tiny_world: TinyWorld, tmp_path: Path) -> TinyWorld:
    config = tmp_path / "fraudstream.toml"
    text = re.sub(r"\[\[outcomes\]\].*?(?=\[model\])", OUTCOMES, tiny_world.toml_with(""), flags=re.DOTALL)
    config.write_text(text, "utf-8")
    return dataclasses.replace(tiny_world, config=config)


def rule_by_hand(row: dict[str, Any], score: float, points: int) -> str:
    """Return the rule that decides a transaction, from what the transaction and its decision say."""
    if row["channel"] == "online" and points >= 700:
        return RULES[0]
    if points >= 900 and score >= 0.01:
        return RULES[1]
    city = row["merchant_city"]
    if row["amount"] >= 20 and city is not None and city != "Lyon" and score * row["amount"] >= 0.25:
        return RULES[2]
    return RULES[3]


def outcome_of(rule: str) -> str:
    return dict(zip(RULES, ["decline", "decline", "review", "approve"], strict=True))[rule]


def test_each_decision_says_which_rule_decided(world: TinyWorld) -> None:
    decisions = start(world, as_messages(world.rows)).to_the_end().decisions()
    by_id = {row["transaction_id"]: row for row in world.rows}
    expected = [rule_by_hand(by_id[d.transaction_id], d.score, d.risk_points) for d in decisions]
    assert [d.rule for d in decisions] == expected
    assert [d.outcome for d in decisions] == [outcome_of(d.rule) for d in decisions]
    assert set(expected) == set(RULES)


def test_an_alert_carries_the_money_at_risk(world: TinyWorld) -> None:
    run = start(world, as_messages(world.rows)).to_the_end()
    rules = {d.transaction_id: d.rule for d in run.decisions()}
    assert run.alerts()
    for alert in run.alerts():
        assert alert.expected_loss == alert.score * alert.amount
        assert alert.rule == rules[alert.transaction_id]
        assert alert.outcome == outcome_of(alert.rule)


@pytest.mark.parametrize("batch_rows_max", [3, 65_536])
def test_what_is_repeated_is_decided_by_the_first_rule_even_with_another_amount(
    world: TinyWorld, batch_rows_max: int
) -> None:
    decided = start(world, as_messages(world.rows)).to_the_end().decisions()
    at = next(i for i, decision in enumerate(decided) if decision.rule == RULES[2])
    again = world.rows[at] | {"amount": 0.01}
    sent = [*world.rows[: at + 1], again, *world.rows[at + 1 : at + 20]]
    run = start(world, as_messages(sent), worker__batch_rows_max=batch_rows_max).to_the_end()
    (repeated,) = [d for d in run.decisions() if "repeated" in d.flags]
    assert same_decision(repeated) == same_decision(decided[at])


def test_a_replay_writes_the_rule_and_the_expected_loss(world: TinyWorld, tmp_path: Path) -> None:
    settings = world.settings_with()
    replay_files(settings, ReplayPlan(world.live, tmp_path / "scored.parquet", world.labels), ignore)
    scored = pq.read_table(tmp_path / "scored.parquet").to_pylist()
    for row, said in zip(world.rows, scored, strict=True):
        assert said["rule"] == rule_by_hand(row, said["score"], said["risk_points"])
        assert said["outcome"] == outcome_of(said["rule"])
        assert said["expected_loss"] == said["score"] * row["amount"]
