"""The simulated world keeps its promises: shape, rhythm, scenarios, and the law by which labels come."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fraudstream.errors import ConfigError
from fraudstream.simulate import CATEGORIES, DAY_MS, PLACES, SCENARIOS, World, WorldConfig, simulate

HOUR_MS = DAY_MS // 24
CONFIG = WorldConfig(customers=1_500, days=60, fraud_rate=0.01, seed=5)
TRANSACTION_COLUMNS = {
    "transaction_id": pa.string(),
    "event_time": pa.int64(),
    "card_id": pa.string(),
    "merchant_id": pa.string(),
    "amount": pa.float64(),
    "currency": pa.string(),
    "merchant_category": pa.string(),
    "merchant_country": pa.string(),
    "merchant_city": pa.string(),
    "channel": pa.string(),
    "device_id": pa.string(),
    "card_country": pa.string(),
}

small_worlds = st.builds(
    WorldConfig,
    customers=st.integers(10, 60),
    merchants=st.integers(30, 90),
    days=st.integers(1, 12),
    transactions_per_customer_day=st.sampled_from([0.01, 0.3, 2.0, 20.0]),
    fraud_rate=st.sampled_from([0.0, 0.001, 0.01, 0.2]),
    seed=st.integers(0, 2**63 - 1),
    peak_day=st.none() | st.integers(0, 15),
    new_pattern_day=st.none() | st.integers(0, 15),
)


@pytest.fixture(scope="module")
def world() -> World:
    return simulate(CONFIG)


@pytest.fixture(scope="module")
def labels_of_many_frauds() -> tuple[World, dict[str, NDArray[Any]]]:
    """A world with thousands of frauds, and each label with the event time and truth of its transaction."""
    many = simulate(WorldConfig(customers=2_000, days=60, fraud_rate=0.05, seed=8))
    position = pc.index_in(many.labels["transaction_id"], many.transactions["transaction_id"]).to_numpy()
    return many, {
        "position": position,
        "delay_days": (
            many.labels["known_at"].to_numpy() - many.transactions["event_time"].to_numpy()[position]
        )
        / DAY_MS,
        "says_fraud": pc.equal(many.labels["label"], "fraud").to_numpy(),
        "source": strings(many.labels["source"]),
        "is_fraud": many.truth["is_fraud"].to_numpy()[position],
    }


def strings(column: pa.ChunkedArray) -> NDArray[np.str_]:
    return np.array(column.to_pylist(), dtype=np.str_)


def days_of(table: pa.Table, config: WorldConfig) -> NDArray[np.int64]:
    days: NDArray[np.int64] = (table["event_time"].to_numpy() - config.start_ms) // DAY_MS
    return days


def test_the_same_config_gives_identical_tables(world: World) -> None:
    again = simulate(CONFIG)
    assert again.transactions.equals(world.transactions)
    assert again.labels.equals(world.labels)
    assert again.truth.equals(world.truth)


def test_another_seed_gives_another_world(world: World) -> None:
    other = simulate(WorldConfig(customers=1_500, days=60, fraud_rate=0.01, seed=6))
    assert not other.transactions["amount"].equals(world.transactions["amount"])


def test_the_legitimate_part_does_not_depend_on_the_fraud_rate(world: World) -> None:
    honest = simulate(WorldConfig(customers=1_500, days=60, fraud_rate=0.0, seed=5))
    legit = world.transactions.filter(pc.equal(world.truth["scenario"], "legit"))
    columns = ["event_time", "card_id", "merchant_id", "amount", "channel"]
    assert legit.select(columns).combine_chunks().equals(honest.transactions.select(columns))


def test_the_columns_of_a_transaction_are_those_of_a_card_payment(world: World) -> None:
    assert {field.name: field.type for field in world.transactions.schema} == TRANSACTION_COLUMNS
    for name in TRANSACTION_COLUMNS:
        assert (world.transactions[name].null_count > 0) == (name == "device_id")


def test_codes_are_among_those_documented(world: World) -> None:
    seen = {name: set(world.transactions[name].unique().to_pylist()) for name in TRANSACTION_COLUMNS}
    assert seen["merchant_category"] == {category.name for category in CATEGORIES}
    assert seen["merchant_country"] <= {place.country for place in PLACES}
    assert seen["merchant_city"] <= {place.city for place in PLACES}
    assert seen["card_country"] == {place.country for place in PLACES if place.home}
    assert seen["channel"] == {"pos", "contactless", "online", "atm"}
    assert seen["currency"] == {"EUR"}


def test_a_device_is_known_exactly_for_online_payments(world: World) -> None:
    online = pc.equal(world.transactions["channel"], "online")
    assert pc.is_valid(world.transactions["device_id"]).equals(online)


def test_a_merchant_has_one_category_and_one_place(world: World) -> None:
    columns = ["merchant_id", "merchant_category", "merchant_country", "merchant_city"]
    kinds = world.transactions.group_by(columns).aggregate([])
    assert kinds.num_rows == len(world.transactions["merchant_id"].unique())


def test_a_card_has_one_home_country(world: World) -> None:
    kinds = world.transactions.group_by(["card_id", "card_country"]).aggregate([])
    assert kinds.num_rows == len(world.transactions["card_id"].unique())


@settings(max_examples=40, deadline=None)
@given(small_worlds)
def test_any_small_world_is_sorted_whole_and_within_its_period(config: WorldConfig) -> None:
    world = simulate(config)
    event_time = world.transactions["event_time"].to_numpy()
    ids = world.transactions["transaction_id"].to_pylist()
    assert list(zip(event_time, ids, strict=True)) == sorted(zip(event_time, ids, strict=True))
    assert len(set(ids)) == len(ids)
    assert world.truth["transaction_id"].to_pylist() == ids
    assert ((event_time >= config.start_ms) & (event_time < config.end_ms)).all()
    amount = world.transactions["amount"].to_numpy()
    assert (amount > 0).all()
    assert (np.round(amount, 2) == amount).all()
    assert set(world.labels["transaction_id"].to_pylist()) <= set(ids)
    known_at = world.labels["known_at"].to_numpy()
    assert (np.diff(known_at) >= 0).all()
    if config.fraud_rate == 0.0:
        assert not world.truth["is_fraud"].to_numpy().any()


def test_amounts_are_positive_and_have_two_decimals(world: World) -> None:
    amount = world.transactions["amount"].to_numpy()
    assert amount.min() > 0
    assert all(float(f"{value:.2f}") == value for value in amount[:20_000])


def test_truth_names_the_scenario_of_each_fraud_and_only_of_frauds(world: World) -> None:
    legit = pc.equal(world.truth["scenario"], "legit")
    assert pc.invert(legit).equals(world.truth["is_fraud"])


def test_every_scenario_occurs_at_about_its_share(world: World) -> None:
    scenario = strings(world.truth["scenario"])
    frauds = (scenario != "legit").sum()
    shares = {name: (scenario == name).sum() / frauds for name in SCENARIOS}
    assert min(shares.values()) > 0.05
    assert max(shares.values()) < 0.35


@pytest.mark.parametrize("days", [1, 3, 10])
def test_every_scenario_occurs_in_a_short_world_too(days: int) -> None:
    world = simulate(WorldConfig(customers=300, days=days, new_pattern_day=days - 1))
    assert set(strings(world.truth["scenario"])) == {"legit", *SCENARIOS}


def test_every_scenario_but_the_new_pattern_goes_on_to_the_last_week(world: World) -> None:
    scenario = strings(world.truth["scenario"])
    last_week = days_of(world.transactions, CONFIG) >= CONFIG.days - 7
    assert set(scenario[last_week]) == {"legit", *SCENARIOS}


def test_the_new_pattern_and_its_merchants_are_absent_before_their_day(world: World) -> None:
    assert CONFIG.new_pattern_day is not None
    new = strings(world.truth["scenario"]) == "new_pattern"
    day = days_of(world.transactions, CONFIG)
    merchant = strings(world.transactions["merchant_id"])
    fresh = np.isin(merchant, np.unique(merchant[new]))
    assert day[new].min() >= CONFIG.new_pattern_day
    assert day[fresh].min() >= CONFIG.new_pattern_day
    assert (fresh & ~new).sum() > 20, "honest customers use the new merchants as well"


@pytest.mark.parametrize("never", [None, 60, 400])
def test_a_new_pattern_day_after_the_end_is_never(never: int | None) -> None:
    world = simulate(WorldConfig(customers=200, days=20, new_pattern_day=never))
    assert set(strings(world.truth["scenario"])) == {"legit", *SCENARIOS} - {"new_pattern"}


@pytest.mark.parametrize("rate", [0.002, 0.006, 0.05])
def test_the_fraud_rate_is_near_its_target(rate: float) -> None:
    world = simulate(WorldConfig(customers=1_000, days=30, fraud_rate=rate))
    assert world.truth["is_fraud"].to_numpy().mean() == pytest.approx(rate, rel=0.1)


def test_the_volume_is_near_the_asked_mean_of_a_usual_day() -> None:
    config = WorldConfig(customers=2_000, days=28, transactions_per_customer_day=3.0, peak_day=None)
    mean = simulate(config).transactions.num_rows / (config.customers * config.days)
    assert mean == pytest.approx(3.0, rel=0.05)


def test_nights_are_quieter_than_days(world: World) -> None:
    hour = world.transactions["event_time"].to_numpy() // HOUR_MS % 24
    by_hour = np.bincount(hour, minlength=24)
    assert by_hour[1:5].mean() < by_hour[10:20].mean() / 5


def test_saturdays_are_busier_than_sundays(world: World) -> None:
    volume = np.bincount(days_of(world.transactions, CONFIG))
    weekday = (CONFIG.start_ms // DAY_MS + 3 + np.arange(CONFIG.days)) % 7
    assert volume[weekday == 5].mean() > 1.3 * volume[weekday == 6].mean()


def test_the_peak_day_has_about_three_times_the_volume(world: World) -> None:
    volume = np.bincount(days_of(world.transactions, CONFIG))
    assert CONFIG.peak_day is not None
    same_weekday = [CONFIG.peak_day - 14, CONFIG.peak_day - 7, CONFIG.peak_day + 7]
    assert 2.5 < volume[CONFIG.peak_day] / volume[same_weekday].mean() < 3.5


def test_a_testing_thief_pays_tiny_amounts_in_quick_succession(world: World) -> None:
    testing = world.transactions.filter(pc.equal(world.truth["scenario"], "card_testing"))
    amount = testing["amount"].to_numpy()
    tiny = testing.filter(pa.array(amount < 5.0)).sort_by(
        [("card_id", "ascending"), ("event_time", "ascending")]
    )
    same_card = np.diff(np.unique(strings(tiny["card_id"]), return_inverse=True)[1]) == 0
    gap_ms = np.diff(tiny["event_time"].to_numpy())[same_card]
    assert np.median(amount) < 10.0 < np.quantile(amount, 0.9)
    assert np.median(gap_ms) < 5 * 60_000


def test_an_account_takeover_is_abroad_and_on_devices_unknown_to_the_card(world: World) -> None:
    scenario = strings(world.truth["scenario"])
    card, device = strings(world.transactions["card_id"]), strings(world.transactions["device_id"])
    own = set(zip(card[scenario == "legit"], device[scenario == "legit"], strict=True))
    taken = scenario == "account_takeover"
    known = [pair in own for pair in zip(card[taken], device[taken], strict=True)]
    abroad = strings(world.transactions["merchant_country"]) != strings(world.transactions["card_country"])
    assert np.mean(known) < 0.15
    assert abroad[taken].mean() > 0.85


def test_cards_abused_after_a_leak_had_paid_at_a_common_merchant(world: World) -> None:
    scenario = strings(world.truth["scenario"])
    card, merchant = strings(world.transactions["card_id"]), strings(world.transactions["merchant_id"])
    legit = scenario == "legit"
    visited: dict[str, set[str]] = {}
    for who, where in zip(card[legit], merchant[legit], strict=True):
        visited.setdefault(where, set()).add(who)
    victims = set(card[scenario == "compromised_merchant"])
    assert max(len(victims & cards) for cards in visited.values()) >= 8


def test_fraud_overlaps_legitimate_amounts_and_categories(world: World) -> None:
    is_fraud = world.truth["is_fraud"].to_numpy()
    amount = world.transactions["amount"].to_numpy()
    category = strings(world.transactions["merchant_category"])
    low, high = np.quantile(amount[~is_fraud], [0.005, 0.995])
    assert ((amount[is_fraud] > low) & (amount[is_fraud] < high)).mean() > 0.85
    assert set(category[is_fraud]) <= set(category[~is_fraud])


def test_labels_refer_to_transactions_and_are_known_after_them(
    labels_of_many_frauds: tuple[World, dict[str, NDArray[Any]]],
) -> None:
    many, label = labels_of_many_frauds
    assert many.labels.schema.names == ["transaction_id", "label", "known_at", "source"]
    assert len(label["position"]) == many.labels.num_rows
    assert label["delay_days"].min() * 24 >= 1.0
    assert (np.diff(many.labels["known_at"].to_numpy()) >= 0).all()


def test_about_a_twelfth_of_the_frauds_is_never_labelled(
    labels_of_many_frauds: tuple[World, dict[str, NDArray[Any]]],
) -> None:
    many, label = labels_of_many_frauds
    found = np.unique(label["position"][label["says_fraud"] & label["is_fraud"]])
    frauds = many.truth["is_fraud"].to_numpy().sum()
    assert 0.06 < 1 - len(found) / frauds < 0.10


def test_the_median_delay_is_about_six_days_with_a_tail_of_two_months(
    labels_of_many_frauds: tuple[World, dict[str, NDArray[Any]]],
) -> None:
    _, label = labels_of_many_frauds
    delay_days = label["delay_days"][label["says_fraud"]]
    assert 5.0 < np.median(delay_days) < 7.5
    assert 0.005 < (delay_days > 60).mean() < 0.05
    assert np.median(label["delay_days"][label["source"] == "customer_report"]) < 1.5
    assert set(label["source"]) == {"chargeback", "customer_report", "analyst"}


def test_some_labels_become_known_after_the_period(
    labels_of_many_frauds: tuple[World, dict[str, NDArray[Any]]],
) -> None:
    many, _ = labels_of_many_frauds
    end_ms = WorldConfig().start_ms + 60 * DAY_MS
    assert 0.03 < (many.labels["known_at"].to_numpy() >= end_ms).mean() < 0.3


def test_a_fiftieth_of_the_fraud_labels_is_wrong_and_most_of_those_are_reversed_later(
    labels_of_many_frauds: tuple[World, dict[str, NDArray[Any]]],
) -> None:
    _, label = labels_of_many_frauds
    wrong = label["says_fraud"] & ~label["is_fraud"]
    reversed_ = ~label["says_fraud"]
    assert wrong.sum() / label["says_fraud"].sum() == pytest.approx(0.02, abs=0.002)
    assert 0.6 < reversed_.sum() / wrong.sum() < 0.95
    assert set(label["source"][reversed_]) == {"analyst"}
    claimed = dict(zip(label["position"][wrong], label["delay_days"][wrong], strict=True))
    undone = zip(label["position"][reversed_], label["delay_days"][reversed_], strict=True)
    assert all(delay_days > claimed[position] for position, delay_days in undone)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("customers", 9),
        ("customers", 2.5),
        ("merchants", 0),
        ("start_ms", -1),
        ("start_ms", 1_767_225_600_001),
        ("days", 0),
        ("days", True),
        ("transactions_per_customer_day", 0.0),
        ("transactions_per_customer_day", float("nan")),
        ("fraud_rate", 0.5),
        ("fraud_rate", "0.01"),
        ("seed", -1),
        ("peak_day", -1),
        ("new_pattern_day", 1.5),
    ],
)
def test_a_bad_value_is_refused_in_one_line_naming_key_and_value(key: str, value: object) -> None:
    arguments: dict[str, Any] = {key: value}
    with pytest.raises(ConfigError) as caught:
        WorldConfig(**arguments)
    message = str(caught.value)
    assert message.startswith(f"{key} = {value!r}: expected ")
    assert "\n" not in message


def test_a_world_too_large_to_hold_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^customers = 10000000: .*at most 100000000$"):
        WorldConfig(customers=10_000_000)
