"""A bundle: a folder that holds a model, checked before LightGBM sees a byte of it.

    booster.txt       LightGBM's text format
    bundle.json       features by name and id, sha256 of every other file, thresholds, how it was trained
    bundle.json.sha256
    calibrator.json   isotonic knots
    golden.parquet    rows of X with their raw scores
    report/           for people

No pickle. A damaged model text aborts the whole process inside LightGBM, so the hashes come first and a
candidate is loaded and scored in a child process (`verify_bundle`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fraudstream.batch import Float64
from fraudstream.errors import ModelError
from fraudstream.scoring.model import Knots, ModelParts

FORMAT = 1
FILE_BYTES_MAX = 512 * 1024 * 1024
CHILD_TIMEOUT_S = 120


class KnotsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A piecewise-linear function on disk."""

    x: list[float]
    y: list[float]


class FeatureRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A feature by name and by the hash of its definition."""

    name: str
    id: str


class BundleFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`bundle.json`.

    Attributes:
        training: windows, rows, parameters: what a person asks of a model.
        metrics: measured on the validation window.
        files: sha256 by path, of every file but this one.
    """

    format: int
    name: str
    version: str
    created_at: str
    features: list[FeatureRef]
    points: KnotsFile
    training: dict[str, Any]
    metrics: dict[str, float | None]
    files: dict[str, str]


@dataclass(frozen=True, slots=True)
class BundleReport:
    """What a verification found.

    Attributes:
        problems: one line each, naming the file; empty for a good bundle.
    """

    path: str
    version: str
    files: int
    golden_rows: int
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Golden:
    """Rows of X in the model's order and the raw scores they must give."""

    X: Float64
    raw: Float64


def write_bundle(
    folder: Path, parts: ModelParts, about: dict[str, Any], golden: Golden, report: dict[str, str]
) -> None:
    """Write a bundle under a temporary name and rename it into place when it is whole.

    Args:
        folder: must not exist.
        about: `created_at`, `training` and `metrics` of `bundle.json`.
        report: texts by file name, for people.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=".building-", dir=folder.parent))
    try:
        (building / "booster.txt").write_text(parts.booster_text, "utf-8")
        calibration = KnotsFile(list(parts.calibration.x), list(parts.calibration.y))
        (building / "calibrator.json").write_bytes(_pretty(calibration))
        columns = {name: golden.X[:, i] for i, name in enumerate(parts.feature_names)}
        pq.write_table(pa.table({**columns, "raw_score": golden.raw}), building / "golden.parquet")
        (building / "report").mkdir()
        for name, text in report.items():
            (building / "report" / name).write_text(text, "utf-8")
        name, version = parts.version.split("/")
        described = BundleFile(
            format=FORMAT,
            name=name,
            version=version,
            features=[FeatureRef(n, i) for n, i in zip(parts.feature_names, parts.feature_ids, strict=True)],
            points=KnotsFile(list(parts.points.x), list(parts.points.y)),
            files={path: _sha256(building / path) for path in _files(building)},
            **about,
        )
        (building / "bundle.json").write_bytes(_pretty(described))
        (building / "bundle.json.sha256").write_bytes(_digest_line(building / "bundle.json"))
        building.chmod(0o755)
        building.rename(folder)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def read_bundle(folder: Path) -> tuple[BundleFile, ModelParts]:
    """Read a bundle whose every file has its recorded hash.

    Raises:
        ModelError: naming the file that is missing, damaged or unknown.
    """
    described = _read_description(folder)
    for path in _files(folder):
        if path not in described.files and path not in ("bundle.json", "bundle.json.sha256"):
            raise ModelError(f"{folder / path}: is not part of the bundle; remove it")
    for path, digest in described.files.items():
        if _sha256(folder / path) != digest:
            raise ModelError(f"{folder / path}: is damaged (its sha256 is not the recorded one)")
    calibration = _decoded(folder / "calibrator.json", KnotsFile)
    for name, knots in (("calibrator.json", calibration), ("bundle.json", described.points)):
        _check_knots(folder / name, knots)
    parts = ModelParts(
        version=f"{described.name}/{described.version}",
        booster_text=(folder / "booster.txt").read_text("utf-8"),
        feature_names=tuple(f.name for f in described.features),
        feature_ids=tuple(f.id for f in described.features),
        calibration=Knots(calibration.x, calibration.y),
        points=Knots(described.points.x, described.points.y),
    )
    return described, parts


def read_golden(folder: Path, names: tuple[str, ...]) -> Golden:
    """Read the golden rows, in the model's feature order.

    Raises:
        ModelError: there are none, or not of all features.
    """
    path = folder / "golden.parquet"
    try:
        table = pq.read_table(path, columns=[*names, "raw_score"])
    except (pa.ArrowInvalid, OSError) as error:
        raise ModelError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None
    if table.num_columns != len(names) + 1 or not table.num_rows:
        raise ModelError(f"{path}: lacks rows, or columns of the model's features")
    X = np.column_stack([table[name].to_numpy() for name in names])
    return Golden(X, table["raw_score"].to_numpy())


def verify_bundle(folder: Path) -> BundleReport:
    """Check every file, then load the model and score the golden rows in a child process.

    A child that dies (a damaged model text aborts it) is a problem like any other: this process lives on.
    """
    try:
        described, parts = read_bundle(folder)
    except ModelError as error:
        return BundleReport(str(folder), folder.name, 0, 0, [str(error)])
    files = len(described.files) + 2
    command = [sys.executable, "-m", "fraudstream.registry.probe", str(folder)]
    try:
        child = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",  # of a damaged model LightGBM prints whatever it finds
            timeout=CHILD_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        problem = f"{folder / 'booster.txt'}: took longer than {CHILD_TIMEOUT_S} s to load"
        return BundleReport(str(folder), parts.version, files, 0, [problem])
    if child.returncode != 0:
        last = (child.stderr.strip().splitlines() or ["no message"])[-1]
        problem = f"{folder / 'booster.txt'}: cannot be loaded (exit {child.returncode}: {last})"
        return BundleReport(str(folder), parts.version, files, 0, [problem])
    found = json.loads(child.stdout.strip().splitlines()[-1])
    return BundleReport(str(folder), parts.version, files, found["golden_rows"], found["problems"])


def _read_description(folder: Path) -> BundleFile:
    path = folder / "bundle.json"
    if _read_bytes(folder / "bundle.json.sha256", 1024) != _digest_line(path):
        raise ModelError(f"{path}: is damaged (its sha256 is not the one in bundle.json.sha256)")
    described = _decoded(path, BundleFile)
    if described.format != FORMAT:
        raise ModelError(f"{path}: has format {described.format}; this version reads {FORMAT}")
    if needed := {"booster.txt", "calibrator.json", "golden.parquet"} - set(described.files):
        raise ModelError(f"{path}: does not list {', '.join(sorted(needed))}")
    if any(Path(name).is_absolute() or ".." in Path(name).parts for name in described.files):
        raise ModelError(f"{path}: lists a file outside the bundle")
    return described


def _check_knots(path: Path, knots: KnotsFile) -> None:
    x, y = np.array(knots.x), np.array(knots.y)
    fine = len(x) == len(y) > 0 and np.isfinite(x).all() and np.isfinite(y).all()
    if not (fine and (np.diff(x) > 0).all() and (np.diff(y) >= 0).all()):
        raise ModelError(f"{path}: its knots are not an ascending function")


def _decoded(path: Path, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(_read_bytes(path, FILE_BYTES_MAX), type=kind)
    except msgspec.DecodeError as error:
        raise ModelError(f"{path}: {error}") from None


def _read_bytes(path: Path, bytes_max: int) -> bytes:
    try:
        if path.stat().st_size > bytes_max:
            raise ModelError(f"{path}: is larger than {bytes_max} bytes")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None


def _digest_line(path: Path) -> bytes:
    """Return what sha256sum prints of a file."""
    return f"{_sha256(path)}  {path.name}\n".encode()


def _sha256(path: Path) -> str:
    return hashlib.sha256(_read_bytes(path, FILE_BYTES_MAX)).hexdigest()


def _files(folder: Path) -> list[str]:
    found = (Path(where) / name for where, _, names in os.walk(folder) for name in names)
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _pretty(struct: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(struct), indent=1) + b"\n"
