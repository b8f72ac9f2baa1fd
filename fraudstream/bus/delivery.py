"""Where a worker's messages leave: sent, and made last together with the positions they came from.

Two ways, the same calls (`worker.delivery`):

- `ExactlyOnce`: one Kafka transaction a commit interval, over all output topics and the input's offsets. What was
  sent is kept until it is committed: when a transaction has to be aborted, the same messages go out in another one,
  so the state never needs to be rolled back.
- `AtLeastOnce`: flushed, every delivery report checked, then the offsets committed.
"""

from __future__ import annotations

import secrets
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from fraudstream.bus.base import Headers, Outgoing, Positions, Sink
from fraudstream.bus.clients import MESSAGE_BYTES_MAX, REQUEST_TIMEOUT_S, client, client_config
from fraudstream.bus.kafka import KafkaSource
from fraudstream.bus.lost import Doubts
from fraudstream.bus.rights import KIND_OF, Right, lacks
from fraudstream.bus.topics import lacking
from fraudstream.clock import Seldom, monotonic_s
from fraudstream.errors import BusError, FencedError
from fraudstream.sections import Settings

log = structlog.get_logger("kafka")

Message = tuple[str, bytes | None, bytes | None, Headers]

QUEUE_FULL_S = 60.0  # a message that cannot be queued for so long
WAIT_S = 0.5  # a turn of a commit: the loop turns on meanwhile
HUNG_AFTER_S = 5.0  # of a call that should have ended after WAIT_S
CLOSE_WITHIN_S = 2.0
GIVE_UP_S = 600.0  # of one transaction after the other aborted
TRANSACTION_TIMEOUT_MS = 10_000  # readers wait so long for what a worker that is gone left open
_FENCED = (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH)
_PASSING = (KafkaError._MSG_TIMED_OUT, KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT)


def new_sink(settings: Settings, source: KafkaSource) -> Sink:
    """Return the sink that `worker.delivery` names.

    Raises:
        BusError: the broker does not take its transactions.
    """
    kind = ExactlyOnce if settings.worker.delivery == "exactly_once" else AtLeastOnce
    return kind(settings, source)


class _Outgoing(ABC):
    """A producer whose every message is accounted for.

    A commit is tried in a thread of its own, so that the next rows can be decided meanwhile. The producer is that
    thread's until the try has ended: what is sent in that time, and for a rest after it, is held for the next commit.
    """

    rest_s = 0.0

    def __init__(self, settings: Settings, source: KafkaSource, more: dict[str, Any]) -> None:
        config = more | client_config(settings, "producer")
        config.setdefault("message.max.bytes", MESSAGE_BYTES_MAX)  # the topic's own limit decides
        config["delivery.report.only.error"] = True
        self._config = config
        self._settings = settings
        self._source = source
        self._producer = client(Producer, config)
        self._committing = False
        self._trying: _Call | None = None
        self._held: list[Message] = []
        self._queued = 0  # messages that the producer has taken
        self._rests_until_s = 0.0
        self._refused: list[str] = []
        self._seldom = Seldom()
        self._doubts = Doubts(config)

    def send(self, topic: str, messages: Iterable[Outgoing]) -> None:
        """Queue messages, as `Sink` says."""
        addressed = [(topic, value, key, headers) for value, key, headers in messages]
        if self._committing or (self._rests_until_s and monotonic_s() < self._rests_until_s):
            self._held += addressed
        else:
            self._release()
            self._send(addressed)

    def commit(self, positions: Positions, timeout_s: float) -> bool:
        """Begin a try, or wait for the one that goes on, as `Sink` says."""
        if not self._committing:
            self._release()
            self._committing = True
        if self._trying is None:
            self._trying = self._try(positions)
        if not self._trying.done(timeout_s):
            return False
        trying, self._trying = self._trying, None
        if not (trying.result() and self._settle(positions)):
            return False
        self._committing = False
        if self.rest_s:
            self._rests_until_s = monotonic_s() + self.rest_s
        else:
            self._release()  # readers see it at once
        return True

    def discard(self) -> None:
        """Forget what was sent, as `Sink` says."""
        self._committing = False
        self._held.clear()
        self._rests_until_s = 0.0

    def close(self) -> None:
        """Drop the producer."""
        self._producer.purge()

    def _release(self) -> None:
        """Send what was held."""
        self._rests_until_s = 0.0
        held, self._held = self._held, []
        if held:
            self._send(held)

    @abstractmethod
    def _send(self, messages: Sequence[Message]) -> None:
        """Queue messages; no try is going on."""

    @abstractmethod
    def _try(self, positions: Positions) -> _Call:
        """Begin to commit; the call returns False when it is to be tried again."""

    @abstractmethod
    def _settle(self, positions: Positions) -> bool:
        """Do what is left once a try has succeeded; False: it is to be tried again."""

    def _queue(self, messages: Iterable[Message]) -> None:
        """Queue messages; wait where the queue is full. Raises BusError, KafkaException."""
        produce, report = self._producer.produce, self._report
        for topic, value, key, headers in messages:
            try:
                produce(topic, value, key, headers=headers, on_delivery=report)
            except BufferError:
                self._queue_late((topic, value, key, headers))
            self._queued += 1

    def _queue_late(self, message: Message) -> None:
        """Queue a message once the queue has room."""
        topic, value, key, headers = message
        deadline_s = monotonic_s() + QUEUE_FULL_S
        while True:
            self._producer.poll(0.1)
            try:
                return self._producer.produce(topic, value, key, headers=headers, on_delivery=self._report)
            except BufferError:
                if monotonic_s() > deadline_s:
                    raise BusError(
                        f"no message could be queued for {topic} for {QUEUE_FULL_S:.0f} s"
                    ) from None

    def _report(self, error: KafkaError | None, message: Any) -> None:
        if error is not None and error.code() not in _PASSING:
            why = f"{message.topic()}: {error.str()}"
            if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                why = lacks([Right("topic", message.topic(), "Write")])
            self._refused.append(why)

    def _check_refused(self) -> None:
        if self._refused:
            refused, self._refused = self._refused, []
            raise BusError(f"{len(refused)} messages were not delivered; the first: {refused[0]}")

    def _complain(self, event: str, **what: object) -> None:
        if self._seldom.now():
            log.warning(event, **what)


class AtLeastOnce(_Outgoing):
    """Flushes, then commits."""

    def __init__(self, settings: Settings, source: KafkaSource) -> None:
        # Without an end: what cannot be delivered now is delivered once the broker is back.
        super().__init__(settings, source, {"message.timeout.ms": 0, "linger.ms": 0.5})

    def discard(self) -> None:
        """Let it go: who serves it again sends the same ids."""
        super().discard()
        if self._trying is not None and self._trying.done(REQUEST_TIMEOUT_S):
            self._trying = None

    def _send(self, messages: Sequence[Message]) -> None:
        first = self._queued
        try:
            self._queue(messages)
        except KafkaException as error:
            topic, *_ = messages[self._queued - first]
            raise BusError(f"{topic}: {error.args[0].str()}") from None

    def _try(self, positions: Positions) -> _Call:
        return _Call(self._flush)

    def _settle(self, positions: Positions) -> bool:
        return not positions or self._source.commit(positions)

    def _flush(self) -> bool:
        """Wait for the delivery reports."""
        left = self._producer.flush(WAIT_S)
        self._check_refused()
        if not left:
            self._doubts.well()
            return True
        self._complain("delivery_waiting", messages=left, action="retrying")
        if self._doubts.lost():
            raise BusError("the producer finds no broker though others do; start again")
        return False


class ExactlyOnce(_Outgoing):
    """One transaction a commit.

    `worker.instance` makes the transactional id: a worker that comes back ends at once what it had left open before.

    The broker refuses the next transaction for some milliseconds, until the end of the last is marked in every
    partition, and librdkafka asks again after 20 ms only; nobody could read a message of it before its commit anyway.
    """

    rest_s = 0.01

    def __init__(self, settings: Settings, source: KafkaSource) -> None:
        name = settings.worker.instance_name or secrets.token_hex(4)
        self._id = f"{settings.worker.group}.{name}"
        more = {
            "transactional.id": self._id,
            "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
            "linger.ms": 20,  # a commit waits for none; with 0.5 ms the broker spends twice the time
        }
        super().__init__(settings, source, more)
        self._kept: list[Message] = []  # of this transaction
        self._initialised = False  # the producer has the transactional id
        self._open = False  # the transaction takes messages
        self._offering: _Call | None = None  # the offsets are on their way into it
        self._offered = False  # they are in it
        self._ending = False  # it is being committed: librdkafka takes no other call before that has ended
        self._broken = False  # it has to be aborted before anything else
        self._unsure = False  # its producer failed for good while it was committed
        self._failing_since_s: float | None = None
        deadline_s = monotonic_s() + QUEUE_FULL_S
        while not self._initialise():
            if monotonic_s() > deadline_s:
                raise BusError(f"the broker gives no transactions to {self._id} for {QUEUE_FULL_S:.0f} s")

    def discard(self) -> None:
        """Abort."""
        super().discard()
        if not self._abandon(REQUEST_TIMEOUT_S):
            self._replace(f"no answer for {REQUEST_TIMEOUT_S:.0f} s")

    def close(self) -> None:
        """Abort what was not committed, if that is soon done; drop the producer."""
        super().discard()
        try:
            error = "" if self._abandon(CLOSE_WITHIN_S) and not self._broken else "the broker does not answer"
        except BusError as failure:
            error = str(failure)
        if error:
            log.warning("transaction_left_open", error=error, ends_after_ms=TRANSACTION_TIMEOUT_MS)
        super().close()

    def _abandon(self, within_s: float) -> bool:
        """Give up the transaction; False: a call that was made for it has not come back."""
        deadline_s = monotonic_s() + within_s
        trying, self._trying = self._trying, None
        if trying is not None and trying.done(within_s) and trying.result() and not self._unsure:
            self._open = self._offered = False  # it went through
        self._kept.clear()
        self._unsure = False
        calls = [call for call in (trying, self._offering) if call is not None]
        if not all(call.done(max(0.0, deadline_s - monotonic_s())) for call in calls):
            return False
        self._offering = None
        self._broken = self._open
        while self._broken and monotonic_s() < deadline_s:  # later, the next commit aborts it
            try:
                self._abort()
            except KafkaException as error:
                self._failed(error.args[0])
        return True

    def _send(self, messages: Sequence[Message]) -> None:
        """Send messages in the current transaction."""
        self._kept += messages
        if self._broken or not self._initialised:
            return  # they go out with the next transaction
        try:
            self._fill()
        except KafkaException as error:
            self._failed(error.args[0])

    def _try(self, positions: Positions) -> _Call:
        group = self._source.group_metadata()  # here: the consumer is this thread's
        return _Call(self._commit, self._source.offsets(positions), group)

    def _settle(self, positions: Positions) -> bool:
        if self._unsure and not self._was_committed(positions):
            return False  # it is sent again
        self._open = self._offered = self._unsure = False
        self._failing_since_s = None
        self._doubts.well()
        self._kept.clear()
        return True

    def _commit(self, offsets: Any, group: Any) -> bool:
        """Try once; True: it is committed, or it was before and the offsets tell (`_unsure`)."""
        try:
            if not (self._initialised or self._initialise()):
                return False
            if self._broken:
                self._abort()
            if self._unsure:
                return True
            self._fill()
            if not self._offered and offsets and not self._offer(offsets, group):
                return False
            self._offered = True
            self._end()
        except KafkaException as error:
            self._failed(error.args[0])
            return False
        return True

    def _initialise(self) -> bool:
        """Take the transactional id, which ends what its former owner left open; False: try again."""
        try:
            self._producer.init_transactions(WAIT_S)
        except KafkaException as error:
            self._failed(error.args[0])
            return False
        self._initialised = True
        return True

    def _was_committed(self, positions: Positions) -> bool:
        """Tell whether the last transaction went through after all: then its offsets did, too."""
        found = {part.partition: part.offset for part in self._source.committed(positions)}
        self._unsure = False
        return bool(positions) and found == positions

    def _fill(self) -> None:
        """Queue what was kept and is not in the transaction yet; begin it where there is none."""
        if not self._open:
            self._producer.begin_transaction()
            self._open, self._queued = True, 0
        self._queue(self._kept[self._queued :])

    def _offer(self, offsets: Any, group: Any) -> bool:
        """Put the offsets into the transaction; False: they are on their way.

        librdkafka does not keep to the timeout of this one call, and may never return from it when the group's
        coordinator has gone. So it is made in a thread of its own, and a producer that hangs in it is replaced.
        """
        if self._offering is None:
            self._offering = _Call(self._producer.send_offsets_to_transaction, offsets, group, WAIT_S)
        if not self._offering.done(WAIT_S):
            if monotonic_s() - self._offering.began_s > HUNG_AFTER_S:
                self._replace(f"no answer for {HUNG_AFTER_S:.0f} s")
            self._complain(
                "commit_waiting", error="the group's coordinator does not answer", action="retrying"
            )
            return False
        offering, self._offering = self._offering, None
        offering.result()
        return True

    def _end(self) -> None:
        """Commit the transaction; raises KafkaException where that has to be tried again, or it must be aborted."""
        self._ending = True
        self._producer.commit_transaction(WAIT_S)
        self._ending = False

    def _replace(self, reason: str) -> None:
        """Go on with another producer; taking the transactional id, it ends the transaction of this one."""
        log.warning("producer_replaced", reason=reason, action="sending it again")
        self._producer = client(Producer, self._config)
        self._offering = None
        self._initialised = self._open = self._offered = self._ending = self._broken = False

    def _abort(self) -> None:
        """Abort, or let a commit come to its end; raises KafkaException where that has to be tried again."""
        if self._ending:
            self._end()
        else:
            self._producer.abort_transaction(WAIT_S)
        self._open = self._offered = self._broken = False
        self._check_refused()

    def _failed(self, cause: KafkaError) -> None:
        """Note that the transaction is to be aborted, or to be gone on with.

        Raises:
            BusError: neither helps.
        """
        if cause.code() in _FENCED or "fenced" in cause.str().lower():
            raise FencedError(f"another worker has taken the place of {self._id}: {cause.str()}") from None
        if cause.code() in KIND_OF:
            self._check_refused()
            raise BusError(lacking(self._settings, "worker", cause)) from None
        now_s = monotonic_s()
        self._failing_since_s = self._failing_since_s or now_s
        if now_s - self._failing_since_s > GIVE_UP_S:
            raise BusError(
                f"no transaction could be committed for {GIVE_UP_S:.0f} s: {cause.str()}"
            ) from None
        if cause.fatal() and not self._initialised:
            raise BusError(f"the broker gives no transactions to {self._id}: {cause.str()}") from None
        if cause.fatal():
            self._unsure |= self._offered
            self._replace(cause.str())
        elif cause.txn_requires_abort() or (cause.code() == KafkaError._STATE and self._open):
            self._broken, self._ending = True, False
            log.warning("transaction_aborted", error=cause.str(), action="sending it again")
        elif cause.retriable():
            self._complain("commit_waiting", error=cause.str(), action="retrying")
            if self._doubts.lost():
                self._unsure |= self._offered
                self._replace("it finds no broker though others do")
                self._doubts.well()
        else:
            raise BusError(f"a transaction failed: {cause.str()}") from None


class _Call:
    """A call in a thread of its own, which may never end."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.began_s = monotonic_s()
        self._result: Any = None
        self._error: Exception | None = None
        self._ended = threading.Event()
        self._function, self._arguments = function, arguments
        threading.Thread(target=self._make, name="commit", daemon=True).start()

    def done(self, timeout_s: float) -> bool:
        """Tell whether it has ended, waiting for it for a while."""
        return self._ended.wait(timeout_s)

    def result(self) -> Any:
        """Return what it returned, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return self._result

    def _make(self) -> None:
        try:
            self._result = self._function(*self._arguments)
        except (BusError, KafkaException) as error:
            self._error = error
        finally:
            self._ended.set()
