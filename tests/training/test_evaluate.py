"""Models judged on the world's outcomes, against a slow twin over plain rows; the report as a reader opens it."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from fraudstream.console.report import report_of
from fraudstream.errors import ConfigError
from fraudstream.scoring.quality import card_precision_at_k, quality
from fraudstream.simulate import DAY_MS
from fraudstream.training.judge import Request, evaluate_files
from fraudstream.training.replay import ReplayPlan
from fraudstream.training.run import replay_files
from tests.worlds import LIVE_MS, START_MS, TinyWorld, ignore

FROM_MS = START_MS + 24 * DAY_MS
MODEL = "card_payment/0001"
SEGMENTS = ("channel", "amount >= 100")


@pytest.fixture(scope="module")
def found(tiny_world: TinyWorld) -> dict[str, Any]:
    request = Request(
        labels=tiny_world.labels,
        transactions=tiny_world.transactions,
        from_ms=FROM_MS,
        as_of_ms=LIVE_MS,
        segments=SEGMENTS,
        cards_a_day=5,
        resamples=20,
    )
    return evaluate_files(tiny_world.settings, request, ignore)


@pytest.fixture(scope="module")
def scored(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scored") / "scored.parquet"
    plan = ReplayPlan(tiny_world.transactions, path, tiny_world.labels, FROM_MS)
    replay_files(tiny_world.settings, plan, ignore)
    return path


def slow_rows(world: TinyWorld, scored: Path) -> list[dict[str, Any]]:
    """The mature rows of the replay with what was known of them."""
    said: dict[str, str] = {}
    for entry in sorted(pq.read_table(world.labels).to_pylist(), key=lambda entry: entry["known_at"]):
        if entry["known_at"] <= LIVE_MS:
            said[entry["transaction_id"]] = entry["label"]
    maturity_ms = world.settings.labels.maturity_ms
    rows = [r for r in pq.read_table(scored).to_pylist() if r["event_time_ms"] <= LIVE_MS - maturity_ms]
    return [row | {"fraud": said.get(row["transaction_id"]) == "fraud"} for row in rows]


def test_the_figures_are_those_of_plain_rows(
    tiny_world: TinyWorld, found: dict[str, Any], scored: Path
) -> None:
    rows = slow_rows(tiny_world, scored)
    fraud = np.array([row["fraud"] for row in rows])
    model = found["models"][MODEL]
    assert (found["counts"]["mature"], found["counts"]["frauds"]) == (len(rows), fraud.sum())
    assert found["counts"]["transactions"] > len(rows)
    for name, value in quality(fraud, np.array([row["raw_score"] for row in rows])).items():
        assert model["figures"][name]["value"] == pytest.approx(value)
        assert model["figures"][name]["low"] <= value <= model["figures"][name]["high"]
    caught = [row["amount_major"] for row in rows if row["fraud"] and row["outcome"] != "approve"]
    assert model["outcomes"]["money_caught"] == pytest.approx(sum(caught))
    assert model["outcomes"]["false_positives"] == sum(
        not row["fraud"] and row["outcome"] != "approve" for row in rows
    )
    day = np.array([row["event_time_ms"] // DAY_MS for row in rows])
    card = np.array([int(row["entity_card"].removeprefix("card_")) for row in rows])
    raw = np.array([row["raw_score"] for row in rows])
    precision = card_precision_at_k(day, card, fraud, raw, 5).mean()
    assert model["card_precision"]["value"] == pytest.approx(precision, abs=0.02)  # ties are broken otherwise
    assert model["card_precision"]["value"] <= model["card_precision"]["ceiling"]


def test_segments_and_weeks_take_every_row_once(found: dict[str, Any]) -> None:
    channels = [part for name, part in found["segments"].items() if name.startswith("channel")]
    assert sum(part["transactions"] for part in channels) == found["counts"]["mature"]
    assert sum(week["frauds"] for week in found["weeks"]) == found["counts"]["frauds"]
    assert 0 < found["segments"]["amount >= 100"]["transactions"] < found["counts"]["mature"]


def test_the_model_is_better_than_the_baselines_on_the_same_draws(found: dict[str, Any]) -> None:
    assert set(found["differences"]) == {"amount", "small tree", "card_count_10m"}
    for difference in found["differences"].values():
        assert difference["average_precision"]["high"] < 0
    assert found["in_sample"] == [MODEL]


def test_a_replays_file_gives_the_same_figures(
    tiny_world: TinyWorld, found: dict[str, Any], scored: Path
) -> None:
    request = Request(labels=tiny_world.labels, scored=scored, as_of_ms=LIVE_MS, cards_a_day=5, resamples=20)
    of_file = evaluate_files(tiny_world.settings, request, ignore)
    expected = found["models"][MODEL]
    for part in ("figures", "outcomes", "calibration"):
        assert of_file["models"]["champion"][part] == expected[part]
    assert set(of_file["models"]) == {"champion", "amount"}


def test_what_was_known_later_changes_nothing(
    tiny_world: TinyWorld, found: dict[str, Any], tmp_path: Path
) -> None:
    labels = pq.read_table(tiny_world.labels)
    pq.write_table(labels.filter(labels["known_at"].to_numpy() <= LIVE_MS), tmp_path / "labels.parquet")
    request = Request(
        tmp_path / "labels.parquet", tiny_world.transactions, None, (MODEL.split("/")[1],), FROM_MS, None, LIVE_MS,
        SEGMENTS, 5, 20,
    )  # fmt: skip
    assert evaluate_files(tiny_world.settings, request, ignore) == found


def test_without_a_later_mature_transaction_one_line_says_so(tiny_world: TinyWorld) -> None:
    request = Request(tiny_world.labels, tiny_world.transactions, as_of_ms=LIVE_MS)
    with pytest.raises(
        ConfigError, match=r"none of \d+ transactions from .* is mature at .*labels\.maturity$"
    ):
        evaluate_files(tiny_world.settings, request, ignore)
    for segment, said in (("amount", "segment amount: has type"), ("nothing = 3", "is not a declared field")):
        with pytest.raises(ConfigError, match=said):
            evaluate_files(
                tiny_world.settings,
                Request(tiny_world.labels, tiny_world.transactions, segments=[segment]),
                ignore,
            )


class Reader(HTMLParser):
    """Keeps the headings, and what would be fetched from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.fetched: list[str] = []
        self.lines = 0
        self._heading = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._heading = tag == "h2"
        self.lines += ("class", "line") in attrs
        self.fetched += [f"{tag} {name}" for name, _ in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        if self._heading:
            self.headings.append(data)
        self._heading = False


def test_the_report_tells_all_of_it_and_needs_nothing_else(found: dict[str, Any]) -> None:
    page = report_of(found)
    reader = Reader()
    reader.feed(page)
    assert reader.fetched == []
    assert "http" not in page
    assert reader.headings == [
        "Data", "Figures", "What the outcomes did", "Curves", f"Thresholds of {MODEL}", "Calibration", "Weeks",
        "Segments", f"Drift since the training of {MODEL}", f"Model card: {MODEL}",
    ]  # fmt: skip
    assert reader.lines == 9  # of the model and three baselines twice, and the calibration
    assert "channel = &quot;online&quot;" in page


def test_scores_that_are_none_are_said_in_one_line(tiny_world: TinyWorld, tmp_path: Path) -> None:
    for text, said in (("nothing", "is not NDJSON"), ('{"a": 1}\n', "has no column transaction_id")):
        (tmp_path / "scored.ndjson").write_text(text, "utf-8")
        request = Request(tiny_world.labels, scored=tmp_path / "scored.ndjson")
        with pytest.raises(ConfigError, match=said):
            evaluate_files(tiny_world.settings, request, ignore)
