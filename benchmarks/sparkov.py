"""A table in Sparkov's layout: a model as of 2020-06-21, judged on everything after that day.

    python -m benchmarks.sparkov --json

Prepares the table with `examples/sparkov/` (each label known 7 days late), trains as of that day, scores the rest by
`fraudstream replay`, and computes AUC and the recall at fixed false-positive rates, thresholds taken on the scored
transactions themselves. The day is where the well-known Kaggle set is cut into a file to train on and one to test on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.machine import record, with_machine
from benchmarks.product import EXAMPLES, command, environment_of, fraudstream, say
from fraudstream.scoring.quality import quality

DATA_VARIABLE = "FRAUDSTREAM_SPARKOV"
EXAMPLE = EXAMPLES / "sparkov"
AS_OF = "2020-06-21"


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options.add_argument("--data", type=Path, help=f"the table; default: what {DATA_VARIABLE} names")
    options.add_argument("--as-of", default=AS_OF, help="the day; default: that of the Kaggle set")
    options.add_argument("--until", help="first day that is left out; default: none is")
    options.add_argument("--record", action="store_true", help="append the row to results/sparkov.jsonl")
    chosen = options.parse_args()
    data = chosen.data or Path(os.environ.get(DATA_VARIABLE, "sparkov.parquet"))
    if not data.is_file():
        print(
            f"benchmarks.sparkov: {data}: no such file; name the table in {DATA_VARIABLE} or with --data",
            file=sys.stderr,
        )
        sys.exit(2)
    with tempfile.TemporaryDirectory(prefix="fraudstream-sparkov-") as folder:
        result = with_machine(run(data, Path(folder), chosen.as_of, chosen.until))
    if chosen.record:
        record("sparkov", result)
    for name, value in {} if chosen.json else result.items():
        print(f"{name:26} {value}")
    if chosen.json:
        print(json.dumps(result))


def run(data: Path, folder: Path, as_of: str, until: str | None) -> dict[str, Any]:
    """Do all of it in an empty folder and return the figures, those of the probability that a decision carries."""
    say(f"preparing {data.name}")
    command([str(EXAMPLE / "prepare.py"), str(data), str(folder)])
    files = [f"--{name}={folder / name}" for name in ("transactions", "labels")]
    environment, config = environment_of(folder, 1), EXAMPLE / "fraudstream.toml"
    say(f"training as of {as_of}")
    began_s = time.monotonic()
    trained = fraudstream("train", *files, "--as-of", as_of, environment=environment, config=config)
    train_s = time.monotonic() - began_s
    say("scoring what comes after it")
    scored, span = folder / "scored.parquet", ["--from", as_of, *(["--to", until] if until else [])]
    flags = [*files, *span, "--model", trained["path"], "--output", str(scored)]
    fraudstream("replay", *flags, environment=environment, config=config)
    table = pq.read_table(scored, columns=["transaction_id", "score", "raw_score"])
    labels = pq.read_table(folder / "labels", columns=["transaction_id", "label"]).to_pydict()
    known = dict(zip(labels["transaction_id"], labels["label"], strict=True))
    fraud = np.array([known[row] == "fraud" for row in table["transaction_id"].to_pylist()])
    return {
        "benchmark": "sparkov",
        **quality(fraud, table["score"].to_numpy()),
        "of_raw_score": quality(fraud, table["raw_score"].to_numpy()),
        "as_of": as_of,
        "transactions": len(fraud),
        "frauds": int(fraud.sum()),
        "train_s": round(train_s, 1),
        "validation": trained["metrics"],
        "training": trained["training"],
    }


if __name__ == "__main__":
    main()
