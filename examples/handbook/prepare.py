"""A table of the Fraud Detection Handbook -> what fraudstream reads: transactions, and labels that come late.

    python prepare.py TABLE DIR

TABLE is a Parquet file with the columns TRANSACTION_ID, TX_TIME_SECONDS (seconds since 2018-04-01T00:00Z),
CUSTOMER_ID, TERMINAL_ID, TX_AMOUNT and TX_FRAUD (0 or 1), its rows in any order. Written are
DIR/transactions/transactions.parquet (those columns in time order, without TX_FRAUD) and
DIR/labels/labels.parquet (a label for each transaction, known 7 days after it).
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ID, TIME, FRAUD = "TRANSACTION_ID", "TX_TIME_SECONDS", "TX_FRAUD"
COLUMNS = [ID, TIME, "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT"]
TIES = [ID]  # the order of transactions of one second
ORIGIN_MS = 1_522_540_800_000  # 2018-04-01T00:00Z
KNOWN_AFTER_MS = 7 * 86_400_000
SOURCE = "handbook"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", metavar="TABLE", type=Path, help="Parquet file to read")
    parser.add_argument("dir", metavar="DIR", type=Path, help="folder to write transactions/ and labels/ into")
    arguments = parser.parse_args()
    try:
        table = read(arguments.table)
        transactions = table.drop_columns([FRAUD])
        write(transactions, arguments.dir / "transactions" / "transactions.parquet")
        write(labels_of(table), arguments.dir / "labels" / "labels.parquet")
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        print(f"prepare: {str(error).splitlines()[0]}", file=sys.stderr)
        sys.exit(2)
    print(f"{len(table)} transactions, {sum(table[FRAUD].to_pylist())} frauds -> {arguments.dir}")


def read(path: Path) -> pa.Table:
    """Return the needed columns in time order, the ids as text or whole numbers, TX_FRAUD as 0 or 1."""
    file = pq.ParquetFile(path)
    missing = [name for name in [*COLUMNS, FRAUD] if name not in file.schema_arrow.names]
    if missing:
        raise ValueError(f"{path}: has no column {', '.join(missing)}; needed are {', '.join([*COLUMNS, FRAUD])}")
    table = file.read([*COLUMNS, FRAUD]).select([*COLUMNS, FRAUD]).replace_schema_metadata()
    for number, name in enumerate(table.column_names):
        table = table.set_column(number, name, plain(path, name, table[name]))
    return table.sort_by([(name, "ascending") for name in [TIME, *TIES]])


def plain(path: Path, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column without dictionaries; a float that stands for an id becomes a whole number."""
    if column.null_count:
        raise ValueError(f"{path}: column {name} has {column.null_count} empty values; every row needs one")
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    try:
        if name == FRAUD:
            return column.cast(pa.int64()).cast(pa.bool_()).cast(pa.int64())
        if name in (TIME, "TX_AMOUNT"):
            return column.cast(pa.float64()) if pa.types.is_floating(column.type) else column.cast(pa.int64())
        return column.cast(pa.int64()) if pa.types.is_floating(column.type) else column
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: column {name}: {error}") from None


def labels_of(table: pa.Table) -> pa.Table:
    known_at = np.rint(table[TIME].to_numpy() * 1000.0).astype(np.int64) + ORIGIN_MS + KNOWN_AFTER_MS
    return pa.table({
        "transaction_id": table[ID].cast(pa.string()),
        "label": np.where(table[FRAUD].to_numpy() == 1, "fraud", "legit"),
        "known_at": known_at,
        "source": np.full(len(table), SOURCE),
    })  # fmt: skip


def write(table: pa.Table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd")


if __name__ == "__main__":
    main()
