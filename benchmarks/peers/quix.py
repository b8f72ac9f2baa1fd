"""Quix Streams, at least once (its default), offsets and state committed every 5 s (its default).

Its sliding windows report when a window closes, not what a transaction sees as it comes; so the rows of a card are a
value in its state (RocksDB with a changelog topic), as its documentation has it for logic of one's own. It hands out
one transaction at a time.
"""

from __future__ import annotations

from typing import Any

from quixstreams import Application, State

from benchmarks.peers.job import decision, job, minor_of, observe, row_scorer

names = job()
score_of = row_scorer(names.model)


def decide(transaction: dict[str, Any], state: State) -> dict[str, Any]:
    """Decide one transaction."""
    rows, time_ms = state.get("rows", []), transaction["event_time"]
    features = observe(rows, time_ms, minor_of(transaction["amount"]))
    state.set("rows", rows)
    return decision(transaction["transaction_id"], time_ms, score_of(features))


def main() -> None:
    app = Application(
        broker_address=names.bootstrap,
        consumer_group=names.group,
        auto_offset_reset="earliest",
        state_dir=names.folder,
        loglevel="WARNING",
    )
    transactions = app.topic(names.transactions, key_deserializer="str", value_deserializer="json")
    decisions = app.topic(names.decisions, key_serializer="str", value_serializer="json")
    app.dataframe(transactions).apply(decide, stateful=True).to_topic(decisions)
    app.run()


if __name__ == "__main__":
    main()
