"""`fraudstream labels`: the ledger from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq

from tests.cli.running import fraudstream
from tests.worlds import TinyWorld


def test_labels_go_into_a_ledger_once_and_the_report_names_conflicts_and_orphans(
    tiny_world: TinyWorld, tmp_path: Path
) -> None:
    rows = pq.read_table(tiny_world.transactions, columns=["transaction_id", "event_time"]).slice(0, 2)
    known, other = rows["transaction_id"].to_pylist()
    at_ms = rows["event_time"][1].as_py() + 1000
    told = [
        {"transaction_id": known, "label": "fraud", "known_at": at_ms, "source": "chargeback"},
        {"transaction_id": known, "label": "legit", "known_at": at_ms + 1, "source": "analyst"},
        {"transaction_id": other, "label": "fraud", "known_at": at_ms + 2, "source": "analyst"},
        {"transaction_id": "unheard of", "label": "fraud", "known_at": at_ms + 3, "source": "analyst"},
    ]
    (tmp_path / "labels.ndjson").write_text("".join(json.dumps(row) + "\n" for row in told))
    into = ("labels", "import", "--labels", tmp_path / "labels.ndjson", "--to", tmp_path / "ledger")
    first, again = fraudstream(*into, "--json"), fraudstream(*into)
    assert (first.code, again.code) == (0, 0), (first.err, again.err)
    assert (first.last_object()["added"], first.last_object()["held"]) == (4, 0)
    assert again.out == "0 added, 4 held already, 0 backdated\n"

    files = ("--labels", tmp_path / "ledger", "--transactions", tiny_world.transactions)
    report = fraudstream("labels", "report", *files, "--json", "-c", tiny_world.config)
    assert report.code == 0, report.err
    found = report.last_object()
    assert (found["conflicts"], found["orphans"]) == (1, 1)
    plain = fraudstream("labels", "report", *files, "-c", tiny_world.config)
    assert "analyst: fraud 2\n" in plain.out
    assert "unheard of" in plain.out


def test_what_is_no_label_is_named_in_one_line_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "labels.ndjson").write_text('{"transaction_id": "a", "label": "maybe", "known_at": 1}\n')
    refused = fraudstream(
        "labels", "import", "--labels", tmp_path / "labels.ndjson", "--to", tmp_path / "ledger"
    )
    assert refused.code == 2
    assert "maybe" in refused.one_line()
    assert not list(tmp_path.glob("ledger/*.parquet"))
