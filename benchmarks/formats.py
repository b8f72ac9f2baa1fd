"""What a transaction costs to read from JSON, Avro and Protobuf: from the message to the row of a batch.

`python -m benchmarks.formats --json`. The same card payments, all twelve fields of the built-in event type, in
batches of 256; schemas come from a registry of our own on a loopback port, and are known after the warm-up. JSON is
the baseline; `avro_by_deserializer` is Avro with confluent-kafka's own deserializer in the place of our reader. The
median of some passes over all messages, in one thread.
"""

from __future__ import annotations

import argparse
import base64
import json
import statistics
import struct
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import msgspec
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from benchmarks.machine import about_machine
from fraudstream.bus.formats import Read, new_reader
from fraudstream.bus.memory import MemoryMessage
from fraudstream.decode import Decoder, Value
from fraudstream.sections import Settings
from fraudstream.settings import load_settings
from fraudstream.simulate import WorldConfig, simulate
from tests.schemaregistry import RegistryStub, card_payments, schema_registry

START_MS = 1_735_689_600_000  # 2025-01-01
BATCH_ROWS = 256
PASSES = 7


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options.add_argument("--transactions", type=int, default=20_000)
    chosen = options.parse_args()
    found = run(chosen.transactions)
    if chosen.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:28} {value}")


def run(transactions: int) -> dict[str, Any]:
    """Measure each format and return the figures."""
    world = simulate(WorldConfig(start_ms=START_MS, customers=1_000, days=30))
    rows = world.transactions.slice(0, transactions).to_pylist()
    with schema_registry() as stub:
        made: dict[str, list[bytes]] = {
            "json": [json.dumps(row).encode() for row in rows],
            "avro": card_payments(stub, rows),
            "protobuf": as_protobuf(stub, rows),
        }
        cost_us = {
            name: microseconds(reads(settings_of(name, stub.url), values)) for name, values in made.items()
        }
        avro = settings_of("avro", stub.url)
        cost_us["avro_by_deserializer"] = microseconds(reads(avro, made["avro"], by_deserializer(stub.url)))
    return {
        **{f"{name}_us": round(value, 2) for name, value in cost_us.items()},
        **{f"{name}_bytes": round(statistics.mean(map(len, values)), 1) for name, values in made.items()},
        **{f"{name}_ratio": round(cost_us[name] / cost_us["json"], 1) for name in cost_us if name != "json"},
        "transactions": len(rows),
        **about_machine(),
    }


def settings_of(format: str, url: str) -> Settings:
    """Return the built-in settings with this format."""
    overrides = {"event.format": format, "schema_registry.url": url}
    return load_settings(overrides=overrides, environment={"FRAUDSTREAM_CONFIG": ""})


def by_deserializer(url: str) -> Read:
    """Return a reader that lets confluent-kafka do all of Avro."""
    client = SchemaRegistryClient({"url": url})
    deserialize = AvroDeserializer(client, conf={"subject.name.strategy.type": "TOPIC"})
    encode = msgspec.json.Encoder(decimal_format="number").encode

    def read(messages: Sequence[Any]) -> list[Value]:
        return [
            encode(
                deserialize(m.value(), SerializationContext("transactions", MessageField.VALUE, m.headers()))
            )
            for m in messages
        ]

    return read


def reads(settings: Settings, values: list[bytes], reader: Read | None = None) -> Callable[[], float]:
    """Return what reads all messages once, and says how many microseconds each took.

    Args:
        reader: in the place of that of the settings.
    """
    reader, decoder = reader or new_reader(settings), Decoder(settings.event, set(settings.event.fields))
    messages = [MemoryMessage(value, b"card", None, 0, i) for i, value in enumerate(values)]
    batches = [messages[at : at + BATCH_ROWS] for at in range(0, len(messages), BATCH_ROWS)]

    def once() -> float:
        started = perf_counter()
        for batch in batches:
            offsets = [message.offset() for message in batch]
            _, rejected = decoder.decode_messages(reader(batch), None, ([0] * len(batch), offsets), None)
            assert not rejected, rejected[0].error
        return (perf_counter() - started) / len(messages) * 1e6

    return once


def microseconds(once: Callable[[], float]) -> float:
    """Return the median of some passes after one for warming up."""
    once()
    return statistics.median(once() for _ in range(PASSES))


def as_protobuf(stub: RegistryStub, rows: list[dict[str, Any]]) -> list[bytes]:
    """Return transactions as Protobuf messages: times as int64 milliseconds, amounts as double."""
    file = FileDescriptorProto(name="transaction.proto", package="bank", syntax="proto3")
    made = file.message_type.add(name="Transaction")
    for number, name in enumerate(rows[0], 1):
        kind = {"event_time": "TYPE_INT64", "amount": "TYPE_DOUBLE"}.get(name, "TYPE_STRING")
        made.field.add(name=name, number=number, type=kind, label="LABEL_OPTIONAL")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    message = message_factory.GetMessageClass(pool.FindMessageTypeByName("bank.Transaction"))
    schema = base64.b64encode(file.SerializeToString()).decode()
    entry = stub.register("payments-value", {"schema": schema, "schemaType": "PROTOBUF"})
    front = struct.pack(">bI", 0, entry["id"]) + b"\0"
    return [front + message(**row).SerializeToString() for row in rows]


if __name__ == "__main__":
    main()
