"""Snapshots that are damaged, of another catalogue, or taken while the stream goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fraudstream.errors import CheckpointError
from fraudstream.features import Catalog, FeatureEngine, build_catalog, snapshot
from fraudstream.sections import FeatureGroup
from tests.strategies import START_MS, Drawn, batch_of, bounds, card_event


def catalog_of(window: str = "1h", entity: str = "card") -> Catalog:
    groups = [
        FeatureGroup(entity=entity, aggregates=["count"], windows=["10s", window]),
        FeatureGroup(entity=entity, of="amount", aggregates=["sum", "max"], windows=[window]),
        FeatureGroup(entity=entity, of="merchant_id", aggregates=["distinct"], windows=[window]),
    ]
    return build_catalog(groups, card_event())


def stream(rows: int, first: int = 0) -> list[Drawn]:
    return [
        Drawn(
            START_MS + i * 100,
            {"amount": i, "tip": None, "items": 1, "recurring": None},
            {"card_id": f"c{i % 7}", "merchant_id": f"m{i % 11}", "device_id": None, "channel": "pos"},
            f"t{i}",
        )
        for i in range(first, first + rows)
    ]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    engine = FeatureEngine(catalog_of(), bounds())
    engine.observe(batch_of(stream(600)))
    path = tmp_path / "state"
    snapshot.save(engine, path, {"positions": {"0": 600}})
    return path


def test_a_snapshot_holds_what_the_caller_added(saved: Path) -> None:
    assert snapshot.about(saved) == {"positions": {"0": 600}}


@pytest.mark.parametrize("seed", range(60))
def test_a_snapshot_with_one_wrong_byte_is_refused(saved: Path, seed: int) -> None:
    octets = bytearray(saved.read_bytes())
    random = np.random.default_rng(seed)
    at = int(random.integers(len(octets)))
    octets[at] ^= int(random.integers(1, 256))
    saved.write_bytes(octets)
    with pytest.raises(CheckpointError, match=str(saved)):
        snapshot.load(saved, catalog_of(), bounds())


@pytest.mark.parametrize("kept", [0, 4, 8, 100, -1, -24, -25])
def test_a_snapshot_that_ends_early_is_refused(saved: Path, kept: int) -> None:
    saved.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="older snapshot, or rebuild"):
        snapshot.load(saved, catalog_of(), bounds())


def test_a_snapshot_of_another_catalogue_is_refused_with_what_differs(saved: Path) -> None:
    with pytest.raises(CheckpointError, match=r"card\.reach_ms is 3600000 there and 7200000 here"):
        snapshot.load(saved, catalog_of("2h"), bounds())
    with pytest.raises(CheckpointError, match="the stage device is not in it"):
        snapshot.load(saved, catalog_of(entity="device"), bounds())
    with pytest.raises(CheckpointError, match="rows_max is 4096 there and 8 here"):
        snapshot.load(saved, catalog_of(), bounds(rows_max=8))


def test_a_snapshot_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        snapshot.load(tmp_path / "none", catalog_of(), bounds())


def test_a_shard_with_a_wrong_byte_is_refused() -> None:
    engine = FeatureEngine(catalog_of(), bounds())
    engine.observe(batch_of(stream(600)))
    data = bytearray(engine.save_shard(3))
    data[-1] ^= 1
    with pytest.raises(CheckpointError, match="damaged"):
        engine.load_shard(bytes(data))


def test_a_snapshot_taken_while_the_stream_goes_on_is_of_the_moment_it_was_begun(tmp_path: Path) -> None:
    engine, path = FeatureEngine(catalog_of(), bounds()), tmp_path / "state"
    engine.observe(batch_of(stream(600)))
    before = engine.dump()
    taker = snapshot.Snapshotter()
    taker.start(engine, path)
    assert taker.busy
    engine.observe(batch_of(stream(600, 600)))
    assert taker.done(wait=True)
    assert not taker.busy
    loaded = snapshot.load(path, catalog_of(), bounds())
    assert loaded.dump() == before != engine.dump()
    loaded.observe(batch_of(stream(600, 600)))
    assert loaded.dump() == engine.dump()


def test_a_snapshot_that_cannot_be_written_is_said_so_and_the_one_before_stays(saved: Path) -> None:
    engine = FeatureEngine(catalog_of(), bounds())
    before = saved.read_bytes()
    (saved.parent / ".state.part").mkdir()
    taker = snapshot.Snapshotter()
    taker.start(engine, saved)
    with pytest.raises(CheckpointError, match="could not be written"):
        taker.done(wait=True)
    assert saved.read_bytes() == before
    assert taker.done()
