"""Faust, an agent that takes batches: one call of LightGBM scores a batch.

Its windows are in plain memory: a table writes its changelog to the partition of the event that came last, which is
wrong for the others of a batch. So a restart loses them, in its favour.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from typing import Any

import faust
import lightgbm
import numpy as np

from benchmarks.peers.job import Card, decision, job, minor_of

TAKE_ROWS, TAKE_WITHIN_S = 1000, 0.05

names = job()
booster = lightgbm.Booster(model_file=names.model)
app = faust.App(
    names.group,
    broker=f"kafka://{names.bootstrap}",
    store="memory://",
    datadir=tempfile.mkdtemp(dir=names.folder),
    topic_partitions=names.partitions,
    web_enabled=False,
    topic_disable_leader=True,
    consumer_auto_offset_reset="earliest",
)
transactions = app.topic(names.transactions, key_serializer="raw", value_serializer="json")
decisions = app.topic(names.decisions, key_serializer="raw", value_serializer="json")
cards: defaultdict[str, Card] = defaultdict(Card)


@app.agent(transactions)
async def decide(stream: faust.StreamT[dict[str, Any]]) -> None:
    """Decide batches of transactions."""
    async for batch in stream.take(TAKE_ROWS, within=TAKE_WITHIN_S):
        rows = [cards[t["card_id"]].observe(t["event_time"], minor_of(t["amount"])) for t in batch]
        scores = booster.predict(np.array(rows), num_threads=1).tolist()
        for transaction, score in zip(batch, scores, strict=True):
            decided = decision(transaction["transaction_id"], transaction["event_time"], score)
            await decisions.send(key=transaction["card_id"].encode(), value=decided)


if __name__ == "__main__":
    faust.Worker(app, loglevel="WARN").execute_from_commandline()
