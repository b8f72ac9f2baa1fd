"""The wording of alerts: `words.toml`, with the user's own file on top; numbers, lengths and money as it says them.

A language that leaves something out says it in English; `Words.fallbacks` names what. Entities and fields have free
names: one without words of its own is said by its name.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from string import Formatter
from typing import Any

from fraudstream.errors import ConfigError

ENGLISH = "en"
SENTENCES = ("none", "one", "said", "missing", "unseen")  # what a feature's table may hold
_FREE = {
    "entities": ("this", "name"),
    "fields": ("name", "same", "several"),
}  # sections whose names the user declares
_IN_SENTENCES = (
    "value", "entity", "name", "of", "same_of", "several_of", "filter", "with", "had", "same",
    "window", "baseline_window", "lag", "within", "before", "over", "ended",
)  # fmt: skip
PLACEHOLDERS: dict[str, tuple[str, ...]] = {
    "numbers": ("n", "currency"),
    "durations": ("n",),
    "groups": ("name",),
    "others": ("name",),
    "lengths": ("window", "lag"),
    "filters": ("filter", "same_of"),
    "baselines": ("baseline", "baseline_window", "entity", "per"),
    "aggregates": _IN_SENTENCES,
    "labelled": _IN_SENTENCES,
    "event": ("value", "of"),
}
# ISO 4217: digits behind the point of the currencies that do not have two.
_NO_DIGITS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THREE_DIGITS = "BHD IQD JOD KWD LYD OMN TND"
_CURRENCY_DIGITS = {
    **dict.fromkeys(_NO_DIGITS.split(), 0),
    **dict.fromkeys(_THREE_DIGITS.split(), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
}
_LENGTH = re.compile(r"(\d+)(ms|[smhdw])")
_DURATIONS = ((86_400, "d"), (3_600, "h"), (60, "m"))


@dataclass(frozen=True, slots=True)
class Words:
    """One language.

    Attributes:
        table: sections of `words.toml`, each key with its text or its table of texts.
        fallbacks: keys (`fr.aggregates.count.one`) that are said in English.
    """

    language: str
    table: dict[str, dict[str, Any]]
    fallbacks: tuple[str, ...]

    def number(self, value: float, digits: int) -> str:
        """Say a number with so many digits behind the point."""
        numbers = self.table["numbers"]
        whole, _, rest = f"{value:,.{digits}f}".partition(".")
        whole = whole.replace(",", numbers["thousands"])
        return f"{whole}{numbers['decimal']}{rest}" if rest else whole

    def rounded(self, value: float) -> str:
        """Say a number with two digits that count, or as a whole one from 10 on."""
        digits = 0
        while 0.0 < abs(value) * 10**digits < 9.95 and digits < 12:  # 0.4, 0.072
            digits += 1
        text = f"{value:.{digits}f}"
        return self.number(value, len(text.rstrip("0").partition(".")[2]) if digits else 0)

    def percent(self, share: float) -> str:
        """Say a share."""
        said = self.number(100 * share, 0) if share >= 0.1 else self.rounded(100 * share)
        filled: str = self.table["numbers"]["percent"].format(n=said)
        return filled

    def money(self, amount: float, currency: str | None, digits: int) -> str:
        """Say an amount in major units, with the digits of its currency; with `digits` where it has none."""
        if currency is None:
            return self.number(amount, digits)
        said = self.number(amount, currency_digits(currency))
        filled: str = self.table["numbers"]["money"].format(n=said, currency=currency)
        return filled

    def duration(self, seconds: float) -> str:
        """Say a time in its longest unit."""
        durations = self.table["durations"]
        for length, unit in _DURATIONS:
            if seconds >= length:
                return str(durations[unit].format(n=self.number(seconds / length, 1)))
        return str(durations["s"].format(n=self.number(seconds, 0)))

    def length(self, declared: str) -> str:
        """Say a length as it is declared, `30d`."""
        match = _LENGTH.fullmatch(declared)
        assert match is not None
        return str(self.table["durations"][match[2]].format(n=match[1]))

    def entity(self, entity: str, key: str = "this") -> str:
        """Say an entity: `this` card, or its `name`."""
        return self._named("entities", entity, key, entity.replace("_", self.table["others"]["and"]))

    def field(self, field: str, key: str = "name") -> str:
        """Say a field: its `name`, `same` for the same value, `several` for different ones."""
        return self._named("fields", field, key, field.replace("_", " "))

    def _named(self, section: str, declared: str, key: str, spelled: str) -> str:
        own = self.table[section].get(declared, {})
        name = own.get("name", spelled)
        told: str = own.get(key) or (
            name if key == "name" else self.table["others"][key].replace("{name}", name)
        )
        return told


def currency_digits(currency: str | None) -> int:
    """Return the digits behind the point of a currency.

    >>> [currency_digits(code) for code in ("EUR", "JPY", "KWD", None)]
    [2, 0, 3, 2]
    """
    return _CURRENCY_DIGITS.get(currency or "", 2)


def read_words(language: str = ENGLISH, path: str = "") -> Words:
    """Return one language.

    Args:
        path: the user's own file; empty for none.

    Raises:
        ConfigError: there is no such language, or the file is not like `words.toml`; names the key and what is
            accepted.
    """
    own = _own(path) if path else {}
    known = list(dict.fromkeys([*_built_in(), *own]))
    if language not in known:
        raise ConfigError(
            f'alerts.language = "{language}": give one of {", ".join(known)}, or a file that has it (alerts.words)'
        )
    table: dict[str, dict[str, Any]] = {}
    fallbacks = []
    for section, below in _built_in()[ENGLISH].items():
        layers = [languages.get(language, {}).get(section, {}) for languages in (_built_in(), own)]
        if section in _FREE:
            table[section] = {**layers[0], **layers[1]}
            continue
        given = dict(_leaves(layers[0])) | dict(_leaves(layers[1]))
        english = dict(_leaves(below))
        fallbacks += [f"{language}.{section}.{'.'.join(key)}" for key in english if key not in given]
        table[section] = _nested({**english, **given})
    return Words(language, table, tuple(fallbacks))


@cache
def _built_in() -> dict[str, Any]:
    return tomllib.loads(resources.files("fraudstream").joinpath("words.toml").read_text("utf-8"))


def _own(path: str) -> dict[str, Any]:
    try:
        own = tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise ConfigError(
            f'alerts.words = "{path}": cannot be read ({error.strerror}); give a TOML file'
        ) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f'alerts.words = "{path}": is not TOML: {error}') from None
    for language, sections in own.items():
        _check(path, language, sections)
    return own


def _check(path: str, language: str, sections: Any) -> None:
    """Refuse what is not in the form of `words.toml`."""
    english = _built_in()[ENGLISH]
    if not isinstance(sections, dict):
        raise ConfigError(f"{path}: {language}: give tables, [{language}.groups] and others")
    for section, entries in sections.items():
        if section not in english or not isinstance(entries, dict):
            raise ConfigError(f"{path}: {language}.{section}: give tables of {', '.join(english)}")
        for key, text in _leaves(entries):
            where = f"{path}: {language}.{section}.{'.'.join(key)}"
            if not isinstance(text, str):
                raise ConfigError(f"{where} = {text!r}: give a text")
            _check_key(where, section, key, english[section])
            accepted = PLACEHOLDERS.get(section, ())
            told = key[-1] not in ("missing", "unseen")
            _check_placeholders(where, text, accepted if told else tuple(n for n in accepted if n != "value"))


def _check_key(where: str, section: str, key: tuple[str, ...], english: dict[str, Any]) -> None:
    if section in _FREE:
        accepted, given = _FREE[section], key[-1]
        fits = len(key) == 2 and given in accepted
    elif len(key) == 2 and isinstance(english.get(key[0]), dict):
        accepted, given = SENTENCES, key[1]
        fits = given in accepted
    else:
        accepted = tuple(english)
        fits = len(key) == 1 and isinstance(english.get(key[0]), str)
    if not fits:
        raise ConfigError(f"{where}: unknown key; accepted are {', '.join(accepted)}")


def _check_placeholders(where: str, text: str, accepted: tuple[str, ...]) -> None:
    try:
        found = [part[1:] for part in Formatter().parse(text) if part[1] is not None]
    except ValueError as error:
        raise ConfigError(f'{where} = "{text}": {error}; a brace itself is written {{{{ or }}}}') from None
    for name, form, conversion in found:
        if name not in accepted or form or conversion:
            known = ", ".join(f"{{{one}}}" for one in accepted) or "none"
            raise ConfigError(f'{where} = "{text}": {{{name}}}: accepted placeholders are {known}')


def _leaves(table: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[Any, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key), value


def _nested(leaves: dict[tuple[str, ...], Any]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for (first, *rest), value in leaves.items():
        if rest:
            table.setdefault(first, {})[rest[0]] = value
        else:
            table[first] = value
    return table
