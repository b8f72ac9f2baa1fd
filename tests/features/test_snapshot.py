"""State that is saved, moved and loaded again: the features go on as if nothing had happened, to the bit."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fraudstream.features import FeatureEngine, snapshot
from tests.busy import busy_worlds
from tests.features.served import Repeats, assert_same_bits, new_engine, once, served, steps
from tests.strategies import World, lengths, repeated, worlds

# Each example writes and reads files; the streams are those of test_twin.py.
FEWER = settings(max_examples=settings().max_examples // 2)


def reloaded(engine: FeatureEngine, world: World) -> FeatureEngine:
    """Return the engine that a snapshot of this one gives."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        snapshot.save(engine, path)
        return snapshot.load(path, world.catalog, world.state, grace_ms=world.grace_ms)


def moments() -> st.SearchStrategy[set[int]]:
    """Draw the steps before which something happens to the state."""
    return st.sets(st.integers(0, 25), max_size=4)


@FEWER
@given(st.one_of(worlds(), busy_worlds()), lengths(), moments())
def test_an_engine_that_is_saved_and_loaded_goes_on_with_the_same_features(
    world: World, sizes: list[int], stops: set[int]
) -> None:
    taken = steps(world, sizes)
    unbroken = engine = new_engine(world)
    engine = new_engine(world)
    for number, step in enumerate(taken):
        if number in stops:
            engine = reloaded(engine, world)
            assert engine.dump() == unbroken.dump()
            assert engine.watermark_ms == unbroken.watermark_ms
        assert_same_bits(served(engine, [step]), served(unbroken, [step]), world.catalog.names)
    assert engine.dump() == unbroken.dump()


@FEWER
@given(worlds(), lengths(), st.integers(0, 50))
def test_saving_changes_nothing_in_the_engine_that_is_saved(
    world: World, sizes: list[int], stop: int
) -> None:
    taken = steps(world, sizes)
    saved, other = new_engine(world), new_engine(world)
    for engine in (saved, other):
        served(engine, taken[:stop])
    reloaded(saved, world)
    assert_same_bits(served(saved, taken[stop:]), served(other, taken[stop:]), world.catalog.names)
    assert saved.dump() == other.dump()


@FEWER
@given(repeated(), lengths(), moments())
def test_an_engine_that_is_saved_and_loaded_still_knows_which_ids_it_has_seen(
    world: World, sizes: list[int], stops: set[int]
) -> None:
    unbroken, engine = new_engine(world), new_engine(world)
    for number, step in enumerate(steps(world, sizes)):
        if number in stops:
            engine = reloaded(engine, world)
        repeats: list[Repeats] = []
        given, expected = once(engine, step, repeats), once(unbroken, step, repeats)
        assert repeats[0] == repeats[1]
        assert given[1].ids == expected[1].ids
        assert_same_bits(served(engine, [given]), served(unbroken, [expected]), world.catalog.names)


@FEWER
@given(st.one_of(worlds(), busy_worlds()), lengths(), moments(), st.integers(0, 2**32 - 1))
def test_shards_that_are_saved_dropped_and_loaded_again_leave_the_same_features(
    world: World, sizes: list[int], stops: set[int], seed: int
) -> None:
    random = np.random.default_rng(seed)
    unmoved, engine = new_engine(world), new_engine(world)
    for number, step in enumerate(steps(world, sizes)):
        if number in stops:
            moved = random.permutation(engine.SHARDS)[: random.integers(1, engine.SHARDS + 1)].tolist()
            saved = [engine.save_shard(shard) for shard in moved]
            for shard in moved:
                engine.drop_shard(shard)
            for shard in random.permutation(len(saved)).tolist():
                engine.load_shard(saved[shard])
            assert engine.dump() == unmoved.dump()
        assert_same_bits(served(engine, [step]), served(unmoved, [step]), world.catalog.names)
    assert engine.dump() == unmoved.dump()


@FEWER
@given(worlds(complete=["start"]), lengths(), st.integers(0, 50))
def test_an_engine_takes_the_shards_of_another_in_the_place_of_its_own(
    world: World, sizes: list[int], stop: int
) -> None:
    """The other has come as far in the stream, but with cards of its own. Labels are the engine's, not a shard's."""
    world = replace(world, told=())
    taken = steps(world, sizes)
    owner, taker = new_engine(world), new_engine(world)
    served(owner, taken[:stop])
    other = [replace(row, texts={**row.texts, "card_id": "other"}) for row in world.stream]
    served(taker, steps(replace(world, stream=other), sizes)[:stop])
    for shard in range(owner.SHARDS):
        taker.drop_shard(shard)
        taker.load_shard(owner.save_shard(shard))
    assert taker.dump() == owner.dump()
    assert_same_bits(served(taker, taken[stop:]), served(owner, taken[stop:]), world.catalog.names)
    assert taker.dump() == owner.dump()


@FEWER
@given(worlds(), lengths())
def test_an_engine_whose_shards_are_all_dropped_keeps_no_entity(world: World, sizes: list[int]) -> None:
    engine = new_engine(world)
    served(engine, steps(world, sizes))
    for shard in range(engine.SHARDS):
        engine.drop_shard(shard)
    assert set(engine.entities().values()) == {0} if engine.entities() else True
    assert not any(engine.dump().values())
