"""`fraudstream labels`: nothing is dropped, nothing is added twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from fraudstream.bus.archive import Archive
from fraudstream.bus.store import Store
from fraudstream.errors import BusError, ConfigError
from fraudstream.ledger import read_labels, read_ledger
from fraudstream.training.labels import import_labels, report_labels
from tests.worlds import START_MS, TinyWorld, ignore

DAY_MS = 86_400_000


def label(one: str, said: str, day: int, source: str = "analyst") -> dict[str, Any]:
    return {"transaction_id": one, "label": said, "known_at": START_MS + day * DAY_MS, "source": source}


def written(rows: list[dict[str, Any]], path: Path) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_conflicts_reversals_orphans_and_silences_are_reported(tiny_world: TinyWorld, tmp_path: Path) -> None:
    table = pq.read_table(tiny_world.transactions)
    a, b, c = table["transaction_id"].slice(0, 3).to_pylist()
    card = {"entity": "card", "label": "fraud", "known_at": START_MS, "from": START_MS - 1, "to": START_MS}
    rows = [
        label(a, "fraud", 1),
        label(a, "legit", 2),
        label(b, "fraud", 1, "chargeback"),
        label(b, "legit", 3),
        label("nobody", "fraud", 1),
        label(c, "fraud", 90),
        card | {"key": "no such card"},
    ]
    path = written(rows, tmp_path / "labels.ndjson")
    at_ms = START_MS + 50 * DAY_MS
    found = report_labels(tiny_world.settings, path, tiny_world.transactions, at_ms, ignore)
    assert (found["labels"], found["of_entities"], found["transactions"]) == (6, 1, 3)
    assert (found["reversed"], found["conflicts"]) == (1, 1)
    assert found["conflict_examples"] == [{"transaction_id": b, "chargeback": "fraud", "analyst": "legit"}]
    assert (found["orphans"], found["orphan_examples"]) == (1, ["nobody"])
    assert found["orphan_entities"] == ["card no such card"]
    assert (found["seen"], found["labelled"], found["frauds"]) == (len(table), 2, 0)
    assert len(found["silences"]) == 1


def test_an_entity_that_the_event_type_has_not_is_named(tiny_world: TinyWorld, tmp_path: Path) -> None:
    row = {"entity": "planet", "key": "x", "label": "fraud", "known_at": START_MS, "from": 1}
    path = written([row], tmp_path / "labels.ndjson")
    with pytest.raises(ConfigError, match=r'^labels: entity "planet": .*card'):
        report_labels(tiny_world.settings, path, tiny_world.transactions, None, ignore)


def test_what_is_imported_twice_is_added_once(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    first = written([label("a", "fraud", 5), label("a", "fraud", 5)], tmp_path / "first.ndjson")
    second = written([label("a", "fraud", 5), label("b", "fraud", 3)], tmp_path / "second.ndjson")
    assert import_labels(first, ledger)["added"] == 1
    assert import_labels(first, ledger) == {"added": 0, "held": 2, "backdated": 0, "path": None}
    found = import_labels(second, ledger)
    assert (found["added"], found["held"], found["backdated"]) == (1, 1, 1)
    assert sorted(p.name for p in ledger.glob("*.*")) == ["labels-000001.parquet", "labels-000002.parquet"]
    assert read_ledger(ledger)["transaction_id"].to_pylist() == ["a", "b"]
    assert read_labels(ledger, {}).ids.to_pylist() == ["b", "a"]


def test_an_import_of_what_is_no_label_writes_nothing(tmp_path: Path) -> None:
    bad = written([label("a", "fraud", 5) | {"label": "maybe"}], tmp_path / "bad.ndjson")
    with pytest.raises(ConfigError, match="maybe"):
        import_labels(bad, tmp_path / "ledger")
    assert not (tmp_path / "ledger").exists()


def test_an_import_that_was_killed_or_is_under_way_harms_none(tmp_path: Path) -> None:
    new, ledger = written([label("a", "fraud", 5)], tmp_path / "new.ndjson"), tmp_path / "ledger"
    with Store(str(ledger)).lock(), pytest.raises(BusError, match="another process is writing it"):
        import_labels(new, ledger)
    (ledger / ".writing-labels-000001.parquet").write_bytes(b"PAR1")
    assert import_labels(new, ledger)["added"] == 1
    assert read_ledger(ledger)["transaction_id"].to_pylist() == ["a"]


def test_an_import_does_not_vanish_in_an_archive(tmp_path: Path) -> None:
    folder, ledger = tmp_path / "archive" / "labels", tmp_path / "ledger"
    archived = read_ledger(written([label("a", "fraud", 5)], tmp_path / "archived.ndjson"))
    Archive(Store(str(folder)), "fraud.labels").append({"2026-01-01": archived}, {}, {0: 1})
    new = written([label("b", "fraud", 5)], tmp_path / "new.ndjson")
    with pytest.raises(ConfigError, match="`fraudstream archive` alone"):
        import_labels(new, folder)
    assert [import_labels(each, ledger)["added"] for each in (folder, new)] == [1, 1]
    assert read_labels(ledger, {}).ids.to_pylist() == ["a", "b"]
