"""The worker's job in a Faust agent: `python -m benchmarks.faust_agent SETTINGS`. See benchmarks/worker.py."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import faust
import msgspec

from fraudstream.decode import Decoder
from fraudstream.features import build_catalog, new_engine
from fraudstream.records import Decision
from fraudstream.registry import Registry
from fraudstream.scoring import Model, Pipeline, build_policy
from fraudstream.settings import load_settings
from fraudstream.stream.build import warm_kernels

TAKE_ROWS, TAKE_WITHIN_S = 1024, 0.05

settings = load_settings(Path(sys.argv[1]), environment={})
catalog = build_catalog(settings.features, settings.event)
_, parts = Registry.of(settings.model).read("champion")
policy = build_policy(settings)
engine = new_engine(settings, catalog)
pipeline = Pipeline(engine, Model(parts, catalog), policy)
decoder = Decoder(settings.event, catalog.fields_used | policy.fields_used)
encode = msgspec.json.Encoder().encode
warm_kernels(catalog, settings)

app = faust.App(
    settings.worker.group,
    broker=f"kafka://{settings.kafka['bootstrap.servers']}",
    store="memory://",
    datadir=tempfile.mkdtemp(),
    web_enabled=False,
    topic_disable_leader=True,
    consumer_auto_offset_reset="earliest",
)
transactions = app.topic(settings.topics.transactions, value_serializer="raw", key_serializer="raw")
decisions = app.topic(settings.topics.decisions, value_serializer="raw", key_serializer="raw")


@app.agent(transactions)
async def decide(stream: faust.StreamT) -> None:
    """Decide batches of transactions."""
    async for values in stream.take(TAKE_ROWS, within=TAKE_WITHIN_S):
        positions = ([0] * len(values), range(len(values)))
        batch, _ = decoder.decode_messages(values, None, positions, None)
        batch = batch.in_event_order()
        scored = pipeline.score(batch, pipeline.engine.observe(batch))
        names = policy.names
        for i, transaction_id in enumerate(batch.ids):
            decision = Decision(
                transaction_id=transaction_id,
                event_time_ms=int(batch.time_ms[i]),
                outcome=names[int(scored.decided[i])],
                score=float(scored.probability[i]),
                risk_points=int(scored.points[i]),
                model=parts.version,
            )
            await decisions.send(key=str(batch.texts["card_id"][i]).encode(), value=encode(decision))


if __name__ == "__main__":
    faust.Worker(app, loglevel="WARN").execute_from_commandline()
