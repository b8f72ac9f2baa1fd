"""What stands in the topics of what was served: decisions by run, transactions, dead letters, labels, feature log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fraudstream.batch import MISSING, Int64, TransactionBatch
from fraudstream.bus.formats import Read as ReadJson
from fraudstream.decode import Decoder, LabelDecoder
from fraudstream.features.labels import KnownLabel, known_label
from fraudstream.records import Decision
from fraudstream.sections import TopicSettings
from fraudstream.stream.featurelog import OWN_COLUMNS
from fraudstream.stream.publish import RUN_HEADER

ROWS_A_CHUNK = 1024
Read = Callable[[str], Iterable[Any]]  # a topic's name -> its messages, up to the current end
Position = tuple[int, int]  # partition, offset


@dataclass(frozen=True, slots=True)
class Entry:
    """One decision: where its transaction stands, and what is said of its features."""

    sequence: int
    position: Position
    features_hash: str
    repeated: bool


@dataclass(slots=True)
class Run:
    """What one run served, in its order.

    Attributes:
        sound: number of leading entries up to which the order is known: none of them is missing in between. After a
            crash some of the last may never have been delivered, while later ones were; all from there on are not
            committed either, and are decided again by the next run.
        log: messages of the feature log with the first and last sequence in each.
    """

    name: str
    sound: int = 0
    entries: list[Entry] = field(default_factory=list)
    log: list[tuple[int, int, bytes]] = field(default_factory=list)

    def first_offsets(self) -> dict[int, int]:
        """Return the lowest offset that was served of each partition."""
        first: dict[int, int] = {}
        for entry in self.entries:
            partition, offset = entry.position
            first[partition] = min(offset, first.get(partition, offset))
        return first


def read_runs(read: Read, topics: TopicSettings) -> list[Run]:
    """Return all runs in the order in which they began, the entries of each in the order of serving.

    Decisions of a version that did not name its run are in the run without a name.
    """
    runs: dict[str, Run] = {}
    trimmed = False
    begun: set[int] = set()
    decode = msgspec.json.Decoder(Decision).decode
    for message in read(topics.decisions):
        trimmed |= message.partition() not in begun and message.offset() > 0
        begun.add(message.partition())
        headers = dict(message.headers() or [])
        topic, partition, offset = (headers.get("ce_id") or b"/-1/-1").decode().rsplit("/", 2)
        if topic != topics.transactions:
            continue
        name = (headers.get(RUN_HEADER) or b"").decode()
        said = decode(message.value())
        entry = Entry(
            said.sequence, (int(partition), int(offset)), said.features_hash, "repeated" in said.flags
        )
        runs.setdefault(name, Run(name)).entries.append(entry)
    for message in read(topics.features):
        name = (dict(message.headers() or []).get(RUN_HEADER) or b"").decode()
        numbers = table_of(message.value(), [OWN_COLUMNS.index("sequence")])
        if name in runs and numbers is not None and len(numbers):
            sequence = numbers["sequence"].to_numpy()
            runs[name].log.append((int(sequence.min()), int(sequence.max()), message.value()))
    for run in runs.values():
        run.entries.sort(key=lambda entry: (entry.sequence, entry.position))
        run.sound = _sound(run.entries, trimmed)
        run.log.sort(key=lambda part: part[:2])
    return sorted(runs.values(), key=lambda run: (len(run.name.partition("-")[0]), run.name))


def _sound(entries: list[Entry], trimmed: bool) -> int:
    """Return how many entries follow each other without a gap.

    Args:
        trimmed: the topic's oldest decisions are gone; so some may be missing before each partition's first.
    """
    start = 0
    if trimmed:
        firsts: dict[int, int] = {}
        for at, entry in enumerate(entries):
            firsts.setdefault(entry.position[0], at)
        start = max(firsts.values(), default=0)
    expected = entries[start].sequence if trimmed else 0
    for at in range(start, len(entries)):
        if entries[at].sequence not in (expected, expected - 1):
            return at
        expected = entries[at].sequence + 1
    return len(entries)


def table_of(octets: bytes, columns: list[int] | None = None) -> pa.Table | None:
    """Return a message of the feature log as a table; None where it is none.

    Args:
        columns: only these, by number; None: all.
    """
    try:
        options = pa.ipc.IpcReadOptions(included_fields=columns)
        return pa.ipc.open_stream(octets, options=options).read_all()
    except (pa.ArrowException, OSError):
        return None


def read_dead_letters(read: Read, topics: TopicSettings) -> set[Position]:
    """Return where the transactions stand that became dead letters."""
    found = set()
    for message in read(topics.dlq):
        headers = dict(message.headers() or [])
        if (headers.get("fraudstream.dlq.topic") or b"").decode() == topics.transactions:
            partition, offset = (headers[f"fraudstream.dlq.{name}"] for name in ("partition", "offset"))
            found.add((int(partition), int(offset)))
    return found


def read_known(read: Read, topics: TopicSettings, ranks: Mapping[str, int]) -> list[KnownLabel]:
    """Return all good labels in the order in which they stand in the topic."""
    labels, _ = LabelDecoder().decode([message.value() for message in read(topics.labels)])
    return [known_label(label, ranks) for label in labels]


class Transactions:
    """A topic's transactions as they came, by position; decoded a chunk at a time.

    Attributes:
        partition, offset: [n], sorted by both.
        time_ms: [n] event times; MISSING where a message is no transaction.

    Memory: the bytes of all messages.

    Args:
        read: gives the JSON of messages.
    """

    def __init__(self, messages: Iterable[Any], decoder: Decoder, read: ReadJson) -> None:
        self._decoder = decoder
        taken = [(m.partition(), m.offset(), *read([m]), m.key(), m.timestamp()[1]) for m in messages]
        taken.sort(key=lambda row: row[:2])
        self.partition = np.array([row[0] for row in taken], np.int64)
        self.offset = np.array([row[1] for row in taken], np.int64)
        self._values = [row[2] for row in taken]
        self._keys = [row[3] for row in taken]
        self._stamps = np.array([row[4] for row in taken], np.int64)
        self._rows = {(row[0], row[1]): at for at, row in enumerate(taken)}
        self.time_ms = np.full(len(taken), MISSING, np.int64)
        for start in range(0, len(taken), ROWS_A_CHUNK):
            batch = self._decoded(np.arange(start, min(start + ROWS_A_CHUNK, len(taken))), by_the_clock=True)
            self.time_ms[start + batch.source_row] = batch.time_ms

    def __len__(self) -> int:
        return len(self._values)

    def row(self, position: Position) -> int | None:
        """Return where the transaction of a position is; None where it is not there any more."""
        return self._rows.get(position)

    def chunk(self, rows: Int64) -> TransactionBatch:
        """Return these rows in this order, without those that are no transactions."""
        return self._decoded(rows, by_the_clock=False)

    def in_event_order(self, chosen: npt.NDArray[np.bool_]) -> Int64:
        """Return the chosen rows that are transactions, by event time, partition and offset."""
        rows = np.flatnonzero(chosen & (self.time_ms != MISSING))
        return rows[np.lexsort((self.offset[rows], self.partition[rows], self.time_ms[rows]))]

    def _decoded(self, rows: Int64, by_the_clock: bool) -> TransactionBatch:
        """Decode rows; by the clock, a time too far ahead of the message's own stamp is none."""
        batch, _ = self._decoder.decode_messages(
            [self._values[row] for row in rows.tolist()],
            [self._keys[row] for row in rows.tolist()],
            (self.partition[rows], self.offset[rows]),
            self._stamps[rows] if by_the_clock else None,
        )
        return batch
