"""Messages that name a schema of a registry -> JSON.

Confluent's serializers put the id of the schema in front of the value (a byte 0 and 4 bytes; for Protobuf the
indexes of the message behind them), or its GUID into the header `__value_schema_id`. Client and framing are
confluent-kafka's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

import msgspec
from confluent_kafka.schema_registry import SchemaRegistryClient, dual_schema_id_deserializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.schema_registry.serde import SchemaId
from confluent_kafka.serialization import MessageField, SerializationContext, SerializationError

from fraudstream.bus.parsers import avro_parser, protobuf_parser
from fraudstream.clock import monotonic_s
from fraudstream.decode import Value, too_long
from fraudstream.errors import ConfigError, RecordError, RegistryAwayError
from fraudstream.sections import Settings, shown_uri

Parse = Callable[[BytesIO], Any]

TIMEOUT_S = 2.0  # the loop stands still for it
ASK_AGAIN_S = 10.0  # for a schema that is not there: a replica of the registry may not know it yet
REFUSED_MAX = 1_000
DEPTH_MAX = 32  # of messages in messages
ID_MAX = 2**31 - 1  # a registry takes a longer one for another address
_NOT_THERE = (40401, 40402, 40403)  # the registry's own codes: no such subject, version, schema

_json = msgspec.json.Encoder(decimal_format="number", enc_hook=str)


class SchemaReader:
    """Reads messages by the schemas that they name.

    Each schema is asked for once. Of one that is not there, or cannot be used, the reason is kept for a while.
    """

    def __init__(self, settings: Settings) -> None:
        self._format = settings.event.format
        self._topic = settings.topics.transactions
        self._limit = settings.event.message_bytes_max
        self._url = shown_uri(str(settings.schema_registry["url"]))
        try:
            self._client = SchemaRegistryClient(
                {"timeout": TIMEOUT_S, "max.retries": 0} | settings.schema_registry
            )
        except (ValueError, TypeError, OSError) as error:
            raise ConfigError(f"schema_registry: {error}") from None
        self._new_parser = avro_parser if self._format == "avro" else protobuf_parser
        self._parsers: dict[tuple[Any, ...], Parse] = {}
        self._refused: dict[tuple[Any, ...], tuple[float, str]] = {}

    def read(self, messages: Sequence[Any]) -> list[Value]:
        """Return the JSON of each message, or why it cannot be read.

        Raises:
            RegistryAwayError: a schema that is needed cannot be had; nothing was read.
        """
        return [self._read(message.value(), message.headers()) for message in messages]

    def _read(self, value: bytes | None, headers: Any) -> Value:
        if value is None:
            return None
        if (error := too_long(value, self._limit)) is not None:
            return error
        try:
            schema_id, payload = self._opened(value, headers)
            parse = self._parse_of(schema_id)
        except RecordError as error:
            return error
        try:
            record = parse(payload)
            if payload.read(1):
                return _bad(f"has bytes behind its end, by {_named(schema_id)}")
            if not isinstance(record, dict):
                return _bad(f"is no record, by {_named(schema_id)}")
            return _json.encode(record)
        except Exception as error:  # the parsers raise whatever they stumble over
            return _bad(f"is cut off or not of {_named(schema_id)}: {_told(error)}")

    def _opened(self, value: bytes, headers: Any) -> tuple[Any, BytesIO]:
        """Return the id of the schema and what was written by it."""
        schema_id = SchemaId(self._format.upper())
        context = SerializationContext(self._topic, MessageField.VALUE, headers)
        try:
            payload = dual_schema_id_deserializer(value, context, schema_id)
        except (struct.error, EOFError, ValueError):
            raise _bad("is too short to name its schema") from None
        except SerializationError:
            first = value[:1]
            hint = "; it looks like JSON" if first in b"{[" else ""
            raise _bad(
                f"does not begin with the id of a schema: its first byte is 0x{first.hex()}, not 0x00{hint}"
            ) from None
        indexes = schema_id.message_indexes or []
        if len(indexes) > DEPTH_MAX or any(not 0 <= index <= ID_MAX for index in indexes):
            raise _bad("names a message that no schema has")
        if schema_id.id is not None and schema_id.id > ID_MAX:
            raise _bad(f"names schema {schema_id.id}, which no registry has")
        return schema_id, payload

    def _parse_of(self, schema_id: Any) -> Parse:
        key = (schema_id.id, schema_id.guid, *(schema_id.message_indexes or ()))
        parse = self._parsers.get(key)
        if parse is not None:
            return parse
        until_s, reason = self._refused.get(key, (0.0, ""))
        if monotonic_s() < until_s:
            raise _bad(reason)
        try:
            parse = self._parsers[key] = self._new_parse(schema_id)
        except RecordError as error:
            if len(self._refused) >= REFUSED_MAX:
                self._refused.clear()
            self._refused[key] = (monotonic_s() + ASK_AGAIN_S, error.reason)
            raise
        return parse

    def _new_parse(self, schema_id: Any) -> Parse:
        client, form = self._client, "serialized" if self._format == "protobuf" else None
        if schema_id.guid is not None:
            schema = self._ask(schema_id, client.get_schema_by_guid, str(schema_id.guid), form)
        else:
            schema = self._ask(schema_id, client.get_schema, schema_id.id, None, form)
        kind = (schema.schema_type or "AVRO").lower()
        if kind != self._format:
            raise _bad(
                f'was written by {_named(schema_id)}, of type {kind}; event.format is "{self._format}"'
            )

        def referenced(reference: Any) -> Any:
            """Return the schema that another one refers to."""
            version = self._ask(
                schema_id, client.get_version, reference.subject, reference.version, True, form
            )
            return version.schema

        try:
            return self._new_parser(schema, referenced, schema_id.message_indexes)
        except (RecordError, RegistryAwayError):
            raise
        except Exception as error:  # as above
            raise _bad(f"was written by {_named(schema_id)}, which cannot be used: {_told(error)}") from None

    def _ask(self, schema_id: Any, question: Callable[..., Any], *what: Any) -> Any:
        try:
            return question(*what)
        except SchemaRegistryError as error:
            if error.error_code in _NOT_THERE:
                raise _bad(f"was written by {_named(schema_id)}: {error.error_message}") from None
            reason = f"answers {error.http_status_code} {error.error_message}"
        except Exception as error:  # of whichever library speaks HTTP, TLS or OAuth
            reason = _told(error)
        raise RegistryAwayError(
            f'schema_registry.url = "{self._url}": cannot be asked for {_named(schema_id)}: {reason}'
        )


def _bad(reason: str) -> RecordError:
    return RecordError("$", reason, "schema")


def _named(schema_id: Any) -> str:
    indexes = schema_id.message_indexes
    which = f", message {'.'.join(map(str, indexes))}" if indexes and indexes != [0] else ""
    return f"schema {schema_id.id if schema_id.guid is None else schema_id.guid}{which}"


def _told(error: Exception) -> str:
    """Return an error of a library in one short line."""
    return " ".join(f"{type(error).__name__} {error}".split())[:200]
