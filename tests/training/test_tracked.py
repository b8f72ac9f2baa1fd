"""`quality_of_files`: decisions and labels in files, judged as of an instant."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fraudstream.console.quality_report import quality_report_of
from fraudstream.errors import ConfigError
from fraudstream.ledger import read_labels
from fraudstream.scoring.tracking import DAY_MS, NEVER_MS
from fraudstream.training.replay import ReplayPlan
from fraudstream.training.run import replay_files
from fraudstream.training.tracked import quality_of_files, reports_of
from tests.cli.running import fraudstream
from tests.worlds import LIVE_MS, TinyWorld, ignore, write_rows


def label(transaction: str, kind: str, known_at: int) -> dict[str, Any]:
    return {"transaction_id": transaction, "label": kind, "known_at": known_at}


def test_a_report_counts_from_when_it_stands(tiny_world: TinyWorld, tmp_path: Path) -> None:
    said = [
        label("a", "fraud", 5), label("a", "fraud", 9),
        label("b", "fraud", 5), label("b", "legit", 7),
        label("c", "fraud", 5), label("c", "legit", 7), label("c", "fraud", 8),
        label("d", "legit", 3),
    ]  # fmt: skip
    known = read_labels(write_rows(said, tmp_path / "labels.ndjson"), {})
    event = tiny_world.settings.event
    table = pa.table({"transaction_id": list("abcde"), "event_time_ms": [1] * 5})
    times, labelled = reports_of(table, known, event)
    assert times.tolist() == [5, NEVER_MS, 8, NEVER_MS, NEVER_MS]
    assert labelled.tolist() == [True, True, True, True, False]
    assert reports_of(table.slice(1, 1), known.as_of(6), event)[0].tolist() == [5]


@pytest.fixture(scope="module")
def scored(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("scored") / "scored.parquet"
    replay_files(tiny_world.settings, ReplayPlan(tiny_world.live, to, tiny_world.labels), ignore)
    return to


def test_days_and_totals_of_a_replay_add_up(tiny_world: TinyWorld, scored: Path) -> None:
    settings = tiny_world.settings
    early = quality_of_files(settings, scored, tiny_world.labels, LIVE_MS + 5 * DAY_MS, ignore)["models"][
        "all"
    ]
    late = quality_of_files(settings, scored, tiny_world.labels, LIVE_MS + 900 * DAY_MS, ignore)["models"][
        "all"
    ]
    assert late["provisional"] is None
    assert late["mature"]["transactions"] == len(tiny_world.rows)
    assert early["mature"] is None or early["mature"]["transactions"] < len(tiny_world.rows)
    for found in (early, late):
        whole = [part for part in (found["mature"], found["provisional"]) if part]
        for name in ("transactions", "alerts", "frauds", "frauds_alerted"):
            assert sum(day[name] for day in found["days"]) == sum(part[name] for part in whole)
    assert early["provisional"]["frauds"] <= early["provisional"]["frauds_expected"]


def test_a_day_before_all_decisions_is_refused(tiny_world: TinyWorld, scored: Path) -> None:
    with pytest.raises(ConfigError, match=r"none of \d+ transactions is there by 2023"):
        quality_of_files(tiny_world.settings, scored, tiny_world.labels, LIVE_MS - 365 * DAY_MS, ignore)


def test_the_command_tells_days_and_totals(tiny_world: TinyWorld, scored: Path) -> None:
    arguments = ("quality", "-c", tiny_world.config, "--scored", scored, "--labels", tiny_world.labels)
    shown = fraudstream(*arguments, "--as-of", "2024-02-14")
    assert (shown.code, shown.err) == (0, "")
    assert "~ 2024-02-10" in shown.out
    told = fraudstream(*arguments, "--json").last_object()
    assert told["models"]["all"]["mature"]["transactions"] == len(tiny_world.rows)
    assert fraudstream(*arguments, "--as-of", "soon").code == 2


def test_segments_add_up_to_the_whole_and_stand_in_the_page(tiny_world: TinyWorld, tmp_path: Path) -> None:
    settings = tiny_world.settings_with(quality__segment="channel")
    scored = tmp_path / "scored.parquet"
    replay_files(settings, ReplayPlan(tiny_world.live, scored, tiny_world.labels), ignore)
    found = quality_of_files(settings, scored, tiny_world.labels, LIVE_MS + 9 * DAY_MS, ignore)
    of_model = found["models"]["all"]
    assert len(of_model["segments"]) > 1
    for name in ("mature", "provisional"):
        parts = [part[name] for part in of_model["segments"].values() if part[name]]
        for figure in ("transactions", "alerts", "frauds", "frauds_alerted"):
            assert sum(part[figure] for part in parts) == of_model[name][figure]
    by_channel = Counter(row["channel"] for row in tiny_world.rows)
    assert set(of_model["segments"]) == set(by_channel)
    html = quality_report_of(found | {"models": {"<all>": of_model}})
    assert "<all>" not in html
    assert all(day["day"] in html for day in of_model["days"])
    assert all(f"<td>{channel}</td>" in html for channel in by_channel)
    assert html.count("<svg") == html.count("</svg>") == 2
