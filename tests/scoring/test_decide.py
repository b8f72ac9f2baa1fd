"""The policy against its slow twin: the first outcome that a transaction fulfils and reaches."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fraudstream.batch import MISSING, TransactionBatch
from fraudstream.decode import Decoder
from fraudstream.errors import ConfigError
from fraudstream.scoring import Policy, build_policy
from fraudstream.scoring.decide import expected_loss
from fraudstream.sections import Outcome, Settings
from fraudstream.settings import load_settings

SETTINGS = load_settings(environment={})
OPERATORS = {"=": operator.eq, "!=": operator.ne, "<": operator.lt, ">=": operator.ge}
CHANNELS = ["online", "pos", None]

Condition = tuple[str, str, Any]
Row = tuple[str | None, int, int, float]  # channel, amount in cents, points, probability

conditions = st.one_of(
    st.tuples(st.just("channel"), st.sampled_from(["=", "!="]), st.sampled_from(["online", "pos"])),
    st.tuples(st.just("amount"), st.sampled_from(["<", ">="]), st.integers(0, 30)),
)
rules = st.tuples(
    st.lists(conditions, max_size=2),
    st.one_of(st.none(), st.integers(0, 1000)),
    st.one_of(st.none(), st.sampled_from([0.0, 0.01, 0.25, 0.5, 1.0])),
    st.one_of(st.none(), st.sampled_from([0.0, 0.01, 2.5, 10.0])),
    st.booleans(),
).filter(lambda rule: any(least is not None for least in rule[1:4]))
rows = st.tuples(
    st.sampled_from(CHANNELS),
    st.integers(0, 4000),
    st.integers(0, 1000),
    st.one_of(st.sampled_from([0.0, 0.01, 0.25, 0.5, 1.0]), st.floats(0, 1)),
)


def spelled(where: list[Condition]) -> str:
    return " and ".join(f"{f} {op} {v if f == 'amount' else chr(34) + v + chr(34)}" for f, op, v in where)


def holds(condition: Condition, row: Row) -> bool:
    field, op, value = condition
    has = row[0] if field == "channel" else row[1] / 100
    return has is not None and bool(OPERATORS[op](has, value))


def by_hand(declared: list[Any], row: Row) -> tuple[int, bool]:
    """Return the number of the outcome, and whether it alerts."""
    _, cents, points, probability = row
    loss = probability * (cents / 100)
    for number, (where, points_min, probability_min, loss_min, alert) in enumerate(declared):
        reached = [
            value >= least
            for value, least in ((points, points_min), (probability, probability_min), (loss, loss_min))
            if least is not None
        ]
        if all(reached) and all(holds(condition, row) for condition in where):
            return number, alert
    return len(declared), False


def batch_of(drawn: list[Row]) -> TransactionBatch:
    n = len(drawn)
    return TransactionBatch(
        ids=[str(i) for i in range(n)],
        time_ms=np.arange(n),
        measures={"amount": np.array([row[1] for row in drawn], np.int64)},
        texts={"channel": [row[0] for row in drawn]},
        partition=np.zeros(n, np.int64),
        offset=np.arange(n),
        source_row=np.arange(n),
    )


def policy_of(*outcomes: Outcome, settings: Settings = SETTINGS) -> Policy:
    return build_policy(replace(settings, outcomes=list(outcomes)))


@given(st.lists(rules, max_size=5), st.lists(rows, max_size=40))
def test_a_row_gets_the_first_outcome_that_it_fulfils_and_reaches(
    declared: list[Any], drawn: list[Row]
) -> None:
    outcomes = [
        Outcome(
            name=f"outcome {number}",
            where=spelled(where),
            points_min=points_min,
            probability_min=probability_min,
            expected_loss_min=loss_min,
            alert=alert,
        )
        for number, (where, points_min, probability_min, loss_min, alert) in enumerate(declared)
    ]
    expected = [by_hand(declared, row) for row in drawn]
    try:
        policy = policy_of(*outcomes)
    except ConfigError as error:  # what it says is never decided is never decided
        never = int(str(error).split("[")[1].split("]")[0])
        assert never not in {number for number, _ in expected}
        return
    points, probability = (np.array([row[i] for row in drawn]) for i in (2, 3))
    decided = policy.decide(batch_of(drawn), points.astype(np.int64), probability.astype(np.float64))
    assert list(zip(decided.tolist(), policy.alerting(decided).tolist(), strict=True)) == expected


def test_without_outcomes_every_row_passes_and_none_alerts() -> None:
    policy = policy_of()
    decided = policy.decide(batch_of([("pos", 100, 1000, 1.0)] * 3), np.full(3, 1000), np.ones(3))
    assert [policy.names[i] for i in decided.tolist()] == ["approve"] * 3
    assert [policy.texts[i] for i in decided.tolist()] == ["otherwise"] * 3
    assert policy.alerting(decided).tolist() == [False] * 3


def test_a_rule_says_itself_in_the_words_of_a_decision() -> None:
    policy = policy_of(
        Outcome(name="decline", where='channel = "online" and amount >= 12.50', points_min=970),
        Outcome(name="decline", points_min=990, probability_min=0.5),
        Outcome(name="review", expected_loss_min=50),
    )
    assert policy.names == ["decline", "decline", "review", "approve", "approve", "decline"]
    assert policy.texts[:4] == [
        'channel = "online" and amount >= 12.5 and risk_points >= 970',
        "risk_points >= 990 and score >= 0.5",
        "expected_loss >= 50",
        "otherwise",
    ]


@pytest.mark.parametrize(("decimals", "minor", "loss"), [(0, 1234, 617.0), (2, 1234, 6.17), (3, 1234, 0.617)])
def test_the_expected_loss_is_in_major_units_whatever_the_minor_ones_are(
    decimals: int, minor: int, loss: float
) -> None:
    fields = SETTINGS.event.fields
    amount = replace(fields["amount"], decimals=decimals)
    event = replace(SETTINGS.event, fields={**fields, "amount": amount})
    assert expected_loss(batch_of([(None, minor, 0, 0)]), np.array([0.5]), event).tolist() == [loss]
    just = policy_of(Outcome(name="stop", expected_loss_min=loss), settings=replace(SETTINGS, event=event))
    batch = batch_of([(None, minor, 0, 0), (None, minor - 1, 0, 0)])
    assert just.decide(batch, np.zeros(2, np.int64), np.full(2, 0.5)).tolist() == [0, 1]


def test_a_batch_carries_the_fields_that_the_filters_name() -> None:
    policy = policy_of(Outcome(name="stop", where='merchant_city = "Lyon"', points_min=0))
    assert policy.fields_used == {"merchant_city"}
    decoder = Decoder(SETTINGS.event, policy.fields_used)
    row = {
        "transaction_id": "1",
        "event_time": 1_767_225_600_000,
        "card_id": "c",
        "merchant_id": "m",
        "amount": 1,
    }
    columns: dict[str, Sequence[Any]] = {name: [value] * 2 for name, value in row.items()}
    columns["merchant_city"] = ["Lyon", None]
    batch, _ = decoder.decode_columns(columns)
    assert policy.decide(batch, np.zeros(2, np.int64), np.zeros(2)).tolist() == [0, 1]


def test_a_missing_number_fulfils_no_condition() -> None:
    fields = {**SETTINGS.event.fields, "items": replace(SETTINGS.event.fields["amount"], required=False)}
    settings = replace(SETTINGS, event=replace(SETTINGS.event, fields=fields))
    for filtered in ("items < 5", "items != 5"):
        policy = policy_of(Outcome(name="stop", where=filtered, points_min=0), settings=settings)
        batch = batch_of([(None, 1, 0, 0)] * 2)
        batch.measures["items"] = np.array([MISSING, 400])
        assert policy.decide(batch, np.zeros(2, np.int64), np.zeros(2)).tolist() == [1, 0]


WRONG = {
    "no threshold": (
        [Outcome(name="stop")],
        "outcomes[0] (stop): no threshold; give one or more of points_min, probability_min, expected_loss_min",
    ),
    "a filter on a field that is not there": (
        [Outcome(name="stop", points_min=990), Outcome(name="look", where="tip > 5", points_min=900)],
        "outcomes[1].where = 'tip > 5': \"tip\" is not a declared field; declared are transaction_id",
    ),
    "a filter that compares a text": (
        [Outcome(name="stop", where='channel > "online"', points_min=0)],
        'outcomes[0].where = \'channel > "online"\': ">": channel has type category; compare it with =, !=',
    ),
    "points that rise": (
        [Outcome(name="look", points_min=900), Outcome(name="stop", points_min=990)],
        "outcomes[1] (stop, risk_points >= 990): is never decided, since outcomes[0] (look, risk_points >= 900) "
        "takes all of it first; put the stricter one first",
    ),
    "the same twice": (
        [Outcome(name="stop", probability_min=0.5), Outcome(name="look", probability_min=0.5)],
        "outcomes[1] (look, score >= 0.5): is never decided",
    ),
    "a segment behind everything": (
        [Outcome(name="stop", points_min=990), Outcome(name="look", where='channel = "pos"', points_min=995)],
        'outcomes[1] (look, channel = "pos" and risk_points >= 995): is never decided',
    ),
    "two thresholds behind one of them": (
        [Outcome(name="stop", points_min=900), Outcome(name="look", points_min=900, expected_loss_min=5)],
        "outcomes[1] (look, risk_points >= 900 and expected_loss >= 5): is never decided",
    ),
    "anything behind everything": (
        [Outcome(name="stop", expected_loss_min=0), Outcome(name="look", points_min=1000)],
        "outcomes[1] (look, risk_points >= 1000): is never decided",
    ),
    "too many": (
        [Outcome(name="stop", points_min=1000 - i) for i in range(101)],
        "outcomes: 101 are given; 100 at most",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_policy_that_makes_no_sense_is_refused_in_one_line(case: str) -> None:
    outcomes, line = WRONG[case]
    with pytest.raises(ConfigError) as refused:
        policy_of(*outcomes)
    assert str(refused.value).startswith(line)
    assert "\n" not in str(refused.value)


def test_a_looser_outcome_of_another_segment_may_stand_first() -> None:
    online = Outcome(name="stop", where='channel = "online"', points_min=900)
    assert policy_of(online, Outcome(name="stop", points_min=990)).names[:3] == ["stop", "stop", "approve"]


def test_an_outcome_may_let_through_before_others_are_tried() -> None:
    trusted = Outcome(name="approve", where='merchant_id = "m"', points_min=0)
    policy = policy_of(trusted, Outcome(name="stop", points_min=500))
    batch = batch_of([("pos", 1, 0, 0)] * 2)
    batch.texts["merchant_id"] = ["m", "other"]
    decided = policy.decide(batch, np.array([999, 999]), np.ones(2))
    assert [policy.names[i] for i in decided.tolist()] == ["approve", "stop"]
