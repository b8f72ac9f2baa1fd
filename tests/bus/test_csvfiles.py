"""CSV files are read as NDJSON files with the same values are."""

from __future__ import annotations

import csv
import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.bus.files import columns_of, count_rows, read_table, read_transactions
from fraudstream.bus.lookup import rows_of
from fraudstream.decode import Decoder
from fraudstream.errors import ConfigError
from fraudstream.event import EventType, Field, check_event

EVENT = EventType(
    id="transaction_id",
    time="event_time",
    amount="amount",
    fields={
        "transaction_id": Field(type="id", source="Ref", required=True),
        "event_time": Field(type="timestamp", unit="s", required=True),
        "card_id": Field(type="id", required=True),
        "amount": Field(type="amount", required=True),
        "cents": Field(type="amount", unit="minor"),
        "fee": Field(type="number"),
        "items": Field(type="integer"),
        "recurring": Field(type="boolean"),
        "channel": Field(type="category", default="pos"),
    },
    entities={"card": "card_id"},
)
check_event(EVENT)
DECODER = Decoder(EVENT, set(EVENT.fields))
HEADER = "Ref,event_time,card_id,amount"

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
rows = st.fixed_dictionaries(
    {
        "Ref": st.one_of(texts, st.just("0042"), st.just("")),
        "event_time": st.one_of(
            st.integers(1_600_000_000, 1_700_000_000),
            st.just(1_650_000_000.25),
            st.sampled_from(["2024-05-01T10:00:00Z", "2024-05-01 10:00:00", "yesterday", ""]),
        ),
        "card_id": texts,
        "amount": st.one_of(st.decimals(0, 9999, places=2).map(str), st.sampled_from(["-1", "much", ""])),
        "cents": st.one_of(st.integers(0, 10**6), st.sampled_from(["1.5", ""])),
        "fee": st.one_of(st.decimals(-99, 99, places=3).map(float), st.just("")),
        "items": st.one_of(st.integers(-5, 5), st.just("two"), st.just("")),
        "recurring": st.one_of(st.booleans(), st.just("maybe"), st.just("")),
        "channel": st.one_of(st.just(""), texts),
    }
)


def read(file: Path, rows_a_batch: int) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the good rows, in event order, and the places of the bad ones."""
    good, bad = [], []
    for batch, rejected in read_transactions(file, DECODER, rows_a_batch):
        for i in range(len(batch)):
            plain = {name: int(column[i]) for name, column in batch.measures.items()}
            good.append({"time": int(batch.time_ms[i]), **plain, **{n: c[i] for n, c in batch.texts.items()}})
        bad += [each.row for each in rejected]
    return good, bad


def as_json(value: Any) -> Any:
    if value == "1.5":  # of minor units: no whole number, in JSON as in CSV
        return 1.5
    return None if value == "" else value


@given(st.lists(rows, min_size=1, max_size=12), st.integers(1, 5))
def test_a_csv_file_and_an_ndjson_file_give_the_same_transactions(
    table: list[dict[str, Any]], rows_a_batch: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        one, other = Path(folder, "rows.csv"), Path(folder, "rows.ndjson")
        with one.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
        lines = [json.dumps({name: as_json(value) for name, value in row.items()}) for row in table]
        other.write_text("".join(line + "\n" for line in lines), "utf-8")
        assert read(one, rows_a_batch) == read(other, rows_a_batch)
        assert columns_of(one) == columns_of(other)


def file_of(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "rows.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_a_row_of_another_length_is_rejected_with_its_reason_and_the_others_are_taken(tmp_path: Path) -> None:
    file = file_of(
        tmp_path, f"\ufeff{HEADER}\r\na,1650000000,c,1.00\r\n\r\nb,1650000001,c\r\nd,1650000002,c,3\r\n"
    )
    ((batch, (bad,)),) = read_transactions(file, DECODER)
    assert batch.ids == ["a", "d"]
    assert (bad.row, str(bad.error)) == (1, "$: has 3 cells; the first line has 4")


def test_progress_counts_the_lines(tmp_path: Path) -> None:
    assert count_rows(file_of(tmp_path, f"{HEADER}\na,1650000000,c,1\n")) == 2


@pytest.mark.parametrize(
    ("text", "encoding", "said"),
    [
        ("", "utf-8", "the first line has to name the columns"),
        ("Ref,Ref\n1,2\n", "utf-8", "the first line has to name the columns, each once"),
        ("a,b\n1,2\n", "utf-8", "has none of the columns Ref, event_time, card_id, amount"),
        ("Ref,event_time,card_id\na,1650000000,c\n", "utf-8", "$.amount: the table has no such column"),
        (f'{HEADER}\na,1650000000,"c"x,1\n', "utf-8", "is not CSV"),
        (f'{HEADER}\na,1650000000,"c,1\n', "utf-8", "is not CSV"),
        (f"{HEADER}\na,1650000000,é,1\n", "latin-1", "is not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_what_is_wrong(
    tmp_path: Path, text: str, encoding: str, said: str
) -> None:
    file = file_of(tmp_path, text, encoding)
    with pytest.raises(ConfigError) as caught:
        list(read_transactions(file, DECODER))
    assert str(caught.value).startswith(f"{file}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_labels_come_from_csv_with_their_types(tmp_path: Path) -> None:
    file = file_of(
        tmp_path, "transaction_id,label,known_at,why\n007,fraud,1650000000000,x\n8,legit,1650000000001,\n"
    )
    columns = {
        "transaction_id": pa.large_string(),
        "label": pa.string(),
        "known_at": pa.int64(),
        "source": pa.string(),
    }
    assert read_table(file, columns, ("source",)).to_pylist() == [
        {"transaction_id": "007", "label": "fraud", "known_at": 1650000000000, "source": None},
        {"transaction_id": "8", "label": "legit", "known_at": 1650000000001, "source": None},
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("transaction_id,label\na,fraud\n", "has no column known_at"),
        ("transaction_id,label,known_at\na,fraud,soon\n", "soon"),
        ("transaction_id,label,known_at\na,fraud\n", "row 1 has 2 cells; the first line has 3"),
    ],
)
def test_labels_that_are_none_are_named_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    file = file_of(tmp_path, text)
    columns = {"transaction_id": pa.large_string(), "label": pa.string(), "known_at": pa.int64()}
    with pytest.raises(ConfigError, match=said):
        read_table(file, columns)


def test_one_transaction_is_not_looked_up_in_csv(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Parquet and NDJSON files only"):
        list(rows_of(file_of(tmp_path, f"{HEADER}\na,1650000000,c,1\n"), "a"))
