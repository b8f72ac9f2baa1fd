"""What both ways of delivery share: a producer whose every message is accounted for, and calls that may hang."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from fraudstream.bus.base import Headers, Outgoing, Positions
from fraudstream.bus.clients import MESSAGE_BYTES_MAX, client, client_config
from fraudstream.bus.kafka import KafkaSource
from fraudstream.bus.lost import Doubts
from fraudstream.bus.rights import Right, lacks
from fraudstream.clock import Seldom, monotonic_s
from fraudstream.errors import BusError
from fraudstream.sections import Settings

log = structlog.get_logger("kafka")

Message = tuple[str, bytes | None, bytes | None, Headers]

QUEUE_FULL_S = 60.0  # a message that cannot be queued for so long
_PASSING = (KafkaError._MSG_TIMED_OUT, KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT)


class ReplacedError(Exception):
    """Another producer has taken the place of the one that was asked, while it was, or there is none any more."""


class Producing(ABC):
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
        self._trying: Call | None = None
        self._held: list[Message] = []
        self._queued = 0  # messages that the producer has taken
        self._rests_until_s = 0.0
        self._refused: list[str] = []
        self._seldom = Seldom()
        self._doubts = Doubts(config)
        self._closed = False

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
        self._closed = True
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
    def _try(self, positions: Positions) -> Call:
        """Begin to commit; the call returns False when it is to be tried again."""

    @abstractmethod
    def _settle(self, positions: Positions) -> bool:
        """Do what is left once a try has succeeded; False: it is to be tried again."""

    def _queue(self, messages: Iterable[Message]) -> None:
        """Queue messages; wait where the queue is full. Raises BusError, KafkaException, ReplacedError."""
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
        producer = self._producer
        while True:
            self._ask(producer.poll, 0.1)
            try:
                return producer.produce(topic, value, key, headers=headers, on_delivery=self._report)
            except BufferError:
                if monotonic_s() > deadline_s:
                    raise BusError(
                        f"no message could be queued for {topic} for {QUEUE_FULL_S:.0f} s"
                    ) from None

    def _ask(self, call: Callable[..., Any], *arguments: object) -> Any:
        """Make a call of the producer that may take long.

        Raises:
            ReplacedError: whatever it returned or raised is not about the producer that is there now.
        """
        producer = self._producer
        try:
            return call(*arguments)
        finally:
            if self._closed or producer is not self._producer:
                raise ReplacedError

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


class Call:
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
