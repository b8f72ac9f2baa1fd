"""Where the Handbook's table is, for the benchmarks that need it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

DATA_VARIABLE = "FRAUDSTREAM_HANDBOOK"
WHERE_FROM = (
    "get the daily files of https://github.com/Fraud-Detection-Handbook/simulated-data-raw, write them as one "
    f"Parquet file, and name it in {DATA_VARIABLE} or with --data"
)


def add_data_option(options: argparse.ArgumentParser) -> None:
    """Let a benchmark be told where the table is."""
    options.add_argument(
        "--data", type=Path, help=f"the Handbook's table; default: what {DATA_VARIABLE} names"
    )


def data_of(chosen: argparse.Namespace, program: str) -> Path:
    """Return the table's path, or say where it is from and end."""
    data: Path = chosen.data or Path(os.environ.get(DATA_VARIABLE, "handbook.parquet"))
    if not data.is_file():
        print(f"{program}: {data}: no such file; {WHERE_FROM}", file=sys.stderr)
        sys.exit(2)
    return data
