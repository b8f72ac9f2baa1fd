"""What a worker tells of the drift of what it scores."""

from __future__ import annotations

from typing import Any

import pyarrow.parquet as pq
import pytest
from prometheus_client import Gauge
from structlog.testing import capture_logs

from fraudstream.bus.memory import MemorySource
from fraudstream.scoring.drift import SCORE
from fraudstream.stream import drifting, progress
from tests.stream.running import as_messages, start
from tests.worlds import TinyWorld


def told(world: TinyWorld, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    for module, name in ((drifting, "SAMPLE_EVERY_S"), (drifting, "TELL_EVERY_S"), (progress, "EVERY_S")):
        monkeypatch.setattr(module, name, 0.0)
    with capture_logs() as logs:
        history = pq.read_table(world.transactions).to_pylist()
        source = MemorySource(as_messages(history + rows), emit_from={0: len(history)})
        run = start(world, source, worker__batch_rows_max=64).to_the_end()
    return run.metrics, [entry for entry in logs if entry["event"] == "feature_shifted"]


def values(gauge: Gauge) -> dict[str, float]:
    return {sample.labels["feature"]: sample.value for metric in gauge.collect() for sample in metric.samples}


def test_a_stream_like_the_training_has_not_shifted(
    tiny_world: TinyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics, warned = told(tiny_world, tiny_world.rows, monkeypatch)
    psi = values(metrics.drift_psi)
    assert psi["amount"] < 0.1
    assert psi[SCORE] < 0.25
    steady = {entry["feature"] for entry in warned} & {"amount", "channel", "hour_of_day", SCORE}
    assert not steady  # the windows of 30 days are longer in this young world now than in the training
    assert sum(values(metrics.drift_gain).values()) == pytest.approx(2)  # all features, and the score


def test_a_feature_that_shifts_is_warned_of_once_with_its_weight(
    tiny_world: TinyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics, warned = told(
        tiny_world, [row | {"amount": row["amount"] * 10} for row in tiny_world.rows], monkeypatch
    )
    assert values(metrics.drift_psi)["amount"] > 0.5
    (warning,) = [entry for entry in warned if entry["feature"] == "amount"]
    assert warning["psi"] > 0.25
    assert warning["gain"] == pytest.approx(values(metrics.drift_gain)["amount"], abs=0.001)


def test_too_few_rows_tell_nothing(tiny_world: TinyWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics, warned = told(tiny_world, tiny_world.rows[: drifting.ROWS_MIN - 1], monkeypatch)
    assert values(metrics.drift_psi) == {}
    assert not warned
