"""A worker under a steady load, a service that retrains, and the Prometheus that scrapes both."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path

import pyarrow.parquet as pq
from confluent_kafka import Producer

from fraudstream.ledger import read_ledger
from fraudstream.simulate import DAY_MS
from tests.cli.running import REPOSITORY, environment
from tests.deploy.prometheus import Prometheus, prometheus
from tests.kafka.broker import Broker
from tests.kafka.deployment import Deployment, deployed, eventually, free_port
from tests.kafka.test_promotion import endless
from tests.stream.running import SENT
from tests.stream.versions import add_smaller, copied
from tests.worlds import TinyWorld

ROWS_A_TURN = 80  # five turns a second; drift looks at 64 rows of a batch
COMMAND = (sys.executable, "-m", "fraudstream")


@contextmanager
def observed(program: str, broker: Broker, world: TinyWorld, folder: Path) -> Iterator[Prometheus]:
    """Yield the Prometheus once everything runs.

    The worker has a challenger, takes snapshots, has decided the world's history with its labels, has met a message
    that is none, and goes on deciding. There is no archive: retraining fails, and says so.

    Args:
        program: Prometheus' binary.
    """
    registry = copied(world, folder)
    registry.challenge(add_smaller(registry, 3))
    variables = {
        "FRAUDSTREAM_MODEL__REGISTRY": str(registry.root),
        "FRAUDSTREAM_SNAPSHOTS__FOLDER": str(folder / "snapshots"),
        "FRAUDSTREAM_SNAPSHOTS__INTERVAL": "2s",
        "FRAUDSTREAM_ARCHIVE__URI": str(folder / "archive"),
    }
    with deployed(broker, world, folder, partitions=2) as deployment:
        retrain_port = free_port()
        targets = {"fraudstream-worker": deployment.web_port, "fraudstream-retrain": retrain_port}
        send_history(deployment, world)
        with (
            retraining(deployment, retrain_port, variables),
            prometheus(program, folder, free_port(), targets) as observer,
        ):
            deployment.start(**variables).wait_ready()
            with steady(deployment, world):
                eventually(observer.up, 30, "Prometheus answers")
                yield observer


def send_history(deployment: Deployment, world: TinyWorld) -> None:
    """Send the world's history, all its labels, and a message that is no transaction."""
    deployment.send_labels(read_ledger(world.labels).select(SENT).to_pylist())
    deployment.send_rows(pq.read_table(world.transactions).to_pylist())
    deployment.send([(b"card", b"?", None)])


@contextmanager
def steady(deployment: Deployment, world: TinyWorld) -> Iterator[None]:
    """Send transactions all the time, what becomes of them two days later, and now and then something bad."""
    over = threading.Event()
    thread = threading.Thread(target=_send, args=(deployment, world, over))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _send(deployment: Deployment, world: TinyWorld, over: threading.Event) -> None:
    producer = Producer({"bootstrap.servers": deployment.bootstrap, "partitioner": "murmur2_random"})
    transactions, labels = deployment.topic("transactions"), deployment.topic("labels")
    rows = endless(world)
    for turn in count():
        if over.wait(0.2):
            break
        for row in islice(rows, ROWS_A_TURN):
            key, original = row["card_id"].encode(), row["transaction_id"].rpartition("-")[0]
            producer.produce(transactions, json.dumps(row).encode(), key)
            fraud = original in world.frauds
            label = {
                "transaction_id": row["transaction_id"],
                "label": "fraud" if fraud else "legit",
                "known_at": row["event_time"] + 2 * DAY_MS,
                "source": "analyst",
            }
            if fraud or turn % 4 == 0:
                producer.produce(labels, json.dumps(label).encode(), key)
        if turn % 20 == 0:
            producer.produce(transactions, b'{"amount": -1}', b"card")
        producer.poll(0)
    producer.flush(10)


@contextmanager
def retraining(deployment: Deployment, port: int, variables: dict[str, str]) -> Iterator[None]:
    """Run the service that trains again."""
    arguments = ("retrain", "-c", deployment.config, "--every", "7d", "--web-port", str(port))
    with (deployment.folder / "retrain.log").open("wb") as log:
        process = subprocess.Popen(
            [*COMMAND, *arguments], cwd=REPOSITORY, env=environment(**variables), stdout=log, stderr=log
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)
