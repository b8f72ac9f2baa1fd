"""`fraudstream retrain`: a challenger by itself; whatever fails, the champion stays and it is said in one line."""

from __future__ import annotations

import json
import shutil
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from fraudstream.clock import iso
from tests.cli.running import Ended, fraudstream, started
from tests.kafka.deployment import eventually, free_port
from tests.worlds import LIVE_MS, TinyWorld


@pytest.fixture
def registry(tiny_world: TinyWorld, tmp_path: Path) -> Path:
    """A copy of the registry: 0001 is the champion."""
    return Path(shutil.copytree(tiny_world.folder / "models", tmp_path / "models"))


def retrain(tiny_world: TinyWorld, registry: Path, *words: str | Path) -> Ended:
    words = ("--archive", tiny_world.folder / "history", "--registry", registry, *words)
    return fraudstream("retrain", "-c", tiny_world.config, *words)


def aliases(registry: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((registry / "card_payment" / "aliases.json").read_text("utf-8"))
    return found


def test_the_new_model_is_the_challenger_and_the_gate_judges_the_one_before(
    tiny_world: TinyWorld, registry: Path, tmp_path: Path
) -> None:
    textfile = tmp_path / "retrain.prom"
    first = retrain(tiny_world, registry, "--as-of", iso(LIVE_MS), "--json", "--textfile", textfile)
    assert first.code == 0, first.err
    assert (first.last_object()["champion"], first.last_object()["gate"]) == (False, None)
    assert aliases(registry) == {"champion": "0001", "challenger": "0002"}
    assert "fraudstream_retrain_failed 0.0" in textfile.read_text("utf-8")
    again = retrain(tiny_world, registry, "--as-of", iso(LIVE_MS), "--json", "--promote")
    assert again.code == 0, again.err
    gate = again.last_object()["gate"]
    assert (gate["version"], gate["promoted"]) == ("0002", False)  # the same model: nothing is better
    assert gate["reasons"]
    assert aliases(registry) == {"champion": "0001", "challenger": "0003"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--as-of", "2024-01-12"), "has 0 mature transactions"),
        (("--as-of", iso(LIVE_MS), "--memory-mb", "50"), "memory"),
        (("--as-of", iso(LIVE_MS), "--labels", "no_ledger"), "no_ledger: does not exist"),
    ],
)
def test_a_round_that_fails_leaves_the_champion_alone(
    tiny_world: TinyWorld, registry: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    textfile = tmp_path / "retrain.prom"
    ended = retrain(tiny_world, registry, *words, "--textfile", textfile)
    assert ended.code == 1
    assert said in ended.err.splitlines()[-1]
    assert ended.err.splitlines()[-1].startswith("fraudstream: ")
    assert "Traceback" not in ended.err
    assert aliases(registry) == {"champion": "0001"}
    assert "fraudstream_retrain_failed 1.0" in textfile.read_text("utf-8")


def test_as_a_service_a_failed_round_is_counted_and_it_goes_on(tiny_world: TinyWorld, registry: Path) -> None:
    port = free_port()
    running = started(
        "retrain", "-c", tiny_world.config, "--archive", tiny_world.folder / "history", "--registry", registry,
        "--every", "1d", "--web-port", str(port),
    )  # fmt: skip

    def failed() -> bool:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
            return 'fraudstream_retrains_total{result="failed"} 1.0' in page.read().decode()
        return False

    try:
        eventually(failed, 90, "the failure is counted")  # all of the archive is far too old
        assert running.poll() is None
        running.terminate()
        _, err = running.communicate(timeout=20)
    finally:
        running.kill()
    assert running.returncode == 0, err
    assert "retrain_failed" in err
    assert aliases(registry) == {"champion": "0001"}


def test_a_sigkill_of_the_command_takes_the_process_that_trains_with_it(
    tiny_world: TinyWorld, registry: Path
) -> None:
    running = started(
        "retrain", "-c", tiny_world.config, "--archive", tiny_world.folder / "history", "--registry", registry,
        "--as-of", iso(LIVE_MS),
    )  # fmt: skip
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
    try:
        eventually(lambda: children.read_text() != "", 60, "it has a child")
        child = Path(f"/proc/{children.read_text().split()[0]}/cmdline")
        eventually(lambda: b"retraining" in child.read_bytes(), 10, "the child is the one that trains")
    finally:
        running.kill()
        running.communicate()
    eventually(lambda: not child.exists() or child.read_bytes() == b"", 20, "the child has ended")
    assert aliases(registry) == {"champion": "0001"}
