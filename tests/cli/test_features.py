"""`fraudstream features`: the catalogue as a person and as a machine reads it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from fraudstream.features import build_catalog
from fraudstream.settings import load_settings
from tests.cli.running import fraudstream

DECLARED = """
[[features]]
entity = "card"
where = 'channel = "online" and amount >= 100'
windows = ["24h"]
aggregates = ["count", "rate"]

[[features]]
entity = "merchant"
label = "fraud"
lag = "7d"
windows = ["30d"]
aggregates = ["rate"]

[[features]]
entity = "merchant"
resolution = "5m"
windows = ["24h"]
aggregates = ["count"]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "fraudstream.toml"
    path.write_text(DECLARED, "utf-8")
    return path


def test_the_list_says_meaning_unit_and_exactness(config: Path) -> None:
    listed = fraudstream("features", "list", "-c", config, "--json").last_object()["features"]
    assert {entry["name"]: (entry["unit"], entry["exactness"]) for entry in listed} == {
        "card_channel_online_and_amount_ge_100_count_24h": ("transactions", "exact up to 4,096 rows"),
        "card_channel_online_and_amount_ge_100_rate_24h": ("share", "exact up to 4,096 rows"),
        "merchant_fraud_rate_30d_lag7d": ("share", "exact up to 4,096 rows"),
        "merchant_count_24h_tiles5m": ("transactions", "tiles of 5m"),
    }
    shown = fraudstream("features", "list", "-c", config)
    assert (shown.code, shown.err) == (0, "")
    for entry in listed:
        assert entry["name"] in shown.out
        assert entry["exactness"] in shown.out
    assert listed[-1]["meaning"] == "transactions of this merchant in the last 24h, in tiles of 5m"
    assert "transactions of this merchant in the" in shown.out  # the rest is folded


def test_a_feature_is_explained_to_a_person(config: Path) -> None:
    ended = fraudstream("features", "explain", "card_channel_online_and_amount_ge_100_rate_24h", "-c", config)
    assert (ended.code, ended.err) == (0, "")
    assert 'in the last 24h with channel = "online" and amount >= 100' in ended.out
    assert "NaN    no transaction in the window" in ended.out
    assert "does not fulfil the filter" in ended.out
    assert 'value 0.666667: 67 % of this card\'s transactions in 24 h had channel = "online"' in ended.out
    declared = ended.out[ended.out.index("[[features]]") : ended.out.index("For example")]
    assert tomllib.loads(declared) == {
        "features": [
            {
                "entity": "card",
                "aggregates": ["rate"],
                "windows": ["24h"],
                "where": 'channel = "online" and amount >= 100',
            }
        ]
    }


def test_a_feature_is_explained_to_a_machine(config: Path) -> None:
    told = fraudstream(
        "features", "explain", "merchant_fraud_rate_30d_lag7d", "-c", config, "--json"
    ).last_object()
    settings = load_settings(config, environment={})
    (feature,) = [
        f for f in build_catalog(settings.features, settings.event).features if f.name == told["name"]
    ]
    assert (told["id"], told["meaning"], told["unit"]) == (feature.id, feature.meaning, feature.unit)
    assert told["declaration"] == {
        "entity": "merchant", "aggregates": ["rate"], "windows": ["30d"], "lag": "7d", "label": "fraud",
    }  # fmt: skip
    example = told["example"]
    assert example["value"] == 0.5
    assert (
        example["in_words"] == "50 % of this merchant's transactions in 30 d, as known 7 d later, were fraud"
    )
    assert [set(row) for row in example["transactions"]] == [{"event_time", "merchant_id", "note"}] * 4


@pytest.mark.parametrize(
    ("name", "closest"),
    [
        ("merchant_fraud_rate_30d", "merchant_fraud_rate_30d_lag7d"),
        ("merchant_count_24h_tiles5min", "merchant_count_24h_tiles5m"),
    ],
)
def test_an_unknown_feature_ends_with_2_and_names_the_closest(config: Path, name: str, closest: str) -> None:
    ended = fraudstream("features", "explain", name, "-c", config)
    assert ended.code == 2
    assert ended.one_line().startswith(
        f'fraudstream: NAME = "{name}": no such feature; the closest are {closest}, '
    )


@pytest.mark.parametrize(
    ("features", "said"),
    [
        (
            "where = 'channel == \"online\"'",
            """features[0].where = 'channel == "online"': "==": channel has""",
        ),
        ("where = 'shop = 1'", """features[0].where = 'shop = 1': "shop" is not a declared field"""),
        ("label = 'fraud'", 'features[0].lag: missing; label = "fraud" needs'),
        ("resolution = '1s'", "card_count_24h_tiles1s: needs 172,802 tiles of 1s for one card"),
    ],
)
def test_config_check_names_what_is_wrong_in_a_declaration(tmp_path: Path, features: str, said: str) -> None:
    path = tmp_path / "fraudstream.toml"
    path.write_text(
        f"[[features]]\nentity = 'card'\nwindows = ['24h']\naggregates = ['count']\n{features}", "utf-8"
    )
    ended = fraudstream("config", "check", "-c", path)
    assert ended.code == 2
    assert ended.one_line().startswith(f"fraudstream: {said}")


def test_the_settings_of_history_and_labels_are_checked(tmp_path: Path) -> None:
    wrong: list[tuple[str, str, Any]] = [
        ("state", "repeat_horizon", "soon"),
        ("state", "complete_from", "yesterday"),
        ("labels", "grace", "-1h"),
    ]
    for section, key, value in wrong:
        path = tmp_path / "fraudstream.toml"
        path.write_text(f'[{section}]\n{key} = "{value}"', "utf-8")
        ended = fraudstream("config", "check", "-c", path)
        assert ended.code == 2
        assert ended.one_line().startswith(f'fraudstream: {section}.{key} = "{value}": give ')
