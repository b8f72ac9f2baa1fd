"""Bad transactions: every one becomes a dead letter that says why, and its neighbours do not notice."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from fraudstream.bus.base import Headers
from fraudstream.bus.memory import MemoryMessage
from fraudstream.errors import RecordError
from tests.stream.bad import BAD, NULL_KEY, REQUIRED
from tests.stream.running import Running, as_messages, header, start
from tests.worlds import TinyWorld

GOOD = "good"
NULL_KEYED = "null key"
NAMES = ("topic", "partition", "offset", "stage", "path", "reason")


@dataclass(frozen=True)
class Sent:
    """A message as it was sent, and which kind it is."""

    kind: str
    message: MemoryMessage

    @property
    def path(self) -> str:
        return NULL_KEY[0] if self.kind == NULL_KEYED else BAD[self.kind][0]


def made(world: TinyWorld, kinds: Sequence[str], headers: Sequence[Headers | None] = (None,)) -> list[Sent]:
    """Return one message for each kind; the good ones are the world's transactions in their order."""
    rows, sent, good = world.rows, [], 0
    for i, kind in enumerate(kinds):
        row = rows[good % len(rows)]
        key: bytes | None = row["card_id"].encode()
        value: bytes | None = json.dumps(row).encode()
        if kind == GOOD:
            good += 1
        elif kind == NULL_KEYED:
            key = None
        else:
            value = BAD[kind][1](row)
        message = MemoryMessage(value, key, headers[i % len(headers)], 0, i, row["event_time"])
        sent.append(Sent(kind, message))
    return sent


def assert_nothing_lost(run: Running, messages: Sequence[MemoryMessage]) -> None:
    """Fail unless each message became exactly one decision or one dead letter with its bytes untouched."""
    decided = [header(m, "ce_id").rsplit("/", 1)[1] for m in run.sent("decisions")]
    dead = [header(m, "fraudstream.dlq.offset") for m in run.sent("dlq")]
    assert sorted(map(int, decided + dead)) == list(range(len(messages)))
    for letter, offset in zip(run.sent("dlq"), map(int, dead), strict=True):
        original = messages[offset]
        assert (letter.value(), letter.key()) == (original.value(), original.key())
        headers = letter.headers() or []
        assert headers[: len(headers) - len(NAMES)] == list(original.headers() or [])
        assert [name for name, _ in headers[-len(NAMES) :]] == [f"fraudstream.dlq.{name}" for name in NAMES]
    assert run.source.committed == ({0: len(messages)} if messages else {})


def assert_reasons_name_their_field(run: Running, sent: Sequence[Sent]) -> None:
    bad = [one for one in sent if one.kind != GOOD]
    told = [
        (one.kind, header(letter, "fraudstream.dlq.path"))
        for one, letter in zip(bad, run.sent("dlq"), strict=True)
    ]
    assert told == [(one.kind, one.path) for one in bad]
    for letter in run.sent("dlq"):
        assert header(letter, "fraudstream.dlq.topic") == "fraud.transactions"
        assert header(letter, "fraudstream.dlq.stage") == "decode"
        assert 0 < len(header(letter, "fraudstream.dlq.reason")) < 300
        assert "\n" not in header(letter, "fraudstream.dlq.reason")


def decided_by_id(run: Running) -> dict[str, Any]:
    return {decision.transaction_id: decision for decision in run.decisions()}


@pytest.mark.parametrize("kind", [*BAD, NULL_KEYED])
def test_a_bad_transaction_becomes_a_dead_letter_and_its_neighbours_are_decided(
    tiny_world: TinyWorld, kind: str
) -> None:
    sent = made(tiny_world, [GOOD, GOOD, kind, GOOD, kind, GOOD])
    run = start(tiny_world, [one.message for one in sent]).to_the_end()
    alone = start(tiny_world, as_messages(tiny_world.rows[:4])).to_the_end()

    assert_nothing_lost(run, [one.message for one in sent])
    assert_reasons_name_their_field(run, sent)
    assert run.decisions() == alone.decisions()
    assert run.worker.pipeline.engine.dump() == alone.worker.pipeline.engine.dump()


def test_a_null_key_is_accepted_where_the_settings_say_so(tiny_world: TinyWorld) -> None:
    sent = made(tiny_world, [GOOD, NULL_KEYED, GOOD])
    run = start(tiny_world, [one.message for one in sent], event__null_key="accept").to_the_end()
    assert run.sent("dlq") == []
    assert [m.key() for m in run.sent("decisions")] == [one.message.key() for one in sent]


header_lists: st.SearchStrategy[Headers | None] = st.none() | st.lists(
    st.tuples(st.text(max_size=8), st.none() | st.binary(max_size=8)), max_size=3
)
kinds = st.lists(st.sampled_from([*BAD, NULL_KEYED]) | st.just(GOOD), max_size=60)


@given(kinds, st.lists(header_lists, min_size=1, max_size=5), st.integers(1, 64))
def test_no_bad_transaction_is_lost_or_disturbs_a_good_one(
    tiny_world: TinyWorld, drawn: list[str], headers: list[Headers | None], batch_rows_max: int
) -> None:
    sent = made(tiny_world, drawn, headers)
    messages = [one.message for one in sent]
    run = start(tiny_world, messages, worker__batch_rows_max=batch_rows_max).to_the_end()
    alone = start(tiny_world, as_messages(tiny_world.rows[: drawn.count(GOOD)])).to_the_end()

    assert_nothing_lost(run, messages)
    assert_reasons_name_their_field(run, sent)
    assert run.decisions() == alone.decisions()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def anything(draw: st.DrawFn, rows: list[dict[str, Any]]) -> MemoryMessage:
    """Draw bytes of any kind: a transaction with a field replaced by anything, JSON of any shape, noise."""
    row = draw(st.sampled_from(rows))
    value: bytes | None = json.dumps(row).encode()
    how = draw(st.sampled_from(["field", "field", "field", "cut", "byte", "json", "noise", "none"]))
    if how == "field":
        value = json.dumps({**row, draw(st.sampled_from(list(row))): draw(json_values)}).encode()
    elif how == "json":
        value = json.dumps(draw(json_values)).encode()
    elif how == "noise":
        value = draw(st.binary(max_size=64))
    elif how == "none":
        value = None
    elif value is not None:
        at = draw(st.integers(0, len(value) - 1))
        value = value[:at] + (
            value[at + 1 :] if how == "cut" else bytes([draw(st.integers(0, 255))]) + value[at + 1 :]
        )
    return MemoryMessage(value, draw(st.none() | st.binary(max_size=8)), draw(header_lists))


@given(st.data(), st.integers(1, 16))
def test_whatever_is_sent_becomes_a_decision_or_a_dead_letter(
    tiny_world: TinyWorld, data: st.DataObject, batch_rows_max: int
) -> None:
    drawn = data.draw(st.lists(anything(tiny_world.rows[:20]), max_size=20))
    messages = [MemoryMessage(m.value(), m.key(), m.headers(), 0, i) for i, m in enumerate(drawn)]
    run = start(tiny_world, messages, worker__batch_rows_max=batch_rows_max).to_the_end()
    assert_nothing_lost(run, messages)
    scores = [decision.score for decision in run.decisions()]
    assert all(0 <= score <= 1 for score in scores)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_thousands_of_damaged_transactions_are_all_accounted_for(tiny_world: TinyWorld, seed: int) -> None:
    chance = random.Random(seed)
    messages = []
    for i in range(3_000):
        row = tiny_world.rows[i % len(tiny_world.rows)]
        value = bytearray(json.dumps(row).encode())
        for _ in range(chance.choice([0, 1, 1, 2, 5])):
            at = chance.randrange(len(value))
            if chance.random() < 0.5:
                value[at] = chance.randrange(256)
            else:
                del value[at : at + chance.choice([1, 1, 3, 40])]
            value = value or bytearray(b"{")
        key = chance.choice([b"card", b"card", b"card", None])
        messages.append(MemoryMessage(bytes(value), key, [("n", b"%d" % i)], 0, i, row["event_time"]))
    run = start(tiny_world, messages).to_the_end()

    assert_nothing_lost(run, messages)
    assert len(run.sent("decisions")) > 300
    assert len(run.sent("dlq")) > 1000


@settings(max_examples=20)
@given(st.lists(st.sampled_from([*BAD, GOOD, GOOD, GOOD]), min_size=1, max_size=40), st.integers(0, 40))
def test_bad_transactions_served_before_leave_no_trace_in_a_rebuilt_state(
    tiny_world: TinyWorld, drawn: list[str], served: int
) -> None:
    sent = made(tiny_world, drawn)
    run = start(tiny_world, [one.message for one in sent], worker__batch_rows_max=7)
    run.source.emit_from = {0: served}
    run.to_the_end()
    whole = start(tiny_world, [one.message for one in sent]).to_the_end()

    assert run.worker.pipeline.engine.dump() == whole.worker.pipeline.engine.dump()
    later = whole.decisions()[drawn[:served].count(GOOD) :]
    assert run.decisions() == [structs.replace(decision, sequence=at) for at, decision in enumerate(later)]
    assert len(run.sent("dlq")) == len(drawn[served:]) - drawn[served:].count(GOOD)


def test_dead_letters_are_counted_by_the_kind_of_reason(tiny_world: TinyWorld) -> None:
    sent = made(tiny_world, [*BAD, NULL_KEYED])
    run = start(tiny_world, [one.message for one in sent]).to_the_end()
    counted = {
        kind: run.metrics.registry.get_sample_value(
            "fraudstream_dead_letters_total", {"stage": "decode", "reason": kind}
        )
        for kind in RecordError.kinds
    }
    assert sum(number or 0 for number in counted.values()) == len(sent)
    assert counted.pop("schema") == 0, "JSON names none"
    assert all(counted.values()), "there is one of each other kind"
    assert (counted["key"], counted["size"], counted["future"]) == (1, 1, 2)
    assert counted["missing"] == len(REQUIRED) + 1  # and an empty card
