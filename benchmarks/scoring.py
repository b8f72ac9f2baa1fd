"""How long one row takes to be scored, beside LightGBM's own ways and beside compilers of its trees.

    python -m benchmarks.scoring --json
    FRAUDSTREAM_HANDBOOK=handbook.parquet python -m benchmarks.scoring --json --handbook

Two models, 200 trees of 31 leaves and 300 of 63, trained on features of the project's own engine
(`scoring_models.py`), each measured in a process of its own, on one thread. Contenders take turns on the same rows,
which the models were not trained on, in calls of 1 to 4,096 rows; every figure is the median of the repetitions. A
ratio says how many times as long the other takes: below 1 the forest is the slower. What `Forest.raw_scores` is put
beside:

    ratio_to_booster            `Booster.predict(raw_score=True, num_threads=1)`
    ratio_to_single_row_fast    LightGBM's C call for one row, through ctypes; only calls of one row
    ratio_to_onnxruntime        ONNX Runtime on the model that onnxmltools converts
    ratio_to_tl2cgen            the trees as C, by tl2cgen and gcc

The last two are null, with the reason under `left_out`, where they are not installed:
`pip install onnxruntime onnxmltools tl2cgen treelite` installs them, and tl2cgen needs gcc.

Then the forest's scores are compared with LightGBM's, bit for bit, on rows that are real, moved a little, put on
thresholds and beside them, or missing in part: `differing_bits`, untimed, on all cores.

What is unfair: ONNX Runtime computes in float32, which is less work and gives other scores (`largest_difference`).
Its float32 rows, tl2cgen's DMatrix and the addresses for the C call are made before the clock starts, in their
favour. `Booster.predict` checks its input and reads its parameters in Python at every call, which is most of a call
of one row; the C call leaves that out. All find their trees in the cache, which they would not in a worker that does
other things between two calls.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks.machine import record, with_machine
from benchmarks.scoring_cases import ROWS_A_CALL
from benchmarks.scoring_models import MODELS, add_handbook_options, handbook_of, measured
from benchmarks.scoring_others import PACKAGES

OTHERS = ("booster", "single_row_fast", "onnxruntime", "tl2cgen")


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options.add_argument("--record", action="store_true", help="append the row to results/scoring.jsonl")
    add_handbook_options(options)
    options.add_argument(
        "--rows", type=int, default=10_000_000, help="compared bit for bit (default: %(default)s)"
    )
    options.add_argument("--repetitions", type=int, default=7)
    options.add_argument("--seed", type=int, default=7)
    chosen = options.parse_args()
    handbook = handbook_of(chosen, "benchmarks.scoring")
    result = run(handbook, chosen.rows, chosen.repetitions, chosen.seed)
    result = with_machine(result, *filter(installed, PACKAGES))
    if chosen.record:
        record("scoring", result)
    if chosen.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:26} {value}")


def installed(package: str) -> bool:
    """Tell whether a package is there."""
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def run(handbook: str | None, rows: int, repetitions: int, seed: int) -> dict[str, Any]:
    """Make the models, measure and compare."""
    with tempfile.TemporaryDirectory(prefix="fraudstream-bench-") as folder:
        made = measured("scoring_models:make", folder=folder, handbook=handbook, seed=seed)
        timed = {
            name: measured("scoring_cases:speed", folder=folder, name=name, repetitions=repetitions)
            for name in MODELS
        }
        compared = {
            name: measured("scoring_cases:differing", folder=folder, name=name, rows=rows, seed=seed)
            for name in MODELS
        }
    left_out: dict[str, str] = timed[next(iter(MODELS))]["left_out"]
    print(
        table(timed),
        *(f"{name} is left out: {why}" for name, why in left_out.items()),
        sep="\n",
        file=sys.stderr,
    )
    return {
        "benchmark": "scoring",
        **{
            f"ratio_to_{other}": None
            if other in left_out
            else {name: ratios(result["us_a_row"], other) for name, result in timed.items()}
            for other in OTHERS
        },
        "us_a_row": {name: result["us_a_row"] | dict.fromkeys(left_out) for name, result in timed.items()},
        "differing_bits": {name: result["differing_bits"] for name, result in compared.items()},
        "rows_compared": rows,
        "largest_difference": {name: result["largest_difference"] for name, result in timed.items()},
        "left_out": left_out,
        **made,
        "repetitions": repetitions,
    }


def ratios(us: dict[str, dict[str, float]], other: str) -> dict[str, float]:
    """Return how many times longer another contender takes than the forest, by rows a call."""
    return {rows: round(taken / us["forest"][rows], 2) for rows, taken in us[other].items()}


def table(timed: dict[str, dict[str, Any]]) -> str:
    """Return the microseconds a row for a person."""
    lines = [f"{'us a row, by rows a call':34}" + "".join(f"{rows:>10,}" for rows in ROWS_A_CALL)]
    for name, result in timed.items():
        for contender, us in result["us_a_row"].items():
            cells = "".join(f"{us.get(str(rows), '-'):>10}" for rows in ROWS_A_CALL)
            lines.append(f"{name + ' ' + contender:34}{cells}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
