"""An open loop: messages are sent on a fixed schedule, whatever the system behind does.

`python -m benchmarks.openloop SETTINGS MESSAGES RATE START` sends the lines of a file (key, tab, value) to the
transactions' topic, message n at START + n / RATE on the monotonic clock, which all processes of a machine share.
Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from confluent_kafka import Producer

from fraudstream.settings import Settings, load_settings

TICK_S = 0.0005


def send(settings: Settings, lines: list[bytes], rate: float, start_s: float) -> dict[str, float]:
    """Send the lines; return how far behind its schedule the sender itself was at worst."""
    producer = Producer(
        {**settings.kafka, "partitioner": "murmur2_random", "linger.ms": 0,
         "queue.buffering.max.messages": 1_000_000}
    )  # fmt: skip
    topic, sent, behind_s = settings.topics.transactions, 0, 0.0
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


if __name__ == "__main__":
    config, messages, rate, start = sys.argv[1:]
    lines = Path(messages).read_bytes().splitlines()
    print(json.dumps(send(load_settings(Path(config), environment={}), lines, float(rate), float(start))))
