"""The filter of a declaration: what is read, how it is spelled again, and the one line that a wrong one gets."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.errors import ConfigError
from fraudstream.features.where import CONDITIONS_MAX, OPERATORS, Condition, parse_where, slug_of, spell_where
from tests.strategies import CONDITIONS, card_event

EVENT = card_event()
KEY = "features[0].where"


def parsed(text: str) -> list[tuple[str, str, str | int]]:
    return [(c.field, c.op, c.value) for c in parse_where(text, KEY, EVENT)]


@pytest.mark.parametrize(
    ("text", "conditions"),
    [
        ("", []),
        ('channel = "online"', [("channel", "=", "online")]),
        ("channel != 'online'", [("channel", "!=", "online")]),
        ('  channel="online"  ', [("channel", "=", "online")]),
        (r'merchant_id = "say \"hi\" and \u00fc"', [("merchant_id", "=", 'say "hi" and ü')]),
        ("merchant_id = ' and '", [("merchant_id", "=", " and ")]),
        ("amount >= 100", [("amount", ">=", 10_000)]),
        ("amount<0.5", [("amount", "<", 50)]),
        ("tip > -2.5", [("tip", ">", -25_000)]),
        ("items <= 3", [("items", "<=", 3)]),
        ("recurring = true", [("recurring", "=", 1)]),
        ("recurring != false", [("recurring", "!=", 0)]),
        (
            'channel = "online" and amount >= 100 and items = 1',
            [("channel", "=", "online"), ("amount", ">=", 10_000), ("items", "=", 1)],
        ),
    ],
)
def test_a_filter_is_read_into_conditions(text: str, conditions: list[tuple[str, str, str | int]]) -> None:
    assert parsed(text) == conditions


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ('channel = "online" and amount >= 100', "channel_online_and_amount_ge_100"),
        ("amount >= 100.50", "amount_ge_100_5"),
        ("amount < 5 and tip <= 0.25", "amount_lt_5_and_tip_le_0_25"),
        ("tip > -5", "tip_gt__5"),
        ("recurring != true", "recurring_ne_true"),
        ('merchant_id = "Café No. 1"', "merchant_id_caf__no__1"),
    ],
)
def test_a_filter_has_a_slug_of_small_letters_digits_and_underscores(text: str, slug: str) -> None:
    assert slug_of(parse_where(text, KEY, EVENT), EVENT) == slug


@given(st.lists(st.sampled_from(CONDITIONS), max_size=CONDITIONS_MAX))
def test_a_filter_that_is_spelled_again_is_the_same_filter(conditions: list[str]) -> None:
    where = parse_where(" and ".join(conditions), KEY, EVENT)
    assert parse_where(spell_where(where, EVENT), KEY, EVENT) == where


@given(st.text(min_size=1), st.integers(-(2**40) + 1, 2**40 - 1), st.sampled_from(list(OPERATORS)))
def test_any_text_and_any_number_can_be_compared_with(text: str, number: int, operator: str) -> None:
    where = (Condition("merchant_id", "!=", text), Condition("tip", operator, number))
    assert parse_where(spell_where(where, EVENT), KEY, EVENT) == where
    assert re.fullmatch("[a-z0-9_]+", slug_of(where, EVENT))


WRONG = {
    "no comparison": ("channel", r"give comparisons joined by and, such as channel = "),
    "no value": ("channel =", r"give comparisons joined by and"),
    "blanks": ("  ", r"give comparisons joined by and"),
    "two lines": ("items = 1\n and items = 2", r"give one line of printable characters"),
    "an open quote": ('channel = "online', r"give comparisons joined by and"),
    "an and at the end": ("items = 1 and ", r"give comparisons joined by and"),
    "a bracket": ("(items = 1)", r"give comparisons joined by and"),
    "an or": ("items = 1 or items = 2", r'"or": conditions are joined by and only'),
    "an unknown field": ("fee > 1", r'"fee" is not a declared field; declared are transaction_id, event_time'),
    "a time": ("event_time > 1", r'"event_time" has type timestamp; compare an id, category, boolean or numeric'),
    "an operator of other languages": (
        'channel == "online"', r'"==": channel has type category; compare it with =, !='),
    "an ordered text": ('merchant_id < "m"', r'"<": merchant_id has type id; compare it with =, !='),
    "an ordered boolean": ("recurring > false", r'">": recurring has type boolean; compare it with =, !='),
    "an unknown operator": ("amount <> 3", r'"<>": amount has type amount; compare it with =, !=, <, <=, >, >='),
    "a text without quotes": ("channel = online", r'online: channel has type category; give a text in quotes, "o'),
    "an empty text": ('channel = ""', r"give a text that is not empty"),
    "a broken escape": (r'channel = "a\q"', r"give a text as in JSON, or in single quotes"),
    "a value that is not listed": ('channel = "onlin"', r'channel has type category; give one of its values pos'),
    "a number for a text": ("merchant_id = 3", r"3: merchant_id has type id; give a text in quotes"),
    "a text for a number": ('amount > "3"', r'"3": amount has type amount; give a decimal number with'),
    "too many digits": ("amount > 3.005", r"3.005: amount has type amount; give .* at most 2 digits"),
    "digits of an integer": ("items > 1.5", r"1.5: items has type integer; give a whole number"),
    "an exponent": ("tip > 1e3", r"1e3: tip has type number; give a decimal number with at most 4 digits"),
    "a number too large": (
        "amount > 99999999999.99", r"99999999999.99: amount has type amount; give a number below 10,995,116,278"),
    "a boolean as a number": ("recurring = 1", r"1: recurring has type boolean; give true or false"),
    "a boolean of other languages": ("recurring = True", r"give true or false"),
    "too many conditions": (" and ".join(["items = 1"] * 9), r"9 conditions; give 8 at most"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_filter_gets_one_line_that_names_it_and_the_accepted_form(wrong: str) -> None:
    text, told = WRONG[wrong]
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    line = str(caught.value)
    assert line.startswith(f"features[0].where = {text!r}: " if "\n" in text else f"{KEY} = '{text}': "), line
    assert re.search(told, line), line
    assert "\n" not in line


@given(st.text(alphabet=" \"'=!<>.-andor13\\amountchannel\n"))
def test_no_text_ends_in_anything_but_conditions_or_one_line(text: str) -> None:
    said = ""
    try:
        assert all(condition.op in OPERATORS for condition in parse_where(text, KEY, EVENT))
    except ConfigError as error:
        said = str(error)
    assert not said or (said.startswith(KEY) and len(said.splitlines()) == 1)
