"""An open loop: messages are sent on a fixed schedule, whatever the system behind does.

`python -m benchmarks.openloop SETTINGS MESSAGES RATE START` sends the lines of a file (key, tab, value) to the
transactions' topic, message n at START + n / RATE on the monotonic clock, which all processes of a machine share.
Prints one JSON object.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pyarrow as pa
from confluent_kafka import Producer

from fraudstream.sections import Settings
from fraudstream.settings import load_settings
from fraudstream.simulate.write import messages

TICK_S = 0.0005


def send(settings: Settings, lines: list[bytes], rate: float, start_s: float) -> dict[str, float]:
    """Send the lines; return how far behind its schedule the sender itself was at worst.

    The producer is idempotent, as those of Java are: at most five requests are on their way, and what is due
    meanwhile is sent together. Without that bound a thousand wait in the broker, and the latency is theirs.
    """
    producer = Producer(
        {**settings.kafka, "partitioner": "murmur2_random", "linger.ms": 0, "enable.idempotence": True,
         "queue.buffering.max.messages": 1_000_000}
    )  # fmt: skip
    topic, sent, behind_s = settings.topics.transactions, 0, 0.0
    gc.disable()  # a run of the collector over all lines is a stall of the sender's own
    while sent < len(lines):
        now_s = time.monotonic()
        due = min(len(lines), max(0, int((now_s - start_s) * rate) + 1))
        if sent < due:
            behind_s = max(behind_s, now_s - start_s - sent / rate)
        for line in lines[sent:due]:
            key, _, value = line.partition(b"\t")
            producer.produce(topic, value, key)
        sent = due
        producer.poll(0)
        time.sleep(TICK_S)
    assert producer.flush(60) == 0, "messages were not delivered"
    return {"sent": sent, "behind_ms_max": round(1000 * behind_s, 1)}


@contextmanager
def sender(folder: Path, rate: int, start_s: float) -> Iterator[subprocess.Popen[str]]:
    """Run the open loop as a process of its own."""
    arguments = [str(folder / "fraudstream.toml"), str(folder / "messages"), str(rate), str(start_s)]
    command = [sys.executable, "-m", "benchmarks.openloop", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def write_messages(transactions: pa.Table, path: Path, count: int) -> dict[str, int]:
    """Write the first transactions as lines to send; return each one's number by its id."""
    with path.open("wb") as file:
        for key, value, _ in islice(messages(transactions, "card_id"), count):
            file.write(key + b"\t" + value + b"\n")
    ids = transactions["transaction_id"].to_pylist()[:count]
    assert len(ids) == count, f"the world has only {len(ids)} transactions"
    return {identity: number for number, identity in enumerate(ids)}


if __name__ == "__main__":
    config, file, rate, start = sys.argv[1:]
    lines = Path(file).read_bytes().splitlines()
    print(json.dumps(send(load_settings(Path(config), environment={}), lines, float(rate), float(start))))
