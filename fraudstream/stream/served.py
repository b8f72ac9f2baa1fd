"""What was served of one transaction, looked up in the topics: its decisions, features, alert, and itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from fraudstream.batch import TransactionBatch
from fraudstream.bus.formats import new_reader
from fraudstream.decode import Decoder
from fraudstream.features.engine import FLAG_NAMES, FLAG_REPEATED
from fraudstream.records import Alert, Decision
from fraudstream.sections import Settings
from fraudstream.stream.featurelog import OWN_COLUMNS
from fraudstream.stream.publish import RUN_HEADER
from fraudstream.stream.recorded import table_of

MADE_MAX = 100
_REPEATED = FLAG_NAMES[int(FLAG_REPEATED)]
SKEW_MS = 600_000  # what belongs to a decision is written within this much of it

Features = dict[str, float | None]  # a row of the feature log by column; None where there is no value


class Log(Protocol):
    """Topics to look things up in."""

    def scan(self, topic: str, since_ms: int | None = None) -> Iterable[Any]:
        """Return a topic's messages up to its current end; only those of this time stamp or later."""

    def at(self, topic: str, partition: int, offset: int) -> Any | None:
        """Return the message of a position; None where it is not there any more."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """One decision as it was written.

    Attributes:
        position: partition and offset of the transaction; None where the decision does not say.
        stamp_ms: when it was written.
    """

    decision: Decision
    position: tuple[int, int] | None = None
    run: str = ""
    stamp_ms: int = 0


@dataclass(slots=True)
class Spokens:
    """All decisions of a transaction id.

    Attributes:
        made: the decisions that were made of it, the oldest first: more than one where the id came again after the
            repeats' horizon. Only the first `MADE_MAX` are kept.
        repeated: the first message that got an earlier decision again; None: there is none.
        repeats: how many such messages there are.
        written_again: how many times a decision of the same message was written again, after a crash.
        read: how many decisions were looked at; oldest_ms: when the oldest of them was written.
    """

    made: list[Spoken] = field(default_factory=list)
    repeated: Spoken | None = None
    repeats: int = 0
    written_again: int = 0
    read: int = 0
    oldest_ms: int | None = None
    _positions: set[tuple[int, int] | None] = field(default_factory=set)

    def add(self, spoken: Spoken) -> None:
        """Take one in, in the order of writing."""
        if spoken.position is not None and spoken.position in self._positions:
            self.written_again += 1
            return
        self._positions.add(spoken.position)
        if _REPEATED in spoken.decision.flags:
            self.repeats += 1
            self.repeated = self.repeated or spoken
        elif len(self.made) < MADE_MAX:
            self.made.append(spoken)
            self.made.sort(key=lambda one: one.stamp_ms)

    def of(self, sequence: int | None) -> Spoken | None:
        """Return the first decision made, or the one with a sequence number; else what repeats a lost one."""
        for spoken in self.made:
            if sequence in (None, spoken.decision.sequence):
                return spoken
        return self.repeated if sequence is None else None


class Served(Protocol):
    """Where to look."""

    @property
    def places(self) -> dict[str, str]:
        """Return what `decisions`, `features` and `transactions` are read from, for people."""

    def decisions(self, transaction_id: str) -> Spokens:
        """Return all decisions of an id."""

    def features(self, spoken: Spoken) -> Features | None:
        """Return what was scored; None where it is not there."""

    def alert(self, spoken: Spoken) -> Alert | None:
        """Return the alert; None where it is not there."""

    def transaction(self, spoken: Spoken, decoder: Decoder) -> TransactionBatch | None:
        """Return the transaction as a batch of one row; None where it is not there."""


class InTopics:
    """What was served, in Kafka's topics."""

    def __init__(self, log: Log, settings: Settings) -> None:
        self._log = log
        self._topics = settings.topics
        self._read_json = new_reader(settings)

    @property
    def places(self) -> dict[str, str]:
        """Return the names of the topics."""
        names = ("decisions", "features", "transactions")
        return {name: f"the messages of {getattr(self._topics, name)}" for name in names}

    def decisions(self, transaction_id: str) -> Spokens:
        """Read all decisions, oldest first, and keep those of an id."""
        found = Spokens()
        within = msgspec.json.encode(transaction_id)
        decode = msgspec.json.Decoder(Decision).decode
        for message in self._log.scan(self._topics.decisions):
            found.read += 1
            stamp_ms = message.timestamp()[1]
            found.oldest_ms = stamp_ms if found.oldest_ms is None else min(found.oldest_ms, stamp_ms)
            value = message.value()
            if value is None or within not in value:
                continue
            decision = decode(value)
            if decision.transaction_id == transaction_id:
                headers = _texts(message)
                found.add(Spoken(decision, self._position(headers), headers.get(RUN_HEADER, ""), stamp_ms))
        return found

    def features(self, spoken: Spoken) -> Features | None:
        """Read the feature log around a decision."""
        own = [OWN_COLUMNS.index(name) for name in ("sequence", "transaction_id")]
        for message in self._log.scan(self._topics.features, spoken.stamp_ms - SKEW_MS):
            if _texts(message).get(RUN_HEADER, "") != spoken.run:
                continue
            numbers = table_of(message.value(), own)
            if numbers is None:
                continue
            wanted = (spoken.decision.sequence, spoken.decision.transaction_id)
            rows = list(
                zip(numbers["sequence"].to_pylist(), numbers["transaction_id"].to_pylist(), strict=True)
            )
            if wanted in rows:
                table = table_of(message.value())
                assert table is not None
                (row,) = table.slice(rows.index(wanted), 1).to_pylist()
                return {name: _known(value) for name, value in row.items() if name not in OWN_COLUMNS}
        return None

    def alert(self, spoken: Spoken) -> Alert | None:
        """Read the alerts around a decision."""
        within = msgspec.json.encode(spoken.decision.transaction_id)
        for message in self._log.scan(self._topics.alerts, spoken.stamp_ms - SKEW_MS):
            headers = _texts(message)
            if within in (message.value() or b"") and self._position(headers) == spoken.position:
                return msgspec.json.decode(message.value(), type=Alert)
        return None

    def transaction(self, spoken: Spoken, decoder: Decoder) -> TransactionBatch | None:
        """Read the message of the decision's position."""
        if spoken.position is None:
            return None
        partition, offset = spoken.position
        message = self._log.at(self._topics.transactions, partition, offset)
        if message is None:
            return None
        values = self._read_json([message])
        batch, _ = decoder.decode_messages(values, [message.key()], ([partition], [offset]), None)
        return batch if batch.ids == [spoken.decision.transaction_id] else None

    def _position(self, headers: dict[str, str]) -> tuple[int, int] | None:
        topic, _, rest = headers.get("ce_id", "").rpartition("/")
        topic, _, partition = topic.rpartition("/")
        if topic != self._topics.transactions or not (partition.isdigit() and rest.isdigit()):
            return None
        return int(partition), int(rest)


def _texts(message: Any) -> dict[str, str]:
    return {name: (value or b"").decode("utf-8", "replace") for name, value in message.headers() or []}


def _known(value: float | None) -> float | None:
    return None if value is None or value != value else float(value)
