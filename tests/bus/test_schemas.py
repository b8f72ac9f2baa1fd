"""Avro and Protobuf messages, written by Confluent's own serializers against a registry over HTTP, as JSON."""

from __future__ import annotations

import base64
import json
import struct
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient, header_schema_id_serializer
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.confluent.type import decimal_pb2
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer, decimal_to_protobuf
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pool, message_factory, timestamp_pb2, wrappers_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.type import money_pb2
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.bus.formats import new_reader
from fraudstream.bus.memory import MemoryMessage
from fraudstream.bus.schemas import ASK_AGAIN_S, SchemaReader
from fraudstream.decode import Decoder
from fraudstream.errors import ConfigError, RecordError, RegistryAwayError
from fraudstream.sections import Settings
from fraudstream.settings import load_settings
from tests.schemaregistry import RegistryStub, schema_registry

TOPIC = "fraud.transactions"
AT = datetime(2026, 3, 4, 5, 6, 7, 891000, UTC)
AT_MS = 1_772_600_767_891
CHANNELS = {"type": "enum", "name": "Channel", "symbols": ["pos", "online"]}
FIELDS: list[dict[str, Any]] = [
    {"name": "transaction_id", "type": "string"},
    {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "card_id", "type": "string"},
    {"name": "merchant_id", "type": "string"},
    {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}},
    {"name": "channel", "type": ["null", CHANNELS], "default": None},
]
ROW = {
    "transaction_id": "t1",
    "event_time": AT,
    "card_id": "c1",
    "merchant_id": "m1",
    "amount": Decimal("12.34"),
    "channel": "online",
}


def record(*fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": "Transaction", "namespace": "bank", "fields": list(fields)}


@pytest.fixture
def registry() -> Iterator[RegistryStub]:
    with schema_registry() as stub:
        yield stub


def settings_of(url: str, format: str = "avro", **more: Any) -> Settings:
    overrides = {"event.format": format, "schema_registry.url": url} | {
        f"schema_registry.{name}": value for name, value in more.items()
    }
    return load_settings(overrides=overrides, environment={"FRAUDSTREAM_CONFIG": ""})


def framed(schema_id: int, body: bytes) -> bytes:
    return struct.pack(">bI", 0, schema_id) + body


def avro(schema: Any, row: Any) -> bytes:
    to = BytesIO()
    fastavro.schemaless_writer(to, fastavro.parse_schema(schema), row)
    return to.getvalue()


def told(reader: Any, value: bytes | None, headers: Any = None) -> Any:
    """Return a message's JSON as plain data, or the line that says why there is none."""
    (read,) = reader([MemoryMessage(value, b"c1", headers)])
    return str(read) if isinstance(read, RecordError) else json.loads(read)


def test_what_confluents_serializer_writes_is_read_in_the_value_and_in_the_header(
    registry: RegistryStub,
) -> None:
    client = SchemaRegistryClient({"url": registry.url})
    schema = json.dumps(record(*FIELDS))
    topic = {"subject.name.strategy.type": "TOPIC"}
    plain = AvroSerializer(client, schema, conf=topic)
    by_header = AvroSerializer(
        client, schema, conf=topic | {"schema.id.serializer": header_schema_id_serializer}
    )
    headers: list[Any] = [("trace", b"7")]
    values = [
        plain(ROW, SerializationContext(TOPIC, MessageField.VALUE)),
        by_header(ROW, SerializationContext(TOPIC, MessageField.VALUE, headers)),
    ]
    assert headers[1][0] == "__value_schema_id"
    assert values[0] == framed(1, values[1])
    settings = settings_of(registry.url)
    messages = [
        MemoryMessage(value, b"c1", given) for value, given in zip(values, (None, headers), strict=True)
    ]
    read = new_reader(settings)(messages)
    assert read[0] == read[1]
    batch, rejected = Decoder(settings.event, {"channel"}).decode_messages(read, None, ([0, 0], [0, 1]), None)
    assert not rejected
    assert batch.ids == ["t1", "t1"]
    assert batch.time_ms.tolist() == [AT_MS, AT_MS]
    assert batch.measures["amount"].tolist() == [1234, 1234]
    assert batch.texts["channel"] == ["online", "online"]


KINDS: list[tuple[Any, Any, Any]] = [
    ({"type": "long", "logicalType": "timestamp-millis"}, AT, "2026-03-04T05:06:07.891Z"),
    ({"type": "long", "logicalType": "timestamp-micros"}, AT, "2026-03-04T05:06:07.891Z"),
    ("long", AT_MS, AT_MS),
    ({"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}, Decimal("0.10"), 0.1),
    ({"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 8}, Decimal("1E-8"), 1e-8),
    ({"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 0}, Decimal(12), 12),
    (
        {"type": "fixed", "name": "F", "size": 8, "logicalType": "decimal", "precision": 12, "scale": 2},
        Decimal(1),
        1,
    ),
    (["null", "string"], None, None),
    (["null", "string"], "a", "a"),
    (CHANNELS, "pos", "pos"),
    ({"type": "string", "logicalType": "uuid"}, uuid.UUID(int=7), str(uuid.UUID(int=7))),
    ("double", 1.5, 1.5),
    ("double", float("nan"), None),
    ("boolean", True, True),
    (record({"name": "x", "type": "int"}), {"x": 1}, {"x": 1}),
    ({"type": "array", "items": "int"}, [1, 2], [1, 2]),
    ({"type": "map", "values": "int"}, {"a": 1}, {"a": 1}),
]


@pytest.mark.parametrize(("kind", "written", "read"), KINDS)
def test_each_avro_type_has_its_json(registry: RegistryStub, kind: Any, written: Any, read: Any) -> None:
    schema = {"type": "record", "name": "Outer", "fields": [{"name": "x", "type": kind}]}
    value = framed(registry.avro("s", schema), avro(schema, {"x": written}))
    reader = new_reader(settings_of(registry.url))
    found = told(reader, value)["x"]
    assert (found.replace(".891000", ".891") if isinstance(found, str) else found) == read


def test_each_message_is_read_by_the_schema_that_wrote_it(registry: RegistryStub) -> None:
    more = record(*FIELDS, {"name": "device_id", "type": ["null", "string"], "default": None})
    fewer = record(*(field for field in FIELDS if field["name"] != "channel"))
    values = [
        framed(registry.avro("s", schema), avro(schema, row))
        for schema, row in (
            (record(*FIELDS), ROW),
            (more, ROW | {"device_id": "d9"}),
            (fewer, {k: v for k, v in ROW.items() if k != "channel"}),
            (record(*FIELDS), ROW),
        )
    ]
    settings = settings_of(registry.url)
    read = new_reader(settings)([MemoryMessage(value) for value in values])
    positions = [0] * 4, list(range(4))
    batch, rejected = Decoder(settings.event, {"channel", "device_id"}).decode_messages(
        read, None, positions, None
    )
    assert not rejected
    assert batch.texts["channel"] == ["online", "online", None, "online"]
    assert batch.texts["device_id"] == [None, "d9", None, None]
    assert sorted(registry.asked) == ["/schemas/ids/1", "/schemas/ids/2", "/schemas/ids/3"]


def test_a_schema_may_refer_to_others(registry: RegistryStub) -> None:
    place = {
        "type": "record",
        "name": "Place",
        "namespace": "bank",
        "fields": [{"name": "city", "type": "string"}],
    }
    shop = {
        "type": "record", "name": "Shop", "namespace": "bank", "fields": [{"name": "at", "type": "bank.Place"}],
    }  # fmt: skip
    registry.avro("place", place)
    to_place = {"name": "bank.Place", "subject": "place", "version": 1}
    registry.avro("shop", shop, references=[to_place])
    to_shop = {"name": "bank.Shop", "subject": "shop", "version": 1}
    fields = [{"name": "shop", "type": "bank.Shop"}, {"name": "home", "type": "bank.Place"}]
    whole = registry.avro("s", record(*fields), references=[to_shop, to_place])
    value = framed(whole, b"\x04Ro\x04Na")
    assert told(new_reader(settings_of(registry.url)), value) == {
        "shop": {"at": {"city": "Ro"}},
        "home": {"city": "Na"},
    }


def message_class(*files: FileDescriptorProto) -> Any:
    """Return the class of the last file's last message."""
    pool = descriptor_pool.DescriptorPool()
    for known in (timestamp_pb2, wrappers_pb2, money_pb2, decimal_pb2):
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    for file in files:
        pool.Add(file)
    name = ".".join(part for part in (files[-1].package, files[-1].message_type[-1].name) if part)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def proto() -> FileDescriptorProto:
    """A transaction as the third message of its file, with every kind of field."""
    file = FileDescriptorProto(name="transaction.proto", package="bank", syntax="proto3")
    file.dependency.extend(
        [
            "google/protobuf/timestamp.proto",
            "google/protobuf/wrappers.proto",
            "google/type/money.proto",
            decimal_pb2.DESCRIPTOR.name,
        ]
    )
    file.enum_type.add(name="Channel").value.add(name="pos", number=0)
    file.enum_type[0].value.add(name="online", number=1)
    file.message_type.add(name="Other")
    file.message_type.add(name="Another")
    made = file.message_type.add(name="Transaction")
    kinds: list[tuple[str, Any, str]] = [
        ("transaction_id", "TYPE_STRING", ""),
        ("event_time", "TYPE_MESSAGE", ".google.protobuf.Timestamp"),
        ("card_id", "TYPE_STRING", ""),
        ("merchant_id", "TYPE_INT64", ""),
        ("amount", "TYPE_MESSAGE", ".confluent.type.Decimal"),
        ("channel", "TYPE_ENUM", ".bank.Channel"),
        ("currency", "TYPE_MESSAGE", ".google.protobuf.StringValue"),
        ("fee", "TYPE_MESSAGE", ".google.type.Money"),
        ("tags", "TYPE_STRING", ""),
        ("device_id", "TYPE_STRING", ""),
    ]
    for number, (name, kind, of) in enumerate(kinds, 1):
        field = made.field.add(name=name, number=number, type=kind, type_name=of or None)
        field.label = field.LABEL_REPEATED if name == "tags" else field.LABEL_OPTIONAL
    made.field[-1].proto3_optional = True
    made.field[-1].oneof_index = 0
    made.oneof_decl.add(name="_device_id")
    return file


def paid(**more: Any) -> Any:
    return message_class(proto())(
        transaction_id="t1",
        event_time=AT,
        card_id="c1",
        merchant_id=2**60,
        amount={"value": decimal_to_protobuf(Decimal("12.34"), 2).value, "scale": 2},
        channel=1,
        **more,
    )


def test_a_protobuf_message_is_read_by_its_indexes_in_the_value_and_in_the_header(
    registry: RegistryStub,
) -> None:
    client = SchemaRegistryClient({"url": registry.url})
    made = paid(currency={"value": "USD"}, fee={"units": 1, "nanos": 250_000_000}, tags=["a", "b"])
    topic = {"subject.name.strategy.type": "TOPIC"}
    headers: list[Any] = []
    plain = ProtobufSerializer(type(made), client, topic)
    by_header = ProtobufSerializer(
        type(made), client, topic | {"schema.id.serializer": header_schema_id_serializer}
    )
    value = plain(made, SerializationContext(TOPIC, MessageField.VALUE))
    bare = by_header(made, SerializationContext(TOPIC, MessageField.VALUE, headers))
    assert value[5:7] == bytes([2, 4]), "one index, the third message"
    settings = settings_of(registry.url, "protobuf")
    reader = new_reader(settings)
    assert told(reader, value) == {
        "transaction_id": "t1",
        "event_time": "2026-03-04T05:06:07.891000Z",
        "card_id": "c1",
        "merchant_id": 2**60,
        "amount": 12.34,
        "channel": "online",
        "currency": "USD",
        "fee": 1.25,
        "tags": ["a", "b"],
    }
    assert told(reader, bare, headers) == told(reader, value)
    batch, rejected = Decoder(settings.event, {"channel", "device_id"}).decode_messages(
        reader([MemoryMessage(value)]), None, ([0], [0]), None
    )
    assert not rejected
    assert (batch.time_ms[0], batch.measures["amount"][0]) == (AT_MS, 1234)
    assert (batch.texts["merchant_id"], batch.texts["device_id"]) == ([str(2**60)], [None])


@pytest.mark.parametrize(
    "indexes",
    [
        bytes([6, 0, 0, 0]) * 100,
        b"\x80\x01" + bytes(64),
        b"\x02" + b"\xff" * 60_000 + b"\x01",
        b"\x02\x01",
        b"\x01",
    ],
    ids=["nested", "too deep", "a number without end", "negative", "a negative number of them"],
)
def test_indexes_that_no_schema_has_are_refused_soon(fixed: dict[str, Any], indexes: bytes) -> None:
    reader, schema_id = fixed["protobuf"]
    (read,) = reader([MemoryMessage(framed(schema_id, indexes))])
    assert isinstance(read, RecordError)
    assert len(str(read)) < 200


def test_a_protobuf_schema_may_import_others_and_nest_messages(registry: RegistryStub) -> None:
    place = FileDescriptorProto(name="place.proto", package="bank", syntax="proto3")
    place.message_type.add(name="Place").field.add(name="city", number=1, type=9, label=1)
    file = FileDescriptorProto(name="x.proto", package="bank", syntax="proto3", dependency=["place.proto"])
    outer = file.message_type.add(name="Outer")
    inner = outer.nested_type.add(name="Inner")
    inner.field.add(name="place", number=1, type=11, label=1, type_name=".bank.Place")
    inner.field.add(name="n", number=2, type=5, label=1)

    def serialized(one: FileDescriptorProto) -> str:
        return base64.b64encode(one.SerializeToString()).decode()

    registry.register("place", {"schema": serialized(place), "schemaType": "PROTOBUF"})
    references = [{"name": "place.proto", "subject": "place", "version": 1}]
    entry = registry.register(
        "s", {"schema": serialized(file), "schemaType": "PROTOBUF", "references": references}
    )
    reader = new_reader(settings_of(registry.url, "protobuf"))
    body = b"\x0a\x04\x0a\x02Ro"
    assert told(reader, framed(entry["id"], bytes([4, 0, 0]) + body)) == {"place": {"city": "Ro"}, "n": 0}
    assert told(reader, framed(entry["id"], bytes([4, 0, 2]) + body)) == (
        "$: was written by schema 2, message 0.1, which cannot be used: ValueError it has no message 0.1"
    )


BAD: dict[str, tuple[Any, str]] = {
    "json": (
        lambda good: b'{"transaction_id": "t1"}',
        "its first byte is 0x7b, not 0x00; it looks like JSON",
    ),
    "empty": (lambda good: b"", "is too short to name its schema"),
    "no id": (lambda good: b"\0\0\0", "is too short to name its schema"),
    "wrong magic": (lambda good: b"\x05" + good[1:], "its first byte is 0x05, not 0x00"),
    "unknown id": (lambda good: framed(99, good[5:]), "$: was written by schema 99: Schema not found"),
    "huge id": (lambda good: framed(2**31, good[5:]), "names schema 2147483648, which no registry has"),
    "cut off": (lambda good: good[:-3], "$: is cut off or not of schema 1: EOFError"),
    "only an id": (lambda good: good[:5], "$: is cut off or not of schema 1: EOFError"),
    "more": (lambda good: good + b"x", "$: has bytes behind its end, by schema 1"),
    "no text": (lambda good: good.replace(b"c1", b"\xff\xff"), "not of schema 1: UnicodeDecodeError"),
    "too large": (lambda good: good + bytes(70_000), "65536 are accepted (event.message_bytes_max)"),
    "other kind": (lambda good: framed(2, b"\0"), 'schema 2, of type protobuf; event.format is "avro"'),
    "no schema": (lambda good: framed(3, b"\0"), "schema 3, which cannot be used: UnknownType nonsense"),
    "no record": (lambda good: framed(4, b"\x02a"), "$: is no record, by schema 4"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_read_is_named_in_one_line_and_the_others_are_read(
    registry: RegistryStub, kind: str
) -> None:
    good = framed(registry.avro("s", record(*FIELDS)), avro(record(*FIELDS), ROW))
    registry.register("p", {"schema": "", "schemaType": "PROTOBUF"})
    registry.avro("n", "nonsense")
    registry.avro("t", "string")
    make, line = BAD[kind]
    read = new_reader(settings_of(registry.url))([MemoryMessage(value) for value in (good, make(good), good)])
    assert read[0] == read[2]
    assert isinstance(read[0], bytes)
    assert isinstance(read[1], RecordError)
    assert line in str(read[1])
    assert "\n" not in str(read[1])
    assert read[1].kind == ("size" if kind == "too large" else "schema")


PLACE = {"type": "record", "name": "Place", "fields": [{"name": "city", "type": "string"}]}
NOTHING = {"type": "record", "name": "Nothing", "fields": [{"name": "x", "type": "null"}]}


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        (["null", "bank.Transaction"], "record bank.Transaction holds itself"),
        ({"type": "map", "values": "bank.Transaction"}, "record bank.Transaction holds itself"),
        ({"type": "array", "items": "null"}, "an array has items that take no bytes"),
        (
            {"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}},
            "an array has items that take no bytes",
        ),
        ({"type": "array", "items": NOTHING}, "an array has items that take no bytes"),
    ],
)
def test_a_schema_by_which_few_bytes_claim_any_depth_or_length_is_refused(
    registry: RegistryStub, kind: Any, line: str
) -> None:
    value = framed(registry.avro("s", record({"name": "x", "type": kind})), b"\x02" * 30_000)
    assert line in told(new_reader(settings_of(registry.url)), value)


def test_a_record_may_stand_in_several_places(registry: RegistryStub) -> None:
    fields = [
        {"name": "x", "type": PLACE},
        {"name": "y", "type": ["null", "Place"]},
        {"name": "z", "type": "null"},
    ]
    schema = {"type": "record", "name": "Outer", "fields": fields}
    value = framed(
        registry.avro("s", schema), avro(schema, {"x": {"city": "Ro"}, "y": {"city": "Na"}, "z": None})
    )
    assert told(new_reader(settings_of(registry.url)), value) == {
        "x": {"city": "Ro"},
        "y": {"city": "Na"},
        "z": None,
    }


def test_a_schema_without_a_required_field_names_it(registry: RegistryStub) -> None:
    fewer = record(*FIELDS[:3])
    value = framed(registry.avro("s", fewer), avro(fewer, ROW))
    settings = settings_of(registry.url)
    read = new_reader(settings)([MemoryMessage(value)])
    _, (rejected,) = Decoder(settings.event, set()).decode_messages(read, None, ([0], [0]), None)
    assert (str(rejected.error), rejected.error.kind) == ("$.merchant_id: is required and missing", "missing")


@given(st.binary(max_size=60), st.sampled_from(["avro", "protobuf"]))
def test_no_bytes_make_it_fail(fixed: dict[str, Any], body: bytes, format: str) -> None:
    reader, schema_id = fixed[format]
    front = bytes([2, 4]) if format == "protobuf" else b""
    for value in (body, framed(schema_id, body), framed(schema_id, front + body)):
        (read,) = reader([MemoryMessage(value)])
        assert isinstance(read, bytes | RecordError)


@pytest.fixture(scope="module")
def fixed() -> Iterator[dict[str, Any]]:
    with schema_registry() as stub:
        schema = base64.b64encode(proto().SerializeToString()).decode()
        entry = stub.register("p", {"schema": schema, "schemaType": "PROTOBUF"})
        yield {
            "avro": (new_reader(settings_of(stub.url)), stub.avro("s", record(*FIELDS))),
            "protobuf": (new_reader(settings_of(stub.url, "protobuf")), entry["id"]),
        }


def test_a_schema_that_is_not_there_is_not_asked_for_at_each_message(registry: RegistryStub) -> None:
    reader = new_reader(settings_of(registry.url))
    for _ in range(5):
        assert told(reader, framed(1, b"")) == "$: was written by schema 1: Schema not found"
    assert registry.asked == ["/schemas/ids/1"]


def test_a_schema_that_was_not_there_is_asked_for_again_later(
    registry: RegistryStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1000.0
    monkeypatch.setattr("fraudstream.bus.schemas.monotonic_s", lambda: now_s)
    reader = new_reader(settings_of(registry.url))
    assert "Schema not found" in told(reader, framed(1, b"\x04t1"))
    schema = record({"name": "transaction_id", "type": "string"})
    registry.avro("s", schema)
    now_s += ASK_AGAIN_S
    assert told(reader, framed(1, b"\x04t1")) == {"transaction_id": "t1"}


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (401, "answers 401 out of order"),
        (404, "answers 404 out of order"),
        (500, "answers 500 out of order"),
        (503, "answers 503 out of order"),
        (200, "JSONDecodeError"),
    ],
)
def test_a_registry_that_cannot_answer_makes_no_dead_letters(
    registry: RegistryStub, status: int, line: str
) -> None:
    good = framed(registry.avro("s", record(*FIELDS)), avro(record(*FIELDS), ROW))
    reader = new_reader(settings_of(registry.url))
    registry.broken = status
    with pytest.raises(RegistryAwayError) as away:
        reader([MemoryMessage(good)])
    assert str(away.value).startswith(
        f'schema_registry.url = "{registry.url}": cannot be asked for schema 1: {line}'
    )
    registry.broken = 0
    assert told(reader, good)["transaction_id"] == "t1"
    registry.broken = status
    assert told(reader, good)["transaction_id"] == "t1", "what is known is not asked for again"


def test_a_registry_that_is_down_is_named_without_its_credentials() -> None:
    with schema_registry() as gone:
        url = gone.url.replace("//", "//user:hunter2@")
    with pytest.raises(RegistryAwayError, match="cannot be asked for schema 1: ConnectError") as away:
        new_reader(settings_of(url))([MemoryMessage(framed(1, b""))])
    assert "hunter2" not in str(away.value)


def test_credentials_are_given_and_hidden(registry: RegistryStub, tmp_path: Path) -> None:
    registry.credentials = "user:hunter2"
    good = framed(registry.avro("s", record(*FIELDS)), avro(record(*FIELDS), ROW))
    name = "basic.auth.user.info"
    settings = settings_of(registry.url, **{name: "user:hunter2"})
    assert told(new_reader(settings), good)["transaction_id"] == "t1"
    assert "hunter2" not in repr(settings)
    variable = {
        "FRAUDSTREAM_CONFIG": "",
        "FRAUDSTREAM_EVENT__FORMAT": "avro",
        "FRAUDSTREAM_SCHEMA_REGISTRY__URL": registry.url,
        "FRAUDSTREAM_SCHEMA_REGISTRY__BASIC_AUTH_USER_INFO": "user:hunter2",
        "FRAUDSTREAM_SCHEMA_REGISTRY__TIMEOUT": "3",
    }
    assert told(new_reader(load_settings(environment=variable)), good)["transaction_id"] == "t1"
    (tmp_path / "secret").write_text(variable.pop("FRAUDSTREAM_SCHEMA_REGISTRY__BASIC_AUTH_USER_INFO") + "\n")
    variable["FRAUDSTREAM_SCHEMA_REGISTRY__BASIC_AUTH_USER_INFO_FILE"] = str(tmp_path / "secret")
    assert told(new_reader(load_settings(environment=variable)), good)["transaction_id"] == "t1"
    with pytest.raises(RegistryAwayError, match="answers 401 Unauthorized"):
        new_reader(settings_of(registry.url, **{name: "user:wrong"}))([MemoryMessage(good)])


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"no.such": 1}, "schema_registry: Unrecognized properties: no.such"),
        ({"ssl.ca.location": "/no/such"}, "schema_registry: [Errno 2] No such file or directory"),
        ({"basic.auth.user.info": "hunter2"}, "schema_registry: basic.auth.user.info must be in the form of"),
    ],
)
def test_settings_of_the_registry_that_cannot_be_used_are_named(more: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        SchemaReader(settings_of("http://127.0.0.1:1", **more))
    assert str(wrong.value).startswith(line)
    assert "hunter2" not in str(wrong.value)


@pytest.mark.parametrize("url", ["", "ftp://x", "registry:8081", "user:hunter2@registry", "http://a,b"])
def test_a_format_with_schemas_needs_the_address_of_a_registry(url: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        settings_of(url)
    assert str(wrong.value).startswith(
        'schema_registry.url: event.format = "avro" needs it; give "http://host:8081"'
    )


def test_a_format_that_there_is_not_is_named() -> None:
    with pytest.raises(ConfigError, match=r'event.format = "xml": expected one of json, avro, protobuf'):
        settings_of("", "xml")
