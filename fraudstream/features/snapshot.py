"""The whole engine in one file, and back: versioned, check-summed, replaced as a whole.

    8 bytes  MAGIC
             sections of 8-byte words: the tables of ids seen, then each stage's shards
             the head: JSON with layout, stream time, codes, what the caller adds, and each section's place,
             words and check sum (CRC-32)
    24 bytes place and length of the head, its check sum

`Snapshotter` writes while the loop goes on: a forked child has the state as it was at that moment (the kernel copies
a page when either side writes to it), so the loop stands still only for the fork.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fraudstream.batch import Int64
from fraudstream.errors import CheckpointError
from fraudstream.features.cases import Cases
from fraudstream.features.catalog import Catalog
from fraudstream.features.engine import FeatureEngine
from fraudstream.features.recent import Recent
from fraudstream.features.shards import check_layout, codes_to_json, layout_of, translation
from fraudstream.features.table import SHARDS
from fraudstream.sections import StateSettings

MAGIC = b"FSSTATE4"
_TAIL = 24


def save(engine: FeatureEngine, path: Path, about: dict[str, Any] | None = None) -> None:
    """Write a snapshot: to a temporary file, to the disk, then in the place of what is there.

    Args:
        about: what the caller wants to read again, as JSON (log positions).

    Raises:
        CheckpointError: it could not be written; what was at `path` is still there.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as file:
            _write(engine, file, about or {})
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            temporary.unlink(missing_ok=True)
        raise CheckpointError(f"{path}: the snapshot could not be written ({error.strerror})") from None


def load(
    path: Path,
    catalog: Catalog,
    settings: StateSettings,
    grace_ms: int = 0,
    tracked_days: int = 0,
    cases: Cases | None = None,
) -> FeatureEngine:
    """Return the engine that a snapshot holds.

    Raises:
        CheckpointError: it is missing, damaged, of another version, or of another catalogue.
    """
    engine = FeatureEngine(catalog, settings, grace_ms, tracked_days=tracked_days, cases=cases)
    try:
        with path.open("rb") as file:
            head = _read_head(file, path)
            check_layout(head["layout"], engine, str(path))
            _read(engine, head, _Sections(file, head["sections"], path))
    except OSError as error:
        raise CheckpointError(f"{path}: the snapshot cannot be read ({error.strerror})") from None
    return engine


def about(path: Path) -> dict[str, Any]:
    """Return what the caller added when a snapshot was saved."""
    try:
        with path.open("rb") as file:
            added: dict[str, Any] = _read_head(file, path)["about"]
            return added
    except OSError as error:
        raise CheckpointError(f"{path}: the snapshot cannot be read ({error.strerror})") from None


class Snapshotter:
    """Takes snapshots in a child process, one at a time.

    Requires a system with `fork`. The child only reads memory and writes its file.
    """

    def __init__(self) -> None:
        self._child = 0
        self._errors = -1

    @property
    def busy(self) -> bool:
        """Tell whether a snapshot is being taken."""
        return self._child != 0

    def start(self, engine: FeatureEngine, path: Path, about: dict[str, Any] | None = None) -> None:
        """Begin a snapshot of the engine as it is now."""
        assert not self.busy, "one at a time"
        self._errors, told = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            code = 0
            try:
                save(engine, path, about)
            except BaseException as error:  # nothing may run in the child behind this
                os.write(told, str(error).encode()[:4000])
                code = 1
            finally:
                os._exit(code)
        os.close(told)

    def done(self, wait: bool = False) -> bool:
        """Tell whether the snapshot is complete.

        Raises:
            CheckpointError: it failed; what was at the path before is still there.
        """
        if not self.busy:
            return True
        child, status = os.waitpid(self._child, 0 if wait else os.WNOHANG)
        if child == 0:
            return False
        self._child = 0
        with os.fdopen(self._errors, "rb") as errors:
            said = errors.read().decode(errors="replace")
        if status != 0:
            raise CheckpointError(said or f"the process that wrote the snapshot ended with status {status}")
        return True


def _write(engine: FeatureEngine, file: BinaryIO, added: dict[str, Any]) -> None:
    sections: dict[str, list[int]] = {}
    file.write(MAGIC)
    for name, words in _sections(engine):
        octets = np.ascontiguousarray(words).data.cast("B") if words.size else b""
        sections[name] = [file.tell(), words.size, zlib.crc32(octets)]
        file.write(octets)
    head = json.dumps(
        {
            "layout": layout_of(engine),
            "watermark_ms": engine.watermark_ms,
            "history_from_ms": engine.history_from_ms,
            "codes": codes_to_json(engine),
            "tables": {name: recent.generation for name, recent in _tables(engine)},
            "labels": _labels_to_json(engine),
            "cases": engine.cases.to_json() if engine.cases is not None else [],
            "cohorts": engine.cohorts.to_json() if engine.cohorts is not None else {},
            "about": added,
            "sections": sections,
        }
    ).encode()
    place = file.tell()
    file.write(head)
    file.write(b"".join(n.to_bytes(8, "little") for n in (place, len(head), zlib.crc32(head))))


def _tables(engine: FeatureEngine) -> Iterator[tuple[str, Recent]]:
    if engine.repeats.recent is not None:
        yield "repeats", engine.repeats.recent
    if engine.labels is not None:
        yield "labels", engine.labels.transactions


def _sections(engine: FeatureEngine) -> Iterator[tuple[str, Int64]]:
    for name, recent in _tables(engine):
        for part, words in recent.sections():
            yield f"{name}/{part}", words
    for stage in engine.stages:
        for shard in range(SHARDS):
            yield f"{stage.name}/{shard}", stage.pack(shard)


def _labels_to_json(engine: FeatureEngine) -> dict[str, Any]:
    if engine.labels is None:
        return {}
    orphans = [[key, *label] for key, kept in engine.labels.orphans.items() for label in kept]
    return {"waiting": sorted(engine.labels.waiting), "orphans": orphans}


class _Sections:
    """Reads sections and checks their sums."""

    def __init__(self, file: BinaryIO, places: dict[str, list[int]], path: Path) -> None:
        self._file = file
        self._places = places
        self._path = path

    def __getitem__(self, name: str) -> Int64:
        place, words, check = self._places[name]
        found = np.empty(words, np.int64)
        self._file.seek(place)
        octets = found.data.cast("B") if words else bytearray()
        if self._file.readinto(octets) != len(octets) or zlib.crc32(octets) != check:  # type: ignore[attr-defined]
            raise CheckpointError(f"{self._path}: is damaged: the check sum of {name} does not fit; {_OTHER}")
        return found

    def ahead(self, names: list[str]) -> Iterator[Int64]:
        """Yield sections; the next one is read and checked in a thread while the caller has the one before."""
        with ThreadPoolExecutor(1) as reader:
            following: Future[Int64] | None = None
            for name in names:
                this, following = following, reader.submit(self.__getitem__, name)
                if this is not None:
                    yield this.result()
            if following is not None:
                yield following.result()


_OTHER = "use an older snapshot, or rebuild the state from the log"


def _read_head(file: BinaryIO, path: Path) -> dict[str, Any]:
    if file.read(len(MAGIC)) != MAGIC:
        raise CheckpointError(f"{path}: is not a snapshot, or one of another version; {_OTHER}")
    size = file.seek(0, os.SEEK_END)
    file.seek(max(len(MAGIC), size - _TAIL))
    tail = file.read(_TAIL)
    place, length, check = (int.from_bytes(tail[at : at + 8], "little") for at in (0, 8, 16))
    if len(tail) == _TAIL and len(MAGIC) <= place <= size and length == size - _TAIL - place:
        file.seek(place)
        head = file.read(length)
        if zlib.crc32(head) == check:
            found: dict[str, Any] = json.loads(head)
            return found
    raise CheckpointError(f"{path}: is damaged: its end is missing or does not fit; {_OTHER}")


def _read(engine: FeatureEngine, head: dict[str, Any], sections: _Sections) -> None:
    engine.watermark_ms = head["watermark_ms"]
    engine.history_from_ms = head["history_from_ms"]
    codes = translation(engine, head["codes"])
    for name, recent in _tables(engine):
        parts = {part: sections[f"{name}/{part}"] for part, _ in recent.sections()}
        recent.restore(head["tables"][name], parts)
    if engine.labels is not None:
        _read_labels(engine, head["labels"])
    if engine.cohorts is not None and head["cohorts"]:
        engine.cohorts.restore(head["cohorts"])
    if engine.cases is not None:
        engine.cases.restore(head["cases"])
    shards = [(stage, f"{stage.name}/{shard}") for stage in engine.stages for shard in range(SHARDS)]
    for (stage, _), words in zip(shards, sections.ahead([name for _, name in shards]), strict=True):
        stage.unpack(words, codes)


def _read_labels(engine: FeatureEngine, labels: dict[str, Any]) -> None:
    assert engine.labels is not None
    waiting = [tuple(label) for label in labels["waiting"]]
    engine.labels.restore(waiting, labels["orphans"])
