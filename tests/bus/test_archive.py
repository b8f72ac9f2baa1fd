"""The archive's files: whatever crashes wherever, each row is there once; many sorted files read as one."""

from __future__ import annotations

import tempfile
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fraudstream.bus.archive import MANIFEST, RETIRED_KEPT_MS, Archive, archived_files, read_manifest
from fraudstream.bus.files import data_files
from fraudstream.bus.merge import Order, merged
from fraudstream.bus.store import Store
from fraudstream.errors import BusError, ConfigError

ORDER: Order = ("time_ms", "partition", "offset")
SCHEMA = pa.schema([("time_ms", pa.int64()), ("partition", pa.int32()), ("offset", pa.int64())])
DAY_MS = 86_400_000


class CrashError(Exception):
    """The process is gone."""


class CrashingStore(Store):
    """A store whose process dies before its n-th change, or right after it."""

    def __init__(self, uri: str, changes: int) -> None:
        super().__init__(uri)
        self.left = changes

    def replace(self, name: str, content: Any) -> None:
        self._count()
        super().replace(name, content)

    def remove(self, name: str) -> None:
        self._count()
        super().remove(name)

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise CrashError


def table(rows: list[tuple[int, int, int]]) -> pa.Table:
    columns = zip(*sorted(rows), strict=True) if rows else ((), (), ())
    return pa.table([pa.array(c, t) for c, t in zip(columns, SCHEMA.types, strict=True)], SCHEMA)


def topic_rows(count: int) -> list[tuple[int, int, int]]:
    """Return time, partition and offset of a topic's rows, in the order of reading; over three dates."""
    chance = np.random.default_rng(count)
    offsets = [0, 0]
    rows = []
    for _ in range(count):
        partition = int(chance.integers(2))
        rows.append((int(chance.integers(3 * DAY_MS)), partition, offsets[partition]))
        offsets[partition] += 1
    return rows


def write(archive: Archive, rows: list[tuple[int, int, int]], take: int) -> None:
    """Append the next rows after the archive's positions, as an archiver does that reads a topic."""
    ahead = [row for row in rows if row[2] >= archive.positions.get(row[1], 0)][:take]
    dates: dict[str, list[tuple[int, int, int]]] = {}
    for row in ahead:
        dates.setdefault(f"1970-01-{1 + row[0] // DAY_MS:02d}", []).append(row)
    positions = archive.positions
    for _, partition, offset in ahead:
        positions[partition] = offset + 1
    archive.append({date: table(part) for date, part in dates.items()}, {}, positions)


def read(folder: Path) -> list[tuple[int, int, int]]:
    files = archived_files(folder) or []
    return [tuple(row.values()) for file in files for row in pq.read_table(file).to_pylist()]


@settings(max_examples=settings().max_examples // 3)  # each example is a hundred fsyncs
@given(
    changes=st.lists(st.integers(0, 12), max_size=4),
    steps=st.lists(st.one_of(st.integers(1, 30), st.just("compact")), max_size=6),
)
@example(changes=[3, 3, 3, 0, 1, 2, 3, 4], steps=[5, 5, "compact", 5, "compact", 7])
def test_crashes_between_any_two_changes_neither_lose_nor_double_a_row(
    changes: list[int], steps: list[int | str]
) -> None:
    rows = topic_rows(100)
    with tempfile.TemporaryDirectory() as name:
        for left in [*changes, 10**9]:
            store = CrashingStore(name, left)
            with suppress(CrashError):
                archive = Archive(store, "t")
                for now_ms, step in enumerate(steps):
                    if isinstance(step, int):
                        write(archive, rows, step)
                    else:
                        archive.compact(ORDER, ORDER, now_ms * RETIRED_KEPT_MS, 2)
            found = read(Path(name))
            manifest = read_manifest(Store(name))
            positions = manifest.positions if manifest else {}
            assert sorted(found) == sorted(row for row in rows if row[2] < positions.get(row[1], 0))
        write(archive, rows, len(rows))
        archive.compact(ORDER, ORDER, 0, 2)
        assert sorted(read(Path(name))) == sorted(rows)
        assert len({file.parent for file in data_files(Path(name))}) == len(data_files(Path(name)))


@given(
    files=st.lists(st.lists(st.integers(0, 40), max_size=30), min_size=1, max_size=5),
    rows=st.integers(1, 40),
)
def test_sorted_files_are_merged_as_sorting_all_rows_would(files: list[list[int]], rows: int) -> None:
    numbered = iter(range(10**6))
    parts = [[(time_ms, next(numbered) % 3, next(numbered)) for time_ms in times] for times in files]
    everything = sorted(row for part in parts for row in part)
    with tempfile.TemporaryDirectory() as name:
        opened = []
        for number, part in enumerate(parts):
            pq.write_table(table(part), Path(name) / f"{number}.parquet", row_group_size=7)
            opened.append(pq.ParquetFile(Path(name) / f"{number}.parquet"))
        batches = list(merged(opened, ORDER, rows))
        for file in opened:
            file.close()
    assert [tuple(row.values()) for batch in batches for row in batch.to_pylist()] == everything
    assert all(batch.num_rows <= rows for batch in batches)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    archive = Archive(Store(str(tmp_path)), "t")
    for _ in range(3):
        write(archive, topic_rows(60), 20)
    return tmp_path


def test_what_was_merged_stays_a_day_for_whoever_reads_it(written: Path) -> None:
    before = archived_files(written)
    archive = Archive(Store(str(written)), "t")
    assert archive.compact(ORDER, ORDER, 1_000, 3) == 6
    assert before is not None
    assert all(file.exists() for file in before)
    archive.compact(ORDER, ORDER, 1_001 + RETIRED_KEPT_MS, 3)
    assert not any(file.exists() for file in before)
    assert sorted(read(written)) == sorted(topic_rows(60))


def test_files_of_others_are_left_alone_and_not_read(written: Path) -> None:
    foreign = written / "date=1970-01-01" / "notes.parquet"
    foreign.write_bytes(b"mine")
    unfinished = written / "date=1970-01-01" / "000000000099.parquet"
    unfinished.write_bytes(b"half")
    assert sorted(read(written)) == sorted(topic_rows(60))
    Archive(Store(str(written)), "t")
    assert foreign.exists()
    assert not unfinished.exists()


def test_one_date_of_an_archive_can_be_read(written: Path) -> None:
    one = data_files(written / "date=1970-01-02")
    assert len(one) == 3
    assert {file.parent.name for file in one} == {"date=1970-01-02"}


def test_a_second_writer_is_refused(written: Path) -> None:
    store = Store(str(written))
    begun = written / "date=1970-01-02" / ".writing-part.parquet"
    begun.write_bytes(b"half")
    with closing(store.lock()), pytest.raises(BusError, match="another process is writing it"):
        store.lock()
    assert not begun.exists()
    first, second = Archive(store, "t"), Archive(store, "t")
    second.append({}, {}, {0: 99})
    with pytest.raises(BusError, match="another process is writing it"):
        first.append({}, {}, {0: 98})


def test_a_folder_that_cannot_be_gone_on_with_is_said_in_one_line(written: Path) -> None:
    with pytest.raises(BusError, match="holds topic t, not other"):
        Archive(Store(str(written)), "other")
    (written / MANIFEST).write_bytes(b"{")
    with pytest.raises(BusError, match=r"_manifest.json: is damaged"):
        Archive(Store(str(written)), "t")
    with pytest.raises(ConfigError, match="holds several archives; give one of them"):
        data_files(written.parent)
    with pytest.raises(
        ConfigError, match=r'archive.uri = "gopher://x": give a folder, or s3://bucket/folder'
    ):
        Store("gopher://x")
