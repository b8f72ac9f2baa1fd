"""THE list of what can be declared over an entity, and the words each is told in.

The kernels know an aggregate by its code and nothing else. A template names what a declaration fills in:

    {entity}    card; card and merchant
    {of}        the field that it is taken over
    {filter}    channel = "online"; {with}: the same behind " with ", {had}: behind " and had "
    {same}      with channel = "online" and the same merchant id
    {last}      in the last 24h; with a lag: in the 24h that ended 7d earlier
    {within}    in 24h; {over}: over 24h; {before}: in the 24h before; each with the lag as above
    {ended}     empty; with a lag: that ended 7d earlier; {from}: from 7d earlier on
    {window}, {baseline}, {lag}: as declared
    {value}     in a phrase only: the value with its unit
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Aggregate:
    """What one aggregate needs and says.

    Attributes:
        code: its number in the kernels.
        of: kind of field it is taken over: `measure`, `text`, or none.
        unit: of the result; `{of}` stands for the field's own unit.
        meaning: in words.
        phrase: how a reason says it.
        nan: where there is no value, besides what holds for all (no such entity, too short a history).
        tiled: whether it can be kept in tiles (`resolution`).
    """

    code: int
    of: str
    unit: str
    meaning: str
    phrase: str
    nan: str = ""
    tiled: bool = True


AGGREGATES: dict[str, Aggregate] = {
    "count": Aggregate(
        0, "", "transactions", "transactions of this {entity}{with} {last}",
        "{value} earlier transaction(s) of this {entity}{with} {within}"),
    "sum": Aggregate(
        1, "measure", "{of}", "sum of {of} of this {entity}{with} {last}",
        "{of} of this {entity}{with} {within} adds up to {value}"),
    "mean": Aggregate(
        2, "measure", "{of}", "mean {of} of this {entity}{with} {last}",
        "mean {of} of this {entity}{with} {over} is {value}",
        "no value in the window"),
    "std": Aggregate(
        3, "measure", "{of}", "sample standard deviation of {of} of this {entity}{with} {last}",
        "{of} of this {entity}{with} varies by {value} {over}",
        "fewer than two values in the window"),
    "min": Aggregate(
        4, "measure", "{of}", "smallest {of} of this {entity}{with} {last}",
        "smallest {of} of this {entity}{with} {within} was {value}",
        "no value in the window"),
    "max": Aggregate(
        5, "measure", "{of}", "largest {of} of this {entity}{with} {last}",
        "largest {of} of this {entity}{with} {within} was {value}",
        "no value in the window"),
    "zscore": Aggregate(
        6, "measure", "standard deviations",
        "how many standard deviations {of} is from the mean of this {entity}{with} {over}",
        "{of} is {value} standard deviations from the {window} mean of this {entity}{with}{ended}",
        "this transaction has no {of}; fewer than two values in the window, or all of them equal"),
    "ratio": Aggregate(
        7, "measure", "times", "{of} as a multiple of the mean of this {entity}{with} {over}",
        "{of} is {value} times the {window} mean of this {entity}{with}{ended}",
        "this transaction has no {of}; no value in the window, or they add up to 0"),
    "velocity": Aggregate(
        8, "", "times",
        "transactions a time unit of this {entity}{with} {within}, as a multiple of its rate over {baseline}",
        "transactions of this {entity}{with} {within} come {value} times as often as over {baseline}",
        "no transaction in the baseline"),
    "time_since_last": Aggregate(
        9, "", "seconds", "time since the last transaction of this {entity}{with}, looking back {window}{from}",
        "the last transaction of this {entity}{with} was {value} earlier",
        "no transaction in the window", tiled=False),
    "distinct": Aggregate(
        10, "text", "values", "different {of} of this {entity}{with} {last}",
        "{value} different values of {of} for this {entity}{with} {within}", tiled=False),
    "share": Aggregate(
        11, "text", "share", "share of the transactions of this {entity}{with} {within} with the same {of}",
        "{value} of this {entity}'s transactions{with} {within} had the same {of}",
        "no transaction in the window; this transaction has no {of}", tiled=False),
    "hour_habit": Aggregate(
        12, "", "share",
        "share of the transactions of this {entity}{with} {within} within an hour of this time of day",
        "{value} of this {entity}'s transactions{with} {within} were at about this time of day",
        "no transaction in the window"),
    "first_seen": Aggregate(
        13, "", "0 or 1", "1 where there is no transaction of this {entity}{with} {last}, else 0",
        "{value} earlier transaction of this {entity}{with} {within}"),
    "rate": Aggregate(
        14, "", "share", "share of the transactions of this {entity} {last} with {filter}",
        "{value} of this {entity}'s transactions {within} had {filter}",
        "no transaction in the window"),
    "same_count": Aggregate(
        15, "text", "transactions", "transactions of this {entity}{same} {last}",
        "{value} earlier transaction(s) of this {entity}{same} {within}",
        "this transaction has no {of}", tiled=False),
    "time_since_same": Aggregate(
        16, "text", "seconds",
        "time since the last transaction of this {entity}{same}, looking back {window}{from}",
        "the last transaction of this {entity}{same} was {value} earlier",
        "none with the same {of} in the window; this transaction has no {of}", tiled=False),
}  # fmt: skip

# With `label = "fraud"`: meaning and phrase.
LABELLED: dict[str, tuple[str, str]] = {
    "count": (
        "transactions of this {entity}{with} in {window}, as known {lag} later, that were fraud",
        "{value} of this {entity}'s transactions{with} in {window}, as known {lag} later, (were) fraud"),
    "rate": (
        "share of the transactions of this {entity} in {window}, as known {lag} later, that were fraud{had}",
        "{value} of this {entity}'s transactions in {window}, as known {lag} later, were fraud{had}"),
}  # fmt: skip

EVENT_AGGREGATES: dict[str, tuple[str, str, str]] = {
    # name: unit, meaning, phrase
    "value": ("{of}", "{of} of this transaction", "{of} is {value}"),
    "hour_of_day": ("hours", "hour of the day (UTC)", "hour of the day (UTC) is {value}"),
    "day_of_week": ("days", "day of the week, 0 is Monday", "day of the week is {value}"),
    "differs": ("0 or 1", "1 where {of} differ, 0 where they are equal", "{of} {value}"),
}

_MISSING = {
    "time_since_last": "this {entity} was not seen{with} {before}, or the history is shorter",
    "time_since_same": "this {entity} was not seen{same} {before}, or the history is shorter",
}
_NEVER_EMPTY = ("count", "sum", "distinct", "first_seen", "same_count")
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_WHOLE = ("transactions", "values", "code", "0 or 1", "hours", "days")


def templates_of(aggregate: str, label: str) -> tuple[str, str]:
    """Return meaning and phrase of an aggregate as templates."""
    return LABELLED[aggregate] if label else (AGGREGATES[aggregate].meaning, AGGREGATES[aggregate].phrase)


def missing_template(aggregate: str) -> str:
    """Return how it is said that an aggregate has no value; `{meaning}` stands for the meaning."""
    told = "not known" if aggregate in _NEVER_EMPTY else "this {entity} has too few to tell"
    return _MISSING.get(aggregate, "{meaning}: " + told)


def window_words(window: str, baseline: str, lag: str) -> dict[str, str]:
    """Return what a declaration's lengths fill into a template."""
    ended = f" that ended {lag} earlier" if lag else ""
    return {
        "window": window,
        "baseline": baseline,
        "lag": lag,
        "last": f"in the {window}{ended}" if lag else f"in the last {window}",
        "within": f"in the {window}{ended}" if lag else f"in {window}",
        "before": f"in the {window}{ended}" if lag else f"in the {window} before",
        "over": f"over the {window}{ended}" if lag else f"over {window}",
        "ended": ended,
        "from": f" from {lag} earlier on" if lag else "",
    }


def filter_words(filtered: str, of: str) -> dict[str, str]:
    """Return what a declaration's filter, as a person reads it, fills into a template."""
    return {
        "filter": filtered,
        "with": f" with {filtered}" if filtered else "",
        "had": f" and had {filtered}" if filtered else "",
        "same": f" with {filtered} and the same {of}" if filtered else f" with the same {of}",
    }


def value_in_words(aggregate: str, value: float, unit: str) -> str:
    """Return a value as a phrase takes it, with its unit where the phrase does not say it."""
    if aggregate == "differs":
        return "differ" if value else "are the same"
    if aggregate == "day_of_week":
        return _WEEKDAYS[int(value) % 7]
    if aggregate == "first_seen":
        return "no" if value else "at least one"
    if aggregate in ("count", "same_count") and value == 0:
        return "no"
    return _number(value, unit)


def _number(value: float, unit: str) -> str:
    if unit == "share":
        return f"{100 * value:.0f} %" if value >= 0.1 else f"{100 * value:.2g} %"
    if unit == "seconds":
        for length, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
            if value >= length:
                return f"{value / length:.1f} {name}"
        return f"{value:.0f} s"
    if unit in _WHOLE:
        return f"{value:.0f}"
    return f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"
