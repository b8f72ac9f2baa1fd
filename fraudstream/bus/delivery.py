"""Where a worker's messages leave: sent, and made last together with the positions they came from.

Two ways, the same calls (`worker.delivery`):

- `ExactlyOnce`: one Kafka transaction a commit interval, over all output topics and the input's offsets. What was
  sent is kept until it is committed: when a transaction has to be aborted, the same messages go out in another one,
  so the state never needs to be rolled back.
- `AtLeastOnce`: flushed, every delivery report checked, then the offsets committed.
"""

from __future__ import annotations

import secrets
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from fraudstream.bus.base import Headers, Positions, Sink
from fraudstream.bus.kafka import MESSAGE_BYTES_MAX, REQUEST_TIMEOUT_S, KafkaSource, client_config
from fraudstream.clock import monotonic_s
from fraudstream.errors import BusError, FencedError
from fraudstream.settings import Settings

log = structlog.get_logger("kafka")

QUEUE_FULL_S = 60.0  # a message that cannot be queued for so long
WAIT_S = 0.5  # a turn of a commit: the loop turns on meanwhile
GIVE_UP_S = 600.0  # of one transaction after the other aborted
TRANSACTION_TIMEOUT_MS = 10_000  # readers wait so long for what a worker that is gone left open
_COMPLAINT_EVERY_S = 10.0
_FENCED = (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.INVALID_TRANSACTION_TIMEOUT)
_PASSING = (KafkaError._MSG_TIMED_OUT, KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT)


def new_sink(settings: Settings, source: KafkaSource) -> Sink:
    """Return the sink that `worker.delivery` names.

    Raises:
        BusError: the broker does not take its transactions.
    """
    kind = ExactlyOnce if settings.worker.delivery == "exactly_once" else AtLeastOnce
    return kind(settings, source)


class _Outgoing:
    """A producer whose every message is accounted for."""

    def __init__(self, settings: Settings, source: KafkaSource, more: dict[str, Any]) -> None:
        config = more | client_config(settings, "producer")
        config.setdefault("message.max.bytes", MESSAGE_BYTES_MAX)  # the topic's own limit decides
        config["delivery.report.only.error"] = True
        self._source = source
        self._producer = Producer(config)
        self._refused: list[str] = []
        self._complaint_due_s = 0.0

    def close(self) -> None:
        """Drop the producer."""
        self._producer.purge()

    def _queue(self, topic: str, value: bytes | None, key: bytes | None, headers: Headers) -> None:
        """Queue one message; wait where the queue is full."""
        deadline_s: float | None = None
        while True:
            try:
                self._producer.produce(topic, value, key, headers=headers, on_delivery=self._report)
                return
            except BufferError:
                deadline_s = deadline_s or monotonic_s() + QUEUE_FULL_S
                self._producer.poll(0.1)
                if monotonic_s() > deadline_s:
                    raise BusError(
                        f"no message could be queued for {topic} for {QUEUE_FULL_S:.0f} s"
                    ) from None

    def _report(self, error: KafkaError | None, message: Any) -> None:
        if error is not None and error.code() not in _PASSING:
            self._refused.append(f"{message.topic()}: {error.str()}")

    def _check_refused(self) -> None:
        if self._refused:
            refused, self._refused = self._refused, []
            raise BusError(f"{len(refused)} messages were not delivered; the first: {refused[0]}")

    def _complain(self, event: str, **what: object) -> None:
        now_s = monotonic_s()
        if now_s >= self._complaint_due_s:
            self._complaint_due_s = now_s + _COMPLAINT_EVERY_S
            log.warning(event, **what)


class AtLeastOnce(_Outgoing):
    """Flushes, then commits."""

    def __init__(self, settings: Settings, source: KafkaSource) -> None:
        # Without an end: what cannot be delivered now is delivered once the broker is back.
        super().__init__(settings, source, {"message.timeout.ms": 0})

    def send(self, topic: str, value: bytes | None, key: bytes | None, headers: Headers) -> None:
        """Queue one message."""
        try:
            self._queue(topic, value, key, headers)
        except KafkaException as error:
            raise BusError(f"{topic}: {error.args[0].str()}") from None

    def commit(self, positions: Positions) -> bool:
        """Wait for the delivery reports, then commit the offsets, as `Sink` says."""
        left = self._producer.flush(WAIT_S)
        self._check_refused()
        if left:
            self._complain("delivery_waiting", messages=left, action="retrying")
            return False
        return not positions or self._source.commit(positions)

    def discard(self) -> None:
        """Let it go: who serves it again sends the same ids."""


class ExactlyOnce(_Outgoing):
    """One transaction a commit.

    `worker.instance` makes the transactional id: a worker that comes back ends at once what its former self left open.
    """

    def __init__(self, settings: Settings, source: KafkaSource) -> None:
        name = settings.worker.instance_name or secrets.token_hex(4)
        self._id = f"{settings.worker.group}.{name}"
        more = {"transactional.id": self._id, "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS}
        super().__init__(settings, source, more)
        self._kept: list[tuple[str, bytes | None, bytes | None, Headers]] = []
        self._open = False  # it takes messages
        self._offered = False  # the offsets are in it: nothing may be added
        self._broken = False  # it has to be aborted before anything else
        self._failing_since_s: float | None = None
        self._initialise()

    def send(self, topic: str, value: bytes | None, key: bytes | None, headers: Headers) -> None:
        """Send one message in the current transaction."""
        assert not self._offered, "a commit goes on"
        self._kept.append((topic, value, key, headers))
        if self._broken:
            return
        try:
            self._begin()
            self._queue(topic, value, key, headers)
        except KafkaException as error:
            self._failed(error.args[0])

    def commit(self, positions: Positions) -> bool:
        """Commit messages and offsets in one, as `Sink` says."""
        try:
            if self._broken:
                self._abort()
            if not self._open:
                self._begin()
                for message in self._kept:
                    self._queue(*message)
            if not self._offered and positions:
                self._producer.send_offsets_to_transaction(
                    self._source.offsets(positions), self._source.group_metadata(), WAIT_S
                )
            self._offered = True
            self._producer.commit_transaction(WAIT_S)
        except KafkaException as error:
            self._failed(error.args[0])
            return False
        self._open = self._offered = False
        self._failing_since_s = None
        self._kept.clear()
        return True

    def discard(self) -> None:
        """Abort."""
        self._kept.clear()
        self._broken = self._open
        deadline_s = monotonic_s() + REQUEST_TIMEOUT_S
        while self._broken:
            try:
                self._abort()
            except KafkaException as error:
                self._failed(error.args[0])
                if monotonic_s() > deadline_s:  # the broker aborts it when its time is over
                    raise BusError(f"a transaction cannot be aborted: {error.args[0].str()}") from None

    def close(self) -> None:
        """Abort what was not committed; drop the producer."""
        try:
            self.discard()
        except BusError as error:
            log.warning("transaction_left_open", error=str(error), ends_after_ms=TRANSACTION_TIMEOUT_MS)
        super().close()

    def _initialise(self) -> None:
        """Take the transactional id, which ends what its former owner left open."""
        deadline_s = monotonic_s() + QUEUE_FULL_S
        while True:
            try:
                self._producer.init_transactions(REQUEST_TIMEOUT_S)
                return
            except KafkaException as error:
                cause = error.args[0]
                if not cause.retriable() or monotonic_s() > deadline_s:
                    raise BusError(f"no transactions for {self._id}: {cause.str()}") from None
                self._complain("transactions_waiting", error=cause.str(), action="retrying")

    def _begin(self) -> None:
        if not self._open:
            self._producer.begin_transaction()
            self._open = True

    def _abort(self) -> None:
        """Abort; raises KafkaException where that has to be tried again."""
        self._producer.abort_transaction(WAIT_S)
        self._open = self._offered = self._broken = False
        self._check_refused()

    def _failed(self, cause: KafkaError) -> None:
        """Note that the transaction is to be aborted, or to be gone on with.

        Raises:
            BusError: neither helps.
        """
        if cause.fatal() or cause.code() in _FENCED:
            if cause.code() in _FENCED or "fenced" in cause.str().lower():
                raise FencedError(
                    f"another worker has taken the place of {self._id}: {cause.str()}"
                ) from None
            raise BusError(f"the producer cannot go on: {cause.str()}") from None
        now_s = monotonic_s()
        self._failing_since_s = self._failing_since_s or now_s
        if cause.txn_requires_abort() or cause.code() == KafkaError._STATE:
            self._broken = True
            log.warning("transaction_aborted", error=cause.str(), action="sending it again")
        elif cause.retriable():
            self._complain("commit_waiting", error=cause.str(), action="retrying")
        else:
            raise BusError(f"a transaction failed: {cause.str()}") from None
        if now_s - self._failing_since_s > GIVE_UP_S:
            raise BusError(f"no transaction could be committed for {GIVE_UP_S:.0f} s: {cause.str()}")
