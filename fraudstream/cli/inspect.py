"""Commands that look: config, models, topics."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from fraudstream.cli import promotion, signing
from fraudstream.cli.options import AsJson, Brokers, Config, out, print_json, settings_from
from fraudstream.errors import ConfigError, ModelError
from fraudstream.sections import Settings

if TYPE_CHECKING:
    from fraudstream.registry import Registry


def register(app: typer.Typer) -> None:
    """Add the commands."""
    promotion.register(_models)
    signing.register(_models)
    for name, group, text in (
        ("config", _config, "Check and show the settings."),
        ("models", _models, "List, show, verify, sign, promote, challenge and roll back models."),
        ("topics", _topics, "Create the Kafka topics."),
    ):
        app.add_typer(group, name=name, help=text, no_args_is_help=True)


_config = typer.Typer()
_models = typer.Typer()
_topics = typer.Typer()


@_config.command("check")
def config_check(config: Config = None, as_json: AsJson = False) -> None:
    """Check settings, feature declarations and outcomes; exit 2 with one line for the first thing wrong."""
    from fraudstream.bus.formats import new_reader
    from fraudstream.decode import Decoder
    from fraudstream.features import build_catalog, check_catalog
    from fraudstream.scoring import build_policy
    from fraudstream.words import read_words

    settings = settings_from(config)
    catalog = build_catalog(settings.features, settings.event)
    check_catalog(catalog, settings.state)
    policy = build_policy(settings)
    words = read_words(settings.alerts.language, settings.alerts.words)
    Decoder(settings.event, set())
    new_reader(settings)
    found = {
        "ok": True,
        "event": settings.event.name,
        "fields": len(settings.event.fields),
        "entities": list(settings.event.entities),
        "features": len(catalog),
        "rules": [f"{name}: {rule}" for name, rule in zip(policy.names, policy.texts, strict=True)],
        "said_in_english": list(words.fallbacks),
    }
    if as_json:
        print_json(found)
        return
    print(
        f"ok: event type {settings.event.name}, {found['fields']} fields, entities "
        f"{', '.join(settings.event.entities)}, {len(catalog)} features"
    )
    if words.fallbacks:
        print(f"alerts.language {words.language}: said in English: {', '.join(words.fallbacks)}")


@_config.command("show")
def config_show(config: Config = None, as_json: AsJson = False) -> None:
    """Show the settings in force, secrets hidden."""
    shown = settings_from(config).shown()
    if as_json:
        print_json(shown)
        return
    for section, value in shown.items():
        if isinstance(value, list):
            for entry in value:
                print(f"[[{section}]]")
                _print_keys(entry)
        else:
            print(f"[{section}]")
            _print_keys(value)


def _print_keys(table: dict[str, object]) -> None:
    import json

    for key, value in table.items():
        if isinstance(value, dict):
            for inner, entry in value.items():
                print(f"{key}.{inner} = {json.dumps(entry)}")
        else:
            print(f"{json.dumps(key) if '.' in key else key} = {json.dumps(value)}")
    print()


@_models.command("list")
def models_list(config: Config = None, as_json: AsJson = False) -> None:
    """List the versions of the model, oldest first, with their aliases."""
    registry = _registry(settings_from(config))
    aliases = registry.aliases()
    rows: list[dict[str, Any]] = []
    for version in registry.versions():
        row: dict[str, Any] = {
            "version": version,
            "aliases": [a for a, v in aliases.items() if v == version],
            "problem": None,
        }
        try:
            described, _ = registry.read(version)
            row |= {"created_at": described.created_at, "metrics": described.metrics}
        except ModelError as error:
            row["problem"] = str(error)
        rows.append(row)
    if as_json:
        print_json({"name": registry.name, "models": rows})
        return
    if not rows:
        print(f"no model {registry.name} in {registry.root}; make one with `fraudstream train`")
        return
    table = Table("version", "aliases", "created", "AUC", "average precision", "problem", box=None)
    for row in rows:
        metrics = row.get("metrics") or {}
        figures = [_figure(metrics.get(name)) for name in ("auc", "average_precision")]
        table.add_row(
            row["version"],
            ", ".join(row["aliases"]),
            row.get("created_at", ""),
            *figures,
            Text(row["problem"] or ""),  # not markup, whatever stands in it
        )
    out().print(table)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


@_models.command("show")
def models_show(
    version: Annotated[str, typer.Argument(help="A version or an alias.")] = "champion",
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show one model: its figures, thresholds, training windows and strongest features."""
    registry = _registry(settings_from(config))
    path = registry.path_of(version)
    described, _ = registry.read(version)
    if as_json:
        import msgspec

        print_json({"path": str(path), **msgspec.to_builtins(described)})
        return
    print((path / "report" / "report.md").read_text("utf-8"))


@_models.command("verify")
def models_verify(
    version: Annotated[
        str, typer.Argument(help="A version, an alias, or the path of a bundle.")
    ] = "champion",
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Check every file and the signature, then load the model in a child process and score its golden rows."""
    from fraudstream.registry import verify_bundle

    registry = _registry(settings_from(config))
    by_path = os.sep in version
    report = verify_bundle(Path(version), registry.trust) if by_path else registry.verify(version)
    if as_json:
        print_json({"ok": not report.problems, **asdict(report)})
    if report.problems:
        raise ModelError(report.problems[0])
    if not as_json:
        table = Table("file", "bytes", "passed", box=None)
        for file in report.files:
            table.add_row(Text(file.path), str(file.bytes), ", ".join(file.passed))
        out().print(table)
        signed = f"signature {report.signed.status} {report.signed.key}".rstrip()
        print(f"ok: {report.version}: {report.golden_rows} golden rows score the same; {signed}")


@_models.command("challenge")
def models_challenge(
    version: Annotated[str | None, typer.Argument(help="The version to score beside the champion.")] = None,
    none: Annotated[bool, typer.Option("--none", help="No challenger any more.")] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Make a verified version the challenger: running workers score with it too, and never act upon it."""
    if (version is None) != none:
        raise ConfigError("models challenge: give either a version or --none")
    registry = _registry(settings_from(config))
    if version is not None:
        promotion.verify(registry, version, "not a challenger")
    promotion.tell(registry, registry.challenge(version), as_json)


def _registry(settings: Settings) -> Registry:
    from fraudstream.registry import Registry

    return Registry.of(settings.model)


@_topics.command("create")
def topics_create(config: Config = None, brokers: Brokers = None, as_json: AsJson = False) -> None:
    """Create the topics of [topics]; those that exist are left as they are."""
    from fraudstream.bus.topics import create_topics

    settings = settings_from(config, brokers)
    result = create_topics(settings)
    if as_json:
        print_json(result)
    else:
        for name, what in result.items():
            print(f"{what:8} {name}")
