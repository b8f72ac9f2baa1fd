"""A challenger scores what the champion decides on, and changes nothing else."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fraudstream.bus.memory import MemorySource
from fraudstream.features import build_catalog
from fraudstream.metrics import SHIFTS
from fraudstream.records import Challenger
from fraudstream.registry import CHALLENGER, Registry
from fraudstream.scoring import Model
from fraudstream.sections import FeatureGroup
from fraudstream.stream.models import ModelWatch
from tests.stream.running import Running, as_messages, start
from tests.stream.versions import add_smaller, copied, describe, until, watched
from tests.test_schemas import validator
from tests.worlds import TinyWorld

ROWS = 400


@pytest.fixture
def registry(tiny_world: TinyWorld, tmp_path: Path) -> Registry:
    """0001 is champion; 0002 and 0003 score otherwise; there is no challenger."""
    registry = copied(tiny_world, tmp_path)
    assert [add_smaller(registry, trees) for trees in (5, 2)] == ["0002", "0003"]
    return registry


def challenged(world: TinyWorld, registry: Registry, version: str = "0002", **overrides: Any) -> Running:
    """Start a worker whose challenger is loaded."""
    registry.challenge(version)
    run = watched(world, registry, ROWS, **overrides)
    until(run, "loaded", CHALLENGER)
    return run


def bytes_without_challenger(run: Running) -> list[dict[str, Any]]:
    decisions = [json.loads(m.value() or b"") for m in run.sent("decisions")]
    return [{name: value for name, value in d.items() if name != "challenger"} for d in decisions]


@pytest.mark.parametrize("batch_rows_max", [1, 7, 65_536])
def test_each_decision_says_what_the_challenger_would_have_decided(
    tiny_world: TinyWorld, registry: Registry, batch_rows_max: int
) -> None:
    run = challenged(tiny_world, registry, worker__batch_rows_max=batch_rows_max).to_the_end()
    messages = as_messages(tiny_world.rows[:ROWS])
    alone = start(tiny_world, messages).to_the_end()
    other = start(
        tiny_world, messages, model__registry=str(registry.root), model__version="0002"
    ).to_the_end()
    assert bytes_without_challenger(run) == bytes_without_challenger(alone)
    assert [m.value() for m in run.sent("alerts")] == [m.value() for m in alone.sent("alerts")]
    assert [d.challenger for d in run.decisions()] == [
        Challenger(d.outcome, d.score, d.risk_points, "card_payment/0002") for d in other.decisions()
    ]
    assert [d.score for d in other.decisions()] != [d.score for d in alone.decisions()]
    checker = validator("decision")
    assert all(checker.is_valid(json.loads(m.value() or b"")) for m in run.sent("decisions"))


def test_without_a_challenger_no_decision_has_the_field(tiny_world: TinyWorld, registry: Registry) -> None:
    run = watched(tiny_world, registry, 50).to_the_end()
    assert all(b"challenger" not in (m.value() or b"") for m in run.sent("decisions"))
    assert run.reloads("refused", CHALLENGER) == 0


def test_a_challenger_comes_changes_and_goes_between_two_batches(
    tiny_world: TinyWorld, registry: Registry
) -> None:
    run = watched(tiny_world, registry, ROWS)
    run.worker.step()
    loaded, removed = "loaded", "removed"
    for version, result, number in (
        ("0002", loaded, 1),
        ("0003", loaded, 2),
        (None, removed, 1),
        ("0003", loaded, 3),
    ):
        registry.challenge(version)
        until(run, result, CHALLENGER, number)
        run.worker.step()
    said = [d.challenger for d in run.decisions()]
    versions = [one.model[-4:] if isinstance(one, Challenger) else None for one in said]
    assert versions == [None] * 20 + ["0002"] * 20 + ["0003"] * 20 + [None] * 20 + ["0003"] * 20
    assert {d.model for d in run.decisions()} == {"card_payment/0001"}


def test_a_challenger_that_is_promoted_decides_and_challenges_no_more(
    tiny_world: TinyWorld, registry: Registry
) -> None:
    run = challenged(tiny_world, registry)
    run.worker.step()
    assert registry.promote("0002") == {"champion": "0002", "previous": "0001"}
    until(run, "loaded")
    until(run, "removed", CHALLENGER)
    run.to_the_end()
    decisions = run.decisions()
    assert {d.model for d in decisions[20:]} == {"card_payment/0002"}
    assert {type(d.challenger) for d in decisions[20:]} == {msgspec.UnsetType}
    assert isinstance(decisions[0].challenger, Challenger)
    assert decisions[0].challenger.model == "card_payment/0002"


def test_a_model_does_not_challenge_itself(tiny_world: TinyWorld, registry: Registry) -> None:
    run = challenged(tiny_world, registry, "0002", model__challenger="0002")
    registry.promote("0002")
    until(run, "loaded")
    run.worker.step()
    registry.promote("0001")
    until(run, "loaded", number=2)
    run.worker.step()
    said = [isinstance(d.challenger, Challenger) for d in run.decisions()]
    assert said == [False] * 20 + [True] * 20


@pytest.mark.parametrize("name", ["", "tuesday"])
def test_no_challenger_is_loaded_where_the_settings_name_none(
    tiny_world: TinyWorld, registry: Registry, name: str
) -> None:
    registry.challenge("0002")
    chosen = {"model__registry": str(registry.root), "model__challenger": name}
    settings = tiny_world.settings_with(**chosen)
    watch = ModelWatch(settings, build_catalog(settings.features, settings.event), CHALLENGER)
    assert watch.newer() is None
    assert watch._thread is None


def damage(folder: Path) -> None:
    text = (folder / "booster.txt").read_text()
    (folder / "booster.txt").write_text(text.replace("leaf_value=", "leaf_value=9", 1))


def ask_for_unknown_feature(folder: Path) -> None:
    features = json.loads((folder / "bundle.json").read_text())["features"]
    describe(folder, features=[features[0] | {"name": "card_moon_phase_30d"}, *features[1:]])


@pytest.mark.parametrize("spoil", [damage, ask_for_unknown_feature, shutil.rmtree])
def test_a_bad_challenger_is_refused_and_the_champion_goes_on(
    tiny_world: TinyWorld, registry: Registry, spoil: Callable[[Path], None]
) -> None:
    run = watched(tiny_world, registry, ROWS)
    registry.challenge("0002")
    spoil(registry.folder / "0002")
    until(run, "refused", CHALLENGER)
    run.to_the_end()
    assert len(run.decisions()) == ROWS
    assert {d.challenger for d in run.decisions()} == {msgspec.UNSET}
    assert run.reloads("refused", CHALLENGER) == 1
    assert run.reloads("refused") == 0


def test_a_challenger_that_fails_when_it_scores_is_dropped(tiny_world: TinyWorld, registry: Registry) -> None:
    run = challenged(tiny_world, registry)
    run.worker.step()
    settings = tiny_world.settings
    more = FeatureGroup(entity="card", windows=["3h"], aggregates=["count"])
    other = build_catalog([more, *settings.features], settings.event)  # so its columns are not where it looks
    run.worker._server.shadow.use(Model(registry.read("0003")[1], other))
    run.to_the_end()
    assert [d.transaction_id for d in run.decisions()] == [
        r["transaction_id"] for r in tiny_world.rows[:ROWS]
    ]
    assert {type(d.challenger) for d in run.decisions()[20:]} == {msgspec.UnsetType}
    assert run.reloads("dropped", CHALLENGER) == 1


def test_agreement_and_shift_are_counted(tiny_world: TinyWorld, registry: Registry) -> None:
    run = challenged(tiny_world, registry, "0003").to_the_end()
    pairs: Counter[tuple[str, str]] = Counter()
    shifts: Counter[str] = Counter()
    points = [0, 0]
    for decision in run.decisions():
        assert isinstance(decision.challenger, Challenger)
        pairs[decision.outcome, decision.challenger.outcome] += 1
        shift = decision.challenger.risk_points - decision.risk_points
        low = max(bound for bound in SHIFTS if bound <= shift)
        high = min((bound - 1 for bound in SHIFTS if bound > shift), default=1000)
        shifts[str(low) if low == high else f"{low}..{high}"] += 1
        points[0] += decision.risk_points
        points[1] += decision.challenger.risk_points
    assert len(shifts) > 3
    assert len(pairs) > 1

    def counted(metric: Any, *labels: str) -> float:
        return float(metric.labels(*labels)._value.get())

    metrics = run.metrics
    assert {pair: counted(metrics.agreement, *pair) for pair in pairs} == pairs
    assert {name: counted(metrics.challenger_shift, name) for name in shifts} == shifts
    assert [counted(metrics.shadow_points, role) for role in ("champion", "challenger")] == points
    assert counted(metrics.challenger_info, "card_payment/0003") == 1


def test_a_repeat_says_the_first_decision_and_leaves_the_challenger_out(
    tiny_world: TinyWorld, registry: Registry
) -> None:
    registry.challenge("0002")
    rows = tiny_world.rows[:40]
    sent = [*rows, rows[-1], *tiny_world.rows[40:60], rows[-1]]
    source = MemorySource(as_messages(sent), emit_from={0: 40})  # no cases: the first decision is not known
    run = start(
        tiny_world, source, watch=True, model__registry=str(registry.root), model__reload="1ms",
        worker__batch_rows_max=1, alerts__case_period="0s",
    )  # fmt: skip
    until(run, "loaded", CHALLENGER)
    run.to_the_end()
    decisions = run.decisions()
    repeated = [d for d in decisions if "repeated" in d.flags]
    assert [bool(d.features_hash) for d in repeated] == [True, False]
    assert all(isinstance(d.challenger, Challenger) == bool(d.features_hash) for d in decisions)
    compared = run.metrics.registry.get_sample_value(
        "fraudstream_shadow_points_total", {"role": "challenger"}
    )
    said = [d.challenger.risk_points for d in decisions if isinstance(d.challenger, Challenger)]
    assert compared == sum(said)
