"""What is archived is read back as the worker read it, bad messages too; a training set needs only its own dates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from fraudstream.bus.archive import Archive
from fraudstream.bus.files import data_files, read_transactions
from fraudstream.bus.formats import values_of
from fraudstream.bus.memory import MemoryMessage
from fraudstream.bus.raw import RAW_ORDER
from fraudstream.bus.store import Store
from fraudstream.decode import Decoder
from fraudstream.features import build_catalog, new_engine
from fraudstream.ledger import read_labels
from fraudstream.stream.archivekinds import Transactions
from fraudstream.training.dataset import Dataset, dataset_as_of
from tests.stream.bad import BAD
from tests.worlds import LIVE_MS, TinyWorld, ignore

DAY_MS = 86_400_000


def archived(folder: Path, messages: list[MemoryMessage], decoder: Decoder, at_once: int) -> Path:
    """Archive a topic's messages, so many at once, and merge some of the files."""
    kind, archive = Transactions("t", decoder, values_of), Archive(Store(str(folder)), "t")
    for start in range(0, len(messages), at_once):
        part = messages[start : start + at_once]
        tables, bad = kind.tables(part)
        archive.append(tables, bad, {m.partition(): m.offset() + 1 for m in part})
    archive.compact(kind.order, RAW_ORDER, 0, 3)
    return folder


def test_bad_messages_are_rejected_as_they_were_when_they_came(tiny_world: TinyWorld, tmp_path: Path) -> None:
    decoder = Decoder(tiny_world.settings.event, set())
    rows = tiny_world.rows
    good = [json.dumps(row).encode() for row in rows[: len(BAD)]]
    values = [
        value
        for pair in zip(good, (make(rows[0]) for _, make in BAD.values()), strict=True)
        for value in pair
    ]
    keys = [None if at == 4 else b"card" for at in range(len(values))]
    messages = [
        MemoryMessage(value, key, [("trace", b"7")], at % 3, at // 3, LIVE_MS + at)
        for at, (value, key) in enumerate(zip(values, keys, strict=True))
    ]
    positions = [m.partition() for m in messages], [m.offset() for m in messages]
    _, rejected = decoder.decode_messages(
        values, keys, positions, np.array([m.timestamp()[1] for m in messages])
    )
    came = {(bad.row % 3, bad.row // 3, str(bad.error)) for bad in rejected}
    assert len(came) >= len(BAD)

    folder = archived(tmp_path / "transactions", messages, decoder, 10)
    read = list(read_transactions(folder, decoder))
    again = {(int(bad.file.rpartition(" ")[2]), bad.row, str(bad.error)) for _, bads in read for bad in bads}
    assert again == came
    kept = {
        (r["partition"], r["offset"]): r for f in data_files(folder) for r in pq.read_table(f).to_pylist()
    }
    assert {at: (r["value"], r["key"]) for at, r in kept.items()} == {
        (m.partition(), m.offset()): (m.value(), m.key()) for m in messages
    }
    assert all(row["headers"] == [{"name": "trace", "value": b"7"}] for row in kept.values())


def test_a_training_set_of_an_archive_is_that_of_the_files_and_reads_only_its_dates(
    tiny_world: TinyWorld, tmp_path: Path
) -> None:
    settings = tiny_world.settings
    decoder = Decoder(settings.event, set())
    rows = pq.read_table(tiny_world.transactions).to_pylist()
    messages = [
        MemoryMessage(json.dumps(row).encode(), b"card", None, at % 3, at // 3, row["event_time"])
        for at, row in enumerate(rows)
    ]
    folder = archived(tmp_path / "transactions", messages, decoder, 4_000)
    catalog = build_catalog(settings.features, settings.event)
    window = LIVE_MS - 4 * DAY_MS, LIVE_MS
    labels = read_labels(tiny_world.labels, {})

    def dataset(path: Path) -> Dataset:
        return dataset_as_of(path, labels, new_engine(settings, catalog), window, ignore)

    files, archive = dataset(tiny_world.transactions), dataset(folder)
    np.testing.assert_array_equal(archive.X, files.X)
    np.testing.assert_array_equal(archive.fraud, files.fraud)
    dates = {file.parent.name for file in data_files(folder)}
    later = {file.parent.name for file in data_files(folder, window[0])}
    assert later == set(sorted(dates)[-4:])
    assert sum(len(batch) for batch, _ in read_transactions(folder, decoder, begin_ms=window[0])) == len(
        files.X
    )
