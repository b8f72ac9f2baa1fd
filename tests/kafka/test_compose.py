"""The services of the compose file, run one by one as it says on a real Kafka: the same commands, in its order."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.running import REPOSITORY, environment
from tests.deploy.test_compose import OURS
from tests.kafka.broker import KafkaBroker
from tests.kafka.conftest import consume_all_from
from tests.kafka.deployment import eventually, free_port
from tests.worlds import TinyWorld

pytestmark = pytest.mark.broker

WITHIN_S = 120.0  # a loaded machine; all of it takes 25 s
DECISIONS = 500


class Machine:
    """Runs services as processes, with folders for volumes."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self._bootstrap, self._folder = bootstrap, folder
        self.ports = {"worker": free_port(), "retrain": free_port()}

    def variables(self, name: str) -> dict[str, str]:
        """Return a service's variables, with this machine's broker, folders and ports."""
        given = {key: str(value) for key, value in OURS[name]["environment"].items() if "$" not in str(value)}
        for key, value in given.items():
            moved = value.replace("/var/lib/fraudstream", str(self._folder))
            given[key] = moved.replace("kafka:19092", self._bootstrap).replace("0.0.0.0", "127.0.0.1")
        return given | {"FRAUDSTREAM_STATE__COMPLETE_FROM": "start"}

    @contextmanager
    def running(self, name: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a service; stop it as an engine does, and fail unless it ends well in its grace period."""
        port = ["--web-port", str(self.ports[name])] if name in self.ports else []
        with (self._folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "fraudstream", *OURS[name]["command"], *port],
                cwd=REPOSITORY, env=environment(**self.variables(name)), stdout=log, stderr=log,
            )  # fmt: skip
        try:
            yield process
            process.terminate()
            assert process.wait(float(OURS[name]["stop_grace_period"].removesuffix("s"))) == 0, name
        finally:
            process.kill()
            process.wait()

    def well(self, name: str) -> bool:
        """Tell whether a service's health check would be content."""
        page = (
            OURS[name]["healthcheck"]["test"][-1]
            .partition("127.0.0.1:")[2]
            .partition("'")[0]
            .partition("/")[2]
        )
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[name]}/{page}", timeout=3):
                return True
        except OSError:
            return False


def test_the_services_do_what_they_are_for(
    startable_kafka: None, own_broker: KafkaBroker, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    """Its topics have the names of the defaults, hence a broker of its own."""
    machine = Machine(own_broker.bootstrap, tmp_path)
    for folder in ("models", "snapshots", "archive"):
        (tmp_path / folder).mkdir()

    with machine.running("topics") as topics:
        assert topics.wait(WITHIN_S) == 0
    shell = OURS["models"]
    for _ in range(2):  # the second time it leaves what is there
        command = (
            shell["command"][0].replace("$$", "$").replace("/trained", str(tiny_world.folder / "models"))
        )
        subprocess.run(
            [*shell["entrypoint"], command], env=os.environ | machine.variables("models"), check=True
        )
    assert (tmp_path / "models" / "card_payment" / "aliases.json").exists()

    def decided() -> bool:
        return len(consume_all_from(own_broker.bootstrap, "fraud.decisions")) >= DECISIONS

    with machine.running("worker") as worker, machine.running("archive"), machine.running("retrain"):
        for name in ("worker", "retrain"):
            eventually(lambda name=name: machine.well(name), WITHIN_S, f"{name} is well")  # type: ignore[misc]
        simulator = subprocess.Popen(
            [sys.executable, "-m", "fraudstream", *OURS["simulator"]["command"]],
            cwd=REPOSITORY, env=environment(**machine.variables("simulator")),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            eventually(decided, WITHIN_S, f"{DECISIONS} decisions")
        finally:
            simulator.kill()
            simulator.wait()
        assert worker.poll() is None
    assert list((tmp_path / "archive" / "transactions").glob("date=*/*.parquet"))
    assert list((tmp_path / "archive" / "decisions").glob("date=*/*.parquet"))
    assert list((tmp_path / "snapshots").rglob("*.state"))
    shutil.rmtree(tmp_path / "archive")
