"""One deployment on a real broker: topics of its own, settings, and workers as processes of their own."""

from __future__ import annotations

import json
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from fraudstream.bus.topics import create_topics
from fraudstream.sections import Settings
from fraudstream.settings import load_settings
from tests.cli.running import REPOSITORY, environment
from tests.kafka.broker import Broker, KafkaBroker
from tests.kafka.conftest import Outgoing, consume_all_from, produce_to
from tests.worlds import TinyWorld

READY_WITHIN_S = 90.0  # the first start on a machine compiles the kernels
STOPS_WITHIN_S = 10.0  # what an operator is promised
TOPICS = ("transactions", "labels", "decisions", "alerts", "dlq", "features")

TOML = """
[topics]
{topics}
partitions = {partitions}

[worker]
group = "{prefix}"
web_port = {web_port}
dead_letter_rate_max = 1.0
{worker}

[kafka]
"bootstrap.servers" = "{bootstrap}"
"reconnect.backoff.max.ms" = 500

[kafka_consumer]
"session.timeout.ms" = 2000
"heartbeat.interval.ms" = 300
"""


class Deployment:
    """Topics, settings and workers; ends the workers when it is left.

    Args:
        bootstrap: the broker.
        folder: for the settings' file and the logs.
        worker: further lines of `[worker]`.
    """

    def __init__(
        self, world: TinyWorld, bootstrap: str, folder: Path, partitions: int = 1, worker: str = ""
    ) -> None:
        self.bootstrap = bootstrap
        self.folder = folder
        self.prefix = f"{folder.name}-{secrets.token_hex(4)}"
        self.web_port = free_port()
        self.config = folder / "fraudstream.toml"
        topics = "\n".join(f'{name} = "{self.prefix}.{name}"' for name in TOPICS)
        sections = TOML.format(
            topics=topics, partitions=partitions, prefix=self.prefix, web_port=self.web_port,
            worker=worker, bootstrap=bootstrap,
        )  # fmt: skip
        self.config.write_text(world.toml_with(sections), "utf-8")
        self.settings: Settings = load_settings(self.config, environment={})
        self.workers: list[WorkerProcess] = []
        self._outsider = self._no_member()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.kill()
        if error is not None:
            for worker in self.workers:
                print(f"--- {worker.log_path.name}\n{worker.log_text()[-4000:]}")

    def reload(self) -> None:
        """Read the settings' file again."""
        self.settings = load_settings(self.config, environment={})

    def topic(self, name: str) -> str:
        """Return the full name of a topic of TOPICS."""
        full: str = getattr(self.settings.topics, name)
        return full

    def make_topics(self) -> None:
        """Create the topics as `fraudstream topics create` does."""
        assert set(create_topics(self.settings).values()) == {"created"}

    def remove_topics(self) -> None:
        """Delete the topics from a broker that stays."""
        admin = quiet_admin(self.bootstrap)
        for deletion in admin.delete_topics([self.topic(name) for name in TOPICS]).values():
            deletion.result(30)

    def start(self, command: Sequence[str] = (), **variables: str) -> WorkerProcess:
        """Start a worker; it may not be ready yet."""
        worker = WorkerProcess(self, command, variables)
        self.workers.append(worker)
        return worker

    def send(self, messages: Iterable[Outgoing]) -> list[Message]:
        """Send messages to the transactions' topic."""
        return produce_to(self.bootstrap, self.topic("transactions"), messages)

    def send_rows(self, rows: Iterable[Mapping[str, Any]]) -> list[Message]:
        """Send transactions, keyed by card."""
        return self.send((row["card_id"].encode(), json.dumps(row).encode(), None) for row in rows)

    def send_labels(self, labels: Iterable[Mapping[str, Any]], key: bytes = b"card") -> list[Message]:
        """Send labels to their topic."""
        messages = ((key, json.dumps(label).encode(), None) for label in labels)
        return produce_to(self.bootstrap, self.topic("labels"), messages)

    def read(self, name: str, count: int | None = None, timeout_s: float = 60.0) -> list[Message]:
        """Read a topic to its end, see `consume_all_from`."""
        return consume_all_from(self.bootstrap, self.topic(name), timeout_s, count)

    def committed(self) -> dict[int, int]:
        """Return the group's committed offset of each partition that has one; none while its broker starts.

        Asked with a consumer that is no member: an admin client that asks again and again while the group comes and
        goes ends the process in librdkafka (2.16).
        """
        asked = [
            TopicPartition(self.topic("transactions"), partition)
            for partition in range(self.settings.topics.partitions)
        ]
        try:
            found = self._outsider.committed(asked, timeout=10)
        except KafkaException as error:
            if error.args[0].code() not in _STARTING:
                raise
            self._outsider = (
                self._no_member()
            )  # this one may have forgotten its brokers, see `fraudstream.bus.lost`
            return {}
        return {one.partition: one.offset for one in found if one.offset >= 0}

    def _no_member(self) -> Consumer:
        group = self.settings.worker.group
        return Consumer({"bootstrap.servers": self.bootstrap, "group.id": group, "log_level": 0})


_STARTING = (
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError._WAIT_COORD,
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
)


@contextmanager
def deployed(
    broker: Broker, world: TinyWorld, folder: Path, partitions: int = 1, worker: str = ""
) -> Iterator[Deployment]:
    """Yield a deployment that has its topics; they are removed from a broker that stays."""
    with Deployment(world, broker.bootstrap, folder, partitions, worker) as deployment:
        deployment.make_topics()
        try:
            yield deployment
        finally:
            for running in deployment.workers:
                running.kill()
            if not isinstance(broker, KafkaBroker):
                deployment.remove_topics()


class WorkerProcess:
    """A worker that runs."""

    def __init__(self, deployment: Deployment, command: Sequence[str], variables: Mapping[str, str]) -> None:
        number = len(deployment.workers) + 1
        self.log_path = deployment.folder / f"worker-{number}.log"
        self._url = f"http://127.0.0.1:{deployment.web_port}"
        chosen = command or ("-m", "fraudstream", "worker", "-c", str(deployment.config))
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *chosen],
                cwd=REPOSITORY,
                env=environment(FRAUDSTREAM_LOG="json", PYTHONFAULTHANDLER="1", **variables),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_ready(self) -> Self:
        """Return when /readyz says so."""
        eventually(lambda: self.get("/readyz")[0] == 200, READY_WITHIN_S, "the worker is ready", self)
        return self

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body of a page; status 0 when nobody answers."""
        try:
            with urllib.request.urlopen(self._url + path, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metrics(self) -> dict[str, float]:
        """Return the samples of /metrics by name and labels, as they are printed."""
        lines = self.get("/metrics")[1].splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def stop(self) -> int:
        """Ask the worker to end, and return its exit code; fails when it takes too long, and shows where it is."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOPS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # its stacks go to the log
            self.process.wait()
            raise AssertionError(
                f"it had not ended {STOPS_WITHIN_S:.0f} s after SIGTERM:\n{self.log_text()[-6000:]}"
            ) from None

    def kill(self) -> None:
        """End the worker as a crash would."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def log_text(self) -> str:
        return self.log_path.read_text("utf-8", "replace")

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log's events of this name; each line is one event."""
        found = []
        *lines, _ = self.log_text().split("\n")  # the last one may be half written
        for line in lines:
            entry = msgspec.json.decode(line, type=dict[str, Any])
            if entry["event"] == name:
                found.append(entry)
        return found


def eventually(
    check: Callable[[], bool], timeout_s: float, what: str, worker: WorkerProcess | None = None
) -> None:
    """Wait until something holds; fail when it does not in time, or when the worker has ended before."""
    pause, deadline_s = threading.Event(), time.monotonic() + timeout_s
    while not check():
        if worker is not None and worker.process.poll() is not None:
            raise AssertionError(f"{what}: the worker ended with {worker.process.returncode}")
        assert time.monotonic() < deadline_s, f"{what}: not within {timeout_s:g} s"
        pause.wait(0.05)


def quiet_admin(bootstrap: str) -> AdminClient:
    """Return an admin client that does not tell on stderr when its broker goes away before it does."""
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})


def free_port() -> int:
    """Return a port where nobody listens, outside the range from which outgoing connections take theirs."""
    chance = secrets.SystemRandom()  # not the seeded one: two test runs would choose alike
    for port in chance.sample(range(12_000, 20_000), k=100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


def headers_of(message: Message) -> dict[str, str]:
    """Return a message's headers as text; fails on a name that comes twice."""
    pairs = message.headers() or []
    headers = {name: value.decode() for name, value in pairs}
    assert len(headers) == len(pairs)
    return headers
