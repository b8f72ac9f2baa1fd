"""The example clients of payment systems, against a real broker and a real worker."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.cli.running import REPOSITORY
from tests.kafka.broker import Broker
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
def java_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The class path of the Java client, built as the docs say; without a network where Maven has all it needs."""
    maven = shutil.which("mvn")
    if maven is None:
        pytest.skip("Maven (mvn) is missing")
    folder = tmp_path_factory.mktemp("java") / "client"
    shutil.copytree(CLIENTS / "java", folder, ignore=shutil.ignore_patterns("target"))
    build = [maven, "-q", "-B", "-f", str(folder), "compile", "dependency:copy-dependencies"]
    if subprocess.run([*build, "-o"], capture_output=True, check=False).returncode != 0:
        subprocess.run(build, check=True, timeout=300)
    return f"{folder}/target/classes:{folder}/target/dependency/*"


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
    java_path: str, deployment: Deployment, rows: list[dict[str, Any]], timeout_s: float
) -> list[Any]:
    java = shutil.which("java")
    assert java is not None
    topics = deployment.topic("transactions"), deployment.topic("decisions")
    command = [
        java,
        "-XX:TieredStopAtLevel=1",
        "-cp",
        java_path,
        "example.Pay",
        deployment.bootstrap,
        *topics,
    ]
    return paid([*command, str(int(timeout_s * 1000)), str(LIMIT)], rows)


def paid(command: list[str], rows: list[dict[str, Any]]) -> list[Any]:
    """Give transactions to a command, and return what it says to do with them."""
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    ended = subprocess.run(
        command, input=lines, capture_output=True, text=True, timeout=120, check=False, cwd=REPOSITORY
    )
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_the_java_client_awaits_each_decision_by_its_id(
    java_path: str, served: Deployment, tiny_world: TinyWorld
) -> None:
    rows = tiny_world.rows[300:340]
    told = pay_in_java(java_path, served, [*rows, rows[-1]], PATIENT_S)
    assert [one["transaction_id"] for one in told] == [row["transaction_id"] for row in [*rows, rows[-1]]]
    assert {one["fallback"] for one in told} == {""}
    expected = served_by_id(served, len(rows))
    assert {one["transaction_id"]: (one["outcome"], one["risk_points"]) for one in told} == {
        row["transaction_id"]: expected[row["transaction_id"]] for row in rows
    }


def test_the_java_client_falls_back_in_time(java_path: str, idle: Deployment, tiny_world: TinyWorld) -> None:
    rows = tiny_world.rows[:6]
    told = pay_in_java(java_path, idle, rows, HURRIED_S)
    assert [(one["outcome"], one["fallback"]) for one in told] == [
        (fallback_of(row), "no decision in time") for row in rows
    ]


def test_the_commands_of_the_page_decide_from_stdin(
    served: Deployment, tiny_world: TinyWorld, java_path: str
) -> None:
    page = (REPOSITORY / "docs" / "payments.md").read_text("utf-8")
    lines = [line for line in page.splitlines() if line.endswith("< transactions.ndjson")]
    assert [line.split()[0] for line in lines] == ["python", "java"]
    rows = tiny_world.rows[400:403]
    topics = {name: served.topic(name) for name in ("transactions", "decisions")}
    built = "'examples/clients/java/target/classes:examples/clients/java/target/dependency/*'"
    own = {"python": sys.executable, built: java_path, "500": "30000", "0.5": "30"} | {
        f"fraud.{name}": topic for name, topic in topics.items()
    }
    for line in lines:
        command = line.removesuffix("< transactions.ndjson").replace("127.0.0.1:9092", served.bootstrap)
        words = [own.get(word, word) for word in command.split()]
        if words[0] == sys.executable:
            words += [word for name, topic in topics.items() for word in (f"--{name}", topic)]
        told = paid(words, rows)
        assert [one["transaction_id"] for one in told] == [row["transaction_id"] for row in rows]
        assert {one["fallback"] for one in told} == {""}
