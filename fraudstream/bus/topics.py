"""What is asked of the broker before anything is read: are the topics there, who else is in the group."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from fraudstream.bus.kafka import (
    MESSAGE_BYTES_MAX,
    REQUEST_TIMEOUT_S,
    SESSION_TIMEOUT_MS,
    Complaints,
    client_config,
)
from fraudstream.clock import monotonic_s, pause
from fraudstream.errors import BusError
from fraudstream.sections import Settings

log = structlog.get_logger("kafka")


def wait_for_topics(settings: Settings, wanted: Sequence[str], stop: Callable[[], bool]) -> None:
    """Return once the broker answers and has these topics; say so while it does not.

    Raises:
        BusError: a topic does not exist.
    """
    admin = AdminClient(client_config(settings, "admin"))
    complain = Complaints(settings.kafka)
    while not stop():
        try:
            known = admin.list_topics(timeout=2.0).topics
        except KafkaException as error:
            complain(error.args[0])
            continue
        missing = [topic for topic in wanted if topic not in known]
        if missing:
            raise BusError(f"missing topics: {', '.join(missing)}; run `fraudstream topics create`")
        return


def wait_for_others_to_go(settings: Settings, stop: Callable[[], bool]) -> str:
    """Return the name of another member of the worker's group; empty when there is none.

    One without a name that a broker cannot be told to be another may be this worker's former self: it is waited for
    until its session ends.
    """
    admin = AdminClient(client_config(settings, "admin"))
    group, ours = settings.worker.group, settings.worker.instance_name
    deadline_s = monotonic_s() + SESSION_TIMEOUT_MS / 1000 + 2
    while not stop():
        try:
            described = admin.describe_consumer_groups([group], request_timeout=REQUEST_TIMEOUT_S)[
                group
            ].result()
        except KafkaException as error:  # no group yet, or a broker that cannot say
            log.debug("group_unknown", error=error.args[0].str())
            return ""
        others = [member for member in described.members if not ours or member.group_instance_id != ours]
        if not others:
            return ""
        if monotonic_s() > deadline_s or all(member.group_instance_id for member in others):
            return str(others[0].group_instance_id or others[0].member_id)
        pause(0.5)
    return ""


def create_topics(settings: Settings) -> dict[str, str]:
    """Create the topics that are not there; return what became of each: `created` or `exists`.

    Raises:
        BusError: the broker cannot be reached, or refuses one.
    """
    topics = settings.topics
    names = [topics.transactions, topics.labels, topics.decisions, topics.alerts, topics.dlq, topics.features]
    # The original bytes of a message of the largest size and the headers that say what is wrong with it; the
    # features of a whole micro-batch.
    large = {"max.message.bytes": str(MESSAGE_BYTES_MAX)}
    extra = {topics.dlq: large, topics.features: large}
    new = [
        NewTopic(
            name,
            num_partitions=topics.partitions,
            replication_factor=topics.replication,
            config=extra.get(name, {}),
        )
        for name in names
    ]
    admin = AdminClient(client_config(settings, "admin"))
    result = {}
    for name, future in admin.create_topics(new, request_timeout=REQUEST_TIMEOUT_S).items():
        try:
            future.result(timeout=2 * REQUEST_TIMEOUT_S)
            result[name] = "created"
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise BusError(f"{name}: {error.args[0].str()}") from None
            result[name] = "exists"
    return result
