"""Schemas of a registry -> what parses messages into plain data: Avro by fastavro, Protobuf by Google's runtime.

The deserializers of confluent-kafka are not used: Avro's expands the schema again for each message, Protobuf's must
be given the class of the message beforehand (docs/decisions/0001).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import BytesIO
from typing import Any

import fastavro
from confluent_kafka.schema_registry.protobuf import protobuf_to_decimal
from google.protobuf import descriptor_pool, message_factory, timestamp_pb2, wrappers_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.type import money_pb2

Convert = Callable[[Any], Any]
Referenced = Callable[[Any], Any]  # a schema's reference -> that schema

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def avro_parser(
    schema: Any, referenced: Referenced, indexes: Sequence[int] | None
) -> Callable[[BytesIO], Any]:
    """Return what parses messages of an Avro schema; logical types become Python's own.

    Raises:
        ValueError: a few bytes could claim any depth or length by this schema.
    """
    named: dict[str, Any] = {}

    def parsed(one: Any) -> Any:
        for reference in one.references or []:
            if reference.name not in named:
                parsed(referenced(reference))
        return fastavro.parse_schema(json.loads(one.schema_str), named)

    writer = parsed(schema)
    _check_bounded(writer, named, frozenset(), set())
    return lambda payload: fastavro.schemaless_reader(payload, writer, None)


def _check_bounded(schema: Any, named: Mapping[str, Any], around: frozenset[str], checked: set[str]) -> None:
    """Raise ValueError for a record that holds itself, and for an array whose items take no bytes.

    fastavro follows a message as deep as it goes, past the end of the stack (a crash), and makes as many empty items
    as it says. A Protobuf message is at most 100 deep.

    Args:
        around: names of the records around it; checked: of those that are known to be good.
    """
    if isinstance(schema, str):
        schema = named.get(schema)
    parts = schema if isinstance(schema, list) else []
    if isinstance(schema, dict):
        name = schema.get("name", "")
        if name in around:
            raise ValueError(f"record {name} holds itself")
        if name in checked:
            return
        if schema["type"] == "array" and _takes_nothing(schema["items"], named):
            raise ValueError("an array has items that take no bytes")
        parts = [
            *(field["type"] for field in schema.get("fields", ())),
            schema.get("items"),
            schema.get("values"),
        ]
        around = around | {name} if "fields" in schema else around
    for part in parts:
        _check_bounded(part, named, around, checked)
    if isinstance(schema, dict) and "fields" in schema:
        checked.add(schema["name"])


def _takes_nothing(schema: Any, named: Mapping[str, Any]) -> bool:
    schema = named.get(schema, schema) if isinstance(schema, str) else schema
    if not isinstance(schema, dict):
        return bool(schema == "null")
    if "fields" in schema:
        return all(_takes_nothing(field["type"], named) for field in schema["fields"])
    return schema["type"] == "null" or schema.get("size") == 0


def protobuf_parser(
    schema: Any, referenced: Referenced, indexes: Sequence[int] | None
) -> Callable[[BytesIO], Mapping[str, Any]]:
    """Return what parses messages of a Protobuf schema.

    Args:
        indexes: which of the schema's messages: its place in the file, then in the message around it.
    """
    pool, added = descriptor_pool.DescriptorPool(), set[str]()

    def add(name: str, one: Any) -> FileDescriptorProto:
        file = FileDescriptorProto.FromString(base64.b64decode(one.schema_str, validate=True))
        file.name = name
        references = {reference.name: reference for reference in one.references or []}
        for needed in file.dependency:
            if needed in added:
                continue
            if needed in references:
                add(needed, referenced(references[needed]))
            else:
                add_known(descriptor_pool.Default().FindFileByName(needed))
        pool.Add(file)
        added.add(name)
        return file

    def add_known(file: Any) -> None:
        for needed in file.dependencies:
            add_known(needed)
        if file.name not in added:
            pool.AddSerializedFile(file.serialized_pb)
            added.add(file.name)

    file = add("transaction.proto", schema)
    message = message_factory.GetMessageClass(pool.FindMessageTypeByName(_message_name(file, indexes or [0])))
    plain = _Plain(message.DESCRIPTOR, {})
    return lambda payload: plain(message.FromString(payload.read()))


def _message_name(file: FileDescriptorProto, indexes: Sequence[int]) -> str:
    names, found = [file.package] if file.package else [], file.message_type
    for index in indexes:
        if not 0 <= index < len(found):
            raise ValueError(f"it has no message {'.'.join(map(str, indexes))}")
        names.append(found[index].name)
        found = found[index].nested_type
    return ".".join(names)


class _Plain:
    """Makes messages of one kind plain data: fields by name, without those that are known not to be set."""

    def __init__(self, kind: Any, known: dict[str, _Plain]) -> None:
        known[kind.full_name] = self  # a message may hold others of its kind
        self._fields = [(field.name, field.has_presence, _convert(field, known)) for field in kind.fields]

    def __call__(self, message: Any) -> dict[str, Any]:
        return {
            name: convert(getattr(message, name)) if convert else getattr(message, name)
            for name, has_presence, convert in self._fields
            if not has_presence or message.HasField(name)
        }


def _convert(field: Any, known: dict[str, _Plain]) -> Convert | None:
    """Return what makes a field's value plain data; None where it is."""
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        one = _convert(kind.fields_by_name["value"], known) or _same
        return lambda values: {str(key): one(values[key]) for key in values}
    single = _convert_single(field, known)
    if not field.is_repeated:
        return single
    each = single or _same
    return lambda values: [each(value) for value in values]


def _convert_single(field: Any, known: dict[str, _Plain]) -> Convert | None:
    if field.enum_type is not None:
        names = {number: value.name for number, value in field.enum_type.values_by_number.items()}
        return lambda number: names.get(number, number)
    if field.message_type is None:
        return None
    name = field.message_type.full_name
    return _WELL_KNOWN.get(name) or known.get(name) or _Plain(field.message_type, known)


def _same(value: Any) -> Any:
    return value


_WELL_KNOWN: dict[str, Convert] = {
    timestamp_pb2.Timestamp.DESCRIPTOR.full_name: lambda at: (
        _EPOCH + timedelta(seconds=at.seconds, microseconds=at.nanos // 1000)
    ),
    money_pb2.Money.DESCRIPTOR.full_name: lambda money: (
        Decimal(money.units) + Decimal(money.nanos).scaleb(-9)
    ),
    "confluent.type.Decimal": lambda decimal: protobuf_to_decimal(decimal),
    **{
        one.full_name: lambda boxed: boxed.value
        for one in wrappers_pb2.DESCRIPTOR.message_types_by_name.values()
    },
}
