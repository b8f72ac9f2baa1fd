"""What engine and twin say of a world, and whether it is the same to the bit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from fraudstream.batch import Int64, TransactionBatch
from fraudstream.features import FeatureEngine
from fraudstream.features.labels import KnownLabel
from tests.oracles import FeatureTwin
from tests.strategies import Drawn, World, cut

Served = tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8]]
Step = tuple[list[KnownLabel], TransactionBatch]
Repeats = list[tuple[int, str]]


def new_engine(world: World) -> FeatureEngine:
    return FeatureEngine(world.catalog, world.state, grace_ms=world.grace_ms)


def new_twin(world: World) -> FeatureTwin:
    return FeatureTwin(world.catalog, world.state, world.grace_ms)


def steps(world: World, sizes: Iterable[int], also_at: Iterable[int] = ()) -> list[Step]:
    """Return the stream as micro-batches (see `cut`), each with the labels that are learned before it."""
    positions = [told.position for told in world.told]
    return [
        ([told.label for told in world.told if told.position == batch.offset.min()], batch)
        for batch in cut(world.stream, sizes, [*also_at, *positions])
    ]


def falls(rows: Sequence[Drawn]) -> list[int]:
    """Return the positions of the rows that are earlier than the one before them in the log."""
    return [at for at in range(1, len(rows)) if rows[at].time_ms < rows[at - 1].time_ms]


def served(engine: FeatureEngine, taken: Iterable[Step]) -> Served:
    """Return what the engine says of the steps' rows, one below the other."""
    X, flags = [np.empty((0, len(engine.catalog)))], [np.empty(0, np.uint8)]
    for labels, batch in taken:
        engine.learn(labels)
        seen = engine.observe(batch)
        X.append(seen.X)
        flags.append(seen.flags)
    return np.concatenate(X), np.concatenate(flags)


def by_twin(twin: FeatureTwin, taken: Iterable[Step]) -> Served:
    """Return what the twin says of the steps' rows, one below the other."""
    rows: list[list[float]] = []
    flags: list[int] = []
    for labels, batch in taken:
        twin.learn(labels)
        seen = twin.observe(batch)
        rows.extend(seen[0])
        flags.extend(seen[1])
    return np.array(rows, np.float64).reshape(-1, len(twin.catalog)), np.array(flags, np.uint8)


def once(recognising: FeatureEngine | FeatureTwin, step: Step, repeats: list[Repeats] | None = None) -> Step:
    """Return a step without the rows that are repeats; those go into `repeats`."""
    labels, batch = step
    if isinstance(recognising, FeatureTwin):
        fresh, again = recognising.recognise(batch)
    else:
        recognised = recognising.recognise(batch)
        fresh = recognised.fresh.tolist()
        again = [(row, batch.ids[row]) for row in recognised.again.tolist()]
    if repeats is not None:
        repeats.append(again)
    rows: Int64 = np.array(fresh, np.int64)
    return labels, batch.take(rows)


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
