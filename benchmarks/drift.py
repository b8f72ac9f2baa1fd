"""A fraud that nobody has seen before: what is caught of it before labels, with labels, and after retraining.

    python -m benchmarks.drift --json

The simulated world's new pattern (by night, at newly opened shops) begins on day 112. Four models meet it, all made
and run by the product's own commands, with the labels as late, incomplete and sometimes wrong as a bank has them:

- `old`: trained on the day before the pattern begins, and never again.
- `retrained`: that one, replaced every two weeks. `labels.maturity` is 30 days, so the third retraining, on day 42 of
  the pattern, is the first whose window has the pattern in it, its first twelve days.
- `from the start`: trained on day 42 of the pattern in a world of the same seed in which it has been there from the
  first day; it scores the same transactions as the others.

Recall is the share of the pattern's frauds (by the truth) that alert. `old` shows how far features that labels feed
help by themselves: in the first week no label is there for them, after the fourth they know most of what is reported.
The last four weeks compare the models after that retraining. False-positive rates are by the truth, too.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.machine import record, with_machine
from benchmarks.product import command, environment_of, say
from fraudstream.console.charts import Axis, drawing, share_axis

START = datetime(2025, 1, 1, tzinfo=UTC)
BEGINS, EVERY, RETRAINED, ENDS = 112, 14, 42, 70  # a day of the world; then days since that one
PATTERN = "new_pattern"
ALERTING = ("review", "decline")
DRAWN = Path(__file__).parents[1] / "docs" / "images" / "drift.svg"

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Decided:
    """Scored transactions with the truth; each column has one entry a row.

    Attributes:
        day: since the pattern began.
        fraud, pattern, alerted: what it is, whether it is of the pattern, what was decided.
    """

    day: npt.NDArray[np.float64]
    fraud: Flags
    pattern: Flags
    alerted: Flags

    def between(self, first: float, end: float) -> Decided:
        """Return the transactions of days [first, end)."""
        rows = (self.day >= first) & (self.day < end)
        return Decided(self.day[rows], self.fraud[rows], self.pattern[rows], self.alerted[rows])

    def figures(self) -> dict[str, Any]:
        """Return what was caught of the pattern and of the other frauds, and the false-positive rate."""
        other = self.fraud & ~self.pattern
        return {
            "pattern_frauds": int(self.pattern.sum()),
            "recall_pattern": round(float(self.alerted[self.pattern].mean()), 4),
            "recall_other": round(float(self.alerted[other].mean()), 4),
            "fpr": round(float(self.alerted[~self.fraud].mean()), 5),
        }


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--customers", type=int, default=3000)
    options.add_argument("--seed", type=int, default=7)
    options.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options.add_argument("--draw", action="store_true", help=f"write docs/images/{DRAWN.name}")
    options.add_argument("--record", action="store_true", help="append the row to results/drift.jsonl")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="fraudstream-drift-") as folder:
        result = with_machine(run(Path(folder), chosen.customers, chosen.seed))
    if chosen.record:
        record("drift", result)
    if chosen.draw:
        DRAWN.write_text(drawn(result["weeks"]), "utf-8")
    if chosen.json:
        print(json.dumps(result))
    else:
        for name in ("before_labels", "with_labels", "after_retraining"):
            print(f"{name}: {result[name]}")
        print(f"recall_ratio {result['recall_ratio']}, fpr_rise {result['fpr_rise']}")


def run(folder: Path, customers: int, seed: int) -> dict[str, Any]:
    """Let all models meet the pattern; return what each caught of it."""
    new = World(folder / "new", customers, seed, BEGINS)
    usual = World(folder / "usual", customers, seed, 0)
    old = new.decided(new.trained(0), 0, ENDS)
    parts = [old.between(0, EVERY)]
    for day in range(EVERY, RETRAINED + 1, EVERY):
        until = ENDS if day == RETRAINED else day + EVERY
        parts.append(new.decided(new.trained(day), day, until))
    from_start = new.decided(usual.trained(RETRAINED), 0, ENDS)
    lines = {"old": [old], "retrained": parts, "from the start": [from_start]}
    after = {name: found[-1].between(RETRAINED, ENDS).figures() for name, found in lines.items()}
    return {
        "customers": customers,
        "seed": seed,
        "transactions": new.transactions,
        "before_labels": {"old": old.between(0, 7).figures()},
        "with_labels": {"old": old.between(28, RETRAINED).figures()},
        "after_retraining": after,
        "recall_ratio": _ratio(after, "recall_pattern", "from the start"),
        "fpr_rise": _ratio(after, "fpr", "old"),
        "weeks": {
            name: [
                each.between(day, day + 7).figures() | {"day": day}
                for each in found
                for day in range(0, ENDS, 7)
                if each.day.min() < day + 7 and each.day.max() >= day
            ]
            for name, found in lines.items()
        },
    }


def _ratio(after: dict[str, Any], figure: str, to: str) -> float:
    return round(after["retrained"][figure] / after[to][figure], 3)


class World:
    """A simulated world with models of its own.

    Args:
        begins: day of the world on which the new pattern does.
    """

    def __init__(self, folder: Path, customers: int, seed: int, begins: int) -> None:
        say(f"making a world whose new pattern begins on day {begins}")
        days = BEGINS + ENDS
        chosen = ("--customers", customers, "--days", days, "--seed", seed, "--new-pattern-day", begins)
        where = ("--to", folder, "--start", f"{START:%Y-%m-%d}")
        command(["-m", "fraudstream", "simulate", *map(str, (*where, *chosen))])
        self._folder = folder
        self._environment = environment_of(folder, 1) | {
            "FRAUDSTREAM_STATE__COMPLETE_FROM": "start",
            "FRAUDSTREAM_WORKER__WARM": "",
        }
        self._truth = pq.read_table(folder / "truth")
        self.transactions = len(self._truth)

    def trained(self, day: int) -> str:
        """Train a model as of a day of the pattern; return its bundle."""
        say(f"training as of day {day}")
        as_of = f"{START + timedelta(days=BEGINS + day):%Y-%m-%d}"
        path: str = self._product("train", "--as-of", as_of)["path"]
        return path

    def decided(self, model: str, first: int, end: int) -> Decided:
        """Score days [first, end) of the pattern."""
        say(f"scoring days {first} to {end}")
        begin, until = (f"{START + timedelta(days=BEGINS + day):%Y-%m-%d}" for day in (first, end))
        output = self._folder / "scored.parquet"
        self._product("replay", "--model", model, "--from", begin, "--to", until, "--output", str(output))
        scored = pq.read_table(output, columns=["transaction_id", "event_time_ms", "outcome"])
        joined = scored.join(self._truth, "transaction_id", join_type="inner")
        begins_ms = (START + timedelta(days=BEGINS)).timestamp() * 1000
        return Decided(
            day=(joined["event_time_ms"].to_numpy() - begins_ms) / 86_400_000,
            fraud=joined["is_fraud"].to_numpy(),
            pattern=_among(joined["scenario"], (PATTERN,)),
            alerted=_among(joined["outcome"], ALERTING),
        )

    def _product(self, name: str, *arguments: str) -> Any:
        files = [f"--{kind}={self._folder / kind}" for kind in ("transactions", "labels")]
        said = command(["-m", "fraudstream", name, *files, *arguments, "--json"], self._environment)
        return json.loads(said.splitlines()[-1])


def _among(column: pa.ChunkedArray, values: tuple[str, ...]) -> Flags:
    return np.isin(np.array(column.to_pylist()), values)


def drawn(weeks: dict[str, list[dict[str, Any]]]) -> str:
    """Return the recall on the pattern by week as an SVG document."""
    across = Axis("days since the new pattern began", 0, ENDS, range(0, ENDS + 1, 14))
    lines = {
        name: [(week["day"] + 3.5, week["recall_pattern"]) for week in found] for name, found in weeks.items()
    }
    return drawing(lines, across, share_axis("recall on the new pattern"))


if __name__ == "__main__":
    main()
