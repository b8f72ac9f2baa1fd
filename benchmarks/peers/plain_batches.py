"""A plain loop as good as we know one: batches of what is there, each scored in one call; at least once, each second.

Its consumer is told what fraudstream's is: `fetch.queue.backoff.ms`, without which a busy one sleeps a second
whenever its queue was full. Its windows are in plain memory, in its favour: a restart loses them.
"""

from __future__ import annotations

import time
from collections import defaultdict

import lightgbm
import msgspec
import numpy as np
from confluent_kafka import Consumer, Producer

from benchmarks.peers.job import REVIEW_FROM, Card, job, minor_of

COMMIT_EVERY_S = 1.0
ROWS_MAX = 1024


class Transaction(msgspec.Struct):
    """What is used of a transaction."""

    transaction_id: str
    event_time: int
    card_id: str
    amount: float


class Decision(msgspec.Struct):
    """What is published for it."""

    transaction_id: str
    event_time_ms: int
    outcome: str
    score: float
    model: str = "card_payment/0001"


def main() -> None:
    names = job()
    booster = lightgbm.Booster(model_file=names.model)
    decode, encode = msgspec.json.Decoder(Transaction).decode, msgspec.json.Encoder().encode
    cards: defaultdict[str, Card] = defaultdict(Card)
    consumer = Consumer(
        {
            "bootstrap.servers": names.bootstrap,
            "group.id": names.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.queue.backoff.ms": 2,
        }
    )
    producer = Producer(
        {"bootstrap.servers": names.bootstrap, "linger.ms": 5, "queue.buffering.max.messages": 1_000_000}
    )
    consumer.subscribe([names.transactions])
    due_s, undone = time.monotonic() + COMMIT_EVERY_S, False
    while True:
        messages = consumer.consume(1, 0.1)
        messages += consumer.consume(ROWS_MAX - 1, 0)
        messages = [message for message in messages if message.error() is None]
        if messages:
            read = [decode(message.value()) for message in messages]
            rows = [cards[t.card_id].observe(t.event_time, minor_of(t.amount)) for t in read]
            scores = booster.predict(np.array(rows), num_threads=1).tolist()
            for message, t, score in zip(messages, read, scores, strict=True):
                outcome = "review" if score >= REVIEW_FROM else "approve"
                decided = Decision(t.transaction_id, t.event_time, outcome, score)
                producer.produce(names.decisions, encode(decided), message.key())
            producer.poll(0)
            undone = True
        if undone and time.monotonic() >= due_s:
            producer.flush()
            consumer.commit(asynchronous=False)
            due_s, undone = time.monotonic() + COMMIT_EVERY_S, False


if __name__ == "__main__":
    main()
