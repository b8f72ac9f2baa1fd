"""Every file of a bundle, damaged in hundreds of ways beside a serving worker.

    python -m benchmarks.mutations --json

A worker (`mutations_worker.py`: the loop and the hot reload of production, on a memory bus) is told to take one
damaged bundle after the other while it serves. Three runs:

    accident   bytes change and the hashes do not
    resealed   the hashes are made right again: a buggy tool, or an attacker where nothing is signed
    signed     the same on a signed bundle, with `model.require_signature`

What counts:

    refused        the worker went on with its old model; `named` of these in one line with the name of the file
    accepted       the damage was harmless (a report, a name in `training`) or made another model out of it: the
                   decisions are compared with LightGBM's own scores of the damaged text and the damaged knots;
                   `changed` of these are others than before the damage
    unchanged      the damage came out as what was there before (one file in the place of the same)
    wrong_scores   decisions that are neither the old model's nor what the accepted one must give, to the last bit
    deaths         the worker's process ended
    child_deaths   the child process ended: what would have been the worker's death

Every decision of a worker is checked, before and after a bundle is refused or taken. One child process in a hundred
is a new one, as in production; the others are forked from a process that has imported everything, which is what makes
thousands of them affordable.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightgbm as lgb
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.machine import record, with_machine
from benchmarks.mutations_worker import DAMAGED, GOOD, Job, Outcome, plan
from fraudstream.registry import Registry, Trust, read_bundle, write_bundle
from fraudstream.registry.bundle import Bundle, Golden
from fraudstream.registry.signing import make_keys, read_private_key
from fraudstream.scoring.model import Knots
from tests.worlds import TOML, make_world

FILES = [
    "booster.txt", "bundle.json", "bundle.json.sha256", "calibrator.json", "golden.parquet", "report/report.md",
]  # fmt: skip
RUNS = {"accident": FILES, "resealed": FILES, "signed": [*FILES, "bundle.json.sig"]}
EXAMPLES_MAX = 10


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options.add_argument("--record", action="store_true", help="append the row to results/mutations.jsonl")
    options.add_argument("--per-file", type=int, default=500, help="mutations of a file and run")
    options.add_argument("--runs", nargs="*", default=list(RUNS), choices=list(RUNS))
    options.add_argument("--seed", type=int, default=7)
    chosen = options.parse_args()
    result = with_machine(measure(chosen.runs, chosen.per_file, chosen.seed), "cryptography", "pyarrow")
    print(table(result), file=sys.stderr)
    if chosen.record:
        record("mutations", result)
    if chosen.json:
        print(json.dumps(result))
    if result["deaths"] or result["wrong_scores"] or result["undecided"] or result["misnamed"]:
        sys.exit(1)


def measure(runs: list[str], per_file: int, seed: int) -> dict[str, Any]:
    """Return the counts of all runs, and by run, file and kind."""
    counted: dict[str, Counter[str]] = {}
    kinds: dict[str, Counter[str]] = {}
    examples: list[str] = []
    with tempfile.TemporaryDirectory(prefix="fraudstream-mutations-") as name:
        folder = Path(name)
        prepare(folder)
        for run in runs:
            configure(folder, run)
            job = Job(str(folder), run != "accident", RUNS[run], per_file, seed, 0)
            for outcome in suffered(job):
                by_file = counted.setdefault(f"{run} {outcome.mutation.file}", Counter())
                for counter in (by_file, kinds.setdefault(outcome.mutation.kind, Counter())):
                    counter.update(counts_of(outcome))
                if strange(outcome) and len(examples) < EXAMPLES_MAX:
                    examples.append(f"{run}: {outcome.mutation}: {outcome.result}: {outcome.reason}")
    totals = sum(counted.values(), Counter())
    wanted = (
        "mutations", "refused", "named", "accepted", "changed", "unchanged", "undecided", "misnamed", "deaths",
        "child_deaths", "wrong_scores",
    )  # fmt: skip
    return {
        "benchmark": "mutations",
        **{key: totals[key] for key in wanted},
        "by_file": {name: dict(counter) for name, counter in counted.items()},
        "by_kind": {name: dict(counter) for name, counter in sorted(kinds.items())},
        "examples": examples,
        "per_file": per_file,
        "seed": seed,
    }


def counts_of(outcome: Outcome) -> dict[str, int]:
    """Return what one outcome adds to the counts."""
    refused = outcome.result == "refused"
    return {
        "mutations": 1,
        outcome.result: 1,
        "named": int(refused and outcome.named),
        "misnamed": int(refused and not outcome.named),
        "changed": int(outcome.result == "accepted" and outcome.changed),
        "child_deaths": int("cannot be loaded (SIG" in outcome.reason),
        "wrong_scores": outcome.wrong,
    }


def strange(outcome: Outcome) -> bool:
    """Tell whether an outcome is one that there must not be."""
    return (
        outcome.wrong > 0 or outcome.result in ("deaths", "undecided") or counts_of(outcome)["misnamed"] > 0
    )


def suffered(job: Job) -> Iterator[Outcome]:
    """Run a job's worker, another one after each death, and yield what became of every mutation."""
    mutations, done = plan(job), 0
    while done < len(mutations):
        command = [sys.executable, "-m", "benchmarks.mutations_worker"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
            assert worker.stdin is not None
            assert worker.stdout is not None
            worker.stdin.write(msgspec.json.encode(msgspec.structs.replace(job, start=done)))
            worker.stdin.close()
            begun = -1
            for line in worker.stdout:
                if b'"begin"' in line:
                    for passed in range(done, begun := json.loads(line)["begin"]):
                        yield Outcome(mutations[passed], "unchanged", "", False, 0, False)
                    done = begun
                else:
                    yield msgspec.json.decode(line, type=Outcome)
                    done = begun + 1
        if worker.returncode:
            if begun < 0:
                raise RuntimeError(f"the worker did not start (exit {worker.returncode})")
            yield Outcome(mutations[begun], "deaths", f"exit {worker.returncode}", False, 0, False)
            done = begun + 1
        else:
            for passed in range(done, len(mutations)):
                yield Outcome(mutations[passed], "unchanged", "", False, 0, False)
            done = len(mutations)


def prepare(folder: Path) -> None:
    """Simulate and train; write the bundle that is damaged and another model's, both signed, and transactions."""
    world = make_world(folder)
    make_keys(folder / "key")
    key = read_private_key(folder / "key")
    Registry(folder / "models", "card_payment", Trust()).sign(GOOD, key)
    bundle = read_bundle(folder / "models" / "card_payment" / GOOD, Trust())
    report = bundle.files["report/report.md"].decode()
    write_version(folder / "base" / DAMAGED, bundle, bundle.described.training["trees"], report, key)
    write_version(folder / "other" / DAMAGED, bundle, 5, "# Another model\n", key)
    (folder / "live.json").write_text(json.dumps(world.rows[:400]), "utf-8")
    for name in ("history", "live"):
        shutil.rmtree(folder / name)


def write_version(folder: Path, bundle: Bundle, trees: int, report: str, key: Ed25519PrivateKey) -> None:
    """Write a model's first trees as version DAMAGED."""
    booster = lgb.Booster(model_str=bundle.parts.booster_text)
    text = booster.model_to_string(num_iteration=trees)
    golden = bundle.golden()
    x = [round(knot, 6 + trees) for knot in bundle.parts.calibration.x]  # another model has other knots
    calibration = Knots(x, bundle.parts.calibration.y)
    made = dataclasses.replace(
        bundle.parts, version=f"card_payment/{DAMAGED}", booster_text=text, calibration=calibration
    )
    raw = lgb.Booster(model_str=text).predict(golden.X, raw_score=True, num_threads=1)
    about = {name: getattr(bundle.described, name) for name in ("created_at", "training", "metrics")}
    write_bundle(folder, made, about, Golden.of(made, golden.X, raw), {"report.md": report}, key)


def configure(folder: Path, run: str) -> None:
    """Write the settings of a run; unsigned runs have no signature to damage."""
    trusting = ""
    if run == "signed":
        public = (folder / "key.pub").read_text("ascii").strip()
        trusting = f'require_signature = true\ntrusted_keys = ["{public}"]\n'
    text = TOML.format(registry=folder / "models").replace(
        "[model]\n", f'[model]\nreload = "1ms"\n{trusting}'
    )
    (folder / "mode.toml").write_text(f"{text}[worker]\nfeature_log = true\n", "utf-8")


def table(result: dict[str, Any]) -> str:
    """Return the counts for a person."""
    columns = ("mutations", "refused", "accepted", "changed", "misnamed", "undecided", "child_deaths", "deaths",
               "wrong_scores")  # fmt: skip
    lines = [f"{'':30}" + "".join(f"{name:>14}" for name in columns)]
    for name, counted in [*result["by_file"].items(), *result["by_kind"].items(), ("all", result)]:
        lines.append(f"{name:30}" + "".join(f"{counted.get(column, 0):>14}" for column in columns))
    return "\n".join([*lines, *result["examples"]])


if __name__ == "__main__":
    main()
