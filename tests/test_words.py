"""The table of wording: complete in each language, and a file of one's own is checked line by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from fraudstream.errors import ConfigError
from fraudstream.settings import load_settings
from fraudstream.words import PLACEHOLDERS, read_words
from tests.cli.running import fraudstream


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return tmp_path / "words.toml"


def test_french_leaves_nothing_out_and_english_has_no_fallback() -> None:
    assert read_words("fr").fallbacks == ()
    assert read_words("en").fallbacks == ()


def test_the_built_in_table_passes_the_check_of_a_file_of_ones_own() -> None:
    table = Path(__file__).parents[1] / "fraudstream" / "words.toml"
    for language in ("en", "fr"):
        assert read_words(language, str(table)).table == read_words(language).table
    assert set(PLACEHOLDERS) < set(read_words().table)


def test_a_file_replaces_single_texts_and_adds_a_language(own: Path) -> None:
    own.write_text(
        '[en.aggregates.count]\nsaid = "{value} by {entity}"\n[de.groups]\nvelocity = "wie oft"\n'
        '[de.entities]\ncard = { this = "diese Karte" }\n',
        "utf-8",
    )
    english, german = read_words("en", str(own)), read_words("de", str(own))
    assert english.table["aggregates"]["count"]["said"] == "{value} by {entity}"
    assert english.table["aggregates"]["count"]["one"] == read_words().table["aggregates"]["count"]["one"]
    assert german.table["groups"]["velocity"] == "wie oft"
    assert (german.entity("card"), german.entity("shop")) == ("diese Karte", "this shop")
    assert "de.aggregates.count.said" in german.fallbacks
    assert "de.groups.velocity" not in german.fallbacks


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[en.agregates.count]\nsaid = "x"', "en.agregates: give tables of numbers, durations,"),
        (
            '[en.aggregates.cuont]\nsaid = "x"',
            "en.aggregates.cuont.said: unknown key; accepted are count, sum",
        ),
        ('[en.aggregates.count]\nsayd = "x"', "accepted are none, one, said, missing, unseen"),
        ('[en.aggregates.count]\nsaid = "{valeu}"', '"{valeu}": {valeu}: accepted placeholders are {value},'),
        ('[en.aggregates.count]\nsaid = "{value.real}"', "accepted placeholders are"),
        ('[en.aggregates.count]\nsaid = "{value:9}"', "accepted placeholders are"),
        ('[en.aggregates.count]\nmissing = "{value}"', "accepted placeholders are {entity},"),
        ('[en.aggregates.count]\nsaid = "{value"', "a brace itself is written"),
        ("[en.aggregates.count]\nsaid = 3", "en.aggregates.count.said = 3: give a text"),
        ('[en.entities]\ncard = { the = "x" }', "en.entities.card.the: unknown key; accepted are this, name"),
        ('[en.entities]\ncard = "x"', "accepted are this, name"),
        ('[en.groups]\nrisk = { a = "x" }', "unknown key; accepted are velocity"),
        ("en = 3", "en: give tables"),
        ("[en", "is not TOML"),
        ("[en]\ngroups = 3", "en.groups: give tables of"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(own: Path, text: str, said: str) -> None:
    own.write_text(text, "utf-8")
    with pytest.raises(ConfigError) as told:
        read_words("en", str(own))
    assert said in str(told.value)
    assert "\n" not in str(told.value)
    assert str(own) in str(told.value)


def test_a_wrong_language_and_a_missing_file_are_named_by_every_command(own: Path) -> None:
    with pytest.raises(
        ConfigError, match=r'alerts.language = "de": give one of en, fr, or a file that has it'
    ):
        load_settings(overrides={"alerts.language": "de"}, environment={})
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(overrides={"alerts.words": str(own)}, environment={})
    ended = fraudstream("config", "check", FRAUDSTREAM_ALERTS__LANGUAGE="xx")
    assert (ended.code, ended.one_line()) == (
        2, 'fraudstream: alerts.language = "xx": give one of en, fr, or a file that has it (alerts.words)',
    )  # fmt: skip


def test_config_check_names_what_is_said_in_english(own: Path) -> None:
    own.write_text('[de.groups]\nvelocity = "wie oft"\n', "utf-8")
    chosen = {"FRAUDSTREAM_ALERTS__LANGUAGE": "de", "FRAUDSTREAM_ALERTS__WORDS": str(own)}
    shown = fraudstream("config", "check", **chosen)
    assert (shown.code, shown.err) == (0, "")
    assert "alerts.language de: said in English: de.numbers.decimal, " in shown.out
    told = fraudstream("config", "check", "--json", **chosen).last_object()["said_in_english"]
    assert "de.aggregates.count.said" in told
    assert "de.groups.velocity" not in told
