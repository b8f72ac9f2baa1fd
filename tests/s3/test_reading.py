"""What stands in a bucket is read as it is from a folder; what cannot be read is one line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

from fraudstream.bus.archive import Archive
from fraudstream.bus.files import (
    columns_of,
    count_rows,
    data_files,
    opened_parquet,
    read_table,
    read_transactions,
)
from fraudstream.bus.formats import values_of
from fraudstream.bus.lookup import rows_of
from fraudstream.bus.memory import MemoryMessage
from fraudstream.bus.place import Place, place_of
from fraudstream.bus.raw import RAW_ORDER
from fraudstream.bus.store import Store
from fraudstream.clock import iso
from fraudstream.decode import Decoder
from fraudstream.errors import BusError, ConfigError
from fraudstream.features import build_catalog
from fraudstream.ledger import read_ledger
from fraudstream.simulate import DAY_MS
from fraudstream.stream.archivekinds import Transactions, labels
from fraudstream.stream.build import warmed_engine
from tests.cli.running import fraudstream
from tests.s3.conftest import Put, made_bucket
from tests.s3.server import KEYS, S3Server
from tests.worlds import LIVE_MS, TinyWorld, write_rows

pytestmark = pytest.mark.s3

SECRET = "not-the-tests-secret"


@dataclass(frozen=True)
class Both:
    """The same in a folder and in a bucket."""

    folder: Path
    uri: str

    @property
    def places(self) -> tuple[Place, Place]:
        return self.folder, place_of(self.uri)


def read(place: Place, tiny_world: TinyWorld, begin_ms: int | None = None) -> tuple[list[str], list[Any]]:
    """Return the ids that a reader gets, and what it rejects without the folder's name."""
    decoder = Decoder(tiny_world.settings.event, set())
    ids, bad = [], []
    for batch, rejected in read_transactions(place, decoder, 500, begin_ms):
        ids += batch.ids
        bad += [(one.file.removeprefix(str(place)), one.row, str(one.error)) for one in rejected]
    return ids, bad


def names(place: Place, begin_ms: int | None = None) -> list[str]:
    return [str(file).removeprefix(str(place)) for file in data_files(place, begin_ms)]


@pytest.fixture
def archives(tiny_world: TinyWorld, server: S3Server, bucket: str, tmp_path: Path) -> Both:
    """Transactions and labels, archived in four rounds and merged in part; one message is no transaction."""
    both = Both(tmp_path / "archive", server.uri(f"{bucket}/deep/archive"))
    values = [json.dumps(row).encode() for row in tiny_world.rows]
    values[700] = b"no transaction"
    messages = [
        MemoryMessage(value, b"card", [], at % 3, at // 3, row["event_time"])
        for at, (value, row) in enumerate(zip(values, tiny_world.rows, strict=True))
    ]
    known = [
        MemoryMessage(json.dumps({**row, "schema_version": 1}).encode(), None, [], 0, at, row["known_at"])
        for at, row in enumerate(pq.read_table(tiny_world.labels).slice(0, 200).to_pylist())
    ]
    decoder = Decoder(tiny_world.settings.event, set())
    for uri in (str(both.folder), both.uri):
        store = Store(uri)
        for kind, topic in ((Transactions("t", decoder, values_of), messages), (labels("l"), known)):
            archive = Archive(store.sub(kind.name), kind.topic)
            for first in range(4):
                chosen = topic[first::4]
                archive.append(*kind.tables(chosen), {m.partition(): m.offset() + 1 for m in chosen})
            assert archive.compact(kind.order, RAW_ORDER, 0, 3) > 0
    return both


def test_an_archive_in_a_bucket_is_read_as_one_in_a_folder(tiny_world: TinyWorld, archives: Both) -> None:
    here, there = (place / "transactions" for place in archives.places)
    ids, bad = read(there, tiny_world)
    assert (ids, bad) == read(here, tiny_world)
    assert (len(ids), len(bad)) == (len(tiny_world.rows) - 1, 1)
    assert names(there) == names(here)
    assert count_rows(there) == count_rows(here) == len(tiny_world.rows)
    one_day = names(there)[0].split("/")[1]
    assert read(there / one_day, tiny_world) == read(here / one_day, tiny_world)
    ledgers = [read_ledger(place / "labels") for place in archives.places]
    assert ledgers[0].equals(ledgers[1])
    assert len(ledgers[0]) == 200


def test_dates_that_nobody_needs_are_not_read_from_a_bucket(tiny_world: TinyWorld, archives: Both) -> None:
    here, there = (place / "transactions" for place in archives.places)
    begin_ms = LIVE_MS + 2 * DAY_MS
    assert names(there, begin_ms) == names(here, begin_ms)
    assert 0 < len(names(there, begin_ms)) < len(names(there))
    assert read(there, tiny_world, begin_ms) == read(here, tiny_world, begin_ms)


def test_a_bucket_with_several_archives_is_not_one(archives: Both) -> None:
    with pytest.raises(
        ConfigError, match=r"deep/archive: holds several archives; give one of them, such as s3:"
    ):
        data_files(archives.places[1])


@pytest.mark.parametrize("suffix", ["parquet", "ndjson", "csv"])
def test_plain_files_in_a_bucket_are_read_as_in_a_folder(
    tiny_world: TinyWorld, put: Put, tmp_path: Path, suffix: str
) -> None:
    table, folder = pa.Table.from_pylist(tiny_world.rows), tmp_path / "plain"
    for at, name in enumerate(("b/one", "a-b/two", "a/three")):
        path = folder / f"{name}.{suffix}"
        path.parent.mkdir(parents=True)
        part = table.slice(at * 300, 300)
        if suffix == "parquet":
            pq.write_table(part, path, row_group_size=100)
        elif suffix == "csv":
            pc.write_csv(part, path)
        else:
            write_rows(part.to_pylist(), path)
    (folder / "a" / "notes.txt").write_text("no data")
    both = Both(folder, put(folder, "plain"))
    here, there = both.places
    assert names(there) == names(here)
    assert read(there, tiny_world) == read(here, tiny_world)
    assert read(there / f"a/three.{suffix}", tiny_world)[0] == table["transaction_id"].to_pylist()[600:900]
    assert count_rows(there) == count_rows(here)
    assert columns_of(there) == columns_of(here)
    kinds = {"transaction_id": pa.string(), "amount": pa.string() if suffix == "csv" else pa.float64()}
    assert read_table(there, kinds).equals(read_table(here, kinds))
    if suffix != "csv":
        chosen = table["transaction_id"][450].as_py()
        assert [*rows_of(there, chosen)] == [*rows_of(here, chosen)] != []


def test_training_and_replay_from_a_bucket_give_the_same_bytes(
    tiny_world: TinyWorld, put: Put, tmp_path: Path
) -> None:
    history, live = put(tiny_world.folder / "history", "history"), put(tiny_world.live, "live")
    transactions, known = (history.replace("?", f"/{name}?") for name in ("transactions", "labels"))
    files: dict[str, tuple[Path | str, Path | str]]
    files = {"here": (tiny_world.transactions, tiny_world.labels), "there": (transactions, known)}
    words: tuple[Path | str, ...]
    bundles, scores = {}, {}
    for name, (given, ledger) in files.items():
        words = ("--transactions", given, "--labels", ledger, "--registry", tmp_path / name, "--json")
        trained = fraudstream("train", "-c", tiny_world.config, *words, "--as-of", iso(LIVE_MS))
        assert trained.code == 0, trained.err
        bundle = Path(trained.last_object()["path"])
        bundles[name] = {
            str(file.relative_to(bundle)): file.read_bytes()
            for file in bundle.rglob("*")
            if file.is_file() and file.name not in ("bundle.json", "bundle.json.sha256")  # when it was made
        }
        output = tmp_path / f"{name}.parquet"
        lately = tiny_world.live if name == "here" else live
        words = ("--transactions", lately, "--labels", ledger, "-o", output, "--json")
        replayed = fraudstream("replay", "-c", tiny_world.config, *words, "--model", bundle)
        assert replayed.code == 0, replayed.err
        assert replayed.last_object()["transactions"] == len(tiny_world.rows)
        scores[name] = pq.read_table(output)
    assert bundles["here"] == bundles["there"] != {}
    assert scores["here"].equals(scores["there"])


def test_retraining_reads_the_archive_that_the_settings_name(
    tiny_world: TinyWorld, put: Put, tmp_path: Path
) -> None:
    uri = put(tiny_world.folder / "history", "history")
    words = ("--registry", tmp_path / "models", "--as-of", iso(LIVE_MS), "--json")
    ended = fraudstream("retrain", "-c", tiny_world.config, *words, FRAUDSTREAM_ARCHIVE__URI=uri)
    assert ended.code == 0, ended.err
    assert ended.last_object()["metrics"] == tiny_world.trained["metrics"]


def test_a_worker_is_warmed_from_a_bucket(tiny_world: TinyWorld, put: Put) -> None:
    uri = put(tiny_world.transactions, "history")
    catalog = build_catalog(tiny_world.settings.features, tiny_world.settings.event)
    decoder = Decoder(tiny_world.settings.event, catalog.fields_used)
    batch, _ = next(read_transactions(tiny_world.live, decoder, 500))
    here, there = (
        warmed_engine(tiny_world.settings_with(worker__warm=warm), catalog).observe(batch).X
        for warm in (str(tiny_world.transactions), uri)
    )
    np.testing.assert_array_equal(here, there)
    settings = tiny_world.settings_with(worker__warm=uri.replace("//", f"//tester:{SECRET}@"))
    assert SECRET not in str(settings.shown())


def test_what_cannot_be_read_is_one_line_without_the_secret(
    tiny_world: TinyWorld, server: S3Server, bucket: str, tmp_path: Path
) -> None:
    wrong, away = f"tester:{SECRET}@", S3Server()  # nobody listens at the other's port
    to_labels = ("labels", "report", "--labels")
    for uri, words, code, said in (
        (server.uri("no-such-bucket/x"), to_labels, 2, "s3://no-such-bucket/x: does not exist; give"),
        (server.uri(f"{bucket}/nothing"), to_labels, 2, f"s3://{bucket}/nothing: does not exist; give"),
        (server.uri(f"{bucket}/x", wrong), to_labels, 1, f"s3://{bucket}/x: When getting information"),
        (away.uri(f"{bucket}/x", wrong), to_labels, 1, "NETWORK_CONNECTION"),
        (server.uri(f"{bucket}/x", wrong) + "&a=b", to_labels, 2, "give a folder, or s3://bucket/folder"),
        (server.uri(f"{bucket}/x", f"tester:a/{SECRET}@"), to_labels, 2, "give a folder, or s3://bucket"),
        (f"s3://{wrong}", to_labels, 2, "give a folder, or s3://bucket/folder"),
        (server.uri(f"{bucket}/x", wrong), ("retrain", "--archive"), 1, "ACCESS_DENIED"),
        (server.uri(f"{bucket}/x", wrong) + "&a=b", ("retrain", "--archive"), 2, 'archive.uri = "s3://***@'),
        (server.uri(bucket, wrong), ("labels", "import", "--labels", "x", "--to"), 2, "is written to"),
    ):
        settings = () if "import" in words else ("-c", tiny_world.config)
        registry = ("--registry", tmp_path / "models") if "retrain" in words else ()
        ended = fraudstream(*words, uri, *settings, *registry)
        assert ended.code == code, (uri, ended.err)
        assert said in ended.one_line()
        assert SECRET not in ended.err


def test_a_server_that_goes_in_the_midst_of_a_file_is_one_line(tmp_path: Path) -> None:
    with S3Server() as server, pytest.MonkeyPatch.context() as patched:
        for name, value in KEYS.items():
            patched.setenv(name, value)
        place = place_of(server.uri(f"{made_bucket(server)}/x"))
        noise = np.random.default_rng(7).random(1_000_000)
        pq.write_table(pa.table({"x": noise}), tmp_path / "x.parquet", row_group_size=100_000)
        for name in ("x.parquet", "x.ndjson"):
            (place / name).write_bytes((tmp_path / "x.parquet").read_bytes())
        batches = opened_parquet(place / "x.parquet").iter_batches(1000)
        lines = (place / "x.ndjson").open("rb")
        next(batches), next(lines)
        server.stop()
        with pytest.raises(BusError, match=r"x\.parquet: .*NETWORK_CONNECTION"):
            list(batches)
        with pytest.raises(BusError, match=r"x\.ndjson: .*NETWORK_CONNECTION"):
            list(lines)
