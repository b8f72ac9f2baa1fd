"""The sentinel on files of decisions: what it leaves alone, what it rolls back, and where it asks for a person."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fraudstream.errors import ModelError
from fraudstream.registry import Registry, promotions
from fraudstream.sections import Settings
from fraudstream.simulate import DAY_MS
from fraudstream.training.sentinel import watch
from tests.worlds import START_MS, TinyWorld, ignore, write_rows

NOW_MS = START_MS + 20 * DAY_MS  # the world's labels are mature after 7 days


@pytest.fixture
def settings(tiny_world: TinyWorld, tmp_path: Path) -> Settings:
    """Champion 0002, previous 0001; both are folders that the sentinel can verify."""
    shutil.copytree(tiny_world.folder / "models", tmp_path / "models")
    return tiny_world.settings_with(
        model__registry=str(tmp_path / "models"), sentinel__rows_min=100, sentinel__alert_rate_max=0.1,
        sentinel__fpr_max=0.05,
    )  # fmt: skip


def champions(settings: Settings, champion: str, previous: str | None) -> Registry:
    registry = Registry.of(settings.model)
    shutil.copytree(registry.folder / "0001", registry.folder / "0002", dirs_exist_ok=True)
    aliases = {"champion": champion} | ({"previous": previous} if previous else {})
    (registry.folder / "aliases.json").write_text(json.dumps(aliases), "utf-8")
    return registry


def looked(
    settings: Settings, folder: Path, alerts: int, version: str = "0002", days: float = 18, frauds: int = 0
) -> dict[str, Any]:
    """Let it look at 500 decisions of one day; the first so many alert, `frauds` are fraud, soon reported."""
    known_at_ms = min(NOW_MS - 1, START_MS + round((days + 1) * DAY_MS))
    rows = [
        {
            "transaction_id": f"t{i}",
            "event_time_ms": START_MS + round(days * DAY_MS) + i,
            "outcome": "decline" if i < alerts else "approve",
            "model": f"card_payment/{version}",
        }
        for i in range(500)
    ]
    known = [
        {"transaction_id": f"t{i}", "label": "fraud" if i < frauds else "legit", "known_at": known_at_ms}
        for i in range(500)
    ]
    files = write_rows(rows, folder / "decisions.ndjson"), write_rows(known, folder / "labels.ndjson")
    return watch(settings, *files, NOW_MS, ignore)


def test_within_its_limits_nothing_is_done(settings: Settings, tmp_path: Path) -> None:
    registry = champions(settings, "0002", "0001")
    found = looked(settings, tmp_path, alerts=55)  # 11 %, but 10 % is in the interval
    assert (found["reasons"], found["rolled_back"]) == ([], False)
    assert found["counts"] == {"transactions": 500, "alerts": 55, "legitimate": 0, "false_positives": 0}
    assert registry.aliases()["champion"] == "0002"


def test_too_many_alerts_roll_back_with_the_reason_in_the_log(settings: Settings, tmp_path: Path) -> None:
    registry = champions(settings, "0002", "0001")
    found = looked(settings, tmp_path, alerts=100)
    assert found["aliases"] == {"champion": "0001", "previous": "0002"}
    last = promotions.history(registry)[-1]
    assert (last.act, last.before, last.after) == ("rolled back", "0002", "0001")
    assert last.reason.startswith("sentinel: alert rate 20.000% (")
    assert last.reason.endswith("sentinel.alert_rate_max is 10.000%")
    assert last.figures["alerts"] == 100


def test_only_matured_false_positives_count(settings: Settings, tmp_path: Path) -> None:
    champions(settings, "0002", "0001")
    assert looked(settings, tmp_path, alerts=49, days=18)["reasons"] == []
    assert looked(settings, tmp_path, alerts=49, days=10, frauds=40)["reasons"] == []
    found = looked(settings, tmp_path, alerts=49, days=10)
    assert found["counts"]["false_positives"] == 49
    assert [reason.partition(" (")[0] for reason in found["reasons"]] == [
        "matured false-positive rate 9.800%"
    ]
    assert found["rolled_back"]


def test_what_another_model_decided_long_ago_or_seldom_says_nothing(
    settings: Settings, tmp_path: Path
) -> None:
    champions(settings, "0002", "0001")
    assert looked(settings, tmp_path, alerts=500, version="0001")["counts"]["transactions"] == 0
    assert looked(settings, tmp_path, alerts=500, days=1)["reasons"] == []
    few = looked(settings, tmp_path, alerts=500)
    assert few["rolled_back"]


def test_it_never_goes_back_to_what_it_rolled_back(settings: Settings, tmp_path: Path) -> None:
    registry = champions(settings, "0002", "0001")
    assert looked(settings, tmp_path, alerts=100)["rolled_back"]
    with pytest.raises(
        ModelError, match=r"^sentinel: alert rate .*; 0002 was rolled back before: promote another"
    ):
        looked(settings, tmp_path, alerts=100, version="0001")
    assert registry.aliases()["champion"] == "0001"


def test_without_a_previous_one_it_says_so(settings: Settings, tmp_path: Path) -> None:
    champions(settings, "0002", None)
    with pytest.raises(ModelError, match="there is no previous champion"):
        looked(settings, tmp_path, alerts=100)
