"""How a feature is told in words: its meaning, how exact it is, and when it has no value."""

from __future__ import annotations

from typing import Any

import pytest

from fraudstream.features.aggregates import AGGREGATES
from fraudstream.features.catalog import exactness, nan_in_words
from tests.features.test_catalog import ONLINE, catalog_of
from tests.strategies import bounds, card_event


def test_every_aggregate_can_be_declared_and_says_what_it_means() -> None:
    fields = {"": "", "measure": "amount", "text": "merchant_id"}
    for name, spec in AGGREGATES.items():
        where = ONLINE if spec.compares else ""
        (feature,) = catalog_of(of=fields[spec.of], aggregates=[name], baseline="30d", where=where).features
        for text in (feature.meaning, feature.unit):
            assert text
            assert "{" not in text
        assert "card" in feature.meaning
        assert "1h" in feature.meaning


def test_a_meaning_names_filter_lag_and_tiles() -> None:
    (feature,) = catalog_of(where=ONLINE, windows=["24h"]).features
    assert feature.meaning == (
        'transactions of this card with channel = "online" and amount >= 100 in the last 24h'
    )
    (feature,) = catalog_of(lag="7d", resolution="5m").features
    assert feature.meaning == "transactions of this card in the 1h that ended 7d earlier, in tiles of 5m"


def test_the_catalogue_says_how_exact_a_feature_is() -> None:
    (plain,) = catalog_of().features
    (tiled,) = catalog_of(resolution="90s").features
    (own,) = catalog_of(entity="event", of="amount", aggregates=["value"], windows=[]).features
    told = [exactness(feature, bounds(rows_max=4096)) for feature in (plain, tiled, own)]
    assert told == ["exact up to 4,096 rows", "tiles of 90s", "exact"]


@pytest.mark.parametrize(
    ("group", "cases"),
    [
        ({}, ["the history that is known is shorter"]),
        ({"entity": "device"}, ["this transaction names no device", "the history"]),
        (
            {"of": "merchant_id", "aggregates": ["time_since_same"]},
            [
                "none with the same merchant id in the window",
                "this transaction has no merchant id",
                "the history",
            ],
        ),
        ({"entity": "event", "of": "amount", "aggregates": ["value"], "windows": []}, []),
        (
            {"entity": "event", "of": "channel", "aggregates": ["value"], "windows": []},
            ["this transaction has no channel", "its channel is none of the listed values"],
        ),
    ],
)
def test_the_catalogue_says_when_a_feature_has_no_value(group: dict[str, Any], cases: list[str]) -> None:
    event = card_event()
    told = nan_in_words(catalog_of(event, **group).features[0], event)
    assert len(told) == len(cases)
    assert all(line.startswith(case) for line, case in zip(told, cases, strict=True))
