"""The Handbook's chapters 5 to 7: four test weeks, each scored by a model trained on what was known before it.

Each fold trains as of its first day and scores its week by `fraudstream replay`; the figures of the four are
averaged. Of the book's ways to validate this is the prequential one, with its delay of 7 days and its rule which
cards still count (`benchmarks/handbook_figures.py`). Source: chapter 5, "Validation strategies", and the tables of
chapters 5 to 7; each figure beside ours is the best of all their models, which are different ones.
"""

from __future__ import annotations

import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.handbook_figures import TEST_DAYS, Table, figures
from benchmarks.product import EXAMPLES, command, environment_of, fraudstream, say
from fraudstream.event import parse_instant_ms

WEEKS = ("2018-08-08", "2018-08-15", "2018-08-22", "2018-08-29")
BEST_PUBLISHED = {"auc": 0.879, "average_precision": 0.694, "card_precision_100": 0.305}
SCORES = ("score", "raw_score")
DAY_MS = 86_400_000
ORIGIN_MS = parse_instant_ms("2018-04-01")


def prequential(data: Path, folder: Path) -> dict[str, Any]:
    """Do all of it in an empty folder and return the figures, each the mean of the folds."""
    say(f"preparing {data.name}")
    command([str(EXAMPLES / "handbook" / "prepare.py"), str(data), str(folder / "data")])
    table = table_of(folder / "data")
    folds = [fold(table, folder, week) for week in WEEKS]
    return {
        "benchmark": "handbook_prequential",
        **{name: float(np.mean([each[name] for each in folds])) for name in BEST_PUBLISHED},
        "best_published": BEST_PUBLISHED,
        "ceiling_measured": float(np.mean([each["ceiling_measured"] for each in folds])),
        "folds": folds,
    }


def fold(table: Table, folder: Path, week: str) -> dict[str, Any]:
    """Train as of a week's first day, score the week, and return the book's figures of both scores.

    The figures are those of the probability that a decision carries; of `raw_score` they are named so.
    """
    first_day = (parse_instant_ms(week) - ORIGIN_MS) // DAY_MS
    files = [f"--{name}={folder / 'data' / name}" for name in ("transactions", "labels")]
    environment = environment_of(folder, 1)
    say(f"training as of {week}")
    began_s = time.monotonic()
    trained = fraudstream("train", *files, "--as-of", week, environment=environment)
    train_s = time.monotonic() - began_s
    say("scoring the week after it")
    scored, until = folder / f"{week}.parquet", date.fromisoformat(week) + timedelta(days=TEST_DAYS)
    span = ["--from", week, "--to", str(until)]
    model = ["--model", trained["path"]]
    fraudstream("replay", *files, *span, *model, "--output", str(scored), environment=environment)
    again = pq.read_table(scored, columns=["transaction_id", *SCORES])
    ids = again["transaction_id"].to_pylist()
    by_score = {
        name: figures(table, first_day, dict(zip(ids, again[name].to_pylist(), strict=True)))
        for name in SCORES
    }
    return {
        "week": week,
        **by_score["score"],
        "of_raw_score": {name: by_score["raw_score"][name] for name in BEST_PUBLISHED},
        "train_s": round(train_s, 1),
        "training": trained["training"],
    }


def table_of(folder: Path) -> Table:
    """Return what `prepare.py` wrote, as the figures need it."""
    rows = pq.read_table(folder / "transactions")
    labels = pq.read_table(folder / "labels")
    day = rows["TX_TIME_SECONDS"].to_numpy() * 1000 // DAY_MS
    ids = rows["TRANSACTION_ID"].cast(pa.string()).to_pylist()
    assert ids == labels["transaction_id"].to_pylist(), "a label for each transaction, in their order"
    _, customer = np.unique(rows["CUSTOMER_ID"].to_numpy(), return_inverse=True)
    return Table(ids, day.astype(np.int64), customer, pc.equal(labels["label"], "fraud").to_numpy())
