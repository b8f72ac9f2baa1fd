"""The broker of the tests does what Kafka promises, and ends when it should."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Message, Producer

from tests.kafka.broker import Broker, BrokerError, KafkaBroker
from tests.kafka.conftest import (
    ConsumeAll,
    MakeTopic,
    Outgoing,
    Produce,
    consume_all_from,
    create_topic,
    produce_to,
)

pytestmark = pytest.mark.broker

REPOSITORY = Path(__file__).resolve().parents[2]
CONSOLE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
CONSOLE_PRODUCER = "org.apache.kafka.tools.ConsoleProducer"


def test_what_is_produced_is_consumed_with_its_key_value_and_headers(
    make_topic: MakeTopic, produce: Produce, consume_all: ConsumeAll
) -> None:
    topic = make_topic("round-trip", partitions=3)
    sent: list[Outgoing] = [(b"card-%d" % i, b'{"n":%d}' % i, [("n", b"%d" % i)]) for i in range(50)]
    sent += [(b"card-0", None, None), (None, b"no key", None)]

    delivered = produce(topic, sent)
    received = consume_all(topic, count=len(sent))

    assert len(received) == len(sent)
    assert {_contents(message) for message in received} == {
        (key, value, tuple(headers or ())) for key, value, headers in sent
    }
    assert {_position(message) for message in received} == {_position(message) for message in delivered}


def test_a_topic_without_messages_is_read_to_its_end(make_topic: MakeTopic, consume_all: ConsumeAll) -> None:
    assert consume_all(make_topic("empty", partitions=4)) == []


def test_reading_fails_when_fewer_messages_come_than_are_counted_on(
    make_topic: MakeTopic, produce: Produce, consume_all: ConsumeAll
) -> None:
    topic = make_topic("too-few")
    produce(topic, [(b"card-1", b"one", None)])
    with pytest.raises(TimeoutError, match="1 messages, wanted 2"):
        consume_all(topic, timeout_s=0.5, count=2)


@pytest.mark.usefixtures("startable_kafka")
def test_a_key_goes_to_the_partition_that_a_java_client_chooses(
    broker: Broker, make_topic: MakeTopic, produce: Produce, consume_all: ConsumeAll
) -> None:
    keys = [f"card-{i}" for i in range(40)]
    ours, java = make_topic("ours", partitions=5), make_topic("java", partitions=5)
    produce(ours, [(key.encode(), b"", None) for key in keys])
    ended = broker.run_class(
        CONSOLE_PRODUCER,
        *("--bootstrap-server", broker.bootstrap, "--topic", java),
        *("--property", "parse.key=true", "--property", "key.separator=:"),
        input="".join(f"{key}:\n" for key in keys),
    )
    assert ended.returncode == 0, ended.stderr

    assert _partition_by_key(consume_all(ours, count=40)) == _partition_by_key(consume_all(java, count=40))


@pytest.mark.usefixtures("startable_kafka")
def test_kafkas_own_console_consumer_reads_what_we_produce(
    broker: Broker, make_topic: MakeTopic, produce: Produce
) -> None:
    topic = make_topic("console")
    produce(
        topic,
        [
            (b"card-1", b'{"amount":1}', [("ce_id", b"0-0"), ("content-type", b"application/json")]),
            (b"card-2", b'{"amount":2}', None),
        ],
    )
    ended = broker.run_class(
        CONSOLE_CONSUMER,
        *("--bootstrap-server", broker.bootstrap, "--topic", topic, "--from-beginning"),
        *("--max-messages", "2", "--timeout-ms", "20000"),
        *("--property", "print.headers=true", "--property", "print.key=true"),
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [
        'ce_id:0-0,content-type:application/json\tcard-1\t{"amount":1}',
        'NO_HEADERS\tcard-2\t{"amount":2}',
    ]


def test_a_reader_of_committed_messages_sees_no_aborted_transaction(
    broker: Broker, topic_prefix: str, make_topic: MakeTopic, consume_all: ConsumeAll
) -> None:
    topic = make_topic("transactions")
    producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": topic_prefix})
    producer.init_transactions(30)

    producer.begin_transaction()
    producer.produce(topic, b"committed")
    producer.commit_transaction(30)
    producer.begin_transaction()
    producer.produce(topic, b"aborted")
    assert producer.flush(30) == 0  # the broker has it; an abort would drop it from the local queue
    assert [message.value() for message in consume_all(topic)] == [b"committed"]  # while it is open
    producer.abort_transaction(30)
    producer.begin_transaction()
    producer.produce(topic, b"committed later")
    producer.commit_transaction(30)

    received = consume_all(topic)
    assert [message.value() for message in received] == [b"committed", b"committed later"]
    # Offsets 1, 3 and 5 are the ends of the transactions; 2 was written, and is hidden.
    assert [message.offset() for message in received] == [0, 4]


def test_messages_stay_when_the_broker_is_restarted_or_killed(own_broker: KafkaBroker) -> None:
    address, topic = own_broker.bootstrap, "kept"
    create_topic(address, topic, partitions=2)
    produce_to(address, topic, [(b"card-%d" % i, b"before", None) for i in range(10)])
    first = own_broker.pid

    own_broker.restart()
    produce_to(address, topic, [(b"card-%d" % i, b"between", None) for i in range(10)])
    second = own_broker.pid
    own_broker.kill()
    own_broker.start()

    assert own_broker.bootstrap == address
    assert len({first, second, own_broker.pid}) == 3
    values = [message.value() for message in consume_all_from(address, topic, count=20)]
    assert sorted(values) == [b"before"] * 10 + [b"between"] * 10


@pytest.mark.usefixtures("startable_kafka")
def test_a_broker_whose_port_is_taken_says_so_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        broker = KafkaBroker(port=taken.getsockname()[1])
        with pytest.raises(BrokerError, match="Address already in use"):
            broker.start()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("startable_kafka")
def test_a_broker_run_as_a_command_ends_and_tidies_up_when_told_to(tmp_path: Path) -> None:
    with _command(tmp_path) as command:
        bootstrap, pid = _announced(command)
        assert list(tmp_path.iterdir()) != []
        command.terminate()
        assert command.wait(30) == 0
    assert _has_ended(pid)
    assert not _accepts_connections(bootstrap)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
@pytest.mark.usefixtures("startable_kafka")
def test_a_sigkill_of_the_process_that_started_a_broker_takes_the_broker_with_it(tmp_path: Path) -> None:
    with _command(tmp_path) as command:
        bootstrap, pid = _announced(command)
        assert _accepts_connections(bootstrap)
        watch = os.pidfd_open(pid)
        try:
            command.kill()
            ended, _, _ = select.select([watch], [], [], 20)  # readable when the process has ended
            if not ended:
                signal.pidfd_send_signal(watch, signal.SIGKILL)
        finally:
            os.close(watch)
    assert ended == [watch]
    assert not _accepts_connections(bootstrap)


def _contents(message: Message) -> tuple[bytes | None, bytes | None, tuple[tuple[str, bytes], ...]]:
    return message.key(), message.value(), tuple(message.headers() or ())


def _position(message: Message) -> tuple[int, int]:
    return message.partition(), message.offset()


def _partition_by_key(messages: list[Message]) -> dict[bytes, int]:
    return {message.key(): message.partition() for message in messages}


@contextmanager
def _command(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Runs `python -m tests.kafka.broker`, with its temporary files in `folder`; kills it in the end."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.kafka.broker"],
        cwd=REPOSITORY,
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
    ) as command:
        try:
            yield command
        finally:
            command.kill()


def _announced(command: subprocess.Popen[str]) -> tuple[str, int]:
    """The address and the process id that the command prints when its broker is ready."""
    assert command.stdout is not None
    announced = json.loads(command.stdout.readline())
    return announced["bootstrap"], announced["pid"]


def _has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def _accepts_connections(bootstrap: str) -> bool:
    host, port = bootstrap.split(":")
    try:
        with socket.create_connection((host, int(port)), timeout=5):
            return True
    except ConnectionRefusedError:
        return False
