"""One topic as Parquet files by date, each row exactly once.

`_manifest.json` names the files that count and what is to be read next of each partition. It is replaced when all
that it names is there; what was written and is not named is removed at the next start, and read again. So a crash
anywhere neither loses nor doubles a row. A file that was merged into another stays for a day, for whoever
reads it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import ExitStack

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fraudstream.bus.base import Positions
from fraudstream.bus.merge import Order, merged
from fraudstream.bus.place import Place, files_within
from fraudstream.bus.store import Store
from fraudstream.errors import BusError, ConfigError

MANIFEST = "_manifest.json"
RETIRED_KEPT_MS = 86_400_000
SMALL_BYTES = 64_000_000  # a larger file is left as it is
MERGED_BYTES_MAX = 128_000_000
ROWS_A_GROUP = 32_768
_OWN = re.compile(r"date=[^/]+/(_bad-)?\d{12}\.parquet")


class File(msgspec.Struct, frozen=True):
    """A file that counts."""

    name: str
    rows: int
    bytes: int


class Manifest(msgspec.Struct, kw_only=True):
    """What stands in `_manifest.json`.

    Attributes:
        topic: that the rows come from.
        written: the number of the next file.
        positions: the next offset to read by partition.
        files: those that count, in the order of their names.
        retired: when each file that was merged into another ceased to count, Unix ms.
    """

    topic: str
    format: int = 1
    written: int = 0
    positions: Positions = {}
    files: list[File] = []
    retired: dict[str, int] = {}


def read_manifest(store: Store) -> Manifest | None:
    """Return the manifest; None where nothing was archived yet. Raises BusError."""
    octets = store.read(MANIFEST)
    if octets is None:
        return None
    try:
        return msgspec.json.decode(octets, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BusError(f"{store.uri}/{MANIFEST}: is damaged: {error}") from None


def is_bad(name: str) -> bool:
    """Tell whether a file holds messages that could not be read as what they should be."""
    return name.rpartition("/")[2].startswith("_")


def archived_files(path: Place, begin_ms: int | None = None) -> list[Place] | None:
    """Return the files that count in a folder of one topic's archive, or in one of its dates; None for other folders.

    Args:
        begin_ms: the dates before this instant's are left out; None: none are.

    Raises:
        ConfigError: the folder holds the archives of several topics.
        BusError: the manifest is damaged.
    """
    for folder in (path, path.parent) if path.name.startswith("date=") else (path,):
        if (manifest := read_manifest(Store(folder))) is not None:
            within = "" if folder == path else f"{path.name}/"
            oldest = "" if begin_ms is None else f"date={np.datetime64(begin_ms, 'ms').astype('M8[D]')}"
            return [
                folder / file.name
                for file in manifest.files
                if file.name.startswith(within) and file.name >= oldest and not is_bad(file.name)
            ]
    if any(file.name == MANIFEST and file.parent.parent == path for file in files_within(path)):
        raise ConfigError(
            f"{path}: holds several archives; give one of them, such as {path / 'transactions'}"
        )
    return None


class Archive:
    """Writes the files of one topic. The only writer of its folder.

    Raises:
        BusError: the folder is of another topic, damaged, or cannot be written.
    """

    def __init__(self, store: Store, topic: str) -> None:
        self._store = store
        self._now = read_manifest(store) or Manifest(topic=topic)
        if self._now.topic != topic:
            raise BusError(
                f"{store.uri}: holds topic {self._now.topic}, not {topic}; give another archive.uri"
            )
        known = {file.name for file in self._now.files} | set(self._now.retired)
        for name in store.names():
            if _OWN.fullmatch(name) and name not in known:
                store.remove(name)
        self._stored = msgspec.json.encode(self._now)

    @property
    def positions(self) -> Positions:
        """Return what is to be read next of each partition."""
        return dict(self._now.positions)

    @property
    def files(self) -> list[File]:
        """Return the files that count."""
        return list(self._now.files)

    def append(
        self, tables: Mapping[str, pa.Table], bad: Mapping[str, pa.Table], positions: Positions
    ) -> None:
        """Add rows, by date (`2026-08-08`), and go on from these positions.

        Args:
            bad: messages that could not be read, apart from the others.
        """
        added = []
        for prefix, parts in (("", tables), ("_bad-", bad)):
            for date, table in sorted(parts.items()):
                name = f"date={date}/{prefix}{self._now.written:012d}.parquet"
                added.append(self._write(name, pa.Table.to_reader(table, ROWS_A_GROUP)))
        self._replace([*self._now.files, *added], self.positions | positions, self._now.retired)

    def compact(self, order: Order, bad_order: Order, now_ms: int, files_min: int) -> int:
        """Merge the small files of dates that have so many of them; return how many files are gone.

        Args:
            order: how rows are sorted within a file.
        """
        groups: dict[tuple[str, bool], list[File]] = {}
        for file in self._now.files:
            if file.bytes < SMALL_BYTES:
                groups.setdefault((file.name.partition("/")[0], is_bad(file.name)), []).append(file)
        gone = 0
        for (date, bad), small in groups.items():
            chosen = _fitting(small)
            if len(chosen) < max(2, files_min):
                continue
            name = f"{date}/{'_bad-' * bad}{self._now.written:012d}.parquet"
            with ExitStack() as stack:
                opened = [stack.enter_context(self._store.open(file.name)) for file in chosen]
                files = [pq.ParquetFile(one, pre_buffer=False) for one in opened]
                whole = self._write(name, merged(files, bad_order if bad else order, ROWS_A_GROUP))
            left = [file for file in self._now.files if file not in chosen]
            self._replace(
                [*left, whole],
                self.positions,
                self._now.retired | dict.fromkeys((file.name for file in chosen), now_ms),
            )
            gone += len(chosen) - 1
        self._clear(now_ms)
        return gone

    def _clear(self, now_ms: int) -> None:
        over = [name for name, at_ms in self._now.retired.items() if now_ms - at_ms > RETIRED_KEPT_MS]
        if not over:
            return
        for name in over:
            self._store.remove(name)
        left = {name: at_ms for name, at_ms in self._now.retired.items() if name not in over}
        self._replace(self._now.files, self.positions, left)

    def _write(self, name: str, reader: pa.RecordBatchReader) -> File:
        octets, rows = pa.BufferOutputStream(), 0
        with pq.ParquetWriter(octets, reader.schema, compression="zstd") as writer:
            for batch in reader:
                writer.write_batch(batch)
                rows += batch.num_rows
        content = octets.getvalue()
        self._store.replace(name, content)
        return File(name, rows, content.size)

    def _replace(self, files: list[File], positions: Positions, retired: dict[str, int]) -> None:
        stored = self._store.read(MANIFEST)
        if stored is not None and stored != self._stored:
            raise BusError(f"{self._store.uri}: another process is writing it; stop one of the two")
        following = Manifest(
            topic=self._now.topic,
            written=self._now.written + 1,
            positions=positions,
            files=sorted(files, key=lambda file: file.name),
            retired=retired,
        )
        content = msgspec.json.encode(following)
        self._store.replace(MANIFEST, content)
        self._now, self._stored = following, content


def _fitting(small: list[File]) -> list[File]:
    """Return the smallest files that are not too large together."""
    chosen, total = [], 0
    for file in sorted(small, key=lambda file: file.bytes):
        total += file.bytes
        if total <= MERGED_BYTES_MAX:
            chosen.append(file)
    return chosen
