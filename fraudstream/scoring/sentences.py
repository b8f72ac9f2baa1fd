"""A feature's value as a sentence, beside the entity's own baseline, with every number that the sentence says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import isnan
from string import Formatter

from fraudstream.event import EventType, parse_duration_ms
from fraudstream.features.catalog import EVENT, Catalog, Feature
from fraudstream.features.engine import FLAG_COLD
from fraudstream.features.kernels import FLAG_UNTRACKED
from fraudstream.features.where import spell_where
from fraudstream.records import Number
from fraudstream.scoring.baselines import Baseline, baseline_of, companion_of
from fraudstream.words import Words

Spell = Callable[[float, str | None], str]  # a value and its currency, in words

_UNSURE = (
    int(FLAG_COLD) | FLAG_UNTRACKED
)  # with one of these, no value need not mean that the entity is not named
RATE_MIN = 0.1  # what comes more seldom is said as it is: 2 over 30 d
_WHOLE = ("transactions", "values", "code", "0 or 1", "hours", "days")
_OWN_UNIT = ("sum", "mean", "std", "min", "max", "median", "value")  # aggregates in the unit of their field
_KNOWN_IF_NAMED = ("count", "sum", "distinct", "first_seen")


@dataclass(frozen=True, slots=True)
class _Form:
    """A sentence with everything filled in but the value, and the lengths that it says."""

    text: str
    lengths: dict[str, Number]


@dataclass(frozen=True, slots=True)
class _Behind:
    """What stands behind a sentence: a value of another feature.

    Attributes:
        column: of X; factor: what its value is multiplied with.
        seldom: in its place where a rate would be said as less than RATE_MIN; None: always this.
    """

    column: int
    factor: float
    form: _Form
    feature: str
    unit: str
    money: bool
    spell: Spell
    seldom: _Behind | None = None


@dataclass(frozen=True, slots=True)
class Sentence:
    """How one feature's values are said.

    Attributes:
        forms: by `none`, `one`, `said`, `missing`, `unseen`, and `unnamed`.
        behind: the baseline; None where there is none.
        seen, named: columns that tell why there is no value: 0 where nothing was seen, missing where the transaction
            does not name the entity.
    """

    feature: str
    unit: str
    money: bool
    spell: Spell
    forms: dict[str, _Form]
    behind: _Behind | None
    seen: int | None
    named: int | None

    def say(
        self, value: float, x: Sequence[float], flag_bits: int, currency: str | None
    ) -> tuple[str, dict[str, Number]]:
        """Return the sentence and its numbers by placeholder.

        Args:
            x: the row of the catalogue's X that the value is of.
            flag_bits: the row's.
            currency: of the transaction; None where it has none.
        """
        if isnan(value):
            form = self.forms[self._why_missing(x, flag_bits)]
            return form.text.format(), form.lengths
        form = self.forms["none" if value == 0.0 else "one" if value == 1.0 else "said"]
        said = self.spell(value, currency)
        unit = currency if self.money and currency else self.unit
        numbers = {"value": Number(value=value, unit=unit, said=said, feature=self.feature), **form.lengths}
        text = form.text.format(value=said)
        if self.behind is None or isnan(x[self.behind.column]):
            return text, numbers
        return text + self._beside(self.behind, x, currency, numbers), numbers

    def _why_missing(self, x: Sequence[float], flag_bits: int) -> str:
        if self.named is not None and isnan(x[self.named]) and not flag_bits & _UNSURE:
            return "unnamed"
        return "unseen" if self.seen is not None and x[self.seen] == 0.0 else "missing"

    def _beside(
        self, behind: _Behind, x: Sequence[float], currency: str | None, numbers: dict[str, Number]
    ) -> str:
        value = x[behind.column]
        if behind.seldom is not None and value * behind.factor < RATE_MIN:
            behind = behind.seldom
        said = behind.spell(value * behind.factor, currency)
        numbers.update(behind.form.lengths)
        unit = currency if behind.money and currency else behind.unit
        numbers["baseline"] = Number(
            value=value, unit=unit, said=said, feature=behind.feature, factor=behind.factor
        )
        return behind.form.text.format(baseline=said)


def sentences_of(catalog: Catalog, words: Words) -> list[Sentence]:
    """Return how each column of X is said."""
    return [_sentence(feature, catalog, words) for feature in catalog.features]


def sentence_of(feature: Feature, event: EventType, words: Words) -> Sentence:
    """Return how a feature by itself is said, without a baseline."""
    return _sentence(feature, Catalog(event, (feature,)), words)


def _sentence(feature: Feature, catalog: Catalog, words: Words) -> Sentence:
    event = catalog.event
    texts = _texts(feature, words)
    forms = {name: _form(text, feature, event, words) for name, text in texts.items()}
    for name in ("none", "one", "unseen"):
        forms.setdefault(name, forms["missing" if name == "unseen" else "said"])
    named = None
    if feature.entity != EVENT:
        known = [i for i, f in catalog.of_entity(feature.entity) if f.aggregate in _KNOWN_IF_NAMED]
        named = known[0] if known else None
        forms["unnamed"] = _form(words.table["others"]["unnamed"], feature, event, words)
    return Sentence(
        feature.name,
        feature.unit,
        _is_money(feature, event),
        _spell(feature, event, words),
        forms,
        _behind(feature, catalog, words),
        companion_of(feature, catalog),
        named,
    )


def _behind(feature: Feature, catalog: Catalog, words: Words) -> _Behind | None:
    baseline = baseline_of(feature, catalog)
    if baseline is None:
        return None
    if baseline.kind == "rate":
        seldom = _beside(replace(baseline, kind="longer", factor=1.0), catalog, words)
        return replace(_beside(baseline, catalog, words), seldom=seldom)
    return _beside(baseline, catalog, words)


def _beside(baseline: Baseline, catalog: Catalog, words: Words) -> _Behind:
    feature, event = catalog.features[baseline.column], catalog.event
    money = _is_money(feature, event)
    scaled = baseline.kind == "rate" and not money
    lengths, entity = {"baseline_window": feature.window, "per": baseline.per}, words.entity(feature.entity)
    return _Behind(
        column=baseline.column,
        factor=baseline.factor,
        form=_filled(words.table["baselines"][baseline.kind], {}, {"entity": entity}, lengths, words),
        feature=feature.name,
        unit=feature.unit,
        money=money,
        spell=_rounded(words) if scaled else _spell(feature, event, words),
    )


def _texts(feature: Feature, words: Words) -> dict[str, str]:
    section = "event" if feature.entity == EVENT else "labelled" if feature.label else "aggregates"
    texts: dict[str, str] = words.table[section][feature.aggregate]
    return texts


def _form(text: str, feature: Feature, event: EventType, words: Words) -> _Form:
    """Fill in what the declaration says."""
    table, lag = words.table, "_lag" if feature.lag else ""
    filtered = spell_where(feature.where, event, " ")
    inner = {name: table["lengths"][name + lag] for name in ("within", "before", "over", "ended")}
    inner |= {name: table["filters"][name] if filtered else "" for name in ("with", "had")}
    inner["same"] = table["filters"]["same_with" if filtered else "same"]
    parts = {"filter": filtered, "of": table["others"]["and"].join(words.field(name) for name in feature.of)}
    if feature.of:
        parts |= {
            "same_of": words.field(feature.of[0], "same"),
            "several_of": words.field(feature.of[0], "several"),
        }
    if feature.entity != EVENT:
        parts |= {"entity": words.entity(feature.entity), "name": words.entity(feature.entity, "name")}
    lengths = {"window": feature.window, "baseline_window": feature.baseline, "lag": feature.lag}
    return _filled(text, inner, parts, lengths, words)


def _filled(
    text: str, inner: dict[str, str], parts: dict[str, str], lengths: dict[str, str], words: Words
) -> _Form:
    """Fill in all but the value and the baseline, whose braces stay.

    Args:
        inner: texts to be filled in themselves; parts: texts as they are; lengths: as declared, or empty.
    """
    numbers: dict[str, Number] = {}

    def fill(text: str) -> str:
        filled = ""
        for literal, name, _, _ in Formatter().parse(text):
            filled += _escaped(literal)
            if name in ("value", "baseline"):
                filled += f"{{{name}}}"
            elif name in inner:
                filled += fill(inner[name])
            elif name and lengths.get(name):
                said = words.length(lengths[name])
                seconds = parse_duration_ms(lengths[name], name) / 1000
                numbers[name] = Number(value=seconds, unit="seconds", said=said)
                filled += said
            elif name:
                filled += _escaped(parts.get(name, ""))
        return filled

    return _Form(fill(text), numbers)


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _is_money(feature: Feature, event: EventType) -> bool:
    return feature.aggregate in _OWN_UNIT and event.fields[feature.of[0]].type == "amount"


def _spell(feature: Feature, event: EventType, words: Words) -> Spell:
    """Return how values of a feature are said."""
    if _is_money(feature, event):
        digits = event.fields[feature.of[0]].digits
        return lambda value, currency: words.money(value, currency, digits)
    if feature.unit == "share":
        return lambda value, currency: words.percent(value)
    if feature.unit == "seconds":
        return lambda value, currency: words.duration(value)
    if feature.aggregate == "day_of_week":
        weekdays = words.table["weekdays"]
        return lambda value, currency: str(weekdays[str(int(value) % 7)])
    if feature.unit == "code":
        values = event.fields[feature.of[0]].values
        return lambda value, currency: values[int(value)]
    if feature.unit in _WHOLE:
        return lambda value, currency: words.number(value, 0)
    if feature.aggregate in _OWN_UNIT and event.fields[feature.of[0]].digits == 0:
        return lambda value, currency: words.number(value, 0 if value.is_integer() else 2)
    return lambda value, currency: words.number(value, 2 if abs(value) < 100 else 0)


def _rounded(words: Words) -> Spell:
    return lambda value, currency: words.rounded(value)
