"""The engine against its slow twin (`tests/oracles.py`), bit for bit, on drawn catalogues and streams."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.batch import TransactionBatch
from fraudstream.features import FeatureEngine, build_catalog
from fraudstream.features.keys import combine, hash_texts
from fraudstream.settings import FeatureGroup
from tests.oracles import FeatureTwin
from tests.strategies import (
    START_MS,
    Drawn,
    World,
    batch_of,
    bounds,
    card_event,
    cut,
    fillers,
    lengths,
    worlds,
)

Served = tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8]]


def served(engine: FeatureEngine, batches: Iterable[TransactionBatch]) -> Served:
    seen = [engine.observe(batch) for batch in batches]
    X = np.concatenate([np.empty((0, len(engine.catalog))), *(one.X for one in seen)])
    return X, np.concatenate([np.empty(0, np.uint8), *(one.flags for one in seen)])


def by_twin(twin: FeatureTwin, batches: Iterable[TransactionBatch]) -> Served:
    seen = [twin.observe(batch) for batch in batches]
    rows = [x for X, _ in seen for x in X]
    flags = [flag for _, flags in seen for flag in flags]
    return np.array(rows, np.float64).reshape(-1, len(twin.catalog)), np.array(flags, np.uint8)


def assert_same_bits(given: Served, expected: Served, names: list[str]) -> None:
    """Fail where features or flags differ: NaN equals NaN, and 0.0 is not -0.0."""
    assert given[0].shape == expected[0].shape
    missing = np.isnan(expected[0])
    bits = [np.where(missing, 0, X.view(np.int64)) for X in (given[0], expected[0])]
    wrong = (np.isnan(given[0]) != missing) | (bits[0] != bits[1])
    told = [
        f"row {row}, {names[column]}: {given[0][row, column]!r}, should be {expected[0][row, column]!r}"
        for row, column in np.argwhere(wrong)[:5].tolist()
    ]
    assert not told, "; ".join(told)
    assert given[1].tolist() == expected[1].tolist()


def runs(rows: list[Drawn]) -> list[list[Drawn]]:
    """Return the longest pieces that are in event order, in the order given."""
    pieces: list[list[Drawn]] = []
    for row in rows:
        if pieces and pieces[-1][-1].time_ms <= row.time_ms:
            pieces[-1].append(row)
        else:
            pieces.append([row])
    return pieces


@given(worlds(), lengths())
def test_the_engine_gives_what_the_twin_gives(world: World, sizes: list[int]) -> None:
    batches = cut(world.stream, sizes)
    engine, twin = FeatureEngine(world.catalog, world.state), FeatureTwin(world.catalog, world.state)
    assert_same_bits(served(engine, batches), by_twin(twin, batches), world.catalog.names)


@given(worlds(), lengths())
def test_the_engine_keeps_the_rows_that_the_twin_keeps(world: World, sizes: list[int]) -> None:
    batches = cut(world.stream, sizes)
    engine, twin = FeatureEngine(world.catalog, world.state), FeatureTwin(world.catalog, world.state)
    served(engine, batches)
    by_twin(twin, batches)
    dumped = engine.dump()
    for kind in world.catalog.entities:
        kept = {
            int(combine([hash_texts([text]) for text in entity])[0]): [row.time_ms for row in rows]
            for entity, rows in twin.kept(kind).items()
        }
        assert {key: [row[0] for row in rows] for key, rows in dumped[kind].items()} == kept


@given(worlds(), lengths())
def test_any_cut_of_a_stream_gives_the_same_features_and_state(world: World, sizes: list[int]) -> None:
    pieces = runs(world.stream)
    coarse, fine, other = (FeatureEngine(world.catalog, world.state) for _ in range(3))
    whole = served(coarse, [batch_of(piece) for piece in pieces])
    single = served(fine, [batch_of([row]) for row in world.stream])
    mixed = served(other, [batch for piece in pieces for batch in cut(piece, sizes)])
    assert_same_bits(single, whole, world.catalog.names)
    assert_same_bits(mixed, whole, world.catalog.names)
    assert coarse.dump() == fine.dump() == other.dump()


@given(worlds(), lengths(), st.integers(0, 2**32 - 1))
def test_rows_that_arrive_within_the_lateness_leave_the_same_state_in_any_order(
    world: World, sizes: list[int], seed: int
) -> None:
    rows = sorted({row.time_ms: row for row in world.stream}.values(), key=lambda row: row.time_ms)
    delays = np.random.default_rng(seed).integers(0, world.state.lateness_ms + 1, len(rows)).tolist()
    shuffled = [rows[i] for i in sorted(range(len(rows)), key=lambda i: rows[i].time_ms + delays[i])]
    in_order, out_of_order = (FeatureEngine(world.catalog, world.state) for _ in range(2))
    served(in_order, cut(rows, sizes))
    _, flags = served(out_of_order, [batch_of([row]) for row in shuffled])
    assert not (flags & 1).any()
    assert out_of_order.dump() == in_order.dump()
    after = [Drawn(rows[-1].time_ms + 1, row.measures, row.texts) for row in rows[-3:]]
    assert_same_bits(
        served(out_of_order, cut(after, [])), served(in_order, cut(after, [])), world.catalog.names
    )


@given(worlds(rows_max=st.just(64)))
def test_rows_of_equal_time_leave_the_same_windows_in_any_order(world: World) -> None:
    rows = [Drawn(START_MS, row.measures, row.texts) for row in world.stream]
    turned = rows[::-1]
    straight, backward = (FeatureEngine(world.catalog, world.state) for _ in range(2))
    served(straight, cut(rows, []))
    served(backward, cut(turned, []))
    after = [Drawn(START_MS + 1, row.measures, row.texts) for row in rows[:5]]
    assert_same_bits(served(backward, cut(after, [])), served(straight, cut(after, [])), world.catalog.names)


@given(worlds(), lengths(), st.integers(0, 60))
def test_absorbing_the_past_gives_what_observing_it_gives(world: World, sizes: list[int], split: int) -> None:
    past, present = cut(world.stream[:split], sizes), cut(world.stream[split:], sizes)
    silent, loud = (FeatureEngine(world.catalog, world.state) for _ in range(2))
    for batch in past:
        silent.absorb(batch)
        loud.observe(batch)
    assert silent.dump() == loud.dump()
    assert_same_bits(served(silent, present), served(loud, present), world.catalog.names)
    assert silent.dump() == loud.dump()


@given(worlds(), lengths(), st.sampled_from([1, 40, 300, 2000]))
def test_cards_seen_once_do_not_change_the_features_of_others(
    world: World, sizes: list[int], crowd: int
) -> None:
    """Crowds come between the batches and push idle entities out, at whatever time of the stream."""
    batches = cut(world.stream, sizes)
    engine, twin = FeatureEngine(world.catalog, world.state), FeatureTwin(world.catalog, world.state)
    for number, batch in enumerate(batches):
        assert_same_bits(served(engine, [batch]), by_twin(twin, [batch]), world.catalog.names)
        time_ms = max(START_MS, int(batch.time_ms.max()))
        engine.observe(batch_of(fillers(crowd, time_ms, f"crowd{number}")))
        twin.observe(batch_of(fillers(1, time_ms, f"crowd{number}")))
    assert engine.watermark_ms == (twin.watermark_ms or 0)


def test_a_long_busy_stream_gives_what_the_twin_gives() -> None:
    """Some 12,000 rows: rings and arena grow, entities come and go, the hottest card is capped."""
    groups = [
        FeatureGroup(entity="card", aggregates=["count", "velocity", "time_since_last", "hour_habit"],
                     windows=["1m", "1h"], baseline="24h"),
        FeatureGroup(entity="card", of="amount", windows=["1m", "1h"],
                     aggregates=["sum", "mean", "std", "min", "max", "zscore", "ratio"]),
        FeatureGroup(entity="card", of="tip", windows=["1h"], aggregates=["sum", "zscore", "max"]),
        FeatureGroup(entity="card_merchant", of="device_id", windows=["1h"], aggregates=["distinct", "share"]),
    ]  # fmt: skip
    catalog, state = build_catalog(groups, card_event()), bounds("1m", rows_max=100)
    random = np.random.default_rng(20_240_229)
    arrivals = START_MS + np.cumsum(random.exponential(60_000, 12_000)).astype(np.int64)
    times = arrivals - (random.random(12_000) < 0.1) * random.integers(0, 900_000, 12_000)
    rows = [
        Drawn(
            time_ms,
            {"amount": int(random.pareto(1.1) * 1000), "tip": None if i % 3 else i, "items": 1, "recurring": None},
            {"card_id": f"c{int(random.pareto(0.3)) % 5000}", "merchant_id": f"m{i % 3}",
             "device_id": f"d{i % 7}" if i % 5 else None, "channel": None},
        )
        for i, time_ms in enumerate(times.tolist())
    ]  # fmt: skip
    batches = cut(rows, random.integers(1, 400, 200).tolist())
    engine, twin = FeatureEngine(catalog, state), FeatureTwin(catalog, state)
    given, expected = served(engine, batches), by_twin(twin, batches)
    assert set(expected[1].tolist()) >= {0, 1, 2}
    assert_same_bits(given, expected, catalog.names)
    assert engine.entities()["card"] < len({row.texts["card_id"] for row in rows})
