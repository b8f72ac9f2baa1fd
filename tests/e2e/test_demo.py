"""The demo on its built-in broker, start to end."""

from __future__ import annotations

import json
from pathlib import Path

from fraudstream.settings import load_settings
from tests.cli.running import fraudstream
from tests.e2e.playing import play_demo


def test_the_demo_plays_everything_and_leaves_what_its_summary_names(tmp_path: Path) -> None:
    summary = play_demo("--keep", str(tmp_path / "kept"))

    kept = tmp_path / "kept"
    settings = load_settings(kept / "fraudstream.toml", environment={})
    assert Path(settings.model.registry) == kept / "models"
    assert (kept / "models" / "card_payment" / "0001" / "booster.txt").is_file()
    log = [json.loads(line) for line in (kept / "worker.log").read_text("utf-8").splitlines()]
    assert [entry["event"] for entry in log if entry["level"] in ("error", "critical")] == []
    assert log[-1]["event"] == "worker_stopped"
    assert summary["transactions_per_s"] > 0

    listed = fraudstream("models", "list", "-c", kept / "fraudstream.toml", "--json")
    assert listed.last_object()["models"][0]["aliases"] == ["champion"]
