"""How fast a training set is built from files, and how much memory it takes.

    python -m benchmarks.training --json                10 million simulated transactions
    python -m benchmarks.training --transactions 1000000

Each case runs in a process of its own on one core, from Parquet files to the features and labels of all that is
mature, by the code of `fraudstream train`: `sampled` keeps at most `training.negatives_max` legitimate transactions
before the validation window, `everything` (with --everything) all of them. Kernels are compiled before the clock
starts. `transactions_cpu_s` is by seconds of the CPU, so that neighbours on the machine do not count. `peak_mb` is
the most that the process held, `dataset_mb` the features that it kept.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
from pathlib import Path
from time import process_time
from typing import Any

from benchmarks.features_process import run_function, say
from benchmarks.machine import record, with_machine
from fraudstream.clock import monotonic_s
from fraudstream.features import build_catalog, new_engine
from fraudstream.ledger import read_labels
from fraudstream.settings import load_settings
from fraudstream.simulate import DAY_MS, WorldConfig, simulate
from fraudstream.simulate.write import write_world
from fraudstream.stream.build import warm_kernels
from fraudstream.training.dataset import Sampling, dataset_as_of

DAYS, A_DAY = 60, 2.0
SAMPLED = "sampled"


def main() -> None:
    """Measure, and print."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options.add_argument("--record", action="store_true", help="append the row to results/training.jsonl")
    options.add_argument("--transactions", type=int, default=10_000_000, help="how many, about")
    options.add_argument("--everything", action="store_true", help="also without sampling")
    chosen = options.parse_args()
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        made = run_function(
            "benchmarks.training:world", folder=folder, customers=round(chosen.transactions / DAYS / A_DAY)
        )
        cases = (SAMPLED, "everything") if chosen.everything else (SAMPLED,)
        for case in cases:
            result[case] = run_function(
                "benchmarks.training:build", folder=folder, sampled=case == SAMPLED, end_ms=made["end_ms"]
            )
            say(json.dumps(result[case]))
    row = with_machine(result)
    if chosen.record:
        record("training", row)
    if chosen.json:
        print(json.dumps(row))


def world(folder: str, customers: int) -> dict[str, Any]:
    """Write a simulated world; return how many transactions it has."""
    config = WorldConfig(customers=customers, merchants=max(400, customers // 20), days=DAYS)
    made = simulate(config)
    write_world(made, Path(folder), "parquet")
    return {"transactions": len(made.transactions), "end_ms": config.start_ms + DAYS * DAY_MS}


def build(folder: str, sampled: bool, end_ms: int) -> dict[str, Any]:
    """Build the training set as of a month after the world's end, when all is mature."""
    settings = load_settings(None, environment={}, overrides={"state.complete_from": "start"})
    catalog = build_catalog(settings.features, settings.event)
    labels = read_labels(Path(folder) / "labels", settings.labels.ranks)
    known = labels.as_of(end_ms + settings.labels.maturity_ms)
    training = settings.training
    sampling = Sampling(
        training.negatives_max, end_ms - training.validation_days * DAY_MS, training.seed
    ) if sampled else None  # fmt: skip
    warm_kernels(catalog, settings)
    rows = 0

    def counted(what: str, more: int, total: int | None) -> None:
        nonlocal rows
        rows += more

    began_s, began_cpu_s = monotonic_s(), process_time()
    data = dataset_as_of(
        Path(folder) / "transactions", known, new_engine(settings, catalog), (0, end_ms), counted, sampling
    )
    took_s, took_cpu_s = monotonic_s() - began_s, process_time() - began_cpu_s
    return {
        "transactions": rows,
        "seconds": round(took_s, 1),
        "transactions_s": round(rows / took_s),
        "transactions_cpu_s": round(rows / took_cpu_s),
        "kept": len(data.fraud),
        "share": data.share,
        "features": len(catalog.names),
        "dataset_mb": round(data.X.nbytes / 1e6),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


if __name__ == "__main__":
    main()
