"""A world -> files or topics."""

from __future__ import annotations

import heapq
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from confluent_kafka import Producer

from fraudstream.bus.clients import FLUSH_TIMEOUT_S, client, client_config
from fraudstream.bus.topics import meet_broker
from fraudstream.clock import monotonic_s
from fraudstream.errors import BusError
from fraudstream.sections import Settings
from fraudstream.simulate.simulation import World

_SLICE_ROWS = 10_000
_TICK_S = 0.002


def write_world(world: World, folder: Path, file_format: str) -> None:
    """Write transactions/, labels/ and truth/ as Parquet or NDJSON, one file each."""
    for name in ("transactions", "labels", "truth"):
        where = folder / name
        where.mkdir(parents=True, exist_ok=True)
        table = getattr(world, name)
        if file_format == "parquet":
            pq.write_table(table, where / f"{name}.parquet", compression="zstd")
        else:
            _write_ndjson(table, where / f"{name}.ndjson")


def _write_ndjson(table: pa.Table, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for part in table.to_batches(_SLICE_ROWS):
            for row in part.to_pylist():
                file.write(json.dumps(row) + "\n")


Message = tuple[bytes, bytes, int]  # key, value, Unix ms


def messages(table: pa.Table, key: str) -> Iterator[Message]:
    """Yield each transaction with its event time."""
    for part in table.to_batches(_SLICE_ROWS):
        for row in part.to_pylist():
            yield row[key].encode(), json.dumps(row).encode(), row["event_time"]


def label_messages(world: World) -> Iterator[Message]:
    """Yield each label with the time at which it becomes known, in that order; its key is the card."""
    columns = (world.transactions[name].to_pylist() for name in ("transaction_id", "card_id"))
    card_of = dict(zip(*columns, strict=True))
    for label in world.labels.to_pylist():
        yield card_of[label["transaction_id"]].encode(), json.dumps(label).encode(), label["known_at"]


def send_world(
    world: World,
    settings: Settings,
    rate: float | None,
    speed: float | None,
    advance: Callable[[str, int, int | None], None],
) -> int:
    """Send the transactions, each label as it becomes known; return how many transactions were acknowledged.

    Args:
        rate: transactions a second; None with `speed` None: as fast as it goes.
        speed: seconds of event time a second.

    Raises:
        BusError: something was not acknowledged.
    """
    meet_broker(settings, "simulate --kafka")
    producer, failed = client(Producer, client_config(settings, "producer")), []

    def report(error: Any, message: Any) -> None:
        if error is not None:
            failed.append(f"{message.topic()}: {error.str()}")

    sent, began_s = 0, monotonic_s()
    first_ms: int | None = None
    for topic, key, value, time_ms in _in_time(world, settings):
        if topic == settings.topics.labels:
            _produce(producer, topic, value, key, report)
            continue
        first_ms = time_ms if first_ms is None else first_ms
        due_s = _due_s(sent, time_ms - first_ms, rate, speed)
        while monotonic_s() - began_s < due_s:
            producer.poll(0)
            time.sleep(_TICK_S)
        _produce(producer, topic, value, key, report)
        sent += 1
        if sent % 1000 == 0:
            advance("sending", 1000, len(world.transactions))
            producer.poll(0)
    left = producer.flush(FLUSH_TIMEOUT_S)
    if failed or left:
        raise BusError(
            f"{len(failed) + left} messages were not delivered: {failed[0] if failed else 'timed out'}"
        )
    return sent


def _in_time(world: World, settings: Settings) -> Iterator[tuple[str, bytes, bytes, int]]:
    """Yield topic, key, value and time of all messages, in order of time."""
    transactions = ((settings.topics.transactions, *m) for m in messages(world.transactions, "card_id"))
    labels = ((settings.topics.labels, *m) for m in label_messages(world))
    yield from heapq.merge(transactions, labels, key=lambda message: message[-1])


def _due_s(sent: int, event_ms: int, rate: float | None, speed: float | None) -> float:
    if rate is not None:
        return sent / rate
    return event_ms / 1000 / speed if speed is not None else 0.0


def _produce(producer: Producer, topic: str, value: bytes, key: bytes | None, report: Any) -> None:
    while True:
        try:
            producer.produce(topic, value, key, on_delivery=report)
            return
        except BufferError:
            producer.poll(0.1)
