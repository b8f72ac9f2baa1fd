"""A bundle: a folder that holds a model, checked before LightGBM sees a byte of it.

    booster.txt       LightGBM's text format
    bundle.json       features by name and id, sha256 of every other file, thresholds, how it was trained
    bundle.json.sha256
    bundle.json.sig   optional; see `signing`
    calibrator.json   isotonic knots
    golden.parquet    rows of X with the raw scores, probabilities and risk points that they must get
    report/           for people; but for reference.json, what the features were in training

No pickle. A bundle is read once, in bounds (`files`); then come the signature, the hashes, the description and the
text of the trees. What has passed is loaded and scored in a child process (`verify`) before a worker uses it.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Meta

from fraudstream.batch import Float64, Int64
from fraudstream.errors import ModelError
from fraudstream.registry.files import MIB, REPORT, read_folder
from fraudstream.registry.signing import SIGNATURE, Signed, Trust, sign
from fraudstream.scoring.drift import read_reference
from fraudstream.scoring.model import Knots, ModelParts, risk_points
from fraudstream.scoring.wellformed import check_booster_text

FORMAT = 2
KNOTS_MAX = 100_000
GOLDEN_ROWS_MAX = 4096
GOLDEN_BYTES_MAX = 128 * MIB  # unpacked
GOLDEN_CLOSE = 1e-9  # of probabilities: another processor may round the interpolation otherwise
DESCRIPTION, DIGEST = "bundle.json", "bundle.json.sha256"
BOOSTER, CALIBRATOR, GOLDEN = "booster.txt", "calibrator.json", "golden.parquet"
REFERENCE = "reference.json"  # in the report
GOLDEN_EXTRA = ("raw_score", "probability", "risk_points")

VERSION = re.compile(r"\d{4,8}")
_PRINTED = r"^[^\x00-\x1f\x7f]{1,400}$"
Printed = Annotated[str, Meta(pattern=_PRINTED)]


class KnotsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A piecewise-linear function on disk."""

    x: list[float]
    y: list[float]


class FeatureRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A feature by name and by the hash of its definition."""

    name: Printed
    id: Printed


class BundleFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`bundle.json`.

    Attributes:
        training: windows, rows, parameters: what a person asks of a model.
        metrics: measured on the validation window.
        files: sha256 by path, of every file but this one.
    """

    format: int
    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
    version: Annotated[str, Meta(pattern=r"^\d{4,8}$")]
    created_at: Annotated[str, Meta(pattern=r"^[-0-9T:.Z+]{1,40}$")]
    features: list[FeatureRef]
    points: KnotsFile
    training: dict[str, Any]
    metrics: dict[str, float | None]
    files: dict[str, str]


@dataclass(frozen=True, slots=True)
class Golden:
    """Rows of X in the model's order, and what each must get: raw score, probability, risk points; [n]."""

    X: Float64
    raw: Float64
    probability: Float64
    points: Int64

    @classmethod
    def of(cls, parts: ModelParts, X: Float64, raw: Float64) -> Golden:
        """Return rows with LightGBM's raw scores and what the model makes of them."""
        return cls(X, raw, parts.calibration.at(raw), risk_points(parts.points, raw))


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle in memory, with everything checked that needs no child process.

    Attributes:
        files: its bytes by path.
        passed: the checks that each file passed.
    """

    folder: Path
    described: BundleFile
    parts: ModelParts
    signed: Signed
    files: dict[str, bytes]
    passed: dict[str, list[str]]

    def golden(self) -> Golden:
        """Read the golden rows; of a bundle that nobody vouches for only a child process does so.

        Raises:
            ModelError: there are none or too many, or not of all features.
        """
        return _read_golden(self.folder / GOLDEN, self.files[GOLDEN], self.parts.feature_names)


def write_bundle(
    folder: Path,
    parts: ModelParts,
    about: dict[str, Any],
    golden: Golden,
    report: dict[str, str],
    key: Ed25519PrivateKey | None = None,
) -> None:
    """Write a bundle under a temporary name and rename it into place when it is whole.

    Args:
        folder: must not exist.
        about: `created_at`, `training` and `metrics` of `bundle.json`.
        report: texts by file name, for people.
        key: signs it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=".building-", dir=folder.parent))
    try:
        (building / BOOSTER).write_text(parts.booster_text, "utf-8")
        calibration = KnotsFile(list(parts.calibration.x), list(parts.calibration.y))
        (building / CALIBRATOR).write_bytes(_pretty(calibration))
        columns = {name: golden.X[:, i] for i, name in enumerate(parts.feature_names)}
        must = {"raw_score": golden.raw, "probability": golden.probability, "risk_points": golden.points}
        pq.write_table(pa.table({**columns, **must}), building / GOLDEN)
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
            files={path: _sha256(content) for path, content in read_folder(building).items()},
            **about,
        )
        description = _pretty(described)
        (building / DESCRIPTION).write_bytes(description)
        (building / DIGEST).write_bytes(_digest_line(description))
        if key is not None:
            (building / SIGNATURE).write_bytes(sign(description, key))
        building.chmod(0o755)
        building.rename(folder)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def read_bundle(folder: Path, trust: Trust, name: str = "") -> Bundle:
    """Read a bundle and check all that needs no LightGBM: signature, hashes, forms, limits.

    Args:
        name: of the model that it must be; empty: any.

    Raises:
        ModelError: naming the first file that is missing, damaged, unknown, too large or not to be trusted.
    """
    return check_files(folder, read_folder(folder), trust, name, {})


def check_files(
    folder: Path, files: dict[str, bytes], trust: Trust, name: str, passed: dict[str, list[str]]
) -> Bundle:
    """Check a bundle's bytes, as `read_bundle` does.

    Args:
        passed: filled with the checks that each file has passed, up to a failure too.
    """
    passed |= {path: ["size"] for path in sorted(files)}
    signed = trust.check(folder, files)
    described = _description(folder, files, name)
    passed[DESCRIPTION].append("sha256")
    for path, digest in described.files.items():
        if path not in files:
            raise ModelError(f"{folder / path}: is missing")
        if _sha256(files[path]) != digest:
            raise ModelError(f"{folder / path}: is damaged (its sha256 is not the recorded one)")
        passed[path].append("sha256")
    if signed.status == "valid":
        for path in (DESCRIPTION, *described.files):
            passed[path].append("signature")
    calibration = _decoded(folder / CALIBRATOR, files[CALIBRATOR], KnotsFile)
    for path, knots, top in ((CALIBRATOR, calibration, 1.0), (DESCRIPTION, described.points, 1000.0)):
        _check_knots(folder / path, knots, top)
        passed[path].append("form")
    reference = {}
    if (path := f"{REPORT}/{REFERENCE}") in files:
        reference = read_reference(files[path], str(folder / path))
        passed[path].append("form")
    names = tuple(feature.name for feature in described.features)
    try:
        text = files[BOOSTER].decode("utf-8")
        check_booster_text(text, names)
    except (ModelError, UnicodeDecodeError) as error:
        said = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
        raise ModelError(f"{folder / BOOSTER}: {said}") from None
    passed[BOOSTER].append("form")
    parts = ModelParts(
        version=f"{described.name}/{described.version}",
        booster_text=text,
        feature_names=names,
        feature_ids=tuple(f.id for f in described.features),
        calibration=Knots(calibration.x, calibration.y),
        points=Knots(described.points.x, described.points.y),
        reference=reference,
    )
    return Bundle(folder, described, parts, signed, files, passed)


def _read_golden(path: Path, content: bytes, names: tuple[str, ...]) -> Golden:
    try:
        parquet = pq.ParquetFile(pa.BufferReader(content))
        about = parquet.metadata
        if not 0 < about.num_rows <= GOLDEN_ROWS_MAX or about.num_row_groups > GOLDEN_ROWS_MAX:
            raise ModelError(f"{path}: has no rows, or more than {GOLDEN_ROWS_MAX}")
        if sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups)) > GOLDEN_BYTES_MAX:
            raise ModelError(f"{path}: is larger than {GOLDEN_BYTES_MAX} bytes when unpacked")
        if parquet.schema_arrow.names != [*names, *GOLDEN_EXTRA]:
            raise ModelError(
                f"{path}: has other columns than the model's features and {', '.join(GOLDEN_EXTRA)}"
            )
        table = parquet.read(use_threads=False)
        *features, raw, probability = (c.to_numpy().astype(np.float64) for c in table.columns[:-1])
        points = table.columns[-1].to_numpy().astype(np.int64)
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path}: cannot be read ({(str(error).splitlines() or [''])[0]})") from None
    return Golden(np.column_stack(features), raw, probability, points)


def _description(folder: Path, files: dict[str, bytes], name: str) -> BundleFile:
    path = folder / DESCRIPTION
    for one in (DESCRIPTION, DIGEST):
        if one not in files:
            raise ModelError(f"{folder / one}: is missing")
    if files[DIGEST] != _digest_line(files[DESCRIPTION]):
        raise ModelError(f"{path}: is damaged (its sha256 is not the one in {DIGEST})")
    described: BundleFile = _decoded(path, files[DESCRIPTION], BundleFile)
    if described.format != FORMAT:
        raise ModelError(f"{path}: has format {described.format}; this version reads {FORMAT}: train again")
    moved = VERSION.fullmatch(folder.name) is not None and folder.name != described.version
    if moved or described.name != (name or described.name):
        raise ModelError(
            f"{path}: is {described.name}/{described.version}; a version keeps the folder it was made in"
        )
    listed = set(described.files)
    if needed := {BOOSTER, CALIBRATOR, GOLDEN} - listed:
        raise ModelError(f"{path}: does not list {', '.join(sorted(needed))}")
    for extra in sorted(set(files) - listed - {DESCRIPTION, DIGEST, SIGNATURE}):
        raise ModelError(f"{folder / extra}: is not part of the bundle; remove it")
    if strange := sorted(one for one in listed if not _LISTED.fullmatch(one)):
        raise ModelError(f"{path}: lists {strange[0]!r}, which is no file of a bundle")
    return described


_LISTED = re.compile(rf"{BOOSTER}|{CALIBRATOR}|{GOLDEN}|report/[^/\x00-\x1f\x7f]{{1,100}}")


def _check_knots(path: Path, knots: KnotsFile, top: float) -> None:
    """Check that knots are an ascending function from 0 to `top` at most."""
    x, y = np.array(knots.x), np.array(knots.y)
    if len(x) > KNOTS_MAX:
        raise ModelError(f"{path}: has more than {KNOTS_MAX} knots")
    fine = len(x) == len(y) > 0 and bool(np.isfinite(x).all() and ((y >= 0) & (y <= top)).all())
    with np.errstate(over="ignore"):
        ascending = fine and bool((np.diff(x) > 0).all() and (np.diff(y) >= 0).all())
        fine = ascending and bool(np.isfinite(np.diff(y) / np.diff(x)).all())
    if not fine:
        raise ModelError(f"{path}: its knots are not an ascending function from 0 to {top:g}")


def _decoded(path: Path, content: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(f"{path}: {' '.join(str(error).split())}") from None


def _digest_line(content: bytes) -> bytes:
    """Return what sha256sum prints of a description."""
    return f"{_sha256(content)}  {DESCRIPTION}\n".encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _pretty(struct: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(struct), indent=1) + b"\n"
