"""Settings: where each value comes from, what a wrong one is told, and what nobody may see."""

from __future__ import annotations

import contextlib
import io
import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from fraudstream.decode import Decoder
from fraudstream.errors import ConfigError
from fraudstream.features import build_catalog
from fraudstream.sections import Settings
from fraudstream.settings import load_settings

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted(path.relative_to(ROOT) for path in (ROOT / "examples").rglob("*.toml"))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in an empty folder, so that no fraudstream.toml is there by chance."""
    monkeypatch.chdir(tmp_path)


def loaded(toml: str = "", environment: dict[str, str] | None = None, **flags: Any) -> Settings:
    path = Path("given.toml")
    path.write_text(toml, "utf-8")
    overrides = {dotted.replace("__", "."): value for dotted, value in flags.items()}
    return load_settings(path, overrides, environment or {})


def told(toml: str = "", environment: dict[str, str] | None = None, **flags: Any) -> str:
    """Return the one line that wrong settings get."""
    with pytest.raises(ConfigError) as caught:
        loaded(toml, environment, **flags)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_the_defaults_are_complete_and_correct() -> None:
    settings = load_settings(environment={})
    assert settings.event.name == "card_payment"
    assert settings.worker.batch_rows_max == 1024
    assert settings.state.lateness_ms == 86_400_000
    assert settings.labels.maturity_ms == 30 * 86_400_000
    assert settings.kafka["bootstrap.servers"] == "127.0.0.1:9092"
    assert settings.worker.web_host == "127.0.0.1"


def test_a_flag_goes_before_a_variable_before_the_file_before_the_default() -> None:
    toml = '[worker]\ngroup = "file"\nweb_port = 1\npoll_timeout_ms = 11\n'
    environment = {"FRAUDSTREAM_WORKER__GROUP": "variable", "FRAUDSTREAM_WORKER__WEB_PORT": "2"}
    worker = loaded(toml, environment, worker__group="flag").worker
    assert (worker.group, worker.web_port, worker.poll_timeout_ms, worker.batch_rows_max) == (
        "flag",
        2,
        11,
        1024,
    )


def test_a_flag_that_was_not_given_changes_nothing() -> None:
    assert loaded(worker__group=None).worker.group == "fraudstream"


def test_the_file_is_the_one_named_by_flag_then_by_variable_then_the_one_that_is_there(
    tmp_path: Path,
) -> None:
    for name in ("flag", "variable", "fraudstream"):
        (tmp_path / f"{name}.toml").write_text(f'[worker]\ngroup = "{name}"\n')
    environment = {"FRAUDSTREAM_CONFIG": str(tmp_path / "variable.toml")}
    assert load_settings(tmp_path / "flag.toml", environment=environment).worker.group == "flag"
    assert load_settings(environment=environment).worker.group == "variable"
    assert load_settings(environment={}).worker.group == "fraudstream"
    (tmp_path / "fraudstream.toml").unlink()
    assert load_settings(environment={}).worker.group == "fraudstream"


def test_the_process_environment_is_read_when_no_other_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUDSTREAM_WORKER__GROUP", "process")
    assert load_settings().worker.group == "process"


def test_a_file_changes_single_keys_and_replaces_fields_entities_features_and_outcomes_whole() -> None:
    settings = loaded(
        """
        [event]
        id = "nr"
        time = "at"
        amount = "value"
        currency = ""
        key = "account"
        [event.fields]
        nr = { type = "id", required = true }
        at = { type = "timestamp", required = true }
        value = { type = "amount", required = true }
        account = { type = "id", required = true }
        [event.entities]
        account = "account"
        [[features]]
        entity = "account"
        windows = ["1h"]
        aggregates = ["count"]
        [[outcomes]]
        name = "stop"
        points_min = 900
        """
    )
    assert settings.event.name == "card_payment"
    assert list(settings.event.fields) == ["nr", "at", "value", "account"]
    assert settings.event.entities == {"account": "account"}
    assert [group.entity for group in settings.features] == ["account"]
    assert [(outcome.name, outcome.alert) for outcome in settings.outcomes] == [("stop", False)]


def test_librdkafkas_own_names_pass_through_from_file_and_variable() -> None:
    toml = '[kafka_producer]\n"linger.ms" = 7\n"enable.idempotence" = true\n'
    environment = {
        "FRAUDSTREAM_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
        "FRAUDSTREAM_KAFKA_CONSUMER__FETCH_MIN_BYTES": "9",
    }
    settings = loaded(toml, environment)
    assert settings.kafka_producer["linger.ms"] == 7
    assert settings.kafka_producer["enable.idempotence"] is True
    assert settings.kafka_producer["compression.type"] == "lz4"
    assert settings.kafka["security.protocol"] == "SASL_SSL"
    assert str(settings.kafka_consumer["fetch.min.bytes"]) == "9"


@pytest.mark.parametrize("text", ["007", "1e5", "true", "null", "NaN", "[1]", '"quoted"', "0.10", "p=w"])
def test_a_password_in_a_variable_is_taken_as_it_stands(text: str) -> None:
    settings = loaded(environment={"FRAUDSTREAM_KAFKA__SASL_PASSWORD": text})
    assert settings.kafka["sasl.password"] == text


@pytest.mark.parametrize("text", ["3", "true", "2024-01-01", "1.0", "null"])
def test_a_text_setting_in_a_variable_may_look_like_a_number(text: str) -> None:
    settings = loaded(environment={"FRAUDSTREAM_WORKER__GROUP": text, "FRAUDSTREAM_MODEL__VERSION": text})
    assert (settings.worker.group, settings.model.version) == (text, text)


def test_a_variable_may_hold_numbers_and_tables() -> None:
    environment = {
        "FRAUDSTREAM_TRAINING__LEARNING_RATE": "0.5",
        "FRAUDSTREAM_EVENT__MESSAGE_BYTES_MAX": "1000",
        "FRAUDSTREAM_EVENT__FUTURE_TOLERANCE": "2h",
        "FRAUDSTREAM_EVENT__ENTITIES": '{"card": "card_id", "merchant": "merchant_id"}',
    }
    settings = loaded(environment=environment)
    assert settings.training.learning_rate == 0.5
    assert settings.event.message_bytes_max == 1000
    assert settings.event.future_tolerance_ms == 7_200_000
    assert list(settings.event.entities) == ["card", "merchant"]


def test_variables_of_others_are_left_alone() -> None:
    environment = {
        "FRAUDSTREAM_HYPOTHESIS": "slow",
        "FRAUDSTREAM_TEST_BROKERS": "x:1",
        "PATH": "/bin",
        "FAUST__X": "1",
    }
    assert loaded(environment=environment) == loaded()


WRONG: dict[str, tuple[str, str]] = {
    "an unknown section": (
        "[workers]\ngroup = 'x'", "workers: unknown setting; `fraudstream config show` lists the known ones"),
    "an unknown key": ("[worker]\ngrop = 'x'", "worker.grop: unknown setting; `fraudstream config show` lists"),
    "a number as text": ("[worker]\ngroup = 5", "worker.group = 5: expected str, got int"),
    "a text as number": ("[worker]\nweb_port = 'x'", 'worker.web_port = "x": expected int, got str'),
    "a fraction as number": ("[worker]\nweb_port = 1.5", "worker.web_port = 1.5: expected int, got float"),
    "a section that is a number": ("worker = 5", "worker = 5: expected object, got int"),
    "an event that is a number": ("event = 5", "event = 5: expected object, got int"),
    "an event that is a text": ("event = 'fields'", 'event = "fields": expected object, got str'),
    "features that are a table": ("[features]\nentity = 'card'", 'features = {"entity": "card"}: expected array'),
    "too low": ("[worker]\nbatch_rows_max = 0", "worker.batch_rows_max = 0: expected int >= 1"),
    "too high": ("[worker]\nbatch_rows_max = 65537", "worker.batch_rows_max = 65537: expected int <= 65536"),
    "a rate of none": ("[training]\nlearning_rate = 0.0", "training.learning_rate = 0.0: expected float > 0.0"),
    "a rate that is no number": (
        "[training]\nlearning_rate = nan", "training.learning_rate = NaN: expected float > 0.0"),
    "no group": ("[worker]\ngroup = ''", 'worker.group = "": expected str of length >= 1'),
    "a topic that Kafka refuses": (
        "[topics]\nlabels = 'my labels'", 'topics.labels = "my labels": expected str matching regex'),
    "no topic": ("[topics]\nlabels = ''", 'topics.labels = "": expected str matching regex'),
    "topics of one name": (
        "[topics]\ndecisions = 'fraud.transactions'",
        "topics: names must differ, given are fraud.transactions, fraud.labels",
    ),
    "a model in a folder": ("[model]\nname = '../x'", 'model.name = "../x": expected str matching regex'),
    "rows without end": ("[state]\nrows_max = 65537", "state.rows_max = 65537: expected int <= 65536"),
    "an unreadable lateness": (
        "[state]\nlateness = 'a day'", 'state.lateness = "a day": give a whole number and a unit'),
    "an unreadable maturity": ("[labels]\nmaturity = '30'", 'labels.maturity = "30": give a whole number and a unit'),
    "points beyond the scale": (
        "[[outcomes]]\nname = 'x'\npoints_min = 1001", "outcomes[0].points_min = 1001: expected int <= 1000"),
    "an outcome without a name": (
        "[[outcomes]]\nname = ''\npoints_min = 1", 'outcomes[0].name = "": expected str of length >= 1'),
    "a probability beyond one": (
        "[[outcomes]]\nname = 'x'\nprobability_min = 1.5", "outcomes[0].probability_min = 1.5: expected float <="),
    "a probability that is none": (
        "[[outcomes]]\nname = 'x'\nprobability_min = nan", "outcomes[0].probability_min = NaN: expected float >="),
    "an endless loss": (
        "[[outcomes]]\nname = 'x'\nexpected_loss_min = inf", "outcomes[0].expected_loss_min = Infinity: expected"),
    "points in words": (
        "[[outcomes]]\nname = 'x'\npoints_min = 'many'", 'outcomes[0].points_min = "many": expected int, got str'),
    "an outcome with a strange key": (
        "[[outcomes]]\nname = 'x'\npoints = 5", "outcomes[0].points: unknown setting"),
    "no outcome at all": ("[decisions]\notherwise = ''", 'decisions.otherwise = "": expected str of length >= 1'),
    "a feature without aggregates": ("[[features]]\nentity = 'card'", "features[0].aggregates: missing"),
    "a feature with a strange key": (
        "[[features]]\nentity = 'card'\naggregates = ['count']\nwindow = '1h'",
        "features[0].window: unknown setting",
    ),
    "a window that is a number": (
        "[[features]]\nentity = 'card'\naggregates = ['count']\nwindows = [60]",
        "features[0].windows[0] = 60: expected str, got int",
    ),
    "an unknown type of field": (
        "[event.fields]\nx = { type = 'text' }\n[event.entities]\ncard = 'x'",
        'event.fields.x.type = "text": expected one of id, category, timestamp, amount, integer, number, boolean',
    ),
    "a field without a type": (
        "[event.fields]\nx = {}\n[event.entities]\ncard = 'x'", "event.fields.x.type: missing"),
    "a field that is a text": (
        "[event.fields]\nx = 'id'\n[event.entities]\ncard = 'x'", 'event.fields.x = "id": expected object, got str'),
    "a field with a strange key": (
        "[event.fields]\nx = { type = 'id', must = true }\n[event.entities]\ncard = 'x'",
        "event.fields.x.must: unknown setting",
    ),
    "a field with a default of a list": (
        "[event.fields]\nx = { type = 'id', default = [] }\n[event.entities]\ncard = 'x'",
        "event.fields.x.default = []: expected",
    ),
    "fields that are a text": (
        "[event]\nfields = 'x'\nentities = {}", 'event.fields = "x": expected object, got str'),
    "fields without entities": (
        "[event.fields]\nx = { type = 'id' }", "event.entities: missing; new fields need entities"),
    "an entity that is a number": (
        "[event.entities]\ncard = 5", "event.entities.card = 5: expected str | array, got int"),
    "an unknown way with null keys": (
        "[event]\nnull_key = 'drop'", 'event.null_key = "drop": expected one of reject, accept'),
    "an unknown way of delivery": (
        "[worker]\ndelivery = 'twice'", 'worker.delivery = "twice": expected one of exactly_once, at_least_once'),
    "an unknown way to fail": (
        "[degradation]\non_failure = 'go on'",
        'degradation.on_failure = "go on": expected one of stop, open, closed',
    ),
    "a role of no field": ("[event]\namount = 'value'", 'event.amount = "value": not a declared field'),
    "a key that is no entity": (
        "[event]\nkey = 'shop'", 'event.key = "shop": give one of the entities card, merchant'),
    "a list for librdkafka": ('[kafka]\n"client.id" = [1]', 'kafka."client.id" = [1]: expected'),
    "a table for librdkafka": ("[kafka_producer.acks]\nx = 1", 'kafka_producer."acks" = {"x": 1}: expected'),
    "no brokers": (
        '[kafka]\n"bootstrap.servers" = ""', 'kafka."bootstrap.servers": missing; give "host:port,host:port"'),
    "a day where a duration is wanted": (
        "[state]\nlateness = 2024-01-01", 'state.lateness = "2024-01-01": expected str, got'),
    "not TOML": ("[worker", "given.toml: is not TOML: "),
    "a key twice": ("[worker]\ngroup = 'a'\ngroup = 'b'", "given.toml: is not TOML: "),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_setting_gets_one_line_that_names_key_value_and_accepted_form(wrong: str) -> None:
    toml, expected = WRONG[wrong]
    assert expected in told(toml)


def settings_of_every_section() -> list[tuple[str, str]]:
    defaults = tomllib.loads(resources.files("fraudstream").joinpath("defaults.toml").read_text("utf-8"))
    sections = {name: table for name, table in defaults.items() if isinstance(table, dict)}
    return [(section, key) for section, table in sections.items() for key in table if "kafka" not in section]


@pytest.mark.parametrize(("section", "key"), settings_of_every_section())
def test_no_setting_takes_a_list_of_tables(section: str, key: str) -> None:
    value = "[{ a = 1 }]"
    entities = "\nentities = {}" if key == "fields" else ""
    line = told(f"[{section}]\n{key} = {value}{entities}")
    said = (
        r' = \[{"a": 1}\]: expected .*, got array',
        r'\[0\] = {"a": 1}: expected .*, got object',
    )  # or of a list
    assert re.fullmatch(rf"{section}\.{key}({said[0]}|{said[1]})", line)


def test_a_wrong_variable_names_the_setting_or_the_section() -> None:
    assert told(environment={"FRAUDSTREAM_WORKER__WEB_PORT": "x"}).startswith(
        'worker.web_port = "x": expected int'
    )
    assert told(environment={"FRAUDSTREAM_WORKER__WEB_PORT": "null"}).startswith(
        "worker.web_port = null: expected int"
    )
    line = told(environment={"FRAUDSTREAM_WORKERS__GROUP": "x"})
    assert line.startswith(
        "FRAUDSTREAM_WORKERS__GROUP: there is no section [workers]; sections are event, features"
    )
    line = told(environment={"FRAUDSTREAM_OUTCOMES__NAME": "x"})
    assert line == "FRAUDSTREAM_OUTCOMES__NAME: [[outcomes]] is a list of tables; give it in the TOML file"


def test_a_wrong_flag_names_the_setting() -> None:
    assert told(worker__web_port=70_000) == "worker.web_port = 70000: expected int <= 65535"
    assert told(worker__nothing=1).startswith("worker.nothing: unknown setting")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing, folder, binary = tmp_path / "none.toml", tmp_path, tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    for path, reason in (
        (missing, "No such file"),
        (folder, "Is a directory"),
        (binary, "is not UTF-8 text"),
    ):
        with pytest.raises(ConfigError, match=re.escape(f"{path}: ") + ".*" + reason):
            load_settings(path, environment={})
    with pytest.raises(ConfigError, match="No such file"):
        load_settings(environment={"FRAUDSTREAM_CONFIG": str(missing)})


SECRET = "hunter2"
SECRETS = (
    "sasl.password", "ssl.key.password", "ssl.key.pem", "ssl_key", "ssl.keystore.password", "sasl.username",
    "sasl.oauthbearer.client.secret", "sasl.oauthbearer.config",
)  # fmt: skip


def test_secrets_are_hidden_wherever_settings_are_shown() -> None:
    toml = "".join(
        f"[{section}]\n" + "".join(f'"{name}" = "{SECRET}"\n' for name in SECRETS)
        for section in ("kafka", "kafka_consumer", "kafka_producer")
    )
    settings = loaded(toml)
    rich = io.StringIO()
    Console(file=rich, width=10_000).print(settings)
    for shown in (repr(settings), str(settings), f"{settings}", str(settings.shown()), rich.getvalue()):
        assert SECRET not in shown
        assert "***" in shown
        assert "127.0.0.1:9092" in shown
    assert settings.kafka["sasl.password"] == SECRET


@pytest.mark.parametrize("name", SECRETS)
def test_a_wrong_setting_beside_or_in_the_place_of_a_secret_does_not_tell_it(name: str) -> None:
    in_place = f'[kafka]\n"{name}" = ["{SECRET}"]'
    beside = f'[kafka]\n"{name}" = "{SECRET}"\n"client.id" = [1]'
    above = f'[kafka]\n"{name}" = "{SECRET}"\n[worker]\nweb_port = -1'
    for toml in (in_place, beside, above):
        assert SECRET not in told(toml)
    assert told(in_place).startswith(f'kafka."{name}" = ***: expected')


def test_a_section_of_secrets_that_is_no_section_does_not_tell_them() -> None:
    assert SECRET not in told(f"kafka = [{{ 'sasl.password' = '{SECRET}' }}]")


def test_an_error_does_not_carry_the_secret_in_its_chain() -> None:
    error: BaseException | None = None
    with contextlib.suppress(ConfigError):
        try:
            loaded(f'[kafka]\n"sasl.password" = ["{SECRET}"]')
        except ConfigError as caught:
            error = caught
            raise
    assert error is not None
    assert error.__suppress_context__
    assert SECRET not in repr(error)


def test_shown_settings_can_be_loaded_again() -> None:
    settings = loaded()
    assert msgspec.convert(settings.shown(), Settings) == settings


def test_settings_cannot_be_changed() -> None:
    settings = loaded()
    with pytest.raises(AttributeError):
        settings.worker.group = "other"  # type: ignore[misc]


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_every_example_loads_and_its_features_spell_out(example: Path) -> None:
    settings = load_settings(ROOT / example, environment={})
    catalog = build_catalog(settings.features, settings.event)
    decoder = Decoder(settings.event, catalog.fields_used)
    assert len(catalog) > 5
    assert decoder.columns


def test_there_are_examples() -> None:
    assert Path("examples/handbook/fraudstream.toml") in EXAMPLES


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_secret_may_stand_in_a_file_that_a_key_or_a_variable_names(tmp_path: Path, ending: str) -> None:
    (tmp_path / "secret").write_bytes(f" p=w {ending}".encode())
    by_key = loaded(f'[kafka_consumer]\n"ssl.key.password.file" = "{tmp_path / "secret"}"')
    assert by_key.kafka_consumer["ssl.key.password"] == " p=w "
    assert "ssl.key.password.file" not in by_key.kafka_consumer
    by_variable = loaded(environment={"FRAUDSTREAM_KAFKA__SASL_PASSWORD_FILE": str(tmp_path / "secret")})
    assert by_variable.kafka["sasl.password"] == " p=w "


def test_a_file_of_a_secret_that_cannot_be_read_or_is_one_too_many_is_named(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff")
    for name, why in (("none", "No such file or directory"), ("bytes", "it is no UTF-8 text")):
        line = told(environment={"FRAUDSTREAM_KAFKA__SASL_PASSWORD_FILE": str(tmp_path / name)})
        assert line == f'kafka."sasl.password.file" = "{tmp_path / name}": cannot be read ({why})'
    line = told(f'[kafka]\n"sasl.password" = "{SECRET}"\n"sasl.password.file" = "{tmp_path / "bytes"}"')
    assert line == 'kafka."sasl.password.file": kafka."sasl.password" is given, too; give one of the two'
