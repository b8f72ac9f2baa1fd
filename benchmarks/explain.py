"""How long one row takes to be explained, beside LightGBM's own `pred_contrib`.

    python -m benchmarks.explain --json
    FRAUDSTREAM_HANDBOOK=handbook.parquet python -m benchmarks.explain --json --handbook

The two models of `benchmarks.scoring`, each measured in a process of its own, on one thread. `TreeShap.contributions`
and `Booster.predict(pred_contrib=True, num_threads=1)` take turns on the same rows, which the models were not trained
on; every figure is the median of the repetitions. `ratio_to_booster` says how many times as long LightGBM takes.

Both compute the same exact values, so that they are compared too: `largest_difference` between them, and
`largest_difference_of_sums` between a row's sum and its raw score.

What is unfair: the compiled explanation works with tables that are made once (`table_bytes`, and `tables_ms` from
trees that are read); LightGBM works with the model as it is.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from statistics import median
from typing import Any

import numpy as np

from benchmarks.machine import record, with_machine
from benchmarks.scoring_models import MODELS, add_handbook_options, handbook_of, load, measured
from benchmarks.scoring_turns import Contender, batches_of, us_a_row
from fraudstream.scoring.treeshap import compile_treeshap

ROWS_A_CALL = (1, 2, 8, 64)
ROWS_TIMED = 256
ROWS_COMPARED = 2_000


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options.add_argument("--record", action="store_true", help="append the row to results/explain.jsonl")
    add_handbook_options(options)
    options.add_argument("--repetitions", type=int, default=7)
    options.add_argument("--seed", type=int, default=7)
    chosen = options.parse_args()
    handbook = handbook_of(chosen, "benchmarks.explain")
    result = with_machine(run(handbook, chosen.repetitions, chosen.seed))
    if chosen.record:
        record("explain", result)
    if chosen.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:28} {value}")


def run(handbook: str | None, repetitions: int, seed: int) -> dict[str, Any]:
    """Make the models and measure."""
    with tempfile.TemporaryDirectory(prefix="fraudstream-bench-") as folder:
        made = measured("scoring_models:make", folder=folder, handbook=handbook, seed=seed)
        taken = {
            name: measured("explain:explained", folder=folder, name=name, repetitions=repetitions)
            for name in MODELS
        }
    figures = taken[next(iter(MODELS))]
    return {
        "benchmark": "explain",
        **{figure: {name: result[figure] for name, result in taken.items()} for figure in figures},
        "rows_compared": ROWS_COMPARED,
        **made,
        "repetitions": repetitions,
    }


def explained(folder: str, name: str, repetitions: int) -> dict[str, Any]:
    """Measure both on one model."""
    made = load(folder, name)
    tables_s = []
    for _ in range(repetitions):
        began_s = time.perf_counter()
        treeshap = compile_treeshap(made.trees)
        tables_s.append(time.perf_counter() - began_s)
    contenders = {
        "treeshap": Contender(treeshap.contributions),
        "booster": Contender(lambda X: made.booster.predict(X, pred_contrib=True, num_threads=1)),
    }
    us: dict[str, dict[str, float]] = {contender: {} for contender in contenders}
    for rows in ROWS_A_CALL:
        batches = batches_of(made.rows[:ROWS_TIMED], rows)
        for contender, spent in us_a_row(contenders, batches, repetitions).items():
            us[contender][str(rows)] = spent
    X = made.rows[:ROWS_COMPARED]
    parts, expected = (contender.answer(X) for contender in contenders.values())
    raw = made.booster.predict(X, raw_score=True, num_threads=1)
    return {
        "ratio_to_booster": {
            rows: round(us["booster"][rows] / us["treeshap"][rows], 2) for rows in us["booster"]
        },
        "us_a_row": us,
        "largest_difference": float(np.abs(parts - expected).max()),
        "largest_difference_of_sums": float(np.abs(parts.sum(axis=1) - raw).max()),
        "largest_difference_of_sums_of_booster": float(np.abs(expected.sum(axis=1) - raw).max()),
        "table_bytes": treeshap.nbytes,
        "tables_ms": round(1e3 * median(tables_s), 1),
    }


if __name__ == "__main__":
    main()
