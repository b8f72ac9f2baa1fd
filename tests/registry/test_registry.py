"""The registry: versions, aliases that change all at once, and names that lead nowhere else."""

from __future__ import annotations

import os
import shutil
import threading
from functools import partial
from pathlib import Path

import pytest

from fraudstream.errors import ModelError
from fraudstream.registry import Registry, Trust
from tests.worlds import TinyWorld


@pytest.fixture
def registry(tiny_world: TinyWorld, tmp_path: Path) -> Registry:
    """Three copies of one bundle: 0001 is champion."""
    registry = Registry(tmp_path, "card_payment", Trust())
    for version in ("0001", "0002", "0003"):
        shutil.copytree(tiny_world.bundle, registry.folder / version)
    registry.promote("0001")
    return registry


def test_an_empty_registry_has_no_versions_and_says_what_to_run(tmp_path: Path) -> None:
    registry = Registry(tmp_path, "card_payment", Trust())
    assert registry.versions() == []
    assert registry.aliases() == {}
    assert registry.next_path() == tmp_path / "card_payment" / "0001"
    with pytest.raises(
        ModelError, match=r"no model card_payment/champion .*known: none.*`fraudstream train`"
    ):
        registry.path_of("champion")


def test_versions_are_listed_oldest_first_and_the_next_one_follows(registry: Registry) -> None:
    for unrelated in (".building-x1", "notes", "4", "000a"):
        (registry.folder / unrelated).mkdir()
    (registry.folder / "0009").write_text("a file", "utf-8")
    assert registry.versions() == ["0001", "0002", "0003"]
    assert registry.next_path() == registry.folder / "0004"


def test_a_promoted_version_is_champion_and_the_old_one_previous(registry: Registry) -> None:
    assert registry.aliases() == {"champion": "0001"}
    assert registry.promote("0003") == {"champion": "0003", "previous": "0001"}
    assert registry.promote("0002") == {"champion": "0002", "previous": "0003"}
    assert registry.aliases() == {"champion": "0002", "previous": "0003"}
    assert registry.path_of("champion") == registry.folder / "0002"
    assert registry.path_of("previous") == registry.folder / "0003"


def test_promoting_the_champion_again_keeps_the_previous_one(registry: Registry) -> None:
    registry.promote("0002")
    assert registry.promote("0002") == {"champion": "0002", "previous": "0001"}
    assert registry.promote("champion") == {"champion": "0002", "previous": "0001"}


def test_promoting_previous_goes_back(registry: Registry) -> None:
    registry.promote("0002")
    assert registry.promote("previous") == {"champion": "0001", "previous": "0002"}


def test_promoting_what_is_not_there_changes_nothing(registry: Registry) -> None:
    with pytest.raises(ModelError, match=r"no model card_payment/0009 .*known: champion, 0001, 0002, 0003"):
        registry.promote("0009")
    assert registry.aliases() == {"champion": "0001"}


def test_a_reader_never_sees_half_of_a_promotion(registry: Registry) -> None:
    seen: list[dict[str, str]] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(registry.aliases())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for i in range(200):
            registry.promote("0002" if i % 2 else "0003")
    finally:
        done.set()
        reader.join()
    whole = [
        {"champion": "0001"},
        {"champion": "0003", "previous": "0001"},
        {"champion": "0002", "previous": "0003"},
        {"champion": "0003", "previous": "0002"},
    ]
    assert len(seen) > 100
    assert all(aliases in whole for aliases in seen)
    assert sorted(p.name for p in registry.folder.iterdir()) == ["0001", "0002", "0003", "aliases.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"champion": 1}',
        '{"champion": ["0001"]}',
        "\xff",
        '{"a":' * 10_000,
        " " * 70_000,
    ],
)
def test_damaged_aliases_are_refused_by_name(registry: Registry, text: str) -> None:
    (registry.folder / "aliases.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match=r"aliases\.json") as refused:
        registry.path_of("champion")
    assert "\n" not in str(refused.value)


def test_aliases_that_are_no_plain_file_are_refused_without_waiting(registry: Registry) -> None:
    path = registry.folder / "aliases.json"
    path.unlink()
    for make in (partial(os.symlink, "/dev/zero"), os.mkfifo, os.mkdir):
        make(path)
        with pytest.raises(ModelError, match=r"aliases\.json: (is|cannot be read)"):
            registry.aliases()
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
    "version", ["..", "../card_payment/0001", "/etc", ".", "", "0001/report", "aliases.json"]
)
def test_a_version_is_a_name_and_not_a_path(registry: Registry, version: str) -> None:
    with pytest.raises(ModelError, match="there is no model"):
        registry.path_of(version)


def test_an_alias_that_leads_out_of_the_registry_is_refused(registry: Registry) -> None:
    (registry.folder / "aliases.json").write_text('{"champion": "../card_payment/0001"}', "utf-8")
    with pytest.raises(ModelError, match="there is no model card_payment/champion"):
        registry.read("champion")


def test_an_alias_reads_the_version_it_names(registry: Registry, tiny_world: TinyWorld) -> None:
    described, parts = registry.read("champion")
    assert described.version == "0001"
    assert parts.version == "card_payment/0001"


def test_a_challenger_is_named_and_taken_back(registry: Registry) -> None:
    assert registry.challenge("0003") == {"champion": "0001", "challenger": "0003"}
    assert registry.challenge("0002") == registry.aliases() == {"champion": "0001", "challenger": "0002"}
    assert registry.challenge(None) == registry.aliases() == {"champion": "0001"}
    assert registry.challenge(None) == {"champion": "0001"}


@pytest.mark.parametrize(("version", "said"), [("0001", "is the champion"), ("0009", "there is no model")])
def test_what_cannot_challenge_leaves_the_challenger_as_it_is(
    registry: Registry, version: str, said: str
) -> None:
    registry.challenge("0002")
    with pytest.raises(ModelError, match=said):
        registry.challenge(version)
    assert registry.aliases() == {"champion": "0001", "challenger": "0002"}


def test_a_promoted_challenger_is_none_any_more_and_another_stays(registry: Registry) -> None:
    registry.challenge("0002")
    assert registry.promote("0003") == {"champion": "0003", "previous": "0001", "challenger": "0002"}
    assert registry.promote("challenger") == {"champion": "0002", "previous": "0003"}
