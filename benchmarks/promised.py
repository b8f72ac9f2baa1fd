"""Promised against met false-positive rates on the weeks after training: the Handbook's table, and a simulated world.

    python -m benchmarks.promised --json

The Handbook: trained as of 2018-08-08, each label known 7 days late, then every week to the table's end. The
simulated world: trained as of day 98 with its late, incomplete and sometimes wrong labels, then the weeks after, in
which a fraud begins that the model has never seen; judged by those labels, and once more by the truth. Everything is
done by the product's own commands: train, replay, calibration.

Intervals are 95 %, for transactions of one card (or terminal, merchant, device) that come together. They say how well
a week tells its rate, not how well the validation window told the threshold: `thresholds` has that. Of 100 intervals
of a promise that holds exactly, five miss it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.handbook_data import add_data_option, data_of
from benchmarks.machine import record, with_machine
from benchmarks.product import EXAMPLES, command, environment_of, say

AS_OF = "2018-08-08"
START = datetime(2025, 1, 1, tzinfo=UTC)
DAYS, AS_OF_DAY = 154, 98
WORLD = ("--customers", "3000", "--days", str(DAYS), "--new-pattern-day", str(AS_OF_DAY), "--seed", "7")


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options.add_argument("--record", action="store_true", help="append the row to results/promised.jsonl")
    add_data_option(options)
    chosen = options.parse_args()
    data = data_of(chosen, "benchmarks.promised")
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="fraudstream-promised-") as folder:
        result |= handbook(data, Path(folder) / "handbook")
        result |= simulated(Path(folder) / "simulated")
    if chosen.record:
        record("promised", with_machine(result))
    if chosen.json:
        print(json.dumps(with_machine(result)))
    else:
        for name, found in result.items():
            print(f"\n{name}\n{table_of(found)}")


def handbook(data: Path, folder: Path) -> dict[str, Any]:
    """Return what came of the promises on the Handbook's weeks after training."""
    say(f"the Handbook: preparing {data.name}")
    command([str(EXAMPLES / "handbook" / "prepare.py"), str(data), str(folder)])
    run = Run(folder, ["-c", str(EXAMPLES / "handbook" / "fraudstream.toml")], AS_OF)
    return {"handbook": run.judged(folder / "labels")}


def simulated(folder: Path) -> dict[str, Any]:
    """Return what came of them in the simulated world, by the labels that a bank has and by the truth."""
    say("the simulated world: making it")
    command(["-m", "fraudstream", "simulate", "--to", str(folder), "--start", f"{START:%Y-%m-%d}", *WORLD])
    truth = pq.read_table(folder / "truth")
    known_at = pq.read_table(folder / "transactions", columns=["event_time"])["event_time"]
    said = pc.if_else(truth["is_fraud"], "fraud", "legit")
    (folder / "as-labels").mkdir()
    pq.write_table(
        pa.table({"transaction_id": truth["transaction_id"], "label": said, "known_at": known_at}),
        folder / "as-labels" / "truth.parquet",
    )
    run = Run(folder, [], f"{START + timedelta(days=AS_OF_DAY):%Y-%m-%d}")
    return {"simulated": run.judged(folder / "labels"), "simulated_truth": run.judged(folder / "as-labels")}


class Run:
    """A model trained as of a day and everything after that day scored.

    Args:
        folder: holds `transactions` and `labels`.
        config: arguments that name the settings.
        as_of: ISO 8601.
    """

    def __init__(self, folder: Path, config: list[str], as_of: str) -> None:
        self._config = config
        self._scored = folder / "scored.parquet"
        self._environment = environment_of(folder, 1) | {"FRAUDSTREAM_STATE__COMPLETE_FROM": "start"}
        files = ["--transactions", str(folder / "transactions"), "--labels", str(folder / "labels")]
        say(f"training as of {as_of}")
        self._trained = self._product("train", *files, "--as-of", as_of)
        say("scoring the weeks after it")
        self._product("replay", *files, "--from", as_of, "--output", str(self._scored))

    def judged(self, labels: Path) -> dict[str, Any]:
        """Return what `fraudstream calibration` says, with what stands behind the thresholds."""
        found = self._product("calibration", "--scored", str(self._scored), "--labels", str(labels))
        training = self._trained["training"]
        return found | {name: training[name] for name in ("windows", "rows", "frauds", "trees", "thresholds")}

    def _product(self, *arguments: str) -> Any:
        said = command(["-m", "fraudstream", *arguments, *self._config, "--json"], self._environment)
        return json.loads(said.splitlines()[-1])


def table_of(found: dict[str, Any]) -> str:
    """Return the weeks as a Markdown table."""
    rates = [f"{each['promised'] * 100:g} %" for each in found["all"]["false_positives"]]
    lines = [
        f"| week from | legitimate | {' | '.join(rates)} | frauds (expected) |",
        "| --- " * (len(rates) + 3) + "|",
    ]
    for period in (*found["weeks"], found["all"]):
        met = []
        for each in period["false_positives"]:
            rate, low, high = (each["met"][name] * 100 for name in ("rate", "low", "high"))
            met.append(
                f"{rate:.3f} ({low:.3f} to {high:.3f}){'' if each['kept'] == 'yes' else ' ' + each['kept']}"
            )
        begins, expected = period.get("from", "all")[:10], period["calibration"]["expected_frauds"]
        frauds = f"{period['frauds']:,} ({expected:,.0f})"
        lines.append(f"| {begins} | {period['legitimate']:,} | {' | '.join(met)} | {frauds} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
