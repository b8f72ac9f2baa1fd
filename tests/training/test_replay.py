"""Replay: labels are seen as they became known, and what comes again changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fraudstream.batch import Float64
from fraudstream.errors import ConfigError
from fraudstream.features import build_catalog, new_engine
from fraudstream.ledger import Labels, read_labels
from fraudstream.sections import Settings
from fraudstream.settings import load_settings
from fraudstream.simulate import DAY_MS
from fraudstream.training.dataset import Dataset, dataset_as_of
from fraudstream.training.replay import LogFiles, ReplayPlan, observe_files
from fraudstream.training.run import replay_files
from tests.stream.versions import add_smaller, copied
from tests.worlds import LIVE_MS, START_MS, TinyWorld, ignore, write_rows

HOUR_MS = 3_600_000
FED_BY_LABELS = """
[[features]]
entity = "merchant"
label = "fraud"
lag = "1h"
windows = ["2d"]
aggregates = ["count", "rate"]

[state]
complete_from = "start"

[labels]
grace = "1h"
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "fraudstream.toml").write_text(FED_BY_LABELS, "utf-8")
    return load_settings(tmp_path / "fraudstream.toml", environment={})


def transaction(transaction_id: str, hours: float) -> dict[str, Any]:
    return {
        "transaction_id": transaction_id,
        "event_time": START_MS + round(hours * HOUR_MS),
        "card_id": "c",
        "merchant_id": "m",
        "amount": 1,
    }


def label(transaction_id: str, what: str, hours: float) -> dict[str, Any]:
    known_at = START_MS + round(hours * HOUR_MS)
    return {"transaction_id": transaction_id, "label": what, "known_at": known_at, "source": "analyst"}


def features_of(settings: Settings, transactions: Path, labels: Labels | None) -> Float64:
    engine = new_engine(settings, build_catalog(settings.features, settings.event))
    seen = observe_files(LogFiles(transactions, labels), engine, lambda batch: True, ignore)
    return np.concatenate([part.observed.X for part in seen])


@pytest.mark.parametrize("rows_a_file", [100, 1, 4])
def test_a_label_is_seen_from_known_at_and_the_grace_on(
    settings: Settings, tmp_path: Path, rows_a_file: int
) -> None:
    #            fraud reported at 5 h                  taken back at 9 h
    # hour       0    1    2    3    4    5    6    7    8    9    10   11
    # count      0    0    0    0    0    0    1    1    1    1    0    0
    rows = [transaction(f"t{hour}", hour) for hour in range(12)]
    (tmp_path / "log").mkdir()
    for number, start in enumerate(range(0, len(rows), rows_a_file)):
        write_rows(rows[start : start + rows_a_file], tmp_path / "log" / f"{number:02}.ndjson")
    # What became known last stands first in the file, and one label belongs to no transaction.
    known = [label("t0", "legit", 9), label("t0", "fraud", 5), label("another", "fraud", 1)]
    labels = read_labels(write_rows(known, tmp_path / "labels.ndjson"), {})
    counts, rates = features_of(settings, tmp_path / "log", labels).T
    assert counts.tolist() == [0.0] * 6 + [1.0] * 4 + [0.0] * 2
    assert rates[1:].tolist() == pytest.approx([count / hour for hour, count in enumerate(counts) if hour])


def test_without_labels_a_feature_that_they_feed_is_zero(settings: Settings, tmp_path: Path) -> None:
    log = write_rows([transaction(f"t{hour}", hour) for hour in range(3)], tmp_path / "log.ndjson")
    assert features_of(settings, log, None)[:, 0].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_training_set_as_of_an_instant_is_the_same_whatever_became_known_later(
    tiny_world: TinyWorld, tmp_path: Path, seed: int
) -> None:
    instant = LIVE_MS - 3 * DAY_MS
    chance = np.random.default_rng(seed)
    every = pq.read_table(tiny_world.labels).to_pylist()
    known = [row for row in every if row["known_at"] <= instant]
    ids = pq.read_table(tiny_world.transactions)["transaction_id"].to_pylist()
    later = [
        {**label(str(transaction_id), what, 0), "known_at": instant + int(after_ms)}
        for transaction_id, what, after_ms in zip(
            chance.choice(ids, 2_000),
            chance.choice(["fraud", "legit"], 2_000),
            chance.integers(1, 30 * DAY_MS, 2_000),
            strict=True,
        )
    ]
    then = write_rows(known, tmp_path / "then.ndjson")
    now = write_rows([*later[:1_000], *known, *later[1_000:]], tmp_path / "now.ndjson")
    first, second = (dataset(tiny_world, tiny_world.transactions, path, instant) for path in (then, now))
    assert first.X.tobytes() == second.X.tobytes()
    assert first.fraud.tobytes() == second.fraud.tobytes()
    fed = [i for i, name in enumerate(names_of(tiny_world)) if "_fraud_" in name]
    assert np.nanmax(first.X[:, fed]) > 0


def names_of(world: TinyWorld) -> list[str]:
    return build_catalog(world.settings.features, world.settings.event).names


def dataset(world: TinyWorld, transactions: Path, labels: Path, instant: int) -> Dataset:
    engine = new_engine(world.settings, build_catalog(world.settings.features, world.settings.event))
    known = read_labels(labels, {}).as_of(instant)
    return dataset_as_of(transactions, known, engine, (START_MS, instant - 7 * DAY_MS), ignore)


def with_repeats(rows: list[dict[str, Any]], seed: int) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the rows with some of them again, up to 20 rows later, and where those stand."""
    chance = np.random.default_rng(seed)
    again = np.sort(chance.choice(len(rows) - 20, 60, replace=False))
    behind = {int(row): int(row) + int(chance.integers(0, 20)) for row in again}
    mixed: list[dict[str, Any]] = []
    places = []
    for number, row in enumerate(rows):
        mixed.append(row)
        for first, place in behind.items():
            if place == number and rows[number]["event_time"] - rows[first]["event_time"] <= HOUR_MS:
                places.append(len(mixed))
                mixed.append(rows[first])
    return mixed, places


@pytest.mark.parametrize("seed", [1, 2])
def test_a_repeated_transaction_changes_nothing_and_gets_its_first_decision(
    tiny_world: TinyWorld, tmp_path: Path, seed: int
) -> None:
    rows = tiny_world.rows[:1_500]
    mixed, places = with_repeats(rows, seed)
    assert len(places) > 20
    plain = replayed(tiny_world, write_rows(rows, tmp_path / "plain.ndjson"), tmp_path / "plain.parquet")
    again = replayed(tiny_world, write_rows(mixed, tmp_path / "mixed.ndjson"), tmp_path / "mixed.parquet")

    repeated = again["repeated"].to_numpy()
    assert repeated.sum() == len(places)
    assert bits(again.filter(pa.array(~repeated))) == bits(plain)
    first = {row["transaction_id"]: row for row in plain.to_pylist()}
    for row in again.filter(pa.array(repeated)).to_pylist():
        for name in ("event_time_ms", "score", "risk_points", "outcome"):
            assert row[name] == first[row["transaction_id"]][name]
        for name in ("raw_score", *names_of(tiny_world)):
            assert np.isnan(row[name if name in row else f"feature_{name}"])


def bits(table: pa.Table) -> dict[str, Any]:
    """Return each column as something that compares NaN by its bits."""
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    return {
        n: c.to_numpy().tobytes() if pa.types.is_floating(c.type) else c.to_pylist()
        for n, c in columns.items()
    }


def replayed(world: TinyWorld, transactions: Path, to: Path, from_ms: int | None = None) -> pa.Table:
    plan = ReplayPlan(transactions, to, world.labels, from_ms, with_features=True)
    replay_files(world.settings, plan, ignore)
    return pq.read_table(to)


def test_a_repeat_whose_first_stands_before_the_start_has_the_first_decision_too(
    tiny_world: TinyWorld, tmp_path: Path
) -> None:
    rows = tiny_world.rows[:400]
    start = rows[300]["event_time"]
    first = max(i for i in range(300) if start - rows[i]["event_time"] > 60_000)
    again = {**rows[first], "event_time": start + 1}
    source = write_rows([*rows[:301], again, *rows[301:]], tmp_path / "rows.ndjson")
    every = replayed(tiny_world, source, tmp_path / "every.parquet").to_pylist()
    later = replayed(tiny_world, source, tmp_path / "later.parquet", start).to_pylist()
    (repeat,) = [row for row in later if row["repeated"]]
    (decided,) = [
        row for row in every if row["transaction_id"] == again["transaction_id"] and not row["repeated"]
    ]
    assert {n: repeat[n] for n in ("score", "risk_points", "outcome")} == {
        n: decided[n] for n in ("score", "risk_points", "outcome")
    }
    assert len(later) == len(rows) + 1 - 300


def test_what_comes_at_the_end_or_later_is_not_there(tiny_world: TinyWorld, tmp_path: Path) -> None:
    rows = tiny_world.rows[:400]
    end_ms = rows[250]["event_time"]
    before = [row for row in rows if row["event_time"] < end_ms]
    plan = ReplayPlan(
        write_rows(rows, tmp_path / "rows.ndjson"), tmp_path / "out", tiny_world.labels, end_ms=end_ms
    )
    assert replay_files(tiny_world.settings, plan, ignore)["transactions"] == len(before)
    alone = replayed(tiny_world, write_rows(before, tmp_path / "before.ndjson"), tmp_path / "alone")
    assert bits(pq.read_table(tmp_path / "out")) == bits(
        alone.select(pq.read_table(tmp_path / "out").column_names)
    )


def test_a_training_set_has_a_repeated_transaction_once(tiny_world: TinyWorld, tmp_path: Path) -> None:
    rows = pq.read_table(tiny_world.transactions).to_pylist()[:3_000]
    mixed, places = with_repeats(rows, 5)
    instant = START_MS + 30 * DAY_MS
    plain, again = (
        dataset(tiny_world, write_rows(given, tmp_path / f"{name}.ndjson"), tiny_world.labels, instant)
        for name, given in (("plain", rows), ("again", mixed))
    )
    assert len(places) > 20
    assert again.X.tobytes() == plain.X.tobytes()
    assert again.fraud.tobytes() == plain.fraud.tobytes()
    assert again.time_ms.tobytes() == plain.time_ms.tobytes()


def test_a_replay_asks_for_the_labels_that_features_need(tiny_world: TinyWorld, tmp_path: Path) -> None:
    plan = ReplayPlan(tiny_world.live, tmp_path / "out.parquet")
    with pytest.raises(ConfigError, match=r"^--labels: missing; .*merchant_fraud_count_30d_lag7d") as refused:
        replay_files(tiny_world.settings, plan, ignore)
    assert "\n" not in str(refused.value)


def test_a_catalogue_that_does_not_fit_into_the_state_is_refused(tmp_path: Path) -> None:
    tiles = '[[features]]\nentity = "card"\nwindows = ["1d"]\naggregates = ["count"]\nresolution = "1s"\n'
    (tmp_path / "fraudstream.toml").write_text(tiles, "utf-8")
    settings = load_settings(tmp_path / "fraudstream.toml", environment={})
    with pytest.raises(ConfigError, match=r"state\.rows_max"):
        new_engine(settings, build_catalog(settings.features, settings.event))


def test_a_challenger_is_replayed_beside_the_model(tiny_world: TinyWorld, tmp_path: Path) -> None:
    registry = copied(tiny_world, tmp_path)
    other = add_smaller(registry, trees=3)
    source = write_rows([*tiny_world.rows[:200], tiny_world.rows[199]], tmp_path / "rows.ndjson")

    def rows(name: str, version: str, challenger: str = "") -> list[dict[str, Any]]:
        plan = ReplayPlan(source, tmp_path / name, tiny_world.labels, challenger=challenger)
        chosen = tiny_world.settings_with(model__registry=str(registry.root), model__version=version)
        replay_files(chosen, plan, ignore)
        found: list[dict[str, Any]] = pq.read_table(tmp_path / name).to_pylist()
        return found

    both, first, second = rows("both", "champion", other), rows("first", "champion"), rows("second", other)
    kept = [name for name in first[0] if name != "raw_score"]  # NaN of the repeated one
    assert [[row[name] for name in kept] for row in both] == [[row[name] for name in kept] for row in first]
    said = [(r["challenger_score"], r["challenger_risk_points"], r["challenger_outcome"]) for r in both]
    assert said[:-1] == [(r["score"], r["risk_points"], r["outcome"]) for r in second[:-1]]
    assert said[-1] == (None, None, None)  # repeated
