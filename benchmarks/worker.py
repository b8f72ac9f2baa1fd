"""How fast one worker process is on a real Kafka, beside the same job in a Faust agent.

`python -m benchmarks.worker --json`. Starts the broker as the tests do, simulates a world, trains a model, fills
the topic, and lets each drain it from the start: the worker delivering exactly once, the same at least once, and the
agent: decode, features, score, one JSON decision for every transaction, alerts with reasons. The rate is taken
between 10 % and 90 % of the decisions; CPU is the worker process's own (the broker shares the machine's cores with
it).

Unfair to neither on purpose: the Faust agent uses the same decoder, feature engine, model and encoder on
batches from `stream.take`, so what differs is how transactions come in and go out. It leaves out alerts and
their reasons, in its favour.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.machine import about_machine
from fraudstream.bus.topics import create_topics
from fraudstream.sections import Settings
from fraudstream.settings import load_settings
from fraudstream.simulate import WorldConfig, simulate
from fraudstream.simulate.write import messages, write_world
from fraudstream.training.run import train_from_files
from tests.kafka.broker import broker_from_environment

TICK_S = 0.5  # a look at /metrics costs the worker a few ms
START_MS = 1_735_689_600_000  # 2025-01-01
GIVE_UP_AFTER_S = 600.0
READY_WITHIN_S = 180.0
STAGES = re.compile(r'fraudstream_stage_seconds_total\{stage="(\w+)"\} (\S+)')
DECIDED = re.compile(r"^fraudstream_transactions_total (\S+)", re.MULTILINE)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options.add_argument("--transactions", type=int, default=800_000)
    options.add_argument("--faust-transactions", type=int, default=40_000)
    options.add_argument("--partitions", type=int, default=4)
    options.add_argument("--batch-rows", type=int, default=1024)
    chosen = options.parse_args()
    result = run(chosen.transactions, chosen.faust_transactions, chosen.partitions, chosen.batch_rows)
    if chosen.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:28} {value}")


def run(transactions: int, faust_transactions: int, partitions: int, batch_rows: int) -> dict[str, Any]:
    """Measure both and return the figures."""
    with (
        tempfile.TemporaryDirectory(prefix="fraudstream-bench-") as name,
        broker_from_environment() as broker,
    ):
        folder = Path(name)
        say("simulating and training")
        world = simulate(
            WorldConfig(start_ms=START_MS, customers=10_000, days=max(12, transactions // 19_000 + 1))
        )
        write_world(world, folder / "data", "parquet")
        settings = configure(folder, broker.bootstrap, partitions, batch_rows)
        data = folder / "data"
        train_from_files(settings, data / "transactions", data / "labels", None, True, lambda *done: None)
        create_topics(settings)
        say(f"filling the topic with {transactions} transactions")
        outgoing = fill(settings, world.transactions, transactions)
        worker = module_with(["fraudstream", "worker", "-c"], folder)
        say("draining it with fraudstream worker")
        ours = drain(worker, folder / "worker.log", transactions, from_metrics(settings))
        say("draining it with fraudstream worker, at least once")
        settings = configure(folder, broker.bootstrap, partitions, batch_rows, delivery="at_least_once")
        least = drain(worker, folder / "worker.log", transactions, from_metrics(settings))
        settings = configure(folder, broker.bootstrap, partitions, batch_rows, prefix="faust.")
        create_topics(settings)
        fill(settings, world.transactions, faust_transactions)
        say(f"draining {faust_transactions} with a Faust agent")
        command = module_with(["benchmarks.faust_agent"], folder)
        faust = drain(command, folder / "faust.log", faust_transactions, from_offsets(settings))
    rate, faust_rate = ours["transactions_per_s"], faust["transactions_per_s"]
    return {
        "transactions_per_s": rate,
        "cpu_s_per_million": ours["cpu_s_per_million"],
        "stage_us": ours["stage_us"],
        "at_least_once_transactions_per_s": least["transactions_per_s"],
        "at_least_once_cpu_s_per_million": least["cpu_s_per_million"],
        "at_least_once_stage_us": least["stage_us"],
        "exactly_once_ratio": round(rate / least["transactions_per_s"], 2),
        "faust_agent_transactions_per_s": faust_rate,
        "faust_agent_cpu_s_per_million": faust["cpu_s_per_million"],
        "ratio": round(rate / faust_rate, 1),
        "transactions": transactions,
        "partitions": partitions,
        "batch_rows_max": batch_rows,
        "message_bytes": round(outgoing / transactions, 1),
        **about_machine(),
    }


def say(what: str) -> None:
    """Tell a person what goes on."""
    print(f"benchmark: {what} ...", file=sys.stderr, flush=True)


def configure(
    folder: Path,
    bootstrap: str,
    partitions: int,
    batch_rows: int,
    prefix: str = "",
    delivery: str = "exactly_once",
) -> Settings:
    """Write the worker's settings and return them."""
    path = folder / "fraudstream.toml"
    path.write_text(
        f"""
[topics]
transactions = "{prefix}fraud.transactions"
decisions = "{prefix}fraud.decisions"
alerts = "{prefix}fraud.alerts"
labels = "{prefix}fraud.labels"
dlq = "{prefix}fraud.transactions.dlq"
partitions = {partitions}
[model]
registry = "{folder / "models"}"
[labels]
maturity = "1d"
[training]
days = 60
validation_days = 4
gap_days = 1
[worker]
group = "{prefix}bench.{delivery}"
delivery = "{delivery}"
batch_rows_max = {batch_rows}
web_port = 16066
[kafka]
"bootstrap.servers" = "{bootstrap}"
""",
        "utf-8",
    )
    return load_settings(path, environment={})


def fill(settings: Settings, table: Any, count: int) -> int:
    """Send the first `count` transactions; return their bytes."""
    producer = Producer(
        {**settings.kafka, "partitioner": "murmur2_random", "linger.ms": 20, "compression.type": "none",
         "queue.buffering.max.messages": 1_000_000}
    )  # fmt: skip
    octets = sent = 0
    for key, value, _ in messages(table, "card_id"):
        producer.produce(settings.topics.transactions, value, key)
        octets += len(value)
        sent += 1
        if sent % 50_000 == 0:
            producer.flush(60)
        if sent == count:
            break
    assert producer.flush(60) == 0, "the topic could not be filled"
    assert sent == count, f"the world has only {sent} transactions"
    return octets


Decided = Callable[[], tuple[int, dict[str, float]]]


def metrics_of(settings: Settings) -> str:
    """Return what the worker tells of itself. Raises OSError while it does not."""
    with urllib.request.urlopen(f"http://127.0.0.1:{settings.worker.web_port}/metrics", timeout=5) as answer:
        text: str = answer.read().decode()
    return text


def wait_for_metrics(settings: Settings, *wanted: str) -> None:
    """Return once all of these stand in what the worker tells."""
    deadline_s = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline_s:
        time.sleep(TICK_S)
        with suppress(OSError):
            text = metrics_of(settings)
            if all(one in text for one in wanted):
                return
    raise SystemExit(f"the worker was not ready within {READY_WITHIN_S} s")


def from_metrics(settings: Settings) -> Decided:
    """Return a reader of the worker's own count of decisions and its stage times."""

    def read() -> tuple[int, dict[str, float]]:
        text = metrics_of(settings)
        found = DECIDED.search(text)
        return int(float(found[1])) if found else 0, {s: float(v) for s, v in STAGES.findall(text)}

    return read


def from_offsets(settings: Settings) -> Decided:
    """Return a reader of how many decisions stand in the topic."""
    consumer = Consumer({**settings.kafka, "group.id": "bench-count"})
    topic = settings.topics.decisions

    def read() -> tuple[int, dict[str, float]]:
        total = 0
        for partition in range(settings.topics.partitions):
            _, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=5)
            total += high
        return total, {}

    return read


def module_with(command: list[str], folder: Path) -> list[str]:
    """Return the command line of `python -m COMMAND SETTINGS`."""
    return [sys.executable, "-m", *command, str(folder / "fraudstream.toml")]


def process(command: list[str], folder: Path, variables: dict[str, str] | None = None) -> Any:
    """Run `python -m COMMAND SETTINGS` and stop it at the end."""
    return running(module_with(command, folder), folder / f"{command[0]}.log", variables)


@contextmanager
def running(arguments: list[str], log: Path, variables: dict[str, str] | None = None) -> Any:
    """Run a program and stop it at the end."""
    environment = os.environ | (variables or {})
    with (
        log.open("wb") as output,
        subprocess.Popen(arguments, stdout=output, stderr=output, env=environment) as started,
    ):
        try:
            yield started
        finally:
            started.terminate()
            try:
                started.wait(20)
            except subprocess.TimeoutExpired:
                started.kill()


def drain(
    arguments: list[str],
    log: Path,
    transactions: int,
    decided: Decided,
    variables: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Run a consumer of the full topic and measure it between 10 % and 90 % of the decisions."""
    low, high = transactions // 10, transactions * 9 // 10
    first: tuple[float, float, int, dict[str, float]] | None = None
    deadline = time.monotonic() + GIVE_UP_AFTER_S
    with running(arguments, log, variables) as started:
        while time.monotonic() < deadline:
            if started.poll() is not None:
                raise SystemExit(f"{arguments}: ended: {log.read_text('utf-8', 'replace')[-2000:]}")
            time.sleep(TICK_S)
            try:
                count, stages = decided()
                now = (time.monotonic(), cpu_s(started.pid), count, stages)
            except OSError:
                continue  # not up yet, or a child ended just now
            if first is None and count >= low:
                first = now
            if count >= high:
                break
        else:
            raise SystemExit(f"{arguments}: no end after {GIVE_UP_AFTER_S} s")
    assert first is not None
    rows = now[2] - first[2]
    spent = {s: 1e6 * (v - first[3].get(s, 0.0)) / rows for s, v in now[3].items()}
    return {
        "transactions_per_s": round(rows / (now[0] - first[0])),
        "cpu_s_per_million": round((now[1] - first[1]) / rows * 1e6, 2),
        "stage_us": {stage: round(us, 3) for stage, us in spent.items()},
    }


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process and of those it started, all their threads."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rsplit(")", 1)[1].split()
    own = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")  # with those that ended
    children = [
        int(child)
        for listed in Path(f"/proc/{pid}/task").glob("*/children")
        for child in listed.read_text("ascii").split()
    ]
    return own + sum(map(cpu_s, children))


if __name__ == "__main__":
    main()
