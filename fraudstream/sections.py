"""What can be set: a struct for each section of the TOML file, and all of them together.

librdkafka's own names stand verbatim under `[kafka]` (every client), `[kafka_consumer]` and `[kafka_producer]`,
those of confluent-kafka's registry client under `[schema_registry]`.
"""

from __future__ import annotations

import base64
import json
import re
import socket
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fraudstream.errors import ConfigError
from fraudstream.event import EventType, parse_duration_ms, parse_instant_ms

SECRET = re.compile(r"password|secret|[._]key|token|sasl\.username|oauthbearer|user\.info", re.IGNORECASE)
_URI_KEYS = re.compile(r"//[^\s\"',]*@")  # a key may have a slash that should have been encoded
_PUBLIC_KEY = re.compile(r"[A-Za-z0-9+/]{43}=")  # base64 of 32 bytes

DAY_MS = 86_400_000
MATURE_DAYS = 7  # for which a worker goes on counting what is mature
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
    """`[alerts]`: how they are worded, and which of them are one case."""

    language: str
    words: str
    case_period: str
    case_length_max: str

    @property
    def case_period_ms(self) -> int:
        """Return how far apart the alerts of a case may be, in milliseconds of event time; 0: there are no cases."""
        return parse_duration_ms(self.case_period, "alerts.case_period")

    @property
    def case_length_max_ms(self) -> int:
        """Return how long after its first alert a case may go on, in milliseconds of event time."""
        return parse_duration_ms(self.case_length_max, "alerts.case_length_max")


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
    half_life_days: Annotated[float, Meta(ge=0)]
    trees_max: Annotated[int, Meta(ge=1, le=2000)]
    leaves_max: Annotated[int, Meta(ge=2, le=64)]
    learning_rate: Annotated[float, Meta(gt=0, le=1)]
    seed: int
    negatives_max: Count
    leak_auc_max: Annotated[float, Meta(ge=0.5, le=1)]
    features: Literal["all", "stable"]
    tune_trials: Annotated[int, Meta(ge=0, le=10_000)]
    tune_minutes: Annotated[float, Meta(gt=0)]


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


class QualitySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[quality]`: what a worker counts of its decisions, and of what became of them."""

    track: bool
    segment: str
    drift_max: Annotated[float, Meta(gt=0)]

    def tracked_days(self, labels: LabelSettings) -> int:
        """Return for how many days it counts: until they are mature, and a week longer; 0: not at all."""
        return self.track * (-(-labels.maturity_ms // DAY_MS) + 1 + MATURE_DAYS)


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
    web_certificate_file: str
    web_key_file: str
    web_token_file: str

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
PASSED_ON = (*KAFKA_SECTIONS, "schema_registry")  # names that others define


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All settings, checked. Build them with `settings.load_settings`."""

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
    quality: QualitySettings
    archive: ArchiveSettings
    topics: TopicSettings
    worker: WorkerSettings
    kafka: KafkaConfig
    kafka_consumer: KafkaConfig
    kafka_producer: KafkaConfig
    schema_registry: KafkaConfig

    def shown(self) -> dict[str, Any]:
        """Return the settings as plain data with secrets hidden."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        for section in PASSED_ON:
            plain[section] = {k: "***" if SECRET.search(k) else v for k, v in plain[section].items()}
        if "url" in self.schema_registry:
            plain["schema_registry"]["url"] = shown_uri(str(self.schema_registry["url"]))
        plain["archive"]["uri"] = shown_uri(self.archive.uri)
        plain["worker"]["warm"] = shown_uri(self.worker.warm)
        return plain

    def __repr__(self) -> str:
        return f"Settings({self.shown()!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return list(self.shown().items())  # rich asks for this first; msgspec's own would show the secrets


def shown_uri(uri: str) -> str:
    """Return a URI without its keys.

    >>> shown_uri("s3://key:secret@bucket/folder")
    's3://***@bucket/folder'
    >>> shown_uri("s3://key:sec/ret@bucket")
    's3://***@bucket'
    """
    return _URI_KEYS.sub("//***@", uri)
