"""A schema registry over HTTP on a loopback port: as much of Confluent's API as its serializers need, and faults."""

from __future__ import annotations

import base64
import json
import struct
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import fastavro

Schema = dict[str, Any]


@dataclass
class RegistryStub:
    """What the registry holds, and how it behaves.

    Attributes:
        schemas: by id, from 1.
        versions: ids by subject.
        credentials: `user:password` that a request must give; empty: none.
        broken: the HTTP status that everything is answered with; 0: it works. At 200 the body is no JSON.
        asked: paths of all requests.
    """

    url: str = ""
    schemas: list[Schema] = field(default_factory=list)
    versions: dict[str, list[int]] = field(default_factory=dict)
    credentials: str = ""
    broken: int = 0
    asked: list[str] = field(default_factory=list)

    def register(self, subject: str, schema: Schema) -> Schema:
        """Add a schema to a subject; return it with id, version and GUID."""
        kept = {"schemaType": "AVRO", **schema}
        same = [i for i, known in enumerate(self.schemas) if known == kept]
        if not same:
            self.schemas.append(kept)
            same = [len(self.schemas) - 1]
        versions = self.versions.setdefault(subject, [])
        if same[0] + 1 not in versions:
            versions.append(same[0] + 1)
        return self.entry(same[0] + 1) | {"subject": subject, "version": versions.index(same[0] + 1) + 1}

    def avro(self, subject: str, schema: Any, **more: Any) -> int:
        """Register an Avro schema; return its id."""
        return int(self.register(subject, {"schema": json.dumps(schema), **more})["id"])

    def entry(self, schema_id: int) -> Schema:
        guid = str(uuid.uuid5(uuid.NAMESPACE_URL, str(schema_id)))
        return {**self.schemas[schema_id - 1], "id": schema_id, "guid": guid}

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        """Return status and body."""
        match [unquote(part) for part in path.strip("/").split("/")]:
            case ["schemas", "ids", number] if number.isdigit() and int(number) < 2**31:
                known = 1 <= int(number) <= len(self.schemas)
                return self._found(self.entry(int(number)) if known else None, query)
            case ["schemas", "guids", guid]:
                entries = [self.entry(i + 1) for i in range(len(self.schemas))]
                return self._found(next((one for one in entries if one["guid"] == guid), None), query)
            case ["subjects", subject, "versions"] if method == "POST":
                return 200, self.register(subject, body)
            case ["subjects", subject] if method == "POST" and subject in self.versions:
                return 200, self.register(subject, body)
            case ["subjects", subject, "versions", version] if subject in self.versions:
                return self._found(self.entry(self.versions[subject][int(version) - 1]), query)
            case ["subjects"]:
                return 200, sorted(self.versions)
        return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}

    def _found(self, entry: Schema | None, query: dict[str, list[str]]) -> tuple[int, Any]:
        if entry is None:
            return 404, {"error_code": 40403, "message": "Schema not found"}
        if entry["schemaType"] == "PROTOBUF" and query.get("format") != ["serialized"]:
            entry = entry | {"schema": 'syntax = "proto3";'}
        return 200, entry


@contextmanager
def schema_registry() -> Iterator[RegistryStub]:
    """A registry of its own; it goes away at the end."""
    stub = RegistryStub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._serve("GET")

        def do_POST(self) -> None:
            self._serve("POST")

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def _serve(self, method: str) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            stub.asked.append(self.path)
            status, said = self._answered(method, body)
            octets = b"<html>" if stub.broken == 200 else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(octets)))
            self.end_headers()
            self.wfile.write(octets)

        def _answered(self, method: str, body: bytes) -> tuple[int, Any]:
            if stub.broken:
                return stub.broken, {"error_code": stub.broken, "message": "out of order"}
            given = base64.b64decode((self.headers.get("Authorization") or "").removeprefix("Basic "))
            if stub.credentials and given.decode() != stub.credentials:
                return 401, {"error_code": 401, "message": "Unauthorized"}
            url = urlsplit(self.path)
            return stub.answer(method, url.path, parse_qs(url.query), json.loads(body or b"null"))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stub.url = f"http://127.0.0.1:{server.server_port}"
    serving = threading.Thread(target=server.serve_forever, args=[0.01], daemon=True)
    serving.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        serving.join()


def card_payments(stub: RegistryStub, rows: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """Return transactions of the built-in event type as Avro messages, in two versions of a schema in turn."""
    names = list(rows[0])
    kinds: dict[str, Any] = {
        "event_time": {"type": "long", "logicalType": "timestamp-millis"},
        "amount": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2},
    }
    fields = [{"name": name, "type": kinds.get(name, ["null", "string"])} for name in names]
    schemas = [
        {"type": "record", "name": "Transaction", "fields": fields},
        {
            "type": "record",
            "name": "Transaction",
            "fields": [*fields[::-1], {"name": "note", "type": "string"}],
        },
    ]
    written = [(stub.avro("transactions-value", schema), fastavro.parse_schema(schema)) for schema in schemas]
    values = []
    for i, row in enumerate(rows):
        schema_id, schema = written[i % 2]
        to = BytesIO(struct.pack(">bI", 0, schema_id))
        to.seek(5)
        at = datetime.fromtimestamp(row["event_time"] / 1000, UTC)
        exact = {"event_time": at, "amount": Decimal(str(row["amount"])), "note": ""}
        fastavro.schemaless_writer(to, schema, {**row, **exact})
        values.append(to.getvalue())
    return values
