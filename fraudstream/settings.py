"""Settings, read once: flag, then `FRAUDSTREAM_SECTION__KEY`, then the TOML file, then `defaults.toml`.

The only module that knows the name of an environment variable. What can be set stands in `sections`.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec

from fraudstream.errors import ConfigError
from fraudstream.event import EventType, Field, check_event
from fraudstream.sections import (
    KAFKA_SECTIONS,
    PASSED_ON,
    SECRET,
    DegradationSettings,
    KafkaValue,
    PromotionSettings,
    Settings,
    TopicSettings,
    WorkerSettings,
)
from fraudstream.words import read_words

ENV_PREFIX = "FRAUDSTREAM_"
ENV_CONFIG = "FRAUDSTREAM_CONFIG"
ENV_LOG = "FRAUDSTREAM_LOG"
SECRETS_IN_FILES = (
    "sasl.username", "sasl.password", "ssl.key.password", "ssl.keystore.password", "sasl.oauthbearer.client.secret",
    "basic.auth.user.info", "bearer.auth.token", "bearer.auth.client.secret",
)  # fmt: skip


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
    _read_secrets(merged)
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


def is_setting(variable: str) -> bool:
    """Tell whether a variable of the environment is a setting."""
    return variable.startswith(ENV_PREFIX) and "__" in variable


def _apply_environment(merged: dict[str, Any], environment: Mapping[str, str]) -> None:
    for name, text in environment.items():
        if not is_setting(name):
            continue
        section, key = name[len(ENV_PREFIX) :].lower().split("__", 1)
        if section not in merged:
            raise ConfigError(f"{name}: there is no section [{section}]; sections are {', '.join(merged)}")
        if not isinstance(merged[section], dict):
            raise ConfigError(f"{name}: [[{section}]] is a list of tables; give it in the TOML file")
        if section in PASSED_ON:  # librdkafka reads text itself
            passed = text if section in KAFKA_SECTIONS else _typed(text)
            merged[section][key.replace("_", ".")] = passed
        else:
            merged[section][key] = text if isinstance(merged[section].get(key), str) else _typed(text)


def _read_secrets(merged: dict[str, Any]) -> None:
    """Put the content of the files that `[kafka]` and the like name for secrets in their place."""
    for section in PASSED_ON:
        given = _table(merged, section)
        for key in SECRETS_IN_FILES:
            path = given.pop(f"{key}.file", None)
            if path is None:
                continue
            where = f'{section}."{key}.file"'
            if key in given:
                raise ConfigError(f'{where}: {section}."{key}" is given, too; give one of the two')
            try:
                given[key] = Path(str(path)).read_text("utf-8").rstrip("\r\n")
            except (OSError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
                raise ConfigError(f"{where} = {json.dumps(path)}: cannot be read ({why})") from None


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
    for section in PASSED_ON:
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
    _ = settings.alerts.case_period_ms, settings.alerts.case_length_max_ms
    _ = settings.promotion.age_max_ms, settings.sentinel.window_ms
    _ = settings.labels.maturity_ms, settings.labels.grace_ms, settings.labels.silence_ms
    _ = settings.labels.ranks, settings.model.trusted_key_bytes
    _check_segment(settings.quality.segment, settings.event)
    read_words(settings.alerts.language, settings.alerts.words)
    _check_topics(settings.topics)
    if not str(settings.kafka.get("bootstrap.servers", "")):
        raise ConfigError('kafka."bootstrap.servers": missing; give "host:port,host:port"')
    urls = str(settings.schema_registry.get("url", ""))
    if settings.event.format != "json" and not _URLS.fullmatch(urls):
        raise ConfigError(
            f'schema_registry.url: event.format = "{settings.event.format}" needs it; give "http://host:8081", or '
            "several with commas between them"
        )
    return settings


def _table(plain: dict[str, Any], key: str) -> dict[str, Any]:
    value = plain.get(key)
    return value if isinstance(value, dict) else {}


def _converted(plain: Any, kind: Any, where: str) -> Any:
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(_one_line(str(error), plain, where)) from None


def _check_segment(name: str, event: EventType) -> None:
    """Raise ConfigError where it does not name a field that has few values, which are known."""
    listed = [known for known, field in event.fields.items() if field.values]
    if name and name not in listed:
        raise ConfigError(
            f'quality.segment = "{name}": expected a field with a list of `values` '
            f"({', '.join(listed) or 'the event type has none'}), or empty"
        )


def _check_topics(topics: TopicSettings) -> None:
    names = [topics.transactions, topics.labels, topics.decisions, topics.alerts, topics.dlq, topics.features]
    if len(set(names)) < len(names):
        raise ConfigError(f"topics: names must differ, given are {', '.join(names)}")


_URLS = re.compile(r"https?://[^\s,]+(, *https?://[^\s,]+)*")
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
    secret = path in PASSED_ON or (path.startswith(PASSED_ON) and SECRET.search(path))
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
