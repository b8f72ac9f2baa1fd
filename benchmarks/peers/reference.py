"""What every peer must have decided, computed the obvious way, and the comparison with what it did."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import lightgbm
import numpy as np
from confluent_kafka import Consumer, TopicPartition

from benchmarks.peers.job import WINDOWS_MS, minor_of
from fraudstream.batch import Float64

CARDS_EVERY = 50  # the decisions of one card in so many are compared, all of them
CHECKED_MIN = 500
CLOSE = 1e-9  # of probabilities: another build of LightGBM may round the last bit otherwise
Scores = dict[str, list[tuple[str, float]]]  # by card, transaction ids and scores in order


def features_of(transaction: dict[str, Any], earlier: list[dict[str, Any]]) -> list[float]:
    """Return amount, counts and sums of a card's earlier transactions in (t - window, t]."""
    counts, sums = [], []
    for window_ms in WINDOWS_MS:
        after_ms = transaction["event_time"] - window_ms
        seen = [minor_of(row["amount"]) for row in earlier if row["event_time"] > after_ms]
        counts.append(len(seen))
        sums.append(sum(seen) / 100)
    return [transaction["amount"], *counts, *sums]


def expected_scores(
    table: Any, count: int, booster_text: str, score_of: Callable[[Float64], Float64]
) -> Scores:
    """Return the scores of every 50th card's transactions among the first `count` of a table.

    Args:
        score_of: from raw scores to what is published.
    """
    cards: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    columns = table.slice(0, count).select(["transaction_id", "event_time", "card_id", "amount"])
    for row in columns.to_pylist():
        cards[row["card_id"]].append(row)
    booster, expected = lightgbm.Booster(model_str=booster_text), {}
    for card in sorted(cards)[::CARDS_EVERY]:
        rows = cards[card]
        X = np.array([features_of(row, rows[:i]) for i, row in enumerate(rows)])
        scores = score_of(booster.predict(X, raw_score=True))
        expected[card] = [(row["transaction_id"], float(s)) for row, s in zip(rows, scores, strict=True)]
    return expected


def read_decisions(kafka: dict[str, Any], topic: str, partitions: int, cards: Scores) -> Scores:
    """Return what stands committed in the topic of decisions for these cards."""
    consumer = Consumer({**kafka, "group.id": "peers-check", "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
    found: Scores = {card: [] for card in cards}
    ended = 0
    while ended < partitions:
        for message in consumer.consume(10_000, 5.0):
            if message.error() is not None:
                ended += 1
                continue
            card = message.key().decode()
            if card in found:
                decision = json.loads(message.value())
                found[card].append((decision["transaction_id"], decision["score"]))
    consumer.close()
    return found


def check(name: str, found: Scores, expected: Scores, scores: bool = True) -> int:
    """Return how many decisions were compared; without `scores`, only whose they are.

    Raises:
        SystemExit: a card's decisions are not those of its first transactions, each once, with the expected scores.
    """
    compared = 0
    for card, decisions in found.items():
        for got, must in zip(decisions, expected[card], strict=False):
            if got[0] != must[0] or (scores and not abs(got[1] - must[1]) <= CLOSE):
                raise SystemExit(f"{name}: {card} has {got} where {must} was expected")
        if len(decisions) > len(expected[card]):
            raise SystemExit(
                f"{name}: {card} has {len(decisions)} decisions, {len(expected[card])} transactions"
            )
        compared += len(decisions)
    if compared < CHECKED_MIN:
        raise SystemExit(f"{name}: only {compared} decisions to compare, at least {CHECKED_MIN} are needed")
    return compared
