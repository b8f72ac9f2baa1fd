"""Clients of librdkafka: how they are set up, how they complain, and how a broker is asked that is not ready yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException

from fraudstream.bus.rights import KIND_OF, refusal
from fraudstream.clock import Seldom, monotonic_s, pause
from fraudstream.errors import ConfigError
from fraudstream.sections import KafkaConfig, Settings

log = structlog.get_logger("kafka")

REQUEST_TIMEOUT_S = 10.0
ASK_AGAIN_S = 0.1
FLUSH_TIMEOUT_S = 60.0
MESSAGE_BYTES_MAX = 8_000_000
SESSION_TIMEOUT_MS = 10_000  # after a crash its partitions wait this long, unless the worker comes back


class Complaints:
    """Says that the broker is away or refuses us, once in a while, in one line."""

    def __init__(self, config: KafkaConfig) -> None:
        self._brokers = config.get("bootstrap.servers")
        self._seldom = Seldom()

    def __call__(self, error: KafkaError) -> None:
        """Take what librdkafka says."""
        if not self._seldom.now():
            return
        if refused := refusal(error):
            log.warning("kafka_refuses", error=refused, action="retrying")
        else:
            log.warning("kafka_unreachable", brokers=self._brokers, error=error.str(), action="retrying")


class _Quiet:
    """Takes librdkafka's own log lines; what matters of them reaches `error_cb`."""

    def log(self, level: int, message: str, *arguments: object) -> None:
        log.debug("librdkafka", message=message % arguments if arguments else message)


def client_config(settings: Settings, role: str) -> dict[str, Any]:
    """Return librdkafka's settings for a `consumer`, a `producer` or an `admin` client."""
    config: dict[str, Any] = dict(settings.kafka)
    if role == "consumer":
        config.update(settings.kafka_consumer)
        config.update({"group.id": settings.worker.group, "enable.auto.commit": False})
        config.setdefault("auto.offset.reset", "earliest")
        if config.get("group.protocol", "classic") == "classic":
            config.setdefault(
                "session.timeout.ms", SESSION_TIMEOUT_MS
            )  # of the newer protocol the broker decides
    elif role == "producer":
        # The default partitioner puts a key elsewhere than Java clients do.
        config.update({"partitioner": "murmur2_random", "enable.idempotence": True})
        config.update(settings.kafka_producer)
    config["error_cb"] = Complaints(settings.kafka)
    config["logger"] = _Quiet()
    return config


def client(kind: Callable[[dict[str, Any]], Any], config: dict[str, Any]) -> Any:
    """Return a client of librdkafka, which reads the files that the settings name.

    Raises:
        ConfigError: it does not take a setting.
    """
    try:
        return kind(config)
    except KafkaException as error:
        raise ConfigError(f"[kafka]: {error.args[0].str()}") from None


def patiently(ask: Callable[..., Any], what: Any) -> Any:
    """Ask a broker, again for a while where it cannot answer yet: a leader is elected, a topic has just been made.

    Raises:
        KafkaException: there was no answer in that time.
    """
    deadline_s = monotonic_s() + REQUEST_TIMEOUT_S
    while True:
        try:
            return answered(ask(what, timeout=REQUEST_TIMEOUT_S))
        except KafkaException as error:
            if monotonic_s() > deadline_s or error.args[0].code() in KIND_OF:
                raise
            pause(ASK_AGAIN_S)


def answered(answer: Any) -> Any:
    """Return a broker's answer. Raises KafkaException where it has an error in the place of an offset, or is none."""
    if answer is None:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
    for part in answer:
        error = getattr(part, "error", None)
        if error is not None:
            raise KafkaException(error)
    return answer
