"""The worker on a memory bus: one decision a transaction, the same as a replay gives, and nothing lost."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from fraudstream.bus.memory import MemoryMessage, MemoryReader, MemorySource
from fraudstream.clock import iso
from fraudstream.errors import BusError, DeadLetterLimitError
from fraudstream.training.replay import ReplayPlan
from fraudstream.training.run import replay_files
from tests.stream.running import (
    RUN,
    BrokenSink,
    MovingSource,
    Running,
    as_messages,
    ce_id,
    contents,
    header,
    label_messages,
    start,
)
from tests.worlds import TinyWorld, ignore

CE_HEADERS = {
    "ce_specversion": "1.0",
    "ce_source": "fraudstream",
    "content-type": "application/json",
    "fraudstream-model": "card_payment/0001",
    "fraudstream-run": RUN,
}


@pytest.fixture(scope="module")
def uninterrupted(tiny_world: TinyWorld) -> Running:
    return start(tiny_world, as_messages(tiny_world.rows)).to_the_end()


def test_every_transaction_gets_exactly_one_decision(tiny_world: TinyWorld, uninterrupted: Running) -> None:
    decisions = uninterrupted.decisions()
    assert [d.transaction_id for d in decisions] == [row["transaction_id"] for row in tiny_world.rows]
    assert [d.event_time_ms for d in decisions] == [row["event_time"] for row in tiny_world.rows]
    assert uninterrupted.sent("dlq") == []


def test_a_decision_carries_the_key_the_position_and_the_model_of_its_transaction(
    tiny_world: TinyWorld, uninterrupted: Running
) -> None:
    messages = uninterrupted.sent("decisions")
    assert [m.key() for m in messages] == [row["card_id"].encode() for row in tiny_world.rows]
    assert [d.sequence for d in uninterrupted.decisions()] == list(range(len(messages)))
    assert [ce_id(m) for m in messages] == [f"fraud.transactions/0/{i}" for i in range(len(messages))]
    for name, value in {**CE_HEADERS, "ce_type": "fraudstream.decision.v1"}.items():
        assert {header(m, name) for m in messages} == {value}


@pytest.mark.parametrize("batch_rows_max", [1, 7, 256, 65_536])
def test_decisions_are_bit_for_bit_those_of_a_replay_whatever_the_batches(
    tiny_world: TinyWorld, tmp_path: Path, batch_rows_max: int
) -> None:
    labels, messages = MemoryReader(label_messages(tiny_world)), as_messages(tiny_world.rows)
    run = start(tiny_world, messages, labels=labels, worker__batch_rows_max=batch_rows_max).to_the_end()
    plan = ReplayPlan(tiny_world.live, tmp_path / "replay.parquet", tiny_world.labels)
    replay_files(tiny_world.settings, plan, ignore)
    replayed = pq.read_table(
        tmp_path / "replay.parquet",
        columns=["transaction_id", "event_time_ms", "outcome", "score", "risk_points"],
    ).to_pylist()
    decided = [msgspec.to_builtins(d) for d in run.decisions()]
    assert [{key: d[key] for key in replayed[0]} for d in decided] == replayed
    assert {d["outcome"] for d in decided} == {"approve", "review", "decline"}


@pytest.mark.parametrize("batch_rows_max", [1, 13, 1024])
def test_what_is_sent_does_not_depend_on_where_batches_are_cut(
    tiny_world: TinyWorld, uninterrupted: Running, batch_rows_max: int
) -> None:
    run = start(tiny_world, as_messages(tiny_world.rows), worker__batch_rows_max=batch_rows_max).to_the_end()
    for topic in ("decisions", "alerts"):
        assert run.sent(topic) == uninterrupted.sent(topic)


def test_an_alert_says_what_its_decision_says_and_stands_for_the_same_transaction(
    tiny_world: TinyWorld, uninterrupted: Running
) -> None:
    decided = {
        ce_id(m): d for m, d in zip(uninterrupted.sent("decisions"), uninterrupted.decisions(), strict=True)
    }
    stopping = {key for key, decision in decided.items() if decision.outcome != "approve"}
    alerts = {ce_id(m): a for m, a in zip(uninterrupted.sent("alerts"), uninterrupted.alerts(), strict=True)}
    rows = {row["transaction_id"]: row for row in tiny_world.rows}

    assert alerts.keys() == stopping != set()
    for key, alert in alerts.items():
        row, decision = rows[alert.transaction_id], msgspec.to_builtins(decided[key])
        assert {name: msgspec.to_builtins(alert)[name] for name in decision} == decision
        assert alert.amount == row["amount"]
        assert alert.currency == row["currency"]
        named = {"card": row["card_id"], "merchant": row["merchant_id"], "device": row["device_id"]}
        assert alert.entities == {kind: text for kind, text in named.items() if text is not None}
    for name, value in {**CE_HEADERS, "ce_type": "fraudstream.alert.v1"}.items():
        assert {header(m, name) for m in uninterrupted.sent("alerts")} == {value}


def test_the_reasons_of_an_alert_add_up_to_its_raw_score(uninterrupted: Running) -> None:
    alerts = uninterrupted.alerts()
    assert len(alerts) > 20
    for alert in alerts:
        added = alert.base + alert.rest + sum(reason.contribution for reason in alert.reasons)
        assert added == pytest.approx(alert.raw_score, abs=1e-9)
        contributions = [reason.contribution for reason in alert.reasons]
        assert contributions == sorted(contributions, reverse=True)
        assert 1 <= len(contributions) <= 5
        assert min(contributions) > 0
        assert all(reason.text for reason in alert.reasons)
        grouped = alert.base + sum(group.contribution for group in alert.groups)
        assert grouped == pytest.approx(alert.raw_score, abs=1e-9)
        assert alert.language == "en"


def test_alerts_are_explained_by_path_beyond_the_budget_and_say_so(tiny_world: TinyWorld) -> None:
    rows = as_messages(tiny_world.rows[:600])
    exact = start(tiny_world, rows).to_the_end()
    quick = start(tiny_world, rows, worker__explain_budget_ms=0).to_the_end()
    shed = start(tiny_world, rows)
    shed.worker.explainer.by_path = True
    for run, method in ((exact, "treeshap"), (quick, "path"), (shed.to_the_end(), "path")):
        alerts = run.alerts()
        assert {alert.method for alert in alerts} == {method}
        assert run.metrics.alerts_explained.labels(method)._value.get() == len(alerts) > 20
        for alert in alerts:
            added = alert.base + alert.rest + sum(reason.contribution for reason in alert.reasons)
            assert added == pytest.approx(alert.raw_score, abs=1e-9)
            assert alert.base + sum(g.contribution for g in alert.groups) == pytest.approx(alert.raw_score)
    assert [d.score for d in quick.decisions()] == [d.score for d in exact.decisions()]


def test_reasons_are_said_in_the_language_that_is_set(tiny_world: TinyWorld) -> None:
    alerts = (
        start(tiny_world, as_messages(tiny_world.rows[:600]), alerts__language="fr").to_the_end().alerts()
    )
    assert {alert.language for alert in alerts} == {"fr"}
    assert "carte" in " ".join(reason.text for alert in alerts for reason in alert.reasons)


@pytest.mark.parametrize("reasons_max", [1, 50])
def test_an_alert_gives_as_many_reasons_as_the_setting_allows(
    tiny_world: TinyWorld, reasons_max: int
) -> None:
    rows = as_messages(tiny_world.rows[:600])
    alerts = start(tiny_world, rows, worker__reasons_max=reasons_max).to_the_end().alerts()
    assert alerts != []
    assert max(len(alert.reasons) for alert in alerts) in range(1, reasons_max + 1)
    for alert in alerts:
        added = alert.base + alert.rest + sum(reason.contribution for reason in alert.reasons)
        assert added == pytest.approx(alert.raw_score, abs=1e-9)


def test_a_trace_goes_on_with_the_decision_and_the_alert(tiny_world: TinyWorld) -> None:
    headers: list[tuple[str, bytes | None]] = [
        ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("tracestate", b"bank=1"),
        ("secret", b"stays"),
    ]
    run = start(tiny_world, as_messages(tiny_world.rows[:600], headers)).to_the_end()
    assert run.alerts() != []
    for message in [*run.sent("decisions"), *run.sent("alerts")]:
        carried = message.headers() or []
        assert [entry for entry in carried if entry in headers] == headers[:2]
        assert "secret" not in dict(carried)


def test_unknown_fields_are_accepted_and_change_nothing(
    tiny_world: TinyWorld, uninterrupted: Running
) -> None:
    rows = [{**row, "note": {"of": ["the", 1, None]}, "ümlaut": "ß"} for row in tiny_world.rows]
    assert start(tiny_world, as_messages(rows)).to_the_end().by_id() == uninterrupted.by_id()


def test_amounts_and_times_may_come_in_every_accepted_form(
    tiny_world: TinyWorld, uninterrupted: Running
) -> None:
    forms = random.Random(5)
    rows = [
        {
            **row,
            "amount": forms.choice([row["amount"], f"{row['amount']:.2f}"]),
            "event_time": forms.choice([row["event_time"], iso(row["event_time"])]),
        }
        for row in tiny_world.rows
    ]
    messages = [
        MemoryMessage(json.dumps(changed).encode(), row["card_id"].encode(), None, 0, i, row["event_time"])
        for i, (row, changed) in enumerate(zip(tiny_world.rows, rows, strict=True))
    ]
    assert start(tiny_world, messages).to_the_end().by_id() == uninterrupted.by_id()


def test_a_worker_after_a_failed_flush_sends_the_same_messages_with_the_same_ids(
    tiny_world: TinyWorld, uninterrupted: Running
) -> None:
    messages = as_messages(tiny_world.rows)
    broken = start(tiny_world, messages, BrokenSink(fails=2), worker__batch_rows_max=100)
    while True:
        try:
            broken.worker.step()
            broken.worker.commit()
        except BusError:
            break
    committed = broken.source.committed[0]
    after = start(tiny_world, MemorySource(messages, emit_from=broken.source.committed)).to_the_end()

    assert committed == 100
    assert len(broken.sent("decisions")) == 200
    first, second = broken.by_id(), after.by_id()
    assert {key: first[key] for key in first.keys() & second.keys()} == {
        key: second[key] for key in first.keys() & second.keys()
    }
    assert first | second == uninterrupted.by_id()


def test_messages_served_before_are_replayed_silently_and_the_rest_decided_as_if_never_stopped(
    tiny_world: TinyWorld, uninterrupted: Running
) -> None:
    messages, served = as_messages(tiny_world.rows), 700
    run = start(tiny_world, MemorySource(messages, emit_from={0: served})).to_the_end()

    expected = {f"fraud.transactions/0/{i}" for i in range(served, len(messages))}
    assert run.by_id() == {key: value for key, value in uninterrupted.by_id().items() if key in expected}
    alerts = uninterrupted.by_id("alerts")
    assert run.by_id("alerts") == {key: value for key, value in alerts.items() if key in expected}
    assert run.worker.pipeline.engine.dump() == uninterrupted.worker.pipeline.engine.dump()
    assert metric(run, "fraudstream_replayed_total") == served
    assert metric(run, "fraudstream_transactions_total") == len(messages) - served


def test_a_worker_is_ready_once_what_was_served_before_is_replayed(tiny_world: TinyWorld) -> None:
    messages = as_messages(tiny_world.rows[:300])
    source = MemorySource(messages, emit_from={0: 150})
    run = start(tiny_world, source, worker__batch_rows_max=100)
    seen = []
    while run.worker.step():
        seen.append((run.worker.ready, run.worker.progress()["replay_left"]))
    assert seen == [(False, {"0": 50}), (True, {"0": 0}), (True, {"0": 0})]


def test_dead_letters_served_before_are_not_sent_again(tiny_world: TinyWorld) -> None:
    messages = as_messages(tiny_world.rows[:100])
    for i in (10, 60):
        messages[i] = MemoryMessage(b"not JSON", b"card", None, 0, i, messages[i].timestamp()[1])
    run = start(tiny_world, MemorySource(messages, emit_from={0: 50}), worker__batch_rows_max=32).to_the_end()
    assert [header(m, "fraudstream.dlq.offset") for m in run.sent("dlq")] == ["60"]
    assert len(run.sent("decisions")) == 49


def test_state_begins_anew_when_partitions_change_hands(
    tiny_world: TinyWorld, uninterrupted: Running
) -> None:
    source = MovingSource(as_messages(tiny_world.rows))
    run = start(tiny_world, source, worker__batch_rows_max=100)
    for committed in (300, 700, 700):
        while run.source._next < committed + 100:
            run.worker.step()
        run.worker.commit()
        source.rebalance(dict(source.committed))
    run.to_the_end()

    assert run.by_id() == uninterrupted.by_id()
    assert run.worker.pipeline.engine.dump() == uninterrupted.worker.pipeline.engine.dump()


def test_partitions_lost_before_their_commit_are_decided_again_with_the_same_ids_and_contents(
    tiny_world: TinyWorld, uninterrupted: Running
) -> None:
    source = MovingSource(as_messages(tiny_world.rows))
    run = start(tiny_world, source, worker__batch_rows_max=100, worker__commit_interval_ms=60_000)
    for _ in range(4):
        run.worker.step()
    committed = dict(source.committed)
    source.rebalance(committed)
    run.to_the_end()

    sent = [(ce_id(m), contents(m)) for m in run.sent("decisions")]
    assert len(sent) == len(tiny_world.rows) + 400 - committed.get(0, 0)
    expected = uninterrupted.by_id()
    assert dict(sent) == expected
    assert [d.sequence for d in run.decisions()] == [*range(400), *range(len(sent) - 400)]
    assert all(expected[key] == said for key, said in sent)


def test_the_worker_stops_before_a_topic_drains_into_the_dead_letters(tiny_world: TinyWorld) -> None:
    messages = as_messages(tiny_world.rows[:1000])
    for i in range(300, 1000):
        messages[i] = MemoryMessage(b'{"another": "format"}', b"card", None, 0, i)
    run = start(
        tiny_world,
        messages,
        worker__batch_rows_max=50,
        worker__dead_letter_window=200,
        worker__dead_letter_rate_max=0.5,
    )
    with pytest.raises(
        DeadLetterLimitError, match=r"dead_letter_rate_max = 0\.5.*\$\.transaction_id"
    ) as stop:
        run.to_the_end()
    run.worker.close()
    assert "\n" not in str(stop.value)
    assert 100 <= len(run.sent("dlq")) <= 150  # over half of the last 200 to 249
    assert run.source.committed == {0: 300 + len(run.sent("dlq"))}
    assert len(run.sent("decisions")) == 300


def test_as_many_dead_letters_as_allowed_do_not_stop_the_worker(tiny_world: TinyWorld) -> None:
    messages = as_messages(tiny_world.rows[:1000])
    for i in range(0, 1000, 2):
        messages[i] = MemoryMessage(b"", b"card", None, 0, i)
    run = start(tiny_world, messages, worker__dead_letter_window=100, worker__dead_letter_rate_max=0.5)
    run.to_the_end()
    assert (len(run.sent("decisions")), len(run.sent("dlq"))) == (500, 500)


def test_the_metrics_count_what_was_sent(tiny_world: TinyWorld) -> None:
    messages = as_messages(tiny_world.rows[:800])
    messages[5] = MemoryMessage(b"?", b"card", None, 0, 5)
    run = start(tiny_world, messages).to_the_end()
    outcomes = [d.outcome for d in run.decisions()]
    for outcome in ("approve", "review", "decline"):
        counted = metric(run, "fraudstream_decisions_total", outcome=outcome)
        assert counted == outcomes.count(outcome)
    assert metric(run, "fraudstream_transactions_total") == 799
    assert metric(run, "fraudstream_dead_letters_total", stage="decode", reason="json") == 1
    alerted = Counter(alert.outcome for alert in run.alerts())
    for outcome in ("review", "decline"):
        counted = metric(run, "fraudstream_alerts_total", outcome=outcome, model="card_payment/0001")
        assert counted == alerted[outcome]
    assert metric(run, "fraudstream_latency_seconds_count") == 799
    assert metric(run, "fraudstream_batch_rows_sum") == 800
    assert metric(run, "fraudstream_model_info", model="card_payment/0001") == 1


def test_a_late_transaction_is_decided_and_flagged(tiny_world: TinyWorld) -> None:
    late = {**tiny_world.rows[0], "transaction_id": "late", "event_time": tiny_world.rows[0]["event_time"]}
    late["event_time"] -= 3 * 86_400_000  # [state] lateness is a day
    run = start(tiny_world, as_messages([*tiny_world.rows[:500], late]), worker__batch_rows_max=100)
    flagged = [d for d in run.to_the_end().decisions() if d.flags]
    assert [(d.transaction_id, d.flags) for d in flagged] == [("late", ("late",))]
    assert metric(run, "fraudstream_flagged_total", flag="late") == 1


def test_a_feature_that_reaches_behind_the_known_history_is_cold_until_it_does_not(
    tiny_world: TinyWorld,
) -> None:
    rows = [dict(row) for row in tiny_world.rows[:300]]
    run = start(tiny_world, as_messages(rows[:200]), state__complete_from="")
    assert run.worker.warmth() == {"features_cold": len(stateful(run)), "warm_at": None}
    while run.worker.step():
        pass
    warmth = run.worker.warmth()
    longest_ms = 37 * 86_400_000  # merchant_fraud_count_30d_lag7d
    assert warmth["warm_at"] == iso(rows[0]["event_time"] + longest_ms)
    assert 0 < int(str(warmth["features_cold"])) < len(stateful(run))
    assert run.worker.progress()["features_cold"] == warmth["features_cold"]
    assert {d.flags for d in run.decisions()} == {("cold",)}
    assert metric(run, "fraudstream_flagged_total", flag="cold") == 200

    rows[-1]["event_time"] = rows[0]["event_time"] + longest_ms
    warm = start(tiny_world, as_messages([rows[0], rows[-1]]), state__complete_from="").to_the_end()
    assert warm.worker.warmth() == {"features_cold": 0, "warm_at": None}
    assert [d.flags for d in warm.decisions()] == [("cold",), ()]


def stateful(run: Running) -> list[str]:
    return [f.name for f in run.worker.pipeline.engine.catalog.features if f.entity != "event"]


def metric(run: Running, name: str, **labels: str) -> float | None:
    return run.metrics.registry.get_sample_value(name, labels)


def test_with_tokens_all_is_decided_as_before_and_no_card_leaves_the_worker(
    tiny_world: TinyWorld, uninterrupted: Running, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("0123456789abcdef", "utf-8")
    fields = dict(tiny_world.settings.event.fields)
    fields["card_id"] = msgspec.structs.replace(fields["card_id"], token=True)
    tokens: dict[str, Any] = {"event__fields": fields, "event__token_key_file": str(tmp_path / "key")}
    run = start(tiny_world, as_messages(tiny_world.rows), **tokens).to_the_end()
    assert run.decisions() == uninterrupted.decisions()
    sent = [*run.sent("decisions"), *run.sent("alerts")]
    cards = {row["card_id"] for row in tiny_world.rows}
    parts = [(m.key(), m.value(), *(value for _, value in m.headers() or [])) for m in sent]
    left = b"".join(part or b"" for all_of_one in parts for part in all_of_one)
    assert [card for card in cards if card.encode() in left] == []
    assert len({m.key() for m in sent}) == len(cards)
    for message, alert in zip(run.sent("alerts"), run.alerts(), strict=True):
        assert message.key() == alert.entities["card"].encode()
