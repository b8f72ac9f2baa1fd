"""The demo on a real Kafka."""

from __future__ import annotations

import pytest

from tests.e2e.playing import play_demo
from tests.kafka.broker import Broker, KafkaBroker
from tests.kafka.deployment import quiet_admin

pytestmark = pytest.mark.broker


def test_the_demo_plays_on_a_real_kafka_in_topics_of_its_own(broker: Broker) -> None:
    admin = quiet_admin(broker.bootstrap)
    before = set(admin.list_topics(timeout=30).topics)
    play_demo("--brokers", broker.bootstrap)
    found = {name for name in admin.list_topics(timeout=30).topics if not name.startswith("__")}
    made = found - before
    try:
        assert {name.split(".", 2)[0] for name in made} == {"demo"}
        assert {name.split(".", 2)[2] for name in made} == {
            "fraud.transactions",
            "fraud.labels",
            "fraud.decisions",
            "fraud.alerts",
            "fraud.transactions.dlq",
            "fraud.features",
        }
    finally:
        if not isinstance(broker, KafkaBroker):
            for deletion in admin.delete_topics(sorted(made)).values():
                deletion.result(30)
