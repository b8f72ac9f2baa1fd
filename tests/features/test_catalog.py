"""The catalogue: what a declaration spells out to, and the one line that each wrong one gets."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given

from fraudstream.errors import ConfigError
from fraudstream.event import EventType, Field
from fraudstream.features import Catalog, build_catalog, check_catalog, codes
from fraudstream.features.aggregates import AGGREGATES, EVENT_AGGREGATES
from fraudstream.features.catalog import stage_name
from fraudstream.features.declare import FEATURES_MAX, declaration_of
from fraudstream.sections import FeatureGroup
from fraudstream.settings import load_settings
from tests.strategies import bounds, card_event, catalogs, flavours

ONLINE = 'channel = "online" and amount >= 100'
OWN_FLAVOURS = flavours("h", (1, 2, 3))


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


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ({"where": ONLINE}, "card_channel_online_and_amount_ge_100_count_1h"),
        ({"lag": "7d"}, "card_count_1h_lag7d"),
        ({"label": "fraud", "lag": "7d"}, "card_fraud_count_1h_lag7d"),
        ({"resolution": "5m"}, "card_count_1h_tiles5m"),
        ({"lag": "1d", "resolution": "60s"}, "card_count_1h_lag1d_tiles60s"),
        (
            {"aggregates": ["velocity"], "baseline": "30d", "lag": "7d", "resolution": "5m"},
            "card_velocity_1h_30d_lag7d_tiles5m",
        ),
        (
            {"where": "items < 3", "of": "amount", "aggregates": ["mean"], "lag": "1h"},
            "card_items_lt_3_amount_mean_1h_lag1h",
        ),
        (
            {"where": "recurring = true", "label": "fraud", "lag": "1w", "aggregates": ["rate"]},
            "card_recurring_true_fraud_rate_1h_lag1w",
        ),
        (
            {"of": "merchant_id", "aggregates": ["time_since_same"]},
            "card_merchant_id_time_since_same_1h",
        ),
    ],
)
def test_a_name_tells_filter_label_lag_and_tiles(group: dict[str, Any], name: str) -> None:
    assert catalog_of(**group).names == [name]


def test_a_feature_keeps_what_was_declared() -> None:
    (feature,) = catalog_of(where=ONLINE, label="fraud", lag="7d", resolution="5m").features
    assert [(c.field, c.op, c.value) for c in feature.where] == [
        ("channel", "=", "online"), ("amount", ">=", 10_000),
    ]  # fmt: skip
    assert (feature.lag_ms, feature.label, feature.resolution_ms) == (604_800_000, "fraud", 300_000)
    assert feature.reach_ms == 604_800_000 + 3_600_000
    (velocity,) = catalog_of(aggregates=["velocity"], baseline="30d", lag="1d").features
    assert velocity.reach_ms == 31 * 86_400_000


def test_every_aggregate_has_its_number_in_the_kernels() -> None:
    assert {name: spec.code for name, spec in AGGREGATES.items()} == {
        name: getattr(codes, name.upper()) for name in AGGREGATES
    }


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


@given(catalogs("h", OWN_FLAVOURS))
def test_ids_are_stable_and_different_for_every_feature(catalog: Catalog) -> None:
    assert len({feature.id for feature in catalog.features}) == len(catalog)
    assert all(re.fullmatch("[0-9a-f]{16}", feature.id) for feature in catalog.features)


@given(catalogs("h", OWN_FLAVOURS))
def test_a_feature_by_itself_declares_the_same_feature(catalog: Catalog) -> None:
    for feature in catalog.features:
        assert build_catalog([declaration_of(feature, catalog.event)], catalog.event).features == (feature,)


def test_the_ids_that_models_name_stay_what_they_are() -> None:
    settings = load_settings(environment={})
    ids = {f.name: f.id for f in build_catalog(settings.features, settings.event).features}
    known = {
        "channel": "facc334d3aeb7785",
        "hour_of_day": "a669652b28f28386",
        "card_velocity_1h_30d": "34e22e02d350d66d",
        "card_amount_zscore_30d": "74755925262a3720",
        "card_merchant_category_share_30d": "c938dd66166a8739",
        "merchant_count_24h": "b450e9bd1eb4d701",
    }
    assert {name: ids[name] for name in known} == known


def test_every_key_of_a_declaration_makes_another_id() -> None:
    groups: list[dict[str, Any]] = [
        {}, {"where": ONLINE}, {"where": "amount >= 100"}, {"where": "amount >= 101"}, {"where": "amount > 100"},
        {"lag": "7d"}, {"lag": "8d"}, {"label": "fraud", "lag": "7d"}, {"resolution": "5m"}, {"resolution": "1m"},
    ]  # fmt: skip
    assert len({catalog_of(**group).features[0].id for group in groups}) == len(groups)


def test_how_a_model_may_follow_a_feature_is_no_part_of_its_definition() -> None:
    plain, rising = catalog_of().features[0], catalog_of(monotone="rising").features[0]
    assert (plain.id, plain.name) == (rising.id, rising.name)
    assert (plain.monotone, rising.monotone) == ("", "rising")


def test_a_number_in_a_filter_is_the_same_however_it_is_written() -> None:
    plain, long = (catalog_of(where=where).features[0] for where in ("amount >= 100", "amount  >=100.00"))
    assert plain == long


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


def test_tiles_are_a_stage_of_their_own() -> None:
    groups = [
        FeatureGroup(entity="card", aggregates=["count"], windows=["1h"], where="items > 1"),
        FeatureGroup(entity="card", aggregates=["count"], windows=["1h"], resolution="5m"),
        FeatureGroup(entity="card", aggregates=["count"], windows=["2h"], resolution="300s"),
        FeatureGroup(entity="device", aggregates=["count"], windows=["2h"]),
    ]
    catalog = build_catalog(groups, card_event())
    assert catalog.stages == [("card", 0), ("card", 300_000), ("device", 0)]
    assert [stage_name(*stage) for stage in catalog.stages] == ["card", "card@5m", "device"]
    assert [column for column, _ in catalog.of_stage("card", 300_000)] == [1, 2]
    assert catalog.fields_used == {"items"}


def test_tiles_must_fit_into_the_rows_of_an_entity() -> None:
    catalog = catalog_of(windows=["1h", "23h"], lag="1h", resolution="1h")
    check_catalog(catalog, bounds(lateness="2h", rows_max=28))
    with pytest.raises(
        ConfigError,
        match=r"card_count_23h_lag1h_tiles1h: needs 28 tiles of 1h for one card \(.*\), state.rows_max is 27; give",
    ):
        check_catalog(catalog, bounds(lateness="2h", rows_max=27))
    check_catalog(catalog_of(windows=["90d"]), bounds(rows_max=1))


def test_the_built_in_catalogue_spells_out() -> None:
    settings = load_settings(environment={})
    catalog = build_catalog(settings.features, settings.event)
    check_catalog(catalog, settings.state)
    assert len(catalog) == len(set(catalog.names)) >= 60
    assert catalog.entities == ["card", "merchant", "device"]
    assert {"card_amount_zscore_30d", "merchant_fraud_rate_30d_lag7d"} <= set(catalog.names)


def test_the_built_in_catalogue_keeps_a_cards_row_small() -> None:
    settings = load_settings(environment={})
    kept = [f for f in build_catalog(settings.features, settings.event).features if f.entity == "card"]
    fields = {field for feature in kept for field in feature.of}
    assert fields == {
        "amount", "merchant_id", "device_id", "merchant_category", "channel", "merchant_country",
    }  # fmt: skip
    assert {c.field for feature in kept for c in feature.where} <= fields


UNTILED = [name for name, spec in AGGREGATES.items() if not spec.tiled]


@pytest.mark.parametrize("aggregate", UNTILED)
def test_what_needs_every_row_is_refused_in_tiles(aggregate: str) -> None:
    of = {"": "", "text": "merchant_id", "measure": "amount"}[AGGREGATES[aggregate].of]
    with pytest.raises(ConfigError, match=rf"resolution = \"5m\": goes with count, sum, .*, not {aggregate}"):
        catalog_of(aggregates=[aggregate], of=of, resolution="5m", where=ONLINE)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown entity": ({"entity": "shop"}, r'entity = "shop": give one of event, card, device'),
    "no windows": ({"windows": []}, r"windows: missing; give lengths from 1s to 90d"),
    "no aggregates": ({"aggregates": []}, r"aggregates: missing; give one or more of count, sum"),
    "an unreadable window": ({"windows": ["1y"]}, r'windows = "1y": give a whole number and a unit'),
    "a window too short": ({"windows": ["999ms"]}, r'windows: "999ms" is not between 1s and 90d'),
    "a window too long": ({"windows": ["91d"]}, r'windows: "91d" is not between 1s and 90d'),
    "an unknown aggregate": ({"aggregates": ["mode"]}, r'aggregates: "mode": give one of count, sum'),
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
    "a label that is not fraud": (
        {"label": "legit", "lag": "7d"}, r'label = "legit": give "fraud", or leave it out'),
    "a label without a lag": ({"label": "fraud"}, r'lag: missing; label = "fraud" needs the time'),
    "a labelled sum": (
        {"aggregates": ["sum"], "of": "amount", "label": "fraud", "lag": "7d"},
        r'label = "fraud": goes with count, rate, time_since_last, .*, not sum',
    ),
    "a rate of nothing": ({"aggregates": ["rate"]}, r'where: missing; "rate" needs a where or label = "fraud"'),
    "others than nothing": (
        {"aggregates": ["others_since_last"]}, r'where: missing; "others_since_last" needs a where or label'),
    "a lag too long": ({"lag": "91d"}, r'lag: "91d" is not between 1s and 90d'),
    "no lag at all": ({"lag": "0s"}, r'lag: "0s" is not between 1s and 90d'),
    "an unreadable lag": ({"lag": "later"}, r'lag = "later": give a whole number and a unit'),
    "tiles too short": ({"resolution": "999ms"}, r'resolution: "999ms" is not between 1s and 1d'),
    "tiles too long": ({"resolution": "25h", "windows": ["2d"]}, r'resolution: "25h" is not between 1s and 1d'),
    "tiles longer than the window": ({"resolution": "2h"}, r'resolution = "2h": is longer than the window 1h'),
    "a time of day in tiles that do not divide an hour": (
        {"aggregates": ["hour_habit"], "resolution": "25m"}, r'"hour_habit" needs one that divides an hour, "15m"'),
    "the same of a number": (
        {"aggregates": ["same_count"], "of": "amount"}, r'of = "amount": "same_count" needs an id or a category'),
    "the same of nothing": ({"aggregates": ["time_since_same"]}, r'"time_since_same" needs one declared field'),
    "a rising category": (
        {"entity": "event", "of": "channel", "aggregates": ["value"], "windows": [], "monotone": "rising"},
        r'monotone = "rising": the code of a category has no order',
    ),
    "a wrong filter": ({"where": "fee > 1"}, r"where = 'fee > 1': \"fee\" is not a declared field"),
    "a filter of the transaction itself": (
        {"entity": "event", "of": "amount", "aggregates": ["value"], "windows": [], "where": "amount > 1"},
        r'where: entity "event" looks at one transaction and has no where',
    ),
    "a lag of the transaction itself": (
        {"entity": "event", "of": "amount", "aggregates": ["value"], "windows": [], "lag": "1d"},
        r'lag: entity "event" looks at one transaction and has no lag',
    ),
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


def test_more_filters_than_a_row_has_bits_for_are_refused_before_anything_starts() -> None:
    groups = [
        FeatureGroup(entity="card", aggregates=["count"], windows=["1h"], where=f"items = {number}")
        for number in range(16)
    ]
    with pytest.raises(ConfigError, match="card has 16 different `where`; 15 are accepted"):
        check_catalog(build_catalog(groups, card_event()), bounds())
