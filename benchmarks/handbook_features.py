"""Every feature of every transaction of the Fraud Detection Handbook's table, computed twice and compared.

    python -m benchmarks.handbook_features --json

Prepares the table with `examples/handbook/`, replays all of it through the engine with that example's catalogue,
labels fed as they become known, and recomputes each column from the raw table without the engine
(`benchmarks/features_recomputed.py`). Values are equal where their bits are; NaN equals NaN. Exit code 1 where
any is not.

What is unfair: the recomputation knows the whole table, and computes one column after the other.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.features_recomputed import RawTable, Recomputation
from benchmarks.handbook_data import add_data_option, data_of
from benchmarks.machine import record, with_machine
from benchmarks.product import EXAMPLES, command, say
from fraudstream.bus.files import read_transactions
from fraudstream.decode import Decoder
from fraudstream.event import NUMERIC_TYPES, EventType
from fraudstream.features import FeatureEngine, Observed, build_catalog, new_engine
from fraudstream.features.labels import KnownLabel
from fraudstream.sections import Settings
from fraudstream.settings import load_settings


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    add_data_option(options)
    options.add_argument("--rows", type=int, help="only the first rows; default: all")
    options.add_argument(
        "--record", action="store_true", help="append the row to results/handbook_features.jsonl"
    )
    chosen = options.parse_args()
    data = data_of(chosen, "benchmarks.handbook_features")
    with tempfile.TemporaryDirectory(prefix="fraudstream-handbook-") as folder:
        result = with_machine(run(data, Path(folder), chosen.rows))
    if chosen.record:
        record("handbook_features", result)
    for name, (matched, mismatched) in result["features"].items():
        print(f"{name:52} {matched:10,} matched {mismatched:10,} mismatched", file=sys.stderr)
    if chosen.json:
        print(json.dumps(result))
    else:
        print("\n".join(f"{name:26} {value}" for name, value in result.items() if name != "features"))
    sys.exit(1 if result["mismatched"] else 0)


def run(data: Path, folder: Path, rows: int | None) -> dict[str, Any]:
    """Do all of it in an empty folder and return the figures."""
    say(f"preparing {data.name}")
    command([str(EXAMPLES / "handbook" / "prepare.py"), str(data), str(folder)])
    settings = load_settings(
        EXAMPLES / "handbook" / "fraudstream.toml", environment={}, overrides={"state.complete_from": "start"}
    )
    if rows is not None:
        for name in ("transactions", "labels"):
            path = folder / name / f"{name}.parquet"
            pq.write_table(pq.read_table(path).slice(0, rows), path)
    say("replaying it through the engine")
    catalog = build_catalog(settings.features, settings.event)
    engine = new_engine(settings, catalog)
    began_s = time.monotonic()
    observed = list(replayed(folder, settings, engine))
    engine_s = time.monotonic() - began_s
    flagged = sum(int((part.flags != 0).sum()) for part in observed)
    say(f"recomputing {len(catalog)} columns")
    began_s = time.monotonic()
    recomputation = Recomputation(raw_table(folder, settings))
    by_feature: dict[str, tuple[int, int]] = {}
    for column, feature in enumerate(catalog.features):
        given = np.concatenate([part.X[:, column] for part in observed])
        expected = recomputation.column(feature)
        wrong = int(
            (
                (given.view(np.int64) != expected.view(np.int64)) & ~(np.isnan(given) & np.isnan(expected))
            ).sum()
        )
        by_feature[feature.name] = len(given) - wrong, wrong
    recomputed_s = time.monotonic() - began_s
    transactions = sum(len(part.flags) for part in observed)
    return {
        "benchmark": "handbook_features",
        "mismatched": sum(wrong for _, wrong in by_feature.values()),
        "matched": sum(matched for matched, _ in by_feature.values()),
        "ratio_to_recomputation": round(recomputed_s / engine_s, 2),
        "transactions": transactions,
        "transactions_flagged": flagged,
        "replay_transactions_per_s": round(transactions / engine_s),
        "replay_s": round(engine_s, 1),
        "recomputation_s": round(recomputed_s, 1),
        "features": by_feature,
    }


def replayed(folder: Path, settings: Settings, engine: FeatureEngine) -> Iterator[Observed]:
    """Yield what the engine says of the transactions, each label learned before the batch it is known in."""
    labels = deque(known_labels(folder))
    decoder = Decoder(settings.event, engine.catalog.fields_used)
    for batch, rejected in read_transactions(folder / "transactions", decoder):
        assert not rejected, rejected[0]
        known = []
        while labels and labels[0].known_at_ms <= int(batch.time_ms[-1]):
            known.append(labels.popleft())
        engine.learn(known)
        yield engine.observe(batch)


def known_labels(folder: Path) -> list[KnownLabel]:
    """Return the labels in the order in which they become known."""
    table = pq.read_table(folder / "labels")
    columns = (table[name].to_pylist() for name in ("transaction_id", "label", "known_at"))
    labels = [
        KnownLabel(row, label == "fraud", known_at) for row, label, known_at in zip(*columns, strict=True)
    ]
    return sorted(labels, key=lambda label: label.known_at_ms)


def raw_table(folder: Path, settings: Settings) -> RawTable:
    """Return the prepared columns, read by nothing but numpy."""
    event = settings.event
    table = pq.read_table(folder / "transactions")
    columns = {name: table[event.source_of(name)].to_numpy() for name in event.fields}
    texts, codes = {}, {}
    for name in (n for n, field in event.fields.items() if field.type in ("id", "category")):
        values, codes[name] = np.unique(columns[name], return_inverse=True)
        texts[name] = [str(value) for value in values.tolist()]
    labels = pq.read_table(folder / "labels")
    ids = [str(value) for value in columns[event.id].tolist()]
    assert ids == labels["transaction_id"].to_pylist(), "a label for each transaction, in their order"
    return RawTable(
        event=event,
        time_ms=fixed_point(event, event.time, columns[event.time]),
        numbers={
            n: fixed_point(event, n, columns[n]) for n, f in event.fields.items() if f.type in NUMERIC_TYPES
        },
        codes=codes,
        texts=texts,
        fraud=np.array(labels["label"].to_pylist()) == "fraud",
        known_at_ms=labels["known_at"].to_numpy() + settings.labels.grace_ms,
    )


def fixed_point(event: EventType, name: str, column: Any) -> Any:
    """Return a numeric column in fixed point, a timestamp in Unix milliseconds."""
    field = event.fields[name]
    if field.type == "timestamp":
        return np.rint(column * field.unit_ms).astype(np.int64) + field.origin_ms
    return np.rint(column.astype(float) * 10**field.digits).astype(np.int64)


if __name__ == "__main__":
    main()
