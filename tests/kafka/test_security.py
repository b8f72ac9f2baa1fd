"""A broker that knows who asks: the published rights suffice, each is needed, and each refusal is one line."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from fraudstream.bus.delivery import new_sink
from fraudstream.bus.kafka import KafkaSource
from fraudstream.bus.kafka_log import KafkaLog
from fraudstream.bus.rights import PARTS, Right, rights_of
from fraudstream.bus.topics import meet_broker, wait_for_broker
from fraudstream.errors import BusError
from fraudstream.sections import Settings
from fraudstream.settings import load_settings
from tests.certificates import Authority
from tests.cli.running import fraudstream, started
from tests.kafka.deployment import TOPICS, Deployment, deployed
from tests.kafka.secured import PASSWORD, USER, SecuredBroker
from tests.test_docs import ROOT, blocks
from tests.worlds import TinyWorld

pytestmark = [pytest.mark.broker, pytest.mark.usefixtures("startable_kafka")]

SASL_TOML, MTLS_TOML = blocks(ROOT / "docs" / "security.md", "toml")[:2]
ROWS = 200


@pytest.fixture(scope="module")
def secured(startable_kafka: None) -> Iterator[SecuredBroker]:
    with SecuredBroker() as broker:
        yield broker


@pytest.fixture
def deployment(secured: SecuredBroker, tiny_world: TinyWorld, tmp_path: Path) -> Iterator[Deployment]:
    with deployed(secured, tiny_world, tmp_path, worker="feature_log = true") as made:
        yield made


def variables(toml: str, changed: Mapping[str, str]) -> dict[str, str]:
    """Return the `[kafka]` of an example in the docs as variables, with other values for some keys."""
    given = tomllib.loads(toml)["kafka"] | changed
    return {f"FRAUDSTREAM_KAFKA__{key.replace('.', '_').upper()}": str(value) for key, value in given.items()}


@pytest.fixture
def sasl(secured: SecuredBroker, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "password").write_text(PASSWORD + "\n", "utf-8")
    changed = {"bootstrap.servers": secured.sasl_ssl, "ssl.ca.location": str(secured.ca)}
    return variables(SASL_TOML, changed) | {
        "FRAUDSTREAM_KAFKA__SASL_PASSWORD_FILE": str(tmp_path / "password")
    }


@pytest.fixture
def mtls(secured: SecuredBroker) -> dict[str, str]:
    client = str(secured.client)
    return variables(
        MTLS_TOML,
        {"bootstrap.servers": secured.ssl, "ssl.ca.location": str(secured.ca)}
        | {"ssl.certificate.location": client, "ssl.key.location": client},
    )


def granted(right: Right) -> AclBinding:
    return AclBinding(
        ResourceType[right.kind.upper().replace("-", "_")],
        right.name,
        ResourcePatternType.PREFIXED if right.prefixed else ResourcePatternType.LITERAL,
        f"User:{USER}",
        "*",
        AclOperation[right.operation.upper()],
        AclPermissionType.ALLOW,
    )


def published(deployment: Deployment, **more: str) -> dict[str, list[AclBinding]]:
    """Return what `fraudstream acls` says that each part needs."""
    said = fraudstream("acls", "-c", deployment.config, "--json", **more).last_object()
    return {part: [granted(Right(**right)) for right in rights] for part, rights in said.items()}


def test_everything_runs_over_sasl_with_exactly_the_rights_that_are_published(
    secured: SecuredBroker, tiny_world: TinyWorld, tmp_path: Path, sasl: dict[str, str]
) -> None:
    with Deployment(tiny_world, secured.bootstrap, tmp_path, worker="feature_log = true") as deployment:
        config = ("-c", deployment.config, "--json")
        rights = published(deployment)
        assert list(rights) == list(PARTS)
        secured.allow(rights["topics create"])
        made = fraudstream("topics", "create", *config, **sasl)
        assert made.last_object() == {deployment.topic(name): "created" for name in TOPICS}

        secured.allow(rights["worker"])
        worker = deployment.start(**sasl).wait_ready()
        rows = tiny_world.rows[:ROWS]
        deployment.send_rows(rows)
        decisions = deployment.read("decisions", len(rows))
        assert len(decisions) == len(rows)
        assert worker.stop() == 0
        shown = fraudstream("config", "show", *config, **sasl)
        assert PASSWORD not in worker.log_text() + shown.out + shown.err

        alerts = deployment.read("alerts")
        assert alerts
        secured.allow(rights["alerts tail"])
        tail = fraudstream(
            *("alerts", "tail", "--from-beginning", "--count", str(len(alerts)), *config), **sasl
        )
        assert (tail.code, tail.err) == (0, "")
        assert tail.out.splitlines() == [alert.value().decode() for alert in alerts]

        deployment.send([(b"card", b"no transaction", None)])
        alerted = json.loads(alerts[0].value())["transaction_id"]
        for part, command in {
            "alerts list": ("alerts", "list"),
            "label": ("label", alerted, "fraud", "--source", "analyst"),
            "explain": ("explain", alerted),
            "audit": ("audit",),
            "dlq list": ("dlq", "list"),
            "dlq replay": ("dlq", "replay"),
            "archive": ("archive", "--once", "--to", str(tmp_path / "archive")),
            "simulate --kafka": (
                "simulate",
                "--kafka",
                *("--customers", "10", "--merchants", "30", "--days", "2"),
            ),
        }.items():
            secured.allow(rights[part])
            ended = fraudstream(*command, *config, **sasl)
            assert ended.code == 0, ended.err


def test_a_worker_runs_with_a_client_certificate_and_at_least_once(
    secured: SecuredBroker, deployment: Deployment, tiny_world: TinyWorld, mtls: dict[str, str]
) -> None:
    chosen = {"FRAUDSTREAM_WORKER__DELIVERY": "at_least_once"}
    rights = published(deployment, **chosen)
    secured.allow(rights["worker"])
    worker = deployment.start(**mtls, **chosen).wait_ready()
    deployment.send_rows(tiny_world.rows[:ROWS])
    deployment.read("decisions", ROWS)
    secured.allow(rights["alerts tail"])
    deployment.send_rows(tiny_world.rows[ROWS : ROWS + 1])
    assert worker.process.wait(30) == 1
    (failed,) = worker.events("worker_failed")
    assert deployment.prefix in failed["error"]
    assert "fraudstream acls" in failed["error"]
    assert "Traceback" not in worker.log_text()


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_a_worker_without_one_of_its_rights_names_it_before_it_reads(
    secured: SecuredBroker, deployment: Deployment, sasl: dict[str, str], delivery: str
) -> None:
    settings = settings_of(deployment, sasl, delivery)
    needed = rights_of(settings, "worker")
    for right in needed:
        secured.allow(granted(other) for other in needed if other != right)
        with pytest.raises(BusError) as caught:
            start(settings)
        assert str(right) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_a_right_that_is_taken_from_a_running_worker_is_named(
    secured: SecuredBroker, deployment: Deployment, sasl: dict[str, str], delivery: str
) -> None:
    settings = settings_of(deployment, sasl, delivery)
    needed = rights_of(settings, "worker")
    lost = [
        Right("topic", deployment.topic("transactions"), "Read"),
        Right("topic", deployment.topic("decisions"), "Write"),
        Right("group", settings.worker.group, "Read"),
    ]
    for right in lost:
        secured.allow(map(granted, needed))
        source = KafkaSource(settings)
        with closing(source), closing(new_sink(settings, source)) as sink:
            while not source.emit_from:
                source.poll(1, 0.1)
            secured.allow(granted(other) for other in needed if other != right)
            with pytest.raises(BusError) as caught:
                turn(source, sink, deployment)
        assert str(right) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_who_looks_things_up_in_topics_needs_no_group(
    secured: SecuredBroker, deployment: Deployment, sasl: dict[str, str]
) -> None:
    settings = settings_of(deployment, sasl, "exactly_once")
    deployment.send([(b"card", b"{}", None)])
    for part in ("explain", "audit"):
        needed = rights_of(settings, part)
        secured.allow(map(granted, needed))
        meet_broker(settings, part)
        with closing(KafkaLog(settings, lambda *_: None)) as log:
            read = {right.name: len(list(log.scan(right.name))) for right in needed}
        assert sum(read.values()) == read[deployment.topic("transactions")] == 1


def turn(source: Any, sink: Any, deployment: Deployment) -> None:
    """Read, send and commit, as long as it goes."""
    offset = 0
    while True:
        deployment.send([(b"card", b"{}", None)])
        offset += 1
        source.poll(10, 0.1)
        sink.send(deployment.topic("decisions"), [(b"{}", b"card", [])])
        while not sink.commit({0: offset}, 0.1):
            pass


def start(settings: Settings) -> None:
    """Do what a worker does before it reads."""
    wait_for_broker(settings, rights_of(settings, "worker"), lambda: False)
    with closing(KafkaSource(settings)) as source:
        new_sink(settings, source).close()


def settings_of(deployment: Deployment, kafka: Mapping[str, str], delivery: str) -> Settings:
    return load_settings(deployment.config, environment={**kafka, "FRAUDSTREAM_WORKER__DELIVERY": delivery})


@pytest.mark.parametrize("part", [part for part in PARTS if part not in ("worker", "topics create")])
def test_a_command_without_its_rights_names_one(
    secured: SecuredBroker, deployment: Deployment, sasl: dict[str, str], part: str
) -> None:
    settings = settings_of(deployment, sasl, "exactly_once")
    secured.allow([])
    with pytest.raises(
        BusError, match=r"refuses this user (Read|Write|Describe) on topic .+fraudstream acls"
    ):
        meet_broker(settings, part)


def test_what_is_wrong_with_credentials_is_one_line_that_names_the_setting(
    secured: SecuredBroker, deployment: Deployment, sasl: dict[str, str], mtls: dict[str, str], tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "stranger")
    own = str(stranger.issue("own"))
    no_certificate = {
        k: v for k, v in mtls.items() if not k.endswith(("CERTIFICATE_LOCATION", "KEY_LOCATION"))
    }
    without_file = {k: v for k, v in sasl.items() if not k.endswith("PASSWORD_FILE")}
    other = "hunter2 is not the password"

    def but(given: dict[str, str], **changed: str) -> dict[str, str]:
        return given | {f"FRAUDSTREAM_KAFKA__{key.upper()}": value for key, value in changed.items()}

    wrong = {
        "sasl.password": (1, but(without_file, sasl_password=other)),
        "broker's supported mechanisms": (1, but(sasl, sasl_mechanism="PLAIN")),
        "ssl.ca.location": (1, but(sasl, ssl_ca_location=str(stranger.path))),
        "bootstrap.servers": (
            1,
            but(sasl, bootstrap_servers=secured.sasl_ssl.replace("127.0.0.1", "localhost")),
        ),
        "ssl.certificate.location": (1, no_certificate),
        "ssl.key.location": (1, but(mtls, ssl_certificate_location=own, ssl_key_location=own)),
        "security.protocol": (1, but(sasl, bootstrap_servers=secured.bootstrap)),
        "ssl.ca.location failed": (2, but(sasl, ssl_ca_location=str(tmp_path / "none.pem"))),
        "kafka.sasl.password.file": (2, but(sasl, sasl_password_file=str(tmp_path / "none"))),
        'Invalid value "SASL_TLS"': (2, but(sasl, security_protocol="SASL_TLS")),
    }
    running = {
        said: started("topics", "create", "-c", deployment.config, **given)
        for said, (_, given) in wrong.items()
    }
    for said, process in running.items():
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (wrong[said][0], ""), said
        (line,) = err.splitlines()
        assert line.startswith("fraudstream: ")
        assert said in line.replace('"', "") or said in line
        assert other not in line
        assert PASSWORD not in line


def test_a_worker_with_a_wrong_password_ends_at_once_and_does_not_tell_it(
    deployment: Deployment, sasl: dict[str, str]
) -> None:
    Path(sasl["FRAUDSTREAM_KAFKA__SASL_PASSWORD_FILE"]).write_text("hunter2 is not the password", "utf-8")
    worker = deployment.start(**sasl)
    assert worker.process.wait(60) == 1
    (failed,) = worker.events("worker_failed")
    assert 'correct kafka."sasl.username"' in failed["error"]
    assert "Traceback" not in worker.log_text()
    assert "hunter2" not in worker.log_text()
