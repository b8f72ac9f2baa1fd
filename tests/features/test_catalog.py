"""The catalogue: what a declaration spells out to, and the one line that each wrong one gets."""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given

from fraudstream.errors import ConfigError
from fraudstream.event import EventType, Field
from fraudstream.features import Catalog, build_catalog, kernels
from fraudstream.features.catalog import AGGREGATES, EVENT_AGGREGATES, FEATURES_MAX
from fraudstream.settings import FeatureGroup, load_settings
from tests.strategies import card_event, catalogs


def catalog_of(event: EventType | None = None, **group: Any) -> Catalog:
    declared = {"entity": "card", "aggregates": ["count"], "windows": ["1h"], **group}
    return build_catalog([FeatureGroup(**declared)], event or card_event())


def test_names_are_derived_from_entity_field_aggregate_and_window_in_declared_order() -> None:
    catalog = catalog_of(of="amount", aggregates=["mean", "zscore"], windows=["1h", "30d"])
    assert catalog.names == [
        "card_amount_mean_1h", "card_amount_mean_30d", "card_amount_zscore_1h", "card_amount_zscore_30d",
    ]  # fmt: skip
    assert catalog_of(aggregates=["velocity"], baseline="30d").names == ["card_velocity_1h_30d"]
    assert catalog_of(entity="card_merchant").names == ["card_merchant_count_1h"]
    assert catalog_of(entity="event", of="amount", aggregates=["value"], windows=[]).names == ["amount"]


def test_every_aggregate_has_its_number_in_the_kernels() -> None:
    assert {name: spec.code for name, spec in AGGREGATES.items()} == {
        name: getattr(kernels, name.upper()) for name in AGGREGATES
    }


def test_every_aggregate_can_be_declared_and_says_what_it_means() -> None:
    fields = {"": "", "measure": "amount", "text": "merchant_id"}
    for name, spec in AGGREGATES.items():
        (feature,) = catalog_of(of=fields[spec.of], aggregates=[name], baseline="30d").features
        for text in (feature.meaning, feature.phrase.replace("{value}", "7"), feature.unit):
            assert text
            assert "{" not in text
        assert "card" in feature.meaning
        assert "1h" in feature.meaning
        assert "{value}" in feature.phrase


def test_every_aggregate_of_the_transaction_itself_can_be_declared() -> None:
    fields: dict[str, Any] = {
        "value": "amount",
        "hour_of_day": "event_time",
        "day_of_week": "event_time",
        "differs": ["merchant_id", "device_id"],
    }
    assert set(fields) == set(EVENT_AGGREGATES)
    for name, of in fields.items():
        (feature,) = catalog_of(entity="event", of=of, aggregates=[name], windows=[]).features
        assert feature.window_ms == 0
        assert "{" not in feature.meaning


@given(catalogs())
def test_ids_are_stable_and_different_for_every_feature(catalog: Catalog) -> None:
    assert len({feature.id for feature in catalog.features}) == len(catalog)
    assert all(re.fullmatch("[0-9a-f]{16}", feature.id) for feature in catalog.features)
    again = [
        build_catalog([msgspec.structs.replace(group)], catalog.event).features[0].id
        for group in [group_of(catalog, i) for i in range(len(catalog))]
    ]
    assert again == [feature.id for feature in catalog.features]


def group_of(catalog: Catalog, number: int) -> FeatureGroup:
    """Return a declaration that spells out to one feature only."""
    feature = catalog.features[number]
    of: str | list[str] = list(feature.of) if len(feature.of) > 1 else "".join(feature.of)
    windows = [feature.window] if feature.window else []
    return FeatureGroup(
        entity=feature.entity,
        aggregates=[feature.aggregate],
        of=of,
        windows=windows,
        baseline=feature.baseline,
    )


def test_an_id_follows_the_definition_and_not_the_name_alone() -> None:
    event = card_event()
    other_entity = msgspec.structs.replace(event, entities={**event.entities, "card": "merchant_id"})
    other_digits = card_event(amount_decimals=0)

    def identity(event: EventType, **group: Any) -> str:
        return catalog_of(event, **group).features[0].id

    assert identity(event) == identity(other_digits)
    assert identity(event) != identity(other_entity)
    assert identity(event, of="amount", aggregates=["sum"]) != identity(
        other_digits, of="amount", aggregates=["sum"]
    )


def test_the_catalogue_knows_the_entities_and_fields_it_needs() -> None:
    groups = [
        FeatureGroup(entity="event", of="tip", aggregates=["value"]),
        FeatureGroup(entity="device", of="amount", aggregates=["sum"], windows=["1h"]),
        FeatureGroup(entity="card", of="channel", aggregates=["share"], windows=["1h"]),
        FeatureGroup(entity="device", aggregates=["count"], windows=["1h"]),
    ]
    catalog = build_catalog(groups, card_event())
    assert catalog.entities == ["device", "card"]
    assert catalog.fields_used == {"tip", "amount", "channel"}
    assert [column for column, _ in catalog.of_entity("device")] == [1, 3]


def test_the_built_in_catalogue_spells_out() -> None:
    settings = load_settings(environment={})
    catalog = build_catalog(settings.features, settings.event)
    assert len(catalog) == len(set(catalog.names)) > 40
    assert "card_amount_zscore_30d" in catalog.names


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


@pytest.mark.parametrize("aggregate", [name for name, spec in AGGREGATES.items() if not spec.of])
def test_a_missing_value_is_said_in_words_and_never_as_nan(aggregate: str) -> None:
    (feature,) = catalog_of(aggregates=[aggregate], baseline="30d").features
    told = feature.in_words(None)
    assert told == feature.in_words(math.nan)
    assert "this card" in told
    assert "{" not in told
    assert "nan" not in told.lower()


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown entity": ({"entity": "shop"}, r'entity = "shop": give one of event, card, device'),
    "no windows": ({"windows": []}, r"windows: missing; give lengths from 1s to 90d"),
    "no aggregates": ({"aggregates": []}, r"aggregates: missing; give one or more of count, sum"),
    "an unreadable window": ({"windows": ["1y"]}, r'windows = "1y": give a whole number and a unit'),
    "a window too short": ({"windows": ["999ms"]}, r'windows: "999ms" is not between 1s and 90d'),
    "a window too long": ({"windows": ["91d"]}, r'windows: "91d" is not between 1s and 90d'),
    "an unknown aggregate": ({"aggregates": ["median"]}, r'aggregates: "median": give one of count, sum'),
    "a count over a field": ({"of": "amount"}, r'"count" is not taken over a field'),
    "a sum over nothing": ({"aggregates": ["sum"]}, r'of = "": "sum" needs one declared field'),
    "a sum over an unknown field": (
        {"aggregates": ["sum"], "of": "fee"}, r'of = "fee": "sum" needs one declared field'),
    "a sum over two fields": ({"aggregates": ["sum"], "of": ["amount", "tip"]}, r'"sum" needs one declared field'),
    "a sum over a text": ({"aggregates": ["sum"], "of": "channel"}, r'of = "channel": "sum" needs a numeric field'),
    "a sum over a time": (
        {"aggregates": ["sum"], "of": "event_time"}, r'of = "event_time": "sum" needs a numeric field'),
    "distinct over an amount": (
        {"aggregates": ["distinct"], "of": "amount"}, r'"distinct" needs an id or a category'),
    "distinct over a time": (
        {"aggregates": ["distinct"], "of": "event_time"}, r'"distinct" needs an id or a category'),
    "a velocity without a baseline": (
        {"aggregates": ["velocity"]}, r'baseline: missing; "velocity" compares with a longer window'),
    "a baseline no longer than the window": (
        {"aggregates": ["velocity"], "baseline": "60m"}, r'baseline = "60m": must be longer than the window 1h'),
    "an unreadable baseline": (
        {"aggregates": ["velocity"], "baseline": "long"}, r'baseline = "long": give a whole number and a unit'),
    "a baseline too long": (
        {"aggregates": ["velocity"], "baseline": "91d"}, r'baseline: "91d" is not between 1s and 90d'),
    "a window declared twice": ({"windows": ["1h", "1h"]}, r"card_count_1h is declared twice"),
    "a window of the transaction itself": (
        {"entity": "event", "of": "amount", "aggregates": ["value"]}, r'entity "event" looks at one transaction'),
    "an unknown field of the transaction": (
        {"entity": "event", "of": "fee", "aggregates": ["value"], "windows": []},
        r'of = "fee": not a declared field',
    ),
    "no field of the transaction": (
        {"entity": "event", "aggregates": ["value"], "windows": []}, r'of = "": not a declared field'),
    "an unknown aggregate of the transaction": (
        {"entity": "event", "of": "amount", "aggregates": ["sum"], "windows": []},
        r'aggregates: "sum": give one of value, hour_of_day',
    ),
    "the value of an id": (
        {"entity": "event", "of": "merchant_id", "aggregates": ["value"], "windows": []},
        r'"value" needs one numeric field, or a category with listed values',
    ),
    "the value of a time": (
        {"entity": "event", "of": "event_time", "aggregates": ["value"], "windows": []},
        r'"value" needs one numeric field, or a category with listed values',
    ),
    "the hour of an amount": (
        {"entity": "event", "of": "amount", "aggregates": ["hour_of_day"], "windows": []},
        r'"hour_of_day" needs the event time, "event_time"',
    ),
    "differing numbers": (
        {"entity": "event", "of": ["amount", "tip"], "aggregates": ["differs"], "windows": []},
        r'"differs" needs two id or category fields',
    ),
    "an empty list of fields": (
        {"entity": "event", "of": [], "aggregates": ["differs"], "windows": []},
        r'"differs" needs two id or category fields',
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_declaration_gets_one_line_that_names_it_and_the_accepted_form(wrong: str) -> None:
    group, told = WRONG[wrong]
    with pytest.raises(ConfigError) as caught:
        catalog_of(**group)
    line = str(caught.value)
    assert line.startswith("features[0]"), line
    assert re.search(told, line)
    assert "\n" not in line


def test_the_line_counts_the_groups_from_the_first() -> None:
    groups = [
        FeatureGroup(entity="card", aggregates=["count"], windows=["1h"]),
        FeatureGroup(entity="card", aggregates=["count"], windows=["2h", "1h"]),
    ]
    with pytest.raises(ConfigError, match=r"^features\[1\]: card_count_1h is declared twice"):
        build_catalog(groups, card_event())


def test_no_features_and_too_many_are_refused() -> None:
    with pytest.raises(ConfigError, match=f"features: 0 declared; give 1 to {FEATURES_MAX}"):
        build_catalog([], card_event())
    windows = [f"{second}s" for second in range(1, FEATURES_MAX + 2)]
    with pytest.raises(ConfigError, match=f"features: {FEATURES_MAX + 1} declared; give 1 to {FEATURES_MAX}"):
        catalog_of(windows=windows)


def test_a_category_without_listed_values_has_no_code() -> None:
    event = card_event()
    unlisted = msgspec.structs.replace(event, fields={**event.fields, "channel": Field(type="category")})
    assert catalog_of(event, entity="event", of="channel", aggregates=["value"], windows=[]).names == [
        "channel"
    ]
    with pytest.raises(ConfigError, match="a category with listed values"):
        catalog_of(unlisted, entity="event", of="channel", aggregates=["value"], windows=[])
