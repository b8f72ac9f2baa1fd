"""The examples' prepare.py: what it writes is the table's content, whatever the order and types it comes in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.examples.tables import EXAMPLES, NAMES, TABLES, handbook_table, prepare, prepared, sparkov_table

WEEK_MS = 7 * 86_400_000
ORIGIN_MS = {"handbook": 1_522_540_800_000, "sparkov": 0}
TIME = {"handbook": "TX_TIME_SECONDS", "sparkov": "unix_time"}
FRAUD = {"handbook": "TX_FRAUD", "sparkov": "is_fraud"}
ID = {"handbook": "TRANSACTION_ID", "sparkov": "trans_num"}
AMOUNT = {"handbook": "TX_AMOUNT", "sparkov": "amt"}


def shuffled(table: pa.Table) -> pa.Table:
    return table.take(np.random.default_rng(1).permutation(len(table)))


def replaced(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, column)


@pytest.mark.parametrize("example", NAMES)
def test_transactions_keep_their_values_in_time_order_and_say_nothing_of_fraud(
    example: str, tmp_path: Path
) -> None:
    table = TABLES[example]()
    transactions, _ = prepared(example, table, tmp_path)
    assert FRAUD[example] not in transactions.column_names
    assert "TX_FRAUD_SCENARIO" not in transactions.column_names
    assert bool(np.all(np.diff(transactions[TIME[example]].to_numpy()) >= 0))
    for name in set(transactions.column_names) & set(table.column_names):
        assert sorted(transactions[name].to_pylist()) == sorted(table[name].to_pylist())


@pytest.mark.parametrize("example", NAMES)
def test_each_transaction_has_one_label_known_seven_days_later(example: str, tmp_path: Path) -> None:
    table = TABLES[example]()
    transactions, labels = prepared(example, table, tmp_path)
    assert labels["transaction_id"].to_pylist() == [str(i) for i in transactions[ID[example]].to_pylist()]
    assert labels.schema.field("transaction_id").type == pa.string()
    assert labels.schema.field("known_at").type == pa.int64()
    time_ms = transactions[TIME[example]].to_numpy().astype(np.int64) * 1000 + ORIGIN_MS[example]
    assert labels["known_at"].to_pylist() == (time_ms + WEEK_MS).tolist()
    assert set(labels["label"].to_pylist()) == {"fraud", "legit"}
    assert set(labels["source"].to_pylist()) == {example}
    frauds = pc.filter(transactions[AMOUNT[example]], pc.equal(labels["label"], "fraud"))
    expected = pc.filter(table[AMOUNT[example]], pc.equal(table[FRAUD[example]], 1))
    assert sorted(frauds.to_pylist()) == sorted(expected.to_pylist())


@pytest.mark.parametrize("example", NAMES)
def test_the_order_of_the_rows_does_not_matter(example: str, tmp_path: Path) -> None:
    table = TABLES[example](rows=400, days=1)  # many in one second are unlikely, some are there
    same_time = pa.array(table[TIME[example]].to_numpy() // 600 * 600)
    table = replaced(table, TIME[example], same_time)
    ordered = prepared(example, table, tmp_path / "ordered")
    mixed = prepared(example, shuffled(table), tmp_path / "mixed")
    assert mixed[0].equals(ordered[0])
    assert mixed[1].equals(ordered[1])


@pytest.mark.parametrize("example", NAMES)
def test_a_slice_gives_the_same_rows_as_the_whole(example: str, tmp_path: Path) -> None:
    table = TABLES[example]()
    transactions, labels = prepared(example, table.slice(100, 50), tmp_path / "slice")
    whole, _ = prepared(example, table, tmp_path / "whole")
    kept = [name for name in transactions.column_names if name != "trans_num"]
    assert transactions.select(kept).equals(whole.slice(100, 50).select(kept))
    assert len(labels) == 50


def test_ids_may_be_text_and_whole_numbers_may_come_as_floats(tmp_path: Path) -> None:
    table = handbook_table()
    plain, plain_labels = prepared("handbook", table, tmp_path / "plain")
    floats = table
    for name in ("TRANSACTION_ID", "TX_TIME_SECONDS", "CUSTOMER_ID", "TERMINAL_ID", "TX_FRAUD"):
        floats = replaced(floats, name, table[name].cast(pa.float64()))
    transactions, labels = prepared("handbook", floats, tmp_path / "floats")
    assert transactions.to_pylist() == plain.to_pylist()
    assert labels.equals(plain_labels)
    texts = replaced(table, "TX_TIME_SECONDS", table["TX_TIME_SECONDS"].cast(pa.string()))
    transactions, _ = prepared("handbook", texts, tmp_path / "time")
    assert transactions.to_pylist() == plain.to_pylist()
    named = pc.binary_join_element_wise("T", table["TRANSACTION_ID"].cast(pa.string()), "-")
    transactions, labels = prepared("handbook", replaced(table, "TRANSACTION_ID", named), tmp_path / "text")
    assert transactions["TRANSACTION_ID"].to_pylist() == [
        f"T-{i}" for i in plain["TRANSACTION_ID"].to_pylist()
    ]
    assert labels["transaction_id"].to_pylist() == transactions["TRANSACTION_ID"].to_pylist()


def test_fractions_of_a_second_round_to_milliseconds(tmp_path: Path) -> None:
    table = handbook_table(rows=2)
    table = replaced(table, "TX_TIME_SECONDS", pa.array([0.25, 1.5004]))
    _, labels = prepared("handbook", table, tmp_path)
    assert labels["known_at"].to_pylist() == [ORIGIN_MS["handbook"] + WEEK_MS + ms for ms in (250, 1500)]


def test_sparkov_rows_are_numbered_in_time_order_unless_the_table_has_ids(tmp_path: Path) -> None:
    table = sparkov_table()
    transactions, _ = prepared("sparkov", shuffled(table), tmp_path / "without")
    assert transactions["trans_num"].to_pylist() == list(range(len(table)))
    ids = [f"x{number}" for number in range(len(table))]
    table = table.append_column("trans_num", pa.array(ids))
    transactions, labels = prepared("sparkov", shuffled(table), tmp_path / "with")
    assert sorted(transactions["trans_num"].to_pylist()) == sorted(ids)
    assert labels["transaction_id"].to_pylist() == transactions["trans_num"].to_pylist()


BROKEN: dict[str, tuple[dict[str, str], Callable[[pa.ChunkedArray], pa.Array] | None]] = {
    "no amount": (AMOUNT, None),
    "no label": (FRAUD, None),
    "label 2": (FRAUD, lambda column: pa.array([2] * len(column))),
    "label as text": (FRAUD, lambda column: pa.array(["no"] * len(column))),
    "label as lists": (FRAUD, lambda column: pa.array([[1]] * len(column))),
    "time as text": (TIME, lambda column: pa.array(["noon"] * len(column))),
    "time as dates": (TIME, lambda column: column.cast(pa.int64()).cast(pa.timestamp("s"))),
    "time empty": (TIME, lambda column: pa.array([None] * len(column), pa.int64())),
    "time NaN": (TIME, lambda column: pa.array([float("nan")] * len(column))),
}


@pytest.mark.parametrize("example", NAMES)
@pytest.mark.parametrize("broken", BROKEN)
def test_a_table_that_does_not_fit_is_refused_in_one_line_that_names_the_column(
    example: str, broken: str, tmp_path: Path
) -> None:
    named, change = BROKEN[broken]
    name, table = named[example], TABLES[example](rows=20)
    changed = table.drop_columns([name]) if change is None else replaced(table, name, change(table[name]))
    pq.write_table(changed, tmp_path / "table.parquet")
    ended = prepare(example, tmp_path / "table.parquet", tmp_path)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    assert name in ended.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("example", NAMES)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(example: str, tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("not Parquet at all")
    for table in (tmp_path / "text.parquet", tmp_path / "absent.parquet", tmp_path):
        ended = prepare(example, table, tmp_path / "run")
        assert ended.returncode == 2
        assert len(ended.stderr.splitlines()) == 1
        assert ended.stderr.startswith("prepare: ")


@pytest.mark.parametrize("example", NAMES)
def test_help_says_which_columns_are_read(example: str) -> None:
    script = str(EXAMPLES / example / "prepare.py")
    ended = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=True)
    for name in TABLES[example](rows=1).column_names:
        if name != "TX_FRAUD_SCENARIO":
            assert name in ended.stdout
