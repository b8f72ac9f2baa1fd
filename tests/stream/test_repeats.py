"""A transaction that comes again: it changes nothing, and gets its first decision once more."""

from __future__ import annotations

from typing import Any

import pytest

from fraudstream.bus.memory import MemorySource
from fraudstream.records import Decision
from tests.stream.running import Running, as_messages, ce_id, contents, header, start
from tests.worlds import TinyWorld

ROWS = 600


def with_repeats(rows: list[dict[str, Any]], behind: dict[int, int]) -> list[dict[str, Any]]:
    """Return rows in which the row at each key comes again as so many rows later as its value says."""
    again = sorted(((at + later, rows[at]) for at, later in behind.items()), key=lambda pair: -pair[0])
    rows = list(rows)
    for place, row in again:
        rows.insert(place + 1, row)
    return rows


def alerting(world: TinyWorld) -> list[int]:
    decided = start(world, as_messages(world.rows[:ROWS])).to_the_end().decisions()
    return [i for i, decision in enumerate(decided) if decision.outcome != "approve"]


def same_decision(decision: Decision) -> tuple[str, str, float, int, str]:
    return decision.outcome, decision.rule, decision.score, decision.risk_points, decision.model


@pytest.mark.parametrize("batch_rows_max", [1, 7, 65_536])
def test_a_repeated_transaction_gets_its_first_decision_and_changes_nothing(
    tiny_world: TinyWorld, batch_rows_max: int
) -> None:
    rows = tiny_world.rows[:ROWS]
    chosen = [3, 250, alerting(tiny_world)[0], ROWS - 1]
    sent = with_repeats(rows, dict(zip(chosen, [1, 0, 2, 0], strict=True)))
    assert len(sent) == ROWS + len(chosen)
    run = start(tiny_world, as_messages(sent), worker__batch_rows_max=batch_rows_max).to_the_end()
    alone = start(tiny_world, as_messages(rows)).to_the_end()

    first = {d.transaction_id: d for d in alone.decisions()}
    repeated = [d for d in run.decisions() if "repeated" in d.flags]
    assert {d.transaction_id for d in repeated} == {rows[i]["transaction_id"] for i in chosen}
    assert len(repeated) == len(chosen)
    for decision in repeated:
        once = first[decision.transaction_id]
        assert same_decision(decision) == same_decision(once)
        assert decision.flags == (*once.flags, "repeated")
        assert decision.features_hash == ""
    assert {d.transaction_id: d.features_hash for d in run.decisions() if "repeated" not in d.flags} == {
        key: decision.features_hash for key, decision in first.items()
    }
    assert run.worker.pipeline.engine.dump() == alone.worker.pipeline.engine.dump()
    assert len(run.alerts()) == len(alone.alerts())
    assert sorted(int(ce_id(m).rsplit("/", 1)[1]) for m in run.sent("decisions")) == list(range(len(sent)))
    assert sorted(d.sequence for d in run.decisions()) == list(range(len(sent)))
    flagged = run.metrics.registry.get_sample_value("fraudstream_flagged_total", {"flag": "repeated"})
    assert flagged == len(chosen)
    assert run.metrics.registry.get_sample_value("fraudstream_transactions_total") == len(sent)


def test_a_transaction_that_comes_three_times_is_the_same_each_time(tiny_world: TinyWorld) -> None:
    row = tiny_world.rows[alerting(tiny_world)[0]]
    run = start(tiny_world, as_messages([row] * 3), worker__batch_rows_max=2).to_the_end()
    assert [d.flags for d in run.decisions()] == [(), ("repeated",), ("repeated",)]
    assert len({d.score for d in run.decisions()}) == 1
    assert len(run.alerts()) <= 1


def test_behind_the_horizon_the_same_id_is_a_new_transaction(tiny_world: TinyWorld) -> None:
    rows = tiny_world.rows[:2000]
    later = next(i for i, row in enumerate(rows) if row["event_time"] > rows[0]["event_time"] + 3_600_000)
    run = start(tiny_world, as_messages([*rows[: later + 1], rows[0]]), worker__batch_rows_max=1).to_the_end()
    assert run.decisions()[-1].flags == ()


def test_repeats_may_be_turned_off(tiny_world: TinyWorld) -> None:
    row = tiny_world.rows[0]
    run = start(tiny_world, as_messages([row] * 3), state__repeat_horizon="0s").to_the_end()
    assert [d.flags for d in run.decisions()] == [(), (), ()]


@pytest.fixture
def restarted(tiny_world: TinyWorld) -> tuple[Running, Running]:
    """A worker that gets the last of the 300 rows again which another one served; and one without the repeats."""
    rows = tiny_world.rows[:300]
    messages = as_messages([*rows, rows[-1], *tiny_world.rows[300:310], rows[-1]])
    run = start(
        tiny_world,
        MemorySource(messages, emit_from={0: 300}),
        worker__batch_rows_max=5,
        alerts__case_period="0s",
    )
    alone = start(tiny_world, as_messages(tiny_world.rows[:310]))
    return run.to_the_end(), alone.to_the_end()


def test_where_the_first_decision_is_not_known_the_features_are_looked_at_anew(
    restarted: tuple[Running, Running], tiny_world: TinyWorld
) -> None:
    run, alone = restarted
    again = [d for d in run.decisions() if "repeated" in d.flags]
    assert [d.transaction_id for d in again] == [tiny_world.rows[299]["transaction_id"]] * 2
    assert len(again[0].features_hash) == 16  # looked at
    assert again[1].features_hash == ""  # and remembered
    assert again[0].score == again[1].score
    assert run.worker.pipeline.engine.dump() == alone.worker.pipeline.engine.dump()


def test_what_is_repeated_among_what_was_served_before_is_absorbed_once(tiny_world: TinyWorld) -> None:
    rows = tiny_world.rows[:300]
    sent = as_messages(with_repeats(rows, {10: 0, 200: 3}))
    run = start(tiny_world, MemorySource(sent, emit_from={0: len(sent)})).to_the_end()
    assert run.sent("decisions") == []
    alone = start(tiny_world, as_messages(rows)).to_the_end()
    assert run.worker.pipeline.engine.dump() == alone.worker.pipeline.engine.dump()


def test_a_repeat_that_was_served_before_is_not_decided_again(tiny_world: TinyWorld) -> None:
    rows = tiny_world.rows[:20]
    sent = as_messages([rows[0], rows[0], *rows[1:]])
    run = start(tiny_world, MemorySource(sent, emit_from={0: 2})).to_the_end()
    assert [d.transaction_id for d in run.decisions()] == [row["transaction_id"] for row in rows[1:]]
    for message in run.sent("decisions"):
        assert contents(message)["flags"] == []
        assert header(message, "ce_type") == "fraudstream.decision.v1"
