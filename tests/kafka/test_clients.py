"""The example clients of payment systems, against a real broker and a real worker."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.cli.running import REPOSITORY
from tests.kafka.broker import Broker, kafka_jars
from tests.kafka.conftest import produce_to
from tests.kafka.deployment import Deployment, deployed
from tests.worlds import TinyWorld

pytestmark = pytest.mark.broker

CLIENTS = REPOSITORY / "examples" / "clients"
PATIENT_S = 30.0
HURRIED_S = 0.2
LIMIT = 30.0


@pytest.fixture(scope="module")
def served(
    broker: Broker, tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """Topics with a worker."""
    with deployed(broker, tiny_world, tmp_path_factory.mktemp("served"), partitions=3) as deployment:
        deployment.start().wait_ready()
        yield deployment


@pytest.fixture(scope="module")
def idle(
    broker: Broker, tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """Topics without a worker."""
    with deployed(broker, tiny_world, tmp_path_factory.mktemp("idle"), partitions=3) as deployment:
        for name in ("transactions", "decisions"):  # they are there once they take something
            produce_to(deployment.bootstrap, deployment.topic(name), [(b"key", b"no transaction", None)])
        yield deployment


@pytest.fixture(scope="module")
def decisions() -> Any:
    """The Python client's module."""
    spec = importlib.util.spec_from_file_location("decisions", CLIENTS / "python" / "decisions.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["decisions"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def java_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Java client, compiled."""
    javac = shutil.which("javac")
    if javac is None:
        pytest.skip("no JDK: javac is missing")
    folder = tmp_path_factory.mktemp("java")
    sources = (CLIENTS / "java").rglob("*.java")
    jars = f"{kafka_jars()}/*"
    subprocess.run(
        [
            javac,
            "-Xlint:all,-options",
            "-Werror",
            "--release",
            "17",
            "-proc:none",
            "-cp",
            jars,
            "-d",
            folder,
            *sources,
        ],
        check=True,
    )
    return folder


def client_of(decisions: Any, deployment: Deployment, timeout_s: float) -> Any:
    topics = deployment.topic("transactions"), deployment.topic("decisions")
    return decisions.DecisionClient(
        deployment.bootstrap, timeout_s, decisions.approve_below(LIMIT), topics, {"log_level": 0}
    )


def served_by_id(deployment: Deployment, count: int) -> dict[str, tuple[str, int]]:
    values = [message.value() for message in deployment.read("decisions", count)]
    found = [json.loads(value) for value in values if value.startswith(b"{")]
    return {one["transaction_id"]: (one["outcome"], one["risk_points"]) for one in found}


def test_the_python_client_awaits_each_decision_by_its_id(
    decisions: Any, served: Deployment, tiny_world: TinyWorld
) -> None:
    rows, topic = tiny_world.rows[:200], served.topic("decisions")
    with client_of(decisions, served, PATIENT_S) as client, ThreadPoolExecutor(8) as threads:
        produce_to(served.bootstrap, topic, [(b"key", b"no decision", None), (b"key", b"[]", None)])
        told = dict(
            zip((row["transaction_id"] for row in rows), threads.map(client.decide, rows), strict=True)
        )
        again = client.decide(rows[-1])
    assert {one.fallback for one in told.values()} == {""}
    expected = served_by_id(served, len(rows))
    assert {name: (one.outcome, one.risk_points) for name, one in told.items()} == {
        name: expected[name] for name in told
    }
    assert again == told[rows[-1]["transaction_id"]]
    assert len({one.outcome for one in told.values()}) > 1


def fallback_of(row: dict[str, Any]) -> str:
    return "approve" if row["amount"] < LIMIT else "refer"


def test_the_python_client_falls_back_in_time(
    decisions: Any, idle: Deployment, tiny_world: TinyWorld
) -> None:
    rows = tiny_world.rows[:6]
    with client_of(decisions, idle, HURRIED_S) as client:
        told = [client.decide(row) for row in rows]
    assert [(one.outcome, one.fallback) for one in told] == [
        (fallback_of(row), "no decision in time") for row in rows
    ]
    assert len(idle.read("transactions")) >= len(rows)  # they will be decided all the same


def pay_in_java(
    classes: Path, deployment: Deployment, rows: list[dict[str, Any]], timeout_s: float
) -> list[Any]:
    java = shutil.which("java")
    assert java is not None
    path = f"{classes}:{kafka_jars()}/*"
    topics = deployment.topic("transactions"), deployment.topic("decisions")
    ended = subprocess.run(
        [java, "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=OFF", "-cp", path, "example.Pay", deployment.bootstrap,
         *topics, str(int(timeout_s * 1000)), str(LIMIT)],
        input="".join(json.dumps(row) + "\n" for row in rows),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_the_java_client_awaits_each_decision_by_its_id(
    java_classes: Path, served: Deployment, tiny_world: TinyWorld
) -> None:
    rows = tiny_world.rows[300:340]
    told = pay_in_java(java_classes, served, [*rows, rows[-1]], PATIENT_S)
    assert [one["transaction_id"] for one in told] == [row["transaction_id"] for row in [*rows, rows[-1]]]
    assert {one["fallback"] for one in told} == {""}
    expected = served_by_id(served, len(rows))
    assert {one["transaction_id"]: (one["outcome"], one["risk_points"]) for one in told} == {
        row["transaction_id"]: expected[row["transaction_id"]] for row in rows
    }


def test_the_java_client_falls_back_in_time(
    java_classes: Path, idle: Deployment, tiny_world: TinyWorld
) -> None:
    rows = tiny_world.rows[:6]
    told = pay_in_java(java_classes, idle, rows, HURRIED_S)
    assert [(one["outcome"], one["fallback"]) for one in told] == [
        (fallback_of(row), "no decision in time") for row in rows
    ]


def test_the_java_client_is_compiled_with_the_versions_of_its_pom() -> None:
    pom = ElementTree.parse(CLIENTS / "java" / "pom.xml")
    spaces = {"m": "http://maven.apache.org/POM/4.0.0"}
    named = [
        "-".join(dependency.findtext(f"m:{part}", "", spaces) for part in ("artifactId", "version"))
        for dependency in pom.iterfind(".//m:dependency", spaces)
    ]
    assert named
    assert [name for name in named if not (kafka_jars() / f"{name}.jar").exists()] == []
