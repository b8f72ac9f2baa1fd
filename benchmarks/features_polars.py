"""The same columns by polars' rolling windows, offline: the whole table at once, in two ways.

`GroupBy` is what its documentation has: the rows sorted by the texts that name the entity, one frame of
`rolling(period=..., group_by=...)` a window length with all its aggregates, `diff().over(...)` for the time since
the last row. Its groups come in no certain order, so each frame is sorted by what its rows are; with a
join in place of the sorts it takes a quarter longer.

`OneClock` is as fast as we could make it: texts become codes once; the rows are sorted by the code of their entity
(a stable radix sort) and put on one clock, on which the entities lie far apart; then `rolling` needs no groups.

In both a share is a rolling count by entity and value beside the one by entity; z-score, ratio and velocity are
taken from those columns. An expression a feature with `.rolling().over()` takes fifty times as long as `OneClock`.

Polars knows the whole table and need not be ready for the next row: what it is spared is what an engine is for.
Not expressed here are `hour_habit` (only by an expression evaluated for each window, as slow as all others
together), lags, labels, tiles, and filters on what is counted by value; `can` says which features are left. Times
rise strictly, so the window (t - W, t), open at both ends, is what a row may see.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any

import polars as pl

from fraudstream.batch import TransactionBatch
from fraudstream.event import NUMERIC_TYPES
from fraudstream.features import Catalog, Feature
from fraudstream.features.where import Condition

TIME, ROW, KEY, GROUP, CLOCK, PLACE = "event_time", "row", "key", "group", "clock", "place"
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
APART_MS = 400 * DAY_MS  # more than the table's length and the longest window

# What a feature is made of, and how each part of a window is taken.
NEEDS: dict[str, tuple[str, ...]] = {
    "count": ("count",), "velocity": ("count",), "first_seen": ("count",), "time_since_last": (),
    "sum": ("sum",), "mean": ("mean",), "std": ("std",), "min": ("min",), "max": ("max",),
    "zscore": ("mean", "std"), "ratio": ("mean",), "distinct": ("distinct",),
    "share": ("count", "same"), "same_count": ("same",), "time_since_same": (), "rate": ("count",),
}  # fmt: skip
PARTS: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "sum": pl.Expr.sum,
    "mean": pl.Expr.mean,
    "std": pl.Expr.std,
    "min": pl.Expr.min,
    "max": pl.Expr.max,
    "distinct": lambda values: values.drop_nulls().n_unique(),
}
COMPARE: dict[str, Callable[[pl.Expr, Any], pl.Expr]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt,
    ">=": operator.ge,
}  # fmt: skip
BY_VALUE = ("share", "same_count", "time_since_same")


class GroupBy:
    """Rows with their windows by `rolling(group_by=...)`.

    Attributes:
        rows: sorted by group, and by time inside a group.
        keys: the columns that name a group.
        since_ms: the time since the group's last row.
    """

    def __init__(self, rows: pl.DataFrame, keys: list[str]) -> None:
        self.rows = rows.sort(*keys, TIME)
        self.keys = keys
        self.since_ms = pl.col(TIME).diff().over(keys)

    @staticmethod
    def told_apart(texts: pl.Expr) -> pl.Expr:
        """Return what stands for the texts: they themselves."""
        return texts

    def rolling(self, length_ms: int, aggregates: list[pl.Expr]) -> pl.DataFrame:
        """Return aggregates of each row's window, rows as in `rows`."""
        windows = self.rows.rolling(TIME, period=f"{length_ms}i", group_by=self.keys, closed="none")
        return windows.agg(aggregates).sort(*self.keys, TIME).drop(*self.keys, TIME)


class OneClock:
    """Rows with their windows on one clock, on which the groups follow each other; attributes as of `GroupBy`."""

    def __init__(self, rows: pl.DataFrame, keys: list[str]) -> None:
        ordered = rows.with_columns(_packed(*map(pl.col, keys)).alias(KEY)).sort(KEY, maintain_order=True)
        ordered = ordered.with_columns(pl.col(KEY).rle_id().alias(GROUP))
        clock = pl.col(TIME) + pl.col(GROUP).cast(pl.Int64) * APART_MS
        self.rows = ordered.with_columns(clock.set_sorted().alias(CLOCK))
        self.keys = [GROUP]
        self.since_ms = pl.col(CLOCK).diff()

    @staticmethod
    def told_apart(texts: pl.Expr) -> pl.Expr:
        """Return codes of 32 bits that stand for the texts."""
        return texts.cast(pl.Categorical).to_physical()

    def rolling(self, length_ms: int, aggregates: list[pl.Expr]) -> pl.DataFrame:
        """Return aggregates of each row's window, rows as in `rows`."""
        return self.rows.rolling(CLOCK, period=f"{length_ms}i", closed="none").agg(aggregates).drop(CLOCK)


Grouped = GroupBy | OneClock
Way = type[GroupBy] | type[OneClock]


def can(feature: Feature) -> bool:
    """Tell whether this module computes the feature."""
    beyond = (feature.lag_ms, feature.label, feature.resolution_ms)
    filtered = feature.where and feature.aggregate in (*BY_VALUE, "time_since_last")
    return feature.entity == "event" or not (feature.aggregate not in NEEDS or any(beyond) or filtered)


def table_of(batches: Iterable[TransactionBatch]) -> pl.DataFrame:
    """Return the batches as one table: texts as strings, measures as they are, times as milliseconds."""
    parts = []
    for batch in batches:
        columns = {name: pl.Series(values, dtype=pl.String) for name, values in batch.texts.items()}
        measures = {name: pl.Series(column) for name, column in batch.measures.items()}
        parts.append(pl.DataFrame({TIME: pl.Series(batch.time_ms), **columns, **measures}))
    return pl.concat(parts, rechunk=True).with_row_index(ROW)


def features_of(table: pl.DataFrame, catalog: Catalog, way: Way) -> pl.DataFrame:
    """Return the columns of the catalogue in its order, rows as in the table; null for missing."""
    kinds = dict.fromkeys(f.entity for f in catalog.features if f.entity != "event")
    texts = pl.col(*(name for name, kind in table.schema.items() if kind == pl.String))
    filters = dict.fromkeys(f.where for f in catalog.features if f.where)
    prepared = table.with_columns(
        way.told_apart(texts),
        *(_fulfils(conditions).alias(_slug(conditions)) for conditions in filters),
    )
    own = [_event_column(f, catalog).alias(f.name) for f in catalog.features if f.entity == "event"]
    parts = [table.select(own), *(_entity_columns(prepared, catalog, entity, way) for entity in kinds)]
    return pl.concat(parts, how="horizontal").select(catalog.names)


def _entity_columns(table: pl.DataFrame, catalog: Catalog, entity: str, way: Way) -> pl.DataFrame:
    keys = list(catalog.event.entity_fields(entity))
    features = [f for f in catalog.features if f.entity == entity]
    fields = [name for f in features for name in (*f.of, *([_slug(f.where)] if f.where else []))]
    named = table.filter(pl.all_horizontal(pl.col(key).is_not_null() for key in keys))
    grouped = way(named.select(*dict.fromkeys((ROW, TIME, *keys, *fields))), keys)
    lengths_ms = sorted({ms for f in features for ms in (f.window_ms, f.baseline_ms) if ms})
    by_value = dict.fromkeys(f.of[0] for f in features if f.aggregate in BY_VALUE)
    rows = pl.concat(
        [
            grouped.rows,
            *(_windows(grouped, features, length_ms) for length_ms in lengths_ms),
            *(_by_value(grouped, features, field) for field in by_value),
        ],
        how="horizontal",
    )
    columns = rows.select(ROW, *(_column(f, catalog, grouped.since_ms).alias(f.name) for f in features))
    if len(rows) == len(table):
        return columns.sort(ROW).drop(ROW)
    return table.select(ROW).join(columns, on=ROW, how="left", maintain_order="left").drop(ROW)


def _packed(*keys: pl.Expr) -> pl.Expr:
    """Return one number for one or two codes of 32 bits; the second may be missing."""
    if len(keys) == 1:
        return keys[0].cast(pl.UInt64)
    first, second = keys
    return first.cast(pl.UInt64) * 2**32 + second.fill_null(2**32 - 1)


def _fulfils(conditions: tuple[Condition, ...]) -> pl.Expr:
    """Return whether a row fulfils a filter, from the texts themselves."""
    met = [COMPARE[condition.op](pl.col(condition.field), condition.value) for condition in conditions]
    return pl.all_horizontal(met).fill_null(False)


def _slug(conditions: tuple[Condition, ...]) -> str:
    return " and ".join(f"{c.field} {c.op} {c.value}" for c in conditions)


def _name(part: str, of: str, length_ms: int, conditions: tuple[Condition, ...] = ()) -> str:
    return f"{part}:{of}:{length_ms}:{_slug(conditions)}"


def _windows(grouped: Grouped, features: list[Feature], length_ms: int) -> pl.DataFrame:
    """Return the rolling columns that the features need of one window length."""
    wanted = {_name("count", "", length_ms): pl.len()}
    for feature in features:
        if feature.where and length_ms in (feature.window_ms, feature.baseline_ms):
            wanted[_name("count", "", length_ms, feature.where)] = pl.col(_slug(feature.where)).sum()
        if feature.window_ms == length_ms and feature.of:
            of = feature.of[0]
            values = pl.when(pl.col(_slug(feature.where))).then(pl.col(of)) if feature.where else pl.col(of)
            parts = [part for part in NEEDS[feature.aggregate] if part in PARTS]
            wanted |= {_name(part, of, length_ms, feature.where): PARTS[part](values) for part in parts}
    return grouped.rolling(length_ms, [part.alias(name) for name, part in wanted.items()])


def _by_value(grouped: Grouped, features: list[Feature], field: str) -> pl.DataFrame:
    """Return, for each window, the rolling count of rows of the entity with the same value of a field."""
    keys = list(dict.fromkeys((*grouped.keys, field)))
    same = type(grouped)(grouped.rows.select(TIME, *keys).with_row_index(PLACE), keys)
    found = [same.rows.select(PLACE)]
    of_field = [f for f in features if f.aggregate in BY_VALUE and f.of[0] == field]
    for length_ms in sorted({f.window_ms for f in of_field}):
        found.append(same.rolling(length_ms, [pl.len().alias(_name("same", field, length_ms))]))
    if any(f.aggregate == "time_since_same" for f in of_field):
        found.append(same.rows.select(same.since_ms.alias(_name("since", field, 0))))
    return pl.concat(found, how="horizontal").sort(PLACE).drop(PLACE)


def _column(feature: Feature, catalog: Catalog, since_ms: pl.Expr) -> pl.Expr:
    """Return a windowed feature from the parts of its windows; `since_ms` is since the entity's last row."""
    of = feature.of[0] if feature.of else ""
    scale = 10 ** catalog.event.fields[of].digits if of else 1

    def seen(name: str) -> pl.Expr:
        return pl.col(_name(name, of if name != "count" else "", feature.window_ms, feature.where))

    match feature.aggregate:
        case "first_seen":
            return (seen("count") == 0).cast(pl.Float64)
        case "rate":
            of_all = pl.col(_name("count", "", feature.window_ms))
            return pl.when(of_all > 0).then(seen("count") / of_all)
        case "velocity":
            longer = pl.col(_name("count", "", feature.baseline_ms, feature.where))
            rate = seen("count") * float(feature.baseline_ms) / (longer * float(feature.window_ms))
            return pl.when(longer > 0).then(rate)
        case "time_since_last":
            return pl.when(since_ms < feature.window_ms).then(since_ms / 1000)
        case "time_since_same":
            same_ms = pl.col(_name("since", of, 0))
            return pl.when(pl.col(of).is_not_null() & (same_ms < feature.window_ms)).then(same_ms / 1000)
        case "zscore":
            return pl.when(seen("std") > 0).then((pl.col(of) - seen("mean")) / seen("std"))
        case "ratio":
            return pl.col(of) / seen("mean")
        case "share":
            share = seen("same") / seen("count")
            return pl.when(pl.col(of).is_not_null() & (seen("count") > 0)).then(share)
        case "same_count":
            return pl.when(pl.col(of).is_not_null()).then(seen("same").cast(pl.Float64))
        case "count" | "distinct" as aggregate:
            return seen(aggregate).cast(pl.Float64)
        case aggregate:
            return seen(aggregate) / scale


def _event_column(feature: Feature, catalog: Catalog) -> pl.Expr:
    of = feature.of[0]
    match feature.aggregate:
        case "hour_of_day":
            return (pl.col(TIME) // HOUR_MS % 24).cast(pl.Float64)
        case "day_of_week":
            return ((pl.col(TIME) // DAY_MS + 3) % 7).cast(pl.Float64)
        case "differs":
            return (pl.col(of) != pl.col(feature.of[1])).cast(pl.Float64)
    field = catalog.event.fields[of]
    if field.type in NUMERIC_TYPES:
        return pl.col(of) / 10**field.digits
    codes = {value: float(code) for code, value in enumerate(field.values)}
    return pl.col(of).replace_strict(codes, default=None, return_dtype=pl.Float64)
