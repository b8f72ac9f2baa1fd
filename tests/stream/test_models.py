"""A promoted model is taken between two batches; a bad one never."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fraudstream.registry import Registry
from tests.stream.running import header
from tests.stream.versions import copied, describe, until, watched
from tests.worlds import TinyWorld


@pytest.fixture
def registry(tiny_world: TinyWorld, tmp_path: Path) -> Registry:
    """A copy of the world's models with a second version, which is the first one by another name."""
    registry = copied(tiny_world, tmp_path)
    shutil.copytree(registry.folder / "0001", registry.folder / "0002")
    describe(registry.folder / "0002", version="0002")
    return registry


def test_a_promoted_model_decides_from_the_next_batch_on_and_nothing_is_lost(
    tiny_world: TinyWorld, registry: Registry
) -> None:
    run = watched(tiny_world, registry)
    for _ in range(3):
        run.worker.step()
    registry.promote("0002")
    until(run, "loaded")
    run.to_the_end()
    assert [d.transaction_id for d in run.decisions()] == [row["transaction_id"] for row in tiny_world.rows]
    models = [d.model for d in run.decisions()]
    assert models == ["card_payment/0001"] * 60 + ["card_payment/0002"] * (len(models) - 60)
    assert [header(m, "fraudstream-model") for m in run.sent("decisions")] == models
    assert run.metrics.model_info.labels("card_payment/0002")._value.get() == 1
    told = run.metrics.exposition().decode().splitlines()
    of_the_first = {line.partition("{")[0] for line in told if 'model="card_payment/0001"' in line}
    assert "fraudstream_model_info" not in of_the_first
    assert "fraudstream_alerts_total" in of_the_first, "what it did stays counted"


def test_back_to_the_previous_version_is_the_same_way(tiny_world: TinyWorld, registry: Registry) -> None:
    run = watched(tiny_world, registry)
    run.worker.step()
    for number, version in enumerate(("0002", "0001"), 1):
        registry.promote(version)
        until(run, "loaded", number=number)
        run.worker.step()
    assert [d.model for d in run.decisions()[::20]] == [f"card_payment/{v}" for v in ("0001", "0002", "0001")]


def damage_booster(folder: Path) -> None:
    text = (folder / "booster.txt").read_text()
    (folder / "booster.txt").write_text(text.replace("leaf_value=", "leaf_value=9", 1))


def ask_for_unknown_feature(folder: Path) -> None:
    features = json.loads((folder / "bundle.json").read_text())["features"]
    describe(folder, features=[features[0] | {"name": "card_moon_phase_30d"}, *features[1:]])


def say_another_version(folder: Path) -> None:
    describe(folder, version="0007")


@pytest.mark.parametrize(
    "damage", [damage_booster, ask_for_unknown_feature, say_another_version, shutil.rmtree]
)
def test_a_bad_version_is_refused_and_the_old_one_goes_on(
    tiny_world: TinyWorld, registry: Registry, damage: Callable[[Path], None]
) -> None:
    run = watched(tiny_world, registry)
    run.worker.step()
    registry.promote("0002")
    damage(registry.folder / "0002")
    until(run, "refused")
    run.to_the_end()
    assert {d.model for d in run.decisions()} == {"card_payment/0001"}
    assert len(run.decisions()) == len(tiny_world.rows)
    assert run.reloads("loaded") == 0
    assert run.reloads("refused") == 1  # not again and again


def test_a_version_that_was_mended_is_taken(tiny_world: TinyWorld, registry: Registry) -> None:
    run = watched(tiny_world, registry)
    registry.promote("0002")
    damage_booster(registry.folder / "0002")
    until(run, "refused")
    shutil.copy(registry.folder / "0001" / "booster.txt", registry.folder / "0002" / "booster.txt")
    until(run, "loaded")
    run.worker.step()
    assert {d.model for d in run.decisions()} == {"card_payment/0002"}


def test_with_reload_off_the_first_model_stays(tiny_world: TinyWorld, registry: Registry) -> None:
    run = watched(tiny_world, registry, model__reload="0s")
    registry.promote("0002")
    run.to_the_end()
    assert {d.model for d in run.decisions()} == {"card_payment/0001"}
