"""The dashboards as Grafana takes them, as far as that can be told without one."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations
from typing import Any

import pytest
import yaml

from deploy.grafana.panels import DASHBOARDS, WIDE, dashboard
from docs import generate
from fraudstream.metrics import RetrainMetrics, WorkerMetrics

FOLDER = generate.ROOT / "deploy" / "grafana"
UNITS = {"short", "s", "bytes", "percentunit", "reqps", "cps"}  # of Grafana's list
UID = re.compile(r"[a-zA-Z0-9_-]{1,40}")


def asked(expr: str) -> str:
    """Return a query as Grafana sends it, all workers chosen."""
    variables = {"$instance": ".+", "$__rate_interval": "15s", "$__range": "1m"}
    for name, value in variables.items():
        expr = expr.replace(name, value)
    assert "$" not in expr.replace('"$1"', "")
    return expr


def exprs() -> list[str]:
    return [t["expr"] for name in DASHBOARDS for panel in dashboard(name)["panels"] for t in panel["targets"]]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_can_be_provisioned(name: str) -> None:
    board = dashboard(name)
    assert UID.fullmatch(board["uid"])
    assert "id" not in board  # Grafana gives it
    variables = {variable["name"] for variable in board["templating"]["list"]}
    assert variables == {"source", "instance"}
    for panel in board["panels"]:
        assert panel["type"] in ("timeseries", "stat", "bargauge")
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        assert panel["description"]
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "${source}"}
        assert Counter(target["refId"] for target in panel["targets"]).most_common(1)[0][1] == 1


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_lie_beside_each_other(name: str) -> None:
    panels = dashboard(name)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    covered = [cells(panel["gridPos"]) for panel in panels]
    assert all(0 <= x < WIDE for cell in covered for x, _ in cell)
    assert not any(one & other for one, other in combinations(covered, 2))


def cells(place: dict[str, int]) -> set[tuple[int, int]]:
    return {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}


def test_what_is_asked_for_is_there() -> None:
    there = {metric for kind in (WorkerMetrics, RetrainMetrics) for metric, *_ in generate.metrics(kind)}
    named = {name for expr in exprs() for name in re.findall(r"\bfraudstream_\w+", expr)}
    plain = {re.sub(r"_(bucket|sum|count)$", "", name) for name in named}
    assert plain <= there


def test_what_can_go_wrong_is_shown() -> None:
    shown = " ".join(exprs())
    unseen = {  # told otherwise: by an alarm, or by a panel of the same thing
        "fraudstream_drift_ks": "drift is shown by its PSI",
        "fraudstream_drift_rows": "says only when drift is told",
        "fraudstream_snapshots_total": "FraudstreamSnapshotFailed",
        "fraudstream_unscored_total": "FraudstreamUnscored",
    }
    names = {name for kind in (WorkerMetrics, RetrainMetrics) for name, *_ in generate.metrics(kind)}
    assert {name for name in names if name not in shown} == set(unseen)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("provisioning/*/*.yml")), ids=lambda path: path.stem)
def test_provisioning_names_what_is_mounted(path: Any) -> None:
    declared = yaml.safe_load(path.read_text("utf-8"))
    assert declared["apiVersion"] == 1
    for provider in declared.get("providers", []):
        assert provider["options"]["path"] == "/etc/grafana/dashboards"
    for source in declared.get("datasources", []):
        assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
