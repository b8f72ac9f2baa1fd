"""The command that watches the champion and rolls it back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from fraudstream.cli.options import AsJson, Config, instant, print_json, progress, settings_from
from fraudstream.errors import ConfigError, FraudstreamError
from fraudstream.sections import Settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sentinel")(sentinel)


def sentinel(
    decisions: Annotated[Path, typer.Option(help="Parquet or NDJSON files of decisions.")],
    labels: Annotated[Path, typer.Option(help="Parquet or NDJSON files of labels with known_at (Unix ms).")],
    every: Annotated[
        str | None, typer.Option(help='Look again after this long ("5m"), until stopped; default: once.')
    ] = None,
    as_of: Annotated[
        str | None, typer.Option(help="As if it were this instant (ISO 8601); default: now.")
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Roll back to the previous champion when alert rate or matured false-positive rate leave `[sentinel]`."""
    from fraudstream.clock import pause
    from fraudstream.event import parse_duration_ms

    settings = settings_from(config)
    if every is not None and as_of is not None:
        raise ConfigError("--every and --as-of: give one of them")
    as_of_ms = None if as_of is None else instant(as_of, "--as-of")
    every_ms = 0 if every is None else parse_duration_ms(every, "--every")
    if every is not None and every_ms < 1000:
        raise ConfigError(f'--every = "{every}": give a second or more')
    while True:
        try:
            _look(settings, decisions, labels, as_of_ms, as_json)
        except FraudstreamError as error:
            if every is None:
                raise
            print(f"fraudstream: {error}", file=sys.stderr, flush=True)
        if every is None:
            return
        pause(every_ms / 1000)


def _look(settings: Settings, decisions: Path, labels: Path, as_of_ms: int | None, as_json: bool) -> None:
    from fraudstream.training.sentinel import watch

    with progress() as advance:
        found = watch(settings, decisions, labels, as_of_ms, advance)
    if as_json:
        print_json(found)
        return
    counted = ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in found["counts"].items())
    done = f"rolled back: {'; '.join(found['reasons'])}" if found["rolled_back"] else "within its limits"
    print(f"champion {found['champion']}: {done} ({counted})", flush=True)
