"""Scored files and labels against a slow twin over plain rows; what is wrong is said in one line."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from fraudstream.errors import ConfigError
from fraudstream.sections import Settings
from fraudstream.settings import load_settings
from fraudstream.simulate import DAY_MS
from fraudstream.training.promised import PROMISED, promises_of_files
from fraudstream.training.replay import ReplayPlan
from fraudstream.training.run import replay_files
from tests.worlds import LIVE_MS, START_MS, TinyWorld, ignore, write_rows

MATURITY_MS = 30 * DAY_MS
SETTINGS = load_settings(environment={})


def scored(number: int, days: float, points: int, **more: Any) -> dict[str, Any]:
    row = {
        "transaction_id": f"t{number}",
        "event_time_ms": START_MS + round(days * DAY_MS),
        "score": points / 1000,
        "risk_points": points,
        "repeated": False,
        "entity_card": f"c{number % 3}",
        "entity_merchant": "m",
        "entity_device": None if number % 2 else "d",
    }
    return row | more


def label(number: int, what: str, days: float) -> dict[str, Any]:
    return {"transaction_id": f"t{number}", "label": what, "known_at": START_MS + round(days * DAY_MS)}


def judged(
    folder: Path,
    rows: list[dict[str, Any]],
    labels: list[dict[str, Any]],
    as_of_days: float | None = 60,
    settings: Settings = SETTINGS,
) -> dict[str, Any]:
    as_of_ms = None if as_of_days is None else START_MS + round(as_of_days * DAY_MS)
    files = write_rows(rows, folder / "scored.ndjson"), write_rows(labels, folder / "labels.ndjson")
    return promises_of_files(settings, *files, as_of_ms, PROMISED, ignore)


def counts(period: dict[str, Any]) -> tuple[int, ...]:
    names = ("transactions", "mature", "labelled", "frauds", "legitimate")
    return tuple(period[name] for name in names)


def false_positives(period: dict[str, Any]) -> list[tuple[int, int]]:
    return [(each["points"], each["met"]["hits"]) for each in period["false_positives"]]


def test_only_what_is_mature_and_was_known_by_then_counts(tmp_path: Path) -> None:
    rows = [
        scored(0, 1, 995),  # no label: legitimate
        scored(1, 2, 995),  # fraud
        scored(2, 3, 995),  # fraud, but that is known later
        scored(3, 8, 980),  # fraud, taken back
        scored(4, 9, 949),
        scored(4, 9.5, 949, repeated=True),
        scored(5, 31, 995),  # not mature on day 60
    ]
    labels = [
        label(1, "fraud", 20),
        label(2, "fraud", 61),
        label(3, "fraud", 20),
        label(3, "legit", 30),
        label(5, "fraud", 40),
    ]
    found = judged(tmp_path, rows, labels)
    assert [counts(week) for week in found["weeks"]] == [(3, 3, 1, 1, 2), (2, 2, 1, 0, 2), (1, 0, 0, 0, 0)]
    assert counts(found["all"]) == (6, 5, 2, 1, 4)
    assert false_positives(found["weeks"][0]) == [(990, 2), (975, 2), (950, 2)]
    assert false_positives(found["weeks"][1]) == [(990, 0), (975, 1), (950, 1)]
    assert found["weeks"][2]["false_positives"] == []
    assert found["weeks"][2]["calibration"] is None
    assert found["weeks"][1]["from"] == "2024-01-09T00:00:00.000Z"


def test_without_an_instant_all_is_mature(tmp_path: Path) -> None:
    found = judged(tmp_path, [scored(0, 1, 5), scored(1, 31, 5)], [label(1, "fraud", 61)], as_of_days=None)
    assert counts(found["all"]) == (2, 2, 1, 1, 1)


def test_a_device_that_is_not_named_is_no_cluster(tmp_path: Path) -> None:
    rows = [
        scored(i, 1, 995 if i < 200 else 0, entity_card=f"c{i}", entity_merchant=f"m{i}", entity_device=None)
        for i in range(400)
    ]
    tens = [row | {"entity_device": f"d{i // 10}"} for i, row in enumerate(rows)]
    effects = [
        judged(tmp_path, each, [label(0, "legit", 2)])["all"]["false_positives"][0]["met"]["design_effect"]
        for each in (rows, tens)
    ]
    assert effects == [pytest.approx(1, abs=0.01), pytest.approx(10, rel=0.05)]


def test_a_replay_of_the_world_is_judged_as_its_slow_twin_says(tiny_world: TinyWorld, tmp_path: Path) -> None:
    settings = tiny_world.settings_with()
    replay_files(
        settings, ReplayPlan(tiny_world.live, tmp_path / "scored.parquet", tiny_world.labels), ignore
    )
    as_of_ms = LIVE_MS + 9 * DAY_MS
    found = promises_of_files(
        settings, tmp_path / "scored.parquet", tiny_world.labels, as_of_ms, [0.1, 0.01], ignore
    )

    said: dict[str, str] = {}
    for entry in sorted(pq.read_table(tiny_world.labels).to_pylist(), key=lambda entry: entry["known_at"]):
        if entry["known_at"] <= as_of_ms:
            said[entry["transaction_id"]] = entry["label"]
    tally: dict[str, float] = defaultdict(float)
    for row in pq.read_table(tmp_path / "scored.parquet").to_pylist():
        if row["event_time_ms"] + settings.labels.maturity_ms > as_of_ms:
            continue
        fraud = said.get(row["transaction_id"]) == "fraud"
        tally["mature"] += 1
        tally["frauds"] += fraud
        tally["squares"] += (row["score"] - fraud) ** 2
        tally["600"] += not fraud and row["risk_points"] >= 600
        tally["950"] += not fraud and row["risk_points"] >= 950
    everything = found["all"]
    assert 0 < tally["mature"] < everything["transactions"]
    assert (everything["mature"], everything["frauds"]) == (tally["mature"], tally["frauds"])
    assert false_positives(everything) == [(600, tally["600"]), (950, tally["950"])]
    assert everything["calibration"]["brier"] == pytest.approx(tally["squares"] / tally["mature"])
    assert sum(each["transactions"] for each in everything["reliability"]) == tally["mature"]
    assert found["clusters"] == ["card", "merchant", "device"]


def test_what_cannot_be_judged_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^.*: none of 1 transactions is mature at 2024-01-31T.*labels\.maturity$"
    ):
        judged(tmp_path, [scored(0, 1, 5)], [label(0, "fraud", 2)], as_of_days=30.9)
    with pytest.raises(ConfigError, match=r"has no column entity_card; needed are"):
        judged(
            tmp_path,
            [{k: v for k, v in scored(0, 1, 5).items() if k != "entity_card"}],
            [label(0, "fraud", 2)],
        )
    with pytest.raises(ConfigError, match=r"risk_points: 1 of the rows have none; give what"):
        judged(tmp_path, [scored(0, 1, 5), scored(1, 1, 5, risk_points=None)], [label(0, "fraud", 2)])
    files = tmp_path / "scored.ndjson", tmp_path / "labels.ndjson"
    with pytest.raises(
        ConfigError, match=r"^--rate 0\.002: no risk points promise it; give one of 0\.1, 0\.07, "
    ):
        promises_of_files(SETTINGS, *files, None, [0.002], ignore)
