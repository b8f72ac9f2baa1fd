"""What is asked of the broker before anything is read: are the topics there, who else is in the group."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, NewTopic

from fraudstream.bus.clients import (
    MESSAGE_BYTES_MAX,
    REQUEST_TIMEOUT_S,
    SESSION_TIMEOUT_MS,
    Complaints,
    client,
    client_config,
)
from fraudstream.bus.rights import KIND_OF, Right, lacks, refusal, rights_of
from fraudstream.clock import monotonic_s, pause
from fraudstream.errors import BusError
from fraudstream.sections import Settings

log = structlog.get_logger("kafka")

ANSWER_WITHIN_S = 1.0
REFUSALS_MAX = 2


def wait_for_broker(
    settings: Settings, rights: Sequence[Right], stop: Callable[[], bool], patience_s: float = math.inf
) -> None:
    """Return once the broker answers, has the topics and grants the rights; say so while it is away.

    Args:
        patience_s: how long it may be away.

    Raises:
        BusError: it refuses the credentials or a certificate, a topic does not exist, a right is missing, or it
            stayed away.
    """
    complain, said = Complaints(settings.kafka), list[KafkaError]()
    admin = client(AdminClient, client_config(settings, "admin") | {"error_cb": said.append})
    deadline_s = monotonic_s() + patience_s
    times_refused = 0  # a broker that goes down while a connection is made looks like one that refuses it
    while not stop():
        try:
            _check_rights(admin, rights)
            return
        except KafkaException as error:
            admin.poll(0)  # librdkafka tells now what the matter is
            refused = [line for line in map(refusal, said) if line]
            reason = said[0] if said else error.args[0]
            said.clear()
            times_refused = times_refused + 1 if refused else 0
            if times_refused == REFUSALS_MAX:
                raise BusError(refused[-1]) from None
            if monotonic_s() > deadline_s:
                raise BusError(f"{settings.kafka['bootstrap.servers']}: {reason.str()}") from None
            if not refused:
                complain(reason)


def meet_broker(settings: Settings, part: str) -> None:
    """Do as `wait_for_broker` for a part that ends, and does not wait long for a broker that is away."""
    wait_for_broker(settings, rights_of(settings, part), lambda: False, REQUEST_TIMEOUT_S)


def lacking(settings: Settings, part: str, error: KafkaError) -> str:
    """Return the line for a right that a broker refused while a part was at work.

    The broker is asked which it is; where it cannot say, all are named that it may be.
    """
    rights = [right for right in rights_of(settings, part) if right.kind == KIND_OF[error.code()]]
    admin = client(AdminClient, client_config(settings, "admin"))
    try:
        _check_rights(admin, rights)
    except BusError as found:
        return str(found)
    except KafkaException as unanswered:
        log.debug("rights_unknown", error=unanswered.args[0].str())
    return lacks(rights)


def _check_rights(admin: AdminClient, rights: Sequence[Right]) -> None:
    """Raise BusError for rights that the broker refuses, as far as it tells, and for topics that are not there."""
    known = admin.list_topics(timeout=ANSWER_WITHIN_S).topics
    hidden = dict.fromkeys(
        right.name for right in rights if right.kind == "topic" and right.name not in known
    )
    missing, refused, forbidden = [], [], set()
    for name in hidden:
        error = admin.list_topics(name, timeout=REQUEST_TIMEOUT_S).topics[name].error
        if error is not None and error.code() in KIND_OF:
            forbidden.add(name)
        elif error is not None:
            missing.append(name)
    granted = _granted(admin, [right for right in rights if right.name not in hidden])
    for right in rights:
        operation = right.operation.upper()
        if right.name in forbidden or operation not in granted.get((right.kind, right.name), [operation]):
            refused.append(right)
    if refused:
        raise BusError(lacks(refused))
    if missing:
        raise BusError(f"missing topics: {', '.join(missing)}; run `fraudstream topics create`")


def _granted(admin: AdminClient, rights: Sequence[Right]) -> dict[tuple[str, str], list[str]]:
    """Return by kind and name the operations that are granted; nothing where the broker does not tell."""
    options = {"include_authorized_operations": True, "request_timeout": REQUEST_TIMEOUT_S}
    told: dict[tuple[str, str], list[str]] = {}
    for kind, describe in (("group", admin.describe_consumer_groups), ("topic", admin.describe_topics)):
        names = list(dict.fromkeys(right.name for right in rights if right.kind == kind))
        if not names:
            continue
        for name, answer in describe(TopicCollection(names) if kind == "topic" else names, **options).items():
            try:
                operations = answer.result().authorized_operations
            except KafkaException as error:
                if error.args[0].code() == KafkaError._UNSUPPORTED_FEATURE:
                    return {}  # so says the demo's built-in broker
                if error.args[0].code() in KIND_OF:
                    told[kind, name] = []
            else:
                if operations:
                    told[kind, name] = [operation.name for operation in operations]
    return told


def wait_for_others_to_go(settings: Settings, stop: Callable[[], bool]) -> str:
    """Return the name of another member of the worker's group; empty when there is none.

    One without a name that a broker cannot be told to be another may be this worker's former self: it is waited for
    until its session ends.
    """
    admin = client(AdminClient, client_config(settings, "admin"))
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
    wait_for_broker(settings, [], lambda: False, REQUEST_TIMEOUT_S)
    admin = client(AdminClient, client_config(settings, "admin"))
    result = {}
    for name, future in admin.create_topics(new, request_timeout=REQUEST_TIMEOUT_S).items():
        try:
            future.result(timeout=2 * REQUEST_TIMEOUT_S)
            result[name] = "created"
        except KafkaException as error:
            if error.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise BusError(lacks([Right("topic", name, "Create")])) from None
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise BusError(f"{name}: {error.args[0].str()}") from None
            result[name] = "exists"
    return result
