"""A bundle whose hashes are right and whose model is not: refused by its form or in a child process, by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fraudstream.errors import ModelError
from fraudstream.features import build_catalog
from fraudstream.registry import Trust, verify_bundle
from fraudstream.registry.verify import Ended, load_bundle, run_child
from fraudstream.stream.models import load_model
from tests.registry.test_bundle import reseal
from tests.worlds import TinyWorld


def _booster(change: Callable[[str], str]) -> Callable[[Path], None]:
    def damage(bundle: Path) -> None:
        text = (bundle / "booster.txt").read_text("utf-8")
        assert change(text) != text
        (bundle / "booster.txt").write_text(change(text), "utf-8")
        reseal(bundle)

    return damage


def _golden(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    def damage(bundle: Path) -> None:
        pq.write_table(change(pq.read_table(bundle / "golden.parquet")), bundle / "golden.parquet")
        reseal(bundle)

    return damage


def _zeroed(table: pa.Table, name: str) -> pa.Table:
    return table.set_column(
        table.schema.get_field_index(name),
        name,
        pa.array(np.zeros(len(table)), table.schema.field(name).type),
    )


def _halved_calibration(bundle: Path) -> None:
    knots = json.loads((bundle / "calibrator.json").read_text("utf-8"))
    knots["y"] = [y / 2 for y in knots["y"]]
    (bundle / "calibrator.json").write_text(json.dumps(knots), "utf-8")
    reseal(bundle)


def _not_parquet(bundle: Path) -> None:
    (bundle / "golden.parquet").write_text("amount,raw_score\n1,0.5\n", "utf-8")
    reseal(bundle)


def _other_leaves(text: str) -> str:
    lines = text.splitlines(keepends=True)
    return "".join(
        "leaf_value=" + line.removeprefix("leaf_value=").replace("1", "2")
        if line.startswith("leaf_value=")
        else line
        for line in lines
    )


# With right hashes; several of them abort the process that loads them.
SEALED: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a text that ends early": ("booster.txt", _booster(lambda text: text[: len(text) // 2])),
    "no text": ("booster.txt", _booster(lambda text: "")),
    "a tree without its children": (
        "booster.txt",
        _booster(lambda text: text.replace("left_child=", "left_chld=", 1)),
    ),
    "a tree that says it is larger": (
        "booster.txt",
        _booster(lambda text: text.replace("num_leaves=", "num_leaves=9", 1)),
    ),
    "a number that is none": (
        "booster.txt",
        _booster(lambda text: text.replace("threshold=", "threshold=x", 1)),
    ),
    "other leaf values": ("golden.parquet", _booster(_other_leaves)),
    "another feature": (
        "booster.txt",
        _booster(lambda text: text.replace("feature_names=amount ", "feature_names=sum ", 1)),
    ),
    "other golden scores": (
        "golden.parquet",
        _golden(lambda t: _zeroed(t, "raw_score")),
    ),
    "other golden probabilities": ("golden.parquet", _golden(lambda t: _zeroed(t, "probability"))),
    "other golden points": ("golden.parquet", _golden(lambda t: _zeroed(t, "risk_points"))),
    "another calibration": ("golden.parquet", _halved_calibration),
    "more golden rows than there may be": (
        "golden.parquet",
        _golden(lambda t: pa.concat_tables([t] * 17)),
    ),
    "no golden rows": ("golden.parquet", _golden(lambda t: t.slice(0, 0))),
    "a golden column less": ("golden.parquet", _golden(lambda t: t.drop_columns(["amount"]))),
    "a golden file of another kind": ("golden.parquet", _not_parquet),
}


def test_a_damaged_model_with_right_hashes_is_refused(tiny_world: TinyWorld, tmp_path: Path) -> None:
    def refusal(kind: str) -> list[str]:
        bundle = Path(shutil.copytree(tiny_world.bundle, tmp_path / kind / "0001"))
        SEALED[kind][1](bundle)
        return verify_bundle(bundle, Trust()).problems

    with ThreadPoolExecutor(2) as pool:
        problems = dict(zip(SEALED, pool.map(refusal, SEALED), strict=True))
    for kind, found in problems.items():
        assert len(found) == 1, kind
        assert str(tmp_path / kind / "0001" / SEALED[kind][0]) in found[0], (kind, found)
        assert "\n" not in found[0]


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        (
            Ended(-11, b'{"at": "booster.txt"}\n', b"tree\n\xff\x1b[31m"),
            "booster.txt: cannot be loaded (SIGSEGV: �?[31m)",
        ),
        (
            Ended(-6, b'{"at": "golden.parquet"}\n', b""),
            "golden.parquet: cannot be loaded (SIGABRT: no message)",
        ),
        (
            Ended(-9, b'{"at": "golden.parquet"}\n{"at": "boo', b""),
            "golden.parquet: cannot be loaded (SIGKILL: no message)",
        ),
        (Ended(1, b"", b"MemoryError\n"), "booster.txt: cannot be loaded (exit 1: MemoryError)"),
        (
            Ended(0, b'{"at": "golden.parquet"}\n', b""),
            "golden.parquet: cannot be loaded (exit 0: no message)",
        ),
        (Ended(None, b'{"at": "booster.txt"}\n', b""), "booster.txt: took longer than 300 s to load"),
    ],
)
def test_a_child_process_that_dies_names_the_file_it_died_of(
    tiny_world: TinyWorld, ended: Ended, said: str
) -> None:
    report = verify_bundle(tiny_world.bundle, Trust(), child=lambda candidate: ended)
    assert report.problems == [f"{tiny_world.bundle}/{said}"]
    assert [file.path for file in report.files if file.problem] == [said.split(":")[0]]


def test_the_worker_does_not_load_what_is_refused(tiny_world: TinyWorld, tmp_path: Path) -> None:
    shutil.copytree(tiny_world.folder / "models", tmp_path / "models")
    _booster(lambda text: text[: len(text) // 2])(tmp_path / "models" / "card_payment" / "0001")
    settings = tiny_world.settings_with(model__registry=str(tmp_path / "models"))
    with pytest.raises(ModelError, match=r"booster\.txt: tree \d+ is not as long as the header says"):
        load_model(settings, build_catalog(settings.features, settings.event), "champion")


def test_what_is_scored_is_what_was_checked(tiny_world: TinyWorld, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(tiny_world.bundle, tmp_path / "0001"))

    def child(candidate: bytes) -> Ended:
        (bundle / "booster.txt").write_text("another model", "utf-8")  # while the child loads what was read
        return run_child(candidate)

    loaded = load_bundle(bundle, Trust(), child=child)
    assert loaded.parts == tiny_world.read().parts
