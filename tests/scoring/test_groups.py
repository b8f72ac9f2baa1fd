"""A feature's group follows from its declaration, whatever its fields and entities are called."""

from __future__ import annotations

from typing import Any

import pytest

from fraudstream.event import EventType, Field, check_event
from fraudstream.features import build_catalog
from fraudstream.scoring.groups import group_of, group_words
from fraudstream.sections import FeatureGroup
from fraudstream.settings import load_settings
from fraudstream.words import read_words


def event() -> EventType:
    made = EventType(
        id="a", time="b", amount="c", key="p",
        fields={
            "a": Field(type="id", required=True),
            "b": Field(type="timestamp", required=True),
            "c": Field(type="amount", required=True),
            "payer": Field(type="id", required=True),
            "device": Field(type="id"),
            "kind": Field(type="category", values=["x", "y"]),
            "town": Field(type="category", role="place"),
            "home": Field(type="category", role="place"),
            "pieces": Field(type="integer"),
        },
        entities={"p": "payer", "shop": "device", "both": ["payer", "device"], "there": ["payer", "town"]},
    )  # fmt: skip
    check_event(made)
    return made


@pytest.mark.parametrize(
    ("group", "declared"),
    [
        ("velocity", {"aggregates": ["count"]}),
        ("velocity", {"aggregates": ["velocity"], "baseline": "30d"}),
        ("velocity", {"aggregates": ["time_since_last"]}),
        ("velocity", {"aggregates": ["distinct"], "of": "device"}),
        ("amount", {"aggregates": ["zscore"], "of": "c"}),
        ("amount", {"aggregates": ["sum"], "of": "c"}),
        ("amount", {"entity": "event", "aggregates": ["value"], "of": "c", "windows": []}),
        ("novelty", {"aggregates": ["same_count"], "of": "device"}),
        ("novelty", {"aggregates": ["first_seen"]}),
        ("novelty", {"entity": "both", "aggregates": ["count"]}),
        ("place", {"aggregates": ["same_count"], "of": "town"}),
        ("place", {"aggregates": ["distinct"], "of": "town"}),
        ("place", {"entity": "there", "aggregates": ["first_seen"]}),
        ("place", {"entity": "event", "aggregates": ["differs"], "of": ["town", "home"], "windows": []}),
        ("time_habit", {"aggregates": ["hour_habit"]}),
        ("time_habit", {"entity": "event", "aggregates": ["hour_of_day"], "of": "b", "windows": []}),
        ("category_habit", {"aggregates": ["share"], "of": "kind"}),
        ("category_habit", {"aggregates": ["same_count"], "of": "kind"}),
        ("category_habit", {"aggregates": ["rate"], "where": 'kind = "x"'}),
        ("category_habit", {"aggregates": ["mean"], "of": "pieces"}),
        ("shop_risk", {"entity": "shop", "aggregates": ["count"]}),
        ("shop_risk", {"entity": "shop", "aggregates": ["mean"], "of": "c"}),
        ("label_history", {"entity": "shop", "aggregates": ["rate"], "label": "fraud", "lag": "7d"}),
        ("label_history", {"aggregates": ["count"], "label": "fraud", "lag": "7d"}),
        ("transaction", {"entity": "event", "aggregates": ["value"], "of": "kind", "windows": []}),
    ],
)
def test_the_group_follows_from_entity_aggregate_and_field(group: str, declared: dict[str, Any]) -> None:
    made = event()
    full = {"entity": "p", "windows": ["1h"], **declared}
    (feature,) = build_catalog([FeatureGroup(**full)], made).features
    assert group_of(feature, made) == group


@pytest.mark.parametrize("language", ["en", "fr"])
def test_every_group_of_the_built_in_features_has_words(language: str) -> None:
    settings, words = load_settings(environment={}), read_words(language)
    features = build_catalog(settings.features, settings.event).features
    groups = {group_of(feature, settings.event) for feature in features}
    assert groups >= {
        "velocity",
        "amount",
        "novelty",
        "place",
        "time_habit",
        "category_habit",
        "merchant_risk",
    }
    assert len({group_words(group, words) for group in groups}) == len(groups)
