"""What each command needs of a broker that has ACLs, and what is said where it refuses: one line, with what to do.

A right is named as Kafka names it. Read and Write on a topic or a group include Describe, which is all that it
takes to look at it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from confluent_kafka import KafkaError

from fraudstream.sections import Settings

KIND_OF = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "group",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "transactional-id",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "cluster",
}


class Right(NamedTuple):
    """One ACL.

    Attributes:
        kind: `topic`, `group` or `transactional-id`.
        name: of the resource; with `prefixed` how names begin.
        operation: `Read`, `Write`, `Create` or `Describe`.
    """

    kind: str
    name: str
    operation: str
    prefixed: bool = False

    def __str__(self) -> str:
        return f"{self.operation} on {self.kind} {self.name}{'*' * self.prefixed}"

    def command(self, brokers: str, principal: str) -> str:
        """Return the command line of Kafka's own tool that grants it."""
        pattern = " --resource-pattern-type prefixed" * self.prefixed
        return (
            f"kafka-acls.sh --bootstrap-server {brokers} --add --allow-principal {principal} "
            f"--operation {self.operation} --{self.kind} {self.name}{pattern}"
        )


def _on_topics(operation: str, names: Iterable[str]) -> list[Right]:
    return [Right("topic", name, operation) for name in names]


def rights_of(settings: Settings, part: str) -> list[Right]:
    """Return all that a part of fraudstream needs, one of PARTS; `alerts show` and `dlq show` are as the lists.

    A broker before Kafka 3.0 wants IdempotentWrite on the cluster of everything that writes, too.
    """
    topics, worker = settings.topics, settings.worker
    logged = [topics.features] * worker.feature_log
    all_topics = [
        topics.transactions,
        topics.labels,
        topics.decisions,
        topics.alerts,
        topics.dlq,
        topics.features,
    ]
    if part == "topics create":
        return _on_topics("Create", all_topics)
    if part == "worker":
        read = [topics.transactions] + [topics.labels] * any(group.label for group in settings.features)
        rights = _on_topics("Read", read)
        rights += _on_topics("Write", [topics.decisions, topics.alerts, topics.dlq, *logged])
        rights.append(Right("group", worker.group, "Read"))
        if worker.delivery == "exactly_once":
            rights.append(Right("transactional-id", f"{worker.group}.", "Write", prefixed=True))
        return rights
    if part == "alerts tail":
        return _on_topics("Read", [topics.alerts])
    if part == "alerts list":
        return _on_topics("Read", [topics.alerts, topics.labels])
    if part == "label":
        return _on_topics("Read", [topics.alerts, topics.decisions]) + _on_topics("Write", [topics.labels])
    if part == "simulate --kafka":
        return _on_topics("Write", [topics.transactions, topics.labels])
    if part == "archive":
        return _on_topics("Read", [topics.transactions, topics.decisions, topics.labels, *logged])
    if part == "explain":
        return _on_topics("Read", [topics.transactions, topics.decisions, topics.alerts, topics.features])
    if part == "audit":
        return _on_topics("Read", [name for name in all_topics if name != topics.alerts])
    group = f"{worker.group}.dlq"
    if part == "dlq list":
        return [Right("topic", topics.dlq, "Read"), Right("group", group, "Describe")]
    assert part == "dlq replay"
    return [
        Right("topic", topics.dlq, "Read"),
        *_on_topics("Write", [topics.dlq, topics.transactions, topics.labels]),
        Right("group", group, "Read"),
        Right("transactional-id", f"{group}-replay", "Write"),
    ]


PARTS = (
    *("topics create", "worker", "alerts tail", "alerts list", "label", "simulate --kafka", "archive"),
    *("explain", "audit", "dlq list", "dlq replay"),
)


def lacks(rights: Iterable[Right]) -> str:
    """Return the line that says which rights are missing."""
    named = ", ".join(map(str, rights))
    return f"the broker refuses this user {named}; grant it, `fraudstream acls` prints the commands"


def refusal(error: KafkaError) -> str:
    """Return what to do about credentials or certificates that are refused; empty where the broker is only away."""
    text = error.str()
    where, _, what = text.partition(": ")
    address = where.rpartition("//")[2].removesuffix("/bootstrap")
    what = what.partition(" (after ")[0]
    if error.code() == KafkaError._AUTHENTICATION:
        return f'{address}: {what}; correct kafka."sasl.username", "sasl.password" or "sasl.mechanism"'
    if "certificate verify failed" in text:
        return (
            f"{address}: its certificate is not signed by an authority that is known here, or not for this host "
            'name; correct kafka."ssl.ca.location" or "bootstrap.servers"'
        )
    if "SSL alert number" in text:
        alert = text.partition(" alert ")[2].partition(":")[0]
        return (
            f"{address}: refuses this client's certificate ({alert}); give one that it trusts as "
            'kafka."ssl.certificate.location" and "ssl.key.location"'
        )
    if "PLAINTEXT broker listener" in text:
        return f'{address}: does not speak TLS; correct kafka."security.protocol" or "bootstrap.servers"'
    if error.code() == KafkaError._SSL:
        return f'{address}: {what}; correct kafka."ssl.*"'
    return ""
