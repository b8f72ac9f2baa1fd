"""Where a worker's messages leave: sent, and made last together with the positions they came from.

Two ways, the same calls (`worker.delivery`):

- `ExactlyOnce`: one Kafka transaction a commit interval, over all output topics and the input's offsets. What was
  sent is kept until it is committed: when a transaction has to be aborted, the same messages go out in another one,
  so the state never needs to be rolled back.
- `AtLeastOnce`: once nothing is on its way any more, the offsets are committed.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from fraudstream.bus.base import Positions, Sink
from fraudstream.bus.clients import REQUEST_TIMEOUT_S, client
from fraudstream.bus.kafka import KafkaSource
from fraudstream.bus.outgoing import QUEUE_FULL_S, Call, Message, Producing, ReplacedError
from fraudstream.bus.rights import KIND_OF
from fraudstream.bus.topics import lacking
from fraudstream.clock import monotonic_s
from fraudstream.errors import BusError, FencedError
from fraudstream.sections import Settings

log = structlog.get_logger("kafka")

WAIT_S = 0.5  # a turn of a commit: the loop turns on meanwhile
EMPTY_WITHIN_S = 0.02  # else, at least once, what is sent on waits until the rest is delivered
HUNG_AFTER_S = 5.0  # of a call that should have ended after WAIT_S
CLOSE_WITHIN_S = 2.0
GIVE_UP_S = 600.0  # of one transaction after the other aborted
TRANSACTION_TIMEOUT_MS = 10_000  # readers wait so long for what a worker that is gone left open
_FENCED = (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH)


def new_sink(settings: Settings, source: KafkaSource) -> Sink:
    """Return the sink that `worker.delivery` names.

    Raises:
        BusError: the broker does not take its transactions.
    """
    kind = ExactlyOnce if settings.worker.delivery == "exactly_once" else AtLeastOnce
    return kind(settings, source)


class AtLeastOnce(Producing):
    """Waits until nothing is on its way, then commits the offsets.

    Under a light load there is such a moment soon, and what is sent meanwhile goes out at once. Where there is none
    for `EMPTY_WITHIN_S`, what is sent on is held, and the rest flushed.
    """

    def __init__(self, settings: Settings, source: KafkaSource) -> None:
        more = {
            "message.timeout.ms": 0,  # what cannot be delivered now is delivered once the broker is back
            "linger.ms": 0,  # five requests are on their way at most (idempotence): the rest goes together
        }
        super().__init__(settings, source, more)
        self._began_s = 0.0  # the commit that goes on; 0: none
        self._delivered = False  # all that was sent before it

    def commit(self, positions: Positions, timeout_s: float) -> bool:
        """Begin a commit, or go on with it, as `Sink` says."""
        self._began_s = self._began_s or monotonic_s()
        self._delivered = self._delivered or self._all_delivered(timeout_s)
        if not self._delivered or (positions and not self._source.commit(positions, timeout_s > 0)):
            return False
        self._began_s, self._delivered = 0.0, False
        return True

    def discard(self) -> None:
        """Let it go: who serves it again sends the same ids."""
        super().discard()
        self._began_s, self._delivered = 0.0, False
        if self._trying is not None and self._trying.done(REQUEST_TIMEOUT_S):
            self._trying = None

    def _all_delivered(self, timeout_s: float) -> bool:
        if not self._committing:
            self._producer.poll(0)
            self._check_refused()
            if not len(self._producer):
                return True
            if not timeout_s and monotonic_s() - self._began_s < EMPTY_WITHIN_S:
                return False
        return super().commit({}, timeout_s)

    def _send(self, messages: Sequence[Message]) -> None:
        first = self._queued
        try:
            self._queue(messages)
        except KafkaException as error:
            topic, *_ = messages[self._queued - first]
            raise BusError(f"{topic}: {error.args[0].str()}") from None

    def _try(self, positions: Positions) -> Call:
        return Call(self._flush)

    def _settle(self, positions: Positions) -> bool:
        return True

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


class ExactlyOnce(Producing):
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
        self._offering: Call | None = None  # the offsets are on their way into it
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
        self._forget()

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
        self._forget()

    def _abandon(self, within_s: float) -> bool:
        """Give up the transaction; False: a call that was made for it has not come back."""
        deadline_s = monotonic_s() + within_s
        trying, self._trying = self._trying, None
        if trying is not None and trying.done(within_s) and trying.result() and not self._unsure:
            self._open = self._offered = False  # it went through
        calls = [call for call in (trying, self._offering) if call is not None]
        if not all(call.done(max(0.0, deadline_s - monotonic_s())) for call in calls):
            return False
        self._forget()
        self._offering = None
        self._broken = self._open
        while self._broken and monotonic_s() < deadline_s:  # later, the next commit aborts it
            try:
                self._abort()
            except KafkaException as error:
                self._failed(error.args[0])
        return True

    def _forget(self) -> None:
        """Let go of what was sent. Not while a try goes on that could still commit: positions alone would be left."""
        self._kept.clear()
        self._unsure = False

    def _send(self, messages: Sequence[Message]) -> None:
        """Send messages in the current transaction."""
        self._kept += messages
        if self._broken or not self._initialised:
            return  # they go out with the next transaction
        try:
            self._fill()
        except KafkaException as error:
            self._failed(error.args[0])

    def _try(self, positions: Positions) -> Call:
        group = self._source.group_metadata()  # here: the consumer is this thread's
        return Call(self._commit, self._source.offsets(positions), group)

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
            if self._broken and not self._abort():
                return False
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
        except ReplacedError:  # nobody waits for this try any more
            return False
        return True

    def _initialise(self) -> bool:
        """Take the transactional id, which ends what its former owner left open; False: try again."""
        try:
            self._ask(self._producer.init_transactions, WAIT_S)
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
            self._ask(self._producer.begin_transaction)
            self._open, self._queued = True, 0
        self._queue(self._kept[self._queued :])

    def _offer(self, offsets: Any, group: Any) -> bool:
        """Put the offsets into the transaction; False: they are on their way.

        librdkafka does not keep to the timeout of this one call, and may never return from it when the group's
        coordinator has gone. So it is made in a thread of its own, and a producer that hangs in it is replaced.
        """
        if self._offering is None:
            self._offering = Call(self._producer.send_offsets_to_transaction, offsets, group, WAIT_S)
        offering = self._offering
        if not self._answered(offering):
            return False
        self._offering = None
        offering.result()
        return True

    def _answered(self, offering: Call) -> bool:
        """Wait a little for the answer to the offsets; a producer that hangs in it is replaced."""
        if self._ask(offering.done, WAIT_S):
            return True
        if monotonic_s() - offering.began_s > HUNG_AFTER_S:
            self._replace(f"no answer for {HUNG_AFTER_S:.0f} s")
        self._complain("commit_waiting", error="the group's coordinator does not answer", action="retrying")
        return False

    def _end(self) -> None:
        """Commit the transaction; raises KafkaException where that has to be tried again, or it must be aborted."""
        self._ending = True
        self._ask(self._producer.commit_transaction, WAIT_S)
        self._ending = False

    def _replace(self, reason: str) -> None:
        """Go on with another producer; taking the transactional id, it ends the transaction of this one."""
        log.warning("producer_replaced", reason=reason, action="sending it again")
        self._producer = client(Producer, self._config)
        self._offering = None
        self._initialised = self._open = self._offered = self._ending = self._broken = False

    def _abort(self) -> bool:
        """Abort, or let a commit come to its end; False, or KafkaException: that has to be tried again."""
        if self._offering is not None:  # into the transaction that is given up
            if not self._answered(self._offering):
                return False
            self._offering = None
        if self._ending:
            self._end()
        else:
            self._ask(self._producer.abort_transaction, WAIT_S)
        self._open = self._offered = self._broken = False
        self._check_refused()
        return True

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
