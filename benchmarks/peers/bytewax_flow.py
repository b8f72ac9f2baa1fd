"""Bytewax, one worker, state and offsets in its recovery store every 10 s (its default), so at least once.

Its sliding windows emit when they close; the windows a transaction sees are a keyed state of one's own. Decoding and
scoring take the batches that its Kafka source reads. It commits no offsets to Kafka: they are in its recovery store.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import lightgbm
import numpy as np
import orjson
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from benchmarks.peers.job import Card, Features, decision, job, minor_of

Transaction = tuple[str, int, int]  # id, time in ms, amount in cents
Row = tuple[str, tuple[str, int, Features]]  # card, (id, time in ms, features)

names = job()
booster = lightgbm.Booster(model_file=names.model)


def decode(messages: list[Any]) -> list[tuple[str, Transaction]]:
    """Return the transactions of a batch by card."""
    read = [orjson.loads(message.value) for message in messages]
    return [(t["card_id"], (t["transaction_id"], t["event_time"], minor_of(t["amount"]))) for t in read]


def observe(card: Card | None, transaction: Transaction) -> tuple[Card, tuple[str, int, Features]]:
    """Return a card's new state and the transaction's features."""
    card = card if card is not None else Card()
    transaction_id, time_ms, amount_minor = transaction
    return card, (transaction_id, time_ms, card.observe(time_ms, amount_minor))


def score(rows: list[Row]) -> list[Any]:
    """Return the decisions of a batch."""
    scores = booster.predict(np.array([features for _, (_, _, features) in rows]), num_threads=1).tolist()
    return [
        KafkaSinkMessage(card.encode(), orjson.dumps(decision(transaction_id, time_ms, probability)))
        for (card, (transaction_id, time_ms, _)), probability in zip(rows, scores, strict=True)
    ]


def main() -> None:
    flow = Dataflow("peers")
    messages = op.input("transactions", flow, KafkaSource([names.bootstrap], [names.transactions]))
    decoded = op.flat_map_batch("decode", messages, decode)
    observed = op.stateful_map("windows", decoded, observe)
    scored = op.flat_map_batch("score", observed, score)
    op.output("decisions", scored, KafkaSink([names.bootstrap], names.decisions))
    kept = Path(names.folder) / "recovery"
    kept.mkdir()
    init_db_dir(kept, 1)
    cli_main(flow, epoch_interval=timedelta(seconds=10), recovery_config=RecoveryConfig(kept))


if __name__ == "__main__":
    main()
