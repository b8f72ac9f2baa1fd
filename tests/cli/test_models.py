"""`fraudstream models`: the registry from the command line."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fraudstream.registry import write_bundle
from tests.cli.running import Ended, fraudstream
from tests.worlds import TinyWorld

Models = Callable[..., Ended]


@pytest.fixture
def registry(tiny_world: TinyWorld, tmp_path: Path) -> Path:
    """The world's registry with a second version, the same model under another number."""
    shutil.copytree(tiny_world.folder / "models", tmp_path / "models")
    bundle = tiny_world.read()
    write_bundle(
        tmp_path / "models" / "card_payment" / "0002",
        dataclasses.replace(bundle.parts, version="card_payment/0002"),
        {name: getattr(bundle.described, name) for name in ("created_at", "training", "metrics")},
        bundle.golden(),
        {"report.md": "# Model card_payment/0002\n"},
    )
    return tmp_path / "models"


@pytest.fixture
def models(tiny_world: TinyWorld, registry: Path) -> Models:
    """`fraudstream models` on it."""

    def run(*words: str | Path) -> Ended:
        return fraudstream(
            "models", *words, "-c", tiny_world.config, FRAUDSTREAM_MODEL__REGISTRY=str(registry)
        )

    return run


def test_models_are_listed_shown_and_verified(models: Models, registry: Path) -> None:
    listed = models("list", "--json").last_object()
    assert [(row["version"], row["aliases"]) for row in listed["models"]] == [
        ("0001", ["champion"]),
        ("0002", []),
    ]
    assert "champion" in models("list").out
    assert models("show", "0002", "--json").last_object()["version"] == "0002"
    assert "# Model card_payment/0001" in models("show").out
    verified = models("verify", registry / "card_payment" / "0002", "--json")
    assert (verified.code, verified.last_object()["ok"]) == (0, True)


def test_a_model_is_challenged_refused_promoted_and_rolled_back_and_history_tells(
    models: Models, registry: Path, tiny_world: TinyWorld
) -> None:
    challenged = models("challenge", "0002", "--json")
    assert challenged.last_object()["aliases"] == {"champion": "0001", "challenger": "0002"}
    unseen = models("promote", "0002")
    assert (unseen.code, unseen.one_line()) == (
        3,
        "fraudstream: card_payment/0002 is not promoted: nothing shows that it is better than 0001; give "
        "--transactions and --labels of what came after its training, or --force REASON",
    )
    files = (
        "--transactions",
        tiny_world.transactions,
        "--labels",
        tiny_world.labels,
        "--as-of",
        "2024-02-17",
    )
    refused = models("promote", "challenger", *files, "--json")
    assert (refused.code, refused.last_object()["promoted"]) == (3, False)
    assert refused.err.startswith("fraudstream: card_payment/0002 is not promoted: ")
    promoted = models("promote", "0002", "--force", "it is the same", "--json")
    assert promoted.last_object()["aliases"] == {"champion": "0002", "previous": "0001"}
    assert json.loads((registry / "card_payment" / "aliases.json").read_text("utf-8")) == {
        "champion": "0002",
        "previous": "0001",
    }
    back = models("rollback")
    assert (back.code, back.out) == (
        0,
        "card_payment: champion 0001, previous 0002; running workers follow\n",
    )
    told = [
        (e["act"], e["before"], e["after"]) for e in models("history", "--json").last_object()["promotions"]
    ]
    assert told == [
        ("first", "", "0001"),
        ("refused", "0001", "0001"),
        ("forced", "0001", "0002"),
        ("rolled back", "0002", "0001"),
    ]
    assert "it is the same" in models("history").out
    assert models("challenge", "--none", "--json").last_object()["aliases"] == {
        "champion": "0001",
        "previous": "0002",
    }


def test_a_model_that_is_not_there_or_is_the_champion_does_not_challenge(models: Models) -> None:
    for command in ("promote", "challenge"):
        missing = models(command, "0009")
        assert missing.code == 1
        assert "card_payment/0009" in missing.one_line()
    itself = models("challenge", "champion")
    assert (itself.code, itself.one_line()) == (
        1,
        "fraudstream: card_payment/0001 is the champion; give another version to challenge it",
    )
    neither = models("challenge")
    assert (neither.code, neither.one_line()) == (
        2,
        "fraudstream: models challenge: give either a version or --none",
    )


def test_a_rollback_without_a_previous_champion_changes_nothing(tiny_world: TinyWorld) -> None:
    ended = fraudstream("models", "rollback", "-c", tiny_world.config)
    assert ended.code == 1
    assert "there is no model card_payment/previous" in ended.one_line()


def test_no_models_are_an_empty_list(tiny_world: TinyWorld, tmp_path: Path) -> None:
    ended = fraudstream(
        "models", "list", "-c", tiny_world.config, "--json", FRAUDSTREAM_MODEL__REGISTRY=str(tmp_path)
    )
    assert (ended.code, ended.last_object()["models"]) == (0, [])
