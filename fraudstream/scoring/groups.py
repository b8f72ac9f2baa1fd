"""Which behaviour a feature is about, from its declaration: its entity, its aggregate, and the field it takes.

label_history    fed by labels
{entity}_risk    any other feature of an entity that the message key says nothing of: merchant_risk, device_risk
place            taken over a field of role `place`, or of a pair with one
amount           taken over an amount
time_habit       the time of day, the day of the week
novelty          whether a pair, or the same id, was there before
category_habit   the share of a category, of a filter, and other measures
velocity         how many, how often, how many different
transaction      what the transaction itself says, otherwise
"""

from __future__ import annotations

from fraudstream.event import EventType
from fraudstream.features.catalog import EVENT, Feature
from fraudstream.words import Words

RISK = "_risk"
_TIME = ("hour_of_day", "day_of_week", "hour_habit")
_SAME = ("same_count", "time_since_same")
_PAIR = ("count", "first_seen", "time_since_last", "time_since_first")
_HOW_OFTEN = ("count", "velocity", "time_since_last", "time_since_first", "distinct")


def group_of(feature: Feature, event: EventType) -> str:
    """Return the group of a feature; the first that fits, in the order above."""
    own = () if feature.entity == EVENT else event.entity_fields(feature.entity)
    key = event.entity_fields(event.key)
    if feature.label:
        return "label_history"
    if own and not set(key) <= set(own):
        return feature.entity + RISK
    if any(event.fields[name].role == "place" for name in (*feature.of, *(set(own) - set(key)))):
        return "place"
    if any(event.fields[name].type == "amount" for name in feature.of):
        return "amount"
    if feature.aggregate in _TIME:
        return "time_habit"
    return _of_habit(feature, event, pair=len(own) > len(key)) if own else "transaction"


def _of_habit(feature: Feature, event: EventType, pair: bool) -> str:
    same_id = feature.aggregate in _SAME and event.fields[feature.of[0]].type == "id"
    if same_id or feature.aggregate == "first_seen" or (pair and feature.aggregate in _PAIR):
        return "novelty"
    return "velocity" if feature.aggregate in _HOW_OFTEN else "category_habit"


def group_words(group: str, words: Words) -> str:
    """Say a group."""
    if group.endswith(RISK):
        said: str = words.table["groups"]["risk"].format(name=words.entity(group.removesuffix(RISK), "name"))
        return said
    return str(words.table["groups"][group])
