"""The same job in fraudstream and its peers, on one real Kafka in one run: `python -m benchmarks.peers [--json]`.

The job: transactions come in as JSON; count and sum of the card's amounts over the hour, the day and the 7 days
before each; a score by LightGBM (200 trees of 31 leaves) on those six and the amount; a decision out as JSON for
each; offsets committed. Each peer is one small file beside this one, in a process and an environment of its own.
Exact sliding windows, as fraudstream's: where a framework's windows are of another kind, its file says so and keeps
the rows in the framework's state. All decisions of every 50th card are compared with a straightforward recomputation:
a peer that differs ends the run.

In the peers' favour: none handles late transactions, bad messages, risk points, alerts or metrics, all of which
fraudstream does meanwhile; where a framework gives no batches, rows are scored by LightGBM's own C call for one row;
some keep their windows in memory that a restart loses. In fraudstream's: its defaults were chosen on such a machine.

The rate is taken between 10 % and 90 % of a peer's decisions; CPU is that of its process and what it starts. The
broker shares the machine's cores with it. `--table` prints the README's table of the results that are kept.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import about_machine
from benchmarks.peers.install import ROOT, NotInstalled, class_path, python_of
from benchmarks.peers.job import FEATURES, Job
from benchmarks.peers.model import train_model
from benchmarks.peers.reference import Scores, check, expected_scores, read_decisions
from benchmarks.peers.table import DEFAULT, KEPT, PEERS, Peer, table
from benchmarks.worker import START_MS, drain, fill, from_offsets, say
from fraudstream.batch import Float64
from fraudstream.bus.topics import create_topics
from fraudstream.sections import Settings
from fraudstream.settings import load_settings
from fraudstream.simulate import WorldConfig, simulate
from fraudstream.simulate.write import write_world
from tests.kafka.broker import broker_from_environment

PARTITIONS = 4
TOPIC = "peers.transactions"
JOB_FEATURES = """
[[features]]
entity = "event"
of = "amount"
aggregates = ["value"]
[[features]]
entity = "card"
windows = ["1h", "24h", "7d"]
aggregates = ["count"]
[[features]]
entity = "card"
of = "amount"
windows = ["1h", "24h", "7d"]
aggregates = ["sum"]
"""


@dataclass(frozen=True)
class World:
    """What all peers are given.

    Attributes:
        model: LightGBM's text file.
        expected: what a peer must decide; `expected_ours`: the same as calibrated probabilities.
    """

    folder: Path
    bootstrap: str
    model: Path
    expected: Scores
    expected_ours: Scores


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options.add_argument("--only", action="append", choices=[peer.name for peer in PEERS], metavar="NAME",
                         help="run this one, and others so named; the results are not kept")  # fmt: skip
    options.add_argument("--transactions", type=int, default=600_000, help="that stand in the topic")
    options.add_argument(
        "--table", action="store_true", help="print the table of the kept results, run nothing"
    )
    chosen = options.parse_args()
    if chosen.table:
        print(table(json.loads(KEPT.read_text("utf-8"))))
        return
    result = run([p for p in PEERS if not chosen.only or p.name in chosen.only], chosen.transactions)
    if not chosen.only:
        KEPT.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(json.dumps(result) if chosen.json else table(result))


def run(peers: list[Peer], transactions: int) -> dict[str, Any]:
    """Measure each and return the figures by name, or why there are none."""
    programs = {peer.name: installed(peer) for peer in peers}
    with (
        tempfile.TemporaryDirectory(prefix="fraudstream-peers-") as name,
        broker_from_environment() as broker,
    ):
        world = prepare(Path(name), broker.bootstrap, transactions, any(p.name == DEFAULT for p in peers))
        measured = {}
        for peer in peers:
            program = programs[peer.name]
            if isinstance(program, NotInstalled):
                measured[peer.name] = {"not installed": str(program)}
                continue
            say(f"{peer.name}: {round(transactions * peer.share)} transactions")
            measured[peer.name] = measure(peer, program, world, round(transactions * peer.share))
            say(f"{peer.name}: {measured[peer.name]}")
    return {
        "peers": measured,
        "transactions": transactions,
        "partitions": PARTITIONS,
        **about_machine(),
    }


def installed(peer: Peer) -> list[str] | NotInstalled:
    """Return the command that starts a peer, before the name of its job's file, or why there is none."""
    try:
        if peer.name == "kafka_streams":
            return ["java", "-cp", class_path(), "peers.Decide"]
        if peer.environment:
            say(f"{peer.name}: its environment")
            return [str(python_of(peer.environment)), "-m", f"benchmarks.peers.{peer.name}"]
    except NotInstalled as reason:
        return reason
    return []


def prepare(folder: Path, bootstrap: str, transactions: int, default: bool) -> World:
    """Simulate, train, fill the topic and work out what must be decided."""
    say("simulating and training")
    days = max(12, transactions // 19_000 + 1)
    world = simulate(WorldConfig(start_ms=START_MS, customers=10_000, days=days))
    write_world(world, folder / "data", "parquet")
    settings, config = configure(folder, bootstrap, PEERS[0])
    parts = train_model(config, folder / "data")
    assert parts.feature_names == FEATURES, parts.feature_names
    if default:
        train_model(configure(folder, bootstrap, named(DEFAULT))[1], folder / "data")
    model = folder / "model.txt"
    model.write_text(parts.booster_text, "utf-8")
    say(f"filling the topic with {transactions} transactions")
    create_topics(settings)
    fill(settings, world.transactions, transactions)

    def expected(score_of: Callable[[Float64], Float64]) -> Scores:
        return expected_scores(world.transactions, transactions, parts.booster_text, score_of)

    probabilities = expected(lambda raw: 1 / (1 + np.exp(-raw)))
    return World(folder, bootstrap, model, probabilities, expected(parts.calibration.at))


def named(name: str) -> Peer:
    """Return the peer of this name."""
    return next(peer for peer in PEERS if peer.name == name)


def configure(folder: Path, bootstrap: str, peer: Peer) -> tuple[Settings, Path]:
    """Write the settings of a worker of ours, with its topics; the other peers use the topics too."""
    path = folder / f"{peer.name}.toml"
    catalogue = "default" if peer.name == DEFAULT else "job"
    path.write_text(
        f"""
[topics]
transactions = "{TOPIC}"
decisions = "{peer.name}.decisions"
alerts = "{peer.name}.alerts"
labels = "peers.labels"
dlq = "{peer.name}.dlq"
features = "{peer.name}.features"
partitions = {PARTITIONS}
[model]
registry = "{folder / catalogue}"
[state]
complete_from = "start"
[worker]
group = "{peer.name}"
delivery = "{peer.delivery.replace(" ", "_")}"
web_port = 0
[kafka]
"bootstrap.servers" = "{bootstrap}"
{JOB_FEATURES if catalogue == "job" else ""}
""",
        "utf-8",
    )
    return load_settings(path, environment={}), path


def measure(peer: Peer, program: list[str], world: World, transactions: int) -> dict[str, Any]:
    """Let a peer read the topic until it has decided so many, compare what it decided, return its figures."""
    settings, config = configure(world.folder, world.bootstrap, peer)
    create_topics(settings)
    folder = world.folder / peer.name
    folder.mkdir()
    if peer.ours:
        arguments = [sys.executable, "-m", "fraudstream", "worker", "-c", str(config)]
    else:
        job = Job(
            world.bootstrap, TOPIC, settings.topics.decisions, PARTITIONS, peer.name, str(world.model), str(folder)
        )  # fmt: skip
        (folder / "job.json").write_text(json.dumps(asdict(job)), "utf-8")
        arguments = [*program, str(folder / "job.json")]
    log, variables = folder / "log", {"PYTHONPATH": str(ROOT)}
    figures = drain(arguments, log, transactions, from_offsets(settings), variables)
    expected = world.expected_ours if peer.ours else world.expected
    found = read_decisions(settings.kafka, settings.topics.decisions, PARTITIONS, expected)
    checked = check(peer.name, found, expected, scores=peer.name != DEFAULT)
    return {
        "transactions_per_s": figures["transactions_per_s"],
        "cpu_s_per_million": figures["cpu_s_per_million"],
        "transactions": transactions,
        "decisions_checked": checked,
    }


if __name__ == "__main__":
    main()
