"""The engine against its slow twin (`tests/oracles`), bit for bit, on drawn catalogues and streams."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fraudstream.features import FeatureEngine, build_catalog
from fraudstream.features.keys import combine, hash_texts
from fraudstream.features.labels import KnownLabel
from fraudstream.sections import FeatureGroup
from tests.busy import busy_worlds
from tests.features.served import (
    Repeats,
    Served,
    Step,
    assert_same_bits,
    by_twin,
    falls,
    new_engine,
    new_twin,
    once,
    served,
    steps,
)
from tests.strategies import (
    START_MS,
    Drawn,
    Told,
    World,
    batch_of,
    bounds,
    card_event,
    fillers,
    lengths,
    named,
    repeated,
    worlds,
)

# A busy world takes the twin as long as some ten others.
FEWER = settings(max_examples=settings().max_examples // 4)


@given(worlds(), lengths())
def test_the_engine_gives_what_the_twin_gives(world: World, sizes: list[int]) -> None:
    taken = steps(world, sizes)
    assert_same_bits(served(new_engine(world), taken), by_twin(new_twin(world), taken), world.catalog.names)


@FEWER
@given(busy_worlds(), st.lists(st.integers(1, 150), max_size=8))
def test_the_engine_gives_what_the_twin_gives_for_a_busy_card(world: World, sizes: list[int]) -> None:
    taken = steps(world, sizes)
    assert_same_bits(served(new_engine(world), taken), by_twin(new_twin(world), taken), world.catalog.names)


@given(worlds(), lengths())
def test_the_engine_keeps_the_rows_that_the_twin_keeps(world: World, sizes: list[int]) -> None:
    assert_same_kept(world, sizes)


@FEWER
@given(busy_worlds(), st.lists(st.integers(1, 150), max_size=8))
def test_the_engine_keeps_the_rows_of_a_busy_card_that_the_twin_keeps(world: World, sizes: list[int]) -> None:
    assert_same_kept(world, sizes)


def assert_same_kept(world: World, sizes: list[int]) -> None:
    """Fail where the engine's dump has other rows or tiles of an entity than the twin."""
    taken = steps(world, sizes)
    engine, twin = new_engine(world), new_twin(world)
    served(engine, taken)
    by_twin(twin, taken)
    dumped = engine.dump()
    assert list(dumped) == [stage.name for stage in twin.stages]
    for stage in twin.stages:
        kept = {
            int(combine([hash_texts([text]) for text in entity])[0]): times
            for entity, times in twin.kept(stage).items()
        }
        assert {key: [row[0] for row in rows] for key, rows in dumped[stage.name].items()} == kept


@given(st.one_of(worlds(), busy_worlds()), lengths())
def test_any_cut_of_a_stream_gives_the_same_features_and_state(world: World, sizes: list[int]) -> None:
    ordered = falls(world.stream)  # a batch is in event order, so that none may reach over a fall in time
    cuts = [steps(world, given, ordered) for given in ([], [1] * len(world.stream), sizes)]
    engines = [new_engine(world) for _ in cuts]
    whole, *others = [served(engine, taken) for engine, taken in zip(engines, cuts, strict=True)]
    for other in others:
        assert_same_bits(other, whole, world.catalog.names)
    assert engines[0].dump() == engines[1].dump() == engines[2].dump()


@given(worlds(complete=["start"]), lengths(), st.integers(0, 2**32 - 1))
def test_rows_that_arrive_within_the_lateness_leave_the_same_state_in_any_order(
    world: World, sizes: list[int], seed: int
) -> None:
    rows = sorted({row.time_ms: row for row in world.stream}.values(), key=lambda row: row.time_ms)
    delays = np.random.default_rng(seed).integers(0, world.state.lateness_ms + 1, len(rows)).tolist()
    shuffled = [rows[i] for i in sorted(range(len(rows)), key=lambda i: rows[i].time_ms + delays[i])]
    labels = [told.label for told in world.told]
    in_order, out_of_order = new_engine(world), new_engine(world)
    for engine in (in_order, out_of_order):
        engine.learn(labels)
    served(in_order, steps(of_rows(world, rows), sizes))
    _, flags = served(out_of_order, steps(of_rows(world, shuffled), [1] * len(rows)))
    assert not (flags & 1).any()
    assert out_of_order.dump() == in_order.dump()
    after = [
        Drawn(rows[-1].time_ms + 1, row.measures, row.texts, f"after{i}") for i, row in enumerate(rows[-3:])
    ]
    last = steps(of_rows(world, after), [])
    assert_same_bits(served(out_of_order, last), served(in_order, last), world.catalog.names)


def of_rows(world: World, rows: list[Drawn]) -> World:
    """Return the world with other rows and nothing told."""
    return replace(world, stream=rows, told=())


@given(worlds(rows_max=st.just(64)))
def test_rows_of_equal_time_leave_the_same_windows_in_any_order(world: World) -> None:
    rows = [replace(row, time_ms=START_MS) for row in world.stream]
    straight, backward = new_engine(world), new_engine(world)
    for engine, order in ((straight, rows), (backward, rows[::-1])):
        engine.learn([told.label for told in world.told])
        served(engine, steps(of_rows(world, order), []))
    after = [replace(row, time_ms=START_MS + 1, transaction_id="") for row in rows[:5]]
    last = steps(of_rows(world, after), [])
    assert_same_bits(served(backward, last), served(straight, last), world.catalog.names)


@given(st.one_of(worlds(), busy_worlds()), lengths(), st.integers(0, 60))
def test_absorbing_the_past_gives_what_observing_it_gives(world: World, sizes: list[int], split: int) -> None:
    taken = steps(world, sizes, [split])
    past = [step for step in taken if step[1].offset.min() < split]
    present = taken[len(past) :]
    silent, loud = new_engine(world), new_engine(world)
    for labels, batch in past:
        silent.learn(labels)
        silent.absorb(batch)
    served(loud, past)
    assert silent.dump() == loud.dump()
    assert_same_bits(served(silent, present), served(loud, present), world.catalog.names)
    assert silent.dump() == loud.dump()


@given(st.one_of(worlds(), busy_worlds()), lengths(), st.integers(0, 50), st.integers(0, 12))
def test_rows_that_are_only_looked_at_change_nothing(
    world: World, sizes: list[int], stop: int, ahead: int
) -> None:
    """Rows of the future too, of entities known and unknown, whatever they would push out."""
    taken = steps(world, sizes)
    looking, other = new_engine(world), new_engine(world)
    for engine in (looking, other):
        served(engine, taken[:stop])
    for _, batch in taken[stop : stop + ahead]:
        looking.peek(batch)
    assert looking.dump() == other.dump()
    assert looking.entities() == other.entities()
    assert (looking.watermark_ms, looking.history_from_ms) == (other.watermark_ms, other.history_from_ms)
    assert_same_bits(served(looking, taken[stop:]), served(other, taken[stop:]), world.catalog.names)


@given(worlds(), st.integers(0, 2**32 - 1))
def test_it_does_not_matter_when_and_in_which_order_labels_are_learned_before_they_can_be_seen(
    world: World, seed: int
) -> None:
    """Each label is learned at the last moment, or at any moment before: in every case one row a batch."""
    random = np.random.default_rng(seed)
    newest = np.maximum.accumulate([row.time_ms for row in world.stream] or [0])
    single = {(told.label.transaction_id, told.label.known_at_ms): told.label for told in world.told}
    at_last = [
        Told(int(np.searchsorted(newest, label.known_at_ms + world.grace_ms)), label)
        for label in single.values()
    ]
    before = [Told(int(random.integers(0, told.position + 1)), told.label) for told in at_last]
    shuffled = [before[i] for i in random.permutation(len(before)).tolist()]
    one_by_one = [1] * len(world.stream)
    given = [
        served(new_engine(world), steps(replace(world, told=told), one_by_one))
        for told in (at_last, shuffled)
    ]
    assert_same_bits(given[1], given[0], world.catalog.names)


@given(repeated(), lengths())
def test_the_engine_passes_over_the_repeats_that_the_twin_passes_over(world: World, sizes: list[int]) -> None:
    engine, twin = new_engine(world), new_twin(world)
    for step in steps(world, sizes):
        repeats: list[Repeats] = []
        by_engine, by_its_twin = once(engine, step, repeats), once(twin, step, repeats)
        assert by_engine[1].ids == by_its_twin[1].ids
        assert repeats[0] == repeats[1]
        assert_same_bits(served(engine, [by_engine]), by_twin(twin, [by_its_twin]), world.catalog.names)


@given(worlds(), lengths(), st.sampled_from([1, 40, 300, 2000]))
def test_cards_seen_once_do_not_change_the_features_of_others(
    world: World, sizes: list[int], crowd: int
) -> None:
    """Crowds come between the batches and push idle entities out, at whatever time of the stream."""
    engine, twin = new_engine(world), new_twin(world)
    for number, step in enumerate(steps(world, sizes)):
        assert_same_bits(served(engine, [step]), by_twin(twin, [step]), world.catalog.names)
        time_ms = max(START_MS, int(step[1].time_ms.max()))
        engine.observe(batch_of(fillers(crowd, time_ms, f"crowd{number}")))
        twin.observe(batch_of(fillers(1, time_ms, f"crowd{number}")))
    assert engine.watermark_ms == max(twin.watermark_ms, 0)


LONG_GROUPS = [
    FeatureGroup(entity="card", aggregates=["count", "velocity", "time_since_last", "hour_habit", "first_seen"],
                 windows=["1m", "1h"], baseline="24h"),
    FeatureGroup(entity="card", of="amount", windows=["1m", "1h"],
                 aggregates=["sum", "mean", "std", "min", "max", "zscore", "ratio"]),
    FeatureGroup(entity="card", of="tip", windows=["1h"], aggregates=["sum", "zscore", "max"]),
    FeatureGroup(entity="card", aggregates=["count", "rate"], windows=["1h"], where='device_id = "d1"'),
    FeatureGroup(entity="card", aggregates=["count", "rate"], windows=["3h"], lag="30m", label="fraud"),
    FeatureGroup(entity="card_merchant", of="device_id", windows=["1h"],
                 aggregates=["distinct", "share", "same_count", "time_since_same"]),
    FeatureGroup(entity="device", of="amount", windows=["6h"], resolution="10m",
                 aggregates=["sum", "std", "min", "max", "zscore"]),
    FeatureGroup(entity="device", windows=["6h"], resolution="10m", where="amount >= 100", lag="1h",
                 aggregates=["count", "rate"]),
]  # fmt: skip


def long_world(rows: int, state_rows_max: int) -> World:
    """Return a stream of many cards, some of them late, and labels that come hours later."""
    random = np.random.default_rng(20_240_229)
    arrivals = START_MS + np.cumsum(random.exponential(60_000, rows)).astype(np.int64)
    times = arrivals - (random.random(rows) < 0.1) * random.integers(0, 900_000, rows)
    stream = [
        Drawn(
            time_ms,
            {"amount": int(random.pareto(1.1) * 1000), "tip": None if i % 3 else i, "items": 1, "recurring": None},
            {"card_id": f"c{int(random.pareto(0.3)) % 5000}", "merchant_id": f"m{i % 3}",
             "device_id": f"d{i % 7}" if i % 5 else None, "channel": None},
        )
        for i, time_ms in enumerate(times.tolist())
    ]  # fmt: skip
    told = []
    for at in random.integers(0, rows, rows // 20).tolist():
        known_ms = int(times[at]) + int(random.integers(0, 7_200_000))
        label = KnownLabel(transaction_id=f"t{at}", fraud=at % 4 > 0, known_at_ms=known_ms)
        told.append(Told(at // 500 * 500 + int(random.integers(0, 3)) * 500, label))
    catalog = build_catalog(LONG_GROUPS, card_event())
    return World(catalog, bounds("1m", rows_max=state_rows_max), named(stream), told, grace_ms=60_000)


def test_a_long_busy_stream_gives_what_the_twin_gives() -> None:
    """Some 12,000 rows: rings and arena grow, entities come and go, the hottest card is capped."""
    world = long_world(12_000, state_rows_max=100)
    taken: list[Step] = steps(world, np.random.default_rng(7).integers(1, 400, 200).tolist())
    engine: FeatureEngine = new_engine(world)
    given: Served = served(engine, taken)
    expected = by_twin(new_twin(world), taken)
    assert set(expected[1].tolist()) >= {0, 1, 2}
    fraud = world.catalog.names.index("card_fraud_count_3h_lag30m")
    assert np.nanmax(expected[0][:, fraud]) > 1
    assert_same_bits(given, expected, world.catalog.names)
    assert engine.entities()["card"] < len({row.texts["card_id"] for row in world.stream})
