"""Small made-up tables in the columns of the two examples, and how a test runs an example's prepare.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NAMES = ("handbook", "sparkov")
DAY_S = 86_400
SPARKOV_START_S = 1_577_836_800  # 2020-01-01
CATEGORIES = ["gas_transport", "grocery_pos", "shopping_net", "travel"]


def handbook_table(rows: int = 300, days: int = 40, seed: int = 5) -> pa.Table:
    """Return a Handbook table in time order; frauds have large amounts."""
    random = np.random.default_rng(seed)
    fraud = random.random(rows) < 0.05
    return pa.table(
        {
            "TRANSACTION_ID": pa.array(np.arange(rows) + 700, pa.int32()),
            "TX_TIME_SECONDS": pa.array(np.sort(random.integers(0, days * DAY_S, rows)), pa.int32()),
            "CUSTOMER_ID": pa.array(random.integers(0, 20, rows), pa.int16()),
            "TERMINAL_ID": pa.array(random.integers(0, 30, rows), pa.int16()),
            "TX_AMOUNT": amounts(fraud, random),
            "TX_FRAUD": pa.array(fraud.astype(np.int8)),
            "TX_FRAUD_SCENARIO": pa.array(fraud.astype(np.int8)),
        }
    )


def sparkov_table(rows: int = 300, days: int = 40, seed: int = 5) -> pa.Table:
    """Return a table in Sparkov's layout in time order, with dictionaries; frauds have large amounts."""
    random = np.random.default_rng(seed)
    fraud = random.random(rows) < 0.05
    merchants = pa.array([f"fraud_Shop, {number}" for number in random.integers(0, 9, rows)])
    return pa.table(
        {
            "unix_time": pa.array(SPARKOV_START_S + np.sort(random.integers(0, days * DAY_S, rows))),
            "cc_num": pa.array(4_989_103_909_120_300_000 + random.integers(0, 20, rows)),
            "merchant": merchants.dictionary_encode(),
            "category": pa.array(random.choice(CATEGORIES, rows)).dictionary_encode(),
            "amt": amounts(fraud, random),
            "state": pa.array(random.choice(["CA", "NY"], rows)).dictionary_encode(),
            "is_fraud": pa.array(fraud.astype(np.int8)),
        }
    )


def amounts(fraud: np.ndarray, random: np.random.Generator) -> pa.Array:
    return pa.array(np.round(random.gamma(4.0, 10.0, len(fraud)) + 300.0 * fraud, 2))


TABLES = {"handbook": handbook_table, "sparkov": sparkov_table}


def prepare(example: str, table: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run an example's prepare.py as a person does, from a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        [sys.executable, str(EXAMPLES / example / "prepare.py"), str(table), str(folder / "out")],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def prepared(example: str, table: pa.Table, folder: Path) -> tuple[pa.Table, pa.Table]:
    """Prepare a table; return the transactions and the labels that were written."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / "table.parquet")
    ended = prepare(example, folder / "table.parquet", folder)
    assert ended.returncode == 0, ended.stderr
    return pq.read_table(folder / "out" / "transactions"), pq.read_table(folder / "out" / "labels")
