"""A client that has lost its brokers and does not look for them again.

A broker that has just started answers, for a moment, that there is no broker at all. librdkafka 2.16 may then forget
those it knew and stay without a connection until the process ends (its issue 5301; seen once in some hundred
restarts of a broker under load). So what stays silent is asked, and where it cannot answer though a new client
can, it is given up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from fraudstream.clock import monotonic_s
from fraudstream.errors import BusError

QUIET_S = 20.0  # a consumer that has heard nothing for so long is asked
ASK_EVERY_S = 10.0
ASK_TIMEOUT_S = 1.0
REACHED_FOR_S = 30.0  # by others, while this one fails: it would have tried three times to connect
_OF_A_ROLE = (
    "group.",
    "auto.offset",
    "session.timeout",
    "enable.",
    "transactional.",
    "partitioner",
    "isolation.",
)


def others_reach(config: Mapping[str, Any]) -> bool:
    """Tell whether a new client finds a broker."""
    plain = {name: value for name, value in config.items() if not name.startswith(_OF_A_ROLE)}
    try:
        return bool(AdminClient(plain | {"log_level": 0}).list_topics(timeout=3 * ASK_TIMEOUT_S).brokers)
    except KafkaException:
        return False


class Doubts:
    """Tells whether a client that fails fails alone.

    Args:
        config: with which a new client would be made.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._asked_s = 0.0
        self._reached_since_s: float | None = None

    def well(self) -> None:
        """Take that it does not fail."""
        self._asked_s, self._reached_since_s = 0.0, None

    def lost(self) -> bool:
        """Take that it fails, and tell whether others have reached a broker all the while, for long."""
        now_s = monotonic_s()
        if not self._asked_s:
            self._asked_s = now_s
        elif now_s - self._asked_s > ASK_EVERY_S:
            self._asked_s = now_s
            if not others_reach(self._config):
                self._reached_since_s = None
            elif self._reached_since_s is None:
                self._reached_since_s = now_s
        return self._reached_since_s is not None and now_s - self._reached_since_s > REACHED_FOR_S


class Hearing:
    """Watches one consumer. To be used from the thread that polls it.

    Args:
        config: with which a new client would be made.
    """

    def __init__(self, consumer: Any, topic: str, config: Mapping[str, Any]) -> None:
        self._consumer, self._topic = consumer, topic
        self._doubts = Doubts(config)
        self._heard_s = self._asked_s = monotonic_s()

    def heard(self, anything: bool) -> None:
        """Take whether the last poll brought something; ask for what nobody sends once in a while.

        Raises:
            BusError: the consumer does not find its brokers though others do.
        """
        now_s = monotonic_s()
        if anything:
            self._heard_s = now_s
        elif now_s - self._heard_s > QUIET_S and now_s - self._asked_s > ASK_EVERY_S:
            self._asked_s = now_s
            self._ask()

    def _ask(self) -> None:
        try:
            self._consumer.list_topics(self._topic, timeout=ASK_TIMEOUT_S)
        except KafkaException as error:
            if self._doubts.lost():
                raise BusError(
                    f"{self._topic}: the consumer finds no broker though others do ({error.args[0].str()}); start "
                    "again"
                ) from None
        else:
            self._doubts.well()
