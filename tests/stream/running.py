"""A worker on the memory bus: transactions in, what was sent out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pyarrow as pa

from fraudstream.bus.base import Headers, Positions
from fraudstream.bus.memory import MemoryMessage, MemoryReader, MemorySink, MemorySource
from fraudstream.errors import BusError
from fraudstream.features import build_catalog, new_engine
from fraudstream.ledger import read_ledger
from fraudstream.metrics import WorkerMetrics
from fraudstream.records import Alert, Decision
from fraudstream.registry import CHALLENGER, CHAMPION, Registry
from fraudstream.scoring import Model, Pipeline, build_policy
from fraudstream.sections import Settings
from fraudstream.stream.checkpoints import Checkpoints
from fraudstream.stream.models import ModelWatch
from fraudstream.stream.worker import Ends, Worker
from tests.worlds import TinyWorld

RUN = "1704067200000-01234567/0"
SENT = ["transaction_id", "label", "known_at", "source"]  # of a label, to the topic


@dataclass
class Running:
    """One worker and both its ends.

    Attributes:
        settings: dead letters never stop it, and there is time for every explanation, unless they say otherwise.
    """

    settings: Settings
    source: MemorySource
    sink: MemorySink
    labels: MemoryReader
    worker: Worker
    metrics: WorkerMetrics = field(repr=False)

    def to_the_end(self) -> Running:
        """Step until nothing is left, then close."""
        while self.worker.step():
            pass
        self.worker.close()
        return self

    def sent(self, topic: str) -> list[MemoryMessage]:
        """Return the messages of `decisions`, `alerts` or `dlq`, oldest first."""
        return self.sink.sent.get(getattr(self.settings.topics, topic), [])

    def log(self) -> list[dict[str, Any]]:
        """Return the rows of the feature log."""
        tables = [pa.ipc.open_stream(m.value()).read_all() for m in self.sent("features")]
        return [row for table in tables for row in table.to_pylist()]

    def reloads(self, result: str, role: str = CHAMPION) -> int:
        """Return how many models were `loaded`, `refused`, `removed` or `dropped`."""
        return int(self.metrics.model_reloads.labels(role, result)._value.get())

    def decisions(self) -> list[Decision]:
        return [msgspec.json.decode(m.value() or b"", type=Decision) for m in self.sent("decisions")]

    def alerts(self) -> list[Alert]:
        return [msgspec.json.decode(m.value() or b"", type=Alert) for m in self.sent("alerts")]

    def by_id(self, topic: str = "decisions") -> dict[str, dict[str, Any]]:
        """Return each decision's contents by the id of its message; fails on an id that comes twice."""
        found = {ce_id(message): contents(message) for message in self.sent(topic)}
        assert len(found) == len(self.sent(topic))
        return found


class BrokenSink(MemorySink):
    """A sink whose commit number `fails` says that messages were lost; the others know of nothing."""

    def __init__(self, fails: int = 1) -> None:
        super().__init__()
        self.commits, self.fails = 0, fails

    def commit(self, positions: Positions, timeout_s: float) -> bool:
        self.commits += 1
        if self.commits == self.fails:
            raise BusError("7 messages were not delivered; the first: fraud.decisions: too large")
        return super().commit(positions, timeout_s)


class SlowSink(MemorySink):
    """A sink whose every commit takes some looks, and which then holds what was sent before it began."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks, self.left = looks, looks
        self.committed: list[
            tuple[Positions, int]
        ] = []  # with how many decisions had been sent when it began
        self._sent = 0

    def commit(self, positions: Positions, timeout_s: float) -> bool:
        if self.left == self.looks:
            self._sent = len(self.sent.get("fraud.decisions", []))
        self.left -= 1
        if self.left >= 0:
            return False
        self.left = self.looks
        self.committed.append((dict(positions), self._sent))
        return super().commit(positions, timeout_s)


class MovingSource(MemorySource):
    """A source whose partitions change hands when a test says so."""

    def rebalance(self, emit_from: Positions) -> None:
        """Begin again at the oldest message; those below `emit_from` were served before."""
        self.emit_from = emit_from
        self.begin_again()


def start(
    world: TinyWorld,
    source: MemorySource | Sequence[MemoryMessage],
    sink: MemorySink | None = None,
    labels: MemoryReader | None = None,
    run: str = RUN,
    watch: bool = False,
    **overrides: Any,
) -> Running:
    """Make a worker with the world's model; `worker__batch_rows_max=7` replaces a setting.

    Args:
        watch: let it take other models.
    """
    patient = {"worker__dead_letter_rate_max": 1.0, "worker__explain_budget_ms": 60_000}
    settings = world.settings_with(**{**patient, **overrides})
    catalog = build_catalog(settings.features, settings.event)
    _, parts = Registry.of(settings.model).read(settings.model.version)
    model = Model(parts, catalog)
    policy = build_policy(settings)
    if not isinstance(source, MemorySource):
        source = MemorySource(source)
    sink, labels, metrics = sink or MemorySink(), labels or MemoryReader(), WorkerMetrics()
    watches = [
        ModelWatch(settings, catalog, CHAMPION, parts.version),
        ModelWatch(settings, catalog, CHALLENGER),
    ]
    sink.source = source
    worker = Worker(
        settings,
        lambda: new_engine(settings, catalog),
        lambda engine: Pipeline(engine, model, policy),
        Ends(source, sink, labels),
        metrics,
        lambda partitions: run,
        watches if watch else (),
        Checkpoints(settings, catalog, metrics) if settings.snapshots.folder else None,
    )
    return Running(settings, source, sink, labels, worker, metrics)


def as_messages(rows: Sequence[Mapping[str, Any]], headers: Headers | None = None) -> list[MemoryMessage]:
    """Return transactions as the messages of one partition."""
    return [
        MemoryMessage(json.dumps(row).encode(), row["card_id"].encode(), headers, 0, i, row["event_time"])
        for i, row in enumerate(rows)
    ]


def label_messages(world: TinyWorld) -> list[MemoryMessage]:
    """Return the world's labels, those of its history included, as the messages of one partition."""
    return [
        MemoryMessage(json.dumps(label).encode(), b"key", None, 0, i)
        for i, label in enumerate(read_ledger(world.labels).select(SENT).to_pylist())
    ]


def spread(messages: Sequence[MemoryMessage], partitions: int) -> list[MemoryMessage]:
    """Deal messages out to several partitions in turn."""
    return [
        MemoryMessage(m.value(), m.key(), m.headers(), i % partitions, i // partitions, m.timestamp()[1])
        for i, m in enumerate(messages)
    ]


def contents(message: Any) -> dict[str, Any]:
    """Return what a decision or an alert says, without its place in the order of serving."""
    plain: dict[str, Any] = json.loads(message.value())
    assert plain.pop("sequence") >= 0
    return plain


def header(message: MemoryMessage, name: str) -> str:
    """Return the one header of this name as text."""
    values = [value for key, value in message.headers() or [] if key == name]
    assert len(values) == 1, f"{name}: {values}"
    return (values[0] or b"").decode()


def ce_id(message: MemoryMessage) -> str:
    """Return the id by which consumers drop duplicates."""
    return header(message, "ce_id")
