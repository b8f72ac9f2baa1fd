"""THE list of what can be declared over an entity, and what it means. How alerts say it stands in `words.toml`.

The kernels know an aggregate by its code and nothing else. A template names what a declaration fills in:

    {entity}    card; card and merchant
    {of}        the field that it is taken over
    {filter}    channel = "online"; {with}: the same behind " with ", {had}: behind " and had "
    {same}      with channel = "online" and the same merchant id
    {last}      in the last 24h; with a lag: in the 24h that ended 7d earlier
    {within}    in 24h; {over}: over 24h; each with the lag as above
    {from}      empty; with a lag: from 7d earlier on
    {window}, {baseline}, {lag}: as declared
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
        nan: where there is no value, besides what holds for all (no such entity, too short a history).
        tiled: whether it can be kept in tiles (`resolution`).
        compares: whether it sets the rows that fulfil a filter, or are fraud, against the others: it needs one.
    """

    code: int
    of: str
    unit: str
    meaning: str
    nan: str = ""
    tiled: bool = True
    compares: bool = False


AGGREGATES: dict[str, Aggregate] = {
    "count": Aggregate(0, "", "transactions", "transactions of this {entity}{with} {last}"),
    "sum": Aggregate(1, "measure", "{of}", "sum of {of} of this {entity}{with} {last}"),
    "mean": Aggregate(
        2, "measure", "{of}",
        "mean {of} of this {entity}{with} {last}",
        "no value in the window"),
    "std": Aggregate(
        3, "measure", "{of}",
        "sample standard deviation of {of} of this {entity}{with} {last}",
        "fewer than two values in the window"),
    "min": Aggregate(
        4, "measure", "{of}",
        "smallest {of} of this {entity}{with} {last}",
        "no value in the window"),
    "max": Aggregate(
        5, "measure", "{of}",
        "largest {of} of this {entity}{with} {last}",
        "no value in the window"),
    "zscore": Aggregate(
        6, "measure", "standard deviations",
        "how many standard deviations {of} is from the mean of this {entity}{with} {over}",
        "this transaction has no {of}; fewer than two values in the window, or all of them equal"),
    "ratio": Aggregate(
        7, "measure", "times",
        "{of} as a multiple of the mean of this {entity}{with} {over}",
        "this transaction has no {of}; no value in the window, or they add up to 0"),
    "velocity": Aggregate(
        8, "", "times",
        "transactions a time unit of this {entity}{with} {within}, as a multiple of its rate over {baseline}",
        "no transaction in the baseline"),
    "time_since_last": Aggregate(
        9, "", "seconds",
        "time since the last transaction of this {entity}{with}, looking back {window}{from}",
        "no transaction in the window", tiled=False),
    "distinct": Aggregate(10, "text", "values", "different {of} of this {entity}{with} {last}", tiled=False),
    "share": Aggregate(
        11, "text", "share",
        "share of the transactions of this {entity}{with} {within} with the same {of}",
        "no transaction in the window; this transaction has no {of}", tiled=False),
    "hour_habit": Aggregate(
        12, "", "share",
        "share of the transactions of this {entity}{with} {within} within an hour of this time of day",
        "no transaction in the window"),
    "first_seen": Aggregate(
        13, "", "0 or 1",
        "1 where there is no transaction of this {entity}{with} {last}, else 0"),
    "rate": Aggregate(
        14, "", "share",
        "share of the transactions of this {entity} {last} with {filter}",
        "no transaction in the window", compares=True),
    "same_count": Aggregate(
        15, "text", "transactions",
        "transactions of this {entity}{same} {last}",
        "this transaction has no {of}", tiled=False),
    "time_since_same": Aggregate(
        16, "text", "seconds",
        "time since the last transaction of this {entity}{same}, looking back {window}{from}",
        "none with the same {of} in the window; this transaction has no {of}", tiled=False),
    "time_since_first": Aggregate(
        17, "", "seconds",
        "time since the first transaction of this {entity}{with}, looking back {window}{from}",
        "no transaction in the window", tiled=False),
    "others_since_last": Aggregate(
        18, "", "transactions",
        "transactions of this {entity} since its last one with {filter}, looking back {window}{from}",
        "none with {filter} in the window", tiled=False, compares=True),
    "others_since_first": Aggregate(
        19, "", "transactions",
        "transactions of this {entity} without {filter} since its first one with it, looking back {window}{from}",
        "none with {filter} in the window", tiled=False, compares=True),
    "in_a_row": Aggregate(
        22, "", "transactions",
        "how many of the last transactions of this {entity} in a row had {filter}, looking back {window}{from}",
        tiled=False, compares=True),
    "time_since_other": Aggregate(
        23, "", "seconds",
        "time since the last transaction of this {entity} without {filter}, looking back {window}{from}",
        "none without {filter} in the window", tiled=False, compares=True),
    "median": Aggregate(
        20, "measure", "{of}",
        "median {of} of this {entity}{with} {last}",
        "no value in the window", tiled=False),
    "median_ratio": Aggregate(
        21, "measure", "times",
        "{of} as a multiple of the median of this {entity}{with} {over}",
        "this transaction has no {of}; no value in the window, or a median of 0", tiled=False),
}  # fmt: skip

# With `label = "fraud"`: meaning.
LABELLED: dict[str, str] = {
    "count": "transactions of this {entity}{with} in {window}, as known {lag} later, that were fraud",
    "rate": "share of the transactions of this {entity} in {window}, as known {lag} later, that were fraud{had}",
    "time_since_last": (
        "time since the last transaction of this {entity}{with} in {window}, as known {lag} later, that was fraud"
    ),
    "time_since_first": (
        "time since the first transaction of this {entity}{with} in {window}, as known {lag} later, that was fraud"
    ),
    "others_since_last": (
        "transactions of this {entity}, not known as fraud {lag} later, since its last in {window} that was{had}"
    ),
    "others_since_first": (
        "transactions of this {entity}, not known as fraud {lag} later, since its first in {window} that was{had}"
    ),
    "time_since_other": (
        "time since the last transaction of this {entity} in {window}, as known {lag} later, that was no fraud{had}"
    ),
    "mean": "mean {of} of the transactions of this {entity}{with} in {window}, as known {lag} later, that were fraud",
    "min": "smallest {of} of those of this {entity}{with} in {window}, as known {lag} later, that were fraud",
    "max": "largest {of} of those of this {entity}{with} in {window}, as known {lag} later, that were fraud",
    "in_a_row": (
        "how many last transactions of this {entity} in {window} in a row were fraud{had}, as known {lag} later"
    ),
}

EVENT_AGGREGATES: dict[str, tuple[str, str]] = {
    # name: unit, meaning
    "value": ("{of}", "{of} of this transaction"),
    "hour_of_day": ("hours", "hour of the day (UTC)"),
    "day_of_week": ("days", "day of the week, 0 is Monday"),
    "differs": ("0 or 1", "1 where {of} differ, 0 where they are equal"),
}


def meaning_template(aggregate: str, label: str) -> str:
    """Return the meaning of an aggregate as a template."""
    return LABELLED[aggregate] if label else AGGREGATES[aggregate].meaning


def window_words(window: str, baseline: str, lag: str) -> dict[str, str]:
    """Return what a declaration's lengths fill into a template."""
    ended = f" that ended {lag} earlier" if lag else ""
    return {
        "window": window,
        "baseline": baseline,
        "lag": lag,
        "last": f"in the {window}{ended}" if lag else f"in the last {window}",
        "within": f"in the {window}{ended}" if lag else f"in {window}",
        "over": f"over the {window}{ended}" if lag else f"over {window}",
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
