"""A client that has lost its brokers and does not look for them again.

A broker that has just started answers, for a moment, that there is no broker at all. librdkafka 2.16 may then forget
those it knew and stay without a connection until the process ends (its issue 5301; seen once in some hundred
restarts of a broker under load). So what stays silent without a connection is given up where a new client finds one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from fraudstream.clock import monotonic_s
from fraudstream.errors import BusError

QUIET_S = 20.0  # a consumer that has heard nothing for so long, and has no connection, is in doubt
STATE_EVERY_MS = 10_000
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


class Broker(msgspec.Struct):
    """What librdkafka's statistics say of one; `nodeid` is -1 for an address from the settings, or a role."""

    nodeid: int
    state: str


class Statistics(msgspec.Struct):
    """What is read of librdkafka's statistics."""

    brokers: dict[str, Broker] = {}


class Hearing:
    """Watches one consumer. To be used from the thread that polls it.

    Whether it has a connection it says itself, in its statistics: to ask a broker for something would wait behind the
    fetch that goes on, up to half a second, and that where nothing is wrong.

    Attributes:
        callbacks: what the consumer's configuration must have.

    Args:
        config: with which a new client would be made.
    """

    def __init__(self, topic: str, config: Mapping[str, Any]) -> None:
        self.callbacks = {"statistics.interval.ms": STATE_EVERY_MS, "stats_cb": self._told}
        self._topic = topic
        self._doubts = Doubts(config)
        self._heard_s = monotonic_s()
        self._connected = True  # until it says something else

    def heard(self, anything: bool) -> None:
        """Take whether the last poll brought something.

        Raises:
            BusError: the consumer does not find its brokers though others do.
        """
        if anything:
            self._heard_s = monotonic_s()
        elif not self._connected and monotonic_s() - self._heard_s > QUIET_S and self._doubts.lost():
            raise BusError(f"{self._topic}: the consumer finds no broker though others do; start again")

    def _told(self, statistics: str) -> None:
        brokers = msgspec.json.decode(statistics, type=Statistics).brokers.values()
        self._connected = any(broker.nodeid >= 0 and broker.state == "UP" for broker in brokers)
        if self._connected:
            self._doubts.well()
