"""Each query of each panel has an answer from a real Prometheus that scrapes a real worker, and retraining."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.grafana.panels import DASHBOARDS, dashboard
from tests.deploy.prometheus import Prometheus
from tests.deploy.test_alarms import installed
from tests.deploy.test_grafana import asked
from tests.kafka.broker import Broker
from tests.kafka.deployment import eventually
from tests.kafka.observed import observed
from tests.worlds import TinyWorld

pytestmark = pytest.mark.broker

WITHIN_S = 90.0  # a loaded machine; it takes 15 s


@pytest.fixture(scope="module")
def observer(
    broker: Broker, tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """Takes 15 s: the worker has to start, and drift needs a few hundred sampled rows."""
    program = installed("prometheus")
    with observed(program, broker, tiny_world, tmp_path_factory.mktemp("observed")) as prometheus:
        yield prometheus


@pytest.mark.parametrize("name", DASHBOARDS)
def test_no_panel_is_without_data(observer: Prometheus, name: str) -> None:
    queries = {
        (panel["title"], target["legendFormat"]): asked(target["expr"])
        for panel in dashboard(name)["panels"]
        for target in panel["targets"]
    }

    def without() -> list[tuple[str, str]]:
        return [label for label, expr in queries.items() if not has_number(observer, expr)]

    eventually(lambda: without() == [], WITHIN_S, f"{name}: every query has an answer: {without()}")


def test_a_failed_round_of_retraining_raises_its_alarm(observer: Prometheus) -> None:
    firing = 'ALERTS{alertstate="firing"}'
    eventually(lambda: bool(observer.ask(firing)), WITHIN_S, "an alarm")
    assert {alarm["metric"]["alertname"] for alarm in observer.ask(firing)} == {"FraudstreamRetrainFailed"}


def has_number(observer: Prometheus, expr: str) -> bool:
    return any(series["value"][1] != "NaN" for series in observer.ask(expr))
