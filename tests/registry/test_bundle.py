"""A bundle comes back as it was written, and a damaged one is refused by name while this process lives."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fraudstream.errors import ModelError
from fraudstream.features import build_catalog
from fraudstream.registry import Trust, read_bundle, verify_bundle, write_bundle
from fraudstream.scoring import Model, ModelParts
from fraudstream.scoring.model import Knots
from tests.worlds import TinyWorld

FILES = (
    "booster.txt",
    "bundle.json",
    "bundle.json.sha256",
    "calibrator.json",
    "golden.parquet",
    "report/reference.json",
    "report/report.md",
)
ABOUT = {
    "created_at": "2026-01-01T00:00:00.000Z",
    "training": {"trees": 12},
    "metrics": {"auc": 0.5, "x": None},
}


@pytest.fixture
def bundle(tiny_world: TinyWorld, tmp_path: Path) -> Path:
    """A copy of the world's bundle, to damage."""
    return Path(shutil.copytree(tiny_world.bundle, tmp_path / "0001"))


def test_a_bundle_comes_back_as_it_was_written(tiny_world: TinyWorld, tmp_path: Path) -> None:
    parts, golden = tiny_world.read().parts, tiny_world.read().golden()
    write_bundle(tmp_path / "card_payment" / "0001", parts, ABOUT, golden, {"report.md": "# Ümlaut\n"})

    bundle = read_bundle(tmp_path / "card_payment" / "0001", Trust())
    described = bundle.described
    assert bundle.parts == dataclasses.replace(parts, reference={})
    assert (described.name, described.version, described.created_at) == (
        "card_payment",
        "0001",
        ABOUT["created_at"],
    )
    assert (described.training, described.metrics) == (ABOUT["training"], ABOUT["metrics"])
    again = bundle.golden()
    for name in ("X", "raw", "probability", "points"):
        assert getattr(again, name).tobytes() == getattr(golden, name).tobytes()
    assert verify_bundle(tmp_path / "card_payment" / "0001", Trust()).problems == []


def test_a_bundle_holds_what_its_page_says_and_no_pickle(tiny_world: TinyWorld) -> None:
    found = sorted(
        p.relative_to(tiny_world.bundle).as_posix() for p in tiny_world.bundle.rglob("*") if p.is_file()
    )
    assert found == sorted(FILES)
    described = json.loads((tiny_world.bundle / "bundle.json").read_text("utf-8"))
    assert sorted(described["files"]) == sorted(set(FILES) - {"bundle.json", "bundle.json.sha256"})
    for name, digest in described["files"].items():
        assert hashlib.sha256((tiny_world.bundle / name).read_bytes()).hexdigest() == digest


def test_a_good_bundle_is_verified_with_all_its_golden_rows(tiny_world: TinyWorld) -> None:
    report = verify_bundle(tiny_world.bundle, Trust())
    assert report.problems == []
    assert (report.version, report.golden_rows) == ("card_payment/0001", 256)
    assert {file.path: file.passed for file in report.files} == {
        "booster.txt": ["size", "sha256", "form", "loaded", "golden rows"],
        "bundle.json": ["size", "sha256", "form", "golden rows"],
        "bundle.json.sha256": ["size"],
        "calibrator.json": ["size", "sha256", "form", "golden rows"],
        "golden.parquet": ["size", "sha256", "golden rows"],
        "report/reference.json": ["size", "sha256", "form"],
        "report/report.md": ["size", "sha256"],
    }


@pytest.mark.parametrize("name", FILES)
def test_no_changed_byte_goes_unnoticed(bundle: Path, name: str) -> None:
    path, chance = bundle / name, random.Random(name)
    whole = path.read_bytes()
    places = (
        range(len(whole)) if len(whole) <= 100 else [0, len(whole) - 1, *chance.sample(range(len(whole)), 60)]
    )
    for at in places:
        changed = bytearray(whole)
        changed[at] ^= chance.randint(1, 255)
        path.write_bytes(changed)
        assert_refused(bundle, name)
    path.write_bytes(whole)
    assert read_bundle(bundle, Trust()).parts.version == "card_payment/0001"


@pytest.mark.parametrize("name", FILES)
def test_no_cut_or_lengthened_file_goes_unnoticed(bundle: Path, name: str) -> None:
    path, chance = bundle / name, random.Random(name)
    whole = path.read_bytes()
    for length in [0, 1, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(10))]:
        path.write_bytes(whole[:length])
        assert_refused(bundle, name)
    for more in (b"\n", b"\0", b"x" * 10_000, whole):
        path.write_bytes(whole + more)
        assert_refused(bundle, name)


@pytest.mark.parametrize("name", FILES)
def test_no_missing_file_goes_unnoticed(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    assert_refused(bundle, name)
    (bundle / name).mkdir()
    assert_refused(bundle, name)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("model.pkl", "model.pkl"),
        ("report/more.md", "report/more.md"),
        (".hidden", ".hidden"),
        ("deep/er/file", "deep"),
        ("report/deep/file", "report/deep"),
        ("booster.txt.bak", "booster.txt.bak"),
    ],
)
def test_no_extra_file_goes_unnoticed(bundle: Path, name: str, named: str) -> None:
    (bundle / name).parent.mkdir(parents=True, exist_ok=True)
    (bundle / name).write_bytes(b"")
    assert_refused(bundle, named)


def test_no_extra_folder_goes_unnoticed(bundle: Path) -> None:
    (bundle / "empty").mkdir()
    assert_refused(bundle, "empty")


@pytest.mark.parametrize("name", [*FILES, "report"])
def test_a_file_that_is_something_else_is_refused_without_waiting_for_it(bundle: Path, name: str) -> None:
    kept = bundle.parent / "kept"
    (bundle / name).rename(kept)
    for make in (partial(os.symlink, kept), os.mkfifo):
        make(bundle / name)
        with pytest.raises(ModelError, match=rf"{re.escape(str(bundle / name))}: is (a symbolic link|not a)"):
            read_bundle(bundle, Trust())
        (bundle / name).unlink()


@pytest.mark.parametrize("name", FILES)
def test_a_huge_file_is_refused_without_being_read(bundle: Path, name: str) -> None:
    with (bundle / name).open("r+b") as file:
        file.truncate(1 << 40)  # sparse
    assert_refused(bundle, name)


def test_a_folder_of_many_files_is_refused(bundle: Path) -> None:
    for i in range(100):
        (bundle / f"f{i}").touch()
    with pytest.raises(ModelError, match=rf"{bundle}: has more than \d+ files"):
        read_bundle(bundle, Trust())


def test_a_bundle_in_another_versions_or_models_folder_is_refused(bundle: Path) -> None:
    with pytest.raises(ModelError, match=r"is card_payment/0001; a version keeps the folder it was made in"):
        read_bundle(bundle, Trust(), "transfer")
    bundle.rename(bundle.parent / "0002")
    with pytest.raises(ModelError, match=r"is card_payment/0001; a version keeps the folder it was made in"):
        read_bundle(bundle.parent / "0002", Trust())


def assert_refused(bundle: Path, name: str) -> None:
    """Fail unless the bundle is refused in one line that names the file."""
    with pytest.raises(ModelError) as refused:
        read_bundle(bundle, Trust())
    # The description and its hash vouch for each other: either may be the one that is named.
    named = ("bundle.json", "bundle.json.sha256") if name.startswith("bundle.json") else (name,)
    assert any(str(bundle / one) in str(refused.value) for one in named), refused.value
    assert "\n" not in str(refused.value)


def test_a_bundle_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    report = verify_bundle(tmp_path / "0007", Trust())
    assert len(report.problems) == 1
    assert str(tmp_path / "0007") in report.problems[0]


def reseal(bundle: Path, change: Callable[[dict[str, Any]], None] = lambda described: None) -> None:
    """Write all hashes anew, as someone would who damages a bundle on purpose."""
    described = json.loads((bundle / "bundle.json").read_text("utf-8"))
    described["files"] = {
        name: hashlib.sha256((bundle / name).read_bytes()).hexdigest() for name in described["files"]
    }
    change(described)
    (bundle / "bundle.json").write_text(json.dumps(described), "utf-8")
    digest = hashlib.sha256((bundle / "bundle.json").read_bytes()).hexdigest()
    (bundle / "bundle.json.sha256").write_text(f"{digest}  bundle.json\n", "utf-8")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(format=1), "has format 1; this version reads 2"),
        (lambda d: d["files"].pop("booster.txt"), "does not list booster.txt"),
        (lambda d: d["files"].update({"../0001/booster.txt": "0"}), "no file of a bundle"),
        (lambda d: d["files"].update({"/etc/hostname": "0"}), "no file of a bundle"),
        (lambda d: d["points"]["x"].reverse(), "not an ascending function"),
        (lambda d: d["points"].update(x=[]), "not an ascending function"),
        (lambda d: d["points"]["y"].reverse(), "not an ascending function"),
        (lambda d: d.update(surprise=1), "surprise"),
        (lambda d: d.pop("features"), "features"),
    ],
)
def test_a_description_that_does_not_hold_together_is_refused(
    bundle: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    reseal(bundle, change)
    with pytest.raises(ModelError) as refused:
        read_bundle(bundle, Trust())
    assert "bundle.json" in str(refused.value)
    assert said in str(refused.value)


def test_a_calibration_that_falls_is_refused(bundle: Path) -> None:
    (bundle / "calibrator.json").write_text('{"x": [0.0, 1.0], "y": [0.5, 0.4]}', "utf-8")
    reseal(bundle)
    with pytest.raises(
        ModelError, match=r"calibrator\.json: its knots are not an ascending function from 0 to 1"
    ):
        read_bundle(bundle, Trust())


def test_a_bundle_that_cannot_be_written_whole_leaves_nothing(tiny_world: TinyWorld, tmp_path: Path) -> None:
    parts, golden = tiny_world.read().parts, tiny_world.read().golden()
    with pytest.raises(FileNotFoundError):
        write_bundle(tmp_path / "0001", parts, ABOUT, golden, {"no/such/folder.md": ""})
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_does_not_take_the_place_of_another(tiny_world: TinyWorld, bundle: Path) -> None:
    parts, golden = tiny_world.read().parts, tiny_world.read().golden()
    with pytest.raises(OSError):
        write_bundle(bundle, parts, ABOUT, golden, {})
    assert [p.name for p in bundle.parent.iterdir()] == ["0001"]
    assert verify_bundle(bundle, Trust()).problems == []


def test_a_model_from_a_bundle_scores_its_golden_rows_to_the_bit(tiny_world: TinyWorld) -> None:
    parts, golden = tiny_world.read().parts, tiny_world.read().golden()
    catalog = build_catalog(tiny_world.settings.features, tiny_world.settings.event)
    assert np.array_equal(Model(parts, catalog).raw_scores(golden.X), golden.raw)
    assert isinstance(parts, ModelParts)
    assert isinstance(parts.points, Knots)
