"""Plain windows against a second witness that is not ours: polars' rolling groups over the same rows.

polars has no notion of "earlier in the log": its windows end at a time and take every row of that time in.
So the rows get a clock of their own that never stands still, `time * TIES + place among the rows of that
time`. A window (t - W, t] that ends before the row itself is then `[clock - period, clock)`, closed on the
left, with a period half a millisecond short of W: the places fill less than the first half of a
millisecond, so that the rows at t - W stay outside and those a millisecond later come in.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from fraudstream.features import FeatureEngine, build_catalog
from fraudstream.sections import FeatureGroup
from tests.strategies import START_MS, Drawn, bounds, card_event, cut

ROWS = 20_000
TIES = 1024  # of one millisecond: twice as many as there may be rows of one time
WINDOWS = {"1s": 1_000, "1m": 60_000, "1h": 3_600_000, "1d": 86_400_000}
FIELDS = {"card": "card_id", "merchant": "merchant_id"}


def drawn_rows() -> list[Drawn]:
    """Return rows in the order of time, with many ties, a few busy cards and a few busy merchants."""
    random = np.random.default_rng(1_912)
    times = START_MS + np.cumsum(random.exponential(8_000, ROWS)).astype(np.int64) // 500 * 500
    cards = random.zipf(1.3, ROWS) % 2_000
    merchants = random.zipf(1.2, ROWS) % 300
    amounts = (random.pareto(1.2, ROWS) * 1000).astype(np.int64) % 10_000_000
    texts = [{"card_id": f"c{card}", "merchant_id": f"m{merchant}", "device_id": None, "channel": None}
             for card, merchant in zip(cards.tolist(), merchants.tolist(), strict=True)]  # fmt: skip
    return [
        Drawn(time_ms, {"amount": amount, "tip": None, "items": 1, "recurring": None}, dict(names))
        for time_ms, amount, names in zip(times.tolist(), amounts.tolist(), texts, strict=True)
    ]


def by_polars(rows: list[Drawn], entity: str, window_ms: int) -> pl.DataFrame:
    """Return the aggregates over one window, in cents, a row each in the order of the log."""
    time_ms = np.array([row.time_ms for row in rows])
    place = np.arange(len(rows)) - np.searchsorted(time_ms, time_ms)
    assert place.max() < TIES // 2
    frame = pl.DataFrame(
        {
            "clock": time_ms * TIES + place,
            "entity": [row.texts[FIELDS[entity]] for row in rows],
            "amount": [row.measures["amount"] for row in rows],
        }
    )
    amount = pl.col("amount")
    return (
        frame.rolling("clock", period=f"{window_ms * TIES - TIES // 2}i", closed="left", group_by="entity")
        .agg(
            count=pl.len(),
            sum=amount.sum(),
            mean=amount.mean(),
            std=amount.std(),
            min=amount.min(),
            max=amount.max(),
        )
        .sort("clock")
    )


def column(frame: pl.DataFrame, name: str) -> npt.NDArray[np.float64]:
    """Return a column with NaN where polars has null."""
    values: Any = frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return np.asarray(values, np.float64)


@pytest.fixture(scope="module")
def rows() -> list[Drawn]:
    return drawn_rows()


@pytest.fixture(scope="module")
def served(rows: list[Drawn]) -> dict[str, npt.NDArray[np.float64]]:
    """Return what the engine says of the rows, by feature, in micro-batches of many sizes."""
    event = msgspec.structs.replace(card_event(), entities=FIELDS)
    windows = list(WINDOWS)
    groups = [
        group
        for entity in FIELDS
        for group in (
            FeatureGroup(entity=entity, aggregates=["count"], windows=windows),
            FeatureGroup(
                entity=entity, of="amount", windows=windows, aggregates=["sum", "mean", "std", "min", "max"]
            ),
        )
    ]
    engine = FeatureEngine(build_catalog(groups, event), bounds(rows_max=65_536))
    sizes = np.random.default_rng(3).integers(1, 1500, 40).tolist()
    seen = [engine.observe(batch) for batch in cut(rows, sizes)]
    assert not any(one.flags.any() for one in seen)
    X = np.concatenate([one.X for one in seen])
    return dict(zip(engine.catalog.names, X.T, strict=True))


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("entity", FIELDS)
def test_the_engine_gives_what_polars_gives(
    rows: list[Drawn], served: dict[str, npt.NDArray[np.float64]], entity: str, window: str
) -> None:
    """Counts, sums and extremes are whole cents and the same to the bit; means and deviations to 1e-9."""
    frame = by_polars(rows, entity, WINDOWS[window])
    np.testing.assert_array_equal(served[f"{entity}_count_{window}"], column(frame, "count"))
    for aggregate in ("sum", "min", "max"):
        exact = column(frame, aggregate) / 100
        np.testing.assert_array_equal(served[f"{entity}_amount_{aggregate}_{window}"], exact)
    for aggregate in ("mean", "std"):
        given = served[f"{entity}_amount_{aggregate}_{window}"]
        np.testing.assert_allclose(given, column(frame, aggregate) / 100, rtol=1e-9, atol=1e-9)


def test_the_rows_have_what_makes_windows_hard(rows: list[Drawn]) -> None:
    times = np.array([row.time_ms for row in rows])
    cards, merchants = (Counter(row.texts[field] for row in rows) for field in FIELDS.values())
    assert (np.diff(times) == 0).sum() > ROWS // 50
    assert max(cards.values()) > ROWS // 10
    assert max(merchants.values()) > ROWS // 10
    assert len(cards) > 500
