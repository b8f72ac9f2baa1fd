"""A table in Sparkov's layout (the well-known Kaggle set) -> what fraudstream reads: transactions and labels.

TABLE is a Parquet file with the columns unix_time (seconds), cc_num, merchant, category, amt, state and
is_fraud (0 or 1); its rows may stand in any order. Written are DIR/transactions/transactions.parquet (these
columns in time order, without is_fraud) and DIR/labels/labels.parquet (one label for each transaction, known
7 days after it). A transaction's id is trans_num: that of the table, or else its number in the time order.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

ID, TIME, FRAUD = "trans_num", "unix_time", "is_fraud"
IDS = [ID, "cc_num"]
COLUMNS = [TIME, "cc_num", "merchant", "category", "amt", "state", FRAUD]
KNOWN_AFTER_MS = 7 * 86_400_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", metavar="TABLE", type=Path, help="the Parquet file to read")
    parser.add_argument("dir", metavar="DIR", type=Path, help="the folder for transactions/ and labels/")
    arguments = parser.parse_args()
    try:
        table = read(arguments.table)
        write(table.drop_columns([FRAUD]), arguments.dir / "transactions")
        write(labels_of(table), arguments.dir / "labels")
    except (OSError, ValueError, pa.ArrowException) as error:
        print(f"prepare: {str(error).splitlines()[0]}", file=sys.stderr)
        sys.exit(2)
    print(f"{len(table)} transactions, {pc.sum(table[FRAUD]).as_py() or 0} frauds -> {arguments.dir}")


def read(path: Path) -> pa.Table:
    """Return the columns in time order, with an id; which row comes first in one second does not matter."""
    file = pq.ParquetFile(path)
    missing = [name for name in COLUMNS if name not in file.schema_arrow.names]
    if missing:
        raise ValueError(f"{path}: has no column {', '.join(missing)}; needed are {', '.join(COLUMNS)}")
    names = [*COLUMNS, ID] if ID in file.schema_arrow.names else COLUMNS
    table = file.read(names)
    columns = {}
    for name in names:
        try:
            columns[name] = plain(name, table[name])
        except (ValueError, pa.ArrowException) as error:
            raise ValueError(f"{path}: {name}: {error}") from None
    table = pa.table(columns).sort_by([(name, "ascending") for name in names if name != FRAUD])
    return table if ID in names else table.append_column(ID, pa.array(np.arange(len(table))))


def plain(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column with every value in place; ids that a tool has made floats are whole numbers again."""
    if empty := pc.sum(pc.is_null(column, nan_is_null=True)).as_py():
        raise ValueError(f"{empty} rows have none")
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    is_float = pa.types.is_floating(column.type)
    if name == TIME and pa.types.is_temporal(column.type):
        raise ValueError(f"is {column.type}; give seconds as numbers")
    if name == FRAUD:
        column = column.cast(pa.float64())
        if not pc.all(pc.is_in(column, pa.array([0.0, 1.0]))).as_py():
            raise ValueError("has other values than 0 and 1")
    whole = name == FRAUD or (name == TIME and not is_float) or (name in IDS and is_float)
    return column.cast(pa.int64()) if whole else column


def labels_of(table: pa.Table) -> pa.Table:
    time_ms = np.rint(table[TIME].to_numpy() * 1000.0).astype(np.int64)
    label = pc.if_else(pc.equal(table[FRAUD], 1), "fraud", "legit")
    known_at = pa.array(time_ms + KNOWN_AFTER_MS)
    source = pa.repeat("sparkov", len(table))
    columns = {"transaction_id": table[ID].cast(pa.string()), "label": label, "known_at": known_at}
    return pa.table({**columns, "source": source})


def write(table: pa.Table, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / f"{folder.name}.parquet", compression="zstd")


if __name__ == "__main__":
    main()
