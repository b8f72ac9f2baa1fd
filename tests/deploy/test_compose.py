"""The compose file keeps to its specification, and names only what is there. No engine is needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from docs.generate import ROOT
from fraudstream.settings import load_settings
from tests.deploy.containers import accepted

FILE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "fraudstream"}
ONCE = {"topics", "models", "simulator"}
WRITES_ITS_ROOT = {"kafka"}  # its start script makes its configuration
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")


def test_the_file_keeps_to_the_specification() -> None:
    """`compose-spec.json` is from github.com/compose-spec/compose-go 2.16.2 (Apache-2.0), unchanged."""
    schema = json.loads((Path(__file__).parent / "compose-spec.json").read_text("utf-8"))
    jsonschema.validate(FILE, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(FILE | {"services": {"worker": {"imag": "fraudstream"}}}, schema)


def test_the_services_are_those_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text("utf-8").partition("### With compose")[2].partition("\n## ")[0]
    assert set(OURS) == {"topics", "models", "worker", "archive", "retrain", "simulator"}
    assert set(SERVICES) - set(OURS) == {"kafka", "prometheus", "grafana"}
    for name in SERVICES:
        assert name in readme.lower()


@pytest.mark.parametrize("name", sorted(set(OURS) - {"models"}))
def test_a_services_command_is_one(name: str) -> None:
    command = OURS[name]["command"]
    assert accepted(command)
    assert not accepted([*command, "--no-such-option"])


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_may_do_no_more_than_it_must(name: str) -> None:
    service = SERVICES[name]
    assert service.get("read_only", False) == (name not in WRITES_ITS_ROOT)
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    limits = service["deploy"]["resources"]["limits"]
    assert limits.keys() == {"cpus", "memory"}
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_what_can_be_waited_for(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        if other in ONCE:
            assert how["condition"] == "service_completed_successfully"
        else:
            assert how["condition"] == "service_healthy"
            assert "healthcheck" in SERVICES[other]


def test_what_runs_on_says_whether_it_is_well() -> None:
    assert {name for name in SERVICES if "healthcheck" not in SERVICES[name]} - ONCE == {"archive"}
    for name, port in (("worker", 6066), ("retrain", 6067)):
        assert f"http://127.0.0.1:{port}/" in SERVICES[name]["healthcheck"]["test"][-1]


def test_volumes_are_declared_used_and_there() -> None:
    mounted = [volume.split(":") for service in SERVICES.values() for volume in service.get("volumes", [])]
    named = {source for source, *_ in mounted if not source.startswith(".")}
    assert named == set(FILE["volumes"])
    for source, *_ in mounted:
        assert not source.startswith(".") or (ROOT / source).is_dir(), source


def test_what_is_written_by_us_belongs_to_our_user() -> None:
    """A new named volume takes the owner of the image's folder; one that is not there would be root's."""
    for service in OURS.values():
        for volume in service.get("volumes", []):
            _, target, *how = volume.split(":")
            if how != ["ro"]:
                assert target in DOCKERFILE, volume


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_services_variables_are_settings(name: str) -> None:
    given = {key: str(value) for key, value in OURS[name]["environment"].items() if "$" not in str(value)}
    settings = load_settings(environment=given)
    assert settings.kafka["bootstrap.servers"] == "kafka:19092"
    if any(port.endswith(("6066", "6067")) for port in OURS[name].get("ports", [])):
        assert settings.worker.web_host == "0.0.0.0"


def test_prometheus_scrapes_what_there_is() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text("utf-8"))
    targets = [job["static_configs"][0]["targets"] for job in config["scrape_configs"]]
    assert targets == [["worker:6066"], ["retrain:6067"]]
    assert SERVICES["retrain"]["environment"]["FRAUDSTREAM_WORKER__WEB_HOST"] == "0.0.0.0"
    assert "./deploy/prometheus:/etc/prometheus:ro" in SERVICES["prometheus"]["volumes"]


def test_grafana_finds_its_dashboards() -> None:
    mounts = SERVICES["grafana"]["volumes"]
    assert "./deploy/grafana/dashboards:/etc/grafana/dashboards:ro" in mounts
    assert "./deploy/grafana/provisioning:/etc/grafana/provisioning:ro" in mounts
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (ROOT / "deploy" / "grafana" / "dashboards" / Path(home).name).exists()
