"""A payment system's side of fraudstream: publish a transaction, await its decision, fall back in time.

    with DecisionClient("127.0.0.1:9092") as client:
        decision = client.decide(transaction)

Needs confluent-kafka alone. Copy it, and change what is yours: fields, time-out, fallback.

One consumer thread reads the decisions of all partitions from their ends on, outside any group, and completes the
futures of those who wait. A decision that nobody waits for (of another instance, or too late) is dropped.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as TooLate
from dataclasses import dataclass
from typing import Any, Self

from confluent_kafka import (
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

Transaction = Mapping[str, Any]


@dataclass(frozen=True)
class Decision:
    """What to do with a payment.

    Attributes:
        outcome: `approve`, `review`, `decline`, or as the worker's `[[outcomes]]` has them.
        risk_points: 0 to 1000; None where it is the fallback's.
        fallback: why it is; empty where fraudstream decided.
    """

    outcome: str
    risk_points: int | None = None
    fallback: str = ""


def approve_below(limit: float) -> Callable[[Transaction], str]:
    """Return a fallback policy: small payments are approved, the others referred to a person."""
    return lambda transaction: "approve" if float(transaction["amount"]) < limit else "refer"


class DecisionClient:
    """Publishes transactions and awaits their decisions. Threads may share one; make it once a process.

    Args:
        brokers: host:port, separated by commas.
        timeout_s: how long a payment can wait, all in all.
        fallback: the outcome where there is no decision in time.
        options: of librdkafka, for producer and consumer (security).
    """

    def __init__(
        self,
        brokers: str,
        timeout_s: float = 0.3,
        fallback: Callable[[Transaction], str] = approve_below(30.0),
        topics: tuple[str, str] = ("fraud.transactions", "fraud.decisions"),
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._timeout_s, self._fallback = timeout_s, fallback
        self._transactions, self._decisions = topics
        both = {"bootstrap.servers": brokers, **(options or {})}
        self._producer = Producer(
            both
            | {
                "enable.idempotence": True,  # what librdkafka sends again is there once
                "partitioner": "murmur2_random",  # as Java's clients do: labels must meet their transactions
                "linger.ms": 1,
                "message.timeout.ms": 10_000,
            }
        )
        self._consumer = Consumer(
            both
            | {
                "group.id": "payments",  # librdkafka wants one; it is neither joined nor committed to
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 50,
            }
        )
        self._waiting: dict[str, Future[Decision]] = {}
        self._lock = threading.Lock()
        self._halt = threading.Event()
        self._assign()
        self._reader = threading.Thread(target=self._read, name="decisions", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def decide(self, transaction: Transaction) -> Decision:
        """Publish a transaction and return its decision, or the fallback's.

        The same id may be sent again: fraudstream counts it once and says its first decision again. Who waits for an
        id that is waited for already shares the answer, and the first one's time-out.
        """
        identity = str(transaction["transaction_id"])
        with self._lock:
            future = self._waiting.setdefault(identity, Future())
        try:
            self._producer.produce(
                self._transactions,
                json.dumps(dict(transaction)).encode(),
                str(transaction["card_id"]).encode(),
                on_delivery=lambda error, message: self._not_sent(identity, error),
            )
            self._producer.poll(0)
            return future.result(self._timeout_s)
        except (TooLate, CancelledError):
            return self._fall_back(transaction, "no decision in time")
        except (KafkaException, BufferError) as error:
            return self._fall_back(transaction, str(error))
        finally:
            with self._lock:
                future.cancel()
                if self._waiting.get(identity) is future:
                    del self._waiting[identity]

    def close(self) -> None:
        """Send what is still under way, and stop reading."""
        self._producer.flush(10)
        self._halt.set()
        self._reader.join()
        self._consumer.close()

    def _fall_back(self, transaction: Transaction, why: str) -> Decision:
        return Decision(self._fallback(transaction), fallback=why)

    def _not_sent(self, identity: str, error: KafkaError | None) -> None:
        with self._lock:
            future = self._waiting.get(identity)
            if error is not None and future is not None and not future.done():
                future.set_exception(KafkaException(error))

    def _assign(self) -> None:
        """Read every partition from its end on; return once the ends are known, so that no decision is missed."""
        found = self._consumer.list_topics(self._decisions, timeout=10).topics[self._decisions]
        if found.error is not None:
            raise KafkaException(found.error)
        parts = [TopicPartition(self._decisions, number, OFFSET_END) for number in found.partitions]
        for part in parts:
            _, part.offset = self._consumer.get_watermark_offsets(part, timeout=10)
        self._consumer.assign(parts)

    def _read(self) -> None:
        while not self._halt.is_set():
            self._producer.poll(0)  # delivery reports
            message = self._consumer.poll(0.05)
            if message is not None:
                self._take(message)

    def _take(self, message: Message) -> None:
        if message.error() is not None or message.value() is None:
            return  # librdkafka tries again by itself; who waits falls back in time
        try:
            said = json.loads(message.value())
            identity, decision = said["transaction_id"], Decision(said["outcome"], said["risk_points"])
        except (ValueError, KeyError, TypeError):
            return  # nobody waits for what is no decision
        with self._lock:
            future = self._waiting.get(identity)
            if future is not None and not future.done():  # a decision may come twice: at least once
                future.set_result(decision)
