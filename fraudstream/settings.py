"""Settings, read once: flag, then `FRAUDSTREAM_SECTION__KEY`, then the TOML file, then `defaults.toml`.

The only module that knows the name of an environment variable. librdkafka's own names stand verbatim under
`[kafka]` (every client), `[kafka_consumer]` and `[kafka_producer]`.
"""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta

from fraudstream.errors import ConfigError
from fraudstream.event import EventType, Field, check_event, parse_duration_ms, parse_instant_ms
from fraudstream.words import read_words

ENV_PREFIX = "FRAUDSTREAM_"
ENV_CONFIG = "FRAUDSTREAM_CONFIG"
ENV_LOG = "FRAUDSTREAM_LOG"
_SECRET = re.compile(r"password|secret|[._]key|token|sasl\.username|oauthbearer", re.IGNORECASE)

_URI_KEYS = re.compile(r"//[^/]*@")
_PUBLIC_KEY = re.compile(r"[A-Za-z0-9+/]{43}=")  # base64 of 32 bytes

BEFORE_ALL_MS = -(2**62)  # an instant before every event time

Count = Annotated[int, Meta(ge=1)]
Points = Annotated[int, Meta(ge=0, le=1000)]
TopicName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,249}$")]


Monotone = Literal["", "rising", "falling"]


class FeatureGroup(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One `[[features]]` table: every aggregate over every window of one entity."""

    entity: str
    aggregates: list[str]
    of: str | list[str] = ""
    windows: list[str] = []
    baseline: str = ""
    where: str = ""
    lag: str = ""
    label: str = ""
    resolution: str = ""
    monotone: Monotone = ""


class StateSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[state]`: what bounds the windows' memory, and how far back what they see is known."""

    lateness: str
    rows_max: Annotated[int, Meta(ge=1, le=65_536)]
    entities_max: Annotated[int, Meta(ge=1, le=200_000_000)]
    repeat_horizon: str
    complete_from: str

    @property
    def lateness_ms(self) -> int:
        """Return how much later than its entity's newest row a row may come, in milliseconds."""
        return parse_duration_ms(self.lateness, "state.lateness")

    @property
    def repeat_horizon_ms(self) -> int:
        """Return how long a transaction's id is remembered, in milliseconds of stream time; 0: not at all."""
        return parse_duration_ms(self.repeat_horizon, "state.repeat_horizon")

    @property
    def complete_from_ms(self) -> int | None:
        """Return the instant from which on no transaction is missing; None: that of the first row seen."""
        if self.complete_from in ("", "start"):
            return BEFORE_ALL_MS if self.complete_from else None
        try:
            return parse_instant_ms(self.complete_from)
        except ValueError:
            raise ConfigError(
                f'state.complete_from = "{self.complete_from}": give "start", nothing (from the first '
                'transaction on), or an ISO 8601 instant, "2026-08-08"'
            ) from None


class SnapshotSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[snapshots]`: where and how often a worker saves its state."""

    folder: str
    interval: str
    kept: Annotated[int, Meta(ge=1, le=1000)]

    @property
    def interval_ms(self) -> int:
        """Return how often the state is saved, in milliseconds."""
        return parse_duration_ms(self.interval, "snapshots.interval")


class Outcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One `[[outcomes]]` table: what is decided of a transaction that reaches every threshold that is given."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    points_min: Points | None = None
    probability_min: Annotated[float, Meta(ge=0, le=1)] | None = None
    expected_loss_min: Annotated[float, Meta(ge=0, le=1e12)] | None = None
    where: str = ""
    alert: bool = False


class DecisionSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[decisions]`: the outcome where none of `[[outcomes]]` applies."""

    otherwise: Annotated[str, Meta(min_length=1, max_length=64)]


class AlertSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[alerts]`: how they are worded."""

    language: str
    words: str


class DegradationSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[degradation]`: what is left out from which lag on (0: never), and what happens where no score can be had."""

    explanations_lag: Annotated[int, Meta(ge=0)]
    shadow_lag: Annotated[int, Meta(ge=0)]
    batches_lag: Annotated[int, Meta(ge=0)]
    batch_rows_max: Annotated[int, Meta(ge=1, le=65_536)]
    on_failure: Literal["stop", "open", "closed"]


class ModelSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[model]`: which model decides, and which is scored beside it; each is an alias or a version."""

    registry: str
    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
    version: str
    challenger: str
    reload: str
    require_signature: bool
    trusted_keys: list[str]

    @property
    def trusted_key_bytes(self) -> tuple[bytes, ...]:
        """Return the public keys, 32 bytes each.

        Raises:
            ConfigError: one is not the base64 of that many, or there is none and there must be one.
        """
        for i, text in enumerate(self.trusted_keys):
            if not _PUBLIC_KEY.fullmatch(text):
                raise ConfigError(
                    f"model.trusted_keys[{i}] = {json.dumps(text)}: give the base64 of an Ed25519 public key, the 44 "
                    "characters that `fraudstream models keygen` prints"
                )
        if self.require_signature and not self.trusted_keys:
            raise ConfigError(
                "model.require_signature = true: needs model.trusted_keys, the public keys whose signatures count"
            )
        return tuple(base64.b64decode(text) for text in self.trusted_keys)

    @property
    def reload_ms(self) -> int:
        """Return how often a worker looks for another version, in milliseconds; 0: never."""
        return parse_duration_ms(self.reload, "model.reload")


class LabelSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[labels]`: when silence means legitimate, and which label counts, and when."""

    maturity: str
    grace: str
    precedence: Annotated[list[str], Meta(max_length=100)]
    silence: str

    @property
    def maturity_ms(self) -> int:
        """Return the age at which an unlabelled transaction counts as legitimate, in milliseconds."""
        return parse_duration_ms(self.maturity, "labels.maturity")

    @property
    def grace_ms(self) -> int:
        """Return how long after `known_at` features see a label, in milliseconds of stream time."""
        return parse_duration_ms(self.grace, "labels.grace")

    @property
    def silence_ms(self) -> int:
        """Return how long without any labelled transaction means that there was no source, in milliseconds."""
        return parse_duration_ms(self.silence, "labels.silence")

    @property
    def ranks(self) -> dict[str, int]:
        """Return by source its rank: the first has the highest, one that is not named has 0."""
        named = self.precedence
        for source in named:
            if not source or named.count(source) > 1:
                raise ConfigError(
                    f"labels.precedence = {json.dumps(named)}: give each source once, the one to be believed first"
                )
        return {source: len(named) - i for i, source in enumerate(named)}


class TrainingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[training]`: the windows and the size of a model."""

    days: Count
    gap_days: Annotated[int, Meta(ge=0)]
    validation_days: Count
    trees_max: Annotated[int, Meta(ge=1, le=2000)]
    leaves_max: Annotated[int, Meta(ge=2, le=64)]
    learning_rate: Annotated[float, Meta(gt=0, le=1)]
    seed: int
    negatives_max: Count
    leak_auc_max: Annotated[float, Meta(ge=0.5, le=1)]


class EvaluationSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[evaluation]`: what figures are also told of by themselves."""

    segments: list[str]


class PromotionSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[promotion]`: what a challenger must show before it takes the champion's place."""

    objective: Literal["average_precision", "recall", "money"]
    confidence: Annotated[float, Meta(gt=0.5, lt=1)]
    resamples: Annotated[int, Meta(ge=100, le=100_000)]
    frauds_min: Count
    age_max: str
    drift_max: Annotated[float, Meta(gt=0)]
    fpr_max: Annotated[float, Meta(gt=0, le=1)]
    fpr_rise_max: Annotated[float, Meta(gt=0)]
    alerts_a_day_max: Annotated[float, Meta(ge=0)]
    alerts_rise_max: Annotated[float, Meta(gt=0)]

    @property
    def age_max_ms(self) -> int:
        """Return how much older than maturity the newest mature transaction may be, in milliseconds."""
        return parse_duration_ms(self.age_max, "promotion.age_max")


class SentinelSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[sentinel]`: limits beyond which the champion is rolled back."""

    window: str
    rows_min: Count
    fpr_max: Annotated[float, Meta(gt=0, le=1)]
    alert_rate_min: Annotated[float, Meta(ge=0, le=1)]
    alert_rate_max: Annotated[float, Meta(gt=0, le=1)]

    @property
    def window_ms(self) -> int:
        """Return how long is looked back, in milliseconds."""
        return parse_duration_ms(self.window, "sentinel.window")


class ArchiveSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[archive]`: where `fraudstream archive` keeps what Kafka forgets."""

    uri: Annotated[str, Meta(min_length=1)]
    interval: str

    @property
    def interval_ms(self) -> int:
        """Return how often what was read is written, in milliseconds."""
        return parse_duration_ms(self.interval, "archive.interval")


class TopicSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[topics]`: their names, and how `topics create` makes them."""

    transactions: TopicName
    labels: TopicName
    decisions: TopicName
    alerts: TopicName
    dlq: TopicName
    features: TopicName
    partitions: Annotated[int, Meta(ge=1, le=10_000)]
    replication: Annotated[int, Meta(ge=1, le=100)]


class WorkerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[worker]`: the micro-batch loop and its web port."""

    group: Annotated[str, Meta(min_length=1)]
    batch_rows_max: Annotated[int, Meta(ge=1, le=65_536)]
    poll_timeout_ms: Annotated[int, Meta(ge=1, le=10_000)]
    delivery: Literal["exactly_once", "at_least_once"]
    commit_interval_ms: Annotated[int, Meta(ge=1, le=60_000)]
    instance: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{0,200}$")]
    several: Literal["refuse", "allow"]
    dead_letter_rate_max: Annotated[float, Meta(gt=0, le=1)]
    dead_letter_window: Count
    reasons_max: Annotated[int, Meta(ge=1, le=50)]
    explain_budget_ms: Annotated[int, Meta(ge=0, le=60_000)]
    warm: str
    feature_log: bool
    web_host: str
    web_port: Annotated[int, Meta(ge=0, le=65_535)]

    @property
    def instance_name(self) -> str:
        """Return this worker's name in its group; empty: another one at each start.

        Host and web port name a process, as no two can have the same.
        """
        if self.instance or not self.web_port:
            return self.instance
        return re.sub(r"[^A-Za-z0-9._-]", "-", f"{socket.gethostname()}-{self.web_port}")


KafkaValue = str | int | float | bool
KafkaConfig = dict[str, KafkaValue]
KAFKA_SECTIONS = ("kafka", "kafka_consumer", "kafka_producer")


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All settings, checked. Build them with `load_settings`."""

    event: EventType
    features: list[FeatureGroup]
    state: StateSettings
    snapshots: SnapshotSettings
    decisions: DecisionSettings
    outcomes: list[Outcome]
    alerts: AlertSettings
    degradation: DegradationSettings
    model: ModelSettings
    labels: LabelSettings
    training: TrainingSettings
    evaluation: EvaluationSettings
    promotion: PromotionSettings
    sentinel: SentinelSettings
    archive: ArchiveSettings
    topics: TopicSettings
    worker: WorkerSettings
    kafka: KafkaConfig
    kafka_consumer: KafkaConfig
    kafka_producer: KafkaConfig

    def shown(self) -> dict[str, Any]:
        """Return the settings as plain data with secrets hidden."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        for section in KAFKA_SECTIONS:
            plain[section] = {k: "***" if _SECRET.search(k) else v for k, v in plain[section].items()}
        plain["archive"]["uri"] = shown_uri(self.archive.uri)
        return plain

    def __repr__(self) -> str:
        return f"Settings({self.shown()!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return list(self.shown().items())  # rich asks for this first; msgspec's own would show the secrets


def shown_uri(uri: str) -> str:
    """Return a URI without its keys.

    >>> shown_uri("s3://key:secret@bucket/folder")
    's3://***@bucket/folder'
    """
    return _URI_KEYS.sub("//***@", uri)


def load_settings(
    path: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Return the checked settings.

    Args:
        path: the TOML file; else the variable FRAUDSTREAM_CONFIG, else `fraudstream.toml` if it is there.
        overrides: flags, by dotted key (`{"worker.group": "x"}`); None values are passed over.
        environment: in the place of `os.environ`.

    Raises:
        ConfigError: with one line that names key, value and accepted form.
    """
    environment = os.environ if environment is None else environment
    merged = tomllib.loads(resources.files("fraudstream").joinpath("defaults.toml").read_text("utf-8"))
    chosen = path or _path_from(environment)
    if chosen is not None:
        _merge(merged, _read_toml(chosen))
    _apply_environment(merged, environment)
    for dotted, value in (overrides or {}).items():
        if value is not None:
            section, key = dotted.split(".", 1)
            merged.setdefault(section, {})[key] = value
    return _checked(merged)


def log_format(environment: Mapping[str, str] | None = None) -> str:
    """Return how logs are written, FRAUDSTREAM_LOG=json or text; empty: by where they go."""
    return (os.environ if environment is None else environment).get(ENV_LOG, "")


def _path_from(environment: Mapping[str, str]) -> Path | None:
    if named := environment.get(ENV_CONFIG):
        return Path(named)
    local = Path("fraudstream.toml")
    return local if local.is_file() else None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give a TOML file with -c") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text; give a TOML file") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from None


def _merge(base: dict[str, Any], upper: dict[str, Any]) -> None:
    for section, value in upper.items():
        below = base.get(section)
        if not (isinstance(value, dict) and isinstance(below, dict)):
            base[section] = value
            continue
        for key, entry in value.items():
            below[key] = entry
    event = upper.get("event")
    if isinstance(event, dict) and "fields" in event and "entities" not in event:
        raise ConfigError("event.entities: missing; new fields need entities that name them")


def _apply_environment(merged: dict[str, Any], environment: Mapping[str, str]) -> None:
    for name, text in environment.items():
        if not name.startswith(ENV_PREFIX) or "__" not in name:
            continue
        section, key = name[len(ENV_PREFIX) :].lower().split("__", 1)
        if section not in merged:
            raise ConfigError(f"{name}: there is no section [{section}]; sections are {', '.join(merged)}")
        if not isinstance(merged[section], dict):
            raise ConfigError(f"{name}: [[{section}]] is a list of tables; give it in the TOML file")
        if section in KAFKA_SECTIONS:
            merged[section][key.replace("_", ".")] = text  # librdkafka reads text itself
        else:
            merged[section][key] = text if isinstance(merged[section].get(key), str) else _typed(text)


def _typed(text: str) -> Any:
    """Read a variable's text as JSON where it is JSON (numbers, true, lists), else as text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _checked(merged: dict[str, Any]) -> Settings:
    # Values of free names one by one first, so that an error names its own; then the whole.
    for name, field in _table(_table(merged, "event"), "fields").items():
        _converted(field, Field, f"event.fields.{name}")
    for name, entity in _table(_table(merged, "event"), "entities").items():
        _converted(entity, str | list[str], f"event.entities.{name}")
    for section in KAFKA_SECTIONS:
        for name, value in _table(merged, section).items():
            _converted(value, KafkaValue, f'{section}."{name}"')
    settings = _converted(merged, Settings, "")
    check_event(settings.event)
    _ = (
        settings.model.reload_ms,
        settings.state.lateness_ms,
        settings.state.repeat_horizon_ms,
        settings.state.complete_from_ms,
        settings.snapshots.interval_ms,
        settings.archive.interval_ms,
    )
    _ = settings.promotion.age_max_ms, settings.sentinel.window_ms
    _ = settings.labels.maturity_ms, settings.labels.grace_ms, settings.labels.silence_ms
    _ = settings.labels.ranks, settings.model.trusted_key_bytes
    read_words(settings.alerts.language, settings.alerts.words)
    _check_topics(settings.topics)
    if not str(settings.kafka.get("bootstrap.servers", "")):
        raise ConfigError('kafka."bootstrap.servers": missing; give "host:port,host:port"')
    return settings


def _table(plain: dict[str, Any], key: str) -> dict[str, Any]:
    value = plain.get(key)
    return value if isinstance(value, dict) else {}


def _converted(plain: Any, kind: Any, where: str) -> Any:
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(_one_line(str(error), plain, where)) from None


def _check_topics(topics: TopicSettings) -> None:
    names = [topics.transactions, topics.labels, topics.decisions, topics.alerts, topics.dlq, topics.features]
    if len(set(names)) < len(names):
        raise ConfigError(f"topics: names must differ, given are {', '.join(names)}")


_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?P<kind>key in )?\$(?P<path>.*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.+)`")
_MISSING = re.compile(r"Object missing required field `(.+)`")


_CHOICES = {
    field.name: tuple(choice for choice in get_args(field.type) if choice)
    for struct in (Field, EventType, WorkerSettings, DegradationSettings, PromotionSettings)
    for field in msgspec.structs.fields(struct)
    if get_origin(field.type) is Literal
}


def _one_line(message: str, plain: Any, where: str) -> str:
    match = _AT.match(message)
    assert match is not None
    inner = (match["path"] or "").lstrip(".").replace("[...]", "")
    path = ".".join(part for part in (where, inner) if part)
    what = match["what"]
    prefix = f"{path}." if path else ""
    if unknown := _UNKNOWN.match(what):
        return f"{prefix}{unknown[1]}: unknown setting; `fraudstream config show` lists the known ones"
    if missing := _MISSING.match(what):
        return f"{prefix}{missing[1]}: missing"
    secret = path in KAFKA_SECTIONS or (path.startswith("kafka") and _SECRET.search(path))
    value = "***" if secret else _value_at(inner, plain)
    if what.startswith("Invalid enum value"):
        return f"{path} = {value}: expected one of {', '.join(_CHOICES[path.rsplit('.', 1)[-1]])}"
    return f"{path} = {value}: {what[0].lower()}{what[1:].replace('`', '').replace(' | null', '')}"


def _value_at(path: str, plain: Any) -> str:
    value = plain
    try:
        for part in re.findall(r"[^.\[\]]+", path):
            value = value[int(part)] if isinstance(value, list) else value[part]
    except (KeyError, IndexError, TypeError, ValueError):
        return "..."
    return json.dumps(value, default=str)
