"""What is fed with bytes. A target returns whether they were taken; whatever it raises is a defect.

The bundle's target gives each file of a good bundle the bytes in turn, with hashes that are right for them, so that
the parsers behind the hashes are reached, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.formats import as_protobuf
from fraudstream.bus.formats import Read, new_reader
from fraudstream.bus.memory import MemoryMessage
from fraudstream.decode import Decoder, LabelDecoder
from fraudstream.errors import CheckpointError, ConfigError, FraudstreamError, ModelError
from fraudstream.features import build_catalog, new_engine, snapshot
from fraudstream.features.where import parse_where
from fraudstream.registry import Trust
from fraudstream.registry.bundle import (
    BOOSTER,
    CALIBRATOR,
    DESCRIPTION,
    DIGEST,
    GOLDEN,
    REFERENCE,
    check_files,
)
from fraudstream.registry.files import REPORT, read_folder
from fraudstream.scoring import build_policy
from fraudstream.scoring.trees import NotCompilable, read_trees
from fraudstream.settings import load_settings
from tests.cli.running import REPOSITORY
from tests.schemaregistry import card_payments, schema_registry

Target = Callable[[bytes, Path], bool]
BUNDLE_FILES = (BOOSTER, CALIBRATOR, DESCRIPTION, GOLDEN, f"{REPORT}/{REFERENCE}")


@cache
def _decoder() -> Decoder:
    settings = load_settings(environment={})
    return Decoder(settings.event, set(settings.event.fields))


def decode(data: bytes, folder: Path) -> bool:
    """Decode one message a line, together and each by itself: the same of each, good or bad."""
    values = data.split(b"\n")
    together = _good(values)
    apart = [_good([value]) for value in values]
    assert together == [one for each in apart for one in each], "neighbours change what a message is"
    labels, rejected = LabelDecoder().decode(values)
    assert len(labels) + len(rejected) == len(values)
    return bool(together)


def _good(values: Sequence[bytes]) -> list[tuple[str, int, float]]:
    """Return what is a transaction, and check that what is none has one line of reason."""
    places = list(range(len(values)))
    batch, rejected = _decoder().decode_messages(values, [b"k"] * len(values), (places, places), None)
    assert len(batch) + len(rejected) == len(values)
    for bad in rejected:
        assert str(bad.error)
        assert "\n" not in str(bad.error)
    amounts = batch.measures["amount"]
    assert np.isfinite(amounts).all()
    return list(zip(batch.ids, batch.time_ms.tolist(), amounts.tolist(), strict=True))


_open = ExitStack()


@cache
def _readers() -> tuple[tuple[Read, ...], list[bytes]]:
    """Return readers of Avro and Protobuf, and a message of each; their registry stays until Python ends."""
    stub = _open.enter_context(schema_registry())
    row = msgspec.json.decode(MESSAGES[0]) | {"event_time": 1_767_225_600_000}
    seeds = [*card_payments(stub, [row, row]), *as_protobuf(stub, [row])]
    kinds = [{"event.format": kind, "schema_registry.url": stub.url} for kind in ("avro", "protobuf")]
    return tuple(new_reader(load_settings(overrides=kind, environment={})) for kind in kinds), seeds


def schemas(data: bytes, folder: Path) -> bool:
    """Read a message by the schema that it names, in both formats; what is read is decoded."""
    taken = False
    for read in _readers()[0]:
        batch, rejected = _decoder().decode_messages(read([MemoryMessage(data)]), None, ([0], [0]), None)
        assert len(batch) + len(rejected) == 1
        assert all(len(str(bad.error).splitlines()) == 1 for bad in rejected)
        taken |= len(batch) == 1
    return taken


def schema_seeds() -> list[bytes]:
    """Return a message of each format."""
    return _readers()[1]


def config(data: bytes, folder: Path) -> bool:
    """Read settings; where they hold together, so do the catalogue and the policy, or they say why not."""
    path = folder / "fraudstream.toml"
    path.write_bytes(data)
    try:
        settings = load_settings(path, environment={})
        build_catalog(settings.features, settings.event)
        build_policy(settings)
    except ConfigError as error:
        return _refused(error)
    return True


def where(data: bytes, folder: Path) -> bool:
    """Read the condition of a feature or an outcome."""
    try:
        parse_where(data.decode("utf-8", "replace"), "where", load_settings(environment={}).event)
    except ConfigError as error:
        return _refused(error)
    return True


def _refused(error: FraudstreamError) -> bool:
    """Check that it is said in one line."""
    assert len(str(error).splitlines()) == 1, repr(str(error))
    return False


class BundleTarget:
    """Checks a bundle with one file replaced.

    Args:
        good: a bundle's folder.
    """

    def __init__(self, good: Path) -> None:
        self._folder = good
        self._files = read_folder(good)

    def __call__(self, data: bytes, folder: Path) -> bool:
        """Take the first byte for the file's number, the rest for its content."""
        name = BUNDLE_FILES[data[0] % len(BUNDLE_FILES)] if data else BOOSTER
        files = self._files | {name: data[1:]}
        if name != DESCRIPTION:
            described = json.loads(files[DESCRIPTION])
            described["files"][name] = hashlib.sha256(data[1:]).hexdigest()
            files[DESCRIPTION] = json.dumps(described).encode()
        files[DIGEST] = f"{hashlib.sha256(files[DESCRIPTION]).hexdigest()}  {DESCRIPTION}\n".encode()
        try:
            bundle = check_files(self._folder, files, Trust(), "", {})
            bundle.golden()
            read_trees(bundle.parts.booster_text)
        except ModelError as error:
            return _refused(error)
        except NotCompilable:
            return True
        return True

    def seeds(self) -> list[bytes]:
        """Return the good files."""
        return [bytes([number]) + self._files[name] for number, name in enumerate(BUNDLE_FILES)]


class SnapshotTarget:
    """Loads a snapshot; its checksums are what stands between damage and a wrong state."""

    def __init__(self) -> None:
        self._settings = load_settings(environment={})
        self._catalog = build_catalog(self._settings.features[:2], self._settings.event)

    def __call__(self, data: bytes, folder: Path) -> bool:
        """Read it as a worker does."""
        path = folder / "state"
        path.write_bytes(data)
        try:
            snapshot.about(path)
            snapshot.load(path, self._catalog, self._settings.state)
        except CheckpointError as error:
            return _refused(error)
        return True

    def seeds(self, folder: Path) -> list[bytes]:
        """Return a good one."""
        snapshot.save(new_engine(self._settings, self._catalog), folder / "good", {"positions": {"0": 1}})
        return [(folder / "good").read_bytes()]


MESSAGES = [
    b'{"transaction_id":"t","event_time":"2026-04-01T00:00:00Z","card_id":"c","merchant_id":"m","amount":3.5}',
    b'{"transaction_id":"t","event_time":1767225600000,"card_id":"c","merchant_id":"m","amount":"12.50",'
    b'"currency":"EUR","channel":"online","device_id":null}\n{"transaction_id":"u"}',
    b'{"transaction_id":"t","label":"fraud","known_at":1767581350800,"source":"analyst"}',
]
CONDITIONS = [b'channel = "online" and amount >= 100', b"amount > 1.5", b'merchant_category != "5411"']


def toml_seeds(repository: Path) -> list[bytes]:
    """Return settings that people use."""
    return [
        path.read_bytes()
        for path in (
            repository / "fraudstream" / "defaults.toml",
            repository / "examples" / "handbook" / "fraudstream.toml",
            repository / "examples" / "sparkov" / "fraudstream.toml",
        )
    ]


TARGETS = ("decode", "schemas", "config", "where", "bundle", "snapshot")


def target_and_seeds(name: str, bundle: Callable[[], Path], folder: Path) -> tuple[Target, list[bytes]]:
    """Return what is fed, one of TARGETS, and what it begins with: good input.

    Args:
        bundle: gives the folder of a good one, where it is wanted.
        folder: to write in.
    """
    if name == "bundle":
        of_bundle = BundleTarget(bundle())
        return of_bundle, of_bundle.seeds()
    if name == "snapshot":
        of_snapshot = SnapshotTarget()
        return of_snapshot, of_snapshot.seeds(folder)
    if name == "schemas":
        return schemas, schema_seeds()
    plain: dict[str, tuple[Target, list[bytes]]] = {
        "decode": (decode, MESSAGES),
        "config": (config, toml_seeds(REPOSITORY)),
        "where": (where, CONDITIONS),
    }
    return plain[name]
