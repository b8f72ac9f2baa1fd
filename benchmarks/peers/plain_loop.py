"""A plain poll loop, a message at a time, as confluent-kafka's documentation has it; at least once, every second.

Its windows are in plain memory, in its favour: a restart loses them.
"""

from __future__ import annotations

import time
from collections import defaultdict

import orjson
from confluent_kafka import Consumer, Producer

from benchmarks.peers.job import Card, decision, job, minor_of, row_scorer

COMMIT_EVERY_S = 1.0


def main() -> None:
    names = job()
    score_of = row_scorer(names.model)
    cards: defaultdict[str, Card] = defaultdict(Card)
    consumer = Consumer(
        {
            "bootstrap.servers": names.bootstrap,
            "group.id": names.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    producer = Producer({"bootstrap.servers": names.bootstrap, "linger.ms": 5})
    consumer.subscribe([names.transactions])
    due_s, undone = time.monotonic() + COMMIT_EVERY_S, False
    while True:
        message = consumer.poll(0.1)
        if message is not None and message.error() is None:
            transaction = orjson.loads(message.value())
            card, time_ms = transaction["card_id"], transaction["event_time"]
            features = cards[card].observe(time_ms, minor_of(transaction["amount"]))
            decided = decision(transaction["transaction_id"], time_ms, score_of(features))
            try:
                producer.produce(names.decisions, orjson.dumps(decided), message.key())
            except BufferError:
                producer.flush()
                producer.produce(names.decisions, orjson.dumps(decided), message.key())
            producer.poll(0)
            undone = True
        if undone and time.monotonic() >= due_s:
            producer.flush()
            consumer.commit(asynchronous=False)
            due_s, undone = time.monotonic() + COMMIT_EVERY_S, False


if __name__ == "__main__":
    main()
