"""How a feature is told in words: its meaning, its values, how exact it is, and when it has none."""

from __future__ import annotations

import math
from typing import Any

import pytest

from fraudstream.features.aggregates import AGGREGATES
from fraudstream.features.catalog import exactness, nan_in_words
from tests.features.test_catalog import ONLINE, catalog_of
from tests.strategies import bounds, card_event


def test_every_aggregate_can_be_declared_and_says_what_it_means() -> None:
    fields = {"": "", "measure": "amount", "text": "merchant_id"}
    for name, spec in AGGREGATES.items():
        where = ONLINE if name == "rate" else ""
        (feature,) = catalog_of(of=fields[spec.of], aggregates=[name], baseline="30d", where=where).features
        for text in (feature.meaning, feature.phrase.replace("{value}", "7"), feature.missing, feature.unit):
            assert text
            assert "{" not in text
        assert "card" in feature.meaning
        assert "1h" in feature.meaning
        assert "{value}" in feature.phrase


@pytest.mark.parametrize(
    ("aggregate", "value", "words"),
    [
        ("count", 11.0, "11 earlier transactions of this card in 1h"),
        ("count", 1.0, "1 earlier transaction of this card in 1h"),
        ("time_since_last", 42.0, "the last transaction of this card was 42 s earlier"),
        ("time_since_last", 90.0, "1.5 min earlier"),
        ("time_since_last", 5400.0, "1.5 h earlier"),
        ("time_since_last", 129_600.0, "1.5 d earlier"),
        ("hour_habit", 0.25, "25 % of this card's transactions in 1h"),
        ("velocity", 12.345, "come 12.3"),
    ],
)
def test_a_feature_says_its_value_in_plain_words(aggregate: str, value: float, words: str) -> None:
    (feature,) = catalog_of(aggregates=[aggregate], baseline="30d").features
    assert words in feature.in_words(value)


@pytest.mark.parametrize(
    ("group", "value", "words"),
    [
        (
            {"aggregates": ["rate"], "windows": ["7d"], "label": "fraud", "lag": "7d"}, 0.02,
            "2 % of this card's transactions in 7d, as known 7d later, were fraud",
        ),
        ({"label": "fraud", "lag": "7d"}, 1.0, "1 of this card's transactions in 1h, as known 7d later, was fraud"),
        (
            {"label": "fraud", "lag": "7d"}, 0.0,
            "none of this card's transactions in 1h, as known 7d later, were fraud",
        ),
        (
            {"aggregates": ["rate"], "label": "fraud", "lag": "7d", "where": "items > 1"}, 0.004,
            "0.4 % of this card's transactions in 1h, as known 7d later, were fraud and had items > 1",
        ),
        ({"aggregates": ["rate"], "where": ONLINE}, 0.25,
         '25 % of this card\'s transactions in 1h had channel = "online" and amount >= 100'),
        ({"where": 'merchant_id != "m1"'}, 2.0,
         '2 earlier transactions of this card with merchant id != "m1" in 1h'),
        ({"where": "items > 1"}, 0.0, "no earlier transaction of this card with items > 1 in 1h"),
        ({"lag": "7d"}, 3.0, "3 earlier transactions of this card in the 1h that ended 7d earlier"),
        ({"aggregates": ["first_seen"]}, 1.0, "no earlier transaction of this card in 1h"),
        ({"aggregates": ["first_seen"]}, 0.0, "at least one earlier transaction of this card in 1h"),
        ({"of": "merchant_id", "aggregates": ["same_count"]}, 1.0,
         "1 earlier transaction of this card with the same merchant id in 1h"),
        ({"of": "merchant_id", "aggregates": ["time_since_same"]}, 90.0,
         "the last transaction of this card with the same merchant id was 1.5 min earlier"),
        ({"of": "merchant_id", "aggregates": ["time_since_same"]}, None,
         "this card was not seen with the same merchant id in the 1h before, or the history is shorter"),
        ({"aggregates": ["time_since_last"], "lag": "1d"}, None,
         "this card was not seen in the 1h that ended 1d earlier, or the history is shorter"),
        ({}, None, "transactions of this card in the last 1h: not known"),
    ],
)  # fmt: skip
def test_filter_lag_and_label_are_said_in_words(
    group: dict[str, Any], value: float | None, words: str
) -> None:
    assert catalog_of(**group).features[0].in_words(value) == words


def test_a_meaning_names_filter_lag_and_tiles() -> None:
    (feature,) = catalog_of(where=ONLINE, windows=["24h"]).features
    assert feature.meaning == (
        'transactions of this card with channel = "online" and amount >= 100 in the last 24h'
    )
    (feature,) = catalog_of(lag="7d", resolution="5m").features
    assert feature.meaning == "transactions of this card in the 1h that ended 7d earlier, in tiles of 5m"


@pytest.mark.parametrize("aggregate", [n for n, spec in AGGREGATES.items() if not spec.of and n != "rate"])
def test_a_missing_value_is_said_in_words_and_never_as_nan(aggregate: str) -> None:
    (feature,) = catalog_of(aggregates=[aggregate], baseline="30d").features
    told = feature.in_words(None)
    assert told == feature.in_words(math.nan)
    assert "this card" in told
    assert "{" not in told
    assert "nan" not in told.lower()


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
