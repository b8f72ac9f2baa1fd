"""The Kubernetes base: what refers to something finds it. `make manifests` checks it against the API's schemas."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs.generate import ROOT
from fraudstream.settings import load_settings
from tests.deploy.containers import accepted

BASE = ROOT / "deploy" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((BASE / "kustomization.yaml").read_text("utf-8"))
OBJECTS: list[dict[str, Any]] = [
    found
    for name in KUSTOMIZATION["resources"]
    for found in yaml.safe_load_all((BASE / name).read_text("utf-8"))
]


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the pods' templates by the name of what makes them."""
    for found in OBJECTS:
        spec = found.get("spec", {})
        if found["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if "template" in spec:
            yield found["metadata"]["name"], spec["template"]


PODS = dict(pods())


def test_all_files_of_the_base_are_used() -> None:
    files = {path.name for path in BASE.iterdir()} - {"kustomization.yaml"}
    generated = KUSTOMIZATION["configMapGenerator"][0]["files"]
    assert files == {*KUSTOMIZATION["resources"], *generated}
    assert set(PODS) == {"worker", "archive", "retrain"}


@pytest.mark.parametrize("name", PODS)
def test_a_pod_runs_a_command_with_nothing_but_what_it_needs(name: str) -> None:
    spec = PODS[name]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is False
    assert accepted(spec["containers"][0]["args"])
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("name", PODS)
def test_what_a_pod_mounts_is_there(name: str) -> None:
    spec = PODS[name]["spec"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    containers = [*spec["containers"], *spec.get("initContainers", [])]
    assert {mount["name"] for one in containers for mount in one["volumeMounts"]} == set(volumes)
    claims = {found["metadata"]["name"] for found in OBJECTS if found["kind"] == "PersistentVolumeClaim"}
    maps = {generated["name"] for generated in KUSTOMIZATION["configMapGenerator"]}
    for volume in volumes.values():
        assert "persistentVolumeClaim" not in volume or volume["persistentVolumeClaim"]["claimName"] in claims
        assert "configMap" not in volume or volume["configMap"]["name"] in maps


@pytest.mark.parametrize("name", PODS)
def test_the_settings_are_in_folders_that_are_mounted(name: str) -> None:
    spec = PODS[name]["spec"]["containers"][0]
    settings = load_settings(BASE / "fraudstream.toml", environment={})
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in spec["volumeMounts"]}
    written = {
        "worker": (settings.snapshots.folder,),
        "archive": (settings.archive.uri,),
        "retrain": (settings.model.registry,),
    }
    assert [mounts[folder] for folder in written[name]] == [False]
    assert "/etc/fraudstream/fraudstream.toml" in spec["args"]


def test_the_worker_is_named_after_its_pod_and_asked_at_its_pages() -> None:
    worker = PODS["worker"]["spec"]["containers"][0]
    variable = worker["env"][0]
    assert load_settings(environment={variable["name"]: "worker-0"}).worker.instance == "worker-0"
    assert variable["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    assert worker["ports"] == [
        {"name": "web", "containerPort": load_settings(environment={}).worker.web_port}
    ]
    asked = {kind: worker[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert asked == {
        "startup": {"path": "/livez", "port": "web"},
        "liveness": {"path": "/livez", "port": "web"},
        "readiness": {"path": "/readyz", "port": "web"},
    }


def test_every_selector_selects_a_pod() -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not on the PATH; it builds what the base says")
    built = list(yaml.safe_load_all(kustomized(kubectl)))
    labels = [
        found["spec"]["template"]["metadata"]["labels"]
        if found["kind"] != "CronJob"
        else found["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
        for found in built
        if found["kind"] in ("StatefulSet", "Deployment", "CronJob")
    ]
    selectors = [
        found["spec"].get("selector") or found["spec"].get("podSelector")
        for found in built
        if found["kind"] in ("Service", "StatefulSet", "Deployment", "PodDisruptionBudget", "NetworkPolicy")
    ]
    assert len(selectors) == 5
    for selector in selectors:
        wanted = selector.get("matchLabels", selector).items()
        assert any(wanted <= has.items() for has in labels), selector
    assert all(found["metadata"]["namespace"] == "fraudstream" for found in built)


def kustomized(kubectl: str | Path) -> str:
    ended = subprocess.run(
        [kubectl, "kustomize", BASE], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
