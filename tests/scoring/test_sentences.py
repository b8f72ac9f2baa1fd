"""Reasons in words: every aggregate in every language, and every number of a sentence from what stands beside it."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.features import build_catalog
from fraudstream.features.aggregates import AGGREGATES, EVENT_AGGREGATES, LABELLED
from fraudstream.features.catalog import Catalog
from fraudstream.features.engine import FLAG_COLD
from fraudstream.records import Number
from fraudstream.scoring.sentences import Sentence, sentence_of, sentences_of
from fraudstream.sections import FeatureGroup
from fraudstream.settings import load_settings
from fraudstream.words import Words, read_words
from tests.features.test_catalog import ONLINE, catalog_of
from tests.strategies import card_event

LANGUAGES = ("en", "fr")
FIELDS = {"": "", "measure": "amount", "text": "merchant_id"}


def say(value: float, language: str = "en", **group: Any) -> str:
    catalog = catalog_of(**group)
    sentence = sentence_of(catalog.features[0], catalog.event, read_words(language))
    return sentence.say(value, [value], 0, "EUR")[0]


def built_in() -> Catalog:
    settings = load_settings(environment={})
    return build_catalog(settings.features, settings.event)


def digits_left(text: str, numbers: dict[str, Number]) -> str:
    """Return the digits of a text that no number of it accounts for."""
    for said in sorted((number.said for number in numbers.values()), key=len, reverse=True):
        text = text.replace(said, "")
    return "".join(re.findall(r"\d", text))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", AGGREGATES)
def test_every_aggregate_is_said_in_every_language(name: str, language: str) -> None:
    where = ONLINE if AGGREGATES[name].compares else ""
    for value in (0.0, 1.0, 0.5, 7.0, math.nan):
        for lag in ("", "7d"):
            told = say(
                value, language, of=FIELDS[AGGREGATES[name].of], aggregates=[name], baseline="30d",
                where=where, lag=lag,
            )  # fmt: skip
            assert told
            assert not re.search(r"[{}]|\bnan\b", told)
            assert ("card" if language == "en" else "carte") in told


@pytest.mark.parametrize("language", LANGUAGES)
def test_labels_and_the_transaction_itself_are_said_in_every_language(language: str) -> None:
    words = read_words(language)
    assert set(words.table["labelled"]) == set(LABELLED)
    assert set(words.table["event"]) == set(EVENT_AGGREGATES)
    assert set(words.table["aggregates"]) == set(AGGREGATES)
    of = {"value": "amount", "differs": ["merchant_id", "channel"]}
    for name in EVENT_AGGREGATES:
        group = {"entity": "event", "aggregates": [name], "of": of.get(name, "event_time"), "windows": []}
        assert "{" not in say(1.0, language, **group) + say(math.nan, language, **group)
    for name in LABELLED:
        field = FIELDS[AGGREGATES[name].of]
        assert "{" not in say(0.5, language, of=field, aggregates=[name], label="fraud", lag="7d")


@pytest.mark.parametrize("language", LANGUAGES)
@given(data=st.data())
def test_every_number_of_a_sentence_stands_beside_it_and_is_its_value_rounded(
    language: str, data: st.DataObject
) -> None:
    catalog, words = built_in(), read_words(language)
    row = st.one_of(st.just(math.nan), st.sampled_from([0.0, 1.0]), st.floats(0.0, 1e6))
    x = data.draw(st.lists(row, min_size=len(catalog), max_size=len(catalog)))
    for name, limit in (("channel", 3), ("day_of_week", 6), ("hour_of_day", 23)):
        column = catalog.names.index(name)
        x[column] = math.nan if math.isnan(x[column]) else float(min(x[column], limit) // 1)
    currency = data.draw(st.sampled_from([None, "EUR", "JPY"]))
    column = data.draw(st.integers(0, len(catalog) - 1))
    text, numbers = sentences_of(catalog, words)[column].say(x[column], x, 0, currency)
    feature = catalog.features[column]
    filtered = [str(condition.value) for condition in feature.where]
    for part in filtered:
        text = text.replace(part, "")
    assert digits_left(text, numbers) == ""
    for place, number in numbers.items():
        if number.feature:
            assert number.value == x[catalog.names.index(number.feature)]
            assert read_back(number, words) == pytest.approx(
                number.value * number.factor,
                rel=0.06,
                abs=0.006 if number.unit in ("amount", "EUR") else 0.51,
            ), (place, number)


def read_back(number: Number, words: Words) -> float:
    """Return the number that a text says, in the unit of its value."""
    table = words.table
    plain = number.said.replace(table["numbers"]["thousands"], "").replace(table["numbers"]["decimal"], ".")
    found = re.match(r"-?[\d.]+", plain)
    if found is None:
        return number.value * number.factor  # a weekday, a channel
    said = float(found[0])
    units = {table["durations"][unit].format(n="").strip(): length for unit, length in
             (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))}  # fmt: skip
    if number.unit == "seconds":
        return said * units[plain[found.end() :].strip()]
    return said / 100 if number.unit == "share" else said


def sentence(catalog: Catalog, name: str) -> Sentence:
    return sentences_of(catalog, read_words())[catalog.names.index(name)]


def values(catalog: Catalog, **known: float) -> list[float]:
    return [known.get(name, math.nan) for name in catalog.names]


@pytest.mark.parametrize(
    ("name", "known", "words"),
    [
        ("card_count_1h", {"card_count_1h": 11.0, "card_count_30d": 288.0},
         "11 earlier transactions of this card in 1 h; its 30 d mean is 0.4 in 1 h"),
        ("card_count_1h", {"card_count_1h": 1.0, "card_count_30d": 2.0},
         "1 earlier transaction of this card in 1 h; over 30 d: 2"),
        ("card_count_1h", {"card_count_1h": 0.0}, "no earlier transaction of this card in 1 h"),
        ("card_amount_zscore_30d", {"card_amount_zscore_30d": 4.2, "card_amount_mean_30d": 31.204},
         "amount is 4.20 standard deviations from the 30 d mean of this card, 31.20 EUR"),
        ("amount", {"amount": 1244.3, "card_amount_mean_30d": 31.2},
         "amount is 1,244.30 EUR; the 30 d mean of this card is 31.20 EUR"),
        ("card_time_since_last_30d", {"card_time_since_last_30d": 42.0, "card_count_30d": 39.0},
         "the last transaction of this card was 42 s earlier; its 30 d mean is 1.3 in 1 d"),
        ("card_hour_habit_30d", {"card_hour_habit_30d": 0.0094, "card_count_30d": 106.0},
         "0.94 % of this card's transactions in 30 d were at about this time of day, of 106 in all"),
        ("card_device_id_time_since_same_30d", {"card_device_id_same_count_30d": 0.0, "card_count_10m": 0.0},
         "this card was never seen before with the same device, looking back 30 d"),
        ("device_time_since_last_30d", {}, "this transaction names no device"),
        ("channel", {"channel": 2.0}, "channel is online"),
    ],
)  # fmt: skip
def test_a_value_is_said_beside_the_entitys_own_baseline(
    name: str, known: dict[str, float], words: str
) -> None:
    catalog = built_in()
    x = values(catalog, **known)
    assert sentence(catalog, name).say(x[catalog.names.index(name)], x, 0, "EUR")[0] == words


def test_where_the_history_is_short_nothing_is_said_of_what_was_never_seen() -> None:
    catalog = built_in()
    told, numbers = sentence(catalog, "device_time_since_last_30d").say(
        math.nan, values(catalog), int(FLAG_COLD), None
    )
    assert told == "this device was not seen in the 30 d before, or the history is shorter"
    assert numbers["window"].value == 30 * 86_400


@pytest.mark.parametrize(
    ("currency", "said"), [("JPY", "1,235 JPY"), ("KWD", "1,234.568 KWD"), (None, "1,234.57")]
)
def test_an_amount_has_the_digits_of_its_currency(currency: str | None, said: str) -> None:
    catalog = built_in()
    told, numbers = sentence(catalog, "amount").say(1234.5678, values(catalog, amount=1234.5678), 0, currency)
    assert told == f"amount is {said}"
    assert numbers["value"].unit == (currency or "amount")


@pytest.mark.parametrize(
    ("group", "value", "words"),
    [
        ({"aggregates": ["velocity"], "baseline": "30d"}, 12.345,
         "transactions of this card in 1 h come 12.35 times as often as over 30 d"),
        (
            {"aggregates": ["rate"], "windows": ["7d"], "label": "fraud", "lag": "7d"}, 0.02,
            "2 % of this card's transactions in 7 d, as known 7 d later, were fraud",
        ),
        ({"label": "fraud", "lag": "7d"}, 1.0,
         "1 of this card's transactions in 1 h, as known 7 d later, was fraud"),
        ({"label": "fraud", "lag": "7d"}, 0.0,
         "none of this card's transactions in 1 h, as known 7 d later, were fraud"),
        (
            {"aggregates": ["rate"], "label": "fraud", "lag": "7d", "where": "items > 1"}, 0.004,
            "0.4 % of this card's transactions in 1 h, as known 7 d later, were fraud and had items > 1",
        ),
        ({"aggregates": ["rate"], "where": ONLINE}, 0.25,
         '25 % of this card\'s transactions in 1 h had channel = "online" and amount >= 100'),
        ({"where": 'merchant_id != "{of}{{"'}, 2.0,
         '2 earlier transactions of this card with merchant id != "{of}{{" in 1 h'),
        ({"where": "items > 1"}, 0.0, "no earlier transaction of this card with items > 1 in 1 h"),
        ({"lag": "7d"}, 3.0, "3 earlier transactions of this card in the 1 h that ended 7 d earlier"),
        ({"aggregates": ["first_seen"]}, 1.0, "this card was never seen before, looking back 1 h"),
        ({"aggregates": ["first_seen"]}, 0.0, "this card was seen before in 1 h"),
        ({"of": "merchant_id", "aggregates": ["same_count"]}, 1.0,
         "1 earlier transaction of this card with the same merchant in 1 h"),
        ({"of": "merchant_id", "aggregates": ["time_since_same"]}, 5400.0,
         "the last transaction of this card with the same merchant was 1.5 h earlier"),
        ({"aggregates": ["time_since_last"], "lag": "1d"}, math.nan,
         "this card was not seen in the 1 h that ended 1 d earlier, or the history is shorter"),
        ({"of": "items", "aggregates": ["sum"]}, 3.0, "items of this card in 1 h adds up to 3"),
    ],
)  # fmt: skip
def test_filter_lag_and_label_are_said_in_words(group: dict[str, Any], value: float, words: str) -> None:
    assert say(value, **group) == words


def test_french_says_it_in_french() -> None:
    assert say(1234.5, "fr", of="amount", aggregates=["max"], windows=["30d"]) == (
        "montant, maximum de cette carte en 30 j : 1\u202f234,50 EUR"
    )
    assert say(0.0, "fr") == "aucune transaction antérieure de cette carte en 1 h"


def test_entities_and_fields_without_words_of_their_own_are_said_by_their_names() -> None:
    event = card_event()
    (feature,) = build_catalog(
        [FeatureGroup(entity="card_merchant", of="items", aggregates=["max"], windows=["1h"])], event
    ).features
    told = sentence_of(feature, event, read_words()).say(4.0, [4.0], 0, None)[0]
    assert told == "largest items of this card and merchant in 1 h was 4"
