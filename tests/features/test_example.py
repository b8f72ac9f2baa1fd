"""The worked example of a feature: what is drawn, what is said of it, and the value the engine gives."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given

from fraudstream.features import Catalog, Feature, build_catalog
from fraudstream.features.example import Example, worked_example
from fraudstream.sections import FeatureGroup
from fraudstream.settings import load_settings
from tests.strategies import bounds, card_event, catalogs, flavours

EVENT = card_event()


def example_of(**group: Any) -> Example:
    declared = {"entity": "card", "aggregates": ["count"], "windows": ["24h"], **group}
    (feature,) = build_catalog([FeatureGroup(**declared)], EVENT).features
    return worked_example(feature, EVENT, bounds())


def counted(feature: Feature, example: Example) -> int:
    """Return how many of the transactions count, by what is said of them."""
    seen = [note for note in example.notes if "in the window" in note and "does not fulfil" not in note]
    return (
        sum("reported as fraud" in note and "not reported" not in note for note in seen)
        if feature.label
        else len(seen)
    )


@pytest.mark.parametrize(
    ("group", "value"),
    [
        ({"of": "amount", "aggregates": ["mean"]}, 25.0),  # of 20 and 30
        ({"of": "amount", "aggregates": ["max"]}, 30.0),
        ({"of": "amount", "aggregates": ["ratio"]}, 3.2),  # 80 / 25
        ({"aggregates": ["velocity"], "baseline": "10d"}, 2 * 10 / 3),
        ({"of": "amount", "aggregates": ["median"]}, 25.0),
        ({"of": "amount", "aggregates": ["median_ratio"]}, 3.2),
        ({"aggregates": ["time_since_last"]}, 6 * 3600),
        ({"aggregates": ["time_since_first"]}, 12 * 3600),
        ({"where": 'channel = "online"', "aggregates": ["others_since_first"]}, 1),
        ({"label": "fraud", "lag": "7d", "aggregates": ["others_since_last"]}, 1),
        ({"label": "fraud", "lag": "7d", "aggregates": ["time_since_last"], "windows": ["2d"]}, 8 * 86_400),
        ({"aggregates": ["hour_habit"], "windows": ["30d"]}, 0.5),
        ({"of": "merchant_id", "aggregates": ["distinct"]}, 2),
        ({"of": "merchant_id", "aggregates": ["share"]}, 0.5),
        ({"of": "merchant_id", "aggregates": ["time_since_same"]}, 12 * 3600),
        ({"where": 'channel = "online"', "aggregates": ["rate"]}, 2 / 3),
        ({"where": "amount > 5", "of": "amount", "aggregates": ["min"]}, 6.0),
        ({"label": "fraud", "lag": "7d", "aggregates": ["rate"]}, 0.5),
        ({"entity": "event", "of": "amount", "aggregates": ["value"], "windows": []}, 80.0),
        ({"entity": "event", "of": "event_time", "aggregates": ["hour_of_day"], "windows": []}, 12),
    ],
)
def test_the_value_is_what_a_person_works_out(group: dict[str, Any], value: float) -> None:
    assert example_of(**group).value == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("group", "said"),
    [
        ({}, "1.2 d earlier: too old"),
        ({"lag": "7d"}, "3.5 d earlier: too young, inside the lag"),
        ({"where": "items > 3"}, "9.0 h earlier: in the window, does not fulfil the filter"),
        ({"aggregates": ["velocity"], "baseline": "9d"}, "5.0 d earlier: in the baseline only"),
        ({"label": "fraud", "lag": "2d"}, "2.5 d earlier: in the window, reported as fraud 15.0 h later"),
        ({"label": "fraud", "lag": "2d"}, "2.2 d earlier: in the window, not reported as fraud"),
    ],
)
def test_each_transaction_says_how_it_counts(group: dict[str, Any], said: str) -> None:
    example = example_of(**group)
    assert said in example.notes
    assert len(example.transactions) == len(example.notes) == 4
    assert example.notes[-1] == "the transaction to be scored"


def test_the_fields_that_matter_are_shown_in_their_declared_units() -> None:
    example = example_of(of="amount", aggregates=["mean"], where="tip <= 2.5")
    assert list(example.transactions[0]) == ["event_time", "card_id", "tip", "amount"]
    assert example.transactions[-1]["event_time"] == "2026-03-02T12:00:00Z"
    assert (example.transactions[-1]["tip"], example.transactions[-1]["amount"]) == (2.5, 80.0)


@given(catalogs("h", flavours("h", (1, 2, 3, 10))))
def test_what_is_said_of_the_transactions_is_what_the_engine_counts(catalog: Catalog) -> None:
    for feature in catalog.features:
        example = worked_example(feature, catalog.event, bounds())
        if feature.aggregate == "count":
            assert example.value == counted(feature, example)
        if feature.aggregate == "first_seen":
            assert example.value == (counted(feature, example) == 0)


def test_every_built_in_feature_has_an_example_with_a_value() -> None:
    settings = load_settings(environment={})
    for feature in build_catalog(settings.features, settings.event).features:
        example = worked_example(feature, settings.event, settings.state)
        assert not math.isnan(example.value), feature.name
