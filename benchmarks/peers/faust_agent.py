"""Faust, an agent that gets one transaction at a time; a table with a changelog holds the windows.

Its own windowed tables tumble or hop; a sliding window per transaction needs the rows, so they are the table's value.
The table's store is memory, in its favour: RocksDB would write to disk as well.
"""

from __future__ import annotations

import tempfile
from typing import Any

import faust

from benchmarks.peers.job import decision, job, minor_of, observe, row_scorer

names = job()
score_of = row_scorer(names.model)
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
cards = app.Table("cards", default=list, partitions=names.partitions)


@app.agent(transactions)
async def decide(stream: faust.StreamT[dict[str, Any]]) -> None:
    """Decide each transaction."""
    async for transaction in stream:
        card, time_ms = transaction["card_id"], transaction["event_time"]
        rows = cards[card]
        features = observe(rows, time_ms, minor_of(transaction["amount"]))
        cards[card] = rows  # writes to the changelog
        decided = decision(transaction["transaction_id"], time_ms, score_of(features))
        await decisions.send(key=card.encode(), value=decided)


if __name__ == "__main__":
    faust.Worker(app, loglevel="WARN").execute_from_commandline()
