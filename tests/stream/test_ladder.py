"""A worker that is behind leaves things out in their order, says so, and takes them up again."""

from __future__ import annotations

from typing import Any

import pytest

from fraudstream.metrics import WorkerMetrics
from fraudstream.scoring import Model
from fraudstream.sections import DegradationSettings
from fraudstream.stream.ladder import STEPS, Ladder
from tests.stream.running import as_messages, contents, start
from tests.worlds import TinyWorld


def ladder(**limits: int) -> Ladder:
    usual: dict[str, Any] = {"explanations_lag": 100, "shadow_lag": 200, "batches_lag": 400}
    settings = DegradationSettings(**(usual | limits), batch_rows_max=500, on_failure="stop")
    return Ladder(settings, WorkerMetrics())


@pytest.mark.parametrize(
    ("lags", "shed"),
    [
        ([99], ()),
        ([100], STEPS[:1]),
        ([399], STEPS[:2]),
        ([400], STEPS),
        ([400, 200], STEPS),
        ([400, 199], STEPS[:2]),
        ([400, 50], STEPS[:1]),
        ([400, 49], ()),
        ([400, 49, 99], ()),
    ],
)
def test_steps_are_taken_at_their_limit_and_left_below_half_of_it(
    lags: list[int], shed: tuple[str, ...]
) -> None:
    one = ladder()
    for lag in lags:
        one.look(lag)
    assert one.shed == shed
    for step in STEPS:
        assert one.metrics.degraded.labels(step)._value.get() == (step in shed)
    assert one.rows_max(64) == (500 if "batches" in shed else 64)


def test_a_limit_of_nought_is_none() -> None:
    one = ladder(explanations_lag=0, batches_lag=0)
    one.look(10**9)
    assert one.shed == ("shadow",)


def test_decisions_say_what_was_left_out_and_are_the_same(tiny_world: TinyWorld) -> None:
    rows = tiny_world.rows[:600]
    usual = start(tiny_world, as_messages(rows)).to_the_end()
    behind = start(
        tiny_world, as_messages(rows), worker__batch_rows_max=50, degradation__explanations_lag=300
    )
    behind.to_the_end()
    said = [contents(m) for m in behind.sent("decisions")]
    shed = [one.pop("shed", None) for one in said]
    assert said == [contents(m) for m in usual.sent("decisions")]
    assert ["explanations"] in shed


@pytest.mark.parametrize(
    ("on_failure", "outcome", "score"), [("open", "approve", 0.0), ("closed", "decline", 1.0)]
)
def test_what_cannot_be_scored_is_decided_open_or_closed_as_it_is_set(
    tiny_world: TinyWorld, monkeypatch: pytest.MonkeyPatch, on_failure: str, outcome: str, score: float
) -> None:
    run = start(tiny_world, as_messages(tiny_world.rows[:50]), degradation__on_failure=on_failure)

    def fails(*_: object) -> None:
        raise RuntimeError("no score")

    monkeypatch.setattr(Model, "raw_scores", fails)
    run.to_the_end()
    assert len(run.decisions()) == 50
    for said in run.decisions():
        assert (said.outcome, said.score, said.rule) == (outcome, score, f"fail_{on_failure}")
        assert "unscored" in said.flags
    assert run.alerts() == []
    assert run.metrics.unscored.labels(on_failure)._value.get() == 50


def test_what_cannot_be_scored_ends_the_worker_unless_it_is_set(
    tiny_world: TinyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start(tiny_world, as_messages(tiny_world.rows[:50]))

    def fails(*_: object) -> None:
        raise RuntimeError("no score")

    monkeypatch.setattr(Model, "raw_scores", fails)
    with pytest.raises(RuntimeError, match="no score"):
        run.to_the_end()
    assert run.sent("decisions") == []
