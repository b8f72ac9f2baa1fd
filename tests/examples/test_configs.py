"""The examples' settings: they hold together, and rows of their layout go through training and replay."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fraudstream.features import build_catalog
from fraudstream.settings import load_settings
from tests.cli.running import fraudstream
from tests.examples.tables import EXAMPLES, NAMES, TABLES, prepared

TRAINING = {
    "FRAUDSTREAM_TRAINING__DAYS": "25",
    "FRAUDSTREAM_TRAINING__GAP_DAYS": "0",
    "FRAUDSTREAM_TRAINING__VALIDATION_DAYS": "12",
    "FRAUDSTREAM_TRAINING__TREES_MAX": "20",
}


@pytest.mark.parametrize("example", NAMES)
def test_the_settings_load_and_the_catalogue_has_thirty_features_over_two_entities(example: str) -> None:
    settings = load_settings(EXAMPLES / example / "fraudstream.toml", environment={})
    catalog = build_catalog(settings.features, settings.event)
    assert len(catalog) >= 30
    assert len(catalog.entities) >= 2
    assert settings.event.key == "card"
    assert settings.model.name == example


@pytest.mark.parametrize("example", NAMES)
def test_config_check_finds_nothing_wrong(example: str) -> None:
    ended = fraudstream("config", "check", "-c", EXAMPLES / example / "fraudstream.toml")
    assert ended.code == 0, ended.err
    assert ended.out.startswith("ok")


@pytest.mark.parametrize("example", NAMES)
def test_a_table_goes_through_training_and_replay(example: str, tmp_path: Path) -> None:
    table = TABLES[example](rows=3000, days=50)
    transactions, labels = prepared(example, table, tmp_path)
    config = ("-c", EXAMPLES / example / "fraudstream.toml", "--json")
    files = ("--transactions", tmp_path / "out" / "transactions")
    registry = str(tmp_path / "models")
    with_labels = ("--labels", tmp_path / "out" / "labels")
    trained = fraudstream(
        "train", *files, *with_labels, *config, FRAUDSTREAM_MODEL__REGISTRY=registry, cwd=None, **TRAINING
    )
    assert trained.code == 0, trained.err
    assert trained.last_object()["training"]["rejected_rows"] == 0
    assert trained.last_object()["metrics"]["auc"] > 0.9  # the made-up frauds are easy
    scored_to = ("--output", tmp_path / "scored.parquet", "--features")
    replayed = fraudstream(
        "replay", *files, *with_labels, *scored_to, *config, FRAUDSTREAM_MODEL__REGISTRY=registry
    )
    assert replayed.code == 0, replayed.err
    assert replayed.last_object()["rejected"] == 0
    scored = pq.read_table(tmp_path / "scored.parquet")
    assert scored["transaction_id"].to_pylist() == labels["transaction_id"].to_pylist()
    for name in scored.column_names[7:]:
        assert scored[name].null_count == 0
    amount = "TX_AMOUNT" if example == "handbook" else "amt"
    assert scored["amount"].to_pylist() == pytest.approx(transactions[amount].to_pylist())
