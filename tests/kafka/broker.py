"""A real Apache Kafka for tests, benchmarks and people: one KRaft node on loopback, gone when its owner is.

Delivery guarantees can only be tested against the real thing (librdkafka's mock cluster ignores transactional
offsets). So `KafkaBroker` runs Apache Kafka itself: Maven copies its jars once (`pom.xml`, 54 MB),
`StorageTool` formats a temporary folder, `kafka.Kafka` serves it. From `start` to the first answer it takes
2 to 3 seconds, and 250 MB of memory.

    with KafkaBroker() as broker:
        Producer({"bootstrap.servers": broker.bootstrap, "partitioner": "murmur2_random"})

    python -m tests.kafka.broker --port 9092    # prints one line of JSON, runs until SIGINT or SIGTERM

This module is the only place that knows the names of the variables:

* `FRAUDSTREAM_TEST_BROKERS`: bootstrap servers of a Kafka that is already there; nothing is started then.
* `FRAUDSTREAM_KAFKA_JARS`: the folder of Kafka's jars (default `.cache/kafka/<version>/` in the repository);
  filled if it has none, so the `libs/` of a Kafka distribution serves as well.
* `CI`: if `true`, a missing broker fails the tests instead of skipping them.

It needs a POSIX system and Java 17 or later, and Maven until the jars are there.
"""

import argparse
import atexit
import base64
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.java import CACHE, Unavailable, free_ports, jars, java, launched

BROKERS_VARIABLE = "FRAUDSTREAM_TEST_BROKERS"
JARS_VARIABLE = "FRAUDSTREAM_KAFKA_JARS"

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
EXTERNAL_TIMEOUT_S = 10.0

_HERE = Path(__file__).resolve().parent
_POM = _HERE / "pom.xml"

# The serial collector starts faster and takes less memory than G1; the C2 compiler stays, for benchmarks.
_BROKER_FLAGS = ("-Xms256m", "-Xmx1g", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-Dlog4j2.level=WARN")
# A tool must start fast; and Log4j would write to standard output, amid what the tool itself prints there.
_TOOL_FLAGS = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=OFF")


class BrokerError(RuntimeError):
    """A Kafka that should answer does not: read the end of its log in the message."""


class Broker:
    """A Kafka that answers at `bootstrap` and was started by somebody else. `KafkaBroker` starts its own."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends what this object started: here nothing."""

    def run_class(
        self, main_class: str, *args: str, input: str | None = None, timeout_s: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Runs a main class of Kafka's own, such as `org.apache.kafka.tools.consumer.ConsoleConsumer`.

        The address is up to the caller: pass `"--bootstrap-server", broker.bootstrap`. Kafka's logging is
        off, so that standard output holds what the tool prints and nothing else.

        Args:
            main_class: its full name.
            args: its arguments.
            input: text for its standard input.
            timeout_s: seconds after which it is killed.

        Returns:
            The ended process, with its exit code (not checked) and its output as text.

        Raises:
            Unavailable: no Java, or no jars and no way to fetch them.
            subprocess.TimeoutExpired: it ran longer than `timeout_s`.
        """
        command = java_command(_TOOL_FLAGS, main_class, *args)
        return subprocess.run(command, input=input, timeout=timeout_s, capture_output=True, text=True)


class KafkaBroker(Broker):
    """An Apache Kafka of its own: one KRaft node on two loopback ports, its data in a temporary folder.

    `start` after `kill` finds the data again, `start` after `stop` begins anew; the address stays the same.
    When Python ends, the broker is stopped. On Linux it is also killed when the *thread* that called `start`
    ends, for whatever reason: start it from the main thread. (Only a SIGKILL of Python leaves the folder.)
    """

    ports_more = 0  # of further listeners

    def __init__(self, port: int | None = None) -> None:
        """Chooses the ports; nothing runs before `start`.

        Args:
            port: where clients connect; a free one if None.
        """
        self._port, self._controller_port, *self._more_ports = free_ports(port, 2 + self.ports_more)
        super().__init__(f"127.0.0.1:{self._port}")
        self._cluster_id = ""
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    @property
    def pid(self) -> int:
        """The process id of the running broker."""
        assert self._process is not None, "the broker does not run"
        return self._process.pid

    def start(self) -> None:
        """Starts the broker, if it does not run, and returns when it answers clients.

        Raises:
            Unavailable: no Java, or no jars and no way to fetch them.
            BrokerError: it did not start, or not in time; nothing is left of it.
        """
        if self._process is not None:
            return
        try:
            if self._folder is None:
                self._format()
            self._launch()
            self._wait_until_ready()
        except BaseException:  # an interrupt too must leave neither process nor folder behind
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the broker, if it runs, and removes its data."""
        self.kill()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        atexit.unregister(self.stop)

    def kill(self) -> None:
        """Ends the broker, if it runs, with SIGKILL; its data stays for the next `start`."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Shuts the broker down in good order, if it runs, and starts it again: same address, same data."""
        self._end(signal.SIGTERM)
        self.start()

    def wait(self) -> None:
        """Blocks until the broker ends without having been asked to."""
        assert self._process is not None, "the broker does not run"
        self._process.wait()

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of the broker's log (warnings and errors), without the frames of stack traces."""
        assert self._folder is not None, "the broker was not started"
        log = self._folder / "broker.log"
        text = log.read_text(errors="replace") if log.exists() else ""
        kept = [line for line in text.splitlines() if not re.match(r"\s+(at |\.\.\. )", line)]
        return "\n".join(kept[-lines:])

    def _format(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="fraudstream-kafka-"))
        atexit.register(self.stop)
        settings = self._folder / "server.properties"
        template = (_HERE / "server.properties").read_text()
        data = self._folder / "data"
        filled = template.format(port=self._port, controller_port=self._controller_port, data=data)
        settings.write_text(filled + self._properties(self._folder))
        # 16 bytes; the first two keep the text from starting with a dash, which would read as an option.
        self._cluster_id = base64.urlsafe_b64encode(b"fs" + secrets.token_bytes(14)).decode().rstrip("=")
        arguments = ("format", "--standalone", "-t", self._cluster_id, "-c", str(settings))
        formatted = self.run_class("kafka.tools.StorageTool", *arguments)
        if formatted.returncode != 0:
            raise BrokerError(f"Kafka could not format its storage: {formatted.stdout}{formatted.stderr}")

    def _properties(self, folder: Path) -> str:
        """Further settings; of two with one name the later counts. `folder` is there as long as the data."""
        return ""

    def _launch(self) -> None:
        assert self._folder is not None
        # Compression libraries unpack themselves into the temporary folder, and stay there after a SIGKILL.
        flags = (*_BROKER_FLAGS, f"-Djava.io.tmpdir={self._folder}")
        command = java_command(flags, "kafka.Kafka", str(self._folder / "server.properties"))
        self._process = launched(command, self._folder / "broker.log")

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        admin = _admin(self.bootstrap)
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s and self._process.poll() is None:
            try:
                metadata = admin.list_topics(timeout=0.5)
            except KafkaException:
                continue  # nobody listens yet; it took its 0.5 s
            # Another Kafka may hold the port; ours is then about to give up.
            if metadata.brokers and metadata.cluster_id == self._cluster_id:
                return
        code = self._process.poll()
        what = f"did not answer in {START_TIMEOUT_S:g} s" if code is None else f"ended with exit code {code}"
        raise BrokerError(f"Kafka at {self.bootstrap} {what}; the end of its log:\n{self.log_tail()}")

    def _end(self, number: signal.Signals) -> None:
        """Sends a signal and waits for the end; sends SIGKILL if it does not come in time."""
        if self._process is None:
            return
        try:
            self._process.send_signal(number)
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def broker_from_environment() -> Broker:
    """The broker to test against: that of `FRAUDSTREAM_TEST_BROKERS`, else a started `KafkaBroker`.

    Use it as a context manager, or stop it yourself.

    Raises:
        Unavailable: none is named, and none can run here; the message is one line that says what lacks.
        BrokerError: the one that is named does not answer, or ours does not start.
    """
    bootstrap = external_bootstrap()
    if bootstrap is None:
        broker = KafkaBroker()
        broker.start()
        return broker
    try:
        _admin(bootstrap).list_topics(timeout=EXTERNAL_TIMEOUT_S)
    except KafkaException as error:
        raise BrokerError(f"{BROKERS_VARIABLE}={bootstrap}: no Kafka answers there ({error})") from error
    return Broker(bootstrap)


def external_bootstrap() -> str | None:
    """The bootstrap servers of the Kafka that the user names to test against, if there is one."""
    return os.environ.get(BROKERS_VARIABLE) or None


def java_command(flags: Sequence[str], main_class: str, *args: str) -> list[str]:
    """The command line that runs a class of Kafka's jars; Unavailable without Java or jars."""
    path = java(f", or name a running Kafka in {BROKERS_VARIABLE}, to test with Kafka")
    return [path, *flags, "-cp", str(kafka_jars() / "*"), main_class, *args]


def kafka_jars() -> Path:
    """The folder of Kafka's jars; Maven fills it at the first call on a machine (some seconds, 54 MB).

    Several processes may call it at once, and any may be interrupted: the folder appears when it is complete.

    Raises:
        Unavailable: there are no jars, and no Maven, or it does not get them.
    """
    chosen = os.environ.get(JARS_VARIABLE)
    folder = Path(chosen).expanduser() if chosen else CACHE / "kafka" / _kafka_version()
    otherwise = (
        f", or name a folder of Kafka's jars in {JARS_VARIABLE}, or a running Kafka in {BROKERS_VARIABLE}, to "
        "test with Kafka"
    )
    return jars(folder, _POM, "kafka_2.13-*.jar", otherwise)


def _kafka_version() -> str:
    found = re.search(r"<kafka\.version>(.+?)</kafka\.version>", _POM.read_text())
    assert found is not None, "pom.xml has no kafka.version"
    return found[1]


def _admin(bootstrap: str) -> AdminClient:
    """A client that tries again soon, and keeps quiet about the refusals of a broker that is not up yet."""
    return AdminClient(
        {
            "bootstrap.servers": bootstrap,
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 100,
            "log_level": 0,
            "error_cb": lambda error: None,
        }
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a Kafka until SIGINT or SIGTERM; its address is one line of JSON on standard output."""
    parser = argparse.ArgumentParser(prog="python -m tests.kafka.broker", description=main.__doc__)
    parser.add_argument("--port", type=int, help="where clients connect (default: a free port)")
    options = parser.parse_args(arguments)

    def leave(number: int, frame: FrameType | None) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the clean-up
        raise SystemExit(0)

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, leave)
    try:
        with KafkaBroker(options.port) as broker:
            print(json.dumps({"bootstrap": broker.bootstrap, "pid": broker.pid}), flush=True)
            broker.wait()
            raise BrokerError(f"Kafka ended by itself; the end of its log:\n{broker.log_tail()}")
    except (Unavailable, BrokerError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
