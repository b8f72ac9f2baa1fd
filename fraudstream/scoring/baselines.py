"""What a feature's value is told beside: another feature of the same entity, from the same catalogue.

rate      count, sum, velocity, time_since_last: the longest count or sum, spread evenly over its window
longer    mean, std, min, max, median, distinct: the same over the longest window
level     zscore, ratio, median_ratio: the mean or median that they compare with
usual     a numeric field of the transaction: the key entity's longest mean of it
among     share, rate, hour_habit, same_count: how many transactions there are in the window
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fraudstream.features.catalog import EVENT, Catalog, Feature

DAY_MS = 86_400_000
_RATES = {"count": "count", "velocity": "count", "time_since_last": "count", "sum": "sum"}
_LONGER = ("mean", "std", "min", "max", "median", "distinct")
_COUNTED = {"time_since_last": "count", "time_since_first": "count", "time_since_same": "same_count"}
_LEVELS = {"zscore": "mean", "ratio": "mean", "median_ratio": "median"}
_AMONG = ("share", "rate", "hour_habit", "same_count")


@dataclass(frozen=True, slots=True)
class Baseline:
    """One feature's baseline.

    Attributes:
        kind: as above.
        column: of X.
        factor: the value there, times this, is what is said.
        per: the window that a rate is said for, as declared.
    """

    kind: str
    column: int
    factor: float = 1.0
    per: str = ""


def baseline_of(feature: Feature, catalog: Catalog) -> Baseline | None:
    """Return the baseline of a feature; None where the catalogue has none."""
    aggregate, window_ms = feature.aggregate, feature.window_ms
    rows = (feature.entity, feature.where, feature.lag_ms, feature.label)
    if aggregate in _RATES and not feature.label:
        per_ms, per = (DAY_MS, "1d") if aggregate == "time_since_last" else (window_ms, feature.window)
        column = _longest(catalog, rows, _RATES[aggregate], feature.of, lambda length_ms: length_ms > per_ms)
        if column is not None:
            return Baseline("rate", column, per_ms / catalog.features[column].window_ms, per)
    elif aggregate in _LONGER:
        column = _longest(catalog, rows, aggregate, feature.of, lambda length_ms: length_ms > window_ms)
        return None if column is None else Baseline("longer", column)
    elif aggregate in _LEVELS:
        column = _longest(
            catalog, rows, _LEVELS[aggregate], feature.of, lambda length_ms: length_ms == window_ms
        )
        return None if column is None else Baseline("level", column)
    elif aggregate in _AMONG:
        everything = (feature.entity, () if aggregate == "rate" else feature.where, feature.lag_ms, "")
        column = _longest(catalog, everything, "count", (), lambda length_ms: length_ms == window_ms)
        return None if column is None else Baseline("among", column)
    elif feature.entity == EVENT and aggregate == "value":
        column = _longest(catalog, (catalog.event.key, (), 0, ""), "mean", feature.of, lambda length_ms: True)
        return None if column is None else Baseline("usual", column)
    return None


def companion_of(feature: Feature, catalog: Catalog) -> int | None:
    """Return the column that is 0 where a `time since` is missing because nothing was seen; None: there is none."""
    counted = _COUNTED.get(feature.aggregate)
    if counted is None:
        return None
    rows = (feature.entity, feature.where, feature.lag_ms, feature.label)
    return _longest(catalog, rows, counted, feature.of, lambda length_ms: length_ms == feature.window_ms)


def _longest(
    catalog: Catalog,
    rows: tuple[object, ...],
    aggregate: str,
    of: tuple[str, ...],
    fits: Callable[[int], bool],
) -> int | None:
    """Return the column of this aggregate over these rows with the longest window that fits.

    Args:
        rows: entity, filter, lag and label.
    """
    found = [
        (feature.window_ms, -column)
        for column, feature in enumerate(catalog.features)
        if (feature.entity, feature.where, feature.lag_ms, feature.label) == rows
        and (feature.aggregate, feature.of) == (aggregate, of)
        and fits(feature.window_ms)
    ]
    return -max(found)[1] if found else None
